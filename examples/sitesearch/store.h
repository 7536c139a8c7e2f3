/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The database: the pages, their full text, and what is still to be fetched. */
#pragma once

#include "page.h"

#include <belay/belay-sqlite.h>

/* How many pages go into one transaction, at most. */
#define STORE_BATCH 64

/*
 * Opens the index of @source at @path, or makes one that has only @start to fetch; @fresh drops what was there.
 * Returns a connection, for a guard.
 */
BelaySqlite     *store_open    (const char *path, const char *source, const char *start, gboolean fresh,
                                GError **error);

/* What an earlier run left to be fetched: a column of URLs, and one of the redirects that led to them, or NULL. */
BelaySqliteRows *store_missing (BelaySqlite *db, GError **error);
/* A column of the URLs that it has. */
BelaySqliteRows *store_known   (BelaySqlite *db, GError **error);

/* Stores an array of #Page, and what they lead to, in one transaction. */
gboolean         store_pages   (BelaySqlite *db, GPtrArray *pages, GError **error);
/* Closes the connection; all is in the one file then. */
gboolean         store_close   (BelaySqlite **db, GError **error);
