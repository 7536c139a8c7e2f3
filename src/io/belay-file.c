/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that are written: created ones, and replacements of old ones.
 *
 * Words. The *handle* is the BelayFile, the object that programs hold. The *state* is what the file really is: the
 * descriptor, the replacement, the first error. The *queue* is a BelaySerial; everything that touches the state
 * between opening and freeing is a job in it, so the state needs no lock, and what was asked for first happens first.
 *
 * The phase of a state is an atomic word, since who closes and who abandons may be on any thread:
 *
 *   OPEN ──close, commit──▶ CLOSING ──job──▶ ENDING
 *     └─────────┬──────────────┘               ▲
 *            abandon ──▶ ABANDONED ────job─────┘
 *
 * From ENDING on nothing changes the outcome any more; for a commit that is the instant before rename (2).
 *
 * Invariants.
 *  1. The descriptor is used and closed by jobs of the queue only: no number is ever used after it was given back.
 *  2. A write belongs to the file from the call on. Dropping its future, or a cancelled await of it, does not take it
 *     back: a content with a hole in its middle would be worse than one write too many. The bytes are held by a
 *     reference, so nothing of the caller's is borrowed.
 *  3. After a write has failed nothing more is written. Later writes report that first error, a commit does and
 *     commits nothing, the close of a created file does. A replacement that is discarded reports only what
 *     discarding it met: that its content was incomplete is no failure of throwing it away.
 *  4. Only the job of a commit renames, only when no write failed and nobody abandoned the file before that instant.
 *  5. Every way to an end runs through state_end(), which is idempotent: the close, the commit, the abandon, a
 *     file that comes too late, a handle dropped without a close (that is reported). It leaves no descriptor and no
 *     temporary.
 *  6. No worker is stuck in a device: the open is O_NONBLOCK, and so are the writes to what is no regular file. Only
 *     regular files and character devices (a terminal, /dev/null) are written; a FIFO, whose reader may go, would end
 *     the program by a signal.
 *
 * Ownership. The handle and each job hold the state. A write holds its bytes, and its own future until it is over.
 * A created file's commit brings it to disk; an ordinary close does not.
 */
#include "io/detached.h"
#include "io/replace.h"
#include "run/fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define PIECE_MAX ((gsize) 8 * 1024 * 1024) /* how much is written before looking for an abandon */
#define LOOK_AGAIN 50 /* ms between such looks at a device that takes nothing */

typedef enum
{
  PHASE_OPEN,
  PHASE_CLOSING,
  PHASE_ABANDONED,
  PHASE_ENDING
} Phase;

typedef struct
{
  int              refs;
  int              phase;
  char            *path;        /* as the caller gave it */
  gboolean         replaces;
  BelayReplacement replacement; /* a created file uses only its descriptor */
  GError          *first_error;
  BelaySerial     *queue;
  GThread         *opener;      /* the worker that opened it */
} State;

struct _BelayFile
{
  GObject parent;
  State  *state; /* NULL only before the constructor has set it */
};

static void resource_init (BelayResourceInterface *iface);

G_DEFINE_FINAL_TYPE_WITH_CODE (BelayFile, belay_file, G_TYPE_OBJECT,
                               G_IMPLEMENT_INTERFACE (BELAY_TYPE_RESOURCE, resource_init))

/* --- the state --- */

static State *
state_new (const char *path, gboolean replaces)
{
  State *self = g_new0 (State, 1);

  self->refs = 1;
  self->path = g_strdup (path);
  self->replaces = replaces;
  self->replacement = (BelayReplacement) BELAY_REPLACEMENT_INIT;
  self->queue = belay_serial_new ();
  return self;
}

static State *
state_ref (State *self)
{
  __atomic_fetch_add (&self->refs, 1, __ATOMIC_RELAXED);
  return self;
}

static void
state_unref (gpointer data)
{
  State *self = data;

  if (__atomic_fetch_sub (&self->refs, 1, __ATOMIC_ACQ_REL) != 1)
    return;
  g_assert (self->replacement.fd == -1 && self->replacement.folder == -1); /* invariant 5 */
  g_clear_error (&self->first_error);
  belay_serial_unref (self->queue);
  g_free (self->path);
  g_free (self);
}

static Phase
state_phase (State *self)
{
  return (Phase) __atomic_load_n (&self->phase, __ATOMIC_ACQUIRE);
}

/* Goes from one phase to another, for the first who asks. */
static gboolean
state_step (State *self, Phase from, Phase to)
{
  int expected = (int) from;

  return __atomic_compare_exchange_n (&self->phase, &expected, (int) to, FALSE, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static gboolean
fail_closed (State *self, GError **error)
{
  g_autofree char *name = g_filename_display_name (self->path);

  g_set_error (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the file '%s' is closed", name);
  return FALSE;
}

/* In a job: gives everything back. What close (2) says counts where the content was to stay. */
static gboolean
state_end (State *self, GError **error)
{
  int fd = self->replacement.fd;
  gboolean ok = TRUE;

  __atomic_store_n (&self->phase, (int) PHASE_ENDING, __ATOMIC_RELEASE);
  if (!self->replaces && fd != -1)
    {
      self->replacement.fd = -1;
      ok = belay_file_close_fd (fd) == 0 || belay_file_failed (error, "close", self->path, errno);
    }
  return belay_replacement_discard (&self->replacement, self->path, ok ? error : NULL) && ok;
}

/* --- ends by force --- */

/* Nobody listens, so it does not fail. */
static gpointer
end_job (gpointer data, GError **error)
{
  State *self = data;

  state_end (self, NULL);
  return self;
}

static void
state_abandon (State *self)
{
  if (state_step (self, PHASE_OPEN, PHASE_ABANDONED) || state_step (self, PHASE_CLOSING, PHASE_ABANDONED))
    belay_detach ("the end of a BelayFile by force", self->queue, end_job, state_ref (self), state_unref);
}

/* --- opening --- */

/* -1 with an error. Invariant 6. */
static int
create_fd (const char *path, GError **error)
{
  int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  struct stat info = { .st_mode = S_IFREG };
  int fd;

  do
    {
      fd = open (path, flags, 0666);
      if (fd == -1 && errno == EWOULDBLOCK)
        flags &= ~O_NONBLOCK; /* until whoever has a lease on it gives that up */
    }
  while (fd == -1 && (errno == EINTR || errno == EWOULDBLOCK));
  if (fd == -1 && errno != ENXIO)
    {
      belay_file_failed (error, "create", path, errno);
      return -1;
    }
  if (fd == -1 || (fstat (fd, &info) == 0 && !S_ISREG (info.st_mode) && !S_ISCHR (info.st_mode)))
    {
      g_autofree char *name = g_filename_display_name (path);

      g_set_error (error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "could not create '%s': it is there, and neither a regular "
                   "file nor a character device", name);
      if (fd != -1)
        close (fd);
      return -1;
    }
  if (S_ISREG (info.st_mode))
    fcntl (fd, F_SETFL, 0); /* some network file systems mind O_NONBLOCK */
  return fd;
}

static gpointer
open_job (gpointer data, GError **error)
{
  State *state = data;
  BelayFile *self;

  if (state->replaces)
    {
      if (!belay_replacement_open (&state->replacement, state->path, error))
        return NULL;
    }
  else
    {
      state->replacement.fd = create_fd (state->path, error);
      if (state->replacement.fd == -1)
        return NULL;
    }
  self = g_object_new (BELAY_TYPE_FILE, NULL);
  self->state = state_ref (state);
  state->opener = g_thread_self ();
  return self;
}

/* A file that nobody took: its awaiter was cancelled, or dropped the future. */
static void
drop_late (gpointer data)
{
  BelayFile *self = data;

  if (self->state->opener == g_thread_self ())
    {
      /* Still on the worker, where one may block; and no job was ever given to the queue. */
      state_end (self->state, NULL);
      g_object_unref (self);
      return;
    }
  belay_future_unref (belay_close_start (&self));
}

static BelayFuture *
open_file (const char *path, gboolean replaces)
{
  if (path == NULL)
    {
      g_critical ("%s: the path is NULL", replaces ? "belay_file_replace" : "belay_file_create");
      return belay_future_new_failed (BELAY_ERROR, BELAY_ERROR_MISUSE, "a path is missing");
    }
  return belay_thread_run_owned (open_job, state_new (path, replaces), state_unref, drop_late);
}

BelayFuture *
belay_file_create (const char *path)
{
  return open_file (path, FALSE);
}

BelayFuture *
belay_file_replace (const char *path)
{
  return open_file (path, TRUE);
}

/* --- writing --- */

typedef struct
{
  int          refs;   /* the job's, and that of the call */
  State       *state;
  GBytes      *bytes;
  BelayFuture *future; /* of the job: the interest that keeps it from being taken back */
} Write;

/* What a write's future holds, for those who look. */
static const char written[] = "written";

static void
write_unref (gpointer data)
{
  Write *self = data;

  if (__atomic_fetch_sub (&self->refs, 1, __ATOMIC_ACQ_REL) != 1)
    return;
  belay_future_unref (self->future);
  g_bytes_unref (self->bytes);
  state_unref (self->state);
  g_free (self);
}

/* Or a moment, to look for an abandon. */
static void
wait_writable (int fd)
{
  GPollFD poll = { fd, G_IO_OUT, 0 };

  g_poll (&poll, 1, LOOK_AGAIN);
}

static gboolean
write_all (State *state, GBytes *bytes, GError **error)
{
  gsize left;
  const char *from = g_bytes_get_data (bytes, &left);

  while (left > 0)
    {
      ssize_t n;

      if (state_phase (state) == PHASE_ABANDONED)
        return fail_closed (state, error);
      n = write (state->replacement.fd, from, MIN (left, PIECE_MAX));
      if (n == -1 && errno == EAGAIN)
        wait_writable (state->replacement.fd);
      else if (n == -1 && errno != EINTR)
        return belay_file_failed (error, "write", state->path, errno);
      if (n > 0)
        {
          from += n;
          left -= (gsize) n;
        }
    }
  return TRUE;
}

static gpointer
write_job (gpointer data, GError **error)
{
  Write *self = data;
  State *state = self->state;
  GError *failure = NULL;

  if (state->replacement.fd == -1 || state_phase (state) == PHASE_ABANDONED)
    fail_closed (state, &failure);
  else if (state->first_error != NULL)
    failure = g_error_copy (state->first_error);
  else if (!write_all (state, self->bytes, &failure))
    state->first_error = g_error_copy (failure);

  if (failure == NULL)
    return (gpointer) written;
  g_propagate_error (error, failure);
  return NULL;
}

BelayFuture *
belay_file_write (BelayFile *file, GBytes *bytes)
{
  belay_auto (BelayShield) shield = NULL;
  GError *error = NULL;
  BelayFuture *future;
  Write *self;

  if (!BELAY_IS_FILE (file) || bytes == NULL)
    {
      g_critical ("belay_file_write: a file and bytes are needed");
      return belay_future_new_failed (BELAY_ERROR, BELAY_ERROR_MISUSE, "the file or the bytes to write are missing");
    }
  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  if (state_phase (file->state) != PHASE_OPEN)
    {
      fail_closed (file->state, &error);
      return belay_future_new_error (error);
    }

  /* From here on it is an obligation of the file's, cancelled or not. */
  if (belay_in_fiber ())
    shield = belay_shield ();
  self = g_new (Write, 1);
  *self = (Write) { .refs = 2, .state = state_ref (file->state), .bytes = g_bytes_ref (bytes) };
  self->future = belay_serial_run_owned (file->state->queue, write_job, self, write_unref, NULL);
  future = belay_future_ref (self->future);
  write_unref (self);
  return future;
}

BelayFuture *
belay_file_write_text (BelayFile *file, const char *text)
{
  g_autoptr (GBytes) bytes = text != NULL ? g_bytes_new (text, strlen (text)) : NULL;

  return belay_file_write (file, bytes);
}

const char *
belay_file_get_path (BelayFile *file)
{
  g_return_val_if_fail (BELAY_IS_FILE (file), NULL);

  return file->state->path;
}

/* --- the verbs of a resource --- */

static gpointer
close_job (gpointer data, GError **error)
{
  State *self = data;
  gboolean incomplete = !self->replaces && self->first_error != NULL;
  gboolean ok = state_end (self, incomplete ? NULL : error);

  if (incomplete)
    g_propagate_error (error, g_error_copy (self->first_error));
  return ok && !incomplete ? self : NULL;
}

static gboolean
file_close (BelayResource *resource, BelayReason reason, GError **error)
{
  State *state = BELAY_FILE (resource)->state;

  if (!state_step (state, PHASE_OPEN, PHASE_CLOSING) && state_phase (state) == PHASE_ENDING)
    return TRUE; /* a commit has given everything back, and told how it went */
  return belay_await_ok (belay_serial_run_owned (state->queue, close_job, state_ref (state), state_unref, NULL), error);
}

static gboolean
commit (State *self, GError **error)
{
  if (self->replacement.fd == -1)
    return fail_closed (self, error);
  if (self->first_error != NULL)
    {
      g_propagate_error (error, g_error_copy (self->first_error));
      return FALSE;
    }
  if (!self->replaces)
    return belay_file_sync (fsync, self->replacement.fd) == 0 || belay_file_failed (error, "sync", self->path, errno);
  if (!belay_replacement_prepare (&self->replacement, self->path, error))
    return FALSE;
  if (!state_step (self, PHASE_CLOSING, PHASE_ENDING))
    return fail_closed (self, error); /* invariant 4 */
  return belay_replacement_rename (&self->replacement, self->path, error);
}

static gpointer
commit_job (gpointer data, GError **error)
{
  State *self = data;
  gboolean ok = commit (self, error);

  return state_end (self, ok ? error : NULL) && ok ? self : NULL;
}

static gboolean
file_commit (BelayResource *resource, GError **error)
{
  State *state = BELAY_FILE (resource)->state;

  if (!state_step (state, PHASE_OPEN, PHASE_CLOSING))
    return fail_closed (state, error);
  return belay_await_ok (belay_serial_run_owned (state->queue, commit_job, state_ref (state), state_unref, NULL), error);
}

static void
file_abandon (BelayResource *resource)
{
  state_abandon (BELAY_FILE (resource)->state);
}

static void
resource_init (BelayResourceInterface *iface)
{
  iface->close = file_close;
  iface->commit = file_commit;
  iface->abandon = file_abandon;
}

/* --- the handle --- */

static void
belay_file_finalize (GObject *object)
{
  State *state = BELAY_FILE (object)->state;

  if (state != NULL)
    {
      if (state_phase (state) == PHASE_OPEN)
        g_warning ("the file '%s' was dropped without being closed%s", state->path,
                   state->replaces ? "; its new content is discarded" : "");
      state_abandon (state);
      state_unref (state);
    }
  G_OBJECT_CLASS (belay_file_parent_class)->finalize (object);
}

static void
belay_file_class_init (BelayFileClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = belay_file_finalize;
}

static void
belay_file_init (BelayFile *self)
{
}
