/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a pool tells of itself: its counts, its state in words, and the errors that carry those.
 *
 * Words are made of a copy: under the lock what is needed of each slot is copied into memory that was made before.
 */
#include "sync/pool.h"

#define HOLDERS 8 /* that are named */

typedef struct
{
  const char *site, *holder_site;
  gint64      since;
} Holder;

typedef struct
{
  guint             used, idle, opening, closing, stuck, waiting, max;
  BelayPoolState    state;
  gboolean          suspended;
  BelayPoolFailure *failure; /* a reference; or NULL */
  Holder            holders[HOLDERS];
  guint             n_holders;
} Snapshot;

void
belay_pool_get_stats (BelayPool *self, BelayPoolStats *ret_stats)
{
  g_return_if_fail (self != NULL && ret_stats != NULL);

  belay_pool_lock (self);
  *ret_stats = self->stats;
  ret_stats->idle = self->n_idle;
  ret_stats->used = self->n_used;
  ret_stats->opening = self->n_opening;
  ret_stats->closing = self->n_closing;
  ret_stats->stuck = self->n_stuck;
  ret_stats->waiting = self->n_waiting;
  ret_stats->max = self->max;
  belay_spin_unlock (&self->lock);
}

static void
take_snapshot (BelayPool *self, Snapshot *snapshot)
{
  belay_pool_lock (self);
  *snapshot = (Snapshot) { .used = self->n_used, .idle = self->n_idle, .opening = self->n_opening, .closing = self->n_closing,
                           .stuck = self->n_stuck, .waiting = self->n_waiting, .max = self->max,
                           .state = (BelayPoolState) self->state, .suspended = self->suspended };
  if (self->last_failure != NULL)
    snapshot->failure = belay_pool_failure_ref (self->last_failure);
  for (BelaySlot *slot = self->slots; slot != NULL && snapshot->n_holders < HOLDERS; slot = slot->next_of_all)
    if (slot->state == BELAY_SLOT_USED)
      snapshot->holders[snapshot->n_holders++] = (Holder) { slot->site, slot->holder_site, slot->since };
  belay_spin_unlock (&self->lock);
}

static const char *
name_of (const char *site)
{
  return site != NULL ? site : "?";
}

static void
describe_holders (const Snapshot *snapshot, GString *text)
{
  gint64 now = belay_now ();

  for (guint i = 0; i < snapshot->n_holders; i++)
    {
      const Holder *holder = &snapshot->holders[i];

      g_string_append (text, i == 0 ? "; held by " : ", ");
      if (holder->holder_site != NULL)
        g_string_append_printf (text, "the fiber from %s, ", holder->holder_site);
      g_string_append_printf (text, "acquired at %s %.1f s ago", name_of (holder->site),
                              (double) MAX (now - holder->since, 0) / G_USEC_PER_SEC);
    }
  if (snapshot->used > snapshot->n_holders)
    g_string_append_printf (text, " and %u more", snapshot->used - snapshot->n_holders);
}

static void
describe (const Snapshot *snapshot, GString *text)
{
  g_string_append_printf (text, "%u of %u in use, %u idle", snapshot->used, snapshot->max, snapshot->idle);
  if (snapshot->opening > 0)
    g_string_append_printf (text, ", %u being made", snapshot->opening);
  if (snapshot->closing > 0)
    g_string_append_printf (text, ", %u being ended", snapshot->closing);
  if (snapshot->stuck > 0)
    g_string_append_printf (text, ", %u stuck", snapshot->stuck);
  g_string_append_printf (text, ", %u waiting", snapshot->waiting);
  if (snapshot->state != BELAY_POOL_RUNNING)
    g_string_append (text, snapshot->state == BELAY_POOL_OVER ? ", closed" : ", closing");
  else if (snapshot->suspended)
    g_string_append (text, ", suspended");
  describe_holders (snapshot, text);
}

char *
belay_pool_describe (BelayPool *self)
{
  GString *text = g_string_new (NULL);
  Snapshot snapshot;

  g_return_val_if_fail (self != NULL, NULL);

  take_snapshot (self, &snapshot);
  describe (&snapshot, text);
  g_clear_pointer (&snapshot.failure, belay_pool_failure_unref);
  return g_string_free (text, FALSE);
}

static void
append_state (BelayPool *self, GString *text)
{
  g_autofree char *state = belay_pool_describe (self);

  g_string_append_printf (text, " (%s)", state);
}

/* All who wait are told of by the own group's line, which lives as long as the pool. */
void
belay_pool_describe_line (BelayLine *line, GString *text)
{
  append_state ((BelayPool *) ((char *) line - G_STRUCT_OFFSET (BelayPool, own.line)), text);
}

void
belay_pool_describe_closers (BelayLine *line, GString *text)
{
  append_state ((BelayPool *) ((char *) line - G_STRUCT_OFFSET (BelayPool, closers)), text);
}

GError *
belay_pool_late_error (BelayPool *self, gint64 waited, const char *site)
{
  g_autoptr (GString) text = g_string_new (NULL);
  Snapshot snapshot;
  GError *error;

  take_snapshot (self, &snapshot);
  describe (&snapshot, text);
  if (snapshot.failure != NULL)
    g_string_append_printf (text, "; the last one that could not be made: %s", snapshot.failure->error->message);
  error = g_error_new (G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "timed out%s%s after %.1f s, waiting for a resource of the %s: %s",
                       site != NULL ? " at " : "", site != NULL ? site : "", (double) MAX (waited, 0) / G_USEC_PER_SEC,
                       self->name, text->str);
  g_clear_pointer (&snapshot.failure, belay_pool_failure_unref);
  return error;
}

GError *
belay_pool_deadlock_error (BelayPool *self, const char *site)
{
  g_autoptr (GString) text = g_string_new (NULL);
  Snapshot snapshot;

  take_snapshot (self, &snapshot);
  describe_holders (&snapshot, text);
  g_clear_pointer (&snapshot.failure, belay_pool_failure_unref);
  return g_error_new (BELAY_ERROR, BELAY_ERROR_DEADLOCK, "waiting at %s for a resource of the %s would last for ever: all that "
                      "there may be are held by fibers that wait for one more, this fiber among them%s. Take what is needed at "
                      "once, or make the pool larger", name_of (site), self->name, text->str);
}

/* --- checks --- */

#ifdef G_DISABLE_ASSERT
void
belay_pool_check (BelayPool *self)
{
}
#else
void
belay_pool_check (BelayPool *self)
{
  guint n[BELAY_SLOT_USED + 1] = { 0 }, total = belay_pool_total (self);

  if (G_LIKELY (!belay_clock_virtual)) /* under test alone */
    return;
  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    n[slot->state]++;
  g_assert_cmpuint (n[BELAY_SLOT_IDLE], ==, self->n_idle);
  g_assert_cmpuint (n[BELAY_SLOT_USED], ==, self->n_used);
  g_assert_cmpuint (n[BELAY_SLOT_OPENING] + n[BELAY_SLOT_CHECKING], ==, self->n_opening);
  g_assert_cmpuint (n[BELAY_SLOT_RETURNING] + n[BELAY_SLOT_CLOSING], ==, self->n_closing);
  g_assert_cmpuint (n[BELAY_SLOT_CLOSING], ==, self->n_ending);
  g_assert_cmpuint (n[BELAY_SLOT_STUCK], ==, self->n_stuck);
  g_assert_cmpuint (total, <=, MAX (self->limit, self->checked)); /* a smaller maximum is never added to */
  self->checked = total;
}
#endif
