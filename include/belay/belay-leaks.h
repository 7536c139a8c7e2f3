/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is held, by whom, since when and from which line. */
#pragma once

#include <belay/belay-macros.h>

G_BEGIN_DECLS

/**
 * belay_leaks_report:
 *
 * Tells on stderr what is held at this moment: resources, permits, managers, open scopes and time-outs, each with the line
 * that acquired it, how long ago that was, and where the fiber that did it was spawned.
 *
 * With `BELAY_DEBUG=leaks` in the environment all that is written down while the program runs, and belay_run() and
 * belay_application_run() tell what is left at its end. `leaks=SECONDS` also tells, once, what has been held for longer. An
 * object that is finalized without having been closed is told at once. `BELAY_DEBUG=leaks,strict` ends the process after each
 * such report, and where a scope or a group was dropped without being closed or an error had nobody to go to. Nothing is ever
 * released by telling about it.
 * Without the word in the environment nothing is written down, and nothing told here.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: how many are held
 */
BELAY_AVAILABLE_IN_1_0 guint belay_leaks_report (void);

G_END_DECLS
