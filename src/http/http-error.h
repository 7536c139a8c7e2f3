/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors: what libcurl says, as a GError. The essay is in http-error.c. */
#pragma once

#include <belay/belay-http.h>
#include <curl/curl.h>

/* What went wrong with a transfer, as far as a message needs it. */
typedef struct
{
  CURLcode    code;
  const char *url;           /* as the caller gave it */
  const char *effective_url; /* where redirects led to; NULL: there were none */
  const char *detail;        /* libcurl's own words (nullable) */
  const char *location;      /* where the last answer redirected to, as it said; NULL: nowhere */
  int         no_socket;     /* why there was no socket for it, an errno; 0: there was */
  gboolean    answered;      /* something of an answer had come */
  gboolean    in_headers;    /* and its headers had not ended */
} BelayHttpFailure;

/* A URL for a message: no password, one line, not endless, valid UTF-8. (transfer full) */
char    *belay_http_show_url          (const char *url);
/* FALSE with BELAY_HTTP_ERROR_URL for what is no http or https URL at a glance; libcurl looks closer. */
gboolean belay_http_check_url         (const char *url, GError **error);
GError  *belay_http_error_new         (const BelayHttpFailure *failure);
GError  *belay_http_error_closed      (const char *url);
GError  *belay_http_error_cancelled   (const char *url);
GError  *belay_http_error_timed_out   (const char *url, gint64 milliseconds, const char *doing);
GError  *belay_http_error_too_large   (const char *url, gsize max);
/* @status_line: "HTTP/1.1 404 Not Found" */
GError  *belay_http_error_status      (const char *url, guint status, const char *status_line);
GError  *belay_http_error_failed      (const char *url, int code, const char *why);
