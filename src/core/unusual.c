/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is not as usual: one word that is zero in most programs, and that the hot paths look at once for all of it.
 *
 * FORKED. After fork() the child has one thread, a copy of the parent's memory, and descriptors that it shares with it.
 * Whatever of the library's is alive there belongs to the parent: a close in the child would end the parent's
 * transactions, delete its files, say goodbye on its connections. So in the child nothing of it runs: guards and scheduled
 * releases do nothing, no fiber is resumed, awaits fail, and nothing new is begun. What may follow is exec() or _exit().
 * The handler that marks the child does no more than that, since between fork() and exec() little else is safe.
 *
 * LEAKS. What is held is written down: see scope/leaks.c. STRICT. What leaves something behind ends the process.
 *
 * Invariants
 *   1. FORKED is set by the only thread that the process then has. It is never unset.
 *   2. The thread that forked is in no fiber in the child, and in no dispatch: its part of the thread's state is new.
 */
#include "core/future-private.h"

#include <pthread.h>
#include <unistd.h>

guint belay_unusual;

static void
after_fork (void)
{
  belay_unusual |= BELAY_UNUSUAL_FORKED;
  belay_thread = (BelayThread) { .current = &belay_no_fiber };
}

void
belay_unusual_init (void)
{
  static gsize done;

  if (g_once_init_enter (&done))
    {
      pthread_atfork (NULL, NULL, after_fork);
      g_once_init_leave (&done, 1);
    }
}

gboolean
belay_fail_forked (const char *what, GError **error)
{
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_FORKED, "%s: this process was forked from one that uses Belay, whose fibers "
               "and resources are not its own: only exec() or _exit() may follow", what);
  return FALSE;
}

void
belay_end_forked (const char *what)
{
  char text[256];
  int n = g_snprintf (text, sizeof text, "belay: %s has returned in a forked child, which must call exec() or _exit() "
                      "instead\n", what);

  if (write (STDERR_FILENO, text, MIN ((gsize) n, sizeof text - 1)) < 0)
    n = 0; /* there is nobody to tell */
  _exit (70); /* EX_SOFTWARE */
}

gboolean
belay_is_forked (void)
{
  return belay_forked ();
}

void
belay_strict_end (const char *what)
{
  if (G_UNLIKELY ((belay_unusual & BELAY_UNUSUAL_STRICT) != 0))
    g_error ("belay: strict: %s", what);
}
