/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The semaphore: first come first served, nobody overtakes, and no permit is ever lost. */
#include "thing.h"

typedef struct
{
  BelaySemaphore *semaphore;
  const char     *name;
  gint64          hold_ms;
  gboolean        again; /* acquires a second time, right after it has released */
} User;

static gboolean
use (gpointer data, GError **error)
{
  User *user = data;

  for (guint i = 0; i < (user->again ? 2 : 1); i++)
    {
      belay_auto (BelayPermit) permit = belay_semaphore_acquire (user->semaphore, error);
      if (permit == NULL)
        return FALSE;

      thing_note ("%s", user->name);
      if (!belay_sleep (user->hold_ms, error))
        return FALSE;
    }
  return TRUE;
}

/* --- counting --- */

static gboolean
test_counts (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (3);
  BelayPermit *permits[3];
  belay_auto (BelayPermit) none = NULL;

  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 3);
  for (guint i = 0; i < 3; i++)
    {
      permits[i] = belay_semaphore_acquire (semaphore, error);
      g_assert_nonnull (permits[i]);
      g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2 - i);
    }
  none = belay_semaphore_try_acquire (semaphore);
  g_assert_null (none);
  for (guint i = 0; i < 3; i++)
    {
      belay_release (&permits[i]);
      g_assert_null (permits[i]);
      g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, i + 1);
    }
  return TRUE;
}

/* While permits are free nothing suspends. */
static gboolean
test_no_suspension (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  BelayFuture *other = belay_spawn (note_func, "other");

  for (guint i = 0; i < 10; i++)
    {
      belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);
      g_assert_nonnull (permit);
    }
  assert_log ("");
  return belay_await_ok (other, error);
}

static gboolean
test_bound (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (10);
  User user = { semaphore, "x", 100 };
  gint64 begin = now_ms ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 50; i++)
    g_assert_true (belay_scope_spawn (scope, use, &user, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpint (now_ms () - begin, ==, 500);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 10);
  return TRUE;
}

/* --- order --- */

static gboolean
test_fifo (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  User users[] = { { semaphore, "a", 5 }, { semaphore, "b", 5 }, { semaphore, "c", 5 }, { semaphore, "d", 5 } };
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < G_N_ELEMENTS (users); i++)
    {
      g_assert_true (belay_scope_spawn (scope, use, &users[i], NULL));
      g_assert_true (belay_sleep (1, error)); /* it waits */
    }
  belay_release (&permit);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("a b c d");
  return TRUE;
}

/* Whoever releases and acquires at once goes behind those who wait. */
static gboolean
test_no_barging (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  User users[] = { { semaphore, "a", 1, TRUE }, { semaphore, "b", 1, TRUE }, { semaphore, "c", 1, TRUE } };
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < G_N_ELEMENTS (users); i++)
    {
      g_assert_true (belay_scope_spawn (scope, use, &users[i], NULL));
      g_assert_true (belay_sleep (1, error)); /* it waits */
    }
  belay_release (&permit);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("a b c a b c");
  return TRUE;
}

/* A permit that was released while somebody waits is theirs: neither try nor a fast acquire gets it. */
static gboolean
test_reserved (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);
  User waiter = { semaphore, "waiter", 5 };
  BelayFuture *waiting = belay_spawn (use, &waiter);

  g_assert_true (belay_sleep (1, error)); /* it waits */
  g_assert_true (belay_close (&permit, error));
  g_assert_null (belay_semaphore_try_acquire (semaphore)); /* though it has not run yet */
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 0);
  permit = belay_semaphore_acquire (semaphore, error);
  assert_log ("waiter");
  return belay_await_ok (waiting, error) && permit != NULL;
}

static gboolean
test_mixed_fifo (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  User a = { semaphore, "a", 1 }, c = { semaphore, "c", 1 };
  BelayFuture *first = belay_spawn (use, &a), *second, *third;

  g_assert_true (belay_sleep (1, error)); /* it waits */
  second = belay_semaphore_acquire_async (semaphore);
  third = belay_spawn (use, &c);
  g_assert_true (belay_sleep (1, error));
  belay_release (&permit);
  g_assert_true (belay_await_ok (first, error));
  {
    belay_auto (BelayPermit) mine = belay_await (second, error);

    g_assert_nonnull (mine);
    thing_note ("b");
  }
  g_assert_true (belay_await_ok (third, error));
  assert_log ("a b c");
  return TRUE;
}

/* --- interrupted --- */

static gboolean
test_cancelled_waiter (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);
  belay_auto (BelayScope) scope = belay_scope_new ();
  User cancelled = { semaphore, "cancelled", 1 }, next = { semaphore, "next", 1 };
  g_autoptr (GError) failure = NULL;
  BelayFuture *waiting;

  g_assert_true (belay_scope_spawn (scope, use, &cancelled, NULL));
  g_assert_true (belay_yield (error));
  waiting = belay_spawn (use, &next);
  g_assert_true (belay_yield (error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("");
  g_assert_true (belay_close (&permit, error));
  g_assert_true (belay_await_ok (waiting, error));
  assert_log ("next");
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  return TRUE;
}

static gboolean
test_timed_out_waiter (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);

  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);
    g_autoptr (GError) failure = NULL;

    g_assert_null (belay_semaphore_acquire (semaphore, &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_assert_true (belay_timeout_expired (limit));
  }
  g_assert_true (belay_close (&permit, error));
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  permit = belay_semaphore_acquire (semaphore, error);
  return permit != NULL;
}

/* At each instant: released and cancelled k turns apart, either first. The next acquire is always immediate. */
typedef struct
{
  BelaySemaphore *semaphore;
  BelayPermit    *permit;
  BelayScope     *scope;
  guint           release_at, cancel_at;
} Instant;

static gboolean
release_at (gpointer data, GError **error)
{
  Instant *instant = data;

  for (guint i = 0; i < instant->release_at; i++)
    belay_yield (NULL);
  belay_release (&instant->permit);
  return TRUE;
}

static gboolean
cancel_at (gpointer data, GError **error)
{
  Instant *instant = data;

  for (guint i = 0; i < instant->cancel_at; i++)
    belay_yield (NULL);
  belay_scope_cancel (instant->scope, "enough");
  return TRUE;
}

static gboolean
test_each_instant (gpointer data, GError **error)
{
  guint n_used = 0, n_rounds = 0;

  for (guint released = 0; released < 6; released++)
    for (guint cancelled = 0; cancelled < 6; cancelled++)
      for (guint first = 0; first < 2; first++)
        {
          g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
          BelayScope *scope = belay_scope_new ();
          Instant instant = { semaphore, belay_semaphore_acquire (semaphore, error), scope, released, cancelled };
          User waiter = { semaphore, "waiter", 0 }, next = { semaphore, "next", 0 };
          BelayFuture *futures[3];

          g_assert_true (belay_scope_spawn (scope, use, &waiter, NULL));
          futures[0] = belay_spawn (first ? release_at : cancel_at, &instant);
          futures[1] = belay_spawn (first ? cancel_at : release_at, &instant);
          futures[2] = belay_spawn (use, &next);
          g_assert_true (belay_await_ok (belay_future_allv (futures, 3), error));
          belay_scope_close (&scope, NULL);
          if (strstr (thing_log (), "waiter") != NULL)
            n_used++;
          g_assert_nonnull (strstr (thing_log (), "next"));
          thing_clear_log ();
          g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
          n_rounds++;
        }
  g_assert_cmpuint (n_used, >, 0);
  g_assert_cmpuint (n_used, <, n_rounds);
  return TRUE;
}

/* --- as a future --- */

static gboolean
test_async (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  BelayFuture *free_one = belay_semaphore_acquire_async (semaphore), *queued = belay_semaphore_acquire_async (semaphore);
  BelayPermit *permit;

  g_assert_true (belay_future_is_resolved (free_one));
  g_assert_true (belay_future_is_pending (queued));
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 0);
  permit = belay_await (free_one, error);
  belay_release (&permit);
  g_assert_true (belay_future_is_resolved (queued));
  permit = belay_future_take (queued, error);
  g_assert_nonnull (permit);
  belay_future_unref (queued);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 0);
  belay_release (&permit);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  return TRUE;
}

/* Dropped before the grant, after it, and never looked at. */
static gboolean
test_async_dropped (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  BelayFuture *first = belay_semaphore_acquire_async (semaphore);
  BelayFuture *second = belay_semaphore_acquire_async (semaphore);
  BelayFuture *third = belay_semaphore_acquire_async (semaphore);

  belay_future_unref (first); /* while it waits */
  belay_release (&permit);
  g_assert_true (belay_future_is_resolved (second));
  g_assert_true (belay_future_is_pending (third));
  belay_future_unref (second); /* after it was granted */
  g_assert_true (belay_future_is_resolved (third));
  belay_future_unref (third);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  belay_future_unref (belay_semaphore_acquire_async (semaphore)); /* granted at once */
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  return TRUE;
}

static gboolean
await_async (gpointer data, GError **error)
{
  belay_auto (BelayPermit) permit = belay_await (belay_semaphore_acquire_async (data), error);

  return permit != NULL && belay_yield (error);
}

static gboolean
test_async_cancelled (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);

  for (guint k = 0; k < 8; k++)
    {
      BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
      BelayScope *scope = belay_scope_new ();

      g_assert_true (belay_scope_spawn (scope, await_async, semaphore, NULL));
      for (guint i = 0; i < k; i++)
        {
          if (i == 3)
            belay_release (&permit);
          g_assert_true (belay_yield (error));
        }
      belay_scope_cancel (scope, "enough");
      belay_release (&permit);
      belay_scope_close (&scope, NULL);
      g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
    }
  return TRUE;
}

static gboolean
on_permit (BelayFuture *done, gpointer data, GError **error)
{
  belay_auto (BelayPermit) permit = belay_future_take (done, error);

  thing_note ("%s", (const char *) data);
  return permit != NULL;
}

/* From callback code, where the guard gives it back at once. */
static void
test_callbacks (void)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  BelayScope *scope = belay_scope_new ();
  const char *names[] = { "a", "b", "c" };

  for (guint i = 0; i < 3; i++)
    belay_scope_then (scope, belay_semaphore_acquire_async (semaphore), on_permit, (gpointer) names[i]);
  thing_settle ();
  assert_log ("a b c");
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  belay_scope_close (&scope, NULL);
  thing_drain ();
}

static void
test_outside (void)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  g_autoptr (GError) failure = NULL;

  expect_critical ("*belay_semaphore_acquire: waits*");
  g_assert_null (belay_semaphore_acquire (semaphore, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
}

/* --- its life --- */

static gboolean
test_last_reference (gpointer data, GError **error)
{
  BelaySemaphore *semaphore = belay_semaphore_new (2);
  BelayPermit *one = belay_semaphore_acquire (semaphore, error), *two = belay_semaphore_try_acquire (semaphore);

  g_assert_true (belay_semaphore_ref (semaphore) == semaphore);
  belay_semaphore_unref (semaphore);
  belay_semaphore_unref (semaphore); /* the permits keep it */
  belay_release (&one);
  belay_release (&two); /* and the last one frees it: a sanitizer sees both */
  return TRUE;
}

static gboolean
test_last_reference_with_waiters (gpointer data, GError **error)
{
  BelaySemaphore *semaphore = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  User user = { semaphore, "user", 1 };
  BelayFuture *waiting = belay_spawn (use, &user), *queued;

  g_assert_true (belay_sleep (1, error)); /* it waits */
  queued = belay_semaphore_acquire_async (semaphore);
  belay_semaphore_unref (semaphore);
  belay_release (&permit);
  g_assert_true (belay_await_ok (waiting, error));
  permit = belay_await (queued, error);
  g_assert_nonnull (permit);
  belay_release (&permit);
  assert_log ("user");
  return TRUE;
}

static gboolean
test_last_reference_cancelled (gpointer data, GError **error)
{
  BelaySemaphore *semaphore = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  BelayFuture *queued = belay_semaphore_acquire_async (semaphore);
  BelayScope *scope = belay_scope_new ();
  User user = { semaphore, "user", 1 };

  g_assert_true (belay_scope_spawn (scope, use, &user, NULL));
  g_assert_true (belay_yield (error));
  belay_semaphore_unref (semaphore);
  belay_future_unref (queued);
  belay_scope_cancel (scope, "enough");
  belay_scope_close (&scope, NULL);
  belay_release (&permit);
  assert_log ("");
  return TRUE;
}

static gboolean
test_boxed (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (0);
  g_auto (GValue) value = G_VALUE_INIT;

  g_value_init (&value, BELAY_TYPE_SEMAPHORE);
  g_value_set_boxed (&value, semaphore);
  g_assert_true (g_value_get_boxed (&value) == semaphore);
  g_assert_null (belay_semaphore_try_acquire (semaphore)); /* none is a number, too */
  return TRUE;
}

/* A permit can be given to a scope. */
static gboolean
test_in_scope (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_adopt (scope, belay_semaphore_acquire (semaphore, error), error));
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 0);
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  scope = belay_scope_begin ();
  g_assert_nonnull (belay_enter (scope, belay_semaphore_acquire_async (semaphore), error));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  return TRUE;
}

/* --- threads --- */

#define PERMITS 3

typedef struct
{
  BelaySemaphore *semaphore;
  int             inside, acquired;
  int             n_done;
} Shared;

static void
enter (Shared *shared)
{
  g_assert_cmpint (g_atomic_int_add (&shared->inside, 1), <, PERMITS);
  g_atomic_int_inc (&shared->acquired);
}

static void
leave (Shared *shared)
{
  g_atomic_int_add (&shared->inside, -1);
}

static gboolean
loop_user (gpointer data, GError **error)
{
  Shared *shared = data;

  for (guint i = 0; i < 200; i++)
    {
      if (i % 5 == 0)
        {
          belay_future_unref (belay_semaphore_acquire_async (shared->semaphore)); /* wanted, and wanted no more */
          continue;
        }
      {
        belay_auto (BelayPermit) permit = belay_semaphore_acquire (shared->semaphore, error);
        if (permit == NULL)
          return FALSE;
        enter (shared);
        if (i % 3 == 0)
          belay_yield (NULL);
        leave (shared);
      }
    }
  return TRUE;
}

static gpointer
thread_user (gpointer data)
{
  Shared *shared = data;

  for (guint i = 0; i < 300; i++)
    {
      g_autoptr (BelayFuture) future = belay_semaphore_acquire_async (shared->semaphore);
      BelayPermit *permit;

      if (i % 4 == 0)
        continue; /* dropped, before or after the grant */
      g_assert_true (belay_future_wait_sync (future, NULL));
      permit = belay_future_take (future, NULL);
      enter (shared);
      leave (shared);
      belay_release (&permit);
    }
  return NULL;
}

/* Fibers on two loops and a plain thread, with drops: no more inside than permits, and all come back. */
static gboolean
test_threads (gpointer data, GError **error)
{
  Shared shared = { belay_semaphore_new (PERMITS) };
  belay_auto (BelayLoop) loop = belay_loop_new ("one");
  GThread *thread = g_thread_new ("plain", thread_user, &shared);
  BelayFuture *futures[6];
  gboolean ok;

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  for (guint i = 0; i < 3; i++)
    futures[i] = belay_loop_spawn (loop, loop_user, &shared, NULL);
  for (guint i = 3; i < 6; i++)
    futures[i] = belay_spawn (loop_user, &shared);
  ok = belay_await_ok (belay_future_allv (futures, 6), error);
  g_thread_join (thread);
  g_assert_true (ok && belay_close (&loop, error));
  g_assert_cmpint (shared.inside, ==, 0);
  g_assert_cmpint (shared.acquired, ==, 6 * 160 + 225);
  g_assert_cmpuint (belay_semaphore_get_available (shared.semaphore), ==, PERMITS);
  belay_semaphore_unref (shared.semaphore);
  return TRUE;
}

static gboolean
cancelled_user (gpointer data, GError **error)
{
  Shared *shared = data;

  for (;;)
    {
      belay_auto (BelayPermit) permit = belay_semaphore_acquire (shared->semaphore, error);
      if (permit == NULL)
        return FALSE;
      enter (shared);
      leave (shared);
      if (!belay_yield (error))
        return FALSE;
    }
}

static gboolean
cancelled_group (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 5; i++)
    g_assert_true (belay_scope_spawn (scope, cancelled_user, data, NULL));
  for (guint i = 0; i < 20; i++)
    belay_yield (NULL);
  belay_scope_cancel (scope, "enough");
  belay_scope_close (&scope, NULL);
  return TRUE;
}

/* Cancelled on one thread while the other releases. */
static gboolean
test_cancel_across_threads (gpointer data, GError **error)
{
  Shared shared = { belay_semaphore_new (1) };
  belay_auto (BelayLoop) loop = belay_loop_new ("one");

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  for (guint round = 0; round < 50; round++)
    {
      BelayFuture *there = belay_loop_spawn (loop, cancelled_group, &shared, NULL);
      BelayFuture *here = belay_spawn (cancelled_group, &shared);

      g_assert_true (belay_await_ok (belay_future_all (there, here, NULL), error));
      g_assert_cmpuint (belay_semaphore_get_available (shared.semaphore), ==, 1);
    }
  g_assert_true (belay_close (&loop, error));
  belay_semaphore_unref (shared.semaphore);
  return TRUE;
}

/* A permit for another thread to give back. */
typedef struct
{
  gpointer permit; /* atomic */
  int      begun;
} Handed;

#define NO_MORE ((gpointer) 1)

static gpointer
give_back (gpointer data)
{
  Handed *handed = data;

  for (;;)
    {
      gpointer permit;

      for (guint i = 1; (permit = __atomic_exchange_n (&handed->permit, NULL, __ATOMIC_ACQUIRE)) == NULL; i++)
        if (i % 1000 == 0)
          g_thread_yield ();
      if (permit == NO_MORE)
        return NULL;
      __atomic_store_n (&handed->begun, TRUE, __ATOMIC_RELAXED);
      belay_release (&permit);
    }
}

/*
 * The last reference is dropped while another thread gives the last permit back, slowly since somebody waited: one of
 * the two frees it, when the other has no more to do with it.
 */
static void
test_last_reference_and_permit (void)
{
  Handed handed = { NULL, FALSE };
  GThread *thread = g_thread_new ("giver", give_back, &handed);

  for (guint round = 0; round < 20000; round++)
    {
      BelaySemaphore *semaphore = belay_semaphore_new (1);
      BelayPermit *permit = belay_semaphore_try_acquire (semaphore);
      BelayFuture *waiting = belay_semaphore_acquire_async (semaphore);

      __atomic_store_n (&handed.begun, FALSE, __ATOMIC_RELAXED);
      __atomic_store_n (&handed.permit, (gpointer) permit, __ATOMIC_RELEASE);
      for (guint i = 1; !__atomic_load_n (&handed.begun, __ATOMIC_RELAXED); i++)
        if (i % 1000 == 0)
          g_thread_yield ();
      for (volatile guint i = 0; i < round % 64; i++)
        ;
      belay_future_unref (waiting);
      belay_semaphore_unref (semaphore);
    }
  __atomic_store_n (&handed.permit, NO_MORE, __ATOMIC_RELEASE);
  g_thread_join (thread);
}

typedef struct
{
  BelaySemaphore *semaphore, *other;
  BelayScope     *scope;
} Interrupted;

static gboolean
granted_when_interrupted (gpointer data, GError **error)
{
  Interrupted *self = data;
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (self->semaphore, error);
  belay_auto (BelayShield) shield = belay_shield ();
  belay_auto (BelayTimeout) limit = belay_timeout (50);
  g_autoptr (GError) local = NULL;

  g_assert_nonnull (permit);
  g_assert_nonnull (shield);
  g_assert_nonnull (limit);
  /* The notice of the grant is no longer on its way: it does not end the next wait. */
  g_assert_null (belay_semaphore_acquire (self->other, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  return TRUE;
}

static gpointer
release_there (gpointer data)
{
  BelayPermit *permit = data;

  belay_release (&permit);
  return NULL;
}

/* Interrupted first, granted by another thread before it has looked: the permit is its own. */
static gboolean
test_granted_from_another_thread (gpointer data, GError **error)
{
  Interrupted self = { belay_semaphore_new (1), belay_semaphore_new (1), belay_scope_new () };
  BelayPermit *permit = belay_semaphore_acquire (self.semaphore, error);
  BelayPermit *taken = belay_semaphore_acquire (self.other, error);

  g_assert_true (belay_scope_spawn (self.scope, granted_when_interrupted, &self, NULL));
  g_assert_true (belay_sleep (1, error)); /* it waits */
  belay_scope_cancel (self.scope, "interrupted");
  g_thread_join (g_thread_new ("releaser", release_there, permit));
  g_assert_true (belay_scope_close (&self.scope, error)); /* it has observed nothing */
  g_assert_cmpuint (belay_semaphore_get_available (self.semaphore), ==, 1);
  belay_release (&taken);
  g_assert_cmpuint (belay_semaphore_get_available (self.other), ==, 1);
  belay_semaphore_unref (self.semaphore);
  belay_semaphore_unref (self.other);
  return TRUE;
}

/* --- several at once --- */

typedef struct
{
  BelaySemaphore *semaphore;
  const char     *name;
  guint           n;
  gint64          hold_ms;
} Big;

static gboolean
use_many (gpointer data, GError **error)
{
  Big *self = data;
  belay_auto (BelayPermits) permits = belay_semaphore_acquire_many (self->semaphore, self->n, error);

  if (permits == NULL)
    return FALSE;
  g_assert_cmpuint (belay_permits_get_count (permits), ==, self->n);
  thing_note ("%s", self->name);
  return belay_sleep (self->hold_ms, error);
}

static void
until_n_wait (BelaySemaphore *semaphore, guint n)
{
  while (belay_semaphore_get_n_waiting (semaphore) < n)
    belay_yield (NULL);
}

/* All or none, and in order: who needs few does not overtake who needs many, though there be enough. */
static gboolean
test_many (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (5);
  BelayPermits *three = belay_semaphore_acquire_many (semaphore, 3, error);
  Big four = { semaphore, "four", 4, 10 }, one = { semaphore, "one", 1, 10 };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);
  g_assert_null (belay_semaphore_try_acquire_many (semaphore, 3));
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);
  g_assert_true (belay_scope_spawn (scope, use_many, &four, NULL));
  until_n_wait (semaphore, 1);
  g_assert_true (belay_scope_spawn (scope, use_many, &one, NULL));
  until_n_wait (semaphore, 2);
  g_assert_null (belay_semaphore_try_acquire (semaphore)); /* two are free, and somebody waits */
  g_assert_true (belay_permits_give_back (three, 1));
  g_assert_cmpuint (belay_semaphore_get_n_waiting (semaphore), ==, 2);
  g_assert_true (belay_permits_give_back (three, 1));
  g_assert_cmpuint (belay_semaphore_get_n_waiting (semaphore), ==, 1); /* four of the four that are free */
  g_assert_cmpuint (belay_permits_get_count (three), ==, 1);
  belay_release (&three);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log_words ("four one");
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 5);
  return TRUE;
}

static gboolean
test_too_many (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (3);
  g_autoptr (BelaySemaphore) bounded = belay_semaphore_new_bounded (0, 5);
  belay_auto (BelayPermits) all = belay_semaphore_acquire_many (semaphore, 3, error);
  belay_auto (BelayPermits) none = belay_semaphore_acquire_many (semaphore, 0, error);
  g_autoptr (GError) first = NULL, second = NULL, third = NULL;
  Big five = { bounded, "five", 5, 0 };
  BelayFuture *waiting;

  g_assert_null (belay_semaphore_acquire_many (semaphore, 4, &first));
  g_assert_error (first, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_assert_cmpstr (first->message, ==, "4 permits were asked of a semaphore that has 3 at most; it would be waited for ever");
  g_assert_false (belay_await_ok (belay_semaphore_acquire_many_async (semaphore, 4), &second));
  g_assert_error (second, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_assert_null (belay_semaphore_acquire_many (bounded, 6, &third));
  g_assert_error (third, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  waiting = belay_spawn (use_many, &five); /* they may come yet */
  until_n_wait (bounded, 1);
  g_assert_true (belay_semaphore_add (bounded, 3));
  g_assert_true (belay_semaphore_add (bounded, 2));
  g_assert_true (belay_await_ok (waiting, error));
  assert_log ("five");
  return TRUE;
}

/* The first leaves, by cancellation or as a future: those behind it go on at once. */
static gboolean
test_front_leaves (gpointer data, GError **error)
{
  for (guint how = 0; how < 2; how++)
    {
      g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (4);
      BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
      BelayScope *scope = belay_scope_new ();
      Big four = { semaphore, "four", 4, 0 }, two = { semaphore, "two", 2, 0 };
      BelayFuture *future = NULL, *waiting;

      if (how == 0)
        g_assert_true (belay_scope_spawn (scope, use_many, &four, NULL));
      else
        future = belay_semaphore_acquire_many_async (semaphore, 4);
      until_n_wait (semaphore, 1);
      waiting = belay_spawn (use_many, &two);
      until_n_wait (semaphore, 2);
      if (future != NULL)
        belay_future_unref (future);
      belay_scope_cancel (scope, "enough");
      belay_scope_close (&scope, NULL);
      g_assert_true (belay_await_ok (waiting, error));
      assert_log ("two");
      belay_release (&permit);
      g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 4);
    }
  return TRUE;
}

/* Different needs, given back and cancelled at each instant: all come back. */
static gboolean
test_many_each_instant (gpointer data, GError **error)
{
  for (guint given = 0; given < 4; given++)
    for (guint cancelled = 0; cancelled < 4; cancelled++)
      for (guint need = 1; need <= 3; need++)
        {
          g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (3);
          BelayPermits *held = belay_semaphore_acquire_many (semaphore, 2, error);
          BelayScope *scope = belay_scope_new ();
          Big first = { semaphore, "first", need, 0 }, second = { semaphore, "second", 4 - need, 0 };
          BelayFuture *other;

          g_assert_true (belay_scope_spawn (scope, use_many, &first, NULL));
          other = belay_spawn (use_many, &second);
          for (guint i = 0; i <= MAX (given, cancelled); i++)
            {
              if (i == given)
                belay_release (&held);
              if (i == cancelled)
                belay_scope_cancel (scope, "enough");
              belay_yield (NULL);
            }
          belay_scope_close (&scope, NULL);
          g_assert_true (belay_await_ok (other, error));
          g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 3);
          held = belay_semaphore_try_acquire_many (semaphore, 3);
          g_assert_nonnull (held);
          belay_release (&held);
          thing_clear_log ();
        }
  return TRUE;
}

static gboolean
test_give_back_misuse (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (3);
  BelayPermits *permits = belay_await (belay_semaphore_acquire_many_async (semaphore, 2), error);

  expect_critical ("belay_permits_give_back: 3 of 2 permits");
  g_assert_false (belay_permits_give_back (permits, 3));
  g_assert_true (belay_permits_give_back (permits, 2));
  expect_critical ("belay_permits_give_back: 1 of 0 permits");
  g_assert_false (belay_permits_give_back (permits, 1));
  g_test_assert_expected_messages ();
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 3);
  belay_release (&permits);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 3);
  return TRUE;
}

static gboolean
test_many_async (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (3);
  BelayPermits *permits = belay_semaphore_try_acquire_many (semaphore, 2);
  BelayFuture *dropped = belay_semaphore_acquire_many_async (semaphore, 3);
  BelayFuture *waiting = belay_semaphore_acquire_many_async (semaphore, 2);
  BelayFuture *granted = belay_semaphore_acquire_many_async (semaphore, 1);

  belay_release (&permits);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 0);
  belay_future_unref (dropped); /* it had them */
  permits = belay_await (waiting, error);
  g_assert_cmpuint (belay_permits_get_count (permits), ==, 2);
  belay_future_unref (granted);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  belay_release (&permits);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 3);
  return TRUE;
}

/* --- how many there are --- */

/* To count: what one adds another takes, and keeps. */
static gboolean
test_add_and_forget (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) items = belay_semaphore_new (0);
  BelayFuture *waiting = belay_semaphore_acquire_async (items);
  BelayPermit *item;
  BelayPermits *two;

  g_assert_true (belay_semaphore_add (items, 4));
  g_assert_cmpuint (belay_semaphore_get_total (items), ==, 4);
  item = belay_await (waiting, error);
  belay_semaphore_forget (&item);
  g_assert_null (item);
  belay_semaphore_forget (&item);
  two = belay_semaphore_acquire_many (items, 2, error);
  belay_permits_forget (&two);
  g_assert_null (two);
  g_assert_cmpuint (belay_semaphore_get_total (items), ==, 1);
  g_assert_cmpuint (belay_semaphore_get_available (items), ==, 1);
  return TRUE;
}

/* Who waits for more than is left is told, and those behind it go on. */
static gboolean
test_forgotten_below_a_need (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (3);
  BelayPermit *one = belay_semaphore_acquire (semaphore, error);
  g_autoptr (BelayFuture) all = belay_semaphore_acquire_many_async (semaphore, 3);
  g_autoptr (BelayFuture) few = belay_semaphore_acquire_many_async (semaphore, 2);
  g_autoptr (GError) failure = NULL;

  g_assert_cmpuint (belay_semaphore_get_n_waiting (semaphore), ==, 2);
  belay_semaphore_forget (&one);
  g_assert_false (belay_future_is_pending (all));
  g_assert_false (belay_future_check (all, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_assert_true (belay_future_is_resolved (few));
  return TRUE;
}

/* There are never fewer than none: what was taken away already is not taken away once more. */
static gboolean
test_forgotten_after_lowering (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (5);
  BelayPermits *five = belay_semaphore_acquire_many (semaphore, 5, error);

  g_assert_true (belay_semaphore_set_total (semaphore, 2));
  belay_permits_forget (&five);
  g_assert_cmpuint (belay_semaphore_get_total (semaphore), ==, 0);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 0);
  g_assert_true (belay_semaphore_add (semaphore, 2));
  g_assert_cmpuint (belay_semaphore_get_total (semaphore), ==, 2);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);
  return TRUE;
}

/* None at all are not to be had of a closed one either. */
static gboolean
test_none_of_a_closed_one (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  belay_auto (BelayPermits) none = belay_semaphore_acquire_many (semaphore, 0, error);
  g_autoptr (BelayFuture) future = NULL;
  g_autoptr (GError) failure = NULL, other = NULL;

  g_assert_nonnull (none);
  belay_semaphore_close (semaphore);
  g_assert_null (belay_semaphore_acquire_many (semaphore, 0, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_null (belay_semaphore_try_acquire_many (semaphore, 0));
  future = belay_semaphore_acquire_many_async (semaphore, 0);
  g_assert_false (belay_future_check (future, &other));
  g_assert_error (other, G_IO_ERROR, G_IO_ERROR_CLOSED);
  return TRUE;
}

/* Who has a permit may take a reference, also when there was none left. */
static gboolean
test_new_reference (gpointer data, GError **error)
{
  BelaySemaphore *semaphore = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);

  belay_semaphore_unref (semaphore);
  g_assert_true (belay_semaphore_ref (semaphore) == semaphore);
  belay_release (&permit);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1); /* the sanitizers see whether it is there */
  permit = belay_semaphore_acquire (semaphore, error);
  belay_semaphore_unref (semaphore);
  belay_release (&permit);
  return TRUE;
}

static gboolean
test_bounded (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new_bounded (2, 3);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);

  g_assert_true (belay_semaphore_add (semaphore, 1));
  expect_critical ("belay_semaphore_add: 1 more than 3 permits*");
  g_assert_false (belay_semaphore_add (semaphore, 1));
  expect_critical ("belay_semaphore_set_total: 4 is more*");
  g_assert_false (belay_semaphore_set_total (semaphore, 4));
  g_test_assert_expected_messages ();
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);
  g_assert_cmpuint (belay_semaphore_get_total (semaphore), ==, 3);
  belay_release (&permit);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 3);
  return TRUE;
}

/* A copy of a guard's pointer, released once more. */
static gboolean
test_released_twice (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (2);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error), *copy = permit;

  belay_release (&permit);
  expect_critical ("a permit was released before: there are 2*");
  belay_release (&copy);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);

  /* the total goes down while one is out, which is no mistake */
  permit = belay_semaphore_acquire (semaphore, error);
  copy = permit;
  g_assert_true (belay_semaphore_set_total (semaphore, 1));
  belay_release (&permit);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  expect_critical ("a permit was released before: there are 1*");
  belay_release (&copy);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  g_test_assert_expected_messages ();
  return TRUE;
}

/* Raised: just so many go on, in order. Lowered: nothing is taken away, and nothing granted until under. */
static gboolean
test_resize (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  BelayPermit *permits[4] = { belay_semaphore_acquire (semaphore, error) };
  BelayFuture *futures[5];

  for (guint i = 0; i < 5; i++)
    futures[i] = belay_semaphore_acquire_async (semaphore);
  g_assert_true (belay_semaphore_set_total (semaphore, 4));
  g_assert_cmpuint (belay_semaphore_get_n_waiting (semaphore), ==, 2);
  for (guint i = 0; i < 3; i++)
    {
      g_assert_false (belay_future_is_pending (futures[i]));
      permits[i + 1] = belay_await (futures[i], error);
    }
  g_assert_true (belay_future_is_pending (futures[3]));

  g_assert_true (belay_semaphore_set_total (semaphore, 2)); /* four are out */
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 0);
  belay_release (&permits[0]);
  belay_release (&permits[1]);
  g_assert_cmpuint (belay_semaphore_get_n_waiting (semaphore), ==, 2);
  g_assert_true (belay_future_is_pending (futures[3]));
  belay_release (&permits[2]);
  g_assert_cmpuint (belay_semaphore_get_n_waiting (semaphore), ==, 1);
  belay_release (&permits[3]);
  for (guint i = 3; i < 5; i++)
    {
      permits[i - 3] = belay_await (futures[i], error);
      g_assert_nonnull (permits[i - 3]);
      belay_release (&permits[i - 3]);
    }
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);
  g_assert_true (belay_semaphore_set_total (semaphore, 0));
  g_assert_null (belay_semaphore_try_acquire (semaphore));
  return TRUE;
}

/* Who waits for more than there will be is told; those behind go on. */
static gboolean
test_lowered_below_need (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (4);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  BelayFuture *four = belay_semaphore_acquire_many_async (semaphore, 4);
  BelayFuture *two = belay_semaphore_acquire_many_async (semaphore, 2);
  g_autoptr (GError) failure = NULL;
  BelayPermits *permits;

  g_assert_true (belay_semaphore_set_total (semaphore, 3));
  g_assert_null (belay_await (four, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  permits = belay_await (two, error);
  g_assert_nonnull (permits);
  belay_release (&permits);
  belay_release (&permit);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 3);
  return TRUE;
}

static gboolean
expect_closed (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_semaphore_acquire (data, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_cmpstr (failure->message, ==, "the semaphore was closed");
  thing_note ("closed");
  return TRUE;
}

static gboolean
test_close (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (2);
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  BelayPermit *other = belay_semaphore_acquire (semaphore, error);
  BelayFuture *many = belay_semaphore_acquire_many_async (semaphore, 2);
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) failure = NULL;

  for (guint i = 0; i < 3; i++)
    g_assert_true (belay_scope_spawn (scope, expect_closed, semaphore, NULL));
  until_n_wait (semaphore, 4);
  belay_semaphore_close (semaphore);
  belay_semaphore_close (semaphore);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("closed closed closed");
  g_assert_null (belay_await (many, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  belay_release (&permit);
  belay_release (&other);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 2);
  g_assert_null (belay_semaphore_try_acquire (semaphore));
  g_assert_true (belay_semaphore_add (semaphore, 1));
  g_assert_true (belay_semaphore_set_total (semaphore, 9));
  expect_closed (semaphore, NULL);
  thing_clear_log ();
  return TRUE;
}

/* Whoever waits for what nobody has holds no permit that would keep it alive: that is told, and he is. */
static gboolean
wait_for_nobody (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_semaphore_acquire (data, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  return TRUE;
}

static gboolean
test_dropped_with_waiter (gpointer data, GError **error)
{
  BelaySemaphore *semaphore = belay_semaphore_new (0);
  BelayFuture *waiting = belay_spawn (wait_for_nobody, semaphore);

  until_n_wait (semaphore, 1);
  expect_critical ("the last reference to a semaphore was dropped while somebody waits*");
  belay_semaphore_unref (semaphore);
  g_test_assert_expected_messages ();
  return belay_await_ok (waiting, error);
}

static gboolean
test_permits_keep_it_alive (gpointer data, GError **error)
{
  BelaySemaphore *semaphore = belay_semaphore_new (3);
  BelayPermits *two = belay_semaphore_acquire_many (semaphore, 2, error);
  BelayPermit *one = belay_semaphore_acquire (semaphore, error);

  belay_semaphore_unref (semaphore);
  g_assert_true (belay_permits_give_back (two, 1));
  belay_semaphore_forget (&one);
  g_assert_true (belay_permits_give_back (two, 1)); /* it goes now; the sanitizers see it */
  belay_release (&two);

  semaphore = belay_semaphore_new (1);
  one = belay_semaphore_acquire (semaphore, error);
  belay_semaphore_unref (semaphore);
  belay_semaphore_forget (&one);
  return TRUE;
}

/* --- several at once, on several threads --- */

typedef struct
{
  BelaySemaphore *semaphore;
  int             out; /* atomic */
  int             more; /* than MOST, which there may be for a moment */
} Weighed;

#define MOST 5

static gboolean
weighing_user (gpointer data, GError **error)
{
  Weighed *shared = data;

  for (guint i = 0; i < 300; i++)
    {
      guint n = 1 + i % MOST;
      belay_auto (BelayTimeout) soon = i % 11 == 0 ? belay_timeout (0) : NULL;
      belay_auto (BelayPermits) permits = NULL;

      if (i % 7 == 0)
        belay_future_unref (belay_semaphore_acquire_many_async (shared->semaphore, n));
      permits = belay_semaphore_acquire_many (shared->semaphore, n, NULL);
      if (permits == NULL)
        continue;
      g_assert_cmpint (g_atomic_int_add (&shared->out, (int) n), <=, MOST + shared->more - (int) n);
      if (i % 3 == 0)
        belay_yield (NULL);
      g_atomic_int_add (&shared->out, -(int) n);
      if (n > 1)
        g_assert_true (belay_permits_give_back (permits, 1));
    }
  return TRUE;
}

static gpointer
resizing_thread (gpointer data)
{
  Weighed *shared = data;

  for (guint i = 0; i < 500; i++)
    {
      belay_semaphore_add (shared->semaphore, 1);
      belay_semaphore_set_total (shared->semaphore, MOST);
      if (i % 50 == 0)
        g_thread_yield ();
    }
  return NULL;
}

static gboolean
weigh (gboolean resizes, GError **error)
{
  Weighed shared = { belay_semaphore_new (MOST), 0, resizes ? 1 : 0 };
  belay_auto (BelayLoop) loop = belay_loop_new ("one");
  GThread *thread = resizes ? g_thread_new ("resizing", resizing_thread, &shared) : NULL;
  BelayFuture *futures[6];
  gboolean ok;

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  for (guint i = 0; i < 6; i++)
    futures[i] = i < 3 ? belay_loop_spawn (loop, weighing_user, &shared, NULL) : belay_spawn (weighing_user, &shared);
  ok = belay_await_ok (belay_future_allv (futures, 6), error);
  if (thread != NULL)
    g_thread_join (thread);
  g_assert_true (ok && belay_close (&loop, error));
  g_assert_cmpint (shared.out, ==, 0);
  g_assert_cmpuint (belay_semaphore_get_total (shared.semaphore), ==, MOST);
  g_assert_cmpuint (belay_semaphore_get_available (shared.semaphore), ==, MOST);
  belay_semaphore_unref (shared.semaphore);
  return TRUE;
}

static gboolean
test_many_threads (gpointer data, GError **error)
{
  return weigh (FALSE, error);
}

static gboolean
test_resize_threads (gpointer data, GError **error)
{
  return weigh (TRUE, error);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/semaphore/counts", test_counts);
  thing_add_test ("/semaphore/does-not-suspend-while-permits-are-free", test_no_suspension);
  thing_add_test ("/semaphore/bounds-concurrency", test_bound);
  thing_add_test ("/semaphore/L31-first-come-first-served", test_fifo);
  thing_add_test ("/semaphore/L31-no-barging", test_no_barging);
  thing_add_test ("/semaphore/L31-released-permit-is-reserved", test_reserved);
  thing_add_test ("/semaphore/L31-fibers-and-futures-in-one-queue", test_mixed_fifo);
  thing_add_test ("/semaphore/L32-cancelled-waiter", test_cancelled_waiter);
  thing_add_test ("/semaphore/L32-timed-out-waiter", test_timed_out_waiter);
  thing_add_test ("/semaphore/L32-cancelled-at-each-instant", test_each_instant);
  thing_add_test ("/semaphore/as-a-future", test_async);
  thing_add_test ("/semaphore/L32-future-dropped-before-and-after-the-grant", test_async_dropped);
  thing_add_test ("/semaphore/L32-await-cancelled-at-each-instant", test_async_cancelled);
  thing_add_plain_test ("/semaphore/from-callback-code", test_callbacks);
  thing_add_plain_test ("/semaphore/refused-outside-a-fiber", test_outside);
  thing_add_test ("/semaphore/permits-keep-it-alive", test_last_reference);
  thing_add_test ("/semaphore/waiters-of-a-dropped-one", test_last_reference_with_waiters);
  thing_add_test ("/semaphore/cancelled-waiters-of-a-dropped-one", test_last_reference_cancelled);
  thing_add_test ("/semaphore/boxed", test_boxed);
  thing_add_test ("/semaphore/permit-in-a-scope", test_in_scope);
  thing_add_single_test ("/semaphore/L32-threads", test_threads);
  thing_add_single_test ("/semaphore/L32-cancelled-across-threads", test_cancel_across_threads);
  thing_add_single_plain_test ("/semaphore/L1-last-reference-and-last-permit-on-two-threads", test_last_reference_and_permit);
  thing_add_test ("/semaphore/L32-granted-from-another-thread-when-interrupted", test_granted_from_another_thread);
  thing_add_test ("/semaphore/L33-all-or-none-in-order", test_many);
  thing_add_test ("/semaphore/L33-more-than-there-are", test_too_many);
  thing_add_test ("/semaphore/L33-front-waiter-leaves", test_front_leaves);
  thing_add_test ("/semaphore/L32-L33-cancelled-at-each-instant", test_many_each_instant);
  thing_add_test ("/semaphore/L34-gives-back-too-many", test_give_back_misuse);
  thing_add_test ("/semaphore/L32-L33-futures", test_many_async);
  thing_add_test ("/semaphore/added-and-forgotten", test_add_and_forget);
  thing_add_test ("/semaphore/L33-L36-forgotten-below-a-need", test_forgotten_below_a_need);
  thing_add_test ("/semaphore/L36-forgotten-after-lowering", test_forgotten_after_lowering);
  thing_add_test ("/semaphore/L36-none-of-a-closed-one", test_none_of_a_closed_one);
  thing_add_test ("/semaphore/new-references-from-a-permit", test_new_reference);
  thing_add_test ("/semaphore/L34-bounded", test_bounded);
  thing_add_test ("/semaphore/L34-released-twice", test_released_twice);
  thing_add_test ("/semaphore/L36-resize", test_resize);
  thing_add_test ("/semaphore/L33-L36-lowered-below-a-need", test_lowered_below_need);
  thing_add_test ("/semaphore/L36-close", test_close);
  thing_add_test ("/semaphore/L34-dropped-with-a-waiter", test_dropped_with_waiter);
  thing_add_test ("/semaphore/several-permits-keep-it-alive", test_permits_keep_it_alive);
  thing_add_single_test ("/semaphore/L32-L33-threads", test_many_threads);
  thing_add_single_test ("/semaphore/L36-resized-on-another-thread", test_resize_threads);
  return g_test_run ();
}
