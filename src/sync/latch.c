/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Latch: a count that goes down to zero, and who waits for that. A gate (gate.c) that opens once.
 *
 * Invariant: the gate is open exactly when `count` is 0, unless it was closed before. Both change under the gate's lock.
 */
#include "sync/gate.h"

struct _BelayLatch
{
  BelayGate   gate; /* first */
  atomic_uint count;
};

static void describe (BelayLine *line, GString *text);
static const BelayLineClass line_class = { "a latch to open", describe };

G_DEFINE_BOXED_TYPE (BelayLatch, belay_latch, belay_latch_ref, belay_latch_unref)

static void
describe (BelayLine *line, GString *text)
{
  BelayLatch *self = (BelayLatch *) ((char *) line - G_STRUCT_OFFSET (BelayLatch, gate.line));

  g_string_append_printf (text, " (%u to go)", atomic_load (&self->count));
}

BelayLatch *
belay_latch_new (guint count)
{
  BelayLatch *self = g_new (BelayLatch, 1);

  belay_gate_init (self, &line_class, "latch");
  atomic_init (&self->count, count);
  if (count == 0)
    atomic_init (&self->gate.state, BELAY_GATE_OPEN);
  return self;
}

BelayLatch *
belay_latch_ref (BelayLatch *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_gate_ref (self);
}

void
belay_latch_unref (BelayLatch *self)
{
  g_return_if_fail (self != NULL);
  belay_gate_unref (self);
}

guint
belay_latch_get_count (BelayLatch *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return atomic_load_explicit (&self->count, memory_order_acquire);
}

gboolean
belay_latch_count_down (BelayLatch *self, guint n)
{
  BelayTurn *served = NULL;
  guint count;

  g_return_val_if_fail (self != NULL, FALSE);

  belay_spin_lock (&self->gate.lock);
  count = atomic_load_explicit (&self->count, memory_order_relaxed);
  if (G_LIKELY (n <= count))
    {
      atomic_store_explicit (&self->count, count - n, memory_order_release);
      if (count == n)
        belay_gate_open_locked (&self->gate, &served);
    }
  belay_spin_unlock (&self->gate.lock);
  belay_turns_wake (served);
  if (G_LIKELY (n <= count))
    return TRUE;
  g_critical ("belay_latch_count_down: %u is more than the latch's count, which is %u", n, count);
  return FALSE;
}

void
belay_latch_close (BelayLatch *self)
{
  g_return_if_fail (self != NULL);
  belay_gate_close (&self->gate);
}

gboolean
belay_latch_wait_at (BelayLatch *self, GError **error, const char *site)
{
  g_return_val_if_fail (self != NULL, FALSE);
  return belay_gate_wait (&self->gate, "belay_latch_wait", error, site);
}

gboolean
(belay_latch_wait) (BelayLatch *self, GError **error)
{
  return belay_latch_wait_at (self, error, NULL);
}

BelayFuture *
belay_latch_wait_async (BelayLatch *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_gate_wait_async (&self->gate);
}
