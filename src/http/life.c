/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of a multi: how it is made, kept, closed and ended.
 *
 * States: open, closing (takes no more requests, and ends when it has none), ended (nothing is left but the memory).
 *
 * A session has a multi for itself. A context *keeps* one for requests without a session: it is made at the first and
 * ends when it has been idle for a minute, or with its context. At the end of the program it may still be there; the
 * table leads to it.
 *
 * Invariants
 *   1. The end comes once, on the context's thread or under acquisition of the context: after a close, when the session
 *      is dropped or abandoned, when a kept multi was idle for long, or when the context goes (the source's
 *      callback data is dropped then).
 *   2. Who does not own the context acquires it, when nobody iterates it just then; else the owner is sent a letter.
 *      Neither waits.
 *   3. The context's pointer is weak: a source must not keep its own context. Public functions are called with it, and
 *      whoever calls them keeps it alive.
 *   4. In a child of fork() a multi of the parent is inert: nothing is sent, closed or unregistered, for connections
 *      and epoll descriptor are shared with the parent. Ended there, it leaves libcurl's memory as it is.
 */
#include "http/http-error.h"
#include "http/multi-private.h"

#include <pthread.h>

#define DEFAULT_TOTAL 100 /* connections */

guint belay_http_fork_count;
static GHashTable *kept_multis; /* GMainContext → BelayHttpMulti, a reference; the lock of mail.c */

/* --- the end --- */

gboolean
belay_http_life_leave (BelayHttpMulti *self, gboolean force)
{
  gboolean left, was_kept = FALSE;

  belay_http_lock ();
  left = force || !belay_http_mail_is_waiting (&self->mailbox);
  if (left && g_hash_table_lookup (kept_multis, self->context) == self)
    was_kept = g_hash_table_remove (kept_multis, self->context);
  belay_http_unlock ();
  if (was_kept)
    belay_http_multi_unref (self);
  return left;
}

static void
close_mail (BelayHttpMulti *self)
{
  BelayHttpLetter *letter, *next;

  for (letter = belay_http_mail_close (&self->mailbox); letter != NULL; letter = next)
    {
      if (letter->kind == BELAY_HTTP_MAIL_START)
        {
          BelayHttpRequest *request = letter->what;

          request->error = belay_http_error_closed (request->url);
          request->state = BELAY_HTTP_DONE;
          self->n_requests++;
          g_queue_push_tail_link (&self->done, &request->link);
        }
      else if (letter->kind == BELAY_HTTP_MAIL_CLOSE)
        {
          self->closers = g_slist_prepend (self->closers, letter->what);
        }
      next = letter->next;
      g_free (letter);
    }
}

void
belay_http_life_end (BelayHttpMulti *self)
{
  gboolean is_ours = self->fork_count == belay_http_fork_count; /* invariant 4 */
  BelayHttpRequest *request;
  BelayHttpTransfer *transfer;
  GSList *closers;
  GList *link;

  if (self->ended)
    return;
  self->ended = TRUE;
  g_source_ref (&self->source);
  if (self->kept)
    belay_http_life_leave (self, TRUE);
  close_mail (self);

  while ((request = belay_http_queue_any (&self->queue)) != NULL)
    {
      if (!is_ours)
        request->transfer = NULL;
      belay_http_request_drop (self, request, belay_http_error_closed (request->url));
    }
  belay_http_queue_clear (&self->queue);
  g_source_destroy (&self->source);
  self->tag = NULL;
  while (is_ours && (transfer = self->spare_transfers) != NULL)
    {
      self->spare_transfers = transfer->next;
      belay_http_transfer_free (transfer);
    }
  if (is_ours && self->curl != NULL)
    curl_multi_cleanup (self->curl);
  self->curl = NULL;
  if (is_ours)
    belay_http_sockets_clear (&self->sockets);
  while ((link = g_queue_pop_head_link (&self->spare_requests)) != NULL)
    belay_http_request_free (link->data);

  belay_http_request_settle (self);
  closers = g_steal_pointer (&self->closers);
  for (GSList *i = closers; i != NULL; i = i->next)
    {
      belay_promise_resolve (i->data);
      belay_promise_unref (i->data);
    }
  g_slist_free (closers);
  belay_http_fence ();
  g_source_unref (&self->source);
}

/* The source was destroyed: by end() itself, or because its context goes. */
static void
on_destroyed (gpointer data)
{
  belay_http_life_end (data);
}

/* --- for the session --- */

static void
after_fork (void)
{
  belay_http_fork_count++;
}

static gpointer
init_once (gpointer unused)
{
  if (curl_global_init (CURL_GLOBAL_DEFAULT) != CURLE_OK)
    g_error ("libcurl cannot be initialised");
  pthread_atfork (NULL, NULL, after_fork);
  return NULL;
}

BelayHttpMulti *
belay_http_multi_new (GMainContext *context)
{
  static GOnce once = G_ONCE_INIT;
  GSource *source;
  BelayHttpMulti *self;

  g_once (&once, init_once, NULL);
  source = g_source_new (&belay_http_multi_funcs, sizeof (BelayHttpMulti));
  self = (BelayHttpMulti *) source;
  self->context = context;
  self->sockets = (BelayHttpSockets) BELAY_HTTP_SOCKETS_INIT;
  belay_http_mail_init (&self->mailbox);
  belay_http_queue_init (&self->queue, 0, DEFAULT_TOTAL);
  g_queue_init (&self->timed);
  g_queue_init (&self->done);
  g_queue_init (&self->spare_requests);
  self->settings = belay_http_settings_new ();
  self->timer = self->idle_end = BELAY_HTTP_NEVER;
  self->fork_count = belay_http_fork_count;
  g_source_set_static_name (source, "Belay HTTP");
  g_source_set_callback (source, NULL, self, on_destroyed);
  g_source_set_can_recurse (source, TRUE); /* else GLib takes the descriptor out and puts it back at each dispatch */
  g_source_attach (source, context);
  return self;
}

BelayHttpMulti *
belay_http_multi_get_kept (GMainContext *context)
{
  BelayHttpMulti *self, *made = NULL;

  belay_http_lock ();
  self = kept_multis != NULL ? g_hash_table_lookup (kept_multis, context) : NULL;
  if (self != NULL && self->fork_count == belay_http_fork_count)
    g_source_ref (&self->source);
  else
    self = NULL;
  belay_http_unlock ();
  if (G_LIKELY (self != NULL))
    return self;

  made = belay_http_multi_new (context);
  made->kept = TRUE;
  belay_http_lock ();
  if (kept_multis == NULL)
    kept_multis = g_hash_table_new (NULL, NULL);
  self = g_hash_table_lookup (kept_multis, context);
  if (self == NULL || self->fork_count != belay_http_fork_count)
    {
      self = made;
      g_hash_table_insert (kept_multis, context, made); /* a parent's is forgotten, not ended */
      g_source_ref (&made->source);
    }
  g_source_ref (&self->source);
  belay_http_unlock ();
  if (self != made)
    belay_http_multi_end (made, context);
  belay_http_multi_unref (made);
  return self;
}

void
belay_http_multi_unref (BelayHttpMulti *self)
{
  g_source_unref (&self->source);
}

BelayHttpSettings *
belay_http_multi_edit (BelayHttpMulti *self)
{
  belay_http_settings_edit (&self->settings);
  return self->settings;
}

void
belay_http_multi_set_limits (BelayHttpMulti *self, guint per_host, guint total)
{
  if (self->ended)
    return;
  belay_http_queue_set_limits (&self->queue, per_host, total);
  if (self->curl != NULL)
    belay_http_multi_apply_limits (self);
}

BelayFuture *
belay_http_multi_close (BelayHttpMulti *self, GMainContext *context)
{
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (promise);

  if (g_main_context_acquire (context))
    {
      self->closing = TRUE;
      if (!self->ended)
        self->closers = g_slist_prepend (self->closers, belay_promise_ref (promise));
      else
        belay_promise_resolve (promise);
      if (self->n_requests == 0)
        belay_http_life_end (self);
      g_main_context_release (context);
    }
  else if (belay_http_mail_post (&self->mailbox, BELAY_HTTP_MAIL_CLOSE, belay_promise_ref (promise)))
    {
      g_main_context_wakeup (context);
    }
  else
    {
      belay_promise_resolve (promise);
      belay_promise_unref (promise);
    }
  belay_promise_unref (promise);
  return future;
}

void
belay_http_multi_end (BelayHttpMulti *self, GMainContext *context)
{
  if (g_main_context_acquire (context))
    {
      belay_http_life_end (self);
      g_main_context_release (context);
    }
  else if (belay_http_mail_post (&self->mailbox, BELAY_HTTP_MAIL_END, NULL))
    {
      g_main_context_wakeup (context);
    }
}
