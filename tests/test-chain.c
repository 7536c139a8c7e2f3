/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chains: callback code whose owner is a scope. */
#include "thing.h"

static gboolean
on_value (BelayFuture *done, gpointer data, GError **error)
{
  gint64 value = 0;

  g_assert_false (belay_in_fiber ());
  if (!belay_future_take_int64 (done, &value, error))
    return FALSE;
  thing_note ("%s=%d", (const char *) data, (int) value);
  return TRUE;
}

static gboolean
on_anything (BelayFuture *done, gpointer data, GError **error)
{
  const GError *failure = belay_future_get_error (done);

  thing_note ("%s:%s", (const char *) data, failure != NULL ? failure->message : "ok");
  return TRUE;
}

static gboolean
never_called (BelayFuture *done, gpointer data, GError **error)
{
  g_assert_not_reached ();
}

/* Outside of fibers a close is scheduled; this waits for it. */
static void
close_and_drain (BelayScope *scope)
{
  belay_scope_close (&scope, NULL);
  thing_settle ();
}

/* --- called --- */

/* Never inside of the call, nor inside of what resolves. */
static void
test_not_inline (void)
{
  BelayScope *scope = belay_scope_new ();
  BelayPromise *promise = belay_promise_new ();

  belay_scope_then (scope, belay_future_new_int64 (1), on_value, "ready");
  belay_scope_then (scope, belay_promise_get_future (promise), on_value, "pending");
  thing_note ("given");
  thing_settle ();
  assert_log ("given ready=1");
  belay_promise_resolve_int64 (promise, 2);
  belay_promise_unref (promise);
  thing_note ("resolved");
  thing_settle ();
  assert_log ("resolved pending=2");
  close_and_drain (scope);
}

static void
test_rejected (void)
{
  BelayScope *scope = belay_scope_new ();

  belay_scope_then (scope, belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no such page"), on_anything, "page");
  thing_settle ();
  assert_log ("page:no such page");
  close_and_drain (scope);
}

typedef struct
{
  BelayScope *scope;
  guint       n;
} Steps;

static gboolean
next_step (BelayFuture *done, gpointer data, GError **error)
{
  Steps *steps = data;

  if (++steps->n < 1000)
    belay_scope_then (steps->scope, belay_future_new_done (), next_step, steps);
  return TRUE;
}

/* A step may add the next. */
static void
test_steps (void)
{
  Steps steps = { belay_scope_new (), 0 };

  belay_scope_then (steps.scope, belay_future_new_done (), next_step, &steps);
  thing_settle ();
  g_assert_cmpuint (steps.n, ==, 1000);
  close_and_drain (steps.scope);
}

static gpointer home_thread;

static gboolean
on_home (BelayFuture *done, gpointer data, GError **error)
{
  g_assert_true (g_thread_self () == home_thread);
  g_atomic_int_inc ((int *) data);
  return TRUE;
}

typedef struct
{
  BelayScope *scope;
  int         n;
} Threads;

static gpointer
chain_on_thread (gpointer data)
{
  Threads *threads = data;

  for (guint i = 0; i < 500; i++)
    {
      BelayPromise *promise = belay_promise_new ();

      belay_scope_then (threads->scope, belay_promise_get_future (promise), on_home, &threads->n);
      belay_promise_resolve (promise);
      belay_promise_unref (promise);
    }
  return NULL;
}

/* On the scope's home, whoever chains and whoever resolves. */
static void
test_from_threads (void)
{
  Threads threads = { belay_scope_new (), 0 };
  GThread *plain[2];

  home_thread = g_thread_self ();
  for (guint i = 0; i < G_N_ELEMENTS (plain); i++)
    plain[i] = g_thread_new ("plain", chain_on_thread, &threads);
  while (g_atomic_int_get (&threads.n) < 1000)
    g_main_context_iteration (NULL, TRUE);
  for (guint i = 0; i < G_N_ELEMENTS (plain); i++)
    g_thread_join (plain[i]);
  close_and_drain (threads.scope);
}

/* --- never called --- */

static gboolean
test_not_after_close (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  BelayPromise *promise = belay_promise_new ();

  belay_scope_then (scope, belay_promise_get_future (promise), never_called, NULL);
  belay_scope_then (scope, belay_future_new_done (), never_called, NULL); /* queued already */
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_true (belay_promise_resolve (promise));
  belay_promise_unref (promise);
  return belay_sleep (5, error);
}

/* Not either while the close waits for a child. */
static gboolean
resolve_later (gpointer promise, GError **error)
{
  gboolean ok = belay_sleep (5, error);

  belay_promise_resolve (promise);
  return ok && belay_sleep (5, error);
}

static gboolean
test_not_while_closing (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  BelayPromise *promise = belay_promise_new ();

  belay_scope_then (scope, belay_promise_get_future (promise), never_called, NULL);
  g_assert_true (belay_scope_spawn (scope, resolve_later, promise, (GDestroyNotify) belay_promise_unref));
  return belay_scope_close (&scope, error);
}

static gboolean
test_not_after_cancel (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  BelayPromise *promise = belay_promise_new ();

  belay_scope_then (scope, belay_promise_get_future (promise), never_called, NULL);
  belay_scope_then (scope, belay_future_new_done (), never_called, NULL);
  belay_scope_cancel (scope, "enough");
  belay_scope_then (scope, belay_future_new_done (), never_called, NULL); /* given too late */
  belay_promise_resolve (promise);
  belay_promise_unref (promise);
  g_assert_true (belay_sleep (5, error));
  belay_scope_close (&scope, NULL);
  return TRUE;
}

static void
on_unwanted (gpointer data)
{
  thing_note ("unwanted");
}

/* A cancellation drops the interest in what the chains wait for, at once: the work may end. */
static gboolean
test_cancel_drops (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayPromise) promise = belay_promise_new ();

  belay_promise_on_cancel (promise, on_unwanted, NULL, NULL);
  belay_scope_then (scope, belay_promise_get_future (promise), never_called, NULL);
  belay_scope_then (scope, thing_open_in ("a", 10), never_called, NULL);
  g_assert_true (belay_sleep (1, error));
  belay_scope_cancel (scope, "enough");
  assert_log ("unwanted");
  g_assert_true (belay_sleep (20, error)); /* and the opening is cancelled */
  assert_log ("");
  belay_scope_close (&scope, NULL);
  return TRUE;
}

static void
test_cancel_drops_outside (void)
{
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayPromise) promise = belay_promise_new ();

  belay_promise_on_cancel (promise, on_unwanted, NULL, NULL);
  belay_scope_then (scope, belay_promise_get_future (promise), never_called, NULL);
  thing_settle ();
  belay_scope_cancel (scope, "enough");
  thing_settle ();
  assert_log ("unwanted");
  close_and_drain (scope);
}

static gboolean
answer_later (gpointer promise, GError **error)
{
  belay_sleep (10, NULL);
  thing_note ("answered");
  belay_promise_resolve (promise);
  return TRUE;
}

/* Work that uses memory of the scope's owner is asked to end, and the close waits until it has. */
static gboolean
test_borrowing (gpointer data, GError **error)
{
  for (guint cancelled = 0; cancelled < 2; cancelled++)
    {
      BelayScope *scope = belay_scope_new ();
      g_autoptr (BelayPromise) promise = belay_promise_new ();
      BelayFuture *answering = belay_spawn (answer_later, promise);

      belay_promise_set_borrowing (promise);
      belay_promise_on_cancel (promise, on_unwanted, NULL, NULL);
      belay_scope_then (scope, belay_promise_get_future (promise), never_called, NULL);
      g_assert_true (belay_yield (error));
      if (cancelled)
        belay_scope_cancel (scope, "enough");
      belay_scope_close (&scope, NULL);
      thing_note ("closed");
      g_assert_true (belay_await_ok (answering, error));
      assert_log ("unwanted answered closed");
    }
  return TRUE;
}

/* What the future would have given is released. */
static gboolean
test_value_released (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();

  belay_scope_then (scope, thing_open ("a"), never_called, NULL);
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_true (belay_sleep (1, error));
  assert_log ("+a -a");
  scope = belay_scope_new ();
  belay_scope_then (scope, thing_open ("b"), never_called, NULL);
  belay_scope_cancel (scope, "enough");
  g_assert_true (belay_sleep (1, error));
  assert_log ("+b -b");
  belay_scope_close (&scope, NULL);
  return TRUE;
}

static void
test_late (void)
{
  g_autoptr (BelayScope) kept = belay_scope_new ();
  BelayScope *scope = belay_scope_ref (kept);

  close_and_drain (scope);
  belay_scope_then (kept, thing_open ("a"), never_called, NULL);
  thing_settle ();
  assert_log ("+a -a");
}

/* The widget: it may go at any moment, with callbacks under way that have it as their data. */
static gboolean
widget_callback (BelayFuture *done, gpointer data, GError **error)
{
  g_assert_true (G_IS_OBJECT (data)); /* under a sanitizer: a use after the end */
  thing_note ("widget");
  return TRUE;
}

static void
test_widget (void)
{
  for (guint i = 0; i < 6; i++)
    {
      GObject *widget = g_object_new (G_TYPE_OBJECT, NULL);
      BelayPromise *promise = belay_promise_new ();

      belay_scope_then (belay_scope_for_object (widget), belay_promise_get_future (promise), widget_callback, widget);
      if (i >= 3)
        g_main_context_iteration (NULL, FALSE);
      if (i % 3 >= 1)
        belay_promise_resolve (promise);
      if (i % 3 == 2)
        thing_settle ();
      g_object_unref (widget);
      if (i % 3 == 0)
        belay_promise_resolve (promise);
      belay_promise_unref (promise);
      thing_settle ();
      if (i % 3 == 2)
        assert_log ("widget");
      else
        assert_log ("");
    }
}

/* A callback may end its own scope. */
static gboolean
drop_owner (BelayFuture *done, gpointer data, GError **error)
{
  g_object_unref (data);
  thing_note ("dropped");
  return TRUE;
}

static void
test_callback_drops_owner (void)
{
  GObject *widget = g_object_new (G_TYPE_OBJECT, NULL);

  for (guint i = 0; i < 2; i++)
    belay_scope_then (belay_scope_for_object (widget), belay_future_new_done (), drop_owner, widget);
  thing_settle ();
  assert_log ("dropped"); /* by whichever came first; the other is not called */
}

static gboolean
close_own_scope (BelayFuture *done, gpointer data, GError **error)
{
  BelayScope *scope = data;

  g_assert_true (belay_scope_close (&scope, error));
  thing_note ("closed");
  return TRUE;
}

static void
test_callback_closes_scope (void)
{
  BelayScope *scope = belay_scope_new ();

  belay_scope_then (scope, belay_future_new_done (), close_own_scope, scope);
  thing_settle ();
  assert_log ("closed");
}

/* --- errors --- */

static gboolean
fail_step (BelayFuture *done, gpointer data, GError **error)
{
  return fail_func (data, error);
}

/* A failed callback fails the scope: the others are cancelled, its close says why. */
static gboolean
test_failed_callback (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayPromise) promise = belay_promise_new ();

  belay_promise_on_cancel (promise, on_unwanted, NULL, NULL);
  belay_scope_then (scope, belay_promise_get_future (promise), never_called, NULL);
  g_assert_true (belay_scope_spawn (scope, wait_func, NULL, NULL));
  belay_scope_then (scope, belay_future_new_done (), fail_step, "the page is torn");
  g_assert_true (belay_sleep (1, error));
  g_assert_true (belay_scope_is_cancelled (scope));
  assert_log ("unwanted");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "the page is torn");
  return TRUE;
}

static void
test_failed_callback_of_object (void)
{
  GObject *widget = g_object_new (G_TYPE_OBJECT, NULL);

  belay_scope_then (belay_scope_for_object (widget), belay_future_new_done (), fail_step, "the page is torn");
  thing_settle ();
  g_object_unref (widget);
  thing_settle ();
  assert_sunk ("the page is torn");
}

static gboolean
fail_and_drop (BelayFuture *done, gpointer data, GError **error)
{
  g_object_unref (data);
  return fail_func ("too late to tell", error);
}

static void
test_failure_without_owner (void)
{
  GObject *widget = g_object_new (G_TYPE_OBJECT, NULL);

  belay_scope_then (belay_scope_for_object (widget), belay_future_new_done (), fail_and_drop, widget);
  thing_settle ();
  assert_sunk ("too late to tell");
}

static gboolean
false_without_error (BelayFuture *done, gpointer data, GError **error)
{
  return FALSE;
}

static gboolean
test_misuse (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new ();

  expect_critical ("*a chained callback returned failure without an error*");
  belay_scope_then (scope, belay_future_new_done (), false_without_error, NULL);
  g_assert_true (belay_sleep (1, error));
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

typedef struct
{
  BelayScope   *scope;
  BelayPromise *promise;
} Late;

/* Given too late, it is waited for as well: by the close, or when that is over by the end of the program. */
static gboolean
chain_late (gpointer data, GError **error)
{
  Late *late = data;

  belay_scope_then (late->scope, belay_promise_get_future (late->promise), never_called, NULL);
  return TRUE;
}

static gpointer
chain_late_on_thread (gpointer data)
{
  return chain_late (data, NULL) ? data : NULL;
}

static gboolean
test_late_borrowing (gpointer data, GError **error)
{
  for (guint when = 0; when < 4; when++)
    {
      g_autoptr (BelayScope) kept = belay_scope_new ();
      BelayScope *scope = belay_scope_ref (kept);
      g_autoptr (BelayPromise) promise = belay_promise_new ();
      g_autoptr (BelayFuture) answering = NULL;
      Late late = { scope, promise };
      guint n_pending;

      belay_promise_set_borrowing (promise);
      belay_promise_on_cancel (promise, on_unwanted, NULL, NULL);
      switch (when)
        {
        case 0:
          belay_scope_cancel (scope, "enough");
          chain_late (&late, NULL);
          break;
        case 1: /* on its way when the close begins */
          g_thread_join (g_thread_new ("late", chain_late_on_thread, &late));
          break;
        case 2: /* while it releases */
          belay_scope_defer (scope, chain_late, &late);
          break;
        default:
          g_assert_true (belay_scope_close (&scope, error));
          n_pending = belay_get_n_pending ();
          chain_late (&late, NULL);
          g_assert_cmpuint (belay_get_n_pending (), ==, n_pending + 1);
          belay_promise_resolve (promise);
          g_assert_true (belay_sleep (1, error));
          g_assert_cmpuint (belay_get_n_pending (), ==, n_pending);
          assert_log ("unwanted");
          continue;
        }
      answering = belay_spawn (answer_later, promise);
      belay_scope_close (&scope, NULL);
      thing_note ("closed");
      g_assert_true (belay_await_ok (belay_future_ref (answering), error));
      assert_log ("unwanted answered closed");
    }
  return TRUE;
}

/* A release that closes the scope of such a chain does not wait for ever. */
static gboolean
close_chained (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = data != NULL ? belay_scope_begin () : belay_scope_new ();
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  BelayFuture *future;

  belay_promise_set_borrowing (promise);
  future = belay_promise_get_future (promise);
  belay_scope_then (scope, belay_future_ref (future), never_called, NULL);
  g_assert_false (belay_scope_close (&scope, error));
  belay_promise_resolve (promise);
  belay_future_unref (future);
  return FALSE;
}

static gboolean
test_borrowing_in_release (gpointer data, GError **error)
{
  for (guint i = 0; i < 2; i++)
    {
      g_autoptr (GError) failure = NULL;
      belay_auto (BelayScope) scope = belay_scope_begin ();
      gint64 begin = now_ms ();

      belay_scope_set_release_timeout (scope, 200);
      belay_scope_defer (scope, close_chained, GUINT_TO_POINTER (i));
      g_assert_false (belay_scope_close (&scope, &failure));
      g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
      g_assert_cmpint (now_ms () - begin, ==, 200);
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_plain_test ("/chain/never-inside-of-a-call", test_not_inline);
  thing_add_plain_test ("/chain/rejected-futures-too", test_rejected);
  thing_add_plain_test ("/chain/step-by-step", test_steps);
  thing_add_single_plain_test ("/chain/L15-at-home-from-any-thread", test_from_threads);
  thing_add_test ("/chain/not-after-the-close", test_not_after_close);
  thing_add_test ("/chain/not-while-it-closes", test_not_while_closing);
  thing_add_test ("/chain/not-after-a-cancel", test_not_after_cancel);
  thing_add_test ("/chain/L19-cancel-drops-the-interest", test_cancel_drops);
  thing_add_plain_test ("/chain/L19-cancel-drops-the-interest-outside-a-fiber", test_cancel_drops_outside);
  thing_add_test ("/chain/close-waits-for-work-that-borrows", test_borrowing);
  thing_add_test ("/chain/L22-late-work-that-borrows-is-waited-for", test_late_borrowing);
  thing_add_test ("/chain/L7-close-in-a-release-does-not-wait-for-ever", test_borrowing_in_release);
  thing_add_test ("/chain/L21-value-is-released", test_value_released);
  thing_add_plain_test ("/chain/L12-on-a-closed-scope", test_late);
  thing_add_plain_test ("/chain/object-may-go-at-any-moment", test_widget);
  thing_add_plain_test ("/chain/callback-drops-the-owner", test_callback_drops_owner);
  thing_add_plain_test ("/chain/callback-closes-the-scope", test_callback_closes_scope);
  thing_add_test ("/chain/L27-failed-callback-fails-the-scope", test_failed_callback);
  thing_add_plain_test ("/chain/L9-failure-in-an-objects-scope", test_failed_callback_of_object);
  thing_add_plain_test ("/chain/L9-failure-when-the-owner-is-gone", test_failure_without_owner);
  thing_add_test ("/chain/failure-without-an-error", test_misuse);
  return g_test_run ();
}
