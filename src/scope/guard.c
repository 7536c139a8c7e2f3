/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guards: what the end of a variable's block does, and its explicit forms.
 *
 * A guard is a pointer variable; NULL holds nothing. Every way out takes the pointer out of the variable before anything
 * else, so that running its clean-up again does nothing. A release that nobody asked for has nowhere to return an
 * error to: it goes to the innermost scope of the fiber, where belay_check() and the scope's close find it.
 */
#include "scope/scope-private.h"

#include <errno.h>

static inline gpointer
take (gpointer variable)
{
  gpointer *pointer = variable;

  return g_steal_pointer (pointer);
}

static gint64
release_timeout (BelayFiber *fiber)
{
  for (BelayLimit *limit = fiber->stack->limit; limit != NULL && limit->fiber == fiber; limit = limit->outer)
    {
      BelayScope *scope = belay_scope_of_limit (limit);

      if (scope != NULL)
        return scope->release_timeout;
    }
  return fiber->stack->scope != NULL ? ((BelayScope *) fiber->stack->scope)->release_timeout : BELAY_RELEASE_TIMEOUT;
}

static gboolean
close_here (BelayFiber *fiber, gpointer resource, BelayReason reason, GError **error)
{
  gsize tag = belay_resource_tag (resource);
  GError *failure = NULL;
  gboolean ok;

  if (tag == BELAY_TAG_INSTANT)
    {
      belay_resource_end_instant_for (resource, reason);
      return TRUE;
    }
  if (tag != BELAY_TAG_SCOPE)
    {
      ok = belay_resource_close (resource, reason, release_timeout (fiber), &failure);
    }
  else
    {
      ok = belay_scope_finish (resource, reason, &failure);
      if (!ok)
        belay_scope_hold_errors (resource, fiber, failure);
      belay_scope_unref (resource);
    }
  if (G_LIKELY (ok))
    return TRUE;
  if (fiber->stack->holds)
    belay_attached_told (fiber, failure);
  g_propagate_error (error, failure);
  return FALSE;
}

/* What is no instant one. */
static G_NO_INLINE void
release_resource (gpointer resource)
{
  BelayFiber *fiber = belay_fiber_self ();
  const char *name;
  GError *error = NULL;

  if (fiber == NULL)
    {
      belay_resource_schedule (NULL, resource, NULL);
    }
  else if (belay_resource_tag (resource) == BELAY_TAG_SCOPE)
    {
      /* That it was interrupted, the body has seen; what else failed, it has not. */
      if (!belay_scope_finish (resource, belay_limit_reason (fiber), NULL))
        belay_scope_pass_errors (resource, belay_scope_innermost (fiber), "closing a BelayScope");
      belay_scope_unref (resource);
    }
  else
    {
      name = belay_resource_name (resource);
      if (!belay_resource_close (resource, belay_limit_reason (fiber), release_timeout (fiber), &error))
        {
          g_prefix_error (&error, "closing a %s: ", name);
          belay_scope_add_error (belay_scope_innermost (fiber), error, belay_attached_take (fiber, error), NULL);
        }
    }
}

void
belay_release (gpointer variable)
{
  gpointer resource;
  int saved_errno = errno;

  g_return_if_fail (variable != NULL);

  resource = take (variable);
  if (resource == NULL || belay_forked ())
    return;
  if (belay_resource_tag (resource) == BELAY_TAG_INSTANT)
    belay_resource_end_instant (resource);
  else
    release_resource (resource);
  errno = saved_errno;
}

/* Closes what was said to be closed: @said, unless the body was interrupted. */
static gboolean
close_said (gpointer variable, BelayReason said, GError **error)
{
  gpointer resource;
  BelayFiber *fiber;
  BelayReason reason;

  resource = take (variable);
  if (resource == NULL)
    return TRUE;
  if (belay_forked ())
    return belay_fail_forked ("belay_close", error);
  if (belay_resource_tag (resource) == BELAY_TAG_INSTANT)
    {
      belay_resource_end_instant_for (resource, said);
      return TRUE;
    }
  fiber = belay_fiber_self ();
  if (fiber == NULL)
    {
      belay_resource_schedule_for (NULL, resource, said, NULL);
      return TRUE;
    }
  reason = belay_limit_reason (fiber);
  return close_here (fiber, resource, reason == BELAY_REASON_LEFT ? said : reason, error);
}

gboolean
belay_close (gpointer variable, GError **error)
{
  g_return_val_if_fail (variable != NULL, FALSE);
  return close_said (variable, BELAY_REASON_OK, error);
}

gboolean
belay_commit (gpointer variable, GError **error)
{
  gpointer resource;
  BelayFiber *fiber;
  GError *failure = NULL, *close_error = NULL;
  BelayReason reason;
  const char *name;
  gboolean ok;

  g_return_val_if_fail (variable != NULL, FALSE);

  resource = take (variable);
  if (resource == NULL)
    {
      g_critical ("belay_commit: the variable holds nothing");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "there is nothing to commit");
      return FALSE;
    }
  if (belay_forked ())
    return belay_fail_forked ("belay_commit", error);
  fiber = belay_fiber_self ();
  if (fiber == NULL)
    {
      belay_resource_drop (resource);
      return belay_fail_no_fiber ("belay_commit", error);
    }
  name = belay_resource_name (resource);
  if (belay_limit_check (fiber, NULL, &failure))
    {
      ok = belay_resource_commit (resource, &failure);
      reason = ok ? BELAY_REASON_OK : BELAY_REASON_ERROR;
    }
  else
    {
      ok = FALSE;
      reason = belay_limit_reason (fiber);
    }
  if (!close_here (fiber, resource, reason, &close_error))
    {
      g_prefix_error (&close_error, "closing a %s: ", name);
      if (ok)
        belay_scope_add_error (belay_scope_innermost (fiber), close_error, belay_attached_take (fiber, close_error), NULL);
      else
        belay_attached_add (fiber, failure, close_error, fiber->site);
    }
  if (ok)
    return TRUE;
  if (fiber->stack->holds)
    belay_attached_told (fiber, failure);
  g_propagate_error (error, failure);
  return FALSE;
}

/*
 * Closes after the body has failed, with @error where the caller has one. What the release adds is attached to that. TRUE
 * when a manager has swallowed the body's error: then it is cleared, and a failure of the release is in its place.
 */
static gboolean
close_after_error (gpointer variable, gboolean *ret_closed, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  gpointer resource = *(gpointer *) variable;
  const char *name = belay_resource_name (resource);
  BelayManager *manager = fiber != NULL ? belay_manager_of (resource) : NULL;
  GError *failure = NULL;
  gboolean swallowed = FALSE;

  if (manager != NULL)
    belay_manager_listen (manager, error != NULL ? *error : NULL);
  *ret_closed = close_said (variable, BELAY_REASON_ERROR, &failure);
  if (manager != NULL)
    {
      swallowed = belay_manager_is_swallowed (manager);
      belay_manager_unref (manager);
    }
  if (swallowed)
    {
      BelayErrors *attached = error != NULL && *error != NULL ? belay_attached_take (fiber, *error) : NULL;

      g_clear_pointer (&attached, belay_errors_unref);
      g_clear_error (error);
    }
  if (*ret_closed)
    return swallowed;
  if (swallowed)
    {
      g_propagate_error (error, failure);
    }
  else if (fiber == NULL)
    {
      g_error_free (failure); /* a forked process closes nothing, and there is nobody to attach that to the body's error */
    }
  else
    {
      g_prefix_error (&failure, "closing a %s: ", name);
      if (error != NULL && *error != NULL)
        belay_attached_add (fiber, *error, failure, fiber->site);
      else
        belay_scope_add_error (belay_scope_innermost (fiber), failure, belay_attached_take (fiber, failure), NULL);
    }
  return swallowed;
}

gboolean
belay_manager_finish (BelayManager **manager, gboolean ok, GError **error)
{
  gboolean closed, swallowed;

  g_return_val_if_fail (manager != NULL, FALSE);

  if (error != NULL && ok != (*error == NULL))
    ok = belay_check_result (ok, error, "the body of a manager");
  if (*manager == NULL)
    return ok;
  if (ok)
    return belay_close (manager, error);
  swallowed = close_after_error (manager, &closed, error);
  return swallowed && closed;
}

/* The steps of BELAY_WITH: 0 opened or not, 1 the body runs, 2 the else part runs, 3 over. */
int
belay_with_next (int step, gpointer variable, GError **error)
{
  gboolean closed = TRUE;

  switch (step)
    {
    case 0:
      return *(gpointer *) variable != NULL ? 1 : 2;
    case 1:
      if (G_LIKELY (error == NULL || *error == NULL))
        return belay_close (variable, error) ? 3 : 2;
      /* The body's error is there already, and stays on top. Falling off the end is no success then. */
      if (*(gpointer *) variable != NULL)
        close_after_error (variable, &closed, error);
      return closed ? 3 : 2;
    default:
      return 3;
    }
}

/* --- closing without waiting --- */

typedef struct
{
  gpointer    resource;
  const char *name, *site;
} Close;

gboolean
belay_close_now (gpointer data, GError **error)
{
  Close *self = data;

  return close_here (belay_fiber_self (), g_steal_pointer (&self->resource), BELAY_REASON_OK, error);
}

void
belay_close_describe (gpointer data, GPtrArray *lines)
{
  Close *self = data;

  belay_describe_closing (self->name, self->site, lines);
}

/* The end of it, also when there was no stack to run it on. */
static void
free_close (gpointer data)
{
  Close *self = data;

  if (self->resource != NULL)
    belay_resource_abandon (self->resource);
  g_free (self);
}

BelayFuture *
belay_close_start (gpointer variable)
{
  gpointer resource;
  Close *self;

  g_return_val_if_fail (variable != NULL, NULL);

  resource = take (variable);
  if (belay_forked ())
    return belay_fiber_refuse ();
  if (resource == NULL)
    return belay_future_new_done ();
  if (belay_resource_tag (resource) == BELAY_TAG_INSTANT)
    {
      belay_resource_end_instant (resource);
      return belay_future_new_done ();
    }
  self = g_new (Close, 1);
  *self = (Close) { resource, belay_resource_name (resource), belay_resource_site (belay_context_get (), resource) };
  return belay_task_detached (belay_context_get (), belay_close_now, self, free_close, NULL);
}
