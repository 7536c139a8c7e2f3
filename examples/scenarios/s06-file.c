/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file, opened, printed and closed, with the lines that say so; closed also when reading it fails. The file is a
 * stream of GIO's, held by a guard: its close is GIO's asynchronous one, awaited at the closing brace.
 */
#include <belay/belay.h>
#include <glib/gstdio.h>

typedef struct
{
  BelayPlain    base;
  GInputStream *stream;
} Text;

static gboolean
text_close (gpointer self, BelayReason reason, GError **error)
{
  g_autoptr (GInputStream) stream = ((Text *) self)->stream;

  g_print ("Closing the file\n");
  return belay_await_ok (BELAY_GIO (g_input_stream_close_async, g_input_stream_close_finish, stream, 0), error);
}

static const BelayPlainClass text_class = BELAY_PLAIN_CLASS ("Text", text_close, g_free);
BELAY_DEFINE_AUTO (Text)

static gpointer
text_open (gpointer path, GError **error)
{
  g_autoptr (GFile) file = g_file_new_for_path (path);

  g_print ("Opening the file\n");
  GFileInputStream *stream = belay_await (BELAY_GIO (g_file_read_async, g_file_read_finish, file, 0), error);
  if (stream == NULL)
    return NULL;

  Text *text = belay_plain_new (Text, &text_class);
  text->stream = G_INPUT_STREAM (stream);
  return text;
}

static gboolean
print_text (gpointer path, GError **error)
{
  belay_auto (Text) text = belay_await (belay_open (text_open, path), error);
  if (text == NULL)
    return FALSE;

  for (;;)
    {
      g_autoptr (GBytes) piece = belay_await (
        BELAY_GIO (g_input_stream_read_bytes_async, g_input_stream_read_bytes_finish, text->stream, 4096, 0), error);
      if (piece == NULL)
        return FALSE;
      if (g_bytes_get_size (piece) == 0)
        return TRUE;
      g_print ("%.*s", (int) g_bytes_get_size (piece), (char *) g_bytes_get_data (piece, NULL));
    }
}

int
main (int argc, char **argv)
{
  if (argc > 1)
    return belay_run (print_text, argv[1]);

  g_autofree char *folder = g_dir_make_tmp ("belay-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (folder, "data.txt", NULL);
  g_file_set_contents (path, "The first line.\nThe second line.\n", -1, NULL);

  int status = belay_run (print_text, path);

  g_remove (path);
  g_rmdir (folder);
  return status;
}
