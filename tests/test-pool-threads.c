/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool with real threads: users on several loops and on plain threads, in real time. */
#include "support.h"

#define N_LOOPS   3
#define N_FIBERS  8
#define N_ROUNDS  (test_is_watched () ? 40 : 400)
#define MAX_BOXES 4

typedef struct
{
  int n_live, n_made, peak; /* atomic */
} Shop;

typedef struct
{
  int in_use; /* atomic */
} Box;

static gpointer
create_box (const char *key, gpointer data, GError **error)
{
  Shop *shop = data;
  int n_live;

  if (!belay_yield (error))
    return NULL;
  if (g_atomic_int_add (&shop->n_made, 1) % 7 == 6)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED, "no box");
      return NULL;
    }
  n_live = g_atomic_int_add (&shop->n_live, 1) + 1;
  if (n_live > g_atomic_int_get (&shop->peak))
    g_atomic_int_set (&shop->peak, n_live);
  return g_new0 (Box, 1);
}

static gboolean
check_box (gpointer box, gpointer data, GError **error)
{
  g_assert_cmpint (g_atomic_int_get (&((Box *) box)->in_use), ==, 0);
  return belay_yield (error);
}

static gboolean
destroy_box (gpointer box, gpointer data, GError **error)
{
  g_assert_cmpint (g_atomic_int_get (&((Box *) box)->in_use), ==, 0);
  return belay_yield (error);
}

static void
free_box (gpointer box, gpointer data)
{
  g_atomic_int_add (&((Shop *) data)->n_live, -1);
  g_free (box);
}

#define BOXES .create = create_box, .validate = check_box, .reset = check_box, .destroy = destroy_box, .free = free_box, \
  .max_uses = 50, .validate_after = -1, .acquire_timeout = -1

static void
touch (Box *box)
{
  g_assert_cmpint (g_atomic_int_add (&box->in_use, 1), ==, 0);
  g_assert_true (g_atomic_int_dec_and_test (&box->in_use));
}

/* Of those who use it, each in a way of its own. */
typedef struct
{
  BelayPool *pool;
  guint      seed;
  guint      n_done;
} User;

static gboolean
use_once (User *user, GRand *chance, GError **error)
{
  const char *key = g_rand_int_range (chance, 0, 4) == 0 ? "other" : NULL;
  belay_auto (BelayTimeout) limit = belay_timeout (g_rand_int_range (chance, 0, 3) == 0 ? 1 : 60000);
  belay_auto (BelayLease) lease = belay_pool_acquire_key (user->pool, key, error);

  if (lease == NULL)
    return FALSE;
  touch (belay_lease_get (lease));
  user->n_done++;
  if (g_rand_int_range (chance, 0, 2) == 0 && !belay_yield (error))
    return FALSE;
  touch (belay_lease_get (lease));
  if (g_rand_int_range (chance, 0, 20) == 0)
    belay_lease_break (lease);
  if (g_rand_int_range (chance, 0, 100) == 0)
    belay_pool_invalidate (user->pool);
  if (g_rand_int_range (chance, 0, 50) == 0)
    belay_pool_resize (user->pool, 0, (guint) g_rand_int_range (chance, 1, MAX_BOXES + 1));
  return TRUE;
}

static gboolean
use (gpointer data, GError **error)
{
  User *user = data;
  GRand *chance = g_rand_new_with_seed (user->seed);

  for (int i = 0; i < N_ROUNDS; i++)
    {
      g_autoptr (GError) failure = NULL;

      if (!use_once (user, chance, &failure) && !g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT) &&
          !g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED))
        g_assert_no_error (failure);
    }
  g_rand_free (chance);
  return TRUE;
}

/* A plain thread: a future, and a lease that is left where there is no fiber. */
static gpointer
use_from_thread (gpointer data)
{
  User *user = data;

  for (int i = 0; i < N_ROUNDS; i++)
    {
      g_autoptr (BelayFuture) future = belay_pool_acquire_async (user->pool);
      g_autoptr (GError) failure = NULL;
      BelayLease *lease;

      if (i % 5 == 0)
        continue; /* dropped, at whatever instant */
      if (!belay_future_wait_sync (future, &failure))
        continue;
      lease = belay_future_take (future, &failure);
      g_assert_no_error (failure);
      touch (belay_lease_get (lease));
      user->n_done++;
      belay_release (&lease);
    }
  return NULL;
}

static gboolean
join (gpointer thread, GError **error)
{
  g_thread_join (thread);
  return TRUE;
}

static gboolean
test_everybody (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = MAX_BOXES }, &shop);
  BelayLoop *loops[N_LOOPS];
  User users[N_LOOPS * N_FIBERS + 1];
  BelayFuture *all[N_LOOPS * N_FIBERS];
  BelayPoolStats stats;
  GThread *thread;
  guint n_done = 0;

  for (guint i = 0; i < N_LOOPS; i++)
    loops[i] = belay_loop_new ("users");
  for (guint i = 0; i < G_N_ELEMENTS (all); i++)
    {
      users[i] = (User) { pool, i + 1, 0 };
      all[i] = belay_loop_spawn (loops[i % N_LOOPS], use, &users[i], NULL);
    }
  users[G_N_ELEMENTS (all)] = (User) { pool, 0, 0 };
  thread = g_thread_new ("user", use_from_thread, &users[G_N_ELEMENTS (all)]);
  if (!belay_await_ok (belay_future_allv (all, G_N_ELEMENTS (all)), error))
    return FALSE;
  if (!belay_await_ok (belay_thread_run (join, thread), error))
    return FALSE;
  for (guint i = 0; i < G_N_ELEMENTS (users); i++)
    n_done += users[i].n_done;
  g_assert_cmpuint (n_done, >, 0);

  belay_pool_get_stats (pool, &stats);
  while (stats.closing + stats.opening > 0)
    {
      if (!belay_sleep (1, error))
        return FALSE;
      belay_pool_get_stats (pool, &stats);
    }
  g_assert_cmpuint (stats.used + stats.waiting, ==, 0);
  g_assert_cmpint (g_atomic_int_get (&shop.peak), <=, MAX_BOXES);
  if (!belay_close (&pool, error))
    return FALSE;
  g_assert_cmpint (g_atomic_int_get (&shop.n_live), ==, 0);
  for (guint i = 0; i < N_LOOPS; i++)
    if (!belay_close (&loops[i], error))
      return FALSE;
  return TRUE;
}

/* A lease that another thread leaves, and a pool whose last user comes back after everybody else has gone. */
static gpointer
leave (gpointer data)
{
  BelayLease *lease = data;

  touch (belay_lease_get (lease));
  belay_release (&lease);
  return NULL;
}

static gboolean
test_left_elsewhere (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);

  for (int i = 0; i < (test_is_watched () ? 50 : 500); i++)
    {
      g_autoptr (GError) failure = NULL;
      BelayLease *lease = belay_pool_acquire (pool, &failure);

      if (lease == NULL)
        {
          g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
          continue;
        }
      belay_lease_hand_over (lease);
      g_thread_unref (g_thread_new ("leaver", leave, lease));
    }
  return belay_close (&pool, error);
}

/* By force, while it is used everywhere: what was lent is freed when it is left, all of it once. */
static gboolean
use_until_closed (gpointer data, GError **error)
{
  for (;;)
    {
      g_autoptr (GError) failure = NULL;
      belay_auto (BelayLease) lease = belay_pool_acquire (data, &failure);

      if (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CLOSED))
        return TRUE;
      if (lease != NULL && !belay_yield (error))
        return FALSE;
    }
}

static void
abandon_box (gpointer box, gpointer data)
{
}

static gboolean
test_abandoned (gpointer data, GError **error)
{
  for (int i = 0; i < (test_is_watched () ? 5 : 50); i++)
    {
      Shop shop = { 0 };
      BelayPool *pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .abandon = abandon_box, .max = MAX_BOXES }, &shop);
      BelayLoop *loops[N_LOOPS];
      BelayFuture *all[N_LOOPS * N_FIBERS];
      BelayPoolStats stats;

      for (guint l = 0; l < N_LOOPS; l++)
        loops[l] = belay_loop_new ("users");
      for (guint f = 0; f < G_N_ELEMENTS (all); f++)
        all[f] = belay_loop_spawn (loops[f % N_LOOPS], use_until_closed, pool, NULL);
      if (!belay_sleep (i % 5, error))
        return FALSE;
      belay_pool_abandon (pool);
      if (!belay_await_ok (belay_future_allv (all, G_N_ELEMENTS (all)), error))
        return FALSE;
      do
        {
          if (!belay_sleep (1, error))
            return FALSE;
          belay_pool_get_stats (pool, &stats);
        }
      while (stats.idle + stats.used + stats.opening + stats.closing + stats.waiting > 0);
      belay_pool_unref (pool);
      g_assert_cmpint (g_atomic_int_get (&shop.n_live), ==, 0);
      for (guint l = 0; l < N_LOOPS; l++)
        if (!belay_close (&loops[l], error))
          return FALSE;
    }
  return TRUE;
}

/* Its home ends while it is used elsewhere. */
typedef struct
{
  BelayPool *pool;
  Shop       shop;
} Away;

static gboolean
make_pool (gpointer data, GError **error)
{
  Away *away = data;

  away->pool = belay_pool_new (&(BelayPoolOptions) {
      .create = create_box, .validate = check_box, .reset = check_box, .destroy = destroy_box, .abandon = abandon_box,
      .free = free_box, .max = 2, .max_idle_time = 1 }, &away->shop);
  return TRUE;
}

static gboolean
use_while_home_ends (gpointer data, GError **error)
{
  for (int i = 0; i < N_ROUNDS; i++)
    {
      g_autoptr (GError) failure = NULL;
      belay_auto (BelayTimeout) limit = belay_timeout (i % 3 == 0 ? 1 : 60000);
      belay_auto (BelayLease) lease = belay_pool_acquire (data, &failure);

      if (lease != NULL)
        touch (belay_lease_get (lease));
      belay_yield (NULL);
    }
  return TRUE;
}

static gpointer
create_thing (const char *key, gpointer data, GError **error)
{
  return data;
}

static gboolean
test_home_ends (gpointer data, GError **error)
{
  for (int i = 0; i < 6; i++)
    {
      Away away = { NULL };
      BelayLoop *home = belay_loop_new ("home"), *loops[2];
      BelayFuture *all[2 * N_FIBERS];
      BelayPoolStats stats;

      if (!belay_await_ok (belay_loop_spawn (home, make_pool, &away, NULL), error))
        return FALSE;
      for (guint l = 0; l < 2; l++)
        loops[l] = belay_loop_new ("users");
      for (guint f = 0; f < G_N_ELEMENTS (all); f++)
        all[f] = belay_loop_spawn (loops[f % 2], use_while_home_ends, away.pool, NULL);
      if (!belay_sleep (i, error) || !belay_close (&home, error) ||
          !belay_await_ok (belay_future_allv (all, G_N_ELEMENTS (all)), error))
        return FALSE;
      belay_pool_get_stats (away.pool, &stats);
      g_assert_cmpuint (stats.used + stats.waiting, ==, 0);
      if (!belay_close (&away.pool, error))
        return FALSE;
      g_assert_cmpint (g_atomic_int_get (&away.shop.n_live), ==, 0);
      for (guint l = 0; l < 2; l++)
        if (!belay_close (&loops[l], error))
          return FALSE;
    }
  return TRUE;
}

/* The timer that was armed there, and the wish to arm it anew, are both given back, once. */
static void
on_freed (gpointer data)
{
  *(gboolean *) data = TRUE;
}

static void
test_home_has_ended (void)
{
  GMainContext *home = g_main_context_new ();
  gboolean freed = FALSE;
  BelayLease *lease;
  BelayPool *pool;

  g_main_context_push_thread_default (home);
  pool = belay_pool_new (&(BelayPoolOptions) {
      .create = create_thing, .destroy = destroy_box, .abandon = abandon_box, .max = 1, .max_idle_time = 60000,
      .destroy_data = on_freed }, &freed);
  for (guint i = 0; i < 2; i++)
    {
      g_autoptr (BelayFuture) future = belay_pool_acquire_async (pool);

      while (!belay_future_is_resolved (future))
        g_main_context_iteration (home, FALSE);
      lease = belay_future_take (future, NULL);
      if (i == 0)
        belay_release (&lease);
      while (g_main_context_iteration (home, FALSE)) /* the timer is armed */
        ;
    }
  g_autoptr (BelayFuture) waits = belay_pool_acquire_async (pool);
  belay_pool_resize (pool, 0, 1); /* to be looked at now: that is queued at home */
  g_main_context_pop_thread_default (home);
  g_main_context_unref (home);

  g_assert_true (belay_future_is_rejected (waits));
  g_assert_error (belay_future_get_error (waits), BELAY_ERROR, BELAY_ERROR_BROKEN);
  g_clear_pointer (&waits, belay_future_unref);
  belay_release (&lease);
  g_assert_false (freed);
  belay_pool_abandon (pool);
  g_assert_false (freed);
  belay_pool_unref (pool);
  g_assert_true (freed);
}

/* Nobody can tell then when the time of an acquire is up. */
static gboolean
test_wait_without_home (gpointer data, GError **error)
{
  Away away = { NULL };
  BelayLoop *home = belay_loop_new ("home");
  BelayLease *leases[2];

  if (!belay_await_ok (belay_loop_spawn (home, make_pool, &away, NULL), error))
    return FALSE;
  for (guint i = 0; i < 2; i++)
    {
      leases[i] = belay_pool_acquire (away.pool, error);
      if (leases[i] == NULL)
        return FALSE;
      belay_lease_hand_over (leases[i]);
    }
  if (!belay_close (&home, error))
    return FALSE;
  {
    belay_auto (BelayTimeout) limit = belay_timeout (20000);
    g_autoptr (GError) failure = NULL;

    g_assert_null (belay_pool_acquire (away.pool, &failure));
    g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  }
  for (guint i = 0; i < 2; i++)
    belay_release (&leases[i]);
  return belay_close (&away.pool, error);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  test_add_fiber ("/pool/L37-conserved-across-threads", test_everybody);
  test_add_fiber ("/pool/L42-abandoned-across-threads", test_abandoned);
  test_add_fiber ("/pool/left-on-another-thread", test_left_elsewhere);
  test_add_fiber ("/pool/L15-home-ends-while-it-is-used", test_home_ends);
  g_test_add_func ("/pool/L15-home-has-ended", test_home_has_ended);
  test_add_fiber ("/pool/L39-no-wait-without-an-end-when-home-has-ended", test_wait_without_home);
  return g_test_run ();
}
