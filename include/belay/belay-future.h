/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Futures (a value that will be known once), promises (their writing end) and combinators. */
#pragma once

#include <belay/belay-macros.h>

G_BEGIN_DECLS

/**
 * BelayFuture: (ref-func belay_future_ref) (unref-func belay_future_unref)
 *
 * A value, or an error, that will be known once. Thread-safe, reference-counted, a boxed type.
 *
 * A reference is an interest in the outcome. When the last interest is dropped before the outcome is known, the
 * work behind the future is asked to end; work that a scope owns (a spawned fiber) is the scope's and goes on.
 * An interest that is kept keeps the work going: a wait for work that borrows memory, when it is cancelled meanwhile,
 * then ends with the work, or with that interest.
 * A value that nobody took is released with the last reference, asynchronously where it is a resource.
 */
#define BELAY_TYPE_FUTURE  (belay_future_get_type ())
#define BELAY_TYPE_PROMISE (belay_promise_get_type ())

BELAY_AVAILABLE_IN_1_0 GType        belay_future_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_ref      (BelayFuture *future);
BELAY_AVAILABLE_IN_1_0 void         belay_future_unref    (BelayFuture *future);

/*
 * Futures that are known from the start. Each returns (transfer full); a pointer and an error are (transfer full) too, an
 * object is given a reference and a boxed value copied. Suspends: never. Threads: any.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_new_done     (void) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_new_int64    (gint64 value) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_new_double   (double value) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_new_pointer  (gpointer value, GDestroyNotify destroy) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_new_object   (gpointer object) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_new_boxed    (GType type, gconstpointer boxed) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_new_error    (GError *error) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_new_failed   (GQuark domain, int code, const char *format, ...)
                                                               G_GNUC_PRINTF (3, 4) BELAY_USE_RESULT;

/**
 * belay_future_is_pending:
 * @future: a future
 *
 * Tells whether the outcome is still unknown. One that is known never becomes pending again.
 */
BELAY_AVAILABLE_IN_1_0 gboolean      belay_future_is_pending  (BelayFuture *future);
BELAY_AVAILABLE_IN_1_0 gboolean      belay_future_is_resolved (BelayFuture *future);
BELAY_AVAILABLE_IN_1_0 gboolean      belay_future_is_rejected (BelayFuture *future);
/* The error of a rejected future (borrowed), else NULL. It counts as seen: the sink will not get it. */
BELAY_AVAILABLE_IN_1_0 const GError *belay_future_get_error   (BelayFuture *future);

/* What is attached to that error (borrowed), NULL for nothing. Looking at it does not count as having seen the error. */
BELAY_AVAILABLE_IN_1_0 BelayErrors  *belay_future_get_attached (BelayFuture *future);

/**
 * belay_future_take:
 * @future: a future whose outcome is known; not consumed
 * @error: return location for a #GError
 *
 * Takes the value out, without waiting. An object or boxed value can be taken by any number of takers, each gets
 * a reference or copy; a plain pointer or a resource by one: the next gets %BELAY_ERROR_TAKEN.
 * A pending future fails with %G_IO_ERROR_WOULD_BLOCK.
 *
 * Suspends: never. Cancellation: none, so also in a cancelled scope. Threads: any.
 * Errors: those of the future; %BELAY_ERROR_TAKEN; %G_IO_ERROR_WOULD_BLOCK.
 *
 * Returns: (transfer full): the value; %NULL always means an error
 */
BELAY_AVAILABLE_IN_1_0 gpointer belay_future_take        (BelayFuture *future, GError **error);
/* The same where NULL is a value, or where the value is a number. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_future_take_pointer (BelayFuture *future, gpointer *ret_value, GError **error);
BELAY_AVAILABLE_IN_1_0 gboolean belay_future_take_int64  (BelayFuture *future, gint64 *ret_value, GError **error);
BELAY_AVAILABLE_IN_1_0 gboolean belay_future_take_double (BelayFuture *future, double *ret_value, GError **error);
/* TRUE when it is resolved; the value stays. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_future_check       (BelayFuture *future, GError **error);

/**
 * belay_future_wait_sync:
 * @future: (transfer none): a future
 * @error: return location for a #GError
 *
 * Blocks a plain thread until the outcome is known. Refused, with g_critical(), on a thread that is the home of
 * fibers, since that thread may be the one to produce the outcome: in everything that its main loop dispatches; and,
 * while no loop runs, as long as there is a fiber, a delay, a continuation or a scope whose home is the thread's main context
 * (the thread-default one; on the main thread else the global default one).
 *
 * Suspends: blocks the thread. Cancellation: none. Threads: plain threads and workers.
 * Errors: those of the future; %BELAY_ERROR_MISUSE.
 *
 * Returns: %TRUE when it is resolved; take the value with belay_future_take()
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_future_wait_sync (BelayFuture *future, GError **error);

/* --- promises --- */

/**
 * BelayPromise: (ref-func belay_promise_ref) (unref-func belay_promise_unref)
 *
 * The writing end of a future. It completes once; whoever comes later is told %FALSE and its value is destroyed.
 * Dropped without an answer it rejects its future with %BELAY_ERROR_BROKEN.
 */
BELAY_AVAILABLE_IN_1_0 GType         belay_promise_get_type   (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayPromise *belay_promise_new        (void) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayPromise *belay_promise_ref        (BelayPromise *promise);
BELAY_AVAILABLE_IN_1_0 void          belay_promise_unref      (BelayPromise *promise);
/* A new reference to its future: an interest in it. */
BELAY_AVAILABLE_IN_1_0 BelayFuture  *belay_promise_get_future (BelayPromise *promise) BELAY_USE_RESULT;

/* Answer. TRUE when this call was the one that decided. The promise is not consumed. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_promise_resolve         (BelayPromise *promise);
BELAY_AVAILABLE_IN_1_0 gboolean belay_promise_resolve_int64   (BelayPromise *promise, gint64 value);
BELAY_AVAILABLE_IN_1_0 gboolean belay_promise_resolve_double  (BelayPromise *promise, double value);
BELAY_AVAILABLE_IN_1_0 gboolean belay_promise_resolve_pointer (BelayPromise *promise, gpointer value, GDestroyNotify destroy);
BELAY_AVAILABLE_IN_1_0 gboolean belay_promise_resolve_object  (BelayPromise *promise, gpointer object);
BELAY_AVAILABLE_IN_1_0 gboolean belay_promise_resolve_boxed   (BelayPromise *promise, GType type, gpointer boxed);
/* Unlike above, objects and boxed values are (transfer full); so is a resource, which is taken once, and closed if nobody does. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_promise_resolve_resource (BelayPromise *promise, gpointer resource);
BELAY_AVAILABLE_IN_1_0 gboolean belay_promise_reject          (BelayPromise *promise, GError *error);

/**
 * BelayCancelFunc:
 * @data: what was given with the function
 *
 * Ends the work behind a promise early, or has it ended. Called on any thread, under no lock, and never in a fiber: it
 * must not wait. It may answer the promise, drop it, and do the same to others.
 */
typedef void (*BelayCancelFunc) (gpointer data);

/**
 * belay_promise_on_cancel:
 * @promise: a promise
 * @func: called when no one is interested in the outcome any more
 * @data: handed to @func
 * @destroy: (nullable): frees @data, always exactly once
 *
 * Lets the work behind a promise end early. @func is called at most once, by whichever thread drops the last interest
 * while the promise is unanswered. Nobody waits for it: the promise may be answered, or dropped, on another thread
 * while @func still runs. What it uses must therefore be @data's own, or live for ever.
 *
 * @destroy is called when @func cannot be called any more: after @func has returned, by the same thread; or, when
 * nobody has asked before, inside the call that answers the promise or drops the last reference to it, once the
 * outcome is known. Like @func it runs under no lock and in no fiber.
 *
 * Set it before the promise or its future is given to anybody else. A later call takes the place of an earlier one,
 * whose data is destroyed.
 *
 * Suspends: never. Cancellation: none. Threads: any, the one who has the promise. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_promise_on_cancel (BelayPromise *promise, BelayCancelFunc func, gpointer data, GDestroyNotify destroy);

/**
 * belay_promise_set_borrowing:
 * @promise: a promise
 *
 * Declares that the work uses memory of the one who waits. An await that is cancelled then asks the work to end
 * (see belay_promise_on_cancel()) but returns only when it has ended. When several wait, the last of them that gives up
 * asks, and each returns only then.
 */
BELAY_AVAILABLE_IN_1_0 void belay_promise_set_borrowing (BelayPromise *promise);

/* --- combinators: each consumes the futures given (transfer full) and returns a new one --- */

/**
 * BelayThenFunc:
 * @done: a future whose outcome is known (borrowed)
 * @data: what was given with the function
 *
 * Runs from the run queue of the context on which it was registered, never inside the call that resolved.
 *
 * Returns: (transfer full) (nullable): a future whose outcome becomes the result, or %NULL for the outcome of @done
 */
typedef BelayFuture *(*BelayThenFunc) (BelayFuture *done, gpointer data);

/**
 * belay_future_then:
 * @future: (transfer full): a future
 * @func: called when @future is resolved
 * @data: handed to @func
 * @destroy: (nullable): frees @data, always exactly once
 *
 * Continues with @func after success; a failure is passed on. belay_future_catch() is the opposite, and
 * belay_future_finally() is for clean-up: it calls @func either way, exactly once, and passes the outcome of @future on
 * unless @func's future failed; when both did, the error of @future stays on top, and @func's is attached. When its result is dropped, or the wait for it cancelled, before @future is known, it drops
 * @future and gives @func one that is rejected with %G_IO_ERROR_CANCELLED; what @func returns is seen to its end.
 *
 * When the main context that @func was to run on is gone, @func is not called, that of belay_future_finally() neither: @data
 * is freed, by whichever thread finds it so, and the result rejected with the error of @future, else with %BELAY_ERROR_BROKEN.
 *
 * An error of @future goes to the sink when @func neither looked at it nor passed it on, and failed itself.
 *
 * When @func returns work that borrows memory, a cancelled wait for the result, or for what is made of it, sees that to
 * its end, as soon as @func has returned. A wait that is cancelled before @func is called ends at once where another
 * interest is kept, for which @func is called all the same: what it borrows then is that one's, not the wait's.
 *
 * Suspends: never. Cancellation: dropping the result drops @future; @func is not called once the result has been
 * dropped, except that of belay_future_finally(). Threads: any; @func runs on the thread-default context of the caller. Errors: those of @future and @func.
 *
 * Returns: (transfer full): the result
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_then    (BelayFuture *future, BelayThenFunc func, gpointer data, GDestroyNotify destroy) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_catch   (BelayFuture *future, BelayThenFunc func, gpointer data, GDestroyNotify destroy) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_finally (BelayFuture *future, BelayThenFunc func, gpointer data, GDestroyNotify destroy) BELAY_USE_RESULT;

/**
 * belay_future_all:
 * @first: (transfer full): a future
 * @...: more, ended by %NULL
 *
 * Resolves when all are resolved, rejects with the first failure. `all_settled` waits for all and always resolves.
 * `any` resolves with the first success and rejects when all failed, with the first failure, to which
 * the others are attached. `race` takes the
 * outcome of the first that settles. First is what was first in time; of those known from the start, the first given.
 * The members, in the order given, are read with belay_future_get_member().
 *
 * Interest in the members that no longer matter is dropped. Work that borrows memory (belay_promise_set_borrowing())
 * is asked to end instead, and the outcome, though decided, is known when it has ended. So is a spawned fiber
 * (belay_spawn(), belay_loop_spawn()) in whose future nobody else has an interest: it is cancelled and joined. An error
 * of a member that is not the result is attached to that when it is an error, too (belay_future_get_attached()): so `any`
 * gives all of them; else that of a loser, other than the cancellation, goes to the sink. When the result itself is dropped,
 * its members are.
 *
 * Suspends: never. Cancellation: a cancelled wait for the result gives up all members as above. Threads: any.
 * Errors: those of the members.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_all         (BelayFuture *first, ...) G_GNUC_NULL_TERMINATED BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_all_settled (BelayFuture *first, ...) G_GNUC_NULL_TERMINATED BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_any         (BelayFuture *first, ...) G_GNUC_NULL_TERMINATED BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_race        (BelayFuture *first, ...) G_GNUC_NULL_TERMINATED BELAY_USE_RESULT;
/*
 * The same for arrays; the futures are consumed, the array is not. n may be 0: all resolves, any and race fail. A NULL
 * among them is a mistake of the program: the others are dropped, and the result is rejected with %BELAY_ERROR_MISUSE.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_allv         (BelayFuture **futures, guint n) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_all_settledv (BelayFuture **futures, guint n) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_anyv         (BelayFuture **futures, guint n) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_racev        (BelayFuture **futures, guint n) BELAY_USE_RESULT;
/* The members of a future made by all or all_settled. Borrowed; NULL past the end. */
BELAY_AVAILABLE_IN_1_0 guint        belay_future_get_n_members (BelayFuture *future);
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_get_member    (BelayFuture *future, guint index);

/**
 * belay_future_with_timeout:
 * @future: (transfer full): a future
 * @milliseconds: how long to wait for it, from now
 *
 * Rejects with %G_IO_ERROR_TIMED_OUT when @future is not known in time, and drops the interest in it. Work that borrows
 * memory is asked to end, and seen to its end, first; what it says then counts, unless that is the cancellation; to another
 * error than that the time-out is attached. While
 * another interest in it is kept it is not asked, so the time-out comes when it has ended by itself. A spawned fiber in
 * whose future nobody else has an interest is cancelled and joined first, too.
 *
 * Suspends: never. Cancellation: dropping the result drops @future. Threads: any. Errors: those of @future;
 * %G_IO_ERROR_TIMED_OUT.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_with_timeout (BelayFuture *future, gint64 milliseconds) BELAY_USE_RESULT;
/* Resolves after so many milliseconds. In a cancelled scope it does not begin: it is rejected. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_delay        (gint64 milliseconds) BELAY_USE_RESULT;

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayFuture, belay_future_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayPromise, belay_promise_unref)

G_END_DECLS
