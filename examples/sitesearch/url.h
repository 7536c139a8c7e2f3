/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* URLs: references resolved and normalised, so that a page has one name. */
#pragma once

#include <glib.h>

/* What is crawled. The pages of a folder, which is served on a port that changes, are named by their paths alone. */
typedef struct
{
  char *origin;  /* scheme, host and port, with the slash that begins every path */
  gsize unnamed; /* how much of a URL its page's name leaves out: nothing, or all before the path */
} Site;

/* The name of the page at a normalised URL, which is a part of it; NULL: it is not of the site. And back. */
const char *site_get_name    (const Site *site, const char *url);
char       *site_get_address (const Site *site, const char *name);
void        site_set         (Site *site, const char *url, gboolean is_folder);
void        site_clear       (Site *site);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Site, site_clear)

/* What references are relative to: a normalised URL, and where its parts end. */
typedef struct
{
  char *text;
  gsize path;      /* where the path begins, with its slash */
  gsize directory; /* the last slash of the path */
  gsize query;     /* where the path ends */
} UrlBase;

/* No server takes longer ones, and a page that has them costs what its links and the base multiply to. */
#define URL_LONGEST 8192

/* Appends a reference without its fragment, white space around it, and tabs and line ends in it. */
void     url_clean      (const char *reference, GString *cleaned);
/*
 * Writes the absolute URL of a cleaned reference in place of what @url holds; FALSE: it is none of http or https, or
 * longer than URL_LONGEST.
 */
gboolean url_resolve    (const UrlBase *base, const char *reference, GString *url);
/* Both, for a reference that is absolute (no base) or comes alone. */
gboolean url_normalise  (const UrlBase *base, const char *reference, GString *url);

/* "user:password", decoded, of an absolute URL; NULL: it has none. A normalised URL has none. */
char    *url_get_credentials (const char *reference);

void     url_base_set   (UrlBase *base, const char *normalised);
void     url_base_clear (UrlBase *base);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (UrlBase, url_base_clear)
