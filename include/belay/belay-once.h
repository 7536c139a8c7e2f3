/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Once: done by the first who needs it. */
#pragma once

#include <belay/belay-fiber.h>

G_BEGIN_DECLS

/**
 * BelayOnce: (ref-func belay_once_ref) (unref-func belay_once_unref)
 *
 * Something that is done once, by the first fiber that needs it; the others wait meanwhile, and find it done. If it failed, or
 * its fiber was cancelled, the next does it. What must also be closed again is a #BelayShared. Thread-safe, across loops.
 */
#define BELAY_TYPE_ONCE (belay_once_get_type ())

BELAY_AVAILABLE_IN_1_0 GType      belay_once_get_type (void) G_GNUC_CONST;
/* @destroy (nullable) frees the value of belay_once_get() with the last reference, by whoever drops that. */
BELAY_AVAILABLE_IN_1_0 BelayOnce *belay_once_new      (GDestroyNotify destroy) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayOnce *belay_once_ref      (BelayOnce *once);
BELAY_AVAILABLE_IN_1_0 void       belay_once_unref    (BelayOnce *once);

/**
 * belay_once_run:
 * @once: a once
 * @func: what is to be done; runs in the caller's fiber, if it runs, and may wait
 * @data: handed to @func
 * @error: return location for a #GError
 *
 * Sees to it that it is done. A failure of @func is told to its own caller alone: each of the others, in the order in which
 * they came, tries its own.
 *
 * Suspends: while another does it, and as @func does. Cancellation: a checkpoint, also when it has been done.
 * Threads: in a fiber; callback code spawns one. Errors: those of @func; %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT;
 * %BELAY_ERROR_DEADLOCK, with g_critical(), when @func itself asks for it.
 *
 * Returns: %TRUE when it is done
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_once_run     (BelayOnce *once, BelayFunc func, gpointer data, GError **error);
/* The same for what makes a value: (transfer none), and kept as long as @once. */
BELAY_AVAILABLE_IN_1_0 gpointer belay_once_get     (BelayOnce *once, BelayValueFunc func, gpointer data, GError **error);
/* Whether it has been done. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_once_is_done (BelayOnce *once);

BELAY_AVAILABLE_IN_1_0 gboolean belay_once_run_at  (BelayOnce *once, BelayFunc func, gpointer data, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gpointer belay_once_get_at  (BelayOnce *once, BelayValueFunc func, gpointer data, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_once_run(once, func, data, error) belay_once_run_at ((once), (func), (data), (error), BELAY_SITE)
#define belay_once_get(once, func, data, error) belay_once_get_at ((once), (func), (data), (error), BELAY_SITE)
#endif

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayOnce, belay_once_unref)

G_END_DECLS
