/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Workers: threads for functions that block or compute. */
#pragma once

#include <belay/belay-macros.h>

G_BEGIN_DECLS

/**
 * belay_thread_run:
 * @func: what to do on a worker thread
 * @data: handed to @func, borrowed until it has returned
 *
 * Runs a blocking or long function on a thread, without blocking the caller's.
 *
 * There are four workers for each processor, but at least 8 and at most 64, and one more for each that waits in
 * belay_future_wait_sync(); more jobs than that queue up, first come first served. So jobs may wait for jobs that way,
 * but more than 8 that wait for one another by other means may not all begin.
 *
 * Suspends: never itself. Cancellation: nothing starts in a cancelled scope. Since @data is the caller's, a
 * cancelled await asks (belay_worker_cancellable()) and then waits until @func has returned; a job that has not
 * begun is taken back. A reference to the future that is kept elsewhere keeps the job going, and such an await waiting.
 * To drop the future is to ask only, without the wait: then @data must live on by itself.
 * Threads: any. Errors: those of @func.
 *
 * Returns: (transfer full): resolves when the function returned %TRUE
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_thread_run       (BelayFunc func, gpointer data) BELAY_USE_RESULT;
/* The same for a function that makes a value; @destroy frees a value that nobody took. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_thread_run_value (BelayValueFunc func, gpointer data, GDestroyNotify destroy) BELAY_USE_RESULT;

/**
 * belay_thread_run_owned:
 * @func: what to do on a worker thread
 * @data: (transfer full): handed to @func
 * @destroy_data: frees @data when the job is over, exactly once, whether it ran or not
 * @destroy: (nullable): frees a value that nobody took
 *
 * As belay_thread_run_value() for data that the job owns. A cancelled await returns at once; the function may run
 * on, its late value is freed, and the end of the program waits for it.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_thread_run_owned (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data,
                                                            GDestroyNotify destroy) BELAY_USE_RESULT;

/**
 * belay_worker_cancellable:
 *
 * In a function on a worker: cancelled when nobody waits for its result any more. Elsewhere %NULL.
 *
 * Returns: (transfer none) (nullable): valid while the function runs
 */
BELAY_AVAILABLE_IN_1_0 GCancellable *belay_worker_cancellable (void);

/**
 * BelaySerial:
 *
 * A queue whose jobs run on the workers one after another, in the order in which they were given: the place for a
 * thing that is not thread-safe, such as a database connection. It holds no thread while it is empty.
 */
#define BELAY_TYPE_SERIAL (belay_serial_get_type ())

BELAY_AVAILABLE_IN_1_0 GType        belay_serial_get_type  (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelaySerial *belay_serial_new       (void) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelaySerial *belay_serial_ref       (BelaySerial *serial);
BELAY_AVAILABLE_IN_1_0 void         belay_serial_unref     (BelaySerial *serial);
/* As belay_thread_run(), belay_thread_run_value() and belay_thread_run_owned(), in the order of the queue. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_serial_run       (BelaySerial *serial, BelayFunc func, gpointer data) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_serial_run_value (BelaySerial *serial, BelayValueFunc func, gpointer data, GDestroyNotify destroy) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_serial_run_owned (BelaySerial *serial, BelayValueFunc func, gpointer data,
                                                            GDestroyNotify destroy_data, GDestroyNotify destroy) BELAY_USE_RESULT;
/* How many jobs wait, not counting the one that runs. */
BELAY_AVAILABLE_IN_1_0 guint        belay_serial_get_n_waiting (BelaySerial *serial);

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_thread_run_at       (BelayFunc func, gpointer data, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_thread_run_value_at (BelayValueFunc func, gpointer data, GDestroyNotify destroy,
                                                               const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_thread_run_owned_at (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data,
                                                               GDestroyNotify destroy, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_serial_run_at       (BelaySerial *serial, BelayFunc func, gpointer data,
                                                               const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_serial_run_value_at (BelaySerial *serial, BelayValueFunc func, gpointer data,
                                                               GDestroyNotify destroy, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_serial_run_owned_at (BelaySerial *serial, BelayValueFunc func, gpointer data,
                                                               GDestroyNotify destroy_data, GDestroyNotify destroy,
                                                               const char *site) BELAY_USE_RESULT;

#ifndef __GI_SCANNER__
#define belay_thread_run(func, data)                         belay_thread_run_at ((func), (data), BELAY_SITE)
#define belay_thread_run_value(func, data, destroy)          belay_thread_run_value_at ((func), (data), (destroy), BELAY_SITE)
#define belay_thread_run_owned(func, data, free_data, destroy) \
  belay_thread_run_owned_at ((func), (data), (free_data), (destroy), BELAY_SITE)
#define belay_serial_run(serial, func, data)                 belay_serial_run_at ((serial), (func), (data), BELAY_SITE)
#define belay_serial_run_value(serial, func, data, destroy) \
  belay_serial_run_value_at ((serial), (func), (data), (destroy), BELAY_SITE)
#define belay_serial_run_owned(serial, func, data, free_data, destroy) \
  belay_serial_run_owned_at ((serial), (func), (data), (free_data), (destroy), BELAY_SITE)
#endif

G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelaySerial, belay_serial_unref)

G_END_DECLS
