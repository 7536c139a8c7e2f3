/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lines: who waits for something to be handed over, first come, first served.
 *
 * Words. An *owner* is a lock, a channel, a pool …; it has a spin lock and one or more *lines*. A *turn* is one who waits
 * in one. To *serve* a turn is to take it out of its line, under the owner's lock, with an *outcome* and what goes with it: from then on
 * that is the waiter's, whatever happens to it. It is *woken* later, when the lock has been left.
 *
 * A fiber's turn lies on its stack. A promise's is a block of its own, shared by the line and by who may give the future up. A turn with a
 * *choice* stands in several lines of several owners; whoever claims the choice serves it.
 *
 * What a promise is served may be on *loan*: if its future is dropped, and nobody has taken it, the owner has it back.
 *
 * So at any instant a waiter that is cancelled finds one of two: it stands in line, and leaves it; or it has been served,
 * and keeps what it got. Nothing is lost in between, and nothing need be passed on.
 *
 * Invariants
 *   1. A turn's `line` says where it stands; it and the line change under the owner's lock.
 *   2. A turn is served at most once, and woken once for that. Its fiber does not go on before it was woken, since who
 *      wakes it touches the turn.
 *   3. A choice is claimed once: by the owner that serves it, or by its own fiber, which then wants none of them.
 */
#include "run/line.h"

#include <string.h>

void
belay_line_insert (BelayLine *line, BelayTurn *turn, BelayTurn *before)
{
  BelayTurn *after = before != NULL ? before->prev : line->last;

  turn->line = line;
  turn->prev = after;
  turn->next = before;
  if (after != NULL)
    after->next = turn;
  else
    line->first = turn;
  if (before != NULL)
    before->prev = turn;
  else
    line->last = turn;
  line->n++;
}

void
belay_line_append (BelayLine *line, BelayTurn *turn)
{
  belay_line_insert (line, turn, NULL);
}

void
belay_line_remove (BelayTurn *turn)
{
  BelayLine *line = turn->line;

  if (turn->prev != NULL)
    turn->prev->next = turn->next;
  else
    line->first = turn->next;
  if (turn->next != NULL)
    turn->next->prev = turn->prev;
  else
    line->last = turn->prev;
  line->n--;
  turn->line = NULL;
}

gboolean
belay_line_serve (BelayTurn *turn, int outcome, BelayTurn **served)
{
  BelayTurn *none = NULL;

  belay_line_remove (turn);
  if (G_UNLIKELY (turn->choice != NULL) &&
      !atomic_compare_exchange_strong_explicit (&turn->choice->claimed, &none, turn, memory_order_acq_rel, memory_order_acquire))
    return FALSE;
  turn->outcome = outcome;
  turn->next = *served;
  *served = turn;
  return TRUE;
}

void
belay_line_serve_all (BelayLine *line, int outcome, BelayTurn **served)
{
  while (line->first != NULL)
    belay_line_serve (line->first, outcome, served);
}

/* --- of fibers --- */

static void
wake (BelayTurn *turn)
{
  if (turn->fiber != NULL)
    belay_fiber_fire (turn->fiber);
  else
    belay_async_turn_answer (turn, turn->outcome);
}

void
belay_turns_wake (BelayTurn *served)
{
  BelayTurn *in_order = NULL;

  if (G_LIKELY (served == NULL || served->next == NULL))
    {
      if (served != NULL)
        wake (served);
      return;
    }
  while (served != NULL)
    {
      BelayTurn *turn = served;

      served = turn->next;
      turn->next = in_order;
      in_order = turn;
    }
  while (in_order != NULL)
    {
      BelayTurn *turn = in_order;

      in_order = turn->next; /* before its memory goes */
      wake (turn);
    }
}

void
belay_turn_wait_deaf (BelayTurn *turn)
{
  while (!turn->fiber->stack->fired)
    belay_fiber_suspend (turn->fiber, BELAY_WAIT_DEAF, G_MAXINT64);
}

gboolean
belay_turn_wait (BelayTurn *turn, atomic_flag *lock)
{
  BelayFiber *fiber = turn->fiber;
  gboolean left;

  for (;;)
    {
      if (G_UNLIKELY (fiber->stack->fired)) /* by its own fiber, before it came here */
        return TRUE;
      belay_fiber_suspend (fiber, BELAY_WAIT_INTERRUPTIBLE, G_MAXINT64);
      if (G_LIKELY (fiber->stack->fired))
        return TRUE;
      if (belay_limit_notice (fiber))
        break;
    }

  belay_spin_lock (lock);
  left = turn->line != NULL;
  if (left)
    belay_line_remove (turn);
  belay_spin_unlock (lock);
  if (left)
    return FALSE;
  belay_turn_wait_deaf (turn); /* invariant 2 */
  return TRUE;
}

/* What a choice is claimed with by its own fiber. */
static BelayTurn none_of_them;

BelayTurn *
belay_choice_wait (BelayChoice *choice, BelayFiber *fiber)
{
  BelayTurn *claimed = NULL;

  do
    {
      belay_fiber_suspend (fiber, BELAY_WAIT_INTERRUPTIBLE, G_MAXINT64);
      if (G_LIKELY (fiber->stack->fired))
        return atomic_load_explicit (&choice->claimed, memory_order_acquire);
    }
  while (!belay_limit_notice (fiber));

  if (atomic_compare_exchange_strong_explicit (&choice->claimed, &claimed, &none_of_them, memory_order_acq_rel,
                                               memory_order_acquire))
    return NULL;
  belay_turn_wait_deaf (claimed); /* invariant 2 */
  return claimed;
}

/* --- of promises --- */

static void
async_turn_unref (gpointer data)
{
  BelayAsyncTurn *turn = data;

  if (atomic_fetch_sub_explicit (&turn->refs, 1, memory_order_acq_rel) != 1)
    return;
  turn->klass->unref (turn->owner);
  g_free (turn);
}

static void
on_dropped (gpointer data)
{
  BelayAsyncTurn *turn = data;
  gboolean left;

  belay_spin_lock (turn->lock);
  left = turn->turn.line != NULL;
  if (left)
    belay_line_remove (&turn->turn);
  belay_spin_unlock (turn->lock);
  if (!left)
    return; /* it was served, or is not in line yet: who does that answers, and what nobody takes comes back */
  if (turn->klass->left != NULL)
    turn->klass->left (turn);
  belay_promise_unref (turn->promise);
  async_turn_unref (turn);
}

BelayTurn *
belay_async_turn_new (gpointer owner, atomic_flag *lock, const BelayAsyncClass *klass, BelayFuture **ret_future)
{
  BelayAsyncTurn *self = g_new0 (BelayAsyncTurn, 1);

  self->promise = belay_promise_new ();
  self->lock = lock;
  self->owner = klass->ref (owner);
  self->klass = klass;
  atomic_init (&self->refs, 2);
  *ret_future = belay_promise_get_future (self->promise);
  belay_promise_on_cancel (self->promise, on_dropped, self, async_turn_unref);
  return &self->turn;
}

void
belay_async_turn_answer (BelayTurn *turn, int outcome)
{
  BelayAsyncTurn *self = (BelayAsyncTurn *) turn;

  turn->outcome = outcome;
  self->klass->answer (self);
  belay_promise_unref (self->promise);
  async_turn_unref (self);
}

static void
end_loan (BelayLoan *loan, gpointer value)
{
  BelayAsyncTurn *self = (BelayAsyncTurn *) ((char *) loan - G_STRUCT_OFFSET (BelayAsyncTurn, loan));

  if (value != NULL)
    self->klass->back (self, value);
  async_turn_unref (self);
}

void
belay_async_turn_lend (BelayAsyncTurn *self)
{
  self->loan.end = end_loan;
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  belay_promise_resolve_loan (self->promise, self->turn.item, &self->loan);
}

/* --- the end of an owner --- */

static GMutex buried_lock;
static GPtrArray *buried; /* so that what is used after its end is memory still */

void
belay_owner_bury (gpointer owner, const char *name)
{
  g_critical ("the last reference to %s %s was dropped while somebody waits for it", strchr ("aeiou", name[0]) ? "an" : "a", name);
  g_mutex_lock (&buried_lock);
  if (buried == NULL)
    buried = g_ptr_array_new ();
  g_ptr_array_add (buried, owner);
  g_mutex_unlock (&buried_lock);
}

gboolean
belay_lines_end (gpointer owner, const char *name, atomic_flag *lock, BelayLine **lines, guint n_lines)
{
  BelayTurn *served = NULL;

  belay_spin_lock (lock);
  for (guint i = 0; i < n_lines; i++)
    belay_line_serve_all (lines[i], BELAY_TURN_BROKEN, &served);
  belay_spin_unlock (lock);
  if (G_LIKELY (served == NULL))
    return TRUE;

  belay_owner_bury (owner, name);
  belay_turns_wake (served);
  return FALSE;
}
