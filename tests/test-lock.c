/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lock: one at a time, first come first served, never lost, and nobody waits for an owner who has ended. */
#include "thing.h"

typedef struct
{
  BelayLock  *lock;
  const char *name;
  gint64      hold_ms;
  int        *inside;
} User;

static gboolean
use (gpointer data, GError **error)
{
  User *user = data;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (user->lock, error);

  if (held == NULL)
    return FALSE;
  if (user->inside != NULL)
    g_assert_cmpint ((*user->inside)++, ==, 0);
  thing_note ("%s", user->name);
  if (!belay_sleep (user->hold_ms, error))
    {
      if (user->inside != NULL)
        --*user->inside;
      return FALSE;
    }
  if (user->inside != NULL)
    g_assert_cmpint (--*user->inside, ==, 0);
  return TRUE;
}

/* So many wait. */
static void
until_n_wait (BelayLock *lock, guint n)
{
  while (belay_lock_get_n_waiting (lock) < n)
    belay_yield (NULL);
}

/* --- one at a time, in order --- */

static gboolean
test_excludes (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  int inside = 0;
  User user = { lock, "x", 10, &inside };
  gint64 begin = now_ms ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 10; i++)
    g_assert_true (belay_scope_spawn (scope, use, &user, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpint (now_ms () - begin, ==, 100);
  g_assert_false (belay_lock_is_locked (lock));
  thing_clear_log ();
  return TRUE;
}

static gboolean
test_uncontended (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayFuture *other = belay_spawn (note_func, "other");

  for (guint i = 0; i < 10; i++)
    {
      belay_auto (BelayLockGuard) held = belay_lock_acquire (lock, error);

      g_assert_nonnull (held);
      g_assert_true (belay_lock_is_locked (lock));
      g_assert_null (belay_lock_try_acquire (lock));
    }
  assert_log ("");
  g_assert_false (belay_lock_is_locked (lock));
  g_assert_true (belay_await_ok (other, error));
  thing_clear_log ();
  return TRUE;
}

/* In the order in which they got in line, fibers and futures; who gives it back and wants it again goes behind them. */
static gboolean
test_fifo (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  User users[] = { { lock, "a", 5 }, { lock, "b", 5 }, { lock, "d", 5 } };
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *future;

  for (guint i = 0; i < 2; i++)
    {
      g_assert_true (belay_scope_spawn (scope, use, &users[i], NULL));
      until_n_wait (lock, i + 1);
    }
  future = belay_lock_acquire_async (lock);
  g_assert_true (belay_scope_spawn (scope, use, &users[2], NULL));
  until_n_wait (lock, 4);
  belay_release (&held);
  g_assert_true (belay_lock_is_locked (lock)); /* it was never free */
  g_assert_null (belay_lock_try_acquire (lock));
  {
    belay_auto (BelayLockGuard) mine = belay_await (future, error);

    g_assert_nonnull (mine);
    thing_note ("c");
  }
  held = belay_lock_acquire (lock, error);
  assert_log ("a b c d");
  belay_release (&held);
  return belay_scope_close (&scope, error);
}

/* --- interrupted --- */

typedef struct
{
  BelayLock      *lock;
  BelayLockGuard *held;
  BelayScope     *scope;
  guint           when;
} Instant;

static gboolean
cancel_at (gpointer data, GError **error)
{
  Instant *instant = data;

  for (guint i = 0; i < instant->when; i++)
    belay_yield (NULL);
  belay_scope_cancel (instant->scope, "enough");
  return TRUE;
}

/* Given back and cancelled, some turns apart: the next has it, or the one who was cancelled had it; then it is free. */
static gboolean
test_each_instant (gpointer data, GError **error)
{
  for (guint released = 0; released < 5; released++)
    for (guint cancelled = 0; cancelled < 5; cancelled++)
      {
        g_autoptr (BelayLock) lock = belay_lock_new ();
        BelayScope *scope = belay_scope_new ();
        Instant instant = { lock, belay_lock_acquire (lock, error), scope, cancelled };
        User waiter = { lock, "waiter", 0 }, next = { lock, "next", 0 };
        BelayFuture *futures[2];

        g_assert_true (belay_scope_spawn (scope, use, &waiter, NULL));
        futures[0] = belay_spawn (use, &next);
        futures[1] = belay_spawn (cancel_at, &instant);
        for (guint i = 0; i < released; i++)
          belay_yield (NULL);
        belay_release (&instant.held);
        g_assert_true (belay_await_ok (belay_future_allv (futures, 2), error));
        belay_scope_close (&scope, NULL);
        g_assert_false (belay_lock_is_locked (lock));
        g_assert_cmpuint (belay_lock_get_n_waiting (lock), ==, 0);
        instant.held = belay_lock_try_acquire (lock);
        g_assert_nonnull (instant.held);
        belay_release (&instant.held);
        thing_clear_log ();
      }
  return TRUE;
}

static gboolean
test_timed_out (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_await (belay_lock_acquire_async (lock), error);

  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);
    g_autoptr (GError) failure = NULL;

    g_assert_null (belay_lock_acquire (lock, &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_assert_true (belay_timeout_expired (limit));
  }
  g_assert_cmpuint (belay_lock_get_n_waiting (lock), ==, 0);
  belay_release (&held);
  g_assert_false (belay_lock_is_locked (lock));
  return TRUE;
}

/* A cancelled fiber acquires nothing, though it were free (L20). */
static gboolean
test_cancelled_first (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) failure = NULL, second = NULL;

  belay_scope_cancel (scope, "enough");
  g_assert_null (belay_lock_acquire (lock, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_false (belay_await_ok (belay_lock_acquire_async (lock), &second));
  g_assert_false (belay_lock_is_locked (lock));
  belay_scope_close (&scope, NULL);
  return TRUE;
}

/* A future that is dropped in line, when it was granted, and when it has it: the lock goes on. */
static gboolean
test_futures_dropped (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  BelayFuture *first = belay_lock_acquire_async (lock), *second = belay_lock_acquire_async (lock);
  BelayFuture *third = belay_lock_acquire_async (lock);

  belay_future_unref (first); /* in line */
  g_assert_cmpuint (belay_lock_get_n_waiting (lock), ==, 2);
  belay_release (&held);
  g_assert_cmpuint (belay_lock_get_n_waiting (lock), ==, 1);
  belay_future_unref (second); /* it has it */
  held = belay_await (third, error);
  g_assert_nonnull (held);
  belay_release (&held);
  belay_future_unref (belay_lock_acquire_async (lock));
  g_assert_false (belay_lock_is_locked (lock));
  return TRUE;
}

/* --- closed --- */

static gboolean
expect_closed (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_lock_acquire (data, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_cmpstr (failure->message, ==, "the lock was closed");
  thing_note ("closed");
  return TRUE;
}

static gboolean
test_close (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) failure = NULL;
  BelayFuture *future = belay_lock_acquire_async (lock);

  for (guint i = 0; i < 3; i++)
    g_assert_true (belay_scope_spawn (scope, expect_closed, lock, NULL));
  until_n_wait (lock, 4);
  belay_lock_close (lock);
  belay_lock_close (lock);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("closed closed closed");
  g_assert_null (belay_await (future, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_true (belay_lock_is_locked (lock)); /* who has it keeps it */
  belay_release (&held);
  g_assert_false (belay_lock_is_locked (lock));
  g_assert_null (belay_lock_try_acquire (lock));
  expect_closed (lock, NULL);
  thing_clear_log ();
  return TRUE;
}

/* --- misuse --- */

static gboolean
test_not_recursive (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  belay_auto (BelayLockGuard) held = belay_lock_acquire (lock, error);
  g_autoptr (GError) failure = NULL;
  const char *line = G_STRINGIFY (__LINE__);
  g_autofree char *expected = g_strdup_printf ("*lock already, from *test-lock.c:%d, *", atoi (line) - 2);

  g_assert_null (belay_lock_acquire (lock, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
  if (!g_pattern_match_simple (expected, failure->message))
    g_assert_cmpstr (failure->message, ==, expected);
  g_assert_true (belay_lock_is_locked (lock));
  g_assert_cmpuint (belay_lock_get_n_waiting (lock), ==, 0);
  return TRUE;
}

static gboolean
release_others (gpointer data, GError **error)
{
  BelayLockGuard *guard = data;

  expect_critical ("*released that the fiber from * holds, from *test-lock.c:*");
  belay_release (&guard);
  g_test_assert_expected_messages ();
  return TRUE;
}

static gboolean
test_not_the_owner (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error), *copy;

  g_assert_true (belay_await_ok (belay_spawn (release_others, held), error));
  g_assert_true (belay_lock_is_locked (lock));
  copy = held;
  belay_release (&held);
  g_assert_false (belay_lock_is_locked (lock));
  expect_critical ("*nobody holds*");
  belay_release (&copy);
  g_test_assert_expected_messages ();
  g_assert_false (belay_lock_is_locked (lock));
  return TRUE;
}

static gboolean
release_func (gpointer data, GError **error)
{
  BelayLockGuard *guard = data;

  belay_release (&guard);
  return TRUE;
}

/* What is nobody's may travel: by disowning, and as a future. Also into a scope that another fiber closes. */
static gboolean
test_disowned (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  BelayScope *stored = belay_scope_new ();

  belay_lock_disown (held);
  g_assert_true (belay_await_ok (belay_spawn (release_func, held), error));
  g_assert_false (belay_lock_is_locked (lock));

  held = belay_await (belay_lock_acquire_async (lock), error);
  g_assert_true (belay_await_ok (belay_spawn (release_func, held), error));
  g_assert_false (belay_lock_is_locked (lock));

  g_assert_nonnull (belay_enter (stored, belay_lock_acquire_async (lock), error));
  g_assert_true (belay_lock_is_locked (lock));
  g_assert_true (belay_scope_close (&stored, error));
  g_assert_false (belay_lock_is_locked (lock));
  return TRUE;
}

static gboolean
adopt_and_return (gpointer data, GError **error)
{
  return belay_scope_adopt (belay_scope_current (), belay_lock_acquire (data, error), error);
}

/* The scope of a fiber releases in that fiber, before its end; a guard may be moved there, and back. */
static gboolean
test_scopes (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (BelayLockGuard) held = belay_lock_acquire (lock, error);
  BelayLockGuard *stolen;
  g_autoptr (BelayEntry) entry = NULL;

  stolen = belay_steal (&held);
  entry = belay_scope_push (scope, stolen, error);
  stolen = belay_entry_steal (entry, error);
  g_assert_true (belay_move (&stolen, scope, error));
  g_assert_true (belay_lock_is_locked (lock));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_false (belay_lock_is_locked (lock));
  g_assert_true (belay_await_ok (belay_spawn (adopt_and_return, lock), error));
  g_assert_false (belay_lock_is_locked (lock));
  return TRUE;
}

/* --- the owner's end --- */

static gboolean
forget (gpointer data, GError **error)
{
  BelayLockGuard *lost = belay_lock_acquire (data, error);

  while (belay_lock_get_n_waiting (data) < 2)
    belay_yield (NULL);
  expect_critical ("the fiber from *test-lock.c:* ended and holds a lock still, from *test-lock.c:*");
  return lost != NULL;
}

static gboolean
expect_broken (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_lock_acquire (data, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  return TRUE;
}

static gboolean
test_owner_ends (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayFuture *owner = belay_spawn (forget, lock), *waiter, *queued;
  BelayLockGuard *held = NULL;
  g_autoptr (GError) failure = NULL;

  while (!belay_lock_is_locked (lock))
    belay_yield (NULL);
  waiter = belay_spawn (expect_broken, lock);
  queued = belay_lock_acquire_async (lock);
  g_assert_true (belay_await_ok (owner, error));
  g_assert_true (belay_await_ok (waiter, error));
  g_test_assert_expected_messages ();
  g_assert_null (belay_await (queued, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  g_assert_false (belay_lock_is_locked (lock));
  g_assert_null (belay_lock_try_acquire (lock));
  expect_broken (lock, NULL); /* and for whoever comes later */
  g_assert_true (belay_lock_recover (lock));
  g_assert_false (belay_lock_recover (lock));
  held = belay_lock_acquire (lock, error);
  g_assert_nonnull (held);
  belay_release (&held);
  return TRUE;
}

/* --- references, threads --- */

static gboolean
test_last_reference (gpointer data, GError **error)
{
  BelayLock *lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  BelayFuture *queued = belay_lock_acquire_async (lock);

  belay_lock_unref (lock);
  belay_release (&held);
  held = belay_await (queued, error);
  g_assert_nonnull (held);
  belay_release (&held); /* it goes now; the sanitizers see it */
  return TRUE;
}

/* Who has it may take a reference, also when there was none left. */
static gboolean
test_new_reference (gpointer data, GError **error)
{
  BelayLock *lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);

  belay_lock_unref (lock);
  g_assert_true (belay_lock_ref (lock) == lock);
  belay_release (&held);
  g_assert_false (belay_lock_is_locked (lock)); /* the sanitizers see whether it is there */
  held = belay_lock_acquire (lock, error);
  belay_lock_unref (lock);
  belay_release (&held);
  return TRUE;
}

static gboolean
lose_the_last (gpointer data, GError **error)
{
  BelayLockGuard *lost = belay_lock_acquire (data, error);

  belay_lock_unref (data);
  while (belay_lock_get_n_waiting (data) < 1)
    belay_yield (NULL);
  expect_critical ("*ended and holds a lock still*");
  expect_critical ("the last reference to a lock was dropped while somebody waits*");
  return lost != NULL;
}

/* Who waits without a reference is told all the same. */
static gboolean
test_owner_ends_last_reference (gpointer data, GError **error)
{
  BelayLock *lock = belay_lock_new ();
  BelayFuture *owner = belay_spawn (lose_the_last, lock), *waiter;

  while (!belay_lock_is_locked (lock))
    belay_yield (NULL);
  waiter = belay_spawn (expect_broken, lock);
  g_assert_true (belay_await_ok (owner, error));
  g_assert_true (belay_await_ok (waiter, error));
  g_test_assert_expected_messages ();
  return TRUE;
}

static gboolean
test_boxed (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  g_auto (GValue) value = G_VALUE_INIT;

  g_value_init (&value, BELAY_TYPE_LOCK);
  g_value_set_boxed (&value, lock);
  g_assert_true (g_value_get_boxed (&value) == lock);
  return TRUE;
}

static void
test_outside (void)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  g_autoptr (GError) error = NULL;
  BelayLockGuard *held;

  expect_critical ("belay_lock_acquire: waits*");
  g_assert_null (belay_lock_acquire (lock, &error));
  g_test_assert_expected_messages ();
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  held = belay_lock_try_acquire (lock);
  g_assert_nonnull (held);
  belay_release (&held);
  g_assert_false (belay_lock_is_locked (lock));
}

typedef struct
{
  BelayLock *lock;
  int        inside; /* plain memory, which the lock protects */
  guint      count;
} Shared;

static void
step (Shared *shared)
{
  g_assert_cmpint (shared->inside++, ==, 0);
  shared->count++;
  g_assert_cmpint (--shared->inside, ==, 0);
}

static gboolean
loop_user (gpointer data, GError **error)
{
  Shared *shared = data;

  for (guint i = 0; i < 300; i++)
    {
      if (i % 5 == 0)
        {
          belay_future_unref (belay_lock_acquire_async (shared->lock)); /* wanted, and wanted no more */
          continue;
        }
      {
        belay_auto (BelayTimeout) soon = i % 7 == 0 ? belay_timeout (0) : NULL;
        belay_auto (BelayLockGuard) held = belay_lock_acquire (shared->lock, NULL);

        if (held != NULL)
          step (shared);
        if (held != NULL && i % 3 == 0)
          belay_yield (NULL);
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
      g_autoptr (BelayFuture) future = belay_lock_acquire_async (shared->lock);
      BelayLockGuard *held;

      if (i % 4 == 0)
        continue;
      g_assert_true (belay_future_wait_sync (future, NULL));
      held = belay_future_take (future, NULL);
      step (shared);
      belay_release (&held);
    }
  return NULL;
}

/* Fibers on two loops and a plain thread: never two inside, and the lock is free in the end. */
static gboolean
test_threads (gpointer data, GError **error)
{
  Shared shared = { belay_lock_new () };
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
  g_assert_cmpuint (shared.count, >=, 6 * 190 + 225);
  g_assert_false (belay_lock_is_locked (shared.lock));
  belay_lock_unref (shared.lock);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/lock/excludes", test_excludes);
  thing_add_test ("/lock/does-not-suspend-while-it-is-free", test_uncontended);
  thing_add_test ("/lock/L31-first-come-first-served", test_fifo);
  thing_add_test ("/lock/L32-cancelled-at-each-instant", test_each_instant);
  thing_add_test ("/lock/L32-timed-out-waiter", test_timed_out);
  thing_add_test ("/lock/L20-cancelled-acquires-nothing", test_cancelled_first);
  thing_add_test ("/lock/L32-futures-dropped", test_futures_dropped);
  thing_add_test ("/lock/L36-close", test_close);
  thing_add_test ("/lock/L34-not-recursive", test_not_recursive);
  thing_add_test ("/lock/L34-released-by-another", test_not_the_owner);
  thing_add_test ("/lock/disowned-guards-travel", test_disowned);
  thing_add_test ("/lock/in-scopes", test_scopes);
  thing_add_test ("/lock/L34-owner-ends", test_owner_ends);
  thing_add_test ("/lock/guards-keep-it-alive", test_last_reference);
  thing_add_test ("/lock/new-references-from-a-guard", test_new_reference);
  thing_add_test ("/lock/L34-owner-ends-after-the-last-reference", test_owner_ends_last_reference);
  thing_add_test ("/lock/boxed", test_boxed);
  thing_add_plain_test ("/lock/refused-outside-a-fiber", test_outside);
  thing_add_single_test ("/lock/L32-threads", test_threads);
  return g_test_run ();
}
