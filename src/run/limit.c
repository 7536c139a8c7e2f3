/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Limits: cancellation and deadlines, as levels that a checkpoint looks at.
 *
 * Words. A *limit* says that what is inside of it is cancelled, or has no more time. Limits are linked outwards: those of
 * a fiber from its innermost to its *root*, from there to the limit of the scope that owns the fiber, and so on to the
 * root of the program. A *shield* is a limit past which a checkpoint does not look. A limit is *effective* for a fiber
 * when it lies on that way.
 *
 * Looking all the way out at each checkpoint would be slow, and telling every fiber of every cancellation would need
 * locks. So there is one counter for the program, the *epoch*, that each cancellation or change of a deadline advances.
 * A fiber remembers the epoch at which it last looked and found nothing, and the earliest deadline that it saw; while
 * the epoch stands still, a checkpoint is one comparison. Fibers that are asleep are poked (fiber.c).
 *
 * Invariants
 *   1. A limit lives longer than every fiber and limit inside of it.
 *   2. `cancelled` is set once and never unset. The first reason is kept.
 *   3. stack->epoch == epoch implies that no effective limit is cancelled and that stack->deadline is the least
 *      effective deadline. 0 is no epoch: it makes the next checkpoint look.
 *   4. `observed` is written by the fiber that the limit is pushed on, or not at all.
 */
#include "run/fiber.h"

atomic_uint belay_limit_epoch = 1;

/* Over 0 in one step: nobody may see it, since a fiber that should look would find that it has. */
static inline void
advance_epoch (void)
{
  guint epoch = atomic_load_explicit (&belay_limit_epoch, memory_order_relaxed), next;

  do
    next = epoch != G_MAXUINT ? epoch + 1 : 1;
  while (!atomic_compare_exchange_weak_explicit (&belay_limit_epoch, &epoch, next, memory_order_acq_rel,
                                                 memory_order_relaxed));
}

static BelayLimit *look (BelayStack *stack);

void
belay_limit_push (BelayFiber *fiber, BelayLimit *limit)
{
  BelayStack *stack = fiber->stack;
  gint64 deadline = atomic_load_explicit (&limit->deadline, memory_order_relaxed);

  limit->outer = stack->limit;
  limit->fiber = fiber;
  limit->saved_deadline = stack->deadline;
  limit->saved_epoch = stack->epoch;
  stack->limit = limit;
  if (limit->allowance != G_MAXINT64)
    stack->allowed = TRUE;
  if (G_UNLIKELY (atomic_load_explicit (&limit->cancelled, memory_order_relaxed)))
    {
      stack->epoch = 0;
    }
  else if (limit->shield)
    {
      stack->epoch = atomic_load_explicit (&belay_limit_epoch, memory_order_acquire);
      stack->deadline = deadline;
    }
  else
    {
      stack->deadline = MIN (stack->deadline, deadline);
    }
}

void
belay_limit_pop (BelayFiber *fiber, BelayLimit *limit)
{
  BelayStack *stack = fiber->stack;

  if (G_LIKELY (stack->limit == limit))
    {
      stack->limit = limit->outer;
      stack->epoch = limit->saved_epoch;
      stack->deadline = limit->saved_deadline;
    }
  else
    {
      BelayLimit *inner = stack->limit;

      for (inner->saved_epoch = 0; inner->outer != limit; inner->saved_epoch = 0) /* what they saved is no longer so */
        inner = inner->outer;
      inner->outer = limit->outer;
      stack->epoch = 0;
    }
  limit->fiber = NULL;
  if (stack->timed && atomic_load_explicit (&limit->deadline, memory_order_relaxed) != G_MAXINT64)
    belay_timer_disarm (stack->context, &stack->timer);
}

gboolean
belay_limit_cancel (BelayLimit *limit, const char *reason)
{
  char *copy = g_strdup (reason != NULL ? reason : "cancelled");
  char *none = NULL;

  if (!atomic_compare_exchange_strong_explicit (&limit->reason, &none, copy, memory_order_acq_rel, memory_order_acquire))
    {
      g_free (copy);
      return FALSE;
    }
  atomic_store_explicit (&limit->cancelled, TRUE, memory_order_release);
  advance_epoch ();
  return TRUE;
}

void
belay_limit_set_deadline (BelayLimit *limit, gint64 deadline)
{
  atomic_store_explicit (&limit->deadline, deadline, memory_order_release);
  advance_epoch ();
}

/*
 * A release that never suspends needs no bound, since nothing could end it, and most are such; so the clock is read when
 * one first does, and for seconds the coarse one will do.
 */
void
belay_limit_begin_allowances (BelayFiber *fiber)
{
  BelayStack *stack = fiber->stack;
  gint64 after_now = belay_clock_after_now ();

  stack->allowed = FALSE;
  for (BelayLimit *limit = stack->limit; limit != NULL && limit->fiber == fiber; limit = limit->outer)
    {
      limit->saved_epoch = 0;
      if (limit->allowance != G_MAXINT64)
        {
          atomic_store_explicit (&limit->deadline, limit->allowance + (limit->allowance >= G_USEC_PER_SEC ? after_now : belay_now ()),
                                 memory_order_relaxed);
          limit->allowance = G_MAXINT64;
        }
    }
  stack->epoch = 0;
  look (stack);
}

/* Looks all the way out. Returns the innermost cancelled limit, else NULL, and then invariant 3 holds. */
static BelayLimit *
look (BelayStack *stack)
{
  guint epoch = atomic_load_explicit (&belay_limit_epoch, memory_order_acquire);
  gint64 least = G_MAXINT64;

  if (stack->epoch == epoch)
    return NULL;
  for (BelayLimit *limit = stack->limit; limit != NULL; limit = limit->shield ? NULL : limit->outer)
    {
      gint64 deadline = atomic_load_explicit (&limit->deadline, memory_order_acquire);

      if (atomic_load_explicit (&limit->cancelled, memory_order_acquire))
        return limit;
      least = MIN (least, deadline);
    }
  stack->deadline = least;
  stack->epoch = epoch;
  return NULL;
}

static inline gboolean
is_late (gint64 deadline)
{
  return deadline != G_MAXINT64 && belay_clock_after_now () >= deadline && belay_now () >= deadline;
}

/* The outermost effective limit whose time is up: the one that reports it as its own. */
static BelayLimit *
find_late (BelayStack *stack)
{
  gint64 now = belay_now ();
  BelayLimit *found = NULL;

  for (BelayLimit *limit = stack->limit; limit != NULL; limit = limit->shield ? NULL : limit->outer)
    if (atomic_load_explicit (&limit->deadline, memory_order_relaxed) <= now)
      found = limit;
  return found;
}

static void
observe (BelayFiber *fiber, BelayLimit *limit, BelayReason reason)
{
  BelayLimit *mine = limit != NULL && limit->fiber == fiber ? limit : &fiber->stack->root;

  if (mine->observed == 0)
    {
      mine->observed = (guint8) reason;
      if (mine->expired != NULL && reason == BELAY_REASON_DEADLINE)
        mine->expired (mine);
    }
  fiber->stack->observed = TRUE;
}

gboolean
belay_limit_check_slow (BelayFiber *fiber, const char *site, GError **error)
{
  BelayStack *stack = fiber->stack;
  BelayLimit *limit = look (stack);

  if (G_UNLIKELY (limit != NULL))
    {
      observe (fiber, limit, BELAY_REASON_CANCELLED);
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED,
                           atomic_load_explicit (&limit->reason, memory_order_acquire));
      return FALSE;
    }
  if (G_UNLIKELY (is_late (stack->deadline)))
    {
      observe (fiber, find_late (stack), BELAY_REASON_DEADLINE);
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "timed out%s%s", site != NULL ? " at " : "",
                   site != NULL ? site : "");
      return FALSE;
    }
  return TRUE;
}

gboolean
belay_limit_interrupts (BelayFiber *fiber)
{
  return look (fiber->stack) != NULL || is_late (fiber->stack->deadline);
}

gboolean
belay_limit_notice (BelayFiber *fiber)
{
  BelayStack *stack = fiber->stack;
  BelayLimit *late;

  if (look (stack) != NULL)
    return TRUE;
  if (!is_late (stack->deadline))
    return FALSE;
  late = find_late (stack);
  if (late != NULL && late->fiber == fiber && late->expired != NULL)
    observe (fiber, late, BELAY_REASON_DEADLINE);
  return TRUE;
}

gboolean
belay_limit_is_cancelled (BelayLimit *limit)
{
  for (; limit != NULL; limit = limit->shield ? NULL : limit->outer)
    if (atomic_load_explicit (&limit->cancelled, memory_order_acquire))
      return TRUE;
  return FALSE;
}

BelayReason
belay_limit_reason (BelayFiber *fiber)
{
  if (!fiber->stack->observed)
    return BELAY_REASON_LEFT;
  for (BelayLimit *limit = fiber->stack->limit; limit != NULL && limit->fiber == fiber;
       limit = limit->shield ? NULL : limit->outer)
    if (limit->observed != 0)
      return (BelayReason) limit->observed;
  return BELAY_REASON_LEFT;
}

/* --- small limits come from a list of the context's --- */

BelayLimit *
belay_limit_alloc (BelayContext *context)
{
  BelayLimit *limit = context->limits;

  if (G_LIKELY (limit != NULL))
    context->limits = limit->outer;
  else
    limit = g_new (BelayLimit, 1);
  belay_limit_init (limit);
  return limit;
}

void
belay_limit_free (BelayContext *context, BelayLimit *limit)
{
  limit->outer = context->limits;
  context->limits = limit;
}

void
belay_limits_free (BelayContext *context)
{
  while (context->limits != NULL)
    {
      BelayLimit *limit = context->limits;

      context->limits = limit->outer;
      g_free (limit);
    }
}
