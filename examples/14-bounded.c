/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A list of work, so many at a time: 12 pages are fetched, 4 at once, and the results come in the order of the list. The
 * site allows no more than 2 at a time of its big pages, whoever asks for them: that is a semaphore, which all share. The
 * guard gives the permit back, also when a fetch fails; and the first that fails ends them all.
 */
#include <belay/belay.h>

#define N_PAGES 12
#define IS_BIG(page) ((page) % 3 == 0)

typedef struct
{
  BelaySemaphore *big;
  int             n_now, n_most, n_big_now, n_big_most;
} Site;

/* Pretends. */
static gboolean
download (Site *site, int page, GError **error)
{
  gboolean ok;

  site->n_now++;
  site->n_most = MAX (site->n_most, site->n_now);
  ok = belay_sleep (IS_BIG (page) ? 300 : 100, error);
  site->n_now--;
  return ok;
}

static gboolean
download_big (Site *site, int page, GError **error)
{
  gboolean ok;
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (site->big, error);
  if (permit == NULL)
    return FALSE;

  site->n_big_now++;
  site->n_big_most = MAX (site->n_big_most, site->n_big_now);
  ok = download (site, page, error);
  site->n_big_now--;
  return ok;
}

static gpointer
fetch (gpointer item, gpointer data, GError **error)
{
  int page = GPOINTER_TO_INT (item);
  Site *site = data;

  if (!(IS_BIG (page) ? download_big (site, page, error) : download (site, page, error)))
    return NULL;
  return g_strdup_printf ("%s page %d", IS_BIG (page) ? "big" : "small", page);
}

static gboolean
fetch_all (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) big = belay_semaphore_new (2);
  Site site = { big, 0 };
  gint64 begin = belay_now ();
  gpointer pages[N_PAGES];

  for (int i = 0; i < N_PAGES; i++)
    pages[i] = GINT_TO_POINTER (i + 1);
  g_autoptr (GPtrArray) fetched = belay_await (belay_gather (pages, N_PAGES, 4, fetch, &site, g_free), error);
  if (fetched == NULL)
    return FALSE;

  for (guint i = 0; i < fetched->len; i++)
    g_print ("%s\n", (char *) fetched->pdata[i]);
  g_print ("%.1f s; at most %d at once, and %d of the big ones\n", (double) (belay_now () - begin) / G_USEC_PER_SEC, site.n_most,
           site.n_big_most);
  return TRUE;
}

int
main (void)
{
  return belay_run (fetch_all, NULL);
}
