/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One run queue and one source for each GMainContext. The essay is in context.c. */
#pragma once

#include "core/future-private.h"
#include "run/switch.h"

typedef struct _BelayContext BelayContext;
typedef struct _BelayFiber   BelayFiber;
typedef struct _BelayStack   BelayStack;
typedef struct _BelayItem    BelayItem;
typedef struct _BelayTimer   BelayTimer;

/* Something to run on a context. Lies in the memory of whoever queues it, and is in one queue at a time. */
struct _BelayItem
{
  BelayItem *next;
  void     (*run) (BelayItem *item); /* NULL: a fiber, to be resumed */
};

/* Something to be called at an instant of the clock, on the context's thread. */
struct _BelayTimer
{
  gint64 when;                      /* belay_now(), microseconds */
  guint  place;                     /* in the heap, from 1; 0: not armed */
  void (*fire) (BelayTimer *timer); /* not armed any more when called */
};

/* One nested run of the queue: fibers suspend to the innermost. On the dispatcher's stack. */
typedef struct _BelayLevel BelayLevel;
struct _BelayLevel
{
  BelayLevel *outer;
  BelayCoro   coro;
  BelayFiber *covered; /* the running fiber, once a main loop has begun to turn on its stack; see fiber.c */
  int         depth;   /* g_main_depth() when it was covered, and again when it is not any more */
};

/* In `remote`: nobody iterates the main context ever again. */
#define BELAY_CONTEXT_GONE ((BelayItem *) 1)

#define BELAY_SLICE 64 /* fibers that run between two looks at the clock */

/*
 * Where the resources that fibers took out of a future came from, for reports of those that cannot be closed. A later one
 * may take the place of an earlier: then nothing is known of that.
 */
typedef struct
{
  gpointer    resource;
  const char *site;
} BelayTaken;

#define BELAY_TAKEN 64

struct _BelayContext
{
  /* The home thread's (whoever iterates the GMainContext). */
  BelayItem   *head, *tail;   /* ready to run, first come first served */
  BelayFiber  *current;       /* NULL while none runs, or it is covered; read it by belay_fiber_self() */
  BelayLevel  *level;         /* NULL outside a dispatch */
  int          slice;         /* fibers that may still run in this slice */
  guint        n_slices;      /* so far; it may wrap */
  BelayStack  *warm;          /* stacks to use next, the warmest first */
  guint        n_warm;
  guint        n_stacks;      /* warm ones and those of fibers */
  BelayStack  *stacks;        /* these, see census.c */
  guint        colour;
  BelayTimer **timers;        /* a binary heap, from 1 */
  guint        n_timers, timers_size;
  atomic_uint  turns;         /* of the main loop; others look at it */
  gboolean     sit_out;       /* the budget was spent: others go first for one turn */
  gboolean     was_idle;      /* nothing was ready at the last prepare (virtual clock) */
  struct _BelaySchedule *schedule; /* NULL: first come, first served; else this chooses who is next, see schedule.c */
  guint        n_late;        /* items that wait for their while, see belay_context_push_late() */
  gpointer     limits;        /* spare limits, see limit.c */
  gpointer     detached;      /* the scope of what nobody owns, see scope/scope.c */
  int          n_detached;    /* fibers that no scope owns, such as scheduled releases: started here, less all that ended */

  BelayTaken   taken[BELAY_TAKEN]; /* by the resource's address */

  char         pad1[64];
  _Atomic (BelayItem *) remote; /* pushed by other threads, newest first; BELAY_CONTEXT_GONE for good in the end */
  atomic_int   sleeping;        /* the home thread is about to poll, or does */
  char         pad2[64];

  _Atomic (guint64) refs;     /* references, and above them the jobs on the workers whose results come here */
  atomic_int    n_detached_remote; /* such fibers that other threads started */
  atomic_flag   orphans_lock; /* this and the next three, which outlive what the context is used for */
  gboolean      runs_orphans;
  BelayItem    *orphans, *last_orphan;
  GPollFD       wake;         /* an eventfd: the descriptor is immutable, the rest the home thread's */
  GMainContext *main_context; /* weak; the key of `contexts`, under its lock */
  BelayContext *next;         /* among the spare ones, under the same */
};

/* The context of the caller's thread-default GMainContext, made when it is not there (borrowed). */
BelayContext *belay_context_get          (void);
BelayContext *belay_context_get_for_main (GMainContext *main_context);
BelayContext *belay_context_ref          (BelayContext *context);
void          belay_context_unref        (BelayContext *context);
/* Calls @func with each that has a main context, from any thread, under no lock; a new one may be missed. */
void          belay_contexts_foreach     (void (*func) (BelayContext *context, gpointer data), gpointer data);
/* A job on the workers, whose result comes here: a reference too. */
void          belay_context_add_job      (BelayContext *context);
void          belay_context_remove_job   (BelayContext *context);
/* From any thread. When the main context is gone, the item is run as an orphan: see context.c, invariant 5. */
void          belay_context_push_remote  (BelayContext *context, BelayItem *item);
/*
 * TRUE on a thread whose queue is being run, or that owns a main context with fibers; and where the thread's own
 * context (its thread-default one, on the main thread the global default) is run by nobody, though something is to be
 * done there.
 */
gboolean      belay_context_is_home      (void);

void          belay_timer_arm            (BelayContext *context, BelayTimer *timer, gint64 when);
void          belay_timer_disarm         (BelayContext *context, BelayTimer *timer);
/* Calls those whose time has come. */
void          belay_timers_fire          (BelayContext *context);

/* clock.c */
extern gboolean belay_clock_virtual;
void          belay_clock_set_virtual    (gboolean is_virtual);
/* Makes it virtual and says what the time is, though it be earlier: no timer may be armed. */
void          belay_clock_start        (gint64 when);
void          belay_clock_advance_to     (gint64 when);
/* Work outside the library that a virtual clock stands still for: 1 when it begins, -1 when it has ended. */
void          belay_clock_hold           (int n);
gboolean      belay_clock_is_held        (void);
/* Now or up to 20 ms later, never earlier; costs a fraction of reading the clock. */
gint64        belay_clock_after_now      (void);
/* The seed that new contexts choose by, 0 for none. */
extern guint32 belay_context_seed;

/* debug.c: BELAY_DEBUG, read once. */
void          belay_debug_init           (void);
extern gint64 belay_leaks_patience; /* µs that something may be held before it is told; G_MAXINT64: for ever */

/* At home: whether fibers that no scope owns are still there. */
static inline gboolean
belay_context_has_detached (BelayContext *context)
{
  return context->n_detached + atomic_load (&context->n_detached_remote) > 0;
}

static inline void
belay_context_push_local (BelayContext *context, BelayItem *item)
{
  item->next = NULL;
  if (context->head != NULL)
    context->tail->next = item;
  else
    context->head = item;
  context->tail = item;
}

static inline void
belay_context_push (BelayContext *context, BelayItem *item)
{
  if (G_LIKELY (belay_thread.context == context))
    belay_context_push_local (context, item);
  else
    belay_context_push_remote (context, item);
}

#define BELAY_CONTEXT_JOB ((guint64) 1 << 32)

static inline gboolean
belay_context_has_jobs (BelayContext *context)
{
  return atomic_load_explicit (&context->refs, memory_order_relaxed) >= BELAY_CONTEXT_JOB;
}

BelayItem *belay_context_pop_chosen (BelayContext *context);
/* At home, while nothing runs: (transfer full). */
void       belay_context_set_schedule (BelayContext *context, struct _BelaySchedule *schedule);
/* Where more than one thing may happen, which: 0, the usual, or under a schedule one of 0 to n - 1. */
guint      belay_chance            (guint n);
/* At home: queues it in some while. Only under a schedule. */
void       belay_context_push_late (BelayContext *context, BelayItem *item);

/* From any thread: an item that runs then is an orphan, and only gives back what it holds. */
static inline gboolean
belay_context_is_gone (BelayContext *context)
{
  return atomic_load_explicit (&context->remote, memory_order_acquire) == BELAY_CONTEXT_GONE;
}

/* (transfer full): what the outcome of an orphan is. */
GError    *belay_context_gone_error (void);

/* TRUE when something is queued. On the home thread. */
static inline gboolean
belay_context_has_items (BelayContext *context)
{
  return context->head != NULL || atomic_load_explicit (&context->remote, memory_order_acquire) != NULL;
}

static inline BelayItem *
belay_context_pop (BelayContext *context)
{
  BelayItem *item = context->head;

  if (G_UNLIKELY (item == NULL))
    return NULL;
  if (G_UNLIKELY (context->schedule != NULL))
    return belay_context_pop_chosen (context);
  context->head = item->next;
  return item;
}
