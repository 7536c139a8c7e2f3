/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Deadlocks: nothing can ever happen any more, and the test has not ended.
 *
 * The main context's poll function knows best: it is called when nothing is ready, and is told how long to wait and for
 * which descriptors. When that is for ever, for none but those that wake the main context, while no timer is armed, no job
 * under way and no external work declared, only another thread that nobody has declared could still come. It is given
 * GRACE of the real time. With other contexts than the main one, loops say, nothing can be told, and one waits.
 */
#include "test/test-private.h"

#define GRACE      3000 /* ms */
#define OWN_FDS    3    /* GLib's and Belay's own, to wake the main context, and the signals' */

static void
count_context (BelayContext *context, gpointer data)
{
  ++*(guint *) data;
}

static gboolean
is_stuck (BelayContext *context)
{
  guint n_contexts = 0;

  belay_contexts_foreach (count_context, &n_contexts);
  return n_contexts == 1 && !belay_context_has_items (context) && context->n_timers == 0 &&
         !belay_context_has_jobs (context) && !belay_clock_is_held ();
}

static void
collect (BelayFiber *fiber, gpointer data)
{
  g_ptr_array_add (data, belay_fiber_describe (fiber));
}

static int
compare_lines (gconstpointer a, gconstpointer b)
{
  return g_strcmp0 (*(const char *const *) a, *(const char *const *) b);
}

static void
report (BelayContext *context)
{
  g_autoptr (GPtrArray) lines = g_ptr_array_new_with_free_func (g_free);
  g_autofree char *text = NULL;

  belay_census_foreach_waiting (context, collect, lines);
  if (lines->len == 0)
    return; /* a main loop that no fiber needs: whoever runs it knows */
  g_ptr_array_sort (lines, compare_lines);
  g_ptr_array_add (lines, NULL);
  text = g_strjoinv ("\n  ", (char **) lines->pdata);
  belay_test_fail_at (NULL, "deadlock: nothing is ready, and no timer is armed\n  %s\n"
                      "(if another thread is to end this, say so before with belay_external_begin())", text);
}

static int
poll_or_report (GPollFD *fds, guint n_fds, int timeout)
{
  BelayContext *context = belay_context_get_for_main (NULL);
  int n_ready;

  if (timeout >= 0 || n_fds > OWN_FDS || !is_stuck (context))
    return g_poll (fds, n_fds, timeout);
  n_ready = g_poll (fds, n_fds, GRACE);
  if (n_ready == 0 && is_stuck (context))
    report (context);
  return n_ready;
}

void
belay_test_watch (gboolean on)
{
  g_main_context_set_poll_func (NULL, on ? poll_or_report : NULL);
}
