/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The read-write lock: many readers or one writer, nobody starves, and nobody waits for himself or for who has ended. */
#include "thing.h"

typedef struct
{
  BelayRwLock *lock;
  const char  *name;
  gint64       hold_ms;
  int         *readers, *writers;
} User;

static gboolean
read_func (gpointer data, GError **error)
{
  User *user = data;
  belay_auto (BelayReadGuard) reading = belay_rw_lock_read (user->lock, error);

  if (reading == NULL)
    return FALSE;
  if (user->writers != NULL)
    g_assert_cmpint (*user->writers, ==, 0);
  if (user->readers != NULL)
    ++*user->readers;
  thing_note ("%s", user->name);
  belay_sleep (user->hold_ms, NULL);
  if (user->readers != NULL)
    --*user->readers;
  return TRUE;
}

static gboolean
write_func (gpointer data, GError **error)
{
  User *user = data;
  belay_auto (BelayWriteGuard) writing = belay_rw_lock_write (user->lock, error);

  if (writing == NULL)
    return FALSE;
  if (user->readers != NULL)
    g_assert_cmpint (*user->readers, ==, 0);
  if (user->writers != NULL)
    g_assert_cmpint ((*user->writers)++, ==, 0);
  thing_note ("%s", user->name);
  belay_sleep (user->hold_ms, NULL);
  if (user->writers != NULL)
    g_assert_cmpint (--*user->writers, ==, 0);
  return TRUE;
}

static void
until_n_wait (BelayRwLock *lock, guint n)
{
  while (belay_rw_lock_get_n_waiting (lock) < n)
    belay_yield (NULL);
}

static void
assert_free (BelayRwLock *lock)
{
  g_assert_cmpuint (belay_rw_lock_get_n_readers (lock), ==, 0);
  g_assert_false (belay_rw_lock_is_written (lock));
  g_assert_cmpuint (belay_rw_lock_get_n_waiting (lock), ==, 0);
}

/* --- who goes beside whom, and in which order --- */

static gboolean
test_beside (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  int readers = 0, writers = 0;
  User user = { lock, "x", 10, &readers, &writers };
  gint64 begin = now_ms ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 10; i++)
    g_assert_true (belay_scope_spawn (scope, read_func, &user, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpint (now_ms () - begin, ==, 10);
  begin = now_ms ();
  scope = belay_scope_begin ();
  for (guint i = 0; i < 10; i++)
    g_assert_true (belay_scope_spawn (scope, i % 2 == 0 ? write_func : read_func, &user, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpint (now_ms () - begin, >=, 60);
  assert_free (lock);
  thing_clear_log ();
  return TRUE;
}

/* A reader behind a writer that waits, waits; all readers up to the next writer go on together. */
static gboolean
test_fair (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  BelayReadGuard *reading = belay_rw_lock_read (lock, error);
  User users[] = { { lock, "w1", 5 }, { lock, "r1", 5 }, { lock, "r2", 5 }, { lock, "w2", 5 }, { lock, "r3", 5 } };
  belay_auto (BelayScope) scope = belay_scope_begin ();
  gint64 begin = now_ms ();

  for (guint i = 0; i < G_N_ELEMENTS (users); i++)
    {
      g_assert_true (belay_scope_spawn (scope, users[i].name[0] == 'w' ? write_func : read_func, &users[i], NULL));
      until_n_wait (lock, i + 1);
    }
  g_assert_null (belay_rw_lock_try_write (lock));
  belay_release (&reading);
  g_assert_true (belay_rw_lock_is_written (lock)); /* it was never free */
  g_assert_null (belay_rw_lock_try_read (lock));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_true (g_str_has_prefix (thing_log (), "w1 r"));
  g_assert_true (g_str_has_suffix (thing_log (), " w2 r3"));
  g_assert_cmpint (now_ms () - begin, ==, 20);
  thing_clear_log ();
  assert_free (lock);
  return TRUE;
}

static gboolean
try_read (gpointer data, GError **error)
{
  g_assert_null (belay_rw_lock_try_read (data));
  return TRUE;
}

/* Also when nobody but a waiting writer is in the way. */
static gboolean
test_try (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  belay_auto (BelayReadGuard) one = belay_rw_lock_try_read (lock);
  belay_auto (BelayReadGuard) two = belay_rw_lock_try_read (lock);
  BelayFuture *writer;
  BelayWriteGuard *writing;

  g_assert_true (one != NULL && two != NULL);
  g_assert_cmpuint (belay_rw_lock_get_n_readers (lock), ==, 2);
  writer = belay_rw_lock_write_async (lock);
  g_assert_true (belay_await_ok (belay_spawn (try_read, lock), error));
  belay_release (&one);
  belay_release (&two);
  writing = belay_await (writer, error);
  g_assert_true (belay_await_ok (belay_spawn (try_read, lock), error));
  belay_release (&writing);
  writing = belay_rw_lock_try_write (lock);
  g_assert_nonnull (writing);
  belay_release (&writing);
  assert_free (lock);
  return TRUE;
}

static gboolean
test_downgrade (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  BelayWriteGuard *writing = belay_rw_lock_write (lock, error);
  User reader = { lock, "r", 5 }, writer = { lock, "w", 5 };
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayReadGuard *reading;

  g_assert_true (belay_scope_spawn (scope, read_func, &reader, NULL));
  until_n_wait (lock, 1);
  g_assert_true (belay_scope_spawn (scope, write_func, &writer, NULL));
  until_n_wait (lock, 2);
  reading = belay_rw_lock_downgrade (&writing);
  g_assert_null (writing);
  g_assert_nonnull (reading);
  g_assert_false (belay_rw_lock_is_written (lock));
  g_assert_cmpuint (belay_rw_lock_get_n_readers (lock), ==, 2); /* the one who waited reads beside us */
  g_assert_true (belay_sleep (20, error));
  assert_log ("r");
  belay_release (&reading);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("w");
  assert_free (lock);
  return TRUE;
}

/* --- interrupted --- */

/* A writer that leaves the line lets the readers behind it go on at once, beside those who read. */
static gboolean
test_writer_leaves (gpointer data, GError **error)
{
  for (guint how = 0; how < 2; how++)
    {
      g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
      BelayReadGuard *reading = belay_rw_lock_read (lock, error);
      BelayScope *scope = belay_scope_new ();
      User writer = { lock, "w", 0 }, reader = { lock, "r", 0 };
      BelayFuture *future = NULL, *waiter;
      gint64 begin = now_ms ();

      if (how == 0)
        g_assert_true (belay_scope_spawn (scope, write_func, &writer, NULL));
      else
        future = belay_rw_lock_write_async (lock);
      until_n_wait (lock, 1);
      waiter = belay_spawn (read_func, &reader);
      until_n_wait (lock, 2);
      if (future != NULL)
        belay_future_unref (future);
      belay_scope_cancel (scope, "enough");
      belay_scope_close (&scope, NULL);
      g_assert_true (belay_await_ok (waiter, error));
      assert_log ("r");
      g_assert_cmpint (now_ms (), ==, begin);
      belay_release (&reading);
      assert_free (lock);
    }
  return TRUE;
}

typedef struct
{
  BelayScope *scope;
  guint       when;
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

static gboolean
test_each_instant (gpointer data, GError **error)
{
  for (guint kinds = 0; kinds < 8; kinds++)
    for (guint released = 0; released < 4; released++)
      for (guint cancelled = 0; cancelled < 4; cancelled++)
        {
          g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
          gpointer held = kinds & 1 ? (gpointer) belay_rw_lock_read (lock, error) : (gpointer) belay_rw_lock_write (lock, error);
          BelayScope *scope = belay_scope_new ();
          Instant instant = { scope, cancelled };
          User waiter = { lock, "waiter", 0 }, next = { lock, "next", 0 };
          BelayFuture *futures[2];

          g_assert_true (belay_scope_spawn (scope, kinds & 2 ? read_func : write_func, &waiter, NULL));
          futures[0] = belay_spawn (kinds & 4 ? read_func : write_func, &next);
          futures[1] = belay_spawn (cancel_at, &instant);
          for (guint i = 0; i < released; i++)
            belay_yield (NULL);
          belay_release (&held);
          g_assert_true (belay_await_ok (belay_future_allv (futures, 2), error));
          belay_scope_close (&scope, NULL);
          assert_free (lock);
          thing_clear_log ();
        }
  return TRUE;
}

static gboolean
test_futures (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  BelayWriteGuard *writing = belay_await (belay_rw_lock_write_async (lock), error);
  BelayFuture *dropped = belay_rw_lock_read_async (lock), *wanted = belay_rw_lock_read_async (lock);
  BelayFuture *granted = belay_rw_lock_read_async (lock);
  BelayReadGuard *reading;

  belay_future_unref (dropped);
  g_assert_cmpuint (belay_rw_lock_get_n_waiting (lock), ==, 2);
  belay_release (&writing);
  g_assert_cmpuint (belay_rw_lock_get_n_readers (lock), ==, 2);
  reading = belay_await (wanted, error);
  belay_future_unref (granted);
  g_assert_cmpuint (belay_rw_lock_get_n_readers (lock), ==, 1);
  belay_release (&reading);
  assert_free (lock);
  return TRUE;
}

/* --- closed --- */

static gboolean
expect_closed (gpointer data, GError **error)
{
  g_autoptr (GError) first = NULL, second = NULL;

  g_assert_null (belay_rw_lock_read (data, &first));
  g_assert_error (first, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_null (belay_rw_lock_write (data, &second));
  g_assert_error (second, G_IO_ERROR, G_IO_ERROR_CLOSED);
  thing_note ("closed");
  return TRUE;
}

static gboolean
test_close (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  BelayWriteGuard *writing = belay_rw_lock_write (lock, error);
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) failure = NULL;
  BelayFuture *future = belay_rw_lock_read_async (lock);

  for (guint i = 0; i < 2; i++)
    g_assert_true (belay_scope_spawn (scope, expect_closed, lock, NULL));
  until_n_wait (lock, 3);
  belay_rw_lock_close (lock);
  belay_rw_lock_close (lock);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("closed closed");
  g_assert_null (belay_await (future, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_true (belay_rw_lock_is_written (lock));
  belay_release (&writing);
  assert_free (lock);
  g_assert_null (belay_rw_lock_try_read (lock));
  g_assert_null (belay_rw_lock_try_write (lock));
  return TRUE;
}

/* --- misuse --- */

static void
expect_deadlock (BelayRwLock *lock, gboolean to_write, const char *how)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (to_write ? (gpointer) belay_rw_lock_write (lock, &failure) : (gpointer) belay_rw_lock_read (lock, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
  if (!g_pattern_match_simple (how, failure->message))
    g_assert_cmpstr (failure->message, ==, how);
}

static gboolean
test_oneself (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  BelayReadGuard *reading = belay_rw_lock_read (lock, error);
  BelayWriteGuard *writing;

  expect_deadlock (lock, TRUE, "this fiber reads the lock already, from *test-rw-lock.c:*");
  belay_release (&reading);
  writing = belay_rw_lock_write (lock, error);
  expect_deadlock (lock, TRUE, "this fiber writes the lock already, from *test-rw-lock.c:*");
  expect_deadlock (lock, FALSE, "this fiber writes the lock already, from *test-rw-lock.c:*");
  reading = belay_rw_lock_downgrade (&writing);
  expect_deadlock (lock, TRUE, "this fiber reads the lock already, from *test-rw-lock.c:*");
  belay_release (&reading);
  assert_free (lock);
  return TRUE;
}

/* Who reads may read again, though a writer waits: that waits for him. */
static gboolean
test_read_again (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  BelayReadGuard *first = belay_rw_lock_read (lock, error), *second;
  User writer = { lock, "w", 0 };
  BelayFuture *waiting = belay_spawn (write_func, &writer);

  until_n_wait (lock, 1);
  second = belay_rw_lock_read (lock, error);
  g_assert_nonnull (second);
  g_assert_cmpuint (belay_rw_lock_get_n_readers (lock), ==, 2);
  belay_release (&first);
  g_assert_false (belay_rw_lock_is_written (lock));
  belay_release (&second);
  g_assert_true (belay_await_ok (waiting, error));
  assert_log ("w");
  assert_free (lock);
  return TRUE;
}

static gboolean
release_others (gpointer data, GError **error)
{
  gpointer guard = data;

  expect_critical ("*released that the fiber from * holds, from *test-rw-lock.c:*");
  belay_release (&guard);
  g_test_assert_expected_messages ();
  return TRUE;
}

static gboolean
release_func (gpointer data, GError **error)
{
  belay_release (&data);
  return TRUE;
}

static gboolean
test_not_the_owner (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  BelayReadGuard *reading = belay_rw_lock_read (lock, error);
  BelayWriteGuard *writing, *copy;

  g_assert_true (belay_await_ok (belay_spawn (release_others, reading), error));
  g_assert_cmpuint (belay_rw_lock_get_n_readers (lock), ==, 1);
  belay_rw_lock_disown_read (reading);
  g_assert_true (belay_await_ok (belay_spawn (release_func, reading), error));
  assert_free (lock);
  writing = belay_rw_lock_write (lock, error);
  copy = writing;
  g_assert_true (belay_await_ok (belay_spawn (release_others, writing), error));
  g_assert_true (belay_rw_lock_is_written (lock));
  belay_rw_lock_disown_write (writing);
  g_assert_true (belay_await_ok (belay_spawn (release_func, writing), error));
  expect_critical ("*nobody holds*");
  belay_release (&copy);
  expect_critical ("*does not write*");
  copy = (BelayWriteGuard *) lock;
  g_assert_null (belay_rw_lock_downgrade (&copy));
  g_test_assert_expected_messages ();
  assert_free (lock);
  return TRUE;
}

/* --- owners' ends --- */

typedef struct
{
  BelayRwLock *lock;
  gboolean     to_write;
  gpointer     lost;
} Forgetful;

static gboolean
forget (gpointer data, GError **error)
{
  Forgetful *self = data;

  self->lost = self->to_write ? (gpointer) belay_rw_lock_write (self->lock, error) : (gpointer) belay_rw_lock_read (self->lock, error);
  while (belay_rw_lock_get_n_waiting (self->lock) < 2)
    belay_yield (NULL);
  expect_critical (self->to_write ? "*ended and writes a read-write lock still, from *test-rw-lock.c:*"
                                  : "*ended and reads a read-write lock still, from *test-rw-lock.c:*");
  return TRUE;
}

static gboolean
expect_broken (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_rw_lock_write (data, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  return TRUE;
}

static gboolean
test_owner_ends (gpointer data, GError **error)
{
  for (guint to_write = 0; to_write < 2; to_write++)
    {
      g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
      Forgetful forgetful = { lock, to_write };
      BelayFuture *owner = belay_spawn (forget, &forgetful), *waiter, *queued;
      g_autoptr (GError) failure = NULL, later = NULL;
      BelayWriteGuard *writing;

      while (belay_rw_lock_get_n_readers (lock) == 0 && !belay_rw_lock_is_written (lock))
        belay_yield (NULL);
      waiter = belay_spawn (expect_broken, lock);
      queued = belay_rw_lock_write_async (lock);
      g_assert_true (belay_await_ok (owner, error));
      g_test_assert_expected_messages ();
      g_assert_true (belay_await_ok (waiter, error));
      g_assert_null (belay_await (queued, &failure));
      g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
      assert_free (lock);
      g_assert_null (belay_rw_lock_try_read (lock));
      g_assert_null (belay_rw_lock_read (lock, &later));
      g_assert_error (later, BELAY_ERROR, BELAY_ERROR_BROKEN);
      expect_critical ("*nobody holds*"); /* too late */
      belay_release (&forgetful.lost);
      g_test_assert_expected_messages ();
      g_assert_true (belay_rw_lock_recover (lock));
      g_assert_false (belay_rw_lock_recover (lock));
      writing = belay_rw_lock_write (lock, error);
      g_assert_nonnull (writing);
      belay_release (&writing);
      assert_free (lock);
    }
  return TRUE;
}

/* --- references, threads --- */

static gboolean
test_last_reference (gpointer data, GError **error)
{
  BelayRwLock *lock = belay_rw_lock_new ();
  BelayReadGuard *one = belay_rw_lock_read (lock, error), *two = belay_rw_lock_read (lock, error);
  g_auto (GValue) value = G_VALUE_INIT;

  g_value_init (&value, BELAY_TYPE_RW_LOCK);
  g_value_set_boxed (&value, lock);
  g_value_unset (&value);
  belay_rw_lock_unref (lock);
  belay_release (&one);
  belay_release (&two); /* it goes now; the sanitizers see it */
  return TRUE;
}

/* Who has it may take a reference, also when there was none left. */
static gboolean
test_new_reference (gpointer data, GError **error)
{
  BelayRwLock *lock = belay_rw_lock_new ();
  BelayReadGuard *reading = belay_rw_lock_read (lock, error);
  BelayWriteGuard *writing;

  belay_rw_lock_unref (lock);
  g_assert_true (belay_rw_lock_ref (lock) == lock);
  belay_release (&reading);
  assert_free (lock); /* the sanitizers see whether it is there */
  writing = belay_rw_lock_write (lock, error);
  belay_rw_lock_unref (lock);
  belay_rw_lock_ref (lock);
  belay_release (&writing);
  assert_free (lock);
  belay_rw_lock_unref (lock);
  return TRUE;
}

static gboolean
lose_the_last (gpointer data, GError **error)
{
  BelayReadGuard *lost = belay_rw_lock_read (data, error);

  belay_rw_lock_unref (data);
  until_n_wait (data, 1);
  expect_critical ("*ended and reads a read-write lock still*");
  expect_critical ("the last reference to a read-write lock was dropped while somebody waits*");
  return lost != NULL;
}

static gboolean
write_broken (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_null (belay_rw_lock_write (data, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  return TRUE;
}

/* Who waits without a reference is told all the same. */
static gboolean
test_owner_ends_last_reference (gpointer data, GError **error)
{
  BelayRwLock *lock = belay_rw_lock_new ();
  BelayFuture *owner = belay_spawn (lose_the_last, lock), *waiter;

  while (belay_rw_lock_get_n_readers (lock) == 0)
    belay_yield (NULL);
  waiter = belay_spawn (write_broken, lock);
  g_assert_true (belay_await_ok (owner, error));
  g_assert_true (belay_await_ok (waiter, error));
  g_test_assert_expected_messages ();
  return TRUE;
}

/* Who reads gets another guard at once, by trying, too. */
static gboolean
test_try_again (gpointer data, GError **error)
{
  g_autoptr (BelayRwLock) lock = belay_rw_lock_new ();
  belay_auto (BelayReadGuard) one = belay_rw_lock_read (lock, error);
  g_autoptr (BelayFuture) writer = belay_rw_lock_write_async (lock);
  belay_auto (BelayReadGuard) two = belay_rw_lock_try_read (lock);

  g_assert_nonnull (two);
  g_assert_cmpuint (belay_rw_lock_get_n_readers (lock), ==, 2);
  belay_rw_lock_close (lock);
  g_assert_null (belay_rw_lock_try_read (lock));
  g_assert_false (belay_future_check (writer, NULL));
  return TRUE;
}

typedef struct
{
  BelayRwLock *lock;
  int          written; /* plain memory, which the lock protects */
  int          n_reads; /* atomic */
} Shared;

static gboolean
loop_user (gpointer data, GError **error)
{
  Shared *shared = data;

  for (guint i = 0; i < 300; i++)
    {
      if (i % 5 == 0)
        {
          belay_future_unref (i % 2 == 0 ? belay_rw_lock_read_async (shared->lock) : belay_rw_lock_write_async (shared->lock));
        }
      else if (i % 3 == 0)
        {
          belay_auto (BelayWriteGuard) writing = belay_rw_lock_write (shared->lock, error);
          if (writing == NULL)
            return FALSE;
          shared->written++;
          if (i % 2 == 0)
            belay_yield (NULL);
          if (i % 4 == 0)
            {
              belay_auto (BelayReadGuard) reading = belay_rw_lock_downgrade (&writing);
              g_assert_nonnull (reading);
            }
        }
      else
        {
          belay_auto (BelayTimeout) soon = i % 7 == 0 ? belay_timeout (0) : NULL;
          belay_auto (BelayReadGuard) reading = belay_rw_lock_read (shared->lock, NULL);
          int seen = reading != NULL ? shared->written : 0;

          if (reading == NULL)
            continue;
          if (i % 2 == 0)
            belay_yield (NULL);
          g_assert_cmpint (shared->written, ==, seen);
          g_atomic_int_inc (&shared->n_reads);
        }
    }
  return TRUE;
}

static gboolean
test_threads (gpointer data, GError **error)
{
  Shared shared = { belay_rw_lock_new () };
  belay_auto (BelayLoop) loop = belay_loop_new ("one");
  BelayFuture *futures[6];
  gboolean ok;

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  for (guint i = 0; i < 6; i++)
    futures[i] = i < 3 ? belay_loop_spawn (loop, loop_user, &shared, NULL) : belay_spawn (loop_user, &shared);
  ok = belay_await_ok (belay_future_allv (futures, 6), error);
  g_assert_true (ok && belay_close (&loop, error));
  g_assert_cmpint (shared.written, ==, 6 * 80);
  assert_free (shared.lock);
  belay_rw_lock_unref (shared.lock);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/rw-lock/readers-beside-each-other", test_beside);
  thing_add_test ("/rw-lock/L31-nobody-starves", test_fair);
  thing_add_test ("/rw-lock/L31-try", test_try);
  thing_add_test ("/rw-lock/downgrade", test_downgrade);
  thing_add_test ("/rw-lock/L32-writer-that-leaves-the-line", test_writer_leaves);
  thing_add_test ("/rw-lock/L32-cancelled-at-each-instant", test_each_instant);
  thing_add_test ("/rw-lock/L32-futures", test_futures);
  thing_add_test ("/rw-lock/L36-close", test_close);
  thing_add_test ("/rw-lock/L34-waiting-for-oneself", test_oneself);
  thing_add_test ("/rw-lock/L34-reads-again", test_read_again);
  thing_add_test ("/rw-lock/L34-released-by-another", test_not_the_owner);
  thing_add_test ("/rw-lock/L34-owner-ends", test_owner_ends);
  thing_add_test ("/rw-lock/guards-keep-it-alive", test_last_reference);
  thing_add_test ("/rw-lock/new-references-from-a-guard", test_new_reference);
  thing_add_test ("/rw-lock/L34-owner-ends-after-the-last-reference", test_owner_ends_last_reference);
  thing_add_test ("/rw-lock/L34-tries-again", test_try_again);
  thing_add_single_test ("/rw-lock/L32-threads", test_threads);
  return g_test_run ();
}
