/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared: one resource, opened by the first who needs it, and closed when nobody has for a while.
 *
 * States of the resource: EMPTY, there is none; OPENING; OPEN; CLOSING. The opening and the closing are fibers of the home, of
 * their own, one at a time. Their ends (on_opened, on_closed) are where the state goes on. Who comes while it is not OPEN
 * stands in line, and comes to be served when it is: a use while it closes waits for a new one.
 *
 * A *use* is the shared itself, seen through its first member, so it costs no memory. It holds a reference.
 *
 * The opening belongs to the shared. When the last who waits for it has left it is GIVEN UP, that is cancelled; who comes
 * after that stands in line, and if it ends as cancelled gets a new one. What an opening gave that nobody waits for is closed.
 *
 * Invariants
 *   1. `state` is OPENING or CLOSING exactly while `task` is set, or about to be by who made it so.
 *   2. Nobody stands in `line` but while it is OPENING or CLOSING, and nobody once it is `ended`.
 *   3. `users` > 0 only while it is OPEN; `resource` does not change then: a use reads it without the lock.
 *   4. OPEN with no user: the resource has been idle since `idle_since`; it is not `ended`; and the timer is queued or armed for
 *      the end of that, or earlier, if it has one.
 *   5. `refs` are the program's; all of them together, a task, and the timer have one of `holds` each, which keep the memory.
 *   6. Everything is under `lock` but the two counts, what never changes, and the timer itself, which is the home thread's.
 */
#include "run/line.h"
#include "scope/scope-private.h"

enum { EMPTY, OPENING, OPEN, CLOSING };
enum { FAILED = BELAY_TURN_OWN };

/* What is to be done when the lock has been left. */
typedef struct
{
  BelayTurn  *served;
  BelayTask  *task;     /* to be started */
  BelayTask  *cancel;   /* a reference: to be cancelled */
  gboolean    queue;    /* the timer's item */
} After;

struct _BelayShared
{
  BelayPlain     use;       /* first: what a BelayUse points to */
  atomic_int     refs, holds;
  BelayContext  *home;
  const char    *site;
  BelayValueFunc open;
  gpointer       data;
  GDestroyNotify destroy;

  atomic_flag    lock;
  guint8         state;
  gboolean       ended;     /* closed, or nobody refers to it */
  gboolean       given_up;  /* the opening */
  gpointer       resource;
  guint          users;
  guint64        n_opens;
  BelayLine      line, closers;
  BelayTask     *task;      /* an interest in its future */
  BelayWaiter    waiter;    /* on its end */
  BelayFuture   *failure;   /* of the last close, once it is `ended` */

  gint64         idle;      /* µs; G_MAXINT64: for ever */
  gint64         idle_since;
  gboolean       queued, armed;
  gint64         due;       /* what it is armed for */
  BelayItem      item;
  BelayTimer     timer;
};

static void use_release (gpointer use);
static void describe (BelayLine *line, GString *text);
static const BelayPlainClass use_class = { BELAY_TAG_INSTANT, "BelayUse", NULL, NULL, use_release, NULL };
static const BelayLineClass line_class = { "a shared resource", describe };
static const BelayLineClass closers_class = { "the end of a shared resource's users", NULL };

G_DEFINE_BOXED_TYPE (BelayShared, belay_shared, belay_shared_ref, belay_shared_unref)

#define SHARED_OF(p, member) ((BelayShared *) ((char *) (p) - G_STRUCT_OFFSET (BelayShared, member)))

static void
describe (BelayLine *line, GString *text)
{
  BelayShared *self = SHARED_OF (line, line);
  guint8 state;

  belay_spin_lock (&self->lock);
  state = self->state;
  belay_spin_unlock (&self->lock);
  g_string_append_printf (text, " from %s, which is being %s", self->site != NULL ? self->site : "?",
                          state == CLOSING ? "closed" : "opened");
}

static void
drop_hold (BelayShared *self)
{
  if (atomic_fetch_sub_explicit (&self->holds, 1, memory_order_acq_rel) != 1)
    return;
  if (self->destroy != NULL)
    self->destroy (self->data);
  if (self->failure != NULL)
    belay_future_unref (self->failure);
  belay_context_unref (self->home);
  g_free (self);
}

static void
add_hold (BelayShared *self)
{
  atomic_fetch_add_explicit (&self->holds, 1, memory_order_relaxed);
}

/* --- the timer; under the lock --- */

/* Sees to it that invariant 4 holds, and that no timer is armed for nothing where the resource is not open. */
static void
look_at_idle (BelayShared *self, After *after)
{
  gboolean idle = self->state == OPEN && self->users == 0 && self->idle != G_MAXINT64;

  if (self->queued || (idle ? self->armed && self->due <= self->idle_since + self->idle
                            : !self->armed || self->state == OPEN))
    return;
  if (!self->armed)
    add_hold (self);
  self->queued = after->queue = TRUE;
}

/* --- what the state goes on to; under the lock --- */

static gboolean open_now (gpointer data, GError **error);
static gboolean close_now (gpointer data, GError **error);
static void on_opened (BelayWaiter *waiter);
static void on_closed (BelayWaiter *waiter);

static void
begin (BelayShared *self, guint8 state, After *after)
{
  add_hold (self);
  self->state = state;
  self->given_up = FALSE;
  self->task = after->task = belay_task_new (self->home, NULL, state == OPENING ? open_now : close_now, NULL, self, NULL, NULL,
                                             self->site);
  self->waiter.notify = state == OPENING ? on_opened : on_closed;
}

static void
give_up (BelayShared *self, After *after)
{
  if (self->state != OPENING || self->given_up)
    return;
  self->given_up = TRUE;
  belay_future_ref (&self->task->fiber.future);
  after->cancel = self->task;
}

/* There is none any more: for who waits for that, and for who wants a new one. */
static void
become_empty (BelayShared *self, After *after)
{
  self->state = EMPTY;
  if (!belay_line_is_empty (&self->line))
    begin (self, OPENING, after);
  while (!belay_line_is_empty (&self->closers))
    {
      if (self->failure != NULL)
        self->closers.first->item = belay_future_ref (self->failure);
      belay_line_serve (self->closers.first, self->failure != NULL ? FAILED : BELAY_TURN_SERVED, &after->served);
    }
}

/* It is wanted no more. */
static void
end (BelayShared *self, After *after)
{
  self->ended = TRUE;
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &after->served);
  give_up (self, after);
  if (self->state == OPEN && self->users == 0)
    begin (self, CLOSING, after);
  look_at_idle (self, after);
}

static void
unlock_and_do (BelayShared *self, After *after)
{
  belay_spin_unlock (&self->lock);
  if (after->task != NULL)
    {
      /* Nobody else starts it, and it does not end before: it may be cancelled meanwhile. */
      belay_future_add_waiter (&after->task->fiber.future, &self->waiter);
      belay_task_start_detached (after->task);
    }
  if (after->cancel != NULL)
    {
      belay_fiber_cancel (&after->cancel->fiber, "nobody waits for the shared resource any more");
      belay_future_unref (&after->cancel->fiber.future);
    }
  if (after->queue)
    belay_context_push (self->home, &self->item);
  belay_turns_wake (after->served);
}

/* On the home thread, or as an orphan: as the item that was queued, or since its time has come. */
static void
see_to_idle (BelayShared *self, gboolean was_queued)
{
  After after = { NULL };
  gint64 due = 0;
  gboolean over;

  belay_spin_lock (&self->lock);
  if (was_queued)
    self->queued = FALSE;
  if (self->state == OPEN && self->users == 0 && self->idle != G_MAXINT64)
    due = self->idle_since + self->idle;
  if (due != 0 && (due <= belay_now () || belay_context_is_gone (self->home)))
    {
      begin (self, CLOSING, &after);
      due = 0;
    }
  self->armed = due != 0;
  self->due = due;
  if (!self->armed)
    belay_timer_disarm (self->home, &self->timer);
  over = !self->armed && !self->queued;
  unlock_and_do (self, &after);
  if (due != 0)
    belay_timer_arm (self->home, &self->timer, due);
  if (over)
    drop_hold (self);
}

static void
on_item (BelayItem *item)
{
  see_to_idle (SHARED_OF (item, item), TRUE);
}

static void
on_timer (BelayTimer *timer)
{
  see_to_idle (SHARED_OF (timer, timer), FALSE);
}

/* --- opening and closing: fibers at home --- */

static gboolean
open_now (gpointer data, GError **error)
{
  BelayShared *self = data;
  gpointer resource = self->open (self->data, error);

  if (G_UNLIKELY (resource != NULL && !belay_resource_is_valid (resource)))
    resource = belay_resource_refuse (resource, error);
  belay_spin_lock (&self->lock);
  self->resource = resource;
  belay_spin_unlock (&self->lock);
  return resource != NULL;
}

/* The end of the task: its future, an interest in which is the caller's then. */
static BelayFuture *
take_task (BelayShared *self)
{
  BelayFuture *future = &self->task->fiber.future;

  self->task = NULL;
  return future;
}

/* What went wrong, and nobody waits for. */
static void
sink (BelayShared *self, BelayFuture *future, const char *what)
{
  const GError *error = belay_future_get_error (future);

  if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    belay_sink_error (error, what, self->site);
  belay_errors_sink (belay_future_get_attached (future), what);
}

static void
on_opened (BelayWaiter *waiter)
{
  BelayShared *self = SHARED_OF (waiter, waiter);
  gpointer opened = NULL;
  After after = { NULL };
  BelayFuture *future;
  gboolean ok, again, told = FALSE;
  const GError *error = NULL;

  belay_spin_lock (&self->lock);
  future = take_task (self);
  ok = belay_future_status (future) == BELAY_STATE_RESOLVED;
  if (!ok)
    error = belay_future_get_error (future);
  again = self->given_up && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  if (ok && !belay_line_is_empty (&self->line))
    {
      self->state = OPEN;
      opened = self->resource;
      self->n_opens++;
      self->users = self->line.n;
      atomic_fetch_add_explicit (&self->refs, (int) self->line.n, memory_order_relaxed);
      belay_line_serve_all (&self->line, BELAY_TURN_SERVED, &after.served);
    }
  else
    {
      if (!ok && !again) /* told to all who waited for it, and to nobody else */
        while (!belay_line_is_empty (&self->line))
          {
            self->line.first->item = belay_future_ref (future);
            told |= belay_line_serve (self->line.first, FAILED, &after.served);
          }
      if (self->resource != NULL)
        begin (self, CLOSING, &after);
      else
        become_empty (self, &after);
    }
  unlock_and_do (self, &after);
  if (opened != NULL) /* the home thread is this one: it is not closed meanwhile */
    belay_leaks_hold (opened, self->site);
  if (error != NULL && !told)
    sink (self, future, "opening a shared resource");
  belay_future_unref (future);
  drop_hold (self);
}

static gboolean
close_now (gpointer data, GError **error)
{
  BelayShared *self = data;

  return belay_resource_close (g_steal_pointer (&self->resource), BELAY_REASON_OK, BELAY_RELEASE_TIMEOUT, error);
}

static void
on_closed (BelayWaiter *waiter)
{
  BelayShared *self = SHARED_OF (waiter, waiter);
  gpointer left = g_steal_pointer (&self->resource);
  After after = { NULL };
  BelayFuture *future;
  gboolean failed, told;

  if (left != NULL) /* the home is gone: it was never called */
    belay_resource_abandon (left);
  belay_spin_lock (&self->lock);
  future = take_task (self);
  failed = belay_future_status (future) == BELAY_STATE_REJECTED;
  told = failed && !belay_line_is_empty (&self->closers);
  if (told)
    self->failure = belay_future_ref (future);
  become_empty (self, &after);
  unlock_and_do (self, &after);
  if (failed && !told)
    sink (self, future, "closing a shared resource");
  belay_future_unref (future);
  drop_hold (self);
}

/* --- life --- */

BelayShared *
belay_shared_new_at (BelayValueFunc open, gpointer data, GDestroyNotify destroy, const char *site)
{
  BelayShared *self;

  g_return_val_if_fail (open != NULL, NULL);

  self = g_new0 (BelayShared, 1);
  self->use.klass = &use_class;
  atomic_init (&self->refs, 1);
  atomic_init (&self->holds, 1);
  self->home = belay_context_ref (belay_context_get ());
  self->site = site;
  self->open = open;
  self->data = data;
  self->destroy = destroy;
  atomic_flag_clear (&self->lock);
  belay_line_init (&self->line, &line_class);
  belay_line_init (&self->closers, &closers_class);
  self->item.run = on_item;
  self->timer.fire = on_timer;
  return self;
}

BelayShared *
(belay_shared_new) (BelayValueFunc open, gpointer data, GDestroyNotify destroy)
{
  return belay_shared_new_at (open, data, destroy, NULL);
}

BelayShared *
belay_shared_ref (BelayShared *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_shared_unref (BelayShared *self)
{
  BelayLine *lines[2];
  After after = { NULL };

  g_return_if_fail (self != NULL);
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  lines[0] = &self->line;
  lines[1] = &self->closers;
  if (G_UNLIKELY (!belay_lines_end (self, "shared resource", &self->lock, lines, 2)))
    add_hold (self); /* it stays for ever */
  belay_spin_lock (&self->lock);
  end (self, &after);
  unlock_and_do (self, &after);
  drop_hold (self);
}

void
belay_shared_set_idle_timeout (BelayShared *self, gint64 milliseconds)
{
  After after = { NULL };

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->lock);
  self->idle = milliseconds < 0 ? G_MAXINT64 : MIN (milliseconds, G_MAXINT64 / 4000) * 1000;
  look_at_idle (self, &after);
  unlock_and_do (self, &after);
}

guint
belay_shared_get_n_users (BelayShared *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);
  belay_spin_lock (&self->lock);
  n = self->users;
  belay_spin_unlock (&self->lock);
  return n;
}

guint64
belay_shared_get_n_opens (BelayShared *self)
{
  guint64 n;

  g_return_val_if_fail (self != NULL, 0);
  belay_spin_lock (&self->lock);
  n = self->n_opens;
  belay_spin_unlock (&self->lock);
  return n;
}

gboolean
belay_shared_is_open (BelayShared *self)
{
  gboolean is_open;

  g_return_val_if_fail (self != NULL, FALSE);
  belay_spin_lock (&self->lock);
  is_open = self->state == OPEN;
  belay_spin_unlock (&self->lock);
  return is_open;
}

/* --- uses --- */

gpointer
belay_use_get (BelayUse *use)
{
  BelayShared *self = (BelayShared *) use;

  g_return_val_if_fail (use != NULL && self->use.klass == &use_class, NULL);
  return self->resource; /* invariant 3 */
}

static void
use_release (gpointer use)
{
  BelayShared *self = use;
  After after = { NULL };

  belay_spin_lock (&self->lock);
  if (--self->users == 0)
    {
      if (self->ended || self->idle == 0)
        begin (self, CLOSING, &after);
      else
        self->idle_since = belay_now ();
      look_at_idle (self, &after);
    }
  unlock_and_do (self, &after);
  belay_shared_unref (self);
}

enum { GOT = BELAY_TURN_SERVED, ITSELF = BELAY_TURN_OWN + 1 };

/* How it ends for whoever comes now; WAITS: in line, when there is a turn for it. */
static int
use_or_append (BelayShared *self, BelayFiber *fiber, BelayTurn *turn)
{
  After after = { NULL };
  int outcome = BELAY_TURN_WAITS;

  belay_spin_lock (&self->lock);
  if (G_UNLIKELY (self->ended))
    {
      outcome = BELAY_TURN_CLOSED;
    }
  else if (G_LIKELY (self->state == OPEN))
    {
      self->users++;
      atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
      outcome = BELAY_TURN_SERVED;
    }
  else if (self->task != NULL && &self->task->fiber == fiber)
    {
      outcome = ITSELF;
    }
  else if (turn != NULL)
    {
      belay_line_append (&self->line, turn);
      if (self->state == EMPTY)
        begin (self, OPENING, &after);
    }
  unlock_and_do (self, &after);
  return outcome;
}

/* (transfer full): why a turn that ended was not served. */
static GError *
error_of (int outcome, gpointer item)
{
  if (outcome == FAILED)
    return g_error_copy (belay_future_get_error (item));
  if (outcome == BELAY_TURN_CLOSED)
    return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CLOSED, "the shared resource was closed");
  return g_error_new_literal (BELAY_ERROR, BELAY_ERROR_BROKEN, "the last reference to the shared resource was dropped");
}

static gboolean
fail_turn (BelayFiber *fiber, BelayTurn *turn, int outcome, GError **error, const char *site)
{
  GError *failure;

  if (G_UNLIKELY (outcome == ITSELF))
    {
      g_critical ("belay_shared_use: the opening or closing of a shared resource waits for itself, at %s",
                  site != NULL ? site : "?");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_DEADLOCK,
                           "the opening or closing of a shared resource waits for itself");
      return FALSE;
    }
  failure = error_of (outcome, turn->item);
  if (outcome == FAILED)
    {
      belay_attached_note (fiber, turn->item, failure);
      belay_future_unref (turn->item);
    }
  g_propagate_error (error, failure);
  return FALSE;
}

/* Who was in line has left: an opening that nobody waits for any more is given up. */
static void
after_leaving (BelayShared *self)
{
  After after = { NULL };

  belay_spin_lock (&self->lock);
  if (belay_line_is_empty (&self->line))
    give_up (self, &after);
  unlock_and_do (self, &after);
}

BelayUse *
belay_shared_try_use (BelayShared *self)
{
  g_return_val_if_fail (self != NULL, NULL);

  if (use_or_append (self, NULL, NULL) != GOT)
    return NULL;
  belay_leaks_hold (self, NULL);
  return (BelayUse *) self;
}

BelayUse *
belay_shared_use_at (BelayShared *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber ("belay_shared_use", error);
      return NULL;
    }
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return NULL;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      outcome = use_or_append (self, fiber, &turn);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->lock))
        outcome = turn.outcome;
      if (G_LIKELY (outcome == BELAY_TURN_SERVED))
        {
          belay_leaks_hold (self, site);
          return (BelayUse *) self;
        }
      if (outcome != BELAY_TURN_WAITS)
        {
          fail_turn (fiber, &turn, outcome, error, site);
          return NULL;
        }
      after_leaving (self);
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved */
  return NULL;
}

BelayUse *
(belay_shared_use) (BelayShared *self, GError **error)
{
  return belay_shared_use_at (self, error, NULL);
}

static gpointer
async_ref (gpointer owner)
{
  return belay_shared_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_shared_unref (owner);
}

static void
reject (BelayAsyncTurn *turn)
{
  gpointer failed = turn->turn.outcome == FAILED ? turn->turn.item : NULL;
  BelayErrors *attached = failed != NULL ? belay_errors_add_all (NULL, belay_future_get_attached (failed), 0) : NULL;

  belay_future_settle_errors ((BelayFuture *) turn->promise, error_of (turn->turn.outcome, failed), attached);
  if (failed != NULL)
    belay_future_unref (failed);
}

/* A promise that nobody waits for any more drops the use, which comes back here. */
static void
use_answer (BelayAsyncTurn *turn)
{
  if (turn->turn.outcome == BELAY_TURN_SERVED)
    belay_promise_resolve_resource (turn->promise, turn->owner);
  else
    reject (turn);
}

static void
use_left (BelayAsyncTurn *turn)
{
  after_leaving (turn->owner);
}

static const BelayAsyncClass use_async_class = { async_ref, async_unref, use_answer, use_left };

BelayFuture *
belay_shared_use_async (BelayShared *self)
{
  BelayFuture *future;
  BelayTurn *turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  turn = belay_async_turn_new (self, &self->lock, &use_async_class, &future);
  outcome = use_or_append (self, NULL, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}

/* --- closing --- */

/* SERVED or FAILED: that is over; WAITS: the turn is in line for it. */
static int
close_or_append (BelayShared *self, BelayTurn *turn)
{
  After after = { NULL };
  int outcome = BELAY_TURN_WAITS;

  belay_spin_lock (&self->lock);
  if (self->state == EMPTY && self->failure != NULL)
    turn->item = belay_future_ref (self->failure);
  if (self->state == EMPTY)
    outcome = self->failure != NULL ? FAILED : BELAY_TURN_SERVED;
  else
    belay_line_append (&self->closers, turn);
  end (self, &after);
  unlock_and_do (self, &after);
  return outcome;
}

gboolean
belay_shared_close_at (BelayShared *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;
  int outcome;

  g_return_val_if_fail (self != NULL, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_shared_close", error);

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->closers, site);
      outcome = close_or_append (self, &turn);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->lock))
        outcome = turn.outcome;
      if (outcome == BELAY_TURN_SERVED)
        return TRUE;
      if (outcome != BELAY_TURN_WAITS)
        return fail_turn (fiber, &turn, outcome, error, site);
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved */
  return FALSE;
}

gboolean
(belay_shared_close) (BelayShared *self, GError **error)
{
  return belay_shared_close_at (self, error, NULL);
}

static void
close_answer (BelayAsyncTurn *turn)
{
  if (turn->turn.outcome == BELAY_TURN_SERVED)
    belay_promise_resolve (turn->promise);
  else
    reject (turn);
}

static const BelayAsyncClass close_async_class = { async_ref, async_unref, close_answer, NULL };

BelayFuture *
belay_shared_close_async (BelayShared *self)
{
  BelayFuture *future;
  BelayTurn *turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  turn = belay_async_turn_new (self, &self->lock, &close_async_class, &future);
  outcome = close_or_append (self, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}
