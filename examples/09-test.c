/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a program's own code is tested with the kit. publish() is the code: it writes what it was given to two places, and
 * commits when both are written. The places are doubles that log what happens to them; real ones would be files or
 * connections. The tests: what happens in an hour, in virtual time; that nothing is left open wherever publish() is
 * cancelled, runs out of time, or fails; and that two who publish at once leave whole results, in whatever order their steps
 * fall. Run it with -l for the list, with -p for one of them; all of GLib's test options work.
 */
#include <belay/belay-test.h>

static int sheet, index_of_sheets; /* two numbers that belong together */
static BelaySemaphore *press;

static gboolean
publish (gpointer data, GError **error)
{
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (press, error);
  if (permit == NULL)
    return FALSE;
  belay_auto (BelayTestResource) page = belay_await (belay_test_resource_open ("page", 20), error);
  if (page == NULL)
    return FALSE;
  belay_auto (BelayTestResource) list = belay_await (belay_test_resource_open ("list", 20), error);
  if (list == NULL || !belay_sleep (3600 * 1000, error) || !belay_test_step ("print", error))
    return FALSE;

  sheet = GPOINTER_TO_INT (data);
  if (!belay_commit (&page, error))
    return FALSE;
  index_of_sheets = GPOINTER_TO_INT (data);
  return belay_commit (&list, error);
}

static gboolean
takes_an_hour (gpointer data, GError **error)
{
  gint64 begin = belay_now ();

  press = belay_semaphore_new (1);
  if (!publish (GINT_TO_POINTER (1), error))
    return FALSE;
  g_assert_cmpint (belay_now () - begin, >=, 3600 * (gint64) G_USEC_PER_SEC);
  belay_test_assert_log ("+page +list page=commit -page list=commit -list");
  belay_test_assert_conserved (press, 1);
  g_clear_pointer (&press, belay_semaphore_unref);
  return TRUE;
}

static gboolean
leaves_nothing_open (gpointer data, GError **error)
{
  press = belay_semaphore_new (1);
  belay_test_cancel_everywhere (publish, GINT_TO_POINTER (1));
  belay_test_expire_everywhere (publish, GINT_TO_POINTER (1));
  belay_test_fail_everywhere (publish, GINT_TO_POINTER (1));
  belay_test_assert_conserved (press, 1);
  g_clear_pointer (&press, belay_semaphore_unref);
  return TRUE;
}

static gboolean
two_at_once (gpointer data, GError **error)
{
  BelayFuture *first, *second;

  press = belay_semaphore_new (1);
  first = belay_spawn (publish, GINT_TO_POINTER (1));
  second = belay_spawn (publish, GINT_TO_POINTER (2));
  if (!belay_await_ok (belay_future_all (first, second, NULL), error))
    return FALSE;
  g_assert_cmpint (sheet, ==, index_of_sheets);
  g_clear_pointer (&press, belay_semaphore_unref);
  return TRUE;
}

int
main (int argc, char **argv)
{
  belay_test_init (&argc, &argv);
  belay_test_add_func ("/publish/takes-an-hour", takes_an_hour);
  belay_test_add_func ("/publish/leaves-nothing-open", leaves_nothing_open);
  belay_test_explore ("/publish/two-at-once", two_at_once);
  return g_test_run ();
}
