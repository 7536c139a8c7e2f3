/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Transactions.
 *
 * A transaction is BEGIN IMMEDIATE, so that it waits for the lock at its beginning, where waiting is possible: one that
 * begins by reading and then wants to write is refused by SQLite, or waits for a writer that waits for it. In a
 * transaction, one is a savepoint, named by its depth. A level's end is a rollback; its commit is COMMIT or RELEASE.
 *
 * A transaction is *lost* when SQLite is out of it before we ended it: it rolls back by itself after some errors (a full
 * disk, a write that was stopped in its middle), and a statement may say COMMIT. What is run in a lost transaction would
 * be committed at once, each statement by itself, so nothing is: all its levels refuse everything but their end. One that
 * a function of the program's has begun in its place is another one, and rolled back; SQLite's hooks tell of that.
 *
 * The *shared read transaction*: half of what a point SELECT costs is taking and giving back the lock of the file. So when
 * SELECTs queue up on a connection, they share one (deferred) read transaction, SHARED_MAX of them at most, and it ends
 * before anything else is done and when the queue is empty. They see one snapshot, of the moment of the first; so only
 * those share it that had been given by then: T5.
 *
 *  T1  Outside a level's end, SQLite is in a transaction exactly while the level of depth 1 is open and not lost, or the
 *      shared one is open, or the program began one by a statement of its own at depth 0.
 *  T2  What fails at depth 0 leaves no transaction open that was not open before it.
 *  T3  A commit that fails, for whatever reason, is followed by a rollback before anybody is told; what both say is told.
 *  T4  A connection that cannot be brought out of a transaction is `broken`: nothing more is run on it.
 *  T5  What a SELECT sees is never older than the SELECT: whoever knows of a commit and then gives one, sees it. So one
 *      that is given after the snapshot was taken ends the shared transaction, by its number.
 */
#include "transaction.h"

#include "sqlite-error.h"

#define SHARED_MAX 64

enum
{
  BEGIN_WRITE,
  BEGIN_READ,
  COMMIT,
  ROLLBACK
};

static const char *fixed_sql[] = { "BEGIN IMMEDIATE", "BEGIN", "COMMIT", "ROLLBACK" };

G_STATIC_ASSERT (G_N_ELEMENTS (fixed_sql) <= G_N_ELEMENTS (((SqliteConnection *) NULL)->fixed));

/* Runs one of the statements that are prepared once. */
static int
run_fixed (SqliteConnection *connection, guint which)
{
  sqlite3_stmt **stmt = &connection->fixed[which];
  int code;

  if (*stmt == NULL)
    {
      code = sqlite3_prepare_v3 (connection->handle, fixed_sql[which], -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);
      if (code != SQLITE_OK)
        return code;
    }
  sqlite3_step (*stmt);
  return sqlite3_reset (*stmt);
}

/* "SAVEPOINT belay_2", by way of the cache. */
static int
run_savepoint (SqliteConnection *connection, const char *verb, guint depth, char **ret_sql)
{
  g_autofree char *sql = g_strdup_printf ("%s belay_%u", verb, depth);
  gsize length = strlen (sql);
  guint32 hash = belay_sqlite_hash (sql, length);
  SqliteStatement *statement = belay_sqlite_cache_find (&connection->cache, sql, length, hash);
  int code = SQLITE_OK;

  if (statement == NULL)
    statement = belay_sqlite_cache_add (&connection->cache, connection->handle, sql, length, hash, &code, NULL);
  if (statement != NULL)
    {
      sqlite3_step (statement->stmt);
      code = sqlite3_reset (statement->stmt);
    }
  if (ret_sql != NULL)
    *ret_sql = g_steal_pointer (&sql);
  return code;
}

static gboolean
in_transaction (SqliteConnection *connection)
{
  return !sqlite3_get_autocommit (connection->handle);
}

/* Nothing more may be run on it: T4. */
static void
break_connection (SqliteConnection *connection, int code, const char *sql)
{
  g_autoptr (GError) error = belay_sqlite_error_last (connection->handle, code, connection->name, sql);

  if (connection->broken == NULL)
    connection->broken = g_error_new (error->domain, error->code,
                                      "%s; a transaction can neither be ended nor used, nor the connection", error->message);
}

static void
lose (SqliteConnection *connection, const char *why)
{
  for (SqliteLevel *level = connection->top; level->depth > 0; level = level->outer)
    if (level->lost == NULL)
      level->lost = g_strdup (why);
}

gboolean
belay_sqlite_level_usable (SqliteConnection *connection, SqliteOperation *op)
{
  g_autofree char *text = NULL;

  if (G_LIKELY (op->level->lost == NULL))
    return TRUE;
  text = g_strdup_printf ("the transaction is over already: %s", op->level->lost);
  belay_sqlite_operation_fail (op, belay_sqlite_error_make (SQLITE_ABORT_ROLLBACK, text, connection->name, NULL));
  return FALSE;
}

/* --- the shared read transaction --- */

int
belay_sqlite_share_select (SqliteConnection *connection, SqliteOperation *op)
{
  int code;

  if (op->level->depth > 0)
    return SQLITE_OK;
  if (connection->n_shared > 0)
    {
      if ((gint) (connection->last_shared - op->number) >= 0 && connection->n_shared++ < SHARED_MAX)
        return SQLITE_OK;
      belay_sqlite_share_end (connection);
    }
  if (connection->n_queued_behind == 0 || in_transaction (connection))
    return SQLITE_OK;
  code = run_fixed (connection, BEGIN_READ);
  if (code == SQLITE_OK)
    {
      connection->n_shared = 1;
      connection->last_shared = connection->last_behind;
    }
  return code;
}

void
belay_sqlite_share_end (SqliteConnection *connection)
{
  int code;

  if (connection->n_shared == 0)
    return;
  connection->n_shared = 0;
  if (!in_transaction (connection)) /* an error has ended it */
    return;
  code = run_fixed (connection, COMMIT);
  if (code != SQLITE_OK && in_transaction (connection))
    code = run_fixed (connection, ROLLBACK);
  if (code != SQLITE_OK && in_transaction (connection))
    break_connection (connection, code, fixed_sql[ROLLBACK]);
}

/* --- begin, commit, end --- */

static SqliteOutcome
run_begin (SqliteConnection *connection, SqliteOperation *op)
{
  g_autofree char *sql = NULL;
  SqliteLevel *level;
  int code;

  if (!belay_sqlite_level_usable (connection, op))
    return BELAY_SQLITE_DONE;
  if (op->level->depth == 0)
    code = run_fixed (connection, BEGIN_WRITE);
  else
    code = run_savepoint (connection, "SAVEPOINT", op->level->depth + 1, &sql);
  if (code != SQLITE_OK)
    return belay_sqlite_operation_fail_code (connection, op, code, sql != NULL ? sql : fixed_sql[BEGIN_WRITE]);

  level = belay_sqlite_level_new (op->level);
  op->begun = level;
  op->result_kind = BELAY_SQLITE_HANDLE;
  op->result.handle = belay_sqlite_handle_new (level);
  belay_sqlite_level_unref (level);
  return BELAY_SQLITE_DONE;
}

static SqliteOutcome
fail_nothing_to_commit (SqliteConnection *connection, SqliteOperation *op)
{
  g_critical ("%s: a connection was committed, not a transaction", connection->name);
  return belay_sqlite_operation_fail (op, g_error_new (BELAY_ERROR, BELAY_ERROR_MISUSE,
                                                       "%s: there is no transaction to commit on the connection itself; commit "
                                                       "the handle that belay_sqlite_begin() gave", connection->name));
}

static SqliteOutcome
run_commit (SqliteConnection *connection, SqliteOperation *op)
{
  g_autofree char *sql = NULL;
  int code = SQLITE_OK;

  if (!belay_sqlite_level_usable (connection, op))
    return BELAY_SQLITE_DONE;
  if (op->level->depth > 1)
    code = run_savepoint (connection, "RELEASE", op->level->depth, &sql);
  else if (in_transaction (connection)) /* at depth 0: one that the program began itself */
    code = run_fixed (connection, COMMIT);
  else
    return fail_nothing_to_commit (connection, op);
  if (code != SQLITE_OK)
    return belay_sqlite_operation_fail_code (connection, op, code, sql != NULL ? sql : fixed_sql[COMMIT]);
  return BELAY_SQLITE_DONE;
}

/* Rolls @level back. NULL, or what went wrong (transfer full). */
static GError *
roll_back (SqliteConnection *connection, SqliteLevel *level)
{
  g_autofree char *sql = NULL;
  GError *error;
  int code;

  if (level->lost != NULL || connection->broken != NULL || !in_transaction (connection))
    return NULL;
  if (level->depth > 1)
    {
      code = run_savepoint (connection, "ROLLBACK TO", level->depth, &sql);
      if (code == SQLITE_OK)
        {
          g_clear_pointer (&sql, g_free);
          code = run_savepoint (connection, "RELEASE", level->depth, &sql);
        }
      if (code == SQLITE_OK)
        return NULL;
      /* It cannot be undone alone, so all of it is. */
      error = belay_sqlite_error_last (connection->handle, code, connection->name, sql);
      lose (connection, error->message);
      code = run_fixed (connection, ROLLBACK);
    }
  else
    {
      code = run_fixed (connection, ROLLBACK);
      error = code != SQLITE_OK ? belay_sqlite_error_last (connection->handle, code, connection->name, fixed_sql[ROLLBACK])
                                : NULL;
    }
  if (code != SQLITE_OK && in_transaction (connection))
    break_connection (connection, code, fixed_sql[ROLLBACK]);
  else if (level->depth == 1)
    g_clear_error (&error); /* out of the transaction, which is what was wanted */
  return error;
}

static SqliteOutcome
run_end (SqliteConnection *connection, SqliteOperation *op)
{
  GError *error;

  if (op->level->depth == 0)
    {
      belay_sqlite_connection_shut (connection);
      return BELAY_SQLITE_DONE;
    }
  error = roll_back (connection, op->level);
  return error != NULL ? belay_sqlite_operation_fail (op, error) : BELAY_SQLITE_DONE;
}

static void
after_failed_commit (SqliteConnection *connection, SqliteOperation *op)
{
  GError *error;

  if (op->level->depth == 0)
    return; /* closing the connection rolls back */
  error = roll_back (connection, op->level);
  if (error != NULL)
    {
      g_prefix_error (&op->result.error, "the commit failed, and so did rolling back (%s): ", error->message); /* T3 */
      g_error_free (error);
    }
}

/* What is open and should not be. */
static void
roll_back_any (SqliteConnection *connection)
{
  int code;

  if (!in_transaction (connection))
    return;
  code = run_fixed (connection, ROLLBACK);
  if (code != SQLITE_OK && in_transaction (connection))
    break_connection (connection, code, fixed_sql[ROLLBACK]);
}

void
belay_sqlite_after_operation (SqliteConnection *connection, SqliteOperation *op)
{
  gboolean failed = op->result_kind == BELAY_SQLITE_FAILURE;

  if (connection->handle == NULL)
    return;
  if (G_UNLIKELY (failed && op->kind == BELAY_SQLITE_COMMIT))
    {
      after_failed_commit (connection, op);
    }
  else if (op->kind == BELAY_SQLITE_WORK && op->level->depth > 0)
    {
      if (G_UNLIKELY ((!in_transaction (connection) || connection->ended) && op->level->lost == NULL))
        {
          g_autofree char *why = NULL;

          if (failed && g_error_matches (op->result.error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
            why = g_strconcat ("a write in it was cancelled: ", op->result.error->message, NULL);
          lose (connection, why != NULL ? why : failed ? op->result.error->message : "a statement in it ended it");
          roll_back_any (connection);
        }
    }
  else if (G_UNLIKELY (failed && op->kind == BELAY_SQLITE_WORK))
    {
      if (connection->n_shared > 0)
        {
          if (!in_transaction (connection))
            connection->n_shared = 0;
        }
      else if (op->autocommit) /* T2 */
        {
          roll_back_any (connection);
        }
    }
}

/* --- operations --- */

SqliteOperation *
belay_sqlite_begin_operation_new (SqliteLevel *level)
{
  return belay_sqlite_operation_new (sizeof (SqliteOperation), BELAY_SQLITE_BEGIN, level, TRUE, run_begin);
}

SqliteOperation *
belay_sqlite_commit_operation_new (SqliteLevel *level)
{
  return belay_sqlite_operation_new (sizeof (SqliteOperation), BELAY_SQLITE_COMMIT, level, TRUE, run_commit);
}

SqliteOperation *
belay_sqlite_end_operation_new (SqliteLevel *level, gboolean promise)
{
  return belay_sqlite_operation_new (sizeof (SqliteOperation), BELAY_SQLITE_END, level, promise, run_end);
}
