/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Combinators that are scopes: the same for many items, whatever is ready first, and once more. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayMapFunc:
 * @item: one of the items
 * @data: what was given with the function
 * @error: return location for a #GError; never %NULL when Belay calls
 *
 * What belay_gather() does for each item, in a fiber.
 *
 * Returns: (transfer full) (nullable): the item's result, or %NULL with @error set
 */
typedef gpointer (*BelayMapFunc) (gpointer item, gpointer data, GError **error);

/**
 * belay_gather:
 * @items: (array length=n): the items
 * @n: how many there are
 * @at_once: how many may be under way at a time; 0 for all
 * @func: called for each item, in a fiber
 * @data: handed to @func
 * @destroy: (nullable): frees a result
 *
 * Does the same for many items, several at once, and gives the results in the order of the items, whichever came first.
 * The first that fails cancels the others and starts none any more; those that were under way are joined before the
 * failure is known, and what they failed with is attached to it.
 *
 * |[<!-- language="C" -->
 * g_autoptr (GPtrArray) pages = belay_await (belay_gather (urls, n, 8, fetch_page, session, page_free), error);
 * ]|
 *
 * The fibers are children of the caller's innermost scope. @items and @data are used until the result is known: a wait that
 * is cancelled cancels them all and joins them first, and so does the end of the scope when the result was dropped.
 *
 * Suspends: never itself. Cancellation: in a cancelled scope nothing is started; dropping the result cancels all.
 * Threads: in a fiber; on a plain thread the fibers are detached. Errors: those of @func.
 *
 * Returns: (transfer full): a future of a #GPtrArray that owns the results
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_gather (gpointer *items, guint n, guint at_once, BelayMapFunc func, gpointer data,
                                                  GDestroyNotify destroy) BELAY_USE_RESULT;

/**
 * BelayCompletions:
 *
 * Futures, in the order in which they are known. A guard: leaving it drops those that are not, as losing a race does.
 */
typedef struct _BelayCompletions BelayCompletions;

/**
 * belay_as_completed:
 * @futures: (array length=n) (transfer full): the futures, which are consumed; the array is not
 * @n: how many there are
 *
 * Takes many futures one after another as they come to be known.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayCompletions) done = belay_as_completed (futures, n);
 * BelayFuture *future;
 *
 * while (belay_completions_next (done, &future, NULL, &failure))
 *   show (belay_future_take (future, NULL));
 * ]|
 *
 * Closing it, or leaving its block, drops what nobody has waited for. Work that borrows memory, and a spawned fiber in whose
 * future nobody else has an interest, is asked to end and waited for first. An error that nobody looked at goes to the sink.
 *
 * Suspends: never; the end of the guard may. Cancellation: none. Threads: any. Errors: none; with a %NULL among the futures,
 * which is a mistake of the program, it is %NULL, and all are dropped.
 *
 * Returns: (transfer full): a guard
 */
BELAY_AVAILABLE_IN_1_0 BelayCompletions *belay_as_completed (BelayFuture **futures, guint n) BELAY_USE_RESULT;

/**
 * belay_completions_next:
 * @completions: the guard
 * @ret_future: (out) (transfer none): the next that is known, resolved or rejected, valid as long as the guard
 * @ret_index: (out) (optional): its place among those given, from 0
 * @error: return location for a #GError
 *
 * Waits for the next future whose outcome is known. What it says does not matter here: take it with belay_future_take().
 *
 * Suspends: when none is known. Cancellation: a checkpoint; what is known already is not lost, and can be had later.
 * Threads: in a fiber, one at a time. Errors: %G_IO_ERROR_CANCELLED, %G_IO_ERROR_TIMED_OUT.
 *
 * Returns: %TRUE with a future; %FALSE without an error when all have been given, with one when the wait was interrupted
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_completions_next (BelayCompletions *completions, BelayFuture **ret_future,
                                                        guint *ret_index, GError **error);

/**
 * BelayRetryFunc:
 * @attempt: which one this is, from 1
 * @data: what was given with the function
 *
 * Begins an attempt. Called in a fiber, and may wait.
 *
 * Returns: (transfer full): a future of what is wanted
 */
typedef BelayFuture *(*BelayRetryFunc) (guint attempt, gpointer data);

/**
 * BelayRetryPredicate:
 * @error: what an attempt failed with
 * @data: what was given with the function
 *
 * Returns: %TRUE when it is worth trying again
 */
typedef gboolean (*BelayRetryPredicate) (const GError *error, gpointer data);

/**
 * belay_retry:
 * @func: begins an attempt
 * @data: handed to @func and @is_worth
 * @attempts: how many there are at most, 1 or more
 * @first_delay: milliseconds between the first two
 * @factor: by which it grows each time, 1.0 or more
 * @max_delay: milliseconds that it does not grow beyond
 * @is_worth: (nullable): tells which errors are worth another attempt; %NULL: all
 *
 * Tries until an attempt succeeds, with a delay that grows in between. Half of each delay is left to chance, so that many
 * who failed together do not come back together; under a seeded schedule the seed decides. Give an attempt a time of its
 * own with belay_future_with_timeout().
 *
 * A cancellation is never tried again, nor is anything when the scope around is cancelled or out of time: that ends it at
 * once, in the middle of a delay, too.
 *
 * Suspends: never itself. Cancellation: in a cancelled scope nothing is started; a wait that is cancelled ends when the
 * attempt has, dropping the result cancels it; @data must live until then. Threads: in a fiber; on a plain thread the
 * attempts are detached. Errors: that of the last attempt; those of the earlier ones are attached to it.
 *
 * Returns: (transfer full): a future with the outcome of the last attempt
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_retry (BelayRetryFunc func, gpointer data, guint attempts, gint64 first_delay,
                                                 double factor, gint64 max_delay,
                                                 BelayRetryPredicate is_worth) BELAY_USE_RESULT;

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_gather_at (gpointer *items, guint n, guint at_once, BelayMapFunc func,
                                                     gpointer data, GDestroyNotify destroy,
                                                     const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_retry_at  (BelayRetryFunc func, gpointer data, guint attempts, gint64 first_delay,
                                                     double factor, gint64 max_delay, BelayRetryPredicate is_worth,
                                                     const char *site) BELAY_USE_RESULT;

#ifndef __GI_SCANNER__
#define belay_gather(items, n, at_once, func, data, destroy) \
  belay_gather_at ((items), (n), (at_once), (func), (data), (destroy), BELAY_SITE)
#define belay_retry(func, data, attempts, first_delay, factor, max_delay, is_worth) \
  belay_retry_at ((func), (data), (attempts), (first_delay), (factor), (max_delay), (is_worth), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayCompletions)

G_END_DECLS
