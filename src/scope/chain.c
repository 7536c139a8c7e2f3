/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Chains: callbacks on futures, owned by a scope.
 *
 * A chain is linked in its scope from the call to its end. When its future is known an item is queued at home; the
 * callback runs there if the scope is still open and not cancelled, so never after the owner said it is over. Closing
 * and cancelling drop the chains that still wait, and with them the interest in their futures; one whose notification is
 * under way finds that it is linked no more and drops itself. The list belongs to the home thread.
 *
 * A chain whose future borrows memory of the scope's owner is not dropped: its work is asked to end, and until it has the
 * chain *lingers*, counted as a child, so that no close returns before. One that comes too late lingers as well, and so
 * does one on its way from another thread; those that find the scope closed are counted as pending.
 */
#include "scope/scope-private.h"

struct _BelayChain
{
  BelayChain    *prev, *next; /* home */
  BelayWaiter    waiter;
  BelayItem      item;
  BelayPending   pending;
  BelayScope    *scope;       /* a reference */
  BelayFuture   *future;
  BelayChainFunc func;
  gpointer       data;
  enum { COUNTED_NOT, COUNTED_AS_CHILD, COUNTED_AS_PENDING } counted; /* home, once it is there */
  gboolean       lingers;     /* home */
};

#define CHAIN_OF(p, member) ((BelayChain *) ((char *) (p) - G_STRUCT_OFFSET (BelayChain, member)))

static void
chain_free (BelayChain *self)
{
  belay_future_unref (self->future);
  belay_scope_unref (self->scope);
  g_free (self);
}

static void
describe (BelayPending *pending, gpointer home, GPtrArray *lines)
{
  BelayScope *scope = CHAIN_OF (pending, pending)->scope;

  g_ptr_array_add (lines, g_strdup_printf ("what was chained to the scope from %s", scope->site != NULL ? scope->site : "?"));
}

static BelayPendingKind late_chains = { .describe = describe };

/* Whoever closes waits for it from now on, if it is not too late for that. */
static void
count_chain (BelayChain *self)
{
  BelayScope *scope = self->scope;

  if (self->counted != COUNTED_NOT)
    return;
  belay_spin_lock (&scope->lock);
  if (scope->state != BELAY_SCOPE_CLOSED)
    {
      self->counted = COUNTED_AS_CHILD;
      belay_scope_count_children (scope, 1);
    }
  belay_spin_unlock (&scope->lock);
  if (self->counted != COUNTED_NOT)
    return;
  self->counted = COUNTED_AS_PENDING;
  belay_pending_begin (&late_chains, &self->pending);
}

static void
discount_chain (BelayChain *self)
{
  if (self->counted == COUNTED_AS_CHILD)
    belay_scope_leave (self->scope, NULL);
  else if (self->counted == COUNTED_AS_PENDING)
    {
      belay_pending_forget (&late_chains, &self->pending);
      belay_pending_add (-1);
    }
  self->counted = COUNTED_NOT;
}

static void
link_chain (BelayChain *self)
{
  BelayScope *scope = self->scope;

  self->next = scope->chains;
  if (self->next != NULL)
    self->next->prev = self;
  scope->chains = self;
}

/* FALSE when a close has taken it off already. */
static gboolean
unlink_chain (BelayChain *self)
{
  BelayScope *scope = self->scope;

  if (self->prev == NULL && scope->chains != self)
    return FALSE;
  if (self->prev != NULL)
    self->prev->next = self->next;
  else
    scope->chains = self->next;
  if (self->next != NULL)
    self->next->prev = self->prev;
  self->prev = self->next = NULL;
  return TRUE;
}

static void
run_chain (BelayItem *item)
{
  BelayChain *self = CHAIN_OF (item, item);
  BelayScope *scope = self->scope;
  GError *error = NULL;

  if (self->lingers)
    {
      belay_future_take_up (self->future);
      discount_chain (self);
    }
  else if (unlink_chain (self) && !belay_context_is_gone (scope->context) &&
           scope->state == BELAY_SCOPE_OPEN && !belay_scope_is_cancelled (scope) &&
           !belay_check_result (self->func (self->future, self->data, &error), &error, "a chained callback"))
    {
      if (scope->state <= BELAY_SCOPE_JOINING)
        {
          BelayErrors *attached = belay_future_get_attached (self->future);

          belay_scope_child_failed (scope, error, attached != NULL ? belay_errors_ref (attached) : NULL, NULL);
        }
      else
        {
          belay_sink_error (error, "a chained callback whose scope is closed", scope->site);
          g_error_free (error);
        }
    }
  chain_free (self);
}

static void
on_settled (BelayWaiter *waiter)
{
  BelayChain *self = CHAIN_OF (waiter, waiter);

  belay_context_push (self->scope->context, &self->item);
}

/* It has its waiter, is a deaf reader now, and calls nothing any more: its notification ends it, at home. */
static void
linger (BelayChain *self)
{
  self->lingers = TRUE;
  count_chain (self);
}

/* At home, so that no close comes between the link and the waiter. */
static void
register_chain (BelayItem *item)
{
  BelayChain *self = CHAIN_OF (item, item);
  BelayScope *scope = self->scope;

  self->item.run = run_chain;
  if (scope->state == BELAY_SCOPE_OPEN && !belay_scope_is_cancelled (scope) && !belay_context_is_gone (scope->context))
    {
      discount_chain (self);
      link_chain (self);
      if (!belay_future_add_waiter (self->future, &self->waiter))
        belay_context_push (scope->context, &self->item);
    }
  else if (!belay_future_add_waiter (self->future, &self->waiter))
    {
      discount_chain (self);
      chain_free (self);
    }
  else if (belay_future_give_up (self->future, FALSE))
    {
      linger (self);
    }
  else
    {
      discount_chain (self);
      if (belay_future_remove_waiter (self->future, &self->waiter))
        chain_free (self);
    }
}

void
belay_scope_then (BelayScope *scope, BelayFuture *future, BelayChainFunc func, gpointer data)
{
  BelayChain *self;

  g_return_if_fail (scope != NULL && future != NULL && func != NULL);

  self = g_new0 (BelayChain, 1);
  self->waiter.notify = on_settled;
  self->item.run = register_chain;
  self->scope = belay_scope_ref (scope);
  self->future = future;
  self->func = func;
  self->data = data;
  atomic_store_explicit (&scope->chained, TRUE, memory_order_relaxed);
  if (belay_thread.context == scope->context)
    {
      register_chain (&self->item);
      return;
    }
  if (belay_future_may_borrow (future))
    count_chain (self);
  belay_context_push_remote (scope->context, &self->item);
}

void
belay_chains_drop (BelayScope *scope)
{
  while (scope->chains != NULL)
    {
      BelayChain *self = scope->chains;

      unlink_chain (self);
      if (belay_future_give_up (self->future, FALSE)) /* its notification ends the chain, at home, which is here */
        {
          linger (self);
        }
      else if (belay_future_remove_waiter (self->future, &self->waiter))
        {
          chain_free (self);
        }
    }
}

typedef struct
{
  BelayItem   item;
  BelayScope *scope; /* a reference */
} Drop;

static void
drop_at_home (BelayItem *item)
{
  Drop *drop = (Drop *) item;

  belay_chains_drop (drop->scope);
  belay_scope_unref (drop->scope);
  g_free (drop);
}

void
belay_chains_cancel (BelayScope *scope)
{
  Drop *drop;

  if (!atomic_load_explicit (&scope->chained, memory_order_relaxed))
    return;
  if (belay_thread.context == scope->context)
    {
      belay_chains_drop (scope);
      return;
    }
  drop = g_new (Drop, 1);
  *drop = (Drop) { { NULL, drop_at_home }, belay_scope_ref (scope) };
  belay_context_push_remote (scope->context, &drop->item);
}
