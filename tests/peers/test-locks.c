/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cases of asyncio's test_locks.py for locks, conditions and semaphores. */
#include "thing.h"

typedef struct
{
  BelaySemaphore *lock;
  const char     *name;
  BelayPromise   *hold; /* it holds the permit until this is answered */
  guint           rounds;
} Holder;

static gboolean
hold (gpointer data, GError **error)
{
  Holder *holder = data;

  for (guint i = 0; i < MAX (holder->rounds, 1); i++)
    {
      belay_auto (BelayPermit) permit = belay_semaphore_acquire (holder->lock, error);
      if (permit == NULL)
        return FALSE;

      thing_note ("%s", holder->name);
      if (holder->hold != NULL && !belay_await_ok (belay_promise_get_future (holder->hold), error))
        return FALSE;
      if (holder->rounds > 0 && !belay_yield (error))
        return FALSE;
    }
  return TRUE;
}

/* Time passes when nobody can go on any more. */
static gboolean
all_wait (GError **error)
{
  return belay_sleep (1, error);
}

/* The same with the lock itself. */
typedef struct
{
  BelayLock    *lock;
  const char   *name;
  BelayPromise *hold;
} Locker;

static gboolean
hold_lock (gpointer data, GError **error)
{
  Locker *locker = data;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (locker->lock, error);

  if (held == NULL)
    return FALSE;
  thing_note ("%s", locker->name);
  return locker->hold == NULL || belay_await_ok (belay_promise_get_future (locker->hold), error);
}

static gboolean
turns (guint n, GError **error)
{
  for (guint i = 0; i < n; i++)
    if (!belay_yield (error))
      return FALSE;
  return TRUE;
}

/* D01: three waiters; each release grants one, in order. */
static gboolean
test_d01 (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  const char *logs[] = { "a", "a b", "a b c" };
  Locker holders[3] = { { lock, "a" }, { lock, "b" }, { lock, "c" } };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 3; i++)
    {
      holders[i].hold = belay_promise_new ();
      g_assert_true (belay_scope_spawn (scope, hold_lock, &holders[i], NULL));
      g_assert_true (all_wait (error));
    }
  g_assert_cmpstr (thing_log (), ==, "");
  for (guint i = 0; i < 3; i++)
    {
      if (i == 0)
        belay_release (&held);
      else
        belay_promise_resolve (holders[i - 1].hold);
      g_assert_true (all_wait (error));
      g_assert_cmpstr (thing_log (), ==, logs[i]);
    }
  belay_promise_resolve (holders[2].hold);
  g_assert_true (belay_scope_close (&scope, error));
  for (guint i = 0; i < 3; i++)
    belay_promise_unref (holders[i].hold);
  g_assert_false (belay_lock_is_locked (lock));
  return TRUE;
}

/* D02: a cancelled waiter leaves the queue; the lock is as it was. */
static gboolean
test_d02 (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  Locker holder = { lock, "waiter" };
  BelayScope *scope = belay_scope_new ();
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_scope_spawn (scope, hold_lock, &holder, NULL));
  g_assert_true (turns (2, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_true (belay_lock_is_locked (lock));
  belay_release (&held);
  g_assert_false (belay_lock_is_locked (lock));
  assert_log ("");
  return TRUE;
}

/*
 * D03, D04: released and the first waiter cancelled in one turn, in either order: exactly one of the rest has it, the
 * second in the queue.
 */
static gboolean
race (gboolean release_first, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  g_autoptr (BelayPromise) keep = belay_promise_new ();
  Locker holders[3] = { { lock, "a" }, { lock, "b", keep }, { lock, "c", keep } };
  BelayScope *first = belay_scope_new ();
  belay_auto (BelayScope) rest = belay_scope_begin ();

  for (guint i = 0; i < 3; i++)
    {
      g_assert_true (belay_scope_spawn (i == 0 ? first : rest, hold_lock, &holders[i], NULL));
      g_assert_true (all_wait (error));
    }
  if (release_first)
    belay_release (&held);
  belay_scope_cancel (first, "enough");
  if (!release_first)
    belay_release (&held);
  belay_scope_close (&first, NULL);
  g_assert_true (all_wait (error));
  g_assert_true (belay_lock_is_locked (lock));
  /* The first may have been granted before it saw that it is cancelled: then it has had it, and passed it on. */
  g_assert_true (g_str_has_suffix (thing_log (), "b"));
  thing_clear_log ();
  belay_promise_resolve (keep);
  g_assert_true (belay_scope_close (&rest, error));
  assert_log ("c");
  g_assert_false (belay_lock_is_locked (lock));
  return TRUE;
}

static gboolean
test_d03 (gpointer data, GError **error)
{
  return race (TRUE, error);
}

static gboolean
test_d04 (gpointer data, GError **error)
{
  return race (FALSE, error);
}

/* D05: granted, then cancelled before it ran: the grant passes on, the lock is never lost. */
static gboolean
test_d05 (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  BelayLockGuard *held = belay_lock_acquire (lock, error);
  Locker holders[2] = { { lock, "a" }, { lock, "b" } };
  BelayScope *first = belay_scope_new (), *second = belay_scope_new ();
  BelayLockGuard *again;

  g_assert_true (belay_scope_spawn (first, hold_lock, &holders[0], NULL));
  g_assert_true (belay_scope_spawn (second, hold_lock, &holders[1], NULL));
  g_assert_true (all_wait (error));
  belay_release (&held); /* granted to a */
  belay_scope_cancel (first, "enough");
  belay_scope_cancel (second, "enough");
  belay_scope_close (&first, NULL);
  belay_scope_close (&second, NULL);
  g_assert_false (belay_lock_is_locked (lock));
  again = belay_lock_acquire (lock, error); /* at once */
  g_assert_nonnull (again);
  belay_release (&again);
  thing_clear_log ();
  return TRUE;
}

/* D11: cancelled or out of time while it waits: the lock is acquired again before the wait ends, so that a guard can release it. */
typedef struct
{
  BelayLock      *lock;
  BelayCondition *changed;
  gint64          patience_ms; /* -1: for ever */
} Waiter;

static gboolean
wait_for_change (gpointer data, GError **error)
{
  Waiter *self = data;
  belay_auto (BelayTimeout) limit = self->patience_ms >= 0 ? belay_timeout (self->patience_ms) : NULL;
  belay_auto (BelayLockGuard) held = belay_lock_acquire (self->lock, error);
  gboolean ok = held != NULL && belay_condition_wait (self->changed, &held, error);

  g_assert_true (held != NULL && belay_lock_is_locked (self->lock));
  thing_note ("%s", ok ? "notified" : g_error_matches (*error, G_IO_ERROR, G_IO_ERROR_CANCELLED) ? "cancelled" : "late");
  return ok;
}

static gboolean
test_d11 (gpointer data, GError **error)
{
  const char *logs[] = { "late", "cancelled", "notified" };

  for (guint i = 0; i < 3; i++)
    {
      g_autoptr (BelayLock) lock = belay_lock_new ();
      g_autoptr (BelayCondition) changed = belay_condition_new (lock);
      Waiter waiter = { lock, changed, i == 0 ? 10 : -1 };
      BelayScope *scope = belay_scope_new ();
      BelayLockGuard *held;

      g_assert_true (belay_scope_spawn (scope, wait_for_change, &waiter, NULL));
      while (belay_condition_get_n_waiting (changed) == 0)
        belay_yield (NULL);
      held = belay_lock_acquire (lock, error);
      if (i == 2)
        belay_condition_notify (changed, 1); /* and cancelled after that: it was notified */
      if (i > 0)
        belay_scope_cancel (scope, "enough");
      g_assert_true (belay_sleep (20, error));
      assert_log ("");
      belay_release (&held);
      belay_scope_close (&scope, NULL);
      assert_log (logs[i]);
      g_assert_false (belay_lock_is_locked (lock));
    }
  return TRUE;
}

/* D14: a releaser that acquires again goes behind the waiters; cancelled ones are skipped. */
static gboolean
test_d14 (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  Holder holders[3] = { { semaphore, "1", NULL, 3 }, { semaphore, "2", NULL, 3 }, { semaphore, "3", NULL, 3 } };
  Holder cancelled = { semaphore, "x", NULL, 3 };
  BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
  BelayScope *other = belay_scope_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 3; i++)
    {
      g_assert_true (belay_scope_spawn (scope, hold, &holders[i], NULL));
      g_assert_true (all_wait (error));
      if (i == 1)
        g_assert_true (belay_scope_spawn (other, hold, &cancelled, NULL) && all_wait (error));
    }
  belay_scope_cancel (other, "enough");
  g_assert_true (all_wait (error));
  belay_release (&permit);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("1 2 3 1 2 3 1 2 3");
  belay_scope_close (&other, NULL);
  return TRUE;
}

/* D15: cancelled before it woke, with others queued and none: acquiring neither hangs nor swallows. */
static gboolean
test_d15 (gpointer data, GError **error)
{
  for (guint n_others = 0; n_others < 4; n_others++)
    for (guint k = 0; k < 4; k++)
      {
        g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
        BelayPermit *permit = belay_semaphore_acquire (semaphore, error);
        Holder cancelled = { semaphore, "x" }, other = { semaphore, "o" };
        BelayScope *scope = belay_scope_new ();
        belay_auto (BelayScope) others = belay_scope_begin ();
        gint64 begin = now_ms ();

        g_assert_true (belay_scope_spawn (scope, hold, &cancelled, NULL));
        for (guint i = 0; i < n_others; i++)
          g_assert_true (belay_scope_spawn (others, hold, &other, NULL));
        g_assert_true (turns (2, error));
        belay_release (&permit);
        if (!turns (k, error))
          return FALSE;
        belay_scope_cancel (scope, "enough");
        belay_scope_close (&scope, NULL);
        g_assert_true (belay_scope_close (&others, error));
        g_assert_cmpint (now_ms (), ==, begin);
        g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
      }
  thing_clear_log ();
  return TRUE;
}

typedef struct
{
  BelayBarrier *barrier;
  guint         seen[3];
  guint         n_passed;
} Parties;

static gboolean
come_twice (gpointer data, GError **error)
{
  Parties *parties = data;

  for (guint round = 0; round < 2; round++)
    {
      guint index = 9;

      if (!belay_barrier_wait (parties->barrier, &index, error))
        return FALSE;
      g_assert_cmpuint (index, <, 3);
      parties->seen[index]++;
      parties->n_passed++;
    }
  return TRUE;
}

/* D18: nobody passes before all have come; each index once in a round; and a second round. */
static gboolean
test_d18 (gpointer data, GError **error)
{
  Parties parties = { belay_barrier_new (3) };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 2; i++)
    g_assert_true (belay_scope_spawn (scope, come_twice, &parties, NULL));
  g_assert_true (belay_sleep (10, error));
  g_assert_cmpuint (belay_barrier_get_n_waiting (parties.barrier), ==, 2);
  g_assert_cmpuint (parties.n_passed, ==, 0);
  g_assert_true (belay_scope_spawn (scope, come_twice, &parties, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpuint (belay_barrier_get_n_waiting (parties.barrier), ==, 0);
  for (guint i = 0; i < 3; i++)
    g_assert_cmpuint (parties.seen[i], ==, 2);
  belay_barrier_unref (parties.barrier);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/peers/locks/D01-granted-in-order-one-for-each-release", test_d01);
  thing_add_test ("/peers/locks/D02-cancelled-waiter-leaves-the-queue", test_d02);
  thing_add_test ("/peers/locks/D03-released-then-first-waiter-cancelled", test_d03);
  thing_add_test ("/peers/locks/D04-first-waiter-cancelled-then-released", test_d04);
  thing_add_test ("/peers/locks/D05-granted-waiter-cancelled-before-it-ran", test_d05);
  thing_add_test ("/peers/locks/D11-condition-has-its-lock-again", test_d11);
  thing_add_test ("/peers/locks/D14-releaser-goes-behind-waiters", test_d14);
  thing_add_test ("/peers/locks/D15-cancelled-waiters-swallow-nothing", test_d15);
  thing_add_test ("/peers/locks/D18-a-barrier-in-rounds", test_d18);
  return g_test_run ();
}
