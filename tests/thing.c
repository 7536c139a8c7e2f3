/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "thing.h"

#include <string.h>

Thing *
thing_new_slow (const char *name, gint64 close_ms)
{
  Thing *self = thing_new (name);

  self->close_ms = close_ms;
  return self;
}

Thing *
thing_new_failing (const char *name, const char *close_error)
{
  Thing *self = thing_new (name);

  self->close_error = close_error;
  return self;
}

Thing *
thing_new_hanging (const char *name)
{
  Thing *self = thing_new (name);

  self->close_hangs = TRUE;
  return self;
}

/* --- opening --- */

typedef struct
{
  const char *name;
  const char *message;
  gint64      milliseconds;
} Opening;

static gpointer
open_thing (gpointer data, GError **error)
{
  Opening *opening = data;

  if (opening->milliseconds > 0 && !belay_sleep (opening->milliseconds, error))
    return NULL;
  if (opening->message != NULL)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, opening->message);
      return NULL;
    }
  return thing_new (opening->name);
}

char *
thing_join_errors (BelayErrors *errors)
{
  GString *joined = g_string_new (NULL);

  for (guint i = 0; i < belay_errors_get_size (errors); i++)
    g_string_append_printf (joined, "%s%s", i > 0 ? "; " : "", belay_errors_get (errors, i)->message);
  return g_string_free (joined, FALSE);
}

BelayFuture *
thing_open (const char *name)
{
  return belay_resource_future (thing_new (name));
}

static BelayFuture *
start (Opening opening)
{
  Opening *copy = g_new (Opening, 1);

  *copy = opening;
  return belay_open_owned (open_thing, copy, g_free);
}

BelayFuture *
thing_open_in (const char *name, gint64 milliseconds)
{
  return start ((Opening) { .name = name, .milliseconds = milliseconds });
}

BelayFuture *
thing_fail_in (const char *message, gint64 milliseconds)
{
  return start ((Opening) { .message = message, .milliseconds = milliseconds });
}

/* --- as objects --- */

struct _ThingObject
{
  GObject parent;
  Thing  *manner;
};

static const BelayPlainClass *
class_of (BelayResource *self)
{
  return THING_OBJECT (self)->manner->base.klass;
}

static gboolean
object_close (BelayResource *self, BelayReason reason, GError **error)
{
  return class_of (self)->close (THING_OBJECT (self)->manner, reason, error);
}

static gboolean
object_commit (BelayResource *self, GError **error)
{
  return class_of (self)->commit (THING_OBJECT (self)->manner, error);
}

static void
object_abandon (BelayResource *self)
{
  class_of (self)->abandon (THING_OBJECT (self)->manner);
}

static void
thing_object_resource_init (BelayResourceInterface *iface)
{
  iface->close = object_close;
  iface->commit = object_commit;
  iface->abandon = object_abandon;
}

G_DEFINE_TYPE_WITH_CODE (ThingObject, thing_object, G_TYPE_OBJECT,
                         G_IMPLEMENT_INTERFACE (BELAY_TYPE_RESOURCE, thing_object_resource_init))

static void
thing_object_finalize (GObject *object)
{
  THING_OBJECT (object)->manner->base.klass->free (THING_OBJECT (object)->manner);
  G_OBJECT_CLASS (thing_object_parent_class)->finalize (object);
}

static void
thing_object_class_init (ThingObjectClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = thing_object_finalize;
}

static void
thing_object_init (ThingObject *self)
{
}

ThingObject *
thing_object_new (Thing *manner)
{
  ThingObject *self = g_object_new (THING_TYPE_OBJECT, NULL);

  self->manner = manner;
  return self;
}

static int
compare_words (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

char *
thing_sort_words (const char *text)
{
  g_auto (GStrv) words = g_strsplit (text, " ", -1);

  qsort (words, g_strv_length (words), sizeof *words, compare_words);
  return g_strjoinv (" ", words);
}

/* --- tests --- */

void
thing_add_test_at (const char *path, BelayFunc func, const char *site)
{
  g_autofree char *seeded = g_strconcat (path, "/seeded", NULL);

  belay_test_add_func_at (path, func, site);
  belay_test_explore_at (seeded, func, site);
}

void
thing_add_plain_test_at (const char *path, GTestFunc func, const char *site)
{
  g_autofree char *seeded = g_strconcat (path, "/seeded", NULL);

  belay_test_add_plain_func_at (path, func, site);
  belay_test_explore_plain_at (seeded, func, site);
}

GError *
thing_outcome (BelayFunc func, gpointer data)
{
  GError *error = NULL;
  gboolean ok = belay_await_ok (belay_spawn (func, data), &error);

  g_assert_true (ok == (error == NULL));
  return error;
}

void
thing_drain (void)
{
  while (belay_get_n_pending () > 0)
    g_main_context_iteration (NULL, TRUE);
}

void
thing_settle (void)
{
  thing_drain ();
  /* A turn in which nothing is dispatched may be one in which the source gives way to others. */
  for (guint idle = 0; idle < 4;)
    idle = g_main_context_iteration (NULL, FALSE) ? 0 : idle + 1;
}

static void
drop_promise (gpointer data)
{
  belay_promise_unref (data);
}

BelayFuture *
thing_never (void)
{
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (promise);

  belay_promise_on_cancel (promise, drop_promise, promise, NULL);
  return future;
}

void
thing_init (int *argc, char ***argv)
{
  g_setenv ("BELAY_DEBUG", "virtual-clock", FALSE);
  if (strstr (g_getenv ("BELAY_DEBUG"), "virtual-clock") != NULL)
    belay_test_init (argc, argv);
  else
    g_test_init (argc, argv, NULL);
}

gboolean
sleep_func (gpointer data, GError **error)
{
  return belay_sleep (GPOINTER_TO_INT (data), error);
}

gboolean
fail_func (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, data);
  return FALSE;
}

gboolean
note_func (gpointer data, GError **error)
{
  thing_note ("%s", (const char *) data);
  return TRUE;
}

gboolean
wait_func (gpointer data, GError **error)
{
  return belay_await_ok (thing_never (), error);
}
