/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Latch: opens when so many have said that they are done. */
#pragma once

#include <belay/belay-fiber.h>
#include <belay/belay-future.h>

G_BEGIN_DECLS

/**
 * BelayLatch: (ref-func belay_latch_ref) (unref-func belay_latch_unref)
 *
 * A count that goes down, and opens the latch for ever when it comes to zero. With 1 it is a starting gun; with the number of
 * workers it says when all are ready. Thread-safe, across loops.
 */
#define BELAY_TYPE_LATCH (belay_latch_get_type ())

BELAY_AVAILABLE_IN_1_0 GType       belay_latch_get_type  (void) G_GNUC_CONST;
/* With 0 it is open. */
BELAY_AVAILABLE_IN_1_0 BelayLatch *belay_latch_new       (guint count) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayLatch *belay_latch_ref       (BelayLatch *latch);
BELAY_AVAILABLE_IN_1_0 void        belay_latch_unref     (BelayLatch *latch);

/**
 * belay_latch_count_down:
 * @latch: a latch
 * @n: how far
 *
 * Counts down; who comes to zero lets all pass who wait. More than is left is a mistake of the program: it is reported with
 * g_critical(), and nothing is counted.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: %TRUE when it was counted
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_latch_count_down (BelayLatch *latch, guint n);
/* What is left to count. */
BELAY_AVAILABLE_IN_1_0 guint        belay_latch_get_count  (BelayLatch *latch);

/**
 * belay_latch_wait:
 * @latch: a latch
 * @error: return location for a #GError
 *
 * Waits until the count is zero.
 *
 * Suspends: until then. Cancellation: a checkpoint. Threads: in a fiber.
 * Errors: %G_IO_ERROR_CLOSED; %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT.
 *
 * Returns: %TRUE when it is open
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_latch_wait       (BelayLatch *latch, GError **error);
/* The same as a future, for callback code and plain threads. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_latch_wait_async (BelayLatch *latch) BELAY_USE_RESULT;

/**
 * belay_latch_close:
 * @latch: a latch
 *
 * Gives it up, since nobody will count any more: everybody who waits, now or later, gets %G_IO_ERROR_CLOSED, though it
 * was open before. A second close does nothing.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void         belay_latch_close      (BelayLatch *latch);

BELAY_AVAILABLE_IN_1_0 gboolean     belay_latch_wait_at    (BelayLatch *latch, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_latch_wait(latch, error) belay_latch_wait_at ((latch), (error), BELAY_SITE)
#endif

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayLatch, belay_latch_unref)

G_END_DECLS
