/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pool: its end, its age, its keys, and what it tells (L41 to L44), in virtual time and by seeds. */
#include "pool-shop.h"

#include <sys/wait.h>
#include <unistd.h>

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

static gboolean
test_never_closed (gpointer data, GError **error)
{
  Shop shop = { 0 };
  BelayPool *pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  BelayLease *lease = belay_pool_acquire (pool, error), *idle = belay_pool_acquire (pool, error);

  belay_release (&idle);
  expect_critical ("*never closed*");
  belay_pool_unref (pool);
  g_test_assert_expected_messages ();
  g_assert_cmpuint (shop.n_live, ==, 1);
  g_assert_null (belay_lease_get (lease));
  belay_release (&lease);
  g_assert_cmpuint (shop.n_live, ==, 0);
  return TRUE;
}

/* Resources of Belay's own kind need no functions to end them. */
static gpointer
create_thing (const char *key, gpointer data, GError **error)
{
  return belay_await (belay_test_resource_open ("thing", 5), error);
}

static gboolean
reset_thing (gpointer thing, gpointer data, GError **error)
{
  return belay_test_resource_reset (thing, error);
}

static gboolean
test_resources (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayPool *pool = belay_enter (scope, belay_pool_open (&(BelayPoolOptions) {
                                   .create = create_thing, .reset = reset_thing, .max = 1, .min = 1 }, NULL), error);

  g_assert_nonnull (pool);
  {
    belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);

    g_assert_nonnull (belay_lease_get (lease));
  }
  if (!belay_scope_close (&scope, error))
    return FALSE;
  assert_log ("+thing thing=reset -thing");
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
      g_assert_nonnull (strstr (failure->message, "test-pool-life.c"));
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

/* Those that were made at one time do not end at one time. */
static gboolean
test_jitter (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 20, .max_lifetime = 1000, .jitter = 50 },
                                                &shop);
  guint n_between = 0;

  if (!belay_pool_warm_up (pool, 20, error) || !belay_sleep (499, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 20);
  for (guint i = 0; i < 10; i++)
    {
      guint before = shop.n_live;

      if (!belay_sleep (50, error))
        return FALSE;
      n_between += shop.n_live != before;
    }
  if (!belay_sleep (2, error))
    return FALSE;
  g_assert_cmpuint (shop.n_live, ==, 0);
  g_assert_cmpuint (n_between, >, 2);
  return TRUE;
}

#define must(what) G_STMT_START { if (!(what)) _exit (__LINE__ % 250 + 1); } G_STMT_END

static gboolean
test_fork (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 2 }, &shop);
  BelayLease *lease = belay_pool_acquire (pool, error), *idle = belay_pool_acquire (pool, error);
  pid_t child;
  int status;

  belay_release (&idle);
  child = fork ();
  if (child == 0)
    {
      g_autoptr (GError) failure = NULL;

      must (belay_lease_get (lease) == NULL);
      must (belay_lease_check (lease, &failure) == NULL);
      must (g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_FORKED));
      must (belay_pool_try_acquire (pool) == NULL);
      belay_release (&lease);
      belay_pool_invalidate (pool);
      belay_pool_abandon (pool);
      must (shop.n_live == 2 && shop.n_forced == 0);
      test_exit_child (0);
    }
  g_assert_cmpint (waitpid (child, &status, 0), ==, child);
  g_assert_true (WIFEXITED (status));
  g_assert_cmpint (WEXITSTATUS (status), ==, 0);
  belay_release (&lease);
  return belay_close (&pool, error);
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
test_max_per_key (gpointer data, GError **error)
{
  Shop shop = { 0 };
  belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { BOXES, .max = 3, .max_per_key = 1 }, &shop);
  User users[] = { { pool, "a", "a", 0, 10, 1 }, { pool, "a", "A", 1, 10, 1 }, { pool, "b", "b", 2, 10, 1 } };
  BelayFuture *all[3];

  for (guint i = 0; i < 3; i++)
    all[i] = belay_spawn (use, &users[i]);
  if (!belay_await_ok (belay_future_allv (all, 3), error))
    return FALSE;
  assert_log ("a b A");
  g_assert_cmpuint (shop.n_made, ==, 2);

  /* Whoever holds all that there may be of a key waits for ever for another. */
  belay_auto (BelayLease) lease = belay_pool_acquire_key (pool, "a", error);
  g_autoptr (GError) failure = NULL;
  g_assert_null (belay_pool_acquire_key (pool, "a", &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
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
  thing_add_test ("/pool/L41-callbacks-may-use-the-pool", test_callbacks_may_use_it);
  thing_add_test ("/pool/L42-close-waits-for-users", test_close);
  thing_add_test ("/pool/L42-closers-share-the-result", test_close_together);
  thing_add_test ("/pool/L42-close-by-force", test_close_by_force);
  thing_add_test ("/pool/L42-create-finishes-after-close", test_close_while_creating);
  thing_add_test ("/pool/never-closed", test_never_closed);
  thing_add_test ("/pool/resources-in-a-scope", test_resources);
  thing_add_test ("/pool/L43-nested-acquire", test_deadlock);
  thing_add_test ("/pool/L43-handed-over-is-no-deadlock", test_no_deadlock);
  thing_add_test ("/pool/L44-ageing", test_ageing);
  thing_add_test ("/pool/L44-invalidate", test_invalidate);
  thing_add_test ("/pool/L44-jitter", test_jitter);
  thing_add_test ("/pool/L44-fork", test_fork);
  thing_add_test ("/pool/validation-after-a-window", test_validation);
  thing_add_test ("/pool/keys", test_keys);
  thing_add_test ("/pool/L38-keys-starve-nobody", test_keys_starve_nobody);
  thing_add_test ("/pool/L43-max-per-key", test_max_per_key);
  thing_add_test ("/pool/overflow", test_overflow);
  thing_add_test ("/pool/minimum", test_minimum);
  thing_add_test ("/pool/watch", test_watch);
  thing_add_test ("/pool/held-long", test_held_long);
  thing_add_test ("/pool/cancelled-everywhere", test_cancelled_everywhere);
  return g_test_run ();
}
