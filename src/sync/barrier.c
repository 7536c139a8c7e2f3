/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Barrier: so many parties wait for one another, round by round.
 *
 * A round is what stands in line. Whoever comes as the last of it does not wait: it serves the others, each with its index, which
 * is its place in the line then, and takes the highest. So the line is empty for the next round before any of them runs.
 *
 * Who leaves the line, since it was cancelled, has not come: the others wait for somebody in its place. That is the law
 * that a cancelled call has had no effect (L21), and what asyncio does; threads' barriers break instead, as they cannot take a
 * party back. To give a round up for all there is abort.
 *
 * Invariants
 *   1. Fewer than `parties` stand in line; none while it is broken.
 *   2. All but `refs` and `parties` changes under `lock`.
 */
#include "run/line.h"

struct _BelayBarrier
{
  atomic_int  refs;
  guint       parties;
  atomic_flag lock;
  atomic_bool broken; /* aborted, and not reset since */
  BelayLine   line;
};

enum { ABORTED = BELAY_TURN_OWN, RESET };

static void describe (BelayLine *line, GString *text);
static const BelayLineClass line_class = { "the others at a barrier", describe };

G_DEFINE_BOXED_TYPE (BelayBarrier, belay_barrier, belay_barrier_ref, belay_barrier_unref)

static guint
count (BelayBarrier *self)
{
  guint n;

  belay_spin_lock (&self->lock);
  n = self->line.n;
  belay_spin_unlock (&self->lock);
  return n;
}

static void
describe (BelayLine *line, GString *text)
{
  BelayBarrier *self = (BelayBarrier *) ((char *) line - G_STRUCT_OFFSET (BelayBarrier, line));

  g_string_append_printf (text, " (%u of %u have come)", count (self), self->parties);
}

BelayBarrier *
belay_barrier_new (guint parties)
{
  BelayBarrier *self;

  g_return_val_if_fail (parties > 0, NULL);

  self = g_new (BelayBarrier, 1);
  atomic_init (&self->refs, 1);
  self->parties = parties;
  atomic_flag_clear (&self->lock);
  atomic_init (&self->broken, FALSE);
  belay_line_init (&self->line, &line_class);
  return self;
}

BelayBarrier *
belay_barrier_ref (BelayBarrier *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_barrier_unref (BelayBarrier *self)
{
  BelayLine *line;

  g_return_if_fail (self != NULL);
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  line = &self->line;
  if (belay_lines_end (self, "barrier", &self->lock, &line, 1))
    g_free (self);
}

guint
belay_barrier_get_parties (BelayBarrier *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return self->parties;
}

guint
belay_barrier_get_n_waiting (BelayBarrier *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return count (self);
}

gboolean
belay_barrier_is_broken (BelayBarrier *self)
{
  g_return_val_if_fail (self != NULL, FALSE);
  return atomic_load_explicit (&self->broken, memory_order_acquire);
}

static void
end_round (BelayBarrier *self, gboolean broken, int outcome)
{
  BelayTurn *served = NULL;

  belay_spin_lock (&self->lock);
  atomic_store_explicit (&self->broken, broken, memory_order_release);
  belay_line_serve_all (&self->line, outcome, &served);
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
}

void
belay_barrier_abort (BelayBarrier *self)
{
  g_return_if_fail (self != NULL);
  end_round (self, TRUE, ABORTED);
}

void
belay_barrier_reset (BelayBarrier *self)
{
  g_return_if_fail (self != NULL);
  end_round (self, FALSE, RESET);
}

/* --- waiting --- */

/* SERVED: it was the last of the round, and need not wait; WAITS: it is in line. */
static int
arrive (BelayBarrier *self, BelayTurn *turn)
{
  BelayTurn *served = NULL;
  int outcome = BELAY_TURN_SERVED;

  belay_spin_lock (&self->lock);
  if (G_UNLIKELY (atomic_load_explicit (&self->broken, memory_order_relaxed)))
    {
      outcome = ABORTED;
    }
  else if (self->line.n + 1 < self->parties)
    {
      belay_line_append (&self->line, turn);
      outcome = BELAY_TURN_WAITS;
    }
  else
    {
      gint64 index = 0;

      while (!belay_line_is_empty (&self->line))
        {
          self->line.first->need = index++;
          belay_line_serve (self->line.first, BELAY_TURN_SERVED, &served);
        }
      turn->need = index;
    }
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
  return outcome;
}

static GError *
error_of (int outcome)
{
  return g_error_new_literal (BELAY_ERROR, BELAY_ERROR_BROKEN,
                              outcome == ABORTED ? "the barrier was aborted; belay_barrier_reset() makes it as new"
                              : outcome == RESET ? "the barrier was reset before all had come"
                                                 : "the last reference to the barrier was dropped");
}

gboolean
belay_barrier_wait_at (BelayBarrier *self, guint *ret_index, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;
  int outcome;

  g_return_val_if_fail (self != NULL, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_barrier_wait", error);
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return FALSE;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      outcome = arrive (self, &turn);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->lock))
        outcome = turn.outcome;
      if (G_LIKELY (outcome == BELAY_TURN_SERVED))
        {
          if (ret_index != NULL)
            *ret_index = (guint) turn.need;
          return TRUE;
        }
      if (outcome != BELAY_TURN_WAITS)
        {
          g_propagate_error (error, error_of (outcome));
          return FALSE;
        }
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved: it comes anew */
  return FALSE;
}

gboolean
(belay_barrier_wait) (BelayBarrier *self, guint *ret_index, GError **error)
{
  return belay_barrier_wait_at (self, ret_index, error, NULL);
}

static gpointer
async_ref (gpointer owner)
{
  return belay_barrier_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_barrier_unref (owner);
}

static void
async_answer (BelayAsyncTurn *turn)
{
  if (turn->turn.outcome == BELAY_TURN_SERVED)
    belay_promise_resolve_int64 (turn->promise, turn->turn.need);
  else
    belay_promise_reject (turn->promise, error_of (turn->turn.outcome));
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, NULL };

BelayFuture *
belay_barrier_wait_async (BelayBarrier *self)
{
  BelayFuture *future;
  BelayTurn *turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  turn = belay_async_turn_new (self, &self->lock, &async_class, &future);
  outcome = arrive (self, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}
