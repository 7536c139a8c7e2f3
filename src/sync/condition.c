/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Condition: to give a lock back, and to get it again when somebody who had it meanwhile says so.
 *
 * Words. Who waits stands in the condition's line, then in its lock's, and goes on when it has the lock. To *notify* it is to move
 * its turn from the one to the other: there is nobody to be woken before the lock is his, and nobody who finds it taken.
 * Being interrupted moves it, too, by itself. From then on it is deaf: it gets the lock in any case, unless that is closed or
 * broken.
 *
 * A notification is consumed when who got it goes on. A fiber that was notified and interrupted at one time has been notified:
 * its wait succeeds, and the next checkpoint fails. A future that is given up when it was notified, before or after it had the lock,
 * hands the notification on to the next who waits.
 *
 * Invariants
 *   1. All is guarded by the lock's `spin`, so a turn is in one of the two lines, or served.
 *   2. `need` of a turn says why it is in the lock's line; it is set when it is moved there.
 *   3. A lock knows its conditions; a condition has a reference to its lock.
 */
#include "sync/lock-private.h"

/* How turns of promises end besides. */
enum { TURN_CLOSED_ITSELF = BELAY_TURN_OWN, TURN_REFUSED };

static void end_waits (BelayCondition *self, int why, BelayTurn **served);

static void describe_line (BelayLine *line, GString *text);
static const BelayLineClass line_class = { "a notification of a condition", describe_line };

G_DEFINE_BOXED_TYPE (BelayCondition, belay_condition, belay_condition_ref, belay_condition_unref)

BelayCondition *
belay_condition_new (BelayLock *lock)
{
  BelayCondition *self;

  g_return_val_if_fail (lock != NULL, NULL);

  self = g_new0 (BelayCondition, 1);
  atomic_init (&self->refs, 1);
  self->lock = belay_lock_ref (lock);
  belay_line_init (&self->line, &line_class);
  belay_spin_lock (&lock->spin);
  self->next = lock->conditions;
  if (self->next != NULL)
    self->next->prev = self;
  lock->conditions = self;
  belay_spin_unlock (&lock->spin);
  return self;
}

BelayCondition *
belay_condition_ref (BelayCondition *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_condition_unref (BelayCondition *self)
{
  BelayTurn *served = NULL;
  BelayLock *lock;
  gboolean is_free;

  g_return_if_fail (self != NULL);

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  lock = self->lock;
  belay_spin_lock (&lock->spin);
  if (self->prev != NULL)
    self->prev->next = self->next;
  else
    lock->conditions = self->next;
  if (self->next != NULL)
    self->next->prev = self->prev;
  is_free = belay_line_is_empty (&self->line);
  end_waits (self, BELAY_WANTS_ENDED, &served); /* fibers: a future has a reference */
  belay_spin_unlock (&lock->spin);
  if (G_UNLIKELY (!is_free))
    {
      belay_owner_bury (self, "condition"); /* and its reference to the lock, which those who wait need, too */
      belay_turns_wake (served);
      return;
    }
  belay_lock_unref (lock);
  g_free (self);
}

static void
describe_line (BelayLine *line, GString *text)
{
  BelayCondition *self = (BelayCondition *) ((char *) line - G_STRUCT_OFFSET (BelayCondition, line));

  belay_spin_lock (&self->lock->spin);
  if ((self->lock->state & BELAY_LOCK_HELD) != 0)
    g_string_append (text, ", or its lock");
  belay_lock_describe (self->lock, text);
  belay_spin_unlock (&self->lock->spin);
}

void
belay_conditions_serve_all (BelayLock *lock, int outcome, BelayTurn **served)
{
  for (BelayCondition *self = lock->conditions; self != NULL; self = self->next)
    belay_line_serve_all (&self->line, outcome, served);
}

/* --- notifying --- */

/* Under the lock, which is held: moves the first who waits to the lock's line. */
static void
move_first (BelayCondition *self, int why)
{
  BelayTurn *turn = self->line.first;

  belay_line_remove (turn);
  turn->need = why;
  belay_line_append (&self->lock->line, turn);
}

guint
belay_condition_notify (BelayCondition *self, guint n)
{
  BelayFiber *fiber = belay_fiber_self ();
  gboolean is_mine;
  guint n_notified = 0;

  g_return_val_if_fail (self != NULL, 0);

  belay_spin_lock (&self->lock->spin);
  is_mine = belay_lock_is_mine (self->lock, fiber);
  for (; is_mine && n_notified < n && !belay_line_is_empty (&self->line); n_notified++)
    move_first (self, BELAY_WANTS_NOTIFIED);
  belay_spin_unlock (&self->lock->spin);
  if (G_UNLIKELY (!is_mine))
    g_critical ("belay_condition_notify: the caller does not hold the condition's lock");
  return n_notified;
}

guint
belay_condition_notify_all (BelayCondition *self)
{
  return belay_condition_notify (self, G_MAXUINT);
}

/* Under the lock: no notification will come. */
static void
end_waits (BelayCondition *self, int why, BelayTurn **served)
{
  while (!belay_line_is_empty (&self->line))
    {
      if (self->line.first->fiber == NULL)
        belay_line_serve (self->line.first, TURN_CLOSED_ITSELF, served); /* its future has no place for both */
      else
        move_first (self, why);
    }
  if ((self->lock->state & BELAY_LOCK_HELD) == 0)
    belay_lock_pass_on (self->lock, served);
}

void
belay_condition_close (BelayCondition *self)
{
  BelayTurn *served = NULL;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->lock->spin);
  self->is_closed = TRUE;
  end_waits (self, BELAY_WANTS_CLOSED, &served);
  belay_spin_unlock (&self->lock->spin);
  belay_turns_wake (served);
}

guint
belay_condition_get_n_waiting (BelayCondition *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);

  belay_spin_lock (&self->lock->spin);
  n = self->line.n;
  belay_spin_unlock (&self->lock->spin);
  return n;
}

/* --- waiting --- */

static gboolean
fail_misuse (GError **error)
{
  g_critical ("belay_condition_wait: the caller does not hold the condition's lock");
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "the condition's lock is not held by who waits");
  return FALSE;
}

static gboolean
fail_closed (GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the condition was closed");
  return FALSE;
}

static gboolean
fail_ended (GError **error)
{
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_BROKEN, "the last reference to the condition was dropped");
  return FALSE;
}

/* Under the lock: whether the caller has it by this guard. */
static inline gboolean
is_held_by (BelayLock *lock, BelayLockGuard *held, BelayFiber *fiber)
{
  return (BelayLock *) held == lock && belay_lock_is_mine (lock, fiber);
}

/* Gives the lock back and gets in line, or fails and does nothing. */
static gboolean
begin (BelayCondition *self, BelayLockGuard *held, BelayFiber *fiber, BelayTurn *turn, GError **error)
{
  BelayLock *lock = self->lock;
  BelayTurn *served = NULL;
  gboolean is_mine, is_closed, lock_is_closed, ok;

  belay_spin_lock (&lock->spin);
  is_mine = is_held_by (lock, held, fiber);
  is_closed = self->is_closed;
  lock_is_closed = (lock->state & BELAY_LOCK_CLOSED) != 0;
  ok = is_mine && !is_closed && !lock_is_closed;
  if (ok)
    {
      belay_line_append (&self->line, turn);
      belay_lock_give (lock, fiber, &served);
    }
  belay_spin_unlock (&lock->spin);
  if (!is_mine)
    return fail_misuse (error);
  if (!ok)
    return is_closed ? fail_closed (error) : belay_lock_fail (lock, BELAY_TURN_CLOSED, error);
  belay_leaks_let_go (lock);
  belay_turns_wake (served);
  return TRUE;
}

/* Until it has the lock, or there is none to have. */
static void
wait_for_lock (BelayCondition *self, BelayLock *lock, BelayTurn *turn)
{
  BelayFiber *fiber = turn->fiber;
  gboolean known = FALSE;

  if (G_UNLIKELY (fiber->stack->fired)) /* by what was woken as the lock was given back */
    return;
  do
    {
      belay_fiber_suspend (fiber, BELAY_WAIT_INTERRUPTIBLE, G_MAXINT64);
      if (G_LIKELY (fiber->stack->fired))
        return;
    }
  while (!belay_limit_notice (fiber));

  belay_spin_lock (&lock->spin);
  if (turn->line != NULL && turn->need == BELAY_WANTS_NOTHING)
    {
      belay_line_remove (turn);
      turn->need = BELAY_WANTS_INTERRUPTED;
      known = belay_lock_want (lock, turn);
    }
  belay_spin_unlock (&lock->spin);
  if (!known)
    belay_turn_wait_deaf (turn);
}

gboolean
belay_condition_wait_at (BelayCondition *self, BelayLockGuard **held, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayLock *lock;
  BelayTurn turn;

  g_return_val_if_fail (self != NULL && held != NULL, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_condition_wait", error);
  lock = self->lock;
  belay_turn_init (&turn, fiber);
  turn.item = (gpointer) site;
  while (belay_limit_check (fiber, site, error)) /* again: a deadline that another thread has moved */
    {
      turn.need = BELAY_WANTS_NOTHING;
      belay_turn_prepare (&turn, &self->line, site);
      if (!begin (self, *held, fiber, &turn, error))
        return FALSE;
      wait_for_lock (self, lock, &turn);
      if (turn.outcome != BELAY_TURN_SERVED)
        {
          *held = NULL;
          return belay_lock_fail (lock, turn.outcome, error);
        }
      belay_owned_add (fiber, &lock->owned);
      belay_leaks_hold (lock, site);
      if (turn.need == BELAY_WANTS_NOTIFIED)
        return TRUE;
      if (turn.need == BELAY_WANTS_CLOSED)
        return fail_closed (error);
      if (turn.need == BELAY_WANTS_ENDED)
        return fail_ended (error);
    }
  return FALSE;
}

gboolean
belay_condition_wait_for_at (BelayCondition *self, BelayLockGuard **held, BelayPredicateFunc predicate, gpointer data, GError **error,
                             const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  gboolean is_mine;

  g_return_val_if_fail (self != NULL && held != NULL && predicate != NULL, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_condition_wait_for", error);
  if (!belay_limit_check (fiber, site, error))
    return FALSE;
  belay_spin_lock (&self->lock->spin);
  is_mine = is_held_by (self->lock, *held, fiber);
  belay_spin_unlock (&self->lock->spin);
  if (G_UNLIKELY (!is_mine))
    return fail_misuse (error);
  while (!predicate (data))
    if (!belay_condition_wait_at (self, held, error, site))
      return FALSE;
  return TRUE;
}

/* --- as a future --- */

/* Nobody wants the notification that came: to the next. */
static void
pass_notification (BelayCondition *self)
{
  BelayLock *lock = self->lock;
  BelayTurn *served = NULL;

  belay_spin_lock (&lock->spin);
  if (!belay_line_is_empty (&self->line))
    {
      move_first (self, BELAY_WANTS_NOTIFIED);
      if ((lock->state & BELAY_LOCK_HELD) == 0)
        belay_lock_pass_on (lock, &served);
    }
  belay_spin_unlock (&lock->spin);
  belay_turns_wake (served);
}

static gpointer
async_ref (gpointer owner)
{
  return belay_condition_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_condition_unref (owner);
}

static void
async_answer (BelayAsyncTurn *turn)
{
  BelayCondition *self = turn->owner;
  GError *error = NULL;

  switch (turn->turn.outcome)
    {
    case BELAY_TURN_SERVED:
      turn->turn.item = self->lock;
      belay_async_turn_lend (turn);
      return;
    case TURN_REFUSED:
      error = g_steal_pointer (&turn->turn.item);
      break;
    case TURN_CLOSED_ITSELF:
      fail_closed (&error);
      break;
    default:
      belay_lock_fail (self->lock, turn->turn.outcome, &error);
    }
  belay_promise_reject (turn->promise, error);
}

static void
async_left (BelayAsyncTurn *turn)
{
  if (turn->turn.need == BELAY_WANTS_NOTIFIED)
    pass_notification (turn->owner);
}

/* The guard that nobody took out of the future. */
static void
async_back (BelayAsyncTurn *turn, gpointer guard)
{
  if (belay_forked ())
    return;
  pass_notification (turn->owner);
  belay_resource_drop (guard);
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, async_left, async_back };

BelayFuture *
belay_condition_wait_async (BelayCondition *self, BelayLockGuard **held)
{
  BelayFuture *future;
  BelayTurn *turn;
  GError *error = NULL;

  g_return_val_if_fail (self != NULL && held != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  turn = belay_async_turn_new (self, &self->lock->spin, &async_class, &future);
  if (begin (self, *held, belay_fiber_self (), turn, &error))
    {
      *held = NULL;
      return future;
    }
  turn->item = error;
  belay_async_turn_answer (turn, TURN_REFUSED);
  return future;
}

/* The functions behind the macros, for bindings. */
gboolean
(belay_condition_wait) (BelayCondition *self, BelayLockGuard **held, GError **error)
{
  return belay_condition_wait_at (self, held, error, NULL);
}

gboolean
(belay_condition_wait_for) (BelayCondition *self, BelayLockGuard **held, BelayPredicateFunc predicate, gpointer data, GError **error)
{
  return belay_condition_wait_for_at (self, held, predicate, data, error, NULL);
}
