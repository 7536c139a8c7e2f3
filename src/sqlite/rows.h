/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rows of a query, packed; and the packer that makes them. */
#pragma once

#include "refs.h"

#include <belay/belay-sqlite.h>

/* The names of a statement's columns, shared by all its results. */
typedef struct
{
  atomic_int refs;
  guint           n;
  const char     *names[];
} SqliteNames;

SqliteNames *belay_sqlite_names_new   (sqlite3_stmt *stmt);
void         belay_sqlite_names_ref   (SqliteNames *names, guint n);
void         belay_sqlite_names_unref (SqliteNames *names, guint n);

/* Belongs to a connection, and is used for one result after another. Clear it before the first. */
typedef struct
{
  guint8  *block;     /* room for the head of a result, then packed rows */
  gsize    used, size;
  guint32 *offsets;   /* of each row in @block */
  guint    n_rows, n_offsets;
} SqlitePacker;

/* Begins a result. FALSE: no memory. */
gboolean         belay_sqlite_packer_begin  (SqlitePacker *packer);
/* Adds the row that @stmt stands on. SQLITE_OK, _NOMEM or _TOOBIG. */
int              belay_sqlite_packer_add    (SqlitePacker *packer, sqlite3_stmt *stmt, guint n_columns);
/* Ends it (transfer full), and consumes the reference to @names unless there is no memory: then it is NULL. */
BelaySqliteRows *belay_sqlite_packer_finish (SqlitePacker *packer, SqliteNames *names);
void             belay_sqlite_packer_clear  (SqlitePacker *packer);
