/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Releases: how everything that ends something is called.
 *
 * A release runs in a fiber, inside a limit of its own that is a shield (nothing outside is observed), has an allowance
 * (its time begins at its first checkpoint, since only there can it be ended), and owns what is spawned in it: a child
 * started by a close is shielded and bounded with it, and joined before it counts as over.
 *
 * When a checkpoint finds the time up, `expired` is called at once, since what the release is stuck in may need that to
 * end at all. After that the error is RELEASE_TIMEOUT, whatever the function says of it.
 */
#include "scope/scope-private.h"

typedef struct
{
  BelayLimit     limit; /* first */
  GDestroyNotify expired;
  gpointer       data;
} Release;

static void
on_expired (BelayLimit *limit)
{
  Release *self = (Release *) limit;

  if (self->expired != NULL)
    self->expired (self->data);
}

gboolean
belay_release_run (BelayFiber *fiber, BelayReleaseFunc func, gpointer data, BelayReason reason, gint64 timeout,
                   GDestroyNotify expired, const char *name, GError **error)
{
  Release self;
  BelayErrors *attached = NULL;
  GError *failure = NULL;
  gboolean ok;

  self.expired = expired;
  self.data = data;
  belay_limit_init (&self.limit);
  self.limit.shield = TRUE;
  self.limit.owns = TRUE;
  if (G_UNLIKELY (timeout == BELAY_COMMITTING))
    self.limit.owns = BELAY_OWNS_COMMIT;
  else if (timeout != G_MAXINT64)
    self.limit.allowance = timeout;
  else
    atomic_init (&self.limit.deadline, atomic_load_explicit (&belay_hurry_instant, memory_order_relaxed));
  self.limit.expired = on_expired;
  belay_limit_push (fiber, &self.limit);
  ok = func (data, reason, &failure);
  if (G_UNLIKELY (ok != (failure == NULL)))
    ok = belay_check_result (ok, &failure, name);
  if (G_UNLIKELY (self.limit.scope != NULL))
    {
      GError *left = NULL;

      if (!belay_scope_finish (self.limit.scope, ok ? BELAY_REASON_OK : BELAY_REASON_ERROR, &left))
        {
          belay_scope_hold_errors (self.limit.scope, fiber, left);
          if (ok)
            failure = left;
          else
            belay_attached_add (fiber, failure, left, ((BelayScope *) self.limit.scope)->site);
          ok = FALSE;
        }
      belay_scope_unref (self.limit.scope);
    }
  if (G_UNLIKELY (fiber->stack->holds))
    attached = belay_attached_leave (fiber, &self.limit, failure);
  belay_limit_pop (fiber, &self.limit);
  belay_limit_clear (&self.limit);

  /* It may have been a child that the deadline stopped, and the release with it. */
  if (G_UNLIKELY (!ok) && self.limit.observed == 0 && atomic_load (&self.limit.deadline) <= belay_now ())
    {
      on_expired (&self.limit);
      self.limit.observed = BELAY_REASON_DEADLINE;
    }
  if (G_UNLIKELY (self.limit.observed == BELAY_REASON_DEADLINE &&
                  g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT)))
    {
      ok = FALSE; /* a release inside of it, which was out of time, too, has said so: that one hung */
    }
  else if (G_UNLIKELY (self.limit.observed == BELAY_REASON_DEADLINE))
    {
      GError *said = g_steal_pointer (&failure);

      if (said != NULL)
        belay_error_say_more (said, 0);

      /* What it says of it tells which one it was, and where it hung. */
      ok = FALSE;
      failure = g_error_new (BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT, "%s took longer than its release deadline; it was "
                             "ended by force%s%s%s", name, said != NULL ? " (" : "", said != NULL ? said->message : "",
                             said != NULL ? ")" : "");
      g_clear_error (&said);
    }
  if (G_LIKELY (ok))
    return TRUE;
  if (attached != NULL)
    {
      belay_error_say_more (failure, belay_errors_get_size (attached));
      belay_attached_hold (fiber, failure, attached);
    }
  g_propagate_error (error, failure);
  return FALSE;
}

gboolean
belay_release_await (BelayFiber *fiber, BelayFuture *future, const char *site)
{
  BelayStack *stack = fiber->stack;
  gboolean bounded = TRUE;

  stack->fired = FALSE;
  belay_stack_set_wait (stack, BELAY_WAITS_FOR_FUTURE, future, site);
  if (!belay_future_add_waiter (future, &stack->waiter))
    return TRUE;
  for (;;)
    {
      belay_fiber_suspend (fiber, BELAY_WAIT_DEAF, bounded ? belay_limit_release_deadline (fiber) : G_MAXINT64);
      if (stack->fired)
        return TRUE;
      if (bounded && belay_limit_expire_release (fiber))
        {
          if (belay_future_remove_waiter (future, &stack->waiter))
            return FALSE;
          bounded = FALSE; /* it has just settled */
        }
    }
}
