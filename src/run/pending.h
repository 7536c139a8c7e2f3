/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the end of the program waits for. The essay is in pending.c. */
#pragma once

#include "core/future-private.h"

typedef struct _BelayPending     BelayPending;
typedef struct _BelayPendingKind BelayPendingKind;

/* Something that is under way though nobody waits for it. In the memory of what it is. */
struct _BelayPending
{
  BelayPending *prev, *next; /* of its kind */
};

struct _BelayPendingKind
{
  /* Under the lock: adds lines that say what it is, and where it was begun. @home: the context whose fibers the caller may
   * look at, since it is on its thread. */
  void        (*describe) (BelayPending *pending, gpointer home, GPtrArray *lines);
  /* Under the lock: asks it to end; may be NULL. */
  void        (*cancel)   (BelayPending *pending);
  /*< private >*/
  BelayPending     *first;
  BelayPendingKind *next;
  gboolean          known;
};

/* Counts it, and enters it in the list of its kind. From any thread, and so are all of these. */
void       belay_pending_begin    (BelayPendingKind *kind, BelayPending *pending);
/* Takes it out of the list, before its memory goes. It still counts, until belay_pending_add (-1). */
void       belay_pending_forget   (BelayPendingKind *kind, BelayPending *pending);
/* Counts what has no place in a list, or what was forgotten. */
void       belay_pending_add      (int n);
/* Around a change of what `describe` reads. */
void       belay_pending_lock     (void);
void       belay_pending_unlock   (void);
/* (transfer full) (element-type utf8): what is under way, the oldest of each kind first. */
GPtrArray *belay_pending_describe (gpointer home);
/* Asks all that can be asked to end. */
void       belay_pending_cancel   (void);
/* The program itself, while it runs: it is pending, too, but nobody waits for its end who waits for that of the rest. */
void       belay_pending_set_program (gpointer root);
/* (transfer full): resolves when nothing is under way but the work of those who wait for that; @root is what the caller
 * itself is a part of and is counted with, else NULL. */
BelayFuture *belay_pending_future (gpointer root);
