/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The queue: which requests run, and which wait for their turn.
 *
 * Words. A request *runs* when libcurl has it, which then has a connection or makes one. A *host* is a scheme, a name
 * and a port, as they stand in the URL. A request needs a turn of its host, when hosts are limited, and then a turn of
 * the session: two queues behind one another, each first come first served.
 *
 * libcurl has limits of its own, and they are set to the same numbers: ours decide who is next, libcurl's see to it
 * that idle connections count too (an idle one is closed for a new one to another host) and that redirects to other
 * hosts keep to the limit. libcurl's alone would not do: its list of waiters is one for all hosts, whoever does
 * not get its turn goes to the end of it, and each waiter there has an easy handle, some kilobytes.
 *
 * Invariants
 *   1. A host is in the table exactly while a request has or waits for its turn.
 *   2. No request waits while its host has a turn to give: whoever leaves hands on the turn in the same call, and a
 *      limit that is raised is handed out at once. So a waiter that gives up leaves nothing behind.
 *   3. A request that joined while hosts were not limited has no host, and is never counted for one.
 *   4. Running ones may be more than `total` after it was lowered; nobody starts then until they are fewer.
 */
#include "http/queue.h"

#include <string.h>

struct _BelayHttpHost
{
  guint  active;  /* turns given: READY and RUNNING */
  GQueue waiting;
  char   name[];
};

static void
put (BelayHttpRequest *request, GQueue *queue, BelayHttpState state)
{
  request->state = state;
  request->in = queue;
  g_queue_push_tail_link (queue, &request->link);
}

static void
take (BelayHttpRequest *request)
{
  g_queue_unlink (request->in, &request->link);
  request->in = NULL;
}

void
belay_http_queue_init (BelayHttpQueue *self, guint per_host, guint total)
{
  self->per_host = per_host;
  self->total = total;
  self->n_waiting = 0;
  g_queue_init (&self->ready);
  g_queue_init (&self->running);
  self->hosts = NULL;
}

void
belay_http_queue_clear (BelayHttpQueue *self)
{
  g_assert (belay_http_queue_any (self) == NULL);
  g_clear_pointer (&self->hosts, g_hash_table_unref);
}

/* --- hosts --- */

/* "HTTP://ada@Example.org/a" → "http://example.org:80" */
static char *
name_of_host (const char *url)
{
  const char *authority = strstr (url, "://") + strlen ("://");
  const char *end = authority + strcspn (authority, "/?#");
  const char *at = memrchr (authority, '@', (gsize) (end - authority));
  gboolean secure = g_ascii_strncasecmp (url, "https", strlen ("https")) == 0;
  const char *host = at != NULL ? at + 1 : authority;
  const char *bracket = memrchr (host, ']', (gsize) (end - host));
  const char *port = memchr (bracket != NULL ? bracket : host, ':', (gsize) (end - (bracket != NULL ? bracket : host)));
  g_autofree char *name = g_ascii_strdown (host, port != NULL ? port - host : end - host);

  if (port != NULL && port + 1 < end)
    return g_strdup_printf ("%s://%s%.*s", secure ? "https" : "http", name, (int) (end - port), port);
  return g_strdup_printf ("%s://%s:%d", secure ? "https" : "http", name, secure ? 443 : 80);
}

static BelayHttpHost *
get_host (BelayHttpQueue *self, const char *url)
{
  g_autofree char *name = name_of_host (url);
  BelayHttpHost *host;

  if (self->hosts == NULL)
    self->hosts = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, g_free);
  host = g_hash_table_lookup (self->hosts, name);
  if (host == NULL)
    {
      gsize size = strlen (name) + 1;

      host = g_malloc0 (sizeof *host + size);
      memcpy (host->name, name, size);
      g_queue_init (&host->waiting);
      g_hash_table_insert (self->hosts, host->name, host);
    }
  return host;
}

/* Hands out the turns that a host has to give. */
static void
admit (BelayHttpQueue *self, BelayHttpHost *host)
{
  while (host->waiting.length > 0 && (self->per_host == 0 || host->active < self->per_host))
    {
      BelayHttpRequest *request = host->waiting.head->data;

      take (request);
      self->n_waiting--;
      host->active++;
      put (request, &self->ready, BELAY_HTTP_READY);
    }
}

/* --- turns --- */

void
belay_http_queue_set_limits (BelayHttpQueue *self, guint per_host, guint total)
{
  GHashTableIter iter;
  gpointer host;

  self->per_host = per_host;
  self->total = total;
  if (self->hosts == NULL)
    return;
  g_hash_table_iter_init (&iter, self->hosts);
  while (g_hash_table_iter_next (&iter, NULL, &host))
    admit (self, host);
}

void
belay_http_queue_join (BelayHttpQueue *self, BelayHttpRequest *request)
{
  if (G_LIKELY (self->per_host == 0))
    {
      request->host = NULL;
      put (request, &self->ready, BELAY_HTTP_READY);
      return;
    }
  request->host = get_host (self, request->url);
  put (request, &request->host->waiting, BELAY_HTTP_WAITING);
  self->n_waiting++;
  admit (self, request->host);
}

BelayHttpRequest *
belay_http_queue_next (BelayHttpQueue *self)
{
  BelayHttpRequest *request;

  if (!belay_http_queue_has_next (self))
    return NULL;
  request = self->ready.head->data;
  take (request);
  put (request, &self->running, BELAY_HTTP_RUNNING);
  return request;
}

void
belay_http_queue_leave (BelayHttpQueue *self, BelayHttpRequest *request)
{
  BelayHttpHost *host = g_steal_pointer (&request->host);

  take (request);
  if (G_UNLIKELY (host != NULL))
    {
      if (request->state == BELAY_HTTP_WAITING)
        self->n_waiting--;
      else
        host->active--;
      admit (self, host);
      if (host->active == 0 && host->waiting.length == 0)
        g_hash_table_remove (self->hosts, host->name);
    }
  request->state = BELAY_HTTP_DONE;
}

BelayHttpRequest *
belay_http_queue_any (BelayHttpQueue *self)
{
  GHashTableIter iter;
  gpointer host;

  if (self->running.length > 0)
    return self->running.head->data;
  if (self->ready.length > 0)
    return self->ready.head->data;
  if (self->hosts == NULL || self->n_waiting == 0)
    return NULL;
  g_hash_table_iter_init (&iter, self->hosts);
  while (g_hash_table_iter_next (&iter, NULL, &host))
    if (((BelayHttpHost *) host)->waiting.length > 0)
      return ((BelayHttpHost *) host)->waiting.head->data;
  g_assert_not_reached ();
}
