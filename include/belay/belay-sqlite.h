/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SQLite beside the main loop. Link with belay-sqlite-1. */
#pragma once

#include <belay/belay.h>
#include <sqlite3.h>

G_BEGIN_DECLS

/**
 * BELAY_SQLITE_ERROR:
 *
 * The domain of SQLite's errors; the code is SQLite's extended result code, the message says what was tried.
 * An interrupted statement is %G_IO_ERROR_CANCELLED instead, a closed connection %G_IO_ERROR_CLOSED.
 */
#define BELAY_SQLITE_ERROR (belay_sqlite_error_quark ())
BELAY_AVAILABLE_IN_1_0 GQuark belay_sqlite_error_quark (void);

/**
 * BelaySqlite:
 *
 * A connection to a database, or a transaction on one: both run statements, and a transaction can begin a nested one
 * (a savepoint). Statements run on the workers, one after another in the order in which they were given; the
 * connection holds no thread while it has nothing to do. While a transaction is open, what is given to the connection
 * itself waits for its end, so that two fibers cannot mix their transactions.
 *
 * A SELECT sees all that was committed, by whatever connection, before it was given. SELECTs that wait for their turn on a
 * connection one behind the other may be given one snapshot, of a moment after the last of them was given.
 *
 * So whoever has a transaction open uses its handle: to wait for something given to the connection itself before one's own
 * transaction has ended is to wait for ever, or until the deadline. The library cannot tell, since a handle may be used and
 * ended by any fiber.
 *
 * Closing a connection waits for what was given to it; closing a transaction rolls it back; belay_commit() commits it. On a
 * connection that has no transaction open belay_commit() is a mistake: it fails with %BELAY_ERROR_MISUSE, and closes.
 */
#define BELAY_TYPE_SQLITE (belay_sqlite_get_type ())
BELAY_AVAILABLE_IN_1_0 G_DECLARE_FINAL_TYPE (BelaySqlite, belay_sqlite, BELAY, SQLITE, GObject)

/**
 * BelaySqliteOptions:
 * @read_only: open without the right to write; the file must exist
 * @must_exist: fail when the file does not exist, instead of making it
 * @busy_timeout: how long to wait, in milliseconds, while another process holds the lock; 0 for 5 s, negative: not at all
 * @setup: (nullable): SQL to run at the opening, for example pragmas; when it fails the opening fails
 *
 * How to open. Clear what you do not set: `&(BelaySqliteOptions) { .read_only = TRUE }`.
 */
typedef struct
{
  gboolean    read_only;
  gboolean    must_exist;
  int         busy_timeout;
  const char *setup;
} BelaySqliteOptions;

/**
 * belay_sqlite_open:
 * @path: a file name, a `file:` URI, or `:memory:`
 * @options: (nullable): how to open; copied
 *
 * Opens a connection. Foreign keys are enforced, and the file is read once, so that a file that is no database is
 * said here.
 *
 * Suspends: never itself. Cancellation: owning: a connection that is opened too late is closed. Threads: any.
 * Errors: %BELAY_SQLITE_ERROR, with the path.
 *
 * Returns: (transfer full): a future of #BelaySqlite
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_sqlite_open (const char *path, const BelaySqliteOptions *options) BELAY_USE_RESULT;

/**
 * belay_sqlite_execute:
 * @db: a connection or transaction
 * @sql: one statement
 * @parameters: (nullable): a tuple with a member for each `?`; a floating one is consumed. Members may be b, y, n, q, i, u, x, t
 *   (integers), d, s, ay (a blob), or a maybe of them for NULL
 *
 * Runs a statement; rows it gives are dropped. If @sql is more than one, none of them takes effect.
 *
 * A text that may be %NULL is "ms"; one must be valid UTF-8, as GVariant's strings are; other bytes are a blob, which
 * g_variant_new_from_bytes() makes of a #GBytes:
 * `g_variant_new ("(ms@ay)", name_or_null, g_variant_new_from_bytes (G_VARIANT_TYPE_BYTESTRING, bytes, TRUE))`.
 *
 * |[<!-- language="C" -->
 * belay_sqlite_execute (db, "INSERT INTO users VALUES (?, ?)", g_variant_new ("(si)", "ada", 36))
 * ]|
 *
 * Suspends: never itself. Cancellation: a statement that nobody waits for any more is taken back, or, when it runs,
 * stopped; one that had succeeded before is not undone. A write that is stopped in a transaction takes all of that with
 * it, savepoints and what is around them, by SQLite's rule: everything but its end fails from then on, with
 * SQLITE_ABORT_ROLLBACK; so let a time-out stand around the transaction, not in it. One that only reads takes nothing.
 * Threads: any. Errors: %BELAY_SQLITE_ERROR with the statement.
 *
 * Returns: (transfer full): a future of how many rows it changed (belay_await_int64(); belay_await_ok() will do)
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_sqlite_execute    (BelaySqlite *db, const char *sql, GVariant *parameters) BELAY_USE_RESULT;
/*
 * Runs any number of statements, without parameters. It is no transaction by itself. One that ends the transaction which it is
 * given to (a COMMIT) is the last that is run: the script fails, and so does all that follows in the transaction.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_sqlite_script     (BelaySqlite *db, const char *sql) BELAY_USE_RESULT;

/**
 * belay_sqlite_query:
 * @db: a connection or transaction
 * @sql: one statement
 * @parameters: (nullable): as in belay_sqlite_execute()
 *
 * Runs a statement and takes all its rows.
 *
 * Returns: (transfer full): a future of #BelaySqliteRows
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_sqlite_query      (BelaySqlite *db, const char *sql, GVariant *parameters) BELAY_USE_RESULT;
/*
 * The first column of the first row, as text or as a number. No row, or NULL: G_IO_ERROR_NOT_FOUND. A text with a 0 inside seems
 * to end there; belay_sqlite_rows_get_bytes() gives all of it.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_sqlite_get_string (BelaySqlite *db, const char *sql, GVariant *parameters) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_sqlite_get_int64  (BelaySqlite *db, const char *sql, GVariant *parameters) BELAY_USE_RESULT;

/**
 * belay_sqlite_begin:
 * @db: a connection or transaction
 *
 * Begins a transaction (`BEGIN IMMEDIATE`), or in a transaction a savepoint, as a guard of the same type:
 *
 * |[<!-- language="C" -->
 * belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);
 * if (tx == NULL ||
 *     !belay_await_ok (belay_sqlite_execute (tx, "DELETE FROM users", NULL), error))
 *   return FALSE;                        // rolled back
 * return belay_commit (&tx, error);
 * ]|
 *
 * Suspends: never itself. Cancellation: one that begins too late is rolled back. Threads: any.
 * Errors: %BELAY_SQLITE_ERROR. A commit that fails is rolled back.
 *
 * Returns: (transfer full): a future of a #BelaySqlite
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_sqlite_begin (BelaySqlite *db) BELAY_USE_RESULT;

/**
 * BelaySqliteFunc:
 * @handle: the connection; do not close it, and finalize what you prepare
 * @data: what was given with the function
 * @error: return location for a #GError; never %NULL
 *
 * Runs on a worker, beside the connection. belay_sqlite_set_error() makes errors of SQLite's.
 */
typedef gboolean (*BelaySqliteFunc) (sqlite3 *handle, gpointer data, GError **error);

/**
 * belay_sqlite_run:
 * @db: a connection or transaction
 * @func: a function that uses SQLite's own API
 * @data: handed to @func, borrowed until it has returned
 *
 * Runs a whole function in the connection's queue, at SQLite's full speed.
 *
 * Returns: (transfer full): resolves when the function returned %TRUE
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_sqlite_run       (BelaySqlite *db, BelaySqliteFunc func, gpointer data) BELAY_USE_RESULT;
/* Sets @error to what SQLite says of the last call on @handle, with @what was tried. Always FALSE. */
BELAY_AVAILABLE_IN_1_0 gboolean     belay_sqlite_set_error (sqlite3 *handle, const char *what, GError **error);

/**
 * BelaySqliteRows:
 *
 * The rows of a query, in memory, immutable. A boxed type, reference-counted, thread-safe. Columns count from 0; what
 * a getter gives for a value of another type is SQLite's conversion.
 */
typedef struct _BelaySqliteRows BelaySqliteRows;
#define BELAY_TYPE_SQLITE_ROWS (belay_sqlite_rows_get_type ())
BELAY_AVAILABLE_IN_1_0 GType            belay_sqlite_rows_get_type      (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelaySqliteRows *belay_sqlite_rows_ref           (BelaySqliteRows *rows);
BELAY_AVAILABLE_IN_1_0 void             belay_sqlite_rows_unref         (BelaySqliteRows *rows);
BELAY_AVAILABLE_IN_1_0 guint            belay_sqlite_rows_get_n_rows    (BelaySqliteRows *rows);
BELAY_AVAILABLE_IN_1_0 guint            belay_sqlite_rows_get_n_columns (BelaySqliteRows *rows);
BELAY_AVAILABLE_IN_1_0 const char      *belay_sqlite_rows_get_name      (BelaySqliteRows *rows, guint column);
BELAY_AVAILABLE_IN_1_0 gboolean         belay_sqlite_rows_is_null       (BelaySqliteRows *rows, guint row, guint column);
/* NULL for NULL; valid while the rows are. As a C string it ends at a 0 inside of it. */
BELAY_AVAILABLE_IN_1_0 const char      *belay_sqlite_rows_get_string    (BelaySqliteRows *rows, guint row, guint column);
BELAY_AVAILABLE_IN_1_0 gint64           belay_sqlite_rows_get_int64     (BelaySqliteRows *rows, guint row, guint column);
BELAY_AVAILABLE_IN_1_0 double           belay_sqlite_rows_get_double    (BelaySqliteRows *rows, guint row, guint column);
/* (transfer full); NULL for NULL. */
BELAY_AVAILABLE_IN_1_0 GBytes          *belay_sqlite_rows_get_bytes     (BelaySqliteRows *rows, guint row, guint column);

BELAY_DEFINE_AUTO (BelaySqlite)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelaySqliteRows, belay_sqlite_rows_unref)

G_END_DECLS
