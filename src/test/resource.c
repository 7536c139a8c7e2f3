/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Resources of the kit's: they do as they are told, and find out when they are released twice, or not at all.
 *
 * Those that are open are in a list, from which each takes itself out when its memory is given back. Its close and its
 * abandon each come once at most, and one of them must have come by then. Opening, closing, committing and resetting are
 * steps, at which a test can inject.
 */
#include "test/test-private.h"

static atomic_flag lock = ATOMIC_FLAG_INIT; /* all below */
static BelayTestCount count;
static GPtrArray *live;

static gboolean resource_close (gpointer data, BelayReason reason, GError **error);
static gboolean resource_commit (gpointer data, GError **error);
static void resource_abandon (gpointer data);
static void resource_free (gpointer data);
static const BelayPlainClass resource_class = { BELAY_PLAIN_TAG, "BelayTestResource", resource_close, resource_commit,
                                                resource_abandon, resource_free };

static void
count_one (guint *number)
{
  belay_spin_lock (&lock);
  ++*number;
  belay_spin_unlock (&lock);
}

void
belay_test_resources_begin (void)
{
  belay_spin_lock (&lock);
  count = (BelayTestCount) { 0 };
  if (live == NULL)
    live = g_ptr_array_new ();
  g_ptr_array_set_size (live, 0);
  belay_spin_unlock (&lock);
}

char *
belay_test_resources_left (void)
{
  GString *names = NULL;

  belay_spin_lock (&lock);
  for (guint i = 0; live != NULL && i < live->len; i++)
    {
      if (names == NULL)
        names = g_string_new (NULL);
      g_string_append_printf (names, "%s\"%s\"", i > 0 ? ", " : "", ((BelayTestResource *) live->pdata[i])->name);
    }
  belay_spin_unlock (&lock);
  return names != NULL ? g_string_free (names, FALSE) : NULL;
}

BelayTestCount
belay_test_get_count (void)
{
  BelayTestCount now;

  belay_spin_lock (&lock);
  now = count;
  belay_spin_unlock (&lock);
  return now;
}

BelayTestResource *
belay_test_resource_new (const char *name)
{
  BelayTestResource *self = belay_plain_new (BelayTestResource, &resource_class);

  self->name = name;
  belay_spin_lock (&lock);
  count.opened++;
  if (live == NULL)
    live = g_ptr_array_new ();
  g_ptr_array_add (live, self);
  belay_spin_unlock (&lock);
  belay_test_note ("+%s", name);
  return self;
}

/* --- opening --- */

typedef struct
{
  const char *name;
  gint64      milliseconds;
} Opening;

static gpointer
open_resource (gpointer data, GError **error)
{
  Opening opening = *(Opening *) data;

  if ((opening.milliseconds > 0 && !belay_sleep (opening.milliseconds, error)) || !belay_test_step ("open", error))
    return NULL;
  return belay_test_resource_new (opening.name);
}

BelayFuture *
belay_test_resource_open (const char *name, gint64 milliseconds)
{
  BelayFuture *refused = belay_fiber_refuse ();
  Opening *opening;
  BelayTask *task;

  g_return_val_if_fail (name != NULL, NULL);

  if (refused != NULL)
    return refused;
  opening = g_new (Opening, 1);
  *opening = (Opening) { name, milliseconds };
  task = belay_task_new (belay_context_get (), NULL, NULL, open_resource, opening, g_free, belay_resource_drop, "opening");
  belay_task_cancel_when_dropped (task);
  belay_task_start_detached (task);
  return &task->fiber.future;
}

/* --- its verbs --- */

static gboolean
resource_close (gpointer data, BelayReason reason, GError **error)
{
  BelayTestResource *self = data;

  if (self->n_closes++ > 0)
    belay_test_fail_at (NULL, "\"%s\" is closed a second time", self->name);
  if (self->n_abandons > 0)
    belay_test_fail_at (NULL, "\"%s\" is closed after it was abandoned", self->name);
  if (!belay_in_fiber ())
    belay_test_fail_at (NULL, "\"%s\" is closed outside of a fiber", self->name);
  count_one (&count.closed);
  belay_test_note_reason (self->name, reason);
  belay_test_note ("-%s", self->name);
  if (self->on_close != NULL && !self->on_close (self->data, error))
    return FALSE;
  if (!belay_test_step ("close", error))
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
      belay_test_note ("%s.", self->name);
    }
  if (self->close_error == NULL)
    return TRUE;
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, self->close_error);
  return FALSE;
}

static gboolean
resource_commit (gpointer data, GError **error)
{
  BelayTestResource *self = data;

  if (self->n_closes + self->n_abandons > 0)
    belay_test_fail_at (NULL, "\"%s\" is committed after it was released", self->name);
  if ((self->commit_ms > 0 && !belay_sleep (self->commit_ms, error)) || !belay_test_step ("commit", error))
    return FALSE;
  if (self->commit_error != NULL)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, self->commit_error);
      return FALSE;
    }
  count_one (&count.committed);
  belay_test_note ("%s=commit", self->name);
  return TRUE;
}

gboolean
belay_test_resource_reset (BelayTestResource *self, GError **error)
{
  g_return_val_if_fail (self != NULL, FALSE);

  if (self->n_closes + self->n_abandons > 0)
    belay_test_fail_at (NULL, "\"%s\" is reset after it was released", self->name);
  if (!belay_test_step ("reset", error))
    return FALSE;
  belay_test_note ("%s=reset", self->name);
  return TRUE;
}

static void
resource_abandon (gpointer data)
{
  BelayTestResource *self = data;

  if (self->n_abandons++ > 0)
    belay_test_fail_at (NULL, "\"%s\" is abandoned a second time", self->name);
  count_one (&count.abandoned);
  belay_test_note ("!%s", self->name);
}

static void
resource_free (gpointer data)
{
  BelayTestResource *self = data;

  if (self->n_closes + self->n_abandons == 0)
    belay_test_fail_at (NULL, "\"%s\" is freed, and was not released", self->name);
  g_clear_pointer (&self->end, belay_promise_unref);
  belay_spin_lock (&lock);
  count.freed++;
  g_ptr_array_remove_fast (live, self);
  belay_spin_unlock (&lock);
  g_free (self);
}
