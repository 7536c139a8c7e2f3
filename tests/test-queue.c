/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Queues: three orders, what is done and what is not, and that no item is lost. */
#include "thing.h"

#include <stdatomic.h>

#define N(n) GINT_TO_POINTER (n)

static atomic_int n_put, n_freed, n_got, sum;

static void
count_freed (gpointer item)
{
  atomic_fetch_add (&n_freed, 1);
}

static void
begin_count (void)
{
  n_put = n_freed = n_got = sum = 0;
}

static gboolean
put (BelayQueue *queue, int n, GError **error)
{
  gpointer item = N (n);

  if (!belay_queue_put (queue, &item, error))
    {
      g_assert_true (item == N (n));
      return FALSE;
    }
  g_assert_null (item);
  atomic_fetch_add (&n_put, 1);
  return TRUE;
}

static gint64
by_tens (gconstpointer item, gpointer data)
{
  return GPOINTER_TO_INT (item) / 10;
}

static void
assert_gets (BelayQueue *queue, const char *expected)
{
  g_autoptr (GString) got = g_string_new (NULL);
  gpointer item;

  while ((item = belay_queue_try_get (queue, NULL)) != NULL)
    {
      g_string_append_printf (got, "%s%d", got->len > 0 ? " " : "", GPOINTER_TO_INT (item));
      belay_queue_task_done (queue);
    }
  g_assert_cmpstr (got->str, ==, expected);
}

/* --- orders --- */

static gboolean
test_orders (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) fifo = belay_queue_new (9, NULL);
  g_autoptr (BelayQueue) lifo = belay_queue_new_lifo (9, NULL);
  g_autoptr (BelayQueue) priority = belay_queue_new_priority (9, by_tens, NULL, NULL, NULL);
  const int items[] = { 31, 12, 32, 1, 33, 11 };

  for (guint i = 0; i < G_N_ELEMENTS (items); i++)
    g_assert_true (put (fifo, items[i], error) && put (lifo, items[i], error) && put (priority, items[i], error));
  assert_gets (fifo, "31 12 32 1 33 11");
  assert_gets (lifo, "11 33 1 32 12 31");
  assert_gets (priority, "1 12 11 31 32 33"); /* of one priority what came first */
  return TRUE;
}

/* Against a sort, with more than there is room for at first. */
static gboolean
test_priorities_at_random (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new_priority (G_MAXUINT, by_tens, NULL, NULL, NULL);
  int last = 0, n_left = 0;

  for (int i = 0; i < 1000; i++)
    {
      g_assert_true (put (queue, 1 + g_test_rand_int_range (0, 500), error));
      n_left++;
      if (i % 3 == 2)
        {
          g_assert_nonnull (belay_queue_try_get (queue, NULL));
          n_left--;
        }
    }
  g_assert_cmpuint (belay_queue_get_length (queue), ==, n_left);
  for (; n_left > 0; n_left--)
    {
      int item = GPOINTER_TO_INT (belay_queue_try_get (queue, NULL));

      g_assert_cmpint (item / 10, >=, last);
      last = item / 10;
    }
  return TRUE;
}

typedef struct
{
  BelayQueue *queue;
  const char *name;
  int         n;
} User;

static gboolean
put_func (gpointer data, GError **error)
{
  User *user = data;

  if (!put (user->queue, user->n, error))
    return FALSE;
  thing_note ("%s", user->name);
  return TRUE;
}

static gboolean
get_func (gpointer data, GError **error)
{
  User *user = data;
  gpointer item = belay_queue_get (user->queue, error);

  if (item == NULL)
    return FALSE;
  thing_note ("%s%d", user->name, GPOINTER_TO_INT (item));
  atomic_fetch_add (&n_got, 1);
  belay_queue_task_done (user->queue);
  return TRUE;
}

/* Those who wait to put are served in their order; what they put, by the queue's. */
static gboolean
test_full (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new_priority (1, by_tens, NULL, NULL, NULL);
  User users[] = { { queue, "a", 50 }, { queue, "b", 30 }, { queue, "c", 10 } };
  BelayFuture *futures[3];

  for (guint i = 0; i < 3; i++)
    {
      futures[i] = belay_spawn (put_func, &users[i]);
      g_assert_true (belay_sleep (1, error)); /* it waits */
    }
  assert_log ("a");
  g_assert_cmpint (GPOINTER_TO_INT (belay_queue_get (queue, error)), ==, 50);
  g_assert_true (belay_sleep (1, error));
  assert_log ("b");
  g_assert_cmpint (GPOINTER_TO_INT (belay_queue_get (queue, error)), ==, 30);
  g_assert_true (belay_await_ok (belay_future_allv (futures, 3), error));
  assert_log ("c");
  g_assert_cmpint (GPOINTER_TO_INT (belay_queue_get (queue, error)), ==, 10);
  return TRUE;
}

static gboolean
test_getters_are_fifo (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new_lifo (4, NULL);
  User users[] = { { queue, "a" }, { queue, "b" }, { queue, "c" } };
  BelayFuture *futures[3];

  for (guint i = 0; i < 3; i++)
    {
      futures[i] = belay_spawn (get_func, &users[i]);
      g_assert_true (belay_sleep (1, error)); /* it waits */
    }
  for (int i = 1; i <= 3; i++)
    g_assert_true (put (queue, i, error));
  g_assert_null (belay_queue_try_get (queue, NULL));
  g_assert_true (belay_await_ok (belay_future_allv (futures, 3), error));
  assert_log_words ("a1 b2 c3");
  return TRUE;
}

/* --- what is done --- */

static gboolean
join_func (gpointer data, GError **error)
{
  User *user = data;

  if (!belay_queue_join (user->queue, error))
    return FALSE;
  thing_note ("%s", user->name);
  return TRUE;
}

static gboolean
test_join (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (4, NULL);
  User user = { queue, "joined" };
  BelayFuture *joining, *other;

  g_assert_true (belay_queue_join (queue, error)); /* nothing was put */
  g_assert_true (put (queue, 1, error) && put (queue, 2, error));
  g_assert_cmpuint (belay_queue_get_unfinished (queue), ==, 2);
  joining = belay_spawn (join_func, &user);
  other = belay_queue_join_async (queue);
  for (int i = 0; i < 2; i++)
    {
      gpointer item;
      belay_auto (BelayWork) work = belay_queue_next (queue, &item, error);

      g_assert_cmpint (GPOINTER_TO_INT (item), ==, i + 1);
      g_assert_true (belay_sleep (1, error));
      assert_log ("");
      g_assert_true (belay_future_is_pending (other));
    }
  g_assert_true (belay_future_is_resolved (other));
  g_assert_true (belay_await_ok (joining, error));
  assert_log ("joined");
  g_assert_cmpuint (belay_queue_get_unfinished (queue), ==, 0);
  return belay_await_ok (other, error);
}

static gboolean
test_join_cancelled (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (4, NULL);
  g_autoptr (GError) failure = NULL;

  g_assert_true (put (queue, 1, error));
  belay_future_unref (belay_queue_join_async (queue));
  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);

    g_assert_false (belay_queue_join (queue, &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  }
  assert_gets (queue, "1");
  return belay_queue_join (queue, error);
}

static gboolean
work_that_fails (gpointer data, GError **error)
{
  gpointer item;
  belay_auto (BelayWork) work = belay_queue_next (data, &item, error);

  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "no luck");
  return FALSE;
}

/* Work is done however it ends. */
static gboolean
test_work_fails (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (4, NULL);

  g_assert_true (put (queue, 1, error));
  g_assert_false (belay_await_ok (belay_spawn (work_that_fails, queue), NULL));
  return belay_queue_join (queue, error);
}

static gboolean
test_done_too_often (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (4, NULL);

  expect_critical ("*belay_queue_task_done: said more often*");
  belay_queue_task_done (queue);
  g_assert_true (put (queue, 1, error));
  expect_critical ("*belay_queue_task_done: said more often*"); /* put, but not got */
  belay_queue_task_done (queue);
  g_assert_cmpuint (belay_queue_get_unfinished (queue), ==, 1);
  assert_gets (queue, "1");
  expect_critical ("*belay_queue_task_done: said more often*");
  belay_queue_task_done (queue);
  return TRUE;
}

/* A copy of a guard's pointer, released once more: neither counted nor a reference to the queue. */
static gboolean
test_work_released_twice (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (4, g_free);
  char *item = g_strdup ("a");
  BelayWork *work, *copy;

  g_assert_true (belay_queue_put (queue, &item, error));
  copy = work = belay_queue_next (queue, &item, error);
  g_free (item);
  belay_release (&work);
  expect_critical ("a BelayWork was released before*");
  belay_release (&copy);
  g_test_assert_expected_messages ();
  g_assert_cmpuint (belay_queue_get_unfinished (queue), ==, 0);
  return TRUE;
}

static gboolean
test_work_keeps_it (gpointer data, GError **error)
{
  BelayQueue *queue = belay_queue_new (4, NULL);
  gpointer item;
  belay_auto (BelayWork) work = NULL;

  g_assert_true (put (queue, 1, error));
  work = belay_queue_next (queue, &item, error);
  belay_queue_unref (queue);
  return work != NULL;
}

/* --- its end --- */

static gboolean
test_close (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (1, count_freed);
  User user = { queue, "late", 2 };
  g_autoptr (GError) failure = NULL;
  BelayFuture *putting;
  gpointer item;

  begin_count ();
  g_assert_true (put (queue, 1, error));
  putting = belay_spawn (put_func, &user);
  g_assert_true (belay_sleep (1, error));
  belay_queue_close (queue);
  g_assert_false (belay_await_ok (putting, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  {
    belay_auto (BelayWork) work = belay_queue_next (queue, &item, error);
    g_assert_true (work != NULL && item == N (1));
  }
  {
    belay_auto (BelayWork) work = belay_queue_next (queue, &item, error);
    g_assert_null (work);
    g_assert_no_error (*error);
  }
  g_clear_error (&failure);
  g_assert_null (belay_queue_get (queue, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_cmpint (n_freed, ==, 0);
  return belay_queue_join (queue, error);
}

/* What is dropped counts as done; what is out, when it is. */
static gboolean
test_abort (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (4, count_freed);
  BelayFuture *joining, *getting;
  BelayWork *work;
  gpointer item;

  begin_count ();
  g_assert_true (put (queue, 1, error) && put (queue, 2, error) && put (queue, 3, error));
  work = belay_queue_next (queue, &item, error);
  getting = belay_queue_get_async (queue);
  joining = belay_queue_join_async (queue);
  belay_queue_abort (queue);
  g_assert_cmpint (n_freed, ==, 1);
  belay_release (&work);
  g_assert_true (belay_future_is_pending (joining));
  belay_future_unref (getting); /* has 2, which nobody takes, and which cannot go back */
  g_assert_cmpint (n_freed, ==, 2);
  g_assert_true (belay_future_is_resolved (joining));
  return belay_await_ok (joining, error);
}

static gboolean
test_abort_ends_join (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (4, count_freed);
  BelayFuture *joining;

  g_assert_true (put (queue, 1, error));
  joining = belay_queue_join_async (queue);
  belay_queue_abort (queue);
  return belay_await_ok (joining, error);
}

/* --- nothing is lost --- */

/* What comes back has its old place: the next, among those of its priority. */
static gboolean
test_comes_back (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new_priority (4, by_tens, NULL, NULL, NULL);
  g_autoptr (BelayQueue) lifo = belay_queue_new_lifo (4, NULL);
  BelayFuture *getting, *joining;

  g_assert_true (put (queue, 21, error));
  getting = belay_queue_get_async (queue);
  g_assert_true (put (queue, 22, error) && put (queue, 11, error));
  belay_future_unref (getting);
  joining = belay_queue_join_async (queue);
  g_assert_cmpuint (belay_queue_get_unfinished (queue), ==, 3);
  assert_gets (queue, "11 21 22");
  g_assert_true (belay_await_ok (joining, error));

  g_assert_true (put (lifo, 1, error) && put (lifo, 2, error));
  belay_future_unref (belay_queue_get_async (lifo));
  assert_gets (lifo, "2 1");
  return TRUE;
}

/*
 * Also while room is got for what comes back, under no lock: nobody who looks finds that there is less to do. There is so much in the
 * queue that getting more room takes a while, the more so as malloc fills it where MALLOC_PERTURB_ says so.
 */
enum { ROOM = 1 << 13 };
static _Atomic (BelayQueue *) looked_at;
static atomic_int n_looks, look_ends;

static gpointer
look_for_less (gpointer end)
{
  BelayQueue *queue;
  int n_mistakes = 0;

  while ((queue = atomic_load (&looked_at)) != end)
    {
      if (queue == NULL)
        {
          g_thread_yield ();
          continue;
        }
      atomic_fetch_add (&n_looks, 1);
      while (atomic_load (&look_ends) == 0)
        if (belay_queue_get_unfinished (queue) != ROOM + 1)
          n_mistakes++;
      atomic_store (&looked_at, NULL);
    }
  return GINT_TO_POINTER (n_mistakes);
}

static gboolean
test_unfinished_while_it_comes_back (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) end = belay_queue_new (0, NULL);
  GThread *looking = g_thread_new ("looking", look_for_less, end);

  for (int i = 1; i <= 30; i++)
    {
      g_autoptr (BelayQueue) queue = belay_queue_new_priority (ROOM, by_tens, NULL, NULL, NULL);
      BelayFuture *getting = belay_queue_get_async (queue);

      for (int k = 0; k < ROOM + 1; k++) /* the first is got */
        g_assert_true (put (queue, 1, error));
      atomic_store (&look_ends, 0);
      atomic_store (&looked_at, queue);
      while (atomic_load (&n_looks) < i)
        g_thread_yield ();
      belay_future_unref (getting);
      atomic_store (&look_ends, 1);
      while (atomic_load (&looked_at) != NULL)
        g_thread_yield ();
      g_assert_cmpuint (belay_queue_get_unfinished (queue), ==, ROOM + 1);
    }
  atomic_store (&looked_at, end);
  g_assert_cmpint (GPOINTER_TO_INT (g_thread_join (looking)), ==, 0);
  return TRUE;
}

typedef struct
{
  BelayQueue *queue;
  int         n_putters;
} Shop;

static gboolean
shop_put (gpointer data, GError **error)
{
  BelayQueue *queue = data;

  for (int i = 1; i <= 6; i++)
    {
      int n = 1 + (int) belay_test_chance (50);
      gpointer item = N (n);

      if (!belay_queue_put (queue, &item, NULL))
        return TRUE;
      atomic_fetch_add (&n_put, n);
      if (belay_test_chance (3) == 0 && !belay_yield (NULL))
        return TRUE;
    }
  return TRUE;
}

static gboolean
shop_get (gpointer data, GError **error)
{
  BelayQueue *queue = data;

  for (;;)
    {
      gpointer item;
      belay_auto (BelayTimeout) limit = belay_timeout (belay_test_chance (4));

      if (belay_test_chance (5) == 0)
        {
          BelayFuture *dropped = belay_queue_get_async (queue);

          belay_yield (NULL);
          belay_future_get_error (dropped);
          belay_future_unref (dropped);
        }
      else
        {
          belay_auto (BelayWork) work = belay_queue_next (queue, &item, NULL);

          if (work == NULL && !belay_timeout_expired (limit))
            return TRUE;
          if (work == NULL)
            continue;
          atomic_fetch_add (&sum, GPOINTER_TO_INT (item));
          belay_yield (NULL);
        }
    }
}

static gboolean
test_shop (gpointer data, GError **error)
{
  guint kind = belay_test_chance (3), capacity = belay_test_chance (4);
  BelayQueue *queue = kind == 0 ? belay_queue_new (capacity, NULL)
                    : kind == 1 ? belay_queue_new_lifo (capacity, NULL)
                                : belay_queue_new_priority (capacity, by_tens, NULL, NULL, NULL);
  BelayScope *cancelled = belay_scope_new (), *in = belay_scope_new (), *out = belay_scope_new ();

  begin_count ();
  for (guint i = 0; i < 2; i++)
    {
      g_assert_true (belay_scope_spawn (in, shop_put, queue, NULL));
      g_assert_true (belay_scope_spawn (out, shop_get, queue, NULL));
      g_assert_true (belay_scope_spawn (cancelled, i == 0 ? shop_put : shop_get, queue, NULL));
    }
  for (guint i = belay_test_chance (20); i > 0; i--)
    g_assert_true (belay_yield (error));
  belay_scope_cancel (cancelled, "enough");
  belay_scope_close (&cancelled, NULL);
  g_assert_true (belay_scope_close (&in, error));
  g_assert_true (belay_queue_join (queue, error));
  g_assert_cmpuint (belay_queue_get_unfinished (queue), ==, 0);
  g_assert_cmpint (sum, ==, n_put);
  belay_queue_close (queue);
  g_assert_true (belay_scope_close (&out, error));
  belay_queue_unref (queue);
  return TRUE;
}

/* --- real threads --- */

#define EACH 3000

static gboolean
put_many (gpointer data, GError **error)
{
  for (int i = 0; i < EACH; i++)
    if (!put (data, 1, error))
      return FALSE;
  return TRUE;
}

static gboolean
work_many (gpointer data, GError **error)
{
  for (;;)
    {
      gpointer item;
      belay_auto (BelayWork) work = belay_queue_next (data, &item, error);

      if (work == NULL)
        return *error == NULL;
      atomic_fetch_add (&n_got, 1);
    }
}

static gboolean
test_threads (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (8, NULL);
  belay_auto (BelayLoop) one = belay_loop_new ("one");
  belay_auto (BelayLoop) two = belay_loop_new ("two");
  BelayFuture *putting[2], *working[3];

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  begin_count ();
  working[0] = belay_loop_spawn (one, work_many, queue, NULL);
  working[1] = belay_loop_spawn (two, work_many, queue, NULL);
  working[2] = belay_spawn (work_many, queue);
  putting[0] = belay_loop_spawn (two, put_many, queue, NULL);
  putting[1] = belay_spawn (put_many, queue);
  g_assert_true (belay_await_ok (belay_future_allv (putting, 2), error));
  g_assert_true (belay_queue_join (queue, error));
  g_assert_cmpint (n_got, ==, 2 * EACH);
  belay_queue_close (queue);
  return belay_await_ok (belay_future_allv (working, 3), error) && belay_close (&two, error) && belay_close (&one, error);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);

  thing_add_test ("/queue/orders", test_orders);
  thing_add_test ("/queue/priorities-at-random", test_priorities_at_random);
  thing_add_test ("/queue/L31-putters-are-first-come-first-served", test_full);
  thing_add_test ("/queue/L31-getters-are-first-come-first-served", test_getters_are_fifo);
  thing_add_test ("/queue/join", test_join);
  thing_add_test ("/queue/join-interrupted", test_join_cancelled);
  thing_add_test ("/queue/work-that-fails-is-done", test_work_fails);
  thing_add_test ("/queue/L34-done-too-often", test_done_too_often);
  thing_add_test ("/queue/L34-work-released-twice", test_work_released_twice);
  thing_add_test ("/queue/work-keeps-it", test_work_keeps_it);
  thing_add_test ("/queue/L36-close-drains", test_close);
  thing_add_test ("/queue/L36-abort-drops", test_abort);
  thing_add_test ("/queue/L36-abort-ends-a-join", test_abort_ends_join);
  thing_add_test ("/queue/L32-comes-back", test_comes_back);
  thing_add_single_test ("/queue/L32-unfinished-while-it-comes-back", test_unfinished_while_it_comes_back);
  belay_test_explore ("/queue/L32-shop", test_shop);
  thing_add_single_test ("/queue/L32-threads", test_threads);
  return g_test_run ();
}
