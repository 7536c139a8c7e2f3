/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A fiber is a function with a stack of its own, that may wait: for a future, for a time, for another fiber. While
 * it waits the others run, and the code still reads from top to bottom. belay_run() runs the first fiber of a program
 * with a main loop under it; belay_spawn_value() starts more, and their outcome is a future again. Nothing here
 * runs at the same time as anything else, so nothing needs a lock.
 */
#include <belay/belay.h>

static gpointer
boil_water (gpointer data, GError **error)
{
  g_print ("kettle on\n");
  if (!belay_sleep (300, error))
    return NULL;
  g_print ("water boils\n");
  return g_strdup ("hot water");
}

static gpointer
grind_coffee (gpointer data, GError **error)
{
  g_print ("grinder on\n");
  if (!belay_sleep (100, error))
    return NULL;
  g_print ("coffee ground\n");
  return g_strdup ("ground coffee");
}

static gboolean
breakfast (gpointer data, GError **error)
{
  g_autoptr (BelayFuture) boiling = belay_spawn_value (boil_water, NULL, g_free);
  g_autoptr (BelayFuture) grinding = belay_spawn_value (grind_coffee, NULL, g_free);

  g_autofree char *water = belay_await (g_steal_pointer (&boiling), error);
  if (water == NULL)
    return FALSE;
  g_autofree char *coffee = belay_await (g_steal_pointer (&grinding), error);
  if (coffee == NULL)
    return FALSE;

  g_print ("%s onto %s\n", water, coffee);
  return TRUE;
}

int
main (void)
{
  return belay_run (breakfast, NULL);
}
