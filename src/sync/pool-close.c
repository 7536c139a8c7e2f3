/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end of a pool: RUNNING, then CLOSING, then OVER; or ABANDONED, by force, from either of the first two.
 *
 * CLOSING lends nothing, destroys what is idle, cancels what is being made, and waits for what is lent. ABANDONED waits
 * for nothing: it takes the resources from who has them. What is in use is ended by force at once, but its memory stays
 * until its lease is left: the lease is *revoked*. A resource that has no forced end is destroyed when it comes back.
 *
 * It is OVER when nothing counts any more; then the closers go on. What is STUCK, and jobs that come to their end, keep
 * the memory, and the end of the program waits for them.
 */
#include "sync/pool.h"

GError *
belay_pool_closed_error (const char *name)
{
  return g_error_new (G_IO_ERROR, G_IO_ERROR_CLOSED, "the %s is closed", name);
}

gboolean
belay_pool_is_closed (BelayPool *self)
{
  gboolean closed;

  g_return_val_if_fail (self != NULL, TRUE);

  belay_pool_lock (self);
  closed = self->state != BELAY_POOL_RUNNING;
  belay_spin_unlock (&self->lock);
  return closed;
}

void
belay_pool_check_over (BelayPool *self, BelayPoolTodo *todo)
{
  if (G_LIKELY (self->state == BELAY_POOL_RUNNING) || self->state == BELAY_POOL_OVER || belay_pool_total (self) > 0)
    return;
  self->state = BELAY_POOL_OVER;
  todo->over = TRUE;
  belay_line_serve_all (&self->closers, BELAY_TURN_SERVED, &todo->served);
  if (self->due != G_MAXINT64 || self->timer_on)
    belay_pool_look_at (self, G_MAXINT64, todo);
}

void
belay_pool_fail_destroy (BelayPool *self, gpointer resource, GError *error)
{
  BelayPoolFailure *failure;
  gboolean keep;

  belay_pool_tell (self, BELAY_POOL_DESTROYED, resource, error);
  failure = belay_pool_failure_new (error);
  belay_pool_lock (self);
  keep = self->state != BELAY_POOL_RUNNING && self->state != BELAY_POOL_OVER;
  if (keep)
    {
      *self->last_of_failures = failure;
      self->last_of_failures = &failure->next;
    }
  belay_spin_unlock (&self->lock);
  if (keep)
    return;
  if (self->options.watch == NULL)
    belay_sink_error (error, "destroying a resource of a pool", self->site);
  belay_pool_failure_unref (failure);
}

/* Under the lock: nobody waits any more for what the pool has. */
static void
end_waits (BelayPool *self, int outcome, gint64 now, BelayPoolTodo *todo)
{
  while (self->waiting != NULL)
    {
      BelayPoolGroup *group = belay_pool_first_group (self);

      if (group == NULL)
        break; /* those who are left have just gone */
      belay_pool_serve (group->line.first, outcome, NULL, now, todo);
    }
  belay_line_serve_all (&self->warmers, outcome, &todo->served);
}

static void
close_idle (BelayPool *self, BelayPoolTodo *todo)
{
  while (self->oldest != NULL)
    {
      BelaySlot *slot = self->newest;

      belay_slot_from_idle (slot, BELAY_SLOT_CLOSING);
      belay_slot_close (slot, 0, BELAY_REASON_OK, todo);
    }
}

/* --- gracefully --- */

static void
begin_close (BelayPool *self)
{
  BelayPoolTodo todo = { NULL };

  belay_pool_lock (self);
  if (self->state == BELAY_POOL_RUNNING)
    {
      self->state = BELAY_POOL_CLOSING;
      self->holds++;
      end_waits (self, BELAY_TURN_CLOSED, belay_now (), &todo);
      close_idle (self, &todo);
      belay_pool_cancel_jobs (self);
      belay_pool_check_over (self, &todo);
      belay_pool_let_go (self, &todo);
    }
  belay_pool_unlock (self, &todo);
}

/* Of a closed pool, whose failures are no more changed. */
static gboolean
tell_failures (BelayPool *self, BelayFiber *fiber, GError **error)
{
  BelayErrors *attached = NULL;
  GError *first;

  if (self->failures == NULL)
    return TRUE;
  first = g_error_copy (self->failures->error);
  for (BelayPoolFailure *failure = self->failures->next; failure != NULL; failure = failure->next)
    attached = belay_errors_add (attached, g_error_copy (failure->error), self->site);
  if (attached != NULL)
    {
      belay_error_say_more (first, belay_errors_get_size (attached));
      belay_attached_hold (fiber, first, attached);
    }
  g_propagate_error (error, first);
  return FALSE;
}

gboolean
belay_pool_close (BelayPool *self, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  GError *failure = NULL;
  gboolean ok = TRUE;
  BelayTurn turn;

  g_return_val_if_fail (self != NULL, FALSE);

  if (fiber == NULL || belay_forked ())
    return belay_fail_no_fiber ("belay_pool_close", error);
  belay_pool_ref (self);
  begin_close (self);
  belay_turn_init (&turn, fiber);
  for (;;)
    {
      belay_turn_prepare (&turn, &self->closers, fiber->site);
      belay_pool_lock (self);
      if (self->state == BELAY_POOL_OVER)
        {
          belay_spin_unlock (&self->lock);
          break;
        }
      if (self->state == BELAY_POOL_ABANDONED)
        turn.outcome = BELAY_POOL_TURN_ABANDONED;
      else
        belay_line_append (&self->closers, &turn);
      belay_spin_unlock (&self->lock);
      if (turn.outcome == BELAY_POOL_TURN_ABANDONED || belay_turn_wait (&turn, &self->lock))
        {
          ok = turn.outcome == BELAY_TURN_SERVED;
          if (!ok)
            {
              g_autofree char *state = belay_pool_describe (self);

              g_set_error (&failure, G_IO_ERROR, G_IO_ERROR_CLOSED, "the %s was abandoned before all of it was closed: %s",
                           self->name, state);
            }
          break;
        }
      if (!belay_limit_check (fiber, fiber->site, &failure))
        {
          g_autofree char *state = belay_pool_describe (self);

          g_prefix_error (&failure, "closing the %s, %s: ", self->name, state);
          ok = FALSE;
          break;
        }
    }
  if (ok)
    ok = tell_failures (self, fiber, &failure);
  belay_pool_unref (self);
  if (failure != NULL)
    g_propagate_error (error, failure);
  return ok;
}

gboolean
belay_pool_verb_close (gpointer self, BelayReason reason, GError **error)
{
  return belay_pool_close (self, error);
}

/* --- by force --- */

/* With the lock held, which it leaves and takes again: takes a resource from whoever has it. */
static void
force_used (BelayPool *self, BelaySlot *slot)
{
  BelayPoolTodo todo = { NULL };
  gpointer resource = slot->resource;

  __atomic_store_n (&slot->revoked, TRUE, __ATOMIC_RELAXED);
  if (!belay_pool_can_force (self))
    return;
  slot->forcing = TRUE;
  belay_spin_unlock (&self->lock);
  belay_pool_force (self, resource);
  belay_pool_lock (self);
  slot->forcing = FALSE;
  if (!slot->freed_late)
    return;
  slot->freed_late = FALSE;
  belay_spin_unlock (&self->lock);
  belay_pool_free_resource (self, resource);
  belay_pool_lock (self);
  self->stats.destroyed++;
  belay_slot_to_spare (slot, &todo);
  self->holds++;
  belay_pool_unlock (self, &todo);
  belay_pool_lock (self);
  self->holds--;
}

static void
force_idle (BelayPool *self, BelaySlot *slot)
{
  BelayPoolTodo todo = { NULL };
  gpointer resource = slot->resource;

  belay_slot_from_idle (slot, BELAY_SLOT_RETURNING);
  if (!belay_pool_can_force (self))
    {
      belay_slot_close (slot, 0, BELAY_REASON_CANCELLED, &todo);
      belay_pool_unlock (self, &todo);
      belay_pool_lock (self);
      return;
    }
  belay_spin_unlock (&self->lock);
  belay_pool_force (self, resource);
  belay_pool_free_resource (self, resource);
  belay_pool_lock (self);
  self->stats.destroyed++;
  belay_slot_to_spare (slot, &todo);
  belay_pool_unlock (self, &todo);
  belay_pool_lock (self);
}

static BelaySlot *
find_used (BelayPool *self)
{
  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    if (slot->state == BELAY_SLOT_USED && !slot->revoked)
      return slot;
  return NULL;
}

void
belay_pool_abandon (BelayPool *self)
{
  BelayPoolTodo todo = { NULL };
  BelaySlot *slot;

  g_return_if_fail (self != NULL);
  if (belay_forked ())
    return;

  belay_pool_lock (self);
  if (self->state >= BELAY_POOL_ABANDONED)
    {
      belay_spin_unlock (&self->lock);
      return;
    }
  self->state = BELAY_POOL_ABANDONED;
  self->holds++;
  end_waits (self, BELAY_POOL_TURN_ABANDONED, belay_now (), &todo);
  belay_line_serve_all (&self->closers, BELAY_POOL_TURN_ABANDONED, &todo.served);
  while ((slot = find_used (self)) != NULL)
    force_used (self, slot);
  while ((slot = self->newest) != NULL)
    force_idle (self, slot);
  belay_pool_cancel_jobs (self);
  belay_pool_check_over (self, &todo);
  belay_pool_let_go (self, &todo);
  belay_pool_unlock (self, &todo);
}

void
belay_pool_verb_abandon (gpointer self)
{
  belay_pool_abandon (self);
}

/* --- warming up --- */

gboolean
belay_pool_warm_up (BelayPool *self, guint n, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  GError *failure = NULL;
  gboolean ok = FALSE;
  BelayTurn turn;

  g_return_val_if_fail (self != NULL, FALSE);

  if (fiber == NULL || belay_forked ())
    return belay_fail_no_fiber ("belay_pool_warm_up", error);
  if (!belay_limit_check (fiber, fiber->site, error))
    return FALSE;
  belay_pool_ref (self);
  belay_turn_init (&turn, fiber);
  for (;;)
    {
      BelayPoolTodo todo = { NULL };
      gboolean is_there, closed, too_many;

      belay_turn_prepare (&turn, &self->warmers, fiber->site);
      belay_pool_lock (self);
      turn.need = n == 0 ? self->min : n;
      self->warm = TRUE;
      closed = self->state != BELAY_POOL_RUNNING;
      too_many = turn.need > self->max;
      is_there = self->own.n_total - self->own.n_ending - self->own.n_coming >= (guint) turn.need;
      if (!closed && !too_many && !is_there)
        {
          belay_line_append (&self->warmers, &turn);
          belay_pool_dispatch (self, belay_now (), &todo);
        }
      belay_pool_unlock (self, &todo);
      ok = is_there && !closed;
      if (closed)
        failure = belay_pool_closed_error (self->name);
      else if (too_many)
        failure = g_error_new (BELAY_ERROR, BELAY_ERROR_MISUSE, "the %s cannot be warmed up with %" G_GINT64_FORMAT ": it has %u at most",
                               self->name, turn.need, (guint) self->max);
      if (closed || too_many || is_there)
        break;
      if (belay_turn_wait (&turn, &self->lock))
        {
          BelayPoolFailure *failed = turn.item;

          if (turn.outcome == BELAY_POOL_TURN_AGAIN)
            continue;
          ok = turn.outcome == BELAY_TURN_SERVED;
          if (turn.outcome == BELAY_POOL_TURN_FAILED)
            {
              failure = g_error_copy (failed->error);
              belay_pool_failure_unref (failed);
            }
          else if (!ok)
            {
              failure = belay_pool_closed_error (self->name);
            }
          break;
        }
      if (!belay_limit_check (fiber, fiber->site, &failure))
        break;
    }
  belay_pool_unref (self);
  if (failure != NULL)
    g_propagate_error (error, failure);
  return ok;
}
