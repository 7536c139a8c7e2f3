/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A part of a lifespan: its opening, in a fiber of its own, its release by the lifespan's scope; and the run of the whole.
 *
 * The release of a part is that of its resource, within the part's own bound; the scope around it sets none.
 *
 * An opening that is interrupted (a cancellation, the start bound) is asked to end and waited for, since it may use the parts
 * that this one needs, and these are stopped next. That wait is a release, too: shielded, and bounded by the part's stop
 * bound. What the opening gives all the same is closed in its turn. When the bound is over it is left to the library, which
 * closes what may still come, and waits for it at the end of the program.
 */
#include "app/lifespan.h"

static gboolean part_close (gpointer data, BelayReason reason, GError **error);
static void part_abandon (gpointer data);

/* The lifespan frees it. */
const BelayPlainClass belay_part_class = { BELAY_PLAIN_TAG, "part", part_close, NULL, part_abandon, NULL };

static void
prefix_error (BelayPart *self, const char *what, GError **error)
{
  g_prefix_error (error, "the part \"%s\" (%s) %s: ", self->name, self->site != NULL ? self->site : "?", what);
}

/* --- stopping --- */

/* When its time is up its children are cancelled, and waited for by the end of the program. */
static gboolean
scope_close (gpointer scope, BelayReason reason, GError **error)
{
  gboolean ok = belay_scope_finish (scope, reason, error);

  if (!ok)
    belay_scope_hold_errors (scope, belay_fiber_self (), *error);
  return ok;
}

static gboolean
part_close (gpointer data, BelayReason reason, GError **error)
{
  BelayPart *self = data;
  gpointer resource = g_steal_pointer (&self->resource);
  gboolean ok = TRUE;

  if (resource == NULL)
    return TRUE; /* it never came */
  belay_part_set_state (self, BELAY_LIFESPAN_STOPPING);
  switch (belay_resource_tag (resource))
    {
    case BELAY_TAG_INSTANT:
      belay_resource_drop (resource);
      break;
    case BELAY_TAG_SCOPE:
      ok = belay_release_run (belay_fiber_self (), scope_close, resource, reason, self->stop_timeout, NULL, "BelayScope", error);
      belay_scope_unref (resource);
      break;
    default:
      ok = belay_resource_close (resource, reason, self->stop_timeout, error);
      break;
    }
  if (!ok)
    prefix_error (self, "did not stop well", error);
  belay_part_set_state (self, ok ? BELAY_LIFESPAN_STOPPED : BELAY_LIFESPAN_FAILED);
  return ok;
}

/* The main context has ended, and nothing can wait any more. */
static void
part_abandon (gpointer data)
{
  BelayPart *self = data;

  if (self->resource != NULL)
    belay_resource_abandon (g_steal_pointer (&self->resource));
}

/* --- starting --- */

static gboolean
await_end (gpointer data, BelayReason reason, GError **error)
{
  return belay_fiber_await (belay_fiber_self (), data, "the end of an opening that was interrupted", error);
}

/* Waits for the opening and keeps its resource, if there is one, also when the wait was interrupted. */
static gboolean
open_resource (BelayPart *self, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  g_autoptr (BelayFuture) opening = self->open (self->lifespan, self->data);
  g_autoptr (GError) late_error = NULL;
  gpointer resource;
  gboolean in_time;

  if (opening == NULL)
    {
      g_critical ("the part \"%s\": its function gave no future", self->name);
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "its function gave no future");
      return FALSE;
    }
  in_time = belay_fiber_await (fiber, opening, self->site, error);
  if (!in_time && belay_future_is_pending (opening))
    {
      belay_future_ask (opening);
      belay_release_run (fiber, await_end, opening, BELAY_REASON_CANCELLED, self->stop_timeout, NULL, self->name, NULL);
      if (belay_future_is_pending (opening))
        return FALSE;
    }

  resource = belay_future_take (opening, in_time ? error : &late_error);
  if (resource != NULL && !belay_resource_is_valid (resource))
    resource = belay_resource_refuse (resource, in_time ? error : NULL);
  self->resource = resource;
  return in_time && resource != NULL;
}

static gboolean
open_in_time (BelayPart *self, GError **error)
{
  belay_auto (BelayTimeout) limit = self->start_timeout != G_MAXINT64 ? belay_timeout (self->start_timeout / 1000) : NULL;

  if (open_resource (self, error))
    return TRUE;
  if (limit != NULL && belay_timeout_expired (limit))
    {
      g_clear_error (error);
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "it took longer than %" G_GINT64_FORMAT " ms",
                   self->start_timeout / 1000);
    }
  return FALSE;
}

gboolean
belay_part_start (gpointer data, GError **error)
{
  BelayPart *self = data;
  gboolean ok;

  for (guint i = 0; i < self->needs->len; i++)
    if (!belay_await_ok (belay_promise_get_future (((BelayPart *) g_ptr_array_index (self->needs, i))->up), error))
      return FALSE;
  if (!belay_checkpoint (error))
    return FALSE;

  belay_part_set_state (self, BELAY_LIFESPAN_STARTING);
  if (!belay_scope_adopt (self->lifespan->scope, self, error))
    return FALSE;
  ok = open_in_time (self, error);
  if (ok)
    {
      belay_part_set_state (self, BELAY_LIFESPAN_RUNNING);
      belay_promise_resolve (self->up);
    }
  else
    {
      if (g_error_matches (*error, G_IO_ERROR, G_IO_ERROR_CANCELLED) && belay_checkpoint (NULL))
        {
          /* Nobody has cancelled it here: as a cancellation it would be no failure of the group's, and all would wait on. */
          (*error)->domain = BELAY_ERROR;
          (*error)->code = BELAY_ERROR_FAILED;
        }
      if (!g_error_matches (*error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        prefix_error (self, "did not start", error);
      if (self->resource == NULL)
        belay_part_set_state (self, BELAY_LIFESPAN_FAILED);
    }
  return ok;
}

/* --- the whole --- */

static gboolean
start_and_serve (BelayLifespan *self, BelayFunc serve, gpointer data, GError **error)
{
  for (guint i = 0; i < self->parts->len; i++)
    if (!belay_scope_spawn (self->scope, belay_part_start, g_ptr_array_index (self->parts, i), NULL))
      return belay_checkpoint (error); /* it is cancelled */
  for (guint i = 0; i < self->parts->len; i++)
    if (!belay_await_ok (belay_promise_get_future (((BelayPart *) g_ptr_array_index (self->parts, i))->up), error))
      return FALSE;
  if (!belay_checkpoint (error))
    return FALSE;
  belay_lifespan_set_state (self, BELAY_LIFESPAN_RUNNING);
  return belay_await_ok (belay_spawn (serve, data), error);
}

/* Ends the scope, and decides what the outcome is. (transfer full) @failure of the start or the work, or NULL. */
static gboolean
stop (BelayLifespan *self, BelayFiber *fiber, GError *failure, GError **error)
{
  BelayScope *scope = self->scope;
  GError *scope_error = NULL;
  BelayErrors *attached;
  BelayReason reason;

  /* What interrupted the work interrupts what waits for it, too, which may not have seen it yet. */
  if (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED) || g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
    belay_checkpoint (NULL);
  reason = belay_limit_reason (fiber);
  /* A member that failed has cancelled the others: that is a failure, and no cancellation. */
  if (reason == BELAY_REASON_LEFT || scope->failed)
    reason = failure == NULL && !scope->failed ? BELAY_REASON_OK : BELAY_REASON_ERROR;
  belay_scope_set_release_timeout (scope, -1); /* each part has its own */
  if (belay_scope_finish (scope, reason, &scope_error))
    {
      if (failure != NULL)
        g_propagate_error (error, failure);
      return failure == NULL;
    }
  if (failure == NULL || (scope->failed && g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED)))
    {
      g_clear_error (&failure);
      belay_scope_hold_errors (scope, fiber, scope_error);
      g_propagate_error (error, scope_error);
      return FALSE;
    }

  /* The body's own stays on top; what the stop adds is attached to it. */
  g_error_free (scope_error);
  attached = belay_scope_list_errors (scope, belay_attached_take (fiber, failure), 0);
  belay_error_say_more (failure, belay_errors_get_size (attached));
  belay_attached_hold (fiber, failure, attached);
  g_propagate_error (error, failure);
  return FALSE;
}

gboolean
belay_lifespan_run (BelayLifespan *self, BelayFunc serve, gpointer data, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  GError *failure = NULL;
  gboolean ok;

  g_return_val_if_fail (BELAY_IS_LIFESPAN (self) && serve != NULL, FALSE);

  if (fiber == NULL)
    return belay_fail_no_fiber ("belay_lifespan_run", error);
  if (self->scope != NULL)
    {
      g_critical ("belay_lifespan_run: it runs already");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "the lifespan runs already");
      return FALSE;
    }
  if (!belay_lifespan_check (self, error) || !belay_checkpoint (error))
    return FALSE;

  g_object_ref (self);
  self->scope = belay_scope_begin ();
  for (guint i = 0; i < self->parts->len; i++)
    {
      BelayPart *part = g_ptr_array_index (self->parts, i);

      belay_part_set_state (part, BELAY_LIFESPAN_IDLE);
      part->up = belay_promise_new ();
    }
  belay_lifespan_set_state (self, BELAY_LIFESPAN_STARTING);
  ok = start_and_serve (self, serve, data, &failure);
  belay_lifespan_set_state (self, BELAY_LIFESPAN_STOPPING);
  ok = stop (self, fiber, failure, error) && ok;
  for (guint i = 0; i < self->parts->len; i++)
    g_clear_pointer (&((BelayPart *) g_ptr_array_index (self->parts, i))->up, belay_promise_unref);
  g_clear_pointer (&self->scope, belay_scope_unref);
  belay_lifespan_set_state (self, ok ? BELAY_LIFESPAN_STOPPED : BELAY_LIFESPAN_FAILED);
  g_object_unref (self);
  return ok;
}
