/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pool in callback code. A viewer shows three pictures; to decode one takes a decoder, and there are two. Nothing here is a fiber
 * but what makes the decoders. The chain for a picture is: a lease, as a future; the work, with the lease as the data of a
 * belay_future_finally(), which is freed when the work has ended, well or not; what is shown, which the viewer's scope owns. The scope
 * owns the pool, too: closing it ends the chains, then the pool.
 */
#include <belay/belay.h>

typedef struct
{
  BelayScope *scope;
  BelayPool  *pool;
  GMainLoop  *loop;
  guint       n_shown;
} Viewer;

typedef struct
{
  Viewer     *viewer;
  const char *name;
} Picture;

typedef struct
{
  guint n_pictures;
} Decoder;

/* --- decoders --- */

static gpointer
start_decoder (const char *key, gpointer data, GError **error)
{
  return belay_sleep (50, error) ? g_new0 (Decoder, 1) : NULL;
}

static gboolean
stop_decoder (gpointer decoder, gpointer data, GError **error)
{
  g_print ("a decoder of %u stops\n", ((Decoder *) decoder)->n_pictures);
  g_free (decoder);
  return TRUE;
}

/* Some asynchronous call. */
static BelayFuture *
decode (Decoder *decoder, const char *name)
{
  decoder->n_pictures++;
  return g_str_equal (name, "torn.png") ? belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "it is torn")
                                        : belay_future_delay (100);
}

/* --- the viewer --- */

static BelayFuture *
pass_on (BelayFuture *done, gpointer lease)
{
  return NULL; /* as it was decoded, or not */
}

static BelayFuture *
on_decoder (BelayFuture *done, gpointer data)
{
  Picture *picture = data;
  BelayLease *lease = belay_future_take (done, NULL); /* after a success, so it is there */

  return belay_future_finally (decode (belay_lease_get (lease), picture->name), pass_on, lease, belay_resource_drop);
}

static void
on_closed (GObject *source, GAsyncResult *result, gpointer data)
{
  Viewer *viewer = data;
  g_autoptr (GError) error = NULL;
  g_autoptr (BelayFuture) closed = belay_future_wait_finish (result, &error);

  g_print ("closed: %s\n", closed != NULL ? "all is released" : error->message);
  g_main_loop_quit (viewer->loop);
}

static gboolean
on_decoded (BelayFuture *done, gpointer data, GError **error)
{
  Picture *picture = data;
  Viewer *viewer = picture->viewer;
  g_autoptr (GError) failure = NULL;

  if (belay_future_check (done, &failure))
    g_print ("%s\n", picture->name);
  else
    g_print ("%s: %s\n", picture->name, failure->message);
  if (++viewer->n_shown == 3)
    belay_future_wait_async (belay_close_start (&viewer->scope), NULL, NULL, on_closed, viewer);
  return TRUE; /* one that is torn does not end the viewer */
}

static void
show (Picture *picture)
{
  Viewer *viewer = picture->viewer;

  belay_scope_then (viewer->scope, belay_future_then (belay_pool_acquire_async (viewer->pool), on_decoder, picture, NULL),
                    on_decoded, picture);
}

int
main (void)
{
  BelayPoolOptions options = { .name = "decoders", .create = start_decoder, .destroy = stop_decoder, .max = 2 };
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  Viewer viewer = { belay_scope_new (), belay_pool_new (&options, NULL), loop, 0 };
  Picture pictures[] = { { &viewer, "sea.png" }, { &viewer, "torn.png" }, { &viewer, "hill.png" } };

  belay_scope_adopt (viewer.scope, viewer.pool, NULL); /* its owner; `pool` is just where it is */
  for (guint i = 0; i < G_N_ELEMENTS (pictures); i++)
    show (&pictures[i]);
  g_main_loop_run (loop);
  return 0;
}
