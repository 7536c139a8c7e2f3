/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dispatch: who gets what. All of it is under the pool's lock.
 *
 * Who waits is *covered* when a resource is on its way for it: one of its group's that is being made or checked, or one
 * that is being destroyed to make room. Those on their way belong to nobody: what comes first goes to the first of the
 * group. So dispatch covers the rest, in the order in which they came, whatever their groups: by an idle one of the
 * group, served at once or checked first; by one that is made; by one of another group that gives way. Who cannot be
 * covered waits for an event.
 *
 * Behind those who wait come those who want the pool to be warm, and its minimum.
 */
#include "sync/pool.h"

#define REFILL_DELAY     (1 * G_USEC_PER_SEC)
#define REFILL_DELAY_MAX (30 * G_USEC_PER_SEC)

/* --- lines --- */

static void
note_waits (BelayPoolGroup *group)
{
  BelayPool *self = group->pool;

  if (group->waits || group->line.first == NULL)
    return;
  group->waits = TRUE;
  group->passed = 0;
  group->prev_waiting = NULL;
  group->next_waiting = self->waiting;
  if (self->waiting != NULL)
    self->waiting->prev_waiting = group;
  self->waiting = group;
}

static void
note_if_nobody_waits (BelayPoolGroup *group)
{
  BelayPool *self = group->pool;

  if (!group->waits || group->line.first != NULL)
    return;
  group->waits = FALSE;
  if (group->prev_waiting != NULL)
    group->prev_waiting->next_waiting = group->next_waiting;
  else
    self->waiting = group->next_waiting;
  if (group->next_waiting != NULL)
    group->next_waiting->prev_waiting = group->prev_waiting;
}

void
belay_pool_append (BelayTurn *turn, BelayPoolWait *wait, gint64 now, BelayPoolTodo *todo)
{
  BelayPoolGroup *group = wait->group;
  BelayPool *self = group->pool;
  BelayTurn *before = NULL;
  gint64 late;

  if (G_LIKELY (wait->ticket == 0))
    {
      wait->ticket = ++self->ticket;
      wait->begin = now;
    }
  else
    {
      before = group->line.first;
      while (before != NULL && belay_pool_wait_of (before)->ticket < wait->ticket)
        before = before->next;
    }
  turn->need = (gint64) (guintptr) wait;
  belay_line_insert (&group->line, turn, before);
  if (turn->fiber != NULL)
    belay_pool_block (self, turn);
  group->n_turns++;
  self->n_waiting++;
  self->warm = TRUE;
  note_waits (group);
  late = belay_pool_later (wait->begin, self->options.acquire_timeout);
  if (late < self->due)
    belay_pool_look_at (self, late, todo);
}

static void
note_gone (BelayTurn *turn, BelayPoolTodo *todo)
{
  BelayPoolGroup *group = belay_pool_wait_of (turn)->group;
  BelayPool *self = group->pool;

  group->n_turns--;
  self->n_waiting--;
  note_if_nobody_waits (group);
  if (G_UNLIKELY (self->n_blocked > 0))
    belay_pool_unblock (self, turn);
  belay_pool_group_check (group, todo);
}

void
belay_pool_serve (BelayTurn *turn, int outcome, gpointer item, gint64 now, BelayPoolTodo *todo)
{
  BelayPoolWait *wait = belay_pool_wait_of (turn);
  BelayPool *self = wait->group->pool;

  if (outcome == BELAY_TURN_SERVED)
    {
      gint64 waited = MAX (now - wait->begin, 0);

      self->stats.waited++;
      self->stats.wait_time += (guint64) waited;
      self->stats.waits[belay_pool_bucket (waited)]++;
    }
  wait->group->passed = 0;
  turn->item = item;
  belay_line_serve (turn, outcome, &todo->served);
  note_gone (turn, todo);
}

void
belay_pool_left (BelayTurn *turn, BelayPoolTodo *todo)
{
  note_gone (turn, todo);
}

gsize
belay_pool_ticket_of (BelayPoolGroup *group, guint n)
{
  BelayTurn *turn = group->line.first;

  while (n-- > 0)
    turn = turn->next;
  return belay_pool_wait_of (turn)->ticket;
}

BelayPoolGroup *
belay_pool_first_group (BelayPool *self)
{
  BelayPoolGroup *found = NULL;

  for (BelayPoolGroup *group = self->waiting; group != NULL; group = group->next_waiting)
    if (group->line.first != NULL && (found == NULL || belay_pool_ticket_of (group, 0) < belay_pool_ticket_of (found, 0)))
      found = group;
  return found;
}

/* --- covering who waits --- */

static BelayPoolGroup *
first_uncovered (BelayPool *self)
{
  BelayPoolGroup *found = NULL;

  for (BelayPoolGroup *group = self->waiting; group != NULL; group = group->next_waiting)
    if (group->line.n > group->promised &&
        (found == NULL || belay_pool_ticket_of (group, group->promised) < belay_pool_ticket_of (found, found->promised)))
      found = group;
  return found;
}

/* The newest idle one of the group: lent, or checked first. FALSE: there is none. */
static gboolean
cover_by_idle (BelayPoolGroup *group, gint64 now, BelayPoolTodo *todo)
{
  BelaySlot *slot = group->newest;
  BelayTurn *turn = group->line.first;

  if (slot == NULL)
    return FALSE;
  if (belay_slot_why_old (slot, now) != 0)
    {
      belay_slot_from_idle (slot, BELAY_SLOT_CLOSING);
      belay_slot_close (slot, BELAY_POOL_EXPIRED, BELAY_REASON_OK, todo);
    }
  else if (now < slot->fresh_until)
    {
      belay_slot_from_idle (slot, BELAY_SLOT_USED);
      belay_pool_serve (turn, BELAY_TURN_SERVED, belay_slot_lend (slot, turn->fiber, belay_pool_wait_of (turn)->site, now, todo),
                        now, todo);
    }
  else
    {
      belay_slot_from_idle (slot, BELAY_SLOT_CHECKING);
      belay_slot_start_job (slot, todo);
      group->promised++;
    }
  return TRUE;
}

/* FALSE: there may be no more. */
static gboolean
cover_by_new (BelayPoolGroup *group, BelayPoolTodo *todo)
{
  BelayPool *self = group->pool;
  BelaySlot *slot;

  if (belay_pool_total (self) + todo->n_needed >= self->limit)
    return FALSE;
  slot = belay_slot_take_spare (self, group, todo);
  if (slot != NULL)
    belay_slot_start_job (slot, todo);
  group->promised++; /* without a slot: those that are brought are dispatched again */
  return TRUE;
}

static void
cover_those_who_wait (BelayPool *self, gint64 now, BelayPoolTodo *todo)
{
  guint total = belay_pool_total (self), excess = total > self->limit ? total - self->limit : 0;
  guint making_room = self->n_ending > excess ? self->n_ending - excess : 0; /* the others bring it down to the limit */
  BelayPoolGroup *group;

  for (group = self->waiting; group != NULL; group = group->next_waiting)
    group->promised = group->n_coming;
  while ((group = first_uncovered (self)) != NULL)
    {
      if (cover_by_idle (group, now, todo))
        continue;
      if (belay_pool_group_is_full (group))
        {
          group->promised = G_MAXUINT;
          continue;
        }
      if (cover_by_new (group, todo))
        continue;
      if (making_room > 0)
        {
          making_room--;
          group->promised++;
        }
      else if (self->oldest != NULL && self->oldest->group != group && excess <= self->n_ending)
        {
          BelaySlot *slot = self->oldest;

          belay_slot_from_idle (slot, BELAY_SLOT_CLOSING);
          belay_slot_close (slot, BELAY_POOL_EVICTED, BELAY_REASON_OK, todo);
          group->promised++;
        }
      else
        {
          group->promised = G_MAXUINT;
        }
    }
}

/* --- the minimum --- */

/* How many there are to be, whether somebody waits or not. */
static guint
target (BelayPool *self)
{
  guint n = self->warm ? self->min : 0;

  for (BelayTurn *turn = self->warmers.first; turn != NULL; turn = turn->next)
    n = MAX (n, (guint) turn->need);
  return MIN (n, self->max);
}

/* The oldest idle one that has a key. */
static BelaySlot *
oldest_with_key (BelayPool *self)
{
  BelaySlot *slot = self->oldest;

  while (slot != NULL && slot->group == &self->own)
    slot = slot->newer;
  return slot;
}

/* What is asked for by somebody who waits for it makes what has keys give way, and the minimum does not. */
static void
refill (BelayPool *self, gint64 now, BelayPoolTodo *todo)
{
  BelayPoolGroup *group = &self->own;
  guint n = target (self);
  BelaySlot *old;

  if (G_LIKELY (group->n_total - group->n_ending >= n))
    return;
  if (now < self->refill_after && self->warmers.first == NULL)
    {
      if (self->refill_after < self->due)
        belay_pool_look_at (self, self->refill_after, todo);
      return;
    }
  while (group->n_total - group->n_ending + todo->n_needed < n)
    {
      guint total = belay_pool_total (self);

      if (total - self->n_ending + todo->n_needed < self->max)
        {
          if (!cover_by_new (group, todo))
            return; /* what ends makes room */
        }
      else if (self->warmers.first != NULL && (old = oldest_with_key (self)) != NULL)
        {
          belay_slot_from_idle (old, BELAY_SLOT_CLOSING);
          belay_slot_close (old, BELAY_POOL_EVICTED, BELAY_REASON_OK, todo);
        }
      else
        {
          return;
        }
    }
}

void
belay_pool_recall_warmers (BelayPool *self, BelayPoolTodo *todo)
{
  for (BelayTurn *turn = self->warmers.first; turn != NULL;)
    {
      BelayTurn *next = turn->next;

      if (turn->need > self->max)
        belay_line_serve (turn, BELAY_POOL_TURN_AGAIN, &todo->served);
      turn = next;
    }
}

void
belay_pool_tell_warmers (BelayPool *self, BelayPoolFailure *failure, BelayPoolTodo *todo)
{
  gint64 now;

  for (BelayTurn *turn = self->warmers.first; turn != NULL;)
    {
      BelayTurn *next = turn->next;

      if (failure != NULL)
        {
          turn->item = belay_pool_failure_ref (failure);
          belay_line_serve (turn, BELAY_POOL_TURN_FAILED, &todo->served);
        }
      else if (self->own.n_total - self->own.n_ending - self->own.n_coming >= (guint) turn->need)
        {
          belay_line_serve (turn, BELAY_TURN_SERVED, &todo->served);
        }
      turn = next;
    }
  if (failure == NULL)
    {
      self->refill_delay = 0;
      return;
    }
  now = belay_now ();
  self->refill_delay = self->refill_delay == 0 ? REFILL_DELAY : MIN (self->refill_delay * 2, REFILL_DELAY_MAX);
  self->refill_after = now + self->refill_delay;
}

/* Idle ones that are too many go, the oldest first; those beyond the maximum only if nobody waits. */
static void
trim (BelayPool *self, BelayPoolTodo *todo)
{
  guint limit = self->waiting == NULL ? self->max : self->limit;

  while (self->oldest != NULL && belay_pool_total (self) - self->n_ending > limit)
    {
      BelaySlot *slot = self->oldest;

      belay_slot_from_idle (slot, BELAY_SLOT_CLOSING);
      belay_slot_close (slot, BELAY_POOL_EVICTED, BELAY_REASON_OK, todo);
    }
}

void
belay_pool_dispatch (BelayPool *self, gint64 now, BelayPoolTodo *todo)
{
  if (G_UNLIKELY (self->state != BELAY_POOL_RUNNING))
    return;
  if (G_UNLIKELY (belay_pool_total (self) - self->n_ending > self->max))
    trim (self, todo);
  if (G_UNLIKELY (self->suspended))
    return;
  if (self->waiting != NULL)
    cover_those_who_wait (self, now, todo);
  if (G_UNLIKELY (self->min > 0 || self->warmers.first != NULL))
    refill (self, now, todo);
  if (G_UNLIKELY (self->n_blocked > 0))
    belay_pool_tell_deadlocks (self, now, todo);
}
