/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An error on the way changes nothing about the releases: what was opened is closed, in reverse, and the error
 * goes up as in any GLib program. A guard that is left cannot say that its close failed, since the function's result
 * is fixed by then; so whatever was written to is closed explicitly, with belay_close() or belay_commit(), and what a
 * guard that was merely left has to say is fetched by belay_check().
 */
#include <belay/belay.h>

typedef struct
{
  BelayPlain  base;
  const char *name;
} Tape;

static gboolean
tape_close (gpointer self, BelayReason reason, GError **error)
{
  Tape *tape = self;

  g_print ("closing %s, %s\n", tape->name, reason == BELAY_REASON_OK ? "as told" : "left");
  if (!g_str_equal (tape->name, "the torn tape"))
    return TRUE;
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s does not rewind", tape->name);
  return FALSE;
}

static const BelayPlainClass tape_class = BELAY_PLAIN_CLASS ("Tape", tape_close, g_free);
BELAY_DEFINE_AUTO (Tape)

static gpointer
open_tape (gpointer name, GError **error)
{
  if (name == NULL)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "no such tape");
      return NULL;
    }
  Tape *tape = belay_plain_new (Tape, &tape_class);
  tape->name = name;
  return tape;
}

static gboolean
copy (const char *from, const char *to, gboolean explicitly, GError **error)
{
  belay_auto (Tape) source = belay_await (belay_open (open_tape, (gpointer) from), error);
  belay_auto (Tape) target = source ? belay_await (belay_open (open_tape, (gpointer) to), error) : NULL;

  return target != NULL && (!explicitly || belay_close (&target, error));
}

static gboolean
copy_tapes (gpointer data, GError **error)
{
  g_autoptr (GError) cannot_open = NULL, cannot_close = NULL;

  if (!copy ("the first tape", NULL, TRUE, &cannot_open))
    g_print ("=> %s\n", cannot_open->message);
  if (!copy ("the first tape", "the torn tape", TRUE, &cannot_close))
    g_print ("=> %s\n", cannot_close->message);

  if (copy ("the first tape", "the torn tape", FALSE, error))
    g_print ("=> all well, it seems\n");
  return belay_check (error);
}

int
main (void)
{
  return belay_run (copy_tapes, NULL);
}
