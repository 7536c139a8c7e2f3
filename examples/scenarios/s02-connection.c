/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection as a type of one's own: what entering means, what leaving means, and a guard that does both. */
#include <belay/belay.h>

typedef struct
{
  BelayPlain base;
} Database;

static gboolean
database_close (gpointer self, BelayReason reason, GError **error)
{
  g_print ("Closing the database connection...\n");
  if (!belay_sleep (1000, error))
    return FALSE;
  g_print ("Connection closed.\n");
  return TRUE;
}

static const BelayPlainClass database_class = BELAY_PLAIN_CLASS ("Database", database_close, g_free);
BELAY_DEFINE_AUTO (Database)

static gpointer
database_connect (gpointer data, GError **error)
{
  g_print ("Connecting to the database...\n");
  if (!belay_sleep (1000, error))
    return NULL;
  g_print ("Connection established.\n");
  return belay_plain_new (Database, &database_class);
}

static gboolean
operate (gpointer data, GError **error)
{
  belay_auto (Database) database = belay_await (belay_open (database_connect, NULL), error);
  if (database == NULL)
    return FALSE;

  g_print ("Performing a database operation...\n");
  return TRUE;
}

int
main (void)
{
  return belay_run (operate, NULL);
}
