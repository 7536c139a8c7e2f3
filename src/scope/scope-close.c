/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Closing a scope: join the children, then release what is left.
 *
 * It runs in a fiber at the scope's home. The first closer does it; a later one waits for the first and has its result;
 * one from another home has it done there. The reason that releases get is fixed when RELEASING begins.
 *
 * The waits of a close are deaf: a cancellation or a time-out around the closer is told to nobody. But a release that
 * closes another scope is bounded with it. When its time is up it leaves: the scope is cancelled, and what is left to do is
 * done by a detached fiber, which the end of the program waits for. A scope whose children are in limits of the closer
 * cannot be left; they are inside of the same release, and their own checkpoints end them.
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
  if (belay_scope_count_children (self, -1) == 0)
    closer = self->closer;
  belay_spin_unlock (&self->lock);
  if (closer != NULL)
    belay_fiber_wake (closer);
}

/* FALSE: the release around the closer is out of time, and the scope can be left. */
static gboolean
join (BelayScope *self, BelayFiber *fiber)
{
  gboolean bounded = TRUE;

  while (has_children (self)) /* that the last one goes, we see: it goes on this thread */
    {
      gint64 until = bounded ? belay_limit_release_deadline (fiber) : G_MAXINT64; /* it may have been drawn nearer */

      if (until != G_MAXINT64 && belay_limit_expire_release (fiber))
        {
          if (self->body == NULL || self->children == NULL)
            return FALSE;
          bounded = FALSE;
          until = G_MAXINT64;
        }
      belay_stack_set_wait (fiber->stack, BELAY_WAITS_FOR_CHILDREN, self, self->site);
      belay_fiber_suspend (fiber, BELAY_WAIT_DEAF, until);
    }
  return TRUE;
}

static gboolean
fail_late (BelayScope *self, GError **error)
{
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT, "the scope from %s was not closed by the deadline of the "
               "release that closes it; it was cancelled", self->site != NULL ? self->site : "?");
  return FALSE;
}

static gboolean
finish_late (gpointer data, GError **error)
{
  BelayScope *self = data;

  if (!belay_scope_finish (self, BELAY_REASON_LEFT, NULL))
    belay_scope_pass_errors (self, NULL, "closing a scope after its release was out of time");
  return TRUE;
}

/* The closer leaves: its scope is stored, cancelled and open from here on, and closed by a fiber of its own. */
static void
leave_to_another (BelayScope *self)
{
  if (self->limit.fiber != NULL)
    {
      belay_limit_pop (self->limit.fiber, &self->limit);
      self->limit.outer = NULL;
    }
  belay_spin_lock (&self->lock);
  self->state = BELAY_SCOPE_OPEN;
  self->closer = NULL;
  self->body = NULL;
  self->inside = &self->limit;
  belay_spin_unlock (&self->lock);
  belay_scope_cancel (self, "the release that closed it was out of time");
  belay_future_unref (belay_task_detached (self->context, finish_late, belay_scope_ref (self),
                                           (GDestroyNotify) belay_scope_unref, self->site));
}

/* TRUE when the fiber is in a release of the scope's, by itself or as a child of it: its close waits for that. */
static gboolean
is_in_release (BelayScope *self, BelayFiber *fiber)
{
  gboolean in_release = FALSE;

  if (self->state != BELAY_SCOPE_RELEASING)
    return FALSE;
  for (BelayLimit *limit = fiber->stack->limit; limit != NULL; limit = limit->outer)
    {
      if (limit == self->outside)
        return in_release;
      if (limit->owns && limit->fiber == self->closer)
        in_release = TRUE;
    }
  return FALSE;
}

static gboolean
fail_own_release (BelayScope *self, GError **error)
{
  g_critical ("the scope from %s is closed from inside of its own close", self->site != NULL ? self->site : "?");
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a scope cannot be closed by its own release");
  return FALSE;
}

/* A later closer waits for the first, and has its result. */
static gboolean
join_close (BelayScope *self, BelayFiber *fiber, GError **error)
{
  BelayFuture *closed, *fresh;

  if (self->closer == fiber || is_in_release (self, fiber))
    return fail_own_release (self, error);
  fresh = belay_future_block_new (BelayFuture);
  belay_future_init (fresh, 1);
  belay_spin_lock (&self->lock);
  if (self->closed == NULL)
    self->closed = g_steal_pointer (&fresh);
  closed = self->closed;
  belay_spin_unlock (&self->lock);
  if (fresh != NULL)
    belay_future_unref (fresh);
  if (self->state != BELAY_SCOPE_CLOSED && !belay_release_await (fiber, closed, self->site))
    {
      belay_scope_cancel (self, "the release that waits for its close was out of time");
      return fail_late (self, error);
    }
  if (self->errors != NULL)
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

static void
free_finish (gpointer data)
{
  Finish *finish = data;

  belay_scope_unref (finish->scope);
  g_free (finish);
}

/* Closed from the fiber of another home: done at its own. */
static gboolean
finish_from_afar (BelayScope *self, BelayFiber *fiber, BelayReason reason, GError **error)
{
  g_autoptr (BelayFuture) done = NULL;
  Finish *finish;

  if (belay_context_is_gone (self->context))
    {
      if (self->state != BELAY_SCOPE_CLOSED)
        belay_resource_abandon (belay_scope_ref (self));
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the scope's main context has ended; what it owned was ended "
                           "by force");
      return FALSE;
    }
  finish = g_new (Finish, 1);
  *finish = (Finish) { belay_scope_ref (self), reason };
  done = belay_task_detached (self->context, finish_at_home, finish, free_finish, self->site);
  if (belay_release_await (fiber, done, self->site))
    return belay_future_check (done, error);
  belay_scope_cancel (self, "the release that waits for its close was out of time");
  return fail_late (self, error);
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
  if (reason == BELAY_REASON_CANCELLED && !(self->failed && self->errors != NULL))
    {
      const char *why = why_cancelled (limit);

      if (why == NULL)
        return;
      self->errors = belay_errors_add_first (self->errors, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, why),
                                             self->site);
      self->interruption = 1;
    }
  else if ((reason == BELAY_REASON_DEADLINE && self->body != NULL) || self->child_late)
    {
      belay_scope_add_error (self, g_error_new (G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "timed out in the scope from %s",
                                                self->site != NULL ? self->site : "?"), NULL, NULL);
      if (self->body != NULL)
        self->interruption = belay_errors_get_size (self->errors);
    }
}

/* FALSE: another thread has just given it a chain to wait for. */
static gboolean
try_to_end (BelayScope *self)
{
  gboolean ended;

  belay_spin_lock (&self->lock);
  ended = !has_children (self);
  if (G_LIKELY (ended))
    {
      self->state = BELAY_SCOPE_CLOSED;
      self->closer = NULL;
      self->inside = &self->limit; /* a fiber's root limit goes with the fiber */
    }
  belay_spin_unlock (&self->lock);
  return ended;
}

gboolean
belay_scope_finish (BelayScope *self, BelayReason reason, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayLimit *limit;
  gboolean first;

  if (G_UNLIKELY (self->context != fiber->context))
    return finish_from_afar (self, fiber, reason, error);

  if (G_UNLIKELY (self->early != NULL && belay_early_is_around (self, fiber)))
    return fail_own_release (self, error);
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
    belay_scope_cancel_left (self, reason);
  belay_chains_drop (self);
  if (G_UNLIKELY (!join (self, fiber)))
    {
      leave_to_another (self);
      return fail_late (self, error);
    }

  if (reason == BELAY_REASON_OK || reason == BELAY_REASON_LEFT)
    {
      if (limit->observed != 0)
        reason = (BelayReason) limit->observed;
      else if (reason == BELAY_REASON_OK && self->child_cancelled && !self->failed && belay_limit_is_cancelled (limit))
        reason = BELAY_REASON_CANCELLED;
      else if (self->errors != NULL)
        reason = BELAY_REASON_ERROR;
      else if (reason == BELAY_REASON_OK && self->child_late)
        reason = BELAY_REASON_DEADLINE;
    }
  add_interruption (self, limit, reason);
  belay_spin_lock (&self->lock);
  self->state = BELAY_SCOPE_RELEASING;
  self->reason = (guint8) reason;
  self->body = NULL;
  belay_spin_unlock (&self->lock);
  if (self->limit.fiber != NULL)
    belay_limit_pop (self->limit.fiber, &self->limit);
  self->outside = fiber->stack->limit;
  belay_entries_release (self, fiber, reason);
  do
    if (G_UNLIKELY (!join (self, fiber))) /* chains that came late and borrow */
      {
        leave_to_another (self);
        return fail_late (self, error);
      }
  while (G_UNLIKELY (!try_to_end (self)));
  belay_leaks_let_go (self);
  if (G_UNLIKELY (self->locals != NULL))
    belay_locals_free (self);
  if (self->closed != NULL)
    belay_future_settle (self->closed, BELAY_KIND_DONE, (BelayValue) { .p = NULL }, (BelayAux) { NULL });

  if (self->errors == NULL)
    return TRUE;
  g_propagate_error (error, belay_scope_summary (self));
  return FALSE;
}

gboolean
belay_scope_close (BelayScope **scope, GError **error)
{
  return belay_close (scope, error);
}
