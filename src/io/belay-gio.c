/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GIO and Belay, in both directions.
 *
 * Words. A *call* is one GIO operation on its way to a future. A *wait* is one future on its way to a GTask. To *follow*
 * is what a scope does with somebody's cancellable.
 *
 * A call has a cancellable of its own, given to GIO and cancelled when nobody is interested in the outcome any more, or
 * when the one who awaits it was interrupted. Since GIO may use memory of the caller until it calls back, the promise
 * is a borrowing one: the await ends when GIO has called back.
 *
 * Invariants.
 *  1. A call's promise is answered in belay_gio_ready() and nowhere else, so nothing is ever used by GIO after an await
 *     of it returned.
 *     So a start function that refuses its arguments, and never calls back, leaves it pending for good. That its
 *     cancellable has no other owner does not prove that: an operation that cannot be cancelled need not keep one.
 *  2. Whether a call was stopped is not asked of the cancellable: somebody may reset that. The promise and `refusal`
 *     remember.
 *  3. A call that is made in a scope that is cancelled already hands GIO a cancelled cancellable; what GIO reports as
 *     cancelled then is told as the checkpoint told it (cancelled, or timed out). What succeeded nevertheless has
 *     happened, and is told as that.
 *  4. The one who drops the last interest may do so while GIO calls back on another thread, and the call is given
 *     back. So what it cancels is the cancellable alone, of which the promise has a reference.
 *  5. An output stream that nobody takes is closed by a worker with a cancelled cancellable. A plain unref would block
 *     its thread, and would even commit what g_file_replace() began.
 *  6. A value that GIO has produced is taken from it even when the call was cancelled. GTask would say "cancelled" and
 *     unref the value instead: for what g_file_replace_async() makes that puts an empty file in the place of the old.
 *  7. "cancelled" is connected to as a plain signal. g_cancellable_connect() and g_cancellable_disconnect() wait for
 *     handlers that run, so they deadlock when called under one, on the same thread; a signal's closure is kept alive by
 *     its emission and needs no waiting. The price is a second look after connecting, and handlers that may be called twice.
 *  8. A wait is claimed once, by the outcome or by the cancellable. Its task is returned on its own context in either
 *     case, never inside g_cancellable_cancel().
 *
 * Ownership. A call: the one who starts it until belay_gio_future(), and GIO until it called back. A wait: the
 * continuation on the future, the handler on the cancellable, and an idle source. A follow: the handler holds the scope, the
 * scope holds a weak reference to the cancellable, so neither keeps the other.
 */
#include "run/context.h"
#include "io/detached.h"

/* --- a GIO operation becomes a future --- */

struct _BelayGioCall
{
  int           refs;
  BelayGioKind  kind;
  GCallback     finish;
  GCancellable *cancellable;
  BelayPromise *promise;
  BelayFuture  *future;  /* until belay_gio_future() */
  GError       *refusal; /* why it should not even have been started */
};

static void
call_unref (BelayGioCall *call)
{
  if (__atomic_fetch_sub (&call->refs, 1, __ATOMIC_ACQ_REL) != 1)
    return;
  g_clear_pointer (&call->future, belay_future_unref);
  belay_promise_unref (call->promise);
  g_object_unref (call->cancellable);
  g_clear_error (&call->refusal);
  g_free (call);
}

BelayGioCall *
belay_gio_new (BelayGioKind kind, GCallback finish)
{
  BelayGioCall *call = g_new0 (BelayGioCall, 1);

  belay_clock_hold (1); /* GIO's threads know nothing of a virtual clock */
  call->refs = 2;
  call->kind = kind;
  call->finish = finish;
  call->cancellable = g_cancellable_new ();
  call->promise = belay_promise_new ();
  belay_promise_set_borrowing (call->promise);
  belay_promise_on_cancel (call->promise, (BelayCancelFunc) g_cancellable_cancel, g_object_ref (call->cancellable),
                           g_object_unref);
  call->future = belay_promise_get_future (call->promise);
  if (!belay_checkpoint (&call->refusal))
    g_cancellable_cancel (call->cancellable);
  return call;
}

GCancellable *
belay_gio_get_cancellable (BelayGioCall *call)
{
  g_return_val_if_fail (call != NULL, NULL);

  return call->cancellable;
}

BelayFuture *
belay_gio_future (BelayGioCall *call)
{
  BelayFuture *future;

  g_return_val_if_fail (call != NULL && call->future != NULL, NULL);

  future = g_steal_pointer (&call->future);
  call_unref (call);
  return future;
}

/* --- what GIO answers --- */

static gpointer
close_discarding (gpointer stream, GError **error)
{
  g_autoptr (GCancellable) cancelled = g_cancellable_new ();

  g_cancellable_cancel (cancelled);
  if (G_IS_IO_STREAM (stream))
    g_io_stream_close (stream, cancelled, NULL);
  else
    g_output_stream_close (stream, cancelled, NULL);
  return stream;
}

/* Invariant 5. */
static void
discard_stream (gpointer stream)
{
  belay_detach ("the close of a stream that nobody took", NULL, close_discarding, stream, g_object_unref);
}

static void
resolve_object (BelayPromise *promise, gpointer object)
{
  if (BELAY_IS_RESOURCE (object))
    belay_promise_resolve_resource (promise, object);
  else if (G_IS_OUTPUT_STREAM (object) || G_IS_IO_STREAM (object))
    belay_promise_resolve_pointer (promise, object, discard_stream);
  else
    belay_promise_resolve_object (promise, object);
}

static void
resolve_pointer (BelayGioCall *call, gpointer value)
{
  if (value == NULL) /* a success without a value, such as the end of a stream's lines */
    belay_promise_resolve_pointer (call->promise, NULL, NULL);
  else if (call->kind == BELAY_GIO_STRING)
    belay_promise_resolve_pointer (call->promise, value, g_free);
  else if (call->kind == BELAY_GIO_BYTES)
    belay_promise_resolve_boxed (call->promise, G_TYPE_BYTES, value);
  else if (call->kind == BELAY_GIO_VARIANT)
    belay_promise_resolve_pointer (call->promise, g_variant_take_ref (value), (GDestroyNotify) g_variant_unref);
  else
    resolve_object (call->promise, value);
}

/* Calls the finish function as what it is, and answers the promise. */
static void
finish_call (BelayGioCall *call, GObject *source, GAsyncResult *result)
{
  typedef gboolean (*FinishBoolean) (GObject *, GAsyncResult *, GError **);
  typedef int (*FinishInt) (GObject *, GAsyncResult *, GError **);
  typedef gssize (*FinishSize) (GObject *, GAsyncResult *, GError **);
  typedef gpointer (*FinishPointer) (GObject *, GAsyncResult *, GError **);

  GError *error = NULL;
  gboolean failed = FALSE; /* said without a word; some do */
  gpointer pointer = NULL;
  gint64 number = 0;

  switch (call->kind)
    {
    case BELAY_GIO_BOOLEAN:
      failed = !((FinishBoolean) call->finish) (source, result, &error);
      break;
    case BELAY_GIO_INT:
      number = ((FinishInt) call->finish) (source, result, &error);
      failed = number < 0;
      break;
    case BELAY_GIO_SIZE:
      number = ((FinishSize) call->finish) (source, result, &error);
      failed = number < 0;
      break;
    case BELAY_GIO_OBJECT:
    case BELAY_GIO_STRING:
    case BELAY_GIO_BYTES:
    case BELAY_GIO_VARIANT:
      pointer = ((FinishPointer) call->finish) (source, result, &error);
      break;
    default:
      g_critical ("belay_gio_new: %d is no kind", (int) call->kind);
      failed = TRUE;
      break;
    }

  if (failed && error == NULL)
    g_set_error_literal (&error, G_IO_ERROR, G_IO_ERROR_FAILED, "the operation failed and did not say why");
  if (error != NULL && call->refusal != NULL && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      g_error_free (error);
      error = g_steal_pointer (&call->refusal);
      /* Every checkpoint in that scope says the same: it need not go to the sink, see belay_fiber_refuse(). */
      belay_future_add_flag ((BelayFuture *) call->promise, BELAY_FUTURE_SEEN);
    }

  if (error != NULL)
    belay_promise_reject (call->promise, error);
  else if (call->kind == BELAY_GIO_BOOLEAN)
    belay_promise_resolve (call->promise);
  else if (call->kind == BELAY_GIO_INT || call->kind == BELAY_GIO_SIZE)
    belay_promise_resolve_int64 (call->promise, number);
  else
    resolve_pointer (call, pointer);
}

void
belay_gio_ready (GObject *source, GAsyncResult *result, gpointer data)
{
  BelayGioCall *call = data;

  g_return_if_fail (call != NULL && G_IS_ASYNC_RESULT (result));

  if (G_IS_TASK (result) && !g_task_get_return_on_cancel (G_TASK (result)))
    g_task_set_check_cancellable (G_TASK (result), FALSE); /* invariant 6 */
  finish_call (call, source, result);
  call_unref (call);
  belay_clock_hold (-1);
}

/* --- a future becomes a GIO operation --- */

typedef struct
{
  int           refs;
  GTask        *task;
  GCancellable *cancellable; /* may be NULL */
  GMutex        lock;        /* the rest */
  gboolean      claimed;
  gulong        handler;
  BelayFuture  *chain;       /* our interest in the future, until claimed */
} Wait;

static Wait *
wait_ref (Wait *self)
{
  __atomic_fetch_add (&self->refs, 1, __ATOMIC_RELAXED);
  return self;
}

static void
wait_unref (gpointer data)
{
  Wait *self = data;

  if (__atomic_fetch_sub (&self->refs, 1, __ATOMIC_ACQ_REL) != 1)
    return;
  g_object_unref (self->task);
  g_clear_object (&self->cancellable);
  g_mutex_clear (&self->lock);
  g_free (self);
}

static void
wait_unref_closure (gpointer data, GClosure *closure)
{
  wait_unref (data);
}

/* TRUE for the first. */
static gboolean
wait_claim (Wait *self)
{
  gboolean first;

  g_mutex_lock (&self->lock);
  first = !self->claimed;
  self->claimed = TRUE;
  g_mutex_unlock (&self->lock);
  return first;
}

/* By the one who claimed it: lets go of both ends. */
static void
wait_release (Wait *self)
{
  BelayFuture *chain;
  gulong handler;

  g_mutex_lock (&self->lock);
  chain = g_steal_pointer (&self->chain);
  handler = self->handler;
  self->handler = 0;
  g_mutex_unlock (&self->lock);

  if (handler != 0)
    g_signal_handler_disconnect (self->cancellable, handler);
  g_clear_pointer (&chain, belay_future_unref);
}

static BelayFuture *
wait_known (BelayFuture *done, gpointer data)
{
  Wait *self = data;
  BelayFuture *future = belay_future_get_member (done, 0);
  const GError *error;

  if (!wait_claim (self))
    return NULL;
  wait_release (self);
  error = belay_future_get_error (future);
  if (error != NULL)
    g_task_return_error (self->task, g_error_copy (error));
  else
    g_task_return_pointer (self->task, belay_future_ref (future), (GDestroyNotify) belay_future_unref);
  return NULL;
}

static gboolean
wait_return_cancelled (gpointer data)
{
  Wait *self = data;

  wait_release (self);
  g_task_return_new_error (self->task, G_IO_ERROR, G_IO_ERROR_CANCELLED, "the wait was cancelled");
  return G_SOURCE_REMOVE;
}

/* From any thread, and twice perhaps. */
static void
wait_cancelled (GCancellable *cancellable, gpointer data)
{
  Wait *self = data;
  GSource *source;

  if (!wait_claim (self))
    return;
  source = g_idle_source_new ();
  g_source_set_priority (source, g_task_get_priority (self->task));
  g_source_set_callback (source, wait_return_cancelled, wait_ref (self), wait_unref);
  g_source_attach (source, g_task_get_context (self->task));
  g_source_unref (source);
}

void
belay_future_wait_async (BelayFuture *future, gpointer source, GCancellable *cancellable, GAsyncReadyCallback callback,
                         gpointer data)
{
  GError *error = NULL;
  GTask *task;
  Wait *self;

  g_return_if_fail (future != NULL);
  g_return_if_fail (source == NULL || G_IS_OBJECT (source));
  g_return_if_fail (cancellable == NULL || G_IS_CANCELLABLE (cancellable));

  task = g_task_new (source, cancellable, callback, data);
  g_task_set_source_tag (task, belay_future_wait_async);
  /* A result that is there is delivered, whatever happened to the cancellable since: else its value would be lost. */
  g_task_set_check_cancellable (task, FALSE);
  if (g_cancellable_set_error_if_cancelled (cancellable, &error))
    {
      g_task_return_error (task, error);
      g_object_unref (task);
      belay_future_unref (future);
      return;
    }

  self = g_new0 (Wait, 1);
  self->refs = 1;
  self->task = task;
  g_mutex_init (&self->lock);
  g_mutex_lock (&self->lock); /* the context may be another thread's, and run at once */
  /* In a group of one the outcome stays where it is: a chain on the future itself would take a pointer out of it. */
  self->chain = belay_future_then (belay_future_all_settled (future, NULL), wait_known, wait_ref (self), wait_unref);
  if (cancellable != NULL)
    {
      self->cancellable = g_object_ref (cancellable);
      self->handler = g_signal_connect_data (cancellable, "cancelled", G_CALLBACK (wait_cancelled), wait_ref (self),
                                             wait_unref_closure, (GConnectFlags) 0);
    }
  g_mutex_unlock (&self->lock);
  if (g_cancellable_is_cancelled (cancellable)) /* invariant 7 */
    wait_cancelled (cancellable, self);
  wait_unref (self);
}

BelayFuture *
belay_future_wait_finish (GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (G_IS_TASK (result), NULL);
  g_return_val_if_fail (g_async_result_is_tagged (result, belay_future_wait_async), NULL);

  return g_task_propagate_pointer (G_TASK (result), error);
}

/* --- a scope follows a cancellable --- */

typedef struct
{
  GWeakRef cancellable;
  gulong   handler;
} Follow;

static void
follow_cancelled (GCancellable *cancellable, gpointer scope)
{
  belay_scope_cancel (scope, "the cancellable that the scope follows was cancelled");
}

static void
follow_free_closure (gpointer scope, GClosure *closure)
{
  belay_scope_unref (scope);
}

/* The scope releases. */
static gboolean
follow_end (gpointer data, GError **error)
{
  Follow *self = data;
  g_autoptr (GCancellable) cancellable = g_weak_ref_get (&self->cancellable);

  if (cancellable != NULL)
    g_signal_handler_disconnect (cancellable, self->handler);
  g_weak_ref_clear (&self->cancellable);
  g_free (self);
  return TRUE;
}

void
belay_scope_follow_cancellable (BelayScope *scope, GCancellable *cancellable)
{
  Follow *self;

  g_return_if_fail (scope != NULL);
  g_return_if_fail (G_IS_CANCELLABLE (cancellable));

  if (!g_cancellable_is_cancelled (cancellable))
    {
      self = g_new0 (Follow, 1);
      g_weak_ref_init (&self->cancellable, cancellable);
      self->handler = g_signal_connect_data (cancellable, "cancelled", G_CALLBACK (follow_cancelled),
                                             belay_scope_ref (scope), follow_free_closure, (GConnectFlags) 0);
      belay_scope_defer (scope, follow_end, self);
    }
  if (g_cancellable_is_cancelled (cancellable)) /* invariant 7 */
    follow_cancelled (cancellable, scope);
}
