/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The clock that sleeps and deadlines go by.
 *
 * It is CLOCK_MONOTONIC in microseconds, or, under test, a virtual clock for the whole process that stands still while
 * anything is ready and jumps to the next timer when nothing is (context.c decides when). The virtual clock is
 * switched on before fibers run and advanced by the thread that dispatches.
 */
#include "run/context.h"

#include <time.h>

gboolean belay_clock_virtual;
guint32 belay_context_seed;
static _Atomic (gint64) virtual_now;
static atomic_int holds;

/* The coarse clock lags by one tick of the kernel, 10 ms at most. */
#define COARSE_LAG 20000

gint64
belay_now (void)
{
  if (G_UNLIKELY (belay_clock_virtual))
    return atomic_load_explicit (&virtual_now, memory_order_relaxed);
  return g_get_monotonic_time ();
}

gint64
belay_clock_after_now (void)
{
#ifdef CLOCK_MONOTONIC_COARSE
  struct timespec now;

  if (G_LIKELY (!belay_clock_virtual))
    {
      clock_gettime (CLOCK_MONOTONIC_COARSE, &now);
      return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000 + COARSE_LAG;
    }
#endif
  return belay_now ();
}

void
belay_clock_set_virtual (gboolean is_virtual)
{
  if (is_virtual && !belay_clock_virtual)
    atomic_store_explicit (&virtual_now, g_get_monotonic_time (), memory_order_relaxed);
  belay_clock_virtual = is_virtual;
}

void
belay_clock_start (gint64 when)
{
  belay_clock_virtual = TRUE;
  atomic_store_explicit (&virtual_now, when, memory_order_relaxed);
}

void
belay_clock_advance_to (gint64 when)
{
  if (when > atomic_load_explicit (&virtual_now, memory_order_relaxed))
    atomic_store_explicit (&virtual_now, when, memory_order_relaxed);
}

void
belay_clock_hold (int n)
{
  atomic_fetch_add_explicit (&holds, n, memory_order_relaxed);
}

void
belay_external_begin (void)
{
  belay_clock_hold (1);
}

void
belay_external_end (void)
{
  belay_clock_hold (-1);
}

gboolean
belay_clock_is_held (void)
{
  return atomic_load_explicit (&holds, memory_order_relaxed) > 0;
}
