/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* No error is lost: lists of errors, and what is attached to the one on top. */
#include "thing.h"

/* --- lists --- */

static gboolean
fail_busy (gpointer message, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, message);
  return FALSE;
}

/* NULL is the list of none; past the end there is nothing. */
static void
test_empty (void)
{
  g_assert_cmpuint (belay_errors_get_size (NULL), ==, 0);
  g_assert_null (belay_errors_get (NULL, 0));
  g_assert_null (belay_errors_get_site (NULL, 0));
  g_assert_null (belay_attached_errors ());
}

/* What was given out does not change when more comes. */
static gboolean
test_immutable (gpointer data, GError **error)
{
  g_autoptr (BelayErrors) before = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);

  g_assert_true (belay_scope_adopt (scope, thing_new_failing ("a", "a is stuck"), error));
  g_assert_true (belay_scope_spawn (scope, fail_busy, "first", NULL));
  g_assert_false (belay_sleep (1, NULL));
  before = belay_errors_ref (belay_scope_get_errors (scope));
  assert_errors (before, "first");
  g_assert_false (belay_scope_close (&scope, NULL));
  assert_errors (before, "first");
  assert_errors (belay_scope_get_errors (kept), "first; a is stuck");
  thing_clear_log ();
  return TRUE;
}

/* --- fibers --- */

static gboolean
fail_holding_two (gpointer message, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");
  belay_auto (Thing) b = thing_new_failing ("b", "b is stuck");

  return a != NULL && b != NULL && fail_busy (message, error);
}

/* The body's error on top, with its own domain and code; the releases' in the order in which they failed. */
static gboolean
test_body_first (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_autoptr (BelayFuture) future = belay_spawn (fail_holding_two, "busy");

  g_assert_false (belay_await_ok (belay_future_ref (future), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (failure->message, ==, "busy (and 2 more)");
  assert_errors (belay_future_get_attached (future), "*: b is stuck; *: a is stuck");
  assert_attached ("*: b is stuck; *: a is stuck");
  for (guint i = 0; i < 2; i++)
    g_assert_nonnull (strstr (belay_errors_get_site (belay_attached_errors (), i), "test-errors.c:"));
  thing_clear_log ();
  return TRUE;
}

/* Up through fibers that return the same error, also with a prefix, and past clean-up that fails in its turn. */
static gboolean
pass_on (gpointer message, GError **error)
{
  g_autoptr (GError) other = NULL;

  if (belay_await_ok (belay_spawn (fail_holding_two, message), error))
    return TRUE;
  g_assert_false (belay_await_ok (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_EXISTS, "in the clean-up"), &other));
  g_assert_null (belay_attached_errors ()); /* the last failure's */
  g_prefix_error (error, "passed on: ");
  return FALSE;
}

static gboolean
pass_on_again (gpointer message, GError **error)
{
  belay_auto (Thing) c = thing_new_failing ("c", "c is stuck");

  return c != NULL && belay_await_ok (belay_spawn (pass_on, message), error);
}

static gboolean
test_passed_on (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (pass_on_again, "busy");

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (failure->message, ==, "passed on: busy (and 3 more)");
  assert_attached ("*: b is stuck; *: a is stuck; *: c is stuck");
  thing_clear_log ();
  return TRUE;
}

/* One that deals with an error, and fails with another of its own, hands nothing on. */
static gboolean
replace (gpointer message, GError **error)
{
  return belay_await_ok (belay_spawn (fail_holding_two, message), NULL) || fail_func ("my own", error);
}

static gboolean
test_dealt_with (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (replace, "busy");

  g_assert_cmpstr (failure->message, ==, "my own");
  g_assert_null (belay_attached_errors ());
  thing_clear_log ();
  return TRUE;
}

/* A release that fails inside of another fiber's, with what is attached to it: the body's own are there again after it. */
static gboolean
close_with_two (gpointer thing, GError **error)
{
  if (belay_await_ok (belay_spawn (fail_holding_two, "in the close"), error))
    return TRUE;
  assert_attached ("*: b is stuck; *: a is stuck");
  return FALSE;
}

static gboolean
fail_around_a_release (gpointer data, GError **error)
{
  belay_auto (Thing) thing = thing_new ("t");

  thing->on_close = close_with_two;
  return belay_await_ok (belay_spawn (fail_holding_two, "in the body"), error);
}

static gboolean
test_levels (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (fail_around_a_release, NULL);

  g_assert_cmpstr (failure->message, ==, "in the body (and 5 more)");
  assert_attached ("*: b is stuck; *: a is stuck; *: in the close; "
                   "*: b is stuck; *: a is stuck");
  thing_clear_log ();
  return TRUE;
}

/* Nobody looks: the sink gets each, once. */
static gboolean
test_unseen (gpointer data, GError **error)
{
  BelayFuture *future = belay_spawn (pass_on_again, "busy");

  g_assert_true (belay_sleep (1, error));
  belay_future_unref (future);
  assert_sunk ("passed on: busy (and 3 more); *: b is stuck; *: a is stuck; *: c is stuck");
  thing_clear_log ();
  return TRUE;
}

/* A loop that deals with failures for ever holds little of them. */
static gboolean
test_many_failures (gpointer data, GError **error)
{
  for (guint i = 0; i < 100; i++)
    {
      g_autoptr (GError) failure = thing_outcome (fail_holding_two, "busy");

      g_assert_cmpstr (failure->message, ==, "busy (and 2 more)");
      assert_attached ("*: b is stuck; *: a is stuck");
    }
  thing_clear_log ();
  return TRUE;
}

/* --- cancelled, out of time --- */

static gboolean
cancelled_then_fails (gpointer message, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  g_assert_true (a != NULL);
  belay_scope_cancel (belay_scope_current (), "enough");
  g_assert_false (belay_sleep (1, NULL));
  return message == NULL || fail_busy (message, error);
}

/* The cancellation stays on top, whatever the body says; its error, and the release's, are attached. */
static gboolean
test_cancelled_first (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (cancelled_then_fails, "busy"), success = NULL;

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (failure->message, ==, "enough (and 2 more)");
  assert_attached ("busy; *: a is stuck");
  success = thing_outcome (cancelled_then_fails, NULL);
  g_assert_error (success, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_attached ("*: a is stuck");
  thing_clear_log ();
  return TRUE;
}

static gboolean
late_then_fails (gpointer way, GError **error)
{
  belay_auto (BelayTimeout) limit = way == NULL ? belay_timeout (5) : NULL;

  if (way != NULL)
    belay_scope_set_timeout (belay_scope_current (), 5);
  g_assert_true ((limit != NULL) == (way == NULL));
  g_assert_false (belay_sleep (10, NULL));
  return fail_busy ("in the clean-up", error);
}

static gboolean
late_and_tries_again (gpointer data, GError **error)
{
  {
    belay_auto (BelayTimeout) limit = belay_timeout (5);

    g_assert_true (limit != NULL && !belay_sleep (10, NULL));
  }
  belay_auto (BelayTimeout) again = belay_timeout (5);
  g_assert_true (again != NULL && belay_sleep (1, error));
  return fail_busy ("another matter", error);
}

/* Out of time, the body's own other error is on top, with the time-out attached; one that was got over is not. */
static gboolean
test_deadline (gpointer data, GError **error)
{
  for (guint i = 0; i < 2; i++)
    {
      g_autoptr (GError) failure = thing_outcome (late_then_fails, i == 0 ? NULL : "scope");

      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_BUSY);
      g_assert_cmpstr (failure->message, ==, "in the clean-up (and 1 more)");
      g_assert_error (belay_errors_get (belay_attached_errors (), 0), G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    }
  g_autoptr (GError) other = thing_outcome (late_and_tries_again, NULL);
  g_assert_cmpstr (other->message, ==, "another matter");
  g_assert_null (belay_attached_errors ());
  return TRUE;
}

/* --- commit, BELAY_WITH, belay_check --- */

static gboolean
test_commit (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  Thing *thing = thing_new_failing ("a", "a is stuck");

  thing->commit_error = "disk full";
  g_assert_false (belay_commit (&thing, &failure));
  g_assert_cmpstr (failure->message, ==, "disk full (and 1 more)");
  assert_attached ("*: a is stuck");
  thing_clear_log ();
  return belay_check (error);
}

static gboolean
test_check (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  {
    belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");
    belay_auto (Thing) b = thing_new_failing ("b", "b is stuck");

    g_assert_true (a != NULL && b != NULL);
  }
  g_assert_false (belay_check (&failure));
  g_assert_cmpstr (failure->message, ==, "closing a BelayTestResource: b is stuck (and 1 more)");
  assert_attached ("*: a is stuck");
  thing_clear_log ();
  return TRUE;
}

/* A fiber that returned TRUE with a release's failure pending fails with it, and its value is destroyed (rule 2). */
static gpointer
value_but_stuck (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  return a != NULL ? thing_new ("value") : NULL;
}

static gboolean
test_value_but_stuck (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_await (belay_open (value_but_stuck, NULL), &failure));
  g_assert_cmpstr (failure->message, ==, "closing a BelayTestResource: a is stuck");
  g_assert_true (belay_sleep (1, error));
  assert_log ("+a +value -a -value");
  return TRUE;
}

/* --- scopes and groups --- */

static gboolean
sleep_holding (gpointer message, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("t", message);

  return a != NULL && belay_sleep (1000, error);
}

static gboolean
fail_in (gpointer milliseconds, GError **error)
{
  g_autofree char *message = g_strdup_printf ("after %d", GPOINTER_TO_INT (milliseconds));

  return belay_sleep (GPOINTER_TO_INT (milliseconds), error) && fail_busy (message, error);
}

/* One shape for one error and for many: the first on top, all in the list, the body's too, each with its site. */
static gboolean
test_group (gpointer data, GError **error)
{
  for (guint n = 0; n < 3; n++)
    {
      g_autoptr (GError) failure = NULL;
      belay_auto (BelayScope) scope = belay_scope_begin ();
      g_autoptr (BelayScope) kept = belay_scope_ref (scope);

      for (guint i = 0; i < n; i++)
        g_assert_true (belay_scope_spawn (scope, sleep_holding, "stuck", NULL));
      g_assert_true (belay_scope_spawn (scope, fail_in, GINT_TO_POINTER (10), NULL));
      g_assert_false (belay_scope_close (&scope, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_BUSY);
      g_assert_cmpuint (belay_errors_get_size (belay_scope_get_errors (kept)), ==, n + 1);
      g_assert_cmpuint (belay_errors_get_size (belay_attached_errors ()), ==, n);
      g_assert_cmpstr (belay_errors_get (belay_scope_get_errors (kept), 0)->message, ==, "after 10");
      for (guint i = 0; i <= n; i++)
        g_assert_nonnull (strstr (belay_errors_get_site (belay_scope_get_errors (kept), i), "test-errors.c:"));
      thing_clear_log ();
    }
  return TRUE;
}

/* A scope in a scope: its errors become the outer one's, flat. */
static gboolean
test_scope_in_scope (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *inner = belay_scope_new ();
  belay_auto (BelayScope) outer = belay_scope_begin ();
  g_autoptr (BelayScope) kept = belay_scope_ref (outer);

  g_assert_true (belay_scope_adopt (inner, thing_new_failing ("a", "a is stuck"), error));
  g_assert_true (belay_scope_adopt (inner, thing_new_failing ("b", "b is stuck"), error));
  g_assert_true (belay_scope_adopt (outer, thing_new_failing ("c", "c is stuck"), error));
  g_assert_true (belay_scope_adopt (outer, inner, error));
  g_assert_false (belay_scope_close (&outer, &failure));
  g_assert_true (g_str_has_suffix (failure->message, "b is stuck (and 2 more)"));
  assert_errors (belay_scope_get_errors (kept), "*b is stuck; *a is stuck; *c is stuck");
  thing_clear_log ();
  return TRUE;
}

/* --- combinations --- */

static gboolean
test_any (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_await_ok (belay_future_any (belay_spawn (fail_in, GINT_TO_POINTER (30)),
                                                    belay_spawn (fail_in, GINT_TO_POINTER (10)),
                                                    belay_spawn (fail_in, GINT_TO_POINTER (20)), NULL), &failure));
  g_assert_cmpstr (failure->message, ==, "after 10 (and 2 more)");
  assert_attached ("after 20; after 30");
  return TRUE;
}

/* The losers' errors go with the result when that is one, else to the sink. */
static gboolean
test_losers (gpointer data, GError **error)
{
  g_autoptr (GError) all = NULL, race = NULL;

  g_assert_false (belay_await_ok (belay_future_all (belay_spawn (sleep_holding, "stuck"),
                                                    belay_spawn (fail_in, GINT_TO_POINTER (10)), NULL), &all));
  g_assert_cmpstr (all->message, ==, "after 10 (and 1 more)");
  assert_attached ("closing a BelayTestResource: stuck");
  g_assert_false (belay_await_ok (belay_future_race (belay_spawn (sleep_holding, "stuck"),
                                                     belay_spawn (fail_in, GINT_TO_POINTER (10)), NULL), &race));
  g_assert_cmpstr (race->message, ==, "after 10 (and 1 more)");
  assert_attached ("closing a BelayTestResource: stuck");
  g_assert_true (belay_await_ok (belay_future_race (belay_spawn (sleep_holding, "stuck"), belay_future_delay (10),
                                                    NULL), error));
  assert_sunk ("closing a BelayTestResource: stuck");
  thing_clear_log ();
  return TRUE;
}

static gboolean
clean_up_fails (gpointer data, GError **error)
{
  return belay_sleep (1000, NULL) || fail_busy ("in the clean-up", error);
}

static gboolean
test_with_timeout (gpointer data, GError **error)
{
  g_autoptr (GError) stuck = NULL, cancelled = NULL;

  g_assert_false (belay_await_ok (belay_future_with_timeout (belay_spawn (sleep_holding, "stuck"), 10), &stuck));
  g_assert_error (stuck, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_attached ("closing a BelayTestResource: stuck");
  g_assert_false (belay_await_ok (belay_future_with_timeout (belay_spawn (clean_up_fails, NULL), 10), &cancelled));
  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_attached ("in the clean-up");
  thing_clear_log ();
  return TRUE;
}

static BelayFuture *
fail_again (BelayFuture *done, gpointer data)
{
  return belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_EXISTS, "in the clean-up");
}

static gboolean
test_finally (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_await_ok (belay_future_finally (belay_spawn (fail_holding_two, "busy"), fail_again, NULL, NULL),
                                  &failure));
  g_assert_cmpstr (failure->message, ==, "busy (and 3 more)");
  assert_attached ("*: b is stuck; *: a is stuck; in the clean-up");
  thing_clear_log ();
  return TRUE;
}

/* A combination that is dropped: each error is the sink's, once. */
static gboolean
test_dropped (gpointer data, GError **error)
{
  BelayFuture *future = belay_future_any (belay_spawn (fail_in, GINT_TO_POINTER (1)),
                                          belay_spawn (fail_in, GINT_TO_POINTER (2)), NULL);

  g_assert_true (belay_sleep (10, error));
  belay_future_unref (future);
  assert_sunk ("after 1 (and 1 more); after 2");
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_plain_test ("/errors/none", test_empty);
  thing_add_test ("/errors/what-was-given-out-does-not-change", test_immutable);
  thing_add_test ("/errors/L9-body-first-releases-in-order-with-sites", test_body_first);
  thing_add_test ("/errors/L9-rule-12-passed-on-through-fibers", test_passed_on);
  thing_add_test ("/errors/L9-dealt-with", test_dealt_with);
  thing_add_test ("/errors/L9-a-release-has-its-own", test_levels);
  thing_add_test ("/errors/L17-unseen-to-the-sink-once", test_unseen);
  thing_add_test ("/errors/L16-many-failures", test_many_failures);
  thing_add_test ("/errors/L10-cancellation-first", test_cancelled_first);
  thing_add_test ("/errors/L25-body-error-with-the-time-out", test_deadline);
  thing_add_test ("/errors/L9-commit-and-close-fail", test_commit);
  thing_add_test ("/errors/L9-rule-2-check", test_check);
  thing_add_test ("/errors/L9-rule-2-success-with-a-release-that-failed", test_value_but_stuck);
  thing_add_test ("/errors/L27-one-shape-for-all-counts", test_group);
  thing_add_test ("/errors/L9-scope-in-scope", test_scope_in_scope);
  thing_add_test ("/errors/L30-any-gives-all", test_any);
  thing_add_test ("/errors/L30-losers", test_losers);
  thing_add_test ("/errors/L25-with-timeout", test_with_timeout);
  thing_add_test ("/errors/L9-finally", test_finally);
  thing_add_test ("/errors/L17-dropped-combination", test_dropped);
  return g_test_run ();
}
