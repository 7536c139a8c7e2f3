/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hurry: when the program is told a second time to end, every release in it has a moment more and no longer.
 *
 * There is one *instant* for the whole program. A release that has not begun to count its time takes the least of its own
 * bound and of the instant (limit.c); one that was to go on for ever begins with the instant (release.c). Those that count
 * already are found by the census: on each context's home thread the deadlines of the releases on all stacks are drawn
 * nearer, and then all who wait look at what their time is now. A commit is left alone: of one that were cut off nobody
 * knows whether it happened.
 *
 * Invariants
 *   1. A deadline is only ever drawn nearer, by the home thread of the fiber whose release it is.
 *   2. The instant is set before the epoch advances. So whoever finds an old epoch looks again, and finds the new time.
 */
#include "run/fiber.h"

_Atomic (gint64) belay_hurry_instant = G_MAXINT64;

static void
draw_nearer (BelayFiber *fiber, gpointer data)
{
  gint64 instant = *(gint64 *) data;

  for (BelayLimit *limit = fiber->stack->limit; limit != NULL && limit->fiber == fiber; limit = limit->outer)
    if (limit->owns == TRUE && limit->allowance == G_MAXINT64 &&
        atomic_load_explicit (&limit->deadline, memory_order_relaxed) > instant)
      atomic_store_explicit (&limit->deadline, instant, memory_order_release);
}

/* Whoever is deaf to all but the end of its release finds the new time when it is woken; it looks at what it waits for. */
static void
look_again (BelayFiber *fiber, gpointer data)
{
  if (fiber->stack->wait == BELAY_WAIT_DEAF && belay_limit_release_around (fiber) != NULL)
    belay_fiber_wake (fiber);
  else
    belay_fiber_recheck (fiber);
}

typedef struct
{
  BelayItem     item;
  BelayContext *context; /* a reference */
} Hurry;

static void
hurry_at_home (BelayItem *item)
{
  Hurry *self = (Hurry *) item;
  gint64 instant = atomic_load_explicit (&belay_hurry_instant, memory_order_relaxed);

  if (!belay_context_is_gone (self->context) && instant != G_MAXINT64)
    {
      belay_census_foreach (self->context, draw_nearer, &instant);
      belay_limit_advance_epoch ();
      belay_census_foreach_waiting (self->context, look_again, NULL);
    }
  belay_context_unref (self->context);
  g_free (self);
}

static void
tell (BelayContext *context, gpointer data)
{
  Hurry *self = g_new (Hurry, 1);

  *self = (Hurry) { { NULL, hurry_at_home }, belay_context_ref (context) };
  belay_context_push (context, &self->item);
}

void
belay_hurry (gint64 instant)
{
  atomic_store (&belay_hurry_instant, instant);
  belay_limit_advance_epoch ();
  if (instant != G_MAXINT64)
    belay_contexts_foreach (tell, NULL);
}
