/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rate limiter: so many in a second. */
#pragma once

#include <belay/belay-fiber.h>
#include <belay/belay-future.h>

G_BEGIN_DECLS

/**
 * BelayRateLimiter: (ref-func belay_rate_limiter_ref) (unref-func belay_rate_limiter_unref)
 *
 * A token bucket: tokens come at a steady rate, up to a burst, and who wants to do something takes some first. First come,
 * first served, and nobody overtakes. It is full at first. Exact: what comes in a year is the rate times the year.
 * Thread-safe, across loops.
 *
 * In any stretch of time no more is taken than what comes in it, and a burst; and a second burst, where a main loop was late: what
 * comes between the instant at which somebody could have been served and the one at which he is, is not lost. Time passes for
 * those who wait by the main loop of one of them.
 */
#define BELAY_TYPE_RATE_LIMITER (belay_rate_limiter_get_type ())

BELAY_AVAILABLE_IN_1_0 GType             belay_rate_limiter_get_type (void) G_GNUC_CONST;

/**
 * belay_rate_limiter_new:
 * @per_second: how many tokens come in a second, up to 1e9; `100 / 60.0` is a hundred in a minute; 0 is none. A burst comes in
 *   36,000 years at the slowest
 * @burst: how many there are at most, 1 or more
 *
 * Makes a limiter. Futures of it wait on the caller's thread-default main context, fibers on their own.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 BelayRateLimiter *belay_rate_limiter_new      (double per_second, guint burst) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayRateLimiter *belay_rate_limiter_ref      (BelayRateLimiter *limiter);
BELAY_AVAILABLE_IN_1_0 void              belay_rate_limiter_unref    (BelayRateLimiter *limiter);

/**
 * belay_rate_limiter_acquire:
 * @limiter: a rate limiter
 * @n: how many tokens
 * @error: return location for a #GError
 *
 * Takes @n tokens, all or none, as soon as they are there and those who came before have theirs.
 *
 * Suspends: until then. Cancellation: a checkpoint. Who is interrupted has taken none, and those behind come to be served as if
 * it had never asked. Threads: in a fiber. Errors: %G_IO_ERROR_INVALID_ARGUMENT, at once, for more than the burst;
 * %G_IO_ERROR_CLOSED; %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT.
 *
 * Returns: %TRUE when they are taken
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_rate_limiter_acquire       (BelayRateLimiter *limiter, guint n, GError **error);
/* The same without waiting; FALSE when they are not there, or somebody waits. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_rate_limiter_try_acquire   (BelayRateLimiter *limiter, guint n);
/* The same as a future, for callback code and plain threads. What was taken for one that is dropped then is gone. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_rate_limiter_acquire_async (BelayRateLimiter *limiter, guint n) BELAY_USE_RESULT;

/**
 * belay_rate_limiter_set_rate:
 * @limiter: a rate limiter
 * @per_second: as in belay_rate_limiter_new(); 0 stops it
 * @burst: as there
 *
 * Changes both, for those who wait, too; what is in the bucket stays, up to the new burst. Who waits for more than that gets
 * %G_IO_ERROR_INVALID_ARGUMENT.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void         belay_rate_limiter_set_rate      (BelayRateLimiter *limiter, double per_second, guint burst);
/* How many tokens can be had at once; 0 while somebody waits. Threads: any. */
BELAY_AVAILABLE_IN_1_0 guint        belay_rate_limiter_get_available (BelayRateLimiter *limiter);
/* Ends it: everybody who waits, now or later, gets %G_IO_ERROR_CLOSED. A second close does nothing. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void         belay_rate_limiter_close         (BelayRateLimiter *limiter);

BELAY_AVAILABLE_IN_1_0 gboolean     belay_rate_limiter_acquire_at    (BelayRateLimiter *limiter, guint n, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_rate_limiter_acquire(limiter, n, error) belay_rate_limiter_acquire_at ((limiter), (n), (error), BELAY_SITE)
#endif

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayRateLimiter, belay_rate_limiter_unref)

G_END_DECLS
