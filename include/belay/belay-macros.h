/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The words that every header of Belay is written with. */
#pragma once

#if !defined (BELAY_INSIDE) && !defined (BELAY_COMPILATION)
# error "Only <belay/belay.h> can be included directly."
#endif

#include <gio/gio.h>
#include <belay/belay-version.h>

#if defined (BELAY_COMPILATION)
# define BELAY_EXPORT __attribute__ ((visibility ("default")))
#else
# define BELAY_EXPORT
#endif

/* Marks what came with version 1.0. A program that defines BELAY_VERSION_MAX_ALLOWED is warned of what is newer. */
#define BELAY_AVAILABLE_IN_1_0 BELAY_EXPORT extern

/* For functions whose result must not be dropped: dropping a future drops the work. */
#define BELAY_USE_RESULT G_GNUC_WARN_UNUSED_RESULT

/*
 * The place in the program that a macro was used at, "file.c:42". Belay remembers it with what is acquired,
 * spawned and awaited there, and names it in errors and reports.
 */
#define BELAY_SITE __FILE__ ":" G_STRINGIFY (__LINE__)

G_BEGIN_DECLS

/**
 * BelayFunc:
 * @data: what was given with the function
 * @error: return location for a #GError; never %NULL when Belay calls
 *
 * A piece of work that succeeds or fails: the body of a program, a fiber or a job on a worker.
 * %FALSE without an error, or %TRUE with one, is a mistake of the program: it is reported with g_critical(), and
 * the result is a failure.
 *
 * Returns: %TRUE for success
 */
typedef gboolean (*BelayFunc) (gpointer data, GError **error);

/**
 * BelayValueFunc:
 * @data: what was given with the function
 * @error: return location for a #GError; never %NULL when Belay calls
 *
 * A piece of work that makes a pointer.
 *
 * Returns: (transfer full) (nullable): the value, or %NULL with @error set
 */
typedef gpointer (*BelayValueFunc) (gpointer data, GError **error);

/**
 * BelayReason:
 * @BELAY_REASON_OK: success was said: by close, by commit, by falling off a block, by a function's result
 * @BELAY_REASON_LEFT: a guard was left without a word (`return`, `goto`, …); that counts as no success
 * @BELAY_REASON_ERROR: the body failed: a block fell off its end with its error set, a function returned %FALSE
 * @BELAY_REASON_CANCELLED: the body observed a cancellation
 * @BELAY_REASON_DEADLINE: the body observed the end of its time
 *
 * Why something is released. All releases of one unwinding get the same reason.
 */
typedef enum
{
  BELAY_REASON_OK,
  BELAY_REASON_LEFT,
  BELAY_REASON_ERROR,
  BELAY_REASON_CANCELLED,
  BELAY_REASON_DEADLINE
} BelayReason;

typedef struct _BelayErrors    BelayErrors;
typedef struct _BelayFuture    BelayFuture;
typedef struct _BelayPromise   BelayPromise;
typedef struct _BelayScope     BelayScope;
typedef struct _BelayEntry     BelayEntry;
typedef struct _BelayStarting  BelayStarting;
typedef struct _BelayResource  BelayResource;
typedef struct _BelayTimeout   BelayTimeout;
typedef struct _BelayShield    BelayShield;
typedef struct _BelaySemaphore BelaySemaphore;
typedef struct _BelayPermit    BelayPermit;
typedef struct _BelayPermits   BelayPermits;
typedef struct _BelayLock      BelayLock;
typedef struct _BelayLockGuard BelayLockGuard;
typedef struct _BelayRwLock    BelayRwLock;
typedef struct _BelayReadGuard BelayReadGuard;
typedef struct _BelayWriteGuard BelayWriteGuard;
typedef struct _BelayCondition BelayCondition;
typedef struct _BelayEvent     BelayEvent;
typedef struct _BelayLatch     BelayLatch;
typedef struct _BelayBarrier   BelayBarrier;
typedef struct _BelayOnce      BelayOnce;
typedef struct _BelayRateLimiter BelayRateLimiter;
typedef struct _BelayTicker    BelayTicker;
typedef struct _BelayShared    BelayShared;
typedef struct _BelayUse       BelayUse;
typedef struct _BelayManager   BelayManager;
typedef struct _BelayLoop      BelayLoop;
typedef struct _BelaySerial    BelaySerial;

G_END_DECLS
