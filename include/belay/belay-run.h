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
 * Runs a main loop on the default context until @func and all that it started have ended, then drains what is still
 * under way (belay_drain()): for 10 s at most, unless belay_run_set_drain_timeout() says something else. What is left then
 * is told on stderr, item by item with the line that began it, and forced.
 * An error that @func returns is printed on stderr, after the program's name.
 *
 * Signals. The first SIGINT or SIGTERM cancels the program: its guards release in order, each within its own bound. The
 * second gives every release, under way or to come, in every main context, one second more at most, those that were to go on
 * for ever included; then they are forced, and the unwinding goes on. (What hides from that is a commit, and whatever a
 * program does behind a belay_shield() of its own.) The third ends the process at once, as does one that finds the main
 * loop blocked and is the third. In the drain the first counts as the second, since there is no work left to cancel.
 *
 * Suspends: blocks until the end. Cancellation: by signals. Threads: the main thread, outside a fiber; it is refused with
 * g_critical() in a child of fork(), see belay_is_forked(), while another thread runs the default main context, and in a
 * callback of a program that runs already. Errors: printed.
 *
 * Returns: the exit status: 0 for success, 1 for a failure, 130 after SIGINT, 143 after SIGTERM (whichever came first),
 *   70 when the work succeeded but what is under way did not end in time. The third signal exits with 128 and its own number
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

/**
 * belay_run_set_drain_timeout:
 * @milliseconds: 10000 unless told; negative: for ever
 *
 * How long the end of belay_run() waits for releases and detached work that are still under way, all of them together.
 * Said before belay_run() or in it; it holds for later runs, too.
 *
 * Suspends: never. Cancellation: none. Threads: the one that runs belay_run(). Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_run_set_drain_timeout (gint64 milliseconds);

/**
 * belay_run_get_signal:
 *
 * The first SIGINT or SIGTERM that came since belay_run() began; 0 when none did.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 int  belay_run_get_signal (void);

/**
 * belay_drain:
 * @milliseconds: for how long at most; negative: for ever
 *
 * Iterates the default main context until nothing is pending any more: scheduled releases, fibers that no scope owns,
 * jobs that own their data. For programs that have a main loop of their own, a #GApplication in its `shutdown` say;
 * belay_run() does it by itself. When the time is up, what is left is told on stderr, item by item with the line that began
 * it, then cut off: fibers are cancelled, releases forced, what has not begun is abandoned; that takes half a second more
 * at most.
 *
 * Suspends: blocks. Cancellation: none. Threads: the one that iterates the default main context, outside a fiber, where
 * it is a g_critical(). Errors: none.
 *
 * Returns: how many items were left when the time was up
 */
BELAY_AVAILABLE_IN_1_0 guint belay_drain (gint64 milliseconds);

/**
 * belay_when_drained:
 *
 * The same for fibers, and for callback code: a future that resolves when nothing is pending (belay_get_n_pending()). The
 * fiber that asks, and what it is a part of, does not count; nor does that of others who wait for the same, nor
 * what belay_run() runs.
 *
 * Suspends: never itself. Cancellation: nothing starts in a cancelled scope. Threads: any. Errors: none.
 *
 * Returns: (transfer full): resolves when nothing is pending
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_when_drained (void) BELAY_USE_RESULT;

/**
 * belay_is_forked:
 *
 * Whether this process is a child that was forked from one that uses Belay. Nothing of the parent's is alive there: guards
 * and scheduled releases do nothing, no fiber runs on, awaits fail with %BELAY_ERROR_FORKED, belay_run() is refused. What
 * may follow is exec() or _exit(): exit() would run handlers that are the parent's, and a fiber's function that returns ends
 * the child with status 70. g_spawn_async() and #GSubprocess do all that by themselves.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_is_forked (void);

G_END_DECLS
