/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Semaphore: a number of permits, first come, first served.
 *
 * A permit is the semaphore itself, seen through its first member: taking one allocates nothing. One word holds the free
 * permits, in units, and two flags: WAITERS, somebody is in line; ORPHAN, the last reference has gone and the
 * permits that are out keep the semaphore alive.
 *
 * Invariants
 *   1. While somebody is in line no unit is free: a permit that is given back goes to the first. So nobody overtakes.
 *   2. WAITERS and the line change under `lock`; units change without it only while no flag is set. WAITERS is set while
 *      anybody is in line, and, until the one who left last or the next release sees to it, a moment longer.
 *   3. An orphan goes with its last permit. That ORPHAN is set and that the last unit is back are both seen under
 *      `lock`, by one of the two, who frees it after unlocking: the other has unlocked before, which is the last that
 *      it touches.
 */
#include "run/line.h"
#include "scope/scope-private.h"

enum { WAITERS = 1, ORPHAN = 2, FLAGS = 3, UNIT = 4 };

struct _BelaySemaphore
{
  BelayPlain    permit; /* first: what a BelayPermit points to */
  atomic_int    refs;
  _Atomic (gint64) state;
  gint64        total;  /* units */
  atomic_flag   lock;
  BelayLine     line;
};

static const BelayLineClass line_class = { "a permit of a semaphore", NULL };

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
  belay_line_init (&self->line, &line_class);
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
  if (is_last) /* invariant 3 */
    g_free (self);
}

guint
belay_semaphore_get_available (BelaySemaphore *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return (guint) (atomic_load_explicit (&self->state, memory_order_acquire) / UNIT);
}

/* --- giving back --- */

/* Under the lock, after a turn has left the line. */
static void
note_if_empty (BelaySemaphore *self)
{
  if (belay_line_is_empty (&self->line))
    atomic_fetch_and_explicit (&self->state, ~(gint64) WAITERS, memory_order_relaxed);
}

static G_GNUC_NO_INLINE void
release_slow (BelaySemaphore *self)
{
  gboolean is_last = FALSE;
  BelayTurn *served = NULL;

  belay_spin_lock (&self->lock);
  if (!belay_line_is_empty (&self->line))
    {
      belay_line_serve (self->line.first, BELAY_TURN_SERVED, &served);
      note_if_empty (self);
    }
  else
    {
      note_if_empty (self);
      is_last = atomic_fetch_add_explicit (&self->state, UNIT, memory_order_acq_rel) + UNIT == self->total + ORPHAN;
    }
  belay_spin_unlock (&self->lock);

  belay_turns_wake (served);
  if (is_last) /* invariant 3 */
    g_free (self);
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

/* Takes a permit, or gets in line: TRUE when it was taken. */
static gboolean
take_or_append (BelaySemaphore *self, BelayTurn *turn)
{
  gint64 state;

  belay_spin_lock (&self->lock);
  state = atomic_load_explicit (&self->state, memory_order_relaxed);
  for (;;)
    {
      gboolean take = state >= UNIT && belay_line_is_empty (&self->line);

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
  belay_line_append (&self->line, turn);
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

static void
after_leaving (BelaySemaphore *self)
{
  belay_spin_lock (&self->lock);
  note_if_empty (self);
  belay_spin_unlock (&self->lock);
}

static gboolean
acquire_slow (BelaySemaphore *self, BelayFiber *fiber, GError **error, const char *site)
{
  BelayTurn turn;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      if (take_or_append (self, &turn) || belay_turn_wait (&turn, &self->lock))
        return TRUE;
      after_leaving (self);
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

static gpointer
async_ref (gpointer owner)
{
  return belay_semaphore_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_semaphore_unref (owner);
}

/* A promise that nobody waits for any more drops the permit, which comes back here. */
static void
async_answer (BelayAsyncTurn *turn)
{
  belay_promise_resolve_resource (turn->promise, turn->owner);
}

static void
async_left (BelayAsyncTurn *turn)
{
  after_leaving (turn->owner);
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, async_left };

BelayFuture *
belay_semaphore_acquire_async (BelaySemaphore *self)
{
  BelayFuture *future;
  BelayTurn *turn;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  if (try_take (self))
    return belay_resource_future (self);
  turn = belay_async_turn_new (self, &self->lock, &async_class, &future);
  if (take_or_append (self, turn))
    belay_async_turn_answer (turn, BELAY_TURN_SERVED);
  return future;
}
