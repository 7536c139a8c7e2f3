/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The crawl. */
#pragma once

#include <glib.h>

typedef struct
{
  const char *source; /* a URL, or a folder */
  const char *into;
  guint       concurrency;
  gint64      limit;   /* of pages; G_MAXINT64: none */
  gint64      timeout; /* of one page, in milliseconds */
  gboolean    fresh;
} CrawlOptions;

/* A #BelayFunc. */
gboolean crawl (gpointer options, GError **error);
