/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Passages: items that pass from those who give to those who take; the inside of channels and queues. See passage.c. */
#pragma once

#include "run/line.h"
#include "sync/store.h"

typedef struct _BelayPassage      BelayPassage;
typedef struct _BelayPassageClass BelayPassageClass;

/* Static, of a kind of owner, which begins with nothing in particular: its functions know where in it the passage is. */
struct _BelayPassageClass
{
  const char      *name;          /* "channel" */
  BelayLineClass   givers, takers;
  BelayAsyncClass  give, take;
  void           (*done) (BelayPassage *passage); /* (nullable): fewer are in it, or out, and nobody was given them; under no lock */
};

typedef enum
{
  BELAY_PASSAGE_OPEN,
  BELAY_PASSAGE_CLOSED,   /* nothing is given any more; what is stored is taken */
  BELAY_PASSAGE_ABORTED,  /* and that was dropped, too */
  BELAY_PASSAGE_DESERTED  /* the same, since nobody will take it */
} BelayPassageState;

struct _BelayPassage
{
  const BelayPassageClass *klass;
  GDestroyNotify free_item;
  guint          capacity;
  atomic_flag    lock;     /* all below */
  guint8         state;
  BelayStore     store;
  gint64         n_out;    /* how many were taken, less those that came back */
  BelayLine      givers;   /* of each turn: `item`, and in `need` its priority */
  BelayLine      takers;
};

/* Besides the outcomes of turns: the store has to grow first; nobody will take it. */
enum { BELAY_PASSAGE_NEEDS_ROOM = -1, BELAY_PASSAGE_NOBODY = BELAY_TURN_OWN };

void         belay_passage_init  (BelayPassage *self, const BelayPassageClass *klass, BelayStoreOrder order, guint capacity,
                                  GDestroyNotify free_item);
/* The last reference to @owner has gone: what it is in may be freed when it says TRUE. */
gboolean     belay_passage_end   (BelayPassage *self, gpointer owner, BelayLine *more);
/* Does nothing where it is in that state, or beyond it. */
void         belay_passage_close (BelayPassage *self, BelayPassageState state);

/* In all that follows @function is the public one's name, for what is reported. --- by fibers --- */
gboolean     belay_passage_give  (BelayPassage *self, gpointer *item, gint64 priority, const char *function, const char *site,
                                  GError **error);
/* FALSE without an error: it is closed, and empty. */
gboolean     belay_passage_take  (BelayPassage *self, gpointer *ret_item, const char *function, const char *site, GError **error);
/* The same, where that is an error, too. */
gboolean     belay_passage_take_or_fail (BelayPassage *self, gpointer *ret_item, const char *function, const char *site,
                                         GError **error);
/* --- by anybody --- */
gboolean     belay_passage_try_give (BelayPassage *self, gpointer *item, gint64 priority, const char *function, GError **error);
gpointer     belay_passage_try_take (BelayPassage *self, GError **error);
BelayFuture *belay_passage_give_async (BelayPassage *self, gpointer item, gint64 priority, const char *function);
BelayFuture *belay_passage_take_async (BelayPassage *self);
/* FALSE, and the error of what ended with @outcome. */
gboolean     belay_passage_fail  (const BelayPassageClass *klass, int outcome, GError **error);

/* --- for the classes --- */
void         belay_passage_give_answer (BelayAsyncTurn *turn);
void         belay_passage_give_left   (BelayAsyncTurn *turn);
void         belay_passage_take_answer (BelayAsyncTurn *turn);
void         belay_passage_take_back   (BelayAsyncTurn *turn, gpointer item);

/* --- under the lock --- */
/* Leaves it for a while. */
void         belay_passage_grow  (BelayPassage *self);
/* BELAY_TURN_WAITS: nothing was done, the caller gets in line or gives up. */
int          belay_passage_give_locked (BelayPassage *self, gpointer item, gint64 priority, BelayTurn **served);
int          belay_passage_take_locked (BelayPassage *self, gpointer *ret_item, gint64 *ret_priority, BelayTurn **served);
