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
 * Threads: in a fiber. Errors: %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT.
 *
 * Returns: (transfer full) (nullable): the permit. It keeps the semaphore alive.
 */
BELAY_AVAILABLE_IN_1_0 BelayPermit *belay_semaphore_acquire       (BelaySemaphore *semaphore, GError **error) BELAY_USE_RESULT;
/* The same without waiting; NULL when none is free or somebody waits. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayPermit *belay_semaphore_try_acquire   (BelaySemaphore *semaphore) BELAY_USE_RESULT;
/* The same as a future of the permit, for callback code and plain threads. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_semaphore_acquire_async (BelaySemaphore *semaphore) BELAY_USE_RESULT;
/* How many are free now. */
BELAY_AVAILABLE_IN_1_0 guint        belay_semaphore_get_available (BelaySemaphore *semaphore);

BELAY_AVAILABLE_IN_1_0 BelayPermit    *belay_semaphore_acquire_at    (BelaySemaphore *semaphore, GError **error, const char *site) BELAY_USE_RESULT;
#ifndef __GI_SCANNER__
#define belay_semaphore_acquire(semaphore, error) belay_semaphore_acquire_at ((semaphore), (error), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayPermit)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelaySemaphore, belay_semaphore_unref)

G_END_DECLS
