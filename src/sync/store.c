/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stores: the items of a channel or queue between those who give and those who take.
 *
 * A store is a ring (first in, first out), a stack (last in, first out), or a heap by priority: the least number first, and
 * among equal ones who came first. It grows by doubling, so that one of a great capacity costs only what was in it at one time.
 *
 * No memory is got under the owner's spin lock: a push that finds the store full is given up, the lock left, room got, and the
 * push tried again.
 *
 * Invariants
 *   1. room is a power of two, or 0; n ≤ room.
 *   2. In a heap nobody is before the one above it. Two items are never equal, since no two places are.
 */
#include "sync/store.h"

#include <string.h>

#define LEAST_ROOM 8

static gsize
size_of_item (BelayStoreOrder order)
{
  return order == BELAY_STORE_PRIORITY ? sizeof (BelayRanked) : sizeof (gpointer);
}

void
belay_store_init (BelayStore *self, BelayStoreOrder order, guint room)
{
  BelayStoreRoom first = { NULL, 0 };

  *self = (BelayStore) { .order = order };
  if (room == 0)
    return;
  belay_store_room_get (&first, order, room - 1);
  belay_store_room_use (self, &first);
}

void
belay_store_clear (BelayStore *self)
{
  g_free (self->items);
  self->items = NULL;
  self->n = self->room = self->head = 0;
}

void
belay_store_room_get (BelayStoreRoom *room, BelayStoreOrder order, guint than)
{
  guint n = LEAST_ROOM;

  g_free (room->memory);
  while (n <= than)
    {
      g_assert (n <= G_MAXUINT / 2);
      n *= 2;
    }
  room->memory = g_malloc_n (n, size_of_item (order));
  room->room = n;
}

/* Whoever was quicker may have given it as much. */
void
belay_store_room_use (BelayStore *self, BelayStoreRoom *room)
{
  gpointer old = self->items;
  guint old_room = self->room, n_at_end = MIN (self->n, self->room - self->head);
  gpointer *to = room->memory;

  if (room->room <= self->room)
    return;
  if (self->order == BELAY_STORE_FIFO && self->n > 0)
    {
      memcpy (to, self->items + self->head, n_at_end * sizeof *to);
      memcpy (to + n_at_end, self->items, (self->n - n_at_end) * sizeof *to);
    }
  else if (self->n > 0)
    {
      memcpy (to, self->items, self->n * size_of_item (self->order));
    }
  self->items = room->memory;
  self->head = 0;
  self->room = room->room;
  room->memory = old;
  room->room = old_room;
}

void
belay_store_room_free (BelayStoreRoom *room)
{
  g_free (room->memory);
  room->memory = NULL;
}

/* --- a heap --- */

static inline gboolean
is_before (const BelayRanked *a, const BelayRanked *b)
{
  return a->priority < b->priority || (a->priority == b->priority && a->place < b->place);
}

void
belay_store_push_ranked (BelayStore *self, gpointer item, gint64 priority, gint64 place)
{
  BelayRanked added = { priority, place, item };
  guint i = self->n++;

  while (i > 0 && is_before (&added, &self->ranked[(i - 1) / 2]))
    {
      self->ranked[i] = self->ranked[(i - 1) / 2];
      i = (i - 1) / 2;
    }
  self->ranked[i] = added;
}

gpointer
belay_store_pop_ranked (BelayStore *self, gint64 *ret_priority)
{
  BelayRanked top = self->ranked[0], moved = self->ranked[--self->n];
  guint i = 0;

  for (;;)
    {
      guint child = 2 * i + 1;

      if (child >= self->n)
        break;
      if (child + 1 < self->n && is_before (&self->ranked[child + 1], &self->ranked[child]))
        child++;
      if (!is_before (&self->ranked[child], &moved))
        break;
      self->ranked[i] = self->ranked[child];
      i = child;
    }
  if (self->n > 0)
    self->ranked[i] = moved;
  *ret_priority = top.priority;
  return top.item;
}
