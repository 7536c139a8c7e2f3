/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "support.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *tmp_folder;

static void
run_fiber_test (gconstpointer func)
{
  g_assert_cmpint (belay_run ((BelayFunc) func, NULL), ==, 0);
  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
}

void
test_add_fiber (const char *path, BelayFunc func)
{
  g_test_add_data_func (path, (gconstpointer) func, run_fiber_test);
}

static void
remove_tree (const char *path)
{
  g_autoptr (GDir) dir = g_dir_open (path, 0, NULL);
  const char *name;

  while (dir != NULL && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *child = g_build_filename (path, name, NULL);
      remove_tree (child);
    }
  g_remove (path);
}

static void
remove_tmp_folder (void)
{
  remove_tree (tmp_folder);
  g_free (tmp_folder);
}

char *
test_tmp_path (const char *name)
{
  if (tmp_folder == NULL)
    {
      tmp_folder = g_dir_make_tmp ("belay-test-XXXXXX", NULL);
      g_assert_nonnull (tmp_folder);
      atexit (remove_tmp_folder);
    }
  return g_build_filename (tmp_folder, name, NULL);
}

guint
test_count_entries (const char *folder)
{
  g_autoptr (GDir) dir = g_dir_open (folder, 0, NULL);
  guint n = 0;

  g_assert_nonnull (dir);
  while (g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

guint
test_count_fds (void)
{
  return test_count_entries ("/proc/self/fd") - 1; /* the one that reads */
}

static gboolean
is_under_valgrind (void)
{
  const char *preloaded = g_getenv ("LD_PRELOAD");

  return preloaded != NULL && strstr (preloaded, "vgpreload") != NULL;
}

gboolean
test_is_watched (void)
{
  return SANITIZED || is_under_valgrind ();
}

void
test_exit_child (int status)
{
  if (is_under_valgrind ())
    {
      char code[4];

      g_snprintf (code, sizeof code, "%d", status);
      execl ("/bin/sh", "sh", "-c", "exit $0", code, NULL);
    }
  _exit (status);
}
