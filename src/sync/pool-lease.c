/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Leases: what is done with a resource that is lent, and how it comes back.
 *
 * A lease is one of its slot's heads, whose classes differ in their place only: so a lease leads to its slot, and says
 * which of the heads it is. Only that whose turn it is, of a slot that is USED, is in force; any other has been left
 * before. (One that was left, and its slot lent again a multiple of eight times since, cannot be told. It is a mistake of
 * the program that is then not found.)
 *
 * Coming back: a user who was interrupted while he had it, or whose block failed, leaves the resource in a state that nobody knows. It
 * must prove that it is sound, by reset, by validate, or both; where there is neither, it is destroyed. What is left in
 * the ordinary way is reset, where there is a reset, and else lent again at once.
 */
#include "sync/pool.h"

static void lease_leave (gpointer lease);
static gboolean lease_tell (gpointer lease, BelayReason reason, GError **error);

#define LEASE_CLASS { BELAY_TAG_INSTANT, "BelayLease", lease_tell, NULL, lease_leave, NULL }
const BelayPlainClass belay_lease_classes[BELAY_POOL_HEADS] = { LEASE_CLASS, LEASE_CLASS, LEASE_CLASS, LEASE_CLASS,
                                                                LEASE_CLASS, LEASE_CLASS, LEASE_CLASS, LEASE_CLASS };

static inline gboolean
is_in_force (BelaySlot *slot, guint head)
{
  return slot->state == BELAY_SLOT_USED && slot->lends % BELAY_POOL_HEADS == head;
}

static inline gboolean
is_lease (gpointer lease)
{
  gsize offset = (gsize) ((const char *) ((BelayPlain *) lease)->klass - (const char *) belay_lease_classes);

  return offset < sizeof belay_lease_classes;
}

static void
fail_left (const char *what)
{
  g_critical ("%s: the lease has been left before", what);
}

/* --- coming back --- */

/* Under the lock: it is lent no more. */
static inline void
end_use (BelaySlot *slot, gint64 now)
{
  BelayPool *self = slot->pool;
  gint64 held = MAX (now - slot->since, 0);

  self->stats.hold_time += (guint64) held;
  self->stats.holds[belay_pool_bucket (held)]++;
  if (G_UNLIKELY (slot->blocked != NULL))
    belay_slot_unblock (slot);
  slot->holder = NULL;
}

/* Under the lock, in RETURNING: what is done with it. */
static void
decide (BelaySlot *slot, BelayPoolVerdict verdict, gint64 now, BelayPoolTodo *todo)
{
  BelayPool *self = slot->pool;
  BelayReason reason = (BelayReason) slot->reason;
  gboolean in_doubt = reason >= BELAY_REASON_ERROR && verdict != BELAY_POOL_KEEP;
  guint why = belay_slot_why_old (slot, now);

  if (slot->broken || verdict == BELAY_POOL_DESTROY ||
      (in_doubt && self->options.reset == NULL && self->options.validate == NULL))
    {
      belay_slot_close (slot, BELAY_POOL_BROKEN, reason, todo);
    }
  else if (self->state != BELAY_POOL_RUNNING || why != 0)
    {
      belay_slot_close (slot, why, BELAY_REASON_OK, todo);
    }
  else if (self->options.reset != NULL || in_doubt)
    {
      if (!in_doubt)
        slot->reason = BELAY_REASON_OK;
      belay_slot_start_job (slot, todo);
    }
  else
    {
      belay_slot_available (slot, now, todo);
    }
}

/* Under the lock, in RETURNING, of a pool that was abandoned: ends it here. Leaves the lock. */
static void
end_revoked (BelaySlot *slot, BelayPoolTodo *todo)
{
  BelayPool *self = slot->pool;

  if (slot->forcing)
    {
      slot->freed_late = TRUE;
      belay_pool_unlock (self, todo);
      return;
    }
  if (!belay_pool_can_force (self))
    {
      belay_slot_close (slot, 0, BELAY_REASON_CANCELLED, todo);
      belay_pool_unlock (self, todo);
      return;
    }
  self->holds++;
  belay_pool_unlock (self, todo);
  belay_pool_free_resource (self, slot->resource);
  belay_pool_lock (self);
  self->stats.destroyed++;
  belay_slot_to_spare (slot, todo);
  belay_pool_let_go (self, todo);
  belay_pool_unlock (self, todo);
}

/* The lock is held, the slot is USED, and the lease in force. Leaves the lock. */
static G_NO_INLINE void
leave_slow (BelaySlot *slot, BelayReason reason, gint64 now)
{
  BelayPool *self = slot->pool;
  BelayPoolTodo todo = { NULL };
  BelayPoolVerdict verdict = BELAY_POOL_CHECK;

  end_use (slot, now);
  slot->reason = (guint8) MAX (reason, (BelayReason) slot->reason);
  belay_slot_set_state (slot, BELAY_SLOT_RETURNING);
  if (G_UNLIKELY (slot->revoked))
    {
      end_revoked (slot, &todo);
      return;
    }
  if (self->options.returned != NULL || self->options.watch != NULL)
    {
      BelayPoolTodo nothing = { NULL };

      self->holds++;
      belay_pool_unlock (self, &nothing);
      if (self->options.returned != NULL && !slot->broken)
        verdict = self->options.returned (slot->resource, (BelayReason) slot->reason, self->data);
      belay_pool_tell (self, BELAY_POOL_RETURNED, slot->resource, NULL);
      belay_pool_lock (self);
      self->holds--;
    }
  decide (slot, verdict, now, &todo);
  belay_pool_dispatch (self, now, &todo);
  belay_pool_unlock (self, &todo);
}

/* Of a fiber that was interrupted once: whether it is being, or was while it had this. */
static BelayReason
reason_of (BelaySlot *slot, BelayFiber *fiber)
{
  BelayReason reason = belay_limit_reason (fiber);

  if (reason >= BELAY_REASON_ERROR || slot->holder != fiber)
    return reason;
  return fiber->stack->interruptions != slot->interruptions ? BELAY_REASON_CANCELLED : BELAY_REASON_OK;
}

static void
lease_leave (gpointer lease)
{
  guint head;
  BelaySlot *slot = belay_slot_of_lease (lease, &head);
  BelayPool *self = slot->pool;
  BelayFiber *fiber = belay_fiber_self ();
  gint64 now = belay_clock_after_now ();
  gboolean interrupted = fiber != NULL && fiber->stack->observed;

  belay_pool_lock (self);
  if (G_UNLIKELY (!is_in_force (slot, head)))
    {
      belay_spin_unlock (&self->lock);
      fail_left ("a BelayLease");
      return;
    }
  if (G_LIKELY (!self->careful && !interrupted && slot->reason == BELAY_REASON_OK && !slot->broken && slot->blocked == NULL &&
                self->state == BELAY_POOL_RUNNING && self->waiting == NULL && belay_slot_why_old (slot, now) == 0 &&
                belay_pool_total (self) <= self->max))
    {
      BelayPoolTodo todo = { NULL };

      end_use (slot, now);
      belay_slot_to_idle (slot, now, &todo);
      if (G_LIKELY (!todo.look))
        belay_spin_unlock (&self->lock);
      else
        belay_pool_unlock (self, &todo);
      return;
    }
  leave_slow (slot, interrupted ? reason_of (slot, fiber) : BELAY_REASON_OK, now);
}

/* An instant guard's `close` is told why, when that is no success, before it is released. */
static gboolean
lease_tell (gpointer lease, BelayReason reason, GError **error)
{
  guint head;
  BelaySlot *slot = belay_slot_of_lease (lease, &head);

  belay_pool_lock (slot->pool);
  if (is_in_force (slot, head))
    slot->reason = (guint8) reason;
  belay_spin_unlock (&slot->pool->lock);
  return TRUE;
}

/* --- in between --- */

/* The slot of a lease in force, with the lock held; or NULL, reported. */
static BelaySlot *
lock_slot (gpointer lease, const char *what)
{
  guint head;
  BelaySlot *slot = belay_slot_of_lease (lease, &head);

  belay_pool_lock (slot->pool);
  if (G_LIKELY (is_in_force (slot, head)))
    return slot;
  belay_spin_unlock (&slot->pool->lock);
  fail_left (what);
  return NULL;
}

gpointer
belay_lease_get (BelayLease *lease)
{
  guint head;
  BelaySlot *slot;

  g_return_val_if_fail (lease != NULL && is_lease (lease), NULL);

  slot = belay_slot_of_lease (lease, &head);
  if (G_UNLIKELY (!is_in_force (slot, head)))
    {
      fail_left ("belay_lease_get");
      return NULL;
    }
  return G_UNLIKELY (__atomic_load_n (&slot->revoked, __ATOMIC_RELAXED) || belay_forked ()) ? NULL : slot->resource;
}

gpointer
belay_lease_check (BelayLease *lease, GError **error)
{
  gpointer resource = belay_lease_get (lease);

  if (resource != NULL)
    return resource;
  if (belay_forked ())
    belay_fail_forked ("belay_lease_check", error);
  else
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the pool was closed while its resource was in use");
  return NULL;
}

guint64
belay_lease_get_n_uses (BelayLease *lease)
{
  guint64 n_uses;
  BelaySlot *slot;

  g_return_val_if_fail (lease != NULL && is_lease (lease), 0);

  slot = lock_slot (lease, "belay_lease_get_n_uses");
  if (slot == NULL)
    return 0;
  n_uses = slot->n_uses;
  belay_spin_unlock (&slot->pool->lock);
  return n_uses;
}

void
belay_lease_break (BelayLease *lease)
{
  BelaySlot *slot;

  g_return_if_fail (lease != NULL && is_lease (lease));

  slot = lock_slot (lease, "belay_lease_break");
  if (slot == NULL)
    return;
  slot->broken = TRUE;
  belay_spin_unlock (&slot->pool->lock);
}

void
belay_lease_hand_over (BelayLease *lease)
{
  BelaySlot *slot;

  g_return_if_fail (lease != NULL && is_lease (lease));

  slot = lock_slot (lease, "belay_lease_hand_over");
  if (slot == NULL)
    return;
  if (slot->blocked != NULL)
    belay_slot_unblock (slot);
  slot->holder = NULL;
  belay_spin_unlock (&slot->pool->lock);
}

gpointer
belay_lease_detach (BelayLease **lease)
{
  BelayPoolTodo todo = { NULL };
  BelayPool *self;
  BelaySlot *slot;
  gpointer resource;
  gint64 now = belay_now ();

  g_return_val_if_fail (lease != NULL && *lease != NULL && is_lease (*lease), NULL);

  if (belay_forked ())
    {
      *lease = NULL;
      return NULL;
    }
  belay_leaks_let_go (*lease);
  slot = lock_slot (g_steal_pointer (lease), "belay_lease_detach");
  if (slot == NULL)
    return NULL;
  self = slot->pool;
  end_use (slot, now);
  if (G_UNLIKELY (slot->revoked))
    {
      belay_slot_set_state (slot, BELAY_SLOT_RETURNING);
      end_revoked (slot, &todo);
      return NULL;
    }
  self->holds++;
  resource = slot->resource;
  self->stats.detached++;
  belay_slot_to_spare (slot, &todo);
  belay_pool_dispatch (self, now, &todo);
  belay_pool_unlock (self, &todo);

  belay_pool_tell (self, BELAY_POOL_DETACHED, resource, NULL);
  todo = (BelayPoolTodo) { NULL };
  belay_pool_lock (self);
  belay_pool_let_go (self, &todo);
  belay_pool_unlock (self, &todo);
  return resource;
}
