/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cases of CPython's test_threads.py and test_runners.py: functions on other threads, the end of the main function,
 * and SIGINT, in real time.
 */
#include "support.h"

#include <belay/belay-test.h>

#include <signal.h>

/* --- E01: a function on another thread gives its result, or its error --- */

static gpointer
concatenate (gpointer data, GError **error)
{
  g_assert_false (belay_in_fiber ());
  return g_strconcat ((const char *) data, "!", NULL);
}

static gpointer
refuse (gpointer data, GError **error)
{
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "there is none");
  return NULL;
}

static gboolean
e01 (gpointer data, GError **error)
{
  g_autofree char *text = belay_await (belay_thread_run_value (concatenate, (gpointer) "hello", g_free), error);
  g_autoptr (GError) failure = NULL;

  g_assert_cmpstr (text, ==, "hello!");
  g_assert_null (belay_await (belay_thread_run_value (refuse, NULL, g_free), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  return TRUE;
}

/* --- E03: who waits for a thread is cancelled: at once, and what the thread makes is not lost --- */

static struct
{
  int began, go_on;
} gate;

static gpointer
make_late (gpointer data, GError **error)
{
  g_atomic_int_set (&gate.began, TRUE);
  while (!g_atomic_int_get (&gate.go_on))
    g_usleep (100);
  return belay_test_resource_new ("late");
}

static gboolean
wait_for_late (gpointer data, GError **error)
{
  belay_auto (BelayTestResource) late = belay_await (belay_thread_run_owned (make_late, g_strdup ("late"), g_free,
                                                                             belay_resource_drop), error);

  return late != NULL;
}

static gboolean
e03 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  gate.began = gate.go_on = FALSE; /* nobody else is there yet */
  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    BelayFuture *waiting = belay_spawn (wait_for_late, NULL);

    while (!g_atomic_int_get (&gate.began))
      g_assert_true (belay_sleep (1, error));
    belay_scope_cancel (scope, "no longer wanted");
    {
      belay_auto (BelayShield) shield = belay_shield ();

      g_assert_false (belay_await_ok (waiting, &failure)); /* and the function runs on */
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    }
    g_assert_cmpuint (belay_test_get_count ().opened, ==, 0);
    g_atomic_int_set (&gate.go_on, TRUE);
  }
  for (int i = 0; i < 5000 && belay_test_get_count ().freed == 0; i++)
    g_assert_true (belay_sleep (1, error));
  g_assert_cmpstr (belay_test_get_log (), ==, "+late -late");
  return TRUE;
}

/* --- E04: the main function ends while others run --- */

static int n_ended, n_cancelled;

static gboolean
note_end (gpointer data, GError **error)
{
  gboolean ok = belay_sleep (GPOINTER_TO_INT (data), error);
  belay_auto (BelayShield) shield = belay_shield ();

  g_assert_true (belay_yield (NULL)); /* its clean-up waits, and is waited for */
  n_cancelled += !ok;
  n_ended++;
  return ok;
}

static gboolean
main_that_fails (gpointer data, GError **error)
{
  for (int i = 0; i < 3; i++)
    belay_future_unref (belay_spawn (note_end, GINT_TO_POINTER (100000)));
  g_assert_true (belay_yield (error));
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_FAILED, "the main function failed");
  return FALSE;
}

static gboolean
main_that_succeeds (gpointer data, GError **error)
{
  for (int i = 0; i < 3; i++)
    belay_future_unref (belay_spawn (note_end, GINT_TO_POINTER (5)));
  return TRUE;
}

static gboolean
main_that_cancels (gpointer data, GError **error)
{
  gboolean ok = main_that_succeeds (data, error);

  belay_scope_cancel (belay_scope_current (), "that is enough");
  return ok;
}

static void
e04 (void)
{
  n_ended = n_cancelled = 0;
  g_assert_cmpint (belay_run (main_that_fails, NULL), ==, 1);
  g_assert_cmpint (n_ended, ==, 3);
  g_assert_cmpint (n_cancelled, ==, 3);

  /* What runs on after a success is not cancelled, but waited for. */
  n_ended = n_cancelled = 0;
  g_assert_cmpint (belay_run (main_that_succeeds, NULL), ==, 0);
  g_assert_cmpint (n_ended, ==, 3);
  g_assert_cmpint (n_cancelled, ==, 0);

  n_ended = 0;
  belay_run (main_that_cancels, NULL);
  g_assert_cmpint (n_ended, ==, 0); /* they had not begun */
  g_assert_cmpuint (belay_get_n_pending (), ==, 0);
}

/* --- E07: SIGINT --- */

static gboolean cleaned_up;

static gboolean
clean_up (gpointer data, GError **error)
{
  gboolean ok = belay_sleep (2, error); /* it can wait */

  cleaned_up = ok;
  return ok;
}

static gboolean
wait_until_interrupted (gpointer data, GError **error)
{
  belay_scope_defer (belay_scope_current (), clean_up, NULL);
  if (data != NULL)
    belay_scope_cancel (belay_scope_current (), "cancelled before");
  raise (SIGINT);
  return belay_sleep (100000, error);
}

static void
e07 (void)
{
  for (int before = 0; before <= 1; before++)
    {
      cleaned_up = FALSE;
      g_assert_cmpint (belay_run (wait_until_interrupted, GINT_TO_POINTER (before)), ==, 128 + SIGINT);
      g_assert_true (cleaned_up);
    }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  test_add_fiber ("/runner/E01-to-a-thread-and-back", e01);
  test_add_fiber ("/runner/E03-L21-cancelled-while-a-thread-works", e03);
  g_test_add_func ("/runner/E04-L26-main-ends-while-others-run", e04);
  g_test_add_func ("/runner/E07-L49-interrupted", e07);
  return g_test_run ();
}
