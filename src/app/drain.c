/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The drain: the end of a program waits for what nobody else waits for.
 *
 * Releases that were scheduled, fibers that no scope owns, jobs that own their data and whose waiter has left, ends by
 * force: all that is pending (run/pending.c) is given one bound together, and the main loop of the default context turns
 * until nothing is left or the time is up. What is left then is told on stderr, item by item with its site, and *cut off*:
 * fibers are cancelled, releases forced, what had not begun is abandoned. That has a moment more, GRACE, to happen.
 *
 * What the library keeps open though nobody uses it, an idle BelayShared, is closed at the beginning, and again whenever nothing else
 * is left: what was pending may have used it.
 *
 * Invariants
 *   1. One drain at a time, on the thread that iterates the default context, outside of fibers.
 *   2. Its bound is real time, whatever the clock of fibers is, and whatever else is ready in that context.
 */
#include "app/drain.h"
#include "scope/scope-private.h"
#include "sync/shared.h"

#include <stdio.h>

#define GRACE (G_USEC_PER_SEC / 2)

static GSource *limit; /* of the drain that goes on */

static gboolean
on_limit (gpointer data)
{
  *(gboolean *) data = TRUE;
  return G_SOURCE_REMOVE;
}

static gboolean
is_drained (BelayContext *context)
{
  return belay_get_n_pending () == 0 && !belay_context_has_items (context) && !belay_shared_close_idle (NULL);
}

/* TRUE when nothing is left. @microseconds < 0: without a bound. */
static gboolean
turn_until_drained (BelayContext *context, gint64 microseconds)
{
  gboolean timed_out = microseconds == 0;

  belay_shared_close_idle (NULL);
  if (microseconds != 0)
    {
      limit = g_timeout_source_new (0);
      g_source_set_priority (limit, G_MININT);
      g_source_set_ready_time (limit, microseconds < 0 ? -1 : g_get_monotonic_time () + microseconds);
      g_source_set_callback (limit, on_limit, &timed_out, NULL);
      g_source_attach (limit, NULL);
      while (!is_drained (context) && !timed_out)
        g_main_context_iteration (NULL, TRUE);
      g_source_destroy (limit);
      g_clear_pointer (&limit, g_source_unref);
    }
  else
    {
      while (!is_drained (context) && g_main_context_iteration (NULL, FALSE))
        ;
    }
  return belay_get_n_pending () == 0;
}

static void
cut_off (BelayContext *context)
{
  gint64 instant = atomic_load (&belay_hurry_instant);

  belay_pending_cancel ();
  belay_hurry (MIN (instant, belay_now ()));
  turn_until_drained (context, GRACE);
  belay_hurry (instant);
}

void
belay_drain_hurry (gint64 microseconds)
{
  gint64 until = g_get_monotonic_time () + microseconds;

  if (limit != NULL && (g_source_get_ready_time (limit) < 0 || g_source_get_ready_time (limit) > until))
    g_source_set_ready_time (limit, until);
}

guint
belay_drain (gint64 milliseconds)
{
  g_autoptr (GPtrArray) lines = NULL;
  BelayContext *context;
  gint64 begin = g_get_monotonic_time ();

  if (belay_forked ())
    return 0;
  if (belay_in_fiber ())
    {
      g_critical ("belay_drain: called in a fiber, which it would wait for; belay_when_drained() is for fibers");
      return belay_get_n_pending ();
    }
  if (!g_main_context_acquire (NULL))
    {
      g_critical ("belay_drain: another thread runs the default main context");
      return belay_get_n_pending ();
    }
  context = belay_context_get_for_main (NULL);
  if (!turn_until_drained (context, milliseconds < 0 ? -1 : MIN (milliseconds, G_MAXINT64 / 4000) * 1000))
    {
      lines = belay_pending_describe (context);
      for (guint i = 0; i < lines->len; i++)
        g_printerr ("belay: not drained: %s, %.1f s\n", (char *) lines->pdata[i],
                    (double) (g_get_monotonic_time () - begin) / G_USEC_PER_SEC);
      cut_off (context);
    }
  g_main_context_release (NULL);
  return lines != NULL ? MAX (lines->len, 1) : 0;
}

/* The task that belongs to nobody and that the fiber is, or is a part of; NULL: there is none that counts. */
static gpointer
find_root (BelayFiber *fiber)
{
  BelayTask *task = (BelayTask *) fiber;

  for (BelayLimit *outer = fiber->outer; outer != NULL; outer = outer->outer)
    if (outer->fiber != NULL)
      task = (BelayTask *) outer->fiber;
  return task->scope == NULL ? task : NULL;
}

BelayFuture *
belay_when_drained (void)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayFuture *refused = belay_fiber_refuse ();

  if (refused != NULL)
    return refused;
  return belay_pending_future (fiber != NULL ? find_root (fiber) : NULL);
}
