/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lines: who waits for something to be handed over, first come, first served. See line.c. */
#pragma once

#include "run/fiber.h"
#include "run/spin.h"

typedef struct _BelayTurn      BelayTurn;
typedef struct _BelayLine      BelayLine;
typedef struct _BelayLineClass BelayLineClass;
typedef struct _BelayChoice    BelayChoice;

/* How a turn ended; a line's owner has codes of its own from BELAY_TURN_OWN on. */
enum
{
  BELAY_TURN_WAITS,  /* not yet, or it left the line */
  BELAY_TURN_SERVED, /* it has what it waited for */
  BELAY_TURN_CLOSED, /* what it waited for was closed */
  BELAY_TURN_BROKEN, /* who was to hand it over has ended without */
  BELAY_TURN_OWN
};

/* What a line is of. Static. */
struct _BelayLineClass
{
  const char *what;                                        /* "a permit of a semaphore": what a deadlock's report says */
  void      (*describe) (BelayLine *line, GString *text);  /* (nullable): adds who has it; at the home of who waits */
};

/* The owner's lock guards all of it. */
struct _BelayLine
{
  const BelayLineClass *klass;
  BelayTurn            *first, *last;
  guint                 n;
};

/* Of a turn that stands in several lines: it is served once, by who claims it. */
struct _BelayChoice
{
  _Atomic (BelayTurn *) claimed;
};

/* One who waits: on its fiber's stack, or of a promise, then in a block of its own. */
struct _BelayTurn
{
  BelayTurn    *prev, *next;
  BelayLine    *line;    /* where it stands; NULL: nowhere (any more) */
  BelayFiber   *fiber;   /* or NULL: then it is the first member of a BelayAsyncTurn */
  BelayChoice  *choice;  /* (nullable) */
  gint64        need;    /* this and the next: the owner's */
  gpointer      item;
  int           outcome;
};

typedef struct _BelayAsyncTurn BelayAsyncTurn;
struct _BelayAsyncTurn
{
  BelayTurn     turn;    /* first */
  BelayPromise *promise;
  atomic_int    refs;    /* the line's, or of whoever took it out; and the promise's */
  atomic_flag  *lock;    /* the owner's */
  gpointer      owner;   /* a reference */
  BelayLoan     loan;    /* of `item`, see belay_async_turn_lend() */
  const struct _BelayAsyncClass *klass;
};

/* What is done for turns of promises. Static. */
typedef struct _BelayAsyncClass BelayAsyncClass;
struct _BelayAsyncClass
{
  gpointer (*ref)    (gpointer owner);
  void     (*unref)  (gpointer owner);
  /* Answers turn->promise by `outcome`; under no lock. The promise's reference is the caller's. */
  void     (*answer) (BelayAsyncTurn *turn);
  /* (nullable): nobody wants it any more, and it has left the line; under no lock. It frees `item`, tells those behind. */
  void     (*left)   (BelayAsyncTurn *turn);
  /* (nullable): nobody took @item, which was lent; under no lock. */
  void     (*back)   (BelayAsyncTurn *turn, gpointer item);
};

static inline void
belay_line_init (BelayLine *line, const BelayLineClass *klass)
{
  line->klass = klass;
  line->first = line->last = NULL;
  line->n = 0;
}

static inline gboolean
belay_line_is_empty (BelayLine *line)
{
  return line->first == NULL;
}

/* Under the owner's lock: to the end; takes the turn out, wherever it stands. */
void        belay_line_append  (BelayLine *line, BelayTurn *turn);
/* The same, in front of @before, or at the end when that is NULL. */
void        belay_line_insert  (BelayLine *line, BelayTurn *turn, BelayTurn *before);
void        belay_line_remove  (BelayTurn *turn);
/*
 * Under the owner's lock: takes @turn out, as served with @outcome, and puts it at the front of @served, which
 * belay_turns_wake() is given when the lock has been left. FALSE: it stood in several lines, and was served in another; it is out.
 */
gboolean    belay_line_serve   (BelayTurn *turn, int outcome, BelayTurn **served);
/* The same for all, in their order. */
void        belay_line_serve_all (BelayLine *line, int outcome, BelayTurn **served);
/* Under no lock: wakes them, those that were served first first. Their memory may be gone afterwards. */
void        belay_turns_wake   (BelayTurn *served);

/* Before belay_line_append(): the turn of a fiber, on its stack. */
static inline void
belay_turn_init (BelayTurn *turn, BelayFiber *fiber)
{
  turn->line = NULL;
  turn->fiber = fiber;
  turn->choice = NULL;
  turn->need = 0;
  turn->item = NULL;
  turn->outcome = BELAY_TURN_WAITS;
}

/*
 * The fiber is about to get in line: before its turn can be served, so before it is appended. A fiber that was prepared and then
 * need not wait does nothing more.
 */
static inline void
belay_turn_prepare (BelayTurn *turn, BelayLine *line, const char *site)
{
  turn->outcome = BELAY_TURN_WAITS;
  turn->fiber->stack->fired = FALSE;
  belay_stack_set_wait (turn->fiber->stack, BELAY_WAITS_IN_LINE, line, site);
}

/*
 * Under no lock: waits until it is served, TRUE; or interrupted, FALSE: then it has left the line. The caller tells those behind
 * it, if that changes anything for them, and asks belay_limit_check() whether to fail or to get in line again. What was served and
 * interrupted at one time is served.
 */
gboolean    belay_turn_wait    (BelayTurn *turn, atomic_flag *lock);
/* The same, deaf to all interruptions: until it is served. */
void        belay_turn_wait_deaf (BelayTurn *turn);

/*
 * A turn for a new promise, not in line yet; @ret_future gets its future. @lock is the owner's. The caller appends it, or serves it at
 * once by belay_async_turn_answer().
 */
BelayTurn  *belay_async_turn_new (gpointer owner, atomic_flag *lock, const BelayAsyncClass *klass, BelayFuture **ret_future);
/* Under no lock: one that stands in no line ends with @outcome. */
void        belay_async_turn_answer (BelayTurn *turn, int outcome);

/*
 * In `answer`: answers the promise with `item`, which is not NULL. If its future is dropped and nobody has taken it, at whatever instant,
 * `back` is called, which the turn lives to see.
 */
void        belay_async_turn_lend   (BelayAsyncTurn *turn);

/*
 * Of a fiber that stands in several lines: waits until one of its turns is served, and returns that; NULL when it is interrupted, then none
 * of them is served any more. The caller takes the others out of their lines, each under its owner's lock.
 */
BelayTurn  *belay_choice_wait       (BelayChoice *choice, BelayFiber *fiber);

/*
 * Drops a reference to an owner that is kept alive by what is out of it, too. TRUE: it was the last, and the owner's lock is held: the caller
 * looks whether anything is out, and unlocks. The number becomes none under the lock alone, so who gives the last thing back looks at
 * it there; and who has something out may take a reference again. FALSE: the owner may have gone.
 */
static inline gboolean
belay_owner_unref (atomic_int *refs, atomic_flag *lock)
{
  int n = atomic_load_explicit (refs, memory_order_relaxed);

  while (n > 1)
    if (atomic_compare_exchange_weak_explicit (refs, &n, n - 1, memory_order_acq_rel, memory_order_relaxed))
      return FALSE;
  belay_spin_lock (lock);
  if (atomic_fetch_sub_explicit (refs, 1, memory_order_acq_rel) == 1)
    return TRUE;
  belay_spin_unlock (lock);
  return FALSE;
}

/* Under the owner's lock: there is no reference. */
static inline gboolean
belay_owner_is_orphan (atomic_int *refs)
{
  return atomic_load_explicit (refs, memory_order_acquire) == 0;
}

/*
 * The last reference to an owner has gone: TRUE, its memory may be freed. Somebody waits there still, which is a mistake of the program,
 * since they need references of their own: they get BELAY_TURN_BROKEN, it is reported, and the memory stays for ever.
 */
gboolean    belay_lines_end    (gpointer owner, const char *name, atomic_flag *lock, BelayLine **lines, guint n_lines);
/* The same, told by an owner that serves its lines itself: reports it, and the memory stays. */
void        belay_owner_bury   (gpointer owner, const char *name);
