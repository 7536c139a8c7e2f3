/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The core's hot paths: one figure a row, printed as `row<TAB>nanoseconds` (bytes, percent where the name says so).
 *
 * Rows without a prefix are Belay's; `limit:` is what the machine allows (malloc, a bare handover by spinning), `glib:`
 * what GLib's own means cost. bench/run compares them with the peers. Work is sized to a few milliseconds a row.
 */
#include "bench.h"

/* --- futures --- */

static BelayFuture *
plus_one (BelayFuture *done, gpointer data)
{
  gint64 value = 0;

  belay_future_take_int64 (done, &value, NULL);
  return belay_future_new_int64 (value + 1);
}

static void
bench_futures (void)
{
  enum { N = 1000000, BATCH = 256 };
  BelayFuture *results[BATCH];
  gint64 begin, value;

  TIMED ("future-resolved", N, belay_future_unref (belay_future_new_int64 (i_)));
  TIMED ("promise", N, {
    BelayPromise *promise = belay_promise_new ();
    BelayFuture *future = belay_promise_get_future (promise);

    belay_promise_resolve_int64 (promise, i_);
    belay_promise_unref (promise);
    belay_future_take_int64 (future, &value, NULL);
    belay_future_unref (future);
  });

  begin = now_ns ();
  for (int i = 0; i < N / 4 / BATCH; i++)
    {
      for (int k = 0; k < BATCH; k++)
        {
          BelayPromise *promise = belay_promise_new ();

          results[k] = belay_future_then (belay_promise_get_future (promise), plus_one, NULL, NULL);
          belay_promise_resolve_int64 (promise, k);
          belay_promise_unref (promise);
        }
      belay_yield (NULL);
      for (int k = 0; k < BATCH; k++)
        {
          if (!belay_future_take_int64 (results[k], &value, NULL) || value != k + 1)
            abort ();
          belay_future_unref (results[k]);
        }
    }
  say ("promise-then", (double) (now_ns () - begin) / (N / 4 / BATCH * BATCH));

  TIMED ("await-resolved", N, belay_await_int64 (belay_future_new_int64 (i_), &value, NULL));
}

/* --- fibers --- */

static gboolean
trivial (gpointer data, GError **error)
{
  return TRUE;
}

static gboolean
suspend_once (gpointer data, GError **error)
{
  return belay_yield (error);
}

static gboolean
yield_many (gpointer data, GError **error)
{
  for (int i = 0; i < GPOINTER_TO_INT (data); i++)
    belay_yield (NULL);
  return TRUE;
}

/* Two fibers, each resolving the promise that the other awaits. */
static BelayPromise *ping, *pong;

static gboolean
ponger (gpointer data, GError **error)
{
  for (int i = 0; i < GPOINTER_TO_INT (data); i++)
    {
      BelayFuture *future = belay_promise_get_future (ping);

      belay_await_ok (future, NULL);
      belay_promise_unref (ping);
      ping = belay_promise_new ();
      belay_promise_resolve (pong);
    }
  return TRUE;
}

static void
bench_ping_pong (void)
{
  enum { N = 200000 };
  BelayFuture *other;
  gint64 begin;

  ping = belay_promise_new ();
  pong = belay_promise_new ();
  other = belay_spawn (ponger, GINT_TO_POINTER (N));
  begin = now_ns ();
  for (int i = 0; i < N; i++)
    {
      BelayFuture *future = belay_promise_get_future (pong);

      belay_promise_resolve (ping);
      belay_await_ok (future, NULL);
      belay_promise_unref (pong);
      pong = belay_promise_new ();
    }
  say ("ping-pong", (double) (now_ns () - begin) / N);
  belay_await_ok (other, NULL);
  belay_promise_unref (ping);
  belay_promise_unref (pong);
}

static void
bench_fibers (void)
{
  enum { N = 200000 };
  double sum = 0;

  bench_batch (suspend_once, NULL, 10000);
  for (int i = 0; i < 10; i++)
    sum += bench_batch (suspend_once, NULL, 10000);
  say ("suspend-batch", sum / 10);
  sum = 0;
  for (int i = 0; i < 20; i++)
    sum += bench_batch (trivial, NULL, 10000);
  say ("spawn-batch", sum / 20);
  TIMED ("spawn-await", N, belay_await_ok (belay_spawn (trivial, NULL), NULL));
  say ("yield-1000", bench_batch (yield_many, GINT_TO_POINTER (1000), 1000) / 1000);
  bench_ping_pong ();
}

static void
bench_cold (void)
{
  say ("suspend-batch-cold", bench_batch (suspend_once, NULL, 10000));
}

/* --- guards and scopes --- */

static gboolean
nothing (gpointer data, GError **error)
{
  return TRUE;
}

static gboolean
empty_manager (BelayManager *manager, gpointer data, GError **error)
{
  return belay_manager_yield (manager, NULL, error);
}

static gboolean
use_permit (gpointer data, GError **error)
{
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (data, error);

  return permit != NULL && belay_yield (error);
}

static gboolean
yield_until (gpointer data, GError **error)
{
  while (!*(gboolean *) data)
    belay_yield (NULL);
  return TRUE;
}

static void
bench_guards (void)
{
  enum { N = 1000000 };
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (4);
  g_autoptr (BelayLock) one = belay_lock_new ();
  g_autoptr (BelaySemaphore) ten = belay_semaphore_new (10);
  gboolean stop = FALSE;
  BelayFuture *other;

  TIMED ("guard", N, {
    belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, NULL);
    (void) permit;
  });
  TIMED ("semaphore", N, {
    BelayPermit *permit = belay_semaphore_acquire (semaphore, NULL);
    belay_close (&permit, NULL);
  });
  TIMED ("lock", N, {
    BelayLockGuard *guard = belay_lock_acquire (one, NULL);
    belay_close (&guard, NULL);
  });
  TIMED ("timeout", N, {
    belay_auto (BelayTimeout) limit = belay_timeout (1000000);
    (void) limit;
  });
  other = belay_spawn (yield_until, &stop);
  TIMED ("timeout-suspend", N / 4, {
    belay_auto (BelayTimeout) limit = belay_timeout (1000000);
    (void) limit;
    belay_yield (NULL);
  });
  stop = TRUE;
  belay_await_ok (other, NULL);
  TIMED ("scope-10", N / 10, {
    BelayScope *scope = belay_scope_begin ();
    for (int k = 0; k < 10; k++)
      belay_scope_defer (scope, nothing, NULL);
    belay_scope_close (&scope, NULL);
  });
  TIMED ("group-10", N / 10, {
    BelayScope *scope = belay_scope_begin ();
    for (int k = 0; k < 10; k++)
      belay_scope_spawn (scope, trivial, NULL, NULL);
    belay_scope_close (&scope, NULL);
  });
  TIMED ("shield", N, {
    belay_auto (BelayShield) shield = belay_shield ();
    (void) shield;
  });
  TIMED ("manager", N / 10, {
    BelayManager *manager = belay_await (belay_manager_open (empty_manager, NULL), NULL);
    belay_close (&manager, NULL);
  });
  for (int i = 0; i < 5; i++)
    bench_batch (use_permit, ten, 1000);
  say ("semaphore-1000", bench_batch (use_permit, ten, 1000));
}

/* The same, when what is held is written down. */
static void
bench_leaks (void)
{
  enum { N = 1000000 };
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (4);

  TIMED ("guard-leaks", N, {
    belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, NULL);
    (void) permit;
  });
  TIMED ("timeout-leaks", N, {
    belay_auto (BelayTimeout) limit = belay_timeout (1000000);
    (void) limit;
  });
  TIMED ("manager-leaks", N / 10, {
    BelayManager *manager = belay_await (belay_manager_open (empty_manager, NULL), NULL);
    belay_close (&manager, NULL);
  });
}

/* --- workers --- */

static int
compare (gconstpointer a, gconstpointer b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return x < y ? -1 : x > y;
}

static gpointer
one_value (gpointer data, GError **error)
{
  return GINT_TO_POINTER (1);
}

static void
bench_workers (void)
{
  enum { WARM = 2000, N = 20000, JOBS = 1000000, BATCH = 1000 };
  double *samples = g_new (double, N);
  BelayFuture **futures = g_new (BelayFuture *, BATCH);
  gint64 begin;

  for (int i = 0; i < WARM; i++)
    belay_await_ok (belay_thread_run (trivial, NULL), NULL);
  for (int i = 0; i < N; i++)
    {
      begin = now_ns ();
      belay_await_ok (belay_thread_run (trivial, NULL), NULL);
      samples[i] = (double) (now_ns () - begin);
    }
  qsort (samples, N, sizeof *samples, compare);
  say ("thread-roundtrip", samples[N / 2]);
  say ("thread-roundtrip-p90", samples[N * 9 / 10]);

  begin = now_ns ();
  for (int i = 0; i < JOBS / BATCH; i++)
    {
      for (int k = 0; k < BATCH; k++)
        futures[k] = belay_thread_run_value (one_value, NULL, NULL);
      for (int k = 0; k < BATCH; k++)
        belay_await_ok (futures[k], NULL);
    }
  say ("thread-jobs", (double) (now_ns () - begin) / JOBS);
  g_free (futures);
  g_free (samples);
}

/* --- memory and idleness --- */

static gboolean
wait_for_gate (gpointer data, GError **error)
{
  return belay_await_ok (belay_future_ref (data), error);
}

static void
bench_memory (void)
{
  enum { N = 30000 };
  BelayFuture **futures = g_new0 (BelayFuture *, N);
  BelayPromise *gate = belay_promise_new ();
  BelayFuture *opened = belay_promise_get_future (gate);
  long before = bench_memory_kb ();

  for (int i = 0; i < N; i++)
    futures[i] = belay_spawn (wait_for_gate, opened);
  belay_yield (NULL);
  say ("fibers-30000-bytes", (double) (bench_memory_kb () - before) * 1024 / N);
  belay_promise_resolve (gate);
  for (int i = 0; i < N; i++)
    belay_await_ok (futures[i], NULL);
  belay_promise_unref (gate);
  belay_future_unref (opened);
  g_free (futures);
}

static double
cpu_seconds (void)
{
  struct rusage usage;

  getrusage (RUSAGE_SELF, &usage);
  return (double) usage.ru_utime.tv_sec + (double) usage.ru_stime.tv_sec +
         (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void
bench_idle (void)
{
  double before;

  belay_sleep (100, NULL);
  before = cpu_seconds ();
  belay_sleep (1000, NULL);
  say ("idle-cpu", (cpu_seconds () - before) * 100);
}

/* --- the limits, and GLib's own means --- */

static atomic_int turn;

static gpointer
spin_partner (gpointer data)
{
  for (int i = 0; i < GPOINTER_TO_INT (data); i++)
    {
      for (int spins = 0; atomic_load_explicit (&turn, memory_order_acquire) != 1; spins++)
        if (spins % 1000 == 999)
          g_thread_yield ();
      atomic_store_explicit (&turn, 0, memory_order_release);
    }
  return NULL;
}

static void
bench_limits (void)
{
  enum { N = 2000000, SPINS = 20000, SOURCES = 200000 };
  GThread *partner;
  GMutex mutex;
  gint64 begin;

  TIMED ("limit:future-resolved", N, {
    void *volatile block = malloc (64);
    free (block);
  });
  TIMED ("limit:timeout", N, now_ns ());
  g_mutex_init (&mutex);
  TIMED ("glib:lock", N, {
    g_mutex_lock (&mutex);
    g_mutex_unlock (&mutex);
  });
  g_mutex_clear (&mutex);
  TIMED ("glib:future-resolved", SOURCES, g_object_unref (g_object_new (G_TYPE_OBJECT, NULL)));
  TIMED ("glib:timeout", SOURCES, {
    GSource *source = g_timeout_source_new (1000);
    g_source_attach (source, NULL);
    g_source_destroy (source);
    g_source_unref (source);
  });

  partner = g_thread_new ("spin", spin_partner, GINT_TO_POINTER (SPINS));
  begin = now_ns ();
  for (int i = 0; i < SPINS; i++)
    {
      atomic_store_explicit (&turn, 1, memory_order_release);
      for (int spins = 0; atomic_load_explicit (&turn, memory_order_acquire) != 0; spins++)
        if (spins % 1000 == 999)
          g_thread_yield ();
    }
  say ("limit:thread-roundtrip", (double) (now_ns () - begin) / SPINS);
  g_thread_join (partner);
}

static const BenchGroup groups[] = {
  { "cold", bench_cold },     { "memory", bench_memory },   { "futures", bench_futures }, { "fibers", bench_fibers },
  { "guards", bench_guards }, { "workers", bench_workers }, { "idle", bench_idle },       { "limits", bench_limits },
  { "leaks", bench_leaks, "leaks" }, { NULL },
};

int
main (int argc, char **argv)
{
  return bench_main (argc, argv, groups);
}
