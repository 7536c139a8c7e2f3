/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loops: threads with a main context of their own, to spread fibers over cores. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayLoop:
 *
 * A thread that iterates a #GMainContext, on which fibers can be spawned. A resource: closing it waits for its
 * fibers, then ends the thread; abandoning it cancels them.
 */
/* Starts the thread (it is named @name). */
BELAY_AVAILABLE_IN_1_0 BelayLoop    *belay_loop_new         (const char *name) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 GMainContext *belay_loop_get_context (BelayLoop *loop);

/**
 * belay_loop_spawn:
 * @loop: a loop
 * @func: what the fiber does there
 * @data: (transfer full): handed to @func
 * @destroy: (nullable): frees @data, exactly once, on the loop's thread if the fiber ran
 *
 * Starts a fiber on another thread's loop. The loop owns it: closing the loop waits for it. When the last interest in
 * the future is dropped, or the wait for it is cancelled, the fiber is cancelled.
 *
 * Suspends: never. Cancellation: nothing starts in a cancelled scope. Threads: any. Errors: those of @func;
 * %G_IO_ERROR_CLOSED. A failure that nobody waits for goes to the sink, and the loop's other fibers go on.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_loop_spawn (BelayLoop *loop, BelayFunc func, gpointer data, GDestroyNotify destroy) BELAY_USE_RESULT;

BELAY_DEFINE_AUTO (BelayLoop)

G_END_DECLS
