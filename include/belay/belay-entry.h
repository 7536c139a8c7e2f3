/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scopes as exit stacks: one registration by its handle, to be released early, taken back or moved. */
#pragma once

#include <belay/belay-scope.h>

G_BEGIN_DECLS

/**
 * BelayExitFunc:
 * @data: what was given with the function
 * @reason: why the scope is left; the same for all of its releases
 * @error: return location for a #GError; never %NULL
 *
 * A deferred function that asks how things went. It is called in a fiber, shielded, and may wait.
 *
 * Returns: %TRUE for success
 */
typedef gboolean (*BelayExitFunc) (gpointer data, BelayReason reason, GError **error);

/**
 * belay_scope_on_exit:
 * @scope: a scope
 * @func: called when the scope releases
 * @data: (transfer full): handed to @func
 * @destroy: (nullable): frees @data, exactly once, after @func
 *
 * Registers a function among the releases that learns the reason: it commits for %BELAY_REASON_OK, say, and else rolls back.
 * belay_scope_defer() is the shorter form.
 *
 * Suspends: on a scope that is closing already it is called at once, and may. Cancellation: @func is shielded. Threads: any.
 * Errors: none here; those of @func are the scope's, or the sink's when it was called at once.
 *
 * Returns: %FALSE when it was called at once
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_scope_on_exit (BelayScope *scope, BelayExitFunc func, gpointer data, GDestroyNotify destroy);

/**
 * BelayEntry: (ref-func belay_entry_ref) (unref-func belay_entry_unref)
 *
 * A handle of one registration in a scope. The registration is *armed* until the scope releases it, or until it is
 * released early or taken back by its handle; that happens once, whoever is first, on whatever thread. A handle is no
 * owner: drop it when it is not needed, and the scope releases all the same.
 */
#define BELAY_TYPE_ENTRY (belay_entry_get_type ())

BELAY_AVAILABLE_IN_1_0 GType       belay_entry_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayEntry *belay_entry_ref      (BelayEntry *entry);
BELAY_AVAILABLE_IN_1_0 void        belay_entry_unref    (BelayEntry *entry);

/**
 * belay_scope_push:
 * @scope: a scope
 * @resource: (transfer full): an open resource
 * @error: return location for a #GError
 *
 * Gives a resource to the scope, as belay_scope_adopt(), and says where it is.
 *
 * Suspends: when it comes too late and is closed at once. Cancellation: none. Threads: any.
 * Errors: %G_IO_ERROR_CLOSED: it was closed at once; %BELAY_ERROR_MISUSE for %NULL and for what no scope can own.
 *
 * Returns: (transfer full): the handle
 */
BELAY_AVAILABLE_IN_1_0 BelayEntry *belay_scope_push      (BelayScope *scope, gpointer resource, GError **error) BELAY_USE_RESULT;
/* The same for a function, as belay_scope_on_exit(). CLOSED: it was called at once. */
BELAY_AVAILABLE_IN_1_0 BelayEntry *belay_scope_push_func (BelayScope *scope, BelayExitFunc func, gpointer data,
                                                          GDestroyNotify destroy, GError **error) BELAY_USE_RESULT;

/**
 * belay_scope_find_entry:
 * @scope: a scope
 * @resource: a resource that was entered, adopted or pushed
 *
 * The handle of what belay_enter() or belay_scope_adopt() gave to the scope. It looks from the newest on, one by one.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: (transfer full) (nullable): the handle; %NULL when it is not there, and once the scope has begun to release
 */
BELAY_AVAILABLE_IN_1_0 BelayEntry *belay_scope_find_entry (BelayScope *scope, gpointer resource) BELAY_USE_RESULT;

/* Whether it is still to be released. Another thread may change that at any instant. */
BELAY_AVAILABLE_IN_1_0 gboolean    belay_entry_is_armed   (BelayEntry *entry);

/**
 * belay_entry_release:
 * @entry: an entry
 * @error: return location for a #GError
 *
 * Releases it now, and waits for that: shielded, within the scope's release deadline, on the scope's home. The others keep
 * their order, and a close of the scope that comes meanwhile waits for this one before it goes on to what is older. The reason
 * is %BELAY_REASON_OK, unless the caller was interrupted.
 *
 * Suspends: as the release does. Cancellation: shielded. Threads: any; in a fiber it is awaited, elsewhere scheduled, and
 * then an error goes to the sink. Errors: those of the release; %G_IO_ERROR_CLOSED, and nothing is done, when it is not
 * armed any more.
 *
 * Returns: %TRUE when it is released, or scheduled
 */
BELAY_AVAILABLE_IN_1_0 gboolean    belay_entry_release    (BelayEntry *entry, GError **error);

/**
 * belay_entry_steal:
 * @entry: an entry of a resource
 * @error: return location for a #GError
 *
 * Takes a resource back from its scope, which then has nothing to do with it: put it into a guard.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: %G_IO_ERROR_CLOSED when it is not armed any more.
 *
 * Returns: (transfer full): the resource
 */
BELAY_AVAILABLE_IN_1_0 gpointer    belay_entry_steal      (BelayEntry *entry, GError **error) BELAY_USE_RESULT;
/* The same for a function: it will not be called, and its data is freed. */
BELAY_AVAILABLE_IN_1_0 gboolean    belay_entry_disarm     (BelayEntry *entry, GError **error);

/**
 * belay_entry_move:
 * @entry: an entry
 * @to: the scope that is to have it
 * @error: return location for a #GError
 *
 * Moves it to another scope, as the newest there, with no instant between in which it is in none or in both. From then on it
 * has that scope's release deadline and home. When @to is closing it stays armed where it is.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: %G_IO_ERROR_CLOSED when @to is closing, or the entry is not
 * armed any more.
 *
 * Returns: %TRUE when it was moved
 */
BELAY_AVAILABLE_IN_1_0 gboolean    belay_entry_move       (BelayEntry *entry, BelayScope *to, GError **error);

/* The same for all that @from is to release: they keep their order. Nothing of @from is moved when either is closing, or
 * when @to is among it, which is %BELAY_ERROR_MISUSE. */
BELAY_AVAILABLE_IN_1_0 gboolean    belay_scope_move_all   (BelayScope *from, BelayScope *to, GError **error);

/**
 * belay_move:
 * @variable: (inout): the address of a guard variable; it is %NULL when its resource was moved
 * @to: the scope that is to have it
 * @error: return location for a #GError
 *
 * Moves what a guard holds to a scope, which releases it from then on. When that is closing, the guard keeps it; %NULL in the
 * variable is moved at once.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, NULL), error);
 * if (db == NULL || !check (db, error))
 *   return FALSE;                            // closed here
 * return belay_move (&db, self->scope, error); // or kept
 * ]|
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: %G_IO_ERROR_CLOSED; %BELAY_ERROR_MISUSE for what belongs to its
 * block: a time-out, a shield, a lexical scope.
 *
 * Returns: %TRUE when the scope has it
 */
BELAY_AVAILABLE_IN_1_0 gboolean    belay_move             (gpointer variable, BelayScope *to, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayEntry, belay_entry_unref)

G_END_DECLS
