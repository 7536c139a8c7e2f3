/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guards: every way out of their block, in a fiber and outside, and the verbs close, commit and close_start. */
#include "thing.h"

#include <errno.h>

/* --- ways out of a block --- */

static gboolean
leave_by_return (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_slow ("a", 10);
  belay_auto (Thing) b = thing_new ("b");

  thing_note ("body");
  return a != NULL && b != NULL;
}

static gboolean
test_return (gpointer data, GError **error)
{
  g_assert_true (leave_by_return (NULL, NULL));
  thing_note ("after");
  assert_log ("+a +b body -b -a a. after");
  return TRUE;
}

static gboolean
test_fall_off (gpointer data, GError **error)
{
  {
    belay_auto (Thing) a = thing_new_slow ("a", 10);

    thing_note ("%s", a != NULL ? "body" : "?");
  }
  thing_note ("after");
  assert_log ("+a body -a a. after");
  return TRUE;
}

static gboolean
test_break (gpointer data, GError **error)
{
  for (guint i = 0; i < 3; i++)
    {
      belay_auto (Thing) a = thing_new_slow ("a", 10);

      if (i == 1)
        break;
      thing_note ("body%u", i);
      g_assert_nonnull (a);
    }
  thing_note ("after");
  assert_log ("+a body0 -a a. +a -a a. after");
  return TRUE;
}

static gboolean
test_continue (gpointer data, GError **error)
{
  for (guint i = 0; i < 2; i++)
    {
      belay_auto (Thing) a = thing_new_slow ("a", 10);

      if (a != NULL)
        continue;
      g_assert_not_reached ();
    }
  thing_note ("after");
  assert_log ("+a -a a. +a -a a. after");
  return TRUE;
}

static gboolean
test_goto_out (gpointer data, GError **error)
{
  {
    belay_auto (Thing) a = thing_new_slow ("a", 10);
    {
      belay_auto (Thing) b = thing_new ("b");

      if (a != NULL && b != NULL)
        goto out;
    }
  }
  g_assert_not_reached ();
out:
  thing_note ("after");
  assert_log ("+a +b -b -a a. after");
  return TRUE;
}

static gboolean
test_goto_back (gpointer data, GError **error)
{
  guint n = 0;

again:
  {
    belay_auto (Thing) a = thing_new ("a");

    if (++n < 3 && a != NULL)
      goto again;
    thing_note ("body");
  }
  assert_log ("+a -a +a -a +a body -a");
  return TRUE;
}

/* Back to before the declaration, in the same block. */
static gboolean
test_goto_back_same_block (gpointer data, GError **error)
{
  {
    guint n = 0;

again:;
    belay_auto (Thing) a = thing_new ("a");

    if (++n < 3 && a != NULL)
      goto again;
    thing_note ("body");
  }
  assert_log ("+a -a +a -a +a body -a");
  return TRUE;
}

static gboolean
test_switch (gpointer data, GError **error)
{
  for (guint i = 0; i < 3; i++)
    switch (i)
      {
      case 0:
        {
          belay_auto (Thing) a = thing_new ("a");

          if (a != NULL)
            break;
          g_assert_not_reached ();
        }
      default:
        {
          belay_auto (Thing) b = thing_new ("b");

          thing_note ("body%u", b != NULL ? i : 99);
        }
      }
  assert_log ("+a -a +b body1 -b +b body2 -b");
  return TRUE;
}

static gboolean
nested (guint depth)
{
  belay_auto (Thing) thing = thing_new_slow ("t", (gint64) depth);

  return thing != NULL && (depth == 0 || nested (depth - 1));
}

static gboolean
test_nested_calls (gpointer data, GError **error)
{
  g_assert_true (nested (20));
  g_assert_cmpint (thing_count.closed, ==, 21);
  return TRUE;
}

static gboolean
test_errno (gpointer data, GError **error)
{
  errno = E2BIG;
  {
    belay_auto (Thing) a = thing_new_slow ("a", 10);

    g_assert_nonnull (a);
    errno = E2BIG;
  }
  g_assert_cmpint (errno, ==, E2BIG);
  return TRUE;
}

/* --- order --- */

static gboolean
test_newest_first (gpointer data, GError **error)
{
  gint64 begin = now_ms ();

  {
    belay_auto (Thing) a = thing_new_slow ("a", 30);
    belay_auto (Thing) b = thing_new_slow ("b", 1);
    belay_auto (Thing) c = thing_new_slow ("c", 20);

    g_assert_true (a != NULL && b != NULL && c != NULL);
  }
  assert_log ("+a +b +c -c c. -b b. -a a.");
  g_assert_cmpint (now_ms () - begin, ==, 51);
  return TRUE;
}

/* --- the variable --- */

static gboolean
test_null (gpointer data, GError **error)
{
  belay_auto (Thing) none = NULL;
  g_autoptr (BelayFuture) closing = NULL;

  g_assert_true (belay_close (&none, error));
  belay_release (&none);
  closing = belay_close_start (&none);
  g_assert_true (belay_future_is_resolved (closing));
  none = thing_new ("a"); /* and it may be armed afterwards */
  assert_log ("+a");
  g_assert_true (belay_close (&none, error));
  g_assert_null (none);
  none = thing_new ("b");
  assert_log ("-a +b");
  return TRUE;
}

static gboolean
look_into_variable (gpointer variable, GError **error)
{
  g_assert_null (*(gpointer *) variable);
  belay_release (variable); /* as a clean-up that runs twice does */
  thing_note ("empty");
  return TRUE;
}

static gboolean
test_reset_first (gpointer data, GError **error)
{
  {
    belay_auto (Thing) a = thing_new ("a");

    a->on_close = look_into_variable;
    a->data = &a;
  }
  {
    belay_auto (Thing) b = thing_new ("b");

    b->on_close = look_into_variable;
    b->data = &b;
    g_assert_true (belay_close (&b, error));
    g_assert_true (belay_close (&b, error));
  }
  assert_log ("+a -a empty +b -b empty");
  return TRUE;
}

static Thing *
make_by_steal (void)
{
  belay_auto (Thing) made = thing_new ("m");

  return belay_steal (&made);
}

static gboolean
test_steal (gpointer data, GError **error)
{
  {
    belay_auto (Thing) target = NULL;
    {
      belay_auto (Thing) source = thing_new ("a");

      target = belay_steal (&source);
      g_assert_null (source);
      g_assert_null (belay_steal (&source)); /* nothing left to move */
    }
    thing_note ("moved");
  }
  assert_log ("+a moved -a");
  {
    belay_auto (Thing) made = make_by_steal ();

    g_assert_nonnull (made);
    thing_note ("got");
  }
  assert_log ("+m got -m");
  return TRUE;
}

/* Early release keeps the order of the rest. */
static gboolean
test_early_release (gpointer data, GError **error)
{
  {
    belay_auto (Thing) a = thing_new ("a");
    belay_auto (Thing) b = thing_new_slow ("b", 5);
    belay_auto (Thing) c = thing_new ("c");

    g_assert_true (a != NULL && c != NULL);
    g_assert_true (belay_close (&b, error));
    thing_note ("body");
  }
  assert_log ("+a +b +c -b b. body -c -a");
  return TRUE;
}

/* --- reasons --- */

static gboolean
reasons_body (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new ("a");
  belay_auto (Thing) b = thing_new ("b");

  switch (GPOINTER_TO_INT (data))
    {
    case 0: /* leaves, well or not: nobody can tell */
      return a != NULL;
    case 1:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "no");
      return FALSE;
    case 2: /* says so */
      return belay_close (&b, error) && belay_close (&a, error);
    case 3: /* observes a cancellation */
      belay_scope_cancel (belay_scope_current (), "enough");
      return belay_sleep (10, error);
    case 4: /* does not look */
      belay_scope_cancel (belay_scope_current (), "enough");
      return TRUE;
    default: /* observes the end of its time */
      belay_scope_set_timeout (belay_scope_current (), 5);
      return belay_sleep (10, error);
    }
}

static gboolean
test_reasons (gpointer data, GError **error)
{
  const char *expected[] = { "b:left a:left", "b:left a:left", "b:ok a:ok", "b:cancelled a:cancelled", "b:left a:left",
                             "b:deadline a:deadline" };

  for (guint i = 0; i < G_N_ELEMENTS (expected); i++)
    {
      g_autoptr (GError) failure = thing_outcome (reasons_body, GINT_TO_POINTER (i));

      g_assert_cmpstr (thing_reasons (), ==, expected[i]);
      thing_clear_log ();
      if (i == 3)
        g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      else if (i == 5)
        g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      else if (i == 1)
        g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
      else
        g_assert_no_error (failure);
    }
  return TRUE;
}

/* An error in one release does not change the reason of the next. */
static gboolean
one_reason_body (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new ("a");
  belay_auto (Thing) b = thing_new_failing ("b", "b is stuck");
  belay_auto (Thing) c = thing_new ("c");

  g_assert_true (a != NULL && b != NULL && c != NULL);
  belay_scope_cancel (belay_scope_current (), "enough");
  return belay_sleep (1, error);
}

static gboolean
test_one_reason (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (one_reason_body, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (thing_reasons (), ==, "c:cancelled b:cancelled a:cancelled");
  assert_attached ("*b is stuck*");
  return TRUE;
}

/* A guard that is left inside a time-out that has expired gets DEADLINE, one around it does not. */
static gboolean
test_reason_of_timeout (gpointer data, GError **error)
{
  {
    belay_auto (Thing) outside = thing_new ("outside");
    belay_auto (BelayTimeout) limit = belay_timeout (10);
    belay_auto (Thing) inside = thing_new ("inside");

    g_assert_true (outside != NULL && inside != NULL);
    g_assert_false (belay_sleep (20, NULL));
    g_assert_true (belay_timeout_expired (limit));
  }
  g_assert_cmpstr (thing_reasons (), ==, "inside:deadline outside:left");
  return TRUE;
}

/* --- errors that nobody asked for --- */

static gboolean
leave_failing (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  return a != NULL;
}

static gboolean
test_error_to_check (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_check (NULL));
  g_assert_true (leave_failing (NULL, NULL));
  g_assert_false (belay_check (&failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "closing a BelayTestResource: a is stuck");
  g_assert_true (belay_check (error)); /* taken */
  leave_failing (NULL, NULL);
  g_assert_false (belay_check (NULL)); /* works the same without a place for it */
  return belay_check (error);
}

static gboolean
test_error_count (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  for (guint i = 0; i < 3; i++)
    leave_failing (NULL, NULL);
  g_assert_false (belay_check (&failure));
  g_assert_cmpstr (failure->message, ==, "closing a BelayTestResource: a is stuck (and 2 more)");
  assert_attached ("closing a BelayTestResource: a is stuck; closing a BelayTestResource: a is stuck"); /* the more */
  return TRUE;
}

static gboolean
test_error_to_scope (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  kept = belay_scope_ref (scope);
  leave_failing (NULL, NULL);
  leave_failing (NULL, NULL);
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpuint (belay_errors_get_size (belay_scope_get_errors (kept)), ==, 2);
  return belay_check (error); /* it did not go further */
}

static gboolean
test_error_to_result (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (leave_failing, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "closing a BelayTestResource: a is stuck");
  return TRUE;
}

static gpointer
value_and_failing (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  return a != NULL ? thing_new ("value") : NULL;
}

static gboolean
test_value_destroyed (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_await (belay_open (value_and_failing, NULL), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  while (thing_count.freed < thing_count.opened)
    if (!belay_yield (error))
      return FALSE;
  assert_log ("+a +value -a -value");
  return TRUE;
}

static gboolean
fail_and_leave_failing (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, a != NULL ? "no such page" : "?");
  return FALSE;
}

/* An error that is set already is the body's, and stays; what the guards failed with is the scope's still. */
static gboolean
check_after_failure (gpointer data, GError **error)
{
  {
    belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

    g_assert_nonnull (a);
  }
  fail_func ("no such page", error);
  g_assert_false (belay_check (error));
  g_assert_cmpstr ((*error)->message, ==, "no such page");
  return FALSE;
}

static gboolean
test_check_after_failure (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (check_after_failure, NULL);

  g_assert_cmpstr (failure->message, ==, "no such page (and 1 more)");
  assert_attached ("closing a BelayTestResource: a is stuck");
  return TRUE;
}

/* The body's error stays on top; that of the release is not lost. */
static gboolean
test_body_first (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (fail_and_leave_failing, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  assert_attached ("closing a BelayTestResource: a is stuck");
  return TRUE;
}

/* --- close --- */

static gboolean
test_close (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) a = thing_new_slow ("a", 10);
  belay_auto (Thing) b = thing_new_failing ("b", "b is stuck");

  g_assert_true (belay_close (&a, error));
  g_assert_null (a);
  g_assert_false (belay_close (&b, &failure));
  g_assert_null (b);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "b is stuck");
  assert_log ("+a +b -a a. -b");
  b = thing_new_failing ("b", "b is stuck");
  g_assert_false (belay_close (&b, NULL));
  return belay_check (error); /* it was said, so it is nowhere else */
}

static gboolean
false_without_error (gpointer data, GError **error)
{
  return FALSE;
}

static gboolean
test_close_misuse (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) after = thing_new ("after");
  belay_auto (Thing) a = thing_new ("a");

  g_assert_nonnull (after);
  a->on_close = false_without_error;
  expect_critical ("*BelayTestResource returned failure without an error*");
  g_assert_false (belay_close (&a, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

static gboolean
close_in_cancelled (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_slow ("a", 10);
  belay_auto (Thing) b = thing_new_slow ("b", 10);

  belay_scope_cancel (belay_scope_current (), "enough");
  g_assert_true (belay_close (&a, error)); /* not observed yet */
  g_assert_false (belay_checkpoint (NULL));
  g_assert_true (belay_close (&b, error)); /* and observed */
  g_assert_false (belay_checkpoint (error));
  return FALSE;
}

static gboolean
test_close_in_cancelled (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (close_in_cancelled, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (failure->message, ==, "enough");
  g_assert_cmpstr (thing_reasons (), ==, "a:ok b:cancelled");
  assert_log ("+a +b -a a. -b b.");
  return TRUE;
}

static gboolean
close_after_deadline (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (5);
  belay_auto (Thing) a = thing_new_slow ("a", 100);

  g_assert_false (belay_sleep (10, NULL));
  g_assert_true (belay_close (&a, error));
  g_assert_true (belay_timeout_expired (limit));
  return TRUE;
}

static gboolean
test_close_after_deadline (gpointer data, GError **error)
{
  g_assert_true (close_after_deadline (NULL, error));
  assert_log ("+a -a a.");
  return TRUE;
}

/* --- the release deadline --- */

static gboolean
test_hanging_close (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) a = thing_new_hanging ("a");
  gint64 begin = now_ms ();

  g_assert_false (belay_close (&a, &failure));
  g_assert_null (a);
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 5000);
  assert_log ("+a -a !a");
  g_assert_cmpint (thing_count.abandoned, ==, 1);
  return TRUE;
}

static gboolean
leave_hanging (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_slow ("a", 1);
  belay_auto (Thing) b = thing_new_hanging ("b");
  belay_auto (Thing) c = thing_new_hanging ("c");
  belay_auto (Thing) d = thing_new_slow ("d", 1);

  g_assert_true (a != NULL && b != NULL && c != NULL && d != NULL);
  return TRUE;
}

static gboolean
test_hanging_releases (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  g_autoptr (GError) failure = thing_outcome (leave_hanging, NULL);

  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_true (g_str_has_suffix (failure->message, " (and 1 more)"));
  g_assert_cmpint (now_ms () - begin, ==, 10002);
  assert_log ("+a +b +c +d -d d. -c !c -b !b -a a.");
  return TRUE;
}

/* A close that goes on after its time, and even claims success, was ended by force all the same. */
static gboolean
ignore_the_deadline (gpointer data, GError **error)
{
  g_assert_false (belay_sleep (10000, NULL));
  g_assert_false (belay_sleep (10000, NULL));
  g_assert_false (belay_sleep (10000, NULL));
  thing_note ("on");
  return TRUE;
}

static gboolean
test_stubborn_close (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) a = thing_new ("a");

  a->on_close = ignore_the_deadline;
  g_assert_false (belay_close (&a, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  assert_log ("+a -a !a on");
  return TRUE;
}

static gboolean
test_own_release_timeout (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (Thing) a = thing_new_hanging ("a");
  belay_auto (Thing) b = thing_new_slow ("b", 3600 * 1000);

  belay_scope_set_release_timeout (scope, 100);
  g_assert_false (belay_close (&a, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 100);
  belay_scope_set_release_timeout (scope, -1); /* for ever, since that was said */
  g_assert_true (belay_close (&b, error));
  g_assert_cmpint (now_ms () - begin, ==, 3600 * 1000 + 100);
  return belay_scope_close (&scope, error);
}

/* What begins and ends inside of a release changes nothing of its deadline. */
static gboolean
hang_after_inner_limit (gpointer data, GError **error)
{
  g_assert_true (belay_checkpoint (error));
  {
    belay_auto (BelayTimeout) limit = belay_timeout (1000);

    g_assert_nonnull (limit);
    g_assert_true (belay_sleep (10, error)); /* its time begins */
  }
  {
    belay_auto (BelayShield) shield = belay_shield ();

    g_assert_nonnull (shield);
    g_assert_true (belay_sleep (10, error));
  }
  return wait_func (NULL, error);
}

static gboolean
test_inner_limits (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) a = thing_new ("a");
  gint64 begin = now_ms ();

  a->on_close = hang_after_inner_limit;
  g_assert_false (belay_close (&a, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 5000);
  assert_log ("+a -a !a");
  return TRUE;
}

/* --- L6 --- */

static gboolean
release_checkpoints (gpointer data, GError **error)
{
  g_assert_true (belay_checkpoint (NULL));
  g_assert_true (belay_yield (error));
  g_assert_true (belay_sleep (10, error));
  g_assert_true (belay_await_ok (belay_future_delay (10), error));
  {
    belay_auto (Thing) inner = belay_await (thing_open_in ("inner", 5), error);

    g_assert_nonnull (inner);
  }
  {
    belay_auto (BelayTimeout) own = belay_timeout (5);

    g_assert_nonnull (own);
    g_assert_false (belay_sleep (10, NULL)); /* what is inside of it works as ever */
  }
  return TRUE;
}

static gboolean
shielded_body (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new ("a");

  a->on_close = release_checkpoints;
  if (data != NULL)
    belay_scope_set_timeout (belay_scope_current (), 1);
  else
    belay_scope_cancel (belay_scope_current (), "enough");
  return belay_sleep (5, error);
}

static gboolean
test_shielded (gpointer data, GError **error)
{
  g_autoptr (GError) cancelled = thing_outcome (shielded_body, NULL);
  g_autoptr (GError) late = thing_outcome (shielded_body, "late");

  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_log ("+a -a +inner -inner +a -a +inner -inner");
  return TRUE;
}

static gboolean
note_after_sleep (gpointer data, GError **error)
{
  if (!belay_sleep (10, error))
    return FALSE;
  thing_note ("%s", (const char *) data);
  return TRUE;
}

static gboolean
release_with_children (gpointer data, GError **error)
{
  BelayFuture *one = belay_spawn (note_after_sleep, "one");
  BelayFuture *two = belay_spawn (note_after_sleep, "two");

  return belay_await_ok (belay_future_all (one, two, NULL), error);
}

static gboolean
children_body (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new ("a");

  a->on_close = release_with_children;
  belay_scope_cancel (belay_scope_current (), "enough");
  return belay_sleep (5, error);
}

/* A release may have children of its own, in a cancelled fiber too (L23). */
static gboolean
test_children_in_release (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (children_body, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log_words ("+a -a one two");
  return TRUE;
}

static gboolean
release_with_hanging_child (gpointer data, GError **error)
{
  return belay_await_ok (belay_spawn (wait_func, NULL), error);
}

/* Such a child is bounded by the release deadline as the release itself is. */
static gboolean
test_hanging_child_in_release (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) a = thing_new ("a");
  gint64 begin = now_ms ();

  a->on_close = release_with_hanging_child;
  g_assert_false (belay_close (&a, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 5000);
  assert_log ("+a -a !a");
  return TRUE;
}

/* Only the child is stopped by it, but then the release was not in time, either. */
static gboolean
leave_hanging_child (gpointer data, GError **error)
{
  belay_future_unref (belay_spawn (wait_func, NULL));
  return TRUE;
}

static gboolean
test_child_alone (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) a = thing_new ("a");
  gint64 begin = now_ms ();

  a->on_close = leave_hanging_child;
  g_assert_false (belay_close (&a, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 5000);
  assert_log ("+a -a !a");
  return TRUE;
}

/* --- commit --- */

static gboolean
test_commit (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) a = thing_new ("a");
  belay_auto (Thing) b = thing_new ("b");

  g_assert_true (belay_commit (&a, error));
  g_assert_null (a);
  g_assert_cmpstr (thing_reasons (), ==, "a:ok");
  b->commit_error = "the disk is full";
  g_assert_false (belay_commit (&b, &failure));
  g_assert_null (b);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "the disk is full");
  g_assert_cmpstr (thing_reasons (), ==, "a:ok b:error");
  assert_log ("+a +b a=commit -a -b");
  return TRUE;
}

static gboolean
commit_late (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new ("a");

  if (data != NULL)
    belay_scope_set_timeout (belay_scope_current (), 0);
  else
    belay_scope_cancel (belay_scope_current (), "enough");
  return belay_commit (&a, error);
}

static gboolean
test_commit_in_cancelled (gpointer data, GError **error)
{
  g_autoptr (GError) cancelled = thing_outcome (commit_late, NULL);
  g_autoptr (GError) late = thing_outcome (commit_late, "late");

  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpstr (thing_reasons (), ==, "a:cancelled a:deadline");
  g_assert_cmpint (thing_count.committed, ==, 0);
  return TRUE;
}

static gboolean
cancel_func (gpointer scope, GError **error)
{
  if (!belay_sleep (5, error))
    return FALSE;
  belay_scope_cancel (scope, "enough");
  return TRUE;
}

static gboolean
commit_shielded (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new ("a");
  BelayFuture *canceller = belay_spawn (cancel_func, belay_scope_current ());

  a->commit_ms = 10;
  g_assert_true (belay_commit (&a, error)); /* began, so it is seen to its end */
  belay_future_unref (canceller);
  return belay_checkpoint (error);
}

static gboolean
test_commit_shielded (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (commit_shielded, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("+a a=commit -a");
  return TRUE;
}

static gboolean
test_commit_then_close_fails (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  g_assert_true (belay_commit (&a, error)); /* it is committed */
  g_assert_false (belay_check (&failure));  /* and something went wrong afterwards */
  g_assert_nonnull (strstr (failure->message, "a is stuck"));
  return TRUE;
}

static gboolean
close_plain (gpointer self, BelayReason reason, GError **error)
{
  return TRUE;
}

static const BelayPlainClass plain_class = BELAY_PLAIN_CLASS ("Lamp", close_plain, g_free);

static gboolean
test_commit_misuse (gpointer data, GError **error)
{
  g_autoptr (GError) nothing = NULL, empty = NULL;
  BelayPlain *lamp = belay_plain_new (BelayPlain, &plain_class);

  expect_critical ("*a Lamp has nothing to commit*");
  g_assert_false (belay_commit (&lamp, &nothing));
  g_assert_error (nothing, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_null (lamp);
  expect_critical ("*belay_commit: the variable holds nothing*");
  g_assert_false (belay_commit (&lamp, &empty));
  g_assert_error (empty, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

/* What can only be held is given back, and reported. */
static gboolean
test_commit_hot (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  BelayTimeout *limit = belay_timeout (10);
  BelayShield *shield = belay_shield ();
  g_autoptr (GError) failure = NULL;

  expect_critical ("*a BelayPermit has nothing to commit*");
  g_assert_false (belay_commit (&permit, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_null (permit);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  expect_critical ("*a BelayShield has nothing to commit*");
  g_assert_false (belay_commit (&shield, NULL));
  expect_critical ("*a BelayTimeout has nothing to commit*");
  g_assert_false (belay_commit (&limit, NULL));
  return belay_sleep (50, error); /* it is not in force any more */
}

/* Of a commit that is cut off nobody knows whether it happened: no deadline does that, around it or of releases. */
static gboolean
test_commit_unbounded (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (BelayTimeout) limit = belay_timeout (20);
  Thing *a = thing_new ("a");
  gint64 begin = now_ms ();

  belay_scope_set_release_timeout (scope, 10);
  a->commit_ms = 7000;
  g_assert_nonnull (limit);
  g_assert_true (belay_commit (&a, error));
  g_assert_cmpint (now_ms () - begin, ==, 7000);
  assert_log ("+a a=commit -a");
  return TRUE;
}

static gboolean
commit_in_time (gpointer self, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (20);

  return limit != NULL && wait_func (NULL, error);
}

static const BelayPlainClass bounded_class = { BELAY_PLAIN_TAG, "Bounded", NULL, commit_in_time, NULL, g_free };

/* But it can bound itself. */
static gboolean
test_commit_bounds_itself (gpointer data, GError **error)
{
  BelayPlain *bounded = belay_plain_new (BelayPlain, &bounded_class);
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  g_assert_false (belay_commit (&bounded, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 20);
  return belay_sleep (1, error);
}

/* --- close_start --- */

static gboolean
test_close_start (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  Thing *a = thing_new_slow ("a", 10);
  Thing *b = thing_new_failing ("b", "b is stuck");
  Thing *c = thing_new_hanging ("c");
  BelayFuture *one = belay_close_start (&a), *two = belay_close_start (&b), *three = belay_close_start (&c);

  g_assert_true (a == NULL && b == NULL && c == NULL);
  assert_log ("+a +b +c"); /* nothing has happened yet */
  g_assert_true (belay_await_ok (one, error));
  g_assert_false (belay_await_ok (two, &failure));
  g_assert_cmpstr (failure->message, ==, "b is stuck");
  g_clear_error (&failure);
  g_assert_false (belay_await_ok (three, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  assert_words (thing_reasons (), "a:ok b:ok c:ok");
  assert_log_words ("-a -b -c a. !c");
  return TRUE;
}

/* Its outcome thrown away, the error goes to the sink; and dropping it stops nothing. */
static gboolean
test_close_start_dropped (gpointer data, GError **error)
{
  Thing *a = thing_new_slow ("a", 10);
  Thing *b = thing_new_failing ("b", "b is stuck");

  belay_future_unref (belay_close_start (&a));
  belay_future_unref (belay_close_start (&b));
  g_assert_true (belay_sleep (20, error));
  assert_log_words ("+a +b -a -b a.");
  assert_sunk ("b is stuck");
  return TRUE;
}

static gboolean
close_start_in_cancelled (gpointer data, GError **error)
{
  Thing *a = thing_new_slow ("a", 10);

  belay_scope_cancel (belay_scope_current (), "enough");
  belay_future_unref (belay_close_start (&a));
  return belay_sleep (1, error);
}

static gboolean
test_close_start_in_cancelled (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (close_start_in_cancelled, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_true (belay_sleep (20, error));
  assert_log ("+a -a a.");
  return TRUE;
}

/* --- BELAY_WITH --- */

static gboolean
test_with (gpointer data, GError **error)
{
  gboolean ok = FALSE;

  BELAY_WITH (Thing, a, thing_open_in ("a", 5), error)
    {
      a->close_ms = 5;
      thing_note ("body");
      ok = TRUE;
    }
  else
    g_assert_not_reached ();
  thing_note ("after");
  g_assert_true (ok);
  g_assert_cmpstr (thing_reasons (), ==, "a:ok");
  assert_log ("+a body -a a. after");
  return TRUE;
}

static gboolean
test_with_statement (gpointer data, GError **error)
{
  BELAY_WITH (Thing, a, thing_open ("a"), error)
    thing_note ("%s", a->name);
  assert_log ("+a a -a");
  return TRUE;
}

static gboolean
test_with_open_fails (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  guint n_else = 0;

  BELAY_WITH (Thing, a, thing_fail_in ("no such thing", 5), &failure)
    g_assert_null (a); /* not reached */
  else
    n_else++;
  g_assert_cmpuint (n_else, ==, 1);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  BELAY_WITH (Thing, a, thing_fail_in ("no such thing", 5), NULL)
    g_assert_null (a);
  else
    n_else++;
  g_assert_cmpuint (n_else, ==, 2);
  assert_log ("");
  return TRUE;
}

static gboolean
test_with_close_fails (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  BELAY_WITH (Thing, a, thing_open ("a"), &failure)
    {
      a->close_error = "a is stuck";
      thing_note ("body");
    }
  else
    {
      g_assert_null (a);
      thing_note ("else");
    }
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  assert_log ("+a body -a else");
  return TRUE;
}

/* The documented way to write it: the body's error is there already when the close fails, too. */
static gboolean
test_with_both_fail (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  gboolean ok = TRUE;

  BELAY_WITH (Thing, a, thing_open ("a"), &failure)
    {
      a->close_error = "a is stuck";
      ok = belay_await_ok (thing_fail_in ("no such page", 1), &failure);
    }
  else
    {
      thing_note ("else");
      ok = FALSE;
    }
  g_assert_false (ok);
  g_assert_cmpstr (failure->message, ==, "no such page (and 1 more)");
  assert_attached ("closing a BelayTestResource: a is stuck"); /* not lost */
  g_assert_cmpstr (thing_reasons (), ==, "a:error");
  assert_log ("+a -a else");
  return TRUE;
}

/* Falling off the end with the error set is no success. */
static gboolean
test_with_body_fails (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  gboolean ok = TRUE;

  BELAY_WITH (Thing, a, thing_open ("a"), &failure)
    BELAY_WITH (Thing, b, thing_open ("b"), &failure)
      {
        g_assert_true (a != b);
        ok = belay_await_ok (thing_fail_in ("no such page", 1), &failure);
      }
  g_assert_false (ok);
  g_assert_cmpstr (failure->message, ==, "no such page");
  g_assert_cmpstr (thing_reasons (), ==, "b:error a:error");
  return TRUE;
}

static gboolean
test_with_break (gpointer data, GError **error)
{
  BELAY_WITH (Thing, a, thing_open ("a"), error)
    {
      if (a != NULL)
        break;
      g_assert_not_reached ();
    }
  else
    g_assert_not_reached ();
  thing_note ("after");
  g_assert_cmpstr (thing_reasons (), ==, "a:left");
  assert_log ("+a -a after");

  /* in the else part, too */
  BELAY_WITH (Thing, b, thing_fail_in ("no", 0), NULL)
    g_assert_not_reached ();
  else
    break;
  return TRUE;
}

static gboolean
test_with_continue (gpointer data, GError **error)
{
  BELAY_WITH (Thing, a, thing_open ("a"), error)
    {
      if (a != NULL)
        continue;
      g_assert_not_reached ();
    }
  g_assert_cmpstr (thing_reasons (), ==, "a:ok"); /* to its end */
  assert_log ("+a -a");
  return TRUE;
}

static gboolean
with_return (gpointer data, GError **error)
{
  BELAY_WITH (Thing, a, thing_open ("a"), error)
    {
      BELAY_WITH (Thing, b, thing_open ("b"), error)
        return a != b;
    }
  return FALSE;
}

static gboolean
with_goto (gpointer data, GError **error)
{
  BELAY_WITH (Thing, a, thing_open ("a"), error)
    if (a != NULL)
      goto out;
  g_assert_not_reached ();
out:
  return TRUE;
}

static gboolean
test_with_return (gpointer data, GError **error)
{
  g_assert_true (with_return (NULL, error));
  g_assert_cmpstr (thing_reasons (), ==, "b:left a:left");
  assert_log ("+a +b -b -a");
  g_assert_true (with_goto (NULL, error));
  g_assert_cmpstr (thing_reasons (), ==, "a:left");
  return TRUE;
}

static gboolean
test_with_nested (gpointer data, GError **error)
{
  guint n = 0;

  for (guint i = 0; i < 3; i++)
    {
      if (i == 1)
        continue;
      BELAY_WITH (Thing, a, thing_open ("a"), error)
        BELAY_WITH (Thing, b, thing_open ("b"), error)
          {
            g_assert_true (a != b);
            n++;
          }
    }
  g_assert_cmpuint (n, ==, 2);
  g_assert_cmpstr (thing_reasons (), ==, "b:ok a:ok b:ok a:ok");
  return TRUE;
}

static gboolean
with_in_cancelled (gpointer data, GError **error)
{
  gboolean ok = FALSE;

  BELAY_WITH (Thing, a, thing_open ("a"), error)
    {
      belay_scope_cancel (belay_scope_current (), "enough");
      ok = belay_sleep (1, error);
      thing_note ("%s", a->name);
    }
  return ok;
}

static gboolean
test_with_cancelled (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (with_in_cancelled, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (thing_reasons (), ==, "a:cancelled");
  return TRUE;
}

/* --- hot guards --- */

static gboolean
test_permit (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (2);

  {
    belay_auto (BelayPermit) one = belay_semaphore_acquire (semaphore, error);
    belay_auto (BelayPermit) two = belay_semaphore_acquire (semaphore, error);

    g_assert_true (one != NULL && two != NULL);
    g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 0);
    g_assert_true (belay_close (&one, error));
    g_assert_null (one);
    g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
    g_assert_true (belay_close (&one, error));
    g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  }
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);
  {
    BelayPermit *one = belay_semaphore_try_acquire (semaphore);
    BelayFuture *closing = belay_close_start (&one);

    g_assert_null (one);
    g_assert_true (belay_future_is_resolved (closing));
    belay_future_unref (closing);
  }
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);
  return TRUE;
}

static gboolean
test_timeout_guard (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) outer = belay_timeout (100);
  belay_auto (BelayTimeout) inner = belay_timeout (10);

  g_assert_true (belay_close (&inner, error));
  g_assert_null (inner);
  g_assert_true (belay_sleep (50, error)); /* the inner one is gone */
  inner = belay_timeout (10);
  g_assert_true (belay_close (&outer, error)); /* not the innermost */
  g_assert_false (belay_sleep (60, NULL));
  g_assert_true (belay_timeout_expired (inner));
  g_assert_true (belay_close (&inner, error));
  return belay_sleep (1000, error);
}

static gboolean
release_others (gpointer data, GError **error)
{
  BelayTimeout *others = data;

  expect_critical ("*a time-out or shield belongs to the block and the fiber that made it*");
  belay_release (&others);
  g_test_assert_expected_messages ();
  return TRUE;
}

/* A time-out that another fiber releases stays in force, and with its own. */
static gboolean
test_timeout_of_another_fiber (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (10);

  g_assert_true (belay_await_ok (belay_spawn (release_others, limit), error));
  g_assert_false (belay_sleep (50, NULL));
  g_assert_true (belay_timeout_expired (limit));
  g_assert_true (belay_close (&limit, error));
  return belay_sleep (50, error);
}

static gboolean
shield_body (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  belay_scope_cancel (belay_scope_current (), "enough");
  g_assert_true (belay_sleep (10, error));
  g_assert_true (belay_close (&shield, error));
  g_assert_null (shield);
  return belay_sleep (10, error);
}

static gboolean
test_shield_guard (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (shield_body, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return TRUE;
}

/* --- outside a fiber --- */

static void
test_outside (void)
{
  gint64 begin = g_get_monotonic_time ();

  {
    belay_auto (Thing) a = thing_new_slow ("a", 30);
    belay_auto (Thing) b = thing_new_slow ("b", 1);
    belay_auto (Thing) c = thing_new_slow ("c", 20);

    g_assert_true (a != NULL && b != NULL && c != NULL);
  }
  thing_note ("after");
  g_assert_cmpuint (belay_get_n_pending (), >, 0);
  thing_drain ();
  g_assert_cmpstr (thing_reasons (), ==, "c:left b:left a:left");
  assert_log ("+a +b +c after -c c. -b b. -a a.");
  test_assert_soon (begin);
}

static gboolean
note_idle (gpointer data)
{
  thing_note ("%s", (const char *) data);
  return G_SOURCE_REMOVE;
}

/* Those of different dispatches do not wait for each other, and nothing is done inside the call that left. */
static void
test_outside_twice (void)
{
  {
    belay_auto (Thing) a = thing_new_slow ("a", 1000);

    g_assert_nonnull (a);
  }
  g_main_context_iteration (NULL, TRUE);
  {
    belay_auto (Thing) b = thing_new_slow ("b", 10);

    g_assert_nonnull (b);
  }
  g_idle_add_full (G_PRIORITY_HIGH, note_idle, "idle", NULL);
  thing_drain ();
  assert_log ("+a -a +b idle -b b. a.");
}

static void
test_outside_error (void)
{
  {
    belay_auto (Thing) a = thing_new ("a");
    belay_auto (Thing) b = thing_new_failing ("b", "b is stuck");
    belay_auto (Thing) c = thing_new_hanging ("c");

    g_assert_true (a != NULL && b != NULL && c != NULL);
  }
  thing_drain ();
  assert_log ("+a +b +c -c !c -b -a");
  assert_sunk ("BelayTestResource took longer*; b is stuck");
}

static void
test_outside_close (void)
{
  Thing *a = thing_new_slow ("a", 10);
  Thing *b = thing_new ("b");
  GError *error = NULL;

  g_assert_true (belay_close (&a, &error)); /* that is: it is scheduled */
  g_assert_no_error (error);
  g_assert_null (a);
  assert_log ("+a +b");
  expect_critical ("*belay_commit: waits*");
  g_assert_false (belay_commit (&b, &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&error);
  thing_drain ();
  g_assert_cmpstr (thing_reasons (), ==, "a:ok b:left"); /* one was said to be closed, the other was not */
  assert_log ("-a a. -b");
}

static gboolean
note_end (gpointer data, GError **error)
{
  gboolean ok = belay_sleep (20, error);

  thing_note ("child:%s", ok ? "ok" : "cancelled");
  return ok;
}

/* An explicit close waits for the children; only one that is left cancels them. */
static void
test_outside_close_scope (void)
{
  BelayScope *closed = belay_scope_new (), *left = belay_scope_new ();
  GError *error = NULL;

  g_assert_true (belay_scope_adopt (closed, thing_new ("a"), &error));
  g_assert_true (belay_scope_spawn (closed, note_end, NULL, NULL));
  g_main_context_iteration (NULL, FALSE);
  g_assert_true (belay_scope_close (&closed, &error));
  g_assert_no_error (error);
  thing_drain ();
  g_assert_cmpstr (thing_reasons (), ==, "a:ok");
  assert_log ("+a child:ok -a");
  g_assert_true (belay_scope_spawn (left, note_end, NULL, NULL));
  g_main_context_iteration (NULL, FALSE);
  belay_release (&left);
  thing_drain ();
  assert_log ("child:cancelled");
}

static gboolean
wait_for_promise (gpointer promise, GError **error)
{
  gboolean ok = belay_await_ok (belay_promise_get_future (promise), error);

  thing_note ("child:%s", ok ? "ok" : "?");
  return ok;
}

static BelayPromise *awaited;

static gboolean
resolve_awaited (gpointer data, GError **error)
{
  return belay_promise_resolve (awaited);
}

/* The first one's child waits for the second: that is not starved for ever by the first. */
static void
test_outside_one_waits_for_another (void)
{
  BelayScope *scope = belay_scope_new ();
  Thing *thing = thing_new ("a");

  awaited = belay_promise_new ();
  thing->on_close = resolve_awaited;
  g_assert_true (belay_scope_spawn (scope, wait_for_promise, awaited, NULL));
  g_main_context_iteration (NULL, FALSE);
  g_assert_true (belay_scope_close (&scope, NULL));
  g_assert_true (belay_close (&thing, NULL));
  thing_drain ();
  assert_log ("+a -a child:ok");
  g_clear_pointer (&awaited, belay_promise_unref);
}

static void
test_outside_hot (void)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);

  {
    belay_auto (BelayPermit) permit = belay_semaphore_try_acquire (semaphore);

    g_assert_nonnull (permit);
    g_assert_null (belay_semaphore_try_acquire (semaphore));
  }
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1); /* at once */
  expect_critical ("*belay_timeout: waits*");
  g_assert_null (belay_timeout (10));
  expect_critical ("*belay_shield: waits*");
  g_assert_null (belay_shield ());
  expect_critical ("*belay_scope_begin: waits*");
  g_assert_null (belay_scope_begin ());
}

static gboolean
on_closed (BelayFuture *done, gpointer data, GError **error)
{
  thing_note ("closed:%s", belay_future_is_resolved (done) ? "ok" : belay_future_get_error (done)->message);
  return TRUE;
}

static void
test_outside_close_start (void)
{
  BelayScope *scope = belay_scope_new ();
  Thing *a = thing_new_slow ("a", 10);
  Thing *b = thing_new_failing ("b", "b is stuck");

  belay_scope_then (scope, belay_close_start (&a), on_closed, NULL);
  belay_scope_then (scope, belay_close_start (&b), on_closed, NULL);
  thing_settle ();
  assert_log_words ("+a +b -a -b closed:b is stuck a. closed:ok");
  g_assert_true (belay_scope_close (&scope, NULL));
  thing_drain ();
}

static gpointer
leave_on_thread (gpointer data)
{
  belay_auto (Thing) a = thing_new_slow ("a", 10);

  g_assert_nonnull (a);
  return NULL;
}

/* L15: the guard of a thread without a loop is released by the default context's. */
static void
test_plain_thread (void)
{
  g_thread_join (g_thread_new ("plain", leave_on_thread, NULL));
  assert_log ("+a");
  thing_drain ();
  assert_log ("-a a.");
}

static gpointer
drop_on_thread (gpointer future)
{
  belay_future_unref (future);
  return NULL;
}

static void
test_value_dropped_on_thread (void)
{
  g_thread_join (g_thread_new ("plain", drop_on_thread, thing_open ("a")));
  thing_drain ();
  assert_log ("+a -a");
}

/* --- objects --- */

static gboolean
test_object (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  {
    belay_auto (ThingObject) a = thing_object_new (thing_new_slow ("a", 5));
    belay_auto (ThingObject) b = thing_object_new (thing_new ("b"));
    belay_auto (ThingObject) c = thing_object_new (thing_new_hanging ("c"));
    belay_auto (ThingObject) d = thing_object_new (thing_new_failing ("d", "d is stuck"));

    g_assert_nonnull (a);
    g_assert_true (belay_commit (&b, error));
    g_assert_false (belay_close (&c, &failure));
    g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
    g_assert_true (g_str_has_prefix (failure->message,
                                     "ThingObject took longer than its release deadline; it was ended by force (timed out at "));
    g_clear_error (&failure);
    g_assert_nonnull (d);
  }
  assert_log ("+a +b +c +d b=commit -b -c !c -d -a a.");
  g_assert_false (belay_check (&failure));
  g_assert_cmpstr (failure->message, ==, "closing a ThingObject: d is stuck");
  return TRUE;
}

/* A guard's close takes the guard's reference only. */
static gboolean
test_object_referenced (gpointer data, GError **error)
{
  ThingObject *kept;
  {
    belay_auto (ThingObject) a = thing_object_new (thing_new ("a"));

    kept = g_object_ref (a);
  }
  assert_log ("+a -a");
  g_assert_cmpint (thing_count.freed, ==, 0);
  g_object_unref (kept);
  g_assert_cmpint (thing_count.freed, ==, 1);
  return TRUE;
}

static void
test_object_outside (void)
{
  {
    belay_auto (ThingObject) a = thing_object_new (thing_new_slow ("a", 5));

    g_assert_nonnull (a);
  }
  assert_log ("+a");
  thing_drain ();
  assert_log ("-a a.");
}

static gboolean
bare_close (gpointer self, BelayReason reason, GError **error)
{
  thing_note ("bare");
  return TRUE;
}

/* All members of a class but the name may be missing. */
static gboolean
test_bare_classes (gpointer data, GError **error)
{
  static const BelayPlainClass nothing = { BELAY_PLAIN_TAG, "Nothing", NULL, NULL, NULL, NULL };
  static const BelayPlainClass bare = { BELAY_PLAIN_TAG, "Bare", bare_close, NULL, NULL, NULL };
  BelayPlain on_stack = { &nothing }, other = { &bare }, *variable = &on_stack;

  g_assert_true (belay_close (&variable, error));
  variable = &other;
  g_assert_true (belay_close (&variable, error));
  variable = &other;
  belay_release (&variable);
  assert_log ("bare bare");
  return TRUE;
}

/* --- L1 and L4 at every checkpoint --- */

static gboolean
acquire_and_release (gpointer data, GError **error)
{
  belay_auto (Thing) a = belay_await (thing_open_in ("a", 1), error);
  if (a == NULL)
    return FALSE;
  a->close_ms = 1;
  belay_auto (Thing) b = belay_await (thing_open ("b"), error);
  if (b == NULL)
    return FALSE;
  if (!belay_yield (error) || !belay_sleep (1, error))
    return FALSE;
  BELAY_WITH (Thing, c, thing_open_in ("c", 2), error)
    {
      c->close_ms = 2;
      if (!belay_yield (error))
        return FALSE;
    }
  else
    return FALSE;
  belay_auto (ThingObject) d = thing_object_new (thing_new ("d"));
  if (!belay_yield (error) || !belay_commit (&d, error))
    return FALSE;
  if (!belay_close (&b, error) || !belay_close (&a, error))
    return FALSE;
  return TRUE;
}

typedef struct
{
  BelayScope *scope;
  guint       yields;
  gint64      milliseconds;
} Canceller;

static gboolean
cancel_after (gpointer data, GError **error)
{
  Canceller *canceller = data;

  if (canceller->milliseconds > 0)
    belay_sleep (canceller->milliseconds, NULL);
  for (guint i = 0; i < canceller->yields; i++)
    belay_yield (NULL);
  belay_scope_cancel (canceller->scope, "the test says so");
  return TRUE;
}

static gboolean
test_every_checkpoint (gpointer data, GError **error)
{
  guint n_ok = 0, n_cancelled = 0;

  for (gint64 ms = 0; ms < 9; ms++)
    for (guint yields = 0; yields < 12; yields++)
      for (guint first = 0; first < 2; first++)
        {
          g_autoptr (GError) failure = NULL;
          belay_auto (BelayScope) scope = belay_scope_new ();
          Canceller canceller = { scope, yields, ms };
          BelayFuture *cancelling = first ? belay_spawn (cancel_after, &canceller) : NULL;

          g_assert_true (belay_scope_spawn (scope, acquire_and_release, NULL, NULL));
          if (!first)
            cancelling = belay_spawn (cancel_after, &canceller);
          if (belay_scope_close (&scope, &failure))
            n_ok++;
          else
            n_cancelled++;
          if (failure != NULL)
            g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
          canceller.scope = belay_scope_new (); /* in case that it has not run yet */
          belay_await_ok (cancelling, NULL);
          g_assert_true (belay_close (&canceller.scope, NULL));
          while (thing_count.freed < thing_count.opened) /* what came too late */
            if (!belay_yield (error))
              return FALSE;
          g_assert_cmpint (thing_count.closed, ==, thing_count.opened);
          g_assert_cmpint (thing_count.abandoned, ==, 0);
        }
  g_assert_cmpuint (n_ok, >, 0);
  g_assert_cmpuint (n_cancelled, >, 10);
  return TRUE;
}

/* --- what is no resource --- */

static gpointer
open_object (gpointer data, GError **error)
{
  return g_object_ref (data);
}

static gboolean
leave_plain (gpointer data, GError **error)
{
  belay_auto (Thing) thing = data;

  return thing != NULL && belay_check (error);
}

static gboolean
leave_object (gpointer data, GError **error)
{
  belay_auto (ThingObject) thing = data;

  return thing != NULL && belay_check (error);
}

static gboolean
test_no_resource (gpointer data, GError **error)
{
  g_autoptr (GObject) object = g_object_new (G_TYPE_OBJECT, NULL);
  Thing empty = { 0 };
  BelayFunc leave[] = { leave_plain, leave_object };

  for (guint i = 0; i < 2; i++)
    {
      g_autoptr (GError) closing = NULL, committing = NULL, leaving = NULL;
      gpointer variable;

      expect_critical ("*no resource*");
      variable = i == 0 ? (gpointer) &empty : g_object_ref (object);
      g_assert_false (belay_close (&variable, &closing));
      g_assert_error (closing, BELAY_ERROR, BELAY_ERROR_MISUSE);
      expect_critical ("*no resource*"); /* the commit */
      expect_critical ("*no resource*"); /* the close after it */
      variable = i == 0 ? (gpointer) &empty : g_object_ref (object);
      g_assert_false (belay_commit (&variable, &committing));
      g_assert_error (committing, BELAY_ERROR, BELAY_ERROR_MISUSE);
      g_assert_cmpuint (belay_errors_get_size (belay_attached_errors ()), ==, 1);
      g_assert_true (belay_check (error));
      expect_critical ("*no resource*");
      leaving = thing_outcome (leave[i], i == 0 ? (gpointer) &empty : g_object_ref (object));
      g_assert_error (leaving, BELAY_ERROR, BELAY_ERROR_MISUSE);
    }
  g_assert_cmpuint (object->ref_count, ==, 1);
  return TRUE;
}

static gboolean
test_open_no_resource (gpointer data, GError **error)
{
  g_autoptr (GObject) object = g_object_new (G_TYPE_OBJECT, NULL);
  g_autoptr (GError) failure = NULL;

  expect_critical ("*is a GObject, which is none*");
  g_assert_null (belay_await (belay_open (open_object, object), &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_cmpuint (object->ref_count, ==, 1);
  return TRUE;
}

/* --- in a handler that a main loop on a fiber's stack runs --- */

typedef struct
{
  GMainContext *context;
  int           priority;
  gboolean      push;     /* @context is the thread's default meanwhile */
  gboolean      handled;
  BelayPromise *promise;
  guint         ticks;
  gboolean      stop;
} Dialog;

static gboolean
tick (gpointer data, GError **error)
{
  Dialog *self = data;

  for (; !self->stop; self->ticks++)
    if (!belay_sleep (1, error))
      return FALSE;
  return TRUE;
}

static gboolean
in_no_fiber (gpointer data)
{
  Dialog *self = data;
  GError *error = NULL;

  g_assert_false (belay_in_fiber ());
  g_assert_true (belay_checkpoint (&error)); /* the fiber below is out of time */
  g_assert_null (belay_scope_current ());
  expect_critical ("*belay_await: waits*");
  g_assert_false (belay_await_ok (belay_future_new_done (), &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&error);
  expect_critical ("*belay_await: waits*");
  g_assert_null (belay_await (belay_promise_get_future (self->promise), &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&error);
  expect_critical ("*belay_sleep: waits*");
  g_assert_false (belay_sleep (10, NULL));
  expect_critical ("*belay_yield: waits*");
  g_assert_false (belay_yield (NULL));
  expect_critical ("*belay_timeout: waits*");
  g_assert_null (belay_timeout (10));
  expect_critical ("*belay_shield: waits*");
  g_assert_null (belay_shield ());
  expect_critical ("*belay_scope_begin: waits*");
  g_assert_null (belay_scope_begin ());
  expect_critical ("*belay_await: waits*");
  BELAY_WITH (Thing, w, thing_open ("w"), &error)
    g_assert_not_reached ();
  else
    g_assert_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&error);
  {
    belay_auto (Thing) a = thing_new_slow ("a", 10);
    belay_auto (Thing) b = thing_new ("b");
    belay_auto (BelayScope) scope = belay_scope_new ();

    g_assert_true (belay_scope_defer (scope, note_func, "deferred"));
    thing_note ("%s", a != NULL && b != NULL ? "body" : "?");
  }
  belay_future_unref (belay_spawn (note_func, "spawned"));
  thing_note ("handled");
  self->handled = TRUE;
  return G_SOURCE_REMOVE;
}

/* A fiber that has been covered is itself again, whatever the loop did; and so is one that ends, or waits, at once. */
static gboolean
nest (gpointer data, GError **error)
{
  Dialog *self = data;
  BelayFuture *ticker = belay_spawn (tick, self);
  GSource *source = g_idle_source_new ();
  guint before;

  self->promise = belay_promise_new ();
  self->handled = self->stop = FALSE;
  g_source_set_priority (source, self->priority);
  g_source_set_callback (source, in_no_fiber, self, NULL);
  g_source_attach (source, self->context);
  g_source_unref (source);
  if (!belay_sleep (5, error))
    return FALSE;
  before = self->ticks;
  {
    belay_auto (BelayTimeout) timeout = belay_timeout (0);

    g_assert_nonnull (timeout);
    if (self->push)
      g_main_context_push_thread_default (self->context);
    while (!self->handled || (self->context == NULL && self->ticks == before))
      g_main_context_iteration (self->context, TRUE);
    while (self->push && strstr (thing_log (), " a.") == NULL)
      g_main_context_iteration (self->context, TRUE);
    if (self->push)
      g_main_context_pop_thread_default (self->context);
    g_assert_false (belay_checkpoint (NULL));
  }
  g_assert_true (belay_in_fiber ());
  g_assert_true (belay_promise_resolve (self->promise)); /* nothing was lost by the await that was refused */
  belay_promise_unref (self->promise);
  self->stop = TRUE;
  return belay_await_ok (ticker, error);
}

/* The loop is the last thing that the fiber does. */
static gpointer
nest_and_end (gpointer data, GError **error)
{
  g_main_context_iteration (NULL, FALSE);
  return data;
}

/* By the end of the fiber, when it has left its stack. */
static void
assert_in_no_fiber (gpointer data)
{
  g_assert_false (belay_in_fiber ());
  *(gboolean *) data = TRUE;
}

/* From here on the main context has to do with us. */
static gpointer
acquaint (gpointer context)
{
  g_autoptr (BelayFuture) future = NULL;

  g_main_context_push_thread_default (context);
  future = belay_spawn (sleep_func, NULL);
  while (belay_future_is_pending (future))
    g_main_context_iteration (context, TRUE);
  g_main_context_pop_thread_default (context);
  return NULL;
}

static gboolean
test_nested_handler (gpointer data, GError **error)
{
  g_autoptr (GMainContext) other = g_main_context_new ();
  Dialog dialogs[] = { { NULL, G_PRIORITY_DEFAULT, FALSE }, { NULL, G_PRIORITY_HIGH, FALSE }, { NULL, G_MININT, FALSE },
                       { other, G_PRIORITY_HIGH, FALSE }, { other, G_PRIORITY_DEFAULT, TRUE } };
  gboolean destroyed = FALSE;

  g_thread_join (g_thread_new ("acquaint", acquaint, other));
  for (guint i = 0; i < G_N_ELEMENTS (dialogs); i++)
    {
      g_assert_true (belay_await_ok (belay_spawn (nest, &dialogs[i]), error));
      g_assert_true (belay_sleep (30, error));
      g_assert_cmpint (thing_count.opened, ==, thing_count.freed);
      g_assert_cmpuint (belay_get_n_pending (), ==, 1); /* this test */
      g_test_message ("%u: %s", i, thing_log ());
      g_assert_nonnull (strstr (thing_log (), "body handled "));
      g_assert_nonnull (strstr (thing_log (), " deferred"));
      g_assert_true (strstr (thing_log (), " deferred") < strstr (thing_log (), " -b"));
      g_assert_true (strstr (thing_log (), " -b") < strstr (thing_log (), " -a"));
      g_assert_nonnull (strstr (thing_log (), " a."));
      g_assert_nonnull (strstr (thing_log (), " spawned"));
      thing_clear_log ();
    }
  belay_future_unref (belay_spawn_value (nest_and_end, &destroyed, assert_in_no_fiber));
  g_assert_true (belay_sleep (1, error));
  g_assert_true (destroyed);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/guard/L1-released-by-return", test_return);
  thing_add_test ("/guard/L1-released-by-falling-off", test_fall_off);
  thing_add_test ("/guard/L1-released-by-break", test_break);
  thing_add_test ("/guard/L1-released-by-continue", test_continue);
  thing_add_test ("/guard/L1-released-by-goto-out", test_goto_out);
  thing_add_test ("/guard/L13-rearmed-by-goto-back", test_goto_back);
  thing_add_test ("/guard/L13-rearmed-by-goto-back-in-the-same-block", test_goto_back_same_block);
  thing_add_test ("/guard/released-in-a-switch", test_switch);
  thing_add_test ("/guard/released-through-nested-calls", test_nested_calls);
  thing_add_test ("/guard/keeps-errno", test_errno);
  thing_add_test ("/guard/L2-newest-first-and-awaited", test_newest_first);
  thing_add_test ("/guard/L13-null-holds-nothing", test_null);
  thing_add_test ("/guard/L13-variable-is-reset-before-its-release", test_reset_first);
  thing_add_test ("/guard/L14-steal-disarms", test_steal);
  thing_add_test ("/guard/L14-early-release-keeps-the-order", test_early_release);
  thing_add_test ("/guard/L8-reasons", test_reasons);
  thing_add_test ("/guard/L8-one-reason-for-all", test_one_reason);
  thing_add_test ("/guard/L8-a-time-out-is-the-reason-inside-of-it", test_reason_of_timeout);
  thing_add_test ("/guard/L9-error-goes-to-check", test_error_to_check);
  thing_add_test ("/guard/L9-check-counts-errors", test_error_count);
  thing_add_test ("/guard/L9-error-goes-to-the-scopes-close", test_error_to_scope);
  thing_add_test ("/guard/L9-error-goes-to-the-fibers-result", test_error_to_result);
  thing_add_test ("/guard/L9-value-of-a-fiber-that-failed-so-is-destroyed", test_value_destroyed);
  thing_add_test ("/guard/L9-check-keeps-the-bodys-error", test_check_after_failure);
  thing_add_test ("/guard/L9-body-error-is-first", test_body_first);
  thing_add_test ("/guard/close-says-how-it-went", test_close);
  thing_add_test ("/guard/close-that-fails-without-an-error", test_close_misuse);
  thing_add_test ("/guard/L6-close-in-a-cancelled-scope", test_close_in_cancelled);
  thing_add_test ("/guard/L6-close-after-the-deadline", test_close_after_deadline);
  thing_add_test ("/guard/L7-hanging-close-is-abandoned-once", test_hanging_close);
  thing_add_test ("/guard/L7-releases-after-a-hanging-one-run", test_hanging_releases);
  thing_add_test ("/guard/L7-close-that-ignores-its-deadline", test_stubborn_close);
  thing_add_test ("/guard/L7-release-deadline-of-the-scope", test_own_release_timeout);
  thing_add_test ("/guard/L7-limits-inside-a-close", test_inner_limits);
  thing_add_test ("/guard/L6-checkpoints-work-in-a-release", test_shielded);
  thing_add_test ("/guard/L23-children-of-a-release-are-not-cancelled", test_children_in_release);
  thing_add_test ("/guard/L7-hanging-child-of-a-release", test_hanging_child_in_release);
  thing_add_test ("/guard/L7-child-that-a-release-leaves-hanging", test_child_alone);
  thing_add_test ("/guard/commit-says-how-it-went", test_commit);
  thing_add_test ("/guard/L20-commit-in-a-cancelled-scope-discards", test_commit_in_cancelled);
  thing_add_test ("/guard/commit-that-began-is-shielded", test_commit_shielded);
  thing_add_test ("/guard/L9-commit-whose-close-fails", test_commit_then_close_fails);
  thing_add_test ("/guard/L13-commit-of-nothing", test_commit_misuse);
  thing_add_test ("/guard/L13-commit-of-a-permit-a-time-out-and-a-shield", test_commit_hot);
  thing_add_test ("/guard/L45-commit-that-began-is-not-cut-off", test_commit_unbounded);
  thing_add_test ("/guard/commit-may-bound-itself", test_commit_bounds_itself);
  thing_add_test ("/guard/close-start-gives-the-outcome", test_close_start);
  thing_add_test ("/guard/L9-close-start-dropped", test_close_start_dropped);
  thing_add_test ("/guard/L6-close-start-in-a-cancelled-scope", test_close_start_in_cancelled);
  thing_add_test ("/with/falls-off-its-end", test_with);
  thing_add_test ("/with/one-statement-without-else", test_with_statement);
  thing_add_test ("/with/open-fails", test_with_open_fails);
  thing_add_test ("/with/close-fails", test_with_close_fails);
  thing_add_test ("/with/L9-body-and-close-fail", test_with_both_fail);
  thing_add_test ("/with/L8-body-fails", test_with_body_fails);
  thing_add_test ("/with/break", test_with_break);
  thing_add_test ("/with/continue", test_with_continue);
  thing_add_test ("/with/return-and-goto", test_with_return);
  thing_add_test ("/with/nested-in-a-loop", test_with_nested);
  thing_add_test ("/with/cancelled", test_with_cancelled);
  thing_add_test ("/guard/permit", test_permit);
  thing_add_test ("/guard/timeout", test_timeout_guard);
  thing_add_test ("/guard/L34-timeout-of-another-fiber", test_timeout_of_another_fiber);
  thing_add_test ("/guard/shield", test_shield_guard);
  thing_add_plain_test ("/outside/L2-scheduled-newest-first", test_outside);
  thing_add_plain_test ("/outside/different-dispatches-are-independent", test_outside_twice);
  thing_add_plain_test ("/outside/L9-error-goes-to-the-sink", test_outside_error);
  thing_add_plain_test ("/outside/close-is-scheduled-commit-refused", test_outside_close);
  thing_add_plain_test ("/outside/L8-close-of-a-scope-waits-for-its-children", test_outside_close_scope);
  thing_add_plain_test ("/outside/L7-one-close-waits-for-another", test_outside_one_waits_for_another);
  thing_add_plain_test ("/outside/hot-guards", test_outside_hot);
  thing_add_plain_test ("/outside/close-start", test_outside_close_start);
  thing_add_plain_test ("/outside/L15-plain-thread", test_plain_thread);
  thing_add_plain_test ("/outside/L15-value-dropped-on-a-thread", test_value_dropped_on_thread);
  thing_add_test ("/object/verbs", test_object);
  thing_add_test ("/object/others-may-hold-references", test_object_referenced);
  thing_add_plain_test ("/object/outside-a-fiber", test_object_outside);
  thing_add_test ("/plain/classes-may-be-bare", test_bare_classes);
  thing_add_test ("/guard/L1-L4-cancelled-at-every-checkpoint", test_every_checkpoint);
  thing_add_test ("/guard/L13-release-of-what-is-no-resource", test_no_resource);
  thing_add_test ("/guard/L13-open-gives-what-is-no-resource", test_open_no_resource);
  thing_add_test ("/guard/L15-handlers-of-a-nested-main-loop", test_nested_handler);
  return g_test_run ();
}
