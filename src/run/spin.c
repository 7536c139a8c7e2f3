/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Spinning: what must be known of the machine. See spin.h. */
#include "run/spin.h"
#include "run/context.h"

#ifdef HAVE_VALGRIND
# include <valgrind/valgrind.h>
#endif
#if __has_include (<sys/rseq.h>) && defined (__GLIBC__)
# include <sys/rseq.h>
# define HAVE_RSEQ
#endif

atomic_int belay_spin_worker_cpu = -1;
atomic_int belay_spin_loop_cpu = -1;

static gpointer
count_processors (gpointer unused)
{
  cpu_set_t set;
  int n = sched_getaffinity (0, sizeof set, &set) == 0 ? CPU_COUNT (&set) : (int) g_get_num_processors ();

  return GINT_TO_POINTER (n);
}

int
belay_n_processors (void)
{
  static GOnce once = G_ONCE_INIT;

#ifdef HAVE_VALGRIND
  if (RUNNING_ON_VALGRIND)
    return 1;
#endif
  return GPOINTER_TO_INT (g_once (&once, count_processors, NULL));
}

BelaySpin
belay_spin_how (void)
{
  if (G_UNLIKELY (belay_clock_virtual))
    return BELAY_SPIN_NOT;
  return belay_n_processors () > 1 ? BELAY_SPIN_AWAKE : BELAY_SPIN_YIELD;
}

int
belay_spin_cpu (void)
{
#ifdef HAVE_RSEQ
  if (__rseq_size > 0)
    {
      const volatile struct rseq *area = (const volatile struct rseq *) ((char *) __builtin_thread_pointer () + __rseq_offset);

      return (int) area->cpu_id;
    }
#endif
  return sched_getcpu ();
}
