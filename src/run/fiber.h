/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fibers, their stacks, and the limits (cancellation, deadline) that they observe. */
#pragma once

#include "run/context.h"
#include "run/pending.h"

typedef struct _BelayLimit BelayLimit;
typedef struct _BelayHeld  BelayHeld;
typedef struct _BelayOwned BelayOwned;

/*
 * A limit: what a checkpoint obeys. Scopes, time-outs, shields and the roots of fibers are limits, linked outwards from
 * the innermost. See limit.c.
 */
struct _BelayLimit
{
  const BelayPlainClass *klass;  /* of a time-out or shield, which are guards */
  BelayLimit  *outer;
  BelayFiber  *fiber;            /* whose stack it is on; NULL: a stored scope's */
  _Atomic (gint64) deadline;     /* its own; G_MAXINT64: none */
  gint64       allowance;        /* µs from the first checkpoint inside, which makes it the deadline; G_MAXINT64: none */
  _Atomic (char *) reason;       /* why it was cancelled */
  void       (*expired) (BelayLimit *limit); /* called when a checkpoint first finds its time up; may be NULL */
  _Atomic (guint8) cancelled;    /* TRUE, or BELAY_CANCELLED_LATE */
  guint8       shield;           /* nothing from outside is observed */
  guint8       observed;         /* a BelayReason that a checkpoint stopped at this limit for, else 0 */
  guint8       owns;             /* fibers spawned inside are its own: a release's, or BELAY_OWNS_COMMIT */
  guint        saved_epoch;
  gint64       saved_deadline;   /* the fiber's, before the push */
  gpointer     scope;            /* what it owns, made when it is needed */
};

/* In `owns`: a commit's, which no deadline ends, that of the program's end neither. */
#define BELAY_OWNS_COMMIT 2

/* In `cancelled`: for no other reason than that the time of what is around it was up. */
#define BELAY_CANCELLED_LATE 2

/* In `mark` of a fiber's future: cancelled before it started. */
#define BELAY_FIBER_STILLBORN 1

struct _BelayFiber
{
  BelayFuture   future;  /* the result; the block begins with it */
  BelayItem     item;
  BelayContext *context;
  BelayStack   *stack;   /* from the first run to the end */
  BelayLimit   *outer;   /* what its root limit is inside of; lives longer than the fiber */
  void        (*entry) (BelayFiber *self);
  void        (*poked) (BelayFiber *self); /* after its limits changed; may be NULL */
  const char   *site;
};

enum { BELAY_WAIT_NONE, BELAY_WAIT_DEAF, BELAY_WAIT_INTERRUPTIBLE };

/* What a fiber waits for, as the census tells it; beside each what `wait_object` is then. */
enum
{
  BELAY_WAITS_FOR_TIME,     /* NULL */
  BELAY_WAITS_FOR_FUTURE,   /* the BelayFuture */
  BELAY_WAITS_FOR_CHILDREN, /* the BelayScope that it closes */
  BELAY_WAITS_IN_LINE,      /* the BelayLine, see line.h */
  BELAY_WAITS_FOR_BODY      /* the BelayManager whose body runs */
};

/*
 * What a fiber needs while it runs. At the top of its stack, so an unstarted fiber costs its record alone; what each
 * switch and checkpoint touches is in the first cache line.
 */
struct _BelayStack
{
  BelayCoro    coro;
  BelayFiber  *fiber;
  BelayLimit  *limit;           /* the innermost */
  gint64       deadline;        /* the effective one, as of `epoch` */
  guint        epoch;           /* when all limits were last found not cancelled */
  guint8       wait;
  guint8       fired;           /* what was waited for has come */
  guint8       observed;        /* some limit has its `observed` set */
  guint8       timed;           /* the timer may be armed */
  guint8       allowed;         /* some limit has an allowance that has not begun */
  guint8       holds;           /* `attached` is not NULL */
  guint8       wait_kind;       /* what it waits for, or did the last time: this, `wait_object`, and at which line */
  gpointer     scope;           /* the fiber's own BelayScope, made when it is needed */
  BelayContext *context;
  BelayLimit   root;            /* as new while no fiber has the stack */
  BelayWaiter  waiter;
  BelayTimer   timer;
  BelayItem    fired_item;      /* when it came from another thread */
  const char  *wait_site;
  gpointer     wait_object;
  BelayStack  *next;            /* in the pool */
  guint64      priority;        /* under a schedule */
  BelayStack  *prev_of_all, *next_of_all; /* of the context, see census.c */
  char        *base;            /* lowest usable address, above the guard page */
  gsize        size;            /* from there up, this included */
  guint        valgrind_id;
  guint        interruptions;   /* how many were observed on it, since it was made */
  BelayHeld   *attached;        /* to failures that the fiber was told of, newest first */
  BelayOwned  *owned;           /* the locks that it has, newest first; see owned.h */
};

#define BELAY_WARM_STACKS 16384 /* kept for the next fibers: 64 MiB */

/* Says, before a wait, what it is for. */
static inline void
belay_stack_set_wait (BelayStack *stack, guint8 kind, gpointer object, const char *site)
{
  stack->wait_kind = kind;
  stack->wait_object = object;
  stack->wait_site = site;
}

/* --- census.c --- */
typedef void (*BelayFiberFunc) (BelayFiber *fiber, gpointer data);
/* At home: each fiber that has begun and not ended; and those of them that wait. @func must not run, start or end one. */
void        belay_census_foreach         (BelayContext *context, BelayFiberFunc func, gpointer data);
void        belay_census_foreach_waiting (BelayContext *context, BelayFiberFunc func, gpointer data);
/* Of the stacks that a census goes through. */
void        belay_census_add             (BelayStack *stack);
void        belay_census_remove          (BelayStack *stack);

/* --- stack.c --- */
BelayStack *belay_stack_get    (BelayContext *context);
/* What does not change while a stack lives; called once for each. */
void        belay_stack_prepare (BelayStack *stack);
void        belay_stacks_trim  (BelayContext *context, guint max);
void        belay_stacks_free  (BelayContext *context);

/* --- fiber.c --- */
/* Sets the record up, with one interest, the caller's, and the writing end, the entry's. The caller queues the item. */
void        belay_fiber_init   (BelayFiber *self, BelayContext *context, BelayLimit *outer, void (*entry) (BelayFiber *),
                                const char *site);
/* From a context's dispatch: runs it until it suspends or ends. */
void        belay_fiber_resume (BelayContext *context, BelayItem *item);
/* An item of a context that is gone: one that has not started fails, any other stays suspended. */
void        belay_fiber_orphaned (BelayItem *item);
/* Suspends until fired, or, when interruptible, until an interruption may be there. */
void        belay_fiber_suspend (BelayFiber *self, guint8 wait, gint64 until);
/* On the home thread: ends its wait, whatever it is for. */
void        belay_fiber_wake   (BelayFiber *self);
/* What was waited for has come: from any thread, once for each wait. */
void        belay_fiber_fire   (BelayFiber *self);
/* Waits for the outcome, not consumed. FALSE: interrupted, error set. */
gboolean    belay_fiber_await  (BelayFiber *self, BelayFuture *future, const char *site, GError **error);
/* The same, deaf to cancellation and deadlines. */
void        belay_fiber_await_deaf (BelayFiber *self, BelayFuture *future, const char *site);

/* A main loop turns on this thread: what else it dispatches is in no fiber, though it be on the stack of one. */
void        belay_fiber_cover  (void);
/* Nobody is current: the fiber that was covered, when the loop on its stack has ended, is again. Else NULL. */
BelayFiber *belay_fiber_uncover (void);

/* The fiber that is calling; NULL on plain threads, and in callbacks. */
static inline BelayFiber *
belay_fiber_self (void)
{
  BelayFiber *self = *belay_thread.current;

  return G_LIKELY (self != NULL) ? self : belay_fiber_uncover ();
}

/* --- attached.c --- */
/* An await of @future has failed, with @error where the caller asked for it. */
void        belay_attached_note    (BelayFiber *fiber, BelayFuture *future, GError *error);
/* The fiber is told of @top, whose message says how many there are. (transfer full) (nullable) @errors. */
void        belay_attached_hold    (BelayFiber *fiber, const GError *top, BelayErrors *errors);
/* The fiber is told of a failure: what is held for another is not the newest any more. */
void        belay_attached_told    (BelayFiber *fiber, const GError *failure);
/* What is attached to @top, (transfer full) (nullable); the fiber has it no more. */
BelayErrors *belay_attached_take   (BelayFiber *fiber, const GError *top);
/* Attaches (transfer full) @error, and what is held for that, to @top, which the fiber is told of. */
void        belay_attached_add     (BelayFiber *fiber, GError *top, GError *error, const char *site);
/* The release of @limit is over: the same as take for its failure, if any; what else it held is forgotten. */
BelayErrors *belay_attached_leave  (BelayFiber *fiber, BelayLimit *limit, const GError *failure);
/* A time-out inside of the fiber has passed, and is left. If an error of another kind is what comes of it, it is attached. */
void        belay_attached_add_late (BelayFiber *fiber, const char *site);
/* Something is tried again: one that passed before has nothing to do with what comes of that. */
void        belay_attached_forget_late (BelayFiber *fiber);
/* The end of the fiber, with @error or NULL: what is to be handed on. Nothing is held any more. */
BelayErrors *belay_attached_end    (BelayFiber *fiber, const GError *error);

/* --- interrupt.c --- */
/* From any thread, holding a reference: its limits have changed, so its wait may be over. */
void        belay_fiber_poke   (BelayFiber *self);
/* At home: its limits have changed, so its wait may be over. */
void        belay_fiber_recheck (BelayFiber *self);
/* From any thread, holding a reference: cancels the fiber alone. One that has not started never runs its function. */
void        belay_fiber_cancel (BelayFiber *self, const char *reason);
/* NULL, or a rejected future when the calling fiber is cancelled or past its deadline: then nothing may start. */
BelayFuture *belay_fiber_refuse (void);

/* --- limit.c --- */
extern atomic_uint belay_limit_epoch; /* counts cancellations and changes of deadlines, in the whole program */

static inline void
belay_limit_init (BelayLimit *limit)
{
  limit->klass = NULL;
  limit->outer = NULL;
  limit->fiber = NULL;
  atomic_init (&limit->deadline, G_MAXINT64);
  limit->allowance = G_MAXINT64;
  atomic_init (&limit->reason, NULL);
  limit->expired = NULL;
  atomic_init (&limit->cancelled, FALSE);
  limit->shield = FALSE;
  limit->observed = 0;
  limit->owns = FALSE;
  limit->scope = NULL;
}

static inline void
belay_limit_clear (BelayLimit *limit)
{
  char *reason = atomic_load_explicit (&limit->reason, memory_order_acquire);

  if (G_UNLIKELY (reason != NULL))
    g_free (reason);
}

/* Makes it the innermost of a running fiber; the caller fills deadline and shield first. */
void        belay_limit_push      (BelayFiber *fiber, BelayLimit *limit);
/* Takes it out, innermost or not. */
void        belay_limit_pop       (BelayFiber *fiber, BelayLimit *limit);
/* TRUE when this call was the first to cancel. */
gboolean    belay_limit_cancel    (BelayLimit *limit, const char *reason);
/* The same with what `cancelled` is to be. */
gboolean    belay_limit_cancel_as (BelayLimit *limit, guint8 cancelled, const char *reason);
gboolean    belay_limit_check_slow (BelayFiber *fiber, const char *site, GError **error);
/* The fiber is about to suspend, or at a checkpoint: allowances begin. */
void        belay_limit_begin_allowances (BelayFiber *fiber);
/*
 * The next limit outwards that counts for what is inside of @limit. Past a user's shield, from where *@inout_shielded is
 * TRUE, that is the release around it, and of that only the time counts.
 */
BelayLimit *belay_limit_next      (BelayLimit *limit, gboolean *inout_shielded);
/* Whether an interruptible wait of the fiber must end now; brings its effective deadline up to date. */
gboolean    belay_limit_interrupts (BelayFiber *fiber);
/* The same, by the fiber itself, before it knows whether its wait will fail: a release whose time is up is told now. */
gboolean    belay_limit_notice     (BelayFiber *fiber);
/* The release that the fiber is in, by itself or as a child; NULL: in none. */
BelayLimit *belay_limit_release_around (BelayFiber *fiber);
/* What checkpoints remember of deadlines is no longer so. */
void        belay_limit_advance_epoch (void);
/* When the release must be over that the fiber is in, by itself or as a child; G_MAXINT64: never, or there is none. */
gint64      belay_limit_release_deadline (BelayFiber *fiber);
/* The least deadline that is effective for the running fiber; G_MAXINT64: there is none. */
gint64      belay_limit_deadline   (BelayFiber *fiber);
/* What a checkpoint inside of @limit, and of nothing further in, would be stopped by: OK, CANCELLED or DEADLINE. At home. */
BelayReason belay_limit_pending    (BelayLimit *limit);
/* TRUE when that time has come; a release of the fiber's own is told. */
gboolean    belay_limit_expire_release (BelayFiber *fiber);
/* The caller pokes the fibers inside. */
void        belay_limit_set_deadline (BelayLimit *limit, gint64 deadline);
/* TRUE when the limit or what is outside of it is cancelled. From any thread. */
gboolean    belay_limit_is_cancelled (BelayLimit *limit);
/* The reason that a guard left now, inside @limit and what is around it, gets. */
BelayReason belay_limit_reason    (BelayFiber *fiber);
void        belay_limits_free     (BelayContext *context);
BelayLimit *belay_limit_alloc     (BelayContext *context);
void        belay_limit_free      (BelayContext *context, BelayLimit *limit);

static inline gboolean
belay_limit_check (BelayFiber *fiber, const char *site, GError **error)
{
  if (G_LIKELY (fiber->stack->epoch == atomic_load_explicit (&belay_limit_epoch, memory_order_acquire) &&
                fiber->stack->deadline == G_MAXINT64))
    return TRUE;
  return belay_limit_check_slow (fiber, site, error);
}

/*
 * For tests: called at each checkpoint of any fiber, before that looks, with its line where that is known; it may cancel
 * or expire what it likes. NULL: none. Set while no fiber runs on another thread.
 */
typedef void (*BelayProbeFunc) (BelayFiber *fiber, const char *site, gpointer data);
void        belay_limit_set_probe (BelayProbeFunc func, gpointer data);

/* The slow part of a check before something starts that is not waited for here: a shield hides all from that. */
gboolean    belay_limit_may_start (BelayFiber *fiber, GError **error);

/* --- worker.c --- */
/* Something to do on a worker. */
typedef struct _BelayWork BelayWork;
struct _BelayWork
{
  BelayWork *next;
  void     (*work) (BelayWork *work);
};
void        belay_workers_submit      (BelayWork *work);
/* The caller is about to sleep: work that no worker has taken up yet gets one. TRUE: the caller should soon ask again. */
gboolean    belay_workers_before_poll (void);
/* Around a sleep that work may be needed to end; on a thread that is no worker they do nothing. */
void        belay_workers_begin_wait  (void);
void        belay_workers_end_wait    (void);
/* TRUE when jobs have lately been so short that waiting for one is best done awake. */
gboolean    belay_workers_are_quick   (void);

/* --- what an await does with resources: set by the floor above, when the library is loaded --- */
/* By this a future that holds a resource destroys it, and so is known as such. */
extern GDestroyNotify belay_taken_destroy;
/* It is held from now on: for BELAY_UNUSUAL_LEAKS alone. */
extern void (*belay_taken_hold) (gpointer resource, const char *site);

/* At home: the place of a resource in the table of where they came from. */
static inline BelayTaken *
belay_taken_place (BelayContext *context, gpointer resource)
{
  return &context->taken[((guintptr) resource >> 4 ^ (guintptr) resource >> 11) % BELAY_TAKEN];
}

/* --- hurry.c --- */
/* The end of the program is near: an instant after which no release goes on, in the whole program; G_MAXINT64: none. */
extern _Atomic (gint64) belay_hurry_instant;
/* From any thread: releases that are under way, or begin, have until then; G_MAXINT64 takes that back for what begins. */
void        belay_hurry               (gint64 instant);
