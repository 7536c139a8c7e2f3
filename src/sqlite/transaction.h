/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Transactions, savepoints, and what keeps them apart. Everything here runs on the pump. */
#pragma once

#include "connection.h"

/* Operations for belay_sqlite_level_submit(). */
SqliteOperation *belay_sqlite_begin_operation_new  (SqliteLevel *level);
SqliteOperation *belay_sqlite_commit_operation_new (SqliteLevel *level);
/* Without a promise where nobody asks. */
SqliteOperation *belay_sqlite_end_operation_new    (SqliteLevel *level, gboolean promise);
/* The first one of a connection. @setup is copied. */
SqliteOperation *belay_sqlite_open_operation_new   (SqliteLevel *level, int flags, const char *setup);

/* Readies SQLite for @op, a SELECT: in the implicit read transaction, if it may share it and where that pays. SQLite's code. */
int      belay_sqlite_share_select    (SqliteConnection *connection, SqliteOperation *op);
/* Ends it, if it is open. */
void     belay_sqlite_share_end       (SqliteConnection *connection);

/* Looks at what an operation has left behind, after its outcome is known. */
void     belay_sqlite_after_operation (SqliteConnection *connection, SqliteOperation *op);

/* FALSE, and the operation has failed, when its transaction is lost. */
gboolean belay_sqlite_level_usable    (SqliteConnection *connection, SqliteOperation *op);

/* --- opening.c --- */

/* Runs statements up to the end of @sql, from *position on. SQLITE_OK; else *position is where it can go on. */
SqliteOutcome belay_sqlite_run_script (SqliteConnection *connection, SqliteOperation *op, const char *sql, gsize *position);
/* Lets SQLite ask whether the running operation is to end. */
void          belay_sqlite_watch_for_stop (SqliteConnection *connection);
/* Finalizes everything and closes SQLite's handle, if it is open. */
void          belay_sqlite_connection_shut (SqliteConnection *connection);

/* --- belay-sqlite.c --- */

/* (transfer full) */
BelaySqlite *belay_sqlite_handle_new (SqliteLevel *level);
