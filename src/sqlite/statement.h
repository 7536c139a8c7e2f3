/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Prepared statements, kept for the next time. */
#pragma once

#include "rows.h"

typedef struct _SqliteStatement SqliteStatement;

struct _SqliteStatement
{
  SqliteStatement *next_used, *previous_used; /* the cache's list, the last used first */
  SqliteStatement *next_same;                 /* in the same slot of the cache's table */
  sqlite3_stmt    *stmt;
  guint32          hash;
  guint            length;       /* of @sql */
  guint            n_parameters;
  gboolean         read_only;    /* it changes nothing in the database */
  gboolean         is_select;    /* read_only, and its text says so, too: it may share a read transaction */
  int              n_prepared;   /* how often SQLite had prepared it again when @names was made */
  SqliteNames     *names;        /* of the columns; NULL until asked for */
  guint            n_names;      /* references to them that are ours to give away: C6 */
  char             sql[];
};

#define BELAY_SQLITE_CACHE_SLOTS 128

typedef struct
{
  SqliteStatement *first, *last;
  guint            n;
  gsize            n_bytes; /* of their texts */
  SqliteStatement *loose;   /* the last one that is not kept */
  SqliteStatement *slots[BELAY_SQLITE_CACHE_SLOTS];
} SqliteCache;

guint32          belay_sqlite_hash           (const char *sql, gsize length);

/* The statement of that text, if it is kept; reset, and without bindings. */
SqliteStatement *belay_sqlite_cache_find      (SqliteCache *cache, const char *sql, gsize length, guint32 hash);
/* Whether it may be run, and prepared, while SELECTs share a transaction. */
gboolean         belay_sqlite_looks_like_select (const char *sql);
/* Prepares one that was not found. NULL with SQLite's code, and an error where it is not SQLite's (then the code is
 * SQLITE_OK). Valid until the next call. */
SqliteStatement *belay_sqlite_cache_add       (SqliteCache *cache, sqlite3 *handle, const char *sql, gsize length,
                                               guint32 hash, int *ret_code, GError **error);
/* Finalizes all. */
void             belay_sqlite_cache_clear    (SqliteCache *cache);

/* The names of its columns (borrowed), as they are since its last step. */
SqliteNames     *belay_sqlite_statement_names     (SqliteStatement *statement);
/* A reference to them. */
SqliteNames     *belay_sqlite_statement_ref_names (SqliteStatement *statement);
