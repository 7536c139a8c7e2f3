/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Full-text search: the best pages first, a word in the title counting five times. */
#include "search.h"

#include "progress.h"
#include "store.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <unistd.h>

/* Each word as a string of FTS5, so that nothing in it is taken for the syntax of a query. */
static char *
quote (char **words)
{
  g_autoptr (GString) query = g_string_new (NULL);

  for (; *words != NULL; words++)
    {
      g_autofree char *valid = g_utf8_make_valid (*words, -1);
      g_auto (GStrv) parts = g_strsplit (valid, "\"", -1);
      g_autofree char *escaped = g_strjoinv ("\"\"", parts);

      g_string_append_printf (query, "\"%s\" ", escaped);
    }
  return g_string_free (g_steal_pointer (&query), FALSE);
}

/* Whether the database is one with a log beside it: byte 18 says how it is written. */
static gboolean
is_wal (const char *path)
{
  FILE *file = g_fopen (path, "rbe");
  char header[20] = { 0 };
  gboolean wal = file != NULL && fread (header, 1, sizeof header, file) == sizeof header && header[18] == 2;

  if (file != NULL)
    fclose (file);
  return wal;
}

/*
 * A crawl that was interrupted leaves a database that SQLite cannot even read without writing beside it. Where it may
 * not, the file alone will do if there is nothing in the log; a page that is only there would be missed.
 */
static BelaySqlite *
open_index (const char *path, GError **error)
{
  const BelaySqliteOptions read_only = { .read_only = TRUE };
  g_autoptr (GError) failure = NULL;
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (path, &read_only), &failure);

  if (db != NULL)
    return belay_steal (&db);
  if (failure->domain != BELAY_SQLITE_ERROR ||
      ((failure->code & 0xff) != SQLITE_READONLY && (failure->code & 0xff) != SQLITE_CANTOPEN) || !is_wal (path))
    {
      g_propagate_error (error, g_steal_pointer (&failure));
      return NULL;
    }

  g_autofree char *log = g_strconcat (path, "-wal", NULL);
  GStatBuf status;
  if (g_stat (log, &status) == 0 && status.st_size > 0)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_READ_ONLY,
                   "%s: its crawl was interrupted; crawl on, or copy it to where it can be written", path);
      return NULL;
    }
  g_autofree char *escaped = g_uri_escape_string (path, "/", FALSE);
  g_autofree char *uri = g_strconcat ("file:", escaped, "?immutable=1", NULL);
  return belay_await (belay_sqlite_open (uri, &read_only), error);
}

gboolean
search (gpointer data, GError **error)
{
  const SearchOptions *options = data;
  gint64 start = g_get_monotonic_time ();
  gboolean terminal = isatty (STDOUT_FILENO);
  g_autofree char *query = quote (options->words);

  belay_auto (BelaySqlite) db = open_index (options->db, error);
  if (db == NULL || !store_check (db, options->db, FALSE, error))
    return FALSE;
  g_autoptr (BelaySqliteRows) hits = belay_await (belay_sqlite_query (db,
    "SELECT pages.url, coalesce (nullif (pages.title, ''), pages.url), snippet (pages_fts, 1, ?, ?, '…', 16) "
    "FROM pages_fts JOIN pages ON pages.rowid = pages_fts.rowid "
    "WHERE pages_fts MATCH ? ORDER BY bm25 (pages_fts, 5.0, 1.0) LIMIT ?",
    g_variant_new ("(sssi)", terminal ? "\033[1m" : "[", terminal ? "\033[0m" : "]", query, options->limit)), error);
  if (hits == NULL)
    return FALSE;

  guint n_hits = belay_sqlite_rows_get_n_rows (hits);
  if (n_hits == 0)
    {
      g_autofree char *words = g_strjoinv (" ", options->words);
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no page has %s", words);
      return FALSE;
    }
  for (guint i = 0; i < n_hits; i++)
    printf ("%u. %s\n   %s\n   %s\n", i + 1, belay_sqlite_rows_get_string (hits, i, 1),
            belay_sqlite_rows_get_string (hits, i, 0), belay_sqlite_rows_get_string (hits, i, 2));
  printf ("%u %s in %.1f ms\n", n_hits, n_hits == 1 ? "hit" : "hits", (g_get_monotonic_time () - start) / 1e3);
  return progress_flush (error);
}
