/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A whole program: main loop, signals, drain, exit status. */
#pragma once

#include <belay/belay-macros.h>

G_BEGIN_DECLS

/**
 * belay_run:
 * @func: the program, in a fiber
 * @data: handed to @func
 *
 * Runs a main loop on the default context until @func and all that it started have ended, then waits, for 10 s at
 * most, for releases and detached work that are still under way. SIGINT and SIGTERM cancel the program: its guards
 * release in order, and the status is 128 and the signal's number. When the first one comes during that last wait, it
 * goes on for no more than another second. A second signal ends the process at once.
 * An error that @func returns is printed on stderr, after the program's name.
 *
 * Suspends: blocks until the end. Cancellation: by signals. Threads: the main thread, outside a fiber. Errors: printed.
 *
 * Returns: the exit status: 0 for success, 1 for a failure, 130 after SIGINT, 143 after SIGTERM, 70 when
 *   the work succeeded but releases did not end in time (how many is said on stderr)
 */
BELAY_AVAILABLE_IN_1_0 int belay_run (BelayFunc func, gpointer data);

/**
 * belay_run_set_exit_status:
 * @status: 0 to 255
 *
 * What belay_run() returns when @func succeeds, instead of 0, or fails, instead of 1. A signal's status goes first.
 * Said before belay_run() or in it, until it returns; the last one counts.
 *
 * Suspends: never. Cancellation: none. Threads: the one that runs belay_run(). Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_run_set_exit_status (int status);

G_END_DECLS
