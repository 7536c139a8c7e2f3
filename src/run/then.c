/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Continuations: then, catch and finally.
 *
 * A continuation and its result are one block. Its phase goes from WAITING (for the source) to RUNNING (its item is queued,
 * or the function runs) to ADOPTING (the future that the function returned) to OVER. A cancellation claims WAITING or
 * ADOPTING by one exchange; whoever claims a phase owns what belongs to it. ADOPTING begins when the waiter is linked
 * there; a result that was dropped while it was RUNNING is looked for then. The function is called on the context where
 * it was registered, and not at all when the result was dropped before. That of finally is clean-up: it is always called,
 * with a cancelled future when the source was given up, and what it returned is seen to its end, whoever reads it.
 *
 * The error of the source counts as seen when it has become the result's, when its reader (the function) looked at it, or
 * when catch made something else of it. So it goes to the sink when the function failed in its turn without a look.
 *
 * A cancellation that claimed its phase is ASKING: while somebody still reads the result, deaf, a future that may borrow
 * memory of whoever waits, and a fiber, is asked to end and seen to its end; any other is dropped, and so is all when the
 * result was. When its notification comes at the same time, the later of the two finishes.
 *
 * What the function will return is not known before, so every continuation is *wrapping*: a wait for it that is given up
 * last ends with it. Then its function is not called any more, or, when it runs on another thread just now, what it
 * returns is asked to end at once.
 */
#include "run/context.h"

typedef enum { MODE_THEN, MODE_CATCH, MODE_FINALLY } Mode;

enum { PHASE_WAITING, PHASE_RUNNING, PHASE_ADOPTING, PHASE_ASKING, PHASE_OVER };

typedef struct
{
  BelayFuture    result; /* first: the block is freed as a future */
  BelayWaiter    waiter;
  BelayItem      item;
  BelayContext  *context;
  BelayFuture   *source;
  BelayFuture   *adopted;
  BelayFuture   *deaf;   /* that of the two whose end is waited for after it was given up */
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

/* Nobody wants the result any more. */
static gboolean
was_asked (Then *self)
{
  return !belay_future_has_interest (&self->result) || (atomic_load (&self->result.flags) & BELAY_FUTURE_ASKED) != 0;
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
  if (self->deaf != NULL)
    belay_future_take_up (self->deaf);
  g_clear_pointer (&self->source, belay_future_unref);
  g_clear_pointer (&self->adopted, belay_future_unref);
  belay_future_unref_writer (&self->result);
  belay_context_unref (context);
}

static void
cancel (Then *self)
{
  belay_future_settle_error (&self->result, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "ended early"));
  finish (self);
}

static void
settle_with (Then *self, BelayFuture *outcome)
{
  belay_future_settle_copy (&self->result, outcome);
  finish (self);
}

/* The clean-up of a finally failed, after its source had: the source's error stays on top. */
static void
settle_both (Then *self)
{
  BelayErrors *errors = belay_errors_add_all (NULL, belay_future_get_attached (self->source), 0);

  errors = belay_errors_add (errors, g_error_copy (belay_future_get_error (self->adopted)), NULL);
  errors = belay_errors_add_all (errors, belay_future_get_attached (self->adopted), 0);
  belay_future_settle_errors (&self->result, g_error_copy (belay_future_get_error (self->source)), errors);
  finish (self);
}

/* What the function's future says. finally passes the source's outcome on unless that one failed. */
static void
settle_adopted (Then *self)
{
  gboolean resolved = belay_future_status (self->adopted) == BELAY_STATE_RESOLVED;

  if (!resolved && self->mode == MODE_FINALLY && belay_future_status (self->source) == BELAY_STATE_REJECTED &&
      !g_error_matches (belay_future_get_error (self->adopted), G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      settle_both (self);
      return;
    }

  if (resolved && self->mode == MODE_CATCH)
    belay_future_add_flag (self->source, BELAY_FUTURE_SEEN);
  settle_with (self, resolved && self->mode == MODE_FINALLY ? self->source : self->adopted);
}

/* For a finally that was asked to end: its source is not waited for any more. */
static void
run_all_the_same (Then *self)
{
  atomic_store (&self->phase, PHASE_RUNNING);
  belay_context_push (self->context, &self->item);
}

/* The outcome of the source, without the function: the result was asked to end before. */
static void
pass_on (Then *self)
{
  if (self->mode == MODE_FINALLY)
    run_all_the_same (self);
  else if (self->mode == MODE_THEN && belay_future_status (self->source) == BELAY_STATE_RESOLVED)
    cancel (self); /* its value is not what the function would have made of it */
  else
    settle_with (self, self->source);
}

/* The future that was waited for is given up, and not waited for. */
static void
drop (Then *self)
{
  if (self->mode == MODE_CATCH && self->adopted != NULL)
    belay_future_add_flag (self->source, BELAY_FUTURE_SEEN);
  if (self->mode != MODE_FINALLY)
    {
      cancel (self);
      return;
    }
  belay_future_unref (self->source);
  self->source = belay_future_new_error (g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "ended early"));
  run_all_the_same (self);
}

static void
stop_waiting (Then *self, BelayFuture *future, void (*settle) (Then *))
{
  if (belay_future_has_interest (&self->result) && belay_future_give_up (future, TRUE))
    self->deaf = future; /* told before the phase is OVER, and whoever finishes comes after that */
  else if (belay_future_remove_waiter (future, &self->waiter))
    {
      drop (self);
      return;
    }
  if (!enter_phase (self, PHASE_ASKING, PHASE_OVER))
    settle (self); /* its notification came, and left it to us */
}

static void
on_adopted (BelayWaiter *waiter)
{
  Then *self = THEN_OF (waiter, waiter);

  if (atomic_exchange (&self->phase, PHASE_OVER) != PHASE_ASKING) /* it may still be RUNNING, see adopt() */
    settle_adopted (self);
}

static void on_cancel (gpointer data);

static void
adopt (Then *self)
{
  BelayFuture *result = &self->result, *adopted = self->adopted;
  gboolean may_change = belay_future_begin_wrapping (adopted);

  self->waiter.notify = on_adopted;
  belay_future_ref_writer (result); /* the adopted future may settle, and all be over, at any time now */
  if (belay_future_is_borrowing (adopted) && !belay_future_is_borrowing (result))
    belay_future_borrow_late (result);
  if (!belay_future_add_waiter (adopted, &self->waiter))
    on_adopted (&self->waiter);
  else if (enter_phase (self, PHASE_RUNNING, PHASE_ADOPTING) && was_asked (self))
    on_cancel (self);
  if (G_UNLIKELY (may_change))
    belay_future_end_wrapping (adopted, result);
  belay_future_unref_writer (result);
}

static void
run_func (BelayItem *item)
{
  Then *self = THEN_OF (item, item);
  gboolean resolved = belay_future_status (self->source) == BELAY_STATE_RESOLVED;

  if (G_UNLIKELY (belay_context_is_gone (self->context)))
    {
      if (resolved)
        belay_future_settle_error (&self->result, belay_context_gone_error ());
      else
        belay_future_settle_copy (&self->result, self->source);
      finish (self);
      return;
    }
  if (self->mode != MODE_FINALLY && was_asked (self))
    {
      pass_on (self);
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
  else if (atomic_exchange (&self->phase, PHASE_OVER) != PHASE_ASKING)
    pass_on (self);
}

/*
 * The result was dropped, or a cancelled await asks it to end. What is waited for is seen to its end or dropped, but for
 * what the function of a finally returned.
 */
static void
on_cancel (gpointer data)
{
  Then *self = data;

  if (enter_phase (self, PHASE_WAITING, PHASE_ASKING))
    stop_waiting (self, self->source, pass_on);
  else if (self->mode != MODE_FINALLY && enter_phase (self, PHASE_ADOPTING, PHASE_ASKING))
    stop_waiting (self, self->adopted, settle_adopted);
}

static BelayFuture *
then_new (Mode mode, BelayFuture *future, BelayThenFunc func, gpointer data, GDestroyNotify destroy)
{
  Then *self = belay_future_block_new (Then);
  gboolean may_change;

  belay_future_init (&self->result, 1 + BELAY_PROMISE_UNIT);
  belay_future_on_cancel (&self->result, on_cancel, self, NULL);
  self->waiter.notify = on_source;
  self->waiter.wrapper = &self->result;
  self->item.run = run_func;
  self->context = belay_context_ref (belay_context_get ());
  self->source = future;
  self->adopted = NULL;
  self->deaf = NULL;
  self->func = func;
  self->data = data;
  self->destroy = destroy;
  self->mode = mode;
  atomic_init (&self->phase, PHASE_WAITING);
  atomic_init (&self->result.flags, BELAY_FUTURE_WRAPPING | (belay_future_is_borrowing (future) ? BELAY_FUTURE_BORROWING : 0));
  may_change = belay_future_begin_wrapping (future);
  if (!belay_future_add_waiter (future, &self->waiter))
    {
      atomic_store_explicit (&self->phase, PHASE_RUNNING, memory_order_relaxed);
      belay_context_push (self->context, &self->item);
    }
  if (G_UNLIKELY (may_change))
    belay_future_end_wrapping (future, &self->result);
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
