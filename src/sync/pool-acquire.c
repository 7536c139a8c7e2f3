/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Acquiring: at once where something is idle and nobody waits, else by a turn in the group's line.
 *
 * Who waits has no timer of its own: the pool's looks at the first of each line, since all have the same time. What
 * bounds the fiber interrupts it as it does in any other wait.
 * A fiber whose deadline has been moved meanwhile gets in line again, at its old place, with the time that it has left.
 */
#include "sync/pool.h"

static inline BelaySlot *
take_fresh (BelayPool *self, BelayPoolGroup *group, gint64 now)
{
  BelaySlot *slot = group->newest;

  if (G_UNLIKELY (slot == NULL || group->line.first != NULL || self->suspended || self->state != BELAY_POOL_RUNNING ||
                  now >= slot->fresh_until))
    return NULL;
  belay_slot_from_idle (slot, BELAY_SLOT_USED);
  return slot;
}

/* Leaves the lock, where nothing but a timer can be to do. */
static inline void
unlock_after_lending (BelayPool *self, BelayPoolTodo *todo)
{
  if (G_LIKELY (!todo->look && todo->dead == NULL))
    belay_spin_unlock (&self->lock);
  else
    belay_pool_unlock (self, todo);
}

/* Who is given a future holds nothing yet, so it is the caller who says that it is held. */
static gpointer
try_lend (BelayPool *self, const char *key, BelayFiber *fiber, const char *site)
{
  gint64 now = belay_clock_after_now ();
  BelayPoolGroup *group = belay_pool_lock_group (self, key, TRUE);
  BelaySlot *slot = group != NULL ? take_fresh (self, group, now) : NULL;
  BelayPoolTodo todo = { NULL };
  gpointer lease, resource;

  if (G_UNLIKELY (slot == NULL))
    {
      belay_spin_unlock (&self->lock);
      return NULL;
    }
  lease = belay_slot_lend (slot, fiber, site, now, &todo);
  if (G_LIKELY (fiber != NULL))
    slot->interruptions = fiber->stack->interruptions;
  resource = slot->resource;
  unlock_after_lending (self, &todo);
  if (G_UNLIKELY (self->options.watch != NULL))
    belay_pool_tell (self, BELAY_POOL_ACQUIRED, resource, NULL);
  return lease;
}

/* --- waiting, in a fiber --- */

/* What a turn of a pool got, when that is no lease. */
static GError *
error_of (const char *name, int outcome, gpointer item)
{
  GError *error;

  switch (outcome)
    {
    case BELAY_POOL_TURN_FAILED:
      error = g_error_copy (((BelayPoolFailure *) item)->error);
      belay_pool_failure_unref (item);
      return error;
    case BELAY_POOL_TURN_ABANDONED:
    case BELAY_TURN_CLOSED:
    default:
      return belay_pool_closed_error (name);
    }
}

/* The fiber's wait was cut short, with @error of its limits. */
static void
say_more (BelayPool *self, GError **error, gint64 begin, const char *site)
{
  gboolean is_late = g_error_matches (*error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);

  belay_pool_lock (self);
  if (is_late)
    self->stats.timed_out++;
  else
    self->stats.cancelled++;
  belay_spin_unlock (&self->lock);
  if (!is_late)
    return;
  g_clear_error (error);
  *error = belay_pool_late_error (self, belay_now () - begin, site);
  belay_pool_tell (self, BELAY_POOL_TIMED_OUT, NULL, *error);
}

static void
let_go (BelayPool *self)
{
  BelayPoolTodo todo = { NULL };

  belay_pool_lock (self);
  belay_pool_let_go (self, &todo);
  belay_pool_unlock (self, &todo);
}

/* Gets in line, or takes a fresh one after all. FALSE: the pool is closed. */
static gboolean
get_in_line (BelayPool *self, const char *key, BelayTurn *turn, BelayPoolWait *wait, gpointer *ret_lease)
{
  gint64 now = belay_clock_after_now ();
  BelayPoolTodo todo = { NULL };
  BelaySlot *slot;

  wait->group = belay_pool_lock_group (self, key, FALSE);
  if (G_UNLIKELY (self->state != BELAY_POOL_RUNNING))
    {
      belay_pool_group_check (wait->group, &todo);
      belay_pool_unlock (self, &todo);
      return FALSE;
    }
  slot = take_fresh (self, wait->group, now);
  if (slot != NULL)
    {
      *ret_lease = belay_slot_lend (slot, turn->fiber, wait->site, now, &todo);
      unlock_after_lending (self, &todo);
      return TRUE;
    }
  belay_pool_append (turn, wait, now, &todo);
  belay_pool_dispatch (self, now, &todo);
  belay_pool_unlock (self, &todo);
  return TRUE;
}

/* The caller's reference may go meanwhile, so what is touched after the wait is held. */
static gpointer
wait_for_lease (BelayPool *self, const char *key, BelayFiber *fiber, GError **error, const char *site)
{
  const char *name = self->name;
  gint64 begin = belay_now ();
  BelayPoolWait wait = { .site = site };
  GError *failure = NULL;
  gpointer lease = NULL;
  BelayTurn turn;

  belay_turn_init (&turn, fiber);
  for (;;)
    {
      BelayPoolTodo todo = { NULL };

      belay_turn_prepare (&turn, &self->own.line, site);
      if (!get_in_line (self, key, &turn, &wait, &lease))
        {
          failure = belay_pool_closed_error (name);
          break;
        }
      if (lease != NULL)
        return lease;
      if (belay_turn_wait (&turn, &self->lock)) /* then the pool is alive only if it is a lease */
        {
          if (G_LIKELY (turn.outcome == BELAY_TURN_SERVED))
            return turn.item;
          if (turn.outcome == BELAY_POOL_TURN_LATE)
            {
              failure = belay_pool_late_error (self, belay_now () - begin, site);
              belay_pool_tell (self, BELAY_POOL_TIMED_OUT, NULL, failure);
              let_go (self); /* whoever served it left that to us */
            }
          else if (turn.outcome == BELAY_POOL_TURN_DEADLOCK)
            {
              failure = belay_pool_deadlock_error (self, site);
              let_go (self);
            }
          else
            {
              failure = error_of (name, turn.outcome, turn.item);
            }
          break;
        }
      belay_pool_lock (self); /* it is alive: the turn is counted still */
      self->holds++;
      belay_pool_left (&turn, &todo);
      belay_pool_dispatch (self, belay_clock_after_now (), &todo);
      belay_pool_unlock (self, &todo);
      if (!belay_limit_check (fiber, site, &failure))
        {
          say_more (self, &failure, begin, site);
          let_go (self);
          break;
        }
      let_go (self); /* a deadline that has been moved: in line again */
    }
  g_propagate_error (error, failure);
  return NULL;
}

BelayLease *
belay_pool_acquire_key_at (BelayPool *self, const char *key, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  gpointer lease;
  guint head;

  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (fiber == NULL || belay_forked ()))
    {
      belay_fail_no_fiber ("belay_pool_acquire", error);
      return NULL;
    }
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return NULL;
  lease = try_lend (self, key, fiber, site);
  if (G_LIKELY (lease != NULL))
    {
      belay_leaks_hold (lease, site);
      return lease;
    }
  lease = wait_for_lease (self, key, fiber, error, site);
  if (lease == NULL)
    return NULL;
  belay_slot_of_lease (lease, &head)->interruptions = fiber->stack->interruptions;
  belay_leaks_hold (lease, site);
  if (G_UNLIKELY (self->options.watch != NULL))
    belay_pool_tell (self, BELAY_POOL_ACQUIRED, belay_lease_get (lease), NULL);
  return lease;
}

BelayLease *
belay_pool_acquire_at (BelayPool *self, GError **error, const char *site)
{
  return belay_pool_acquire_key_at (self, NULL, error, site);
}

BelayLease *
(belay_pool_acquire) (BelayPool *self, GError **error)
{
  return belay_pool_acquire_key_at (self, NULL, error, NULL);
}

BelayLease *
(belay_pool_acquire_key) (BelayPool *self, const char *key, GError **error)
{
  return belay_pool_acquire_key_at (self, key, error, NULL);
}

BelayLease *
belay_pool_try_acquire_key_at (BelayPool *self, const char *key, const char *site)
{
  BelayLease *lease;

  g_return_val_if_fail (self != NULL, NULL);

  lease = belay_forked () ? NULL : try_lend (self, key, belay_fiber_self (), site);
  if (lease != NULL)
    belay_leaks_hold (lease, site);
  return lease;
}

BelayLease *
(belay_pool_try_acquire) (BelayPool *self)
{
  return belay_pool_try_acquire_key_at (self, NULL, NULL);
}

BelayLease *
(belay_pool_try_acquire_key) (BelayPool *self, const char *key)
{
  return belay_pool_try_acquire_key_at (self, key, NULL);
}

/* --- waiting by a future --- */

static gpointer
async_ref (gpointer owner)
{
  return belay_pool_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_pool_unref (owner);
}

static void
async_answer (BelayAsyncTurn *turn)
{
  BelayPool *self = turn->owner;
  BelayPoolWait *wait = belay_pool_wait_of (&turn->turn);

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    {
      if (self->options.watch != NULL)
        belay_pool_tell (self, BELAY_POOL_ACQUIRED, belay_lease_get (turn->turn.item), NULL);
      belay_promise_resolve_resource (turn->promise, turn->turn.item);
    }
  else if (turn->turn.outcome == BELAY_POOL_TURN_LATE)
    {
      GError *error = belay_pool_late_error (self, belay_now () - wait->begin, wait->site);

      belay_pool_tell (self, BELAY_POOL_TIMED_OUT, NULL, error);
      belay_promise_reject (turn->promise, error);
      let_go (self);
    }
  else
    {
      belay_promise_reject (turn->promise, error_of (self->name, turn->turn.outcome, turn->turn.item));
    }
  g_free (wait);
}

static void
async_left (BelayAsyncTurn *turn)
{
  BelayPool *self = turn->owner;
  BelayPoolTodo todo = { NULL };

  belay_pool_lock (self);
  self->stats.cancelled++;
  belay_pool_left (&turn->turn, &todo);
  belay_pool_dispatch (self, belay_now (), &todo);
  belay_pool_unlock (self, &todo);
  g_free (belay_pool_wait_of (&turn->turn));
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, async_left };

BelayFuture *
belay_pool_acquire_key_async_at (BelayPool *self, const char *key, const char *site)
{
  BelayPoolTodo todo = { NULL };
  BelayPoolWait *wait;
  BelayFuture *future;
  gpointer lease;
  BelayTurn *turn;
  gint64 now;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  lease = try_lend (self, key, NULL, site);
  if (lease != NULL)
    return belay_resource_future (lease);

  wait = g_new0 (BelayPoolWait, 1);
  wait->site = site;
  turn = belay_async_turn_new (self, &self->lock, &async_class, &future);
  turn->need = (gint64) (guintptr) wait;
  now = belay_now ();
  wait->begin = now;
  wait->group = belay_pool_lock_group (self, key, FALSE);
  if (self->state == BELAY_POOL_RUNNING)
    {
      belay_pool_append (turn, wait, now, &todo);
      belay_pool_dispatch (self, now, &todo);
      belay_pool_unlock (self, &todo);
    }
  else
    {
      belay_pool_group_check (wait->group, &todo);
      belay_pool_unlock (self, &todo);
      belay_async_turn_answer (turn, BELAY_TURN_CLOSED);
    }
  return future;
}

BelayFuture *
(belay_pool_acquire_async) (BelayPool *self)
{
  return belay_pool_acquire_key_async_at (self, NULL, NULL);
}

BelayFuture *
(belay_pool_acquire_key_async) (BelayPool *self, const char *key)
{
  return belay_pool_acquire_key_async_at (self, key, NULL);
}
