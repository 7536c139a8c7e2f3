/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Read-write lock: many who read, or one who writes. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayRwLock: (ref-func belay_rw_lock_ref) (unref-func belay_rw_lock_unref)
 *
 * A lock for what is read by many and written by one, first come, first served: a reader that comes while a writer waits
 * gets behind that writer, and neither kind starves the other. Thread-safe, across loops. Suspends nothing while nobody is in the way.
 *
 * Owners are as with a #BelayLock: only the fiber that acquired a guard releases it, unless it was disowned or came from an async
 * function; an owner that ends and has it still breaks the lock. A fiber that reads may read once more, and gets that
 * at once. To write while it reads or writes, or to read while it writes, fails at once with %BELAY_ERROR_DEADLOCK.
 *
 * A #BelayCondition is of a #BelayLock. Who waits for a change of what this protects has a #BelayEvent or a #BelayWatch beside it.
 */
#define BELAY_TYPE_RW_LOCK (belay_rw_lock_get_type ())

BELAY_AVAILABLE_IN_1_0 GType        belay_rw_lock_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayRwLock *belay_rw_lock_new      (void) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayRwLock *belay_rw_lock_ref      (BelayRwLock *lock);
BELAY_AVAILABLE_IN_1_0 void         belay_rw_lock_unref    (BelayRwLock *lock);

/**
 * belay_rw_lock_read:
 * @lock: a read-write lock
 * @error: return location for a #GError
 *
 * Acquires it to read, beside other readers, as a guard: leaving its block gives it back.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayReadGuard) reading = belay_rw_lock_read (self->lock, error);
 * if (reading == NULL)
 *   return FALSE;
 * ]|
 *
 * Suspends: while another writes, or waits to. Cancellation: a checkpoint; nothing is lost by it at any instant.
 * Threads: in a fiber. Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT; %G_IO_ERROR_CLOSED when it is or was closed;
 * %BELAY_ERROR_DEADLOCK when this fiber writes, with the line where; %BELAY_ERROR_BROKEN.
 *
 * Returns: (transfer full) (nullable): the guard. It keeps the lock alive.
 */
BELAY_AVAILABLE_IN_1_0 BelayReadGuard  *belay_rw_lock_read        (BelayRwLock *lock, GError **error) BELAY_USE_RESULT;
/* The same without waiting; NULL when it would wait, and when it is closed or broken. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayReadGuard  *belay_rw_lock_try_read    (BelayRwLock *lock) BELAY_USE_RESULT;
/* The same as a future of a BelayReadGuard that is nobody's, for callback code and plain threads. */
BELAY_AVAILABLE_IN_1_0 BelayFuture     *belay_rw_lock_read_async  (BelayRwLock *lock) BELAY_USE_RESULT;

/**
 * belay_rw_lock_write:
 * @lock: a read-write lock
 * @error: return location for a #GError
 *
 * Acquires it to write, alone, as a guard.
 *
 * Suspends: while another reads or writes. Cancellation: a checkpoint; who waited behind goes on at once. Threads: in a fiber.
 * Errors: those of belay_rw_lock_read(); %BELAY_ERROR_DEADLOCK also when this fiber reads.
 *
 * Returns: (transfer full) (nullable): the guard. It keeps the lock alive.
 */
BELAY_AVAILABLE_IN_1_0 BelayWriteGuard *belay_rw_lock_write       (BelayRwLock *lock, GError **error) BELAY_USE_RESULT;
/* The same without waiting; NULL when it would wait, and when it is closed or broken. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayWriteGuard *belay_rw_lock_try_write   (BelayRwLock *lock) BELAY_USE_RESULT;
/* The same as a future of a BelayWriteGuard that is nobody's, for callback code and plain threads. */
BELAY_AVAILABLE_IN_1_0 BelayFuture     *belay_rw_lock_write_async (BelayRwLock *lock) BELAY_USE_RESULT;

/**
 * belay_rw_lock_downgrade:
 * @variable: (inout): the address of a write guard; it is %NULL afterwards
 *
 * Makes a writer a reader, with no instant between at which another could write. Readers that wait up to the next writer go on.
 * There is no way in the other direction: two readers that would both become writers would wait for each other.
 *
 * Suspends: never. Cancellation: none. Threads: who writes. Errors: none; g_critical() and %NULL when another writes.
 *
 * Returns: (transfer full): the read guard, with the same owner
 */
BELAY_AVAILABLE_IN_1_0 BelayReadGuard  *belay_rw_lock_downgrade   (BelayWriteGuard **variable) BELAY_USE_RESULT;

/* Make a guard nobody's, so that it may be released in any fiber and on any thread; see belay_lock_disown(). */
BELAY_AVAILABLE_IN_1_0 void             belay_rw_lock_disown_read  (BelayReadGuard *guard);
BELAY_AVAILABLE_IN_1_0 void             belay_rw_lock_disown_write (BelayWriteGuard *guard);

/* How many read now; whether somebody writes; how many wait. */
BELAY_AVAILABLE_IN_1_0 guint            belay_rw_lock_get_n_readers (BelayRwLock *lock);
BELAY_AVAILABLE_IN_1_0 gboolean         belay_rw_lock_is_written    (BelayRwLock *lock);
BELAY_AVAILABLE_IN_1_0 guint            belay_rw_lock_get_n_waiting (BelayRwLock *lock);

/* Ends it: all who wait, and who come later, get G_IO_ERROR_CLOSED; who has it keeps it. Idempotent. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void             belay_rw_lock_close         (BelayRwLock *lock);
/* Makes a broken one usable again; TRUE when it was broken. See belay_lock_recover(). Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean         belay_rw_lock_recover       (BelayRwLock *lock);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 BelayReadGuard  *belay_rw_lock_read_at      (BelayRwLock *lock, GError **error, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayWriteGuard *belay_rw_lock_write_at     (BelayRwLock *lock, GError **error, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayReadGuard  *belay_rw_lock_try_read_at  (BelayRwLock *lock, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayWriteGuard *belay_rw_lock_try_write_at (BelayRwLock *lock, const char *site) BELAY_USE_RESULT;
#ifndef __GI_SCANNER__
#define belay_rw_lock_read(lock, error)  belay_rw_lock_read_at ((lock), (error), BELAY_SITE)
#define belay_rw_lock_write(lock, error) belay_rw_lock_write_at ((lock), (error), BELAY_SITE)
#define belay_rw_lock_try_read(lock)     belay_rw_lock_try_read_at ((lock), BELAY_SITE)
#define belay_rw_lock_try_write(lock)    belay_rw_lock_try_write_at ((lock), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayReadGuard)
BELAY_DEFINE_AUTO (BelayWriteGuard)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayRwLock, belay_rw_lock_unref)

G_END_DECLS
