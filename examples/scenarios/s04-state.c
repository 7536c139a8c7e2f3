/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A connection that knows whether it is connected: yes inside, no after, also when the body fails. The error goes on
 * to the caller, who swallows it by keeping it, or lets it on.
 */
#include <belay/belay.h>

typedef struct
{
  BelayPlain base;
  gboolean   connected;
} Connection;

static gboolean
connection_close (gpointer self, BelayReason reason, GError **error)
{
  ((Connection *) self)->connected = FALSE;
  return TRUE;
}

static const BelayPlainClass connection_class = BELAY_PLAIN_CLASS ("Connection", connection_close, NULL);
BELAY_DEFINE_AUTO (Connection)

static gpointer
connection_open (gpointer self, GError **error)
{
  ((Connection *) self)->connected = TRUE;
  return self;
}

static gboolean
query (Connection *connection, GError **error)
{
  belay_auto (Connection) held = belay_await (belay_open (connection_open, connection), error);
  if (held == NULL)
    return FALSE;

  g_print ("inside: %s\n", held->connected ? "connected" : "not connected");
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the query failed");
  return FALSE;
}

static gboolean
query_twice (gpointer data, GError **error)
{
  Connection connection = { .base = { &connection_class } };
  g_autoptr (GError) swallowed = NULL;

  query (&connection, &swallowed);
  g_print ("after: %s; swallowed: %s\n", connection.connected ? "connected" : "not connected", swallowed->message);

  gboolean ok = query (&connection, error);
  g_print ("after: %s; let on\n", connection.connected ? "connected" : "not connected");
  return ok;
}

int
main (void)
{
  return belay_run (query_twice, NULL);
}
