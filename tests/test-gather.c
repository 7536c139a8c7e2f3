/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* gather, as_completed and retry. */
#include "thing.h"

/* --- gather --- */

static guint running, most;

/* An item is its number of milliseconds; 0 fails at once. */
static gpointer
map (gpointer item, gpointer data, GError **error)
{
  gint64 milliseconds = GPOINTER_TO_INT (item);
  gboolean ok;

  running++;
  most = MAX (most, running);
  ok = milliseconds != 0 ? belay_sleep (milliseconds, error) : fail_func ("no such page", error);
  running--;
  if (!ok)
    {
      thing_note ("stopped");
      return NULL;
    }
  return g_strdup_printf ("%d", (int) milliseconds);
}

static gboolean
test_in_order (gpointer data, GError **error)
{
  gpointer items[] = { GINT_TO_POINTER (30), GINT_TO_POINTER (10), GINT_TO_POINTER (20), GINT_TO_POINTER (10) };
  const char *expected[] = { "30", "10", "20", "10" };

  for (guint at_once = 0; at_once < 6; at_once++)
    {
      gint64 begin = now_ms ();
      g_autoptr (GPtrArray) results = NULL;

      most = 0;
      results = belay_await (belay_gather (items, 4, at_once, map, NULL, g_free), error);
      g_assert_nonnull (results);
      g_assert_cmpuint (results->len, ==, 4);
      for (guint i = 0; i < 4; i++)
        g_assert_cmpstr (results->pdata[i], ==, expected[i]);
      g_assert_cmpuint (most, ==, at_once == 0 ? 4 : MIN (at_once, 4));
      g_assert_cmpint (now_ms () - begin, ==, at_once == 1 ? 70 : at_once == 2 ? 40 : 30);
    }
  return TRUE;
}

static gpointer
map_cancelled (gpointer item, gpointer data, GError **error)
{
  if (item == data)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "the server cancelled it");
      return NULL;
    }
  return map (item, data, error);
}

/* The function's own cancellation is a failure as any other: there is no result without that item. */
static gboolean
test_function_cancelled (gpointer data, GError **error)
{
  gpointer items[] = { GINT_TO_POINTER (10), GINT_TO_POINTER (20), GINT_TO_POINTER (30) };

  for (guint at_once = 0; at_once < 3; at_once++)
    {
      g_autoptr (GError) failure = NULL;

      g_assert_null (belay_await (belay_gather (items, 3, at_once, map_cancelled, items[1], g_free), &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_cmpstr (failure->message, ==, "the server cancelled it");
    }
  assert_log ("stopped stopped"); /* those that were under way: one, none, one */
  return TRUE;
}

/* Cancelled at whatever instant: there is a result for each item, or none at all. */
static gpointer
map_after_a_while (gpointer item, gpointer data, GError **error)
{
  gboolean ok = belay_test_chance (2) ? belay_yield (error) : belay_sleep (belay_test_chance (3), error);

  return ok ? item : NULL;
}

static gboolean
gather_a_few (gpointer data, GError **error)
{
  char items[10];
  gpointer pointers[G_N_ELEMENTS (items)];
  g_autoptr (GPtrArray) results = NULL;

  for (guint i = 0; i < G_N_ELEMENTS (items); i++)
    pointers[i] = &items[i];
  results = belay_await (belay_gather (pointers, G_N_ELEMENTS (items), belay_test_chance (4), map_after_a_while, NULL, NULL), error);
  if (results == NULL)
    return FALSE;
  g_assert_cmpuint (results->len, ==, G_N_ELEMENTS (items));
  for (guint i = 0; i < results->len; i++)
    g_assert_true (results->pdata[i] == &items[i]);
  return TRUE;
}

static gboolean
test_cancelled_at_any_instant (gpointer data, GError **error)
{
  for (guint i = 0; i < 10; i++)
    {
      belay_auto (BelayScope) scope = belay_scope_begin ();
      g_autoptr (GError) failure = NULL;

      g_assert_true (belay_scope_spawn (scope, gather_a_few, NULL, NULL));
      for (guint turns = belay_test_chance (40); turns > 0; turns--)
        g_assert_true (belay_yield (error));
      if (belay_test_chance (2))
        g_assert_true (belay_sleep (belay_test_chance (12), error));
      belay_scope_cancel (scope, "enough");
      g_assert_true (belay_scope_close (&scope, &failure) || g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED));
    }
  return TRUE;
}

/* The same by another thread. */
#define N_ITEMS 20000 /* so many that it takes a while to begin */

typedef struct
{
  BelayScope *target; /* atomic: to be cancelled, after a while */
  int         pause, quit;
  gpointer    items[N_ITEMS];
} Canceller;

static gpointer
cancel_at_any_instant (gpointer data)
{
  Canceller *self = data;

  while (!g_atomic_int_get (&self->quit))
    {
      BelayScope *scope = g_atomic_pointer_get (&self->target);

      if (scope == NULL)
        continue;
      for (int i = 0; i < self->pause; i++)
        g_atomic_int_get (&self->quit);
      belay_scope_cancel (scope, "enough");
      g_atomic_pointer_set (&self->target, NULL);
    }
  return NULL;
}

static gpointer
map_to_itself (gpointer item, gpointer data, GError **error)
{
  return item;
}

static gboolean
gather_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  Canceller *canceller = data;
  g_autoptr (GPtrArray) results = NULL;

  canceller->pause = g_random_int_range (0, 20000);
  g_atomic_pointer_set (&canceller->target, scope);
  results = belay_await (belay_gather (canceller->items, N_ITEMS, 2, map_to_itself, NULL, NULL), NULL);
  for (guint i = 0; results != NULL && i < N_ITEMS; i++)
    g_assert_true (results->pdata[i] == canceller->items[i]);
  while (g_atomic_pointer_get (&canceller->target) != NULL)
    g_thread_yield ();
  return TRUE;
}

static gboolean
test_cancelled_by_thread (gpointer data, GError **error)
{
  g_autofree Canceller *canceller = g_new0 (Canceller, 1);
  GThread *thread;

  for (guint i = 0; i < N_ITEMS; i++)
    canceller->items[i] = canceller;
  thread = g_thread_new ("canceller", cancel_at_any_instant, canceller);
  for (guint i = 0; i < (SANITIZED ? 100 : 500); i++)
    {
      g_autoptr (GError) failure = thing_outcome (gather_cancelled, canceller);

      g_assert_true (failure == NULL || g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED));
    }
  g_atomic_int_set (&canceller->quit, TRUE);
  g_thread_join (thread);
  return TRUE;
}

static gboolean
test_none (gpointer data, GError **error)
{
  g_autoptr (GPtrArray) results = belay_await (belay_gather (NULL, 0, 3, map, NULL, g_free), error);

  g_assert_nonnull (results);
  g_assert_cmpuint (results->len, ==, 0);
  return TRUE;
}

/* The first failure cancels the others, which are joined; nothing more begins; what was made is freed. */
static gpointer
map_slowly (gpointer item, gpointer data, GError **error)
{
  belay_auto (Thing) thing = thing_new_slow (item, 10);

  return thing != NULL ? map (GINT_TO_POINTER (100), data, error) : NULL;
}

static gpointer
map_or_fail (gpointer item, gpointer data, GError **error)
{
  if (g_str_equal (item, "late"))
    return belay_sleep (5, error) && fail_func ("too bad", error) ? data : NULL;
  return g_str_equal (item, "quick") ? g_strdup (item) : map_slowly (item, data, error);
}

static gboolean
test_first_failure (gpointer data, GError **error)
{
  gpointer items[] = { "quick", "a", "late", "b", "c" };
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  g_assert_null (belay_await (belay_gather (items, 5, 3, map_or_fail, NULL, g_free), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_assert_cmpstr (failure->message, ==, "too bad");
  g_assert_cmpint (now_ms () - begin, ==, 15);
  g_assert_true (thing_count.opened == 2 && thing_count.closed == 2); /* the last was never begun */
  thing_clear_log ();
  return TRUE;
}

/* A release that fails in one that was cancelled is attached. */
static gpointer
map_stuck (gpointer item, gpointer data, GError **error)
{
  belay_auto (Thing) thing = thing_new_failing ("t", "t is stuck");

  return thing != NULL ? map (item, data, error) : NULL;
}

static gboolean
test_all_errors (gpointer data, GError **error)
{
  gpointer items[] = { GINT_TO_POINTER (100), GINT_TO_POINTER (0), GINT_TO_POINTER (100) };
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_await (belay_gather (items, 3, 0, map_stuck, NULL, g_free), &failure));
  g_assert_cmpstr (failure->message, ==, "no such page (and 2 more)");
  assert_attached ("closing a BelayTestResource: t is stuck; closing a BelayTestResource: t is stuck"); /* the last was never begun */
  for (guint i = 0; i < 2; i++)
    g_assert_nonnull (strstr (belay_errors_get_site (belay_attached_errors (), i), "test-gather.c:"));
  thing_clear_log ();
  return TRUE;
}

/* A wait that is cancelled cancels all, and lasts until they have ended. */
static gboolean
gather_slowly (gpointer data, GError **error)
{
  gpointer items[] = { "a", "b", "c" }; /* on this stack: so nothing may use them afterwards */
  g_autoptr (GPtrArray) results = belay_await (belay_gather (items, 3, 2, map_slowly, NULL, g_free), error);

  thing_note ("over");
  return results != NULL;
}

static gboolean
test_cancelled (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  gint64 begin = now_ms ();

  g_assert_true (belay_scope_spawn (scope, gather_slowly, NULL, NULL));
  g_assert_true (belay_sleep (5, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, NULL));
  g_assert_cmpint (now_ms () - begin, ==, 15);
  g_assert_true (g_str_has_suffix (thing_log (), "over"));
  g_assert_cmpint (thing_count.closed, ==, 2);
  thing_clear_log ();
  return TRUE;
}

static gboolean
gather_in_time (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (5);

  return limit != NULL && gather_slowly (data, error);
}

static gboolean
test_timed_out (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (gather_in_time, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (thing_count.closed, ==, 2);
  thing_clear_log ();
  return TRUE;
}

/* A result that is dropped: all are cancelled, and joined by the scope at the latest. */
static gboolean
gather_and_drop (gpointer data, GError **error)
{
  static gpointer items[] = { "a", "b" };
  BelayFuture *future = belay_gather (items, 2, 0, map_slowly, NULL, g_free);

  g_assert_true (belay_sleep (5, error));
  belay_future_unref (future);
  return TRUE;
}

static gboolean
test_dropped (gpointer data, GError **error)
{
  gint64 begin = now_ms ();

  g_assert_no_error (thing_outcome (gather_and_drop, NULL));
  g_assert_cmpint (now_ms () - begin, ==, 15);
  g_assert_cmpint (thing_count.closed, ==, 2);
  thing_clear_log ();
  return TRUE;
}

/* --- as completed --- */

static gboolean
test_completions (gpointer data, GError **error)
{
  BelayFuture *futures[] = { belay_future_delay (30), belay_future_new_int64 (7), belay_future_delay (10),
                             belay_spawn (sleep_func, GINT_TO_POINTER (20)), thing_fail_in ("no such page", 25) };
  guint order[] = { 1, 2, 3, 4, 0 }, n = 0, index;
  belay_auto (BelayCompletions) done = belay_as_completed (futures, G_N_ELEMENTS (futures));
  BelayFuture *future;

  while (belay_completions_next (done, &future, &index, error))
    {
      g_assert_cmpuint (index, ==, order[n++]);
      g_assert_true (belay_future_is_rejected (future) == (index == 4));
      g_assert_true (belay_future_get_error (future) == NULL || index == 4);
    }
  g_assert_cmpuint (n, ==, 5);
  return *error == NULL;
}

static gboolean
slow_child (gpointer data, GError **error)
{
  belay_auto (Thing) thing = thing_new_slow (data, 10);

  return thing != NULL && belay_sleep (1000, error);
}

/* Leaving drops the rest: fibers are cancelled and joined, other work is just dropped. */
static gboolean
test_completions_left (gpointer data, GError **error)
{
  gint64 begin = now_ms ();

  {
    BelayFuture *futures[] = { belay_spawn (slow_child, "a"), belay_future_delay (5), thing_never (), thing_open_in ("late", 50) };
    belay_auto (BelayCompletions) done = belay_as_completed (futures, G_N_ELEMENTS (futures));
    BelayFuture *future;

    g_assert_true (belay_completions_next (done, &future, NULL, error));
  }
  thing_note ("left");
  g_assert_cmpint (now_ms () - begin, ==, 15);
  g_assert_true (belay_sleep (100, error));
  assert_log ("+a -a a. left");
  return TRUE;
}

static gboolean
next_in_time (gpointer done, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (5);
  BelayFuture *future;

  return limit != NULL && belay_completions_next (done, &future, NULL, error);
}

/* A wait that is interrupted has taken nothing. */
static gboolean
test_completions_interrupted (gpointer data, GError **error)
{
  BelayFuture *futures[] = { belay_future_delay (10) };
  belay_auto (BelayCompletions) done = belay_as_completed (futures, 1);
  g_autoptr (GError) failure = thing_outcome (next_in_time, done);
  BelayFuture *future;

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (belay_completions_next (done, &future, NULL, error));
  g_assert_false (belay_completions_next (done, &future, NULL, error));
  return *error == NULL;
}

static gboolean
test_completions_null (gpointer data, GError **error)
{
  BelayFuture *futures[] = { thing_never (), NULL };

  expect_critical ("belay_as_completed*");
  g_assert_null (belay_as_completed (futures, 2));
  return TRUE;
}

/* An error that nobody looked at goes to the sink. */
static gboolean
test_completions_unseen (gpointer data, GError **error)
{
  BelayFuture *futures[] = { belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_FAILED, "unseen"),
                             belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_FAILED, "seen") };
  BelayCompletions *done = belay_as_completed (futures, 2);
  BelayFuture *future;

  g_assert_true (belay_completions_next (done, &future, NULL, error));
  g_assert_true (belay_completions_next (done, &future, NULL, error));
  g_assert_cmpstr (belay_future_get_error (future)->message, ==, "seen");
  g_assert_true (belay_close (&done, error));
  assert_sunk ("unseen");
  return TRUE;
}

/* --- retry --- */

typedef struct
{
  guint  fails;  /* that many attempts fail */
  guint  n;
  gint64 when[16];
  gint64 takes;
} Attempts;

static BelayFuture *
attempt (guint number, gpointer data)
{
  Attempts *self = data;

  g_assert_cmpuint (number, ==, ++self->n);
  self->when[number] = now_ms ();
  if (self->takes > 0)
    return belay_future_delay (self->takes);
  if (number > self->fails)
    return belay_future_new_int64 (42);
  return belay_future_new_failed (G_IO_ERROR, number == 4 ? G_IO_ERROR_NOT_FOUND : G_IO_ERROR_BUSY, "attempt %u", number);
}

static gboolean
test_retry (gpointer data, GError **error)
{
  Attempts way = { 3 };
  gint64 value = 0, least[] = { 0, 0, 50, 100, 125 }, most_ms[] = { 0, 0, 100, 200, 250 };

  g_assert_true (belay_await_int64 (belay_retry (attempt, &way, 5, 100, 2.0, 250, NULL), &value, error));
  g_assert_cmpint (value, ==, 42);
  g_assert_cmpuint (way.n, ==, 4);
  for (guint i = 2; i <= 4; i++)
    {
      g_assert_cmpint (way.when[i] - way.when[i - 1], >=, least[i]);
      g_assert_cmpint (way.when[i] - way.when[i - 1], <=, most_ms[i]);
    }
  return TRUE;
}

/* The last error on top, the earlier ones attached, in order, with the line of the retry. */
static gboolean
test_retry_fails (gpointer data, GError **error)
{
  Attempts way = { 10 };
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_await_ok (belay_retry (attempt, &way, 3, 1, 1.0, 1, NULL), &failure));
  g_assert_cmpuint (way.n, ==, 3);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (failure->message, ==, "attempt 3 (and 2 more)");
  assert_attached ("attempt 1; attempt 2");
  g_assert_nonnull (strstr (belay_errors_get_site (belay_attached_errors (), 0), "test-gather.c:"));
  return TRUE;
}

static gboolean
is_busy (const GError *error, gpointer data)
{
  return g_error_matches (error, G_IO_ERROR, G_IO_ERROR_BUSY);
}

static gboolean
test_retry_not_worth (gpointer data, GError **error)
{
  Attempts way = { 10 };
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_await_ok (belay_retry (attempt, &way, 10, 1, 1.0, 1, is_busy), &failure));
  g_assert_cmpuint (way.n, ==, 4);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  return TRUE;
}

static gboolean
retry_in_time (gpointer way, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (30);

  return limit != NULL && belay_await_ok (belay_retry (attempt, way, 1000, 20, 1.0, 20, NULL), error);
}

static gboolean
retry_in_scope (gpointer way, GError **error)
{
  belay_scope_set_timeout (belay_scope_current (), 30);
  return belay_await_ok (belay_retry (attempt, way, 1000, 20, 1.0, 20, NULL), error);
}

/* An outer deadline goes through: in the middle of a delay, and of an attempt that is out of time because of it. */
static gboolean
test_retry_deadline (gpointer data, GError **error)
{
  BelayFunc funcs[] = { retry_in_time, retry_in_scope };

  for (guint i = 0; i < 4; i++)
    {
      Attempts way = { 1000, .takes = i < 2 ? 0 : 1000 };
      gint64 begin = now_ms ();
      g_autoptr (GError) failure = thing_outcome (funcs[i % 2], &way);

      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_assert_cmpint (now_ms () - begin, ==, 30);
      if (i < 2)
        g_assert_cmpuint (way.n, >=, 2);
      else
        g_assert_cmpuint (way.n, ==, 1);
      if (i == 0)
        g_assert_cmpuint (belay_errors_get_size (belay_attached_errors ()), ==, way.n);
    }
  return TRUE;
}

static gboolean
test_retry_cancelled (gpointer data, GError **error)
{
  Attempts way = { 1000 };
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, retry_in_time, &way, NULL));
  g_assert_true (belay_sleep (5, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpuint (way.n, ==, 1);
  return TRUE;
}

static gboolean
test_retry_dropped (gpointer data, GError **error)
{
  Attempts way = { 1000 };
  BelayFuture *future = belay_retry (attempt, &way, 1000, 10, 1.0, 10, NULL);

  g_assert_true (belay_sleep (1, error));
  belay_future_unref (future);
  g_assert_true (belay_sleep (100, error));
  g_assert_cmpuint (way.n, ==, 1);
  return TRUE;
}

/* --- all of them, stopped everywhere --- */

static gpointer
sleep_and_make (gpointer item, gpointer data, GError **error)
{
  return belay_sleep (GPOINTER_TO_INT (item), error) ? g_strdup ("made") : NULL;
}

static BelayFuture *
step_or_fail (guint n, gpointer data)
{
  GError *error = NULL;

  return belay_test_step ("attempt", &error) ? belay_future_delay (5) : belay_future_new_error (error);
}

static gboolean
gather_and_retry (gpointer data, GError **error)
{
  gpointer items[] = { GINT_TO_POINTER (7), GINT_TO_POINTER (1), GINT_TO_POINTER (3) };
  g_autoptr (GPtrArray) all = belay_await (belay_gather (items, 3, 2, sleep_and_make, NULL, g_free), error);

  return all != NULL && belay_await_ok (belay_retry (step_or_fail, NULL, 2, 10, 2.0, 100, NULL), error);
}

static gboolean
test_everywhere (gpointer data, GError **error)
{
  g_assert_cmpuint (belay_test_cancel_everywhere (gather_and_retry, NULL), >, 10);
  g_assert_cmpuint (belay_test_expire_everywhere (gather_and_retry, NULL), >, 10); /* nor is the sink told */
  g_assert_cmpuint (belay_test_fail_everywhere (gather_and_retry, NULL), ==, 1);
  belay_test_assert_steady (gather_and_retry, NULL);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/gather/in-the-order-of-the-items", test_in_order);
  thing_add_test ("/gather/none", test_none);
  thing_add_test ("/gather/L27-first-failure-cancels-the-others", test_first_failure);
  thing_add_test ("/gather/L9-all-errors", test_all_errors);
  thing_add_test ("/gather/L22-cancelled-waits-for-all", test_cancelled);
  thing_add_test ("/gather/L27-function-that-is-cancelled-itself", test_function_cancelled);
  thing_add_test ("/gather/L21-cancelled-at-any-instant", test_cancelled_at_any_instant);
  thing_add_single_test ("/gather/L21-cancelled-by-a-thread-at-any-instant", test_cancelled_by_thread);
  thing_add_test ("/gather/L22-timed-out-waits-for-all", test_timed_out);
  thing_add_test ("/gather/L26-dropped", test_dropped);
  thing_add_test ("/completions/in-the-order-of-completion", test_completions);
  thing_add_test ("/completions/L22-leaving-drops-the-rest", test_completions_left);
  thing_add_test ("/completions/L20-interrupted-takes-nothing", test_completions_interrupted);
  thing_add_test ("/completions/null", test_completions_null);
  thing_add_test ("/completions/L9-unseen", test_completions_unseen);
  thing_add_test ("/retry/until-it-succeeds", test_retry);
  thing_add_test ("/retry/L9-last-error-on-top", test_retry_fails);
  thing_add_test ("/retry/not-worth-it", test_retry_not_worth);
  thing_add_test ("/retry/L24-outer-deadline-ends-it", test_retry_deadline);
  thing_add_test ("/retry/L10-cancelled", test_retry_cancelled);
  thing_add_test ("/retry/dropped", test_retry_dropped);
  thing_add_test ("/gather/L9-L21-stopped-everywhere", test_everywhere);
  return g_test_run ();
}
