/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * all, all_settled, any, race: many futures made into one.
 *
 * Words. A *member* is one of the futures given. It is *retired* once, when its outcome has been counted or when it no
 * longer matters; then its place in the combination is over.
 *
 * The combination and its result are one block. `outstanding` counts members that are not retired, one more for the
 * constructor, and one for an on_cancel that sweeps; whoever brings it to zero settles a result that is not known yet,
 * and drops the writing end. A member is retired by its notification, or by the *sweep* that could still unlink its
 * waiter; never by both, since unlinking fails once it is notified.
 *
 * A member that may *borrow* memory of whoever waits for the combination, or is a fiber, is not unlinked as long as
 * somebody reads the result: it is asked to end, and the combination is its deaf reader until it has. So the outcome,
 * though decided, is told when the last member is retired.
 *
 * A sweep holds one of `outstanding`, so that the members stay where they are while it goes through them.
 *
 * When the result is an error, the errors of all other members that are known by then are attached to it, in the order in
 * which they came; when it is not, each is its own future's: `any` expects those that came before the success, and the sink
 * gets what nobody else looks at.
 *
 * No lock: members settle on any thread, and all that they share is atomic.
 */
#include "core/future-private.h"

typedef enum { MODE_ALL, MODE_ALL_SETTLED, MODE_ANY, MODE_RACE } Mode;

/* Where a member's waiter is: not linked yet, linked, or neither, because a sweep came by or it was notified. */
enum { PLACE_NEW, PLACE_LINKED, PLACE_SWEPT };

typedef struct _Combine Combine;

typedef struct
{
  BelayWaiter  waiter;
  Combine     *combine;
  BelayFuture *future;
  atomic_int   place;
  guint        order; /* among those that failed */
  gboolean     deaf;  /* by the sweep, before it lets go of its part of `outstanding` */
} Member;

/* Shared by the result of a combinator and by what passes that on. */
struct _BelayMembers
{
  atomic_int    refs;
  guint         n;
  BelayMembers *next; /* to be freed */
  BelayFuture  *futures[];
};

/* Whose outcome is the result's: a member's, by its index, or */
enum { UNDECIDED = -1, WITH_MEMBERS = -2 };

struct _Combine
{
  BelayFuture   result; /* first: the block is freed as a future */
  Mode          mode;
  atomic_int    decision;
  guint         n;
  atomic_uint   outstanding;
  atomic_int    failed;      /* of `any`: the member that failed first */
  atomic_uint   n_failed;
  atomic_uint   undecided; /* members whose outcome still counts towards the result */
  Member        members[];
};

gpointer
belay_members_ref (gpointer data)
{
  BelayMembers *members = data;

  atomic_fetch_add_explicit (&members->refs, 1, memory_order_relaxed);
  return members;
}

/* A combination of combinations, however deep, is freed by a loop. */
static void
unref_members (gpointer data)
{
  struct _BelayFiber **current;
  BelayMembers *members = data, *more = NULL;

  if (atomic_fetch_sub_explicit (&members->refs, 1, memory_order_acq_rel) != 1)
    return;
  if (belay_thread.members != NULL)
    {
      members->next = *belay_thread.members;
      *belay_thread.members = members;
      return;
    }
  current = belay_leave_fiber ();
  belay_thread.members = &more;
  while (members != NULL)
    {
      for (guint i = 0; i < members->n; i++)
        belay_future_unref (members->futures[i]);
      g_free (members);
      members = more;
      if (members != NULL)
        more = members->next;
    }
  belay_thread.members = NULL;
  belay_reenter_fiber (current);
}

static void
resolve_with_members (Combine *self)
{
  BelayMembers *members = g_malloc (sizeof *members + self->n * sizeof (BelayFuture *));

  atomic_init (&members->refs, 1);
  members->n = self->n;
  for (guint i = 0; i < self->n; i++)
    {
      members->futures[i] = belay_future_ref (self->members[i].future);
      belay_future_add_flag (members->futures[i], BELAY_FUTURE_SEEN); /* whoever has the members can look at their errors */
    }
  belay_future_settle (&self->result, BELAY_KIND_MEMBERS, (BelayValue) { .p = members },
                       (BelayAux) { .destroy = unref_members });
}

/* The combination was asked to end, and those of its members that were seen to their end did so. */
static gboolean
is_cut_short (Combine *self, int decision)
{
  if (decision == UNDECIDED)
    return TRUE;
  if (!(atomic_load_explicit (&self->result.flags, memory_order_relaxed) & BELAY_FUTURE_ASKED))
    return FALSE;
  if (decision != WITH_MEMBERS &&
      (self->mode != MODE_ANY || belay_future_status (self->members[decision].future) == BELAY_STATE_RESOLVED))
    return FALSE;
  for (guint i = 0; i < self->n; i++)
    {
      BelayFuture *future = self->members[i].future;

      if (belay_future_status (future) == BELAY_STATE_REJECTED &&
          g_error_matches (future->value.error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return TRUE;
    }
  return FALSE;
}

static BelayErrors *
add_outcome (BelayErrors *errors, BelayFuture *future)
{
  belay_future_add_flag (future, BELAY_FUTURE_SEEN);
  if (!g_error_matches (future->value.error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    errors = belay_errors_add (errors, g_error_copy (future->value.error), NULL);
  return belay_errors_add_all (errors, future->aux.errors, 0);
}

/* (transfer full) @error, which is @top's, or nobody's when that is NULL. Nobody else is left to tell of the others. */
static void
reject (Combine *self, Member *top, GError *error)
{
  guint n = atomic_load_explicit (&self->n_failed, memory_order_relaxed);
  BelayErrors *errors = top != NULL ? belay_errors_add_all (NULL, top->future->aux.errors, 0) : NULL;

  if (top != NULL)
    belay_future_add_flag (top->future, BELAY_FUTURE_SEEN);
  if (n > (top != NULL ? 1 : 0) && belay_future_has_interest (&self->result))
    {
      g_autofree Member **failed = g_new0 (Member *, n);

      for (guint i = 0; i < self->n; i++)
        {
          Member *member = &self->members[i];

          if (member != top && member->future != NULL && belay_future_status (member->future) == BELAY_STATE_REJECTED)
            failed[member->order] = member;
        }
      for (guint i = 0; i < n; i++)
        if (failed[i] != NULL)
          errors = add_outcome (errors, failed[i]->future);
    }
  belay_future_settle_errors (&self->result, error, errors);
}

static void
tell (Combine *self, int decision)
{
  if (is_cut_short (self, decision))
    reject (self, NULL, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "ended early"));
  else if (decision == WITH_MEMBERS)
    resolve_with_members (self);
  else if (belay_future_status (self->members[decision].future) == BELAY_STATE_REJECTED)
    reject (self, &self->members[decision], g_error_copy (self->members[decision].future->value.error));
  else
    belay_future_settle_copy (&self->result, self->members[decision].future);
}

/* TRUE when this call was the one that decided. */
static gboolean
decide (Combine *self, int decision)
{
  int none = UNDECIDED;

  return atomic_compare_exchange_strong_explicit (&self->decision, &none, decision, memory_order_acq_rel,
                                                  memory_order_acquire);
}

static void
retire (Combine *self)
{
  if (atomic_fetch_sub_explicit (&self->outstanding, 1, memory_order_acq_rel) != 1)
    return;
  for (guint i = 0; i < self->n; i++)
    if (self->members[i].deaf)
      belay_future_take_up (self->members[i].future);
  tell (self, atomic_load_explicit (&self->decision, memory_order_acquire));
  for (guint i = 0; i < self->n; i++)
    g_clear_pointer (&self->members[i].future, belay_future_unref);
  belay_future_unref_writer (&self->result);
}

/* It no longer matters. */
static void
give_up_member (Combine *self, Member *member)
{
  if (belay_future_has_interest (&self->result) && belay_future_give_up (member->future, TRUE))
    {
      member->deaf = TRUE; /* its notification retires it */
      return;
    }
  if (!belay_future_remove_waiter (member->future, &member->waiter))
    return; /* its notification retires it */
  g_clear_pointer (&member->future, belay_future_unref);
  retire (self);
}

/* The interest in members that are still pending is dropped. The caller has a part of `outstanding`. */
static void
sweep (Combine *self)
{
  for (guint i = 0; i < self->n; i++)
    {
      Member *member = &self->members[i];

      if (atomic_exchange_explicit (&member->place, PLACE_SWEPT, memory_order_acq_rel) == PLACE_LINKED)
        give_up_member (self, member);
    }
}

/* Nobody wants the result any more. From any thread. */
static void
on_cancel (gpointer data)
{
  Combine *self = data;
  guint outstanding = atomic_load_explicit (&self->outstanding, memory_order_acquire);

  do
    if (outstanding == 0)
      return; /* all are retired */
  while (!atomic_compare_exchange_weak_explicit (&self->outstanding, &outstanding, outstanding + 1, memory_order_acq_rel,
                                                 memory_order_acquire));
  sweep (self);
  retire (self);
}

/* Counts the outcome of a member that has settled. The caller keeps the combination alive. */
static void
count_outcome (Combine *self, Member *member)
{
  int index = (int) (member - self->members);
  int none = UNDECIDED;
  gboolean resolved = belay_future_status (member->future) == BELAY_STATE_RESOLVED;
  gboolean decided = FALSE;
  gboolean last;

  if (!resolved)
    member->order = atomic_fetch_add_explicit (&self->n_failed, 1, memory_order_relaxed);
  if (!resolved && self->mode == MODE_ANY &&
      atomic_load_explicit (&self->decision, memory_order_relaxed) == UNDECIDED)
    {
      /* That some fail is expected here; what a loser says later is not. */
      belay_future_add_flag (member->future, BELAY_FUTURE_SEEN);
      atomic_compare_exchange_strong_explicit (&self->failed, &none, index, memory_order_relaxed, memory_order_relaxed);
    }
  last = atomic_fetch_sub_explicit (&self->undecided, 1, memory_order_acq_rel) == 1;
  switch (self->mode)
    {
    case MODE_ALL:
      decided = !resolved ? decide (self, index) : last && decide (self, WITH_MEMBERS);
      break;
    case MODE_ALL_SETTLED:
      decided = last && decide (self, WITH_MEMBERS);
      break;
    case MODE_ANY:
      if (!resolved)
        index = atomic_load_explicit (&self->failed, memory_order_relaxed);
      decided = (resolved || last) && decide (self, index);
      break;
    case MODE_RACE:
      decided = decide (self, index);
      break;
    }
  if (decided)
    sweep (self);
}

static void
on_member (BelayWaiter *waiter)
{
  Member *member = (Member *) waiter;
  Combine *self = member->combine;

  atomic_store_explicit (&member->place, PLACE_SWEPT, memory_order_release); /* a sweep has no business with it any more */
  count_outcome (self, member);
  retire (self);
}

/* NULL when all is well; else none of the futures is wanted any more. */
static BelayFuture *
refuse_null (BelayFuture **futures, guint n)
{
  gboolean found = n > 0 && futures == NULL;

  for (guint i = 0; i < n && !found; i++)
    found = futures[i] == NULL;
  if (G_LIKELY (!found))
    return NULL;
  g_critical ("a combination of futures: one of them is NULL");
  for (guint i = 0; i < n && futures != NULL; i++)
    if (futures[i] != NULL)
      belay_future_unref (futures[i]);
  return belay_future_new_failed (BELAY_ERROR, BELAY_ERROR_MISUSE, "one of the futures to combine is NULL");
}

static BelayFuture *
combine (Mode mode, BelayFuture **futures, guint n)
{
  BelayFuture *refused = refuse_null (futures, n);
  Combine *self;
  guint classes = 0;

  if (refused != NULL)
    return refused;
  if (n == 0)
    {
      if (mode == MODE_ANY || mode == MODE_RACE)
        return belay_future_new_failed (BELAY_ERROR, BELAY_ERROR_FAILED, "there is no future to wait for");
    }
  self = g_malloc0 (sizeof *self + n * sizeof (Member));
  belay_future_init (&self->result, 1 + BELAY_PROMISE_UNIT);
  belay_future_on_cancel (&self->result, on_cancel, self, NULL);
  self->mode = mode;
  self->n = n;
  atomic_init (&self->outstanding, n + 1);
  atomic_init (&self->undecided, n);
  atomic_init (&self->decision, UNDECIDED);
  atomic_init (&self->failed, UNDECIDED);
  atomic_init (&self->n_failed, 0);
  for (guint i = 0; i < n; i++)
    {
      self->members[i].combine = self;
      self->members[i].waiter.notify = on_member;
      self->members[i].waiter.wrapper = &self->result;
      self->members[i].future = futures[i];
      classes |= belay_future_classes_of_wrapper (futures[i]);
    }
  atomic_init (&self->result.flags, (guchar) classes);
  if (n == 0)
    atomic_init (&self->decision, WITH_MEMBERS);

  for (guint i = 0; i < n; i++)
    {
      Member *member = &self->members[i];

      BelayFuture *future = member->future;
      gboolean may_change = belay_future_begin_wrapping (future);
      int place = PLACE_NEW;

      if (!belay_future_add_waiter (member->future, &member->waiter))
        {
          count_outcome (self, member);
          retire (self);
        }
      else if (!atomic_compare_exchange_strong_explicit (&member->place, &place, PLACE_LINKED, memory_order_acq_rel,
                                                         memory_order_acquire))
        {
          give_up_member (self, member); /* a sweep came by and left it to us */
        }
      if (G_UNLIKELY (may_change))
        belay_future_end_wrapping (future, &self->result);
    }
  retire (self);
  return &self->result;
}

/* --- the public forms --- */

BelayFuture *
belay_future_allv (BelayFuture **futures, guint n)
{
  return combine (MODE_ALL, futures, n);
}

BelayFuture *
belay_future_all_settledv (BelayFuture **futures, guint n)
{
  return combine (MODE_ALL_SETTLED, futures, n);
}

BelayFuture *
belay_future_anyv (BelayFuture **futures, guint n)
{
  return combine (MODE_ANY, futures, n);
}

BelayFuture *
belay_future_racev (BelayFuture **futures, guint n)
{
  return combine (MODE_RACE, futures, n);
}

static BelayFuture *
combine_list (Mode mode, BelayFuture *first, va_list args)
{
  g_autoptr (GPtrArray) futures = g_ptr_array_new ();

  for (BelayFuture *future = first; future != NULL; future = va_arg (args, BelayFuture *))
    g_ptr_array_add (futures, future);
  return combine (mode, (BelayFuture **) futures->pdata, futures->len);
}

#define DEFINE_LIST_FORM(name, mode)                 \
  BelayFuture *                                      \
  belay_future_##name (BelayFuture *first, ...)      \
  {                                                  \
    BelayFuture *result;                             \
    va_list args;                                    \
                                                     \
    va_start (args, first);                          \
    result = combine_list (mode, first, args);       \
    va_end (args);                                   \
    return result;                                   \
  }

DEFINE_LIST_FORM (all, MODE_ALL)
DEFINE_LIST_FORM (all_settled, MODE_ALL_SETTLED)
DEFINE_LIST_FORM (any, MODE_ANY)
DEFINE_LIST_FORM (race, MODE_RACE)

static BelayMembers *
get_members (BelayFuture *future)
{
  if (belay_future_status (future) != BELAY_STATE_RESOLVED || future->kind != BELAY_KIND_MEMBERS)
    return NULL;
  return future->value.p;
}

guint
belay_future_get_n_members (BelayFuture *future)
{
  BelayMembers *members;

  g_return_val_if_fail (future != NULL, 0);
  members = get_members (future);
  return members != NULL ? members->n : 0;
}

BelayFuture *
belay_future_get_member (BelayFuture *future, guint index)
{
  BelayMembers *members;

  g_return_val_if_fail (future != NULL, NULL);
  members = get_members (future);
  return members != NULL && index < members->n ? members->futures[index] : NULL;
}
