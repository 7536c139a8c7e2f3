/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a future holds: making it, looking at it, taking it.
 *
 * A number is copied, an object or boxed value is given to each taker by reference, a plain pointer to one taker alone,
 * whom the flag TAKEN decides. A pointer on *loan* is that of a queue, say: where nobody takes it, the queue has it back. Whoever looks at an error sets SEEN, and the sink will not get it.
 */
#include "core/future-private.h"

void
belay_value_clear (BelayKind kind, BelayValue value, BelayAux aux)
{
  switch (kind)
    {
    case BELAY_KIND_DONE:
    case BELAY_KIND_INT64:
    case BELAY_KIND_DOUBLE:
      break;
    case BELAY_KIND_POINTER:
    case BELAY_KIND_MEMBERS:
      if (aux.destroy != NULL && value.p != NULL)
        aux.destroy (value.p);
      break;
    case BELAY_KIND_LOAN:
      aux.loan->end (aux.loan, value.p);
      break;
    case BELAY_KIND_OBJECT:
      g_clear_object (&value.p);
      break;
    case BELAY_KIND_BOXED:
      if (value.p != NULL)
        g_boxed_free (aux.type, value.p);
      break;
    case BELAY_KIND_ERROR:
      g_error_free (value.error);
      g_clear_pointer (&aux.errors, belay_errors_unref);
      break;
    }
}

gboolean
belay_future_take_value (BelayFuture *future, BelayValue *ret_value, GError **error)
{
  switch ((BelayKind) future->kind)
    {
    case BELAY_KIND_POINTER:
    case BELAY_KIND_LOAN:
      if (atomic_fetch_or_explicit (&future->flags, BELAY_FUTURE_TAKEN, memory_order_acq_rel) & BELAY_FUTURE_TAKEN)
        {
          g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_TAKEN,
                               "the value of this future can be taken once, and has been");
          return FALSE;
        }
      *ret_value = future->value;
      if (future->kind == BELAY_KIND_LOAN)
        future->aux.loan->end (future->aux.loan, NULL);
      return TRUE;
    case BELAY_KIND_OBJECT:
      ret_value->p = future->value.p != NULL ? g_object_ref (future->value.p) : NULL;
      return TRUE;
    case BELAY_KIND_BOXED:
      ret_value->p = future->value.p != NULL ? g_boxed_copy (future->aux.type, future->value.p) : NULL;
      return TRUE;
    case BELAY_KIND_MEMBERS:
      ret_value->p = belay_members_ref (future->value.p);
      return TRUE;
    case BELAY_KIND_DONE:
    case BELAY_KIND_INT64:
    case BELAY_KIND_DOUBLE:
    case BELAY_KIND_ERROR:
      break;
    }
  *ret_value = future->value;
  return TRUE;
}

/* --- futures known from the start --- */

static inline BelayFuture *
new_settled (guintptr status, BelayKind kind, BelayValue value, BelayAux aux)
{
  BelayFuture *future = belay_future_block_new (BelayFuture);

  belay_future_init (future, 1);
  future->kind = kind;
  future->value = value;
  future->aux = aux;
  atomic_init (&future->state, status);
  return future;
}

BelayFuture *
belay_future_new_done (void)
{
  return new_settled (BELAY_STATE_RESOLVED, BELAY_KIND_DONE, (BelayValue) { .p = NULL }, (BelayAux) { NULL });
}

BelayFuture *
belay_future_new_int64 (gint64 value)
{
  return new_settled (BELAY_STATE_RESOLVED, BELAY_KIND_INT64, (BelayValue) { .i = value }, (BelayAux) { NULL });
}

BelayFuture *
belay_future_new_double (double value)
{
  return new_settled (BELAY_STATE_RESOLVED, BELAY_KIND_DOUBLE, (BelayValue) { .d = value }, (BelayAux) { NULL });
}

BelayFuture *
belay_future_new_pointer (gpointer value, GDestroyNotify destroy)
{
  return new_settled (BELAY_STATE_RESOLVED, BELAY_KIND_POINTER, (BelayValue) { .p = value },
                      (BelayAux) { .destroy = destroy });
}

BelayFuture *
belay_future_new_object (gpointer object)
{
  g_return_val_if_fail (G_IS_OBJECT (object), NULL);
  return new_settled (BELAY_STATE_RESOLVED, BELAY_KIND_OBJECT, (BelayValue) { .p = g_object_ref (object) },
                      (BelayAux) { NULL });
}

BelayFuture *
belay_future_new_boxed (GType type, gconstpointer boxed)
{
  g_return_val_if_fail (G_TYPE_IS_BOXED (type) && boxed != NULL, NULL);
  return new_settled (BELAY_STATE_RESOLVED, BELAY_KIND_BOXED, (BelayValue) { .p = g_boxed_copy (type, boxed) },
                      (BelayAux) { .type = type });
}

BelayFuture *
belay_future_new_error (GError *error)
{
  g_return_val_if_fail (error != NULL, NULL);
  return new_settled (BELAY_STATE_REJECTED, BELAY_KIND_ERROR, (BelayValue) { .error = error }, (BelayAux) { NULL });
}

BelayFuture *
belay_future_new_failed (GQuark domain, int code, const char *format, ...)
{
  GError *error;
  va_list args;

  va_start (args, format);
  error = g_error_new_valist (domain, code, format, args);
  va_end (args);
  return belay_future_new_error (error);
}

/* --- reading --- */

gboolean
belay_future_is_pending (BelayFuture *future)
{
  g_return_val_if_fail (future != NULL, FALSE);
  return belay_future_status (future) == BELAY_STATE_PENDING;
}

gboolean
belay_future_is_resolved (BelayFuture *future)
{
  g_return_val_if_fail (future != NULL, FALSE);
  return belay_future_status (future) == BELAY_STATE_RESOLVED;
}

gboolean
belay_future_is_rejected (BelayFuture *future)
{
  g_return_val_if_fail (future != NULL, FALSE);
  return belay_future_status (future) == BELAY_STATE_REJECTED;
}

const GError *
belay_future_get_error (BelayFuture *future)
{
  g_return_val_if_fail (future != NULL, NULL);

  if (belay_future_status (future) != BELAY_STATE_REJECTED)
    return NULL;
  belay_future_add_flag (future, BELAY_FUTURE_SEEN);
  return future->value.error;
}

BelayErrors *
belay_future_get_attached (BelayFuture *future)
{
  g_return_val_if_fail (future != NULL, NULL);
  return belay_future_status (future) == BELAY_STATE_REJECTED ? future->aux.errors : NULL;
}

gboolean
belay_future_check (BelayFuture *future, GError **error)
{
  guintptr status;

  if (G_UNLIKELY (future == NULL))
    return belay_fail_no_future (G_STRFUNC, error);
  status = belay_future_status (future);
  if (G_LIKELY (status == BELAY_STATE_RESOLVED))
    return TRUE;
  if (status == BELAY_STATE_REJECTED)
    {
      belay_future_add_flag (future, BELAY_FUTURE_SEEN);
      if (error != NULL)
        *error = g_error_copy (future->value.error);
    }
  else
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, "the outcome is not known yet");
    }
  return FALSE;
}

static gboolean
fail_kind (const char *wanted, GError **error)
{
  g_critical ("the future holds no %s", wanted);
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "the future holds no %s", wanted);
  return FALSE;
}

gboolean
belay_future_take_pointer (BelayFuture *future, gpointer *ret_value, GError **error)
{
  BelayValue value = { .p = NULL };

  g_return_val_if_fail (ret_value != NULL, FALSE);

  *ret_value = NULL;
  if (!belay_future_check (future, error))
    return FALSE;
  if (future->kind != BELAY_KIND_POINTER && future->kind != BELAY_KIND_LOAN && future->kind != BELAY_KIND_OBJECT &&
      future->kind != BELAY_KIND_BOXED)
    return fail_kind ("pointer", error);
  if (!belay_future_take_value (future, &value, error))
    return FALSE;
  *ret_value = value.p;
  return TRUE;
}

gpointer
belay_future_take (BelayFuture *future, GError **error)
{
  gpointer value;

  if (!belay_future_take_pointer (future, &value, error))
    return NULL;
  if (value == NULL)
    g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_FAILED, "the value is NULL");
  return value;
}

gboolean
belay_future_take_int64 (BelayFuture *future, gint64 *ret_value, GError **error)
{
  if (!belay_future_check (future, error))
    return FALSE;
  if (future->kind != BELAY_KIND_INT64)
    return fail_kind ("integer", error);
  if (ret_value != NULL)
    *ret_value = future->value.i;
  return TRUE;
}

gboolean
belay_future_take_double (BelayFuture *future, double *ret_value, GError **error)
{
  if (!belay_future_check (future, error))
    return FALSE;
  if (future->kind != BELAY_KIND_DOUBLE)
    return fail_kind ("floating-point number", error);
  if (ret_value != NULL)
    *ret_value = future->value.d;
  return TRUE;
}
