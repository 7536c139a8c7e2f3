/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The seven races that a fiber runtime gets wrong, each a test by its words.
 *
 * The program is run twice. By itself the clock is the real one, and goes on while a fiber is queued; so times are asserted
 * from below only. With BELAY_DEBUG=virtual-clock in the environment each race is run in many orders, by seeds, and what
 * another thread does at any instant is done by a fiber instead.
 */
#include "thing.h"

#include <string.h>

static gboolean seeded;

/* While nothing else can happen. */
static void
pass_time (gint64 milliseconds)
{
  if (seeded)
    belay_test_advance (milliseconds);
  else
    g_usleep (milliseconds * 1000);
}

/* Another thread, or a fiber in its place. */
typedef struct
{
  GThread     *thread;
  BelayFuture *fiber;
} Other;

static gboolean
call_at_any_instant (gpointer call, GError **error)
{
  gpointer *func_and_data = call;

  g_assert_true (belay_sleep (belay_test_chance (4), error));
  ((GThreadFunc) func_and_data[0]) (func_and_data[1]);
  return TRUE;
}

/* @call: the function and its data, as long as it runs. */
static Other
other_start (gpointer call[2])
{
  Other other = { NULL, NULL };

  if (seeded)
    other.fiber = belay_spawn (call_at_any_instant, call);
  else
    other.thread = g_thread_new ("other", (GThreadFunc) call[0], call[1]);
  return other;
}

static void
other_join (Other *self)
{
  if (self->thread != NULL)
    g_thread_join (g_steal_pointer (&self->thread));
  if (self->fiber != NULL)
    g_assert_true (belay_await_ok (g_steal_pointer (&self->fiber), NULL));
}

static gpointer
resolve_and_drop (gpointer data)
{
  BelayPromise *promise = data;

  belay_promise_resolve_int64 (promise, 1);
  belay_promise_unref (promise);
  return NULL;
}

/* --- 1. a child still pending is released when its parent's wait is cut short --- */

typedef struct
{
  int begun, ended;
} Witness;

static gboolean
long_clean_up (gpointer data, GError **error)
{
  Witness *witness = data;
  belay_auto (Thing) thing = thing_new_slow ("t", 5);
  char here[512]; /* on the child's own stack */

  g_atomic_int_inc (&witness->begun);
  memset (here, 7, sizeof here);
  if (!belay_sleep (1000, error))
    {
      belay_auto (BelayShield) shield = belay_shield ();

      for (guint i = 0; i < 5; i++)
        g_assert_true (shield != NULL && belay_sleep (1, NULL));
    }
  for (guint i = 0; i < sizeof here; i++)
    g_assert_cmpint (here[i], ==, 7);
  g_atomic_int_inc (&witness->ended);
  return thing == NULL;
}

static gboolean
await_child (gpointer data, GError **error)
{
  return belay_await_ok (belay_spawn (long_clean_up, data), error);
}

static gboolean
await_child_for_a_while (gpointer data, GError **error)
{
  int begun = g_atomic_int_get (&((Witness *) data)->begun);
  g_autoptr (BelayFuture) child = belay_spawn (long_clean_up, data);

  while (g_atomic_int_get (&((Witness *) data)->begun) == begun)
    g_assert_true (belay_yield (error));
  {
    belay_auto (BelayTimeout) limit = belay_timeout (2);

    g_assert_nonnull (limit);
    g_assert_false (belay_await_ok (belay_future_ref (child), NULL));
  }
  g_assert_true (belay_future_is_pending (child)); /* it goes on: it is the scope's */
  belay_scope_cancel (belay_scope_current (), "enough");
  return belay_checkpoint (error);
}

static gboolean
test_cancelled_wait (gpointer data, GError **error)
{
  Witness witness = { 0, 0 };
  BelayScope *scope = belay_scope_new ();
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_scope_spawn (scope, await_child, &witness, NULL));
  while (witness.begun == 0)
    g_assert_true (belay_sleep (1, error));
  belay_scope_cancel (scope, "enough");
  belay_scope_close (&scope, NULL);
  g_assert_cmpint (witness.ended, ==, 1); /* the close waited for the grandchild, too */
  failure = thing_outcome (await_child_for_a_while, &witness);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (witness.ended, ==, 2);
  return TRUE;
}

static Witness of_loop;

static gboolean
spawn_and_end (gpointer data, GError **error)
{
  belay_future_unref (belay_spawn (long_clean_up, &of_loop));
  while (g_atomic_int_get (&of_loop.begun) == 0)
    g_assert_true (belay_yield (error));
  belay_scope_cancel (belay_scope_current (), "the end");
  return TRUE;
}

static void
test_end_of_loop (void)
{
  of_loop = (Witness) { 0, 0 };
  belay_run (spawn_and_end, NULL);
  g_assert_cmpint (of_loop.begun, ==, 1);
  g_assert_cmpint (of_loop.ended, ==, 1);
  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
}

/* --- 2. a child's completion wakes its creator out of an unrelated sleep --- */

static gboolean
resolve_later (gpointer promise, GError **error)
{
  gboolean ok = belay_sleep (20, error);

  belay_promise_resolve (promise);
  return ok;
}

static gboolean
test_unrelated_sleep (gpointer data, GError **error)
{
  gint64 begin = belay_now ();
  BelayFuture *children[4];
  BelayPromise *promise = belay_promise_new ();
  BelaySemaphore *semaphore = belay_semaphore_new (1);

  for (gint64 i = 0; i < 3; i++)
    children[i] = belay_spawn (sleep_func, GINT_TO_POINTER ((int) i * 2));
  g_assert_true (belay_sleep (20, error));
  g_assert_cmpint (belay_now () - begin, >=, 20000);
  for (guint i = 0; i < 3; i++)
    g_assert_true (belay_future_is_resolved (children[i])); /* they did end in the meantime */

  /* nor out of an await, nor out of the queue of a semaphore */
  children[3] = belay_spawn (resolve_later, promise);
  begin = belay_now ();
  belay_future_unref (belay_spawn (sleep_func, GINT_TO_POINTER (2)));
  g_assert_true (belay_await_ok (belay_promise_get_future (promise), error));
  g_assert_cmpint (belay_now () - begin, >=, 19000);
  {
    belay_auto (BelayPermit) held = belay_semaphore_acquire (semaphore, error);
    belay_auto (BelayTimeout) limit = belay_timeout (20);

    belay_future_unref (belay_spawn (sleep_func, GINT_TO_POINTER (2)));
    begin = belay_now ();
    g_assert_null (belay_semaphore_acquire (semaphore, NULL));
    g_assert_true (held != NULL && belay_timeout_expired (limit));
    g_assert_cmpint (belay_now () - begin, >=, 19000);
  }
  belay_semaphore_unref (semaphore);
  belay_promise_unref (promise);
  for (guint i = 0; i < 3; i++)
    belay_future_unref (children[i]);
  belay_future_unref (children[3]);
  return TRUE;
}

/* --- 3. a fire-and-forget child resumes a parent that is already freed --- */

static gpointer
open_slowly (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  belay_sleep (5, NULL);
  return shield != NULL ? thing_new ("late") : NULL;
}

static gboolean
forget (gpointer data, GError **error)
{
  Thing *closing = thing_new_slow ("closing", 5);
  BelayFuture *opening = belay_open (open_slowly, NULL);

  g_assert_true (belay_yield (error));
  belay_future_unref (opening);
  belay_future_unref (belay_close_start (&closing));
  return TRUE;
}

static gboolean
use_stack (gpointer data, GError **error)
{
  char buffer[4096];

  memset (buffer, 1, sizeof buffer);
  return belay_sleep (1, error) && buffer[17] == 1;
}

static gboolean
test_freed_parent (gpointer data, GError **error)
{
  for (guint i = 0; i < 20; i++)
    {
      g_assert_true (belay_await_ok (belay_spawn (forget, NULL), error));
      g_assert_true (belay_await_ok (belay_spawn (use_stack, NULL), error)); /* on the stack that the parent had */
    }
  while (belay_get_n_pending () > 1)
    if (!belay_sleep (1, error))
      return FALSE;
  g_assert_cmpint (thing_count.opened, >=, seeded ? 20 : 40); /* an opening that is dropped before it begins opens nothing */
  g_assert_cmpint (thing_count.opened, <=, 40);
  g_assert_cmpint (thing_count.freed, ==, thing_count.opened);
  return TRUE;
}

/* --- 4. a fire-and-forget child is stranded when the loop ends --- */

static gboolean
count (gpointer data, GError **error)
{
  if (!belay_sleep (10, error))
    return FALSE;
  g_atomic_int_inc ((int *) data);
  return TRUE;
}

static int n_counted;

static gboolean
forget_and_end (gpointer data, GError **error)
{
  for (guint i = 0; i < 10; i++)
    belay_future_unref (belay_spawn (count, &n_counted));
  return forget (NULL, error);
}

static gboolean
forget_on_loop (gpointer data, GError **error)
{
  for (guint i = 0; i < 10; i++)
    belay_future_unref (belay_spawn (count, &n_counted));
  return TRUE;
}

static gboolean
forget_loop_fibers (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("other");
  BelayFuture *there = belay_loop_spawn (loop, forget_on_loop, NULL, NULL);

  return belay_await_ok (there, error) && belay_close (&loop, error);
}

static void
test_stranded (void)
{
  n_counted = 0;
  belay_future_unref (belay_spawn (count, &n_counted)); /* outside of any fiber */
  g_assert_cmpint (belay_run (forget_and_end, NULL), ==, 0);
  g_assert_cmpint (n_counted, ==, 11);
  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
  g_assert_cmpint (thing_count.freed, ==, thing_count.opened);
  if (seeded)
    return; /* another loop is another thread */
  n_counted = 0;
  g_assert_cmpint (belay_run (forget_loop_fibers, NULL), ==, 0);
  g_assert_cmpint (n_counted, ==, 10);
}

/* --- 5. a deadline that fires while the fiber is queued to run is dropped --- */

static gboolean
resolve_and_hog (gpointer promise, GError **error)
{
  belay_promise_resolve (promise); /* now the other is queued, */
  pass_time (20);                  /* and its time passes before it runs */
  return TRUE;
}

static gboolean
test_deadline_while_queued (gpointer data, GError **error)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  belay_auto (BelayTimeout) limit = belay_timeout (5);
  BelayFuture *hog = belay_spawn (resolve_and_hog, promise);

  g_assert_true (belay_await_ok (belay_promise_get_future (promise), error)); /* had succeeded before */
  g_assert_false (belay_timeout_expired (limit));
  g_assert_false (belay_checkpoint (NULL));
  g_assert_true (belay_timeout_expired (limit));
  g_assert_false (belay_sleep (1, NULL));
  g_assert_false (belay_yield (NULL));
  g_assert_true (belay_close (&limit, error));
  return belay_await_ok (hog, error);
}

static gboolean
hog_only (gpointer data, GError **error)
{
  pass_time (20);
  if (data != NULL)
    *(gboolean *) data = TRUE;
  return TRUE;
}

/* The same while it has given way, and while it waits for something else than what woke it. */
static gboolean
test_deadline_while_yielding (gpointer data, GError **error)
{
  gboolean hogged = FALSE, ok = TRUE;
  BelayFuture *hog = belay_spawn (hog_only, &hogged), *second;
  belay_auto (BelayTimeout) limit = belay_timeout (5);

  while (!hogged)
    ok = belay_yield (NULL);
  g_assert_false (ok);
  g_assert_true (belay_timeout_expired (limit));
  g_assert_true (belay_close (&limit, error));
  g_assert_true (belay_await_ok (hog, error));

  limit = belay_timeout (5);
  second = belay_spawn (hog_only, NULL);
  g_assert_false (wait_func (NULL, NULL));
  g_assert_true (belay_timeout_expired (limit));
  g_assert_true (belay_close (&limit, error));
  return belay_await_ok (second, error);
}

/* And a deadline that is moved nearer while the fiber sleeps. */
static gboolean
test_deadline_moved (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  gint64 begin = belay_now ();

  g_assert_true (belay_scope_spawn (scope, sleep_func, GINT_TO_POINTER (60000), NULL));
  g_assert_true (belay_sleep (1, error));
  belay_scope_set_timeout (scope, 1000);
  belay_scope_set_timeout (scope, 5);
  g_assert_false (belay_scope_close (&scope, NULL));
  g_assert_cmpint (belay_now () - begin, <, 30 * G_USEC_PER_SEC);
  return TRUE;
}

/* --- 6. a cancellation that arrives during cleanup is swallowed --- */

static gboolean
clean_up_then_check (gpointer data, GError **error)
{
  {
    belay_auto (Thing) a = thing_new_slow ("a", 10);
    g_assert_nonnull (a);
  }
  thing_note ("after");
  return belay_checkpoint (error);
}

static gboolean
close_then_check (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new_slow ("a", 10);

  g_assert_true (belay_close (&a, error));
  thing_note ("after");
  return belay_sleep (1, error);
}

static gboolean
commit_then_check (gpointer data, GError **error)
{
  belay_auto (Thing) a = thing_new ("a");

  a->commit_ms = 10;
  g_assert_true (belay_commit (&a, error));
  thing_note ("after");
  return belay_yield (error);
}

static gboolean
scope_then_check (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new_slow ("a", 10), NULL);
  g_assert_true (belay_scope_close (&scope, error));
  thing_note ("after");
  return belay_await_ok (belay_future_new_done (), error);
}

static gboolean
test_cancelled_in_cleanup (gpointer data, GError **error)
{
  BelayFunc bodies[] = { clean_up_then_check, close_then_check, commit_then_check, scope_then_check };

  for (guint i = 0; i < G_N_ELEMENTS (bodies); i++)
    {
      BelayScope *scope = belay_scope_new ();
      g_autoptr (GError) failure = NULL;

      g_assert_true (belay_scope_spawn (scope, bodies[i], NULL, NULL));
      g_assert_true (belay_sleep (2, error));
      belay_scope_cancel (scope, "enough");
      g_assert_false (belay_scope_close (&scope, &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_assert_true (g_str_has_suffix (thing_log (), i == 2 ? "-a after" : "a. after"));
      thing_clear_log ();
    }
  return TRUE;
}

/* --- 7. a stale resume value surfaces at a later await --- */

/* What was waited for in vain comes after all, just then; the next wait must not take it for its own. */
static gboolean
test_stale_value (gpointer data, GError **error)
{
  guint n_late = 0, n_rounds = seeded ? 30 : 300;

  for (guint i = 0; i < n_rounds; i++)
    {
      BelayPromise *promise = belay_promise_new ();
      gpointer resolver[2] = { resolve_and_drop, promise };
      BelayFuture *future = belay_promise_get_future (promise);
      g_autoptr (BelayPromise) other = belay_promise_new ();
      Other other_one = { NULL, NULL };
      gint64 value = 0;
      gboolean ok;

      {
        belay_auto (BelayTimeout) limit = belay_timeout (1);

        if (i % 3 != 0)
          other_one = other_start (resolver);
        else
          belay_promise_ref (promise);
        g_assert_nonnull (limit);
        if (i % 3 == 2)
          pass_time (i % 7 / 3);
        ok = belay_await_int64 (future, &value, NULL);
        g_assert_cmpint (value, ==, ok ? 1 : 0);
      }
      if (i % 3 == 0)
        {
          belay_promise_resolve_int64 (promise, 1); /* nobody waits any more */
          belay_promise_unref (promise);
          belay_promise_unref (promise);
        }
      if (!ok)
        n_late++;
      {
        belay_auto (BelayTimeout) limit = belay_timeout (2);

        g_assert_false (belay_await_ok (belay_promise_get_future (other), NULL)); /* nothing came for this one */
        g_assert_true (belay_timeout_expired (limit));
      }
      other_join (&other_one);
    }
  g_assert_cmpuint (n_late, >=, n_rounds / 3);
  return TRUE;
}

static gpointer
release_permit (gpointer permit)
{
  belay_release (&permit);
  return NULL;
}

/* The same with the grant of a semaphore. */
static gboolean
test_stale_grant (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);

  for (guint i = 0; i < (seeded ? 30 : 200); i++)
    {
      g_autoptr (BelayPromise) other = belay_promise_new ();
      gpointer releaser[2] = { release_permit, belay_semaphore_acquire (semaphore, error) };
      Other other_one = other_start (releaser);

      {
        belay_auto (BelayTimeout) limit = belay_timeout (i % 2);
        belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, NULL);

        g_assert_true (permit != NULL || belay_timeout_expired (limit));
      }
      {
        belay_auto (BelayTimeout) limit = belay_timeout (1);

        g_assert_false (belay_await_ok (belay_promise_get_future (other), NULL));
        g_assert_true (belay_timeout_expired (limit));
      }
      other_join (&other_one);
      g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
    }
  return TRUE;
}

typedef struct
{
  BelayPromise *first, *second;
  BelayScope   *scope;
} Late;

static gboolean
resolve_second (gpointer data, GError **error)
{
  g_assert_true (belay_sleep (20, error));
  belay_promise_resolve_int64 (((Late *) data)->second, 2);
  return TRUE;
}

/* Its notice is on its way from another thread when the wait that it is for is cut short. */
static gboolean
wait_for_both (gpointer data, GError **error)
{
  Late *late = data;
  gint64 value = 0;

  {
    belay_auto (BelayScope) scope = late->scope = belay_scope_begin ();

    g_assert_true (belay_await_int64 (belay_promise_get_future (late->first), &value, error)); /* it was there, so it counts */
    g_assert_cmpint (value, ==, 1);
    g_assert_false (belay_checkpoint (NULL));
    g_assert_false (belay_scope_close (&scope, NULL));
  }
  belay_future_unref (belay_spawn (resolve_second, late));
  g_assert_true (belay_await_int64 (belay_promise_get_future (late->second), &value, error));
  g_assert_cmpint (value, ==, 2);
  return TRUE;
}

static gpointer
resolve_first (gpointer data)
{
  belay_promise_resolve_int64 (((Late *) data)->first, 1);
  return NULL;
}

static gboolean
test_stale_notice (gpointer data, GError **error)
{
  for (int i = 0; i < 20; i++)
    {
      Late late = { belay_promise_new (), belay_promise_new (), NULL };
      BelayFuture *waiting = belay_spawn (wait_for_both, &late);

      g_assert_true (belay_sleep (1, error));
      belay_scope_cancel (late.scope, "cut short");               /* looked at when this fiber waits, */
      g_thread_join (g_thread_new ("late", resolve_first, &late)); /* and only then is the thread's notice taken */
      g_assert_true (belay_await_ok (waiting, error));
      belay_promise_unref (late.first);
      belay_promise_unref (late.second);
    }
  return TRUE;
}

#define add(path, func)       (seeded ? belay_test_explore (path, func) : belay_test_add_func (path, func))
#define add_plain(path, func) (seeded ? belay_test_explore_plain (path, func) : belay_test_add_plain_func (path, func))

int
main (int argc, char **argv)
{
  seeded = strstr (g_getenv ("BELAY_DEBUG") != NULL ? g_getenv ("BELAY_DEBUG") : "", "virtual-clock") != NULL;
  if (seeded)
    thing_init (&argc, &argv);
  else
    g_test_init (&argc, &argv, NULL);
  add ("/races/1-pending-child-is-released-when-a-cancellation-cuts-its-parents-wait-short", test_cancelled_wait);
  add_plain ("/races/1-pending-child-is-released-when-the-end-of-the-loop-cuts-its-parents-wait-short", test_end_of_loop);
  add ("/races/2-childs-completion-wakes-its-creator-out-of-an-unrelated-sleep", test_unrelated_sleep);
  add ("/races/3-fire-and-forget-child-resumes-a-parent-that-is-already-freed", test_freed_parent);
  add_plain ("/races/4-fire-and-forget-child-is-stranded-when-the-loop-ends", test_stranded);
  add ("/races/5-deadline-that-fires-while-the-fiber-is-queued-to-run-is-dropped", test_deadline_while_queued);
  add ("/races/5-deadline-that-fires-while-the-fiber-has-given-way-is-dropped", test_deadline_while_yielding);
  add ("/races/5-deadline-that-is-moved-while-the-fiber-sleeps-is-dropped", test_deadline_moved);
  add ("/races/6-cancellation-that-arrives-during-cleanup-is-swallowed", test_cancelled_in_cleanup);
  add ("/races/7-stale-resume-value-surfaces-at-a-later-await", test_stale_value);
  add ("/races/7-stale-notice-surfaces-at-a-later-await", test_stale_notice);
  add ("/races/7-stale-grant-surfaces-at-a-later-await", test_stale_grant);
  return g_test_run ();
}
