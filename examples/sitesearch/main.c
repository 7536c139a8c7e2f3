/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sitesearch: an offline full-text index of a web site, or of a folder of HTML.
 *
 *   sitesearch crawl SOURCE --into FILE.db [--concurrency N] [--limit N] [--timeout SECONDS] [--fresh]
 *   sitesearch search FILE.db WORDS… [--limit N]
 *
 * What goes wrong is said in one line, and by the exit status: 1 for a failure, 2 for bad usage, 130 and 143 for what
 * a signal ended.
 */
#include "crawl.h"
#include "search.h"

#include <belay/belay.h>
#include <libxml/parser.h>
#include <locale.h>
#include <string.h>

#define BAD_USAGE 2

static int
bad_usage (const char *message)
{
  g_printerr ("sitesearch: %s; see sitesearch --help\n", message);
  return BAD_USAGE;
}

/* Takes the options, and the "--" that ends them, out of the arguments; the rest stays. */
static gboolean
parse (GOptionContext *context, const GOptionEntry *entries, int *argc, char ***argv)
{
  g_autoptr (GError) error = NULL;

  g_option_context_add_main_entries (context, entries, NULL);
  if (!g_option_context_parse (context, argc, argv, &error))
    {
      bad_usage (error->message);
      return FALSE;
    }
  for (int i = 1; i < *argc; i++)
    if (g_str_equal ((*argv)[i], "--"))
      {
        memmove (*argv + i, *argv + i + 1, (*argc - i) * sizeof **argv);
        --*argc;
        break;
      }
  return TRUE;
}

/* A name such that SQLite takes nothing in it for something else (":memory:", "file:"). */
static char *
file_name (const char *name)
{
  return g_path_is_absolute (name) ? g_strdup (name) : g_build_filename (".", name, NULL);
}

static int
crawl_command (int argc, char **argv)
{
  g_autoptr (GOptionContext) context = g_option_context_new ("SOURCE - make an index of a web site or a folder");
  g_autofree char *into = NULL;
  int concurrency = 16;
  gint64 limit = G_MAXINT64;
  double timeout = 10;
  gboolean fresh = FALSE;
  const GOptionEntry entries[] = {
    { "into", 0, 0, G_OPTION_ARG_FILENAME, &into, "The index to make, or to go on with", "FILE.db" },
    { "concurrency", 0, 0, G_OPTION_ARG_INT, &concurrency, "How many pages to fetch at once (16)", "N" },
    { "limit", 0, 0, G_OPTION_ARG_INT64, &limit, "Stop after so many pages", "N" },
    { "timeout", 0, 0, G_OPTION_ARG_DOUBLE, &timeout, "How long to wait for a page (10)", "SECONDS" },
    { "fresh", 0, 0, G_OPTION_ARG_NONE, &fresh, "Drop what the index holds", NULL },
    G_OPTION_ENTRY_NULL
  };

  if (!parse (context, entries, &argc, &argv))
    return BAD_USAGE;
  if (argc != 2)
    return bad_usage (argc < 2 ? "nothing to crawl is given" : "more than one thing to crawl is given");
  if (*argv[1] == '\0')
    return bad_usage ("what to crawl is empty");
  if (into == NULL)
    return bad_usage ("--into FILE.db is missing");
  if (*into == '\0')
    return bad_usage ("the name after --into is empty");
  if (concurrency < 1 || concurrency > 1000)
    return bad_usage ("--concurrency takes 1 to 1000");
  if (limit < 1)
    return bad_usage ("--limit takes 1 or more");
  if (!(timeout >= 0.001 && timeout <= 86400))
    return bad_usage ("--timeout takes 0.001 to 86400 seconds");

  g_autofree char *file = file_name (into);
  xmlInitParser ();
  return belay_run (crawl, &(CrawlOptions) { argv[1], file, concurrency, limit, timeout * 1000, fresh });
}

static int
search_command (int argc, char **argv)
{
  g_autoptr (GOptionContext) context = g_option_context_new ("FILE.db WORDS… - search an index");
  int limit = 10;
  const GOptionEntry entries[] = {
    { "limit", 0, 0, G_OPTION_ARG_INT, &limit, "Show so many pages (10)", "N" },
    G_OPTION_ENTRY_NULL
  };

  if (!parse (context, entries, &argc, &argv))
    return BAD_USAGE;
  if (argc < 3)
    return bad_usage (argc < 2 ? "no index is given" : "no words to search for are given");
  if (*argv[1] == '\0')
    return bad_usage ("the name of the index is empty");
  if (limit < 1)
    return bad_usage ("--limit takes 1 or more");

  g_autofree char *file = file_name (argv[1]);
  return belay_run (search, &(SearchOptions) { file, argv + 2, limit });
}

static int
help (void)
{
  g_print ("Usage:\n"
           "  sitesearch crawl SOURCE --into FILE.db [--concurrency N] [--limit N] [--timeout SECONDS] [--fresh]\n"
           "  sitesearch search FILE.db WORDS… [--limit N]\n\n"
           "SOURCE is a URL, whose links are followed within its origin, or a folder of HTML files.\n"
           "Each command has a --help of its own.\n");
  return 0;
}

int
main (int argc, char **argv)
{
  const char *command = argc > 1 ? argv[1] : "";

  setlocale (LC_ALL, "");
  g_set_prgname ("sitesearch");
  if (g_str_equal (command, "crawl"))
    return crawl_command (argc - 1, argv + 1);
  if (g_str_equal (command, "search"))
    return search_command (argc - 1, argv + 1);
  if (g_str_equal (command, "--help") || g_str_equal (command, "-h"))
    return help ();
  return bad_usage (argc > 1 ? "the command is neither crawl nor search" : "no command is given");
}
