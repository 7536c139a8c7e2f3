/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools, inside. The functions are those of belay-pool.h; this is what they are made of.
 *
 * Words. A *slot* is a place for a resource. A *lease* is a slot that is lent, seen through one of its *heads*: the heads
 * take turns, so that a lease that was left and is used again is known from the one that is in force now. Slots live as
 * long as the pool. A *group* is what has the same key: its slots, and the line of those who wait for one. A pool without
 * keys has its *own* group alone. A *job* is a detached fiber of the pool's home that takes a slot from one resting state
 * to the next by calling the user's functions. What is to be done when the lock has been left is written down in a
 * *todo*.
 *
 * States of a slot, and what it counts as. The job's are those in the middle.
 *
 *   SPARE      nothing: no resource
 *   OPENING    opening: create runs, or will
 *   CHECKING   opening: validate runs before it is lent
 *   RETURNING  closing: reset runs, or validate, or its return is being thought about
 *   CLOSING    closing: destroy runs, or will
 *   STUCK      nothing: the time of any of these is up, and the function has not returned
 *   IDLE       idle
 *   USED       used
 *
 * Invariants
 *   1. All of a pool, its groups and slots changes under `lock`, but for `options` (never), `context` and `data` (never),
 *      and a slot's resource, which is its job's or its holder's. No function of the user's is called under it, nobody is
 *      woken, and nothing is allocated.
 *   2. idle + used + opening + closing = total <= limit, but for what a smaller maximum has yet to get rid of: that is
 *      never added to.
 *   3. While somebody is in line, for each there is one of: a slot of the group's that is OPENING or CHECKING for it
 *      (`n_coming`), one of whatever group in CLOSING that will make room; or there is no room, and nothing that could
 *      give way; or the pool is suspended. Each event that may change that calls belay_pool_dispatch().
 *   4. The memory goes when nobody has a reference (`holds`), nothing is lent (`n_used`) and nobody waits (`n_waiting`).
 */
#pragma once

#include "run/line.h"
#include "scope/scope-private.h"

#define BELAY_POOL_HEADS   8
#define BELAY_POOL_BUCKETS_OF_KEYS 64
#define BELAY_POOL_PASSES  8 /* so often is passed over who waits for another key than that of what is returned */

typedef struct _BelaySlot      BelaySlot;
typedef struct _BelayPoolGroup BelayPoolGroup;
typedef struct _BelayPoolJob   BelayPoolJob;
typedef struct _BelayPoolFailure BelayPoolFailure;

typedef enum
{
  BELAY_SLOT_SPARE,
  BELAY_SLOT_OPENING,
  BELAY_SLOT_CHECKING,
  BELAY_SLOT_RETURNING,
  BELAY_SLOT_CLOSING,
  BELAY_SLOT_STUCK,
  BELAY_SLOT_IDLE,
  BELAY_SLOT_USED
} BelaySlotState;

typedef enum
{
  BELAY_POOL_RUNNING,
  BELAY_POOL_CLOSING,   /* waits for its users */
  BELAY_POOL_ABANDONED, /* the same, by force */
  BELAY_POOL_OVER       /* nothing is left */
} BelayPoolState;

/* How a turn ends, beside the outcomes of line.h. */
enum
{
  BELAY_POOL_TURN_FAILED = BELAY_TURN_OWN, /* `item` is a BelayPoolFailure */
  BELAY_POOL_TURN_LATE,                    /* the pool's own time for an acquire is up */
  BELAY_POOL_TURN_DEADLOCK,                /* it would wait for ever */
  BELAY_POOL_TURN_AGAIN,                   /* of a warmer: what it waits for may have become impossible */
  BELAY_POOL_TURN_ABANDONED
};

struct _BelaySlot
{
  BelayPlain      heads[BELAY_POOL_HEADS]; /* first: what leases point to */
  BelayPool      *pool;
  BelayPoolGroup *group;
  gpointer        resource;
  guint8          state;        /* BelaySlotState */
  guint8          reason;       /* BelayReason: of the return, then of the end */
  guint8          why;          /* CLOSING: the event that tells why; 0: none */
  guint8          broken;       /* USED: its holder says so */
  guint8          revoked;      /* USED: the pool was abandoned */
  guint8          forcing;      /* its resource is just being ended by force */
  guint8          freed_late;   /* it was returned meanwhile: who forces it frees it */
  guint8          told;         /* that it is held for long */
  guint8          overdue;      /* its job has been found to be out of time once */
  guint8          hope;         /* pool-deadlock.c's own, as the group's */
  guint           lends;        /* of the slot: which head is in force */
  guint           generation;   /* of the group, when the resource was made */
  guint64         n_uses;       /* of the resource */
  gint64          since;        /* USED, IDLE: from when on */
  gint64          fresh_until;  /* IDLE: may be lent without a look */
  gint64          expires;      /* the end of its lifetime */
  gint64          deadline;     /* of the job's step */
  BelayFiber     *holder;       /* USED: compared only, as it may have ended; NULL: not known */
  BelayTurn      *blocked;      /* USED: its holder waits for the pool, or has left the line and is not seen to yet */
  guint           interruptions; /* USED: of the holder, when it got it; the holder's own */
  const char     *site, *holder_site;
  BelaySlot      *older, *newer;             /* IDLE: of the pool's; the first is the oldest */
  BelaySlot      *older_of_key, *newer_of_key; /* the same, of the group's */
  BelayPoolJob   *job;
  BelaySlot      *next;         /* spare ones; or in a todo */
  BelaySlot      *next_of_all;
};

struct _BelayPoolGroup
{
  BelayPool      *pool;
  char           *key;          /* NULL: the pool's own */
  guint           hash;
  BelayPoolGroup *next;         /* in its bucket; or in a todo, when nothing needs it any more */
  BelayPoolGroup *prev_waiting, *next_waiting;
  BelaySlot      *newest, *oldest; /* idle */
  BelayLine       line;
  guint           n_turns;      /* in line, or out of it and not seen to yet */
  guint           n_slots;      /* not spare */
  guint           n_total;      /* that count */
  guint           n_coming;     /* OPENING, CHECKING */
  guint           n_ending;     /* CLOSING */
  guint           promised;     /* belay_pool_dispatch()'s own */
  guint           passed;       /* how often its first was passed over */
  guint           generation;
  guint8          waits;        /* it is in the list of those where somebody waits */
  guint8          hope;
};

/* What a turn in a group's line is of: `need` is its address, see belay_pool_wait_of(). */
typedef struct
{
  BelayPoolGroup *group;
  gsize           ticket; /* who came first has the smaller one; 0: has not come yet */
  gint64          begin;  /* of the first wait */
  const char     *site;
} BelayPoolWait;

struct _BelayPoolJob
{
  BelayPool *pool;      /* a hold */
  BelaySlot *slot;
  BelayTask *task;      /* an interest in its future */
  gboolean   ran;       /* home */
  gboolean   cancelled; /* the pool's lock */
};

/* What a function of the user's failed with: shared, since nothing is copied under the lock. */
struct _BelayPoolFailure
{
  atomic_int        refs;
  GError           *error;
  BelayPoolFailure *next; /* of those while the pool was closing */
};

struct _BelayPool
{
  BelayPlain       base;        /* first */
  atomic_int       refs;        /* all of them are one hold */
  BelayPoolOptions options;     /* times in µs, G_MAXINT64: for ever */
  gpointer         data;
  const char      *name, *site;
  BelayContext    *context;

  char             pad[64];
  atomic_flag      lock;        /* all below */
  guint8           state;       /* BelayPoolState */
  guint8           suspended;
  guint8           careful;     /* a return, or an acquire, is more than a change of counts */
  guint8           ages;        /* idle ones must be looked at */
  guint8           warm;        /* the minimum is kept */
  guint8           keyed;       /* there is, or was, another group than the own */
  guint            min, max, limit; /* with overflow */
  BelayPoolGroup   own;
  BelayPoolGroup **buckets;     /* NULL while there are no keys */
  BelayPoolGroup  *waiting;     /* where somebody is in line */
  BelaySlot       *oldest, *newest; /* idle */
  BelaySlot       *spare;
  BelaySlot       *slots;       /* all */
  guint            n_idle, n_used, n_opening, n_closing, n_stuck;
  guint            n_ending;    /* CLOSING, of n_closing */
  guint            n_slots;     /* all */
  guint            n_blocked;   /* slots that are */
  guint            n_waiting;   /* turns that have not been served, nor seen to after they left */
  guint            holds;
  gsize            ticket;      /* of who came last */
  guint            checked;     /* belay_pool_check()'s own: how many there were the last time */
  BelayLine        warmers;     /* who waits until so many are there */
  BelayLine        closers;
  gint64           refill_after, refill_delay;
  BelayPoolFailure *last_failure; /* of create */
  BelayPoolFailure *failures, **last_of_failures; /* to destroy, while it was closing */
  BelayFuture     *last_job;    /* kept while it says how it ended, which nobody asks */

  BelayTimer       timer;       /* home; a hold while it is armed */
  BelayItem        look;        /* to arm it, or take it off; a hold while it is queued */
  guint8           look_queued, timer_on;
  gint64           due;         /* when something must be looked at; G_MAXINT64: nothing */

  BelayPoolStats   stats;       /* the sums alone */
};

/* What is to be done when the lock has been left. Begin with { NULL }. */
typedef struct
{
  BelayTurn      *served;
  BelaySlot      *jobs, **last_job;
  BelayPoolGroup *dead;
  guint           n_needed; /* spare slots that there are not */
  guint8          look;     /* the timer must be set */
  guint8          over;     /* the pool has come to its end: tell */
  guint8          free;     /* nobody needs its memory any more */
} BelayPoolTodo;

extern const BelayPlainClass belay_lease_classes[BELAY_POOL_HEADS];

static inline gint64
belay_pool_later (gint64 when, gint64 time)
{
  return time >= G_MAXINT64 - when ? G_MAXINT64 : when + time;
}

static inline BelayPoolWait *
belay_pool_wait_of (BelayTurn *turn)
{
  return (BelayPoolWait *) (guintptr) turn->need;
}

static inline guint
belay_pool_total (BelayPool *self)
{
  return self->n_idle + self->n_used + self->n_opening + self->n_closing;
}

/* There may be no more of its key. */
static inline gboolean
belay_pool_group_is_full (BelayPoolGroup *group)
{
  guint max = group->pool->options.max_per_key;

  return max != 0 && group->n_total >= max;
}

static inline void
belay_slot_unblock (BelaySlot *slot)
{
  slot->blocked = NULL;
  slot->pool->n_blocked--;
}

/* The slot of a lease, and which of its heads that is. */
static inline BelaySlot *
belay_slot_of_lease (gpointer lease, guint *ret_head)
{
  gsize head = (gsize) (((BelayPlain *) lease)->klass - belay_lease_classes);

  *ret_head = (guint) head;
  return (BelaySlot *) ((BelayPlain *) lease - head);
}

/* The place of a time among a histogram's. */
static inline guint
belay_pool_bucket (gint64 time)
{
  guint64 ms = (guint64) MAX (time, 0) / 1000;

  return ms == 0 ? 0 : MIN (64 - (guint) __builtin_clzll (ms), BELAY_POOL_BUCKETS - 1);
}

static inline void
belay_pool_lock (BelayPool *self)
{
  belay_spin_lock (&self->lock);
}

/* --- pool.c --- */
BelayPoolFailure *belay_pool_failure_new (GError *error);
BelayPoolFailure *belay_pool_failure_ref (BelayPoolFailure *self);
void            belay_pool_failure_unref (BelayPoolFailure *self);
/* Leaves the lock, and does it. The pool may be gone afterwards, unless the caller has a hold. */
void            belay_pool_unlock       (BelayPool *self, BelayPoolTodo *todo);
/* Under the lock: a hold less. */
void            belay_pool_let_go       (BelayPool *self, BelayPoolTodo *todo);
/* Under no lock. */
void            belay_pool_tell         (BelayPool *self, BelayPoolEvent event, gpointer resource, const GError *error);
/* The group of a key, (transfer none), made when it is not there unless @must_exist; returns with the lock held. */
BelayPoolGroup *belay_pool_lock_group   (BelayPool *self, const char *key, gboolean must_exist);
/* Under the lock: it may have been the last that needed it. */
void            belay_pool_group_check  (BelayPoolGroup *group, BelayPoolTodo *todo);
/* Under the lock, in builds for debugging: invariant 2, and that the counts are right. */
void            belay_pool_check        (BelayPool *self);

/* --- pool-slot.c: under the lock, all of it --- */
BelaySlot      *belay_slot_take_spare   (BelayPool *self, BelayPoolGroup *group, BelayPoolTodo *todo);
void            belay_slot_to_spare     (BelaySlot *slot, BelayPoolTodo *todo);
/* From one of the job's states or USED, to another: the counts follow. */
void            belay_slot_set_state    (BelaySlot *slot, BelaySlotState state);
void            belay_slot_to_idle      (BelaySlot *slot, gint64 now, BelayPoolTodo *todo);
void            belay_slot_from_idle    (BelaySlot *slot, BelaySlotState state);
/* A job begins with it: the slot is in one of the job's states. */
void            belay_slot_start_job    (BelaySlot *slot, BelayPoolTodo *todo);
/* It is lent; returns the lease. */
gpointer        belay_slot_lend         (BelaySlot *slot, BelayFiber *fiber, const char *site, gint64 now, BelayPoolTodo *todo);
/* What is sound goes to who waits, or is idle, or must go. */
void            belay_slot_available    (BelaySlot *slot, gint64 now, BelayPoolTodo *todo);
/* Why it may be lent no more: an event, or 0. */
guint           belay_slot_why_old      (BelaySlot *slot, gint64 now);
/* It is destroyed, by a job that begins, or by the one that has it. */
void            belay_slot_close        (BelaySlot *slot, guint why, BelayReason reason, BelayPoolTodo *todo);

/* --- pool-dispatch.c: under the lock, all of it --- */
/* @wait: its group and its line in the program are set. Who was in line before has its place again. */
void            belay_pool_append       (BelayTurn *turn, BelayPoolWait *wait, gint64 now, BelayPoolTodo *todo);
void            belay_pool_serve        (BelayTurn *turn, int outcome, gpointer item, gint64 now, BelayPoolTodo *todo);
/* A turn has left its line by itself. */
void            belay_pool_left         (BelayTurn *turn, BelayPoolTodo *todo);
/* Sees to invariant 3. */
void            belay_pool_dispatch     (BelayPool *self, gint64 now, BelayPoolTodo *todo);
/* The ticket of the @n-th in a group's line, from 0. */
gsize           belay_pool_ticket_of    (BelayPoolGroup *group, guint n);
/* The group whose first has waited longest; NULL: nobody waits. */
BelayPoolGroup *belay_pool_first_group  (BelayPool *self);
/* Who waits until there are so many looks again. @failure (nullable): one could not be made. */
void            belay_pool_tell_warmers (BelayPool *self, BelayPoolFailure *failure, BelayPoolTodo *todo);
/* The maximum has changed: who waits for more looks again. */
void            belay_pool_recall_warmers (BelayPool *self, BelayPoolTodo *todo);

/* --- pool-deadlock.c: under the lock, all of it --- */
/* A fiber is in line: what it has is blocked. */
void            belay_pool_block        (BelayPool *self, BelayTurn *turn);
/* Its turn is seen to. */
void            belay_pool_unblock      (BelayPool *self, BelayTurn *turn);
/* Where something is blocked: who waits for ever is told. */
void            belay_pool_tell_deadlocks (BelayPool *self, gint64 now, BelayPoolTodo *todo);

/* --- pool-job.c --- */
/* Under no lock. */
void            belay_slot_run_job      (BelaySlot *slot);
/* Ends a resource by force and gives its memory back; FALSE: it can only be destroyed. Under no lock. */
gboolean        belay_pool_force        (BelayPool *self, gpointer resource);
void            belay_pool_free_resource (BelayPool *self, gpointer resource);
gboolean        belay_pool_can_force    (BelayPool *self);

/* --- pool-age.c --- */
/* Under the lock: something must be looked at then. */
void            belay_pool_look_at      (BelayPool *self, gint64 when, BelayPoolTodo *todo);
/* Under no lock: after todo->look. */
void            belay_pool_set_timer    (BelayPool *self);
void            belay_pool_age_init     (BelayPool *self);
/* Under no lock: when a new one's life will end. */
gint64          belay_pool_lifetime     (BelayPool *self, gint64 now);

/* --- pool-close.c --- */
/* Under the lock: a slot is spare again, or a lease was left. */
void            belay_pool_check_over   (BelayPool *self, BelayPoolTodo *todo);
/* Under no lock: a resource could not be destroyed; (transfer full) @error. */
void            belay_pool_fail_destroy (BelayPool *self, gpointer resource, GError *error);
/* Under the lock: asks jobs that make or check something to end; leaves the lock for that, and takes it again. */
void            belay_pool_cancel_jobs  (BelayPool *self);
/* (transfer full). */
GError         *belay_pool_closed_error (const char *name);
gboolean        belay_pool_verb_close   (gpointer self, BelayReason reason, GError **error);
void            belay_pool_verb_abandon (gpointer self);

/* --- pool-stats.c --- */
/* (transfer full): what an acquire that had no more time is told. */
GError         *belay_pool_late_error   (BelayPool *self, gint64 waited, const char *site);
/* (transfer full): the error of who would wait for ever. Under no lock. */
GError         *belay_pool_deadlock_error (BelayPool *self, const char *site);
void            belay_pool_describe_line (BelayLine *line, GString *text);
void            belay_pool_describe_closers (BelayLine *line, GString *text);
