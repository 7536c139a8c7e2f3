/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Managers: one function that acquires, lends and releases. */
#include "thing.h"

#include <string.h>

/* What a manager function of these tests does. */
typedef struct
{
  gint64      acquire_ms, release_ms;
  const char *acquire_error, *release_error;
  gboolean    swallows;    /* it returns TRUE however the body ended */
  gboolean    hangs;       /* it does not end by itself after the yield */
  BelayFunc   after;       /* called after the yield */
} Way;

static gboolean
manage (BelayManager *manager, gpointer data, GError **error)
{
  Way *way = data;
  g_autoptr (GError) ending = NULL;
  gboolean ok;
  belay_auto (Thing) outer = thing_new ("o");

  g_assert_true (belay_in_fiber () && outer != NULL);
  if (way->acquire_ms > 0 && !belay_sleep (way->acquire_ms, error))
    return FALSE;
  if (way->acquire_error != NULL)
    return fail_func ((gpointer) way->acquire_error, error);
  belay_auto (Thing) inner = thing_new ("i");
  g_assert_nonnull (inner);

  ok = belay_manager_yield (manager, "value", &ending);
  g_assert_true (ok == (ending == NULL));
  thing_note ("ended:%s", ok ? "ok" : ending->message);
  if (way->after != NULL)
    g_assert_true (way->after (manager, error));
  if (way->hangs)
    {
      gboolean released = wait_func (NULL, error);

      thing_note ("forced");
      return released;
    }
  if (way->release_ms > 0)
    {
      g_assert_true (belay_sleep (way->release_ms, error)); /* shielded */
      thing_note ("released");
    }
  if (way->release_error != NULL)
    return fail_func ((gpointer) way->release_error, error);
  if (ok || way->swallows)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&ending));
  return FALSE;
}

/* --- used --- */

static gboolean
test_normal (gpointer data, GError **error)
{
  Way way = { 10, 10 };
  gint64 begin = now_ms ();

  BELAY_WITH (BelayManager, m, belay_manager_open (manage, &way), error)
    {
      g_assert_cmpint (now_ms () - begin, ==, 10);
      g_assert_cmpstr (belay_manager_get_value (m), ==, "value");
      thing_note ("body");
    }
  else
    g_assert_not_reached ();
  thing_note ("after");
  g_assert_cmpint (now_ms () - begin, ==, 20);
  assert_log ("+o +i body ended:ok released -i -o after");
  return TRUE;
}

static gboolean
test_closed (gpointer data, GError **error)
{
  Way way = { 0 };
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, &way), error);

  g_assert_nonnull (m);
  thing_note ("body");
  g_assert_true (belay_close (&m, error));
  assert_log ("+o +i body ended:ok -i -o");
  return TRUE;
}

static gboolean
leave (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, data), error);

  thing_note ("body");
  return m != NULL;
}

/* Left without a word: that is no success, and no failure of the release. */
static gboolean
test_left (gpointer data, GError **error)
{
  Way way = { 0, 10 };
  g_autoptr (GError) failure = thing_outcome (leave, &way);

  g_assert_no_error (failure);
  assert_log ("+o +i body ended:the body was left without a word released -i -o");
  return TRUE;
}

static gboolean
fail_in_body (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, data), error);

  g_assert_nonnull (m);
  return fail_func ("no such page", error);
}

static gboolean
test_body_fails (gpointer data, GError **error)
{
  Way way = { 0, 10 }, swallowing = { .swallows = TRUE };
  g_autoptr (GError) failure = thing_outcome (fail_in_body, &way);
  g_autoptr (GError) other = thing_outcome (fail_in_body, &swallowing);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED); /* the body's own */
  g_assert_cmpstr (failure->message, ==, "no such page");
  g_assert_error (other, G_IO_ERROR, G_IO_ERROR_FAILED);
  assert_log ("+o +i ended:the body was left without a word released -i -o +o +i ended:the body was left without a word -i -o");
  return TRUE;
}

/* The block falls off its end, but its error is set: that is no success. */
static gboolean
fail_in_block (gpointer data, GError **error)
{
  gboolean ok = FALSE;

  BELAY_WITH (BelayManager, m, belay_manager_open (manage, data), error)
    ok = m != NULL && fail_func ("no such page", error);
  return ok;
}

static gboolean
test_block_fails (gpointer data, GError **error)
{
  Way way = { 0 };
  g_autoptr (GError) failure = thing_outcome (fail_in_block, &way);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "no such page");
  assert_log ("+o +i ended:no such page -i -o");
  return TRUE;
}

static gboolean
body_waits (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, data), error);

  return m != NULL && wait_func (NULL, error);
}

static gboolean
test_body_cancelled (gpointer data, GError **error)
{
  Way way = { 0, 10 };
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, body_waits, &way, NULL));
  g_assert_true (belay_sleep (5, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("+o +i ended:the body was cancelled released -i -o"); /* the release was not */
  return TRUE;
}

static gboolean
body_timed (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (5);
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, data), error);

  return limit != NULL && m != NULL && wait_func (NULL, error);
}

static gboolean
test_body_timed_out (gpointer data, GError **error)
{
  Way way = { 0, 10 };
  g_autoptr (GError) failure = thing_outcome (body_timed, &way);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_log ("+o +i ended:the body ran out of time released -i -o");
  return TRUE;
}

static gboolean
test_entered_into_scope (gpointer data, GError **error)
{
  Way way = { 1 }, other = { 1 };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_nonnull (belay_enter (scope, belay_manager_open (manage, &way), error));
  g_assert_nonnull (belay_enter (scope, belay_manager_open (manage, &other), error));
  assert_log ("+o +i +o +i");
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("ended:ok -i -o ended:ok -i -o");
  return TRUE;
}

static gboolean
on_opened (BelayFuture *done, gpointer data, GError **error)
{
  BelayManager *manager = belay_future_take (done, error);

  if (manager == NULL)
    return FALSE;
  g_assert_cmpstr (belay_manager_get_value (manager), ==, "value");
  thing_note ("opened");
  belay_release (&manager);
  return TRUE;
}

/* From callback code. */
static void
test_outside (void)
{
  Way way = { 5, 5 };
  BelayScope *scope = belay_scope_new ();

  belay_scope_then (scope, belay_manager_open (manage, &way), on_opened, NULL);
  thing_drain ();
  assert_log ("+o +i opened ended:the body was left without a word released -i -o");
  belay_scope_close (&scope, NULL);
  thing_drain ();
}

static gboolean
on_opened_close (BelayFuture *done, gpointer data, GError **error)
{
  BelayManager *manager = belay_future_take (done, error);

  return manager != NULL && belay_close (&manager, error);
}

/* What was closed there ended well. */
static void
test_closed_outside (void)
{
  Way way = { 0, 5 };
  BelayScope *scope = belay_scope_new ();

  belay_scope_then (scope, belay_manager_open (manage, &way), on_opened_close, NULL);
  thing_drain ();
  assert_log ("+o +i ended:ok released -i -o");
  belay_scope_close (&scope, NULL);
  thing_drain ();
}

/* --- that fail --- */

static gboolean
test_acquire_fails (gpointer data, GError **error)
{
  Way way = { .acquire_ms = 5, .acquire_error = "no server" };
  g_autoptr (GError) failure = NULL;
  guint n_else = 0;

  BELAY_WITH (BelayManager, m, belay_manager_open (manage, &way), &failure)
    g_assert_null (m);
  else
    n_else++;
  g_assert_cmpuint (n_else, ==, 1);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "no server");
  assert_log ("+o -o");
  return TRUE;
}

static gboolean
test_release_fails (gpointer data, GError **error)
{
  Way way = { .release_error = "the server hung up" };
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, &way), error);

  g_assert_nonnull (m);
  g_assert_false (belay_close (&m, &failure));
  g_assert_null (m);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "the server hung up");
  assert_log ("+o +i ended:ok -i -o");
  return TRUE;
}

static gboolean
test_release_fails_when_left (gpointer data, GError **error)
{
  Way way = { .release_error = "the server hung up" };
  g_autoptr (GError) failure = thing_outcome (leave, &way);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "closing a BelayManager: the server hung up");
  return TRUE;
}

/* The guard of a manager function that fails to release is the function's own matter. */
static gboolean
failing_guard (BelayManager *manager, gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  return a != NULL && belay_manager_yield (manager, NULL, error);
}

static gboolean
test_guard_fails (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayManager) m = belay_await (belay_manager_open (failing_guard, NULL), error);

  g_assert_nonnull (m);
  g_assert_null (belay_manager_get_value (m)); /* NULL may be lent */
  g_assert_false (belay_close (&m, &failure));
  g_assert_cmpstr (failure->message, ==, "closing a BelayTestResource: a is stuck");
  return TRUE;
}

static gboolean
test_release_hangs (gpointer data, GError **error)
{
  Way way = { .hangs = TRUE };
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, &way), error);

  g_assert_nonnull (m);
  g_assert_false (belay_close (&m, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 5000);
  g_assert_true (belay_sleep (1, error)); /* the function was told; its guards unwind after the body has gone on */
  assert_log ("+o +i ended:ok forced -i -o");
  return TRUE;
}

static gboolean
go_on_for_long (gpointer manager, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  g_assert_nonnull (shield);
  belay_sleep (20000, NULL);
  g_assert_cmpstr (belay_manager_get_value (manager), ==, "value"); /* still there for the function */
  return TRUE;
}

/* One that does not even listen: it is pending, and what it holds is released when it ends. */
static gboolean
test_release_ignores_its_deadline (gpointer data, GError **error)
{
  Way way = { .after = go_on_for_long };
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, &way), error);

  g_assert_nonnull (m);
  g_assert_false (belay_close (&m, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 5000);
  g_assert_cmpuint (belay_get_n_pending (), ==, 2);
  g_assert_true (belay_sleep (20000, error));
  assert_log ("+o +i ended:ok -i -o");
  return TRUE;
}

/* --- misuse --- */

static gboolean
without_yield (BelayManager *manager, gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new ("a");

  return a != NULL;
}

static gboolean
test_no_yield (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  expect_critical ("*ended without belay_manager_yield()*");
  g_assert_null (belay_await (belay_manager_open (without_yield, NULL), &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  assert_log ("+a -a");
  return TRUE;
}

static gboolean
two_yields (BelayManager *manager, gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_manager_yield (manager, "one", error));
  expect_critical ("*belay_manager_yield: to be called once*");
  g_assert_false (belay_manager_yield (manager, "two", &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  thing_note ("on");
  return TRUE;
}

static gboolean
test_two_yields (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (two_yields, NULL), error);

  g_assert_cmpstr (belay_manager_get_value (m), ==, "one");
  g_assert_true (belay_close (&m, error));
  assert_log ("on");
  return TRUE;
}

static gboolean
yield_elsewhere (gpointer manager, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_manager_yield (manager, "other", &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

static gboolean
in_child (BelayManager *manager, gpointer data, GError **error)
{
  expect_critical ("*belay_manager_yield: to be called once*");
  return belay_await_ok (belay_spawn (yield_elsewhere, manager), error) && belay_manager_yield (manager, "own", error);
}

static gboolean
test_yield_in_other_fiber (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (in_child, NULL), error);

  g_assert_cmpstr (belay_manager_get_value (m), ==, "own");
  return belay_close (&m, error);
}

static gboolean
false_without_error (BelayManager *manager, gpointer data, GError **error)
{
  return belay_manager_yield (manager, NULL, NULL) && FALSE;
}

static gboolean
test_false_without_error (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayManager) m = belay_await (belay_manager_open (false_without_error, NULL), error);

  expect_critical ("*a manager function returned failure without an error*");
  g_assert_false (belay_close (&m, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

/* --- interrupted while acquiring --- */

static gboolean
open_timed (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (5);
  belay_auto (BelayManager) m = belay_await (belay_manager_open (manage, data), error);

  return limit == NULL || m != NULL;
}

static gboolean
test_timed_out_while_acquiring (gpointer data, GError **error)
{
  Way way = { .acquire_ms = 100 };
  g_autoptr (GError) failure = thing_outcome (open_timed, &way);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (belay_sleep (1, error));
  assert_log ("+o -o"); /* its guards unwound */
  g_assert_cmpuint (belay_get_n_pending (), ==, 1);
  return TRUE;
}

static gboolean
test_dropped_before_it_began (gpointer data, GError **error)
{
  Way way = { .acquire_ms = 100 };

  belay_future_unref (belay_manager_open (manage, &way));
  g_assert_true (belay_sleep (1, error));
  assert_log (""); /* never ran; a sanitizer sees that nothing is left of it */
  g_assert_cmpuint (belay_get_n_pending (), ==, 1);
  return TRUE;
}

static gboolean
test_dropped_when_lent (gpointer data, GError **error)
{
  Way way = { .acquire_ms = 5, .release_ms = 5 };
  BelayFuture *opening = belay_manager_open (manage, &way);

  g_assert_true (belay_sleep (6, error));
  belay_future_unref (opening);
  g_assert_true (belay_sleep (10, error));
  assert_log ("+o +i ended:the body was left without a word released -i -o");
  return TRUE;
}

static gboolean
test_refused (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  Way way = { 0 };
  g_autoptr (BelayFuture) opening = NULL;

  belay_scope_cancel (scope, "enough");
  opening = belay_manager_open (manage, &way);
  g_assert_true (belay_future_is_rejected (opening));
  g_assert_error ((GError *) belay_future_get_error (opening), G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("");
  belay_scope_close (&scope, NULL);
  return TRUE;
}

/* What fails in the unwinding of a cancelled opening is not lost. */
static gboolean
fail_when_cancelled (BelayManager *manager, gpointer data, GError **error)
{
  if (!belay_sleep (100, NULL))
    return fail_func ("the server does not let go", error);
  return belay_manager_yield (manager, NULL, error);
}

static gboolean
test_unwinding_fails (gpointer data, GError **error)
{
  BelayFuture *opening = belay_manager_open (fail_when_cancelled, NULL);

  g_assert_true (belay_sleep (1, error));
  belay_future_unref (opening);
  g_assert_true (belay_sleep (1, error));
  assert_sunk ("the server does not let go");
  return TRUE;
}

/* Does as it should: it rolls back when the yield is refused, and that went well. */
static gboolean
rolls_back (BelayManager *manager, gpointer data, GError **error)
{
  g_autoptr (GError) ending = NULL;
  belay_auto (Thing) a = thing_new ("a");
  belay_auto (BelayTimeout) limit = NULL;

  g_assert_nonnull (a);
  {
    belay_auto (BelayShield) shield = belay_shield ();

    g_assert_nonnull (shield);
    if (data != NULL)
      limit = belay_timeout (10);
    belay_sleep (100, NULL);
  }
  g_assert_false (belay_manager_yield (manager, NULL, &ending));
  g_assert_false (belay_manager_swallow (manager)); /* no mistake: the function cannot tell that there was no body */
  thing_note ("refused:%s", ending->code == G_IO_ERROR_CANCELLED ? "cancelled" : "timed-out");
  return TRUE;
}

static gboolean
does_not_even_yield (BelayManager *manager, gpointer data, GError **error)
{
  thing_note ("%s", belay_sleep (100, NULL) ? "slept" : "interrupted");
  return TRUE;
}

/* What the data of a manager or an opening points to is the caller's frame: it is not left while they use it. */
static gboolean
be_interrupted (gpointer data, GError **error)
{
  gboolean ok = belay_sleep (100, error);
  belay_auto (BelayShield) shield = belay_shield ();

  g_assert_true (!ok && shield != NULL && belay_sleep (20, NULL));
  g_assert_cmpstr (data, ==, "of the frame");
  thing_note ("unwound");
  return ok;
}

static gboolean
unwinds_with_data (BelayManager *manager, gpointer data, GError **error)
{
  return be_interrupted (data, error) && belay_manager_yield (manager, NULL, error);
}

static gpointer
opens_with_data (gpointer data, GError **error)
{
  return be_interrupted (data, error) ? thing_new ("a") : NULL;
}

static gboolean
open_and_leave (gpointer is_manager, GError **error)
{
  char frame[] = "of the frame";
  belay_auto (BelayTimeout) limit = belay_timeout (10);
  gpointer opened = belay_await (is_manager ? belay_manager_open (unwinds_with_data, frame) : belay_open (opens_with_data, frame), error);

  g_assert_true (limit != NULL && opened == NULL);
  memset (frame, 'x', sizeof frame - 1);
  return FALSE;
}

static gboolean
test_borrows_data (gpointer data, GError **error)
{
  for (int is_manager = 0; is_manager < 2; is_manager++)
    {
      g_autoptr (GError) late = thing_outcome (open_and_leave, GINT_TO_POINTER (is_manager));

      g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      assert_log ("unwound");
    }
  return TRUE;
}

/* No mistake is reported: the fiber that opened has its own error, and the function ended well. */
static gboolean
test_yield_refused (gpointer data, GError **error)
{
  BelayManagerFunc funcs[] = { rolls_back, does_not_even_yield };
  g_autoptr (GError) failure = NULL;

  for (guint i = 0; i < G_N_ELEMENTS (funcs); i++)
    {
      belay_auto (BelayTimeout) limit = belay_timeout (20);
      g_autoptr (GError) late = NULL;

      g_assert_nonnull (limit);
      g_assert_null (belay_await (belay_manager_open (funcs[i], NULL), &late));
      g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    }
  g_assert_true (belay_sleep (200, error));
  assert_log ("+a refused:cancelled -a interrupted");

  /* By a time-out of its own: that is the answer. */
  g_assert_null (belay_await (belay_manager_open (rolls_back, "own"), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_log ("+a refused:timed-out -a");
  return TRUE;
}

/*
 * Dropped at each instant around the yield: before it the function is interrupted, after it the release is not, and there
 * is nothing in between.
 */
static gboolean
yielding (BelayManager *manager, gpointer data, GError **error)
{
  g_autoptr (GError) ending = NULL;
  belay_auto (Thing) a = thing_new ("a");

  g_assert_nonnull (a);
  for (guint i = 0; i < 4; i++)
    if (!belay_yield (error))
      return FALSE;
  if (!belay_manager_yield (manager, NULL, &ending) && g_error_matches (ending, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      g_propagate_error (error, g_steal_pointer (&ending));
      return FALSE;
    }
  thing_note ("lent");
  for (guint i = 0; i < 4; i++)
    g_assert_true (belay_yield (error));
  g_assert_true (belay_sleep (1, error));
  thing_note ("released");
  return TRUE;
}

static gboolean
test_dropped_at_each_instant (gpointer data, GError **error)
{
  guint n_lent = 0;

  for (guint k = 0; k < 12; k++)
    {
      BelayFuture *opening = belay_manager_open (yielding, NULL);

      for (guint i = 0; i < k; i++)
        g_assert_true (belay_yield (error));
      belay_future_unref (opening);
      g_assert_true (belay_sleep (10, error));
      g_assert_cmpuint (belay_get_n_pending (), ==, 1);
      g_assert_cmpint (thing_count.freed, ==, thing_count.opened);
      g_assert_true ((strstr (thing_log (), "lent") != NULL) == (strstr (thing_log (), "released") != NULL));
      if (strstr (thing_log (), "lent") != NULL)
        n_lent++;
      thing_clear_log ();
    }
  if (belay_test_get_seed () == 0) /* else either may be held back each time */
    {
      g_assert_cmpuint (n_lent, >, 0);
      g_assert_cmpuint (n_lent, <, 12);
    }
  return TRUE;
}

static gpointer
drop_on_thread (gpointer future)
{
  belay_future_unref (future);
  return NULL;
}

/* The same from another thread. */
static gboolean
test_dropped_on_thread (gpointer data, GError **error)
{
  for (guint k = 0; k < 200; k++)
    {
      GThread *thread = g_thread_new ("dropper", drop_on_thread, belay_manager_open (yielding, NULL));

      for (guint i = 0; i < k % 20; i++)
        g_assert_true (belay_yield (error));
      g_thread_join (thread);
      while (belay_get_n_pending () > 1)
        g_assert_true (belay_sleep (1, error)); /* a yield would hold the virtual clock */
      g_assert_cmpint (thing_count.freed, ==, thing_count.opened);
      g_assert_true ((strstr (thing_log (), "lent") != NULL) == (strstr (thing_log (), "released") != NULL));
      thing_clear_log ();
    }
  return TRUE;
}

/* --- inside of the function --- */

/* Limits of its own, from before the yield, do not reach its release. */
static gboolean
with_timeout (BelayManager *manager, gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (10);

  g_assert_nonnull (limit);
  return belay_manager_yield (manager, NULL, error);
}

static gboolean
test_body_is_not_bounded_by_it (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (with_timeout, NULL), error);

  g_assert_nonnull (m);
  g_assert_true (belay_sleep (100, error)); /* the body is outside of that time-out */
  return belay_close (&m, error);
}

static gboolean
nested_manager (BelayManager *manager, gpointer data, GError **error)
{
  belay_auto (BelayManager) inner = belay_await (belay_manager_open (manage, data), error);
  g_autofree char *value = NULL;

  if (inner == NULL)
    return FALSE;
  value = g_strconcat ("nested ", belay_manager_get_value (inner), NULL);
  return belay_manager_yield (manager, value, error) && belay_close (&inner, error);
}

static gboolean
test_nested (gpointer data, GError **error)
{
  Way way = { 5, 5 };

  BELAY_WITH (BelayManager, m, belay_manager_open (nested_manager, &way), error)
    g_assert_cmpstr (belay_manager_get_value (m), ==, "nested value");
  else
    g_assert_not_reached ();
  assert_log ("+o +i ended:ok released -i -o");
  return TRUE;
}

static gboolean
note_child (gpointer data, GError **error)
{
  if (!belay_sleep (20, error))
    return FALSE;
  thing_note ("child");
  return TRUE;
}

/* A child that it spawned before the yield lives while the body runs, and is joined at the end. */
static gboolean
with_child (BelayManager *manager, gpointer data, GError **error)
{
  BelayFuture *child = belay_spawn (note_child, NULL);

  if (!belay_manager_yield (manager, NULL, error))
    {
      belay_future_unref (child);
      return FALSE;
    }
  return belay_await_ok (child, error);
}

static gboolean
test_child (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (with_child, NULL), error);

  g_assert_nonnull (m);
  thing_note ("body");
  g_assert_true (belay_close (&m, error));
  assert_log ("body child");
  return TRUE;
}

/* --- the body's outcome --- */

/* A transaction, say: it commits by the outcome, swallows when told so, and its end may fail. */
typedef struct
{
  gboolean    swallows;
  const char *end_error; /* of its release */
  gboolean    refused;   /* what it was told when it wanted to swallow */
} Outcome;

static gboolean
by_outcome (BelayManager *manager, gpointer data, GError **error)
{
  Outcome *self = data;
  g_autoptr (GError) told = NULL;
  gboolean ok = belay_manager_yield (manager, "tx", &told);

  if (ok)
    thing_note ("commit");
  else
    thing_note ("rollback:%s:%s:%d", told->message, g_quark_to_string (told->domain), told->code);
  if (!ok && self->swallows)
    self->refused = !belay_manager_swallow (manager);
  if (self->end_error != NULL)
    return fail_func ((gpointer) self->end_error, error);
  return TRUE;
}

static gboolean
fail_busy (GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "the page is busy");
  return FALSE;
}

static gboolean
use_finish (Outcome *way, gboolean works, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (by_outcome, way), error);

  return m != NULL && belay_manager_finish (&m, works || fail_busy (error), error);
}

/* finish: the yield fails with the very error of the body; the manager commits or rolls back by that. */
static gboolean
test_finish (gpointer data, GError **error)
{
  Outcome plain = { 0 };
  g_autoptr (GError) failure = NULL;
  g_autofree char *expected = g_strdup_printf ("commit rollback:the page is busy:g-io-error-quark:%d", G_IO_ERROR_BUSY);

  g_assert_true (use_finish (&plain, TRUE, error));
  g_assert_false (use_finish (&plain, FALSE, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (failure->message, ==, "the page is busy");
  g_assert_null (belay_attached_errors ());
  assert_log (expected);
  return TRUE;
}

/* What the release adds is attached, to the body's error, or to nothing when that succeeded or was swallowed. */
static gboolean
test_finish_release_fails (gpointer data, GError **error)
{
  Outcome stuck = { .end_error = "stuck" }, swallowing = { TRUE, "stuck" };
  g_autoptr (GError) body = NULL, release = NULL, swallowed = NULL;

  g_assert_false (use_finish (&stuck, FALSE, &body));
  g_assert_error (body, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (body->message, ==, "the page is busy (and 1 more)");
  assert_attached ("closing a BelayManager: stuck");
  g_assert_false (use_finish (&stuck, TRUE, &release));
  g_assert_error (release, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (release->message, ==, "stuck");
  g_assert_null (belay_attached_errors ());
  g_assert_false (use_finish (&swallowing, FALSE, &swallowed));
  g_assert_false (swallowing.refused);
  g_assert_cmpstr (swallowed->message, ==, "stuck");
  thing_clear_log ();
  return TRUE;
}

static gboolean
test_swallow (gpointer data, GError **error)
{
  Outcome way = { TRUE };
  g_autoptr (GError) failure = NULL;

  g_assert_true (use_finish (&way, FALSE, &failure));
  g_assert_no_error (failure);
  g_assert_true (use_finish (&way, FALSE, NULL)); /* with and without an error to clear */
  BELAY_WITH (BelayManager, m, belay_manager_open (by_outcome, &way), &failure)
    g_assert_false (m != NULL && fail_busy (&failure));
  else
    g_assert_not_reached ();
  g_assert_no_error (failure);
  g_assert_false (way.refused);
  thing_clear_log ();
  return TRUE;
}

static gboolean
swallow_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayManager) m = belay_await (belay_manager_open (by_outcome, data), error);
  gboolean ok;

  if (m == NULL)
    return FALSE;
  belay_scope_cancel (belay_scope_current (), "enough");
  ok = belay_sleep (10, error);
  return belay_manager_finish (&m, ok, error);
}

static gboolean
swallow_late (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (5);
  belay_auto (BelayManager) m = belay_await (belay_manager_open (by_outcome, data), error);
  gboolean ok;

  if (limit == NULL || m == NULL)
    return FALSE;
  ok = belay_sleep (10, error);
  return belay_manager_finish (&m, ok, error);
}

/* A cancellation that was observed, and the end of the time, are no manager's to swallow. */
static gboolean
test_swallow_refused (gpointer data, GError **error)
{
  Outcome way = { TRUE };
  g_autoptr (GError) cancelled = thing_outcome (swallow_cancelled, &way), late = NULL;

  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_true (way.refused);
  way.refused = FALSE;
  late = thing_outcome (swallow_late, &way);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (way.refused);
  way.refused = FALSE;
  { /* left without a word: nobody would hear of it */
    belay_auto (BelayManager) m = belay_await (belay_manager_open (by_outcome, &way), error);

    g_assert_nonnull (m);
  }
  g_assert_true (way.refused);
  thing_clear_log ();
  return TRUE;
}

static gboolean
enter_and_fail (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  return belay_enter (scope, belay_manager_open (by_outcome, data), error) != NULL &&
         belay_scope_adopt (scope, thing_new ("above"), error) && fail_busy (error);
}

/* In a scope the manager learns the scope's reason, as all others do, and cannot change it. */
static gboolean
test_swallow_in_scope (gpointer data, GError **error)
{
  Outcome way = { TRUE };
  g_autoptr (GError) failure = thing_outcome (enter_and_fail, &way);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_true (way.refused);
  g_assert_cmpstr (thing_reasons (), ==, "above:left");
  thing_clear_log ();
  return TRUE;
}

/* What was attached to the body's error is swallowed with it. */
static gboolean
fail_with_two (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_failing ("a", "a is stuck");

  return a != NULL && fail_busy (error);
}

static gboolean
test_swallow_attached (gpointer data, GError **error)
{
  Outcome way = { TRUE }, plain = { FALSE };
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayManager) m = belay_await (belay_manager_open (by_outcome, &way), error);
  belay_auto (BelayManager) n = belay_await (belay_manager_open (by_outcome, &plain), error);

  g_assert_true (m != NULL && n != NULL);
  g_assert_true (belay_manager_finish (&m, belay_await_ok (belay_spawn (fail_with_two, NULL), &failure), &failure));
  g_assert_no_error (failure);
  g_assert_false (belay_manager_finish (&n, belay_await_ok (belay_spawn (fail_with_two, NULL), &failure), &failure));
  g_assert_cmpstr (failure->message, ==, "the page is busy (and 1 more)");
  assert_attached ("closing a BelayTestResource: a is stuck");
  thing_clear_log ();
  return TRUE;
}

/* --- misused --- */

static gboolean
swallows_wrongly (BelayManager *manager, gpointer data, GError **error)
{
  expect_critical ("belay_manager_swallow*");
  g_assert_false (belay_manager_swallow (manager)); /* too early */
  if (!belay_manager_yield (manager, NULL, error))
    return FALSE;
  expect_critical ("belay_manager_swallow*");
  g_assert_false (belay_manager_swallow (manager)); /* the body did not fail */
  return TRUE;
}

static gboolean
test_swallow_misused (gpointer data, GError **error)
{
  BELAY_WITH (BelayManager, m, belay_manager_open (swallows_wrongly, NULL), error)
    g_assert_nonnull (m);
  else
    g_assert_not_reached ();
  return TRUE;
}

static gboolean
test_finish_misused (gpointer data, GError **error)
{
  Outcome way = { 0 };
  g_autoptr (GError) both = NULL, none = NULL;
  BelayManager *m = NULL;

  g_assert_true (belay_manager_finish (&m, TRUE, error)); /* nothing was opened */
  m = belay_await (belay_manager_open (by_outcome, &way), error);
  fail_busy (&both);
  expect_critical ("*returned success and an error*");
  g_assert_false (belay_manager_finish (&m, TRUE, &both));
  g_assert_error (both, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_null (m);
  m = belay_await (belay_manager_open (by_outcome, &way), error);
  expect_critical ("*returned failure without an error*");
  g_assert_false (belay_manager_finish (&m, FALSE, &none));
  g_assert_error (none, BELAY_ERROR, BELAY_ERROR_MISUSE);
  thing_clear_log ();
  return TRUE;
}

/* The function has run to its end, and its last guards are being left: a yield comes too late there, too. */
static gboolean
yield_late (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  expect_critical ("belay_manager_yield*");
  g_assert_false (belay_manager_yield (data, NULL, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  thing_note ("late");
  return TRUE;
}

static gboolean
yields_after_the_end (BelayManager *manager, gpointer data, GError **error)
{
  belay_scope_defer (belay_scope_current (), yield_late, manager);
  return belay_manager_yield (manager, NULL, error);
}

static gboolean
test_yield_after_the_end (gpointer data, GError **error)
{
  BELAY_WITH (BelayManager, m, belay_manager_open (yields_after_the_end, NULL), error)
    g_assert_nonnull (m);
  else
    g_assert_not_reached ();
  assert_log ("late");
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/manager/acquires-lends-releases", test_normal);
  thing_add_test ("/manager/closed", test_closed);
  thing_add_test ("/manager/left", test_left);
  thing_add_test ("/manager/L9-body-fails", test_body_fails);
  thing_add_test ("/manager/L8-block-fails", test_block_fails);
  thing_add_test ("/manager/L6-body-is-cancelled", test_body_cancelled);
  thing_add_test ("/manager/L6-body-runs-out-of-time", test_body_timed_out);
  thing_add_test ("/manager/entered-into-a-scope", test_entered_into_scope);
  thing_add_plain_test ("/manager/from-callback-code", test_outside);
  thing_add_plain_test ("/manager/L8-closed-from-callback-code", test_closed_outside);
  thing_add_test ("/manager/fails-to-acquire", test_acquire_fails);
  thing_add_test ("/manager/L9-fails-to-release", test_release_fails);
  thing_add_test ("/manager/L9-fails-to-release-when-left", test_release_fails_when_left);
  thing_add_test ("/manager/L9-its-guard-fails", test_guard_fails);
  thing_add_test ("/manager/L7-release-hangs", test_release_hangs);
  thing_add_test ("/manager/L7-release-ignores-its-deadline", test_release_ignores_its_deadline);
  thing_add_test ("/manager/no-yield", test_no_yield);
  thing_add_test ("/manager/two-yields", test_two_yields);
  thing_add_test ("/manager/yield-in-another-fiber", test_yield_in_other_fiber);
  thing_add_test ("/manager/false-without-an-error", test_false_without_error);
  thing_add_test ("/manager/L5-timed-out-while-acquiring", test_timed_out_while_acquiring);
  thing_add_test ("/manager/L5-dropped-before-it-began", test_dropped_before_it_began);
  thing_add_test ("/manager/L5-dropped-when-lent", test_dropped_when_lent);
  thing_add_test ("/manager/L20-refused-in-a-cancelled-scope", test_refused);
  thing_add_test ("/manager/L9-unwinding-fails", test_unwinding_fails);
  thing_add_test ("/manager/L5-yield-is-refused", test_yield_refused);
  thing_add_test ("/manager/L22-what-borrows-the-frame-is-waited-for", test_borrows_data);
  thing_add_test ("/manager/L5-dropped-at-each-instant", test_dropped_at_each_instant);
  thing_add_single_test ("/manager/L5-dropped-on-another-thread", test_dropped_on_thread);
  thing_add_test ("/manager/its-limits-are-not-the-bodys", test_body_is_not_bounded_by_it);
  thing_add_test ("/manager/nested", test_nested);
  thing_add_test ("/manager/with-a-child", test_child);
  thing_add_test ("/manager/L9-finish-tells-the-very-error", test_finish);
  thing_add_test ("/manager/L9-finish-body-first-release-attached", test_finish_release_fails);
  thing_add_test ("/manager/swallowed", test_swallow);
  thing_add_test ("/manager/L10-cancellation-cannot-be-swallowed", test_swallow_refused);
  thing_add_test ("/manager/L8-cannot-swallow-in-a-scope", test_swallow_in_scope);
  thing_add_test ("/manager/L9-swallowed-with-what-is-attached", test_swallow_attached);
  thing_add_test ("/manager/swallow-misused", test_swallow_misused);
  thing_add_test ("/manager/finish-misused", test_finish_misused);
  thing_add_test ("/manager/yield-after-the-end", test_yield_after_the_end);
  return g_test_run ();
}
