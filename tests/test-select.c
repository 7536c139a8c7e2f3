/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Select: one of several, just one, any of them in its turn, and nothing is lost. */
#include "thing.h"

#include <stdatomic.h>

#define N(n) GINT_TO_POINTER (n)

static void
put (BelayChannel *channel, int n)
{
  gpointer item = N (n);

  g_assert_true (belay_channel_try_send (channel, &item, NULL));
}

/* --- what is ready --- */

static gboolean
test_ready (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) a = belay_channel_new (1, NULL);
  g_autoptr (BelayChannel) b = belay_channel_new (1, NULL);
  gpointer got = NULL, item = N (7);
  BelaySelectCase cases[] = { { .channel = a, .receive = &got }, { .channel = b, .send = &item } };

  g_assert_cmpint (belay_select (cases, 2, error), ==, 1); /* a is empty, b has room */
  g_assert_null (item);
  g_assert_false (cases[1].closed);
  item = N (8);
  put (a, 1);
  g_assert_cmpint (belay_select (cases, 2, error), ==, 0); /* now b is full */
  g_assert_true (got == N (1) && item == N (8));
  g_assert_cmpint (belay_try_select (cases, 2), ==, -1);
  g_assert_true (belay_channel_receive (b, error) == N (7));
  g_assert_cmpint (belay_try_select (cases, 2), ==, 1);
  return TRUE;
}

/* Of several that are ready each is chosen as often as the others, more or less. */
static gboolean
test_fair (gpointer data, GError **error)
{
  BelayChannel *channels[4];
  BelaySelectCase cases[4];
  guint n_chosen[4] = { 0 };
  gpointer got;

  for (guint i = 0; i < 4; i++)
    {
      channels[i] = belay_channel_new_unbounded (NULL);
      for (int k = 0; k < 1000; k++)
        put (channels[i], 1);
      cases[i] = (BelaySelectCase) { .channel = channels[i], .receive = &got };
    }
  for (guint i = 0; i < 1000; i++)
    n_chosen[belay_select (cases, 4, error)]++;
  for (guint i = 0; i < 4; i++)
    {
      g_assert_cmpuint (n_chosen[i], >, 150);
      g_assert_cmpuint (belay_channel_get_length (channels[i]), ==, 1000 - n_chosen[i]);
      belay_channel_unref (channels[i]);
    }
  return TRUE;
}

/* --- waiting --- */

typedef struct
{
  BelayChannel *a, *b;
  const char   *name;
  gboolean      sends; /* to b; else it receives from it */
} Chooser;

static gboolean
choose (gpointer data, GError **error)
{
  Chooser *self = data;
  gpointer from_a, from_b, item = N (9);
  BelaySelectCase cases[] = { { .channel = self->a, .receive = &from_a },
                              { .channel = self->b, .send = self->sends ? &item : NULL, .receive = self->sends ? NULL : &from_b } };
  int index = belay_select (cases, 2, error);

  if (index < 0)
    {
      g_assert_true (item == N (9));
      return FALSE;
    }
  if (cases[index].closed)
    thing_note ("%s:%d-closed", self->name, index);
  else if (index == 1 && self->sends)
    thing_note ("%s:sent", self->name);
  else
    thing_note ("%s:%d=%d", self->name, index, GPOINTER_TO_INT (index == 0 ? from_a : from_b));
  return TRUE;
}

static gboolean
test_waits (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) a = belay_channel_new (0, NULL);
  g_autoptr (BelayChannel) b = belay_channel_new (0, NULL);
  Chooser chooser = { a, b, "x" };
  BelayFuture *choosing = belay_spawn (choose, &chooser);
  gpointer item = N (4);

  g_assert_true (belay_sleep (1, error));
  g_assert_cmpuint (belay_channel_get_n_receiving (a), ==, 1);
  g_assert_cmpuint (belay_channel_get_n_receiving (b), ==, 1);
  put (b, 3);
  g_assert_false (belay_channel_try_send (a, &item, NULL)); /* it has chosen, and takes no more, though it still stands there */
  g_assert_true (belay_await_ok (choosing, error));
  assert_log ("x:1=3");
  g_assert_cmpuint (belay_channel_get_n_receiving (a), ==, 0);

  chooser.sends = TRUE;
  choosing = belay_spawn (choose, &chooser);
  g_assert_true (belay_sleep (1, error));
  g_assert_true (belay_channel_try_receive (b, NULL) == N (9));
  g_assert_false (belay_channel_try_send (a, &item, NULL));
  g_assert_true (belay_await_ok (choosing, error));
  assert_log ("x:sent");
  return TRUE;
}

/* Who is passed over lets the next one have it. */
static gboolean
test_passed_over (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) a = belay_channel_new (0, NULL);
  g_autoptr (BelayChannel) b = belay_channel_new (0, NULL);
  Chooser choosers[] = { { a, b, "x" }, { a, b, "y" } };
  BelayFuture *choosing[2];

  for (guint i = 0; i < 2; i++)
    {
      choosing[i] = belay_spawn (choose, &choosers[i]);
      g_assert_true (belay_sleep (1, error)); /* it waits */
    }
  put (a, 1);
  put (b, 2); /* x stands first there, too */
  g_assert_true (belay_await_ok (belay_future_allv (choosing, 2), error));
  assert_log_words ("x:0=1 y:1=2");
  return TRUE;
}

/* Two selects serve each other, but none serves itself. */
static gboolean
test_each_other (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) a = belay_channel_new (0, NULL);
  gpointer got = NULL, item = N (1);
  Chooser other = { a, a, "other", TRUE };
  BelaySelectCase cases[] = { { .channel = a, .receive = &got }, { .channel = a, .send = &item } };
  BelayFuture *choosing;

  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);

    g_assert_cmpint (belay_select (cases, 2, NULL), ==, -1);
    g_assert_true (belay_timeout_expired (limit));
  }
  choosing = belay_spawn (choose, &other);
  g_assert_cmpint (belay_select (cases, 2, error), >=, 0);
  g_assert_true (got == N (9) || item == NULL);
  g_assert_true (belay_await_ok (choosing, error));
  thing_clear_log ();
  g_assert_cmpuint (belay_channel_get_n_receiving (a) + belay_channel_get_n_sending (a), ==, 0);
  return TRUE;
}

/* One channel twice, and more cases than lie on the stack. */
static gboolean
test_same_channel (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) a = belay_channel_new (0, NULL);
  gpointer got[20] = { NULL };
  BelaySelectCase cases[20];
  BelayFuture *sending;
  int index;

  for (guint i = 0; i < 20; i++)
    cases[i] = (BelaySelectCase) { .channel = a, .receive = &got[i] };
  sending = belay_channel_send_async (a, N (5));
  index = belay_select (cases, 20, error);
  g_assert_true (index >= 0 && got[index] == N (5));
  g_assert_true (belay_await_ok (sending, error));
  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);

    g_assert_cmpint (belay_select (cases, 20, NULL), ==, -1);
  }
  g_assert_cmpuint (belay_channel_get_n_receiving (a), ==, 0);
  return TRUE;
}

/* --- the end of a channel --- */

static gboolean
test_closed (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) a = belay_channel_new (1, NULL);
  g_autoptr (BelayChannel) b = belay_channel_new (1, NULL);
  gpointer got = N (99), item = N (1);
  BelaySelectCase cases[] = { { .channel = a, .receive = &got }, { .channel = b, .receive = &got } };
  BelaySelectCase sending[] = { { .channel = a, .send = &item } };
  Chooser chooser = { a, b, "x" };
  BelayFuture *choosing = belay_spawn (choose, &chooser);

  g_assert_true (belay_sleep (1, error));
  belay_channel_close (a);
  g_assert_true (belay_await_ok (choosing, error));
  assert_log ("x:0-closed");

  g_assert_cmpint (belay_select (cases, 2, error), ==, 0);
  g_assert_true (cases[0].closed && got == NULL);
  cases[0].channel = NULL; /* never again */
  put (b, 2);
  g_assert_cmpint (belay_select (cases, 2, error), ==, 1);
  g_assert_true (got == N (2) && !cases[0].closed);
  g_assert_cmpint (belay_select (sending, 1, error), ==, 0);
  g_assert_true (sending[0].closed && item == N (1));
  return TRUE;
}

static gboolean
test_misuse (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) a = belay_channel_new (1, NULL);
  gpointer none = NULL;
  BelaySelectCase nowhere[] = { { .channel = NULL } }, nothing[] = { { .channel = a, .send = &none } }, both[] = { { .channel = a } };
  g_autoptr (GError) failure = NULL;

  expect_critical ("*nothing to wait for*");
  g_assert_cmpint (belay_select (nowhere, 1, &failure), ==, -1);
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&failure);
  expect_critical ("*case 0 has no item*");
  g_assert_cmpint (belay_select (nothing, 1, &failure), ==, -1);
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  expect_critical ("*case 0 has no item*");
  g_assert_cmpint (belay_try_select (both, 1), ==, -1);
  return TRUE;
}

static void
test_outside (void)
{
  g_autoptr (BelayChannel) a = belay_channel_new (1, NULL);
  gpointer got;
  BelaySelectCase cases[] = { { .channel = a, .receive = &got } };
  g_autoptr (GError) failure = NULL;

  expect_critical ("*belay_select: waits*");
  g_assert_cmpint (belay_select (cases, 1, &failure), ==, -1);
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_NO_FIBER);
  put (a, 1);
  g_assert_cmpint (belay_try_select (cases, 1), ==, 0);
}

/* --- nothing is lost, and nothing comes twice --- */

typedef struct
{
  BelayChannel *channels[3];
  int           sent, received;
} Fair;

/* Sends what it has to any, or receives from any, until time is up or the fair is over. */
static gboolean
go_round (gpointer data, GError **error)
{
  Fair *fair = data;

  for (int i = 0; i < 10; i++)
    {
      int n = 1 + (int) belay_test_chance (100), index;
      gpointer got = NULL, item = N (n);
      BelaySelectCase cases[4];
      guint n_cases = 1 + belay_test_chance (4);
      belay_auto (BelayTimeout) limit = belay_timeout (belay_test_chance (3));

      for (guint k = 0; k < n_cases; k++)
        {
          BelayChannel *channel = fair->channels[belay_test_chance (3)];

          cases[k] = belay_test_chance (2) == 0 ? (BelaySelectCase) { .channel = channel, .send = &item }
                                                : (BelaySelectCase) { .channel = channel, .receive = &got };
        }
      index = belay_test_chance (5) == 0 ? belay_try_select (cases, n_cases) : belay_select (cases, n_cases, NULL);
      g_assert_true (index >= 0 || (got == NULL && item == N (n)));
      g_assert_true (got == NULL || item != NULL); /* just one of them */
      if (item == NULL)
        fair->sent += n;
      fair->received += GPOINTER_TO_INT (got);
      if (index >= 0)
        g_assert_true (cases[index].closed == (item != NULL && got == NULL));
      if (index < 0 && !belay_timeout_expired (limit) && !belay_yield (NULL))
        return TRUE;
    }
  return TRUE;
}

static gboolean
test_fair_ground (gpointer data, GError **error)
{
  Fair fair = { { NULL } };
  BelayScope *cancelled = belay_scope_new (), *others = belay_scope_new ();
  gpointer left;

  for (guint i = 0; i < 3; i++)
    fair.channels[i] = belay_channel_new (belay_test_chance (3), NULL);
  for (guint i = 0; i < 5; i++)
    g_assert_true (belay_scope_spawn (i < 2 ? cancelled : others, go_round, &fair, NULL));
  for (guint i = belay_test_chance (20); i > 0; i--)
    g_assert_true (belay_yield (error));
  belay_scope_cancel (cancelled, "enough");
  belay_scope_close (&cancelled, NULL);
  if (belay_test_chance (2) == 0)
    belay_channel_close (fair.channels[0]);
  g_assert_true (belay_scope_close (&others, error));
  for (guint i = 0; i < 3; i++)
    {
      g_assert_cmpuint (belay_channel_get_n_sending (fair.channels[i]) + belay_channel_get_n_receiving (fair.channels[i]), ==, 0);
      while ((left = belay_channel_try_receive (fair.channels[i], NULL)) != NULL)
        fair.received += GPOINTER_TO_INT (left);
      belay_channel_unref (fair.channels[i]);
    }
  g_assert_cmpint (fair.sent, ==, fair.received);
  return TRUE;
}

/* --- real threads --- */

static gpointer
send_there (gpointer channel)
{
  put (channel, 5);
  return NULL;
}

/* Served from another thread when it is interrupted already, but has not run yet: it has what it was given. */
static gboolean
test_served_from_another_thread (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) a = belay_channel_new (0, NULL);
  g_autoptr (BelayChannel) b = belay_channel_new (0, NULL);
  Chooser chooser = { a, b, "x" };
  BelayScope *scope = belay_scope_new ();

  g_assert_true (belay_scope_spawn (scope, choose, &chooser, NULL));
  g_assert_true (belay_sleep (1, error)); /* it waits */
  belay_scope_cancel (scope, "interrupted");
  g_thread_join (g_thread_new ("sender", send_there, b));
  belay_scope_close (&scope, NULL);
  assert_log ("x:1=5");
  g_assert_cmpuint (belay_channel_get_n_receiving (a), ==, 0);
  return TRUE;
}

#define EACH 3000

typedef struct
{
  BelayChannel *a, *b, *done;
} Ring;

static atomic_int sum;

static gboolean
send_either (gpointer data, GError **error)
{
  Ring *ring = data;

  for (int i = 0; i < EACH; i++)
    {
      gpointer item = N (1), unused;
      BelaySelectCase cases[] = { { .channel = ring->a, .send = &item }, { .channel = ring->b, .send = &item },
                                  { .channel = ring->done, .receive = &unused } };

      if (belay_select (cases, 3, error) < 0)
        return FALSE;
      g_assert_null (item);
    }
  return TRUE;
}

static gboolean
receive_either (gpointer data, GError **error)
{
  Ring *ring = data;

  for (;;)
    {
      gpointer got = NULL;
      BelaySelectCase cases[] = { { .channel = ring->b, .receive = &got }, { .channel = ring->done, .receive = &got },
                                  { .channel = ring->a, .receive = &got } };
      int index = belay_select (cases, 3, error);

      if (index < 0)
        return FALSE;
      if (index == 1)
        return TRUE;
      atomic_fetch_add (&sum, GPOINTER_TO_INT (got));
    }
}

static gboolean
test_threads (gpointer data, GError **error)
{
  for (guint capacity = 0; capacity < 3; capacity++)
    {
      Ring ring = { belay_channel_new (capacity, NULL), belay_channel_new (capacity, NULL), belay_channel_new (0, NULL) };
      belay_auto (BelayLoop) one = belay_loop_new ("one");
      belay_auto (BelayLoop) two = belay_loop_new ("two");
      BelayFuture *sending[3], *receiving[3];
      gpointer left;

      belay_scope_set_release_timeout (belay_scope_current (), -1);
      sum = 0;
      receiving[0] = belay_loop_spawn (one, receive_either, &ring, NULL);
      receiving[1] = belay_loop_spawn (two, receive_either, &ring, NULL);
      receiving[2] = belay_spawn (receive_either, &ring);
      sending[0] = belay_loop_spawn (one, send_either, &ring, NULL);
      sending[1] = belay_loop_spawn (two, send_either, &ring, NULL);
      sending[2] = belay_spawn (send_either, &ring);
      g_assert_true (belay_await_ok (belay_future_allv (sending, 3), error));
      belay_channel_close (ring.done);
      g_assert_true (belay_await_ok (belay_future_allv (receiving, 3), error));
      while ((left = belay_channel_try_receive (ring.a, NULL)) != NULL || (left = belay_channel_try_receive (ring.b, NULL)) != NULL)
        sum += GPOINTER_TO_INT (left);
      g_assert_cmpint (sum, ==, 3 * EACH);
      g_assert_true (belay_close (&two, error) && belay_close (&one, error));
      belay_channel_unref (ring.a);
      belay_channel_unref (ring.b);
      belay_channel_unref (ring.done);
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);

  thing_add_test ("/select/ready", test_ready);
  thing_add_test ("/select/fair", test_fair);
  thing_add_test ("/select/waits", test_waits);
  thing_add_test ("/select/L31-passed-over", test_passed_over);
  thing_add_test ("/select/each-other", test_each_other);
  thing_add_test ("/select/one-channel-many-times", test_same_channel);
  thing_add_test ("/select/L36-closed", test_closed);
  thing_add_test ("/select/L34-misuse", test_misuse);
  thing_add_plain_test ("/select/outside-of-fibers", test_outside);
  belay_test_explore ("/select/L32-fair-ground", test_fair_ground);
  thing_add_single_test ("/select/L32-served-from-another-thread-when-interrupted", test_served_from_another_thread);
  thing_add_single_test ("/select/L32-threads", test_threads);
  return g_test_run ();
}
