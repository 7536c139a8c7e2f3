/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Semaphore: a number of permits, first come, first served.
 *
 * A permit is the semaphore itself, seen through its first member: taking one allocates nothing. Several at once are a small block,
 * see permits.c. One word holds the free permits, in units, and three flags: WAITERS, somebody is in line; ORPHAN, the last
 * reference has gone and the permits that are out keep the semaphore alive; CLOSED.
 *
 * The *total* is how many permits there are, free or out. It is what was given to begin with; belay_semaphore_set_total() changes it,
 * belay_semaphore_add() makes more, to forget a permit makes fewer, though never fewer than none. When it is lowered by more than are free, the free ones are
 * less than none until enough were given back: nothing is taken from who has some, and nobody gets any meanwhile.
 *
 * Who waits needs a number, and gets it at once or not at all. The first in line waits until there are so many, and all others
 * behind it, though there be enough for them: else who needs many would wait for ever.
 *
 * Invariants
 *   1. While somebody is in line there are fewer free units than the first needs. Whatever changes that, units that come back, the
 *      first who leaves, serves the line. Nobody overtakes: with WAITERS set nothing is taken on the fast way.
 *   2. WAITERS and the line change under `lock`; units change without it only while no flag is set. WAITERS is set while
 *      anybody is in line, and, until the one who left last or the next release sees to it, a moment longer.
 *   3. An orphan goes with its last permit. That there is no reference and that the last unit is back are both seen under
 *      `lock`, by one of the two, who frees it after unlocking: the other has unlocked before, which is the last that
 *      it touches. Who has a permit may take a reference again; then ORPHAN stays, which only makes releases slow.
 *   4. Nobody is in line who needs more than there ever is, see most(): whatever lowers that tells them.
 *   5. No more are free than the total: a permit that is released twice is told of when it would make more, and is not counted. (While
 *      others are out it passes for one of theirs, and the last of those is blamed.)
 */
#include "sync/semaphore-private.h"

static void describe_line (BelayLine *line, GString *text);
static const BelayLineClass line_class = { "a permit of a semaphore", describe_line };

G_DEFINE_BOXED_TYPE (BelaySemaphore, belay_semaphore, belay_semaphore_ref, belay_semaphore_unref)

static void permit_release (gpointer permit);
static const BelayPlainClass permit_class = { BELAY_TAG_INSTANT, "BelayPermit", NULL, NULL, permit_release, NULL };

static BelaySemaphore *
semaphore_new (guint permits, guint max)
{
  BelaySemaphore *self = g_new0 (BelaySemaphore, 1);

  self->permit.klass = &permit_class;
  atomic_init (&self->refs, 1);
  atomic_init (&self->state, (gint64) permits * UNIT);
  atomic_flag_clear (&self->lock);
  self->max = max;
  atomic_init (&self->total, permits);
  belay_line_init (&self->line, &line_class);
  return self;
}

BelaySemaphore *
belay_semaphore_new (guint permits)
{
  return semaphore_new (permits, G_MAXUINT);
}

BelaySemaphore *
belay_semaphore_new_bounded (guint permits, guint max)
{
  if (G_UNLIKELY (permits > max))
    {
      g_critical ("belay_semaphore_new_bounded: %u permits are more than %u at most", permits, max);
      permits = max;
    }
  return semaphore_new (permits, max);
}

BelaySemaphore *
belay_semaphore_ref (BelaySemaphore *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

/* Invariant 3: by one alone. Who waits now, while all permits are free, would have to have a reference. */
static void
semaphore_end (BelaySemaphore *self)
{
  BelayLine *lines[] = { &self->line };

  if (belay_lines_end (self, "semaphore", &self->lock, lines, 1))
    g_free (self);
}

void
belay_semaphore_unref (BelaySemaphore *self)
{
  gint64 state;
  gboolean is_last;

  g_return_if_fail (self != NULL);

  if (!belay_owner_unref (&self->refs, &self->lock))
    return;
  state = atomic_fetch_or_explicit (&self->state, ORPHAN, memory_order_acq_rel);
  is_last = units_of (state) == self->total;
  belay_spin_unlock (&self->lock);
  if (is_last)
    semaphore_end (self);
}

/* --- how many --- */

guint
belay_semaphore_get_available (BelaySemaphore *self)
{
  gint64 units;

  g_return_val_if_fail (self != NULL, 0);
  units = units_of (atomic_load_explicit (&self->state, memory_order_acquire));
  return (guint) MAX (units, 0);
}

guint
belay_semaphore_get_total (BelaySemaphore *self)
{
  gint64 total;

  g_return_val_if_fail (self != NULL, 0);

  belay_spin_lock (&self->lock);
  total = self->total;
  belay_spin_unlock (&self->lock);
  return (guint) total;
}

guint
belay_semaphore_get_n_waiting (BelaySemaphore *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);

  belay_spin_lock (&self->lock);
  n = self->line.n;
  belay_spin_unlock (&self->lock);
  return n;
}

static void
describe_line (BelayLine *line, GString *text)
{
  BelaySemaphore *self = (BelaySemaphore *) ((char *) line - G_STRUCT_OFFSET (BelaySemaphore, line));

  g_string_append_printf (text, ", of which %u of %u are free", belay_semaphore_get_available (self), belay_semaphore_get_total (self));
}

/* Under the lock: the most that one may ask for. One permit may always come by belay_semaphore_add(). */
static inline gint64
most (BelaySemaphore *self)
{
  return self->max != G_MAXUINT ? (gint64) self->max : MAX (self->total, 1);
}

/* --- giving back --- */

/* Under the lock, after a turn has left the line. */
static inline void
note_if_empty (BelaySemaphore *self)
{
  if (belay_line_is_empty (&self->line))
    atomic_fetch_and_explicit (&self->state, ~(gint64) WAITERS, memory_order_relaxed);
}

/* Under the lock, with @state as it is now: invariant 3. */
static inline gboolean
is_over (BelaySemaphore *self, gint64 state)
{
  return (state & ORPHAN) != 0 && units_of (state) == self->total && belay_owner_is_orphan (&self->refs);
}

/* Under the lock: @n units more, or fewer, and invariant 1. TRUE: invariant 3. */
static gboolean
change (BelaySemaphore *self, gint64 n, BelayTurn **served)
{
  gint64 state;

  if (!belay_line_is_empty (&self->line))
    {
      gint64 before = units_of (atomic_load_explicit (&self->state, memory_order_relaxed)), left = before + n;

      /* WAITERS is set: nobody else changes the units. */
      while (!belay_line_is_empty (&self->line) && left >= self->line.first->need)
        {
          gint64 need = self->line.first->need;

          if (belay_line_serve (self->line.first, BELAY_TURN_SERVED, served))
            left -= need;
        }
      n = left - before;
    }
  state = atomic_fetch_add_explicit (&self->state, n * UNIT, memory_order_acq_rel) + n * UNIT;
  note_if_empty (self); /* not before: it opens the fast way */
  return is_over (self, state);
}

/* Under the lock, after the total was lowered: invariant 4. The caller lets change() see to those behind. */
static void
refuse_too_many (BelaySemaphore *self, BelayTurn **served)
{
  gint64 limit = most (self);
  BelayTurn *next;

  if (belay_line_is_empty (&self->line) || self->widest <= limit)
    return;
  for (BelayTurn *turn = self->line.first; turn != NULL; turn = next)
    {
      next = turn->next;
      if (turn->need > limit)
        belay_line_serve (turn, TURN_TOO_MANY, served);
    }
  self->widest = limit;
}

void
belay_semaphore_give_slow (BelaySemaphore *self, gint64 n)
{
  BelayTurn *served = NULL;
  gboolean is_out, is_last = FALSE;
  gint64 total;

  belay_spin_lock (&self->lock);
  total = self->total;
  is_out = units_of (atomic_load_explicit (&self->state, memory_order_relaxed)) + n <= total; /* invariant 5 */
  if (is_out)
    is_last = change (self, n, &served);
  belay_spin_unlock (&self->lock);

  belay_turns_wake (served);
  if (G_UNLIKELY (!is_out))
    g_critical ("a permit was released before: there are %u, and none of them is out", (guint) total);
  if (is_last)
    semaphore_end (self);
}

static void
permit_release (gpointer permit)
{
  give (permit, 1);
}

void
belay_semaphore_lose (BelaySemaphore *self, gint64 n)
{
  BelayTurn *served = NULL;
  gboolean is_last;
  gint64 lost;

  belay_spin_lock (&self->lock);
  lost = MIN (n, self->total); /* the others were taken off the total before, and free units are less than none for it */
  self->total -= lost;
  refuse_too_many (self, &served);
  is_last = change (self, n - lost, &served);
  belay_spin_unlock (&self->lock);

  belay_turns_wake (served);
  if (is_last)
    semaphore_end (self);
}

void
belay_semaphore_forget (BelayPermit **variable)
{
  BelayPermit *permit;

  g_return_if_fail (variable != NULL);

  permit = g_steal_pointer (variable);
  if (permit == NULL || belay_forked ())
    return;
  belay_leaks_let_go (permit);
  belay_semaphore_lose ((BelaySemaphore *) permit, 1);
}

gboolean
belay_semaphore_add (BelaySemaphore *self, guint n)
{
  BelayTurn *served = NULL;
  gint64 total, max;
  gboolean ok;

  g_return_val_if_fail (self != NULL, FALSE);

  belay_spin_lock (&self->lock);
  total = self->total;
  max = self->max;
  ok = total + n <= max;
  if (ok)
    {
      self->total += n;
      change (self, n, &served);
    }
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
  if (G_UNLIKELY (!ok))
    g_critical ("belay_semaphore_add: %u more than %u permits would be more than %u, which is the most; was one added that a guard "
                "gives back, too?", n, (guint) total, (guint) max);
  return ok;
}

gboolean
belay_semaphore_set_total (BelaySemaphore *self, guint total)
{
  BelayTurn *served = NULL;
  gint64 before;
  gboolean ok;

  g_return_val_if_fail (self != NULL, FALSE);

  belay_spin_lock (&self->lock);
  ok = total <= self->max;
  if (ok)
    {
      before = self->total;
      self->total = total;
      refuse_too_many (self, &served);
      change (self, (gint64) total - before, &served);
    }
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
  if (G_UNLIKELY (!ok))
    g_critical ("belay_semaphore_set_total: %u is more than the semaphore's bound", total);
  return ok;
}

void
belay_semaphore_close (BelaySemaphore *self)
{
  BelayTurn *served = NULL;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->lock);
  atomic_fetch_or_explicit (&self->state, CLOSED, memory_order_relaxed);
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &served);
  note_if_empty (self);
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
}

/* --- taking --- */

/* Takes what the turn needs, or gets in line: TRUE when its outcome is known. */
static gboolean
take_or_append (BelaySemaphore *self, BelayTurn *turn)
{
  gint64 state;

  belay_spin_lock (&self->lock);
  state = atomic_load_explicit (&self->state, memory_order_relaxed);
  turn->outcome = (state & CLOSED) != 0 ? BELAY_TURN_CLOSED : turn->need > most (self) ? TURN_TOO_MANY : BELAY_TURN_WAITS;
  while (turn->outcome == BELAY_TURN_WAITS)
    {
      gboolean take = state >= turn->need * UNIT && belay_line_is_empty (&self->line);

      if (!atomic_compare_exchange_weak_explicit (&self->state, &state, take ? state - turn->need * UNIT : state | WAITERS,
                                                  memory_order_acq_rel, memory_order_relaxed))
        continue;
      if (!take)
        {
          self->widest = belay_line_is_empty (&self->line) ? turn->need : MAX (self->widest, turn->need);
          belay_line_append (&self->line, turn);
          belay_spin_unlock (&self->lock);
          return FALSE;
        }
      turn->outcome = BELAY_TURN_SERVED;
    }
  belay_spin_unlock (&self->lock);
  return TRUE;
}

static gboolean
fail_outcome (BelaySemaphore *self, int outcome, gint64 need, GError **error)
{
  gint64 n;

  switch (outcome)
    {
    case BELAY_TURN_CLOSED:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the semaphore was closed");
      return FALSE;
    case TURN_TOO_MANY:
      belay_spin_lock (&self->lock);
      n = most (self);
      belay_spin_unlock (&self->lock);
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "%u permits were asked of a semaphore that has %u at most; it "
                   "would be waited for ever", (guint) need, (guint) n);
      return FALSE;
    case BELAY_TURN_BROKEN:
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_BROKEN, "the last reference to the semaphore was dropped");
      return FALSE;
    default:
      g_assert_not_reached ();
    }
}

gboolean
belay_semaphore_take_none (BelaySemaphore *self, GError **error)
{
  gboolean is_closed = (atomic_load_explicit (&self->state, memory_order_acquire) & CLOSED) != 0;

  return !is_closed || fail_outcome (self, BELAY_TURN_CLOSED, 0, error);
}

BelayPermit *
belay_semaphore_try_acquire_at (BelaySemaphore *self, const char *site)
{
  g_return_val_if_fail (self != NULL, NULL);
  if (!try_take (self, 1))
    return NULL;
  belay_leaks_hold (self, site);
  return (BelayPermit *) self;
}

BelayPermit *
(belay_semaphore_try_acquire) (BelaySemaphore *self)
{
  return belay_semaphore_try_acquire_at (self, NULL);
}

/* Who left may have been all that held the others up. */
static void
after_leaving (BelaySemaphore *self)
{
  BelayTurn *served = NULL;

  belay_spin_lock (&self->lock);
  change (self, 0, &served);
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
}

gboolean
belay_semaphore_take_slow (BelaySemaphore *self, BelayFiber *fiber, gint64 n, GError **error, const char *site)
{
  BelayTurn turn;

  belay_turn_init (&turn, fiber);
  turn.need = n;
  do
    {
      belay_turn_prepare (&turn, &self->line, site);
      if (take_or_append (self, &turn) || belay_turn_wait (&turn, &self->lock))
        return turn.outcome == BELAY_TURN_SERVED || fail_outcome (self, turn.outcome, n, error);
      after_leaving (self);
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved: to the end of the line */
  return FALSE;
}

BelayPermit *
belay_semaphore_acquire_at (BelaySemaphore *self, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();

  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber ("belay_semaphore_acquire", error);
      return NULL;
    }
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return NULL;
  if (G_UNLIKELY (!try_take (self, 1) && !belay_semaphore_take_slow (self, fiber, 1, error, site)))
    return NULL;
  belay_leaks_hold (self, site);
  return (BelayPermit *) self;
}

BelayPermit *
(belay_semaphore_acquire) (BelaySemaphore *self, GError **error)
{
  return belay_semaphore_acquire_at (self, error, NULL);
}

/* --- as a future --- */

static gpointer
async_ref (gpointer owner)
{
  return belay_semaphore_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_semaphore_unref (owner);
}

/* Of several permits the block is the turn's `item`. */
static void
free_permits (BelayAsyncTurn *turn)
{
  g_free (g_steal_pointer (&turn->turn.item));
}

/* A promise that nobody waits for any more drops the permit, which comes back here. */
static void
async_answer (BelayAsyncTurn *turn)
{
  BelayPermits *permits = turn->turn.item;
  GError *error = NULL;

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    {
      turn->turn.item = NULL;
      belay_promise_resolve_resource (turn->promise, permits != NULL ? (gpointer) permits : turn->owner);
      return;
    }
  free_permits (turn);
  fail_outcome (turn->owner, turn->turn.outcome, turn->turn.need, &error);
  belay_promise_reject (turn->promise, error);
}

static void
async_left (BelayAsyncTurn *turn)
{
  free_permits (turn);
  after_leaving (turn->owner);
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, async_left };

BelayFuture *
belay_semaphore_take_async (BelaySemaphore *self, gint64 n, BelayPermits *permits)
{
  BelayFuture *future;
  BelayTurn *turn;

  if (try_take (self, n))
    return belay_resource_future (permits != NULL ? (gpointer) permits : self);
  turn = belay_async_turn_new (self, &self->lock, &async_class, &future);
  turn->need = n;
  turn->item = permits;
  if (take_or_append (self, turn))
    belay_async_turn_answer (turn, turn->outcome);
  return future;
}

BelayFuture *
belay_semaphore_acquire_async (BelaySemaphore *self)
{
  BelayFuture *refused;

  g_return_val_if_fail (self != NULL, NULL);

  refused = belay_fiber_refuse ();
  return refused != NULL ? refused : belay_semaphore_take_async (self, 1, NULL);
}
