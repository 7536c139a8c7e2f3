/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The multi: a session's engine, libcurl's multi handle inside the main loop.
 *
 * Words. The multi *is* a GSource; GLib polls one descriptor for it, the epoll descriptor that all its sockets are in,
 * and one point in time. To *pump* is to call libcurl because its timer is due; a timer of 0 ms is how it says "go
 * on", and is pumped once for a whole batch. To *harvest* is to collect what libcurl has finished, to *settle* is to
 * answer the promises of what was harvested. A *kept* multi is the one that a context has for requests without a
 * session.
 *
 * Requests are in request.c, the beginning and the end of a multi in life.c.
 *
 * Invariants
 *   1. libcurl transfers only in dispatch(): never in a caller's function, so never on a fiber's small stack, never
 *      while it calls us, and whatever was asked for during one batch is started together.
 *   2. Everything but the mailbox belongs to whoever owns the GMainContext: the thread that iterates it, or one that
 *      has acquired it for a moment because nobody does. Everybody else writes letters.
 *   3. A dispatch lasts no longer than BUDGET and what one call of libcurl takes.
 *   4. When this source has been ready in every turn of the main loop for BUDGET, it lets sources down to GTK's frame
 *      clock go first for one turn. The fibers' run queue does so too, but the two take turns at being ready (an
 *      answer wakes a fiber, which asks for more), and a frame would never come. A poll that slept proves that nothing
 *      waited.
 *   5. Answers are given last in a dispatch: they may end the multi, or run a nested main loop that dispatches again.
 */
#include "http/http-error.h"
#include "http/multi-private.h"

#include <errno.h>

#define BUDGET         4000                       /* µs: a quarter of a frame */
#define SLEPT          100                        /* µs that a poll lasts when it has surely slept */
#define BEHIND_FRAMES  (G_PRIORITY_HIGH_IDLE + 30) /* GTK draws at G_PRIORITY_HIGH_IDLE + 20 */
#define ROUNDS         8                          /* looks at the sockets in one dispatch */
#define START_BATCH    32                         /* requests started between two looks at the clock */
#define IDLE_UNLIMITED 1024L                      /* idle connections kept where there is no limit */

/* --- libcurl --- */

/* CURLMOPT_TIMERFUNCTION */
static int
on_timer (CURLM *curl, long milliseconds, void *data)
{
  BelayHttpMulti *self = data;

  self->kick = milliseconds == 0;
  self->timer = milliseconds > 0 ? g_get_monotonic_time () + (gint64) milliseconds * 1000 : BELAY_HTTP_NEVER;
  return 0;
}

void
belay_http_multi_apply_limits (BelayHttpMulti *self)
{
  long total = (long) MIN (self->queue.total, (guint) G_MAXINT32);
  long per_host = (long) MIN (self->queue.per_host, (guint) G_MAXINT32);

  curl_multi_setopt (self->curl, CURLMOPT_MAX_TOTAL_CONNECTIONS, total);
  curl_multi_setopt (self->curl, CURLMOPT_MAX_HOST_CONNECTIONS, per_host);
  curl_multi_setopt (self->curl, CURLMOPT_MAXCONNECTS, total != 0 ? total : IDLE_UNLIMITED);
}

/* Opens what costs descriptors, at the first request. FALSE with a message. */
static gboolean
open_curl (BelayHttpMulti *self, const char **why)
{
  if (G_LIKELY (self->curl != NULL))
    return TRUE;
  if (!belay_http_sockets_open (&self->sockets))
    {
      *why = g_strerror (errno);
      return FALSE;
    }
  self->curl = curl_multi_init ();
  if (self->curl == NULL)
    {
      *why = "not enough memory";
      belay_http_sockets_clear (&self->sockets);
      return FALSE;
    }
  curl_multi_setopt (self->curl, CURLMOPT_SOCKETFUNCTION, belay_http_sockets_watch);
  curl_multi_setopt (self->curl, CURLMOPT_SOCKETDATA, &self->sockets);
  curl_multi_setopt (self->curl, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt (self->curl, CURLMOPT_TIMERDATA, self);
  belay_http_multi_apply_limits (self);
  self->tag = g_source_add_unix_fd (&self->source, self->sockets.epoll, G_IO_IN);
  belay_http_mail_set_wake (&self->mailbox, self->sockets.wake);
  return TRUE;
}

/* libcurl or the kernel will not go on with any of them. */
static G_GNUC_NO_INLINE void
fail_running (BelayHttpMulti *self, const char *why)
{
  while (self->queue.running.length > 0)
    {
      BelayHttpRequest *request = self->queue.running.head->data;

      belay_http_request_drop (self, request, belay_http_error_failed (request->url, BELAY_HTTP_ERROR_FAILED, why));
    }
}

static void
socket_action (BelayHttpMulti *self, curl_socket_t fd, int what)
{
  int running;
  CURLMcode code = curl_multi_socket_action (self->curl, fd, what, &running);

  if (G_UNLIKELY (code != CURLM_OK && code != CURLM_BAD_SOCKET))
    fail_running (self, curl_multi_strerror (code));
  if (G_UNLIKELY (self->sockets.problem != 0))
    {
      const char *why = g_strerror (self->sockets.problem);

      self->sockets.problem = 0;
      fail_running (self, why);
    }
}

static void
pump (BelayHttpMulti *self)
{
  self->kick = FALSE;
  self->timer = BELAY_HTTP_NEVER;
  socket_action (self, CURL_SOCKET_TIMEOUT, 0);
}

static void
start (BelayHttpMulti *self, BelayHttpRequest *request)
{
  BelayHttpTransfer *transfer = self->spare_transfers;
  const char *why = "not enough memory";

  if (G_LIKELY (transfer != NULL))
    {
      self->spare_transfers = transfer->next;
      self->n_spare_transfers--;
    }
  else if (open_curl (self, &why))
    {
      transfer = belay_http_transfer_new (&self->sockets);
    }
  if (G_UNLIKELY (transfer == NULL))
    {
      belay_http_request_drop (self, request, belay_http_error_failed (request->url, BELAY_HTTP_ERROR_FAILED, why));
      return;
    }
  request->transfer = transfer;
  if (G_LIKELY (belay_http_transfer_begin (transfer, request, self->queue.running.length)))
    {
      CURLMcode code = curl_multi_add_handle (self->curl, transfer->easy);

      if (G_LIKELY (code == CURLM_OK))
        return;
      request->error = belay_http_error_failed (request->url, BELAY_HTTP_ERROR_FAILED, curl_multi_strerror (code));
      belay_http_transfer_drop (transfer);
    }
  belay_http_request_give_back_transfer (self, request);
  belay_http_request_finish (self, request);
}

static void
harvest (BelayHttpMulti *self)
{
  CURLMsg *message;
  int left;

  while ((message = curl_multi_info_read (self->curl, &left)) != NULL)
    {
      BelayHttpTransfer *transfer = NULL;
      BelayHttpRequest *request;
      CURLcode code = message->data.result;

      curl_easy_getinfo (message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
      request = transfer->request;
      curl_multi_remove_handle (self->curl, transfer->easy); /* the message is gone with it */
      belay_http_transfer_finish (transfer, code);
      belay_http_request_give_back_transfer (self, request);
      belay_http_request_finish (self, request);
    }
}

/* --- letters --- */

static void
read_mail (BelayHttpMulti *self)
{
  BelayHttpLetter *letter, *next;

  for (letter = belay_http_mail_take (&self->mailbox); letter != NULL; letter = next)
    {
      BelayHttpRequest *request;

      switch (letter->kind)
        {
        case BELAY_HTTP_MAIL_START:
          request = letter->what;
          belay_http_request_take_in (self, request);
          if (self->closing || self->ended)
            belay_http_request_drop (self, request, belay_http_error_closed (request->url));
          break;
        case BELAY_HTTP_MAIL_CANCEL:
          request = belay_http_ticket_find (&self->mailbox, letter->what);
          if (request != NULL && request->state != BELAY_HTTP_NEW && request->state != BELAY_HTTP_DONE)
            belay_http_request_drop (self, request, belay_http_error_cancelled (request->url));
          break;
        case BELAY_HTTP_MAIL_CLOSE:
          self->closing = TRUE;
          self->closers = g_slist_prepend (self->closers, letter->what);
          break;
        case BELAY_HTTP_MAIL_END:
          self->closing = TRUE;
          while ((request = belay_http_queue_any (&self->queue)) != NULL)
            belay_http_request_drop (self, request, belay_http_error_closed (request->url));
          break;
        }
      next = letter->next;
      g_free (letter);
    }
}

/* --- the source --- */

static inline gboolean
has_work (BelayHttpMulti *self)
{
  return self->kick || belay_http_queue_has_next (&self->queue) || belay_http_mail_is_waiting (&self->mailbox) ||
         (self->closing && self->n_requests == 0);
}

static int
timeout_until (gint64 when, gint64 now)
{
  return when <= now ? 0 : (int) MIN ((when - now + 999) / 1000, G_MAXINT);
}

static gboolean
multi_prepare (GSource *source, int *timeout)
{
  BelayHttpMulti *self = (BelayHttpMulti *) source;
  gint64 now, first;

  *timeout = -1;
  if (G_UNLIKELY (self->fork_count != belay_http_fork_count))
    return FALSE;
  if (self->expecting || has_work (self))
    return TRUE;
  now = self->prepared = g_get_monotonic_time ();
  first = MIN (self->timer, self->idle_end);
  if (first != BELAY_HTTP_NEVER)
    *timeout = timeout_until (first, now);
  if (self->timed.length > 0)
    {
      int left = timeout_until (((BelayHttpRequest *) self->timed.head->data)->deadline, belay_now ());

      *timeout = *timeout < 0 ? left : MIN (*timeout, left);
    }
  return *timeout == 0;
}

static gboolean
multi_check (GSource *source)
{
  BelayHttpMulti *self = (BelayHttpMulti *) source;
  gint64 now = g_get_monotonic_time ();

  if (G_UNLIKELY (self->fork_count != belay_http_fork_count))
    return FALSE;
  if (now - self->prepared >= SLEPT)
    self->ready_since = 0;
  return (self->tag != NULL && g_source_query_unix_fd (source, self->tag) != 0) || has_work (self) ||
         MIN (self->timer, self->idle_end) <= now ||
         (self->timed.length > 0 && ((BelayHttpRequest *) self->timed.head->data)->deadline <= belay_now ());
}

/* Looks at the sockets. TRUE when there was something. */
static gboolean
handle_events (BelayHttpMulti *self, gint64 stop)
{
  BelayHttpEvent events[BELAY_HTTP_MAX_EVENTS];
  guint n = belay_http_sockets_ready (&self->sockets, events);

  for (guint i = 0; i < n; i++)
    {
      if (G_LIKELY (belay_http_sockets_concerns (&self->sockets, &events[i])))
        socket_action (self, events[i].fd, events[i].what);
      if (i % 8 == 7 && G_UNLIKELY (g_get_monotonic_time () > stop))
        break; /* the kernel will say the rest again */
    }
  return n > 0;
}

static gboolean
multi_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  BelayHttpMulti *self = (BelayHttpMulti *) source;
  gint64 now = g_get_monotonic_time ();
  gint64 stop = now + BUDGET;
  gboolean look = self->tag != NULL && g_source_query_unix_fd (source, self->tag) != 0;

  if (self->ready_since == 0 || self->behind)
    self->ready_since = now;
  if (G_UNLIKELY (self->behind))
    {
      self->behind = FALSE;
      g_source_set_priority (source, G_PRIORITY_DEFAULT);
    }
  self->expecting = FALSE;
  if (belay_http_mail_is_waiting (&self->mailbox))
    read_mail (self);

  for (guint round = 0; round < ROUNDS; round++)
    {
      BelayHttpRequest *request;
      guint n_started = 0;

      while (n_started < START_BATCH && (request = belay_http_queue_next (&self->queue)) != NULL)
        {
          start (self, request);
          n_started++;
        }
      if (self->curl == NULL)
        break;
      look = look && handle_events (self, stop);
      if (self->kick || self->timer <= now)
        pump (self);
      harvest (self);
      now = g_get_monotonic_time ();
      if (now > stop || (!look && !belay_http_queue_has_next (&self->queue)))
        break;
    }

  if (self->timed.length > 0)
    belay_http_request_expire (self); /* what has come in time counts, though it is looked at late */
  if (now - self->ready_since > BUDGET)
    {
      self->behind = TRUE;
      g_source_set_priority (source, BEHIND_FRAMES);
    }
  if (G_UNLIKELY (self->idle_end <= now) && belay_http_life_leave (self, FALSE))
    belay_http_life_end (self);
  else
    belay_http_request_settle (self);
  return G_SOURCE_CONTINUE;
}

static void
multi_finalize (GSource *source)
{
  BelayHttpMulti *self = (BelayHttpMulti *) source;

  belay_http_fence ();
  g_assert (self->ended);
  belay_http_settings_unref (self->settings);
}

GSourceFuncs belay_http_multi_funcs = { multi_prepare, multi_check, multi_dispatch, multi_finalize, NULL, NULL };

