/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The wait of a plain thread: a waiter that signals a condition. */
#include "run/fiber.h"

typedef struct
{
  BelayWaiter waiter;
  GMutex      lock; /* done */
  GCond       cond;
  gboolean    done;
} SyncWait;

static void
on_settled (BelayWaiter *waiter)
{
  SyncWait *wait = (SyncWait *) waiter;

  g_mutex_lock (&wait->lock);
  wait->done = TRUE;
  g_cond_signal (&wait->cond);
  g_mutex_unlock (&wait->lock);
}

gboolean
belay_future_wait_sync (BelayFuture *future, GError **error)
{
  SyncWait wait = { .waiter = { .notify = on_settled } };

  if (future == NULL)
    return belay_fail_no_future (G_STRFUNC, error);
  if (belay_future_status (future) == BELAY_STATE_PENDING && belay_forked ())
    return belay_fail_forked (G_STRFUNC, error);
  if (belay_future_status (future) == BELAY_STATE_PENDING && belay_context_is_home ())
    {
      g_critical ("belay_future_wait_sync: this thread is the home of fibers, which may have to produce the outcome");
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE,
                           "a thread that is the home of fibers must not block for a future");
      return FALSE;
    }
  g_mutex_init (&wait.lock);
  g_cond_init (&wait.cond);
  if (belay_future_add_waiter (future, &wait.waiter))
    {
      belay_workers_begin_wait ();
      g_mutex_lock (&wait.lock);
      while (!wait.done)
        g_cond_wait (&wait.cond, &wait.lock);
      g_mutex_unlock (&wait.lock);
      belay_workers_end_wait ();
    }
  g_cond_clear (&wait.cond);
  g_mutex_clear (&wait.lock);
  return belay_future_check (future, error);
}
