/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lifespans: parts started in order, stopped in reverse, whatever fails, hangs or is cancelled in between. */
#include "thing.h"

#include <signal.h>
#include <string.h>

/* What is to be opened. */
typedef struct
{
  const char *name;
  gint64      open_ms;
  const char *open_error;
  gint64      close_ms;
  const char *close_error;
  gboolean    close_hangs;
} Spec;

static gpointer
make (gpointer data, GError **error)
{
  const Spec *spec = data;
  Thing *thing;

  thing_note ("(%s", spec->name);
  if (spec->open_ms > 0 && !belay_sleep (spec->open_ms, error))
    return NULL;
  if (spec->open_error != NULL)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, spec->open_error);
      return NULL;
    }
  thing = thing_new (spec->name);
  thing->close_ms = spec->close_ms;
  thing->close_error = spec->close_error;
  thing->close_hangs = spec->close_hangs;
  return thing;
}

static BelayFuture *
open_spec (BelayLifespan *life, gpointer spec)
{
  return belay_open (make, spec);
}

static gboolean
serve (gpointer data, GError **error)
{
  thing_note ("serve");
  return belay_sleep (GPOINTER_TO_INT (data), error);
}

/* c needs b needs a. */
static BelayLifespan *
chain_new (Spec specs[3])
{
  BelayLifespan *life = belay_lifespan_new ();

  belay_lifespan_add (life, "c", open_spec, &specs[2], "b", NULL);
  belay_lifespan_add (life, "a", open_spec, &specs[0], NULL);
  belay_lifespan_add (life, "b", open_spec, &specs[1], "a", NULL);
  return life;
}

/* Which of parts that do not need each other is first is the scheduler's choice. */
static void
assert_before (const char *first, const char *second)
{
  const char *a = strstr (thing_log (), first), *b = strstr (thing_log (), second);

  if (a == NULL || b == NULL || a > b)
    g_error ("%s is not before %s: %s", first, second, thing_log ());
}

static gboolean
test_order (gpointer data, GError **error)
{
  Spec specs[] = { { "a", 10 }, { "b", 0 }, { "c", 10, .close_ms = 10 } };
  g_autoptr (BelayLifespan) life = chain_new (specs);

  g_assert_true (belay_lifespan_run (life, serve, NULL, error));
  g_assert_cmpstr (thing_reasons (), ==, "c:ok b:ok a:ok");
  assert_log ("(a +a (b +b (c +c serve -c c. -b -a"); /* b's stop waits for the end of c's */
  return TRUE;
}

static gboolean
test_side_by_side (gpointer data, GError **error)
{
  Spec specs[] = { { "a", 100 }, { "b", 50 }, { "c", 100 }, { "d" } };
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  gint64 begin = now_ms ();

  belay_lifespan_add (life, "a", open_spec, &specs[0], NULL);
  belay_lifespan_add (life, "b", open_spec, &specs[1], NULL);
  belay_lifespan_add (life, "c", open_spec, &specs[2], "b", NULL);
  belay_lifespan_add (life, "d", open_spec, &specs[3], "a", "b", NULL);
  g_assert_true (belay_lifespan_run (life, serve, NULL, error));
  g_assert_cmpint (now_ms () - begin, ==, 150);
  assert_before ("(b", "+a");
  assert_before ("(c", "+d");
  assert_before ("+d", "+c");
  assert_before ("+a", "(d");
  assert_before ("+c", "serve");
  assert_before ("serve", "-d");
  assert_before ("-d", "-c"); /* the reverse of how they began */
  assert_before ("-c", "-b");
  assert_before ("-d", "-a");
  thing_clear_log ();
  return TRUE;
}

static gboolean
test_empty (gpointer data, GError **error)
{
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();

  g_assert_true (belay_lifespan_run (life, serve, NULL, error));
  assert_log ("serve");
  return TRUE;
}

/* --- failures --- */

/* There is one error attached to the last failure: a part's. */
static void
assert_stop_attached (const char *part, const char *message)
{
  BelayErrors *errors = belay_attached_errors ();
  g_autofree char *pattern = g_strdup_printf ("the part \"%s\" (*test-lifespan.c:*) %s", part, message);

  g_assert_nonnull (errors);
  g_assert_cmpuint (belay_errors_get_size (errors), ==, 1);
  if (!g_pattern_match_simple (pattern, belay_errors_get (errors, 0)->message))
    g_assert_cmpstr (belay_errors_get (errors, 0)->message, ==, pattern);
}

#define N 6

static gboolean
test_partial_start (gpointer data, GError **error)
{
  static const char *const names[N] = { "a", "b", "c", "d", "e", "f" };

  for (guint k = 0; k < N; k++)
    {
      g_autoptr (BelayLifespan) life = belay_lifespan_new ();
      g_autoptr (GError) failure = NULL;
      g_autofree char *text = g_strdup_printf ("the part \"%s\" (*test-lifespan.c:*) did not start: no page", names[k]);
      g_autoptr (GString) log = g_string_new (NULL);
      Spec specs[N];

      for (guint i = 0; i < N; i++)
        {
          const char *needs[] = { i > 0 ? names[i - 1] : NULL, NULL };

          specs[i] = (Spec) { names[i], .open_ms = i % 2, .open_error = i == k ? "no page" : NULL };
          belay_lifespan_addv (life, names[i], open_spec, &specs[i], needs);
        }
      g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_NOT_FOUND); /* its own domain and code */
      if (!g_pattern_match_simple (text, failure->message))
        g_assert_cmpstr (failure->message, ==, text);
      for (guint i = 0; i <= k; i++)
        g_string_append_printf (log, i < k ? "(%s +%s " : "(%s ", names[i], names[i]);
      for (guint i = k; i-- > 0;)
        {
          g_string_append_printf (log, "-%s ", names[i]);
          g_assert_nonnull (strstr (thing_reasons (), ":error"));
        }
      g_assert_null (strstr (thing_reasons (), ":cancelled"));
      g_string_truncate (log, log->len - 1);
      assert_log (log->str);
      g_assert_cmpint (belay_lifespan_get_state (life), ==, BELAY_LIFESPAN_FAILED);
      g_assert_cmpint (belay_lifespan_get_part_state (life, names[k]), ==, BELAY_LIFESPAN_FAILED);
      if (k > 0)
        g_assert_cmpint (belay_lifespan_get_part_state (life, names[0]), ==, BELAY_LIFESPAN_STOPPED);
      if (k + 1 < N)
        g_assert_cmpint (belay_lifespan_get_part_state (life, names[k + 1]), ==, BELAY_LIFESPAN_IDLE);
    }
  return TRUE;
}

/* A failure interrupts what is being opened beside it, and waits for its end. */
static gboolean
test_failure_beside (gpointer data, GError **error)
{
  Spec specs[] = { { "a", 10 }, { "b", 1000 }, { "c", 20, "no page" } };
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  belay_lifespan_add (life, "a", open_spec, &specs[0], NULL);
  belay_lifespan_add (life, "b", open_spec, &specs[1], NULL);
  belay_lifespan_add (life, "c", open_spec, &specs[2], NULL);
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  g_assert_cmpint (now_ms () - begin, ==, 20);
  g_assert_cmpstr (thing_reasons (), ==, "a:error");
  g_assert_null (strstr (thing_log (), "+b"));
  assert_before ("+a", "-a");
  thing_clear_log ();
  return TRUE;
}

static gpointer
make_cancelled (gpointer data, GError **error)
{
  if (belay_sleep (20, error))
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "the server cancelled it");
  return NULL;
}

static BelayFuture *
open_cancelled (BelayLifespan *life, gpointer data)
{
  return belay_open (make_cancelled, NULL);
}

/* An opening that somebody else cancelled has failed; nobody waits for the part for ever. */
static gboolean
test_opening_cancelled (gpointer data, GError **error)
{
  Spec specs[] = { { "a" }, { "b", 1000 } };
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  belay_lifespan_add (life, "a", open_spec, &specs[0], NULL);
  belay_lifespan_add (life, "b", open_spec, &specs[1], NULL);
  belay_lifespan_add (life, "c", open_cancelled, NULL, "a", NULL);
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_FAILED); /* the lifespan was not cancelled */
  g_assert_true (g_pattern_match_simple ("the part \"c\" (*) did not start: the server cancelled it", failure->message));
  g_assert_cmpint (now_ms () - begin, ==, 20);
  g_assert_cmpstr (thing_reasons (), ==, "a:error");
  thing_clear_log ();
  return TRUE;
}

static gboolean
test_work_fails (gpointer data, GError **error)
{
  Spec specs[] = { { "a" }, { "b", .close_error = "b is stuck" }, { "c" } };
  g_autoptr (BelayLifespan) life = chain_new (specs);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_lifespan_run (life, fail_func, "no light", &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_nonnull (strstr (failure->message, "no light"));
  g_assert_cmpstr (thing_reasons (), ==, "c:error b:error a:error");
  assert_log ("(a +a (b +b (c +c -c -b -a");
  assert_stop_attached ("b", "did not stop well: b is stuck"); /* to the work's own error */
  return TRUE;
}

static gboolean
test_stop_fails (gpointer data, GError **error)
{
  Spec specs[] = { { "a", .close_error = "a is stuck" }, { "b" }, { "c", .close_error = "c is stuck" } };
  g_autoptr (BelayLifespan) life = chain_new (specs);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_true (g_pattern_match_simple ("*the part \"c\" (*test-lifespan.c:*) did not stop well: c is stuck*1 more*",
                                         failure->message));
  assert_stop_attached ("a", "did not stop well: a is stuck");
  g_assert_cmpstr (thing_reasons (), ==, "c:ok b:ok a:ok"); /* an error changes it for none of the next */
  assert_log ("(a +a (b +b (c +c serve -c -b -a");
  g_assert_cmpint (belay_lifespan_get_part_state (life, "b"), ==, BELAY_LIFESPAN_STOPPED);
  g_assert_cmpint (belay_lifespan_get_part_state (life, "c"), ==, BELAY_LIFESPAN_FAILED);
  return TRUE;
}

/* --- bounds --- */

static gboolean
test_hanging_stop (gpointer data, GError **error)
{
  Spec specs[] = { { "a" }, { "b", .close_hangs = TRUE }, { "c" } };
  g_autoptr (BelayLifespan) life = chain_new (specs);
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  belay_lifespan_set_stop_timeout (life, "b", 300);
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_cmpint (now_ms () - begin, ==, 300);
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_nonnull (strstr (failure->message, "the part \"b\" ("));
  g_assert_nonnull (strstr (failure->message, "test-lifespan.c:"));
  assert_log ("(a +a (b +b (c +c serve -c -b !b -a");
  return TRUE;
}

static gboolean
test_slow_stop_in_time (gpointer data, GError **error)
{
  Spec specs[] = { { "a", .close_ms = 60000 }, { "b" }, { "c" } };
  g_autoptr (BelayLifespan) life = chain_new (specs);

  belay_lifespan_set_stop_timeout (life, "a", -1);
  g_assert_true (belay_lifespan_run (life, serve, NULL, error));
  assert_log ("(a +a (b +b (c +c serve -c -b -a a.");
  return TRUE;
}

static gboolean
test_start_timeout (gpointer data, GError **error)
{
  Spec specs[] = { { "a", 100 }, { "b", 10000 }, { "c" } };
  g_autoptr (BelayLifespan) life = chain_new (specs);
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  belay_lifespan_set_start_timeout (life, NULL, 200);
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_cmpint (now_ms () - begin, ==, 300);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (g_pattern_match_simple ("the part \"b\" (*) did not start: it took longer than 200 ms", failure->message));
  g_assert_cmpstr (thing_reasons (), ==, "a:error");
  assert_log ("(a +a (b -a");
  return TRUE;
}

static gboolean
run_chain (gpointer data, GError **error)
{
  return belay_lifespan_run (data, serve, GINT_TO_POINTER (10), error);
}

static gboolean
test_outer_deadline (gpointer data, GError **error)
{
  Spec specs[] = { { "a", 100 }, { "b", 10000 }, { "c" } };
  g_autoptr (BelayLifespan) life = chain_new (specs);
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayTimeout) limit = belay_timeout (500);
  gint64 begin = now_ms ();

  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_cmpint (now_ms () - begin, ==, 500);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (belay_timeout_expired (limit));
  g_assert_cmpstr (thing_reasons (), ==, "a:deadline");
  assert_log ("(a +a (b -a");
  return TRUE;
}

/* --- cancellation --- */

/* Cancelled at every millisecond of its life: what was opened is closed, newest first, for one reason, and nothing else is. */
static gboolean
test_cancel_at_every_moment (gpointer data, GError **error)
{
  static const struct
  {
    gint64      until; /* exclusive */
    const char *log, *reasons;
  } expected[] = {
    { 1, "", "" },
    { 20, "(a", "" },
    { 40, "(a +a (b -a a.", "a:cancelled" },
    { 60, "(a +a (b +b (c -b b. -a a.", "b:cancelled a:cancelled" },
    { 70, "(a +a (b +b (c +c serve -c c. -b b. -a a.", "c:cancelled b:cancelled a:cancelled" },
    { 101, "(a +a (b +b (c +c serve -c c. -b b. -a a.", "c:ok b:ok a:ok" },
  };
  guint row = 0;

  for (gint64 moment = 0; moment <= 100; moment++)
    {
      Spec specs[] = { { "a", 20, .close_ms = 10 }, { "b", 20, .close_ms = 10 }, { "c", 20, .close_ms = 10 } };
      g_autoptr (BelayLifespan) life = chain_new (specs);
      g_autoptr (GError) failure = NULL;
      g_autoptr (BelayScope) scope = belay_scope_new ();
      gboolean closed;

      g_assert_true (belay_scope_spawn (scope, run_chain, life, NULL));
      if (moment > 0)
        g_assert_true (belay_sleep (moment, error));
      belay_scope_cancel (scope, "enough");
      closed = belay_scope_close (&scope, &failure);
      while (moment >= expected[row].until)
        row++;
      g_test_message ("%d ms: %s; %s", (int) moment, thing_log (), failure != NULL ? failure->message : "");
      g_assert_cmpint (thing_count.freed, ==, thing_count.opened);
      g_assert_cmpint (thing_count.closed, ==, thing_count.opened);
      if (moment % 10 != 0) /* else it is the scheduler's choice which was first */
        {
          g_assert_cmpstr (thing_reasons (), ==, expected[row].reasons);
          g_assert_cmpstr (thing_log (), ==, expected[row].log);
        }
      thing_clear_log ();
      if (moment < 70 && !closed)
        g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpuint (belay_get_n_pending (), ==, 1); /* the test */
    }
  return TRUE;
}

/* An opening uses what it needs while it unwinds; that is not stopped before. */
static gpointer
make_slow_to_end (gpointer data, GError **error)
{
  BelayLifespan *life = data;
  Thing *a = belay_lifespan_get (life, "a");

  g_assert_nonnull (a);
  if (!belay_sleep (1000, error))
    {
      belay_auto (BelayShield) shield = belay_shield ();

      g_assert_nonnull (shield);
      thing_note ("unwinding");
      g_assert_true (belay_sleep (100, NULL));
      g_assert_cmpstr (a->name, ==, "a");
      thing_note ("unwound");
      return NULL;
    }
  return thing_new ("b");
}

static BelayFuture *
open_slow_to_end (BelayLifespan *life, gpointer data)
{
  return belay_open (make_slow_to_end, life);
}

static gboolean
test_opening_joined (gpointer data, GError **error)
{
  Spec a = { "a" }, c = { "c", 10, "no page" };
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (GError) failure = NULL;

  belay_lifespan_add (life, "a", open_spec, &a, NULL);
  belay_lifespan_add (life, "b", open_slow_to_end, NULL, "a", NULL);
  belay_lifespan_add (life, "c", open_spec, &c, "a", NULL);
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  assert_log ("(a +a (c unwinding unwound -a");
  return TRUE;
}

/* It pays no attention, and ends after its bound: what it gives then is closed, and nobody waited for it. */
static gpointer
make_deaf (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  g_assert_nonnull (shield);
  g_assert_true (belay_sleep (GPOINTER_TO_INT (data), NULL));
  return thing_new ("deaf");
}

static void
is_no_memory (gpointer data)
{
}

static BelayFuture *
open_deaf (BelayLifespan *life, gpointer data)
{
  return belay_open_owned (make_deaf, data, is_no_memory);
}

static gboolean
test_deaf_opening (gpointer data, GError **error)
{
  Spec a = { "a" };
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  gint64 begin;

  belay_lifespan_add (life, "a", open_spec, &a, NULL);
  belay_lifespan_add (life, "deaf", open_deaf, GINT_TO_POINTER (1000), "a", NULL);
  belay_lifespan_set_start_timeout (life, "deaf", 100);
  for (guint i = 0; i < 2; i++)
    {
      g_autoptr (GError) failure = NULL;

      begin = now_ms ();
      belay_lifespan_set_stop_timeout (life, "deaf", i == 0 ? 200 : 2000);
      g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      if (i == 0)
        {
          g_assert_cmpint (now_ms () - begin, ==, 300);
          assert_log ("(a +a -a");
          g_assert_cmpuint (belay_get_n_pending (), ==, 2); /* the test, and the opening */
          g_assert_true (belay_sleep (2000, error));
          assert_log ("+deaf -deaf");
        }
      else
        {
          g_assert_cmpint (now_ms () - begin, ==, 1000);
          g_assert_cmpstr (thing_reasons (), ==, "deaf:error a:error");
          assert_log ("(a +a +deaf -deaf -a"); /* in its turn */
        }
    }
  return TRUE;
}

/* It never ends at all, and does not know how. */
static BelayFuture *
open_never (BelayLifespan *life, gpointer data)
{
  BelayPromise **place = data;

  *place = belay_promise_new ();
  return belay_promise_get_future (*place);
}

static gboolean
test_hanging_start (gpointer data, GError **error)
{
  Spec a = { "a" };
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (BelayPromise) promise = NULL;
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_lifespan_add (life, "a", open_spec, &a, NULL);
  belay_lifespan_add (life, "hanging", open_never, &promise, "a", NULL);
  belay_lifespan_set_stop_timeout (life, NULL, 100);
  g_assert_true (belay_scope_spawn (scope, run_chain, life, NULL));
  g_assert_true (belay_sleep (10, error));
  g_assert_cmpint (belay_lifespan_get_state (life), ==, BELAY_LIFESPAN_STARTING);
  g_assert_cmpint (belay_lifespan_get_part_state (life, "a"), ==, BELAY_LIFESPAN_RUNNING);
  g_assert_cmpint (belay_lifespan_get_part_state (life, "hanging"), ==, BELAY_LIFESPAN_STARTING);
  belay_scope_cancel (scope, "interrupted");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (thing_reasons (), ==, "a:cancelled");
  assert_log ("(a +a -a");
  return TRUE;
}

/* --- the work --- */

static gboolean
child_of_work (gpointer data, GError **error)
{
  gboolean ok = belay_sleep (1000, error);

  thing_note (ok ? "child" : "cancelled-child");
  return ok;
}

static gboolean
spawn_and_leave (gpointer data, GError **error)
{
  BelayLifespan *life = data;

  g_assert_cmpint (belay_lifespan_get_state (life), ==, BELAY_LIFESPAN_RUNNING);
  g_assert_cmpstr (((Thing *) belay_lifespan_get (life, "c"))->name, ==, "c");
  belay_future_unref (belay_spawn (child_of_work, NULL));
  return TRUE;
}

static gboolean
test_work_between (gpointer data, GError **error)
{
  Spec specs[] = { { "a" }, { "b" }, { "c" } };
  g_autoptr (BelayLifespan) life = chain_new (specs);

  g_assert_true (belay_lifespan_run (life, spawn_and_leave, life, error));
  assert_log ("(a +a (b +b (c +c child -c -b -a");
  g_assert_true (belay_lifespan_run (life, spawn_and_leave, life, error)); /* and again */
  assert_log ("(a +a (b +b (c +c child -c -b -a");
  return TRUE;
}

static void
on_part_changed (BelayLifespan *life, const char *name, BelayLifespanState state, gpointer data)
{
  g_assert_false (belay_in_fiber ());
  thing_note ("%s:%s", name, belay_lifespan_state_to_string (state));
}

static void
on_state (BelayLifespan *life, GParamSpec *spec, gpointer data)
{
  BelayLifespanState state;

  g_object_get (life, "state", &state, NULL);
  g_assert_cmpint (state, ==, belay_lifespan_get_state (life));
  thing_note ("%s", belay_lifespan_state_to_string (state));
}

static gboolean
test_states (gpointer data, GError **error)
{
  Spec specs[] = { { "a" }, { "b" } };
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_auto (GStrv) names = NULL;

  belay_lifespan_add (life, "a", open_spec, &specs[0], NULL);
  belay_lifespan_add (life, "b", open_spec, &specs[1], "a", NULL);
  names = belay_lifespan_list_parts (life);
  g_assert_true (g_strv_equal ((const char *const *) names, (const char *const[]) { "a", "b", NULL }));
  g_assert_cmpint (belay_lifespan_get_state (life), ==, BELAY_LIFESPAN_IDLE);
  g_signal_connect (life, "part-changed", G_CALLBACK (on_part_changed), NULL);
  g_signal_connect (life, "notify::state", G_CALLBACK (on_state), NULL);
  g_assert_true (belay_lifespan_run (life, serve, NULL, error));
  assert_log ("starting a:starting (a +a a:running b:starting (b +b b:running running serve stopping b:stopping -b b:stopped "
              "a:stopping -a a:stopped stopped");
  return TRUE;
}

/* --- kinds of parts --- */

static gboolean
manage (BelayManager *manager, gpointer data, GError **error)
{
  thing_note ("+manager");
  thing_note (belay_manager_yield (manager, data, NULL) ? "ok" : "not-ok");
  return TRUE;
}

static BelayFuture *
open_manager (BelayLifespan *life, gpointer data)
{
  return belay_manager_open (manage, data);
}

static BelayFuture *
open_permit (BelayLifespan *life, gpointer data)
{
  return belay_semaphore_acquire_async (data);
}

static BelayFuture *
open_scope (BelayLifespan *life, gpointer data)
{
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_defer (scope, note_func, "scope-released"));
  return belay_resource_future (scope);
}

static BelayFuture *
open_object (BelayLifespan *life, gpointer data)
{
  return belay_resource_future (thing_object_new (thing_new ("object")));
}

static gboolean
use_kinds (gpointer data, GError **error)
{
  BelayLifespan *life = data;

  g_assert_cmpstr (belay_manager_get_value (belay_lifespan_get (life, "manager")), ==, "lent");
  g_assert_true (BELAY_IS_RESOURCE (belay_lifespan_get (life, "object")));
  return TRUE;
}

static gboolean
test_kinds (gpointer data, GError **error)
{
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);

  belay_lifespan_add (life, "manager", open_manager, "lent", NULL);
  belay_lifespan_add (life, "permit", open_permit, semaphore, "manager", NULL);
  belay_lifespan_add (life, "scope", open_scope, NULL, "permit", NULL);
  belay_lifespan_add (life, "object", open_object, NULL, "scope", NULL);
  g_assert_true (belay_lifespan_run (life, use_kinds, life, error));
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  assert_log ("+manager +object -object scope-released ok");
  return TRUE;
}

/* A part that is a scope is bounded as others are, though its children take as long as they like. */
static BelayFuture *
open_busy_scope (BelayLifespan *life, gpointer func)
{
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, (BelayFunc) func, NULL, NULL));
  return belay_resource_future (scope);
}

static gboolean
wait_and_note (gpointer data, GError **error)
{
  gboolean ok = belay_sleep (60000, error);

  thing_note (ok ? "done" : "interrupted");
  return ok;
}

static gboolean
test_scope_is_bounded (gpointer data, GError **error)
{
  Spec a = { "a" };
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  belay_lifespan_add (life, "a", open_spec, &a, NULL);
  belay_lifespan_add (life, "workers", open_busy_scope, (gpointer) wait_and_note, "a", NULL);
  belay_lifespan_set_stop_timeout (life, "workers", 300);
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_cmpint (now_ms () - begin, ==, 300);
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_true (g_str_has_prefix (failure->message, "the part \"workers\" ("));
  if (!belay_await_ok (belay_when_drained (), error))
    return FALSE;
  assert_before ("-a", "interrupted");
  thing_clear_log ();

  begin = now_ms ();
  belay_lifespan_set_stop_timeout (life, "workers", -1);
  g_assert_true (belay_lifespan_run (life, serve, NULL, error));
  g_assert_cmpint (now_ms () - begin, ==, 60000);
  assert_before ("done", "-a");
  thing_clear_log ();
  return TRUE;
}

/* The close has no bound when the second signal comes. It is left then, and the scope must not be freed under it. */
static gboolean
raise_later (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();
  gboolean ok = belay_sleep (500, error);

  raise (SIGINT);
  raise (SIGINT);
  return shield != NULL && ok;
}

static gboolean
stop_in_a_hurry (gpointer data, GError **error)
{
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  belay_lifespan_add (life, "workers", open_busy_scope, (gpointer) wait_and_note, NULL);
  belay_lifespan_set_stop_timeout (life, NULL, -1);
  belay_future_unref (belay_spawn (raise_later, NULL));
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 1500);
  g_propagate_error (error, g_steal_pointer (&failure));
  return FALSE;
}

static void
test_scope_is_hurried (void)
{
  g_assert_cmpint (belay_run (stop_in_a_hurry, NULL), ==, 130);
  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
  assert_log ("serve interrupted");
}

/* What a scope's close says beside the first error is attached, too. */
static BelayFuture *
open_failing_scope (BelayLifespan *life, gpointer data)
{
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_defer (scope, fail_func, "one"));
  g_assert_true (belay_scope_defer (scope, fail_func, "two"));
  return belay_resource_future (scope);
}

static gboolean
test_scope_fails (gpointer data, GError **error)
{
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (GError) failure = NULL;

  belay_lifespan_add (life, "scope", open_failing_scope, NULL, NULL);
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  assert_attached ("*one");
  assert_log ("serve");
  return TRUE;
}

/* --- mistakes --- */

static gboolean
test_mistakes (gpointer data, GError **error)
{
  Spec a = { "a" };
  g_autoptr (BelayLifespan) unknown = belay_lifespan_new ();
  g_autoptr (BelayLifespan) circle = belay_lifespan_new ();
  g_autoptr (BelayLifespan) itself = belay_lifespan_new ();
  g_autoptr (GError) failure = NULL;

  belay_lifespan_add (unknown, "a", open_spec, &a, NULL);
  belay_lifespan_add (unknown, "b", open_spec, &a, "a", "x", NULL);
  g_assert_false (belay_lifespan_run (unknown, serve, NULL, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_true (g_pattern_match_simple ("the part \"b\" (*test-lifespan.c:*) needs \"x\", which was not added",
                                         failure->message));
  g_clear_error (&failure);

  belay_lifespan_add (circle, "z", open_spec, &a, "a", NULL);
  belay_lifespan_add (circle, "a", open_spec, &a, "b", NULL);
  belay_lifespan_add (circle, "b", open_spec, &a, "c", NULL);
  belay_lifespan_add (circle, "c", open_spec, &a, "a", NULL);
  g_assert_false (belay_lifespan_run (circle, serve, NULL, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_nonnull (strstr (failure->message, "\"a\" needs \"b\" needs \"c\" needs \"a\""));
  g_clear_error (&failure);

  belay_lifespan_add (itself, "a", open_spec, &a, "a", NULL);
  g_assert_false (belay_lifespan_run (itself, serve, NULL, &failure));
  g_assert_nonnull (strstr (failure->message, ": \"a\" needs \"a\""));
  assert_log (""); /* nothing was opened */

  expect_critical ("there is a part \"a\" already");
  belay_lifespan_add (itself, "a", open_spec, &a, NULL);
  expect_critical ("*\"a\" is not there, it is idle*");
  g_assert_null (belay_lifespan_get (itself, "a"));
  expect_critical ("there is no part \"x\"");
  g_assert_null (belay_lifespan_get (itself, "x"));
  expect_critical ("there is no part \"x\"");
  belay_lifespan_set_stop_timeout (itself, "x", 10);
  return TRUE;
}

static gboolean
misuse_while_running (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  expect_critical ("*is added to a lifespan that runs");
  belay_lifespan_add (data, "late", open_spec, NULL, NULL);
  expect_critical ("*it runs already");
  g_assert_false (belay_lifespan_run (data, serve, NULL, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

static BelayFuture *
open_nothing (BelayLifespan *life, gpointer data)
{
  return NULL;
}

static gboolean
test_mistakes_while_running (gpointer data, GError **error)
{
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_lifespan_run (life, misuse_while_running, life, error));
  belay_lifespan_add (life, "nothing", open_nothing, NULL, NULL);
  expect_critical ("*gave no future");
  g_assert_false (belay_lifespan_run (life, serve, NULL, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/lifespan/L49-started-in-order-stopped-in-reverse", test_order);
  thing_add_test ("/lifespan/L49-independent-parts-start-side-by-side", test_side_by_side);
  thing_add_test ("/lifespan/no-parts", test_empty);
  thing_add_test ("/lifespan/L49-partial-start-is-unwound-at-every-part", test_partial_start);
  thing_add_test ("/lifespan/L49-failure-interrupts-the-openings-beside-it", test_failure_beside);
  thing_add_test ("/lifespan/L49-opening-that-is-cancelled-itself", test_opening_cancelled);
  thing_add_test ("/lifespan/L8-L9-work-fails", test_work_fails);
  thing_add_test ("/lifespan/L3-L9-stop-fails", test_stop_fails);
  thing_add_test ("/lifespan/L7-hanging-stop-is-forced-at-its-bound", test_hanging_stop);
  thing_add_test ("/lifespan/L7-stop-without-a-bound", test_slow_stop_in_time);
  thing_add_test ("/lifespan/L49-start-time-out", test_start_timeout);
  thing_add_test ("/lifespan/L24-deadline-around-it", test_outer_deadline);
  thing_add_test ("/lifespan/L49-cancelled-at-every-moment", test_cancel_at_every_moment);
  thing_add_test ("/lifespan/L22-interrupted-opening-ends-before-what-it-needs-stops", test_opening_joined);
  thing_add_test ("/lifespan/L5-opening-that-ignores-its-interruption", test_deaf_opening);
  thing_add_test ("/lifespan/L49-hanging-start-can-be-interrupted", test_hanging_start);
  thing_add_test ("/lifespan/L26-work-is-served-only-between", test_work_between);
  thing_add_test ("/lifespan/states", test_states);
  thing_add_test ("/lifespan/kinds-of-parts", test_kinds);
  thing_add_test ("/lifespan/L7-part-that-is-a-scope-is-bounded", test_scope_is_bounded);
  thing_add_plain_test ("/lifespan/L49-part-that-is-a-scope-is-hurried", test_scope_is_hurried);
  thing_add_test ("/lifespan/L9-part-that-is-a-scope-fails", test_scope_fails);
  thing_add_test ("/lifespan/mistakes", test_mistakes);
  thing_add_test ("/lifespan/mistakes-while-it-runs", test_mistakes_while_running);
  return g_test_run ();
}
