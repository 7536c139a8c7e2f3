/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Ticker: something to be done at regular instants. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayTickerPolicy:
 * @BELAY_TICKER_SKIP: the ticks that passed are left out; the next is at its usual instant
 * @BELAY_TICKER_BURST: the ticks that passed come one after another, at once, until it has caught up
 * @BELAY_TICKER_DELAY: the ticks that passed are left out; the next is one period from now, and so on from there
 *
 * What becomes of ticks whose instant passed while nobody waited for them, since what was to be done took longer than a
 * period.
 */
typedef enum
{
  BELAY_TICKER_SKIP,
  BELAY_TICKER_BURST,
  BELAY_TICKER_DELAY
} BelayTickerPolicy;

/**
 * belay_ticker_new:
 * @milliseconds: from one tick to the next, 1 or more
 * @policy: what becomes of ticks that are missed
 *
 * A guard that ticks: the first time one period from now. By the monotonic clock, and without drift.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayTicker) ticker = belay_ticker_new (1000, BELAY_TICKER_SKIP);
 *
 * while (belay_ticker_next (ticker, error))
 *   measure (sensor);
 * return FALSE;
 * ]|
 *
 * Suspends: never. Cancellation: none. Threads: any; it is used by one fiber at a time. Errors: none.
 *
 * Returns: (transfer full): the ticker
 */
BELAY_AVAILABLE_IN_1_0 BelayTicker *belay_ticker_new            (gint64 milliseconds, BelayTickerPolicy policy) BELAY_USE_RESULT;
/* The same for so many ticks a second, up to 1e6. */
BELAY_AVAILABLE_IN_1_0 BelayTicker *belay_ticker_new_per_second (double ticks, BelayTickerPolicy policy) BELAY_USE_RESULT;

/**
 * belay_ticker_next:
 * @ticker: a ticker
 * @error: return location for a #GError
 *
 * Waits for the next tick.
 *
 * Suspends: until its instant; not when that has passed. Cancellation: a checkpoint; the tick is still the next one then.
 * Threads: in a fiber. Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT when a deadline came first.
 *
 * Returns: %TRUE at a tick
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_ticker_next           (BelayTicker *ticker, GError **error);
/* How many ticks were left out so far; none by BELAY_TICKER_BURST. */
BELAY_AVAILABLE_IN_1_0 guint64      belay_ticker_get_n_missed   (BelayTicker *ticker);

BELAY_AVAILABLE_IN_1_0 gboolean     belay_ticker_next_at        (BelayTicker *ticker, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_ticker_next(ticker, error) belay_ticker_next_at ((ticker), (error), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayTicker)

G_END_DECLS
