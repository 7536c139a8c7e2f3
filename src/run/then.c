/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Continuations: then, catch and finally.
 *
 * A continuation and its result are one block. Its phase goes from WAITING (for the source) to RUNNING (its item is queued,
 * or the function runs) to ADOPTING (the future that the function returned) to OVER. A cancellation claims WAITING or
 * ADOPTING by one exchange; whoever claims a phase owns what belongs to it. ADOPTING begins when the waiter is linked
 * there; a result that was dropped while it was RUNNING is looked for then. The function is called on the context where
 * it was registered, and not at all when the result was dropped before.
 */
#include "run/context.h"

typedef enum { MODE_THEN, MODE_CATCH, MODE_FINALLY } Mode;

enum { PHASE_WAITING, PHASE_RUNNING, PHASE_ADOPTING, PHASE_OVER };

typedef struct
{
  BelayFuture    result; /* first: the block is freed as a future */
  BelayWaiter    waiter;
  BelayItem      item;
  BelayContext  *context;
  BelayFuture   *source;
  BelayFuture   *adopted;
  BelayThenFunc  func;
  gpointer       data;
  GDestroyNotify destroy;
  Mode           mode;
  atomic_int     phase;
} Then;

#define THEN_OF(p, member) ((Then *) ((char *) (p) - G_STRUCT_OFFSET (Then, member)))

static gboolean
enter_phase (Then *self, int from, int to)
{
  return atomic_compare_exchange_strong (&self->phase, &from, to);
}

static void
drop_data (Then *self)
{
  GDestroyNotify destroy = self->destroy;

  self->destroy = NULL;
  if (destroy != NULL)
    destroy (self->data);
}

/* Gives everything back; the block lives while somebody is interested in the result. */
static void
finish (Then *self)
{
  BelayContext *context = self->context;

  drop_data (self);
  g_clear_pointer (&self->source, belay_future_unref);
  g_clear_pointer (&self->adopted, belay_future_unref);
  belay_future_unref_writer (&self->result);
  belay_context_unref (context);
}

static void
settle_with (Then *self, BelayFuture *outcome)
{
  belay_future_settle_copy (&self->result, outcome);
  finish (self);
}

/* What the function's future says. finally passes the source's outcome on unless that one failed. */
static void
settle_adopted (Then *self)
{
  if (self->mode == MODE_FINALLY && belay_future_status (self->adopted) == BELAY_STATE_RESOLVED)
    settle_with (self, self->source);
  else
    settle_with (self, self->adopted);
}

static void
on_adopted (BelayWaiter *waiter)
{
  Then *self = THEN_OF (waiter, waiter);

  if (atomic_exchange (&self->phase, PHASE_OVER) != PHASE_OVER) /* or it may still be RUNNING, see adopt() */
    settle_adopted (self);
  else
    finish (self);
}

static void on_cancel (gpointer data);

static void
adopt (Then *self)
{
  BelayFuture *result = &self->result;

  self->waiter.notify = on_adopted;
  belay_future_ref_writer (result); /* the adopted future may settle, and all be over, at any time now */
  if (!belay_future_add_waiter (self->adopted, &self->waiter))
    on_adopted (&self->waiter);
  else if (enter_phase (self, PHASE_RUNNING, PHASE_ADOPTING) && !belay_future_has_interest (result))
    on_cancel (self);
  belay_future_unref_writer (result);
}

static void
run_func (BelayItem *item)
{
  Then *self = THEN_OF (item, item);
  gboolean resolved = belay_future_status (self->source) == BELAY_STATE_RESOLVED;

  if (!belay_future_has_interest (&self->result))
    {
      finish (self);
      return;
    }
  if (self->mode != MODE_FINALLY && resolved != (self->mode == MODE_THEN))
    {
      settle_with (self, self->source);
      return;
    }
  self->adopted = self->func (self->source, self->data);
  drop_data (self);
  if (self->adopted == NULL)
    {
      settle_with (self, self->source);
      return;
    }
  adopt (self);
}

static void
on_source (BelayWaiter *waiter)
{
  Then *self = THEN_OF (waiter, waiter);

  if (enter_phase (self, PHASE_WAITING, PHASE_RUNNING))
    belay_context_push (self->context, &self->item);
  else
    finish (self);
}

/* The result was dropped. What cannot be unlinked is being notified, and finishes there. */
static void
on_cancel (gpointer data)
{
  Then *self = data;

  if (enter_phase (self, PHASE_WAITING, PHASE_OVER))
    {
      if (belay_future_remove_waiter (self->source, &self->waiter))
        finish (self);
    }
  else if (enter_phase (self, PHASE_ADOPTING, PHASE_OVER))
    {
      if (belay_future_remove_waiter (self->adopted, &self->waiter))
        finish (self);
    }
}

static BelayFuture *
then_new (Mode mode, BelayFuture *future, BelayThenFunc func, gpointer data, GDestroyNotify destroy)
{
  Then *self = belay_future_block_new (Then);

  belay_future_init (&self->result, 1 + BELAY_PROMISE_UNIT);
  self->result.on_cancel = on_cancel;
  self->result.cancel_data = self;
  self->waiter.notify = on_source;
  self->item.run = run_func;
  self->context = belay_context_ref (belay_context_get ());
  self->source = future;
  self->adopted = NULL;
  self->func = func;
  self->data = data;
  self->destroy = destroy;
  self->mode = mode;
  atomic_init (&self->phase, PHASE_WAITING);
  if (!belay_future_add_waiter (future, &self->waiter))
    {
      atomic_store_explicit (&self->phase, PHASE_RUNNING, memory_order_relaxed);
      belay_context_push (self->context, &self->item);
    }
  return &self->result;
}

BelayFuture *
belay_future_then (BelayFuture *future, BelayThenFunc func, gpointer data, GDestroyNotify destroy)
{
  g_return_val_if_fail (future != NULL && func != NULL, NULL);
  return then_new (MODE_THEN, future, func, data, destroy);
}

BelayFuture *
belay_future_catch (BelayFuture *future, BelayThenFunc func, gpointer data, GDestroyNotify destroy)
{
  g_return_val_if_fail (future != NULL && func != NULL, NULL);
  return then_new (MODE_CATCH, future, func, data, destroy);
}

BelayFuture *
belay_future_finally (BelayFuture *future, BelayThenFunc func, gpointer data, GDestroyNotify destroy)
{
  g_return_val_if_fail (future != NULL && func != NULL, NULL);
  return then_new (MODE_FINALLY, future, func, data, destroy);
}
