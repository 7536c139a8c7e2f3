/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pool of something slow and fragile: 50 pages go through 5 printers. A printer takes long to warm up, and every ninth
 * sheet of the pile is creased: it jams the printer that it is fed to, for good, and another comes for that. The fibers
 * that print know nothing of printers: each takes one, says so if it is broken, and gives it back by leaving its block.
 * At the end, what the pool did.
 */
#include <belay/belay.h>

#define N_PAGES 50

typedef struct
{
  int n_pages;
} Printer;

static int n_sheets; /* taken from the pile */

static gpointer
warm_up (const char *key, gpointer data, GError **error)
{
  return belay_sleep (20, error) ? g_new0 (Printer, 1) : NULL;
}

static gboolean
switch_off (gpointer printer, gpointer data, GError **error)
{
  g_free (printer);
  return TRUE;
}

static gboolean
feed (Printer *printer, GError **error)
{
  if (++n_sheets % 9 != 0)
    {
      printer->n_pages++;
      return belay_sleep (2, error);
    }
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the paper is jammed");
  return FALSE;
}

/* One page; a printer that jams is no printer any more, and the page goes to another. */
static gpointer
print_page (gpointer page, gpointer pool, GError **error)
{
  for (;;)
    {
      g_autoptr (GError) jam = NULL;
      belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);
      if (lease == NULL)
        return NULL;
      if (feed (belay_lease_get (lease), &jam))
        return page;
      belay_lease_break (lease);
    }
}

static void
print_table (BelayPool *pool)
{
  BelayPoolStats stats;

  belay_pool_get_stats (pool, &stats);
  g_print ("%-24s %6d\n", "pages", N_PAGES);
  g_print ("%-24s %6d\n", "sheets", n_sheets);
  g_print ("%-24s %6" G_GUINT64_FORMAT "\n", "printers were lent", stats.acquired);
  g_print ("%-24s %6" G_GUINT64_FORMAT "\n", "printers that jammed", stats.broken);
  g_print ("%-24s %6u\n", "at once, at most", stats.peak);
  g_print ("%-24s %6u\n", "in use now", stats.used);
}

static gboolean
print_all (gpointer data, GError **error)
{
  BelayPoolOptions options = { .name = "printers", .create = warm_up, .destroy = switch_off, .max = 5 };
  belay_auto (BelayPool) pool = belay_pool_new (&options, NULL);
  gpointer pages[N_PAGES];

  for (int i = 0; i < N_PAGES; i++)
    pages[i] = GINT_TO_POINTER (i + 1);

  g_autoptr (GPtrArray) done = belay_await (belay_gather (pages, N_PAGES, N_PAGES, print_page, pool, NULL), error);
  if (done == NULL)
    return FALSE;
  print_table (pool);
  return belay_close (&pool, error);
}

int
main (void)
{
  return belay_run (print_all, NULL);
}
