/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Broadcasts: what everybody who listens is told. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

typedef struct _BelayBroadcast    BelayBroadcast;
typedef struct _BelaySubscription BelaySubscription;

/**
 * BelayBroadcast: (ref-func belay_broadcast_ref) (unref-func belay_broadcast_unref)
 *
 * Tells every subscriber everything that is sent from when it subscribed on. Sending never waits: a subscriber that is
 * slower than the rest loses the oldest items, and knows how many. An item is a pointer that is not %NULL.
 * Thread-safe, across loops.
 */
#define BELAY_TYPE_BROADCAST (belay_broadcast_get_type ())

BELAY_AVAILABLE_IN_1_0 GType           belay_broadcast_get_type (void) G_GNUC_CONST;

/**
 * belay_broadcast_new:
 * @capacity: how many items are kept for slow subscribers, at least 1; a place for each is there from the start
 * @copy_item: (nullable): makes each subscriber's own; it may just take a reference. %NULL: all get the same pointer
 * @free_item: (nullable): for what nobody has got; %NULL where @copy_item is
 *
 * A broadcast without subscribers yet. Both functions are called under no lock.
 */
BELAY_AVAILABLE_IN_1_0 BelayBroadcast *belay_broadcast_new   (guint capacity, GBoxedCopyFunc copy_item,
                                                              GDestroyNotify free_item) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayBroadcast *belay_broadcast_ref   (BelayBroadcast *broadcast);
BELAY_AVAILABLE_IN_1_0 void            belay_broadcast_unref (BelayBroadcast *broadcast);

/**
 * belay_broadcast_send:
 * @broadcast: a broadcast
 * @item: (inout): the address of a variable that holds the item; it is %NULL after a success, and as it was after a failure
 * @error: return location for a #GError
 *
 * Sends an item to all who have subscribed. Where nobody has it is freed, which is a success.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: %G_IO_ERROR_CLOSED.
 *
 * Returns: %TRUE when it was sent
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_broadcast_send  (BelayBroadcast *broadcast, gpointer item, GError **error);
/* Nothing more is sent. What was sent is received still, then subscribers are told the end. */
BELAY_AVAILABLE_IN_1_0 void     belay_broadcast_close (BelayBroadcast *broadcast);
BELAY_AVAILABLE_IN_1_0 guint    belay_broadcast_get_n_subscribers (BelayBroadcast *broadcast);

/**
 * belay_broadcast_subscribe:
 * @broadcast: a broadcast
 *
 * Subscribes, as a guard, to what is sent from now on.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelaySubscription) news = belay_broadcast_subscribe (broadcast);
 * char *line;
 *
 * while (belay_subscription_next (news, &line, error))
 *   print_and_free (line);
 * return *error == NULL;
 * ]|
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: (transfer full): the guard. It keeps the broadcast alive.
 */
BELAY_AVAILABLE_IN_1_0 BelaySubscription *belay_broadcast_subscribe (BelayBroadcast *broadcast) BELAY_USE_RESULT;

/**
 * belay_subscription_next:
 * @subscription: a subscription
 * @ret_item: (out): the address of a variable for the item (transfer full); %NULL when there is none
 * @error: return location for a #GError
 *
 * Takes the next item, until the end, which is no error. Of several that take from one subscription each item goes to one.
 *
 * Suspends: while there is none. Cancellation: a checkpoint; an item that came and a cancellation at one time is the item. Threads: in a
 * fiber. Errors: the interruptions.
 *
 * Returns: %TRUE with an item; %FALSE without an error at the end, when it is closed and nothing is left; else %FALSE
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_subscription_next        (BelaySubscription *subscription, gpointer ret_item, GError **error);
/* The item, without waiting: NULL and G_IO_ERROR_WOULD_BLOCK when there is none, G_IO_ERROR_CLOSED at the end. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gpointer     belay_subscription_try_next    (BelaySubscription *subscription, GError **error);
/* The same as a future. An item that comes to one that is dropped is the next again. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_subscription_next_async  (BelaySubscription *subscription) BELAY_USE_RESULT;
/* How many items it has lost since it began, because it was too slow. */
BELAY_AVAILABLE_IN_1_0 guint64      belay_subscription_get_missed  (BelaySubscription *subscription);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 BelaySubscription *belay_broadcast_subscribe_at (BelayBroadcast *broadcast, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 gboolean           belay_subscription_next_at   (BelaySubscription *subscription, gpointer ret_item,
                                                                        GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_broadcast_subscribe(broadcast)                    belay_broadcast_subscribe_at ((broadcast), BELAY_SITE)
#define belay_subscription_next(subscription, ret_item, error)  belay_subscription_next_at ((subscription), (ret_item), (error), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelaySubscription)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayBroadcast, belay_broadcast_unref)

G_END_DECLS
