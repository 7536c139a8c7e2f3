/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Barrier: nobody goes on before all have come. */
#pragma once

#include <belay/belay-fiber.h>
#include <belay/belay-future.h>

G_BEGIN_DECLS

/**
 * BelayBarrier: (ref-func belay_barrier_ref) (unref-func belay_barrier_unref)
 *
 * A number of parties that wait for one another, again and again: when the last has come all go on, and the next round
 * begins. Thread-safe, across loops.
 */
#define BELAY_TYPE_BARRIER (belay_barrier_get_type ())

BELAY_AVAILABLE_IN_1_0 GType         belay_barrier_get_type (void) G_GNUC_CONST;
/* For one party or more. */
BELAY_AVAILABLE_IN_1_0 BelayBarrier *belay_barrier_new      (guint parties) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayBarrier *belay_barrier_ref      (BelayBarrier *barrier);
BELAY_AVAILABLE_IN_1_0 void          belay_barrier_unref    (BelayBarrier *barrier);

/**
 * belay_barrier_wait:
 * @barrier: a barrier
 * @ret_index: (out) (optional): which party this was in its round, from 0; each is there once, in the order in which they came
 * @error: return location for a #GError
 *
 * Comes to the barrier, and waits until all have come.
 *
 * Suspends: unless it is the last of the round. Cancellation: a checkpoint. A party that is interrupted has not come: the others
 * wait for another in its place. Where that will not be, abort the barrier. Threads: in a fiber.
 * Errors: %BELAY_ERROR_BROKEN when the barrier is aborted, or is reset meanwhile; %G_IO_ERROR_CANCELLED;
 * %G_IO_ERROR_TIMED_OUT.
 *
 * Returns: %TRUE when all have come
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_barrier_wait       (BelayBarrier *barrier, guint *ret_index, GError **error);
/* The same as a future of the index, an int64, for callback code and plain threads. One that is dropped has not come. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_barrier_wait_async (BelayBarrier *barrier) BELAY_USE_RESULT;

/* Breaks it: who waits, and who comes until it is reset, gets %BELAY_ERROR_BROKEN. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void         belay_barrier_abort      (BelayBarrier *barrier);
/* Makes it as new: who waits gets %BELAY_ERROR_BROKEN, and who comes begins a round. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void         belay_barrier_reset      (BelayBarrier *barrier);

/* Whether it was aborted; how many it is for; how many of them wait now. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_barrier_is_broken     (BelayBarrier *barrier);
BELAY_AVAILABLE_IN_1_0 guint        belay_barrier_get_parties   (BelayBarrier *barrier);
BELAY_AVAILABLE_IN_1_0 guint        belay_barrier_get_n_waiting (BelayBarrier *barrier);

BELAY_AVAILABLE_IN_1_0 gboolean     belay_barrier_wait_at    (BelayBarrier *barrier, guint *ret_index, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_barrier_wait(barrier, ret_index, error) belay_barrier_wait_at ((barrier), (ret_index), (error), BELAY_SITE)
#endif

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayBarrier, belay_barrier_unref)

G_END_DECLS
