/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two resources of a function are released in the reverse of the order in which they were opened, one after the
 * other: the first is closed only when the second has been closed to its end. The same holds in a block,
 * BELAY_WITH (), whose end closes visibly, and in a scope, to which any number of resources is given while it lives.
 * All three print the same.
 */
#include <belay/belay.h>

typedef struct
{
  BelayPlain  base;
  const char *name;
} Door;

static gboolean
door_close (gpointer self, BelayReason reason, GError **error)
{
  Door *door = self;

  g_print ("%s ... ", door->name);
  if (!belay_sleep (100, error))
    return FALSE;
  g_print ("closed\n");
  return TRUE;
}

static const BelayPlainClass door_class = BELAY_PLAIN_CLASS ("Door", door_close, g_free);
BELAY_DEFINE_AUTO (Door)

static gpointer
open_door (gpointer name, GError **error)
{
  Door *door = belay_plain_new (Door, &door_class);

  door->name = name;
  g_print ("%s opened\n", door->name);
  return door;
}

static gboolean
by_variables (GError **error)
{
  belay_auto (Door) outer = belay_await (belay_open (open_door, "outer door"), error);
  belay_auto (Door) inner = outer ? belay_await (belay_open (open_door, "inner door"), error) : NULL;

  return inner != NULL;
}

static gboolean
by_blocks (GError **error)
{
  BELAY_WITH (Door, outer, belay_open (open_door, "outer door"), error)
    BELAY_WITH (Door, inner, belay_open (open_door, "inner door"), error)
      return TRUE;
  return FALSE;
}

static gboolean
by_a_scope (GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  return belay_enter (scope, belay_open (open_door, "outer door"), error) &&
         belay_enter (scope, belay_open (open_door, "inner door"), error) &&
         belay_scope_close (&scope, error);
}

static gboolean
pass_three_times (gpointer data, GError **error)
{
  return by_variables (error) && by_blocks (error) && by_a_scope (error);
}

int
main (void)
{
  return belay_run (pass_three_times, NULL);
}
