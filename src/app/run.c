/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * belay_run: a whole program.
 *
 * The work is a fiber of the default context. The first SIGINT or SIGTERM cancels it, and it unwinds: its guards release
 * in order, nothing is cut short. A second signal ends the process at once. When the work has ended, releases that are
 * still under way are drained, for DRAIN at most; what is left then is said on stderr, and in the status.
 *
 * One run at a time, on the thread that owns the default context.
 */
#include "scope/scope-private.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <unistd.h>

#define DRAIN 10 /* seconds */

typedef struct
{
  GMainLoop  *main_loop;
  BelayTask  *task;
  int         signal; /* the first that came */
  gboolean    ended;
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
  *(gboolean *) data = TRUE;
  return G_SOURCE_REMOVE;
}

static const char *
program_name (void)
{
  return g_get_prgname () != NULL ? g_get_prgname () : program_invocation_short_name;
}

/* TRUE when nothing is left. */
static gboolean
drain (void)
{
  BelayContext *context = belay_context_get_for_main (NULL);
  gboolean timed_out = FALSE;
  GSource *timeout;

  if (belay_get_n_pending () == 0 && !belay_context_has_items (context))
    return TRUE;
  timeout = g_timeout_source_new_seconds (DRAIN);
  g_source_set_callback (timeout, on_drain_timeout, &timed_out, NULL);
  g_source_attach (timeout, NULL);
  while ((belay_get_n_pending () > 0 || belay_context_has_items (context)) && !timed_out)
    g_main_context_iteration (NULL, TRUE);
  g_source_destroy (timeout);
  g_source_unref (timeout);
  return belay_get_n_pending () == 0;
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
  guint sigint, sigterm;
  int status;

  g_return_val_if_fail (func != NULL, 1);
  if (belay_in_fiber ())
    {
      g_critical ("belay_run: called in a fiber, whose main loop is running already");
      return 1;
    }

  exit_status = -1;
  self.main_loop = g_main_loop_new (NULL, FALSE);
  self.task = belay_task_new (belay_context_get_for_main (NULL), NULL, func, NULL, data, NULL, NULL, "belay_run");
  future = &self.task->fiber.future;
  sigint = g_unix_signal_add (SIGINT, on_sigint, &self);
  sigterm = g_unix_signal_add (SIGTERM, on_sigterm, &self);
  belay_task_start_detached (self.task);
  if (belay_future_add_waiter (future, &end.waiter))
    g_main_loop_run (self.main_loop);

  status = belay_future_check (future, &error) ? MAX (exit_status, 0) : exit_status > 0 ? exit_status : 1;
  if (self.signal != 0)
    status = 128 + self.signal;
  else if (error != NULL)
    g_printerr ("%s: %s\n", program_name (), error->message);
  if (!drain ())
    {
      g_printerr ("%s: %u releases did not end within %d seconds\n", program_name (),
                  belay_get_n_pending (), DRAIN);
      if (status == 0)
        status = 70; /* EX_SOFTWARE */
    }
  g_source_remove (sigint);
  g_source_remove (sigterm);
  g_main_loop_unref (self.main_loop);
  return status;
}
