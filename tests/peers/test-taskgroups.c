/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cases of CPython's test_taskgroups.py and of the issues behind it. */
#include "thing.h"

typedef struct
{
  gint64      milliseconds;
  gint64      value;
  const char *error;     /* it fails so */
  const char *clean_up;  /* cancelled, it fails so */
} Task;

static gboolean
run (gpointer data, GError **error)
{
  Task *task = data;

  if (!belay_sleep (task->milliseconds, error))
    {
      thing_note ("cancelled");
      if (task->clean_up == NULL)
        return FALSE;
      g_clear_error (error);
      return fail_func ((gpointer) task->clean_up, error);
    }
  return task->error == NULL || fail_func ((gpointer) task->error, error);
}

static gpointer
run_value (gpointer data, GError **error)
{
  return run (data, error) ? g_memdup2 (&((Task *) data)->value, sizeof (gint64)) : NULL;
}

static gint64
take (BelayFuture *future)
{
  g_autofree gint64 *value = belay_future_take (future, NULL);

  belay_future_unref (future);
  return value != NULL ? *value : -1;
}

static const GError *
nth_error (BelayScope *scope, guint n)
{
  BelayErrors *errors = belay_scope_get_errors (scope);

  return n < belay_errors_get_size (errors) ? belay_errors_get (errors, n) : NULL;
}

static gboolean
has_error (BelayScope *scope, const char *message)
{
  BelayErrors *errors = belay_scope_get_errors (scope);

  for (guint i = 0; i < belay_errors_get_size (errors); i++)
    if (g_str_equal (belay_errors_get (errors, i)->message, message))
      return TRUE;
  return FALSE;
}

static gboolean
test_b01 (gpointer data, GError **error)
{
  Task one = { 100, 42 }, two = { 200, 11 };
  gint64 begin = now_ms ();
  belay_auto (BelayScope) group = belay_scope_begin ();
  BelayFuture *first = belay_scope_spawn_value (group, run_value, &one, NULL, g_free);
  BelayFuture *second = belay_scope_spawn_value (group, run_value, &two, NULL, g_free);

  g_assert_true (belay_scope_close (&group, error));
  g_assert_cmpint (now_ms () - begin, ==, 200);
  g_assert_cmpint (take (first), ==, 42);
  g_assert_cmpint (take (second), ==, 11);
  return TRUE;
}

/* B03: one child is cancelled by itself. */
static gboolean
own_scope (gpointer data, GError **error)
{
  *(BelayScope **) data = belay_scope_ref (belay_scope_current ());
  return wait_func (NULL, error);
}

static gboolean
test_b03 (gpointer data, GError **error)
{
  Task other = { 50, 7 };
  BelayScope *of_child = NULL;
  belay_auto (BelayScope) group = belay_scope_begin ();
  BelayFuture *value;

  g_assert_true (belay_scope_spawn (group, own_scope, &of_child, NULL));
  value = belay_scope_spawn_value (group, run_value, &other, NULL, g_free);
  g_assert_true (belay_sleep (10, error));
  belay_scope_cancel (of_child, "you only");
  g_assert_true (belay_scope_close (&group, error));
  g_assert_cmpint (take (value), ==, 7);
  belay_scope_unref (of_child);
  return TRUE;
}

static gboolean
b04_body (gpointer data, GError **error)
{
  Task failing = { 100, 0, "A" }, sleeping = { 1000, 0 };
  belay_auto (BelayScope) group = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (group, run, &failing, NULL));
  g_assert_true (belay_scope_spawn (group, run, &sleeping, NULL));
  if (!belay_scope_close (&group, error))
    return FALSE;
  thing_note ("not reached");
  return TRUE;
}

static gboolean
test_b04 (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  g_autoptr (GError) failure = thing_outcome (b04_body, NULL);

  g_assert_cmpstr (failure->message, ==, "A");
  g_assert_cmpint (now_ms () - begin, ==, 100);
  assert_log ("cancelled");
  return TRUE;
}

static gboolean
test_b05 (gpointer data, GError **error)
{
  Task failing[3] = { { 100, 0, "A" }, { 100, 0, "B" }, { 100, 0, "C" } }, sleeping = { 1000, 0, NULL, "D" };
  g_autoptr (GError) body = NULL, failure = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) group = belay_scope_begin ();

  kept = belay_scope_ref (group);
  for (guint i = 0; i < 3; i++)
    g_assert_true (belay_scope_spawn (group, run, &failing[i], NULL));
  g_assert_true (belay_scope_spawn (group, run, &sleeping, NULL));
  g_assert_false (belay_sleep (10000, &body));
  g_assert_error (body, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_false (belay_scope_close (&group, &failure));
  g_assert_true (g_str_has_suffix (failure->message, " (and 3 more)"));
  g_assert_true (g_str_has_prefix (failure->message, nth_error (kept, 0)->message)); /* the first, of those of one instant */
  g_assert_cmpstr (nth_error (kept, 0)->message, !=, "D");
  g_assert_true (has_error (kept, "A") && has_error (kept, "B") && has_error (kept, "C") && has_error (kept, "D"));
  assert_log ("cancelled");
  return TRUE;
}

static gboolean
five_sleepers (gpointer data, GError **error)
{
  static Task sleeping = { 10000 };
  belay_auto (BelayScope) group = belay_scope_begin ();

  for (guint i = 0; i < 5; i++)
    g_assert_true (belay_scope_spawn (group, run, &sleeping, NULL));
  if (data != NULL && !belay_sleep (10000, error))
    {
      belay_scope_close (&group, NULL);
      return FALSE;
    }
  return belay_scope_close (&group, error);
}

static gboolean
test_b06 (gpointer data, GError **error)
{
  for (guint i = 0; i < 2; i++) /* the parent is in its join, or in its body */
    {
      g_autoptr (GError) failure = NULL;
      BelayScope *scope = belay_scope_new ();

      g_assert_true (belay_scope_spawn (scope, five_sleepers, i == 0 ? NULL : "body", NULL));
      g_assert_true (belay_sleep (10, error));
      belay_scope_cancel (scope, "enough");
      g_assert_false (belay_scope_close (&scope, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpstr (failure->message, ==, "enough");
      assert_log ("cancelled cancelled cancelled cancelled cancelled");
    }
  return TRUE;
}

/* B08: children fail in their clean-up while the parent is cancelled. */
static gboolean
failing_clean_ups (gpointer data, GError **error)
{
  static Task children[] = { { 10000, 0, NULL, "A" }, { 10000, 0, NULL, "B" } };
  g_autoptr (BelayScope) kept = NULL;
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) group = belay_scope_begin ();

  kept = belay_scope_ref (group);
  for (guint i = 0; i < G_N_ELEMENTS (children); i++)
    g_assert_true (belay_scope_spawn (group, run, &children[i], NULL));
  if (data != NULL)
    g_assert_false (belay_sleep (10000, NULL));
  g_assert_false (belay_scope_close (&group, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpuint (belay_errors_get_size (belay_scope_get_errors (kept)), ==, 3);
  g_assert_error ((GError *) nth_error (kept, 0), G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_true (has_error (kept, "A") && has_error (kept, "B"));
  g_propagate_error (error, g_steal_pointer (&failure));
  return FALSE;
}

static gboolean
test_b08 (gpointer data, GError **error)
{
  for (guint i = 0; i < 2; i++)
    {
      g_autoptr (GError) failure = NULL;
      BelayScope *scope = belay_scope_new ();

      g_assert_true (belay_scope_spawn (scope, failing_clean_ups, i == 0 ? NULL : "body", NULL));
      g_assert_true (belay_sleep (10, error));
      belay_scope_cancel (scope, "enough");
      g_assert_false (belay_scope_close (&scope, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    }
  return TRUE;
}

/* B09: the body fails, before or after it waited: its children are cancelled, and its error is the result. */
static gboolean
failing_body (gpointer data, GError **error)
{
  static Task sleeping = { 10000 };
  belay_auto (BelayScope) group = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (group, run, &sleeping, NULL));
  if (data != NULL && !belay_sleep (10, error))
    return FALSE;
  return fail_func ("of the body", error);
}

static gboolean
test_b09 (gpointer data, GError **error)
{
  g_autoptr (GError) before = thing_outcome (failing_body, NULL);
  g_autoptr (GError) after = thing_outcome (failing_body, "after");

  g_assert_cmpstr (before->message, ==, "of the body");
  g_assert_cmpstr (after->message, ==, "of the body");
  assert_log ("cancelled"); /* the first never began */
  return TRUE;
}

/* B11: the outer group fails while the inner one waits. */
static gboolean
inner_group (gpointer data, GError **error)
{
  static Task sleeping = { 10000 };
  belay_auto (BelayScope) group = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (group, run, &sleeping, NULL));
  return belay_scope_close (&group, error);
}

static gboolean
test_b11 (gpointer data, GError **error)
{
  Task failing = { 100, 0, "of the outer" };
  g_autoptr (GError) failure = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) group = belay_scope_begin ();

  kept = belay_scope_ref (group);
  g_assert_true (belay_scope_spawn (group, run, &failing, NULL));
  g_assert_true (belay_scope_spawn (group, inner_group, NULL, NULL));
  g_assert_false (belay_scope_close (&group, &failure));
  g_assert_cmpstr (failure->message, ==, "of the outer");
  g_assert_cmpuint (belay_errors_get_size (belay_scope_get_errors (kept)), ==, 1);
  assert_log ("cancelled");
  return TRUE;
}

/* B16: children end while the group is open: later ones are accepted, and nothing of the ended ones is kept. */
static gboolean
quick (gpointer data, GError **error)
{
  return TRUE;
}

static gboolean
test_b16 (gpointer data, GError **error)
{
  belay_auto (BelayScope) group = belay_scope_begin ();

  for (guint i = 0; i < 20000; i++)
    {
      g_assert_true (belay_scope_spawn (group, quick, NULL, NULL));
      if (i % 100 == 0 && !belay_yield (error))
        return FALSE;
    }
  return belay_scope_close (&group, error);
}

/* B17: children spawn into the group while it is closing. */
typedef struct
{
  BelayScope *group;
  int         n, failing;
} Tree;

static gboolean
branch (gpointer data, GError **error)
{
  Tree *tree = data;

  if (!belay_sleep (1, error))
    return FALSE;
  if (++tree->n == tree->failing)
    return fail_func ("in the tree", error);
  for (guint i = 0; i < 2 && tree->n < 100; i++)
    belay_scope_spawn (tree->group, branch, tree, NULL);
  return TRUE;
}

static gboolean
test_b17 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *group = belay_scope_new (), *other = belay_scope_new ();
  Tree tree = { group, 0, -1 }, bad = { other, 0, 20 };

  g_assert_true (belay_scope_spawn (group, branch, &tree, NULL));
  g_assert_true (belay_scope_close (&group, error));
  g_assert_cmpint (tree.n, >=, 100);
  g_assert_true (belay_scope_spawn (other, branch, &bad, NULL));
  g_assert_false (belay_scope_close (&other, &failure));
  g_assert_cmpstr (failure->message, ==, "in the tree");
  g_assert_cmpint (bad.n, <, 100); /* after the failure the spawning stops */
  return TRUE;
}

/* B18: spawning into a group that has failed. */
static void
count_destroyed (gpointer data)
{
  ++*(int *) data;
}

static gboolean
test_b18 (gpointer data, GError **error)
{
  Task failing = { 10, 0, "A" };
  int destroyed = 0;
  g_autoptr (GError) refused = NULL;
  BelayFuture *future;
  belay_auto (BelayScope) group = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (group, run, &failing, NULL));
  g_assert_false (belay_sleep (1000, NULL));
  g_assert_false (belay_scope_spawn (group, run, &destroyed, count_destroyed));
  g_assert_cmpint (destroyed, ==, 1);
  future = belay_scope_spawn_value (group, run_value, &destroyed, count_destroyed, g_free);
  g_assert_cmpint (destroyed, ==, 2);
  g_assert_true (belay_future_is_rejected (future));
  g_assert_false (belay_future_check (future, &refused));
  belay_future_unref (future);
  g_assert_false (belay_scope_close (&group, NULL));
  assert_log ("");
  return TRUE;
}

/* B19: a guard inside of the group fails to close while a child has failed: both are reported, and nothing is left over. */
static gboolean
test_b19 (gpointer data, GError **error)
{
  Task failing = { 10, 0, "A" };
  g_autoptr (GError) failure = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) group = belay_scope_begin ();

  kept = belay_scope_ref (group);
  g_assert_true (belay_scope_spawn (group, run, &failing, NULL));
  {
    belay_auto (Thing) guard = thing_new_failing ("guard", "guard is stuck");

    g_assert_nonnull (guard);
    g_assert_false (belay_sleep (1000, NULL));
  }
  g_assert_false (belay_scope_close (&group, &failure));
  g_assert_cmpstr (failure->message, ==, "A (and 1 more)");
  g_assert_true (has_error (kept, "closing a BelayTestResource: guard is stuck"));
  return belay_sleep (10, error) && belay_check (error); /* the parent is not cancelled */
}

/* B20: nested groups fail at the same time, the inner error is handled inside: the outer cancellation is not lost. */
static gboolean
test_b20 (gpointer data, GError **error)
{
  Task failing = { 100, 0, "outer" }, failing_inside = { 100, 0, "inner" };
  g_autoptr (GError) failure = NULL, stopped = NULL;
  belay_auto (BelayScope) outer = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (outer, run, &failing, NULL));
  {
    g_autoptr (GError) handled = NULL;
    belay_auto (BelayScope) inner = belay_scope_begin ();

    g_assert_true (belay_scope_spawn (inner, run, &failing_inside, NULL));
    g_assert_false (belay_scope_close (&inner, &handled)); /* and forgotten */
    g_assert_cmpstr (handled->message, ==, "inner");
  }
  g_assert_false (belay_sleep (1000, &stopped)); /* the next wait stops */
  g_assert_error (stopped, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_false (belay_scope_close (&outer, &failure));
  g_assert_cmpstr (failure->message, ==, "outer");
  return TRUE;
}

/* B23: gather: results in the order of the arguments; cancelling it cancels all that is pending. */
static gboolean
test_b23 (gpointer data, GError **error)
{
  Task tasks[5] = { { 50, 0 }, { 10, 1 }, { 40, 2 }, { 20, 3 }, { 30, 4 } };
  BelayFuture *futures[5];
  g_autoptr (BelayFuture) all = NULL;
  BelayScope *group = belay_scope_new ();

  for (guint i = 0; i < 5; i++)
    futures[i] = belay_scope_spawn_value (group, run_value, &tasks[i], NULL, g_free);
  all = belay_future_allv (futures, 5);
  g_assert_true (belay_await_ok (belay_future_ref (all), error));
  for (guint i = 0; i < 5; i++)
    g_assert_cmpint (take (belay_future_ref (belay_future_get_member (all, i))), ==, i);
  g_assert_true (belay_scope_close (&group, error));

  group = belay_scope_new ();
  for (guint i = 0; i < 5; i++)
    futures[i] = belay_scope_spawn_value (group, run_value, &tasks[i], NULL, g_free);
  g_assert_true (belay_sleep (25, error));
  belay_scope_cancel (group, "enough");
  belay_scope_close (&group, NULL);
  assert_log ("cancelled cancelled cancelled");
  for (guint i = 0; i < 5; i++)
    g_assert_cmpint (take (futures[i]), ==, (i == 1 || i == 3 ? (int) i : -1));
  return TRUE;
}

/* test_taskgroup_17 and its like: cancelled from outside in the body, the body's own clean-up may wait. */
static gboolean
body_cleans_up (gpointer data, GError **error)
{
  static Task sleeping = { 10000 };
  belay_auto (BelayScope) group = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (group, run, &sleeping, NULL));
  if (!belay_sleep (10000, error))
    {
      belay_auto (BelayShield) shield = belay_shield ();

      g_assert_true (shield != NULL && belay_sleep (50, NULL));
      thing_note ("cleaned");
      return FALSE;
    }
  return TRUE;
}

static gboolean
test_body_cleans_up (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, body_cleans_up, NULL, NULL));
  g_assert_true (belay_sleep (10, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (now_ms () - begin, ==, 60);
  assert_log ("cancelled cleaned");
  return TRUE;
}

/* test_taskgroup_two_exceptions, deep: a failure passes through three groups as itself. */
static gboolean
deep (gpointer data, GError **error)
{
  static Task failing = { 10, 0, "at the bottom" };
  int depth = GPOINTER_TO_INT (data);
  belay_auto (BelayScope) group = belay_scope_begin ();

  if (depth == 0)
    g_assert_true (belay_scope_spawn (group, run, &failing, NULL));
  else
    g_assert_true (belay_scope_spawn (group, deep, GINT_TO_POINTER (depth - 1), NULL));
  return belay_scope_close (&group, error);
}

static gboolean
test_deep (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (deep, GINT_TO_POINTER (10));

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "at the bottom");
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/peers/taskgroups/B01-both-results-after-the-block", test_b01);
  thing_add_test ("/peers/taskgroups/B03-one-child-cancelled", test_b03);
  thing_add_test ("/peers/taskgroups/B04-sibling-is-cancelled", test_b04);
  thing_add_test ("/peers/taskgroups/B05-all-failures-listed", test_b05);
  thing_add_test ("/peers/taskgroups/B06-parent-cancelled", test_b06);
  thing_add_test ("/peers/taskgroups/B08-clean-up-fails-while-the-parent-is-cancelled", test_b08);
  thing_add_test ("/peers/taskgroups/B09-body-fails", test_b09);
  thing_add_test ("/peers/taskgroups/B11-outer-fails-while-the-inner-waits", test_b11);
  thing_add_single_test ("/peers/taskgroups/B16-ended-children-are-dropped", test_b16);
  thing_add_test ("/peers/taskgroups/B17-spawned-while-closing", test_b17);
  thing_add_test ("/peers/taskgroups/B18-no-child-after-a-failure", test_b18);
  thing_add_test ("/peers/taskgroups/B19-guard-fails-while-a-child-has-failed", test_b19);
  thing_add_test ("/peers/taskgroups/B20-outer-cancellation-is-not-lost", test_b20);
  thing_add_test ("/peers/taskgroups/B23-gather", test_b23);
  thing_add_test ("/peers/taskgroups/body-cleans-up", test_body_cleans_up);
  thing_add_test ("/peers/taskgroups/failure-through-many-groups", test_deep);
  return g_test_run ();
}
