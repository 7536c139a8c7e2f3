/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A program to be interrupted: it starts, runs, stops and is drained, and says on its output what it does, a line each.
 *
 *     signal-victim PHASE [hang]
 *
 * In PHASE (start, run, stop, drain) it says "ready" and stays there for a long while, or until it is told to end. It holds
 * three things one inside of the other, "outer", "middle" and "inner"; each takes a moment to close, and with "hang" the
 * middle one, or, where there is only that, the outer one, never closes by itself.
 */
#include <belay/belay.h>

#include <string.h>
#include <unistd.h>

static const char *phase;
static gboolean hang;

static void
say (const char *what, const char *name)
{
  g_autofree char *line = g_strdup_printf ("%s %s\n", what, name);

  if (write (STDOUT_FILENO, line, strlen (line)) < 0)
    _exit (99);
}

/*
 * Until it is interrupted. In short pieces, with a call of the C library from here in between: the thread sanitizer delivers
 * a signal that came at a bad moment no earlier than with such a call.
 */
static gboolean
stay (GError **error)
{
  while (belay_sleep (50, error))
    usleep (1);
  return FALSE;
}

static gboolean
tick (gpointer unused)
{
  usleep (1);
  return G_SOURCE_CONTINUE;
}

static gboolean
linger (const char *in, GError **error)
{
  if (!g_str_equal (phase, in))
    return TRUE;
  say ("ready", in);
  return stay (error);
}

typedef struct
{
  BelayPlain  base;
  const char *name;
} Part;

static gboolean
part_close (gpointer data, BelayReason reason, GError **error)
{
  Part *self = data;

  say ("closing", self->name);
  if (g_str_equal (self->name, "inner") && g_str_equal (phase, "stop"))
    say ("ready", "stop");
  if (hang && g_str_equal (self->name, g_str_equal (phase, "start") ? "outer" : "middle"))
    return stay (error);
  if (!belay_sleep (g_str_equal (phase, "stop") ? 700 : 20, error))
    return FALSE;
  say ("closed", self->name);
  return TRUE;
}

static void
part_abandon (gpointer data)
{
  say ("forced", ((Part *) data)->name);
}

static const BelayPlainClass part_class = { BELAY_PLAIN_TAG, "Part", part_close, NULL, part_abandon, g_free };
BELAY_DEFINE_AUTO (Part)

static BelayFuture *
part_open (const char *name)
{
  Part *self = belay_plain_new (Part, &part_class);

  self->name = name;
  return belay_resource_future (self);
}

static gboolean
say_ready (gpointer unused)
{
  say ("ready", "drain");
  return G_SOURCE_REMOVE;
}

/* A job that outlives the program's work, and whose waiter has left. */
static gpointer
block (gpointer data, GError **error)
{
  g_usleep (120 * G_USEC_PER_SEC);
  return data;
}

static void
no_free (gpointer data)
{
}

static gboolean
work (gpointer data, GError **error)
{
  belay_auto (Part) outer = belay_await (part_open ("outer"), error);
  belay_auto (Part) middle = NULL;
  belay_auto (Part) inner = NULL;

  if (outer == NULL || !linger ("start", error))
    return FALSE;
  middle = belay_await (part_open ("middle"), error);
  inner = middle != NULL ? belay_await (part_open ("inner"), error) : NULL;
  if (inner == NULL || !linger ("run", error))
    return FALSE;
  if (g_str_equal (phase, "drain"))
    {
      BelayFuture *job = belay_thread_run_owned (block, (gpointer) "job", no_free, NULL);

      belay_sleep (50, NULL); /* it has begun */
      belay_future_unref (job);
      g_timeout_add (500, say_ready, NULL);
      g_timeout_add (50, tick, NULL);
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  if (argc < 2)
    return 2;
  phase = argv[1];
  hang = argc > 2;
  alarm (100);
  belay_run_set_drain_timeout (60 * 1000);
  return belay_run (work, NULL);
}
