/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "thing.h"

#include <pthread.h>

ThingCount thing_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* log, reasons, sunk; no GMutex, which the thread sanitizer does not see */
static GString *log_text, *reasons, *sunk;

static gboolean thing_close (gpointer self, BelayReason reason, GError **error);
static gboolean thing_commit (gpointer self, GError **error);
static void thing_abandon (gpointer self);
static void thing_free (gpointer self);

static const BelayPlainClass thing_class = { BELAY_PLAIN_TAG, "Thing", thing_close, thing_commit, thing_abandon, thing_free };

/* --- the log and the sink --- */

static void
append (GString **string, const char *text, const char *separator)
{
  pthread_mutex_lock (&lock);
  if (*string == NULL)
    *string = g_string_new (NULL);
  if ((*string)->len > 0)
    g_string_append (*string, separator);
  g_string_append (*string, text);
  pthread_mutex_unlock (&lock);
}

void
thing_note (const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  append (&log_text, text, " ");
}

const char *
thing_log (void)
{
  return log_text != NULL ? log_text->str : "";
}

const char *
thing_reasons (void)
{
  return reasons != NULL ? reasons->str : "";
}

static void
clear (GString **string)
{
  pthread_mutex_lock (&lock);
  if (*string != NULL)
    g_string_free (g_steal_pointer (string), TRUE);
  pthread_mutex_unlock (&lock);
}

void
thing_clear_log (void)
{
  clear (&log_text);
  clear (&reasons);
}

static void
remember (const GError *error, const char *what, const char *site, gpointer data)
{
  append (&sunk, error->message, "; ");
}

char *
thing_take_sunk (void)
{
  char *text;

  pthread_mutex_lock (&lock);
  text = sunk != NULL ? g_string_free (g_steal_pointer (&sunk), FALSE) : g_strdup ("");
  pthread_mutex_unlock (&lock);
  return text;
}

/* --- things --- */

Thing *
thing_new (const char *name)
{
  Thing *self = belay_plain_new (Thing, &thing_class);

  self->name = name;
  g_atomic_int_inc (&thing_count.opened);
  thing_note ("+%s", name);
  return self;
}

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

static const char *
reason_name (BelayReason reason)
{
  const char *names[] = { "ok", "left", "error", "cancelled", "deadline" };

  g_assert_cmpuint (reason, <, G_N_ELEMENTS (names));
  return names[reason];
}

static gboolean
thing_close (gpointer data, BelayReason reason, GError **error)
{
  Thing *self = data;
  g_autofree char *text = g_strdup_printf ("%s:%s", self->name, reason_name (reason));

  g_assert_true (belay_in_fiber ());
  g_assert_cmpuint (self->n_closes++, ==, 0);
  g_atomic_int_inc (&thing_count.closed);
  append (&reasons, text, " ");
  thing_note ("-%s", self->name);
  if (self->on_close != NULL && !self->on_close (self->data, error))
    return FALSE;
  if (self->close_hangs)
    {
      self->end = belay_promise_new ();
      if (!belay_await_ok (belay_promise_get_future (self->end), error))
        return FALSE;
    }
  if (self->close_ms > 0)
    {
      if (!belay_sleep (self->close_ms, error))
        return FALSE;
      thing_note ("%s.", self->name);
    }
  if (self->close_error == NULL)
    return TRUE;
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, self->close_error);
  return FALSE;
}

static gboolean
thing_commit (gpointer data, GError **error)
{
  Thing *self = data;

  g_assert_cmpuint (self->n_closes, ==, 0);
  if (self->commit_ms > 0 && !belay_sleep (self->commit_ms, error))
    return FALSE;
  if (self->commit_error != NULL)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, self->commit_error);
      return FALSE;
    }
  g_atomic_int_inc (&thing_count.committed);
  thing_note ("%s=commit", self->name);
  return TRUE;
}

static void
thing_abandon (gpointer data)
{
  Thing *self = data;

  g_assert_cmpuint (self->n_abandons++, ==, 0);
  g_atomic_int_inc (&thing_count.abandoned);
  thing_note ("!%s", self->name);
}

static void
thing_free (gpointer data)
{
  Thing *self = data;

  g_assert_cmpuint (self->n_closes + self->n_abandons, >, 0); /* nobody frees what was not released */
  g_clear_pointer (&self->end, belay_promise_unref);
  g_atomic_int_inc (&thing_count.freed);
  g_free (self);
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

/* The data of a fiber that may never run: freed when the test ends. */
static GPtrArray *openings;

static BelayFuture *
start (Opening opening)
{
  Opening *copy = g_new (Opening, 1);

  *copy = opening;
  pthread_mutex_lock (&lock);
  if (openings == NULL)
    openings = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (openings, copy);
  pthread_mutex_unlock (&lock);
  return belay_open (open_thing, copy);
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

static gboolean
object_close (BelayResource *self, BelayReason reason, GError **error)
{
  return thing_close (THING_OBJECT (self)->manner, reason, error);
}

static gboolean
object_commit (BelayResource *self, GError **error)
{
  return thing_commit (THING_OBJECT (self)->manner, error);
}

static void
object_abandon (BelayResource *self)
{
  thing_abandon (THING_OBJECT (self)->manner);
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
  thing_free (THING_OBJECT (object)->manner);
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

/* --- tests --- */

static void
begin (void)
{
  g_free (thing_take_sunk ());
  thing_clear_log ();
  thing_count = (ThingCount) { 0 };
  belay_set_sink (remember, NULL);
}

static void
end (void)
{
  g_autofree char *left = thing_take_sunk ();

  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
  g_assert_cmpint (thing_count.freed, ==, thing_count.opened);
  g_assert_cmpstr (left, ==, "");
  g_test_assert_expected_messages ();
  thing_clear_log ();
  g_clear_pointer (&openings, g_ptr_array_unref);
}

static void
run_fiber_test (gconstpointer func)
{
  begin ();
  g_assert_cmpint (belay_run ((BelayFunc) func, NULL), ==, 0);
  end ();
}

void
thing_add_test (const char *path, BelayFunc func)
{
  g_test_add_data_func (path, (gconstpointer) func, run_fiber_test);
}

static void
run_plain_test (gconstpointer func)
{
  begin ();
  ((void (*) (void)) func) ();
  end ();
}

void
thing_add_plain_test (const char *path, void (*func) (void))
{
  g_test_add_data_func (path, (gconstpointer) func, run_plain_test);
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
