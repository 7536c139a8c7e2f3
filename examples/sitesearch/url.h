/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* URLs: references resolved and normalised, so that a page has one name. */
#pragma once

#include <glib.h>

/* What references are relative to: a normalised URL, and where its parts end. */
typedef struct
{
  char *text;
  gsize path;      /* where the path begins, with its slash */
  gsize directory; /* the last slash of the path */
  gsize query;     /* where the path ends */
} UrlBase;

/* Write an absolute http or https URL without a fragment in place of what @url holds; FALSE: the reference is none. */
gboolean url_resolve   (const UrlBase *base, const char *reference, GString *url);
gboolean url_normalise (const char *absolute, GString *url);

void     url_base_set   (UrlBase *base, const char *normalised);
void     url_base_clear (UrlBase *base);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (UrlBase, url_base_clear)

/* The scheme, host and port of a normalised URL, up to and with the slash that begins its path. */
char    *url_get_origin (const char *normalised);
