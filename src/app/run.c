/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * belay_run: a whole program.
 *
 * The work is a fiber of the default context. When it has ended, releases and detached work that are still under way are
 * drained (drain.c), for a time at most. What has not ended then is told on stderr, and in the status.
 *
 * Signals, SIGINT and SIGTERM alike, escalate, whatever the program is doing:
 *   1. The first cancels the work, and it unwinds: its guards release in order, within their own bounds.
 *   2. The second shortens the bounds: no release, under way or to come, in whatever context, goes on for more than
 *      HURRY from then; those that do are forced, and the unwinding goes on.
 *   3. The third ends the process at once.
 * In the drain there is no work left to cancel, so a first one hurries already.
 *
 * One run at a time, on the thread that owns the default context; never in a forked child. What all runs have in common, that of
 * a GApplication too (application.c), is between belay_run_begin() and belay_run_end().
 */
#include "app/drain.h"
#include "app/run.h"
#include "app/signals.h"
#include "scope/scope-private.h"

#include <errno.h>
#include <signal.h>

#define HURRY G_USEC_PER_SEC
#define SLACK (G_USEC_PER_SEC / 4) /* for what is forced at the very end of that to be seen to its end */

typedef struct
{
  GMainLoop *main_loop;
  BelayTask *task;
  gboolean   ended; /* the work */
} Run;

static int exit_status = -1;
static gint64 drain_timeout = 10000; /* ms */
static gboolean runs;  /* by the thread that owns the default context */
static GSource *look;  /* for what is held too long; NULL: nobody asked */

void
belay_run_set_exit_status (int status)
{
  g_return_if_fail (status >= 0 && status <= 255);
  exit_status = status;
}

void
belay_run_set_drain_timeout (gint64 milliseconds)
{
  drain_timeout = milliseconds;
}

int
belay_run_get_signal (void)
{
  return belay_signals_first ();
}

void
belay_run_hurry (void)
{
  if (atomic_load (&belay_hurry_instant) == G_MAXINT64)
    belay_hurry (belay_now () + HURRY);
  belay_drain_hurry (HURRY + SLACK);
}

static void
on_signal (int nth, gpointer data)
{
  Run *self = data;
  g_autofree char *reason = g_strdup_printf ("interrupted by %s", belay_signals_first () == SIGINT ? "SIGINT" : "SIGTERM");

  if (!self->ended)
    belay_fiber_cancel (&self->task->fiber, reason);
  if (nth > 1 || self->ended)
    belay_run_hurry ();
}

static gboolean
look_for_leaks (gpointer unused)
{
  belay_leaks_look ();
  return G_SOURCE_CONTINUE;
}

gboolean
belay_run_begin (const char *name, BelaySignalFunc func, gpointer data)
{
  const char *why = NULL;

  belay_debug_init ();
  if (belay_forked ())
    why = "this process was forked from one that uses Belay: only exec() or _exit() may follow";
  else if (belay_in_fiber ())
    why = "called in a fiber, whose main loop is running already";
  else if (!g_main_context_acquire (NULL))
    why = "another thread runs the default main context";
  else if (runs)
    {
      g_main_context_release (NULL);
      why = "called in a program that runs already";
    }
  if (why != NULL)
    {
      g_critical ("%s: %s", name, why);
      return FALSE;
    }

  runs = TRUE;
  belay_signals_begin (func, data);
  if (G_UNLIKELY (belay_leaks_patience != G_MAXINT64))
    {
      look = g_timeout_source_new ((guint) CLAMP (belay_leaks_patience / 2000, 10, 1000));
      g_source_set_callback (look, look_for_leaks, NULL, NULL);
      g_source_attach (look, NULL);
    }
  return TRUE;
}

void
belay_run_end (void)
{
  if (look != NULL)
    {
      g_source_destroy (look);
      g_clear_pointer (&look, g_source_unref);
    }
  if (G_UNLIKELY ((belay_unusual & BELAY_UNUSUAL_LEAKS) != 0))
    belay_leaks_at_end ();
  belay_signals_end ();
  belay_hurry (G_MAXINT64);
  runs = FALSE;
  g_main_context_release (NULL);
}

static const char *
program_name (void)
{
  return g_get_prgname () != NULL ? g_get_prgname () : program_invocation_short_name;
}

void
belay_run_print_error (const GError *error)
{
  g_printerr ("%s: %s\n", program_name (), error->message);
}

void
belay_run_print_attached (BelayErrors *errors)
{
  for (guint i = 0; i < belay_errors_get_size (errors); i++)
    {
      const char *site = belay_errors_get_site (errors, i);
      const GError *error = belay_errors_get (errors, i);
      g_autofree char *from = site != NULL ? g_strdup_printf (" (from %s)", site) : g_strdup ("");

      if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        g_printerr ("%s: also: %s%s\n", program_name (), error->message, from);
    }
}

guint
belay_run_drain (void)
{
  if (belay_signals_first () != 0 && atomic_load (&belay_hurry_instant) != G_MAXINT64)
    return belay_drain (MIN ((guint64) drain_timeout, (HURRY + SLACK) / 1000)); /* it was told twice */
  return belay_drain (drain_timeout);
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
  guint n_left;
  int status;

  g_return_val_if_fail (func != NULL, 1);
  if (!belay_run_begin ("belay_run", on_signal, &self))
    return 1;

  self.main_loop = g_main_loop_new (NULL, FALSE);
  self.task = belay_task_new (belay_context_get_for_main (NULL), NULL, func, NULL, data, NULL, NULL, "belay_run");
  self.task->root = TRUE;
  future = &self.task->fiber.future;
  belay_task_start_detached (self.task);
  if (belay_future_add_waiter (future, &end.waiter))
    g_main_loop_run (self.main_loop);

  status = belay_future_check (future, &error) ? MAX (exit_status, 0) : exit_status > 0 ? exit_status : 1;
  if (belay_signals_first () == 0 && error != NULL)
    belay_run_print_error (error);
  belay_run_print_attached (belay_future_get_attached (future)); /* also what failed after a signal */
  n_left = belay_run_drain ();
  if (n_left > 0 && status == 0)
    status = 70; /* EX_SOFTWARE */
  if (belay_signals_first () != 0) /* until the very end */
    status = 128 + belay_signals_first ();
  exit_status = -1; /* the next run has one of its own */
  belay_run_end ();
  g_main_loop_unref (self.main_loop);
  return status;
}
