/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* belay_run: exit statuses, signals, the drain. Each scenario is a program of its own: this one, started again. */
#include "thing.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the scenarios, in a process of their own --- */

static void
say (const char *text)
{
  gsize length = strlen (text);

  g_assert_cmpint (write (STDOUT_FILENO, text, length), ==, (gssize) length);
}

typedef struct
{
  BelayPlain  base;
  const char *name;
  gint64      close_ms;
} Lamp;

static gboolean
lamp_close (gpointer data, BelayReason reason, GError **error)
{
  Lamp *lamp = data;

  say (reason == BELAY_REASON_CANCELLED ? "cancelled:" : "off:");
  if (lamp->close_ms > 0 && !belay_sleep (lamp->close_ms, error))
    return FALSE;
  say (lamp->name);
  say ("\n");
  return TRUE;
}

static void
lamp_abandon (gpointer data)
{
  say ("!");
  say (((Lamp *) data)->name);
  say ("\n");
}

static const BelayPlainClass lamp_class = { BELAY_PLAIN_TAG, "Lamp", lamp_close, NULL, lamp_abandon, g_free };
BELAY_DEFINE_AUTO (Lamp)

static Lamp *
lamp_new (const char *name, gint64 close_ms)
{
  Lamp *lamp = belay_plain_new (Lamp, &lamp_class);

  lamp->name = name;
  lamp->close_ms = close_ms;
  return lamp;
}

static gboolean
succeed (gpointer data, GError **error)
{
  say ("work\n");
  return TRUE;
}

static gboolean
fail (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no such page");
  return FALSE;
}

static gboolean
set_status_and_succeed (gpointer data, GError **error)
{
  belay_run_set_exit_status (3);
  return TRUE;
}

static gboolean
set_status_and_fail (gpointer data, GError **error)
{
  belay_run_set_exit_status (4);
  return fail (NULL, error);
}

static gboolean
set_zero_and_fail (gpointer data, GError **error)
{
  belay_run_set_exit_status (0);
  return fail (NULL, error);
}

static gboolean
wait_with_guards (gpointer data, GError **error)
{
  belay_auto (Lamp) a = lamp_new ("a", 50);
  belay_auto (Lamp) b = lamp_new ("b", 50);

  belay_run_set_exit_status (5);
  say ("ready\n");
  return a != NULL && b != NULL && belay_sleep (60000, error);
}

/* Pays no attention. */
static gboolean
wait_and_succeed (gpointer data, GError **error)
{
  say ("ready\n");
  belay_sleep (60000, NULL);
  say ("going on\n");
  return TRUE;
}

static gboolean
wait_with_child (gpointer data, GError **error)
{
  belay_future_unref (belay_spawn (wait_with_guards, NULL));
  return TRUE; /* and the end of its scope waits for the child */
}

static gboolean
slow_release (gpointer data, GError **error)
{
  belay_auto (Lamp) a = lamp_new ("a", 4000);

  say ("ready\n");
  return a != NULL && belay_sleep (60000, error);
}

static gboolean
block (gpointer data, GError **error)
{
  say ("ready\n");
  while (belay_run_get_signal () >= 0)
    g_usleep (G_USEC_PER_SEC);
  return TRUE;
}

/* The signal comes while a release is under way. */
static gboolean
signal_in_release (gpointer data, GError **error)
{
  belay_auto (Lamp) a = lamp_new ("a", 300);

  say ("ready\n");
  return belay_close (&a, error);
}

static gboolean
leave_pending (gpointer data, GError **error)
{
  Lamp *a = lamp_new ("a", 200);

  belay_future_unref (belay_close_start (&a));
  say ("work\n");
  return TRUE;
}

static gboolean
sleep_in_shield (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  g_assert_nonnull (shield);
  belay_sleep (1000000, NULL);
  return TRUE;
}

static gpointer
open_for_ever (gpointer data, GError **error)
{
  sleep_in_shield (NULL, NULL);
  return lamp_new ("late", 0);
}

static gboolean
leave_undrained (gpointer data, GError **error)
{
  BelayFuture *opening = belay_open (open_for_ever, NULL);

  belay_yield (NULL);
  belay_future_unref (opening);
  return data == NULL || fail (NULL, error);
}

static gpointer
work_slowly (gpointer data, GError **error)
{
  g_usleep (300000);
  say ("job\n");
  return g_strdup ("value");
}

static void
say_freed (gpointer data)
{
  say ("freed\n");
  g_free (data);
}

static gboolean
leave_job (gpointer data, GError **error)
{
  BelayFuture *job = belay_thread_run_owned (work_slowly, g_strdup ("data"), g_free, say_freed);

  belay_sleep (50, NULL);
  belay_future_unref (job);
  return TRUE;
}

static gpointer
work_for_long (gpointer data, GError **error)
{
  g_usleep (5 * G_USEC_PER_SEC);
  return data;
}

static void
no_free (gpointer data)
{
}

static gboolean
say_ready (gpointer data)
{
  say ("ready\n");
  return G_SOURCE_REMOVE;
}

/* "ready" is said in the drain, which waits for a job of a few seconds, or for the slow close of a lamp. */
static gboolean
signal_in_drain (gpointer data, GError **error)
{
  if (g_str_equal (data, "job"))
    {
      BelayFuture *job = belay_thread_run_owned (work_for_long, data, no_free, NULL);

      belay_sleep (50, NULL);
      belay_future_unref (job);
    }
  else
    {
      Lamp *a = lamp_new ("a", 700);

      belay_future_unref (belay_close_start (&a));
    }
  g_timeout_add (200, say_ready, NULL);
  return TRUE;
}

static gboolean
run_inside (gpointer data, GError **error)
{
  return belay_run (succeed, NULL) == 1;
}

/* A second one, where it cannot be: in a callback of the first one's main loop, and on another thread. */
static gboolean
run_again (gpointer data)
{
  g_assert_cmpint (belay_run (succeed, NULL), ==, 1);
  return G_SOURCE_REMOVE;
}

static gpointer
run_elsewhere (gpointer data)
{
  run_again (NULL);
  return NULL;
}

static gboolean
run_beside (gpointer data, GError **error)
{
  GThread *thread = g_thread_new ("other", run_elsewhere, NULL);

  g_thread_join (thread);
  g_idle_add (run_again, NULL);
  return belay_sleep (50, error);
}

static gboolean
guard_fails (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  return a != NULL;
}

static int
scenario (const char *name)
{
  static const struct
  {
    const char *name;
    BelayFunc   func;
    gpointer    data;
  } scenarios[] = {
    { "succeed", succeed, NULL },
    { "fail", fail, NULL },
    { "set-status-and-succeed", set_status_and_succeed, NULL },
    { "set-status-and-fail", set_status_and_fail, NULL },
    { "set-zero-and-fail", set_zero_and_fail, NULL },
    { "wait", wait_with_guards, NULL },
    { "ignore", wait_and_succeed, NULL },
    { "child", wait_with_child, NULL },
    { "slow", slow_release, NULL },
    { "blocked", block, NULL },
    { "in-release", signal_in_release, NULL },
    { "pending", leave_pending, NULL },
    { "undrained", leave_undrained, NULL },
    { "undrained-and-fail", leave_undrained, "fail" },
    { "job", leave_job, NULL },
    { "guard", guard_fails, NULL },
    { "drain-job", signal_in_drain, "job" },
    { "drain-release", signal_in_drain, "release" },
  };

  alarm (60);
  if (g_str_equal (name, "inside"))
    {
      g_log_set_always_fatal (G_LOG_FATAL_MASK);
      return belay_run (run_inside, NULL);
    }
  if (g_str_equal (name, "beside"))
    {
      g_log_set_always_fatal (G_LOG_FATAL_MASK);
      g_assert_cmpint (belay_run (run_beside, NULL), ==, 0);
      raise (SIGINT); /* is nobody's any more */
      return 0;
    }
  if (g_str_equal (name, "twice"))
    return belay_run (set_status_and_succeed, NULL) == 3 && belay_run (succeed, NULL) == 0 ? 0 : 9;
  if (g_str_equal (name, "status-before"))
    {
      belay_run_set_exit_status (7);
      return belay_run (succeed, NULL);
    }
  if (g_str_equal (name, "afterwards"))
    {
      g_assert_cmpint (belay_run (succeed, NULL), ==, 0);
      raise (SIGINT); /* is ours no more */
      return 9;
    }
  for (guint i = 0; i < G_N_ELEMENTS (scenarios); i++)
    if (g_str_equal (name, scenarios[i].name))
      return belay_run (scenarios[i].func, scenarios[i].data);
  return 99;
}

/* --- the other side --- */

static const char *program;

typedef struct
{
  int     status;  /* as of waitpid() */
  char   *out, *err;
  double  seconds; /* from the last signal, or the start, to the end */
  /*< private >*/
  GPid    pid;
  int     out_fd, err_fd;
  GTimer *timer;
} Result;

static void
result_clear (Result *result)
{
  g_free (result->out);
  g_free (result->err);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Result, result_clear)

static char *
read_all (int fd, GString *begun)
{
  char buffer[1024];
  gssize n;

  while ((n = read (fd, buffer, sizeof buffer)) > 0)
    g_string_append_len (begun, buffer, n);
  g_assert_cmpint (n, ==, 0);
  close (fd);
  return g_string_free (begun, FALSE);
}

static void
begin (Result *result, const char *name)
{
  const char *argv[] = { program, "--scenario", name, NULL };
  g_auto (GStrv) environment = g_environ_unsetenv (g_environ_unsetenv (g_get_environ (), "BELAY_DEBUG"), "G_DEBUG");
  g_autoptr (GError) error = NULL;

  if (g_str_has_prefix (name, "undrained")) /* which leaks by its nature */
    environment = g_environ_setenv (environment, "ASAN_OPTIONS", "detect_leaks=0", TRUE);
  g_assert_true (g_spawn_async_with_pipes (NULL, (char **) argv, environment, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                           &result->pid, NULL, &result->out_fd, &result->err_fd, &error));
  g_assert_no_error (error);
  result->timer = g_timer_new ();
}

/* Sends the signals (ended by 0), the first when it says that it is ready, each further one a little later. */
static void
finish (Result *result, const int *signals)
{
  GString *out = g_string_new (NULL);
  char c;

  if (signals != NULL)
    {
      while (!g_str_has_suffix (out->str, "ready\n"))
        {
          g_assert_cmpint (read (result->out_fd, &c, 1), ==, 1);
          g_string_append_c (out, c);
        }
      for (; *signals != 0; signals++)
        {
          g_assert_cmpint (kill (result->pid, *signals), ==, 0);
          g_timer_start (result->timer);
          if (signals[1] != 0)
            g_usleep (300000);
        }
    }
  result->out = read_all (result->out_fd, out);
  result->err = read_all (result->err_fd, g_string_new (NULL));
  g_assert_cmpint (waitpid (result->pid, &result->status, 0), ==, result->pid);
  result->seconds = g_timer_elapsed (result->timer, NULL);
  g_timer_destroy (result->timer);
}

static void
start (Result *result, const char *name, const int *signals)
{
  begin (result, name);
  finish (result, signals);
}

static void
assert_exit (const Result *result, int status)
{
  if (!WIFEXITED (result->status) || WEXITSTATUS (result->status) != status)
    g_test_message ("status %x, out: %s, err: %s", result->status, result->out, result->err);
  g_assert_true (WIFEXITED (result->status));
  g_assert_cmpint (WEXITSTATUS (result->status), ==, status);
}

/* --- the tests --- */

static void
test_statuses (void)
{
  const struct
  {
    const char *name;
    int         status;
  } cases[] = { { "succeed", 0 }, { "fail", 1 }, { "set-status-and-succeed", 3 }, { "set-status-and-fail", 4 },
                { "set-zero-and-fail", 1 }, { "guard", 1 }, { "twice", 0 }, { "status-before", 7 } };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_auto (Result) result = { 0 };

      start (&result, cases[i].name, NULL);
      assert_exit (&result, cases[i].status);
    }
}

static void
test_error_is_printed (void)
{
  g_auto (Result) result = { 0 }, good = { 0 }, guard = { 0 };

  start (&result, "fail", NULL);
  g_assert_nonnull (strstr (result.err, "test-run: no such page\n"));
  start (&guard, "guard", NULL);
  g_assert_nonnull (strstr (guard.err, "closing a BelayTestResource: a is stuck\n"));
  start (&good, "succeed", NULL);
  g_assert_cmpstr (good.err, ==, "");
  g_assert_cmpstr (good.out, ==, "work\n");
}

static void
test_sigint (void)
{
  g_auto (Result) result = { 0 };

  start (&result, "wait", (const int[]) { SIGINT, 0 });
  assert_exit (&result, 130);
  g_assert_cmpstr (result.out, ==, "ready\ncancelled:b\ncancelled:a\n"); /* in order, and to their end */
  g_assert_cmpstr (result.err, ==, "");
}

static void
test_sigterm (void)
{
  g_auto (Result) result = { 0 };

  start (&result, "wait", (const int[]) { SIGTERM, 0 });
  assert_exit (&result, 143);
  g_assert_cmpstr (result.out, ==, "ready\ncancelled:b\ncancelled:a\n");
}

static void
test_signal_ignored (void)
{
  g_auto (Result) result = { 0 };

  start (&result, "ignore", (const int[]) { SIGINT, 0 });
  assert_exit (&result, 130);
  g_assert_cmpstr (result.out, ==, "ready\ngoing on\n");
}

static void
test_signal_reaches_children (void)
{
  g_auto (Result) result = { 0 };

  start (&result, "child", (const int[]) { SIGTERM, 0 });
  assert_exit (&result, 143);
  g_assert_cmpstr (result.out, ==, "ready\ncancelled:b\ncancelled:a\n");
}

static void
test_signal_in_release (void)
{
  g_auto (Result) result = { 0 };

  start (&result, "in-release", (const int[]) { SIGINT, 0 });
  assert_exit (&result, 130);
  g_assert_cmpstr (result.out, ==, "ready\noff:a\n"); /* was not cut short */
}

static void
test_second_signal (void)
{
  g_auto (Result) same = { 0 }, other = { 0 }, one = { 0 };

  start (&same, "slow", (const int[]) { SIGINT, SIGINT, 0 });
  assert_exit (&same, 130);
  g_assert_cmpstr (same.out, ==, "ready\ncancelled:!a\n"); /* forced, when its time was up, and not just forgotten */
  g_assert_cmpfloat (same.seconds, >, 0.5);
  g_assert_cmpfloat (same.seconds, <, 30);
  start (&other, "slow", (const int[]) { SIGINT, SIGTERM, 0 });
  assert_exit (&other, 130); /* the first is what it ended for */
  start (&one, "slow", (const int[]) { SIGINT, 0 });
  assert_exit (&one, 130);
  g_assert_cmpstr (one.out, ==, "ready\ncancelled:a\n");
}

static void
test_third_signal (void)
{
  g_auto (Result) result = { 0 }, blocked = { 0 };

  start (&result, "slow", (const int[]) { SIGINT, SIGINT, SIGTERM, 0 });
  assert_exit (&result, 143);
  g_assert_cmpstr (result.out, ==, "ready\ncancelled:");
  start (&blocked, "blocked", (const int[]) { SIGINT, SIGINT, SIGTERM, 0 });
  assert_exit (&blocked, 143);
}

static void
test_handlers_removed (void)
{
  g_auto (Result) result = { 0 };

  start (&result, "afterwards", NULL);
  g_assert_true (WIFSIGNALED (result.status));
  g_assert_cmpint (WTERMSIG (result.status), ==, SIGINT);
}

static void
test_drain (void)
{
  g_auto (Result) release = { 0 }, job = { 0 };

  start (&release, "pending", NULL);
  assert_exit (&release, 0);
  g_assert_cmpstr (release.out, ==, "work\noff:a\n");
  start (&job, "job", NULL);
  assert_exit (&job, 0);
  g_assert_cmpstr (job.out, ==, "job\nfreed\n"); /* nothing runs after the end */
}

static void
test_undrained (void)
{
  g_auto (Result) result = { 0 }, failed = { 0 };

  begin (&result, "undrained");
  begin (&failed, "undrained-and-fail");
  finish (&result, NULL);
  finish (&failed, NULL);
  assert_exit (&result, 70);
  g_assert_nonnull (strstr (result.err, "belay: not drained: opening a resource from "));
  g_assert_cmpfloat (result.seconds, >, 5);
  g_assert_cmpfloat (result.seconds, <, 40);
  assert_exit (&failed, 1); /* what failed first is what counts */
  g_assert_nonnull (strstr (failed.err, "no such page"));
  g_assert_nonnull (strstr (failed.err, "belay: not drained: opening a resource from "));
}

/* The first signal that comes in the drain hurries it, and is in the status. */
static void
test_signal_in_drain (void)
{
  g_auto (Result) job = { 0 }, release = { 0 }, two = { 0 };

  start (&job, "drain-job", (const int[]) { SIGINT, 0 });
  assert_exit (&job, 130);
  g_assert_cmpfloat (job.seconds, <, 4);
  g_assert_nonnull (strstr (job.err, "belay: not drained: a job on a worker from "));
  start (&release, "drain-release", (const int[]) { SIGTERM, 0 });
  assert_exit (&release, 143);
  g_assert_cmpstr (release.out, ==, "off:ready\na\n"); /* was not cut short */
  g_assert_cmpstr (release.err, ==, "");
  start (&two, "drain-job", (const int[]) { SIGINT, SIGINT, SIGTERM, 0 });
  assert_exit (&two, 143); /* the third ends it at once */
}

static void
test_inside (void)
{
  g_auto (Result) result = { 0 };

  start (&result, "inside", NULL);
  assert_exit (&result, 0);
  g_assert_nonnull (strstr (result.err, "belay_run: called in a fiber"));
  g_assert_cmpstr (result.out, ==, "");
}

static void
test_beside (void)
{
  g_auto (Result) result = { 0 };

  start (&result, "beside", NULL);
  g_assert_nonnull (strstr (result.err, "belay_run: another thread runs the default main context"));
  g_assert_nonnull (strstr (result.err, "belay_run: called in a program that runs already"));
  g_assert_null (strstr (result.err, "GLib-CRITICAL"));
  g_assert_true (WIFSIGNALED (result.status) && WTERMSIG (result.status) == SIGINT);
}

static void
test_no_descriptors_left (void)
{
  guint n;

  g_assert_cmpint (belay_run (sleep_func, NULL), ==, 0); /* what GLib opens once */
  n = test_count_fds ();
  for (guint i = 0; i < 10; i++)
    g_assert_cmpint (belay_run (sleep_func, NULL), ==, 0);
  g_assert_cmpuint (test_count_fds (), ==, n);
}

int
main (int argc, char **argv)
{
  if (argc == 3 && g_str_equal (argv[1], "--scenario"))
    {
      g_set_prgname ("test-run");
      return scenario (argv[2]);
    }
  program = argv[0];
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/run/statuses", test_statuses);
  g_test_add_func ("/run/L9-error-is-printed", test_error_is_printed);
  g_test_add_func ("/run/L49-SIGINT", test_sigint);
  g_test_add_func ("/run/L49-SIGTERM", test_sigterm);
  g_test_add_func ("/run/L49-signal-that-the-program-ignores", test_signal_ignored);
  g_test_add_func ("/run/L49-signal-reaches-children", test_signal_reaches_children);
  g_test_add_func ("/run/L6-signal-in-a-release", test_signal_in_release);
  g_test_add_func ("/run/L49-second-signal", test_second_signal);
  g_test_add_func ("/run/L49-third-signal", test_third_signal);
  g_test_add_func ("/run/signals-are-given-back", test_handlers_removed);
  g_test_add_func ("/run/L50-drain", test_drain);
  g_test_add_func ("/run/L50-undrained-is-reported", test_undrained);
  g_test_add_func ("/run/L49-signal-in-the-drain", test_signal_in_drain);
  g_test_add_func ("/run/inside-a-fiber", test_inside);
  g_test_add_func ("/run/one-at-a-time", test_beside);
  g_test_add_func ("/run/no-descriptors-left", test_no_descriptors_left);
  return g_test_run ();
}
