/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The interface of everything that can be closed, as a GObject interface and for plain structs. */
#pragma once

#include <belay/belay-macros.h>

G_BEGIN_DECLS

#define BELAY_TYPE_RESOURCE (belay_resource_get_type ())
#define BELAY_RESOURCE(o)    (G_TYPE_CHECK_INSTANCE_CAST ((o), BELAY_TYPE_RESOURCE, BelayResource))
#define BELAY_IS_RESOURCE(o) (G_TYPE_CHECK_INSTANCE_TYPE ((o), BELAY_TYPE_RESOURCE))
#define BELAY_RESOURCE_GET_IFACE(o) (G_TYPE_INSTANCE_GET_INTERFACE ((o), BELAY_TYPE_RESOURCE, BelayResourceInterface))

typedef struct _BelayResourceInterface BelayResourceInterface;
typedef struct _BelayPlainClass        BelayPlainClass;
typedef struct _BelayPlain             BelayPlain;

/**
 * BelayResourceInterface:
 * @close: ends it gracefully. Runs in a fiber of the resource's home, shielded from cancellation and bounded by the
 *   release deadline, and may wait. Its time begins at its first checkpoint. @reason says why; whatever is uncommitted
 *   is discarded. Called once.
 * @commit: (nullable): makes what was done with it last. Belay closes it afterwards. Shielded, but not bounded: see
 *   belay_commit(). %NULL: nothing to commit.
 * @abandon: (nullable): ends it by force. Never blocks, never fails, callable from any thread. Called when @close
 *   did not end by the release deadline, or could not be run at all, since its main context has ended, say.
 *
 * What each resource means by its verbs. A #GObject implements it; a plain struct has a #BelayPlainClass.
 */
struct _BelayResourceInterface
{
  /*< private >*/
  GTypeInterface parent;

  /*< public >*/
  gboolean (*close)   (BelayResource *self, BelayReason reason, GError **error);
  gboolean (*commit)  (BelayResource *self, GError **error);
  void     (*abandon) (BelayResource *self);
};

BELAY_AVAILABLE_IN_1_0 GType belay_resource_get_type (void) G_GNUC_CONST;

/**
 * BelayPlainClass:
 * @tag: %BELAY_PLAIN_TAG
 * @name: what it is called in reports
 * @close: (nullable): as in #BelayResourceInterface
 * @commit: (nullable): as in #BelayResourceInterface
 * @abandon: (nullable): as in #BelayResourceInterface
 * @free: (nullable): gives the memory back, after @close or @abandon
 *
 * A resource type for a plain C struct whose first member is a #BelayPlain. Write one as a static constant:
 *
 * |[<!-- language="C" -->
 * static const BelayPlainClass database_class = BELAY_PLAIN_CLASS ("Database", database_close, g_free);
 * ]|
 */
struct _BelayPlainClass
{
  gsize       tag;
  const char *name;
  gboolean  (*close)   (gpointer self, BelayReason reason, GError **error);
  gboolean  (*commit)  (gpointer self, GError **error);
  void      (*abandon) (gpointer self);
  void      (*free)    (gpointer self);
};

/* No GType has these low bits, so the first word of what a pointer leads to tells a plain resource from an object. */
#define BELAY_PLAIN_TAG ((gsize) 3)
#define BELAY_PLAIN_CLASS(name, close, free) { BELAY_PLAIN_TAG, (name), (close), NULL, NULL, (free) }

/* The first member of a plain resource. */
struct _BelayPlain
{
  const BelayPlainClass *klass;
};

/**
 * belay_plain_new:
 * @Type: a struct whose first member is a #BelayPlain
 * @klass: its #BelayPlainClass
 *
 * Allocates one, cleared, with g_free() as its counterpart.
 */
#define belay_plain_new(Type, klass) ((Type *) belay_plain_alloc (sizeof (Type), (klass)))
BELAY_AVAILABLE_IN_1_0 gpointer belay_plain_alloc (gsize size, const BelayPlainClass *klass);

/**
 * belay_close_start:
 * @variable: (inout): the address of a variable that holds a resource or guard; it is %NULL afterwards
 *
 * Starts the graceful close without waiting, from anywhere, and returns its outcome: the form for callback code.
 * %NULL in the variable gives a future that is done.
 *
 * Suspends: never. Cancellation: a close is shielded. Threads: any; the close runs on the caller's thread-default
 * context. Errors: those of the close; %BELAY_ERROR_RELEASE_TIMEOUT.
 *
 * Returns: (transfer full): resolves when it is closed
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_close_start (gpointer variable) BELAY_USE_RESULT;

/**
 * belay_resource_future:
 * @resource: (transfer full): a resource
 *
 * A future that holds @resource: taken once, closed asynchronously when nobody takes it.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_resource_future (gpointer resource) BELAY_USE_RESULT;

/**
 * belay_resource_drop:
 * @resource: (transfer full) (nullable): a resource
 *
 * Releases it soon, without a wait, as a guard does that is left outside of a fiber. A #GDestroyNotify, for those who are to
 * be given one: the value of a job on a worker whose waiter has gone, an element of a #GPtrArray.
 *
 * Suspends: never. Cancellation: the release is shielded. Threads: any; it runs on the caller's thread-default context, or,
 * where nobody iterates that, is a forced close in the end. Errors: those of the close, to the sink.
 */
BELAY_AVAILABLE_IN_1_0 void belay_resource_drop (gpointer resource);

/**
 * belay_open:
 * @func: makes the resource; runs in a fiber of its own and may wait
 * @data: handed to @func, borrowed until it has returned
 *
 * Makes a constructor of a plain function: the future gives the resource that @func returned. A resource that is made too
 * late, for nobody, is closed.
 *
 * Suspends: never itself. Cancellation: nothing starts in a cancelled scope. Since @data is the caller's, an await that is
 * cancelled cancels @func, and returns when that has ended. To drop the future is to cancel without the wait: then @data
 * must live on by itself. Threads: in a fiber or on a thread
 * with a main context. Errors: those of @func; %BELAY_ERROR_MISUSE when what it returned is no resource.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_open (BelayValueFunc func, gpointer data) BELAY_USE_RESULT;

/**
 * belay_open_owned:
 * @func: makes the resource; runs in a fiber of its own and may wait
 * @data: (transfer full): handed to @func
 * @destroy_data: frees @data when @func has returned, exactly once, whether it ran or not
 *
 * As belay_open(), but the data is @func's own. So nobody need wait for it: an await that is cancelled returns at once, and
 * @func, which is cancelled, ends when it ends.
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_open_owned (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data) BELAY_USE_RESULT;

/* The twins that take the site; the names above are macros that add it. */
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_open_at (BelayValueFunc func, gpointer data, const char *site) BELAY_USE_RESULT;
BELAY_AVAILABLE_IN_1_0 BelayFuture *belay_open_owned_at (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data,
                                                         const char *site) BELAY_USE_RESULT;
#ifndef __GI_SCANNER__
#define belay_open(func, data) belay_open_at ((func), (data), BELAY_SITE)
#define belay_open_owned(func, data, destroy_data) belay_open_owned_at ((func), (data), (destroy_data), BELAY_SITE)
#endif

/* How many releases and detached jobs are under way in the whole program. The end of belay_run() waits for them. */
BELAY_AVAILABLE_IN_1_0 guint belay_get_n_pending (void);

G_END_DECLS
