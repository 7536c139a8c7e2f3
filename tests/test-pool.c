/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool: who gets what, and what comes back (L37 to L41), in virtual time and by seeds. */
#include "pool-shop.h"

/* --- the ordinary way --- */

static gboolean
test_lends (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  Box *first;

  {
    belay_auto (BelayLease) none = belay_pool_try_acquire (pool);
    belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);

    g_assert_null (none);
    g_assert_nonnull (lease);
    first = belay_lease_get (lease);
    g_assert_true (belay_lease_check (lease, error) == first);
    g_assert_cmpuint (belay_lease_get_n_uses (lease), ==, 1);
    g_assert_cmpuint (stats_of (pool).used, ==, 1);
  }
  g_assert_cmpuint (stats_of (pool).idle, ==, 1);
  for (guint i = 0; i < 100; i++)
    {
      belay_auto (BelayLease) lease = i % 2 == 0 ? belay_pool_acquire (pool, error) : belay_pool_try_acquire (pool);

      g_assert_true (belay_lease_get (lease) == first);
    }
  g_assert_cmpuint (shop.n_made, ==, 1);
  if (!belay_close (&pool, error))
    return FALSE;
  g_assert_cmpuint (shop.n_ended, ==, 1);
  return TRUE;
}

/* Those that were used last are lent first. */
static gboolean
test_lifo (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 3 }, &shop);
  BelayLease *leases[3];

  for (guint i = 0; i < 3; i++)
    leases[i] = belay_pool_acquire (pool, error);
  for (guint i = 0; i < 3; i++)
    belay_release (&leases[i]);
  for (guint i = 0; i < 3; i++)
    {
      leases[i] = belay_pool_acquire (pool, error);
      g_assert_cmpuint (((Box *) belay_lease_get (leases[i]))->number, ==, 3 - i);
    }
  for (guint i = 0; i < 3; i++)
    belay_release (&leases[i]);
  return TRUE;
}

static gboolean
test_fifo (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  User users[] = { { pool, NULL, "a", 1, 10, 1 }, { pool, NULL, "b", 2, 10, 1 }, { pool, NULL, "c", 3, 10, 1 },
                   { pool, NULL, "d", 4, 10, 1 } };
  BelayFuture *all[4];

  for (guint i = 0; i < 4; i++)
    all[i] = belay_spawn (use, &users[i]);
  if (!belay_await_ok (belay_future_allv (all, 4), error))
    return FALSE;
  assert_log ("a b c d");
  assert_quiet (pool);
  return TRUE;
}

/* --- L37, L38 --- */

static gboolean
test_conservation (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 3, .destroy_ms = 2, .validate_ms = 1, .reset_ms = 1 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .validate = validate_box, .reset = reset_box, .validate_after = 2, .max = 3, .max_uses = 4 }, &shop);
  User users[8];
  BelayFuture *all[8];

  for (guint i = 0; i < 8; i++)
    {
      users[i] = (User) { pool, NULL, NULL, belay_test_chance (5), belay_test_chance (7), 4 };
      all[i] = belay_spawn (use, &users[i]);
    }
  for (guint i = 0; i < 20; i++)
    {
      switch (belay_test_chance (6))
        {
        case 0:
          belay_pool_invalidate (pool);
          break;
        case 1:
          belay_pool_resize (pool, 0, 1 + belay_test_chance (3));
          break;
        case 2:
          shop.fail_first = belay_test_chance (2);
          break;
        case 3:
          belay_pool_suspend (pool);
          break;
        case 4:
          belay_pool_resume (pool);
          break;
        default:
          shop.reset_fails = belay_test_chance (2);
          shop.validate_fails = belay_test_chance (2);
          break;
        }
      if (!belay_sleep (belay_test_chance (6), error))
        return FALSE;
    }
  shop.validate_fails = FALSE;
  belay_pool_resume (pool);
  belay_await_ok (belay_future_all_settledv (all, 8), NULL);
  if (!belay_sleep (20, error))
    return FALSE;
  assert_quiet (pool);
  g_assert_cmpuint (shop.n_peak, <=, 3);
  shop.fail_first = 0;
  {
    belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);

    g_assert_nonnull (lease);
  }
  return belay_close (&pool, error);
}

/* A creation that fails tells the first, and another begins for the next. */
static gboolean
test_failed_create (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 10, .fail_first = 1 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  User users[] = { { pool, NULL, "a", 0, 0, 1 }, { pool, NULL, "b", 0, 0, 1 } };
  BelayFuture *first = belay_spawn (use, &users[0]);
  BelayFuture *second;
  g_autoptr (GError) failure = NULL;

  if (!belay_sleep (1, error))
    return FALSE;
  second = belay_spawn (use, &users[1]);
  g_assert_false (belay_await_ok (first, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
  if (!belay_await_ok (second, error))
    return FALSE;
  assert_log ("b");
  return belay_close (&pool, error);
}

static gboolean
test_hanging_reset (gpointer data, GError **error)
{
  Shop shop = { .reset_ms = 1000 * 1000, .destroy_ms = 1000 * 1000 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 1, .reset = reset_box, .reset_timeout = 100, .destroy_timeout = 50 }, &shop);
  gint64 begin;

  g_assert_no_error (acquire_error (pool));
  begin = now_ms ();
  g_assert_no_error (acquire_error (pool));
  g_assert_cmpint (now_ms () - begin, <=, 150);
  g_assert_cmpuint (shop.n_made, ==, 2);
  g_assert_cmpuint (shop.n_forced, ==, 1);
  shop.reset_ms = shop.destroy_ms = 0;
  if (!belay_sleep (500, error))
    return FALSE;
  assert_sunk ("*");
  return belay_close (&pool, error) || TRUE;
}

/* A function that does not obey its time: the slot is free all the same, and what comes too late is ended. */
static gpointer
create_deaf (const char *key, gpointer data, GError **error)
{
  Shop *shop = data;
  belay_auto (BelayShield) shield = belay_shield ();
  Box *box;

  if (shop->create_ms != 0 && !belay_sleep (shop->create_ms, error))
    return NULL;
  shop->create_ms = 0;
  box = create_box (key, data, error);
  shop->create_ms = 0;
  return box;
}

static gboolean
test_deaf_create (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      .create = create_deaf, .destroy = destroy_box, .free = free_box, .max = 1, .create_timeout = 100 }, &shop);
  gint64 begin = now_ms ();

  /* The first takes a minute and hears nothing; the second does not. */
  shop.create_ms = 60 * 1000;
  g_autoptr (BelayFuture) future = belay_pool_acquire_async (pool);
  if (!belay_sleep (1, error))
    return FALSE;
  shop.create_ms = 0;
  belay_auto (BelayLease) lease = belay_await (g_steal_pointer (&future), error);
  g_assert_nonnull (lease);
  g_assert_cmpint (now_ms () - begin, <=, 200);
  g_assert_cmpuint (stats_of (pool).stuck, ==, 1);
  g_assert_cmpuint (stats_of (pool).used, ==, 1);
  if (!belay_sleep (100 * 1000, error))
    return FALSE;
  g_assert_cmpuint (stats_of (pool).stuck, ==, 0);
  g_assert_cmpuint (shop.n_made, ==, 2);
  g_assert_cmpuint (shop.n_live, ==, 1);
  return TRUE;
}

/* Room that is made is used at once, by as many as it is for, in their order. */
static gboolean
test_resize (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  User users[] = { { pool, NULL, "a", 1, 100, 1 }, { pool, NULL, "b", 2, 100, 1 }, { pool, NULL, "c", 3, 100, 1 },
                   { pool, NULL, "d", 4, 100, 1 } };
  BelayFuture *all[4];

  for (guint i = 0; i < 4; i++)
    all[i] = belay_spawn (use, &users[i]);
  if (!belay_sleep (10, error))
    return FALSE;
  assert_log ("a");
  belay_pool_resize (pool, 0, 3);
  if (!belay_sleep (10, error))
    return FALSE;
  g_assert_true (strcmp (thing_log (), "b c") == 0 || strcmp (thing_log (), "c b") == 0); /* they run in any order */
  thing_clear_log ();
  g_assert_cmpuint (stats_of (pool).waiting, ==, 1);
  belay_pool_resize (pool, 0, 1);
  if (!belay_sleep (85, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 2); /* the first has come back, and is too many */
  g_assert_cmpuint (stats_of (pool).waiting, ==, 1);
  if (!belay_await_ok (belay_future_allv (all, 4), error))
    return FALSE;
  assert_log ("d");
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 1);
  return TRUE;
}

static gboolean
test_suspend (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  User users[] = { { pool, NULL, "a", 0, 10, 1 }, { pool, NULL, "b", 1, 10, 1 } };
  BelayFuture *all[2];

  g_assert_no_error (acquire_error (pool));
  belay_pool_suspend (pool);
  g_assert_null (belay_pool_try_acquire (pool));
  for (guint i = 0; i < 2; i++)
    all[i] = belay_spawn (use, &users[i]);
  if (!belay_sleep (50, error))
    return FALSE;
  assert_log ("");
  belay_pool_resume (pool);
  if (!belay_await_ok (belay_future_allv (all, 2), error))
    return FALSE;
  g_assert_cmpuint (strlen (thing_log ()), ==, 3); /* both, in any order */
  return TRUE;
}

/* Wherever the future is dropped, what it was for is not lost. */
static gboolean
test_dropped_futures (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 3 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  BelayFuture *futures[6];

  for (guint round = 0; round < 5; round++)
    {
      for (guint i = 0; i < 6; i++)
        futures[i] = belay_pool_acquire_async (pool);
      if (!belay_sleep (belay_test_chance (5), error))
        return FALSE;
      for (guint i = 0; i < 6; i++)
        {
          belay_future_unref (futures[i]);
          if (belay_test_chance (3) == 0 && !belay_yield (error))
            return FALSE;
        }
    }
  if (!belay_sleep (10, error))
    return FALSE;
  assert_quiet (pool);
  g_assert_cmpuint (shop.n_peak, <=, 2);
  {
    belay_auto (BelayLease) lease = belay_pool_try_acquire (pool);

    g_assert_nonnull (lease);
  }
  return TRUE;
}

/* --- L39 --- */

static gboolean
test_one_deadline (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 70, .create_fails = TRUE };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1, .acquire_timeout = 100 }, &shop);
  g_autoptr (GError) refused = acquire_error (pool), late = NULL;
  gint64 begin;

  g_assert_error (refused, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
  shop.create_fails = FALSE;
  shop.create_ms = 1000;
  begin = now_ms ();
  late = acquire_error (pool);
  g_assert_cmpint (now_ms () - begin, ==, 100);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_nonnull (strstr (late->message, "no box"));
  g_assert_nonnull (strstr (late->message, "0 of 1 in use"));
  g_assert_cmpuint (stats_of (pool).timed_out, ==, 1);

  /* What was being made belongs to the pool. */
  if (!belay_sleep (1000, error))
    return FALSE;
  g_assert_cmpuint (stats_of (pool).idle, ==, 1);

  belay_pool_suspend (pool);
  begin = now_ms ();
  g_clear_error (&late);
  late = acquire_error (pool);
  g_assert_cmpint (now_ms () - begin, ==, 100);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  belay_pool_resume (pool);

  begin = now_ms ();
  {
    belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);
    g_autoptr (BelayFuture) future = belay_pool_acquire_async (pool);
    belay_auto (BelayTimeout) limit = belay_timeout (40);

    g_clear_error (&late);
    belay_lease_hand_over (lease);
    late = acquire_error (pool);
    g_assert_cmpint (now_ms () - begin, ==, 40);
    g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    belay_release (&limit);
    if (!belay_sleep (100, error))
      return FALSE;
    g_assert_true (belay_future_is_rejected (future));
    g_assert_error (belay_future_get_error (future), G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  }
  return belay_close (&pool, error);
}

static gboolean
test_adopted (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 50 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  gint64 begin = now_ms ();

  {
    belay_auto (BelayTimeout) limit = belay_timeout (20);
    g_autoptr (GError) late = acquire_error (pool);

    g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  }
  g_assert_no_error (acquire_error (pool));
  g_assert_cmpint (now_ms () - begin, ==, 50);
  g_assert_cmpuint (shop.n_made, ==, 1);
  return belay_close (&pool, error);
}

/* --- L40 --- */

static gboolean
interrupted_user (gpointer data, GError **error)
{
  belay_auto (BelayLease) lease = belay_pool_acquire (data, error);

  return lease != NULL && belay_sleep (1000, error);
}

static void
interrupt (BelayPool *pool)
{
  g_autoptr (GError) late = NULL;
  belay_auto (BelayTimeout) limit = belay_timeout (10);

  interrupted_user (pool, &late);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
}

static gboolean
test_safe_return (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) plain = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  belay_auto (BelayPool) checked = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1, .validate = validate_box }, &shop);
  belay_auto (BelayPool) reset = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1, .reset = reset_box }, &shop);

  /* Nothing proves that it is sound. */
  interrupt (plain);
  g_assert_cmpuint (stats_of (plain).broken, ==, 1);

  interrupt (checked);
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (stats_of (checked).idle, ==, 1);
  shop.validate_fails = TRUE;
  interrupt (checked);
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (stats_of (checked).idle, ==, 0);
  g_assert_cmpuint (stats_of (checked).validate_failed, ==, 1);

  interrupt (reset);
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (stats_of (reset).idle, ==, 1);
  g_assert_cmpuint (shop.n_reset, ==, 1);
  shop.reset_fails = TRUE;
  g_assert_no_error (acquire_error (reset));
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (stats_of (reset).idle, ==, 0);
  g_assert_cmpuint (stats_of (reset).reset_failed, ==, 1);

  {
    belay_auto (BelayLease) lease = belay_pool_acquire (plain, error);

    belay_lease_break (lease);
  }
  g_assert_cmpuint (stats_of (plain).broken, ==, 2);
  return TRUE;
}

static gboolean
test_failed_block (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  g_autoptr (GError) failure = NULL;

  BELAY_WITH (BelayLease, lease, belay_pool_acquire_async (pool), &failure)
    g_set_error_literal (&failure, G_IO_ERROR, G_IO_ERROR_FAILED, "it failed");
  g_assert_cmpuint (stats_of (pool).broken, ==, 1);
  g_clear_error (&failure);
  BELAY_WITH (BelayLease, lease, belay_pool_acquire_async (pool), &failure)
    g_assert_nonnull (belay_lease_get (lease));
  g_assert_cmpuint (stats_of (pool).broken, ==, 1);
  return TRUE;
}

static gboolean
test_double_return (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  BelayLease *lease = belay_pool_acquire (pool, error), *copy = lease, *other;

  belay_release (&lease);
  expect_critical ("*left before*");
  lease = copy;
  belay_release (&lease);
  g_test_assert_expected_messages ();

  other = belay_pool_acquire (pool, error);
  g_assert_true (other != copy);
  expect_critical ("*left before*");
  g_assert_null (belay_lease_get (copy));
  expect_critical ("*left before*");
  lease = copy;
  belay_release (&lease);
  g_test_assert_expected_messages ();
  g_assert_nonnull (belay_lease_get (other));
  g_assert_cmpuint (stats_of (pool).used, ==, 1);
  belay_release (&other);
  return TRUE;
}

static gboolean
test_detach (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  BelayLease *lease = belay_pool_acquire (pool, error);
  Box *box = belay_lease_detach (&lease);

  g_assert_null (lease);
  g_assert_no_error (acquire_error (pool));
  g_assert_cmpuint (shop.n_made, ==, 2);
  g_assert_cmpuint (stats_of (pool).detached, ==, 1);
  free_box (box, &shop);
  return belay_close (&pool, error);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/pool/lends-and-keeps", test_lends);
  thing_add_test ("/pool/L38-idle-newest-first", test_lifo);
  thing_add_test ("/pool/L38-first-come-first-served", test_fifo);
  belay_test_explore ("/pool/L37-conservation", test_conservation);
  thing_add_test ("/pool/L38-failed-create-tells-one-and-serves-the-next", test_failed_create);
  thing_add_test ("/pool/L40-hanging-reset-frees-the-slot", test_hanging_reset);
  thing_add_test ("/pool/L40-deaf-create-frees-the-slot", test_deaf_create);
  thing_add_test ("/pool/L36-resize-wakes-as-many-as-there-is-room-for", test_resize);
  thing_add_test ("/pool/L38-suspend-and-resume", test_suspend);
  belay_test_explore ("/pool/L32-dropped-futures", test_dropped_futures);
  thing_add_test ("/pool/L39-one-deadline", test_one_deadline);
  thing_add_test ("/pool/L39-create-belongs-to-the-pool", test_adopted);
  thing_add_test ("/pool/L40-interrupted-or-failed-is-not-reused", test_safe_return);
  thing_add_test ("/pool/L40-failed-block", test_failed_block);
  thing_add_test ("/pool/L40-double-return", test_double_return);
  thing_add_test ("/pool/detach", test_detach);
  return g_test_run ();
}
