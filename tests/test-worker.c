/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Workers and serial queues, with real threads and the real clock: who runs what, whose memory it is, and when a
 * cancelled wait may return.
 *
 * A job here waits for a flag, never for a time; `patience` bounds it, so that a broken library fails and does not hang.
 */
#include "support.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#define PATIENCE (20 * G_USEC_PER_SEC)

static int destroyed; /* atomic, as all below */
static int destroyed_data;
static int sunk;
static int called;

static void
count_destroy (gpointer data)
{
  g_atomic_int_inc (&destroyed);
}

static void
count_destroy_data (gpointer data)
{
  g_atomic_int_inc (&destroyed_data);
}

static void
count_sink (const GError *error, const char *what, const char *site, gpointer data)
{
  g_atomic_int_inc (&sunk);
}

static void
set_up (void)
{
  destroyed = destroyed_data = sunk = called = 0;
}

/* In a job: until the flag is set. */
static void
wait_for (int *flag)
{
  gint64 end = g_get_monotonic_time () + PATIENCE;

  while (!g_atomic_int_get (flag))
    {
      g_assert_cmpint (g_get_monotonic_time (), <, end);
      g_usleep (100);
    }
}

/* In a fiber: the same. */
static void
yield_until (int *flag, int value)
{
  gint64 end = g_get_monotonic_time () + PATIENCE;

  while (g_atomic_int_get (flag) != value)
    {
      belay_auto (BelayShield) shield = belay_shield ();
      g_assert_cmpint (g_get_monotonic_time (), <, end);
      g_assert_true (belay_sleep (1, NULL));
    }
}

#define CRITICAL(what) g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*" what "*")

/* --- results --- */

static GThread *main_thread;

static gboolean
succeed (gpointer data, GError **error)
{
  g_atomic_int_inc (&called);
  g_assert_nonnull (error);
  g_assert_true (g_thread_self () != main_thread);
  g_assert_false (belay_in_fiber ());
  return TRUE;
}

static gboolean
fail (gpointer data, GError **error)
{
  g_atomic_int_inc (&called);
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_EXISTS, data != NULL ? data : "failed");
  return FALSE;
}

static gpointer
give_back (gpointer data, GError **error)
{
  g_atomic_int_inc (&called);
  if (data == NULL)
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "no value");
  return data;
}

static gboolean
results (gpointer data, GError **error)
{
  g_autoptr (BelaySerial) serial = belay_serial_new ();
  GError *local = NULL;
  int thing;

  set_up ();
  for (int serially = 0; serially < 2; serially++)
    {
#define RUN(func, data) (serially ? belay_serial_run (serial, func, data) : belay_thread_run (func, data))
#define RUN_VALUE(func, data, destroy) \
  (serially ? belay_serial_run_value (serial, func, data, destroy) : belay_thread_run_value (func, data, destroy))
#define RUN_OWNED(func, data, destroy_data, destroy) \
  (serially ? belay_serial_run_owned (serial, func, data, destroy_data, destroy) \
            : belay_thread_run_owned (func, data, destroy_data, destroy))
      set_up ();
      g_assert_true (belay_await_ok (RUN (succeed, NULL), error));
      g_assert_false (belay_await_ok (RUN (fail, "what failed"), &local));
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
      g_assert_cmpstr (local->message, ==, "what failed");
      g_clear_error (&local);
      g_assert_true (belay_await (RUN_VALUE (give_back, &thing, count_destroy), error) == &thing);
      g_assert_cmpint (destroyed, ==, 0);
      g_assert_null (belay_await (RUN_VALUE (give_back, NULL, count_destroy), &local));
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
      g_clear_error (&local);
      g_assert_true (belay_await_ok (RUN_VALUE (give_back, &thing, count_destroy), error)); /* only success mattered */
      yield_until (&destroyed, 1); /* by whoever lets go last, this fiber or the worker */
      g_assert_true (belay_await (RUN_OWNED (give_back, &thing, count_destroy_data, NULL), error) == &thing);
      g_assert_cmpint (destroyed_data, ==, 1); /* freed when the job is over, before the outcome is known */
      g_assert_cmpint (called, ==, 6);
      g_assert_cmpint (sunk, ==, 0);
    }
  return TRUE;
}

static gboolean
true_with_error (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "both");
  return TRUE;
}

static gboolean
false_without_error (gpointer data, GError **error)
{
  return FALSE;
}

static gpointer
value_with_error (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "both");
  return data;
}

static gboolean
misuse (gpointer data, GError **error)
{
  g_autoptr (BelaySerial) serial = belay_serial_new ();
  GError *local = NULL;
  int thing;

  set_up ();
  CRITICAL ("success and an error");
  g_assert_false (belay_await_ok (belay_thread_run (true_with_error, NULL), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  CRITICAL ("failure without an error");
  g_assert_false (belay_await_ok (belay_thread_run (false_without_error, NULL), &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&local);
  CRITICAL ("success and an error");
  g_assert_null (belay_await (belay_thread_run_value (value_with_error, &thing, count_destroy), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  g_assert_cmpint (destroyed, ==, 1);

  CRITICAL ("NULL");
  g_assert_null (belay_thread_run (NULL, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_thread_run_value (NULL, NULL, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_thread_run_owned (give_back, &thing, NULL, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_serial_run (NULL, succeed, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_serial_run (serial, NULL, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_serial_run_value (NULL, give_back, NULL, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_serial_run_owned (serial, give_back, NULL, NULL, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_serial_ref (NULL));
  CRITICAL ("NULL");
  belay_serial_unref (NULL);
  CRITICAL ("NULL");
  g_assert_cmpuint (belay_serial_get_n_waiting (NULL), ==, 0);
  g_test_assert_expected_messages ();
  return TRUE;
}

/* await is for fibers (rule 13); a guard there schedules its release, which runs at home. */
typedef struct
{
  BelayPlain base;
  int       *closed;
} Thing;

static gboolean
thing_close (gpointer self, BelayReason reason, GError **error)
{
  g_assert_true (belay_in_fiber ());
  g_assert_true (g_thread_self () == main_thread);
  g_atomic_int_inc (((Thing *) self)->closed);
  return TRUE;
}

static const BelayPlainClass thing_class = BELAY_PLAIN_CLASS ("Thing", thing_close, g_free);
BELAY_DEFINE_AUTO (Thing)

static gboolean
on_a_worker (gpointer data, GError **error)
{
  belay_auto (Thing) thing = belay_plain_new (Thing, &thing_class);
  GError *local = NULL;

  thing->closed = data;
  CRITICAL ("belay_await");
  g_assert_false (belay_await_ok (belay_future_new_done (), &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&local);
  CRITICAL ("belay_sleep");
  g_assert_false (belay_sleep (1, NULL));
  g_test_assert_expected_messages ();
  g_assert_true (belay_checkpoint (NULL));
  g_assert_null (belay_scope_current ());
  return TRUE;
}

static gboolean
no_fiber_on_a_worker (gpointer data, GError **error)
{
  int closed = 0;

  g_assert_true (belay_await_ok (belay_thread_run (on_a_worker, &closed), error));
  yield_until (&closed, 1);
  return TRUE;
}

/* --- cancellation of what borrows: data on the fiber's own stack --- */

typedef struct
{
  int  started, release;
  int  asked;
  gboolean succeed;
  GError *fail;
  char memory[256];
} Borrowed;

static gboolean
use_memory (gpointer data, GError **error)
{
  Borrowed *self = data;
  GCancellable *cancellable = belay_worker_cancellable ();

  g_assert_nonnull (cancellable);
  g_assert_true (belay_worker_cancellable () == cancellable);
  g_assert_false (g_cancellable_is_cancelled (cancellable));
  g_atomic_int_set (&self->started, 1);
  for (gint64 end = g_get_monotonic_time () + PATIENCE; !g_cancellable_is_cancelled (cancellable); g_usleep (100))
    {
      memset (self->memory, 1, sizeof self->memory);
      g_assert_cmpint (g_get_monotonic_time (), <, end);
    }
  g_atomic_int_set (&self->asked, 1);
  g_usleep (3000);
  memset (self->memory, 2, sizeof self->memory); /* still the caller's, and still there */
  if (self->fail != NULL)
    {
      g_propagate_error (error, g_steal_pointer (&self->fail));
      return FALSE;
    }
  return self->succeed || !g_cancellable_set_error_if_cancelled (cancellable, error);
}

static gboolean
await_with_timeout (Borrowed *self, gboolean *expired, GError **error)
{
  Borrowed mine = *self; /* here, on this stack, in this frame */
  belay_auto (BelayTimeout) timeout = belay_timeout (10);
  gboolean ok = belay_await_ok (belay_thread_run (use_memory, &mine), error);

  *expired = belay_timeout_expired (timeout);
  g_assert_cmpint (mine.started, ==, 1);
  g_assert_cmpint (mine.asked, ==, 1);
  g_assert_cmpint (mine.memory[17], ==, 2);
  memset (&mine, 0xee, sizeof mine);
  return ok;
}

static gboolean
borrowed_memory (gpointer data, GError **error)
{
  Borrowed template = { 0 };
  GError *local = NULL;
  gboolean expired;

  g_assert_null (belay_worker_cancellable ()); /* elsewhere */
  g_assert_false (await_with_timeout (&template, &expired, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT); /* whose doing it was */
  g_clear_error (&local);
  g_assert_true (expired);

  template.succeed = TRUE; /* asked, it says that it has succeeded */
  g_assert_true (await_with_timeout (&template, &expired, &local));
  g_assert_no_error (local);
  g_assert_false (expired);

  template.succeed = FALSE; /* or that something else went wrong */
  template.fail = g_error_new_literal (G_IO_ERROR, G_IO_ERROR_NO_SPACE, "the disk is full");
  g_assert_false (await_with_timeout (&template, &expired, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_NO_SPACE);
  g_clear_error (&local);
  return TRUE;
}

static BelayFuture *
use_later (BelayFuture *done, gpointer data)
{
  return belay_thread_run (use_memory, data);
}

/* The same through combinators; the job may be one that a continuation has begun. */
static gboolean
await_combined (int way, gboolean later, GError **error)
{
  Borrowed mine = { 0 };
  BelayFuture *future = later ? belay_future_then (belay_future_new_done (), use_later, &mine, NULL)
                              : belay_thread_run (use_memory, &mine);
  gboolean ok;

  switch (way)
    {
    case 0: ok = belay_await_ok (belay_future_with_timeout (future, 10), error); break;
    case 1: ok = belay_await_ok (belay_future_race (future, belay_future_delay (10), NULL), error); break;
    case 2: ok = belay_await_ok (belay_future_any (future, belay_future_delay (10), NULL), error); break;
    default:
      ok = belay_await_ok (belay_future_all (future, belay_future_with_timeout (belay_future_delay (100000), 10), NULL), error);
      break;
    }
  g_assert_true (mine.started == 0 || mine.memory[17] == 2);
  memset (&mine, 0xee, sizeof mine);
  return ok;
}

static gboolean
borrowed_and_combined (gpointer data, GError **error)
{
  for (int way = 0; way < 8; way++)
    {
      GError *local = NULL;
      gboolean ok = await_combined (way % 4, way > 3, &local);

      g_assert_true (ok == (way % 4 == 1 || way % 4 == 2));
      if (!ok)
        g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_clear_error (&local);
    }
  return TRUE;
}

/* The same through a chain: when the scope has closed, its owner may go, and the memory with it. */
static gboolean
on_done (BelayFuture *done, gpointer data, GError **error)
{
  g_assert_not_reached ();
}

static gboolean
borrowed_by_a_chain (gpointer data, GError **error)
{
  for (int way = 0; way < 6; way++)
    {
      Borrowed *owner = g_new0 (Borrowed, 1);
      BelayScope *scope = belay_scope_new ();
      BelayFuture *future = way < 3 ? belay_thread_run (use_memory, owner)
                                    : belay_future_then (belay_future_new_done (), use_later, owner, NULL);

      belay_scope_then (scope, future, on_done, owner);
      if (way % 3 > 0)
        yield_until (&owner->started, 1);
      if (way % 3 == 2)
        belay_scope_cancel (scope, "not any more");
      belay_scope_close (&scope, NULL);
      g_assert_true (owner->started == 0 || owner->memory[17] == 2);
      memset (owner, 0xee, sizeof *owner);
      g_free (owner);
    }
  return TRUE;
}

/* --- jobs that need one another --- */

#define N_MEETING 8 /* as many workers as there are at least */

typedef struct
{
  pthread_mutex_t lock; /* here; the thread sanitizer knows nothing of GMutex */
  pthread_cond_t  cond;
  int             here, expected;
} Meeting;

#define MEETING(n) { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, (n) }

/* Waits until all have come; within a time in which they must. */
static gboolean
meet (gpointer data, GError **error)
{
  Meeting *meeting = data;
  struct timespec end = { .tv_sec = time (NULL) + 20 };

  pthread_mutex_lock (&meeting->lock);
  meeting->here++;
  pthread_cond_broadcast (&meeting->cond);
  while (meeting->here < meeting->expected && pthread_cond_timedwait (&meeting->cond, &meeting->lock, &end) == 0)
    ;
  g_assert_cmpint (meeting->here, ==, meeting->expected);
  pthread_mutex_unlock (&meeting->lock);
  return TRUE;
}

static gboolean
do_nothing (gpointer data, GError **error)
{
  return TRUE;
}

/* Given to workers who are used to quick jobs, by a loop that sleeps then; or one by one by a thread without a loop. */
static gboolean
jobs_that_meet (gpointer data, GError **error)
{
  Meeting meeting = MEETING (N_MEETING);
  BelayFuture *futures[N_MEETING];

  for (int i = 0; i < 100; i++)
    g_assert_true (belay_await_ok (belay_thread_run (do_nothing, NULL), error));
  for (int i = 0; i < N_MEETING; i++)
    futures[i] = belay_thread_run (meet, &meeting);
  g_assert_true (belay_await_ok (belay_future_allv (futures, N_MEETING), error));
  return TRUE;
}

static gpointer
start_meeting (gpointer data)
{
  Meeting *meeting = data;
  BelayFuture *futures[N_MEETING];

  for (int i = 0; i < meeting->expected; i++)
    futures[i] = belay_thread_run (meet, meeting);
  for (int i = 0; i < meeting->expected; i++)
    {
      g_assert_true (belay_future_wait_sync (futures[i], NULL));
      belay_future_unref (futures[i]);
    }
  return NULL;
}

static void
jobs_of_a_thread_that_meet (void)
{
  Meeting meeting = MEETING (N_MEETING);

  g_thread_join (g_thread_new ("meeting", start_meeting, &meeting));
}

/* Again and again, so that a worker which has just had its quick job, and looks for another, is there sometimes. */
static gpointer
start_meetings (gpointer data)
{
  for (int i = 0; i < 200; i++)
    {
      Meeting meeting = MEETING (2);

      start_meeting (&meeting);
    }
  return NULL;
}

static void
pairs_of_jobs_that_meet (void)
{
  g_thread_join (g_thread_new ("meetings", start_meetings, NULL));
}

/* A job that waits for a job, and so on, deeper than there are workers otherwise. */
static gboolean
wait_for_another (gpointer data, GError **error)
{
  int depth = GPOINTER_TO_INT (data);
  g_autoptr (BelayFuture) another = NULL;

  if (depth == 0)
    return TRUE;
  another = belay_thread_run (wait_for_another, GINT_TO_POINTER (depth - 1));
  return belay_future_wait_sync (another, error);
}

static gboolean
jobs_that_wait_for_jobs (gpointer data, GError **error)
{
  return belay_await_ok (belay_thread_run (wait_for_another, GINT_TO_POINTER (100)), error);
}

/* --- what hangs on a job's cancellable --- */

static void
drop_another (gpointer data)
{
  belay_future_unref (data);
}

static void
never_cancelled (GCancellable *cancellable, gpointer data)
{
  g_assert_not_reached ();
}

static gpointer
hang_on_cancellable (gpointer data, GError **error)
{
  g_cancellable_connect (belay_worker_cancellable (), G_CALLBACK (never_cancelled), data, drop_another);
  return GINT_TO_POINTER (1);
}

static gboolean
poll_until_cancelled (gpointer data, GError **error)
{
  gboolean *begun = data;

  __atomic_store_n (begun, TRUE, __ATOMIC_SEQ_CST);
  while (!g_cancellable_is_cancelled (belay_worker_cancellable ()))
    g_usleep (100);
  return !g_cancellable_set_error_if_cancelled (belay_worker_cancellable (), error);
}

/* It is dropped by the end of the first job, under no lock, and that cancels the second. */
static gboolean
job_dropped_by_a_cancellable (gpointer data, GError **error)
{
  gboolean begun = FALSE;
  BelayFuture *other = belay_thread_run (poll_until_cancelled, &begun);

  while (!__atomic_load_n (&begun, __ATOMIC_SEQ_CST))
    g_assert_true (belay_yield (error));
  return belay_await_ok (belay_thread_run_value (hang_on_cancellable, other, NULL), error);
}

/* In a fiber that was cancelled after it submitted, before it waits. */
static gboolean
await_late (gpointer data, GError **error)
{
  Borrowed mine = { 0 };
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *future = belay_thread_run (use_memory, &mine);

  yield_until (&mine.started, 1);
  belay_scope_cancel (scope, "before the await");
  g_assert_false (belay_await_ok (future, error));
  g_assert_cmpint (mine.memory[17], ==, 2);
  memset (&mine, 0xee, sizeof mine);
  return FALSE;
}

static gboolean
awaited_late (gpointer data, GError **error)
{
  GError *local = NULL;

  g_assert_false (belay_await_ok (belay_spawn (await_late, NULL), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (local->message, ==, "before the await");
  g_clear_error (&local);
  return TRUE;
}

/* --- what owns its data --- */

typedef struct
{
  int started, release, over;
} Owned;

static gpointer
run_on (gpointer data, GError **error)
{
  Owned *self = data;

  g_atomic_int_set (&self->started, 1);
  wait_for (&self->release);
  return self;
}

static void
owned_over (gpointer data)
{
  Owned *self = data;

  g_atomic_int_inc (&destroyed_data);
  g_atomic_int_set (&self->over, 1);
}

/* E03: a cancelled await returns at once; the function runs on; its late value is freed. */
static gboolean
owned_and_cancelled (gpointer data, GError **error)
{
  Owned owned = { 0 };
  GError *local = NULL;
  guint before = belay_get_n_pending ();
  BelayFuture *future;

  set_up ();
  future = belay_thread_run_owned (run_on, &owned, owned_over, count_destroy);
  yield_until (&owned.started, 1);
  {
    belay_auto (BelayTimeout) timeout = belay_timeout (5);
    g_assert_false (belay_await_ok (future, &local));
    g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_clear_error (&local);
  }
  g_assert_cmpint (g_atomic_int_get (&owned.over), ==, 0);
  g_assert_cmpuint (belay_get_n_pending (), ==, before + 1); /* the library keeps it as pending (L15) */
  g_atomic_int_set (&owned.release, 1);
  yield_until (&destroyed, 1);
  g_assert_cmpint (destroyed_data, ==, 1);
  yield_until (&owned.over, 1);
  for (int i = 0; belay_get_n_pending () > before && i < 10000; i++)
    g_assert_true (belay_sleep (1, error));
  g_assert_cmpuint (belay_get_n_pending (), ==, before);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gpointer
fail_late (gpointer data, GError **error)
{
  run_on (data, NULL);
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "nobody waits, and it failed");
  return NULL;
}

static gboolean
owned_late_failure (gpointer data, GError **error)
{
  Owned owned = { 0 };
  BelayFuture *future;

  set_up ();
  future = belay_thread_run_owned (fail_late, &owned, owned_over, count_destroy);
  yield_until (&owned.started, 1);
  belay_future_unref (future);
  g_atomic_int_set (&owned.release, 1);
  yield_until (&sunk, 1);
  g_assert_cmpint (destroyed_data, ==, 1);
  return TRUE;
}

static gpointer
take_some_time (gpointer data, GError **error)
{
  g_atomic_int_inc (&called);
  g_usleep (50000);
  return data;
}

static gboolean
leave_one_behind (gpointer data, GError **error)
{
  BelayFuture *future = belay_thread_run_owned (take_some_time, data, count_destroy_data, count_destroy);

  yield_until (&called, 1);
  belay_future_unref (future);
  return TRUE;
}

/* L50: the end of the program waits for it, and for what is freed at its end. */
static void
end_waits (void)
{
  int thing;

  for (int i = 0; i < 5; i++)
    {
      set_up ();
      g_assert_cmpint (belay_run (leave_one_behind, &thing), ==, 0);
      g_assert_cmpint (g_atomic_int_get (&destroyed), ==, 1);
      g_assert_cmpint (g_atomic_int_get (&destroyed_data), ==, 1);
      g_assert_cmpuint (belay_get_n_pending (), ==, 0);
    }
}

/* --- a job that has not begun is taken back --- */

static gboolean
hold (gpointer data, GError **error)
{
  Owned *self = data;

  g_atomic_int_inc (&self->started);
  wait_for (&self->release);
  return TRUE;
}

static gboolean
taken_back (gpointer data, GError **error)
{
  g_autoptr (BelaySerial) serial = belay_serial_new ();
  BelayFuture *holders[64];
  Owned holding = { 0 };
  GError *local = NULL;
  int thing, n = CLAMP ((int) g_get_num_processors () * 4, 8, 64); /* as many as there can be workers */

  for (int serially = 0; serially < 2; serially++)
    {
#define JOB(kind, ...) (serially ? belay_serial_##kind (serial, __VA_ARGS__) : belay_thread_##kind (__VA_ARGS__))
      int held = serially ? 1 : n;

      set_up ();
      holding = (Owned) { 0 };
      for (int i = 0; i < held; i++)
        holders[i] = JOB (run, hold, &holding);
      yield_until (&holding.started, held);

      {
        belay_auto (BelayTimeout) timeout = belay_timeout (5);
        g_assert_false (belay_await_ok (JOB (run, succeed, NULL), &local));
        g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
        g_clear_error (&local);
      }
      {
        belay_auto (BelayTimeout) timeout = belay_timeout (5);
        g_assert_null (belay_await (JOB (run_owned, give_back, &thing, count_destroy_data, count_destroy), &local));
        g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
        g_clear_error (&local);
        g_assert_cmpint (destroyed_data, ==, 1); /* the data at once, here */
      }
      belay_future_unref (JOB (run_owned, give_back, &thing, count_destroy_data, count_destroy));
      g_assert_cmpint (destroyed_data, ==, 2);
      g_atomic_int_set (&holding.release, 1);
      g_assert_true (belay_await_ok (belay_future_allv (holders, (guint) held), error));
      g_assert_true (belay_await_ok (JOB (run, succeed, NULL), error));
      g_assert_cmpint (called, ==, 1);
      g_assert_cmpint (destroyed, ==, 0);
      g_assert_cmpint (destroyed_data, ==, 2);
    }
  return TRUE;
}

/* --- serial queues --- */

typedef struct
{
  int running, last, n;
} Order;

typedef struct
{
  Order *order;
  int    number;
} Ordered;

static gboolean
in_order (gpointer data, GError **error)
{
  Ordered *self = data;

  g_assert_cmpint (g_atomic_int_add (&self->order->running, 1), ==, 0); /* never two at once */
  g_assert_cmpint (self->order->last, ==, self->number - 1);
  self->order->last = self->number;
  if (self->number % 100 == 0)
    g_usleep (500);
  g_atomic_int_add (&self->order->running, -1);
  return TRUE;
}

static gboolean
serial_order (gpointer data, GError **error)
{
  enum { N = 2000 }; /* more than one turn of a worker */
  g_autoptr (BelaySerial) serial = belay_serial_new ();
  g_autofree Ordered *jobs = g_new (Ordered, N);
  g_autofree BelayFuture **futures = g_new (BelayFuture *, N);
  Order order = { 0 };

  g_assert_cmpuint (belay_serial_get_n_waiting (serial), ==, 0);
  for (int i = 0; i < N; i++)
    {
      jobs[i] = (Ordered) { &order, i + 1 };
      futures[i] = belay_serial_run (serial, in_order, &jobs[i]);
      if (i == N / 2)
        belay_yield (NULL);
    }
  g_assert_true (belay_await_ok (belay_future_allv (futures, N), error));
  g_assert_cmpint (order.last, ==, N);
  g_assert_cmpuint (belay_serial_get_n_waiting (serial), ==, 0);
  return TRUE;
}

static gboolean
serial_waiting (gpointer data, GError **error)
{
  BelaySerial *serial = belay_serial_new ();
  Owned holding = { 0 };
  BelayFuture *held = belay_serial_run (serial, hold, &holding), *jobs[5];

  set_up ();
  yield_until (&holding.started, 1);
  g_assert_cmpuint (belay_serial_get_n_waiting (serial), ==, 0); /* not counting the one that runs */
  for (int i = 0; i < 5; i++)
    jobs[i] = belay_serial_run (serial, succeed, NULL);
  g_assert_cmpuint (belay_serial_get_n_waiting (serial), ==, 5);
  belay_serial_unref (belay_serial_ref (serial));
  belay_serial_unref (serial); /* what was given is run all the same */
  g_assert_cmpint (called, ==, 0);
  g_atomic_int_set (&holding.release, 1);
  g_assert_true (belay_await_ok (held, error));
  g_assert_true (belay_await_ok (belay_future_allv (jobs, 5), error));
  g_assert_cmpint (called, ==, 5);
  g_assert_cmpstr (g_type_name (BELAY_TYPE_SERIAL), ==, "BelaySerial");
  return TRUE;
}

/* Serial queues do not wait for each other. */
static gboolean
serials_side_by_side (gpointer data, GError **error)
{
  BelaySerial *serial[4];
  Owned holding[4] = { { 0 } };
  BelayFuture *held[4];

  for (int i = 0; i < 4; i++)
    {
      serial[i] = belay_serial_new ();
      held[i] = belay_serial_run (serial[i], hold, &holding[i]);
    }
  for (int i = 3; i >= 0; i--)
    yield_until (&holding[i].started, 1);
  for (int i = 0; i < 4; i++)
    {
      g_atomic_int_set (&holding[i].release, 1);
      g_assert_true (belay_await_ok (held[i], error));
      belay_serial_unref (serial[i]);
    }
  return TRUE;
}

typedef struct
{
  BelaySerial *serial;
  BelayFuture *next;
} Again;

static gboolean
give_another (gpointer data, GError **error)
{
  Again *self = data;

  self->next = belay_serial_run (self->serial, succeed, NULL);
  return TRUE;
}

static gboolean
serial_from_inside (gpointer data, GError **error)
{
  g_autoptr (BelaySerial) serial = belay_serial_new ();
  Again again = { serial, NULL };

  set_up ();
  g_assert_true (belay_await_ok (belay_serial_run (serial, give_another, &again), error));
  g_assert_true (belay_await_ok (again.next, error));
  g_assert_cmpint (called, ==, 1);
  return TRUE;
}

/* --- plain threads --- */

static gboolean
run_another (gpointer data, GError **error)
{
  g_autoptr (BelayFuture) future = belay_thread_run_value (give_back, data, NULL);

  return belay_future_wait_sync (future, error) && belay_future_take (future, error) == data;
}

static void
from_plain_threads (void)
{
  g_autoptr (BelayFuture) future = NULL;
  g_autoptr (GError) error = NULL;
  int thing;

  /* from this thread, which runs no loop; and from a worker, which is no home of fibers either */
  set_up ();
  future = belay_thread_run (run_another, &thing);
  g_assert_true (belay_future_wait_sync (future, &error));
  g_assert_no_error (error);
  g_assert_cmpint (called, ==, 1);
}

/* --- no job is left lying --- */

typedef struct
{
  int first_started, second_ran;
} Pair;

static gboolean
wait_for_second (gpointer data, GError **error)
{
  Pair *self = data;

  g_atomic_int_set (&self->first_started, 1);
  wait_for (&self->second_ran);
  return TRUE;
}

static gboolean
be_second (gpointer data, GError **error)
{
  g_atomic_int_set (&((Pair *) data)->second_ran, 1);
  return TRUE;
}

/* The only awake worker is stuck, and the loop, whose fibers are always ready, never comes to poll. */
static gboolean
busy_loop (gpointer data, GError **error)
{
  gint64 end = g_get_monotonic_time () + PATIENCE;

  for (int i = 0; i < 20; i++)
    {
      Pair pair = { 0 };
      BelayFuture *first = belay_thread_run (wait_for_second, &pair), *second;

      while (!g_atomic_int_get (&pair.first_started))
        g_assert_true (belay_yield (error));
      second = belay_thread_run (be_second, &pair);
      while (belay_future_is_pending (first))
        {
          g_assert_true (belay_yield (error));
          g_assert_cmpint (g_get_monotonic_time (), <, end);
        }
      g_assert_true (belay_await_ok (first, error));
      g_assert_true (belay_await_ok (second, error));
    }
  return TRUE;
}

/* The same from a plain thread that goes on without waiting for anything. */
static void
busy_thread (void)
{
  for (int i = 0; i < 20; i++)
    {
      Pair pair = { 0 };
      g_autoptr (BelayFuture) first = belay_thread_run (wait_for_second, &pair);
      g_autoptr (BelayFuture) second = NULL;

      wait_for (&pair.first_started);
      second = belay_thread_run (be_second, &pair);
      for (gint64 end = g_get_monotonic_time () + PATIENCE; belay_future_is_pending (first);)
        g_assert_cmpint (g_get_monotonic_time (), <, end);
      g_assert_true (belay_future_wait_sync (second, NULL));
    }
}

static gboolean
count_up (gpointer data, GError **error)
{
  g_atomic_int_inc ((int *) data);
  return TRUE;
}

static gboolean
many_jobs (gpointer data, GError **error)
{
  int n = test_is_watched () ? 1000 : 20000;
  g_autofree BelayFuture **futures = g_new (BelayFuture *, n);
  int count = 0;

  for (int i = 0; i < n; i++)
    futures[i] = belay_thread_run (count_up, &count);
  g_assert_true (belay_await_ok (belay_future_allv (futures, (guint) n), error));
  g_assert_cmpint (g_atomic_int_get (&count), ==, n);

  for (int i = 0; i < n / 10; i++) /* and one by one */
    g_assert_true (belay_await_ok (belay_thread_run (count_up, &count), error));
  g_assert_cmpint (count, ==, n + n / 10);
  return TRUE;
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  belay_set_sink (count_sink, NULL);
  main_thread = g_thread_self ();
  test_add_fiber ("/worker/E01-results", results);
  test_add_fiber ("/worker/rule-13-misuse", misuse);
  test_add_fiber ("/worker/rule-13-no-fiber-on-a-worker", no_fiber_on_a_worker);
  test_add_fiber ("/worker/L22-borrowed-memory", borrowed_memory);
  test_add_fiber ("/worker/L22-borrowed-and-combined", borrowed_and_combined);
  test_add_fiber ("/worker/L22-borrowed-by-a-chain", borrowed_by_a_chain);
  test_add_fiber ("/worker/jobs-that-meet-all-begin", jobs_that_meet);
  g_test_add_func ("/worker/jobs-of-a-thread-that-meet-all-begin", jobs_of_a_thread_that_meet);
  g_test_add_func ("/worker/pairs-of-jobs-that-meet-all-begin", pairs_of_jobs_that_meet);
  test_add_fiber ("/worker/jobs-may-wait-for-jobs", jobs_that_wait_for_jobs);
  test_add_fiber ("/worker/L18-no-lock-over-the-end-of-a-cancellable", job_dropped_by_a_cancellable);
  test_add_fiber ("/worker/L22-awaited-late", awaited_late);
  test_add_fiber ("/worker/E03-owned-and-cancelled", owned_and_cancelled);
  test_add_fiber ("/worker/L9-owned-late-failure", owned_late_failure);
  g_test_add_func ("/worker/L50-end-waits", end_waits);
  test_add_fiber ("/worker/taken-back-before-it-began", taken_back);
  test_add_fiber ("/worker/serial-order", serial_order);
  test_add_fiber ("/worker/serial-waiting", serial_waiting);
  test_add_fiber ("/worker/serials-side-by-side", serials_side_by_side);
  test_add_fiber ("/worker/serial-from-inside", serial_from_inside);
  g_test_add_func ("/worker/from-plain-threads", from_plain_threads);
  test_add_fiber ("/worker/no-job-lies-while-the-loop-is-busy", busy_loop);
  g_test_add_func ("/worker/no-job-lies-while-a-thread-is-busy", busy_thread);
  test_add_fiber ("/worker/many-jobs", many_jobs);
  return g_test_run ();
}
