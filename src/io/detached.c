/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Detached jobs: what must happen whether or not anybody waits for it, such as ends by force.
 *
 * An ordinary job is taken back when its future is dropped before it began, and is not even started by a fiber that is
 * cancelled. A detached one is neither.
 *
 * Invariants.
 *  1. A detached job holds its own future until it is over: that interest keeps it from being taken back.
 *  2. The record has two owners, the job and the call that submits it, since the job may be over before the call knows
 *     the future. Whoever is last frees both.
 *  3. It counts as pending until it is over.
 *  4. The call shields itself: what it starts is an obligation of the library, not of the calling fiber.
 */
#include "io/detached.h"
#include "run/fiber.h"

typedef struct
{
  BelayPending   pending;
  const char    *what;
  int            refs;
  BelayFuture   *future;
  BelayValueFunc func;
  gpointer       data;
  GDestroyNotify destroy;
} Detached;

static void
describe (BelayPending *pending, gpointer home, GPtrArray *lines)
{
  g_ptr_array_add (lines, g_strdup (((Detached *) pending)->what));
}

static BelayPendingKind detached_jobs = { .describe = describe };

static gpointer
detached_run (gpointer data, GError **error)
{
  Detached *self = data;

  return self->func (self->data, error);
}

static void
detached_unref (gpointer data)
{
  Detached *self = data;

  if (__atomic_fetch_sub (&self->refs, 1, __ATOMIC_ACQ_REL) != 1)
    return;
  belay_pending_forget (&detached_jobs, &self->pending);
  self->destroy (self->data);
  belay_future_unref (self->future);
  g_free (self);
  belay_pending_add (-1);
}

void
belay_detach (const char *what, BelaySerial *queue, BelayValueFunc func, gpointer data, GDestroyNotify destroy)
{
  belay_auto (BelayShield) shield = belay_in_fiber () ? belay_shield () : NULL;
  Detached *self = g_new (Detached, 1);

  *self = (Detached) { .what = what, .refs = 2, .func = func, .data = data, .destroy = destroy };
  belay_pending_begin (&detached_jobs, &self->pending); /* the end of the program waits for it */
  self->future = queue != NULL ? belay_serial_run_owned (queue, detached_run, self, detached_unref, NULL)
                               : belay_thread_run_owned (detached_run, self, detached_unref, NULL);
  detached_unref (self);
}
