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
 * @BELAY_ERROR_BROKEN: a promise was dropped without an answer, the main context it depended on is gone, or who held a lock has
 *   ended without giving it back
 * @BELAY_ERROR_TAKEN: the future's value can be taken once, and has been
 * @BELAY_ERROR_RELEASE_TIMEOUT: a release did not end by its deadline and was forced
 * @BELAY_ERROR_NO_FIBER: a call that waits was made outside a fiber
 * @BELAY_ERROR_NO_STACK: the system gave no memory for one more stack
 * @BELAY_ERROR_MISUSE: a mistake of the program, reported with g_critical() too
 * @BELAY_ERROR_FAILED: anything else
 * @BELAY_ERROR_FORKED: this process is a forked child, in which nothing of the parent's can go on
 * @BELAY_ERROR_DEADLOCK: the wait would be for oneself, and so for ever
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
  BELAY_ERROR_FORKED,
  BELAY_ERROR_DEADLOCK
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

/**
 * BelayErrors: (ref-func belay_errors_ref) (unref-func belay_errors_unref)
 *
 * Several errors, in the order in which they happened, each with its site. Never changed, reference-counted, a boxed type.
 * Every function that asks it something takes %NULL for a list of none.
 *
 * The first thing that goes wrong is the #GError that a call returns, with its own domain and code, however many there
 * are; its message ends in "(and 2 more)". Those are *attached* to it: to the future (belay_future_get_attached()), for
 * the fiber that waited (belay_attached_errors()), among all of a scope's (belay_scope_get_errors()). A fiber that fails
 * with the error that it was given hands on what is attached to it, also with a prefix before the message.
 * The list of an error that nobody looked at goes to the sink with it.
 */
#define BELAY_TYPE_ERRORS (belay_errors_get_type ())

BELAY_AVAILABLE_IN_1_0 GType        belay_errors_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayErrors *belay_errors_ref      (BelayErrors *errors);
BELAY_AVAILABLE_IN_1_0 void         belay_errors_unref    (BelayErrors *errors);

/* How many there are. */
BELAY_AVAILABLE_IN_1_0 guint         belay_errors_get_size (BelayErrors *errors);
/* One of them, (transfer none); NULL past the end. */
BELAY_AVAILABLE_IN_1_0 const GError *belay_errors_get      (BelayErrors *errors, guint index);
/*
 * Where it comes from, "file.c:42": where the resource was acquired that could not be released, or else where the fiber
 * was spawned, or the scope begun, that it happened in. NULL where that is not known, and past the end.
 */
BELAY_AVAILABLE_IN_1_0 const char   *belay_errors_get_site (BelayErrors *errors, guint index);

/**
 * belay_attached_errors:
 *
 * What is attached to the last failure that the calling fiber was told of: by an await, by closing a scope or another
 * resource, by belay_commit(), belay_check() or the end of a BELAY_WITH(). A failure to which nothing is attached makes it
 * %NULL again. In a release it is the release's own.
 *
 * Suspends: never. Cancellation: none. Threads: in a fiber; elsewhere it is %NULL. Errors: none.
 *
 * Returns: (transfer none) (nullable): the errors, valid until the next failure
 */
BELAY_AVAILABLE_IN_1_0 BelayErrors *belay_attached_errors (void);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayErrors, belay_errors_unref)

G_END_DECLS
