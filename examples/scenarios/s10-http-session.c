/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An HTTP session with a time-out of ten seconds for each request, closed by leaving. GETs a JSON document and prints
 * the status and the document's first three keys. Without a URL it serves a document to itself.
 */
#include <belay/belay-http.h>
#include <json-glib/json-glib.h>
#include <libsoup/soup.h>

static gboolean
session_of_ten_seconds (BelayManager *manager, gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();

  belay_http_session_set_timeout (session, 10 * 1000);
  g_print ("session open\n");
  gboolean ok = belay_manager_yield (manager, session, error);
  g_print ("session closed\n");
  return ok;
}

static gboolean
print_keys (gpointer url, GError **error)
{
  belay_auto (BelayManager) session = belay_await (belay_manager_open (session_of_ten_seconds, NULL), error);
  if (session == NULL)
    return FALSE;
  g_autoptr (BelayHttpResponse) response = belay_await (belay_http_get (belay_manager_get_value (session), url), error);
  if (response == NULL)
    return FALSE;
  g_print ("status %u\n", belay_http_response_get_status (response));

  gsize size;
  const char *text = g_bytes_get_data (belay_http_response_get_bytes (response), &size);
  g_autoptr (JsonParser) parser = json_parser_new ();
  if (!json_parser_load_from_data (parser, text, size, error))
    return FALSE;

  JsonObjectIter iter;
  const char *key;
  json_object_iter_init_ordered (&iter, json_node_get_object (json_parser_get_root (parser)));
  for (guint i = 0; i < 3 && json_object_iter_next_ordered (&iter, &key, NULL); i++)
    g_print ("%s\n", key);
  return TRUE;
}

/* --- the embedded default --- */

static void
answer (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer data)
{
  static const char document[] = "{\"name\": \"Belay\", \"language\": \"C\", \"licence\": \"LGPL\", \"since\": 2025}";

  soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
  soup_server_message_set_response (message, "application/json", SOUP_MEMORY_STATIC, document, strlen (document));
}

static gboolean
serve_and_print_keys (gpointer data, GError **error)
{
  g_autoptr (SoupServer) server = soup_server_new (NULL, NULL);

  soup_server_add_handler (server, NULL, answer, NULL, NULL);
  if (!soup_server_listen_local (server, 0, SOUP_SERVER_LISTEN_IPV4_ONLY, error))
    return FALSE;

  GSList *uris = soup_server_get_uris (server);
  g_autofree char *url = g_uri_to_string (uris->data);
  g_slist_free_full (uris, (GDestroyNotify) g_uri_unref);
  return print_keys (url, error);
}

int
main (int argc, char **argv)
{
  return argc > 1 ? belay_run (print_keys, argv[1]) : belay_run (serve_and_print_keys, NULL);
}
