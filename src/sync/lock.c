/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lock: one at a time, first come, first served.
 *
 * Words. The lock is *held* from when it is granted until it is given back. Who acquired it in a fiber is its *owner*, and only the owner
 * gives it back. What was acquired as a future, or outside of fibers, or disowned is nobody's: whoever has the guard gives
 * it back. A guard is the lock itself, seen through its first member: holding one allocates nothing. A lock is *broken* when its owner
 * has ended without giving it back: what it protects may be half changed, so nobody gets it until somebody says that he has looked,
 * belay_lock_recover().
 *
 * A few instructions under a spin lock are as dear as one atomic operation, so there is no way around the spin lock, and all is plain
 * memory under it. A lock that is given back while somebody waits is never free: it goes to the first in line there and then.
 *
 * A condition is a second line to stand in. What is notified is moved to the lock's own line, so whoever is woken has the lock.
 *
 * Invariants
 *   1. Somebody stands in line only while the lock is held, and it is neither closed nor broken.
 *   2. owned.fiber is the owner, and NULL when there is none. `owned` is in the owner's list from when it runs again (owned.c).
 *   3. It goes when there is no reference and nobody holds it. Both come to be under `spin`; the one of the two who sees the other, too,
 *      frees it after unlocking. So who holds it may take a reference, also when there is none.
 */
#include "sync/lock-private.h"

static void describe_line (BelayLine *line, GString *text);
static const BelayLineClass line_class = { "a lock", describe_line };

G_DEFINE_BOXED_TYPE (BelayLock, belay_lock, belay_lock_ref, belay_lock_unref)

static void guard_release (gpointer guard);
static void left_behind (BelayOwned *owned);
static const BelayPlainClass guard_class = { BELAY_TAG_INSTANT, "BelayLockGuard", NULL, NULL, guard_release, NULL };

BelayLock *
belay_lock_new (void)
{
  BelayLock *self = g_new0 (BelayLock, 1);

  self->guard.klass = &guard_class;
  atomic_init (&self->refs, 1);
  atomic_flag_clear (&self->spin);
  belay_line_init (&self->line, &line_class);
  self->owned.left_behind = left_behind;
  return self;
}

BelayLock *
belay_lock_ref (BelayLock *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_lock_unref (BelayLock *self)
{
  gboolean is_last;

  g_return_if_fail (self != NULL);

  if (!belay_owner_unref (&self->refs, &self->spin))
    return;
  is_last = belay_lock_is_over (self);
  belay_spin_unlock (&self->spin);
  if (is_last) /* invariant 3 */
    g_free (self);
}

gboolean
belay_lock_is_locked (BelayLock *self)
{
  gboolean is_held;

  g_return_val_if_fail (self != NULL, FALSE);

  belay_spin_lock (&self->spin);
  is_held = (self->state & BELAY_LOCK_HELD) != 0;
  belay_spin_unlock (&self->spin);
  return is_held;
}

guint
belay_lock_get_n_waiting (BelayLock *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);

  belay_spin_lock (&self->spin);
  n = self->line.n;
  belay_spin_unlock (&self->spin);
  return n;
}

/* --- who has it --- */

void
belay_lock_describe (BelayLock *self, GString *text)
{
  if ((self->state & BELAY_LOCK_HELD) == 0)
    return;
  g_string_append (text, ", which is held by ");
  belay_owned_describe (self->owned.spawned, self->owned.site, text);
}

static void
describe_line (BelayLine *line, GString *text)
{
  BelayLock *self = (BelayLock *) ((char *) line - G_STRUCT_OFFSET (BelayLock, line));

  belay_spin_lock (&self->spin);
  belay_lock_describe (self, text);
  belay_spin_unlock (&self->spin);
}

gboolean
belay_lock_fail (BelayLock *self, int outcome, GError **error)
{
  const char *spawned, *site;

  switch (outcome)
    {
    case BELAY_TURN_CLOSED:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the lock was closed");
      return FALSE;
    case BELAY_TURN_BROKEN:
      belay_spin_lock (&self->spin);
      spawned = self->owned.spawned;
      site = self->owned.site;
      belay_spin_unlock (&self->spin);
      g_set_error (error, BELAY_ERROR, BELAY_ERROR_BROKEN, "the lock is broken: the fiber from %s ended and held it, from %s; see "
                   "belay_lock_recover()", spawned != NULL ? spawned : "?", site != NULL ? site : "?");
      return FALSE;
    default:
      g_assert_not_reached ();
    }
}

/* --- giving it back --- */

static inline void
grant (BelayLock *self, BelayTurn *turn)
{
  self->state |= BELAY_LOCK_HELD;
  belay_owned_set (&self->owned, turn->fiber, turn->item);
}

void
belay_lock_pass_on (BelayLock *self, BelayTurn **served)
{
  self->state &= (guint8) ~BELAY_LOCK_HELD;
  self->owned.fiber = NULL;
  while (!belay_line_is_empty (&self->line))
    {
      BelayTurn *turn = self->line.first;

      if (belay_line_serve (turn, BELAY_TURN_SERVED, served))
        {
          grant (self, turn);
          return;
        }
    }
}

gboolean
belay_lock_is_mine (BelayLock *self, BelayFiber *fiber)
{
  return (self->state & BELAY_LOCK_HELD) != 0 && (self->owned.fiber == NULL || self->owned.fiber == fiber);
}

void
belay_lock_give (BelayLock *self, BelayFiber *fiber, BelayTurn **served)
{
  if (G_LIKELY (self->owned.fiber != NULL))
    belay_owned_remove (fiber, &self->owned);
  belay_lock_pass_on (self, served);
}

/* Not under the lock. */
static G_NO_INLINE void
tell_not_mine (BelayLock *self)
{
  const char *spawned, *site;
  gboolean is_held;

  belay_spin_lock (&self->spin);
  is_held = (self->state & BELAY_LOCK_HELD) != 0;
  spawned = self->owned.spawned;
  site = self->owned.site;
  belay_spin_unlock (&self->spin);
  if (is_held)
    g_critical ("a lock is released that the fiber from %s holds, from %s: only that fiber can, or who has the guard after "
                "belay_lock_disown()", spawned != NULL ? spawned : "?", site != NULL ? site : "?");
  else
    g_critical ("a lock is released that nobody holds");
}

static void
guard_release (gpointer guard)
{
  BelayLock *self = guard;
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn *served = NULL;
  gboolean is_last;

  belay_spin_lock (&self->spin);
  if (G_UNLIKELY (!belay_lock_is_mine (self, fiber)))
    {
      belay_spin_unlock (&self->spin);
      tell_not_mine (self);
      return;
    }
  belay_lock_give (self, fiber, &served);
  is_last = belay_lock_is_over (self);
  belay_spin_unlock (&self->spin);

  belay_turns_wake (served);
  if (G_UNLIKELY (is_last)) /* invariant 3 */
    g_free (self);
}

/* The owner has ended. */
static void
left_behind (BelayOwned *owned)
{
  BelayLock *self = (BelayLock *) ((char *) owned - G_STRUCT_OFFSET (BelayLock, owned));
  BelayLine *lines[] = { &self->line };
  BelayTurn *served = NULL;
  gboolean is_last;

  belay_leaks_let_go (self);
  g_critical ("the fiber from %s ended and holds a lock still, from %s; who waits for that fails",
              owned->spawned != NULL ? owned->spawned : "?", owned->site != NULL ? owned->site : "?");
  belay_strict_end ("a lock that was left behind");
  belay_spin_lock (&self->spin);
  self->state = (guint8) ((self->state & ~BELAY_LOCK_HELD) | BELAY_LOCK_BROKEN);
  owned->fiber = NULL;
  is_last = belay_lock_is_over (self);
  if (!is_last)
    {
      belay_line_serve_all (&self->line, BELAY_TURN_BROKEN, &served);
      belay_conditions_serve_all (self, BELAY_TURN_BROKEN, &served);
    }
  belay_spin_unlock (&self->spin);

  belay_turns_wake (served);
  if (is_last && belay_lines_end (self, "lock", &self->spin, lines, 1)) /* who waits has no reference */
    g_free (self);
}

gboolean
belay_lock_recover (BelayLock *self)
{
  gboolean was_broken;

  g_return_val_if_fail (self != NULL, FALSE);

  belay_spin_lock (&self->spin);
  was_broken = (self->state & BELAY_LOCK_BROKEN) != 0;
  self->state &= (guint8) ~BELAY_LOCK_BROKEN;
  belay_spin_unlock (&self->spin);
  return was_broken;
}

void
belay_lock_close (BelayLock *self)
{
  BelayTurn *served = NULL;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->spin);
  self->state |= BELAY_LOCK_CLOSED;
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &served);
  belay_conditions_serve_all (self, BELAY_TURN_CLOSED, &served);
  belay_spin_unlock (&self->spin);
  belay_turns_wake (served);
}

void
belay_lock_disown (BelayLockGuard *guard)
{
  BelayLock *self = (BelayLock *) guard;
  BelayFiber *fiber = belay_fiber_self ();
  gboolean is_mine;

  g_return_if_fail (guard != NULL);

  belay_spin_lock (&self->spin);
  is_mine = belay_lock_is_mine (self, fiber);
  if (is_mine && self->owned.fiber != NULL)
    {
      belay_owned_remove (fiber, &self->owned);
      self->owned.fiber = NULL;
    }
  belay_spin_unlock (&self->spin);
  if (!is_mine)
    tell_not_mine (self);
}

/* --- acquiring --- */

gboolean
belay_lock_want (BelayLock *self, BelayTurn *turn)
{
  if ((self->state & BELAY_LOCK_CLOSED) != 0)
    {
      turn->outcome = BELAY_TURN_CLOSED;
    }
  else if ((self->state & BELAY_LOCK_BROKEN) != 0)
    {
      turn->outcome = BELAY_TURN_BROKEN;
    }
  else if ((self->state & BELAY_LOCK_HELD) == 0)
    {
      grant (self, turn);
      turn->outcome = BELAY_TURN_SERVED;
    }
  else
    {
      belay_line_append (&self->line, turn);
      return FALSE;
    }
  return TRUE;
}

static inline gboolean
try_take (BelayLock *self, BelayFiber *fiber, const char *site)
{
  gboolean taken;

  belay_spin_lock (&self->spin);
  taken = (self->state & (BELAY_LOCK_HELD | BELAY_LOCK_CLOSED | BELAY_LOCK_BROKEN)) == 0;
  if (G_LIKELY (taken))
    {
      self->state |= BELAY_LOCK_HELD;
      belay_owned_set (&self->owned, fiber, site);
    }
  belay_spin_unlock (&self->spin);
  return taken;
}

static gboolean
acquire_slow (BelayLock *self, BelayFiber *fiber, GError **error, const char *site)
{
  BelayTurn turn;
  const char *own = NULL;
  gboolean known, is_own;

  belay_turn_init (&turn, fiber);
  turn.item = (gpointer) site;
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      belay_spin_lock (&self->spin);
      is_own = (self->state & BELAY_LOCK_HELD) != 0 && self->owned.fiber == fiber;
      if (is_own)
        own = self->owned.site;
      known = is_own || belay_lock_want (self, &turn);
      belay_spin_unlock (&self->spin);
      if (is_own)
        {
          g_set_error (error, BELAY_ERROR, BELAY_ERROR_DEADLOCK, "this fiber holds the lock already, from %s, and would wait for itself",
                       own != NULL ? own : "?");
          return FALSE;
        }
      if (known || belay_turn_wait (&turn, &self->spin))
        return turn.outcome == BELAY_TURN_SERVED || belay_lock_fail (self, turn.outcome, error);
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved: to the end of the line */
  return FALSE;
}

BelayLockGuard *
belay_lock_acquire_at (BelayLock *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();

  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber ("belay_lock_acquire", error);
      return NULL;
    }
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return NULL;
  if (G_UNLIKELY (!try_take (self, fiber, site) && !acquire_slow (self, fiber, error, site)))
    return NULL;
  belay_owned_add (fiber, &self->owned);
  belay_leaks_hold (self, site);
  return (BelayLockGuard *) self;
}

BelayLockGuard *
belay_lock_try_acquire_at (BelayLock *self, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();

  g_return_val_if_fail (self != NULL, NULL);

  if (!try_take (self, fiber, site))
    return NULL;
  if (fiber != NULL)
    belay_owned_add (fiber, &self->owned);
  belay_leaks_hold (self, site);
  return (BelayLockGuard *) self;
}

/* --- as a future --- */

static gpointer
async_ref (gpointer owner)
{
  return belay_lock_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_lock_unref (owner);
}

static void
async_answer (BelayAsyncTurn *turn)
{
  GError *error = NULL;

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    {
      belay_promise_resolve_resource (turn->promise, turn->owner);
      return;
    }
  belay_lock_fail (turn->owner, turn->turn.outcome, &error);
  belay_promise_reject (turn->promise, error);
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, NULL };

BelayFuture *
belay_lock_acquire_async (BelayLock *self)
{
  BelayFuture *future;
  BelayTurn *turn;
  gboolean known;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  if (try_take (self, NULL, NULL))
    return belay_resource_future (self);
  turn = belay_async_turn_new (self, &self->spin, &async_class, &future);
  belay_spin_lock (&self->spin);
  known = belay_lock_want (self, turn);
  belay_spin_unlock (&self->spin);
  if (known)
    belay_async_turn_answer (turn, turn->outcome);
  return future;
}

/* The functions behind the macros, for bindings. */
BelayLockGuard *
(belay_lock_acquire) (BelayLock *self, GError **error)
{
  return belay_lock_acquire_at (self, error, NULL);
}

BelayLockGuard *
(belay_lock_try_acquire) (BelayLock *self)
{
  return belay_lock_try_acquire_at (self, NULL);
}
