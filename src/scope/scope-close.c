/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Closing a scope: join the children, then release what is left.
 *
 * It runs in a fiber at the scope's home. The first closer does it; a later one waits for the first and has its result;
 * one from another home has it done there. The reason that releases get is fixed when RELEASING begins.
 */
#include "scope/scope-private.h"

static inline gboolean
has_children (BelayScope *self)
{
  return atomic_load_explicit (&self->n_children, memory_order_relaxed) != 0;
}

void
belay_scope_leave (BelayScope *self, BelayTask *task)
{
  BelayFiber *closer = NULL;

  belay_spin_lock (&self->lock);
  if (task != NULL)
    {
      if (task->prev != NULL)
        task->prev->next = task->next;
      else
        self->children = task->next;
      if (task->next != NULL)
        task->next->prev = task->prev;
    }
  if (belay_scope_count_children (self, -1) == 0 && self->state == BELAY_SCOPE_JOINING)
    closer = self->closer;
  belay_spin_unlock (&self->lock);
  if (closer != NULL)
    belay_fiber_wake (closer);
}

static void
join (BelayScope *self, BelayFiber *fiber)
{
  while (has_children (self)) /* that the last one goes, we see: it goes on this thread */
    {
      fiber->stack->wait_site = self->site;
      belay_fiber_suspend (fiber, BELAY_WAIT_DEAF, G_MAXINT64);
    }
}

/* A later closer waits for the first, and has its result. */
static gboolean
join_close (BelayScope *self, BelayFiber *fiber, GError **error)
{
  BelayFuture *closed, *fresh;

  if (self->closer == fiber)
    {
      g_critical ("the scope from %s is closed from inside of its own close", self->site != NULL ? self->site : "?");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a scope cannot be closed by its own release");
      return FALSE;
    }
  fresh = belay_future_block_new (BelayFuture);
  belay_future_init (fresh, 1);
  belay_spin_lock (&self->lock);
  if (self->closed == NULL)
    self->closed = g_steal_pointer (&fresh);
  closed = self->closed;
  belay_spin_unlock (&self->lock);
  if (fresh != NULL)
    belay_future_unref (fresh);
  if (self->state != BELAY_SCOPE_CLOSED)
    belay_fiber_await_deaf (fiber, closed, self->site);
  if (self->errors != NULL && self->errors->len > 0)
    {
      g_propagate_error (error, belay_scope_summary (self));
      return FALSE;
    }
  return TRUE;
}

/* TRUE when the fiber is a descendant of the scope's, which a close would wait for. */
static gboolean
is_inside (BelayScope *self, BelayFiber *fiber)
{
  for (BelayLimit *limit = &fiber->stack->root; limit != NULL; limit = limit->outer)
    if (limit == self->inside && limit->fiber != fiber)
      return TRUE;
  return FALSE;
}

typedef struct
{
  BelayScope *scope;
  BelayReason reason;
} Finish;

static gboolean
finish_at_home (gpointer data, GError **error)
{
  Finish *finish = data;

  return belay_scope_finish (finish->scope, finish->reason, error);
}

/* Closed from the fiber of another home: done at its own. */
static gboolean
finish_from_afar (BelayScope *self, BelayFiber *fiber, BelayReason reason, GError **error)
{
  Finish finish = { self, reason };
  g_autoptr (BelayFuture) done = belay_task_detached (self->context, finish_at_home, &finish, NULL, self->site);

  belay_fiber_await_deaf (fiber, done, self->site);
  return belay_future_check (done, error);
}

static const char *
why_cancelled (BelayLimit *limit)
{
  for (; limit != NULL; limit = limit->shield ? NULL : limit->outer)
    if (atomic_load_explicit (&limit->cancelled, memory_order_acquire))
      return atomic_load_explicit (&limit->reason, memory_order_acquire);
  return NULL;
}

/*
 * What interrupted the body, or the wait for a child, is an error too. A cancellation goes before all others, unless it
 * was the group's own, because a member failed; the end of the time after what failed before, and before what a release
 * adds. A stored scope has no body, so its closer's troubles are none of its own.
 */
static void
add_interruption (BelayScope *self, BelayLimit *limit, BelayReason reason)
{
  GError *error;

  if (reason == BELAY_REASON_CANCELLED && !(self->failed && self->errors != NULL))
    {
      const char *why = why_cancelled (limit);

      if (why == NULL)
        return;
      error = g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, why);
    }
  else if ((reason == BELAY_REASON_DEADLINE && self->body != NULL) || self->child_late)
    {
      error = g_error_new (G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "timed out in the scope from %s",
                           self->site != NULL ? self->site : "?");
    }
  else
    {
      return;
    }
  belay_scope_add_error (self, error);
  if (self->body != NULL || reason == BELAY_REASON_CANCELLED)
    self->interruption = error;
  if (reason == BELAY_REASON_CANCELLED)
    g_ptr_array_insert (self->errors, 0, g_ptr_array_steal_index (self->errors, self->errors->len - 1));
}

gboolean
belay_scope_finish (BelayScope *self, BelayReason reason, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayLimit *limit;
  gboolean first;

  if (G_UNLIKELY (self->context != fiber->context))
    return finish_from_afar (self, fiber, reason, error);

  if (G_UNLIKELY (has_children (self) && is_inside (self, fiber)))
    {
      g_critical ("the scope from %s is closed by one of its own fibers, which it would wait for",
                  self->site != NULL ? self->site : "?");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a scope cannot be closed by its own fiber: cancel it");
      return FALSE;
    }

  belay_spin_lock (&self->lock);
  first = self->state == BELAY_SCOPE_OPEN;
  if (first)
    {
      self->state = BELAY_SCOPE_JOINING;
      self->closer = fiber;
    }
  belay_spin_unlock (&self->lock);
  if (!first)
    return join_close (self, fiber, error);

  limit = self->inside;
  if (reason == BELAY_REASON_LEFT && self->body == fiber && fiber != NULL)
    reason = belay_limit_reason (fiber);
  if (reason != BELAY_REASON_OK && has_children (self))
    belay_scope_cancel (self, "the scope around it was left");
  belay_chains_drop (self);
  join (self, fiber);

  if (reason == BELAY_REASON_OK || reason == BELAY_REASON_LEFT)
    {
      if (limit->observed != 0)
        reason = (BelayReason) limit->observed;
      else if (reason == BELAY_REASON_OK && self->child_cancelled && !self->failed && belay_limit_is_cancelled (limit))
        reason = BELAY_REASON_CANCELLED;
      else if (self->errors != NULL && self->errors->len > 0)
        reason = BELAY_REASON_ERROR;
      else if (reason == BELAY_REASON_OK && self->child_late)
        reason = BELAY_REASON_DEADLINE;
    }
  add_interruption (self, limit, reason);
  belay_spin_lock (&self->lock);
  self->state = BELAY_SCOPE_RELEASING;
  self->body = NULL;
  belay_spin_unlock (&self->lock);
  if (self->limit.fiber != NULL)
    belay_limit_pop (self->limit.fiber, &self->limit);
  belay_entries_release (self, fiber, reason);

  belay_spin_lock (&self->lock);
  self->state = BELAY_SCOPE_CLOSED;
  self->closer = NULL;
  self->inside = &self->limit; /* a fiber's root limit goes with the fiber */
  belay_spin_unlock (&self->lock);
  if (self->closed != NULL)
    belay_future_settle (self->closed, BELAY_KIND_DONE, (BelayValue) { .p = NULL }, (BelayAux) { NULL });

  if (self->errors == NULL || self->errors->len == 0)
    return TRUE;
  g_propagate_error (error, belay_scope_summary (self));
  return FALSE;
}

gboolean
belay_scope_close (BelayScope **scope, GError **error)
{
  return belay_close (scope, error);
}
