/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors: what libcurl says, as a GError.
 *
 * A message has the form "GET URL: WHAT HAPPENED (LIBCURL'S WORDS); WHAT TO DO". The code says which of a caller's
 * answers fits (correct the URL, try again later, raise a limit), so it is coarser than libcurl's hundred codes; the
 * words in brackets keep the rest.
 *
 *  E1  A password in a URL never gets into a message: messages end in logs. Not even one that makes the URL malformed,
 *      by a character such as '/' that would have to be escaped: where the host's port is no number, what is before
 *      the last '@' is taken for a password.
 *  E2  A URL is shown on one line and cut after some 200 bytes, valid UTF-8 whatever it was.
 *  E3  CURLE_UNSUPPORTED_PROTOCOL has two meanings: a scheme that we do not allow (which only a redirect can bring,
 *      since the caller's URL was looked at before) and an answer that is no HTTP we know. Where the redirects had led
 *      to tells them apart, or, when libcurl could not even read that, that the answer says where to.
 *  E4  CURLE_OPERATION_TIMEDOUT is no time-out of ours (those are G_IO_ERROR_TIMED_OUT and never come from libcurl):
 *      it is a connection that was not there after minutes.
 */
#include "http/http-error.h"

#include <errno.h>
#include <string.h>

#define SHOWN_URL 200

G_DEFINE_QUARK (belay-http-error-quark, belay_http_error)

static gboolean
has_http_scheme (const char *url)
{
  if (G_LIKELY (strncmp (url, "http://", strlen ("http://")) == 0))
    return TRUE;
  return g_ascii_strncasecmp (url, "http://", strlen ("http://")) == 0 ||
         g_ascii_strncasecmp (url, "https://", strlen ("https://")) == 0;
}

char *
belay_http_show_url (const char *url)
{
  const char *authority = strstr (url, "://");
  const char *user_end = NULL, *colon = NULL, *p;
  GString *shown;
  char *valid;

  authority = authority != NULL ? authority + strlen ("://") : url;
  for (p = authority; *p != '\0' && strchr ("/?#", *p) == NULL; p++)
    {
      if (*p == ':' && colon == NULL)
        colon = p;
      else if (*p == '@')
        user_end = p;
    }
  if (user_end == NULL && colon != NULL && *authority != '[' && colon + 1 + strspn (colon + 1, "0123456789") != p)
    user_end = strrchr (p, '@');

  shown = g_string_sized_new (SHOWN_URL + 16);
  for (p = url; *p != '\0' && shown->len <= SHOWN_URL; p++)
    {
      if (user_end != NULL && p == colon && p < user_end) /* E1 */
        {
          g_string_append (shown, ":***");
          p = user_end - 1;
        }
      else
        {
          g_string_append_c (shown, g_ascii_iscntrl (*p) ? '?' : *p);
        }
    }
  if (*p != '\0')
    {
      while (shown->len > 0 && ((guchar) shown->str[shown->len - 1] & 0xc0) == 0x80)
        g_string_truncate (shown, shown->len - 1);
      g_string_truncate (shown, shown->len - 1); /* the character that those bytes belonged to, whole or not */
      g_string_append (shown, "…");
    }
  valid = g_utf8_make_valid (shown->str, (gssize) shown->len);
  g_string_free (shown, TRUE);
  return valid;
}

gboolean
belay_http_check_url (const char *url, GError **error)
{
  g_autofree char *shown = NULL;

  if (G_LIKELY (has_http_scheme (url)))
    return TRUE;
  shown = belay_http_show_url (url);
  if (strstr (url, "://") != NULL)
    g_set_error (error, BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL,
                 "GET %s: the scheme is neither http nor https; use a URL that begins with http:// or https://", shown);
  else
    g_set_error (error, BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_URL,
                 "GET %s: this is no whole URL; begin it with http:// or https://", shown);
  return FALSE;
}

/* What happened, in our words, and what to do about it. */
typedef struct
{
  BelayHttpError code;
  const char    *what;
  const char    *advice;
} Verdict;

static Verdict
judge (const BelayHttpFailure *failure)
{
  const char *where = failure->effective_url != NULL ? failure->effective_url : failure->url;

  switch ((int) failure->code)
    {
    case CURLE_URL_MALFORMAT:
      if (failure->answered)
        return (Verdict) { BELAY_HTTP_ERROR_URL, "it redirects to a URL that is malformed", "tell the server's owner" };
      return (Verdict) { BELAY_HTTP_ERROR_URL, "the URL is malformed", "correct it" };
    case CURLE_UNSUPPORTED_PROTOCOL:
      if (failure->location != NULL || !has_http_scheme (where)) /* E3 */
        return (Verdict) { BELAY_HTTP_ERROR_URL, "it redirects to a URL that is neither http nor https",
                           "fetch that one by other means" };
      if (!failure->answered)
        return (Verdict) { BELAY_HTTP_ERROR_PROTOCOL, "the answer is no HTTP",
                           "check that host and port are those of a web server" };
      return (Verdict) { BELAY_HTTP_ERROR_PROTOCOL, "the answer is of no version of HTTP that is known",
                         "check that host and port are those of a web server" };
    case CURLE_COULDNT_RESOLVE_HOST:
      return (Verdict) { BELAY_HTTP_ERROR_RESOLVE, "the host's name does not resolve",
                         "check its spelling and this machine's connection" };
    case CURLE_COULDNT_RESOLVE_PROXY:
      return (Verdict) { BELAY_HTTP_ERROR_RESOLVE, "the proxy's name does not resolve",
                         "check http_proxy and https_proxy in the environment" };
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT: /* E4 */
    case CURLE_INTERFACE_FAILED:
      if (failure->no_socket == EMFILE || failure->no_socket == ENFILE)
        return (Verdict) { BELAY_HTTP_ERROR_CONNECT, "too many open files for one more connection",
                           "raise the limit (ulimit -n), or lower belay_http_session_set_max_connections()" };
      if (failure->no_socket != 0)
        return (Verdict) { BELAY_HTTP_ERROR_CONNECT, "no socket for a connection", "see what this machine is short of" };
      return (Verdict) { BELAY_HTTP_ERROR_CONNECT, "no connection to the host",
                         "check that the server runs and that host and port are right" };
#if CURL_AT_LEAST_VERSION(7, 73, 0)
    case CURLE_PROXY:
      return (Verdict) { BELAY_HTTP_ERROR_CONNECT, "the proxy gave no connection",
                         "check http_proxy and https_proxy in the environment" };
#endif
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
      return (Verdict) { BELAY_HTTP_ERROR_TLS, "the server's certificate is not trusted",
                         "check the host's name, and that its authority is among this machine's" };
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_SHUTDOWN_FAILED:
    case CURLE_USE_SSL_FAILED:
#if CURL_AT_LEAST_VERSION(7, 77, 0)
    case CURLE_SSL_CLIENTCERT:
#endif
      return (Verdict) { BELAY_HTTP_ERROR_TLS, "the TLS handshake failed",
                         "check that the port speaks TLS, or use http://" };
    case CURLE_GOT_NOTHING:
      return (Verdict) { BELAY_HTTP_ERROR_PROTOCOL, "the server closed the connection without an answer",
                         "ask again, or see the server's log" };
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_HTTP2_STREAM:
      return (Verdict) { BELAY_HTTP_ERROR_PROTOCOL, "the connection broke before the answer was complete",
                         "ask again, or see the server's log" };
    case CURLE_BAD_CONTENT_ENCODING: /* of the transfer; that of the body is ours */
      return (Verdict) { BELAY_HTTP_ERROR_PROTOCOL, "the body cannot be decoded", "see how the server compresses" };
    case CURLE_BAD_FUNCTION_ARGUMENT: /* a trailer that is no header: libcurl's function does not take it */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_HTTP3:
    case CURLE_CHUNK_FAILED:
      return (Verdict) { BELAY_HTTP_ERROR_PROTOCOL, "the answer is no proper HTTP",
                         "check that host and port are those of a web server" };
#if CURL_AT_LEAST_VERSION(8, 6, 0)
    case CURLE_TOO_LARGE:
#endif
    case CURLE_OUT_OF_MEMORY: /* what older ones say of a header beyond 100 KB */
      if (failure->in_headers)
        return (Verdict) { BELAY_HTTP_ERROR_PROTOCOL, "the headers of the answer are too large", "see what the server sends" };
      return (Verdict) { BELAY_HTTP_ERROR_FAILED, "not enough memory", "ask again" };
    case CURLE_TOO_MANY_REDIRECTS:
      return (Verdict) { BELAY_HTTP_ERROR_REDIRECTS, "too many redirects",
                         "see whether the server redirects in a circle, or raise "
                         "belay_http_session_set_max_redirects()" };
    case CURLE_FILESIZE_EXCEEDED:
      return (Verdict) { BELAY_HTTP_ERROR_TOO_LARGE, "the body is too large",
                         "raise belay_http_session_set_max_body_size()" };
    default:
      return (Verdict) { BELAY_HTTP_ERROR_FAILED, "the transfer failed", "ask again" };
    }
}

GError *
belay_http_error_new (const BelayHttpFailure *failure)
{
  Verdict verdict = judge (failure);
  const char *detail = failure->no_socket != 0 ? g_strerror (failure->no_socket)
                       : failure->in_headers && failure->code == CURLE_OUT_OF_MEMORY ? "more than 100 KB in one"
                       : failure->detail != NULL && *failure->detail != '\0' ? failure->detail
                                                                             : curl_easy_strerror (failure->code);
  const char *led_to = failure->effective_url;
  g_autofree char *shown = belay_http_show_url (failure->url);
  g_autofree char *valid = g_utf8_make_valid (detail, -1);
  g_autofree char *redirected = NULL;

  if (failure->location != NULL && (failure->code == CURLE_UNSUPPORTED_PROTOCOL || failure->code == CURLE_URL_MALFORMAT))
    led_to = failure->location; /* which is what is wrong */
  if (led_to != NULL)
    {
      g_autofree char *to = belay_http_show_url (led_to);

      redirected = g_strdup_printf (", redirected to %s", to);
    }
  return g_error_new (BELAY_HTTP_ERROR, (int) verdict.code, "GET %s%s: %s (%s); %s", shown,
                      redirected != NULL ? redirected : "", verdict.what, g_strstrip (valid), verdict.advice);
}

GError *
belay_http_error_closed (const char *url)
{
  g_autofree char *shown = belay_http_show_url (url);

  return g_error_new (G_IO_ERROR, G_IO_ERROR_CLOSED,
                      "GET %s: the session is closed; keep it open until its requests are done", shown);
}

GError *
belay_http_error_cancelled (const char *url)
{
  g_autofree char *shown = belay_http_show_url (url);

  return g_error_new (G_IO_ERROR, G_IO_ERROR_CANCELLED, "GET %s: nobody waits for it any more", shown);
}

GError *
belay_http_error_timed_out (const char *url, gint64 milliseconds, const char *doing)
{
  g_autofree char *shown = belay_http_show_url (url);

  return g_error_new (G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                      "GET %s: not done within %" G_GINT64_FORMAT " ms, while %s; ask again later, or raise "
                      "belay_http_session_set_timeout()",
                      shown, milliseconds, doing);
}

GError *
belay_http_error_too_large (const char *url, gsize max)
{
  g_autofree char *shown = belay_http_show_url (url);

  return g_error_new (BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_TOO_LARGE,
                      "GET %s: the body is larger than %" G_GSIZE_FORMAT " bytes; raise "
                      "belay_http_session_set_max_body_size() if it is to be taken",
                      shown, max);
}

GError *
belay_http_error_status (const char *url, guint status, const char *status_line)
{
  const char *reason = strchr (status_line, ' ');
  g_autofree char *shown = belay_http_show_url (url);
  g_autofree char *valid = NULL;

  /* "HTTP/1.1 404 Not Found": the reason is what follows the second space, and may be absent */
  reason = reason != NULL ? strchr (reason + 1, ' ') : NULL;
  valid = g_utf8_make_valid (reason != NULL ? reason : "", -1);
  g_strstrip (valid);
  return g_error_new (BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_STATUS,
                      "GET %s: the server answered %u%s%s; to read such an answer use belay_http_get()", shown, status,
                      *valid != '\0' ? " " : "", valid);
}

GError *
belay_http_error_failed (const char *url, int code, const char *why)
{
  g_autofree char *shown = belay_http_show_url (url);

  return g_error_new (BELAY_HTTP_ERROR, code, "GET %s: %s", shown, why);
}
