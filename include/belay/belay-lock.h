/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lock: one at a time. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayLock: (ref-func belay_lock_ref) (unref-func belay_lock_unref)
 *
 * A lock that may be held while its fiber waits, handed out first come, first served: nobody overtakes. Thread-safe, across
 * loops. Suspends nothing while it is free.
 *
 * Who acquires it in a fiber is its owner. Only that fiber releases it, at the end of the guard's block, by belay_close(), or by
 * closing a scope that has the guard; belay_steal() and moves among variables and scopes are free as long as it is that fiber
 * which releases in the end. It is not recursive: to acquire it once more fails at once, with %BELAY_ERROR_DEADLOCK. A release by
 * anybody else is reported with g_critical() and does nothing. An owner that ends and has it still is reported, too, and the lock is
 * broken: who waits, and who comes later, gets %BELAY_ERROR_BROKEN until belay_lock_recover().
 *
 * A guard that is to travel, to another fiber or thread, into a scope that another fiber closes, is made nobody's by
 * belay_lock_disown(). One that came from belay_lock_acquire_async(), or was taken outside of fibers, is that from the beginning.
 */
#define BELAY_TYPE_LOCK (belay_lock_get_type ())

BELAY_AVAILABLE_IN_1_0 GType      belay_lock_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayLock *belay_lock_new      (void) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayLock *belay_lock_ref      (BelayLock *lock);
BELAY_AVAILABLE_IN_1_0 void       belay_lock_unref    (BelayLock *lock);

/**
 * belay_lock_acquire:
 * @lock: a lock
 * @error: return location for a #GError
 *
 * Takes the lock, as a guard: leaving its block gives it back.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, error);
 * if (held == NULL)
 *   return FALSE;
 * ]|
 *
 * Suspends: while another has it. Cancellation: a checkpoint; the lock is not lost by it at any instant.
 * Threads: in a fiber. Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT; %G_IO_ERROR_CLOSED when it is or was closed;
 * %BELAY_ERROR_DEADLOCK when this fiber has it already, with the line where; %BELAY_ERROR_BROKEN.
 *
 * Returns: (transfer full) (nullable): the guard. It keeps the lock alive; who waits for it needs a reference besides.
 */
BELAY_AVAILABLE_IN_1_0 BelayLockGuard *belay_lock_acquire       (BelayLock *lock, GError **error) BELAY_USE_RESULT;
/* The same without waiting; NULL when another has it, and when it is closed or broken. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayLockGuard *belay_lock_try_acquire   (BelayLock *lock) BELAY_USE_RESULT;
/*
 * The same as a future of the guard, for callback code and plain threads. The guard is nobody's: a fiber that has the lock and awaits
 * such a future waits for itself, unnoticed.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture    *belay_lock_acquire_async (BelayLock *lock) BELAY_USE_RESULT;

/**
 * belay_lock_disown:
 * @guard: the guard of a lock
 *
 * Makes the guard nobody's: from now on whoever has it may release it, in any fiber and on any thread, and the end of
 * the fiber that acquired it breaks nothing. That fiber could wait for itself now, unnoticed.
 *
 * Suspends: never. Cancellation: none. Threads: in the owner. Errors: none; g_critical() when another has the lock.
 */
BELAY_AVAILABLE_IN_1_0 void            belay_lock_disown        (BelayLockGuard *guard);

/* Whether somebody has it now; how many wait for it. */
BELAY_AVAILABLE_IN_1_0 gboolean        belay_lock_is_locked     (BelayLock *lock);
BELAY_AVAILABLE_IN_1_0 guint           belay_lock_get_n_waiting (BelayLock *lock);

/**
 * belay_lock_close:
 * @lock: a lock
 *
 * Ends it: all who wait, and who come later, get %G_IO_ERROR_CLOSED. Who has it keeps it until it is released. To close it again
 * does nothing.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void            belay_lock_close         (BelayLock *lock);

/**
 * belay_lock_recover:
 * @lock: a lock
 *
 * Makes a broken lock a free one. Who calls it has looked at what the lock protects, which the fiber that ended may have left half
 * changed.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: %TRUE when it was broken
 */
BELAY_AVAILABLE_IN_1_0 gboolean        belay_lock_recover       (BelayLock *lock);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 BelayLockGuard *belay_lock_acquire_at     (BelayLock *lock, GError **error, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayLockGuard *belay_lock_try_acquire_at (BelayLock *lock, const char *site) BELAY_USE_RESULT;
#ifndef __GI_SCANNER__
#define belay_lock_acquire(lock, error) belay_lock_acquire_at ((lock), (error), BELAY_SITE)
#define belay_lock_try_acquire(lock)    belay_lock_try_acquire_at ((lock), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayLockGuard)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayLock, belay_lock_unref)

G_END_DECLS
