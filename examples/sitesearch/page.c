/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * HTML to title, text and links, with libxml2. No tree is made: the parser's events are enough, and take two thirds of
 * the time. They come well nested, for the parser opens and closes what the page leaves out.
 */
#include "page.h"
#include "url.h"

#include <belay/belay.h>
#include <libxml/HTMLparser.h>
#include <string.h>

typedef struct
{
  htmlParserCtxtPtr context;
  GCancellable     *cancellable;
  guint             open;      /* how many elements are */
  GString          *title;     /* NULL before the first <title> */
  guint             in_title;  /* how many elements are open, from <title> on */
  GString          *text;
  gboolean          gap;       /* white space, or a tag, since the last word of the text */
  guint             hidden;    /* how many elements are open whose text is not shown */
  GString          *hrefs;     /* each ended by a NUL */
  char             *base_href; /* of the first <base> that has one */
  guint             links;
  gboolean          broken;    /* an href is not UTF-8 */
} Parser;

Page *
page_new (const char *url)
{
  Page *page = g_new0 (Page, 1);

  page->url = url;
  return page;
}

void
page_free (Page *page)
{
  g_free (page->title);
  g_free (page->text);
  g_free (page->error);
  g_free (page->via);
  g_clear_pointer (&page->found, g_ptr_array_unref);
  g_free (page);
}

static gboolean
is_space (char c)
{
  return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Appends the words of @chars to @text; a word may go on from one call to the next. Most of our own time is here. */
static void
append_words (GString *text, gboolean *gap, const char *chars, gsize length)
{
  const char *end = chars + length;
  gsize before = text->len;

  g_string_set_size (text, before + length + 1);
  char *out = text->str + before;
  for (; chars < end; chars++)
    if (is_space (*chars))
      *gap = TRUE;
    else
      {
        if (*gap && out > text->str)
          *out++ = ' ';
        *gap = FALSE;
        *out++ = *chars;
      }
  g_string_truncate (text, out - text->str);
}

char *
collapse_space (char *text)
{
  char *end = text;

  for (const char *c = text; *c; c++)
    if (!is_space (*c))
      *end++ = *c;
    else if (end > text && end[-1] != ' ')
      *end++ = ' ';
  end[end > text && end[-1] == ' ' ? -1 : 0] = '\0';
  return text;
}

typedef enum
{
  ELEMENT_OTHER,
  ELEMENT_LINK,
  ELEMENT_BASE,
  ELEMENT_TITLE,
  ELEMENT_HIDDEN
} Element;

/* Asked of every tag: most are decided by their first letter. */
static Element
element_of (const xmlChar *name)
{
  switch (name[0])
    {
    case 'a':
      return name[1] == '\0' ? ELEMENT_LINK : ELEMENT_OTHER;
    case 'b':
      return g_str_equal (name, "base") ? ELEMENT_BASE : ELEMENT_OTHER;
    case 't':
      return g_str_equal (name, "title") ? ELEMENT_TITLE : ELEMENT_OTHER;
    case 'h':
      return g_str_equal (name, "head") ? ELEMENT_HIDDEN : ELEMENT_OTHER;
    case 'n':
      return g_str_equal (name, "noscript") ? ELEMENT_HIDDEN : ELEMENT_OTHER;
    case 's':
      return g_str_equal (name, "script") || g_str_equal (name, "style") ? ELEMENT_HIDDEN : ELEMENT_OTHER;
    default:
      return ELEMENT_OTHER;
    }
}

static const char *
find_href (const xmlChar **attributes)
{
  for (; attributes != NULL && attributes[0] != NULL; attributes += 2)
    if (g_str_equal (attributes[0], "href"))
      return attributes[1] != NULL ? (const char *) attributes[1] : "";
  return NULL;
}

static void
on_start (void *data, const xmlChar *name, const xmlChar **attributes)
{
  Parser *parser = data;
  const char *href;

  if (g_cancellable_is_cancelled (parser->cancellable))
    xmlStopParser (parser->context);

  parser->open++;
  parser->gap = TRUE;
  if (parser->in_title > 0)
    parser->in_title++;
  switch (element_of (name))
    {
    case ELEMENT_LINK:
      if ((href = find_href (attributes)) != NULL)
        {
          parser->links++;
          parser->broken |= !g_utf8_validate (href, -1, NULL);
          g_string_append_len (parser->hrefs, href, strlen (href) + 1);
        }
      break;
    case ELEMENT_BASE:
      if (parser->base_href == NULL)
        parser->base_href = g_strdup (find_href (attributes));
      break;
    case ELEMENT_TITLE:
      if (parser->title == NULL)
        {
          parser->title = g_string_new (NULL);
          parser->in_title = 1;
        }
      break;
    case ELEMENT_HIDDEN:
      parser->hidden++;
      break;
    case ELEMENT_OTHER:
      break;
    }
}

static void
on_end (void *data, const xmlChar *name)
{
  Parser *parser = data;

  parser->open--;
  parser->gap = TRUE;
  if (parser->in_title > 0)
    parser->in_title--;
  if (element_of (name) == ELEMENT_HIDDEN)
    parser->hidden--;
}

static void
on_text (void *data, const xmlChar *chars, int length)
{
  Parser *parser = data;

  if (parser->in_title > 0)
    g_string_append_len (parser->title, (const char *) chars, length);
  if (parser->hidden == 0 && parser->open > 0)
    append_words (parser->text, &parser->gap, (const char *) chars, length);
}

static void
on_comment (void *data, const xmlChar *text)
{
  ((Parser *) data)->gap = TRUE;
}

static void
on_instruction (void *data, const xmlChar *target, const xmlChar *text)
{
  ((Parser *) data)->gap = TRUE;
}

static const xmlSAXHandler handler = {
  .startElement = on_start,
  .endElement = on_end,
  .characters = on_text,
  .cdataBlock = on_text,
  .comment = on_comment,
  .processingInstruction = on_instruction,
};

static void
parser_clear (Parser *parser)
{
  if (parser->title != NULL)
    g_string_free (parser->title, TRUE);
  if (parser->text != NULL)
    g_string_free (parser->text, TRUE);
  if (parser->hrefs != NULL)
    g_string_free (parser->hrefs, TRUE);
  g_free (parser->base_href);
  *parser = (Parser) { 0 };
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Parser, parser_clear)

/* FALSE: what came out is not UTF-8, for libxml2 lets some wrong bytes through. */
static gboolean
parser_run (Parser *parser, const char *html, gsize size, const char *charset)
{
  parser->context = htmlNewParserCtxt ();
  parser->cancellable = belay_worker_cancellable ();
  parser->text = g_string_sized_new (size / 2);
  parser->hrefs = g_string_sized_new (1024);

  *parser->context->sax = handler;
  parser->context->userData = parser;
  htmlCtxtReadMemory (parser->context, html, size, NULL, charset,
                      HTML_PARSE_RECOVER | HTML_PARSE_NONET | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING);
  htmlFreeParserCtxt (parser->context);

  return !parser->broken && g_utf8_validate_len (parser->text->str, parser->text->len, NULL) &&
         (parser->title == NULL || g_utf8_validate_len (parser->title->str, parser->title->len, NULL));
}

/* The names of the pages of the site that this one leads to, each once. */
static GPtrArray *
resolve_links (const Parser *parser, const PageJob *job)
{
  g_auto (UrlBase) base = { 0 };
  g_autoptr (GString) url = g_string_new (NULL);
  g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);
  GPtrArray *found = g_ptr_array_new_with_free_func (g_free);

  url_base_set (&base, job->address);
  if (parser->base_href != NULL && url_resolve (&base, parser->base_href, url))
    url_base_set (&base, url->str);

  for (const char *href = parser->hrefs->str; href < parser->hrefs->str + parser->hrefs->len; href += strlen (href) + 1)
    {
      const char *name = url_resolve (&base, href, url) ? site_get_name (job->site, url->str) : NULL;

      if (name != NULL && !g_hash_table_contains (seen, name))
        {
          char *copy = g_strdup (name);
          g_ptr_array_add (found, copy);
          g_hash_table_add (seen, copy);
        }
    }
  return found;
}

gboolean
page_parse (gpointer data, GError **error)
{
  PageJob *job = data;
  g_auto (Parser) parser = { 0 };
  gsize size;
  const char *html = g_bytes_get_data (job->html, &size);
  gboolean utf8 = job->charset && (!g_ascii_strcasecmp (job->charset, "utf-8") || !g_ascii_strcasecmp (job->charset, "utf8"));

  if ((utf8 && !g_utf8_validate_len (html, size, NULL)) || !parser_run (&parser, html, size, job->charset))
    {
      g_autofree char *valid = g_utf8_make_valid (html, size);

      parser_clear (&parser);
      parser_run (&parser, valid, strlen (valid), "utf-8");
    }

  job->page->links = parser.links;
  job->page->found = resolve_links (&parser, job);
  job->page->text = g_string_free (g_steal_pointer (&parser.text), FALSE);
  if (parser.title != NULL)
    job->page->title = collapse_space (g_string_free (g_steal_pointer (&parser.title), FALSE));
  return !g_cancellable_set_error_if_cancelled (belay_worker_cancellable (), error);
}
