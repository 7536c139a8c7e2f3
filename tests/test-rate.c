/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rate limiter and the ticker: exact in virtual time, first come first served, and nobody pays for who has left. */
#include "thing.h"

typedef struct
{
  BelayRateLimiter *limiter;
  guint             n;
  const char       *name;
  gint64            begin; /* ms */
} User;

/* Notes its name and when it had its tokens. */
static gboolean
take (gpointer data, GError **error)
{
  User *user = data;

  if (!belay_rate_limiter_acquire (user->limiter, user->n, error))
    return FALSE;
  thing_note ("%s@%" G_GINT64_FORMAT, user->name, now_ms () - user->begin);
  return TRUE;
}

/* Lets out what comes of a cancellation. */
static gboolean
try_take (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  User *user = data;

  if (!take (user, &failure))
    thing_note ("%s:%s", user->name, g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CLOSED) ? "closed"
                                     : g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT) ? "too-many"
                                                                                                          : "left");
  return TRUE;
}

/* --- the bucket --- */

static gboolean
test_burst_then_rate (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (10, 3);
  User user = { limiter, 1, "x", now_ms () };

  g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, 3);
  for (guint i = 0; i < 6; i++)
    if (!take (&user, error))
      return FALSE;
  assert_log ("x@0 x@0 x@0 x@100 x@200 x@300");
  g_assert_true (belay_sleep (250, error));
  g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, 2);
  g_assert_true (belay_sleep (10000, error));
  g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, 3); /* and no more */
  g_assert_true (belay_rate_limiter_try_acquire (limiter, 3));
  g_assert_false (belay_rate_limiter_try_acquire (limiter, 1));
  g_assert_false (belay_rate_limiter_try_acquire (limiter, 4));
  return TRUE;
}

/* A third of a millisecond, a hundred in a minute, one a day, many a second: after long it is still the very microsecond. */
static gboolean
test_no_drift (gpointer data, GError **error)
{
  const struct { double rate; guint n; gint64 us; guint burst; } cases[] = {
    { 3000, 30000, 10 * G_USEC_PER_SEC }, { 100 / 60.0, 1000, 600 * G_USEC_PER_SEC }, { 3, 3000, 1000 * G_USEC_PER_SEC },
    { 1 / 86400.0, 400, (gint64) 400 * 86400 * G_USEC_PER_SEC }, { 0.3, 300, 1000 * G_USEC_PER_SEC }, { 7e6, 700000, G_USEC_PER_SEC / 10, 7 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (cases[i].rate, MAX (cases[i].burst, 1));
      gint64 begin;

      g_assert_true (belay_rate_limiter_acquire (limiter, MAX (cases[i].burst, 1), error));
      begin = belay_now ();
      for (guint j = 0; j < cases[i].n; j++)
        if (!belay_rate_limiter_acquire (limiter, 1, error))
          return FALSE;
      g_assert_cmpint (belay_now () - begin, ==, cases[i].us);
    }
  return TRUE;
}

/* It was looked at often, at odd instants: nothing is rounded away. */
static gboolean
test_looked_at_often (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (1000 / 3.0, 10000);

  g_assert_true (belay_rate_limiter_acquire (limiter, 10000, error));
  for (guint i = 0; i < 10000; i++)
    {
      g_assert_true (belay_sleep (1, error));
      belay_rate_limiter_get_available (limiter);
    }
  g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, 3333);
  return TRUE;
}

/* One token in a time longer than the world's: there is the burst, and nothing more. */
static gboolean
test_hardly_any (gpointer data, GError **error)
{
  const double rates[] = { 1e-12, 1e-13, 1e-18, 1e-300, G_MINDOUBLE, 0 };
  const guint bursts[] = { 1, 7, 1000000, G_MAXUINT };

  for (guint i = 0; i < G_N_ELEMENTS (rates); i++)
    for (guint j = 0; j < G_N_ELEMENTS (bursts); j++)
      {
        g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (rates[i], bursts[j]);

        g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, bursts[j]);
        g_assert_true (belay_rate_limiter_try_acquire (limiter, bursts[j]));
        g_assert_false (belay_rate_limiter_try_acquire (limiter, 1));
        g_assert_true (belay_sleep (1000, error));
        g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, 0);
      }
  return TRUE;
}

/* The loop is late by a part of a token each time, and once by far: the line loses nothing of the first, and a burst of the other. */
static gboolean
test_late (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (100, 2);
  User user = { limiter, 1, "x", now_ms () };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_rate_limiter_try_acquire (limiter, 2));
  for (guint i = 0; i < 20; i++)
    g_assert_true (belay_scope_spawn (scope, take, &user, NULL));
  g_assert_true (belay_yield (error));
  for (guint i = 0; i < 4; i++)
    {
      belay_test_advance (13);
      g_assert_true (belay_await_ok (belay_future_delay (0), error)); /* the loop turns */
    }
  assert_log ("x@13 x@26 x@39 x@52 x@52");
  belay_test_advance (1000);
  g_assert_true (belay_await_ok (belay_future_delay (0), error));
  assert_log ("x@1052 x@1052 x@1052 x@1052");
  return belay_scope_close (&scope, error);
}

static gboolean
test_too_many (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (1, 5);
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  g_assert_false (belay_rate_limiter_acquire (limiter, 6, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_assert_nonnull (strstr (failure->message, "6 tokens"));
  g_clear_error (&failure);
  g_assert_false (belay_await_ok (belay_rate_limiter_acquire_async (limiter, 6), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT);
  g_assert_cmpint (now_ms (), ==, begin);
  g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, 5);
  return belay_rate_limiter_acquire (limiter, 0, error);
}

/* --- the line --- */

static gboolean
test_fifo (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (10, 5);
  User big = { limiter, 5, "big", now_ms () }, small = { limiter, 1, "small", now_ms () };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_rate_limiter_try_acquire (limiter, 4));
  g_assert_true (belay_scope_spawn (scope, take, &big, NULL));
  g_assert_true (belay_sleep (1, error)); /* who waits has come before the next does */
  g_assert_true (belay_scope_spawn (scope, take, &small, NULL));
  g_assert_true (belay_sleep (1, error));
  g_assert_false (belay_rate_limiter_try_acquire (limiter, 1)); /* there is one, but somebody waits */
  g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, 0);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("big@400 small@500");
  return TRUE;
}

/* Who leaves the front owes nothing: those behind are served as if it had never been there. */
static gboolean
test_cancelled (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (10, 5);
  User big = { limiter, 5, "big", now_ms () }, small = { limiter, 1, "small", now_ms () };
  BelayScope *leaving = belay_scope_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *dropped;

  g_assert_true (belay_rate_limiter_try_acquire (limiter, 5));
  dropped = belay_rate_limiter_acquire_async (limiter, 5);
  g_assert_true (belay_scope_spawn (leaving, try_take, &big, NULL));
  g_assert_true (belay_sleep (1, error));
  for (guint i = 0; i < 3; i++)
    g_assert_true (belay_scope_spawn (scope, take, &small, NULL));
  g_assert_true (belay_sleep (249, error));
  belay_future_unref (dropped);
  belay_scope_cancel (leaving, "enough");
  belay_scope_close (&leaving, NULL);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log_words ("big:left small@250 small@250 small@300");
  return TRUE;
}

static gboolean
test_futures (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (10, 1);
  gint64 begin = now_ms ();
  BelayFuture *first = belay_rate_limiter_acquire_async (limiter, 1), *second = belay_rate_limiter_acquire_async (limiter, 1);
  BelayFuture *third = belay_rate_limiter_acquire_async (limiter, 1);

  g_assert_false (belay_future_is_pending (first));
  belay_future_unref (first);
  belay_future_unref (second);
  g_assert_true (belay_await_ok (third, error));
  g_assert_cmpint (now_ms () - begin, ==, 100);
  return TRUE;
}

static gboolean
test_set_rate (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (1, 10);
  User one = { limiter, 1, "one", now_ms () }, many = { limiter, 8, "many", now_ms () }, last = { limiter, 1, "last", now_ms () };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_rate_limiter_try_acquire (limiter, 10));
  g_assert_true (belay_scope_spawn (scope, take, &one, NULL));
  g_assert_true (belay_sleep (1, error));
  g_assert_true (belay_scope_spawn (scope, try_take, &many, NULL));
  g_assert_true (belay_sleep (1, error));
  g_assert_true (belay_scope_spawn (scope, take, &last, NULL));
  g_assert_true (belay_sleep (498, error)); /* half a token is there, and stays */
  belay_rate_limiter_set_rate (limiter, 10, 5);
  g_assert_true (belay_sleep (100, error));
  assert_log ("many:too-many one@550");
  belay_rate_limiter_set_rate (limiter, 0, 5); /* half of the next */
  g_assert_true (belay_sleep (1000, error));
  assert_log ("");
  belay_rate_limiter_set_rate (limiter, 1, 5);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("last@2100");
  belay_rate_limiter_set_rate (limiter, 1e9, 5);
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpuint (belay_rate_limiter_get_available (limiter), ==, 5);
  return TRUE;
}

static gboolean
test_close (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (1, 2);
  User user = { limiter, 1, "user", now_ms () };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_rate_limiter_try_acquire (limiter, 2));
  for (guint i = 0; i < 2; i++)
    g_assert_true (belay_scope_spawn (scope, try_take, &user, NULL));
  g_assert_true (belay_yield (error));
  belay_rate_limiter_close (limiter);
  belay_rate_limiter_close (limiter);
  g_assert_true (belay_scope_spawn (scope, try_take, &user, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("user:closed user:closed user:closed");
  g_assert_true (belay_sleep (5000, error));
  g_assert_false (belay_rate_limiter_try_acquire (limiter, 1));
  return TRUE;
}

static gboolean
explore_limiter (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (100, 4);
  gint64 begin = now_ms ();
  BelayScope *scopes[6];
  User users[6];
  guint n_taken = 0;

  g_assert_true (belay_rate_limiter_try_acquire (limiter, 4));
  for (guint i = 0; i < 6; i++)
    {
      users[i] = (User) { limiter, 1 + belay_test_chance (4), "x", begin };
      scopes[i] = belay_scope_new ();
      g_assert_true (belay_scope_spawn (scopes[i], try_take, &users[i], NULL));
    }
  for (guint i = 0; i < 3; i++)
    {
      belay_sleep (belay_test_chance (40), NULL);
      belay_scope_cancel (scopes[belay_test_chance (6)], "enough");
    }
  for (guint i = 0; i < 6; i++)
    belay_scope_close (&scopes[i], NULL);
  /* What was taken was there, and what was not taken still is: the next token comes when it should. */
  for (const char *p = thing_log (); (p = strchr (p, '@')) != NULL; p++)
    n_taken++;
  g_assert_cmpuint (n_taken, >=, 3);
  begin = now_ms ();
  g_assert_true (belay_rate_limiter_acquire (limiter, 4, error));
  g_assert_cmpint (now_ms () - begin, <=, 40);
  return TRUE;
}

/*
 * By a model: who comes and who leaves is by the seed, and everybody has his tokens at the very millisecond at which a bucket on
 * paper has them for him. 100 a second: a level is in milliseconds, and a token is 10. Nobody leaves at an instant at which any come.
 */
typedef struct
{
  BelayRateLimiter *limiter;
  BelayScope       *scope;
  gint64            came, left, had, should_have; /* ms; -1: never */
  guint             n, nth;                       /* the nth to come */
} Client;

static guint n_come;

static gboolean
be_client (gpointer data, GError **error)
{
  Client *self = data;

  self->came = now_ms ();
  self->nth = n_come++;
  if (belay_rate_limiter_acquire (self->limiter, self->n, NULL))
    self->had = now_ms ();
  return TRUE;
}

static void
reckon (Client **in_order, guint n_clients, gint64 level, gint64 at, guint burst)
{
  for (guint i = 0; i < n_clients; i++)
    {
      Client *client = in_order[i];
      gint64 full = burst * 10, need = client->n * 10, turn = MAX (at, client->came); /* at which it is the first in line */
      gint64 then = MIN (level + turn - at, full), due = turn + MAX (need - then, 0);

      if (client->left >= 0 && client->left < due)
        {
          if (client->left <= turn)
            continue; /* before its turn: it was never there */
          client->should_have = -1;
          /* What came while it was the first is there; who is behind it came before it left, or later. */
          level = then + client->left - turn;
          at = client->left;
          continue;
        }
      client->should_have = due;
      level = MIN (then + due - turn, full) - need;
      at = due;
    }
}

static gboolean
explore_model (gpointer data, GError **error)
{
  const guint burst = 1 + belay_test_chance (5), n_clients = 12;
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (100, burst);
  gint64 begin = now_ms ();
  Client clients[12], *in_order[12];

  n_come = 0;
  for (guint i = 0; i < n_clients; i++)
    {
      clients[i] = (Client) { limiter, belay_scope_new (), -1, -1, -1, -1, 1 + belay_test_chance (burst) };
      g_assert_true (belay_scope_spawn (clients[i].scope, be_client, &clients[i], NULL));
      if (belay_test_chance (2) == 0)
        g_assert_true (belay_sleep (10 * (belay_test_chance (6)), error));
      if (belay_test_chance (3) == 0)
        {
          Client *leaves = &clients[belay_test_chance (i + 1)];

          g_assert_true (belay_sleep (3, error));
          if (leaves->left < 0 && leaves->had < 0)
            {
              leaves->left = now_ms ();
              belay_scope_cancel (leaves->scope, "enough");
            }
          g_assert_true (belay_sleep (7, error));
        }
      g_assert_true (belay_sleep (belay_test_chance (2) * 10, error));
    }
  for (guint i = 0; i < n_clients; i++)
    belay_scope_close (&clients[i].scope, NULL);
  g_assert_cmpuint (n_come, ==, n_clients);
  for (guint i = 0; i < n_clients; i++)
    in_order[clients[i].nth] = &clients[i];
  reckon (in_order, n_clients, burst * 10, begin, burst);
  for (guint i = 0; i < n_clients; i++)
    g_assert_cmpint (in_order[i]->had, ==, in_order[i]->should_have);
  return TRUE;
}

static gboolean
limited (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (10, 1);
  User user = { limiter, 1, "x", 0 };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 3; i++)
    if (!belay_scope_spawn (scope, take, &user, NULL))
      return belay_checkpoint (error);
  return belay_rate_limiter_acquire (limiter, 1, error) && belay_scope_close (&scope, error);
}

static gboolean
test_everywhere (gpointer data, GError **error)
{
  g_assert_cmpuint (belay_test_cancel_everywhere (limited, NULL), >, 3);
  g_assert_cmpuint (belay_test_expire_everywhere (limited, NULL), >, 3);
  return TRUE;
}

/* --- several loops, in real time --- */

typedef struct
{
  BelayRateLimiter *limiter;
  int               n, n_done;
} Crowd;

static gboolean
take_many (gpointer data, GError **error)
{
  Crowd *crowd = data;

  for (guint i = 0; i < 100; i++)
    {
      belay_auto (BelayTimeout) limit = i % 7 == 3 ? belay_timeout (0) : NULL;

      if (i % 10 == 9)
        belay_future_unref (belay_rate_limiter_acquire_async (crowd->limiter, 3));
      else if (belay_rate_limiter_acquire (crowd->limiter, 1 + i % 3, NULL))
        g_atomic_int_inc (&crowd->n);
      else if (limit == NULL)
        return belay_checkpoint (error);
    }
  g_atomic_int_inc (&crowd->n_done);
  return TRUE;
}

static gpointer
take_in_thread (gpointer data)
{
  Crowd *crowd = data;

  for (guint i = 0; i < 100; i++)
    {
      g_autoptr (BelayFuture) future = belay_rate_limiter_acquire_async (crowd->limiter, 1);

      g_assert_true (belay_future_wait_sync (future, NULL));
      g_atomic_int_inc (&crowd->n);
    }
  g_atomic_int_inc (&crowd->n_done);
  belay_external_end ();
  return NULL;
}

static gboolean
end_waiting (gpointer data, GError **error)
{
  return belay_rate_limiter_acquire (((Crowd *) data)->limiter, 1, error);
}

static gboolean
test_threads (gpointer data, GError **error)
{
  Crowd crowd = { belay_rate_limiter_new (1e6, 5) };
  belay_auto (BelayLoop) loop = belay_loop_new ("one");
  BelayFuture *futures[4];
  GThread *thread;

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  belay_external_begin ();
  thread = g_thread_new ("plain", take_in_thread, &crowd);
  for (guint i = 0; i < 4; i++)
    futures[i] = i < 2 ? belay_loop_spawn (loop, take_many, &crowd, NULL) : belay_spawn (take_many, &crowd);
  while (g_atomic_int_get (&crowd.n_done) < 5)
    {
      belay_test_advance (1); /* the clock stands still while the thread runs */
      if (!belay_yield (error))
        return FALSE;
    }
  g_assert_true (belay_await_ok (belay_future_allv (futures, 4), error));
  g_thread_join (thread);
  g_assert_true (belay_close (&loop, error));
  g_assert_cmpint (crowd.n, >=, 100 + 4 * 70);
  belay_rate_limiter_unref (crowd.limiter);
  return TRUE;
}

static gboolean
wait_there (gpointer data, GError **error)
{
  g_atomic_int_inc (&((Crowd *) data)->n_done);
  return end_waiting (data, error);
}

/* The loop that the pump was on ends while somebody waits elsewhere: it goes there. */
static gboolean
test_home_ends (gpointer data, GError **error)
{
  g_autoptr (BelayRateLimiter) limiter = belay_rate_limiter_new (1, 1);
  Crowd crowd = { limiter };
  belay_auto (BelayLoop) loop = belay_loop_new ("short");
  BelayFuture *there, *here;

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  g_assert_true (belay_rate_limiter_try_acquire (limiter, 1));
  belay_external_begin ();
  there = belay_loop_spawn (loop, wait_there, &crowd, NULL); /* the pump's first home */
  while (g_atomic_int_get (&crowd.n_done) == 0)
    g_assert_true (belay_yield (error));
  g_usleep (2000); /* it is likely to be in line by now, and else it comes after the other */
  here = belay_spawn (end_waiting, &crowd);
  g_assert_true (belay_yield (error));
  belay_future_unref (there); /* which cancels it */
  g_assert_true (belay_close (&loop, error));
  belay_external_end ();
  return belay_await_ok (here, error);
}

/* --- ticker --- */

/* Notes each tick, and works for so long after it. */
static gboolean
tick (BelayTicker *ticker, const gint64 *work_ms, guint n, GError **error)
{
  gint64 begin = now_ms ();

  for (guint i = 0; i < n; i++)
    {
      if (!belay_ticker_next (ticker, error))
        return FALSE;
      thing_note ("%" G_GINT64_FORMAT, now_ms () - begin);
      if (work_ms[i] > 0 && !belay_sleep (work_ms[i], error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
test_ticker (gpointer data, GError **error)
{
  const gint64 quick[] = { 0, 30, 99, 0 }, slow[] = { 0, 250, 0, 0, 0 };
  const struct { BelayTickerPolicy policy; const char *log; guint missed; } cases[] = {
    { BELAY_TICKER_SKIP, "100 200 450 500 600", 1 },
    { BELAY_TICKER_BURST, "100 200 450 450 500", 0 },
    { BELAY_TICKER_DELAY, "100 200 450 550 650", 1 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      belay_auto (BelayTicker) ticker = belay_ticker_new (100, cases[i].policy);

      if (!tick (ticker, quick, 4, error))
        return FALSE;
      assert_log ("100 200 300 400");
      g_assert_cmpuint (belay_ticker_get_n_missed (ticker), ==, 0);
      g_assert_true (belay_close (&ticker, error));
      ticker = belay_ticker_new (100, cases[i].policy);
      if (!tick (ticker, slow, 5, error))
        return FALSE;
      assert_log (cases[i].log);
      g_assert_cmpuint (belay_ticker_get_n_missed (ticker), ==, cases[i].missed);
    }
  return TRUE;
}

/* Late by a little, at the exact instant of a later tick, and by much. */
static gboolean
test_ticker_missed (gpointer data, GError **error)
{
  const gint64 work[] = { 200, 50, 1000, 0, 0 };
  belay_auto (BelayTicker) ticker = belay_ticker_new (100, BELAY_TICKER_SKIP);

  if (!tick (ticker, work, 5, error))
    return FALSE;
  assert_log ("100 300 400 1400 1500"); /* 200, and 500 to 1300 */
  g_assert_cmpuint (belay_ticker_get_n_missed (ticker), ==, 1 + 9);
  return TRUE;
}

static gboolean
test_ticker_no_drift (gpointer data, GError **error)
{
  belay_auto (BelayTicker) ticker = belay_ticker_new_per_second (60, BELAY_TICKER_SKIP);
  gint64 begin = belay_now ();

  for (guint i = 1; i <= 6000; i++)
    {
      if (!belay_ticker_next (ticker, error))
        return FALSE;
      if (i % 60 == 0)
        g_assert_cmpint (ABS (belay_now () - begin - (gint64) i / 60 * G_USEC_PER_SEC), <=, 1);
    }
  g_assert_cmpuint (belay_ticker_get_n_missed (ticker), ==, 0);
  return TRUE;
}

static gboolean
test_ticker_interrupted (gpointer data, GError **error)
{
  belay_auto (BelayTicker) ticker = belay_ticker_new (100, BELAY_TICKER_SKIP);
  gint64 begin = now_ms ();
  g_autoptr (GError) failure = NULL;

  {
    belay_auto (BelayTimeout) limit = belay_timeout (30);

    g_assert_false (belay_ticker_next (ticker, &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  }
  g_assert_true (belay_ticker_next (ticker, error));
  g_assert_cmpint (now_ms () - begin, ==, 100); /* it was still the next */
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/rate-limiter/a-burst-then-the-rate", test_burst_then_rate);
  thing_add_single_test ("/rate-limiter/does-not-drift", test_no_drift);
  thing_add_single_test ("/rate-limiter/looked-at-often", test_looked_at_often);
  thing_add_test ("/rate-limiter/hardly-any-rate", test_hardly_any);
  thing_add_single_test ("/rate-limiter/a-loop-that-is-late", test_late);
  thing_add_test ("/rate-limiter/L33-more-than-the-burst", test_too_many);
  thing_add_test ("/rate-limiter/L31-L33-first-come-first-served", test_fifo);
  thing_add_test ("/rate-limiter/L32-L33-who-leaves-owes-nothing", test_cancelled);
  thing_add_test ("/rate-limiter/as-futures", test_futures);
  thing_add_test ("/rate-limiter/L36-another-rate", test_set_rate);
  thing_add_test ("/rate-limiter/L36-close", test_close);
  belay_test_explore ("/rate-limiter/L32-in-any-order", explore_limiter);
  belay_test_explore ("/rate-limiter/L31-L32-L33-as-a-bucket-on-paper", explore_model);
  thing_add_single_test ("/rate-limiter/L32-interrupted-everywhere", test_everywhere);
  thing_add_single_test ("/rate-limiter/threads", test_threads);
  thing_add_single_test ("/rate-limiter/a-loop-ends", test_home_ends);
  thing_add_test ("/ticker/what-becomes-of-missed-ticks", test_ticker);
  thing_add_test ("/ticker/counts-what-it-left-out", test_ticker_missed);
  thing_add_single_test ("/ticker/does-not-drift", test_ticker_no_drift);
  thing_add_test ("/ticker/L21-interrupted", test_ticker_interrupted);
  return g_test_run ();
}
