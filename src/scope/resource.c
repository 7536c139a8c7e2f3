/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Resources: one way to close everything, whatever it is.
 *
 * A resource is a GObject that implements BelayResource, or a struct that begins with a BelayPlain. The first word of
 * either leads to a class, whose first word is a GType or a tag, and no GType has the tag's bits. What is neither is
 * reported when it is given, and, in a variable that nobody looked at before, when it is released.
 */
#include "scope/scope-private.h"

G_DEFINE_INTERFACE (BelayResource, belay_resource, G_TYPE_OBJECT)

static void
belay_resource_default_init (BelayResourceInterface *iface)
{
}

static gboolean
fail_no_resource (const char *what, GError **error)
{
  g_critical ("what was to be released is %s, which is no resource", what);
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "%s is no resource", what);
  return FALSE;
}

static gboolean
classless_commit (gpointer self, GError **error)
{
  return fail_no_resource ("a struct without a class", error);
}

static gboolean
classless_close (gpointer self, BelayReason reason, GError **error)
{
  return fail_no_resource ("a struct without a class", error);
}

/* How it was allocated is not known, so it is not freed. */
static const BelayPlainClass classless = { BELAY_PLAIN_TAG, "struct without a class", classless_close, classless_commit,
                                           NULL, NULL };

static inline const BelayPlainClass *
plain_class (gpointer resource)
{
  const BelayPlainClass *klass = *(const BelayPlainClass **) resource;

  if (G_UNLIKELY (klass == NULL))
    return &classless;
  return (klass->tag & 3) != 0 ? klass : NULL;
}

gboolean
belay_resource_is_valid (gpointer resource)
{
  const BelayPlainClass *klass = *(const BelayPlainClass **) resource;

  if (G_LIKELY (klass != NULL && ((klass->tag & 3) != 0 || BELAY_IS_RESOURCE (resource))))
    return TRUE;
  if (klass == NULL)
    g_critical ("what was given as a resource is a struct without a class");
  else
    g_critical ("what was given as a resource is a %s, which is none", G_OBJECT_TYPE_NAME (resource));
  return FALSE;
}

gpointer
belay_resource_refuse (gpointer resource, GError **error)
{
  if (*(gpointer *) resource != NULL)
    g_object_unref (resource);
  if (error != NULL)
    g_clear_error (error);
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "what was given as a resource is none");
  return NULL;
}

const char *
belay_resource_name (gpointer resource)
{
  const BelayPlainClass *klass = plain_class (resource);

  return klass != NULL ? klass->name : G_OBJECT_TYPE_NAME (resource);
}

void
belay_resource_free (gpointer resource)
{
  const BelayPlainClass *klass = plain_class (resource);

  if (klass == NULL)
    g_object_unref (resource);
  else if (klass->free != NULL)
    klass->free (resource);
}

gpointer
belay_plain_alloc (gsize size, const BelayPlainClass *klass)
{
  BelayPlain *plain;

  g_return_val_if_fail (size >= sizeof (BelayPlain) && klass != NULL && klass->tag == BELAY_PLAIN_TAG, NULL);

  plain = g_malloc0 (size);
  plain->klass = klass;
  return plain;
}

/* --- closing in a fiber --- */

static void
abandon (gpointer resource)
{
  const BelayPlainClass *klass = plain_class (resource);
  BelayResourceInterface *iface;

  if (klass != NULL)
    {
      if (klass->abandon != NULL)
        klass->abandon (resource);
      return;
    }
  iface = BELAY_RESOURCE_GET_IFACE (resource);
  if (iface != NULL && iface->abandon != NULL)
    iface->abandon (resource);
}

void
belay_resource_abandon (gpointer resource)
{
  belay_leaks_let_go (resource);
  abandon (resource);
  belay_resource_free (resource);
}

void
belay_resource_force (gpointer resource)
{
  belay_leaks_let_go (resource);
  abandon (resource);
}

static gboolean
run_close (gpointer resource, BelayReason reason, GError **error)
{
  const BelayPlainClass *klass = plain_class (resource);
  BelayResourceInterface *iface;

  if (klass != NULL)
    return klass->close == NULL || klass->close (resource, reason, error);
  iface = BELAY_RESOURCE_GET_IFACE (resource);
  if (G_UNLIKELY (iface == NULL))
    return fail_no_resource (G_OBJECT_TYPE_NAME (resource), error);
  return iface->close == NULL || iface->close (resource, reason, error);
}

gboolean
belay_resource_close (gpointer resource, BelayReason reason, gint64 timeout, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTaken *taken = belay_taken_place (fiber->context, resource);
  const char *site = NULL;
  GError *failure = NULL;
  gboolean ok;

  if (taken->resource == resource)
    {
      site = taken->site;
      taken->resource = NULL;
    }
  belay_leaks_let_go (resource);
  ok = belay_release_run (fiber, run_close, resource, reason, timeout, abandon, belay_resource_name (resource), &failure);
  belay_resource_free (resource);
  if (G_LIKELY (ok))
    return TRUE;
  if (site != NULL && g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT))
    g_prefix_error (&failure, "%s: ", site);
  g_propagate_error (error, failure);
  return FALSE;
}

static gboolean
run_commit (gpointer resource, BelayReason reason, GError **error)
{
  const BelayPlainClass *klass = plain_class (resource);
  BelayResourceInterface *iface = klass == NULL ? BELAY_RESOURCE_GET_IFACE (resource) : NULL;

  if (G_UNLIKELY (klass == NULL && iface == NULL))
    return fail_no_resource (G_OBJECT_TYPE_NAME (resource), error);
  if (klass != NULL ? klass->commit == NULL : iface->commit == NULL)
    {
      g_critical ("a %s has nothing to commit: close it", belay_resource_name (resource));
      g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a %s has nothing to commit", belay_resource_name (resource));
      return FALSE;
    }
  return klass != NULL ? klass->commit (resource, error) : iface->commit (resource, error);
}

/* Not bounded: a commit that were cut off might have happened or not (L45). */
gboolean
belay_resource_commit (gpointer resource, GError **error)
{
  return belay_release_run (belay_fiber_self (), run_commit, resource, BELAY_REASON_OK, BELAY_COMMITTING, NULL,
                            belay_resource_name (resource), error);
}

void
belay_resource_schedule (BelayContext *context, gpointer resource, const char *site)
{
  belay_resource_schedule_for (context, resource, BELAY_REASON_LEFT, site);
}

void
belay_resource_drop (gpointer resource)
{
  if (resource == NULL || belay_forked ())
    return;
  if (belay_resource_tag (resource) == BELAY_TAG_INSTANT)
    belay_resource_end_instant (resource);
  else
    belay_resource_schedule (NULL, resource, NULL);
}

/* An await knows resources by this, and it is below. */
static __attribute__ ((constructor)) void
tell_awaits (void)
{
  belay_taken_destroy = belay_resource_drop;
  belay_taken_hold = belay_leaks_remember;
}

BelayFuture *
belay_resource_future (gpointer resource)
{
  g_return_val_if_fail (resource != NULL && belay_resource_is_valid (resource), NULL);
  return belay_future_new_pointer (resource, belay_resource_drop);
}

gboolean
belay_promise_resolve_resource (BelayPromise *promise, gpointer resource)
{
  g_return_val_if_fail (promise != NULL && resource != NULL && belay_resource_is_valid (resource), FALSE);
  return belay_promise_resolve_pointer (promise, resource, belay_resource_drop);
}
