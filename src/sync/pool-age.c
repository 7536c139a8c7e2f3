/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What time does in a pool. There is one timer, on the pool's home, for all of it: idle ones that grow too old, acquires
 * that have no more time, steps of jobs that do not end, what is held for long, the next try to fill the pool up.
 *
 * `due` is when something must be looked at, at the earliest. Whoever finds an earlier instant sets it, and then the
 * timer, on whatever thread that is: elsewhere than at home by an item in the home's queue. When it fires all is looked
 * at, and the next instant is found; what has gone in the meantime makes it fire for nothing once. When home has ended
 * there is no timer, and so no wait that has an end.
 *
 * A step whose time is up is first left alone for a while, since its own limits end it; after that its slot counts no
 * more.
 */
#include "sync/pool.h"

#define GRACE (50 * 1000) /* µs, for what has been told that its time is up */

/* From 0 to 1. By the seed, under one. */
static double
chance (void)
{
  BelayContext *context = belay_thread.context;

  return context != NULL && context->schedule != NULL ? belay_chance (1 << 16) / 65535.0 : g_random_double ();
}

gint64
belay_pool_lifetime (BelayPool *self, gint64 now)
{
  gint64 life = self->options.max_lifetime;

  if (life == G_MAXINT64)
    return G_MAXINT64;
  if (self->options.jitter > 0)
    life -= (gint64) ((double) life * self->options.jitter / 100.0 * chance ());
  return belay_pool_later (now, life);
}

void
belay_pool_look_at (BelayPool *self, gint64 when, BelayPoolTodo *todo)
{
  self->due = when;
  todo->look = TRUE;
}

/* --- the timer, at home --- */

static void
arm_at_home (BelayPool *self)
{
  BelayPoolTodo todo = { NULL };
  gint64 due;

  belay_pool_lock (self);
  due = self->due;
  if (due == G_MAXINT64 && self->timer_on)
    {
      belay_timer_disarm (self->context, &self->timer);
      self->timer_on = FALSE;
      belay_pool_let_go (self, &todo);
    }
  else if (due != G_MAXINT64)
    {
      if (!self->timer_on)
        self->holds++;
      self->timer_on = TRUE;
      belay_timer_arm (self->context, &self->timer, due);
    }
  belay_pool_unlock (self, &todo);
}

/* Home has ended: who waits for a time cannot be told of it. A timer that was armed fires, as an orphan. */
static void
end_timed_waits (BelayPool *self)
{
  BelayPoolFailure *failure = belay_pool_failure_new (belay_context_gone_error ());
  BelayPoolTodo todo = { NULL };
  BelayPoolGroup *group;

  belay_pool_lock (self);
  self->due = G_MAXINT64;
  while (self->options.acquire_timeout != G_MAXINT64 && (group = belay_pool_first_group (self)) != NULL)
    belay_pool_serve (group->line.first, BELAY_POOL_TURN_FAILED, belay_pool_failure_ref (failure), belay_now (), &todo);
  belay_pool_unlock (self, &todo);
  belay_pool_failure_unref (failure);
}

static void
on_look (BelayItem *item)
{
  BelayPool *self = (BelayPool *) ((char *) item - G_STRUCT_OFFSET (BelayPool, look));
  BelayPoolTodo todo = { NULL };

  belay_pool_lock (self);
  self->look_queued = FALSE;
  belay_spin_unlock (&self->lock);
  if (G_UNLIKELY (belay_context_is_gone (self->context)))
    end_timed_waits (self);
  else
    arm_at_home (self);
  belay_pool_lock (self);
  belay_pool_let_go (self, &todo);
  belay_pool_unlock (self, &todo);
}

void
belay_pool_set_timer (BelayPool *self)
{
  gboolean queue;

  if (G_LIKELY (belay_thread.context == self->context))
    {
      arm_at_home (self);
      return;
    }
  belay_pool_lock (self);
  queue = !self->look_queued;
  self->look_queued = TRUE;
  self->holds += queue;
  belay_spin_unlock (&self->lock);
  if (queue)
    belay_context_push_remote (self->context, &self->look);
}

/* --- looking --- */

static inline void
note_due (gint64 *inout_due, gint64 when)
{
  *inout_due = MIN (*inout_due, when);
}

static void
look_at_idle (BelayPool *self, gint64 now, gint64 *inout_due, BelayPoolTodo *todo)
{
  gint64 max = self->options.max_idle_time;

  for (BelaySlot *slot = self->oldest; slot != NULL;)
    {
      BelaySlot *newer = slot->newer;
      gboolean needed = slot->group == &self->own && self->own.n_total - self->own.n_ending <= self->min;
      gint64 until = belay_pool_later (slot->since, max);

      if (now >= slot->expires || (now >= until && !needed))
        {
          belay_slot_from_idle (slot, BELAY_SLOT_CLOSING);
          belay_slot_close (slot, BELAY_POOL_EXPIRED, BELAY_REASON_OK, todo);
        }
      else
        {
          note_due (inout_due, slot->expires);
          if (now < until)
            note_due (inout_due, until);
        }
      slot = newer;
    }
}

static void
look_at_waiters (BelayPool *self, gint64 now, gint64 *inout_due, BelayPoolTodo *todo)
{
  BelayPoolGroup *next;

  for (BelayPoolGroup *group = self->waiting; group != NULL; group = next)
    {
      next = group->next_waiting;
      group->n_turns++; /* it stays */
      while (group->line.first != NULL)
        {
          gint64 until = belay_pool_later (belay_pool_wait_of (group->line.first)->begin, self->options.acquire_timeout);

          if (now < until)
            {
              note_due (inout_due, until);
              break;
            }
          self->stats.timed_out++;
          self->holds++; /* the waiter's */
          belay_pool_serve (group->line.first, BELAY_POOL_TURN_LATE, NULL, now, todo);
        }
      group->n_turns--;
      belay_pool_group_check (group, todo);
    }
}

static void
look_at_jobs (BelayPool *self, gint64 now, gint64 *inout_due)
{
  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    {
      if (slot->state == BELAY_SLOT_SPARE || slot->state > BELAY_SLOT_CLOSING || slot->job == NULL)
        continue;
      if (now < slot->deadline)
        {
          note_due (inout_due, slot->deadline);
        }
      else if (!slot->overdue)
        {
          slot->overdue = TRUE;
          slot->deadline = now + GRACE;
          note_due (inout_due, slot->deadline);
        }
      else
        {
          slot->deadline = G_MAXINT64;
          belay_slot_set_state (slot, BELAY_SLOT_STUCK);
        }
    }
}

/* The first that is held for too long and has not been told of; its description is made without the lock. */
static BelaySlot *
look_at_used (BelayPool *self, gint64 now, gint64 *inout_due)
{
  BelaySlot *found = NULL;

  if (self->options.held_long == G_MAXINT64)
    return NULL;
  for (BelaySlot *slot = self->slots; slot != NULL; slot = slot->next_of_all)
    if (slot->state == BELAY_SLOT_USED && !slot->told)
      {
        gint64 until = belay_pool_later (slot->since, self->options.held_long);

        if (now < until)
          {
            note_due (inout_due, until);
          }
        else if (found == NULL)
          {
            found = slot;
            slot->told = TRUE;
          }
        else
          {
            note_due (inout_due, now); /* once more, for this one */
          }
      }
  return found;
}

static void
tell_held_long (BelayPool *self, gpointer resource, const char *site, const char *holder_site, gint64 held)
{
  g_autoptr (GError) error = NULL;

  error = g_error_new (BELAY_ERROR, BELAY_ERROR_FAILED, "a resource of the %s has been in use for %.1f s%s%s", self->name,
                       (double) held / G_USEC_PER_SEC, holder_site != NULL ? ", by the fiber from " : "",
                       holder_site != NULL ? holder_site : "");
  if (self->options.watch != NULL)
    belay_pool_tell (self, BELAY_POOL_HELD_LONG, resource, error);
  else
    belay_sink_error (error, "a lease", site);
}

static void
on_timer (BelayTimer *timer)
{
  BelayPool *self = (BelayPool *) ((char *) timer - G_STRUCT_OFFSET (BelayPool, timer));
  gint64 now = belay_now (), due = G_MAXINT64, held = 0;
  const char *site = NULL, *holder_site = NULL;
  BelayPoolTodo todo = { NULL };
  gpointer resource = NULL;
  BelaySlot *slot;

  belay_pool_lock (self);
  self->timer_on = FALSE; /* its hold is ours, to the end */
  self->due = G_MAXINT64;
  look_at_idle (self, now, &due, &todo);
  look_at_waiters (self, now, &due, &todo);
  look_at_jobs (self, now, &due);
  slot = look_at_used (self, now, &due);
  if (slot != NULL)
    {
      site = slot->site;
      holder_site = slot->holder_site;
      held = now - slot->since;
      resource = slot->resource;
    }
  belay_pool_dispatch (self, now, &todo);
  belay_pool_check_over (self, &todo);
  if (due < self->due)
    belay_pool_look_at (self, due, &todo);
  belay_pool_unlock (self, &todo);
  if (slot != NULL)
    tell_held_long (self, resource, site, holder_site, held);

  todo = (BelayPoolTodo) { NULL };
  belay_pool_lock (self);
  belay_pool_let_go (self, &todo);
  belay_pool_unlock (self, &todo);
}

void
belay_pool_age_init (BelayPool *self)
{
  self->timer.fire = on_timer;
  self->look.run = on_look;
  self->due = G_MAXINT64;
}
