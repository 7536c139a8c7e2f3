/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the user sees of a crawl, and how fast it is. */
#pragma once

#include "page.h"

typedef struct
{
  gboolean terminal;
  gint64   start;
  guint    pages, errors; /* of this run */
} Progress;

void     progress_begin  (Progress *progress);

/* Counts pages that have been stored. Into a pipe, a line for each. */
void     progress_stored (Progress *progress, const GPtrArray *pages);
/* On a terminal, writes one line over the last. */
void     progress_draw   (const Progress *progress, guint n_queued);
void     progress_erase  (const Progress *progress);
/* The last line of a run that found something to do, or nothing. FALSE: not all of the output could be written. */
gboolean progress_done    (const Progress *progress, GError **error);
gboolean progress_nothing (const Progress *progress, guint pages_in_all, GError **error);
/* FALSE: not all that was printed could be written. */
gboolean progress_flush   (GError **error);

double   progress_get_seconds (const Progress *progress);
double   progress_get_rate    (const Progress *progress);
