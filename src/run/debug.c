/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * BELAY_DEBUG: words separated by commas, read once, before the first context is made.
 *
 *   virtual-clock   sleeps and deadlines go by a clock that jumps when nothing else is to be done
 *   seed=N          what runs next is chosen by chance, from this seed
 *   leaks           what is held is written down, and told at the end of the program: scope/leaks.c
 *   leaks=SECONDS   the same, and what has been held for longer is told at once
 *   strict          what leaves something behind ends the process, after it was told
 */
#include "run/context.h"

#include <stdlib.h>
#include <string.h>

gint64 belay_leaks_patience = G_MAXINT64;

static gpointer
debug_init (gpointer unused)
{
  g_auto (GStrv) words = g_strsplit (g_getenv ("BELAY_DEBUG") != NULL ? g_getenv ("BELAY_DEBUG") : "", ",", -1);

  for (guint i = 0; words[i] != NULL; i++)
    {
      if (g_str_equal (words[i], "virtual-clock"))
        {
          belay_clock_set_virtual (TRUE);
        }
      else if (g_str_has_prefix (words[i], "seed="))
        {
          belay_context_seed = (guint32) strtoul (words[i] + strlen ("seed="), NULL, 10);
        }
      else if (g_str_equal (words[i], "leaks"))
        {
          belay_unusual |= BELAY_UNUSUAL_LEAKS;
        }
      else if (g_str_has_prefix (words[i], "leaks="))
        {
          belay_unusual |= BELAY_UNUSUAL_LEAKS;
          belay_leaks_patience = (gint64) (g_ascii_strtod (words[i] + strlen ("leaks="), NULL) * G_USEC_PER_SEC);
        }
      else if (g_str_equal (words[i], "strict"))
        {
          belay_unusual |= BELAY_UNUSUAL_STRICT;
        }
      else if (*words[i] != '\0')
        {
          g_warning ("BELAY_DEBUG: unknown word '%s'; known are virtual-clock, seed=N, leaks, leaks=SECONDS and strict",
                     words[i]);
        }
    }
  return NULL;
}

void
belay_debug_init (void)
{
  static GOnce once = G_ONCE_INIT;

  g_once (&once, debug_init, NULL);
}
