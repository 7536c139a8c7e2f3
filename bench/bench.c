/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the benchmarks share; see bench.h. */
#include "bench.h"

static const BenchGroup *all_groups;

double
bench_batch (BelayFunc func, gpointer data, int n)
{
  BelayFuture **futures = g_new (BelayFuture *, n);
  gint64 begin = now_ns ();

  for (int i = 0; i < n; i++)
    futures[i] = belay_spawn (func, data);
  for (int i = 0; i < n; i++)
    if (!belay_await_ok (futures[i], NULL))
      abort ();
  g_free (futures);
  return (double) (now_ns () - begin) / n;
}

long
bench_memory_kb (void)
{
  g_autofree char *text = NULL;
  const char *rss, *page_tables;

  g_file_get_contents ("/proc/self/status", &text, NULL, NULL);
  rss = strstr (text, "VmRSS:");
  page_tables = strstr (text, "VmPTE:");
  return atol (rss + 6) + atol (page_tables + 6);
}

static gboolean
bench (gpointer data, GError **error)
{
  for (const BenchGroup *group = all_groups; group->name != NULL; group++)
    if (g_str_equal (data, group->name))
      group->run ();
  return TRUE;
}

int
bench_main (int argc, char **argv, const BenchGroup *groups)
{
  all_groups = groups;
  if (argc > 1)
    {
      for (const BenchGroup *group = groups; group->name != NULL; group++)
        if (group->debug != NULL && g_str_equal (argv[1], group->name))
          g_setenv ("BELAY_DEBUG", group->debug, TRUE);
      return belay_run (bench, argv[1]);
    }
  for (const BenchGroup *group = groups; group->name != NULL; group++)
    {
      const char *command[] = { argv[0], group->name, NULL };
      g_autoptr (GError) error = NULL;
      int status;

      if (!g_spawn_sync (NULL, (char **) command, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL, NULL, &status,
                         &error) ||
          !g_spawn_check_wait_status (status, &error))
        {
          g_printerr ("%s: %s: %s\n", argv[0], group->name, error->message);
          return 1;
        }
    }
  return 0;
}
