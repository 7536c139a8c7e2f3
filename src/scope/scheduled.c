/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Scheduled releases: for places that cannot wait.
 *
 * Those of one dispatch are one *batch*: a fiber of the context runs them one after another in the order in which they were
 * scheduled, which, for the guards of a function, is newest first. Each keeps the reason that it was scheduled for: a close
 * that was said is one outside a fiber, too. If the context ends before that, there is nowhere to close: they are abandoned.
 *
 * A home that nobody iterates is no home. The *reaper* is a thread that is there only while releases have been scheduled
 * outside of any dispatch. What has not begun by the release deadline, in real time, on a context whose main loop has not
 * turned once in the meantime, it abandons, and says so. (A scope cannot be abandoned while its home exists; it stays.)
 *
 * Invariants
 *   1. All of a batch but its context is under `batches_lock`, which is held for a few instructions.
 *   2. Whoever takes a release out of a batch, its fiber, the reaper or the end of its context, is who ends it.
 *   3. `reaper_runs` changes under the same lock: so either the reaper sees a new batch or its scheduler starts another.
 */
#include "scope/scope-private.h"

typedef struct _Scheduled Scheduled;
struct _Scheduled
{
  Scheduled  *next;
  gpointer    resource;
  BelayReason reason;
  const char *site;
};

typedef struct _Batch Batch;
struct _Batch
{
  Batch        *next;    /* batches that have not begun */
  BelayContext *context; /* a reference, so that no other has its address */
  Scheduled    *first, **end;
  gint64        deadline; /* of what has not begun; real time */
  guint         turns;    /* of its main loop, when that was set */
  Scheduled     current; /* a copy of what is being released, for reports; its resource is not to be touched */
  const char   *name;    /* what that is; NULL: none */
};

static atomic_flag batches_lock = ATOMIC_FLAG_INIT; /* batches, and all of each but its context */
static Batch *batches;
static gboolean reaper_runs;

/* The next to be released, which is taken out; NULL: it is empty. */
static Scheduled *
take_next (Batch *self)
{
  Scheduled *next;

  belay_spin_lock (&batches_lock);
  next = self->first;
  self->name = next != NULL ? belay_resource_name (next->resource) : NULL;
  if (next != NULL)
    {
      self->current = *next;
      self->first = next->next;
    }
  belay_spin_unlock (&batches_lock);
  return next;
}

void
belay_describe_closing (const char *name, const char *site, GPtrArray *lines)
{
  g_ptr_array_add (lines, site != NULL ? g_strdup_printf ("closing a %s from %s", name, site)
                                       : g_strdup_printf ("closing a %s", name));
}

void
belay_batch_describe (gpointer batch, GPtrArray *lines)
{
  Batch *self = batch;

  belay_spin_lock (&batches_lock);
  if (self->name != NULL)
    belay_describe_closing (self->name, self->current.site, lines);
  for (Scheduled *next = self->first; next != NULL; next = next->next)
    belay_describe_closing (belay_resource_name (next->resource), next->site, lines);
  belay_spin_unlock (&batches_lock);
}

/* Nothing is added to it from here on. */
static void
begin_batch (Batch *self)
{
  belay_spin_lock (&batches_lock);
  for (Batch **link = &batches; *link != NULL; link = &(*link)->next)
    if (*link == self)
      {
        *link = self->next;
        break;
      }
  belay_spin_unlock (&batches_lock);
}

static void
free_scheduled (gpointer data)
{
  Scheduled *self = data;

  if (self->resource != NULL)
    belay_resource_abandon (self->resource);
  g_free (self);
}

static gboolean
finish_scope (gpointer data, GError **error)
{
  Scheduled *self = data;
  BelayScope *scope = g_steal_pointer (&self->resource);

  if (!belay_scope_finish (scope, self->reason, NULL))
    belay_scope_pass_errors (scope, NULL, "closing a BelayScope");
  belay_scope_unref (scope);
  return TRUE;
}

/*
 * A scope is closed by a fiber of its own, which waits for the scope's children for as long as they take. They may wait
 * for what is to be released behind it: so those who are behind wait for it no longer than for any other.
 */
static void
run_scheduled_scope (Scheduled *self, BelayContext *context)
{
  BelayFuture *finished = belay_task_detached (context, finish_scope, self, free_scheduled, self->site);

  belay_await_ok (belay_future_with_timeout (finished, BELAY_RELEASE_TIMEOUT / 1000), NULL);
}

gboolean
belay_batch_run (gpointer data, GError **error)
{
  Batch *self = data;
  Scheduled *scheduled;

  begin_batch (self);
  while ((scheduled = take_next (self)) != NULL)
    {
      const char *name = self->name;
      g_autoptr (GError) failure = NULL;

      if (belay_resource_tag (scheduled->resource) == BELAY_TAG_SCOPE)
        {
          run_scheduled_scope (scheduled, self->context);
          continue;
        }
      if (!belay_resource_close (scheduled->resource, scheduled->reason, BELAY_RELEASE_TIMEOUT, &failure))
        {
          g_autofree char *what = g_strconcat ("closing a ", name, NULL);

          belay_sink_error (failure, what, scheduled->site);
        }
      g_free (scheduled);
    }
  return TRUE;
}

/* The end of it, also when there was no stack to run it on. */
static void
free_batch (gpointer data)
{
  Batch *self = data;
  Scheduled *scheduled;

  begin_batch (self);
  while ((scheduled = take_next (self)) != NULL)
    free_scheduled (scheduled);
  belay_context_unref (self->context);
  g_free (self);
}

const char *
belay_resource_site (BelayContext *context, gpointer resource)
{
  BelayTaken *taken = belay_taken_place (context, resource);

  if (belay_thread.context != context && !g_main_context_is_owner (context->main_context))
    return NULL;
  return taken->resource == resource ? taken->site : NULL;
}

/* --- the reaper --- */

/* Under the lock. */
static void
set_deadline (Batch *self)
{
  self->turns = atomic_load_explicit (&self->context->turns, memory_order_relaxed);
  self->deadline = g_get_monotonic_time () + BELAY_RELEASE_TIMEOUT;
}

/* Under the lock: moves to @late what can be abandoned. */
static void
take_late (Batch *self, Scheduled ***late)
{
  self->end = &self->first;
  while (*self->end != NULL)
    {
      Scheduled *scheduled = *self->end;

      if (belay_resource_tag (scheduled->resource) == BELAY_TAG_SCOPE)
        {
          self->end = &scheduled->next;
          continue;
        }
      *self->end = scheduled->next;
      scheduled->next = NULL;
      **late = scheduled;
      *late = &scheduled->next;
    }
}

static void
reap_one (Scheduled *self)
{
  g_autoptr (GError) error = g_error_new_literal (BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT, "nobody iterates its main context; "
                                                  "it was ended by force");
  g_autofree char *what = g_strconcat ("closing a ", belay_resource_name (self->resource), NULL);

  belay_sink_error (error, what, self->site);
  free_scheduled (self);
}

/* Returns when to look again; G_MAXINT64: never, the reaper is no more. */
static gint64
reap (void)
{
  Scheduled *late = NULL, **end = &late;
  gint64 now = g_get_monotonic_time (), next = G_MAXINT64;

  belay_spin_lock (&batches_lock);
  for (Batch *self = batches; self != NULL; self = self->next)
    {
      if (self->turns != atomic_load_explicit (&self->context->turns, memory_order_relaxed))
        set_deadline (self);
      else if (now >= self->deadline)
        take_late (self, &end);
      if (self->first != NULL)
        next = MIN (next, MAX (self->deadline, now + BELAY_RELEASE_TIMEOUT / 10));
    }
  reaper_runs = next != G_MAXINT64;
  belay_spin_unlock (&batches_lock);
  while (late != NULL)
    {
      Scheduled *scheduled = late;

      late = scheduled->next;
      reap_one (scheduled);
    }
  return next;
}

static gpointer
reaper_main (gpointer unused)
{
  gint64 next = g_get_monotonic_time () + BELAY_RELEASE_TIMEOUT;

  while (next != G_MAXINT64)
    {
      g_usleep ((gulong) MAX (next - g_get_monotonic_time (), 0));
      next = reap ();
    }
  return NULL;
}

static void
start_reaper (void)
{
  GThread *thread = g_thread_try_new ("belay-reaper", reaper_main, NULL, NULL);

  if (thread != NULL)
    {
      g_thread_unref (thread);
      return;
    }
  belay_spin_lock (&batches_lock);
  reaper_runs = FALSE; /* the next that is scheduled tries again */
  belay_spin_unlock (&batches_lock);
}

/* --- scheduling --- */

void
belay_resource_schedule_for (BelayContext *context, gpointer resource, BelayReason reason, const char *site)
{
  Scheduled *scheduled;
  Batch *batch, *fresh;
  gboolean reaper = FALSE;

  if (belay_forked ())
    return;
  belay_leaks_let_go (resource);
  if (G_UNLIKELY (context != NULL && belay_context_is_gone (context)))
    {
      belay_resource_abandon (resource);
      return;
    }
  scheduled = g_new0 (Scheduled, 1);
  scheduled->resource = resource;
  scheduled->reason = reason;
  fresh = g_new0 (Batch, 1);
  fresh->context = belay_context_ref (context != NULL ? context : belay_context_get ());
  scheduled->site = site != NULL ? site : belay_resource_site (fresh->context, resource);
  belay_spin_lock (&batches_lock);
  for (batch = batches; batch != NULL && batch->context != fresh->context; batch = batch->next)
    ;
  if (batch == NULL)
    {
      batch = fresh;
      batch->end = &batch->first;
      batch->next = batches;
      batches = batch;
      set_deadline (batch);
    }
  *batch->end = scheduled;
  batch->end = &scheduled->next;
  if (!reaper_runs && belay_thread.context != fresh->context && g_main_depth () == 0) /* else its loop is turning */
    reaper = reaper_runs = TRUE;
  belay_spin_unlock (&batches_lock);
  if (G_UNLIKELY (reaper))
    start_reaper ();

  if (batch == fresh)
    belay_future_unref (belay_task_detached (fresh->context, belay_batch_run, fresh, free_batch, NULL));
  else
    free_batch (fresh);
}
