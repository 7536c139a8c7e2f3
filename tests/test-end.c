/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The end of a program, from inside: the drain, what is pending, bounds that are drawn nearer, homes that nobody runs. */
#include "thing.h"

#include <signal.h>
#include <string.h>

/* --- the second signal: in virtual time --- */

/* Both at once: the program is cancelled, and in a hurry. */
static gboolean
raise_after (gpointer milliseconds, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();
  gboolean ok = belay_sleep (GPOINTER_TO_INT (milliseconds), error);

  g_assert_nonnull (shield);
  raise (SIGINT);
  raise (SIGTERM);
  return ok;
}

/* What it began ends with the program, which the signals have cancelled. */
static void
run_hurried (BelayFunc func)
{
  g_assert_cmpint (belay_run (func, NULL), ==, 130);
  g_assert_cmpint (belay_run_get_signal (), ==, SIGINT);
  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
  thing_clear_log ();
  g_free (thing_take_sunk ());
}

#define HURRIED(name) static void name##_hurried (void) { run_hurried (name); }

/* A release that hangs, and one that would go on for ever, end a second after the hurry, and those behind them run. */
static gboolean
test_hurry_under_way (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  BelayFuture *hurry = belay_spawn (raise_after, GINT_TO_POINTER (500));

  {
    belay_auto (BelayScope) scope = belay_scope_begin ();

    belay_scope_set_release_timeout (scope, -1);
    belay_scope_adopt (scope, thing_new ("a"), NULL);
    belay_scope_adopt (scope, thing_new_hanging ("b"), NULL);
    g_assert_false (belay_scope_close (&scope, NULL));
  }
  g_assert_cmpint (now_ms () - begin, ==, 1500);
  assert_log ("+a +b -b !b -a");
  belay_future_unref (hurry);
  return TRUE;
}
HURRIED (test_hurry_under_way)

static gboolean
test_hurry_to_come (gpointer data, GError **error)
{
  gint64 begin = now_ms ();

  raise (SIGINT);
  raise (SIGINT);
  g_assert_false (belay_sleep (100, NULL));
  {
    belay_auto (Thing) a = thing_new ("a");
    belay_auto (Thing) b = thing_new_slow ("b", 300);
    belay_auto (Thing) c = thing_new_hanging ("c");

    g_assert_true (a != NULL && b != NULL && c != NULL);
  }
  /* c takes the second that there is; b finds none left, and is forced at its first checkpoint; a needs none */
  g_assert_cmpint (now_ms () - begin, ==, 1000);
  assert_log ("+a +b +c -c !c -b !b -a");
  g_assert_false (belay_check (NULL));
  return TRUE;
}
HURRIED (test_hurry_to_come)

/* What the release waits for is deaf: a scope that it closes, whose child is in no hurry. */
static gboolean
sleep_in_shield (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  g_assert_nonnull (shield);
  return belay_sleep (3000, error);
}

static gboolean
close_stored (gpointer data, GError **error)
{
  BelayScope *scope = data;

  return belay_scope_close (&scope, error);
}

static gboolean
test_hurry_of_a_join (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  BelayScope *stored = belay_scope_new ();
  BelayFuture *hurry = belay_spawn (raise_after, GINT_TO_POINTER (500));

  belay_scope_spawn (stored, sleep_in_shield, NULL, NULL);
  {
    belay_auto (BelayScope) scope = belay_scope_begin ();

    belay_scope_set_release_timeout (scope, -1);
    belay_scope_defer (scope, close_stored, stored);
    g_assert_false (belay_scope_close (&scope, NULL));
  }
  g_assert_cmpint (now_ms () - begin, ==, 1500);
  belay_future_unref (hurry);
  return TRUE;
}
HURRIED (test_hurry_of_a_join)

static gboolean
test_commit_is_not_hurried (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  BelayFuture *hurry = belay_spawn (raise_after, GINT_TO_POINTER (10));
  Thing *a = thing_new ("a");

  a->commit_ms = 5000;
  g_assert_true (belay_commit (&a, error)); /* of one that were cut off nobody knew whether it happened */
  g_assert_cmpint (now_ms () - begin, ==, 5000);
  belay_future_unref (hurry);
  return TRUE;
}
HURRIED (test_commit_is_not_hurried)

/* --- the site of a release that was forced --- */

static gboolean
test_site_of_forced (gpointer data, GError **error)
{
  Thing *manner = thing_new_hanging ("a");
  belay_auto (Thing) a = belay_await (belay_resource_future (manner), error);
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  g_assert_false (belay_close (&a, &failure));
  g_assert_cmpint (now_ms () - begin, ==, 5000); /* by its bound, and no more */
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_true (g_pattern_match_simple ("*test-end.c:*: *took longer than its release deadline*", failure->message));
  thing_clear_log ();
  return TRUE;
}

/* --- the drain --- */

static gboolean
test_when_drained (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  Thing *a = thing_new_slow ("a", 70);

  belay_future_unref (belay_close_start (&a));
  g_assert_cmpuint (belay_get_n_pending (), ==, 2); /* this fiber is one */
  if (!belay_await_ok (belay_when_drained (), error))
    return FALSE;
  g_assert_cmpint (now_ms () - begin, ==, 70);
  g_assert_cmpuint (belay_get_n_pending (), ==, 1);
  assert_log ("+a -a a.");
  return belay_await_ok (belay_when_drained (), error); /* at once */
}

static gboolean
wait_for_drain (gpointer data, GError **error)
{
  return belay_await_ok (belay_when_drained (), error);
}

/* Several wait for it, as fibers that nobody owns and as a child of one: none waits for another. */
static gboolean
in_a_child (gpointer data, GError **error)
{
  return belay_await_ok (belay_spawn (wait_for_drain, NULL), error);
}

static void
test_when_drained_by_several (void)
{
  Thing *a = thing_new_slow ("a", 70);
  BelayFuture *one = belay_spawn (wait_for_drain, NULL), *two = belay_spawn (in_a_child, NULL);

  belay_release (&a);
  g_assert_cmpuint (belay_drain (-1), ==, 0);
  g_assert_true (belay_future_is_resolved (one) && belay_future_is_resolved (two));
  belay_future_unref (one);
  belay_future_unref (two);
  assert_log ("+a -a a.");
}

static gboolean
when_drained_is_dropped (gpointer data, GError **error)
{
  belay_future_unref (belay_when_drained ());
  return TRUE;
}

static GString *printed;

static void
on_printerr (const char *text)
{
  g_string_append (printed, text);
}

/* A GApplication's shutdown, say. What is left is told by name and site, and cut off. */
static void
test_drain_tells (void)
{
  GPrintFunc old;
  gint64 begin = g_get_monotonic_time ();
  Thing *a = thing_new ("a"), *b = thing_new_hanging ("b");

  g_assert_cmpuint (belay_drain (0), ==, 0);
  belay_future_unref (belay_spawn (wait_func, NULL));
  belay_release (&a);
  belay_release (&b);
  belay_external_begin (); /* the clock of fibers stands still */
  printed = g_string_new (NULL);
  old = g_set_printerr_handler (on_printerr);
  g_assert_cmpuint (belay_drain (100), ==, 2);
  g_set_printerr_handler (old);
  belay_external_end ();
  test_assert_soon (begin);
  g_assert_nonnull (strstr (printed->str, "belay: not drained: closing a "));
  g_assert_nonnull (strstr (printed->str, "belay: not drained: a fiber from "));
  g_assert_nonnull (strstr (printed->str, "test-end.c:"));
  g_string_free (printed, TRUE);
  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
  assert_log ("+a +b -a -b !b");
  g_free (thing_take_sunk ());
}

static gboolean
test_drain_in_a_fiber (gpointer data, GError **error)
{
  expect_critical ("belay_drain: called in a fiber*");
  g_assert_cmpuint (belay_drain (1000), ==, 1);
  g_test_assert_expected_messages ();
  return TRUE;
}

/* --- homes --- */

/* Nobody iterates this context, though it is there: the reaper ends what was to be closed on it, in real time. */
static gpointer
release_and_leave (gpointer data)
{
  GMainContext *context = data;
  Thing *a = thing_new ("a");

  g_main_context_push_thread_default (context);
  belay_release (&a);
  g_main_context_pop_thread_default (context);
  return NULL;
}

static void
test_reaper (void)
{
  GMainContext *context = g_main_context_new ();
  gint64 begin = g_get_monotonic_time ();

  g_thread_join (g_thread_new ("leaves", release_and_leave, context));
  g_assert_cmpint (thing_count.abandoned, ==, 0);
  while (thing_count.freed == 0)
    {
      g_usleep (10000);
      test_assert_soon (begin);
    }
  g_assert_cmpint (g_get_monotonic_time () - begin, >=, 4 * G_USEC_PER_SEC); /* not before its bound */
  assert_log ("+a !a");
  assert_sunk ("*nobody iterates its main context*");
  g_main_context_unref (context);
  thing_drain ();
  assert_sunk ("*context*gone*"); /* the fiber that would have closed it */
}

/* A destroy function of one context that has ended joins a thread that waits for one of another. */
static gpointer
makes_nothing (gpointer data, GError **error)
{
  g_assert_not_reached ();
}

static gboolean
never_runs (gpointer data, GError **error)
{
  g_assert_not_reached ();
}

static gpointer
wait_for_second (gpointer data)
{
  GMainContext *second = data;
  g_autoptr (BelayFuture) future = NULL;
  BelayScope *scope;

  g_main_context_push_thread_default (second);
  scope = belay_scope_new ();
  g_main_context_pop_thread_default (second);
  g_main_context_unref (second);
  future = belay_scope_spawn_value (scope, makes_nothing, NULL, NULL, NULL);
  g_assert_false (belay_future_wait_sync (future, NULL)); /* an orphan: it fails at once, if it has its turn */
  belay_release (&scope);
  return NULL;
}

static void
join_other (gpointer data)
{
  g_thread_join (g_thread_new ("second", wait_for_second, data));
  thing_note ("joined");
}

static void
test_orphans_of_two_contexts (void)
{
  GMainContext *first = g_main_context_new ();
  BelayScope *scope;

  g_main_context_push_thread_default (first);
  scope = belay_scope_new ();
  g_main_context_pop_thread_default (first);
  belay_scope_spawn (scope, never_runs, g_main_context_new (), join_other);
  g_main_context_unref (first); /* the fiber is an orphan now, and its data is freed */
  assert_log ("joined");
  belay_release (&scope);
  thing_drain ();
  g_free (thing_take_sunk ());
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_plain_test ("/end/L49-releases-under-way-are-hurried", test_hurry_under_way_hurried);
  thing_add_plain_test ("/end/L49-releases-to-come-are-hurried", test_hurry_to_come_hurried);
  thing_add_plain_test ("/end/L49-a-release-that-joins-is-hurried", test_hurry_of_a_join_hurried);
  thing_add_plain_test ("/end/L45-a-commit-is-not-hurried", test_commit_is_not_hurried_hurried);
  thing_add_test ("/end/L7-a-forced-release-tells-where-it-was-acquired", test_site_of_forced);
  thing_add_test ("/end/L15-when-drained", test_when_drained);
  thing_add_plain_test ("/end/L15-when-drained-by-several", test_when_drained_by_several);
  thing_add_test ("/end/L15-when-drained-is-dropped", when_drained_is_dropped);
  thing_add_single_plain_test ("/end/L50-what-is-not-drained-is-told", test_drain_tells);
  thing_add_test ("/end/L50-drain-in-a-fiber", test_drain_in_a_fiber);
  thing_add_single_plain_test ("/end/L15-rule-11-a-home-that-nobody-iterates", test_reaper);
  thing_add_plain_test ("/end/L15-orphans-of-two-contexts", test_orphans_of_two_contexts);
  return g_test_run ();
}
