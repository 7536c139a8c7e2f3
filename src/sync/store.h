/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stores: the items of a channel or queue between those who give and those who take. See store.c. */
#pragma once

#include <glib.h>

typedef struct _BelayStore     BelayStore;
typedef struct _BelayStoreRoom BelayStoreRoom;
typedef struct _BelayRanked    BelayRanked;

typedef enum
{
  BELAY_STORE_FIFO,
  BELAY_STORE_LIFO,
  BELAY_STORE_PRIORITY
} BelayStoreOrder;

/* An item of a store by priority. */
struct _BelayRanked
{
  gint64   priority;
  gint64   place; /* among those of the same priority */
  gpointer item;
};

/* The owner's lock guards all of it. */
struct _BelayStore
{
  BelayStoreOrder order;
  guint           n;
  guint           room;     /* a power of two, or 0 */
  guint           head;     /* FIFO: where the first is */
  union
  {
    gpointer     *items;    /* a ring, or a stack */
    BelayRanked  *ranked;   /* a heap */
  };
  gint64          last, first; /* the places that were given out, upwards and downwards */
};

void     belay_store_init  (BelayStore *store, BelayStoreOrder order, guint room);
/* Frees what it is in. The items are the caller's. */
void     belay_store_clear (BelayStore *store);

/* Before each push, since no memory is got under a lock. */
static inline gboolean
belay_store_is_full (BelayStore *store)
{
  return store->n == store->room;
}

/* More room than there is now; got without the lock, used with it. What is_full tells afterwards counts. */
struct _BelayStoreRoom
{
  gpointer memory;
  guint    room;
};
void     belay_store_room_get  (BelayStoreRoom *room, BelayStoreOrder order, guint than);
void     belay_store_room_use  (BelayStore *store, BelayStoreRoom *room);
void     belay_store_room_free (BelayStoreRoom *room);

/* The slow halves of those below. */
void     belay_store_push_ranked (BelayStore *store, gpointer item, gint64 priority, gint64 place);
gpointer belay_store_pop_ranked  (BelayStore *store, gint64 *ret_priority);

static inline void
belay_store_push (BelayStore *store, gpointer item, gint64 priority)
{
  g_assert (store->n < store->room);
  if (G_LIKELY (store->order == BELAY_STORE_FIFO))
    store->items[(store->head + store->n++) & (store->room - 1)] = item;
  else if (store->order == BELAY_STORE_LIFO)
    store->items[store->n++] = item;
  else
    belay_store_push_ranked (store, item, priority, ++store->last);
}

/* The same for one that was taken out, and comes back: it is the next again. */
static inline void
belay_store_push_again (BelayStore *store, gpointer item, gint64 priority)
{
  g_assert (store->n < store->room);
  if (store->order == BELAY_STORE_PRIORITY)
    {
      belay_store_push_ranked (store, item, priority, --store->first);
    }
  else if (store->order == BELAY_STORE_LIFO)
    {
      store->items[store->n++] = item;
    }
  else
    {
      store->head = (store->head - 1) & (store->room - 1);
      store->items[store->head] = item;
      store->n++;
    }
}

/* The next one; there must be one. *@ret_priority is changed only where there are priorities. */
static inline gpointer
belay_store_pop (BelayStore *store, gint64 *ret_priority)
{
  gpointer item;

  if (G_UNLIKELY (store->order == BELAY_STORE_PRIORITY))
    return belay_store_pop_ranked (store, ret_priority);
  store->n--;
  if (store->order == BELAY_STORE_LIFO)
    return store->items[store->n];
  item = store->items[store->head];
  store->head = (store->head + 1) & (store->room - 1);
  return item;
}
