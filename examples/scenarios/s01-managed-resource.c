/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A managed resource: one function acquires, lends, and releases. It stops at its yield while the body runs, and goes
 * on when the body has ended, however that was.
 */
#include <belay/belay.h>

static gboolean
managed_resource (BelayManager *manager, gpointer name, GError **error)
{
  g_print ("Acquiring resource %s\n", (char *) name);
  if (!belay_sleep (1000, error))
    return FALSE;

  gboolean ok = belay_manager_yield (manager, name, error);

  g_print ("Releasing resource %s\n", (char *) name);
  belay_sleep (1000, NULL);
  return ok;
}

static gboolean
use_resource (gpointer data, GError **error)
{
  belay_auto (BelayManager) resource = belay_await (belay_manager_open (managed_resource, "my_resource"), error);
  if (resource == NULL)
    return FALSE;

  g_print ("Using resource %s\n", (char *) belay_manager_get_value (resource));
  return belay_sleep (2000, error) && belay_close (&resource, error);
}

int
main (void)
{
  return belay_run (use_resource, NULL);
}
