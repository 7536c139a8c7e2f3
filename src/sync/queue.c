/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Queue: items to be worked on, in one of three orders, and when all of them are done.
 *
 * What passes is the affair of the passage (passage.c), which also counts what is *out*: got, and not done. An item is *unfinished*
 * from when it is put until it is done, so these are the stored ones and those that are out. Whoever *joins* waits until there is
 * none. The guard of some work is the queue itself, seen through its first member; it holds a reference.
 *
 * A priority is asked of each item once, when it is put, rather than compared by a function of the user's, which would have to be called
 * under the lock.
 *
 * Invariants
 *   1. Nobody joins while nothing is unfinished: whoever takes the number to 0 serves them, under the passage's lock.
 *   2. An item that moves from the store to who gets it is unfinished at every instant.
 */
#include "scope/scope-private.h"
#include "sync/passage.h"

struct _BelayQueue
{
  BelayPlain        work;     /* first: what a BelayWork points to */
  atomic_int        refs;
  BelayPriorityFunc get_priority;
  gpointer          data;
  GDestroyNotify    destroy;
  BelayPassage      passage;
  BelayLine         joiners;  /* the passage's lock */
};

G_DEFINE_BOXED_TYPE (BelayQueue, belay_queue, belay_queue_ref, belay_queue_unref)

static BelayQueue *
queue_of (gpointer passage)
{
  return (BelayQueue *) ((char *) passage - G_STRUCT_OFFSET (BelayQueue, passage));
}

static gpointer
passage_ref (gpointer passage)
{
  belay_queue_ref (queue_of (passage));
  return passage;
}

static void
passage_unref (gpointer passage)
{
  belay_queue_unref (queue_of (passage));
}

static void passage_done (BelayPassage *passage);

static const BelayPassageClass passage_class = {
  "queue",
  { "room in a queue", NULL },
  { "an item of a queue", NULL },
  { passage_ref, passage_unref, belay_passage_give_answer, belay_passage_give_left, NULL },
  { passage_ref, passage_unref, belay_passage_take_answer, NULL, belay_passage_take_back },
  passage_done
};

static const BelayLineClass joiners_class = { "all work of a queue to be done", NULL };

static void work_release (gpointer work);
static const BelayPlainClass work_class = { BELAY_TAG_INSTANT, "BelayWork", NULL, NULL, work_release, NULL };

static BelayQueue *
queue_new (BelayStoreOrder order, guint capacity, GDestroyNotify free_item)
{
  BelayQueue *self = g_new0 (BelayQueue, 1);

  self->work.klass = &work_class;
  atomic_init (&self->refs, 1);
  belay_passage_init (&self->passage, &passage_class, order, capacity, free_item);
  belay_line_init (&self->joiners, &joiners_class);
  return self;
}

BelayQueue *
belay_queue_new (guint capacity, GDestroyNotify free_item)
{
  return queue_new (BELAY_STORE_FIFO, capacity, free_item);
}

BelayQueue *
belay_queue_new_lifo (guint capacity, GDestroyNotify free_item)
{
  return queue_new (BELAY_STORE_LIFO, capacity, free_item);
}

BelayQueue *
belay_queue_new_priority (guint capacity, BelayPriorityFunc get_priority, gpointer data, GDestroyNotify destroy,
                          GDestroyNotify free_item)
{
  BelayQueue *self;

  g_return_val_if_fail (get_priority != NULL, NULL);

  self = queue_new (BELAY_STORE_PRIORITY, capacity, free_item);
  self->get_priority = get_priority;
  self->data = data;
  self->destroy = destroy;
  return self;
}

BelayQueue *
belay_queue_ref (BelayQueue *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_queue_unref (BelayQueue *self)
{
  g_return_if_fail (self != NULL);

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1 ||
      !belay_passage_end (&self->passage, self, &self->joiners))
    return;
  if (self->destroy != NULL)
    self->destroy (self->data);
  g_free (self);
}

/* --- putting --- */

static inline gint64
priority_of (BelayQueue *self, gconstpointer item)
{
  return self->get_priority != NULL && item != NULL ? self->get_priority (item, self->data) : 0;
}

gboolean
belay_queue_put_at (BelayQueue *self, gpointer item, GError **error, const char *site)
{
  g_return_val_if_fail (self != NULL && item != NULL, FALSE);
  return belay_passage_give (&self->passage, item, priority_of (self, *(gpointer *) item), "belay_queue_put", site, error);
}

gboolean
(belay_queue_put) (BelayQueue *self, gpointer item, GError **error)
{
  return belay_queue_put_at (self, item, error, NULL);
}

gboolean
belay_queue_try_put (BelayQueue *self, gpointer item, GError **error)
{
  g_return_val_if_fail (self != NULL && item != NULL, FALSE);
  return belay_passage_try_give (&self->passage, item, priority_of (self, *(gpointer *) item), "belay_queue_try_put", error);
}

BelayFuture *
belay_queue_put_async (BelayQueue *self, gpointer item)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_passage_give_async (&self->passage, item, priority_of (self, item), "belay_queue_put_async");
}

/* --- getting --- */

BelayWork *
belay_queue_next_at (BelayQueue *self, gpointer ret_item, GError **error, const char *site)
{
  g_return_val_if_fail (self != NULL && ret_item != NULL, NULL);

  if (G_UNLIKELY (!belay_passage_take (&self->passage, ret_item, "belay_queue_next", site, error)))
    return NULL;
  belay_queue_ref (self);
  belay_leaks_hold (self, site);
  return (BelayWork *) self;
}

BelayWork *
(belay_queue_next) (BelayQueue *self, gpointer ret_item, GError **error)
{
  return belay_queue_next_at (self, ret_item, error, NULL);
}

gpointer
belay_queue_get_at (BelayQueue *self, GError **error, const char *site)
{
  gpointer item;

  g_return_val_if_fail (self != NULL, NULL);
  belay_passage_take_or_fail (&self->passage, &item, "belay_queue_get", site, error);
  return item;
}

gpointer
(belay_queue_get) (BelayQueue *self, GError **error)
{
  return belay_queue_get_at (self, error, NULL);
}

gpointer
belay_queue_try_get (BelayQueue *self, GError **error)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_passage_try_take (&self->passage, error);
}

BelayFuture *
belay_queue_get_async (BelayQueue *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_passage_take_async (&self->passage);
}

/* --- being done --- */

/* Under the lock. */
static inline gboolean
is_unfinished (BelayQueue *self)
{
  return self->passage.store.n > 0 || self->passage.n_out > 0;
}

/* There are less by @n_done that are out. FALSE: there were none. */
static gboolean
count_down (BelayQueue *self, gint64 n_done)
{
  BelayTurn *served = NULL;
  gboolean is_out;

  belay_spin_lock (&self->passage.lock);
  is_out = self->passage.n_out >= n_done;
  if (is_out)
    self->passage.n_out -= n_done;
  if (!is_unfinished (self)) /* invariant 1 */
    belay_line_serve_all (&self->joiners, BELAY_TURN_SERVED, &served);
  belay_spin_unlock (&self->passage.lock);
  belay_turns_wake (served);
  return is_out;
}

static void
passage_done (BelayPassage *passage)
{
  count_down (queue_of (passage), 0);
}

void
belay_queue_task_done (BelayQueue *self)
{
  g_return_if_fail (self != NULL);
  if (!count_down (self, 1))
    g_critical ("belay_queue_task_done: said more often than items were got");
}

static void
work_release (gpointer work)
{
  BelayQueue *self = work;

  if (G_UNLIKELY (!count_down (self, 1))) /* nor is there a reference of its */
    {
      g_critical ("a BelayWork was released before: the queue has no item whose work is not done");
      return;
    }
  belay_queue_unref (self);
}

/* FALSE: it got in line. */
static gboolean
is_done_or_append (BelayQueue *self, BelayTurn *turn)
{
  gboolean is_done;

  belay_spin_lock (&self->passage.lock);
  is_done = !is_unfinished (self);
  if (!is_done)
    belay_line_append (&self->joiners, turn);
  belay_spin_unlock (&self->passage.lock);
  return is_done;
}

gboolean
belay_queue_join_at (BelayQueue *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;

  g_return_val_if_fail (self != NULL, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_queue_join", error);
  belay_turn_init (&turn, fiber);
  while (belay_limit_check (fiber, site, error))
    {
      belay_turn_prepare (&turn, &self->joiners, site);
      if (is_done_or_append (self, &turn))
        return TRUE;
      if (belay_turn_wait (&turn, &self->passage.lock))
        return turn.outcome == BELAY_TURN_SERVED || belay_passage_fail (&passage_class, turn.outcome, error);
    }
  return FALSE;
}

gboolean
(belay_queue_join) (BelayQueue *self, GError **error)
{
  return belay_queue_join_at (self, error, NULL);
}

static void
join_answer (BelayAsyncTurn *turn)
{
  GError *error = NULL;

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    {
      belay_promise_resolve (turn->promise);
      return;
    }
  belay_passage_fail (&passage_class, turn->turn.outcome, &error);
  belay_promise_reject (turn->promise, error);
}

static const BelayAsyncClass join_class = { passage_ref, passage_unref, join_answer, NULL, NULL };

BelayFuture *
belay_queue_join_async (BelayQueue *self)
{
  BelayFuture *future;
  BelayTurn *turn;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  turn = belay_async_turn_new (&self->passage, &self->passage.lock, &join_class, &future);
  if (is_done_or_append (self, turn))
    belay_async_turn_answer (turn, BELAY_TURN_SERVED);
  return future;
}

/* --- its end --- */

void
belay_queue_close (BelayQueue *self)
{
  g_return_if_fail (self != NULL);
  belay_passage_close (&self->passage, BELAY_PASSAGE_CLOSED);
}

void
belay_queue_abort (BelayQueue *self)
{
  g_return_if_fail (self != NULL);
  belay_passage_close (&self->passage, BELAY_PASSAGE_ABORTED);
}

/* --- what it is like at this moment --- */

guint
belay_queue_get_length (BelayQueue *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);
  belay_spin_lock (&self->passage.lock);
  n = self->passage.store.n;
  belay_spin_unlock (&self->passage.lock);
  return n;
}

guint
belay_queue_get_unfinished (BelayQueue *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);
  belay_spin_lock (&self->passage.lock);
  n = self->passage.store.n + (guint) self->passage.n_out;
  belay_spin_unlock (&self->passage.lock);
  return n;
}
