/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An application's lifespan: a database, a cache in it, models. Each is awaited when it starts; the work is served while all
 * are there; they are stopped in reverse. With an argument the model fails to load, and what was started is stopped.
 */
#include <belay/belay.h>

/* A part that takes a while to start and to stop. */
typedef struct
{
  BelayPlain  base;
  const char *name;
} Part;

static gboolean
part_close (gpointer data, BelayReason reason, GError **error)
{
  Part *part = data;

  g_print ("Stopping the %s%s\n", part->name, reason == BELAY_REASON_OK ? "" : ", since it failed");
  return belay_sleep (50, error);
}

static const BelayPlainClass part_class = BELAY_PLAIN_CLASS ("Part", part_close, g_free);

static gpointer
part_start (gpointer name, GError **error)
{
  Part *part;

  g_print ("Starting the %s\n", (char *) name);
  if (!belay_sleep (100, error))
    return NULL;
  part = belay_plain_new (Part, &part_class);
  part->name = name;
  return part;
}

static gpointer
model_fails (gpointer name, GError **error)
{
  if (belay_sleep (200, error))
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "the model is broken");
  return NULL;
}

static BelayFuture *
open_part (BelayLifespan *life, gpointer name)
{
  return belay_open (part_start, name);
}

static BelayFuture *
open_broken_model (BelayLifespan *life, gpointer name)
{
  return belay_open (model_fails, name);
}

static gboolean
serve (gpointer life, GError **error)
{
  Part *database = belay_lifespan_get (life, "database");

  g_print ("GET / with the %s: {\"message\":\"Hello World\"}\n", database->name);
  return TRUE;
}

static gboolean
run (gpointer life, GError **error)
{
  return belay_lifespan_run (life, serve, life, error);
}

int
main (int argc, char **argv)
{
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();

  belay_lifespan_add (life, "database", open_part, "database", NULL);
  belay_lifespan_add (life, "cache", open_part, "cache", "database", NULL);
  belay_lifespan_add (life, "models", argc > 1 ? open_broken_model : open_part, "models", "cache", NULL);
  return belay_run (run, life);
}
