/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Settings: what requests of a session go by.
 *
 * A request goes by the settings as they were when it was made, however long it then waits for its turn. So settings
 * that a request refers to are never changed: a change makes a copy first (belay_http_settings_edit()) unless nobody
 * else has them. In the usual program there is one for the whole life of a session, and "has this easy handle the
 * settings of that request" is the comparison of two pointers.
 *
 * Invariants
 *   1. The count of references is no atomic: settings belong to the session's context, like all that uses them.
 *   2. A name is in `headers` once. "Name: value" is sent, "Name;" is sent with an empty value, "Name:" is how libcurl
 *      is told not to send a header of its own.
 *   3. No header holds a line break, a NUL or anything else that could end it early: what a program puts together from
 *      strings of others must not become two headers.
 */
#include "http/settings.h"

#include "http/decoder.h"

#include <string.h>

#define DEFAULT_MAX_REDIRECTS 10
#define DEFAULT_MAX_BODY      ((gsize) 64 * 1024 * 1024)

/* What libcurl sends of its own, so that taking it out must be said. */
static const char *const sent_anyway[] = { "Accept" };

BelayHttpSettings *
belay_http_settings_new (void)
{
  BelayHttpSettings *self = g_new0 (BelayHttpSettings, 1);

  self->refs = 1;
  self->max_redirects = DEFAULT_MAX_REDIRECTS;
  self->max_body = DEFAULT_MAX_BODY;
  belay_http_settings_set_header (self, "User-Agent", "belay/" BELAY_VERSION_S);
  belay_http_settings_set_header (self, "Accept-Encoding", BELAY_HTTP_CODINGS);
  return self;
}

BelayHttpSettings *
belay_http_settings_ref (BelayHttpSettings *self)
{
  self->refs++;
  return self;
}

void
belay_http_settings_unref (BelayHttpSettings *self)
{
  if (--self->refs > 0)
    return;
  curl_slist_free_all (self->headers);
  g_free (self);
}

static void
append (struct curl_slist **list, const char *line)
{
  struct curl_slist *longer = curl_slist_append (*list, line);

  if (longer == NULL)
    g_error ("out of memory for the header '%s'", line); /* as g_malloc() would */
  *list = longer;
}

void
belay_http_settings_edit (BelayHttpSettings **settings)
{
  BelayHttpSettings *old = *settings, *copy;

  if (old->refs == 1)
    return;
  copy = g_memdup2 (old, sizeof *old);
  copy->refs = 1;
  copy->headers = NULL;
  for (struct curl_slist *i = old->headers; i != NULL; i = i->next)
    append (&copy->headers, i->data);
  belay_http_settings_unref (old);
  *settings = copy;
}

/* A token of RFC 9110. */
static gboolean
is_name (const char *name)
{
  for (const char *p = name; *p != '\0'; p++)
    if (!g_ascii_isalnum (*p) && strchr ("!#$%&'*+-.^_`|~", *p) == NULL)
      return FALSE;
  return *name != '\0';
}

static gboolean
is_value (const char *value)
{
  for (const char *p = value; *p != '\0'; p++)
    if (((guchar) *p < 0x20 && *p != '\t') || *p == 0x7f)
      return FALSE;
  return TRUE;
}

static gboolean
is_of_name (const char *line, const char *name)
{
  gsize length = strlen (name);

  return g_ascii_strncasecmp (line, name, length) == 0 && (line[length] == ':' || line[length] == ';');
}

gboolean
belay_http_settings_set_header (BelayHttpSettings *self, const char *name, const char *value)
{
  g_autofree char *line = NULL;
  g_autofree char *stripped = g_strstrip (g_strdup (value != NULL ? value : ""));
  struct curl_slist *others = NULL;

  if (!is_name (name) || !is_value (stripped))
    return FALSE;

  for (struct curl_slist *i = self->headers; i != NULL; i = i->next)
    if (!is_of_name (i->data, name))
      append (&others, i->data);
  if (value == NULL)
    {
      for (gsize i = 0; i < G_N_ELEMENTS (sent_anyway); i++)
        if (g_ascii_strcasecmp (name, sent_anyway[i]) == 0)
          line = g_strconcat (name, ":", NULL);
    }
  else if (*stripped == '\0')
    {
      line = g_strconcat (name, ";", NULL);
    }
  else
    {
      line = g_strconcat (name, ": ", stripped, NULL);
    }
  if (line != NULL)
    append (&others, line);
  curl_slist_free_all (self->headers);
  self->headers = others;
  return TRUE;
}
