/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the library itself knows of futures. The essay is in future.c. */
#pragma once

#include "core/sanitizer.h"

#include <belay/belay.h>
#include <stdatomic.h>

#ifdef BELAY_WITH_TSAN
# include "core/tsan.h"
#endif

typedef struct _BelayWaiter BelayWaiter;
typedef struct _BelayLoan   BelayLoan;

/* Somebody to be told once that an outcome is known. Lies in the memory of whoever waits. */
struct _BelayWaiter
{
  BelayWaiter *next; /* the future's lock bit, then the notifier */
  BelayWaiter *prev;
  void       (*notify) (BelayWaiter *waiter); /* by the resolver's thread, under no lock; may free the waiter */
  BelayFuture *wrapper; /* what is made of the future, and has a writing end as long as the waiter is linked; or NULL */
};

typedef enum
{
  BELAY_KIND_DONE,
  BELAY_KIND_INT64,
  BELAY_KIND_DOUBLE,
  BELAY_KIND_POINTER, /* taken once; aux.destroy */
  BELAY_KIND_LOAN,    /* the same, but where nobody takes it, it goes back to where it came from; aux.loan */
  BELAY_KIND_OBJECT,
  BELAY_KIND_BOXED,   /* aux.type */
  BELAY_KIND_MEMBERS, /* a BelayMembers, see combine.c; aux.destroy */
  BELAY_KIND_ERROR    /* aux.errors */
} BelayKind;

typedef union
{
  gint64   i;
  double   d;
  gpointer p;
  GError  *error;
} BelayValue;

/* What is told, once, how a pointer ended that was on loan: @value comes back, or NULL: somebody took it. Under no lock. */
struct _BelayLoan
{
  void (*end) (BelayLoan *loan, gpointer value);
};

typedef union
{
  GDestroyNotify destroy;
  BelayLoan     *loan;
  GType          type;
  BelayErrors   *errors; /* what is attached to an error; NULL: nothing */
} BelayAux;

enum
{
  BELAY_FUTURE_TAKEN     = 1 << 0, /* the pointer has been taken */
  BELAY_FUTURE_SEEN      = 1 << 1, /* somebody has looked at the error */
  BELAY_FUTURE_BORROWING = 1 << 2, /* set before it is given out */
  BELAY_FUTURE_ASKED     = 1 << 3, /* on_cancel is the asker's, who destroys its data */
  BELAY_FUTURE_CLOSED    = 1 << 4, /* there is an outcome: whoever asks now is too late */
  BELAY_FUTURE_WRAPPING  = 1 << 5, /* made from other futures that may borrow, or will; set before it is given out */
  BELAY_FUTURE_JOINED    = 1 << 6, /* a spawned fiber's: a loser's end is waited for; set before it is given out */
  BELAY_FUTURE_KEPT      = 1 << 7  /* and it goes on when its future is merely dropped */
};

struct _BelayFuture
{
  _Atomic (guintptr) state;   /* status | lock bit | first waiter */
  _Atomic (gint64)   refs;    /* interests + BELAY_DEAF_UNIT for each deaf reader + BELAY_PROMISE_UNIT for each writing end */
  guint8             block;   /* how its memory was got, for belay_block_free() */
  guint8             kind;    /* kind, value and aux: the lock bit, then immutable once settled */
  atomic_uchar       flags;
  guint8             mark;    /* whoever embeds it has this byte */
  BelayValue         value;
  BelayAux           aux;
  BelayCancelFunc    on_cancel; /* this and the next two: set before it is given out */
  gpointer           cancel_data;
  GDestroyNotify     cancel_destroy; /* not set where on_cancel is NULL */
};
G_STATIC_ASSERT (sizeof (BelayFuture) <= 64); /* a cache line, and the smallest block */

#define BELAY_DEAF_UNIT     ((gint64) 1 << 22)
#define BELAY_PROMISE_UNIT  ((gint64) 1 << 44)
#define BELAY_INTEREST_MASK (BELAY_DEAF_UNIT - 1)
#define BELAY_READER_MASK   (BELAY_PROMISE_UNIT - 1)

#define BELAY_STATE_PENDING  ((guintptr) 0)
#define BELAY_STATE_RESOLVED ((guintptr) 1)
#define BELAY_STATE_REJECTED ((guintptr) 2)
#define BELAY_STATE_STATUS   ((guintptr) 3)
#define BELAY_STATE_LOCK     ((guintptr) 4)
#define BELAY_STATE_WAITERS  (~(guintptr) 7)

/* What is being done by this thread and must not be done by recursion. On the stack of whoever does it. */
typedef struct _BelayNotices BelayNotices; /* future.c */
typedef struct _BelayQuestions BelayQuestions;
typedef struct _BelayMembers BelayMembers; /* combine.c */

/*
 * This thread's part. Initial-exec: an access is one instruction, but never keep its address over a switch. A nested
 * dispatch begins with a part of its own.
 */
typedef struct
{
  struct _BelayContext *context; /* whose queue this thread is running */
  struct _BelayFiber  **current; /* where the running fiber is found: in the context, or belay_no_fiber */
  BelayNotices         *notices;
  BelayQuestions       *questions;
  BelayMembers        **members;
} BelayThread;
extern __thread BelayThread belay_thread __attribute__ ((tls_model ("initial-exec")));
extern struct _BelayFiber *belay_no_fiber; /* always NULL */

/* What is not as usual; see unusual.c. 0 in most programs. */
enum
{
  BELAY_UNUSUAL_FORKED = 1 << 0, /* this is a forked child: nothing of the parent's may be touched */
  BELAY_UNUSUAL_LEAKS  = 1 << 1, /* what is held is written down */
  BELAY_UNUSUAL_STRICT = 1 << 2  /* what leaves something behind ends the process */
};
extern guint belay_unusual;
/* Before anything is begun. */
void belay_unusual_init (void);
/* FALSE and an error in a forked child. */
gboolean belay_fail_forked (const char *what, GError **error);
/* In a forked child, what has run on the parent's behalf has returned: there is nowhere to go back to. */
void belay_end_forked (const char *what) G_GNUC_NORETURN;

/* After it was told: ends the process where that is asked for. */
void belay_strict_end (const char *what);

static inline gboolean
belay_forked (void)
{
  return G_UNLIKELY ((belay_unusual & BELAY_UNUSUAL_FORKED) != 0);
}

/*
 * Around calls of functions that must not wait, since this thread is in the middle of something: they run as outside
 * of a fiber, so that a wait is refused and guards schedule their release.
 */
static inline struct _BelayFiber **
belay_leave_fiber (void)
{
  struct _BelayFiber **current = belay_thread.current;

  belay_thread.current = &belay_no_fiber;
  return current;
}

static inline void
belay_reenter_fiber (struct _BelayFiber **current)
{
  belay_thread.current = current;
}

/* A block that begins with a future, and is freed with it. */
#define belay_future_block_new(Type) ((Type *) belay_block_new (sizeof (Type)))

/* Sets up a future in a block; its memory is the block's. */
static inline void
belay_future_init (BelayFuture *future, gint64 refs)
{
  atomic_init (&future->state, BELAY_STATE_PENDING);
  atomic_init (&future->refs, refs);
  future->kind = BELAY_KIND_DONE;
  atomic_init (&future->flags, 0);
  future->mark = 0;
  future->on_cancel = NULL;
}

/* For those who embed a future. @destroy may be NULL where @data is the block, which lives as long as @func runs. */
static inline void
belay_future_on_cancel (BelayFuture *future, BelayCancelFunc func, gpointer data, GDestroyNotify destroy)
{
  future->on_cancel = func;
  future->cancel_data = data;
  future->cancel_destroy = destroy;
}

static inline guintptr
belay_future_status (BelayFuture *future)
{
  return atomic_load_explicit (&future->state, memory_order_acquire) & BELAY_STATE_STATUS;
}

static inline void
belay_future_add_flag (BelayFuture *future, guint flag)
{
  if ((atomic_load_explicit (&future->flags, memory_order_relaxed) & flag) == 0)
    atomic_fetch_or_explicit (&future->flags, flag, memory_order_relaxed);
}

/* Somebody will read the outcome, deaf or not. */
static inline gboolean
belay_future_has_interest (BelayFuture *future)
{
  return (atomic_load_explicit (&future->refs, memory_order_acquire) & BELAY_READER_MASK) != 0;
}

/* Whether the work behind it uses memory of whoever waits. */
static inline gboolean
belay_future_is_borrowing (BelayFuture *future)
{
  return (atomic_load_explicit (&future->flags, memory_order_relaxed) & BELAY_FUTURE_BORROWING) != 0;
}

/* The same, or it may come to be so. */
static inline gboolean
belay_future_may_borrow (BelayFuture *future)
{
  return (atomic_load_explicit (&future->flags, memory_order_relaxed) & (BELAY_FUTURE_BORROWING | BELAY_FUTURE_WRAPPING)) != 0;
}

/* The classes of what is made from @member. */
static inline guchar
belay_future_classes_of_wrapper (BelayFuture *member)
{
  guint flags = atomic_load_explicit (&member->flags, memory_order_relaxed);

  return (guchar) ((flags & (BELAY_FUTURE_BORROWING | BELAY_FUTURE_WRAPPING)) |
                   (flags & (BELAY_FUTURE_BORROWING | BELAY_FUTURE_JOINED) ? BELAY_FUTURE_WRAPPING : 0));
}

void     belay_future_ref_writer    (BelayFuture *future);

/* Decides the outcome. FALSE when it was decided before: then the value is still the caller's. */
gboolean belay_future_settle        (BelayFuture *future, BelayKind kind, BelayValue value, BelayAux aux);
/* The same for a GError (transfer full), which is freed when it comes too late. */
gboolean belay_future_settle_error  (BelayFuture *future, GError *error);
/* The same with others attached, (transfer full) and nullable; the message comes to say how many. */
gboolean belay_future_settle_errors (BelayFuture *future, GError *error, BelayErrors *attached);
/* Gives @future the outcome of @source; whose value can be taken once, it is taken. */
gboolean belay_future_settle_copy   (BelayFuture *future, BelayFuture *source);
/* Copies the value of a resolved future out for one taker; a pointer can be had once. */
gboolean belay_future_take_value    (BelayFuture *future, BelayValue *ret_value, GError **error);
/* FALSE when the outcome is known already, and @waiter was not added. */
gboolean belay_future_add_waiter    (BelayFuture *future, BelayWaiter *waiter);
/* FALSE when @waiter has been, or is just being, notified. */
gboolean belay_future_remove_waiter (BelayFuture *future, BelayWaiter *waiter);
/*
 * For whoever waits and gives up. FALSE: nothing is to be seen to its end, so unlink the waiter and drop the interest. TRUE:
 * the interest is a deaf one now; wait for the notification, then belay_future_take_up(). With @joining a spawned fiber
 * counts as what is seen to its end.
 */
gboolean belay_future_give_up       (BelayFuture *future, gboolean joining);
/* Asks the work behind it to end, once, though the caller's interest stays. */
void     belay_future_ask           (BelayFuture *future);
/* Work that borrows has come to be behind @future: so it is behind all that is made of it. The caller has a writing end. */
void     belay_future_borrow_late   (BelayFuture *future);
/* Around the linking of a waiter whose `wrapper` is @wrapper: what has come to borrow meanwhile is not overlooked. */
static inline gboolean
belay_future_begin_wrapping (BelayFuture *member)
{
  gboolean may_change = (atomic_load_explicit (&member->flags, memory_order_relaxed) &
                         (BELAY_FUTURE_WRAPPING | BELAY_FUTURE_BORROWING)) == BELAY_FUTURE_WRAPPING;

  if (G_UNLIKELY (may_change))
    belay_future_ref_writer (member); /* it may be dropped as soon as the waiter is linked */
  return may_change;
}
void     belay_future_end_wrapping  (BelayFuture *member, BelayFuture *wrapper);
/* A deaf reader's interest is as any other again. */
void     belay_future_take_up       (BelayFuture *future);
/* Frees a value that was never put into a future. */
void     belay_value_clear          (BelayKind kind, BelayValue value, BelayAux aux);

/* The writing end of the same block, for those who embed a future; belay_future_ref_writer() is above. */
void     belay_future_unref_writer  (BelayFuture *future);

/* Answers @promise with @value, which goes back to where it came from if nobody takes it, even if it comes too late. */
void     belay_promise_resolve_loan (BelayPromise *promise, gpointer value, BelayLoan *loan);

/* --- combine.c --- */
gpointer belay_members_ref          (gpointer members);

/* --- errors.c --- */
/* Each takes @self (transfer full), NULL for the empty list, and returns the list. @error is (transfer full), too. */
BelayErrors *belay_errors_add       (BelayErrors *self, GError *error, const char *site);
BelayErrors *belay_errors_add_first (BelayErrors *self, GError *error, const char *site);
/* Copies those of @more from the one at @first on. */
BelayErrors *belay_errors_add_all   (BelayErrors *self, BelayErrors *more, guint first);
/* What is left of them goes to the sink, but for cancellations. */
void     belay_errors_sink          (BelayErrors *self, const char *what);
/* Makes the message say that there are @n more; none for 0. */
void     belay_error_say_more       (GError *error, guint n);

/* --- block.c --- */
/* Memory for a block that begins with a BelayFuture, whose `block` it sets. */
gpointer belay_block_new            (gsize size);
void     belay_block_free           (BelayFuture *future);
/* Memory for other small things that come and go often; free it with the size that it was made with. */
gpointer belay_piece_new            (gsize size);
gpointer belay_piece_new0           (gsize size);
void     belay_piece_free           (gpointer piece, gsize size);

/* --- error.c --- */
void     belay_sink_error           (const GError *error, const char *what, const char *site);
/* FALSE and an error where a call that waits is made outside a fiber. */
gboolean belay_fail_no_fiber        (const char *function, GError **error);
/* FALSE and an error where a function that tells how it went was given NULL. */
gboolean belay_fail_no_future       (const char *function, GError **error);
/* A result of a user's function, made consistent: %TRUE with an error, or %FALSE without, is reported. */
gboolean belay_check_result         (gboolean ok, GError **inout_error, const char *what);
