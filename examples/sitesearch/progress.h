/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the user sees of a crawl, and the figures of its report. */
#pragma once

#include "page.h"

#include <json-glib/json-glib.h>

typedef struct
{
  gboolean   terminal;
  gint64     start;
  guint      pages, errors;
  guint64    bytes;
  JsonArray *failed; /* of { url, status, error } */
} Progress;

void     progress_begin  (Progress *progress);
void     progress_clear  (Progress *progress);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Progress, progress_clear)

/* Counts pages that have been stored. Into a pipe, a line for each. */
void     progress_stored (Progress *progress, const GPtrArray *pages);
/* On a terminal, writes one line over the last. */
void     progress_draw   (const Progress *progress, guint n_queued);
void     progress_erase  (const Progress *progress);
/* The last line. FALSE: not all of the output could be written. */
gboolean progress_done   (const Progress *progress, GError **error);

double   progress_get_seconds (const Progress *progress);
double   progress_get_rate    (const Progress *progress);
