/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Limits: cancellation and deadlines, as levels that a checkpoint looks at.
 *
 * Words. A *limit* says that what is inside of it is cancelled, or has no more time. Limits are linked outwards: those of
 * a fiber from its innermost to its *root*, from there to the limit of the scope that owns the fiber, and so on to the
 * root of the program. A *shield* is a limit past which a checkpoint does not look. A limit is *effective* for a fiber
 * when it lies on that way. A *release's* limit is a shield with an *allowance*: a time that begins with the first look
 * at it. No shield hides that time from what is inside of the release: it is effective past the shields of users, where it
 * ends waits. Work may still start there that nobody waits for, such as what an abandon hands to a worker.
 *
 * Looking all the way out at each checkpoint would be slow, and telling every fiber of every cancellation would need
 * locks. So there is one counter for the program, the *epoch*, that each cancellation or change of a deadline advances.
 * A fiber remembers the epoch at which it last looked and found nothing, and the earliest deadline that it saw; while
 * the epoch stands still, a checkpoint is one comparison. Fibers that are asleep are poked (fiber.c).
 *
 * Invariants
 *   1. A limit lives longer than every fiber and limit inside of it.
 *   2. `cancelled` is set once and never unset. The first reason is kept. What is BELAY_CANCELLED_LATE is told to those whose
 *      own time is up as the end of the time: who of them runs first makes no difference.
 *   3. stack->epoch == epoch implies that no effective limit is cancelled and that stack->deadline is the least
 *      effective deadline. 0 is no epoch: it makes the next checkpoint look. It stays 0 while an allowance of the
 *      fiber's has not begun, and what else runs inside of a release has looked before: so when an allowance becomes a
 *      deadline, nobody has an older epoch who is inside of it.
 *   4. `observed` is written by the fiber that the limit is pushed on, or not at all.
 */
#include "run/fiber.h"

atomic_uint belay_limit_epoch = 1;
static BelayProbeFunc probe;
static gpointer probe_data;

/* Over 0 in one step: nobody may see it, since a fiber that should look would find that it has. */
void
belay_limit_advance_epoch (void)
{
  guint epoch = atomic_load_explicit (&belay_limit_epoch, memory_order_relaxed), next;

  do
    next = epoch != G_MAXUINT ? epoch + 1 : 1;
  while (!atomic_compare_exchange_weak_explicit (&belay_limit_epoch, &epoch, next, memory_order_acq_rel,
                                                 memory_order_relaxed));
}

void
belay_limit_set_probe (BelayProbeFunc func, gpointer data)
{
  probe = func;
  probe_data = data;
  belay_limit_advance_epoch (); /* whoever has looked looks again */
}

/* What a fiber remembers that has looked now. While there is a probe each checkpoint must look, so it remembers nothing. */
static inline guint
epoch_to_remember (guint epoch)
{
  return G_LIKELY (probe == NULL) ? epoch : 0;
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
  if (limit->owns)
    {
      stack->deadline = deadline;
      if (limit->allowance != G_MAXINT64)
        {
          stack->allowed = TRUE;
          stack->epoch = 0;
        }
      else
        {
          stack->epoch = epoch_to_remember (atomic_load_explicit (&belay_limit_epoch, memory_order_acquire));
        }
    }
  else if (G_UNLIKELY (limit->shield || atomic_load_explicit (&limit->cancelled, memory_order_relaxed)))
    {
      stack->epoch = 0;
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
  return belay_limit_cancel_as (limit, TRUE, reason);
}

gboolean
belay_limit_cancel_as (BelayLimit *limit, guint8 cancelled, const char *reason)
{
  char *copy = g_strdup (reason != NULL ? reason : "cancelled");
  char *none = NULL;

  if (!atomic_compare_exchange_strong_explicit (&limit->reason, &none, copy, memory_order_acq_rel, memory_order_acquire))
    {
      g_free (copy);
      return FALSE;
    }
  atomic_store_explicit (&limit->cancelled, cancelled, memory_order_release);
  belay_limit_advance_epoch ();
  return TRUE;
}

void
belay_limit_set_deadline (BelayLimit *limit, gint64 deadline)
{
  atomic_store_explicit (&limit->deadline, deadline, memory_order_release);
  belay_limit_advance_epoch ();
}

/*
 * A release that never comes to a checkpoint needs no bound, since nothing could end it, and most are such; so the clock
 * is read when one first does, and for seconds the coarse one will do.
 */
static gint64
begin_allowance (BelayLimit *limit)
{
  gint64 now = limit->allowance >= G_USEC_PER_SEC ? belay_clock_after_now () : belay_now ();

  atomic_store_explicit (&limit->deadline,
                         MIN (limit->allowance + now, atomic_load_explicit (&belay_hurry_instant, memory_order_relaxed)),
                         memory_order_relaxed);
  limit->allowance = G_MAXINT64;
  return now;
}

/* Returns the time, if the clock was read, else 0. */
static gint64
begin_allowances (BelayFiber *fiber)
{
  BelayStack *stack = fiber->stack;
  gint64 now = 0;

  stack->allowed = FALSE;
  for (BelayLimit *limit = stack->limit; limit != NULL && limit->fiber == fiber; limit = limit->outer)
    if (limit->allowance != G_MAXINT64)
      now = begin_allowance (limit);
  return now;
}

void
belay_limit_begin_allowances (BelayFiber *fiber)
{
  begin_allowances (fiber);
  look (fiber->stack);
}

BelayLimit *
belay_limit_release_around (BelayFiber *fiber)
{
  BelayLimit *limit = fiber->stack->limit;

  while (limit != NULL && !limit->owns)
    limit = limit->outer;
  return limit;
}

gint64
belay_limit_release_deadline (BelayFiber *fiber)
{
  BelayLimit *release = belay_limit_release_around (fiber);

  if (G_LIKELY (release == NULL))
    return G_MAXINT64;
  if (fiber->stack->allowed)
    belay_limit_begin_allowances (fiber);
  return atomic_load_explicit (&release->deadline, memory_order_relaxed);
}

BelayLimit *
belay_limit_next (BelayLimit *limit, gboolean *inout_shielded)
{
  if (limit->owns)
    return NULL;
  *inout_shielded |= limit->shield;
  limit = limit->outer;
  if (G_UNLIKELY (*inout_shielded))
    while (limit != NULL && !limit->owns)
      limit = limit->outer;
  return limit;
}

/* Looks all the way out. Returns the innermost cancelled limit, else NULL, and then invariant 3 holds. */
static BelayLimit *
look (BelayStack *stack)
{
  guint epoch = atomic_load_explicit (&belay_limit_epoch, memory_order_acquire);
  gint64 least = G_MAXINT64;
  gboolean shielded = FALSE;

  if (stack->epoch == epoch)
    return NULL;
  for (BelayLimit *limit = stack->limit; limit != NULL; limit = belay_limit_next (limit, &shielded))
    {
      if (!shielded && atomic_load_explicit (&limit->cancelled, memory_order_acquire))
        return limit;
      if (G_UNLIKELY (limit->allowance != G_MAXINT64)) /* by a fiber that the release runs in a main loop of its own */
        begin_allowance (limit);
      least = MIN (least, atomic_load_explicit (&limit->deadline, memory_order_acquire));
    }
  stack->deadline = least;
  stack->epoch = epoch_to_remember (epoch);
  return NULL;
}

static gint64
least_deadline (BelayLimit *limit)
{
  gint64 least = G_MAXINT64;
  gboolean shielded = FALSE;

  for (; limit != NULL; limit = belay_limit_next (limit, &shielded))
    least = MIN (least, atomic_load_explicit (&limit->deadline, memory_order_acquire));
  return least;
}

gint64
belay_limit_deadline (BelayFiber *fiber)
{
  if (fiber->stack->allowed)
    begin_allowances (fiber);
  return least_deadline (fiber->stack->limit);
}

BelayReason
belay_limit_pending (BelayLimit *limit)
{
  gint64 least;

  if (belay_limit_is_cancelled (limit))
    return BELAY_REASON_CANCELLED;
  least = least_deadline (limit);
  return least != G_MAXINT64 && least <= belay_now () ? BELAY_REASON_DEADLINE : BELAY_REASON_OK;
}

/* @now: a time that was read just before, else 0. */
static inline gboolean
is_late_at (gint64 deadline, gint64 now)
{
  return deadline != G_MAXINT64 && (now != 0 ? now : belay_clock_after_now ()) >= deadline && belay_now () >= deadline;
}

static inline gboolean
is_late (gint64 deadline)
{
  return is_late_at (deadline, 0);
}

/* The outermost effective limit whose time is up: the one that reports it as its own. */
static BelayLimit *
find_late (BelayStack *stack)
{
  gint64 now = belay_now ();
  BelayLimit *found = NULL;
  gboolean shielded = FALSE;

  for (BelayLimit *limit = stack->limit; limit != NULL; limit = belay_limit_next (limit, &shielded))
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
  fiber->stack->interruptions++;
}

/*
 * @limit is cancelled: the one to tell of, or NULL when the deadline is to be told. A scope that was left because its time
 * was up is cancelled for that; a fiber inside whose time is up as well would have come to its deadline had it run first.
 * Whoever runs first, all of them say that they timed out.
 */
static G_NO_INLINE BelayLimit *
find_cancelled (BelayStack *stack, BelayLimit *limit)
{
  BelayLimit *innermost = limit;
  gint64 least;
  gboolean shielded = FALSE;

  for (limit = stack->limit; limit != NULL && !shielded; limit = belay_limit_next (limit, &shielded))
    if (atomic_load_explicit (&limit->cancelled, memory_order_acquire) == TRUE)
      return limit;
  least = least_deadline (stack->limit);
  return least != G_MAXINT64 && least <= belay_now () ? NULL : innermost;
}

gboolean
belay_limit_check_slow (BelayFiber *fiber, const char *site, GError **error)
{
  BelayStack *stack = fiber->stack;
  BelayLimit *limit;
  gboolean late = FALSE;
  gint64 now = 0;

  if (G_UNLIKELY (probe != NULL))
    probe (fiber, site, probe_data);
  if (G_UNLIKELY (stack->allowed))
    now = begin_allowances (fiber);
  limit = look (stack);
  if (G_UNLIKELY (limit != NULL) && atomic_load_explicit (&limit->cancelled, memory_order_relaxed) == BELAY_CANCELLED_LATE)
    {
      limit = find_cancelled (stack, limit);
      late = limit == NULL;
    }
  if (G_UNLIKELY (limit != NULL))
    {
      observe (fiber, limit, BELAY_REASON_CANCELLED);
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED,
                           atomic_load_explicit (&limit->reason, memory_order_acquire));
      return FALSE;
    }
  if (G_UNLIKELY (late || is_late_at (stack->deadline, now)))
    {
      observe (fiber, find_late (stack), BELAY_REASON_DEADLINE);
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "timed out%s%s", site != NULL ? " at " : "",
                   site != NULL ? site : "");
      return FALSE;
    }
  return TRUE;
}

gboolean
belay_limit_may_start (BelayFiber *fiber, GError **error)
{
  BelayStack *stack = fiber->stack;

  if (G_UNLIKELY (stack->allowed))
    begin_allowances (fiber);
  if (look (stack) == NULL)
    {
      gint64 least = G_MAXINT64;

      for (BelayLimit *limit = stack->limit; limit != NULL; limit = limit->shield ? NULL : limit->outer)
        least = MIN (least, atomic_load_explicit (&limit->deadline, memory_order_acquire));
      if (!is_late (least))
        return TRUE;
    }
  return belay_limit_check_slow (fiber, NULL, error);
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
belay_limit_expire_release (BelayFiber *fiber)
{
  BelayLimit *release = belay_limit_release_around (fiber);

  if (release == NULL || belay_now () < atomic_load_explicit (&release->deadline, memory_order_relaxed))
    return FALSE;
  if (release->fiber == fiber) /* else that one finds out itself */
    observe (fiber, release, BELAY_REASON_DEADLINE);
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
