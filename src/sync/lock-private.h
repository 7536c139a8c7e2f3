/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a condition knows of its lock. The essay is in lock.c. */
#pragma once

#include "run/line.h"
#include "run/owned.h"
#include "scope/scope-private.h"

/* In `state`. */
enum
{
  BELAY_LOCK_HELD   = 1,
  BELAY_LOCK_CLOSED = 2,
  BELAY_LOCK_BROKEN = 4  /* its owner ended and had it */
};

struct _BelayLock
{
  BelayPlain      guard;      /* first: what a BelayLockGuard points to */
  atomic_int      refs;
  atomic_flag     spin;       /* all below */
  guint8          state;
  BelayLine       line;
  BelayOwned      owned;
  BelayCondition *conditions; /* of this lock */
};

struct _BelayCondition
{
  atomic_int      refs;
  BelayLock      *lock;       /* a reference; its `spin` guards all below */
  gboolean        is_closed;
  BelayLine       line;
  BelayCondition *prev, *next; /* of the same lock */
};

/* In `need` of a condition's turn: why it wants the lock back, or has been told that there is none. */
enum
{
  BELAY_WANTS_NOTHING, /* it waits still */
  BELAY_WANTS_NOTIFIED,
  BELAY_WANTS_CLOSED,
  BELAY_WANTS_ENDED,
  BELAY_WANTS_INTERRUPTED
};

/*
 * Under the lock: TRUE when it is known at once what the turn gets, and says that in its outcome; else it is in line. Its `item` is
 * where that is asked for.
 */
gboolean belay_lock_want    (BelayLock *self, BelayTurn *turn);
/* Under the lock, which nobody has: to the next, if there is one. */
void     belay_lock_pass_on (BelayLock *self, BelayTurn **served);
/* Under the lock: whether the caller may act as the one who has it. */
gboolean belay_lock_is_mine (BelayLock *self, BelayFiber *fiber);
/* Under the lock, after is_mine(): the caller gives it back. */
void     belay_lock_give    (BelayLock *self, BelayFiber *fiber, BelayTurn **served);
/* An answer that is none: always FALSE. */
gboolean belay_lock_fail    (BelayLock *self, int outcome, GError **error);
/* Under the lock: who has it, for a report. */
void     belay_lock_describe (BelayLock *self, GString *text);

/* Under the lock: invariant 3. */
static inline gboolean
belay_lock_is_over (BelayLock *self)
{
  return (self->state & BELAY_LOCK_HELD) == 0 && belay_owner_is_orphan (&self->refs);
}

/* condition.c. Under the lock: all who wait for notifications have this outcome, and no lock. */
void     belay_conditions_serve_all (BelayLock *lock, int outcome, BelayTurn **served);
