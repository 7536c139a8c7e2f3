/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool: what meets seldom: sizes that change while somebody waits, room for who cannot use it, leases and time-outs. */
#include "pool-shop.h"

static gboolean
use_pair_of_keys (BelayPool *pool, GError **error)
{
  belay_auto (BelayLease) a = belay_pool_acquire_key (pool, "a", error);
  belay_auto (BelayLease) b = a != NULL ? belay_pool_acquire_key (pool, "b", error) : NULL;

  return b != NULL;
}

/* --- L36, L38: sizes --- */

static gboolean
warm_up_four (gpointer pool, GError **error)
{
  return belay_pool_warm_up (pool, 4, error);
}

static gboolean
test_warm_up_and_less (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 50 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 4 }, &shop);
  BelayFuture *future = belay_spawn (warm_up_four, pool);
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();

  if (!belay_sleep (10, error))
    return FALSE;
  belay_pool_resize (pool, 0, 2);
  g_assert_false (belay_await_ok (future, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_cmpint (now_ms () - begin, ==, 10);
  return belay_close (&pool, error);
}

/* Also where there is overflow, none is made that would have to go at once. */
static gboolean
test_warm_up_beside_keys (gpointer data, GError **error)
{
  for (guint overflow = 0; overflow <= 2; overflow += 2)
    {
      Shop shop = { .create_ms = 1 };
      belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2, .overflow = overflow }, &shop);
      belay_auto (BelayTimeout) limit = belay_timeout (1000);

      if (!use_pair_of_keys (pool, error) || !belay_pool_warm_up (pool, 2, error) || !belay_sleep (10, error))
        return FALSE;
      g_assert_cmpuint (shop.n_made, ==, 4);
      g_assert_cmpuint (stats_of (pool).idle, ==, 2);
      if (!belay_close (&pool, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
test_smaller_minimum (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 4, .min = 3, .max_idle_time = 100, .jitter = -1 }, &shop);

  if (!belay_pool_warm_up (pool, 0, error) || !belay_sleep (500, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 3);
  belay_pool_resize (pool, 1, 4);
  if (!belay_sleep (10, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 1);
  return TRUE;
}

/* What came back while somebody waited, who then went. */
static gboolean
test_overflow_of_who_went (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 1, .overflow = 1, .acquire_timeout = 20 }, &shop);
  BelayLease *a = belay_pool_acquire (pool, error), *b = belay_pool_acquire (pool, error);
  User user = { pool, NULL, NULL, 0, 0, 1 };
  BelayFuture *future;
  g_autoptr (GError) late = NULL;

  belay_pool_suspend (pool);
  future = belay_spawn (use, &user);
  if (!belay_sleep (1, error))
    return FALSE;
  belay_release (&a);
  belay_release (&b);
  g_assert_cmpuint (stats_of (pool).idle, ==, 2);
  g_assert_false (belay_await_ok (future, &late));
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  belay_pool_resume (pool);
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 1);
  return TRUE;
}

/* Nothing gives way to who waits for his own key alone, or has one on its way. */
static gboolean
test_no_room_for_nothing (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2, .max_per_key = 1 }, &shop);
  User users[] = { { pool, "a", NULL, 0, 1000, 1 }, { pool, "a", NULL, 1, 1000, 1 },
                   { pool, "b", NULL, 2, 1, 100 }, { pool, "b", NULL, 2, 1, 100 } };
  BelayFuture *all[4];

  for (guint i = 0; i < 4; i++)
    all[i] = belay_spawn (use, &users[i]);
  if (!belay_await_ok (belay_future_allv (all, 4), error))
    return FALSE;
  g_assert_cmpuint (shop.n_made, ==, 2);
  g_assert_cmpuint (stats_of (pool).evicted, ==, 0);
  return TRUE;
}

/* --- L37, L40: leases --- */

static gpointer
create_deaf_once (const char *key, gpointer data, GError **error)
{
  Shop *shop = data;
  gint64 create_ms = shop->create_ms;
  belay_auto (BelayShield) shield = belay_shield ();

  shop->create_ms = 0;
  return belay_sleep (create_ms, error) ? create_box (key, data, error) : NULL;
}

static gboolean
test_late_creation_counts (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 1000 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      .create = create_deaf_once, .destroy = destroy_box, .free = free_box, .max = 1, .create_timeout = 100 }, &shop);

  g_assert_no_error (acquire_error (pool));
  if (!belay_sleep (5000, error))
    return FALSE;
  g_assert_cmpuint (shop.n_made, ==, 2);
  g_assert_cmpuint (stats_of (pool).created, ==, 2);
  g_assert_cmpuint (stats_of (pool).destroyed, ==, 1);
  return TRUE;
}

/* One operation is cut short, and whoever holds the lease deals with that and goes on. */
static gboolean
test_interrupted_inside (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);

  for (guint i = 0; i < 2; i++) /* made at once, then lent at once */
    {
      belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);
      belay_auto (BelayTimeout) limit = i == 0 ? NULL : belay_timeout (10);
      g_autoptr (GError) late = NULL;

      g_assert_cmpint (belay_sleep (20, &late), ==, i == 0);
      belay_release (&limit);
      if (!belay_sleep (1, error))
        return FALSE;
    }
  g_assert_cmpuint (stats_of (pool).broken, ==, 1);

  /* What was interrupted before it was taken is another matter. */
  {
    belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);

    g_assert_nonnull (lease);
  }
  g_assert_cmpuint (stats_of (pool).broken, ==, 1);
  g_assert_cmpuint (stats_of (pool).idle, ==, 1);
  return TRUE;
}

static gboolean
test_uses_of_none (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  BelayLease *lease = belay_pool_acquire (pool, error), *copy = lease;

  belay_release (&lease);
  expect_critical ("*left before*");
  g_assert_cmpuint (belay_lease_get_n_uses (copy), ==, 0);
  g_test_assert_expected_messages ();
  return TRUE;
}

/* The harness finds what is still held. */
static gboolean
test_future_of_an_idle_one (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);

  g_assert_no_error (acquire_error (pool));
  {
    belay_auto (BelayLease) lease = belay_await (belay_pool_acquire_async (pool), error);

    g_assert_nonnull (lease);
  }
  belay_future_unref (belay_pool_acquire_async (pool));
  g_assert_cmpuint (stats_of (pool).idle, ==, 1);
  return belay_close (&pool, error);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/pool/L36-warm-up-and-a-smaller-maximum", test_warm_up_and_less);
  thing_add_test ("/pool/L38-warm-up-where-keys-have-all-the-room", test_warm_up_beside_keys);
  thing_add_test ("/pool/L44-smaller-minimum-lets-idle-ones-go", test_smaller_minimum);
  thing_add_test ("/pool/L37-overflow-of-who-went-away-ends", test_overflow_of_who_went);
  thing_add_test ("/pool/L38-room-goes-to-who-can-use-it", test_no_room_for_nothing);
  thing_add_test ("/pool/L37-late-creation-is-counted", test_late_creation_counts);
  thing_add_test ("/pool/L40-interrupted-while-it-was-lent", test_interrupted_inside);
  thing_add_test ("/pool/L34-uses-of-a-lease-that-was-left", test_uses_of_none);
  thing_add_test ("/pool/L17-lease-of-a-future-is-held-once", test_future_of_an_idle_one);
  return g_test_run ();
}
