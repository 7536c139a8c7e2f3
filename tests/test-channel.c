/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Channels: order, bounds, ends; and that no item is lost, or freed twice, at any instant. */
#include "thing.h"

#include <stdatomic.h>

/* --- items that are counted --- */

typedef struct
{
  int n;
} Item;

static atomic_int n_made, n_freed, sum_received;

static Item *
item_new (int n)
{
  Item *item = g_new (Item, 1);

  item->n = n;
  atomic_fetch_add (&n_made, 1);
  return item;
}

static void
item_free (gpointer item)
{
  atomic_fetch_add (&n_freed, 1);
  g_free (item);
}

static void
receive_item (Item *item)
{
  atomic_fetch_add (&sum_received, item->n);
  item_free (item);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Item, item_free)

static void
begin_count (void)
{
  n_made = n_freed = sum_received = 0;
}

#define assert_none_lost() g_assert_cmpint (n_made, ==, n_freed)

static gboolean
send_number (BelayChannel *channel, int n, GError **error)
{
  g_autoptr (Item) item = item_new (n);

  if (!belay_channel_send (channel, &item, error))
    {
      g_assert_nonnull (item);
      return FALSE;
    }
  g_assert_null (item);
  return TRUE;
}

static int
receive_number (BelayChannel *channel)
{
  g_autoptr (GError) failure = NULL;
  g_autoptr (Item) item = belay_channel_receive (channel, &failure);

  if (item != NULL)
    g_assert_no_error (failure);
  else
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  return item != NULL ? item->n : -1;
}

typedef struct
{
  BelayChannel *channel;
  int           first, n;
  const char   *name;
} Part;

static gboolean
send_some (gpointer data, GError **error)
{
  Part *part = data;

  for (int i = 0; i < part->n; i++)
    {
      if (!send_number (part->channel, part->first + i, error))
        return FALSE;
      if (part->name != NULL)
        thing_note ("%s%d", part->name, part->first + i);
    }
  return TRUE;
}

/* Receives to the end, and notes what. */
static gboolean
receive_all (gpointer data, GError **error)
{
  Part *part = data;
  Item *item;

  while (belay_channel_next (part->channel, &item, error))
    {
      if (part->name != NULL)
        thing_note ("%s%d", part->name, item->n);
      receive_item (item);
    }
  g_assert_null (item);
  return *error == NULL;
}

static gboolean
receive_one (gpointer data, GError **error)
{
  Part *part = data;
  g_autoptr (Item) item = belay_channel_receive (part->channel, error);

  if (item == NULL)
    return FALSE;
  thing_note ("%s%d", part->name, item->n);
  return TRUE;
}

/* --- order and bounds --- */

static gboolean
test_fifo (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (3, item_free);

  begin_count ();
  g_assert_cmpuint (belay_channel_get_capacity (channel), ==, 3);
  for (int round = 0; round < 5; round++) /* around the ring */
    {
      for (int i = 0; i < 3; i++)
        g_assert_true (send_number (channel, i, error));
      g_assert_cmpuint (belay_channel_get_length (channel), ==, 3);
      for (int i = 0; i < 3; i++)
        g_assert_cmpint (receive_number (channel), ==, i);
    }
  assert_none_lost ();
  return TRUE;
}

/* A full channel holds the sender back, item by item. */
static gboolean
test_bounded (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (2, item_free);
  Part part = { channel, 0, 5, "s" };
  BelayFuture *sending = belay_spawn (send_some, &part);

  g_assert_true (belay_sleep (1, error));
  assert_log ("s0 s1");
  g_assert_cmpuint (belay_channel_get_n_sending (channel), ==, 1);
  g_assert_cmpint (receive_number (channel), ==, 0);
  g_assert_cmpuint (belay_channel_get_length (channel), ==, 2); /* the waiting one has moved up */
  g_assert_cmpuint (belay_channel_get_n_sending (channel), ==, 0);
  g_assert_true (belay_sleep (1, error));
  assert_log ("s2");
  for (int i = 1; i < 5; i++)
    g_assert_cmpint (receive_number (channel), ==, i);
  return belay_await_ok (sending, error);
}

static gboolean
test_rendezvous (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (0, item_free);
  Part part = { channel, 0, 3, "s" };
  BelayFuture *sending = belay_spawn (send_some, &part);

  g_assert_true (belay_sleep (1, error));
  assert_log (""); /* nobody has received it */
  g_assert_cmpuint (belay_channel_get_length (channel), ==, 0);
  for (int i = 0; i < 3; i++)
    g_assert_cmpint (receive_number (channel), ==, i);
  return belay_await_ok (sending, error);
}

static gboolean
test_unbounded (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new_unbounded (item_free);

  begin_count ();
  g_assert_cmpuint (belay_channel_get_capacity (channel), ==, G_MAXUINT);
  for (int i = 0; i < 100; i++)
    g_assert_true (send_number (channel, -1, error));
  for (int i = 0; i < 50; i++)
    g_assert_cmpint (receive_number (channel), ==, -1); /* so that it does not begin at the front when it grows */
  for (int i = 0; i < 50; i++)
    receive_number (channel);
  for (int i = 0; i < 10000; i++)
    g_assert_true (send_number (channel, i, error));
  for (int i = 0; i < 10000; i++)
    g_assert_cmpint (receive_number (channel), ==, i);
  assert_none_lost ();
  return TRUE;
}

/* Waiting receivers and waiting senders are served in the order in which they came, futures and fibers alike. */
static gboolean
test_lines_are_fifo (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (0, item_free);
  Part parts[] = { { channel, 0, 1, "a" }, { channel, 1, 1, "b" }, { channel, 2, 1, "c" } };
  BelayFuture *futures[2], *queued;

  begin_count ();
  futures[0] = belay_spawn (receive_one, &parts[0]);
  g_assert_true (belay_sleep (1, error));
  queued = belay_channel_receive_async (channel);
  futures[1] = belay_spawn (receive_one, &parts[2]);
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpuint (belay_channel_get_n_receiving (channel), ==, 3);
  for (int i = 0; i < 3; i++)
    g_assert_true (send_number (channel, i, error));
  {
    g_autoptr (Item) item = belay_await (queued, error);
    g_assert_cmpint (item->n, ==, 1);
  }
  g_assert_true (belay_await_ok (belay_future_allv (futures, 2), error));
  assert_log_words ("a0 c2");

  futures[0] = belay_spawn (send_some, &parts[0]);
  g_assert_true (belay_sleep (1, error));
  queued = belay_channel_send_async (channel, item_new (1));
  futures[1] = belay_spawn (send_some, &parts[2]);
  g_assert_true (belay_sleep (1, error));
  for (int i = 0; i < 3; i++)
    g_assert_cmpint (receive_number (channel), ==, i);
  g_assert_true (belay_await_ok (queued, error));
  g_assert_true (belay_await_ok (belay_future_allv (futures, 2), error));
  thing_clear_log ();
  assert_none_lost ();
  return TRUE;
}

/* What is sent while a receiver waits is that one's: neither try nor a fast receive gets it. */
static gboolean
test_no_barging (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  Part first = { channel, 0, 1, "first" };
  BelayFuture *receiving = belay_spawn (receive_one, &first), *sending;
  g_autoptr (Item) item = item_new (7);

  g_assert_true (belay_sleep (1, error)); /* it waits */
  g_assert_true (send_number (channel, 1, error));
  g_assert_null (belay_channel_try_receive (channel, NULL)); /* though it has not run yet */
  g_assert_true (belay_await_ok (receiving, error));
  assert_log ("first1");

  g_assert_true (send_number (channel, 2, error));
  first = (Part) { channel, 3, 1, "s" };
  sending = belay_spawn (send_some, &first);
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpint (receive_number (channel), ==, 2);
  g_assert_false (belay_channel_try_send (channel, &item, NULL)); /* the room is that of who waited */
  g_assert_nonnull (item);
  g_assert_true (belay_await_ok (sending, error));
  g_assert_cmpint (receive_number (channel), ==, 3);
  thing_clear_log ();
  return TRUE;
}

static void
test_try (void)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  g_autoptr (BelayChannel) direct = belay_channel_new (0, item_free);
  g_autoptr (GError) failure = NULL;
  g_autoptr (Item) item = item_new (1);
  BelayFuture *queued;

  g_assert_null (belay_channel_try_receive (channel, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  g_clear_error (&failure);
  g_assert_true (belay_channel_try_send (channel, &item, NULL));
  g_assert_null (item);
  item = item_new (2);
  g_assert_false (belay_channel_try_send (channel, &item, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  g_clear_error (&failure);

  g_assert_false (belay_channel_try_send (direct, &item, NULL));
  queued = belay_channel_receive_async (direct);
  g_assert_true (belay_channel_try_send (direct, &item, &failure));
  item = belay_future_take (queued, NULL);
  g_assert_cmpint (item->n, ==, 2);
  belay_future_unref (queued);
}

static gboolean
test_misuse (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  g_autoptr (GError) failure = NULL;
  Item *none = NULL;

  expect_critical ("*belay_channel_send: there is no item*");
  g_assert_false (belay_channel_send (channel, &none, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

static void
test_outside (void)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  g_autoptr (Item) item = item_new (1);
  g_autoptr (GError) failure = NULL;

  expect_critical ("*belay_channel_send: waits*");
  g_assert_false (belay_channel_send (channel, &item, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  g_clear_error (&failure);
  expect_critical ("*belay_channel_receive: waits*");
  g_assert_null (belay_channel_receive (channel, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
}

/* --- its end --- */

static gboolean
test_close_drains (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (2, item_free);
  Part late = { channel, 2, 1, "late" };
  GError *failure = NULL;
  BelayFuture *sending;
  Item *item;

  begin_count ();
  g_assert_true (send_number (channel, 0, error));
  g_assert_true (send_number (channel, 1, error));
  sending = belay_spawn (send_some, &late);
  g_assert_true (belay_sleep (1, error));
  belay_channel_close (channel);
  belay_channel_close (channel);
  g_assert_true (belay_channel_is_closed (channel));
  g_assert_false (belay_await_ok (sending, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_clear_error (&failure);
  g_assert_false (send_number (channel, 3, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_clear_error (&failure);
  g_assert_cmpint (receive_number (channel), ==, 0);
  g_assert_cmpint (receive_number (channel), ==, 1);
  g_assert_cmpint (receive_number (channel), ==, -1);
  g_assert_false (belay_channel_next (channel, &item, error));
  g_assert_no_error (*error);
  assert_none_lost ();
  return TRUE;
}

/* Each that waits is told, once, whatever it is; and nothing comes after that. */
static gboolean
test_close_wakes_all (gpointer data, GError **error)
{
  BelayFuture *waiting[4];
  Part part = { NULL, 0, 1, "n" };

  begin_count ();
  for (int round = 0; round < 2; round++)
    {
      g_autoptr (BelayChannel) one = belay_channel_new (0, item_free);

      part.channel = one;
      for (guint i = 0; i < 3; i++) /* in any order */
        waiting[i] = belay_spawn (round == 0 ? receive_one : send_some, &part);
      waiting[3] = round == 0 ? belay_channel_receive_async (one) : belay_channel_send_async (one, item_new (1));
      g_assert_true (belay_sleep (1, error));
      if (round == 0)
        belay_channel_close (one);
      else
        belay_channel_abort (one);
      for (guint i = 0; i < 4; i++)
        {
          g_autoptr (GError) failure = NULL;

          g_assert_false (belay_await_ok (waiting[i], &failure));
          g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
        }
      g_assert_cmpuint (belay_channel_get_n_sending (one) + belay_channel_get_n_receiving (one), ==, 0);
    }
  assert_none_lost ();
  assert_log ("");
  return TRUE;
}

/* Whoever was told the end needs the channel no more, so it may go at once. */
static gboolean
test_closed_and_dropped (gpointer data, GError **error)
{
  for (guint i = 0; i < 2; i++)
    {
      BelayChannel *channel = belay_channel_new (0, item_free);
      Part part = { channel, 1, 1, "n" };
      g_autoptr (GError) failure = NULL;
      BelayFuture *waiting = belay_spawn (i == 0 ? receive_one : send_some, &part);

      begin_count ();
      g_assert_true (belay_sleep (1, error));
      belay_channel_close (channel);
      belay_channel_unref (channel);
      g_assert_false (belay_await_ok (waiting, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
      g_assert_cmpstr (failure->message, ==, "the channel is closed");
      g_assert_cmpint (n_freed, ==, (int) i);
    }
  assert_log ("");
  return TRUE;
}

static gboolean
test_abort (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (4, item_free);

  begin_count ();
  for (int i = 0; i < 3; i++)
    g_assert_true (send_number (channel, i, error));
  belay_channel_close (channel);
  belay_channel_abort (channel); /* also after a close */
  g_assert_cmpint (n_freed, ==, 3);
  g_assert_cmpint (receive_number (channel), ==, -1);
  return TRUE;
}

static gboolean
test_items_left_are_freed (gpointer data, GError **error)
{
  BelayChannel *channel = belay_channel_new (200, item_free);

  begin_count ();
  for (int i = 0; i < 100; i++)
    g_assert_true (send_number (channel, i, error));
  for (int i = 0; i < 10; i++)
    g_assert_cmpint (receive_number (channel), ==, i);
  belay_channel_unref (channel);
  assert_none_lost ();
  return TRUE;
}

/* What is freed may use the channel: no lock is held. */
static BelayChannel *reentered;

static void
free_and_look (gpointer item)
{
  g_assert_true (belay_channel_is_closed (reentered));
  belay_channel_abort (reentered);
  item_free (item);
}

static gboolean
test_free_reenters (gpointer data, GError **error)
{
  begin_count ();
  reentered = belay_channel_new (4, free_and_look);
  for (int i = 0; i < 3; i++)
    g_assert_true (send_number (reentered, i, error));
  belay_channel_abort (reentered);
  belay_channel_unref (reentered);
  assert_none_lost ();
  return TRUE;
}

static gboolean
test_resources (gpointer data, GError **error)
{
  BelayChannel *channel = belay_channel_new (4, belay_resource_drop);
  belay_auto (Thing) a = thing_new ("a");
  belay_auto (Thing) b = thing_new ("b");

  g_assert_true (belay_channel_send (channel, &a, error));
  g_assert_true (belay_channel_send (channel, &b, error));
  g_assert_null (a);
  a = belay_channel_receive (channel, error);
  g_assert_true (belay_close (&a, error));
  belay_channel_unref (channel);
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpuint (thing_count.closed, ==, 2);
  thing_clear_log ();
  return TRUE;
}

static gboolean
test_last_reference_with_waiters (gpointer data, GError **error)
{
  BelayChannel *channel = belay_channel_new (0, item_free);
  Part part = { channel, 0, 1, "n" };
  g_autoptr (GError) failure = NULL;
  BelayFuture *waiting = belay_spawn (receive_one, &part);

  g_assert_true (belay_sleep (1, error));
  expect_critical ("*the last reference to a channel was dropped while somebody waits*");
  belay_channel_unref (channel);
  g_assert_false (belay_await_ok (waiting, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  return TRUE;
}

/* --- guards --- */

static gboolean
send_guarded (gpointer data, GError **error)
{
  Part *part = data;
  belay_auto (BelaySender) sender = belay_channel_add_sender (part->channel);

  return belay_yield (error) && send_some (data, error) && !g_str_equal (part->name, "fails ");
}

/* The last sender closes, also one that fails; and receivers come to their end. */
static gboolean
test_senders (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  Part parts[] = { { channel, 0, 3, "a" }, { channel, 3, 4, "b" } }, receiver = { channel, 0, 0, NULL };
  BelaySender *first = belay_channel_add_sender (channel); /* before either of them runs */
  BelayFuture *futures[3];

  begin_count ();
  futures[0] = belay_spawn (send_guarded, &parts[0]);
  futures[1] = belay_spawn (send_guarded, &parts[1]);
  futures[2] = belay_spawn (receive_all, &receiver);
  g_assert_true (belay_sleep (1, error));
  g_assert_false (belay_channel_is_closed (channel));
  belay_release (&first);
  g_assert_true (belay_await_ok (belay_future_allv (futures, 3), error));
  g_assert_cmpint (sum_received, ==, 21);
  g_assert_true (belay_channel_is_closed (channel));
  assert_none_lost ();
  thing_clear_log ();
  return TRUE;
}

/* Copies of guards' pointers, released once more: neither counted nor references to the channel. */
static gboolean
test_guards_released_twice (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  BelaySender *sender = belay_channel_add_sender (channel), *sender_copy = sender;
  BelayReceiver *receiver = belay_channel_add_receiver (channel), *receiver_copy = receiver;

  belay_release (&sender);
  expect_critical ("a BelaySender was released before*");
  belay_release (&sender_copy);
  belay_release (&receiver);
  expect_critical ("a BelayReceiver was released before*");
  belay_release (&receiver_copy);
  g_test_assert_expected_messages ();
  g_assert_true (belay_channel_is_closed (channel));
  return TRUE;
}

/* Without receivers sending fails rather than lasts for ever; what is in the channel is freed. */
static gboolean
test_receivers (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  BelayReceiver *first = belay_channel_add_receiver (channel), *second = belay_channel_add_receiver (channel);
  Part part = { channel, 1, 1, "s" };
  GError *failure = NULL;
  BelayFuture *sending;

  begin_count ();
  g_assert_true (send_number (channel, 0, error));
  sending = belay_spawn (send_some, &part);
  g_assert_true (belay_sleep (1, error));
  belay_release (&first);
  g_assert_cmpuint (belay_channel_get_n_sending (channel), ==, 1);
  belay_release (&second);
  g_assert_false (belay_await_ok (sending, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  g_clear_error (&failure);
  g_assert_false (send_number (channel, 2, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  g_clear_error (&failure);
  assert_none_lost ();
  assert_log ("");
  return TRUE;
}

/* What was closed stays so, for those who send: that nobody would receive either is no news. */
static gboolean
test_receivers_leave_what_is_closed (gpointer data, GError **error)
{
  for (guint i = 0; i < 2; i++)
    {
      g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
      BelayReceiver *receiver = belay_channel_add_receiver (channel);
      g_autoptr (GError) failure = NULL;

      begin_count ();
      g_assert_true (send_number (channel, 0, error));
      if (i == 0)
        belay_channel_close (channel);
      else
        belay_channel_abort (channel);
      belay_release (&receiver);
      g_assert_false (send_number (channel, 1, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
      assert_none_lost ();
    }
  return TRUE;
}

static gboolean
test_guard_keeps_it (gpointer data, GError **error)
{
  BelayChannel *channel = belay_channel_new (1, item_free);
  belay_auto (BelaySender) sender = belay_channel_add_sender (channel);
  belay_auto (BelayReceiver) receiver = belay_channel_add_receiver (channel);

  belay_channel_unref (channel);
  return TRUE;
}

/* --- interrupted: sent and cancelled k turns apart, either first --- */

typedef struct
{
  BelayChannel *channel;
  BelayScope   *scope;
  guint         act_at, cancel_at;
  gboolean      sends;
} Instant;

static gboolean
act_at (gpointer data, GError **error)
{
  Instant *instant = data;
  int n = 0;

  for (guint i = 0; i < instant->act_at; i++)
    belay_yield (NULL);
  if (instant->sends)
    return send_number (instant->channel, 1, error);
  n = receive_number (instant->channel);
  g_assert_cmpint (n, >, 0);
  atomic_fetch_add (&sum_received, n);
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
receive_by_future (gpointer data, GError **error)
{
  Part *part = data;
  g_autoptr (Item) item = belay_await (belay_channel_receive_async (part->channel), error);

  if (item != NULL)
    atomic_fetch_add (&sum_received, item->n);
  return item != NULL;
}

static gboolean
receive_directly (gpointer data, GError **error)
{
  Part *part = data;
  g_autoptr (Item) item = belay_channel_receive (part->channel, error);

  if (item != NULL)
    atomic_fetch_add (&sum_received, item->n);
  return item != NULL;
}

/* A receiver that is cancelled about when the item comes: it has it, or the next one has. */
static gboolean
test_each_instant_of_receiving (gpointer data, GError **error)
{
  BelayFunc func = data != NULL ? receive_by_future : receive_directly;
  guint n_used = 0, n_rounds = 0;

  for (guint acted = 0; acted < 6; acted++)
    for (guint cancelled = 0; cancelled < 6; cancelled++)
      for (guint first = 0; first < 2; first++)
        {
          g_autoptr (BelayChannel) channel = belay_channel_new (0, item_free);
          Part part = { channel, 0, 0, NULL };
          BelayScope *scope = belay_scope_new ();
          Instant instant = { channel, scope, acted, cancelled, TRUE };
          BelayFuture *futures[3];

          begin_count ();
          g_assert_true (belay_scope_spawn (scope, func, &part, NULL));
          futures[0] = belay_spawn (first ? act_at : cancel_at, &instant);
          futures[1] = belay_spawn (first ? cancel_at : act_at, &instant);
          futures[2] = belay_spawn (func, &part);
          if (!belay_await_ok (belay_future_all (futures[0], futures[1], NULL), error))
            return FALSE;
          belay_scope_close (&scope, NULL);
          n_rounds++;
          if (sum_received == 1 && belay_future_is_pending (futures[2]))
            {
              n_used++;
              g_assert_true (send_number (channel, 1, error));
            }
          g_assert_true (belay_await_ok (futures[2], error));
          g_assert_cmpint (sum_received, ==, n_made);
          assert_none_lost ();
        }
  g_assert_cmpuint (n_used, >, 0);
  g_assert_cmpuint (n_used, <, n_rounds);
  return TRUE;
}

/* A sender that is cancelled about when somebody receives: its item has been received, or is its own. */
static gboolean
test_each_instant_of_sending (gpointer data, GError **error)
{
  for (guint acted = 0; acted < 6; acted++)
    for (guint cancelled = 0; cancelled < 6; cancelled++)
      for (guint first = 0; first < 2; first++)
        {
          g_autoptr (BelayChannel) channel = belay_channel_new (0, item_free);
          Part part = { channel, 1, 1, NULL }, next = { channel, 2, 1, NULL };
          BelayScope *scope = belay_scope_new ();
          Instant instant = { channel, scope, acted, cancelled, FALSE };
          BelayFuture *futures[3];
          int n;

          begin_count ();
          g_assert_true (belay_scope_spawn (scope, send_some, &part, NULL));
          futures[0] = belay_spawn (first ? act_at : cancel_at, &instant);
          futures[1] = belay_spawn (first ? cancel_at : act_at, &instant);
          futures[2] = belay_spawn (send_some, &next);
          g_assert_true (belay_await_ok (belay_future_all (futures[0], futures[1], NULL), error));
          belay_scope_close (&scope, NULL);
          n = sum_received;
          if (n == 1)
            g_assert_cmpint (receive_number (channel), ==, 2);
          else
            g_assert_cmpint (n, ==, 2);
          g_assert_true (belay_await_ok (futures[2], error));
          assert_none_lost ();
        }
  return TRUE;
}

/* --- as futures --- */

/* Dropped while it waits; after the item came; and never looked at: the item is the next to be received. */
static gboolean
test_dropped_future (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (2, item_free);
  BelayFuture *waiting[3];

  begin_count ();
  for (guint i = 0; i < 3; i++)
    waiting[i] = belay_channel_receive_async (channel);
  belay_future_unref (waiting[0]);
  g_assert_cmpuint (belay_channel_get_n_receiving (channel), ==, 2);
  g_assert_true (send_number (channel, 1, error));
  g_assert_true (belay_future_is_resolved (waiting[1]));
  belay_future_unref (waiting[1]);                       /* it has it, and does not want it */
  g_assert_true (belay_future_is_resolved (waiting[2])); /* so the next one has */
  belay_future_unref (waiting[2]);
  g_assert_cmpuint (belay_channel_get_length (channel), ==, 1);
  g_assert_cmpint (receive_number (channel), ==, 1);
  assert_none_lost ();
  return TRUE;
}

/* What comes back is in front of what came later, though the channel be full. */
static gboolean
test_comes_back_in_front (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (8, item_free);
  BelayFuture *early;

  begin_count ();
  g_assert_true (send_number (channel, 0, error));
  early = belay_channel_receive_async (channel);
  for (int i = 1; i <= 8; i++)
    g_assert_true (send_number (channel, i, error));
  belay_future_unref (early);
  g_assert_cmpuint (belay_channel_get_length (channel), ==, 9);
  {
    g_autoptr (Item) item = item_new (9);
    g_assert_false (belay_channel_try_send (channel, &item, NULL));
  }
  for (int i = 0; i <= 8; i++)
    g_assert_cmpint (receive_number (channel), ==, i);
  assert_none_lost ();

  /* To a closed channel it comes back, to one that was aborted it does not; and it may be the last that keeps it. */
  g_assert_true (send_number (channel, 10, error));
  early = belay_channel_receive_async (channel);
  belay_channel_close (channel);
  belay_future_unref (early);
  g_assert_cmpint (receive_number (channel), ==, 10);
  for (int i = 0; i < 2; i++)
    {
      BelayChannel *other = belay_channel_new (1, item_free);

      g_assert_true (send_number (other, i, error));
      early = belay_channel_receive_async (other);
      if (i == 1)
        belay_channel_abort (other);
      belay_channel_unref (other);
      belay_future_unref (early);
    }
  assert_none_lost ();
  return TRUE;
}

/* A value on loan goes on through what is made of its future, and can be taken once. */
static gboolean
test_loan_through_others (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (4, item_free);
  BelayFuture *one, *other, *both;
  g_autoptr (GError) failure = NULL;

  begin_count ();
  one = belay_channel_receive_async (channel);
  other = belay_channel_receive_async (channel);
  both = belay_future_race (one, other, NULL);
  g_assert_true (send_number (channel, 1, error));
  {
    g_autoptr (Item) item = belay_await (both, error);
    g_assert_cmpint (item->n, ==, 1);
  }
  g_assert_cmpuint (belay_channel_get_n_receiving (channel), ==, 0);
  one = belay_future_with_timeout (belay_channel_receive_async (channel), 10);
  g_assert_null (belay_await (one, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&failure);
  g_assert_cmpuint (belay_channel_get_n_receiving (channel), ==, 0);
  one = belay_future_with_timeout (belay_channel_receive_async (channel), 10);
  g_assert_true (send_number (channel, 2, error));
  belay_future_unref (one);
  g_assert_cmpint (receive_number (channel), ==, 2);

  one = belay_channel_receive_async (channel);
  g_assert_true (send_number (channel, 3, error));
  item_free (belay_future_take (one, error));
  g_assert_null (belay_future_take (one, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_TAKEN);
  belay_future_unref (one);
  assert_none_lost ();
  return TRUE;
}

static gboolean
test_dropped_send (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  BelayFuture *futures[3];

  begin_count ();
  for (int i = 0; i < 3; i++)
    futures[i] = belay_channel_send_async (channel, item_new (i));
  g_assert_true (belay_future_is_resolved (futures[0]));
  belay_future_unref (futures[0]); /* it is sent all the same */
  belay_future_unref (futures[1]); /* it is not */
  g_assert_cmpint (n_freed, ==, 1);
  g_assert_cmpint (receive_number (channel), ==, 0);
  g_assert_cmpint (receive_number (channel), ==, 2);
  g_assert_true (belay_await_ok (futures[2], error));
  assert_none_lost ();
  return TRUE;
}

static gboolean
test_refused (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  belay_auto (BelayTimeout) limit = belay_timeout (0);
  g_autoptr (GError) failure = NULL;

  begin_count ();
  g_assert_false (belay_await_ok (belay_channel_send_async (channel, item_new (1)), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_none_lost ();
  g_assert_cmpuint (belay_channel_get_length (channel), ==, 0);
  return TRUE;
}

/* --- under many schedules --- */

typedef struct
{
  BelayChannel *channel;
  int           n_sent;  /* the sum of what was handed over */
  int           last[3]; /* of each sender: what was received last; an order of its own each has */
} Market;

typedef struct
{
  Market *market;
  int     n;
} Trader;

static gboolean
trade_out (gpointer data, GError **error)
{
  Trader *self = data;
  belay_auto (BelaySender) sender = belay_channel_add_sender (self->market->channel);

  for (int i = 0; i < 8; i++)
    {
      int n = self->n * 100 + i;
      g_autoptr (Item) item = item_new (n);

      if (belay_test_chance (6) == 0)
        {
          BelayFuture *sending = belay_channel_send_async (self->market->channel, g_steal_pointer (&item));

          self->market->n_sent += n;
          if (!belay_await_ok (sending, NULL))
            {
              self->market->n_sent -= n;
              return TRUE;
            }
          continue;
        }
      if (!belay_channel_send (self->market->channel, &item, NULL))
        {
          g_assert_nonnull (item);
          return TRUE;
        }
      self->market->n_sent += n;
      if (belay_test_chance (4) == 0 && !belay_yield (NULL))
        return TRUE;
    }
  return TRUE;
}

static gboolean
trade_in (gpointer data, GError **error)
{
  Market *market = data;

  for (;;)
    {
      guint how = belay_test_chance (8);
      belay_auto (BelayTimeout) limit = belay_timeout (how == 1 ? belay_test_chance (3) : 1000);
      g_autoptr (Item) item = NULL;

      if (how == 0)
        {
          BelayFuture *dropped = belay_channel_receive_async (market->channel);

          belay_yield (NULL);
          belay_future_get_error (dropped); /* seen, if it is closed */
          belay_future_unref (dropped);
          continue;
        }
      if (how == 2)
        item = belay_await (belay_channel_receive_async (market->channel), NULL);
      else
        item = belay_channel_receive (market->channel, NULL);
      if (item == NULL)
        {
          if (belay_timeout_expired (limit))
            continue;
          return TRUE; /* closed, or cancelled */
        }
      atomic_fetch_add (&sum_received, item->n);
    }
}

/* What was sent is what was received and what is left, whoever is cancelled when. */
static gboolean
test_market (gpointer data, GError **error)
{
  Market market = { belay_channel_new (belay_test_chance (4), item_free), 0, { -1, -1, -1 } };
  Trader traders[3] = { { &market, 1 }, { &market, 2 }, { &market, 3 } };
  belay_auto (BelaySender) open = belay_channel_add_sender (market.channel);
  BelayScope *out = belay_scope_new (), *cancelled = belay_scope_new (), *in = belay_scope_new ();
  Item *left;

  begin_count ();
  for (guint i = 0; i < 3; i++)
    g_assert_true (belay_scope_spawn (i == 2 ? cancelled : out, trade_out, &traders[i], NULL));
  for (guint i = 0; i < 2; i++)
    g_assert_true (belay_scope_spawn (in, trade_in, &market, NULL));
  g_assert_true (belay_scope_spawn (cancelled, trade_in, &market, NULL));
  for (guint i = belay_test_chance (20); i > 0; i--)
    g_assert_true (belay_yield (error));
  belay_scope_cancel (cancelled, "enough");
  belay_scope_close (&cancelled, NULL);
  belay_release (&open);
  g_assert_true (belay_scope_close (&out, error));
  g_assert_true (belay_channel_is_closed (market.channel));
  g_assert_true (belay_scope_close (&in, error));
  while ((left = belay_channel_try_receive (market.channel, NULL)) != NULL)
    receive_item (left);
  g_assert_cmpint (sum_received, ==, market.n_sent);
  belay_channel_unref (market.channel);
  assert_none_lost ();
  return TRUE;
}

/* Each checkpoint of a producer and a consumer cancelled. */
static gboolean
small_market (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (1, item_free);
  Part part = { channel, 1, 3, "" }, receiver = { channel, 0, 0, NULL };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  begin_count ();
  if (!belay_scope_spawn (scope, send_guarded, &part, NULL) || !belay_scope_spawn (scope, receive_all, &receiver, NULL))
    return belay_scope_close (&scope, error);
  if (!belay_scope_close (&scope, error))
    {
      belay_channel_abort (channel);
      assert_none_lost ();
      return FALSE;
    }
  g_assert_cmpint (sum_received, ==, 6);
  assert_none_lost ();
  return TRUE;
}

static gboolean
test_everywhere (gpointer data, GError **error)
{
  guint n = belay_test_cancel_everywhere (small_market, NULL);

  g_assert_cmpuint (n, >, 5);
  belay_test_expire_everywhere (small_market, NULL);
  thing_clear_log ();
  return TRUE;
}

/* --- real threads --- */

static gpointer
send_there (gpointer channel)
{
  Item *item = item_new (1);

  g_assert_true (belay_channel_try_send (channel, &item, NULL));
  return NULL;
}

/* Served from another thread when it is interrupted already, but has not run yet: it has the item. */
static gboolean
test_served_from_another_thread (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (0, item_free);
  Part part = { channel, 0, 0, NULL };
  BelayScope *scope = belay_scope_new ();

  begin_count ();
  g_assert_true (belay_scope_spawn (scope, receive_directly, &part, NULL));
  g_assert_true (belay_sleep (1, error)); /* it waits */
  belay_scope_cancel (scope, "interrupted");
  g_thread_join (g_thread_new ("sender", send_there, channel));
  belay_scope_close (&scope, NULL);
  g_assert_cmpint (sum_received, ==, 1);
  assert_none_lost ();
  return TRUE;
}

#define EACH 2000

static gboolean
send_many (gpointer data, GError **error)
{
  BelayChannel *channel = data;
  belay_auto (BelaySender) sender = belay_channel_add_sender (channel);

  for (int i = 0; i < EACH; i++)
    if (!send_number (channel, 1, error))
      return FALSE;
  return TRUE;
}

static gboolean
receive_many (gpointer data, GError **error)
{
  Part part = { data, 0, 0, NULL };

  return receive_all (&part, error);
}

static gpointer
send_from_thread (gpointer data)
{
  BelayChannel *channel = data;
  belay_auto (BelaySender) sender = belay_channel_add_sender (channel);

  for (int i = 0; i < EACH; i++)
    {
      BelayFuture *future = belay_channel_send_async (channel, item_new (1));

      g_assert_true (belay_future_wait_sync (future, NULL));
      belay_future_unref (future);
    }
  return NULL;
}

static atomic_bool enough;

/* Receivers that take futures and drop them, again and again, on a thread of their own. */
static gpointer
drop_from_thread (gpointer data)
{
  BelayChannel *channel = data;

  while (!atomic_load (&enough))
    {
      BelayFuture *future = belay_channel_receive_async (channel);

      g_thread_yield ();
      belay_future_unref (future);
    }
  return NULL;
}

static gboolean
join_thread (gpointer data, GError **error)
{
  g_thread_join (data);
  return TRUE;
}

static gboolean
test_threads (gpointer data, GError **error)
{
  guint capacities[] = { 0, 1, 16, G_MAXUINT };

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  for (guint round = 0; round < G_N_ELEMENTS (capacities); round++)
    {
      g_autoptr (BelayChannel) channel = belay_channel_new (capacities[round], item_free);
      BelaySender *open = belay_channel_add_sender (channel);
      belay_auto (BelayLoop) one = belay_loop_new ("one");
      belay_auto (BelayLoop) two = belay_loop_new ("two");
      BelayFuture *futures[5];
      GThread *threads[2];

      begin_count ();
      atomic_store (&enough, FALSE);
      futures[0] = belay_loop_spawn (one, send_many, channel, NULL);
      futures[1] = belay_loop_spawn (two, receive_many, channel, NULL);
      futures[2] = belay_loop_spawn (one, receive_many, channel, NULL);
      futures[3] = belay_spawn (send_many, channel);
      futures[4] = belay_spawn (receive_many, channel);
      threads[0] = g_thread_new ("sender", send_from_thread, channel);
      threads[1] = g_thread_new ("dropper", drop_from_thread, channel);
      g_assert_true (belay_await_ok (belay_future_all (futures[0], futures[3], NULL), error));
      g_assert_true (belay_await_ok (belay_thread_run (join_thread, threads[0]), error));
      atomic_store (&enough, TRUE);
      g_thread_join (threads[1]);
      belay_release (&open);
      g_assert_true (belay_await_ok (belay_future_all (futures[1], futures[2], futures[4], NULL), error));
      while (belay_channel_get_length (channel) > 0) /* what came back after the end */
        atomic_fetch_add (&sum_received, receive_number (channel));
      g_assert_cmpint (sum_received, ==, 3 * EACH);
      assert_none_lost ();
      g_assert_true (belay_close (&two, error));
      g_assert_true (belay_close (&one, error));
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);

  thing_add_test ("/channel/L31-first-in-first-out", test_fifo);
  thing_add_test ("/channel/full-holds-senders-back", test_bounded);
  thing_add_test ("/channel/rendezvous", test_rendezvous);
  thing_add_test ("/channel/unbounded", test_unbounded);
  thing_add_test ("/channel/L31-lines-are-first-come-first-served", test_lines_are_fifo);
  thing_add_test ("/channel/L31-nobody-overtakes", test_no_barging);
  thing_add_plain_test ("/channel/try", test_try);
  thing_add_test ("/channel/L34-no-item", test_misuse);
  thing_add_plain_test ("/channel/outside-of-fibers", test_outside);
  thing_add_test ("/channel/L36-close-drains", test_close_drains);
  thing_add_test ("/channel/L36-close-wakes-all-once", test_close_wakes_all);
  thing_add_test ("/channel/L36-closed-and-dropped-at-once", test_closed_and_dropped);
  thing_add_test ("/channel/L36-abort-drops", test_abort);
  thing_add_test ("/channel/L32-items-left-are-freed", test_items_left_are_freed);
  thing_add_test ("/channel/L41-freed-under-no-lock", test_free_reenters);
  thing_add_test ("/channel/items-that-are-resources", test_resources);
  thing_add_test ("/channel/L34-last-reference-with-waiters", test_last_reference_with_waiters);
  thing_add_test ("/channel/last-sender-closes", test_senders);
  thing_add_test ("/channel/L34-guards-released-twice", test_guards_released_twice);
  thing_add_test ("/channel/L34-last-receiver-breaks", test_receivers);
  thing_add_test ("/channel/L36-receivers-leave-what-is-closed", test_receivers_leave_what_is_closed);
  thing_add_test ("/channel/guards-keep-it", test_guard_keeps_it);
  belay_test_add_data_func ("/channel/L32-each-instant-of-receiving", NULL, test_each_instant_of_receiving);
  belay_test_add_data_func ("/channel/L32-each-instant-of-receiving-by-a-future", "", test_each_instant_of_receiving);
  thing_add_test ("/channel/L32-each-instant-of-sending", test_each_instant_of_sending);
  thing_add_test ("/channel/L32-future-dropped", test_dropped_future);
  thing_add_test ("/channel/L32-comes-back-in-front", test_comes_back_in_front);
  thing_add_test ("/channel/L32-through-other-futures", test_loan_through_others);
  thing_add_test ("/channel/L32-send-dropped", test_dropped_send);
  thing_add_test ("/channel/send-refused", test_refused);
  belay_test_explore ("/channel/L32-market", test_market);
  thing_add_single_test ("/channel/L32-cancelled-everywhere", test_everywhere);
  thing_add_single_test ("/channel/L32-served-from-another-thread-when-interrupted", test_served_from_another_thread);
  thing_add_single_test ("/channel/L32-threads", test_threads);
  return g_test_run ();
}
