/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Operations: what is to be done with a connection, from the call that asks for it to the answer.
 *
 * An operation is one block of memory: this head, then what its kind needs. It is made by the caller's thread, lies in a
 * queue, is run by the pump, and is freed by whoever answers it or, when that takes longer, has cancelled it.
 *
 *  A1  It is answered exactly once, under no lock, by whoever took it out of its queue: the pump, or a cancellation, or
 *      the end of its level.
 *  A2  A cancellation may be under way while it is answered. It has a reference to the operation, and to the
 *      connection.
 *  A3  An error that nobody waits for (of the rollback of an abandoned transaction) goes to the sink.
 */
#include "operation.h"

#include "connection.h"
#include "refs.h"
#include "sqlite-error.h"

#include <belay/belay-test.h>

/* Operations are made by the caller's thread and freed by a worker, over and over, which is what malloc() is worst at: so
 * each connection keeps the memory of one that is over for the next. */
SqliteOperation *
belay_sqlite_operation_new (gsize size, SqliteKind kind, SqliteLevel *level, gboolean promise,
                            SqliteOutcome (*run) (SqliteConnection *, SqliteOperation *))
{
  SqliteOperation *op = NULL;

  if (size > BELAY_SQLITE_SMALL) /* an input's size: it may be more than there is */
    {
      op = belay_test_try_realloc (NULL, size);
      if (op == NULL)
        return NULL;
    }
  else
    {
      size = BELAY_SQLITE_SMALL;
      if (kind == BELAY_SQLITE_WORK)
        op = atomic_exchange_explicit (&level->connection->spare, NULL, memory_order_acquire);
      if (op == NULL)
        op = g_malloc (BELAY_SQLITE_SMALL);
    }
  memset (op, 0, sizeof *op);
  op->size = (guint) MIN (size, G_MAXUINT);
  op->kind = (guint8) kind;
  op->level = level;
  op->connection = level->connection;
  atomic_init (&op->refs, 1);
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

/* Its level may be gone; @connection, when it is not NULL, is the caller's, and gets the memory. */
static void
operation_unref (SqliteOperation *op, SqliteConnection *connection)
{
  if (!belay_sqlite_refs_drop (&op->refs))
    return;
  clear_result (op);
  if (op->free_data != NULL)
    op->free_data (op);
  g_free (op->busy_sql);
  if (op->promise != NULL)
    belay_promise_unref (op->promise);
  if (op->context != NULL)
    g_main_context_unref (op->context);
  if (connection != NULL && op->size == BELAY_SQLITE_SMALL)
    op = atomic_exchange_explicit (&connection->spare, op, memory_order_acq_rel);
  g_free (op);
}

static void
on_cancel_over (gpointer data)
{
  SqliteOperation *op = data;
  SqliteConnection *connection = op->connection;

  operation_unref (op, connection);
  belay_sqlite_connection_unref (connection);
}

void
belay_sqlite_operation_on_cancel (SqliteOperation *op, BelayCancelFunc func)
{
  belay_sqlite_refs_take (&op->refs);
  belay_sqlite_connection_ref (op->connection);
  belay_promise_on_cancel (op->promise, func, op, on_cancel_over);
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
  return belay_sqlite_operation_fail (op, belay_sqlite_error_last (connection->handle, code, connection->name, sql));
}

void
belay_sqlite_operation_fail_cancelled (SqliteOperation *op)
{
  belay_sqlite_operation_fail (op, g_error_new (G_IO_ERROR, G_IO_ERROR_CANCELLED, "%s: cancelled", op->connection->name));
}

void
belay_sqlite_operation_fail_closed (SqliteOperation *op)
{
  belay_sqlite_operation_fail (op, g_error_new (G_IO_ERROR, G_IO_ERROR_CLOSED,
                                                op->level->depth == 0 ? "%s: the connection is closed"
                                                                      : "%s: the transaction has ended",
                                                op->connection->name));
}

void
belay_sqlite_operation_answer (SqliteOperation *op, SqliteConnection *connection)
{
  BelayPromise *promise = op->promise;

  if (G_UNLIKELY (op->abandoned))
    {
      /* It was stopped, but nobody has cancelled it. */
      if (op->in_vain || (op->result_kind == BELAY_SQLITE_FAILURE &&
                          g_error_matches (op->result.error, G_IO_ERROR, G_IO_ERROR_CANCELLED)))
        belay_sqlite_operation_fail_closed (op);
    }
  else if (G_UNLIKELY (op->in_vain && op->cancelled))
    belay_sqlite_operation_fail_cancelled (op);
  else if (G_UNLIKELY (op->in_vain))
    belay_sqlite_operation_fail_closed (op);
  /* Now, while whoever waits keeps its loop: ours must not be the last reference to that. */
  if (op->context != NULL)
    g_main_context_unref (g_steal_pointer (&op->context));
  if (G_UNLIKELY (promise == NULL))
    {
      /* A future that nobody looks at gives its error to the sink. */
      if (op->result_kind == BELAY_SQLITE_FAILURE)
        belay_future_unref (belay_future_new_error (g_steal_pointer (&op->result.error)));
      op->result_kind = BELAY_SQLITE_NOTHING;
      operation_unref (op, connection);
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
  operation_unref (op, connection);
}

void
belay_sqlite_operations_refuse (SqliteOperation *dropped)
{
  while (dropped != NULL)
    {
      SqliteOperation *op = dropped;

      dropped = op->next;
      if (op->kind != BELAY_SQLITE_END)
        belay_sqlite_operation_fail_closed (op);
      belay_sqlite_operation_answer (op, NULL);
    }
}
