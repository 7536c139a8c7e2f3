/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Uses of a shared resource, and the wait for its end: those who stand in its two lines.
 *
 * A use is counted in `users`, and has a reference, from when it is granted: by whoever comes while it is open, or by the end of
 * the opening for those who wait (shared.c), so that nothing is lost when a fiber is interrupted at that time. Giving it back
 * is the whole release: what follows from it is done by fibers of the resource's home.
 */
#include "sync/shared.h"

static void use_release (gpointer use);
const BelayPlainClass belay_use_class = { BELAY_TAG_INSTANT, "BelayUse", NULL, NULL, use_release, NULL };

gpointer
belay_use_get (BelayUse *use)
{
  BelayShared *self = (BelayShared *) use;

  g_return_val_if_fail (use != NULL && self->use.klass == &belay_use_class, NULL);
  return G_UNLIKELY (belay_forked ()) ? NULL : self->resource; /* invariant 3 */
}

static void
use_release (gpointer use)
{
  BelayShared *self = use;
  BelaySharedAfter after = { NULL };

  belay_spin_lock (&self->lock);
  if (G_UNLIKELY (self->users == 0)) /* nor is there a reference of its */
    {
      belay_spin_unlock (&self->lock);
      g_critical ("a BelayUse was released before: nobody uses the shared resource");
      return;
    }
  if (--self->users == 0)
    {
      if (self->ended || self->idle == 0)
        belay_shared_begin (self, BELAY_SHARED_CLOSING, &after);
      else
        self->idle_since = belay_now ();
      belay_shared_look (self, &after);
    }
  belay_shared_unlock (self, &after);
  belay_shared_unref (self);
}

enum { GOT = BELAY_TURN_SERVED, ITSELF = BELAY_TURN_OWN + 1 };

/* How it ends for whoever comes now; WAITS: in line, when there is a turn for it. */
static int
use_or_append (BelayShared *self, BelayFiber *fiber, BelayTurn *turn)
{
  BelaySharedAfter after = { NULL };
  int outcome = BELAY_TURN_WAITS;

  belay_spin_lock (&self->lock);
  if (G_UNLIKELY (self->ended))
    {
      outcome = BELAY_TURN_CLOSED;
    }
  else if (G_LIKELY (self->state == BELAY_SHARED_OPEN))
    {
      self->users++;
      atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
      outcome = BELAY_TURN_SERVED;
    }
  else if (self->task != NULL && &self->task->fiber == fiber)
    {
      outcome = ITSELF;
    }
  else if (turn != NULL)
    {
      belay_line_append (&self->line, turn);
      if (self->state == BELAY_SHARED_EMPTY)
        belay_shared_begin (self, BELAY_SHARED_OPENING, &after);
    }
  belay_shared_unlock (self, &after);
  return outcome;
}

/* (transfer full): why a turn that ended was not served. */
static GError *
error_of (int outcome, gpointer item)
{
  if (outcome == BELAY_SHARED_FAILED)
    return g_error_copy (belay_future_get_error (item));
  if (outcome == BELAY_TURN_CLOSED)
    return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CLOSED, "the shared resource was closed");
  return g_error_new_literal (BELAY_ERROR, BELAY_ERROR_BROKEN, "the last reference to the shared resource was dropped");
}

static gboolean
fail_turn (BelayFiber *fiber, BelayTurn *turn, int outcome, GError **error, const char *site)
{
  GError *failure;

  if (G_UNLIKELY (outcome == ITSELF))
    {
      g_critical ("the opening or closing of a shared resource waits for itself, at %s", site != NULL ? site : "?");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_DEADLOCK,
                           "the opening or closing of a shared resource waits for itself");
      return FALSE;
    }
  failure = error_of (outcome, turn->item);
  if (outcome == BELAY_SHARED_FAILED)
    {
      belay_attached_note (fiber, turn->item, failure);
      belay_future_unref (turn->item);
    }
  g_propagate_error (error, failure);
  return FALSE;
}

/* Who was in line has left: an opening that nobody waits for any more is given up. */
static void
after_leaving (BelayShared *self)
{
  BelaySharedAfter after = { NULL };

  belay_spin_lock (&self->lock);
  if (belay_line_is_empty (&self->line))
    belay_shared_give_up (self, &after);
  belay_shared_unlock (self, &after);
}

BelayUse *
belay_shared_try_use (BelayShared *self)
{
  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (belay_forked ()) || use_or_append (self, NULL, NULL) != GOT)
    return NULL;
  belay_leaks_hold (self, NULL);
  return (BelayUse *) self;
}

BelayUse *
belay_shared_use_at (BelayShared *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber ("belay_shared_use", error);
      return NULL;
    }
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return NULL;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      outcome = use_or_append (self, fiber, &turn);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->lock))
        outcome = turn.outcome;
      if (G_LIKELY (outcome == BELAY_TURN_SERVED))
        {
          belay_leaks_hold (self, site);
          return (BelayUse *) self;
        }
      if (outcome != BELAY_TURN_WAITS)
        {
          fail_turn (fiber, &turn, outcome, error, site);
          return NULL;
        }
      after_leaving (self);
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved */
  return NULL;
}

BelayUse *
(belay_shared_use) (BelayShared *self, GError **error)
{
  return belay_shared_use_at (self, error, NULL);
}

static gpointer
async_ref (gpointer owner)
{
  return belay_shared_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_shared_unref (owner);
}

static void
reject (BelayAsyncTurn *turn)
{
  gpointer failed = turn->turn.outcome == BELAY_SHARED_FAILED ? turn->turn.item : NULL;
  BelayErrors *attached = failed != NULL ? belay_errors_add_all (NULL, belay_future_get_attached (failed), 0) : NULL;

  belay_future_settle_errors ((BelayFuture *) turn->promise, error_of (turn->turn.outcome, failed), attached);
  if (failed != NULL)
    belay_future_unref (failed);
}

/* A promise that nobody waits for any more drops the use, which comes back here. */
static void
use_answer (BelayAsyncTurn *turn)
{
  if (turn->turn.outcome == BELAY_TURN_SERVED)
    belay_promise_resolve_resource (turn->promise, turn->owner);
  else
    reject (turn);
}

static void
use_left (BelayAsyncTurn *turn)
{
  after_leaving (turn->owner);
}

static const BelayAsyncClass use_async_class = { async_ref, async_unref, use_answer, use_left };

BelayFuture *
belay_shared_use_async (BelayShared *self)
{
  BelayFuture *future;
  BelayTurn *turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  turn = belay_async_turn_new (self, &self->lock, &use_async_class, &future);
  outcome = use_or_append (self, NULL, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}

/* --- closing --- */

/* SERVED or BELAY_SHARED_FAILED: that is over; WAITS: the turn is in line for it. */
static int
close_or_append (BelayShared *self, BelayFiber *fiber, BelayTurn *turn)
{
  BelaySharedAfter after = { NULL };
  int outcome = BELAY_TURN_WAITS;

  belay_spin_lock (&self->lock);
  if (G_UNLIKELY (self->task != NULL && &self->task->fiber == fiber))
    {
      belay_spin_unlock (&self->lock);
      return ITSELF;
    }
  if (self->state == BELAY_SHARED_EMPTY && self->failure != NULL)
    turn->item = belay_future_ref (self->failure);
  if (self->state == BELAY_SHARED_EMPTY)
    outcome = self->failure != NULL ? BELAY_SHARED_FAILED : BELAY_TURN_SERVED;
  else
    belay_line_append (&self->closers, turn);
  belay_shared_end (self, &after);
  belay_shared_unlock (self, &after);
  return outcome;
}

gboolean
belay_shared_close_at (BelayShared *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;
  int outcome;

  g_return_val_if_fail (self != NULL, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_shared_close", error);

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->closers, site);
      outcome = close_or_append (self, fiber, &turn);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->lock))
        outcome = turn.outcome;
      if (outcome == BELAY_TURN_SERVED)
        return TRUE;
      if (outcome != BELAY_TURN_WAITS)
        return fail_turn (fiber, &turn, outcome, error, site);
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved */
  return FALSE;
}

gboolean
(belay_shared_close) (BelayShared *self, GError **error)
{
  return belay_shared_close_at (self, error, NULL);
}

static void
close_answer (BelayAsyncTurn *turn)
{
  if (turn->turn.outcome == BELAY_TURN_SERVED)
    belay_promise_resolve (turn->promise);
  else
    reject (turn);
}

static const BelayAsyncClass close_async_class = { async_ref, async_unref, close_answer, NULL };

BelayFuture *
belay_shared_close_async (BelayShared *self)
{
  BelayFuture *future;
  BelayTurn *turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (belay_forked ()))
    return belay_fiber_refuse ();
  turn = belay_async_turn_new (self, &self->lock, &close_async_class, &future);
  outcome = close_or_append (self, NULL, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}
