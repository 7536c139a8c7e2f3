/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Passages: items that pass from those who give to those who take. Channels and queues are made of one each.
 *
 * Words. *Givers* and *takers* stand in two lines. What was given and not taken yet is *stored*, up to the *capacity*. An item that
 * was taken through a future, which was then dropped, *comes back*: it is the next to be taken again.
 *
 * An item is handed over at once: to the first taker, if one waits, else to the store. A taker takes from the store, and the first
 * giver's item moves up behind it; where nothing is ever stored (capacity 0), it takes from the giver itself.
 *
 * Invariants
 *   1. While a taker waits nothing is stored, and no giver waits, but for those who wait for both in one select.
 *   2. While a giver waits the store is at its capacity, so nobody overtakes it. Only what comes back may go over the capacity.
 *   3. An item has one owner at any instant: who gives it, until it is handed over; the store; who takes it, since its turn was
 *      served. So what is cancelled then has given nothing, or all.
 *   4. Once it is closed nothing is stored any more but what comes back; once it is aborted not even that.
 *   5. No function of the user's is called under `lock`, and no memory got.
 */
#include "sync/passage.h"

/* What there is room for from the start, if the capacity is not less. */
#define FIRST_ROOM 64

void
belay_passage_init (BelayPassage *self, const BelayPassageClass *klass, BelayStoreOrder order, guint capacity,
                    GDestroyNotify free_item)
{
  self->klass = klass;
  self->free_item = free_item;
  self->capacity = capacity;
  atomic_flag_clear (&self->lock);
  self->state = BELAY_PASSAGE_OPEN;
  belay_store_init (&self->store, order, MIN (capacity, FIRST_ROOM));
  self->n_out = 0;
  belay_line_init (&self->givers, &klass->givers);
  belay_line_init (&self->takers, &klass->takers);
}

static void
free_one (BelayPassage *self, gpointer item)
{
  if (self->free_item != NULL && item != NULL)
    self->free_item (item);
}

/* Empties a store that is nobody else's any more. */
static void
free_stored (BelayPassage *self, BelayStore *store)
{
  gint64 priority;

  while (store->n > 0)
    free_one (self, belay_store_pop (store, &priority));
  belay_store_clear (store);
}

gboolean
belay_passage_end (BelayPassage *self, gpointer owner, BelayLine *more)
{
  BelayLine *lines[] = { &self->givers, &self->takers, more };

  if (!belay_lines_end (owner, self->klass->name, &self->lock, lines, more != NULL ? 3 : 2))
    return FALSE;
  free_stored (self, &self->store);
  return TRUE;
}

void
belay_passage_close (BelayPassage *self, BelayPassageState state)
{
  BelayTurn *served = NULL;
  BelayStore dropped = { .n = 0 };

  belay_spin_lock (&self->lock);
  if (self->state != BELAY_PASSAGE_OPEN)
    state = MIN (state, BELAY_PASSAGE_ABORTED); /* whoever gives is told the first reason */
  if (self->state >= state)
    {
      belay_spin_unlock (&self->lock);
      return;
    }
  self->state = (guint8) state;
  if (state > BELAY_PASSAGE_CLOSED)
    {
      dropped = self->store;
      self->store = (BelayStore) { .order = dropped.order };
    }
  belay_line_serve_all (&self->givers, state == BELAY_PASSAGE_DESERTED ? BELAY_PASSAGE_NOBODY : BELAY_TURN_CLOSED, &served);
  belay_line_serve_all (&self->takers, BELAY_TURN_CLOSED, &served);
  belay_spin_unlock (&self->lock);

  belay_turns_wake (served);
  free_stored (self, &dropped);
  if (self->klass->done != NULL)
    self->klass->done (self);
}

G_GNUC_NO_INLINE gboolean
belay_passage_fail (const BelayPassageClass *klass, int outcome, GError **error)
{
  const char *name = klass->name;

  if (outcome == BELAY_TURN_WAITS)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK, "the %s has nothing, or no room, at this moment", name);
  else if (outcome == BELAY_TURN_CLOSED)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the %s is closed", name);
  else if (outcome == BELAY_PASSAGE_NOBODY)
    g_set_error (error, BELAY_ERROR, BELAY_ERROR_BROKEN, "the last receiver of the %s has gone, so nobody would take it", name);
  else
    g_set_error (error, BELAY_ERROR, BELAY_ERROR_BROKEN, "the last reference to the %s was dropped", name);
  return FALSE;
}

/* --- under the lock --- */

G_GNUC_NO_INLINE void
belay_passage_grow (BelayPassage *self)
{
  BelayStoreRoom room = { NULL, 0 };
  guint than = self->store.room;

  belay_spin_unlock (&self->lock);
  belay_store_room_get (&room, self->store.order, than);
  belay_spin_lock (&self->lock);
  belay_store_room_use (&self->store, &room);
  belay_spin_unlock (&self->lock);
  belay_store_room_free (&room);
  belay_spin_lock (&self->lock);
}

/* To the first who waits; FALSE: nobody does. */
static inline gboolean
serve_taker (BelayPassage *self, gpointer item, gint64 priority, BelayTurn **served)
{
  BelayTurn *turn;

  while ((turn = self->takers.first) != NULL)
    if (belay_line_serve (turn, BELAY_TURN_SERVED, served))
      {
        turn->item = item;
        turn->need = priority;
        self->n_out++;
        return TRUE;
      }
  return FALSE;
}

int
belay_passage_give_locked (BelayPassage *self, gpointer item, gint64 priority, BelayTurn **served)
{
  if (G_UNLIKELY (self->state != BELAY_PASSAGE_OPEN))
    return self->state == BELAY_PASSAGE_DESERTED ? BELAY_PASSAGE_NOBODY : BELAY_TURN_CLOSED;
  if (serve_taker (self, item, priority, served))
    return BELAY_TURN_SERVED;
  if (self->store.n >= self->capacity)
    return BELAY_TURN_WAITS;
  if (G_UNLIKELY (belay_store_is_full (&self->store)))
    return BELAY_PASSAGE_NEEDS_ROOM;
  belay_store_push (&self->store, item, priority);
  return BELAY_TURN_SERVED;
}

/* What the givers wait for is there: the first of them moves up. There is room, since there was for what has just gone. */
static inline void
move_up (BelayPassage *self, BelayTurn **served)
{
  BelayTurn *turn;

  while (self->store.n < self->capacity && (turn = self->givers.first) != NULL)
    if (belay_line_serve (turn, BELAY_TURN_SERVED, served))
      belay_store_push (&self->store, turn->item, turn->need);
}

int
belay_passage_take_locked (BelayPassage *self, gpointer *ret_item, gint64 *ret_priority, BelayTurn **served)
{
  BelayTurn *turn;

  if (G_LIKELY (self->store.n > 0))
    {
      *ret_item = belay_store_pop (&self->store, ret_priority);
      self->n_out++;
      move_up (self, served);
      return BELAY_TURN_SERVED;
    }
  while ((turn = self->givers.first) != NULL)
    if (belay_line_serve (turn, BELAY_TURN_SERVED, served))
      {
        *ret_item = turn->item;
        *ret_priority = turn->need;
        self->n_out++;
        return BELAY_TURN_SERVED;
      }
  return G_LIKELY (self->state == BELAY_PASSAGE_OPEN) ? BELAY_TURN_WAITS : BELAY_TURN_CLOSED;
}

/* --- giving --- */

/* @turn gets in line if it has to wait; NULL: nobody does. */
static inline int
give_now (BelayPassage *self, gpointer item, gint64 priority, BelayTurn *turn)
{
  BelayTurn *served = NULL;
  int outcome;

  belay_spin_lock (&self->lock);
  while (G_UNLIKELY ((outcome = belay_passage_give_locked (self, item, priority, &served)) == BELAY_PASSAGE_NEEDS_ROOM))
    belay_passage_grow (self);
  if (outcome == BELAY_TURN_WAITS && turn != NULL)
    {
      turn->item = item;
      turn->need = priority;
      belay_line_append (&self->givers, turn);
    }
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
  return outcome;
}

static gboolean
fail_no_item (BelayPassage *self, const char *function, GError **error)
{
  g_critical ("%s: there is no item; what a %s holds is not NULL", function, self->klass->name);
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "%s: there is no item", function);
  return FALSE;
}

static G_GNUC_NO_INLINE int
give_slow (BelayPassage *self, BelayFiber *fiber, gpointer item, gint64 priority, const char *site, GError **error)
{
  BelayTurn turn;
  int outcome;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->givers, site);
      outcome = give_now (self, item, priority, &turn);
      if (outcome != BELAY_TURN_WAITS)
        return outcome;
      if (belay_turn_wait (&turn, &self->lock))
        return turn.outcome;
    }
  while (belay_limit_check (fiber, site, error)); /* a deadline that another thread has moved: to the end of the line */
  return BELAY_TURN_WAITS;
}

gboolean
belay_passage_give (BelayPassage *self, gpointer *item, gint64 priority, const char *function, const char *site, GError **error)
{
  const BelayPassageClass *klass = self->klass;
  BelayFiber *fiber = belay_fiber_self ();
  int outcome;

  if (G_UNLIKELY (*item == NULL))
    return fail_no_item (self, function, error);
  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber (function, error);
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return FALSE;
  outcome = give_now (self, *item, priority, NULL);
  if (outcome == BELAY_TURN_WAITS)
    {
      outcome = give_slow (self, fiber, *item, priority, site, error);
      if (outcome == BELAY_TURN_WAITS)
        return FALSE;
    }
  if (G_UNLIKELY (outcome != BELAY_TURN_SERVED))
    return belay_passage_fail (klass, outcome, error); /* what was closed may be gone */
  *item = NULL;
  return TRUE;
}

gboolean
belay_passage_try_give (BelayPassage *self, gpointer *item, gint64 priority, const char *function, GError **error)
{
  int outcome;

  if (G_UNLIKELY (*item == NULL))
    return fail_no_item (self, function, error);
  outcome = give_now (self, *item, priority, NULL);
  if (outcome != BELAY_TURN_SERVED)
    return belay_passage_fail (self->klass, outcome, error);
  *item = NULL;
  return TRUE;
}

BelayFuture *
belay_passage_give_async (BelayPassage *self, gpointer item, gint64 priority, const char *function)
{
  GError *error = NULL;
  BelayFuture *future;
  BelayTurn *turn;
  int outcome;

  if (G_UNLIKELY (item == NULL))
    {
      fail_no_item (self, function, &error);
      return belay_future_new_error (error);
    }
  future = belay_fiber_refuse ();
  if (future != NULL)
    {
      free_one (self, item);
      return future;
    }
  if (give_now (self, item, priority, NULL) == BELAY_TURN_SERVED)
    return belay_future_new_done ();
  turn = belay_async_turn_new (self, &self->lock, &self->klass->give, &future);
  turn->item = item;
  outcome = give_now (self, item, priority, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}

void
belay_passage_give_answer (BelayAsyncTurn *turn)
{
  BelayPassage *self = turn->owner;
  GError *error = NULL;

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    {
      belay_promise_resolve (turn->promise);
      return;
    }
  free_one (self, turn->turn.item);
  belay_passage_fail (self->klass, turn->turn.outcome, &error);
  belay_promise_reject (turn->promise, error);
}

void
belay_passage_give_left (BelayAsyncTurn *turn)
{
  free_one (turn->owner, turn->turn.item);
}

/* --- taking --- */

static inline int
take_now (BelayPassage *self, gpointer *ret_item, gint64 *ret_priority, BelayTurn *turn)
{
  BelayTurn *served = NULL;
  int outcome;

  belay_spin_lock (&self->lock);
  outcome = belay_passage_take_locked (self, ret_item, ret_priority, &served);
  if (outcome == BELAY_TURN_WAITS && turn != NULL)
    belay_line_append (&self->takers, turn);
  belay_spin_unlock (&self->lock);
  belay_turns_wake (served);
  return outcome;
}

static G_GNUC_NO_INLINE int
take_slow (BelayPassage *self, BelayFiber *fiber, gpointer *ret_item, const char *site, GError **error)
{
  BelayTurn turn;
  gint64 priority;
  int outcome;

  belay_turn_init (&turn, fiber);
  do
    {
      belay_turn_prepare (&turn, &self->takers, site);
      outcome = take_now (self, ret_item, &priority, &turn);
      if (outcome != BELAY_TURN_WAITS)
        return outcome;
      if (belay_turn_wait (&turn, &self->lock))
        {
          *ret_item = turn.item;
          return turn.outcome;
        }
    }
  while (belay_limit_check (fiber, site, error));
  return BELAY_TURN_WAITS;
}

/* BELAY_TURN_WAITS: it failed, and the error is set. */
static inline int
take (BelayPassage *self, gpointer *ret_item, const char *function, const char *site, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  gint64 priority;
  int outcome;

  *ret_item = NULL;
  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber (function, error);
      return BELAY_TURN_WAITS;
    }
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return BELAY_TURN_WAITS;
  outcome = take_now (self, ret_item, &priority, NULL);
  if (outcome == BELAY_TURN_WAITS)
    outcome = take_slow (self, fiber, ret_item, site, error);
  return outcome;
}

gboolean
belay_passage_take (BelayPassage *self, gpointer *ret_item, const char *function, const char *site, GError **error)
{
  const BelayPassageClass *klass = self->klass;
  int outcome = take (self, ret_item, function, site, error);

  if (G_UNLIKELY (outcome == BELAY_TURN_BROKEN))
    belay_passage_fail (klass, outcome, error);
  return outcome == BELAY_TURN_SERVED;
}

gboolean
belay_passage_take_or_fail (BelayPassage *self, gpointer *ret_item, const char *function, const char *site, GError **error)
{
  const BelayPassageClass *klass = self->klass;
  int outcome = take (self, ret_item, function, site, error);

  if (G_UNLIKELY (outcome == BELAY_TURN_CLOSED || outcome == BELAY_TURN_BROKEN))
    belay_passage_fail (klass, outcome, error);
  return outcome == BELAY_TURN_SERVED;
}

gpointer
belay_passage_try_take (BelayPassage *self, GError **error)
{
  gpointer item;
  gint64 priority;
  int outcome = take_now (self, &item, &priority, NULL);

  if (outcome == BELAY_TURN_SERVED)
    return item;
  belay_passage_fail (self->klass, outcome, error);
  return NULL;
}

BelayFuture *
belay_passage_take_async (BelayPassage *self)
{
  BelayFuture *future = belay_fiber_refuse ();
  BelayTurn *turn;
  int outcome;

  if (future != NULL)
    return future;
  turn = belay_async_turn_new (self, &self->lock, &self->klass->take, &future);
  outcome = take_now (self, &turn->item, &turn->need, turn);
  if (outcome != BELAY_TURN_WAITS)
    belay_async_turn_answer (turn, outcome);
  return future;
}

void
belay_passage_take_answer (BelayAsyncTurn *turn)
{
  BelayPassage *self = turn->owner;
  GError *error = NULL;

  if (turn->turn.outcome == BELAY_TURN_SERVED)
    {
      belay_async_turn_lend (turn);
      return;
    }
  belay_passage_fail (self->klass, turn->turn.outcome, &error);
  belay_promise_reject (turn->promise, error);
}

/* The next to be taken again. Of what waits for it the first gets it. */
void
belay_passage_take_back (BelayAsyncTurn *turn, gpointer item)
{
  BelayPassage *self = turn->owner;
  BelayTurn *served = NULL;
  gboolean is_dropped, is_taken = FALSE;

  belay_spin_lock (&self->lock);
  while (!(is_dropped = self->state > BELAY_PASSAGE_CLOSED) && !(is_taken = serve_taker (self, item, turn->turn.need, &served)) &&
         belay_store_is_full (&self->store))
    belay_passage_grow (self);
  if (!is_dropped && !is_taken)
    belay_store_push_again (&self->store, item, turn->turn.need);
  self->n_out--; /* only now, since room is got under no lock */
  belay_spin_unlock (&self->lock);

  belay_turns_wake (served);
  if (!is_dropped)
    return;
  free_one (self, item);
  if (self->klass->done != NULL)
    self->klass->done (self);
}
