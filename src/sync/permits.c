/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Permits: several of a semaphore at once, as one guard, of which a part may be given back early.
 *
 * The guard is a block with a number. It is made before its permits are asked for, so that nothing can fail when they have been
 * taken. What is in it keeps the semaphore alive; a guard that has given all back knows it no more.
 */
#include "sync/semaphore-private.h"

static void permits_release (gpointer data);
static const BelayPlainClass permits_class = { BELAY_TAG_INSTANT, "BelayPermits", NULL, NULL, permits_release, NULL };

static BelayPermits *
permits_new (BelaySemaphore *semaphore, guint n)
{
  BelayPermits *self = g_new (BelayPermits, 1);

  self->base.klass = &permits_class;
  self->semaphore = semaphore;
  self->n = n;
  return self;
}

static void
permits_release (gpointer data)
{
  BelayPermits *self = data;

  if (self->n > 0)
    give (self->semaphore, self->n);
  g_free (self);
}

guint
belay_permits_get_count (BelayPermits *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return self->n;
}

gboolean
belay_permits_give_back (BelayPermits *self, guint n)
{
  BelaySemaphore *semaphore;

  g_return_val_if_fail (self != NULL, FALSE);

  if (G_UNLIKELY (n > self->n))
    {
      g_critical ("belay_permits_give_back: %u of %u permits", n, self->n);
      return FALSE;
    }
  if (n == 0)
    return TRUE;
  semaphore = self->semaphore;
  self->n -= n;
  give (semaphore, n);
  return TRUE;
}

void
belay_permits_forget (BelayPermits **variable)
{
  BelayPermits *self;

  g_return_if_fail (variable != NULL);

  self = g_steal_pointer (variable);
  if (self == NULL || belay_forked ())
    return;
  belay_leaks_let_go (self);
  if (self->n > 0)
    belay_semaphore_lose (self->semaphore, self->n);
  g_free (self);
}

BelayPermits *
belay_semaphore_acquire_many_at (BelaySemaphore *semaphore, guint n, GError **error, const char *site)
{
  BelayFiber *fiber = belay_fiber_self ();
  BelayPermits *self;

  g_return_val_if_fail (semaphore != NULL, NULL);

  if (G_UNLIKELY (fiber == NULL))
    {
      belay_fail_no_fiber ("belay_semaphore_acquire_many", error);
      return NULL;
    }
  if (G_UNLIKELY (!belay_limit_check (fiber, site, error)))
    return NULL;
  self = permits_new (semaphore, n);
  if (G_UNLIKELY (n == 0) ? !belay_semaphore_take_none (semaphore, error)
                          : !try_take (semaphore, n) && !belay_semaphore_take_slow (semaphore, fiber, n, error, site))
    {
      g_free (self);
      return NULL;
    }
  belay_leaks_hold (self, site);
  return self;
}

BelayPermits *
(belay_semaphore_acquire_many) (BelaySemaphore *semaphore, guint n, GError **error)
{
  return belay_semaphore_acquire_many_at (semaphore, n, error, NULL);
}

BelayPermits *
belay_semaphore_try_acquire_many_at (BelaySemaphore *semaphore, guint n, const char *site)
{
  BelayPermits *self;

  g_return_val_if_fail (semaphore != NULL, NULL);

  self = permits_new (semaphore, n);
  if (G_UNLIKELY (n == 0) ? !belay_semaphore_take_none (semaphore, NULL) : !try_take (semaphore, n))
    {
      g_free (self);
      return NULL;
    }
  belay_leaks_hold (self, site);
  return self;
}

BelayPermits *
(belay_semaphore_try_acquire_many) (BelaySemaphore *semaphore, guint n)
{
  return belay_semaphore_try_acquire_many_at (semaphore, n, NULL);
}

BelayFuture *
belay_semaphore_acquire_many_async (BelaySemaphore *semaphore, guint n)
{
  BelayFuture *refused;
  BelayPermits *self;
  GError *error = NULL;

  g_return_val_if_fail (semaphore != NULL, NULL);

  refused = belay_fiber_refuse ();
  if (refused != NULL)
    return refused;
  if (G_UNLIKELY (n == 0) && !belay_semaphore_take_none (semaphore, &error))
    return belay_future_new_error (error);
  self = permits_new (semaphore, n);
  return n > 0 ? belay_semaphore_take_async (semaphore, n, self) : belay_resource_future (self);
}
