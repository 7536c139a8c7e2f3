/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Forks: in the child nothing of the parent's runs, and the parent notices nothing. */
#include "thing.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: what must be so, else it exits with the line. */
#define must(condition) G_STMT_START { if (!(condition)) test_exit_child (__LINE__ % 250 + 1); } G_STMT_END

static int status_of_child;

/* In the parent. */
static void
wait_for (pid_t child)
{
  g_assert_cmpint (child, >, 0);
  g_assert_cmpint (waitpid (child, &status_of_child, 0), ==, child);
}

static void
assert_good (void)
{
  g_assert_true (WIFEXITED (status_of_child));
  g_assert_cmpint (WEXITSTATUS (status_of_child), ==, 0);
}

/* --- in a fiber with guards --- */

static pid_t
fork_with_guards (BelaySemaphore *semaphore)
{
  belay_auto (Thing) a = thing_new ("a");
  belay_auto (Thing) b = thing_new_slow ("b", 10);
  belay_auto (BelayPermit) permit = belay_semaphore_try_acquire (semaphore);
  belay_auto (BelayScope) scope = belay_scope_begin ();
  pid_t child;

  g_assert_nonnull (permit);
  g_assert_true (belay_scope_adopt (scope, thing_new ("c"), NULL));
  child = fork ();
  if (child != 0)
    wait_for (child);
  return child; /* and all guards are left, in both */
}

static gboolean
test_guards (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  pid_t child = fork_with_guards (semaphore);

  if (child == 0)
    {
      must (g_str_equal (thing_log (), "+a +b +c"));
      must (thing_count.closed == 0 && thing_count.abandoned == 0 && thing_count.freed == 0);
      must (belay_semaphore_get_available (semaphore) == 0);
      test_exit_child (0);
    }
  assert_good ();
  assert_log ("+a +b +c -c -b b. -a");
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, 1);
  return TRUE;
}

/* A block whose body fails in the child: its error is told, and nothing is closed. */
static gboolean
test_with (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  gboolean told = FALSE;
  pid_t child = -1;

  BELAY_WITH (Thing, a, thing_open ("a"), &failure)
    {
      child = fork ();
      if (child == 0)
        fail_func ("in the child", &failure);
      else
        wait_for (child);
    }
  else
    told = TRUE;
  if (child == 0)
    {
      must (told && failure != NULL && g_str_equal (failure->message, "in the child"));
      must (g_str_equal (thing_log (), "+a") && thing_count.freed == 0);
      test_exit_child (0);
    }
  assert_good ();
  g_assert_no_error (failure);
  g_assert_false (told);
  assert_log ("+a -a");
  return TRUE;
}

/* --- what the child cannot do --- */

static gboolean
do_nothing (gpointer data, GError **error)
{
  return TRUE;
}

/* It has failed, since this is a child. */
#define must_fail(call) G_STMT_START {                                       \
    g_autoptr (GError) failure = NULL;                                       \
    must (!(call));                                                          \
    must (g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_FORKED));       \
    must (strstr (failure->message, "forked") != NULL); } G_STMT_END

static gboolean
test_awaits (gpointer data, GError **error)
{
  BelayFuture *never = thing_never ();
  Thing *thing = thing_new ("a");
  pid_t child = fork ();

  if (child == 0)
    {
      must (belay_is_forked ());
      must (!belay_in_fiber ());
      must (belay_get_n_pending () == 0);
      must_fail (belay_await_ok (never, &failure));
      must_fail (belay_sleep (1, &failure));
      must_fail (belay_close (&thing, &failure));
      must (thing == NULL && thing_count.closed == 0);
      must_fail (belay_future_check (belay_thread_run (do_nothing, NULL), &failure));
      must_fail (belay_future_check (belay_spawn (do_nothing, NULL), &failure));
      must (belay_drain (1000) == 0);
      test_exit_child (0);
    }
  wait_for (child);
  assert_good ();
  g_assert_false (belay_is_forked ());
  belay_future_unref (never);
  return belay_close (&thing, error);
}

static gboolean
fork_and_yield (BelayManager *manager, gpointer data, GError **error)
{
  pid_t child = fork ();

  if (child == 0)
    {
      must_fail (belay_manager_yield (manager, data, &failure));
      test_exit_child (0);
    }
  wait_for (child);
  return belay_manager_yield (manager, data, error);
}

static gboolean
test_manager (gpointer data, GError **error)
{
  belay_auto (BelayManager) manager = belay_await (belay_manager_open (fork_and_yield, "value"), error);

  assert_good ();
  return manager != NULL && belay_close (&manager, error);
}

static gboolean
test_returning (gpointer data, GError **error)
{
  BelayFuture *sibling = belay_spawn (note_func, "sibling");
  pid_t child;
  int fds[2];

  g_assert_cmpint (pipe (fds), ==, 0);
  child = fork ();
  if (child == 0)
    {
      dup2 (fds[1], STDERR_FILENO);
      return TRUE; /* to a fiber that is the parent's */
    }
  wait_for (child);
  close (fds[1]);
  g_assert_cmpint (WEXITSTATUS (status_of_child), ==, 70);
  {
    char text[200] = "";

    g_assert_cmpint (read (fds[0], text, sizeof text - 1), >, 0);
    g_assert_nonnull (strstr (text, "a fiber's function has returned in a forked child"));
  }
  close (fds[0]);
  if (!belay_await_ok (sibling, error))
    return FALSE;
  assert_log ("sibling");
  return TRUE;
}

/* --- from other places --- */

static gboolean
in_callback (gpointer data)
{
  Thing *thing = thing_new ("a");
  pid_t child;

  belay_release (&thing); /* scheduled */
  child = fork ();
  if (child == 0)
    {
      while (g_main_context_iteration (NULL, FALSE)) /* no fiber and no release of the parent's */
        ;
      must (g_str_equal (thing_log (), "+a"));
      test_exit_child (0);
    }
  wait_for (child);
  return G_SOURCE_REMOVE;
}

static void
test_callback (void)
{
  g_idle_add (in_callback, NULL);
  while (belay_get_n_pending () == 0)
    g_main_context_iteration (NULL, TRUE);
  assert_good ();
  thing_drain ();
  assert_log ("+a -a");
}

static gboolean
on_worker (gpointer data, GError **error)
{
  pid_t child = fork ();

  if (child == 0)
    {
      must_fail (belay_future_wait_sync (data, &failure));
      test_exit_child (0);
    }
  wait_for (child);
  return TRUE;
}

static gboolean
test_worker (gpointer data, GError **error)
{
  g_autoptr (BelayFuture) never = thing_never ();

  if (!belay_await_ok (belay_thread_run (on_worker, never), error))
    return FALSE;
  assert_good ();
  return TRUE;
}

/* What the parent shares cannot be used in the child, nor is it closed there. */
static gpointer
open_thing (gpointer data, GError **error)
{
  return thing_new ("a");
}

static gboolean
test_shared (gpointer data, GError **error)
{
  BelayShared *shared = belay_shared_new (open_thing, NULL, NULL);
  BelayUse *use;
  pid_t child;

  belay_shared_set_idle_timeout (shared, -1);
  use = belay_shared_use (shared, error);
  g_assert_nonnull (use);
  child = fork ();
  if (child == 0)
    {
      must (belay_shared_try_use (shared) == NULL);
      must_fail (belay_shared_use (shared, &failure));
      must_fail (belay_future_check (belay_shared_use_async (shared), &failure));
      must (belay_use_get (use) == NULL);
      belay_release (&use);
      must_fail (belay_shared_close (shared, &failure));
      must_fail (belay_future_check (belay_shared_close_async (shared), &failure));
      belay_shared_set_idle_timeout (shared, 0);
      belay_shared_unref (shared);
      must (g_str_equal (thing_log (), "+a"));
      test_exit_child (0);
    }
  wait_for (child);
  assert_good ();
  assert_log ("+a");
  belay_release (&use);
  g_assert_true (belay_shared_close (shared, error));
  belay_shared_unref (shared);
  assert_log ("-a");
  return TRUE;
}

static void
test_run_is_refused (void)
{
  pid_t child;

  thing_settle (); /* there is a context */
  child = fork ();
  if (child == 0)
    {
      g_log_set_always_fatal (G_LOG_FATAL_MASK);
      g_log_set_default_handler (g_log_default_handler, NULL);
      dup2 (STDOUT_FILENO, STDERR_FILENO);
      g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "belay_run: this process was forked*");
      must (belay_run (do_nothing, NULL) == 1);
      g_test_assert_expected_messages ();
      g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "belay_application_run: this process was forked*");
      must (belay_application_run (g_application_new (NULL, G_APPLICATION_NON_UNIQUE), 0, NULL, NULL) == 1);
      g_test_assert_expected_messages ();
      test_exit_child (0);
    }
  wait_for (child);
  assert_good ();
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_single_test ("/fork/L50-rule-11-guards-do-nothing-in-the-child", test_guards);
  thing_add_single_test ("/fork/L50-rule-11-a-block-that-fails-in-the-child", test_with);
  thing_add_single_test ("/fork/L50-awaits-fail-in-the-child", test_awaits);
  thing_add_single_test ("/fork/L50-a-manager-does-not-yield-in-the-child", test_manager);
  thing_add_single_test ("/fork/L50-no-fiber-of-the-parent-runs-in-the-child", test_returning);
  thing_add_single_plain_test ("/fork/L50-rule-11-scheduled-releases-are-dropped-in-the-child", test_callback);
  thing_add_single_test ("/fork/L50-from-a-worker", test_worker);
  thing_add_single_test ("/fork/L44-L50-what-is-shared-is-not-used-in-the-child", test_shared);
  thing_add_single_plain_test ("/fork/L50-run-is-refused-in-the-child", test_run_is_refused);
  return g_test_run ();
}
