/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GIO and Belay, in both directions. */
#pragma once

#include <belay/belay-future.h>
#include <belay/belay-scope.h>

G_BEGIN_DECLS

/**
 * BELAY_GIO:
 * @start: a GIO function `foo_async`
 * @finish: its `foo_finish (source, result, error)`
 * @...: the arguments of @start up to, and without, the cancellable; the first is the source object
 *
 * Makes a future of any asynchronous pair of GIO's kind:
 *
 * |[<!-- language="C" -->
 * g_autoptr (GFileInputStream) in = belay_await (BELAY_GIO (g_file_read_async, g_file_read_finish, file, 0), error);
 * ]|
 *
 * What @finish returns decides what the future holds: a gboolean nothing, a number an int64, a string, #GBytes,
 * #GVariant, any other pointer an object. A finish function that returns something else (a list, a string array, an
 * enumeration) must not be used with it. For other kinds use belay_gio_new(). An object or #GBytes can be taken by any
 * number of takers; a stream, a string, a #GVariant or a resource by one.
 *
 * Suspends: never itself. Cancellation: borrowing: GIO is given a cancellable, cancelled when nobody is interested
 * any more. Since GIO may still use memory of the caller then, an await returns only when GIO has said so. That takes
 * as long as it takes, and for ever when GIO does not call back at all: so it is with a start function that refuses
 * its arguments (g_return_if_fail(), which reports a critical), since nothing tells it from one that is at work.
 * Threads: one with a main context. Errors: those of @finish; %G_IO_ERROR_TIMED_OUT for %G_IO_ERROR_CANCELLED when it
 * was made after the deadline.
 */
#define BELAY_GIO(start, finish, ...) BELAY_GIO_KIND_ (BELAY_GIO_OF_ (finish), start, finish, __VA_ARGS__)

/**
 * BelayGioKind:
 * @BELAY_GIO_BOOLEAN: a gboolean that says success
 * @BELAY_GIO_INT: an int; negative means an error
 * @BELAY_GIO_SIZE: a gssize; negative means an error
 * @BELAY_GIO_OBJECT: (transfer full) #GObject
 * @BELAY_GIO_STRING: (transfer full) string
 * @BELAY_GIO_BYTES: (transfer full) #GBytes
 * @BELAY_GIO_VARIANT: (transfer full) #GVariant
 *
 * What a finish function returns.
 */
typedef enum
{
  BELAY_GIO_BOOLEAN,
  BELAY_GIO_INT,
  BELAY_GIO_SIZE,
  BELAY_GIO_OBJECT,
  BELAY_GIO_STRING,
  BELAY_GIO_BYTES,
  BELAY_GIO_VARIANT
} BelayGioKind;

typedef struct _BelayGioCall BelayGioCall;

/**
 * belay_gio_new:
 * @kind: what @finish returns
 * @finish: a function `(source, GAsyncResult *, GError **)`
 *
 * The parts of BELAY_GIO(): make a call, start it with belay_gio_get_cancellable(), belay_gio_ready() and the call
 * as user data, then turn it into its future with belay_gio_future(), which consumes it.
 */
BELAY_AVAILABLE_IN_1_0 BelayGioCall *belay_gio_new             (BelayGioKind kind, GCallback finish) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 GCancellable *belay_gio_get_cancellable (BelayGioCall *call);
BELAY_AVAILABLE_IN_1_0 void          belay_gio_ready           (GObject *source, GAsyncResult *result, gpointer call);
BELAY_AVAILABLE_IN_1_0 BelayFuture  *belay_gio_future          (BelayGioCall *call) BELAY_USE_RESULT;

/**
 * belay_future_wait_async:
 * @future: (transfer full): a future
 * @source: (nullable): the source object for @callback
 * @cancellable: (nullable): cancelling it ends this wait and drops its interest
 * @callback: called on the caller's thread-default context when the outcome is known
 * @data: handed to @callback
 *
 * Turns any future into an asynchronous call of GIO's kind (a #GTask): what Vala's `yield`, Python's `await` and GJS's
 * promises understand. The result is a future whose outcome is known.
 */
BELAY_AVAILABLE_IN_1_0 void         belay_future_wait_async  (BelayFuture *future, gpointer source, GCancellable *cancellable,
                                                              GAsyncReadyCallback callback, gpointer data);
/* Returns: (transfer full): the future, resolved; NULL with its error when it is rejected or the wait was cancelled */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_future_wait_finish (GAsyncResult *result, GError **error) BELAY_USE_RESULT;

/**
 * belay_scope_follow_cancellable:
 * @scope: a scope
 * @cancellable: a cancellable
 *
 * Cancels @scope when @cancellable is cancelled (at once when it is already). A later reset changes nothing.
 */
BELAY_AVAILABLE_IN_1_0 void belay_scope_follow_cancellable (BelayScope *scope, GCancellable *cancellable);

/*< private >*/
#ifndef __cplusplus
# define BELAY_GIO_OF_(finish) _Generic ((finish) (NULL, NULL, NULL), \
    int: BELAY_GIO_BOOLEAN, long: BELAY_GIO_SIZE, long long: BELAY_GIO_SIZE, char *: BELAY_GIO_STRING, \
    GBytes *: BELAY_GIO_BYTES, GVariant *: BELAY_GIO_VARIANT, default: BELAY_GIO_OBJECT)
#else
/* Overload resolution does in C++ what _Generic does in C; the functions are never called. */
extern "C++" {
template <BelayGioKind K> struct BelayGioConst_ { static constexpr BelayGioKind kind = K; };
BelayGioConst_<BELAY_GIO_BOOLEAN> belay_gio_of_ (int);
BelayGioConst_<BELAY_GIO_SIZE>    belay_gio_of_ (long);
BelayGioConst_<BELAY_GIO_SIZE>    belay_gio_of_ (long long);
BelayGioConst_<BELAY_GIO_STRING>  belay_gio_of_ (char *);
BelayGioConst_<BELAY_GIO_BYTES>   belay_gio_of_ (GBytes *);
BelayGioConst_<BELAY_GIO_VARIANT> belay_gio_of_ (GVariant *);
BelayGioConst_<BELAY_GIO_OBJECT>  belay_gio_of_ (void *);
}
# define BELAY_GIO_OF_(finish) decltype (belay_gio_of_ ((finish) (NULL, NULL, NULL)))::kind
#endif
#define BELAY_GIO_KIND_(kind, start, finish, ...) __extension__ ({                                  \
    BelayGioCall *belay_call_ = belay_gio_new ((kind), G_CALLBACK (finish));                         \
    start (__VA_ARGS__, belay_gio_get_cancellable (belay_call_), belay_gio_ready, belay_call_);      \
    belay_gio_future (belay_call_); })

G_END_DECLS
