/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Belay among GIO's own asynchronous calls, in both directions. BELAY_GIO() makes a future of any pair `foo_async`
 * and `foo_finish`, so that a fiber can await it, in a loop. The other way round, checksum_async() and
 * checksum_finish() are such a pair for others to call, written as a fiber: belay_future_wait_async() turns its
 * future into a GTask, and the caller's GCancellable cancels it. main() knows nothing of fibers.
 */
#include <belay/belay.h>

static gpointer
checksum (gpointer data, GError **error)
{
  GInputStream *stream = data;
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);

  for (;;)
    {
      g_autoptr (GBytes) piece = belay_await (
        BELAY_GIO (g_input_stream_read_bytes_async, g_input_stream_read_bytes_finish, stream, 4, 0), error);
      if (piece == NULL)
        return NULL;
      if (g_bytes_get_size (piece) == 0)
        return g_strdup (g_checksum_get_string (sum));
      g_checksum_update (sum, g_bytes_get_data (piece, NULL), g_bytes_get_size (piece));
    }
}

static void
checksum_async (GInputStream *stream, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
  BelayScope *scope = belay_scope_for_object (G_OBJECT (stream));
  BelayFuture *sum = belay_scope_spawn_value (scope, checksum, g_object_ref (stream), g_object_unref, g_free);

  if (cancellable != NULL)
    belay_scope_follow_cancellable (scope, cancellable);
  belay_future_wait_async (sum, stream, cancellable, callback, data);
}

static char *
checksum_finish (GInputStream *stream, GAsyncResult *result, GError **error)
{
  g_autoptr (BelayFuture) sum = belay_future_wait_finish (result, error);

  return sum != NULL ? belay_future_take (sum, error) : NULL;
}

static void
on_checksum (GObject *stream, GAsyncResult *result, gpointer loop)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *sum = checksum_finish (G_INPUT_STREAM (stream), result, &error);

  g_print ("%s\n", sum != NULL ? sum : error->message);
  g_main_loop_quit (loop);
}

static void
checksum_of (const char *text, GCancellable *cancellable)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  g_autoptr (GInputStream) stream = g_memory_input_stream_new_from_data (text, -1, NULL);

  checksum_async (stream, cancellable, on_checksum, loop);
  g_main_loop_run (loop);
}

int
main (void)
{
  g_autoptr (GCancellable) cancelled = g_cancellable_new ();
  g_cancellable_cancel (cancelled);

  checksum_of ("The quick brown fox jumps over the lazy dog", NULL);
  checksum_of ("Nobody wants to know", cancelled);
  return 0;
}
