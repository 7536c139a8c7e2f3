/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slots of a pool: how each goes from state to state, and the counts with it. See pool.h. All of it is under the lock.
 *
 * Idle ones are in two lists by age, the pool's and the group's: the newest of a group is lent next; the oldest of the
 * pool is the first that grows too old, or that gives way.
 */
#include "sync/pool.h"

static inline guint *
count_of (BelayPool *self, BelaySlotState state)
{
  static guint none;

  switch (state)
    {
    case BELAY_SLOT_OPENING:
    case BELAY_SLOT_CHECKING:
      return &self->n_opening;
    case BELAY_SLOT_RETURNING:
    case BELAY_SLOT_CLOSING:
      return &self->n_closing;
    case BELAY_SLOT_USED:
      return &self->n_used;
    case BELAY_SLOT_IDLE:
      return &self->n_idle;
    case BELAY_SLOT_STUCK:
      return &self->n_stuck;
    case BELAY_SLOT_SPARE:
    default:
      return &none;
    }
}

static inline gboolean
is_coming (BelaySlotState state)
{
  return state == BELAY_SLOT_OPENING || state == BELAY_SLOT_CHECKING;
}

static inline gboolean
counts (BelaySlotState state)
{
  return state != BELAY_SLOT_SPARE && state != BELAY_SLOT_STUCK;
}

void
belay_slot_set_state (BelaySlot *slot, BelaySlotState state)
{
  BelayPool *self = slot->pool;
  BelayPoolGroup *group = slot->group;

  if (slot->state != BELAY_SLOT_SPARE)
    --*count_of (self, slot->state);
  if (state != BELAY_SLOT_SPARE)
    ++*count_of (self, state);
  group->n_coming += (guint) is_coming (state) - (guint) is_coming (slot->state);
  group->n_ending += (guint) (state == BELAY_SLOT_CLOSING) - (guint) (slot->state == BELAY_SLOT_CLOSING);
  self->n_ending += (guint) (state == BELAY_SLOT_CLOSING) - (guint) (slot->state == BELAY_SLOT_CLOSING);
  group->n_total += (guint) counts (state) - (guint) counts (slot->state);
  slot->state = (guint8) state;
}

BelaySlot *
belay_slot_take_spare (BelayPool *self, BelayPoolGroup *group, BelayPoolTodo *todo)
{
  BelaySlot *slot = self->spare;

  if (G_UNLIKELY (slot == NULL))
    {
      todo->n_needed++;
      return NULL;
    }
  self->spare = slot->next;
  slot->group = group;
  group->n_slots++;
  slot->generation = group->generation;
  slot->n_uses = 0;
  slot->expires = G_MAXINT64;
  slot->reason = BELAY_REASON_OK;
  slot->why = 0;
  slot->broken = slot->revoked = slot->forcing = slot->freed_late = slot->told = FALSE;
  belay_slot_set_state (slot, BELAY_SLOT_OPENING);
  self->stats.peak = MAX (self->stats.peak, belay_pool_total (self));
  return slot;
}

void
belay_slot_to_spare (BelaySlot *slot, BelayPoolTodo *todo)
{
  BelayPool *self = slot->pool;
  BelayPoolGroup *group = slot->group;

  belay_slot_set_state (slot, BELAY_SLOT_SPARE);
  group->n_slots--;
  slot->group = NULL;
  slot->resource = NULL;
  slot->next = self->spare;
  self->spare = slot;
  belay_pool_group_check (group, todo);
  belay_pool_check_over (self, todo);
}

/* --- idle ones --- */

void
belay_slot_to_idle (BelaySlot *slot, gint64 now, BelayPoolTodo *todo)
{
  BelayPool *self = slot->pool;
  BelayPoolGroup *group = slot->group;
  gint64 until = slot->expires;

  belay_slot_set_state (slot, BELAY_SLOT_IDLE);
  slot->since = now;
  slot->older = self->newest;
  slot->newer = NULL;
  if (self->newest != NULL)
    self->newest->newer = slot;
  else
    self->oldest = slot;
  self->newest = slot;
  slot->older_of_key = group->newest;
  slot->newer_of_key = NULL;
  if (group->newest != NULL)
    group->newest->newer_of_key = slot;
  else
    group->oldest = slot;
  group->newest = slot;

  if (G_UNLIKELY (self->ages))
    {
      until = MIN (until, belay_pool_later (now, self->options.max_idle_time));
      if (until < self->due)
        belay_pool_look_at (self, until, todo);
    }
  slot->fresh_until = MIN (until, belay_pool_later (now, self->options.validate_after));
}

void
belay_slot_from_idle (BelaySlot *slot, BelaySlotState state)
{
  BelayPool *self = slot->pool;
  BelayPoolGroup *group = slot->group;

  if (slot->newer != NULL)
    slot->newer->older = slot->older;
  else
    self->newest = slot->older;
  if (slot->older != NULL)
    slot->older->newer = slot->newer;
  else
    self->oldest = slot->newer;
  if (slot->newer_of_key != NULL)
    slot->newer_of_key->older_of_key = slot->older_of_key;
  else
    group->newest = slot->older_of_key;
  if (slot->older_of_key != NULL)
    slot->older_of_key->newer_of_key = slot->newer_of_key;
  else
    group->oldest = slot->newer_of_key;
  belay_slot_set_state (slot, state);
}

/* --- jobs --- */

void
belay_slot_start_job (BelaySlot *slot, BelayPoolTodo *todo)
{
  BelayPool *self = slot->pool;

  slot->overdue = FALSE;
  slot->deadline = G_MAXINT64;
  self->holds++; /* the job's */
  slot->next = NULL;
  if (todo->jobs == NULL)
    todo->last_job = &todo->jobs;
  *todo->last_job = slot;
  todo->last_job = &slot->next;
}

static void
count_end (BelayPool *self, guint why)
{
  switch (why)
    {
    case BELAY_POOL_EXPIRED:
      self->stats.expired++;
      break;
    case BELAY_POOL_EVICTED:
      self->stats.evicted++;
      break;
    case BELAY_POOL_BROKEN:
      self->stats.broken++;
      break;
    default:
      break;
    }
}

void
belay_slot_close (BelaySlot *slot, guint why, BelayReason reason, BelayPoolTodo *todo)
{
  count_end (slot->pool, why);
  slot->why = (guint8) why;
  slot->reason = (guint8) reason;
  if (slot->state != BELAY_SLOT_CLOSING)
    belay_slot_set_state (slot, BELAY_SLOT_CLOSING);
  if (slot->job == NULL)
    belay_slot_start_job (slot, todo);
}

/* --- those that are lent, and those that come back --- */

gpointer
belay_slot_lend (BelaySlot *slot, BelayFiber *fiber, const char *site, gint64 now, BelayPoolTodo *todo)
{
  BelayPool *self = slot->pool;

  if (slot->state != BELAY_SLOT_USED)
    belay_slot_set_state (slot, BELAY_SLOT_USED);
  slot->lends++;
  slot->n_uses++;
  slot->since = now;
  slot->holder = fiber;
  slot->holder_site = fiber != NULL ? fiber->site : NULL;
  slot->site = site;
  slot->reason = BELAY_REASON_OK;
  self->stats.acquired++;
  if (G_UNLIKELY (self->options.held_long != G_MAXINT64))
    {
      slot->told = FALSE;
      if (belay_pool_later (now, self->options.held_long) < self->due)
        belay_pool_look_at (self, belay_pool_later (now, self->options.held_long), todo);
    }
  return &slot->heads[slot->lends % BELAY_POOL_HEADS];
}

guint
belay_slot_why_old (BelaySlot *slot, gint64 now)
{
  BelayPool *self = slot->pool;

  if (slot->generation != slot->group->generation || now >= slot->expires ||
      (self->options.max_uses != 0 && slot->n_uses >= self->options.max_uses))
    return BELAY_POOL_EXPIRED;
  return 0;
}

/* The group whose first has waited longest, of those for which nothing is on its way, and which could use room. */
static BelayPoolGroup *
first_in_need (BelayPool *self)
{
  BelayPoolGroup *found = NULL;

  for (BelayPoolGroup *group = self->waiting; group != NULL; group = group->next_waiting)
    if (group->line.n > group->n_coming && !belay_pool_group_is_full (group) &&
        (found == NULL || belay_pool_ticket_of (group, 0) < belay_pool_ticket_of (found, 0)))
      found = group;
  return found;
}

/* Somebody who waits for another key has been passed over often enough: then this one makes room. */
static gboolean
must_make_room (BelayPoolGroup *group)
{
  BelayPool *self = group->pool;
  BelayPoolGroup *first;

  if (G_LIKELY (!self->keyed) || belay_pool_total (self) < self->limit || self->n_ending > 0)
    return FALSE;
  first = first_in_need (self);
  if (first == NULL || belay_pool_ticket_of (group, 0) < belay_pool_ticket_of (first, 0) || first == group)
    return FALSE;
  if (first->passed++ < BELAY_POOL_PASSES)
    return FALSE;
  first->passed = 0;
  return TRUE;
}

void
belay_slot_available (BelaySlot *slot, gint64 now, BelayPoolTodo *todo)
{
  BelayPool *self = slot->pool;
  BelayPoolGroup *group = slot->group;
  guint why = belay_slot_why_old (slot, now);

  if (G_UNLIKELY (self->state != BELAY_POOL_RUNNING || why != 0))
    {
      belay_slot_close (slot, why, BELAY_REASON_OK, todo);
    }
  else if (group->line.first != NULL && !self->suspended && belay_pool_total (self) - self->n_ending <= self->limit)
    {
      BelayTurn *turn = group->line.first;

      if (G_UNLIKELY (must_make_room (group)))
        {
          belay_slot_close (slot, BELAY_POOL_EVICTED, BELAY_REASON_OK, todo);
          return;
        }
      belay_pool_serve (turn, BELAY_TURN_SERVED,
                        belay_slot_lend (slot, turn->fiber, belay_pool_wait_of (turn)->site, now, todo), now, todo);
    }
  else if (belay_pool_total (self) - self->n_ending > self->max &&
           (self->waiting == NULL || belay_pool_total (self) > self->limit))
    {
      belay_slot_close (slot, BELAY_POOL_EVICTED, BELAY_REASON_OK, todo);
    }
  else
    {
      belay_slot_to_idle (slot, now, todo);
    }
}
