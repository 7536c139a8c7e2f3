/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Entries: the resources and functions that a scope releases.
 *
 * An entry is added, at the head of the list, while the scope is OPEN or JOINING, under its lock. From RELEASING on nothing
 * is added, so where nobody was given a handle (handle.c) the list is the closer's alone: newest first, one after another,
 * all of them whatever fails. In a scope that has given handles out, `handled`, the closer takes each one off under the
 * lock, and before the next waits for those that are being released early. What comes too late is released by the caller,
 * at once.
 *
 * Invariants
 *   1. `armed` is set from when the entry is added until it is taken off, by exactly one who then releases it, or has it.
 *   2. `handled` is set before the first handle is given out, and no first handle is given out from RELEASING on.
 *   3. `oldest` is the end of the list when there is one; it means nothing otherwise.
 */
#include "scope/entry.h"

static inline BelayEntry *
entry_new (BelayEntryKind kind, gpointer what, gpointer data, GDestroyNotify destroy, const char *site)
{
  BelayEntry *self = belay_piece_new (sizeof *self);

  *self = (BelayEntry) { .what = what, .data = data, .destroy = destroy, .site = site, .kind = (guint8) kind, .held = TRUE };
  return self;
}

void
belay_entry_free (BelayEntry *self)
{
  belay_piece_free (self, sizeof *self);
}

static inline void
link_newest (BelayScope *scope, BelayEntry *self)
{
  self->prev = NULL;
  self->next = scope->entries;
  if (self->next != NULL)
    self->next->prev = self;
  else
    scope->oldest = self;
  scope->entries = self;
  self->armed = TRUE;
}

void
belay_entry_link (BelayScope *scope, BelayEntry *self)
{
  link_newest (scope, self);
}

void
belay_entry_unlink (BelayScope *scope, BelayEntry *self)
{
  if (self->prev != NULL)
    self->prev->next = self->next;
  else
    scope->entries = self->next;
  if (self->next != NULL)
    self->next->prev = self->prev;
  else
    scope->oldest = self->prev;
  self->armed = FALSE;
}

void
belay_entry_end (BelayScope *scope, BelayEntry *self)
{
  gboolean over;

  belay_spin_lock (&scope->lock);
  self->held = FALSE;
  over = self->handles == 0;
  belay_spin_unlock (&scope->lock);
  if (over)
    belay_entry_free (self);
}

/* With the first handle, if one is wanted: it keeps the scope's memory. */
static inline gboolean
add_entry (BelayScope *self, BelayEntry *entry, gboolean with_handle)
{
  gboolean accepted;

  belay_spin_lock (&self->lock);
  accepted = self->state <= BELAY_SCOPE_JOINING;
  if (accepted)
    {
      link_newest (self, entry);
      if (with_handle)
        belay_entry_add_handle (self, entry);
    }
  belay_spin_unlock (&self->lock);
  return accepted;
}

static void
fail_closed (GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the scope is closed; what was given to it has been released");
}

/* --- what may be registered --- */

/* What belongs to a block and to a fiber, or to somebody else, and cannot be another scope's. */
static G_NO_INLINE const char *
why_pinned_slow (BelayScope *self, gpointer resource)
{
  if (resource == self)
    return "a scope cannot own itself";
  if (*(const BelayPlainClass **) resource == &belay_lent_class)
    return "a scope that is lent is closed by what it belongs to, and cannot be another's";
  if (belay_small_limit_is (resource))
    return "a time-out or shield belongs to its block, and cannot be a scope's";
  if (belay_resource_tag (resource) == BELAY_TAG_SCOPE && ((BelayScope *) resource)->limit.fiber != NULL)
    return "a lexical scope belongs to its block, and cannot be another scope's";
  return NULL;
}

/* Of what is valid. */
static inline const char *
why_pinned (BelayScope *self, gpointer resource)
{
  const BelayPlainClass *klass = *(const BelayPlainClass **) resource;

  if (G_LIKELY ((klass->tag == BELAY_PLAIN_TAG && klass != &belay_lent_class) || (klass->tag & 3) == 0))
    return NULL;
  return why_pinned_slow (self, resource);
}

static gboolean
fail_pinned (const char *why, GError **error)
{
  g_critical ("%s", why);
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, why);
  return FALSE;
}

/* In a fiber: closes anything that can be registered. */
static gboolean
close_resource (gpointer resource, BelayReason reason, gint64 timeout, GError **error)
{
  gboolean ok;

  switch (belay_resource_tag (resource))
    {
    case BELAY_TAG_INSTANT:
      belay_resource_end_instant_for (resource, reason);
      return TRUE;
    case BELAY_TAG_SCOPE:
      ok = belay_scope_finish (resource, reason, error);
      if (!ok)
        belay_scope_hold_errors (resource, belay_fiber_self (), *error);
      belay_scope_unref (resource);
      return ok;
    default:
      return belay_resource_close (resource, reason, timeout, error);
    }
}

/* Releases what no scope has taken: here when that is possible, else soon. */
static void
release_now (BelayScope *self, gpointer resource, BelayReason reason, const char *what)
{
  g_autoptr (GError) failure = NULL;

  if (!belay_in_fiber ())
    belay_resource_drop (resource);
  else if (!close_resource (resource, reason, self->release_timeout, &failure))
    belay_sink_error (failure, what, self->site);
}

/* Of a resource that was given: FALSE when it cannot be the scope's, and then it is dealt with. */
static gboolean
accept_resource (BelayScope *self, gpointer resource, GError **error)
{
  const char *why;

  if (G_UNLIKELY (!belay_resource_is_valid (resource)))
    return belay_resource_refuse (resource, error) != NULL;
  why = why_pinned (self, resource);
  if (G_LIKELY (why == NULL))
    return TRUE;
  if (resource != self && *(const BelayPlainClass **) resource != &belay_lent_class)
    release_now (self, resource, BELAY_REASON_ERROR, "closing what was given to another scope");
  return fail_pinned (why, error);
}

/* --- registering resources --- */

static BelayEntry *
register_resource (BelayScope *self, gpointer resource, gboolean with_handle, GError **error)
{
  BelayEntry *entry;

  if (!accept_resource (self, resource, error))
    return NULL;
  entry = entry_new (BELAY_ENTRY_RESOURCE, resource, NULL, NULL, NULL);
  if (add_entry (self, entry, with_handle))
    return entry;
  belay_entry_free (entry);
  release_now (self, resource, self->reason, "closing what came too late for its scope");
  fail_closed (error);
  return NULL;
}

gboolean
belay_scope_adopt (BelayScope *self, gpointer resource, GError **error)
{
  g_return_val_if_fail (self != NULL, FALSE);

  return resource == NULL || register_resource (self, resource, FALSE, error) != NULL;
}

BelayEntry *
belay_scope_push (BelayScope *self, gpointer resource, GError **error)
{
  g_return_val_if_fail (self != NULL, NULL);

  if (resource != NULL)
    return register_resource (self, resource, TRUE, error);
  g_critical ("belay_scope_push: there is no resource");
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "there is no resource to push");
  return NULL;
}

gboolean
belay_move (gpointer variable, BelayScope *to, GError **error)
{
  gpointer *place = variable;
  BelayEntry *entry;
  const char *why;

  g_return_val_if_fail (variable != NULL && to != NULL, FALSE);

  if (*place == NULL)
    return TRUE;
  if (G_UNLIKELY (!belay_resource_is_valid (*place)))
    {
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "what was to be moved is no resource");
      return FALSE;
    }
  why = why_pinned (to, *place);
  if (G_UNLIKELY (why != NULL))
    return fail_pinned (why, error);
  entry = entry_new (BELAY_ENTRY_RESOURCE, *place, NULL, NULL, NULL);
  if (add_entry (to, entry, FALSE))
    {
      *place = NULL;
      return TRUE;
    }
  belay_entry_free (entry);
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the scope is closed; what was to be moved stays where it was");
  return FALSE;
}

/*
 * A stored scope is around no body, yet its cancellation and its deadline interrupt the wait for what is entered in it: by a
 * limit of the waiting fiber's, for the time of the wait, that says the same.
 */
struct _BelayEntering
{
  BelayEntering *prev, *next; /* the scope's lock */
  BelayFiber    *fiber;
  BelayLimit     limit;
};

/* Under the scope's lock. */
static void
update_entering (BelayScope *scope, BelayEntering *self)
{
  const char *why = atomic_load_explicit (&scope->limit.reason, memory_order_acquire);
  gint64 deadline = atomic_load_explicit (&scope->limit.deadline, memory_order_acquire);

  if (deadline != atomic_load_explicit (&self->limit.deadline, memory_order_relaxed))
    belay_limit_set_deadline (&self->limit, deadline);
  if (why != NULL)
    belay_limit_cancel (&self->limit, why);
}

void
belay_entering_update (BelayScope *scope)
{
  for (BelayEntering *entering = scope->entering; entering != NULL; entering = entering->next)
    {
      update_entering (scope, entering);
      belay_fiber_poke (entering->fiber);
    }
}

static G_NO_INLINE gpointer
await_for_stored (BelayScope *scope, BelayFiber *fiber, BelayFuture *future, GError **error, const char *site)
{
  BelayEntering self = { .fiber = fiber };
  gpointer resource;

  belay_limit_init (&self.limit);
  atomic_init (&self.limit.deadline, atomic_load_explicit (&scope->limit.deadline, memory_order_acquire));
  belay_limit_push (fiber, &self.limit);
  belay_spin_lock (&scope->lock);
  self.next = scope->entering;
  if (self.next != NULL)
    self.next->prev = &self;
  scope->entering = &self;
  update_entering (scope, &self);
  belay_spin_unlock (&scope->lock);

  resource = belay_await_at (future, error, site);

  belay_spin_lock (&scope->lock);
  if (self.prev != NULL)
    self.prev->next = self.next;
  else
    scope->entering = self.next;
  if (self.next != NULL)
    self.next->prev = self.prev;
  belay_spin_unlock (&scope->lock);
  belay_limit_pop (fiber, &self.limit);
  belay_limit_clear (&self.limit);
  return resource;
}

gpointer
belay_enter_at (BelayScope *self, BelayFuture *future, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayEntry *entry;
  gpointer resource;

  g_return_val_if_fail (self != NULL && future != NULL, NULL);

  /* Its place is made before the resource is, so that nothing can fail in between. */
  entry = entry_new (BELAY_ENTRY_RESOURCE, NULL, NULL, NULL, site);
  if (fiber != NULL && self->stored)
    resource = await_for_stored (self, fiber, future, error, site);
  else
    resource = belay_await_at (future, error, site);
  entry->what = resource;
  if (G_UNLIKELY (resource != NULL && !belay_resource_is_valid (resource)))
    resource = belay_resource_refuse (resource, error);
  if (resource != NULL && add_entry (self, entry, FALSE))
    return resource;
  belay_entry_free (entry);
  if (resource != NULL)
    {
      release_now (self, resource, self->reason, "closing what came too late for its scope");
      fail_closed (error);
    }
  return NULL;
}

gpointer
(belay_enter) (BelayScope *self, BelayFuture *future, GError **error)
{
  return belay_enter_at (self, future, error, NULL);
}

/* --- registering functions --- */

static gboolean
call_function (gpointer data, BelayReason reason, GError **error)
{
  BelayEntry *self = data;

  return self->kind == BELAY_ENTRY_EXIT ? ((BelayExitFunc) self->what) (self->data, reason, error)
                                        : ((BelayFunc) self->what) (self->data, error);
}

/* In a fiber. */
static inline gboolean
run_function (BelayFiber *fiber, BelayEntry *entry, BelayReason reason, gint64 timeout, GError **error)
{
  gboolean ok = belay_release_run (fiber, call_function, entry, reason, timeout, NULL, "a deferred function", error);

  if (entry->destroy != NULL)
    entry->destroy (entry->data);
  return ok;
}

static gboolean
run_late_function (gpointer data, GError **error)
{
  return run_function (belay_fiber_self (), data, BELAY_REASON_LEFT, BELAY_RELEASE_TIMEOUT, error);
}

/* It came too late: it is called at once, or soon. */
static G_NO_INLINE BelayEntry *
run_late (BelayScope *self, BelayEntry *entry)
{
  g_autoptr (GError) error = NULL;

  if (!belay_in_fiber ())
    {
      belay_future_unref (belay_task_detached (self->context, run_late_function, entry, (GDestroyNotify) belay_entry_free,
                                               self->site));
      return NULL;
    }
  if (!run_function (belay_fiber_self (), entry, self->reason, self->release_timeout, &error))
    belay_sink_error (error, "a deferred function that came too late for its scope", self->site);
  belay_entry_free (entry);
  return NULL;
}

static inline BelayEntry *
register_function (BelayScope *self, BelayEntry *entry, gboolean with_handle)
{
  return G_LIKELY (add_entry (self, entry, with_handle)) ? entry : run_late (self, entry);
}

gboolean
belay_scope_defer (BelayScope *self, BelayFunc func, gpointer data)
{
  g_return_val_if_fail (self != NULL && func != NULL, FALSE);
  return register_function (self, entry_new (BELAY_ENTRY_FUNC, (gpointer) func, data, NULL, NULL), FALSE) != NULL;
}

gboolean
belay_scope_on_exit (BelayScope *self, BelayExitFunc func, gpointer data, GDestroyNotify destroy)
{
  g_return_val_if_fail (self != NULL && func != NULL, FALSE);
  return register_function (self, entry_new (BELAY_ENTRY_EXIT, (gpointer) func, data, destroy, NULL), FALSE) != NULL;
}

BelayEntry *
belay_scope_push_func (BelayScope *self, BelayExitFunc func, gpointer data, GDestroyNotify destroy, GError **error)
{
  BelayEntry *entry;

  g_return_val_if_fail (self != NULL && func != NULL, NULL);
  entry = register_function (self, entry_new (BELAY_ENTRY_EXIT, (gpointer) func, data, destroy, NULL), TRUE);
  if (entry == NULL)
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CLOSED, "the scope is closed; the function was called at once");
  return entry;
}

/* --- releasing --- */

static inline gboolean
run_entry (BelayScope *self, BelayFiber *fiber, BelayEntry *entry, BelayReason reason, GError **error)
{
  gboolean ok;

  if (entry->kind == BELAY_ENTRY_RESOURCE)
    ok = close_resource (entry->what, reason, self->release_timeout, error);
  else
    ok = run_function (fiber, entry, reason, self->release_timeout, error);
  if (G_UNLIKELY (!ok) && entry->site != NULL && !g_str_has_prefix ((*error)->message, entry->site))
    g_prefix_error (error, "%s: ", entry->site);
  return ok;
}

gboolean
belay_entry_run (BelayScope *self, BelayFiber *fiber, BelayEntry *entry, BelayReason reason, GError **error)
{
  GError *failure = NULL;
  gboolean ok = run_entry (self, fiber, entry, reason, &failure);

  if (!ok)
    g_propagate_error (error, failure);
  return ok;
}

/* The newest is the closer's from here on. */
static inline BelayEntry *
take_newest (BelayScope *self, BelayFiber *fiber)
{
  BelayEntry *entry;
  gboolean joined;

  if (G_LIKELY (!self->handled))
    {
      entry = self->entries;
      if (entry != NULL)
        self->entries = entry->next;
      return entry;
    }
  do
    {
      gboolean in_time = belay_early_join (self, fiber);

      belay_spin_lock (&self->lock);
      joined = !in_time || !belay_early_has_any (self); /* another thread may just have taken one */
      entry = joined ? self->entries : NULL;
      if (entry != NULL)
        belay_entry_unlink (self, entry);
      belay_spin_unlock (&self->lock);
    }
  while (!joined);
  return entry;
}

void
belay_entries_release (BelayScope *self, BelayFiber *fiber, BelayReason reason)
{
  BelayEntry *entry;

  while ((entry = take_newest (self, fiber)) != NULL)
    {
      GError *error = NULL;

      if (!run_entry (self, fiber, entry, reason, &error))
        belay_scope_add_error (self, error, belay_attached_take (fiber, error), entry->site);
      if (G_LIKELY (!self->handled))
        belay_entry_free (entry);
      else
        belay_entry_end (self, entry);
    }
}

void
belay_entry_abandon (BelayScope *self, BelayEntry *entry)
{
  if (entry->kind == BELAY_ENTRY_RESOURCE)
    {
      belay_resource_abandon (entry->what);
      return;
    }
  g_critical ("a deferred function of the scope from %s is not called, since the main context of the scope has ended",
              self->site != NULL ? self->site : "?");
  if (entry->destroy != NULL)
    entry->destroy (entry->data);
}

void
belay_entries_abandon (BelayScope *self)
{
  for (;;)
    {
      BelayEntry *entry;

      belay_spin_lock (&self->lock);
      entry = self->entries;
      if (entry != NULL)
        belay_entry_unlink (self, entry);
      belay_spin_unlock (&self->lock);
      if (entry == NULL)
        return;
      belay_entry_abandon (self, entry);
      belay_entry_end (self, entry);
    }
}
