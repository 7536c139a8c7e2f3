/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Coordination: a lock that is held by a guard, a consumer that waits on a condition, a group in which a child that fails
 * cancels the others, and a time-out inside of a time-out.
 */
#include <belay/belay.h>

/* --- the lock --- */

typedef struct
{
  BelayLock *lock;
  int        count;
} Counter;

/* Without the lock each would read the same count. */
static gboolean
increment (gpointer data, GError **error)
{
  Counter *counter = data;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (counter->lock, error);
  int seen;

  if (held == NULL)
    return FALSE;
  seen = counter->count;
  if (!belay_sleep (10, error))
    return FALSE;
  counter->count = seen + 1;
  return TRUE;
}

static gboolean
count (GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  Counter counter = { lock, 0 };
  belay_auto (BelayScope) group = belay_scope_begin ();

  for (int i = 0; i < 10; i++)
    belay_scope_spawn (group, increment, &counter, NULL);
  if (!belay_scope_close (&group, error))
    return FALSE;
  g_print ("ten increments: %d\n", counter.count);
  return TRUE;
}

/* --- the condition --- */

typedef struct
{
  BelayLock      *lock;
  BelayCondition *changed;
  GQueue          items;
} Store;

/* The lock is given back while it waits, and held again when it goes on, whatever the reason. */
static gboolean
consume (gpointer data, GError **error)
{
  Store *store = data;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (store->lock, error);

  if (held == NULL)
    return FALSE;
  while (g_queue_is_empty (&store->items))
    if (!belay_condition_wait (store->changed, &held, error))
      return FALSE;
  g_print ("consumed: %s\n", (char *) g_queue_pop_head (&store->items));
  return TRUE;
}

static gboolean
produce (gpointer data, GError **error)
{
  Store *store = data;
  belay_auto (BelayLockGuard) held = belay_sleep (100, error) ? belay_lock_acquire (store->lock, error) : NULL;

  if (held == NULL)
    return FALSE;
  g_print ("produced: a loaf\n");
  g_queue_push_tail (&store->items, "a loaf");
  belay_condition_notify (store->changed, 1);
  return TRUE;
}

static gboolean
hand_over (GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  g_autoptr (BelayCondition) changed = belay_condition_new (lock);
  Store store = { lock, changed, G_QUEUE_INIT };
  belay_auto (BelayScope) group = belay_scope_begin ();

  belay_scope_spawn (group, consume, &store, NULL);
  belay_scope_spawn (group, produce, &store, NULL);
  return belay_scope_close (&group, error);
}

/* --- the group --- */

static gboolean
work (gpointer name, GError **error)
{
  gboolean ok = belay_sleep (1000, error);

  g_print ("%s: %s\n", (char *) name, ok ? "done" : (*error)->message);
  return ok;
}

static gboolean
fail (gpointer name, GError **error)
{
  if (belay_sleep (100, error))
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s has failed", (char *) name);
  return FALSE;
}

static void
work_together (void)
{
  g_autoptr (GError) error = NULL;
  belay_auto (BelayScope) group = belay_scope_begin ();

  belay_scope_spawn (group, work, "first", NULL);
  belay_scope_spawn (group, fail, "second", NULL);
  belay_scope_spawn (group, work, "third", NULL);
  if (!belay_scope_close (&group, &error))
    g_print ("the group: %s\n", error->message);
}

/* --- the time-outs --- */

static void
wait (gint64 outer_ms, gint64 inner_ms)
{
  g_autoptr (GError) error = NULL;
  belay_auto (BelayTimeout) outer = belay_timeout (outer_ms);
  belay_auto (BelayTimeout) inner = belay_timeout (inner_ms);
  gint64 begin = belay_now ();

  if (!belay_sleep (5000, &error))
    g_print ("outer %d ms, inner %d ms: the %s one, after %d ms\n", (int) outer_ms, (int) inner_ms,
             belay_timeout_expired (inner) ? "inner" : belay_timeout_expired (outer) ? "outer" : "?",
             (int) ((belay_now () - begin) / 1000));
}

static gboolean
run (gpointer data, GError **error)
{
  if (!count (error) || !hand_over (error))
    return FALSE;
  work_together ();
  wait (1000, 200);
  wait (200, 1000);
  return TRUE;
}

int
main (void)
{
  return belay_run (run, NULL);
}
