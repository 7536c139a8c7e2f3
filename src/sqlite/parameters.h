/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The values for the `?` of a statement, taken out of a GVariant. */
#pragma once

#include <belay/belay-sqlite.h>

/* One value, as sqlite3_bind_* wants it. */
typedef struct
{
  int       type;   /* SQLITE_INTEGER, _FLOAT, _TEXT, _BLOB or _NULL */
  gsize     length; /* of a text or blob, in bytes */
  union
  {
    gint64      integer;
    double      real;
    const char *bytes; /* ends with a 0 that does not count */
  } value;
  GVariant *holder; /* what @bytes lies in; NULL when they lie beside the parameter */
} SqliteParameter;

#define BELAY_SQLITE_FEW_PARAMETERS 8

/* Parameters on their way from a GVariant into an operation. */
typedef struct
{
  GVariant        *tuple; /* kept until the bytes are copied */
  guint            n;
  gsize            n_bytes; /* that must be copied, with their 0s */
  SqliteParameter *all;
  SqliteParameter  few[BELAY_SQLITE_FEW_PARAMETERS];
} SqliteParameterReader;

/* Reads @tuple (nullable; a floating one is consumed). FALSE, with an error, when it cannot be. Clear it either way. */
gboolean belay_sqlite_parameters_read  (SqliteParameterReader *reader, GVariant *tuple, GError **error);
/* Moves them to @to, an array of reader->n, and the bytes to @bytes, room for reader->n_bytes. */
void     belay_sqlite_parameters_move  (SqliteParameterReader *reader, SqliteParameter *to, char *bytes);
void     belay_sqlite_parameters_clear (SqliteParameterReader *reader);

/* Frees what the parameters of an operation hold. */
void     belay_sqlite_parameters_free  (SqliteParameter *parameters, guint n);

/* Binds all. The bytes are not copied: they must live until the statement is reset and its bindings are cleared. */
int      belay_sqlite_parameters_bind  (const SqliteParameter *parameters, guint n, sqlite3_stmt *stmt);
