/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a session is set to. The essay is in settings.c. */
#pragma once

#include <belay/belay-http.h>
#include <curl/curl.h>

typedef struct
{
  guint              refs;
  gint64             timeout;       /* ms; 0: none */
  guint              max_redirects; /* 0: none is followed */
  gsize              max_body;      /* G_MAXSIZE: no limit */
  struct curl_slist *headers;       /* "Name: value", as libcurl takes them */
} BelayHttpSettings;

BelayHttpSettings *belay_http_settings_new        (void);
BelayHttpSettings *belay_http_settings_ref        (BelayHttpSettings *settings);
void               belay_http_settings_unref      (BelayHttpSettings *settings);
/* Makes *@settings the caller's alone, copying it when requests still go by it. */
void               belay_http_settings_edit       (BelayHttpSettings **settings);
/* FALSE, and nothing changed, for what cannot be in a header. */
gboolean           belay_http_settings_set_header (BelayHttpSettings *settings, const char *name, const char *value);
