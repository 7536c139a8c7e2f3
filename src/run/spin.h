/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Spinning: a bounded wait that keeps the processor, because waking a sleeping thread costs a hundred times more.
 *
 * Whoever spins publishes its processor. If the one it waits for was last seen on the same, it gives that up instead of
 * pausing: there the other cannot run while it spins.
 */
#pragma once

#include <glib.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

/* Where the last worker took a job; -1 unknown. */
extern atomic_int belay_spin_worker_cpu;
/* Where a loop last spun; -1 unknown. */
extern atomic_int belay_spin_loop_cpu;

typedef enum
{
  BELAY_SPIN_NOT,   /* with the virtual clock */
  BELAY_SPIN_YIELD, /* on a single processor, and under valgrind: only giving it up a few times can help */
  BELAY_SPIN_AWAKE
} BelaySpin;

BelaySpin belay_spin_how   (void);

#define BELAY_SPIN_YIELDS 4

/* How many processors this process may run on. */
int      belay_n_processors (void);
/* The processor of this thread. A plain load where the C library has registered restartable sequences. */
int      belay_spin_cpu     (void);

static inline void
belay_spin_pause (void)
{
#if defined (__x86_64__) || defined (__i386__)
  __builtin_ia32_pause ();
#elif defined (__aarch64__)
  __asm__ volatile ("yield");
#endif
}

/* A lock for a handful of instructions, never held over a call that may wait. Clear it with ATOMIC_FLAG_INIT. */
static inline void
belay_spin_lock (atomic_flag *lock)
{
  for (guint spins = 1; atomic_flag_test_and_set_explicit (lock, memory_order_acquire); spins++)
    {
      if (spins % 64 == 0)
        sched_yield (); /* its holder may have lost the processor */
      else
        belay_spin_pause ();
    }
}

static inline void
belay_spin_unlock (atomic_flag *lock)
{
  atomic_flag_clear_explicit (lock, memory_order_release);
}

/* TRUE when @word is not 0 after others had the processor. */
static inline gboolean
belay_spin_by_yielding (atomic_uintptr_t *word)
{
  for (int i = 0; i < BELAY_SPIN_YIELDS; i++)
    {
      sched_yield ();
      if (atomic_load_explicit (word, memory_order_relaxed) != 0)
        return TRUE;
    }
  return FALSE;
}

/* Looks at @word a few times; TRUE when it is not 0. */
static inline gboolean
belay_spin_round (atomic_int *peer_cpu, int cpu, atomic_uintptr_t *word)
{
  if (atomic_load_explicit (peer_cpu, memory_order_relaxed) == cpu)
    {
      sched_yield ();
      return atomic_load_explicit (word, memory_order_relaxed) != 0;
    }
  for (int i = 0; i < 16; i++)
    {
      if (atomic_load_explicit (word, memory_order_relaxed) != 0)
        return TRUE;
      belay_spin_pause ();
    }
  return FALSE;
}
