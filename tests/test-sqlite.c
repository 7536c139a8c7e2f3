/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SQLite: statements, rows, transactions, locks of other processes, cancellation, and what is left behind. */
#include "support.h"

#include <belay/belay-sqlite.h>

#include <glib/gstdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program;

/* A statement that never ends. */
#define ENDLESS "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT count(*) FROM c"

/* --- what the tests share --- */

/* A fresh file name. */
static char *
db_path (void)
{
  static guint n;
  g_autofree char *name = g_strdup_printf ("%u.db", ++n);

  return test_tmp_path (name);
}

static BelaySqlite *
open_db (const char *path, const char *setup)
{
  g_autoptr (GError) error = NULL;
  BelaySqlite *db = belay_await (belay_sqlite_open (path, &(BelaySqliteOptions) { .setup = setup }), &error);

  g_assert_no_error (error);
  return db;
}

#define assert_ok(future)                                         \
  G_STMT_START                                                    \
    {                                                             \
      g_autoptr (GError) error_ = NULL;                           \
      gboolean ok_ = belay_await_ok ((future), &error_);          \
      g_assert_no_error (error_);                                 \
      g_assert_true (ok_);                                        \
    }                                                             \
  G_STMT_END

#define assert_fails(future, domain, code, pattern)               \
  G_STMT_START                                                    \
    {                                                             \
      g_autoptr (GError) error_ = NULL;                           \
      g_assert_false (belay_await_ok ((future), &error_));        \
      g_assert_error (error_, domain, code);                      \
      if (!g_pattern_match_simple ((pattern), error_->message))   \
        g_error ("'%s' does not match '%s'", error_->message, (pattern)); \
    }                                                             \
  G_STMT_END

static gint64
count (BelaySqlite *db, const char *sql)
{
  g_autoptr (GError) error = NULL;
  gint64 n = -1;

  belay_await_int64 (belay_sqlite_get_int64 (db, sql, NULL), &n, &error);
  g_assert_no_error (error);
  return n;
}

/* The thread sanitizer opens pipes to its symbolizer when it likes. */
#if defined (__has_feature)
# if __has_feature (thread_sanitizer)
#  define FDS_ARE_OURS FALSE
# endif
#endif
#ifndef FDS_ARE_OURS
# define FDS_ARE_OURS TRUE
#endif

static void
assert_fds (guint n)
{
  if (FDS_ARE_OURS)
    g_assert_cmpuint (test_count_fds (), ==, n);
}

/* Descriptors are given back by workers, and what nobody waits for is counted as pending. In a fiber. */
static void
wait_for_fds (guint n)
{
  for (guint i = 0; i < 5000 && (belay_get_n_pending () > 1 || (FDS_ARE_OURS && test_count_fds () > n)); i++)
    belay_sleep (1, NULL);
  g_assert_cmpuint (belay_get_n_pending (), ==, 1); /* this fiber is the one */
  if (FDS_ARE_OURS)
    g_assert_cmpuint (test_count_fds (), <=, n);
}

/* Threads and the main loop open descriptors once. In a fiber. */
static guint
count_fds (void)
{
  BelaySqlite *db = open_db (":memory:", NULL);

  g_assert_true (belay_close (&db, NULL));
  return test_count_fds ();
}

static void
spin_for (gint64 microseconds)
{
  gint64 end = g_get_monotonic_time () + microseconds;

  while (g_get_monotonic_time () < end)
    ;
}

/* --- another process: it runs each line as SQL and says "ok" --- */

typedef struct
{
  GPid  pid;
  FILE *in, *out;
} Other;

static int
other_main (const char *path)
{
  char line[1024];
  sqlite3 *handle;

  if (sqlite3_open (path, &handle) != SQLITE_OK)
    return 1;
  sqlite3_busy_timeout (handle, 5000);
  while (fgets (line, sizeof line, stdin) != NULL)
    {
      if (sqlite3_exec (handle, line, NULL, NULL, NULL) != SQLITE_OK)
        return 2;
      puts ("ok");
      fflush (stdout);
    }
  sqlite3_close (handle);
  return 0;
}

static void
other_says (Other *other, const char *sql)
{
  char line[16];

  fprintf (other->in, "%s\n", sql);
  fflush (other->in);
  g_assert_nonnull (fgets (line, sizeof line, other->out));
  g_assert_cmpstr (line, ==, "ok\n");
}

static void
other_start (Other *other, const char *path)
{
  const char *argv[] = { program, "--other", path, NULL };
  int in, out;
  GError *error = NULL;

  g_spawn_async_with_pipes (NULL, (char **) argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &other->pid, &in, &out, NULL,
                            &error);
  g_assert_no_error (error);
  other->in = fdopen (in, "w");
  other->out = fdopen (out, "r");
}

static void
other_end (Other *other)
{
  fclose (other->in);
  fclose (other->out);
  waitpid (other->pid, NULL, 0);
  g_spawn_close_pid (other->pid);
}

/* In a fiber of its own: lets the other process go on after a while. */
typedef struct
{
  Other      *other;
  int         milliseconds;
  const char *sql;
} Later;

static gboolean
say_later (gpointer data, GError **error)
{
  Later *later = data;

  if (!belay_sleep (later->milliseconds, error))
    return FALSE;
  other_says (later->other, later->sql);
  return TRUE;
}

/* --- opening --- */

static gboolean
open_select_close (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  guint fds = count_fds ();
  BelaySqlite *db = open_db (path, NULL);
  g_autoptr (BelaySqliteRows) rows = belay_await (belay_sqlite_query (db, "SELECT 1, 2 AS two", NULL), error);

  g_assert_cmpuint (belay_sqlite_rows_get_n_rows (rows), ==, 1);
  g_assert_cmpuint (belay_sqlite_rows_get_n_columns (rows), ==, 2);
  g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, 0, 0), ==, 1);
  g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, 0, 1), ==, 2);
  g_assert_cmpstr (belay_sqlite_rows_get_name (rows, 1), ==, "two");
  g_assert_cmpint (count (db, "PRAGMA foreign_keys"), ==, 1);
  g_assert_true (belay_close (&db, error));
  assert_fds (fds);
  g_assert_true (g_file_test (path, G_FILE_TEST_EXISTS));
  return TRUE;
}

static gboolean
open_errors (gpointer data, GError **error)
{
  g_autofree char *path = db_path (), *no_db = db_path (), *missing = db_path ();
  g_autofree char *folder = g_path_get_dirname (path);
  g_autofree char *in_nothing = g_build_filename (missing, "x.db", NULL);
  guint fds = count_fds ();

  g_assert_true (g_file_set_contents (no_db, "This is text, and long enough to be read as the head of a database file. "
                                             "This is text, and long enough to be read as the head of a database.", -1, NULL));
  for (int i = 0; i < 20; i++)
    {
      g_autofree char *text = g_strconcat (in_nothing, ": unable to open database file: No such file or directory", NULL);
      assert_fails (belay_sqlite_open (in_nothing, NULL), BELAY_SQLITE_ERROR, SQLITE_CANTOPEN, text);
    }
  assert_fails (belay_sqlite_open (no_db, NULL), BELAY_SQLITE_ERROR, SQLITE_NOTADB, "*.db: file is not a database");
  assert_fails (belay_sqlite_open (missing, &(BelaySqliteOptions) { .must_exist = TRUE }), BELAY_SQLITE_ERROR,
                SQLITE_CANTOPEN, "*.db: unable to open database file: it does not exist");
  assert_fails (belay_sqlite_open (missing, &(BelaySqliteOptions) { .read_only = TRUE }), BELAY_SQLITE_ERROR,
                SQLITE_CANTOPEN, "*.db: unable to open database file: it does not exist");
  assert_fails (belay_sqlite_open (folder, NULL), BELAY_SQLITE_ERROR, SQLITE_CANTOPEN, "*: unable to open database file: Is a directory");
  g_assert_false (g_file_test (missing, G_FILE_TEST_EXISTS));
  assert_fails (belay_sqlite_open (path, &(BelaySqliteOptions) { .setup = "CREATE TABLE t (a); SELEKT 1; CREATE TABLE u (a)" }),
                BELAY_SQLITE_ERROR, SQLITE_ERROR, "*.db: near \"SELEKT\": syntax error (SELEKT 1*");
  assert_fds (fds);

  /* What the failed setup had done is there: scripts are no transactions. */
  {
    belay_auto (BelaySqlite) db = open_db (path, NULL);
    g_assert_cmpint (count (db, "SELECT count(*) FROM sqlite_schema"), ==, 1);
  }
  return TRUE;
}

static gboolean
open_options (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  g_autofree char *uri = g_strdup_printf ("file:%s?mode=ro", path);

  {
    belay_auto (BelaySqlite) db = open_db (path, "PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (7);\n");
    g_autofree char *mode = belay_await (belay_sqlite_get_string (db, "PRAGMA journal_mode", NULL), error);

    g_assert_cmpstr (mode, ==, "wal");
    g_assert_cmpint (count (db, "SELECT a FROM t"), ==, 7);
  }
  {
    belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, &(BelaySqliteOptions) { .read_only = TRUE }), error);

    g_assert_cmpint (count (db, "SELECT a FROM t"), ==, 7);
    assert_fails (belay_sqlite_execute (db, "DELETE FROM t", NULL), BELAY_SQLITE_ERROR, SQLITE_READONLY,
                  "*.db: attempt to write a readonly database (DELETE FROM t)");
    g_assert_true (belay_close (&db, error));
  }
  {
    belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (uri, NULL), error);

    g_assert_cmpint (count (db, "SELECT a FROM t"), ==, 7);
    assert_fails (belay_sqlite_execute (db, "DELETE FROM t", NULL), BELAY_SQLITE_ERROR, SQLITE_READONLY, "*");
    /* A read-only transaction is one, too. */
    belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);
    g_assert_nonnull (tx);
    g_assert_cmpint (count (tx, "SELECT a FROM t"), ==, 7);
    g_assert_true (belay_commit (&tx, error));
  }
  return TRUE;
}

/* An opening whose waiter leaves, at every moment of it. */
static gboolean
open_cancelled (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  guint fds = count_fds (), late = 0;

  for (int i = 0; i < 100; i++)
    {
      g_autoptr (GError) local = NULL;
      belay_auto (BelayScope) scope = belay_scope_begin ();
      BelayFuture *future = belay_sqlite_open (path, NULL);
      BelaySqlite *db;

      spin_for (i * 4);
      belay_scope_cancel (scope, "enough");
      db = belay_await (future, &local);
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_null (db);
      late += belay_get_n_pending () > 1;
    }
  g_test_message ("%u of 100 were opened too late", late);
  wait_for_fds (fds);
  return TRUE;
}

/* --- statements and values --- */

static gboolean
values_of_every_type (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (v)");
  g_autofree char *long_text = g_strnfill (100000, 'x');
  guint8 blob[] = { 0, 1, 254, 255, 0 };
  g_autofree guint8 *long_blob = g_malloc0 (300000);
  gint64 integers[] = { 0, 1, -1, 127, 128, -128, -129, 255, 32767, 32768, -32768, -32769, G_MAXINT32, (gint64) G_MAXINT32 + 1,
                        G_MININT32, (gint64) G_MININT32 - 1, G_MAXINT64, G_MININT64 };
  gsize size;

  for (guint i = 0; i < G_N_ELEMENTS (integers); i++)
    {
      g_autoptr (BelaySqliteRows) rows = belay_await (belay_sqlite_query (db, "SELECT ?, 'behind'",
                                                                          g_variant_new ("(x)", integers[i])), error);
      g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, 0, 0), ==, integers[i]);
      g_assert_cmpstr (belay_sqlite_rows_get_string (rows, 0, 1), ==, "behind");
    }

  {
    g_autoptr (BelaySqliteRows) rows = belay_await (
      belay_sqlite_query (db, "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?",
                          g_variant_new ("(bynqiuxtdsmsmsmxmmd)", TRUE, 200, -5, 60000, -70000, 3000000000u,
                                         (gint64) -5000000000, (guint64) 5000000000, 2.5, "text", "maybe", NULL, FALSE,
                                         (gint64) 0, TRUE, TRUE, 0.5)),
      error);
    const gint64 wanted[] = { 1, 200, -5, 60000, -70000, 3000000000, -5000000000, 5000000000 };

    g_assert_nonnull (rows);
    for (guint i = 0; i < G_N_ELEMENTS (wanted); i++)
      g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, 0, i), ==, wanted[i]);
    g_assert_cmpfloat (belay_sqlite_rows_get_double (rows, 0, 8), ==, 2.5);
    g_assert_cmpstr (belay_sqlite_rows_get_string (rows, 0, 9), ==, "text");
    g_assert_cmpstr (belay_sqlite_rows_get_string (rows, 0, 10), ==, "maybe");
    g_assert_true (belay_sqlite_rows_is_null (rows, 0, 11));
    g_assert_null (belay_sqlite_rows_get_string (rows, 0, 11));
    g_assert_null (belay_sqlite_rows_get_bytes (rows, 0, 11));
    g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, 0, 11), ==, 0);
    g_assert_true (belay_sqlite_rows_is_null (rows, 0, 12));
    g_assert_cmpfloat (belay_sqlite_rows_get_double (rows, 0, 13), ==, 0.5);
    g_assert_false (belay_sqlite_rows_is_null (rows, 0, 13));
  }

  /* Blobs and texts, short and long, empty, with a 0 inside. */
  memset (long_blob + 1, 7, 299999);
  {
    g_autoptr (BelaySqliteRows) rows = belay_await (
      belay_sqlite_query (db, "SELECT ?, ?, ?, ?, ?, length(?4), typeof(?1), typeof(?2)",
                          g_variant_new ("(@ay@ay@ayss)",
                                         g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, blob, sizeof blob, 1),
                                         g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, NULL, 0, 1),
                                         g_variant_new_fixed_array (G_VARIANT_TYPE_BYTE, long_blob, 300000, 1),
                                         long_text, "")),
      error);
    g_autoptr (GBytes) bytes = NULL, empty = NULL, long_bytes = NULL;

    g_assert_nonnull (rows);
    bytes = belay_sqlite_rows_get_bytes (rows, 0, 0);
    g_assert_cmpmem (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), blob, sizeof blob);
    empty = belay_sqlite_rows_get_bytes (rows, 0, 1);
    g_assert_cmpuint (g_bytes_get_size (empty), ==, 0);
    long_bytes = belay_sqlite_rows_get_bytes (rows, 0, 2);
    g_assert_cmpstr (belay_sqlite_rows_get_string (rows, 0, 3), ==, long_text);
    g_assert_cmpstr (belay_sqlite_rows_get_string (rows, 0, 4), ==, "");
    g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, 0, 5), ==, 100000);
    g_assert_cmpstr (belay_sqlite_rows_get_string (rows, 0, 6), ==, "blob");
    g_assert_cmpstr (belay_sqlite_rows_get_string (rows, 0, 7), ==, "blob");
    /* Bytes outlive the rows. */
    g_clear_pointer (&rows, belay_sqlite_rows_unref);
    g_assert_true (memcmp (g_bytes_get_data (long_bytes, &size), long_blob, 300000) == 0);
    g_assert_cmpuint (size, ==, 300000);
  }
  return TRUE;
}

/* What a getter gives for another type is what SQLite would. */
static gboolean
conversions (gpointer data, GError **error)
{
  static const char *values[] = { "1", "-17", "9223372036854775807", "1.5", "-2.75e300", "1e308", "0.1", "100.0", "1e15", "1e16",
                                  "'12'", "'  -34.75xyz'", "'1e3'", "'0x10'", "'inf'", "'nan'", "'.5'", "'+.5e1'", "'-'", "''", "'abc'",
                                  "'99999999999999999999'", "'-99999999999999999999'", "x'3132'", "x'00'", "x''", "9e999", "-9e999",
                                  "1e19", "-1e19", "NULL", "'1e'", "'7e+'" };
  belay_auto (BelaySqlite) db = open_db (":memory:", NULL);
  sqlite3 *handle;

  g_assert_cmpint (sqlite3_open (":memory:", &handle), ==, SQLITE_OK);
  for (guint i = 0; i < G_N_ELEMENTS (values); i++)
    {
      g_autofree char *sql = g_strdup_printf ("SELECT %s", values[i]);
      g_autoptr (BelaySqliteRows) rows = belay_await (belay_sqlite_query (db, sql, NULL), error);
      g_autoptr (GBytes) bytes = NULL;
      sqlite3_stmt *stmt;

      g_assert_nonnull (rows);
      for (int what = 0; what < 4; what++)
        {
          g_assert_cmpint (sqlite3_prepare_v2 (handle, sql, -1, &stmt, NULL), ==, SQLITE_OK);
          g_assert_cmpint (sqlite3_step (stmt), ==, SQLITE_ROW);
          if (what == 0 && belay_sqlite_rows_get_int64 (rows, 0, 0) != sqlite3_column_int64 (stmt, 0))
            g_error ("%s as integer", sql);
          if (what == 1 && belay_sqlite_rows_get_double (rows, 0, 0) != sqlite3_column_double (stmt, 0))
            g_error ("%s as real: %g, not %g", sql, belay_sqlite_rows_get_double (rows, 0, 0), sqlite3_column_double (stmt, 0));
          if (what == 2)
            g_assert_cmpstr (belay_sqlite_rows_get_string (rows, 0, 0), ==, (const char *) sqlite3_column_text (stmt, 0));
          if (what == 3 && sqlite3_column_type (stmt, 0) != SQLITE_NULL)
            {
              bytes = belay_sqlite_rows_get_bytes (rows, 0, 0);
              g_assert_cmpint ((int) g_bytes_get_size (bytes), ==, (sqlite3_column_blob (stmt, 0), sqlite3_column_bytes (stmt, 0)));
            }
          sqlite3_finalize (stmt);
        }
      /* It is made once. */
      g_assert_true (belay_sqlite_rows_get_string (rows, 0, 0) == belay_sqlite_rows_get_string (rows, 0, 0));
    }
  sqlite3_close (handle);
  return TRUE;
}

static gboolean
parameters_refused (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");

  assert_fails (belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", NULL), BELAY_SQLITE_ERROR, SQLITE_RANGE,
                ":memory: it has 1 parameters, and 0 were given (INSERT INTO t VALUES (?))");
  assert_fails (belay_sqlite_execute (db, "INSERT INTO t VALUES (1)", g_variant_new ("(ii)", 1, 2)), BELAY_SQLITE_ERROR,
                SQLITE_RANGE, "*0 parameters, and 2*");
  assert_fails (belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", g_variant_new ("(t)", G_MAXUINT64)), BELAY_SQLITE_ERROR,
                SQLITE_TOOBIG, "parameter 1: 18446744073709551615 *");

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*parameter 2*'as'*");
  assert_fails (belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", g_variant_new ("(sas)", "x", NULL)), BELAY_ERROR,
                BELAY_ERROR_MISUSE, "*'as'*");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*'v'*");
  assert_fails (belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", g_variant_new ("(v)", g_variant_new_int32 (1))), BELAY_ERROR,
                BELAY_ERROR_MISUSE, "*'v'*");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*'i'*tuple*");
  assert_fails (belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", g_variant_new_int32 (1)), BELAY_ERROR, BELAY_ERROR_MISUSE,
                "*tuple*");
  g_test_assert_expected_messages ();

  /* One that is not floating stays the caller's. */
  {
    g_autoptr (GVariant) mine = g_variant_ref_sink (g_variant_new ("(s)", "kept"));

    assert_ok (belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", mine));
    assert_ok (belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", mine));
    g_assert_cmpint (count (db, "SELECT count(*) FROM t WHERE a = 'kept'"), ==, 2);
  }
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 2);
  return TRUE;
}

static gboolean
statement_errors (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE users (name TEXT UNIQUE, age INT)");
  static const char *const no_text[] = { "SELECT \xff\xfe", "SELECT * FROM \"\xff\"", "SELECT NULL /* \xff */", "\xff" };
  g_autofree char *filler = g_strnfill (500, 'z');
  g_autofree char *long_sql = g_strdup_printf ("SELECT   nothing,\n\t'äöü%s' FROM users", filler);
  g_autoptr (GError) local = NULL;

  assert_fails (belay_sqlite_execute (db, "SELECT 1; SELECT 2", NULL), BELAY_SQLITE_ERROR, SQLITE_MISUSE, "*more than one statement*");
  assert_fails (belay_sqlite_execute (db, "  -- nothing\n", NULL), BELAY_SQLITE_ERROR, SQLITE_MISUSE, "*no statement*");
  assert_fails (belay_sqlite_execute (db, "", NULL), BELAY_SQLITE_ERROR, SQLITE_MISUSE, "*no statement*");
  assert_ok (belay_sqlite_execute (db, "SELECT 1; ; -- a remark\n /* and another */ ", NULL));
  assert_fails (belay_sqlite_query (db, "SELECT * FROM nowhere", NULL), BELAY_SQLITE_ERROR, SQLITE_ERROR,
                ":memory: no such table: nowhere (SELECT ? FROM nowhere)");

  assert_ok (belay_sqlite_execute (db, "INSERT INTO users VALUES (?, ?)", g_variant_new ("(si)", "ada", 36)));
  assert_fails (belay_sqlite_execute (db, "INSERT INTO users VALUES (?, ?)", g_variant_new ("(si)", "ada", 37)),
                BELAY_SQLITE_ERROR, SQLITE_CONSTRAINT_UNIQUE, "*UNIQUE constraint failed: users.name (INSERT INTO users VALUES (?, ?))");
  assert_ok (belay_sqlite_execute (db, "INSERT INTO users VALUES (?, ?)", g_variant_new ("(si)", "bob", 37)));

  /* A long statement is shortened, on one line, between characters. */
  g_assert_null (belay_await (belay_sqlite_query (db, long_sql, NULL), &local));
  g_assert_error (local, BELAY_SQLITE_ERROR, SQLITE_ERROR);
  g_assert_nonnull (strstr (local->message, "(SELECT nothing, 'äöüzzz"));
  g_assert_nonnull (strstr (local->message, "…)"));
  g_assert_cmpuint (strlen (local->message), <, 160);
  g_assert_true (g_utf8_validate (local->message, -1, NULL));
  for (guint i = 60; i < 90; i++)
    {
      g_autofree char *pad = g_strnfill (i, 'a');
      g_autofree char *sql = g_strdup_printf ("%säöüß€…𝄞äöüß€…𝄞", pad);
      g_autoptr (GError) one = NULL;

      g_assert_false (belay_await_ok (belay_sqlite_execute (db, sql, NULL), &one));
      g_assert_true (g_utf8_validate (one->message, -1, NULL));
    }
  for (guint i = 0; i < G_N_ELEMENTS (no_text); i++)
    {
      g_autoptr (GError) one = NULL;

      g_assert_false (belay_await_ok (belay_sqlite_get_string (db, no_text[i], NULL), &one));
      g_assert_true (g_utf8_validate (one->message, -1, NULL));
    }
  return TRUE;
}

/* More than one statement where there should be one: none of them takes effect, not even what acts by being prepared. */
static gboolean
more_than_one (gpointer data, GError **error)
{
  static const char *const several[] = {
    "SELECT 1; PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = OFF; SELECT 1", "; PRAGMA foreign_keys = OFF; PRAGMA foreign_keys",
    "EXPLAIN PRAGMA foreign_keys = OFF; SELECT 1", "/* ; */ PRAGMA foreign_keys = OFF -- ;\n;;SELECT 1",
    "SELECT 1; nonsense", "SELECT ';'; DELETE FROM t", "SELECT \";\"; DELETE FROM t", "SELECT 'it''s;'; DELETE FROM t",
    "CREATE TABLE u (a); DELETE FROM t", "CREATE TABLE u (a); PRAGMA foreign_keys = OFF",
    "CREATE TRIGGER r AFTER UPDATE ON t BEGIN DELETE FROM t; END; PRAGMA foreign_keys = OFF",
    "\xef\xbb\xbfPRAGMA foreign_keys = OFF; SELECT 1",
  };
  static const char *const one[] = {
    "SELECT 1;", ";; SELECT ';', \";\", ';''', [;], `;` FROM (SELECT 1 AS \";\") /* ; */; -- ;", "SELECT 1 /* ; SELECT 2",
    "CREATE TRIGGER r AFTER UPDATE ON t BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; DELETE FROM t; END;\n -- ; the end",
    "EXPLAIN QUERY PLAN /* ; */ SELECT 1; ", "CREATE TEMP TRIGGER q AFTER UPDATE ON t BEGIN SELECT 1; END", "EXPLAIN SELECT 1",
  };
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (\";\"); INSERT INTO t VALUES (1)");

  for (guint i = 0; i < G_N_ELEMENTS (several); i++)
    {
      assert_fails (belay_sqlite_execute (db, several[i], NULL), BELAY_SQLITE_ERROR, SQLITE_MISUSE, "*more than one statement*");
      g_assert_cmpint (count (db, "PRAGMA foreign_keys"), ==, 1);
    }
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);
  for (guint i = 0; i < G_N_ELEMENTS (one); i++)
    assert_ok (belay_sqlite_query (db, one[i], NULL));
  g_assert_cmpint (count (db, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"), ==, 1);
  return TRUE;
}

static gboolean
changes_are_counted (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a); CREATE TABLE log (a);"
                                                     "CREATE TRIGGER r AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (1); END");
  static const struct
  {
    const char *sql;
    gint64      n;
  } cases[] = {
    { "INSERT INTO t VALUES (1), (2), (3)", 3 }, { "SELECT * FROM t", 0 }, { "UPDATE t SET a = a + 1 WHERE a > 1", 2 },
    { "CREATE TABLE u (a)", 0 },                 { "PRAGMA user_version", 0 }, { "DELETE FROM t WHERE a = 77", 0 },
    { "INSERT INTO t VALUES (9) RETURNING a", 1 }, { "DELETE FROM t", 4 }, { "DROP TABLE u", 0 }, { "VACUUM", 0 },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      gint64 n = -1;

      g_assert_true (belay_await_int64 (belay_sqlite_execute (db, cases[i].sql, NULL), &n, error));
      g_assert_cmpint (n, ==, cases[i].n);
    }
  return TRUE;
}

static gboolean
single_values (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)");
  g_autofree char *text = NULL;
  gint64 id = 0;

  text = belay_await (belay_sqlite_get_string (db, "SELECT 'a' || ? UNION ALL SELECT 'z'", g_variant_new ("(i)", 5)), error);
  g_assert_cmpstr (text, ==, "a5");
  g_assert_cmpint (count (db, "SELECT '12 apples'"), ==, 12);
  assert_fails (belay_sqlite_get_string (db, "SELECT a FROM t", NULL), G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "*SELECT a FROM t*");
  assert_fails (belay_sqlite_get_string (db, "SELECT NULL", NULL), G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "*");
  assert_fails (belay_sqlite_get_int64 (db, "SELECT NULL", NULL), G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "*");
  assert_fails (belay_sqlite_get_int64 (db, "DELETE FROM t", NULL), G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "*");

  /* A statement that writes is run to its end, though one value of it is wanted. */
  g_assert_true (belay_await_int64 (belay_sqlite_get_int64 (db, "INSERT INTO t (a) VALUES (1), (2), (3) RETURNING id", NULL), &id,
                                    error));
  g_assert_cmpint (id, ==, 1);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 3);
  return TRUE;
}

static gboolean
scripts (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", NULL);

  assert_ok (belay_sqlite_script (db, ""));
  assert_ok (belay_sqlite_script (db, " ; -- nothing\n;"));
  assert_ok (belay_sqlite_script (db, "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2);\n SELECT * FROM t; BEGIN;"
                                      "INSERT INTO t VALUES (3); COMMIT; -- the end"));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 3);

  /* One that fails leaves what it committed, and no transaction. */
  assert_fails (belay_sqlite_script (db, "INSERT INTO t VALUES (4); BEGIN; INSERT INTO t VALUES (5); INSERT INTO u VALUES (6); COMMIT"),
                BELAY_SQLITE_ERROR, SQLITE_ERROR, "*no such table: u (INSERT INTO u VALUES (6)*");
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 4);
  {
    belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);
    g_assert_nonnull (tx);
  }

  /* A transaction that the program began by a statement is its own. */
  assert_ok (belay_sqlite_execute (db, "BEGIN", NULL));
  assert_ok (belay_sqlite_execute (db, "INSERT INTO t VALUES (7)", NULL));
  assert_fails (belay_sqlite_execute (db, "INSERT INTO u VALUES (7)", NULL), BELAY_SQLITE_ERROR, SQLITE_ERROR, "*");
  assert_fails (belay_sqlite_begin (db), BELAY_SQLITE_ERROR, SQLITE_ERROR, "*within a transaction*");
  assert_ok (belay_sqlite_execute (db, "COMMIT", NULL));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 5);
  return TRUE;
}

static gboolean
statements_are_kept (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
  g_autofree char *filler = g_strnfill (200000, ' ');

  for (int round = 0; round < 3; round++)
    for (int i = 0; i < 150; i++)
      {
        g_autofree char *sql = g_strdup_printf ("SELECT a + %d FROM t", i);
        g_assert_cmpint (count (db, sql), ==, i + 1);
      }
  for (int i = 0; i < 20; i++)
    {
      g_autofree char *sql = g_strdup_printf ("SELECT a %s + %d FROM t", filler, i);
      g_assert_cmpint (count (db, sql), ==, i + 1);
    }

  /* A pragma takes effect each time. */
  for (int i = 0; i < 6; i++)
    {
      assert_ok (belay_sqlite_execute (db, i % 2 ? "PRAGMA foreign_keys = ON" : " /* off */ pragma foreign_keys = OFF", NULL));
      g_assert_cmpint (count (db, "PRAGMA foreign_keys"), ==, i % 2);
    }

  /* The columns of a kept statement follow the schema. */
  for (guint n = 1; n < 5; n++)
    {
      g_autoptr (BelaySqliteRows) rows = belay_await (belay_sqlite_query (db, "SELECT * FROM t", NULL), error);
      g_autofree char *sql = g_strdup_printf ("ALTER TABLE t ADD COLUMN c%u DEFAULT %u", n, n);
      g_autofree char *name = g_strdup_printf ("c%u", n - 1);

      g_assert_cmpuint (belay_sqlite_rows_get_n_columns (rows), ==, n);
      if (n > 1)
        g_assert_cmpstr (belay_sqlite_rows_get_name (rows, n - 1), ==, name);
      g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, 0, n - 1), ==, MAX (n - 1, 1));
      assert_ok (belay_sqlite_execute (db, sql, NULL));
    }
  return TRUE;
}

static gboolean
many_rows (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", NULL);
  g_autoptr (BelaySqliteRows) rows = NULL;
  g_autoptr (BelaySqliteRows) none = NULL;

  for (int n = 1; n <= 100000; n *= 10)
    {
      g_clear_pointer (&rows, belay_sqlite_rows_unref);
      rows = belay_await (belay_sqlite_query (db, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?) "
                                                  "SELECT i, 'row ' || i, i * 0.5, NULL FROM c", g_variant_new ("(i)", n)), error);
      g_assert_cmpuint (belay_sqlite_rows_get_n_rows (rows), ==, (guint) n);
      for (guint i = 0; i < (guint) n; i += MAX (1, (guint) n / 1000))
        {
          g_autofree char *text = g_strdup_printf ("row %u", i + 1);

          g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, i, 0), ==, i + 1);
          g_assert_cmpstr (belay_sqlite_rows_get_string (rows, i, 1), ==, text);
          g_assert_cmpfloat (belay_sqlite_rows_get_double (rows, i, 2), ==, (i + 1) * 0.5);
          g_assert_true (belay_sqlite_rows_is_null (rows, i, 3));
        }
    }
  none = belay_await (belay_sqlite_query (db, "SELECT 1 WHERE 0", NULL), error);
  g_assert_cmpuint (belay_sqlite_rows_get_n_rows (none), ==, 0);
  g_assert_cmpuint (belay_sqlite_rows_get_n_columns (none), ==, 1);

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*row < *");
  g_assert_cmpint (belay_sqlite_rows_get_int64 (none, 0, 0), ==, 0);
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*column < *");
  g_assert_null (belay_sqlite_rows_get_string (rows, 0, 4));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*column < *");
  g_assert_null (belay_sqlite_rows_get_name (rows, 4));
  g_test_assert_expected_messages ();
  return TRUE;
}

static gboolean
misuse (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", NULL);

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*path != NULL*");
  assert_fails (belay_sqlite_open (NULL, NULL), BELAY_ERROR, BELAY_ERROR_MISUSE, "*");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*BELAY_IS_SQLITE*");
  assert_fails (belay_sqlite_query (NULL, "SELECT 1", NULL), BELAY_ERROR, BELAY_ERROR_MISUSE, "*");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*sql != NULL*");
  assert_fails (belay_sqlite_execute (db, NULL, NULL), BELAY_ERROR, BELAY_ERROR_MISUSE, "*");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*sql != NULL*");
  assert_fails (belay_sqlite_script (db, NULL), BELAY_ERROR, BELAY_ERROR_MISUSE, "*");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*func != NULL*");
  assert_fails (belay_sqlite_run (db, NULL, NULL), BELAY_ERROR, BELAY_ERROR_MISUSE, "*");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*BELAY_IS_SQLITE*");
  assert_fails (belay_sqlite_begin (NULL), BELAY_ERROR, BELAY_ERROR_MISUSE, "*");
  g_test_assert_expected_messages ();
  return TRUE;
}

/* --- many at once --- */

typedef struct
{
  BelaySqlite *db;
  const char  *path;
  int          i;
  int          n;
} Task;

static gboolean
insert_own (gpointer data, GError **error)
{
  Task *task = data;

  for (int i = 0; i < task->n; i++)
    if (!belay_await_ok (belay_sqlite_execute (task->db, "INSERT INTO t (who, what) VALUES (?, ?)",
                                               g_variant_new ("(ii)", task->i, i)), error))
      return FALSE;
  return TRUE;
}

static gboolean
one_connection (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
                                               "CREATE TABLE t (id INTEGER PRIMARY KEY, who, what)");
  BelayFuture *futures[200];
  Task tasks[10];

  /* Those of one giver are done in the order in which they were given. */
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    futures[i] = belay_sqlite_execute (db, "INSERT INTO t (who, what) VALUES (0, ?)", g_variant_new ("(u)", i));
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    assert_ok (futures[i]);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t WHERE id = what + 1"), ==, G_N_ELEMENTS (futures));

  for (int i = 0; i < 10; i++)
    {
      tasks[i] = (Task) { db, NULL, i + 1, 20 };
      futures[i] = belay_spawn (insert_own, &tasks[i]);
    }
  for (int i = 0; i < 10; i++)
    assert_ok (futures[i]);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t WHERE who > 0"), ==, 200);
  return TRUE;
}

static gboolean
insert_by_own_connection (gpointer data, GError **error)
{
  Task *task = data;
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (task->path, NULL), error);
  belay_auto (BelaySqlite) tx = db != NULL ? belay_await (belay_sqlite_begin (db), error) : NULL;

  return tx != NULL &&
         belay_await_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (?)", g_variant_new ("(i)", task->i)), error) &&
         belay_commit (&tx, error);
}

static gboolean
many_connections (gpointer data, GError **error)
{
  for (int wal = 0; wal < 2; wal++)
    {
      g_autofree char *path = db_path ();
      belay_auto (BelaySqlite) db = open_db (path, wal ? "PRAGMA journal_mode = WAL; CREATE TABLE t (a)"
                                                       : "PRAGMA synchronous = OFF; CREATE TABLE t (a)");
      BelayFuture *futures[10];
      Task tasks[10];

      for (int i = 0; i < 10; i++)
        {
          tasks[i] = (Task) { NULL, path, i, 1 };
          futures[i] = belay_spawn (insert_by_own_connection, &tasks[i]);
        }
      for (int i = 0; i < 10; i++)
        assert_ok (futures[i]);
      g_assert_cmpint (count (db, "SELECT count(DISTINCT a) FROM t"), ==, 10);
    }
  return TRUE;
}

static gboolean
read_some (gpointer data, GError **error)
{
  Task *task = data;

  for (int i = 0; i < task->n; i++)
    {
      gint64 value = 0;

      if (!belay_await_int64 (belay_sqlite_get_int64 (task->db, "SELECT v FROM t WHERE id = ?",
                                                      g_variant_new ("(i)", (task->i * 31 + i) % 100)), &value, error))
        return FALSE;
      g_assert_cmpint (value, ==, ((task->i * 31 + i) % 100) * 3);
    }
  return TRUE;
}

/* SELECTs that queue up share a read transaction; nobody notices, and what is behind them waits for none. */
static gboolean
shared_reads (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, v);"
                                               "WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < 99) "
                                               "INSERT INTO t SELECT i, i * 3 FROM c; CREATE TABLE w (a)");
  belay_auto (BelaySqlite) other = open_db (path, NULL);
  BelayFuture *futures[300];
  Task tasks[16];

  for (int i = 0; i < 16; i++)
    {
      tasks[i] = (Task) { db, NULL, i, 200 };
      futures[i] = belay_spawn (read_some, &tasks[i]);
    }
  for (int i = 0; i < 16; i++)
    assert_ok (futures[i]);

  /* Among reads: writes, failures, statements that refuse to be within a transaction, a transaction. */
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    futures[i] = i % 50 == 10 ? belay_sqlite_execute (db, "INSERT INTO w VALUES (1)", NULL)
                 : i % 50 == 20 ? belay_sqlite_execute (db, "PRAGMA synchronous = NORMAL", NULL)
                 : i % 50 == 30 ? belay_sqlite_get_int64 (db, "SELECT abs(-9223372036854775808)", NULL)
                 : i % 50 == 40 ? belay_sqlite_script (db, "BEGIN; INSERT INTO w VALUES (2); COMMIT")
                                : belay_sqlite_get_int64 (db, "SELECT count(*) FROM w", NULL);
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    {
      gint64 n = -1;

      if (i % 50 == 30)
        assert_fails (futures[i], BELAY_SQLITE_ERROR, SQLITE_ERROR, "*integer overflow*");
      else if (i % 10 == 0 && i % 50 != 0)
        assert_ok (futures[i]);
      else
        {
          g_assert_true (belay_await_int64 (futures[i], &n, error));
          g_assert_cmpint (n, ==, (i + 39) / 50 + (i + 9) / 50);
        }
    }

  /* When nothing is left to do, no read transaction is: the other connection's writes are seen. */
  assert_ok (belay_sqlite_execute (other, "DELETE FROM w", NULL));
  g_assert_cmpint (count (db, "SELECT count(*) FROM w"), ==, 0);
  return TRUE;
}

/* What is given after a commit was known sees it, though a read transaction of SELECTs given before is open. */
static gboolean
shared_reads_are_not_stale (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE t (a)");
  belay_auto (BelaySqlite) other = open_db (path, NULL);

  for (int i = 1; i <= 3; i++)
    {
      /* Two to share one; the second is long enough for all of what follows to be given meanwhile. */
      BelayFuture *first = belay_sqlite_query (db, "SELECT * FROM t", NULL);
      BelayFuture *slow = belay_sqlite_query (db, "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 500000) "
                                                  "SELECT count(*) FROM c, (SELECT count(*) FROM t)", NULL);
      BelayFuture *given_before = belay_sqlite_query (db, "SELECT * FROM t", NULL);

      assert_ok (first);
      assert_ok (belay_sqlite_execute (other, "INSERT INTO t VALUES (1)", NULL));
      belay_future_unref (given_before); /* nor does one that was taken back leave its place to another */
      g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, i);
      assert_ok (slow);
    }
  return TRUE;
}

static gpointer
insert_from_thread (gpointer data)
{
  Task *task = data;

  for (int i = 0; i < task->n; i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (BelayFuture) future = belay_sqlite_execute (task->db, "INSERT INTO t VALUES (?)", g_variant_new ("(i)", task->i));

      g_assert_true (belay_future_wait_sync (future, &error));
      g_assert_no_error (error);
    }
  return NULL;
}

static gboolean
join_threads (gpointer data, GError **error)
{
  GThread **threads = data;

  for (int i = 0; i < 4; i++)
    g_thread_join (threads[i]);
  return TRUE;
}

static gboolean
plain_threads (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");
  GThread *threads[4];
  Task tasks[4];

  for (int i = 0; i < 4; i++)
    {
      tasks[i] = (Task) { db, NULL, i, 100 };
      threads[i] = g_thread_new ("inserter", insert_from_thread, &tasks[i]);
    }
  assert_ok (belay_thread_run (join_threads, threads));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 400);
  return TRUE;
}

static gboolean
several_loops (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "PRAGMA synchronous = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, who, what)");
  belay_auto (BelayLoop) one = belay_loop_new ("one");
  belay_auto (BelayLoop) two = belay_loop_new ("two");
  Task tasks[3] = { { db, NULL, 1, 100 }, { db, NULL, 2, 100 }, { db, NULL, 3, 100 } };
  BelayFuture *first = belay_loop_spawn (one, insert_own, &tasks[0], NULL);
  BelayFuture *second = belay_loop_spawn (two, insert_own, &tasks[1], NULL);

  g_assert_true (insert_own (&tasks[2], error));
  assert_ok (first);
  assert_ok (second);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 300);
  return TRUE;
}

/* --- closing --- */

static gboolean
closed_connection (gpointer data, GError **error)
{
  BelaySqlite *db = open_db (":memory:", "CREATE TABLE t (a)");
  g_autoptr (BelaySqlite) kept = g_object_ref (db);
  guint refused = 0;

  for (int i = 0; i < 100; i++)
    {
      g_autoptr (GError) local = NULL;

      if (i == 50)
        g_assert_true (belay_close (&db, error));
      if (!belay_await_ok (belay_sqlite_query (kept, "SELECT * FROM t", NULL), &local))
        {
          g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CLOSED);
          refused++;
        }
    }
  g_assert_cmpuint (refused, ==, 50);
  assert_fails (belay_sqlite_begin (kept), G_IO_ERROR, G_IO_ERROR_CLOSED, ":memory: the connection is closed");
  assert_fails (belay_sqlite_script (kept, "SELECT 1"), G_IO_ERROR, G_IO_ERROR_CLOSED, "*");
  return TRUE;
}

static gboolean
close_waits_for_the_queue (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  guint fds = count_fds ();
  BelaySqlite *db = open_db (path, "PRAGMA synchronous = OFF; CREATE TABLE t (a)");
  BelayFuture *futures[50], *begin;

  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    futures[i] = belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", g_variant_new ("(u)", i));
  begin = belay_sqlite_begin (db); /* a transaction on a connection that is being closed would be rolled back: it is refused */
  g_assert_true (belay_close (&db, error));
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    {
      g_assert_false (belay_future_is_pending (futures[i]));
      assert_ok (futures[i]);
    }
  /* It may have begun before the close was given. */
  {
    g_autoptr (GError) local = NULL;
    BelaySqlite *tx = belay_await (begin, &local);

    if (tx == NULL)
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CLOSED);
    else
      g_assert_true (belay_close (&tx, error));
  }
  assert_fds (fds);
  {
    belay_auto (BelaySqlite) again = open_db (path, NULL);
    g_assert_cmpint (count (again, "SELECT count(*) FROM t"), ==, 50);
  }
  return TRUE;
}

static gboolean
dropped_without_close (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  guint fds = count_fds ();
  BelaySqlite *db = open_db (path, "CREATE TABLE t (a)"), *tx;

  tx = belay_await (belay_sqlite_begin (db), error);
  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*a transaction was dropped without being closed*");
  g_object_unref (tx);
  g_test_assert_expected_messages ();
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0); /* rolled back, and the connection goes on */

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*a connection was dropped without being closed*");
  g_object_unref (db);
  g_test_assert_expected_messages ();
  wait_for_fds (fds);
  return TRUE;
}

/* A close that takes longer than its deadline is ended by force, by stopping what runs. */
static gboolean
close_by_force (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  guint fds = count_fds ();
  BelaySqlite *db = open_db (path, "CREATE TABLE t (a)");
  BelayFuture *endless = belay_sqlite_query (db, ENDLESS, NULL), *behind = belay_sqlite_execute (db, "DELETE FROM t", NULL);
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) local = NULL;

  belay_scope_set_release_timeout (scope, 50);
  g_assert_false (belay_close (&db, &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_nonnull (strstr (local->message, path)); /* says which */
  assert_fails (endless, G_IO_ERROR, G_IO_ERROR_CLOSED, "*.db: the connection is closed"); /* nobody has cancelled it */
  assert_fails (behind, G_IO_ERROR, G_IO_ERROR_CLOSED, "*");
  wait_for_fds (fds);
  return TRUE;
}

/* --- transactions --- */

static gboolean
leave_after_insert (BelaySqlite *db, gboolean commit, GError **error)
{
  belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);

  if (tx == NULL || !belay_await_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL), error))
    return FALSE;
  g_assert_cmpint (count (tx, "SELECT count(*) FROM t"), ==, 1);
  return commit ? belay_commit (&tx, error) : TRUE;
}

static gboolean
left_without_commit (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "CREATE TABLE t (a)");

  g_assert_true (leave_after_insert (db, FALSE, error));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0);
  g_assert_true (leave_after_insert (db, TRUE, error));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);
  {
    belay_auto (BelaySqlite) again = open_db (path, NULL);
    g_assert_cmpint (count (again, "SELECT count(*) FROM t"), ==, 1);
  }
  return TRUE;
}

static gboolean
savepoints (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");
  BelaySqlite *tx = belay_await (belay_sqlite_begin (db), error);

  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL));
  for (int commit = 0; commit < 2; commit++)
    {
      BelaySqlite *inner = belay_await (belay_sqlite_begin (tx), error), *innermost;

      assert_ok (belay_sqlite_execute (inner, "INSERT INTO t VALUES (2)", NULL));
      innermost = belay_await (belay_sqlite_begin (inner), error);
      assert_ok (belay_sqlite_execute (innermost, "INSERT INTO t VALUES (3)", NULL));
      g_assert_cmpint (count (innermost, "SELECT count(*) FROM t"), ==, 3);
      g_assert_true (commit ? belay_commit (&innermost, error) : belay_close (&innermost, error));
      g_assert_cmpint (count (inner, "SELECT count(*) FROM t"), ==, commit ? 3 : 2);
      g_assert_true (commit ? belay_commit (&inner, error) : belay_close (&inner, error));
      g_assert_cmpint (count (tx, "SELECT count(*) FROM t"), ==, commit ? 3 : 1);
    }
  g_assert_true (belay_commit (&tx, error));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 3);
  return TRUE;
}

static gboolean
failed_commit (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE a (id INTEGER PRIMARY KEY);"
                                                     "CREATE TABLE b (a REFERENCES a DEFERRABLE INITIALLY DEFERRED)");
  BelaySqlite *tx = belay_await (belay_sqlite_begin (db), error);
  g_autoptr (BelaySqlite) kept = g_object_ref (tx);
  g_autoptr (GError) local = NULL;

  assert_ok (belay_sqlite_execute (tx, "INSERT INTO b VALUES (77)", NULL));
  g_assert_false (belay_commit (&tx, &local));
  g_assert_null (tx);
  g_assert_error (local, BELAY_SQLITE_ERROR, SQLITE_CONSTRAINT_FOREIGNKEY);
  g_assert_cmpstr (local->message, ==, ":memory: FOREIGN KEY constraint failed (COMMIT)");
  assert_fails (belay_sqlite_execute (kept, "DELETE FROM b", NULL), G_IO_ERROR, G_IO_ERROR_CLOSED,
                ":memory: the transaction has ended");
  g_assert_cmpint (count (db, "SELECT count(*) FROM b"), ==, 0);
  g_assert_true (leave_after_insert (db, FALSE, NULL) || TRUE);
  return belay_check (error);
}

/* A connection's own commit: of a transaction that the program began by a statement. */
static gboolean
commit_of_a_connection (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  BelaySqlite *db = open_db (path, "CREATE TABLE t (a)");
  g_autoptr (GError) local = NULL;

  assert_ok (belay_sqlite_script (db, "BEGIN; INSERT INTO t VALUES (1)"));
  g_assert_true (belay_commit (&db, error));
  db = open_db (path, NULL);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);
  assert_ok (belay_sqlite_script (db, "BEGIN; INSERT INTO t VALUES (1)"));
  g_assert_true (belay_close (&db, error));
  db = open_db (path, NULL);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);

  /* Without one there is nothing to commit, and it is meant for a transaction's handle. */
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*not a transaction*");
  g_assert_false (belay_commit (&db, &local));
  g_test_assert_expected_messages ();
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_null (db);
  return TRUE;
}

/* SQLite is out of a transaction before we are: nothing more is run in it, for it would be committed at once. */
static gboolean
lost_transactions (gpointer data, GError **error)
{
  static const char *enders[] = { "ROLLBACK", "COMMIT", "INSERT OR ROLLBACK INTO u VALUES (1)" };
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a); CREATE TABLE u (a UNIQUE); INSERT INTO u VALUES (1)");

  for (guint i = 0; i < G_N_ELEMENTS (enders); i++)
    {
      BelaySqlite *tx = belay_await (belay_sqlite_begin (db), error), *inner;
      g_autoptr (GError) local = NULL;
      gboolean ok;

      assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL));
      inner = belay_await (belay_sqlite_begin (tx), error);
      ok = belay_await_ok (belay_sqlite_execute (inner, enders[i], NULL), NULL);
      g_assert_true (ok == (i < 2));
      assert_fails (belay_sqlite_execute (inner, "INSERT INTO t VALUES (2)", NULL), BELAY_SQLITE_ERROR, SQLITE_ABORT_ROLLBACK,
                    "*the transaction is over already: *");
      assert_fails (belay_sqlite_begin (inner), BELAY_SQLITE_ERROR, SQLITE_ABORT_ROLLBACK, "*");
      g_assert_false (belay_commit (&inner, &local));
      g_assert_error (local, BELAY_SQLITE_ERROR, SQLITE_ABORT_ROLLBACK);
      assert_fails (belay_sqlite_query (tx, "SELECT 1", NULL), BELAY_SQLITE_ERROR, SQLITE_ABORT_ROLLBACK, "*");
      g_assert_true (belay_close (&tx, error)); /* a rollback that is done already is fine */
      g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, i == 1 ? 1 : 0);
      assert_ok (belay_sqlite_execute (db, "DELETE FROM t", NULL));
    }
  return TRUE;
}

static gboolean
end_and_begin (sqlite3 *handle, gpointer data, GError **error)
{
  return sqlite3_exec (handle, "COMMIT; INSERT INTO t VALUES (2); BEGIN; INSERT INTO t VALUES (3)", NULL, NULL, NULL) == SQLITE_OK;
}

/* A transaction that a script, or a function, ends is over, though it begins another. */
static gboolean
replaced_transactions (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");

  for (int function = 0; function < 2; function++)
    {
      BelaySqlite *tx = belay_await (belay_sqlite_begin (db), error);

      assert_ok (belay_sqlite_execute (tx, "SAVEPOINT mine", NULL));
      assert_ok (belay_sqlite_execute (tx, "ROLLBACK TO mine", NULL));
      assert_ok (belay_sqlite_script (tx, "RELEASE mine; INSERT INTO t VALUES (1)"));
      if (function)
        assert_ok (belay_sqlite_run (tx, end_and_begin, NULL));
      else
        assert_fails (belay_sqlite_script (tx, "COMMIT; INSERT INTO t VALUES (2); BEGIN; INSERT INTO t VALUES (3)"),
                      BELAY_SQLITE_ERROR, SQLITE_ABORT_ROLLBACK, "*has ended the transaction*(COMMIT;)");
      assert_fails (belay_sqlite_execute (tx, "INSERT INTO t VALUES (4)", NULL), BELAY_SQLITE_ERROR, SQLITE_ABORT_ROLLBACK,
                    "*is over already*");
      g_assert_false (belay_commit (&tx, NULL));
      g_assert_cmpint (count (db, "SELECT max(a) FROM t"), ==, function ? 2 : 1);
      assert_ok (belay_sqlite_execute (db, "DELETE FROM t", NULL));
    }
  return TRUE;
}

/* A write that is stopped takes its transaction with it; what comes later says so. */
static gboolean
cancelled_write (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");
  BelaySqlite *tx = belay_await (belay_sqlite_begin (db), error);

  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL));
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (30);

    assert_fails (belay_sqlite_query (tx, ENDLESS, NULL), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
  }
  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (2)", NULL));
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (30);

    assert_fails (belay_sqlite_execute (tx, "INSERT INTO t WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) "
                                            "SELECT i FROM c", NULL), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
  }
  assert_fails (belay_sqlite_execute (tx, "INSERT INTO t VALUES (3)", NULL), BELAY_SQLITE_ERROR, SQLITE_ABORT_ROLLBACK,
                "*a write in it was cancelled*");
  g_assert_true (belay_close (&tx, error));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0);
  return TRUE;
}

static gboolean
transaction_of_a_closed_connection (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  BelaySqlite *db = open_db (path, "CREATE TABLE t (a)"), *tx, *inner;
  g_autoptr (GError) local = NULL;

  tx = belay_await (belay_sqlite_begin (db), error);
  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL));
  inner = belay_await (belay_sqlite_begin (tx), error);
  g_assert_true (belay_close (&db, error));
  assert_fails (belay_sqlite_execute (inner, "INSERT INTO t VALUES (2)", NULL), G_IO_ERROR, G_IO_ERROR_CLOSED, "*");
  assert_fails (belay_sqlite_execute (tx, "INSERT INTO t VALUES (2)", NULL), G_IO_ERROR, G_IO_ERROR_CLOSED, "*");
  g_assert_true (belay_close (&inner, error));
  g_assert_false (belay_commit (&tx, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CLOSED);

  db = open_db (path, NULL);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0);
  return belay_close (&db, error);
}

static gboolean
commit_around_an_open_one (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");
  BelaySqlite *tx = belay_await (belay_sqlite_begin (db), error), *inner = belay_await (belay_sqlite_begin (tx), error);
  g_autoptr (GError) local = NULL;

  assert_ok (belay_sqlite_execute (inner, "INSERT INTO t VALUES (1)", NULL));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*is committed while another*");
  g_assert_false (belay_commit (&tx, &local));
  g_test_assert_expected_messages ();
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  assert_fails (belay_sqlite_execute (inner, "INSERT INTO t VALUES (2)", NULL), G_IO_ERROR, G_IO_ERROR_CLOSED, "*");
  g_assert_true (belay_close (&inner, error));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0);
  return TRUE;
}

static gboolean
transfer (gpointer data, GError **error)
{
  Task *task = data;
  belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (task->db), error);

  if (tx == NULL)
    return FALSE;
  for (int i = 0; i < task->n; i++)
    if (!belay_await_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (?)", g_variant_new ("(i)", task->i)), error) ||
        !belay_yield (error))
      return FALSE;
  return task->i % 2 == 0 || belay_commit (&tx, error);
}

/* Two fibers, one connection, each in its own transaction: they take turns, in the order in which they asked. */
static gboolean
transactions_do_not_mix (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");
  g_autoptr (BelaySqliteRows) rows = NULL;
  BelayFuture *futures[10], *outside;
  Task tasks[10];

  for (int i = 0; i < 10; i++)
    {
      tasks[i] = (Task) { db, NULL, i, 5 };
      futures[i] = belay_spawn (transfer, &tasks[i]);
    }
  g_assert_true (belay_yield (error)); /* they ask */
  outside = belay_sqlite_get_int64 (db, "SELECT count(*) FROM t", NULL);
  {
    gint64 n = 0;

    g_assert_true (belay_await_int64 (outside, &n, error)); /* after all of them: it is one line */
    g_assert_cmpint (n, ==, 25);
  }
  for (int i = 0; i < 10; i++)
    assert_ok (futures[i]);
  rows = belay_await (belay_sqlite_query (db, "SELECT a FROM t ORDER BY rowid", NULL), error);
  g_assert_cmpuint (belay_sqlite_rows_get_n_rows (rows), ==, 25);
  for (guint i = 0; i < 25; i++)
    g_assert_cmpint (belay_sqlite_rows_get_int64 (rows, i, 0), ==, i / 5 * 2 + 1);
  return TRUE;
}

/* A transaction whose waiter leaves, at every moment, is never left open. */
static gboolean
begin_cancelled (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "CREATE TABLE t (a)");

  for (int i = 0; i < 100; i++)
    {
      g_autoptr (GError) local = NULL;
      belay_auto (BelayScope) scope = belay_scope_begin ();
      BelayFuture *future = belay_sqlite_begin (db);

      spin_for (i * 2);
      belay_scope_cancel (scope, "enough");
      g_assert_null (belay_await (future, &local));
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    }
  assert_ok (belay_sqlite_execute (db, "INSERT INTO t VALUES (1)", NULL)); /* it would wait for one that is open */
  return TRUE;
}

static gboolean
commit_in_a_cancelled_scope (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");

  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    BelaySqlite *tx = belay_await (belay_sqlite_begin (db), error);
    g_autoptr (GError) local = NULL;

    assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL));
    belay_scope_cancel (scope, NULL);
    g_assert_false (belay_commit (&tx, &local));
    g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    assert_fails (belay_sqlite_execute (db, "INSERT INTO t VALUES (2)", NULL), G_IO_ERROR, G_IO_ERROR_CANCELLED, "*");
    assert_fails (belay_sqlite_begin (db), G_IO_ERROR, G_IO_ERROR_CANCELLED, "*");
    assert_fails (belay_sqlite_open (":memory:", NULL), G_IO_ERROR, G_IO_ERROR_CANCELLED, "*");
  }
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0);
  return TRUE;
}

/* --- the locks of other processes --- */

static gboolean
waits_for_another_process (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "PRAGMA synchronous = OFF; CREATE TABLE t (a)");
  BelayFuture *statement, *read, *later;
  BelaySqlite *tx;
  Other other;
  gint64 begin;

  other_start (&other, path);

  /* A transaction. */
  other_says (&other, "BEGIN IMMEDIATE; INSERT INTO t VALUES (1)");
  later = belay_spawn (say_later, (&(Later) { &other, 60, "COMMIT" }));
  begin = g_get_monotonic_time ();
  tx = belay_await (belay_sqlite_begin (db), error);
  g_assert_nonnull (tx);
  g_assert_cmpint (g_get_monotonic_time () - begin, >=, 50000);
  g_assert_cmpint (count (tx, "SELECT count(*) FROM t"), ==, 1);
  g_assert_true (belay_close (&tx, error));
  assert_ok (later);

  /* A statement, a read, a script (which goes on where it was) and an opening. */
  other_says (&other, "BEGIN EXCLUSIVE");
  statement = belay_sqlite_execute (db, "INSERT INTO t VALUES (2)", NULL);
  read = belay_sqlite_get_int64 (db, "SELECT count(*) FROM t", NULL);
  later = belay_spawn (say_later, (&(Later) { &other, 30, "COMMIT" }));
  assert_ok (statement);
  assert_ok (read);
  assert_ok (later);
  other_says (&other, "BEGIN IMMEDIATE");
  later = belay_spawn (say_later, (&(Later) { &other, 30, "COMMIT" }));
  assert_ok (belay_sqlite_script (db, "CREATE TEMP TABLE s (a); INSERT INTO temp.s VALUES (1); INSERT INTO t VALUES (3);"
                                      "INSERT INTO temp.s VALUES (2)"));
  g_assert_cmpint (count (db, "SELECT count(*) FROM temp.s"), ==, 2);
  assert_ok (later);
  other_says (&other, "BEGIN EXCLUSIVE");
  later = belay_spawn (say_later, (&(Later) { &other, 30, "COMMIT" }));
  {
    BelaySqlite *second = belay_await (belay_sqlite_open (path, NULL), error);
    g_assert_nonnull (second);
    g_assert_true (belay_close (&second, error));
  }
  assert_ok (later);

  /* A commit: in a rollback journal it waits for readers. */
  tx = belay_await (belay_sqlite_begin (db), error);
  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (4)", NULL));
  other_says (&other, "BEGIN; SELECT * FROM t");
  later = belay_spawn (say_later, (&(Later) { &other, 30, "COMMIT" }));
  g_assert_true (belay_commit (&tx, error));
  assert_ok (later);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 4);
  other_end (&other);
  return TRUE;
}

static gboolean
gives_up_waiting (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, &(BelaySqliteOptions) { .busy_timeout = 40,
                                                                                              .setup = "CREATE TABLE t (a)" }), error);
  belay_auto (BelaySqlite) impatient = belay_await (belay_sqlite_open (path, &(BelaySqliteOptions) { .busy_timeout = -1 }), error);
  g_autoptr (GError) local = NULL;
  BelaySqlite *tx;
  guint fds;
  gint64 begin;
  Other other;

  other_start (&other, path);
  other_says (&other, "BEGIN EXCLUSIVE");
  fds = test_count_fds ();
  assert_fails (belay_sqlite_begin (impatient), BELAY_SQLITE_ERROR, SQLITE_BUSY, "*database is locked*(BEGIN IMMEDIATE)");
  begin = g_get_monotonic_time ();
  assert_fails (belay_sqlite_begin (db), BELAY_SQLITE_ERROR, SQLITE_BUSY,
                "*.db: database is locked, and stayed so for 40 ms (BEGIN IMMEDIATE)");
  g_assert_cmpint (g_get_monotonic_time () - begin, >=, 40000);
  assert_fails (belay_sqlite_execute (db, "INSERT INTO t VALUES (1)", NULL), BELAY_SQLITE_ERROR, SQLITE_BUSY,
                "*(INSERT INTO t VALUES (1))");
  assert_fails (belay_sqlite_query (db, "SELECT * FROM t", NULL), BELAY_SQLITE_ERROR, SQLITE_BUSY, "*");
  assert_fails (belay_sqlite_open (path, &(BelaySqliteOptions) { .busy_timeout = 20 }), BELAY_SQLITE_ERROR, SQLITE_BUSY, "*");
  assert_fds (fds);
  other_says (&other, "COMMIT");

  /* A commit that is never let through is rolled back. */
  tx = belay_await (belay_sqlite_begin (db), error);
  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (2)", NULL));
  other_says (&other, "BEGIN; SELECT * FROM t");
  g_assert_false (belay_commit (&tx, &local));
  g_assert_error (local, BELAY_SQLITE_ERROR, SQLITE_BUSY);
  other_says (&other, "COMMIT");
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0);
  assert_ok (belay_sqlite_execute (db, "INSERT INTO t VALUES (3)", NULL));
  other_end (&other);
  return TRUE;
}

static gboolean
nothing (gpointer data, GError **error)
{
  return TRUE;
}

static gboolean
begin_elsewhere (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (data), error);

  return tx != NULL;
}

/* More connections wait for a lock than there are workers, and the workers are free all the same. */
static gboolean
waiting_holds_no_worker (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  BelaySqlite *dbs[80];
  BelayFuture *begins[80];
  Other other;
  gint64 begin;

  for (guint i = 0; i < G_N_ELEMENTS (dbs); i++)
    dbs[i] = open_db (path, "CREATE TABLE IF NOT EXISTS t (a)");
  other_start (&other, path);
  other_says (&other, "BEGIN IMMEDIATE");
  for (guint i = 0; i < G_N_ELEMENTS (dbs); i++)
    begins[i] = belay_spawn (begin_elsewhere, dbs[i]);
  g_assert_true (belay_sleep (30, error));
  begin = g_get_monotonic_time ();
  for (int i = 0; i < 20; i++)
    assert_ok (belay_thread_run (nothing, NULL));
  test_assert_soon (begin);
  other_says (&other, "COMMIT");
  other_end (&other);
  for (guint i = 0; i < G_N_ELEMENTS (dbs); i++)
    {
      assert_ok (begins[i]);
      g_assert_true (belay_close (&dbs[i], error));
    }
  return TRUE;
}

/* One who waits for a lock can leave; who waits behind goes on, and so does the connection. */
static gboolean
wait_is_cancelled (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "CREATE TABLE t (a)");
  Other other;
  guint fds;

  other_start (&other, path);
  other_says (&other, "BEGIN IMMEDIATE");
  fds = test_count_fds ();
  for (int i = 0; i < 5; i++)
    {
      belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (10 + i * 7);
      gint64 begin = g_get_monotonic_time ();
      BelayFuture *read;

      assert_fails (i % 2 ? belay_sqlite_begin (db) : belay_sqlite_script (db, "BEGIN; SELECT 1; INSERT INTO t VALUES (1); COMMIT"),
                    G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
      test_assert_soon (begin);
      {
        belay_auto (BelayShield) shield G_GNUC_UNUSED = belay_shield ();

        read = belay_sqlite_get_int64 (db, "SELECT count(*) FROM t", NULL); /* reading goes on beside that writer */
        assert_ok (read);
      }
    }
  /* An opening that waits. */
  other_says (&other, "COMMIT; BEGIN EXCLUSIVE");
  {
    belay_auto (BelayTimeout) limit = belay_timeout (15);

    assert_fails (belay_sqlite_open (path, NULL), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
    g_assert_true (belay_timeout_expired (limit));
  }
  wait_for_fds (fds);
  other_says (&other, "COMMIT");
  assert_ok (belay_sqlite_execute (db, "INSERT INTO t VALUES (1)", NULL));
  other_end (&other);
  return TRUE;
}

/* The loop of one who waits for a lock ends: the others that wait behind go on. */
static gpointer
commit_soon (gpointer handle)
{
  g_usleep (300000);
  g_assert_cmpint (sqlite3_exec (handle, "COMMIT", NULL, NULL, NULL), ==, SQLITE_OK);
  return NULL;
}

/* In another process, whose clock is the virtual one: it stands still while a lock is waited for. */
static gboolean
wait_under_virtual_clock (gpointer path, GError **error)
{
  gint64 begin = belay_now ();
  sqlite3 *handle = NULL;
  GThread *thread;
  gboolean ok;

  g_assert_cmpint (sqlite3_open (path, &handle), ==, SQLITE_OK);
  g_assert_cmpint (sqlite3_exec (handle, "CREATE TABLE t (a)", NULL, NULL, NULL), ==, SQLITE_OK);
  {
    belay_auto (BelaySqlite) db = open_db (path, NULL);
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (100);

    g_assert_cmpint (sqlite3_exec (handle, "BEGIN EXCLUSIVE", NULL, NULL, NULL), ==, SQLITE_OK);
    thread = g_thread_new ("other", commit_soon, handle);
    ok = belay_await_ok (belay_sqlite_execute (db, "INSERT INTO t VALUES (1)", NULL), error);
    g_thread_join (thread);
  }
  sqlite3_close (handle);
  g_assert_cmpint (belay_now (), ==, begin);
  return ok && belay_sleep (3600 * 1000, error); /* and goes on afterwards */
}

static void
virtual_clock (void)
{
  g_autofree char *path = db_path ();
  const char *argv[] = { program, "--virtual-clock", path, NULL };
  g_auto (GStrv) environment = g_environ_setenv (g_get_environ (), "BELAY_DEBUG", "virtual-clock", TRUE);
  g_autoptr (GError) error = NULL;
  int status = -1;

  g_spawn_sync (NULL, (char **) argv, environment, 0, NULL, NULL, NULL, NULL, &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (status, ==, 0);
}

static gboolean
loop_ends_while_waiting (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "CREATE TABLE t (a)");
  BelayLoop *loop = belay_loop_new ("short-lived");
  BelayFuture *elsewhere, *here;
  Other other;

  other_start (&other, path);
  other_says (&other, "BEGIN EXCLUSIVE");
  elsewhere = belay_loop_spawn (loop, begin_elsewhere, db, NULL);
  g_assert_true (belay_sleep (20, error));
  here = belay_sqlite_execute (db, "INSERT INTO t VALUES (1)", NULL);
  belay_future_unref (elsewhere); /* cancels it */
  g_assert_true (belay_close (&loop, error));
  g_assert_true (belay_sleep (10, error));
  other_says (&other, "COMMIT");
  assert_ok (here);
  other_end (&other);
  return TRUE;
}

static gpointer
insert_while_locked (gpointer data)
{
  g_autoptr (BelayFuture) future = belay_sqlite_execute (data, "INSERT INTO t VALUES (1)", NULL);

  g_assert_true (belay_future_wait_sync (future, NULL));
  return NULL;
}

static gboolean
join_thread (gpointer data, GError **error)
{
  g_thread_join (data);
  return TRUE;
}

/* A plain thread has no loop whose timer could wake it. */
static gboolean
plain_thread_waits (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "CREATE TABLE t (a)");
  GThread *thread;
  Other other;

  other_start (&other, path);
  other_says (&other, "BEGIN EXCLUSIVE");
  thread = g_thread_new ("inserter", insert_while_locked, db);
  g_assert_true (belay_sleep (20, error));
  other_says (&other, "COMMIT");
  assert_ok (belay_thread_run (join_thread, thread));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);
  other_end (&other);
  return TRUE;
}

/* --- cancellation --- */

static gboolean
cancel_stops_one_statement (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");

  for (int i = 0; i < 10; i++)
    {
      gint64 begin = g_get_monotonic_time ();
      BelayFuture *endless = belay_sqlite_query (db, ENDLESS, NULL);
      BelayFuture *behind = belay_sqlite_get_int64 (db, "SELECT a FROM t", NULL);

      {
        belay_auto (BelayTimeout) limit = belay_timeout (10);

        assert_fails (endless, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
        g_assert_true (belay_timeout_expired (limit));
      }
      assert_ok (behind); /* not stopped with it, and at once */
      test_assert_soon (begin);
    }
  return TRUE;
}

static gboolean
queued_is_taken_back (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");
  BelayFuture *endless = belay_sqlite_query (db, ENDLESS, NULL), *inserts[10];

  for (int i = 0; i < 10; i++)
    inserts[i] = belay_sqlite_execute (db, "INSERT INTO t VALUES (?)", g_variant_new ("(i)", i));
  for (int i = 0; i < 10; i += 2)
    belay_future_unref (inserts[i]);
  belay_future_unref (endless);
  for (int i = 1; i < 10; i += 2)
    assert_ok (inserts[i]);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t WHERE a % 2"), ==, 5);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 5);
  return TRUE;
}

/* A write that is stopped within a transaction takes the transaction with it; a read does not. */
static gboolean
cancel_in_a_transaction (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");
  BelaySqlite *tx = belay_await (belay_sqlite_begin (db), error);

  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL));
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (10);
    g_assert_false (belay_await_ok (belay_sqlite_query (tx, ENDLESS, NULL), NULL));
  }
  g_assert_cmpint (count (tx, "SELECT count(*) FROM t"), ==, 1);
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (10);
    assert_fails (belay_sqlite_execute (tx, "INSERT INTO t WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) "
                                            "SELECT i FROM c", NULL), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
  }
  assert_fails (belay_sqlite_execute (tx, "INSERT INTO t VALUES (2)", NULL), BELAY_SQLITE_ERROR, SQLITE_ABORT_ROLLBACK, "*");
  g_assert_true (belay_close (&tx, error));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0);
  return TRUE;
}

static gboolean
cancelled_script_leaves_no_transaction (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");

  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (10);
    assert_fails (belay_sqlite_script (db, "BEGIN; INSERT INTO t VALUES (1); " ENDLESS), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
  }
  {
    belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);
    g_assert_nonnull (tx);
  }
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 0);
  return TRUE;
}

/* --- functions --- */

typedef struct
{
  int      mode;
  gboolean ran; /* atomic */
  int      gate;
} Function;

static gboolean
function (sqlite3 *handle, gpointer data, GError **error)
{
  Function *self = data;
  sqlite3_stmt *stmt = NULL;

  g_atomic_int_set (&self->ran, TRUE);
  switch (self->mode)
    {
    case 0:
      return sqlite3_exec (handle, "BEGIN; INSERT INTO t VALUES (1); COMMIT", NULL, NULL, NULL) == SQLITE_OK ||
             belay_sqlite_set_error (handle, "inserting", error);
    case 1: /* fails, and leaves a transaction */
      return sqlite3_exec (handle, "BEGIN; INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)", NULL, NULL, NULL) == SQLITE_OK ||
             belay_sqlite_set_error (handle, "inserting", error);
    case 2: /* does not end */
      return sqlite3_exec (handle, ENDLESS, NULL, NULL, NULL) == SQLITE_OK || belay_sqlite_set_error (handle, "counting", error);
    case 3:
      return FALSE;
    case 4:
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "and yet");
      return TRUE;
    case 5: /* leaves a statement in the middle of its rows */
      sqlite3_prepare_v2 (handle, "SELECT * FROM t UNION ALL SELECT 1 UNION ALL SELECT 2", -1, &stmt, NULL);
      sqlite3_step (stmt);
      return TRUE;
    case 6: /* succeeds although it was told to end */
      while (!g_atomic_int_get (&self->gate))
        g_usleep (100);
      return sqlite3_exec (handle, "INSERT INTO t VALUES (6)", NULL, NULL, NULL) == SQLITE_OK ||
             belay_sqlite_set_error (handle, "inserting", error);
    case 7: /* with a handler of its own */
      sqlite3_progress_handler (handle, 0, NULL, NULL);
      sqlite3_busy_timeout (handle, 10);
      return TRUE;
    default:
      return belay_sqlite_set_error (handle, "nothing", error);
    }
}

static gboolean
functions (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "CREATE TABLE t (a)");
  Function f = { 0 };
  BelaySqlite *tx;

  assert_ok (belay_sqlite_run (db, function, &f));
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);

  f.mode = 1;
  assert_fails (belay_sqlite_run (db, function, &f), BELAY_SQLITE_ERROR, SQLITE_ERROR, "inserting: no such table: u");
  tx = belay_await (belay_sqlite_begin (db), error); /* nothing is left open */
  g_assert_nonnull (tx);
  f.mode = 0;
  assert_fails (belay_sqlite_run (tx, function, &f), BELAY_SQLITE_ERROR, SQLITE_ERROR, "inserting: *within a transaction*");
  g_assert_true (belay_commit (&tx, error));

  f.mode = 2;
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (10);
    assert_fails (belay_sqlite_run (db, function, &f), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
  }
  f.mode = 7;
  assert_ok (belay_sqlite_run (db, function, &f));
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (10);
    assert_fails (belay_sqlite_query (db, ENDLESS, NULL), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "*");
  }
  f.mode = 8;
  assert_fails (belay_sqlite_run (db, function, &f), BELAY_SQLITE_ERROR, SQLITE_ERROR, "nothing: *");
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);
  return TRUE;
}

static gboolean
functions_misused (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  BelaySqlite *db = open_db (path, "CREATE TABLE t (a)");
  Function f = { 3, FALSE, 0 };

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*FALSE and set no error*");
  assert_fails (belay_sqlite_run (db, function, &f), BELAY_ERROR, BELAY_ERROR_MISUSE, "*");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*TRUE and set an error*");
  f.mode = 4;
  assert_fails (belay_sqlite_run (db, function, &f), G_IO_ERROR, G_IO_ERROR_FAILED, "and yet");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*left a statement running*");
  f.mode = 5;
  assert_ok (belay_sqlite_run (db, function, &f));
  assert_ok (belay_sqlite_execute (db, "DROP TABLE t", NULL));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*left a statement open*");
  g_assert_true (belay_close (&db, error));
  g_test_assert_expected_messages ();
  return TRUE;
}

static gboolean
open_the_gate (gpointer data, GError **error)
{
  Function *f = data;

  if (!belay_sleep (10, error))
    return FALSE;
  g_atomic_int_set (&f->gate, 1);
  return TRUE;
}

/* It uses the memory of the one who waits, who therefore sees its end; and its success is not undone. */
static gboolean
function_succeeds_though_cancelled (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = open_db (":memory:", "CREATE TABLE t (a)");
  Function f = { 6, FALSE, 0 };
  BelayFuture *gate, *running = belay_sqlite_run (db, function, &f);

  while (!g_atomic_int_get (&f.ran))
    g_assert_true (belay_sleep (1, error));
  gate = belay_spawn (open_the_gate, &f);
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (1);

    belay_await_ok (running, NULL);
    g_assert_true (g_atomic_int_get (&f.gate));
  }
  assert_ok (gate);
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);

  /* One that has not begun is taken back. */
  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    BelayFuture *endless = belay_sqlite_query (db, ENDLESS, NULL), *never;

    f.ran = FALSE;
    never = belay_sqlite_run (db, function, &f);
    belay_scope_cancel (scope, NULL);
    assert_fails (never, G_IO_ERROR, G_IO_ERROR_CANCELLED, "*");
    g_assert_false (f.ran);
    belay_future_unref (endless);
  }
  return TRUE;
}

static gboolean
wait_in_function (sqlite3 *handle, gpointer data, GError **error)
{
  return sqlite3_exec (handle, "BEGIN IMMEDIATE; INSERT INTO t VALUES (1); COMMIT", NULL, NULL, NULL) == SQLITE_OK ||
         belay_sqlite_set_error (handle, "inserting", error);
}

static gboolean
function_waits_for_lock (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "CREATE TABLE t (a)");
  BelayFuture *later;
  Other other;

  other_start (&other, path);
  other_says (&other, "BEGIN EXCLUSIVE");
  later = belay_spawn (say_later, (&(Later) { &other, 30, "COMMIT" }));
  assert_ok (belay_sqlite_run (db, wait_in_function, NULL));
  assert_ok (later);
  other_says (&other, "BEGIN EXCLUSIVE");
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (30);
    gint64 begin = g_get_monotonic_time ();

    g_assert_false (belay_await_ok (belay_sqlite_run (db, wait_in_function, NULL), NULL));
    test_assert_soon (begin);
  }
  other_says (&other, "COMMIT");
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 1);
  other_end (&other);
  return TRUE;
}

/* --- a child of fork() --- */

/* In the child both guards are left, and do nothing: neither is the transaction rolled back nor the file closed under it. */
static pid_t
fork_in_a_transaction (BelaySqlite *db, GError **error)
{
  belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);
  pid_t child;

  g_assert_nonnull (tx);
  assert_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (1)", NULL));
  {
    belay_auto (BelaySqlite) inner = belay_await (belay_sqlite_begin (tx), error);

    g_assert_nonnull (inner);
    assert_ok (belay_sqlite_execute (inner, "INSERT INTO t VALUES (2)", NULL));
    child = fork ();
    if (child != 0)
      {
        int status;

        g_assert_cmpint (waitpid (child, &status, 0), ==, child);
        g_assert_true (WIFEXITED (status) && WEXITSTATUS (status) == 0);
        g_assert_true (belay_commit (&inner, error));
      }
  }
  if (child != 0)
    g_assert_true (belay_commit (&tx, error));
  return child;
}

static gboolean
forked_child (gpointer data, GError **error)
{
  g_autofree char *path = db_path ();
  belay_auto (BelaySqlite) db = open_db (path, "PRAGMA journal_mode = wal; CREATE TABLE t (a)");

  if (fork_in_a_transaction (db, error) == 0)
    {
      g_autoptr (GError) refused = NULL;

      g_assert_false (belay_await_ok (belay_sqlite_execute (db, "DELETE FROM t", NULL), &refused));
      _exit (g_error_matches (refused, BELAY_ERROR, BELAY_ERROR_FORKED) ? 0 : 1);
    }
  g_assert_cmpint (count (db, "SELECT count(*) FROM t"), ==, 2);
  return TRUE;
}

int
main (int argc, char **argv)
{
  if (argc == 3 && g_str_equal (argv[1], "--other"))
    return other_main (argv[2]);
  if (argc == 3 && g_str_equal (argv[1], "--virtual-clock"))
    return belay_run (wait_under_virtual_clock, argv[2]);
  program = argv[0];
  g_test_init (&argc, &argv, NULL);

  test_add_fiber ("/sqlite/F01-open-select-close", open_select_close);
  test_add_fiber ("/sqlite/F15-opening-that-fails-leaves-nothing", open_errors);
  test_add_fiber ("/sqlite/options-and-uris", open_options);
  test_add_fiber ("/sqlite/F16-opening-that-is-cancelled-leaves-nothing", open_cancelled);
  test_add_fiber ("/sqlite/values-of-every-type", values_of_every_type);
  test_add_fiber ("/sqlite/values-are-converted-as-SQLite-does", conversions);
  test_add_fiber ("/sqlite/parameters-that-are-refused", parameters_refused);
  test_add_fiber ("/sqlite/errors-say-the-statement", statement_errors);
  test_add_fiber ("/sqlite/more-than-one-statement-takes-no-effect", more_than_one);
  test_add_fiber ("/sqlite/changes-are-counted", changes_are_counted);
  test_add_fiber ("/sqlite/single-values", single_values);
  test_add_fiber ("/sqlite/scripts", scripts);
  test_add_fiber ("/sqlite/statements-are-kept", statements_are_kept);
  test_add_fiber ("/sqlite/many-rows", many_rows);
  test_add_fiber ("/sqlite/misuse", misuse);
  test_add_fiber ("/sqlite/F04-many-fibers-on-one-connection", one_connection);
  test_add_fiber ("/sqlite/F03-many-connections", many_connections);
  test_add_fiber ("/sqlite/reads-that-share-a-transaction", shared_reads);
  test_add_fiber ("/sqlite/L47-what-is-read-is-not-older-than-the-asking", shared_reads_are_not_stale);
  test_add_fiber ("/sqlite/plain-threads", plain_threads);
  test_add_fiber ("/sqlite/several-loops", several_loops);
  test_add_fiber ("/sqlite/F18-closed-connection-refuses", closed_connection);
  test_add_fiber ("/sqlite/F19-close-waits-for-the-queue", close_waits_for_the_queue);
  test_add_fiber ("/sqlite/L17-dropped-without-close", dropped_without_close);
  test_add_fiber ("/sqlite/L7-close-by-force", close_by_force);
  test_add_fiber ("/sqlite/L45-left-without-commit-rolls-back", left_without_commit);
  test_add_fiber ("/sqlite/L45-savepoints-undo-only-themselves", savepoints);
  test_add_fiber ("/sqlite/L45-failed-commit-is-rolled-back", failed_commit);
  test_add_fiber ("/sqlite/L45-commit-of-a-connection", commit_of_a_connection);
  test_add_fiber ("/sqlite/L45-lost-transaction-refuses", lost_transactions);
  test_add_fiber ("/sqlite/L45-replaced-transaction-refuses", replaced_transactions);
  test_add_fiber ("/sqlite/L45-cancelled-write-loses-its-transaction", cancelled_write);
  test_add_fiber ("/sqlite/L50-L44-nothing-of-it-is-used-in-a-forked-child", forked_child);
  test_add_fiber ("/sqlite/L45-closing-the-connection-rolls-back", transaction_of_a_closed_connection);
  test_add_fiber ("/sqlite/L45-commit-around-an-open-one-is-refused", commit_around_an_open_one);
  test_add_fiber ("/sqlite/L45-begin-that-is-cancelled-leaves-nothing-open", begin_cancelled);
  test_add_fiber ("/sqlite/L20-commit-in-a-cancelled-scope", commit_in_a_cancelled_scope);
  test_add_fiber ("/sqlite/F24-transactions-of-two-fibers-do-not-mix", transactions_do_not_mix);
  test_add_fiber ("/sqlite/L46-waits-for-another-process", waits_for_another_process);
  test_add_fiber ("/sqlite/L46-gives-up-waiting", gives_up_waiting);
  test_add_fiber ("/sqlite/L46-waiting-holds-no-worker", waiting_holds_no_worker);
  test_add_fiber ("/sqlite/L46-wait-is-cancelled", wait_is_cancelled);
  g_test_add_func ("/sqlite/L46-rule-15-a-virtual-clock-stands-still-for-the-wait", virtual_clock);
  test_add_fiber ("/sqlite/L46-loop-ends-while-waiting", loop_ends_while_waiting);
  test_add_fiber ("/sqlite/L46-plain-thread-waits", plain_thread_waits);
  test_add_fiber ("/sqlite/F25-L47-cancel-stops-one-statement", cancel_stops_one_statement);
  test_add_fiber ("/sqlite/L47-queued-statement-is-taken-back", queued_is_taken_back);
  test_add_fiber ("/sqlite/L47-cancel-in-a-transaction", cancel_in_a_transaction);
  test_add_fiber ("/sqlite/L46-cancelled-script-leaves-no-transaction", cancelled_script_leaves_no_transaction);
  test_add_fiber ("/sqlite/functions", functions);
  test_add_fiber ("/sqlite/functions-misused", functions_misused);
  test_add_fiber ("/sqlite/L47-function-succeeds-though-cancelled", function_succeeds_though_cancelled);
  test_add_fiber ("/sqlite/L46-function-waits-for-lock", function_waits_for_lock);
  return g_test_run ();
}
