/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * retry: once more, after a delay that grows.
 *
 * A fiber, a child of the caller's scope, begins one attempt after another and waits in between. The result is a future of
 * its own, since it takes whatever outcome the last attempt has, of any kind. It is a borrowing one: who waits for it and is
 * interrupted asks the fiber to end, and waits until it has. The fiber answers it before it ends, always, and itself
 * reports nothing to its scope.
 *
 * What is around the fiber ends it: an attempt that failed because of that is not repeated, and no delay is begun; what a
 * checkpoint says then is on top.
 */
#include "scope/scope-private.h"

typedef struct
{
  BelayRetryFunc      func;
  gpointer            data;
  guint               attempts;
  double              delay; /* ms, the next */
  double              factor;
  double              max_delay;
  BelayRetryPredicate is_worth;
  const char         *site;
  BelayPromise       *result;
} Retry;

/* From 0 to 1. */
static double
draw (void)
{
  return belay_thread.context->schedule != NULL ? belay_chance (1 << 16) / 65535.0 : g_random_double ();
}

/* Half of it, and of the other half what chance gives. */
static gint64
next_delay (Retry *self)
{
  double delay = MIN (self->delay, self->max_delay);

  self->delay = delay * self->factor;
  return (gint64) (delay / 2 + delay / 2 * draw () + 0.5);
}

/* One attempt: TRUE when that is the outcome; else why it failed, (transfer full), and what is attached to that. */
static gboolean
try_once (Retry *self, BelayFiber *fiber, guint attempt, BelayErrors **inout_errors, GError **ret_failure)
{
  BelayFuture *future = self->func (attempt, self->data);
  BelayErrors *attached;
  gboolean ok;

  if (G_UNLIKELY (future == NULL))
    {
      g_critical ("a function to be retried returned no future");
      g_set_error_literal (ret_failure, BELAY_ERROR, BELAY_ERROR_MISUSE, "an attempt made no future");
      return FALSE;
    }
  /* What is known already counts, whatever is around: a checkpoint comes after it. */
  ok = (belay_future_status (future) != BELAY_STATE_PENDING || belay_fiber_await (fiber, future, self->site, ret_failure)) &&
       belay_future_check (future, ret_failure);
  attached = ok ? NULL : belay_future_get_attached (future);
  if (ok)
    belay_future_settle_copy ((BelayFuture *) self->result, future);
  else if (attached != NULL)
    *inout_errors = belay_errors_ref (attached);
  belay_future_unref (future);
  return ok;
}

/* (transfer full) all. Why the earlier ones failed is no news when nobody waits any more: they were dealt with. */
static gboolean
fail (Retry *self, GError *failure, BelayErrors *earlier)
{
  BelayFuture *result = (BelayFuture *) self->result;

  if (!belay_future_has_interest (result))
    g_clear_pointer (&earlier, belay_errors_unref);
  belay_future_settle_errors (result, failure, earlier);
  return TRUE;
}

static gboolean
may_try_again (Retry *self, guint attempt, const GError *failure)
{
  return attempt < self->attempts && !g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED) &&
         !g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_MISUSE) &&
         (self->is_worth == NULL || self->is_worth (failure, self->data));
}

static gboolean
retry (gpointer data, GError **error)
{
  Retry *self = data;
  BelayFiber *fiber = belay_fiber_self ();
  BelayErrors *earlier = NULL;

  for (guint attempt = 1;; attempt++)
    {
      BelayErrors *attached = NULL;
      GError *failure = NULL, *stopped = NULL;
      gboolean again;

      if (try_once (self, fiber, attempt, &attached, &failure))
        {
          g_clear_pointer (&earlier, belay_errors_unref);
          return TRUE;
        }
      again = belay_limit_check (fiber, self->site, &stopped) && may_try_again (self, attempt, failure);
      if (!again && stopped == NULL)
        {
          earlier = belay_errors_add_all (earlier, attached, 0);
          g_clear_pointer (&attached, belay_errors_unref);
          return fail (self, failure, earlier);
        }
      if (stopped == NULL || !g_error_matches (failure, stopped->domain, stopped->code))
        earlier = belay_errors_add (earlier, failure, self->site);
      else
        g_error_free (failure); /* the attempt was stopped, as all is */
      earlier = belay_errors_add_all (earlier, attached, 0);
      g_clear_pointer (&attached, belay_errors_unref);
      if (stopped != NULL || !belay_sleep_at (next_delay (self), &stopped, self->site))
        return fail (self, stopped, earlier);
    }
}

/* The end of the fiber, also when it never began. */
static void
retry_over (gpointer data)
{
  Retry *self = data;

  belay_promise_reject (self->result, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "ended before it began"));
  belay_promise_unref (self->result);
  g_free (self);
}

static void
on_dropped (gpointer data)
{
  belay_fiber_cancel (data, "nobody waits for it any more");
}

static void
on_dropped_over (gpointer data)
{
  BelayFiber *fiber = data;
  BelayContext *context = fiber->context;

  belay_future_unref (&fiber->future);
  belay_context_unref (context);
}

BelayFuture *
belay_retry_at (BelayRetryFunc func, gpointer data, guint attempts, gint64 first_delay, double factor, gint64 max_delay,
                BelayRetryPredicate is_worth, const char *site)
{
  BelayFuture *future;
  BelayFiber *fiber;
  BelayTask *task;
  Retry *self;

  g_return_val_if_fail (func != NULL && attempts > 0 && first_delay >= 0 && factor >= 1.0 && max_delay >= 0, NULL);

  future = belay_fiber_refuse ();
  if (G_UNLIKELY (future != NULL))
    return future;
  self = g_new (Retry, 1);
  *self = (Retry) { func, data, attempts, (double) first_delay, factor, (double) max_delay, is_worth, site,
                    belay_promise_new () };
  future = belay_promise_get_future (self->result);
  belay_promise_set_borrowing (self->result);
  fiber = belay_fiber_self ();
  task = belay_task_new (belay_context_get (), NULL, retry, NULL, self, retry_over, NULL, site);
  belay_context_ref (task->fiber.context);
  belay_promise_on_cancel (self->result, on_dropped, &task->fiber, on_dropped_over);
  if (fiber != NULL)
    belay_task_start (task, belay_scope_innermost (fiber));
  else
    belay_task_start_detached (task);
  return future;
}

BelayFuture *
(belay_retry) (BelayRetryFunc func, gpointer data, guint attempts, gint64 first_delay, double factor, gint64 max_delay,
               BelayRetryPredicate is_worth)
{
  return belay_retry_at (func, data, attempts, first_delay, factor, max_delay, is_worth, NULL);
}
