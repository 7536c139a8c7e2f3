/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * belay_run: a whole program.
 *
 * The work is a fiber of the default context. The first SIGINT or SIGTERM cancels it, and it unwinds: its guards release
 * in order, nothing is cut short. A second signal ends the process at once. When the work has ended, releases and
 * detached work that are still under way are drained, for DRAIN at most. A first signal that comes in the drain finds
 * the work cancelled already, so to speak: what is left gets HURRY more. What has not ended then is counted on
 * stderr, and in the status.
 *
 * One run at a time, on the thread that owns the default context.
 */
#include "scope/scope-private.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <unistd.h>

#define DRAIN 10 /* seconds */
#define HURRY 1

typedef struct
{
  GMainLoop  *main_loop;
  BelayTask  *task;
  GSource    *limit;     /* of the drain */
  gint64      drain;     /* when that began */
  int         signal;    /* the first that came */
  gboolean    ended;     /* the work */
  gboolean    timed_out; /* the drain */
} Run;

static int exit_status = -1;

void
belay_run_set_exit_status (int status)
{
  g_return_if_fail (status >= 0 && status <= 255);
  exit_status = status;
}

static gboolean
on_signal (Run *self, int number)
{
  g_autofree char *reason = g_strdup_printf ("interrupted by %s", number == SIGINT ? "SIGINT" : "SIGTERM");

  if (self->signal != 0)
    _exit (128 + number);
  self->signal = number;
  if (!self->ended)
    belay_fiber_cancel (&self->task->fiber, reason);
  else if (self->limit != NULL)
    g_source_set_ready_time (self->limit, MIN (self->drain + DRAIN * G_USEC_PER_SEC,
                                               g_get_monotonic_time () + HURRY * G_USEC_PER_SEC));
  return G_SOURCE_CONTINUE;
}

static gboolean
on_sigint (gpointer data)
{
  return on_signal (data, SIGINT);
}

static gboolean
on_sigterm (gpointer data)
{
  return on_signal (data, SIGTERM);
}

static gboolean
on_drain_timeout (gpointer data)
{
  ((Run *) data)->timed_out = TRUE;
  return G_SOURCE_REMOVE;
}

static const char *
program_name (void)
{
  return g_get_prgname () != NULL ? g_get_prgname () : program_invocation_short_name;
}

static gboolean
is_drained (BelayContext *context)
{
  return belay_get_n_pending () == 0 && !belay_context_has_items (context);
}

/* How many seconds were not enough; 0 when nothing is left. */
static guint
drain (Run *self)
{
  BelayContext *context = belay_context_get_for_main (NULL);
  guint seconds;

  if (is_drained (context))
    return 0;
  self->drain = g_get_monotonic_time ();
  self->limit = g_timeout_source_new_seconds (DRAIN);
  g_source_set_callback (self->limit, on_drain_timeout, self, NULL);
  g_source_attach (self->limit, NULL);
  while (!is_drained (context) && !self->timed_out)
    g_main_context_iteration (NULL, TRUE);
  g_source_destroy (self->limit);
  g_clear_pointer (&self->limit, g_source_unref);
  seconds = (guint) ((g_get_monotonic_time () - self->drain + G_USEC_PER_SEC / 2) / G_USEC_PER_SEC);
  return belay_get_n_pending () == 0 ? 0 : MAX (seconds, 1);
}

typedef struct
{
  BelayWaiter waiter;
  Run        *run;
} End;

static void
on_end (BelayWaiter *waiter)
{
  Run *self = ((End *) waiter)->run;

  self->ended = TRUE;
  g_main_loop_quit (self->main_loop);
}

int
belay_run (BelayFunc func, gpointer data)
{
  Run self = { NULL };
  End end = { .waiter = { .notify = on_end }, .run = &self };
  g_autoptr (BelayFuture) future = NULL;
  g_autoptr (GError) error = NULL;
  guint sigint, sigterm, seconds;
  int status;

  g_return_val_if_fail (func != NULL, 1);
  if (belay_in_fiber ())
    {
      g_critical ("belay_run: called in a fiber, whose main loop is running already");
      return 1;
    }

  self.main_loop = g_main_loop_new (NULL, FALSE);
  self.task = belay_task_new (belay_context_get_for_main (NULL), NULL, func, NULL, data, NULL, NULL, "belay_run");
  future = &self.task->fiber.future;
  sigint = g_unix_signal_add (SIGINT, on_sigint, &self);
  sigterm = g_unix_signal_add (SIGTERM, on_sigterm, &self);
  belay_task_start_detached (self.task);
  if (belay_future_add_waiter (future, &end.waiter))
    g_main_loop_run (self.main_loop);

  status = belay_future_check (future, &error) ? MAX (exit_status, 0) : exit_status > 0 ? exit_status : 1;
  if (self.signal == 0 && error != NULL)
    g_printerr ("%s: %s\n", program_name (), error->message);
  seconds = drain (&self);
  if (seconds > 0)
    {
      g_printerr ("%s: %u releases or detached jobs did not end within %u second%s\n", program_name (),
                  belay_get_n_pending (), seconds, seconds > 1 ? "s" : "");
      if (status == 0)
        status = 70; /* EX_SOFTWARE */
    }
  if (self.signal != 0) /* until the very end */
    status = 128 + self.signal;
  exit_status = -1; /* the next run has one of its own */
  g_source_remove (sigint);
  g_source_remove (sigterm);
  g_main_loop_unref (self.main_loop);
  return status;
}
