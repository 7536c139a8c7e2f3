/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A page: what the crawl found at one URL. */
#pragma once

#include "url.h"

#include <gio/gio.h>

/* The error of a page that is not tried again. What its status was, and how large it is, is not known. */
#define PAGE_TOO_LARGE "larger than 16 MiB"

typedef struct
{
  const char *url;      /* its name on the site; borrowed */
  guint       status;   /* 0: none came */
  char       *title;    /* NULL: none */
  char       *text;     /* what is indexed; NULL: nothing, for the page is not HTML, or failed */
  guint       links;
  gsize       bytes;
  char        fetched_at[sizeof "2025-01-01T00:00:00Z"];
  char       *error;    /* NULL: none */
  GString    *leads_to; /* names of pages of the site, each ended by a NUL, some more than once; NULL: none */
  char       *via;      /* the redirects that lead there, separated by spaces; NULL: links do */
  GPtrArray  *found;    /* those names that were not known before; borrowed; NULL: none */
} Page;

Page *page_new  (const char *url);
void  page_free (Page *page);
/* Puts an error (transfer full) in the place of what the page holds. */
void  page_fail (Page *page, char *error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Page, page_free)

/* What page_parse() needs; @page is filled in. */
typedef struct
{
  Page       *page;
  GBytes     *html;
  const char *charset; /* NULL: the parser finds out */
  const char *address; /* the normalised URL that it was fetched from */
  const Site *site;    /* links that leave it are counted, but lead nowhere */
} PageJob;

/*
 * Takes title, text and links from HTML, or an error from one that takes too long to read. A job for a worker: a
 * #BelayFunc that stops early when nobody waits.
 */
gboolean page_parse (gpointer job, GError **error);

/* Takes white space off both ends of @text and makes one space of all other; changes @text and returns it. */
char    *collapse_space (char *text);
