/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A GApplication with a lifespan: its log is there before it is activated, and closed after all its work has ended. The work
 * is a fiber that holds the application while it runs.
 */
#include <belay/belay.h>

/* A part of one's own: what is written to it appears in order. */
typedef struct
{
  BelayPlain base;
  int        n_lines;
} Log;

static gboolean
log_close (gpointer data, BelayReason reason, GError **error)
{
  Log *log = data;

  g_print ("the log is closed after %d lines\n", log->n_lines);
  return TRUE;
}

static const BelayPlainClass log_class = BELAY_PLAIN_CLASS ("Log", log_close, g_free);

static BelayFuture *
open_log (BelayLifespan *life, gpointer data)
{
  g_print ("the log is open\n");
  return belay_resource_future (belay_plain_new (Log, &log_class));
}

static gboolean
count (gpointer data, GError **error)
{
  Log *log = belay_lifespan_get (data, "log");

  for (int i = 3; i > 0; i--)
    {
      g_print ("%d\n", i);
      log->n_lines++;
      if (!belay_sleep (1000, error))
        return FALSE;
    }
  return TRUE;
}

static void
on_activate (GApplication *app, gpointer life)
{
  g_print ("activated\n");
  belay_application_spawn (app, count, g_object_ref (life), g_object_unref);
}

int
main (int argc, char **argv)
{
  g_autoptr (GApplication) app = g_application_new ("org.example.Countdown", G_APPLICATION_NON_UNIQUE);
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();

  belay_lifespan_add (life, "log", open_log, NULL, NULL);
  g_signal_connect (app, "activate", G_CALLBACK (on_activate), life);
  return belay_application_run (app, argc, argv, life);
}
