/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Broadcasts and watches: everything to everybody, or the latest to who asks; what is too slow knows it; nothing leaks. */
#include "thing.h"

#include <stdatomic.h>

/* --- items that are counted: `n` of them live --- */

static atomic_int n_alive, n_copies;

static int *
number_new (int n)
{
  int *number = g_new (int, 1);

  *number = n;
  atomic_fetch_add (&n_alive, 1);
  return number;
}

static gpointer
number_copy (gpointer number)
{
  atomic_fetch_add (&n_copies, 1);
  return number_new (*(int *) number);
}

static void
number_free (gpointer number)
{
  atomic_fetch_sub (&n_alive, 1);
  g_free (number);
}

static int
read_and_free (int *number)
{
  int n = number != NULL ? *number : -1;

  if (number != NULL)
    number_free (number);
  return n;
}

static BelayBroadcast *
broadcast_new (guint capacity)
{
  n_alive = n_copies = 0;
  return belay_broadcast_new (capacity, number_copy, number_free);
}

static void
send_number (BelayBroadcast *broadcast, int n)
{
  int *number = number_new (n);

  g_assert_true (belay_broadcast_send (broadcast, &number, NULL));
  g_assert_null (number);
}

typedef struct
{
  BelayBroadcast *broadcast;
  const char     *name;
} Listener;

static gboolean
listen_to_end (gpointer data, GError **error)
{
  Listener *self = data;
  belay_auto (BelaySubscription) news = belay_broadcast_subscribe (self->broadcast);
  int *number;

  while (belay_subscription_next (news, &number, error))
    thing_note ("%s%d", self->name, read_and_free (number));
  return *error == NULL;
}

static gboolean
test_everybody (gpointer data, GError **error)
{
  g_autoptr (BelayBroadcast) broadcast = broadcast_new (8);
  Listener listeners[] = { { broadcast, "a" }, { broadcast, "b" } };
  BelayFuture *listening[2];
  int *late = NULL;
  g_autoptr (GError) failure = NULL;

  send_number (broadcast, 0); /* nobody hears it */
  g_assert_cmpint (n_alive, ==, 0);
  for (guint i = 0; i < 2; i++)
    listening[i] = belay_spawn (listen_to_end, &listeners[i]);
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpuint (belay_broadcast_get_n_subscribers (broadcast), ==, 2);
  for (int i = 1; i <= 3; i++)
    send_number (broadcast, i);
  g_assert_true (belay_sleep (1, error));
  assert_log_words ("a1 a2 a3 b1 b2 b3");
  send_number (broadcast, 4);
  belay_broadcast_close (broadcast);
  belay_broadcast_close (broadcast);
  g_assert_true (belay_await_ok (belay_future_allv (listening, 2), error));
  assert_log_words ("a4 b4");
  late = number_new (5);
  g_assert_false (belay_broadcast_send (broadcast, &late, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_cmpint (read_and_free (late), ==, 5);
  g_assert_cmpint (n_alive, ==, 0);
  return TRUE;
}

/* Who is slow loses the oldest, and knows how many; nobody waits for it. */
static gboolean
test_slow (gpointer data, GError **error)
{
  g_autoptr (BelayBroadcast) broadcast = broadcast_new (3);
  belay_auto (BelaySubscription) slow = belay_broadcast_subscribe (broadcast);
  belay_auto (BelaySubscription) quick = belay_broadcast_subscribe (broadcast);
  int *number;

  for (int i = 0; i < 10; i++)
    {
      send_number (broadcast, i);
      g_assert_cmpint (read_and_free (belay_subscription_try_next (quick, NULL)), ==, i);
    }
  g_assert_cmpint (n_alive, ==, 3);
  g_assert_cmpuint (belay_subscription_get_missed (slow), ==, 7);
  g_assert_cmpuint (belay_subscription_get_missed (quick), ==, 0);
  for (int i = 7; i < 10; i++)
    {
      g_assert_true (belay_subscription_next (slow, &number, error));
      g_assert_cmpint (read_and_free (number), ==, i);
    }
  g_assert_null (belay_subscription_try_next (slow, NULL));
  g_assert_cmpint (n_alive, ==, 0); /* all have had them, so none is kept */
  send_number (broadcast, 10);
  g_assert_cmpint (read_and_free (belay_subscription_try_next (slow, NULL)), ==, 10);
  g_assert_cmpuint (belay_subscription_get_missed (slow), ==, 7);
  return TRUE;
}

/* What a subscription that is left has not heard is freed, if nobody else is to hear it. The last to hear gets no copy. */
static gboolean
test_left (gpointer data, GError **error)
{
  BelayBroadcast *broadcast = broadcast_new (4);
  BelaySubscription *one = belay_broadcast_subscribe (broadcast), *other = belay_broadcast_subscribe (broadcast);

  for (int i = 0; i < 6; i++)
    send_number (broadcast, i);
  g_assert_cmpint (n_alive, ==, 4);
  belay_release (&one);
  g_assert_cmpint (n_alive, ==, 4);
  g_assert_cmpint (read_and_free (belay_subscription_try_next (other, NULL)), ==, 2);
  g_assert_cmpint (n_copies, ==, 0);
  g_assert_cmpint (n_alive, ==, 3);
  belay_broadcast_unref (broadcast); /* it keeps it */
  belay_release (&other);
  g_assert_cmpint (n_alive, ==, 0);
  return TRUE;
}

static gboolean
next_one (gpointer data, GError **error)
{
  int *number;

  if (!belay_subscription_next (data, &number, error))
    return *error == NULL;
  thing_note ("%d", read_and_free (number));
  return TRUE;
}

/* Several that take from one subscription: each item goes to one. */
static gboolean
test_shared (gpointer data, GError **error)
{
  g_autoptr (BelayBroadcast) broadcast = broadcast_new (4);
  BelaySubscription *shared = belay_broadcast_subscribe (broadcast);
  BelayFuture *taking[3];

  for (guint i = 0; i < 3; i++)
    taking[i] = belay_spawn (next_one, shared);
  g_assert_true (belay_sleep (1, error));
  send_number (broadcast, 1);
  send_number (broadcast, 2);
  g_assert_true (belay_sleep (1, error));
  assert_log_words ("1 2");
  belay_release (&shared); /* the third is told the end */
  g_assert_true (belay_await_ok (belay_future_allv (taking, 3), error));
  assert_log ("");
  g_assert_cmpint (n_alive, ==, 0);
  return TRUE;
}

static gboolean
test_futures (gpointer data, GError **error)
{
  g_autoptr (BelayBroadcast) broadcast = broadcast_new (2);
  belay_auto (BelaySubscription) news = belay_broadcast_subscribe (broadcast);
  belay_auto (BelaySubscription) other = belay_broadcast_subscribe (broadcast);
  BelayFuture *first = belay_subscription_next_async (news), *second = belay_subscription_next_async (news);

  send_number (broadcast, 1);
  g_assert_true (belay_future_is_resolved (first));
  belay_future_unref (first); /* has it, and does not want it: so the second has it */
  g_assert_cmpint (read_and_free (belay_await (second, error)), ==, 1);
  g_assert_cmpuint (belay_subscription_get_missed (news), ==, 0);

  send_number (broadcast, 2);
  belay_future_unref (belay_subscription_next_async (news));
  g_assert_cmpint (read_and_free (belay_subscription_try_next (news, error)), ==, 2); /* the next again */
  first = belay_subscription_next_async (news);
  belay_future_unref (first); /* before it came */
  first = belay_subscription_next_async (news);
  send_number (broadcast, 3);
  send_number (broadcast, 4);
  g_assert_cmpint (read_and_free (belay_subscription_try_next (news, error)), ==, 4);
  belay_future_unref (first);
  g_assert_cmpint (read_and_free (belay_subscription_try_next (news, error)), ==, 3); /* though the one after it was taken */
  g_assert_cmpuint (belay_subscription_get_missed (news), ==, 0);

  first = belay_subscription_next_async (news);
  belay_broadcast_close (broadcast);
  g_assert_null (belay_await (first, error));
  g_assert_error (*error, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_clear_error (error);
  belay_release (&news);
  belay_release (&other);
  g_assert_cmpint (n_alive, ==, 0);
  return TRUE;
}

/* Whatever several dropped futures had comes back: in the order in which it was sent, also when all of it has left the window. */
static gboolean
test_comes_back (gpointer data, GError **error)
{
  static const guint orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 } };

  for (guint k = 0; k < G_N_ELEMENTS (orders); k++)
    {
      g_autoptr (BelayBroadcast) broadcast = broadcast_new (1);
      belay_auto (BelaySubscription) news = belay_broadcast_subscribe (broadcast);
      BelayFuture *futures[3], *waiting;

      for (guint i = 0; i < 3; i++)
        {
          futures[i] = belay_subscription_next_async (news);
          send_number (broadcast, (int) i);
        }
      for (guint i = 0; i < 3; i++)
        belay_future_unref (futures[orders[k][i]]);
      send_number (broadcast, 3);
      if (k == 0)
        {
          belay_release (&news); /* nor is it kept, when nobody takes it */
          g_assert_cmpint (n_alive, ==, 0);
          continue;
        }
      for (int i = 0; i < 4; i++)
        g_assert_cmpint (read_and_free (belay_subscription_try_next (news, error)), ==, i);
      g_assert_cmpuint (belay_subscription_get_missed (news), ==, 0);

      futures[0] = belay_subscription_next_async (news);
      futures[1] = belay_subscription_next_async (news);
      send_number (broadcast, 4);
      send_number (broadcast, 5);
      waiting = belay_subscription_next_async (news);
      belay_future_unref (futures[0]); /* somebody waits: so it has it */
      g_assert_cmpint (read_and_free (belay_await (waiting, error)), ==, 4);
      belay_future_unref (futures[1]);
      belay_broadcast_close (broadcast);
      g_assert_cmpint (read_and_free (belay_subscription_try_next (news, error)), ==, 5);
      g_assert_null (belay_subscription_try_next (news, error));
      g_assert_error (*error, G_IO_ERROR, G_IO_ERROR_CLOSED);
      g_clear_error (error);
      g_assert_cmpint (n_alive, ==, 0);
    }
  return TRUE;
}

/* What one does costs the same however many others wait. */
static void
test_many (void)
{
  const guint N = test_is_watched () ? 5000 : 100000;
  gint64 begin = g_get_monotonic_time ();
  g_autoptr (BelayBroadcast) broadcast = broadcast_new (2);
  g_autofree BelaySubscription **all = g_new (BelaySubscription *, N);
  g_autofree BelayFuture **waiting = g_new (BelayFuture *, N);

  for (guint i = 0; i < N; i++)
    {
      all[i] = belay_broadcast_subscribe (broadcast);
      waiting[i] = belay_subscription_next_async (all[i]);
    }
  send_number (broadcast, 1);
  for (guint i = 0; i < N; i++)
    {
      g_assert_cmpint (read_and_free (belay_future_take (waiting[i], NULL)), ==, 1);
      belay_future_unref (waiting[i]);
      waiting[i] = belay_subscription_next_async (all[i]);
    }
  for (guint i = 0; i < N; i++)
    {
      belay_release (&all[i]);
      g_assert_error (belay_future_get_error (waiting[i]), G_IO_ERROR, G_IO_ERROR_CLOSED);
      belay_future_unref (waiting[i]);
    }
  g_assert_cmpint (n_alive, ==, 0);
  test_assert_soon (begin);
}

static gboolean
test_misuse (gpointer data, GError **error)
{
  g_autoptr (BelayBroadcast) broadcast = broadcast_new (2);
  g_autoptr (BelayWatch) watch = belay_watch_new (number_new (1), number_copy, number_free);
  gpointer none = NULL;

  expect_critical ("*belay_broadcast_send: there is no item*");
  g_assert_false (belay_broadcast_send (broadcast, &none, error));
  g_assert_error (*error, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (error);
  expect_critical ("*belay_watch_set: there is no value*");
  g_assert_false (belay_watch_set (watch, &none, error));
  g_assert_error (*error, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (error);
  return TRUE;
}

/* --- under many schedules --- */

typedef struct
{
  BelayBroadcast *broadcast;
  int             n_sent;
} Station;

/* Each that hears to the end has heard or missed all that was sent since it began, in order. */
static gboolean
hear (gpointer data, GError **error)
{
  Station *station = data;
  belay_auto (BelaySubscription) news = belay_broadcast_subscribe (station->broadcast);
  int begin = station->n_sent, last = begin - 1, n_heard = 0;

  for (;;)
    {
      belay_auto (BelayTimeout) limit = belay_timeout (1 + belay_test_chance (3));
      int *number = NULL;

      if (belay_test_chance (4) == 0)
        {
          BelayFuture *dropped = belay_subscription_next_async (news);

          belay_yield (NULL);
          belay_future_get_error (dropped);
          belay_future_unref (dropped);
          continue;
        }
      if (!belay_subscription_next (news, &number, NULL))
        {
          if (belay_timeout_expired (limit))
            continue;
          break;
        }
      g_assert_cmpint (*number, >, last);
      last = read_and_free (number);
      n_heard++;
      if (belay_test_chance (3) == 0)
        belay_yield (NULL);
    }
  if (!belay_scope_is_cancelled (belay_scope_current ()))
    g_assert_cmpint (n_heard + (int) belay_subscription_get_missed (news), ==, station->n_sent - begin);
  return TRUE;
}

static gboolean
test_station (gpointer data, GError **error)
{
  Station station = { broadcast_new (1 + belay_test_chance (3)), 0 };
  BelayScope *cancelled = belay_scope_new (), *others = belay_scope_new ();

  for (guint i = 0; i < 4; i++)
    g_assert_true (belay_scope_spawn (i == 0 ? cancelled : others, hear, &station, NULL));
  for (guint i = 0; i < 20; i++)
    {
      int *number = number_new (station.n_sent++);

      g_assert_true (belay_broadcast_send (station.broadcast, &number, error));
      if (belay_test_chance (2) == 0)
        g_assert_true (belay_yield (error));
      if (i == 10)
        belay_scope_cancel (cancelled, "enough");
    }
  belay_scope_close (&cancelled, NULL);
  belay_broadcast_close (station.broadcast);
  g_assert_true (belay_scope_close (&others, error));
  g_assert_cmpint (n_alive, ==, 0);
  belay_broadcast_unref (station.broadcast);
  return TRUE;
}

/* --- watches --- */

static void
set_number (BelayWatch *watch, int n)
{
  int *number = number_new (n);

  g_assert_true (belay_watch_set (watch, &number, NULL));
  g_assert_null (number);
}

static gboolean
watch_to_end (gpointer data, GError **error)
{
  guint64 seen = 0;
  int *number;

  while (belay_watch_next (data, &seen, &number, error))
    thing_note ("%d", read_and_free (number));
  return *error == NULL;
}

static gboolean
test_watch (gpointer data, GError **error)
{
  BelayWatch *watch;
  BelayFuture *watching, *version;
  guint64 seen = 0;
  gint64 newer;
  int *late;
  g_autoptr (GError) failure = NULL;

  n_alive = 0;
  watch = belay_watch_new (number_new (1), number_copy, number_free);
  g_assert_cmpint (read_and_free (belay_watch_get (watch, &seen)), ==, 1);
  g_assert_cmpuint (seen, ==, 1);
  watching = belay_spawn (watch_to_end, watch);
  version = belay_watch_wait_async (watch, 1);
  g_assert_true (belay_sleep (1, error));
  assert_log ("1");
  set_number (watch, 2);
  set_number (watch, 3);
  g_assert_true (belay_sleep (1, error));
  assert_log ("3"); /* the latest, not each */
  g_assert_true (belay_await_int64 (version, &newer, error));
  g_assert_cmpint (newer, ==, 2);
  belay_future_unref (belay_watch_wait_async (watch, 3));
  version = belay_watch_wait_async (watch, 3);
  belay_watch_close (watch);
  g_assert_false (belay_await_int64 (version, &newer, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_clear_error (&failure);
  g_assert_true (belay_await_ok (watching, error));
  late = number_new (4);
  g_assert_false (belay_watch_set (watch, &late, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_cmpint (read_and_free (late), ==, 4);
  g_assert_cmpint (read_and_free (belay_watch_get (watch, NULL)), ==, 3);
  belay_watch_unref (watch);
  g_assert_cmpint (n_alive, ==, 0);
  return TRUE;
}

static gboolean
test_watch_interrupted (gpointer data, GError **error)
{
  g_autoptr (BelayWatch) watch = belay_watch_new ((gpointer) "a", NULL, NULL);
  guint64 seen = 1;
  const char *value = "x";

  {
    belay_auto (BelayTimeout) limit = belay_timeout (5);

    g_assert_false (belay_watch_next (watch, &seen, &value, error));
    g_assert_error (*error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_clear_error (error);
  }
  g_assert_true (value == NULL && seen == 1);
  value = "b";
  g_assert_true (belay_watch_set (watch, &value, error));
  g_assert_true (belay_watch_next (watch, &seen, &value, error));
  g_assert_cmpstr (value, ==, "b");
  g_assert_cmpuint (seen, ==, 2);
  return TRUE;
}

/* --- real threads --- */

#define EACH 3000

static gboolean
hear_many (gpointer data, GError **error)
{
  belay_auto (BelaySubscription) news = belay_broadcast_subscribe (data);
  int *number, last = -1;

  while (belay_subscription_next (news, &number, error))
    {
      g_assert_cmpint (*number, >, last);
      last = read_and_free (number);
    }
  return *error == NULL && last == EACH - 1;
}

static gboolean
watch_many (gpointer data, GError **error)
{
  guint64 seen = 0;
  int *number, last = -2;

  while (belay_watch_next (data, &seen, &number, error))
    {
      g_assert_cmpint (*number, >, last);
      last = read_and_free (number);
    }
  return *error == NULL && last == EACH - 1;
}

typedef struct
{
  BelayBroadcast *broadcast;
  BelayWatch     *watch;
} Both;

static gpointer
send_from_thread (gpointer data)
{
  Both *both = data;

  for (int i = 0; i < EACH; i++)
    {
      send_number (both->broadcast, i);
      set_number (both->watch, i);
    }
  belay_broadcast_close (both->broadcast);
  belay_watch_close (both->watch);
  return NULL;
}

static gboolean
test_threads (gpointer data, GError **error)
{
  Both both = { broadcast_new (4), belay_watch_new (number_new (-1), number_copy, number_free) };
  belay_auto (BelayLoop) loop = belay_loop_new ("loop");
  BelayFuture *hearing[4];
  GThread *thread;

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  hearing[0] = belay_loop_spawn (loop, hear_many, both.broadcast, NULL);
  hearing[1] = belay_spawn (hear_many, both.broadcast);
  hearing[2] = belay_loop_spawn (loop, watch_many, both.watch, NULL);
  hearing[3] = belay_spawn (watch_many, both.watch);
  while (belay_broadcast_get_n_subscribers (both.broadcast) < 2)
    g_assert_true (belay_yield (error));
  thread = g_thread_new ("sender", send_from_thread, &both);
  g_assert_true (belay_await_ok (belay_future_allv (hearing, 4), error));
  g_thread_join (thread);
  g_assert_true (belay_close (&loop, error));
  belay_broadcast_unref (both.broadcast);
  belay_watch_unref (both.watch);
  g_assert_cmpint (n_alive, ==, 0);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);

  thing_add_test ("/broadcast/everything-to-everybody", test_everybody);
  thing_add_test ("/broadcast/slow-ones-miss-the-oldest", test_slow);
  thing_add_test ("/broadcast/left", test_left);
  thing_add_test ("/broadcast/several-share-a-subscription", test_shared);
  thing_add_test ("/broadcast/L32-futures", test_futures);
  thing_add_test ("/broadcast/L32-all-of-it-comes-back", test_comes_back);
  thing_add_single_plain_test ("/broadcast/L16-many", test_many);
  thing_add_test ("/broadcast/L34-nothing-sent", test_misuse);
  belay_test_explore ("/broadcast/L32-station", test_station);
  thing_add_test ("/watch/L36-latest-to-the-end", test_watch);
  thing_add_test ("/watch/interrupted", test_watch_interrupted);
  thing_add_single_test ("/broadcast/threads", test_threads);
  return g_test_run ();
}
