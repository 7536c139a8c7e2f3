/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* HTTP sessions on libcurl, inside the main loop. Link with belay-http-1. */
#pragma once

#include <belay/belay.h>

G_BEGIN_DECLS

/**
 * BELAY_HTTP_ERROR:
 *
 * The domain of HTTP's errors. For %BELAY_HTTP_ERROR_STATUS the message holds the status. Time-outs are
 * %G_IO_ERROR_TIMED_OUT, cancelled transfers %G_IO_ERROR_CANCELLED.
 */
#define BELAY_HTTP_ERROR (belay_http_error_quark ())
BELAY_AVAILABLE_IN_1_0 GQuark belay_http_error_quark (void);

/**
 * BelayHttpError:
 * @BELAY_HTTP_ERROR_URL: the URL is malformed, or of a scheme other than http and https
 * @BELAY_HTTP_ERROR_RESOLVE: the host's name does not resolve
 * @BELAY_HTTP_ERROR_CONNECT: no connection to the host
 * @BELAY_HTTP_ERROR_TLS: the TLS handshake failed, or the certificate is not trusted
 * @BELAY_HTTP_ERROR_PROTOCOL: the server's answer is no HTTP, is incomplete or cannot be decoded
 * @BELAY_HTTP_ERROR_TOO_LARGE: the body is larger than the session allows
 * @BELAY_HTTP_ERROR_REDIRECTS: more redirects than the session follows
 * @BELAY_HTTP_ERROR_STATUS: the status is 400 or more, where the caller asked for success
 * @BELAY_HTTP_ERROR_FAILED: anything else
 */
typedef enum
{
  BELAY_HTTP_ERROR_URL,
  BELAY_HTTP_ERROR_RESOLVE,
  BELAY_HTTP_ERROR_CONNECT,
  BELAY_HTTP_ERROR_TLS,
  BELAY_HTTP_ERROR_PROTOCOL,
  BELAY_HTTP_ERROR_TOO_LARGE,
  BELAY_HTTP_ERROR_REDIRECTS,
  BELAY_HTTP_ERROR_STATUS,
  BELAY_HTTP_ERROR_FAILED
} BelayHttpError;

/**
 * BelayHttpSession:
 *
 * A pool of connections with the settings for all requests made through it. It works on the main context on which it
 * was made. A resource: closing it lets the transfers under way end, abandoning it drops them; afterwards a
 * request fails with %G_IO_ERROR_CLOSED.
 */
#define BELAY_TYPE_HTTP_SESSION (belay_http_session_get_type ())
BELAY_AVAILABLE_IN_1_0 G_DECLARE_FINAL_TYPE (BelayHttpSession, belay_http_session, BELAY, HTTP_SESSION, GObject)

BELAY_AVAILABLE_IN_1_0 BelayHttpSession *belay_http_session_new (void) BELAY_USE_RESULT;

/* Settings; they count for requests made afterwards. Threads: that of the session's context. */
/* The whole of a request, in milliseconds; 0, the default: no limit but the caller's deadline. */
BELAY_AVAILABLE_IN_1_0 void belay_http_session_set_timeout         (BelayHttpSession *session, gint64 milliseconds);
/*
 * How many redirects are followed; 0: none, the 3xx answer is the response. Default 10. To another origin go neither the
 * URL's user and password nor an Authorization or Cookie header; all other headers that were set do, a key of your own
 * (X-Api-Key) as well: for those set the limit to 0, or use a session for each origin.
 */
BELAY_AVAILABLE_IN_1_0 void belay_http_session_set_max_redirects   (BelayHttpSession *session, guint max);
/* The largest body taken; 0: no limit. Default 64 MiB. */
BELAY_AVAILABLE_IN_1_0 void belay_http_session_set_max_body_size   (BelayHttpSession *session, gsize bytes);
/* How many connections at once to one host, and in all; requests beyond wait in turn. Defaults 0 (no limit) and 100. */
BELAY_AVAILABLE_IN_1_0 void belay_http_session_set_max_connections (BelayHttpSession *session, guint per_host, guint total);
/* A header sent with every request, in place of one of the same name; a NULL value takes it out. */
BELAY_AVAILABLE_IN_1_0 void belay_http_session_set_header          (BelayHttpSession *session, const char *name, const char *value);

/**
 * BelayHttpResponse:
 *
 * A whole answer: status, headers, body. A boxed type, reference-counted, immutable, thread-safe.
 */
typedef struct _BelayHttpResponse BelayHttpResponse;
#define BELAY_TYPE_HTTP_RESPONSE (belay_http_response_get_type ())
BELAY_AVAILABLE_IN_1_0 GType              belay_http_response_get_type   (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayHttpResponse *belay_http_response_ref        (BelayHttpResponse *response);
BELAY_AVAILABLE_IN_1_0 void               belay_http_response_unref      (BelayHttpResponse *response);
BELAY_AVAILABLE_IN_1_0 guint              belay_http_response_get_status (BelayHttpResponse *response);
/* The URL that was answered, after redirects. */
BELAY_AVAILABLE_IN_1_0 const char        *belay_http_response_get_url    (BelayHttpResponse *response);
/* The value of a header, its name in any case; NULL when it is not there; several are joined by ", ". */
BELAY_AVAILABLE_IN_1_0 const char        *belay_http_response_get_header (BelayHttpResponse *response, const char *name);
/* (transfer none); behind its bytes is a 0 that does not count, so text without a 0 of its own is a string. */
BELAY_AVAILABLE_IN_1_0 GBytes            *belay_http_response_get_bytes  (BelayHttpResponse *response);

/**
 * belay_http_get:
 * @session: (nullable): a session; %NULL for one that the context keeps
 * @url: an http or https URL
 *
 * GETs a URL and reads the whole body. Any status is a response, not an error. A body that is not complete is an error
 * always. It is unpacked when it comes as gzip or deflate, which are what the session asks for.
 *
 * Suspends: never itself. Cancellation: a transfer that nobody waits for any more is dropped, with its connection; the
 * others go on. Threads: that of the session's context. Errors: %BELAY_HTTP_ERROR; %G_IO_ERROR_TIMED_OUT;
 * %G_IO_ERROR_CLOSED; each with the URL.
 *
 * Returns: (transfer full): a future of #BelayHttpResponse
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_http_get       (BelayHttpSession *session, const char *url) BELAY_USE_RESULT;
/* The same where only the body of a success matters: a future of #GBytes, as belay_http_response_get_bytes() gives; a status
 * of 400 or more is an error. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_http_get_bytes (BelayHttpSession *session, const char *url) BELAY_USE_RESULT;

BELAY_DEFINE_AUTO (BelayHttpSession)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayHttpResponse, belay_http_response_unref)

G_END_DECLS
