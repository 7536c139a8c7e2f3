/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fibers: waiting, spawning, cancellation and deadlines as a checkpoint sees them, stacks and their limits.
 *
 * The clock is the virtual one: a sleep takes no time and an instant can be compared for equality. What must be seen in
 * real time (frames, jobs, other threads) is in test-loop, test-worker and test-stress.
 */
#include "thing.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static int destroyed;
static int sunk;
static int called;

static void
count_destroy (gpointer data)
{
  destroyed++;
}

static void
count_sink (const GError *error, const char *what, const char *site, gpointer data)
{
  g_atomic_int_inc (&sunk);
}

static void
set_up (void)
{
  destroyed = sunk = called = 0;
  belay_set_sink (count_sink, NULL);
}

#define assert_cancelled(error)                                  \
  G_STMT_START                                                   \
    {                                                            \
      g_assert_error ((error), G_IO_ERROR, G_IO_ERROR_CANCELLED); \
      g_clear_error (&(error));                                  \
    }                                                            \
  G_STMT_END
#define assert_timed_out(error)                                  \
  G_STMT_START                                                   \
    {                                                            \
      g_assert_error ((error), G_IO_ERROR, G_IO_ERROR_TIMED_OUT); \
      g_clear_error (&(error));                                  \
    }                                                            \
  G_STMT_END

/* --- awaiting --- */

static gboolean
resolve_soon (gpointer data, GError **error)
{
  belay_yield (NULL);
  return belay_promise_resolve_int64 (data, 11);
}

static gboolean
await_takes (gpointer data, GError **error)
{
  gint64 i = 0;
  double d = 0;
  int thing;
  gpointer value = &value;
  BelayPromise *promise = belay_promise_new ();

  set_up ();
  g_assert_true (belay_await_ok (belay_future_new_done (), error));
  g_assert_true (belay_await_int64 (belay_future_new_int64 (-3), &i, error));
  g_assert_cmpint (i, ==, -3);
  g_assert_true (belay_await_double (belay_future_new_double (1.5), &d, error));
  g_assert_cmpfloat (d, ==, 1.5);
  g_assert_true (belay_await (belay_future_new_pointer (&thing, count_destroy), error) == &thing);
  g_assert_true (belay_await_pointer (belay_future_new_pointer (&thing, count_destroy), &value, error));
  g_assert_true (value == &thing);
  g_assert_true (belay_await_pointer (belay_future_new_pointer (NULL, NULL), &value, error));
  g_assert_null (value);
  g_assert_cmpint (destroyed, ==, 0);
  g_assert_true (belay_await_ok (belay_future_new_pointer (&thing, count_destroy), error)); /* the value is released */
  g_assert_cmpint (destroyed, ==, 1);

  {
    BelayFuture *future = belay_promise_get_future (promise);
    BelayFuture *child = belay_spawn (resolve_soon, promise);
    g_assert_true (belay_future_is_pending (future));
    g_assert_true (belay_await_int64 (future, &i, error));
    g_assert_cmpint (i, ==, 11);
    g_assert_true (belay_await_ok (child, error));
  }
  belay_promise_unref (promise);

  /* the functions behind the macros */
  g_assert_true ((belay_await_ok) (belay_future_new_done (), error));
  g_assert_true ((belay_await_int64) (belay_future_new_int64 (1), &i, error));
  g_assert_true ((belay_await_double) (belay_future_new_double (1), &d, error));
  g_assert_true ((belay_await) (belay_future_new_pointer (&thing, NULL), error) == &thing);
  g_assert_true ((belay_await_pointer) (belay_future_new_pointer (&thing, NULL), &value, error));
  return TRUE;
}

static gboolean
await_fails (gpointer data, GError **error)
{
  GError *local = NULL;
  gpointer value = &value;
  gint64 i;
  BelayPromise *promise;

  set_up ();
  g_assert_null (belay_await (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  g_assert_null (belay_await (belay_future_new_pointer (NULL, NULL), &local)); /* NULL always means an error */
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_FAILED);
  g_clear_error (&local);
  g_assert_false (belay_await_pointer (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"), &value, NULL));
  g_assert_null (value);
  g_assert_false (belay_await_int64 (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"), &i, NULL));
  g_assert_false (belay_await_double (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"), NULL, NULL));

  promise = belay_promise_new ();
  {
    BelayFuture *future = belay_promise_get_future (promise);
    belay_promise_unref (promise);
    g_assert_false (belay_await_ok (future, &local));
    g_assert_error (local, BELAY_ERROR, BELAY_ERROR_BROKEN);
    g_clear_error (&local);
  }
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

typedef struct
{
  BelayFuture *future;
  int         *n;
} Awaiting;

static gboolean
await_shared (gpointer data, GError **error)
{
  Awaiting *self = data;
  g_autoptr (GObject) object = belay_await (belay_future_ref (self->future), error);

  if (object == NULL)
    return FALSE;
  ++*self->n;
  return TRUE;
}

static gboolean
many_await_one (gpointer data, GError **error)
{
  enum { N = 1000 };
  BelayPromise *promise = belay_promise_new ();
  int n = 0;
  Awaiting awaiting = { belay_promise_get_future (promise), &n };
  BelayFuture *all[N];

  for (int i = 0; i < N; i++)
    all[i] = belay_spawn (await_shared, &awaiting);
  for (int i = 0; i < 3; i++)
    g_assert_true (belay_yield (error));
  g_assert_cmpint (n, ==, 0);
  g_assert_true (belay_promise_resolve_object (promise, g_object_new (G_TYPE_OBJECT, NULL)));
  belay_promise_unref (promise);
  g_assert_true (belay_await_ok (belay_future_allv (all, N), error));
  g_assert_cmpint (n, ==, N);
  belay_future_unref (awaiting.future);
  return TRUE;
}

static void
outside_a_fiber (void)
{
  GError *error = NULL;
  gint64 i;
  double d;
  gpointer value;
  int thing;

#define CRITICAL(what) g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*" what "*")
  set_up ();
  g_assert_false (belay_in_fiber ());
  g_assert_true (belay_checkpoint (&error)); /* no error there */
  g_assert_no_error (error);
  g_assert_null (belay_scope_current ());
  CRITICAL ("belay_await");
  g_assert_null (belay_await (belay_future_new_pointer (&thing, count_destroy), &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&error);
  g_assert_cmpint (destroyed, ==, 1); /* consumed all the same */
  CRITICAL ("belay_await");
  g_assert_false (belay_await_ok (belay_future_new_done (), NULL));
  CRITICAL ("belay_await");
  g_assert_false (belay_await_int64 (belay_future_new_int64 (1), &i, NULL));
  CRITICAL ("belay_await");
  g_assert_false (belay_await_double (belay_future_new_double (1), &d, NULL));
  CRITICAL ("belay_await");
  g_assert_false (belay_await_pointer (belay_future_new_pointer (&thing, NULL), &value, NULL));
  CRITICAL ("belay_yield");
  g_assert_false (belay_yield (&error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&error);
  CRITICAL ("belay_sleep");
  g_assert_false (belay_sleep (10, &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&error);
  CRITICAL ("belay_yield");
  g_assert_false (belay_sleep (0, NULL));
  CRITICAL ("belay_timeout");
  g_assert_null (belay_timeout (10));
  CRITICAL ("belay_shield");
  g_assert_null (belay_shield ());
  CRITICAL ("belay_scope_begin");
  g_assert_null (belay_scope_begin ());
  CRITICAL ("NULL");
  g_assert_null (belay_spawn (NULL, NULL));
  CRITICAL ("NULL");
  g_assert_null (belay_spawn_value (NULL, NULL, NULL));
  CRITICAL ("NULL");
  g_assert_false (belay_timeout_expired (NULL));
  g_test_assert_expected_messages ();
}

static gboolean
await_nothing (gpointer data, GError **error)
{
  GError *local = NULL;

  g_assert_true (belay_in_fiber ());
  for (int way = 0; way < 5; way++)
    {
      CRITICAL ("NULL");
      switch (way)
        {
        case 0: g_assert_null (belay_await (NULL, &local)); break;
        case 1: g_assert_false (belay_await_ok (NULL, &local)); break;
        case 2: g_assert_false (belay_await_int64 (NULL, NULL, &local)); break;
        case 3: g_assert_false (belay_await_double (NULL, NULL, &local)); break;
        case 4: g_assert_false (belay_await_pointer (NULL, &(gpointer) { NULL }, &local)); break;
        }
      g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
      g_clear_error (&local);
    }
  CRITICAL ("NULL");
  g_assert_false (belay_await_ok (NULL, NULL));
  CRITICAL ("holds no pointer");
  g_assert_null (belay_await (belay_future_new_int64 (1), &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&local);
  g_test_assert_expected_messages ();
  return TRUE;
}

/* --- taking turns --- */

typedef struct
{
  GString *log;
  char     letter;
  int      times;
} Turns;

static gboolean
take_turns (gpointer data, GError **error)
{
  Turns *self = data;

  for (int i = 0; i < self->times; i++)
    {
      g_string_append_c (self->log, self->letter);
      if (!(i % 2 ? belay_yield (error) : belay_sleep (-i, error)))
        return FALSE;
    }
  return TRUE;
}

static gboolean
turns (gpointer data, GError **error)
{
  g_autoptr (GString) log = g_string_new (NULL);
  Turns a = { log, 'a', 3 }, b = { log, 'b', 3 }, c = { log, 'c', 3 };
  gint64 begin = belay_now ();
  BelayFuture *all[3];

  all[0] = belay_spawn (take_turns, &a);
  all[1] = belay_spawn (take_turns, &b);
  all[2] = belay_spawn (take_turns, &c);
  g_assert_cmpstr (log->str, ==, ""); /* a child runs when the caller waits */
  g_assert_true (belay_await_ok (belay_future_allv (all, 3), error));
  g_assert_cmpstr (log->str, ==, "abcabcabc");
  g_assert_cmpint (belay_now (), ==, begin);
  return TRUE;
}

static gboolean
sleeper (gpointer data, GError **error)
{
  int ms = GPOINTER_TO_INT (data);
  gint64 begin = belay_now ();

  if (!belay_sleep (ms, error))
    return FALSE;
  g_assert_cmpint (belay_now (), ==, begin + ms * 1000);
  return TRUE;
}

static gboolean
sleeps (gpointer data, GError **error)
{
  BelayFuture *all[100];
  gint64 begin = belay_now ();

  for (int i = 0; i < 100; i++)
    all[i] = belay_spawn (sleeper, GINT_TO_POINTER (1 + i * 37 % 100));
  g_assert_true (belay_await_ok (belay_future_allv (all, 100), error));
  g_assert_cmpint (belay_now (), ==, begin + 100 * 1000);
  {
    belay_auto (BelayTimeout) timeout = belay_timeout (50);
    GError *local = NULL;
    g_assert_false (belay_sleep (G_MAXINT64, &local));
    assert_timed_out (local);
  }
  g_assert_cmpint (belay_now (), ==, begin + 150 * 1000);
  return TRUE;
}

/* --- spawning --- */

static gboolean
count_call (gpointer data, GError **error)
{
  called++;
  g_assert_true (belay_in_fiber ());
  return TRUE;
}

static gboolean
fail_call (gpointer data, GError **error)
{
  called++;
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_EXISTS, data);
  return FALSE;
}

static gpointer
make_value (gpointer data, GError **error)
{
  called++;
  if (data == NULL)
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "no value");
  return data;
}

static gboolean
spawns (gpointer data, GError **error)
{
  GError *local = NULL;
  BelayFuture *child;
  int thing;

  set_up ();
  child = belay_spawn (count_call, NULL);
  g_assert_cmpint (called, ==, 0);
  g_assert_true (belay_await_ok (child, error));
  g_assert_cmpint (called, ==, 1);
  g_assert_true (belay_await_ok ((belay_spawn) (count_call, NULL), error));

  g_assert_false (belay_await_ok (belay_spawn (fail_call, "the child failed"), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_assert_cmpstr (local->message, ==, "the child failed");
  g_clear_error (&local);

  g_assert_true (belay_await (belay_spawn_value (make_value, &thing, count_destroy), error) == &thing);
  g_assert_true (belay_await ((belay_spawn_value) (make_value, &thing, NULL), error) == &thing);
  g_assert_null (belay_await (belay_spawn_value (make_value, NULL, count_destroy), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_clear_error (&local);
  g_assert_cmpint (destroyed, ==, 0);

  called = 0;
  belay_future_unref (belay_spawn_value (make_value, &thing, count_destroy)); /* whoever keeps its future, it runs */
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpint (called, ==, 1);
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gboolean
true_with_error (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "both");
  return TRUE;
}

static gboolean
false_without_error (gpointer data, GError **error)
{
  return FALSE;
}

static gpointer
value_with_error (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_BUSY, "both");
  return data;
}

static gpointer
null_without_error (gpointer data, GError **error)
{
  return NULL;
}

static gboolean
inconsistent_results (gpointer data, GError **error)
{
  GError *local = NULL;
  int thing;

  set_up ();
  CRITICAL ("success and an error");
  g_assert_false (belay_await_ok (belay_spawn (true_with_error, NULL), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  CRITICAL ("failure without an error");
  g_assert_false (belay_await_ok (belay_spawn (false_without_error, NULL), &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&local);
  CRITICAL ("success and an error");
  g_assert_null (belay_await (belay_spawn_value (value_with_error, &thing, count_destroy), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  g_assert_cmpint (destroyed, ==, 1);
  CRITICAL ("failure without an error");
  g_assert_null (belay_await (belay_spawn_value (null_without_error, NULL, count_destroy), &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&local);
  g_test_assert_expected_messages ();
  return TRUE;
}

static gboolean
spawn_sleepers (gpointer data, GError **error)
{
  for (int i = 1; i <= 5; i++)
    belay_future_unref (belay_spawn (sleeper, GINT_TO_POINTER (i)));
  called++;
  return TRUE;
}

static gboolean
nothing_outlives (gpointer data, GError **error)
{
  gint64 begin = belay_now ();

  set_up ();
  g_assert_true (belay_await_ok (belay_spawn (spawn_sleepers, NULL), error));
  g_assert_cmpint (called, ==, 1);
  g_assert_cmpint (belay_now (), ==, begin + 5 * 1000); /* it returned, and was over when its children were */
  return TRUE;
}

static gboolean
fail_unwatched (gpointer data, GError **error)
{
  belay_future_unref (belay_spawn (fail_call, "nobody watched"));
  return belay_sleep (1000, error);
}

/* A child that fails with nobody to be told: its scope fails, the siblings and the body are cancelled. */
static gboolean
unwatched_failure (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 begin = belay_now ();

  set_up ();
  g_assert_false (belay_await_ok (belay_spawn (fail_unwatched, NULL), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_clear_error (&local);
  g_assert_cmpint (belay_now (), ==, begin);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gboolean
spawn_from_callback (gpointer data)
{
  *(BelayFuture **) data = belay_spawn (sleeper, GINT_TO_POINTER (20));
  g_assert_false (belay_in_fiber ());
  return G_SOURCE_REMOVE;
}

/* Spawned by a callback, a fiber belongs to nobody; the end of the program waits for it. */
static void
detached_fiber (void)
{
  BelayFuture *future = NULL;

  g_idle_add (spawn_from_callback, &future);
  while (future == NULL)
    g_main_context_iteration (NULL, TRUE);
  g_assert_cmpuint (belay_get_n_pending (), ==, 1);
  g_assert_cmpint (belay_run (count_call, NULL), ==, 0);
  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
  g_assert_true (belay_future_is_resolved (future));
  belay_future_unref (future);

  set_up ();
  belay_future_unref (belay_spawn (fail_call, "nobody at all")); /* on the main thread, outside of any fiber */
  g_assert_cmpint (belay_run (count_call, NULL), ==, 0);
  g_assert_cmpint (sunk, ==, 1);
}

/* What a fiber's end calls, destroy functions above all, is in no fiber any more, and may ask so. */
static void
destroy_looks_around (gpointer data)
{
  destroyed++;
  g_assert_false (belay_in_fiber ());
  g_assert_true (belay_checkpoint (NULL));
  belay_future_unref (belay_spawn (count_call, NULL));
}

static gboolean
end_of_a_fiber (gpointer data, GError **error)
{
  int thing;

  set_up ();
  belay_future_unref (belay_spawn_value (make_value, &thing, destroy_looks_around));
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_cmpint (called, ==, 2);
  return TRUE;
}

/* --- cancellation --- */

/* L20: it fails before it looks at the future, takes nothing, starts nothing. */
static gboolean
cancelled_await_fails_though_ready (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  GError *local = NULL;
  BelayFuture *kept;
  gint64 i = 5;
  double d = 5;
  int thing;
  gpointer value = NULL;

  set_up ();
  kept = belay_future_new_pointer (&thing, count_destroy);
  belay_scope_cancel (scope, "said so");
  g_assert_null (belay_await (belay_future_ref (kept), &local));
  g_assert_cmpstr (local->message, ==, "said so");
  assert_cancelled (local);
  g_assert_true (belay_future_take (kept, NULL) == &thing); /* it is all there, and take is no checkpoint */
  belay_future_unref (kept);

  g_assert_null (belay_await (belay_future_new_pointer (&thing, count_destroy), NULL));
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_false (belay_await_ok (belay_future_new_done (), &local));
  assert_cancelled (local);
  g_assert_false (belay_await_int64 (belay_future_new_int64 (1), &i, &local));
  assert_cancelled (local);
  g_assert_false (belay_await_double (belay_future_new_double (1), &d, &local));
  assert_cancelled (local);
  g_assert_false (belay_await_pointer (belay_future_new_pointer (&thing, NULL), &value, &local));
  assert_cancelled (local);
  g_assert_cmpint (i, ==, 5);
  g_assert_cmpfloat (d, ==, 5);
  g_assert_false (belay_yield (&local));
  assert_cancelled (local);
  g_assert_false (belay_sleep (0, &local));
  assert_cancelled (local);
  g_assert_false (belay_sleep (10, &local));
  assert_cancelled (local);
  g_assert_false (belay_checkpoint (&local));
  assert_cancelled (local);

  g_assert_false (belay_await_ok (belay_spawn (count_call, NULL), &local));
  assert_cancelled (local);
  belay_future_unref (belay_spawn (count_call, NULL));
  belay_future_unref (belay_spawn_value (make_value, &thing, count_destroy));
  belay_future_unref (belay_thread_run (count_call, NULL));
  belay_future_unref (belay_thread_run_value (make_value, &thing, count_destroy));
  destroyed = 0;
  belay_future_unref (belay_thread_run_owned (make_value, &thing, count_destroy, count_destroy));
  g_assert_cmpint (destroyed, ==, 1); /* the job's data */
  {
    belay_auto (BelayShield) shield = belay_shield ();
    for (int n = 0; n < 10; n++)
      g_assert_true (belay_yield (error));
  }
  g_assert_cmpint (called, ==, 0);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gboolean
cancellation_is_a_level (gpointer data, GError **error)
{
  GError *local = NULL;

  {
    belay_auto (BelayScope) scope = belay_scope_begin ();

    g_assert_false (belay_scope_is_cancelled (scope));
    belay_scope_cancel (scope, "the first reason");
    belay_scope_cancel (scope, "a later one");
    belay_scope_set_timeout (scope, -1); /* nor can it be taken back */
    for (int i = 0; i < 5; i++)
      {
        g_assert_true (belay_scope_is_cancelled (scope));
        g_assert_false (belay_yield (&local));
        g_assert_cmpstr (local->message, ==, "the first reason");
        assert_cancelled (local);
      }
    g_assert_false (belay_scope_close (&scope, &local));
    assert_cancelled (local);
  }
  g_assert_true (belay_yield (error)); /* outside of it all is well */

  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    belay_scope_cancel (scope, NULL);
    g_assert_false (belay_checkpoint (&local));
    g_assert_nonnull (local->message);
    assert_cancelled (local);
  }
  return TRUE;
}

typedef struct
{
  BelayScope *scope;
  int         after;
  const char *reason;
} Cancel;

static gboolean
cancel_after (gpointer data, GError **error)
{
  Cancel *self = data;

  if (!belay_sleep (self->after, error))
    return FALSE;
  belay_scope_cancel (self->scope, self->reason);
  return TRUE;
}

/* A wait of any kind ends when its scope is cancelled; what is outside of the scope goes on. */
static gboolean
cancellation_interrupts (gpointer data, GError **error)
{
  for (int way = 0; way < 6; way++)
    {
      belay_auto (BelayScope) scope = NULL;
      BelayPromise *promise = belay_promise_new ();
      GError *local = NULL;
      gint64 begin = belay_now ();
      Cancel cancel;
      BelayFuture *canceller;
      gboolean ok = TRUE;

      cancel = (Cancel) { NULL, 10, "enough" };
      canceller = belay_spawn (cancel_after, &cancel);
      cancel.scope = scope = belay_scope_begin ();
      switch (way)
        {
        case 0: ok = belay_await_ok (belay_promise_get_future (promise), &local); break;
        case 1: ok = belay_sleep (1000, &local); break;
        case 2: while ((ok = belay_sleep (3, &local)) && (ok = belay_yield (&local)))
                  ;
                break;
        case 3:
          {
            belay_auto (BelayTimeout) timeout = belay_timeout (1000);
            ok = belay_sleep (2000, &local);
            g_assert_false (belay_timeout_expired (timeout));
            break;
          }
        case 4: ok = belay_await_ok (belay_future_delay (1000), &local); break;
        case 5: ok = belay_await_ok (belay_spawn (sleeper, GINT_TO_POINTER (1000)), &local); break;
        }
      g_test_message ("way %d: %s", way, ok ? "went on" : local->message);
      g_assert_false (ok);
      g_assert_cmpstr (local->message, ==, "enough");
      assert_cancelled (local);
      g_assert_cmpint (belay_now (), ==, begin + 10 * 1000);
      g_assert_false (belay_scope_close (&scope, &local));
      assert_cancelled (local);
      g_assert_true (belay_await_ok (canceller, error));
      belay_promise_unref (promise);
      g_assert_cmpint (belay_now (), ==, begin + 10 * 1000);
    }
  return TRUE;
}

/*
 * Outcome and cancellation in one turn, in either order: the waiter finds the value, and has it. Later it has gone, and the
 * library releases the value. Released once in any case.
 */
typedef struct
{
  BelayPromise *promise;
  BelayScope   *scope;
  int           way;
} Both;

static gboolean
do_both (gpointer data, GError **error)
{
  Both *self = data;

  if (self->way > 0)
    belay_scope_cancel (self->scope, NULL);
  if (self->way == 2)
    g_assert_true (belay_sleep (1, error)); /* time passes when the other has done what it can */
  belay_promise_resolve_pointer (self->promise, self, count_destroy);
  if (self->way == 0)
    belay_scope_cancel (self->scope, NULL);
  return TRUE;
}

static gboolean
outcome_meets_cancellation (gpointer data, GError **error)
{
  for (int way = 0; way < 3; way++)
    {
      Both both = { belay_promise_new (), NULL, way };
      BelayFuture *child = belay_spawn (do_both, &both);
      GError *local = NULL;

      set_up ();
      {
        belay_auto (BelayScope) scope = both.scope = belay_scope_begin ();
        gpointer value = belay_await (belay_promise_get_future (both.promise), &local);

        g_assert_cmpint (destroyed, ==, 0);
        if (way < 2)
          {
            g_assert_no_error (local);
            g_assert_true (value == &both);
            count_destroy (value); /* it is ours */
          }
        else
          {
            g_assert_null (value);
            assert_cancelled (local);
          }
        /* the wait that got its value was not stopped: the next checkpoint says what is pending */
        g_assert_false (belay_checkpoint (&local));
        assert_cancelled (local);
      }
      g_assert_true (belay_await_ok (child, error));
      belay_promise_unref (both.promise);
      g_assert_cmpint (destroyed, ==, 1);
    }
  return TRUE;
}

static gboolean
succeed_cancelled (gpointer data, GError **error)
{
  called++;
  if (belay_sleep (100, NULL))
    return TRUE;
  return data == NULL; /* the cancellation has been observed, and is hidden */
}

static gboolean
succeed_unobserved (gpointer data, GError **error)
{
  called++;
  belay_scope_cancel (belay_scope_current (), "too late to matter");
  return TRUE;
}

static gboolean
hidden_cancellation (gpointer data, GError **error)
{
  GError *local = NULL;

  set_up ();
  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    BelayFuture *child = belay_spawn (succeed_cancelled, NULL);

    g_assert_true (belay_sleep (1, error)); /* it sleeps */
    belay_scope_cancel (scope, "no success after this");
    {
      belay_auto (BelayShield) shield = belay_shield ();
      g_assert_false (belay_await_ok (child, &local));
      assert_cancelled (local);
    }
    g_assert_false (belay_checkpoint (NULL));
  }
  /* not observed, it does not count */
  g_assert_true (belay_await_ok (belay_spawn (succeed_unobserved, NULL), error));
  g_assert_cmpint (called, ==, 2);
  return TRUE;
}

/* A stack that a cancelled fiber has used is as new for the next. */
static gboolean
end_in_trouble (gpointer data, GError **error)
{
  BelayTimeout *left_armed = belay_timeout (5); /* misuse, but nothing may come of it here */

  belay_scope_cancel (belay_scope_current (), "in trouble");
  belay_sleep (1, NULL);
  belay_release (&left_armed);
  return belay_checkpoint (error);
}

static gboolean
reused_stack (gpointer data, GError **error)
{
  for (int i = 0; i < 100; i++)
    {
      GError *local = NULL;

      g_assert_false (belay_await_ok (belay_spawn (end_in_trouble, NULL), &local));
      g_assert_cmpstr (local->message, ==, "in trouble");
      assert_cancelled (local);
      g_assert_true (belay_await_ok (belay_spawn (sleeper, GINT_TO_POINTER (7)), error));
    }
  return TRUE;
}

/* --- shields --- */

static gboolean
shields (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  GError *local = NULL;
  gint64 begin = belay_now ();

  belay_scope_cancel (scope, "outer");
  {
    belay_auto (BelayShield) shield = belay_shield ();

    g_assert_true (belay_scope_is_cancelled (scope)); /* cancelled, but shielded */
    g_assert_true (belay_checkpoint (error));
    g_assert_true (belay_sleep (10, error));
    g_assert_true (belay_await_ok (belay_future_delay (10), error));
    g_assert_cmpint (belay_now (), ==, begin + 20 * 1000);
    {
      /* what is inside of it is observed */
      belay_auto (BelayScope) inner = belay_scope_begin ();
      g_assert_true (belay_await_ok (belay_spawn (sleeper, GINT_TO_POINTER (5)), error)); /* children, too, are shielded */
      belay_scope_cancel (inner, "inner");
      g_assert_false (belay_sleep (10, &local));
      g_assert_cmpstr (local->message, ==, "inner");
      assert_cancelled (local);
      {
        belay_auto (BelayShield) again = belay_shield ();
        g_assert_true (belay_sleep (5, error));
      }
      g_assert_false (belay_checkpoint (NULL));
    }
    {
      belay_auto (BelayTimeout) timeout = belay_timeout (10);
      g_assert_false (belay_sleep (20, &local));
      assert_timed_out (local);
      g_assert_true (belay_timeout_expired (timeout));
    }
    g_assert_true (belay_checkpoint (error));
    g_assert_true (belay_sleep (1, error));
  }
  g_assert_false (belay_checkpoint (&local)); /* the first checkpoint after it */
  g_assert_cmpstr (local->message, ==, "outer");
  assert_cancelled (local);
  return TRUE;
}

static gboolean
shield_hides_deadline (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 begin = belay_now ();
  belay_auto (BelayTimeout) timeout = belay_timeout (10);

  {
    belay_auto (BelayShield) shield = belay_shield ();
    g_assert_true (belay_sleep (50, error));
    g_assert_cmpint (belay_now (), ==, begin + 50 * 1000);
  }
  g_assert_false (belay_timeout_expired (timeout)); /* not on the boundary */
  g_assert_false (belay_yield (&local));
  assert_timed_out (local);
  g_assert_true (belay_timeout_expired (timeout));
  return TRUE;
}

static gboolean
cancel_while_shielded (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = NULL;
  Cancel cancel = { NULL, 5, "during the shield" };
  BelayFuture *canceller = belay_spawn (cancel_after, &cancel);
  gint64 begin = belay_now ();
  GError *local = NULL;

  cancel.scope = scope = belay_scope_begin ();
  {
    belay_auto (BelayShield) shield = belay_shield ();
    g_assert_true (belay_sleep (20, error)); /* poked in the middle, and sleeps on */
    g_assert_cmpint (belay_now (), ==, begin + 20 * 1000);
  }
  g_assert_false (belay_sleep (1, &local));
  g_assert_cmpstr (local->message, ==, "during the shield");
  assert_cancelled (local);
  belay_scope_close (&scope, NULL);
  return belay_await_ok (canceller, error);
}

/* --- deadlines --- */

static gboolean
deadlines (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 begin = belay_now ();

  { /* C01 */
    belay_auto (BelayTimeout) timeout = belay_timeout (10);
    g_assert_false (belay_sleep (10000, &local));
    assert_timed_out (local);
    g_assert_true (belay_timeout_expired (timeout));
    g_assert_cmpint (belay_now (), ==, begin + 10 * 1000);
    g_assert_false (belay_checkpoint (&local)); /* and stays so */
    assert_timed_out (local);
    g_assert_false (belay_await_ok (belay_spawn (count_call, NULL), &local));
    assert_timed_out (local);
  }
  g_assert_true (belay_checkpoint (error));

  begin = belay_now ();
  { /* C04 */
    belay_auto (BelayTimeout) timeout = belay_timeout (10);
    g_assert_true (belay_sleep (5, error));
    g_assert_false (belay_timeout_expired (timeout));
  }
  g_assert_true (belay_sleep (100, error)); /* its timer is gone: this is one sleep */
  g_assert_cmpint (belay_now (), ==, begin + 105 * 1000);

  { /* deadline and success at the same instant: success */
    belay_auto (BelayTimeout) timeout = belay_timeout (10);
    g_assert_true (belay_sleep (10, error));
    g_assert_false (belay_timeout_expired (timeout));
    g_assert_false (belay_checkpoint (&local));
    assert_timed_out (local);
    g_assert_true (belay_timeout_expired (timeout));
  }
  { /* one of its own that was never asked about, then an error of another kind: that stays what it is (C07) */
    belay_auto (BelayTimeout) timeout = belay_timeout (10);
    g_assert_false (belay_await_ok (belay_spawn (fail_call, "foreign"), &local));
    g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
    g_clear_error (&local);
    g_assert_false (belay_timeout_expired (timeout));
  }
  { /* for ever */
    belay_auto (BelayTimeout) timeout = belay_timeout (G_MAXINT64);
    g_assert_true (belay_sleep (1000, error));
  }
  return TRUE;
}

/* A deadline that is not ahead fires at the first checkpoint; nothing is started. */
static gboolean
deadline_not_ahead (gpointer data, GError **error)
{
  const gint64 none[] = { 0, -1, G_MININT64 };
  GError *local = NULL;
  gint64 begin = belay_now ();
  int thing;

  set_up ();
  for (guint i = 0; i < G_N_ELEMENTS (none); i++)
    {
      belay_auto (BelayTimeout) timeout = belay_timeout (none[i]);

      g_assert_false (belay_timeout_expired (timeout));
      g_assert_null (belay_await (belay_future_new_pointer (&thing, count_destroy), &local));
      assert_timed_out (local);
      g_assert_true (belay_timeout_expired (timeout));
      g_assert_false (belay_await_ok (belay_thread_run (count_call, NULL), &local));
      assert_timed_out (local);
      belay_future_unref (belay_thread_run_owned (make_value, &thing, count_destroy, NULL));
    }
  g_assert_true (belay_yield (error));
  g_assert_cmpint (called, ==, 0);
  g_assert_cmpint (destroyed, ==, 6);
  g_assert_cmpint (belay_now (), ==, begin);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

/* L24: the least of all counts; an inner one never extends an outer; when equal, the outer reports it as its own. */
static gboolean
deadlines_compose (gpointer data, GError **error)
{
  const struct { int outer, inner; } cases[] = { { 20, 10 }, { 10, 20 }, { 10, 10 } };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      GError *local = NULL;
      gint64 begin = belay_now ();
      int least = MIN (cases[i].outer, cases[i].inner);
      belay_auto (BelayTimeout) outer = belay_timeout (cases[i].outer);
      {
        belay_auto (BelayTimeout) inner = belay_timeout (cases[i].inner);

        g_assert_false (belay_sleep (100, &local));
        assert_timed_out (local);
        g_assert_cmpint (belay_now (), ==, begin + least * 1000);
        g_assert_true (belay_timeout_expired (inner) == (cases[i].inner < cases[i].outer));
        g_assert_true (belay_timeout_expired (outer) == (cases[i].outer <= cases[i].inner));
      }
      if (cases[i].outer <= cases[i].inner) /* it keeps failing (rule 6) */
        {
          g_assert_false (belay_yield (&local));
          assert_timed_out (local);
        }
      else
        {
          g_assert_true (belay_sleep (5, error));
          g_assert_false (belay_sleep (50, &local));
          assert_timed_out (local);
          g_assert_cmpint (belay_now (), ==, begin + 20 * 1000);
          g_assert_true (belay_timeout_expired (outer));
        }
    }
  return TRUE;
}

static gboolean
time_out_deep (gpointer data, GError **error)
{
  GError *local = NULL;
  int depth = GPOINTER_TO_INT (data);
  belay_auto (BelayTimeout) mine = belay_timeout (1000);

  if (depth > 0)
    belay_await_ok (belay_spawn (time_out_deep, GINT_TO_POINTER (depth - 1)), &local);
  else
    belay_sleep (5000, &local);
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT); /* TIMED_OUT at every depth */
  g_assert_false (belay_timeout_expired (mine));
  called++;
  g_propagate_error (error, local);
  return FALSE;
}

static gboolean
deadline_reaches_children (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 begin = belay_now ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  set_up ();
  belay_scope_set_timeout (scope, 30);
  g_assert_false (belay_await_ok (belay_spawn (time_out_deep, GINT_TO_POINTER (5)), &local));
  assert_timed_out (local);
  g_assert_cmpint (belay_now (), ==, begin + 30 * 1000);
  {
    belay_auto (BelayShield) shield = belay_shield ();
    g_assert_true (belay_sleep (1, error)); /* the others come to know of it */
  }
  g_assert_cmpint (called, ==, 6);
  g_assert_false (belay_scope_close (&scope, &local)); /* it was the scope's own */
  assert_timed_out (local);
  return TRUE;
}

/* C12: a scope's deadline can be moved while it is waited under. */
typedef struct
{
  BelayScope *scope;
  int         after, timeout;
} Move;

static gboolean
move_deadline (gpointer data, GError **error)
{
  Move *self = data;

  if (!belay_sleep (self->after, error))
    return FALSE;
  belay_scope_set_timeout (self->scope, self->timeout);
  return TRUE;
}

static gboolean
deadline_moves (gpointer data, GError **error)
{
  const struct { int first, after, timeout, end; } cases[] = { { 10, 5, 50, 55 }, { 100, 5, 10, 15 }, { 10, 5, -1, 200 },
                                                               { -1, 5, 0, 5 } };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      Move move = { NULL, cases[i].after, cases[i].timeout };
      BelayFuture *mover = belay_spawn (move_deadline, &move);
      gint64 begin = belay_now ();
      GError *local = NULL;
      gboolean ok;
      {
        belay_auto (BelayScope) scope = move.scope = belay_scope_begin ();

        belay_scope_set_timeout (scope, cases[i].first);
        ok = belay_sleep (200, &local);
        g_assert_true (ok == (cases[i].end == 200));
        if (!ok)
          assert_timed_out (local);
        g_assert_cmpint (belay_now (), ==, begin + cases[i].end * 1000);
        g_assert_true (belay_scope_close (&scope, &local) == ok);
        g_clear_error (&local);
      }
      g_assert_true (belay_await_ok (mover, error));
    }
  return TRUE;
}

/* Cancellation and deadline are told apart (C09). */
static gboolean
timeout_is_no_cancellation (gpointer data, GError **error)
{
  GError *local = NULL;

  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    belay_auto (BelayTimeout) timeout = belay_timeout (0);
    belay_scope_cancel (scope, "both at once");
    g_assert_false (belay_yield (&local));
    assert_cancelled (local); /* an external cancellation is never converted */
    g_assert_false (belay_timeout_expired (timeout));
  }
  {
    belay_auto (BelayTimeout) timeout = belay_timeout (5);
    belay_auto (BelayScope) scope = belay_scope_begin ();
    g_assert_false (belay_sleep (10, &local));
    assert_timed_out (local);
    g_assert_false (belay_scope_is_cancelled (scope));
    g_assert_true (belay_timeout_expired (timeout));
  }
  return TRUE;
}

/* Seven races, 5: a deadline that fires while the fiber is queued to run. */
static gboolean
resolve_at (gpointer data, GError **error)
{
  belay_sleep (10, NULL);
  return belay_promise_resolve_pointer (data, data, count_destroy);
}

static gboolean
deadline_meets_outcome (gpointer data, GError **error)
{
  for (int way = 0; way < 2; way++)
    {
      BelayPromise *promise = belay_promise_new ();
      BelayFuture *resolver = NULL;
      GError *local = NULL;
      gpointer value;

      set_up ();
      if (way == 0)
        {
          resolver = belay_spawn (resolve_at, promise);
          g_assert_true (belay_yield (error)); /* so that its timer is the first of the two */
        }
      {
        belay_auto (BelayTimeout) timeout = belay_timeout (10);

        if (way == 1)
          resolver = belay_spawn (resolve_at, promise);
        value = belay_await (belay_promise_get_future (promise), &local);
        /* the wait failed, or the value came and the time-out has stopped nothing */
        g_assert_true ((value == NULL) == (local != NULL));
        g_assert_true (belay_timeout_expired (timeout) == (value == NULL));
        if (value == NULL)
          assert_timed_out (local);
        g_assert_false (belay_checkpoint (NULL));
        g_assert_true (belay_timeout_expired (timeout));
      }
      g_assert_true (belay_await_ok (resolver, error));
      belay_promise_unref (promise);
      g_assert_cmpint (destroyed, ==, value == NULL ? 1 : 0);
    }
  return TRUE;
}

/* --- work that borrows the memory of whoever waits --- */

typedef struct
{
  BelayPromise *promise;
  int           asked;
  gboolean      in_use;
} Borrower;

static void
borrower_asked (gpointer data)
{
  ((Borrower *) data)->asked++;
}

static BelayFuture *
borrower_init (Borrower *self)
{
  *self = (Borrower) { belay_promise_new (), 0, TRUE };
  belay_promise_set_borrowing (self->promise);
  belay_promise_on_cancel (self->promise, borrower_asked, self, NULL);
  return belay_promise_get_future (self->promise);
}

static gboolean
end_when_asked (gpointer data, GError **error)
{
  Borrower *self = data;

  while (self->asked == 0)
    if (!belay_sleep (1, error))
      return FALSE;
  if (!belay_sleep (7, error))
    return FALSE;
  self->in_use = FALSE;
  belay_promise_reject (self->promise, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "ended early"));
  return TRUE;
}

static gboolean
succeed_when_asked (gpointer data, GError **error)
{
  Borrower *self = data;

  while (self->asked == 0)
    if (!belay_sleep (1, error))
      return FALSE;
  self->in_use = FALSE;
  return belay_promise_resolve_int64 (self->promise, 5);
}

static gboolean
borrowing (gpointer data, GError **error)
{
  GError *local = NULL;
  Borrower borrower;
  BelayFuture *future, *worker;
  gint64 begin, value = 0;

  /* cancelled: asked once, waited for, and the reason is the cancellation's own */
  begin = belay_now ();
  future = borrower_init (&borrower);
  worker = belay_spawn (end_when_asked, &borrower);
  {
    belay_auto (BelayTimeout) timeout = belay_timeout (10);
    g_assert_false (belay_await_ok (future, &local));
    assert_timed_out (local);
    g_assert_true (belay_timeout_expired (timeout));
  }
  g_assert_false (borrower.in_use);
  g_assert_cmpint (borrower.asked, ==, 1);
  g_assert_cmpint (belay_now (), >=, begin + 17 * 1000);
  g_assert_true (belay_await_ok (worker, error));
  belay_promise_unref (borrower.promise);

  /* it succeeds although it was asked: what happened, happened, and the time-out has stopped nothing */
  future = borrower_init (&borrower);
  worker = belay_spawn (succeed_when_asked, &borrower);
  {
    belay_auto (BelayTimeout) timeout = belay_timeout (10);
    g_assert_true (belay_await_int64 (future, &value, error));
    g_assert_cmpint (value, ==, 5);
    g_assert_false (belay_timeout_expired (timeout));
  }
  g_assert_true (belay_await_ok (worker, error));
  belay_promise_unref (borrower.promise);

  /* awaited in a scope that is cancelled already: the same */
  future = borrower_init (&borrower);
  worker = belay_spawn (end_when_asked, &borrower);
  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    belay_scope_cancel (scope, "before");
    g_assert_false (belay_await_ok (future, &local));
    g_assert_cmpstr (local->message, ==, "before");
    assert_cancelled (local);
    g_assert_false (borrower.in_use);
  }
  g_assert_true (belay_await_ok (worker, error));
  belay_promise_unref (borrower.promise);
  return TRUE;
}

/* Rule 3: one cancelled waiter never cancels another's work, whether it is interrupted or comes in cancelled. */
static gboolean
end_in_its_own_time (gpointer data, GError **error)
{
  Borrower *self = data;

  if (!belay_sleep (20, error))
    return FALSE;
  self->in_use = FALSE;
  return belay_promise_resolve_int64 (self->promise, 3);
}

static gboolean
borrowing_shared (gpointer data, GError **error)
{
  for (int way = 0; way < 2; way++)
    {
      GError *local = NULL;
      Borrower borrower;
      BelayFuture *future = borrower_init (&borrower);
      BelayFuture *worker = belay_spawn (end_in_its_own_time, &borrower);
      gint64 value = 0;

      belay_future_ref (future);
      {
        belay_auto (BelayScope) scope = belay_scope_begin ();
        belay_auto (BelayTimeout) timeout = NULL;

        if (way == 0)
          timeout = belay_timeout (5);
        else
          belay_scope_cancel (scope, "before");
        /* the memory is in use until the end, so it is waited for, but not asked */
        if (belay_await_int64 (future, &value, &local))
          g_assert_cmpint (value, ==, 3);
        g_clear_error (&local);
        g_assert_false (borrower.in_use);
      }
      g_assert_cmpint (borrower.asked, ==, 0);
      g_assert_true (belay_await_int64 (future, &value, error));
      g_assert_cmpint (value, ==, 3);
      g_assert_true (belay_await_ok (worker, error));
      belay_promise_unref (borrower.promise);
    }
  return TRUE;
}

/* --- many of everything --- */

static gboolean
many_pokes (gpointer data, GError **error)
{
  BelayFuture *child;
  belay_auto (BelayScope) scope = belay_scope_begin ();

  child = belay_spawn (sleeper, GINT_TO_POINTER (3));
  g_assert_true (belay_yield (error));
  for (int i = 0; i < 1000; i++) /* all in one turn: each is a notice to the body and the child */
    belay_scope_set_timeout (scope, 1000 + i);
  g_assert_true (belay_await_ok (child, error));
  g_assert_true (belay_sleep (5, error));
  return belay_scope_close (&scope, error);
}

static gboolean
deep_limits (gpointer data, GError **error)
{
  int depth = GPOINTER_TO_INT (data);
  belay_auto (BelayTimeout) timeout = depth % 2 ? belay_timeout (1000 + depth) : NULL;
  belay_auto (BelayShield) shield = depth % 2 ? NULL : belay_shield ();

  if (depth == 0)
    return belay_sleep (1, error);
  if (!deep_limits (GINT_TO_POINTER (depth - 1), error))
    return FALSE;
  return belay_checkpoint (error);
}

static gboolean
limits (gpointer data, GError **error)
{
  return deep_limits (GINT_TO_POINTER (200), error);
}

static gsize
resident (void)
{
  g_autofree char *text = NULL;
  unsigned long size, rss;

  malloc_trim (0);
  g_assert_true (g_file_get_contents ("/proc/self/statm", &text, NULL, NULL));
  g_assert_cmpint (sscanf (text, "%lu %lu", &size, &rss), ==, 2);
  return rss * (gsize) sysconf (_SC_PAGESIZE);
}

static gboolean
wait_at_gate (gpointer data, GError **error)
{
  called++;
  return belay_await_ok (belay_future_ref (data), error);
}

static gboolean
crowd (gpointer data, GError **error)
{
  int n = GPOINTER_TO_INT (data);
  BelayPromise *gate = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (gate);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  called = 0;
  for (int i = 0; i < n; i++)
    if (!belay_scope_spawn (scope, wait_at_gate, future, NULL))
      return FALSE;
  while (called < n)
    if (!belay_yield (error))
      return FALSE;
  if (!belay_promise_resolve (gate))
    return FALSE;
  belay_promise_unref (gate);
  if (!belay_scope_close (&scope, error))
    return FALSE;
  belay_future_unref (future);
  return TRUE;
}

static gboolean
do_nothing (gpointer data, GError **error)
{
  return TRUE;
}

/* 200,000 fibers at once, all suspended. Afterwards 16,384 warm stacks are kept, and the rest is given back. */
static void
many_fibers (void)
{
  int n = test_is_watched () ? 2000 : 200000;
  gsize before, after;

  g_assert_cmpint (belay_run (crowd, GINT_TO_POINTER (test_is_watched () ? n : 20000)), ==, 0); /* what is kept is kept from here on */
  while (g_main_context_iteration (NULL, FALSE))
    ;
  before = resident ();
  g_assert_cmpint (belay_run (crowd, GINT_TO_POINTER (n)), ==, 0);
  g_assert_cmpint (belay_run (do_nothing, NULL), ==, 0);
  for (int i = 0; i < 10000 && g_main_context_iteration (NULL, FALSE); i++)
    ;
  after = resident ();
  g_test_message ("%d fibers: %zu KiB before, %zu KiB after", n, before / 1024, after / 1024);
  if (!test_is_watched ())
    g_assert_cmpuint (after, <, before + 48 * 1024 * 1024);
}

static gboolean
spawn_cancel_release (gpointer data, GError **error)
{
  int n = GPOINTER_TO_INT (data);

  for (int i = 0; i < n; i++)
    {
      belay_auto (BelayScope) scope = belay_scope_begin ();
      belay_auto (BelayTimeout) timeout = belay_timeout (1000);
      BelayFuture *child = belay_spawn (sleeper, GINT_TO_POINTER (500));

      if (i % 3 == 0)
        belay_yield (NULL); /* else it has not begun when it is cancelled */
      belay_scope_cancel (scope, "enough");
      if (i % 2 == 0)
        belay_future_unref (child);
      else if (belay_await_ok (child, NULL))
        return FALSE;
    }
  return TRUE;
}

static gboolean
rounds (gpointer data, GError **error)
{
  int n = test_is_watched () ? 5000 : 100000;
  gsize before, after;

  g_assert_true (belay_await_ok (belay_spawn (spawn_cancel_release, GINT_TO_POINTER (n / 10)), error));
  before = resident ();
  g_assert_true (belay_await_ok (belay_spawn (spawn_cancel_release, GINT_TO_POINTER (n)), error));
  after = resident ();
  g_test_message ("%d rounds: %zu KiB before, %zu KiB after", n, before / 1024, after / 1024);
  if (!test_is_watched ())
    g_assert_cmpuint (after, <, before + 2 * 1024 * 1024);
  return TRUE;
}

/* --- stacks --- */

static __attribute__ ((noinline)) int
use_stack (gsize bytes)
{
  volatile char frame[1024];

  memset ((char *) frame, (int) bytes, sizeof frame);
  if (bytes <= sizeof frame)
    return frame[17];
  return use_stack (bytes - sizeof frame) + frame[bytes % sizeof frame];
}

static gboolean
deep_stack (gpointer data, GError **error)
{
  use_stack (GPOINTER_TO_SIZE (data));
  if (!belay_yield (error))
    return FALSE;
  use_stack (GPOINTER_TO_SIZE (data));
  return TRUE;
}

static gboolean
deep_stacks (gpointer data, GError **error)
{
  BelayFuture *all[20];

  for (int i = 0; i < 20; i++)
    all[i] = belay_spawn (deep_stack, GSIZE_TO_POINTER (SANITIZED ? 50 * 1024 : 100 * 1024));
  return belay_await_ok (belay_future_allv (all, 20), error);
}

static char *fiber_stack;

static void
on_segv (int number, siginfo_t *info, void *context)
{
  char *address = info->si_addr;
  gsize distance = (gsize) (fiber_stack - address);

  /* below the frame that was first, by no more than the stack and its guard page */
  if (distance > 60 * 1024 && distance < 1024 * 1024)
    (void) !write (2, "guard page\n", 11);
  else
    (void) !write (2, "elsewhere\n", 10);
  signal (SIGSEGV, SIG_DFL);
  raise (SIGSEGV);
}

static gboolean
overflow (gpointer data, GError **error)
{
  fiber_stack = __builtin_frame_address (0);
  use_stack (16 * 1024 * 1024);
  return TRUE;
}

static void
overflow_subprocess (void)
{
  static char alternate[64 * 1024];
  stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
  struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK };

  g_assert_cmpint (sigaltstack (&stack, NULL), ==, 0);
  g_assert_cmpint (sigaction (SIGSEGV, &action, NULL), ==, 0);
  belay_run (overflow, NULL);
  g_printerr ("survived\n");
}

static void
stack_overflow (void)
{
  g_test_trap_subprocess ("/fiber/stack-overflow/subprocess", 20 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_DEFAULT);
  g_test_trap_assert_failed ();
  g_test_trap_assert_stderr ("*guard page*");
}

static gboolean
use_a_megabyte (gpointer data, GError **error)
{
  use_stack (900 * 1024);
  return belay_yield (error);
}

static void
stack_size_subprocess (void)
{
  belay_set_stack_size (SANITIZED ? 4 * 1024 * 1024 : 1024 * 1024);
  g_assert_cmpint (belay_run (use_a_megabyte, NULL), ==, 0);
}

static void
stack_size (void)
{
  g_test_trap_subprocess ("/fiber/stack-size/subprocess", 20 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_DEFAULT);
  g_test_trap_assert_passed ();
}

static gboolean
is_refused (void)
{
  g_autoptr (BelayFuture) future = belay_spawn (count_call, NULL);

  while (belay_future_is_pending (future))
    g_main_context_iteration (NULL, TRUE);
  return g_error_matches (belay_future_get_error (future), BELAY_ERROR, BELAY_ERROR_NO_STACK);
}

/* What cannot be rounded up, or multiplied, is more than there is all the same. */
static void
enormous_stacks_subprocess (void)
{
  const gsize sizes[] = { G_MAXSIZE, G_MAXSIZE - 4096, G_MAXSIZE / 2 + 1, (gsize) 1 << 56, (gsize) 1 << 55 };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      belay_set_stack_size (sizes[i]);
      g_assert_true (is_refused ());
    }
  g_assert_cmpint (called, ==, 0);
}

static void
enormous_stacks (void)
{
  g_test_trap_subprocess ("/fiber/enormous-stacks/subprocess", 20 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_DEFAULT);
  g_test_trap_assert_passed ();
}

static gsize
address_space (void)
{
  g_autofree char *text = NULL;

  g_assert_true (g_file_get_contents ("/proc/self/statm", &text, NULL, NULL));
  return (gsize) g_ascii_strtoull (text, NULL, 10) * (gsize) sysconf (_SC_PAGESIZE);
}

/* What could not be mapped is not counted as a stack, for which a place would be kept. */
static void
refused_maps_subprocess (void)
{
  gsize before;

  belay_set_stack_size ((gsize) 1 << 46);
  for (int i = 0; i < 1000; i++)
    g_assert_true (is_refused ());
  before = address_space ();
  for (int i = 0; i < 20000; i++)
    g_assert_true (is_refused ());
  g_assert_cmpuint (address_space (), <, before + 32 * 1024 * 1024);
}

static void
refused_maps (void)
{
  g_test_trap_subprocess ("/fiber/refused-maps-cost-nothing/subprocess", 60 * G_USEC_PER_SEC,
                          G_TEST_SUBPROCESS_DEFAULT);
  g_test_trap_assert_passed ();
}

/* With mprotect guards the number of stacks is limited; the fiber that gets none fails, and is not run. */
static void
no_stack_subprocess (void)
{
  belay_set_stack_size ((gsize) 1 << 46); /* more than there is of address space, once a few hundred are wanted */
  g_assert_cmpint (belay_run (count_call, NULL), ==, 1);
  g_assert_cmpint (called, ==, 0);
}

static void
no_stack (void)
{
  g_test_trap_subprocess ("/fiber/no-stack/subprocess", 20 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_DEFAULT);
  g_test_trap_assert_passed ();
  g_test_trap_assert_stderr ("*stack*");
}

/* --- nested main loops --- */

static gboolean
quit_later (gpointer data, GError **error)
{
  if (!belay_sleep (20, error))
    return FALSE;
  g_main_loop_quit (data);
  return TRUE;
}

typedef struct
{
  int       depth;
  int       ticks;
  gboolean  stop;
} Nested;

static gboolean
tick (gpointer data, GError **error)
{
  Nested *self = data;

  while (!self->stop)
    {
      self->ticks++;
      if (!belay_sleep (1, error) || !belay_yield (error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
run_dialog (gpointer data, GError **error)
{
  Nested *self = data;
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  int before = self->ticks;
  BelayFuture *inner = NULL, *quit;

  if (--self->depth > 0)
    inner = belay_spawn (run_dialog, self);
  quit = belay_spawn (quit_later, loop);
  g_main_loop_run (loop);
  g_assert_true (belay_in_fiber ());
  g_assert_cmpint (self->ticks, >, before + 10); /* the others went on */
  return belay_await_ok (quit, error) && (inner == NULL || belay_await_ok (inner, error));
}

static gboolean
dialogs (gpointer data, GError **error)
{
  Nested nested = { .depth = 5 };
  BelayFuture *ticker = belay_spawn (tick, &nested);

  g_assert_true (belay_await_ok (belay_spawn (run_dialog, &nested), error));
  g_assert_cmpint (nested.depth, ==, 0);
  nested.stop = TRUE;
  return belay_await_ok (ticker, error);
}

/* A fiber that was suspended outside is resumed inside of a nested loop, suspends there, and goes on outside. */
static gboolean
straddle (gpointer data, GError **error)
{
  for (int i = 0; i < 60; i++)
    {
      ++*(int *) data;
      if (!belay_sleep (1, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
straddlers (gpointer data, GError **error)
{
  int steps[50] = { 0 };
  BelayFuture *all[50];
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);

  for (int i = 0; i < 50; i++)
    all[i] = belay_spawn (straddle, &steps[i]);
  g_assert_true (belay_sleep (10, error));
  {
    BelayFuture *quit = belay_spawn (quit_later, loop);
    g_main_loop_run (loop);
    g_assert_true (belay_await_ok (quit, error));
  }
  for (int i = 0; i < 50; i++)
    g_assert_cmpint (steps[i], >, 20);
  g_assert_true (belay_await_ok (belay_future_allv (all, 50), error));
  for (int i = 0; i < 50; i++)
    g_assert_cmpint (steps[i], ==, 60);
  return TRUE;
}

/* --- errno --- */

typedef struct
{
  BelayPlain base;
} Spoiler;

static gboolean
spoiler_close (gpointer self, BelayReason reason, GError **error)
{
  errno = EIO;
  belay_sleep (1, NULL);
  errno = EIO;
  return TRUE;
}

static const BelayPlainClass spoiler_class = BELAY_PLAIN_CLASS ("Spoiler", spoiler_close, g_free);
BELAY_DEFINE_AUTO (Spoiler)

static gboolean
spoil_errno (gpointer data, GError **error)
{
  for (int i = 0; i < 5; i++)
    {
      errno = EINTR;
      belay_yield (NULL);
    }
  return TRUE;
}

static int
fail_with_errno (void)
{
  belay_auto (BelayTimeout) timeout = belay_timeout (1000);
  belay_auto (BelayShield) shield = belay_shield ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (Spoiler) one = belay_plain_new (Spoiler, &spoiler_class);
  belay_auto (Spoiler) other = belay_plain_new (Spoiler, &spoiler_class);

  g_assert_nonnull (other);
  g_assert_nonnull (timeout);
  g_assert_nonnull (shield);
  g_assert_nonnull (scope);
  g_assert_nonnull (one);
  errno = ENOENT;
  return -1;
}

static gboolean
errno_over_guards (gpointer data, GError **error)
{
  BelayFuture *other = belay_spawn (spoil_errno, NULL);

  g_assert_cmpint (fail_with_errno (), ==, -1);
  g_assert_cmpint (errno, ==, ENOENT);
  return belay_await_ok (other, error);
}

/* --- the clock --- */

static void
real_clock_subprocess (void)
{
  gint64 first = g_get_monotonic_time (), mine = belay_now (), last = g_get_monotonic_time ();

  g_assert_cmpint (first, <=, mine);
  g_assert_cmpint (mine, <=, last);
}

static void
clocks (void)
{
  gint64 now = belay_now ();

  g_assert_cmpint (belay_now (), ==, now); /* the virtual one stands still */
  if (!g_test_subprocess ())
    {
      g_autofree char *old = g_strdup (g_getenv ("BELAY_DEBUG"));
      g_setenv ("BELAY_DEBUG", "", TRUE);
      g_test_trap_subprocess ("/fiber/rule-15-clocks/subprocess", 0, G_TEST_SUBPROCESS_DEFAULT);
      g_test_trap_assert_passed ();
      g_setenv ("BELAY_DEBUG", old, TRUE);
    }
}

/* --- what is called in the middle of something is in no fiber --- */

static void
try_to_wait (gpointer data)
{
  GError *local = NULL;

  called++;
  g_assert_false (belay_in_fiber ());
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*belay_sleep*fiber*");
  g_assert_false (belay_sleep (10, &local));
  g_test_assert_expected_messages ();
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&local);
}

static void
count_asked (gpointer data)
{
  called++;
}

static BelayFuture *
asking_future (void (*func) (gpointer))
{
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (promise);

  belay_promise_on_cancel (promise, func, promise, (GDestroyNotify) belay_promise_unref);
  return future;
}

static gboolean
never_in_the_middle (gpointer data, GError **error)
{
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (promise), *all;
  GError *local = NULL;

  /* on_cancel */
  set_up ();
  belay_future_unref (asking_future (try_to_wait));
  g_assert_cmpint (called, ==, 1);

  /* its destroy function, called by the answer */
  belay_promise_on_cancel (promise, count_asked, NULL, try_to_wait);
  g_assert_true (belay_promise_resolve (promise));
  g_assert_cmpint (called, ==, 2);
  belay_promise_unref (promise);
  belay_future_unref (future);

  /* the destroy function of a value that a notification drops */
  promise = belay_promise_new ();
  all = belay_future_all (belay_future_new_pointer (&called, try_to_wait), belay_promise_get_future (promise), NULL);
  belay_promise_reject (promise, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, "no"));
  belay_promise_unref (promise);
  g_assert_cmpint (called, ==, 3);
  g_assert_false (belay_await_ok (all, &local));
  g_clear_error (&local);

  /* and of those that are freed with a combination */
  belay_future_unref (belay_future_all (belay_future_new_pointer (&called, try_to_wait), NULL));
  g_assert_cmpint (called, ==, 4);

  /* this thread asks, notifies and waits as before */
  g_assert_true (belay_in_fiber ());
  belay_future_unref (asking_future (count_asked));
  g_assert_cmpint (called, ==, 5);
  return belay_sleep (1, error);
}

/* A main loop that on_cancel runs, although it must not wait: fibers in it find this thread as new. */
static gboolean
ask_and_quit (gpointer data, GError **error)
{
  belay_future_unref (asking_future (count_asked));
  g_assert_cmpint (called, ==, 1);
  if (!belay_await_ok (belay_future_all (belay_future_delay (1), NULL), error))
    return FALSE;
  g_main_loop_quit (data);
  return TRUE;
}

static void
run_a_loop (gpointer data)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  BelayFuture *other;

  g_assert_false (belay_in_fiber ());
  other = belay_spawn (ask_and_quit, loop);
  g_main_loop_run (loop);
  g_assert_false (belay_in_fiber ());
  g_assert_true (belay_future_check (other, NULL));
  belay_future_unref (other);
}

static gboolean
loop_in_the_middle (gpointer data, GError **error)
{
  set_up ();
  belay_future_unref (asking_future (run_a_loop));
  g_assert_true (belay_in_fiber ());
  g_assert_cmpint (called, ==, 1);
  return belay_sleep (1, error);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/fiber/await-takes", await_takes);
  thing_add_test ("/fiber/await-fails", await_fails);
  thing_add_single_test ("/fiber/1000-await-one", many_await_one);
  g_test_add_func ("/fiber/rule-13-outside-a-fiber", outside_a_fiber);
  thing_add_test ("/fiber/misuse-of-await", await_nothing);
  thing_add_single_test ("/fiber/take-turns", turns);
  thing_add_test ("/fiber/sleeps", sleeps);
  thing_add_test ("/fiber/spawns", spawns);
  thing_add_test ("/fiber/inconsistent-results", inconsistent_results);
  thing_add_test ("/fiber/L26-nothing-outlives-the-function", nothing_outlives);
  thing_add_test ("/fiber/L9-unwatched-failure-fails-the-scope", unwatched_failure);
  g_test_add_func ("/fiber/detached", detached_fiber);
  thing_add_test ("/fiber/end-calls-out-of-the-fiber", end_of_a_fiber);
  thing_add_test ("/fiber/L20-cancelled-await-fails-though-ready", cancelled_await_fails_though_ready);
  thing_add_test ("/fiber/L19-cancellation-is-a-level", cancellation_is_a_level);
  thing_add_test ("/fiber/L19-cancellation-interrupts", cancellation_interrupts);
  thing_add_test ("/fiber/L21-outcome-meets-cancellation", outcome_meets_cancellation);
  thing_add_test ("/fiber/L10-observed-cancellation-is-no-success", hidden_cancellation);
  thing_add_test ("/fiber/reused-stack-is-as-new", reused_stack);
  thing_add_test ("/fiber/L23-shields", shields);
  thing_add_test ("/fiber/L23-shield-hides-deadline", shield_hides_deadline);
  thing_add_test ("/fiber/L23-cancelled-while-shielded", cancel_while_shielded);
  thing_add_test ("/fiber/L25-deadlines", deadlines);
  thing_add_test ("/fiber/L25-deadline-not-ahead", deadline_not_ahead);
  thing_add_test ("/fiber/L24-deadlines-compose", deadlines_compose);
  thing_add_test ("/fiber/L24-deadline-reaches-children", deadline_reaches_children);
  thing_add_test ("/fiber/C12-deadline-moves", deadline_moves);
  thing_add_test ("/fiber/L25-timeout-is-no-cancellation", timeout_is_no_cancellation);
  thing_add_test ("/fiber/L25-deadline-meets-outcome", deadline_meets_outcome);
  thing_add_test ("/fiber/borrowed-memory-is-waited-for", borrowing);
  thing_add_test ("/fiber/borrowed-memory-shared", borrowing_shared);
  thing_add_single_test ("/fiber/1000-notices-in-one-turn", many_pokes);
  thing_add_test ("/fiber/200-limits-deep", limits);
  g_test_add_func ("/fiber/200000-suspended-at-once", many_fibers);
  thing_add_single_test ("/fiber/100000-rounds-of-spawn-cancel-release", rounds);
  thing_add_test ("/fiber/deep-stacks", deep_stacks);
  g_test_add_func ("/fiber/stack-overflow", stack_overflow);
  g_test_add_func ("/fiber/stack-overflow/subprocess", overflow_subprocess);
  g_test_add_func ("/fiber/stack-size", stack_size);
  g_test_add_func ("/fiber/stack-size/subprocess", stack_size_subprocess);
  g_test_add_func ("/fiber/no-stack", no_stack);
  g_test_add_func ("/fiber/no-stack/subprocess", no_stack_subprocess);
  g_test_add_func ("/fiber/enormous-stacks", enormous_stacks);
  g_test_add_func ("/fiber/enormous-stacks/subprocess", enormous_stacks_subprocess);
  g_test_add_func ("/fiber/refused-maps-cost-nothing", refused_maps);
  g_test_add_func ("/fiber/refused-maps-cost-nothing/subprocess", refused_maps_subprocess);
  thing_add_test ("/fiber/nested-main-loops", dialogs);
  thing_add_test ("/fiber/nested-main-loop-in-the-middle", straddlers);
  thing_add_test ("/fiber/errno-over-guards", errno_over_guards);
  thing_add_test ("/fiber/no-wait-in-a-notification-or-on-cancel", never_in_the_middle);
  thing_add_test ("/fiber/main-loop-in-on-cancel", loop_in_the_middle);
  g_test_add_func ("/fiber/rule-15-clocks", clocks);
  g_test_add_func ("/fiber/rule-15-clocks/subprocess", real_clock_subprocess);
  return g_test_run ();
}
