/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Event: a flag that can be waited for. */
#pragma once

#include <belay/belay-fiber.h>
#include <belay/belay-future.h>

G_BEGIN_DECLS

/**
 * BelayEvent: (ref-func belay_event_ref) (unref-func belay_event_unref)
 *
 * A flag that can be waited for. It is not set at first. Setting it lets all pass who wait at that moment, though it be cleared
 * at once, and all who come until it is cleared. Thread-safe, across loops.
 */
#define BELAY_TYPE_EVENT (belay_event_get_type ())

BELAY_AVAILABLE_IN_1_0 GType       belay_event_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayEvent *belay_event_new      (void) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayEvent *belay_event_ref      (BelayEvent *event);
BELAY_AVAILABLE_IN_1_0 void        belay_event_unref    (BelayEvent *event);

/* Sets and clears the flag; on a closed event they do nothing. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void        belay_event_set      (BelayEvent *event);
BELAY_AVAILABLE_IN_1_0 void        belay_event_clear    (BelayEvent *event);
BELAY_AVAILABLE_IN_1_0 gboolean    belay_event_is_set   (BelayEvent *event);

/**
 * belay_event_wait:
 * @event: an event
 * @error: return location for a #GError
 *
 * Waits until it is set.
 *
 * Suspends: while it is not set. Cancellation: a checkpoint. Threads: in a fiber.
 * Errors: %G_IO_ERROR_CLOSED; %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT.
 *
 * Returns: %TRUE when it was set. It may have been cleared since
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_event_wait       (BelayEvent *event, GError **error);
/* The same as a future, for callback code and plain threads. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_event_wait_async (BelayEvent *event) BELAY_USE_RESULT;

/**
 * belay_event_close:
 * @event: an event
 *
 * Ends it: it is not set and cannot be any more, and everybody who waits, now or later, gets %G_IO_ERROR_CLOSED. A second
 * close does nothing.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void         belay_event_close      (BelayEvent *event);

BELAY_AVAILABLE_IN_1_0 gboolean     belay_event_wait_at    (BelayEvent *event, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_event_wait(event, error) belay_event_wait_at ((event), (error), BELAY_SITE)
#endif

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayEvent, belay_event_unref)

G_END_DECLS
