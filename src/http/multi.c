/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The multi: a session's engine, libcurl's multi handle inside the main loop.
 *
 * Words. The multi *is* a GSource; GLib polls one descriptor for it, the epoll descriptor that all its sockets are in, and
 * one point in time. To *pump* is to call libcurl because its timer is due; a timer of 0 ms is how it says "go on", and
 * is pumped once for a whole batch. To *harvest* is to collect what libcurl has finished, to *settle* is to answer
 * the promises of what was harvested. A *kept* multi is the one that a context has for requests without a session.
 *
 * States: open, closing (takes no more requests and ends when it has none), ended (nothing is left but the memory).
 *
 * Invariants
 *   1. libcurl is called from dispatch() and end() only, never from a caller's function: so never on a fiber's small
 *      stack, never while it calls us, and whatever was asked for during one batch is started together.
 *   2. Everything but the mailbox belongs to whoever owns the GMainContext: the thread that iterates it, or one that
 *      has acquired it for a moment because nobody does. Everybody else writes letters.
 *   3. Promises are answered when nothing else is under way and the request is forgotten: an answer may run functions of
 *      others (destroy notifies, on_cancel), and these may end this very multi.
 *   4. Each request that was accepted is answered exactly once, at the latest by end(). end() happens once: after a close, when
 *      the session is dropped or abandoned, when the context goes, or when a kept one has been idle for KEEP.
 *   5. A dispatch lasts no longer than BUDGET and what one call of libcurl takes. And when this source has been ready in
 *      every turn of the main loop for BUDGET, it lets sources down to GTK's frame clock go first for one turn:
 *      between two turns the run queue of the fibers is ready, then this source, then the run queue again, and a
 *      frame would never come. That a poll slept proves that nothing waited.
 *   6. In a child of fork() a multi of the parent is inert: nothing is sent, closed or unregistered, for connections and
 *      epoll descriptor are shared with the parent.
 */
#include "http/multi.h"

#include "http/http-error.h"
#include "http/mail.h"
#include "http/queue.h"
#include "http/transfer.h"

#include <errno.h>
#include <pthread.h>

#define NEVER          G_MAXINT64
#define BUDGET         4000                       /* µs: a quarter of a frame */
#define SLEPT          100                        /* µs that a poll lasts when it has surely slept */
#define BEHIND_FRAMES  (G_PRIORITY_HIGH_IDLE + 30) /* GTK draws at G_PRIORITY_HIGH_IDLE + 20 */
#define ROUNDS         8                          /* looks at the sockets in one dispatch */
#define START_BATCH    32                         /* requests started between two looks at the clock */
#define SPARE_MAX      256                        /* requests and transfers kept for reuse */
#define KEEP           (60 * G_USEC_PER_SEC)      /* a kept multi without requests */
#define DEFAULT_TOTAL  100                        /* connections */
#define IDLE_UNLIMITED 1024                       /* idle connections kept where there is no limit */

struct _BelayHttpMulti
{
  GSource            source;
  GMainContext      *context;    /* weak: valid while not ended, on its thread */
  CURLM             *curl;       /* NULL before the first request, and after the end */
  BelayHttpSockets   sockets;
  gpointer           tag;        /* of the epoll descriptor in the source */
  BelayHttpMailbox   mailbox;
  BelayHttpQueue     queue;
  GQueue             timed;      /* requests by deadline, the first one first */
  GQueue             done;       /* to be settled */
  guint              n_requests; /* accepted and not yet settled */
  GQueue             spare_requests;
  BelayHttpTransfer *spare_transfers;
  guint              n_spare_transfers;
  BelayHttpSettings *settings;
  GSList            *closers;    /* promises */
  gint64             timer;      /* libcurl's, or NEVER */
  gint64             idle_end;   /* of a kept one, or NEVER */
  gint64             prepared;   /* when the poll began */
  gint64             ready_since; /* ready in every turn since then; 0: was not */
  guint              fork_count; /* of the process that it belongs to */
  gboolean           kick;       /* libcurl's timer is due now */
  gboolean           expecting;  /* answers were given: those who got them may ask for more in the same turn */
  gboolean           behind;     /* lets others go first */
  gboolean           kept;
  gboolean           closing;
  gboolean           ended;
};

static GHashTable *kept_multis; /* GMainContext → BelayHttpMulti, a reference; the lock of mail.c */
static guint fork_count;

static void end (BelayHttpMulti *self);

/* --- requests --- */

static BelayHttpRequest *
request_new (BelayHttpMulti *self)
{
  BelayHttpRequest *request = g_new0 (BelayHttpRequest, 1);

  request->link.data = request;
  belay_http_ticket_open (&self->mailbox, request);
  return request;
}

static void
request_free (BelayHttpRequest *request)
{
  belay_http_ticket_close (request);
  g_free (request);
}

/* Makes it ready for another one. Its ticket leads nowhere from now on. */
static void
recycle (BelayHttpMulti *self, BelayHttpRequest *request)
{
  g_clear_pointer (&request->url, g_free);
  g_clear_pointer (&request->settings, belay_http_settings_unref);
  request->turn++;
  request->state = BELAY_HTTP_NEW;
  if (self->ended || self->spare_requests.length >= SPARE_MAX)
    request_free (request);
  else
    g_queue_push_head_link (&self->spare_requests, &request->link);
}

/* The request has its value or error; what remains is to settle it. */
static void
finish (BelayHttpMulti *self, BelayHttpRequest *request)
{
  belay_http_queue_leave (&self->queue, request);
  if (request->timed.data != NULL)
    {
      g_queue_unlink (&self->timed, &request->timed);
      request->timed.data = NULL;
    }
  g_queue_push_tail_link (&self->done, &request->link);
}

static void
give_back_transfer (BelayHttpMulti *self, BelayHttpRequest *request)
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

/* Ends a request, wherever it is, with an error (transfer full). */
static void
drop (BelayHttpMulti *self, BelayHttpRequest *request, GError *error)
{
  if (request->transfer != NULL)
    {
      curl_multi_remove_handle (self->curl, request->transfer->easy); /* with its connection */
      belay_http_transfer_drop (request->transfer);
      give_back_transfer (self, request);
    }
  request->error = error;
  finish (self, request);
}

static void
settle (BelayHttpMulti *self)
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
    end (self);
  else if (self->kept)
    self->idle_end = g_get_monotonic_time () + KEEP;
}

/* Takes a request over, on the context's thread. */
static void
accept (BelayHttpMulti *self, BelayHttpRequest *request)
{
  gint64 timeout = self->settings->timeout;

  request->settings = belay_http_settings_ref (self->settings);
  self->n_requests++;
  self->idle_end = NEVER;
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

/* --- libcurl --- */

/* CURLMOPT_TIMERFUNCTION */
static int
on_timer (CURLM *curl, long milliseconds, void *data)
{
  BelayHttpMulti *self = data;

  self->kick = milliseconds == 0;
  self->timer = milliseconds > 0 ? g_get_monotonic_time () + (gint64) milliseconds * 1000 : NEVER;
  return 0;
}

static void
set_curl_limits (BelayHttpMulti *self)
{
  guint total = self->queue.total, per_host = self->queue.per_host;

  curl_multi_setopt (self->curl, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) MIN (total, (guint) G_MAXINT32));
  curl_multi_setopt (self->curl, CURLMOPT_MAX_HOST_CONNECTIONS, (long) MIN (per_host, (guint) G_MAXINT32));
  curl_multi_setopt (self->curl, CURLMOPT_MAXCONNECTS, (long) (total != 0 ? MIN (total, (guint) G_MAXINT32) : IDLE_UNLIMITED));
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
  set_curl_limits (self);
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

      drop (self, request, belay_http_error_failed (request->url, BELAY_HTTP_ERROR_FAILED, why));
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
  self->timer = NEVER;
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
      drop (self, request, belay_http_error_failed (request->url, BELAY_HTTP_ERROR_FAILED, why));
      return;
    }
  request->transfer = transfer;
  if (G_LIKELY (belay_http_transfer_begin (transfer, request)))
    {
      CURLMcode code = curl_multi_add_handle (self->curl, transfer->easy);

      if (G_LIKELY (code == CURLM_OK))
        return;
      request->error = belay_http_error_failed (request->url, BELAY_HTTP_ERROR_FAILED, curl_multi_strerror (code));
      belay_http_transfer_drop (transfer);
    }
  give_back_transfer (self, request);
  finish (self, request);
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
      give_back_transfer (self, request);
      finish (self, request);
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
          accept (self, request);
          if (self->closing || self->ended)
            drop (self, request, belay_http_error_closed (request->url));
          break;
        case BELAY_HTTP_MAIL_CANCEL:
          request = belay_http_ticket_find (&self->mailbox, letter->what);
          if (request != NULL && request->state != BELAY_HTTP_NEW && request->state != BELAY_HTTP_DONE)
            drop (self, request, belay_http_error_cancelled (request->url));
          break;
        case BELAY_HTTP_MAIL_CLOSE:
          self->closing = TRUE;
          self->closers = g_slist_prepend (self->closers, letter->what);
          break;
        case BELAY_HTTP_MAIL_END:
          self->closing = TRUE;
          while ((request = belay_http_queue_any (&self->queue)) != NULL)
            drop (self, request, belay_http_error_closed (request->url));
          break;
        }
      next = letter->next;
      g_free (letter);
    }
}

static void
expire (BelayHttpMulti *self)
{
  gint64 now = belay_now ();

  while (self->timed.length > 0)
    {
      BelayHttpRequest *request = self->timed.head->data;
      const char *doing = "waiting for its turn (see belay_http_session_set_max_connections())";

      if (request->deadline > now)
        break;
      if (request->transfer != NULL)
        doing = belay_http_transfer_doing (request->transfer);
      drop (self, request, belay_http_error_timed_out (request->url, request->settings->timeout, doing));
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
  if (self->expecting || has_work (self))
    return TRUE;
  now = self->prepared = g_get_monotonic_time ();
  first = MIN (self->timer, self->idle_end);
  if (first != NEVER)
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
      socket_action (self, events[i].fd, events[i].what);
      if (G_UNLIKELY (g_get_monotonic_time () > stop))
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
  if (self->timed.length > 0)
    expire (self);

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

  if (now - self->ready_since > BUDGET)
    {
      self->behind = TRUE;
      g_source_set_priority (source, BEHIND_FRAMES);
    }
  if (self->kept && self->idle_end <= now)
    end (self);
  else
    settle (self);
  return G_SOURCE_CONTINUE;
}

static void
multi_finalize (GSource *source)
{
  BelayHttpMulti *self = (BelayHttpMulti *) source;

  g_assert (self->ended);
  belay_http_settings_unref (self->settings);
}

static GSourceFuncs multi_funcs = { multi_prepare, multi_check, multi_dispatch, multi_finalize, NULL, NULL };

/* --- the end --- */

/* Forgets a kept multi, unless a letter has just come for it. */
static gboolean
leave_kept (BelayHttpMulti *self, gboolean force)
{
  gboolean left = FALSE;

  belay_http_lock ();
  if (force || !belay_http_mail_is_waiting (&self->mailbox))
    {
      if (kept_multis != NULL && g_hash_table_lookup (kept_multis, self->context) == self)
        g_hash_table_steal (kept_multis, self->context);
      left = TRUE;
    }
  belay_http_unlock ();
  return left;
}
