/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Callback code, without a fiber: what the handlers of a GTK program look like. The player (it could be a widget) has
 * a stored scope, hands its futures to it with belay_scope_then(), and returns to the main loop. No callback is
 * called after the scope began to close, so each may use the player without asking whether it still lives: here
 * the user stops in the middle of the second song, and nothing is heard of its end. Nothing blocks: closing is a
 * future, too.
 */
#include <belay/belay.h>

typedef struct
{
  BelayScope *scope;
  GMainLoop  *loop;
  guint       song;
} Player;

static gboolean on_song_over (BelayFuture *done, gpointer data, GError **error);

static void
play (Player *player)
{
  g_print ("song %u begins\n", ++player->song);
  belay_scope_then (player->scope, belay_future_delay (200), on_song_over, player);
}

static gboolean
on_song_over (BelayFuture *done, gpointer data, GError **error)
{
  Player *player = data;

  g_print ("song %u ends\n", player->song);
  play (player);
  return TRUE;
}

static void
on_closed (GObject *source, GAsyncResult *result, gpointer data)
{
  Player *player = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (BelayFuture) closed = belay_future_wait_finish (result, &error);

  g_print ("closed: %s\n", closed != NULL ? "all is released" : error->message);
  g_main_loop_quit (player->loop);
}

static void
on_stop (GObject *source, GAsyncResult *result, gpointer data)
{
  Player *player = data;

  g_print ("stop\n");
  belay_scope_cancel (player->scope, "the user wants silence");
  belay_future_wait_async (belay_close_start (&player->scope), NULL, NULL, on_closed, player);
}

int
main (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  Player player = { belay_scope_new (), loop, 0 };

  play (&player);
  belay_future_wait_async (belay_future_delay (300), NULL, NULL, on_stop, &player); /* the user's finger */
  g_main_loop_run (loop);
  return 0;
}
