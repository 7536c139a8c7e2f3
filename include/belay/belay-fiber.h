/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fibers: functions with a stack of their own, that may wait. */
#pragma once

#include <belay/belay-macros.h>

G_BEGIN_DECLS

/**
 * belay_await:
 * @future: (transfer full): the future to wait for
 * @error: return location for a #GError
 *
 * Waits until the outcome is known and takes the value, as belay_future_take() does.
 *
 * Suspends: when @future is pending. Cancellation: a checkpoint: in a scope that is cancelled or past its deadline
 * it fails before it looks at @future, even when that is ready. Work that borrows memory of the caller is asked to
 * end and waited for; a reference to @future that is kept elsewhere keeps it going, and then the wait lasts until it ends
 * by itself or that reference is dropped. Threads: in a fiber; elsewhere it is reported with g_critical() and fails.
 * Errors: those of the future; %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT; %BELAY_ERROR_TAKEN; %BELAY_ERROR_NO_FIBER;
 * %BELAY_ERROR_MISUSE for %NULL.
 *
 * Returns: (transfer full): the value; %NULL always means an error
 */
BELAY_AVAILABLE_IN_1_0 gpointer belay_await         (BelayFuture *future, GError **error);
/* The same when only success matters (a value is released), or the value is a number, or may be NULL. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_await_ok      (BelayFuture *future, GError **error);
BELAY_AVAILABLE_IN_1_0 gboolean belay_await_int64   (BelayFuture *future, gint64 *ret_value, GError **error);
BELAY_AVAILABLE_IN_1_0 gboolean belay_await_double  (BelayFuture *future, double *ret_value, GError **error);
BELAY_AVAILABLE_IN_1_0 gboolean belay_await_pointer (BelayFuture *future, gpointer *ret_value, GError **error);

/**
 * belay_sleep:
 * @milliseconds: how long; 0 or less is belay_yield()
 * @error: return location for a #GError
 *
 * Suspends: yes. Cancellation: a checkpoint. Threads: in a fiber.
 * Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT when a deadline around it came first.
 *
 * Returns: %TRUE when the time has passed
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_sleep (gint64 milliseconds, GError **error);

/**
 * belay_yield:
 * @error: return location for a #GError
 *
 * Lets the others that are ready run first. A checkpoint, as belay_sleep().
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_yield (GError **error);

/**
 * belay_checkpoint:
 * @error: return location for a #GError
 *
 * Fails when the current scopes are cancelled or past their deadline; never suspends. For long computations.
 * Outside a fiber it is %TRUE.
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_checkpoint (GError **error);

/**
 * belay_spawn:
 * @func: what the fiber does
 * @data: handed to @func; it must live until the fiber has ended
 *
 * Starts a child fiber on the current context, owned by the innermost scope of the caller (its own, that ends with
 * the caller's function, when it opened none): nothing outlives that scope. The outcome goes to the future. If
 * nobody holds the future when the child fails, the scope fails: its other children are cancelled. Dropping the future
 * does not cancel the child; losing a race does (belay_future_race(), belay_future_with_timeout()), and that is joined.
 * To spawn into a group whose members stand and fall together, use belay_scope_spawn().
 *
 * Suspends: never; the child runs when the caller waits. Cancellation: in a cancelled scope nothing is started and
 * the future is rejected. Threads: in a fiber; on a plain thread the child belongs to the context's detached
 * set, which the end of the program waits for. Errors: those of @func.
 *
 * Returns: (transfer full): resolves when the function returned %TRUE
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_spawn       (BelayFunc func, gpointer data) BELAY_USE_RESULT;
/* The same for a function that makes a value; @destroy frees a value that nobody took. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_spawn_value (BelayValueFunc func, gpointer data, GDestroyNotify destroy) BELAY_USE_RESULT;

/**
 * belay_in_fiber:
 *
 * %TRUE in a fiber, also while it runs a main loop of its own, in a dialog say; but not in what that loop dispatches,
 * which is as plain as in any other loop: it must not wait, what it spawns is detached, and its guards schedule their
 * releases. (This goes for a main context that fibers, delays or scopes have been made for. One that Belay has never met
 * runs its handlers as a part of the fiber that iterates it: no other may iterate it while they wait.)
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_in_fiber (void);

/**
 * belay_now:
 *
 * The clock that sleeps and deadlines go by: monotonic, in microseconds; a virtual one under test.
 */
BELAY_AVAILABLE_IN_1_0 gint64 belay_now (void);

/**
 * belay_external_begin:
 *
 * For those who make futures of foreign sources of events: says that work begins which the library does not see, such as
 * a transfer on a socket, or waiting for another process. The virtual clock of a test stands still until
 * belay_external_end() was called as often: no sleep ends and no deadline passes meanwhile. The real clock does not mind.
 * What goes through BELAY_GIO(), belay-sqlite and belay-http does so by itself.
 *
 * Suspends: never. Cancellation: none; end it, too, when the work was cancelled. Threads: any, and another may end it.
 * Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_external_begin (void);
/* Such work has ended: its promise is answered, or nobody wants that any more. */
BELAY_AVAILABLE_IN_1_0 void belay_external_end   (void);

/**
 * belay_set_stack_size:
 * @bytes: address space for each fiber's stack; what is not touched costs no memory
 *
 * 128 KiB unless told. Rounded up to whole pages, and to 16 KiB at least; for stacks made from now on, so call it
 * first. They are mapped in hundreds: where the system has not so much address space, fibers fail with %BELAY_ERROR_NO_STACK.
 */
BELAY_AVAILABLE_IN_1_0 void belay_set_stack_size (gsize bytes);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 gpointer     belay_await_at         (BelayFuture *future, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean     belay_await_ok_at      (BelayFuture *future, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean     belay_await_int64_at   (BelayFuture *future, gint64 *ret_value, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean     belay_await_double_at  (BelayFuture *future, double *ret_value, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean     belay_await_pointer_at (BelayFuture *future, gpointer *ret_value, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean     belay_sleep_at         (gint64 milliseconds, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean     belay_yield_at         (GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_spawn_at         (BelayFunc func, gpointer data, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_spawn_value_at   (BelayValueFunc func, gpointer data, GDestroyNotify destroy, const char *site) BELAY_USE_RESULT;

#ifndef __GI_SCANNER__
#define belay_await(future, error)                belay_await_at ((future), (error), BELAY_SITE)
#define belay_await_ok(future, error)             belay_await_ok_at ((future), (error), BELAY_SITE)
#define belay_await_int64(future, ret, error)     belay_await_int64_at ((future), (ret), (error), BELAY_SITE)
#define belay_await_double(future, ret, error)    belay_await_double_at ((future), (ret), (error), BELAY_SITE)
#define belay_await_pointer(future, ret, error)   belay_await_pointer_at ((future), (ret), (error), BELAY_SITE)
#define belay_sleep(milliseconds, error)          belay_sleep_at ((milliseconds), (error), BELAY_SITE)
#define belay_yield(error)                        belay_yield_at ((error), BELAY_SITE)
#define belay_spawn(func, data)                   belay_spawn_at ((func), (data), BELAY_SITE)
#define belay_spawn_value(func, data, destroy)    belay_spawn_value_at ((func), (data), (destroy), BELAY_SITE)
#endif

G_END_DECLS
