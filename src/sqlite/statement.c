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
 *      That is found out without preparing any of them, since a PRAGMA may take effect by that (C5).
 *  C4  SQLite prepares a statement again by itself when the schema has changed; `SELECT *` may then have other columns.
 *      Their names are made again when its counter says so.
 *  C5  A PRAGMA may take effect while it is prepared, and may refuse to within a transaction; so it is prepared each time
 *      that it is run, and after the caller was told that it is no SELECT. The same goes for whatever is not known better.
 *  C6  Each result takes a reference to the names, and another thread drops it. So that the count does not travel between
 *      processors each time, STOCK references are taken at once, and given away one by one.
 */
#include "statement.h"

#include "sqlite-error.h"

#include <string.h>

#define STOCK      256
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
drop_names (SqliteStatement *statement)
{
  if (statement->names != NULL)
    belay_sqlite_names_unref (statement->names, statement->n_names + 1);
  statement->names = NULL;
  statement->n_names = 0;
}

static void
free_statement (SqliteStatement *statement)
{
  sqlite3_finalize (statement->stmt);
  drop_names (statement);
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
  g_clear_pointer (&cache->loose, free_statement);
}

/* What its first word says of a statement; blanks and comments before it are skipped. */
typedef enum
{
  WORD_OTHER,
  WORD_KEEP,  /* it can be run again as it was prepared: C5 */
  WORD_SELECT /* that, and if it changes nothing it is a plain query */
} Word;

/* Behind a string, a quoted name, a comment or one byte of anything else; what has no end ends with the text. */
static const char *
skip_token (const char *sql)
{
  const char *end = NULL;

  if (sql[0] == '-' && sql[1] == '-')
    end = strchr (sql, '\n');
  else if (sql[0] == '/' && sql[1] == '*')
    end = (end = strstr (sql + 2, "*/")) != NULL ? end + 1 : NULL;
  else if (*sql == '\'' || *sql == '"' || *sql == '`')
    end = strchr (sql + 1, *sql); /* a doubled one ends a string and begins the next, which comes to the same */
  else if (*sql == '[')
    end = strchr (sql, ']');
  else
    end = sql;
  return end != NULL ? end + 1 : sql + strlen (sql);
}

/* Behind what does nothing: blanks, comments, empty statements. */
static const char *
skip_nothing (const char *sql)
{
  for (;;)
    {
      if (g_ascii_isspace (*sql) || *sql == ';')
        sql++;
      else if ((sql[0] == '-' && sql[1] == '-') || (sql[0] == '/' && sql[1] == '*'))
        sql = skip_token (sql);
      else if (strncmp (sql, "\xef\xbb\xbf", 3) == 0) /* a byte order mark */
        sql += 3;
      else
        return sql;
    }
}

/* When @sql begins with that word, behind it and what follows of blanks and comments; else NULL. */
static const char *
skip_word (const char *sql, const char *word)
{
  gsize length = strlen (word);

  if (g_ascii_strncasecmp (sql, word, length) != 0 || g_ascii_isalnum (sql[length]) || sql[length] == '_')
    return NULL;
  return skip_nothing (sql + length);
}

/*
 * Whether it is more than one statement. The first semicolon ends the first one, but within a CREATE, which may be that
 * of a trigger: of that SQLite says where it ends, since it does nothing by being prepared.
 */
static gboolean
is_several (const char *sql)
{
  static const char *const before[] = { "EXPLAIN", "QUERY", "PLAN" };
  const char *start = skip_nothing (sql);

  for (guint i = 0; i < G_N_ELEMENTS (before); i++)
    {
      const char *behind = skip_word (start, before[i]);

      start = behind != NULL ? behind : start;
    }
  if (skip_word (start, "CREATE") != NULL)
    return FALSE;
  while (*start != '\0' && *start != ';')
    start = skip_token (start);
  return *skip_nothing (start) != '\0';
}

static Word
first_word (const char *sql)
{
  static const struct
  {
    const char *text;
    Word        word;
  } words[] = {
    { "SELECT", WORD_SELECT }, { "INSERT", WORD_KEEP },    { "UPDATE", WORD_KEEP },  { "DELETE", WORD_KEEP },
    { "WITH", WORD_SELECT },   { "REPLACE", WORD_KEEP },   { "VALUES", WORD_SELECT }, { "SAVEPOINT", WORD_KEEP },
    { "RELEASE", WORD_KEEP },  { "ROLLBACK", WORD_KEEP },
  };

  sql = skip_nothing (sql);
  for (guint i = 0; i < G_N_ELEMENTS (words); i++)
    if (g_ascii_strncasecmp (sql, words[i].text, strlen (words[i].text)) == 0)
      return words[i].word;
  return WORD_OTHER;
}

static SqliteStatement *
prepare (sqlite3 *handle, const char *sql, gsize length, guint32 hash, Word word, int *ret_code, GError **error)
{
  SqliteStatement *statement;
  sqlite3_stmt *stmt = NULL;
  const char *rest = NULL;
  gboolean several = is_several (sql);

  if (!several)
    *ret_code = sqlite3_prepare_v3 (handle, sql, -1, word != WORD_OTHER ? SQLITE_PREPARE_PERSISTENT : 0, &stmt, &rest);
  if (*ret_code != SQLITE_OK)
    return NULL;
  if (!several && stmt == NULL)
    {
      g_propagate_error (error, belay_sqlite_error_make (SQLITE_MISUSE, "there is no statement in it", NULL, sql));
      return NULL;
    }
  if (several || *skip_nothing (rest) != '\0')
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
  statement->is_select = statement->read_only && word == WORD_SELECT;
  memcpy (statement->sql, sql, length + 1);
  return statement;
}

SqliteStatement *
belay_sqlite_cache_find (SqliteCache *cache, const char *sql, gsize length, guint32 hash)
{
  for (SqliteStatement *statement = cache->slots[hash % BELAY_SQLITE_CACHE_SLOTS]; statement != NULL;
       statement = statement->next_same)
    {
      if (statement->hash != hash || statement->length != length || memcmp (statement->sql, sql, length) != 0)
        continue;
      if (statement != cache->first)
        {
          list_remove (cache, statement);
          list_prepend (cache, statement);
        }
      return statement;
    }
  return NULL;
}

gboolean
belay_sqlite_looks_like_select (const char *sql)
{
  return first_word (sql) == WORD_SELECT;
}

SqliteStatement *
belay_sqlite_cache_add (SqliteCache *cache, sqlite3 *handle, const char *sql, gsize length, guint32 hash, int *ret_code,
                        GError **error)
{
  SqliteStatement **slot = &cache->slots[hash % BELAY_SQLITE_CACHE_SLOTS];
  Word word = first_word (sql);
  SqliteStatement *statement = prepare (handle, sql, length, hash, word, ret_code, error);

  if (statement == NULL)
    return NULL;
  if (word == WORD_OTHER)
    {
      g_clear_pointer (&cache->loose, free_statement);
      return cache->loose = statement;
    }
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
      drop_names (statement);
      statement->names = belay_sqlite_names_new (statement->stmt);
      statement->n_prepared = n_prepared;
    }
  return statement->names;
}

SqliteNames *
belay_sqlite_statement_ref_names (SqliteStatement *statement)
{
  if (statement->n_names == 0)
    {
      belay_sqlite_names_ref (statement->names, STOCK);
      statement->n_names = STOCK;
    }
  statement->n_names--;
  return statement->names;
}
