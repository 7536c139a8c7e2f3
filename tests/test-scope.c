/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scopes: exit stack, cancel scope and task group in one; time-outs and shields. */
#include "thing.h"

/* --- what the tests share --- */

static void
count_destroyed (gpointer data)
{
  g_atomic_int_inc ((int *) data);
}

/* Cancels a scope at an instant. */
typedef struct
{
  BelayScope *scope;
  gint64      milliseconds;
} Cancel;

static gboolean
cancel_in (gpointer data, GError **error)
{
  Cancel *cancel = data;

  if (!belay_sleep (cancel->milliseconds, error))
    return FALSE;
  belay_scope_cancel (cancel->scope, "enough");
  return TRUE;
}

/* A child that fails after a while. */
typedef struct
{
  const char *name;
  gint64      milliseconds;
  gint64      clean_up_ms; /* what it does after it was cancelled */
  gboolean    fails;
} Child;

static gboolean
child_func (gpointer data, GError **error)
{
  Child *child = data;

  if (!belay_sleep (child->milliseconds, error))
    {
      belay_auto (BelayShield) shield = belay_shield ();

      if (shield != NULL && child->clean_up_ms > 0)
        belay_sleep (child->clean_up_ms, NULL);
      thing_note ("%s:stopped", child->name);
      return FALSE;
    }
  thing_note ("%s:%s", child->name, child->fails ? "failed" : "done");
  if (child->fails)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s failed", child->name);
  return !child->fails;
}

/* A BelayFunc as a function that makes a value, itself. */
static gpointer
call_func (gpointer data, GError **error)
{
  return ((BelayFunc) data) (NULL, error) ? data : NULL;
}

static gboolean
note_and_fail (gpointer data, GError **error)
{
  thing_note ("%s", (const char *) data);
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s failed", (const char *) data);
  return FALSE;
}

/* --- the exit stack --- */

static gboolean
test_newest_first (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  gint64 begin = now_ms ();

  g_assert_nonnull (belay_enter (scope, thing_open_in ("a", 1), error));
  g_assert_true (belay_scope_defer (scope, note_func, "deferred"));
  g_assert_true (belay_scope_adopt (scope, thing_new_slow ("b", 30), error));
  g_assert_true (belay_scope_adopt (scope, thing_object_new (thing_new_slow ("c", 10)), error));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_null (scope);
  g_assert_cmpint (now_ms () - begin, ==, 41);
  g_assert_cmpstr (thing_reasons (), ==, "c:ok b:ok a:ok");
  assert_log ("+a +b +c -c c. -b b. deferred -a");
  return TRUE;
}

static gboolean
test_all_run (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayErrors *errors;

  kept = belay_scope_ref (scope);
  belay_scope_adopt (scope, thing_new ("a"), NULL);
  belay_scope_adopt (scope, thing_new_failing ("b", "b is stuck"), NULL);
  belay_scope_defer (scope, note_and_fail, "c");
  belay_scope_adopt (scope, thing_new_hanging ("d"), NULL);
  belay_scope_adopt (scope, thing_new ("e"), NULL);
  g_assert_false (belay_scope_close (&scope, &failure));
  assert_log ("+a +b +d +e -e -d !d c -b -a");
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_true (g_str_has_suffix (failure->message, " (and 2 more)"));
  errors = belay_scope_get_errors (kept);
  g_assert_cmpuint (belay_errors_get_size (errors), ==, 3);
  g_assert_error (belay_errors_get (errors, 0), BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpstr (belay_errors_get (errors, 1)->message, ==, "c failed");
  g_assert_cmpstr (belay_errors_get (errors, 2)->message, ==, "b is stuck");
  return TRUE;
}

static gboolean
fail_without_error (gpointer data, GError **error)
{
  return FALSE;
}

static gboolean
succeed_with_error (gpointer data, GError **error)
{
  fail_func ("what?", error);
  return TRUE;
}

static gboolean
test_misuse_runs_on (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new ("a"), NULL);
  belay_scope_defer (scope, fail_without_error, NULL);
  belay_scope_defer (scope, succeed_with_error, NULL);
  expect_critical ("*returned success and an error: what?*");
  expect_critical ("*returned failure without an error*");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_cmpstr (failure->message, ==, "what? (and 1 more)");
  assert_log ("+a -a");
  return TRUE;
}

static gboolean
test_empty (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);

  g_assert_true (belay_scope_current () == scope);
  g_assert_false (belay_scope_is_cancelled (scope));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_true (belay_scope_current () != kept);
  g_assert_cmpuint (belay_errors_get_size (belay_scope_get_errors (kept)), ==, 0);
  return TRUE;
}

/* What cannot be released is refused when it is given, not at the exit. */
static gboolean
test_validation (gpointer data, GError **error)
{
  g_autoptr (GError) wrong = NULL, future_wrong = NULL, classless = NULL;
  g_autoptr (GObject) object = g_object_new (G_TYPE_OBJECT, NULL);
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayPlain plain = { NULL };

  g_assert_true (belay_scope_adopt (scope, NULL, error));
  expect_critical ("*is a GObject, which is none*");
  g_assert_false (belay_scope_adopt (scope, g_object_ref (object), &wrong));
  g_assert_error (wrong, BELAY_ERROR, BELAY_ERROR_MISUSE);
  expect_critical ("*is a GObject, which is none*");
  g_assert_null (belay_enter (scope, belay_future_new_object (object), &future_wrong));
  g_assert_error (future_wrong, BELAY_ERROR, BELAY_ERROR_MISUSE);
  expect_critical ("*a struct without a class*");
  g_assert_false (belay_scope_adopt (scope, &plain, &classless));
  g_assert_error (classless, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_cmpuint (object->ref_count, ==, 1);
  return belay_scope_close (&scope, error);
}

static gboolean
test_nested (gpointer data, GError **error)
{
  belay_auto (BelayScope) outer = belay_scope_begin ();
  BelayScope *stored = belay_scope_new ();

  g_assert_true (belay_scope_adopt (outer, thing_new ("a"), error));
  g_assert_true (belay_scope_adopt (stored, thing_new ("b"), error));
  g_assert_true (belay_scope_adopt (outer, stored, error)); /* a scope is a resource, too */
  g_assert_true (belay_scope_adopt (outer, thing_new ("c"), error));
  {
    belay_auto (BelayScope) inner = belay_scope_begin ();

    g_assert_true (belay_scope_current () == inner);
    g_assert_true (belay_scope_adopt (inner, thing_new ("d"), error));
  }
  g_assert_true (belay_scope_close (&outer, error));
  assert_log ("+a +b +c +d -d -c -b -a");
  return TRUE;
}

#define MANY 50000

static guint next_of_many;

static gboolean
count_down (gpointer data, GError **error)
{
  g_assert_cmpuint (GPOINTER_TO_UINT (data), ==, --next_of_many);
  return TRUE;
}

static gboolean
test_many (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (next_of_many = 0; next_of_many < MANY; next_of_many++)
    g_assert_true (belay_scope_defer (scope, count_down, GUINT_TO_POINTER (next_of_many)));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpuint (next_of_many, ==, 0);
  return TRUE;
}

/* --- acquiring into it --- */

static gboolean
enter_two (gpointer data, GError **error)
{
  BelayScope *scope = data;

  return belay_enter (scope, thing_open_in ("a", 2), error) != NULL &&
         belay_yield (error) &&
         belay_enter (scope, thing_open ("b"), error) != NULL &&
         belay_enter (scope, thing_open_in ("c", 2), error) != NULL;
}

/* Each way to be interrupted, at each instant: what was opened is released, and nothing twice. */
static gboolean
test_no_gap (gpointer data, GError **error)
{
  guint n_complete = 0, n_rounds = 0;

  for (gint64 ms = 0; ms < 6; ms++)
    for (guint way = 0; way < 4; way++)
      {
        g_autoptr (GError) failure = NULL;
        belay_auto (BelayScope) group = belay_scope_new ();
        belay_auto (BelayScope) scope = belay_scope_new ();
        Cancel cancel = { group, ms };
        BelayFuture *cancelling = way % 2 == 0 ? belay_spawn (cancel_in, &cancel) : NULL;

        g_assert_true (belay_scope_spawn (group, enter_two, scope, NULL));
        if (way == 1)
          cancelling = belay_spawn (cancel_in, &cancel);
        else if (way == 3)
          belay_scope_set_timeout (group, ms);
        if (belay_scope_close (&group, &failure))
          n_complete++;
        else if (way == 3)
          g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
        else
          g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
        if (cancelling != NULL)
          {
            cancel.scope = belay_scope_ref (scope); /* whom a late one cancels: nobody minds */
            g_assert_true (belay_await_ok (cancelling, error));
            belay_scope_unref (cancel.scope);
          }
        belay_scope_close (&scope, NULL);
        while (thing_count.freed < thing_count.opened)
          if (!belay_sleep (1, error))
            return FALSE;
        g_assert_cmpint (thing_count.closed, ==, thing_count.opened);
        g_assert_cmpint (thing_count.abandoned, ==, 0);
        n_rounds++;
      }
  g_assert_cmpuint (n_complete, >, 0);
  g_assert_cmpuint (n_complete, <, n_rounds);
  return TRUE;
}

static gboolean
late_body (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (5);
  belay_auto (Thing) a = belay_await (thing_open_in ("a", 10), error);

  g_assert_true (belay_timeout_expired (limit));
  return a != NULL;
}

static gpointer
open_stubbornly (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  belay_sleep (10, NULL);
  return shield != NULL ? thing_new_slow ("a", 10) : NULL;
}

static gboolean
stubborn_body (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (5);
  belay_auto (Thing) a = belay_await (belay_open_owned (open_stubbornly, g_strdup ("its own"), g_free), error);

  return limit == NULL || a != NULL;
}

/* A value that comes when its waiter has left is released by the library, and counted as pending until it is. */
static gboolean
test_late_value (gpointer data, GError **error)
{
  g_autoptr (GError) first = thing_outcome (late_body, NULL), second = NULL;
  gint64 begin;

  g_assert_error (first, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (belay_sleep (20, error));
  assert_log (""); /* its opening was cancelled */

  begin = now_ms ();
  second = thing_outcome (stubborn_body, NULL);
  g_assert_error (second, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 5); /* the waiter does not wait for it */
  g_assert_cmpuint (belay_get_n_pending (), >, 1);
  g_assert_true (belay_sleep (6, error));
  assert_log ("+a -a");
  g_assert_cmpuint (belay_get_n_pending (), >, 1);
  g_assert_true (belay_sleep (10, error));
  assert_log ("a.");
  g_assert_cmpuint (belay_get_n_pending (), ==, 1); /* this fiber */
  return TRUE;
}

static gboolean
shielded_acquire (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  belay_scope_cancel (belay_scope_current (), "enough");
  {
    belay_auto (Thing) a = belay_await (thing_open_in ("a", 10), error);
    g_assert_nonnull (a);
  }
  {
    belay_auto (BelayTimeout) own = belay_timeout (5);
    belay_auto (Thing) b = belay_await (thing_open_in ("b", 10), NULL);

    g_assert_null (b);
    g_assert_true (belay_timeout_expired (own));
  }
  g_assert_true (belay_close (&shield, error));
  return belay_checkpoint (error);
}

static gboolean
test_shielded_acquire (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (shielded_acquire, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("+a -a");
  return TRUE;
}

/* --- release --- */

static gboolean
slow_deferred (gpointer data, GError **error)
{
  g_assert_true (belay_checkpoint (error));
  g_assert_true (belay_sleep (10, error));
  thing_note ("deferred");
  return TRUE;
}

static gboolean
cancelled_with_entries (gpointer data, GError **error)
{
  belay_scope_defer (belay_scope_current (), slow_deferred, NULL);
  belay_scope_adopt (belay_scope_current (), thing_new_slow ("a", 10), NULL);
  if (data != NULL)
    belay_scope_set_timeout (belay_scope_current (), 1);
  else
    belay_scope_cancel (belay_scope_current (), "enough");
  return belay_sleep (5, error);
}

static gboolean
test_release_is_shielded (gpointer data, GError **error)
{
  g_autoptr (GError) cancelled = thing_outcome (cancelled_with_entries, NULL);
  g_autoptr (GError) late = thing_outcome (cancelled_with_entries, "late");

  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpstr (thing_reasons (), ==, "a:cancelled a:deadline");
  assert_log ("+a -a a. deferred +a -a a. deferred");
  return TRUE;
}

/* Cancelled while the releases run: they do not notice. */
static gboolean
cancelled_in_release (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_current ();
  Cancel *cancel = data;

  cancel->scope = scope;
  belay_scope_adopt (scope, thing_new_slow ("a", 20), NULL);
  belay_scope_adopt (scope, thing_new_slow ("b", 20), NULL);
  return TRUE;
}

static gboolean
test_cancelled_in_release (gpointer data, GError **error)
{
  Cancel cancel = { NULL, 10 };
  BelayFuture *body = belay_spawn (cancelled_in_release, &cancel);

  g_assert_true (belay_yield (error));
  g_assert_true (belay_sleep (10, error));
  belay_scope_cancel (cancel.scope, "too late");
  g_assert_true (belay_await_ok (body, error)); /* it had succeeded */
  assert_log ("+a +b -b b. -a a.");
  return TRUE;
}

static gboolean
test_hanging_deferred (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  gint64 begin = now_ms ();

  belay_scope_set_release_timeout (scope, 700);
  belay_scope_adopt (scope, thing_new ("a"), NULL);
  belay_scope_defer (scope, wait_func, NULL);
  belay_scope_adopt (scope, thing_new_hanging ("b"), NULL);
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 1400);
  assert_log ("+a +b -b !b -a");
  return TRUE;
}

/* --- releases are bounded --- */

/* What ended by force, and after how long. */
static gboolean
closes_by_force (BelayScope **scope, gint64 milliseconds)
{
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  return !belay_scope_close (scope, &failure) && g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT) &&
         now_ms () - begin == milliseconds;
}

/* A child that was there before its release had suspended for the first time. */
static gboolean
spawn_and_yield (gpointer data, GError **error)
{
  belay_future_unref (belay_spawn (wait_func, NULL));
  return belay_yield (error);
}

static gboolean
spawn_and_iterate (gpointer data, GError **error)
{
  belay_future_unref (belay_spawn (wait_func, NULL));
  for (guint i = 0; i < 20; i++)
    g_main_context_iteration (NULL, FALSE);
  return TRUE;
}

static gboolean
test_child_before_first_wait (gpointer data, GError **error)
{
  BelayFunc funcs[] = { spawn_and_yield, spawn_and_iterate };

  for (guint i = 0; i < G_N_ELEMENTS (funcs); i++)
    {
      belay_auto (BelayScope) scope = belay_scope_begin ();

      belay_scope_set_release_timeout (scope, 200);
      belay_scope_defer (scope, funcs[i], NULL);
      g_assert_true (closes_by_force (&scope, 200));
    }
  return TRUE;
}

/* In real time: what polls lets no virtual time pass. */
static gboolean
poll_by_yield (gpointer data, GError **error)
{
  while (belay_yield (error))
    ;
  return FALSE;
}

static gboolean
poll_by_checkpoint (gpointer data, GError **error)
{
  while (belay_checkpoint (error))
    ;
  return FALSE;
}

static gboolean
poll_in_release (gpointer func, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_set_release_timeout (scope, 30);
  belay_scope_defer (scope, func, NULL);
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  return TRUE;
}

static void
test_polling (void)
{
  const char *debug = g_getenv ("BELAY_DEBUG");

  if (!g_test_subprocess ())
    {
      g_autofree char *kept = g_strdup (debug);

      g_setenv ("BELAY_DEBUG", "", TRUE);
      g_test_trap_subprocess (NULL, 20 * G_USEC_PER_SEC, 0);
      g_setenv ("BELAY_DEBUG", kept, TRUE);
      g_test_trap_assert_passed ();
      return;
    }
  g_assert_cmpint (belay_run (poll_in_release, poll_by_yield), ==, 0);
  g_assert_cmpint (belay_run (poll_in_release, poll_by_checkpoint), ==, 0);
}

/* A shield of the release's own, or of a child of it, does not hide its time. */
static gboolean
wait_in_shield (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  return belay_sleep (1, error) && wait_func (NULL, error);
}

static gboolean
child_waits_in_shield (gpointer data, GError **error)
{
  return belay_await_ok (belay_spawn (wait_in_shield, NULL), error);
}

/* It ends waits only: what nobody waits for can still be started in a shield. */
static gboolean
start_in_shield (gpointer data, GError **error)
{
  if (!wait_func (NULL, error))
    {
      belay_auto (BelayShield) shield = belay_shield ();

      *(BelayFuture **) data = thing_open_in ("a", 0);
      return FALSE;
    }
  return TRUE;
}

static gboolean
test_shield_in_release (gpointer data, GError **error)
{
  BelayFunc funcs[] = { wait_in_shield, child_waits_in_shield };

  for (guint i = 0; i < G_N_ELEMENTS (funcs); i++)
    {
      belay_auto (BelayScope) scope = belay_scope_begin ();

      belay_scope_set_release_timeout (scope, 100);
      belay_scope_defer (scope, funcs[i], NULL);
      g_assert_true (closes_by_force (&scope, 100));
    }
  {
    BelayFuture *started = NULL;
    belay_auto (BelayScope) scope = belay_scope_begin ();
    belay_auto (Thing) thing = NULL;

    belay_scope_set_release_timeout (scope, 100);
    belay_scope_defer (scope, start_in_shield, &started);
    g_assert_true (closes_by_force (&scope, 100));
    thing = belay_await (started, error);
    return thing != NULL;
  }
}

/* A stored scope with a child that takes its time to end, closed in a release. */
static gboolean
close_scope (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_ref (data);

  return belay_scope_close (&scope, error);
}

static gboolean
close_and_note (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  close_scope (data, &failure);
  thing_note ("%s", failure == NULL ? "closed" : failure->code == BELAY_ERROR_MISUSE ? "misuse" : "late");
  return TRUE;
}

static gboolean
test_close_in_release (gpointer data, GError **error)
{
  Child child = { "child", G_MAXINT64, 50 };
  g_autoptr (GError) cancelled = NULL;
  g_autoptr (BelayScope) stored = belay_scope_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  guint n_pending = belay_get_n_pending ();

  belay_scope_adopt (stored, thing_new ("a"), NULL);
  g_assert_true (belay_scope_spawn (stored, child_func, &child, NULL));
  g_assert_true (belay_yield (error));
  belay_scope_set_release_timeout (scope, 200);
  belay_scope_defer (scope, close_scope, stored);
  g_assert_true (closes_by_force (&scope, 200));
  g_assert_true (belay_scope_is_cancelled (stored));
  assert_log ("+a");
  g_assert_cmpuint (belay_get_n_pending (), ==, n_pending + 1); /* what is left of it */
  g_assert_false (close_scope (stored, &cancelled));
  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("child:stopped -a");
  return belay_yield (error);
}

/* Nor is a release held up by the close of another closer, nor by one that is done at another home. */
static gboolean
slow_to_close (gpointer data, GError **error)
{
  return belay_sleep (20, error) && close_scope (*(BelayScope **) data, error);
}

static gboolean
test_close_each_other (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL, other = NULL;
  g_autoptr (BelayScope) a = belay_scope_new (), b = belay_scope_new ();
  g_autoptr (BelayFuture) closing = NULL;
  gint64 begin = now_ms ();

  belay_scope_set_release_timeout (a, 200);
  belay_scope_set_release_timeout (b, 200);
  belay_scope_defer (a, slow_to_close, &b);
  belay_scope_defer (b, slow_to_close, &a);
  closing = belay_spawn (close_scope, a);
  g_assert_false (close_scope (b, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_false (belay_await_ok (belay_future_ref (closing), &other));
  g_assert_error (other, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 200);
  return TRUE;
}

static gboolean
close_by_child (gpointer data, GError **error)
{
  return belay_await_ok (belay_spawn (close_and_note, data), error);
}

static gboolean
test_close_from_child_of_release (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_defer (scope, close_by_child, scope);
  expect_critical ("*closed from inside of its own close*");
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("misuse");
  return TRUE;
}

/* A child of the release that closes a scope is no part of that scope's releases. */
static gboolean
close_with_rival (gpointer data, GError **error)
{
  g_autoptr (BelayFuture) rival = belay_spawn (close_and_note, data);

  return close_scope (data, error) && belay_await_ok (belay_future_ref (rival), error);
}

static gboolean
test_closers_in_one_release (gpointer data, GError **error)
{
  g_autoptr (BelayScope) stored = belay_scope_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (stored, thing_new_slow ("a", 10), NULL);
  belay_scope_defer (scope, close_with_rival, stored);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+a -a a. closed");
  return TRUE;
}

static gboolean
test_one_reason (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new ("a"), NULL);
  belay_scope_adopt (scope, thing_new_failing ("b", "b is stuck"), NULL);
  belay_scope_adopt (scope, thing_new ("c"), NULL);
  g_assert_false (belay_scope_close (&scope, NULL));
  g_assert_cmpstr (thing_reasons (), ==, "c:ok b:ok a:ok");
  return TRUE;
}

static gboolean
fail_with_entry (gpointer data, GError **error)
{
  belay_scope_adopt (belay_scope_current (), thing_new ("a"), NULL);
  return data == NULL || fail_func (data, error);
}

static gboolean
leave_with_entry (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new ("b"), NULL);
  return TRUE;
}

/* A fiber's result is a word; a scope that is left without one gets LEFT. */
static gboolean
test_reasons (gpointer data, GError **error)
{
  g_autoptr (GError) ok = thing_outcome (fail_with_entry, NULL);
  g_autoptr (GError) failed = thing_outcome (fail_with_entry, "no");
  g_autoptr (GError) left = thing_outcome (leave_with_entry, NULL);

  g_assert_no_error (ok);
  g_assert_error (failed, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_no_error (left);
  g_assert_cmpstr (thing_reasons (), ==, "a:ok a:error b:left");
  return TRUE;
}

/* --- errors --- */

static gboolean
cancelled_and_stuck (gpointer data, GError **error)
{
  belay_scope_adopt (belay_scope_current (), thing_new_failing ("a", "a is stuck"), NULL);
  belay_scope_cancel (belay_scope_current (), "enough");
  if (data == NULL)
    return belay_sleep (1, error);
  belay_sleep (1, NULL);
  if (*(const char *) data == '\0')
    return TRUE; /* as if nothing had been */
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, data);
  return FALSE;
}

/* Neither the body, nor a release, nor its success can hide a cancellation that was observed. */
static gboolean
test_cancellation_not_hidden (gpointer data, GError **error)
{
  const char *ways[] = { NULL, "", "no such page" };

  for (guint i = 0; i < G_N_ELEMENTS (ways); i++)
    {
      g_autoptr (GError) failure = thing_outcome (cancelled_and_stuck, (gpointer) ways[i]);

      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_true (g_str_has_prefix (failure->message, "enough"));
      assert_attached (i == 2 ? "no such page; a is stuck" : "a is stuck");
    }
  return TRUE;
}

static gboolean
ignore_cancellation (gpointer data, GError **error)
{
  belay_sleep (1000, NULL);
  return TRUE;
}

static gboolean
cancelled_without_scope (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayFuture) child = belay_spawn (ignore_cancellation, NULL);

  g_assert_true (belay_sleep (1, error));
  if (data != NULL)
    belay_scope_set_timeout (scope, 1);
  else
    belay_scope_cancel (scope, "enough");
  belay_scope_close (&scope, NULL);
  return belay_future_check (child, error);
}

/* The same in a fiber that has no scope of its own. */
static gboolean
test_result_of_interrupted (gpointer data, GError **error)
{
  g_autoptr (GError) cancelled = thing_outcome (cancelled_without_scope, NULL);
  g_autoptr (GError) late = thing_outcome (cancelled_without_scope, "late");

  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (cancelled->message, ==, "enough");
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  return TRUE;
}

/* TRUE without an observed cancellation is success. */
static gboolean
not_observed (gpointer data, GError **error)
{
  belay_scope_adopt (belay_scope_current (), thing_new ("a"), NULL);
  belay_scope_cancel (belay_scope_current (), "enough");
  return TRUE;
}

static gboolean
test_not_observed (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (not_observed, NULL);

  g_assert_no_error (failure);
  g_assert_cmpstr (thing_reasons (), ==, "a:ok");
  return TRUE;
}

/* A scope that is closed after a cancellation says so first, and has all the rest. */
static gboolean
test_errors_of_cancelled (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayErrors *errors;

  kept = belay_scope_ref (scope);
  belay_scope_adopt (scope, thing_new_failing ("a", "a is stuck"), NULL);
  belay_scope_adopt (scope, thing_new_failing ("b", "b is stuck"), NULL);
  {
    belay_auto (Thing) guard = thing_new_failing ("c", "c is stuck");

    g_assert_nonnull (guard);
  }
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_sleep (1, NULL));
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (failure->message, ==, "enough (and 3 more)");
  errors = belay_scope_get_errors (kept);
  g_assert_cmpuint (belay_errors_get_size (errors), ==, 4);
  g_assert_error (belay_errors_get (errors, 0), G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (belay_errors_get (errors, 1)->message, ==, "closing a BelayTestResource: c is stuck");
  g_assert_cmpstr (belay_errors_get (errors, 2)->message, ==, "b is stuck");
  g_assert_cmpstr (belay_errors_get (errors, 3)->message, ==, "a is stuck");
  return TRUE;
}

static gboolean
leave_cancelled_scope (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new_failing ("a", "a is stuck"), NULL);
  if (data != NULL)
    belay_scope_set_timeout (scope, 1);
  else
    belay_scope_cancel (scope, "enough");
  belay_sleep (2, NULL);
  return TRUE;
}

/* Left without a word, the interruption stays inside (the body saw it), and what else failed does not. */
static gboolean
test_leaving_interrupted (gpointer data, GError **error)
{
  g_autoptr (GError) cancelled = thing_outcome (leave_cancelled_scope, NULL);
  g_autoptr (GError) late = thing_outcome (leave_cancelled_scope, "late");

  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (cancelled->message, ==, "closing a BelayScope: a is stuck");
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_FAILED);
  return TRUE;
}

static gboolean
enter_site (gpointer data, GError **error)
{
  return belay_enter (belay_scope_current (), belay_resource_future (thing_new_failing ("a", "a is stuck")), error) != NULL;
}

static gboolean
test_site (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (enter_site, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_nonnull (strstr (failure->message, "test-scope.c:"));
  g_assert_true (g_str_has_suffix (failure->message, ": a is stuck"));
  return TRUE;
}

/* The error of a step works the same when nobody gives a place for it. */
static gboolean
test_null_error (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_defer (scope, note_and_fail, "a");
  g_assert_false (belay_scope_close (&scope, NULL));
  g_assert_false (belay_sleep (-1, NULL) == FALSE);
  scope = belay_scope_begin ();
  belay_scope_cancel (scope, NULL);
  g_assert_false (belay_checkpoint (NULL));
  g_assert_false (belay_sleep (1, NULL));
  g_assert_null (belay_enter (scope, thing_open ("a"), NULL));
  g_assert_false (belay_scope_close (&scope, NULL));
  return TRUE;
}

/* --- closing twice --- */

typedef struct
{
  BelayScope *scope;
  gint64      milliseconds;
} Closing;

static gboolean
close_in (gpointer data, GError **error)
{
  Closing *closing = data;
  BelayScope *scope = closing->scope;
  gboolean ok;

  belay_sleep (closing->milliseconds, NULL);
  ok = belay_scope_close (&scope, error);
  thing_note ("closer%d", (int) closing->milliseconds);
  return ok;
}

static gboolean
test_two_closers (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);
  Closing closings[] = { { scope, 1 }, { belay_scope_ref (scope), 5 }, { belay_scope_ref (scope), 100 } };
  g_autoptr (BelayFuture) all = NULL;
  BelayFuture *futures[G_N_ELEMENTS (closings)];

  belay_scope_adopt (scope, thing_new_slow ("a", 10), NULL);
  belay_scope_adopt (scope, thing_new_failing ("b", "b is stuck"), NULL);
  for (guint i = 0; i < G_N_ELEMENTS (closings); i++)
    futures[i] = belay_spawn (close_in, &closings[i]);
  all = belay_future_all_settledv (futures, G_N_ELEMENTS (closings));
  g_assert_true (belay_await_ok (belay_future_ref (all), error));
  for (guint i = 0; i < G_N_ELEMENTS (closings); i++)
    {
      const GError *failure = belay_future_get_error (belay_future_get_member (all, i));

      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
      g_assert_cmpstr (failure->message, ==, "b is stuck");
    }
  assert_log ("+a +b -b -a a. closer1 closer5 closer100");
  g_assert_cmpuint (belay_errors_get_size (belay_scope_get_errors (kept)), ==, 1);
  return TRUE;
}

static gboolean
close_itself (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_ref (data);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  thing_note ("refused");
  return TRUE;
}

static gboolean
test_close_from_own_release (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new ("a"), NULL);
  belay_scope_defer (scope, close_itself, scope);
  expect_critical ("*is closed from inside of its own close*");
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+a refused -a");
  return TRUE;
}

static gboolean
test_close_from_own_child (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, close_itself, scope, NULL));
  expect_critical ("*is closed by one of its own fibers*");
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("refused");
  return TRUE;
}

/* From a release of one scope another may be closed, which is closed twice then. */
static gboolean
close_other (gpointer data, GError **error)
{
  BelayScope *other = belay_scope_ref (data);

  thing_note ("other");
  return belay_scope_close (&other, error);
}

static gboolean
test_close_from_other_release (gpointer data, GError **error)
{
  belay_auto (BelayScope) other = belay_scope_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (other, thing_new_slow ("a", 10), NULL);
  belay_scope_defer (scope, close_other, other);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+a other -a a.");
  g_assert_true (belay_scope_close (&other, error));
  assert_log ("");
  return TRUE;
}

/* Closed from a fiber that lives on another thread: done at home, where its children are. */
static gboolean
close_remote (gpointer data, GError **error)
{
  BelayScope *scope = data;

  return belay_scope_close (&scope, error);
}

static gpointer home_thread;

static gboolean
assert_home (gpointer data, GError **error)
{
  g_assert_true (g_thread_self () == home_thread);
  thing_note ("home");
  return TRUE;
}

static gboolean
test_close_from_other_home (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("other");
  BelayScope *scope = belay_scope_new ();
  Child child = { "child", 10 };
  BelayFuture *closings[2];

  /* The virtual clock knows nothing of other threads' work: no deadline may be near while the loop has some. */
  belay_scope_set_release_timeout (belay_scope_current (), -1);
  home_thread = g_thread_self ();
  belay_scope_defer (scope, assert_home, NULL);
  g_assert_true (belay_scope_spawn (scope, child_func, &child, NULL));
  closings[0] = belay_loop_spawn (loop, close_remote, belay_scope_ref (scope), NULL);
  closings[1] = belay_loop_spawn (loop, close_remote, scope, NULL);
  g_assert_true (belay_await_ok (belay_future_allv (closings, 2), error));
  assert_log ("child:done home");
  return belay_close (&loop, error);
}

/* --- registering late --- */

static gboolean
test_late_registration (gpointer data, GError **error)
{
  g_autoptr (GError) adopt = NULL, enter = NULL, scope_error = NULL;
  belay_auto (BelayScope) scope = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);

  g_assert_true (belay_scope_close (&scope, error));
  g_assert_false (belay_scope_adopt (kept, thing_new_slow ("a", 10), &adopt));
  g_assert_error (adopt, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_log ("+a -a a."); /* here, and waited for */
  g_assert_null (belay_enter (kept, thing_open ("b"), &enter));
  g_assert_error (enter, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_log ("+b -b");
  g_assert_false (belay_scope_defer (kept, note_func, "deferred"));
  assert_log ("deferred");
  g_assert_false (belay_scope_adopt (kept, belay_scope_new (), &scope_error)); /* a scope, too */
  g_assert_error (scope_error, G_IO_ERROR, G_IO_ERROR_CLOSED);
  return TRUE;
}

static gboolean
test_late_errors (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);
  gint64 begin;

  g_assert_true (belay_scope_close (&scope, error));
  g_assert_false (belay_scope_adopt (kept, thing_new_failing ("a", "a is stuck"), NULL));
  assert_sunk ("a is stuck");
  g_assert_false (belay_scope_defer (kept, fail_func, "b is stuck"));
  assert_sunk ("b is stuck");
  begin = now_ms ();
  g_assert_false (belay_scope_adopt (kept, thing_new_hanging ("c"), NULL)); /* bounded */
  g_assert_false (belay_scope_defer (kept, wait_func, NULL));
  g_assert_cmpint (now_ms () - begin, ==, 10000);
  assert_sunk ("*release deadline*; *release deadline*");
  return TRUE;
}

static gboolean
late_in_cancelled (gpointer data, GError **error)
{
  BelayScope *closed = data;

  belay_scope_cancel (belay_scope_current (), "enough");
  g_assert_false (belay_checkpoint (NULL));
  g_assert_false (belay_scope_adopt (closed, thing_new_slow ("a", 10), NULL));
  g_assert_false (belay_scope_defer (closed, slow_deferred, NULL));
  return belay_checkpoint (error);
}

static gboolean
test_late_is_shielded (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);

  g_assert_true (belay_scope_close (&scope, error));
  failure = thing_outcome (late_in_cancelled, kept);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("+a -a a. deferred");
  return TRUE;
}

static void
test_late_outside (void)
{
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_scope_close (&scope, NULL)); /* scheduled */
  g_assert_null (scope);
  thing_drain ();
  g_assert_false (belay_scope_adopt (kept, thing_new_slow ("a", 5), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_false (belay_scope_defer (kept, note_func, "deferred"));
  assert_log ("+a");
  thing_drain ();
  g_assert_nonnull (strstr (thing_log (), "a."));
  g_assert_nonnull (strstr (thing_log (), "deferred"));
  thing_clear_log ();
}

/* While it releases, what a release registers is late, too. */
static gboolean
register_late (gpointer scope, GError **error)
{
  g_assert_false (belay_scope_adopt (scope, thing_new ("late"), NULL));
  thing_note ("registered");
  return TRUE;
}

static gboolean
test_registration_in_release (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new ("a"), NULL);
  belay_scope_defer (scope, register_late, scope);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+a +late -late registered -a");
  return TRUE;
}

/* While it joins it still takes: a child's resources belong to it. */
static gboolean
adopt_in_child (gpointer scope, GError **error)
{
  return belay_sleep (5, error) && belay_scope_adopt (scope, thing_new ("a"), error);
}

static gboolean
test_registration_while_joining (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, adopt_in_child, scope, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+a -a");
  return TRUE;
}

/* --- dropped --- */

static gboolean
test_dropped (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();

  belay_scope_adopt (scope, thing_new_slow ("a", 5), NULL);
  belay_scope_adopt (scope, thing_new_failing ("b", "b is stuck"), NULL);
  belay_scope_adopt (scope, thing_new_failing ("c", "c is stuck"), NULL);
  expect_critical ("the scope from *test-scope.c:* was dropped without being closed");
  belay_scope_unref (scope);
  g_assert_true (belay_sleep (20, error));
  assert_log ("+a +b +c -c -b -a a.");
  assert_sunk ("c is stuck; b is stuck"); /* each of them */
  return TRUE;
}

static gboolean
dropped_lexical (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new ("a"), NULL);
  belay_scope_spawn (scope, wait_func, NULL, NULL);
  expect_critical ("the scope from *test-scope.c:* was dropped without being closed");
  belay_scope_unref (scope);
  g_assert_true (belay_scope_current () != scope);
  return belay_sleep (20, error);
}

static gboolean
test_dropped_lexical (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (dropped_lexical, NULL);

  g_assert_no_error (failure);
  assert_log ("+a -a");
  return TRUE;
}

static void
test_dropped_outside (void)
{
  BelayScope *scope = belay_scope_new ();

  belay_scope_adopt (scope, thing_new ("a"), NULL);
  g_assert_true (belay_scope_spawn (scope, wait_func, NULL, NULL));
  expect_critical ("*was dropped without being closed");
  belay_scope_unref (scope);
  thing_drain ();
  assert_log ("+a -a");
}

/* --- with an object --- */

static gboolean
test_for_object (gpointer data, GError **error)
{
  GObject *object = g_object_new (G_TYPE_OBJECT, NULL);
  BelayScope *scope = belay_scope_for_object (object);

  g_assert_true (belay_scope_for_object (object) == scope);
  belay_scope_adopt (scope, thing_new_slow ("a", 5), NULL);
  g_assert_true (belay_scope_spawn (scope, wait_func, NULL, NULL));
  g_assert_true (belay_yield (error));
  g_object_unref (object);
  assert_log ("+a"); /* nothing inside of the unref */
  g_assert_true (belay_sleep (20, error));
  g_assert_cmpstr (thing_reasons (), ==, "a:left");
  assert_log ("-a a.");
  return TRUE;
}

/* A scope that is lent is not the borrower's to close. */
static gboolean
test_close_lent (gpointer data, GError **error)
{
  GObject *object = g_object_new (G_TYPE_OBJECT, NULL);

  for (guint i = 0; i < 4; i++)
    {
      g_autoptr (GError) failure = NULL;
      BelayScope *lent = i % 2 == 0 ? belay_scope_current () : belay_scope_for_object (object), *variable = lent;

      expect_critical ("*is only lent*");
      if (i < 2)
        {
          g_assert_false (belay_scope_close (&variable, &failure));
          g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
        }
      else
        {
          belay_release (&variable);
          g_assert_false (belay_check (NULL));
        }
      g_assert_null (variable);
      g_assert_true (belay_scope_adopt (lent, thing_new ("a"), error)); /* nothing was done to it */
    }
  g_object_unref (object);
  return belay_sleep (1, error);
}

static gpointer
ask_for_scope (gpointer object)
{
  return belay_scope_for_object (object);
}

static void
test_for_object_threads (void)
{
  for (guint round = 0; round < 200; round++)
    {
      GObject *object = g_object_new (G_TYPE_OBJECT, NULL);
      GThread *other = g_thread_new ("other", ask_for_scope, object);
      BelayScope *scope = belay_scope_for_object (object);

      g_assert_true (g_thread_join (other) == scope);
      g_object_unref (object);
    }
  thing_drain ();
}

static void
test_for_object_outside (void)
{
  GObject *object = g_object_new (G_TYPE_OBJECT, NULL), *other = g_object_new (G_TYPE_OBJECT, NULL);

  g_assert_true (belay_scope_for_object (object) != belay_scope_for_object (other));
  belay_scope_adopt (belay_scope_for_object (object), thing_new ("a"), NULL);
  belay_scope_adopt (belay_scope_for_object (object), thing_new_failing ("b", "b is stuck"), NULL);
  g_object_unref (object);
  g_object_unref (other);
  thing_drain ();
  assert_log ("+a +b -b -a");
  assert_sunk ("b is stuck");
}

/* --- cancellation --- */

static gboolean
test_cancel_is_a_level (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_cancel (scope, "first");
  belay_scope_cancel (scope, "second");
  g_assert_true (belay_scope_is_cancelled (scope));
  for (guint i = 0; i < 3; i++)
    {
      g_autoptr (GError) failure = NULL;

      switch (i)
        {
        case 0:
          g_assert_false (belay_sleep (1, &failure));
          break;
        case 1:
          g_assert_false (belay_yield (&failure));
          break;
        default:
          g_assert_null (belay_semaphore_acquire (semaphore, &failure));
        }
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpstr (failure->message, ==, "first");
    }
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  g_assert_false (belay_scope_close (&scope, NULL));
  return belay_sleep (1, error); /* outside of it all is well */
}

static gboolean
test_cancel_before_entering (gpointer data, GError **error)
{
  belay_auto (BelayScope) stored = belay_scope_new ();
  int destroyed = 0;

  belay_scope_cancel (stored, "enough");
  g_assert_false (belay_scope_spawn (stored, note_func, &destroyed, count_destroyed));
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_true (belay_sleep (1, error)); /* a stored scope interrupts only what it owns */
  assert_log ("");
  return belay_scope_close (&stored, error);
}

static gpointer
cancel_on_thread (gpointer scope)
{
  belay_scope_cancel (scope, "from a thread");
  return NULL;
}

static gboolean
wait_in_scope (gpointer data, GError **error)
{
  GThread *thread;
  gboolean ok;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  thread = g_thread_new ("canceller", cancel_on_thread, scope);
  ok = wait_func (NULL, error);
  g_thread_join (thread);
  return ok;
}

static gboolean
test_cancel_from_thread (gpointer data, GError **error)
{
  for (guint i = 0; i < 100; i++)
    {
      g_autoptr (GError) failure = thing_outcome (wait_in_scope, NULL);

      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpstr (failure->message, ==, "from a thread");
    }
  return TRUE;
}

/* Nothing starts in a cancelled scope, even when it is ready. */
static gboolean
refuse_body (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  BelayFuture *futures[4];

  if (data != NULL)
    belay_scope_set_timeout (belay_scope_current (), 0);
  else
    belay_scope_cancel (belay_scope_current (), "enough");
  g_assert_null (belay_await (thing_open ("a"), NULL)); /* ready, and released */
  futures[0] = thing_open_in ("b", 0);
  futures[1] = belay_spawn (note_func, "c");
  futures[2] = belay_semaphore_acquire_async (semaphore);
  futures[3] = belay_future_delay (1000);
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    {
      g_assert_true (belay_future_is_rejected (futures[i]));
      g_assert_false (belay_future_check (futures[i], NULL));
      belay_future_unref (futures[i]);
    }
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  return belay_checkpoint (error);
}

static gboolean
test_refused_before_it_starts (gpointer data, GError **error)
{
  g_autoptr (GError) cancelled = thing_outcome (refuse_body, NULL);
  g_autoptr (GError) late = thing_outcome (refuse_body, "late");

  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (belay_sleep (1, error));
  assert_log_words ("+a -a +a -a"); /* the library's affair: nobody waits for it */
  return TRUE;
}

/* take is no checkpoint: what is there can be had. */
static gboolean
test_take_in_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayFuture) ready = thing_open ("a");

  belay_scope_cancel (scope, "enough");
  {
    belay_auto (Thing) a = belay_future_take (ready, error);
    g_assert_nonnull (a);
  }
  belay_scope_close (&scope, NULL);
  return TRUE;
}

/* Whoever cancels and closes sees every release over. */
static gboolean
hold_thing (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_slow ("a", 20);

  return a != NULL && wait_func (NULL, error);
}

static gboolean
test_cancel_waits (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_new ();
  gint64 begin = now_ms ();

  for (guint i = 0; i < 3; i++)
    g_assert_true (belay_scope_spawn (scope, hold_thing, NULL, NULL));
  g_assert_true (belay_sleep (1, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, NULL));
  g_assert_cmpint (thing_count.freed, ==, 3);
  g_assert_cmpint (now_ms () - begin, ==, 21);
  return TRUE;
}

/* A time-out waits for the clean-up that it causes, too. */
static gboolean
test_timeout_waits (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  gint64 begin = now_ms ();

  belay_scope_set_timeout (scope, 10);
  g_assert_true (belay_scope_spawn (scope, hold_thing, NULL, NULL));
  g_assert_false (wait_func (NULL, NULL));
  g_assert_cmpint (now_ms () - begin, ==, 10);
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 30);
  g_assert_cmpint (thing_count.freed, ==, 1);
  return TRUE;
}

/* --- shields --- */

static gboolean
shield_body (gpointer data, GError **error)
{
  BelayScope *around = belay_scope_current ();

  {
    belay_auto (BelayShield) shield = belay_shield ();

    belay_scope_cancel (around, "enough");
    belay_scope_set_timeout (around, 0);
    g_assert_true (belay_scope_is_cancelled (around)); /* one can ask */
    g_assert_true (belay_checkpoint (error));
    g_assert_true (belay_sleep (10, error));
    {
      belay_auto (BelayScope) inside = belay_scope_begin ();
      Child child = { "child", 10 };

      g_assert_true (belay_scope_spawn (inside, child_func, &child, NULL)); /* not cancelled */
      g_assert_true (belay_scope_close (&inside, error));
      inside = belay_scope_begin ();
      belay_scope_cancel (inside, "inside");
      g_assert_false (belay_checkpoint (NULL)); /* what is inside is observed */
      g_assert_false (belay_scope_close (&inside, NULL));
    }
    g_assert_true (belay_checkpoint (error));
    g_assert_nonnull (shield);
  }
  thing_note ("after");
  return belay_checkpoint (error); /* and here it is */
}

static gboolean
test_shield (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (shield_body, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("child:done after");
  return TRUE;
}

/* --- deadlines --- */

static gboolean
test_least_deadline (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  belay_auto (BelayTimeout) outer = belay_timeout (10);
  belay_auto (BelayTimeout) inner = belay_timeout (1000); /* cannot extend it */
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_sleep (500, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_nonnull (strstr (failure->message, "test-scope.c:"));
  g_assert_cmpint (now_ms () - begin, ==, 10);
  g_assert_true (belay_timeout_expired (outer));
  g_assert_false (belay_timeout_expired (inner));
  g_assert_false (belay_sleep (1, NULL)); /* goes on failing, so that a retry inside cannot swallow it */
  return TRUE;
}

static gboolean
test_inner_deadline (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) outer = belay_timeout (100);

  for (guint i = 0; i < 3; i++)
    {
      belay_auto (BelayTimeout) inner = belay_timeout (10);

      g_assert_false (belay_sleep (50, NULL));
      g_assert_true (belay_timeout_expired (inner));
      g_assert_false (belay_timeout_expired (outer));
    }
  return belay_sleep (60, error); /* 30 gone of 100 */
}

static gboolean
test_deadline_now (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  belay_auto (BelayTimeout) limit = belay_timeout (0);
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, NULL);

  g_assert_null (permit);
  g_assert_true (belay_timeout_expired (limit));
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  return TRUE;
}

/* The work that ended before the scope observed the end of its time has succeeded. */
static gboolean
test_success_before_expiry (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (10);

  g_assert_true (belay_sleep (10, error));
  g_assert_false (belay_timeout_expired (limit));
  g_assert_false (belay_checkpoint (NULL)); /* only now */
  g_assert_true (belay_timeout_expired (limit));
  return TRUE;
}

static gboolean
foreign_after_deadline (gpointer data, GError **error)
{
  belay_scope_set_timeout (belay_scope_current (), 5);
  belay_sleep (10, NULL);
  return fail_func ("no such page", error);
}

static gboolean
test_foreign_after_deadline (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (foreign_after_deadline, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED); /* a deadline is milder than a cancellation */
  return TRUE;
}

/* Cancelled from outside while a time-out is around: said as what it is. */
static gboolean
cancelled_in_timeout (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (1000);
  gboolean ok = wait_func (NULL, error);

  g_assert_false (belay_timeout_expired (limit));
  return ok;
}

static gboolean
test_cancel_is_no_timeout (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_new ();
  BelayFuture *body = belay_scope_spawn_value (scope, call_func, (gpointer) cancelled_in_timeout, NULL, NULL);

  g_assert_true (belay_sleep (5, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_await_ok (body, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_false (belay_scope_close (&scope, NULL));
  return TRUE;
}

static gboolean
test_set_timeout (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) failure = NULL;

  belay_scope_set_timeout (scope, 10);
  belay_scope_set_timeout (scope, 30); /* later */
  g_assert_true (belay_sleep (20, error));
  belay_scope_set_timeout (scope, -1); /* never */
  g_assert_true (belay_sleep (1000, error));
  belay_scope_set_timeout (scope, 5);
  g_assert_false (belay_sleep (1000, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 1025);
  g_assert_false (belay_scope_close (&scope, NULL));
  return belay_sleep (1000, error);
}

/* From outside, while the body and a child of a child sleep. */
static gboolean
grandchild (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_spawn (scope, wait_func, NULL, NULL);
  return belay_scope_close (&scope, error);
}

static gboolean
test_set_timeout_wakes (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_new ();
  gint64 begin = now_ms ();

  g_assert_true (belay_scope_spawn (scope, grandchild, NULL, NULL));
  g_assert_true (belay_scope_spawn (scope, sleep_func, GINT_TO_POINTER (100000), NULL));
  g_assert_true (belay_sleep (10, error));
  belay_scope_set_timeout (scope, 10);
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 20);
  return TRUE;
}

/* The children of a scope inside of a time-out are inside of it, too. */
static gboolean
test_children_have_the_deadline (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayTimeout) limit = belay_timeout (10);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, wait_func, NULL, NULL));
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_nonnull (limit);
  return TRUE;
}

static gboolean
late_branch (gpointer data, GError **error)
{
  int depth = GPOINTER_TO_INT (data);
  g_autoptr (GError) local = NULL;

  if (depth > 0)
    belay_await_ok (belay_spawn (late_branch, GINT_TO_POINTER (depth - 1)), &local);
  else
    belay_sleep (1000, &local);
  thing_note ("%s", g_error_matches (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT) ? "late" : local->message);
  g_propagate_error (error, g_steal_pointer (&local));
  return FALSE;
}

static gboolean
late_tree (gpointer data, GError **error)
{
  belay_scope_set_timeout (belay_scope_current (), 10);
  for (int depth = 0; depth < 4; depth++)
    belay_scope_spawn (belay_scope_current (), late_branch, GINT_TO_POINTER (depth), NULL);
  return data != NULL || belay_sleep (1000, error); /* joined at once, or left when it is late itself */
}

/* Whoever of a tree of fibers comes to the deadline first, and leaves: all say that they timed out, and none that it failed. */
static gboolean
test_all_are_late (gpointer data, GError **error)
{
  for (int joins = 0; joins < 2; joins++)
    {
      g_autoptr (GError) failure = thing_outcome (late_tree, GINT_TO_POINTER (joins));

      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      assert_attached ("");
      assert_log ("late late late late late late late late late late");
    }
  return TRUE;
}

/* --- for GIO --- */

static void
on_cancelled (GCancellable *cancellable, gpointer data)
{
  thing_note ("cancelled");
  if (data != NULL)
    belay_scope_cancel (data, "again"); /* may call back */
}

static gboolean
test_cancellable (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  GCancellable *cancellable = belay_scope_get_cancellable (scope);

  g_assert_true (belay_scope_get_cancellable (scope) == cancellable);
  g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_cancelled), scope);
  g_assert_false (g_cancellable_is_cancelled (cancellable));
  belay_scope_cancel (scope, "enough");
  g_assert_true (g_cancellable_is_cancelled (cancellable));
  g_cancellable_reset (cancellable);
  g_assert_false (belay_checkpoint (NULL)); /* a reset has no effect on the scope */
  g_assert_true (g_cancellable_is_cancelled (belay_scope_get_cancellable (scope)));
  assert_log ("cancelled cancelled");
  belay_scope_close (&scope, NULL);
  scope = belay_scope_begin ();
  belay_scope_cancel (scope, "enough");
  g_assert_true (g_cancellable_is_cancelled (belay_scope_get_cancellable (scope))); /* asked for afterwards */
  belay_scope_close (&scope, NULL);
  return TRUE;
}

static gboolean
hold_cancellable (gpointer data, GError **error)
{
  belay_auto (BelayScope) inner = belay_scope_begin ();
  GCancellable *cancellable = belay_scope_get_cancellable (data != NULL ? inner : belay_scope_current ());

  g_signal_connect (cancellable, "cancelled", G_CALLBACK (on_cancelled), NULL);
  belay_sleep (1000, NULL);
  g_assert_true (g_cancellable_is_cancelled (cancellable));
  return belay_scope_close (&inner, error);
}

/* A scope inside of a cancelled one is cancelled: so is its cancellable, at every depth. */
static gboolean
test_cancellable_of_inner (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, hold_cancellable, NULL, NULL));
  g_assert_true (belay_scope_spawn (scope, hold_cancellable, "inner", NULL));
  g_assert_true (belay_sleep (1, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, NULL));
  assert_log ("cancelled cancelled");
  return TRUE;
}

/* --- the group --- */

static gboolean
test_joins (gpointer data, GError **error)
{
  Child children[] = { { "a", 10 }, { "b", 30 }, { "c", 20 } };
  int destroyed = 0;
  gint64 begin = now_ms ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < G_N_ELEMENTS (children); i++)
    g_assert_true (belay_scope_spawn (scope, child_func, &children[i], NULL));
  g_assert_true (belay_scope_spawn (scope, sleep_func, NULL, NULL));
  g_assert_true (belay_scope_adopt (scope, thing_new ("thing"), error));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpint (now_ms () - begin, ==, 30);
  assert_log ("+thing a:done c:done b:done -thing"); /* first the children, then the releases */
  g_assert_cmpint (destroyed, ==, 0);
  return TRUE;
}

static gboolean
spawn_and_return (gpointer data, GError **error)
{
  belay_future_unref (belay_spawn (child_func, data));
  thing_note ("returned");
  return TRUE;
}

/* Nothing outlives the fiber that spawned it, either. */
static gboolean
test_fiber_joins (gpointer data, GError **error)
{
  Child child = { "child", 50 };
  g_autoptr (GError) failure = thing_outcome (spawn_and_return, &child);

  g_assert_no_error (failure);
  assert_log ("returned child:done");
  return TRUE;
}

static gboolean
spawn_and_leave (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, child_func, data, NULL));
  return belay_sleep (5, error);
}

/* Left without a word: the children are cancelled, and waited for. */
static gboolean
test_left_group (gpointer data, GError **error)
{
  Child child = { "child", 50, 20 };
  gint64 begin = now_ms ();

  g_assert_true (spawn_and_leave (&child, error));
  assert_log ("child:stopped");
  g_assert_cmpint (now_ms () - begin, ==, 25);
  return TRUE;
}

static gboolean
test_fail_fast (gpointer data, GError **error)
{
  Child children[] = { { "a", 10, 0, TRUE }, { "b", 1000, 5 }, { "c", 1000 } };
  gint64 begin = now_ms ();
  g_autoptr (GError) failure = NULL, body = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  kept = belay_scope_ref (scope);
  for (guint i = 0; i < G_N_ELEMENTS (children); i++)
    g_assert_true (belay_scope_spawn (scope, child_func, &children[i], NULL));
  g_assert_false (belay_sleep (1000, &body)); /* the body, too */
  g_assert_error (body, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_nonnull (strstr (body->message, "a failed")); /* names the child */
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED); /* not CANCELLED: that was the group's own doing */
  g_assert_cmpstr (failure->message, ==, "a failed");
  g_assert_cmpuint (belay_errors_get_size (belay_scope_get_errors (kept)), ==, 1);
  g_assert_cmpint (now_ms () - begin, ==, 15);
  assert_log ("a:failed c:stopped b:stopped");
  return TRUE;
}

static gboolean
group_and_return (gpointer data, GError **error)
{
  Child child = { "child", 10, 0, TRUE };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, child_func, &child, NULL));
  return belay_sleep (1000, error);
}

/* The same in a function that just returns the error that it saw: what failed is the result, not that it was cancelled. */
static gboolean
test_fail_fast_result (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (group_and_return, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "closing a BelayScope: child failed");
  return TRUE;
}

static gboolean
spawn_failing_and_sleep (gpointer data, GError **error)
{
  Child child = { "child", 10, 0, TRUE };

  belay_future_unref (belay_spawn (child_func, &child)); /* nobody holds it, so its failure is the scope's */
  return belay_sleep (1000, error);
}

static gboolean
test_unheld_child_fails (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (spawn_failing_and_sleep, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "child failed");
  assert_log ("child:failed");
  return TRUE;
}

static gboolean
test_held_child_fails (gpointer data, GError **error)
{
  Child bad = { "bad", 10, 0, TRUE }, good = { "good", 20 };
  g_autoptr (GError) failure = NULL;
  BelayFuture *one = belay_spawn (child_func, &bad), *two = belay_spawn (child_func, &good);

  g_assert_false (belay_await_ok (one, &failure)); /* it is whoever's holds the future */
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_true (belay_await_ok (two, error));
  return TRUE;
}

static gboolean
test_all_errors (gpointer data, GError **error)
{
  Child children[] = { { "a", 10, 0, TRUE }, { "b", 10, 0, TRUE }, { "c", 20, 0, TRUE } };
  g_autoptr (GError) failure = NULL;
  g_autoptr (BelayScope) kept = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayErrors *errors;
  const char *first;

  kept = belay_scope_ref (scope);
  for (guint i = 0; i < G_N_ELEMENTS (children); i++)
    g_assert_true (belay_scope_spawn (scope, child_func, &children[i], NULL));
  belay_scope_adopt (scope, thing_new_failing ("thing", "thing is stuck"), NULL);
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  errors = belay_scope_get_errors (kept);
  g_assert_cmpuint (belay_errors_get_size (errors), ==, 3);
  first = belay_errors_get (errors, 0)->message;
  g_assert_true (g_str_equal (first, "a failed") || g_str_equal (first, "b failed")); /* in the same instant */
  g_assert_cmpstr (belay_errors_get (errors, 1)->message, ==, *first == 'a' ? "b failed" : "a failed");
  g_assert_cmpstr (belay_errors_get (errors, 2)->message, ==, "thing is stuck");
  g_assert_true (g_str_has_prefix (failure->message, first) && g_str_has_suffix (failure->message, " (and 2 more)"));
  return TRUE;
}

static gboolean
end_cancelled (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "by itself");
  return FALSE;
}

/* The end of a time that all of them have is one error, and nobody's failure. */
static gboolean
test_late_group (gpointer data, GError **error)
{
  for (guint i = 0; i < 3; i++)
    {
      g_autoptr (GError) failure = NULL;
      g_autoptr (BelayScope) kept = NULL;
      belay_auto (BelayTimeout) limit = i == 0 ? belay_timeout (20) : NULL;
      belay_auto (BelayScope) scope = belay_scope_begin ();
      BelayErrors *errors;

      kept = belay_scope_ref (scope);
      if (i > 0)
        belay_scope_set_timeout (scope, 20);
      for (guint k = 0; k < 5; k++)
        g_assert_true (belay_scope_spawn (scope, wait_func, NULL, NULL));
      if (i == 2) /* one failed before */
        {
          belay_auto (Thing) guard = thing_new_failing ("guard", "guard is stuck");
          g_assert_nonnull (guard);
        }
      g_assert_false (belay_scope_close (&scope, &failure));
      errors = belay_scope_get_errors (kept);
      g_assert_cmpuint (belay_errors_get_size (errors), ==, i == 2 ? 2 : 1);
      g_assert_error (belay_errors_get (errors, belay_errors_get_size (errors) - 1), G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_assert_true ((limit != NULL) == (i == 0));
    }
  return TRUE;
}

static gboolean
handle_and_leave (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (20);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, wait_func, NULL, NULL));
  g_assert_false (belay_sleep (1000, NULL));
  return belay_timeout_expired (limit); /* what it was to do in that case is done */
}

/* Who saw the end of the time and dealt with it need not hear of it again from the children. */
static gboolean
test_late_group_left (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (handle_and_leave, NULL);

  g_assert_no_error (failure);
  return TRUE;
}

/* Where nobody could see it, it is said. */
static void
test_late_stored (void)
{
  GObject *object = g_object_new (G_TYPE_OBJECT, NULL);
  BelayScope *scope = belay_scope_for_object (object);

  g_assert_true (belay_scope_spawn (scope, wait_func, NULL, NULL));
  belay_scope_set_timeout (scope, 5);
  thing_settle ();
  g_object_unref (object);
  thing_drain ();
  assert_sunk ("timed out in the scope from GObject");
}

static gboolean
test_child_cancelled_alone (gpointer data, GError **error)
{
  Child child = { "child", 10 };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, end_cancelled, NULL, NULL));
  g_assert_true (belay_scope_spawn (scope, child_func, &child, NULL));
  g_assert_true (belay_sleep (1, error));
  g_assert_true (belay_scope_close (&scope, error)); /* no error of the group */
  assert_log ("child:done");
  return TRUE;
}

/* Cancelled from outside while it only waits for its children: that is its result. */
static gboolean
join_only (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, wait_func, NULL, NULL));
  return belay_scope_close (&scope, error);
}

static gboolean
test_cancelled_in_join (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL, result = NULL;
  belay_auto (BelayScope) scope = belay_scope_new ();
  BelayFuture *body;

  body = belay_scope_spawn_value (scope, call_func, (gpointer) join_only, NULL, NULL);
  g_assert_true (belay_sleep (1, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_await_ok (body, &result));
  g_assert_error (result, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (result->message, ==, "enough");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return TRUE;
}

static gboolean
spawn_more (gpointer scope, GError **error)
{
  static Child child = { "late", 10 };

  return belay_sleep (10, error) && belay_scope_spawn (scope, child_func, &child, NULL);
}

static gboolean
test_spawn_while_closing (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, spawn_more, scope, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("late:done");
  return TRUE;
}

static gboolean
spawn_in_release (gpointer scope, GError **error)
{
  int destroyed = 0;

  g_assert_false (belay_scope_spawn (scope, note_func, &destroyed, count_destroyed));
  g_assert_cmpint (destroyed, ==, 1);
  return TRUE;
}

static gboolean
test_spawn_after_close (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayFuture *value;
  int destroyed = 0;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);

  belay_scope_defer (scope, spawn_in_release, scope); /* no child lives any more */
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_false (belay_scope_spawn (kept, note_func, &destroyed, count_destroyed));
  g_assert_cmpint (destroyed, ==, 1);
  value = belay_scope_spawn_value (kept, call_func, &destroyed, count_destroyed, NULL);
  g_assert_cmpint (destroyed, ==, 2);
  g_assert_true (belay_future_is_rejected (value));
  g_assert_false (belay_await_ok (value, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_true (belay_sleep (1, error));
  assert_log ("");
  return TRUE;
}

static gboolean
test_data_destroyed (gpointer data, GError **error)
{
  int destroyed = 0;
  belay_auto (BelayScope) scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, ignore_cancellation, &destroyed, count_destroyed));
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpint (destroyed, ==, 0);
  g_assert_true (belay_scope_spawn (scope, ignore_cancellation, &destroyed, count_destroyed));
  belay_scope_cancel (scope, "enough"); /* before the second could begin */
  g_assert_false (belay_scope_close (&scope, NULL));
  g_assert_cmpint (destroyed, ==, 2);
  return TRUE;
}

static gpointer
make_thing (gpointer data, GError **error)
{
  return belay_sleep (5, error) ? thing_new (data) : NULL;
}

static gboolean
test_spawn_value (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *taken = belay_scope_spawn_value (scope, make_thing, "a", NULL, (GDestroyNotify) g_free);
  BelayFuture *not_taken = belay_scope_spawn_value (scope, make_thing, "b", NULL, NULL);

  {
    belay_auto (Thing) a = belay_await (taken, error);

    g_assert_nonnull (a);
    g_assert_true (belay_scope_adopt (scope, belay_await (not_taken, error), error));
  }
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_true (strstr (thing_log (), "-a") < strstr (thing_log (), "-b"));
  assert_log_words ("+a +b -a -b"); /* either may be made first */
  return TRUE;
}

/* The destroy function of what never ran may use the library as any callback may. */
static void
release_in_destroy (gpointer data)
{
  Thing *thing = data;

  g_assert_false (belay_in_fiber ());
  belay_release (&thing);
}

static gboolean
test_destroy_of_unstarted (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, note_func, thing_new ("a"), release_in_destroy));
  belay_scope_cancel (scope, "enough");
  belay_scope_close (&scope, NULL);
  g_assert_true (belay_sleep (1, error));
  assert_log ("+a -a");
  return TRUE;
}

/* A thousand members, some of which fail: all are waited for, each counted once. */
static gboolean
member (gpointer data, GError **error)
{
  guint i = GPOINTER_TO_UINT (data);
  belay_auto (Thing) thing = thing_new_slow ("m", i % 3);

  if (thing == NULL || !belay_sleep (i % 7, error))
    return FALSE;
  if (i % 10 != 0 || i < 500)
    return belay_sleep (i % 11, error);
  return fail_func ("one of many", error);
}

static gboolean
test_many_members (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 1000; i++)
    g_assert_true (belay_scope_spawn (scope, member, GUINT_TO_POINTER (i), NULL));
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpint (thing_count.freed, ==, thing_count.opened);
  return TRUE;
}

/* --- threads --- */

typedef struct
{
  BelayScope *scope;
  int         accepted, refused, destroyed;
  gboolean    stop;
} Crowd;

static void
crowd_destroyed (gpointer data)
{
  g_atomic_int_inc (&((Crowd *) data)->destroyed);
}

static gboolean
crowd_member (gpointer data, GError **error)
{
  return belay_yield (error);
}

static gpointer
crowd_thread (gpointer data)
{
  Crowd *crowd = data;

  for (guint i = 0; i < 2000; i++)
    {
      if (belay_scope_spawn (crowd->scope, crowd_member, crowd, crowd_destroyed))
        g_atomic_int_inc (&crowd->accepted);
      else
        g_atomic_int_inc (&crowd->refused);
      if (i % 16 == 0)
        belay_scope_adopt (crowd->scope, thing_new ("t"), NULL);
      if (i == 1000 && g_atomic_int_get (&crowd->stop))
        belay_scope_cancel (crowd->scope, "from a thread");
    }
  return NULL;
}

/* Spawned into, registered in and cancelled from threads while it closes: each is taken or refused, and ends once. */
static gboolean
test_threads (gpointer data, GError **error)
{
  for (guint round = 0; round < 4; round++)
    {
      BelayScope *scope = belay_scope_new ();
      Crowd crowd = { .scope = belay_scope_ref (scope), .stop = round % 2 };
      GThread *threads[2];

      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        threads[i] = g_thread_new ("crowd", crowd_thread, &crowd);
      for (guint i = 0; i < round * 50; i++)
        if (!belay_yield (error))
          return FALSE;
      belay_scope_close (&scope, NULL);
      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        g_thread_join (threads[i]);
      g_assert_cmpint (crowd.accepted + crowd.refused, ==, 4000);
      g_assert_cmpint (crowd.destroyed, ==, 4000);
      belay_scope_unref (crowd.scope);
    }
  while (thing_count.freed < thing_count.opened) /* those that the threads' late registrations scheduled */
    if (!belay_yield (error))
      return FALSE;
  return TRUE;
}

/* --- whose home ends --- */

static BelayScope *
scope_on (GMainContext *main_context)
{
  BelayScope *scope;

  g_main_context_push_thread_default (main_context);
  scope = belay_scope_new ();
  g_main_context_pop_thread_default (main_context);
  return scope;
}

/* What was scheduled there, and what is closed or dropped after that, is ended by force. */
static void
test_home_ends (void)
{
  for (guint i = 0; i < 3; i++) /* a new one may have the address of the old */
    {
      GMainContext *main_context = g_main_context_new ();
      BelayScope *scope = scope_on (main_context), *late = scope_on (main_context);
      Thing *thing = thing_new ("a");

      belay_scope_adopt (scope, thing_new ("b"), NULL);
      belay_scope_adopt (late, thing_new ("c"), NULL);
      g_main_context_push_thread_default (main_context);
      belay_release (&thing);
      belay_release (&scope);
      g_main_context_pop_thread_default (main_context);
      g_assert_cmpuint (belay_get_n_pending (), ==, 1);
      g_main_context_unref (main_context);
      g_assert_cmpuint (belay_get_n_pending (), ==, 0);
      assert_log ("+a +b +c !a !b");
      assert_sunk ("the main context it was to run on is gone");
      expect_critical ("*dropped without being closed*");
      belay_scope_unref (late);
      assert_log ("!c");
    }
}

static gboolean
close_without_home (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = data;

  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  return TRUE;
}

static void
test_close_without_home (void)
{
  GMainContext *main_context = g_main_context_new ();
  BelayScope *scope = scope_on (main_context);
  int destroyed = 0;

  belay_scope_adopt (scope, thing_new ("a"), NULL);
  g_assert_true (belay_scope_spawn (scope, note_func, &destroyed, count_destroyed));
  g_main_context_unref (main_context);
  g_assert_cmpint (destroyed, ==, 1);
  assert_sunk ("the main context it was to run on is gone");
  g_assert_cmpint (belay_run (close_without_home, scope), ==, 0);
  assert_log ("+a !a");
}

/* --- what outlives its fiber --- */

static gboolean
keep_scope (gpointer data, GError **error)
{
  BelayScope **place = data;

  *place = belay_scope_begin ();
  belay_scope_adopt (*place, thing_new ("a"), NULL);
  belay_scope_defer (*place, note_and_fail, "b");
  return belay_scope_spawn (*place, wait_func, NULL, NULL);
}

static gboolean
test_scope_outlives_fiber (gpointer data, GError **error)
{
  BelayScope *kept = NULL;
  g_autoptr (GError) failure = NULL, closing = NULL;

  expect_critical ("*test-scope.c:* was not closed before the end of its fiber*");
  failure = thing_outcome (keep_scope, &kept);
  g_assert_nonnull (failure);
  g_assert_true (g_str_has_suffix (failure->message, "b failed"));
  assert_log ("+a b -a");
  belay_scope_cancel (kept, "nobody is there");
  g_assert_true (belay_sleep (1, error));
  g_assert_false (belay_scope_close (&kept, &closing));
  g_assert_cmpstr (closing->message, ==, "b failed");
  return TRUE;
}

/* Nor does a time-out or a shield reach a later fiber, be it at the same address. */
static BelayTimeout *kept_timeout;
static BelayShield *kept_shield;

static gboolean
keep_small_limits (gpointer data, GError **error)
{
  kept_timeout = belay_timeout (5);
  kept_shield = belay_shield ();
  return TRUE;
}

static gboolean
release_kept (gpointer data, GError **error)
{
  expect_critical ("*belongs to the block and the fiber that made it*");
  belay_release (&kept_timeout);
  expect_critical ("*belongs to the block and the fiber that made it*");
  belay_release (&kept_shield);
  return belay_sleep (10, error);
}

static gboolean
test_limits_outlive_fiber (gpointer data, GError **error)
{
  expect_critical ("*BelayShield was not left*");
  expect_critical ("*BelayTimeout was not left*");
  g_assert_true (belay_await_ok (belay_spawn (keep_small_limits, NULL), error));
  return belay_await_ok (belay_spawn (release_kept, NULL), error);
}

static BelayFuture *own_future;

static gboolean
await_itself (gpointer data, GError **error)
{
  return belay_yield (error) && belay_await_ok (belay_future_ref (own_future), error);
}

static gboolean
test_awaits_itself (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  own_future = belay_spawn (await_itself, NULL);
  expect_critical ("*awaits its own end*");
  g_assert_false (belay_await_ok (own_future, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

static gboolean
never_started (gpointer data, GError **error)
{
  g_assert_not_reached ();
}

/* Nothing starts in a scope around which all is cancelled, and it says so. */
static gboolean
test_spawn_in_cancelled_outer (gpointer data, GError **error)
{
  belay_auto (BelayScope) outer = belay_scope_begin ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayFuture) member = NULL;
  int destroyed = 0;

  g_assert_false (belay_scope_is_cancelled (scope));
  belay_scope_cancel (outer, "enough");
  g_assert_true (belay_scope_is_cancelled (scope));
  g_assert_false (belay_scope_spawn (scope, never_started, &destroyed, count_destroyed));
  g_assert_cmpint (destroyed, ==, 1);
  member = belay_scope_spawn_value (scope, call_func, note_func, NULL, NULL);
  g_assert_error (belay_future_get_error (member), G_IO_ERROR, G_IO_ERROR_CANCELLED);
  {
    belay_auto (BelayShield) shield = belay_shield ();
    belay_auto (BelayScope) inner = belay_scope_begin ();

    g_assert_false (belay_scope_is_cancelled (inner)); /* shielded */
    g_assert_true (belay_scope_close (&inner, error));
  }
  return TRUE;
}

/* After the last child nothing starts, not even before the closer has noticed that it went. */
typedef struct
{
  BelayScope   *scope;
  BelayPromise *promise;
  gboolean      ended;
  int           destroyed;
} LastChild;

static gboolean
await_promise (gpointer data, GError **error)
{
  LastChild *last = data;

  last->ended = belay_await_ok (belay_promise_get_future (last->promise), error);
  return last->ended;
}

static gboolean
spawn_behind_last (gpointer data, GError **error)
{
  LastChild *last = data;
  gboolean may;

  if (!belay_sleep (1, error))
    return FALSE;
  belay_promise_resolve (last->promise);
  if (!belay_yield (error)) /* the child ends, then comes this, then the closer */
    return FALSE;
  g_assert_true (last->ended || belay_test_get_seed () != 0);
  may = !last->ended; /* in another order */
  g_assert_true (may == belay_scope_spawn (last->scope, may ? ignore_cancellation : never_started, &last->destroyed,
                                          count_destroyed));
  g_assert_cmpint (last->destroyed, ==, may ? 0 : 1);
  return TRUE;
}

static gboolean
test_spawn_behind_last (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);
  LastChild last = { kept, promise };
  BelayFuture *spawning = belay_spawn (spawn_behind_last, &last);

  g_assert_true (belay_scope_spawn (scope, await_promise, &last, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_true (belay_await_ok (spawning, error));
  g_assert_cmpint (last.destroyed, ==, 1);
  return TRUE;
}

/* Asked for on a thread while the fiber nests limits, and cancelled though that thread cannot look around the scope. */
static gpointer
get_cancellable (gpointer scope)
{
  return g_object_ref (belay_scope_get_cancellable (scope));
}

static gboolean
test_cancellable_on_thread (gpointer data, GError **error)
{
  g_autoptr (GCancellable) cancellable = NULL;
  belay_auto (BelayScope) outer = belay_scope_begin ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  GThread *thread;

  belay_scope_cancel (outer, "enough");
  g_assert_false (belay_sleep (1, NULL));
  thread = g_thread_new ("getter", get_cancellable, scope);
  for (guint i = 0; i < 1000; i++)
    {
      belay_auto (BelayTimeout) limit = belay_timeout (1000);

      belay_checkpoint (NULL);
    }
  cancellable = g_thread_join (thread);
  {
    belay_auto (BelayShield) shield = belay_shield ();

    g_assert_true (belay_sleep (1, error));
  }
  g_assert_true (g_cancellable_is_cancelled (cancellable));
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/scope/L2-newest-first", test_newest_first);
  thing_add_test ("/scope/L3-all-releases-run", test_all_run);
  thing_add_test ("/scope/L3-releases-run-on-after-misuse", test_misuse_runs_on);
  thing_add_test ("/scope/empty", test_empty);
  thing_add_test ("/scope/L13-what-is-no-resource-is-refused-when-given", test_validation);
  thing_add_test ("/scope/nested-and-adopted", test_nested);
  thing_add_test ("/scope/L16-many-entries", test_many);
  thing_add_test ("/scope/L4-no-gap-between-opening-and-registering", test_no_gap);
  thing_add_test ("/scope/L5-late-value-is-released", test_late_value);
  thing_add_test ("/scope/L5-acquire-in-a-shield", test_shielded_acquire);
  thing_add_test ("/scope/L6-release-is-shielded", test_release_is_shielded);
  thing_add_test ("/scope/L6-cancelled-while-it-releases", test_cancelled_in_release);
  thing_add_test ("/scope/L7-hanging-releases-are-bounded", test_hanging_deferred);
  thing_add_test ("/scope/L7-child-that-runs-before-its-release-waits", test_child_before_first_wait);
  thing_add_single_plain_test ("/scope/L7-release-that-polls", test_polling);
  thing_add_test ("/scope/L7-shield-in-a-release", test_shield_in_release);
  thing_add_test ("/scope/L7-close-in-a-release", test_close_in_release);
  thing_add_test ("/scope/L7-scopes-that-close-each-other", test_close_each_other);
  thing_add_test ("/scope/L11-close-from-a-child-of-its-release", test_close_from_child_of_release);
  thing_add_test ("/scope/L11-closers-in-one-release", test_closers_in_one_release);
  thing_add_test ("/scope/L8-one-reason", test_one_reason);
  thing_add_test ("/scope/L8-reasons-of-a-fibers-scope", test_reasons);
  thing_add_test ("/scope/L9-site-of-an-entry", test_site);
  thing_add_test ("/scope/L9-works-without-a-place-for-errors", test_null_error);
  thing_add_test ("/scope/L10-cancellation-cannot-be-hidden", test_cancellation_not_hidden);
  thing_add_test ("/scope/L10-result-of-an-interrupted-fiber", test_result_of_interrupted);
  thing_add_test ("/scope/L10-what-was-not-observed-does-not-count", test_not_observed);
  thing_add_test ("/scope/L10-errors-of-a-cancelled-scope", test_errors_of_cancelled);
  thing_add_test ("/scope/L9-leaving-an-interrupted-scope", test_leaving_interrupted);
  thing_add_test ("/scope/L11-closers-share-the-result", test_two_closers);
  thing_add_test ("/scope/L11-close-from-its-own-release", test_close_from_own_release);
  thing_add_test ("/scope/L11-close-from-its-own-child", test_close_from_own_child);
  thing_add_test ("/scope/L11-close-from-anothers-release", test_close_from_other_release);
  thing_add_test ("/scope/L15-closed-at-home", test_close_from_other_home);
  thing_add_test ("/scope/L12-late-registration", test_late_registration);
  thing_add_test ("/scope/L12-late-registration-that-fails", test_late_errors);
  thing_add_test ("/scope/L12-late-registration-is-shielded", test_late_is_shielded);
  thing_add_plain_test ("/scope/L12-late-registration-outside-a-fiber", test_late_outside);
  thing_add_test ("/scope/L12-registration-in-a-release", test_registration_in_release);
  thing_add_test ("/scope/L12-registration-while-joining", test_registration_while_joining);
  thing_add_test ("/scope/L17-dropped-is-reported-and-closed", test_dropped);
  thing_add_test ("/scope/L17-dropped-lexical", test_dropped_lexical);
  thing_add_plain_test ("/scope/L17-dropped-outside-a-fiber", test_dropped_outside);
  thing_add_test ("/scope/L17-outlives-its-fiber", test_scope_outlives_fiber);
  thing_add_test ("/scope/L17-limits-that-outlive-their-fiber", test_limits_outlive_fiber);
  thing_add_test ("/scope/fiber-that-awaits-itself", test_awaits_itself);
  thing_add_plain_test ("/scope/L15-home-ends", test_home_ends);
  thing_add_plain_test ("/scope/L15-close-whose-home-has-ended", test_close_without_home);
  thing_add_test ("/scope/for-object", test_for_object);
  thing_add_test ("/scope/what-is-lent-is-not-closed", test_close_lent);
  thing_add_single_plain_test ("/scope/for-object-on-two-threads", test_for_object_threads);
  thing_add_plain_test ("/scope/for-object-outside-a-fiber", test_for_object_outside);
  thing_add_test ("/cancel/L19-is-a-level", test_cancel_is_a_level);
  thing_add_test ("/cancel/L19-before-entering", test_cancel_before_entering);
  thing_add_single_test ("/cancel/L19-from-a-thread", test_cancel_from_thread);
  thing_add_test ("/cancel/L20-refused-before-it-starts", test_refused_before_it_starts);
  thing_add_test ("/cancel/L20-take-is-no-checkpoint", test_take_in_cancelled);
  thing_add_test ("/cancel/L22-waits-for-clean-up", test_cancel_waits);
  thing_add_test ("/cancel/L22-time-out-waits-for-clean-up", test_timeout_waits);
  thing_add_test ("/cancel/L23-shield", test_shield);
  thing_add_test ("/deadline/L24-least-of-all", test_least_deadline);
  thing_add_test ("/deadline/L24-inner-one-fires", test_inner_deadline);
  thing_add_test ("/deadline/L25-now", test_deadline_now);
  thing_add_test ("/deadline/L25-success-before-it-is-observed", test_success_before_expiry);
  thing_add_test ("/deadline/L25-foreign-error-stays", test_foreign_after_deadline);
  thing_add_test ("/deadline/L25-cancel-is-no-time-out", test_cancel_is_no_timeout);
  thing_add_test ("/deadline/set-timeout", test_set_timeout);
  thing_add_test ("/deadline/set-timeout-from-outside", test_set_timeout_wakes);
  thing_add_test ("/deadline/L24-children-have-it", test_children_have_the_deadline);
  thing_add_test ("/deadline/L24-all-of-a-tree-say-that-they-timed-out", test_all_are_late);
  thing_add_test ("/cancellable/cancelled-with-the-scope", test_cancellable);
  thing_add_test ("/cancellable/cancelled-with-what-is-around", test_cancellable_of_inner);
  thing_add_test ("/cancellable/asked-for-on-a-thread", test_cancellable_on_thread);
  thing_add_test ("/group/L26-close-waits-for-all", test_joins);
  thing_add_test ("/group/L26-a-fiber-waits-for-its-children", test_fiber_joins);
  thing_add_test ("/group/L26-left-group-is-cancelled-and-joined", test_left_group);
  thing_add_test ("/group/L27-fails-fast", test_fail_fast);
  thing_add_test ("/group/L27-failure-is-the-result", test_fail_fast_result);
  thing_add_test ("/group/L27-child-that-nobody-holds", test_unheld_child_fails);
  thing_add_test ("/group/L27-child-that-somebody-holds", test_held_child_fails);
  thing_add_test ("/group/L27-all-errors", test_all_errors);
  thing_add_test ("/group/L25-end-of-time-is-one-error", test_late_group);
  thing_add_test ("/group/L25-end-of-time-was-dealt-with", test_late_group_left);
  thing_add_plain_test ("/group/L25-end-of-time-that-nobody-saw", test_late_stored);
  thing_add_test ("/group/L27-child-cancelled-alone", test_child_cancelled_alone);
  thing_add_test ("/group/L10-cancelled-while-it-joins", test_cancelled_in_join);
  thing_add_test ("/group/L28-spawn-while-closing", test_spawn_while_closing);
  thing_add_test ("/group/L28-spawn-after-close", test_spawn_after_close);
  thing_add_test ("/group/L28-spawn-behind-the-last-child", test_spawn_behind_last);
  thing_add_test ("/group/L28-spawn-in-what-is-cancelled-from-around", test_spawn_in_cancelled_outer);
  thing_add_test ("/group/L28-data-is-destroyed-once", test_data_destroyed);
  thing_add_test ("/group/spawn-value", test_spawn_value);
  thing_add_test ("/group/destroy-of-what-never-ran", test_destroy_of_unstarted);
  thing_add_single_test ("/group/many-members", test_many_members);
  thing_add_single_test ("/group/L28-spawn-from-threads", test_threads);
  return g_test_run ();
}
