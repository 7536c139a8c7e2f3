/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What people coordinate with: locks, semaphores, channels, pools. A figure a row, as in bench-core.c.
 *
 * A hand-off (`lock-line-1000` and its like) is measured in a line whose length does not change: so many fibers wait for what one of
 * them has; it gives it to the first, and gets in line again, behind the last. So all that is done is one release to somebody
 * who waits, one acquire that must wait, and one switch; and with the length grows only what the machine's caches no longer hold.
 */
#include "bench.h"

#include <malloc.h>

enum { MANY = 1000000, LENGTHS = 3, ASYNC = 20000, FIBERS = 30000 };

static const int lengths[LENGTHS] = { 10, 1000, 100000 };

static void
must (gboolean ok)
{
  if (!ok)
    abort ();
}

static gsize
allocated (void)
{
  struct mallinfo2 info = mallinfo2 ();

  return info.uordblks + info.hblkhd;
}

/* --- one resource of a pool: nothing at all --- */

static char nothing;

static gpointer
make (const char *key, gpointer data, GError **error)
{
  return &nothing;
}

static gboolean
end (gpointer resource, gpointer data, GError **error)
{
  return TRUE;
}

static BelayPool *
pool_of (guint max)
{
  BelayPoolOptions options = { .create = make, .destroy = end, .max = max, .acquire_timeout = -1, .validate_after = -1 };
  BelayPool *pool = belay_pool_new (&options, NULL);

  must (belay_pool_warm_up (pool, max, NULL));
  return pool;
}

/* --- each of them, as something that one fiber has at a time --- */

typedef struct
{
  const char *name;
  gpointer  (*make)  (void);
  void      (*end)   (gpointer self);
  gpointer  (*take)  (gpointer self); /* a guard */
  BelayFuture *(*take_async) (gpointer self);
} Kind;

static gpointer make_lock (void) { return belay_lock_new (); }
static void end_lock (gpointer self) { belay_lock_unref (self); }
static gpointer take_lock (gpointer self) { return belay_lock_acquire (self, NULL); }
static BelayFuture *take_lock_async (gpointer self) { return belay_lock_acquire_async (self); }

static gpointer make_semaphore (void) { return belay_semaphore_new (1); }
static void end_semaphore (gpointer self) { belay_semaphore_unref (self); }
static gpointer take_permit (gpointer self) { return belay_semaphore_acquire (self, NULL); }
static BelayFuture *take_permit_async (gpointer self) { return belay_semaphore_acquire_async (self); }

static gpointer make_pool (void) { return pool_of (1); }
static void end_pool (gpointer self) { must (belay_close (&self, NULL)); }
static gpointer take_lease (gpointer self) { return belay_pool_acquire (self, NULL); }
static BelayFuture *take_lease_async (gpointer self) { return belay_pool_acquire_async (self); }

static const Kind lock = { "lock", make_lock, end_lock, take_lock, take_lock_async };
static const Kind semaphore = { "semaphore", make_semaphore, end_semaphore, take_permit, take_permit_async };
static const Kind pool = { "pool", make_pool, end_pool, take_lease, take_lease_async };

/* --- hand-offs in lines of a length --- */

typedef struct
{
  const Kind *kind;
  gpointer    thing;
  int         n_waiting, left, done, all;
  gint64      end;
} Crowd;

static gboolean
stand_in_line (gpointer data, GError **error)
{
  Crowd *crowd = data;

  crowd->n_waiting++;
  while (crowd->left > 0)
    {
      gpointer guard;

      crowd->left--;
      guard = crowd->kind->take (crowd->thing);
      must (guard != NULL);
      if (++crowd->done == crowd->all)
        crowd->end = now_ns ();
      must (belay_close (&guard, NULL));
    }
  return TRUE;
}

static void
hand_over (const Kind *kind, int length)
{
  int all = MAX (200000, 5 * length);
  Crowd crowd = { kind, kind->make (), 0, all, 0, all, 0 };
  gpointer guard = kind->take (crowd.thing);
  g_autofree char *row = g_strdup_printf ("%s-line-%d", kind->name, length);
  BelayFuture **futures = g_new (BelayFuture *, length);
  gint64 begin;

  for (int i = 0; i < length; i++)
    futures[i] = belay_spawn (stand_in_line, &crowd);
  while (crowd.n_waiting < length)
    must (belay_yield (NULL));
  begin = now_ns ();
  must (belay_close (&guard, NULL));
  for (int i = 0; i < length; i++)
    must (belay_await_ok (futures[i], NULL));
  say (row, (double) (crowd.end - begin) / all);
  g_free (futures);
  kind->end (crowd.thing);
}

static void
grow (const Kind *kind)
{
  for (int i = 0; i < LENGTHS; i++)
    hand_over (kind, lengths[i]);
}

/* --- memory --- */

/* What one who waits costs: as a fiber, of the machine's memory; as a future, of malloc's. */
static void
weigh_fibers (const Kind *kind)
{
  Crowd crowd = { kind, kind->make (), 0, FIBERS, 0, FIBERS, 0 };
  gpointer guard = kind->take (crowd.thing);
  g_autofree char *row = g_strdup_printf ("%s-fiber-bytes", kind->name);
  BelayFuture **futures = g_new0 (BelayFuture *, FIBERS);
  long before = bench_memory_kb ();

  for (int i = 0; i < FIBERS; i++)
    futures[i] = belay_spawn (stand_in_line, &crowd);
  while (crowd.n_waiting < FIBERS)
    must (belay_yield (NULL));
  say (row, (double) (bench_memory_kb () - before) * 1024 / FIBERS);
  must (belay_close (&guard, NULL));
  for (int i = 0; i < FIBERS; i++)
    must (belay_await_ok (futures[i], NULL));
  g_free (futures);
  kind->end (crowd.thing);
}

static void
weigh_futures (const Kind *kind)
{
  gpointer thing = kind->make (), guard = kind->take (thing);
  BelayFuture **futures = g_new0 (BelayFuture *, ASYNC);
  g_autofree char *row = g_strdup_printf ("%s-future-bytes", kind->name);
  gsize before = allocated ();

  for (int i = 0; i < ASYNC; i++)
    futures[i] = kind->take_async (thing);
  say (row, (double) (allocated () - before) / ASYNC);
  for (int i = 0; i < ASYNC; i++)
    belay_future_unref (futures[i]);
  must (belay_close (&guard, NULL));
  g_free (futures);
  kind->end (thing);
}

/* Without the resource itself, which is nothing. */
static void
weigh_idle (void)
{
  gsize before;
  BelayPool *many;

  belay_pool_abandon (many = pool_of (10)); /* so that what is made once is there */
  belay_pool_unref (many);
  must (belay_sleep (1, NULL));
  before = allocated ();
  many = pool_of (10000);
  say ("pool-idle-bytes", (double) (allocated () - before) / 10000);
  must (belay_close (&many, NULL));
}

static void
bench_memory (void)
{
  weigh_futures (&lock);
  weigh_futures (&semaphore);
  weigh_futures (&pool);
  weigh_idle ();
}

static void bench_lock_memory (void) { weigh_fibers (&lock); }
static void bench_pool_memory (void) { weigh_fibers (&pool); }

/* --- locks and semaphores --- */

static gboolean
use_permit (gpointer data, GError **error)
{
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (data, error);

  return permit != NULL && belay_yield (error);
}

static void
bench_lock (void)
{
  g_autoptr (BelayLock) one = belay_lock_new ();

  TIMED ("lock", MANY, {
    belay_auto (BelayLockGuard) guard = belay_lock_acquire (one, NULL);
    (void) guard;
  });
  grow (&lock);
}

static void
bench_semaphore (void)
{
  g_autoptr (BelaySemaphore) four = belay_semaphore_new (4), ten = belay_semaphore_new (10);

  TIMED ("semaphore", MANY, {
    belay_auto (BelayPermit) permit = belay_semaphore_acquire (four, NULL);
    (void) permit;
  });
  for (int i = 0; i < 5; i++)
    bench_batch (use_permit, ten, 1000);
  say ("semaphore-1000", bench_batch (use_permit, ten, 1000));
  grow (&semaphore);
}

/* --- channels --- */

typedef struct
{
  BelayChannel *channel;
  int           n;
} Stream;

static gboolean
send_all (gpointer data, GError **error)
{
  Stream *stream = data;

  for (int i = 0; i < stream->n; i++)
    {
      gpointer item = &nothing;

      must (belay_channel_send (stream->channel, &item, NULL));
    }
  belay_channel_close (stream->channel);
  return TRUE;
}

static gboolean
receive_all (gpointer data, GError **error)
{
  BelayChannel *channel = data;
  gpointer item;

  while (belay_channel_next (channel, &item, NULL))
    ;
  return TRUE;
}

static void
stream (const char *row, int n, guint capacity)
{
  g_autoptr (BelayChannel) channel = belay_channel_new (capacity, NULL);
  Stream all = { channel, n };
  BelayFuture *sender = belay_spawn (send_all, &all);
  gint64 begin = now_ns ();

  must (receive_all (channel, NULL));
  say (row, (double) (now_ns () - begin) / n);
  must (belay_await_ok (sender, NULL));
}

static void
stream_between_loops (void)
{
  enum { N = 500000 };
  g_autoptr (BelayChannel) channel = belay_channel_new (100, NULL);
  Stream all = { channel, N };
  belay_auto (BelayLoop) loop = belay_loop_new ("receiver");
  BelayFuture *receiver = belay_loop_spawn (loop, receive_all, channel, NULL);
  gint64 begin = now_ns ();

  must (send_all (&all, NULL));
  must (belay_await_ok (receiver, NULL));
  say ("channel-loops", (double) (now_ns () - begin) / N);
}

/* So many receivers wait; each item goes to the first of them. */
static void
send_to_many (int length)
{
  int all = MAX (200000, 5 * length);
  g_autoptr (BelayChannel) channel = belay_channel_new (0, NULL);
  g_autofree char *row = g_strdup_printf ("channel-line-%d", length);
  BelayFuture **futures = g_new (BelayFuture *, length);
  Stream stream = { channel, all };
  gint64 begin;

  for (int i = 0; i < length; i++)
    futures[i] = belay_spawn (receive_all, channel);
  while (belay_channel_get_n_receiving (channel) < (guint) length)
    must (belay_yield (NULL));
  begin = now_ns ();
  must (send_all (&stream, NULL));
  say (row, (double) (now_ns () - begin) / all);
  for (int i = 0; i < length; i++)
    must (belay_await_ok (futures[i], NULL));
  g_free (futures);
}

static void
bench_channel (void)
{
  stream ("channel", MANY, 100);
  stream ("channel-rendezvous", MANY, 0);
  stream_between_loops ();
  for (int i = 0; i < LENGTHS; i++)
    send_to_many (lengths[i]);
}

/* --- pools --- */

typedef struct
{
  BelayPool *pool;
  int        left;
} Users;

static gboolean
use_leases (gpointer data, GError **error)
{
  Users *users = data;

  while (users->left-- > 0)
    {
      belay_auto (BelayLease) lease = belay_pool_acquire (users->pool, error);

      if (lease == NULL || !belay_yield (error))
        return FALSE;
    }
  return TRUE;
}

static void
bench_pool (void)
{
  enum { N = 300000 };
  BelayPool *ten = pool_of (10);
  Users users = { ten, N };

  TIMED ("pool", MANY, {
    belay_auto (BelayLease) lease = belay_pool_acquire (ten, NULL);
    (void) lease;
  });
  say ("pool-1000", bench_batch (use_leases, &users, 1000) * 1000 / N);
  must (belay_close (&ten, NULL));
  grow (&pool);
}

/* --- GLib's own means --- */

static gpointer
pop_all (gpointer data)
{
  while (g_async_queue_pop (data) != data)
    ;
  return NULL;
}

static void
bench_glib (void)
{
  enum { N = 500000 };
  GAsyncQueue *queue = g_async_queue_new ();
  GThread *thread;
  GMutex mutex;
  gint64 begin;

  g_mutex_init (&mutex);
  TIMED ("glib:lock", MANY, {
    g_mutex_lock (&mutex);
    g_mutex_unlock (&mutex);
  });
  g_mutex_clear (&mutex);
  TIMED ("glib:channel", MANY, {
    g_async_queue_push (queue, &nothing);
    g_async_queue_pop (queue);
  });
  begin = now_ns ();
  thread = g_thread_new ("receiver", pop_all, queue);
  for (int i = 0; i < N; i++)
    g_async_queue_push (queue, &nothing);
  g_async_queue_push (queue, queue);
  g_thread_join (thread);
  say ("glib:channel-loops", (double) (now_ns () - begin) / N);
  g_async_queue_unref (queue);
}

static const BenchGroup groups[] = {
  { "lock", bench_lock },     { "semaphore", bench_semaphore },     { "channel", bench_channel },
  { "pool", bench_pool },     { "memory", bench_memory },           { "lock-memory", bench_lock_memory },
  { "pool-memory", bench_pool_memory }, { "glib", bench_glib },     { NULL },
};

int
main (int argc, char **argv)
{
  return bench_main (argc, argv, groups);
}
