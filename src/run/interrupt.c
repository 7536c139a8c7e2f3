/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interruptions: how a fiber hears that the limits around it have changed, and what a cancelled one may not start.
 *
 * A *poke* is an item that goes to the fiber's home; there it is looked whether its wait must end. It carries a reason
 * when it is to cancel the fiber first, for a fiber's root limit belongs to its home thread.
 */
#include "run/fiber.h"

typedef struct
{
  BelayItem   item;
  BelayFiber *fiber;
  char       *reason; /* not NULL: cancel it first */
} Poke;

void
belay_fiber_recheck (BelayFiber *self)
{
  BelayStack *stack = self->stack;

  if (stack->wait != BELAY_WAIT_INTERRUPTIBLE)
    return;
  if (belay_limit_interrupts (self))
    {
      belay_fiber_wake (self);
    }
  else if (stack->deadline != G_MAXINT64 && (stack->timer.place == 0 || stack->timer.when > stack->deadline))
    {
      belay_timer_arm (self->context, &stack->timer, stack->deadline);
      stack->timed = TRUE;
    }
}

static void
poke_at_home (BelayFiber *self)
{
  if (self->stack == NULL)
    return; /* not started, and looks for itself when it is; or ended */
  belay_fiber_recheck (self);
  if (self->poked != NULL)
    self->poked (self);
}

static void
on_poke (BelayItem *item)
{
  Poke *poke = (Poke *) item;
  gboolean gone = belay_context_is_gone (poke->fiber->context);

  if (!gone && poke->reason != NULL)
    {
      if (poke->fiber->stack != NULL)
        belay_limit_cancel (&poke->fiber->stack->root, poke->reason);
      else
        poke->fiber->future.mark = BELAY_FIBER_STILLBORN;
    }
  if (!gone)
    poke_at_home (poke->fiber);
  belay_future_unref_writer (&poke->fiber->future);
  g_free (poke->reason);
  g_free (poke);
}

static void
send_poke (BelayFiber *self, char *reason)
{
  Poke *poke = g_new (Poke, 1);

  belay_future_ref_writer (&self->future);
  poke->item.run = on_poke;
  poke->fiber = self;
  poke->reason = reason;
  belay_context_push (self->context, &poke->item);
}

void
belay_fiber_poke (BelayFiber *self)
{
  send_poke (self, NULL);
}

void
belay_fiber_cancel (BelayFiber *self, const char *reason)
{
  send_poke (self, g_strdup (reason != NULL ? reason : "cancelled"));
}

BelayFuture *
belay_fiber_refuse (void)
{
  BelayFiber *self = belay_fiber_self ();
  BelayFuture *refused;
  GError *error = NULL;

  if (belay_forked ())
    {
      belay_fail_forked ("what was to begin", &error);
      return belay_future_new_error (error);
    }
  if (self == NULL ||
      G_LIKELY (self->stack->epoch == atomic_load_explicit (&belay_limit_epoch, memory_order_acquire) &&
                self->stack->deadline == G_MAXINT64) ||
      belay_limit_may_start (self, &error))
    return NULL;
  refused = belay_future_new_error (error);
  atomic_init (&refused->flags, BELAY_FUTURE_SEEN); /* every checkpoint says the same: it need not go to the sink */
  return refused;
}
