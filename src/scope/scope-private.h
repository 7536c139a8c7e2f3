/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the library itself knows of scopes, tasks and resources. */
#pragma once

#include "run/fiber.h"
#include "run/spin.h"

typedef struct _BelayTask  BelayTask;
typedef struct _BelayEarly BelayEarly;
typedef struct _BelayEntering BelayEntering;
typedef struct _BelayChain BelayChain;

/* Tags of Belay's own plain classes; applications use BELAY_PLAIN_TAG. */
#define BELAY_TAG_INSTANT ((gsize) 1) /* `abandon` is the whole release: at once, anywhere, without an error */
#define BELAY_TAG_SCOPE   ((gsize) 2) /* a scope, which bounds its releases itself */

#define BELAY_RELEASE_TIMEOUT (5 * G_USEC_PER_SEC)

/* A fiber that runs a user's function, and its place among its scope's children. */
struct _BelayTask
{
  BelayFiber     fiber; /* first: the block is freed as a future */
  union
  {
    BelayFunc      func;
    BelayValueFunc value_func;
  };
  gpointer       data;
  GDestroyNotify destroy_data;
  GDestroyNotify destroy;      /* of a value that nobody took */
  BelayScope    *scope;
  union
  {
    struct
    {
      BelayTask *prev, *next;  /* the scope's lock */
    };
    BelayPending pending;      /* of one that no scope owns */
  };
  guint8         root;         /* belay_run()'s own */
  guint8         makes_value;  /* it has a value_func */
  guint8         group;        /* its failure is the scope's, whoever holds the future */
  guint8         late;         /* it was stopped by a deadline around it */
};
G_STATIC_ASSERT (sizeof (BelayTask) <= 192); /* a size of blocks, see core/block.c */

typedef enum { BELAY_SCOPE_OPEN, BELAY_SCOPE_JOINING, BELAY_SCOPE_RELEASING, BELAY_SCOPE_CLOSED } BelayScopeState;

struct _BelayScope
{
  BelayPlain      base;
  atomic_int      refs;
  BelayLimit      limit;
  BelayContext   *context;         /* its home */
  const char     *site;
  gboolean        stored;          /* it was begun in no fiber */
  _Atomic (gint64) release_timeout; /* µs; G_MAXINT64: for ever */

  BelayChain     *chains;          /* home */
  atomic_bool     chained;         /* there has been a chain */

  atomic_flag     lock;            /* all below */
  guint8          state;
  BelayLimit     *inside;          /* the limit that children are in: `limit`, or while it is open a fiber's or a release's */
  BelayFiber     *body;            /* the fiber whose body it interrupts; NULL: a stored scope */
  BelayFiber     *closer;          /* who closes it */
  atomic_uint     n_children;      /* changed under the lock, read without */
  BelayTask      *children;
  BelayEntry     *entries;         /* newest first */
  BelayEntry     *oldest;          /* the last of them */
  BelayEarly     *early;           /* home: releases under way before the scope's */
  atomic_uint     n_early;         /* those, and what was taken off for one that has not begun; changed as n_children */
  BelayEntering  *entering;        /* fibers that wait for what they will enter; a stored scope's */
  gboolean        child_cancelled; /* a child ended CANCELLED */
  gboolean        child_late;      /* a child was stopped by a deadline of the scope's, or around it */
  gboolean        failed;          /* it was cancelled because a member failed */
  guint8          handled;         /* some entry has, or had, a handle */
  guint8          reason;          /* that of its releases: a BelayReason, once they have begun */
  BelayFuture    *closed;          /* made when a second closer comes */
  GCancellable   *cancellable;     /* made when it is asked for */

  BelayErrors    *errors;          /* home; not changed once it is CLOSED */
  guint           interruption;    /* home: from 1, that of `errors` which only says that the body was cancelled or out of time */
  gpointer        locals;          /* home: values of the fiber that it belongs to, see local.c */
  BelayLimit     *outside;         /* home: the closer's innermost limit when RELEASING began; compared, not followed */
  gboolean        apart;           /* its children are no group: what nobody holds fails to the sink, alone */
};

/* --- resource.c --- */
const char *belay_resource_name    (gpointer resource);
/* That of its plain class; 0 for an object. A struct without a class is BELAY_PLAIN_TAG: it is told when it is used. */
static inline gsize
belay_resource_tag (gpointer resource)
{
  const BelayPlainClass *klass = *(const BelayPlainClass **) resource;

  if (G_UNLIKELY (klass == NULL))
    return BELAY_PLAIN_TAG;
  return (klass->tag & 3) != 0 ? klass->tag : 0;
}
/* Where it was taken out of a future, if that was in a fiber of this thread, and is still known. */
const char *belay_resource_site    (BelayContext *home, gpointer resource);
/* Tells whether it is one, and reports it when not. */
gboolean    belay_resource_is_valid (gpointer resource);
/* What is none and cannot be released: an object, what else can have a class, is given back. NULL, and an error. */
gpointer    belay_resource_refuse  (gpointer resource, GError **error);
/* Closes in the current fiber, shielded and bounded, and gives the memory back. */
gboolean    belay_resource_close   (gpointer resource, BelayReason reason, gint64 timeout, GError **error);
gboolean    belay_resource_commit  (gpointer resource, GError **error);
void        belay_resource_free    (gpointer resource);
/* Ends by force what could not be closed, and gives the memory back. */
void        belay_resource_abandon (gpointer resource);
/* The first half of that: somebody has the memory still, and calls belay_resource_free(). */
void        belay_resource_force   (gpointer resource);
/* Closes it soon, in a fiber of the context, or of the caller's when NULL. Errors go to the sink. */
void        belay_resource_schedule_for (BelayContext *context, gpointer resource, BelayReason reason,
                                         const char *site);
/* The same for what was left without a word. */
void        belay_resource_schedule (BelayContext *context, gpointer resource, const char *site);

/* --- describe.c --- */
/* At the fiber's home, while it waits: "the fiber from a.c:12 waits at b.c:34 for …". */
char       *belay_fiber_describe   (BelayFiber *fiber);

/* What some detached fibers do, which the end of the program tells about: under the lock of what is pending. */
gboolean    belay_batch_run        (gpointer batch, GError **error);
void        belay_batch_describe   (gpointer batch, GPtrArray *lines);
void        belay_describe_closing (const char *name, const char *site, GPtrArray *lines);
gboolean    belay_close_now        (gpointer close, GError **error);
void        belay_close_describe   (gpointer close, GPtrArray *lines);

/* --- leaks.c: for BELAY_UNUSUAL_LEAKS alone --- */
/* Behind belay_leaks_hold() and belay_leaks_let_go(). */
void        belay_leaks_remember   (gpointer resource, const char *site);
void        belay_leaks_forget     (gpointer held);
/* (transfer full): what is held at this moment, "a BelayFile from file.c:42" each. */
GStrv       belay_leaks_list       (void);
void        belay_leaks_look       (void);
void        belay_leaks_at_end     (void);

/* It is held from now on. */
static inline void
belay_leaks_hold (gpointer resource, const char *site)
{
  if (G_UNLIKELY ((belay_unusual & BELAY_UNUSUAL_LEAKS) != 0))
    belay_leaks_remember (resource, site);
}

/* Its release begins. */
static inline void
belay_leaks_let_go (gpointer held)
{
  if (G_UNLIKELY ((belay_unusual & BELAY_UNUSUAL_LEAKS) != 0))
    belay_leaks_forget (held);
}

/* Releases one whose `abandon` is the whole of it. */
static inline void
belay_resource_end_instant (gpointer resource)
{
  belay_leaks_let_go (resource);
  (*(const BelayPlainClass **) resource)->abandon (resource);
}

/* The same for who knows why. When what held it failed or was interrupted, its `close`, where it has one, is told before. */
static inline void
belay_resource_end_instant_for (gpointer resource, BelayReason reason)
{
  const BelayPlainClass *klass = *(const BelayPlainClass **) resource;

  if (G_UNLIKELY (reason >= BELAY_REASON_ERROR) && klass->close != NULL)
    klass->close (resource, reason, NULL);
  belay_resource_end_instant (resource);
}

/* --- release.c --- */
#define BELAY_COMMITTING ((gint64) -1)
typedef gboolean (*BelayReleaseFunc) (gpointer data, BelayReason reason, GError **error);
/*
 * Calls @func as a release is called: shielded, bounded by @timeout (µs, G_MAXINT64: for ever, unless the end of the
 * program hurries; BELAY_COMMITTING: even then), with what it spawns joined.
 * @expired, when not NULL, is called with @data as soon as the time is up.
 */
gboolean    belay_release_run      (BelayFiber *fiber, BelayReleaseFunc func, gpointer data, BelayReason reason,
                                    gint64 timeout, GDestroyNotify expired, const char *name, GError **error);

/* FALSE: the release around the fiber is out of time before @future is known. Deaf to all else. */
gboolean    belay_release_await    (BelayFiber *fiber, BelayFuture *future, const char *site);

/* --- task.c --- */
BelayTask  *belay_task_new         (BelayContext *context, BelayLimit *outer, BelayFunc func, BelayValueFunc value_func,
                                    gpointer data, GDestroyNotify destroy_data, GDestroyNotify destroy, const char *site);
/* Starts it under a scope; FALSE: refused, its future is rejected and its data freed. */
gboolean    belay_task_start       (BelayTask *task, BelayScope *scope);
/* The same, and at home what is around the scope counts, too: where that is cancelled, nothing starts. */
gboolean    belay_task_start_in    (BelayTask *task, BelayScope *scope);
/* Ends one that was not started: (transfer full) @error. */
void        belay_task_refuse      (BelayTask *task, GError *error);
/* Starts one that belongs to nobody; the end of the program waits for it. */
void        belay_task_start_detached (BelayTask *task);
/*
 * A child of the caller's innermost scope, or outside of fibers a detached one, that uses memory of whoever waits: it is
 * cancelled when its future is given up, and a wait that is cancelled lasts until it has ended.
 */
BelayFuture *belay_task_start_borrowing (BelayFunc func, BelayValueFunc value_func, gpointer data, GDestroyNotify destroy_data,
                                         GDestroyNotify destroy, const char *site);
/* Its fiber is cancelled when the last interest in its future is dropped. */
void        belay_task_cancel_when_dropped (BelayTask *task);
/* Runs @func in a detached fiber, which goes on when its future is dropped. */
BelayFuture *belay_task_detached   (BelayContext *context, BelayFunc func, gpointer data, GDestroyNotify destroy_data,
                                    const char *site);

/* --- scope.c --- */
/* A stored scope with this home, whoever calls, of children that have nothing to do with each other: a loop's. */
BelayScope *belay_scope_new_for    (BelayContext *context, const char *site);
BelayScope *belay_scope_innermost  (BelayFiber *fiber);
/* Of a scope that belongs to a fiber, a release or an object. */
extern const BelayPlainClass belay_lent_class;
/* The scope that a fiber owns without having begun one, made at the first call. */
BelayScope *belay_scope_of_fiber   (BelayFiber *fiber);
/* Closes in the current fiber. The error is that of belay_scope_close(). */
gboolean    belay_scope_finish     (BelayScope *scope, BelayReason reason, GError **error);
/* At home: (transfer full) @error, and what is attached to it (transfer full) (nullable). @site may be NULL: the scope's. */
void        belay_scope_add_error  (BelayScope *scope, GError *error, BelayErrors *attached, const char *site);
/* Gives the errors of a closed scope to another, or to the sink when NULL: all but the interruption of its body. */
void        belay_scope_pass_errors (BelayScope *scope, BelayScope *to, const char *prefix);
/* The same as a list, after (transfer full) @list; @first: from this one on. */
BelayErrors *belay_scope_list_errors (BelayScope *scope, BelayErrors *list, guint first);
/* The fiber is told of @top, the error of the scope's close: what is attached to that is held. */
void        belay_scope_hold_errors (BelayScope *scope, BelayFiber *fiber, const GError *top);
/* Under the lock. What is around it belongs to fibers of the home thread: elsewhere its own word is all that can be read. */
static inline gboolean
belay_scope_looks_cancelled (BelayScope *scope)
{
  if (belay_thread.context == scope->context)
    return belay_limit_is_cancelled (scope->inside);
  return atomic_load_explicit (&scope->inside->cancelled, memory_order_acquire) != FALSE;
}
/* Its body has left it for @reason, while there are children. */
void        belay_scope_cancel_left  (BelayScope *scope, BelayReason reason);
/* A child of the group has failed; the parameters are those of belay_scope_add_error(). */
void        belay_scope_child_failed (BelayScope *scope, GError *error, BelayErrors *attached, const char *site);
/* What was counted as a child has ended, at home; @task when it is one of the list. */
void        belay_scope_leave      (BelayScope *scope, BelayTask *task);
/* Under the lock: how many there are now. No atomic addition, since all who change it hold the lock. */
static inline guint
belay_scope_count_children (BelayScope *scope, int change)
{
  guint n = atomic_load_explicit (&scope->n_children, memory_order_relaxed) + (guint) change;

  atomic_store_explicit (&scope->n_children, n, memory_order_relaxed);
  return n;
}
void        belay_scope_poke_children (BelayScope *scope);
/* TRUE when GIO was told of a cancellation from outside, with callbacks of whoever listens. */
gboolean    belay_scope_tell_cancellable (BelayScope *scope);
BelayScope *belay_scope_of_limit   (BelayLimit *limit);

/* --- entry.c --- */
/* A stored scope was cancelled, or its deadline has changed: so have the limits of those who wait to enter something. */
void        belay_entering_update  (BelayScope *scope);
/* All by force, when the home of a scope that was not closed has ended. */
void        belay_entries_abandon  (BelayScope *scope);
/* By the closer, when RELEASING has begun: all of them, newest first. */
void        belay_entries_release  (BelayScope *scope, BelayFiber *fiber, BelayReason reason);

/* --- handle.c --- */
/* TRUE when the fiber is in an early release of the scope's, by itself or as a child of it: its close waits for that. */
gboolean    belay_early_is_around  (BelayScope *scope, BelayFiber *fiber);

/* --- timeout.c --- */
/* Whether a resource is a time-out or a shield. */
gboolean    belay_small_limit_is   (gpointer resource);

/* --- local.c --- */
/* The fiber has ended, and its releases: frees its values. */
void        belay_locals_free      (BelayScope *scope);

/* --- scope-error.c --- */
/* (transfer full): the first error, which says how many more there are. There must be one. */
GError     *belay_scope_summary    (BelayScope *scope);

/* --- manager.c --- */
/* NULL for what is none. */
BelayManager *belay_manager_of     (gpointer resource);
/* Who closes it has the error of the body (nullable), and asks afterwards whether that was swallowed. A reference. */
BelayManager *belay_manager_listen (BelayManager *manager, const GError *body);
gboolean    belay_manager_is_swallowed (BelayManager *manager);
void        belay_manager_unref    (BelayManager *manager);

/* --- chain.c --- */
/* At home. */
void        belay_chains_drop      (BelayScope *scope);
/* The same from any thread, soon. */
void        belay_chains_cancel    (BelayScope *scope);
