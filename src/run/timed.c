/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Futures that know the time: delay and with_timeout.
 *
 * The timer belongs to the context's home thread, and the source may settle and the result be dropped on any other. So
 * each of these only queues an item of the block's at home, where all is decided in order: the first that finds it
 * undone does it. Each queued item, and the armed timer, holds the writing end of the result.
 *
 * A source that may borrow memory of whoever waits, or is a fiber, is not dropped while somebody reads the result: it is
 * asked to end, and the result waits for that.
 */
#include "run/fiber.h"

typedef struct
{
  BelayFuture   result; /* first: the block is freed as a future */
  BelayTimer    timer;
  BelayItem     start, settled, dropped;
  BelayWaiter   waiter;
  BelayContext *context;
  BelayFuture  *source; /* NULL: a delay */
  gint64        when;
  gint64        milliseconds;
  gboolean      over;      /* home */
  gboolean      deaf;      /* home: the source was given up, and is seen to its end */
  gboolean      timed_out; /* home: because of the time */
} Timed;

#define TIMED_OF(p, member) ((Timed *) ((char *) (p) - G_STRUCT_OFFSET (Timed, member)))

static void
drop_hold (Timed *self)
{
  BelayContext *context = self->context;

  belay_future_unref_writer (&self->result);
  belay_context_unref (context);
}

static void
queue (Timed *self, BelayItem *item)
{
  belay_future_ref_writer (&self->result);
  belay_context_push (belay_context_ref (self->context), item);
}

/* At home. TRUE the first time. */
static gboolean
end (Timed *self)
{
  if (self->over)
    return FALSE;
  self->over = TRUE;
  if (self->timer.place != 0)
    {
      belay_timer_disarm (self->context, &self->timer);
      drop_hold (self);
    }
  return TRUE;
}

/* At home. TRUE: the source is asked to end, and will tell of its end. */
static gboolean
see_to_end (Timed *self)
{
  if (!self->deaf)
    self->deaf = belay_future_has_interest (&self->result) && belay_future_give_up (self->source, TRUE);
  return self->deaf;
}

static void
drop_source (Timed *self)
{
  if (self->deaf)
    belay_future_take_up (self->source);
  g_clear_pointer (&self->source, belay_future_unref);
}

static GError *
timed_out_error (Timed *self)
{
  if (G_UNLIKELY (belay_context_is_gone (self->context) && belay_now () < self->when))
    return belay_context_gone_error (); /* nobody can tell when it is time */
  return g_error_new (G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "timed out after %" G_GINT64_FORMAT " ms", self->milliseconds);
}

static void
on_timer (BelayTimer *timer)
{
  Timed *self = TIMED_OF (timer, timer);

  self->over = TRUE;
  if (self->source == NULL && belay_context_is_gone (self->context))
    {
      belay_future_settle_error (&self->result, belay_context_gone_error ());
    }
  else if (self->source == NULL)
    {
      belay_future_settle (&self->result, BELAY_KIND_DONE, (BelayValue) { .p = NULL }, (BelayAux) { NULL });
    }
  else if (see_to_end (self))
    {
      self->over = FALSE;
      self->timed_out = TRUE;
    }
  else if (belay_future_remove_waiter (self->source, &self->waiter))
    {
      if (belay_future_has_interest (&self->result))
        belay_future_settle_error (&self->result, timed_out_error (self));
      drop_source (self);
      drop_hold (self); /* the waiter's */
    }
  else
    {
      self->over = FALSE; /* it has just settled, and is on its way here */
    }
  drop_hold (self);
}

/* The source was asked to end since the time was up, and says why it did: by that, or by something else that happened. */
static void
settle_late (Timed *self)
{
  const GError *error = belay_future_get_error (self->source);
  BelayErrors *errors = belay_errors_add_all (NULL, belay_future_get_attached (self->source), 0);

  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    belay_future_settle_errors (&self->result, timed_out_error (self), errors);
  else
    belay_future_settle_errors (&self->result, g_error_copy (error), belay_errors_add (errors, timed_out_error (self), NULL));
}

static void
on_settled (BelayItem *item)
{
  Timed *self = TIMED_OF (item, settled);

  if (end (self))
    {
      if (self->timed_out && belay_future_status (self->source) == BELAY_STATE_REJECTED)
        settle_late (self);
      else
        belay_future_settle_copy (&self->result, self->source);
    }
  if (self->source != NULL)
    drop_source (self);
  drop_hold (self);
}

static void
on_source (BelayWaiter *waiter)
{
  Timed *self = TIMED_OF (waiter, waiter);

  belay_context_push (self->context, &self->settled); /* with the hold that the waiter had */
}

static void
on_dropped (BelayItem *item)
{
  Timed *self = TIMED_OF (item, dropped);

  if (!self->over && !(self->source != NULL && see_to_end (self)) && end (self))
    {
      belay_future_settle_error (&self->result, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "ended early"));
      if (self->source != NULL && belay_future_remove_waiter (self->source, &self->waiter))
        {
          drop_source (self);
          drop_hold (self); /* the waiter's */
        }
    }
  drop_hold (self);
}

static void
on_cancel (gpointer data)
{
  Timed *self = data;

  queue (self, &self->dropped);
}

static void
on_cancel_over (gpointer data)
{
  Timed *self = data;

  belay_context_unref (self->context);
}

static void
on_start (BelayItem *item)
{
  Timed *self = TIMED_OF (item, start);

  if (!self->over && belay_context_is_gone (self->context))
    {
      on_timer (&self->timer); /* with the hold that the start has */
      return;
    }
  if (!self->over)
    {
      belay_future_ref_writer (&self->result);
      belay_context_ref (self->context);
      belay_timer_arm (self->context, &self->timer, self->when);
    }
  drop_hold (self);
}

static BelayFuture *
timed_new (BelayFuture *source, gint64 milliseconds)
{
  Timed *self = g_new0 (Timed, 1);

  /* Two holds of ours: the start's, and the waiter's or, for a delay, one that is dropped below. */
  belay_future_init (&self->result, 1 + 2 * BELAY_PROMISE_UNIT);
  self->timer.fire = on_timer;
  self->start.run = on_start;
  self->settled.run = on_settled;
  self->dropped.run = on_dropped;
  self->waiter.notify = on_source;
  self->waiter.wrapper = &self->result;
  self->context = belay_context_ref (belay_context_ref (belay_context_get ()));
  belay_context_ref (self->context); /* on_cancel's, which may run when all holds have been dropped */
  belay_future_on_cancel (&self->result, on_cancel, self, on_cancel_over);
  self->source = source;
  if (source != NULL)
    atomic_init (&self->result.flags, belay_future_classes_of_wrapper (source));
  self->milliseconds = milliseconds;
  self->when = belay_now () + CLAMP (milliseconds, 0, G_MAXINT64 / 4000) * 1000;
  if (source == NULL)
    {
      drop_hold (self);
    }
  else
    {
      gboolean may_change = belay_future_begin_wrapping (source);

      if (!belay_future_add_waiter (source, &self->waiter))
        belay_context_push (self->context, &self->settled);
      if (G_UNLIKELY (may_change))
        belay_future_end_wrapping (source, &self->result);
    }
  /* Last, since the timer may fire at once, on another thread. */
  if (belay_thread.context == self->context)
    on_start (&self->start);
  else
    belay_context_push (self->context, &self->start);
  return &self->result;
}

BelayFuture *
belay_future_with_timeout (BelayFuture *future, gint64 milliseconds)
{
  g_return_val_if_fail (future != NULL, NULL);
  return timed_new (future, milliseconds);
}

BelayFuture *
belay_future_delay (gint64 milliseconds)
{
  BelayFuture *refused = belay_fiber_refuse ();

  return refused != NULL ? refused : timed_new (NULL, milliseconds);
}
