/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fiber-local values. */
#pragma once

#include <belay/belay-macros.h>

G_BEGIN_DECLS

/**
 * BelayLocal:
 *
 * The key of a value that each fiber may have: a static variable, whose address is what counts.
 *
 * |[<!-- language="C" -->
 * static BelayLocal request_id = BELAY_LOCAL_INIT (g_free);
 * ]|
 */
typedef struct
{
  /*< private >*/
  GDestroyNotify destroy;
  gpointer       reserved;
} BelayLocal;

/* @destroy frees values; it is called in the fiber's last moment and must not wait. May be NULL. */
#define BELAY_LOCAL_INIT(destroy) { (destroy), NULL }

/**
 * belay_local_set:
 * @key: the key
 * @value: (transfer full) (nullable): the value; %NULL takes the fiber's own away
 *
 * Sets the calling fiber's value. The fibers that it starts in its scopes see it too, and may set one of their own. The one
 * before is freed now, the last one when the fiber has ended: after its children and its releases.
 *
 * Suspends: never. Cancellation: none. Threads: in a fiber; elsewhere g_critical(), and @value is freed. Errors: none.
 *
 * Returns: %TRUE in a fiber
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_local_set (BelayLocal *key, gpointer value);

/**
 * belay_local_get:
 * @key: the key
 *
 * The value of the calling fiber, or else of the nearest of those around it that has one. A fiber of a stored scope is in
 * no other. It is valid while the fiber that set it neither ends nor sets another.
 *
 * Suspends: never. Cancellation: none. Threads: any; %NULL outside a fiber. Errors: none.
 *
 * Returns: (transfer none) (nullable): the value
 */
BELAY_AVAILABLE_IN_1_0 gpointer belay_local_get (BelayLocal *key);

G_END_DECLS
