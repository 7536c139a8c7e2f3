/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Scopes: the one owner of everything that is alive.
 *
 * Words. *Children* are fibers, *entries* are resources and deferred functions, *chains* are callbacks on futures. A
 * *lexical* scope interrupts the body of the fiber that began it; a fiber and a release have one of their *own*, made when
 * it is first needed; a *stored* one interrupts only what it owns.
 *
 * States: OPEN; JOINING (closing waits for the children, who may spawn more as long as one lives); RELEASING (entries,
 * newest first, one after another); CLOSED.
 *
 * Invariants
 *   1. All that is marked so in scope-private.h is under `lock`, which is held for a few instructions; nothing of a
 *      user's is ever called under it.
 *   2. Children run on the scope's home, and leave it there: so the closer, who runs there too, sees the last one go.
 *   3. The limit of a scope lives until all its children have gone.
 *   4. The reason that releases get is fixed when RELEASING begins.
 *   5. An entry is taken off the list by whoever releases it: exactly one.
 *   6. A registration that comes when RELEASING has begun is released by the caller, at once.
 */
#include "scope/scope-private.h"

G_DEFINE_BOXED_TYPE (BelayScope, belay_scope, belay_scope_ref, belay_scope_unref)

struct _BelayEntry
{
  BelayEntry *next;
  gpointer    resource; /* or else */
  BelayFunc   func;
  gpointer    data;
  const char *site;
};

static void
scope_class_free (gpointer self)
{
  belay_scope_unref (self);
}

static const BelayPlainClass scope_class = { BELAY_TAG_SCOPE, "BelayScope", NULL, NULL, NULL, scope_class_free };
static const BelayPlainClass limit_class = { BELAY_TAG_INSTANT, "the limit of a scope", NULL, NULL, NULL, NULL };

/* --- making and finding --- */

static BelayScope *
scope_alloc (BelayContext *context, const char *site)
{
  BelayScope *self = belay_piece_new0 (sizeof *self);

  self->base.klass = &scope_class;
  atomic_init (&self->refs, 1);
  belay_limit_init (&self->limit);
  self->limit.klass = &limit_class;
  self->context = belay_context_ref (context);
  self->site = site;
  self->release_timeout = BELAY_RELEASE_TIMEOUT;
  self->inside = &self->limit;
  atomic_flag_clear (&self->lock);
  return self;
}

BelayScope *
belay_scope_of_limit (BelayLimit *limit)
{
  return limit->klass == &limit_class ? (BelayScope *) ((char *) limit - G_STRUCT_OFFSET (BelayScope, limit)) : NULL;
}

/* The scope that a fiber, or a release, owns without having begun one. */
static BelayScope *
own_scope (BelayFiber *fiber, BelayLimit *inside, gpointer *place)
{
  BelayScope *self = *place;

  if (self == NULL)
    {
      *place = self = scope_alloc (fiber->context, fiber->site);
      self->inside = inside;
      self->body = fiber;
    }
  return self;
}

BelayScope *
belay_scope_innermost (BelayFiber *fiber)
{
  BelayStack *stack = fiber->stack;

  for (BelayLimit *limit = stack->limit; limit != &stack->root; limit = limit->outer)
    {
      BelayScope *scope = belay_scope_of_limit (limit);

      if (scope != NULL)
        return scope;
      if (limit->owns)
        return own_scope (fiber, limit, &limit->scope);
    }
  return own_scope (fiber, &stack->root, &stack->scope);
}

BelayScope *
belay_scope_begin_at (const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayScope *self;

  if (fiber == NULL)
    {
      belay_fail_no_fiber ("belay_scope_begin", NULL);
      return NULL;
    }
  self = scope_alloc (fiber->context, site);
  self->body = fiber;
  belay_limit_push (fiber, &self->limit);
  return self;
}

BelayScope *
belay_scope_new_at (const char *site)
{
  return scope_alloc (belay_context_get (), site);
}

BelayScope *
(belay_scope_begin) (void)
{
  return belay_scope_begin_at (NULL);
}

BelayScope *
(belay_scope_new) (void)
{
  return belay_scope_new_at (NULL);
}

BelayScope *
belay_scope_current (void)
{
  BelayFiber *fiber = belay_fiber_self ();

  return fiber != NULL ? belay_scope_innermost (fiber) : NULL;
}

static void
close_with_object (gpointer data)
{
  BelayScope *self = data;

  belay_scope_cancel (self, "the object that it belonged to is gone");
  belay_resource_schedule (self->context, self, self->site);
}

BelayScope *
belay_scope_for_object (GObject *object)
{
  static GQuark quark;
  BelayScope *self;

  g_return_val_if_fail (G_IS_OBJECT (object), NULL);

  if (quark == 0)
    quark = g_quark_from_static_string ("belay-scope");
  self = g_object_get_qdata (object, quark);
  if (self == NULL)
    {
      self = belay_scope_new_at (G_OBJECT_TYPE_NAME (object));
      g_object_set_qdata_full (object, quark, self, close_with_object);
    }
  return self;
}

BelayScope *
belay_scope_ref (BelayScope *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_scope_unref (BelayScope *self)
{
  g_return_if_fail (self != NULL);

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  if (G_UNLIKELY (self->state != BELAY_SCOPE_CLOSED))
    {
      /* A mistake, but nothing leaks: it is closed after all. */
      g_critical ("the scope from %s was dropped without being closed", self->site != NULL ? self->site : "?");
      atomic_store (&self->refs, 1);
      if (self->limit.fiber != NULL)
        {
          belay_limit_pop (self->limit.fiber, &self->limit);
          self->body = NULL;
          self->limit.outer = NULL;
        }
      belay_resource_schedule (self->context, self, self->site);
      return;
    }
  belay_limit_clear (&self->limit);
  g_clear_pointer (&self->errors, g_ptr_array_unref);
  g_clear_pointer (&self->closed, belay_future_unref);
  g_clear_object (&self->cancellable);
  belay_context_unref (self->context);
  belay_piece_free (self, sizeof *self);
}

/* --- registering --- */

static gboolean
add_entry (BelayScope *self, BelayEntry *entry)
{
  gboolean accepted;

  belay_spin_lock (&self->lock);
  accepted = self->state <= BELAY_SCOPE_JOINING;
  if (accepted)
    {
      entry->next = self->entries;
      self->entries = entry;
    }
  belay_spin_unlock (&self->lock);
  return accepted;
}

static gboolean
fail_closed (GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the scope is closed; what was given to it has been released");
  return FALSE;
}

/* It has no way to be released; an object, what else can have a class, is given back. */
static gboolean
fail_invalid (gpointer resource, GError **error)
{
  if (*(gpointer *) resource != NULL)
    g_object_unref (resource);
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "what was given to the scope is no resource");
  return FALSE;
}

/* In a fiber: closes anything that can be registered. */
static gboolean
close_entry (gpointer resource, BelayReason reason, gint64 timeout, GError **error)
{
  gboolean ok;

  switch (belay_resource_tag (resource))
    {
    case BELAY_TAG_INSTANT:
      belay_resource_drop (resource);
      return TRUE;
    case BELAY_TAG_SCOPE:
      ok = belay_scope_finish (resource, reason, error);
      belay_scope_unref (resource);
      return ok;
    default:
      return belay_resource_close (resource, reason, timeout, error);
    }
}

/* Too late for the scope: releases now, here when that is possible. */
static gboolean
release_late (BelayScope *self, gpointer resource, GError **error)
{
  g_autoptr (GError) failure = NULL;

  if (!belay_in_fiber ())
    belay_resource_drop (resource);
  else if (!close_entry (resource, BELAY_REASON_LEFT, self->release_timeout, &failure))
    belay_sink_error (failure, "closing what came too late for its scope", self->site);
  return fail_closed (error);
}

gboolean
belay_scope_adopt (BelayScope *self, gpointer resource, GError **error)
{
  BelayEntry *entry;

  g_return_val_if_fail (self != NULL, FALSE);

  if (resource == NULL)
    return TRUE;
  if (G_UNLIKELY (!belay_resource_is_valid (resource)))
    return fail_invalid (resource, error);
  entry = belay_piece_new0 (sizeof *entry);
  entry->resource = resource;
  if (add_entry (self, entry))
    return TRUE;
  belay_piece_free (entry, sizeof *entry);
  return release_late (self, resource, error);
}

gpointer
belay_enter_at (BelayScope *self, BelayFuture *future, GError **error, const char *site)
{
  BelayEntry *entry;
  gpointer resource;

  g_return_val_if_fail (self != NULL && future != NULL, NULL);

  /* Its place is made before the resource is, so that nothing can fail in between. */
  entry = belay_piece_new0 (sizeof *entry);
  entry->site = site;
  resource = entry->resource = belay_await_at (future, error, site);
  if (G_UNLIKELY (resource != NULL && !belay_resource_is_valid (resource)))
    {
      fail_invalid (resource, error);
      resource = NULL;
    }
  if (resource != NULL && add_entry (self, entry))
    return resource;
  belay_piece_free (entry, sizeof *entry);
  if (resource != NULL)
    release_late (self, resource, error);
  return NULL;
}

gpointer
(belay_enter) (BelayScope *self, BelayFuture *future, GError **error)
{
  return belay_enter_at (self, future, error, NULL);
}

typedef struct
{
  BelayFunc func;
  gpointer  data;
} Deferred;

static gboolean
call_deferred (gpointer data, BelayReason reason, GError **error)
{
  Deferred *deferred = data;

  return deferred->func (deferred->data, error);
}

static gboolean
run_detached_deferred (gpointer data, GError **error)
{
  return belay_release_run (belay_fiber_self (), call_deferred, data, BELAY_REASON_LEFT, BELAY_RELEASE_TIMEOUT, NULL,
                            "a deferred function", error);
}

gboolean
belay_scope_defer (BelayScope *self, BelayFunc func, gpointer data)
{
  Deferred deferred = { func, data };
  g_autoptr (GError) error = NULL;
  BelayEntry *entry;

  g_return_val_if_fail (self != NULL && func != NULL, FALSE);

  entry = belay_piece_new0 (sizeof *entry);
  entry->func = func;
  entry->data = data;
  if (add_entry (self, entry))
    return TRUE;
  belay_piece_free (entry, sizeof *entry);
  if (!belay_in_fiber ())
    belay_future_unref (belay_task_detached (self->context, run_detached_deferred, g_memdup2 (&deferred, sizeof deferred),
                                             g_free, self->site));
  else if (!belay_release_run (belay_fiber_self (), call_deferred, &deferred, BELAY_REASON_LEFT, self->release_timeout, NULL,
                               "a deferred function", &error))
    belay_sink_error (error, "a deferred function that came too late for its scope", self->site);
  return FALSE;
}

/* --- errors --- */

void
belay_scope_add_error (BelayScope *self, GError *error)
{
  GPtrArray *fresh = NULL;

  if (self->errors == NULL)
    fresh = g_ptr_array_new_with_free_func ((GDestroyNotify) g_error_free);
  belay_spin_lock (&self->lock);
  if (self->errors == NULL)
    {
      self->errors = fresh;
      fresh = NULL;
    }
  g_ptr_array_add (self->errors, error);
  belay_spin_unlock (&self->lock);
  if (fresh != NULL)
    g_ptr_array_unref (fresh);
}

void
belay_scope_pass_errors (BelayScope *self, BelayScope *to, const char *prefix)
{
  for (guint i = 0; self->errors != NULL && i < self->errors->len; i++)
    {
      GError *error = self->errors->pdata[i];

      if (error == self->interruption)
        continue;
      if (to == NULL)
        {
          belay_sink_error (error, prefix, self->site);
          continue;
        }
      error = g_error_copy (error);
      g_prefix_error (&error, "%s: ", prefix);
      belay_scope_add_error (to, error);
    }
}

const GPtrArray *
belay_scope_get_errors (BelayScope *self)
{
  static GPtrArray *none;

  g_return_val_if_fail (self != NULL, NULL);
  if (self->errors != NULL)
    return self->errors;
  if (g_once_init_enter (&none))
    g_once_init_leave (&none, g_ptr_array_new ());
  return none;
}

/* The first error, which says how many more there are. */
static GError *
summary (BelayScope *self)
{
  GError *first = g_error_copy (self->errors->pdata[0]);

  if (self->errors->len > 1)
    {
      char *message = g_strdup_printf ("%s (and %u more)", first->message, self->errors->len - 1);

      g_free (first->message);
      first->message = message;
    }
  return first;
}

gboolean
belay_check (GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayScope *scope;
  GPtrArray *errors;

  if (fiber == NULL)
    return TRUE;
  scope = belay_scope_innermost (fiber);
  if (scope->errors == NULL || scope->errors->len == 0)
    return TRUE;
  if (error != NULL)
    *error = summary (scope);
  belay_spin_lock (&scope->lock);
  errors = scope->errors;
  scope->errors = NULL;
  belay_spin_unlock (&scope->lock);
  g_ptr_array_unref (errors);
  return FALSE;
}

/* --- cancelling --- */

void
belay_scope_poke_children (BelayScope *self)
{
  belay_spin_lock (&self->lock);
  for (BelayTask *task = self->children; task != NULL; task = task->next)
    belay_fiber_poke (&task->fiber);
  belay_spin_unlock (&self->lock);
}

/* The limit has changed: all that it is around looks at it. */
static void
poke_inside (BelayScope *self)
{
  belay_spin_lock (&self->lock);
  if (self->body != NULL)
    belay_fiber_poke (self->body);
  belay_spin_unlock (&self->lock);
  belay_scope_poke_children (self);
}

static void
cancel (BelayScope *self, const char *reason, gboolean failed)
{
  GCancellable *cancellable = NULL;
  gboolean first = FALSE;

  belay_spin_lock (&self->lock);
  if (self->state != BELAY_SCOPE_CLOSED)
    {
      first = belay_limit_cancel (self->inside, reason);
      if (first)
        self->failed = failed;
      if (first && self->cancellable != NULL)
        cancellable = g_object_ref (self->cancellable);
    }
  belay_spin_unlock (&self->lock);
  if (!first)
    return;
  poke_inside (self);
  belay_chains_cancel (self);
  if (cancellable != NULL)
    {
      g_cancellable_cancel (cancellable);
      g_object_unref (cancellable);
    }
}

void
belay_scope_cancel (BelayScope *self, const char *reason)
{
  g_return_if_fail (self != NULL);
  cancel (self, reason, FALSE);
}

void
belay_scope_child_failed (BelayScope *self, GError *error)
{
  g_autofree char *reason = g_strdup_printf ("cancelled because another member of the group failed: %s", error->message);

  belay_scope_add_error (self, error);
  cancel (self, reason, TRUE);
}

gboolean
belay_scope_tell_cancellable (BelayScope *self)
{
  GCancellable *cancellable = NULL;

  belay_spin_lock (&self->lock);
  if (G_UNLIKELY (self->cancellable != NULL) && !g_cancellable_is_cancelled (self->cancellable) &&
      belay_limit_is_cancelled (self->inside))
    cancellable = g_object_ref (self->cancellable);
  belay_spin_unlock (&self->lock);
  if (G_LIKELY (cancellable == NULL))
    return FALSE;
  g_cancellable_cancel (cancellable);
  g_object_unref (cancellable);
  return TRUE;
}

gboolean
belay_scope_is_cancelled (BelayScope *self)
{
  gboolean cancelled;

  g_return_val_if_fail (self != NULL, FALSE);
  belay_spin_lock (&self->lock);
  cancelled = atomic_load_explicit (&self->inside->cancelled, memory_order_acquire);
  belay_spin_unlock (&self->lock);
  return cancelled;
}

void
belay_scope_set_timeout (BelayScope *self, gint64 milliseconds)
{
  gint64 deadline = milliseconds < 0 ? G_MAXINT64 : belay_now () + MIN (milliseconds, G_MAXINT64 / 4000) * 1000;

  g_return_if_fail (self != NULL);

  belay_spin_lock (&self->lock);
  if (self->state != BELAY_SCOPE_CLOSED)
    belay_limit_set_deadline (self->inside, deadline);
  belay_spin_unlock (&self->lock);
  poke_inside (self);
}

void
belay_scope_set_release_timeout (BelayScope *self, gint64 milliseconds)
{
  g_return_if_fail (self != NULL);
  self->release_timeout = milliseconds < 0 ? G_MAXINT64 : MIN (milliseconds, G_MAXINT64 / 4000) * 1000;
}

GCancellable *
belay_scope_get_cancellable (BelayScope *self)
{
  GCancellable *fresh;
  gboolean cancelled;

  g_return_val_if_fail (self != NULL, NULL);

  fresh = g_cancellable_new ();
  belay_spin_lock (&self->lock);
  if (self->cancellable == NULL)
    self->cancellable = g_steal_pointer (&fresh);
  cancelled = belay_limit_is_cancelled (self->inside);
  belay_spin_unlock (&self->lock);
  g_clear_object (&fresh);
  if (cancelled)
    g_cancellable_cancel (self->cancellable);
  return self->cancellable;
}

/* --- closing --- */

void
belay_scope_leave_child (BelayScope *self, BelayTask *task)
{
  BelayFiber *closer = NULL;

  belay_spin_lock (&self->lock);
  if (task->prev != NULL)
    task->prev->next = task->next;
  else
    self->children = task->next;
  if (task->next != NULL)
    task->next->prev = task->prev;
  if (--self->n_children == 0 && self->state == BELAY_SCOPE_JOINING)
    closer = self->closer;
  belay_spin_unlock (&self->lock);
  if (closer != NULL)
    belay_fiber_wake (closer);
}

static void
join (BelayScope *self, BelayFiber *fiber)
{
  while (self->n_children > 0) /* changed on this thread only, once nobody else can spawn; else seen at the next turn */
    {
      fiber->stack->wait_site = self->site;
      belay_fiber_suspend (fiber, BELAY_WAIT_DEAF, G_MAXINT64);
    }
}

static void
run_entry (BelayScope *self, BelayFiber *fiber, BelayEntry *entry, BelayReason reason)
{
  GError *error = NULL;
  gboolean ok;

  if (entry->resource == NULL)
    {
      Deferred deferred = { entry->func, entry->data };

      ok = belay_release_run (fiber, call_deferred, &deferred, reason, self->release_timeout, NULL, "a deferred function",
                              &error);
    }
  else
    {
      ok = close_entry (entry->resource, reason, self->release_timeout, &error);
    }
  if (!ok)
    {
      if (entry->site != NULL)
        g_prefix_error (&error, "%s: ", entry->site);
      belay_scope_add_error (self, error);
    }
  belay_piece_free (entry, sizeof *entry);
}

/* Nothing is added once RELEASING has begun, so the list is the closer's alone. */
static void
release_entries (BelayScope *self, BelayFiber *fiber, BelayReason reason)
{
  while (self->entries != NULL)
    {
      BelayEntry *entry = self->entries;

      self->entries = entry->next;
      run_entry (self, fiber, entry, reason);
    }
}

/* A later closer waits for the first, and has its result. */
static gboolean
join_close (BelayScope *self, BelayFiber *fiber, GError **error)
{
  BelayFuture *closed, *fresh;

  if (self->closer == fiber)
    {
      g_critical ("the scope from %s is closed from inside of its own close", self->site != NULL ? self->site : "?");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a scope cannot be closed by its own release");
      return FALSE;
    }
  fresh = belay_future_block_new (BelayFuture);
  belay_future_init (fresh, 1);
  belay_spin_lock (&self->lock);
  if (self->closed == NULL)
    self->closed = g_steal_pointer (&fresh);
  closed = self->closed;
  belay_spin_unlock (&self->lock);
  if (fresh != NULL)
    belay_future_unref (fresh);
  if (self->state != BELAY_SCOPE_CLOSED)
    belay_fiber_await_deaf (fiber, closed, self->site);
  if (self->errors != NULL && self->errors->len > 0)
    {
      g_propagate_error (error, summary (self));
      return FALSE;
    }
  return TRUE;
}

/* TRUE when the fiber is a descendant of the scope's, which a close would wait for. */
static gboolean
is_inside (BelayScope *self, BelayFiber *fiber)
{
  for (BelayLimit *limit = &fiber->stack->root; limit != NULL; limit = limit->outer)
    if (limit == self->inside && limit->fiber != fiber)
      return TRUE;
  return FALSE;
}

typedef struct
{
  BelayScope *scope;
  BelayReason reason;
} Finish;

static gboolean
finish_at_home (gpointer data, GError **error)
{
  Finish *finish = data;

  return belay_scope_finish (finish->scope, finish->reason, error);
}

/* Closed from the fiber of another home: done at its own. */
static gboolean
finish_from_afar (BelayScope *self, BelayFiber *fiber, BelayReason reason, GError **error)
{
  Finish finish = { self, reason };
  g_autoptr (BelayFuture) done = belay_task_detached (self->context, finish_at_home, &finish, NULL, self->site);

  belay_fiber_await_deaf (fiber, done, self->site);
  return belay_future_check (done, error);
}

static const char *
why_cancelled (BelayLimit *limit)
{
  for (; limit != NULL; limit = limit->shield ? NULL : limit->outer)
    if (atomic_load_explicit (&limit->cancelled, memory_order_acquire))
      return atomic_load_explicit (&limit->reason, memory_order_acquire);
  return NULL;
}

/*
 * What interrupted the body, or the wait for a child, is an error too. A cancellation goes before all others, unless it
 * was the group's own, because a member failed; the end of the time after what failed before, and before what a release
 * adds. A stored scope has no body, so its closer's troubles are none of its own.
 */
static void
add_interruption (BelayScope *self, BelayLimit *limit, BelayReason reason)
{
  GError *error;

  if (reason == BELAY_REASON_CANCELLED && !(self->failed && self->errors != NULL))
    {
      const char *why = why_cancelled (limit);

      if (why == NULL)
        return;
      error = g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, why);
    }
  else if (reason == BELAY_REASON_DEADLINE && self->body != NULL)
    {
      error = g_error_new (G_IO_ERROR, G_IO_ERROR_TIMED_OUT, "timed out in the scope from %s",
                           self->site != NULL ? self->site : "?");
    }
  else
    {
      return;
    }
  belay_scope_add_error (self, error);
  self->interruption = error;
  if (reason == BELAY_REASON_CANCELLED)
    g_ptr_array_insert (self->errors, 0, g_ptr_array_steal_index (self->errors, self->errors->len - 1));
}

gboolean
belay_scope_finish (BelayScope *self, BelayReason reason, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayLimit *limit;
  gboolean first;

  if (G_UNLIKELY (self->context != fiber->context))
    return finish_from_afar (self, fiber, reason, error);

  if (G_UNLIKELY (self->n_children > 0 && is_inside (self, fiber)))
    {
      g_critical ("the scope from %s is closed by one of its own fibers, which it would wait for",
                  self->site != NULL ? self->site : "?");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a scope cannot be closed by its own fiber: cancel it");
      return FALSE;
    }

  belay_spin_lock (&self->lock);
  first = self->state == BELAY_SCOPE_OPEN;
  if (first)
    {
      self->state = BELAY_SCOPE_JOINING;
      self->closer = fiber;
    }
  belay_spin_unlock (&self->lock);
  if (!first)
    return join_close (self, fiber, error);

  limit = self->inside;
  if (reason == BELAY_REASON_LEFT && self->body == fiber && fiber != NULL)
    reason = belay_limit_reason (fiber);
  if (reason != BELAY_REASON_OK && self->n_children > 0)
    belay_scope_cancel (self, "the scope around it was left");
  belay_chains_drop (self);
  join (self, fiber);

  if (reason == BELAY_REASON_OK || reason == BELAY_REASON_LEFT)
    {
      if (limit->observed != 0)
        reason = (BelayReason) limit->observed;
      else if (self->errors != NULL && self->errors->len > 0)
        reason = BELAY_REASON_ERROR;
      else if (reason == BELAY_REASON_OK && self->child_cancelled && belay_limit_is_cancelled (limit))
        reason = BELAY_REASON_CANCELLED;
    }
  add_interruption (self, limit, reason);
  belay_spin_lock (&self->lock);
  self->state = BELAY_SCOPE_RELEASING;
  self->body = NULL;
  belay_spin_unlock (&self->lock);
  if (self->limit.fiber != NULL)
    belay_limit_pop (self->limit.fiber, &self->limit);
  release_entries (self, fiber, reason);

  belay_spin_lock (&self->lock);
  self->state = BELAY_SCOPE_CLOSED;
  self->closer = NULL;
  self->inside = &self->limit; /* a fiber's root limit goes with the fiber */
  belay_spin_unlock (&self->lock);
  if (self->closed != NULL)
    belay_future_settle (self->closed, BELAY_KIND_DONE, (BelayValue) { .p = NULL }, (BelayAux) { NULL });

  if (self->errors == NULL || self->errors->len == 0)
    return TRUE;
  g_propagate_error (error, summary (self));
  return FALSE;
}

gboolean
belay_scope_close (BelayScope **scope, GError **error)
{
  return belay_close (scope, error);
}
