/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lifespans: the parts of a program that are there while it serves, started in order, stopped in reverse. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

/**
 * BelayLifespanState:
 * @BELAY_LIFESPAN_IDLE: not started
 * @BELAY_LIFESPAN_STARTING: being opened; of the whole: some part is not there yet
 * @BELAY_LIFESPAN_RUNNING: there; of the whole: all parts are, and the work is served
 * @BELAY_LIFESPAN_STOPPING: being closed; of the whole: the work has ended, or the start has failed
 * @BELAY_LIFESPAN_STOPPED: closed
 * @BELAY_LIFESPAN_FAILED: it did not start, or did not stop well; of the whole: that, or the work failed
 *
 * The state of a lifespan and of each of its parts.
 */
typedef enum
{
  BELAY_LIFESPAN_IDLE,
  BELAY_LIFESPAN_STARTING,
  BELAY_LIFESPAN_RUNNING,
  BELAY_LIFESPAN_STOPPING,
  BELAY_LIFESPAN_STOPPED,
  BELAY_LIFESPAN_FAILED
} BelayLifespanState;

#define BELAY_TYPE_LIFESPAN_STATE (belay_lifespan_state_get_type ())
BELAY_AVAILABLE_IN_1_0 GType belay_lifespan_state_get_type (void) G_GNUC_CONST;
/* "idle", "starting", … */
BELAY_AVAILABLE_IN_1_0 const char *belay_lifespan_state_to_string (BelayLifespanState state);

/**
 * BelayLifespan:
 *
 * Named parts of a program (a database, a cache, a model) with what each of them needs. A part is opened when all that it
 * needs is there, parts that do not need each other side by side; the work is served while all are there; then they are
 * closed, one after another, each only after all that need it, and all with the same reason.
 *
 * The property "state" is notified, and the signal "part-changed" (name, #BelayLifespanState) emitted, on the thread that
 * runs it and outside of any fiber: a handler must not wait.
 */
#define BELAY_TYPE_LIFESPAN (belay_lifespan_get_type ())
BELAY_AVAILABLE_IN_1_0 G_DECLARE_FINAL_TYPE (BelayLifespan, belay_lifespan, BELAY, LIFESPAN, GObject)

BELAY_AVAILABLE_IN_1_0 BelayLifespan *belay_lifespan_new (void) BELAY_USE_RESULT;

/**
 * BelayPartFunc:
 * @lifespan: the lifespan; belay_lifespan_get() gives the parts that this one needs
 * @data: what was given with the function
 *
 * Opens a part. It starts the opening and does not wait; it runs in a fiber of the lifespan. Any constructor's future
 * will do (belay_sqlite_open(), belay_manager_open()), and belay_open() makes one of a function that may wait.
 *
 * Returns: (transfer full): a future of a resource
 */
typedef BelayFuture *(*BelayPartFunc) (BelayLifespan *lifespan, gpointer data);

/**
 * belay_lifespan_add:
 * @lifespan: a lifespan that does not run
 * @name: what the part is called
 * @open: opens it
 * @data: handed to @open
 * @...: the names of the parts that it needs, ended by %NULL
 *
 * Adds a part. Those that it needs may be added later. Parts that do not need each other begin to open in the order in which
 * they were added.
 *
 * |[<!-- language="C" -->
 * belay_lifespan_add (life, "database", open_database, app, NULL);
 * belay_lifespan_add (life, "cache",    open_cache,    app, "database", NULL);
 * ]|
 *
 * Suspends: never. Cancellation: none. Threads: the one that will run it. Errors: a second part of a name, or a lifespan
 * that runs, is reported with g_critical(), and nothing is added.
 */
BELAY_AVAILABLE_IN_1_0 void belay_lifespan_add   (BelayLifespan *lifespan, const char *name, BelayPartFunc open, gpointer data,
                                                  ...) G_GNUC_NULL_TERMINATED;
/* The same with the names in an array. */
BELAY_AVAILABLE_IN_1_0 void belay_lifespan_addv  (BelayLifespan *lifespan, const char *name, BelayPartFunc open, gpointer data,
                                                  const char *const *needs);

/*
 * How long a part may take to open; without a bound unless told. When it is over the start has failed, with
 * %G_IO_ERROR_TIMED_OUT. @name NULL: each part that is there. Milliseconds; negative: for ever.
 */
BELAY_AVAILABLE_IN_1_0 void belay_lifespan_set_start_timeout (BelayLifespan *lifespan, const char *name, gint64 milliseconds);
/* How long a part may take to close before it is ended by force; 5 s unless told. A scope's children are cancelled then, and
 * waited for at the end of the program. It also bounds how long an opening that was interrupted is waited for, since that may
 * use the parts it needs; but a job on a worker that borrows its data is always waited for. */
BELAY_AVAILABLE_IN_1_0 void belay_lifespan_set_stop_timeout  (BelayLifespan *lifespan, const char *name, gint64 milliseconds);

/**
 * belay_lifespan_run:
 * @lifespan: a lifespan
 * @serve: the work, in a fiber of its own, called when all parts are there
 * @data: handed to @serve
 * @error: return location for a #GError
 *
 * Starts all parts, serves, stops all parts. When a part does not start, the openings that are under way are interrupted
 * and waited for, what was opened is closed in reverse, and @serve is not called. What @serve spawned has ended before the
 * first part is stopped. One whose end did not go well stops none of the others. The first error is the result, the others are
 * attached to it (belay_attached_errors()). It can be run again.
 *
 * Suspends: until all has ended. Cancellation: interrupts openings and @serve, at any time; parts are always stopped, shielded.
 * Threads: in a fiber. Errors: of a part that did not start, or did not stop well, with its name and the place where it was
 * added (%BELAY_ERROR_FAILED when its opening says that it was cancelled, and nothing around it is); those of @serve;
 * %BELAY_ERROR_MISUSE when a part needs one that there is not, or itself in a circle: nothing was opened.
 *
 * Returns: %TRUE when all started, @serve returned %TRUE, and all stopped well
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_lifespan_run (BelayLifespan *lifespan, BelayFunc serve, gpointer data, GError **error);

/**
 * belay_lifespan_get:
 * @lifespan: a lifespan
 * @name: the name of a part
 *
 * The resource of a part that is there: in the opening and the closing of one that needs it, and while serving.
 *
 * Suspends: never. Cancellation: none. Threads: the one that runs it. Errors: for a part that is not there, or not known,
 * g_critical() and %NULL.
 *
 * Returns: (transfer none): what its future gave, valid until the part is stopped
 */
BELAY_AVAILABLE_IN_1_0 gpointer           belay_lifespan_get            (BelayLifespan *lifespan, const char *name);
BELAY_AVAILABLE_IN_1_0 BelayLifespanState belay_lifespan_get_state      (BelayLifespan *lifespan);
/* That of one part; IDLE, with g_critical(), for one that is not known. */
BELAY_AVAILABLE_IN_1_0 BelayLifespanState belay_lifespan_get_part_state (BelayLifespan *lifespan, const char *name);
/* The names of the parts, in the order in which they were added. (transfer full) */
BELAY_AVAILABLE_IN_1_0 GStrv              belay_lifespan_list_parts     (BelayLifespan *lifespan) BELAY_USE_RESULT;

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 void belay_lifespan_add_at  (BelayLifespan *lifespan, const char *site, const char *name,
                                                    BelayPartFunc open, gpointer data, ...) G_GNUC_NULL_TERMINATED;
BELAY_AVAILABLE_IN_1_0 void belay_lifespan_addv_at (BelayLifespan *lifespan, const char *name, BelayPartFunc open, gpointer data,
                                                    const char *const *needs, const char *site);
#ifndef __GI_SCANNER__
#define belay_lifespan_add(lifespan, ...) belay_lifespan_add_at ((lifespan), BELAY_SITE, __VA_ARGS__)
#define belay_lifespan_addv(lifespan, name, open, data, needs) \
  belay_lifespan_addv_at ((lifespan), (name), (open), (data), (needs), BELAY_SITE)
#endif

G_END_DECLS
