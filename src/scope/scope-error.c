/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The errors of a scope: its children's, its body's that belay_check() did not take, its releases'.
 *
 * They are kept in the order in which they happened, each with its site: a child's is where it was spawned, a release's
 * where its resource was entered, any other's where the scope began. What was attached to one comes after it, so that the
 * list is flat. The first is what closing returns; its message says how many more there are, the closer is told of those as
 * attached to it, and belay_scope_get_errors() has them all. belay_check() leaves no list behind: the fiber has what it
 * does not return.
 *
 * All who add are at the scope's home, and nobody does once it is closed: so there is no lock.
 */
#include "scope/scope-private.h"

void
belay_scope_add_error (BelayScope *self, GError *error, BelayErrors *attached, const char *site)
{
  self->errors = belay_errors_add (self->errors, error, site != NULL ? site : self->site);
  self->errors = belay_errors_add_all (self->errors, attached, 0);
  g_clear_pointer (&attached, belay_errors_unref);
}

BelayErrors *
belay_scope_list_errors (BelayScope *self, BelayErrors *list, guint first)
{
  for (guint i = first; i < belay_errors_get_size (self->errors); i++)
    if (i + 1 != self->interruption)
      list = belay_errors_add (list, g_error_copy (belay_errors_get (self->errors, i)), belay_errors_get_site (self->errors, i));
  return list;
}

void
belay_scope_pass_errors (BelayScope *self, BelayScope *to, const char *prefix)
{
  BelayErrors *errors;

  if (self->state != BELAY_SCOPE_CLOSED)
    return; /* its close was left to another fiber, which passes them on */
  errors = belay_scope_list_errors (self, NULL, 0);
  for (guint i = 0; i < belay_errors_get_size (errors); i++)
    {
      const char *site = belay_errors_get_site (errors, i);
      GError *error;

      if (to == NULL)
        {
          belay_sink_error (belay_errors_get (errors, i), prefix, site);
          continue;
        }
      error = g_error_copy (belay_errors_get (errors, i));
      g_prefix_error (&error, "%s: ", prefix);
      belay_scope_add_error (to, error, NULL, site);
    }
  g_clear_pointer (&errors, belay_errors_unref);
}

void
belay_scope_hold_errors (BelayScope *self, BelayFiber *fiber, const GError *top)
{
  if (self->state == BELAY_SCOPE_CLOSED) /* else it is another error: that the close did not happen */
    belay_attached_hold (fiber, top, belay_errors_add_all (NULL, self->errors, 1));
}

BelayErrors *
belay_scope_get_errors (BelayScope *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return self->errors;
}

GError *
belay_scope_summary (BelayScope *self)
{
  GError *first = g_error_copy (belay_errors_get (self->errors, 0));

  belay_error_say_more (first, belay_errors_get_size (self->errors) - 1);
  return first;
}

gboolean
belay_check (GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayErrors *errors;
  BelayScope *scope;
  GError *first;

  if (fiber == NULL)
    return TRUE;
  scope = belay_scope_innermost (fiber);
  if (scope->errors == NULL)
    return TRUE;
  if (error != NULL && *error != NULL)
    return FALSE; /* the body's own stays on top; these stay where the scope's close finds them */
  first = belay_scope_summary (scope);
  errors = g_steal_pointer (&scope->errors);
  belay_attached_hold (fiber, first, belay_errors_add_all (NULL, errors, 1));
  belay_errors_unref (errors);
  g_propagate_error (error, first);
  return FALSE;
}
