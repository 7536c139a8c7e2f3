/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cases of CPython's test_contextlib_async.py and test_contextlib.py, in C's form: the first error stays on top. */
#include "thing.h"

/* --- A01, A02, A03: guards --- */

static gboolean
test_a01 (gpointer data, GError **error)
{
  {
    belay_auto (Thing) a = thing_new_slow ("a", 10);
    belay_auto (Thing) b = thing_new_slow ("b", 30);
    belay_auto (Thing) c = thing_new_slow ("c", 20);

    g_assert_true (a != NULL && b != NULL && c != NULL);
    thing_note ("body");
  }
  assert_log ("+a +b +c body -c c. -b b. -a a.");
  return TRUE;
}

static gboolean
yields_42 (BelayManager *manager, gpointer data, GError **error)
{
  gboolean ok;

  thing_note ("enter");
  ok = belay_manager_yield (manager, GINT_TO_POINTER (42), error);
  thing_note ("exit");
  return ok;
}

static gboolean
test_a02 (gpointer data, GError **error)
{
  BELAY_WITH (BelayManager, m, belay_manager_open (yields_42, NULL), error)
    thing_note ("body:%d", GPOINTER_TO_INT (belay_manager_get_value (m)));
  else
    g_assert_not_reached ();
  assert_log ("enter body:42 exit");
  return TRUE;
}

static gboolean
body_fails (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (yields_42, NULL), error);

  thing_note ("body");
  return m != NULL && fail_func ("ZeroDivision", error);
}

static gboolean
test_a03 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (body_fails, NULL);

  g_assert_cmpstr (failure->message, ==, "ZeroDivision");
  assert_log ("enter body exit");
  return TRUE;
}

/* A05: the exit fails, too: in C the body's error stays on top, and the exit's is not lost. */
static gboolean
replaces_error (BelayManager *manager, gpointer data, GError **error)
{
  if (belay_manager_yield (manager, NULL, NULL))
    return TRUE;
  return fail_func ("issue29692", error);
}

static gboolean
body_fails_in_replacing (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (replaces_error, NULL), error);

  return m != NULL && fail_func ("the cause", error);
}

static gboolean
test_a05 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (body_fails_in_replacing, NULL);

  g_assert_cmpstr (failure->message, ==, "the cause (and 1 more)");
  assert_attached ("closing a BelayManager: issue29692");
  return TRUE;
}

/* A06: the second cannot be entered: its exit is not called, the first's is, with its error. */
static gboolean
second_fails (gpointer data, GError **error)
{
  belay_auto (Thing) a = belay_await (thing_open ("a"), error);
  if (a == NULL)
    return FALSE;
  belay_auto (Thing) b = belay_await (thing_fail_in ("b cannot", 5), error);
  if (b == NULL)
    return FALSE;
  g_assert_not_reached ();
}

static gboolean
test_a06 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (second_fails, NULL);

  g_assert_cmpstr (failure->message, ==, "b cannot");
  assert_log ("+a -a");
  return TRUE;
}

/* A13: of two items one was consumed when the body fails: the inner resource is released before the error is out. */
static gboolean
first_item_fails (gpointer data, GError **error)
{
  belay_auto (Thing) generator = thing_new ("generator");

  for (guint i = 0; i < 2 && generator != NULL; i++)
    {
      belay_auto (Thing) inner = thing_new_slow ("inner", 10);

      if (i == 0 && inner != NULL)
        return fail_func ("of the body", error);
    }
  g_assert_not_reached ();
}

static gboolean
test_a13 (gpointer data, GError **error)
{
  GError *failure = NULL;

  g_assert_false (first_item_fails (NULL, &failure));
  thing_note ("error");
  assert_log ("+generator +inner -inner inner. -generator error");
  g_error_free (failure);
  return TRUE;
}

/* --- A16 to A22: exit stacks --- */

static int called[6];
static guint n_called;

static gboolean
call (gpointer data, GError **error)
{
  g_assert_true (belay_yield (error));
  called[n_called++] = GPOINTER_TO_INT (data);
  return TRUE;
}

static gboolean
test_a16 (gpointer data, GError **error)
{
  belay_auto (BelayScope) stack = belay_scope_begin ();

  n_called = 0;
  for (int i = 0; i < 6; i++)
    g_assert_true (belay_scope_defer (stack, call, GINT_TO_POINTER (i * i)));
  g_assert_true (belay_scope_close (&stack, error));
  g_assert_cmpuint (n_called, ==, 6);
  for (int i = 0; i < 6; i++)
    g_assert_cmpint (called[i], ==, (5 - i) * (5 - i));
  return TRUE;
}

/*
 * A17: who stands above a suppressor sees the error, who stands below sees none, and the block does not fail. In C these are
 * managers, one inside of the other: a scope's releases all have one reason (L8).
 */
static gboolean
looks (BelayManager *manager, gpointer name, GError **error)
{
  g_autoptr (GError) told = NULL;

  belay_manager_yield (manager, NULL, &told);
  thing_note ("%s:%s", (const char *) name, told != NULL ? told->message : "none");
  return TRUE;
}

static gboolean
suppressor (BelayManager *manager, gpointer data, GError **error)
{
  if (!belay_manager_yield (manager, NULL, NULL))
    g_assert_true (belay_manager_swallow (manager));
  return TRUE;
}

static gboolean
test_a17 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  BELAY_WITH (BelayManager, below, belay_manager_open (looks, "below"), &failure)
    BELAY_WITH (BelayManager, middle, belay_manager_open (suppressor, NULL), &failure)
      BELAY_WITH (BelayManager, above, belay_manager_open (looks, "above"), &failure)
        fail_func ("ZeroDivision", &failure);
  g_assert_no_error (failure);
  assert_log ("above:ZeroDivision below:none");
  return TRUE;
}

static gboolean
manager_1_3 (BelayManager *manager, gpointer data, GError **error)
{
  gboolean ok;

  thing_note ("1");
  ok = belay_manager_yield (manager, NULL, error);
  thing_note ("3");
  return ok;
}

static gboolean
test_a18 (gpointer data, GError **error)
{
  belay_auto (BelayScope) stack = belay_scope_begin ();

  g_assert_true (belay_scope_defer (stack, note_func, "4"));
  g_assert_nonnull (belay_enter (stack, belay_manager_open (manager_1_3, NULL), error));
  thing_note ("2");
  g_assert_true (belay_scope_close (&stack, error));
  assert_log ("1 2 3 4");
  return TRUE;
}

static gboolean
enter_three (gpointer data, GError **error)
{
  BelayScope *stack = belay_scope_current ();

  return belay_enter (stack, thing_open_in ("a", 1), error) != NULL &&
         belay_enter (stack, thing_open_in ("b", 1), error) != NULL &&
         belay_enter (stack, thing_fail_in ("c cannot", 1), error) != NULL;
}

static gboolean
test_a19 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (enter_three, NULL);

  g_assert_cmpstr (failure->message, ==, "c cannot");
  g_assert_cmpstr (thing_reasons (), ==, "b:error a:error");
  assert_log ("+a +b -b -a");
  return TRUE;
}

/* A20: what is moved to another stack is not released with the first. */
static gboolean
test_a20 (gpointer data, GError **error)
{
  BelayScope *kept = belay_scope_new ();
  {
    belay_auto (BelayScope) stack = belay_scope_begin ();

    g_assert_true (belay_scope_defer (stack, note_func, "3"));
    g_assert_true (belay_scope_move_all (stack, kept, error)); /* "pop all" */
    thing_note ("1");
  }
  thing_note ("2");
  g_assert_true (belay_scope_close (&kept, error));
  assert_log ("1 2 3");
  return TRUE;
}

/* A22: exits that fail one after another, a suppressor among them: what happened inside of it is absent, all else in order. */
static gboolean
fails_to_exit (BelayManager *manager, gpointer message, GError **error)
{
  belay_manager_yield (manager, NULL, NULL);
  return fail_func (message, error);
}

static gboolean
test_a22 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_autoptr (GError) in_scope = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) stack = belay_scope_begin ();

  BELAY_WITH (BelayManager, e1, belay_manager_open (fails_to_exit, "E1"), &failure)
    BELAY_WITH (BelayManager, e2, belay_manager_open (fails_to_exit, "E2"), &failure)
      BELAY_WITH (BelayManager, middle, belay_manager_open (suppressor, NULL), &failure)
        BELAY_WITH (BelayManager, e3, belay_manager_open (fails_to_exit, "E3"), &failure)
          BELAY_WITH (BelayManager, e4, belay_manager_open (fails_to_exit, "E4"), &failure)
            thing_note ("body");
  assert_log ("body");
  g_assert_cmpstr (failure->message, ==, "E2 (and 1 more)");
  assert_attached ("closing a BelayManager: E1");

  /* In a scope all is kept: its reason, and what it says in the end, is nobody's to swallow. */
  kept = belay_scope_ref (stack);
  belay_scope_defer (stack, fail_func, "E1");
  belay_scope_defer (stack, fail_func, "E2");
  belay_scope_defer (stack, fail_func, "E3");
  g_assert_false (belay_scope_close (&stack, &in_scope));
  g_assert_cmpstr (in_scope->message, ==, "E3 (and 2 more)");
  assert_errors (belay_scope_get_errors (kept), "E3; E2; E1");
  assert_attached ("E2; E1");
  return TRUE;
}

static gboolean
test_a25 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) stack = belay_scope_begin ();

  belay_scope_defer (stack, note_func, "earlier");
  belay_scope_defer (stack, fail_func, "callback");
  thing_note ("body");
  g_assert_false (belay_scope_close (&stack, &failure));
  g_assert_cmpstr (failure->message, ==, "callback");
  assert_log ("body earlier");
  return TRUE;
}

/* --- A28 to A30: interrupted --- */

static gboolean
exit_50 (gpointer data, GError **error)
{
  {
    belay_auto (Thing) a = thing_new_slow ("a", 50);
    g_assert_nonnull (a);
  }
  return belay_sleep (1000, error);
}

/* A28: cancelled while the exit runs: it runs to its end, then the cancellation is delivered. */
static gboolean
test_a28 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new ();
  gint64 begin = now_ms ();

  g_assert_true (belay_scope_spawn (scope, exit_50, NULL, NULL));
  g_assert_true (belay_sleep (10, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (now_ms () - begin, ==, 50);
  assert_log ("+a -a a.");
  return TRUE;
}

/* A29: the enter has acquired and still waits when it is cancelled: released exactly once. */
static gboolean
acquires_then_waits (BelayManager *manager, gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_slow ("a", 5);

  return a != NULL && belay_sleep (100, error) && belay_manager_yield (manager, a, error);
}

static gboolean
enter_slow (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (acquires_then_waits, NULL), error);

  return m != NULL;
}

static gboolean
test_a29 (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, enter_slow, NULL, NULL));
  g_assert_true (belay_sleep (10, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, NULL));
  g_assert_true (belay_sleep (10, error));
  assert_log ("+a -a a.");
  return TRUE;
}

/* A30: the time is up while the inner exit runs: it completes, or is bounded by its own deadline; the outer sees it after. */
static gboolean
exit_in_timeout (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (10);
  {
    belay_auto (Thing) a = data != NULL ? thing_new_hanging ("a") : thing_new_slow ("a", 50);
    g_assert_nonnull (a);
  }
  g_assert_false (belay_timeout_expired (limit));
  return belay_checkpoint (error);
}

static gboolean
test_a30 (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  g_autoptr (GError) slow = thing_outcome (exit_in_timeout, NULL), hanging = NULL;

  g_assert_error (slow, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 50);
  assert_log ("+a -a a.");
  begin = now_ms ();
  hanging = thing_outcome (exit_in_timeout, "hanging");
  g_assert_error (hanging, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 5000);
  assert_log ("+a -a !a");
  assert_attached ("closing a BelayTestResource: *release deadline*");
  return TRUE;
}

/* --- more of the same suites --- */

/* test_exit_suppress and its like: a stack of many, emptied deep: no recursion (TestBaseExitStack.test_excessive_nesting). */
static gboolean
test_excessive_nesting (gpointer data, GError **error)
{
  belay_auto (BelayScope) stack = belay_scope_begin ();

  for (guint i = 0; i < 10000; i++)
    g_assert_true (belay_scope_adopt (stack, thing_new_slow ("t", 1), error));
  g_assert_true (belay_scope_close (&stack, error));
  g_assert_cmpint (thing_count.closed, ==, 10000);
  return TRUE;
}

/* test_close: the stack may be closed early, and is empty then; closing again does nothing. */
static gboolean
test_close_early (gpointer data, GError **error)
{
  belay_auto (BelayScope) stack = belay_scope_begin ();

  belay_scope_defer (stack, note_func, "1");
  g_assert_true (belay_scope_close (&stack, error));
  assert_log ("1");
  g_assert_true (belay_scope_close (&stack, error));
  assert_log ("");
  return TRUE;
}

/* test_body_exception_suppress: one manager function in use many times at once, each use its own. */
static gboolean
use_manager (gpointer data, GError **error)
{
  BELAY_WITH (BelayManager, m, belay_manager_open (yields_42, NULL), error)
    return belay_sleep (GPOINTER_TO_INT (data), error) && GPOINTER_TO_INT (belay_manager_get_value (m)) == 42 &&
           belay_close (&m, error);
  return FALSE;
}

static gboolean
test_recursive_use (gpointer data, GError **error)
{
  belay_auto (BelayScope) group = belay_scope_begin ();

  for (int i = 0; i < 20; i++)
    g_assert_true (belay_scope_spawn (group, use_manager, GINT_TO_POINTER (i % 5), NULL));
  g_assert_true (belay_scope_close (&group, error));
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/peers/contextlib/A01-exits-in-reverse-one-after-another", test_a01);
  thing_add_test ("/peers/contextlib/A02-manager-yields-42", test_a02);
  thing_add_test ("/peers/contextlib/A03-body-fails-cleanup-runs-once", test_a03);
  thing_add_test ("/peers/contextlib/A05-exit-fails-too", test_a05);
  thing_add_test ("/peers/contextlib/A06-second-cannot-be-entered", test_a06);
  thing_add_test ("/peers/contextlib/A13-inner-resource-first", test_a13);
  thing_add_test ("/peers/contextlib/A16-callbacks-with-their-arguments", test_a16);
  thing_add_test ("/peers/contextlib/A17-suppressor-in-the-middle", test_a17);
  thing_add_test ("/peers/contextlib/A18-entered-among-callbacks", test_a18);
  thing_add_test ("/peers/contextlib/A19-partial-stack", test_a19);
  thing_add_test ("/peers/contextlib/A20-moved-to-another-stack", test_a20);
  thing_add_test ("/peers/contextlib/A22-all-errors-in-order", test_a22);
  thing_add_test ("/peers/contextlib/A25-failing-callback", test_a25);
  thing_add_test ("/peers/contextlib/A28-cancelled-in-the-exit", test_a28);
  thing_add_test ("/peers/contextlib/A29-cancelled-in-the-enter", test_a29);
  thing_add_test ("/peers/contextlib/A30-time-up-in-the-exit", test_a30);
  thing_add_single_test ("/peers/contextlib/excessive-nesting", test_excessive_nesting);
  thing_add_test ("/peers/contextlib/closed-early", test_close_early);
  thing_add_test ("/peers/contextlib/one-manager-many-uses", test_recursive_use);
  return g_test_run ();
}
