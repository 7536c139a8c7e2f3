/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The pump: the job on a worker that serves a connection's queue. */
#pragma once

#include "connection.h"

/* Under the lock: TRUE when the caller must start the pump, with *ret_number, after it has given up the lock. */
gboolean belay_sqlite_pump_is_due (SqliteConnection *connection, guint *ret_number);
/* Starts it; under no lock. */
void     belay_sqlite_pump_start  (SqliteConnection *connection, guint number);

/* For sqlite3_progress_handler(), while the connection is open. */
int      belay_sqlite_pump_progress (gpointer connection);
/* For sqlite3_busy_handler(): sleeps on the worker, for functions of the program's, which cannot be run again. */
int      belay_sqlite_pump_sleep    (gpointer connection, int n_calls);
