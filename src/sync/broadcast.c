/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Broadcast: everything that is sent, to everybody who subscribed.
 *
 * Words. The items are counted from 0 on; an item's number is its *place*. The last `capacity` of them are the *window*, a ring of cells
 * (cell.h). A subscription has the place of its *next* item. If that has left the window, the subscription has *missed* what is between.
 * An item that a dropped future had *comes back* to its subscription: of those that did the first in place is the next to be taken,
 * before anything in the window. A subscription is *awaited* while somebody stands in its line.
 *
 * Sending puts the item into the window, over the oldest, and goes through the subscriptions that are awaited: the first in the line of
 * each gets it. A cell is *pending* for each subscription that has not come to it; when there is none left it leaves the window, so
 * that nothing is kept that nobody will get.
 *
 * Who is interrupted leaves its line, and nobody is told; so a subscription may be among the awaited without being so, until the next item.
 *
 * Invariants
 *   1. A subscription that somebody waits for has nothing to take: nothing came back, and its next is the place of the item to come.
 *   2. While `next` of a subscription is in the window, its cell is there, and is pending for it.
 *   3. Every subscription in whose line somebody stands is among the awaited; none that was left is.
 *   4. No function of the user's is called under `lock`, and no memory got.
 */
#include "scope/scope-private.h"
#include "run/line.h"
#include "sync/cell.h"

struct _BelayBroadcast
{
  atomic_int     refs;
  guint          capacity;
  GBoxedCopyFunc copy_item;
  GDestroyNotify free_item;
  atomic_flag    lock;    /* all below */
  gboolean       closed;
  guint          n_subscriptions;
  guint64        end;     /* the place of the item to come */
  GQueue         awaited; /* subscriptions */
  BelayCell    **window;
};

/* All but `refs`: the broadcast's lock. */
struct _BelaySubscription
{
  BelayPlain      base;
  atomic_int      refs;   /* the guard's, and of each who waits */
  BelayBroadcast *owner;
  gboolean        left;
  guint64         next;
  guint64         n_missed;
  BelayCell      *again;  /* what came back, by place */
  BelayLine       line;   /* of each turn, when it is served: in `item` its cell */
  GList           link;   /* in `awaited` */
  gboolean        is_awaited;
};

static const BelayLineClass line_class = { "the next item of a broadcast", NULL };

static void subscription_leave (gpointer subscription);
static const BelayPlainClass subscription_class = { BELAY_TAG_INSTANT, "BelaySubscription", NULL, NULL, subscription_leave, NULL };

G_DEFINE_BOXED_TYPE (BelayBroadcast, belay_broadcast, belay_broadcast_ref, belay_broadcast_unref)

BelayBroadcast *
belay_broadcast_new (guint capacity, GBoxedCopyFunc copy_item, GDestroyNotify free_item)
{
  BelayBroadcast *self;

  g_return_val_if_fail (capacity > 0 && (copy_item != NULL || free_item == NULL), NULL);

  self = g_new0 (BelayBroadcast, 1);
  atomic_init (&self->refs, 1);
  self->capacity = capacity;
  self->copy_item = copy_item;
  self->free_item = free_item;
  atomic_flag_clear (&self->lock);
  g_queue_init (&self->awaited);
  self->window = g_new0 (BelayCell *, capacity);
  return self;
}

BelayBroadcast *
belay_broadcast_ref (BelayBroadcast *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

/* Subscriptions hold references, and so do those who wait: at the end there are none. */
void
belay_broadcast_unref (BelayBroadcast *self)
{
  g_return_if_fail (self != NULL);

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  for (guint i = 0; i < self->capacity; i++)
    belay_cell_unref (self->window[i], self->free_item);
  g_free (self->window);
  g_free (self);
}

static void
subscription_unref (gpointer data)
{
  BelaySubscription *self = data;

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  belay_broadcast_unref (self->owner);
  g_free (self);
}

static gpointer
subscription_ref (gpointer data)
{
  BelaySubscription *self = data;

  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

/* --- under the lock --- */

static inline BelayCell **
cell_at (BelayBroadcast *self, guint64 place)
{
  return &self->window[place % self->capacity];
}

static inline guint64
first_place (BelayBroadcast *self)
{
  return self->end > self->capacity ? self->end - self->capacity : 0;
}

/* What has left the window is missed. */
static void
catch_up (BelaySubscription *self)
{
  guint64 first = first_place (self->owner);

  if (self->next >= first)
    return;
  self->n_missed += first - self->next;
  self->next = first;
}

/* Its next one, which is there. Returns a reference. */
static BelayCell *
pass_next (BelaySubscription *self)
{
  BelayCell **place = cell_at (self->owner, self->next++);
  BelayCell *cell = *place;

  if (--cell->pending > 0)
    return belay_cell_ref (cell);
  *place = NULL;
  return cell;
}

/* Nobody stands in its line. */
static void
forget (BelaySubscription *self)
{
  if (!self->is_awaited)
    return;
  self->is_awaited = FALSE;
  g_queue_unlink (&self->owner->awaited, &self->link);
}

static void
get_in_line (BelaySubscription *self, BelayTurn *turn)
{
  belay_line_append (&self->line, turn);
  if (self->is_awaited)
    return;
  self->is_awaited = TRUE;
  g_queue_push_tail_link (&self->owner->awaited, &self->link);
}

/* What is its next: of what came back, or in the window. NULL: there is none. Returns a reference. */
static BelayCell *
take_cell (BelaySubscription *self)
{
  BelayCell *cell = self->again;

  if (G_UNLIKELY (cell != NULL))
    {
      self->again = cell->next;
      return cell;
    }
  catch_up (self);
  return self->next < self->owner->end ? pass_next (self) : NULL;
}

static int
take_locked (BelaySubscription *self, BelayCell **ret_cell, BelayTurn *turn)
{
  if (self->left)
    return BELAY_TURN_CLOSED;
  *ret_cell = take_cell (self);
  if (*ret_cell != NULL)
    return BELAY_TURN_SERVED;
  if (self->owner->closed)
    return BELAY_TURN_CLOSED;
  if (turn != NULL)
    get_in_line (self, turn);
  return BELAY_TURN_WAITS;
}

/* --- sending --- */

gboolean
belay_broadcast_send (BelayBroadcast *self, gpointer variable, GError **error)
{
  gpointer *item = variable;
  BelayTurn *served = NULL;
  BelayCell *cell, *old = NULL;
  GList *link, *next;
  gboolean is_sent;

  g_return_val_if_fail (self != NULL && item != NULL, FALSE);

  if (G_UNLIKELY (*item == NULL))
    {
      g_critical ("belay_broadcast_send: there is no item");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "belay_broadcast_send: there is no item");
      return FALSE;
    }
  cell = belay_cell_new (*item);
  belay_spin_lock (&self->lock);
  is_sent = !self->closed;
  if (is_sent && self->n_subscriptions > 0)
    {
      guint64 place = self->end++;

      old = *cell_at (self, place);
      *cell_at (self, place) = belay_cell_ref (cell);
      cell->pending = self->n_subscriptions;
      cell->place = place;
      for (link = self->awaited.head; link != NULL; link = next)
        {
          BelaySubscription *subscription = link->data;
          BelayTurn *turn = subscription->line.first;

          next = link->next;
          if (turn != NULL)
            {
              belay_line_serve (turn, BELAY_TURN_SERVED, &served);
              turn->item = pass_next (subscription);
            }
          if (belay_line_is_empty (&subscription->line))
            forget (subscription);
        }
    }
  belay_spin_unlock (&self->lock);

  if (is_sent)
    *item = NULL;
  belay_cell_unref (cell, is_sent ? self->free_item : NULL);
  belay_cell_unref (old, self->free_item);
  belay_turns_wake (served);
  if (!is_sent)
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the broadcast is closed");
  return is_sent;
}

void
belay_broadcast_close (BelayBroadcast *self)
{
  BelayTurn *served = NULL;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->lock);
  self->closed = TRUE;
  for (GList *link = self->awaited.head; link != NULL; link = link->next)
    belay_line_serve_all (&((BelaySubscription *) link->data)->line, BELAY_TURN_CLOSED, &served);
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
}

guint
belay_broadcast_get_n_subscribers (BelayBroadcast *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);
  belay_spin_lock (&self->lock);
  n = self->n_subscriptions;
  belay_spin_unlock (&self->lock);
  return n;
}

/* --- subscriptions --- */

BelaySubscription *
belay_broadcast_subscribe_at (BelayBroadcast *owner, const char *site)
{
  BelaySubscription *self;

  g_return_val_if_fail (owner != NULL, NULL);

  self = g_new0 (BelaySubscription, 1);
  self->base.klass = &subscription_class;
  atomic_init (&self->refs, 1);
  self->owner = belay_broadcast_ref (owner);
  belay_line_init (&self->line, &line_class);
  self->link.data = self;
  belay_spin_lock (&owner->lock);
  owner->n_subscriptions++;
  self->next = owner->end;
  belay_spin_unlock (&owner->lock);
  belay_leaks_hold (self, site);
  return self;
}

BelaySubscription *
(belay_broadcast_subscribe) (BelayBroadcast *owner)
{
  return belay_broadcast_subscribe_at (owner, NULL);
}

/* One cell at a time, since what nobody else needs is freed under no lock. */
static gboolean
pass_one (BelaySubscription *self)
{
  BelayBroadcast *owner = self->owner;
  BelayCell *cell;

  belay_spin_lock (&owner->lock);
  cell = take_cell (self);
  if (cell == NULL)
    owner->n_subscriptions--;
  belay_spin_unlock (&owner->lock);
  belay_cell_unref (cell, owner->free_item);
  return cell != NULL;
}

static void
subscription_leave (gpointer subscription)
{
  BelaySubscription *self = subscription;
  BelayTurn *served = NULL;

  belay_spin_lock (&self->owner->lock);
  self->left = TRUE;
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &served);
  forget (self);
  belay_spin_unlock (&self->owner->lock);
  belay_turns_wake (served);
  while (pass_one (self))
    ;
  subscription_unref (self);
}

/* Gets in line where there is a @turn. */
static int
take_now (BelaySubscription *self, BelayCell **ret_cell, BelayTurn *turn)
{
  int outcome;

  belay_spin_lock (&self->owner->lock);
  outcome = take_locked (self, ret_cell, turn);
  belay_spin_unlock (&self->owner->lock);
  return outcome;
}

static G_GNUC_NO_INLINE int
take_slow (BelaySubscription *self, BelayFiber *fiber, BelayCell **ret_cell, const char *site, GError **error)
{
  BelayTurn turn;
  int outcome;

  subscription_ref (self);
  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      outcome = take_now (self, ret_cell, &turn);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->owner->lock))
        {
          *ret_cell = turn.item;
          outcome = turn.outcome;
        }
    }
  while (outcome == BELAY_TURN_WAITS && belay_limit_check (fiber, site, error));
  subscription_unref (self);
  return outcome;
}

gboolean
belay_subscription_next_at (BelaySubscription *self, gpointer ret_item, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  GBoxedCopyFunc copy_item;
  GDestroyNotify free_item;
  BelayCell *cell;
  int outcome;

  g_return_val_if_fail (self != NULL && ret_item != NULL, FALSE);

  *(gpointer *) ret_item = NULL;
  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_subscription_next", error);
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return FALSE;
  copy_item = self->owner->copy_item;
  free_item = self->owner->free_item;
  outcome = take_now (self, &cell, NULL);
  if (outcome == BELAY_TURN_WAITS)
    outcome = take_slow (self, fiber, &cell, site, error);
  if (outcome != BELAY_TURN_SERVED)
    return FALSE;
  *(gpointer *) ret_item = belay_cell_take (cell, copy_item, free_item); /* the subscription may be gone, if another left it */
  return TRUE;
}

gboolean
(belay_subscription_next) (BelaySubscription *self, gpointer ret_item, GError **error)
{
  return belay_subscription_next_at (self, ret_item, error, NULL);
}

static void
fail (int outcome, GError **error)
{
  if (outcome == BELAY_TURN_WAITS)
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, "the broadcast has nothing new at this moment");
  else
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the broadcast is closed, or its subscription was left");
}

gpointer
belay_subscription_try_next (BelaySubscription *self, GError **error)
{
  BelayCell *cell;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  outcome = take_now (self, &cell, NULL);
  if (outcome == BELAY_TURN_SERVED)
    return belay_cell_take (cell, self->owner->copy_item, self->owner->free_item);
  fail (outcome, error);
  return NULL;
}

guint64
belay_subscription_get_missed (BelaySubscription *self)
{
  guint64 n;

  g_return_val_if_fail (self != NULL, 0);
  belay_spin_lock (&self->owner->lock);
  catch_up (self);
  n = self->n_missed;
  belay_spin_unlock (&self->owner->lock);
  return n;
}

/* --- as futures --- */

static void
async_answer (BelayAsyncTurn *turn)
{
  BelaySubscription *self = turn->owner;
  GError *error = NULL;

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    {
      turn->turn.need = (gint64) ((BelayCell *) turn->turn.item)->place;
      turn->turn.item = belay_cell_take (turn->turn.item, self->owner->copy_item, self->owner->free_item);
      belay_async_turn_lend (turn);
      return;
    }
  fail (turn->turn.outcome, &error);
  belay_promise_reject (turn->promise, error);
}

/* It is for the first that waits, or the next again, if nothing before it came back, too. */
static void
async_back (BelayAsyncTurn *turn, gpointer item)
{
  BelaySubscription *self = turn->owner;
  BelayCell *cell = belay_cell_new (item), **behind;
  BelayTurn *served = NULL, *first;

  cell->place = (guint64) turn->turn.need;
  belay_spin_lock (&self->owner->lock);
  first = self->line.first;
  if (first != NULL)
    {
      belay_line_serve (first, BELAY_TURN_SERVED, &served);
      first->item = cell;
      cell = NULL;
    }
  else if (!self->left)
    {
      for (behind = &self->again; *behind != NULL && (*behind)->place < cell->place; behind = &(*behind)->next)
        ;
      cell->next = *behind;
      *behind = cell;
      cell = NULL;
    }
  belay_spin_unlock (&self->owner->lock);
  belay_cell_unref (cell, self->owner->free_item);
  belay_turns_wake (served);
}

static const BelayAsyncClass async_class = { subscription_ref, subscription_unref, async_answer, NULL, async_back };

BelayFuture *
belay_subscription_next_async (BelaySubscription *self)
{
  BelayFuture *future;
  BelayCell *cell;
  BelayTurn *turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  turn = belay_async_turn_new (self, &self->owner->lock, &async_class, &future);
  outcome = take_now (self, &cell, turn);
  if (outcome == BELAY_TURN_SERVED)
    turn->item = cell;
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}
