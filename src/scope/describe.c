/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a fiber waits for, in words: for reports of a deadlock, and of what keeps a program from its end.
 *
 * Places are those of the macros, "file.c:42", and "?" where a function was called without one. A fiber that closes a
 * scope waits for its children: each is named by where it was spawned, so that the chain of who waits for whom can be
 * followed from line to line.
 */
#include "run/line.h"
#include "scope/scope-private.h"

#define CHILDREN 8 /* of a scope that are named */

static const char *
name_of (const char *site)
{
  return site != NULL ? site : "?";
}

static void
describe_children (GString *text, BelayScope *scope)
{
  guint n = 0;

  g_string_append_printf (text, "the children of the scope from %s", name_of (scope->site));
  belay_spin_lock (&scope->lock);
  for (BelayTask *task = scope->children; task != NULL; task = task->next, n++)
    if (n < CHILDREN)
      g_string_append_printf (text, "%s%s", n == 0 ? ": the fibers from " : ", ", name_of (task->fiber.site));
  if (n > CHILDREN)
    g_string_append_printf (text, " and %u more", n - CHILDREN);
  if (n < belay_scope_count_children (scope, 0))
    g_string_append_printf (text, "%s callbacks of futures or early releases", n == 0 ? ":" : " and");
  belay_spin_unlock (&scope->lock);
}

static void
describe_future (GString *text, BelayFuture *future)
{
  if (belay_future_status (future) != BELAY_STATE_PENDING)
    g_string_append (text, "a future that is known, and its turn");
  else if (atomic_load (&future->flags) & BELAY_FUTURE_JOINED) /* a spawned fiber's record begins with it */
    g_string_append_printf (text, "the fiber from %s", name_of (((BelayFiber *) future)->site));
  else
    g_string_append (text, "a future");
}

static void
describe_line (GString *text, BelayLine *line)
{
  g_string_append (text, line->klass->what);
  if (line->klass->describe != NULL)
    line->klass->describe (line, text);
}

char *
belay_fiber_describe (BelayFiber *fiber)
{
  GString *text = g_string_new (NULL);
  BelayStack *stack = fiber->stack;

  g_string_printf (text, "the fiber from %s", name_of (fiber->site));
  if (stack == NULL || stack->wait == BELAY_WAIT_NONE)
    {
      g_string_append (text, " waits for its turn");
      return g_string_free (text, FALSE);
    }
  g_string_append_printf (text, " waits at %s for ", name_of (stack->wait_site));
  switch (stack->wait_kind)
    {
    case BELAY_WAITS_FOR_TIME:
      g_string_append (text, "its time");
      break;
    case BELAY_WAITS_FOR_FUTURE:
      describe_future (text, stack->wait_object);
      break;
    case BELAY_WAITS_FOR_CHILDREN:
      describe_children (text, stack->wait_object);
      break;
    case BELAY_WAITS_IN_LINE:
      describe_line (text, stack->wait_object);
      break;
    case BELAY_WAITS_FOR_BODY:
      g_string_append (text, "the end of its manager's body");
      break;
    default:
      g_assert_not_reached ();
    }
  return g_string_free (text, FALSE);
}
