/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The test kit itself: that what it asserts can fail, that it finds what is planted, and that it says how to come there again.
 *
 * What must fail is run in a child process of this program, whose output is looked at.
 */
#include <belay/belay-test.h>

#include "support.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* --- what must fail, in children --- */

static gboolean
fails (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "as planted");
  return FALSE;
}

static gboolean
wrong_log (gpointer data, GError **error)
{
  belay_test_note ("a");
  belay_test_assert_log ("b");
  return TRUE;
}

static gboolean
wrong_reason (gpointer data, GError **error)
{
  {
    belay_auto (BelayTestResource) a = belay_test_resource_new ("a");
    (void) a;
  }
  belay_test_assert_reasons ("a:ok");
  return TRUE;
}

static gboolean
wrong_order (gpointer data, GError **error)
{
  BelayTestResource *a = belay_test_resource_new ("a"), *b = belay_test_resource_new ("b");
  gboolean ok = belay_close (&a, error) && belay_close (&b, error);

  belay_test_assert_released ();
  return ok;
}

static gboolean
not_released (gpointer data, GError **error)
{
  BelayTestResource *a = belay_test_resource_new ("a");

  belay_test_assert_released ();
  return belay_close (&a, error);
}

static BelayTestResource *forgotten;

static gboolean
leaves_a_resource (gpointer data, GError **error)
{
  forgotten = belay_test_resource_new ("forgotten");
  return TRUE;
}

/* A type of the program's own. */
typedef struct
{
  BelayPlain base;
} Own;

static const BelayPlainClass own_class = BELAY_PLAIN_CLASS ("Own", NULL, g_free);
static Own *held;

static gpointer
make_own (gpointer data, GError **error)
{
  return belay_plain_new (Own, &own_class);
}

static gboolean
holds_its_own (gpointer data, GError **error)
{
  held = belay_await (belay_open (make_own, NULL), error); /* its own */
  return held != NULL;
}

static gboolean
forgets_its_own (gpointer data, GError **error)
{
  return holds_its_own (NULL, error) && belay_sleep (10, error) && belay_close (&held, error);
}

static gboolean
careless_of_its_own (gpointer data, GError **error)
{
  belay_test_cancel_everywhere (forgets_its_own, NULL);
  return TRUE;
}

static gboolean
fails_softly (gpointer data, GError **error)
{
  if (belay_test_get_seed () == 3)
    g_test_fail ();
  return TRUE;
}

static gboolean
leaves_an_error (gpointer data, GError **error)
{
  BelayTestResource *a = belay_test_resource_new ("a");

  a->close_error = "disk full";
  belay_future_unref (belay_resource_future (a));
  return TRUE;
}

static gboolean
leaves_external_work (gpointer data, GError **error)
{
  belay_external_begin ();
  return TRUE;
}

static gboolean
loses_a_permit (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (2);
  BelayPermit *lost = belay_semaphore_try_acquire (semaphore);

  (void) lost;
  belay_test_assert_conserved (semaphore, 2);
  return TRUE;
}

static gboolean
leaks_descriptors (gpointer data, GError **error)
{
  return dup (STDERR_FILENO) >= 0;
}

#if !SANITIZED /* which have a malloc of their own */
static gboolean
leaks_memory (gpointer data, GError **error)
{
  static GSList *list;

  list = g_slist_prepend (list, g_malloc (64));
  return TRUE;
}

static gboolean
is_unsteady (gpointer data, GError **error)
{
  belay_test_assert_steady (leaks_memory, NULL);
  return TRUE;
}
#endif

static gboolean
is_unsteady_fds (gpointer data, GError **error)
{
  belay_test_assert_steady (leaks_descriptors, NULL);
  return TRUE;
}

/* A lock and a permit, taken in two orders. */
static BelayLock *first_lock;
static BelaySemaphore *second_lock;

static gboolean
take_first_then_second (gpointer data, GError **error)
{
  belay_auto (BelayLockGuard) first = belay_lock_acquire (first_lock, error);
  if (first == NULL || !belay_yield (error))
    return FALSE;
  belay_auto (BelayPermit) second = belay_semaphore_acquire (second_lock, error); /* the first's wait */
  return second != NULL;
}

static gboolean
take_second_then_first (gpointer data, GError **error)
{
  belay_auto (BelayPermit) second = belay_semaphore_acquire (second_lock, error);
  if (second == NULL || !belay_yield (error))
    return FALSE;
  belay_auto (BelayLockGuard) first = belay_lock_acquire (first_lock, error); /* the second's wait */
  return first != NULL;
}

static gboolean
deadlocks (gpointer data, GError **error)
{
  BelayFuture *one, *other;
  gboolean ok;

  first_lock = belay_lock_new ();
  second_lock = belay_semaphore_new (1);
  one = belay_spawn (take_first_then_second, NULL); /* the one */
  other = belay_spawn (take_second_then_first, NULL); /* the other */
  ok = belay_await_ok (one, error); /* the main wait */
  ok = belay_await_ok (other, ok ? error : NULL) && ok;
  belay_lock_unref (first_lock);
  belay_semaphore_unref (second_lock);
  return ok;
}

static gboolean
wait_for_ever (gpointer data, GError **error)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();

  return belay_await_ok (belay_promise_get_future (promise), error); /* for ever */
}

static gboolean
joins_for_ever (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin (); /* the scope */
  BelayFuture *child = belay_spawn (wait_for_ever, NULL); /* its child */
  gboolean ok = belay_scope_close (&scope, error);

  belay_future_unref (child);
  return ok;
}

/* A lost update: three fibers, of which one must be held back between its two steps. */
static int balance;

static gboolean
deposit (gpointer data, GError **error)
{
  int before = balance;

  if (before == GPOINTER_TO_INT (data) && !belay_yield (error))
    return FALSE;
  balance = before + 1;
  return TRUE;
}

static gboolean
race (gpointer data, GError **error)
{
  BelayFuture *all[3];

  balance = 0;
  for (int i = 0; i < 3; i++)
    all[i] = belay_spawn (deposit, GINT_TO_POINTER (1));
  if (!belay_await_ok (belay_future_allv (all, 3), error))
    return FALSE;
  g_assert_cmpint (balance, ==, 3);
  return TRUE;
}

/* One fiber must be held back while another takes many steps: chance hardly ever does that. */
static gboolean held_back, too_late;

static gboolean
be_first (gpointer data, GError **error)
{
  if (!belay_yield (error))
    return FALSE;
  held_back = FALSE;
  g_assert_false (too_late);
  return TRUE;
}

static gboolean
do_nothing (gpointer data, GError **error)
{
  return TRUE;
}

static gboolean
take_many_steps (gpointer data, GError **error)
{
  for (int i = 0; i < 12; i++)
    if (!belay_await_ok (belay_spawn (do_nothing, NULL), error))
      return FALSE;
  too_late = held_back;
  return TRUE;
}

static gboolean
long_race (gpointer data, GError **error)
{
  BelayFuture *one, *other;
  gboolean ok;

  held_back = TRUE;
  too_late = FALSE;
  one = belay_spawn (be_first, NULL);
  other = belay_spawn (take_many_steps, NULL);
  ok = belay_await_ok (one, error);
  return belay_await_ok (other, ok ? error : NULL) && ok;
}

/* The same, where the other one is always ready. */
static gboolean
take_many_turns (gpointer data, GError **error)
{
  for (int i = 0; i < 50; i++)
    if (!belay_yield (error))
      return FALSE;
  too_late = held_back;
  return TRUE;
}

static gboolean
patient_race (gpointer data, GError **error)
{
  BelayFuture *both[2];

  held_back = TRUE;
  too_late = FALSE;
  both[0] = belay_spawn (be_first, NULL);
  both[1] = belay_spawn (take_many_turns, NULL);
  return belay_await_ok (belay_future_allv (both, 2), error);
}

/* What one fiber has looked at is no longer so at the next step: the other must have come between the two, after many. */
static gboolean is_valid;

static gboolean
make_invalid (gpointer data, GError **error)
{
  for (int i = 0; i < 60; i++)
    {
      is_valid = i < 30;
      if (!belay_yield (error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
look_and_use (gpointer data, GError **error)
{
  for (int i = 0; i < 30; i++)
    if (!belay_yield (error))
      return FALSE;
  if (!is_valid)
    return TRUE;
  if (!belay_yield (error))
    return FALSE;
  g_assert_true (is_valid);
  return TRUE;
}

static gboolean
stale_look (gpointer data, GError **error)
{
  BelayFuture *both[2];

  is_valid = TRUE;
  both[0] = belay_spawn (make_invalid, NULL);
  both[1] = belay_spawn (look_and_use, NULL);
  return belay_await_ok (belay_future_allv (both, 2), error);
}

/* Forgets its resource when it is cancelled at the third checkpoint. */
static gboolean
is_careless (gpointer data, GError **error)
{
  BelayTestResource *a;

  if (!belay_yield (error))
    return FALSE;
  a = belay_test_resource_new ("careless");
  if (!belay_sleep (10, error)) /* the careless sleep */
    return FALSE;
  return belay_close (&a, error);
}

static gboolean
careless_of_cancellation (gpointer data, GError **error)
{
  belay_test_cancel_everywhere (is_careless, NULL);
  return TRUE;
}

static gboolean
careless_of_time (gpointer data, GError **error)
{
  belay_test_expire_everywhere (is_careless, NULL);
  return TRUE;
}

static gboolean
fails_carelessly (gpointer data, GError **error)
{
  BelayTestResource *a = belay_test_resource_new ("a");

  if (!belay_test_step ("connect", error))
    return FALSE;
  return belay_close (&a, error);
}

static gboolean
careless_of_failures (gpointer data, GError **error)
{
  belay_test_fail_everywhere (fails_carelessly, NULL);
  return TRUE;
}

static gboolean
fails_by_itself (gpointer data, GError **error)
{
  belay_test_cancel_everywhere (fails, NULL);
  return TRUE;
}

/* --- the tests of what must fail --- */

/* Planted tests are there in a child only. Its standard error, or its output. */
static char *
run_child (const char *path, const char *name, const char *value, gboolean take_output, int *ret_status)
{
  const char *arguments[] = { g_get_prgname (), "-p", path, NULL };
  g_auto (GStrv) env = g_environ_setenv (g_get_environ (), "BELAY_TEST_SEEDS", "100", TRUE);
  g_autoptr (GError) error = NULL;
  char *output = NULL, *errors = NULL;

  env = g_environ_setenv (g_steal_pointer (&env), name, value, TRUE);
  env = g_environ_setenv (g_steal_pointer (&env), "BELAY_TEST_KIT_PLANTED", "1", TRUE);
  g_spawn_sync (NULL, (char **) arguments, env, G_SPAWN_DEFAULT, NULL, NULL, &output, &errors, ret_status, &error);
  g_assert_no_error (error);
  g_free (take_output ? errors : output);
  return take_output ? output : errors;
}

static void
expect_failure (gconstpointer data)
{
  const char *const *child = data;
  int status = 0;
  g_autofree char *text = run_child (child[0], "BELAY_TEST_SEEDS", "100", FALSE, &status);

  g_assert_cmpint (status, !=, 0);
  if (!g_pattern_match_simple (child[1], text))
    g_assert_cmpstr (text, ==, child[1]);
}

static const struct
{
  const char *child[2]; /* path, pattern */
  BelayFunc   func;
  gboolean    explored;
} failures[] = {
  { { "/kit/planted/fails", "*ERROR:*test-kit.c:*the test failed: as planted*" }, fails },
  { { "/kit/planted/wrong-log", "*test-kit.c:*the log is \"a\", and not \"b\"*" }, wrong_log },
  { { "/kit/planted/wrong-reason", "*the reasons are \"a:left\", and not \"a:ok\"*" }, wrong_reason },
  { { "/kit/planted/L2-wrong-order", "*\"a\" was released before one that is newer*" }, wrong_order },
  { { "/kit/planted/L1-not-released", "*\"a\" was not released*" }, not_released },
  { { "/kit/planted/leaves-a-resource", "*not released: \"forgotten\"*" }, leaves_a_resource },
  { { "/kit/planted/L17-holds-its-own", "*still held: a Own from *test-kit.c:*" }, holds_its_own },
  { { "/kit/planted/L17-careless-of-its-own", "*still held: a Own from *it had been cancelled at *" }, careless_of_its_own },
  { { "/kit/planted/fails-softly", "*failed with seed 3; again with:*BELAY_TEST_SEED=3 *" }, fails_softly, TRUE },
  { { "/kit/planted/leaves-an-error", "*ERROR:*test-kit.c:*nobody was there to be told: *disk full*" }, leaves_an_error },
  { { "/kit/planted/leaves-external-work", "*external work has not ended*" }, leaves_external_work },
  { { "/kit/planted/loses-a-permit", "*the semaphore has 1 permits, and not 2*" }, loses_a_permit },
  { { "/kit/planted/leaks-descriptors", "*64 descriptors were left open in 64 rounds*" }, is_unsteady_fds },
  { { "/kit/planted/deadlocks", "*deadlock: *"
      "the fiber from *test-kit.c:* waits at *test-kit.c:* for a permit of a semaphore, of which 0 of 1 are free*"
      "the fiber from *test-kit.c:* waits at *test-kit.c:* for a lock, which is held by the fiber from *test-kit.c:*, who took it at "
      "*test-kit.c:*"
      "the fiber from belay_run waits at *test-kit.c:* for the fiber from *test-kit.c:*belay_external_begin*" },
    deadlocks },
  { { "/kit/planted/joins-for-ever", "*deadlock: *the fiber from *test-kit.c:* for a future*"
      "the fiber from belay_run waits at *test-kit.c:* for the children of the scope from *test-kit.c:*: "
      "the fibers from *test-kit.c:*" }, joins_for_ever },
  { { "/kit/planted/careless-of-cancellation", "*not released: \"careless\"*it had been cancelled at the entry of checkpoint 4, "
      "*test-kit.c:*" }, careless_of_cancellation },
  { { "/kit/planted/careless-of-time", "*not released: \"careless\"*it had been out of time at the entry of checkpoint 4, "
      "*test-kit.c:*" }, careless_of_time },
  { { "/kit/planted/careless-of-failures", "*not released: \"a\"*\"connect\"*had been made to fail*" }, careless_of_failures },
  { { "/kit/planted/fails-by-itself", "*it fails though nothing was done to it: as planted*" }, fails_by_itself },
  { { "/kit/planted/L23-a-race", "*balance == 3*failed with seed *; again with:*BELAY_TEST_SEED=*-p /kit/planted/L23-a-race*" },
    race, TRUE },
  { { "/kit/planted/a-long-race", "*too_late*failed with seed *; again with:*BELAY_TEST_SEED=*-p /kit/planted/a-long-race*" },
    long_race, TRUE },
  { { "/kit/planted/a-patient-race", "*too_late*failed with seed *" }, patient_race, TRUE },
  { { "/kit/planted/a-stale-look", "*is_valid*failed with seed *" }, stale_look, TRUE },
#if !SANITIZED
  { { "/kit/planted/leaks-memory", "*memory grows by * bytes a round*" }, is_unsteady },
#endif
};

/* The seed that a child's report names; 0: it named none. */
static guint
seed_of (const char *text)
{
  const char *place = strstr (text, "BELAY_TEST_SEED=");

  return place != NULL ? (guint) g_ascii_strtoull (place + strlen ("BELAY_TEST_SEED="), NULL, 10) : 0;
}

/* Each of the two ways to choose finds it within a hundred seeds; and the seed that is printed finds it again. */
static void
both_ways_find_it (gconstpointer path)
{
  for (guint way = 1; way <= 2; way++)
    {
      gboolean found = FALSE;

      for (guint seed = way; seed <= 100 && !found; seed += 2)
        {
          g_autofree char *number = g_strdup_printf ("%u", seed), *text = NULL;
          int status = 0;

          text = run_child (path, "BELAY_TEST_SEED", number, FALSE, &status);
          found = status != 0;
          g_assert_cmpuint (seed_of (text), ==, found ? seed : 0);
        }
      g_assert_true (found);
    }
}

static void
printed_seed_replays (gconstpointer path)
{
  for (guint first = 1; first <= 40; first += 13)
    {
      g_autofree char *number = g_strdup_printf ("%u", first), *text = NULL, *seed = NULL;
      int status = 0;

      text = run_child (path, "BELAY_TEST_FIRST_SEED", number, FALSE, &status);
      g_assert_cmpint (status, !=, 0);
      g_assert_cmpuint (seed_of (text), >=, first);
      seed = g_strdup_printf ("%u", seed_of (text));
      for (int again = 0; again < 2; again++)
        {
          g_autofree char *same = run_child (path, "BELAY_TEST_SEED", seed, FALSE, &status);

          g_assert_cmpint (status, !=, 0);
          g_assert_cmpuint (seed_of (same), ==, seed_of (text));
        }
    }
}

/* --- what must hold --- */

static gboolean
an_hour (gpointer data, GError **error)
{
  gint64 begin = g_get_monotonic_time (), now = belay_now ();

  for (int i = 0; i < 24; i++)
    if (!belay_sleep (3600 * 1000, error))
      return FALSE;
  g_assert_cmpint (belay_now () - now, ==, (gint64) 24 * 3600 * G_USEC_PER_SEC);
  test_assert_soon (begin);
  return TRUE;
}

static gboolean
same_beginning (gpointer data, GError **error)
{
  static gint64 beginning;

  g_assert_true (beginning == 0 || beginning == belay_now ());
  beginning = belay_now ();
  return belay_sleep (belay_test_chance (50), error);
}

static gboolean
end_external (gpointer data, GError **error)
{
  belay_external_end ();
  return TRUE;
}

static gboolean
time_is_advanced (gpointer data, GError **error)
{
  BelayFuture *slept = belay_future_delay (5000);
  gint64 now = belay_now ();

  belay_external_begin ();
  for (int i = 0; i < 20; i++)
    if (!belay_yield (error))
      return FALSE;
  g_assert_true (belay_future_is_pending (slept)); /* the clock stands still meanwhile */
  belay_test_advance (5000);
  if (!belay_await_ok (slept, error))
    return FALSE;
  g_assert_cmpint (belay_now () - now, ==, 5000 * 1000);
  return end_external (NULL, error);
}

static gboolean
resources_log (gpointer data, GError **error)
{
  {
    belay_auto (BelayTestResource) a = belay_await (belay_test_resource_open ("a", 5), error);
    if (a == NULL)
      return FALSE;
    belay_auto (BelayTestResource) b = belay_test_resource_new ("b");
    b->close_ms = 3;
    belay_auto (BelayTestResource) c = belay_test_resource_new ("c");
    if (!belay_test_resource_reset (c, error) || !belay_commit (&c, error))
      return FALSE;
  }
  belay_test_assert_reasons ("c:ok b:left a:left");
  g_assert_cmpuint (belay_test_get_count ().opened, ==, 3);
  g_assert_cmpuint (belay_test_get_count ().committed, ==, 1);
  g_assert_cmpuint (belay_test_get_count ().freed, ==, 3);
  belay_test_assert_released ();
  belay_test_assert_log ("+a +b +c c=reset c=commit -c -b b. -a");
  return TRUE;
}

static gboolean
hanging_is_abandoned (gpointer data, GError **error)
{
  g_autoptr (GError) local = NULL;
  BelayTestResource *a = belay_test_resource_new ("a");

  a->close_hangs = TRUE;
  g_assert_false (belay_close (&a, &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  belay_test_assert_released ();
  belay_test_assert_log ("+a -a !a");
  return TRUE;
}

static gboolean
errors_in_the_sink (gpointer data, GError **error)
{
  BelayTestResource *a = belay_test_resource_new ("a");

  a->close_error = "disk full";
  belay_future_unref (belay_resource_future (a));
  belay_test_settle ();
  belay_test_assert_sunk ("disk full");
  belay_test_assert_sunk ("");
  return TRUE;
}

static gboolean
injected (gpointer data, GError **error)
{
  g_autoptr (GError) local = NULL;
  belay_auto (BelayTestResource) a = NULL;
  gint64 now = belay_now ();

  belay_test_inject ("open", 2, BELAY_TEST_FAIL, 0);
  belay_test_inject ("close", 1, BELAY_TEST_DELAY, 700);
  belay_test_inject ("close", 2, BELAY_TEST_HANG, 0);
  belay_test_inject ("a point", 3, BELAY_TEST_FAIL, 0);

  a = belay_await (belay_test_resource_open ("a", 0), error);
  g_assert_nonnull (a);
  g_assert_null (belay_await (belay_test_resource_open ("b", 0), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_FAILED);
  g_clear_error (&local);
  g_assert_true (belay_close (&a, error));
  g_assert_cmpint (belay_now () - now, ==, 700 * 1000);
  a = belay_await (belay_test_resource_open ("c", 0), error);
  g_assert_nonnull (a);
  g_assert_false (belay_close (&a, &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  belay_test_assert_log ("+a -a +c -c !c");
  for (int i = 1; i <= 4; i++)
    g_assert_true (belay_test_point ("a point") == (i == 3));
  return TRUE;
}

/* One checkpoint before it begins, two in each yield, one when it wakes up from nothing: counted by hand. */
static gboolean
yield_three_times (gpointer data, GError **error)
{
  if (data != NULL)
    ++*(int *) data;
  for (int i = 0; i < 3; i++)
    if (!belay_yield (error))
      return FALSE;
  return TRUE;
}

static gboolean
checkpoints_are_counted (gpointer data, GError **error)
{
  int runs = 0;

  g_assert_cmpuint (belay_test_cancel_everywhere (yield_three_times, &runs), ==, 7);
  /* Of the first kind: not begun once, stopped 6 times, and not once; of the second the same, but never before it began. */
  g_assert_cmpint (runs, ==, 6 + 1 + 7 + 1);
  g_assert_cmpuint (belay_test_expire_everywhere (yield_three_times, NULL), ==, 7);
  return TRUE;
}

static gboolean
careful_child (gpointer data, GError **error)
{
  belay_auto (BelayTestResource) a = belay_await (belay_test_resource_open ("child", 3), error);

  return a != NULL && belay_sleep (4, error) && belay_test_step ("step", error) && belay_close (&a, error);
}

/* Everything that a careful program does: resources, a scope, children, a time-out, a job, a shield. */
static gboolean
is_careful (gpointer data, GError **error)
{
  belay_auto (BelayTestResource) a = belay_await (belay_test_resource_open ("a", 5), error);
  if (a == NULL)
    return FALSE;
  belay_auto (BelayTestResource) b = belay_await (belay_test_resource_open ("b", 0), error);
  if (b == NULL)
    return FALSE;
  b->close_ms = 2;
  {
    belay_auto (BelayScope) scope = belay_scope_begin ();

    if (!belay_scope_spawn (scope, careful_child, NULL, NULL)) /* since it is cancelled */
      return belay_checkpoint (error);
    if (!belay_sleep (1, error))
      return FALSE;
    belay_auto (BelayTimeout) timeout = belay_timeout (10000);
    if (timeout == NULL || !belay_await_ok (belay_spawn (careful_child, NULL), error) || !belay_scope_close (&scope, error))
      return FALSE;
  }
  if (belay_test_point ("late"))
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "late");
      return FALSE;
    }
  return belay_commit (&b, error) && belay_close (&a, error);
}

static gboolean
careful_everywhere (gpointer data, GError **error)
{
  g_assert_cmpuint (belay_test_cancel_everywhere (is_careful, NULL), >, 15);
  g_assert_cmpuint (belay_test_expire_everywhere (is_careful, NULL), >, 15);
  g_assert_cmpuint (belay_test_fail_everywhere (is_careful, NULL), ==, 12);
  return TRUE;
}

static void
careful_outside_of_a_fiber (void)
{
  g_assert_cmpuint (belay_test_cancel_everywhere (is_careful, NULL), >, 15);
  g_assert_cmpuint (belay_test_fail_everywhere (is_careful, NULL), ==, 12);
}

static gboolean
steady (gpointer data, GError **error)
{
  belay_test_assert_steady (is_careful, NULL);
  return TRUE;
}

/* --- the same seed is the same run --- */

static GString *traces;

static gboolean
note_job (gpointer data, GError **error)
{
  belay_test_note ("job%d", GPOINTER_TO_INT (data));
  return TRUE;
}

static gboolean
wander (gpointer data, GError **error)
{
  for (int i = 0; i < 4; i++)
    {
      belay_test_note ("%d", GPOINTER_TO_INT (data));
      switch (belay_test_chance (4))
        {
        case 0:
          belay_yield (NULL);
          break;
        case 1:
          belay_sleep (belay_test_chance (3), NULL);
          break;
        case 2:
          belay_await_ok (belay_thread_run (note_job, data), NULL);
          break;
        default:
          belay_await_ok (belay_future_race (belay_future_delay (2), belay_future_delay (2), NULL), NULL);
        }
    }
  return TRUE;
}

static gboolean
wander_about (gpointer data, GError **error)
{
  BelayFuture *all[6];

  for (int i = 0; i < 6; i++)
    all[i] = belay_spawn (wander, GINT_TO_POINTER (i));
  if (!belay_await_ok (belay_future_allv (all, 6), error))
    return FALSE;
  g_string_append_printf (traces, "run %u %08x %s\n", belay_test_get_seed (), belay_test_get_trace (), belay_test_get_log ());
  return TRUE;
}

/* In a child: the runs of all seeds, on its output. */
static void
print_traces (void)
{
  g_print ("%s", traces->str);
}

static char *
traces_of_child (void)
{
  int status = 0;
  g_autofree char *text = run_child ("/kit/planted/seeds", "BELAY_TEST_SEEDS", "40", TRUE, &status);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  GString *runs = g_string_new (NULL);

  g_assert_cmpint (status, ==, 0);
  for (guint i = 0; lines[i] != NULL; i++)
    if (g_str_has_prefix (lines[i], "run "))
      g_string_append_printf (runs, "%s\n", lines[i]);
  return g_string_free (runs, FALSE);
}

static void
same_seed_same_run (void)
{
  g_autoptr (GHashTable) different = g_hash_table_new (g_str_hash, g_str_equal);
  g_autofree char *once = traces_of_child (), *again = traces_of_child ();
  g_auto (GStrv) lines = g_strsplit (once, "\n", -1);

  g_assert_cmpstr (once, ==, again);
  g_assert_cmpuint (g_strv_length (lines), ==, 81);
  for (guint i = 0; i < 40; i++)
    {
      g_assert_cmpstr (lines[i], ==, lines[40 + i]); /* in one process, too, whatever ran before */
      g_hash_table_add (different, strchr (lines[i] + strlen ("run "), ' '));
    }
  g_assert_cmpuint (g_hash_table_size (different), >, 35);
}

/* --- nobody waits for ever, whatever the seed --- */

static BelayPromise *turns[2];
static gboolean enough;

static gboolean
take_turns (gpointer data, GError **error)
{
  int mine = GPOINTER_TO_INT (data);
  gboolean ok = TRUE;

  while (ok && !enough)
    {
      belay_promise_resolve (turns[!mine]);
      ok = belay_await_ok (belay_promise_get_future (turns[mine]), error);
      belay_promise_unref (turns[mine]);
      turns[mine] = belay_promise_new ();
    }
  belay_promise_resolve (turns[!mine]);
  return ok;
}

static gboolean
say_enough (gpointer data, GError **error)
{
  gboolean ok = belay_yield (error);

  enough = TRUE;
  return ok;
}

static gboolean
nobody_starves (gpointer data, GError **error)
{
  BelayFuture *all[3];
  gboolean ok;

  enough = FALSE;
  for (int i = 0; i < 2; i++)
    turns[i] = belay_promise_new ();
  for (int i = 0; i < 3; i++)
    all[i] = belay_spawn (i < 2 ? take_turns : say_enough, GINT_TO_POINTER (i));
  ok = belay_await_ok (belay_future_allv (all, 3), error);
  for (int i = 0; i < 2; i++)
    belay_promise_unref (turns[i]);
  return ok;
}

int
main (int argc, char **argv)
{
  gboolean planted = g_getenv ("BELAY_TEST_KIT_PLANTED") != NULL;

  traces = g_string_new (NULL);
  g_set_prgname (argv[0]);
  belay_test_init (&argc, &argv);

  for (guint i = 0; i < G_N_ELEMENTS (failures); i++)
    {
      g_autofree char *path = g_strconcat ("/kit/finds/", failures[i].child[0] + strlen ("/kit/planted/"), NULL);

      if (!planted)
        g_test_add_data_func (path, failures[i].child, expect_failure);
      else if (failures[i].explored)
        belay_test_explore (failures[i].child[0], failures[i].func);
      else
        belay_test_add_func (failures[i].child[0], failures[i].func);
    }
  if (planted)
    {
      belay_test_explore ("/kit/planted/seeds/1-wander", wander_about);
      belay_test_explore ("/kit/planted/seeds/2-other", is_careful);
      belay_test_explore ("/kit/planted/seeds/3-wander-again", wander_about);
      g_test_add_func ("/kit/planted/seeds/4-print", print_traces);
      return g_test_run ();
    }

  g_test_add_data_func ("/kit/seeds/both-ways-find-a-race", "/kit/planted/L23-a-race", both_ways_find_it);
  g_test_add_data_func ("/kit/seeds/both-ways-find-a-stale-look", "/kit/planted/a-stale-look", both_ways_find_it);
  g_test_add_data_func ("/kit/seeds/the-printed-seed-replays", "/kit/planted/L23-a-race", printed_seed_replays);
  g_test_add_data_func ("/kit/seeds/the-printed-seed-replays-what-is-rare", "/kit/planted/a-long-race", printed_seed_replays);
  g_test_add_func ("/kit/seeds/the-same-seed-is-the-same-run", same_seed_same_run);
  belay_test_explore ("/kit/seeds/nobody-starves", nobody_starves);
  belay_test_add_func ("/kit/an-hour-is-nothing", an_hour);
  belay_test_explore ("/kit/each-run-begins-at-the-same-time", same_beginning);
  belay_test_add_func ("/kit/time-is-advanced-by-hand", time_is_advanced);
  belay_test_add_func ("/kit/resources-log", resources_log);
  belay_test_add_func ("/kit/L10-what-hangs-is-abandoned", hanging_is_abandoned);
  belay_test_add_func ("/kit/errors-in-the-sink", errors_in_the_sink);
  belay_test_add_func ("/kit/injected-faults", injected);
  belay_test_add_func ("/kit/checkpoints-are-counted", checkpoints_are_counted);
  belay_test_add_func ("/kit/L1-careful-everywhere", careful_everywhere);
  g_test_add_func ("/kit/L1-careful-outside-of-a-fiber", careful_outside_of_a_fiber);
  belay_test_explore ("/kit/L1-careful-in-any-order", is_careful);
  belay_test_add_func ("/kit/steady", steady);
  return g_test_run ();
}
