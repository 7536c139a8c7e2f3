/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cells: one value that several read, and that may be replaced while they do.
 *
 * A reader takes a reference to the cell under its owner's lock, and copies the value when it has left that: the function that
 * copies is the user's. Whoever has the last reference needs no copy, but gets the value itself.
 */
#pragma once

#include "core/future-private.h"

typedef struct _BelayCell BelayCell;
struct _BelayCell
{
  atomic_int refs;
  guint      pending; /* this and the next two: a broadcast's, under its lock; how many subscriptions have not come to it */
  guint64    place;
  BelayCell *next;    /* of those that came back to a subscription */
  gpointer   value;
};

static inline BelayCell *
belay_cell_new (gpointer value)
{
  BelayCell *self = belay_piece_new (sizeof *self);

  atomic_init (&self->refs, 1);
  self->pending = 0;
  self->place = 0;
  self->next = NULL;
  self->value = value;
  return self;
}

static inline BelayCell *
belay_cell_ref (BelayCell *self)
{
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

/* Under no lock. */
static inline void
belay_cell_unref (BelayCell *self, GDestroyNotify free_value)
{
  if (self == NULL || atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  if (free_value != NULL)
    free_value (self->value);
  belay_piece_free (self, sizeof *self);
}

/* Consumes the reference. */
static inline gpointer
belay_cell_take (BelayCell *self, GBoxedCopyFunc copy, GDestroyNotify free_value)
{
  gpointer value = self->value;

  if (copy == NULL || atomic_load_explicit (&self->refs, memory_order_acquire) == 1)
    {
      belay_cell_unref (self, copy == NULL ? free_value : NULL);
      return value;
    }
  value = copy (value);
  belay_cell_unref (self, free_value);
  return value;
}
