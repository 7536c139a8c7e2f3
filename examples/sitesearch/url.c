/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * RFC 3986: a reference is split into scheme, authority, path and query, and what it lacks is taken from the base.
 * Scheme and host become lower case; user names, passwords and the default port go; dot segments are removed; an empty
 * path becomes a slash; what a URL may not hold is percent-encoded, and what is encoded already stays as it is.
 *
 * GUri resolves too, but it rewrites what was encoded without need (%7E), so that another program would name the page
 * differently, and it makes ten allocations and takes eight times as long for each of the fifty links of a page.
 */
#include "url.h"

#include <string.h>

#define HTML_SPACE " \t\n\f\r"

void
url_clean (const char *reference, GString *cleaned)
{
  gsize start = cleaned->len;

  for (reference += strspn (reference, HTML_SPACE);; reference++)
    {
      gsize run = strcspn (reference, "\t\n\r#");

      g_string_append_len (cleaned, reference, run);
      reference += run;
      if (*reference == '#' || *reference == '\0')
        break;
    }
  while (cleaned->len > start && strchr (HTML_SPACE, cleaned->str[cleaned->len - 1]))
    g_string_truncate (cleaned, cleaned->len - 1);
}

static void
append_encoded (GString *url, const char *text, gsize length)
{
  for (const char *end = text + length; text < end;)
    {
      const char *run = text;

      while (text < end && (g_ascii_isalnum (*text) || strchr ("-._~!#$%&'()*+,/:;=?@[]", *text)))
        text++;
      g_string_append_len (url, run, text - run);
      if (text < end)
        g_string_append_printf (url, "%%%02X", (guchar) *text++);
    }
}

/* [user@]host[:port]; FALSE when there is no host, or the port is no number. */
static gboolean
append_authority (GString *url, const char *authority, gsize length, const char *default_port)
{
  const char *end = authority + length;
  const char *at = g_strrstr_len (authority, length, "@");
  const char *host = at ? at + 1 : authority;
  const char *bracket = host < end && *host == '[' ? memchr (host, ']', end - host) : NULL;
  const char *after = bracket ? bracket + 1 : host;
  const char *colon = bracket ? (after < end && *after == ':' ? after : NULL) : memchr (host, ':', end - host);
  const char *host_end = colon ? colon : end;

  if (host == host_end || (bracket && after != host_end))
    return FALSE;
  for (const char *c = host; c < host_end; c++)
    {
      char lower = g_ascii_tolower (*c);
      append_encoded (url, &lower, 1);
    }
  if (colon == NULL)
    return TRUE;

  gsize port = strspn (colon + 1, "0") + 1, digits = strspn (colon + port, "0123456789");
  if (colon + port + digits != end)
    return FALSE;
  if (digits > 0 && (digits != strlen (default_port) || strncmp (colon + port, default_port, digits) != 0))
    g_string_append_printf (url, ":%.*s", (int) digits, colon + port);
  return TRUE;
}

/* Appends a path, given without its first slash, after what begins at @root: ".." leads no higher. */
static void
append_path (GString *url, gsize root, const char *path, gsize length)
{
  const char *end = path + length, *next;

  for (const char *segment = path;; segment = next + 1)
    {
      next = memchr (segment, '/', end - segment);
      gsize size = (next ? next : end) - segment;
      gboolean up = size == 2 && strncmp (segment, "..", 2) == 0;
      gboolean dots = up || (size == 1 && *segment == '.');

      if (up)
        {
          const char *parent = g_strrstr_len (url->str + root, url->len - root, "/");
          g_string_truncate (url, parent ? (gsize) (parent - url->str) : root);
        }
      if (!dots || next == NULL)
        g_string_append_c (url, '/');
      if (!dots)
        append_encoded (url, segment, size);
      if (next == NULL)
        return;
    }
}

/* The scheme of @text, else of @base, when it is one of ours; *rest is what follows it in @text. */
static const char *
find_scheme (const UrlBase *base, const char *text, const char **rest)
{
  const char *end = text;

  if (g_ascii_isalpha (*text))
    while (g_ascii_isalnum (*end) || *end == '+' || *end == '-' || *end == '.')
      end++;
  if (end == text || *end != ':')
    {
      *rest = text;
      return base == NULL ? NULL : g_str_has_prefix (base->text, "https:") ? "https" : "http";
    }
  *rest = end + 1;
  if (!g_str_has_prefix (*rest, "//"))
    return NULL;
  return end == text + 4 && g_ascii_strncasecmp (text, "http", 4) == 0 ? "http"
         : end == text + 5 && g_ascii_strncasecmp (text, "https", 5) == 0 ? "https" : NULL;
}

gboolean
url_resolve (const UrlBase *base, const char *reference, GString *url)
{
  const char *rest, *scheme = find_scheme (base, reference, &rest);

  g_string_truncate (url, 0);
  if (scheme == NULL || strlen (reference) > URL_LONGEST)
    return FALSE;
  if (g_str_has_prefix (rest, "//"))
    {
      gsize authority = strcspn (rest += 2, "/?");

      g_string_append (g_string_append (url, scheme), "://");
      if (!append_authority (url, rest, authority, g_str_equal (scheme, "https") ? "443" : "80"))
        return FALSE;
      rest += authority;
      if (*rest != '/')
        g_string_append_c (url, '/');
    }
  else if (*rest == '/')
    g_string_append_len (url, base->text, base->path);
  else if (*rest != '?' && *rest != '\0')
    g_string_append_len (url, base->text, base->directory);
  else
    g_string_append_len (url, base->text, *rest == '?' ? base->query : strlen (base->text));

  gsize path = strcspn (rest, "?");
  if (path > 0)
    append_path (url, *rest == '/' ? url->len : base->path, rest + (*rest == '/'), path - (*rest == '/'));
  append_encoded (url, rest + path, strlen (rest + path));
  return url->len <= URL_LONGEST;
}

gboolean
url_normalise (const UrlBase *base, const char *reference, GString *url)
{
  g_autoptr (GString) cleaned = g_string_new (NULL);

  url_clean (reference, cleaned);
  return url_resolve (base, cleaned->str, url);
}

char *
url_get_credentials (const char *reference)
{
  const char *authority = strstr (reference, "//");
  const char *at = authority ? g_strrstr_len (authority + 2, strcspn (authority + 2, "/?#"), "@") : NULL;

  if (at == NULL || at == authority + 2)
    return NULL;

  g_autofree char *encoded = g_strndup (authority + 2, at - authority - 2);
  g_autofree char *decoded = g_uri_unescape_string (encoded, NULL);
  const char *credentials = decoded != NULL ? decoded : encoded;
  return g_strconcat (credentials, strchr (encoded, ':') ? NULL : ":", NULL);
}

void
url_base_set (UrlBase *base, const char *normalised)
{
  g_free (base->text);
  base->text = g_strdup (normalised);
  base->path = strchr (strstr (base->text, "//") + 2, '/') - base->text;
  base->query = base->path + strcspn (base->text + base->path, "?");
  base->directory = g_strrstr_len (base->text, base->query, "/") - base->text;
}

void
url_base_clear (UrlBase *base)
{
  g_free (base->text);
}

void
site_set (Site *site, const char *url, gboolean is_folder)
{
  const char *path = strchr (strstr (url, "//") + 2, '/');

  g_free (site->origin);
  site->origin = g_strndup (url, path + 1 - url);
  site->unnamed = is_folder ? path - url : 0;
}

void
site_clear (Site *site)
{
  g_free (site->origin);
}

const char *
site_get_name (const Site *site, const char *url)
{
  return g_str_has_prefix (url, site->origin) ? url + site->unnamed : NULL;
}

char *
site_get_address (const Site *site, const char *name)
{
  g_autofree char *unnamed = g_strndup (site->origin, site->unnamed);

  return g_strconcat (unnamed, name, NULL);
}
