/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection: its queues, and what callers do to them.
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
 * front of its queue; the connection is then *waiting*, until a timer starts the pump again (pump.c).
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
 *  Q7  The connection lives while one of its handles, its pump, a timer, its opening or an operation's on_cancel holds
 *      a reference. A level lives at least as long as an operation of its that is QUEUED or RUNNING.
 *
 * Who holds what: the caller's thread and the pump take `lock`; it is the innermost lock, under which memory may be
 * allocated and nothing else is called.
 */
#include "connection.h"

#include "pump.h"
#include "transaction.h"

/* --- queues; all of it under the lock --- */

void
belay_sqlite_queue_push_last (SqliteOperation *op)
{
  SqliteLevel *level = op->level;

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

void
belay_sqlite_queue_push_first (SqliteOperation *op)
{
  SqliteLevel *level = op->level;

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

void
belay_sqlite_queue_take_out (SqliteOperation *op)
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
      belay_sqlite_queue_take_out (op);
      op->next = *dropped;
      *dropped = op;
    }
}

void
belay_sqlite_level_push_end (SqliteLevel *level)
{
  level->ending = TRUE;
  if (level->last == NULL || level->last->kind != BELAY_SQLITE_END)
    belay_sqlite_queue_push_last (belay_sqlite_end_operation_new (level, FALSE));
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
      belay_sqlite_level_push_end (inner);
    }
}

void
belay_sqlite_level_enter (SqliteLevel *level)
{
  SqliteConnection *connection = level->connection;

  g_assert (connection->top == level->outer);
  connection->top = belay_sqlite_level_ref (level);
  level->outer->inner = level;
}

gboolean
belay_sqlite_level_leave (SqliteLevel *level, SqliteOperation **dropped)
{
  SqliteConnection *connection = level->connection;

  g_assert (connection->top == level);
  level->ended = level->ending = TRUE;
  while (level->last != NULL)
    {
      SqliteOperation *op = level->last;

      belay_sqlite_queue_take_out (op);
      op->next = *dropped;
      *dropped = op;
    }
  if (level->depth == 0)
    return FALSE;
  connection->top = level->outer;
  level->outer->inner = NULL;
  return TRUE;
}

/* --- what callers do --- */

/*
 * An operation that nobody waits for is still under way: a statement is being stopped, a file being opened. That is counted
 * as a pending release, which the end of the program waits for (L15, L50), by a resource whose close waits for it.
 */
typedef struct
{
  BelayPlain   plain;
  BelayFuture *future;
} Aftermath;

static gboolean
aftermath_close (gpointer data, BelayReason reason, GError **error)
{
  Aftermath *self = data;

  belay_await_ok (g_steal_pointer (&self->future), NULL); /* how it ends, nobody wants to know */
  return TRUE;
}

static const BelayPlainClass aftermath_class = BELAY_PLAIN_CLASS ("cancelled SQLite operation", aftermath_close, g_free);

static void
await_aftermath (SqliteOperation *op)
{
  Aftermath *self = belay_plain_new (Aftermath, &aftermath_class);

  self->future = belay_promise_get_future (op->promise);
  belay_future_unref (belay_resource_future (self)); /* which closes it, in a fiber of its own */
}

/* Nobody is interested in an operation any more; by any thread, under no lock, perhaps while it is answered. */
static void
operation_cancelled (gpointer data)
{
  SqliteOperation *op = data;
  SqliteLevel *level = op->level; /* there unless it is OVER */
  SqliteConnection *connection = op->connection;
  SqliteOperation *dropped = NULL;
  gboolean taken_back = FALSE, under_way = FALSE, start;
  guint number;

  pthread_mutex_lock (&connection->lock);
  if (op->state == BELAY_SQLITE_QUEUED && op->n_attempts == 0)
    {
      belay_sqlite_queue_take_out (op);
      taken_back = TRUE;
      if (op->kind == BELAY_SQLITE_OPEN)
        belay_sqlite_level_leave (level, &dropped);
    }
  else if (op->state == BELAY_SQLITE_QUEUED)
    {
      under_way = op->cancelled = TRUE;
      if (level->first == op)
        connection->waiting = FALSE;
    }
  else if (op->state == BELAY_SQLITE_RUNNING)
    {
      under_way = op->cancelled = TRUE;
      if (op->kind != BELAY_SQLITE_COMMIT)
        g_atomic_int_set (&connection->stop, 1);
    }
  start = belay_sqlite_pump_is_due (connection, &number);
  pthread_mutex_unlock (&connection->lock);

  if (under_way && !op->borrowing && g_main_depth () > 0) /* by a thread that runs a loop, as a fiber does */
    await_aftermath (op);
  if (taken_back)
    {
      belay_sqlite_operation_fail_cancelled (op);
      belay_sqlite_operation_answer (op, NULL);
    }
  if (start)
    belay_sqlite_pump_start (connection, number);
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
        belay_sqlite_operation_on_cancel (op, operation_cancelled);
    }
  op->context = g_main_context_get_thread_default ();
  if (op->context != NULL)
    g_main_context_ref (op->context);
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
      belay_sqlite_queue_push_last (op);
      start = belay_sqlite_pump_is_due (connection, &number);
    }
  pthread_mutex_unlock (&connection->lock);

  if (start)
    belay_sqlite_pump_start (connection, number);
  belay_sqlite_operations_refuse (dropped);
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
          belay_sqlite_operation_fail_closed (op);
        }
      belay_sqlite_operation_answer (op, NULL);
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
          belay_sqlite_level_push_end (inner);
        }
      current = connection->current; /* of the top level, hence of @level or inside of it */
      if (current != NULL && current->kind != BELAY_SQLITE_COMMIT && current->kind != BELAY_SQLITE_END)
        {
          current->cancelled = TRUE;
          g_atomic_int_set (&connection->stop, 1);
          if (level->depth == 0 && connection->handle != NULL)
            sqlite3_interrupt (connection->handle);
        }
      start = belay_sqlite_pump_is_due (connection, &number);
    }
  pthread_mutex_unlock (&connection->lock);

  if (start)
    belay_sqlite_pump_start (connection, number);
  belay_sqlite_operations_refuse (dropped);
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

  atomic_init (&level->refs, 1);
  level->connection = outer->connection;
  level->depth = outer->depth + 1;
  level->outer = outer;
  return level;
}

SqliteLevel *
belay_sqlite_level_ref (SqliteLevel *level)
{
  belay_sqlite_refs_take (&level->refs);
  return level;
}

void
belay_sqlite_level_unref (SqliteLevel *level)
{
  if (level->depth == 0 || !belay_sqlite_refs_drop (&level->refs)) /* depth 0 lies in the connection */
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

  atomic_init (&connection->refs, 1);
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
  belay_sqlite_refs_take (&connection->refs);
  return connection;
}

void
belay_sqlite_connection_unref (SqliteConnection *connection)
{
  if (!belay_sqlite_refs_drop (&connection->refs))
    return;
  g_assert (connection->top == &connection->root && connection->root.first == NULL);
  belay_sqlite_connection_shut (connection);
  belay_sqlite_packer_clear (&connection->packer);
  g_free (atomic_load_explicit (&connection->spare, memory_order_acquire));
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
