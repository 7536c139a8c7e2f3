/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Event, latch, barrier and once: who waits passes when it should, exactly once, and whoever is interrupted takes nothing with it. */
#include "thing.h"

/* One of those who wait, for any of the four. */
typedef struct
{
  BelayEvent   *event;
  BelayLatch   *latch;
  BelayBarrier *barrier;
  const char   *name;
} Waiter;

static gboolean
wait_for (gpointer data, GError **error)
{
  Waiter *self = data;
  g_autoptr (GError) failure = NULL;
  guint index = 99;
  gboolean ok;

  if (self->event != NULL)
    ok = belay_event_wait (self->event, &failure);
  else if (self->latch != NULL)
    ok = belay_latch_wait (self->latch, &failure);
  else
    ok = belay_barrier_wait (self->barrier, &index, &failure);

  if (ok && index != 99)
    thing_note ("%s%u", self->name, index);
  else if (ok)
    thing_note ("%s", self->name);
  else if (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CLOSED))
    thing_note ("%s:closed", self->name);
  else if (g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_BROKEN))
    thing_note ("%s:broken", self->name);
  else
    thing_note ("%s:interrupted", self->name);
  return TRUE;
}

static void
turns (guint n)
{
  for (guint i = 0; i < n; i++)
    belay_yield (NULL);
}

/* The clock stands still while anything is ready: so all have come to where they wait, in whatever order they ran. */
static void
settle (void)
{
  belay_sleep (1, NULL);
}

/* --- event --- */

static gboolean
test_event (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  Waiter a = { .event = event, .name = "a" }, b = { .event = event, .name = "b" };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_false (belay_event_is_set (event));
  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  g_assert_true (belay_scope_spawn (scope, wait_for, &b, NULL));
  settle ();
  assert_log ("");
  belay_event_set (event);
  belay_event_set (event);
  g_assert_true (belay_event_is_set (event));
  settle ();
  assert_log_words ("a b");
  g_assert_true (belay_event_wait (event, error)); /* at once */
  belay_event_clear (event);
  g_assert_false (belay_event_is_set (event));
  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  settle ();
  assert_log ("");
  belay_event_set (event);
  return belay_scope_close (&scope, error);
}

/* Set and cleared before anybody runs: who waited passes all the same, and who comes then does not. */
static gboolean
test_event_pulse (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  Waiter a = { .event = event, .name = "a" }, b = { .event = event, .name = "b" }, late = { .event = event, .name = "late" };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  g_assert_true (belay_scope_spawn (scope, wait_for, &b, NULL));
  settle ();
  belay_event_set (event);
  belay_event_clear (event);
  g_assert_true (belay_scope_spawn (scope, wait_for, &late, NULL));
  settle ();
  assert_log_words ("a b");
  belay_event_set (event);
  return belay_scope_close (&scope, error);
}

static gboolean
test_event_close (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  Waiter a = { .event = event, .name = "a" }, b = { .event = event, .name = "b" }, late = { .event = event, .name = "late" };
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *future = belay_event_wait_async (event);
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  g_assert_true (belay_scope_spawn (scope, wait_for, &b, NULL));
  settle ();
  belay_event_close (event);
  belay_event_close (event);
  belay_event_set (event);
  g_assert_false (belay_event_is_set (event));
  g_assert_true (belay_scope_spawn (scope, wait_for, &late, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log_words ("a:closed b:closed late:closed");
  g_assert_false (belay_await_ok (future, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_nonnull (strstr (failure->message, "event"));
  return TRUE;
}

/* One that was set before it is closed lets nobody pass afterwards. */
static gboolean
test_event_close_when_set (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  g_autoptr (GError) failure = NULL;

  belay_event_set (event);
  belay_event_close (event);
  g_assert_false (belay_event_wait (event, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  return TRUE;
}

static gboolean
test_event_checkpoint (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  belay_auto (BelayTimeout) limit = belay_timeout (10);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_event_wait (event, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&failure);
  belay_event_set (event);
  g_assert_false (belay_event_wait (event, &failure)); /* though it is set (L20) */
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  return TRUE;
}

static gboolean
test_event_futures (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  BelayFuture *dropped = belay_event_wait_async (event), *future = belay_event_wait_async (event);

  belay_future_unref (dropped);
  g_assert_true (belay_future_is_pending (future));
  belay_event_set (event);
  g_assert_true (belay_await_ok (future, error));
  return belay_await_ok (belay_event_wait_async (event), error);
}

/* Set and cancelled k turns apart, either first: nobody hangs, and the other waiter always passes. */
typedef struct
{
  BelayEvent *event;
  BelayScope *scope;
  guint       set_at, cancel_at;
} Instant;

static gboolean
set_at (gpointer data, GError **error)
{
  Instant *self = data;

  turns (self->set_at);
  belay_event_set (self->event);
  return TRUE;
}

static gboolean
cancel_at (gpointer data, GError **error)
{
  Instant *self = data;

  turns (self->cancel_at);
  belay_scope_cancel (self->scope, "enough");
  return TRUE;
}

static gboolean
test_event_each_instant (gpointer data, GError **error)
{
  for (guint set = 0; set < 5; set++)
    for (guint cancelled = 0; cancelled < 5; cancelled++)
      {
        g_autoptr (BelayEvent) event = belay_event_new ();
        Waiter victim = { .event = event, .name = "victim" }, other = { .event = event, .name = "other" };
        Instant instant = { event, belay_scope_new (), set, cancelled };
        BelayFuture *setter, *canceller, *waits;

        g_assert_true (belay_scope_spawn (instant.scope, wait_for, &victim, NULL));
        waits = belay_spawn (wait_for, &other);
        setter = belay_spawn (set_at, &instant);
        canceller = belay_spawn (cancel_at, &instant);
        g_assert_true (belay_await_ok (belay_future_all (setter, canceller, waits, NULL), error));
        belay_scope_close (&instant.scope, NULL);
        g_assert_nonnull (strstr (thing_log (), "other"));
        thing_clear_log ();
      }
  return TRUE;
}

/* In any order of what may happen: some wait, some are cancelled, it is set or closed. */
static gboolean
explore_event (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  Waiter waiter = { .event = event, .name = "x" };
  BelayScope *scopes[4];
  guint n = 0;

  for (guint i = 0; i < 4; i++)
    {
      scopes[i] = belay_scope_new ();
      g_assert_true (belay_scope_spawn (scopes[i], wait_for, &waiter, NULL));
    }
  turns (belay_test_chance (3));
  for (guint i = 0; i < 2; i++)
    if (belay_test_chance (2) == 0)
      belay_scope_cancel (scopes[i], "enough");
  turns (belay_test_chance (2));
  if (belay_test_chance (3) == 0)
    belay_event_close (event);
  else
    belay_event_set (event);
  for (guint i = 0; i < 4; i++)
    belay_scope_close (&scopes[i], NULL);
  for (const char *p = thing_log (); (p = strchr (p, 'x')) != NULL; p++)
    n++;
  g_assert_cmpuint (n, >=, 2); /* one that was cancelled before it began has said nothing */
  g_assert_cmpuint (n, <=, 4);
  return TRUE;
}

static gboolean
test_dropped_with_waiter (gpointer data, GError **error)
{
  BelayEvent *event = belay_event_new ();
  Waiter a = { .event = event, .name = "a" };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  settle ();
  expect_critical ("*last reference to an event*");
  belay_event_unref (event);
  g_test_assert_expected_messages ();
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("a:broken");
  return TRUE;
}

/* --- latch --- */

static gboolean
test_latch (gpointer data, GError **error)
{
  g_autoptr (BelayLatch) latch = belay_latch_new (3), open = belay_latch_new (0);
  Waiter a = { .latch = latch, .name = "a" };
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *future = belay_latch_wait_async (latch);

  g_assert_true (belay_latch_wait (open, error));
  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  g_assert_true (belay_latch_count_down (latch, 1));
  settle ();
  assert_log ("");
  g_assert_cmpuint (belay_latch_get_count (latch), ==, 2);
  g_assert_true (belay_latch_count_down (latch, 2));
  settle ();
  assert_log ("a");
  g_assert_true (belay_await_ok (future, error));
  g_assert_true (belay_latch_wait (latch, error)); /* for ever */
  return belay_await_ok (belay_latch_wait_async (latch), error) && belay_scope_close (&scope, error);
}

static gboolean
test_latch_misuse (gpointer data, GError **error)
{
  g_autoptr (BelayLatch) latch = belay_latch_new (2);

  expect_critical ("*more than the latch's count*");
  g_assert_false (belay_latch_count_down (latch, 3));
  g_test_assert_expected_messages ();
  g_assert_cmpuint (belay_latch_get_count (latch), ==, 2); /* without effect */
  g_assert_true (belay_latch_count_down (latch, 2));
  expect_critical ("*more than the latch's count*");
  g_assert_false (belay_latch_count_down (latch, 1));
  g_test_assert_expected_messages ();
  return belay_latch_wait (latch, error);
}

static gboolean
test_latch_close (gpointer data, GError **error)
{
  g_autoptr (BelayLatch) latch = belay_latch_new (1);
  Waiter a = { .latch = latch, .name = "a" };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  turns (1);
  belay_latch_close (latch);
  belay_latch_count_down (latch, 1);
  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("a:closed a:closed");
  return TRUE;
}

/* --- barrier --- */

static gboolean
test_barrier (gpointer data, GError **error)
{
  g_autoptr (BelayBarrier) barrier = belay_barrier_new (3);
  Waiter a = { .barrier = barrier, .name = "a" }, b = { .barrier = barrier, .name = "b" };
  guint index;

  for (guint round = 0; round < 2; round++)
    {
      belay_auto (BelayScope) scope = belay_scope_begin ();

      g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
      settle ();
      g_assert_true (belay_scope_spawn (scope, wait_for, &b, NULL));
      settle ();
      assert_log ("");
      g_assert_cmpuint (belay_barrier_get_n_waiting (barrier), ==, 2);
      g_assert_true (belay_barrier_wait (barrier, &index, error)); /* the last does not wait */
      g_assert_cmpuint (index, ==, 2);
      assert_log ("");
      g_assert_cmpuint (belay_barrier_get_n_waiting (barrier), ==, 0);
      g_assert_true (belay_scope_close (&scope, error));
      assert_log_words ("a0 b1");
    }
  return TRUE;
}

/* A party that is interrupted has not come: another takes its place, and the indices are whole. */
static gboolean
test_barrier_cancelled (gpointer data, GError **error)
{
  g_autoptr (BelayBarrier) barrier = belay_barrier_new (2);
  BelayScope *scope = belay_scope_new ();
  Waiter a = { .barrier = barrier, .name = "a" }, b = { .barrier = barrier, .name = "b" };
  BelayFuture *waits, *dropped;
  gint64 index;

  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  settle ();
  belay_scope_cancel (scope, "enough");
  belay_scope_close (&scope, NULL);
  assert_log ("a:interrupted");
  g_assert_cmpuint (belay_barrier_get_n_waiting (barrier), ==, 0);
  dropped = belay_barrier_wait_async (barrier);
  g_assert_cmpuint (belay_barrier_get_n_waiting (barrier), ==, 1);
  belay_future_unref (dropped);
  waits = belay_spawn (wait_for, &b);
  settle ();
  g_assert_false (belay_barrier_is_broken (barrier));
  g_assert_cmpuint (belay_barrier_get_n_waiting (barrier), ==, 1);
  g_assert_true (belay_await_int64 (belay_barrier_wait_async (barrier), &index, error));
  g_assert_cmpint (index, ==, 1);
  g_assert_true (belay_await_ok (waits, error));
  assert_log ("b0");
  return TRUE;
}

static gboolean
test_barrier_abort (gpointer data, GError **error)
{
  g_autoptr (BelayBarrier) barrier = belay_barrier_new (3);
  Waiter a = { .barrier = barrier, .name = "a" };
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *future = belay_barrier_wait_async (barrier);
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  settle ();
  belay_barrier_abort (barrier);
  g_assert_true (belay_barrier_is_broken (barrier));
  settle ();
  assert_log ("a:broken");
  g_assert_false (belay_await_ok (future, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL)); /* who comes, too */
  settle ();
  assert_log ("a:broken");
  belay_barrier_reset (barrier);
  g_assert_false (belay_barrier_is_broken (barrier));
  g_assert_true (belay_scope_spawn (scope, wait_for, &a, NULL));
  settle ();
  belay_barrier_reset (barrier); /* of one that is not broken: who waits is told, the next round is whole */
  settle ();
  assert_log ("a:broken");
  g_assert_false (belay_barrier_is_broken (barrier));
  g_assert_cmpuint (belay_barrier_get_n_waiting (barrier), ==, 0);
  return belay_scope_close (&scope, error);
}

static gboolean
test_barrier_one (gpointer data, GError **error)
{
  g_autoptr (BelayBarrier) barrier = belay_barrier_new (1);
  guint index = 7;

  g_assert_true (belay_barrier_wait (barrier, &index, error));
  g_assert_cmpuint (index, ==, 0);
  return belay_barrier_wait (barrier, NULL, error);
}

/* Parties that are cancelled at any instant, and their substitutes: each round has each index once. */
typedef struct
{
  BelayBarrier *barrier;
  guint         seen[3], n_interrupted;
} Rounds;

static gboolean
come_twice (gpointer data, GError **error)
{
  Rounds *self = data;

  for (guint i = 0; i < 2; i++)
    {
      g_autoptr (GError) failure = NULL;
      guint index;

      if (belay_barrier_wait (self->barrier, &index, &failure))
        {
          self->seen[index]++;
          continue;
        }
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      self->n_interrupted++;
      return TRUE;
    }
  return TRUE;
}

static gboolean
explore_barrier (gpointer data, GError **error)
{
  Rounds rounds = { belay_barrier_new (3) };
  BelayScope *victim = belay_scope_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (victim, come_twice, &rounds, NULL));
  g_assert_true (belay_scope_spawn (scope, come_twice, &rounds, NULL));
  turns (belay_test_chance (3));
  g_assert_true (belay_scope_spawn (scope, come_twice, &rounds, NULL));
  turns (belay_test_chance (3));
  belay_scope_cancel (victim, "enough");
  belay_scope_close (&victim, NULL);
  /* As many rounds as it has passed, the others have; the rest is made up by a substitute. */
  for (guint passed = rounds.seen[0]; passed < 2; passed = rounds.seen[0])
    {
      guint index;

      turns (3);
      if (rounds.seen[0] < 2 && belay_barrier_get_n_waiting (rounds.barrier) == 2)
        {
          g_assert_true (belay_barrier_wait (rounds.barrier, &index, error));
          rounds.seen[index]++;
          turns (3);
        }
    }
  g_assert_true (belay_scope_close (&scope, error));
  for (guint i = 0; i < 3; i++)
    g_assert_cmpuint (rounds.seen[i], ==, 2);
  belay_barrier_unref (rounds.barrier);
  return TRUE;
}

/* --- once --- */

typedef struct
{
  BelayOnce  *once;
  const char *name;
  guint       n_runs;
  guint       n_failures; /* the first runs, which fail */
  gboolean    reenter;
} Doer;

static gboolean
do_it (gpointer data, GError **error)
{
  Doer *self = data;

  self->n_runs++;
  thing_note ("run");
  if (!belay_sleep (10, error))
    return FALSE;
  if (self->n_runs <= self->n_failures)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "not this time");
      return FALSE;
    }
  return TRUE;
}

static gboolean
use_once (gpointer data, GError **error)
{
  Doer *self = data;
  g_autoptr (GError) failure = NULL;

  if (belay_once_run (self->once, do_it, self, &failure))
    thing_note ("ok");
  else if (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    thing_note ("cancelled");
  else
    thing_note ("failed");
  return TRUE;
}

static gboolean
test_once (gpointer data, GError **error)
{
  Doer doer = { belay_once_new (NULL) };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 3; i++)
    g_assert_true (belay_scope_spawn (scope, use_once, &doer, NULL));
  g_assert_false (belay_once_is_done (doer.once));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_true (belay_once_is_done (doer.once));
  assert_log ("run ok ok ok");
  g_assert_true (belay_once_run (doer.once, do_it, &doer, error));
  g_assert_cmpuint (doer.n_runs, ==, 1);
  belay_once_unref (doer.once);
  return TRUE;
}

/* A failure is its own caller's; the next in line runs it. */
static gboolean
test_once_failed (gpointer data, GError **error)
{
  Doer doer = { belay_once_new (NULL), .n_failures = 2 };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 4; i++)
    g_assert_true (belay_scope_spawn (scope, use_once, &doer, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("run failed run failed run ok ok");
  g_assert_cmpuint (doer.n_runs, ==, 3);
  belay_once_unref (doer.once);
  return TRUE;
}

static gboolean
test_once_failed_alone (gpointer data, GError **error)
{
  Doer doer = { belay_once_new (NULL), .n_failures = 1 };

  g_assert_true (use_once (&doer, error));
  g_assert_true (use_once (&doer, error));
  assert_log ("run failed run ok");
  belay_once_unref (doer.once);
  return TRUE;
}

static gboolean
test_once_cancelled (gpointer data, GError **error)
{
  Doer doer = { belay_once_new (NULL) };
  BelayScope *first = belay_scope_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (first, use_once, &doer, NULL));
  settle ();
  for (guint i = 0; i < 2; i++)
    g_assert_true (belay_scope_spawn (scope, use_once, &doer, NULL));
  settle ();
  belay_scope_cancel (first, "enough");
  belay_scope_close (&first, NULL);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log_words ("run cancelled run ok ok");
  belay_once_unref (doer.once);
  return TRUE;
}

static gboolean
enter_again (gpointer data, GError **error)
{
  Doer *self = data;

  return belay_once_run (self->once, enter_again, self, error);
}

static gboolean
test_once_deadlock (gpointer data, GError **error)
{
  Doer doer = { belay_once_new (NULL) };
  g_autoptr (GError) failure = NULL;

  expect_critical ("*waits for itself*");
  g_assert_false (belay_once_run (doer.once, enter_again, &doer, &failure));
  g_test_assert_expected_messages ();
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
  g_assert_true (use_once (&doer, error)); /* it is as it was */
  belay_once_unref (doer.once);
  return TRUE;
}

static gpointer
make_value (gpointer data, GError **error)
{
  Doer *self = data;

  return do_it (data, error) ? g_strdup (self->name) : NULL;
}

static void
free_value (gpointer value)
{
  thing_note ("free-%s", (char *) value);
  g_free (value);
}

static gboolean
test_once_value (gpointer data, GError **error)
{
  Doer doer = { belay_once_new (free_value), .name = "value", .n_failures = 1 };
  const char *first, *second;
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_once_get (doer.once, make_value, &doer, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_FAILED);
  first = belay_once_get (doer.once, make_value, &doer, error);
  second = belay_once_get (doer.once, make_value, &doer, error);
  g_assert_cmpstr (first, ==, "value");
  g_assert_true (first == second);
  assert_log ("run run");
  belay_once_unref (doer.once);
  assert_log ("free-value");

  doer.once = belay_once_new (NULL);
  g_assert_true (belay_once_run (doer.once, note_func, "run", error));
  expect_critical ("*has no value*");
  g_clear_error (&failure);
  g_assert_null (belay_once_get (doer.once, make_value, &doer, &failure));
  g_test_assert_expected_messages ();
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  belay_once_unref (doer.once);
  return TRUE;
}

static gboolean
explore_once (gpointer data, GError **error)
{
  Doer doer = { belay_once_new (NULL), .n_failures = belay_test_chance (3) };
  BelayScope *scopes[4];
  guint n_failed = 0;

  for (guint i = 0; i < 4; i++)
    {
      scopes[i] = belay_scope_new ();
      g_assert_true (belay_scope_spawn (scopes[i], use_once, &doer, NULL));
      turns (belay_test_chance (2));
    }
  for (guint i = 0; i < 2; i++)
    {
      belay_sleep (belay_test_chance (12), NULL);
      belay_scope_cancel (scopes[i], "enough");
    }
  for (guint i = 0; i < 4; i++)
    belay_scope_close (&scopes[i], NULL);
  for (const char *p = thing_log (); (p = strstr (p, "failed")) != NULL; p++)
    n_failed++;
  g_assert_cmpuint (n_failed, <=, doer.n_failures);
  /* Whatever became of the others: it can be done now, at once or by us. */
  doer.n_failures = 0;
  g_assert_true (belay_once_run (doer.once, do_it, &doer, error));
  g_assert_true (belay_once_is_done (doer.once));
  belay_once_unref (doer.once);
  return TRUE;
}

/* --- cancelled everywhere, threads --- */

static gboolean
all_four (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  g_autoptr (BelayLatch) latch = belay_latch_new (1);
  g_autoptr (BelayBarrier) barrier = belay_barrier_new (2);
  g_autoptr (BelayOnce) once = belay_once_new (NULL);
  Doer doer = { once };
  Waiter waiters[] = { { .event = event, .name = "e" }, { .latch = latch, .name = "l" }, { .barrier = barrier, .name = "b" } };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 3; i++)
    if (!belay_scope_spawn (scope, wait_for, &waiters[i], NULL))
      return belay_checkpoint (error);
  belay_scope_spawn (scope, use_once, &doer, NULL);
  if (!belay_once_run (once, do_it, &doer, error))
    return FALSE;
  belay_event_set (event);
  belay_latch_count_down (latch, 1);
  return belay_barrier_wait (barrier, NULL, error) && belay_event_wait (event, error) && belay_scope_close (&scope, error);
}

static gboolean
test_everywhere (gpointer data, GError **error)
{
  g_assert_cmpuint (belay_test_cancel_everywhere (all_four, NULL), >, 5);
  g_assert_cmpuint (belay_test_expire_everywhere (all_four, NULL), >, 5);
  return TRUE;
}

typedef struct
{
  BelayBarrier *barrier;
  BelayLatch   *latch;
  BelayEvent   *go;
  BelayOnce    *once;
  int           runs, rounds, sum;
} Crowd;

#define ROUNDS 200

static gboolean
run_in_crowd (gpointer data, GError **error)
{
  Crowd *crowd = data;

  g_atomic_int_inc (&crowd->runs);
  return belay_yield (error);
}

static gboolean
be_in_crowd (gpointer data, GError **error)
{
  Crowd *crowd = data;

  if (!belay_event_wait (crowd->go, error) || !belay_once_run (crowd->once, run_in_crowd, crowd, error))
    return FALSE;
  for (guint i = 0; i < ROUNDS; i++)
    {
      guint index;

      if (!belay_barrier_wait (crowd->barrier, &index, error))
        return FALSE;
      g_atomic_int_add (&crowd->sum, (int) index);
      g_atomic_int_inc (&crowd->rounds);
    }
  return belay_latch_count_down (crowd->latch, 1);
}

static gpointer
be_a_thread (gpointer data)
{
  Crowd *crowd = data;
  g_autoptr (BelayFuture) go = belay_event_wait_async (crowd->go);

  g_assert_true (belay_future_wait_sync (go, NULL));
  for (guint i = 0; i < ROUNDS; i++)
    {
      g_autoptr (BelayFuture) future = belay_barrier_wait_async (crowd->barrier);
      gint64 index = 0;

      g_assert_true (belay_future_wait_sync (future, NULL));
      g_assert_true (belay_future_take_int64 (future, &index, NULL));
      g_atomic_int_add (&crowd->sum, (int) index);
      g_atomic_int_inc (&crowd->rounds);
    }
  belay_latch_count_down (crowd->latch, 1);
  belay_external_end ();
  return NULL;
}

/* Fibers on two loops and a plain thread go through many rounds together. */
static gboolean
test_threads (gpointer data, GError **error)
{
  Crowd crowd = { belay_barrier_new (5), belay_latch_new (5), belay_event_new (), belay_once_new (NULL) };
  belay_auto (BelayLoop) loop = belay_loop_new ("one");
  BelayFuture *futures[4];
  GThread *thread;

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  belay_external_begin ();
  thread = g_thread_new ("plain", be_a_thread, &crowd);
  for (guint i = 0; i < 4; i++)
    futures[i] = i < 2 ? belay_loop_spawn (loop, be_in_crowd, &crowd, NULL) : belay_spawn (be_in_crowd, &crowd);
  belay_event_set (crowd.go);
  g_assert_true (belay_latch_wait (crowd.latch, error));
  g_assert_true (belay_await_ok (belay_future_allv (futures, 4), error));
  g_thread_join (thread);
  g_assert_true (belay_close (&loop, error));
  g_assert_cmpint (crowd.runs, ==, 1);
  g_assert_cmpint (crowd.rounds, ==, 5 * ROUNDS);
  g_assert_cmpint (crowd.sum, ==, (0 + 1 + 2 + 3 + 4) * ROUNDS);
  belay_barrier_unref (crowd.barrier);
  belay_latch_unref (crowd.latch);
  belay_event_unref (crowd.go);
  belay_once_unref (crowd.once);
  return TRUE;
}

static void
test_outside (void)
{
  g_autoptr (BelayEvent) event = belay_event_new ();
  g_autoptr (GError) failure = NULL;

  expect_critical ("belay_event_wait*fiber*");
  g_assert_false (belay_event_wait (event, &failure));
  g_test_assert_expected_messages ();
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
}

static gboolean
test_boxed (gpointer data, GError **error)
{
  const GType types[] = { BELAY_TYPE_EVENT, BELAY_TYPE_LATCH, BELAY_TYPE_BARRIER, BELAY_TYPE_ONCE };
  gpointer owners[] = { belay_event_new (), belay_latch_new (1), belay_barrier_new (1), belay_once_new (NULL) };

  for (guint i = 0; i < G_N_ELEMENTS (types); i++)
    {
      g_assert_true (g_boxed_copy (types[i], owners[i]) == owners[i]);
      g_boxed_free (types[i], owners[i]);
      g_boxed_free (types[i], owners[i]);
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/event/is-set-and-cleared", test_event);
  thing_add_test ("/event/a-pulse-reaches-all-who-waited", test_event_pulse);
  thing_add_test ("/event/L36-close", test_event_close);
  thing_add_test ("/event/L36-closed-when-set", test_event_close_when_set);
  thing_add_test ("/event/L20-a-checkpoint-though-it-is-set", test_event_checkpoint);
  thing_add_test ("/event/as-futures", test_event_futures);
  thing_add_test ("/event/L32-set-and-cancelled-at-each-instant", test_event_each_instant);
  belay_test_explore ("/event/L32-in-any-order", explore_event);
  thing_add_test ("/event/L34-dropped-while-somebody-waits", test_dropped_with_waiter);
  thing_add_plain_test ("/event/refused-outside-a-fiber", test_outside);
  thing_add_test ("/latch/opens-at-zero", test_latch);
  thing_add_test ("/latch/L34-below-zero", test_latch_misuse);
  thing_add_test ("/latch/L36-close", test_latch_close);
  thing_add_test ("/barrier/rounds-and-indices", test_barrier);
  thing_add_test ("/barrier/L21-L32-who-is-cancelled-has-not-come", test_barrier_cancelled);
  thing_add_test ("/barrier/L36-abort-and-reset", test_barrier_abort);
  thing_add_test ("/barrier/of-one", test_barrier_one);
  belay_test_explore ("/barrier/L32-in-any-order", explore_barrier);
  thing_add_test ("/once/is-run-once", test_once);
  thing_add_test ("/once/a-failure-is-its-own-callers", test_once_failed);
  thing_add_test ("/once/failed-with-nobody-behind", test_once_failed_alone);
  thing_add_test ("/once/L32-cancelled-the-next-runs-it", test_once_cancelled);
  thing_add_test ("/once/L34-waits-for-itself", test_once_deadlock);
  thing_add_test ("/once/keeps-its-value", test_once_value);
  belay_test_explore ("/once/L32-in-any-order", explore_once);
  thing_add_single_test ("/event/L32-interrupted-everywhere", test_everywhere);
  thing_add_single_test ("/event/threads", test_threads);
  thing_add_test ("/event/boxed", test_boxed);
  return g_test_run ();
}
