/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The pump: the job on a worker that serves a connection's queue.
 *
 * It runs operations one after another, and tells each result before it runs the next, until nothing is left to do; then
 * the connection holds no worker. The next operation that is given starts it again. A connection that always has something
 * to do gives way to others after TURN operations.
 *
 * Waiting for the lock of another process holds no worker: the operation goes back to the front of its queue, the pump
 * ends, and a timer on the loop of the one who waits starts it again, after 1 ms, then after longer, for as long as
 * the connection's busy time-out says. A worker does wait (as sqlite3_busy_timeout() would) for a function of the
 * program's, which cannot be run twice, and for a caller that runs no loop: nothing would wake it.
 *
 *  W1  A worker's job is dropped with the last interest in its future, so the connection holds one: in the job that runs,
 *      or a later one. Which it is, a number says, since a job may be over before its starter knows its future.
 *  W2  The pump starts even in a fiber that is cancelled: the queue is not that fiber's alone.
 *  W3  A timer belongs to a wait by its number. One that comes late does nothing. One whose loop ends before it comes acts
 *      as if it had come, so that the queue does not stand still.
 *  W4  While a connection pumps or waits it is external work, for which a virtual clock stands still: a pump that a timer
 *      starts is no fiber's job, and a lock is another process's.
 */
#include "pump.h"

#include "sqlite-error.h"
#include "transaction.h"

#define TURN 256 /* operations in one job */

gboolean
belay_sqlite_pump_is_due (SqliteConnection *connection, guint *ret_number)
{
  if (connection->pumping || connection->waiting || connection->top->first == NULL)
    return FALSE;
  connection->pumping = TRUE;
  if (!connection->external)
    belay_external_begin (); /* W4 */
  connection->external = TRUE;
  *ret_number = ++connection->pump_number;
  belay_sqlite_connection_ref (connection);
  return TRUE;
}

/* --- waiting for another's lock --- */

/* Handed to the loop's thread under a lock of GLib's, which sanitizers do not see; hence the atomic pointer. */
typedef struct
{
  _Atomic (SqliteConnection *) connection; /* a reference */
  guint                        number;     /* W3 */
} Retry;

static gboolean
retry_is_due (gpointer data)
{
  return G_SOURCE_REMOVE; /* what is to be done is done by retry_over(), which a loop that ends calls, too */
}

static void
retry_over (gpointer data)
{
  Retry *retry = data;
  SqliteConnection *connection = atomic_load_explicit (&retry->connection, memory_order_acquire);
  gboolean start = FALSE;
  guint number;

  pthread_mutex_lock (&connection->lock);
  if (connection->waiting && connection->wait_number == retry->number)
    {
      connection->waiting = FALSE;
      start = belay_sqlite_pump_is_due (connection, &number);
    }
  pthread_mutex_unlock (&connection->lock);
  if (start)
    belay_sqlite_pump_start (connection, number);
  belay_sqlite_connection_unref (connection);
  g_free (retry);
}

/* A real timer, also under the virtual clock, which stands still: it is another process that is waited for. */
static void
retry_later (SqliteConnection *connection, guint number, GMainContext *context, guint milliseconds)
{
  g_autoptr (GSource) source = g_timeout_source_new (milliseconds);
  Retry *retry = g_new (Retry, 1);

  retry->number = number;
  atomic_store_explicit (&retry->connection, belay_sqlite_connection_ref (connection), memory_order_release);
  g_source_set_callback (source, retry_is_due, retry, retry_over);
  g_source_attach (source, context);
}

static guint
retry_delay (SqliteOperation *op)
{
  static const guint8 delays[] = { 1, 2, 5, 10, 20, 25, 25, 25, 50 };
  gint64 left = (op->give_up - g_get_monotonic_time ()) / 1000 + 1;
  guint delay = delays[MIN (op->n_attempts, G_N_ELEMENTS (delays)) - 1];

  return (guint) CLAMP (left, 1, delay);
}

int
belay_sqlite_pump_sleep (gpointer data, int n_calls)
{
  SqliteConnection *connection = data;
  gint64 now = g_get_monotonic_time ();
  SqliteOperation *op = connection->current; /* this is called within it */

  if (n_calls == 0)
    op->give_up = now + connection->busy_timeout;
  if (now >= op->give_up || belay_sqlite_connection_is_stopped (connection))
    return 0;
  op->n_attempts = (guint) n_calls + 1;
  g_usleep (retry_delay (op) * 1000);
  return 1;
}

int
belay_sqlite_pump_progress (gpointer data)
{
  return belay_sqlite_connection_is_stopped (data);
}

/* --- the pump --- */

/* Runs one. FALSE when it is to be queued again. */
static gboolean
run (SqliteConnection *connection, SqliteOperation *op)
{
  SqliteOutcome outcome = BELAY_SQLITE_DONE;

  connection->ended = FALSE;
  if (op->n_attempts == 0)
    op->autocommit = connection->handle == NULL || connection->n_shared > 0 || sqlite3_get_autocommit (connection->handle);
  for (;;)
    {
      if (op->kind != BELAY_SQLITE_WORK)
        belay_sqlite_share_end (connection);
      if (G_UNLIKELY (connection->broken != NULL) && op->kind != BELAY_SQLITE_END)
        belay_sqlite_operation_fail (op, g_error_copy (connection->broken));
      else if (G_UNLIKELY (op->refused))
        belay_sqlite_operation_fail_closed (op);
      else if (G_UNLIKELY (belay_sqlite_connection_is_stopped (connection)) && op->kind != BELAY_SQLITE_OPEN)
        belay_sqlite_operation_fail_cancelled (op);
      else
        outcome = op->run (connection, op);
      if (G_LIKELY (outcome == BELAY_SQLITE_DONE))
        break;

      belay_sqlite_share_end (connection);
      if (op->n_attempts++ == 0)
        op->give_up = g_get_monotonic_time () + connection->busy_timeout;
      if (g_get_monotonic_time () >= op->give_up)
        {
          g_autofree char *text = g_strdup_printf ("%s, and stayed so for %" G_GINT64_FORMAT " ms",
                                                   sqlite3_errstr (op->busy_code), connection->busy_timeout / 1000);
          belay_sqlite_operation_fail (op, belay_sqlite_error_make (op->busy_code, text, connection->name, op->busy_sql));
          if (op->kind == BELAY_SQLITE_OPEN)
            belay_sqlite_connection_shut (connection);
          break;
        }
      if (!op->may_block)
        return FALSE;
      g_usleep (retry_delay (op) * 1000);
      outcome = BELAY_SQLITE_DONE;
    }
  belay_sqlite_after_operation (connection, op);
  return TRUE;
}

/* What its outcome means for the levels; under the lock. TRUE: a reference to op->level is to be given up. */
static gboolean
settle (SqliteConnection *connection, SqliteOperation *op, SqliteOperation **dropped)
{
  gboolean failed = op->result_kind == BELAY_SQLITE_FAILURE;

  op->state = BELAY_SQLITE_OVER;
  switch ((SqliteKind) op->kind)
    {
    case BELAY_SQLITE_WORK:
      break;
    case BELAY_SQLITE_OPEN:
      if (failed)
        {
          belay_sqlite_level_leave (op->level, dropped);
        }
      else if (op->cancelled)
        {
          op->in_vain = TRUE;
          belay_sqlite_level_push_end (op->level);
        }
      break;
    case BELAY_SQLITE_BEGIN:
      if (failed)
        break;
      belay_sqlite_level_enter (op->begun);
      if (op->cancelled || op->level->ending)
        {
          op->in_vain = TRUE;
          belay_sqlite_level_push_end (op->begun);
        }
      break;
    case BELAY_SQLITE_COMMIT:
      return op->level->depth > 0 && belay_sqlite_level_leave (op->level, dropped);
    case BELAY_SQLITE_END:
      return belay_sqlite_level_leave (op->level, dropped);
    }
  return FALSE;
}

static gpointer
pump (gpointer data, GError **error)
{
  SqliteConnection *connection = data;
  SqliteOperation *op = NULL; /* the one that ran */
  gboolean met_lock = FALSE;

  for (guint n = 0;; n++)
    {
      SqliteOperation *next = NULL, *dropped = NULL;
      SqliteLevel *left = NULL;
      GMainContext *context = NULL;
      gboolean over = FALSE, start = FALSE, idle = FALSE;
      guint delay = 0, wait_number = 0, number = 0;

      pthread_mutex_lock (&connection->lock);
      connection->current = NULL;
      if (G_UNLIKELY (met_lock))
        {
          belay_sqlite_queue_push_first (op);
          if (!op->cancelled)
            {
              connection->waiting = TRUE;
              wait_number = ++connection->wait_number;
              delay = retry_delay (op);
              context = op->context != NULL ? g_main_context_ref (op->context) : NULL;
            }
          op = NULL;
        }
      else if (op != NULL && settle (connection, op, &dropped))
        {
          left = op->level;
        }
      if (!connection->waiting && n < TURN && connection->top->first != NULL)
        {
          next = connection->top->first;
          belay_sqlite_queue_take_out (next);
          next->state = BELAY_SQLITE_RUNNING;
          next->refused = next->kind == BELAY_SQLITE_BEGIN && next->level->ending;
          connection->current = next;
          connection->n_queued_behind = connection->top->n_queued;
          connection->last_behind = connection->n_given;
          g_atomic_int_set (&connection->stop, next->cancelled);
        }
      else if (connection->n_shared == 0)
        {
          over = TRUE;
          connection->pumping = FALSE;
          start = belay_sqlite_pump_is_due (connection, &number);
          idle = !start && !connection->waiting;
          if (idle)
            connection->external = FALSE;
        }
      pthread_mutex_unlock (&connection->lock);

      if (op != NULL)
        belay_sqlite_operation_answer (op, connection); /* one by one: a result does not wait for those behind it */
      if (G_UNLIKELY (dropped != NULL))
        belay_sqlite_operations_refuse (dropped);
      if (G_UNLIKELY (left != NULL))
        belay_sqlite_level_unref (left);
      if (G_UNLIKELY (delay > 0))
        retry_later (connection, wait_number, context, delay);
      if (G_UNLIKELY (context != NULL))
        g_main_context_unref (context);
      if (start)
        belay_sqlite_pump_start (connection, number);
      if (idle)
        belay_external_end ();
      if (over)
        return connection; /* which only says that it went well */

      op = next;
      met_lock = FALSE;
      if (op != NULL)
        met_lock = !run (connection, op);
      else
        belay_sqlite_share_end (connection); /* nothing is queued, so nobody shares it */
    }
}

void
belay_sqlite_pump_start (SqliteConnection *connection, guint number)
{
  BelayFuture *job, *old = NULL;

  belay_sqlite_connection_ref (connection);
  job = belay_thread_run_owned (pump, belay_sqlite_connection_ref (connection),
                                (GDestroyNotify) belay_sqlite_connection_unref, NULL);
  if (G_UNLIKELY (belay_future_is_rejected (job)) && belay_in_fiber ())
    {
      /* This fiber was cancelled, and nothing may start in it; but the queue is everybody's. */
      BelayShield *shield = belay_shield ();

      belay_future_get_error (job);
      belay_future_unref (job);
      job = belay_thread_run_owned (pump, belay_sqlite_connection_ref (connection),
                                    (GDestroyNotify) belay_sqlite_connection_unref, NULL);
      belay_release (&shield);
    }
  if (G_UNLIKELY (belay_future_is_rejected (job)))
    {
      /* No worker takes it: the program is at its end. What was given is still done. */
      belay_future_get_error (job);
      pump (connection, NULL);
    }

  /* The job is dropped with the last interest in it, so that is kept, until a newer job shows that this one is over. */
  pthread_mutex_lock (&connection->lock);
  if ((gint) (number - connection->pump_kept) > 0)
    {
      old = connection->pump;
      connection->pump = job;
      connection->pump_kept = number;
    }
  else
    {
      old = job;
    }
  pthread_mutex_unlock (&connection->lock);
  if (old != NULL)
    belay_future_unref (old);
  belay_sqlite_connection_unref (connection);
  belay_sqlite_connection_unref (connection); /* belay_sqlite_pump_is_due()'s */
}
