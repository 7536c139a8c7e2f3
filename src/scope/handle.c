/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Handles: one registration in a scope, to be released early, taken back, or moved to another scope.
 *
 * A handle is a counted reference to an entry. It keeps the memory of the entry and of the scope that it is in, and owns
 * neither: the scope releases it all the same, and then the handle finds it *disarmed*. Whoever takes an armed entry off
 * the list, under the scope's lock, is the only one who has it: the closer, an early release, a steal or a move.
 *
 * An *early* release runs in the fiber that asks for it when that is at the scope's home; else in a detached one there.
 * From when its entry is taken off, it counts as a child of the scope's, so no close ends before it; and the closer
 * releases no older entry meanwhile.
 *
 * Where an entry is, `scope`, changes when it is moved. So whoever has a handle only reads that under the entry's own
 * lock, takes a reference, locks the scope, and looks again. Locks are taken in this order: scopes by their address, then
 * an entry's.
 */
#include "scope/entry.h"

G_DEFINE_BOXED_TYPE (BelayEntry, belay_entry, belay_entry_ref, belay_entry_unref)

/* --- counting --- */

void
belay_entry_add_handle (BelayScope *scope, BelayEntry *self)
{
  if (self->handles++ > 0)
    return;
  atomic_flag_clear (&self->lock);
  self->scope = belay_scope_ref (scope);
  scope->handled = TRUE;
}

static BelayScope *
ref_scope (BelayEntry *self)
{
  BelayScope *scope;

  belay_spin_lock (&self->lock);
  scope = belay_scope_ref (self->scope);
  belay_spin_unlock (&self->lock);
  return scope;
}

/* Under the lock of @scope: whether it is in that, and so stays there. Those who move it elsewhere have other locks. */
static gboolean
is_in (BelayEntry *self, BelayScope *scope)
{
  gboolean is;

  belay_spin_lock (&self->lock);
  is = self->scope == scope;
  belay_spin_unlock (&self->lock);
  return is;
}

/* The scope that it is or was in: a reference, and its lock. */
static BelayScope *
lock_scope (BelayEntry *self)
{
  for (;;)
    {
      BelayScope *scope = ref_scope (self);

      belay_spin_lock (&scope->lock);
      if (G_LIKELY (is_in (self, scope)))
        return scope;
      belay_spin_unlock (&scope->lock); /* it has just been moved */
      belay_scope_unref (scope);
    }
}

static void
unlock_scope (BelayScope *scope)
{
  belay_spin_unlock (&scope->lock);
  belay_scope_unref (scope);
}

BelayEntry *
belay_entry_ref (BelayEntry *self)
{
  BelayScope *scope;

  g_return_val_if_fail (self != NULL, NULL);

  scope = lock_scope (self);
  self->handles++;
  unlock_scope (scope);
  return self;
}

void
belay_entry_unref (BelayEntry *self)
{
  gboolean last, over;
  BelayScope *scope;

  g_return_if_fail (self != NULL);

  scope = lock_scope (self);
  last = --self->handles == 0;
  over = last && !self->held;
  unlock_scope (scope);
  if (over)
    belay_entry_free (self);
  if (last)
    belay_scope_unref (scope);
}

gboolean
belay_entry_is_armed (BelayEntry *self)
{
  BelayScope *scope;
  gboolean armed;

  g_return_val_if_fail (self != NULL, FALSE);

  scope = lock_scope (self);
  armed = self->armed;
  unlock_scope (scope);
  return armed;
}

/* Under the scope's lock. */
static BelayEntry *
find (BelayScope *scope, gpointer resource)
{
  BelayEntry *found = scope->entries;

  while (found != NULL && (found->kind != BELAY_ENTRY_RESOURCE || found->what != resource))
    found = found->next;
  return found;
}

BelayEntry *
belay_scope_find_entry (BelayScope *scope, gpointer resource)
{
  BelayEntry *found = NULL;

  g_return_val_if_fail (scope != NULL && resource != NULL, NULL);

  belay_spin_lock (&scope->lock);
  if (scope->state <= BELAY_SCOPE_JOINING)
    found = find (scope, resource);
  if (found != NULL)
    belay_entry_add_handle (scope, found);
  belay_spin_unlock (&scope->lock);
  return found;
}

/* Under the lock: how many there are now. */
static guint
count_early (BelayScope *scope, int change)
{
  guint n = atomic_load_explicit (&scope->n_early, memory_order_relaxed) + (guint) change;

  atomic_store_explicit (&scope->n_early, n, memory_order_relaxed);
  return n;
}

/* Takes it off the list, for whoever has the handle; a reference of its scope. NULL: somebody else has. */
static BelayScope *
take (BelayEntry *self, gboolean to_release, GError **error)
{
  BelayScope *scope = lock_scope (self);

  if (G_LIKELY (self->armed))
    {
      belay_entry_unlink (scope, self);
      self->held = (guint8) to_release;
      if (to_release)
        {
          belay_scope_count_children (scope, 1);
          count_early (scope, 1);
        }
      belay_spin_unlock (&scope->lock);
      return scope;
    }
  unlock_scope (scope);
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the entry has been released or taken back already");
  return NULL;
}

/* --- releasing early --- */

static void
link_early (BelayScope *scope, BelayEarly *early)
{
  early->prev = NULL;
  early->next = scope->early;
  if (early->next != NULL)
    early->next->prev = early;
  scope->early = early;
}

static void
unlink_early (BelayScope *scope, BelayEarly *early)
{
  if (early->prev != NULL)
    early->prev->next = early->next;
  else
    scope->early = early->next;
  if (early->next != NULL)
    early->next->prev = early->prev;
}

/* What take() began is over. (transfer full) @scope. */
static void
end_early (BelayScope *scope, BelayEntry *self)
{
  BelayFiber *closer = NULL;

  belay_entry_end (scope, self);
  belay_spin_lock (&scope->lock);
  if (count_early (scope, -1) == 0)
    closer = scope->closer;
  belay_spin_unlock (&scope->lock);
  if (closer != NULL)
    belay_fiber_wake (closer);
  belay_scope_leave (scope, NULL);
  belay_scope_unref (scope);
}

gboolean
belay_early_join (BelayScope *scope, BelayFiber *fiber)
{
  gint64 until = belay_early_has_any (scope) ? belay_limit_release_deadline (fiber) : G_MAXINT64;

  while (belay_early_has_any (scope)) /* that the last one goes, we see: it goes on this thread */
    {
      if (belay_now () >= until)
        return FALSE;
      belay_stack_set_wait (fiber->stack, BELAY_WAITS_FOR_CHILDREN, scope, scope->site);
      belay_fiber_suspend (fiber, BELAY_WAIT_DEAF, until);
    }
  return TRUE;
}

gboolean
belay_early_is_around (BelayScope *scope, BelayFiber *fiber)
{
  for (BelayEarly *early = scope->early; early != NULL; early = early->next)
    {
      gboolean in_release = FALSE;

      for (BelayLimit *limit = fiber->stack->limit; limit != NULL; limit = limit->outer)
        {
          if (limit == early->outside && in_release)
            return TRUE;
          in_release |= limit->owns && limit->fiber == early->fiber;
        }
    }
  return FALSE;
}

/* In a fiber at home: of an entry that was taken off to be released. (transfer full) @scope. */
static gboolean
release_at_home (BelayScope *scope, BelayEntry *self, BelayFiber *fiber, BelayReason reason, GError **error)
{
  BelayEarly early = { NULL, NULL, fiber, fiber->stack->limit };
  gboolean ok;

  link_early (scope, &early);
  ok = belay_entry_run (scope, fiber, self, reason, error);
  unlink_early (scope, &early);
  end_early (scope, self);
  return ok;
}

typedef struct
{
  BelayScope *scope; /* NULL: it was released */
  BelayEntry *entry;
  BelayReason reason;
} Release;

static gboolean
release_from_afar (gpointer data, GError **error)
{
  Release *self = data;

  return release_at_home (g_steal_pointer (&self->scope), self->entry, belay_fiber_self (), self->reason, error);
}

/* The end of it, also when there was no stack or no home to run it on. */
static void
free_release (gpointer data)
{
  Release *self = data;

  if (self->scope != NULL)
    {
      belay_entry_abandon (self->scope, self->entry);
      end_early (self->scope, self->entry);
    }
  g_free (self);
}

gboolean
belay_entry_release (BelayEntry *self, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayReason reason = fiber != NULL ? belay_limit_reason (fiber) : BELAY_REASON_LEFT;
  g_autoptr (BelayFuture) released = NULL;
  BelayScope *scope;
  Release *release;

  g_return_val_if_fail (self != NULL, FALSE);

  if (belay_forked ())
    return belay_fail_forked ("belay_entry_release", error);
  scope = take (self, TRUE, error);
  if (scope == NULL)
    return FALSE;
  if (reason == BELAY_REASON_LEFT)
    reason = BELAY_REASON_OK; /* it was said */
  if (fiber != NULL && fiber->context == scope->context)
    return release_at_home (scope, self, fiber, reason, error);

  release = g_new (Release, 1);
  *release = (Release) { scope, self, reason };
  released = belay_task_detached (scope->context, release_from_afar, release, free_release, scope->site);
  if (fiber == NULL)
    return TRUE;
  if (belay_release_await (fiber, released, NULL))
    return belay_future_check (released, error);
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT, "the entry of another thread's scope was not released "
                       "by the deadline of the release that waits for it");
  return FALSE;
}

/* --- taking back and moving --- */

gpointer
belay_entry_steal (BelayEntry *self, GError **error)
{
  BelayScope *scope;

  g_return_val_if_fail (self != NULL, NULL);

  if (G_UNLIKELY (self->kind != BELAY_ENTRY_RESOURCE))
    {
      g_critical ("belay_entry_steal: the entry is a function's: use belay_entry_disarm()");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "the entry is a function's, not a resource's");
      return NULL;
    }
  scope = take (self, FALSE, error);
  if (scope == NULL)
    return NULL;
  belay_scope_unref (scope);
  return self->what;
}

gboolean
belay_entry_disarm (BelayEntry *self, GError **error)
{
  BelayScope *scope;

  g_return_val_if_fail (self != NULL, FALSE);

  if (G_UNLIKELY (self->kind == BELAY_ENTRY_RESOURCE))
    {
      g_critical ("belay_entry_disarm: the entry is a resource's, which nobody would own: use belay_entry_steal()");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "the entry is a resource's, not a function's");
      return FALSE;
    }
  scope = take (self, FALSE, error);
  if (scope == NULL)
    return FALSE;
  belay_scope_unref (scope);
  if (self->destroy != NULL)
    self->destroy (self->data);
  return TRUE;
}

static void
lock_two (BelayScope *one, BelayScope *other)
{
  belay_spin_lock (one < other ? &one->lock : &other->lock);
  if (one != other)
    belay_spin_lock (one < other ? &other->lock : &one->lock);
}

static void
unlock_two (BelayScope *one, BelayScope *other)
{
  belay_spin_unlock (&one->lock);
  if (one != other)
    belay_spin_unlock (&other->lock);
}

/* Under both locks, of one with handles: they hold the other scope from here on. The caller gives the old reference back. */
static void
follow (BelayEntry *self, BelayScope *to)
{
  belay_spin_lock (&self->lock);
  self->scope = belay_scope_ref (to);
  belay_spin_unlock (&self->lock);
  to->handled = TRUE;
}

static gboolean
fail_move_into_itself (const char *function, GError **error)
{
  g_critical ("%s: a scope cannot own itself", function);
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a scope cannot own itself");
  return FALSE;
}

static gboolean
fail_move (GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the scope is closed; what was to be moved stays where it was");
  return FALSE;
}

gboolean
belay_entry_move (BelayEntry *self, BelayScope *to, GError **error)
{
  enum { AGAIN, MOVED, DISARMED, CLOSED } result = AGAIN;

  g_return_val_if_fail (self != NULL && to != NULL, FALSE);

  if (G_UNLIKELY (self->kind == BELAY_ENTRY_RESOURCE && self->what == to))
    return fail_move_into_itself ("belay_entry_move", error);
  while (result == AGAIN)
    {
      BelayScope *from = ref_scope (self);

      lock_two (from, to);
      if (G_UNLIKELY (!is_in (self, from)))
        result = AGAIN; /* it has just been moved */
      else if (!self->armed)
        result = DISARMED;
      else if (to->state > BELAY_SCOPE_JOINING)
        result = CLOSED;
      else
        {
          belay_entry_unlink (from, self);
          belay_entry_link (to, self);
          follow (self, to);
          result = MOVED;
        }
      unlock_two (from, to);
      belay_scope_unref (from);
      if (result == MOVED)
        belay_scope_unref (from);
    }
  if (result == DISARMED)
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the entry has been released or taken back already");
  return result == MOVED || (result == CLOSED && fail_move (error));
}

gboolean
belay_scope_move_all (BelayScope *from, BelayScope *to, GError **error)
{
  guint n_moved = 0;
  gboolean ok, into_itself;

  g_return_val_if_fail (from != NULL && to != NULL, FALSE);

  if (from == to)
    return TRUE;
  lock_two (from, to);
  ok = from->state <= BELAY_SCOPE_JOINING && to->state <= BELAY_SCOPE_JOINING;
  into_itself = ok && to->stored && find (from, to) != NULL;
  if (ok && !into_itself && from->entries != NULL)
    {
      for (BelayEntry *entry = from->handled ? from->entries : NULL; entry != NULL; entry = entry->next)
        if (entry->handles > 0)
          {
            follow (entry, to);
            n_moved++;
          }
      from->oldest->next = to->entries;
      if (to->entries != NULL)
        to->entries->prev = from->oldest;
      else
        to->oldest = from->oldest;
      to->entries = g_steal_pointer (&from->entries);
    }
  unlock_two (from, to);
  for (guint i = 0; i < n_moved; i++)
    belay_scope_unref (from);
  if (G_UNLIKELY (into_itself))
    return fail_move_into_itself ("belay_scope_move_all", error);
  return ok || fail_move (error);
}
