/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool: each of its laws, in virtual time and by seeds. */
#include "thing.h"

/* What the pool is of: a box whose making, looking at, making as new and ending do as the test says. */
typedef struct
{
  guint    n_made, n_live, n_ended, n_peak, n_validated, n_reset, n_forced;
  gint64   create_ms, validate_ms, reset_ms, destroy_ms;
  gboolean create_fails, validate_fails, reset_fails, destroy_fails;
  guint    fail_first;   /* creations */
  BelayPool *pool;       /* to be used from inside, where a test says so */
  gboolean reenters;
  GString *events;
} Shop;

typedef struct
{
  guint number;
  guint n_users;
} Box;

static void
reenter (Shop *shop)
{
  BelayPoolStats stats;

  if (!shop->reenters)
    return;
  belay_pool_get_stats (shop->pool, &stats);
  g_autofree char *text = belay_pool_describe (shop->pool);
  belay_auto (BelayLease) lease = belay_pool_try_acquire (shop->pool);
}

static gpointer
create_box (const char *key, gpointer data, GError **error)
{
  Shop *shop = data;
  Box *box;

  reenter (shop);
  if (shop->create_ms != 0 && !belay_sleep (shop->create_ms, error))
    return NULL;
  if (shop->create_fails || shop->fail_first > 0)
    {
      if (shop->fail_first > 0)
        shop->fail_first--;
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED, "no box%s%s", key != NULL ? " for " : "", key != NULL ? key : "");
      return NULL;
    }
  box = g_new0 (Box, 1);
  box->number = ++shop->n_made;
  shop->n_live++;
  shop->n_peak = MAX (shop->n_peak, shop->n_live);
  return box;
}

static gboolean
validate_box (gpointer box, gpointer data, GError **error)
{
  Shop *shop = data;

  reenter (shop);
  shop->n_validated++;
  if (shop->validate_ms != 0 && !belay_sleep (shop->validate_ms, error))
    return FALSE;
  if (!shop->validate_fails)
    return TRUE;
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the box is unsound");
  return FALSE;
}

static gboolean
reset_box (gpointer box, gpointer data, GError **error)
{
  Shop *shop = data;

  reenter (shop);
  shop->n_reset++;
  if (shop->reset_ms != 0 && !belay_sleep (shop->reset_ms, error))
    return FALSE;
  if (!shop->reset_fails)
    return TRUE;
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the box is dirty");
  return FALSE;
}

static gboolean
destroy_box (gpointer box, gpointer data, GError **error)
{
  Shop *shop = data;

  reenter (shop);
  if (shop->destroy_ms != 0 && !belay_sleep (shop->destroy_ms, error))
    return FALSE;
  if (!shop->destroy_fails)
    return TRUE;
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the box does not go");
  return FALSE;
}

static void
abandon_box (gpointer box, gpointer data)
{
  ((Shop *) data)->n_forced++;
}

static void
free_box (gpointer box, gpointer data)
{
  Shop *shop = data;

  shop->n_live--;
  shop->n_ended++;
  g_free (box);
}

#define BOXES .create = create_box, .destroy = destroy_box, .abandon = abandon_box, .free = free_box, .name = "boxes"

static BelayPoolStats
stats_of (BelayPool *pool)
{
  BelayPoolStats stats;

  belay_pool_get_stats (pool, &stats);
  return stats;
}

static void
assert_quiet (BelayPool *pool)
{
  BelayPoolStats stats = stats_of (pool);

  g_assert_cmpuint (stats.used, ==, 0);
  g_assert_cmpuint (stats.opening, ==, 0);
  g_assert_cmpuint (stats.closing, ==, 0);
  g_assert_cmpuint (stats.waiting, ==, 0);
  g_assert_cmpuint (stats.idle, <=, stats.max);
}

/* --- users --- */

typedef struct
{
  BelayPool  *pool;
  const char *key, *name;
  gint64      after_ms, hold_ms;
  guint       times;
} User;

static gboolean
use (gpointer data, GError **error)
{
  User *user = data;

  if (user->after_ms != 0 && !belay_sleep (user->after_ms, error))
    return FALSE;
  for (guint i = 0; i < MAX (user->times, 1); i++)
    {
      belay_auto (BelayLease) lease = belay_pool_acquire_key (user->pool, user->key, error);
      Box *box;

      if (lease == NULL)
        return FALSE;
      box = belay_lease_get (lease);
      g_assert_cmpuint (++box->n_users, ==, 1);
      if (user->name != NULL)
        thing_note ("%s", user->name);
      if (!belay_sleep (user->hold_ms, error))
        {
          box->n_users--;
          return FALSE;
        }
      box->n_users--;
    }
  return TRUE;
}

static GError *
acquire_error (BelayPool *pool)
{
  GError *error = NULL;
  belay_auto (BelayLease) lease = belay_pool_acquire (pool, &error);

  g_assert_true ((lease == NULL) == (error != NULL));
  return error;
}

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

/* --- L41 --- */

static gboolean
test_callbacks_may_use_it (gpointer data, GError **error)
{
  Shop shop = { .reenters = TRUE };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 2, .validate = validate_box, .reset = reset_box, .validate_after = -1 }, &shop);
  User users[4];
  BelayFuture *all[4];

  shop.pool = pool;
  for (guint i = 0; i < 4; i++)
    {
      users[i] = (User) { pool, NULL, NULL, 0, 1, 3 };
      all[i] = belay_spawn (use, &users[i]);
    }
  if (!belay_await_ok (belay_future_allv (all, 4), error))
    return FALSE;
  return belay_close (&pool, error);
}

/* --- L42 --- */

static gboolean
test_close (gpointer data, GError **error)
{
  Shop shop = { .destroy_ms = 5 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  User users[] = { { pool, NULL, "a", 0, 50, 1 }, { pool, NULL, "b", 0, 30, 1 }, { pool, NULL, "c", 1, 10, 1 } };
  BelayFuture *all[3];
  g_autoptr (GError) closed = NULL;
  gint64 begin = now_ms ();

  for (guint i = 0; i < 3; i++)
    all[i] = belay_spawn (use, &users[i]);
  if (!belay_sleep (10, error) || !belay_close (&pool, error))
    return FALSE;
  g_assert_cmpint (now_ms () - begin, ==, 55);
  g_assert_cmpuint (shop.n_live, ==, 0);
  g_assert_false (belay_await_ok (all[2], &closed));
  g_assert_error (closed, G_IO_ERROR, G_IO_ERROR_CLOSED);
  return belay_await_ok (all[0], error) && belay_await_ok (all[1], error);
}

static gboolean
close_it (gpointer pool, GError **error)
{
  return belay_pool_close (pool, error);
}

static gboolean
test_close_together (gpointer data, GError **error)
{
  Shop shop = { .destroy_ms = 5, .destroy_fails = TRUE };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  g_autoptr (GError) first = NULL, second = NULL, third = NULL, refused = NULL;
  BelayFuture *one, *two;

  {
    belay_auto (BelayLease) a = belay_pool_acquire (pool, error);
    belay_auto (BelayLease) b = belay_pool_acquire (pool, error);

    g_assert_true (a != NULL && b != NULL);
  }
  one = belay_spawn (close_it, pool);
  two = belay_spawn (close_it, pool);
  g_assert_false (belay_await_ok (one, &first));
  g_assert_nonnull (strstr (first->message, "(and 1 more)"));
  g_assert_false (belay_await_ok (two, &second));
  g_assert_cmpstr (first->message, ==, second->message);
  refused = acquire_error (pool);
  g_assert_error (refused, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_false (belay_close (&pool, &third));
  g_assert_nonnull (strstr (third->message, "does not go"));
  g_assert_cmpuint (shop.n_live, ==, 0);
  return TRUE;
}

/* Its users do not come to an end. */
static gboolean
test_close_by_force (gpointer data, GError **error)
{
  Shop shop = { 0 };
  BelayPool *pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  BelayLease *lease = belay_pool_acquire (pool, error);
  g_autoptr (GError) late = NULL, closed = NULL;

  g_assert_false (belay_close (&pool, &late));
  g_assert_error (late, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_nonnull (strstr (late->message, "1 of 2 in use"));
  g_assert_cmpuint (shop.n_forced, ==, 1);
  g_assert_cmpuint (shop.n_live, ==, 1);
  g_assert_null (belay_lease_check (lease, &closed));
  g_assert_error (closed, G_IO_ERROR, G_IO_ERROR_CLOSED);
  belay_release (&lease);
  g_assert_cmpuint (shop.n_live, ==, 0);
  return TRUE;
}

static gboolean
test_close_while_creating (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 50 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  User user = { pool, NULL, NULL, 0, 0, 1 };
  BelayFuture *future = belay_spawn (use, &user);
  g_autoptr (GError) closed = NULL;

  if (!belay_sleep (10, error) || !belay_close (&pool, error))
    return FALSE;
  g_assert_false (belay_await_ok (future, &closed));
  g_assert_error (closed, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_cmpuint (shop.n_live, ==, 0);
  return TRUE;
}

/* --- L43 --- */

static gboolean
take_two (gpointer data, GError **error)
{
  belay_auto (BelayLease) first = belay_pool_acquire (data, error);

  if (first == NULL || !belay_sleep (10, error))
    return FALSE;
  belay_auto (BelayLease) second = belay_pool_acquire (data, error);
  return second != NULL;
}

static gboolean
test_deadlock (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2, .acquire_timeout = -1 }, &shop);
  BelayFuture *all[2] = { belay_spawn (take_two, pool), belay_spawn (take_two, pool) };
  g_autoptr (GError) failure = NULL;
  guint n_failed = 0;

  for (guint i = 0; i < 2; i++)
    {
      g_clear_error (&failure);
      if (belay_await_ok (all[i], &failure))
        continue;
      n_failed++;
      g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
      g_assert_nonnull (strstr (failure->message, "test-pool.c"));
    }
  g_assert_cmpuint (n_failed, ==, 1);
  g_assert_cmpuint (stats_of (pool).deadlocks, ==, 1);
  assert_quiet (pool);
  return TRUE;
}

static gboolean
leave_later (gpointer lease, GError **error)
{
  belay_sleep (20, NULL);
  belay_release (&lease);
  return TRUE;
}

static gboolean
test_no_deadlock (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  BelayLease *lease = belay_pool_acquire (pool, error);

  belay_lease_hand_over (lease);
  g_autoptr (BelayFuture) other = belay_spawn (leave_later, lease);
  g_assert_no_error (acquire_error (pool));
  return belay_await_ok (g_steal_pointer (&other), error);
}

/* --- L44 --- */

static gboolean
test_ageing (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 3, .max_idle_time = 1000, .max_lifetime = 10000, .jitter = -1 }, &shop);
  BelayLease *leases[3];

  for (guint i = 0; i < 3; i++)
    leases[i] = belay_pool_acquire (pool, error);
  for (guint i = 0; i < 3; i++)
    belay_release (&leases[i]);
  for (guint i = 0; i < 9; i++)
    {
      g_assert_no_error (acquire_error (pool));
      g_assert_cmpuint (shop.n_live, ==, i < 2 ? 3 : 1);
      if (!belay_sleep (900, error))
        return FALSE;
    }
  /* What is in use does not end, however old. */
  leases[0] = belay_pool_acquire (pool, error);
  if (!belay_sleep (20000, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 1);
  belay_release (&leases[0]);
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 0);
  g_assert_cmpuint (stats_of (pool).expired, ==, 3);
  return TRUE;
}

static gboolean
test_invalidate (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 3 }, &shop);
  BelayLease *used = belay_pool_acquire (pool, error), *idle = belay_pool_acquire (pool, error);

  belay_release (&idle);
  belay_pool_invalidate (pool);
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 1);
  belay_release (&used);
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 0);
  g_assert_no_error (acquire_error (pool));
  g_assert_cmpuint (shop.n_made, ==, 3);
  return TRUE;
}

static gboolean
test_validation (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 3, .validate = validate_box, .validate_after = 100 }, &shop);

  g_assert_no_error (acquire_error (pool));
  if (!belay_sleep (90, error))
    return FALSE;
  g_assert_no_error (acquire_error (pool));
  g_assert_cmpuint (shop.n_validated, ==, 0);
  if (!belay_sleep (100, error))
    return FALSE;
  g_assert_no_error (acquire_error (pool));
  g_assert_cmpuint (shop.n_validated, ==, 1);
  g_assert_cmpuint (shop.n_made, ==, 1);
  shop.validate_fails = TRUE;
  if (!belay_sleep (100, error))
    return FALSE;
  g_assert_no_error (acquire_error (pool));
  g_assert_cmpuint (shop.n_validated, ==, 2);
  g_assert_cmpuint (shop.n_made, ==, 2);
  return TRUE;
}

/* --- keys, overflow, the minimum --- */

static gboolean
test_keys (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  BelayLease *a, *b, *c;

  a = belay_pool_acquire_key (pool, "a", error);
  b = belay_pool_acquire_key (pool, "b", error);
  belay_release (&a);
  c = belay_pool_acquire_key (pool, "c", error);
  g_assert_nonnull (c);
  g_assert_cmpuint (stats_of (pool).evicted, ==, 1);
  g_assert_cmpuint (shop.n_live, ==, 2);
  g_assert_null (belay_pool_try_acquire_key (pool, "a"));
  belay_release (&b);
  b = belay_pool_try_acquire_key (pool, "b");
  g_assert_nonnull (b);
  belay_release (&b);
  belay_release (&c);
  g_assert_cmpuint (shop.n_made, ==, 3);
  return belay_close (&pool, error);
}

static gboolean
test_keys_starve_nobody (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 1 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  User often[2] = { { pool, "a", "a", 0, 1, 40 }, { pool, "a", "a", 0, 1, 40 } };
  User once = { pool, "b", "B", 5, 1, 1 };
  BelayFuture *all[3] = { belay_spawn (use, &often[0]), belay_spawn (use, &often[1]), belay_spawn (use, &once) };
  const char *seen;

  if (!belay_await_ok (belay_future_allv (all, 3), error))
    return FALSE;
  seen = strchr (belay_test_get_log (), 'B');
  g_assert_nonnull (seen);
  g_assert_cmpint (seen - belay_test_get_log (), <, 50);
  return TRUE;
}

static gboolean
test_overflow (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1, .overflow = 1 }, &shop);
  BelayLease *a = belay_pool_acquire (pool, error), *b = belay_pool_acquire (pool, error);

  g_assert_true (a != NULL && b != NULL);
  belay_release (&a);
  belay_release (&b);
  if (!belay_sleep (1, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 1);
  return TRUE;
}

static gboolean
test_minimum (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 10 };
  BelayPoolOptions options = { BOXES, .max = 4, .min = 2, .max_idle_time = 100, .jitter = -1 };
  belay_auto (BelayPool) pool = belay_await (belay_pool_open (&options, &shop), error);
  g_autoptr (GError) none = NULL;

  g_assert_nonnull (pool);
  g_assert_cmpuint (shop.n_live, ==, 2);
  if (!belay_pool_warm_up (pool, 4, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 4);
  if (!belay_sleep (300, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 2);
  belay_pool_invalidate (pool);
  if (!belay_sleep (20, error))
    return FALSE;
  g_assert_cmpuint (stats_of (pool).idle, ==, 2);
  g_assert_false (belay_pool_warm_up (pool, 5, &none));
  g_assert_error (none, BELAY_ERROR, BELAY_ERROR_MISUSE);
  if (!belay_close (&pool, error))
    return FALSE;

  shop.create_fails = TRUE;
  g_clear_error (&none);
  g_assert_null (belay_await (belay_pool_open (&options, &shop), &none));
  g_assert_error (none, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
  g_assert_cmpuint (shop.n_live, ==, 0);
  return TRUE;
}

/* --- what is watched --- */

static void
watch (BelayPool *pool, BelayPoolEvent event, gpointer resource, const GError *error, gpointer data)
{
  g_string_append_printf (((Shop *) data)->events, "%d%s", event, error != NULL ? "! " : " ");
}

static gboolean
test_watch (gpointer data, GError **error)
{
  g_autoptr (GString) events = g_string_new (NULL);
  Shop shop = { .events = events };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 1, .watch = watch, .held_long = 1000 }, &shop);

  {
    belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);

    if (!belay_sleep (5000, error))
      return FALSE;
  }
  if (!belay_close (&pool, error))
    return FALSE;
  g_assert_cmpstr (events->str, ==, "0 2 12! 3 10 13 ");
  return TRUE;
}

static gboolean
test_held_long (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1, .held_long = 1000 }, &shop);
  belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);

  if (!belay_sleep (5000, error))
    return FALSE;
  assert_sunk ("*in use for 1.0 s*");
  return TRUE;
}

/* --- everywhere --- */

static gboolean
all_of_it (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 5, .validate_ms = 1, .reset_ms = 1, .destroy_ms = 2 };
  BelayPoolOptions options = { BOXES, .max = 2, .validate = validate_box, .reset = reset_box, .validate_after = -1 };
  belay_auto (BelayPool) pool = belay_pool_new (&options, &shop);
  User users[] = { { pool, NULL, NULL, 0, 1, 2 }, { pool, NULL, NULL, 0, 1, 2 }, { pool, NULL, NULL, 0, 1, 2 } };
  g_autoptr (GError) closing = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  gboolean ok;

  for (guint i = 0; i < 3; i++)
    belay_scope_spawn (scope, use, &users[i], NULL);
  ok = belay_scope_close (&scope, error);
  g_assert_cmpuint (stats_of (pool).used, ==, 0);
  g_assert_true (belay_close (&pool, &closing));
  g_assert_cmpuint (shop.n_live, ==, 0);
  return ok;
}

static gboolean
test_cancelled_everywhere (gpointer data, GError **error)
{
  belay_test_cancel_everywhere (all_of_it, NULL);
  belay_test_expire_everywhere (all_of_it, NULL);
  return TRUE;
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
  thing_add_test ("/pool/L39-one-deadline", test_one_deadline);
  thing_add_test ("/pool/L39-create-belongs-to-the-pool", test_adopted);
  thing_add_test ("/pool/L40-interrupted-or-failed-is-not-reused", test_safe_return);
  thing_add_test ("/pool/L40-failed-block", test_failed_block);
  thing_add_test ("/pool/L40-double-return", test_double_return);
  thing_add_test ("/pool/detach", test_detach);
  thing_add_test ("/pool/L41-callbacks-may-use-the-pool", test_callbacks_may_use_it);
  thing_add_test ("/pool/L42-close-waits-for-users", test_close);
  thing_add_test ("/pool/L42-closers-share-the-result", test_close_together);
  thing_add_test ("/pool/L42-close-by-force", test_close_by_force);
  thing_add_test ("/pool/L42-create-finishes-after-close", test_close_while_creating);
  thing_add_test ("/pool/L43-nested-acquire", test_deadlock);
  thing_add_test ("/pool/L43-handed-over-is-no-deadlock", test_no_deadlock);
  thing_add_test ("/pool/L44-ageing", test_ageing);
  thing_add_test ("/pool/L44-invalidate", test_invalidate);
  thing_add_test ("/pool/validation-after-a-window", test_validation);
  thing_add_test ("/pool/keys", test_keys);
  thing_add_test ("/pool/L38-keys-starve-nobody", test_keys_starve_nobody);
  thing_add_test ("/pool/overflow", test_overflow);
  thing_add_test ("/pool/minimum", test_minimum);
  thing_add_test ("/pool/watch", test_watch);
  thing_add_test ("/pool/held-long", test_held_long);
  thing_add_test ("/pool/cancelled-everywhere", test_cancelled_everywhere);
  return g_test_run ();
}
