/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files: read whole, created, replaced; and what is left when something goes wrong at any moment. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#if __has_include(<linux/openat2.h>)
# include <linux/openat2.h>
#endif

/* --- what the tests share --- */

static void
put (const char *path, const char *text)
{
  g_assert_true (g_file_set_contents (path, text, -1, NULL));
}

static void
assert_content (const char *path, const char *text)
{
  g_autofree char *content = NULL;

  g_assert_true (g_file_get_contents (path, &content, NULL, NULL));
  g_assert_cmpstr (content, ==, text);
}

static void
assert_bytes (GBytes *bytes, const void *data, gsize size)
{
  gsize n;
  const void *p;

  g_assert_nonnull (bytes);
  p = g_bytes_get_data (bytes, &n);
  g_assert_cmpmem (p, n, data, size);
}

/* A folder of the test's own, so that what is left in it can be counted. */
static char *
make_folder (const char *name)
{
  char *path = test_tmp_path (name);

  g_assert_cmpint (g_mkdir_with_parents (path, 0700), ==, 0);
  return path;
}

/* What nobody waits for is given back a little later, on a busy disk much later. In a fiber. */
static void
wait_for_entries (const char *folder, guint n)
{
  for (guint i = 0; i < 20000 && test_count_entries (folder) != n; i++)
    belay_sleep (1, NULL);
  g_assert_cmpuint (test_count_entries (folder), ==, n);
}

/* ThreadSanitizer opens pipes of its own when it finds something to say, or to suppress. */
#if defined (__SANITIZE_THREAD__)
# define COUNTS_FDS 0
#elif defined (__has_feature)
# if __has_feature (thread_sanitizer)
#  define COUNTS_FDS 0
# endif
#endif
#ifndef COUNTS_FDS
# define COUNTS_FDS 1
#endif

static void
assert_fds (guint n)
{
  guint found = n;

  /* A worker may be asking for the number of processors, for which the C library opens a file. */
  for (int i = 0; COUNTS_FDS && (found = test_count_fds ()) != n && i < 1000; i++)
    g_usleep (1000);
  g_assert_cmpuint (found, ==, n);
}

/* The baseline: once nothing is on its way any more. */
static guint
settled_fds (void)
{
  guint n = 0;

  for (int same = 0; same < 20; same++)
    {
      if (test_count_fds () != n)
        same = 0;
      n = test_count_fds ();
      belay_sleep (1, NULL);
    }
  return n;
}

static void
wait_for_fds (guint n)
{
  for (guint i = 0; COUNTS_FDS && i < 20000 && test_count_fds () != n; i++)
    belay_sleep (1, NULL);
  assert_fds (n);
}

static mode_t
mode_of (const char *path)
{
  struct stat info;

  g_assert_cmpint (stat (path, &info), ==, 0);
  return info.st_mode & 07777;
}

/* The open that answers at once or not at all. It is not there on old kernels and under valgrind. */
static gboolean
can_read_at_once (void)
{
#if defined (SYS_openat2) && defined (RESOLVE_CACHED)
  static int answer = -1;

  if (answer == -1)
    {
      struct open_how how = { .flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_CACHED };
      int fd = (int) syscall (SYS_openat2, AT_FDCWD, "/", &how, sizeof how);

      answer = fd != -1 || errno == EAGAIN;
      if (fd != -1)
        close (fd);
    }
  return answer;
#else
  return FALSE;
#endif
}

static char *
make_pattern (gsize size)
{
  char *data = g_malloc (size + 1);

  for (gsize i = 0; i < size; i++)
    data[i] = (char) ('a' + (i * 7 + i / 4096) % 26);
  data[size] = '\0';
  return data;
}

/* Puts a file on disk and out of the page cache, from an offset on. */
static void
put_uncached (const char *path, const char *data, gsize size, off_t from)
{
  int fd = open (path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  g_assert_cmpint (fd, !=, -1);
  g_assert_cmpint (write (fd, data, size), ==, (gssize) size);
  g_assert_cmpint (fsync (fd), ==, 0);
  posix_fadvise (fd, from, 0, POSIX_FADV_DONTNEED);
  close (fd);
}

static gboolean
cancel_scope (gpointer scope, GError **error)
{
  belay_scope_cancel (scope, "the test says so");
  return TRUE;
}

/* --- reading --- */

static gboolean
read_cached (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("cached");
  gsize sizes[] = { 1, 4096, 65536, 128 * 1024, 128 * 1024 + 1, 3 * 1024 * 1024 };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      g_autofree char *pattern = make_pattern (sizes[i]);
      g_autoptr (GBytes) bytes = NULL;
      BelayFuture *future;

      g_assert_true (g_file_set_contents (path, pattern, (gssize) sizes[i], NULL));
      future = belay_file_read_bytes (path);
      if (sizes[i] <= 128 * 1024 && can_read_at_once ())
        g_assert_true (belay_future_is_resolved (future));
      bytes = belay_await (future, error);
      assert_bytes (bytes, pattern, sizes[i]);
    }
  return TRUE;
}

static gboolean
read_uncached (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("uncached");
  g_autofree char *pattern = make_pattern (1024 * 1024);
  gsize sizes[] = { 4096, 100 * 1000, 1024 * 1024 };

  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      /* nothing of it is cached; then a part, so that a read at once comes up short */
      for (int half = 0; half < 2; half++)
        {
          g_autoptr (GBytes) bytes = NULL;

          put_uncached (path, pattern, sizes[i], half ? (off_t) sizes[i] / 8192 * 4096 : 0);
          bytes = belay_await (belay_file_read_bytes (path), error);
          assert_bytes (bytes, pattern, sizes[i]);
        }
    }
  return TRUE;
}

static gboolean
read_empty (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("empty");
  g_autoptr (GBytes) bytes = NULL;

  put (path, "");
  bytes = belay_await (belay_file_read_bytes (path), error);
  g_assert_nonnull (bytes);
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, 0);
  return TRUE;
}

#define HUGE_SIZE (100 * 1024 * 1024)

static gboolean
read_huge (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("huge");
  g_autoptr (GBytes) bytes = NULL;
  int fd = open (path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  const char *p;

  g_assert_cmpint (ftruncate (fd, HUGE_SIZE), ==, 0);
  g_assert_cmpint (pwrite (fd, "end", 3, HUGE_SIZE - 3), ==, 3);
  close (fd);
  bytes = belay_await (belay_file_read_bytes (path), error);
  g_assert_nonnull (bytes);
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, HUGE_SIZE);
  p = g_bytes_get_data (bytes, NULL);
  g_assert_cmpint (p[0], ==, 0);
  g_assert_cmpint (p[HUGE_SIZE / 2], ==, 0);
  g_assert_cmpmem (p + HUGE_SIZE - 3, 3, "end", 3);
  g_assert_cmpint (g_unlink (path), ==, 0);
  return TRUE;
}

/* The size that /proc tells is 0, that of /sys a page. */
static gboolean
read_proc (gpointer data, GError **error)
{
  g_autofree char *name = NULL;
  g_autoptr (GBytes) cmdline = belay_await (belay_file_read_bytes ("/proc/self/cmdline"), error);
  g_autoptr (GBytes) maps = belay_await (belay_file_read_bytes ("/proc/self/maps"), error);
  g_autoptr (GBytes) kernel = belay_await (belay_file_read_bytes ("/proc/sys/kernel/ostype"), error);

  g_assert_nonnull (cmdline);
  name = g_path_get_basename (g_bytes_get_data (cmdline, NULL));
  g_assert_nonnull (strstr (name, "test-file"));
  g_assert_nonnull (maps);
  g_assert_cmpuint (g_bytes_get_size (maps), >, 1000);
  assert_bytes (kernel, "Linux\n", 6);

  if (g_file_test ("/sys/kernel/mm/transparent_hugepage/enabled", G_FILE_TEST_EXISTS))
    {
      g_autoptr (GBytes) sys = belay_await (belay_file_read_bytes ("/sys/kernel/mm/transparent_hugepage/enabled"), error);

      g_assert_nonnull (sys);
      g_assert_cmpuint (g_bytes_get_size (sys), <, 100);
    }
  return TRUE;
}

static void
assert_read_fails (const char *path, int code, const char *reason)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) bytes = belay_await (belay_file_read_bytes (path), &error);

  g_assert_null (bytes);
  g_assert_error (error, G_FILE_ERROR, code);
  g_assert_nonnull (strstr (error->message, path));
  g_assert_nonnull (strstr (error->message, reason));
}

static gboolean
read_errors (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("a-folder");
  g_autofree char *missing = test_tmp_path ("missing");
  g_autofree char *loop = test_tmp_path ("loop");
  g_autofree char *file = test_tmp_path ("a-file");
  g_autofree char *below = g_build_filename (file, "below", NULL);
  g_autofree char *stuffed = g_strnfill (300, 'x');
  g_autofree char *name = test_tmp_path (stuffed);

  put (file, "x");
  g_assert_cmpint (symlink (loop, loop), ==, 0);
  for (int again = 0; again < 2; again++) /* the second time the cache knows */
    {
      assert_read_fails (missing, G_FILE_ERROR_NOENT, g_strerror (ENOENT));
      assert_read_fails (folder, G_FILE_ERROR_ISDIR, g_strerror (EISDIR));
      assert_read_fails (below, G_FILE_ERROR_NOTDIR, g_strerror (ENOTDIR));
      assert_read_fails (loop, G_FILE_ERROR_LOOP, g_strerror (ELOOP));
      assert_read_fails (name, G_FILE_ERROR_NAMETOOLONG, g_strerror (ENAMETOOLONG));
    }
  g_unlink (loop);
  return TRUE;
}

static gboolean
read_unreadable (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("unreadable");

  if (geteuid () == 0)
    {
      g_test_skip ("root may read everything");
      return TRUE;
    }
  put (path, "x");
  g_assert_cmpint (chmod (path, 0), ==, 0);
  assert_read_fails (path, G_FILE_ERROR_ACCES, g_strerror (EACCES));
  return TRUE;
}

static void
read_null (void)
{
  g_autoptr (BelayFuture) future = NULL;

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*path*");
  future = belay_file_read_bytes (NULL);
  g_test_assert_expected_messages ();
  g_assert_error (belay_future_get_error (future), BELAY_ERROR, BELAY_ERROR_MISUSE);
}

/* A plain thread without a main loop reads, too. */
static gpointer
read_on_thread (gpointer data)
{
  g_autoptr (BelayFuture) small = belay_file_read_bytes (data);
  g_autoptr (BelayFuture) proc = belay_file_read_bytes ("/proc/self/maps");
  g_autoptr (GBytes) bytes = NULL;
  g_autoptr (GBytes) maps = NULL;

  g_assert_true (belay_future_wait_sync (small, NULL));
  bytes = belay_future_take (small, NULL);
  assert_bytes (bytes, "plain", 5);
  g_assert_true (belay_future_wait_sync (proc, NULL));
  maps = belay_future_take (proc, NULL);
  g_assert_nonnull (maps);
  return NULL;
}

static void
read_thread (void)
{
  g_autofree char *path = test_tmp_path ("thread");

  put (path, "plain");
  g_thread_join (g_thread_new ("reader", read_on_thread, path));
}

static gboolean
read_many (gpointer data, GError **error)
{
  BelayFuture *futures[64];
  g_autofree char *path = test_tmp_path ("many");
  g_autofree char *pattern = make_pattern (200 * 1024);

  put (path, pattern);
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    futures[i] = belay_file_read_bytes (i % 2 ? path : "/proc/self/status");
  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    {
      g_autoptr (GBytes) bytes = belay_await (futures[i], error);

      g_assert_nonnull (bytes);
      if (i % 2)
        assert_bytes (bytes, pattern, 200 * 1024);
    }
  return TRUE;
}

/* One future, any number of takers, wherever it was read. */
static gboolean
read_shared (gpointer data, GError **error)
{
  g_autofree char *small = test_tmp_path ("shared-small");
  g_autofree char *big = test_tmp_path ("shared-big");
  const char *paths[] = { small, big };

  for (guint i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      g_autofree char *pattern = make_pattern (i == 0 ? 100 : 1000 * 1000);
      g_autoptr (BelayFuture) future = NULL;

      put (paths[i], pattern);
      future = belay_file_read_bytes (paths[i]);
      for (int taker = 0; taker < 3; taker++)
        {
          g_autoptr (GBytes) bytes = belay_await (belay_future_ref (future), error);

          assert_bytes (bytes, pattern, strlen (pattern));
          g_assert_cmpint (((const char *) g_bytes_get_data (bytes, NULL))[strlen (pattern)], ==, 0);
        }
    }
  return TRUE;
}

/* --- reading a FIFO --- */

static gpointer
feed_fifo (gpointer path)
{
  int fd = open (path, O_WRONLY | O_CLOEXEC); /* waits for the reader */

  g_assert_cmpint (fd, !=, -1);
  g_usleep (20000); /* a writer that has come and says nothing yet is no end */
  g_assert_cmpint (write (fd, "one ", 4), ==, 4);
  g_usleep (20000);
  g_assert_cmpint (write (fd, "two", 3), ==, 3);
  close (fd);
  return NULL;
}

static gboolean
read_fifo (gpointer data, GError **error)
{
  for (int early = 0; early < 2; early++)
    {
      g_autofree char *path = test_tmp_path (early ? "fifo-early" : "fifo-late");
      g_autoptr (GBytes) bytes = NULL;
      BelayFuture *future;
      GThread *writer;

      g_assert_cmpint (mkfifo (path, 0600), ==, 0);
      if (early)
        {
          writer = g_thread_new ("writer", feed_fifo, path);
          g_assert_true (belay_sleep (30, error));
          future = belay_file_read_bytes (path);
        }
      else
        {
          future = belay_file_read_bytes (path);
          g_assert_true (belay_sleep (30, error));
          writer = g_thread_new ("writer", feed_fifo, path);
        }
      bytes = belay_await (future, error);
      assert_bytes (bytes, "one two", 7);
      g_thread_join (writer);
    }
  return TRUE;
}

/* Nobody ever writes: the wait ends with the interest, and the worker comes free. */
static gboolean
read_fifo_cancelled (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("fifo-silent");
  guint fds;

  g_assert_cmpint (mkfifo (path, 0600), ==, 0);
  fds = settled_fds ();
  for (int i = 0; i < 3; i++)
    {
      g_autoptr (GError) local = NULL;
      belay_auto (BelayTimeout) limit = belay_timeout (20);

      g_assert_nonnull (limit);
      g_assert_false (belay_await_ok (belay_file_read_bytes (path), &local));
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    }
  for (int i = 0; i < 3; i++)
    belay_future_unref (belay_file_read_bytes (path));
  wait_for_fds (fds);
  return TRUE;
}

/* A device without an end does not take all memory. */
static gboolean
read_endless (gpointer data, GError **error)
{
  g_autoptr (GError) local = NULL;
  g_autoptr (GBytes) nothing = NULL;

  g_assert_false (belay_await_ok (belay_file_read_bytes ("/dev/zero"), &local));
  g_assert_error (local, G_FILE_ERROR, G_FILE_ERROR_FAILED);
  g_assert_nonnull (strstr (local->message, g_strerror (EFBIG)));
  nothing = belay_await (belay_file_read_bytes ("/dev/null"), error);
  assert_bytes (nothing, "", 0);
  return TRUE;
}

/* --- reading and cancellation --- */

static gboolean
read_in_cancelled_scope (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("cached");
  g_autoptr (GError) local = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *future;

  belay_scope_cancel (scope, NULL);
  future = belay_file_read_bytes (path);
  g_assert_true (belay_future_is_rejected (future));
  g_assert_false (belay_await_ok (future, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return TRUE;
}

/* What every checkpoint in the scope says is no news for the sink (which would end this program). */
static gboolean
refused_is_seen (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("seen");
  belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);
  g_autoptr (GError) local = NULL;

  g_assert_nonnull (file);
  {
    belay_auto (BelayTimeout) limit = belay_timeout (0);

    g_assert_nonnull (limit);
    g_assert_false (belay_await_ok (belay_file_read_bytes (path), &local));
    g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_assert_false (belay_await_ok (belay_file_write_text (file, "x"), NULL));
    g_assert_false (belay_await_ok (belay_file_create (path), NULL));
    g_assert_false (belay_await_ok (belay_file_replace (path), NULL));
    belay_future_unref (belay_file_read_bytes (path));
  }
  return belay_close (&file, error);
}

/* A body that is cancelled while it reads; what it returns is its own affair. */
static gboolean
read_until_cancelled (gpointer path, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GBytes) bytes = NULL;

  if (!belay_scope_spawn (scope, cancel_scope, scope, NULL))
    return FALSE;
  bytes = belay_await (belay_file_read_bytes (path), NULL);
  return TRUE;
}

static gboolean
read_cancelled (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("cancelled");
  g_autofree char *pattern = make_pattern (500 * 1024);
  guint fds = 0;

  for (int i = 0; i < 51; i++)
    {
      put_uncached (path, pattern, 500 * 1024, 0);
      belay_await_ok (belay_spawn (read_until_cancelled, path), NULL);
      belay_future_unref (belay_file_read_bytes (path));
      if (i == 0)
        fds = settled_fds (); /* after whatever the first use opens for good */
    }
  wait_for_fds (fds);
  return TRUE;
}

/* --- created files --- */

static gboolean
create_leaves_content (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("created");
  mode_t mask = umask (027);

  {
    belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);

    g_assert_nonnull (file);
    g_assert_cmpstr (belay_file_get_path (file), ==, path);
    g_assert_true (belay_await_ok (belay_file_write_text (file, "one "), error));
    g_assert_true (belay_await_ok (belay_file_write_text (file, ""), error));
    g_assert_true (belay_await_ok (belay_file_write_text (file, "two"), error));
  }
  umask (mask);
  assert_content (path, "one two");
  g_assert_cmphex (mode_of (path), ==, 0640);

  {
    belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);

    g_assert_nonnull (file);
    assert_content (path, ""); /* emptied */
    g_assert_true (belay_await_ok (belay_file_write_text (file, "three"), error));
    g_assert_true (belay_close (&file, error));
    g_assert_null (file);
  }
  assert_content (path, "three");
  return TRUE;
}

/* G05: leaving the guard closes, and use after that is an error. */
static gboolean
create_use_after_close (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("closed");
  g_autoptr (BelayFile) kept = NULL;
  guint fds;

  belay_await_ok (belay_file_create (path), NULL); /* warm */
  fds = settled_fds ();
  {
    belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);

    g_assert_nonnull (file);
    kept = g_object_ref (file);
    assert_fds (fds + 1);
  }
  assert_fds (fds);
  for (int i = 0; i < 2; i++)
    {
      g_autoptr (GError) local = NULL;

      g_assert_false (belay_await_ok (belay_file_write_text (kept, "late"), &local));
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CLOSED);
      g_assert_nonnull (strstr (local->message, path));
    }
  assert_content (path, "");
  return TRUE;
}

/* G06: the body fails; what was written is there, the file is closed, and the error is the body's. */
static gboolean
write_and_fail (gpointer path, GError **error)
{
  belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);

  if (file == NULL)
    return FALSE;
  belay_future_unref (belay_file_write_text (file, "written and not waited for"));
  g_set_error_literal (error, G_FILE_ERROR, G_FILE_ERROR_PIPE, "the body's own");
  return FALSE;
}

static gboolean
create_body_error (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("body-error");
  g_autoptr (GError) local = NULL;
  guint fds;

  g_assert_false (belay_await_ok (belay_spawn (write_and_fail, path), NULL));
  fds = settled_fds ();
  g_assert_false (belay_await_ok (belay_spawn (write_and_fail, path), &local));
  g_assert_error (local, G_FILE_ERROR, G_FILE_ERROR_PIPE);
  assert_fds (fds);
  assert_content (path, "written and not waited for");
  return TRUE;
}

/* G09: fifty opens, each cancelled while under way. */
static gboolean
open_until_cancelled (gpointer path, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (BelayFile) file = NULL;

  if (!belay_scope_spawn (scope, cancel_scope, scope, NULL))
    return FALSE;
  file = belay_await (belay_file_create (path), NULL);
  return TRUE;
}

static gboolean
create_cancelled (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("open-cancelled");
  guint fds = 0;

  for (int i = 0; i < 51; i++)
    {
      belay_await_ok (belay_spawn (open_until_cancelled, path), NULL);
      belay_future_unref (belay_file_create (path));
      if (i == 0)
        fds = settled_fds ();
    }
  wait_for_fds (fds);
  return TRUE;
}

static void
assert_open_fails (BelayFuture *future, int code, const char *path)
{
  g_autoptr (GError) error = NULL;

  g_assert_null (belay_await (future, &error));
  g_assert_error (error, G_FILE_ERROR, code);
  g_assert_nonnull (strstr (error->message, path));
}

static gboolean
create_errors (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("create-errors");
  g_autofree char *deep = g_build_filename (folder, "no", "such", NULL);
  g_autofree char *slash = g_strconcat (deep, "/", NULL);

  assert_open_fails (belay_file_create (folder), G_FILE_ERROR_ISDIR, folder);
  assert_open_fails (belay_file_create (deep), G_FILE_ERROR_NOENT, deep);
  assert_open_fails (belay_file_replace (folder), G_FILE_ERROR_ISDIR, folder);
  assert_open_fails (belay_file_replace (deep), G_FILE_ERROR_NOENT, deep);
  assert_open_fails (belay_file_replace (slash), G_FILE_ERROR_ISDIR, slash);
  assert_open_fails (belay_file_replace (""), G_FILE_ERROR_NOENT, "");
  assert_open_fails (belay_file_replace ("/dev/null"), G_FILE_ERROR_INVAL, "/dev/null");
  g_assert_cmpuint (test_count_entries (folder), ==, 0);
  return TRUE;
}

/* A FIFO is refused at once, whether or not somebody reads it. */
static gboolean
create_fifo (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("created-fifo");
  int fd;

  g_assert_cmpint (mkfifo (path, 0600), ==, 0);
  assert_open_fails (belay_file_create (path), G_FILE_ERROR_INVAL, path);
  fd = open (path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  g_assert_cmpint (fd, !=, -1);
  assert_open_fails (belay_file_create (path), G_FILE_ERROR_INVAL, path);
  close (fd);
  return TRUE;
}

static gboolean
create_device (gpointer data, GError **error)
{
  belay_auto (BelayFile) file = belay_await (belay_file_create ("/dev/null"), error);

  g_assert_nonnull (file);
  g_assert_true (belay_await_ok (belay_file_write_text (file, "x"), error));
  return belay_commit (&file, error);
}

/* --- writing --- */

/* In the order of the calls, also when nobody waits for them. */
static gboolean
write_order (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("order");
  g_autoptr (GString) expected = g_string_new (NULL);
  belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);

  g_assert_nonnull (file);
  for (int i = 0; i < 1000; i++)
    {
      g_autofree char *line = g_strdup_printf ("%d\n", i);

      belay_future_unref (belay_file_write_text (file, line));
      g_string_append (expected, line);
    }
  g_assert_true (belay_close (&file, error));
  assert_content (path, expected->str);
  return TRUE;
}

/* L21: an await that is cancelled takes no write back, so no hole is left in what follows. */
static gboolean
write_await_cancelled (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("no-hole");
  g_autofree char *content = NULL;
  g_autofree char *piece = g_strnfill (4 * 1024 * 1024, 'x');
  belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);
  gsize length;

  g_assert_nonnull (file);
  for (int i = 0; i < 5; i++)
    {
      /* refused when the time is up before it is asked for, finished when it is up after */
      belay_auto (BelayTimeout) limit = belay_timeout (0);
      g_autoptr (BelayFuture) future = belay_file_write_text (file, piece);

      g_assert_error (belay_future_get_error (future), G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_assert_true (belay_close (&limit, error));
    }
  for (int i = 0; i < 5; i++)
    {
      BelayFuture *future = belay_file_write_text (file, piece);
      belay_auto (BelayTimeout) limit = belay_timeout (1);

      g_assert_nonnull (limit);
      belay_await_ok (future, NULL);
    }
  g_assert_true (belay_close (&file, error));
  g_assert_true (g_file_get_contents (path, &content, &length, NULL));
  g_assert_cmpuint (length, ==, 5 * strlen (piece));
  return TRUE;
}

static gboolean
write_big (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("big");
  g_autofree char *pattern = make_pattern (40 * 1000 * 1000);
  g_autoptr (GBytes) bytes = g_bytes_new (pattern, 40 * 1000 * 1000);
  g_autoptr (GBytes) back = NULL;
  belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);

  g_assert_nonnull (file);
  g_assert_true (belay_await_ok (belay_file_write (file, bytes), error));
  g_assert_true (belay_commit (&file, error)); /* of a created file: on disk */
  back = belay_await (belay_file_read_bytes (path), error);
  g_assert_true (g_bytes_equal (bytes, back));
  g_unlink (path);
  return TRUE;
}

/* The first failure is told by every later write, and by the close. */
static gboolean
write_error (gpointer data, GError **error)
{
  belay_auto (BelayFile) file = belay_await (belay_file_create ("/dev/full"), error);
  g_autoptr (GError) local = NULL;

  g_assert_nonnull (file);
  for (int i = 0; i < 3; i++)
    {
      g_assert_false (belay_await_ok (belay_file_write_text (file, "x"), &local));
      g_assert_error (local, G_FILE_ERROR, G_FILE_ERROR_NOSPC);
      g_assert_nonnull (strstr (local->message, "/dev/full"));
      g_assert_nonnull (strstr (local->message, g_strerror (ENOSPC)));
      g_clear_error (&local);
    }
  g_assert_false (belay_close (&file, &local));
  g_assert_error (local, G_FILE_ERROR, G_FILE_ERROR_NOSPC);
  return TRUE;
}

static gboolean
write_misuse (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("misuse");
  belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);
  g_autoptr (GError) local = NULL;

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*bytes*");
  g_assert_false (belay_await_ok (belay_file_write (file, NULL), &local));
  g_test_assert_expected_messages ();
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return TRUE;
}

/* L17: a handle that is dropped without a close says so, and gives everything back. */
static gboolean
dropped_without_close (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("dropped");
  g_autofree char *path = g_build_filename (folder, "target", NULL);
  BelayFile *file = belay_await (belay_file_replace (path), error);
  guint fds = settled_fds ();

  g_assert_nonnull (file);
  g_assert_cmpuint (test_count_entries (folder), ==, 1);
  g_test_expect_message ("Belay", G_LOG_LEVEL_WARNING, "*dropped without being closed*");
  g_object_unref (file);
  g_test_assert_expected_messages ();
  wait_for_entries (folder, 0);
  wait_for_fds (fds - 2); /* the file and its folder */
  return TRUE;
}

/* L7: a release behind a device that takes nothing is forced, and no worker stays in it. */
static gboolean
stuck_write (gpointer data, GError **error)
{
  g_autofree char *text = g_strnfill (200 * 1024, 'x');
  g_autoptr (GError) local = NULL;
  BelayScope *scope = belay_scope_new ();
  int terminal = posix_openpt (O_RDWR | O_NOCTTY | O_CLOEXEC);
  char path[64];
  BelayFuture *writing;
  BelayFile *file;
  guint fds;

  g_assert_cmpint (terminal, !=, -1);
  g_assert_true (grantpt (terminal) == 0 && unlockpt (terminal) == 0 && ptsname_r (terminal, path, sizeof path) == 0);
  fds = settled_fds ();
  file = belay_await (belay_file_create (path), error);
  g_assert_nonnull (file);
  writing = belay_file_write_text (file, text); /* more than a terminal holds that nobody reads */
  belay_scope_set_release_timeout (scope, 50);
  g_assert_true (belay_scope_adopt (scope, file, error));
  g_assert_false (belay_scope_close (&scope, &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_clear_error (&local);
  g_assert_false (belay_await_ok (writing, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CLOSED);
  wait_for_fds (fds);
  close (terminal);
  return TRUE;
}

static gboolean
replace_abandoned (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("abandoned");
  g_autofree char *path = g_build_filename (folder, "target", NULL);
  g_autoptr (BelayFile) file = NULL;
  g_autoptr (GError) local = NULL;
  BelayResourceInterface *iface;

  put (path, "old");
  file = belay_await (belay_file_replace (path), error);
  g_assert_nonnull (file);
  g_assert_true (belay_await_ok (belay_file_write_text (file, "new"), error));
  iface = G_TYPE_INSTANCE_GET_INTERFACE (file, BELAY_TYPE_RESOURCE, BelayResourceInterface);
  iface->abandon (BELAY_RESOURCE (file));
  iface->abandon (BELAY_RESOURCE (file));
  g_assert_false (belay_await_ok (belay_file_write_text (file, "late"), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CLOSED);
  wait_for_entries (folder, 1);
  assert_content (path, "old");
  return TRUE;
}

/* --- replaced files --- */

static gboolean
replace_committed (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("committed");
  g_autofree char *path = g_build_filename (folder, "target", NULL);

  g_unlink (path);
  for (int there = 0; there < 2; there++)
    {
      belay_auto (BelayFile) file = belay_await (belay_file_replace (path), error);

      g_assert_nonnull (file);
      g_assert_cmpuint (test_count_entries (folder), ==, 1u + (guint) there);
      g_assert_true (belay_await_ok (belay_file_write_text (file, there ? "newer" : "new"), error));
      if (there)
        assert_content (path, "new");
      g_assert_true (belay_commit (&file, error));
      g_assert_null (file);
      assert_content (path, there ? "newer" : "new");
      g_assert_cmpuint (test_count_entries (folder), ==, 1);
    }
  return TRUE;
}

/* The ways out that commit nothing. */
enum
{
  LEAVE_RETURN,
  LEAVE_CLOSE,
  LEAVE_ERROR,
  LEAVE_UNAWAITED,
  LEAVE_N
};

typedef struct
{
  const char *path;
  int         way;
} Leaving;

static gboolean
leave_replacement (gpointer data, GError **error)
{
  Leaving *leaving = data;
  belay_auto (BelayFile) file = belay_await (belay_file_replace (leaving->path), error);

  g_assert_nonnull (file);
  if (leaving->way == LEAVE_UNAWAITED)
    {
      belay_future_unref (belay_file_write_text (file, "half"));
      return TRUE;
    }
  g_assert_true (belay_await_ok (belay_file_write_text (file, "half"), error));
  if (leaving->way == LEAVE_CLOSE)
    return belay_close (&file, error);
  if (leaving->way == LEAVE_ERROR)
    {
      g_set_error_literal (error, G_FILE_ERROR, G_FILE_ERROR_PIPE, "the body's own");
      return FALSE;
    }
  return TRUE;
}

static gboolean
replace_left (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("left");
  g_autofree char *path = g_build_filename (folder, "target", NULL);
  g_autofree char *fresh = g_build_filename (folder, "fresh", NULL);

  put (path, "old");
  for (int way = 0; way < LEAVE_N; way++)
    {
      Leaving leavings[] = { { path, way }, { fresh, way } };

      for (guint i = 0; i < G_N_ELEMENTS (leavings); i++)
        {
          g_autoptr (GError) local = NULL;
          gboolean ok = belay_await_ok (belay_spawn (leave_replacement, &leavings[i]), &local);

          if (way == LEAVE_ERROR)
            g_assert_error (local, G_FILE_ERROR, G_FILE_ERROR_PIPE);
          else
            g_assert_no_error (local);
          g_assert_cmpint (ok, ==, way != LEAVE_ERROR);
          assert_content (path, "old");
          g_assert_cmpuint (test_count_entries (folder), ==, 1);
        }
    }
  return TRUE;
}

/* A body that is cancelled before, and then during, each of its steps. */
typedef struct
{
  const char *path;
  int         step;   /* the one to cancel at */
  gboolean    during; /* while it is under way, not before */
  int         now;
  gboolean    committed;
} Stages;

static void
at_step (Stages *self, BelayScope *scope)
{
  if (self->now++ != self->step)
    return;
  if (self->during)
    g_assert_true (belay_scope_spawn (scope, cancel_scope, scope, NULL));
  else
    belay_scope_cancel (scope, NULL);
}

static gboolean
replace_in_stages (gpointer data, GError **error)
{
  Stages *self = data;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (BelayFile) file = NULL;

  at_step (self, scope);
  file = belay_await (belay_file_replace (self->path), error);
  if (file == NULL)
    return FALSE;
  at_step (self, scope);
  if (!belay_await_ok (belay_file_write_text (file, "ne"), error))
    return FALSE;
  at_step (self, scope);
  if (!belay_await_ok (belay_file_write_text (file, "w"), error))
    return FALSE;
  at_step (self, scope);
  if (!belay_commit (&file, error))
    return FALSE;
  self->committed = TRUE;
  at_step (self, scope);
  return belay_scope_close (&scope, error);
}

static gboolean
replace_cancelled (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("cancelled-stages");
  g_autofree char *path = g_build_filename (folder, "target", NULL);
  guint fds = 0;

  for (int round = 0; round < 3; round++)
    for (int step = 0; step < 6; step++)
      for (int during = 0; during < 2; during++)
        {
          Stages stages = { path, step, during, 0, FALSE };
          g_autoptr (GError) local = NULL;

          put (path, "old");
          belay_await_ok (belay_spawn (replace_in_stages, &stages), &local);
          if (!stages.committed)
            {
              g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
              g_assert_cmpint (step, <, during ? 3 : 4); /* a commit that has begun is not interrupted */
            }
          assert_content (path, stages.committed ? "new" : "old");
          wait_for_entries (folder, 1);
          if (fds == 0)
            fds = settled_fds ();
        }
  wait_for_fds (fds);
  return TRUE;
}

static gboolean
replace_deadline (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("deadline");
  g_autofree char *path = g_build_filename (folder, "target", NULL);
  g_autoptr (GError) local = NULL;
  belay_auto (BelayFile) file = NULL;
  belay_auto (BelayTimeout) limit = NULL;

  put (path, "old");
  file = belay_await (belay_file_replace (path), error);
  g_assert_nonnull (file);
  g_assert_true (belay_await_ok (belay_file_write_text (file, "new"), error));
  limit = belay_timeout (1);
  g_assert_false (belay_sleep (50, NULL));
  g_assert_false (belay_commit (&file, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_null (file);
  assert_content (path, "old");
  g_assert_cmpuint (test_count_entries (folder), ==, 1);
  return TRUE;
}

static gboolean
commit_text (const char *path, const char *text, GError **error)
{
  belay_auto (BelayFile) file = belay_await (belay_file_replace (path), error);

  return file != NULL && belay_await_ok (belay_file_write_text (file, text), error) && belay_commit (&file, error);
}

static gboolean
replace_symlink (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("links");
  g_autofree char *inner = make_folder ("links/inner");
  g_autofree char *target = g_build_filename (inner, "target", NULL);
  g_autofree char *absolute = g_build_filename (folder, "absolute", NULL);
  g_autofree char *relative = g_build_filename (folder, "relative", NULL);
  g_autofree char *twice = g_build_filename (folder, "twice", NULL);
  g_autofree char *dangling = g_build_filename (folder, "dangling", NULL);
  g_autofree char *made = g_build_filename (inner, "made", NULL);
  g_autofree char *loop = g_build_filename (folder, "loop", NULL);
  const char *links[] = { absolute, relative, twice };

  put (target, "old");
  g_assert_cmpint (symlink (target, absolute), ==, 0);
  g_assert_cmpint (symlink ("inner/../inner/target", relative), ==, 0);
  g_assert_cmpint (symlink ("relative", twice), ==, 0);
  g_assert_cmpint (symlink ("inner/made", dangling), ==, 0);
  g_assert_cmpint (symlink ("loop", loop), ==, 0);
  for (guint i = 0; i < G_N_ELEMENTS (links); i++)
    {
      g_autofree char *text = g_strdup_printf ("new %u", i);

      g_assert_true (commit_text (links[i], text, error));
      g_assert_true (g_file_test (links[i], G_FILE_TEST_IS_SYMLINK));
      g_assert_false (g_file_test (target, G_FILE_TEST_IS_SYMLINK));
      assert_content (target, text);
    }
  g_assert_true (commit_text (dangling, "made", error));
  g_assert_true (g_file_test (dangling, G_FILE_TEST_IS_SYMLINK));
  assert_content (made, "made");
  assert_open_fails (belay_file_replace (loop), G_FILE_ERROR_LOOP, loop);
  g_assert_cmpuint (test_count_entries (inner), ==, 2);
  g_assert_cmpuint (test_count_entries (folder), ==, 6);
  g_unlink (loop);
  return TRUE;
}

static gboolean
replace_mode (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("modes");
  g_autofree char *path = g_build_filename (folder, "target", NULL);
  mode_t modes[] = { 0600, 0644, 0640, 0666, 0755, 0400, 0444, 04755, 02750 };
  mode_t mask = umask (027);
  struct stat info;

  g_assert_true (commit_text (path, "fresh", error));
  g_assert_cmphex (mode_of (path), ==, 0640);
  umask (mask);
  for (guint i = 0; i < G_N_ELEMENTS (modes); i++)
    {
      g_assert_cmpint (chmod (path, modes[i]), ==, 0);
      g_assert_true (commit_text (path, "again", error));
      g_assert_cmphex (mode_of (path), ==, modes[i]);
      assert_content (path, "again");
    }

  /* what it is at the commit counts, and nobody reads the new content before */
  {
    belay_auto (BelayFile) file = NULL;
    g_autoptr (GDir) dir = NULL;
    const char *name;

    g_assert_cmpint (chmod (path, 0644), ==, 0);
    file = belay_await (belay_file_replace (path), error);
    g_assert_nonnull (file);
    dir = g_dir_open (folder, 0, NULL);
    while ((name = g_dir_read_name (dir)) != NULL)
      if (g_str_has_prefix (name, ".belay-"))
        {
          g_autofree char *temporary = g_build_filename (folder, name, NULL);

          g_assert_cmphex (mode_of (temporary), ==, 0600);
        }
    g_assert_cmpint (chmod (path, 0604), ==, 0);
    g_assert_true (belay_commit (&file, error));
    g_assert_cmphex (mode_of (path), ==, 0604);
  }

  if (geteuid () != 0)
    return TRUE;
  g_assert_cmpint (chown (path, 1234, 4321), ==, 0);
  g_assert_cmpint (chmod (path, 06751), ==, 0);
  g_assert_true (commit_text (path, "somebody's", error));
  g_assert_cmpint (stat (path, &info), ==, 0);
  g_assert_cmpuint (info.st_uid, ==, 1234);
  g_assert_cmpuint (info.st_gid, ==, 4321);
  g_assert_cmphex (info.st_mode & 07777, ==, 06751);
  return TRUE;
}

/* After a failed write nothing is committed, and the commit says why. */
static gboolean
replace_failed_write (gpointer path, GError **error)
{
  g_autoptr (GError) local = NULL;
  g_autofree char *piece = g_strnfill (300 * 1024, 'x');
  belay_auto (BelayFile) file = belay_await (belay_file_replace (path), error);

  if (file == NULL)
    return FALSE;
  g_assert_false (belay_await_ok (belay_file_write_text (file, piece), &local));
  g_assert_nonnull (strstr (local->message, path));
  g_clear_error (&local);
  g_assert_false (belay_await_ok (belay_file_write_text (file, "small"), &local));
  return belay_commit (&file, error);
}

static void
assert_commit_fails (const char *folder, int code)
{
  g_autofree char *path = g_build_filename (folder, "target", NULL);
  g_autoptr (GError) error = NULL;

  put (path, "old");
  g_assert_false (belay_await_ok (belay_spawn (replace_failed_write, path), &error));
  g_assert_error (error, G_FILE_ERROR, code);
  assert_content (path, "old");
  g_assert_cmpuint (test_count_entries (folder), ==, 1);
}

static gboolean
replace_size_limit (gpointer data, GError **error)
{
  g_autofree char *folder = make_folder ("size-limit");
  struct rlimit limit = { 64 * 1024, 64 * 1024 };

  signal (SIGXFSZ, SIG_IGN);
  g_assert_cmpint (setrlimit (RLIMIT_FSIZE, &limit), ==, 0);
  assert_commit_fails (folder, g_file_error_from_errno (EFBIG));
  return TRUE;
}

static void
replace_full_limit (void)
{
  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }
  g_assert_cmpint (belay_run (replace_size_limit, NULL), ==, 0);
}

/* A small file system, full and then read-only, in a mount namespace of its own. */
static gboolean
replace_on_small_disk (gpointer data, GError **error)
{
  const char *folder = data;
  g_autofree char *path = g_build_filename (folder, "target", NULL);

  assert_commit_fails (folder, G_FILE_ERROR_NOSPC);
  g_assert_cmpint (mount (NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL), ==, 0);
  assert_open_fails (belay_file_replace (path), G_FILE_ERROR_ROFS, path);
  assert_open_fails (belay_file_create (path), G_FILE_ERROR_ROFS, path);
  assert_content (path, "old");
  return TRUE;
}

static void
replace_full_disk (void)
{
  g_autofree char *folder = NULL;

  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }
  folder = make_folder ("small-disk");
  if (unshare (CLONE_NEWNS) != 0 || mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
      mount ("belay-test", folder, "tmpfs", 0, "size=128k") != 0)
    {
      g_test_message ("no right to mount");
      return;
    }
  g_assert_cmpint (belay_run (replace_on_small_disk, folder), ==, 0);
  g_assert_cmpint (umount (folder), ==, 0);
}

/* Without root's rights: somebody else's file in a folder of ours, and a folder that is not ours. */
static gboolean
replace_without_rights (gpointer data, GError **error)
{
  const char *folder = data;
  g_autofree char *theirs = g_build_filename (folder, "theirs", NULL);
  g_autofree char *locked = g_build_filename (folder, "locked", NULL);
  g_autofree char *inside = g_build_filename (locked, "target", NULL);
  g_autofree char *unlisted = g_build_filename (folder, "unlisted", NULL);
  g_autofree char *within = g_build_filename (unlisted, "target", NULL);
  g_autofree char *secret = g_build_filename (folder, "secret", NULL);
  struct stat info;

  /* the owner cannot be kept, so neither is what was his or his group's alone */
  g_assert_true (commit_text (theirs, "new", error));
  g_assert_cmpint (stat (theirs, &info), ==, 0);
  g_assert_cmpuint (info.st_uid, ==, 1234);
  g_assert_cmphex (info.st_mode & 07777, ==, 0744);

  assert_open_fails (belay_file_replace (inside), G_FILE_ERROR_ACCES, inside);
  assert_open_fails (belay_file_create (inside), G_FILE_ERROR_ACCES, inside);

  /* a folder in which one may write but not look */
  g_assert_true (commit_text (within, "new", error));

  assert_read_fails (secret, G_FILE_ERROR_ACCES, g_strerror (EACCES));
  return TRUE;
}

static void
replace_rights (void)
{
  g_autofree char *folder = NULL;
  g_autofree char *theirs = NULL;
  g_autofree char *locked = NULL;
  g_autofree char *unlisted = NULL;
  g_autofree char *secret = NULL;
  g_autofree char *parent = NULL;

  if (geteuid () != 0)
    {
      g_test_skip ("only root can become somebody else");
      return;
    }
  if (!g_test_subprocess ())
    {
      g_test_trap_subprocess (NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
      g_test_trap_assert_passed ();
      return;
    }
  folder = make_folder ("rights");
  parent = g_path_get_dirname (folder);
  theirs = g_build_filename (folder, "theirs", NULL);
  locked = g_build_filename (folder, "locked", NULL);
  unlisted = g_build_filename (folder, "unlisted", NULL);
  secret = g_build_filename (folder, "secret", NULL);
  put (theirs, "old");
  put (secret, "old");
  g_assert_cmpint (chmod (theirs, 06774), ==, 0);
  g_assert_cmpint (chmod (secret, 0), ==, 0);
  g_assert_cmpint (g_mkdir (locked, 0755), ==, 0);
  g_assert_cmpint (g_mkdir (unlisted, 0733), ==, 0);
  g_assert_cmpint (chmod (unlisted, 0333), ==, 0);
  g_assert_cmpint (chown (unlisted, 1234, 1234), ==, 0);
  g_assert_cmpint (chown (folder, 1234, 1234), ==, 0);
  g_assert_cmpint (chmod (parent, 0755), ==, 0);
  g_assert_cmpint (setegid (1234), ==, 0);
  g_assert_cmpint (seteuid (1234), ==, 0);
  g_assert_cmpint (belay_run (replace_without_rights, folder), ==, 0);
  g_assert_cmpint (seteuid (0), ==, 0);
  g_assert_cmpint (setegid (0), ==, 0);
}

/* --- kill -9 --- */

#define KILL_SIZE (300 * 1024)

/* The child: replaces a file again and again, each time by another letter. */
static gboolean
replace_forever (gpointer path, GError **error)
{
  g_autofree char *text = g_malloc0 (KILL_SIZE + 1);

  for (guint i = 0;; i++)
    {
      memset (text, 'a' + (int) (i % 26), KILL_SIZE);
      if (!commit_text (path, text, error))
        return FALSE;
    }
}

static void
replace_killed (void)
{
  g_autofree char *folder = make_folder ("killed");
  g_autofree char *path = g_build_filename (folder, "target", NULL);
  g_autofree char *old = g_strnfill (KILL_SIZE, '-');
  g_autofree char *self = g_file_read_link ("/proc/self/exe", NULL);
  char *argv[] = { self, (char *) "--replace-forever", path, NULL };

  for (int round = 0; round < 20; round++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GDir) dir = NULL;
      g_autofree char *content = NULL;
      const char *name;
      guint n_temporaries = 0;
      gsize length;
      GPid child;
      int status;

      put (path, old);
      g_assert_true (g_spawn_async (NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &child, &error));
      g_usleep ((gulong) g_test_rand_int_range (0, 60000));
      g_assert_cmpint (kill (child, SIGKILL), ==, 0);
      g_assert_cmpint (waitpid (child, &status, 0), ==, child);
      g_assert_true (WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL);

      g_assert_true (g_file_get_contents (path, &content, &length, NULL));
      g_assert_cmpuint (length, ==, KILL_SIZE);
      for (gsize i = 1; i < length; i++)
        g_assert_cmpint (content[i], ==, content[0]);

      dir = g_dir_open (folder, 0, NULL);
      while ((name = g_dir_read_name (dir)) != NULL)
        {
          g_autofree char *entry = g_build_filename (folder, name, NULL);

          if (g_str_equal (name, "target"))
            continue;
          g_assert_true (g_str_has_prefix (name, ".belay-") && g_str_has_suffix (name, ".tmp"));
          g_assert_cmpint (g_unlink (entry), ==, 0);
          n_temporaries++;
        }
      g_assert_cmpuint (n_temporaries, <=, 1);
    }
}

/* Everything above, and not a descriptor more. */
static gboolean
descriptors (gpointer data, GError **error)
{
  guint fds = 0;

  for (int i = 0; i < 3; i++)
    {
      g_assert_true (create_leaves_content (NULL, error));
      g_assert_true (replace_committed (NULL, error));
      g_assert_true (replace_left (NULL, error));
      g_assert_true (read_cached (NULL, error));
      g_assert_true (read_uncached (NULL, error));
      g_assert_true (read_errors (NULL, error));
      if (i == 0)
        fds = settled_fds ();
      else
        wait_for_fds (fds);
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  if (argc == 3 && g_str_equal (argv[1], "--replace-forever"))
    return belay_run (replace_forever, argv[2]);

  g_test_init (&argc, &argv, NULL);
  test_add_fiber ("/file/read/cached", read_cached);
  test_add_fiber ("/file/read/uncached", read_uncached);
  test_add_fiber ("/file/read/empty", read_empty);
  test_add_fiber ("/file/read/huge", read_huge);
  test_add_fiber ("/file/read/proc", read_proc);
  test_add_fiber ("/file/read/errors", read_errors);
  test_add_fiber ("/file/read/unreadable", read_unreadable);
  g_test_add_func ("/file/read/null", read_null);
  g_test_add_func ("/file/read/thread", read_thread);
  test_add_fiber ("/file/read/many", read_many);
  test_add_fiber ("/file/read/shared", read_shared);
  test_add_fiber ("/file/read/fifo", read_fifo);
  test_add_fiber ("/file/read/fifo-cancelled", read_fifo_cancelled);
  test_add_fiber ("/file/read/L20-cancelled-scope", read_in_cancelled_scope);
  test_add_fiber ("/file/read/endless", read_endless);
  test_add_fiber ("/file/L9-refused-is-no-news", refused_is_seen);
  test_add_fiber ("/file/read/G09-cancelled", read_cancelled);
  test_add_fiber ("/file/create/leaves-content", create_leaves_content);
  test_add_fiber ("/file/create/G05-use-after-close", create_use_after_close);
  test_add_fiber ("/file/create/G06-body-error", create_body_error);
  test_add_fiber ("/file/create/G09-cancelled", create_cancelled);
  test_add_fiber ("/file/create/errors", create_errors);
  test_add_fiber ("/file/create/fifo", create_fifo);
  test_add_fiber ("/file/create/device", create_device);
  test_add_fiber ("/file/write/order", write_order);
  test_add_fiber ("/file/write/L21-await-cancelled", write_await_cancelled);
  test_add_fiber ("/file/write/big", write_big);
  test_add_fiber ("/file/write/L9-error", write_error);
  test_add_fiber ("/file/write/misuse", write_misuse);
  test_add_fiber ("/file/L17-dropped-without-close", dropped_without_close);
  test_add_fiber ("/file/L7-stuck-write", stuck_write);
  test_add_fiber ("/file/replace/abandoned", replace_abandoned);
  test_add_fiber ("/file/replace/committed", replace_committed);
  test_add_fiber ("/file/replace/left", replace_left);
  test_add_fiber ("/file/replace/L5-cancelled", replace_cancelled);
  test_add_fiber ("/file/replace/L24-deadline", replace_deadline);
  test_add_fiber ("/file/replace/symlink", replace_symlink);
  test_add_fiber ("/file/replace/mode", replace_mode);
  g_test_add_func ("/file/replace/full/limit", replace_full_limit);
  g_test_add_func ("/file/replace/full/disk", replace_full_disk);
  g_test_add_func ("/file/replace/rights", replace_rights);
  g_test_add_func ("/file/replace/killed", replace_killed);
  test_add_fiber ("/file/descriptors", descriptors);
  return g_test_run ();
}
