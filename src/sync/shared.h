/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a shared resource is inside; see shared.c. Its uses are in shared-use.c. */
#pragma once

#include "run/line.h"
#include "scope/scope-private.h"

enum { BELAY_SHARED_EMPTY, BELAY_SHARED_OPENING, BELAY_SHARED_OPEN, BELAY_SHARED_CLOSING };

/* How a turn ended whose future is in `item`. */
enum { BELAY_SHARED_FAILED = BELAY_TURN_OWN };

/* What is to be done when the lock has been left. */
typedef struct
{
  BelayTurn  *served;
  BelayTask  *task;     /* to be started */
  BelayTask  *cancel;   /* a reference: to be cancelled */
  gboolean    queue;    /* the timer's item */
} BelaySharedAfter;

struct _BelayShared
{
  BelayPlain     use;       /* first: what a BelayUse points to */
  atomic_int     refs, holds;
  BelayContext  *home;
  const char    *site;
  BelayValueFunc open;
  gpointer       data;
  GDestroyNotify destroy;
  BelayShared   *prev, *next; /* of all there are */

  atomic_flag    lock;
  guint8         state;
  gboolean       ended;     /* closed, or nobody refers to it */
  gboolean       given_up;  /* the opening */
  gpointer       resource;
  guint          users;
  guint64        n_opens;
  BelayLine      line, closers;
  BelayTask     *task;      /* an interest in its future */
  BelayWaiter    waiter;    /* on its end */
  BelayFuture   *failure;   /* of the last close, once it is `ended` */

  gint64         idle;      /* µs; G_MAXINT64: for ever */
  gint64         idle_since;
  gboolean       queued, armed;
  gint64         due;       /* what it is armed for */
  BelayItem      item;
  BelayTimer     timer;
};

extern const BelayPlainClass belay_use_class;

/* --- shared.c; under the lock, which belay_shared_unlock() leaves, and does what was found to be done --- */
void belay_shared_begin    (BelayShared *shared, guint8 state, BelaySharedAfter *after);
/* The opening, which nobody waits for any more. */
void belay_shared_give_up  (BelayShared *shared, BelaySharedAfter *after);
/* The timer. */
void belay_shared_look     (BelayShared *shared, BelaySharedAfter *after);
/* It is wanted no more. */
void belay_shared_end      (BelayShared *shared, BelaySharedAfter *after);
void belay_shared_unlock   (BelayShared *shared, BelaySharedAfter *after);

/*
 * At the end of a home, and of the program (NULL: of all homes): what is open, and idle, is closed, for however long it was to stay.
 * TRUE: something was, and is pending.
 */
gboolean belay_shared_close_idle (BelayContext *home);
