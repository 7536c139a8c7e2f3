/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scopes: the one owner of all that is alive; time-outs and shields, the small ones. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayScope: (ref-func belay_scope_ref) (unref-func belay_scope_unref)
 *
 * An exit stack and a task group in one. It owns what was *entered* (resources), *deferred* (functions), *spawned*
 * (child fibers) and *chained* (callbacks on futures), and it is what cancellation and deadlines are said to.
 * Closing joins the children, then releases what is left, newest first, one after another. Every fiber has one that
 * ends with its function.
 *
 * A *lexical* scope, from belay_scope_begin(), is a guard of the fiber that made it: its cancellation interrupts that
 * fiber's body too. Left without a word it cancels its children. A *stored* scope, from belay_scope_new(), interrupts
 * only what it owns.
 *
 * A reference is not an owner: the last one dropped on a scope that was never closed is a mistake that is reported. So is
 * a lexical scope that is still open when its fiber ends: it is closed there. Where the main context of a scope's home has
 * ended, what the scope owned is ended by force.
 */
#define BELAY_TYPE_SCOPE (belay_scope_get_type ())

BELAY_AVAILABLE_IN_1_0 GType       belay_scope_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayScope *belay_scope_ref      (BelayScope *scope);
BELAY_AVAILABLE_IN_1_0 void        belay_scope_unref    (BelayScope *scope);

/* A lexical scope, to be declared with belay_auto (BelayScope). In a fiber; NULL with g_critical() elsewhere. */
BELAY_AVAILABLE_IN_1_0 BelayScope *belay_scope_begin    (void) BELAY_USE_RESULT;
/* A stored scope, for a widget or a service, whose home is the caller's thread-default context. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayScope *belay_scope_new      (void) BELAY_USE_RESULT;

/**
 * belay_scope_for_object:
 * @object: an object
 *
 * A stored scope that lives with @object: when the object goes, the scope is cancelled and closed. Nobody else can close
 * it. Its home is that of the first call.
 *
 * Suspends: never. Cancellation: none. Threads: any, also several at once. Errors: none.
 *
 * Returns: (transfer none): the scope, made at the first call
 */
BELAY_AVAILABLE_IN_1_0 BelayScope *belay_scope_for_object (GObject *object);

/* The innermost scope of the calling fiber, lent, and not to be closed; NULL outside a fiber. */
BELAY_AVAILABLE_IN_1_0 BelayScope *belay_scope_current    (void);

/**
 * belay_enter:
 * @scope: a scope
 * @future: (transfer full): a future of a resource
 * @error: return location for a #GError
 *
 * Waits for the resource and gives it to @scope, with no instant between in which nobody owns it.
 *
 * Suspends: when @future is pending. Cancellation: a checkpoint, for which a stored @scope's own cancellation and deadline
 * count, too; a resource that comes too late is closed. Threads: in a fiber. Errors: those of the future; %G_IO_ERROR_CLOSED when the scope is closing: then the resource
 * was closed at once.
 *
 * Returns: (transfer none): the resource, valid until the scope releases it
 */
BELAY_AVAILABLE_IN_1_0 gpointer belay_enter (BelayScope *scope, BelayFuture *future, GError **error);

/* Gives an open resource (transfer full) to the scope. FALSE with CLOSED: it was closed at once. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_scope_adopt (BelayScope *scope, gpointer resource, GError **error);

/**
 * belay_scope_defer:
 * @scope: a scope
 * @func: called when the scope releases; in a fiber, shielded, and may wait
 * @data: handed to @func
 *
 * Registers a function among the releases. On a scope that is closing already it is called at once, and %FALSE returned.
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_scope_defer (BelayScope *scope, BelayFunc func, gpointer data);

/**
 * belay_scope_spawn:
 * @scope: a scope
 * @func: what the fiber does
 * @data: (transfer full): handed to @func
 * @destroy: (nullable): frees @data, exactly once, whether the fiber ran or not
 *
 * Starts a fiber that belongs to the group: if it fails, the other members and the body are cancelled, and closing
 * the scope reports the failure. While a child lives one can spawn, also during the close; after it, and in a scope
 * that is cancelled, or inside of one that is, nothing starts.
 *
 * Suspends: never. Cancellation: see above. Threads: any; the fiber runs on the scope's home. Errors: none here.
 *
 * Returns: %TRUE when it was accepted. A cancellation or the end of the time before it comes to run, and on another
 * thread than the scope's home a cancellation of what is around the scope, still keep @func from being called.
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_scope_spawn (BelayScope *scope, BelayFunc func, gpointer data, GDestroyNotify destroy);
/* The same for a function that makes a value, given by the future; @destroy frees a value that nobody took. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_scope_spawn_value (BelayScope *scope, BelayValueFunc func, gpointer data,
                                                             GDestroyNotify destroy_data, GDestroyNotify destroy) BELAY_USE_RESULT;

/**
 * BelayStartFunc:
 * @starting: what to say belay_started() to; valid until the function returns
 * @data: what was given with the function
 * @error: return location for a #GError; never %NULL
 *
 * What a child does that says when it is ready: it begins to listen, says so, and serves.
 *
 * Returns: %TRUE for success
 */
typedef gboolean (*BelayStartFunc) (BelayStarting *starting, gpointer data, GError **error);

/**
 * belay_scope_start:
 * @scope: a scope
 * @func: what the fiber does
 * @data: (transfer full): handed to @func
 * @destroy: (nullable): frees @data, exactly once, whether the fiber ran or not
 *
 * Starts a child fiber and gives a future of its word that it is ready, with the value that it says. Until then its failure
 * is the future's, and the group knows nothing of it; from then on it is a member as one of belay_scope_spawn(). A child that
 * ends without the word rejects the future. Several can be started side by side (belay_future_all()).
 *
 * |[<!-- language="C" -->
 * if (!belay_await_pointer (belay_scope_start (group, serve, server, NULL), &address, error))
 *   return FALSE; // it has ended, and cleaned up behind itself
 * ]|
 *
 * Suspends: never itself. Cancellation: in a cancelled scope nothing starts; an await that is cancelled before the word, or
 * a future that is dropped, cancels the child, and the await returns when that has ended. Threads: any; the fiber runs on the
 * scope's home. Errors: those of @func; %BELAY_ERROR_BROKEN when it ended without the word; %G_IO_ERROR_CLOSED.
 *
 * Returns: (transfer full): a future of a pointer
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_scope_start (BelayScope *scope, BelayStartFunc func, gpointer data,
                                                       GDestroyNotify destroy) BELAY_USE_RESULT;

/**
 * belay_started:
 * @starting: what the child's function was given
 * @value: (nullable) (transfer full): for whoever waits for the word; it is had once
 * @destroy: (nullable): frees a value that nobody takes
 *
 * Says that a child of belay_scope_start() is ready.
 *
 * Suspends: never. Cancellation: none. Threads: the child's, in it or in what it calls. Errors: none; to say it twice is a
 * g_critical().
 *
 * Returns: %FALSE when nobody waits for it any more (the child is cancelled then), or it was said before: @value is freed
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_started (BelayStarting *starting, gpointer value, GDestroyNotify destroy);

/**
 * BelayChainFunc:
 * @done: a future whose outcome is known (borrowed)
 * @data: what was given with the function
 * @error: return location for a #GError; never %NULL
 *
 * A step of callback code. It runs on the scope's home, from the run queue, outside any fiber.
 *
 * Returns: %FALSE with @error set to fail the scope
 */
typedef gboolean (*BelayChainFunc) (BelayFuture *done, gpointer data, GError **error);

/**
 * belay_scope_then:
 * @scope: a scope, as a rule a stored one
 * @future: (transfer full): a future
 * @func: called when the outcome is known, resolved or rejected
 * @data: handed to @func
 *
 * Callback code whose owner is a scope: @func is never called after the scope began to close or was cancelled, so
 * that @data may be the widget that owns the scope. What @future would have given is then released. Work that uses
 * memory of the caller's is asked to end, and the close of the scope waits until it has; when that is over already, the
 * end of the program does.
 *
 * A @func that fails cancels the scope, as a member of the group that fails does, and for a stored scope nobody is told
 * before it is closed: its other chains are dropped without a word, and none is called again. Return %TRUE for what
 * should not end the owner's other work.
 *
 * Suspends: never. Cancellation: by the scope; the end of its time alone does not keep @func from being called.
 * Threads: any. Errors: what @func fails with fails the scope.
 */
BELAY_AVAILABLE_IN_1_0 void belay_scope_then (BelayScope *scope, BelayFuture *future, BelayChainFunc func, gpointer data);

/**
 * belay_scope_cancel:
 * @scope: a scope
 * @reason: (nullable): why, for the errors that say so; the first one is kept
 *
 * Cancels all that the scope owns, for good: each checkpoint in it fails with %G_IO_ERROR_CANCELLED from now on.
 * It waits for nothing: closing the scope does.
 *
 * Suspends: never. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_scope_cancel       (BelayScope *scope, const char *reason);
/* Whether it, or what is around it up to a shield, is cancelled. Threads: any; elsewhere than at home, itself alone. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_scope_is_cancelled (BelayScope *scope);
/*
 * Sets when its time is up, from now; a negative number: never. An outer deadline that is earlier stays in force. From then
 * on checkpoints fail; nothing is cancelled: neither its GCancellable nor its chains. Threads: any.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_scope_set_timeout  (BelayScope *scope, gint64 milliseconds);
/* How long a release in this scope may take before it is forced; 5 s unless told, negative: for ever. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void     belay_scope_set_release_timeout (BelayScope *scope, gint64 milliseconds);
/*
 * For GIO's functions: cancelled with the scope or with what is around it, not by a deadline: bound such a call by what
 * awaits it. (transfer none), valid while the scope is. Threads: any; elsewhere than at home it may hear a moment later of
 * what is around the scope.
 */
BELAY_AVAILABLE_IN_1_0 GCancellable *belay_scope_get_cancellable (BelayScope *scope);

/**
 * belay_scope_close:
 * @scope: (transfer full): the address of a variable that holds a scope; it is %NULL afterwards
 * @error: return location for a #GError
 *
 * Waits for the children and for chained work that uses memory of its caller's, then releases what the scope owns, newest
 * first, all of it whatever fails. Every other close of the same scope waits for the first and has the same result. A scope
 * that is only lent (belay_scope_current(), belay_scope_for_object()) is not closed.
 *
 * Suspends: yes. Cancellation: the children are interrupted, the releases are shielded; a cancellation that the
 * body or a child's join observed is the result. What bounds the closer's own time bounds the wait for the children of a
 * lexical scope, which are inside of it; not that for a stored scope's. Threads: in a fiber; elsewhere the close is
 * scheduled. Errors: the first failure of a child, of the body (belay_check()) or of a release; the message says how many
 * more there are, and belay_scope_get_errors() has them all. %BELAY_ERROR_RELEASE_TIMEOUT when it is a release that closes
 * the scope, and its time is up: the scope is cancelled then, and goes on closing without the caller.
 * %BELAY_ERROR_MISUSE from inside of its own close, for a scope that is lent, and for one of its own fibers.
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_scope_close (BelayScope **scope, GError **error);

/*
 * All failures of a closed scope, in the order in which they happened, the one that closing returned first; NULL when there
 * are none. (transfer none), valid while the scope is. Those of one that is not closed yet are for its home thread, and for
 * the moment: they may still become more.
 */
BELAY_AVAILABLE_IN_1_0 BelayErrors *belay_scope_get_errors (BelayScope *scope);

/* --- the small ones --- */

/**
 * belay_timeout:
 * @milliseconds: from now
 *
 * A guard that bounds the time of the code in its block: each checkpoint fails with %G_IO_ERROR_TIMED_OUT when the
 * time is up. An outer deadline that is earlier stays in force. Costs no allocation.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayTimeout) limit = belay_timeout (2000);
 * ]|
 *
 * Suspends: never. Threads: in a fiber; %NULL with g_critical() elsewhere.
 */
BELAY_AVAILABLE_IN_1_0 BelayTimeout *belay_timeout         (gint64 milliseconds) BELAY_USE_RESULT;
/* The same for an instant of belay_now(), in microseconds, which several calls can share. */
BELAY_AVAILABLE_IN_1_0 BelayTimeout *belay_timeout_at      (gint64 when) BELAY_USE_RESULT;
/* TRUE when a checkpoint was stopped by this one (and by none around it). */
BELAY_AVAILABLE_IN_1_0 gboolean      belay_timeout_expired (BelayTimeout *timeout);

/**
 * belay_timeout_reschedule:
 * @timeout: a time-out whose block has not ended
 * @milliseconds: from now; a negative number: never
 *
 * Moves the end of the time, later or sooner; the old one is of no effect any more.
 *
 * Suspends: never. Threads: that of the fiber that made it. Errors: none.
 *
 * Returns: %FALSE, and nothing is changed, when it has stopped a checkpoint already
 */
BELAY_AVAILABLE_IN_1_0 gboolean      belay_timeout_reschedule (BelayTimeout *timeout, gint64 milliseconds);

/**
 * belay_time_left:
 *
 * How long the calling fiber may still wait: to the earliest deadline that is in force here, time-outs, scopes and the release
 * that it is in all counted, and what a shield hides not.
 *
 * Suspends: never. Threads: any. Errors: none.
 *
 * Returns: milliseconds, rounded up; 0 when the time is up; -1 when there is no deadline, and outside a fiber
 */
BELAY_AVAILABLE_IN_1_0 gint64        belay_time_left (void);

/**
 * belay_shield:
 *
 * A guard in whose block neither the cancellation nor the deadline of what is around it is observed; that of what is
 * inside it is. The first checkpoint after it sees what is pending. It does not hide the deadline of a release that it is
 * in from a wait, only from what starts something.
 */
BELAY_AVAILABLE_IN_1_0 BelayShield *belay_shield (void) BELAY_USE_RESULT;
/*
 * What it hides just now: CANCELLED, DEADLINE, or OK when nothing does. A body that is cancelled but shielded can so hurry
 * up. Threads: that of the fiber that made it.
 */
BELAY_AVAILABLE_IN_1_0 BelayReason  belay_shield_get_pending (BelayShield *shield);

BELAY_AVAILABLE_IN_1_0 BelayScope   *belay_scope_begin_at (const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayScope   *belay_scope_new_at   (const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 gpointer      belay_enter_at       (BelayScope *scope, BelayFuture *future, GError **error, const char *site);

#ifndef __GI_SCANNER__
#define belay_scope_begin()                belay_scope_begin_at (BELAY_SITE)
#define belay_scope_new()                  belay_scope_new_at (BELAY_SITE)
#define belay_enter(scope, future, error)  belay_enter_at ((scope), (future), (error), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayScope)
BELAY_DEFINE_AUTO (BelayTimeout)
BELAY_DEFINE_AUTO (BelayShield)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayScope, belay_scope_unref)

G_END_DECLS
