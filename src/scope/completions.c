/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * as_completed: futures in the order in which they are known.
 *
 * Words. A member is *linked* while it waits for its future's notification, *ready* when that has come and nobody has taken
 * it, *given* when belay_completions_next() returned it. The record is the guard's, and each linked member's.
 *
 * Members are notified on any thread: the lock guards the queue of those that are ready and `wanted`, a promise that
 * whoever waits has left there. It is answered outside of the lock.
 *
 * Leaving gives each linked member up. One that must be seen to its end (it borrows memory, or is a fiber) stays linked, a
 * deaf reader; the close waits until none is linked. When its time is up it goes, and the last notification frees the
 * record.
 */
#include "scope/scope-private.h"

typedef struct _Member Member;
struct _Member
{
  BelayWaiter       waiter;
  BelayCompletions *owner;
  BelayFuture      *future; /* NULL: given up */
  Member           *next;   /* ready */
  gboolean          deaf;
};

struct _BelayCompletions
{
  BelayPlain    base;
  atomic_int    refs;
  guint         n;
  guint         n_left;    /* not given yet */
  atomic_flag   lock;      /* the next three */
  guint         n_linked;
  Member       *first, *last; /* ready */
  BelayPromise *wanted;
  Member        members[];
};

static gboolean completions_close (gpointer data, BelayReason reason, GError **error);
static void completions_abandon (gpointer data);
static void completions_unref (gpointer data);

static const BelayPlainClass completions_class = { BELAY_PLAIN_TAG, "BelayCompletions", completions_close, NULL,
                                                   completions_abandon, completions_unref };

static void
completions_unref (gpointer data)
{
  BelayCompletions *self = data;

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  for (guint i = 0; i < self->n; i++)
    {
      Member *member = &self->members[i];

      if (member->deaf)
        belay_future_take_up (member->future);
      g_clear_pointer (&member->future, belay_future_unref);
    }
  g_free (self);
}

static void
unlink_member (BelayCompletions *self, Member *ready)
{
  BelayPromise *wanted;

  belay_spin_lock (&self->lock);
  self->n_linked--;
  if (ready != NULL)
    {
      if (self->first != NULL)
        self->last->next = ready;
      else
        self->first = ready;
      self->last = ready;
    }
  wanted = g_steal_pointer (&self->wanted);
  belay_spin_unlock (&self->lock);
  if (wanted != NULL)
    {
      belay_promise_resolve (wanted);
      belay_promise_unref (wanted);
    }
  completions_unref (self);
}

static void
on_member (BelayWaiter *waiter)
{
  Member *member = (Member *) waiter;

  unlink_member (member->owner, member);
}

BelayCompletions *
belay_as_completed (BelayFuture **futures, guint n)
{
  BelayCompletions *self;
  gboolean found = n > 0 && futures == NULL;

  for (guint i = 0; i < n && !found; i++)
    found = futures[i] == NULL;
  if (G_UNLIKELY (found))
    {
      g_critical ("belay_as_completed: one of the futures is NULL");
      for (guint i = 0; futures != NULL && i < n; i++)
        g_clear_pointer (&futures[i], belay_future_unref);
      return NULL;
    }
  self = g_malloc0 (sizeof *self + n * sizeof (Member));
  self->base.klass = &completions_class;
  atomic_init (&self->refs, (int) n + 1);
  atomic_flag_clear (&self->lock);
  self->n = self->n_left = self->n_linked = n;
  for (guint i = 0; i < n; i++)
    {
      Member *member = &self->members[i];

      member->owner = self;
      member->future = futures[i];
      member->waiter.notify = on_member;
      if (!belay_future_add_waiter (member->future, &member->waiter))
        on_member (&member->waiter);
    }
  return self;
}

/*
 * Waits until something has changed: FALSE when it was interrupted. @ret_member: the one that is ready, or NULL for not
 * yet. Without it, *@ret_over: no member is linked any more.
 */
static gboolean
wait_for_one (BelayCompletions *self, Member **ret_member, gboolean *ret_over, GError **error)
{
  BelayPromise *promise = belay_promise_new ();
  g_autoptr (BelayFuture) future = belay_promise_get_future (promise);
  Member *member = NULL;
  gboolean ok, over;

  belay_spin_lock (&self->lock);
  if (ret_member != NULL && self->first != NULL)
    {
      member = self->first;
      self->first = member->next;
    }
  over = ret_member != NULL ? member != NULL : self->n_linked == 0;
  if (!over)
    self->wanted = belay_promise_ref (promise);
  belay_spin_unlock (&self->lock);
  if (over)
    {
      belay_promise_resolve (promise);
      belay_promise_unref (promise);
      if (ret_member != NULL)
        *ret_member = member;
      else
        *ret_over = TRUE;
      return TRUE;
    }
  belay_promise_unref (promise);
  ok = belay_fiber_await (belay_fiber_self (), future, "belay_completions_next", error);
  belay_spin_lock (&self->lock);
  promise = g_steal_pointer (&self->wanted);
  belay_spin_unlock (&self->lock);
  if (promise != NULL)
    {
      belay_promise_resolve (promise); /* to nobody */
      belay_promise_unref (promise);
    }
  return ok;
}

gboolean
belay_completions_next (BelayCompletions *self, BelayFuture **ret_future, guint *ret_index, GError **error)
{
  BelayFiber *fiber = belay_fiber_self ();
  Member *member = NULL;

  g_return_val_if_fail (ret_future != NULL, FALSE);

  *ret_future = NULL;
  g_return_val_if_fail (self != NULL, FALSE);
  if (G_UNLIKELY (fiber == NULL))
    return belay_fail_no_fiber (G_STRFUNC, error);
  if (!belay_limit_check (fiber, "belay_completions_next", error))
    return FALSE;
  if (self->n_left == 0)
    return FALSE;
  while (member == NULL)
    if (!wait_for_one (self, &member, NULL, error))
      return FALSE;
  self->n_left--;
  *ret_future = member->future;
  if (ret_index != NULL)
    *ret_index = (guint) (member - self->members);
  return TRUE;
}

/* --- leaving --- */

static void
give_up_all (BelayCompletions *self)
{
  for (guint i = 0; i < self->n; i++)
    {
      Member *member = &self->members[i];

      if (member->deaf || member->future == NULL || belay_future_status (member->future) != BELAY_STATE_PENDING)
        continue;
      member->deaf = belay_future_give_up (member->future, TRUE);
      if (member->deaf || !belay_future_remove_waiter (member->future, &member->waiter))
        continue; /* its notification comes */
      g_clear_pointer (&member->future, belay_future_unref);
      unlink_member (self, NULL);
    }
}

static gboolean
completions_close (gpointer data, BelayReason reason, GError **error)
{
  BelayCompletions *self = data;
  gboolean over = FALSE;

  give_up_all (self);
  while (!over)
    if (!wait_for_one (self, NULL, &over, error))
      return FALSE;
  return TRUE;
}

/* What has not ended in time ends by itself, and is not waited for. */
static void
completions_abandon (gpointer data)
{
  give_up_all (data);
}
