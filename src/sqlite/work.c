/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is run on a connection: statements, scripts, functions of the program's.
 *
 * A statement's operation is one block of memory: its head, its parameters, its text, and the bytes of the parameters. It
 * is made by the caller's thread, read by the pump, and freed by it when the outcome is known. SQLite is given pointers
 * into that block, and no copies.
 *
 *  P1  When run_… returns, the statement is reset (C1) and SQLite holds no pointer into the operation.
 *  P2  A statement that met a lock has had no effect, so it is run again from its beginning; a script goes on with the
 *      statement that met it.
 *  P3  A statement that writes is run to its end even when one value of it is wanted: to leave it earlier would leave it
 *      to chance what is committed, and the error unseen.
 *  P4  The memory of rows, texts and parameters is as large as the data, so it may be missing: SQLITE_NOMEM, not an abort.
 */
#include "work.h"

#include "pump.h"
#include "sqlite-error.h"
#include "transaction.h"

#include <belay/belay-test.h>
#include <string.h>

typedef struct
{
  SqliteOperation op;
  SqliteWant      want;
  guint32         hash; /* of @sql */
  guint           n_parameters;
  gboolean        has_bytes; /* among them */
  gsize           length;    /* of @sql */
  const char     *sql;       /* behind the parameters */
  SqliteParameter parameters[];
} StatementOperation;

typedef struct
{
  SqliteOperation op;
  gsize           position; /* from which it goes on */
  char            sql[];
} ScriptOperation;

typedef struct
{
  SqliteOperation op;
  BelaySqliteFunc func;
  gpointer        data;
} FunctionOperation;

/* --- statements --- */

static int
take_rows (SqliteConnection *connection, StatementOperation *self, SqliteStatement *statement)
{
  SqlitePacker *packer = &connection->packer;
  SqliteNames *names;
  guint n_columns;
  int code;

  if (!belay_sqlite_packer_begin (packer))
    return SQLITE_NOMEM;
  code = sqlite3_step (statement->stmt);
  names = belay_sqlite_statement_names (statement); /* the first step may have prepared it again: C4 */
  n_columns = names->n;
  while (code == SQLITE_ROW)
    {
      code = belay_sqlite_packer_add (packer, statement->stmt, n_columns);
      if (G_UNLIKELY (code != SQLITE_OK))
        {
          belay_sqlite_packer_clear (packer);
          belay_sqlite_operation_fail (&self->op, belay_sqlite_error_make (code, code == SQLITE_TOOBIG ? "its rows take more than 4 GiB"
                                                                                                       : NULL,
                                                                           connection->name, self->sql));
          return SQLITE_DONE;
        }
      code = sqlite3_step (statement->stmt);
    }
  if (code != SQLITE_DONE)
    return code;
  names = belay_sqlite_statement_ref_names (statement);
  self->op.result.rows = belay_sqlite_packer_finish (packer, names);
  if (self->op.result.rows == NULL)
    {
      belay_sqlite_names_unref (names, 1);
      return SQLITE_NOMEM;
    }
  self->op.result_kind = BELAY_SQLITE_ROWS;
  return SQLITE_DONE;
}

static int
take_value (SqliteConnection *connection, StatementOperation *self, SqliteStatement *statement)
{
  sqlite3_stmt *stmt = statement->stmt;
  gboolean found = FALSE;
  int code = sqlite3_step (stmt);

  if (code == SQLITE_ROW && sqlite3_column_type (stmt, 0) != SQLITE_NULL)
    {
      found = TRUE;
      if (self->want == BELAY_SQLITE_WANT_INT64)
        {
          self->op.result_kind = BELAY_SQLITE_INT64;
          self->op.result.integer = sqlite3_column_int64 (stmt, 0);
        }
      else
        {
          const char *text = (const char *) sqlite3_column_text (stmt, 0);
          gsize size = (gsize) sqlite3_column_bytes (stmt, 0) + 1;
          char *copy = text != NULL ? belay_test_try_realloc (NULL, size) : NULL;

          if (copy == NULL)
            return SQLITE_NOMEM;
          memcpy (copy, text, size);
          self->op.result_kind = BELAY_SQLITE_STRING;
          self->op.result.string = copy;
        }
    }
  if (code == SQLITE_ROW && statement->read_only)
    code = SQLITE_DONE;
  while (code == SQLITE_ROW) /* P3 */
    code = sqlite3_step (stmt);
  if (code == SQLITE_DONE && !found)
    {
      g_autofree char *sql = g_utf8_make_valid (self->sql, -1);

      belay_sqlite_operation_fail (&self->op, g_error_new (G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "%s: no value: %s",
                                                           connection->name, sql));
    }
  return code;
}

static int
run_to_end (SqliteConnection *connection, StatementOperation *self, SqliteStatement *statement)
{
  gint64 before = sqlite3_total_changes64 (connection->handle);
  int code;

  do
    code = sqlite3_step (statement->stmt);
  while (code == SQLITE_ROW);
  self->op.result_kind = BELAY_SQLITE_INT64;
  /* SQLite's count is that of the last statement that counts; one that does not leaves it as it was. */
  self->op.result.integer = sqlite3_total_changes64 (connection->handle) != before
                              ? sqlite3_changes64 (connection->handle) : 0;
  return code;
}

/* Finds and prepares it. NULL: *ret_code says why, or, when that is SQLITE_OK, the operation has failed. */
static SqliteStatement *
prepare (SqliteConnection *connection, StatementOperation *self, int *ret_code)
{
  SqliteStatement *statement;
  GError *error = NULL;

  *ret_code = SQLITE_OK;
  statement = belay_sqlite_cache_find (&connection->cache, self->sql, self->length, self->hash);
  if (G_UNLIKELY (statement == NULL))
    {
      if (!belay_sqlite_looks_like_select (self->sql))
        belay_sqlite_share_end (connection); /* before it is prepared: C5 */
      statement = belay_sqlite_cache_add (&connection->cache, connection->handle, self->sql, self->length, self->hash,
                                          ret_code, &error);
    }
  if (G_UNLIKELY (statement == NULL))
    {
      if (error != NULL)
        {
          g_prefix_error (&error, "%s: ", connection->name);
          belay_sqlite_operation_fail (&self->op, error);
        }
      return NULL;
    }
  if (G_UNLIKELY (statement->n_parameters != self->n_parameters))
    {
      g_autofree char *text = g_strdup_printf ("it has %u parameters, and %u were given", statement->n_parameters,
                                               self->n_parameters);
      belay_sqlite_operation_fail (&self->op, belay_sqlite_error_make (SQLITE_RANGE, text, connection->name, self->sql));
      return NULL;
    }
  if (statement->is_select)
    *ret_code = belay_sqlite_share_select (connection, &self->op);
  else
    belay_sqlite_share_end (connection);
  return *ret_code == SQLITE_OK ? statement : NULL;
}

static SqliteOutcome
run_statement (SqliteConnection *connection, SqliteOperation *op)
{
  StatementOperation *self = (StatementOperation *) op;
  SqliteOutcome outcome = BELAY_SQLITE_DONE;
  SqliteStatement *statement;
  int code;

  if (!belay_sqlite_level_usable (connection, op))
    return BELAY_SQLITE_DONE;
  statement = prepare (connection, self, &code);
  if (G_UNLIKELY (statement == NULL))
    return code != SQLITE_OK ? belay_sqlite_operation_fail_code (connection, op, code, self->sql) : BELAY_SQLITE_DONE;

  code = belay_sqlite_parameters_bind (self->parameters, self->n_parameters, statement->stmt);
  if (G_LIKELY (code == SQLITE_OK))
    {
      switch (self->want)
        {
        case BELAY_SQLITE_WANT_CHANGES:
          code = run_to_end (connection, self, statement);
          break;
        case BELAY_SQLITE_WANT_ROWS:
          code = take_rows (connection, self, statement);
          break;
        case BELAY_SQLITE_WANT_STRING:
        case BELAY_SQLITE_WANT_INT64:
          code = take_value (connection, self, statement);
          break;
        }
    }
  if (G_UNLIKELY (code != SQLITE_DONE && code != SQLITE_OK))
    outcome = belay_sqlite_operation_fail_code (connection, op, code, self->sql); /* before the reset: E2 */
  sqlite3_reset (statement->stmt);
  if (self->has_bytes)
    sqlite3_clear_bindings (statement->stmt); /* P1 */
  return outcome;
}

static void
free_statement (SqliteOperation *op)
{
  StatementOperation *self = (StatementOperation *) op;

  belay_sqlite_parameters_free (self->parameters, self->n_parameters);
}

static GError *
no_memory (const char *sql)
{
  return belay_sqlite_error_make (SQLITE_NOMEM, NULL, NULL, sql);
}

SqliteOperation *
belay_sqlite_statement_operation_new (SqliteLevel *level, SqliteWant want, const char *sql, SqliteParameterReader *reader,
                                      GError **error)
{
  gsize length = strlen (sql), head = sizeof (StatementOperation) + reader->n * sizeof (SqliteParameter);
  StatementOperation *self;
  char *text;

  self = (StatementOperation *) belay_sqlite_operation_new (head + length + 1 + reader->n_bytes, BELAY_SQLITE_WORK, level, TRUE,
                                                            run_statement);
  if (self == NULL)
    {
      g_propagate_error (error, no_memory (sql));
      return NULL;
    }
  text = (char *) self + head;
  memcpy (text, sql, length + 1);
  self->sql = text;
  self->length = length;
  self->hash = belay_sqlite_hash (sql, length);
  self->want = want;
  self->n_parameters = reader->n;
  self->has_bytes = FALSE;
  for (guint i = 0; i < reader->n; i++)
    if (reader->all[i].holder != NULL)
      {
        self->op.free_data = free_statement;
        self->has_bytes = TRUE;
      }
  belay_sqlite_parameters_move (reader, self->parameters, text + length + 1);
  return &self->op;
}

/* --- scripts --- */

static SqliteOutcome
run_script (SqliteConnection *connection, SqliteOperation *op)
{
  ScriptOperation *self = (ScriptOperation *) op;

  if (!belay_sqlite_level_usable (connection, op))
    return BELAY_SQLITE_DONE;
  belay_sqlite_share_end (connection);
  return belay_sqlite_run_script (connection, op, self->sql, &self->position);
}

SqliteOperation *
belay_sqlite_script_operation_new (SqliteLevel *level, const char *sql, GError **error)
{
  gsize size = strlen (sql) + 1;
  ScriptOperation *self = (ScriptOperation *) belay_sqlite_operation_new (sizeof *self + size, BELAY_SQLITE_WORK, level, TRUE,
                                                                          run_script);

  if (self == NULL)
    {
      g_propagate_error (error, no_memory (sql));
      return NULL;
    }
  self->position = 0;
  memcpy (self->sql, sql, size);
  return &self->op;
}

/* --- functions --- */

/*
 * Statements that the function left in the middle of their rows would hold a lock, and a rollback back. A virtual table
 * keeps blobs open between calls (FTS5 does), which look like statements without a text: those are its own affair.
 */
static void
reset_all (SqliteConnection *connection)
{
  sqlite3_stmt *stmt = NULL;

  while ((stmt = sqlite3_next_stmt (connection->handle, stmt)) != NULL)
    {
      if (!sqlite3_stmt_busy (stmt) || sqlite3_sql (stmt) == NULL)
        continue;
      g_critical ("%s: a function given to belay_sqlite_run() has left a statement running: %s", connection->name,
                  sqlite3_sql (stmt));
      sqlite3_reset (stmt);
    }
}

static SqliteOutcome
run_function (SqliteConnection *connection, SqliteOperation *op)
{
  FunctionOperation *self = (FunctionOperation *) op;
  GError *error = NULL;
  gboolean ok;

  if (!belay_sqlite_level_usable (connection, op))
    return BELAY_SQLITE_DONE;
  belay_sqlite_share_end (connection);

  /* It cannot be run twice, so it waits for locks where it is. */
  sqlite3_busy_handler (connection->handle, belay_sqlite_pump_sleep, connection);
  sqlite3_exec (connection->handle, "", NULL, NULL, NULL); /* forgets the last error, which was another's */
  ok = self->func (connection->handle, self->data, &error);
  sqlite3_busy_handler (connection->handle, NULL, NULL);
  belay_sqlite_watch_for_stop (connection); /* the function may have set a handler of its own */
  reset_all (connection);

  if (ok && error == NULL)
    return BELAY_SQLITE_DONE;
  if (ok || error == NULL)
    {
      g_critical (ok ? "a function given to belay_sqlite_run() returned TRUE and set an error"
                     : "a function given to belay_sqlite_run() returned FALSE and set no error");
      if (error == NULL)
        error = g_error_new (BELAY_ERROR, BELAY_ERROR_MISUSE, "%s: a function failed and did not say why", connection->name);
    }
  return belay_sqlite_operation_fail (op, error);
}

SqliteOperation *
belay_sqlite_function_operation_new (SqliteLevel *level, BelaySqliteFunc func, gpointer data)
{
  FunctionOperation *self = (FunctionOperation *) belay_sqlite_operation_new (sizeof *self, BELAY_SQLITE_WORK, level, TRUE,
                                                                              run_function);

  G_STATIC_ASSERT (sizeof *self <= BELAY_SQLITE_SMALL);
  self->func = func;
  self->data = data;
  self->op.borrowing = TRUE;
  belay_promise_set_borrowing (self->op.promise);
  return &self->op;
}
