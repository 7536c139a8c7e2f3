/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The queue of a connection.
 *
 * Words. An *operation* is one thing to be done with the connection: run a statement, begin, commit, close. A *level* is
 * what operations are given to: the connection itself (depth 0), a transaction (1), savepoints in it (2, 3, …). Each
 * level has a queue, first in, first out. The *pump* is the job on a worker that runs them, one after another.
 *
 * The levels that are open form a stack, of which the pump serves the top only: so what is given to a connection waits
 * while a transaction on it is open, without holding a worker. The next transaction waits in the same queue: writers
 * are one line, and fair.
 *
 * States of an operation: QUEUED, RUNNING, OVER. One that meets the lock of another process becomes QUEUED again, at the
 * front of its queue; the connection is then *waiting*, until a timer on the waiting caller's own loop (1 ms, then longer)
 * starts the pump again. No worker waits for a lock, except for a function of the program's (which cannot be run twice),
 * and for a caller that runs no loop.
 *
 * States of a level: open; *ending* (its end or its commit was given: it takes nothing more); ended.
 *
 *  Q1  `lock` guards the queues, the stack, and the states; what the pump alone uses is handed from one job to the next
 *      by it. It is held for a few instructions, and never while SQLite, a promise or the program is called.
 *  Q2  At most one pump: `pumping` is set by whoever starts it, and cleared, under the lock, by the pump itself.
 *  Q3  pumping || waiting || the queue of the top level is empty. Nothing that can run is left lying.
 *  Q4  `stop` concerns `current` only: it is set under the lock while that runs, and cleared, under the lock, when
 *      another begins. So a cancellation stops no one else's statement.
 *  Q5  An END always runs: it has no cancellation, and nothing behind it. A level that is ending and whose outcome is
 *      open has one in its queue, or a COMMIT that its resource's close follows.
 *  Q6  An operation that has run before (it met a lock) is not taken out of the queue by a cancellation, but marked, so
 *      that the pump undoes what it had done.
 *  Q7  The connection lives while one of its handles, its pump, a timer or its opening holds a reference. Whoever finds
 *      an operation QUEUED or RUNNING may use the connection: one of those exists.
 *
 * Who holds what: the caller's thread and the pump take `lock`; it is the innermost lock, under which memory may be
 * allocated and nothing else is called.
 */
#include "connection.h"

#include "sqlite-error.h"
#include "transaction.h"

#define TURN 256 /* operations in one job, before other users of the workers have their turn */

static void start_pump (SqliteConnection *connection, guint number);

/* --- operations --- */

SqliteOperation *
belay_sqlite_operation_new (gsize size, SqliteKind kind, SqliteLevel *level, gboolean promise,
                            SqliteOutcome (*run) (SqliteConnection *, SqliteOperation *))
{
  SqliteOperation *op = g_try_malloc (size);

  if (op == NULL)
    return NULL;
  memset (op, 0, sizeof *op);
  op->kind = (guint8) kind;
  op->level = level;
  op->run = run;
  op->promise = promise ? belay_promise_new () : NULL;
  return op;
}

static void
clear_result (SqliteOperation *op)
{
  switch ((SqliteResult) op->result_kind)
    {
    case BELAY_SQLITE_NOTHING:
    case BELAY_SQLITE_INT64:
      break;
    case BELAY_SQLITE_STRING:
      g_free (op->result.string);
      break;
    case BELAY_SQLITE_ROWS:
      belay_sqlite_rows_unref (op->result.rows);
      break;
    case BELAY_SQLITE_HANDLE:
      g_object_unref (op->result.handle);
      break;
    case BELAY_SQLITE_FAILURE:
      g_error_free (op->result.error);
      break;
    }
  op->result_kind = BELAY_SQLITE_NOTHING;
}

void
belay_sqlite_operation_free (SqliteOperation *op)
{
  clear_result (op);
  if (op->free_data != NULL)
    op->free_data (op);
  g_free (op->busy_sql);
  if (op->promise != NULL)
    belay_promise_unref (op->promise);
  if (op->context != NULL)
    g_main_context_unref (op->context);
  g_free (op);
}

SqliteOutcome
belay_sqlite_operation_fail (SqliteOperation *op, GError *error)
{
  clear_result (op);
  op->result_kind = BELAY_SQLITE_FAILURE;
  op->result.error = error;
  return BELAY_SQLITE_DONE;
}

SqliteOutcome
belay_sqlite_operation_fail_code (SqliteConnection *connection, SqliteOperation *op, int code, const char *sql)
{
  if (belay_sqlite_code_is_busy (code))
    {
      op->busy_code = code;
      g_free (op->busy_sql);
      op->busy_sql = g_strdup (sql);
      return BELAY_SQLITE_BUSY;
    }
  return belay_sqlite_operation_fail (op, belay_sqlite_error_last (connection->handle, code, connection->path, sql));
}

static GError *
cancelled_error (SqliteConnection *connection)
{
  return g_error_new (G_IO_ERROR, G_IO_ERROR_CANCELLED, "%s: cancelled", connection->path);
}

static GError *
closed_error (SqliteConnection *connection, SqliteLevel *level)
{
  return g_error_new (G_IO_ERROR, G_IO_ERROR_CLOSED, level->depth == 0 ? "%s: the connection is closed"
                                                                       : "%s: the transaction has ended",
                      connection->path);
}

/* Tells the one who waits, under no lock, and frees it. */
static void
answer (SqliteOperation *op)
{
  BelayPromise *promise = op->promise;

  if (G_UNLIKELY (op->in_vain))
    belay_sqlite_operation_fail (op, op->cancelled ? cancelled_error (op->level->connection)
                                                   : closed_error (op->level->connection, op->level));
  if (G_UNLIKELY (promise == NULL))
    {
      /* A future that nobody looks at gives its error to the sink. */
      if (op->result_kind == BELAY_SQLITE_FAILURE)
        belay_future_unref (belay_future_new_error (g_steal_pointer (&op->result.error)));
      op->result_kind = BELAY_SQLITE_NOTHING;
      belay_sqlite_operation_free (op);
      return;
    }
  switch ((SqliteResult) op->result_kind)
    {
    case BELAY_SQLITE_NOTHING:
      belay_promise_resolve (promise);
      break;
    case BELAY_SQLITE_INT64:
      belay_promise_resolve_int64 (promise, op->result.integer);
      break;
    case BELAY_SQLITE_STRING:
      belay_promise_resolve_pointer (promise, op->result.string, g_free);
      break;
    case BELAY_SQLITE_ROWS:
      belay_promise_resolve_boxed (promise, BELAY_TYPE_SQLITE_ROWS, op->result.rows);
      break;
    case BELAY_SQLITE_HANDLE:
      belay_promise_resolve_resource (promise, op->result.handle);
      break;
    case BELAY_SQLITE_FAILURE:
      belay_promise_reject (promise, op->result.error);
      break;
    }
  op->result_kind = BELAY_SQLITE_NOTHING; /* the promise has it */
  belay_sqlite_operation_free (op);
}

/* A list of operations that were taken out of a queue under the lock, to be answered after it. */
static void
answer_dropped (SqliteConnection *connection, SqliteOperation *dropped)
{
  while (dropped != NULL)
    {
      SqliteOperation *op = dropped;

      dropped = op->next;
      if (op->kind != BELAY_SQLITE_END) /* what an END asks for has come about */
        belay_sqlite_operation_fail (op, closed_error (connection, op->level));
      answer (op);
    }
}

/* --- queues; all of it under the lock --- */

static void
push_last (SqliteLevel *level, SqliteOperation *op)
{
  op->next = NULL;
  op->previous = level->last;
  if (level->last != NULL)
    level->last->next = op;
  else
    level->first = op;
  level->last = op;
  level->n_queued++;
  op->state = BELAY_SQLITE_QUEUED;
}

static void
push_first (SqliteLevel *level, SqliteOperation *op)
{
  op->previous = NULL;
  op->next = level->first;
  if (level->first != NULL)
    level->first->previous = op;
  else
    level->last = op;
  level->first = op;
  level->n_queued++;
  op->state = BELAY_SQLITE_QUEUED;
}

static void
take_out (SqliteOperation *op)
{
  SqliteLevel *level = op->level;

  if (op->previous != NULL)
    op->previous->next = op->next;
  else
    level->first = op->next;
  if (op->next != NULL)
    op->next->previous = op->previous;
  else
    level->last = op->previous;
  level->n_queued--;
  op->state = BELAY_SQLITE_OVER;
}

/* TRUE when the caller must start the pump, with *ret_number, after it has given up the lock. It has a reference then. */
static gboolean
must_pump (SqliteConnection *connection, guint *ret_number)
{
  if (connection->pumping || connection->waiting || connection->top->first == NULL)
    return FALSE;
  connection->pumping = TRUE;
  *ret_number = ++connection->pump_number;
  belay_sqlite_connection_ref (connection);
  return TRUE;
}

/* Takes out what waits in @level's queue, but for what always happens (Q5) and what must be undone (Q6). */
static void
drop_queued (SqliteLevel *level, SqliteOperation **dropped)
{
  SqliteOperation *previous;

  for (SqliteOperation *op = level->last; op != NULL; op = previous)
    {
      previous = op->previous;
      if (op->kind == BELAY_SQLITE_END)
        continue;
      if (op->n_attempts > 0)
        {
          op->cancelled = TRUE;
          level->connection->waiting = FALSE;
          continue;
        }
      take_out (op);
      op->next = *dropped;
      *dropped = op;
    }
}

static void
push_end (SqliteLevel *level)
{
  level->ending = TRUE;
  if (level->last == NULL || level->last->kind != BELAY_SQLITE_END)
    push_last (level, belay_sqlite_end_operation_new (level, FALSE));
}

/* @level ends: what has begun inside of it and is not ending by itself is rolled back first. */
static void
end_inner_levels (SqliteLevel *level, SqliteOperation **dropped)
{
  for (SqliteLevel *inner = level->inner; inner != NULL; inner = inner->inner)
    {
      if (inner->ending)
        continue;
      drop_queued (inner, dropped);
      push_end (inner);
    }
}

static void
enter (SqliteConnection *connection, SqliteLevel *level)
{
  g_assert (connection->top == level->outer);
  connection->top = belay_sqlite_level_ref (level);
  level->outer->inner = level;
}

/* TRUE: the stack's reference is to be given up after the lock. */
static gboolean
leave (SqliteConnection *connection, SqliteLevel *level, SqliteOperation **dropped)
{
  g_assert (connection->top == level);
  level->ended = level->ending = TRUE;
  while (level->last != NULL)
    {
      SqliteOperation *op = level->last;

      take_out (op);
      op->next = *dropped;
      *dropped = op;
    }
  if (level->depth == 0)
    return FALSE;
  connection->top = level->outer;
  level->outer->inner = NULL;
  return TRUE;
}

/* --- waiting for another's lock --- */

typedef struct
{
  SqliteConnection *connection;
  guint             number;
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
  SqliteConnection *connection = retry->connection;
  gboolean start = FALSE;
  guint number;

  pthread_mutex_lock (&connection->lock);
  if (connection->waiting && connection->wait_number == retry->number)
    {
      connection->waiting = FALSE;
      start = must_pump (connection, &number);
    }
  pthread_mutex_unlock (&connection->lock);
  if (start)
    start_pump (connection, number);
  belay_sqlite_connection_unref (connection);
  g_free (retry);
}

/* A real timer, also under the virtual clock: it is another process that is waited for. */
static void
retry_later (SqliteConnection *connection, guint number, GMainContext *context, guint milliseconds)
{
  g_autoptr (GSource) source = g_timeout_source_new (milliseconds);
  Retry *retry = g_new (Retry, 1);

  retry->connection = belay_sqlite_connection_ref (connection);
  retry->number = number;
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
belay_sqlite_connection_sleep (gpointer data, int n_calls)
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
belay_sqlite_connection_progress (gpointer data)
{
  return belay_sqlite_connection_is_stopped (data);
}

/* --- the pump --- */

/* Runs one. FALSE when it is to be queued again. */
static gboolean
run (SqliteConnection *connection, SqliteOperation *op)
{
  SqliteOutcome outcome = BELAY_SQLITE_DONE;

  if (op->n_attempts == 0)
    op->autocommit = connection->handle == NULL || connection->n_shared > 0 || sqlite3_get_autocommit (connection->handle);
  for (;;)
    {
      if (op->kind != BELAY_SQLITE_WORK)
        belay_sqlite_share_end (connection);
      if (G_UNLIKELY (connection->broken != NULL) && op->kind != BELAY_SQLITE_END)
        belay_sqlite_operation_fail (op, g_error_copy (connection->broken));
      else if (G_UNLIKELY (op->refused))
        belay_sqlite_operation_fail (op, closed_error (connection, op->level));
      else if (G_UNLIKELY (belay_sqlite_connection_is_stopped (connection)) && op->kind != BELAY_SQLITE_OPEN)
        belay_sqlite_operation_fail (op, cancelled_error (connection));
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
          belay_sqlite_operation_fail (op, belay_sqlite_error_make (op->busy_code, text, connection->path, op->busy_sql));
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
          leave (connection, op->level, dropped);
        }
      else if (op->cancelled)
        {
          op->in_vain = TRUE;
          push_end (op->level);
        }
      break;
    case BELAY_SQLITE_BEGIN:
      if (failed)
        break;
      enter (connection, op->begun);
      if (op->cancelled || op->level->ending)
        {
          op->in_vain = TRUE;
          push_end (op->begun);
        }
      break;
    case BELAY_SQLITE_COMMIT:
      return op->level->depth > 0 && leave (connection, op->level, dropped);
    case BELAY_SQLITE_END:
      return leave (connection, op->level, dropped);
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
      gboolean over = FALSE, start = FALSE;
      guint delay = 0, wait_number = 0, number = 0;

      pthread_mutex_lock (&connection->lock);
      connection->current = NULL;
      if (G_UNLIKELY (met_lock))
        {
          push_first (op->level, op);
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
          take_out (next);
          next->state = BELAY_SQLITE_RUNNING;
          next->refused = next->kind == BELAY_SQLITE_BEGIN && next->level->ending;
          connection->current = next;
          connection->n_queued_behind = connection->top->n_queued;
          g_atomic_int_set (&connection->stop, next->cancelled);
        }
      else if (connection->n_shared == 0)
        {
          over = TRUE;
          connection->pumping = FALSE;
          start = must_pump (connection, &number);
        }
      pthread_mutex_unlock (&connection->lock);

      if (op != NULL)
        answer (op); /* one by one: a result does not wait for those behind it */
      if (G_UNLIKELY (dropped != NULL))
        answer_dropped (connection, dropped);
      if (G_UNLIKELY (left != NULL))
        belay_sqlite_level_unref (left);
      if (G_UNLIKELY (delay > 0))
        retry_later (connection, wait_number, context, delay);
      if (G_UNLIKELY (context != NULL))
        g_main_context_unref (context);
      if (start)
        start_pump (connection, number);
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

/* With a reference to the connection, which the job takes over. */
static void
start_pump (SqliteConnection *connection, guint number)
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
  belay_sqlite_connection_unref (connection); /* must_pump()'s */
}

/* --- what callers do --- */

/* Nobody is interested in an operation any more; by any thread, under no lock. */
static void
operation_cancelled (gpointer data)
{
  SqliteOperation *op = data;
  SqliteLevel *level = op->level;
  SqliteConnection *connection = level->connection;
  SqliteOperation *dropped = NULL;
  gboolean taken_back = FALSE, start;
  guint number;

  pthread_mutex_lock (&connection->lock);
  if (op->state == BELAY_SQLITE_QUEUED && op->n_attempts == 0)
    {
      take_out (op);
      taken_back = TRUE;
      if (op->kind == BELAY_SQLITE_OPEN)
        leave (connection, level, &dropped);
    }
  else if (op->state == BELAY_SQLITE_QUEUED)
    {
      op->cancelled = TRUE;
      if (level->first == op)
        connection->waiting = FALSE;
    }
  else if (op->state == BELAY_SQLITE_RUNNING)
    {
      op->cancelled = TRUE;
      if (op->kind != BELAY_SQLITE_COMMIT)
        g_atomic_int_set (&connection->stop, 1);
    }
  start = must_pump (connection, &number);
  pthread_mutex_unlock (&connection->lock);

  if (start)
    start_pump (connection, number);
  if (taken_back)
    {
      belay_sqlite_operation_fail (op, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "cancelled"));
      answer (op);
    }
}

BelayFuture *
belay_sqlite_level_submit (SqliteLevel *level, SqliteOperation *op)
{
  SqliteConnection *connection = level->connection;
  BelayFuture *future = NULL;
  SqliteOperation *dropped = NULL;
  gboolean refused = FALSE, open_inside = FALSE, start = FALSE;
  guint number = 0;

  if (op->promise != NULL)
    {
      future = belay_promise_get_future (op->promise);
      if (op->kind != BELAY_SQLITE_END)
        belay_promise_on_cancel (op->promise, operation_cancelled, op);
    }
  op->context = g_main_context_get_thread_default ();
  if (op->context != NULL)
    g_main_context_ref (op->context);
  else
    op->may_block = !belay_in_fiber () && g_main_depth () == 0;

  pthread_mutex_lock (&connection->lock);
  if (op->kind == BELAY_SQLITE_END)
    {
      refused = level->ended;
      if (!refused)
        {
          level->ending = TRUE;
          end_inner_levels (level, &dropped);
        }
    }
  else if (level->ending)
    {
      refused = TRUE;
    }
  else if (op->kind == BELAY_SQLITE_COMMIT)
    {
      open_inside = refused = level->inner != NULL && !level->inner->ending;
      level->ending = !refused;
    }
  if (!refused)
    {
      push_last (level, op);
      start = must_pump (connection, &number);
    }
  pthread_mutex_unlock (&connection->lock);

  if (start)
    start_pump (connection, number);
  answer_dropped (connection, dropped);
  if (G_UNLIKELY (refused))
    {
      if (open_inside)
        {
          g_critical ("%s: a transaction is committed while another, begun in it, is open", connection->path);
          belay_sqlite_operation_fail (op, g_error_new (BELAY_ERROR, BELAY_ERROR_MISUSE,
                                                        "%s: a transaction that was begun in this one is still open",
                                                        connection->path));
        }
      else if (op->kind != BELAY_SQLITE_END)
        {
          belay_sqlite_operation_fail (op, closed_error (connection, level));
        }
      answer (op);
    }
  return future;
}

void
belay_sqlite_level_abandon (SqliteLevel *level)
{
  SqliteConnection *connection = level->connection;
  SqliteOperation *dropped = NULL, *current;
  gboolean start = FALSE;
  guint number;

  pthread_mutex_lock (&connection->lock);
  if (!level->ended)
    {
      for (SqliteLevel *inner = level; inner != NULL; inner = inner->inner)
        {
          drop_queued (inner, &dropped);
          push_end (inner);
        }
      current = connection->current; /* of the top level, hence of @level or inside of it */
      if (current != NULL && current->kind != BELAY_SQLITE_COMMIT && current->kind != BELAY_SQLITE_END)
        {
          current->cancelled = TRUE;
          g_atomic_int_set (&connection->stop, 1);
          if (level->depth == 0 && connection->handle != NULL)
            sqlite3_interrupt (connection->handle);
        }
      start = must_pump (connection, &number);
    }
  pthread_mutex_unlock (&connection->lock);

  if (start)
    start_pump (connection, number);
  answer_dropped (connection, dropped);
}

gboolean
belay_sqlite_level_is_ending (SqliteLevel *level)
{
  gboolean ending;

  pthread_mutex_lock (&level->connection->lock);
  ending = level->ending;
  pthread_mutex_unlock (&level->connection->lock);
  return ending;
}

/* --- levels and connections --- */

SqliteLevel *
belay_sqlite_level_new (SqliteLevel *outer)
{
  SqliteLevel *level = g_new0 (SqliteLevel, 1);

  g_atomic_ref_count_init (&level->refs);
  level->connection = outer->connection;
  level->depth = outer->depth + 1;
  level->outer = outer;
  return level;
}

SqliteLevel *
belay_sqlite_level_ref (SqliteLevel *level)
{
  g_atomic_ref_count_inc (&level->refs);
  return level;
}

void
belay_sqlite_level_unref (SqliteLevel *level)
{
  if (level->depth == 0 || !g_atomic_ref_count_dec (&level->refs)) /* depth 0 lies in the connection */
    return;
  g_assert (level->first == NULL);
  g_free (level->lost);
  g_free (level);
}

SqliteConnection *
belay_sqlite_connection_new (const char *path, gint64 busy_timeout)
{
  SqliteConnection *connection = g_new0 (SqliteConnection, 1);
  pthread_mutexattr_t attributes;

  g_atomic_ref_count_init (&connection->refs);
  connection->path = g_strdup (path);
  connection->busy_timeout = busy_timeout;
  connection->root.connection = connection;
  connection->top = &connection->root;
  /* POSIX's lock, which sanitizers know; and it may spin a little, since its holder is always about to give it up. */
  pthread_mutexattr_init (&attributes);
#ifdef __GLIBC__
  pthread_mutexattr_settype (&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
  pthread_mutex_init (&connection->lock, &attributes);
  pthread_mutexattr_destroy (&attributes);
  return connection;
}

SqliteConnection *
belay_sqlite_connection_ref (SqliteConnection *connection)
{
  g_atomic_ref_count_inc (&connection->refs);
  return connection;
}

void
belay_sqlite_connection_unref (SqliteConnection *connection)
{
  if (!g_atomic_ref_count_dec (&connection->refs))
    return;
  g_assert (connection->top == &connection->root && connection->root.first == NULL);
  belay_sqlite_connection_shut (connection);
  belay_sqlite_packer_clear (&connection->packer);
  pthread_mutex_destroy (&connection->lock);
  g_clear_error (&connection->broken);
  g_clear_pointer (&connection->pump, belay_future_unref);
  g_free (connection->path);
  g_free (connection);
}

sqlite3 *
belay_sqlite_connection_steal_handle (SqliteConnection *connection)
{
  sqlite3 *handle;

  pthread_mutex_lock (&connection->lock);
  handle = g_steal_pointer (&connection->handle);
  pthread_mutex_unlock (&connection->lock);
  return handle;
}
