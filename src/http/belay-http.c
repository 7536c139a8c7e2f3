/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * HTTP sessions: the handle that programs hold, and the requests made through it.
 *
 * Words. The *session* is an object with references; the *multi* behind it (multi.c) does the work and belongs to a
 * GMainContext. Without a session a context *keeps* a multi of its own.
 *
 * Who owns what. The session owns its multi and keeps its context alive; the multi knows neither, so what is under way
 * keeps no session alive: the last reference dropped ends it. A future keeps nothing alive but itself.
 *
 *   session ──▶ multi ◀── its GMainContext          kept: table ──▶ multi ◀── its GMainContext
 *      └──────▶ GMainContext
 *
 * Invariants
 *   1. A multi is ended before its session is gone: by close, by abandon, or by dropping the last reference.
 *   2. Nothing is started for a caller whose scope is cancelled or past its deadline.
 *   3. Every function may be called from any thread but the settings, which count for requests made afterwards, so
 *      that another thread could not say which those are.
 */
#include "http/http-error.h"
#include "http/multi.h"

struct _BelayHttpSession
{
  GObject         parent;
  GMainContext   *context;
  BelayHttpMulti *multi;
};

static void resource_init (BelayResourceInterface *iface);

G_DEFINE_FINAL_TYPE_WITH_CODE (BelayHttpSession, belay_http_session, G_TYPE_OBJECT,
                               G_IMPLEMENT_INTERFACE (BELAY_TYPE_RESOURCE, resource_init))

/* --- the resource --- */

static gboolean
session_close (BelayResource *resource, BelayReason reason, GError **error)
{
  BelayHttpSession *self = BELAY_HTTP_SESSION (resource);

  return belay_await_ok (belay_http_multi_close (self->multi, self->context), error);
}

static void
session_abandon (BelayResource *resource)
{
  BelayHttpSession *self = BELAY_HTTP_SESSION (resource);

  belay_http_multi_end (self->multi, self->context);
}

static void
resource_init (BelayResourceInterface *iface)
{
  iface->close = session_close;
  iface->abandon = session_abandon;
}

/* --- the object --- */

static void
belay_http_session_finalize (GObject *object)
{
  BelayHttpSession *self = BELAY_HTTP_SESSION (object);

  belay_http_multi_end (self->multi, self->context);
  belay_http_multi_unref (self->multi);
  g_main_context_unref (self->context);
  G_OBJECT_CLASS (belay_http_session_parent_class)->finalize (object);
}

static void
belay_http_session_class_init (BelayHttpSessionClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = belay_http_session_finalize;
}

static void
belay_http_session_init (BelayHttpSession *self)
{
  self->context = g_main_context_ref_thread_default ();
  self->multi = belay_http_multi_new (self->context);
}

BelayHttpSession *
belay_http_session_new (void)
{
  return g_object_new (BELAY_TYPE_HTTP_SESSION, NULL);
}

/* --- settings --- */

void
belay_http_session_set_timeout (BelayHttpSession *self, gint64 milliseconds)
{
  g_return_if_fail (BELAY_IS_HTTP_SESSION (self));
  belay_http_multi_edit (self->multi)->timeout = MAX (milliseconds, 0);
}

void
belay_http_session_set_max_redirects (BelayHttpSession *self, guint max)
{
  g_return_if_fail (BELAY_IS_HTTP_SESSION (self));
  belay_http_multi_edit (self->multi)->max_redirects = max;
}

void
belay_http_session_set_max_body_size (BelayHttpSession *self, gsize bytes)
{
  g_return_if_fail (BELAY_IS_HTTP_SESSION (self));
  belay_http_multi_edit (self->multi)->max_body = bytes != 0 ? bytes : G_MAXSIZE;
}

void
belay_http_session_set_max_connections (BelayHttpSession *self, guint per_host, guint total)
{
  g_return_if_fail (BELAY_IS_HTTP_SESSION (self));
  belay_http_multi_set_limits (self->multi, per_host, total);
}

void
belay_http_session_set_header (BelayHttpSession *self, const char *name, const char *value)
{
  g_return_if_fail (BELAY_IS_HTTP_SESSION (self));
  g_return_if_fail (name != NULL);

  if (!belay_http_settings_set_header (belay_http_multi_edit (self->multi), name, value))
    g_critical ("belay_http_session_set_header: this cannot be a header's name, or its value holds a line break or "
                "other control character; the header is not set");
}

/* --- requests --- */

static BelayFuture *
get (BelayHttpSession *self, const char *url, BelayHttpWants wants, const char *function)
{
  GMainContext *context;
  BelayFuture *future = NULL;
  GError *error = NULL;

  if (G_UNLIKELY (url == NULL || (self != NULL && !BELAY_IS_HTTP_SESSION (self))))
    {
      g_critical ("%s: %s", function, url == NULL ? "the URL is NULL" : "this is no session");
      return belay_future_new_failed (BELAY_ERROR, BELAY_ERROR_MISUSE, "%s was called without a session or URL",
                                      function);
    }
  if (G_UNLIKELY (!belay_checkpoint (&error)))
    {
      future = belay_future_new_error (error);
      belay_future_get_error (future); /* seen: the caller's await says the same, without a look at the future */
      return future;
    }
  if (G_UNLIKELY (!belay_http_check_url (url, &error)))
    return belay_future_new_error (error);
  if (G_LIKELY (self != NULL))
    return belay_http_multi_get (self->multi, self->context, url, wants);

  context = g_main_context_ref_thread_default ();
  while (future == NULL) /* the kept one may have ended just now */
    {
      BelayHttpMulti *multi = belay_http_multi_get_kept (context);

      future = belay_http_multi_get (multi, context, url, wants);
      belay_http_multi_unref (multi);
    }
  g_main_context_unref (context);
  return future;
}

BelayFuture *
belay_http_get (BelayHttpSession *self, const char *url)
{
  return get (self, url, BELAY_HTTP_WANTS_RESPONSE, G_STRFUNC);
}

BelayFuture *
belay_http_get_bytes (BelayHttpSession *self, const char *url)
{
  return get (self, url, BELAY_HTTP_WANTS_BYTES, G_STRFUNC);
}
