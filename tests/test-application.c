/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lifespans in whole programs, under belay_run() and in a GApplication: exit statuses, signals while they start, serve and stop.
 * Each scenario is a program of its own: this one, started again.
 */
#include "support.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- the scenarios, in a process of their own --- */

static void
say (const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  g_assert_cmpint (write (STDOUT_FILENO, text, strlen (text)), ==, (gssize) strlen (text));
}

/* A part, and how it behaves. */
typedef struct
{
  const char *name;
  gint64      open_ms; /* negative: it fails */
  gint64      close_ms; /* negative: it fails */
  gboolean    is_ready; /* says so when its longer part begins */
} Spec;

typedef struct
{
  BelayPlain  base;
  const Spec *spec;
} Lamp;

/* A long sleep in short pieces, between which the thread sanitizer can hand over a signal that came at a bad moment. */
static gboolean
sleep_long (gint64 milliseconds, GError **error)
{
  for (gint64 left = milliseconds; left > 0; left -= 50)
    {
      if (!belay_sleep (MIN (left, 50), error))
        return FALSE;
      usleep (1);
    }
  return TRUE;
}

static gboolean
lamp_close (gpointer data, BelayReason reason, GError **error)
{
  const Spec *spec = ((Lamp *) data)->spec;

  say ("-%s%s ", spec->name, reason == BELAY_REASON_OK ? "" : reason == BELAY_REASON_CANCELLED ? ":cancelled" : ":error");
  if (spec->close_ms < 0)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the switch is stuck");
      return FALSE;
    }
  if (spec->is_ready && spec->close_ms > 0)
    say ("ready\n");
  return sleep_long (spec->close_ms, error);
}

static void
lamp_abandon (gpointer data)
{
  say ("!%s ", ((Lamp *) data)->spec->name);
}

static const BelayPlainClass lamp_class = { BELAY_PLAIN_TAG, "Lamp", lamp_close, NULL, lamp_abandon, g_free };

static gpointer
lamp_open (gpointer data, GError **error)
{
  const Spec *spec = data;
  Lamp *lamp;

  if (spec->open_ms < 0)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no lamp");
      return NULL;
    }
  if (spec->is_ready && spec->open_ms > 0)
    say ("ready\n");
  if (!sleep_long (spec->open_ms, error))
    return NULL;
  lamp = belay_plain_new (Lamp, &lamp_class);
  lamp->spec = spec;
  say ("+%s ", spec->name);
  return lamp;
}

static BelayFuture *
open_lamp (BelayLifespan *life, gpointer spec)
{
  return belay_open (lamp_open, spec);
}

/* b needs a. */
static BelayLifespan *
life_new (const Spec *a, const Spec *b)
{
  BelayLifespan *life = belay_lifespan_new ();

  belay_lifespan_add (life, "a", open_lamp, (gpointer) a, NULL);
  belay_lifespan_add (life, "b", open_lamp, (gpointer) b, "a", NULL);
  return life;
}

static gboolean
serve_nothing (gpointer data, GError **error)
{
  say ("serve ");
  return TRUE;
}

static gboolean
serve_long (gpointer data, GError **error)
{
  gboolean ok;

  say ("ready\n");
  ok = sleep_long (60000, error);
  say (ok ? "served " : "interrupted ");
  return ok;
}

static gboolean
fail (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "it is dark");
  return FALSE;
}

static BelayFunc plain_serve;

static gboolean
run_plain (gpointer life, GError **error)
{
  return belay_lifespan_run (life, plain_serve, NULL, error);
}

static void
on_activate (GApplication *app, gpointer func)
{
  say ("activate ");
  if (func != NULL)
    g_assert_true (belay_application_spawn (app, (BelayFunc) func, NULL, NULL));
}

static void
on_activate_and_quit (GApplication *app, gpointer data)
{
  on_activate (app, serve_long);
  g_idle_add_once ((GSourceOnceFunc) g_application_quit, app);
}

static gboolean
serve_a_while (gpointer data, GError **error)
{
  gboolean ok = belay_sleep (100, error);

  say (ok ? "served " : "interrupted ");
  return ok;
}

static void
on_activate_twice (GApplication *app, gpointer data)
{
  on_activate (app, fail);
  g_assert_true (belay_application_spawn (app, serve_a_while, NULL, NULL));
}

static void
on_activate_too_late (GApplication *app, gpointer data)
{
  say ("activate ");
  belay_application_spawn (app, serve_nothing, g_strdup ("data"), g_free); /* the startup is not over */
}

/* As another process does: at a moment of its own choosing. */
static gboolean
activate_again (gpointer app)
{
  say ("again ");
  g_application_activate (app);
  return G_SOURCE_REMOVE;
}

static void
activate_soon (GApplication *app, gpointer milliseconds)
{
  g_timeout_add (GPOINTER_TO_UINT (milliseconds), activate_again, app);
}

static gpointer
work_on (gpointer data, GError **error)
{
  g_usleep (G_USEC_PER_SEC);
  return data;
}

static void
no_free (gpointer data)
{
}

static void
on_activate_and_leave_job (GApplication *app, gpointer data)
{
  BelayFuture *job = belay_thread_run_owned (work_on, data, no_free, NULL);

  belay_run_set_drain_timeout (100);
  g_usleep (50000); /* it has begun */
  belay_future_unref (job);
}

static int
on_command_line (GApplication *app, GApplicationCommandLine *line, gpointer data)
{
  say ("command-line ");
  return 5;
}

/* Another process waits until it has ended. */
static int
on_long_command_line (GApplication *app, GApplicationCommandLine *line, gpointer data)
{
  belay_application_spawn (app, serve_long, g_object_ref (line), g_object_unref);
  return 0;
}

static const Spec quick_a = { "a" }, quick_b = { "b" };
static const Spec failing_b = { "b", -1, 0, FALSE }, stuck_b = { "b", 0, -1, FALSE };
static const Spec slow_start_b = { "b", 60000, 0, TRUE }, slow_stop_b = { "b", 0, 60000, TRUE }, short_stop_b = { "b", 0, 300, TRUE };

static const struct
{
  const char *name;
  const Spec *b;
  BelayFunc   serve;       /* under belay_run(), or else */
  GCallback   on_activate; /* in a GApplication */
  gpointer    data;
} scenarios[] = {
  { "plain", &quick_b, serve_nothing, NULL, NULL },
  { "plain-start-fails", &failing_b, serve_nothing, NULL, NULL },
  { "plain-slow-start", &slow_start_b, serve_nothing, NULL, NULL },
  { "plain-serve", &quick_b, serve_long, NULL, NULL },
  { "plain-serve-fails", &quick_b, fail, NULL, NULL },
  { "plain-stop-fails", &stuck_b, serve_nothing, NULL, NULL },
  { "plain-slow-stop", &slow_stop_b, serve_nothing, NULL, NULL },
  { "plain-short-stop", &short_stop_b, serve_nothing, NULL, NULL },
  { "app", &quick_b, NULL, G_CALLBACK (on_activate), NULL },
  { "app-start-fails", &failing_b, NULL, G_CALLBACK (on_activate), NULL },
  { "app-slow-start", &slow_start_b, NULL, G_CALLBACK (on_activate), NULL },
  { "app-serve", &quick_b, NULL, G_CALLBACK (on_activate), serve_long },
  { "app-quit", &quick_b, NULL, G_CALLBACK (on_activate_and_quit), NULL },
  { "app-work-fails", &quick_b, NULL, G_CALLBACK (on_activate_twice), NULL },
  { "app-stop-fails", &stuck_b, NULL, G_CALLBACK (on_activate), NULL },
  { "app-slow-stop", &slow_stop_b, NULL, G_CALLBACK (on_activate), NULL },
  { "app-short-stop", &short_stop_b, NULL, G_CALLBACK (on_activate), NULL },
  { "app-undrained", &quick_b, NULL, G_CALLBACK (on_activate_and_leave_job), NULL },
};

static GApplication *
application_new (GApplicationFlags flags)
{
  return g_application_new ("org.example.Test", G_APPLICATION_NON_UNIQUE | flags);
}

static int
scenario (const char *name, int argc, char **argv)
{
  g_autoptr (BelayLifespan) life = NULL;
  g_autoptr (GApplication) app = NULL;

  alarm (60);
  if (g_str_equal (name, "app-command-line"))
    {
      app = application_new (G_APPLICATION_HANDLES_COMMAND_LINE);
      life = life_new (&quick_a, &quick_b);
      g_signal_connect (app, "command-line", G_CALLBACK (on_command_line), NULL);
      return belay_application_run (app, argc, argv, life);
    }
  if (g_str_equal (name, "app-unique"))
    {
      app = g_application_new ("org.example.Test", G_APPLICATION_HANDLES_COMMAND_LINE);
      g_signal_connect (app, "command-line", G_CALLBACK (on_long_command_line), NULL);
      return belay_application_run (app, argc, argv, NULL);
    }
  if (g_str_equal (name, "app-no-parts"))
    {
      app = application_new (G_APPLICATION_DEFAULT_FLAGS);
      g_signal_connect (app, "activate", G_CALLBACK (on_activate), serve_nothing);
      return belay_application_run (app, argc, argv, NULL);
    }
  if (g_str_has_prefix (name, "app-calls-"))
    {
      static const Spec a = { "a", 300 }, slow_stop_a = { "a", 0, 300, FALSE };
      gboolean starts = g_str_has_prefix (name, "app-calls-in-start");

      app = application_new (G_APPLICATION_DEFAULT_FLAGS);
      life = life_new (starts ? &a : &slow_stop_a, g_str_has_suffix (name, "-fails") ? &failing_b : &quick_b);
      g_signal_connect (app, starts ? "startup" : "shutdown", G_CALLBACK (activate_soon), GUINT_TO_POINTER (50));
      g_signal_connect (app, starts ? "startup" : "shutdown", G_CALLBACK (activate_soon), GUINT_TO_POINTER (100));
      g_signal_connect (app, "activate", G_CALLBACK (on_activate), serve_nothing);
      return belay_application_run (app, argc, argv, life);
    }
  if (g_str_equal (name, "app-spawn-too-early"))
    {
      g_log_set_always_fatal (G_LOG_FATAL_MASK);
      app = application_new (G_APPLICATION_DEFAULT_FLAGS);
      g_signal_connect (app, "startup", G_CALLBACK (on_activate_too_late), NULL);
      g_signal_connect (app, "activate", G_CALLBACK (on_activate), NULL);
      return belay_application_run (app, argc, argv, NULL);
    }
  for (guint i = 0; i < G_N_ELEMENTS (scenarios); i++)
    if (g_str_equal (name, scenarios[i].name))
      {
        life = life_new (&quick_a, scenarios[i].b);
        plain_serve = scenarios[i].serve;
        if (plain_serve != NULL)
          return belay_run (run_plain, life);
        app = application_new (G_APPLICATION_DEFAULT_FLAGS);
        g_signal_connect (app, "activate", scenarios[i].on_activate, scenarios[i].data);
        return belay_application_run (app, argc, argv, life);
      }
  return 99;
}

/* --- the other side --- */

static const char *program;

/*
 * Runs a scenario and compares its exit status and what it prints; @err, when not NULL, is a part of what it prints on stderr, where
 * it says nothing otherwise. The signals (ended by 0) are sent when it says that it is ready, each further one a little later.
 * Returns how long it took from the first of them.
 */
static double
check (const char *name, const char *argument, const int *send, int status, const char *out, const char *err)
{
  const char *argv[] = { program, "--scenario", name, argument, NULL };
  g_auto (GStrv) environment = g_environ_unsetenv (g_environ_unsetenv (g_get_environ (), "BELAY_DEBUG"), "G_DEBUG");
  g_autoptr (GSubprocessLauncher) launcher = g_subprocess_launcher_new (G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE);
  g_autoptr (GSubprocess) process = NULL;
  g_autoptr (GError) error = NULL;
  g_autoptr (GTimer) timer = g_timer_new ();
  g_autoptr (GString) said = g_string_new (NULL);
  g_autofree char *rest = NULL, *complaints = NULL;
  GInputStream *stream;
  double seconds;
  char c;

  if (g_str_has_suffix (name, "undrained")) /* which leaks by its nature */
    environment = g_environ_setenv (environment, "ASAN_OPTIONS", "detect_leaks=0", TRUE);
  g_subprocess_launcher_set_environ (launcher, environment);
  process = g_subprocess_launcher_spawnv (launcher, argv, &error);
  g_assert_no_error (error);
  stream = g_subprocess_get_stdout_pipe (process);
  if (send != NULL)
    {
      while (!g_str_has_suffix (said->str, "ready\n"))
        {
          g_assert_cmpint (g_input_stream_read (stream, &c, 1, NULL, &error), ==, 1);
          g_string_append_c (said, c);
        }
      g_timer_start (timer);
      for (; *send != 0; send++)
        {
          g_subprocess_send_signal (process, *send);
          g_usleep (send[1] != 0 ? 200000 : 0);
        }
    }
  g_assert_true (g_subprocess_communicate_utf8 (process, NULL, NULL, &rest, &complaints, &error));
  g_assert_no_error (error);
  seconds = g_timer_elapsed (timer, NULL);
  g_string_append (said, rest);
  g_test_message ("%s: %s%s", name, said->str, complaints);
  g_assert_true (g_subprocess_get_if_exited (process));
  g_assert_cmpint (g_subprocess_get_exit_status (process), ==, status);
  g_assert_cmpstr (g_strchomp (said->str), ==, out);
  if (err != NULL)
    g_assert_nonnull (strstr (complaints, err));
  else
    g_assert_cmpstr (complaints, ==, "");
  return seconds;
}

static const int sigint[] = { SIGINT, 0 }, sigterm[] = { SIGTERM, 0 };
static const int twice[] = { SIGINT, SIGTERM, 0 }, thrice[] = { SIGINT, SIGINT, SIGTERM, 0 };

static void
test_statuses (void)
{
  check ("plain", NULL, NULL, 0, "+a +b serve -b -a", NULL);
  check ("plain-start-fails", NULL, NULL, 1, "+a -a:error", "test-application: the part \"b\" (");
  check ("plain-serve-fails", NULL, NULL, 1, "+a +b -b:error -a:error", "test-application: it is dark");
  check ("plain-stop-fails", NULL, NULL, 1, "+a +b serve -b -a", "did not stop well: the switch is stuck");
}

static void
test_signal_while_starting (void)
{
  check ("plain-slow-start", NULL, sigint, 130, "+a ready\n-a:cancelled", NULL);
  check ("plain-slow-start", NULL, sigterm, 143, "+a ready\n-a:cancelled", NULL);
}

static void
test_signal_while_serving (void)
{
  check ("plain-serve", NULL, sigint, 130, "+a +b ready\ninterrupted -b:cancelled -a:cancelled", NULL);
  check ("plain-serve", NULL, sigterm, 143, "+a +b ready\ninterrupted -b:cancelled -a:cancelled", NULL);
}

static void
test_signal_while_stopping (void)
{
  check ("plain-short-stop", NULL, sigint, 130, "+a +b serve -b ready\n-a", NULL); /* is not cut short */
  g_assert_cmpfloat (check ("plain-slow-stop", NULL, twice, 130, "+a +b serve -b ready\n!b -a", NULL), <, 4);
  g_assert_cmpfloat (check ("plain-slow-stop", NULL, thrice, 143, "+a +b serve -b ready", NULL), <, 1.1);
}

static void
test_application (void)
{
  check ("app", NULL, NULL, 0, "+a +b activate -b -a", NULL);
  check ("app-quit", NULL, NULL, 0, "+a +b activate ready\ninterrupted -b -a", NULL); /* the work ends before the parts */
  check ("app-no-parts", NULL, NULL, 0, "activate serve", NULL);
  check ("app-command-line", NULL, NULL, 5, "+a +b command-line -b -a", NULL);
}

static void
test_application_fails (void)
{
  check ("app-start-fails", NULL, NULL, 1, "+a -a:error", "test-application: the part \"b\" ("); /* and is not activated */
  check ("app-work-fails", NULL, NULL, 1, "+a +b activate served -b -a", "test-application: it is dark\n");
  check ("app-stop-fails", NULL, NULL, 1, "+a +b activate -b -a", "did not stop well: the switch is stuck\n");
  check ("app-spawn-too-early", NULL, NULL, 0, "activate activate", "not between its startup and its shutdown");
}

/* Those that come while it starts wait; while it stops, or when it did not start, they come to nothing. */
static void
test_application_calls (void)
{
  check ("app-calls-in-start", NULL, NULL, 0, "again again +a +b activate activate activate serve serve serve -b -a", NULL);
  check ("app-calls-in-start-that-fails", NULL, NULL, 1, "again again +a -a:error", "test-application: the part \"b\" (");
  check ("app-calls-in-stop", NULL, NULL, 0, "+a +b activate serve -b -a again again", NULL);
}

/* What only prints its help starts nothing. */
static void
test_application_help (void)
{
  const char *argv[] = { program, "--scenario", "app", "--help", NULL };
  g_autoptr (GSubprocess) process = g_subprocess_newv (argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE, NULL);
  g_autofree char *out = NULL;

  g_assert_true (g_subprocess_communicate_utf8 (process, NULL, NULL, &out, NULL, NULL));
  g_assert_nonnull (strstr (out, "Usage:"));
  g_assert_null (strstr (out, "+a"));
  g_assert_cmpint (g_subprocess_get_exit_status (process), ==, 0);
}

static void
test_application_signals (void)
{
  check ("app-slow-start", NULL, sigint, 130, "+a ready\n-a:cancelled", NULL); /* and is not activated */
  check ("app-serve", NULL, sigint, 130, "+a +b activate ready\ninterrupted -b:cancelled -a:cancelled", NULL);
  check ("app-serve", NULL, sigterm, 143, "+a +b activate ready\ninterrupted -b:cancelled -a:cancelled", NULL);
  check ("app-short-stop", NULL, sigterm, 143, "+a +b activate -b ready\n-a", NULL);
  g_assert_cmpfloat (check ("app-slow-stop", NULL, twice, 130, "+a +b activate -b ready\n!b -a",
                                      "test-application: the part \"b\" ("), <, 4);
  g_assert_cmpfloat (check ("app-slow-stop", NULL, thrice, 143, "+a +b activate -b ready", NULL), <, 1.1);
}

static void
wait_until_ready (GSubprocess *process)
{
  GInputStream *stream = g_subprocess_get_stdout_pipe (process);
  char c = 0;

  while (c != '\n')
    g_assert_cmpint (g_input_stream_read (stream, &c, 1, NULL, NULL), ==, 1);
}

/* The second process passes its command line on to the first, and ends when it is told to, without the answer. */
static void
test_application_remote (void)
{
  g_autofree char *daemon = g_find_program_in_path ("dbus-daemon");
  g_autoptr (GTestDBus) bus = NULL;
  g_autoptr (GSubprocess) first = NULL, second = NULL;

  if (daemon == NULL)
    {
      g_test_skip ("there is no dbus-daemon");
      return;
    }
  bus = g_test_dbus_new (G_TEST_DBUS_NONE);
  g_test_dbus_up (bus);
  first = g_subprocess_new (G_SUBPROCESS_FLAGS_STDOUT_PIPE, NULL, program, "--scenario", "app-unique", NULL);
  wait_until_ready (first);
  second = g_subprocess_new (G_SUBPROCESS_FLAGS_STDOUT_PIPE, NULL, program, "--scenario", "app-unique", NULL);
  wait_until_ready (first); /* has got its command line */
  g_subprocess_send_signal (second, SIGINT);
  g_assert_true (g_subprocess_wait (second, NULL, NULL));
  g_assert_true (g_subprocess_get_if_signaled (second));
  g_assert_cmpint (g_subprocess_get_term_sig (second), ==, SIGINT);
  g_subprocess_send_signal (first, SIGTERM);
  g_assert_true (g_subprocess_wait (first, NULL, NULL));
  g_assert_cmpint (g_subprocess_get_exit_status (first), ==, 143);
  g_test_dbus_down (bus);
}

static void
test_application_undrained (void)
{
  check ("app-undrained", NULL, NULL, 70, "+a +b -b -a", "not drained");
}

int
main (int argc, char **argv)
{
  if (argc >= 3 && g_str_equal (argv[1], "--scenario"))
    {
      const char *name = argv[2];

      g_set_prgname ("test-application");
      argv[2] = argv[0];
      return scenario (name, argc - 2, argv + 2);
    }
  program = argv[0];
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/application/L49-statuses-of-a-lifespan", test_statuses);
  g_test_add_func ("/application/L49-signal-while-starting", test_signal_while_starting);
  g_test_add_func ("/application/L49-signal-while-serving", test_signal_while_serving);
  g_test_add_func ("/application/L49-signals-while-stopping", test_signal_while_stopping);
  g_test_add_func ("/application/L49-GApplication", test_application);
  g_test_add_func ("/application/L49-GApplication-that-fails", test_application_fails);
  g_test_add_func ("/application/L49-calls-of-a-GApplication-wait-for-its-parts", test_application_calls);
  g_test_add_func ("/application/GApplication-that-prints-its-help", test_application_help);
  g_test_add_func ("/application/L49-signals-to-a-GApplication", test_application_signals);
  g_test_add_func ("/application/L49-signal-to-a-GApplication-that-passes-its-command-line-on", test_application_remote);
  g_test_add_func ("/application/L50-drain-of-a-GApplication", test_application_undrained);
  return g_test_run ();
}
