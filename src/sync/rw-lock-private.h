/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a read-write lock and its guards know of each other. The essay is in rw-lock.c. */
#pragma once

#include "run/line.h"
#include "run/owned.h"
#include "scope/scope-private.h"

/* In `state`. */
enum { WRITTEN = 1, CLOSED = 2, BROKEN = 4 };

/* In `need` of a turn. */
enum { READ, WRITE };

struct _BelayReadGuard
{
  BelayPlain      base;   /* first */
  BelayRwLock    *lock;
  BelayOwned      owned;
  BelayReadGuard *prev, *next; /* among the readers, or the lost ones */
  gboolean        is_lost;
};

struct _BelayRwLock
{
  BelayPlain      guard;  /* first: what a BelayWriteGuard points to */
  atomic_int      refs;
  atomic_flag     spin;   /* all below */
  guint8          state;
  guint           n_readers;
  BelayReadGuard *readers, *lost;
  BelayOwned      owned;  /* the writer's */
  const char     *dead_spawned, *dead_site; /* who broke it */
  BelayLine       line;
};

static inline void
belay_read_guard_free (BelayReadGuard *self)
{
  belay_piece_free (self, sizeof *self);
}

static inline void
link_guard (BelayReadGuard **list, BelayReadGuard *guard)
{
  guard->prev = NULL;
  guard->next = *list;
  if (guard->next != NULL)
    guard->next->prev = guard;
  *list = guard;
}

static inline void
unlink_guard (BelayReadGuard **list, BelayReadGuard *guard)
{
  if (guard->prev != NULL)
    guard->prev->next = guard->next;
  else
    *list = guard->next;
  if (guard->next != NULL)
    guard->next->prev = guard->prev;
}

/* Under the lock: invariant 4. */
static inline gboolean
is_over (BelayRwLock *self)
{
  return (self->state & WRITTEN) == 0 && self->n_readers == 0 && belay_owner_is_orphan (&self->refs);
}

static inline void
grant_read (BelayRwLock *self, BelayReadGuard *guard, BelayFiber *fiber, const char *site)
{
  belay_owned_set (&guard->owned, fiber, site);
  link_guard (&self->readers, guard);
  self->n_readers++;
}

static inline void
grant_write (BelayRwLock *self, BelayFiber *fiber, const char *site)
{
  belay_owned_set (&self->owned, fiber, site);
  self->state |= WRITTEN;
}

/* rw-guard.c */
BelayReadGuard *belay_read_guard_new  (BelayRwLock *lock);
void            belay_rw_lock_prepare (BelayRwLock *lock); /* what its writer needs */
/* The calling fiber's own read guard of this lock; NULL: it has none. */
BelayReadGuard *belay_read_guard_own  (BelayRwLock *lock, BelayFiber *fiber);

/* rw-lock.c */
/* Under the lock: all at the front of the line who can go on do. */
void            belay_rw_lock_serve   (BelayRwLock *lock, BelayTurn **served);
/* Invariant 4. */
void            belay_rw_lock_end     (BelayRwLock *lock);
