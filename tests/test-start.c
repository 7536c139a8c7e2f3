/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Children that say when they are ready. */
#include "thing.h"

/* A server: it takes some time to come up, says so, and serves. */
typedef struct
{
  const char *name;
  gint64      up_ms;      /* before the word */
  const char *fails;      /* instead of the word */
  gboolean    silent;     /* it returns without the word */
  gint64      serves_ms;  /* after the word; negative: until it is cancelled */
  const char *fails_late; /* at the end of that */
  gboolean    twice;
  gint64      down_ms;    /* how long its clean-up takes */
  const char *down_error;
} Server;

static gboolean
come_down (gpointer data, GError **error)
{
  Server *server = data;

  if (server->down_ms > 0)
    belay_sleep (server->down_ms, NULL);
  thing_note ("%s:down", server->name);
  return TRUE;
}

static gboolean
serve (BelayStarting *starting, gpointer data, GError **error)
{
  Server *server = data;

  thing_note ("%s:up", server->name);
  g_assert_true (belay_scope_defer (belay_scope_current (), come_down, server));
  if (!belay_sleep (server->up_ms, error))
    {
      if (server->down_error == NULL)
        return FALSE;
      g_clear_error (error);
      return fail_func ((gpointer) server->down_error, error);
    }
  if (server->fails != NULL)
    return fail_func ((gpointer) server->fails, error);
  if (server->silent)
    return TRUE;
  if (!belay_started (starting, g_strdup (server->name), g_free))
    {
      thing_note ("%s:unwanted", server->name);
      return TRUE;
    }
  if (server->twice)
    g_assert_false (belay_started (starting, g_strdup ("again"), g_free));
  if (server->serves_ms < 0)
    return wait_func (NULL, error);
  if (!belay_sleep (server->serves_ms, error))
    return FALSE;
  return server->fails_late == NULL || fail_func ((gpointer) server->fails_late, error);
}

static void
note_destroyed (gpointer data)
{
  thing_note ("%s:freed", ((Server *) data)->name);
}

static BelayFuture *
start (BelayScope *scope, Server *server)
{
  return belay_scope_start (scope, serve, server, note_destroyed);
}

static gboolean
test_ready (gpointer data, GError **error)
{
  Server server = { "a", 10, .serves_ms = 20 };
  gint64 begin = now_ms ();
  g_autofree char *value = NULL;
  belay_auto (BelayScope) group = belay_scope_begin ();

  value = belay_await (start (group, &server), error);
  g_assert_cmpstr (value, ==, "a");
  g_assert_cmpint (now_ms () - begin, ==, 10);
  assert_log ("a:up");
  g_assert_true (belay_scope_close (&group, error)); /* waits for it, as for any */
  g_assert_cmpint (now_ms () - begin, ==, 30);
  assert_log ("a:freed a:down");
  return TRUE;
}

/* Until the word its failure is the caller's, who is told when it has cleaned up; the group knows nothing of it. */
static gboolean
test_fails_before (gpointer data, GError **error)
{
  Server bad = { "bad", 10, .fails = "cannot listen", .down_ms = 50 }, good = { "good", 1, .serves_ms = 500 };
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();
  belay_auto (BelayScope) group = belay_scope_begin ();

  g_assert_true (belay_await_ok (start (group, &good), error));
  g_assert_null (belay_await (start (group, &bad), &failure));
  g_assert_cmpstr (failure->message, ==, "cannot listen");
  g_assert_cmpint (now_ms () - begin, ==, 61);
  assert_log ("good:up bad:up bad:freed bad:down");
  g_assert_true (belay_scope_close (&group, error)); /* the other has served to its end */
  g_assert_cmpint (now_ms () - begin, ==, 501);
  return TRUE;
}

/* After the word it is a member as any. */
static gboolean
test_fails_after (gpointer data, GError **error)
{
  Server bad = { "bad", 10, .serves_ms = 10, .fails_late = "broken" }, good = { "good", 1, .serves_ms = 500 };
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();
  belay_auto (BelayScope) group = belay_scope_begin ();

  g_assert_true (belay_await_ok (start (group, &good), error));
  g_assert_true (belay_await_ok (start (group, &bad), error));
  g_assert_false (belay_sleep (1000, NULL));
  g_assert_false (belay_scope_close (&group, &failure));
  g_assert_cmpstr (failure->message, ==, "broken");
  g_assert_cmpint (now_ms () - begin, ==, 21);
  return TRUE;
}

static gboolean
test_silent (gpointer data, GError **error)
{
  Server server = { "a", 10, .silent = TRUE };
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayScope) group = belay_scope_begin ();

  g_assert_null (belay_await (start (group, &server), &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
  assert_log ("a:up a:freed a:down");
  return belay_scope_close (&group, error);
}

static gboolean
test_twice (gpointer data, GError **error)
{
  Server server = { "a", 10, .twice = TRUE };
  belay_auto (BelayScope) group = belay_scope_begin ();

  expect_critical ("*has said before*");
  g_assert_true (belay_await_ok (start (group, &server), error));
  return belay_scope_close (&group, error);
}

/* The wait is interrupted: the child is cancelled, and the wait returns when that has ended. */
static gboolean
start_in_time (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (10);

  return limit != NULL && belay_await_ok (start (((gpointer *) data)[0], ((gpointer *) data)[1]), error);
}

static gboolean
test_cancelled (gpointer data, GError **error)
{
  Server slow = { "slow", 1000, .down_ms = 50 }, bad = { "bad", 1000, .down_error = "cannot stop" };
  g_autoptr (GError) failure = NULL, stuck = NULL;
  gint64 begin = now_ms ();
  BelayScope *group = belay_scope_new ();
  gpointer args[2] = { group, &slow }, bad_args[2] = { group, &bad };

  failure = thing_outcome (start_in_time, args);
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 60);
  assert_log ("slow:up slow:freed slow:down");
  stuck = thing_outcome (start_in_time, bad_args); /* what it says of that is not lost */
  g_assert_error (stuck, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  assert_attached ("cannot stop");
  g_assert_false (belay_scope_is_cancelled (group));
  return belay_scope_close (&group, error);
}

/* A future that is dropped, at once or later; one that loses. The child ends at its first wait. */
static gboolean
test_dropped (gpointer data, GError **error)
{
  Server servers[3] = { { "a", 100 }, { "b", 100 }, { "c", 100 } };
  BelayScope *group = belay_scope_new ();
  BelayFuture *future;

  belay_future_unref (start (group, &servers[0]));
  g_assert_true (belay_sleep (1, error));
  /* It may have begun before it was told. */
  g_assert_true (g_str_equal (thing_log (), "a:freed") || g_str_equal (thing_log (), "a:up a:freed a:down"));
  thing_clear_log ();
  future = start (group, &servers[1]);
  g_assert_true (belay_sleep (1, error));
  belay_future_unref (future);
  g_assert_true (belay_sleep (1, error));
  assert_log ("b:up b:freed b:down");
  g_assert_false (belay_await_ok (belay_future_with_timeout (start (group, &servers[2]), 10), NULL));
  assert_log ("c:up c:freed c:down");
  return belay_scope_close (&group, error);
}

static gboolean
stubborn (BelayStarting *starting, gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  g_assert_true (shield != NULL && belay_sleep (20, NULL));
  g_assert_false (belay_started (starting, g_strdup ("too late"), g_free));
  return TRUE;
}

/* It says the word though it was cancelled: nobody is told that it is ready. */
static gboolean
test_given_up_then_ready (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *group = belay_scope_new ();
  gint64 begin = now_ms ();
  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);

    g_assert_true (limit != NULL);
    g_assert_false (belay_await_ok (belay_scope_start (group, stubborn, NULL, NULL), &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    g_assert_cmpint (now_ms () - begin, ==, 20);
  }
  return belay_scope_close (&group, error);
}

/* The group is cancelled meanwhile, or by a sibling that fails. */
static gboolean
test_group_cancelled (gpointer data, GError **error)
{
  Server slow = { "slow", 1000 };
  g_autoptr (GError) failure = NULL;
  BelayScope *group = belay_scope_new ();
  BelayFuture *future = start (group, &slow);

  g_assert_true (belay_sleep (10, error));
  belay_scope_cancel (group, "enough");
  g_assert_false (belay_await_ok (future, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (failure->message, ==, "enough");
  assert_log ("slow:up slow:freed slow:down");
  future = start (group, &slow); /* nothing starts in it */
  g_assert_true (belay_future_is_rejected (future));
  g_clear_error (&failure);
  g_assert_false (belay_await_ok (future, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("slow:freed");
  belay_scope_close (&group, NULL);
  return TRUE;
}

/* A group is not closed while a child of it comes up, and one that is closed takes none. */
static gboolean
start_and_note (gpointer data, GError **error)
{
  gpointer *args = data;
  gboolean ok = belay_await_ok (start (args[0], args[1]), error);

  thing_note ("%s:told", ((Server *) args[1])->name);
  return ok;
}

static gboolean
test_stays_open (gpointer data, GError **error)
{
  Server server = { "a", 50, .serves_ms = 50 };
  BelayScope *group = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (group);
  gpointer args[2] = { group, &server };
  g_autoptr (GError) refused = NULL;
  gint64 begin = now_ms ();
  BelayFuture *starting = belay_spawn (start_and_note, args);

  g_assert_true (belay_sleep (10, error));
  g_assert_true (belay_scope_close (&group, error));
  g_assert_cmpint (now_ms () - begin, ==, 100);
  assert_log ("a:up a:told a:freed a:down");
  g_assert_true (belay_await_ok (starting, error));
  g_assert_false (belay_await_ok (start (kept, &server), &refused));
  g_assert_error (refused, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_log ("a:freed");
  return TRUE;
}

/* Several at once. */
static gboolean
test_side_by_side (gpointer data, GError **error)
{
  Server servers[3] = { { "a", 30, .serves_ms = -1 }, { "b", 10, .serves_ms = -1 }, { "c", 20, .serves_ms = -1 } };
  BelayFuture *futures[3];
  gint64 begin = now_ms ();
  BelayScope *group = belay_scope_new ();

  for (guint i = 0; i < 3; i++)
    futures[i] = start (group, &servers[i]);
  g_assert_true (belay_await_ok (belay_future_allv (futures, 3), error));
  g_assert_cmpint (now_ms () - begin, ==, 30);
  belay_scope_cancel (group, "the end");
  g_assert_false (belay_scope_close (&group, NULL));
  return TRUE;
}

/* Cancelled at each instant, with one that comes up at 5 ms: either ready, or ended and nothing left. */
static gboolean
test_each_instant (gpointer data, GError **error)
{
  guint n_ready = 0;

  for (gint64 ms = 0; ms < 10; ms++)
    {
      Server server = { "a", 5, .serves_ms = -1, .down_ms = 2 };
      belay_auto (BelayScope) group = belay_scope_new ();
      belay_auto (BelayTimeout) limit = belay_timeout (ms);
      g_autofree char *value = belay_await (start (group, &server), NULL);

      g_assert_true (belay_close (&limit, error));
      if (value != NULL)
        n_ready++;
      else
        g_assert_true (ms == 0 ? g_str_equal (thing_log (), "a:freed") : g_str_has_suffix (thing_log (), "a:freed a:down"));
      belay_scope_cancel (group, "the end");
      belay_scope_close (&group, NULL);
      g_assert_true (ms == 0 || g_str_has_suffix (thing_log (), "a:freed a:down"));
      thing_clear_log ();
    }
  g_assert_cmpuint (n_ready, >=, 4); /* and the one in whose instant both come */
  g_assert_cmpuint (n_ready, <=, 5);
  return TRUE;
}

/* From a plain thread; the word is a promise's, whom anybody can wait for. */
static gpointer
start_on_thread (gpointer data)
{
  gpointer *args = data;

  return start (args[0], args[1]);
}

static gboolean
test_from_thread (gpointer data, GError **error)
{
  Server server = { "a", 0, .serves_ms = 0 };
  BelayScope *group = belay_scope_new ();
  gpointer args[2] = { group, &server };
  g_autofree char *value = belay_await (g_thread_join (g_thread_new ("starter", start_on_thread, args)), error);

  g_assert_cmpstr (value, ==, "a");
  return belay_scope_close (&group, error);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/start/L29-returns-when-it-is-ready", test_ready);
  thing_add_test ("/start/L29-fails-before-the-word", test_fails_before);
  thing_add_test ("/start/L29-fails-after-the-word", test_fails_after);
  thing_add_test ("/start/L29-ends-without-the-word", test_silent);
  thing_add_test ("/start/L29-the-word-twice", test_twice);
  thing_add_test ("/start/L29-cancelled", test_cancelled);
  thing_add_test ("/start/L29-dropped", test_dropped);
  thing_add_test ("/start/L29-given-up-then-ready", test_given_up_then_ready);
  thing_add_test ("/start/L29-group-is-cancelled", test_group_cancelled);
  thing_add_test ("/start/L29-group-stays-open", test_stays_open);
  thing_add_test ("/start/L29-side-by-side", test_side_by_side);
  thing_add_test ("/start/L29-cancelled-at-each-instant", test_each_instant);
  thing_add_test ("/start/L29-from-a-thread", test_from_thread);
  return g_test_run ();
}
