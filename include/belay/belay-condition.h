/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Condition: wait with a lock until somebody says that what it protects has changed. */
#pragma once

#include <belay/belay-lock.h>

G_BEGIN_DECLS

/**
 * BelayCondition: (ref-func belay_condition_ref) (unref-func belay_condition_unref)
 *
 * What a lock protects may change so that somebody can go on. Who waits gives the lock back meanwhile; who has changed something
 * notifies while he holds it. They are notified first come, first served. Thread-safe, across loops.
 */
#define BELAY_TYPE_CONDITION (belay_condition_get_type ())

BELAY_AVAILABLE_IN_1_0 GType           belay_condition_get_type (void) G_GNUC_CONST;
/* A condition of @lock, to which it has a reference. A lock may have several. */
BELAY_AVAILABLE_IN_1_0 BelayCondition *belay_condition_new      (BelayLock *lock) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayCondition *belay_condition_ref      (BelayCondition *condition);
BELAY_AVAILABLE_IN_1_0 void            belay_condition_unref    (BelayCondition *condition);

/**
 * belay_condition_wait:
 * @condition: a condition
 * @held: (inout): the address of the guard of its lock
 * @error: return location for a #GError
 *
 * Gives the lock back, waits until it is notified, and acquires the lock again.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, error);
 * if (held == NULL)
 *   return FALSE;
 * while (g_queue_is_empty (&self->jobs))
 *   if (!belay_condition_wait (self->changed, &held, error))
 *     return FALSE;                           // cancelled, say: the lock is held all the same, and released here
 * ]|
 *
 * Look again at what was waited for: between the notification and the lock others may have had it.
 *
 * The lock is held afterwards in all cases, but for two: when the lock itself is closed or broken while this waits, there is none to
 * hold, and *@held is %NULL. A fiber that is notified and interrupted at one time has been notified.
 *
 * Suspends: yes. Cancellation: a checkpoint; to acquire the lock again is shielded. Threads: in the fiber that
 * holds the lock, or with a guard that is nobody's; then it is the fiber's own afterwards. Errors: %G_IO_ERROR_CANCELLED;
 * %G_IO_ERROR_TIMED_OUT; %G_IO_ERROR_CLOSED when the condition, or its lock, is or was closed; %BELAY_ERROR_BROKEN;
 * %BELAY_ERROR_MISUSE, with g_critical(), when the lock is not held, or another's. %BELAY_ERROR_BROKEN also when the last reference to the
 * condition is dropped meanwhile, which is a mistake; the lock is held then.
 *
 * Returns: %TRUE when it was notified
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_condition_wait (BelayCondition *condition, BelayLockGuard **held, GError **error);

/**
 * BelayPredicateFunc:
 * @data: what was given with the function
 *
 * Tells whether something is so. It is called with the lock held, and must not wait.
 *
 * Returns: %TRUE when it is
 */
typedef gboolean (*BelayPredicateFunc) (gpointer data);

/**
 * belay_condition_wait_for:
 * @condition: a condition
 * @held: (inout): the address of the guard of its lock
 * @predicate: (scope call): what must be so
 * @data: handed to @predicate
 * @error: return location for a #GError
 *
 * Waits until @predicate is so: the loop around belay_condition_wait(). When it is so already nothing waits.
 *
 * Suspends, cancellation, threads and errors: those of belay_condition_wait().
 *
 * Returns: %TRUE when it is so, and the lock is held
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_condition_wait_for (BelayCondition *condition, BelayLockGuard **held, BelayPredicateFunc predicate,
                                                          gpointer data, GError **error);

/**
 * belay_condition_wait_async:
 * @condition: a condition
 * @held: (inout): the address of the guard of its lock; it is %NULL afterwards
 *
 * The same for callback code and plain threads: takes the guard, and the future gives it back when it was notified. A
 * future that is given up hands a notification that it got on to the next who waits. When it cannot begin, in a cancelled scope or
 * without the lock, the guard stays where it is.
 *
 * Suspends: never. Cancellation: nothing starts in a cancelled scope. Threads: any. Errors: those of belay_condition_wait();
 * with each the guard is lost.
 *
 * Returns: (transfer full): a future of the guard, a #BelayLockGuard that is nobody's
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_condition_wait_async (BelayCondition *condition, BelayLockGuard **held) BELAY_USE_RESULT;

/**
 * belay_condition_notify:
 * @condition: a condition
 * @n: how many
 *
 * Lets the first @n who wait go on, one after the other, as soon as the lock is theirs. The caller holds it.
 *
 * Suspends: never. Cancellation: none. Threads: whoever holds the lock. Errors: none; g_critical(), and nobody is notified,
 * when the lock is not held, or another's.
 *
 * Returns: how many there were
 */
BELAY_AVAILABLE_IN_1_0 guint belay_condition_notify        (BelayCondition *condition, guint n);
/* The same for all. */
BELAY_AVAILABLE_IN_1_0 guint belay_condition_notify_all    (BelayCondition *condition);
/* How many wait now and have not been notified. */
BELAY_AVAILABLE_IN_1_0 guint belay_condition_get_n_waiting (BelayCondition *condition);

/**
 * belay_condition_close:
 * @condition: a condition
 *
 * Ends it: all who wait, and who come later, get %G_IO_ERROR_CLOSED, with the lock held, as ever; futures without it. To close it
 * again does nothing.
 *
 * Suspends: never. Cancellation: none. Threads: any; the lock need not be held. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void  belay_condition_close         (BelayCondition *condition);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_condition_wait_at     (BelayCondition *condition, BelayLockGuard **held, GError **error,
                                                             const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean belay_condition_wait_for_at (BelayCondition *condition, BelayLockGuard **held,
                                                             BelayPredicateFunc predicate, gpointer data, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_condition_wait(condition, held, error) belay_condition_wait_at ((condition), (held), (error), BELAY_SITE)
#define belay_condition_wait_for(condition, held, predicate, data, error) \
  belay_condition_wait_for_at ((condition), (held), (predicate), (data), (error), BELAY_SITE)
#endif

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayCondition, belay_condition_unref)

G_END_DECLS
