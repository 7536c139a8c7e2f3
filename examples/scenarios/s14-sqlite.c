/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A database, a query, its rows. The rows are in memory, so they are freed by g_autoptr; the database is released
 * after them, awaited. Without a file name it makes example.db in a temporary folder.
 */
#include <belay/belay-sqlite.h>
#include <glib/gstdio.h>

static gboolean
print_users (gpointer path, GError **error)
{
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, NULL), error);
  if (db == NULL)
    return FALSE;
  g_autoptr (BelaySqliteRows) rows = belay_await (belay_sqlite_query (db, "SELECT * FROM users", NULL), error);
  if (rows == NULL)
    return FALSE;

  for (guint row = 0; row < belay_sqlite_rows_get_n_rows (rows); row++)
    for (guint column = 0; column < belay_sqlite_rows_get_n_columns (rows); column++)
      g_print ("%s%s", belay_sqlite_rows_get_string (rows, row, column),
               column + 1 < belay_sqlite_rows_get_n_columns (rows) ? " | " : "\n");
  return TRUE;
}

static const char users[] = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, born INTEGER);"
                            "INSERT INTO users (name, born) VALUES ('Ada', 1815), ('Grace', 1906)";

static gboolean
make_users (gpointer path, GError **error)
{
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, NULL), error);

  return db != NULL && belay_await_ok (belay_sqlite_script (db, users), error) && belay_close (&db, error);
}

static gboolean
make_and_print_users (gpointer path, GError **error)
{
  return make_users (path, error) && print_users (path, error);
}

int
main (int argc, char **argv)
{
  if (argc > 1)
    return belay_run (print_users, argv[1]);

  g_autofree char *folder = g_dir_make_tmp ("belay-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (folder, "example.db", NULL);
  int status = belay_run (make_and_print_users, path);

  g_remove (path);
  g_rmdir (folder);
  return status;
}
