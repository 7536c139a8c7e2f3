/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Everything that people coordinate with, at once and for long: 20 fibers on 4 loops do random things with locks, conditions,
 * semaphores, events, latches, barriers, channels, queues, broadcasts, watches, rate limiters, a shared resource and a pool,
 * for a short time each, and are cancelled at random. In real time, with real threads.
 *
 *   long-sync [SECONDS]
 *
 * After each round, about a quarter of a second, all fibers are joined; then nothing may be held, nobody may wait, what was sent
 * must have been received or still be there, and each resource must be where it belongs; and in the end no more memory may be
 * in use than after the first half. 2 seconds, or 60 with BELAY_TEST_LONG in the environment. The figures are printed as comments.
 */
#include "support.h"

#include <malloc.h>
#include <stdatomic.h>

#define N_LOOPS    4
#define N_FIBERS   5 /* on each */
#define ROUND      (G_USEC_PER_SEC / 4)
#define PERMITS    5
#define LEASES     4
#define PARTIES    2
#define MAX_GROWTH (256 * 1024)
#define MAX_KEPT   (N_LOOPS * 4 * 1024 * 1024) /* what threads keep of what others freed, until they have their fill */

static double n_seconds = 2;

typedef struct
{
  BelayLock        *lock;
  BelayCondition   *changed;
  BelayRwLock      *rw_lock;
  BelaySemaphore   *semaphore;
  BelayEvent       *event;
  BelayBarrier     *barrier;
  BelayChannel     *channel, *rendezvous;
  BelayQueue       *queue;
  BelayBroadcast   *broadcast;
  BelayWatch       *watch;
  BelayRateLimiter *limiter;
  BelayShared      *shared;
  BelayPool        *pool;

  int        locked, written; /* plain: what the locks are for */
  atomic_int n_reading, n_permits, n_leases;
  atomic_int n_sent, n_received, n_made, n_ended, n_opened, n_closed;
  atomic_int n_steps, n_cancelled;
  gint64     until;
} Soak;

typedef struct
{
  Soak   *soak;
  guint32 seed;
} Hand;

static guint
chance (Hand *hand, guint n)
{
  hand->seed ^= hand->seed << 13;
  hand->seed ^= hand->seed >> 17;
  hand->seed ^= hand->seed << 5;
  return hand->seed % n;
}

static gsize
allocated (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

/* Something in the middle: it may take time, and other threads run. */
static void
dwell (Hand *hand)
{
  switch (chance (hand, 4))
    {
    case 0: belay_yield (NULL); break;
    case 1: belay_sleep (chance (hand, 2), NULL); break;
    default: break;
    }
}

/* --- locks --- */

static void
use_lock (Hand *hand)
{
  Soak *self = hand->soak;
  belay_auto (BelayLockGuard) held = chance (hand, 4) == 0 ? belay_lock_try_acquire (self->lock)
                                     : chance (hand, 4) == 0 ? belay_await (belay_lock_acquire_async (self->lock), NULL)
                                     : belay_lock_acquire (self->lock, NULL);

  if (held == NULL)
    return;
  g_assert_cmpint (self->locked++, ==, 0);
  dwell (hand);
  g_assert_cmpint (--self->locked, ==, 0);
}

static void
use_condition (Hand *hand)
{
  Soak *self = hand->soak;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, NULL);

  if (held == NULL)
    return;
  if (chance (hand, 2) == 0)
    belay_condition_notify (self->changed, 1 + chance (hand, 3));
  else
    belay_condition_wait (self->changed, &held, NULL);
  g_assert_nonnull (held); /* in all cases */
  g_assert_cmpint (self->locked++, ==, 0);
  dwell (hand);
  g_assert_cmpint (--self->locked, ==, 0);
}

static void
use_rw_lock (Hand *hand)
{
  Soak *self = hand->soak;
  belay_auto (BelayReadGuard) reading = NULL;

  if (chance (hand, 3) == 0)
    {
      belay_auto (BelayWriteGuard) writing = belay_rw_lock_write (self->rw_lock, NULL);

      if (writing == NULL)
        return;
      g_assert_cmpint (atomic_load (&self->n_reading), ==, 0);
      g_assert_cmpint (self->written++, ==, 0);
      dwell (hand);
      g_assert_cmpint (--self->written, ==, 0);
      if (chance (hand, 2) == 0)
        return;
      reading = belay_rw_lock_downgrade (&writing);
    }
  else
    {
      reading = belay_rw_lock_read (self->rw_lock, NULL);
    }
  if (reading == NULL)
    return;
  atomic_fetch_add (&self->n_reading, 1);
  g_assert_cmpint (self->written, ==, 0);
  dwell (hand);
  atomic_fetch_sub (&self->n_reading, 1);
}

/* --- semaphores --- */

static void
use_permit (Hand *hand)
{
  Soak *self = hand->soak;
  belay_auto (BelayPermit) permit = chance (hand, 4) == 0 ? belay_await (belay_semaphore_acquire_async (self->semaphore), NULL)
                                                          : belay_semaphore_acquire (self->semaphore, NULL);

  if (permit == NULL)
    return;
  g_assert_cmpint (atomic_fetch_add (&self->n_permits, 1), <, PERMITS);
  dwell (hand);
  atomic_fetch_sub (&self->n_permits, 1);
}

static void
use_permits (Hand *hand)
{
  Soak *self = hand->soak;
  int n = 1 + (int) chance (hand, PERMITS);
  belay_auto (BelayPermits) permits = belay_semaphore_acquire_many (self->semaphore, (guint) n, NULL);

  if (permits == NULL)
    return;
  g_assert_cmpint (atomic_fetch_add (&self->n_permits, n) + n, <=, PERMITS);
  dwell (hand);
  if (n > 1 && chance (hand, 2) == 0)
    {
      atomic_fetch_sub (&self->n_permits, 1);
      g_assert_true (belay_permits_give_back (permits, 1));
      n--;
      dwell (hand);
    }
  atomic_fetch_sub (&self->n_permits, n);
}

/* --- events, latches, barriers, rates --- */

static void
use_event (Hand *hand)
{
  Soak *self = hand->soak;

  switch (chance (hand, 3))
    {
    case 0: belay_event_set (self->event); break;
    case 1: belay_event_clear (self->event); break;
    default: belay_event_wait (self->event, NULL);
    }
}

static gboolean
count_down (gpointer data, GError **error)
{
  if (!belay_yield (error))
    return FALSE;
  belay_latch_count_down (data, 1);
  return TRUE;
}

static void
use_latch (Hand *hand)
{
  g_autoptr (BelayLatch) latch = belay_latch_new (2);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 2; i++)
    belay_scope_spawn (scope, count_down, latch, NULL);
  belay_latch_wait (latch, NULL);
  belay_scope_close (&scope, NULL);
}

static void
use_barrier (Hand *hand)
{
  Soak *self = hand->soak;
  guint index = PARTIES;

  if (belay_barrier_wait (self->barrier, &index, NULL))
    g_assert_cmpuint (index, <, PARTIES);
  else
    belay_barrier_reset (self->barrier);
}

static void
use_limiter (Hand *hand)
{
  belay_rate_limiter_acquire (hand->soak->limiter, 1 + chance (hand, 3), NULL);
}

/* --- channels --- */

static void
free_item (gpointer item)
{
  g_free (item);
}

static BelayChannel *
some_channel (Hand *hand)
{
  return chance (hand, 2) == 0 ? hand->soak->channel : hand->soak->rendezvous;
}

static void
send (Hand *hand)
{
  g_autofree char *item = g_strdup ("item");

  if (chance (hand, 3) == 0 ? belay_channel_try_send (some_channel (hand), &item, NULL)
                            : belay_channel_send (some_channel (hand), &item, NULL))
    atomic_fetch_add (&hand->soak->n_sent, 1);
}

static void
receive (Hand *hand)
{
  g_autofree char *item = chance (hand, 3) == 0 ? belay_channel_try_receive (some_channel (hand), NULL)
                                                : belay_channel_receive (some_channel (hand), NULL);

  if (item != NULL)
    atomic_fetch_add (&hand->soak->n_received, 1);
}

/* From, or to, whichever is ready. */
static void
choose (Hand *hand)
{
  Soak *self = hand->soak;
  g_autofree char *received = NULL, *sent = g_strdup ("item");
  gboolean sends = chance (hand, 2) == 0;
  BelaySelectCase cases[2] = { { .channel = self->channel }, { .channel = self->rendezvous } };
  int chosen;

  if (sends)
    cases[1].send = &sent;
  else
    cases[1].receive = &received;
  cases[0].receive = &received;
  chosen = belay_select (cases, 2, NULL);
  if (received != NULL)
    atomic_fetch_add (&self->n_received, 1);
  else if (chosen == 1 && sends && sent == NULL)
    atomic_fetch_add (&self->n_sent, 1);
}

static void
use_queue (Hand *hand)
{
  Soak *self = hand->soak;

  if (chance (hand, 2) == 0)
    {
      g_autofree char *item = g_strdup ("work");

      belay_queue_put (self->queue, &item, NULL);
    }
  else
    {
      g_autofree char *item = NULL;
      belay_auto (BelayWork) work = belay_queue_next (self->queue, &item, NULL);

      if (work != NULL)
        dwell (hand);
    }
}

static gpointer
copy_item (gpointer item)
{
  return g_strdup (item);
}

static void
use_broadcast (Hand *hand)
{
  Soak *self = hand->soak;

  if (chance (hand, 2) == 0)
    {
      g_autofree char *item = g_strdup ("news");

      belay_broadcast_send (self->broadcast, &item, NULL);
    }
  else
    {
      g_autofree char *item = NULL;
      belay_auto (BelaySubscription) subscription = belay_broadcast_subscribe (self->broadcast);

      belay_subscription_next (subscription, &item, NULL);
    }
}

static void
use_watch (Hand *hand)
{
  Soak *self = hand->soak;
  g_autofree char *value = NULL;
  guint64 seen = 0;

  if (chance (hand, 2) == 0)
    {
      value = g_strdup ("value");
      belay_watch_set (self->watch, &value, NULL);
      return;
    }
  g_free (belay_watch_get (self->watch, &seen));
  belay_watch_next (self->watch, &seen, &value, NULL);
}

/* --- resources --- */

static gpointer
make (const char *key, gpointer data, GError **error)
{
  Soak *self = data;
  int n = atomic_fetch_add (&self->n_steps, 1);

  if (n % 3 == 0 && !belay_sleep (1, error))
    return NULL;
  if (n % 7 == 0)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the world is down");
      return NULL;
    }
  atomic_fetch_add (&self->n_made, 1);
  return g_new0 (int, 1);
}

static gboolean
look (gpointer resource, gpointer data, GError **error)
{
  if (atomic_fetch_add (&((Soak *) data)->n_steps, 1) % 5 != 0)
    return belay_yield (error);
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "it is worn out");
  return FALSE;
}

static gboolean
end (gpointer resource, gpointer data, GError **error)
{
  atomic_fetch_add (&((Soak *) data)->n_ended, 1);
  g_free (resource);
  return belay_yield (error);
}

static void
use_pool (Hand *hand)
{
  Soak *self = hand->soak;
  belay_auto (BelayLease) lease = NULL;

  switch (chance (hand, 12))
    {
    case 0: belay_pool_invalidate (self->pool); return;
    case 1: belay_future_unref (belay_pool_acquire_async (self->pool)); return;
    case 2: lease = belay_pool_try_acquire (self->pool); break;
    case 3: lease = belay_await (belay_pool_acquire_async (self->pool), NULL); break;
    default: lease = belay_pool_acquire (self->pool, NULL);
    }
  if (lease == NULL)
    return;
  g_assert_cmpint (atomic_fetch_add (&self->n_leases, 1), <, LEASES);
  ++*(int *) belay_lease_get (lease);
  dwell (hand);
  g_assert_cmpint (--*(int *) belay_lease_get (lease), ==, 0);
  atomic_fetch_sub (&self->n_leases, 1);
  if (chance (hand, 8) == 0)
    {
      belay_lease_break (lease);
    }
  else if (chance (hand, 8) == 0)
    {
      g_free (belay_lease_detach (&lease));
      atomic_fetch_add (&self->n_ended, 1);
    }
}

typedef struct
{
  BelayPlain base;
  Soak      *soak;
} Opened;

static gboolean
opened_close (gpointer self, BelayReason reason, GError **error)
{
  atomic_fetch_add (&((Opened *) self)->soak->n_closed, 1);
  return belay_yield (error);
}

static const BelayPlainClass opened_class = BELAY_PLAIN_CLASS ("Opened", opened_close, g_free);

static gpointer
open_shared (gpointer data, GError **error)
{
  Soak *self = data;
  Opened *opened;

  if (!belay_sleep (1, error))
    return NULL;
  atomic_fetch_add (&self->n_opened, 1);
  opened = belay_plain_new (Opened, &opened_class);
  opened->soak = self;
  return opened;
}

static void
use_shared (Hand *hand)
{
  belay_auto (BelayUse) use = belay_shared_use (hand->soak->shared, NULL);

  if (use == NULL)
    return;
  g_assert_true (((Opened *) belay_use_get (use))->soak == hand->soak);
  dwell (hand);
}

/* --- fibers --- */

static void (*const steps[]) (Hand *hand) = {
  use_lock, use_condition, use_rw_lock, use_permit, use_permits, use_event, use_latch, use_barrier, use_limiter, send, receive,
  choose, use_queue, use_broadcast, use_watch, use_pool, use_pool, use_shared,
};

static gboolean
one_step (gpointer data, GError **error)
{
  Hand *hand = data;
  belay_auto (BelayTimeout) limit = belay_timeout (1 + chance (hand, 3));

  (void) limit;
  steps[chance (hand, G_N_ELEMENTS (steps))](hand);
  return TRUE;
}

/* In a child that is cancelled at some instant. */
static void
one_cancelled_step (Hand *hand)
{
  Hand other = { hand->soak, hand->seed + 1 };
  belay_auto (BelayScope) scope = belay_scope_new ();
  guint n = chance (hand, 4);

  belay_scope_spawn (scope, one_step, &other, NULL);
  for (guint i = 0; i < n; i++)
    belay_yield (NULL);
  if (chance (hand, 3) == 0)
    belay_sleep (1, NULL);
  belay_scope_cancel (scope, "the soak");
  belay_scope_close (&scope, NULL);
  atomic_fetch_add (&hand->soak->n_cancelled, 1);
}

static gboolean
soak (gpointer data, GError **error)
{
  Hand *hand = data;

  while (g_get_monotonic_time () < hand->soak->until)
    {
      if (chance (hand, 3) == 0)
        one_cancelled_step (hand);
      else if (!one_step (hand, error))
        return FALSE;
      atomic_fetch_add (&hand->soak->n_steps, 1);
    }
  return TRUE;
}

/* --- rounds --- */

static void
check_at_rest (Soak *self)
{
  BelayPoolStats stats;

  g_assert_false (belay_lock_is_locked (self->lock));
  g_assert_cmpuint (belay_lock_get_n_waiting (self->lock) + belay_condition_get_n_waiting (self->changed), ==, 0);
  g_assert_false (belay_rw_lock_is_written (self->rw_lock));
  g_assert_cmpuint (belay_rw_lock_get_n_readers (self->rw_lock) + belay_rw_lock_get_n_waiting (self->rw_lock), ==, 0);
  g_assert_cmpuint (belay_semaphore_get_available (self->semaphore), ==, PERMITS);
  g_assert_cmpuint (belay_semaphore_get_n_waiting (self->semaphore), ==, 0);
  g_assert_cmpuint (belay_barrier_get_n_waiting (self->barrier), ==, 0);
  g_assert_cmpuint (belay_channel_get_n_sending (self->channel) + belay_channel_get_n_receiving (self->channel), ==, 0);
  g_assert_cmpuint (belay_channel_get_n_sending (self->rendezvous) + belay_channel_get_n_receiving (self->rendezvous), ==, 0);
  g_assert_cmpint (atomic_load (&self->n_sent), ==,
                   atomic_load (&self->n_received) + (int) belay_channel_get_length (self->channel));
  g_assert_cmpuint (belay_queue_get_unfinished (self->queue), ==, belay_queue_get_length (self->queue));
  g_assert_cmpuint (belay_broadcast_get_n_subscribers (self->broadcast), ==, 0);
  g_assert_cmpuint (belay_shared_get_n_users (self->shared), ==, 0);
  g_assert_cmpint (atomic_load (&self->n_permits) + atomic_load (&self->n_reading) + atomic_load (&self->n_leases), ==, 0);
  belay_pool_get_stats (self->pool, &stats);
  g_assert_cmpuint (stats.used + stats.opening + stats.closing + stats.stuck + stats.waiting, ==, 0);
  g_assert_cmpuint (stats.idle, <=, LEASES);
  g_assert_cmpint (atomic_load (&self->n_made), ==, atomic_load (&self->n_ended) + (int) stats.idle);
  g_assert_cmpint (atomic_load (&self->n_opened), ==, atomic_load (&self->n_closed));
}

static gboolean
run_round (Soak *self, BelayLoop **loops, guint32 number, GError **error)
{
  Hand hands[N_LOOPS * N_FIBERS];
  BelayFuture *fibers[N_LOOPS * N_FIBERS];

  self->until = g_get_monotonic_time () + ROUND;
  for (guint i = 0; i < N_LOOPS * N_FIBERS; i++)
    {
      hands[i] = (Hand) { self, (number + 1) * 2654435761u + i * 40503u + 1 };
      fibers[i] = belay_loop_spawn (loops[i % N_LOOPS], soak, &hands[i], NULL);
    }
  for (guint i = 0; i < N_LOOPS * N_FIBERS; i++)
    if (!belay_await_ok (fibers[i], error))
      return FALSE;
  return belay_sleep (20, error); /* what goes on by itself: returns, ends */
}

static gboolean
run_soak (gpointer data, GError **error)
{
  BelayPoolOptions options = { .create = make, .validate = look, .reset = look, .destroy = end, .max = LEASES,
                               .validate_after = -1, .max_uses = 20, .max_idle_time = 100 };
  Soak soaked = { .until = 0 }, *self = &soaked;
  BelayLoop *loops[N_LOOPS];
  gint64 stop = g_get_monotonic_time () + (gint64) (n_seconds * G_USEC_PER_SEC);
  gint64 middle = stop - (gint64) (n_seconds * G_USEC_PER_SEC / 2);
  gsize before = 0;
  guint n_rounds = 0;

  self->lock = belay_lock_new ();
  self->changed = belay_condition_new (self->lock);
  self->rw_lock = belay_rw_lock_new ();
  self->semaphore = belay_semaphore_new (PERMITS);
  self->event = belay_event_new ();
  self->barrier = belay_barrier_new (PARTIES);
  self->channel = belay_channel_new (3, free_item);
  self->rendezvous = belay_channel_new (0, free_item);
  self->queue = belay_queue_new (10, free_item);
  self->broadcast = belay_broadcast_new (4, copy_item, free_item);
  self->watch = belay_watch_new (g_strdup ("value"), copy_item, free_item);
  self->limiter = belay_rate_limiter_new (10000, 100);
  self->shared = belay_shared_new (open_shared, self, NULL);
  self->pool = belay_pool_new (&options, self);
  for (guint i = 0; i < N_LOOPS; i++)
    loops[i] = belay_loop_new ("soak");

  do
    {
      if (!run_round (self, loops, n_rounds++, error))
        return FALSE;
      check_at_rest (self);
      if (before == 0 && g_get_monotonic_time () > middle)
        before = allocated ();
    }
  while (g_get_monotonic_time () < stop || n_rounds < 4);
  g_print ("# %u rounds, %d steps, %d cancelled; %d made, %d opened, %d items; allocated before %" G_GSIZE_FORMAT ", after %"
           G_GSIZE_FORMAT " bytes\n", n_rounds, atomic_load (&self->n_steps), atomic_load (&self->n_cancelled),
           atomic_load (&self->n_made), atomic_load (&self->n_opened), atomic_load (&self->n_received), before, allocated ());
  if (!SANITIZED)
    g_assert_cmpuint (allocated (), <=, before + (n_seconds < 30 ? MAX_KEPT : MAX_GROWTH));

  for (guint i = 0; i < N_LOOPS; i++)
    if (!belay_close (&loops[i], error))
      return FALSE;
  if (!belay_close (&self->pool, error))
    return FALSE;
  g_assert_cmpint (atomic_load (&self->n_made), ==, atomic_load (&self->n_ended));
  belay_condition_unref (self->changed);
  belay_lock_unref (self->lock);
  belay_rw_lock_unref (self->rw_lock);
  belay_semaphore_unref (self->semaphore);
  belay_event_unref (self->event);
  belay_barrier_unref (self->barrier);
  belay_channel_unref (self->channel);
  belay_channel_unref (self->rendezvous);
  belay_queue_unref (self->queue);
  belay_broadcast_unref (self->broadcast);
  belay_watch_unref (self->watch);
  belay_rate_limiter_unref (self->limiter);
  belay_shared_unref (self->shared);
  return TRUE;
}

/* Of futures that were dropped when they had failed. */
static void
ignore (const GError *error, const char *what, const char *site, gpointer data)
{
}

static void
test_soak (void)
{
  belay_set_sink (ignore, NULL);
  g_assert_cmpint (belay_run (run_soak, NULL), ==, 0);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  if (g_getenv ("BELAY_TEST_LONG") != NULL)
    n_seconds = 60;
  if (argc > 1)
    n_seconds = g_ascii_strtod (argv[1], NULL);
  g_test_add_func ("/long/L31-L32-L37-everything-at-once", test_soak);
  return g_test_run ();
}
