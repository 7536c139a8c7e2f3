/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Channels: items that go from some fibers to others. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

typedef struct _BelayChannel    BelayChannel;
typedef struct _BelaySender     BelaySender;
typedef struct _BelayReceiver   BelayReceiver;
typedef struct _BelaySelectCase BelaySelectCase;

/**
 * BelayChannel: (ref-func belay_channel_ref) (unref-func belay_channel_unref)
 *
 * Takes items from any number of senders to any number of receivers: each item to one of them, in the order in which they were
 * sent. Senders and receivers that wait are served first come, first served, and nobody overtakes. An item is a pointer that is
 * not %NULL. Thread-safe, across loops.
 *
 * |[<!-- language="C" -->
 * g_autoptr (Page) page = page_new ();
 *
 * if (!belay_channel_send (channel, &page, error))   // page is NULL when it was sent, and still ours when not
 *   return FALSE;
 * ]|
 */
#define BELAY_TYPE_CHANNEL (belay_channel_get_type ())

BELAY_AVAILABLE_IN_1_0 GType         belay_channel_get_type (void) G_GNUC_CONST;

/**
 * belay_channel_new:
 * @capacity: how many items it holds between senders and receivers; 0: none, each send waits for its receiver
 * @free_item: (nullable): for items that nobody received; belay_resource_drop() for resources
 *
 * A bounded channel: when it is full, senders wait. What is left in it when it goes is freed.
 */
BELAY_AVAILABLE_IN_1_0 BelayChannel *belay_channel_new           (guint capacity, GDestroyNotify free_item) BELAY_USE_RESULT;
/* One that is never full. Nothing but memory slows down whoever sends faster than others receive. */
BELAY_AVAILABLE_IN_1_0 BelayChannel *belay_channel_new_unbounded (GDestroyNotify free_item) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayChannel *belay_channel_ref           (BelayChannel *channel);
BELAY_AVAILABLE_IN_1_0 void          belay_channel_unref         (BelayChannel *channel);

/**
 * belay_channel_send:
 * @channel: a channel
 * @item: (inout): the address of a variable that holds the item; it is %NULL after a success, and as it was after a failure
 * @error: return location for a #GError
 *
 * Hands an item over: to the first receiver that waits, else into the channel.
 *
 * Suspends: while the channel is full; with capacity 0 until somebody receives. Cancellation: a checkpoint; an item that was
 * handed over and a cancellation at one time is a success. Threads: in a fiber.
 * Errors: %G_IO_ERROR_CLOSED; %BELAY_ERROR_BROKEN: the last #BelayReceiver has gone; the interruptions.
 *
 * Returns: %TRUE when it was handed over
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_channel_send       (BelayChannel *channel, gpointer item, GError **error);
/* The same without waiting: G_IO_ERROR_WOULD_BLOCK when it is full, or nobody waits for it. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_channel_try_send   (BelayChannel *channel, gpointer item, GError **error);
/* The same as a future, of @item (transfer full), which is freed if it fails, or is dropped first. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_channel_send_async (BelayChannel *channel, gpointer item) BELAY_USE_RESULT;

/**
 * belay_channel_receive:
 * @channel: a channel
 * @error: return location for a #GError
 *
 * Takes the next item.
 *
 * Suspends: while there is none. Cancellation: a checkpoint; an item that came and a cancellation at one time is the item, so
 * that none is lost. Threads: in a fiber. Errors: %G_IO_ERROR_CLOSED: it is closed, and empty; the interruptions.
 *
 * Returns: (transfer full) (nullable): the item, or %NULL and an error
 */
BELAY_AVAILABLE_IN_1_0 gpointer     belay_channel_receive       (BelayChannel *channel, GError **error);
/* The same without waiting: G_IO_ERROR_WOULD_BLOCK when there is none. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gpointer     belay_channel_try_receive   (BelayChannel *channel, GError **error);
/* The same as a future. An item that comes to a future that is dropped goes to the next receiver. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_channel_receive_async (BelayChannel *channel) BELAY_USE_RESULT;

/**
 * belay_channel_next:
 * @channel: a channel
 * @ret_item: (out): the address of a variable for the item (transfer full); %NULL when there is none
 * @error: return location for a #GError
 *
 * Takes the next item, until the end, which is no error.
 *
 * |[<!-- language="C" -->
 * while (belay_channel_next (channel, &page, &failure))
 *   print_and_free (page);
 * ]|
 *
 * Suspends, Cancellation, Threads: as in belay_channel_receive(). Errors: the interruptions.
 *
 * Returns: %TRUE with an item; %FALSE without an error at the end, when it is closed and empty; else %FALSE
 */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_channel_next          (BelayChannel *channel, gpointer ret_item, GError **error);

/**
 * belay_channel_close:
 * @channel: a channel
 *
 * Says that nothing more is sent. What is in the channel is received still, then receivers are told its end. Senders that wait
 * fail, and keep their items. Closing again does nothing.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_channel_close         (BelayChannel *channel);
/* The same at once: what is in the channel is freed. */
BELAY_AVAILABLE_IN_1_0 void     belay_channel_abort         (BelayChannel *channel);
BELAY_AVAILABLE_IN_1_0 gboolean belay_channel_is_closed     (BelayChannel *channel);

/* How many items it holds; and may hold, G_MAXUINT for any number. */
BELAY_AVAILABLE_IN_1_0 guint    belay_channel_get_length    (BelayChannel *channel);
BELAY_AVAILABLE_IN_1_0 guint    belay_channel_get_capacity  (BelayChannel *channel);
/* How many wait to send, and to receive. */
BELAY_AVAILABLE_IN_1_0 guint    belay_channel_get_n_sending   (BelayChannel *channel);
BELAY_AVAILABLE_IN_1_0 guint    belay_channel_get_n_receiving (BelayChannel *channel);

/**
 * belay_channel_add_sender:
 * @channel: a channel
 *
 * Says, as a guard, that somebody will send: when the last such guard is left, the channel closes. So receivers come to an end
 * however the senders end. Get one for each sender before the first of them runs. Sending itself needs none.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelaySender) sender = belay_channel_add_sender (channel);
 * ]|
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: (transfer full): the guard. It keeps the channel alive.
 */
BELAY_AVAILABLE_IN_1_0 BelaySender   *belay_channel_add_sender   (BelayChannel *channel) BELAY_USE_RESULT;
/*
 * The same for receivers: when the last such guard is left, senders fail with BELAY_ERROR_BROKEN rather than wait for ever, and what
 * is in the channel is freed.
 */
BELAY_AVAILABLE_IN_1_0 BelayReceiver *belay_channel_add_receiver (BelayChannel *channel) BELAY_USE_RESULT;

/**
 * BelaySelectCase:
 * @channel: (nullable): a channel; %NULL: never this one
 * @send: (nullable): the address of a variable that holds the item to send
 * @receive: (nullable): the address of a variable for the item that is received
 * @closed: set by belay_select(): the channel is closed, so nothing was sent or received
 *
 * One of several things to wait for. Just one of @send and @receive is set.
 */
struct _BelaySelectCase
{
  BelayChannel *channel;
  gpointer      send;
  gpointer      receive;
  gboolean      closed;
};

/**
 * belay_select:
 * @cases: (array length=n_cases): what to wait for
 * @n_cases: how many there are
 * @error: return location for a #GError
 *
 * Sends or receives, whichever can be done first, and that alone. Where several can be done it is one of them by lot, so that none is
 * put off for ever. A closed channel counts as one that can: then the case is @closed. Set its channel to %NULL to wait for the others.
 *
 * |[<!-- language="C" -->
 * BelaySelectCase cases[] = {
 *   { .channel = pages,   .receive = &page },
 *   { .channel = results, .send = &result },
 * };
 *
 * switch (belay_select (cases, G_N_ELEMENTS (cases), error))
 *   {
 *   case 0:  return print_page (page, error);   // NULL when cases[0].closed
 *   case 1:  return TRUE;                       // result is NULL now, unless cases[1].closed
 *   default: return FALSE;
 *   }
 * ]|
 *
 * Suspends: while nothing can be done. Cancellation: a checkpoint; what was done and a cancellation at one time is done.
 * Threads: in a fiber. Errors: the interruptions; %BELAY_ERROR_MISUSE: there is nothing to wait for.
 *
 * Returns: the index of the case, or -1
 */
BELAY_AVAILABLE_IN_1_0 int belay_select     (BelaySelectCase *cases, guint n_cases, GError **error);
/* The same without waiting; -1 when nothing can be done at this moment. Threads: any. */
BELAY_AVAILABLE_IN_1_0 int belay_try_select (BelaySelectCase *cases, guint n_cases);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 gboolean       belay_channel_send_at         (BelayChannel *channel, gpointer item, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gpointer       belay_channel_receive_at      (BelayChannel *channel, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 gboolean       belay_channel_next_at         (BelayChannel *channel, gpointer ret_item, GError **error, const char *site);
BELAY_AVAILABLE_IN_1_0 BelaySender   *belay_channel_add_sender_at   (BelayChannel *channel, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayReceiver *belay_channel_add_receiver_at (BelayChannel *channel, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 int            belay_select_at               (BelaySelectCase *cases, guint n_cases, GError **error, const char *site);
#ifndef __GI_SCANNER__
#define belay_channel_send(channel, item, error)     belay_channel_send_at ((channel), (item), (error), BELAY_SITE)
#define belay_channel_receive(channel, error)        belay_channel_receive_at ((channel), (error), BELAY_SITE)
#define belay_channel_next(channel, ret_item, error) belay_channel_next_at ((channel), (ret_item), (error), BELAY_SITE)
#define belay_channel_add_sender(channel)            belay_channel_add_sender_at ((channel), BELAY_SITE)
#define belay_channel_add_receiver(channel)          belay_channel_add_receiver_at ((channel), BELAY_SITE)
#define belay_select(cases, n_cases, error)          belay_select_at ((cases), (n_cases), (error), BELAY_SITE)
#endif

BELAY_DEFINE_AUTO (BelaySender)
BELAY_DEFINE_AUTO (BelayReceiver)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayChannel, belay_channel_unref)

G_END_DECLS
