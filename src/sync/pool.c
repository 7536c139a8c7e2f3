/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools: their memory, their options, their groups, and what is changed about all of a pool at once.
 *
 * The words, states and invariants are in pool.h. The other files: pool-slot.c, what becomes of a slot; pool-dispatch.c,
 * who gets what; pool-acquire.c and pool-lease.c, what users do; pool-job.c, the fibers that call the user's functions;
 * pool-age.c, what time does; pool-close.c, the end; pool-stats.c, what is told.
 *
 * The lock is the pool's. Whoever has it writes into a todo what must not be done under it, and belay_pool_unlock() does
 * that: starts jobs, wakes who was served, frees.
 */
#include "sync/pool.h"

G_DEFINE_BOXED_TYPE (BelayPool, belay_pool, belay_pool_ref, belay_pool_unref)

static void
verb_free (gpointer self)
{
  belay_pool_unref (self);
}

static const BelayPlainClass pool_class = { BELAY_PLAIN_TAG, "BelayPool", belay_pool_verb_close, NULL, belay_pool_verb_abandon,
                                            verb_free };
static const BelayLineClass group_line_class = { "a resource of a pool", belay_pool_describe_line };
static const BelayLineClass warmers_class = { "a pool to be warm", NULL };
static const BelayLineClass closers_class = { "the end of a pool's close", belay_pool_describe_closers };

/* --- failures --- */

BelayPoolFailure *
belay_pool_failure_new (GError *error)
{
  BelayPoolFailure *self = g_new (BelayPoolFailure, 1);

  atomic_init (&self->refs, 1);
  self->error = error;
  self->next = NULL;
  return self;
}

BelayPoolFailure *
belay_pool_failure_ref (BelayPoolFailure *self)
{
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_pool_failure_unref (BelayPoolFailure *self)
{
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  g_error_free (self->error);
  g_free (self);
}

/* --- making it --- */

/* ms to µs; 0 is @normal, which is in ms, too; negative: for ever. */
static gint64
time_of (gint64 milliseconds, gint64 normal)
{
  if (milliseconds == 0)
    milliseconds = normal;
  return milliseconds < 0 ? G_MAXINT64 : MIN (milliseconds, G_MAXINT64 / 4000) * 1000;
}

static void
group_init (BelayPoolGroup *group, BelayPool *pool, const char *key, guint hash)
{
  group->pool = pool;
  group->key = g_strdup (key);
  group->hash = hash;
  belay_line_init (&group->line, &group_line_class);
}

BelayPool *
belay_pool_new_at (const BelayPoolOptions *options, gpointer data, const char *site)
{
  BelayPoolOptions *own;
  BelayPool *self;

  g_return_val_if_fail (options != NULL && options->create != NULL, NULL);
  g_return_val_if_fail (options->destroy != NULL || (options->abandon == NULL && options->free == NULL), NULL);

  self = g_new0 (BelayPool, 1);
  self->base.klass = &pool_class;
  atomic_init (&self->refs, 1);
  self->holds = 1;
  self->options = *options;
  own = &self->options;
  own->max = own->max == 0 ? 10 : own->max;
  own->jitter = own->jitter == 0 ? 10 : CLAMP (own->jitter, 0, 100);
  own->max_idle_time = time_of (own->max_idle_time, -1);
  own->max_lifetime = time_of (own->max_lifetime, -1);
  own->validate_after = own->validate == NULL ? G_MAXINT64 : own->validate_after < 0 ? 0 : time_of (own->validate_after, 500);
  own->acquire_timeout = time_of (own->acquire_timeout, 30000);
  own->create_timeout = time_of (own->create_timeout, 30000);
  own->validate_timeout = time_of (own->validate_timeout, 5000);
  own->reset_timeout = time_of (own->reset_timeout, 5000);
  own->destroy_timeout = time_of (own->destroy_timeout, 5000);
  own->held_long = time_of (own->held_long, -1);
  self->data = data;
  self->name = own->name != NULL ? own->name : "pool";
  self->site = site;
  self->context = belay_context_ref (belay_context_get ());

  atomic_flag_clear (&self->lock);
  self->max = own->max;
  self->min = MIN (own->min, own->max);
  self->limit = self->max + MIN (own->overflow, G_MAXUINT - self->max);
  self->careful = own->watch != NULL || own->returned != NULL || own->reset != NULL || own->held_long != G_MAXINT64;
  self->ages = own->max_idle_time != G_MAXINT64 || own->max_lifetime != G_MAXINT64;
  group_init (&self->own, self, NULL, 0);
  belay_line_init (&self->warmers, &warmers_class);
  belay_line_init (&self->closers, &closers_class);
  self->last_of_failures = &self->failures;
  belay_pool_age_init (self);
  return self;
}

BelayPool *
(belay_pool_new) (const BelayPoolOptions *options, gpointer data)
{
  return belay_pool_new_at (options, data, NULL);
}

static gpointer
open_pool (gpointer data, GError **error)
{
  belay_auto (BelayPool) self = belay_steal ((BelayPool **) data);

  return self->options.min == 0 || belay_pool_warm_up (self, 0, error) ? belay_steal (&self) : NULL;
}

static void
free_opening (gpointer data)
{
  BelayPool **self = data;

  if (*self != NULL)
    belay_resource_drop (*self);
  g_free (self);
}

BelayFuture *
belay_pool_open (const BelayPoolOptions *options, gpointer data)
{
  BelayFuture *future;
  BelayTask *task;
  BelayPool **self;

  future = belay_fiber_refuse ();
  if (future != NULL)
    return future;
  self = g_new (BelayPool *, 1);
  *self = belay_pool_new_at (options, data, NULL);
  if (*self == NULL)
    {
      g_free (self);
      return belay_future_new_failed (BELAY_ERROR, BELAY_ERROR_MISUSE, "a pool needs a function that makes what it is of");
    }
  task = belay_task_new (belay_context_get (), NULL, NULL, open_pool, self, free_opening, belay_resource_drop, NULL);
  belay_task_cancel_when_dropped (task);
  belay_task_start_detached (task);
  return &task->fiber.future;
}

/* --- its memory --- */

static void
pool_free (BelayPool *self)
{
  while (self->slots != NULL)
    {
      BelaySlot *slot = self->slots;

      self->slots = slot->next_of_all;
      g_free (slot);
    }
  for (guint i = 0; self->buckets != NULL && i < BELAY_POOL_BUCKETS_OF_KEYS; i++)
    while (self->buckets[i] != NULL)
      {
        BelayPoolGroup *group = self->buckets[i];

        self->buckets[i] = group->next;
        g_free (group->key);
        g_free (group);
      }
  g_free (self->buckets);
  while (self->failures != NULL)
    {
      BelayPoolFailure *failure = self->failures;

      self->failures = failure->next;
      belay_pool_failure_unref (failure);
    }
  g_clear_pointer (&self->last_failure, belay_pool_failure_unref);
  g_clear_pointer (&self->last_job, belay_future_unref);
  if (self->options.destroy_data != NULL)
    self->options.destroy_data (self->data);
  belay_context_unref (self->context);
  g_free (self);
}

BelayPool *
belay_pool_ref (BelayPool *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_pool_unref (BelayPool *self)
{
  BelayPoolTodo todo = { NULL };

  g_return_if_fail (self != NULL);

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1 || belay_forked ())
    return;
  if (!belay_pool_is_closed (self))
    {
      g_critical ("the last reference to the %s from %s was dropped, and it was never closed", self->name,
                  self->site != NULL ? self->site : "?");
      belay_strict_end ("a pool that was never closed");
      belay_pool_abandon (self);
    }
  belay_pool_lock (self);
  belay_pool_let_go (self, &todo);
  belay_pool_unlock (self, &todo);
}

static inline void
note_if_unneeded (BelayPool *self, BelayPoolTodo *todo)
{
  if (G_UNLIKELY (self->holds == 0 && self->n_used == 0 && self->n_waiting == 0))
    todo->free = TRUE;
}

void
belay_pool_let_go (BelayPool *self, BelayPoolTodo *todo)
{
  self->holds--;
  note_if_unneeded (self, todo);
}

static void
free_groups (BelayPoolGroup *group)
{
  while (group != NULL)
    {
      BelayPoolGroup *next = group->next;

      g_free (group->key);
      g_free (group);
      group = next;
    }
}

static void
run_jobs (BelaySlot *slot)
{
  while (slot != NULL)
    {
      BelaySlot *next = slot->next;

      belay_slot_run_job (slot);
      slot = next;
    }
}

/* The pool has as many slots as it may come to need, and was short of them. */
static void
bring_spares (BelayPool *self, guint n)
{
  BelayPoolTodo todo = { NULL };
  BelaySlot *brought = NULL;

  while (n-- > 0)
    {
      BelaySlot *slot = g_new0 (BelaySlot, 1);

      for (guint i = 0; i < BELAY_POOL_HEADS; i++)
        slot->heads[i].klass = &belay_lease_classes[i];
      slot->pool = self;
      slot->next = brought;
      brought = slot;
    }
  belay_pool_lock (self);
  while (brought != NULL)
    {
      BelaySlot *slot = brought;

      brought = slot->next;
      slot->next_of_all = self->slots;
      self->slots = slot;
      slot->next = self->spare;
      self->spare = slot;
      self->n_slots++;
    }
  belay_pool_dispatch (self, belay_now (), &todo);
  belay_pool_let_go (self, &todo);
  belay_pool_unlock (self, &todo);
}

/* All of a todo but for what is as usual. */
static G_NO_INLINE void
do_rest (BelayPool *self, BelayPoolTodo *todo)
{
  if (todo->dead != NULL)
    free_groups (todo->dead);
  if (todo->look)
    belay_pool_set_timer (self);
  if (todo->jobs != NULL)
    run_jobs (todo->jobs);
  if (todo->over)
    belay_pool_tell (self, BELAY_POOL_CLOSED, NULL, NULL);
  belay_turns_wake (todo->served);
  if (todo->n_needed > 0)
    bring_spares (self, todo->n_needed);
  if (todo->look || todo->over)
    {
      BelayPoolTodo last = { NULL };

      belay_pool_lock (self);
      self->holds -= todo->look + todo->over - 1;
      belay_pool_let_go (self, &last);
      belay_pool_unlock (self, &last);
    }
}

void
belay_pool_unlock (BelayPool *self, BelayPoolTodo *todo)
{
  belay_pool_check (self);
  note_if_unneeded (self, todo);
  if (G_UNLIKELY (todo->n_needed > 0 || todo->look || todo->over))
    {
      self->holds += (todo->n_needed > 0) + todo->look + todo->over;
      todo->free = FALSE;
    }
  belay_spin_unlock (&self->lock);
  if (G_UNLIKELY (todo->dead != NULL || todo->jobs != NULL || todo->n_needed > 0 || todo->look || todo->over))
    do_rest (self, todo);
  else if (todo->served != NULL)
    belay_turns_wake (todo->served);
  if (G_UNLIKELY (todo->free))
    pool_free (self);
}

void
belay_pool_tell (BelayPool *self, BelayPoolEvent event, gpointer resource, const GError *error)
{
  if (self->options.watch != NULL)
    self->options.watch (self, event, resource, error, self->data);
}

/* --- groups --- */

static BelayPoolGroup *
find_group (BelayPool *self, const char *key, guint hash)
{
  if (self->buckets == NULL)
    return NULL;
  for (BelayPoolGroup *group = self->buckets[hash % BELAY_POOL_BUCKETS_OF_KEYS]; group != NULL; group = group->next)
    if (group->hash == hash && strcmp (group->key, key) == 0)
      return group;
  return NULL;
}

BelayPoolGroup *
belay_pool_lock_group (BelayPool *self, const char *key, gboolean must_exist)
{
  BelayPoolGroup *found, *made, **buckets;
  guint hash;

  if (G_LIKELY (key == NULL))
    {
      belay_pool_lock (self);
      return &self->own;
    }
  hash = g_str_hash (key);
  belay_pool_lock (self);
  found = find_group (self, key, hash);
  if (found != NULL || must_exist)
    return found;
  belay_spin_unlock (&self->lock); /* the caller keeps the pool alive */

  made = g_new0 (BelayPoolGroup, 1);
  group_init (made, self, key, hash);
  buckets = g_new0 (BelayPoolGroup *, BELAY_POOL_BUCKETS_OF_KEYS);
  belay_pool_lock (self);
  found = find_group (self, key, hash);
  if (found == NULL)
    {
      if (self->buckets == NULL)
        self->buckets = g_steal_pointer (&buckets);
      self->keyed = TRUE;
      made->next = self->buckets[hash % BELAY_POOL_BUCKETS_OF_KEYS];
      self->buckets[hash % BELAY_POOL_BUCKETS_OF_KEYS] = made;
      found = g_steal_pointer (&made);
    }
  if (G_UNLIKELY (buckets != NULL || made != NULL))
    {
      found->n_turns++; /* so that it stays */
      belay_spin_unlock (&self->lock);
      if (made != NULL)
        g_free (made->key);
      g_free (made);
      g_free (buckets);
      belay_pool_lock (self);
      found->n_turns--;
    }
  return found;
}

void
belay_pool_group_check (BelayPoolGroup *group, BelayPoolTodo *todo)
{
  BelayPool *self = group->pool;

  if (G_LIKELY (group == &self->own || group->n_turns > 0 || group->n_slots > 0))
    return;
  for (BelayPoolGroup **link = &self->buckets[group->hash % BELAY_POOL_BUCKETS_OF_KEYS]; *link != NULL;
       link = &(*link)->next)
    if (*link == group)
      {
        *link = group->next;
        group->next = todo->dead;
        todo->dead = group;
        return;
      }
}

/* --- all of it at once --- */

void
belay_pool_resize (BelayPool *self, guint min, guint max)
{
  BelayPoolTodo todo = { NULL };
  gint64 now = belay_now ();

  g_return_if_fail (self != NULL && max > 0 && min <= max);
  if (belay_forked ())
    return;

  belay_pool_lock (self);
  self->min = min;
  self->max = max;
  self->limit = max + MIN (self->options.overflow, G_MAXUINT - max);
  belay_pool_recall_warmers (self, &todo);
  if (self->ages && self->state == BELAY_POOL_RUNNING)
    belay_pool_look_at (self, now, &todo); /* what only the minimum kept */
  belay_pool_dispatch (self, now, &todo);
  belay_pool_unlock (self, &todo);
}

static void
set_suspended (BelayPool *self, gboolean suspended)
{
  BelayPoolTodo todo = { NULL };

  if (belay_forked ())
    return;
  belay_pool_lock (self);
  self->suspended = suspended;
  belay_pool_dispatch (self, belay_now (), &todo);
  belay_pool_unlock (self, &todo);
}

void
belay_pool_suspend (BelayPool *self)
{
  g_return_if_fail (self != NULL);
  set_suspended (self, TRUE);
}

void
belay_pool_resume (BelayPool *self)
{
  g_return_if_fail (self != NULL);
  set_suspended (self, FALSE);
}

/* Those of @only, or all of them. */
static void
invalidate (BelayPool *self, BelayPoolGroup *only, BelayPoolTodo *todo)
{
  if (only != NULL)
    only->generation++;
  else
    self->own.generation++;
  for (guint i = 0; only == NULL && self->buckets != NULL && i < BELAY_POOL_BUCKETS_OF_KEYS; i++)
    for (BelayPoolGroup *group = self->buckets[i]; group != NULL; group = group->next)
      group->generation++;
  for (BelaySlot *slot = self->oldest; slot != NULL;)
    {
      BelaySlot *newer = slot->newer;

      if (only == NULL || slot->group == only)
        {
          belay_slot_from_idle (slot, BELAY_SLOT_CLOSING);
          belay_slot_close (slot, BELAY_POOL_EXPIRED, BELAY_REASON_OK, todo);
        }
      slot = newer;
    }
  belay_pool_dispatch (self, belay_now (), todo);
}

void
belay_pool_invalidate (BelayPool *self)
{
  BelayPoolTodo todo = { NULL };

  g_return_if_fail (self != NULL);
  if (belay_forked ())
    return;
  belay_pool_lock (self);
  invalidate (self, NULL, &todo);
  belay_pool_unlock (self, &todo);
}

void
belay_pool_invalidate_key (BelayPool *self, const char *key)
{
  BelayPoolTodo todo = { NULL };
  BelayPoolGroup *group;

  g_return_if_fail (self != NULL);
  if (belay_forked ())
    return;
  group = belay_pool_lock_group (self, key, TRUE);
  if (group != NULL)
    invalidate (self, group, &todo);
  belay_pool_unlock (self, &todo);
}
