/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cache of prepared statements: one for each connection, touched by the worker that serves it only.
 *
 * To prepare a statement costs ten times what a point SELECT costs to run, so the KEPT statements used last are kept. They
 * are found by their text, in a table of chains, and form a list in the order of their last use.
 *
 *  C1  A statement in the cache is reset, so it holds no lock and no snapshot.
 *  C2  At most one statement of the cache runs at any time, since the connection is a serial queue; whoever got it
 *      resets it before the next is asked for. So the one that is thrown out is never in use.
 *  C3  A statement whose text is not one statement is refused: SQLite would run the first, and drop the rest silently.
 *  C4  SQLite prepares a statement again by itself when the schema has changed; `SELECT *` may then have other columns.
 *      Their names are made again when its counter says so.
 */
#include "statement.h"

#include "sqlite-error.h"

#include <string.h>

#define KEPT       64
#define KEPT_BYTES (1024 * 1024) /* of text: what is generated, and never comes again, is long */

/* Eight bytes at a time; the texts differ mostly in their middle, so every byte counts. */
guint32
belay_sqlite_hash (const char *sql, gsize length)
{
  guint64 hash = length * G_GUINT64_CONSTANT (0x9e3779b97f4a7c15), word;

  for (; length >= sizeof word; sql += sizeof word, length -= sizeof word)
    {
      memcpy (&word, sql, sizeof word);
      hash = (hash ^ word) * G_GUINT64_CONSTANT (0xff51afd7ed558ccd);
      hash ^= hash >> 32;
    }
  word = 0;
  memcpy (&word, sql, length);
  hash = (hash ^ word) * G_GUINT64_CONSTANT (0xff51afd7ed558ccd);
  return (guint32) (hash >> 32);
}

static void
list_prepend (SqliteCache *cache, SqliteStatement *statement)
{
  statement->previous_used = NULL;
  statement->next_used = cache->first;
  if (cache->first != NULL)
    cache->first->previous_used = statement;
  else
    cache->last = statement;
  cache->first = statement;
}

static void
list_remove (SqliteCache *cache, SqliteStatement *statement)
{
  if (statement->previous_used != NULL)
    statement->previous_used->next_used = statement->next_used;
  else
    cache->first = statement->next_used;
  if (statement->next_used != NULL)
    statement->next_used->previous_used = statement->previous_used;
  else
    cache->last = statement->previous_used;
}

static void
free_statement (SqliteStatement *statement)
{
  sqlite3_finalize (statement->stmt);
  g_clear_pointer (&statement->names, belay_sqlite_names_unref);
  g_free (statement);
}

static void
throw_out_last (SqliteCache *cache)
{
  SqliteStatement *statement = cache->last;
  SqliteStatement **link = &cache->slots[statement->hash % BELAY_SQLITE_CACHE_SLOTS];

  while (*link != statement)
    link = &(*link)->next_same;
  *link = statement->next_same;
  list_remove (cache, statement);
  cache->n--;
  cache->n_bytes -= statement->length;
  free_statement (statement);
}

void
belay_sqlite_cache_clear (SqliteCache *cache)
{
  while (cache->last != NULL)
    throw_out_last (cache);
}

/* Whether the text begins with a word that reads and nothing else. PRAGMA and EXPLAIN count as read-only, too, but a
 * pragma may refuse, or act otherwise, within a transaction. */
static gboolean
begins_like_select (const char *sql)
{
  static const char *words[] = { "SELECT", "WITH", "VALUES" };

  while (g_ascii_isspace (*sql))
    sql++;
  for (guint i = 0; i < G_N_ELEMENTS (words); i++)
    if (g_ascii_strncasecmp (sql, words[i], strlen (words[i])) == 0)
      return TRUE;
  return FALSE;
}

/* Whether something can be run in what follows the first statement: C3. Blanks and comments cannot. */
static gboolean
has_statement (sqlite3 *handle, const char *rest)
{
  sqlite3_stmt *stmt = NULL;
  gboolean found;

  while (g_ascii_isspace (*rest) || *rest == ';')
    rest++;
  if (*rest == '\0')
    return FALSE;
  found = sqlite3_prepare_v2 (handle, rest, -1, &stmt, NULL) != SQLITE_OK || stmt != NULL;
  sqlite3_finalize (stmt);
  return found;
}

static SqliteStatement *
prepare (sqlite3 *handle, const char *sql, gsize length, guint32 hash, int *ret_code, GError **error)
{
  SqliteStatement *statement;
  sqlite3_stmt *stmt = NULL;
  const char *rest = NULL;

  *ret_code = sqlite3_prepare_v3 (handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, &rest);
  if (*ret_code != SQLITE_OK)
    return NULL;
  if (stmt == NULL)
    {
      g_propagate_error (error, belay_sqlite_error_make (SQLITE_MISUSE, "there is no statement in it", NULL, sql));
      return NULL;
    }
  if (has_statement (handle, rest))
    {
      sqlite3_finalize (stmt);
      g_propagate_error (error, belay_sqlite_error_make (SQLITE_MISUSE,
                                                         "it is more than one statement; belay_sqlite_script() runs those",
                                                         NULL, sql));
      return NULL;
    }

  statement = g_malloc0 (sizeof *statement + length + 1);
  statement->stmt = stmt;
  statement->hash = hash;
  statement->length = (guint) length;
  statement->n_parameters = (guint) sqlite3_bind_parameter_count (stmt);
  statement->read_only = sqlite3_stmt_readonly (stmt) != 0;
  statement->is_select = statement->read_only && begins_like_select (sql);
  memcpy (statement->sql, sql, length + 1);
  return statement;
}

SqliteStatement *
belay_sqlite_cache_get (SqliteCache *cache, sqlite3 *handle, const char *sql, gsize length, guint32 hash, int *ret_code,
                        GError **error)
{
  SqliteStatement **slot = &cache->slots[hash % BELAY_SQLITE_CACHE_SLOTS];
  SqliteStatement *statement;

  for (statement = *slot; statement != NULL; statement = statement->next_same)
    {
      if (statement->hash == hash && statement->length == length && memcmp (statement->sql, sql, length) == 0)
        {
          if (statement != cache->first)
            {
              list_remove (cache, statement);
              list_prepend (cache, statement);
            }
          *ret_code = SQLITE_OK;
          return statement;
        }
    }

  statement = prepare (handle, sql, length, hash, ret_code, error);
  if (statement == NULL)
    return NULL;
  while (cache->n == KEPT || (cache->n > 0 && cache->n_bytes + length > KEPT_BYTES))
    throw_out_last (cache);
  statement->next_same = *slot;
  *slot = statement;
  list_prepend (cache, statement);
  cache->n++;
  cache->n_bytes += length;
  return statement;
}

SqliteNames *
belay_sqlite_statement_names (SqliteStatement *statement)
{
  int n_prepared = sqlite3_stmt_status (statement->stmt, SQLITE_STMTSTATUS_REPREPARE, 0);

  if (statement->names == NULL || statement->n_prepared != n_prepared) /* C4 */
    {
      g_clear_pointer (&statement->names, belay_sqlite_names_unref);
      statement->names = belay_sqlite_names_new (statement->stmt);
      statement->n_prepared = n_prepared;
    }
  return statement->names;
}
