/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Semaphore: so many at a time. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelaySemaphore: (ref-func belay_semaphore_ref) (unref-func belay_semaphore_unref)
 *
 * A number of permits, handed out first come, first served: a permit that is released while somebody waits goes to
 * the first who waits, and nobody overtakes. Thread-safe, across loops. Suspends nothing while permits are free.
 *
 * How many there are can be changed (belay_semaphore_set_total()): it is a limit of how much goes on at once, too. Who
 * uses more of it than others takes several permits (belay_semaphore_acquire_many()). A permit that is released twice, by a copy of
 * its pointer, is a g_critical() when all are free, and is not counted.
 */
#define BELAY_TYPE_SEMAPHORE (belay_semaphore_get_type ())

BELAY_AVAILABLE_IN_1_0 GType           belay_semaphore_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelaySemaphore *belay_semaphore_new      (guint permits) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelaySemaphore *belay_semaphore_ref      (BelaySemaphore *semaphore);
BELAY_AVAILABLE_IN_1_0 void            belay_semaphore_unref    (BelaySemaphore *semaphore);

/**
 * belay_semaphore_acquire:
 * @semaphore: a semaphore
 * @error: return location for a #GError
 *
 * Takes a permit, as a guard: leaving its block gives it back.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);
 * if (permit == NULL)
 *   return FALSE;
 * ]|
 *
 * Suspends: while none is free. Cancellation: a checkpoint; no permit is lost by it at any instant.
 * Threads: in a fiber. Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT; %G_IO_ERROR_CLOSED when it is or was closed.
 *
 * Returns: (transfer full) (nullable): the permit. It keeps the semaphore alive.
 */
BELAY_AVAILABLE_IN_1_0 BelayPermit *belay_semaphore_acquire       (BelaySemaphore *semaphore, GError **error) BELAY_USE_RESULT;
/* The same without waiting; NULL when none is free or somebody waits. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayPermit *belay_semaphore_try_acquire   (BelaySemaphore *semaphore) BELAY_USE_RESULT;
/* The same as a future of the permit, for callback code and plain threads. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_semaphore_acquire_async (BelaySemaphore *semaphore) BELAY_USE_RESULT;
/* How many are free now; how many there are, free or out; how many fibers and futures wait. */
BELAY_AVAILABLE_IN_1_0 guint        belay_semaphore_get_available (BelaySemaphore *semaphore);
BELAY_AVAILABLE_IN_1_0 guint        belay_semaphore_get_total     (BelaySemaphore *semaphore);
BELAY_AVAILABLE_IN_1_0 guint        belay_semaphore_get_n_waiting (BelaySemaphore *semaphore);

/**
 * belay_semaphore_acquire_many:
 * @semaphore: a semaphore
 * @n: how many permits
 * @error: return location for a #GError
 *
 * Takes @n permits at once, all or none, as one guard. Who waits for many keeps its place: those behind it get none before it,
 * though there be enough for them.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayPermits) memory = belay_semaphore_acquire_many (megabytes, size, error);
 * if (memory == NULL)
 *   return FALSE;
 * ]|
 *
 * Suspends: while too few are free, or somebody waits. Cancellation: a checkpoint; no permit is lost by it at any instant.
 * Threads: in a fiber. Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT; %G_IO_ERROR_CLOSED;
 * %G_IO_ERROR_INVALID_ARGUMENT at once when that is more than there are in all (of a bounded semaphore: at most).
 *
 * Returns: (transfer full) (nullable): the permits. They keep the semaphore alive.
 */
BELAY_AVAILABLE_IN_1_0 BelayPermits *belay_semaphore_acquire_many       (BelaySemaphore *semaphore, guint n, GError **error) BELAY_USE_RESULT;
/* The same without waiting; NULL when too few are free or somebody waits. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayPermits *belay_semaphore_try_acquire_many   (BelaySemaphore *semaphore, guint n) BELAY_USE_RESULT;
/* The same as a future of the permits, for callback code and plain threads. */
BELAY_AVAILABLE_IN_1_0 BelayFuture  *belay_semaphore_acquire_many_async (BelaySemaphore *semaphore, guint n) BELAY_USE_RESULT;
/* How many are in the guard. */
BELAY_AVAILABLE_IN_1_0 guint         belay_permits_get_count            (BelayPermits *permits);

/**
 * belay_permits_give_back:
 * @permits: permits
 * @n: how many of them
 *
 * Gives a part back before the rest. Who waits may go on with them.
 *
 * Suspends: never. Cancellation: none. Threads: any, one at a time. Errors: none; g_critical(), and none is given back, when
 * there are not so many in @permits.
 *
 * Returns: %TRUE when they were given back
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_permits_give_back (BelayPermits *permits, guint n);

/**
 * belay_semaphore_new_bounded:
 * @permits: how many to begin with
 * @max: how many there may ever be
 *
 * A semaphore that notices when more is added than there may be. One may wait for up to @max permits, which may be added
 * later.
 *
 * Returns: (transfer full): a semaphore
 */
BELAY_AVAILABLE_IN_1_0 BelaySemaphore *belay_semaphore_new_bounded (guint permits, guint max) BELAY_USE_RESULT;

/**
 * belay_semaphore_add:
 * @semaphore: a semaphore
 * @n: how many permits
 *
 * Makes more permits: to count what comes and goes, rather than to share what there is. Who takes one to keep it calls
 * belay_semaphore_forget(); a permit that its guard gives back must not be added as well.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none; g_critical(), and none is made, when a bounded semaphore would
 * have more than its bound.
 *
 * Returns: %TRUE when they were made
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_semaphore_add    (BelaySemaphore *semaphore, guint n);
/*
 * The permit in the guard, which is NULL afterwards, is not given back: there is one fewer. Who waits for more than there are then gets
 * G_IO_ERROR_INVALID_ARGUMENT, unless the semaphore is a bounded one. Threads: any.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_semaphore_forget (BelayPermit **permit);
/* The same for all of these. */
BELAY_AVAILABLE_IN_1_0 void     belay_permits_forget   (BelayPermits **permits);

/**
 * belay_semaphore_set_total:
 * @semaphore: a semaphore
 * @total: how many permits there are from now on
 *
 * Changes how many there are: a limit that follows the load. When it is raised, just so many who wait go on, in their order. When it is
 * lowered nothing is taken from who has permits, and nobody gets one until fewer than @total are out. Who waits for more than
 * @total gets %G_IO_ERROR_INVALID_ARGUMENT, unless the semaphore is a bounded one.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none; g_critical(), and nothing changes, when that is more than the
 * bound of a bounded semaphore.
 *
 * Returns: %TRUE when it was changed
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_semaphore_set_total (BelaySemaphore *semaphore, guint total);

/**
 * belay_semaphore_close:
 * @semaphore: a semaphore
 *
 * Ends it: all who wait, and who come later, get %G_IO_ERROR_CLOSED. Permits that are out may be given back as ever. To close it
 * again does nothing.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_semaphore_close     (BelaySemaphore *semaphore);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 BelayPermit    *belay_semaphore_acquire_at      (BelaySemaphore *semaphore, GError **error, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayPermits   *belay_semaphore_acquire_many_at (BelaySemaphore *semaphore, guint n, GError **error,
                                                                        const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayPermit    *belay_semaphore_try_acquire_at  (BelaySemaphore *semaphore, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayPermits   *belay_semaphore_try_acquire_many_at (BelaySemaphore *semaphore, guint n, const char *site)
                                                                            BELAY_USE_RESULT;
#ifndef __GI_SCANNER__
#define belay_semaphore_acquire(semaphore, error)         belay_semaphore_acquire_at ((semaphore), (error), BELAY_SITE)
#define belay_semaphore_acquire_many(semaphore, n, error) belay_semaphore_acquire_many_at ((semaphore), (n), (error), BELAY_SITE)
#define belay_semaphore_try_acquire(semaphore)            belay_semaphore_try_acquire_at ((semaphore), BELAY_SITE)
#define belay_semaphore_try_acquire_many(semaphore, n)    belay_semaphore_try_acquire_many_at ((semaphore), (n), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayPermit)
BELAY_DEFINE_AUTO (BelayPermits)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelaySemaphore, belay_semaphore_unref)

G_END_DECLS
