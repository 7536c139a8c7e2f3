/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Managers: one function that acquires, lends, and releases. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayManagerFunc:
 * @manager: to be handed to belay_manager_yield()
 * @data: what was given with the function
 * @error: return location for a #GError; never %NULL
 *
 * Acquires something, lends it with belay_manager_yield() while the body runs, and releases it, all in one function
 * in which ordinary guards work. It runs in a fiber of its own.
 *
 * What it makes of the body's outcome is its own matter: it may commit when belay_manager_yield() says success, and roll
 * back when not. It returns %TRUE when its release went well, however the body ended. To return the body's error again is
 * no failure to release.
 *
 * Returns: %FALSE with @error set when acquiring or releasing failed
 */
typedef gboolean (*BelayManagerFunc) (BelayManager *manager, gpointer data, GError **error);

/**
 * belay_manager_open:
 * @func: the manager function
 * @data: handed to @func, borrowed until that has ended
 *
 * Runs @func up to its belay_manager_yield(). Closing the manager lets it run on from there and waits for its end.
 *
 * |[<!-- language="C" -->
 * BELAY_WITH (BelayManager, m, belay_manager_open (managed_resource, "my_resource"), error)
 *   g_print ("Using resource %s\n", (char *) belay_manager_get_value (m));
 * ]|
 *
 * Suspends: never itself. Cancellation: up to the yield @func is interrupted at its own checkpoints, and its guards
 * unwind, for which a cancelled await waits; after it, it is shielded. To drop the future is to interrupt without the wait:
 * then @data must live on by itself. Threads: in a fiber. Errors: those of @func; %BELAY_ERROR_MISUSE when it ended
 * without a yield.
 *
 * Returns: (transfer full): a future of the #BelayManager
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_manager_open (BelayManagerFunc func, gpointer data) BELAY_USE_RESULT;

/**
 * belay_manager_yield:
 * @manager: the manager
 * @value: (nullable): what the body may use until it ends
 * @error: return location for a #GError
 *
 * Lends @value and waits until the body has ended. To be called once by the manager function. When nobody waits for the
 * guard any more, or a time-out of the function's own is over, nothing is lent: roll back, and end with %TRUE or
 * %FALSE.
 *
 * Suspends: until the body has ended. Cancellation: a checkpoint; once @value is lent, shielded. Threads: in the
 * manager's fiber. Errors: %G_IO_ERROR_CANCELLED, %G_IO_ERROR_TIMED_OUT: nothing was lent, or the body ended so;
 * the body's own error, where that is known (belay_manager_finish(), BELAY_WITH() that falls off its end with its error set),
 * domain, code and message; else %BELAY_ERROR_FAILED: the body failed or was left; %BELAY_ERROR_MISUSE.
 *
 * Returns: %TRUE when the body ended well (its block fell off its end, or it was closed), %FALSE with an error when
 *   it was left, failed, was cancelled or ran out of time
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_manager_yield (BelayManager *manager, gpointer value, GError **error);

/**
 * belay_manager_swallow:
 * @manager: the manager
 *
 * Says, after belay_manager_yield() has failed, that the body's error is dealt with. Then the BELAY_WITH() counts as
 * successful (its error is cleared, what was attached to it too, and there is no `else`), and belay_manager_finish() is
 * %TRUE. A cancellation and the end of the time cannot be swallowed (they go on), nor what nobody would hear of: the error of
 * a body that was left by `return` or the like, and that of a scope that the manager was entered into, which gives one
 * reason to all of its releases.
 *
 * Suspends: never. Cancellation: none. Threads: in the manager's fiber. Errors: none.
 *
 * Returns: %TRUE when it is swallowed; %FALSE when it cannot be, or nothing was lent, so roll back as ever
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_manager_swallow (BelayManager *manager);

/**
 * belay_manager_finish:
 * @manager: the address of a variable that holds a manager, or %NULL; it is %NULL afterwards
 * @ok: what the body said
 * @error: the body's error, where @ok is %FALSE and the caller wants errors; return location for a #GError
 *
 * Closes a manager with the outcome of the body, so that its function learns the error:
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayManager) m = belay_await (belay_manager_open (managed, data), error);
 * return m != NULL && belay_manager_finish (&m, use (belay_manager_get_value (m), error), error);
 * ]|
 *
 * The body's error stays on top; a failure of the release is attached to it (belay_attached_errors()), or is the error
 * when the body succeeded, or its error was swallowed.
 *
 * Suspends: yes. Cancellation: shielded, as belay_close(). Threads: in a fiber; elsewhere the close is scheduled.
 * Errors: those of the body and of the manager function. %BELAY_ERROR_MISUSE for @ok with an error, or not @ok without.
 *
 * Returns: %TRUE when the body succeeded, or its error was swallowed, and the manager ended well
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_manager_finish (BelayManager **manager, gboolean ok, GError **error);

/* What the manager function lends. (transfer none), valid until the manager is closed. */
BELAY_AVAILABLE_IN_1_0 gpointer belay_manager_get_value (BelayManager *manager);

BELAY_DEFINE_AUTO (BelayManager)

G_END_DECLS
