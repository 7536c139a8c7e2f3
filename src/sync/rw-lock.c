/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Read-write lock: many who read, or one who writes, first come, first served.
 *
 * Words. A *reader* has a read guard, a small block, since each must be told from the others; the *writer* has the lock itself, seen
 * through its first member. Who waits stands in one line, whatever for. So a reader that comes while a writer waits gets behind
 * that writer, and neither kind can starve the other: when the writer is done, all readers up to the next writer go on.
 *
 * A fiber that reads already gets another read guard at once, also when a writer waits: that one waits for this fiber, so to get in
 * line behind it would be to wait for oneself. Any other wait for oneself fails: to write while one reads or writes, to read while one
 * writes.
 *
 * Owners, guards that are nobody's, and what is broken are as in lock.c. A reader that has ended and has its guard still
 * breaks the lock, too: a writer would wait for it for ever. Its guard stays among the *lost* ones, so that a late release is
 * found to be one.
 *
 * Invariants
 *   1. Never both a writer and a reader; never two writers.
 *   2. The first in line cannot go on at this moment; whatever changes that, a release, who left the line, serves it.
 *   3. `readers` are those with a guard; `n_readers` is how many.
 *   4. It goes when there is neither a reference nor a guard, as in lock.c.
 */
#include "sync/rw-lock-private.h"

static void describe_line (BelayLine *line, GString *text);
static const BelayLineClass line_class = { "a read-write lock", describe_line };

G_DEFINE_BOXED_TYPE (BelayRwLock, belay_rw_lock, belay_rw_lock_ref, belay_rw_lock_unref)

BelayRwLock *
belay_rw_lock_new (void)
{
  BelayRwLock *self = g_new0 (BelayRwLock, 1);

  atomic_init (&self->refs, 1);
  atomic_flag_clear (&self->spin);
  belay_rw_lock_prepare (self);
  belay_line_init (&self->line, &line_class);
  return self;
}

BelayRwLock *
belay_rw_lock_ref (BelayRwLock *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

/* --- the end --- */

void
belay_rw_lock_end (BelayRwLock *self)
{
  BelayLine *lines[] = { &self->line };

  if (!belay_lines_end (self, "read-write lock", &self->spin, lines, 1)) /* who waits has no reference */
    return;
  while (self->lost != NULL)
    {
      BelayReadGuard *guard = self->lost;

      self->lost = guard->next;
      belay_read_guard_free (guard);
    }
  g_free (self);
}

void
belay_rw_lock_unref (BelayRwLock *self)
{
  gboolean is_last;

  g_return_if_fail (self != NULL);

  if (!belay_owner_unref (&self->refs, &self->spin))
    return;
  is_last = is_over (self);
  belay_spin_unlock (&self->spin);
  if (is_last)
    belay_rw_lock_end (self);
}

/* --- who has it --- */

guint
belay_rw_lock_get_n_readers (BelayRwLock *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);

  belay_spin_lock (&self->spin);
  n = self->n_readers;
  belay_spin_unlock (&self->spin);
  return n;
}

gboolean
belay_rw_lock_is_written (BelayRwLock *self)
{
  gboolean is_written;

  g_return_val_if_fail (self != NULL, FALSE);

  belay_spin_lock (&self->spin);
  is_written = (self->state & WRITTEN) != 0;
  belay_spin_unlock (&self->spin);
  return is_written;
}

guint
belay_rw_lock_get_n_waiting (BelayRwLock *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);

  belay_spin_lock (&self->spin);
  n = self->line.n;
  belay_spin_unlock (&self->spin);
  return n;
}

static void
describe_line (BelayLine *line, GString *text)
{
  BelayRwLock *self = (BelayRwLock *) ((char *) line - G_STRUCT_OFFSET (BelayRwLock, line));
  BelayOwned *first;

  belay_spin_lock (&self->spin);
  first = (self->state & WRITTEN) != 0 ? &self->owned : self->readers != NULL ? &self->readers->owned : NULL;
  if (first != NULL)
    {
      g_string_append_printf (text, ", which is %s by ", first == &self->owned ? "written" : "read");
      belay_owned_describe (first->spawned, first->site, text);
    }
  if (self->n_readers > 1)
    g_string_append_printf (text, " and %u more", self->n_readers - 1);
  belay_spin_unlock (&self->spin);
}

static gboolean
fail_outcome (BelayRwLock *self, int outcome, GError **error)
{
  const char *spawned, *site;

  switch (outcome)
    {
    case BELAY_TURN_CLOSED:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the read-write lock was closed");
      return FALSE;
    case BELAY_TURN_BROKEN:
      belay_spin_lock (&self->spin);
      spawned = self->dead_spawned;
      site = self->dead_site;
      belay_spin_unlock (&self->spin);
      g_set_error (error, BELAY_ERROR, BELAY_ERROR_BROKEN, "the read-write lock is broken: the fiber from %s ended and held it, from %s; "
                   "see belay_rw_lock_recover()", spawned != NULL ? spawned : "?", site != NULL ? site : "?");
      return FALSE;
    default:
      g_assert_not_reached ();
    }
}

/* --- granting --- */

static inline gboolean
is_usable (BelayRwLock *self)
{
  return (self->state & (CLOSED | BROKEN)) == 0;
}

/* Under the lock: whether a turn of this kind could go on, if it were the first. */
static inline gboolean
may_go_on (BelayRwLock *self, gint64 kind)
{
  return (self->state & WRITTEN) == 0 && (kind == READ || self->n_readers == 0);
}

/* What a turn wants it for. A reader's brings its guard; a promise's has no site. */
typedef struct
{
  BelayReadGuard *guard;
  const char     *site;
} Want;

static inline void
grant (BelayRwLock *self, BelayTurn *turn)
{
  Want *want = turn->item;

  if (turn->need == READ)
    grant_read (self, want->guard, turn->fiber, want->site);
  else
    grant_write (self, turn->fiber, want->site);
}

/* Under the lock: invariant 2. */
void
belay_rw_lock_serve (BelayRwLock *self, BelayTurn **served)
{
  while (!belay_line_is_empty (&self->line) && may_go_on (self, self->line.first->need))
    {
      BelayTurn *turn = self->line.first;

      if (belay_line_serve (turn, BELAY_TURN_SERVED, served))
        grant (self, turn);
    }
}

/* Under the lock: TRUE when it is known at once what the turn gets. */
static gboolean
want (BelayRwLock *self, BelayTurn *turn)
{
  if ((self->state & CLOSED) != 0)
    {
      turn->outcome = BELAY_TURN_CLOSED;
    }
  else if ((self->state & BROKEN) != 0)
    {
      turn->outcome = BELAY_TURN_BROKEN;
    }
  else if (belay_line_is_empty (&self->line) && may_go_on (self, turn->need))
    {
      grant (self, turn);
      turn->outcome = BELAY_TURN_SERVED;
    }
  else
    {
      belay_line_append (&self->line, turn);
      return FALSE;
    }
  return TRUE;
}

/* Whoever left the line may have been all that held the others up. */
static void
serve_others (BelayRwLock *self)
{
  BelayTurn *served = NULL;

  belay_spin_lock (&self->spin);
  belay_rw_lock_serve (self, &served);
  belay_spin_unlock (&self->spin);
  belay_turns_wake (served);
}

/* --- acquiring --- */

static gboolean
fail_deadlock (const char *how, const char *site, GError **error)
{
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_DEADLOCK, "this fiber %s the lock already, from %s, and would wait for itself", how,
               site != NULL ? site : "?");
  return FALSE;
}

/* TRUE when @turn has it. */
static gboolean
acquire (BelayRwLock *self, BelayTurn *turn, GError **error, const char *site)
{
  BelayFiber *fiber = turn->fiber;
  BelayReadGuard *mine;
  const char *own_site = NULL;
  gboolean writes, known;

  do
    {
      belay_turn_prepare (turn, &self->line, site);
      mine = G_UNLIKELY (fiber->stack->owned != NULL) ? belay_read_guard_own (self, fiber) : NULL;
      belay_spin_lock (&self->spin);
      writes = (self->state & WRITTEN) != 0 && self->owned.fiber == fiber;
      if (writes)
        own_site = self->owned.site;
      if (G_UNLIKELY (mine != NULL && turn->need == READ && is_usable (self)))
        {
          grant (self, turn); /* it reads already, so nobody writes */
          turn->outcome = BELAY_TURN_SERVED;
          known = TRUE;
        }
      else
        {
          known = writes || (mine != NULL && turn->need == WRITE) || want (self, turn);
        }
      belay_spin_unlock (&self->spin);
      if (G_UNLIKELY (writes))
        return fail_deadlock ("writes", own_site, error);
      if (G_UNLIKELY (mine != NULL && turn->need == WRITE))
        return fail_deadlock ("reads", mine->owned.site, error);
      if (G_LIKELY (known) || belay_turn_wait (turn, &self->spin))
        return turn->outcome == BELAY_TURN_SERVED || fail_outcome (self, turn->outcome, error);
      serve_others (self);
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved: to the end of the line */
  return FALSE;
}

static gboolean
begin (BelayTurn *turn, int kind, Want *wanted, const char *function, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();

  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber (function, error);
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return FALSE;
  belay_turn_init (turn, fiber);
  turn->need = kind;
  turn->item = wanted;
  return TRUE;
}

BelayReadGuard *
belay_rw_lock_read_at (BelayRwLock *self, GError **error, const char *site)
{
  Want wanted = { NULL, site };
  BelayTurn turn;

  g_return_val_if_fail (self != NULL, NULL);

  if (!begin (&turn, READ, &wanted, "belay_rw_lock_read", error, site))
    return NULL;
  wanted.guard = belay_read_guard_new (self);
  if (!acquire (self, &turn, error, site))
    {
      belay_read_guard_free (wanted.guard);
      return NULL;
    }
  belay_owned_add (turn.fiber, &wanted.guard->owned);
  belay_leaks_hold (wanted.guard, site);
  return wanted.guard;
}

BelayWriteGuard *
belay_rw_lock_write_at (BelayRwLock *self, GError **error, const char *site)
{
  Want wanted = { NULL, site };
  BelayTurn turn;

  g_return_val_if_fail (self != NULL, NULL);

  if (!begin (&turn, WRITE, &wanted, "belay_rw_lock_write", error, site) || !acquire (self, &turn, error, site))
    return NULL;
  belay_owned_add (turn.fiber, &self->owned);
  belay_leaks_hold (self, site);
  return (BelayWriteGuard *) self;
}

BelayReadGuard *
belay_rw_lock_try_read_at (BelayRwLock *self, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayReadGuard *guard;
  gboolean mine, taken;

  g_return_val_if_fail (self != NULL, NULL);

  guard = belay_read_guard_new (self);
  mine = fiber != NULL && belay_read_guard_own (self, fiber) != NULL;
  belay_spin_lock (&self->spin);
  taken = is_usable (self) && (mine || (belay_line_is_empty (&self->line) && may_go_on (self, READ)));
  if (taken)
    grant_read (self, guard, fiber, site);
  belay_spin_unlock (&self->spin);
  if (!taken)
    {
      belay_read_guard_free (guard);
      return NULL;
    }
  if (fiber != NULL)
    belay_owned_add (fiber, &guard->owned);
  belay_leaks_hold (guard, site);
  return guard;
}

BelayWriteGuard *
belay_rw_lock_try_write_at (BelayRwLock *self, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  gboolean taken;

  g_return_val_if_fail (self != NULL, NULL);

  belay_spin_lock (&self->spin);
  taken = is_usable (self) && belay_line_is_empty (&self->line) && may_go_on (self, WRITE);
  if (taken)
    grant_write (self, fiber, site);
  belay_spin_unlock (&self->spin);
  if (!taken)
    return NULL;
  if (fiber != NULL)
    belay_owned_add (fiber, &self->owned);
  belay_leaks_hold (self, site);
  return (BelayWriteGuard *) self;
}

/* --- as a future --- */

static gpointer
async_ref (gpointer owner)
{
  return belay_rw_lock_ref (owner);
}

static void
async_unref (gpointer owner)
{
  belay_rw_lock_unref (owner);
}

static void
free_want (BelayAsyncTurn *turn)
{
  Want *wanted = g_steal_pointer (&turn->turn.item);

  if (wanted->guard != NULL)
    belay_read_guard_free (wanted->guard);
  g_free (wanted);
}

static void
async_answer (BelayAsyncTurn *turn)
{
  Want *wanted = turn->turn.item;
  GError *error = NULL;

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    {
      gpointer guard = turn->turn.need == READ ? (gpointer) g_steal_pointer (&wanted->guard) : turn->owner;

      free_want (turn);
      belay_promise_resolve_resource (turn->promise, guard);
      return;
    }
  free_want (turn);
  fail_outcome (turn->owner, turn->turn.outcome, &error);
  belay_promise_reject (turn->promise, error);
}

static void
async_left (BelayAsyncTurn *turn)
{
  free_want (turn);
  serve_others (turn->owner);
}

static const BelayAsyncClass async_class = { async_ref, async_unref, async_answer, async_left };

static BelayFuture *
acquire_async (BelayRwLock *self, int kind)
{
  BelayFuture *future = belay_fiber_refuse ();
  BelayTurn *turn;
  Want *wanted;
  gboolean known;

  if (future != NULL)
    return future;
  wanted = g_new0 (Want, 1);
  wanted->guard = kind == READ ? belay_read_guard_new (self) : NULL;
  turn = belay_async_turn_new (self, &self->spin, &async_class, &future);
  turn->need = kind;
  turn->item = wanted;
  belay_spin_lock (&self->spin);
  known = want (self, turn);
  belay_spin_unlock (&self->spin);
  if (known)
    belay_async_turn_answer (turn, turn->outcome);
  return future;
}

BelayFuture *
belay_rw_lock_read_async (BelayRwLock *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return acquire_async (self, READ);
}

BelayFuture *
belay_rw_lock_write_async (BelayRwLock *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return acquire_async (self, WRITE);
}

/* The functions behind the macros, for bindings. */
BelayReadGuard *
(belay_rw_lock_read) (BelayRwLock *self, GError **error)
{
  return belay_rw_lock_read_at (self, error, NULL);
}

BelayWriteGuard *
(belay_rw_lock_write) (BelayRwLock *self, GError **error)
{
  return belay_rw_lock_write_at (self, error, NULL);
}

BelayReadGuard *
(belay_rw_lock_try_read) (BelayRwLock *self)
{
  return belay_rw_lock_try_read_at (self, NULL);
}

BelayWriteGuard *
(belay_rw_lock_try_write) (BelayRwLock *self)
{
  return belay_rw_lock_try_write_at (self, NULL);
}
