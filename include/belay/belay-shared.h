/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared: one resource for all who need it, open while somebody does. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayShared: (ref-func belay_shared_ref) (unref-func belay_shared_unref)
 *
 * One resource that many use: a loaded model, a cache, a session. The first use opens it, those who come meanwhile wait for the
 * same opening, and when the last has left it is closed, at once or when it was idle for a while. The next use opens it anew.
 * An opening that fails is told to all who waited for it, and tried again by the next. Thread-safe, across loops.
 *
 * The resource's home is the thread-default main context of whoever made the shared: there it is opened and closed, each in a
 * fiber of its own. Who uses it from elsewhere has its pointer only; whether it can be used there is the resource's affair.
 *
 * When the last reference is dropped, and the last use has left, what is open is closed. To wait for that, and to hear how it
 * went, there is belay_shared_close(). What nobody uses any more is closed at the end of the program, too, by belay_run() and
 * belay_drain(), and when the #BelayLoop that is its home is closed, however long it was to stay open. In a forked child it
 * cannot be used.
 */
#define BELAY_TYPE_SHARED (belay_shared_get_type ())

BELAY_AVAILABLE_IN_1_0 GType        belay_shared_get_type (void) G_GNUC_CONST;

/**
 * belay_shared_new:
 * @open: makes the resource, an object that implements #BelayResource or a struct that begins with #BelayPlain; runs in a fiber
 *   at home, and may wait
 * @data: (transfer full): handed to @open
 * @destroy: (nullable): frees @data with the last reference
 *
 * Makes a shared resource that is not open yet.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayUse) use = belay_shared_use (app->model, error);
 * if (use == NULL)
 *   return FALSE;
 * return model_classify (belay_use_get (use), text, error);
 * ]|
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 BelayShared *belay_shared_new      (BelayValueFunc open, gpointer data, GDestroyNotify destroy) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayShared *belay_shared_ref      (BelayShared *shared);
BELAY_AVAILABLE_IN_1_0 void         belay_shared_unref    (BelayShared *shared);

/* How long it stays open when nobody uses it; 0, as at first: it is closed at once; negative: to the end. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void         belay_shared_set_idle_timeout (BelayShared *shared, gint64 milliseconds);

/**
 * belay_shared_use:
 * @shared: a shared resource
 * @error: return location for a #GError
 *
 * Begins to use the resource, and opens it if it is not; as a guard, whose end leaves it. While it is being closed, that is
 * waited for, and it is opened anew.
 *
 * Suspends: while it is not open. Cancellation: a checkpoint. The opening goes on for the others who wait; when there are none,
 * it is cancelled, and what it makes all the same is closed. Threads: in a fiber. Errors: those of the opening;
 * %G_IO_ERROR_CLOSED; %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT; %BELAY_ERROR_DEADLOCK, with g_critical(), in the function
 * that opens it and in its close; %BELAY_ERROR_BROKEN when its home has ended.
 *
 * Returns: (transfer full) (nullable): the use. It keeps the resource open
 */
BELAY_AVAILABLE_IN_1_0 BelayUse    *belay_shared_use       (BelayShared *shared, GError **error) BELAY_USE_RESULT;
/* The same without waiting; NULL when it is not open. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayUse    *belay_shared_try_use   (BelayShared *shared) BELAY_USE_RESULT;
/* The same as a future of the use, for callback code and plain threads. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_shared_use_async (BelayShared *shared) BELAY_USE_RESULT;

/* The resource, (transfer none), valid while the use is. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gpointer     belay_use_get          (BelayUse *use);

/**
 * belay_shared_close:
 * @shared: a shared resource
 * @error: return location for a #GError
 *
 * Ends it: who waits for it, or comes later, gets %G_IO_ERROR_CLOSED; when its users have left, it is closed. What is in use is
 * never closed under a user. A second close waits for the first, and says the same.
 *
 * Suspends: until it is closed. Cancellation: interrupts the wait, and so does a deadline: a time-out around it bounds the
 * time that the users are given. It stays ended, and is closed when the last of them leaves. Threads: in a fiber.
 * Errors: those of the resource's close; %G_IO_ERROR_CANCELLED; %G_IO_ERROR_TIMED_OUT; %BELAY_ERROR_RELEASE_TIMEOUT;
 * %BELAY_ERROR_DEADLOCK, as for belay_shared_use().
 *
 * Returns: %TRUE when it is closed
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_shared_close       (BelayShared *shared, GError **error);
/* The same as a future, for callback code and plain threads. Dropping it changes nothing. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_shared_close_async (BelayShared *shared) BELAY_USE_RESULT;

/* How many use it now; how often it was opened; whether it is open. Threads: any. */
BELAY_AVAILABLE_IN_1_0 guint        belay_shared_get_n_users (BelayShared *shared);
BELAY_AVAILABLE_IN_1_0 guint64      belay_shared_get_n_opens (BelayShared *shared);
BELAY_AVAILABLE_IN_1_0 gboolean     belay_shared_is_open     (BelayShared *shared);

BELAY_AVAILABLE_IN_1_0 BelayShared *belay_shared_new_at    (BelayValueFunc open, gpointer data, GDestroyNotify destroy,
                                                            const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayUse    *belay_shared_use_at    (BelayShared *shared, GError **error, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 gboolean     belay_shared_close_at  (BelayShared *shared, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_shared_new(open, data, destroy) belay_shared_new_at ((open), (data), (destroy), BELAY_SITE)
#define belay_shared_use(shared, error)       belay_shared_use_at ((shared), (error), BELAY_SITE)
#define belay_shared_close(shared, error)     belay_shared_close_at ((shared), (error), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayUse)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayShared, belay_shared_unref)

G_END_DECLS
