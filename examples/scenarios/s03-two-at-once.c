/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A database and an API at once, left in reverse order. When the second cannot be opened, the first is closed all the
 * same. Once with guards, once with blocks.
 */
#include <belay/belay.h>

typedef struct
{
  BelayPlain  base;
  const char *name;
} Connection;

static gboolean
connection_close (gpointer self, BelayReason reason, GError **error)
{
  Connection *connection = self;

  g_print ("Closing the %s connection...\n", connection->name);
  if (!belay_sleep (1000, error))
    return FALSE;
  g_print ("Closed: %s.\n", connection->name);
  return TRUE;
}

static const BelayPlainClass connection_class = BELAY_PLAIN_CLASS ("Connection", connection_close, g_free);
BELAY_DEFINE_AUTO (Connection)

static gpointer
connection_open (gpointer name, GError **error)
{
  g_print ("Connecting to the %s...\n", (char *) name);
  if (!belay_sleep (1000, error))
    return NULL;
  if (g_str_has_prefix (name, "broken"))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED, "The %s does not answer.", (char *) name);
      return NULL;
    }

  Connection *connection = belay_plain_new (Connection, &connection_class);
  connection->name = name;
  g_print ("Connected: %s.\n", connection->name);
  return connection;
}

static gboolean
use_both (gpointer data, GError **error)
{
  belay_auto (Connection) database = belay_await (belay_open (connection_open, "database"), error);
  if (database == NULL)
    return FALSE;
  belay_auto (Connection) api = belay_await (belay_open (connection_open, "API"), error);
  if (api == NULL)
    return FALSE;

  g_print ("Using the %s and the %s.\n", database->name, api->name);
  return TRUE;
}

static gboolean
use_broken (gpointer data, GError **error)
{
  BELAY_WITH (Connection, database, belay_open (connection_open, "database"), error)
    BELAY_WITH (Connection, api, belay_open (connection_open, "broken API"), error)
      return TRUE;
  return FALSE;
}

static gboolean
use_both_then_broken (gpointer data, GError **error)
{
  return use_both (NULL, error) && use_broken (NULL, error);
}

int
main (void)
{
  return belay_run (use_both_then_broken, NULL);
}
