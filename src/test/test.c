/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tests that are fibers, and their exploration.
 *
 * Each run begins afresh: the clock at the same instant, the log, the sink, the resources and the injections empty, the
 * generator of chances new. So a run is a function of its seed, whatever ran before it in the process. When it has ended,
 * the main context is iterated until nothing happens by itself, and then it is looked what is left.
 */
#include "test/test-private.h"
#include "run/schedule.h"

#include <stdlib.h>

#define BEGINNING (1000 * G_USEC_PER_SEC) /* of the virtual time */

#if defined (BELAY_WITH_ASAN) || defined (BELAY_WITH_TSAN)
# define SEEDS 20
#else
# define SEEDS 100
#endif

typedef struct
{
  BelayFunc   func;
  GTestFunc   plain; /* or this */
  gpointer    data;
  const char *site; /* that added it */
  gboolean    explored;
} Test;

typedef struct
{
  Test   *test;
  GError *error;
} Run;

static const char *program = "the program";
static guint seed;                        /* of this run */
static BelaySchedule *chances;            /* for belay_test_chance() */

void
belay_test_init (int *argc, char ***argv)
{
  g_return_if_fail (argc != NULL && argv != NULL);

  if (*argc > 0)
    program = g_intern_string ((*argv)[0]);
  g_test_init (argc, argv, NULL);
  belay_debug_init ();
  belay_clock_start (BEGINNING);
  belay_test_inject_begin ();
  belay_story_init ();
  belay_unusual |= BELAY_UNUSUAL_LEAKS; /* what a test still holds at its end is found by that */
}

guint
belay_test_get_seed (void)
{
  return seed;
}

guint
belay_test_chance (guint n)
{
  g_return_val_if_fail (n > 0, 0);
  if (chances == NULL)
    chances = belay_schedule_new (1, FALSE);
  return belay_schedule_chance (chances, n);
}

guint32
belay_test_get_trace (void)
{
  BelayContext *context = belay_context_get_for_main (NULL);

  return (context->schedule != NULL ? belay_schedule_get_trace (context->schedule) : 0) ^
         (chances != NULL ? belay_schedule_get_trace (chances) : 0);
}

void
belay_test_advance (gint64 milliseconds)
{
  g_return_if_fail (milliseconds >= 0);
  belay_clock_advance_to (belay_now () + milliseconds * 1000);
}

/* --- one run --- */

static gboolean
run_body (gpointer data, GError **error)
{
  Run *run = data;
  gboolean ok = run->test->func (run->test->data, &run->error);

  if (belay_check_result (ok, &run->error, "a test"))
    return TRUE;
  if (error != NULL)
    *error = g_error_copy (run->error);
  return FALSE;
}

static void
begin (guint new_seed)
{
  BelayContext *context = belay_context_get_for_main (NULL);

  seed = new_seed;
  g_clear_pointer (&chances, belay_schedule_free);
  chances = belay_schedule_new (~(guint64) seed, FALSE);
  belay_test_log_begin ();
  belay_test_resources_begin ();
  belay_test_inject_begin ();
  if (belay_clock_virtual) /* else the program wants the real one, and has not called belay_test_init() */
    belay_clock_start (BEGINNING);
  belay_context_set_schedule (context, seed != 0 ? belay_schedule_new (seed, seed % 2 == 0) : NULL);
  belay_test_watch (belay_clock_virtual);
}

static void
end (void)
{
  belay_test_watch (FALSE);
  belay_context_set_schedule (belay_context_get_for_main (NULL), NULL);
  belay_test_log_end ();
  belay_story_set (BELAY_STORY_REPLAY, NULL);
  belay_story_set_site (NULL);
  seed = 0;
}

static void
run_program (Test *test)
{
  Run run = { test, NULL };
  int status = belay_run (run_body, &run);

  if (run.error != NULL)
    belay_test_fail_at (NULL, "the test failed: %s (%s, %d)", run.error->message, g_quark_to_string (run.error->domain),
                        run.error->code);
  if (status != 0)
    belay_test_fail_at (NULL, "the program of the test ended with status %d", status);
}

static void
run_once (Test *test, guint new_seed)
{
  g_autofree char *left = NULL, *sunk = NULL;
  BelayTestBefore before;

  if (new_seed != 0)
    belay_story_set (BELAY_STORY_REPLAY, "failed with seed %u; again with:\n  BELAY_TEST_SEED=%u %s -p %s", new_seed, new_seed,
                     program, g_test_get_path ());
  belay_story_set_site (test->site);
  belay_test_look_before (&before);
  before.pending = 0;
  begin (new_seed);
  if (test->plain != NULL)
    test->plain ();
  else
    run_program (test);
  belay_test_settle ();
  left = belay_test_find_left (&before);
  belay_test_clear_before (&before);
  if (left != NULL)
    belay_test_fail_at (NULL, "%s", left);
  sunk = belay_test_take_sunk ();
  if (*sunk != '\0')
    belay_test_fail_at (NULL, "nobody was there to be told: %s", sunk);
  g_test_assert_expected_messages ();
  if (g_test_failed ()) /* by g_test_fail(), which ends nothing */
    belay_story_print ();
  end ();
}

static guint
number_from (const char *name, guint otherwise)
{
  const char *text = g_getenv (name);

  return text != NULL ? (guint) strtoul (text, NULL, 10) : otherwise;
}

static void
run_test (gconstpointer data)
{
  Test *test = (Test *) data;
  guint first = number_from ("BELAY_TEST_FIRST_SEED", 1), n = number_from ("BELAY_TEST_SEEDS", SEEDS);
  guint only = number_from ("BELAY_TEST_SEED", 0);

  if (!test->explored)
    {
      run_once (test, 0);
      return;
    }
  if (only != 0)
    {
      first = only;
      n = 1;
    }
  for (guint i = 0; i < n && !g_test_failed (); i++)
    run_once (test, MAX (first, 1) + i);
}

/* --- adding them --- */

static void
add (const char *path, Test test)
{
  g_test_add_data_func_full (path, g_memdup2 (&test, sizeof test), run_test, g_free);
}

void
belay_test_add_func_at (const char *path, BelayFunc func, const char *site)
{
  g_return_if_fail (path != NULL && func != NULL);
  add (path, (Test) { .func = func, .site = site });
}

void
belay_test_add_data_func_at (const char *path, gconstpointer data, BelayFunc func, const char *site)
{
  g_return_if_fail (path != NULL && func != NULL);
  add (path, (Test) { .func = func, .data = (gpointer) data, .site = site });
}

void
belay_test_add_plain_func_at (const char *path, GTestFunc func, const char *site)
{
  g_return_if_fail (path != NULL && func != NULL);
  add (path, (Test) { .plain = func, .site = site });
}

void
belay_test_explore_at (const char *path, BelayFunc func, const char *site)
{
  g_return_if_fail (path != NULL && func != NULL);
  add (path, (Test) { .func = func, .site = site, .explored = TRUE });
}

void
belay_test_explore_data_at (const char *path, gconstpointer data, BelayFunc func, const char *site)
{
  g_return_if_fail (path != NULL && func != NULL);
  add (path, (Test) { .func = func, .data = (gpointer) data, .site = site, .explored = TRUE });
}

void
belay_test_explore_plain_at (const char *path, GTestFunc func, const char *site)
{
  g_return_if_fail (path != NULL && func != NULL);
  add (path, (Test) { .plain = func, .site = site, .explored = TRUE });
}
