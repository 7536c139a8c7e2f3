/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A page, its text and the links that are new go into the database in one transaction, and its URL leaves the frontier
 * in the same one. So at whatever moment the program is killed, the next run knows what is left. The full text of a
 * page has the page's rowid.
 */
#include "store.h"

static const char schema[] =
  "PRAGMA journal_mode = WAL;"
  "PRAGMA synchronous = NORMAL;"
  "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);"
  "CREATE TABLE IF NOT EXISTS pages (url TEXT PRIMARY KEY, status INTEGER, title TEXT, links INTEGER, bytes INTEGER,"
  "                                  fetched_at TEXT, error TEXT);"
  "CREATE TABLE IF NOT EXISTS frontier (url TEXT PRIMARY KEY, via TEXT);"
  "CREATE VIRTUAL TABLE IF NOT EXISTS pages_fts USING fts5 (title, text);";

static const char drop[] =
  "DROP TABLE IF EXISTS meta; DROP TABLE IF EXISTS pages; DROP TABLE IF EXISTS frontier; DROP TABLE IF EXISTS pages_fts;";

/* FALSE: the database is somebody else's. An empty one is everybody's. */
static gboolean
is_ours (BelaySqlite *db, const char *path, GError **error)
{
  gint64 tables, of_ours;

  if (!belay_await_int64 (belay_sqlite_get_int64 (db, "SELECT count(*) FROM sqlite_master", NULL), &tables, error) ||
      !belay_await_int64 (belay_sqlite_get_int64 (db, "SELECT count(*) FROM sqlite_master WHERE name IN "
                                                      "('meta', 'pages', 'frontier', 'pages_fts')", NULL), &of_ours, error))
    return FALSE;
  if (tables > 0 && of_ours < 4)
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: a database, but not one of sitesearch", path);
  return tables == 0 || of_ours == 4;
}
