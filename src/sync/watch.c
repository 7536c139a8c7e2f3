/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Watch: the latest value of something, its version, and who waits for a newer one.
 *
 * Whoever waits is told only that there is a newer one: it looks again when it runs, and so takes the latest. Nothing is handed over, and
 * nothing can be lost.
 *
 * Invariants
 *   1. The version grows by one with each value; 1 is the first.
 *   2. Who stands in line has seen the version that there is; whoever sets another takes all of them out.
 *   3. No function of the user's is called under `lock`: values are read in cells (cell.h).
 */
#include "run/line.h"
#include "sync/cell.h"

struct _BelayWatch
{
  atomic_int     refs;
  GBoxedCopyFunc copy_value;
  GDestroyNotify free_value;
  atomic_flag    lock;   /* all below */
  gboolean       closed;
  guint64        version;
  BelayCell     *cell;
  BelayLine      line;
};

static const BelayLineClass line_class = { "another value of a watch", NULL };

G_DEFINE_BOXED_TYPE (BelayWatch, belay_watch, belay_watch_ref, belay_watch_unref)

BelayWatch *
belay_watch_new (gpointer value, GBoxedCopyFunc copy_value, GDestroyNotify free_value)
{
  BelayWatch *self;

  g_return_val_if_fail (value != NULL && (copy_value != NULL || free_value == NULL), NULL);

  self = g_new0 (BelayWatch, 1);
  atomic_init (&self->refs, 1);
  self->copy_value = copy_value;
  self->free_value = free_value;
  atomic_flag_clear (&self->lock);
  self->version = 1;
  self->cell = belay_cell_new (value);
  belay_line_init (&self->line, &line_class);
  return self;
}

BelayWatch *
belay_watch_ref (BelayWatch *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_watch_unref (BelayWatch *self)
{
  BelayLine *lines[] = { &self->line };

  g_return_if_fail (self != NULL);

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1 ||
      !belay_lines_end (self, "watch", &self->lock, lines, 1))
    return;
  belay_cell_unref (self->cell, self->free_value);
  g_free (self);
}

/* --- the value --- */

static gboolean
fail (int outcome, GError **error)
{
  if (outcome == BELAY_TURN_CLOSED)
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the watch is closed");
  else
    g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_BROKEN, "the last reference to the watch was dropped");
  return FALSE;
}

gboolean
belay_watch_set (BelayWatch *self, gpointer variable, GError **error)
{
  gpointer *value = variable;
  BelayTurn *served = NULL;
  BelayCell *cell, *old = NULL;

  g_return_val_if_fail (self != NULL && value != NULL, FALSE);

  if (G_UNLIKELY (*value == NULL))
    {
      g_critical ("belay_watch_set: there is no value");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "belay_watch_set: there is no value");
      return FALSE;
    }
  cell = belay_cell_new (*value);
  belay_spin_lock (&self->lock);
  if (!self->closed)
    {
      old = self->cell;
      self->cell = cell;
      self->version++;
      belay_line_serve_all (&self->line, BELAY_TURN_SERVED, &served);
    }
  belay_spin_unlock (&self->lock);
  if (old == NULL)
    {
      belay_cell_unref (cell, NULL);
      return fail (BELAY_TURN_CLOSED, error);
    }
  *value = NULL;
  belay_turns_wake (served);
  belay_cell_unref (old, self->free_value);
  return TRUE;
}

gpointer
belay_watch_get (BelayWatch *self, guint64 *ret_version)
{
  BelayCell *cell;

  g_return_val_if_fail (self != NULL, NULL);

  belay_spin_lock (&self->lock);
  cell = belay_cell_ref (self->cell);
  if (ret_version != NULL)
    *ret_version = self->version;
  belay_spin_unlock (&self->lock);
  return belay_cell_take (cell, self->copy_value, self->free_value);
}

void
belay_watch_close (BelayWatch *self)
{
  BelayTurn *served = NULL;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->lock);
  self->closed = TRUE;
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &served);
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
}

/* --- waiting --- */

/* WAITS: it got in line. */
static int
look_or_append (BelayWatch *self, guint64 seen, BelayTurn *turn)
{
  int outcome = BELAY_TURN_SERVED;

  belay_spin_lock (&self->lock);
  if (self->version <= seen)
    {
      outcome = self->closed ? BELAY_TURN_CLOSED : BELAY_TURN_WAITS;
      if (!self->closed)
        belay_line_append (&self->line, turn);
    }
  belay_spin_unlock (&self->lock);
  return outcome;
}

gboolean
belay_watch_next_at (BelayWatch *self, guint64 *inout_version, gpointer ret_value, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;

  g_return_val_if_fail (self != NULL && inout_version != NULL && ret_value != NULL, FALSE);

  *(gpointer *) ret_value = NULL;
  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_watch_next", error);
  belay_turn_init (&turn, fiber);
  while (belay_limit_check (fiber, site, error))
    {
      int outcome;

      belay_turn_prepare (&turn, &self->line, site);
      outcome = look_or_append (self, *inout_version, &turn);
      if (outcome == BELAY_TURN_WAITS)
        {
          if (!belay_turn_wait (&turn, &self->lock))
            continue;
          outcome = turn.outcome;
        }
      if (outcome == BELAY_TURN_SERVED)
        {
          *(gpointer *) ret_value = belay_watch_get (self, inout_version);
          return TRUE;
        }
      return outcome == BELAY_TURN_CLOSED ? FALSE : fail (outcome, error);
    }
  return FALSE;
}

gboolean
(belay_watch_next) (BelayWatch *self, guint64 *inout_version, gpointer ret_value, GError **error)
{
  return belay_watch_next_at (self, inout_version, ret_value, error, NULL);
}

static gpointer
async_ref (gpointer owner)
{
  return belay_watch_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_watch_unref (owner);
}

static void
async_answer (BelayAsyncTurn *turn)
{
  BelayWatch *self = turn->owner;
  GError *error = NULL;
  guint64 version;

  if (turn->turn.outcome != BELAY_TURN_SERVED)
    {
      fail (turn->turn.outcome, &error);
      belay_promise_reject (turn->promise, error);
      return;
    }
  belay_spin_lock (&self->lock);
  version = self->version;
  belay_spin_unlock (&self->lock);
  belay_promise_resolve_int64 (turn->promise, (gint64) version);
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, NULL, NULL };

BelayFuture *
belay_watch_wait_async (BelayWatch *self, guint64 version)
{
  BelayFuture *future;
  BelayTurn *turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  turn = belay_async_turn_new (self, &self->lock, &async_class, &future);
  outcome = look_or_append (self, version, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}
