/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests: from the call to the answer.
 *
 * Words. A request is *taken in* when the context's thread has it, at once or by letter; *dropped* when it ends before
 * its time, wherever it is by then; *done* when it has a value or an error; *settled* when its promise is answered.
 * The states are in request.h.
 *
 * Invariants
 *   1. Each request that was taken in is settled exactly once, at the latest when the multi ends. One that is not taken
 *      in any more is answered by whoever finds the mailbox closed.
 *   2. Promises are answered when nothing else is under way and the request is forgotten: an answer may run functions
 *      of others (destroy notifies, on_cancel), and these may end this very multi.
 *   3. The time of a request begins with the call, also when it has to wait for its turn. `timed` is in the order of
 *      the deadlines; since they usually have the same length, a new one is usually the last.
 *   4. The memory of requests is used again; `turn` then makes the old one's ticket worthless (see mail.c).
 */
#include "http/http-error.h"
#include "http/multi-private.h"

#include <string.h>

#define SPARE_MAX 256  /* requests and transfers kept for reuse */
#define URL_KEEP  1024 /* memory for a URL, kept with a request */

static BelayHttpRequest *
request_new (BelayHttpMulti *self)
{
  BelayHttpRequest *request = g_new0 (BelayHttpRequest, 1);

  request->link.data = request;
  belay_http_ticket_open (&self->mailbox, request);
  return request;
}

void
belay_http_request_free (BelayHttpRequest *request)
{
  belay_http_ticket_close (request);
  g_free (request->url);
  g_free (request);
}

/* Makes it ready for another one. Its ticket leads nowhere from now on. */
static void
recycle (BelayHttpMulti *self, BelayHttpRequest *request)
{
  if (G_UNLIKELY (request->url_size > URL_KEEP))
    {
      g_clear_pointer (&request->url, g_free);
      request->url_size = 0;
    }
  g_clear_pointer (&request->settings, belay_http_settings_unref);
  request->turn++;
  request->state = BELAY_HTTP_NEW;
  if (self->ended || self->spare_requests.length >= SPARE_MAX)
    belay_http_request_free (request);
  else
    g_queue_push_head_link (&self->spare_requests, &request->link);
}

void
belay_http_request_finish (BelayHttpMulti *self, BelayHttpRequest *request)
{
  belay_http_queue_leave (&self->queue, request);
  if (request->timed.data != NULL)
    {
      g_queue_unlink (&self->timed, &request->timed);
      request->timed.data = NULL;
    }
  g_queue_push_tail_link (&self->done, &request->link);
}

void
belay_http_request_give_back_transfer (BelayHttpMulti *self, BelayHttpRequest *request)
{
  BelayHttpTransfer *transfer = g_steal_pointer (&request->transfer);

  if (self->n_spare_transfers >= SPARE_MAX)
    {
      belay_http_transfer_free (transfer);
      return;
    }
  transfer->next = self->spare_transfers;
  self->spare_transfers = transfer;
  self->n_spare_transfers++;
}

void
belay_http_request_drop (BelayHttpMulti *self, BelayHttpRequest *request, GError *error)
{
  if (request->transfer != NULL)
    {
      curl_multi_remove_handle (self->curl, request->transfer->easy); /* with its connection */
      belay_http_transfer_drop (request->transfer);
      belay_http_request_give_back_transfer (self, request);
    }
  request->error = error;
  belay_http_request_finish (self, request);
}

void
belay_http_request_settle (BelayHttpMulti *self)
{
  GList *link;

  while ((link = g_queue_pop_head_link (&self->done)) != NULL)
    {
      BelayHttpRequest *request = link->data;
      BelayPromise *promise = g_steal_pointer (&request->promise);
      gpointer value = g_steal_pointer (&request->value);
      GError *error = g_steal_pointer (&request->error);
      GType type = request->wants == BELAY_HTTP_WANTS_BYTES ? G_TYPE_BYTES : BELAY_TYPE_HTTP_RESPONSE;

      self->n_requests--;
      self->expecting = TRUE;
      recycle (self, request);
      if (G_LIKELY (error == NULL))
        belay_promise_resolve_boxed (promise, type, value);
      else
        belay_promise_reject (promise, error);
      belay_promise_unref (promise);
    }
  if (self->n_requests > 0 || self->ended)
    return;
  if (self->closing)
    belay_http_life_end (self);
  else if (self->kept)
    self->idle_end = g_get_monotonic_time () + BELAY_HTTP_KEEP;
}

void
belay_http_request_take_in (BelayHttpMulti *self, BelayHttpRequest *request)
{
  gint64 timeout = self->settings->timeout;

  request->settings = belay_http_settings_ref (self->settings);
  self->n_requests++;
  self->idle_end = BELAY_HTTP_NEVER;
  if (G_UNLIKELY (timeout > 0))
    {
      GList *before = self->timed.tail;
      gint64 made = request->made != 0 ? request->made : belay_now ();

      request->deadline = timeout < (G_MAXINT64 - made) / 1000 ? made + timeout * 1000 : G_MAXINT64;
      /* usually the last */
      while (before != NULL && ((BelayHttpRequest *) before->data)->deadline > request->deadline)
        before = before->prev;
      request->timed = (GList) { .data = request };
      if (before == NULL)
        g_queue_push_head_link (&self->timed, &request->timed);
      else
        g_queue_insert_after_link (&self->timed, before, &request->timed);
    }
  belay_http_queue_join (&self->queue, request);
}

void
belay_http_request_expire (BelayHttpMulti *self)
{
  gint64 now = belay_now ();

  while (self->timed.length > 0)
    {
      BelayHttpRequest *request = self->timed.head->data;
      const char *doing = "waiting for its turn (see belay_http_session_set_max_connections())";
      GError *error;

      if (request->deadline > now)
        break;
      if (request->transfer != NULL)
        doing = belay_http_transfer_doing (request->transfer);
      error = belay_http_error_timed_out (request->url, request->settings->timeout, doing);
      belay_http_request_drop (self, request, error);
    }
}

/* --- asking --- */

static BelayFuture *
ask (BelayHttpRequest *request, const char *url, BelayHttpWants wants)
{
  gpointer ticket = belay_http_ticket_get (request);
  BelayPromise *promise = belay_promise_new ();
  gsize size = strlen (url) + 1;

  if (G_UNLIKELY (request->url_size < size))
    {
      g_free (request->url);
      request->url = g_malloc (size);
      request->url_size = size;
    }
  memcpy (request->url, url, size);
  request->wants = wants;
  request->made = 0;
  request->promise = promise;
  if (G_LIKELY (ticket != NULL))
    belay_promise_on_cancel (promise, belay_http_ticket_cancel, ticket, NULL);
  return belay_promise_get_future (promise);
}

BelayFuture *
belay_http_multi_get (BelayHttpMulti *self, GMainContext *context, const char *url, BelayHttpWants wants)
{
  BelayHttpRequest *request;
  BelayFuture *future;

  if (G_UNLIKELY (self->fork_count != belay_http_fork_count))
    return belay_future_new_error (belay_http_error_closed (url));
  if (G_LIKELY (g_main_context_is_owner (context)))
    {
      if (G_UNLIKELY (self->closing || self->ended))
        return self->kept ? NULL : belay_future_new_error (belay_http_error_closed (url));
      if (G_LIKELY (self->spare_requests.length > 0))
        request = g_queue_pop_head_link (&self->spare_requests)->data;
      else
        request = request_new (self);
      future = ask (request, url, wants);
      belay_http_request_take_in (self, request);
      return future;
    }

  request = request_new (self);
  future = ask (request, url, wants);
  request->made = belay_now ();
  if (belay_http_mail_post (&self->mailbox, BELAY_HTTP_MAIL_START, request))
    {
      g_main_context_wakeup (context);
      return future;
    }
  belay_promise_reject (request->promise, belay_http_error_closed (url));
  belay_promise_unref (request->promise);
  belay_http_request_free (request);
  if (self->kept)
    {
      belay_future_get_error (future);
      g_clear_pointer (&future, belay_future_unref);
    }
  return future;
}

