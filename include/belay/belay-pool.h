/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pools: a few costly resources for many users. */
#pragma once

#include <belay/belay-guard.h>

G_BEGIN_DECLS

typedef struct _BelayPool        BelayPool;
typedef struct _BelayLease       BelayLease;
typedef struct _BelayPoolOptions BelayPoolOptions;

/**
 * BelayPool: (ref-func belay_pool_ref) (unref-func belay_pool_unref)
 *
 * A few costly resources (connections, sessions, parsers), made when they are needed, lent to one user at a time, and
 * kept for the next one. Who waits is served first come, first served, and nobody overtakes; of the resources that are
 * idle the one that was used last is lent first, so that those which are not needed grow old and go.
 *
 * |[<!-- language="C" -->
 * belay_auto (BelayPool) pool = belay_pool_new (&(BelayPoolOptions) { .create = open_database, .max = 5 }, NULL);
 *
 * belay_auto (BelayLease) lease = belay_pool_acquire (pool, error);
 * if (lease == NULL)
 *   return FALSE;
 * Database *db = belay_lease_get (lease);
 * ]|
 *
 * It is a resource: a guard, a scope or a lifespan closes it. The *close* lets its users end: nothing is lent any more,
 * who waits gets %G_IO_ERROR_CLOSED, what is idle is destroyed at once, and what is in use when it comes back. The
 * release deadline bounds that: then the pool is *abandoned*, which takes from its users what they have.
 *
 * The functions that make, check and end its resources run in fibers of the pool's home, the main context that it was
 * made on, and never under a lock of the pool's: they may use the pool. All else is thread-safe, across loops.
 *
 * A reference is not an owner: the last one dropped on a pool that was never closed is a mistake that is reported, and
 * the pool is abandoned.
 */
#define BELAY_TYPE_POOL (belay_pool_get_type ())

/**
 * BelayPoolVerdict:
 * @BELAY_POOL_CHECK: as if nobody had been asked: it is reset, and where its user failed, or was interrupted while he had
 *   it, be it by a time-out of his own that he dealt with, it must prove that it is sound
 * @BELAY_POOL_KEEP: it is as after a success
 * @BELAY_POOL_DESTROY: it is destroyed
 *
 * What is to be done with a resource that was returned.
 */
typedef enum
{
  BELAY_POOL_CHECK,
  BELAY_POOL_KEEP,
  BELAY_POOL_DESTROY
} BelayPoolVerdict;

/**
 * BelayPoolEvent:
 * @BELAY_POOL_CREATED: a resource was made
 * @BELAY_POOL_CREATE_FAILED: one could not be made; with the error
 * @BELAY_POOL_ACQUIRED: one was lent
 * @BELAY_POOL_RETURNED: one came back
 * @BELAY_POOL_VALIDATE_FAILED: one was found to be unsound, and will be destroyed; with the error
 * @BELAY_POOL_RESET_FAILED: one could not be made as new, and will be destroyed; with the error
 * @BELAY_POOL_BROKEN: one was said to be broken, or nothing proves that it is sound after its user was interrupted or
 *   failed
 * @BELAY_POOL_EXPIRED: one was idle for too long, lived too long, was used too often, or has been invalidated
 * @BELAY_POOL_EVICTED: one that was idle gave way to one of another key, or to a smaller maximum
 * @BELAY_POOL_DETACHED: one was taken out
 * @BELAY_POOL_DESTROYED: one was destroyed; with the error, when that failed
 * @BELAY_POOL_TIMED_OUT: an acquire had no more time
 * @BELAY_POOL_HELD_LONG: one has been in use for longer than the threshold; the message says by whom
 * @BELAY_POOL_CLOSED: the pool is closed, and nothing of it is left but what is stuck
 *
 * What happens in a pool, for those who watch it.
 */
typedef enum
{
  BELAY_POOL_CREATED,
  BELAY_POOL_CREATE_FAILED,
  BELAY_POOL_ACQUIRED,
  BELAY_POOL_RETURNED,
  BELAY_POOL_VALIDATE_FAILED,
  BELAY_POOL_RESET_FAILED,
  BELAY_POOL_BROKEN,
  BELAY_POOL_EXPIRED,
  BELAY_POOL_EVICTED,
  BELAY_POOL_DETACHED,
  BELAY_POOL_DESTROYED,
  BELAY_POOL_TIMED_OUT,
  BELAY_POOL_HELD_LONG,
  BELAY_POOL_CLOSED
} BelayPoolEvent;

/**
 * BelayPoolWatch:
 * @pool: the pool
 * @event: what happened
 * @resource: (nullable): to which resource. To be looked at only where it is in use or idle, that is for
 *   @BELAY_POOL_CREATED; else it is a name.
 * @error: (nullable): why, for some events
 * @data: what was given with the pool
 *
 * Told of what happens in a pool. Called under no lock, on any thread, soon after it happened; it must not wait.
 */
typedef void (*BelayPoolWatch) (BelayPool *pool, BelayPoolEvent event, gpointer resource, const GError *error, gpointer data);

/**
 * BelayPoolOptions:
 * @create: makes a resource, for a key where there are keys, else for %NULL. It may wait. It belongs to the pool, not to
 *   the acquire that was the cause of it: if that is cancelled, the resource goes to the next who waits, or is kept.
 * @validate: (nullable): looks whether an idle one is sound still. %FALSE, with an error: it is destroyed and another
 *   taken. One that goes from its user straight to the next who waits was not idle, and is not looked at: what a user may leave
 *   behind is for @reset to find.
 * @reset: (nullable): makes one as new that was returned. If it fails, or has no time left, the resource is destroyed.
 * @destroy: (nullable): ends a resource, gracefully. %NULL: it is a #BelayResource or begins with a #BelayPlain, and is
 *   closed as such.
 * @abandon: (nullable): ends a resource by force: never blocks, never fails, callable from any thread. @destroy did not
 *   end, or cannot be run, or the pool was abandoned while the resource is in use. It leaves the memory that its user may
 *   look at. Only with @destroy.
 * @free: (nullable): gives the memory back, after @destroy or @abandon. Only with @destroy.
 * @returned: (nullable): says what is to be done with a resource that comes back, and why it does. It must not wait, and
 *   is called on the thread of whoever returns it.
 * @watch: (nullable): told what happens
 * @destroy_data: (nullable): frees the data, after the pool
 * @name: (nullable): of the pool, for messages; a constant. "pool" unless told
 * @max: how many resources there are at most, those in use, idle, being made and being ended all counted; 10 unless told
 * @min: how many are kept though nobody needs them, from the first acquire or belay_pool_warm_up() on; not more than @max. Of a
 *   pool without keys.
 * @overflow: how many more there may be in a time of need; those end when they are returned and nobody waits
 * @max_per_key: how many of each key at most; 0: as many as there are
 * @max_uses: how often one is lent before it ends; 0: as often as one likes
 * @max_idle_time: how long one may be idle before it ends, ms; 0: for ever
 * @max_lifetime: how old one may get, ms; 0: any age. One that is in use ends when it is returned.
 * @jitter: by how much lifetimes are shortened at random, so that what was made at one time does not end at one time, in
 *   percent; 10 unless told; negative: not at all
 * @validate_after: how long one may have been idle and be lent without @validate, ms; 500 unless told; negative: no time
 *   at all
 * @acquire_timeout: how long an acquire may take, all in all, ms; 30000 unless told; negative: for ever. What bounds the
 *   caller's own time bounds it, too.
 * @create_timeout: how long @create may take, ms; 30000 unless told; negative: for ever
 * @validate_timeout: the same for @validate; 5000 unless told
 * @reset_timeout: the same for @reset; 5000 unless told
 * @destroy_timeout: the same for @destroy or the close, after which it is abandoned; 5000 unless told
 * @held_long: a resource that has been in use for so long is told of, once, with the line that acquired it, ms; 0: never
 *
 * What a pool is of, and how it does. Clear what you do not set: `&(BelayPoolOptions) { .create = open_database, .max = 5
 * }`. The last parameter but for the error of each function is the data that was given with the pool.
 *
 * Whatever a function of these does, its slot in the pool is free again when its time is up: if it then has not returned,
 * what it was at is ended whenever it does.
 */
struct _BelayPoolOptions
{
  gpointer         (*create)   (const char *key, gpointer data, GError **error);
  gboolean         (*validate) (gpointer resource, gpointer data, GError **error);
  gboolean         (*reset)    (gpointer resource, gpointer data, GError **error);
  gboolean         (*destroy)  (gpointer resource, gpointer data, GError **error);
  void             (*abandon)  (gpointer resource, gpointer data);
  void             (*free)     (gpointer resource, gpointer data);
  BelayPoolVerdict (*returned) (gpointer resource, BelayReason reason, gpointer data);
  BelayPoolWatch   watch;
  GDestroyNotify   destroy_data;
  const char      *name;
  guint            max, min, overflow, max_per_key, max_uses;
  int              jitter;
  gint64           max_idle_time, max_lifetime;
  gint64           validate_after;
  gint64           acquire_timeout, create_timeout, validate_timeout, reset_timeout, destroy_timeout;
  gint64           held_long;
  /*< private >*/
  gpointer         reserved[8];
};

BELAY_AVAILABLE_IN_1_0 GType      belay_pool_get_type (void) G_GNUC_CONST;
BELAY_AVAILABLE_IN_1_0 BelayPool *belay_pool_ref      (BelayPool *pool);
BELAY_AVAILABLE_IN_1_0 void       belay_pool_unref    (BelayPool *pool);

/**
 * belay_pool_new: (skip)
 * @options: what it is of, and how it does; copied
 * @data: handed to the functions in @options
 *
 * Makes a pool, with nothing in it. Its home is the caller's thread-default main context.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none; without `create` it is a g_critical().
 *
 * Returns: (transfer full): the pool, to be closed
 */
BELAY_AVAILABLE_IN_1_0 BelayPool *belay_pool_new (const BelayPoolOptions *options, gpointer data) BELAY_USE_RESULT;

/**
 * belay_pool_open: (skip)
 * @options: what it is of, and how it does; copied
 * @data: handed to the functions in @options
 *
 * Makes a pool that holds its minimum of resources; if these cannot be made, there is no pool. For a scope, or the part
 * of a lifespan.
 *
 * Suspends: never itself. Cancellation: an owning operation: a cancelled await returns at once, and a late pool is
 * closed. Threads: in a fiber or on a thread with a main context. Errors: those of `create`.
 *
 * Returns: (transfer full): gives a #BelayPool
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_pool_open (const BelayPoolOptions *options, gpointer data) BELAY_USE_RESULT;

/**
 * belay_pool_acquire:
 * @pool: a pool
 * @error: return location for a #GError
 *
 * Takes a resource, as a guard: leaving its block returns it, on the failed path, too.
 *
 * An idle one is lent at once. Else one is made, if there may be more, or whoever waits gets the next that is returned.
 * What is being made belongs to the pool: to wait for it and to be cancelled loses nothing. If it cannot be made, the
 * first who waits is told why, and for the next it is tried again.
 *
 * Suspends: while there is none. Cancellation: a checkpoint; no resource is lost by it at any instant.
 * Threads: in a fiber; of any loop. Errors: those of `create`; %G_IO_ERROR_TIMED_OUT, with the state of the pool and the
 * last failure to make a resource, when the caller's time or `acquire_timeout` is up, which is one time for all of it;
 * %G_IO_ERROR_CANCELLED; %G_IO_ERROR_CLOSED; %BELAY_ERROR_DEADLOCK, with who holds what, when all that it could
 * get is held by fibers that wait for this pool, for what can never come, the caller among them (see
 * belay_lease_hand_over()).
 *
 * Returns: (transfer full) (nullable): the lease. It keeps the pool alive.
 */
BELAY_AVAILABLE_IN_1_0 BelayLease  *belay_pool_acquire           (BelayPool *pool, GError **error) BELAY_USE_RESULT;
/*
 * The same for one that was made for a key, a host say. Where there may be no more, an idle one of another key gives way. One
 * that is returned goes to the first who waits for its key, also before somebody who has waited for another key for longer; but
 * who was passed over eight times is next.
 */
BELAY_AVAILABLE_IN_1_0 BelayLease  *belay_pool_acquire_key       (BelayPool *pool, const char *key,
                                                                  GError **error) BELAY_USE_RESULT;
/* The same without waiting; NULL when none is idle that can be lent at once. Threads: any. */
BELAY_AVAILABLE_IN_1_0 BelayLease  *belay_pool_try_acquire       (BelayPool *pool) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayLease  *belay_pool_try_acquire_key   (BelayPool *pool, const char *key) BELAY_USE_RESULT;
/**
 * belay_pool_acquire_async:
 * @pool: a pool
 *
 * The same as a future of the lease, for callback code and plain threads. Nobody is its holder: no deadlock is found.
 *
 * Callback code keeps the lease for as long as its work goes on by giving it to the work's future:
 *
 * |[<!-- language="C" -->
 * static BelayFuture *
 * on_lease (BelayFuture *done, gpointer data)                        // by belay_future_then (belay_pool_acquire_async (pool), …)
 * {
 *   BelayLease *lease = belay_future_take (done, NULL);
 *
 *   return belay_future_finally (ask (belay_lease_get (lease)), pass_on, lease, belay_resource_drop);
 * }
 * ]|
 *
 * Suspends: never itself. Cancellation: in a cancelled scope it is rejected; of a future that is dropped the lease goes back.
 * Threads: any. Errors: those of belay_pool_acquire(), but for the deadlock.
 *
 * Returns: (transfer full): gives a #BelayLease
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_pool_acquire_async     (BelayPool *pool) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_pool_acquire_key_async (BelayPool *pool, const char *key) BELAY_USE_RESULT;

/* --- leases --- */

/**
 * belay_lease_get:
 * @lease: a lease
 *
 * The resource. It is lent until the lease is left; a lease that has been left is a g_critical().
 *
 * Suspends: never. Cancellation: none. Threads: any, one at a time. Errors: none.
 *
 * Returns: (transfer none) (nullable): the resource; %NULL when the pool was abandoned in the meantime
 */
BELAY_AVAILABLE_IN_1_0 gpointer belay_lease_get       (BelayLease *lease);
/* The same for who can say why there is none. Errors: %G_IO_ERROR_CLOSED. */
BELAY_AVAILABLE_IN_1_0 gpointer belay_lease_check     (BelayLease *lease, GError **error);
/* How often the resource was lent, this time counted: 1 is the first; of a lease that has been left 0, and a g_critical(). */
BELAY_AVAILABLE_IN_1_0 guint64  belay_lease_get_n_uses (BelayLease *lease);

/**
 * belay_lease_break:
 * @lease: a lease
 *
 * Says that the resource is broken: when the lease is left it is destroyed, and another made when it is needed.
 *
 * Suspends: never. Cancellation: none. Threads: any, one at a time. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_lease_break     (BelayLease *lease);

/**
 * belay_lease_detach:
 * @lease: (inout): the address of a variable that holds a lease; it is %NULL afterwards
 *
 * Takes the resource out of the pool: it is the caller's, and the pool may make another.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: (transfer full) (nullable): the resource; %NULL when the pool was abandoned in the meantime
 */
BELAY_AVAILABLE_IN_1_0 gpointer belay_lease_detach    (BelayLease **lease) BELAY_USE_RESULT;

/**
 * belay_lease_hand_over:
 * @lease: a lease
 *
 * Says that another than the calling fiber will leave the lease. Who waits for a pool while he holds all that it has
 * would wait for ever, and so gets %BELAY_ERROR_DEADLOCK; unless what he took has gone to others, who may return it
 * meanwhile. A lease that is entered in a scope of the same fiber is not handed over.
 *
 * Suspends: never. Cancellation: none. Threads: any, one at a time. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_lease_hand_over (BelayLease *lease);

/* --- the whole pool --- */

/**
 * belay_pool_warm_up:
 * @pool: a pool
 * @n: how many; 0: its minimum
 * @error: return location for a #GError
 *
 * Makes resources (without a key) until there are @n, all side by side, and waits for them. Those that were made stay,
 * also when others fail; idle ones that have a key give way.
 *
 * Suspends: yes. Cancellation: a checkpoint; what is being made belongs to the pool. Threads: in a fiber. Errors: the
 * first of `create`; %BELAY_ERROR_MISUSE when @n is more than the maximum, or that is made smaller meanwhile;
 * %G_IO_ERROR_CLOSED.
 *
 * Returns: %TRUE when they are there
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_pool_warm_up    (BelayPool *pool, guint n, GError **error);

/*
 * Changes how many there are at least and at most. More: who waits is served at once, in order. Fewer: idle ones go,
 * those in use when they are returned. Threads: any.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_pool_resize     (BelayPool *pool, guint min, guint max);
/* Lends nothing until belay_pool_resume(): who acquires waits, for no longer than otherwise. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void     belay_pool_suspend    (BelayPool *pool);
BELAY_AVAILABLE_IN_1_0 void     belay_pool_resume     (BelayPool *pool);
/* What there is now ends: idle ones at once, those in use when returned. A new password, another server. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void     belay_pool_invalidate (BelayPool *pool);
/* The same for what was made for one key. */
BELAY_AVAILABLE_IN_1_0 void     belay_pool_invalidate_key (BelayPool *pool, const char *key);

/**
 * belay_pool_close:
 * @pool: a pool
 * @error: return location for a #GError
 *
 * Closes it as belay_close() does, without giving the reference up: for who does not own it. Whoever comes later waits
 * for the first, and has the same result.
 *
 * Suspends: until all that was lent has come back, and is destroyed. Cancellation: a checkpoint for the wait alone: the
 * pool goes on closing. Threads: in a fiber. Errors: the first failure to destroy a resource from the beginning of the
 * close on; the others are attached.
 *
 * Returns: %TRUE when everything was destroyed without an error
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_pool_close     (BelayPool *pool, GError **error);

/*
 * Ends it by force: who waits, and who holds a lease, gets %G_IO_ERROR_CLOSED; what is there is abandoned. What is in use
 * is freed when its lease is left. Threads: any.
 */
BELAY_AVAILABLE_IN_1_0 void     belay_pool_abandon   (BelayPool *pool);
/* Whether its close has begun. Threads: any. */
BELAY_AVAILABLE_IN_1_0 gboolean belay_pool_is_closed (BelayPool *pool);

/* --- statistics --- */

#define BELAY_POOL_BUCKETS 16

/**
 * BelayPoolStats:
 * @idle: how many there are now that nobody uses
 * @used: how many are lent
 * @opening: how many are being made, or validated
 * @closing: how many are being reset, or destroyed
 * @stuck: how many are being ended, but have used up their time and count no more
 * @waiting: how many wait
 * @max: how many there may be, without overflow
 * @peak: how many there were at most
 * @acquired: how often one was lent; this and the following since the beginning
 * @waited: how often that took a wait
 * @created: how many were made
 * @create_failed: how often that failed
 * @validate_failed: how many were found unsound
 * @reset_failed: how many could not be made as new
 * @broken: how many were broken
 * @expired: how many were too old
 * @evicted: how many gave way
 * @detached: how many were taken out
 * @destroyed: how many were destroyed
 * @timed_out: how many acquires had no more time
 * @cancelled: how many acquires were cancelled
 * @deadlocks: how many would have waited for ever
 * @wait_time: how long was waited, all in all, µs
 * @hold_time: how long they were used, all in all, µs
 * @waits: how many waits were shorter than 1 ms, 2 ms, 4 ms … 16384 ms; the last: how many were longer. An acquire that
 *   did not wait is none.
 * @holds: the same for the times between an acquire and the return. These are measured by a coarse clock, to some 10 ms.
 *
 * What a pool does, and has done.
 */
typedef struct
{
  guint   idle, used, opening, closing, stuck, waiting, max, peak;
  guint64 acquired, waited;
  guint64 created, create_failed, validate_failed, reset_failed, broken, expired, evicted, detached, destroyed;
  guint64 timed_out, cancelled, deadlocks;
  guint64 wait_time, hold_time;
  guint64 waits[BELAY_POOL_BUCKETS], holds[BELAY_POOL_BUCKETS];
} BelayPoolStats;

/* All at one instant. Threads: any. */
BELAY_AVAILABLE_IN_1_0 void  belay_pool_get_stats (BelayPool *pool, BelayPoolStats *ret_stats);

/**
 * belay_pool_describe:
 * @pool: a pool
 *
 * The state of the pool in words: "5 of 5 in use, 0 idle, 3 waiting; held by the fiber from a.c:12, acquired at b.c:7
 * 1.5 s ago, the fiber from …".
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: (transfer full): the text
 */
BELAY_AVAILABLE_IN_1_0 char *belay_pool_describe  (BelayPool *pool) BELAY_USE_RESULT;

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 BelayLease  *belay_pool_acquire_at           (BelayPool *pool, GError **error,
                                                                     const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayLease  *belay_pool_acquire_key_at       (BelayPool *pool, const char *key, GError **error,
                                                                     const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayLease  *belay_pool_try_acquire_key_at   (BelayPool *pool, const char *key,
                                                                     const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_pool_acquire_key_async_at (BelayPool *pool, const char *key,
                                                                     const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayPool   *belay_pool_new_at               (const BelayPoolOptions *options, gpointer data,
                                                                     const char *site) BELAY_USE_RESULT;

#ifndef __GI_SCANNER__
#define belay_pool_acquire(pool, error)           belay_pool_acquire_at ((pool), (error), BELAY_SITE)
#define belay_pool_acquire_key(pool, key, error)  belay_pool_acquire_key_at ((pool), (key), (error), BELAY_SITE)
#define belay_pool_try_acquire(pool)              belay_pool_try_acquire_key_at ((pool), NULL, BELAY_SITE)
#define belay_pool_try_acquire_key(pool, key)     belay_pool_try_acquire_key_at ((pool), (key), BELAY_SITE)
#define belay_pool_acquire_async(pool)            belay_pool_acquire_key_async_at ((pool), NULL, BELAY_SITE)
#define belay_pool_acquire_key_async(pool, key)   belay_pool_acquire_key_async_at ((pool), (key), BELAY_SITE)
#define belay_pool_new(...)                       belay_pool_new_at (__VA_ARGS__, BELAY_SITE) /* commas of a literal */
#endif

BELAY_DEFINE_AUTO (BelayPool)
BELAY_DEFINE_AUTO (BelayLease)
G_DEFINE_AUTOPTR_CLEANUP_FUNC (BelayPool, belay_pool_unref)

G_END_DECLS
