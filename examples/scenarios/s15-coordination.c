/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Coordination: a lock that is held by a guard (a semaphore of one permit is one), a group in which a child that fails cancels
 * the others, and a time-out inside of a time-out.
 */
#include <belay/belay.h>

/* --- the lock --- */

typedef struct
{
  BelaySemaphore *lock;
  int             count;
} Counter;

/* Without the lock each would read the same count. */
static gboolean
increment (gpointer data, GError **error)
{
  Counter *counter = data;
  belay_auto (BelayPermit) held = belay_semaphore_acquire (counter->lock, error);
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
  g_autoptr (BelaySemaphore) lock = belay_semaphore_new (1);
  Counter counter = { lock, 0 };
  belay_auto (BelayScope) group = belay_scope_begin ();

  for (int i = 0; i < 10; i++)
    belay_scope_spawn (group, increment, &counter, NULL);
  if (!belay_scope_close (&group, error))
    return FALSE;
  g_print ("ten increments: %d\n", counter.count);
  return TRUE;
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
  if (!count (error))
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
