/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cases of asyncio's test_queues.py: order, bounds, cancelled getters and putters, task_done and join, shutdown. */
#include "thing.h"

#define N(n) GINT_TO_POINTER (n)

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
  gpointer item = N (user->n);

  if (!belay_queue_put (user->queue, &item, error))
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
  thing_note ("%s=%d", user->name, GPOINTER_TO_INT (item));
  return TRUE;
}

static gboolean
put (BelayQueue *queue, int n)
{
  gpointer item = N (n);

  return belay_queue_try_put (queue, &item, NULL);
}

static int
get (BelayQueue *queue)
{
  return GPOINTER_TO_INT (belay_queue_try_get (queue, NULL));
}

/* D22: first in, first out; put_nowait and get_nowait say when they cannot. */
static gboolean
test_d22_order (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (3, NULL);
  g_autoptr (GError) failure = NULL;
  gpointer item = N (4);

  g_assert_true (put (queue, 1) && put (queue, 2) && put (queue, 3));
  g_assert_false (belay_queue_try_put (queue, &item, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  g_clear_error (&failure);
  for (int i = 1; i <= 3; i++)
    g_assert_cmpint (get (queue), ==, i);
  g_assert_null (belay_queue_try_get (queue, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  return TRUE;
}

/* D22: put waits at the capacity until something is got; get waits until something is put. */
static gboolean
test_d22_blocking (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (1, NULL);
  User putter = { queue, "put", 2 }, getter = { queue, "got" };
  BelayFuture *waiting;

  g_assert_true (put (queue, 1));
  waiting = belay_spawn (put_func, &putter);
  g_assert_true (belay_sleep (10, error));
  assert_log ("");
  g_assert_cmpint (get (queue), ==, 1);
  g_assert_true (belay_await_ok (waiting, error));
  assert_log ("put");
  g_assert_cmpint (get (queue), ==, 2);

  waiting = belay_spawn (get_func, &getter);
  g_assert_true (belay_sleep (10, error));
  assert_log ("");
  g_assert_true (put (queue, 3));
  g_assert_true (belay_await_ok (waiting, error));
  assert_log ("got=3");
  return TRUE;
}

/* D22: the last put is got first; by priority. */
static gint64
by_number (gconstpointer item, gpointer data)
{
  return GPOINTER_TO_INT (item);
}

static gboolean
test_d22_lifo_and_priority (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) lifo = belay_queue_new_lifo (G_MAXUINT, NULL);
  g_autoptr (BelayQueue) priority = belay_queue_new_priority (G_MAXUINT, by_number, NULL, NULL, NULL);
  const int items[] = { 1, 3, 2 }, last_first[] = { 2, 3, 1 };

  for (guint i = 0; i < 3; i++)
    g_assert_true (put (lifo, items[i]) && put (priority, items[i]));
  for (guint i = 0; i < 3; i++)
    {
      g_assert_cmpint (get (lifo), ==, last_first[i]);
      g_assert_cmpint (get (priority), ==, (int) i + 1);
    }
  return TRUE;
}

/* D23 get_cancelled_race, get_cancel_drop: a getter that is cancelled as the item comes takes it, or leaves it to the next. */
static gboolean
test_d23_getter (gpointer data, GError **error)
{
  for (guint turns = 0; turns < 4; turns++)
    {
      g_autoptr (BelayQueue) queue = belay_queue_new (1, NULL);
      User first = { queue, "first" }, second = { queue, "second" };
      BelayScope *scope = belay_scope_new ();
      BelayFuture *waiting;

      g_assert_true (belay_scope_spawn (scope, get_func, &first, NULL));
      g_assert_true (belay_sleep (1, error)); /* it waits */
      waiting = belay_spawn (get_func, &second);
      g_assert_true (belay_sleep (1, error));
      if (turns % 2 == 0)
        g_assert_true (put (queue, 1));
      belay_scope_cancel (scope, "cancelled");
      for (guint i = 0; i < turns / 2; i++)
        g_assert_true (belay_yield (error));
      if (turns % 2 == 1)
        g_assert_true (put (queue, 1));
      belay_scope_close (&scope, NULL);
      g_assert_true (turns % 2 == 1 || strstr (thing_log (), "first=1") != NULL); /* it was its before the cancellation */
      if (strstr (thing_log (), "first=1") != NULL)
        g_assert_true (put (queue, 2));
      g_assert_true (belay_await_ok (waiting, error));
      g_assert_nonnull (strstr (thing_log (), strstr (thing_log (), "first=1") != NULL ? "second=2" : "second=1"));
      g_assert_cmpuint (belay_queue_get_length (queue), ==, 0);
      thing_clear_log ();
    }
  return TRUE;
}

/* D23 put_cancelled_race, put_cancel_drop: a putter that is cancelled gives its place in the line up; no item, and no room, is lost. */
static gboolean
test_d23_putter (gpointer data, GError **error)
{
  for (guint got_first = 0; got_first < 2; got_first++)
    {
      g_autoptr (BelayQueue) queue = belay_queue_new (1, NULL);
      User a = { queue, "a", 1 }, b = { queue, "b", 2 }, c = { queue, "c", 3 };
      BelayScope *scope = belay_scope_new ();
      BelayFuture *last;

      g_assert_true (put_func (&a, error));
      g_assert_true (belay_scope_spawn (scope, put_func, &b, NULL));
      g_assert_true (belay_sleep (1, error));
      last = belay_spawn (put_func, &c);
      g_assert_true (belay_sleep (1, error));
      if (got_first)
        g_assert_cmpint (get (queue), ==, 1); /* b's is in */
      belay_scope_cancel (scope, "cancelled");
      belay_scope_close (&scope, NULL);
      g_assert_cmpint (get (queue), ==, got_first ? 2 : 1);
      g_assert_true (belay_await_ok (last, error));
      g_assert_cmpint (get (queue), ==, 3);
      assert_log (got_first ? "a b c" : "a c");
      g_assert_cmpint (get (queue), ==, 0);
    }
  return TRUE;
}

/* D23 why_are_putters_waiting: many putters and many getters, at one place. */
static gboolean
test_d23_many (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (2, NULL);
  User users[10];
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (int i = 0; i < 10; i++)
    {
      users[i] = (User) { queue, "x", i + 1 };
      g_assert_true (belay_scope_spawn (scope, i % 2 == 0 ? put_func : get_func, &users[i], NULL));
    }
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpuint (belay_queue_get_length (queue), ==, 0);
  thing_clear_log ();
  return TRUE;
}

static gboolean
work_func (gpointer data, GError **error)
{
  for (;;)
    {
      gpointer item;
      belay_auto (BelayWork) work = belay_queue_next (data, &item, error);

      if (work == NULL)
        return *error == NULL;
      if (!belay_sleep (GPOINTER_TO_INT (item), error))
        return FALSE;
      thing_note ("%d", GPOINTER_TO_INT (item));
    }
}

/* D25: join waits for all; of an empty queue it does not; and it can be joined again. */
static gboolean
test_d25_join (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (G_MAXUINT, NULL);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_queue_join (queue, error));
  for (int i = 1; i <= 10; i++)
    g_assert_true (put (queue, i * 10));
  g_assert_true (belay_scope_spawn (scope, work_func, queue, NULL));
  g_assert_true (belay_scope_spawn (scope, work_func, queue, NULL));
  g_assert_true (belay_queue_join (queue, error));
  assert_log_words ("10 20 30 40 50 60 70 80 90 100");
  g_assert_true (put (queue, 5));
  g_assert_true (belay_queue_join (queue, error));
  assert_log ("5");
  belay_queue_close (queue);
  return belay_scope_close (&scope, error);
}

/* D25: one more than there were is a mistake. */
static gboolean
test_d25_underflow (gpointer data, GError **error)
{
  g_autoptr (BelayQueue) queue = belay_queue_new (1, NULL);

  expect_critical ("*said more often than items were got*");
  belay_queue_task_done (queue);
  g_assert_true (put (queue, 1));
  g_assert_cmpint (get (queue), ==, 1);
  belay_queue_task_done (queue);
  expect_critical ("*said more often than items were got*");
  belay_queue_task_done (queue);
  return TRUE;
}

/* The shutdown of Python 3.13: it drains, or at once, and either way who waits is told. */
static gboolean
test_shutdown (gpointer data, GError **error)
{
  for (guint at_once = 0; at_once < 2; at_once++)
    {
      g_autoptr (BelayQueue) queue = belay_queue_new (1, NULL);
      User late = { queue, "late", 2 };
      g_autoptr (GError) failure = NULL;
      BelayFuture *putting, *joining;

      g_assert_true (put (queue, 1));
      putting = belay_spawn (put_func, &late);
      joining = belay_queue_join_async (queue);
      g_assert_true (belay_sleep (1, error));
      if (at_once)
        belay_queue_abort (queue);
      else
        belay_queue_close (queue);
      g_assert_false (belay_await_ok (putting, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
      g_assert_cmpint (get (queue), ==, at_once ? 0 : 1);
      if (!at_once)
        belay_queue_task_done (queue);
      g_assert_true (belay_await_ok (joining, error));
      g_clear_error (&failure);
      g_assert_null (belay_queue_get (queue, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);

  thing_add_test ("/queues/D22-order", test_d22_order);
  thing_add_test ("/queues/D22-blocking", test_d22_blocking);
  thing_add_test ("/queues/D22-lifo-and-priority", test_d22_lifo_and_priority);
  thing_add_test ("/queues/D23-L32-cancelled-getter", test_d23_getter);
  thing_add_test ("/queues/D23-L32-cancelled-putter", test_d23_putter);
  thing_add_test ("/queues/D23-many", test_d23_many);
  thing_add_test ("/queues/D25-join", test_d25_join);
  thing_add_test ("/queues/D25-L34-done-too-often", test_d25_underflow);
  thing_add_test ("/queues/L36-shutdown", test_shutdown);
  return g_test_run ();
}
