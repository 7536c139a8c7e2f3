/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Watches: a value that changes, and who waits for the change. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

typedef struct _BelayWatch BelayWatch;

/**
 * BelayWatch: (ref-func belay_watch_ref) (unref-func belay_watch_unref)
 *
 * The latest value of something, a configuration or a state, and a number that tells its version. Whoever watches sees the
 * latest, not each: what was replaced before it looked it never sees. The value is a pointer that is not %NULL. Thread-safe, across
 * loops.
 */
#define BELAY_TYPE_WATCH (belay_watch_get_type ())

BELAY_AVAILABLE_IN_1_0 GType       belay_watch_get_type (void) G_GNUC_CONST;

/**
 * belay_watch_new:
 * @value: (transfer full): what it is at first, version 1
 * @copy_value: (nullable): makes each reader's own; it may just take a reference. %NULL: all get the same pointer
 * @free_value: (nullable): for what is replaced; %NULL where @copy_value is
 *
 * A watch. Both functions are called under no lock.
 */
BELAY_AVAILABLE_IN_1_0 BelayWatch *belay_watch_new   (gpointer value, GBoxedCopyFunc copy_value, GDestroyNotify free_value) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayWatch *belay_watch_ref   (BelayWatch *watch);
BELAY_AVAILABLE_IN_1_0 void        belay_watch_unref (BelayWatch *watch);

/**
 * belay_watch_set:
 * @watch: a watch
 * @value: (inout): the address of a variable that holds the new value; it is %NULL after a success, and as it was after a failure
 * @error: return location for a #GError
 *
 * Replaces the value, and wakes all who wait for a change.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: %G_IO_ERROR_CLOSED.
 *
 * Returns: %TRUE when it is set
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_watch_set   (BelayWatch *watch, gpointer value, GError **error);
/* The value (transfer full), and its version, if asked for. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gpointer belay_watch_get   (BelayWatch *watch, guint64 *ret_version);
/* There will be no other value. Those who have seen the last are told the end. */
BELAY_AVAILABLE_IN_1_0 void     belay_watch_close (BelayWatch *watch);

/**
 * belay_watch_next:
 * @watch: a watch
 * @inout_version: (inout): the version that was seen last, 0: none; then that of the value
 * @ret_value: (out): the address of a variable for the value (transfer full); %NULL when there is none
 * @error: return location for a #GError
 *
 * Waits until there is a newer value than the one that was seen last, and takes the latest. The end is no error.
 *
 * |[<!-- language="C" -->
 * guint64 seen = 0;
 *
 * while (belay_watch_next (watch, &seen, &settings, error))
 *   use_and_free (settings);
 * return *error == NULL;
 * ]|
 *
 * Suspends: while there is none. Cancellation: a checkpoint. Threads: in a fiber. Errors: the interruptions.
 *
 * Returns: %TRUE with a value; %FALSE without an error at the end, when it is closed and the last was seen; else %FALSE
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_watch_next       (BelayWatch *watch, guint64 *inout_version, gpointer ret_value, GError **error);
/* A future of an integer: the version that is newer than @version, when there is one; G_IO_ERROR_CLOSED at the end. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_watch_wait_async (BelayWatch *watch, guint64 version) BELAY_USE_RESULT;

/* The twin that takes the site; the name above is a macro that adds it. */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_watch_next_at    (BelayWatch *watch, guint64 *inout_version, gpointer ret_value,
                                                            GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_watch_next(watch, inout_version, ret_value, error) \
  belay_watch_next_at ((watch), (inout_version), (ret_value), (error), BELAY_SITE)
#endif

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayWatch, belay_watch_unref)

G_END_DECLS
