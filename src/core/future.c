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
 * is made from other futures is *wrapping*: whether it borrows is known when all of its continuations have run, and what has
 * been made of it by then is told (belay_future_borrow_late()). Who gives
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
 *      a notification that settles another future appends that one's waiters to the loop (`notices`).
 *   4. on_cancel is called at most once, when the last interest goes while a writing end exists and it is pending. The
 *      flag ASKED says that it may be running, or has run; CLOSED, which is set only where there is something to
 *      destroy, that the outcome was there before. Whoever set the first of the two destroys what on_cancel was given:
 *      so nobody waits for an on_cancel that runs, and it keeps what it uses. A block that is its own data is kept by
 *      the asker's writing end, but what the block refers to may be given back meanwhile.
 *   5. A question that comes up inside of an on_cancel is asked when that has returned, by a loop (`questions`), so
 *      that dropping one end of a long chain uses no stack.
 *   6. Notifications, on_cancel and its destroy function run as outside of a fiber (belay_leave_fiber()): a switch in
 *      the middle of these loops would take the thread's state along. A nested dispatch begins with no loop of its
 *      own.
 *   7. An error is seen by a reader or goes to the sink, once, when no reader is left: with the last interest, or, if
 *      it came later than that, with the block.
 *
 * The lock bit is held for a handful of instructions and never over a call.
 */
#include "core/future-private.h"

#include <sched.h>

G_DEFINE_BOXED_TYPE (BelayFuture, belay_future, belay_future_ref, belay_future_unref)
G_DEFINE_BOXED_TYPE (BelayPromise, belay_promise, belay_promise_ref, belay_promise_unref)

/* The waiters that this thread's loop has still to notify. */
struct _BelayNotices
{
  BelayWaiter *head;
  BelayWaiter *tail;
};

/* The futures that this thread's loop has still to ask about, each with a writing end of the loop's. */
typedef struct _Question Question;
struct _Question
{
  Question    *next;
  BelayFuture *future;
};

struct _BelayQuestions
{
  Question *head;
  Question *tail;
};

struct _BelayFiber *belay_no_fiber;
__thread BelayThread belay_thread __attribute__ ((tls_model ("initial-exec"))) = { .current = &belay_no_fiber };

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
  struct _BelayFiber **current;
  BelayNotices more = { NULL, NULL };
  BelayWaiter *tail = head->prev;

  tail->next = NULL;
  if (belay_thread.notices != NULL)
    {
      BelayNotices *notices = belay_thread.notices;

      if (notices->head != NULL)
        notices->tail->next = head;
      else
        notices->head = head;
      notices->tail = tail;
      return;
    }

  current = belay_leave_fiber ();
  belay_thread.notices = &more;
  while (head != NULL)
    {
      BelayWaiter *waiter = head;

      head = waiter->next;
      waiter->notify (waiter);
      if (head == NULL)
        {
          head = more.head;
          more.head = NULL;
        }
    }
  belay_thread.notices = NULL;
  belay_reenter_fiber (current);
}

/* There is an outcome: on_cancel is over, unless somebody is asking, who then does this. */
static void
close_questions (BelayFuture *future)
{
  struct _BelayFiber **current;

  if (future->cancel_destroy == NULL ||
      (atomic_fetch_or (&future->flags, BELAY_FUTURE_CLOSED) & (BELAY_FUTURE_ASKED | BELAY_FUTURE_CLOSED)) != 0)
    return;
  current = belay_leave_fiber ();
  future->cancel_destroy (future->cancel_data);
  belay_reenter_fiber (current);
}

/* With the lock bit, which it gives back; @state is what lock_pending() said. */
static inline void
publish (BelayFuture *future, guintptr state, guintptr status, BelayKind kind, BelayValue value, BelayAux aux)
{
  future->kind = kind;
  future->value = value;
  future->aux = aux;
  atomic_store_explicit (&future->state, status, memory_order_release);
  if ((state & BELAY_STATE_WAITERS) != 0)
    notify_all ((BelayWaiter *) (state & BELAY_STATE_WAITERS));
  if (G_UNLIKELY (future->on_cancel != NULL))
    close_questions (future);
}

static inline gboolean
settle (BelayFuture *future, guintptr status, BelayKind kind, BelayValue value, BelayAux aux)
{
  guintptr state;

  if (!lock_pending (future, &state))
    return FALSE;
  publish (future, state, status, kind, value, aux);
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
  return belay_future_settle_errors (future, error, NULL);
}

gboolean
belay_future_settle_errors (BelayFuture *future, GError *error, BelayErrors *attached)
{
  if (attached != NULL)
    belay_error_say_more (error, belay_errors_get_size (attached));
  if (settle (future, BELAY_STATE_REJECTED, BELAY_KIND_ERROR, (BelayValue) { .error = error },
              (BelayAux) { .errors = attached }))
    return TRUE;
  g_error_free (error);
  g_clear_pointer (&attached, belay_errors_unref);
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
      if (!belay_future_settle_errors (future, g_error_copy (source->value.error),
                                       source->aux.errors != NULL ? belay_errors_ref (source->aux.errors) : NULL))
        return FALSE;
      belay_future_add_flag (source, BELAY_FUTURE_SEEN);
      return TRUE;
    }
  if (source->kind == BELAY_KIND_POINTER || source->kind == BELAY_KIND_LOAN)
    {
      guintptr state;

      /* Taken under the lock bit, so that it is not taken in vain, which others would see. */
      if (!lock_pending (future, &state))
        return FALSE;
      if (!(atomic_fetch_or (&source->flags, BELAY_FUTURE_TAKEN) & BELAY_FUTURE_TAKEN))
        {
          publish (future, state, BELAY_STATE_RESOLVED, source->kind, source->value, source->aux);
          return TRUE;
        }
      unlock_pending (future, (BelayWaiter *) (state & BELAY_STATE_WAITERS));
    }
  if (!belay_future_take_value (source, &value, &error))
    return belay_future_settle_error (future, error);
  if (belay_future_settle (future, source->kind, value, source->aux))
    return TRUE;
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
  if (belay_future_status (future) != BELAY_STATE_REJECTED ||
      (atomic_fetch_or_explicit (&future->flags, BELAY_FUTURE_SEEN, memory_order_relaxed) & BELAY_FUTURE_SEEN) != 0)
    return;
  if (!g_error_matches (future->value.error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    belay_sink_error (future->value.error, "a future that was dropped", NULL);
  belay_errors_sink (future->aux.errors, "what belonged to a future that was dropped");
}

/* Calls on_cancel, the first time, unless it is too late for that. */
static void
ask_once (BelayFuture *future)
{
  if (belay_future_status (future) != BELAY_STATE_PENDING || belay_forked () ||
      (atomic_fetch_or (&future->flags, BELAY_FUTURE_ASKED) & (BELAY_FUTURE_ASKED | BELAY_FUTURE_CLOSED)) != 0)
    return;
  future->on_cancel (future->cancel_data);
  if (future->cancel_destroy != NULL)
    future->cancel_destroy (future->cancel_data);
}

/* (transfer full): a writing end, which keeps the block while it is asked about. on_cancel is not NULL. */
static void
ask_to_end (BelayFuture *future)
{
  struct _BelayFiber **current;
  BelayQuestions more = { NULL, NULL };
  Question *question;

  if (belay_thread.questions != NULL)
    {
      BelayQuestions *questions = belay_thread.questions;

      question = g_new (Question, 1);
      *question = (Question) { NULL, future };
      if (questions->head != NULL)
        questions->tail->next = question;
      else
        questions->head = question;
      questions->tail = question;
      return;
    }

  current = belay_leave_fiber ();
  belay_thread.questions = &more;
  for (;;)
    {
      ask_once (future);
      belay_future_unref_writer (future);
      question = more.head;
      if (question == NULL)
        break;
      more.head = question->next;
      future = question->future;
      g_free (question);
    }
  belay_thread.questions = NULL;
  belay_reenter_fiber (current);
}

gboolean
belay_future_give_up (BelayFuture *future, gboolean joining)
{
  guint flags = atomic_load_explicit (&future->flags, memory_order_relaxed);
  guint classes = BELAY_FUTURE_BORROWING | BELAY_FUTURE_WRAPPING | (joining ? BELAY_FUTURE_JOINED : 0);
  gint64 refs;

  if ((flags & classes) == 0)
    return FALSE;
  refs = atomic_load (&future->refs);
  do
    if ((refs & BELAY_INTEREST_MASK) != 1 && !belay_future_is_borrowing (future))
      return FALSE;
  while (!atomic_compare_exchange_weak (&future->refs, &refs, refs + BELAY_DEAF_UNIT - 1));
  if ((refs & BELAY_INTEREST_MASK) == 1)
    {
      if (future->on_cancel != NULL)
        {
          belay_future_ref_writer (future);
          ask_to_end (future);
        }
      return TRUE;
    }
  return TRUE; /* whoever drops the last interest asks it */
}

void
belay_future_ask (BelayFuture *future)
{
  if (future->on_cancel == NULL)
    return;
  belay_future_ref_writer (future);
  ask_to_end (future);
}

void
belay_future_take_up (BelayFuture *future)
{
  atomic_fetch_add_explicit (&future->refs, 1 - BELAY_DEAF_UNIT, memory_order_relaxed);
}

/* All wrappers that wait for @future, each with a writing end, put into @wrappers from @n on. FALSE: there is no room. */
static gboolean
collect_wrappers (BelayFuture *future, GPtrArray *wrappers, guint room)
{
  BelayWaiter *head, *waiter;
  guint n = 0;
  guintptr state;

  if (!lock_pending (future, &state))
    return TRUE;
  head = waiter = (BelayWaiter *) (state & BELAY_STATE_WAITERS);
  if (waiter != NULL)
    do
      if (waiter->wrapper != NULL && ++n <= room)
        wrappers->pdata[wrappers->len - n] = waiter->wrapper;
    while ((waiter = waiter->next) != head);
  for (guint i = 1; n <= room && i <= room; i++)
    if (wrappers->pdata[wrappers->len - i] != NULL)
      belay_future_ref_writer (wrappers->pdata[wrappers->len - i]);
  unlock_pending (future, head);
  return n <= room;
}

void
belay_future_borrow_late (BelayFuture *future)
{
  g_autoptr (GPtrArray) todo = g_ptr_array_new ();

  belay_future_ref_writer (future);
  g_ptr_array_add (todo, future);
  while (todo->len > 0)
    {
      guint length = todo->len - 1, room = 0;

      future = todo->pdata[length];
      g_ptr_array_set_size (todo, (int) length);
      if (future == NULL)
        continue;
      belay_future_add_flag (future, BELAY_FUTURE_BORROWING);
      do
        {
          room = room * 2 + 4;
          g_ptr_array_set_size (todo, (int) length);
          g_ptr_array_set_size (todo, (int) (length + room)); /* all NULL */
        }
      while (!collect_wrappers (future, todo, room));
      belay_future_unref_writer (future);
    }
}

void
belay_future_end_wrapping (BelayFuture *member, BelayFuture *wrapper)
{
  if (belay_future_is_borrowing (member))
    belay_future_borrow_late (wrapper);
  belay_future_unref_writer (member);
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
          ask_to_end (future);
          return;
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
