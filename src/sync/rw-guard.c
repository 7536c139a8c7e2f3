/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guards of a read-write lock: what is held, by whom, and how it is given back.
 *
 * A write guard is the lock itself. A read guard is a small block in the list of the lock's readers. Both have an owner or are
 * nobody's; see rw-lock.c for what that means, and for the invariants.
 */
#include "sync/rw-lock-private.h"

static void read_release (gpointer guard);
static void write_release (gpointer guard);
static void reader_left_behind (BelayOwned *owned);
static void writer_left_behind (BelayOwned *owned);
static const BelayPlainClass read_class = { BELAY_TAG_INSTANT, "BelayReadGuard", NULL, NULL, read_release, NULL };
static const BelayPlainClass write_class = { BELAY_TAG_INSTANT, "BelayWriteGuard", NULL, NULL, write_release, NULL };

BelayReadGuard *
belay_read_guard_new (BelayRwLock *lock)
{
  BelayReadGuard *self = belay_piece_new (sizeof *self);

  self->base.klass = &read_class;
  self->lock = lock;
  self->owned.left_behind = reader_left_behind;
  self->is_lost = FALSE;
  return self;
}

void
belay_rw_lock_prepare (BelayRwLock *lock)
{
  lock->guard.klass = &write_class;
  lock->owned.left_behind = writer_left_behind;
}

BelayReadGuard *
belay_read_guard_own (BelayRwLock *self, BelayFiber *fiber)
{
  for (BelayOwned *owned = fiber->stack->owned; owned != NULL; owned = owned->next)
    if (owned->left_behind == reader_left_behind)
      {
        BelayReadGuard *guard = (BelayReadGuard *) ((char *) owned - G_STRUCT_OFFSET (BelayReadGuard, owned));

        if (guard->lock == self)
          return guard;
      }
  return NULL;
}

/* --- giving it back --- */

static void
tell_misuse (const char *spawned, const char *site, gboolean is_held)
{
  if (is_held)
    g_critical ("a read-write lock is released that the fiber from %s holds, from %s: only that fiber can, or who has the guard after "
                "it was disowned", spawned != NULL ? spawned : "?", site != NULL ? site : "?");
  else
    g_critical ("a read-write lock is released that nobody holds");
}

static void
read_release (gpointer data)
{
  BelayReadGuard *guard = data;
  BelayRwLock *self = guard->lock;
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn *served = NULL;
  gboolean is_last;

  belay_spin_lock (&self->spin);
  if (G_UNLIKELY (guard->is_lost || (guard->owned.fiber != NULL && guard->owned.fiber != fiber)))
    {
      gboolean is_held = !guard->is_lost;
      const char *spawned = guard->owned.spawned, *site = guard->owned.site;

      belay_spin_unlock (&self->spin);
      tell_misuse (spawned, site, is_held);
      return;
    }
  if (guard->owned.fiber != NULL)
    belay_owned_remove (fiber, &guard->owned);
  unlink_guard (&self->readers, guard);
  self->n_readers--;
  belay_rw_lock_serve (self, &served);
  is_last = is_over (self);
  belay_spin_unlock (&self->spin);

  belay_read_guard_free (guard);
  belay_turns_wake (served);
  if (G_UNLIKELY (is_last)) /* invariant 4 */
    belay_rw_lock_end (self);
}

/* Under the lock. */
static inline gboolean
is_writer (BelayRwLock *self, BelayFiber *fiber)
{
  return (self->state & WRITTEN) != 0 && (self->owned.fiber == NULL || self->owned.fiber == fiber);
}

/* Under the lock: the writer, who calls, is one no longer. */
static inline void
stop_writing (BelayRwLock *self, BelayFiber *fiber)
{
  if (self->owned.fiber != NULL)
    belay_owned_remove (fiber, &self->owned);
  self->owned.fiber = NULL;
  self->state &= (guint8) ~WRITTEN;
}

static void
write_release (gpointer data)
{
  BelayRwLock *self = data;
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn *served = NULL;
  gboolean is_last;

  belay_spin_lock (&self->spin);
  if (G_UNLIKELY (!is_writer (self, fiber)))
    {
      gboolean is_held = (self->state & WRITTEN) != 0;
      const char *spawned = self->owned.spawned, *site = self->owned.site;

      belay_spin_unlock (&self->spin);
      tell_misuse (spawned, site, is_held);
      return;
    }
  stop_writing (self, fiber);
  belay_rw_lock_serve (self, &served);
  is_last = is_over (self);
  belay_spin_unlock (&self->spin);

  belay_turns_wake (served);
  if (G_UNLIKELY (is_last)) /* invariant 4 */
    belay_rw_lock_end (self);
}

BelayReadGuard *
belay_rw_lock_downgrade (BelayWriteGuard **variable)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayReadGuard *guard;
  BelayRwLock *self;
  BelayTurn *served = NULL;
  BelayFiber *owner = NULL;
  const char *site = NULL;
  gboolean ok;

  g_return_val_if_fail (variable != NULL && *variable != NULL, NULL);

  self = (BelayRwLock *) *variable;
  guard = belay_read_guard_new (self);
  belay_spin_lock (&self->spin);
  ok = is_writer (self, fiber);
  if (ok)
    {
      owner = self->owned.fiber;
      site = self->owned.site;
      stop_writing (self, fiber);
      grant_read (self, guard, owner, site);
      belay_rw_lock_serve (self, &served);
    }
  belay_spin_unlock (&self->spin);
  if (G_UNLIKELY (!ok))
    {
      g_critical ("belay_rw_lock_downgrade: the caller does not write");
      belay_read_guard_free (guard);
      return NULL;
    }
  if (owner != NULL)
    belay_owned_add (fiber, &guard->owned);
  belay_leaks_let_go (self);
  belay_leaks_hold (guard, site);
  *variable = NULL;
  belay_turns_wake (served);
  return guard;
}

/* --- owners --- */

void
belay_rw_lock_disown_read (BelayReadGuard *guard)
{
  BelayFiber *fiber = belay_fiber_self ();
  gboolean ok;

  g_return_if_fail (guard != NULL);

  belay_spin_lock (&guard->lock->spin);
  ok = !guard->is_lost && (guard->owned.fiber == NULL || guard->owned.fiber == fiber);
  if (ok && guard->owned.fiber != NULL)
    {
      belay_owned_remove (fiber, &guard->owned);
      guard->owned.fiber = NULL;
    }
  belay_spin_unlock (&guard->lock->spin);
  if (!ok)
    g_critical ("belay_rw_lock_disown_read: the guard is another fiber's");
}

void
belay_rw_lock_disown_write (BelayWriteGuard *guard)
{
  BelayRwLock *self = (BelayRwLock *) guard;
  BelayFiber *fiber = belay_fiber_self ();
  gboolean ok;

  g_return_if_fail (guard != NULL);

  belay_spin_lock (&self->spin);
  ok = is_writer (self, fiber);
  if (ok && self->owned.fiber != NULL)
    {
      belay_owned_remove (fiber, &self->owned);
      self->owned.fiber = NULL;
    }
  belay_spin_unlock (&self->spin);
  if (!ok)
    g_critical ("belay_rw_lock_disown_write: the caller does not write");
}

/* Before the lock is taken. */
static void
tell_left_behind (BelayOwned *owned, const char *how, gpointer guard)
{
  belay_leaks_let_go (guard);
  g_critical ("the fiber from %s ended and %s a read-write lock still, from %s; who waits for that fails",
              owned->spawned != NULL ? owned->spawned : "?", how, owned->site != NULL ? owned->site : "?");
  belay_strict_end ("a read-write lock that was left behind");
}

/* Under the lock; leaves it. */
static void
break_and_unlock (BelayRwLock *self, BelayOwned *owned)
{
  BelayTurn *served = NULL;
  gboolean is_last;

  owned->fiber = NULL;
  self->dead_spawned = owned->spawned;
  self->dead_site = owned->site;
  self->state |= BROKEN;
  is_last = is_over (self);
  if (!is_last)
    belay_line_serve_all (&self->line, BELAY_TURN_BROKEN, &served);
  belay_spin_unlock (&self->spin);
  belay_turns_wake (served);
  if (is_last)
    belay_rw_lock_end (self);
}

static void
reader_left_behind (BelayOwned *owned)
{
  BelayReadGuard *guard = (BelayReadGuard *) ((char *) owned - G_STRUCT_OFFSET (BelayReadGuard, owned));
  BelayRwLock *self = guard->lock;

  tell_left_behind (owned, "reads", guard);
  belay_spin_lock (&self->spin);
  unlink_guard (&self->readers, guard);
  self->n_readers--;
  guard->is_lost = TRUE;
  link_guard (&self->lost, guard);
  break_and_unlock (self, owned);
}

static void
writer_left_behind (BelayOwned *owned)
{
  BelayRwLock *self = (BelayRwLock *) ((char *) owned - G_STRUCT_OFFSET (BelayRwLock, owned));

  tell_left_behind (owned, "writes", self);
  belay_spin_lock (&self->spin);
  self->state &= (guint8) ~WRITTEN;
  break_and_unlock (self, owned);
}

gboolean
belay_rw_lock_recover (BelayRwLock *self)
{
  gboolean was_broken;

  g_return_val_if_fail (self != NULL, FALSE);

  belay_spin_lock (&self->spin);
  was_broken = (self->state & BROKEN) != 0;
  self->state &= (guint8) ~BROKEN;
  belay_spin_unlock (&self->spin);
  return was_broken;
}

void
belay_rw_lock_close (BelayRwLock *self)
{
  BelayTurn *served = NULL;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->spin);
  self->state |= CLOSED;
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &served);
  belay_spin_unlock (&self->spin);
  belay_turns_wake (served);
}

