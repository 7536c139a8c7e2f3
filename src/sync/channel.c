/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Channel: items from senders to receivers, first in, first out.
 *
 * What passes is the affair of the passage (passage.c); here are the public names, and the guards of those who send and those who
 * receive. A guard is the channel itself, seen through one of its first two members, so that getting one allocates nothing; it
 * holds a reference. When the last guard of a kind is left the passage is closed, for the one kind as for nothing more to come,
 * for the other as deserted. Where there never were any, nothing of that kind happens.
 *
 * Invariants
 *   1. The numbers of guards change under the passage's lock. Whoever takes one to 0 closes.
 *   2. A closed channel stays so, whoever comes later.
 */
#include "sync/channel.h"

G_DEFINE_BOXED_TYPE (BelayChannel, belay_channel, belay_channel_ref, belay_channel_unref)

static BelayChannel *
channel_of (gpointer passage)
{
  return (BelayChannel *) ((char *) passage - G_STRUCT_OFFSET (BelayChannel, passage));
}

static gpointer
passage_ref (gpointer passage)
{
  belay_channel_ref (channel_of (passage));
  return passage;
}

static void
passage_unref (gpointer passage)
{
  belay_channel_unref (channel_of (passage));
}

static const BelayPassageClass passage_class = {
  "channel",
  { "room in a channel", NULL },
  { "an item of a channel", NULL },
  { passage_ref, passage_unref, belay_passage_give_answer, belay_passage_give_left, NULL },
  { passage_ref, passage_unref, belay_passage_take_answer, NULL, belay_passage_take_back },
  NULL
};

static void sender_release (gpointer sender);
static void receiver_release (gpointer receiver);
static const BelayPlainClass sender_class = { BELAY_TAG_INSTANT, "BelaySender", NULL, NULL, sender_release, NULL };
static const BelayPlainClass receiver_class = { BELAY_TAG_INSTANT, "BelayReceiver", NULL, NULL, receiver_release, NULL };

BelayChannel *
belay_channel_new (guint capacity, GDestroyNotify free_item)
{
  BelayChannel *self = g_new0 (BelayChannel, 1);

  self->sender.klass = &sender_class;
  self->receiver.klass = &receiver_class;
  atomic_init (&self->refs, 1);
  belay_passage_init (&self->passage, &passage_class, BELAY_STORE_FIFO, capacity, free_item);
  return self;
}

BelayChannel *
belay_channel_new_unbounded (GDestroyNotify free_item)
{
  return belay_channel_new (G_MAXUINT, free_item);
}

BelayChannel *
belay_channel_ref (BelayChannel *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_channel_unref (BelayChannel *self)
{
  g_return_if_fail (self != NULL);
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) == 1 && belay_passage_end (&self->passage, self, NULL))
    g_free (self);
}

/* --- sending --- */

gboolean
belay_channel_send_at (BelayChannel *self, gpointer item, GError **error, const char *site)
{
  g_return_val_if_fail (self != NULL && item != NULL, FALSE);
  return belay_passage_give (&self->passage, item, 0, "belay_channel_send", site, error);
}

gboolean
(belay_channel_send) (BelayChannel *self, gpointer item, GError **error)
{
  return belay_channel_send_at (self, item, error, NULL);
}

gboolean
belay_channel_try_send (BelayChannel *self, gpointer item, GError **error)
{
  g_return_val_if_fail (self != NULL && item != NULL, FALSE);
  return belay_passage_try_give (&self->passage, item, 0, "belay_channel_try_send", error);
}

BelayFuture *
belay_channel_send_async (BelayChannel *self, gpointer item)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_passage_give_async (&self->passage, item, 0, "belay_channel_send_async");
}

/* --- receiving --- */

gboolean
belay_channel_next_at (BelayChannel *self, gpointer ret_item, GError **error, const char *site)
{
  g_return_val_if_fail (self != NULL && ret_item != NULL, FALSE);
  return belay_passage_take (&self->passage, ret_item, "belay_channel_next", site, error);
}

gboolean
(belay_channel_next) (BelayChannel *self, gpointer ret_item, GError **error)
{
  return belay_channel_next_at (self, ret_item, error, NULL);
}

gpointer
belay_channel_receive_at (BelayChannel *self, GError **error, const char *site)
{
  gpointer item;

  g_return_val_if_fail (self != NULL, NULL);
  belay_passage_take_or_fail (&self->passage, &item, "belay_channel_receive", site, error);
  return item;
}

gpointer
(belay_channel_receive) (BelayChannel *self, GError **error)
{
  return belay_channel_receive_at (self, error, NULL);
}

gpointer
belay_channel_try_receive (BelayChannel *self, GError **error)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_passage_try_take (&self->passage, error);
}

BelayFuture *
belay_channel_receive_async (BelayChannel *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_passage_take_async (&self->passage);
}

/* --- its end --- */

void
belay_channel_close (BelayChannel *self)
{
  g_return_if_fail (self != NULL);
  belay_passage_close (&self->passage, BELAY_PASSAGE_CLOSED);
}

void
belay_channel_abort (BelayChannel *self)
{
  g_return_if_fail (self != NULL);
  belay_passage_close (&self->passage, BELAY_PASSAGE_ABORTED);
}

static gpointer
add_guard (BelayChannel *self, BelayPlain *guard, guint *n_guards, const char *site)
{
  belay_channel_ref (self);
  belay_spin_lock (&self->passage.lock);
  ++*n_guards;
  belay_spin_unlock (&self->passage.lock);
  belay_leaks_hold (guard, site);
  return guard;
}

static void
remove_guard (BelayChannel *self, guint *n_guards, BelayPassageState state, const char *kind)
{
  gboolean is_out, is_last;

  belay_spin_lock (&self->passage.lock);
  is_out = *n_guards > 0;
  is_last = is_out && --*n_guards == 0;
  belay_spin_unlock (&self->passage.lock);
  if (G_UNLIKELY (!is_out)) /* nor is there a reference of its */
    {
      g_critical ("a %s was released before: the channel has none that is held", kind);
      return;
    }
  if (is_last)
    belay_passage_close (&self->passage, state);
  belay_channel_unref (self);
}

BelaySender *
belay_channel_add_sender_at (BelayChannel *self, const char *site)
{
  g_return_val_if_fail (self != NULL, NULL);
  return add_guard (self, &self->sender, &self->n_senders, site);
}

BelaySender *
(belay_channel_add_sender) (BelayChannel *self)
{
  return belay_channel_add_sender_at (self, NULL);
}

static void
sender_release (gpointer sender)
{
  BelayChannel *self = sender;

  remove_guard (self, &self->n_senders, BELAY_PASSAGE_CLOSED, "BelaySender");
}

BelayReceiver *
belay_channel_add_receiver_at (BelayChannel *self, const char *site)
{
  g_return_val_if_fail (self != NULL, NULL);
  return add_guard (self, &self->receiver, &self->n_receivers, site);
}

BelayReceiver *
(belay_channel_add_receiver) (BelayChannel *self)
{
  return belay_channel_add_receiver_at (self, NULL);
}

static void
receiver_release (gpointer receiver)
{
  BelayChannel *self = (BelayChannel *) ((char *) receiver - G_STRUCT_OFFSET (BelayChannel, receiver));

  remove_guard (self, &self->n_receivers, BELAY_PASSAGE_DESERTED, "BelayReceiver");
}

/* --- what it is like at this moment --- */

static guint
look (BelayChannel *self, const guint *number)
{
  guint n;

  belay_spin_lock (&self->passage.lock);
  n = *number;
  belay_spin_unlock (&self->passage.lock);
  return n;
}

gboolean
belay_channel_is_closed (BelayChannel *self)
{
  gboolean is_closed;

  g_return_val_if_fail (self != NULL, TRUE);
  belay_spin_lock (&self->passage.lock);
  is_closed = self->passage.state != BELAY_PASSAGE_OPEN;
  belay_spin_unlock (&self->passage.lock);
  return is_closed;
}

guint
belay_channel_get_length (BelayChannel *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return look (self, &self->passage.store.n);
}

guint
belay_channel_get_capacity (BelayChannel *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return self->passage.capacity;
}

guint
belay_channel_get_n_sending (BelayChannel *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return look (self, &self->passage.givers.n);
}

guint
belay_channel_get_n_receiving (BelayChannel *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return look (self, &self->passage.takers.n);
}
