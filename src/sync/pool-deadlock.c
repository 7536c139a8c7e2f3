/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Deadlocks: who waits for a pool while he holds what others wait for, and they what he waits for.
 *
 * A fiber that gets in line marks what it holds as *blocked*: each of these slots points to its turn, until the turn is
 * seen to. While there are such marks each dispatch looks, since not only a new turn can close the circle: a smaller
 * maximum does, or a creation that finds no room when it is done.
 *
 * A slot gives *hope* to those who wait when it will be free without their help. That is any that counts and is not lent;
 * one whose holder does not stand in line, is not known, or is about to be interrupted; and one whose holder waits for
 * something that there is hope for. The last is found round by round, until a round finds no more. A waiter may hope for
 * the slots of its own key where no more of that key may be, else for any, or for room. Slots without hope are held by
 * fibers that wait for ever: the one among those that came last is told, and those who are left are looked at anew.
 */
#include "sync/pool.h"

void
belay_pool_block (BelayPool *self, BelayTurn *turn)
{
  if (G_LIKELY (self->n_used == 0))
    return;
  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    if (slot->state == BELAY_SLOT_USED && slot->holder == turn->fiber && slot->blocked == NULL)
      {
        slot->blocked = turn;
        self->n_blocked++;
      }
}

void
belay_pool_unblock (BelayPool *self, BelayTurn *turn)
{
  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    if (slot->blocked == turn)
      belay_slot_unblock (slot);
}

static inline gboolean
slot_counts (BelaySlot *slot)
{
  return slot->state != BELAY_SLOT_SPARE && slot->state != BELAY_SLOT_STUCK;
}

/* A fiber in line stands still, and its limits with it, while the lock is held. */
static gboolean
comes_by_itself (BelaySlot *slot)
{
  return slot->state != BELAY_SLOT_USED || slot->blocked == NULL || slot->blocked->line == NULL ||
         belay_limit_pending (slot->holder->stack->limit) != BELAY_REASON_OK;
}

static void
give_hope (BelaySlot *slot)
{
  slot->hope = TRUE;
  slot->group->hope = TRUE;
}

/* Whether what the holder of a slot waits for may come. */
static gboolean
may_hope (BelaySlot *slot, gboolean any)
{
  BelayPool *self = slot->pool;
  BelayPoolGroup *wanted = belay_pool_wait_of (slot->blocked)->group;

  if (belay_pool_group_is_full (wanted))
    return wanted->hope;
  return any || belay_pool_total (self) < self->limit;
}

/* One whose holder waits for ever, of those the one that came last; NULL: there is none. */
static BelaySlot *
find_hopeless (BelayPool *self)
{
  BelaySlot *found = NULL;
  gboolean any = FALSE, more = TRUE;

  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    if (slot_counts (slot))
      slot->group->hope = FALSE;
  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    {
      slot->hope = FALSE;
      if (!slot_counts (slot) || !comes_by_itself (slot))
        continue;
      give_hope (slot);
      any = TRUE;
    }
  while (more)
    {
      more = FALSE;
      for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
        if (slot_counts (slot) && !slot->hope && may_hope (slot, any))
          {
            give_hope (slot);
            any = more = TRUE;
          }
    }
  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    if (slot_counts (slot) && !slot->hope &&
        (found == NULL || belay_pool_wait_of (slot->blocked)->ticket > belay_pool_wait_of (found->blocked)->ticket))
      found = slot;
  return found;
}

void
belay_pool_tell_deadlocks (BelayPool *self, gint64 now, BelayPoolTodo *todo)
{
  BelaySlot *slot;

  if (self->options.max_per_key == 0 && (self->n_used < self->limit || self->n_blocked < self->n_used))
    return; /* there is room, or somebody has one who does not wait */
  while ((slot = find_hopeless (self)) != NULL)
    {
      self->stats.deadlocks++;
      self->holds++; /* the waiter's */
      belay_pool_serve (slot->blocked, BELAY_POOL_TURN_DEADLOCK, NULL, now, todo);
    }
}
