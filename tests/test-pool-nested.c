/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool: fibers that have something of it and wait for more (L43), with and without keys, in virtual time and by seeds. */
#include "pool-shop.h"

/* One of a key, held for a while, then one of another key. */
typedef struct
{
  BelayPool  *pool;
  const char *first, *second;
  gint64      hold_ms;
} Pair;

static gboolean
take_pair (gpointer data, GError **error)
{
  Pair *pair = data;
  belay_auto (BelayLease) first = belay_pool_acquire_key (pair->pool, pair->first, error);

  if (first == NULL || !belay_sleep (pair->hold_ms, error))
    return FALSE;
  belay_auto (BelayLease) second = belay_pool_acquire_key (pair->pool, pair->second, error);
  return second != NULL;
}

/* Who waits for what is on its way gives back what he has: to wait for that is no deadlock. */
static gboolean
test_on_its_way (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 10 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 5, .max_per_key = 1 }, &shop);
  Pair pairs[] = { { pool, "a", "b", 5 }, { pool, "c", "a", 6 } };
  BelayFuture *all[2] = { belay_spawn (take_pair, &pairs[0]), belay_spawn (take_pair, &pairs[1]) };

  return belay_await_ok (belay_future_allv (all, 2), error);
}

/* One of the circle is told, and the others go on. */
static gboolean
assert_circle (Pair *pairs, guint n, GError **error)
{
  BelayFuture *all[4];
  guint n_failed = 0;

  for (guint i = 0; i < n; i++)
    all[i] = belay_spawn (take_pair, &pairs[i]);
  for (guint i = 0; i < n; i++)
    {
      g_autoptr (GError) failure = NULL;

      if (belay_await_ok (all[i], &failure))
        continue;
      n_failed++;
      g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
    }
  g_assert_cmpuint (n_failed, ==, 1);
  g_assert_cmpuint (stats_of (pairs[0].pool).deadlocks, ==, 1);
  assert_quiet (pairs[0].pool);
  return TRUE;
}

static gboolean
test_circle (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 5, .max_per_key = 1, .acquire_timeout = -1 }, &shop);
  Pair pairs[] = { { pool, "a", "b", 5 }, { pool, "b", "c", 5 }, { pool, "c", "a", 5 } };

  return assert_circle (pairs, 3, error);
}

/* One waits for a key, the other for any room. */
static gboolean
test_mixed_circle (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .max = 2, .max_per_key = 1, .acquire_timeout = -1 }, &shop);
  Pair pairs[] = { { pool, "a", "c", 5 }, { pool, "b", "a", 5 } };

  return assert_circle (pairs, 2, error);
}

/* It need not be a turn that closes the circle. */
static gboolean
test_smaller_maximum (gpointer data, GError **error)
{
  Shop shop = { .create_ms = 50 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2, .acquire_timeout = -1 }, &shop);
  Pair pair = { pool, NULL, NULL, 10 };
  BelayFuture *future = belay_spawn (take_pair, &pair);
  g_autoptr (GError) failure = NULL;

  if (!belay_sleep (70, error))
    return FALSE;
  belay_pool_resize (pool, 0, 1); /* while the second is being made */
  g_assert_false (belay_await_ok (future, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
  assert_quiet (pool);
  return TRUE;
}

/* --- by seeds --- */

#define N_KEYS 4

typedef struct
{
  BelayPool *pool;
  gboolean   in_order; /* of the keys: then no circle can be */
} Nest;

static gboolean
nest (Nest *self, guint from, guint depth, GError **error)
{
  static const char *keys[N_KEYS] = { "a", "b", "c", "d" };
  guint key = self->in_order ? from + belay_test_chance (N_KEYS - from) : belay_test_chance (N_KEYS);
  belay_auto (BelayLease) lease = belay_pool_acquire_key (self->pool, keys[key], error);
  gboolean ok;
  Box *box;

  if (lease == NULL)
    return FALSE;
  box = belay_lease_get (lease);
  g_assert_cmpuint (++box->n_users, ==, 1);
  ok = belay_sleep (belay_test_chance (4), error);
  if (ok && depth > 0 && (key + 1 < N_KEYS || !self->in_order))
    ok = nest (self, key + 1, depth - 1, error);
  box->n_users--;
  if (belay_test_chance (10) == 0)
    belay_lease_break (lease);
  return ok;
}

static gboolean
nest_often (gpointer data, GError **error)
{
  Nest *self = data;

  for (guint i = 0; i < 4; i++)
    {
      g_autoptr (GError) failure = NULL;

      if (nest (self, 0, 3, &failure))
        continue;
      g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
      g_assert_false (self->in_order);
    }
  return TRUE;
}

static gboolean
nest_all (Nest *self, guint n_changes, GError **error)
{
  BelayFuture *all[6];
  belay_auto (BelayTimeout) limit = belay_timeout (1000 * 1000); /* nobody waits for ever */

  for (guint i = 0; i < G_N_ELEMENTS (all); i++)
    all[i] = belay_spawn (nest_often, self);
  for (guint i = 0; i < n_changes; i++)
    {
      if (belay_test_chance (2) == 0)
        belay_pool_resize (self->pool, 0, 1 + belay_test_chance (5));
      if (belay_test_chance (5) == 0)
        belay_pool_invalidate_key (self->pool, "b");
      if (!belay_sleep (belay_test_chance (5), error))
        return FALSE;
    }
  if (!belay_await_ok (belay_future_allv (all, G_N_ELEMENTS (all)), error) || !belay_sleep (10, error))
    return FALSE;
  assert_quiet (self->pool);
  return TRUE;
}

static Shop
any_shop (void)
{
  return (Shop) { .create_ms = belay_test_chance (4), .destroy_ms = belay_test_chance (4), .reset_ms = belay_test_chance (3) };
}

static gboolean
test_in_order (gpointer data, GError **error)
{
  Shop shop = any_shop ();
  guint per_key = 1 + belay_test_chance (2);
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .reset = reset_box, .max = N_KEYS * per_key, .max_per_key = per_key, .acquire_timeout = -1 }, &shop);
  Nest self = { pool, TRUE };

  if (!nest_all (&self, 0, error))
    return FALSE;
  g_assert_cmpuint (stats_of (pool).deadlocks, ==, 0);
  return belay_close (&pool, error);
}

static gboolean
test_in_any_order (gpointer data, GError **error)
{
  Shop shop = any_shop ();
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) {
      BOXES, .reset = reset_box, .max = 1 + belay_test_chance (5), .overflow = belay_test_chance (2),
      .max_per_key = belay_test_chance (3), .acquire_timeout = -1 }, &shop);
  Nest self = { pool, FALSE };

  return nest_all (&self, 10, error) && belay_close (&pool, error);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/pool/L43-what-is-on-its-way-is-no-deadlock", test_on_its_way);
  thing_add_test ("/pool/L43-circle-of-keys", test_circle);
  thing_add_test ("/pool/L43-circle-of-a-key-and-room", test_mixed_circle);
  thing_add_test ("/pool/L43-smaller-maximum-closes-the-circle", test_smaller_maximum);
  belay_test_explore ("/pool/L43-keys-in-order-are-no-deadlock", test_in_order);
  belay_test_explore ("/pool/L43-keys-in-any-order-come-to-an-end", test_in_any_order);
  return g_test_run ();
}
