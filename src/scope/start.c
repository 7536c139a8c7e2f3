/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starting: a child that says when it is ready.
 *
 * The caller has a future of the word "ready", with a value. Until then the child is the caller's: its failure is what the
 * future says, and whoever gives the future up cancels the child, and waits for its end. From then on it is a member of the
 * group as any other. All the while it is a child of the scope's, so that is not closed before it has ended.
 *
 * States: WAITING, then READY, when the child says so, or GIVEN_UP, when the last interest in the future goes. Whoever makes
 * the exchange has decided, so a child that is cancelled is never said to be ready. A child that ends WAITING or GIVEN_UP
 * settles the future, when its own scope is closed: by its error, or because it never said the word.
 *
 * References: one of the child's function, one of the notification of its end, one of the question on the future.
 */
#include "scope/scope-private.h"

enum { WAITING, READY, GIVEN_UP };

struct _BelayStarting
{
  atomic_int     refs;
  atomic_int     state;
  BelayPromise  *ready;
  BelayTask     *task;    /* an interest in its future, until this is freed */
  BelayContext  *context; /* its home: the task may have ended with it */
  BelayWaiter    waiter;  /* on its end */
  BelayStartFunc func;
  gpointer       data;
  GDestroyNotify destroy;
};

static void
starting_unref (gpointer data)
{
  BelayStarting *self = data;

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  belay_future_unref (&self->task->fiber.future);
  belay_promise_unref (self->ready);
  belay_context_unref (self->context);
  g_free (self);
}

static gboolean
run (gpointer data, GError **error)
{
  BelayStarting *self = data;

  return self->func (self, self->data, error);
}

/* The function has returned, or was never called. */
static void
end_data (gpointer data)
{
  BelayStarting *self = data;

  if (self->destroy != NULL)
    self->destroy (self->data);
  starting_unref (self);
}

static void
on_ended (BelayWaiter *waiter)
{
  BelayStarting *self = (BelayStarting *) ((char *) waiter - G_STRUCT_OFFSET (BelayStarting, waiter));
  BelayFuture *ended = &self->task->fiber.future;

  if (atomic_load (&self->state) != READY)
    {
      if (belay_future_status (ended) == BELAY_STATE_REJECTED)
        belay_future_settle_copy ((BelayFuture *) self->ready, ended); /* with what is attached */
      else if (atomic_load (&self->state) == GIVEN_UP)
        belay_promise_reject (self->ready, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "the start was given up"));
      else
        belay_promise_reject (self->ready, g_error_new_literal (BELAY_ERROR, BELAY_ERROR_BROKEN,
                                                                "the child ended without saying that it is ready"));
    }
  starting_unref (self);
}

static void
on_given_up (gpointer data)
{
  BelayStarting *self = data;
  int waiting = WAITING;

  if (atomic_compare_exchange_strong (&self->state, &waiting, GIVEN_UP))
    belay_fiber_cancel (&self->task->fiber, "its start was given up");
}

BelayFuture *
belay_scope_start (BelayScope *scope, BelayStartFunc func, gpointer data, GDestroyNotify destroy)
{
  BelayStarting *self;
  BelayFuture *future;

  g_return_val_if_fail (scope != NULL && func != NULL, NULL);

  future = belay_fiber_refuse ();
  if (G_UNLIKELY (future != NULL))
    {
      if (destroy != NULL)
        destroy (data);
      return future;
    }
  self = g_new0 (BelayStarting, 1);
  atomic_init (&self->refs, 3);
  self->ready = belay_promise_new ();
  self->context = belay_context_ref (scope->context);
  self->waiter.notify = on_ended;
  self->func = func;
  self->data = data;
  self->destroy = destroy;
  self->task = belay_task_new (scope->context, NULL, run, NULL, self, end_data, NULL, scope->site);
  future = belay_promise_get_future (self->ready);
  belay_promise_set_borrowing (self->ready); /* a wait that is given up ends with the child */
  belay_promise_on_cancel (self->ready, on_given_up, self, starting_unref);
  belay_future_add_waiter (&self->task->fiber.future, &self->waiter);
  belay_task_start_in (self->task, scope);
  return future;
}

gboolean
belay_started (BelayStarting *self, gpointer value, GDestroyNotify destroy)
{
  int waiting = WAITING;

  g_return_val_if_fail (self != NULL, FALSE);

  if (G_UNLIKELY (belay_thread.context != self->context))
    {
      g_critical ("belay_started: a child says that it is ready on its own thread");
    }
  else if (atomic_compare_exchange_strong (&self->state, &waiting, READY))
    {
      self->task->group = TRUE;
      belay_promise_resolve_pointer (self->ready, value, destroy);
      return TRUE;
    }
  else if (waiting == READY)
    {
      g_critical ("belay_started: the child has said before that it is ready");
    }
  if (destroy != NULL && value != NULL)
    destroy (value);
  return FALSE;
}
