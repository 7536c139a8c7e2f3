/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loops: a thread that iterates a GMainContext of its own.
 *
 * A loop has a stored scope whose home is that context: the fibers that are spawned on it are the scope's children, so
 * closing the loop is closing the scope there, then ending the thread. Whoever closes does not block: the thread is joined
 * on a worker.
 *
 * `lock` guards `closing`, so that nothing is spawned behind the close.
 *
 * The record has *users*: the guard, and a fiber of the loop that closes the scope. When the close did not end by its
 * release deadline the guard goes first. The thread goes on until that fiber and all that no scope owns have ended, then it
 * ends by itself, and takes the record with it; until then they are pending, and the drain waits for them.
 */
#include "scope/scope-private.h"
#include "sync/shared.h"

#define THREAD_DONE 1 /* the thread touches the record no more */
#define UNJOINED    2 /* nobody joins it */

struct _BelayLoop
{
  BelayPlain    base;
  GThread      *thread;
  GMainContext *main_context;
  GMainLoop    *main_loop;
  BelayContext *context;
  BelayScope   *scope;
  atomic_int    users;
  atomic_bool   closed;   /* the scope */
  BelayPromise *ended;    /* resolved by the thread, when it has nothing left to do */
  atomic_int    end;      /* THREAD_DONE and UNJOINED: whoever sets the second of them frees the record */
  GMutex        lock;
  gboolean      closing;
};

static gboolean loop_close (gpointer data, BelayReason reason, GError **error);
static void loop_abandon (gpointer data);
static void loop_free (gpointer data);

static const BelayPlainClass loop_class = { BELAY_PLAIN_TAG, "BelayLoop", loop_close, NULL, loop_abandon, loop_free };

static void
record_free (BelayLoop *self)
{
  belay_promise_unref (self->ended);
  belay_scope_unref (self->scope);
  g_main_loop_unref (self->main_loop);
  belay_context_unref (self->context);
  g_main_context_unref (self->main_context);
  g_mutex_clear (&self->lock);
  g_free (self);
}

/* The record is not touched after this. One whose scope could not be closed, since no stack was left, stays. */
static void
set_end (BelayLoop *self, int mark)
{
  if (atomic_fetch_or (&self->end, mark) != 0 && atomic_load (&self->closed))
    record_free (self);
}

/* A GDestroyNotify. */
static void
loop_unuse (gpointer data)
{
  BelayLoop *self = data;

  if (atomic_fetch_sub (&self->users, 1) != 1)
    return;
  if (self->thread == NULL)
    {
      record_free (self);
    }
  else
    {
      GMainLoop *main_loop = g_main_loop_ref (self->main_loop);

      g_thread_unref (g_steal_pointer (&self->thread));
      set_end (self, UNJOINED);
      g_main_loop_quit (main_loop);
      g_main_loop_unref (main_loop);
    }
}

static gpointer
loop_main (gpointer data)
{
  BelayLoop *self = data;

  g_main_context_push_thread_default (self->main_context);
  g_main_loop_run (self->main_loop);
  /* Releases that were scheduled here, and notices that may hold the last reference of something: nobody else runs them. And what is
   * kept open here for whoever may come to use it. */
  while (belay_shared_close_idle (self->context) || belay_context_has_detached (self->context) ||
         belay_context_has_items (self->context))
    g_main_context_iteration (self->main_context, TRUE);
  g_main_context_pop_thread_default (self->main_context);
  belay_promise_resolve (self->ended);
  set_end (self, THREAD_DONE);
  return NULL;
}

BelayLoop *
belay_loop_new (const char *name)
{
  BelayLoop *self;

  self = belay_plain_new (BelayLoop, &loop_class);
  atomic_init (&self->users, 1);
  g_mutex_init (&self->lock);
  self->main_context = g_main_context_new ();
  self->main_loop = g_main_loop_new (self->main_context, FALSE);
  self->context = belay_context_ref (belay_context_get_for_main (self->main_context));
  self->scope = belay_scope_new_for (self->context, "belay_loop_new");
  self->ended = belay_promise_new ();
  self->thread = g_thread_new (name != NULL ? name : "belay-loop", loop_main, self);
  return self;
}

GMainContext *
belay_loop_get_context (BelayLoop *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return self->main_context;
}

BelayFuture *
belay_loop_spawn (BelayLoop *self, BelayFunc func, gpointer data, GDestroyNotify destroy)
{
  BelayFuture *future;
  BelayTask *task;

  g_return_val_if_fail (self != NULL && func != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    {
      if (destroy != NULL)
        destroy (data);
      return future;
    }
  task = belay_task_new (self->context, NULL, func, NULL, data, destroy, NULL, "belay_loop_spawn");
  atomic_init (&task->fiber.future.flags, BELAY_FUTURE_JOINED);
  belay_task_cancel_when_dropped (task);
  future = &task->fiber.future;
  g_mutex_lock (&self->lock);
  if (!self->closing)
    {
      belay_task_start (task, self->scope);
      task = NULL;
    }
  g_mutex_unlock (&self->lock);
  if (task != NULL)
    belay_task_refuse (task, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CLOSED, "the loop is closed"));
  return future;
}

/* --- closing --- */

static gboolean
close_scope (gpointer data, GError **error)
{
  BelayLoop *self = data;
  gboolean ok = belay_scope_finish (self->scope, BELAY_REASON_OK, error);

  atomic_store (&self->closed, TRUE);
  return ok;
}

static BelayFuture *
start_close (BelayLoop *self)
{
  atomic_fetch_add (&self->users, 1);
  return belay_task_detached (self->context, close_scope, self, loop_unuse, "closing a loop");
}

static gboolean
join_thread (gpointer data, GError **error)
{
  BelayLoop *self = data;

  g_thread_join (g_steal_pointer (&self->thread));
  return TRUE;
}

static gboolean
loop_close (gpointer data, BelayReason reason, GError **error)
{
  BelayLoop *self = data;
  GError *failure = NULL;
  gboolean ok, joined;

  if (belay_fiber_self ()->context == self->context)
    {
      g_critical ("a loop is closed on its own thread, whose end that would wait for");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a loop cannot be closed on its own thread");
      return FALSE;
    }
  g_mutex_lock (&self->lock);
  self->closing = TRUE;
  g_mutex_unlock (&self->lock);
  if (reason != BELAY_REASON_OK)
    belay_scope_cancel (self->scope, "the loop is being closed");
  ok = belay_await_ok (start_close (self), &failure);
  if (!ok && reason != BELAY_REASON_OK && g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      g_clear_error (&failure); /* our own doing */
      ok = TRUE;
    }
  if (!ok)
    g_propagate_error (error, failure);
  /* Its scope is closed; but fibers that no scope owns may be there still, as long as they like. */
  g_main_loop_quit (self->main_loop);
  joined = belay_await_ok (belay_promise_get_future (self->ended), ok ? error : NULL) &&
           belay_await_ok (belay_thread_run (join_thread, self), ok ? error : NULL);
  return ok && joined;
}

static void
loop_abandon (gpointer data)
{
  BelayLoop *self = data;

  belay_scope_cancel (self->scope, "the loop's release deadline has passed");
}

static void
loop_free (gpointer data)
{
  BelayLoop *self = data;

  if (self->thread != NULL)
    {
      /* It was not joined: its scope is being closed still, or that was refused, and is begun now. */
      g_mutex_lock (&self->lock);
      self->closing = TRUE;
      g_mutex_unlock (&self->lock);
      if (!atomic_load (&self->closed) && atomic_load (&self->users) == 1)
        belay_future_unref (start_close (self));
    }
  loop_unuse (self);
}
