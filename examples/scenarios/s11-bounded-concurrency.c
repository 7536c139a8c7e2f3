/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fifty fetches of a tenth of a second, ten at a time: they take half a second. */
#include <belay/belay.h>

static gboolean
fetch (gpointer semaphore, GError **error)
{
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);

  return permit != NULL && belay_sleep (100, error);
}

static gboolean
fetch_all (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (10);
  BelayFuture *fetches[50];

  for (guint i = 0; i < G_N_ELEMENTS (fetches); i++)
    fetches[i] = belay_spawn (fetch, semaphore);

  g_autoptr (BelayFuture) all = belay_future_allv (fetches, G_N_ELEMENTS (fetches));
  if (!belay_await_ok (belay_future_ref (all), error))
    return FALSE;

  g_print ("%u\n", belay_future_get_n_members (all));
  return TRUE;
}

int
main (void)
{
  return belay_run (fetch_all, NULL);
}
