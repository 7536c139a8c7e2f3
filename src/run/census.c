/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The census: which fibers there are on a context, and what they wait for.
 *
 * A fiber that has begun has a stack, so the stacks are what is counted. Each is entered in its context's list when it is
 * made and taken out when its memory is given back; both are rare, since stacks are reused. Nothing is paid when a fiber
 * begins, waits or ends, but for a word or two that say what a wait is for. A fiber that has not begun is not in the
 * census: it waits for nothing but its turn.
 *
 * Invariants
 *   1. The list belongs to the home thread, as the stacks do.
 *   2. A stack of the list has a fiber from when it is bound until the fiber has ended. The fiber's own `stack` is NULL a
 *      little earlier, while its outcome is being decided: it waits for nothing any more, and is left out.
 */
#include "run/fiber.h"

void
belay_census_add (BelayStack *stack)
{
  BelayContext *context = stack->context;

  stack->prev_of_all = NULL;
  stack->next_of_all = context->stacks;
  if (stack->next_of_all != NULL)
    stack->next_of_all->prev_of_all = stack;
  context->stacks = stack;
}

void
belay_census_remove (BelayStack *stack)
{
  if (stack->prev_of_all != NULL)
    stack->prev_of_all->next_of_all = stack->next_of_all;
  else
    stack->context->stacks = stack->next_of_all;
  if (stack->next_of_all != NULL)
    stack->next_of_all->prev_of_all = stack->prev_of_all;
}

void
belay_census_foreach (BelayContext *context, BelayFiberFunc func, gpointer data)
{
  for (BelayStack *stack = context->stacks; stack != NULL; stack = stack->next_of_all)
    if (stack->fiber != NULL && stack->fiber->stack == stack)
      func (stack->fiber, data);
}

void
belay_census_foreach_waiting (BelayContext *context, BelayFiberFunc func, gpointer data)
{
  for (BelayStack *stack = context->stacks; stack != NULL; stack = stack->next_of_all)
    if (stack->fiber != NULL && stack->fiber->stack == stack && stack->wait != BELAY_WAIT_NONE)
      func (stack->fiber, data);
}
