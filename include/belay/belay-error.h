/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors: Belay's own codes, and the sink for those that nobody consumed. */
#pragma once

#include <belay/belay-macros.h>

G_BEGIN_DECLS

/**
 * BELAY_ERROR:
 *
 * The domain of Belay's own errors. What GIO has a code for is said with GIO's: a cancelled wait is
 * %G_IO_ERROR_CANCELLED, one whose time was up %G_IO_ERROR_TIMED_OUT, a closed thing %G_IO_ERROR_CLOSED.
 */
#define BELAY_ERROR (belay_error_quark ())

/**
 * BelayError:
 * @BELAY_ERROR_BROKEN: a promise was dropped without an answer, or the main context it depended on is gone
 * @BELAY_ERROR_TAKEN: the future's value can be taken once, and has been
 * @BELAY_ERROR_RELEASE_TIMEOUT: a release did not end by its deadline and was forced
 * @BELAY_ERROR_NO_FIBER: a call that waits was made outside a fiber
 * @BELAY_ERROR_NO_STACK: the system gave no memory for one more stack
 * @BELAY_ERROR_MISUSE: a mistake of the program, reported with g_critical() too
 * @BELAY_ERROR_FAILED: anything else
 * @BELAY_ERROR_FORKED: this process is a forked child, in which nothing of the parent's can go on
 */
typedef enum
{
  BELAY_ERROR_BROKEN,
  BELAY_ERROR_TAKEN,
  BELAY_ERROR_RELEASE_TIMEOUT,
  BELAY_ERROR_NO_FIBER,
  BELAY_ERROR_NO_STACK,
  BELAY_ERROR_MISUSE,
  BELAY_ERROR_FAILED,
  BELAY_ERROR_FORKED
} BelayError;

BELAY_AVAILABLE_IN_1_0 GQuark belay_error_quark (void);

/**
 * BelaySink:
 * @error: the error; valid during the call
 * @what: what failed, for example "closing a BelaySqlite"
 * @site: (nullable): where that was acquired, "file.c:42"
 * @data: what was given to belay_set_sink()
 *
 * Receives an error that no one else can.
 */
typedef void (*BelaySink) (const GError *error, const char *what, const char *site, gpointer data);

/**
 * belay_set_sink:
 * @sink: (nullable): the function, or %NULL for Belay's own
 * @data: handed to @sink
 *
 * Says who gets errors that nobody consumed: a release that was scheduled outside a fiber and failed, a callback
 * whose scope is gone, a future that was rejected and dropped unseen, in either order. Belay's own sink prints them with g_warning(). Each error is given once.
 *
 * Suspends: never. Cancellation: none. Threads: set it before others run; @sink is called from any thread.
 * Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_set_sink (BelaySink sink, gpointer data);

G_END_DECLS
