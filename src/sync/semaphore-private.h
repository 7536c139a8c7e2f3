/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What several permits know of their semaphore. The essay is in semaphore.c. */
#pragma once

#include "run/line.h"
#include "scope/scope-private.h"

/* In `state`: flags, and above them the free permits, which are less than none after the total was lowered. */
enum { WAITERS = 1, ORPHAN = 2, CLOSED = 4, FLAGS = 7, UNIT = 8 };

/* How turns end besides: more was asked for than there ever is. */
enum { TURN_TOO_MANY = BELAY_TURN_OWN };

struct _BelaySemaphore
{
  BelayPlain    permit; /* first: what a BelayPermit points to */
  atomic_int    refs;
  _Atomic (gint64) state;
  atomic_flag   lock;   /* all below */
  guint         max;    /* of a bounded one: `total` is never above; G_MAXUINT: it is none */
  _Atomic (gint64) total; /* free ones and those that are out; changed under the lock */
  gint64        widest; /* nobody in line needs more */
  BelayLine     line;
};

struct _BelayPermits
{
  BelayPlain      base; /* first */
  BelaySemaphore *semaphore;
  guint           n;    /* 0: the semaphore may have gone */
};

static inline gint64
units_of (gint64 state)
{
  return (state - (state & FLAGS)) / UNIT;
}

/* Takes @n, if nobody waits. */
static inline gboolean
try_take (BelaySemaphore *self, gint64 n)
{
  gint64 state = atomic_load_explicit (&self->state, memory_order_relaxed);

  while (state >= n * UNIT && (state & (WAITERS | CLOSED)) == 0)
    if (atomic_compare_exchange_weak_explicit (&self->state, &state, state - n * UNIT, memory_order_acquire, memory_order_relaxed))
      return TRUE;
  return FALSE;
}

void         belay_semaphore_give_slow     (BelaySemaphore *self, gint64 n);
/* Takes @n, by waiting. FALSE: error is set. */
gboolean     belay_semaphore_take_slow     (BelaySemaphore *self, BelayFiber *fiber, gint64 n, GError **error, const char *site);
/* A future of a permit, or, when @permits is one, of that (transfer full) with @n. */
BelayFuture *belay_semaphore_take_async    (BelaySemaphore *self, gint64 n, BelayPermits *permits);
/* None at all: FALSE, and error is set, when the semaphore is closed. */
gboolean     belay_semaphore_take_none     (BelaySemaphore *self, GError **error);
/* They will never be given back. */
void         belay_semaphore_lose          (BelaySemaphore *self, gint64 n);

/* The slow way looks again at what would be more than there are: the total may just be on its way down. */
static inline void
give (BelaySemaphore *self, gint64 n)
{
  gint64 state = atomic_load_explicit (&self->state, memory_order_relaxed);

  while (G_LIKELY ((state & FLAGS) == 0 &&
                   state + n * UNIT <= atomic_load_explicit (&self->total, memory_order_relaxed) * UNIT))
    if (atomic_compare_exchange_weak_explicit (&self->state, &state, state + n * UNIT, memory_order_acq_rel, memory_order_relaxed))
      return;
  belay_semaphore_give_slow (self, n);
}
