/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Futures and promises: one block of memory with two ends.
 *
 * Words. The *reading end* is BelayFuture, and a reference to it is an *interest*. The *writing end* is BelayPromise:
 * the same block, its references counted in the upper bits of the same word. A *waiter* is a node, in the memory of
 * whoever waits, that is notified once.
 *
 * A *deaf* reader has given up but must wait until the work has ended, since that uses memory of its (it *borrows*), or
 * is a fiber that lost. Its interest does not count as one: whoever gives up last, deaf or not, asks the work to end. What
 * is made from other futures is *wrapping*: whether it borrows is known when all of its continuations have run. Who gives
 * that up last waits for its end, too; when it is asked to end, no more functions are called, so it is soon there.
 *
 * States: pending, then resolved or rejected for good. The state word also holds a lock bit and the head of a
 * circular list of waiters, so that settling is one compare-and-swap (which takes the lock) and one store (which
 * publishes the outcome, drops the lock and takes the list, all at once).
 *
 * Invariants
 *   1. kind, value and aux are written under the lock bit while pending, and never again except by the one who takes
 *      a pointer (BELAY_FUTURE_TAKEN decides who).
 *   2. A waiter is linked exactly while the future is pending; so "settled" is all that remove_waiter must know.
 *   3. Waiters are notified in the order in which they came, under no lock, and by a loop rather than by recursion:
 *      a notification that settles another future appends that one's waiters to the loop (`notifying`).
 *   4. on_cancel is called at most once, when the last interest goes while a writing end exists and it is pending.
 *   5. It is not running any more when the call that settles returns (unless it is what settles): so what it was given
 *      lives long enough when it lives until the answer was given.
 *   6. The last interest that goes inside of an on_cancel is asked about after that has returned, by a loop (`later`), so
 *      that dropping one end of a long chain uses no stack.
 *   7. An error is seen by a reader or goes to the sink, once, when no reader is left: with the last interest, or, if
 *      it came later than that, with the block.
 *
 * The lock bit is held for a handful of instructions and never over a call.
 */
#include "core/future-private.h"

#include <sched.h>

G_DEFINE_BOXED_TYPE (BelayFuture, belay_future, belay_future_ref, belay_future_unref)
G_DEFINE_BOXED_TYPE (BelayPromise, belay_promise, belay_promise_ref, belay_promise_unref)

/* The waiters still to be notified by this thread's loop; NULL head with `active` unset when there is no loop. */
static __thread struct
{
  gboolean     active;
  BelayWaiter *head;
  BelayWaiter *tail;
} notifying;

/* --- the lock bit and the waiters --- */

/* Takes the lock and returns the state before, or returns FALSE because it is settled. */
static inline gboolean
lock_pending (BelayFuture *future, guintptr *ret_state)
{
  guintptr state = atomic_load_explicit (&future->state, memory_order_acquire);

  for (guint spins = 0;;)
    {
      if ((state & BELAY_STATE_STATUS) != BELAY_STATE_PENDING)
        return FALSE;
      if (G_UNLIKELY (state & BELAY_STATE_LOCK))
        {
          if (++spins % 64 == 0)
            sched_yield (); /* its holder may have lost the processor */
          state = atomic_load_explicit (&future->state, memory_order_acquire);
          continue;
        }
      if (atomic_compare_exchange_weak_explicit (&future->state, &state, state | BELAY_STATE_LOCK,
                                                 memory_order_acquire, memory_order_acquire))
        {
          *ret_state = state;
          return TRUE;
        }
    }
}

static inline void
unlock_pending (BelayFuture *future, BelayWaiter *head)
{
  atomic_store_explicit (&future->state, (guintptr) head, memory_order_release);
}

gboolean
belay_future_add_waiter (BelayFuture *future, BelayWaiter *waiter)
{
  BelayWaiter *head;
  guintptr state;

  if (!lock_pending (future, &state))
    return FALSE;
  head = (BelayWaiter *) (state & BELAY_STATE_WAITERS);
  if (head == NULL)
    {
      head = waiter->next = waiter->prev = waiter;
    }
  else
    {
      waiter->prev = head->prev;
      waiter->next = head;
      head->prev->next = waiter;
      head->prev = waiter;
    }
  unlock_pending (future, head);
  return TRUE;
}

gboolean
belay_future_remove_waiter (BelayFuture *future, BelayWaiter *waiter)
{
  BelayWaiter *head;
  guintptr state;

  if (!lock_pending (future, &state))
    return FALSE;
  head = (BelayWaiter *) (state & BELAY_STATE_WAITERS);
  if (waiter->next == waiter)
    {
      head = NULL;
    }
  else
    {
      waiter->prev->next = waiter->next;
      waiter->next->prev = waiter->prev;
      if (head == waiter)
        head = waiter->next;
    }
  unlock_pending (future, head);
  return TRUE;
}

static void
notify_all (BelayWaiter *head)
{
  BelayWaiter *tail = head->prev;

  tail->next = NULL;
  if (notifying.active)
    {
      if (notifying.head != NULL)
        notifying.tail->next = head;
      else
        notifying.head = head;
      notifying.tail = tail;
      return;
    }

  notifying.active = TRUE;
  while (head != NULL)
    {
      BelayWaiter *waiter = head;

      head = waiter->next;
      waiter->notify (waiter);
      if (head == NULL)
        {
          head = notifying.head;
          notifying.head = NULL;
        }
    }
  notifying.active = FALSE;
}

/* The calls of on_cancel that this thread is in. */
typedef struct _Asking Asking;
struct _Asking
{
  Asking      *outer;
  BelayFuture *future;
};

static __thread Asking *asking;

/* Futures to be asked about when the outermost on_cancel has returned; each with a writing end of ours. */
typedef struct _Later Later;
struct _Later
{
  Later       *next;
  BelayFuture *future;
};

static __thread struct
{
  Later *head;
  Later *tail;
} later;

/* Invariant 5. What settles in an on_cancel of this thread cannot wait for it. */
static void
wait_for_asker (BelayFuture *future)
{
  for (Asking *mine = asking; mine != NULL; mine = mine->outer)
    if (mine->future == future)
      return;
  while (atomic_load_explicit (&future->flags, memory_order_acquire) & BELAY_FUTURE_ASKING)
    sched_yield ();
}

static inline gboolean
settle (BelayFuture *future, guintptr status, BelayKind kind, BelayValue value, BelayAux aux)
{
  guintptr state;

  if (!lock_pending (future, &state))
    return FALSE;
  future->kind = kind;
  future->value = value;
  future->aux = aux;
  atomic_store_explicit (&future->state, status, memory_order_release);
  if ((state & BELAY_STATE_WAITERS) != 0)
    notify_all ((BelayWaiter *) (state & BELAY_STATE_WAITERS));
  if (G_UNLIKELY (atomic_load_explicit (&future->flags, memory_order_acquire) & BELAY_FUTURE_ASKING))
    wait_for_asker (future);
  return TRUE;
}

gboolean
belay_future_settle (BelayFuture *future, BelayKind kind, BelayValue value, BelayAux aux)
{
  return settle (future, kind == BELAY_KIND_ERROR ? BELAY_STATE_REJECTED : BELAY_STATE_RESOLVED, kind, value, aux);
}

gboolean
belay_future_settle_error (BelayFuture *future, GError *error)
{
  if (settle (future, BELAY_STATE_REJECTED, BELAY_KIND_ERROR, (BelayValue) { .error = error }, (BelayAux) { NULL }))
    return TRUE;
  g_error_free (error);
  return FALSE;
}

gboolean
belay_future_settle_copy (BelayFuture *future, BelayFuture *source)
{
  GError *error = NULL;
  BelayValue value;

  if (belay_future_status (future) != BELAY_STATE_PENDING)
    return FALSE;
  if (belay_future_status (source) == BELAY_STATE_REJECTED)
    {
      if (!belay_future_settle_error (future, g_error_copy (source->value.error)))
        return FALSE;
      belay_future_add_flag (source, BELAY_FUTURE_SEEN);
      return TRUE;
    }
  if (!belay_future_take_value (source, &value, &error))
    return belay_future_settle_error (future, error);
  if (belay_future_settle (future, source->kind, value, source->aux))
    return TRUE;
  if (source->kind == BELAY_KIND_POINTER) /* it stays where it is, for others or until the end */
    atomic_fetch_and_explicit (&source->flags, (guchar) ~BELAY_FUTURE_TAKEN, memory_order_release);
  else
    belay_value_clear (source->kind, value, source->aux);
  return FALSE;
}

/* --- references --- */

static void
free_future (BelayFuture *future)
{
  if (!(atomic_load_explicit (&future->flags, memory_order_relaxed) & BELAY_FUTURE_TAKEN) &&
      belay_future_status (future) != BELAY_STATE_PENDING)
    belay_value_clear (future->kind, future->value, future->aux);
  belay_block_free (future);
}

/* No reader is left: an error that nobody looked at is not lost. */
static void
report_unseen (BelayFuture *future)
{
  if (belay_future_status (future) == BELAY_STATE_REJECTED &&
      !(atomic_fetch_or_explicit (&future->flags, BELAY_FUTURE_SEEN, memory_order_relaxed) & BELAY_FUTURE_SEEN) &&
      !g_error_matches (future->value.error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    belay_sink_error (future->value.error, "a future that was dropped", NULL);
}

static void
ask_to_end (BelayFuture *future)
{
  Asking mine = { asking, future };
  gboolean first;
  guintptr state;

  if (!lock_pending (future, &state))
    return;
  /* Under the lock bit, so that whoever settles from now on sees it (invariant 5). */
  first = !(atomic_load_explicit (&future->flags, memory_order_relaxed) & BELAY_FUTURE_ASKED);
  if (first)
    atomic_fetch_or (&future->flags, BELAY_FUTURE_ASKED | BELAY_FUTURE_ASKING);
  unlock_pending (future, (BelayWaiter *) (state & BELAY_STATE_WAITERS));
  if (!first)
    return;
  asking = &mine;
  future->on_cancel (future->cancel_data);
  asking = mine.outer;
  atomic_fetch_and_explicit (&future->flags, (guchar) ~BELAY_FUTURE_ASKING, memory_order_release);
}

void
belay_future_ask_to_end (BelayFuture *future)
{
  if (future->on_cancel == NULL)
    return;
  ask_to_end (future);
  while (asking == NULL && later.head != NULL)
    {
      Later *first = later.head;

      later.head = first->next;
      ask_to_end (first->future);
      belay_future_unref_writer (first->future);
      g_free (first);
    }
}

/* (transfer full): the writing end that the last interest has become. */
static void
ask_later (BelayFuture *future)
{
  Later *mine = g_new (Later, 1);

  *mine = (Later) { NULL, future };
  if (later.head != NULL)
    later.tail->next = mine;
  else
    later.head = mine;
  later.tail = mine;
}

gboolean
belay_future_give_up (BelayFuture *future, gboolean joining)
{
  guint flags = atomic_load_explicit (&future->flags, memory_order_relaxed);
  guint classes = BELAY_FUTURE_BORROWING | BELAY_FUTURE_WRAPPING | (joining ? BELAY_FUTURE_JOINED : 0);
  gint64 refs;

  if ((flags & classes) == 0)
    return FALSE;
  refs = atomic_fetch_add (&future->refs, BELAY_DEAF_UNIT - 1);
  if ((refs & BELAY_INTEREST_MASK) == 1)
    {
      if (future->on_cancel == NULL)
        return TRUE;
      if (asking == NULL)
        {
          belay_future_ask_to_end (future);
          return TRUE;
        }
      belay_future_ref_writer (future); /* invariant 6 */
      ask_later (future);
      return TRUE;
    }
  if (belay_future_is_borrowing (future))
    return TRUE; /* whoever drops the last interest asks it */
  belay_future_take_up (future);
  return FALSE;
}

void
belay_future_take_up (BelayFuture *future)
{
  atomic_fetch_add_explicit (&future->refs, 1 - BELAY_DEAF_UNIT, memory_order_relaxed);
}

BelayFuture *
belay_future_ref (BelayFuture *future)
{
  g_return_val_if_fail (future != NULL, NULL);

  atomic_fetch_add_explicit (&future->refs, 1, memory_order_relaxed);
  return future;
}

/* The last interest is gone, but the work is not its reader's: only a deaf one, who must see it to its end, ends it. */
static inline gboolean
goes_on (BelayFuture *future, gint64 refs)
{
  return (atomic_load_explicit (&future->flags, memory_order_relaxed) & BELAY_FUTURE_KEPT) != 0 &&
         (refs & BELAY_READER_MASK) == 0;
}

void
belay_future_unref (BelayFuture *future)
{
  gboolean last_interest;
  gint64 refs, left;

  g_return_if_fail (future != NULL);

  refs = atomic_load_explicit (&future->refs, memory_order_acquire);
  if (G_LIKELY (refs == 1)) /* nobody else can make a reference, so no atomic decrement */
    {
      if (future->kind == BELAY_KIND_ERROR)
        report_unseen (future);
      free_future (future);
      return;
    }

  do
    {
      last_interest = (refs & BELAY_INTEREST_MASK) == 1 && refs > 1;
      /* The last interest becomes a writing end for a moment, so that the block lives while the work is asked to end. */
      left = last_interest ? refs - 1 + BELAY_PROMISE_UNIT : refs - 1;
    }
  while (!atomic_compare_exchange_weak_explicit (&future->refs, &refs, left, memory_order_acq_rel, memory_order_acquire));

  if (last_interest)
    {
      if (belay_future_status (future) != BELAY_STATE_PENDING)
        {
          if ((left & BELAY_READER_MASK) == 0)
            report_unseen (future);
        }
      else if (future->on_cancel != NULL && !goes_on (future, left))
        {
          if (asking != NULL)
            {
              ask_later (future);
              return;
            }
          belay_future_ask_to_end (future);
        }
      belay_future_unref_writer (future);
    }
  else if (left == 0)
    {
      report_unseen (future);
      free_future (future);
    }
}

void
belay_future_ref_writer (BelayFuture *future)
{
  atomic_fetch_add_explicit (&future->refs, BELAY_PROMISE_UNIT, memory_order_relaxed);
}

void
belay_future_unref_writer (BelayFuture *future)
{
  gint64 refs = atomic_load_explicit (&future->refs, memory_order_acquire);

  for (;;)
    {
      /* The only writing end left, which is the caller's, so nobody can make another. */
      if (refs < 2 * BELAY_PROMISE_UNIT && belay_future_status (future) == BELAY_STATE_PENDING)
        {
          if (refs == BELAY_PROMISE_UNIT) /* to nobody, so it is no error */
            atomic_fetch_or_explicit (&future->flags, BELAY_FUTURE_SEEN, memory_order_relaxed);
          belay_future_settle_error (future, g_error_new_literal (BELAY_ERROR, BELAY_ERROR_BROKEN,
                                                                  "the promise was dropped without an answer"));
        }
      if (refs == BELAY_PROMISE_UNIT)
        {
          if (future->kind == BELAY_KIND_ERROR)
            report_unseen (future);
          free_future (future);
          return;
        }
      if (atomic_compare_exchange_weak_explicit (&future->refs, &refs, refs - BELAY_PROMISE_UNIT, memory_order_acq_rel,
                                                 memory_order_acquire))
        return;
    }
}
