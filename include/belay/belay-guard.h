/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guards: variables and blocks whose end releases what they hold. */
#pragma once

#include <belay/belay-resource.h>
#include <belay/belay-fiber.h>

G_BEGIN_DECLS

/**
 * belay_auto:
 * @Type: a type registered with BELAY_DEFINE_AUTO()
 *
 * Declares a guard: a variable of type `Type *` that releases what it holds when control leaves its block, by
 * `return`, `break`, `continue`, `goto` or by falling off the end. %NULL means that it holds nothing.
 * A type that is no resource (#BelayFuture, #BelaySemaphore, `BelaySqliteRows`, any other that is merely counted or
 * freed) has g_autoptr() instead; with belay_auto() the compiler says that the cleanup argument is not a function.
 *
 * In a fiber the release is awaited there; elsewhere it is scheduled and nothing blocks. A release is a close, then,
 * at the release deadline, an abandon; what is uncommitted is discarded. An error of a release that nobody asked for
 * goes to the innermost scope (belay_check()); close explicitly whatever was written to.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open ("pages.db", NULL), error);
 * if (db == NULL)
 *   return FALSE;
 * ]|
 *
 * Suspends: the closing brace does. Compile with -Wjump-misses-init: gcc lets a `goto` or `case` jump past a guard.
 */
#define belay_auto(Type) __attribute__ ((cleanup (belay_auto_release_##Type), unused)) Type *

/**
 * BELAY_DEFINE_AUTO:
 * @Type: the name of a resource type, an object that implements #BelayResource or a struct that begins with #BelayPlain
 *
 * Registers @Type for belay_auto() and BELAY_WITH(). Put it where the type is declared.
 */
#define BELAY_DEFINE_AUTO(Type)                                  \
  G_GNUC_UNUSED static inline void                               \
  belay_auto_release_##Type (Type **variable)                    \
  {                                                              \
    if (*variable != NULL)                                       \
      belay_release (variable);                                  \
  }

/**
 * BELAY_WITH:
 * @Type: a type registered with BELAY_DEFINE_AUTO()
 * @name: the variable to declare
 * @future: a future of the resource
 * @error: a `GError **`
 *
 * A block that holds a resource. Falling off its end closes the resource there, and says so:
 *
 * |[<!-- language="C" -->
 * BELAY_WITH (BelaySqlite, db, belay_sqlite_open ("pages.db", NULL), error)
 *   ok = belay_await_ok (belay_sqlite_execute (db, "DELETE FROM pages", NULL), error);
 * else
 *   ok = FALSE;      // opening or closing failed; error is set
 * ]|
 *
 * `break` and `continue` belong to the block: break leaves it as a guard is left, continue goes to its end. `return`
 * and `goto` out of it release, too, as a guard that is left without a word: a manager's yield then says that the body did
 * not end well, even for `return TRUE`. So does falling off the end with @error set, since then something in the block
 * has failed (%BELAY_REASON_ERROR): a manager is told that error, and may swallow it. A close that fails then is attached
 * to it (belay_attached_errors()), and the `else` part runs. With %NULL for @error nothing tells that, and falling off the
 * end is success: give it a place for the error, or `break`. The block commits nothing by itself.
 */
#define BELAY_WITH(Type, name, future, error)                                                                     \
  for (int belay_step_##name = 0; belay_step_##name < 3; belay_step_##name = 3)                                   \
    for (belay_auto (Type) name = (Type *) belay_await ((future), (error));                                       \
         (belay_step_##name = belay_step_##name == 0 ? (name != NULL ? 1 : 2)                                     \
                                                     : belay_with_next (belay_step_##name, &name, (error))) < 3;) \
      if (belay_step_##name == 1)

/**
 * belay_close:
 * @variable: the address of a variable that holds a resource or guard; it is %NULL afterwards
 * @error: return location for a #GError
 *
 * Closes gracefully and says how that went. What is uncommitted is discarded. %NULL in the variable is a success.
 *
 * Suspends: yes. Cancellation: shielded: a pending cancellation neither stops it nor is reported by it.
 * Threads: in a fiber; elsewhere the close is scheduled, as one that was said (%BELAY_REASON_OK), and %TRUE means just
 * that; an error goes to the sink.
 * Errors: those of the resource; %BELAY_ERROR_RELEASE_TIMEOUT.
 *
 * Returns: %TRUE when it closed without an error
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_close (gpointer variable, GError **error);

/**
 * belay_commit:
 * @variable: the address of a variable that holds a transaction, a replaced file or the like; %NULL afterwards
 * @error: return location for a #GError
 *
 * Makes what was done last, and closes. The only verb that does.
 *
 * Suspends: yes, for as long as the commit takes. Cancellation: checked before it begins, and so is a deadline
 * (%G_IO_ERROR_CANCELLED, %G_IO_ERROR_TIMED_OUT: nothing was committed, all is discarded), then shielded from both.
 * Nor does the release deadline end it: of a commit that is cut off nobody knows whether it happened. It bounds the
 * close that follows. A resource whose commit may hang bounds that itself, with a belay_timeout() in its commit
 * function. Threads: in a fiber. Errors: those of the resource; if the commit fails it is discarded.
 * %BELAY_ERROR_MISUSE, with g_critical(), for what has nothing to commit; it is closed.
 *
 * Returns: %TRUE when it is committed
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_commit (gpointer variable, GError **error);

/**
 * belay_release:
 * @variable: the address of a variable that holds a resource or guard; it is %NULL afterwards
 *
 * What leaving a guard does. Safe to call twice, and on %NULL.
 */
BELAY_AVAILABLE_IN_1_0 void belay_release (gpointer variable);

/**
 * belay_check:
 * @error: return location for a #GError
 *
 * Takes the failures that the innermost scope has so far: those of guards that were left in it, and of its children
 * (belay_scope_spawn(), and belay_spawn() when nobody holds the future; their failure has cancelled the scope, and that
 * stays so). The message of the first says how many more there are; those are attached (belay_attached_errors()), and go
 * on with the error when the fiber fails with it. When @error is set already
 * the body's own error stays on top: nothing is taken, and the scope's end reports the rest.
 *
 * Suspends: never. Cancellation: none; it is no checkpoint. Threads: in a fiber; elsewhere it is %TRUE. Errors: the
 * first.
 *
 * Returns: %FALSE when there are any
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_check (GError **error);

/* Moves what a guard holds out of it: the guard is disarmed, the caller owns. */
#define belay_steal(variable) ((__typeof__ (*(variable))) g_steal_pointer (variable))

/*< private >*/
BELAY_AVAILABLE_IN_1_0 int belay_with_next (int step, gpointer variable, GError **error);

G_END_DECLS
