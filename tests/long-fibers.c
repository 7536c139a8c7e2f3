/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fibers in numbers: very many alive at once, and very many one after another.
 *
 *   long-fibers [FIBERS [ROUNDS]]
 *
 * With BELAY_TEST_LONG in the environment a million fibers and 100,000 rounds, otherwise a small part of that. The figures
 * are printed as comments. A million suspended fibers need about 6 GiB, and a kernel whose guard pages do not split
 * a mapping (Linux 6.13).
 */
#include "support.h"

#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB        (1024.0 * 1024.0)
#define NEEDED     (7 * 1024.0) /* MiB for a million */
#define MAX_GROWTH (1024 * 1024)
#define MAX_KEPT   (128 * 1024 * 1024) /* stacks that are kept warm, and the table of the others */

static guint n_fibers = 5000, n_rounds = 2000;

typedef struct
{
  BelaySemaphore *permits;
  BelayPromise   *gate;
  guint           n_inside;
} Crowd;

static gsize
resident (void)
{
  g_autofree char *text = NULL;
  gsize pages = 0;

  if (g_file_get_contents ("/proc/self/statm", &text, NULL, NULL))
    pages = (gsize) g_ascii_strtoull (strchr (text, ' '), NULL, 10);
  return pages * (gsize) sysconf (_SC_PAGESIZE);
}

static gsize
allocated (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

/* In MiB. */
static double
available (void)
{
  g_autofree char *text = NULL;
  const char *at;

  if (!g_file_get_contents ("/proc/meminfo", &text, NULL, NULL) || (at = strstr (text, "MemAvailable:")) == NULL)
    return G_MAXDOUBLE;
  return (double) g_ascii_strtoull (at + strlen ("MemAvailable:"), NULL, 10) / 1024;
}

/* Waits inside a guard until the gate opens, or for ever where there is none. */
static gboolean
member (gpointer data, GError **error)
{
  Crowd *crowd = data;
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (crowd->permits, error);

  if (permit == NULL)
    return FALSE;
  crowd->n_inside++;
  return crowd->gate != NULL ? belay_await_ok (belay_promise_get_future (crowd->gate), error)
                             : belay_sleep (G_MAXINT32, error);
}

static gboolean
all_at_once (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) permits = belay_semaphore_new (n_fibers);
  g_autoptr (BelayPromise) gate = belay_promise_new ();
  Crowd crowd = { permits, gate, 0 };
  gsize before = resident ();
  gint64 start = g_get_monotonic_time (), spawned, finished;
  gsize peak;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < n_fibers; i++)
    g_assert_true (belay_scope_spawn (scope, member, &crowd, NULL));
  while (crowd.n_inside < n_fibers)
    if (!belay_yield (error))
      return FALSE;
  spawned = g_get_monotonic_time ();
  peak = resident ();
  g_assert_cmpuint (belay_semaphore_get_available (permits), ==, 0);

  belay_promise_resolve (gate);
  if (!belay_scope_close (&scope, error))
    return FALSE;
  finished = g_get_monotonic_time ();
  g_assert_cmpuint (belay_semaphore_get_available (permits), ==, n_fibers);

  g_print ("# %u fibers alive at once, each suspended inside a guard: %.0f MiB, %.0f bytes each\n", n_fibers,
           (double) (peak - before) / MIB, (double) (peak - before) / n_fibers);
  g_print ("# spawned and suspended in %.2f s (%.2f us each), finished in %.2f s (%.2f us each)\n",
           (double) (spawned - start) / 1e6, (double) (spawned - start) / n_fibers, (double) (finished - spawned) / 1e6,
           (double) (finished - spawned) / n_fibers);
  /* What a burst of fibers took goes back to the system while the program goes on. */
  for (gsize last = G_MAXSIZE; resident () < last;)
    {
      last = resident ();
      for (guint i = 0; i < 100; i++)
        if (!belay_sleep (1, error))
          return FALSE;
    }
  g_print ("# resident before %.1f MiB, after %.1f MiB, %.2f s later %.1f MiB\n", (double) before / MIB,
           (double) peak / MIB, (double) (g_get_monotonic_time () - finished) / 1e6, (double) resident () / MIB);
  if (!SANITIZED)
    g_assert_cmpuint (resident (), <=, before + MAX_KEPT);
  return TRUE;
}

/* Spawns one, lets it suspend inside its guard, cancels it, and waits for its release. */
static gboolean
one_round (BelaySemaphore *permits, GError **error)
{
  Crowd crowd = { permits, NULL, 0 };
  g_autoptr (GError) cancelled = NULL;
  belay_auto (BelayScope) scope = belay_scope_new ();

  if (!belay_scope_spawn (scope, member, &crowd, NULL))
    {
      g_set_error (error, BELAY_ERROR, BELAY_ERROR_FAILED, "nothing was spawned");
      return FALSE;
    }
  while (crowd.n_inside == 0)
    if (!belay_yield (error))
      return FALSE;
  g_assert_cmpuint (belay_semaphore_get_available (permits), ==, 0);
  belay_scope_cancel (scope, "the end of a round");
  belay_scope_close (&scope, &cancelled);
  g_assert_true (cancelled == NULL || g_error_matches (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED));
  g_assert_cmpuint (belay_semaphore_get_available (permits), ==, 1);
  return TRUE;
}

static gboolean
one_after_another (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) permits = belay_semaphore_new (1);
  gsize resident_before, allocated_before;
  gint64 start;

  for (guint i = 0; i < 500; i++) /* until whatever is kept for the next time is there */
    if (!one_round (permits, error))
      return FALSE;
  resident_before = resident ();
  allocated_before = allocated ();
  start = g_get_monotonic_time ();
  for (guint i = 0; i < n_rounds; i++)
    if (!one_round (permits, error))
      return FALSE;
  g_print ("# %u rounds of spawn, cancel, release in %.2f s (%.2f us each)\n", n_rounds,
           (double) (g_get_monotonic_time () - start) / 1e6, (double) (g_get_monotonic_time () - start) / n_rounds);
  g_print ("# allocated before %" G_GSIZE_FORMAT ", after %" G_GSIZE_FORMAT " bytes; resident before %.1f, after %.1f MiB\n",
           allocated_before, allocated (), (double) resident_before / MIB, (double) resident () / MIB);
  if (!SANITIZED) /* these keep what was freed */
    {
      g_assert_cmpuint (allocated (), <=, allocated_before + 4096);
      g_assert_cmpuint (resident (), <=, resident_before + MAX_GROWTH);
    }
  return TRUE;
}

static void
test_all_at_once (void)
{
  double needed = NEEDED * n_fibers / 1e6;

  if (available () < needed)
    {
      g_autofree char *why = g_strdup_printf ("%u fibers need %.0f MiB, and %.0f are free", n_fibers, needed, available ());
      g_test_skip (why);
      return;
    }
  g_assert_cmpint (belay_run (all_at_once, NULL), ==, 0);
}

static void
test_one_after_another (void)
{
  g_assert_cmpint (belay_run (one_after_another, NULL), ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  if (g_getenv ("BELAY_TEST_LONG") != NULL)
    {
      n_fibers = 1000000;
      n_rounds = 100000;
    }
  if (argc > 1)
    n_fibers = (guint) atoi (argv[1]);
  if (argc > 2)
    n_rounds = (guint) atoi (argv[2]);
  g_test_add_func ("/long/all-at-once", test_all_at_once);
  g_test_add_func ("/long/one-after-another", test_one_after_another);
  return g_test_run ();
}
