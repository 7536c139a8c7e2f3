/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the benchmarks share: a figure is a line `row<TAB>figure`, in nanoseconds unless the row's name says otherwise; and the
 * work is in groups, each in a process of its own, so that none runs on memory that another has warmed.
 */
#pragma once

#include <belay/belay.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

typedef struct
{
  const char *name;
  void      (*run) (void); /* in a fiber */
  const char *debug;       /* (nullable): BELAY_DEBUG */
} BenchGroup;

/* All groups, or the one that is the program's argument; up to one without a name. */
int    bench_main      (int argc, char **argv, const BenchGroup *groups);
/* Spawns @n fibers and awaits them; how long that took, for each. */
double bench_batch     (BelayFunc func, gpointer data, int n);
/* What the process has of the machine's memory, its page tables included. */
long   bench_memory_kb (void);

static inline gint64
now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec * G_GINT64_CONSTANT (1000000000) + now.tv_nsec;
}

static inline void
say (const char *row, double value)
{
  printf ("%s\t%.2f\n", row, value);
  fflush (stdout);
}

#define TIMED(row, n, body)                                 \
  G_STMT_START                                              \
    {                                                       \
      gint64 begin_ = now_ns ();                            \
      for (int i_ = 0; i_ < (n); i_++)                      \
        {                                                   \
          body;                                             \
        }                                                   \
      say (row, (double) (now_ns () - begin_) / (n));       \
    }                                                       \
  G_STMT_END
