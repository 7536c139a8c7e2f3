/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What SQLite says, as a GError. */
#pragma once

#include <belay/belay-sqlite.h>

/* The code that an operation waits and tries again for: somebody else has the lock, and will give it back. */
gboolean belay_sqlite_code_is_busy (int code);

/* (transfer full); @path and @sql are nullable. @detail is SQLite's message; NULL: the usual one for @code. */
GError *belay_sqlite_error_make (int code, const char *detail, const char *path, const char *sql);

/* The same for the last call on @handle, which returned @code. */
GError *belay_sqlite_error_last (sqlite3 *handle, int code, const char *path, const char *sql);
