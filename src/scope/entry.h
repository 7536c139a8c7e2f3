/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a scope releases, as entry.c and handle.c see it. */
#pragma once

#include "scope/scope-private.h"

typedef enum { BELAY_ENTRY_RESOURCE, BELAY_ENTRY_FUNC, BELAY_ENTRY_EXIT } BelayEntryKind;

struct _BelayEntry
{
  BelayEntry    *prev, *next; /* towards the newest, the oldest; the scope's lock, as what is not marked otherwise */
  BelayScope    *scope;       /* once there is a handle: where it is or was; `lock`, and changed under both scopes' too */
  gpointer       what;        /* the resource or the function; this and the next three never change */
  gpointer       data;
  GDestroyNotify destroy;
  const char    *site;
  guint          handles;     /* while there are some, they hold one reference of the scope */
  guint8         kind;        /* never changes */
  guint8         armed;       /* it is in the list */
  guint8         held;        /* it is, or whoever took it off is still releasing it */
  atomic_flag    lock;        /* innermost: of `scope` alone */
};
G_STATIC_ASSERT (sizeof (BelayEntry) <= 64); /* the smallest size of pieces, see core/block.c */

/* A release that is under way before its scope's is. In the memory of whoever does it. */
struct _BelayEarly
{
  BelayEarly *prev, *next;
  BelayFiber *fiber;
  BelayLimit *outside;     /* its innermost when the release began; compared, not followed */
};

/* --- entry.c --- */
/* Under the scope's lock. */
void        belay_entry_link     (BelayScope *scope, BelayEntry *entry);
void        belay_entry_unlink   (BelayScope *scope, BelayEntry *entry);
/* Whoever took it off is through with it: it goes with its last handle. */
void        belay_entry_end      (BelayScope *scope, BelayEntry *entry);
void        belay_entry_free     (BelayEntry *entry);
/* Releases what was taken off: in a fiber at the scope's home; by force. */
gboolean    belay_entry_run      (BelayScope *scope, BelayFiber *fiber, BelayEntry *entry, BelayReason reason, GError **error);
void        belay_entry_abandon  (BelayScope *scope, BelayEntry *entry);

/* --- handle.c --- */
/* Under the scope's lock: one handle more. */
void        belay_entry_add_handle (BelayScope *scope, BelayEntry *entry);
/* By the closer, while it releases: waits for what is being released early. FALSE: the release around it is out of time. */
gboolean    belay_early_join     (BelayScope *scope, BelayFiber *fiber);
static inline gboolean
belay_early_has_any (BelayScope *scope)
{
  return atomic_load_explicit (&scope->n_early, memory_order_relaxed) != 0;
}
