/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * HTTP sessions, against two servers in this process, on the loopback interface and ports that the kernel chose.
 *
 * The *good* server is libsoup's, in a thread with a main context of its own; what it answers is in on_request(). The
 * *bad* server speaks by hand, a thread for each connection, and does what no server should; see on_connection().
 */
#include "support.h"

#include <belay/belay-http.h>
#include <libsoup/soup.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program;

/* --- the good server --- */

static struct
{
  GThread        *thread;
  GMainContext   *context;
  GMainLoop      *loop;
  SoupServer     *server;
  char           *origin;     /* http://127.0.0.1:PORT */
  pthread_mutex_t lock;       /* what follows; no GMutex, the thread sanitizer must see it */
  GHashTable     *ports;      /* the clients' ports that requests came from */
  int             n_requests;
  int             n_active;   /* of /slow */
  int             max_active;
} good = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
good_reset (void)
{
  pthread_mutex_lock (&good.lock);
  g_hash_table_remove_all (good.ports);
  good.n_requests = good.max_active = 0;
  pthread_mutex_unlock (&good.lock);
}

/* How many connections requests have come over since the reset. */
static guint
good_n_connections (void)
{
  guint n;

  pthread_mutex_lock (&good.lock);
  n = g_hash_table_size (good.ports);
  pthread_mutex_unlock (&good.lock);
  return n;
}

static int
good_get (int *member)
{
  int n;

  pthread_mutex_lock (&good.lock);
  n = *member;
  pthread_mutex_unlock (&good.lock);
  return n;
}

static GBytes *
packed (GZlibCompressorFormat format, const char *text, gsize length)
{
  g_autoptr (GConverter) zlib = G_CONVERTER (g_zlib_compressor_new (format, -1));
  g_autoptr (GInputStream) in = g_memory_input_stream_new_from_data (text, (gssize) length, NULL);
  g_autoptr (GInputStream) stream = g_converter_input_stream_new (in, zlib);
  g_autoptr (GOutputStream) out = g_memory_output_stream_new_resizable ();

  g_assert_cmpint (g_output_stream_splice (out, stream, G_OUTPUT_STREAM_SPLICE_CLOSE_TARGET, NULL, NULL), >, 0);
  return g_memory_output_stream_steal_as_bytes (G_MEMORY_OUTPUT_STREAM (out));
}

static void
on_slow_over (SoupServerMessage *message, gpointer timer)
{
  g_source_destroy (timer);
  pthread_mutex_lock (&good.lock);
  good.n_active--;
  pthread_mutex_unlock (&good.lock);
}

static gboolean
on_slow_timer (gpointer message)
{
  soup_server_message_unpause (message);
  return G_SOURCE_REMOVE;
}

static void
answer_later (SoupServerMessage *message, guint milliseconds)
{
  GSource *timer = g_timeout_source_new (milliseconds);

  pthread_mutex_lock (&good.lock);
  good.n_active++;
  good.max_active = MAX (good.max_active, good.n_active);
  pthread_mutex_unlock (&good.lock);
  g_source_set_callback (timer, on_slow_timer, message, NULL);
  g_source_attach (timer, good.context);
  g_signal_connect_data (message, "finished", G_CALLBACK (on_slow_over), timer, (GClosureNotify) g_source_unref, 0);
  soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_STATIC, "late", 4);
  soup_server_message_pause (message);
}

static void
on_request (SoupServer *server, SoupServerMessage *message, const char *path, GHashTable *query, gpointer data)
{
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (message);
  SoupMessageHeaders *asked = soup_server_message_get_request_headers (message);
  GSocketAddress *peer = soup_server_message_get_remote_address (message);
  const char *text = g_uri_get_query (soup_server_message_get_uri (message));
  guint n = text != NULL ? (guint) g_ascii_strtoull (text, NULL, 10) : 0;

  pthread_mutex_lock (&good.lock);
  good.n_requests++;
  g_hash_table_add (good.ports, GUINT_TO_POINTER (g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (peer))));
  pthread_mutex_unlock (&good.lock);

  soup_server_message_set_status (message, 200, NULL);
  if (g_str_equal (path, "/hello"))
    {
      soup_message_headers_append (headers, "X-Many", "one");
      soup_message_headers_append (headers, "X-Other", "\t between ");
      soup_message_headers_append (headers, "x-many", "two");
      soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_STATIC, "hello", 5);
    }
  else if (g_str_equal (path, "/close"))
    {
      soup_message_headers_append (headers, "Connection", "close");
      soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_STATIC, "bye", 3);
    }
  else if (g_str_equal (path, "/status"))
    {
      soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_STATIC, "page", 4);
      soup_server_message_set_status (message, n, n == 404 ? "Not Here" : NULL);
    }
  else if (g_str_equal (path, "/slow"))
    {
      answer_later (message, n);
    }
  else if (g_str_equal (path, "/size") || g_str_equal (path, "/chunked"))
    {
      soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_TAKE, g_strnfill (n, 'x'), n);
      if (g_str_equal (path, "/chunked"))
        {
          soup_message_headers_set_encoding (headers, SOUP_ENCODING_CHUNKED);
          soup_message_body_complete (soup_server_message_get_response_body (message));
        }
    }
  else if (g_str_equal (path, "/gzip"))
    {
      g_autofree char *plain = g_strnfill (n, 'z');
      g_autoptr (GBytes) body = packed (G_ZLIB_COMPRESSOR_FORMAT_GZIP, plain, n);

      soup_message_headers_append (headers, "Content-Encoding", "gzip");
      soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_COPY, g_bytes_get_data (body, NULL),
                                        g_bytes_get_size (body));
    }
  else if (g_str_equal (path, "/asked"))
    {
      /* says which headers came */
      const char *value = soup_message_headers_get_list (asked, text);

      value = value != NULL ? value : "(none)";
      soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_COPY, value, strlen (value));
    }
  else if (g_str_equal (path, "/redirect"))
    {
      g_autofree char *to = n > 1 ? g_strdup_printf ("/redirect?%u", n - 1) : g_strdup ("/hello");

      soup_message_headers_append (headers, "Location", to);
      soup_server_message_set_response (message, "text/plain", SOUP_MEMORY_STATIC, "elsewhere", 9);
      soup_server_message_set_status (message, 302, NULL);
    }
  else if (g_str_equal (path, "/to"))
    {
      soup_message_headers_append (headers, "Location", text != NULL ? text : path); /* else a circle */
      soup_server_message_set_status (message, 301, NULL);
    }
  else
    {
      soup_server_message_set_status (message, 404, NULL);
    }
}

/* --- the bad server --- */

static struct
{
  GThread *thread;
  int      socket;
  char    *origin;
  int      n_connections; /* atomic, all of them */
  int      n_active;      /* connections that are open */
  int      n_silent;      /* /silent that wait */
  int      n_given_up;    /* /silent that the client has given up */
} bad;

static gboolean
send_all (int fd, const char *text)
{
  gsize left = strlen (text);

  while (left > 0)
    {
      gssize n = send (fd, text, left, MSG_NOSIGNAL);

      if (n <= 0)
        return FALSE;
      text += n;
      left -= (gsize) n;
    }
  return TRUE;
}

/* "CODING/FORMAT/CUT/PADDING": the numbers from 0 to 9999 as a compressed body, cut by so many bytes. */
static void
send_packed (int fd, const char *how)
{
  g_auto (GStrv) words = g_strsplit_set (how, "/ ", 5);
  GZlibCompressorFormat format = g_str_equal (words[1], "gzip") ? G_ZLIB_COMPRESSOR_FORMAT_GZIP
                                 : g_str_equal (words[1], "zlib") ? G_ZLIB_COMPRESSOR_FORMAT_ZLIB : G_ZLIB_COMPRESSOR_FORMAT_RAW;
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (GByteArray) body = g_byte_array_new ();
  g_autofree char *head = NULL;
  guint cut = (guint) atoi (words[2]);
  gsize piece;

  for (int i = 0; i < 10000; i++)
    g_string_append_printf (text, "%d\n", i);
  piece = format == G_ZLIB_COMPRESSOR_FORMAT_GZIP ? text->len / 2 : text->len; /* gzip may be several streams */
  for (gsize i = 0; i < text->len; i += piece)
    {
      g_autoptr (GBytes) stream = packed (format, text->str + i, piece);

      g_byte_array_append (body, g_bytes_get_data (stream, NULL), (guint) g_bytes_get_size (stream));
    }
  g_byte_array_append (body, (const guint8 *) words[3], (guint) strlen (words[3]));
  head = g_strdup_printf ("HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %u\r\n\r\n", words[0],
                          cut == 9999 ? 0 : body->len - cut);
  if (send_all (fd, head) && cut != 9999)
    for (guint i = 0; i < body->len - cut; i += 1000)
      {
        gsize left = body->len - cut - i;

        if (send (fd, body->data + i, MIN (left, 1000), MSG_NOSIGNAL) <= 0)
          break;
      }
}

/* Until the client gives up. */
static void
wait_for_end (int fd)
{
  char byte;

  G_GNUC_UNUSED gssize n = recv (fd, &byte, 1, 0);
}

static gpointer
on_connection (gpointer data)
{
  int fd = GPOINTER_TO_INT (data);
  gboolean keep = TRUE;

  while (keep)
    {
      g_autoptr (GString) request = g_string_new (NULL);
      char piece[1024];
      gssize n = 1;

      while (n > 0 && strstr (request->str, "\r\n\r\n") == NULL)
        {
          n = recv (fd, piece, sizeof piece, 0);
          if (n > 0)
            g_string_append_len (request, piece, n);
      if (*request->str == 0x16) /* TLS */
            {
              send_all (fd, "HTTP/1.1 400 Speak plainly\r\n\r\n");
              n = 0;
            }
        }
      if (n <= 0)
        break;
      keep = FALSE;
      if (g_str_has_prefix (request->str, "GET /garbage"))
        {
          send_all (fd, "What is this?\r\nNo idea.\r\n");
        }
      else if (g_str_has_prefix (request->str, "GET /nothing"))
        {
          /* just closes */
        }
      else if (g_str_has_prefix (request->str, "GET /short"))
        {
          send_all (fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
        }
      else if (g_str_has_prefix (request->str, "GET /reset"))
        {
          struct linger linger = { .l_onoff = 1 };

          send_all (fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
          setsockopt (fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        }
      else if (g_str_has_prefix (request->str, "GET /half"))
        {
          send_all (fd, "HTTP/1.1 20");
        }
      else if (g_str_has_prefix (request->str, "GET /headers"))
        {
          if (send_all (fd, "HTTP/1.1 200 OK\r\n"))
            for (int i = 0; i < 200000; i++)
              if (!send_all (fd, "X-Endless: 0123456789012345678901234567890123456789\r\n"))
                break;
        }
      else if (g_str_has_prefix (request->str, "GET /folded"))
        {
          send_all (fd, "HTTP/1.1 200\r\nX-Folded: one\r\n \t two\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n");
        }
      else if (g_str_has_prefix (request->str, "GET /trailer"))
        {
          send_all (fd, "HTTP/1.1 200 OK\r\nX-Head: yes\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n");
          send_all (fd, "HTTP/evil: 1\r\nHTTP/1.1 404 Not: Found\r\nX-Head: no\r\n\r\n");
        }
      else if (g_str_has_prefix (request->str, "GET /badtrailer"))
        {
          send_all (fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nwhat is this\r\n\r\n");
        }
      else if (g_str_has_prefix (request->str, "GET /onlytrailer"))
        {
          send_all (fd, "HTTP/1.1 200 OK\r\nX-Head: yes\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHTTP/evil: 1\r\n\r\n");
        }
      else if (g_str_has_prefix (request->str, "GET /huge"))
        {
          send_all (fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\nit begins");
          wait_for_end (fd);
        }
      else if (g_str_has_prefix (request->str, "GET /endless"))
        {
          g_autofree char *much = g_strnfill (65536, 'e');

          if (send_all (fd, "HTTP/1.1 200 OK\r\n\r\n"))
            while (send_all (fd, much))
              ;
        }
      else if (g_str_has_prefix (request->str, "GET /badgzip"))
        {
          send_all (fd, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nno gzip!!");
        }
      else if (g_str_has_prefix (request->str, "GET /longheader"))
        {
          g_autofree char *much = g_strnfill (200000, 'h');

          if (send_all (fd, "HTTP/1.1 200 OK\r\nX-Long: ") && send_all (fd, much))
            send_all (fd, "\r\nContent-Length: 0\r\n\r\n");
        }
      else if (g_str_has_prefix (request->str, "GET /packed?"))
        {
          send_packed (fd, request->str + strlen ("GET /packed?"));
        }
      else if (g_str_has_prefix (request->str, "GET /stale"))
        {
          /* promises to keep the connection, and closes it */
          send_all (fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale");
        }
      else if (g_str_has_prefix (request->str, "GET /silent"))
        {
          g_atomic_int_inc (&bad.n_silent);
          wait_for_end (fd);
          g_atomic_int_add (&bad.n_silent, -1);
          g_atomic_int_inc (&bad.n_given_up);
        }
      else if (g_str_has_prefix (request->str, "GET /dribble"))
        {
          send_all (fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome");
          wait_for_end (fd);
        }
      else if (g_str_has_prefix (request->str, "GET /whom"))
        {
          /* says whether credentials came */
          send_all (fd, strstr (request->str, "\r\nAuthorization:") != NULL
                           ? "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
                           : "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nnobody");
          keep = TRUE;
        }
      else
        {
          send_all (fd, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
          keep = TRUE;
        }
    }
  close (fd);
  g_atomic_int_add (&bad.n_active, -1);
  return NULL;
}

static gpointer
serve_badly (gpointer unused)
{
  int fd;

  while ((fd = accept (bad.socket, NULL, NULL)) != -1)
    {
      g_atomic_int_inc (&bad.n_connections);
      g_atomic_int_inc (&bad.n_active);
      g_thread_unref (g_thread_new ("bad", on_connection, GINT_TO_POINTER (fd)));
    }
  return NULL;
}

/* --- both --- */

/* With a queue for more than the ten that libsoup would let wait: the others come again only after a second or more. */
static int
listening_socket (int *ret_port)
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
  socklen_t size = sizeof address;
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  g_assert_cmpint (bind (fd, (struct sockaddr *) &address, sizeof address), ==, 0);
  g_assert_cmpint (listen (fd, 1000), ==, 0);
  g_assert_cmpint (getsockname (fd, (struct sockaddr *) &address, &size), ==, 0);
  *ret_port = ntohs (address.sin_port);
  return fd;
}

static gpointer
serve (gpointer data)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GSocket) socket = NULL;
  int port;

  g_main_context_push_thread_default (good.context);
  socket = g_socket_new_from_fd (listening_socket (&port), &error);
  g_assert_no_error (error);
  good.origin = g_strdup_printf ("http://127.0.0.1:%d", port);
  good.server = soup_server_new (NULL, NULL);
  soup_server_add_handler (good.server, NULL, on_request, NULL, NULL);
  soup_server_listen_socket (good.server, socket, 0, &error);
  g_assert_no_error (error);

  g_main_loop_run (good.loop);

  soup_server_disconnect (good.server);
  g_clear_object (&good.server);
  while (g_main_context_iteration (good.context, FALSE))
    ;
  g_main_context_pop_thread_default (good.context);
  return NULL;
}

static gboolean
on_serving (gpointer ready)
{
  g_atomic_int_set ((int *) ready, 1);
  return G_SOURCE_REMOVE;
}

static void
start_servers (void)
{
  int ready = 0, port;

  bad.socket = listening_socket (&port);
  bad.origin = g_strdup_printf ("http://127.0.0.1:%d", port);
  bad.thread = g_thread_new ("bad server", serve_badly, NULL);

  good.ports = g_hash_table_new (NULL, NULL);
  good.context = g_main_context_new ();
  good.loop = g_main_loop_new (good.context, FALSE);
  good.thread = g_thread_new ("servers", serve, NULL);
  g_main_context_invoke_full (good.context, G_PRIORITY_LOW, on_serving, &ready, NULL);
  while (g_atomic_int_get (&ready) == 0)
    g_usleep (1000);
}

static void
stop_servers (void)
{
  g_main_loop_quit (good.loop);
  g_thread_join (good.thread);
  g_main_loop_unref (good.loop);
  g_main_context_unref (good.context);
  g_hash_table_unref (good.ports);
  g_free (good.origin);

  shutdown (bad.socket, SHUT_RDWR);
  g_thread_join (bad.thread);
  close (bad.socket);
  while (g_atomic_int_get (&bad.n_active) > 0)
    g_usleep (1000);
  g_free (bad.origin);
}

static const char *
at (const char *origin, const char *path)
{
  g_autofree char *url = g_strconcat (origin, path, NULL);

  return g_intern_string (url);
}

#define GOOD(path) at (good.origin, path)
#define BAD(path)  at (bad.origin, path)

/* --- small helpers --- */

static void
assert_text (GBytes *bytes, const char *text)
{
  g_assert_nonnull (bytes);
  g_assert_cmpmem (g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), text, strlen (text));
}

static void
assert_gets (BelayHttpSession *session, const char *url, const char *text)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) bytes = belay_await (belay_http_get_bytes (session, url), &error);

  g_assert_no_error (error);
  assert_text (bytes, text);
}

/* The future fails like this, and its message says @word. */
static void
assert_fails (BelayFuture *future, GQuark domain, int code, const char *word)
{
  g_autoptr (GError) error = NULL;

  g_assert_false (belay_await_ok (future, &error));
  g_assert_error (error, domain, code);
  g_test_message ("%s", error->message);
  g_assert_nonnull (strstr (error->message, word));
}

static gboolean
reaches (int (*get) (gpointer), gpointer data, int wanted)
{
  for (int i = 0; i < 500; i++)
    {
      if (get (data) == wanted)
        return TRUE;
      if (!belay_sleep (10, NULL))
        return FALSE;
    }
  return FALSE;
}

static int
get_member (gpointer member)
{
  return good_get (member);
}

static int
get_atomic (gpointer member)
{
  return g_atomic_int_get ((int *) member);
}

static int
get_n_fds (gpointer unused)
{
  return (int) test_count_fds ();
}

/* --- answers --- */

static gboolean
test_answer (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (BelayHttpResponse) response = belay_await (belay_http_get (session, GOOD ("/hello")), error);

  if (response == NULL)
    return FALSE;
  g_assert_cmpuint (belay_http_response_get_status (response), ==, 200);
  g_assert_cmpstr (belay_http_response_get_url (response), ==, GOOD ("/hello"));
  g_assert_cmpstr (belay_http_response_get_header (response, "content-type"), ==, "text/plain");
  g_assert_cmpstr (belay_http_response_get_header (response, "CONTENT-LENGTH"), ==, "5");
  g_assert_cmpstr (belay_http_response_get_header (response, "X-Other"), ==, "between");
  g_assert_null (belay_http_response_get_header (response, "X-Othe"));
  g_assert_null (belay_http_response_get_header (response, "HTTP/1.1 200 OK"));
  assert_text (belay_http_response_get_bytes (response), "hello");

  /* joined once, and the same string each time */
  g_assert_cmpstr (belay_http_response_get_header (response, "X-MANY"), ==, "one, two");
  g_assert_true (belay_http_response_get_header (response, "x-many") ==
                 belay_http_response_get_header (response, "X-Many"));
  return belay_close (&session, error);
}

static gboolean
test_odd_answers (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (BelayHttpResponse) folded = belay_await (belay_http_get (session, BAD ("/folded")), error);
  g_autoptr (BelayHttpResponse) empty = NULL;
  g_autoptr (GBytes) chunked = NULL, large = NULL;

  if (folded == NULL)
    return FALSE;
  g_assert_cmpstr (belay_http_response_get_header (folded, "X-Folded"), ==, "one two");
  g_assert_cmpstr (belay_http_response_get_header (folded, "X-Empty"), ==, "");
  g_assert_cmpuint (g_bytes_get_size (belay_http_response_get_bytes (folded)), ==, 0);

  empty = belay_await (belay_http_get (session, GOOD ("/status?204")), error);
  if (empty == NULL)
    return FALSE;
  g_assert_cmpuint (belay_http_response_get_status (empty), ==, 204);
  g_assert_cmpuint (g_bytes_get_size (belay_http_response_get_bytes (empty)), ==, 0);

  chunked = belay_await (belay_http_get_bytes (session, GOOD ("/chunked?300000")), error);
  if (chunked == NULL)
    return FALSE;
  large = belay_await (belay_http_get_bytes (session, GOOD ("/size?5000000")), error);
  if (large == NULL)
    return FALSE;
  g_assert_cmpuint (g_bytes_get_size (chunked), ==, 300000);
  g_assert_cmpuint (g_bytes_get_size (large), ==, 5000000);
  g_assert_cmpint (((const char *) g_bytes_get_data (large, NULL))[4999999], ==, 'x');
  return TRUE;
}

/* What comes after the body, whatever it looks like, changes nothing. */
static gboolean
test_trailers (gpointer data, GError **error)
{
  static const char *const paths[] = { "/trailer", "/onlytrailer" };
  belay_auto (BelayHttpSession) session = belay_http_session_new ();

  for (guint i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      g_autoptr (BelayHttpResponse) response = belay_await (belay_http_get (session, BAD (paths[i])), error);

      if (response == NULL)
        return FALSE;
      g_assert_cmpuint (belay_http_response_get_status (response), ==, 200);
      g_assert_cmpstr (belay_http_response_get_header (response, "X-Head"), ==, "yes");
      assert_text (belay_http_response_get_bytes (response), i == 0 ? "hello" : "");
    }
  assert_fails (belay_http_get (session, BAD ("/badtrailer")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_PROTOCOL, "/badtrailer");
  return TRUE;
}

static gboolean
test_status (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (BelayHttpResponse) response = belay_await (belay_http_get (session, GOOD ("/status?404")), error);
  const char *with_password;

  if (response == NULL)
    return FALSE;
  g_assert_cmpuint (belay_http_response_get_status (response), ==, 404);
  assert_text (belay_http_response_get_bytes (response), "page");
  assert_fails (belay_http_get_bytes (session, GOOD ("/status?404")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_STATUS,
                "404 Not Here");
  assert_fails (belay_http_get_bytes (session, GOOD ("/status?500")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_STATUS,
                GOOD ("/status?500"));
  assert_gets (session, GOOD ("/status?399"), "page");

  /* a password in the URL is sent and not told */
  with_password = at ("http://ada:hunter2@", good.origin + strlen ("http://"));
  with_password = at (with_password, "/status?403");
  assert_fails (belay_http_get_bytes (session, with_password), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_STATUS,
                "http://ada:***@127.0.0.1");
  return TRUE;
}

static gboolean
test_gzip (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (GBytes) bytes = belay_await (belay_http_get_bytes (session, GOOD ("/gzip?100000")), error);

  if (bytes == NULL)
    return FALSE;
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, 100000);
  g_assert_cmpint (((const char *) g_bytes_get_data (bytes, NULL))[99999], ==, 'z');
  assert_fails (belay_http_get_bytes (session, BAD ("/badgzip")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_PROTOCOL,
                "decode");
  assert_gets (session, GOOD ("/hello"), "hello");
  assert_gets (session, GOOD ("/asked?Accept-Encoding"), "gzip, deflate");
  return TRUE;
}

/* A compressed body comes as a whole or not at all; and it has a 0 behind it, as a plain one. */
static gboolean
test_packed (gpointer data, GError **error)
{
  static const char *const whole[] = { "gzip/gzip/0/", "x-gzip/gzip/0/", "GZIP/gzip/0/", "identity,gzip/gzip/0/", "gzip/gzip/0/padding",
                                       "deflate/zlib/0/", "deflate/raw/0/", "deflate/zlib/0/padding" };
  static const char *const broken[] = { "gzip/gzip/1/", "gzip/gzip/9/", "gzip/gzip/5000/", "deflate/zlib/1/", "deflate/zlib/5000/",
                                        "deflate/raw/100/", "gzip/zlib/0/", "br/gzip/0/", "gzip,gzip/gzip/0/" };
  static const char *const plain[] = { "/size?1", "/size?4096", "/size?4097", "/chunked?1", "/chunked?4096", "/chunked?16384",
                                       "/size?0", "/gzip?4096", "/gzip?4097" };
  belay_auto (BelayHttpSession) session = belay_http_session_new ();

  for (gsize max = 0; max < 2; max++)
    {
      belay_http_session_set_max_body_size (session, max * 48890);
      for (guint i = 0; i < G_N_ELEMENTS (whole); i++)
        {
          g_autoptr (GBytes) bytes = belay_await (belay_http_get_bytes (session, at (BAD ("/packed?"), whole[i])), error);
          const char *text;

          if (bytes == NULL)
            return FALSE;
          text = g_bytes_get_data (bytes, NULL);
          g_assert_cmpuint (g_bytes_get_size (bytes), ==, 48890);
          g_assert_cmpuint (strlen (text), ==, 48890);
          g_assert_true (g_str_has_prefix (text, "0\n1\n2\n") && g_str_has_suffix (text, "\n9998\n9999\n"));
        }
    }
  for (guint i = 0; i < G_N_ELEMENTS (broken); i++)
    assert_fails (belay_http_get (session, at (BAD ("/packed?"), broken[i])), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_PROTOCOL,
                  broken[i]);
  assert_gets (session, BAD ("/packed?gzip/gzip/9999/"), "");
  belay_http_session_set_max_body_size (session, 48889);
  assert_fails (belay_http_get (session, BAD ("/packed?gzip/gzip/0/")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_TOO_LARGE, "48889");
  for (guint i = 0; i < G_N_ELEMENTS (plain); i++)
    {
      g_autoptr (GBytes) bytes = belay_await (belay_http_get_bytes (session, GOOD (plain[i])), error);

      if (bytes == NULL)
        return FALSE;
      g_assert_cmpuint (g_bytes_get_size (bytes), ==, (gsize) atoi (strchr (plain[i], '?') + 1));
      g_assert_cmpuint (strlen (g_bytes_get_data (bytes, NULL)), ==, g_bytes_get_size (bytes));
    }
  return TRUE;
}

static gboolean
test_redirects (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (BelayHttpResponse) followed = belay_await (belay_http_get (session, GOOD ("/redirect?10")), error);
  g_autoptr (BelayHttpResponse) stopped = NULL;

  if (followed == NULL)
    return FALSE;
  g_assert_cmpuint (belay_http_response_get_status (followed), ==, 200);
  g_assert_cmpstr (belay_http_response_get_url (followed), ==, GOOD ("/hello"));
  g_assert_null (belay_http_response_get_header (followed, "Location"));
  assert_text (belay_http_response_get_bytes (followed), "hello");
  assert_fails (belay_http_get (session, GOOD ("/redirect?11")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_REDIRECTS, "(10)");
  assert_fails (belay_http_get (session, GOOD ("/to")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_REDIRECTS, "/to");
  assert_fails (belay_http_get (session, GOOD ("/to?ftp://127.0.0.1/x")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL,
                "ftp://127.0.0.1/x");
  assert_fails (belay_http_get (session, GOOD ("/to?file:///etc/passwd")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL,
                "file:");
  assert_fails (belay_http_get (session, GOOD ("/to?javascript:alert(1)")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL,
                "redirected to javascript:alert(1): it redirects to a URL that is neither http nor https");
  assert_fails (belay_http_get (session, GOOD ("/to?http://")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL,
                "redirected to http://: it redirects to a URL that is malformed");

  belay_http_session_set_max_redirects (session, 0);
  stopped = belay_await (belay_http_get (session, GOOD ("/redirect?1")), error);
  if (stopped == NULL)
    return FALSE;
  g_assert_cmpuint (belay_http_response_get_status (stopped), ==, 302);
  g_assert_cmpstr (belay_http_response_get_header (stopped, "Location"), ==, "/hello");
  assert_text (belay_http_response_get_bytes (stopped), "elsewhere");
  return TRUE;
}

static gboolean
test_credentials (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  const char *elsewhere = at (GOOD ("/to?"), BAD ("/whom"));
  const char *with_password = at ("http://ada:hunter2@", bad.origin + strlen ("http://"));

  /* in the URL: for that request, not for the next one of the same handle */
  assert_gets (session, at (with_password, "/whom"), "secret");
  assert_gets (session, BAD ("/whom"), "nobody");
  with_password = at ("http://ada:hunter2@", elsewhere + strlen ("http://"));
  assert_gets (session, with_password, "nobody");

  /* as a header: to the origin that was asked, not where that redirects to */
  belay_http_session_set_header (session, "Authorization", "Bearer 42");
  assert_gets (session, BAD ("/whom"), "secret");
  assert_gets (session, elsewhere, "nobody");
  return TRUE;
}

/* --- connections --- */

static gboolean
test_one_connection (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();

  good_reset ();
  for (int i = 0; i < 10; i++)
    assert_gets (session, GOOD ("/hello"), "hello");
  g_assert_cmpuint (good_n_connections (), ==, 1);
  return belay_close (&session, error);
}

static gboolean
test_unread (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();

  good_reset ();
  for (int i = 0; i < 5; i++)
    if (!belay_await_ok (belay_http_get (session, GOOD ("/size?100")), error))
      return FALSE;
  assert_gets (session, GOOD ("/hello"), "hello");
  g_assert_cmpuint (good_n_connections (), ==, 1);
  return TRUE;
}

static gboolean
test_server_closes (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();

  good_reset ();
  assert_gets (session, GOOD ("/close"), "bye");
  assert_gets (session, GOOD ("/close"), "bye");
  assert_gets (session, GOOD ("/hello"), "hello");
  g_assert_cmpuint (good_n_connections (), ==, 3);
  return TRUE;
}

static gboolean
test_stale (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  int before = g_atomic_int_get (&bad.n_connections);

  /* more often than libcurl repeats in the life of a handle; with a pause in which the close arrives, and without */
  for (int i = 0; i < 20; i++)
    {
      assert_gets (session, BAD ("/stale"), "stale");
      if (i % 2 == 0 && !belay_sleep (5, error))
        return FALSE;
    }
  g_assert_cmpint (g_atomic_int_get (&bad.n_connections) - before, ==, 20);
  assert_gets (session, BAD ("/fine"), "fine");
  return TRUE;
}

typedef struct
{
  BelayHttpSession *session;
  const char       *url;
  int               n;
} Churn;

static gboolean
churn (gpointer data, GError **error)
{
  Churn *self = data;

  for (int i = 0; i < self->n; i++)
    if (!belay_await_ok (belay_http_get_bytes (self->session, self->url), error))
      return FALSE;
  return TRUE;
}

static gboolean
run_churn (Churn *self, guint n_fibers, GError **error)
{
  g_autofree BelayFuture **futures = g_new (BelayFuture *, n_fibers);

  for (guint i = 0; i < n_fibers; i++)
    futures[i] = belay_spawn (churn, self);
  return belay_await_ok (belay_future_allv (futures, n_fibers), error);
}

static gboolean
test_limits (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autofree char *by_name = g_strconcat ("http://localhost", strrchr (good.origin, ':'), "/slow?2", NULL);
  Churn one = { session, GOOD ("/slow?2"), 5 };
  Churn other = { session, by_name, 5 };
  BelayFuture *both[2];
  gboolean ok;

  good_reset ();
  belay_http_session_set_max_connections (session, 0, 1);
  ok = run_churn (&one, 10, error);
  g_assert_cmpint (good_get (&good.max_active), ==, 1);
  g_assert_cmpuint (good_n_connections (), ==, 1);

  good_reset ();
  belay_http_session_set_max_connections (session, 0, 7);
  ok = ok && run_churn (&one, 50, error);
  g_assert_cmpint (good_get (&good.max_active), ==, 7);
  g_assert_cmpuint (good_n_connections (), ==, 7);

  /* two for each host, and one after another to a second host that is none */
  good_reset ();
  belay_http_session_set_max_connections (session, 2, 100);
  both[0] = belay_spawn (churn, &one);
  both[1] = belay_spawn (churn, &one);
  ok = ok && run_churn (&one, 10, error) && run_churn (&other, 10, error);
  ok = ok && belay_await_ok (belay_future_allv (both, 2), error);
  g_assert_cmpint (good_get (&good.max_active), <=, 4);

  /* a limit that is raised is handed out at once */
  good_reset ();
  belay_http_session_set_max_connections (session, 1, 0);
  both[0] = belay_http_get_bytes (session, GOOD ("/slow?100"));
  both[1] = belay_http_get_bytes (session, GOOD ("/slow?100"));
  ok = ok && belay_sleep (20, error);
  g_assert_cmpint (good_get (&good.n_requests), ==, 1);
  belay_http_session_set_max_connections (session, 0, 0);
  ok = ok && belay_await_ok (belay_future_allv (both, 2), error);
  g_assert_cmpint (good_get (&good.max_active), ==, 2);
  return ok;
}

static gboolean
test_cancelled_waiter (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  BelayFuture *first, *waiters[20];

  for (guint per_host = 0; per_host < 2; per_host++)
    {
      good_reset ();
      belay_http_session_set_max_connections (session, per_host, per_host == 0 ? 1 : 0);
      first = belay_http_get_bytes (session, GOOD ("/slow?50"));
      for (guint i = 0; i < G_N_ELEMENTS (waiters); i++)
        waiters[i] = belay_http_get_bytes (session, GOOD ("/slow?1"));
      if (!belay_sleep (5, error))
        return FALSE;
      /* all but the last give up, some by a time-out */
      for (guint i = 0; i < G_N_ELEMENTS (waiters) - 1; i++)
        if (i % 3 == 0)
          assert_fails (belay_future_with_timeout (waiters[i], 1), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "");
        else
          belay_future_unref (waiters[i]);
      if (!belay_await_ok (first, error) || !belay_await_ok (waiters[G_N_ELEMENTS (waiters) - 1], error))
        return FALSE;
      g_assert_cmpint (good_get (&good.n_requests), ==, 2);
      g_assert_cmpuint (good_n_connections (), ==, 1);

      /* the one that runs gives up: the next has its turn */
      first = belay_http_get_bytes (session, BAD ("/silent"));
      waiters[0] = belay_http_get_bytes (session, per_host == 0 ? GOOD ("/hello") : BAD ("/fine"));
      if (!belay_sleep (10, error))
        return FALSE;
      g_assert_true (belay_future_is_pending (waiters[0]));
      belay_future_unref (first);
      if (!belay_await_ok (waiters[0], error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
test_500 (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  BelayFuture *futures[500];

  good_reset ();
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    futures[i] = belay_http_get_bytes (session, GOOD ("/size?2000"));
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    {
      g_autoptr (GBytes) bytes = belay_await (futures[i], error);

      if (bytes == NULL)
        return FALSE;
      g_assert_cmpuint (g_bytes_get_size (bytes), ==, 2000);
    }
  g_assert_cmpint (good_get (&good.n_requests), ==, 500);
  g_assert_cmpuint (good_n_connections (), <=, 100);
  return belay_close (&session, error);
}

/* --- failures --- */

static gboolean
test_urls (gpointer data, GError **error)
{
  static const char *const wrong[] = { "", "hello", "127.0.0.1:80/", "ftp://127.0.0.1/", "file:///etc/passwd",
                                       "http:/x", "http://", "http://[::1", "http://127.0.0.1:123456/", "http://a b/",
                                       "https:///x y", "httpx://127.0.0.1/" };
  static const char *const secret[] = { "http://ada:hun/ter2@127.0.0.1/", "http://ada:hun?ter2@127.0.0.1/a@b", "ada:hun#ter2@127.0.0.1",
                                        "http://ada:hunter2@[::1", "ftp://ada:hun/ter2@127.0.0.1/", "http://ada:1hun/t@er2@a b/" };
  g_autofree char *endless = g_strnfill (9000000, 'x');

  memcpy (endless, "http://127.0.0.1/", strlen ("http://127.0.0.1/"));
  for (guint i = 0; i < G_N_ELEMENTS (wrong); i++)
    assert_fails (belay_http_get (NULL, wrong[i]), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL, wrong[i]);
  assert_fails (belay_http_get (NULL, endless), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL, "xxx…");
  assert_fails (belay_http_get (NULL, "http://\xc3\xa4\xff\n/"), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL,
                "GET http://ä");

  /* a password that should have been escaped is not told either */
  for (guint i = 0; i < G_N_ELEMENTS (secret); i++)
    {
      g_autoptr (GError) local = NULL;

      g_assert_false (belay_await_ok (belay_http_get (NULL, secret[i]), &local));
      g_assert_error (local, BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL);
      g_test_message ("%s", local->message);
      g_assert_null (strstr (local->message, "hun"));
      g_assert_null (strstr (local->message, "ter2"));
    }
  return TRUE;
}

static gboolean
test_no_server (gpointer data, GError **error)
{
  g_autoptr (GSocket) socket = g_socket_new (G_SOCKET_FAMILY_IPV4, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, error);
  g_autoptr (GInetAddress) loopback = g_inet_address_new_loopback (G_SOCKET_FAMILY_IPV4);
  g_autoptr (GSocketAddress) address = g_inet_socket_address_new (loopback, 0);
  g_autoptr (GSocketAddress) bound = NULL;
  g_autofree char *url = NULL;

  /* bound and not listening: nobody else can take the port, and connecting is refused */
  if (!g_socket_bind (socket, address, FALSE, error))
    return FALSE;
  bound = g_socket_get_local_address (socket, error);
  url = g_strdup_printf ("http://127.0.0.1:%d/", g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (bound)));
  assert_fails (belay_http_get (NULL, url), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_CONNECT, url);
  assert_fails (belay_http_get (NULL, "http://something.invalid/"), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_RESOLVE,
                "something.invalid");
  assert_fails (belay_http_get (NULL, at ("https", bad.origin + strlen ("http"))), BELAY_HTTP_ERROR,
                BELAY_HTTP_ERROR_TLS, "https://127.0.0.1");
  return TRUE;
}

static gboolean
test_bad_answers (gpointer data, GError **error)
{
  static const char *const paths[] = { "/garbage", "/nothing", "/short", "/reset", "/half", "/headers",
                                       "/longheader" };
  belay_auto (BelayHttpSession) session = belay_http_session_new ();

  for (guint i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      assert_fails (belay_http_get (session, BAD (paths[i])), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_PROTOCOL, paths[i]);
      assert_gets (session, BAD ("/fine"), "fine");
    }
  assert_fails (belay_http_get (session, BAD ("/longheader")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_PROTOCOL,
                "headers of the answer are too large");
  return belay_close (&session, error);
}

/* No descriptor for one more connection is no fault of the server's. */
static gboolean
test_no_descriptor (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  BelayFuture *future = belay_http_get (session, BAD ("/silent"));
  GArray *files = g_array_new (FALSE, FALSE, sizeof (int));
  g_autoptr (GError) local = NULL;
  struct rlimit before, few;
  int fd;

  g_assert_true (reaches (get_atomic, &bad.n_silent, 1)); /* all else that is needed once is open */
  getrlimit (RLIMIT_NOFILE, &before);
  few = before;
  few.rlim_cur = MIN (few.rlim_cur, 256);
  setrlimit (RLIMIT_NOFILE, &few);
  while ((fd = dup (0)) != -1)
    g_array_append_val (files, fd);
  g_assert_false (belay_await_ok (belay_http_get (session, BAD ("/fine")), &local));
  for (guint i = 0; i < files->len; i++)
    close (g_array_index (files, int, i));
  setrlimit (RLIMIT_NOFILE, &before);
  g_array_unref (files);
  g_assert_error (local, BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_CONNECT);
  g_assert_nonnull (strstr (local->message, "too many open files"));
  assert_gets (session, BAD ("/fine"), "fine");
  belay_future_unref (future);
  return TRUE;
}

static gboolean
test_too_large (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (GBytes) largest = NULL, small = NULL;

  /* declared; not declared; small on the way and large when unpacked */
  assert_fails (belay_http_get (session, BAD ("/huge")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_TOO_LARGE, "67108864");
  assert_fails (belay_http_get (session, BAD ("/endless")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_TOO_LARGE, "67108864");
  belay_http_session_set_max_body_size (session, 10000);
  assert_fails (belay_http_get (session, GOOD ("/size?10001")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_TOO_LARGE,
                "10000");
  assert_fails (belay_http_get (session, GOOD ("/chunked?10001")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_TOO_LARGE,
                "10000");
  assert_fails (belay_http_get (session, GOOD ("/gzip?10001")), BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_TOO_LARGE,
                "10000");
  largest = belay_await (belay_http_get_bytes (session, GOOD ("/chunked?10000")), error);
  if (largest == NULL)
    return FALSE;
  g_assert_cmpuint (g_bytes_get_size (largest), ==, 10000);

  /* larger on the way than unpacked */
  belay_http_session_set_max_body_size (session, 10);
  small = belay_await (belay_http_get_bytes (session, GOOD ("/gzip?10")), error);
  if (small == NULL)
    return FALSE;
  g_assert_cmpuint (g_bytes_get_size (small), ==, 10);

  /* no limit: what a server declares is not believed */
  belay_http_session_set_max_body_size (session, 0);
  belay_http_session_set_timeout (session, 50);
  assert_fails (belay_http_get (session, BAD ("/huge")), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "/huge");
  return TRUE;
}

/* --- time --- */

static gboolean
test_timeout (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  BelayFuture *waiting, *silent, *dribble;
  gint64 begin = g_get_monotonic_time ();

  belay_http_session_set_timeout (session, 1000); /* enough to come so far, however slow the machine */
  belay_http_session_set_max_connections (session, 0, 2);
  silent = belay_http_get (session, BAD ("/silent"));
  dribble = belay_http_get (session, BAD ("/dribble"));
  belay_http_session_set_timeout (session, 100);
  waiting = belay_http_get (session, BAD ("/fine"));
  belay_http_session_set_timeout (session, 100000); /* for later ones */
  assert_fails (waiting, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "100 ms, while waiting for its turn");
  assert_fails (silent, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "1000 ms, while waiting for the answer");
  assert_fails (dribble, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "1000 ms, while reading the answer");
  g_assert_cmpint (g_get_monotonic_time () - begin, >=, 1000000);
  test_assert_soon (begin);

  /* the connections of those are gone, the session is as before */
  good_reset ();
  assert_gets (session, GOOD ("/slow?10"), "late");
  assert_gets (session, BAD ("/fine"), "fine");

  /* the next to time out is not the last one made */
  belay_http_session_set_timeout (session, 200);
  silent = belay_http_get (session, BAD ("/silent"));
  belay_http_session_set_timeout (session, 20);
  dribble = belay_http_get (session, BAD ("/dribble"));
  assert_fails (dribble, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "20 ms");
  g_assert_true (belay_future_is_pending (silent));
  belay_http_session_set_timeout (session, 0);
  assert_gets (session, GOOD ("/slow?50"), "late");
  assert_fails (silent, G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "200 ms");
  return TRUE;
}

/* In another process, whose clock is the virtual one: it stands still for a transfer. */
static gboolean
get_under_virtual_clock (gpointer url, GError **error)
{
  gint64 begin = belay_now ();
  {
    belay_auto (BelayTimeout) limit G_GNUC_UNUSED = belay_timeout (100);
    g_autoptr (GBytes) bytes = belay_await (belay_http_get_bytes (NULL, url), error);

    if (bytes == NULL)
      return FALSE;
  }
  g_assert_cmpint (belay_now (), ==, begin);
  return belay_sleep (3600 * 1000, error); /* and goes on afterwards */
}

static void
test_virtual_clock (void)
{
  const char *argv[] = { program, "--virtual-clock", GOOD ("/slow?300"), NULL };
  g_auto (GStrv) environment = g_environ_setenv (g_get_environ (), "BELAY_DEBUG", "virtual-clock", TRUE);
  g_autoptr (GError) error = NULL;
  int status = -1;

  g_spawn_sync (NULL, (char **) argv, environment, 0, NULL, NULL, NULL, NULL, &status, &error);
  g_assert_no_error (error);
  g_assert_cmpint (status, ==, 0);
}

static gboolean
test_deadline (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  int given_up = get_atomic (&bad.n_given_up);

  good_reset ();
  {
    belay_auto (BelayTimeout) limit = belay_timeout (50);

    assert_fails (belay_http_get (session, BAD ("/silent")), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "");
    g_assert_true (belay_timeout_expired (limit));
    /* past its end nothing begins */
    assert_fails (belay_http_get (session, GOOD ("/hello")), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "");
  }
  g_assert_true (reaches (get_atomic, &bad.n_given_up, given_up + 1));
  g_assert_cmpint (good_get (&good.n_requests), ==, 0);
  assert_gets (session, BAD ("/fine"), "fine");
  return TRUE;
}

/* --- cancellation and drops --- */

static gboolean
get_slowly (gpointer session, GError **error)
{
  return belay_await_ok (belay_http_get (session, BAD ("/silent")), error);
}

static gboolean
test_cancel (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *other = belay_http_get_bytes (session, GOOD ("/slow?100"));
  g_autoptr (GError) cancelled = NULL;
  int given_up = get_atomic (&bad.n_given_up);

  for (int i = 0; i < 10; i++)
    g_assert_true (belay_scope_spawn (scope, get_slowly, session, NULL));
  g_assert_true (reaches (get_atomic, &bad.n_silent, 10));
  belay_scope_cancel (scope, "enough");
  assert_fails (belay_http_get (session, GOOD ("/hello")), G_IO_ERROR, G_IO_ERROR_CANCELLED, "");
  belay_scope_close (&scope, &cancelled);
  g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  if (!belay_await_ok (other, error))
    return FALSE;
  g_assert_true (reaches (get_atomic, &bad.n_given_up, given_up + 10));
  assert_gets (session, GOOD ("/hello"), "hello");
  return TRUE;
}

static gboolean
test_drop (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  BelayFuture *futures[20];
  int given_up = get_atomic (&bad.n_given_up);

  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    futures[i] = belay_http_get_bytes (session, i % 2 == 0 ? BAD ("/silent") : GOOD ("/slow?100"));
  g_assert_true (reaches (get_atomic, &bad.n_silent, 10));
  for (guint i = 0; i < G_N_ELEMENTS (futures); i += 2)
    belay_future_unref (futures[i]);
  for (guint i = 1; i < G_N_ELEMENTS (futures); i += 2)
    if (!belay_await_ok (futures[i], error))
      return FALSE;
  g_assert_true (reaches (get_atomic, &bad.n_given_up, given_up + 10));

  /* dropped before it began, and just when it is done */
  belay_future_unref (belay_http_get (session, GOOD ("/hello")));
  for (int i = 0; i < 50; i++)
    {
      BelayFuture *future = belay_http_get (session, GOOD ("/hello"));

      g_usleep (i * 20);
      belay_yield (NULL);
      belay_future_unref (future);
    }
  assert_gets (session, GOOD ("/hello"), "hello");
  return belay_close (&session, error);
}

/* One waiter that gives up does not take the others' answer away. */
static gboolean
test_shared (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  BelayFuture *future = belay_http_get_bytes (session, GOOD ("/slow?50"));
  g_autoptr (GBytes) bytes = NULL;

  assert_fails (belay_future_with_timeout (belay_future_ref (future), 10), G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "");
  bytes = belay_await (future, error);
  assert_text (bytes, "late");
  return TRUE;
}

typedef struct
{
  pthread_mutex_t lock;
  pthread_cond_t  more;
  GQueue          futures;
  gulong          wait;
} Dropper;

static void
drop_later (Dropper *self, gpointer future)
{
  pthread_mutex_lock (&self->lock);
  g_queue_push_tail (&self->futures, future);
  pthread_cond_signal (&self->more);
  pthread_mutex_unlock (&self->lock);
}

static gpointer
drop_elsewhere (gpointer data)
{
  Dropper *self = data;
  gpointer future;

  for (;;)
    {
      pthread_mutex_lock (&self->lock);
      while ((future = g_queue_pop_head (&self->futures)) == NULL)
        pthread_cond_wait (&self->more, &self->lock);
      pthread_mutex_unlock (&self->lock);
      if (future == self)
        return NULL;
      if (self->wait > 0)
        g_usleep (self->wait);
      belay_future_unref (future);
    }
}

/* Another thread drops the last interest, at any instant: also while it is being answered, or just after. */
static gboolean
test_drop_elsewhere (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  Dropper dropper = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, G_QUEUE_INIT, 0 };
  GThread *thread;
  gboolean ok = TRUE;

  for (dropper.wait = 0; ok && dropper.wait < 400; dropper.wait += 100)
    {
      thread = g_thread_new ("dropper", drop_elsewhere, &dropper);
      for (int i = 0; ok && i < 300; i++)
        {
          BelayFuture *kept = belay_http_get (session, GOOD ("/hello"));

          drop_later (&dropper, belay_http_get (session, GOOD ("/hello")));
          drop_later (&dropper, belay_http_get (session, GOOD ("/hello")));
          ok = belay_await_ok (kept, error);
        }
      drop_later (&dropper, &dropper);
      g_thread_join (thread);
    }
  return ok && belay_close (&session, error);
}

/* --- the end of a session --- */

static gboolean
test_close_waits (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (BelayHttpSession) closed = g_object_ref (session);
  BelayFuture *futures[5];

  belay_http_session_set_max_connections (session, 0, 3);
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    futures[i] = belay_http_get_bytes (session, GOOD ("/slow?50"));
  if (!belay_close (&session, error))
    return FALSE;
  g_assert_null (session);
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    {
      g_assert_true (belay_future_is_resolved (futures[i]));
      belay_future_unref (futures[i]);
    }
  assert_fails (belay_http_get (closed, GOOD ("/hello")), G_IO_ERROR, G_IO_ERROR_CLOSED, "closed");
  belay_http_session_set_timeout (closed, 5);
  belay_http_session_set_max_connections (closed, 5, 5);
  return TRUE;
}

static gboolean
test_close_is_forced (gpointer data, GError **error)
{
  BelayFuture *future;
  g_autoptr (GError) late = NULL;
  gint64 begin = g_get_monotonic_time ();

  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    belay_auto (BelayHttpSession) session = belay_http_session_new ();

    belay_scope_set_release_timeout (scope, 100);
    future = belay_http_get (session, BAD ("/silent"));
    if (!belay_sleep (20, error))
      return FALSE;
    g_assert_false (belay_close (&session, &late));
    g_assert_error (late, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  }
  test_assert_soon (begin);
  assert_fails (future, G_IO_ERROR, G_IO_ERROR_CLOSED, "/silent");
  return TRUE;
}

static gboolean
test_dropped_session (gpointer data, GError **error)
{
  BelayHttpSession *session = belay_http_session_new ();
  BelayFuture *running, *waiting, *begun;

  belay_http_session_set_max_connections (session, 0, 1);
  running = belay_http_get (session, BAD ("/silent"));
  waiting = belay_http_get (session, BAD ("/fine"));
  if (!belay_sleep (20, error))
    return FALSE;
  begun = belay_http_get (session, BAD ("/fine"));
  g_object_unref (session);
  assert_fails (running, G_IO_ERROR, G_IO_ERROR_CLOSED, "/silent");
  assert_fails (waiting, G_IO_ERROR, G_IO_ERROR_CLOSED, "/fine");
  assert_fails (begun, G_IO_ERROR, G_IO_ERROR_CLOSED, "/fine");

  /* one that did nothing, and one that is dropped while names are looked up */
  g_object_unref (belay_http_session_new ());
  session = belay_http_session_new ();
  running = belay_http_get (session, "http://something.invalid/");
  if (!belay_yield (error) || !belay_yield (error))
    return FALSE;
  g_object_unref (session);
  assert_fails (running, G_IO_ERROR, G_IO_ERROR_CLOSED, "something.invalid");
  return TRUE;
}

static gpointer
unref_elsewhere (gpointer session)
{
  g_object_unref (session);
  return NULL;
}

static gboolean
test_dropped_elsewhere (gpointer data, GError **error)
{
  for (int i = 0; i < 20; i++)
    {
      BelayHttpSession *session = belay_http_session_new ();
      BelayFuture *running = belay_http_get (session, BAD ("/silent"));
      GThread *thread;

      if (!belay_sleep (i % 3, error))
        return FALSE;
      thread = g_thread_new ("unref", unref_elsewhere, session);
      assert_fails (running, G_IO_ERROR, G_IO_ERROR_CLOSED, "/silent");
      g_thread_join (thread);
    }
  return TRUE;
}

/* --- settings --- */

static gboolean
test_headers (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  BelayFuture *before;
  g_autoptr (GBytes) bytes = NULL;

  assert_gets (session, GOOD ("/asked?User-Agent"), "belay/" BELAY_VERSION_S);
  assert_gets (session, GOOD ("/asked?Accept"), "*/*");
  bytes = belay_await (belay_http_get_bytes (session, GOOD ("/asked?Accept-Encoding")), error);
  g_assert_nonnull (bytes);
  g_assert_nonnull (g_strstr_len (g_bytes_get_data (bytes, NULL), (gssize) g_bytes_get_size (bytes), "gzip"));

  belay_http_session_set_header (session, "X-Thing", "one");
  before = belay_http_get_bytes (session, GOOD ("/asked?X-Thing"));
  belay_http_session_set_header (session, "x-thing", " two\t");
  assert_gets (session, GOOD ("/asked?X-Thing"), "two");
  g_clear_pointer (&bytes, g_bytes_unref);
  bytes = belay_await (before, error);
  assert_text (bytes, "one");
  belay_http_session_set_header (session, "X-Thing", NULL);
  assert_gets (session, GOOD ("/asked?X-Thing"), "(none)");
  belay_http_session_set_header (session, "X-Thing", "");
  assert_gets (session, GOOD ("/asked?X-Thing"), "");

  belay_http_session_set_header (session, "User-Agent", "mine");
  assert_gets (session, GOOD ("/asked?User-Agent"), "mine");
  belay_http_session_set_header (session, "user-agent", NULL);
  belay_http_session_set_header (session, "Accept", NULL);
  belay_http_session_set_header (session, "Accept-Encoding", NULL);
  assert_gets (session, GOOD ("/asked?User-Agent"), "(none)");
  assert_gets (session, GOOD ("/asked?Accept"), "(none)");
  assert_gets (session, GOOD ("/asked?Accept-Encoding"), "(none)");

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*cannot be a header*");
  belay_http_session_set_header (session, "X-Thing", "a\r\nX-Evil: b");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*cannot be a header*");
  belay_http_session_set_header (session, "X-Thing: b", "a");
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*cannot be a header*");
  belay_http_session_set_header (session, "", "a");
  g_test_assert_expected_messages ();
  assert_gets (session, GOOD ("/asked?X-Thing"), "");

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*the URL is NULL*");
  assert_fails (belay_http_get (session, NULL), BELAY_ERROR, BELAY_ERROR_MISUSE, "belay_http_get");
  g_test_assert_expected_messages ();
  return TRUE;
}

/* --- threads, contexts, other programs' loops --- */

static gpointer
get_on_worker (gpointer session, GError **error)
{
  g_autoptr (BelayFuture) future = belay_http_get_bytes (session, GOOD ("/hello"));

  return belay_future_wait_sync (future, error) ? belay_future_take (future, error) : NULL;
}

static gpointer
drop_on_worker (gpointer session, GError **error)
{
  belay_future_unref (belay_http_get_bytes (session, BAD ("/silent")));
  return g_bytes_new_static ("dropped", 7);
}

static gboolean
test_threads (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (BelayHttpSession) closed = g_object_ref (session);
  GDestroyNotify destroy = (GDestroyNotify) g_bytes_unref;
  g_autoptr (GError) refused = NULL;

  for (int i = 0; i < 20; i++)
    {
      g_autoptr (GBytes) mine = belay_await (belay_thread_run_value (get_on_worker, session, destroy), error);
      g_autoptr (GBytes) kept = belay_await (belay_thread_run_value (get_on_worker, NULL, destroy), error);
      g_autoptr (GBytes) dropped = belay_await (belay_thread_run_value (drop_on_worker, session, destroy), error);

      assert_text (mine, "hello");
      assert_text (kept, "hello");
      assert_text (dropped, "dropped");
    }
  assert_gets (session, GOOD ("/hello"), "hello");
  if (!belay_close (&session, error))
    return FALSE;
  g_assert_null (belay_await (belay_thread_run_value (get_on_worker, closed, destroy), &refused));
  g_assert_error (refused, G_IO_ERROR, G_IO_ERROR_CLOSED);
  return TRUE;
}

static gboolean
get_in_loop (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();

  assert_gets (session, GOOD ("/hello"), "hello");
  assert_gets (NULL, GOOD ("/hello"), "hello");
  return belay_close (&session, error);
}

static gboolean
test_loops (gpointer data, GError **error)
{
  belay_auto (BelayLoop) one = belay_loop_new ("one");
  belay_auto (BelayLoop) two = belay_loop_new ("two");

  for (int i = 0; i < 10; i++)
    {
      BelayFuture *first = belay_loop_spawn (one, get_in_loop, NULL, NULL);
      BelayFuture *second = belay_loop_spawn (two, get_in_loop, NULL, NULL);

      if (!belay_await_ok (belay_future_all (first, second, NULL), error))
        return FALSE;
    }
  return TRUE;
}

/* No fiber, no Belay loop: a plain program that iterates a context. */
static void
test_plain_loop (void)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  BelayHttpSession *session;
  BelayFuture *future, *kept, *silent;
  g_autoptr (GBytes) bytes = NULL;
  GError *error = NULL;

  g_main_context_push_thread_default (context);
  session = belay_http_session_new ();
  future = belay_http_get_bytes (session, GOOD ("/hello"));
  kept = belay_http_get_bytes (NULL, GOOD ("/hello"));
  while (belay_future_is_pending (future) || belay_future_is_pending (kept))
    g_main_context_iteration (context, TRUE);
  bytes = belay_future_take (future, &error);
  assert_text (bytes, "hello");
  belay_future_unref (future);
  belay_future_unref (kept);

  /* nobody iterates when it is dropped */
  future = belay_http_get_bytes (session, BAD ("/silent"));
  g_object_unref (session);
  g_assert_error (belay_future_get_error (future), G_IO_ERROR, G_IO_ERROR_CLOSED);
  belay_future_unref (future);

  /* the context goes, and with it the session that it kept */
  silent = belay_http_get_bytes (NULL, BAD ("/silent"));
  for (int i = 0; i < 5; i++)
    g_main_context_iteration (context, FALSE);
  g_main_context_pop_thread_default (context);
  g_clear_pointer (&context, g_main_context_unref);
  g_assert_error (belay_future_get_error (silent), G_IO_ERROR, G_IO_ERROR_CLOSED);
  belay_future_unref (silent);
}

static gboolean
on_frame (gpointer n)
{
  ++*(int *) n;
  return G_SOURCE_CONTINUE;
}

static gboolean
test_frames (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  Churn many = { session, BAD ("/fine"), 100 };
  int n_frames = 0;
  guint frames = g_timeout_add_full (G_PRIORITY_HIGH_IDLE + 20, 1, on_frame, &n_frames, NULL);
  gint64 begin = g_get_monotonic_time ();
  gboolean ok = run_churn (&many, 32, error);
  gint64 milliseconds = (g_get_monotonic_time () - begin) / 1000;

  g_source_remove (frames);
  g_test_message ("%d frames in %d ms", n_frames, (int) milliseconds);
  g_assert_cmpint (n_frames, >=, milliseconds / 400); /* slow machines have few, and none is shown by one that blocks */
  return ok;
}

static gboolean
test_fork (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  BelayFuture *slow;
  int status;
  pid_t child;

  assert_gets (session, GOOD ("/hello"), "hello");
  good_reset ();
  slow = belay_http_get_bytes (session, GOOD ("/slow?200"));
  g_assert_true (reaches (get_member, &good.n_active, 1));
  child = fork ();
  if (child == 0)
    {
      /* the child drops it: nothing of the parent's is closed or forgotten */
      g_object_unref (session);
      /* by a signal: at an exit valgrind would look for leaks, and find all that only the parent's threads hold */
      kill (getpid (), belay_future_is_rejected (slow) ? SIGUSR1 : SIGUSR2);
    }
  g_assert_cmpint (waitpid (child, &status, 0), ==, child);
  g_assert_true (WIFSIGNALED (status) && WTERMSIG (status) == SIGUSR1);
  if (!belay_await_ok (slow, error))
    return FALSE;
  assert_gets (session, GOOD ("/hello"), "hello");
  g_assert_cmpuint (good_n_connections (), ==, 1);
  return TRUE;
}

/* --- nothing is left --- */

/* Only with the bad server: libsoup's keeps its end of a connection that the client has closed. */
static gboolean
use_everything (gpointer data, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  Churn many = { session, BAD ("/fine"), 10 };
  gboolean ok = run_churn (&many, 64, error);

  for (int i = 0; i < 10; i++)
    belay_future_unref (belay_http_get (session, i % 2 == 0 ? BAD ("/silent") : "http://something.invalid/"));
  return ok && belay_close (&session, error) && test_stale (NULL, error) && test_bad_answers (NULL, error) &&
         test_dropped_session (NULL, error) && test_close_is_forced (NULL, error);
}

static gboolean
test_descriptors (gpointer data, GError **error)
{
  int before;

  if (!use_everything (NULL, error)) /* what is made once */
    return FALSE;
  g_assert_true (reaches (get_atomic, &bad.n_active, 0));
  before = get_n_fds (NULL);
  for (int i = 0; i < 3; i++)
    if (!use_everything (NULL, error))
      return FALSE;
  g_assert_true (reaches (get_atomic, &bad.n_active, 0));
  g_assert_true (reaches (get_n_fds, NULL, before));
  return TRUE;
}

int
main (int argc, char **argv)
{
  static const char *const proxies[] = { "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY" };
  int status;

  for (guint i = 0; i < G_N_ELEMENTS (proxies); i++)
    g_unsetenv (proxies[i]);
  program = argv[0];
  if (argc == 3 && g_str_equal (argv[1], "--virtual-clock"))
    return belay_run (get_under_virtual_clock, argv[2]);
  g_test_init (&argc, &argv, NULL);
  start_servers ();

  test_add_fiber ("/http/an-answer-has-status-url-headers-and-body", test_answer);
  test_add_fiber ("/http/odd-but-proper-answers", test_odd_answers);
  test_add_fiber ("/http/a-trailer-is-no-new-answer", test_trailers);
  test_add_fiber ("/http/a-failure-status-is-an-error-where-success-was-asked-for", test_status);
  test_add_fiber ("/http/compressed-bodies-are-decoded", test_gzip);
  test_add_fiber ("/http/a-compressed-body-that-is-cut-short-is-an-error", test_packed);
  test_add_fiber ("/http/redirects-are-followed-up-to-the-limit", test_redirects);
  test_add_fiber ("/http/credentials-stay-in-their-origin", test_credentials);
  test_add_fiber ("/http/H01-requests-one-after-another-use-one-connection", test_one_connection);
  test_add_fiber ("/http/H02-a-body-that-nobody-reads-leaves-the-connection-usable", test_unread);
  test_add_fiber ("/http/H03-a-server-that-closes-is-not-pooled", test_server_closes);
  test_add_fiber ("/http/H04-a-pooled-connection-that-was-closed-is-replaced", test_stale);
  test_add_fiber ("/http/H05-never-more-connections-than-allowed", test_limits);
  test_add_fiber ("/http/H06-a-cancelled-waiter-leaves-no-trace", test_cancelled_waiter);
  test_add_fiber ("/http/500-requests-at-once", test_500);
  test_add_fiber ("/http/wrong-urls-are-said-to-be-wrong", test_urls);
  test_add_fiber ("/http/no-name-no-server-no-tls", test_no_server);
  test_add_fiber ("/http/bad-answers-are-errors-and-the-session-lives", test_bad_answers);
  test_add_fiber ("/http/no-descriptor-left-is-said", test_no_descriptor);
  test_add_fiber ("/http/a-body-is-never-larger-than-allowed", test_too_large);
  test_add_fiber ("/http/H10-a-timeout-says-what-it-was-at-and-drops-the-connection", test_timeout);
  g_test_add_func ("/http/rule-15-a-virtual-clock-stands-still-for-transfers", test_virtual_clock);
  test_add_fiber ("/http/the-callers-deadline-drops-the-transfer", test_deadline);
  test_add_fiber ("/http/cancelling-drops-only-what-was-cancelled", test_cancel);
  test_add_fiber ("/http/a-dropped-future-drops-only-its-transfer", test_drop);
  test_add_fiber ("/http/one-waiter-that-gives-up-does-not-end-the-others", test_shared);
  test_add_fiber ("/http/futures-may-be-dropped-by-other-threads-at-any-instant", test_drop_elsewhere);
  test_add_fiber ("/http/close-waits-for-what-is-under-way", test_close_waits);
  test_add_fiber ("/http/a-close-that-takes-too-long-is-forced", test_close_is_forced);
  test_add_fiber ("/http/a-session-that-is-dropped-fails-its-transfers", test_dropped_session);
  test_add_fiber ("/http/a-session-may-be-dropped-by-another-thread", test_dropped_elsewhere);
  test_add_fiber ("/http/headers-are-set-replaced-and-taken-out", test_headers);
  test_add_fiber ("/http/requests-from-other-threads-are-handed-over", test_threads);
  test_add_fiber ("/http/each-loop-has-its-own", test_loops);
  g_test_add_func ("/http/a-plain-main-loop-will-do", test_plain_loop);
  test_add_fiber ("/http/a-busy-session-lets-frames-through", test_frames);
  test_add_fiber ("/http/a-forked-child-leaves-the-parents-connections-alone", test_fork);
  test_add_fiber ("/http/no-descriptor-is-left", test_descriptors);
  status = g_test_run ();

  stop_servers ();
  return status;
}
