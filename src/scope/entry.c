/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Entries: the resources and deferred functions that a scope releases.
 *
 * An entry is added, at the head of the list, while the scope is OPEN or JOINING, under its lock. From RELEASING on nothing
 * is added, so the list is the closer's alone: newest first, one after another, all of them whatever fails. What comes
 * too late is released by the caller, at once.
 */
#include "scope/scope-private.h"

struct _BelayEntry
{
  BelayEntry *next;
  gpointer    resource; /* or else */
  BelayFunc   func;
  gpointer    data;
  const char *site;
};

static inline BelayEntry *
entry_new (gpointer resource, BelayFunc func, gpointer data, const char *site)
{
  BelayEntry *self = belay_piece_new (sizeof *self);

  self->resource = resource;
  self->func = func;
  self->data = data;
  self->site = site;
  return self;
}

static gboolean
add_entry (BelayScope *self, BelayEntry *entry)
{
  gboolean accepted;

  belay_spin_lock (&self->lock);
  accepted = self->state <= BELAY_SCOPE_JOINING;
  if (accepted)
    {
      entry->next = self->entries;
      self->entries = entry;
    }
  belay_spin_unlock (&self->lock);
  return accepted;
}

static gboolean
fail_closed (GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the scope is closed; what was given to it has been released");
  return FALSE;
}

/* In a fiber: closes anything that can be registered. */
static gboolean
close_entry (gpointer resource, BelayReason reason, gint64 timeout, GError **error)
{
  gboolean ok;

  switch (belay_resource_tag (resource))
    {
    case BELAY_TAG_INSTANT:
      belay_resource_drop (resource);
      return TRUE;
    case BELAY_TAG_SCOPE:
      ok = belay_scope_finish (resource, reason, error);
      if (!ok)
        belay_scope_hold_errors (resource, belay_fiber_self (), *error);
      belay_scope_unref (resource);
      return ok;
    default:
      return belay_resource_close (resource, reason, timeout, error);
    }
}

/* Too late for the scope: releases now, here when that is possible. */
static gboolean
release_late (BelayScope *self, gpointer resource, GError **error)
{
  g_autoptr (GError) failure = NULL;

  if (!belay_in_fiber ())
    belay_resource_drop (resource);
  else if (!close_entry (resource, BELAY_REASON_LEFT, self->release_timeout, &failure))
    belay_sink_error (failure, "closing what came too late for its scope", self->site);
  return fail_closed (error);
}

gboolean
belay_scope_adopt (BelayScope *self, gpointer resource, GError **error)
{
  BelayEntry *entry;

  g_return_val_if_fail (self != NULL, FALSE);

  if (resource == NULL)
    return TRUE;
  if (G_UNLIKELY (!belay_resource_is_valid (resource)))
    return belay_resource_refuse (resource, error) != NULL;
  entry = entry_new (resource, NULL, NULL, NULL);
  if (add_entry (self, entry))
    return TRUE;
  belay_piece_free (entry, sizeof *entry);
  return release_late (self, resource, error);
}

gpointer
belay_enter_at (BelayScope *self, BelayFuture *future, GError **error, const char *site)
{
  BelayEntry *entry;
  gpointer resource;

  g_return_val_if_fail (self != NULL && future != NULL, NULL);

  /* Its place is made before the resource is, so that nothing can fail in between. */
  entry = entry_new (NULL, NULL, NULL, site);
  resource = entry->resource = belay_await_at (future, error, site);
  if (G_UNLIKELY (resource != NULL && !belay_resource_is_valid (resource)))
    resource = belay_resource_refuse (resource, error);
  if (resource != NULL && add_entry (self, entry))
    return resource;
  belay_piece_free (entry, sizeof *entry);
  if (resource != NULL)
    release_late (self, resource, error);
  return NULL;
}

gpointer
(belay_enter) (BelayScope *self, BelayFuture *future, GError **error)
{
  return belay_enter_at (self, future, error, NULL);
}

typedef struct
{
  BelayFunc func;
  gpointer  data;
} Deferred;

static gboolean
call_deferred (gpointer data, BelayReason reason, GError **error)
{
  Deferred *deferred = data;

  return deferred->func (deferred->data, error);
}

static gboolean
run_detached_deferred (gpointer data, GError **error)
{
  return belay_release_run (belay_fiber_self (), call_deferred, data, BELAY_REASON_LEFT, BELAY_RELEASE_TIMEOUT, NULL,
                            "a deferred function", error);
}

gboolean
belay_scope_defer (BelayScope *self, BelayFunc func, gpointer data)
{
  Deferred deferred = { func, data };
  g_autoptr (GError) error = NULL;
  BelayEntry *entry;

  g_return_val_if_fail (self != NULL && func != NULL, FALSE);

  entry = entry_new (NULL, func, data, NULL);
  if (add_entry (self, entry))
    return TRUE;
  belay_piece_free (entry, sizeof *entry);
  if (!belay_in_fiber ())
    belay_future_unref (belay_task_detached (self->context, run_detached_deferred, g_memdup2 (&deferred, sizeof deferred),
                                             g_free, self->site));
  else if (!belay_release_run (belay_fiber_self (), call_deferred, &deferred, BELAY_REASON_LEFT, self->release_timeout, NULL,
                               "a deferred function", &error))
    belay_sink_error (error, "a deferred function that came too late for its scope", self->site);
  return FALSE;
}

/* --- releasing --- */

static void
run_entry (BelayScope *self, BelayFiber *fiber, BelayEntry *entry, BelayReason reason)
{
  GError *error = NULL;
  gboolean ok;

  if (entry->resource == NULL)
    {
      Deferred deferred = { entry->func, entry->data };

      ok = belay_release_run (fiber, call_deferred, &deferred, reason, self->release_timeout, NULL, "a deferred function",
                              &error);
    }
  else
    {
      ok = close_entry (entry->resource, reason, self->release_timeout, &error);
    }
  if (!ok)
    {
      if (entry->site != NULL)
        g_prefix_error (&error, "%s: ", entry->site);
      belay_scope_add_error (self, error, belay_attached_take (fiber, error), entry->site);
    }
  belay_piece_free (entry, sizeof *entry);
}

/* Nothing is added once RELEASING has begun, so the list is the closer's alone. */
void
belay_entries_release (BelayScope *self, BelayFiber *fiber, BelayReason reason)
{
  while (self->entries != NULL)
    {
      BelayEntry *entry = self->entries;

      self->entries = entry->next;
      run_entry (self, fiber, entry, reason);
    }
}

void
belay_entries_abandon (BelayScope *self)
{
  while (self->entries != NULL)
    {
      BelayEntry *entry = self->entries;

      self->entries = entry->next;
      if (entry->resource != NULL)
        belay_resource_abandon (entry->resource);
      else
        g_critical ("a deferred function of the scope from %s is not called, since the main context of the scope has ended",
                    self->site != NULL ? self->site : "?");
      belay_piece_free (entry, sizeof *entry);
    }
}
