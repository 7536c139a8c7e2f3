/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The database: the pages, their full text, and what is still to be fetched. */
#pragma once

#include "page.h"

#include <belay/belay-sqlite.h>
#include <json-glib/json-glib.h>

/* How many pages go into one transaction, at most. */
#define STORE_BATCH 256

/* What an index holds. */
typedef struct
{
  guint      pages;
  guint64    bytes;
  JsonArray *failed; /* of { url, status, error } */
} StoreTotal;

void store_total_clear (StoreTotal *total);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (StoreTotal, store_total_clear)

/* Held by the one crawl that writes an index, from before it opens the database until after it closed it; -1: none. */
typedef int StoreLock;

StoreLock        store_lock    (const char *path, GError **error);
void             store_unlock  (StoreLock lock);
G_DEFINE_AUTO_CLEANUP_FREE_FUNC (StoreLock, store_unlock, -1)

/*
 * Opens the index of @source at @path, or makes one that has only @start to fetch; @fresh drops what was there.
 * Returns a connection, for a guard.
 */
BelaySqlite     *store_open    (const char *path, const char *source, const char *start, gboolean fresh,
                                GError **error);

/* FALSE: the database is not one of ours; an empty one is everybody's. */
gboolean         store_check   (BelaySqlite *db, const char *path, gboolean may_be_empty, GError **error);

gboolean         store_total   (BelaySqlite *db, StoreTotal *total, GError **error);

/* What an earlier run left to be fetched: a column of URLs, and one of the redirects that led to them, or NULL. */
BelaySqliteRows *store_missing (BelaySqlite *db, GError **error);
/* A column of the URLs that it has. */
BelaySqliteRows *store_known   (BelaySqlite *db, GError **error);

/* Stores an array of #Page, and what they lead to, in one transaction. */
gboolean         store_pages   (BelaySqlite *db, GPtrArray *pages, GError **error);
/* Closes the connection; all is in the one file then, which can be read where nothing can be written. */
gboolean         store_close   (BelaySqlite **db, GError **error);
