/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fiber-local values: what a fiber, and all that it starts, can ask for without being handed it.
 *
 * A *key* is a static variable, known by its address. A fiber's *values* hang on its own scope, which is made for them; a
 * fiber that sets none has nothing. They are freed when that scope has been closed, so after the fiber's function, its
 * children and its releases.
 *
 * A value is looked for in the fiber, then in the one whose limit is around it, and so on outwards. What is around a fiber
 * outlives it and runs on its thread, and what a release or a chain finds is its fiber's; so nothing is copied and nothing
 * is locked. The way ends at a stored scope, which is in no fiber.
 */
#include "scope/scope-private.h"

typedef struct _Local Local;
struct _Local
{
  Local      *next;
  BelayLocal *key;
  gpointer    value;
};

/* Where the fiber's own value of @key is; NULL: it has none. */
static Local **
find (BelayFiber *fiber, BelayLocal *key)
{
  BelayScope *scope = fiber->stack->scope;

  if (scope != NULL)
    for (Local **link = (Local **) &scope->locals; *link != NULL; link = &(*link)->next)
      if ((*link)->key == key)
        return link;
  return NULL;
}

gpointer
belay_local_get (BelayLocal *key)
{
  BelayFiber *fiber = belay_fiber_self ();

  g_return_val_if_fail (key != NULL, NULL);

  while (fiber != NULL)
    {
      Local **link = find (fiber, key);

      if (link != NULL)
        return (*link)->value;
      fiber = fiber->outer != NULL ? fiber->outer->fiber : NULL;
    }
  return NULL;
}

static void
end_value (BelayLocal *key, gpointer value)
{
  if (key->destroy != NULL && value != NULL)
    key->destroy (value);
}

gboolean
belay_local_set (BelayLocal *key, gpointer value)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayScope *scope;
  gpointer old;
  Local **link;
  Local *local;

  g_return_val_if_fail (key != NULL, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber ("belay_local_set", NULL);
      end_value (key, value);
      return FALSE;
    }
  link = find (fiber, key);
  if (link == NULL)
    {
      if (value == NULL)
        return TRUE;
      local = g_new (Local, 1);
      scope = belay_scope_of_fiber (fiber);
      *local = (Local) { scope->locals, key, value };
      scope->locals = local;
      return TRUE;
    }
  local = *link;
  old = local->value;
  local->value = value;
  if (value == NULL)
    {
      *link = local->next;
      g_free (local);
    }
  end_value (key, old);
  return TRUE;
}

/* The newest first; a destroy function may set others. */
void
belay_locals_free (BelayScope *scope)
{
  while (scope->locals != NULL)
    {
      Local *local = scope->locals;

      scope->locals = local->next;
      end_value (local->key, local->value);
      g_free (local);
    }
}
