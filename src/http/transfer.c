/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Transfers: an easy handle of libcurl's, and what it receives for one request at a time.
 *
 * Words. The *head* is the status line and the header lines of the last answer. A *plain* transfer succeeded with one
 * request: libcurl neither followed a redirect nor repeated what it had sent on a connection that the server was just
 * closing.
 *
 * Making and setting up an easy handle costs more than a small request, so transfers are pooled. The handle points to
 * its transfer for good; after a plain transfer it is used again by setting the URL alone.
 *
 * Invariants
 *   1. A handle is reset when its settings change, and after whatever was not plain: then no state of another request
 *      is in it (credentials, a place that a redirect led to, libcurl's count of repetitions, which it never resets
 *      itself, so that after five in a handle's whole life it would give up). libcurl does not say that it repeated
 *      something, but a connection is closed then, so a transfer during which any was closed counts as not plain.
 *   2. Nor is one with credentials in its URL.
 *   3. The body has its size at once where the server declares one, up to RESERVE; else it doubles. It never becomes
 *      larger than the settings allow, whatever a server declares or a few compressed bytes unpack to. Memory for it
 *      is the one thing here whose lack is no abort.
 *   4. The body's memory becomes the GBytes; it is copied at no time after libcurl has written it here. One byte behind it
 *      is a 0, for those who take it for a string.
 *   5. libcurl has no time-outs: the time of a request is counted in request.c. Its bound on connecting, 300 s, cannot
 *      be switched off, only raised, and that costs a timer for each transfer, 4 % of a small GET; so it is raised
 *      where a new connection is to be expected. (The kernel gives up sooner in any case.)
 *
 *   6. libcurl gives the body as it was sent; decoder.c unpacks it.
 *
 * What each request costs in libcurl is mostly formatting, character by character. So: no look into the environment for a
 * proxy when there was none as the handle was set up (five getenv(), which other threads' setenv() could disturb, too).
 */
#include "http/transfer.h"

#include "http/http-error.h"
#include "http/response.h"

#include <belay/belay-test.h>
#include <errno.h>
#include <string.h>

#define RESERVE   ((gsize) 256 * 1024 * 1024)
#define BODY_MIN  ((gsize) 4096)
#define HEAD_MIN  ((gsize) 1024)
#define HEAD_MAX  ((gsize) 1024 * 1024)
#define HEAD_KEEP ((gsize) 16 * 1024) /* more is not kept in the pool */
#define NO_LIMIT  2000000L            /* seconds; the most that libcurl counts is a little more */

/* --- what libcurl calls --- */

static gboolean
append_head (BelayHttpTransfer *self, const char *string, gsize length)
{
  if (G_UNLIKELY (self->head_size - self->head_length <= length))
    {
      gsize size = MAX (HEAD_MIN, self->head_size * 2);

      while (size - self->head_length <= length)
        size *= 2;
      if (size > HEAD_MAX)
        {
          self->fault = BELAY_HTTP_FAULT_HEADERS;
          return FALSE;
        }
      self->head = g_realloc (self->head, size);
      self->head_size = size;
    }
  memcpy (self->head + self->head_length, string, length);
  self->head[self->head_length + length] = '\0';
  self->head_length += length + 1;
  return TRUE;
}

static inline gboolean
is_blank (char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void
strip (const char **string, gsize *length)
{
  while (*length > 0 && is_blank ((*string)[*length - 1]))
    --*length;
  while (*length > 0 && is_blank (**string))
    {
      ++*string;
      --*length;
    }
}

static gboolean
add_line (BelayHttpTransfer *self, const char *line, gsize length)
{
  const char *colon = memchr (line, ':', length);
  gsize name_length = colon != NULL ? (gsize) (colon - line) : 0;
  const char *value = line + name_length;
  gsize value_length = length - name_length;

  if (memchr (line, '\0', length) != NULL)
    {
      self->fault = BELAY_HTTP_FAULT_HEADERS;
      return FALSE;
    }
  if (is_blank (*line))
    {
      /* the rest of the line before, as it was done long ago */
      strip (&line, &length);
      if (self->head_length == 0 || length == 0)
        return TRUE;
      self->head[--self->head_length] = ' ';
      self->head_length++;
      return append_head (self, line, length);
    }
  if (colon == NULL)
    return TRUE; /* libcurl has let it pass; nobody could ask for it */
  value++;
  value_length--;
  strip (&line, &name_length);
  strip (&value, &value_length);
  return append_head (self, line, name_length) && append_head (self, value, value_length);
}

/* "HTTP/1.1 200", "HTTP/2 200": no header has such a name. */
static gboolean
is_status_line (const char *line, gsize length)
{
  const char *space;

  if (length < 10 || memcmp (line, "HTTP/", 5) != 0 || !g_ascii_isdigit (line[5]))
    return FALSE;
  space = memchr (line, ' ', length - 1);
  return space != NULL && g_ascii_isdigit (space[1]) && memchr (line, ':', (gsize) (space - line)) == NULL;
}

static gboolean
is_header (const char *line, gsize length, const char *name)
{
  gsize name_length = strlen (name);

  return length > name_length && line[name_length] == ':' && g_ascii_strncasecmp (line, name, name_length) == 0;
}

/* CURLOPT_HEADERFUNCTION: one line, with its end */
static size_t
on_header (char *line, size_t size, size_t count, void *data)
{
  BelayHttpTransfer *self = data;
  gsize length = size * count;

  if ((self->head_ended || self->head_length == 0) && self->body_length == 0 &&
      self->decoder.converter == NULL && is_status_line (line, length))
    {
      /* The first answer, or one after "100 Continue" or a redirect (whose body libcurl keeps to itself): only the last
       * counts. After a body there is none, whatever a trailer says. */
      const char *status_line = line;

      self->head_length = 0;
      self->head_ended = FALSE;
      self->decoder.coding = BELAY_HTTP_CODING_NONE;
      g_clear_pointer (&self->location, g_free);
      strip (&status_line, &length);
      if (memchr (status_line, '\0', length) != NULL || !append_head (self, status_line, length))
        return CURL_WRITEFUNC_ERROR;
    }
  else if (!self->head_ended)
    {
      if (*line == '\r' || *line == '\n')
        self->head_ended = TRUE;
      else if (is_header (line, length, "Content-Encoding"))
        belay_http_decoder_add (&self->decoder, line + strlen ("Content-Encoding:"), length - strlen ("Content-Encoding:"));
      else if (is_header (line, length, "Location") && self->location == NULL)
        self->location = g_strstrip (g_strndup (line + strlen ("Location:"), length - strlen ("Location:")));
      if (!self->head_ended && self->keep_lines && !add_line (self, line, length))
        return CURL_WRITEFUNC_ERROR;
    }
  /* what comes after the end is a trailer of the body: nobody can have been told to look for it */
  return size * count;
}

/* Makes room for @more bytes. Cold: the usual body declares its size. */
static G_GNUC_NO_INLINE gboolean
grow_body (BelayHttpTransfer *self, gsize more)
{
  gsize max = self->settings->max_body;
  gsize needed = self->body_length + more + 1; /* the 0 behind it */
  gsize size = MAX (self->body_size * 2, MAX (needed, BODY_MIN));
  char *body;

  if (self->body_length == 0)
    {
      curl_off_t declared = -1;

      curl_easy_getinfo (self->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &declared);
      if (declared > 0 && (guint64) declared > max && self->decoder.coding == BELAY_HTTP_CODING_NONE)
        {
          self->fault = BELAY_HTTP_FAULT_TOO_LARGE;
          return FALSE;
        }
      if (declared > 0)
        size = MAX (needed, (gsize) MIN ((guint64) declared, RESERVE) + 1);
    }
  size = MAX (needed, MIN (size - 1, max) + 1);
  body = belay_test_try_realloc (self->body, size);
  if (body == NULL && size > needed)
    body = belay_test_try_realloc (self->body, size = needed);
  if (body == NULL)
    {
      self->fault = BELAY_HTTP_FAULT_MEMORY;
      return FALSE;
    }
  self->body = body;
  self->body_size = size;
  return TRUE;
}

/* Cold: what is compressed is worth its while. */
static G_GNUC_NO_INLINE gboolean
decode_body (BelayHttpTransfer *self, const char *bytes, gsize length)
{
  gsize max = self->settings->max_body;
  gsize written = 0, room;

  do
    {
      char beyond, *to = &beyond; /* of the limit: that something comes there is enough to know */

      room = 1;
      if (self->body_length < max)
        {
          if (self->body_size - self->body_length <= 1 && !grow_body (self, 1))
            return FALSE;
          to = self->body + self->body_length;
          room = MIN (self->body_size - 1, max) - self->body_length;
        }
      if (!belay_http_decoder_step (&self->decoder, &bytes, &length, to, room, &written))
        {
          self->fault = BELAY_HTTP_FAULT_CODING;
          return FALSE;
        }
      if (to == &beyond && written > 0)
        {
          self->fault = BELAY_HTTP_FAULT_TOO_LARGE;
          return FALSE;
        }
      self->body_length += written;
    }
  while (length > 0 || written == room);
  return TRUE;
}

/* CURLOPT_WRITEFUNCTION */
static size_t
on_body (char *bytes, size_t size, size_t count, void *data)
{
  BelayHttpTransfer *self = data;
  gsize length = size * count;

  if (G_UNLIKELY (self->decoder.coding != BELAY_HTTP_CODING_NONE))
    return decode_body (self, bytes, length) ? length : CURL_WRITEFUNC_ERROR;
  if (G_UNLIKELY (length > self->settings->max_body - self->body_length))
    {
      self->fault = BELAY_HTTP_FAULT_TOO_LARGE;
      return CURL_WRITEFUNC_ERROR;
    }
  if (length >= self->body_size - self->body_length && !grow_body (self, length))
    return CURL_WRITEFUNC_ERROR;
  memcpy (self->body + self->body_length, bytes, length);
  self->body_length += length;
  return length;
}

/* CURLOPT_OPENSOCKETFUNCTION */
static curl_socket_t
on_socket (void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
  BelayHttpTransfer *self = data;
  curl_socket_t fd = belay_http_sockets_socket (self->sockets, purpose, address);

  if (G_UNLIKELY (fd == CURL_SOCKET_BAD))
    self->no_socket = errno; /* libcurl forgets it, and says that it cannot connect */
  return fd;
}

/* --- one after another --- */

BelayHttpTransfer *
belay_http_transfer_new (BelayHttpSockets *sockets)
{
  CURL *easy = curl_easy_init ();
  BelayHttpTransfer *self;

  if (easy == NULL)
    return NULL;
  self = g_new0 (BelayHttpTransfer, 1);
  self->easy = easy;
  self->sockets = sockets;
  return self;
}

void
belay_http_transfer_free (BelayHttpTransfer *self)
{
  curl_easy_cleanup (self->easy);
  g_clear_pointer (&self->settings, belay_http_settings_unref);
  belay_http_decoder_reset (&self->decoder);
  g_free (self->location);
  g_free (self->head);
  g_free (self->body);
  g_free (self);
}

static gboolean
environment_has_proxy (void)
{
  static const char *const names[] = { "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY" };

  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    if (g_getenv (names[i]) != NULL)
      return TRUE;
  return FALSE;
}

/* Everything but the URL. Only what allocates can fail. */
static gboolean
apply (BelayHttpTransfer *self, BelayHttpSettings *settings)
{
  CURL *easy = self->easy;

  curl_easy_reset (easy);
  g_clear_pointer (&self->settings, belay_http_settings_unref);
  curl_easy_setopt (easy, CURLOPT_PRIVATE, self);
  curl_easy_setopt (easy, CURLOPT_ERRORBUFFER, self->words);
  curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt (easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt (easy, CURLOPT_HEADERDATA, self);
  curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt (easy, CURLOPT_WRITEDATA, self);
  curl_easy_setopt (easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
  curl_easy_setopt (easy, CURLOPT_OPENSOCKETDATA, self);
  curl_easy_setopt (easy, CURLOPT_CLOSESOCKETFUNCTION, belay_http_sockets_close);
  curl_easy_setopt (easy, CURLOPT_CLOSESOCKETDATA, self->sockets);
#if CURL_AT_LEAST_VERSION(7, 87, 0)
  curl_easy_setopt (easy, CURLOPT_QUICK_EXIT, 1L);
#endif
  curl_easy_setopt (easy, CURLOPT_HTTP09_ALLOWED, 0L);
  curl_easy_setopt (easy, CURLOPT_HTTP_CONTENT_DECODING, 0L); /* 6 */
  curl_easy_setopt (easy, CURLOPT_FOLLOWLOCATION, settings->max_redirects > 0 ? 1L : 0L);
  curl_easy_setopt (easy, CURLOPT_MAXREDIRS, (long) MIN (settings->max_redirects, (guint) G_MAXINT16));
  curl_easy_setopt (easy, CURLOPT_HTTPHEADER, settings->headers);
  if ((!environment_has_proxy () && curl_easy_setopt (easy, CURLOPT_NOPROXY, "*") != CURLE_OK) ||
#if CURL_AT_LEAST_VERSION(7, 85, 0)
      curl_easy_setopt (easy, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK ||
      curl_easy_setopt (easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https") != CURLE_OK)
#else
      curl_easy_setopt (easy, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS) != CURLE_OK ||
      curl_easy_setopt (easy, CURLOPT_REDIR_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS) != CURLE_OK)
#endif
    return FALSE;
  self->long_connect = FALSE;
  self->settings = belay_http_settings_ref (settings);
  return TRUE;
}

gboolean
belay_http_transfer_begin (BelayHttpTransfer *self, BelayHttpRequest *request, guint n_running)
{
  gboolean long_connect = self->sockets->n_open < n_running; /* no connection can be idle */
  CURLcode code = CURLE_OUT_OF_MEMORY;

  if (G_LIKELY (self->settings == request->settings) || apply (self, request->settings))
    code = curl_easy_setopt (self->easy, CURLOPT_URL, request->url);
  if (G_UNLIKELY (code != CURLE_OK))
    {
      request->error = code == CURLE_OUT_OF_MEMORY
                         ? belay_http_error_failed (request->url, BELAY_HTTP_ERROR_FAILED, "not enough memory")
                         : belay_http_error_failed (request->url, BELAY_HTTP_ERROR_URL, "the URL is too long");
      return FALSE;
    }
  if (G_UNLIKELY (long_connect != self->long_connect))
    {
      curl_easy_setopt (self->easy, CURLOPT_CONNECTTIMEOUT, long_connect ? NO_LIMIT : 0L);
      self->long_connect = long_connect;
    }
  self->request = request;
  self->n_closed = self->sockets->n_closed;
  self->keep_lines = request->wants == BELAY_HTTP_WANTS_RESPONSE;
  self->head_ended = FALSE;
  self->fault = BELAY_HTTP_FAULT_NONE;
  self->head_length = 0;
  self->body_length = 0;
  self->no_socket = 0;
  self->words[0] = '\0';
  return TRUE;
}

/* Invariants 1 and 2: whatever was not plain must be set up anew. */
static void
forget (BelayHttpTransfer *self, gboolean plain)
{
  if (G_UNLIKELY (!plain || strchr (self->request->url, '@') != NULL))
    g_clear_pointer (&self->settings, belay_http_settings_unref);
  self->request = NULL;
  if (G_UNLIKELY (self->decoder.coding != BELAY_HTTP_CODING_NONE))
    belay_http_decoder_reset (&self->decoder);
  if (G_UNLIKELY (self->body != NULL))
    g_clear_pointer (&self->body, g_free);
  self->body_size = 0;
  if (G_UNLIKELY (self->location != NULL))
    g_clear_pointer (&self->location, g_free);
  if (G_UNLIKELY (self->head_size > HEAD_KEEP))
    {
      g_clear_pointer (&self->head, g_free);
      self->head_size = 0;
    }
}

static GBytes *
take_body (BelayHttpTransfer *self)
{
  gsize length = self->body_length, spare = self->body_size - length;
  char *body = g_steal_pointer (&self->body);

  if (length == 0)
    {
      g_free (body);
      return g_bytes_new_static ("", 0);
    }
  if (spare > length / 8 + 64)
    {
      char *smaller = belay_test_try_realloc (body, length + 1);

      body = smaller != NULL ? smaller : body;
    }
  body[length] = '\0';
  return g_bytes_new_take (body, length);
}

static gboolean
was_redirected (BelayHttpTransfer *self)
{
  long n = 0;

  curl_easy_getinfo (self->easy, CURLINFO_REDIRECT_COUNT, &n);
  return n > 0;
}

static void
succeed (BelayHttpTransfer *self)
{
  BelayHttpRequest *request = self->request;
  const char *url = request->url;
  long status = 0;

  curl_easy_getinfo (self->easy, CURLINFO_RESPONSE_CODE, &status);
  if (G_UNLIKELY (request->wants == BELAY_HTTP_WANTS_BYTES && status >= 400))
    {
      request->error = belay_http_error_status (url, (guint) status, self->head_length > 0 ? self->head : "");
      return;
    }
  if (request->wants == BELAY_HTTP_WANTS_BYTES)
    {
      request->value = take_body (self);
      return;
    }
  if (G_UNLIKELY (was_redirected (self)))
    curl_easy_getinfo (self->easy, CURLINFO_EFFECTIVE_URL, (char **) &url);
  request->value = belay_http_response_new ((guint) status, url, self->head, self->head_length, take_body (self));
}

static void
fail (BelayHttpTransfer *self, CURLcode code)
{
  BelayHttpRequest *request = self->request;
  BelayHttpFailure failure = { .code = code, .url = request->url, .detail = self->words };
  char *effective_url = NULL;

  switch (self->fault)
    {
    case BELAY_HTTP_FAULT_TOO_LARGE:
      request->error = belay_http_error_too_large (request->url, self->settings->max_body);
      return;
    case BELAY_HTTP_FAULT_HEADERS:
      request->error = belay_http_error_failed (request->url, BELAY_HTTP_ERROR_PROTOCOL,
                                                "the headers of the answer are broken, or have no end");
      return;
    case BELAY_HTTP_FAULT_CODING:
      request->error = belay_http_error_failed (request->url, BELAY_HTTP_ERROR_PROTOCOL,
                                                "the body cannot be decoded; see how the server compresses");
      return;
    case BELAY_HTTP_FAULT_CUT:
      request->error = belay_http_error_failed (request->url, BELAY_HTTP_ERROR_PROTOCOL,
                                                "the compressed body ends before it is complete; ask again, or see the "
                                                "server's log");
      return;
    case BELAY_HTTP_FAULT_MEMORY:
      request->error = belay_http_error_failed (request->url, BELAY_HTTP_ERROR_FAILED,
                                                "not enough memory for the body");
      return;
    case BELAY_HTTP_FAULT_NONE:
      break;
    }
  if (was_redirected (self))
    curl_easy_getinfo (self->easy, CURLINFO_EFFECTIVE_URL, &effective_url);
  failure.effective_url = effective_url;
  failure.location = self->location;
  failure.no_socket = self->no_socket;
  failure.answered = self->head_length > 0;
  failure.in_headers = failure.answered && !self->head_ended;
  request->error = belay_http_error_new (&failure);
}

void
belay_http_transfer_finish (BelayHttpTransfer *self, CURLcode code)
{
  gboolean plain = code == CURLE_OK && self->sockets->n_closed == self->n_closed && !was_redirected (self);

  if (G_UNLIKELY (code == CURLE_OK && belay_http_decoder_is_cut (&self->decoder)))
    {
      self->fault = BELAY_HTTP_FAULT_CUT;
      code = CURLE_PARTIAL_FILE;
    }
  if (G_LIKELY (code == CURLE_OK))
    succeed (self);
  else
    fail (self, code);
  forget (self, plain);
}

void
belay_http_transfer_drop (BelayHttpTransfer *self)
{
  forget (self, FALSE);
}

const char *
belay_http_transfer_doing (BelayHttpTransfer *self)
{
  curl_off_t sent = 0;

  curl_easy_getinfo (self->easy, CURLINFO_PRETRANSFER_TIME_T, &sent);
  if (sent == 0)
    return "connecting";
  if (self->head_length == 0)
    return "waiting for the answer";
  return "reading the answer";
}
