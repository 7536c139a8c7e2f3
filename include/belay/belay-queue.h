/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Queues: work that is put in, got out, and said to be done. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

typedef struct _BelayQueue BelayQueue;
typedef struct _BelayWork  BelayWork;

/**
 * BelayQueue: (ref-func belay_queue_ref) (unref-func belay_queue_unref)
 *
 * A queue of work: items that some put in and others get, and of which it is known when all of them are done. It differs from a
 * #BelayChannel in that, and in the orders that there are. Those who wait are served first come, first served. An item
 * is a pointer that is not %NULL. Thread-safe, across loops.
 *
 * |[<!-- language="C" -->
 * for (;;)
 *   {
 *     g_autoptr (Page) page = NULL;
 *     belay_auto (BelayWork) work = belay_queue_next (queue, &page, error);
 *
 *     if (work == NULL)
 *       return *error == NULL;            // the end of the queue is none
 *     if (!store_page (page, error))
 *       return FALSE;
 *   }                                   // here the work is done, also where it has failed
 * ]|
 */
#define BELAY_TYPE_QUEUE (belay_queue_get_type ())

BELAY_AVAILABLE_IN_1_0 GType       belay_queue_get_type (void) G_GNUC_CONST;

/**
 * BelayPriorityFunc:
 * @item: (transfer none): an item
 * @data: what was given with the function
 *
 * Tells how soon an item is wanted. Called once for each item, by whoever puts it, under no lock.
 *
 * Returns: its priority; the least number is got first, as with the sources of GLib
 */
typedef gint64 (*BelayPriorityFunc) (gconstpointer item, gpointer data);

/**
 * belay_queue_new:
 * @capacity: how many items it holds, %G_MAXUINT for any number; 0: none, each put waits until somebody gets
 * @free_item: (nullable): for items that nobody got; belay_resource_drop() for resources
 *
 * A queue: what was put first is got first. When it is full, whoever puts more waits.
 */
BELAY_AVAILABLE_IN_1_0 BelayQueue *belay_queue_new          (guint capacity, GDestroyNotify free_item) BELAY_USE_RESULT;
/* What was put last is got first. */
BELAY_AVAILABLE_IN_1_0 BelayQueue *belay_queue_new_lifo     (guint capacity, GDestroyNotify free_item) BELAY_USE_RESULT;
/**
 * belay_queue_new_priority:
 * @capacity: how many items it holds, %G_MAXUINT for any number
 * @get_priority: tells an item's priority
 * @data: handed to @get_priority
 * @destroy: (nullable): frees @data with the queue
 * @free_item: (nullable): for items that nobody got
 *
 * What has the least priority is got first; of several, what was put first.
 */
BELAY_AVAILABLE_IN_1_0 BelayQueue *belay_queue_new_priority (guint capacity, BelayPriorityFunc get_priority, gpointer data,
                                                             GDestroyNotify destroy, GDestroyNotify free_item) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayQueue *belay_queue_ref          (BelayQueue *queue);
BELAY_AVAILABLE_IN_1_0 void        belay_queue_unref        (BelayQueue *queue);

/**
 * belay_queue_put:
 * @queue: a queue
 * @item: (inout): the address of a variable that holds the item; it is %NULL after a success, and as it was after a failure
 * @error: return location for a #GError
 *
 * Puts an item in.
 *
 * Suspends: while it is full. Cancellation: a checkpoint; an item that was put and a cancellation at one time is a success.
 * Threads: in a fiber. Errors: %G_IO_ERROR_CLOSED; the interruptions.
 *
 * Returns: %TRUE when it is in
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_queue_put       (BelayQueue *queue, gpointer item, GError **error);
/* The same without waiting: G_IO_ERROR_WOULD_BLOCK when it is full. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_queue_try_put   (BelayQueue *queue, gpointer item, GError **error);
/* The same as a future, of @item (transfer full), which is freed if it fails, or is dropped first. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_queue_put_async (BelayQueue *queue, gpointer item) BELAY_USE_RESULT;

/**
 * belay_queue_next:
 * @queue: a queue
 * @ret_item: (out): the address of a variable for the item (transfer full); %NULL when there is none
 * @error: return location for a #GError
 *
 * Gets the next item, and a guard for the work on it: when that is left the work is done. Until the end, which is no error.
 *
 * Suspends: while it is empty. Cancellation: a checkpoint; an item that came and a cancellation at one time is the item, so that
 * none is lost. Threads: in a fiber. Errors: the interruptions.
 *
 * Returns: (transfer full) (nullable): the guard, which keeps the queue alive; %NULL without an error at the end, when it is closed
 *   and empty; else %NULL
 */
BELAY_AVAILABLE_IN_1_0 BelayWork   *belay_queue_next      (BelayQueue *queue, gpointer ret_item, GError **error) BELAY_USE_RESULT;
/*
 * The item (transfer full) without a guard: whoever gets it says belay_queue_task_done(). The end is an error, G_IO_ERROR_CLOSED. All else
 * is the same.
 */
BELAY_AVAILABLE_IN_1_0 gpointer     belay_queue_get       (BelayQueue *queue, GError **error);
/* The same without waiting: G_IO_ERROR_WOULD_BLOCK when it is empty. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gpointer     belay_queue_try_get   (BelayQueue *queue, GError **error);
/* The same as a future. An item that comes to a future that is dropped is the next to be got again. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_queue_get_async (BelayQueue *queue) BELAY_USE_RESULT;

/**
 * belay_queue_task_done:
 * @queue: a queue
 *
 * Says that the work on an item that was got, without a guard, is done. Saying so more often than items were got is reported
 * with g_critical(), and does nothing.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void         belay_queue_task_done (BelayQueue *queue);

/**
 * belay_queue_join:
 * @queue: a queue
 * @error: return location for a #GError
 *
 * Waits until the work on every item that was put is done. A fiber that works on one, and has its guard, would wait for itself,
 * unnoticed. Who may fail while others wait for the end of the work joins inside of the group of those who do it, so that the
 * failure ends the wait.
 *
 * Suspends: while the queue holds items, or one that was got is not done. Cancellation: a checkpoint. Threads: in a fiber.
 * Errors: the interruptions.
 *
 * Returns: %TRUE when all is done
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_queue_join       (BelayQueue *queue, GError **error);
/* The same as a future. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_queue_join_async (BelayQueue *queue) BELAY_USE_RESULT;

/**
 * belay_queue_close:
 * @queue: a queue
 *
 * Says that nothing more is put. What is in the queue is got still, then whoever gets is told its end. Those who wait to put fail, and
 * keep their items. Closing again does nothing.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_queue_close          (BelayQueue *queue);
/* The same at once: what is in the queue is freed, and counts as done. */
BELAY_AVAILABLE_IN_1_0 void     belay_queue_abort          (BelayQueue *queue);

/* How many items it holds; how many of those that were put are not done. */
BELAY_AVAILABLE_IN_1_0 guint    belay_queue_get_length     (BelayQueue *queue);
BELAY_AVAILABLE_IN_1_0 guint    belay_queue_get_unfinished (BelayQueue *queue);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 gboolean   belay_queue_put_at      (BelayQueue *queue, gpointer item, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 BelayWork *belay_queue_next_at (BelayQueue *queue, gpointer ret_item, GError **error, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 gpointer   belay_queue_get_at      (BelayQueue *queue, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean   belay_queue_join_at     (BelayQueue *queue, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_queue_put(queue, item, error)          belay_queue_put_at ((queue), (item), (error), BELAY_SITE)
#define belay_queue_next(queue, ret_item, error)     belay_queue_next_at ((queue), (ret_item), (error), BELAY_SITE)
#define belay_queue_get(queue, error)                belay_queue_get_at ((queue), (error), BELAY_SITE)
#define belay_queue_join(queue, error)               belay_queue_join_at ((queue), (error), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelayWork)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayQueue, belay_queue_unref)

G_END_DECLS
