/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Workers: the threads that run what blocks.
 *
 * Words. *Work* is a node in the pool's queue. A worker is *busy*, *spinning* (looking for work, awake) or *parked*.
 *
 * Waking a parked thread costs tens of microseconds, so at most one worker spins, a bounded while, before it parks, and
 * work given meanwhile costs nothing to hand over. A busy worker is trusted to come back soon: another is woken, or
 * started, only when there is none awake, when jobs have lately been long, or when a thread is about to sleep while its
 * work lies untouched (before_poll). From then on until the queue is empty whoever takes work wakes the next, so that
 * jobs which wait for one another all begin.
 *
 * More workers than processors are of use only to jobs that sleep. Whether jobs do is sampled; while they do not,
 * no more than that are awake, unless nothing has been taken up for a while (STUCK): then all of them may be asleep, in
 * jobs of another kind, and one is woken after all. A worker that waits for a future does not count: what it waits for
 * may need a worker.
 *
 * Invariants
 *   1. The queue is first in, first out, under `queue.lock`, which is held for a few instructions.
 *   2. Whoever adds work looks for a spinner or an awake worker *after* adding; whoever stops spinning or parks looks
 *      at the queue *after* saying so. So work is never left with everybody parked.
 *   3. Whoever goes to sleep says so (`slept_on`) before it looks for a spinner; a spinner looks at that after it has taken
 *      its work. So work is never left with everybody parked or asleep in a job, while there may be more workers.
 *
 * Threads are never joined; one that is parked for long ends, all but the last.
 */
#include "run/fiber.h"
#include "run/spin.h"

#include <sys/resource.h>
#include <time.h>

#define SPIN        50    /* µs a worker looks for work before it parks */
#define QUICK       20000 /* ns: the average job that is worth waiting for awake */
#define SAMPLE      16    /* one job of so many is timed */
#define SLEEPY      125   /* ‰ of jobs that slept: from there on more workers than processors are of use */
#define STUCK       1000  /* µs */
#define IDLE_LIFE   (10 * G_USEC_PER_SEC)

static struct
{
  atomic_flag  lock; /* head, tail */
  BelayWork   *head, *tail;
  char         pad[64];
  atomic_uintptr_t n; /* how many wait */
  atomic_uint  n_taken;
  atomic_bool  slept_on; /* somebody sleeps until this work is done; unset when it is empty */
} queue = { .lock = ATOMIC_FLAG_INIT };

static atomic_int n_workers, n_parked, n_waiting;
static atomic_bool spinning;
static atomic_int average_ns;
static atomic_int sleepy; /* ‰ */

/* When before_poll last saw that work was taken up. */
static atomic_uint seen_taken;
static _Atomic (gint64) seen_at;

static __thread gboolean is_worker;

static GMutex park_lock; /* n_wakeups */
static GCond park_cond;
static guint n_wakeups;

static BelayWork *
take_work (void)
{
  BelayWork *work;

  if (atomic_load_explicit (&queue.n, memory_order_acquire) == 0)
    return NULL;
  belay_spin_lock (&queue.lock);
  work = queue.head;
  if (work != NULL)
    {
      queue.head = work->next;
      if (queue.head == NULL)
        atomic_store_explicit (&queue.slept_on, FALSE, memory_order_relaxed);
      atomic_fetch_sub_explicit (&queue.n, 1, memory_order_relaxed);
      /* no atomic addition, since all who change it hold the lock */
      atomic_store_explicit (&queue.n_taken, atomic_load_explicit (&queue.n_taken, memory_order_relaxed) + 1,
                             memory_order_relaxed);
    }
  belay_spin_unlock (&queue.lock);
  return work;
}

gboolean
belay_workers_are_quick (void)
{
  return atomic_load_explicit (&average_ns, memory_order_relaxed) < QUICK;
}

static inline gint64
now_ns (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec * G_GINT64_CONSTANT (1000000000) + now.tv_nsec;
}

static gpointer worker_main (gpointer data);

/* Only the thread that forked is there in the child, and if that was a worker it must not go on as one. */
static inline void
run_work (BelayWork *work)
{
  work->work (work);
  if (belay_forked ())
    belay_end_forked ("a job on a worker");
}

/* How often this thread has slept so far. */
static long
count_sleeps (void)
{
  struct rusage usage;

  return getrusage (RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

/* Those that wait for a future do not count. */
static int
max_workers (void)
{
  return CLAMP (belay_n_processors () * 4, 8, 64) + atomic_load (&n_waiting);
}

/* Those that neither are parked nor wait for a future. */
static int
count_awake (void)
{
  return atomic_load (&n_workers) - atomic_load (&n_parked) - atomic_load (&n_waiting);
}

/* Whether one more worker awake would have a processor to run on, or jobs are such as leave theirs to others. */
static gboolean
more_is_better (void)
{
  return count_awake () < belay_n_processors () ||
         atomic_load_explicit (&sleepy, memory_order_relaxed) >= SLEEPY;
}

static gboolean
wake_parked (void)
{
  gboolean woken;

  if (atomic_load (&n_parked) == 0)
    return FALSE;
  g_mutex_lock (&park_lock);
  woken = (int) n_wakeups < atomic_load (&n_parked);
  if (woken)
    n_wakeups++;
  g_mutex_unlock (&park_lock);
  if (woken)
    g_cond_signal (&park_cond);
  return woken;
}

static void
start_worker (void)
{
  int n = atomic_load (&n_workers);
  g_autoptr (GError) error = NULL;
  GThread *thread;

  do
    if (n >= max_workers ())
      return;
  while (!atomic_compare_exchange_weak (&n_workers, &n, n + 1));

  thread = g_thread_try_new ("belay-worker", worker_main, NULL, &error);
  if (thread != NULL)
    {
      g_thread_unref (thread);
      return;
    }
  atomic_fetch_sub (&n_workers, 1);
  if (n == 0)
    g_error ("no thread can be started for blocking work: %s", error->message);
}

static void
wake_one (void)
{
  if (!wake_parked ())
    start_worker ();
}

/* TRUE when there is work after all. */
static gboolean
spin_for_work (void)
{
  BelaySpin how = belay_workers_are_quick () ? belay_spin_how () : BELAY_SPIN_NOT;
  gint64 end = 0;
  gboolean found = FALSE;

  if (how == BELAY_SPIN_NOT || atomic_exchange (&spinning, TRUE))
    return FALSE;
  if (how == BELAY_SPIN_YIELD)
    {
      found = belay_spin_by_yielding (&queue.n);
      atomic_store (&spinning, FALSE);
      return found || atomic_load (&queue.n) != 0;
    }
  for (;;)
    {
      int cpu = belay_spin_cpu ();

      atomic_store_explicit (&belay_spin_worker_cpu, cpu, memory_order_relaxed);
      for (int i = 0; i < 16 && !found; i++)
        {
          found = atomic_load_explicit (&queue.n, memory_order_relaxed) != 0;
          belay_spin_pause ();
        }
      if (found)
        break;
      if (end == 0)
        end = g_get_monotonic_time () + SPIN;
      else if (g_get_monotonic_time () > end)
        break;
      else if (cpu == atomic_load_explicit (&belay_spin_loop_cpu, memory_order_relaxed))
        sched_yield ();
    }
  atomic_store (&spinning, FALSE);
  return found || atomic_load (&queue.n) != 0;
}

/* FALSE when this thread has been idle for so long that it ends. */
static gboolean
park (void)
{
  gint64 end = g_get_monotonic_time () + IDLE_LIFE;
  gboolean stay = TRUE;

  g_mutex_lock (&park_lock);
  atomic_fetch_add (&n_parked, 1);
  while (atomic_load (&queue.n) == 0 && n_wakeups == 0 && stay)
    {
      if (!g_cond_wait_until (&park_cond, &park_lock, end))
        {
          stay = atomic_load (&queue.n) != 0 || n_wakeups > 0 || atomic_load (&n_workers) <= 1;
          end = g_get_monotonic_time () + IDLE_LIFE;
        }
    }
  if (n_wakeups > 0)
    n_wakeups--;
  atomic_fetch_sub (&n_parked, 1);
  if (!stay)
    atomic_fetch_sub (&n_workers, 1);
  g_mutex_unlock (&park_lock);
  return stay;
}

static inline int
approach (int average, int value)
{
  return average + (value - average) / 4;
}

/* Runs one job and learns from it what jobs are like. */
static void
run_sample (BelayWork *work)
{
  int average = atomic_load_explicit (&average_ns, memory_order_relaxed);
  gboolean is_quick = average < QUICK;
  long sleeps = is_quick ? 0 : count_sleeps ();
  gint64 begin = now_ns ();

  run_work (work);
  atomic_store_explicit (&average_ns, approach (average, (int) MIN (now_ns () - begin, 1000000)), memory_order_relaxed);
  if (!is_quick)
    atomic_store_explicit (&sleepy, approach (atomic_load_explicit (&sleepy, memory_order_relaxed),
                                              count_sleeps () > sleeps ? 1000 : 0), memory_order_relaxed);
}

/* TRUE when this thread was there in place of one that waited for a future, and does no longer; it counts no more. */
static gboolean
is_surplus (void)
{
  int n = atomic_load (&n_workers);

  do
    if (G_LIKELY (n <= max_workers ()))
      return FALSE;
  while (!atomic_compare_exchange_weak (&n_workers, &n, n - 1));
  return TRUE;
}

static gpointer
worker_main (gpointer data)
{
  is_worker = TRUE;
  for (guint n = 0;;)
    {
      BelayWork *work;

      if (is_surplus ())
        return NULL;
      work = take_work ();

      if (work == NULL)
        {
          if (!spin_for_work () && !park ())
            return NULL;
          continue;
        }
      if (atomic_load_explicit (&queue.n, memory_order_relaxed) > 0 &&
          (atomic_load (&queue.slept_on) || !belay_workers_are_quick ()) && !atomic_load (&spinning) && more_is_better ())
        wake_one ();
      if (n++ % SAMPLE == 0)
        run_sample (work);
      else
        run_work (work);
    }
}

void
belay_workers_submit (BelayWork *work)
{
  work->next = NULL;
  belay_spin_lock (&queue.lock);
  if (queue.head != NULL)
    queue.tail->next = work;
  else
    queue.head = work;
  queue.tail = work;
  atomic_fetch_add (&queue.n, 1);
  belay_spin_unlock (&queue.lock);

  /* Who spins takes one. A thread without a queue may go to sleep without a word. */
  if (atomic_load (&spinning) && (belay_thread.context != NULL || atomic_load (&queue.n) <= 1))
    return;
  /* A thread that runs a queue comes to before_poll() soon; another may not. */
  if (belay_thread.context == NULL || count_awake () <= 0)
    wake_one ();
}

/* Whether there is none to wake or to start. */
static gboolean
all_are_awake (void)
{
  return atomic_load (&n_parked) == 0 && atomic_load (&n_workers) >= max_workers ();
}

/* TRUE when what has not been taken up since we last looked has waited for too long. */
static gboolean
is_stuck (void)
{
  guint taken = atomic_load_explicit (&queue.n_taken, memory_order_relaxed);
  gint64 now = g_get_monotonic_time ();

  if (atomic_exchange_explicit (&seen_taken, taken, memory_order_relaxed) != taken)
    {
      atomic_store_explicit (&seen_at, now, memory_order_relaxed);
      return FALSE;
    }
  return now - atomic_load_explicit (&seen_at, memory_order_relaxed) >= STUCK;
}

gboolean
belay_workers_before_poll (void)
{
  if (G_LIKELY (atomic_load_explicit (&queue.n, memory_order_relaxed) == 0))
    return FALSE;
  atomic_store (&queue.slept_on, TRUE);
  if (!atomic_load (&spinning) && (more_is_better () || is_stuck ()))
    wake_one ();
  return !all_are_awake ();
}

void
belay_workers_begin_wait (void)
{
  if (!is_worker)
    return;
  atomic_fetch_add (&n_waiting, 1);
  if (atomic_load (&queue.n) == 0)
    return;
  atomic_store (&queue.slept_on, TRUE);
  wake_one ();
}

void
belay_workers_end_wait (void)
{
  if (is_worker)
    atomic_fetch_sub (&n_waiting, 1);
}
