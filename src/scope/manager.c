/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Managers: one function that acquires, lends and releases, in a fiber of its own.
 *
 * States: acquiring (the function runs up to its yield), lent (it waits in the yield, the guard is the body's), leaving
 * (the guard is being closed: the function runs on from the yield), over. `entered` gives the guard to whoever opened;
 * closing it wakes the function, and waits for `done`.
 *
 * The outcome of the body is what the yield says: success, or why not. Who closes after an error of the body's
 * (belay_manager_finish(), the end of a BELAY_WITH()) leaves that error here first, so that the yield says just that. The
 * function may *swallow* it, where there is somebody to hear of that: not in a scope, whose reason is one for all, not when
 * the guard was left without a word. A cancellation and the end of the time cannot be swallowed at all.
 *
 * The fiber belongs to no scope: a scope that owned it would wait for it before it closed the guard that it waits for.
 * While it acquires, dropping the interest in the guard cancels it. From the yield on it hears of no cancellation:
 * there is no limit around a fiber that nobody owns.
 *
 * Three hold the record: the guard; the function until it has ended, for one that does not end in time goes on after
 * its guard has gone; and the on_cancel of `entered`, which holds the context, too. Whether a drop came before the
 * yield is decided at home, where the function runs.
 */
#include "scope/scope-private.h"

struct _BelayManager
{
  BelayPlain       base;
  atomic_int       refs;
  BelayItem        dropped;
  BelayManagerFunc func;
  gpointer         data;
  gpointer         value;
  BelayPromise    *entered;  /* until the yield */
  BelayFiber      *waiting;  /* in the yield */
  BelayFuture     *done;     /* the function's result, and its fiber */
  BelayReason      reason;
  GError          *told;     /* what the yield said of the body, or why it was refused */
  GError          *body;     /* the body's own error, of whoever closes */
  gboolean         has_yielded;
  gboolean         listens;  /* whoever closes will hear that it was swallowed */
  gboolean         swallowed;
};

static gboolean manager_close (gpointer data, BelayReason reason, GError **error);
static void manager_abandon (gpointer data);
static void manager_free (gpointer data);

static const BelayPlainClass manager_class = { BELAY_PLAIN_TAG, "BelayManager", manager_close, NULL, manager_abandon,
                                               manager_free };

static void
manager_free (gpointer data)
{
  BelayManager *self = data;

  if (atomic_load_explicit (&self->refs, memory_order_acquire) != 1 &&
      atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  g_clear_pointer (&self->done, belay_future_unref);
  g_clear_error (&self->told);
  g_clear_error (&self->body);
  belay_piece_free (self, sizeof *self);
}

static gboolean
manager_close (gpointer data, BelayReason reason, GError **error)
{
  BelayManager *self = data;

  self->reason = reason;
  belay_fiber_fire (self->waiting);
  if (belay_fiber_await (belay_fiber_self (), self->done, manager_class.name, error) &&
      belay_future_check (self->done, error))
    return TRUE;
  belay_attached_note (belay_fiber_self (), self->done, *error);
  return FALSE;
}

/* The function did not end in time. It is told, and its fiber is drained at the end of the program. */
static void
manager_abandon (gpointer data)
{
  BelayManager *self = data;

  belay_fiber_cancel ((BelayFiber *) self->done, "its release deadline has passed");
}

static gboolean
manager_run (gpointer data, GError **error)
{
  BelayManager *self = data;
  GError *failure = NULL;
  gboolean ok = belay_check_result (self->func (self, self->data, &failure), &failure, "a manager function");

  if (self->has_yielded)
    {
      /* Handing on what the yield said of the body is no failure to release. */
      if (!ok && self->told != NULL && g_error_matches (failure, self->told->domain, self->told->code) &&
          g_str_equal (failure->message, self->told->message))
        {
          g_error_free (failure);
          return TRUE;
        }
      if (!ok)
        g_propagate_error (error, failure);
      return ok;
    }

  /* It ended before it lent anything: nobody has the guard, so this is the end of it. */
  if (ok && self->told != NULL)
    {
      failure = g_error_copy (self->told); /* its yield was refused, so it rolled back, as it should */
    }
  else if (ok && !belay_limit_check (belay_fiber_self (), NULL, &failure))
    {
      /* It saw that nobody waits any more, and did not even try. */
    }
  else if (ok)
    {
      g_critical ("a manager function ended without belay_manager_yield()");
      failure = g_error_new_literal (BELAY_ERROR, BELAY_ERROR_MISUSE, "the manager function ended without a yield");
    }
  belay_future_settle_errors ((BelayFuture *) self->entered, failure, belay_attached_take (belay_fiber_self (), failure));
  g_clear_pointer (&self->entered, belay_promise_unref);
  return TRUE;
}

/* The function has ended, or could not run at all. */
static void
function_over (gpointer data)
{
  BelayManager *self = data;

  if (self->entered != NULL)
    {
      belay_promise_reject (self->entered, self->done->mark == BELAY_FIBER_STILLBORN
                                             ? g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "cancelled before it began")
                                             : g_error_new_literal (BELAY_ERROR, BELAY_ERROR_NO_STACK,
                                                                    "there is no memory for the manager function's stack"));
      g_clear_pointer (&self->entered, belay_promise_unref);
    }
  if (!self->has_yielded)
    manager_free (self); /* the guard's, which nobody was given */
  manager_free (self);
}

/* At home. Before the yield the function is cancelled, from this moment on; after it there is nothing to cancel. */
static void
cancel_opening (BelayManager *self)
{
  BelayFiber *fiber = (BelayFiber *) self->done;

  if (self->has_yielded)
    return;
  if (fiber->stack == NULL)
    {
      fiber->future.mark = BELAY_FIBER_STILLBORN;
      return;
    }
  belay_limit_cancel (&fiber->stack->root, "nobody waits for it any more");
  belay_fiber_poke (fiber);
}

static void
on_dropped_item (BelayItem *item)
{
  BelayManager *self = (BelayManager *) ((char *) item - G_STRUCT_OFFSET (BelayManager, dropped));

  cancel_opening (self);
  manager_free (self);
}

static void
on_dropped (gpointer data)
{
  BelayManager *self = data;
  BelayContext *home = ((BelayFiber *) self->done)->context;

  if (belay_thread.context == home)
    {
      cancel_opening (self);
      return;
    }
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  self->dropped.run = on_dropped_item;
  belay_context_push_remote (home, &self->dropped);
}

static void
on_dropped_over (gpointer data)
{
  BelayManager *self = data;

  belay_context_unref (((BelayFiber *) self->done)->context);
  manager_free (self);
}

BelayFuture *
belay_manager_open (BelayManagerFunc func, gpointer data)
{
  BelayFuture *entered;
  BelayManager *self;
  BelayTask *task;

  g_return_val_if_fail (func != NULL, NULL);

  entered = belay_fiber_refuse ();
  if (entered != NULL)
    return entered;
  self = belay_piece_new0 (sizeof *self);
  self->base.klass = &manager_class;
  atomic_init (&self->refs, 3);
  self->func = func;
  self->data = data;
  self->entered = belay_promise_new ();
  belay_promise_set_borrowing (self->entered); /* @data may lie in the frame that waits */
  entered = belay_promise_get_future (self->entered);
  task = belay_task_new (belay_context_get (), NULL, manager_run, NULL, self, function_over, NULL, NULL);
  self->done = &task->fiber.future;
  belay_context_ref (task->fiber.context);
  belay_promise_on_cancel (self->entered, on_dropped, self, on_dropped_over);
  belay_task_start_detached (task);
  return entered;
}

/* That the body was cancelled is said whatever its error is; otherwise the error is. */
static GError *
tell_of_body (BelayManager *self)
{
  gboolean cancelled = self->reason == BELAY_REASON_CANCELLED;

  if (self->body != NULL && (!cancelled || g_error_matches (self->body, G_IO_ERROR, G_IO_ERROR_CANCELLED)))
    return g_error_copy (self->body);
  if (cancelled)
    return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "the body was cancelled");
  if (self->reason == BELAY_REASON_DEADLINE)
    return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "the body ran out of time");
  return g_error_new_literal (BELAY_ERROR, BELAY_ERROR_FAILED,
                              self->reason == BELAY_REASON_ERROR ? "the body failed" : "the body was left without a word");
}

gboolean
belay_manager_yield (BelayManager *self, gpointer value, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayPromise *entered;

  g_return_val_if_fail (self != NULL, FALSE);

  if (fiber == NULL || self->has_yielded || (BelayFiber *) self->done != fiber)
    {
      if (belay_forked ())
        return belay_fail_forked ("belay_manager_yield", error);
      g_critical ("belay_manager_yield: to be called once, by the manager function");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a manager yields once, in its own fiber");
      return FALSE;
    }
  g_clear_error (&self->told);
  if (!belay_limit_check (fiber, NULL, &self->told))
    {
      if (error != NULL)
        *error = g_error_copy (self->told);
      return FALSE;
    }

  self->value = value;
  self->has_yielded = TRUE; /* from here on, to its end, the function hears of no cancellation of its opening */
  self->waiting = fiber;
  fiber->stack->fired = FALSE;
  entered = g_steal_pointer (&self->entered);
  belay_promise_resolve_resource (entered, self);
  belay_promise_unref (entered);
  belay_stack_set_wait (fiber->stack, BELAY_WAITS_FOR_BODY, self, "belay_manager_yield");
  while (!fiber->stack->fired)
    belay_fiber_suspend (fiber, BELAY_WAIT_DEAF, G_MAXINT64);

  if (self->reason == BELAY_REASON_OK)
    return TRUE;
  self->told = tell_of_body (self);
  if (error != NULL)
    *error = g_error_copy (self->told);
  return FALSE;
}

gboolean
belay_manager_swallow (BelayManager *self)
{
  g_return_val_if_fail (self != NULL, FALSE);

  if (self->told == NULL || (BelayFiber *) self->done != belay_fiber_self ())
    {
      g_critical ("belay_manager_swallow: to be called by the manager function, when its yield has failed");
      return FALSE;
    }
  self->swallowed = self->listens && self->reason == BELAY_REASON_ERROR &&
                    !g_error_matches (self->told, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return self->swallowed;
}

gpointer
belay_manager_get_value (BelayManager *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return self->value;
}

/* --- closing it after an error of the body's --- */

BelayManager *
belay_manager_of (gpointer resource)
{
  return *(const BelayPlainClass **) resource == &manager_class ? resource : NULL;
}

gboolean
belay_manager_is_swallowed (BelayManager *self)
{
  /* A function that did not end in time may still be running, and is not asked. */
  return belay_future_status (self->done) != BELAY_STATE_PENDING && self->swallowed;
}

BelayManager *
belay_manager_listen (BelayManager *self, const GError *body)
{
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  self->body = body != NULL ? g_error_copy (body) : NULL;
  self->listens = TRUE;
  return self;
}

void
belay_manager_unref (BelayManager *self)
{
  manager_free (self);
}
