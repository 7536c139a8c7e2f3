/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tasks: fibers that run a user's function, and end as a scope's children must.
 *
 * The end of a task, in order: the function returns; limits that it left behind, a scope that it began and never closed,
 * say, are reported and taken off, since they would outlive the fiber that they interrupt; its own scope, if it made one, is closed (children joined, entries
 * released); locks that it has still are reported and broken; the outcome is decided; the future is settled, which wakes whoever awaits it; a failure that is the scope's
 * is given to the scope; the scope is left, which may wake its closer. After that the record is touched no more.
 *
 * The outcome is one error on top, and what is attached to it: what the function was told of beside the error that it
 * returned, its own scope's errors that are not on top, and a time-out that passed when the error is another one.
 *
 * Whose is a failure? A member of a group's (belay_scope_spawn) is the scope's. Another child's is that of whoever holds
 * its future; when nobody does, it is the scope's too, so that no error is lost. The fibers of a loop are no group: what
 * nobody holds there goes to the sink, and the others run on.
 */
#include "run/owned.h"
#include "scope/scope-private.h"

/* Under the lock of what is pending. */
static void
describe (BelayPending *pending, gpointer home, GPtrArray *lines)
{
  BelayTask *self = (BelayTask *) ((char *) pending - G_STRUCT_OFFSET (BelayTask, pending));
  BelayStack *stack = home == self->fiber.context ? self->fiber.stack : NULL;
  gboolean opens = self->makes_value && self->destroy == belay_resource_drop;
  const char *site = self->fiber.site;
  GString *line;

  if (self->data != NULL && !self->makes_value && self->func == belay_batch_run)
    {
      belay_batch_describe (self->data, lines);
      return;
    }
  if (self->data != NULL && !self->makes_value && self->func == belay_close_now)
    {
      belay_close_describe (self->data, lines);
      return;
    }
  line = g_string_new (opens ? "opening a resource" : "a fiber");
  if (site != NULL)
    g_string_append_printf (line, " from %s", site);
  if (stack != NULL && stack->wait != BELAY_WAIT_NONE && stack->wait_site != NULL)
    g_string_append_printf (line, ", waiting at %s", stack->wait_site);
  g_ptr_array_add (lines, g_string_free (line, FALSE));
}

/* Under the lock of what is pending. */
static void
cancel_pending (BelayPending *pending)
{
  BelayTask *self = (BelayTask *) ((char *) pending - G_STRUCT_OFFSET (BelayTask, pending));

  if (!belay_context_is_gone (self->fiber.context))
    belay_fiber_cancel (&self->fiber, "the program has ended");
}

static BelayPendingKind detached_tasks = { .describe = describe, .cancel = cancel_pending };

static void
drop_data (BelayTask *self)
{
  gpointer data = self->data;

  if (self->destroy_data == NULL)
    return;
  if (self->scope == NULL)
    {
      belay_pending_lock (); /* a report may be looking at it */
      self->data = NULL;
      belay_pending_unlock ();
    }
  self->destroy_data (data);
}

/* What nobody holds: the scope's, as its failure or as one more error, or else the sink's. */
static void
give_to_scope (BelayTask *self, const GError *error, BelayErrors *attached)
{
  BelayScope *scope = self->scope;
  const char *site = self->fiber.site;
  /* A cancellation is no failure of the group's, and the end of a time that all have the scope says itself. */
  gboolean counts = !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) && !(self->late && scope != NULL);

  atomic_fetch_or (&self->fiber.future.flags, BELAY_FUTURE_SEEN);
  if (scope == NULL || scope->apart || belay_context_is_gone (self->fiber.context)) /* nobody is left to be cancelled with it */
    {
      const char *what = scope == NULL ? "a detached fiber" : scope->apart ? "a fiber of a loop" : "a fiber";

      if (counts)
        belay_sink_error (error, what, site);
      belay_errors_sink (attached, what);
    }
  else if (counts)
    {
      belay_scope_child_failed (scope, g_error_copy (error), attached != NULL ? belay_errors_ref (attached) : NULL, site);
    }
  else
    {
      for (guint i = 0; i < belay_errors_get_size (attached); i++)
        belay_scope_add_error (scope, g_error_copy (belay_errors_get (attached, i)), NULL, belay_errors_get_site (attached, i));
    }
}

/* Decides the outcome and leaves the scope. (transfer full) @error and (nullable) @attached. */
static void
conclude (BelayTask *self, gpointer value, GError *error, BelayErrors *attached)
{
  BelayFuture *future = &self->fiber.future;
  BelayContext *context = self->fiber.context;
  BelayScope *scope = self->scope;

  if (G_LIKELY (error == NULL))
    {
      if (value != NULL && belay_future_has_interest (future))
        {
          belay_future_settle (future, BELAY_KIND_POINTER, (BelayValue) { .p = value }, (BelayAux) { .destroy = self->destroy });
        }
      else
        {
          /* A value that nobody waits for goes at once: a notice that is queued may keep the future for a while. */
          if (value != NULL)
            belay_value_clear (BELAY_KIND_POINTER, (BelayValue) { .p = value }, (BelayAux) { .destroy = self->destroy });
          belay_future_settle (future, BELAY_KIND_DONE, (BelayValue) { .p = NULL }, (BelayAux) { NULL });
        }
    }
  else
    {
      if (value != NULL)
        belay_value_clear (BELAY_KIND_POINTER, (BelayValue) { .p = value }, (BelayAux) { .destroy = self->destroy });
      if (scope != NULL && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        scope->child_cancelled = TRUE;
      if (scope != NULL && self->late)
        scope->child_late = TRUE;
      if (!belay_future_has_interest (future) || self->group)
        give_to_scope (self, error, attached);
      belay_future_settle_errors (future, error, attached);
    }
  if (scope != NULL)
    {
      belay_scope_leave (scope, self);
      belay_future_unref_writer (future);
      return;
    }
  if (G_UNLIKELY (self->root))
    belay_pending_set_program (NULL);
  belay_pending_forget (&detached_tasks, &self->pending);
  belay_future_unref_writer (future);
  context->n_detached--; /* last: what was released with the future is counted by now */
  belay_pending_add (-1);
}

/*
 * Whether what stopped the fiber, or a child of its own whose error it passes on, was the deadline of something around it,
 * which the others there have, too.
 */
static gboolean
is_late (BelayTask *self, const GError *error)
{
  gboolean shielded = FALSE;
  gint64 now;

  if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT) ||
      (self->fiber.stack->root.observed != BELAY_REASON_DEADLINE && !self->late))
    return FALSE;
  now = belay_now ();
  for (BelayLimit *limit = self->fiber.outer; limit != NULL; limit = belay_limit_next (limit, &shielded))
    if (atomic_load_explicit (&limit->deadline, memory_order_acquire) <= now)
      return TRUE;
  return FALSE;
}

/* What is called from here on, a destroy function say, is in no fiber any more. */
static inline void
leave_stack (BelayFiber *fiber)
{
  fiber->stack = NULL;
  fiber->context->current = NULL;
  fiber->context->level->covered = NULL;
}

/*
 * The function has returned, with @error (transfer full) or NULL. Closes its own scope and decides the result: a
 * cancellation from outside that it observed, whatever it said; else its own error, unless that only tells of a failure
 * that the scope has; else the scope's. What is not on top is added to @inout_attached, in the order of what happened.
 */
static GError *
end_scope (BelayTask *self, BelayStack *stack, GError *error, BelayErrors **inout_attached)
{
  BelayScope *scope = stack->scope;
  BelayReason observed = (BelayReason) stack->root.observed;
  GError *scope_error = NULL;
  gboolean cancelled, late = FALSE;
  guint first = 0; /* of the scope's errors that are not on top */

  if (scope != NULL)
    {
      BelayReason reason = error == NULL ? BELAY_REASON_OK : belay_limit_reason (&self->fiber);

      belay_scope_finish (scope, reason == BELAY_REASON_LEFT ? BELAY_REASON_ERROR : reason, &scope_error);
      self->late = scope->child_late;
    }
  cancelled = observed == BELAY_REASON_CANCELLED && !(scope != NULL && scope->failed);

  if (error == NULL)
    {
      error = g_steal_pointer (&scope_error);
      first = 1;
      if (error == NULL && observed != BELAY_REASON_OK)
        belay_limit_check (&self->fiber, self->fiber.site, &error);
    }
  else if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      if (cancelled)
        {
          BelayErrors *body = belay_errors_add (NULL, g_steal_pointer (&error), self->fiber.site);

          body = belay_errors_add_all (body, *inout_attached, 0);
          g_clear_pointer (inout_attached, belay_errors_unref);
          *inout_attached = body;
          belay_limit_check (&self->fiber, self->fiber.site, &error);
        }
      late = observed == BELAY_REASON_DEADLINE && !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    }
  else if (scope_error != NULL && !cancelled && stack->observed && !g_error_matches (scope_error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      /* It was cancelled by what failed in the scope, not from outside. */
      g_error_free (error);
      error = g_steal_pointer (&scope_error);
      first = 1;
    }

  if (late)
    *inout_attached = belay_errors_add (*inout_attached, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                                                                              "the fiber ran out of time"), self->fiber.site);
  if (scope != NULL)
    {
      *inout_attached = belay_scope_list_errors (scope, *inout_attached, first);
      belay_scope_unref (scope);
    }
  g_clear_error (&scope_error);
  return error;
}

/* A guard that went elsewhere than to the end of its block. Whoever has it finds a closed scope, or a limit of no fiber. */
static G_NO_INLINE void
take_off_limits (BelayFiber *fiber)
{
  BelayStack *stack = fiber->stack;

  while (stack->limit != &stack->root)
    {
      BelayLimit *limit = stack->limit;
      BelayScope *scope = belay_scope_of_limit (limit);

      if (scope == NULL)
        {
          g_critical ("a %s was not left before the end of its fiber, from %s", limit->klass->name,
                      fiber->site != NULL ? fiber->site : "?");
          belay_strict_end ("a guard that was left behind");
          belay_limit_pop (fiber, limit);
          continue;
        }
      g_critical ("the scope from %s was not closed before the end of its fiber", scope->site != NULL ? scope->site : "?");
      belay_strict_end ("a scope that was left open");
      belay_scope_ref (scope);
      if (!belay_scope_finish (scope, belay_limit_reason (fiber), NULL))
        belay_scope_pass_errors (scope, belay_scope_innermost (fiber), "closing a BelayScope");
      belay_scope_unref (scope);
    }
}

/* Refuses to run: no stack, no home, or cancelled before it began. (transfer full) @error. */
static void
fail_unstarted (BelayTask *self, GError *error)
{
  drop_data (self);
  conclude (self, NULL, error, NULL);
}

static void
task_entry (BelayFiber *fiber)
{
  BelayTask *self = (BelayTask *) fiber;
  BelayStack *stack = fiber->stack;
  BelayErrors *attached = NULL;
  gpointer value = NULL;
  GError *error = NULL;
  gboolean ok;

  if (G_UNLIKELY (stack == NULL))
    {
      fail_unstarted (self, belay_context_is_gone (fiber->context)
                              ? belay_context_gone_error ()
                              : g_error_new_literal (BELAY_ERROR, BELAY_ERROR_NO_STACK,
                                                     "there is no memory for one more fiber's stack; see vm.max_map_count "
                                                     "and the limits of the process"));
      return;
    }
  if (G_UNLIKELY (fiber->future.mark == BELAY_FIBER_STILLBORN || !belay_limit_check (fiber, fiber->site, &error)))
    {
      self->late = error != NULL && is_late (self, error);
      leave_stack (fiber);
      if (error == NULL)
        error = g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "cancelled before it began");
      fail_unstarted (self, error);
      return;
    }

  if (self->makes_value)
    {
      value = self->value_func (self->data, &error);
      if (G_UNLIKELY (self->destroy == belay_resource_drop && value != NULL && !belay_resource_is_valid (value)))
        value = belay_resource_refuse (value, &error);
      ok = value != NULL;
    }
  else
    {
      ok = self->func (self->data, &error);
    }
  if (belay_forked ())
    belay_end_forked ("a fiber's function");
  if (G_UNLIKELY (ok != (error == NULL)))
    {
      g_autofree char *what = g_strdup_printf ("the fiber from %s", fiber->site != NULL ? fiber->site : "somewhere");

      ok = belay_check_result (ok, &error, what);
    }
  drop_data (self);

  if (G_UNLIKELY (stack->limit != &stack->root))
    take_off_limits (fiber);
  if (G_UNLIKELY (stack->holds))
    attached = belay_attached_end (fiber, error);
  if (G_UNLIKELY (stack->scope != NULL || stack->root.observed != 0))
    {
      error = end_scope (self, stack, error, &attached);
      self->late = error != NULL && is_late (self, error);
    }
  if (G_UNLIKELY (stack->owned != NULL))
    belay_owned_end (fiber);
  leave_stack (fiber);
  conclude (self, value, error, attached);
}

/* TRUE when somebody was told, by callbacks that may have changed everything. */
static gboolean
tell_a_cancellable (BelayFiber *fiber)
{
  BelayStack *stack = fiber->stack;

  if (stack == NULL)
    return FALSE;
  for (BelayLimit *limit = stack->limit; limit != NULL && limit->fiber == fiber; limit = limit->outer)
    {
      BelayScope *scope = belay_scope_of_limit (limit);

      if (scope != NULL && belay_scope_tell_cancellable (scope))
        return TRUE;
    }
  return stack->scope != NULL && belay_scope_tell_cancellable (stack->scope);
}

/* The limits around a fiber have changed: so have those around the children and the cancellables of the scopes in it. */
static void
task_poked (BelayFiber *fiber)
{
  for (BelayLimit *limit = fiber->stack->limit; limit != NULL && limit->fiber == fiber; limit = limit->outer)
    {
      BelayScope *scope = belay_scope_of_limit (limit);

      if (scope != NULL)
        belay_scope_poke_children (scope);
    }
  if (fiber->stack->scope != NULL)
    belay_scope_poke_children (fiber->stack->scope);
  while (tell_a_cancellable (fiber))
    ;
}

BelayTask *
belay_task_new (BelayContext *context, BelayLimit *outer, BelayFunc func, BelayValueFunc value_func, gpointer data,
                GDestroyNotify destroy_data, GDestroyNotify destroy, const char *site)
{
  BelayTask *self = belay_future_block_new (BelayTask);

  belay_fiber_init (&self->fiber, context, outer, task_entry, site);
  self->fiber.poked = task_poked;
  self->makes_value = value_func != NULL;
  if (value_func != NULL)
    self->value_func = value_func;
  else
    self->func = func;
  self->data = data;
  self->destroy_data = destroy_data;
  self->destroy = destroy;
  self->scope = NULL;
  self->root = FALSE;
  self->group = FALSE;
  self->late = FALSE;
  return self;
}

void
belay_task_refuse (BelayTask *self, GError *error)
{
  drop_data (self);
  if (!belay_future_has_interest (&self->fiber.future)) /* then the caller is told by the result */
    atomic_fetch_or (&self->fiber.future.flags, BELAY_FUTURE_SEEN);
  belay_future_settle_error (&self->fiber.future, error);
  belay_future_unref_writer (&self->fiber.future);
}

gboolean
belay_task_start (BelayTask *self, BelayScope *scope)
{
  gboolean accepted;

  belay_spin_lock (&scope->lock);
  accepted = scope->state == BELAY_SCOPE_OPEN || (scope->state == BELAY_SCOPE_JOINING && belay_scope_count_children (scope, 0) > 0);
  accepted = accepted && !atomic_load_explicit (&scope->inside->cancelled, memory_order_acquire);
  if (G_LIKELY (accepted))
    {
      self->scope = scope;
      self->fiber.outer = scope->inside;
      self->prev = NULL;
      self->next = scope->children;
      if (self->next != NULL)
        self->next->prev = self;
      scope->children = self;
      belay_scope_count_children (scope, 1);
    }
  belay_spin_unlock (&scope->lock);

  if (G_LIKELY (accepted))
    {
      belay_context_push (self->fiber.context, &self->fiber.item);
      return TRUE;
    }
  belay_task_refuse (self, belay_scope_is_cancelled (scope)
                             ? g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "the scope is cancelled")
                             : g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CLOSED, "the scope is closed"));
  return FALSE;
}

void
belay_task_start_detached (BelayTask *self)
{
  BelayContext *context = self->fiber.context;

  if (G_UNLIKELY (self->root))
    belay_pending_set_program (self);
  belay_pending_begin (&detached_tasks, &self->pending);
  if (G_LIKELY (belay_thread.context == context))
    context->n_detached++;
  else
    atomic_fetch_add (&context->n_detached_remote, 1);
  belay_context_push (context, &self->fiber.item);
}

static void
on_dropped (gpointer data)
{
  BelayTask *self = data;

  belay_fiber_cancel (&self->fiber, "nobody waits for it any more");
}

/* The fiber may have ended while it was being cancelled from another thread, and its context with it. */
static void
on_dropped_over (gpointer data)
{
  BelayTask *self = data;

  belay_context_unref (self->fiber.context);
}

void
belay_task_cancel_when_dropped (BelayTask *self)
{
  belay_context_ref (self->fiber.context);
  belay_future_on_cancel (&self->fiber.future, on_dropped, self, on_dropped_over);
}

BelayFuture *
belay_task_detached (BelayContext *context, BelayFunc func, gpointer data, GDestroyNotify destroy_data, const char *site)
{
  BelayTask *task = belay_task_new (context, NULL, func, NULL, data, destroy_data, NULL, site);

  belay_task_start_detached (task);
  return &task->fiber.future;
}

/* --- the public spawns --- */

/* The fiber is its scope's: it goes on when its future is dropped, and is cancelled and joined when it loses a race. */
static inline void
make_joined (BelayTask *self)
{
  atomic_init (&self->fiber.future.flags, BELAY_FUTURE_JOINED | BELAY_FUTURE_KEPT);
  belay_future_on_cancel (&self->fiber.future, on_dropped, self, NULL);
}

static BelayFuture *
spawn (BelayFunc func, BelayValueFunc value_func, gpointer data, GDestroyNotify destroy, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayFuture *future;
  BelayScope *scope;
  BelayTask *task;

  if (belay_forked ())
    return belay_fiber_refuse ();
  if (fiber == NULL)
    {
      task = belay_task_new (belay_context_get (), NULL, func, value_func, data, NULL, destroy, site);
      make_joined (task);
      belay_task_start_detached (task);
      return &task->fiber.future;
    }
  future = belay_fiber_refuse ();
  if (G_UNLIKELY (future != NULL))
    return future;
  scope = belay_scope_innermost (fiber);
  task = belay_task_new (scope->context, NULL, func, value_func, data, NULL, destroy, site);
  make_joined (task);
  belay_task_start (task, scope);
  return &task->fiber.future;
}

BelayFuture *
belay_task_start_borrowing (BelayFunc func, BelayValueFunc value_func, gpointer data, GDestroyNotify destroy_data,
                            GDestroyNotify destroy, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayScope *scope = fiber != NULL ? belay_scope_innermost (fiber) : NULL;
  BelayTask *task = belay_task_new (scope != NULL ? scope->context : belay_context_get (), NULL, func, value_func, data,
                                    destroy_data, destroy, site);

  atomic_init (&task->fiber.future.flags, BELAY_FUTURE_JOINED | BELAY_FUTURE_BORROWING);
  belay_task_cancel_when_dropped (task);
  if (scope != NULL)
    belay_task_start (task, scope);
  else
    belay_task_start_detached (task);
  return &task->fiber.future;
}

BelayFuture *
belay_spawn_at (BelayFunc func, gpointer data, const char *site)
{
  g_return_val_if_fail (func != NULL, NULL);
  return spawn (func, NULL, data, NULL, site);
}

BelayFuture *
belay_spawn_value_at (BelayValueFunc func, gpointer data, GDestroyNotify destroy, const char *site)
{
  g_return_val_if_fail (func != NULL, NULL);
  return spawn (NULL, func, data, destroy, site);
}

BelayFuture *
(belay_spawn) (BelayFunc func, gpointer data)
{
  return belay_spawn_at (func, data, NULL);
}

BelayFuture *
(belay_spawn_value) (BelayValueFunc func, gpointer data, GDestroyNotify destroy)
{
  return belay_spawn_value_at (func, data, destroy, NULL);
}

gboolean
belay_task_start_in (BelayTask *self, BelayScope *scope)
{
  if (G_LIKELY (belay_thread.context != scope->context || !belay_limit_is_cancelled (scope->inside)))
    return belay_task_start (self, scope);
  belay_task_refuse (self, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "the scope is cancelled"));
  return FALSE;
}

gboolean
belay_scope_spawn (BelayScope *scope, BelayFunc func, gpointer data, GDestroyNotify destroy)
{
  BelayTask *task;

  g_return_val_if_fail (scope != NULL && func != NULL, FALSE);

  task = belay_task_new (scope->context, NULL, func, NULL, data, destroy, NULL, scope->site);
  atomic_init (&task->fiber.future.refs, BELAY_PROMISE_UNIT); /* nobody is given the future */
  task->group = TRUE;
  return belay_task_start_in (task, scope);
}

BelayFuture *
belay_scope_spawn_value (BelayScope *scope, BelayValueFunc func, gpointer data, GDestroyNotify destroy_data,
                         GDestroyNotify destroy)
{
  BelayTask *task;

  g_return_val_if_fail (scope != NULL && func != NULL, NULL);

  task = belay_task_new (scope->context, NULL, NULL, func, data, destroy_data, destroy, scope->site);
  task->group = TRUE;
  belay_task_start_in (task, scope);
  return &task->fiber.future;
}

static BelayFuture *
open_resource (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data, const char *site)
{
  BelayFuture *future = belay_fiber_refuse ();
  BelayTask *task;

  if (G_UNLIKELY (future != NULL))
    {
      if (destroy_data != NULL)
        destroy_data (data);
      return future;
    }
  task = belay_task_new (belay_context_get (), NULL, NULL, func, data, destroy_data, belay_resource_drop, site);
  if (destroy_data == NULL)
    atomic_init (&task->fiber.future.flags, BELAY_FUTURE_BORROWING); /* @data may lie in the frame that waits */
  belay_task_cancel_when_dropped (task);
  belay_task_start_detached (task);
  return &task->fiber.future;
}

BelayFuture *
belay_open_at (BelayValueFunc func, gpointer data, const char *site)
{
  g_return_val_if_fail (func != NULL, NULL);
  return open_resource (func, data, NULL, site);
}

BelayFuture *
belay_open_owned_at (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data, const char *site)
{
  g_return_val_if_fail (func != NULL && destroy_data != NULL, NULL);
  return open_resource (func, data, destroy_data, site);
}

BelayFuture *
(belay_open) (BelayValueFunc func, gpointer data)
{
  return belay_open_at (func, data, NULL);
}

BelayFuture *
(belay_open_owned) (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data)
{
  return belay_open_owned_at (func, data, destroy_data, NULL);
}
