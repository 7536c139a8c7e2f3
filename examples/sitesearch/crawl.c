/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The crawl: as many fibers as pages may be fetched at once take URLs from a queue, and hand the pages to one more that
 * stores them. All are in one scope, so if one fails (a page that cannot be had is no failure) the others are cancelled
 * and joined, and Ctrl-C does the same. They share plain variables without a lock, since a fiber gives way only where
 * it waits.
 *
 * 1. `seen` holds the name of every page that is known, and owns it for all others.
 * 2. A page comes before those it led to: into `ready`, and so into the database.
 * 3. Whoever changes what another waits for rings the bell.
 */
#include "crawl.h"
#include "fetch.h"
#include "progress.h"
#include "report.h"
#include "serve.h"
#include "store.h"

#include <string.h>

/* How many pages may wait to be stored, and how many bytes of them. */
#define MOST_READY       (4 * STORE_BATCH)
#define MOST_READY_BYTES (4 * FETCH_LARGEST)

typedef struct
{
  const CrawlOptions *options;
  Fetch               fetch;
  BelaySqlite        *db;
  Progress            progress;
  GHashTable         *seen;        /* (1) */
  GHashTable         *redirects;   /* name → the redirects that led to it */
  GQueue              queue;       /* names of pages to fetch */
  GQueue              ready;       /* Pages to store (2) */
  gsize               ready_bytes;
  guint               n_fetchers;  /* that have not ended */
  guint               n_fetching;
  gint64              n_left;      /* before the limit is reached */
  BelayPromise       *bell;        /* (3) NULL while nobody waits */
  const char         *start;       /* where it all begins */
  char               *start_error; /* why it could not be had at all */
} Crawl;

/* --- the bell --- */

static void
ring (Crawl *self)
{
  g_autoptr (BelayPromise) bell = g_steal_pointer (&self->bell);

  if (bell != NULL)
    belay_promise_resolve (bell);
}

static gboolean
wait_for_bell (Crawl *self, GError **error)
{
  if (self->bell == NULL)
    self->bell = belay_promise_new ();
  return belay_await_ok (belay_promise_get_future (self->bell), error);
}

/* --- the fibers --- */

static gboolean
must_wait (const Crawl *self)
{
  return self->ready.length >= MOST_READY || self->ready_bytes >= MOST_READY_BYTES ||
         (self->n_left > 0 && self->queue.length == 0 && self->n_fetching > 0);
}

/* TRUE with NULL in @name: there is no more. */
static gboolean
next_url (Crawl *self, const char **name, GError **error)
{
  while (must_wait (self))
    if (!wait_for_bell (self, error))
      return FALSE;

  *name = self->n_left > 0 ? g_queue_pop_head (&self->queue) : NULL;
  if (*name != NULL)
    {
      self->n_left--;
      self->n_fetching++;
    }
  return TRUE;
}

/* Queues those pages that @page leads to and nothing else has led to before. */
static void
queue_found (Crawl *self, Page *page)
{
  const char *end = page->leads_to->str + page->leads_to->len;

  page->found = g_ptr_array_new ();
  for (const char *name = page->leads_to->str; name < end; name += strlen (name) + 1)
    if (!g_hash_table_contains (self->seen, name))
      {
        char *copy = g_strdup (name);

        g_hash_table_add (self->seen, copy);
        if (page->via != NULL)
          g_hash_table_insert (self->redirects, copy, g_strdup (page->via));
        g_ptr_array_add (page->found, copy);
        g_queue_push_tail (&self->queue, copy);
      }
}

static gboolean
fetch_all (gpointer data, GError **error)
{
  Crawl *self = data;

  for (;;)
    {
      const char *name;
      Page *page;

      if (!next_url (self, &name, error))
        return FALSE;
      if (name == NULL)
        break;
      page = fetch_page (&self->fetch, name, g_hash_table_lookup (self->redirects, name), error);
      if (page == NULL)
        return FALSE;

      self->n_fetching--;
      if (page->leads_to != NULL)
        queue_found (self, page);
      g_queue_push_tail (&self->ready, page);
      self->ready_bytes += page->bytes;
      ring (self);
    }
  self->n_fetchers--;
  ring (self);
  return TRUE;
}

/* A page among many that cannot be reached is noted; that the first one cannot is a failure of the whole. */
static void
note_start (Crawl *self, const Page *page)
{
  if (page->status == 0 && g_str_equal (page->url, self->start))
    self->start_error = g_strdup (page->error);
}

static gboolean
store_all (gpointer data, GError **error)
{
  Crawl *self = data;
  g_autoptr (GPtrArray) batch = g_ptr_array_new_with_free_func ((GDestroyNotify) page_free);

  for (;;)
    {
      while (self->ready.length == 0 && self->n_fetchers > 0)
        if (!wait_for_bell (self, error))
          return FALSE;
      while (self->ready.length > 0 && batch->len < STORE_BATCH)
        {
          Page *page = g_queue_pop_head (&self->ready);

          self->ready_bytes -= page->bytes;
          g_ptr_array_add (batch, page);
        }
      if (batch->len == 0)
        return TRUE;

      if (!store_pages (self->db, batch, error))
        return FALSE;
      for (guint i = 0; i < batch->len; i++)
        note_start (self, g_ptr_array_index (batch, i));
      progress_stored (&self->progress, batch);
      g_ptr_array_set_size (batch, 0);
      ring (self);
    }
}

static gboolean
show_progress (gpointer data, GError **error)
{
  Crawl *self = data;

  while (belay_sleep (100, error))
    progress_draw (&self->progress, self->queue.length);
  return FALSE;
}

static gboolean
run (Crawl *self, GError **error)
{
  belay_auto (BelayScope) display = belay_scope_begin (); /* left when the rest is over, which ends it */
  belay_auto (BelayScope) work = belay_scope_begin ();

  if (self->progress.terminal)
    belay_scope_spawn (display, show_progress, self, NULL);
  belay_scope_spawn (work, store_all, self, NULL);
  for (self->n_fetchers = 0; self->n_fetchers < self->options->concurrency; self->n_fetchers++)
    belay_scope_spawn (work, fetch_all, self, NULL);
  return belay_scope_close (&work, error);
}

/* --- the whole --- */

/* Takes up what an earlier run left, or the page to start with. */
static gboolean
resume (Crawl *self, GError **error)
{
  g_autoptr (BelaySqliteRows) missing = store_missing (self->db, error);
  g_autoptr (BelaySqliteRows) known = missing ? store_known (self->db, error) : NULL;

  if (known == NULL)
    return FALSE;
  for (guint i = 0; i < belay_sqlite_rows_get_n_rows (missing); i++)
    {
      char *name = g_strdup (belay_sqlite_rows_get_string (missing, i, 0));
      const char *via = belay_sqlite_rows_get_string (missing, i, 1);

      g_hash_table_add (self->seen, name);
      g_queue_push_tail (&self->queue, name);
      if (via != NULL)
        g_hash_table_insert (self->redirects, name, g_strdup (via));
    }
  for (guint i = 0; i < belay_sqlite_rows_get_n_rows (known); i++)
    {
      const char *name = belay_sqlite_rows_get_string (known, i, 0);

      if (!g_hash_table_contains (self->seen, name))
        g_hash_table_add (self->seen, g_strdup (name));
    }
  return TRUE;
}

static void
crawl_clear (Crawl *self)
{
  g_queue_clear (&self->queue);
  g_queue_clear_full (&self->ready, (GDestroyNotify) page_free);
  g_clear_pointer (&self->redirects, g_hash_table_unref);
  g_clear_pointer (&self->seen, g_hash_table_unref);
  g_clear_pointer (&self->bell, belay_promise_unref);
  g_free (self->start_error);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Crawl, crawl_clear)

static BelayHttpSession *
session_new (const CrawlOptions *options)
{
  BelayHttpSession *session = belay_http_session_new ();
  g_autofree char *credentials = strstr (options->source, "://") ? url_get_credentials (options->source) : NULL;

  /* They go to one origin, for nothing else is asked through this session and it follows no redirects. */
  if (credentials != NULL)
    {
      g_autofree char *encoded = g_base64_encode ((const guchar *) credentials, strlen (credentials));
      g_autofree char *basic = g_strconcat ("Basic ", encoded, NULL);
      belay_http_session_set_header (session, "Authorization", basic);
    }

  belay_http_session_set_header (session, "User-Agent", "sitesearch/1.0");
  belay_http_session_set_max_redirects (session, 0);
  belay_http_session_set_max_body_size (session, FETCH_LARGEST);
  belay_http_session_set_max_connections (session, options->concurrency, options->concurrency);
  return session;
}

static gboolean
check_start (const Crawl *self, GError **error)
{
  if (self->start_error == NULL)
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s: %s", self->start, self->start_error);
  return FALSE;
}

/* @source is what is crawled, as its user says it; @start the normalised URL of the page to start with. */
static gboolean
crawl_site (const CrawlOptions *options, const char *source, const char *start, gboolean is_folder, GError **error)
{
  g_autofree char *report = g_strconcat (options->into, ".report.json", NULL);
  g_auto (Site) site = { 0 };
  site_set (&site, start, is_folder);
  g_auto (StoreTotal) total = { 0 };

  g_auto (StoreLock) lock = store_lock (options->into, error); /* until the database is closed */
  if (lock < 0)
    return FALSE;
  belay_auto (BelaySqlite) db = store_open (options->into, source, site_get_name (&site, start), options->fresh, error);
  if (db == NULL)
    return FALSE;
  belay_auto (BelayHttpSession) session = session_new (options);

  g_auto (Crawl) self = { .options = options, .db = db, .fetch = { session, &site, options->timeout },
                          .n_left = options->limit, .start = site_get_name (&site, start) };
  self.seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  self.redirects = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, g_free);
  progress_begin (&self.progress);

  if (!resume (&self, error))
    return FALSE;
  gboolean nothing = self.queue.length == 0;
  gboolean ok = run (&self, error);
  progress_erase (&self.progress);
  return ok &&
         store_total (db, &total, error) &&
         store_close (&db, error) &&
         report_write (report, source, &total, &self.progress, error) &&
         (nothing ? progress_nothing (&self.progress, total.pages, error) : progress_done (&self.progress, error)) &&
         check_start (&self, error);
}

static gboolean
crawl_url (const CrawlOptions *options, GError **error)
{
  g_autoptr (GString) url = g_string_new (NULL);

  if (url_normalise (NULL, options->source, url))
    return crawl_site (options, url->str, url->str, FALSE, error);
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, "%s: not a URL of http or https", options->source);
  return FALSE;
}

static gboolean
crawl_folder (const CrawlOptions *options, GError **error)
{
  g_autofree char *folder = g_canonicalize_filename (options->source, NULL);
  g_autofree char *source = g_filename_display_name (folder);

  if (!g_file_test (folder, G_FILE_TEST_IS_DIR))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "%s: no such folder", options->source);
      return FALSE;
    }
  belay_auto (BelayManager) server = belay_await (belay_manager_open (serve_folder, folder), error);
  return server != NULL &&
         crawl_site (options, source, belay_manager_get_value (server), TRUE, error) &&
         belay_close (&server, error);
}

gboolean
crawl (gpointer data, GError **error)
{
  const CrawlOptions *options = data;

  return strstr (options->source, "://") ? crawl_url (options, error) : crawl_folder (options, error);
}
