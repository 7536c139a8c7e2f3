/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Event: a flag that can be waited for. A gate (gate.c) that is opened and shut at will.
 *
 * Setting it serves all who wait at that moment. So a set that is followed by a clear at once is a pulse that nobody who waited
 * misses, and a clear never takes anything from who was served.
 */
#include "sync/gate.h"

struct _BelayEvent
{
  BelayGate gate; /* first */
};

static const BelayLineClass line_class = { "an event to be set", NULL };

G_DEFINE_BOXED_TYPE (BelayEvent, belay_event, belay_event_ref, belay_event_unref)

BelayEvent *
belay_event_new (void)
{
  BelayEvent *self = g_new (BelayEvent, 1);

  belay_gate_init (self, &line_class, "event");
  return self;
}

BelayEvent *
belay_event_ref (BelayEvent *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_gate_ref (self);
}

void
belay_event_unref (BelayEvent *self)
{
  g_return_if_fail (self != NULL);
  belay_gate_unref (self);
}

void
belay_event_set (BelayEvent *self)
{
  BelayTurn *served = NULL;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->gate.lock);
  belay_gate_open_locked (&self->gate, &served);
  belay_spin_unlock (&self->gate.lock);
  belay_turns_wake (served);
}

void
belay_event_clear (BelayEvent *self)
{
  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->gate.lock);
  atomic_fetch_and_explicit (&self->gate.state, ~(guint) BELAY_GATE_OPEN, memory_order_relaxed);
  belay_spin_unlock (&self->gate.lock);
}

gboolean
belay_event_is_set (BelayEvent *self)
{
  g_return_val_if_fail (self != NULL, FALSE);
  return belay_gate_is_open (&self->gate);
}

void
belay_event_close (BelayEvent *self)
{
  g_return_if_fail (self != NULL);
  belay_gate_close (&self->gate);
}

gboolean
belay_event_wait_at (BelayEvent *self, GError **error, const char *site)
{
  g_return_val_if_fail (self != NULL, FALSE);
  return belay_gate_wait (&self->gate, "belay_event_wait", error, site);
}

gboolean
(belay_event_wait) (BelayEvent *self, GError **error)
{
  return belay_event_wait_at (self, error, NULL);
}

BelayFuture *
belay_event_wait_async (BelayEvent *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return belay_gate_wait_async (&self->gate);
}
