/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a fiber was told of, beside the error that a call returned.
 *
 * Words. A call that fails in a fiber returns one GError; what is *attached* to that is *held* for the fiber, with the
 * domain, the code and the message of the error. So when the fiber fails with this error, though somebody put a prefix
 * before its message, what is attached to it goes on with it. The *level* of what is held is the release that the fiber
 * was in then, or its function: a release's failures are its own, and the body's are there again after it.
 *
 * The newest failure's is what belay_attached_errors() shows. Older ones are kept, as a fiber may clean up, with calls that
 * fail in their turn, between an error and its return; but only so many, for it may also have dealt with them and live on.
 *
 * All of this is the fiber's own, and nothing of it happens while nothing fails: the flag `holds` says that there is any.
 */
#include "run/fiber.h"

#define KEEP 8 /* of a level's failures */

struct _BelayHeld
{
  BelayHeld   *outer;   /* the next older one */
  BelayLimit  *level;   /* NULL: the function's */
  GQuark       domain;  /* 0: that of an interruption */
  int          code;
  char        *message; /* what the error's ends in */
  gboolean     is_old;  /* there was another failure since */
  gboolean     is_late; /* no failure, but a time-out that passed */
  BelayErrors *errors;
};

static BelayLimit *
level_of (BelayFiber *fiber)
{
  for (BelayLimit *limit = fiber->stack->limit; limit != NULL && limit->fiber == fiber; limit = limit->outer)
    if (limit->owns)
      return limit;
  return NULL;
}

static BelayErrors *
unlink_held (BelayStack *stack, BelayHeld **link)
{
  BelayHeld *held = *link;
  BelayErrors *errors = held->errors;

  *link = held->outer;
  stack->holds = stack->attached != NULL;
  g_free (held->message);
  g_free (held);
  return errors;
}

static void
make_old (BelayFiber *fiber)
{
  BelayLimit *level = level_of (fiber);

  for (BelayHeld *held = fiber->stack->attached; held != NULL; held = held->outer)
    if (held->level == level)
      held->is_old = TRUE;
}

static BelayHeld *
push (BelayFiber *fiber, BelayErrors *errors)
{
  BelayStack *stack = fiber->stack;
  BelayHeld *held = g_new0 (BelayHeld, 1);
  guint n = 0;

  held->outer = stack->attached;
  held->level = level_of (fiber);
  held->errors = errors;
  stack->attached = held;
  stack->holds = TRUE;
  for (BelayHeld **link = &stack->attached; *link != NULL;)
    if ((*link)->level == held->level && ++n > KEEP)
      belay_errors_unref (unlink_held (stack, link));
    else
      link = &(*link)->outer;
  return held;
}

void
belay_attached_hold (BelayFiber *fiber, const GError *top, BelayErrors *errors)
{
  BelayHeld *held;

  make_old (fiber);
  if (errors == NULL)
    return;
  held = push (fiber, errors);
  held->domain = top->domain;
  held->code = top->code;
  held->message = g_strdup (top->message);
}

void
belay_attached_note (BelayFiber *fiber, BelayFuture *future, GError *error)
{
  gboolean was_read = belay_future_status (future) == BELAY_STATE_REJECTED &&
                      (atomic_load_explicit (&future->flags, memory_order_relaxed) & BELAY_FUTURE_SEEN) != 0;
  BelayErrors *errors = was_read ? future->aux.errors : NULL;

  if (G_LIKELY (errors == NULL))
    {
      if (fiber->stack->holds)
        make_old (fiber);
      return;
    }
  if (error != NULL)
    {
      belay_error_say_more (error, belay_errors_get_size (errors)); /* where that it was stopped has another name */
      belay_attached_hold (fiber, error, belay_errors_ref (errors));
    }
  else if (!g_error_matches (future->value.error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      belay_attached_hold (fiber, future->value.error, belay_errors_ref (errors));
    }
  else
    {
      make_old (fiber);
      push (fiber, belay_errors_ref (errors));
    }
}

static gboolean
is_interruption (const GError *error)
{
  return g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) || g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
}

static gboolean
is_of (BelayHeld *held, const GError *error)
{
  if (held->is_late)
    return FALSE;
  if (held->domain == 0)
    return is_interruption (error);
  return held->domain == error->domain && held->code == error->code && g_str_has_suffix (error->message, held->message);
}

void
belay_attached_told (BelayFiber *fiber, const GError *failure)
{
  BelayLimit *level = level_of (fiber);

  for (BelayHeld *held = fiber->stack->attached; held != NULL; held = held->outer)
    if (held->level == level && !held->is_late)
      {
        if (!is_of (held, failure))
          make_old (fiber);
        return;
      }
}

BelayErrors *
belay_attached_take (BelayFiber *fiber, const GError *top)
{
  BelayStack *stack = fiber->stack;
  BelayLimit *level;

  if (!stack->holds)
    return NULL;
  level = level_of (fiber);
  for (BelayHeld **link = &stack->attached; *link != NULL; link = &(*link)->outer)
    if ((*link)->level == level && is_of (*link, top))
      return unlink_held (stack, link);
  return NULL;
}

void
belay_attached_add (BelayFiber *fiber, GError *top, GError *error, const char *site)
{
  BelayErrors *more = belay_attached_take (fiber, error);
  BelayErrors *errors = belay_errors_add (belay_attached_take (fiber, top), error, site);

  errors = belay_errors_add_all (errors, more, 0);
  g_clear_pointer (&more, belay_errors_unref);
  belay_error_say_more (top, belay_errors_get_size (errors));
  belay_attached_hold (fiber, top, errors);
}

BelayErrors *
belay_attached_leave (BelayFiber *fiber, BelayLimit *limit, const GError *failure)
{
  BelayStack *stack = fiber->stack;
  BelayErrors *found = NULL;

  for (BelayHeld **link = &stack->attached; *link != NULL;)
    {
      if ((*link)->level != limit)
        link = &(*link)->outer;
      else if (found == NULL && failure != NULL && is_of (*link, failure))
        found = unlink_held (stack, link);
      else
        belay_errors_unref (unlink_held (stack, link));
    }
  return found;
}

void
belay_attached_add_late (BelayFiber *fiber, const char *site)
{
  GError *error = g_error_new_literal (G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "the time that was given for it had passed");

  push (fiber, belay_errors_add (NULL, error, site))->is_late = TRUE;
}

void
belay_attached_forget_late (BelayFiber *fiber)
{
  BelayLimit *level = level_of (fiber);

  for (BelayHeld *held = fiber->stack->attached; held != NULL; held = held->outer)
    if (held->level == level && held->is_late)
      held->is_old = TRUE;
}

BelayErrors *
belay_attached_end (BelayFiber *fiber, const GError *error)
{
  BelayStack *stack = fiber->stack;
  BelayErrors *errors = error != NULL ? belay_attached_take (fiber, error) : NULL;

  while (stack->attached != NULL)
    {
      gboolean counts = stack->attached->is_late && !stack->attached->is_old && error != NULL && !is_interruption (error);
      BelayErrors *left = unlink_held (stack, &stack->attached);

      if (counts)
        errors = belay_errors_add_all (errors, left, 0);
      belay_errors_unref (left);
    }
  return errors;
}

BelayErrors *
belay_attached_errors (void)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayLimit *level;

  if (fiber == NULL || !fiber->stack->holds)
    return NULL;
  level = level_of (fiber);
  for (BelayHeld *held = fiber->stack->attached; held != NULL; held = held->outer)
    if (held->level == level && !held->is_late)
      return held->is_old ? NULL : held->errors;
  return NULL;
}
