/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Gates: what an event and a latch are made of. See gate.c. */
#pragma once

#include "run/line.h"

typedef struct _BelayGate BelayGate;

enum { BELAY_GATE_OPEN = 1, BELAY_GATE_CLOSED = 2 };

/* The first member of its owner, whose memory it frees. */
struct _BelayGate
{
  atomic_int  refs;
  atomic_uint state; /* of the two above; changed under the lock, read without */
  atomic_flag lock;
  BelayLine   line;
  const char *name;  /* "event": what errors call it */
};

/* One reference, no flag; @owner is new memory. */
void         belay_gate_init       (gpointer owner, const BelayLineClass *klass, const char *name);
gpointer     belay_gate_ref        (gpointer owner);
void         belay_gate_unref      (gpointer owner);

static inline gboolean
belay_gate_is_open (BelayGate *gate)
{
  return (atomic_load_explicit (&gate->state, memory_order_acquire) & BELAY_GATE_OPEN) != 0;
}

/* Under the lock: all who wait are served; the caller wakes them. */
void         belay_gate_open_locked (BelayGate *gate, BelayTurn **served);
/* Nobody passes any more; those who wait are told. */
void         belay_gate_close      (BelayGate *gate);
/* In a fiber: waits until it is open. @function: what the caller called. */
gboolean     belay_gate_wait       (BelayGate *gate, const char *function, GError **error, const char *site);
BelayFuture *belay_gate_wait_async (BelayGate *gate);
