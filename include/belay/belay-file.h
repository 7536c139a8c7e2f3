/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files: read whole, written, replaced. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

#define BELAY_TYPE_FILE (belay_file_get_type ())
BELAY_AVAILABLE_IN_1_0 G_DECLARE_FINAL_TYPE (BelayFile, belay_file, BELAY, FILE, GObject)

/**
 * belay_file_read_bytes:
 * @path: a file name
 *
 * Reads a whole file. Up to 128 KiB that are in the page cache are read at once; what would block, or take long, is read
 * by a worker.
 *
 * A FIFO or a terminal is read until its end, while a writer is waited for, too; what is no regular file may have 256
 * MiB at most.
 *
 * Suspends: never itself. Cancellation: owning: a cancelled await returns at once. Threads: any.
 * Errors: %G_FILE_ERROR codes, with the path.
 *
 * Returns: (transfer full): a future of #GBytes
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_file_read_bytes (const char *path) BELAY_USE_RESULT;

/**
 * belay_file_create:
 * @path: a file name
 *
 * Opens a file for writing from its start; it is made when it is not there, and emptied when it is. What was written
 * stays, however the guard is left. To replace a file that matters, use belay_file_replace(). A character device (a
 * terminal, `/dev/null`) can be written, too; anything else that is no regular file is refused.
 *
 * Suspends: never itself. Cancellation: owning: a cancelled await returns at once, and a file that is opened too late
 * is closed (made or emptied it may be). Threads: any. Errors: %G_FILE_ERROR codes, with the path; %G_FILE_ERROR_INVAL
 * for a FIFO or the like.
 *
 * Returns: (transfer full): a future of #BelayFile
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_file_create (const char *path) BELAY_USE_RESULT;

/**
 * belay_file_replace:
 * @path: a file name
 *
 * Opens a new content for a file. belay_commit() puts it in the place of the old one, all of it or nothing, on disk
 * when it returns; left in any other way the new content is discarded and the old file is as it was. The mode
 * of an old file is kept; a symbolic link is followed.
 *
 * Suspends: never itself. Cancellation: owning: a cancelled await returns at once, and a new content that is opened too
 * late is discarded. Threads: any. Errors: %G_FILE_ERROR codes, with the path; %G_FILE_ERROR_INVAL when the old one is
 * no regular file.
 *
 * Returns: (transfer full): a future of #BelayFile
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_file_replace (const char *path) BELAY_USE_RESULT;

/**
 * belay_file_write:
 * @file: a file open for writing
 * @bytes: what to append to what was written
 *
 * Writes all of @bytes, after the writes before it. Once called it is not taken back, so that the content has no hole;
 * after a write that failed, later ones fail with the same error, and so does the commit of a replaced file or the close
 * of a created one.
 *
 * Suspends: never itself. Cancellation: a write that has begun is finished; an await of it may end before. The file's
 * close waits for it. Threads: any. Errors: %G_FILE_ERROR codes, with the path; %G_IO_ERROR_CLOSED.
 *
 * Returns: (transfer full): resolves when it is written
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_file_write      (BelayFile *file, GBytes *bytes) BELAY_USE_RESULT;
/* The same for a string. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_file_write_text (BelayFile *file, const char *text) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 const char  *belay_file_get_path   (BelayFile *file);

BELAY_DEFINE_AUTO (BelayFile)

G_END_DECLS
