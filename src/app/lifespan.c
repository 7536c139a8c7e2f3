/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lifespans: parts that are started in order, are there while the work is served, and are stopped in reverse.
 *
 * A lifespan is one lexical scope. Its members are the openings of the parts (part.c), all spawned at once, each of which
 * waits for the parts it needs; then the work. What it releases are the parts. So all that is said of scopes holds: a
 * failure cancels the other openings, closing joins what was spawned and then releases newest first, one after another, all
 * with one reason, and every error is kept.
 *
 * States of a part: IDLE; STARTING, when all that it needs is there; RUNNING; STOPPING; STOPPED, or FAILED. Of the whole: the
 * same, RUNNING while all parts are and the work is served.
 *
 * Invariants
 *   1. A part's release is registered before its opening begins, and after those of all parts that it needs: so releasing
 *      newest first stops a part only after all that need it, and there is no instant at which it is there and not registered.
 *   2. No opening is under way when the first part is stopped, but for one that did not end by the part's stop bound after it
 *      was interrupted.
 *   3. The work, and what it spawned, has ended by then.
 *   4. All is used on the thread that runs the lifespan.
 */
#include "app/lifespan.h"

G_DEFINE_FINAL_TYPE (BelayLifespan, belay_lifespan, G_TYPE_OBJECT)

enum { PROP_STATE = 1, N_PROPERTIES };
enum { PART_CHANGED, N_SIGNALS };

static GParamSpec *properties[N_PROPERTIES];
static guint signals[N_SIGNALS];

static const GEnumValue states[] = {
  { BELAY_LIFESPAN_IDLE, "BELAY_LIFESPAN_IDLE", "idle" },
  { BELAY_LIFESPAN_STARTING, "BELAY_LIFESPAN_STARTING", "starting" },
  { BELAY_LIFESPAN_RUNNING, "BELAY_LIFESPAN_RUNNING", "running" },
  { BELAY_LIFESPAN_STOPPING, "BELAY_LIFESPAN_STOPPING", "stopping" },
  { BELAY_LIFESPAN_STOPPED, "BELAY_LIFESPAN_STOPPED", "stopped" },
  { BELAY_LIFESPAN_FAILED, "BELAY_LIFESPAN_FAILED", "failed" },
  { 0, NULL, NULL }
};

GType
belay_lifespan_state_get_type (void)
{
  static gsize type;

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("BelayLifespanState", states));
  return type;
}

const char *
belay_lifespan_state_to_string (BelayLifespanState state)
{
  g_return_val_if_fail (state >= BELAY_LIFESPAN_IDLE && state <= BELAY_LIFESPAN_FAILED, NULL);
  return states[state].value_nick;
}

/* --- the object --- */

static void
part_free (gpointer data)
{
  BelayPart *part = data;

  g_free (part->name);
  g_strfreev (part->need_names);
  g_clear_pointer (&part->needs, g_ptr_array_unref);
  g_free (part);
}

static void
lifespan_finalize (GObject *object)
{
  BelayLifespan *self = BELAY_LIFESPAN (object);

  g_ptr_array_unref (self->parts);
  G_OBJECT_CLASS (belay_lifespan_parent_class)->finalize (object);
}

static void
lifespan_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  if (id == PROP_STATE)
    g_value_set_enum (value, BELAY_LIFESPAN (object)->state);
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
}

static void
belay_lifespan_class_init (BelayLifespanClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);

  object_class->finalize = lifespan_finalize;
  object_class->get_property = lifespan_get_property;
  properties[PROP_STATE] = g_param_spec_enum ("state", NULL, NULL, BELAY_TYPE_LIFESPAN_STATE, BELAY_LIFESPAN_IDLE,
                                              G_PARAM_READABLE | G_PARAM_EXPLICIT_NOTIFY | G_PARAM_STATIC_STRINGS);
  g_object_class_install_properties (object_class, N_PROPERTIES, properties);
  signals[PART_CHANGED] = g_signal_new ("part-changed", G_TYPE_FROM_CLASS (klass), G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL,
                                        G_TYPE_NONE, 2, G_TYPE_STRING, BELAY_TYPE_LIFESPAN_STATE);
}

static void
belay_lifespan_init (BelayLifespan *self)
{
  self->parts = g_ptr_array_new_with_free_func (part_free);
}

BelayLifespan *
belay_lifespan_new (void)
{
  return g_object_new (BELAY_TYPE_LIFESPAN, NULL);
}

/* --- states --- */

/* Handlers are called as outside of a fiber: they must not wait. */
void
belay_lifespan_set_state (BelayLifespan *self, BelayLifespanState state)
{
  BelayFiber **current = belay_leave_fiber ();

  self->state = state;
  g_object_notify_by_pspec (G_OBJECT (self), properties[PROP_STATE]);
  belay_reenter_fiber (current);
}

void
belay_part_set_state (BelayPart *part, BelayLifespanState state)
{
  BelayFiber **current;

  if (part->state == state)
    return;
  part->state = state;
  current = belay_leave_fiber ();
  g_signal_emit (part->lifespan, signals[PART_CHANGED], 0, part->name, state);
  belay_reenter_fiber (current);
}

BelayLifespanState
belay_lifespan_get_state (BelayLifespan *self)
{
  g_return_val_if_fail (BELAY_IS_LIFESPAN (self), BELAY_LIFESPAN_IDLE);
  return self->state;
}

/* --- parts --- */

static BelayPart *
find_part (BelayLifespan *self, const char *name)
{
  for (guint i = 0; i < self->parts->len; i++)
    {
      BelayPart *part = g_ptr_array_index (self->parts, i);

      if (g_str_equal (part->name, name))
        return part;
    }
  return NULL;
}

void
belay_lifespan_addv_at (BelayLifespan *self, const char *name, BelayPartFunc open, gpointer data, const char *const *needs,
                        const char *site)
{
  BelayPart *part;

  g_return_if_fail (BELAY_IS_LIFESPAN (self));
  g_return_if_fail (name != NULL && open != NULL);
  if (self->scope != NULL)
    {
      g_critical ("the part \"%s\" is added to a lifespan that runs", name);
      return;
    }
  if (find_part (self, name) != NULL)
    {
      g_critical ("there is a part \"%s\" already", name);
      return;
    }

  part = belay_plain_new (BelayPart, &belay_part_class);
  part->lifespan = self;
  part->name = g_strdup (name);
  part->site = site;
  part->open = open;
  part->data = data;
  part->need_names = g_strdupv ((GStrv) needs);
  part->start_timeout = G_MAXINT64;
  part->stop_timeout = BELAY_RELEASE_TIMEOUT;
  g_ptr_array_add (self->parts, part);
}

static void
add_list (BelayLifespan *self, const char *site, const char *name, BelayPartFunc open, gpointer data, va_list args)
{
  g_autoptr (GPtrArray) needs = g_ptr_array_new ();
  const char *need;

  do
    {
      need = va_arg (args, const char *);
      g_ptr_array_add (needs, (gpointer) need);
    }
  while (need != NULL);
  belay_lifespan_addv_at (self, name, open, data, (const char *const *) needs->pdata, site);
}

void
belay_lifespan_add_at (BelayLifespan *self, const char *site, const char *name, BelayPartFunc open, gpointer data, ...)
{
  va_list args;

  va_start (args, data);
  add_list (self, site, name, open, data, args);
  va_end (args);
}

void
(belay_lifespan_add) (BelayLifespan *self, const char *name, BelayPartFunc open, gpointer data, ...)
{
  va_list args;

  va_start (args, data);
  add_list (self, NULL, name, open, data, args);
  va_end (args);
}

void
(belay_lifespan_addv) (BelayLifespan *self, const char *name, BelayPartFunc open, gpointer data, const char *const *needs)
{
  belay_lifespan_addv_at (self, name, open, data, needs, NULL);
}

/* Of one part, or of all. */
static void
set_timeout (BelayLifespan *self, const char *name, gint64 milliseconds, gsize offset)
{
  gint64 time = milliseconds >= 0 && milliseconds < G_MAXINT64 / 1000 ? milliseconds * 1000 : G_MAXINT64;

  if (name != NULL && find_part (self, name) == NULL)
    {
      g_critical ("there is no part \"%s\"", name);
      return;
    }
  for (guint i = 0; i < self->parts->len; i++)
    {
      BelayPart *part = g_ptr_array_index (self->parts, i);

      if (name == NULL || g_str_equal (part->name, name))
        G_STRUCT_MEMBER (gint64, part, offset) = time;
    }
}

void
belay_lifespan_set_start_timeout (BelayLifespan *self, const char *name, gint64 milliseconds)
{
  g_return_if_fail (BELAY_IS_LIFESPAN (self));
  set_timeout (self, name, milliseconds, G_STRUCT_OFFSET (BelayPart, start_timeout));
}

void
belay_lifespan_set_stop_timeout (BelayLifespan *self, const char *name, gint64 milliseconds)
{
  g_return_if_fail (BELAY_IS_LIFESPAN (self));
  set_timeout (self, name, milliseconds, G_STRUCT_OFFSET (BelayPart, stop_timeout));
}

gpointer
belay_lifespan_get (BelayLifespan *self, const char *name)
{
  BelayPart *part;

  g_return_val_if_fail (BELAY_IS_LIFESPAN (self) && name != NULL, NULL);

  part = find_part (self, name);
  if (part == NULL)
    g_critical ("there is no part \"%s\"", name);
  else if (part->state != BELAY_LIFESPAN_RUNNING)
    g_critical ("the part \"%s\" is not there, it is %s: say that it is needed", name, belay_lifespan_state_to_string (part->state));
  else
    return part->resource;
  return NULL;
}

BelayLifespanState
belay_lifespan_get_part_state (BelayLifespan *self, const char *name)
{
  BelayPart *part;

  g_return_val_if_fail (BELAY_IS_LIFESPAN (self) && name != NULL, BELAY_LIFESPAN_IDLE);

  part = find_part (self, name);
  if (part != NULL)
    return part->state;
  g_critical ("there is no part \"%s\"", name);
  return BELAY_LIFESPAN_IDLE;
}

GStrv
belay_lifespan_list_parts (BelayLifespan *self)
{
  GPtrArray *names;

  g_return_val_if_fail (BELAY_IS_LIFESPAN (self), NULL);

  names = g_ptr_array_new ();
  for (guint i = 0; i < self->parts->len; i++)
    g_ptr_array_add (names, g_strdup (((BelayPart *) g_ptr_array_index (self->parts, i))->name));
  g_ptr_array_add (names, NULL);
  return (GStrv) g_ptr_array_free (names, FALSE);
}

/* --- the check --- */

/* Writes `"a" needs "b" needs "a"`. */
static void
fail_circle (GPtrArray *path, BelayPart *part, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  guint first = 0;

  g_ptr_array_find (path, part, &first);
  for (guint i = first; i < path->len; i++)
    g_string_append_printf (text, "\"%s\" needs ", ((BelayPart *) g_ptr_array_index (path, i))->name);
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "no part of a circle can be started first: %s\"%s\"", text->str, part->name);
}

static gboolean
check_part (BelayLifespan *self, BelayPart *part, GPtrArray *path, GError **error)
{
  if (g_ptr_array_find (path, part, NULL))
    {
      fail_circle (path, part, error);
      return FALSE;
    }
  if (part->visited)
    return TRUE;
  part->visited = TRUE;
  g_clear_pointer (&part->needs, g_ptr_array_unref);
  part->needs = g_ptr_array_new ();
  g_ptr_array_add (path, part);
  for (guint i = 0; part->need_names != NULL && part->need_names[i] != NULL; i++)
    {
      BelayPart *need = find_part (self, part->need_names[i]);

      if (need == NULL)
        {
          g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "the part \"%s\" (%s) needs \"%s\", which was not added",
                       part->name, part->site != NULL ? part->site : "?", part->need_names[i]);
          return FALSE;
        }
      if (!check_part (self, need, path, error))
        return FALSE;
      g_ptr_array_add (part->needs, need);
    }
  g_ptr_array_set_size (path, (int) path->len - 1);
  return TRUE;
}

gboolean
belay_lifespan_check (BelayLifespan *self, GError **error)
{
  for (guint i = 0; i < self->parts->len; i++)
    ((BelayPart *) g_ptr_array_index (self->parts, i))->visited = FALSE;
  for (guint i = 0; i < self->parts->len; i++)
    {
      g_autoptr (GPtrArray) path = g_ptr_array_new ();

      if (!check_part (self, g_ptr_array_index (self->parts, i), path, error))
        return FALSE;
    }
  return TRUE;
}
