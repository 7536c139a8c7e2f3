/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libdex's side of `bench/run core`, and, with the argument `sync`, of `bench/run sync`: the work of bench-core.c and bench-sync.c,
 * a line `row<TAB>figure` for each row that libdex has.
 *
 * An await takes the reference of its future, in libdex as in Belay.
 */
#include <libdex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static gint64
now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec * G_GINT64_CONSTANT (1000000000) + now.tv_nsec;
}

static void
say (const char *row, double value)
{
  printf ("%s\t%.2f\n", row, value);
  fflush (stdout);
}

static void
must (gboolean ok)
{
  if (!ok)
    abort ();
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

/* --- futures --- */

static DexFuture *
plus_one (DexFuture *done, gpointer data)
{
  return dex_future_new_for_int64 (g_value_get_int64 (dex_future_get_value (done, NULL)) + 1);
}

static void
bench_futures (void)
{
  enum { N = 1000000, BATCH = 256 };
  DexFuture *results[BATCH];
  gint64 begin;

  TIMED ("future-resolved", N, dex_unref (dex_future_new_for_int64 (i_)));
  TIMED ("promise", N, {
    DexPromise *promise = dex_promise_new ();

    dex_promise_resolve_int64 (promise, i_);
    must (g_value_get_int64 (dex_future_get_value (DEX_FUTURE (promise), NULL)) == i_);
    dex_unref (promise);
  });

  begin = now_ns ();
  for (int i = 0; i < N / 4 / BATCH; i++)
    {
      for (int k = 0; k < BATCH; k++)
        {
          DexPromise *promise = dex_promise_new ();

          results[k] = dex_future_then (dex_ref (DEX_FUTURE (promise)), plus_one, NULL, NULL);
          dex_promise_resolve_int64 (promise, k);
          dex_unref (promise);
        }
      /* The first suspends until the loop has run them all. */
      for (int k = 0; k < BATCH; k++)
        must (dex_await_int64 (results[k], NULL) == k + 1);
    }
  say ("promise-then", (double) (now_ns () - begin) / (N / 4 / BATCH * BATCH));

  TIMED ("await-resolved", N, must (dex_await_int64 (dex_future_new_for_int64 (i_), NULL) == i_));
}

/* --- fibers --- */

static void
resolve (gpointer data)
{
  dex_promise_resolve_boolean (data, TRUE);
  dex_unref (data);
}

/* Resolved by the loop in its next turn. */
static DexFuture *
next_turn (void)
{
  DexPromise *promise = dex_promise_new ();

  dex_scheduler_push (dex_scheduler_get_default (), resolve, dex_ref (promise));
  return DEX_FUTURE (promise);
}

/* libdex can yield since 1.2; before, awaiting what the loop resolves next is the nearest to it. */
static void
yield (void)
{
#if DEX_CHECK_VERSION(1, 2, 0)
  must (dex_fiber_yield (NULL));
#else
  must (dex_await (next_turn (), NULL));
#endif
}

static DexFuture *
trivial (gpointer data)
{
  return dex_future_new_true ();
}

static DexFuture *
suspend_once (gpointer data)
{
  yield ();
  return dex_future_new_true ();
}

static DexFuture *
yield_many (gpointer data)
{
  for (int i = 0; i < GPOINTER_TO_INT (data); i++)
    yield ();
  return dex_future_new_true ();
}

static double
batch (DexFiberFunc func, gpointer data, int n)
{
  DexFuture **futures = g_new (DexFuture *, n);
  gint64 begin = now_ns ();

  for (int i = 0; i < n; i++)
    futures[i] = dex_scheduler_spawn (NULL, 0, func, data, NULL);
  for (int i = 0; i < n; i++)
    must (dex_await (futures[i], NULL));
  g_free (futures);
  return (double) (now_ns () - begin) / n;
}

/* Two fibers, each resolving the promise that the other awaits. */
static DexPromise *ping, *pong;

static DexFuture *
ponger (gpointer data)
{
  for (int i = 0; i < GPOINTER_TO_INT (data); i++)
    {
      must (dex_await (dex_ref (DEX_FUTURE (ping)), NULL));
      dex_unref (ping);
      ping = dex_promise_new ();
      dex_promise_resolve_boolean (pong, TRUE);
    }
  return dex_future_new_true ();
}

static void
bench_ping_pong (void)
{
  enum { N = 200000 };
  DexFuture *other;
  gint64 begin;

  ping = dex_promise_new ();
  pong = dex_promise_new ();
  other = dex_scheduler_spawn (NULL, 0, ponger, GINT_TO_POINTER (N), NULL);
  begin = now_ns ();
  for (int i = 0; i < N; i++)
    {
      dex_promise_resolve_boolean (ping, TRUE);
      must (dex_await (dex_ref (DEX_FUTURE (pong)), NULL));
      dex_unref (pong);
      pong = dex_promise_new ();
    }
  say ("ping-pong", (double) (now_ns () - begin) / N);
  must (dex_await (other, NULL));
  dex_unref (ping);
  dex_unref (pong);
}

static void
bench_fibers (void)
{
  enum { N = 200000 };
  double sum = 0;

  batch (suspend_once, NULL, 10000);
  for (int i = 0; i < 10; i++)
    sum += batch (suspend_once, NULL, 10000);
  say ("suspend-batch", sum / 10);
  sum = 0;
  for (int i = 0; i < 20; i++)
    sum += batch (trivial, NULL, 10000);
  say ("spawn-batch", sum / 20);
  TIMED ("spawn-await", N, must (dex_await (dex_scheduler_spawn (NULL, 0, trivial, NULL, NULL), NULL)));
  say ("yield-1000", batch (yield_many, GINT_TO_POINTER (1000), 1000) / 1000);
  bench_ping_pong ();
}

static void
bench_cold (void)
{
  say ("suspend-batch-cold", batch (suspend_once, NULL, 10000));
}

/* --- guards --- */

/* A limiter is libdex's semaphore, since 1.2. */
#if DEX_CHECK_VERSION(1, 2, 0)
static DexFuture *
use_permit (gpointer data)
{
  must (dex_await (dex_limiter_acquire (data), NULL));
  yield ();
  dex_limiter_release (data);
  return dex_future_new_true ();
}

static void
bench_limiter (void)
{
  enum { N = 200000 };
  DexLimiter *four = dex_limiter_new (4), *ten = dex_limiter_new (10);

  TIMED ("semaphore", N, {
    must (dex_await (dex_limiter_acquire (four), NULL));
    dex_limiter_release (four);
  });
  for (int i = 0; i < 5; i++)
    batch (use_permit, ten, 1000);
  say ("semaphore-1000", batch (use_permit, ten, 1000));
  dex_unref (four);
  dex_unref (ten);
}
#else
static void
bench_limiter (void)
{
}
#endif

/* --- channels --- */

static DexFuture *
send_all (gpointer data)
{
  for (int i = 0; i < 200000; i++)
    must (dex_await (dex_channel_send (data, dex_future_new_true ()), NULL));
  return dex_future_new_true ();
}

static void
bench_channel (void)
{
  enum { N = 200000 };
  DexChannel *channel = dex_channel_new (100);
  DexFuture *sender = dex_scheduler_spawn (NULL, 0, send_all, channel, NULL);
  gint64 begin = now_ns ();

  for (int i = 0; i < N; i++)
    must (dex_await (dex_channel_receive (channel), NULL));
  say ("channel", (double) (now_ns () - begin) / N);
  must (dex_await (sender, NULL));
  dex_unref (channel);
}

static void
bench_sync (void)
{
  bench_limiter ();
  bench_channel ();
}

/* A timeout is a future; what it limits is one too, and the first of both is awaited. */
static gboolean
await_for_seconds (DexFuture *work)
{
  return dex_await (dex_future_first (work, dex_timeout_new_seconds (1000), NULL), NULL);
}

static void
bench_guards (void)
{
  enum { N = 200000 };

  bench_limiter ();
  TIMED ("timeout", N, must (await_for_seconds (dex_future_new_true ())));
  TIMED ("timeout-suspend", N, must (await_for_seconds (next_turn ())));
}

/* --- workers --- */

static int
compare (gconstpointer a, gconstpointer b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return x < y ? -1 : x > y;
}

/* A fiber on the threads of libdex's pool; dex_thread_spawn() would start a thread for each. */
static DexFuture *
on_thread (void)
{
  return dex_scheduler_spawn (dex_thread_pool_scheduler_get_default (), 0, trivial, NULL, NULL);
}

/* For many at a time a DexThreadPool is quicker, since 1.2; for one at a time it is slower. */
static DexFuture *
job (void)
{
#if DEX_CHECK_VERSION(1, 2, 0)
  static DexThreadPool *pool;

  if (pool == NULL)
    pool = dex_thread_pool_new (g_get_num_processors ());
  return dex_thread_pool_submit (pool, "job", trivial, NULL, NULL);
#else
  return on_thread ();
#endif
}

static void
bench_workers (void)
{
  enum { WARM = 2000, N = 20000, JOBS = 1000000, BATCH = 1000 };
  double *samples = g_new (double, N);
  DexFuture **futures = g_new (DexFuture *, BATCH);
  gint64 begin;

  for (int i = 0; i < WARM; i++)
    must (dex_await (on_thread (), NULL));
  for (int i = 0; i < N; i++)
    {
      begin = now_ns ();
      must (dex_await (on_thread (), NULL));
      samples[i] = (double) (now_ns () - begin);
    }
  qsort (samples, N, sizeof *samples, compare);
  say ("thread-roundtrip", samples[N / 2]);
  say ("thread-roundtrip-p90", samples[N * 9 / 10]);

  begin = now_ns ();
  for (int i = 0; i < JOBS / BATCH; i++)
    {
      for (int k = 0; k < BATCH; k++)
        futures[k] = job ();
      for (int k = 0; k < BATCH; k++)
        must (dex_await (futures[k], NULL));
    }
  say ("thread-jobs", (double) (now_ns () - begin) / JOBS);
  g_free (futures);
  g_free (samples);
}

/* --- memory --- */

static long
memory_kb (void)
{
  g_autofree char *text = NULL;
  const char *rss, *page_tables;

  g_file_get_contents ("/proc/self/status", &text, NULL, NULL);
  rss = strstr (text, "VmRSS:");
  page_tables = strstr (text, "VmPTE:");
  return atol (rss + 6) + atol (page_tables + 6);
}

static DexFuture *
wait_for_gate (gpointer data)
{
  must (dex_await (dex_ref (DEX_FUTURE (data)), NULL));
  return dex_future_new_true ();
}

static void
bench_memory (void)
{
  enum { N = 30000 };
  DexFuture **futures = g_new0 (DexFuture *, N);
  DexPromise *gate = dex_promise_new ();
  long before = memory_kb ();

  for (int i = 0; i < N; i++)
    futures[i] = dex_scheduler_spawn (NULL, 0, wait_for_gate, gate, NULL);
  yield ();
  say ("fibers-30000-bytes", (double) (memory_kb () - before) * 1024 / N);
  dex_promise_resolve_boolean (gate, TRUE);
  for (int i = 0; i < N; i++)
    must (dex_await (futures[i], NULL));
  dex_unref (gate);
  g_free (futures);
}

static const struct
{
  const char *name;
  void      (*run) (void);
} groups[] = {
  { "cold", bench_cold },     { "memory", bench_memory }, { "futures", bench_futures },
  { "fibers", bench_fibers }, { "guards", bench_guards }, { "workers", bench_workers },
};

static DexFuture *
bench (gpointer data)
{
  for (guint i = 0; i < G_N_ELEMENTS (groups); i++)
    if (g_str_equal (data, groups[i].name))
      groups[i].run ();
  return dex_future_new_true ();
}

/* Each group in a process of its own, so that none runs on memory that another has warmed; or the one that is named. */
int
main (int argc, char **argv)
{
  if (argc > 1)
    {
      DexFuture *done;

      dex_init ();
      done = dex_scheduler_spawn (NULL, 0, bench, argv[1], NULL);
      while (dex_future_is_pending (done))
        g_main_context_iteration (NULL, TRUE);
      dex_unref (done);
      return 0;
    }
  for (guint i = 0; i < G_N_ELEMENTS (groups); i++)
    {
      const char *command[] = { argv[0], groups[i].name, NULL };
      g_autoptr (GError) error = NULL;
      int status;

      if (!g_spawn_sync (NULL, (char **) command, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL, &status,
                         &error) ||
          !g_spawn_check_wait_status (status, &error))
        {
          g_printerr ("bench-libdex: %s: %s\n", groups[i].name, error->message);
          return 1;
        }
    }
  return 0;
}
