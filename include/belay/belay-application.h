/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A GApplication whose parts have a lifespan, and whose work is fibers. */
#pragma once

#include <belay/belay-lifespan.h>

G_BEGIN_DECLS

/**
 * belay_application_run:
 * @application: an application, not run yet
 * @argc: as of main()
 * @argv: (array length=argc): as of main()
 * @lifespan: (nullable): its parts
 *
 * Runs a #GApplication, as g_application_run() does, between the start and the stop of its parts. They are started in its
 * `startup`, after its own handlers and before anything is activated; if that fails, the error is printed and nothing is
 * activated. In its `shutdown`, after the handlers that were connected to it, the work of belay_application_spawn() is
 * cancelled and joined, the parts are stopped, and what is still under way is drained (belay_drain(), for as long as
 * belay_run_set_drain_timeout() said). In a process that only passes its command line on to the application's primary
 * instance, nothing is started.
 *
 * What asks for work meanwhile, from another process say (`activate`, `open` and `command-line`, but not the application's
 * actions), waits until the parts are there; while they stop, and when they did not start, it comes to nothing.
 *
 * The first SIGINT or SIGTERM cancels the start, or the work, and quits the application; a second one and a third do what
 * they do in belay_run(). A process that only passes its command line on ends at the first, as by default.
 *
 * |[<!-- language="C" -->
 * g_autoptr (GApplication) app = g_application_new ("org.example.Notes", G_APPLICATION_DEFAULT_FLAGS);
 * g_autoptr (BelayLifespan) life = belay_lifespan_new ();
 *
 * belay_lifespan_add (life, "database", open_database, NULL, NULL);
 * g_signal_connect (app, "activate", G_CALLBACK (on_activate), life);
 * return belay_application_run (app, argc, argv, life);
 * ]|
 *
 * With `BELAY_DEBUG=leaks` what is held at the end is told, see belay_leaks_report().
 *
 * Suspends: blocks until the end. Cancellation: by signals. Threads: the main thread, outside a fiber; in a child of fork()
 * and in a program that runs already (belay_run()) it is refused with g_critical(). Errors: printed.
 *
 * Returns: the exit status: that of g_application_run(); where that is 0, 1 when a part did not start or did not stop well,
 *   or when work failed, and 70 when what is under way did not end in time; 130 after SIGINT, 143 after SIGTERM
 */
BELAY_AVAILABLE_IN_1_0 int belay_application_run (GApplication *application, int argc, char **argv, BelayLifespan *lifespan);

/**
 * belay_application_spawn:
 * @application: an application that belay_application_run() runs
 * @func: the work
 * @data: (transfer full): handed to @func
 * @destroy: (nullable): frees @data, exactly once, whether the fiber ran or not
 *
 * Starts a fiber that holds the application (g_application_hold()) while @func runs, all of whose parts are there until it
 * has ended. One that fails cancels no other; its error is printed, and the application's exit status is 1.
 *
 * Suspends: never. Cancellation: when the application quits, and by signals. Threads: the main thread; outside of the time
 * between `startup` and `shutdown` it is refused with g_critical(). Errors: printed.
 *
 * Returns: %TRUE when it was accepted
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_application_spawn (GApplication *application, BelayFunc func, gpointer data,
                                                         GDestroyNotify destroy);

G_END_DECLS
