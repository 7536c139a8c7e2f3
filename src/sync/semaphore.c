/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Semaphore: a number of permits, first come, first served.
 *
 * A permit is the semaphore itself, seen through its first member: taking one allocates nothing. One word holds the free
 * permits, in units, and two flags: WAITERS, the list is not empty; ORPHAN, the last reference has gone and the
 * permits that are out keep the semaphore alive.
 *
 * Invariants
 *   1. With WAITERS set no unit is free: a permit that is given back goes to the first who waits. So nobody overtakes.
 *   2. WAITERS, the list and `granted` change under `lock`; units change without it only while no flag is set.
 *   3. A waiter is linked until it is granted or leaves; whoever leaves and finds itself granted has the permit.
 *   4. An orphan goes with its last permit. That ORPHAN is set and that the last unit is back are both seen under
 *      `lock`, by one of the two, who frees it after unlocking: the other has unlocked before, which is the last that
 *      it touches.
 */
#include "scope/scope-private.h"

enum { WAITERS = 1, ORPHAN = 2, FLAGS = 3, UNIT = 4 };

typedef struct _Waiter Waiter;
struct _Waiter
{
  Waiter         *prev, *next;
  BelayFiber     *fiber;     /* or else */
  BelayPromise   *promise;
  BelaySemaphore *semaphore; /* of a promise */
  atomic_int      refs;      /* of a promise: the list's, or whoever took it out of it, and its on_cancel's */
  gboolean        granted;
  gboolean        linked;
};

struct _BelaySemaphore
{
  BelayPlain    permit; /* first: what a BelayPermit points to */
  atomic_int    refs;
  _Atomic (gint64) state;
  gint64        total;  /* units */
  atomic_flag   lock;
  Waiter       *first, *last;
};

G_DEFINE_BOXED_TYPE (BelaySemaphore, belay_semaphore, belay_semaphore_ref, belay_semaphore_unref)

static void permit_release (gpointer permit);
static const BelayPlainClass permit_class = { BELAY_TAG_INSTANT, "BelayPermit", NULL, NULL, permit_release, NULL };

BelaySemaphore *
belay_semaphore_new (guint permits)
{
  BelaySemaphore *self = g_new0 (BelaySemaphore, 1);

  self->permit.klass = &permit_class;
  atomic_init (&self->refs, 1);
  self->total = (gint64) permits * UNIT;
  atomic_init (&self->state, self->total);
  atomic_flag_clear (&self->lock);
  return self;
}

BelaySemaphore *
belay_semaphore_ref (BelaySemaphore *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_semaphore_unref (BelaySemaphore *self)
{
  gboolean is_last;

  g_return_if_fail (self != NULL);

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  belay_spin_lock (&self->lock);
  is_last = atomic_fetch_or_explicit (&self->state, ORPHAN, memory_order_acq_rel) == self->total;
  belay_spin_unlock (&self->lock);
  if (is_last) /* invariant 4 */
    g_free (self);
}

guint
belay_semaphore_get_available (BelaySemaphore *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return (guint) (atomic_load_explicit (&self->state, memory_order_acquire) / UNIT);
}

/* --- giving back --- */

/* Under the lock. */
static void
unlink_waiter (BelaySemaphore *self, Waiter *waiter)
{
  if (waiter->prev != NULL)
    waiter->prev->next = waiter->next;
  else
    self->first = waiter->next;
  if (waiter->next != NULL)
    waiter->next->prev = waiter->prev;
  else
    self->last = waiter->prev;
  waiter->linked = FALSE;
  if (self->first == NULL)
    atomic_fetch_and_explicit (&self->state, ~(gint64) WAITERS, memory_order_relaxed);
}

static void
waiter_unref (gpointer data)
{
  Waiter *waiter = data;

  if (atomic_fetch_sub_explicit (&waiter->refs, 1, memory_order_acq_rel) != 1)
    return;
  belay_semaphore_unref (waiter->semaphore);
  g_free (waiter);
}

static void
give_to_promise (BelaySemaphore *self, Waiter *waiter)
{
  BelayPromise *promise = waiter->promise;

  /* A promise that nobody waits for any more drops the permit, which comes back here. */
  belay_promise_resolve_resource (promise, self);
  belay_promise_unref (promise);
  waiter_unref (waiter);
}

static G_GNUC_NO_INLINE void
release_slow (BelaySemaphore *self)
{
  gboolean is_last = FALSE;
  Waiter *waiter;

  belay_spin_lock (&self->lock);
  waiter = self->first;
  if (waiter != NULL)
    {
      unlink_waiter (self, waiter);
      waiter->granted = TRUE;
    }
  else
    {
      is_last = atomic_fetch_add_explicit (&self->state, UNIT, memory_order_acq_rel) + UNIT == self->total + ORPHAN;
    }
  belay_spin_unlock (&self->lock);

  if (waiter == NULL)
    {
      if (is_last) /* invariant 4 */
        g_free (self);
    }
  else if (waiter->promise != NULL)
    {
      give_to_promise (self, waiter);
    }
  else
    {
      belay_fiber_fire (waiter->fiber); /* the waiter's memory is its fiber's, and may be gone now */
    }
}

static void
permit_release (gpointer permit)
{
  BelaySemaphore *self = permit;
  gint64 state = atomic_load_explicit (&self->state, memory_order_relaxed);

  while (G_LIKELY ((state & FLAGS) == 0))
    if (atomic_compare_exchange_weak_explicit (&self->state, &state, state + UNIT, memory_order_acq_rel, memory_order_relaxed))
      return;
  release_slow (self);
}

/* --- taking --- */

static inline gboolean
try_take (BelaySemaphore *self)
{
  gint64 state = atomic_load_explicit (&self->state, memory_order_relaxed);

  while (state >= UNIT && (state & WAITERS) == 0)
    if (atomic_compare_exchange_weak_explicit (&self->state, &state, state - UNIT, memory_order_acquire, memory_order_relaxed))
      return TRUE;
  return FALSE;
}

/* Takes a permit, or queues the waiter: TRUE when it was taken. */
static gboolean
take_or_queue (BelaySemaphore *self, Waiter *waiter)
{
  gint64 state;

  belay_spin_lock (&self->lock);
  state = atomic_load_explicit (&self->state, memory_order_relaxed);
  for (;;)
    {
      gboolean take = state >= UNIT && (state & WAITERS) == 0;

      if (atomic_compare_exchange_weak_explicit (&self->state, &state, take ? state - UNIT : state | WAITERS,
                                                 memory_order_acq_rel, memory_order_relaxed))
        {
          if (take)
            {
              belay_spin_unlock (&self->lock);
              return TRUE;
            }
          break;
        }
    }
  waiter->prev = self->last;
  if (self->last != NULL)
    self->last->next = waiter;
  else
    self->first = waiter;
  self->last = waiter;
  waiter->linked = TRUE;
  belay_spin_unlock (&self->lock);
  return FALSE;
}

BelayPermit *
belay_semaphore_try_acquire (BelaySemaphore *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  if (!try_take (self))
    return NULL;
  belay_leaks_hold (self, NULL);
  return (BelayPermit *) self;
}

static gboolean
acquire_slow (BelaySemaphore *self, BelayFiber *fiber, GError **error, const char *site)
{
  Waiter waiter = { .fiber = fiber };
  gboolean interrupted;

  do
    {
      fiber->stack->fired = FALSE;
      belay_stack_set_wait (fiber->stack, BELAY_WAITS_FOR_PERMIT, self, site);
      if (take_or_queue (self, &waiter))
        return TRUE;
      do
        {
          belay_fiber_suspend (fiber, BELAY_WAIT_INTERRUPTIBLE, G_MAXINT64);
          if (G_LIKELY (fiber->stack->fired))
            return TRUE;
        }
      while (!belay_limit_notice (fiber));

      belay_spin_lock (&self->lock);
      interrupted = waiter.linked;
      if (interrupted)
        unlink_waiter (self, &waiter);
      belay_spin_unlock (&self->lock);
      if (!interrupted)
        {
          /* Granted in the meantime: the permit is ours, once the notice of it is no longer on its way. */
          while (!fiber->stack->fired)
            belay_fiber_suspend (fiber, BELAY_WAIT_DEAF, G_MAXINT64);
          return TRUE;
        }
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved: to the end of the line */
  return FALSE;
}

BelayPermit *
belay_semaphore_acquire_at (BelaySemaphore *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();

  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber ("belay_semaphore_acquire", error);
      return NULL;
    }
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return NULL;
  if (G_UNLIKELY (!try_take (self) && !acquire_slow (self, fiber, error, site)))
    return NULL;
  belay_leaks_hold (self, site);
  return (BelayPermit *) self;
}

BelayPermit *
(belay_semaphore_acquire) (BelaySemaphore *self, GError **error)
{
  return belay_semaphore_acquire_at (self, error, NULL);
}

static void
on_dropped (gpointer data)
{
  Waiter *waiter = data;
  BelaySemaphore *self = waiter->semaphore;
  gboolean mine;

  belay_spin_lock (&self->lock);
  mine = waiter->linked;
  if (mine)
    unlink_waiter (self, waiter);
  belay_spin_unlock (&self->lock);
  if (mine)
    {
      belay_promise_unref (waiter->promise);
      waiter_unref (waiter);
    }
}

BelayFuture *
belay_semaphore_acquire_async (BelaySemaphore *self)
{
  BelayFuture *future;
  BelayPromise *promise;
  Waiter *waiter;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  if (try_take (self))
    return belay_resource_future (self);
  waiter = g_new0 (Waiter, 1);
  promise = waiter->promise = belay_promise_new ();
  waiter->semaphore = belay_semaphore_ref (self);
  atomic_init (&waiter->refs, 2);
  belay_promise_on_cancel (promise, on_dropped, waiter, waiter_unref);
  future = belay_promise_get_future (promise);
  if (take_or_queue (self, waiter))
    give_to_promise (self, waiter);
  return future;
}
