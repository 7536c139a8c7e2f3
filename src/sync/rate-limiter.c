/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rate limiter: a token bucket, first come, first served.
 *
 * Words. The bucket is filled by `gain` *units* each microsecond, up to `full`; a token is `unit` units. Both are whole numbers,
 * the nearest fraction to the rate that was asked for, so what is in the bucket at an instant is exact, and nothing drifts
 * however often it is looked at. The *pump* is what serves the line when time has passed: one timer, for the first in line.
 *
 * A main loop is always a little late. If the bucket were never more than full, what comes meanwhile would be lost, and a line
 * that never ends would be served too slowly. So as long as somebody waits it may hold two bursts. In any stretch of time no
 * more is taken than what comes in it, and that.
 *
 * A turn takes its tokens when it is served, not when it comes. So whoever leaves the line owes nothing, and those behind are
 * served as if it had never been there.
 *
 * The pump runs on the context of the fiber that first had to wait, or for a promise on the context that the limiter was
 * made on. When that is gone it moves to another that somebody waits on. It is QUEUED there, ARMED, both or neither; while it
 * is anything it holds a reference.
 *
 * Invariants
 *   1. Whoever stands at the front lacks tokens: each who takes the lock serves those who lack none (serve_due).
 *   2. While somebody waits, and the rate is not 0, the pump is QUEUED, or ARMED for the instant at which the first can be
 *      served, or earlier.
 *   3. All is under `lock`, but the timer itself, which is that of the pump's home thread.
 */
#include "run/line.h"

struct _BelayRateLimiter
{
  atomic_int    refs;
  atomic_flag   lock;
  gboolean      closed;
  guint         burst;
  gint64        gain, unit;  /* gain: 0: nothing comes */
  gint64        level, full; /* units, as of `at` */
  gint64        at;          /* belay_now() */
  BelayLine     line;
  BelayContext *home;        /* where it was made */
  BelayContext *context;     /* the pump's, while it is anything */
  gboolean      queued, armed;
  gint64        due;         /* what it is armed for */
  BelayItem     item;
  BelayTimer    timer;
};

enum { TOO_MANY = BELAY_TURN_OWN };

static const BelayLineClass line_class = { "tokens of a rate limiter", NULL };

G_DEFINE_BOXED_TYPE (BelayRateLimiter, belay_rate_limiter, belay_rate_limiter_ref, belay_rate_limiter_unref)

/* --- the bucket --- */

/* The nearest fraction by its continued fraction: 10 a second is 1 unit a microsecond, and 100,000 units a token. */
static void
set_fraction (BelayRateLimiter *self, double per_second)
{
  const double x = per_second / 1e6, max = (double) (((gint64) 1 << 60) / MAX (self->burst, 1));
  double v = x, gain = 1, unit = 0, gain_before = 0, unit_before = 1;

  for (guint i = 0; i < 64; i++)
    {
      double whole, g, u;

      if (v > max) /* and so would one of the two be; and it may be too large for what follows */
        break;
      whole = (double) (gint64) v;
      g = whole * gain + gain_before;
      u = whole * unit + unit_before;
      if (g > max || u > max)
        break;
      gain_before = gain;
      unit_before = unit;
      gain = g;
      unit = u;
      if (v == whole || ABS (gain / unit - x) <= x * 1e-15)
        break;
      v = 1 / (v - whole);
    }
  if (gain == 0) /* none comes, or slower than can be said for such a burst */
    {
      gain = x > 0 ? 1 : 0;
      unit = x > 0 ? max : MIN (max, 1e6);
    }
  self->gain = (gint64) gain;
  self->unit = (gint64) unit;
  self->full = self->unit * self->burst;
}

/* While somebody waits the bucket holds more: what comes between the instant that was due and the one at which it is noticed. */
static void
fill (BelayRateLimiter *self)
{
  gint64 now = belay_now (), lacks = self->full - self->level;

  if (!belay_line_is_empty (&self->line))
    lacks += MAX (self->full, self->gain);
  if (self->gain > 0 && now > self->at)
    self->level += now - self->at >= lacks / self->gain + 1 ? lacks : MIN ((now - self->at) * self->gain, lacks);
  self->at = MAX (self->at, now);
}

static gboolean
take (BelayRateLimiter *self, guint n)
{
  gint64 units = self->unit * n;

  if (self->level < units)
    return FALSE;
  self->level -= units;
  return TRUE;
}

/* When the first in line can be served; there is one, and the rate is not 0. */
static gint64
next_due (BelayRateLimiter *self)
{
  gint64 lacks = self->unit * self->line.first->need - self->level;

  return self->at + (lacks - 1) / self->gain + 1;
}

/* --- the line and its pump; all of it under the lock --- */

/* Serves those for whom there is enough. FALSE: nobody waits for time to pass. */
static gboolean
serve_due (BelayRateLimiter *self, BelayTurn **served)
{
  fill (self);
  while (!belay_line_is_empty (&self->line) && take (self, (guint) self->line.first->need))
    belay_line_serve (self->line.first, BELAY_TURN_SERVED, served);
  if (belay_line_is_empty (&self->line))
    self->level = MIN (self->level, self->full);
  return !belay_line_is_empty (&self->line) && self->gain > 0;
}

/* A context that somebody turns, for the pump: that of who waits, where it is known. (transfer full) (nullable) */
static BelayContext *
choose_context (BelayRateLimiter *self)
{
  for (BelayTurn *turn = self->line.first; turn != NULL; turn = turn->next)
    {
      BelayContext *context = turn->fiber != NULL ? turn->fiber->context : self->home;

      if (!belay_context_is_gone (context))
        return belay_context_ref (context);
    }
  return NULL;
}

/*
 * Serves who can be served, and makes sure that the pump comes in time for the others, or takes its timer off when there are
 * none. TRUE: the caller has to queue the pump, when it has left the lock.
 */
static gboolean
look (BelayRateLimiter *self, BelayTurn **served)
{
  gboolean waits = serve_due (self, served);

  if (self->queued || (waits ? self->armed && self->due <= next_due (self) : !self->armed))
    return FALSE;
  if (!self->armed)
    {
      self->context = choose_context (self);
      if (G_UNLIKELY (self->context == NULL))
        {
          belay_line_serve_all (&self->line, BELAY_TURN_BROKEN, served);
          return FALSE;
        }
      atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
    }
  self->queued = TRUE;
  return TRUE;
}

/* Leaves the lock, then does what was found to be done. */
static void
unlock_and_wake (BelayRateLimiter *self, gboolean queue, BelayTurn *served)
{
  belay_spin_unlock (&self->lock);
  if (queue)
    belay_context_push (self->context, &self->item); /* it keeps its context until it has run */
  belay_turns_wake (served);
}

/* On the pump's home thread, or as an orphan: as the item that was queued, or since its time has come. */
static void
pump (BelayRateLimiter *self, gboolean was_queued)
{
  BelayContext *context = self->context;
  BelayTurn *served = NULL;
  gboolean over, queue = FALSE;
  gint64 due = 0;

  belay_spin_lock (&self->lock);
  if (was_queued)
    self->queued = FALSE;
  self->armed = serve_due (self, &served) && !belay_context_is_gone (context);
  if (self->armed)
    self->due = due = next_due (self);
  else
    belay_timer_disarm (context, &self->timer);
  over = !self->armed && !self->queued;
  if (over)
    queue = look (self, &served); /* its context is gone: to another */
  belay_spin_unlock (&self->lock);

  if (due != 0)
    belay_timer_arm (context, &self->timer, due);
  if (queue)
    belay_context_push (self->context, &self->item);
  belay_turns_wake (served);
  if (over)
    {
      belay_context_unref (context);
      belay_rate_limiter_unref (self);
    }
}

static void
on_item (BelayItem *item)
{
  pump ((BelayRateLimiter *) ((char *) item - G_STRUCT_OFFSET (BelayRateLimiter, item)), TRUE);
}

static void
on_timer (BelayTimer *timer)
{
  pump ((BelayRateLimiter *) ((char *) timer - G_STRUCT_OFFSET (BelayRateLimiter, timer)), FALSE);
}

/* --- life --- */

static gboolean
is_rate (double per_second)
{
  return per_second >= 0 && per_second <= 1e9;
}

BelayRateLimiter *
belay_rate_limiter_new (double per_second, guint burst)
{
  BelayRateLimiter *self;

  g_return_val_if_fail (is_rate (per_second) && burst > 0, NULL);

  self = g_new0 (BelayRateLimiter, 1);
  atomic_init (&self->refs, 1);
  atomic_flag_clear (&self->lock);
  belay_line_init (&self->line, &line_class);
  self->home = belay_context_ref (belay_context_get ());
  self->item.run = on_item;
  self->timer.fire = on_timer;
  self->burst = burst;
  set_fraction (self, per_second);
  self->level = self->full;
  self->at = belay_now ();
  return self;
}

BelayRateLimiter *
belay_rate_limiter_ref (BelayRateLimiter *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_rate_limiter_unref (BelayRateLimiter *self)
{
  BelayLine *line;

  g_return_if_fail (self != NULL);
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  line = &self->line;
  if (!belay_lines_end (self, "rate limiter", &self->lock, &line, 1))
    return;
  belay_context_unref (self->home);
  g_free (self);
}

void
belay_rate_limiter_close (BelayRateLimiter *self)
{
  BelayTurn *served = NULL;
  gboolean queue;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->lock);
  self->closed = TRUE;
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &served);
  queue = look (self, &served);
  unlock_and_wake (self, queue, served);
}

void
belay_rate_limiter_set_rate (BelayRateLimiter *self, double per_second, guint burst)
{
  BelayTurn *served = NULL;
  double tokens;
  gboolean queue;

  g_return_if_fail (self != NULL && is_rate (per_second) && burst > 0);

  belay_spin_lock (&self->lock);
  fill (self);
  tokens = (double) self->level / (double) self->unit;
  self->burst = burst;
  set_fraction (self, per_second);
  self->level = tokens >= burst ? self->full : MIN ((gint64) (tokens * (double) self->unit + 1e-3), self->full);
  for (BelayTurn *turn = self->line.first, *next; turn != NULL; turn = next)
    {
      next = turn->next;
      if (turn->need > burst)
        belay_line_serve (turn, TOO_MANY, &served);
    }
  queue = look (self, &served);
  unlock_and_wake (self, queue, served);
}

guint
belay_rate_limiter_get_available (BelayRateLimiter *self)
{
  BelayTurn *served = NULL;
  gboolean queue;
  guint n;

  g_return_val_if_fail (self != NULL, 0);

  belay_spin_lock (&self->lock);
  queue = look (self, &served);
  n = belay_line_is_empty (&self->line) && !self->closed ? (guint) (self->level / self->unit) : 0;
  unlock_and_wake (self, queue, served);
  return n;
}

/* --- taking --- */

/* How it ends for whoever comes now; WAITS: in line, when there is a turn for it. */
static int
take_or_append (BelayRateLimiter *self, guint n, BelayTurn *turn)
{
  BelayTurn *served = NULL;
  gboolean queue = FALSE;
  int outcome = BELAY_TURN_WAITS;

  belay_spin_lock (&self->lock);
  if (G_UNLIKELY (self->closed))
    {
      outcome = BELAY_TURN_CLOSED;
    }
  else if (G_UNLIKELY (n > self->burst))
    {
      outcome = TOO_MANY;
    }
  else
    {
      queue = look (self, &served);
      if (belay_line_is_empty (&self->line) && take (self, n))
        {
          outcome = BELAY_TURN_SERVED;
        }
      else if (turn != NULL)
        {
          turn->need = n;
          belay_line_append (&self->line, turn);
          queue |= look (self, &served);
        }
    }
  unlock_and_wake (self, queue, served);
  return outcome;
}

/* (transfer full): why a turn that ended was not served. */
static GError *
error_of (int outcome, gint64 n)
{
  if (outcome == BELAY_TURN_CLOSED)
    return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CLOSED, "the rate limiter was closed");
  if (outcome == TOO_MANY)
    return g_error_new (G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "%" G_GINT64_FORMAT " tokens at once are more than the rate "
                        "limiter's burst: they will never be there", n);
  return g_error_new_literal (BELAY_ERROR, BELAY_ERROR_BROKEN, "the rate limiter has no main context to wait on any more, or "
                              "its last reference was dropped");
}

/* Who was in line has left: those behind it may have what it lacked. */
static void
after_leaving (BelayRateLimiter *self)
{
  BelayTurn *served = NULL;
  gboolean queue;

  belay_spin_lock (&self->lock);
  queue = look (self, &served);
  unlock_and_wake (self, queue, served);
}

gboolean
belay_rate_limiter_try_acquire (BelayRateLimiter *self, guint n)
{
  g_return_val_if_fail (self != NULL, FALSE);
  return take_or_append (self, n, NULL) == BELAY_TURN_SERVED;
}

gboolean
belay_rate_limiter_acquire_at (BelayRateLimiter *self, guint n, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayTurn turn;
  int outcome;

  g_return_val_if_fail (self != NULL, FALSE);

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber ("belay_rate_limiter_acquire", error);
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return FALSE;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      outcome = take_or_append (self, n, &turn);
      if (outcome == BELAY_TURN_WAITS && belay_turn_wait (&turn, &self->lock))
        outcome = turn.outcome;
      if (G_LIKELY (outcome == BELAY_TURN_SERVED))
        return TRUE;
      if (outcome != BELAY_TURN_WAITS)
        {
          g_propagate_error (error, error_of (outcome, n));
          return FALSE;
        }
      after_leaving (self);
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved: to the end of the line */
  return FALSE;
}

gboolean
(belay_rate_limiter_acquire) (BelayRateLimiter *self, guint n, GError **error)
{
  return belay_rate_limiter_acquire_at (self, n, error, NULL);
}

static gpointer
async_ref (gpointer owner)
{
  return belay_rate_limiter_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_rate_limiter_unref (owner);
}

static void
async_answer (BelayAsyncTurn *turn)
{
  if (turn->turn.outcome == BELAY_TURN_SERVED)
    belay_promise_resolve (turn->promise);
  else
    belay_promise_reject (turn->promise, error_of (turn->turn.outcome, turn->turn.need));
}

static void
async_left (BelayAsyncTurn *turn)
{
  after_leaving (turn->owner);
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, async_left };

BelayFuture *
belay_rate_limiter_acquire_async (BelayRateLimiter *self, guint n)
{
  BelayFuture *future;
  BelayTurn *turn;
  int outcome;

  g_return_val_if_fail (self != NULL, NULL);

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  turn = belay_async_turn_new (self, &self->lock, &async_class, &future);
  turn->need = n;
  outcome = take_or_append (self, n, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}
