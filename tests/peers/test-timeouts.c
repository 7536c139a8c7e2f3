/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cases of CPython's test_timeouts.py and test_waitfor.py. */
#include "thing.h"

static gboolean
test_c01 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();
  belay_auto (BelayTimeout) limit = belay_timeout (10);

  g_assert_false (belay_sleep (10000, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (belay_timeout_expired (limit));
  g_assert_cmpint (now_ms () - begin, ==, 10);
  return TRUE;
}

/* C03: two with the same deadline: the outer one reports it. */
static gboolean
test_c03 (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) outer = belay_timeout (10);
  belay_auto (BelayTimeout) inner = belay_timeout (10);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_sleep (10000, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (belay_timeout_expired (outer));
  g_assert_false (belay_timeout_expired (inner)); /* as its own */
  g_assert_true (belay_close (&inner, error));
  g_assert_false (belay_checkpoint (NULL));
  return TRUE;
}

/* C04: the body was shorter: no error, and the timer is gone. */
static gboolean
test_c04 (gpointer data, GError **error)
{
  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);

    g_assert_true (belay_sleep (1, error));
    g_assert_false (belay_timeout_expired (limit));
  }
  return belay_sleep (100, error);
}

static gboolean
foreign (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (10);
  gboolean ok = fail_func ("KeyError", error);

  g_assert_false (belay_timeout_expired (limit));
  return ok;
}

static gboolean
test_c07 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (foreign, NULL);

  g_assert_cmpstr (failure->message, ==, "KeyError");
  return TRUE;
}

/* C08: the clean-up after a time-out fails with something else: that leaves. */
static gboolean
foreign_in_clean_up (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (10);

  g_assert_false (belay_sleep (100, NULL));
  g_assert_true (belay_timeout_expired (limit));
  return fail_func ("ZeroDivision", error);
}

static gboolean
test_c08 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (foreign_in_clean_up, NULL);

  g_assert_cmpstr (failure->message, ==, "ZeroDivision (and 1 more)");
  g_assert_error (belay_errors_get (belay_attached_errors (), 0), G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  return TRUE;
}

/* C09: cancelled by somebody else inside: "cancelled", not "timed out". */
static gboolean
cancelled_inside (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (100);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_sleep (1000, &failure));
  g_assert_true (belay_timeout_expired (limit) == g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT));
  g_propagate_error (error, g_steal_pointer (&failure));
  return FALSE;
}

static gboolean
test_c09 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, cancelled_inside, NULL, NULL));
  g_assert_true (belay_sleep (10, error));
  belay_scope_cancel (scope, "somebody else");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (failure->message, ==, "somebody else");
  return TRUE;
}

/* Both in one instant: a cancellation is never said to be a time-out. */
static gboolean
test_c09_same_instant (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, cancelled_inside, NULL, NULL));
  g_assert_true (belay_yield (error));
  g_assert_true (belay_sleep (100, error));
  belay_scope_cancel (scope, "somebody else");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_true (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                 g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT));
  return TRUE;
}

/* C12: moved while it is active. */
static gboolean
test_c12 (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);

  belay_scope_set_timeout (scope, 10);
  g_assert_true (belay_sleep (5, error));
  belay_scope_set_timeout (scope, 100); /* later */
  g_assert_true (belay_sleep (50, error));
  belay_scope_set_timeout (scope, -1); /* none */
  g_assert_true (belay_sleep (500, error));
  belay_scope_set_timeout (scope, 10); /* sooner again */
  g_assert_false (belay_sleep (500, NULL));
  g_assert_cmpint (now_ms () - begin, ==, 565);
  g_assert_false (belay_scope_close (&scope, NULL));
  belay_scope_set_timeout (kept, 1); /* after its end it has no effect */
  return belay_sleep (10, error);
}

/* The same of a time-out: later, never, sooner; the old deadline does not fire; what is over is not moved. */
static gboolean
test_c12_timeout (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  belay_auto (BelayTimeout) limit = belay_timeout (10);

  g_assert_true (belay_sleep (5, error));
  g_assert_true (belay_timeout_reschedule (limit, 100)); /* later */
  g_assert_true (belay_sleep (50, error));
  g_assert_true (belay_timeout_reschedule (limit, -1)); /* never */
  g_assert_cmpint (belay_time_left (), ==, -1);
  g_assert_true (belay_sleep (500, error));
  g_assert_true (belay_timeout_reschedule (limit, 10)); /* sooner */
  g_assert_false (belay_timeout_expired (limit));
  g_assert_false (belay_sleep (500, NULL));
  g_assert_cmpint (now_ms () - begin, ==, 565);
  g_assert_true (belay_timeout_expired (limit));
  g_assert_false (belay_timeout_reschedule (limit, 100)); /* expired for good */
  g_assert_false (belay_checkpoint (NULL));
  g_assert_true (belay_close (&limit, error));
  expect_critical ("*timeout != NULL*");
  g_assert_false (belay_timeout_reschedule (limit, 100)); /* after the exit */
  return belay_sleep (10, error);
}

/* Moved by another fiber while the body sleeps in it, both ways. */
typedef struct
{
  BelayTimeout *limit;
  gint64        at, to;
} Reschedule;

static gboolean
reschedule_later (gpointer data, GError **error)
{
  Reschedule *self = data;

  return belay_sleep (self->at, error) && belay_timeout_reschedule (self->limit, self->to);
}

static gboolean
test_c12_asleep (gpointer data, GError **error)
{
  Reschedule moves[] = { { NULL, 5, 100 }, { NULL, 5, 1 }, { NULL, 5, -1 } };
  gint64 ends[] = { 105, 6, 300 };

  for (guint i = 0; i < G_N_ELEMENTS (moves); i++)
    {
      gint64 begin = now_ms ();
      BelayFuture *moving = belay_spawn (reschedule_later, &moves[i]); /* outside: nobody cancels it */
      belay_auto (BelayTimeout) limit = moves[i].limit = belay_timeout (20);
      belay_auto (BelayScope) inner = belay_scope_begin ();

      g_assert_true (belay_scope_spawn (inner, sleep_func, GINT_TO_POINTER (300), NULL)); /* and so do fibers inside */
      g_assert_true (belay_scope_close (&inner, NULL) == (moves[i].to < 0));
      g_assert_cmpint (now_ms () - begin, ==, ends[i]);
      g_assert_true (belay_close (&limit, error));
      g_assert_true (belay_await_ok (moving, error));
    }
  return TRUE;
}

/* An instant that several share; and how long it is to that. */
static gboolean
test_at (gpointer data, GError **error)
{
  gint64 when = belay_now () + 30 * 1000;

  for (guint i = 0; i < 3; i++)
    {
      belay_auto (BelayTimeout) limit = belay_timeout_at (when);

      g_assert_cmpint (belay_time_left (), ==, 30 - 10 * (gint64) i);
      g_assert_true (belay_sleep (10, error) == (i < 2) || i == 2);
      if (i == 2)
        g_assert_cmpint (belay_time_left (), ==, 0);
    }
  {
    belay_auto (BelayTimeout) past = belay_timeout_at (0);
    belay_auto (BelayTimeout) never = belay_timeout_at (G_MAXINT64);

    g_assert_true (past != NULL && never != NULL && belay_time_left () == 0);
    g_assert_false (belay_checkpoint (NULL));
  }
  return belay_sleep (1, error);
}

static gboolean
sleep_and_clean_up (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_slow ("a", 50);

  return a != NULL && belay_sleep (10000, error);
}

/* C14: the work takes time to be cancelled: the wait ends when that is over. */
static gboolean
test_c14 (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_set_timeout (scope, 10);
  g_assert_true (belay_scope_spawn (scope, sleep_and_clean_up, NULL, NULL));
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 60);
  assert_log ("+a -a a.");
  return TRUE;
}

/* C16: the end, the time-out and a cancellation in one tick, in all orders: nothing is lost. */
typedef struct
{
  BelayPromise *promise;
  BelayScope   *scope;
  guint         resolve_at, cancel_at;
} Tick;

static gboolean
resolve_then (gpointer data, GError **error)
{
  Tick *tick = data;
  Thing *thing;

  belay_sleep (10, NULL);
  for (guint i = 0; i < tick->resolve_at; i++)
    belay_yield (NULL);
  thing = thing_new ("a");
  belay_promise_resolve_resource (tick->promise, thing);
  return TRUE;
}

static gboolean
cancel_then (gpointer data, GError **error)
{
  Tick *tick = data;

  belay_sleep (10, NULL);
  for (guint i = 0; i < tick->cancel_at; i++)
    belay_yield (NULL);
  belay_scope_cancel (tick->scope, "enough");
  return TRUE;
}

static gboolean
wait_for_tick (gpointer data, GError **error)
{
  Tick *tick = data;
  belay_auto (BelayTimeout) limit = tick->cancel_at == 3 ? belay_timeout (10) : NULL;
  belay_auto (Thing) thing = belay_await (belay_promise_get_future (tick->promise), error);

  if (thing == NULL)
    return FALSE;
  thing_note ("got");
  return belay_checkpoint (error); /* and what happened besides is seen */
}

static gboolean
test_c16 (gpointer data, GError **error)
{
  guint n_got = 0;

  for (guint resolved = 0; resolved < 4; resolved++)
    for (guint cancelled = 0; cancelled < 4; cancelled++)
      for (guint order = 0; order < 2; order++)
        {
          BelayScope *scope = belay_scope_new ();
          Tick tick = { belay_promise_new (), scope, resolved, cancelled };
          BelayFuture *futures[2];
          g_autoptr (GError) failure = NULL;

          futures[0] = belay_spawn (order ? resolve_then : cancel_then, &tick);
          futures[1] = belay_spawn (order ? cancel_then : resolve_then, &tick);
          g_assert_true (belay_scope_spawn (scope, wait_for_tick, &tick, NULL));
          g_assert_true (belay_await_ok (belay_future_allv (futures, 2), error));
          if (belay_scope_close (&scope, &failure))
            g_assert_nonnull (strstr (thing_log (), "got")); /* it had ended before */
          else if (cancelled < 3)
            g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED); /* not swallowed */
          belay_promise_unref (tick.promise);
          g_assert_true (belay_sleep (5, error));
          g_assert_cmpint (thing_count.freed, ==, thing_count.opened); /* nor the resource */
          if (strstr (thing_log (), "got") != NULL)
            n_got++;
          thing_clear_log ();
        }
  g_assert_cmpuint (n_got, >, 0);
  return TRUE;
}

/* test_wait_for_timeout_less_then_0_or_0: nothing starts, and what is ready does not count either. */
static gboolean
test_zero (gpointer data, GError **error)
{
  gint64 values[] = { 0, -1, G_MININT64 };

  for (guint i = 0; i < G_N_ELEMENTS (values); i++)
    {
      belay_auto (BelayTimeout) limit = belay_timeout (values[i]);
      g_autoptr (GError) failure = NULL;

      g_assert_false (belay_await_ok (belay_spawn (note_func, "started"), &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_assert_false (belay_await_ok (belay_future_new_done (), NULL));
      g_assert_true (belay_timeout_expired (limit));
    }
  g_assert_true (belay_sleep (1, error));
  assert_log ("");
  return TRUE;
}

static gboolean
test_never (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (G_MAXINT64);

  g_assert_nonnull (limit);
  return belay_sleep (1000, error);
}

/* test_nested_timeouts_loop_busy: both are over when the fiber comes to run. */
static gboolean
test_nested_later (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) outer = belay_timeout (20);
  {
    belay_auto (BelayTimeout) inner = belay_timeout (10);
    g_autoptr (GError) failure = NULL;

    g_assert_false (belay_sleep (100, &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_assert_true (belay_timeout_expired (inner));
    g_assert_false (belay_timeout_expired (outer));
    {
      belay_auto (BelayShield) shield = belay_shield ();

      g_assert_true (shield != NULL && belay_sleep (30, error));
    }
    g_assert_false (belay_checkpoint (NULL));
    g_assert_true (belay_timeout_expired (outer));
  }
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/peers/timeouts/C01-expires", test_c01);
  thing_add_test ("/peers/timeouts/C03-same-deadline-twice", test_c03);
  thing_add_test ("/peers/timeouts/C04-not-called", test_c04);
  thing_add_test ("/peers/timeouts/C07-foreign-error-passes", test_c07);
  thing_add_test ("/peers/timeouts/C08-foreign-error-after-the-time-out", test_c08);
  thing_add_test ("/peers/timeouts/C09-foreign-cancel-is-no-time-out", test_c09);
  thing_add_test ("/peers/timeouts/C09-in-the-same-instant", test_c09_same_instant);
  thing_add_test ("/peers/timeouts/C12-rescheduled", test_c12);
  thing_add_test ("/peers/timeouts/C12-rescheduled-time-out", test_c12_timeout);
  thing_add_test ("/peers/timeouts/C12-rescheduled-while-it-sleeps", test_c12_asleep);
  thing_add_test ("/peers/timeouts/shared-instant", test_at);
  thing_add_test ("/peers/timeouts/C14-waits-for-the-clean-up", test_c14);
  thing_add_test ("/peers/timeouts/C16-all-in-one-tick", test_c16);
  thing_add_test ("/peers/timeouts/zero-and-less", test_zero);
  thing_add_test ("/peers/timeouts/never", test_never);
  thing_add_test ("/peers/timeouts/nested-and-both-late", test_nested_later);
  return g_test_run ();
}
