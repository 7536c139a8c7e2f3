/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* On a terminal one line that is rewritten in place, in a pipe one for each page, written a batch at a time. */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

void
progress_begin (Progress *progress)
{
  progress->terminal = isatty (STDOUT_FILENO);
  progress->start = g_get_monotonic_time ();
}

double
progress_get_seconds (const Progress *progress)
{
  return (g_get_monotonic_time () - progress->start) / 1e6;
}

double
progress_get_rate (const Progress *progress)
{
  return progress->pages / MAX (progress_get_seconds (progress), 1e-6);
}

void
progress_stored (Progress *progress, const GPtrArray *pages)
{
  for (guint i = 0; i < pages->len; i++)
    {
      const Page *page = g_ptr_array_index (pages, i);

      progress->pages++;
      progress->errors += page->error != NULL;
      if (!progress->terminal)
        printf ("%u\t%s\t%zu\t%u\t%s\n", page->status, page->url, page->bytes, page->links,
                page->error != NULL ? page->error : "");
    }
  fflush (stdout);
}

void
progress_draw (const Progress *progress, guint n_queued)
{
  guint left = progress->pages > 0 ? n_queued / progress_get_rate (progress) : 0;

  if (!progress->terminal)
    return;
  printf ("\r%u pages, %.0f/s, %u queued, %u errors, %u:%02u left\033[K", progress->pages, progress_get_rate (progress),
          n_queued, progress->errors, left / 60, left % 60);
  fflush (stdout);
}

void
progress_erase (const Progress *progress)
{
  if (progress->terminal)
    printf ("\r\033[K");
  fflush (stdout);
}

gboolean
progress_flush (GError **error)
{
  if (fflush (stdout) == 0 && !ferror (stdout))
    return TRUE;
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the output could not be written");
  return FALSE;
}

gboolean
progress_done (const Progress *progress, GError **error)
{
  progress_erase (progress);
  printf ("done: %u pages, %u errors, %.3f s, %.1f pages/s\n", progress->pages, progress->errors,
          progress_get_seconds (progress), progress_get_rate (progress));
  return progress_flush (error);
}

gboolean
progress_nothing (const Progress *progress, guint pages_in_all, GError **error)
{
  progress_erase (progress);
  printf ("nothing missing; %u %s; --fresh to renew\n", pages_in_all, pages_in_all == 1 ? "page" : "pages");
  return progress_flush (error);
}
