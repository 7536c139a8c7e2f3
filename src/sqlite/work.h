/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is run on a connection: statements, scripts, functions of the program's. */
#pragma once

#include "connection.h"
#include "parameters.h"

/* What is wanted of a statement. */
typedef enum
{
  BELAY_SQLITE_WANT_CHANGES, /* how many rows it changed */
  BELAY_SQLITE_WANT_ROWS,
  BELAY_SQLITE_WANT_STRING,  /* the first value */
  BELAY_SQLITE_WANT_INT64
} SqliteWant;

/* (transfer full), with the parameters of @reader. NULL: no memory. */
SqliteOperation *belay_sqlite_statement_operation_new (SqliteLevel *level, SqliteWant want, const char *sql,
                                                       SqliteParameterReader *reader, GError **error);
SqliteOperation *belay_sqlite_script_operation_new    (SqliteLevel *level, const char *sql, GError **error);
SqliteOperation *belay_sqlite_function_operation_new  (SqliteLevel *level, BelaySqliteFunc func, gpointer data);
