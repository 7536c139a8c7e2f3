/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* BELAY_DEBUG=leaks and strict: what is told of what is held. Each scenario is a program of its own: this one, run again. */
#include "support.h"

#include <string.h>
#include <unistd.h>

/* --- the scenarios --- */

typedef struct
{
  BelayPlain base;
} Lamp;

static gboolean
lamp_close (gpointer data, BelayReason reason, GError **error)
{
  return TRUE;
}

static const BelayPlainClass lamp_class = BELAY_PLAIN_CLASS ("Lamp", lamp_close, g_free);
BELAY_DEFINE_AUTO (Lamp)

static BelayFuture *
lamp_open (void)
{
  return belay_resource_future (belay_plain_new (Lamp, &lamp_class));
}

#define THING_TYPE_SOCKET (socket_get_type ())
G_DECLARE_FINAL_TYPE (Socket, socket, THING, SOCKET, GObject)
struct _Socket
{
  GObject parent;
};
static void socket_resource_init (BelayResourceInterface *iface);
G_DEFINE_TYPE_WITH_CODE (Socket, socket, G_TYPE_OBJECT, G_IMPLEMENT_INTERFACE (BELAY_TYPE_RESOURCE, socket_resource_init))
static void
socket_resource_init (BelayResourceInterface *iface)
{
}
static void
socket_class_init (SocketClass *klass)
{
}
static void
socket_init (Socket *self)
{
}

static BelaySemaphore *semaphore;
static Lamp *kept; /* so that what leaks is still there when LSan looks */

static gboolean
keep_lamp (gpointer data, GError **error)
{
  belay_auto (Lamp) lamp = belay_await (lamp_open (), error);

  kept = belay_steal (&lamp);
  return TRUE;
}

static gboolean
keep_permit (gpointer data, GError **error)
{
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  belay_auto (BelayPermit) other = belay_semaphore_acquire (semaphore, error);

  return permit != NULL && other != NULL;
}

static gboolean
keep_tried (gpointer data, GError **error)
{
  BelayPermit *permit = belay_semaphore_try_acquire (semaphore);
  BelayPermits *permits = belay_semaphore_try_acquire_many (semaphore, 2);

  return permit != NULL && permits != NULL;
}

static gboolean
keep_nothing (gpointer data, GError **error)
{
  belay_auto (Lamp) lamp = belay_await (lamp_open (), error);
  belay_auto (Lamp) other = belay_await (lamp_open (), error);
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);
  belay_auto (BelayTimeout) limit = belay_timeout (1000);
  belay_auto (BelayScope) scope = belay_scope_begin ();
  Lamp *entered = belay_enter (scope, lamp_open (), error);

  g_assert_true (entered != NULL && permit != NULL && limit != NULL);
  g_assert_cmpuint (belay_leaks_report (), ==, 6);
  if (!belay_close (&lamp, error))
    return FALSE;
  g_assert_cmpuint (belay_leaks_report (), ==, 5);
  return belay_yield (error);
}

static gboolean
hold_and_yield (gpointer data, GError **error)
{
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);

  return permit != NULL && belay_yield (error);
}

/* The table is a multiset: a thousand permits of one semaphore, given back in another order than they were taken in. */
static gboolean
keep_one_of_many (gpointer data, GError **error)
{
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 1000; i++)
    belay_scope_spawn (scope, hold_and_yield, NULL, NULL);
  return permit != NULL && belay_scope_close (&scope, error);
}

static gboolean
take_back (gpointer data, GError **error)
{
  BelayPermit *permit = data;

  return belay_close (&permit, error); /* on a worker */
}

static gboolean
give_to_another_thread (gpointer data, GError **error)
{
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);

  return permit != NULL && belay_await_ok (belay_thread_run (take_back, permit), error);
}

static gboolean
finalize (gpointer data, GError **error)
{
  Socket *socket = belay_await (belay_resource_future (g_object_new (THING_TYPE_SOCKET, NULL)), error);

  g_object_unref (socket);
  return TRUE;
}

static gboolean
hold_long (gpointer data, GError **error)
{
  belay_auto (Lamp) lamp = belay_await (lamp_open (), error);

  return lamp != NULL && belay_sleep (400, error);
}

static gboolean
drop_scope (gpointer data, GError **error)
{
  belay_scope_unref (belay_scope_new ());
  return TRUE;
}

static gboolean
fail_unseen (gpointer data, GError **error)
{
  belay_future_unref (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_FAILED, "unseen"));
  return TRUE;
}

static void
on_activate (GApplication *app, gpointer data)
{
  belay_application_spawn (app, keep_lamp, NULL, NULL);
}

static int
run_application (void)
{
  g_autoptr (GApplication) app = g_application_new ("org.example.Test", G_APPLICATION_NON_UNIQUE);

  g_signal_connect (app, "activate", G_CALLBACK (on_activate), NULL);
  return belay_application_run (app, 0, NULL, NULL);
}

static const struct
{
  const char *name;
  BelayFunc   func;
} scenarios[] = {
  { "lamp", keep_lamp },    { "permit", keep_permit },           { "nothing", keep_nothing }, { "many", keep_one_of_many },
  { "finalize", finalize }, { "thread", give_to_another_thread }, { "long", hold_long },      { "scope", drop_scope },
  { "unseen", fail_unseen }, { "tried", keep_tried },
};

static int
scenario (const char *name)
{
  alarm (60);
  semaphore = belay_semaphore_new (2000);
  if (g_str_equal (name, "application"))
    return run_application ();
  for (guint i = 0; i < G_N_ELEMENTS (scenarios); i++)
    if (g_str_equal (name, scenarios[i].name))
      return belay_run (scenarios[i].func, NULL);
  return 99;
}

/* --- the other side --- */

static const char *program;

/* Runs a scenario; (transfer full): what it wrote to stderr. */
static char *
run (const char *name, const char *debug, gboolean *ret_ok)
{
  const char *argv[] = { program, "--scenario", name, NULL };
  g_auto (GStrv) environment = g_environ_unsetenv (g_get_environ (), "G_DEBUG");
  g_autoptr (GError) error = NULL;
  char *err = NULL;
  int status;

  environment = g_environ_setenv (environment, "BELAY_DEBUG", debug, TRUE);
  environment = g_environ_setenv (environment, "ASAN_OPTIONS", "detect_leaks=0", TRUE);
  g_assert_true (g_spawn_sync (NULL, (char **) argv, environment, 0, NULL, NULL, NULL, &err, &status, &error));
  g_assert_no_error (error);
  *ret_ok = g_spawn_check_wait_status (status, NULL);
  g_test_message ("%s with %s: %s", name, debug, err);
  return err;
}

static guint
count (const char *text, const char *what)
{
  guint n = 0;

  while ((text = strstr (text, what)) != NULL)
    {
      n++;
      text++;
    }
  return n;
}

static void
test_told_at_the_end (void)
{
  g_autofree char *lamp = NULL, *permit = NULL, *tried = NULL, *many = NULL, *application = NULL, *off = NULL;
  gboolean ok;

  lamp = run ("lamp", "leaks", &ok);
  g_assert_true (ok);
  g_assert_cmpuint (count (lamp, "belay: held: "), ==, 1);
  g_assert_nonnull (strstr (lamp, "belay: held: a Lamp from "));
  g_assert_nonnull (strstr (lamp, "test-leaks.c:"));
  g_assert_nonnull (strstr (lamp, "by the fiber from belay_run"));
  permit = run ("permit", "leaks", &ok);
  g_assert_cmpuint (count (permit, "belay: held: a BelayPermit from "), ==, 1);
  tried = run ("tried", "leaks", &ok);
  g_assert_cmpuint (count (tried, "belay: held: a BelayPermit"), ==, 2);
  g_assert_cmpuint (count (tried, "test-leaks.c:"), ==, 2);
  many = run ("many", "leaks", &ok);
  g_assert_cmpuint (count (many, "belay: held: "), ==, 1);
  application = run ("application", "leaks", &ok);
  g_assert_cmpuint (count (application, "belay: held: a Lamp from "), ==, 1);
  off = run ("lamp", "", &ok);
  g_assert_cmpstr (off, ==, "");
}

static void
test_what_is_given_back (void)
{
  g_autofree char *nothing = NULL, *thread = NULL;
  gboolean ok;

  nothing = run ("nothing", "leaks", &ok);
  g_assert_true (ok);
  g_assert_cmpuint (count (nothing, "belay: held: "), ==, 6 + 5); /* while it ran, and none at its end */
  thread = run ("thread", "leaks", &ok);
  g_assert_true (ok);
  g_assert_cmpstr (thread, ==, "");
}

static void
test_finalized (void)
{
  g_autofree char *err = NULL;
  gboolean ok;

  err = run ("finalize", "leaks", &ok);
  g_assert_true (ok);
  g_assert_cmpuint (count (err, "belay: finalized without being closed: a Socket from "), ==, 1);
  g_assert_cmpuint (count (err, "belay: held: "), ==, 0);
}

static void
test_held_too_long (void)
{
  g_autofree char *err = NULL, *patient = NULL;
  gboolean ok;

  err = run ("long", "leaks=0.05", &ok);
  g_assert_true (ok);
  g_assert_cmpuint (count (err, "belay: held too long: a Lamp from "), ==, 1); /* once */
  patient = run ("long", "leaks=100", &ok);
  g_assert_cmpstr (patient, ==, "");
}

static void
test_strict (void)
{
  const char *names[] = { "lamp", "permit", "application", "finalize", "scope", "unseen" };
  gboolean ok;

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    {
      g_autofree char *lenient = run (names[i], "leaks", &ok), *strict = NULL;

      g_assert_true (ok);
      g_assert_cmpstr (lenient, !=, "");
      strict = run (names[i], "leaks,strict", &ok);
      g_assert_false (ok);
      g_assert_nonnull (strstr (strict, "belay: strict: "));
    }
  g_free (run ("nothing", "leaks,strict", &ok));
  g_assert_true (ok);
}

int
main (int argc, char **argv)
{
  if (argc == 3 && g_str_equal (argv[1], "--scenario"))
    return scenario (argv[2]);
  program = argv[0];
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/leaks/L17-what-is-held-is-told-at-the-end", test_told_at_the_end);
  g_test_add_func ("/leaks/L17-what-is-given-back-is-not", test_what_is_given_back);
  g_test_add_func ("/leaks/L17-an-object-finalized-without-being-closed", test_finalized);
  g_test_add_func ("/leaks/L17-what-is-held-too-long-is-told-once", test_held_too_long);
  g_test_add_func ("/leaks/L17-strict-is-fatal", test_strict);
  return g_test_run ();
}
