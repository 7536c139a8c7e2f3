/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Once: something that is done by the first who needs it, in its own fiber, while the others wait.
 *
 * States: NEW; RUNNING, by the fiber in `runner`; DONE, with a value or without, for ever. When the function fails, or is
 * cancelled with its fiber, the first in line is served with RUN, and is the runner from then on: it calls its own function.
 * So a failure is told to the one fiber that it happened in, and the state is never NEW while somebody waits.
 *
 * Invariants
 *   1. `runner` is set exactly while it is RUNNING; only that fiber ends this state.
 *   2. Nobody stands in line but while it is RUNNING.
 *   3. `value` is written before DONE, and never after.
 */
#include "run/line.h"

enum { NEW, RUNNING, DONE };
enum { RUN = BELAY_TURN_OWN };

struct _BelayOnce
{
  atomic_int     refs;
  atomic_int     state;
  atomic_flag    lock;
  BelayLine      line;
  BelayFiber    *runner;
  const char    *runner_site;
  gpointer       value;     /* NULL: it was done without one */
  GDestroyNotify destroy;
};

static void describe (BelayLine *line, GString *text);
static const BelayLineClass line_class = { "what is done once", describe };

G_DEFINE_BOXED_TYPE (BelayOnce, belay_once, belay_once_ref, belay_once_unref)

static void
describe (BelayLine *line, GString *text)
{
  BelayOnce *self = (BelayOnce *) ((char *) line - G_STRUCT_OFFSET (BelayOnce, line));
  const char *site;

  belay_spin_lock (&self->lock);
  site = self->runner_site;
  belay_spin_unlock (&self->lock);
  if (site != NULL)
    g_string_append_printf (text, ", which the fiber at %s is about", site);
}

BelayOnce *
belay_once_new (GDestroyNotify destroy)
{
  BelayOnce *self = g_new0 (BelayOnce, 1);

  atomic_init (&self->refs, 1);
  atomic_init (&self->state, NEW);
  atomic_flag_clear (&self->lock);
  belay_line_init (&self->line, &line_class);
  self->destroy = destroy;
  return self;
}

BelayOnce *
belay_once_ref (BelayOnce *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_once_unref (BelayOnce *self)
{
  BelayLine *line;

  g_return_if_fail (self != NULL);
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  line = &self->line;
  if (!belay_lines_end (self, "once", &self->lock, &line, 1))
    return;
  if (self->value != NULL && self->destroy != NULL)
    self->destroy (self->value);
  g_free (self);
}

gboolean
belay_once_is_done (BelayOnce *self)
{
  g_return_val_if_fail (self != NULL, FALSE);
  return atomic_load_explicit (&self->state, memory_order_acquire) == DONE;
}

/* SERVED: it is done; RUN: it is for the caller to do; WAITS: it is in line; BROKEN: it would wait for itself. */
static int
enter (BelayOnce *self, BelayTurn *turn, const char *site)
{
  int outcome = BELAY_TURN_SERVED;

  belay_spin_lock (&self->lock);
  switch (atomic_load_explicit (&self->state, memory_order_relaxed))
    {
    case NEW:
      atomic_store_explicit (&self->state, RUNNING, memory_order_relaxed);
      self->runner = turn->fiber;
      self->runner_site = site;
      outcome = RUN;
      break;
    case RUNNING:
      outcome = self->runner == turn->fiber ? BELAY_TURN_BROKEN : BELAY_TURN_WAITS;
      turn->item = (gpointer) site;
      if (outcome == BELAY_TURN_WAITS)
        belay_line_append (&self->line, turn);
      break;
    default:
      break;
    }
  belay_spin_unlock (&self->lock);
  return outcome;
}

/* The runner's function has returned. */
static void
leave (BelayOnce *self, gboolean ok, gpointer value)
{
  BelayTurn *served = NULL, *next;

  belay_spin_lock (&self->lock);
  next = self->line.first;
  self->runner = NULL;
  self->runner_site = NULL;
  if (ok)
    {
      self->value = value;
      atomic_store_explicit (&self->state, DONE, memory_order_release);
      belay_line_serve_all (&self->line, BELAY_TURN_SERVED, &served);
    }
  else if (next != NULL)
    {
      self->runner = next->fiber;
      self->runner_site = next->item;
      belay_line_serve (next, RUN, &served);
    }
  else
    {
      atomic_store_explicit (&self->state, NEW, memory_order_relaxed);
    }
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
}

/* In the caller's fiber, which is the runner. */
static gboolean
run (BelayOnce *self, BelayFunc func, BelayValueFunc value_func, gpointer data, const char *site, GError **error)
{
  gpointer value = NULL;
  GError *failure = NULL;
  gboolean ok;

  belay_once_ref (self); /* the function may drop the caller's */
  if (value_func != NULL)
    ok = (value = value_func (data, &failure)) != NULL;
  else
    ok = func (data, &failure);
  if (G_UNLIKELY (ok != (failure == NULL)))
    ok = belay_check_result (ok, &failure, site != NULL ? site : "a function that is run once");
  if (G_UNLIKELY (!ok && value != NULL && self->destroy != NULL))
    self->destroy (value);
  leave (self, ok, value);
  belay_once_unref (self);
  if (ok)
    return TRUE;
  g_propagate_error (error, failure);
  return FALSE;
}

static gboolean
fail_deadlock (GError **error, const char *site)
{
  g_critical ("belay_once_run: the function that is run once waits for itself, at %s", site != NULL ? site : "?");
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_DEADLOCK, "the function that is run once waits for itself");
  return FALSE;
}

static gboolean
once (BelayOnce *self, BelayFunc func, BelayValueFunc value_func, gpointer data, const char *site, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;
  int outcome;

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber (func != NULL ? "belay_once_run" : "belay_once_get", error);
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return FALSE;
  if (G_LIKELY (atomic_load_explicit (&self->state, memory_order_acquire) == DONE))
    return TRUE;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      outcome = enter (self, &turn, site);
      if (G_UNLIKELY (outcome == BELAY_TURN_BROKEN))
        return fail_deadlock (error, site);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->lock))
        outcome = turn.outcome;
      if (outcome == BELAY_TURN_SERVED)
        return TRUE;
      if (outcome == RUN)
        return run (self, func, value_func, data, site, error);
      if (outcome != BELAY_TURN_WAITS)
        {
          g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_BROKEN, "the last reference to the once was dropped");
          return FALSE;
        }
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved */
  return FALSE;
}

gboolean
belay_once_run_at (BelayOnce *self, BelayFunc func, gpointer data, GError **error, const char *site)
{
  g_return_val_if_fail (self != NULL && func != NULL, FALSE);
  return once (self, func, NULL, data, site, error);
}

gboolean
(belay_once_run) (BelayOnce *self, BelayFunc func, gpointer data, GError **error)
{
  return belay_once_run_at (self, func, data, error, NULL);
}

gpointer
belay_once_get_at (BelayOnce *self, BelayValueFunc func, gpointer data, GError **error, const char *site)
{
  g_return_val_if_fail (self != NULL && func != NULL, NULL);

  if (!once (self, NULL, func, data, site, error))
    return NULL;
  if (G_LIKELY (self->value != NULL))
    return self->value;
  g_critical ("belay_once_get: it was done by belay_once_run(), which has no value");
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "what was done once has no value");
  return NULL;
}

gpointer
(belay_once_get) (BelayOnce *self, BelayValueFunc func, gpointer data, GError **error)
{
  return belay_once_get_at (self, func, data, error, NULL);
}
