/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors: what SQLite says, as a GError.
 *
 * A message has the form "PATH: WHAT SQLITE SAYS (STATEMENT)". The statement is on one line and cut after some eighty
 * bytes, for it may be a program's longest string; the code is SQLite's extended one, kept as it is.
 *
 *  E1  SQLITE_INTERRUPT is never seen by a user: it is G_IO_ERROR_CANCELLED, since nobody but us interrupts.
 *  E2  An error is made before the statement that failed is reset or finalized: the next call on the handle replaces
 *      SQLite's message.
 *  E3  SQLITE_BUSY_SNAPSHOT is no reason to wait: a read transaction whose snapshot is old can never become a writer,
 *      however long it waits. Every other busy code ends when its lock is given back.
 *  E4  A message is valid UTF-8, though SQLite quotes statements, names and texts as they are.
 *  E5  Where the system has refused something, what it said belongs to the message: SQLite's "unable to open database
 *      file" is the same for a folder, a lack of rights and a file that is not there.
 */
#include "sqlite-error.h"

#include <string.h>

#define SHOWN_SQL 80

G_DEFINE_QUARK (belay-sqlite-error-quark, belay_sqlite_error)

gboolean
belay_sqlite_code_is_busy (int code)
{
  return ((code & 0xff) == SQLITE_BUSY && code != SQLITE_BUSY_SNAPSHOT) || code == SQLITE_LOCKED_SHAREDCACHE;
}

/* One line of at most SHOWN_SQL bytes, valid UTF-8 whatever the statement was. */
static char *
shorten (const char *sql)
{
  GString *line = g_string_sized_new (SHOWN_SQL + 4);
  gboolean space = FALSE;

  for (const char *p = sql; *p != '\0'; p++)
    {
      if (g_ascii_isspace (*p))
        {
          space = line->len > 0;
          continue;
        }
      if (line->len + space >= SHOWN_SQL)
        {
          /* cut between characters, not within one */
          while (line->len > 0 && (line->str[line->len - 1] & 0xc0) == 0x80 && (*p & 0xc0) == 0x80)
            g_string_truncate (line, line->len - 1);
          if (line->len > 0 && (*p & 0xc0) == 0x80)
            g_string_truncate (line, line->len - 1);
          g_string_append (line, "…");
          break;
        }
      if (space)
        g_string_append_c (line, ' ');
      space = FALSE;
      g_string_append_c (line, *p);
    }
  if (!g_utf8_validate (line->str, (gssize) line->len, NULL))
    {
      char *valid = g_utf8_make_valid (line->str, (gssize) line->len);
      g_string_free (line, TRUE);
      return valid;
    }
  return g_string_free (line, FALSE);
}

GError *
belay_sqlite_error_make (int code, const char *detail, const char *path, const char *sql)
{
  g_autofree char *shown = sql != NULL ? shorten (sql) : NULL;
  g_autofree char *valid = g_utf8_make_valid (detail != NULL ? detail : sqlite3_errstr (code), -1); /* E4 */
  gboolean interrupted = (code & 0xff) == SQLITE_INTERRUPT;

  return g_error_new (interrupted ? G_IO_ERROR : BELAY_SQLITE_ERROR, interrupted ? (int) G_IO_ERROR_CANCELLED : code,
                      "%s%s%s%s%s%s", path != NULL ? path : "", path != NULL ? ": " : "", valid, shown != NULL ? " (" : "",
                      shown != NULL ? shown : "", shown != NULL ? ")" : "");
}

GError *
belay_sqlite_error_last (sqlite3 *handle, int code, const char *path, const char *sql)
{
  int last = handle != NULL ? sqlite3_extended_errcode (handle) : code;

  /* Misuse and a lack of memory are returned without being noted in the handle, whose message is then another's. */
  if ((last & 0xff) != (code & 0xff))
    return belay_sqlite_error_make (code, NULL, path, sql);
  if (handle != NULL && (last & 0xff) == SQLITE_CANTOPEN && sqlite3_system_errno (handle) != 0) /* E5 */
    {
      g_autofree char *detail = g_strconcat (sqlite3_errmsg (handle), ": ", g_strerror (sqlite3_system_errno (handle)), NULL);

      return belay_sqlite_error_make (last, detail, path, sql);
    }
  return belay_sqlite_error_make (last, handle != NULL ? sqlite3_errmsg (handle) : NULL, path, sql);
}

gboolean
belay_sqlite_set_error (sqlite3 *handle, const char *what, GError **error)
{
  int code;

  g_return_val_if_fail (handle != NULL, FALSE);
  g_return_val_if_fail (what != NULL, FALSE);

  code = sqlite3_extended_errcode (handle);
  if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE)
    code = SQLITE_ERROR; /* the caller says that it failed, so it did */
  if (error != NULL)
    {
      g_autofree char *text = g_strdup_printf ("%s: %s", what,
                                               sqlite3_errcode (handle) == SQLITE_OK ? "it failed, and SQLite knows no reason"
                                                                                     : sqlite3_errmsg (handle));
      g_propagate_error (error, belay_sqlite_error_make (code, text, NULL, NULL));
    }
  return FALSE;
}
