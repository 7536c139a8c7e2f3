/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an answer, or none, says of a page. */
#include "fetch.h"

#include <string.h>
#include <time.h>

/* An error with something in it that comes from outside. */
static void
set_error (Page *page, const char *prefix, const char *text)
{
  g_autofree char *valid = g_utf8_make_valid (text, -1);

  page->error = collapse_space (g_strconcat (prefix, valid, NULL));
}

/* The charset of a Content-Type. */
static char *
get_charset (const char *type)
{
  for (const char *p = strchr (type, ';'); p != NULL; p = strchr (p, ';'))
    {
      p += 1 + strspn (p + 1, " \t");
      if (g_ascii_strncasecmp (p, "charset", strlen ("charset")) != 0)
        continue;
      p += strlen ("charset");
      p += strspn (p, " \t");
      if (*p != '=')
        continue;
      p += 1 + strspn (p + 1, " \t");
      p += *p == '"' || *p == '\'';
      if (strcspn (p, " \t\"';") > 0)
        return g_strndup (p, strcspn (p, " \t\"';"));
    }
  return NULL;
}

/* How many redirects lead from one page to another, at most. */
#define MOST_REDIRECTS 20

static void
take_redirect (const Fetch *self, Page *page, const char *address, const char *before, const char *location)
{
  g_auto (UrlBase) base = { 0 };
  g_autoptr (GString) target = g_string_new (NULL);

  url_base_set (&base, address);
  if (!url_normalise (&base, location, target))
    {
      set_error (page, "redirected to ", location);
      return;
    }

  const char *name = site_get_name (self->site, target->str);
  page->via = before != NULL ? g_strconcat (before, " ", page->url, NULL) : g_strdup (page->url);
  g_auto (GStrv) chain = g_strsplit (page->via, " ", -1);
  if (name != NULL && g_strv_contains ((const char *const *) chain, name))
    {
      page->error = g_strdup ("redirect loop");
      return;
    }
  if (g_strv_length (chain) > MOST_REDIRECTS)
    {
      page->error = g_strdup ("too many redirects");
      return;
    }
  set_error (page, "redirected to ", name != NULL ? name : target->str);
  if (name != NULL)
    {
      page->leads_to = g_string_new (NULL);
      g_string_append_len (page->leads_to, name, strlen (name) + 1);
    }
}

static gboolean
take_html (const Fetch *self, Page *page, const char *address, GBytes *html, const char *type, GError **error)
{
  g_autofree char *charset = get_charset (type);
  PageJob job = { page, html, charset, address, self->site };

  /* It is borrowed, so a time-out or a cancellation waits for the parser, which soon sees that nobody waits for it. */
  return belay_await_ok (belay_thread_run (page_parse, &job), error);
}

static gboolean
take_response (const Fetch *self, Page *page, const char *address, const char *before, BelayHttpResponse *response,
               GError **error)
{
  GBytes *body = belay_http_response_get_bytes (response);
  const char *location = belay_http_response_get_header (response, "Location");
  const char *type = belay_http_response_get_header (response, "Content-Type");
  g_autofree char *media_type = g_ascii_strdown (type != NULL ? type : "", type != NULL ? strcspn (type, ";") : 0);

  g_strstrip (media_type);
  page->status = belay_http_response_get_status (response);
  page->bytes = g_bytes_get_size (body);

  switch (page->status)
    {
    case 200:
      if (g_str_equal (media_type, "text/html") || g_str_equal (media_type, "application/xhtml+xml"))
        return take_html (self, page, address, body, type, error);
      set_error (page, "not HTML: ", *media_type ? media_type : "application/octet-stream");
      return TRUE;
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
      if (location != NULL)
        {
          take_redirect (self, page, address, before, location);
          return TRUE;
        }
      G_GNUC_FALLTHROUGH;
    default:
      page->error = g_strdup_printf ("HTTP %u", page->status);
      return TRUE;
    }
}

/* A page that cannot be had, or read, is a page with an error; FALSE only when the crawl is over. */
static gboolean
take_failure (Page *page, GError *failure, GError **error)
{
  if (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      g_propagate_error (error, failure);
      return FALSE;
    }
  if (g_error_matches (failure, BELAY_HTTP_ERROR, BELAY_HTTP_ERROR_TOO_LARGE))
    page_fail (page, g_strdup (PAGE_TOO_LARGE));
  else if (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
    page_fail (page, g_strdup ("timed out"));
  else
    set_error (page, "", failure->message);
  g_error_free (failure);
  return TRUE;
}

static gboolean
get (const Fetch *self, Page *page, const char *address, const char *before, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (self->timeout);
  g_autoptr (BelayHttpResponse) response = belay_await (belay_http_get (self->session, address), error);

  return response != NULL && take_response (self, page, address, before, response, error);
}

Page *
fetch_page (const Fetch *self, const char *name, const char *before, GError **error)
{
  g_autoptr (Page) page = page_new (name);
  g_autofree char *address = site_get_address (self->site, name);
  GError *failure = NULL;

  if (!get (self, page, address, before, &failure) && !take_failure (page, failure, error))
    return NULL;

  time_t now = time (NULL);
  strftime (page->fetched_at, sizeof page->fetched_at, "%Y-%m-%dT%H:%M:%SZ", gmtime (&now));
  return g_steal_pointer (&page);
}
