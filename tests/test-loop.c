/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loops, and how fibers share a main loop with everybody else: frames, idle load, wake-ups, nested loops, in real time.
 */
#include "support.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PATIENCE (20 * G_USEC_PER_SEC)

static int destroyed, called, sunk; /* atomic */
static GThread *destroyed_on;

static void
count_destroy (gpointer data)
{
  destroyed_on = g_thread_self ();
  g_atomic_int_inc (&destroyed);
}

static void
count_sink (const GError *error, const char *what, const char *site, gpointer data)
{
  g_test_message ("sink: %s: %s", what, error->message);
  g_atomic_int_inc (&sunk);
}

static void
set_up (void)
{
  destroyed = called = sunk = 0;
  destroyed_on = NULL;
}

#define CRITICAL(what) g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*" what "*")

/* --- a loop's fibers --- */

static gboolean
note_thread (gpointer data, GError **error)
{
  g_atomic_int_inc (&called);
  g_assert_true (belay_in_fiber ());
  *(GThread **) data = g_thread_self ();
  return belay_sleep (1, error);
}

static gboolean
fail (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "failed over there");
  return FALSE;
}

static gboolean
spawns (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");
  GThread *first = NULL, *second = NULL;
  GError *local = NULL;

  set_up ();
  g_assert_nonnull (belay_loop_get_context (loop));
  g_assert_true (belay_await_ok (belay_loop_spawn (loop, note_thread, &first, count_destroy), error));
  g_assert_true (belay_await_ok (belay_loop_spawn (loop, note_thread, &second, NULL), error));
  g_assert_nonnull (first);
  g_assert_true (first == second);
  g_assert_true (first != g_thread_self ());
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_true (destroyed_on == first); /* on the loop's thread, if the fiber ran */
  g_assert_false (belay_await_ok (belay_loop_spawn (loop, fail, NULL, NULL), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_clear_error (&local);
  if (!belay_close (&loop, error))
    return FALSE;
  g_assert_null (loop);
  g_assert_cmpint (sunk, ==, 0);

  loop = belay_loop_new (NULL); /* and a guard that is left closes it too */
  g_assert_true (belay_await_ok (belay_loop_spawn (loop, note_thread, &first, NULL), error));
  return TRUE;
}

static gboolean
misuse (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");
  GThread *thread;

  CRITICAL ("NULL");
  g_assert_null (belay_loop_get_context (NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_loop_spawn (NULL, note_thread, &thread, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_loop_spawn (loop, NULL, NULL, NULL));
  g_test_assert_expected_messages ();
  return TRUE;
}

static gboolean
sleep_long (gpointer data, GError **error)
{
  g_atomic_int_set ((int *) data, 1);
  if (belay_sleep (60 * 1000, error))
    return TRUE;
  g_atomic_int_set ((int *) data, 2);
  return FALSE;
}

static gboolean
sleep_until (int *flag, int value, GError **error)
{
  gint64 end = g_get_monotonic_time () + PATIENCE;

  while (g_atomic_int_get (flag) != value)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, end);
      if (!belay_sleep (1, error))
        return FALSE;
    }
  return TRUE;
}

/* Whoever drops the last interest, or is cancelled waiting, cancels the fiber. */
static gboolean
dropped (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");
  GError *local = NULL;

  for (int way = 0; way < 3; way++)
    {
      int state = 0;
      BelayFuture *future = belay_loop_spawn (loop, sleep_long, &state, NULL);

      set_up ();
      if (way < 2 && !sleep_until (&state, 1, error))
        return FALSE;
      if (way == 1)
        {
          belay_auto (BelayTimeout) timeout = belay_timeout (5);
          g_assert_false (belay_await_ok (future, &local));
          g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
          g_clear_error (&local);
        }
      else
        {
          belay_future_unref (future); /* way 2: perhaps before it began */
        }
      if (way < 2 && !sleep_until (&state, 2, error))
        return FALSE;
      if (way == 2)
        {
          GThread *thread;
          g_assert_true (belay_await_ok (belay_loop_spawn (loop, note_thread, &thread, NULL), error));
          g_assert_cmpint (g_atomic_int_get (&state), !=, 1);
        }
      g_assert_cmpint (sunk, ==, 0);
    }
  return belay_close (&loop, error);
}

static gboolean
nothing_starts_when_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");
  GError *local = NULL;
  GThread *thread = NULL;

  set_up ();
  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    belay_scope_cancel (scope, "no");
    g_assert_false (belay_await_ok (belay_loop_spawn (loop, note_thread, &thread, count_destroy), &local));
    g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    g_clear_error (&local);
  }
  g_assert_cmpint (destroyed, ==, 1);
  if (!belay_close (&loop, error))
    return FALSE;
  g_assert_cmpint (called, ==, 0);
  return TRUE;
}

static gboolean
take_some_time (gpointer data, GError **error)
{
  if (!belay_sleep (30, error))
    return FALSE;
  g_atomic_int_inc ((int *) data);
  return TRUE;
}

/* Closing waits for its fibers; and spawning behind the close is refused (L28). */
static gboolean
close_waits (gpointer data, GError **error)
{
  BelayLoop *loop = belay_loop_new ("test-loop"), *again = loop;
  BelayFuture *futures[10], *closed, *late;
  GError *local = NULL;
  int done = 0;

  set_up ();
  for (int i = 0; i < 10; i++)
    futures[i] = belay_loop_spawn (loop, take_some_time, &done, NULL);
  closed = belay_close_start (&loop);
  g_assert_null (loop);
  for (int i = 0; i < 3; i++)
    g_assert_true (belay_yield (error)); /* the close has begun */
  late = belay_loop_spawn (again, take_some_time, &done, count_destroy);
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_false (belay_await_ok (late, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_clear_error (&local);
  belay_await_ok (closed, &local);
  g_assert_no_error (local);
  g_assert_cmpint (done, ==, 10);
  for (int i = 0; i < 10; i++)
    {
      g_assert_true (belay_future_check (futures[i], error));
      belay_future_unref (futures[i]);
    }
  return TRUE;
}

/* L9: a fiber that nobody waits for fails alone, to the sink; the loop and its other fibers go on. */
static gboolean
dropped_failure (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");
  int done = 0;
  g_autoptr (BelayFuture) other = NULL;

  set_up ();
  other = belay_loop_spawn (loop, take_some_time, &done, NULL);
  belay_future_unref (belay_loop_spawn (loop, fail, NULL, count_destroy));
  if (!sleep_until (&sunk, 1, error) || !belay_await_ok (belay_loop_spawn (loop, take_some_time, &done, NULL), error))
    return FALSE;
  if (!belay_close (&loop, error))
    return FALSE;
  g_assert_cmpint (done, ==, 2);
  g_assert_cmpint (sunk, ==, 1);
  return belay_future_check (other, error);
}

/* A guard left in trouble cancels the fibers, and waits for them. */
static gboolean
left_guard (gpointer data, GError **error)
{
  int state = 0;
  BelayFuture *future;
  GError *local = NULL;

  {
    belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");
    future = belay_loop_spawn (loop, sleep_long, &state, NULL);
    if (!sleep_until (&state, 1, error))
      return FALSE;
  }
  g_assert_cmpint (g_atomic_int_get (&state), ==, 2);
  g_assert_false (belay_future_check (future, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_clear_error (&local);
  belay_future_unref (future);
  return TRUE;
}

/* Waits until no thread has that name any more. */
static gboolean
wait_for_thread_end (const char *name, GError **error)
{
  gint64 until = g_get_monotonic_time () + PATIENCE;
  gboolean found = TRUE;

  while (found && g_get_monotonic_time () < until)
    {
      g_autoptr (GDir) dir = g_dir_open ("/proc/self/task", 0, error);
      const char *task;

      found = FALSE;
      while (dir != NULL && (task = g_dir_read_name (dir)) != NULL)
        {
          g_autofree char *path = g_strdup_printf ("/proc/self/task/%s/comm", task);
          g_autofree char *comm = NULL;

          if (g_file_get_contents (path, &comm, NULL, NULL) && g_str_equal (g_strchomp (comm), name))
            found = TRUE;
        }
      if (found && !belay_sleep (2, error))
        return FALSE;
    }
  g_assert_false (found);
  return TRUE;
}

/* L7: fibers that do not end are not waited for for ever; they are cancelled, reported, and go on on their own. */
static gboolean
ignore_cancellation (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  g_atomic_int_set ((int *) data, 1);
  while (g_atomic_int_get ((int *) data) != 2)
    belay_sleep (1, NULL);
  g_atomic_int_set ((int *) data, 3);
  return TRUE;
}

static gboolean
release_deadline (gpointer data, GError **error)
{
  static int state;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayLoop *loop = belay_loop_new ("late-loop");
  BelayFuture *future = belay_loop_spawn (loop, ignore_cancellation, &state, NULL);
  GError *local = NULL;

  if (!sleep_until (&state, 1, error))
    return FALSE;
  belay_scope_set_release_timeout (scope, 50);
  g_assert_false (belay_close (&loop, &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_clear_error (&local);
  g_atomic_int_set (&state, 2);
  g_assert_true (belay_await_ok (future, &local)); /* it ends when it likes, with what it says */
  g_assert_cmpint (g_atomic_int_get (&state), ==, 3);
  return wait_for_thread_end ("late-loop", error) && belay_scope_close (&scope, error); /* and then its thread does */
}

/* What no scope owns, a manager's function say, is waited for as long, and then goes on with the thread. */
static gboolean
lend (BelayManager *manager, gpointer data, GError **error)
{
  return belay_manager_yield (manager, data, error);
}

static gboolean
open_and_move (gpointer data, GError **error)
{
  BelayManager **moved = data;

  *moved = belay_await (belay_manager_open (lend, NULL), error);
  return *moved != NULL;
}

static gboolean
manager_elsewhere (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayLoop *loop = belay_loop_new ("lender");
  BelayManager *moved = NULL;
  GError *local = NULL;

  if (!belay_await_ok (belay_loop_spawn (loop, open_and_move, &moved, NULL), error))
    return FALSE;
  belay_scope_set_release_timeout (scope, 50);
  g_assert_false (belay_close (&loop, &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_clear_error (&local);
  return belay_close (&moved, error) && wait_for_thread_end ("lender", error) && belay_scope_close (&scope, error);
}

static gboolean
close_self (gpointer data, GError **error)
{
  BelayLoop *loop = data;

  CRITICAL ("on its own thread");
  g_assert_false (belay_close (&loop, error));
  g_test_assert_expected_messages ();
  return FALSE;
}

static gboolean
closed_from_inside (gpointer data, GError **error)
{
  BelayLoop *loop = belay_loop_new ("self-closed"); /* a mistake, but no deadlock: its thread ends with its fibers */
  GError *local = NULL;

  g_assert_false (belay_await_ok (belay_loop_spawn (loop, close_self, loop, NULL), &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&local);
  return wait_for_thread_end ("self-closed", error);
}

static gboolean
one_loop (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");
  GThread *thread;

  return belay_await_ok (belay_loop_spawn (loop, note_thread, &thread, NULL), error) && belay_close (&loop, error);
}

static gboolean
nothing_left (gpointer data, GError **error)
{
  guint before;

  g_assert_true (one_loop (NULL, error));
  before = test_count_fds ();
  for (int i = 0; i < 50; i++)
    g_assert_true (one_loop (NULL, error));
  g_assert_cmpuint (test_count_fds (), ==, before);
  return TRUE;
}

/* Two loops pass a number to and fro. */
typedef struct
{
  BelayPromise *there, *back;
} Hop;

static gboolean
answer_hops (gpointer data, GError **error)
{
  Hop *hops = data;

  for (int i = 0; hops[i].there != NULL; i++)
    {
      gint64 value;

      if (!belay_await_int64 (belay_promise_get_future (hops[i].there), &value, error))
        return FALSE;
      belay_promise_resolve_int64 (hops[i].back, value + 1);
    }
  return TRUE;
}

static gboolean
ping_pong (gpointer data, GError **error)
{
  enum { N = 300 };
  g_autofree Hop *hops = g_new0 (Hop, N + 1);
  belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");
  BelayFuture *other;

  for (int i = 0; i < N; i++)
    hops[i] = (Hop) { belay_promise_new (), belay_promise_new () };
  other = belay_loop_spawn (loop, answer_hops, hops, NULL);
  for (int i = 0; i < N; i++)
    {
      gint64 value;

      if (i % 50 == 0)
        belay_sleep (1, NULL); /* so that both sides have gone to sleep */
      g_assert_true (belay_promise_resolve_int64 (hops[i].there, i));
      g_assert_true (belay_await_int64 (belay_promise_get_future (hops[i].back), &value, error));
      g_assert_cmpint (value, ==, i + 1);
    }
  g_assert_true (belay_await_ok (other, error));
  for (int i = 0; i < N; i++)
    {
      belay_promise_unref (hops[i].there);
      belay_promise_unref (hops[i].back);
    }
  return belay_close (&loop, error);
}

static gpointer
spawn_from_thread (gpointer data)
{
  GThread *thread = NULL;
  g_autoptr (BelayFuture) future = belay_loop_spawn (data, note_thread, &thread, NULL);

  g_assert_true (belay_future_wait_sync (future, NULL));
  g_assert_nonnull (thread);
  return NULL;
}

static gboolean
spawn_from_a_plain_thread (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("test-loop");

  set_up ();
  for (int i = 0; i < 20; i++)
    g_thread_join (g_thread_new ("spawns", spawn_from_thread, loop));
  g_assert_cmpint (called, ==, 20);
  return belay_close (&loop, error);
}

/* --- any main context will do --- */

static gboolean
quit_own_loop (gpointer data, GError **error)
{
  GThread *thread;

  if (!belay_await_ok (belay_spawn (note_thread, &thread), error) || !belay_await_ok (belay_future_delay (2), error))
    return FALSE;
  g_assert_true (thread == g_thread_self ());
  g_main_loop_quit (data);
  return TRUE;
}

static gpointer
run_own_context (gpointer data)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_autoptr (GMainLoop) loop = g_main_loop_new (context, FALSE);
  BelayFuture *future;

  g_main_context_push_thread_default (context);
  future = belay_spawn (quit_own_loop, loop);
  g_main_loop_run (loop);
  while (belay_future_is_pending (future))
    g_main_context_iteration (context, TRUE);
  g_assert_true (belay_future_check (future, NULL));
  belay_future_unref (future);
  g_main_context_pop_thread_default (context);
  return NULL;
}

static void
own_context (void)
{
  GThread *threads[4];

  for (int round = 0; round < 10; round++)
    {
      for (int i = 0; i < 4; i++)
        threads[i] = g_thread_new ("own-context", run_own_context, NULL);
      for (int i = 0; i < 4; i++)
        g_thread_join (threads[i]);
    }
}

/* --- sharing the main loop --- */

typedef struct
{
  gboolean stop;
  guint    ticks;
} Crowd;

static gboolean
yield_forever (gpointer data, GError **error)
{
  Crowd *self = data;

  while (!self->stop)
    {
      self->ticks++;
      if (!belay_yield (error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
count_frame (gpointer data)
{
  ++*(guint *) data;
  return G_SOURCE_CONTINUE;
}

static gboolean
stop_crowd (gpointer data)
{
  ((Crowd *) data)->stop = TRUE;
  return G_SOURCE_REMOVE;
}

static gint64
cpu_time (void)
{
  struct rusage usage;

  getrusage (RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * G_USEC_PER_SEC + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* Fibers that are always ready, and GTK's redraw priority: sixty frames at least in a second of processor time (rule 16). */
static gboolean
frames (gpointer data, GError **error)
{
  Crowd crowd = { FALSE, 0 };
  guint n_frames = 0, n_idles = 0, frame, idle;
  BelayFuture *all[10];
  gint64 begin = cpu_time ();
  double seconds;

  frame = g_idle_add_full (G_PRIORITY_HIGH_IDLE + 20, count_frame, &n_frames, NULL);
  g_timeout_add (500, stop_crowd, &crowd);
  for (int i = 0; i < 10; i++)
    all[i] = belay_spawn (yield_forever, &crowd);
  g_assert_true (belay_await_ok (belay_future_allv (all, 10), error));
  seconds = (double) (cpu_time () - begin) / G_USEC_PER_SEC;
  g_test_message ("%.0f frames and %.0f turns of a fiber a second", n_frames / seconds, crowd.ticks / seconds);
  g_assert_cmpfloat (n_frames / seconds, >=, 60);
  g_source_remove (frame);

  /* and what has the priority of an idle gets a turn as well, when nothing of GTK's is ready */
  crowd.stop = FALSE;
  begin = cpu_time ();
  idle = g_idle_add (count_frame, &n_idles);
  g_timeout_add (200, stop_crowd, &crowd);
  g_assert_true (belay_await_ok (belay_spawn (yield_forever, &crowd), error));
  seconds = (double) (cpu_time () - begin) / G_USEC_PER_SEC;
  g_assert_cmpfloat (n_idles / seconds, >=, 60);
  g_source_remove (idle);
  return TRUE;
}

/* The other way round: a source of the default priority that is always ready does not keep the fibers out. */
static gboolean
busy_source (gpointer data, GError **error)
{
  Crowd crowd = { FALSE, 0 };
  guint n = 0, source = g_idle_add_full (G_PRIORITY_DEFAULT, count_frame, &n, NULL);

  g_timeout_add (100, stop_crowd, &crowd);
  g_assert_true (belay_await_ok (belay_spawn (yield_forever, &crowd), error));
  g_assert_cmpuint (crowd.ticks, >, 100);
  g_assert_cmpuint (n, >, 5);
  for (int i = 0; i < 20; i++)
    g_assert_true (belay_sleep (1, error));
  g_source_remove (source);
  return TRUE;
}

static gboolean
hold (gpointer data, GError **error)
{
  for (gint64 end = g_get_monotonic_time () + PATIENCE; !g_atomic_int_get ((int *) data);)
    {
      g_assert_cmpint (g_get_monotonic_time (), <, end);
      g_usleep (10000);
    }
  return TRUE;
}

/* Nothing spins while nothing happens: neither idle, nor with a job in flight, nor with a timer far away. */
static gboolean
idle_load (gpointer data, GError **error)
{
  int release = 0;
  BelayFuture *far = belay_future_delay (100000), *job;
  gint64 begin;

  begin = cpu_time ();
  g_assert_true (belay_sleep (300, error));
  g_assert_cmpint (cpu_time () - begin, <, 100000);

  job = belay_thread_run (hold, &release);
  g_assert_true (belay_sleep (10, error));
  begin = cpu_time ();
  g_assert_true (belay_sleep (300, error));
  g_assert_cmpint (cpu_time () - begin, <, 100000);
  g_atomic_int_set (&release, 1);
  g_assert_true (belay_await_ok (job, error));
  belay_future_unref (far);
  return TRUE;
}

/* Deadlines and sleeps in real time: never too early, and not much too late. */
static gboolean
real_time (gpointer data, GError **error)
{
  gint64 begin;
  GError *local = NULL;

  for (int ms = 1; ms < 40; ms += 7)
    {
      begin = g_get_monotonic_time ();
      g_assert_true (belay_sleep (ms, error));
      g_assert_cmpint (g_get_monotonic_time () - begin, >=, ms * 1000);
      test_assert_soon (begin);

      begin = g_get_monotonic_time ();
      {
        belay_auto (BelayTimeout) timeout = belay_timeout (ms);
        g_assert_false (belay_sleep (60000, &local));
        g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
        g_clear_error (&local);
      }
      g_assert_cmpint (g_get_monotonic_time () - begin, >=, ms * 1000);
      test_assert_soon (begin);
    }
  begin = g_get_monotonic_time ();
  {
    /* a computation that never waits sees its deadline, too */
    belay_auto (BelayTimeout) timeout = belay_timeout (20);

    while (belay_checkpoint (NULL))
      test_assert_soon (begin);
    g_assert_cmpint (g_get_monotonic_time () - begin, >=, 20 * 1000);
    g_assert_true (belay_timeout_expired (timeout));
  }
  return TRUE;
}

/* --- nested main loops, as a dialog runs one --- */

static gboolean
close_dialog (gpointer data)
{
  g_main_loop_quit (data);
  return G_SOURCE_REMOVE;
}

static gboolean
dialog (gpointer data, GError **error)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);

  g_timeout_add (100, close_dialog, loop);
  g_main_loop_run (loop);
  *(gboolean *) data = TRUE;
  return belay_yield (error);
}

static gboolean
tick (gpointer data, GError **error)
{
  Crowd *self = data;

  while (!self->stop)
    {
      self->ticks++;
      if (!belay_sleep (1, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
dialog_does_not_stall (gpointer data, GError **error)
{
  gboolean closed = FALSE;
  Crowd crowd = { FALSE, 0 };
  BelayFuture *ticker = belay_spawn (tick, &crowd), *job;
  BelayFuture *open = belay_spawn (dialog, &closed);
  int release = 0;
  guint before;

  g_assert_true (belay_sleep (10, error));
  before = crowd.ticks;
  /* this fiber was suspended before the dialog opened, and goes on within it: sleeps, spawns, jobs, loops of its own */
  g_assert_true (belay_sleep (10, error));
  g_assert_cmpuint (crowd.ticks, >, before);
  job = belay_thread_run (hold, &release);
  g_atomic_int_set (&release, 1);
  g_assert_true (belay_await_ok (job, error));
  g_assert_false (closed);
  {
    gboolean inner_closed = FALSE;
    g_assert_true (dialog (&inner_closed, error)); /* a dialog over the dialog */
    g_assert_true (inner_closed);
  }
  g_assert_true (belay_await_ok (open, error));
  g_assert_true (closed);
  crowd.stop = TRUE;
  return belay_await_ok (ticker, error);
}

/* A dialog that a callback runs, not a fiber. */
static gboolean
dialog_in_callback (gpointer data)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);

  g_assert_false (belay_in_fiber ());
  g_timeout_add (30, close_dialog, loop);
  g_main_loop_run (loop);
  *(gboolean *) data = TRUE;
  return G_SOURCE_REMOVE;
}

static gboolean
callback_dialog (gpointer data, GError **error)
{
  gboolean closed = FALSE;
  int steps = 0;

  g_idle_add (dialog_in_callback, &closed);
  while (!closed)
    {
      steps++;
      g_assert_true (belay_sleep (1, error));
    }
  g_assert_cmpint (steps, >, 5);
  return TRUE;
}

/* A continuation that runs a main loop: the run queue is entered again below it. */
static BelayFuture *
dialog_in_continuation (BelayFuture *done, gpointer data)
{
  dialog_in_callback (data);
  return NULL;
}

static gboolean
continuation_dialog (gpointer data, GError **error)
{
  gboolean closed = FALSE;
  BelayFuture *future = belay_future_then (belay_future_new_done (), dialog_in_continuation, &closed, NULL);
  int steps = 0;

  while (!closed)
    {
      steps++;
      g_assert_true (belay_sleep (1, error));
    }
  g_assert_cmpint (steps, >, 5);
  return belay_await_ok (future, error);
}

/* --- main contexts that have nothing to do with us --- */

static gboolean
nap (gpointer data, GError **error)
{
  return belay_sleep (30, error);
}

static gboolean
wait_in_handler (gpointer done)
{
  {
    belay_auto (BelayScope) scope = belay_scope_new ();

    g_assert_true (belay_scope_defer (scope, nap, NULL));
  }
  g_assert_true (belay_in_fiber ());
  *(gboolean *) done = TRUE;
  return G_SOURCE_REMOVE;
}

/* Its handlers are the fiber's own, and may wait. */
static gboolean
iterate_stranger (gpointer data, GError **error)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_autoptr (GSource) source = g_timeout_source_new (5);
  gboolean done = FALSE;

  g_source_set_callback (source, wait_in_handler, &done, NULL);
  g_source_attach (source, context);
  while (!done)
    g_main_context_iteration (context, TRUE);
  g_assert_true (belay_in_fiber ());
  return belay_sleep (1, error);
}

static gboolean
be_in_no_fiber (gpointer loop)
{
  g_assert_false (belay_in_fiber ());
  return close_dialog (loop);
}

static gboolean
short_dialog (gpointer milliseconds, GError **error)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);

  g_timeout_add (GPOINTER_TO_UINT (milliseconds), be_in_no_fiber, loop);
  g_main_loop_run (loop);
  g_assert_true (belay_in_fiber ());
  return belay_sleep (5, error);
}

/* While some wait in such handlers, g_main_depth() is no measure for whose dialog has ended, and whose has not. */
static gboolean
strangers (gpointer data, GError **error)
{
  BelayFuture *all[20];

  for (guint i = 0; i < G_N_ELEMENTS (all); i++)
    all[i] = i % 2 == 0 ? belay_spawn (iterate_stranger, NULL) : belay_spawn (short_dialog, GUINT_TO_POINTER (i * 7));
  if (!belay_await_ok (belay_future_allv (all, G_N_ELEMENTS (all)), error))
    return FALSE;
  g_assert_cmpint (g_main_depth (), ==, 1);
  return TRUE;
}

/* --- the end of a main context --- */

static gboolean
do_nothing (gpointer data)
{
  return G_SOURCE_REMOVE;
}

static BelayFuture *
never_called (BelayFuture *future, gpointer data)
{
  g_assert_not_reached ();
}

static void
resolve_at_the_end (gpointer promise)
{
  g_assert_true (belay_promise_resolve (promise));
}

/* What is sent home while the main context is being freed wakes nobody, and touches nothing that has gone. */
static void
end_of_context_subprocess (void)
{
  GMainContext *context = g_main_context_new ();
  BelayPromise *promise = belay_promise_new ();
  GSource *holder = g_timeout_source_new_seconds (1000), *first = g_timeout_source_new (20);
  BelayFuture *future;

  g_main_context_push_thread_default (context);
  future = belay_future_then (belay_promise_get_future (promise), never_called, NULL, NULL);
  g_source_set_callback (holder, do_nothing, promise, resolve_at_the_end);
  g_source_attach (holder, context);
  g_source_unref (holder);
  g_source_set_priority (first, G_PRIORITY_HIGH); /* so that nobody else is asked after the poll */
  g_source_set_callback (first, do_nothing, NULL, NULL);
  g_source_attach (first, context);
  g_source_unref (first);
  while (g_main_context_iteration (context, FALSE))
    ;
  g_main_context_iteration (context, TRUE);
  g_main_context_pop_thread_default (context);
  g_main_context_unref (context);
  g_assert_error (belay_future_get_error (future), BELAY_ERROR, BELAY_ERROR_BROKEN);
  belay_future_unref (future);
  belay_promise_unref (promise);
}

static void
end_of_context (void)
{
  g_test_trap_subprocess ("/loop/pushed-while-the-context-is-freed/subprocess", 20 * G_USEC_PER_SEC,
                          G_TEST_SUBPROCESS_DEFAULT);
  g_test_trap_assert_passed ();
  g_test_trap_assert_stderr_unmatched ("*CRITICAL*");
}

/* --- the stacks of several loops --- */

/* Before libc's: no guard page can be installed while it fails. */
static int madvise_fails;

int
madvise (void *address, size_t length, int advice)
{
  if (advice == 102 && g_atomic_int_get (&madvise_fails)) /* MADV_GUARD_INSTALL */
    {
      errno = ENOMEM;
      return -1;
    }
  return (int) syscall (SYS_madvise, address, length, advice);
}

static gboolean
yield_twice (gpointer data, GError **error)
{
  return belay_yield (error) && belay_yield (error);
}

static gboolean
yield_in_loop (BelayLoop *loop, GError **error)
{
  BelayFuture *all[20];

  for (guint i = 0; i < G_N_ELEMENTS (all); i++)
    all[i] = belay_loop_spawn (loop, yield_twice, NULL, NULL);
  return belay_await_ok (belay_future_allv (all, G_N_ELEMENTS (all)), error);
}

/* A guard that madvise() could not install, for lack of memory, is mprotect()'s; the next is madvise()'s again. */
static gboolean
madvise_fails_once (gpointer data, GError **error)
{
  belay_auto (BelayLoop) a = belay_loop_new ("a");
  belay_auto (BelayLoop) b = NULL;

  g_assert_true (yield_in_loop (a, error));
  g_atomic_int_set (&madvise_fails, TRUE);
  b = belay_loop_new ("b");
  g_assert_true (belay_await_ok (belay_loop_spawn (b, yield_twice, NULL, NULL), error));
  g_atomic_int_set (&madvise_fails, FALSE);
  g_assert_true (belay_close (&a, error));
  return yield_in_loop (b, error);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  belay_set_sink (count_sink, NULL);
  test_add_fiber ("/loop/spawns", spawns);
  test_add_fiber ("/loop/misuse", misuse);
  test_add_fiber ("/loop/dropped-fiber-is-cancelled", dropped);
  test_add_fiber ("/loop/L20-nothing-starts-when-cancelled", nothing_starts_when_cancelled);
  test_add_fiber ("/loop/L28-close-waits-and-refuses", close_waits);
  test_add_fiber ("/loop/L26-left-guard-cancels-and-waits", left_guard);
  test_add_fiber ("/loop/L9-failure-that-nobody-waits-for", dropped_failure);
  test_add_fiber ("/loop/L7-release-deadline", release_deadline);
  test_add_fiber ("/loop/L7-what-no-scope-owns", manager_elsewhere);
  test_add_fiber ("/loop/L11-closed-from-inside-is-misuse", closed_from_inside);
  test_add_fiber ("/loop/nothing-is-left", nothing_left);
  test_add_fiber ("/loop/ping-pong", ping_pong);
  test_add_fiber ("/loop/spawn-from-a-plain-thread", spawn_from_a_plain_thread);
  g_test_add_func ("/loop/any-main-context", own_context);
  test_add_fiber ("/loop/rule-16-sixty-frames-a-second", frames);
  test_add_fiber ("/loop/busy-source", busy_source);
  test_add_fiber ("/loop/rule-17-idle-is-idle", idle_load);
  test_add_fiber ("/loop/real-time", real_time);
  test_add_fiber ("/loop/rule-16-dialog-does-not-stall", dialog_does_not_stall);
  test_add_fiber ("/loop/dialog-in-a-callback", callback_dialog);
  test_add_fiber ("/loop/dialog-in-a-continuation", continuation_dialog);
  test_add_fiber ("/loop/dialogs-beside-waits-in-handlers", strangers);
  g_test_add_func ("/loop/pushed-while-the-context-is-freed", end_of_context);
  g_test_add_func ("/loop/pushed-while-the-context-is-freed/subprocess", end_of_context_subprocess);
  test_add_fiber ("/loop/madvise-fails-once", madvise_fails_once);
  return g_test_run ();
}
