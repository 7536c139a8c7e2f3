/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cases of asyncio's test_locks.py that a semaphore, also as a lock, can have. */
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
  g_autoptr (BelaySemaphore) lock = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (lock, error);
  const char *logs[] = { "a", "a b", "a b c" };
  Holder holders[3] = { { lock, "a" }, { lock, "b" }, { lock, "c" } };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (guint i = 0; i < 3; i++)
    {
      holders[i].hold = belay_promise_new ();
      g_assert_true (belay_scope_spawn (scope, hold, &holders[i], NULL));
      g_assert_true (all_wait (error));
    }
  g_assert_cmpstr (thing_log (), ==, "");
  for (guint i = 0; i < 3; i++)
    {
      if (i == 0)
        belay_release (&permit);
      else
        belay_promise_resolve (holders[i - 1].hold);
      g_assert_true (all_wait (error));
      g_assert_cmpstr (thing_log (), ==, logs[i]);
    }
  belay_promise_resolve (holders[2].hold);
  g_assert_true (belay_scope_close (&scope, error));
  for (guint i = 0; i < 3; i++)
    belay_promise_unref (holders[i].hold);
  g_assert_cmpuint (belay_semaphore_get_available (lock), ==, 1);
  return TRUE;
}

/* D02: a cancelled waiter leaves the queue; the lock is as it was. */
static gboolean
test_d02 (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) lock = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (lock, error);
  Holder holder = { lock, "waiter" };
  BelayScope *scope = belay_scope_new ();
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_scope_spawn (scope, hold, &holder, NULL));
  g_assert_true (turns (2, error));
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_scope_close (&scope, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpuint (belay_semaphore_get_available (lock), ==, 0);
  belay_release (&permit);
  g_assert_cmpuint (belay_semaphore_get_available (lock), ==, 1);
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
  g_autoptr (BelaySemaphore) lock = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (lock, error);
  g_autoptr (BelayPromise) keep = belay_promise_new ();
  Holder holders[3] = { { lock, "a" }, { lock, "b", keep }, { lock, "c", keep } };
  BelayScope *first = belay_scope_new ();
  belay_auto (BelayScope) rest = belay_scope_begin ();

  for (guint i = 0; i < 3; i++)
    {
      g_assert_true (belay_scope_spawn (i == 0 ? first : rest, hold, &holders[i], NULL));
      g_assert_true (all_wait (error));
    }
  if (release_first)
    belay_release (&permit);
  belay_scope_cancel (first, "enough");
  if (!release_first)
    belay_release (&permit);
  belay_scope_close (&first, NULL);
  g_assert_true (all_wait (error));
  g_assert_cmpuint (belay_semaphore_get_available (lock), ==, 0);
  /* The first may have been granted before it saw that it is cancelled: then it has had it, and passed it on. */
  g_assert_true (g_str_has_suffix (thing_log (), "b"));
  thing_clear_log ();
  belay_promise_resolve (keep);
  g_assert_true (belay_scope_close (&rest, error));
  assert_log ("c");
  g_assert_cmpuint (belay_semaphore_get_available (lock), ==, 1);
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
  g_autoptr (BelaySemaphore) lock = belay_semaphore_new (1);
  BelayPermit *permit = belay_semaphore_acquire (lock, error);
  Holder holders[2] = { { lock, "a" }, { lock, "b" } };
  BelayScope *first = belay_scope_new (), *second = belay_scope_new ();
  BelayPermit *again;

  g_assert_true (belay_scope_spawn (first, hold, &holders[0], NULL));
  g_assert_true (belay_scope_spawn (second, hold, &holders[1], NULL));
  g_assert_true (all_wait (error));
  belay_release (&permit); /* granted to a */
  belay_scope_cancel (first, "enough");
  belay_scope_cancel (second, "enough");
  belay_scope_close (&first, NULL);
  belay_scope_close (&second, NULL);
  g_assert_cmpuint (belay_semaphore_get_available (lock), ==, 1);
  again = belay_semaphore_acquire (lock, error); /* at once */
  g_assert_nonnull (again);
  belay_release (&again);
  thing_clear_log ();
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

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/peers/locks/D01-granted-in-order-one-for-each-release", test_d01);
  thing_add_test ("/peers/locks/D02-cancelled-waiter-leaves-the-queue", test_d02);
  thing_add_test ("/peers/locks/D03-released-then-first-waiter-cancelled", test_d03);
  thing_add_test ("/peers/locks/D04-first-waiter-cancelled-then-released", test_d04);
  thing_add_test ("/peers/locks/D05-granted-waiter-cancelled-before-it-ran", test_d05);
  thing_add_test ("/peers/locks/D14-releaser-goes-behind-waiters", test_d14);
  thing_add_test ("/peers/locks/D15-cancelled-waiters-swallow-nothing", test_d15);
  return g_test_run ();
}
