/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Time-outs and shields: limits that are guards, and own nothing.
 *
 * Each is one limit (limit.c), pushed on the fiber that makes it and taken off at the end of its block. They are made very
 * often, so the context keeps spare ones. To a guard they are resources whose abandon is the whole release.
 *
 * Invariants
 *   1. A small limit belongs to one block of one fiber: it is not another scope's, and no other fiber takes it off.
 *   2. Its deadline is changed on its fiber's thread only. Who is inside and asleep until the old one is poked when the new
 *      one is earlier; when it is later, they wake in vain, look, and sleep on.
 *   3. Once a checkpoint was stopped by it, a time-out has expired for good.
 */
#include "scope/scope-private.h"

static void
small_limit_release (gpointer data)
{
  BelayLimit *limit = data;
  BelayFiber *fiber = limit->fiber;

  if (G_UNLIKELY (fiber == NULL || fiber != belay_fiber_self ()))
    {
      g_critical ("a time-out or shield belongs to the block and the fiber that made it");
      if (fiber == NULL) /* its fiber has ended and left it behind */
        g_free (limit);
      return;
    }
  belay_limit_pop (fiber, limit);
  if (G_UNLIKELY (limit->observed == BELAY_REASON_DEADLINE))
    belay_attached_add_late (fiber, fiber->site);
  belay_limit_clear (limit);
  belay_limit_free (fiber->context, limit);
}

static const BelayPlainClass timeout_class = { BELAY_TAG_INSTANT, "BelayTimeout", NULL, NULL, small_limit_release, NULL };
static const BelayPlainClass shield_class = { BELAY_TAG_INSTANT, "BelayShield", NULL, NULL, small_limit_release, NULL };

gboolean
belay_small_limit_is (gpointer resource)
{
  const BelayPlainClass *klass = *(const BelayPlainClass **) resource;

  return klass == &timeout_class || klass == &shield_class;
}

/* --- time-outs --- */

static BelayTimeout *
push_timeout (BelayFiber *fiber, gint64 when)
{
  BelayLimit *limit = belay_limit_alloc (fiber->context);

  if (G_UNLIKELY (fiber->stack->holds))
    belay_attached_forget_late (fiber);
  limit->klass = &timeout_class;
  atomic_init (&limit->deadline, when);
  belay_limit_push (fiber, limit);
  belay_leaks_hold (limit, NULL);
  return (BelayTimeout *) limit;
}

static inline gint64
in_milliseconds (gint64 milliseconds)
{
  return belay_now () + CLAMP (milliseconds, 0, G_MAXINT64 / 4000) * 1000;
}

BelayTimeout *
belay_timeout (gint64 milliseconds)
{
  BelayFiber *fiber = belay_fiber_self ();

  if (G_LIKELY (fiber != NULL))
    return push_timeout (fiber, in_milliseconds (milliseconds));
  belay_fail_no_fiber ("belay_timeout", NULL);
  return NULL;
}

BelayTimeout *
belay_timeout_at (gint64 when)
{
  BelayFiber *fiber = belay_fiber_self ();

  if (G_LIKELY (fiber != NULL))
    return push_timeout (fiber, when);
  belay_fail_no_fiber ("belay_timeout_at", NULL);
  return NULL;
}

gboolean
belay_timeout_expired (BelayTimeout *timeout)
{
  g_return_val_if_fail (timeout != NULL, FALSE);
  return ((BelayLimit *) timeout)->observed == BELAY_REASON_DEADLINE;
}

gboolean
belay_timeout_reschedule (BelayTimeout *timeout, gint64 milliseconds)
{
  BelayLimit *limit = (BelayLimit *) timeout;
  gint64 before, deadline;

  g_return_val_if_fail (timeout != NULL && limit->klass == &timeout_class, FALSE);

  if (G_UNLIKELY (limit->fiber == NULL || limit->fiber->context != belay_thread.context))
    {
      g_critical ("belay_timeout_reschedule: a time-out is moved on the thread that it belongs to, and in its block");
      return FALSE;
    }
  if (limit->observed != 0)
    return FALSE;
  before = atomic_load_explicit (&limit->deadline, memory_order_relaxed);
  deadline = milliseconds < 0 ? G_MAXINT64 : in_milliseconds (milliseconds);
  belay_limit_set_deadline (limit, deadline);
  if (deadline < before)
    belay_fiber_poke (limit->fiber);
  return TRUE;
}

gint64
belay_time_left (void)
{
  BelayFiber *fiber = belay_fiber_self ();
  gint64 deadline, left;

  if (fiber == NULL)
    return -1;
  deadline = belay_limit_deadline (fiber);
  if (deadline == G_MAXINT64)
    return -1;
  left = deadline - belay_now ();
  return left > 0 ? (left - 1) / 1000 + 1 : 0;
}

/* --- shields --- */

BelayShield *
belay_shield (void)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayLimit *limit;

  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber ("belay_shield", NULL);
      return NULL;
    }
  limit = belay_limit_alloc (fiber->context);
  limit->klass = &shield_class;
  limit->shield = TRUE;
  belay_limit_push (fiber, limit);
  belay_leaks_hold (limit, NULL);
  return (BelayShield *) limit;
}

BelayReason
belay_shield_get_pending (BelayShield *shield)
{
  BelayLimit *limit = (BelayLimit *) shield;

  g_return_val_if_fail (shield != NULL && limit->klass == &shield_class, BELAY_REASON_OK);

  if (G_UNLIKELY (limit->fiber == NULL || limit->fiber->context != belay_thread.context))
    {
      g_critical ("belay_shield_get_pending: a shield is asked on the thread that it belongs to, and in its block");
      return BELAY_REASON_OK;
    }
  return belay_limit_pending (limit->outer);
}
