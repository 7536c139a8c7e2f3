/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A page, its text and the links that are new come into the database by one transaction, and by the same one its URL
 * leaves the frontier. So at whatever moment the program is killed, the next run knows what is left. The full text of
 * a page has the page's rowid.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

/* What is merged into a full-text index is read again and written again, so there is room for that in memory. */
static const char pragmas[] =
  "PRAGMA journal_mode = WAL;"
  "PRAGMA synchronous = NORMAL;"
  "PRAGMA cache_size = -32768;"
  "PRAGMA wal_autocheckpoint = 8192";

static const char drop[] =
  "DROP TABLE IF EXISTS meta;"
  "DROP TABLE IF EXISTS pages;"
  "DROP TABLE IF EXISTS frontier;"
  "DROP TABLE IF EXISTS pages_fts";

static const char schema[] =
  "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);"
  "CREATE TABLE IF NOT EXISTS pages (url TEXT PRIMARY KEY, status INTEGER, title TEXT, links INTEGER, bytes INTEGER,"
  "                                  fetched_at TEXT, error TEXT);"
  "CREATE TABLE IF NOT EXISTS frontier (url TEXT PRIMARY KEY, via TEXT);"
  "CREATE VIRTUAL TABLE IF NOT EXISTS pages_fts USING fts5 (title, text)";

gboolean
store_check (BelaySqlite *db, const char *path, gboolean may_be_empty, GError **error)
{
  g_autoptr (BelaySqliteRows) tables = belay_await (belay_sqlite_query (db,
    "SELECT count(*), count(*) FILTER (WHERE name IN ('meta', 'pages', 'frontier', 'pages_fts')) FROM sqlite_master",
    NULL), error);

  if (tables == NULL)
    return FALSE;
  gboolean empty = belay_sqlite_rows_get_int64 (tables, 0, 0) == 0;
  if (empty ? may_be_empty : belay_sqlite_rows_get_int64 (tables, 0, 1) == 4)
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: %s", path,
               empty ? "an empty database, with no index in it" : "a database, but not one of sitesearch");
  return FALSE;
}

/* TRUE when the database was new; it is an error when it has something else than @source. */
static gboolean
check_source (BelaySqlite *db, const char *path, const char *source, gboolean *is_new, GError **error)
{
  g_autoptr (BelaySqliteRows) rows = belay_await (belay_sqlite_query (db, "SELECT value FROM meta WHERE key = 'source'",
                                                                      NULL), error);
  const char *other;

  if (rows == NULL)
    return FALSE;
  *is_new = belay_sqlite_rows_get_n_rows (rows) == 0;
  if (*is_new)
    return TRUE;
  other = belay_sqlite_rows_get_string (rows, 0, 0);
  if (g_strcmp0 (other, source) == 0)
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "%s: is an index of %s; use --fresh to start anew", path,
               other != NULL ? other : "nothing");
  return FALSE;
}

static gboolean
execute (BelaySqlite *db, const char *sql, const char *text, GError **error)
{
  return belay_await_ok (belay_sqlite_execute (db, sql, g_variant_new ("(s)", text)), error);
}

/* All or nothing, so that a program killed here leaves no half of a schema. */
static gboolean
prepare (BelaySqlite *db, const char *path, const char *source, const char *start, gboolean fresh, GError **error)
{
  belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);
  gboolean is_new;

  if (tx == NULL ||
      (fresh && !belay_await_ok (belay_sqlite_script (tx, drop), error)) ||
      !belay_await_ok (belay_sqlite_script (tx, schema), error) ||
      !check_source (tx, path, source, &is_new, error))
    return FALSE;
  if (is_new &&
      (!execute (tx, "INSERT INTO meta VALUES ('source', ?)", source, error) ||
       !execute (tx, "INSERT INTO frontier VALUES (?, NULL)", start, error)))
    return FALSE;
  return belay_commit (&tx, error);
}

/*
 * The lock is flock()'s, on the database itself: SQLite's own are of the other kind (POSIX), it goes with a process
 * that is killed, and nothing is left lying about. It must be taken before SQLite opens the file and given back after
 * it closed it, since a process that closes any descriptor of a file loses its POSIX locks on it.
 */
StoreLock
store_lock (const char *path, GError **error)
{
  StoreLock lock = open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  int saved;

  if (lock >= 0 && flock (lock, LOCK_EX | LOCK_NB) == 0)
    return lock;
  saved = errno;
  if (lock >= 0)
    close (lock);
  if (saved == EWOULDBLOCK)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_BUSY, "%s: another crawl into it is running", path);
  else
    g_set_error (error, G_IO_ERROR, g_io_error_from_errno (saved), "%s: %s", path, g_strerror (saved));
  return -1;
}

void
store_unlock (StoreLock lock)
{
  close (lock);
}

BelaySqlite *
store_open (const char *path, const char *source, const char *start, gboolean fresh, GError **error)
{
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, NULL), error);

  if (db == NULL ||
      !store_check (db, path, TRUE, error) ||
      !belay_await_ok (belay_sqlite_script (db, pragmas), error) ||
      !prepare (db, path, source, start, fresh, error))
    return NULL;
  return belay_steal (&db);
}

BelaySqliteRows *
store_missing (BelaySqlite *db, GError **error)
{
  return belay_await (belay_sqlite_query (db,
    "SELECT url, via FROM frontier UNION ALL "
    "SELECT url, NULL FROM pages WHERE status = 0 AND error <> '" PAGE_TOO_LARGE "' "
    "                                  AND url NOT IN (SELECT url FROM frontier)", NULL), error);
}

BelaySqliteRows *
store_known (BelaySqlite *db, GError **error)
{
  return belay_await (belay_sqlite_query (db, "SELECT url FROM pages", NULL), error);
}

void
store_total_clear (StoreTotal *total)
{
  g_clear_pointer (&total->failed, json_array_unref);
}

gboolean
store_total (BelaySqlite *db, StoreTotal *total, GError **error)
{
  g_autoptr (BelaySqliteRows) sums = belay_await (belay_sqlite_query (db,
    "SELECT count(*), total (bytes) FROM pages", NULL), error);
  g_autoptr (BelaySqliteRows) failed = sums == NULL ? NULL : belay_await (belay_sqlite_query (db,
    "SELECT url, status, error FROM pages WHERE error IS NOT NULL ORDER BY rowid", NULL), error);

  if (failed == NULL)
    return FALSE;
  total->pages = belay_sqlite_rows_get_int64 (sums, 0, 0);
  total->bytes = belay_sqlite_rows_get_int64 (sums, 0, 1);
  total->failed = json_array_new ();
  for (guint i = 0; i < belay_sqlite_rows_get_n_rows (failed); i++)
    {
      JsonObject *page = json_object_new ();

      json_object_set_string_member (page, "url", belay_sqlite_rows_get_string (failed, i, 0));
      json_object_set_int_member (page, "status", belay_sqlite_rows_get_int64 (failed, i, 1));
      json_object_set_string_member (page, "error", belay_sqlite_rows_get_string (failed, i, 2));
      json_array_add_object_element (total->failed, page);
    }
  return TRUE;
}

/* --- on a worker, with SQLite's own functions --- */

typedef struct
{
  sqlite3_stmt *remove_text, *add_page, *add_text, *add_url, *remove_url;
} Statements;

static gboolean
fail (sqlite3 *handle, GError **error)
{
  return belay_sqlite_set_error (handle, sqlite3_db_filename (handle, "main"), error);
}

static gboolean
statements_compile (Statements *self, sqlite3 *handle, GError **error)
{
  const struct { sqlite3_stmt **statement; const char *sql; } all[] = {
    { &self->remove_text, "DELETE FROM pages_fts WHERE rowid = (SELECT rowid FROM pages WHERE url = ?)" },
    { &self->add_page, "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?, ?)" },
    { &self->add_text, "INSERT INTO pages_fts (rowid, title, text) VALUES (?, ?, ?)" },
    { &self->add_url, "INSERT OR IGNORE INTO frontier VALUES (?, ?)" },
    { &self->remove_url, "DELETE FROM frontier WHERE url = ?" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (all); i++)
    if (sqlite3_prepare_v2 (handle, all[i].sql, -1, all[i].statement, NULL) != SQLITE_OK)
      return fail (handle, error);
  return TRUE;
}

static void
statements_clear (Statements *self)
{
  sqlite3_finalize (self->remove_text);
  sqlite3_finalize (self->add_page);
  sqlite3_finalize (self->add_text);
  sqlite3_finalize (self->add_url);
  sqlite3_finalize (self->remove_url);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Statements, statements_clear)

static void
bind_text (sqlite3_stmt *statement, int parameter, const char *text)
{
  sqlite3_bind_text (statement, parameter, text, -1, SQLITE_STATIC);
}

/* Runs a statement that gives no rows, and makes it ready for the next time. */
static gboolean
run (sqlite3_stmt *statement, GError **error)
{
  if (sqlite3_step (statement) != SQLITE_DONE)
    return fail (sqlite3_db_handle (statement), error);
  sqlite3_reset (statement);
  return TRUE;
}

/* A page that is stored again replaces the older one, whose text has to go by itself. */
static gboolean
insert_page (const Statements *statements, sqlite3 *handle, const Page *page, GError **error)
{
  bind_text (statements->remove_text, 1, page->url);
  if (!run (statements->remove_text, error))
    return FALSE;

  bind_text (statements->add_page, 1, page->url);
  sqlite3_bind_int (statements->add_page, 2, page->status);
  bind_text (statements->add_page, 3, page->title);
  sqlite3_bind_int (statements->add_page, 4, page->links);
  sqlite3_bind_int64 (statements->add_page, 5, page->bytes);
  bind_text (statements->add_page, 6, page->fetched_at);
  bind_text (statements->add_page, 7, page->error);
  if (!run (statements->add_page, error))
    return FALSE;

  if (page->text != NULL)
    {
      sqlite3_bind_int64 (statements->add_text, 1, sqlite3_last_insert_rowid (handle));
      bind_text (statements->add_text, 2, page->title);
      bind_text (statements->add_text, 3, page->text);
      if (!run (statements->add_text, error))
        return FALSE;
    }

  for (guint i = 0; page->found != NULL && i < page->found->len; i++)
    {
      bind_text (statements->add_url, 1, g_ptr_array_index (page->found, i));
      bind_text (statements->add_url, 2, page->via);
      if (!run (statements->add_url, error))
        return FALSE;
    }
  bind_text (statements->remove_url, 1, page->url);
  return run (statements->remove_url, error);
}

static gboolean
insert_pages (sqlite3 *handle, gpointer data, GError **error)
{
  GPtrArray *pages = data;
  g_auto (Statements) statements = { NULL };
  gboolean ok = statements_compile (&statements, handle, error);

  for (guint i = 0; ok && i < pages->len; i++)
    ok = insert_page (&statements, handle, g_ptr_array_index (pages, i), error);
  return ok;
}

gboolean
store_pages (BelaySqlite *db, GPtrArray *pages, GError **error)
{
  belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);

  return tx != NULL &&
         belay_await_ok (belay_sqlite_run (tx, insert_pages, pages), error) &&
         belay_commit (&tx, error);
}

/* TRUE also when somebody reads it all the while: it stays as it is then, and can be read where it can be written. */
static gboolean
leave_wal (BelaySqlite *db, GError **error)
{
  g_autoptr (GError) failure = NULL;

  if (belay_await_ok (belay_sqlite_script (db, "PRAGMA journal_mode = DELETE"), &failure) ||
      g_error_matches (failure, BELAY_SQLITE_ERROR, SQLITE_BUSY) ||
      g_error_matches (failure, BELAY_SQLITE_ERROR, SQLITE_LOCKED))
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&failure));
  return FALSE;
}

gboolean
store_close (BelaySqlite **db, GError **error)
{
  /* The close would do it, too, but a close has a deadline and a slow disk does not care. */
  return belay_await_ok (belay_sqlite_script (*db, "PRAGMA wal_checkpoint (TRUNCATE)"), error) &&
         leave_wal (*db, error) &&
         belay_close (db, error);
}
