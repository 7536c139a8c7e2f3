/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Five resources are made, and fifty items go through them, each a tenth of a second; then the resources are ended. */
#include <belay/belay.h>

static gpointer
create (const char *key, gpointer n_made, GError **error)
{
  g_print ("resource %d made\n", ++*(int *) n_made);
  return g_new0 (int, 1);
}

static gboolean
destroy (gpointer resource, gpointer data, GError **error)
{
  g_print ("resource ended, after %d items\n", *(int *) resource);
  g_free (resource);
  return TRUE;
}

static gpointer
process (gpointer item, gpointer pool, GError **error)
{
  belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);
  if (lease == NULL)
    return NULL;

  ++*(int *) belay_lease_get (lease);
  return belay_sleep (100, error) ? g_strdup_printf ("processed %d", GPOINTER_TO_INT (item)) : NULL;
}

static gboolean
process_all (gpointer data, GError **error)
{
  BelayPoolOptions options = { .create = create, .destroy = destroy, .min = 5, .max = 5 };
  gint64 begin = belay_now ();
  int n_made = 0;
  gpointer items[50];
  belay_auto (BelayPool) pool = belay_await (belay_pool_open (&options, &n_made), error);
  if (pool == NULL)
    return FALSE;

  for (int i = 0; i < 50; i++)
    items[i] = GINT_TO_POINTER (i);
  g_autoptr (GPtrArray) results = belay_await (belay_gather (items, 50, 0, process, pool, g_free), error);
  if (results == NULL)
    return FALSE;

  g_print ("%u results in %.1f s, from \"%s\" to \"%s\"\n", results->len, (double) (belay_now () - begin) / G_USEC_PER_SEC,
           (char *) results->pdata[0], (char *) results->pdata[49]);
  return belay_close (&pool, error);
}

int
main (void)
{
  return belay_run (process_all, NULL);
}
