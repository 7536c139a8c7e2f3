/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cases of SQLAlchemy's test_pool.py and asyncpg's test_pool.py that are not a database's. */
#include "pool-shop.h"

/* Size and overflow are exhausted: the error comes after exactly the time, or at once. */
static gboolean
test_timeout (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2, .overflow = 1, .acquire_timeout = 300 }, &shop);
  BelayLease *leases[3];
  g_autoptr (GError) late = NULL;
  gint64 begin;

  for (guint i = 0; i < 3; i++)
    leases[i] = belay_pool_acquire (pool, error);
  for (guint i = 0; i < 3; i++)
    belay_lease_hand_over (leases[i]);
  begin = now_ms ();
  late = acquire_error (pool);
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 300);
  begin = now_ms ();
  g_assert_null (belay_pool_try_acquire (pool));
  g_assert_cmpint (now_ms () - begin, ==, 0);
  for (guint i = 0; i < 3; i++)
    belay_release (&leases[i]);
  return TRUE;
}

/* Ten race for three: nobody is told too early that it was too late. */
typedef struct
{
  BelayPool *pool;
  guint      n_served, n_late;
} Race;

static gboolean
race (gpointer data, GError **error)
{
  Race *self = data;
  gint64 begin = now_ms ();
  g_autoptr (GError) late = NULL;
  belay_auto (BelayLease) lease = belay_pool_acquire (self->pool, &late);

  if (lease != NULL)
    {
      self->n_served++;
      return belay_sleep (400, error);
    }
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, >=, 300);
  self->n_late++;
  return TRUE;
}

static gboolean
test_timeout_race (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 5 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 3, .acquire_timeout = 300 }, &shop);
  Race all_of_them = { pool, 0, 0 };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 10; i++)
    belay_scope_spawn (scope, race, &all_of_them, NULL);
  if (!belay_scope_close (&scope, error))
    return FALSE;
  g_assert_cmpuint (all_of_them.n_served, ==, 3);
  g_assert_cmpuint (all_of_them.n_late, ==, 7);
  return TRUE;
}

/* What could not be made frees its place, in the overflow, too. */
static gboolean
test_failed_connect (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1, .overflow = 1 }, &shop);
  belay_auto (BelayLease) first = belay_pool_acquire (pool, error);

  shop.create_fails = TRUE;
  for (guint i = 0; i < 5; i++)
    {
      g_autoptr (GError) refused = acquire_error (pool);

      g_assert_error (refused, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
    }
  shop.create_fails = FALSE;
  belay_auto (BelayLease) second = belay_pool_acquire (pool, error);
  return first != NULL && second != NULL;
}

/* Older than it may be: replaced when one is taken; invalidated softly: after the return. */
static gboolean
test_recycle (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1, .max_lifetime = 1000, .jitter = -1 }, &shop);
  guint number;

  for (guint round = 1; round <= 3; round++)
    {
      belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);

      number = ((Box *) belay_lease_get (lease))->number;
      g_assert_cmpuint (number, ==, round);
      belay_release (&lease);
      if (!belay_sleep (1100, error))
        return FALSE;
    }
  {
    belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);

    belay_pool_invalidate (pool);
    g_assert_nonnull (belay_lease_check (lease, error));
  }
  belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);
  g_assert_cmpuint (((Box *) belay_lease_get (lease))->number, ==, 5);
  return TRUE;
}

/* Cancelled while it uses one: the place is free, and what was in use is no more, or as new. */
static gboolean
test_cancelled_user (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 1 }, &shop);
  User user = { pool, NULL, NULL, 0, 1000, 1 };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_spawn (scope, use, &user, NULL);
  if (!belay_sleep (10, error))
    return FALSE;
  belay_scope_cancel (scope, "enough");
  belay_release (&scope);
  belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);
  g_assert_cmpuint (((Box *) belay_lease_get (lease))->number, ==, 2);
  return TRUE;
}

/* A hundred over ten. */
static gboolean
test_many (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 2 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 10, .reset = reset_box }, &shop);
  User user = { pool, NULL, NULL, 0, 1, 1 };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 100; i++)
    belay_scope_spawn (scope, use, &user, NULL);
  if (!belay_scope_close (&scope, error))
    return FALSE;
  g_assert_cmpuint (shop.n_peak, ==, 10);
  g_assert_cmpuint (shop.n_made, ==, 10);
  return belay_sleep (1, error);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/peers/pools/J01-timeout", test_timeout);
  thing_add_test ("/peers/pools/J02-timeout-race", test_timeout_race);
  thing_add_test ("/peers/pools/J04-failed-connect", test_failed_connect);
  thing_add_test ("/peers/pools/J07-recycle", test_recycle);
  thing_add_test ("/peers/pools/J13-cancelled-user", test_cancelled_user);
  thing_add_test ("/peers/pools/I01-many", test_many);
  return g_test_run ();
}
