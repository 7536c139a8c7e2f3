/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ticker: something to be done at regular instants.
 *
 * The ticks are at `base` + k periods, k from 1. Each is reckoned from the base, never from the last one, so no error adds up,
 * however late its fiber runs; a period need not be whole microseconds. No timer exists but while somebody waits.
 *
 * It is a guard of whoever uses it, and used by one fiber at a time: there is no lock.
 *
 * Invariant: tick `k` is the next one; it has not been given to anybody.
 */
#include "scope/scope-private.h"

struct _BelayTicker
{
  BelayPlain        plain; /* first */
  BelayTickerPolicy policy;
  double            period; /* µs */
  gint64            base;   /* belay_now() */
  guint64           k;
  guint64           n_missed;
};

static void
ticker_end (gpointer data)
{
  g_free (data);
}

static const BelayPlainClass ticker_class = { BELAY_TAG_INSTANT, "BelayTicker", NULL, NULL, ticker_end, NULL };

static BelayTicker *
ticker_new (double period, BelayTickerPolicy policy)
{
  BelayTicker *self = g_new (BelayTicker, 1);

  self->plain.klass = &ticker_class;
  self->policy = policy;
  self->period = period;
  self->base = belay_now ();
  self->k = 1;
  self->n_missed = 0;
  belay_leaks_hold (self, NULL);
  return self;
}

BelayTicker *
belay_ticker_new (gint64 milliseconds, BelayTickerPolicy policy)
{
  g_return_val_if_fail (milliseconds > 0 && milliseconds < G_MAXINT64 / 4000, NULL);
  return ticker_new ((double) milliseconds * 1000, policy);
}

BelayTicker *
belay_ticker_new_per_second (double ticks, BelayTickerPolicy policy)
{
  g_return_val_if_fail (ticks >= 1e-9 && ticks <= 1e6, NULL);
  return ticker_new (1e6 / ticks, policy);
}

guint64
belay_ticker_get_n_missed (BelayTicker *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return self->n_missed;
}

static gint64
instant_of (BelayTicker *self, guint64 k)
{
  return self->base + (gint64) ((double) k * self->period);
}

/* The next tick has come: it is given, and what it is late by is seen to. */
static void
advance (BelayTicker *self, gint64 now)
{
  guint64 passed = (guint64) ((double) (now - self->base) / self->period); /* the last that is due */

  while (instant_of (self, passed + 1) <= now) /* the division was rounded */
    passed++;
  while (passed > self->k && instant_of (self, passed) > now)
    passed--;
  if (self->policy == BELAY_TICKER_BURST || passed <= self->k)
    {
      self->k++;
      return;
    }
  self->n_missed += passed - self->k;
  self->k = passed + 1;
  if (self->policy == BELAY_TICKER_DELAY)
    {
      self->base = now;
      self->k = 1;
    }
}

gboolean
belay_ticker_next_at (BelayTicker *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  gint64 due, now;

  g_return_val_if_fail (self != NULL && self->plain.klass == &ticker_class, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_ticker_next", error);
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return FALSE;
  due = instant_of (self, self->k);
  belay_stack_set_wait (fiber->stack, BELAY_WAITS_FOR_TIME, NULL, site);
  while ((now = belay_now ()) < due)
    {
      belay_fiber_suspend (fiber, BELAY_WAIT_INTERRUPTIBLE, due);
      if (belay_now () < due && !belay_limit_check (fiber, site, error))
        return FALSE;
    }
  advance (self, now);
  return TRUE;
}

gboolean
(belay_ticker_next) (BelayTicker *self, GError **error)
{
  return belay_ticker_next_at (self, error, NULL);
}
