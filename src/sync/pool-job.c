/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs of a pool: the fibers that call the user's functions.
 *
 * A job takes its slot through one step after another (create; validate; reset; destroy), until that is at rest: lent,
 * idle or spare. After each step it looks, under the lock, what has become of the slot meanwhile. What it makes belongs
 * to the pool: nobody waits for a job, and none is cancelled because somebody does not wait any more. The close of the
 * pool cancels those that make or check something.
 *
 * Each step is bounded. To create and to validate are ordinary work, bounded by a time-out; reset and destroy are
 * releases: shielded, and what is spawned in them is joined. A step that does not end although its time is up leaves a
 * STUCK slot (pool-age.c), which counts no more; whatever comes of the step is then destroyed.
 *
 * A job that never came to run, since its home has ended or there was no stack, ends by force what it has.
 */
#include "sync/pool.h"

/* --- ending a resource --- */

gboolean
belay_pool_can_force (BelayPool *self)
{
  return self->options.destroy == NULL || self->options.abandon != NULL;
}

void
belay_pool_free_resource (BelayPool *self, gpointer resource)
{
  if (self->options.destroy == NULL)
    belay_resource_free (resource);
  else if (self->options.free != NULL)
    self->options.free (resource, self->data);
}

gboolean
belay_pool_force (BelayPool *self, gpointer resource)
{
  if (!belay_pool_can_force (self))
    return FALSE;
  if (self->options.destroy == NULL)
    belay_resource_force (resource);
  else
    self->options.abandon (resource, self->data);
  return TRUE;
}

static gboolean
call_destroy (gpointer data, BelayReason reason, GError **error)
{
  BelaySlot *slot = data;

  return slot->pool->options.destroy (slot->resource, slot->pool->data, error);
}

static gboolean
call_reset (gpointer data, BelayReason reason, GError **error)
{
  BelaySlot *slot = data;

  return slot->pool->options.reset (slot->resource, slot->pool->data, error);
}

static void
destroy_expired (gpointer data)
{
  BelaySlot *slot = data;

  if (slot->pool->options.abandon != NULL)
    slot->pool->options.abandon (slot->resource, slot->pool->data);
}

/* In the job: gracefully, within the time for it. */
static void
destroy (BelaySlot *slot, BelayReason reason)
{
  BelayPool *self = slot->pool;
  gpointer resource = slot->resource;
  GError *error = NULL;
  gboolean ok;

  if (self->options.destroy == NULL)
    {
      ok = belay_resource_close (resource, reason, self->options.destroy_timeout, &error);
    }
  else
    {
      ok = belay_release_run (belay_fiber_self (), call_destroy, slot, reason, self->options.destroy_timeout, destroy_expired,
                              self->name, &error);
      belay_pool_free_resource (self, resource);
    }
  if (!ok)
    belay_pool_fail_destroy (self, resource, error);
  else
    belay_pool_tell (self, BELAY_POOL_DESTROYED, resource, NULL);
}

/* --- the steps: each leaves the slot in a job's state to go on, or lets it go --- */

/* Under the lock: the step has ended. FALSE: too late, the slot is STUCK. */
static inline gboolean
end_step (BelaySlot *slot)
{
  slot->deadline = G_MAXINT64;
  slot->overdue = FALSE;
  return slot->state != BELAY_SLOT_STUCK;
}

/* Under no lock: a step begins, whose time is watched. */
static void
begin_step (BelaySlot *slot, gint64 time)
{
  BelayPool *self = slot->pool;
  BelayPoolTodo todo = { NULL };

  belay_pool_lock (self);
  slot->overdue = FALSE;
  slot->deadline = belay_pool_later (belay_now (), time);
  if (slot->deadline < self->due)
    belay_pool_look_at (self, slot->deadline, &todo);
  belay_pool_unlock (self, &todo);
}

/* A foreign word for an interruption must not be taken for the waiter's own. */
static GError *
own_word (BelayPool *self, GError *error, gboolean late)
{
  GError *said;

  if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    {
      if (late)
        g_prefix_error (&error, "making a resource of the %s took too long: ", self->name);
      return error;
    }
  said = g_error_new (BELAY_ERROR, BELAY_ERROR_BROKEN, "making a resource of the %s was cancelled: %s", self->name,
                      error->message);
  g_error_free (error);
  return said;
}

/*
 * Under the lock: the slot is spare; who is first in the group is told, unless another is on its way for it. (transfer
 * full)
 * @failure. Returns what is to be freed.
 */
static BelayPoolFailure *
fail_create (BelaySlot *slot, BelayPoolFailure *failure, gint64 now, BelayPoolTodo *todo)
{
  BelayPool *self = slot->pool;
  BelayPoolGroup *group = slot->group;
  BelayPoolFailure *before = self->last_failure;

  self->last_failure = failure;
  self->stats.create_failed++;
  group->n_turns++; /* it stays */
  belay_slot_to_spare (slot, todo);
  if (group->line.n > group->n_coming)
    belay_pool_serve (group->line.first, BELAY_POOL_TURN_FAILED, belay_pool_failure_ref (failure), now, todo);
  if (group == &self->own)
    belay_pool_tell_warmers (self, failure, todo);
  group->n_turns--;
  belay_pool_group_check (group, todo);
  belay_pool_dispatch (self, now, todo);
  return before;
}

/* The outcome of a creation, or what is in its place. (transfer full) @error. FALSE: the job is over. */
static gboolean
end_create (BelaySlot *slot, gpointer resource, GError *error)
{
  BelayPool *self = slot->pool;
  gint64 now = belay_now (), expires = belay_pool_lifetime (self, now);
  BelayPoolFailure *failure = NULL;
  BelayPoolTodo todo = { NULL };
  gboolean more = FALSE;

  belay_pool_tell (self, error != NULL ? BELAY_POOL_CREATE_FAILED : BELAY_POOL_CREATED, resource, error);
  if (error != NULL)
    failure = belay_pool_failure_new (error);
  belay_pool_lock (self);
  slot->resource = resource;
  if (!end_step (slot))
    {
      more = resource != NULL; /* to be destroyed */
      if (!more)
        {
          self->stats.create_failed++;
          slot->job = NULL;
          belay_slot_to_spare (slot, &todo);
        }
      else
        {
          self->stats.created++;
        }
    }
  else if (failure != NULL)
    {
      slot->job = NULL;
      failure = fail_create (slot, failure, now, &todo);
    }
  else
    {
      self->stats.created++;
      slot->expires = expires;
      slot->job = NULL;
      belay_slot_available (slot, now, &todo);
      belay_pool_tell_warmers (self, NULL, &todo);
      belay_pool_dispatch (self, now, &todo);
    }
  belay_pool_unlock (self, &todo);
  if (failure != NULL)
    belay_pool_failure_unref (failure);
  return more;
}

static gboolean
create (BelaySlot *slot)
{
  BelayPool *self = slot->pool;
  GError *error = NULL;
  gboolean late = FALSE;
  gpointer resource;

  begin_step (slot, self->options.create_timeout);
  {
    belay_auto (BelayTimeout) limit = self->options.create_timeout == G_MAXINT64
                                      ? NULL : belay_timeout (self->options.create_timeout / 1000);

    resource = self->options.create (slot->group->key, self->data, &error);
    late = limit != NULL && belay_timeout_expired (limit);
  }
  if (G_UNLIKELY (resource != NULL && self->options.destroy == NULL && !belay_resource_is_valid (resource)))
    resource = belay_resource_refuse (resource, &error);
  if (G_UNLIKELY ((resource != NULL) != (error == NULL)))
    {
      g_autofree char *what = g_strdup_printf ("`create` of the %s", self->name);

      belay_check_result (resource != NULL, &error, what);
    }
  if (G_UNLIKELY (resource != NULL && error != NULL))
    {
      slot->resource = resource; /* the error counts */
      destroy (slot, BELAY_REASON_ERROR);
      resource = NULL;
    }
  return end_create (slot, resource, resource != NULL ? NULL : own_word (self, error, late));
}

/* Whether it is sound. */
static gboolean
validate (BelaySlot *slot)
{
  BelayPool *self = slot->pool;
  g_autoptr (GError) error = NULL;
  gboolean ok;

  if (self->options.validate == NULL)
    return TRUE;
  begin_step (slot, self->options.validate_timeout);
  {
    belay_auto (BelayTimeout) limit = self->options.validate_timeout == G_MAXINT64
                                      ? NULL : belay_timeout (self->options.validate_timeout / 1000);

    ok = self->options.validate (slot->resource, self->data, &error);
  }
  if (G_UNLIKELY (ok != (error == NULL)))
    {
      g_autofree char *what = g_strdup_printf ("`validate` of the %s", self->name);

      ok = belay_check_result (ok, &error, what);
    }
  if (!ok)
    belay_pool_tell (self, BELAY_POOL_VALIDATE_FAILED, slot->resource, error);
  return ok;
}

/* Whether it is as new. */
static gboolean
reset (BelaySlot *slot)
{
  BelayPool *self = slot->pool;
  g_autoptr (GError) error = NULL;

  if (self->options.reset == NULL)
    return TRUE;
  begin_step (slot, self->options.reset_timeout);
  if (belay_release_run (belay_fiber_self (), call_reset, slot, (BelayReason) slot->reason, self->options.reset_timeout, NULL,
                         self->name, &error))
    return TRUE;
  belay_pool_tell (self, BELAY_POOL_RESET_FAILED, slot->resource, error);
  return FALSE;
}

/* It is known whether it is sound: FALSE: the job is over. */
static gboolean
end_look (BelaySlot *slot, gboolean ok, guint64 *failures)
{
  BelayPool *self = slot->pool;
  gint64 now = belay_now ();
  BelayPoolTodo todo = { NULL };
  gboolean more = TRUE;

  belay_pool_lock (self);
  if (!ok)
    ++*failures;
  if (end_step (slot))
    {
      if (ok)
        {
          slot->job = NULL;
          more = FALSE;
          belay_slot_available (slot, now, &todo);
          belay_pool_tell_warmers (self, NULL, &todo);
        }
      else
        {
          belay_slot_close (slot, 0, BELAY_REASON_ERROR, &todo);
        }
      belay_pool_dispatch (self, now, &todo);
    }
  belay_pool_unlock (self, &todo);
  return more;
}

/* The end of the slot's resource, in time or not. */
static void
end_slot (BelaySlot *slot)
{
  BelayPool *self = slot->pool;
  BelayPoolTodo todo = { NULL };

  belay_pool_lock (self);
  end_step (slot);
  slot->job = NULL;
  self->stats.destroyed++;
  belay_slot_to_spare (slot, &todo);
  belay_pool_dispatch (self, belay_now (), &todo);
  belay_pool_unlock (self, &todo);
}

static BelaySlotState
state_of (BelaySlot *slot)
{
  BelaySlotState state;

  belay_pool_lock (slot->pool);
  state = (BelaySlotState) slot->state;
  belay_spin_unlock (&slot->pool->lock);
  return state;
}

static gboolean
run (gpointer data, GError **error)
{
  BelayPoolJob *job = data;
  BelayPool *self = job->pool;
  BelaySlot *slot = job->slot;
  gboolean more = TRUE, ok;

  job->ran = TRUE;
  while (more)
    switch (state_of (slot))
      {
      case BELAY_SLOT_OPENING:
        more = create (slot);
        break;
      case BELAY_SLOT_CHECKING:
        more = end_look (slot, validate (slot), &self->stats.validate_failed);
        break;
      case BELAY_SLOT_RETURNING:
        ok = reset (slot);
        if (!ok)
          more = end_look (slot, FALSE, &self->stats.reset_failed);
        else if (slot->reason >= BELAY_REASON_ERROR)
          more = end_look (slot, validate (slot), &self->stats.validate_failed);
        else
          more = end_look (slot, TRUE, NULL);
        break;
      case BELAY_SLOT_CLOSING:
      case BELAY_SLOT_STUCK:
      default:
        if (slot->why != 0)
          belay_pool_tell (self, (BelayPoolEvent) slot->why, slot->resource, NULL);
        begin_step (slot, self->options.destroy_timeout);
        destroy (slot, (BelayReason) slot->reason);
        end_slot (slot);
        return TRUE;
      }
  return TRUE;
}

/* --- their beginning and their end --- */

/* Its home has ended, or it was cancelled before it began, or there is no stack. */
static void
never_ran (BelayPoolJob *job)
{
  BelayPool *self = job->pool;
  BelaySlot *slot = job->slot;
  BelaySlotState state = state_of (slot);
  BelayPoolTodo todo = { NULL };

  if (state == BELAY_SLOT_OPENING)
    {
      GError *error = belay_context_is_gone (self->context)
                      ? belay_context_gone_error ()
                      : g_error_new (BELAY_ERROR, BELAY_ERROR_BROKEN, "making a resource of the %s could not begin",
                                     self->name);

      end_create (slot, NULL, error);
      return;
    }
  if (!belay_context_is_gone (self->context) && state != BELAY_SLOT_CLOSING)
    {
      belay_pool_lock (self); /* it is destroyed by another */
      slot->job = NULL;
      belay_slot_close (slot, BELAY_POOL_BROKEN, BELAY_REASON_CANCELLED, &todo);
      belay_pool_dispatch (self, belay_now (), &todo);
      belay_pool_unlock (self, &todo);
      return;
    }
  if (!belay_pool_force (self, slot->resource))
    belay_pool_fail_destroy (self, slot->resource,
                             g_error_new (BELAY_ERROR, BELAY_ERROR_BROKEN, "a resource of the %s cannot be destroyed: the main "
                                          "context that the pool was made on has ended", self->name));
  belay_pool_free_resource (self, slot->resource);
  end_slot (slot);
}

static void
job_over (gpointer data)
{
  BelayPoolJob *job = data;
  BelayPool *self = job->pool;
  BelayFuture *before, *future = &job->task->fiber.future;
  BelayPoolTodo todo = { NULL };

  atomic_fetch_or (&future->flags, BELAY_FUTURE_SEEN);
  if (G_UNLIKELY (!job->ran))
    never_ran (job);
  belay_pool_lock (self);
  before = self->last_job; /* the interest in this one goes when it has said how it ended, which is a moment later */
  self->last_job = future;
  belay_pool_let_go (self, &todo);
  belay_pool_unlock (self, &todo);
  if (before != NULL)
    belay_future_unref (before);
  g_free (job);
}

void
belay_slot_run_job (BelaySlot *slot)
{
  BelayPool *self = slot->pool;
  BelayPoolJob *job = g_new0 (BelayPoolJob, 1);
  BelayFuture *future;
  gboolean cancel;

  job->pool = self;
  job->slot = slot;
  job->task = belay_task_new (self->context, NULL, run, NULL, job, job_over, NULL, self->site);
  future = belay_future_ref (&job->task->fiber.future); /* the fiber may end at once */
  belay_pool_lock (self);
  slot->job = job;
  cancel = self->state != BELAY_POOL_RUNNING && (slot->state == BELAY_SLOT_OPENING || slot->state == BELAY_SLOT_CHECKING);
  job->cancelled = cancel;
  belay_spin_unlock (&self->lock);
  belay_task_start_detached (job->task);
  if (cancel)
    belay_fiber_cancel ((BelayFiber *) future, "the pool was closed");
  belay_future_unref (future);
}

void
belay_pool_cancel_jobs (BelayPool *self)
{
  for (;;)
    {
      BelayFuture *future = NULL;

      for (BelaySlot *slot = self->slots; slot != NULL && future == NULL; slot = slot->next_of_all)
        if ((slot->state == BELAY_SLOT_OPENING || slot->state == BELAY_SLOT_CHECKING) && slot->job != NULL &&
            !slot->job->cancelled)
          {
            slot->job->cancelled = TRUE;
            future = belay_future_ref (&slot->job->task->fiber.future);
          }
      if (future == NULL)
        return;
      belay_spin_unlock (&self->lock);
      belay_fiber_cancel ((BelayFiber *) future, "the pool was closed");
      belay_future_unref (future);
      belay_pool_lock (self);
    }
}
