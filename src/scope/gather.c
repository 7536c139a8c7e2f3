/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gather: the same for many items.
 *
 * One fiber, a child of the caller's scope, opens a group of its own and closes it; the members of that group each take the
 * next item until none is left. So there are never more fibers than may work at once, however many items there are. All of
 * them are on one thread: the counter needs no lock.
 *
 * A result is in its place as soon as it is there, and belongs to the record until the array is made of them, or all are
 * freed because one failed.
 *
 * The work uses the items' memory, which is the caller's: so its future is a borrowing one, and its fiber a child.
 */
#include "scope/scope-private.h"

typedef struct
{
  gpointer      *items;
  guint          n, at_once;
  BelayMapFunc   func;
  gpointer       data;
  GDestroyNotify destroy;
  const char    *site;
  BelayScope    *group;
  guint          next;    /* the first that nobody has begun */
  gpointer      *results;
} Gather;

static gboolean
take_items (gpointer data, GError **error)
{
  Gather *self = data;

  while (self->next < self->n)
    {
      guint i = self->next;
      GError *failure = NULL;
      gpointer result;

      if (!belay_checkpoint (error))
        return FALSE;
      self->next++;
      result = self->func (self->items[i], self->data, &failure);
      if (G_UNLIKELY (!belay_check_result (result != NULL, &failure, "the function of a gather")))
        {
          if (result != NULL && self->destroy != NULL)
            self->destroy (result);
          /* A member that is cancelled alone has not failed its group; but here there is no result without it. */
          if (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            belay_scope_cancel (self->group, failure->message);
          g_propagate_error (error, failure);
          return FALSE;
        }
      self->results[i] = result;
    }
  return TRUE;
}

static gpointer
gather (gpointer data, GError **error)
{
  Gather *self = data;
  BelayScope *group = belay_scope_begin_at (self->site);
  guint n_fibers = self->at_once != 0 ? MIN (self->n, self->at_once) : self->n;
  GPtrArray *results;
  gboolean ok;

  self->group = group;
  self->results = g_new0 (gpointer, self->n);
  for (guint i = 0; i < n_fibers; i++)
    if (!belay_scope_spawn (group, take_items, self, NULL))
      break; /* all of this is cancelled */
  ok = belay_scope_close (&group, error) &&
       (self->next == self->n || belay_checkpoint (error)); /* where none was spawned, no member's end says so */
  if (!ok)
    {
      for (guint i = 0; i < self->n && self->destroy != NULL; i++)
        if (self->results[i] != NULL)
          self->destroy (self->results[i]);
      g_free (self->results);
      return NULL;
    }
  results = g_ptr_array_new_full (self->n, self->destroy);
  for (guint i = 0; i < self->n; i++)
    g_ptr_array_add (results, self->results[i]);
  g_free (self->results);
  return results;
}

BelayFuture *
belay_gather_at (gpointer *items, guint n, guint at_once, BelayMapFunc func, gpointer data, GDestroyNotify destroy,
                 const char *site)
{
  BelayFuture *refused;
  Gather *self;

  g_return_val_if_fail (func != NULL && (n == 0 || items != NULL), NULL);

  refused = belay_fiber_refuse ();
  if (G_UNLIKELY (refused != NULL))
    return refused;
  self = g_new0 (Gather, 1);
  *self = (Gather) { items, n, at_once, func, data, destroy, site };
  return belay_task_start_borrowing (NULL, gather, self, g_free, (GDestroyNotify) g_ptr_array_unref, site);
}

BelayFuture *
(belay_gather) (gpointer *items, guint n, guint at_once, BelayMapFunc func, gpointer data, GDestroyNotify destroy)
{
  return belay_gather_at (items, n, at_once, func, data, destroy, NULL);
}
