/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Replacing a file: all of the new content, or the old file as it was.
 *
 * Words. The *target* is what a path leads to once its symbolic links are followed; it need not be there. The
 * *folder* is where the target is, held open, so that neither chdir (2) nor a renamed parent leads a commit astray.
 * The *temporary* is the new content until it is renamed: `.belay-` and 128 random bits and `.tmp`, beside the target,
 * since rename (2) is atomic only inside one file system.
 *
 * States:   nothing ──open──▶ writing ──prepare──▶ on disk ──rename──▶ in place
 *                                └───────────┴──────discard──────▶ nothing
 *
 * Invariants.
 *  1. Until `rename` the target is not touched: not opened, not truncated, not linked.
 *  2. What is renamed is on disk already (fsync before rename): a crash shows the old content or all of the new one.
 *  3. The temporary is made with O_EXCL under a name nobody can guess, so it is neither somebody's link nor somebody's
 *     file, and readable by its owner alone if an old file's mode is to be kept: owner and mode come last, right
 *     before the data is synced. Content is never readable for longer or for more than the old file's was, and a
 *     set-user-ID file is never there half-written.
 *  4. The owner and the group are kept where the system lets us. Where it does not, the bits that spoke of them are
 *     dropped: set-user-ID, set-group-ID, and what the group may do beyond what all may.
 *  5. Symbolic links are followed by name only after stat (2) followed them, so the kernel's rules for links in
 *     shared folders (fs.protected_symlinks) hold.
 *  6. Only a regular file is replaced: never a folder, a device or a FIFO.
 *
 * What a crash leaves behind. A process that is killed, or a machine that stops, before `rename` leaves the target
 * as it was and one file `.belay-*.tmp` beside it, which nobody reads and which is safe to remove when no program is
 * replacing a file there. Between `rename` and the end of the commit the target has the new content; after a loss of
 * power it may be the old one still, whole. After the commit it is the new one.
 *
 * Not kept: hard links (other names keep the old content), extended attributes and access control lists.
 *
 * Everything here blocks, and belongs to one thread at a time: see belay-file.c for who calls.
 */
#include "io/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define MAX_LINKS 40 /* as many as Linux follows in one path */

gboolean
belay_file_failed (GError **error, const char *verb, const char *path, int code)
{
  g_autofree char *name = g_filename_display_name (path);

  g_set_error (error, G_FILE_ERROR, g_file_error_from_errno (code), "could not %s '%s': %s", verb, name,
               g_strerror (code));
  return FALSE;
}

int
belay_file_close_fd (int fd)
{
  return close (fd) == 0 || errno == EINTR ? 0 : -1;
}

int
belay_file_sync (int (*sync) (int), int fd)
{
  int result;

  do
    result = sync (fd);
  while (result == -1 && errno == EINTR);
  return result == 0 || errno == EINVAL || errno == ENOTSUP || errno == ENOSYS ? 0 : -1;
}

/* --- where the target is --- */

/* What the last part of @path is, with links followed by name; the folders above are left to the kernel. */
static char *
follow_links (const char *path, GError **error)
{
  g_autofree char *current = g_strdup (path);

  for (int i = 0; i < MAX_LINKS; i++)
    {
      char link[PATH_MAX];
      ssize_t n = readlink (current, link, sizeof link - 1);

      if (n == -1 && (errno == EINVAL || errno == ENOENT))
        return g_steal_pointer (&current);
      if (n == -1 || n == sizeof link - 1)
        {
          belay_file_failed (error, "follow", path, n == -1 ? errno : ENAMETOOLONG);
          return NULL;
        }
      link[n] = '\0';
      if (link[0] == '/')
        {
          g_free (current);
          current = g_strdup (link);
        }
      else
        {
          g_autofree char *parent = g_path_get_dirname (current);

          g_free (current);
          current = g_build_filename (parent, link, NULL);
        }
    }
  belay_file_failed (error, "follow", path, ELOOP);
  return NULL;
}

/* 0, or the errno that says why what is there cannot be replaced. */
static int
check_kind (const struct stat *info)
{
  return S_ISREG (info->st_mode) ? 0 : S_ISDIR (info->st_mode) ? EISDIR : EINVAL;
}

/* Opens the folder and names the target in it. */
static gboolean
find_target (BelayReplacement *self, const char *path, GError **error)
{
  g_autofree char *final = NULL;
  g_autofree char *folder = NULL;
  struct stat info;
  int code = 0;

  if (stat (path, &info) == 0)
    code = check_kind (&info);
  else if (errno != ENOENT)
    code = errno;
  else if (path[0] == '\0')
    code = ENOENT;
  else if (g_str_has_suffix (path, "/"))
    code = EISDIR;
  if (code != 0)
    return belay_file_failed (error, "replace", path, code);

  final = follow_links (path, error);
  if (final == NULL)
    return FALSE;

  folder = g_path_get_dirname (final);
  self->target = g_path_get_basename (final);
  self->folder = open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  self->can_list = self->folder != -1;
  if (self->folder == -1 && errno == EACCES)
    self->folder = open (folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (self->folder == -1)
    return belay_file_failed (error, "open the folder of", path, errno);

  self->was_there = fstatat (self->folder, self->target, &self->old, AT_SYMLINK_NOFOLLOW) == 0;
  code = self->was_there ? check_kind (&self->old) : errno == ENOENT ? 0 : errno;
  return code == 0 || belay_file_failed (error, "replace", path, code);
}

/* --- the temporary --- */

static char *
make_name (void)
{
  guint64 words[2];
  ssize_t n;

  do
    n = getrandom (words, sizeof words, 0);
  while (n == -1 && errno == EINTR);
  if (n != sizeof words)
    return NULL;
  return g_strdup_printf (".belay-%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x.tmp", words[0], words[1]);
}

gboolean
belay_replacement_open (BelayReplacement *self, const char *path, GError **error)
{
  int code;

  if (find_target (self, path, error))
    {
      self->temporary = make_name ();
      if (self->temporary != NULL)
        self->fd = openat (self->folder, self->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                           self->was_there ? 0600 : 0666);
      if (self->fd != -1)
        return TRUE;
      code = errno;
      g_clear_pointer (&self->temporary, g_free); /* it was never made */
      belay_file_failed (error, "make a temporary file for", path, code);
    }
  belay_replacement_discard (self, path, NULL);
  return FALSE;
}

/* Invariant 4. */
static gboolean
keep_owner_and_mode (BelayReplacement *self, const char *path, GError **error)
{
  struct stat now;
  mode_t mode;

  /* What the target is by now counts, if somebody changed it meanwhile. */
  if (fstatat (self->folder, self->target, &now, AT_SYMLINK_NOFOLLOW) == 0)
    {
      self->was_there = TRUE;
      self->old = now;
    }
  if (!self->was_there)
    return TRUE;
  if (check_kind (&self->old) != 0)
    return belay_file_failed (error, "replace", path, check_kind (&self->old));

  if (fstat (self->fd, &now) == -1)
    return belay_file_failed (error, "replace", path, errno);
  if ((now.st_uid != self->old.st_uid || now.st_gid != self->old.st_gid) &&
      (fchown (self->fd, self->old.st_uid, self->old.st_gid) == 0 || fchown (self->fd, (uid_t) -1, self->old.st_gid) == 0) &&
      fstat (self->fd, &now) == -1)
    return belay_file_failed (error, "replace", path, errno);

  mode = self->old.st_mode & 07777;
  if (now.st_uid != self->old.st_uid)
    mode &= ~S_ISUID;
  if (now.st_gid != self->old.st_gid)
    mode &= ~(S_ISGID | (S_IRWXG & ~((mode & S_IRWXO) << 3)));
  if ((now.st_mode & 07777) != mode && fchmod (self->fd, mode) == -1)
    return belay_file_failed (error, "set the mode of the new", path, errno);
  return TRUE;
}

/* --- the commit --- */

gboolean
belay_replacement_prepare (BelayReplacement *self, const char *path, GError **error)
{
  int fd = self->fd;

  if (!keep_owner_and_mode (self, path, error))
    return FALSE;
  if (belay_file_sync (fsync, fd) == -1)
    return belay_file_failed (error, "sync", path, errno);
  if (!self->can_list)
    return TRUE; /* kept open: the only way to the file system */
  self->fd = -1;
  return belay_file_close_fd (fd) == 0 || belay_file_failed (error, "close", path, errno);
}

gboolean
belay_replacement_rename (BelayReplacement *self, const char *path, GError **error)
{
  if (renameat (self->folder, self->temporary, self->folder, self->target) == -1)
    return belay_file_failed (error, "replace", path, errno);
  g_clear_pointer (&self->temporary, g_free);

  /* A folder that we may not read cannot be synced by itself. */
  if ((self->can_list ? belay_file_sync (fsync, self->folder) : belay_file_sync (syncfs, self->fd)) == -1)
    return belay_file_failed (error, "bring to disk the folder of the replaced", path, errno);
  return TRUE;
}

gboolean
belay_replacement_discard (BelayReplacement *self, const char *path, GError **error)
{
  gboolean ok = TRUE;

  if (self->temporary != NULL && unlinkat (self->folder, self->temporary, 0) == -1 && errno != ENOENT)
    ok = belay_file_failed (error, "remove the temporary file of", path, errno);
  if (self->fd != -1)
    close (self->fd); /* what it says concerns a content that nobody wants */
  if (self->folder != -1)
    close (self->folder);
  self->fd = self->folder = -1;
  g_clear_pointer (&self->temporary, g_free);
  g_clear_pointer (&self->target, g_free);
  return ok;
}
