/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A new content beside an old file, and the step that puts it in its place. Blocking; for workers. */
#pragma once

#include <glib.h>
#include <sys/stat.h>

typedef struct
{
  int         fd;         /* the new content; -1 when it is closed */
  int         folder;     /* where target and temporary are; -1 when there is neither */
  gboolean    can_list;   /* the folder is open for reading, so that it can be synced */
  char       *target;     /* a name in the folder */
  char       *temporary;  /* a name in the folder; NULL once it is renamed or removed */
  gboolean    was_there;
  struct stat old;        /* of the target, when it was there */
} BelayReplacement;

#define BELAY_REPLACEMENT_INIT { -1, -1, FALSE, NULL, NULL, FALSE, { 0 } }

/* Makes the temporary. @path is the name that the caller knows; errors speak of it. */
gboolean belay_replacement_open    (BelayReplacement *self, const char *path, GError **error);
/* All of a commit that can fail without a trace: owner and mode, the data on disk, close (2). */
gboolean belay_replacement_prepare (BelayReplacement *self, const char *path, GError **error);
/* The step: the new content takes the name of the old one; then the folder is brought to disk. */
gboolean belay_replacement_rename  (BelayReplacement *self, const char *path, GError **error);
/* Gives back all that is still held, in any state, also twice. A temporary that is left is removed. */
gboolean belay_replacement_discard (BelayReplacement *self, const char *path, GError **error);

/* Says what went wrong with a file: "could not VERB 'PATH': reason", by errno. Returns FALSE. */
gboolean belay_file_failed (GError **error, const char *verb, const char *path, int code);
/* close (2), but an interrupted one is a success: on Linux the descriptor is gone then, and nothing is lost. */
int      belay_file_close_fd (int fd);
/* fsync (2) or syncfs (2), to the end; what the file system cannot sync at all is a success. */
int      belay_file_sync (int (*sync) (int), int fd);
