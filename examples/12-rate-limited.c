/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A client that keeps to the rate that a service allows: five requests a second, three of them at once. The service refuses who
 * asks more often, and here it never has to. Each request takes a token first; tokens come at a steady rate, and whoever asked
 * first has the next. One user loses patience and leaves the line: it has cost nobody anything. A ticker prints the time.
 */
#include <belay/belay.h>

static BelayRateLimiter *limiter;
static gint64 begin;
static const char *cities[] = { "Athens", "Bergen", "Cadiz", "Dublin", "Erfurt", "Faro", "Genoa", "Hvar" };

/* The service: 3 at once, and a fifth of a second for each after that; or it says no. */
static char *
forecast (const char *city, GError **error)
{
  static gint64 busy_until;
  gint64 now = belay_now ();

  busy_until = MAX (busy_until, now - 600 * 1000) + 200 * 1000;
  if (busy_until > now)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY, "%s: too many requests", city);
      return NULL;
    }
  return belay_sleep (30 + city[0] - 'A', error) ? g_strdup_printf ("%s: rain", city) : NULL;
}

static gboolean
ask (gpointer city, GError **error)
{
  g_autofree char *answer = NULL;

  if (!belay_rate_limiter_acquire (limiter, 1, error))
    return FALSE;
  answer = forecast (city, error);
  if (answer == NULL)
    return FALSE;
  g_print ("%4d ms  %s\n", (int) (belay_now () - begin) / 1000, answer);
  return TRUE;
}

static gboolean
ask_impatiently (gpointer city, GError **error)
{
  belay_auto (BelayTimeout) patience = belay_timeout (100);

  if (!ask (city, error) && belay_timeout_expired (patience))
    {
      g_clear_error (error);
      g_print ("%4d ms  %s: never mind\n", (int) (belay_now () - begin) / 1000, (char *) city);
    }
  return *error == NULL;
}

static gboolean
watch (gpointer data, GError **error)
{
  belay_auto (BelayTicker) ticker = belay_ticker_new (500, BELAY_TICKER_SKIP);

  for (guint i = 1; i <= 2; i++)
    {
      if (!belay_ticker_next (ticker, error))
        return FALSE;
      g_print ("------- half a second\n");
    }
  return TRUE;
}

static gboolean
ask_all (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  begin = belay_now ();
  limiter = belay_rate_limiter_new (5, 3);
  belay_scope_spawn (scope, watch, NULL, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (cities); i++)
    belay_scope_spawn (scope, i == 4 ? ask_impatiently : ask, (gpointer) cities[i], NULL);
  return belay_scope_close (&scope, error);
}

int
main (void)
{
  int status = belay_run (ask_all, NULL);

  g_clear_pointer (&limiter, belay_rate_limiter_unref);
  return status;
}
