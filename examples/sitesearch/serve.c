/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libsoup's server, on a loop (a thread with a main context) of its own, so that it takes no time from the crawl and
 * may read files as it likes. It listens on the loopback interface only, on a port that the kernel chooses. Other
 * programs, and web pages in a browser, can ask it while it is there: it gives no hidden files, and answers only to its
 * own address, so that no page can come to it by a name of its own that leads here.
 */
#include "serve.h"

#include <libsoup/soup.h>
#include <string.h>

typedef struct
{
  const char   *folder;
  char         *host;      /* and port, as a request must say it */
  BelayPromise *listening; /* answered with the URL */
} Serving;

static const char *
get_content_type (const char *path)
{
  static const struct { const char *suffix, *type; } types[] = {
    { ".html", "text/html" }, { ".htm", "text/html" }, { ".xhtml", "application/xhtml+xml" }, { ".css", "text/css" },
    { ".txt", "text/plain" }, { ".js", "application/javascript" }, { ".json", "application/json" },
    { ".gif", "image/gif" }, { ".jpg", "image/jpeg" }, { ".jpeg", "image/jpeg" }, { ".png", "image/png" },
    { ".svg", "image/svg+xml" }, { ".pdf", "application/pdf" },
  };

  g_autofree char *lower = g_ascii_strdown (path, -1);

  for (guint i = 0; i < G_N_ELEMENTS (types); i++)
    if (g_str_has_suffix (lower, types[i].suffix))
      return types[i].type;
  return "application/octet-stream";
}

static void
respond (SoupServerMessage *message, const char *type, char *body, gsize size)
{
  soup_server_message_set_status (message, SOUP_STATUS_OK, NULL);
  soup_server_message_set_response (message, type, SOUP_MEMORY_TAKE, body, size);
}

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *) a, *(char *const *) b);
}

/* Links to all HTML files below a folder, but for what is hidden; a symbolic link to a folder is not followed. */
static void
list_folder (GString *list, const char *folder, const char *relative)
{
  g_autofree char *path = g_build_filename (folder, relative, NULL);
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);

  for (const char *name; dir != NULL && (name = g_dir_read_name (dir)) != NULL;)
    if (*name != '.')
      g_ptr_array_add (names, g_build_filename (relative, name, NULL));
  g_ptr_array_sort (names, compare_names);

  for (guint i = 0; i < names->len; i++)
    {
      const char *name = g_ptr_array_index (names, i);
      g_autofree char *file = g_build_filename (folder, name, NULL);

      if (g_file_test (file, G_FILE_TEST_IS_DIR) && !g_file_test (file, G_FILE_TEST_IS_SYMLINK))
        list_folder (list, folder, name);
      else if (g_str_has_prefix (get_content_type (name), "text/html"))
        {
          g_autofree char *href = g_uri_escape_string (name, "/", FALSE);
          g_autofree char *display = g_filename_display_name (name);
          g_autofree char *text = g_markup_escape_text (display, -1);
          g_string_append_printf (list, "<li><a href=\"%s\">%s</a>\n", href, text);
        }
    }
}

static void
respond_with_list (SoupServerMessage *message, const char *folder)
{
  g_autofree char *name = g_filename_display_basename (folder);
  g_autofree char *title = g_markup_escape_text (name, -1);
  GString *list = g_string_new (NULL);

  g_string_append_printf (list, "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>%s</title>\n<ul>\n", title);
  list_folder (list, folder, "");
  g_string_append (list, "</ul>\n");

  gsize size = list->len;
  respond (message, "text/html", g_string_free (list, FALSE), size);
}

static void
on_request (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer data)
{
  const Serving *serving = data;
  g_autofree char *file = g_build_filename (serving->folder, path, NULL);
  const char *host = soup_message_headers_get_one (soup_server_message_get_request_headers (message), "Host");
  char *body;
  gsize size;

  if (host == NULL || !g_str_equal (host, serving->host))
    {
      soup_server_message_set_status (message, SOUP_STATUS_FORBIDDEN, NULL);
      return;
    }
  if (strstr (path, "/.") != NULL)
    {
      soup_server_message_set_status (message, SOUP_STATUS_NOT_FOUND, NULL);
      return;
    }
  if (g_file_test (file, G_FILE_TEST_IS_DIR))
    {
      g_autofree char *index = g_build_filename (file, "index.html", NULL);

      if (!g_str_has_suffix (path, "/"))
        {
          g_autofree char *target = g_strconcat (g_uri_get_path (soup_server_message_get_uri (message)), "/", NULL);
          soup_server_message_set_redirect (message, SOUP_STATUS_MOVED_PERMANENTLY, target);
          return;
        }
      if (g_str_equal (path, "/") && !g_file_test (index, G_FILE_TEST_EXISTS))
        {
          respond_with_list (message, serving->folder);
          return;
        }
      g_free (file);
      file = g_steal_pointer (&index);
    }

  if (g_file_test (file, G_FILE_TEST_IS_REGULAR) && g_file_get_contents (file, &body, &size, NULL))
    respond (message, get_content_type (file), body, size);
  else
    soup_server_message_set_status (message, SOUP_STATUS_NOT_FOUND, NULL);
}

/* Where a crowd may wait to be accepted: libsoup's own socket has room for ten, and the eleventh waits for a second. */
static GSocket *
listen_on_loopback (GError **error)
{
  g_autoptr (GSocket) listener = g_socket_new (G_SOCKET_FAMILY_IPV4, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT,
                                               error);
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new_from_string ("127.0.0.1", 0);

  if (listener == NULL)
    return NULL;
  g_socket_set_listen_backlog (listener, 1024);
  if (!g_socket_bind (listener, address, FALSE, error) || !g_socket_listen (listener, error))
    return NULL;
  return g_steal_pointer (&listener);
}

/* On the loop. Serves until it is cancelled. */
static gboolean
serve (gpointer data, GError **error)
{
  Serving *serving = data;
  g_autoptr (SoupServer) server = soup_server_new (NULL, NULL);
  g_autoptr (BelayPromise) never = belay_promise_new ();
  g_autofree char *index = g_build_filename (serving->folder, "index.html", NULL);
  GError *failure = NULL;
  g_autoptr (GSocket) listener = listen_on_loopback (&failure);
  g_autoptr (GSocketAddress) address = listener ? g_socket_get_local_address (listener, &failure) : NULL;

  soup_server_add_handler (server, NULL, on_request, serving, NULL);
  if (address == NULL || !soup_server_listen_socket (server, listener, 0, &failure))
    {
      belay_promise_reject (serving->listening, failure);
      return TRUE;
    }

  g_autofree char *host = g_strdup_printf ("127.0.0.1:%u",
                                           g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (address)));
  serving->host = host;
  belay_promise_resolve_pointer (serving->listening,
                                 g_strdup_printf ("http://%s/%s", host, g_file_test (index, G_FILE_TEST_EXISTS) ?
                                                                          "index.html" : ""), g_free);
  return belay_await_ok (belay_promise_get_future (never), error);
}

gboolean
serve_folder (BelayManager *manager, gpointer folder, GError **error)
{
  g_autoptr (BelayPromise) listening = belay_promise_new ();
  Serving serving = { folder, NULL, listening };
  belay_auto (BelayLoop) loop = belay_loop_new ("folder server");
  g_autoptr (BelayFuture) server = belay_loop_spawn (loop, serve, &serving, NULL);
  g_autofree char *url = belay_await (belay_promise_get_future (listening), error);
  gboolean ok = url != NULL && belay_manager_yield (manager, url, error);

  g_clear_pointer (&server, belay_future_unref); /* nobody wants it any more: that stops the server */
  return belay_close (&loop, ok ? error : NULL) && ok;
}
