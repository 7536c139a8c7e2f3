/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The condition: whoever waited has the lock again, whatever ended the wait, and no notification is lost. */
#include "thing.h"

typedef struct
{
  BelayLock      *lock;
  BelayCondition *changed;
  int             items;
  const char     *name;
} Store;

static void
store_init (Store *self)
{
  self->lock = belay_lock_new ();
  self->changed = belay_condition_new (self->lock);
  self->items = 0;
  self->name = "x";
}

static void
store_clear (Store *self)
{
  g_assert_false (belay_lock_is_locked (self->lock));
  g_assert_cmpuint (belay_condition_get_n_waiting (self->changed), ==, 0);
  belay_condition_unref (self->changed);
  belay_lock_unref (self->lock);
}

static gboolean
has_items (gpointer data)
{
  return ((Store *) data)->items > 0;
}

static gboolean
take_item (gpointer data, GError **error)
{
  Store *self = data;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, error);

  if (held == NULL || !belay_condition_wait_for (self->changed, &held, has_items, self, error))
    return FALSE;
  self->items--;
  thing_note ("%s", self->name);
  return TRUE;
}

static void
put_items (Store *self, int n)
{
  belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, NULL);

  self->items += n;
  belay_condition_notify (self->changed, (guint) n);
}

static void
until_n_wait (Store *self, guint n)
{
  while (belay_condition_get_n_waiting (self->changed) < n)
    belay_yield (NULL);
}

/* --- notifying --- */

static gboolean
test_wait_for (gpointer data, GError **error)
{
  Store store;
  BelayFuture *consumer;

  store_init (&store);
  consumer = belay_spawn (take_item, &store);
  until_n_wait (&store, 1);
  g_assert_false (belay_lock_is_locked (store.lock)); /* given back meanwhile */
  put_items (&store, 1);
  g_assert_true (belay_await_ok (consumer, error));
  g_assert_cmpint (store.items, ==, 0);
  put_items (&store, 1);
  g_assert_true (take_item (&store, error)); /* there is one: nothing waits */
  store_clear (&store);
  thing_clear_log ();
  return TRUE;
}

static gboolean
wait_once (gpointer data, GError **error)
{
  Store *self = data;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, error);
  gboolean ok = held != NULL && belay_condition_wait (self->changed, &held, error);

  g_assert_nonnull (held);
  g_assert_true (belay_lock_is_locked (self->lock));
  g_assert_null (belay_lock_try_acquire (self->lock));
  thing_note ("%s", ok ? self->name : "no");
  return ok;
}

/* n distinct ones, first come, first served; each has the lock when it goes on. */
static gboolean
test_notify_n (gpointer data, GError **error)
{
  Store stores[5];
  belay_auto (BelayScope) scope = belay_scope_begin ();
  const char *names[] = { "a", "b", "c", "d", "e" };
  BelayLockGuard *held;

  store_init (&stores[0]);
  for (guint i = 0; i < 5; i++)
    {
      stores[i] = stores[0];
      stores[i].name = names[i];
      g_assert_true (belay_scope_spawn (scope, wait_once, &stores[i], NULL));
      until_n_wait (&stores[0], i + 1);
    }
  held = belay_lock_acquire (stores[0].lock, error);
  g_assert_cmpuint (belay_condition_notify (stores[0].changed, 0), ==, 0);
  g_assert_cmpuint (belay_condition_notify (stores[0].changed, 2), ==, 2);
  g_assert_cmpuint (belay_condition_get_n_waiting (stores[0].changed), ==, 3);
  assert_log (""); /* the lock is ours yet */
  belay_release (&held);
  held = belay_lock_acquire (stores[0].lock, error);
  assert_log ("a b");
  g_assert_cmpuint (belay_condition_notify_all (stores[0].changed), ==, 3);
  belay_release (&held);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("c d e");
  store_clear (&stores[0]);
  return TRUE;
}

static gboolean
test_misuse (gpointer data, GError **error)
{
  Store store;
  g_autoptr (BelayLock) other = belay_lock_new ();
  belay_auto (BelayLockGuard) wrong = belay_lock_acquire (other, error);
  BelayLockGuard *none = NULL;
  g_autoptr (GError) first = NULL, second = NULL, third = NULL;
  BelayFuture *future;

  store_init (&store);
  expect_critical ("belay_condition_notify: *does not hold*");
  g_assert_cmpuint (belay_condition_notify (store.changed, 1), ==, 0);
  expect_critical ("belay_condition_wait: *does not hold*");
  g_assert_false (belay_condition_wait (store.changed, &none, &first));
  g_assert_error (first, BELAY_ERROR, BELAY_ERROR_MISUSE);
  expect_critical ("belay_condition_wait: *does not hold*");
  g_assert_false (belay_condition_wait (store.changed, &wrong, &second));
  g_assert_error (second, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_nonnull (wrong);
  expect_critical ("belay_condition_wait: *does not hold*");
  future = belay_condition_wait_async (store.changed, &wrong);
  g_assert_nonnull (wrong);
  g_assert_false (belay_await_ok (future, &third));
  g_assert_error (third, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_test_assert_expected_messages ();
  store_clear (&store);
  return TRUE;
}

static gboolean
notify_others (gpointer data, GError **error)
{
  expect_critical ("belay_condition_notify: *does not hold*");
  g_assert_cmpuint (belay_condition_notify (data, 1), ==, 0);
  g_test_assert_expected_messages ();
  return TRUE;
}

/* That another fiber has the lock is not enough. */
static gboolean
test_notify_others (gpointer data, GError **error)
{
  Store store;
  BelayLockGuard *held;

  store_init (&store);
  held = belay_lock_acquire (store.lock, error);
  g_assert_true (belay_await_ok (belay_spawn (notify_others, store.changed), error));
  belay_release (&held);
  store_clear (&store);
  return TRUE;
}

/* --- interrupted --- */

/* Whoever has the lock meanwhile keeps it; the wait ends when it can be had. */
static gboolean
test_reacquires (gpointer data, GError **error)
{
  Store store;
  BelayScope *scope = belay_scope_new ();
  BelayLockGuard *held;
  g_autoptr (GError) failure = NULL;
  gint64 begin;

  store_init (&store);
  g_assert_true (belay_scope_spawn (scope, wait_once, &store, NULL));
  until_n_wait (&store, 1);
  held = belay_lock_acquire (store.lock, error);
  belay_scope_cancel (scope, "enough");
  begin = now_ms ();
  g_assert_true (belay_sleep (50, error));
  assert_log (""); /* it wants the lock first */
  belay_release (&held);
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (now_ms (), ==, begin + 50);
  assert_log ("no");
  store_clear (&store);
  return TRUE;
}

static gboolean
test_timed_out (gpointer data, GError **error)
{
  Store store;

  store_init (&store);
  {
    belay_auto (BelayLockGuard) held = belay_lock_acquire (store.lock, error);
    belay_auto (BelayTimeout) limit = belay_timeout (20);
    g_autoptr (GError) failure = NULL;

    g_assert_false (belay_condition_wait (store.changed, &held, &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_assert_true (belay_timeout_expired (limit));
    g_assert_nonnull (held);
    g_assert_true (belay_lock_is_locked (store.lock));
  }
  store_clear (&store);
  return TRUE;
}

static gboolean
test_cancelled_first (gpointer data, GError **error)
{
  Store store;

  store_init (&store);
  {
    belay_auto (BelayLockGuard) held = belay_lock_acquire (store.lock, error);
    belay_auto (BelayScope) scope = belay_scope_begin ();
    g_autoptr (GError) failure = NULL;

    belay_scope_cancel (scope, "enough");
    g_assert_false (belay_condition_wait (store.changed, &held, &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    g_assert_nonnull (held);
    belay_scope_close (&scope, NULL);
  }
  store_clear (&store);
  return TRUE;
}

/*
 * One item, two who want it, and the first is cancelled about when it is put: at each instant it is taken by one of them. What the
 * notified one does not take, because it has gone, the other gets.
 */
static gboolean
test_each_instant (gpointer data, GError **error)
{
  for (guint put = 0; put < 5; put++)
    for (guint cancelled = 0; cancelled < 5; cancelled++)
      {
        Store first;
        BelayScope *scope = belay_scope_new ();
        BelayFuture *other;
        guint n_turns = MAX (put, cancelled);

        store_init (&first);
        g_assert_true (belay_scope_spawn (scope, take_item, &first, NULL));
        until_n_wait (&first, 1);
        other = belay_spawn (take_item, &first);
        until_n_wait (&first, 2);
        for (guint i = 0; i <= n_turns; i++)
          {
            if (i == put)
              put_items (&first, 1);
            if (i == cancelled)
              belay_scope_cancel (scope, "enough");
            belay_yield (NULL);
          }
        if (belay_scope_close (&scope, NULL))
          {
            g_assert_cmpint (first.items, ==, 0);
            put_items (&first, 1);
          }
        g_assert_true (belay_await_ok (other, error));
        g_assert_cmpint (first.items, ==, 0);
        store_clear (&first);
        thing_clear_log ();
      }
  return TRUE;
}

/* --- as futures --- */

static gboolean
test_async (gpointer data, GError **error)
{
  Store store;
  BelayLockGuard *held;
  BelayFuture *waiting;

  store_init (&store);
  held = belay_lock_acquire (store.lock, error);
  waiting = belay_condition_wait_async (store.changed, &held);
  g_assert_null (held);
  g_assert_false (belay_lock_is_locked (store.lock));
  put_items (&store, 1);
  held = belay_await (waiting, error);
  g_assert_nonnull (held);
  g_assert_true (belay_lock_is_locked (store.lock));
  belay_release (&held);
  store_clear (&store);
  return TRUE;
}

/* Given up before, in line for the lock, and with it: the notification goes on, if there was one. */
static gboolean
test_async_dropped (gpointer data, GError **error)
{
  for (guint when = 0; when < 3; when++)
    {
      Store store;
      BelayLockGuard *held;
      BelayFuture *waiting, *other;

      store_init (&store);
      held = belay_lock_acquire (store.lock, error);
      waiting = belay_condition_wait_async (store.changed, &held);
      other = belay_spawn (take_item, &store);
      until_n_wait (&store, 2);
      if (when == 0)
        belay_future_unref (waiting);
      held = belay_lock_acquire (store.lock, error);
      store.items++;
      g_assert_cmpuint (belay_condition_notify (store.changed, 1), ==, 1);
      if (when == 1)
        belay_future_unref (waiting);
      belay_release (&held);
      if (when == 2)
        {
          g_assert_cmpuint (belay_condition_get_n_waiting (store.changed), ==, 1);
          belay_future_unref (waiting);
        }
      g_assert_true (belay_await_ok (other, error));
      store_clear (&store);
      thing_clear_log ();
    }
  return TRUE;
}

/* --- closed and broken --- */

static gboolean
expect_closed (gpointer data, GError **error)
{
  Store *self = data;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, error);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_condition_wait (self->changed, &held, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_cmpstr (failure->message, ==, "the condition was closed");
  g_assert_nonnull (held);
  g_assert_true (belay_lock_is_locked (self->lock));
  thing_note ("closed");
  return TRUE;
}

static gboolean
test_close (gpointer data, GError **error)
{
  Store store;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) failure = NULL;
  BelayLockGuard *held;
  BelayFuture *future;

  store_init (&store);
  for (guint i = 0; i < 2; i++)
    g_assert_true (belay_scope_spawn (scope, expect_closed, &store, NULL));
  until_n_wait (&store, 2);
  held = belay_lock_acquire (store.lock, error);
  future = belay_condition_wait_async (store.changed, &held);
  belay_condition_close (store.changed);
  belay_condition_close (store.changed);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("closed closed");
  g_assert_null (belay_await (future, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  expect_closed (&store, NULL);
  store_clear (&store);
  thing_clear_log ();
  return TRUE;
}

static gboolean
expect_no_lock (gpointer data, GError **error)
{
  Store *self = data;
  BelayLockGuard *held = belay_lock_acquire (self->lock, error);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_condition_wait (self->changed, &held, &failure));
  g_assert_null (held);
  thing_note ("%s", g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_BROKEN) ? "broken" : "closed");
  return TRUE;
}

static gboolean
forget (gpointer data, GError **error)
{
  BelayLockGuard *lost = belay_lock_acquire (((Store *) data)->lock, error);

  expect_critical ("*ended and holds a lock still*");
  return lost != NULL;
}

/* When there is no lock to be had again, the guard is gone. */
static gboolean
test_no_lock (gpointer data, GError **error)
{
  Store store;
  BelayFuture *waiter;

  store_init (&store);
  waiter = belay_spawn (expect_no_lock, &store);
  until_n_wait (&store, 1);
  g_assert_true (belay_await_ok (belay_spawn (forget, &store), error));
  g_test_assert_expected_messages ();
  g_assert_true (belay_await_ok (waiter, error));
  assert_log ("broken");
  g_assert_true (belay_lock_recover (store.lock));

  waiter = belay_spawn (expect_no_lock, &store);
  until_n_wait (&store, 1);
  belay_lock_close (store.lock);
  g_assert_true (belay_await_ok (waiter, error));
  assert_log ("closed");
  store_clear (&store);
  return TRUE;
}

/* --- called back, and misused --- */

static void
close_lock (gpointer lock)
{
  belay_lock_close (lock);
}

/* The hand-off of the lock answers a future, whose callback ends the wait before it has begun. */
static gboolean
test_called_back (gpointer data, GError **error)
{
  Store store;
  BelayLockGuard *held;
  BelayPromise *loser = belay_promise_new ();
  BelayFuture *race;
  g_autoptr (GError) failure = NULL;

  store_init (&store);
  held = belay_lock_acquire (store.lock, error);
  belay_promise_on_cancel (loser, close_lock, store.lock, NULL);
  race = belay_future_race (belay_lock_acquire_async (store.lock), belay_promise_get_future (loser), NULL);
  g_assert_false (belay_condition_wait (store.changed, &held, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_null (held);
  belay_future_unref (race);
  belay_promise_unref (loser);
  store_clear (&store);
  return TRUE;
}

static gboolean
expect_dropped (gpointer data, GError **error)
{
  Store *self = data;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, error);
  g_autoptr (GError) failure = NULL;

  g_assert_false (belay_condition_wait (self->changed, &held, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  g_assert_nonnull (strstr (failure->message, "reference to the condition"));
  g_assert_true (held == (BelayLockGuard *) self->lock);
  thing_note ("told");
  return TRUE;
}

/* The last reference goes while somebody waits: he is told, and has the lock, as ever. */
static gboolean
test_dropped_with_waiter (gpointer data, GError **error)
{
  Store store;
  BelayFuture *waiter;

  store_init (&store);
  waiter = belay_spawn (expect_dropped, &store);
  until_n_wait (&store, 1);
  expect_critical ("the last reference to a condition was dropped while somebody waits*");
  belay_condition_unref (store.changed);
  g_test_assert_expected_messages ();
  belay_lock_unref (store.lock); /* the condition's own is left */
  g_assert_true (belay_await_ok (waiter, error));
  assert_log ("told");
  return TRUE;
}

/* Nobody looks at what the lock protects without it. */
static gboolean
test_wait_for_misuse (gpointer data, GError **error)
{
  Store store;
  BelayLockGuard *held = NULL;
  g_autoptr (GError) failure = NULL;

  store_init (&store);
  store.items = 1;
  expect_critical ("belay_condition_wait: the caller does not hold*");
  g_assert_false (belay_condition_wait_for (store.changed, &held, has_items, &store, &failure));
  g_test_assert_expected_messages ();
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  store_clear (&store);
  return TRUE;
}

/* --- everywhere --- */

typedef struct
{
  Store           store;
  BelayRwLock    *table;
  BelaySemaphore *weights;
} Market;

static gboolean
sell (gpointer data, GError **error)
{
  Market *market = data;

  for (guint i = 0; i < 2; i++)
    {
      belay_auto (BelayPermits) weight = belay_semaphore_acquire_many (market->weights, 2, error);
      belay_auto (BelayWriteGuard) writing = weight != NULL ? belay_rw_lock_write (market->table, error) : NULL;
      belay_auto (BelayReadGuard) reading = NULL;
      belay_auto (BelayLockGuard) held = NULL;

      if (writing == NULL || !belay_yield (error))
        return FALSE;
      reading = belay_rw_lock_downgrade (&writing);
      held = belay_lock_acquire (market->store.lock, error);
      if (held == NULL)
        return FALSE;
      market->store.items++;
      belay_condition_notify (market->store.changed, 1);
    }
  return TRUE;
}

static gboolean
buy (gpointer data, GError **error)
{
  Market *market = data;
  belay_auto (BelayReadGuard) reading = belay_rw_lock_read (market->table, error);

  if (reading == NULL)
    return FALSE;
  belay_release (&reading);
  return take_item (&market->store, error);
}

static gboolean
trade (gpointer data, GError **error)
{
  Market market = { .table = belay_rw_lock_new (), .weights = belay_semaphore_new (3) };
  BelayScope *scope = belay_scope_begin ();
  gboolean ok;

  store_init (&market.store);
  belay_scope_spawn (scope, buy, &market, NULL);
  belay_scope_spawn (scope, sell, &market, NULL);
  belay_scope_spawn (scope, buy, &market, NULL);
  ok = belay_scope_close (&scope, error);
  g_assert_cmpuint (belay_rw_lock_get_n_readers (market.table), ==, 0);
  g_assert_false (belay_rw_lock_is_written (market.table));
  g_assert_cmpuint (belay_rw_lock_get_n_waiting (market.table), ==, 0);
  g_assert_cmpuint (belay_semaphore_get_available (market.weights), ==, 3);
  belay_rw_lock_unref (market.table);
  belay_semaphore_unref (market.weights);
  store_clear (&market.store);
  thing_clear_log ();
  return ok;
}

/* Cancelled, and out of time, at each checkpoint of all: nothing is held afterwards. */
static gboolean
test_everywhere (gpointer data, GError **error)
{
  g_assert_cmpuint (belay_test_cancel_everywhere (trade, NULL), >=, 10);
  g_assert_cmpuint (belay_test_expire_everywhere (trade, NULL), >=, 10);
  return TRUE;
}

/* --- threads --- */

#define ITEMS 300

typedef struct
{
  Store store;
  int   taken;
} Shared;

static gboolean
consume (gpointer data, GError **error)
{
  Shared *shared = data;

  for (guint i = 0; i < ITEMS; i++)
    {
      if (i % 7 == 0)
        {
          belay_auto (BelayScope) scope = belay_scope_begin ();
          belay_auto (BelayTimeout) soon = belay_timeout (0);
          belay_auto (BelayLockGuard) held = belay_lock_acquire (shared->store.lock, NULL);

          if (held != NULL)
            belay_condition_wait (shared->store.changed, &held, NULL);
        }
      {
        belay_auto (BelayLockGuard) held = belay_lock_acquire (shared->store.lock, error);

        if (held == NULL || !belay_condition_wait_for (shared->store.changed, &held, has_items, &shared->store, error))
          return FALSE;
        shared->store.items--;
        shared->taken++;
      }
    }
  return TRUE;
}

static gboolean
produce (gpointer data, GError **error)
{
  Shared *shared = data;

  for (guint i = 0; i < ITEMS; i++)
    {
      put_items (&shared->store, 1);
      if (i % 3 == 0)
        belay_yield (NULL);
    }
  return TRUE;
}

static gboolean
test_threads (gpointer data, GError **error)
{
  Shared shared = { .taken = 0 };
  belay_auto (BelayLoop) loop = belay_loop_new ("one");
  BelayFuture *futures[6];
  gboolean ok;

  store_init (&shared.store);
  belay_scope_set_release_timeout (belay_scope_current (), -1);
  for (guint i = 0; i < 6; i++)
    futures[i] = i % 2 == 0 ? belay_loop_spawn (loop, i < 3 ? consume : produce, &shared, NULL)
                            : belay_spawn (i < 3 ? consume : produce, &shared);
  ok = belay_await_ok (belay_future_allv (futures, 6), error);
  g_assert_true (ok && belay_close (&loop, error));
  g_assert_cmpint (shared.taken, ==, 3 * ITEMS);
  g_assert_cmpint (shared.store.items, ==, 0);
  store_clear (&shared.store);
  return TRUE;
}

static gboolean
test_boxed (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  g_autoptr (BelayCondition) one = belay_condition_new (lock);
  g_autoptr (BelayCondition) two = belay_condition_new (lock);
  g_auto (GValue) value = G_VALUE_INIT;

  g_value_init (&value, BELAY_TYPE_CONDITION);
  g_value_set_boxed (&value, one);
  g_assert_true (g_value_get_boxed (&value) == one);
  return two != NULL;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/condition/wait-for", test_wait_for);
  thing_add_test ("/condition/L35-notifies-n", test_notify_n);
  thing_add_test ("/condition/L35-notify-without-the-lock", test_misuse);
  thing_add_test ("/condition/L35-notify-with-another-s-lock", test_notify_others);
  thing_add_test ("/condition/L35-cancelled-has-the-lock", test_reacquires);
  thing_add_test ("/condition/L35-timed-out-has-the-lock", test_timed_out);
  thing_add_test ("/condition/L20-cancelled-does-not-wait", test_cancelled_first);
  thing_add_test ("/condition/L35-cancelled-at-each-instant", test_each_instant);
  thing_add_test ("/condition/as-a-future", test_async);
  thing_add_test ("/condition/L35-future-dropped-passes-on", test_async_dropped);
  thing_add_test ("/condition/L36-close", test_close);
  thing_add_test ("/condition/L34-L36-no-lock-to-be-had", test_no_lock);
  thing_add_test ("/condition/L35-L36-called-back-by-the-hand-off", test_called_back);
  thing_add_test ("/condition/L34-L35-dropped-with-a-waiter", test_dropped_with_waiter);
  thing_add_test ("/condition/L34-waits-for-without-the-lock", test_wait_for_misuse);
  thing_add_test ("/condition/boxed", test_boxed);
  thing_add_single_test ("/condition/L32-L35-interrupted-everywhere", test_everywhere);
  thing_add_single_test ("/condition/L35-threads", test_threads);
  return g_test_run ();
}
