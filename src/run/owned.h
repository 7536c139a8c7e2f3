/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a fiber owns: the locks that it must give back itself. See owned.c. */
#pragma once

#include "run/fiber.h"

/* In the memory of what is owned. What it protects guards `fiber`, `site` and `spawned` by a lock of its own. */
struct _BelayOwned
{
  BelayOwned *prev, *next;  /* in the fiber's list; its home thread's */
  BelayFiber *fiber;        /* the owner; NULL: there is none, or it is nobody's in particular. Only compared elsewhere. */
  const char *site;         /* where it was acquired (nullable) */
  const char *spawned;      /* where the owner was spawned (nullable); these two outlive it */
  /* The owner ends, and has it still: it is in no list any more. Under no lock, in the fiber. */
  void      (*left_behind) (BelayOwned *owned);
};

/* Under the lock of what is owned: says whose it is from now on, NULL for nobody's. */
static inline void
belay_owned_set (BelayOwned *owned, BelayFiber *fiber, const char *site)
{
  owned->fiber = fiber;
  owned->site = site;
  owned->spawned = fiber != NULL ? fiber->site : NULL;
}

/* By the owner itself, soon after it has become it. */
static inline void
belay_owned_add (BelayFiber *fiber, BelayOwned *owned)
{
  BelayStack *stack = fiber->stack;

  owned->prev = NULL;
  owned->next = stack->owned;
  if (owned->next != NULL)
    owned->next->prev = owned;
  stack->owned = owned;
}

/* By the owner itself, before it gives it back: another may become the owner, and use the links, at once. */
static inline void
belay_owned_remove (BelayFiber *fiber, BelayOwned *owned)
{
  if (owned->prev != NULL)
    owned->prev->next = owned->next;
  else
    fiber->stack->owned = owned->next;
  if (owned->next != NULL)
    owned->next->prev = owned->prev;
}

/* The fiber ends, and owns something. */
void belay_owned_end (BelayFiber *fiber);

/* For reports: "the fiber from a.c:12, which took it at b.c:34". */
void belay_owned_describe (const char *spawned, const char *site, GString *text);
