/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lists of errors: what a GError cannot carry, the others that belong to it.
 *
 * Words. The error that a call returns, or that a future was rejected with, is on *top*. What else went wrong is *attached*
 * to it: a list in the order of what happened, each with its *site*. The top's message says how many there are, in a
 * *note* at its end, "(and 2 more)".
 *
 * Invariants
 *   1. A list that two refer to does not change: whoever adds to a shared one gets a copy.
 *   2. No error in a list has a note: the list is flat, and only the top says how many there are.
 *   3. NULL is the empty list. There is no other.
 */
#include "core/future-private.h"

#include <string.h>

G_DEFINE_BOXED_TYPE (BelayErrors, belay_errors, belay_errors_ref, belay_errors_unref)

typedef struct
{
  GError     *error;
  const char *site;
} Item;

struct _BelayErrors
{
  atomic_int refs;
  guint      n, room;
  Item      *items;
};

static BelayErrors *
errors_new (guint room)
{
  BelayErrors *self = g_new (BelayErrors, 1);

  atomic_init (&self->refs, 1);
  self->n = 0;
  self->room = room;
  self->items = g_new (Item, room);
  return self;
}

static void
append (BelayErrors *self, GError *error, const char *site)
{
  if (self->n == self->room)
    {
      self->room *= 2;
      self->items = g_renew (Item, self->items, self->room);
    }
  self->items[self->n++] = (Item) { error, site };
}

BelayErrors *
belay_errors_ref (BelayErrors *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_errors_unref (BelayErrors *self)
{
  g_return_if_fail (self != NULL);
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  for (guint i = 0; i < self->n; i++)
    g_error_free (self->items[i].error);
  g_free (self->items);
  g_free (self);
}

guint
belay_errors_get_size (BelayErrors *self)
{
  return self != NULL ? self->n : 0;
}

const GError *
belay_errors_get (BelayErrors *self, guint index)
{
  return self != NULL && index < self->n ? self->items[index].error : NULL;
}

const char *
belay_errors_get_site (BelayErrors *self, guint index)
{
  return self != NULL && index < self->n ? self->items[index].site : NULL;
}

/* --- inside --- */

/* (transfer full) @self; the result is the caller's alone. */
static BelayErrors *
make_own (BelayErrors *self, guint room)
{
  BelayErrors *copy;

  if (self != NULL && atomic_load_explicit (&self->refs, memory_order_acquire) == 1)
    return self;
  copy = errors_new (MAX (room, 2));
  if (self == NULL)
    return copy;
  for (guint i = 0; i < self->n; i++)
    append (copy, g_error_copy (self->items[i].error), self->items[i].site);
  belay_errors_unref (self);
  return copy;
}

BelayErrors *
belay_errors_add (BelayErrors *self, GError *error, const char *site)
{
  self = make_own (self, belay_errors_get_size (self) + 1);
  belay_error_say_more (error, 0);
  append (self, error, site);
  return self;
}

BelayErrors *
belay_errors_add_first (BelayErrors *self, GError *error, const char *site)
{
  self = belay_errors_add (self, error, site);
  memmove (self->items + 1, self->items, (self->n - 1) * sizeof (Item));
  self->items[0] = (Item) { error, site };
  return self;
}

BelayErrors *
belay_errors_add_all (BelayErrors *self, BelayErrors *more, guint first)
{
  guint n = belay_errors_get_size (more);

  if (n <= first)
    return self;
  self = make_own (self, belay_errors_get_size (self) + n - first);
  for (guint i = first; i < n; i++)
    append (self, g_error_copy (more->items[i].error), more->items[i].site);
  return self;
}

void
belay_errors_sink (BelayErrors *self, const char *what)
{
  for (guint i = 0; i < belay_errors_get_size (self); i++)
    if (!g_error_matches (self->items[i].error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
      belay_sink_error (self->items[i].error, what, self->items[i].site);
}

#define NOTE_BEGIN " (and "
#define NOTE_END " more)"

/* Where the note begins in @message, or where it ends when there is none. */
static gsize
find_note (const char *message)
{
  gsize length = strlen (message), at = length;

  if (!g_str_has_suffix (message, NOTE_END))
    return length;
  at -= strlen (NOTE_END);
  if (at == 0 || !g_ascii_isdigit (message[at - 1]))
    return length;
  while (at > 0 && g_ascii_isdigit (message[at - 1]))
    at--;
  if (at < strlen (NOTE_BEGIN) || memcmp (message + at - strlen (NOTE_BEGIN), NOTE_BEGIN, strlen (NOTE_BEGIN)) != 0)
    return length;
  return at - strlen (NOTE_BEGIN);
}

void
belay_error_say_more (GError *error, guint n)
{
  gsize end = find_note (error->message);
  char *message;

  if (n == 0)
    {
      error->message[end] = '\0';
      return;
    }
  message = g_strdup_printf ("%.*s" NOTE_BEGIN "%u" NOTE_END, (int) end, error->message, n);
  g_free (error->message);
  error->message = message;
}
