/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection manager: how a connection is got and given back is written once, and used in one line. It is given back also
 * when the query fails, and the manager is told so.
 */
#include <belay/belay-sqlite.h>
#include <glib/gstdio.h>

static gboolean
connection (BelayManager *manager, gpointer path, GError **error)
{
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, NULL), error);
  gboolean ok;

  if (db == NULL)
    return FALSE;
  g_print ("connected\n");
  ok = belay_manager_yield (manager, db, NULL);
  g_print ("disconnecting, the query %s\n", ok ? "went well" : "failed");
  return belay_close (&db, error);
}

static BelayFuture *
get_connection (const char *path)
{
  return belay_manager_open (connection, (gpointer) path);
}

static GStrv
get_names (const char *path, const char *query, GError **error)
{
  g_autoptr (GStrvBuilder) names = g_strv_builder_new ();
  gboolean ok = FALSE;

  BELAY_WITH (BelayManager, manager, get_connection (path), error)
    {
      g_autoptr (BelaySqliteRows) rows = belay_await (belay_sqlite_query (belay_manager_get_value (manager), query, NULL), error);

      ok = rows != NULL;
      for (guint row = 0; ok && row < belay_sqlite_rows_get_n_rows (rows); row++)
        g_strv_builder_add (names, belay_sqlite_rows_get_string (rows, row, 0));
    }
  else
    ok = FALSE;
  return ok ? g_strv_builder_end (names) : NULL;
}

static GStrv
get_all_users (const char *path, GError **error)
{
  return get_names (path, "SELECT name FROM users ORDER BY name", error);
}

static gboolean
make_users (const char *path, GError **error)
{
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, NULL), error);

  return db != NULL && belay_await_ok (belay_sqlite_script (db, "CREATE TABLE users (name TEXT);"
                                                                "INSERT INTO users VALUES ('Grace'), ('Ada')"), error);
}

static gboolean
run (gpointer path, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_auto (GStrv) users = NULL, birds = NULL;

  if (!make_users (path, error))
    return FALSE;
  users = get_all_users (path, error);
  if (users == NULL)
    return FALSE;
  for (guint i = 0; users[i] != NULL; i++)
    g_print ("%s\n", users[i]);

  birds = get_names (path, "SELECT name FROM birds", &failure);
  g_print ("%s\n", birds == NULL ? failure->message : "there are birds");
  return TRUE;
}

int
main (void)
{
  g_autofree char *folder = g_dir_make_tmp ("belay-XXXXXX", NULL);
  int status = g_chdir (folder) == 0 ? belay_run (run, "users.db") : 1;

  g_remove ("users.db");
  g_rmdir (folder);
  return status;
}
