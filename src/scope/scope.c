/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Scopes: the one owner of everything that is alive.
 *
 * Words. *Children* are fibers, *entries* are resources and deferred functions, *chains* are callbacks on futures. A
 * *lexical* scope interrupts the body of the fiber that began it; a fiber and a release have one of their *own*, made when
 * it is first needed; a *stored* one interrupts only what it owns.
 *
 * States: OPEN; JOINING (closing waits for the children, who may spawn more as long as one lives); RELEASING (entries,
 * newest first, one after another; then what chains came late and borrow is waited for); CLOSED. A release that is out of
 * time while it joins leaves the scope OPEN again, cancelled, to another closer.
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

static void
scope_class_free (gpointer self)
{
  belay_scope_unref (self);
}

/*
 * A fiber's, a release's or an object's own scope is lent to whoever asks for it, and closed by what it belongs to. To a
 * guard it is a resource that cannot be closed, and is not freed.
 */
static gboolean
close_lent (gpointer data, BelayReason reason, GError **error)
{
  BelayScope *self = data;

  g_critical ("the scope from %s is only lent: it is closed by the fiber, release or object that it belongs to",
              self->site != NULL ? self->site : "?");
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a scope that is lent cannot be closed");
  return FALSE;
}

/* Its home has ended. Elsewhere it is closed after all, which dropping the last reference sees to. */
static void
scope_class_abandon (gpointer data)
{
  BelayScope *self = data;
  gboolean has_children;

  if (!belay_context_is_gone (self->context))
    return;
  belay_leaks_let_go (self);
  belay_spin_lock (&self->lock);
  has_children = belay_scope_count_children (self, 0) > 0;
  self->state = BELAY_SCOPE_CLOSED;
  self->inside = &self->limit;
  self->body = NULL;
  belay_spin_unlock (&self->lock);
  if (has_children)
    belay_scope_ref (self); /* they never run again, and hold what they hold: so does their scope */
  belay_entries_abandon (self);
}

const BelayPlainClass belay_lent_class = { BELAY_PLAIN_TAG, "BelayScope", close_lent, NULL, NULL, NULL };
static const BelayPlainClass scope_class = { BELAY_TAG_SCOPE, "BelayScope", NULL, NULL, scope_class_abandon, scope_class_free };
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
  atomic_init (&self->release_timeout, BELAY_RELEASE_TIMEOUT);
  self->inside = &self->limit;
  self->reason = BELAY_REASON_LEFT;
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
      self->base.klass = &belay_lent_class;
      self->inside = inside;
      self->body = fiber;
    }
  return self;
}

BelayScope *
belay_scope_of_fiber (BelayFiber *fiber)
{
  return own_scope (fiber, &fiber->stack->root, &fiber->stack->scope);
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
  return belay_scope_of_fiber (fiber);
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
  belay_leaks_hold (self, site);
  self->body = fiber;
  belay_limit_push (fiber, &self->limit);
  return self;
}

BelayScope *
belay_scope_new_for (BelayContext *context, const char *site)
{
  BelayScope *self = scope_alloc (context, site);

  self->stored = TRUE;
  self->apart = TRUE;
  return self;
}

BelayScope *
belay_scope_new_at (const char *site)
{
  BelayScope *self = scope_alloc (belay_context_get (), site);

  self->stored = TRUE;
  belay_leaks_hold (self, site);
  return self;
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

  self->base.klass = &scope_class;
  belay_scope_cancel (self, "the object that it belonged to is gone");
  belay_resource_schedule (self->context, self, self->site);
}

static GQuark
object_quark (void)
{
  static gsize quark;

  if (g_once_init_enter (&quark))
    g_once_init_leave (&quark, g_quark_from_static_string ("belay-scope"));
  return (GQuark) quark;
}

BelayScope *
belay_scope_for_object (GObject *object)
{
  BelayScope *self;

  g_return_val_if_fail (G_IS_OBJECT (object), NULL);

  self = g_object_get_qdata (object, object_quark ());
  if (self != NULL)
    return self;
  self = belay_scope_new_at (G_OBJECT_TYPE_NAME (object));
  self->base.klass = &belay_lent_class;
  if (g_object_replace_qdata (object, object_quark (), NULL, self, close_with_object, NULL))
    return self;
  self->state = BELAY_SCOPE_CLOSED; /* another thread was first, and nobody has seen this one */
  belay_leaks_let_go (self);
  belay_scope_unref (self);
  return g_object_get_qdata (object, object_quark ());
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
      if (belay_forked ())
        return;
      /* A mistake, but nothing leaks: it is closed after all, or by force. */
      g_critical ("the scope from %s was dropped without being closed", self->site != NULL ? self->site : "?");
      belay_strict_end ("a scope that was dropped without being closed");
      atomic_store (&self->refs, 1);
      if (belay_context_is_gone (self->context))
        {
          belay_resource_abandon (self);
          return;
        }
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
  g_clear_pointer (&self->errors, belay_errors_unref);
  g_clear_pointer (&self->closed, belay_future_unref);
  g_clear_object (&self->cancellable);
  belay_context_unref (self->context);
  belay_piece_free (self, sizeof *self);
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
  if (G_UNLIKELY (self->entering != NULL))
    belay_entering_update (self);
  belay_spin_unlock (&self->lock);
  belay_scope_poke_children (self);
}

static void
cancel (BelayScope *self, const char *reason, gboolean failed, guint8 cancelled)
{
  GCancellable *cancellable = NULL;
  gboolean first = FALSE;

  belay_spin_lock (&self->lock);
  if (self->state != BELAY_SCOPE_CLOSED)
    {
      gboolean was_cancelled = failed && belay_limit_is_cancelled (self->inside); /* from outside */

      first = belay_limit_cancel_as (self->inside, cancelled, reason);
      if (first)
        self->failed = failed && !was_cancelled;
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
  cancel (self, reason, FALSE, TRUE);
}

void
belay_scope_cancel_left (BelayScope *self, BelayReason reason)
{
  cancel (self, "the scope around it was left", FALSE, reason == BELAY_REASON_DEADLINE ? BELAY_CANCELLED_LATE : TRUE);
}

void
belay_scope_child_failed (BelayScope *self, GError *error, BelayErrors *attached, const char *site)
{
  g_autofree char *reason = g_strdup_printf ("cancelled because another member of the group failed: %s", error->message);

  belay_scope_add_error (self, error, attached, site);
  cancel (self, reason, TRUE, TRUE);
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
  cancelled = belay_scope_looks_cancelled (self);
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
  atomic_store_explicit (&self->release_timeout, milliseconds < 0 ? G_MAXINT64 : MIN (milliseconds, G_MAXINT64 / 4000) * 1000,
                         memory_order_relaxed);
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
    {
      self->cancellable = g_steal_pointer (&fresh);
      /* Of what is around it only the home thread can know, which looks when its fiber is poked. */
      if (belay_thread.context != self->context && self->body != NULL)
        belay_fiber_poke (self->body);
    }
  cancelled = belay_scope_looks_cancelled (self);
  belay_spin_unlock (&self->lock);
  g_clear_object (&fresh);
  if (cancelled)
    g_cancellable_cancel (self->cancellable);
  return self->cancellable;
}
