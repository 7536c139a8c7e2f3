/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading a whole file.
 *
 * Words. *Inline* is on the caller's thread, by calls that answer at once or not at all. A *reading* is what one call
 * of belay_file_read_bytes() has so far: perhaps a descriptor, perhaps a buffer with the first bytes.
 *
 * A small file that is in the page cache is read inline, by four system calls: openat2 (RESOLVE_CACHED), which fails
 * where a name would have to be looked up on a disk; lseek, for the size, at a third of the cost of fstat; preadv2
 * (RWF_NOWAIT), which fails where a page is missing; close. Whatever does not go through in this way goes on in a
 * worker, from where it had come to: the descriptor and the bytes so far are handed over, so that nothing is opened
 * twice.
 *
 * Invariants.
 *  1. Nothing inline waits for a device, a network or another process. So the open is O_NONBLOCK (a FIFO, a lease),
 *     and what has no end to seek to (FIFOs, terminals, sockets, most devices) is not read; nor is what has more than
 *     INLINE_MAX bytes, since copying them alone would keep a frame waiting.
 *  2. Inline finds out about success, and about a name that the cache knows not to exist. Every other failure is left to
 *     the worker, which asks again with plain calls and has the last word.
 *  3. A FIFO is opened once. A second open would let a writer see its reader go, and lose what it wrote. That nobody
 *     writes yet is told from the end of the data by poll (2): it reports the hang-up of a writer only if there was one.
 *  4. A worker that waits for a FIFO or a terminal also waits for its own cancellation, and a long read looks for it
 *     between pieces: when nobody wants the bytes any more the thread comes free.
 *  5. The size that fstat tells is a hint. A worker reads until the end, wherever that is (files of /proc have size 0).
 *  6. The buffer is one byte longer than the bytes, and that byte is 0: a parser that takes the content for a string stops.
 *     Its memory may be refused, and that is an error like another (G_FILE_ERROR_NOMEM).
 *  7. The bytes are a boxed value either way, so that any number of awaits may share one future; so a job answers a
 *     promise. Nobody interested in that any more means nobody interested in the job: the reading then drops it.
 *  8. What need not end (a FIFO, a device such as /dev/zero) may have UNSIZED_MAX bytes at most: it could take all
 *     memory.
 *
 * A reading belongs to one thread at a time: the caller's, until it is handed to its job. Only `job` is touched by
 * others. Three have a share of it, and the last to go frees it: the job; the call, until it has told it its job; and
 * the promise's on_cancel, which may run while the job ends.
 */
#include "io/replace.h"
#include "run/fiber.h"

#include <belay/belay-test.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#if __has_include(<linux/openat2.h>)
# include <linux/openat2.h>
#endif

#define INLINE_MAX ((gsize) 128 * 1024)
#define PIECE_MAX  ((gsize) 8 * 1024 * 1024)
#define UNSIZED_MAX ((gsize) 256 * 1024 * 1024)
#define FIRST_SIZE ((gsize) 16 * 1024) /* for files that do not tell theirs */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

typedef struct
{
  char  *path;
  int    fd;       /* -1: not open yet */
  char  *buffer;   /* room for capacity bytes and one more */
  gsize  capacity;
  gsize  length;   /* of the bytes so far */

  /* in a worker only */
  gboolean      positioned; /* pread (2) works */
  int           refs;
  BelayPromise *promise;
  BelayFuture  *job; /* atomic: taken by who drops it */
} Reading;

static void
reading_clear (Reading *self)
{
  if (self->fd != -1)
    close (self->fd); /* only read from: there is nothing that it could report */
  self->fd = -1;
  g_clear_pointer (&self->buffer, g_free);
}

/* Takes the job back, or asks it to stop. */
static void
reading_drop_job (gpointer data)
{
  Reading *self = data;
  BelayFuture *job = __atomic_exchange_n (&self->job, NULL, __ATOMIC_ACQ_REL);

  if (job != NULL)
    belay_future_unref (job);
}

static void
reading_unref (gpointer data)
{
  Reading *self = data;

  if (__atomic_fetch_sub (&self->refs, 1, __ATOMIC_ACQ_REL) != 1)
    return;
  reading_clear (self);
  belay_promise_unref (self->promise);
  reading_drop_job (self);
  g_free (self->path);
  g_free (self);
}

/* Invariant 6. */
static gboolean
reading_reserve (Reading *self, gsize capacity)
{
  char *buffer;

  if (capacity >= G_MAXSSIZE || (buffer = belay_test_try_realloc (self->buffer, capacity + 1)) == NULL)
    return FALSE;
  self->buffer = buffer;
  self->capacity = capacity;
  return TRUE;
}

/* The bytes, out of the reading. */
static GBytes *
reading_finish (Reading *self)
{
  gsize length = self->length;

  if (self->capacity - length > length / 8 + 64)
    reading_reserve (self, length); /* give back what a file of unknown size did not need */
  self->buffer[length] = '\0';
  return g_bytes_new_take (g_steal_pointer (&self->buffer), length);
}

/* --- inline --- */

#if defined (SYS_openat2) && defined (RESOLVE_CACHED) && defined (RWF_NOWAIT)

/* A kernel, a sandbox or valgrind that does not know the call is asked once. */
static gboolean no_openat2;

static int
open_cached (const char *path)
{
  struct open_how how = { .flags = OPEN_FLAGS | O_LARGEFILE, .resolve = RESOLVE_CACHED };
  int fd;

  if (__atomic_load_n (&no_openat2, __ATOMIC_RELAXED))
    {
      errno = EAGAIN;
      return -1;
    }
  fd = (int) syscall (SYS_openat2, AT_FDCWD, path, &how, sizeof how);
  if (fd == -1 && (errno == ENOSYS || errno == EINVAL || errno == EPERM))
    {
      /* EINVAL is a kernel before 5.12, EPERM an old sandbox or else a matter for the worker. */
      if (errno != EPERM)
        __atomic_store_n (&no_openat2, TRUE, __ATOMIC_RELAXED);
      errno = EAGAIN;
    }
  return fd;
}

static ssize_t
read_cached (int fd, char *buffer, gsize length)
{
  struct iovec piece = { buffer, length };

  return preadv2 (fd, &piece, 1, 0, RWF_NOWAIT);
}

#else

static int
open_cached (const char *path)
{
  errno = EAGAIN;
  return -1;
}

static ssize_t
read_cached (int fd, char *buffer, gsize length)
{
  errno = EAGAIN;
  return -1;
}

#endif

/* TRUE when the file was read; FALSE without an error when a worker is to go on. */
static gboolean
read_inline (Reading *self, const char *path, GError **error)
{
  struct stat info;
  off_t end;
  gsize size;
  ssize_t n;

  self->fd = open_cached (path);
  if (self->fd == -1)
    return errno == ENOENT && belay_file_failed (error, "open", path, errno);
  end = lseek (self->fd, 0, SEEK_END);
  if (end < 0 || end > (off_t) INLINE_MAX)
    return FALSE;
  /* Some devices seek and stay at 0. */
  if (end == 0 && (fstat (self->fd, &info) == -1 || !S_ISREG (info.st_mode)))
    return FALSE;

  size = (gsize) end;
  if (!reading_reserve (self, size))
    return FALSE;
  /* Of an empty file one byte is asked for: that there is none is what tells it from a file of /proc. */
  n = read_cached (self->fd, self->buffer, MAX (size, 1));
  if (n == -1)
    return FALSE;
  self->length = MIN ((gsize) n, size);
  return (gsize) n == size;
}

/* --- in a worker --- */

static gboolean
check_cancelled (GError **error)
{
  return g_cancellable_set_error_if_cancelled (belay_worker_cancellable (), error);
}

/* Waits until there is something to read, an end of it, or nobody who wants it. */
static gboolean
wait_readable (Reading *self, GError **error)
{
  GCancellable *cancellable = belay_worker_cancellable ();
  GPollFD fds[2] = { { self->fd, G_IO_IN, 0 }, { -1, 0, 0 } };
  guint n_fds = 1;
  int result;
  int code;

  if (cancellable != NULL && g_cancellable_make_pollfd (cancellable, &fds[1]))
    n_fds = 2;
  do
    result = g_poll (fds, n_fds, -1);
  while (result == -1 && errno == EINTR);
  code = errno;
  if (n_fds == 2)
    g_cancellable_release_fd (cancellable);
  if (check_cancelled (error))
    return FALSE;
  return result != -1 || belay_file_failed (error, "read", self->path, code);
}

static gboolean
open_waiting (Reading *self, struct stat *info, GError **error)
{
  if (self->fd == -1)
    self->fd = open (self->path, OPEN_FLAGS);
  if (self->fd == -1 && errno == EWOULDBLOCK)
    self->fd = open (self->path, OPEN_FLAGS & ~O_NONBLOCK); /* until whoever has a lease on it gives that up */
  if (self->fd == -1)
    return belay_file_failed (error, "open", self->path, errno);
  if (fstat (self->fd, info) == -1)
    return belay_file_failed (error, "read", self->path, errno);
  if (S_ISDIR (info->st_mode))
    return belay_file_failed (error, "read", self->path, EISDIR);
  self->positioned = S_ISREG (info->st_mode);
  if (self->positioned)
    return fcntl (self->fd, F_SETFL, 0) != -1 || /* some network file systems mind O_NONBLOCK */
           belay_file_failed (error, "read", self->path, errno);
  self->length = 0;
  lseek (self->fd, 0, SEEK_SET); /* inline may have been at its end; what cannot seek stays where it is */
  return !S_ISFIFO (info->st_mode) || wait_readable (self, error); /* invariant 3 */
}

/* One read (2): the number of bytes, 0 at the end, -1 with an error. */
static ssize_t
read_piece (Reading *self, GError **error)
{
  char *to = self->buffer + self->length;
  gsize room = MIN (self->capacity - self->length, PIECE_MAX);

  for (;;)
    {
      ssize_t n = self->positioned ? pread (self->fd, to, room, (off_t) self->length) : read (self->fd, to, room);

      if (n >= 0)
        return n;
      if (errno == ESPIPE && self->positioned)
        {
          /* A stream that calls itself a regular file, as some in /proc and /sys do. */
          self->positioned = FALSE;
          fcntl (self->fd, F_SETFL, O_NONBLOCK);
        }
      else if (errno == EAGAIN && !self->positioned)
        {
          if (!wait_readable (self, error))
            return -1;
        }
      else if (errno != EINTR)
        {
          belay_file_failed (error, "read", self->path, errno);
          return -1;
        }
    }
}

static GBytes *
read_waiting (Reading *self, GError **error)
{
  struct stat info;
  gsize size;
  ssize_t n;

  if (!open_waiting (self, &info, error))
    return NULL;

  /* One byte more than the size: then the end is found without more room. */
  size = S_ISREG (info.st_mode) && info.st_size > 0 ? (gsize) info.st_size + 1 : FIRST_SIZE;
  do
    {
      if (!S_ISREG (info.st_mode) && self->length >= UNSIZED_MAX) /* invariant 8 */
        {
          belay_file_failed (error, "read", self->path, EFBIG);
          return NULL;
        }
      if (self->length == self->capacity || self->buffer == NULL)
        {
          gsize more = self->capacity < size ? size : self->capacity > G_MAXSSIZE / 2 ? G_MAXSSIZE : 2 * self->capacity;

          if (!reading_reserve (self, more))
            {
              belay_file_failed (error, "read", self->path, ENOMEM);
              return NULL;
            }
        }
      if (check_cancelled (error))
        return NULL;
      n = read_piece (self, error);
      if (n == -1)
        return NULL;
      self->length += (gsize) n;
    }
  while (n > 0);
  return reading_finish (self);
}

static gpointer
read_in_worker (gpointer data, GError **error)
{
  Reading *self = data;
  GError *failure = NULL;
  GBytes *bytes = read_waiting (self, &failure);

  if (bytes != NULL)
    belay_promise_resolve_boxed (self->promise, G_TYPE_BYTES, bytes);
  else
    belay_promise_reject (self->promise, failure);
  return self;
}

static BelayFuture *
hand_over (const Reading *here, const char *path)
{
  Reading *self = g_new (Reading, 1);
  BelayFuture *future, *job;

  *self = *here;
  self->path = g_strdup (path);
  self->refs = 3; /* the job's, ours, and on_cancel's, which may run while the job ends */
  self->promise = belay_promise_new ();
  belay_promise_on_cancel (self->promise, reading_drop_job, self, reading_unref);
  future = belay_promise_get_future (self->promise);
  job = belay_thread_run_owned (read_in_worker, self, reading_unref, NULL);
  if (belay_future_is_rejected (job)) /* cancelled, or out of time, since the checkpoint: refused like there */
    {
      belay_future_add_flag (future, BELAY_FUTURE_SEEN);
      belay_promise_reject (self->promise, g_error_copy (belay_future_get_error (job)));
    }
  __atomic_store_n (&self->job, job, __ATOMIC_RELEASE);
  reading_unref (self);
  return future;
}

BelayFuture *
belay_file_read_bytes (const char *path)
{
  Reading here = { .fd = -1 };
  BelayFuture *refused;
  GError *error = NULL;

  if (path == NULL)
    {
      g_critical ("belay_file_read_bytes: the path is NULL");
      return belay_future_new_failed (BELAY_ERROR, BELAY_ERROR_MISUSE, "a path is missing");
    }
  refused = belay_fiber_refuse ();
  if (refused != NULL)
    return refused;

  if (belay_chance (2) == 0 && read_inline (&here, path, &error))
    {
      g_autoptr (GBytes) bytes = reading_finish (&here);

      close (here.fd);
      return belay_future_new_boxed (G_TYPE_BYTES, bytes);
    }
  if (error == NULL)
    return hand_over (&here, path);
  reading_clear (&here);
  return belay_future_new_error (error);
}
