/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * HTML to title, text and links, with libxml2. No tree is made: the parser's events are enough, and take two thirds of
 * the time. They come well nested, for the parser opens and closes what the page leaves out.
 *
 * Some pages take libxml2 a time that grows with the square of their size, and some of that passes between two events:
 * it compares each attribute of a tag with all before it, and an end tag with all that is open. So it is given the page
 * in pieces, for which it asks in the midst of all that, and the page ends for it when nobody waits for it any more, or
 * when it turns out to be of that kind.
 */
#include "page.h"
#include "url.h"

#include <belay/belay.h>
#include <libxml/HTMLparser.h>
#include <string.h>

/* Elements nested deeper than in any honest page end it: libxml2's time grows with the square of the depth. */
#define DEEPEST 1024

/* A tag that has more is in no honest page; nor are links that come to so much when they are resolved. */
#define MOST_ATTRIBUTES 1000
#define MOST_LEADS_TO   (64 * 1024 * 1024)

typedef struct
{
  htmlParserCtxtPtr context;
  const char       *html;      /* what is not read yet */
  gsize             left;
  guint             open;      /* how many elements are */
  GString          *title;     /* NULL before the first <title> */
  guint             in_title;  /* how many elements are open, from <title> on */
  GString          *text;
  guint             hidden;    /* how many elements are open whose text is not shown */
  GString          *hrefs;     /* cleaned, each ended by a NUL */
  char             *base_href; /* of the first <base> that has one */
  guint             links;
  gboolean          broken;    /* an href is not UTF-8 */
  gboolean          refused;   /* a tag has too many attributes */
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
  if (page->leads_to != NULL)
    g_string_free (page->leads_to, TRUE);
  g_free (page);
}

void
page_fail (Page *page, char *error)
{
  g_clear_pointer (&page->title, g_free);
  g_clear_pointer (&page->text, g_free);
  if (page->leads_to != NULL)
    g_string_free (g_steal_pointer (&page->leads_to), TRUE);
  page->links = 0;
  page->error = error;
}

/*
 * Copies @text to @out, with one space in place of all white space between two words; @last is what stands before @out.
 * Returns the end. Most of our own time is spent here, so nothing in it is left to the branch predictor.
 */
static char *
copy_words (char *out, char last, const char *text, gsize length)
{
  for (const char *end = text + length; text < end; text++)
    {
      gboolean space = *text == ' ' || (*text >= '\t' && *text <= '\r');
      char c = space ? ' ' : *text;

      *out = c;
      out += !space | (last != ' ');
      last = c;
    }
  return out;
}

char *
collapse_space (char *text)
{
  char *end = copy_words (text, ' ', text, strlen (text));

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

/* Words that a tag or a comment stands between are two. */
static void
append_gap (GString *text)
{
  if (text->len > 0 && text->str[text->len - 1] != ' ')
    g_string_append_c (text, ' ');
}

static void
append_text (GString *text, const char *chars, gsize length)
{
  gsize before = text->len;
  char last = before > 0 ? text->str[before - 1] : ' ';

  g_string_set_size (text, before + length);
  text->len = copy_words (text->str + before, last, chars, length) - text->str;
  text->str[text->len] = '\0';
}

static void
on_start (void *data, const xmlChar *name, const xmlChar **attributes)
{
  Parser *parser = data;
  const char *href;

  if (parser->open > DEEPEST)
    {
      xmlStopParser (parser->context);
      return;
    }

  parser->open++;
  append_gap (parser->text);
  if (parser->in_title > 0)
    parser->in_title++;
  switch (element_of (name))
    {
    case ELEMENT_LINK:
      if ((href = find_href (attributes)) != NULL)
        {
          parser->links++;
          parser->broken |= !g_utf8_validate (href, -1, NULL);
          url_clean (href, parser->hrefs);
          g_string_append_c (parser->hrefs, '\0');
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
  append_gap (parser->text);
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
    append_text (parser->text, (const char *) chars, length);
}

static void
on_comment (void *data, const xmlChar *text)
{
  append_gap (((Parser *) data)->text);
}

static void
on_instruction (void *data, const xmlChar *target, const xmlChar *text)
{
  append_gap (((Parser *) data)->text);
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

/* The room for a tag's attributes, two places for each, is doubled when it is full. */
static gboolean
has_too_many_attributes (const Parser *parser)
{
  return parser->context->maxatts > 2 * 2 * MOST_ATTRIBUTES;
}

static int
on_read (void *data, char *buffer, int size)
{
  Parser *parser = data;
  gsize piece = MIN (parser->left, (gsize) size);

  if (g_cancellable_is_cancelled (belay_worker_cancellable ()) || has_too_many_attributes (parser))
    return 0;
  memcpy (buffer, parser->html, piece);
  parser->html += piece;
  parser->left -= piece;
  return piece;
}

/* Without a function libxml2 prints some of its errors, whatever its options are. */
static void
on_error (void *data, xmlErrorPtr what)
{
}

/* FALSE: what came out is not UTF-8, for libxml2 lets some wrong bytes through. */
static gboolean
parser_run (Parser *parser, const char *html, gsize size, const char *charset)
{
  parser->context = htmlNewParserCtxt ();
  parser->html = html;
  parser->left = size;
  parser->text = g_string_sized_new (size / 2);
  parser->hrefs = g_string_sized_new (1024);

  *parser->context->sax = handler;
  parser->context->userData = parser;
  xmlSetStructuredErrorFunc (NULL, (xmlStructuredErrorFunc) on_error); /* of this thread */
  htmlCtxtReadIO (parser->context, on_read, NULL, parser, NULL, charset, HTML_PARSE_RECOVER | HTML_PARSE_NONET);
  parser->refused = has_too_many_attributes (parser);
  htmlFreeParserCtxt (parser->context);
  parser->context = NULL;

  return !parser->broken && g_utf8_validate_len (parser->text->str, parser->text->len, NULL) &&
         (parser->title == NULL || g_utf8_validate_len (parser->title->str, parser->title->len, NULL));
}

/* The names of the pages of the site that this one leads to. */
static GString *
resolve_links (const Parser *parser, const PageJob *job)
{
  g_auto (UrlBase) base = { 0 };
  g_autoptr (GString) url = g_string_sized_new (256);
  GString *names = g_string_sized_new (parser->hrefs->len * 2);
  const char *end = parser->hrefs->str + parser->hrefs->len;

  url_base_set (&base, job->address);
  if (parser->base_href != NULL && url_normalise (&base, parser->base_href, url))
    url_base_set (&base, url->str);

  for (const char *href = parser->hrefs->str; href < end && names->len < MOST_LEADS_TO; href += strlen (href) + 1)
    {
      if (g_cancellable_is_cancelled (belay_worker_cancellable ()))
        break;

      const char *name = url_resolve (&base, href, url) ? site_get_name (job->site, url->str) : NULL;

      if (name != NULL)
        g_string_append_len (names, name, strlen (name) + 1);
    }
  return names;
}

gboolean
page_parse (gpointer data, GError **error)
{
  PageJob *job = data;
  g_auto (Parser) parser = { 0 };
  gsize size;
  const char *html = g_bytes_get_data (job->html, &size);
  const char *charset = job->charset != NULL ? job->charset : "";
  gboolean utf8 = g_ascii_strcasecmp (charset, "utf-8") == 0 || g_ascii_strcasecmp (charset, "utf8") == 0;

  if ((utf8 && !g_utf8_validate_len (html, size, NULL)) || !parser_run (&parser, html, size, job->charset))
    {
      g_autofree char *valid = g_utf8_make_valid (html, size);

      parser_clear (&parser);
      parser_run (&parser, valid, strlen (valid), "utf-8");
    }

  if (parser.refused)
    {
      page_fail (job->page, g_strdup_printf ("a tag with more than %d attributes", MOST_ATTRIBUTES));
      return TRUE;
    }
  job->page->links = parser.links;
  job->page->leads_to = resolve_links (&parser, job);
  g_string_truncate (parser.text, parser.text->len - g_str_has_suffix (parser.text->str, " "));
  job->page->text = g_string_free (g_steal_pointer (&parser.text), FALSE);
  if (parser.title != NULL)
    job->page->title = collapse_space (g_string_free (g_steal_pointer (&parser.title), FALSE));
  return !g_cancellable_set_error_if_cancelled (belay_worker_cancellable (), error);
}
