/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A GApplication's lifespan.
 *
 * The lifespan runs in a fiber of the default context; what it serves is a fiber that waits for the application's end and owns
 * `work`, a stored scope for what the application spawns. `startup` starts that fiber and iterates until the parts are there;
 * `shutdown` ends the wait and iterates until it has ended, so `run()` itself sees nothing of it.
 *
 * Words: *up* from when all parts are there until the end is asked for, *over* when the fiber has ended. A *call* is what brings
 * work: the signals `activate`, `open` and `command-line`, of the application's own or from another process.
 *
 * Invariants
 *   1. A call reaches the application's handlers only when it is up. While it starts the main context is iterated, and so may
 *      bring calls: they wait, in an emission hook, since that comes before all handlers.
 *   2. When the start has failed, and from `shutdown` on, calls are refused: no handler is told. So a start that fails keeps the
 *      application from being activated, which `startup` by itself cannot.
 */
#include "app/run.h"
#include "scope/scope-private.h"

#include <signal.h>

typedef struct
{
  GApplication  *application;
  BelayLifespan *lifespan;
  BelayFuture   *run;    /* of the fiber, a BelayTask; from startup on */
  BelayPromise  *end;    /* of the time that it serves */
  BelayScope    *work;   /* while it is up */
  guint          n_left; /* by the drain */
  gboolean       failed;
  GArray        *blocked; /* the others' handlers of calls, by their numbers, while calls are refused; else NULL */
} Application;

static GQuark
application_quark (void)
{
  return g_quark_from_static_string ("belay-application");
}

static void
print_failure (Application *self, const GError *error)
{
  self->failed = TRUE;
  if (belay_signals_first () == 0 || !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    belay_run_print_error (error);
}

static gboolean
is_over (Application *self)
{
  return self->run == NULL || !belay_future_is_pending (self->run);
}

/* --- the fiber --- */

static gboolean
serve (gpointer data, GError **error)
{
  Application *self = data;
  belay_auto (BelayScope) work = belay_scope_new_for (belay_context_get (), "belay_application_run");
  gboolean ok;

  self->work = work;
  ok = belay_await_ok (belay_promise_get_future (self->end), error);
  self->work = NULL;
  belay_scope_cancel (work, "the application ends");
  return ok;
}

static gboolean
run_lifespan (gpointer data, GError **error)
{
  Application *self = data;

  return belay_lifespan_run (self->lifespan, serve, self, error);
}

/* --- calls --- */

static const char *const calls[] = { "activate", "open", "command-line" };

/* A GClosureMarshal of any call: nobody else is told. */
static void
refuse_call (GClosure *closure, GValue *ret_value, guint n_values, const GValue *values, gpointer hint, gpointer unused)
{
  if (ret_value != NULL)
    g_value_set_int (ret_value, 1); /* of a command line: the exit status */
  g_signal_stop_emission (g_value_get_object (values), ((GSignalInvocationHint *) hint)->signal_id, 0);
}

static void
refuse_calls (Application *self)
{
  if (self->blocked != NULL)
    return;
  self->blocked = g_array_new (FALSE, FALSE, sizeof (gulong));
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    {
      const GSignalMatchType match = G_SIGNAL_MATCH_ID | G_SIGNAL_MATCH_UNBLOCKED;
      guint id = g_signal_lookup (calls[i], G_TYPE_APPLICATION);
      GClosure *closure = g_closure_new_simple (sizeof (GClosure), self);
      gulong handler;

      while ((handler = g_signal_handler_find (self->application, match, id, 0, NULL, NULL, NULL)) != 0)
        {
          g_signal_handler_block (self->application, handler);
          g_array_append_val (self->blocked, handler);
        }
      g_closure_set_marshal (closure, refuse_call);
      g_signal_connect_closure (self->application, calls[i], closure, FALSE);
    }
}

/* When our own handlers are gone: those of others are as they were. */
static void
accept_calls (Application *self)
{
  for (guint i = 0; self->blocked != NULL && i < self->blocked->len; i++)
    if (g_signal_handler_is_connected (self->application, g_array_index (self->blocked, gulong, i)))
      g_signal_handler_unblock (self->application, g_array_index (self->blocked, gulong, i));
  g_clear_pointer (&self->blocked, g_array_unref);
}

/* Returns when it is up, or has failed. */
static void
iterate_until_started (Application *self)
{
  while (self->work == NULL && !is_over (self))
    g_main_context_iteration (NULL, TRUE);
  if (is_over (self))
    refuse_calls (self);
}

/* A GSignalEmissionHook, while it starts. */
static gboolean
on_early_call (GSignalInvocationHint *hint, guint n_values, const GValue *values, gpointer data)
{
  Application *self = data;

  if (g_value_get_object (values) == self->application && !belay_in_fiber ())
    iterate_until_started (self);
  return TRUE;
}

/* --- the application's life --- */

/* A process that only passes its command line on has nothing to unwind: it ends at once, as by default. */
static void
on_registered (GApplication *application, GParamSpec *spec, gpointer data)
{
  if (g_application_get_is_registered (application) && g_application_get_is_remote (application))
    belay_signals_end ();
}

static void
on_startup (GApplication *application, gpointer data)
{
  Application *self = data;
  g_autoptr (GError) error = NULL;
  gulong hooks[G_N_ELEMENTS (calls)];
  BelayTask *task;

  if (self->run != NULL)
    return;
  task = belay_task_new (belay_context_get_for_main (NULL), NULL, run_lifespan, NULL, self, NULL, NULL, "belay_application_run");
  task->root = TRUE;
  self->run = &task->fiber.future;
  belay_task_start_detached (task);
  if (belay_signals_first () != 0)
    belay_fiber_cancel (&task->fiber, "interrupted by a signal");
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    hooks[i] = g_signal_add_emission_hook (g_signal_lookup (calls[i], G_TYPE_APPLICATION), 0, on_early_call, self, NULL);
  iterate_until_started (self);
  for (guint i = 0; i < G_N_ELEMENTS (calls); i++)
    g_signal_remove_emission_hook (g_signal_lookup (calls[i], G_TYPE_APPLICATION), hooks[i]);
  if (!is_over (self))
    return;
  if (!belay_future_check (self->run, &error))
    {
      print_failure (self, error);
      belay_run_print_attached (belay_future_get_attached (self->run));
    }
  g_application_quit (application);
}

static void
on_shutdown (GApplication *application, gpointer data)
{
  Application *self = data;
  gboolean told = is_over (self) && self->failed;
  g_autoptr (GError) error = NULL;

  refuse_calls (self);
  belay_promise_resolve (self->end);
  while (!is_over (self))
    g_main_context_iteration (NULL, TRUE);
  if (!told && self->run != NULL && !belay_future_check (self->run, &error))
    {
      print_failure (self, error);
      belay_run_print_attached (belay_future_get_attached (self->run));
    }
  self->n_left = belay_run_drain ();
}

static void
on_signal (int nth, gpointer data)
{
  Application *self = data;
  g_autofree char *reason = g_strdup_printf ("interrupted by %s", belay_signals_first () == SIGINT ? "SIGINT" : "SIGTERM");

  if (!is_over (self))
    belay_fiber_cancel (&((BelayTask *) self->run)->fiber, reason);
  if (g_application_get_is_registered (self->application))
    g_application_quit (self->application);
  if (nth > 1 || (self->run != NULL && is_over (self)))
    belay_run_hurry ();
}

int
belay_application_run (GApplication *application, int argc, char **argv, BelayLifespan *lifespan)
{
  Application self = { .application = application };
  int status;

  g_return_val_if_fail (G_IS_APPLICATION (application), 1);
  g_return_val_if_fail (lifespan == NULL || BELAY_IS_LIFESPAN (lifespan), 1);
  if (!belay_run_begin ("belay_application_run", on_signal, &self))
    return 1;

  self.lifespan = lifespan != NULL ? g_object_ref (lifespan) : belay_lifespan_new ();
  self.end = belay_promise_new ();
  g_object_set_qdata (G_OBJECT (application), application_quark (), &self);
  g_signal_connect (application, "notify::is-registered", G_CALLBACK (on_registered), &self);
  g_signal_connect (application, "startup", G_CALLBACK (on_startup), &self);
  g_signal_connect (application, "shutdown", G_CALLBACK (on_shutdown), &self);
  status = g_application_run (application, argc, argv);
  g_signal_handlers_disconnect_by_data (application, &self);
  accept_calls (&self);
  g_object_set_qdata (G_OBJECT (application), application_quark (), NULL);

  if (status == 0 && self.failed)
    status = 1;
  if (status == 0 && self.n_left > 0)
    status = 70; /* EX_SOFTWARE */
  if (belay_signals_first () != 0)
    status = 128 + belay_signals_first ();
  belay_run_end ();
  g_clear_pointer (&self.run, belay_future_unref);
  belay_promise_unref (self.end);
  g_object_unref (self.lifespan);
  return status;
}

/* --- its work --- */

typedef struct
{
  Application   *application;
  BelayFunc      func;
  gpointer       data;
  GDestroyNotify destroy;
} Work;

static gboolean
run_work (gpointer data, GError **error)
{
  Work *work = data;
  BelayErrors *attached;
  g_autoptr (GError) failure = NULL;
  gboolean ok = belay_check_result (work->func (work->data, &failure), &failure, "a function of belay_application_spawn()");

  /* That the application's end cancelled it is no failure. */
  if (!ok && (work->application->work != NULL || !g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED)))
    {
      print_failure (work->application, failure);
      attached = belay_attached_take (belay_fiber_self (), failure);
      belay_run_print_attached (attached);
      g_clear_pointer (&attached, belay_errors_unref);
    }
  return TRUE;
}

static void
free_work (gpointer data)
{
  Work *work = data;

  if (work->destroy != NULL)
    work->destroy (work->data);
  g_application_release (work->application->application);
  g_free (work);
}

gboolean
belay_application_spawn (GApplication *application, BelayFunc func, gpointer data, GDestroyNotify destroy)
{
  Application *self;
  Work *work;

  g_return_val_if_fail (G_IS_APPLICATION (application) && func != NULL, FALSE);

  self = g_object_get_qdata (G_OBJECT (application), application_quark ());
  if (self == NULL || self->work == NULL)
    {
      g_critical ("belay_application_spawn: the application is not between its startup and its shutdown");
      if (destroy != NULL)
        destroy (data);
      return FALSE;
    }
  work = g_new (Work, 1);
  *work = (Work) { self, func, data, destroy };
  g_application_hold (application);
  return belay_scope_spawn (self->work, run_work, work, free_work);
}
