/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The errors of a scope: its children's, its body's that belay_check() did not take, its releases'.
 *
 * They are kept in the order in which they happened. The first is what closing returns; its message says how many more
 * there are, and belay_scope_get_errors() has them. belay_check() leaves no such list behind, so what it does not
 * return goes to the sink. The list is under the scope's lock while the scope lives, and is not changed once it is
 * closed.
 */
#include "scope/scope-private.h"

void
belay_scope_add_error (BelayScope *self, GError *error)
{
  GPtrArray *fresh = NULL;

  if (self->errors == NULL)
    fresh = g_ptr_array_new_with_free_func ((GDestroyNotify) g_error_free);
  belay_spin_lock (&self->lock);
  if (self->errors == NULL)
    {
      self->errors = fresh;
      fresh = NULL;
    }
  g_ptr_array_add (self->errors, error);
  belay_spin_unlock (&self->lock);
  if (fresh != NULL)
    g_ptr_array_unref (fresh);
}

void
belay_scope_pass_errors (BelayScope *self, BelayScope *to, const char *prefix)
{
  if (self->state != BELAY_SCOPE_CLOSED)
    return; /* its close was left to another fiber, which passes them on */
  for (guint i = 0; self->errors != NULL && i < self->errors->len; i++)
    {
      GError *error = self->errors->pdata[i];

      if (error == self->interruption)
        continue;
      if (to == NULL)
        {
          belay_sink_error (error, prefix, self->site);
          continue;
        }
      error = g_error_copy (error);
      g_prefix_error (&error, "%s: ", prefix);
      belay_scope_add_error (to, error);
    }
}

const GPtrArray *
belay_scope_get_errors (BelayScope *self)
{
  static GPtrArray *none;

  g_return_val_if_fail (self != NULL, NULL);
  if (self->errors != NULL)
    return self->errors;
  if (g_once_init_enter (&none))
    g_once_init_leave (&none, g_ptr_array_new ());
  return none;
}

GError *
belay_scope_summary (BelayScope *self)
{
  GError *first = g_error_copy (self->errors->pdata[0]);

  if (self->errors->len > 1)
    {
      char *message = g_strdup_printf ("%s (and %u more)", first->message, self->errors->len - 1);

      g_free (first->message);
      first->message = message;
    }
  return first;
}

gboolean
belay_check (GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  GPtrArray *errors;
  BelayScope *scope;
  GError *first;

  if (fiber == NULL)
    return TRUE;
  scope = belay_scope_innermost (fiber);
  if (scope->errors == NULL || scope->errors->len == 0)
    return TRUE;
  if (error != NULL && *error != NULL)
    return FALSE; /* the body's own stays on top; these stay where the scope's close finds them */
  first = belay_scope_summary (scope);
  belay_spin_lock (&scope->lock);
  errors = g_steal_pointer (&scope->errors);
  belay_spin_unlock (&scope->lock);
  for (guint i = 1; i < errors->len; i++)
    belay_sink_error (errors->pdata[i], "what a scope owned", scope->site);
  g_ptr_array_unref (errors);
  g_propagate_error (error, first);
  return FALSE;
}
