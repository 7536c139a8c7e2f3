/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gates: many wait, and pass together when it opens.
 *
 * A gate is OPEN or not, and CLOSED in the end, which is for ever. Here an event is a gate that is opened and shut at will, and
 * a latch one that a count opens. Whoever comes while it is open passes without waiting; all who stand in line pass when it
 * opens, even if it is shut again before they come to run.
 *
 * Invariants
 *   1. While it is OPEN or CLOSED nobody stands in line.
 *   2. `state` changes under `lock`. It is read without by those who need not wait: what they read was so a moment ago.
 *   3. CLOSED goes before OPEN: nobody passes a closed gate.
 *   4. Whoever opens it touches it no more when it has left the lock. The last reference takes the lock, too (belay_lines_end).
 *      So who has passed may free it, though who opened it, from another thread, has no reference of its own.
 */
#include "sync/gate.h"

void
belay_gate_init (gpointer owner, const BelayLineClass *klass, const char *name)
{
  BelayGate *self = owner;

  atomic_init (&self->refs, 1);
  atomic_init (&self->state, 0);
  atomic_flag_clear (&self->lock);
  belay_line_init (&self->line, klass);
  self->name = name;
}

gpointer
belay_gate_ref (gpointer owner)
{
  BelayGate *self = owner;

  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_gate_unref (gpointer owner)
{
  BelayGate *self = owner;
  BelayLine *line = &self->line;

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  if (belay_lines_end (self, self->name, &self->lock, &line, 1))
    g_free (self);
}

void
belay_gate_open_locked (BelayGate *self, BelayTurn **served)
{
  guint state = atomic_load_explicit (&self->state, memory_order_relaxed);

  if ((state & BELAY_GATE_CLOSED) != 0)
    return;
  atomic_store_explicit (&self->state, state | BELAY_GATE_OPEN, memory_order_release);
  belay_line_serve_all (&self->line, BELAY_TURN_SERVED, served);
}

void
belay_gate_close (BelayGate *self)
{
  BelayTurn *served = NULL;

  belay_spin_lock (&self->lock);
  atomic_store_explicit (&self->state, BELAY_GATE_CLOSED, memory_order_release);
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &served);
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
}

/* --- waiting --- */

/* How it ends for whoever comes now; WAITS: in line, when there is a turn for it. */
static int
pass_or_append (BelayGate *self, BelayTurn *turn)
{
  guint state;

  belay_spin_lock (&self->lock);
  state = atomic_load_explicit (&self->state, memory_order_relaxed);
  if (state == 0)
    belay_line_append (&self->line, turn);
  belay_spin_unlock (&self->lock);
  return state == 0 ? BELAY_TURN_WAITS : state == BELAY_GATE_OPEN ? BELAY_TURN_SERVED : BELAY_TURN_CLOSED;
}

/* (transfer full): why a turn that ended was not served. */
static GError *
error_of (int outcome, const char *name)
{
  if (outcome == BELAY_TURN_CLOSED)
    return g_error_new (G_IO_ERROR, G_IO_ERROR_CLOSED, "the %s was closed", name);
  return g_error_new (BELAY_ERROR, BELAY_ERROR_BROKEN, "the last reference to the %s was dropped", name);
}

gboolean
belay_gate_wait (BelayGate *self, const char *function, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  const char *name = self->name;
  BelayTurn turn;
  int outcome;

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber (function, error);
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return FALSE;
  if (atomic_load_explicit (&self->state, memory_order_acquire) == BELAY_GATE_OPEN)
    return TRUE;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      outcome = pass_or_append (self, &turn);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->lock))
        outcome = turn.outcome;
      if (G_LIKELY (outcome == BELAY_TURN_SERVED))
        return TRUE;
      if (outcome != BELAY_TURN_WAITS)
        {
          g_propagate_error (error, error_of (outcome, name)); /* the gate's memory is no longer ours */
          return FALSE;
        }
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved */
  return FALSE;
}

static void
async_answer (BelayAsyncTurn *turn)
{
  BelayGate *self = turn->owner;

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    belay_promise_resolve (turn->promise);
  else
    belay_promise_reject (turn->promise, error_of (turn->turn.outcome, self->name));
}

static const BelayAsyncClass async_class = { belay_gate_ref, belay_gate_unref, async_answer, NULL };

BelayFuture *
belay_gate_wait_async (BelayGate *self)
{
  BelayFuture *future = belay_fiber_refuse ();
  BelayTurn *turn;
  int outcome;

  if (future != NULL)
    return future;
  if (atomic_load_explicit (&self->state, memory_order_acquire) == BELAY_GATE_OPEN)
    return belay_future_new_done ();
  turn = belay_async_turn_new (self, &self->lock, &async_class, &future);
  outcome = pass_or_append (self, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}
