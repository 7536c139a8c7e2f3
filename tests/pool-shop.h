/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of the pool share: a shop of boxes, that are made, looked at, made as new and ended as the test says. */
#pragma once

#include "thing.h"

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

G_GNUC_UNUSED static void
reenter (Shop *shop)
{
  BelayPoolStats stats;

  if (!shop->reenters)
    return;
  belay_pool_get_stats (shop->pool, &stats);
  g_free (belay_pool_describe (shop->pool));
  BelayLease *lease = belay_pool_try_acquire (shop->pool);
  belay_close (&lease, NULL);
}

G_GNUC_UNUSED static gpointer
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

G_GNUC_UNUSED static gboolean
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

G_GNUC_UNUSED static gboolean
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

G_GNUC_UNUSED static gboolean
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

G_GNUC_UNUSED static void
abandon_box (gpointer box, gpointer data)
{
  ((Shop *) data)->n_forced++;
}

G_GNUC_UNUSED static void
free_box (gpointer box, gpointer data)
{
  Shop *shop = data;

  shop->n_live--;
  shop->n_ended++;
  g_free (box);
}

#define BOXES .create = create_box, .destroy = destroy_box, .abandon = abandon_box, .free = free_box, .name = "boxes"

G_GNUC_UNUSED static BelayPoolStats
stats_of (BelayPool *pool)
{
  BelayPoolStats stats;

  belay_pool_get_stats (pool, &stats);
  return stats;
}

G_GNUC_UNUSED static void
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

G_GNUC_UNUSED static gboolean
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

G_GNUC_UNUSED static GError *
acquire_error (BelayPool *pool)
{
  GError *error = NULL;
  belay_auto (BelayLease) lease = belay_pool_acquire (pool, &error);

  g_assert_true ((lease == NULL) == (error != NULL));
  return error;
}
