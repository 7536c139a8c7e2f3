/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Promises: the writing end of a future, which is the same block seen from the other side. See future.c.
 */
#include "core/future-private.h"

#define FUTURE(promise) ((BelayFuture *) (promise))

BelayPromise *
belay_promise_new (void)
{
  BelayFuture *future = belay_future_block_new (BelayFuture);

  belay_future_init (future, BELAY_PROMISE_UNIT);
  return (BelayPromise *) future;
}

BelayPromise *
belay_promise_ref (BelayPromise *promise)
{
  g_return_val_if_fail (promise != NULL, NULL);
  belay_future_ref_writer (FUTURE (promise));
  return promise;
}

void
belay_promise_unref (BelayPromise *promise)
{
  g_return_if_fail (promise != NULL);
  belay_future_unref_writer (FUTURE (promise));
}

BelayFuture *
belay_promise_get_future (BelayPromise *promise)
{
  g_return_val_if_fail (promise != NULL, NULL);
  return belay_future_ref (FUTURE (promise));
}

static gboolean
answer (BelayPromise *promise, BelayKind kind, BelayValue value, BelayAux aux)
{
  if (belay_future_settle (FUTURE (promise), kind, value, aux))
    return TRUE;
  belay_value_clear (kind, value, aux);
  return FALSE;
}

gboolean
belay_promise_resolve (BelayPromise *promise)
{
  g_return_val_if_fail (promise != NULL, FALSE);
  return answer (promise, BELAY_KIND_DONE, (BelayValue) { .p = NULL }, (BelayAux) { NULL });
}

gboolean
belay_promise_resolve_int64 (BelayPromise *promise, gint64 value)
{
  g_return_val_if_fail (promise != NULL, FALSE);
  return answer (promise, BELAY_KIND_INT64, (BelayValue) { .i = value }, (BelayAux) { NULL });
}

gboolean
belay_promise_resolve_double (BelayPromise *promise, double value)
{
  g_return_val_if_fail (promise != NULL, FALSE);
  return answer (promise, BELAY_KIND_DOUBLE, (BelayValue) { .d = value }, (BelayAux) { NULL });
}

gboolean
belay_promise_resolve_pointer (BelayPromise *promise, gpointer value, GDestroyNotify destroy)
{
  g_return_val_if_fail (promise != NULL, FALSE);
  return answer (promise, BELAY_KIND_POINTER, (BelayValue) { .p = value }, (BelayAux) { .destroy = destroy });
}

gboolean
belay_promise_resolve_object (BelayPromise *promise, gpointer object)
{
  g_return_val_if_fail (promise != NULL && G_IS_OBJECT (object), FALSE);
  return answer (promise, BELAY_KIND_OBJECT, (BelayValue) { .p = object }, (BelayAux) { NULL });
}

gboolean
belay_promise_resolve_boxed (BelayPromise *promise, GType type, gpointer boxed)
{
  g_return_val_if_fail (promise != NULL && G_TYPE_IS_BOXED (type), FALSE);
  return answer (promise, BELAY_KIND_BOXED, (BelayValue) { .p = boxed }, (BelayAux) { .type = type });
}

void
belay_promise_resolve_loan (BelayPromise *promise, gpointer value, BelayLoan *loan)
{
  answer (promise, BELAY_KIND_LOAN, (BelayValue) { .p = value }, (BelayAux) { .loan = loan });
}

gboolean
belay_promise_reject (BelayPromise *promise, GError *error)
{
  g_return_val_if_fail (promise != NULL && error != NULL, FALSE);
  return belay_future_settle_error (FUTURE (promise), error);
}

void
belay_promise_on_cancel (BelayPromise *promise, BelayCancelFunc func, gpointer data, GDestroyNotify destroy)
{
  BelayFuture *future = FUTURE (promise);
  struct _BelayFiber **current;
  GDestroyNotify unused_destroy = destroy; /* of what nobody will be asked with */
  gpointer unused_data = data;

  g_return_if_fail (promise != NULL && func != NULL);

  if (belay_future_status (future) == BELAY_STATE_PENDING)
    {
      unused_destroy = future->on_cancel != NULL ? future->cancel_destroy : NULL;
      unused_data = future->cancel_data;
      belay_future_on_cancel (future, func, data, destroy);
    }
  if (unused_destroy == NULL)
    return;
  current = belay_leave_fiber ();
  unused_destroy (unused_data);
  belay_reenter_fiber (current);
}

void
belay_promise_set_borrowing (BelayPromise *promise)
{
  g_return_if_fail (promise != NULL);
  belay_future_add_flag (FUTURE (promise), BELAY_FUTURE_BORROWING);
}
