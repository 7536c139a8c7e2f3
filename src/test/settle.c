/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is left when something is over: waiting for it, and naming it.
 *
 * In a fiber the virtual clock does the waiting: a sleep of a millisecond ends when nothing is ready any more, and longer
 * ones let timers come. Outside, the main context is iterated.
 */
#include "test/test-private.h"

#define TURNS   100000 /* of the main loop, in which something that repeats itself may still go on */
#define LONGEST ((gint64) 24 * 3600 * 1000) /* ms, of all that is waited for by the virtual clock */

gboolean
belay_test_settle_to (guint pending)
{
  belay_auto (BelayShield) shield = belay_shield ();
  gint64 waited = 0, step = 1;

  do
    {
      if (!belay_sleep (step, NULL)) /* inside of a release whose time is up */
        break;
      waited += step;
      step = MIN (step * 2, 3600 * 1000);
    }
  while (belay_get_n_pending () > pending && waited < LONGEST);
  return belay_get_n_pending () <= pending;
}

/* A turn in which nothing is dispatched may be one in which the source gives way to others. */
static void
iterate_until_idle (void)
{
  while (belay_get_n_pending () > 0)
    g_main_context_iteration (NULL, TRUE);
  for (guint idle = 0, turns = 0; idle < 4 && turns < TURNS; turns++)
    idle = g_main_context_iteration (NULL, FALSE) ? 0 : idle + 1;
}

void
belay_test_settle (void)
{
  if (!belay_in_fiber ())
    iterate_until_idle ();
  else if (!belay_test_settle_to (1)) /* the one is the test's own */
    belay_test_fail_at (NULL, "%u releases or detached jobs do not end", belay_get_n_pending () - 1);
}

static void
add (GString **text, const char *format, ...)
{
  va_list args;

  if (*text == NULL)
    *text = g_string_new (NULL);
  else
    g_string_append (*text, "; ");
  va_start (args, format);
  g_string_append_vprintf (*text, format, args);
  va_end (args);
}

void
belay_test_look_before (BelayTestBefore *before)
{
  before->pending = belay_get_n_pending ();
  before->held = belay_leaks_list ();
}

void
belay_test_clear_before (BelayTestBefore *before)
{
  g_clear_pointer (&before->held, g_strfreev);
}

/* (transfer full) (nullable): what is held that was not. */
static char *
find_held (const BelayTestBefore *before)
{
  g_auto (GStrv) now = belay_leaks_list ();
  g_autoptr (GPtrArray) known = g_ptr_array_new ();
  GString *text = NULL;

  for (guint i = 0; before->held[i] != NULL; i++)
    g_ptr_array_add (known, before->held[i]);
  for (guint i = 0; now[i] != NULL; i++)
    {
      guint place;

      if (g_ptr_array_find_with_equal_func (known, now[i], g_str_equal, &place))
        g_ptr_array_remove_index (known, place);
      else
        add (&text, "%s", now[i]);
    }
  return text != NULL ? g_string_free (text, FALSE) : NULL;
}

/* Resources of the kit's are named as the test knows them; any other by its type and the line that acquired it. */
char *
belay_test_find_left (const BelayTestBefore *before)
{
  g_autofree char *resources = belay_test_resources_left (), *held = find_held (before);
  BelayContext *context = belay_context_get_for_main (NULL);
  GString *text = NULL;

  if (belay_get_n_pending () > before->pending)
    add (&text, "%u releases or detached jobs are pending", belay_get_n_pending () - before->pending);
  if (resources != NULL)
    add (&text, "not released: %s", resources);
  if (held != NULL)
    add (&text, "still held: %s", held);
  if (belay_clock_is_held ())
    add (&text, "external work has not ended: belay_external_end() was called less often than belay_external_begin()");
  if (!belay_in_fiber () && context->n_timers > 0)
    add (&text, "%u timers are armed, again and again", context->n_timers);
  return text != NULL ? g_string_free (text, FALSE) : NULL;
}

void
belay_test_in_fiber (BelayFunc func, gpointer data)
{
  if (belay_in_fiber ())
    func (data, NULL);
  else if (belay_run (func, data) != 0)
    belay_test_fail_at (NULL, "the program that belongs to it failed");
}
