/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening and closing SQLite's handle, and running scripts (which an opening does, too).
 *
 * An opening is the first operation in the queue of its connection, in four steps. SQLite opens a file without looking
 * at it; so the schema is asked for its version, which reads the first page, and finds out that the file is no database
 * or cannot be read. Another process may hold the file while it recovers it, or changes its journal: each step is then
 * repeated, as any operation that meets a lock.
 *
 *  O1  An opening that fails or is cancelled leaves no handle, whatever step it was at.
 *  O2  The handle is used by one thread at a time (the pump), so SQLite's own locks are off. sqlite3_interrupt() alone
 *      is called by others, under the connection's lock, and the handle is taken away under that lock before it is closed.
 *  O3  A statement that a function of the program's left unfinalized would keep the file locked after the close. It is
 *      finalized, and said so.
 */
#include "transaction.h"

#include "pump.h"
#include "sqlite-error.h"

#include <errno.h>

#define STOP_STEPS 1000 /* of SQLite's machine between two looks at whether to stop: some 10 µs */

typedef struct
{
  SqliteOperation op;
  int             flags;
  char           *setup;
  guint           step;
  gsize           position; /* in @setup */
} OpenOperation;

enum
{
  OPEN_FILE,
  READ_SCHEMA,
  RUN_SETUP
};

static void
finalize_all (SqliteConnection *connection)
{
  belay_sqlite_cache_clear (&connection->cache);
  for (guint i = 0; i < G_N_ELEMENTS (connection->fixed); i++)
    {
      sqlite3_finalize (connection->fixed[i]);
      connection->fixed[i] = NULL;
    }
}

/* O3. Virtual tables have statements too, and finalize them at the first attempt to close: what is left then is the program's. */
static void
finalize_left (SqliteConnection *connection, sqlite3 *handle)
{
  sqlite3_stmt *stmt;

  while ((stmt = sqlite3_next_stmt (handle, NULL)) != NULL)
    {
      g_critical ("%s: a function given to belay_sqlite_run() has left a statement open: %s", connection->name,
                  sqlite3_sql (stmt));
      sqlite3_finalize (stmt);
    }
}

void
belay_sqlite_connection_shut (SqliteConnection *connection)
{
  sqlite3 *handle = belay_sqlite_connection_steal_handle (connection);

  if (handle == NULL)
    return;
  connection->n_shared = 0; /* closing ends it */
  finalize_all (connection);
  sqlite3_progress_handler (handle, 0, NULL, NULL);
  if (sqlite3_close (handle) == SQLITE_OK)
    return;
  finalize_left (connection, handle);
  if (sqlite3_close (handle) != SQLITE_OK)
    {
      g_critical ("%s: a function given to belay_sqlite_run() has left a blob or a backup open", connection->name);
      sqlite3_close_v2 (handle); /* closes with the last of them */
    }
}

/* Runs all of one statement; its rows are dropped. */
static int
run_to_end (sqlite3_stmt *stmt)
{
  int code;

  do
    code = sqlite3_step (stmt);
  while (code == SQLITE_ROW);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

SqliteOutcome
belay_sqlite_run_script (SqliteConnection *connection, SqliteOperation *op, const char *sql, gsize *position)
{
  while (sql[*position] != '\0')
    {
      const char *start = sql + *position, *rest = start;
      sqlite3_stmt *stmt = NULL;
      SqliteOutcome outcome;
      int code;

      if (belay_sqlite_connection_is_stopped (connection))
        return belay_sqlite_operation_fail_code (connection, op, SQLITE_INTERRUPT, rest);
      code = sqlite3_prepare_v2 (connection->handle, rest, -1, &stmt, &rest);
      if (code == SQLITE_OK && stmt != NULL)
        code = run_to_end (stmt);
      if (code != SQLITE_OK)
        {
          outcome = belay_sqlite_operation_fail_code (connection, op, code,
                                                      stmt != NULL ? sqlite3_sql (stmt) : start);
          sqlite3_finalize (stmt);
          return outcome;
        }
      sqlite3_finalize (stmt);
      *position = (gsize) (rest - sql);
      if (G_UNLIKELY (op->level->depth > 0 && sqlite3_get_autocommit (connection->handle)))
        {
          /* What follows would be run outside of it. */
          g_autofree char *ender = g_strndup (start, (gsize) (rest - start));

          return belay_sqlite_operation_fail (op, belay_sqlite_error_make (
            SQLITE_ABORT_ROLLBACK, "a statement of the script has ended the transaction, and what follows it was not run",
            connection->name, ender));
        }
    }
  return BELAY_SQLITE_DONE;
}

/* sqlite3_exec() without its copies of rows. */
static int
run_sql (sqlite3 *handle, const char *sql)
{
  sqlite3_stmt *stmt = NULL;
  int code = sqlite3_prepare_v2 (handle, sql, -1, &stmt, NULL);

  if (code == SQLITE_OK)
    code = run_to_end (stmt);
  sqlite3_finalize (stmt);
  return code;
}

void
belay_sqlite_watch_for_stop (SqliteConnection *connection)
{
  sqlite3_progress_handler (connection->handle, STOP_STEPS, belay_sqlite_pump_progress, connection);
}

/* For sqlite3_commit_hook() and sqlite3_rollback_hook(): a savepoint's end is none. */
static int
on_commit (gpointer data)
{
  ((SqliteConnection *) data)->ended = TRUE;
  return 0;
}

static void
on_rollback (gpointer data)
{
  ((SqliteConnection *) data)->ended = TRUE;
}

static int
open_file (SqliteConnection *connection, int flags, GError **error)
{
  sqlite3 *handle = NULL;
  int code = sqlite3_open_v2 (connection->path, &handle, flags, NULL);

  if (code != SQLITE_OK)
    {
      if ((code & 0xff) == SQLITE_CANTOPEN && (flags & SQLITE_OPEN_CREATE) == 0 && sqlite3_system_errno (handle) == ENOENT)
        g_propagate_error (error, belay_sqlite_error_make (code, "unable to open database file: it does not exist",
                                                           connection->name, NULL));
      else
        g_propagate_error (error, belay_sqlite_error_last (handle, code, connection->name, NULL));
      sqlite3_close (handle);
      return code;
    }
  sqlite3_extended_result_codes (handle, 1);
  pthread_mutex_lock (&connection->lock);
  connection->handle = handle;
  pthread_mutex_unlock (&connection->lock);
  belay_sqlite_watch_for_stop (connection);
  sqlite3_commit_hook (handle, on_commit, connection);
  sqlite3_rollback_hook (handle, on_rollback, connection);
  return SQLITE_OK;
}

static SqliteOutcome
run_open_steps (SqliteConnection *connection, OpenOperation *open)
{
  SqliteOperation *op = &open->op;
  GError *error = NULL;
  int code;

  if (belay_sqlite_connection_is_stopped (connection))
    return belay_sqlite_operation_fail_code (connection, op, SQLITE_INTERRUPT, NULL);
  if (open->step == OPEN_FILE)
    {
      if (open_file (connection, open->flags, &error) != SQLITE_OK)
        return belay_sqlite_operation_fail (op, error);
      open->step = READ_SCHEMA;
    }
  if (open->step == READ_SCHEMA)
    {
      code = run_sql (connection->handle, "PRAGMA foreign_keys = ON");
      if (code == SQLITE_OK)
        code = run_sql (connection->handle, "PRAGMA schema_version");
      if (code != SQLITE_OK)
        return belay_sqlite_operation_fail_code (connection, op, code, NULL);
      open->step = RUN_SETUP;
    }
  return open->setup != NULL ? belay_sqlite_run_script (connection, op, open->setup, &open->position)
                             : BELAY_SQLITE_DONE;
}

static SqliteOutcome
run_open (SqliteConnection *connection, SqliteOperation *op)
{
  SqliteOutcome outcome = run_open_steps (connection, (OpenOperation *) op);

  if (outcome == BELAY_SQLITE_BUSY)
    return outcome;
  if (op->result_kind == BELAY_SQLITE_FAILURE)
    {
      belay_sqlite_connection_shut (connection); /* O1 */
    }
  else
    {
      op->result_kind = BELAY_SQLITE_HANDLE;
      op->result.handle = belay_sqlite_handle_new (op->level);
    }
  return outcome;
}

static void
free_open (SqliteOperation *op)
{
  OpenOperation *open = (OpenOperation *) op;

  g_free (open->setup);
  belay_sqlite_connection_unref (op->level->connection);
}

SqliteOperation *
belay_sqlite_open_operation_new (SqliteLevel *level, int flags, const char *setup)
{
  OpenOperation *open = (OpenOperation *) belay_sqlite_operation_new (sizeof *open, BELAY_SQLITE_OPEN, level, TRUE, run_open);

  G_STATIC_ASSERT (sizeof *open <= BELAY_SQLITE_SMALL);
  open->op.free_data = free_open;
  open->flags = flags;
  open->setup = g_strdup (setup);
  open->step = OPEN_FILE;
  open->position = 0;
  belay_sqlite_connection_ref (level->connection);
  return &open->op;
}
