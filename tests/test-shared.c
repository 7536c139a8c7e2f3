/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A shared resource: one opening for all who come, open while somebody uses it, and nothing of it is ever lost. */
#include "thing.h"

/* How it is opened. */
typedef struct
{
  gint64      open_ms, close_ms;
  guint       n_failures; /* the first openings, which fail */
  const char *close_error;
  gboolean    stubborn;   /* the opening does not hear that it is cancelled */
  guint       n_begun;
  int         n_open, n_freed; /* at this moment; how often the data was freed */
} Manner;

static gboolean
count_close (gpointer data, GError **error)
{
  Manner *manner = data;

  g_assert_cmpint (g_atomic_int_add (&manner->n_open, -1), ==, 1);
  return TRUE;
}

static gpointer
open_thing (gpointer data, GError **error)
{
  Manner *manner = data;
  Thing *thing;

  manner->n_begun++;
  if (manner->stubborn)
    {
      belay_auto (BelayShield) shield = belay_shield ();

      belay_sleep (manner->open_ms, NULL);
    }
  else if (manner->open_ms > 0 && !belay_sleep (manner->open_ms, error))
    {
      return NULL;
    }
  if (manner->n_begun <= manner->n_failures)
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "opening %u failed", manner->n_begun);
      return NULL;
    }
  g_assert_cmpint (g_atomic_int_add (&manner->n_open, 1), ==, 0); /* never two */
  thing = thing_new_slow ("r", manner->close_ms);
  thing->close_error = manner->close_error;
  thing->on_close = count_close;
  thing->data = manner;
  return thing;
}

static void
free_manner (gpointer data)
{
  ((Manner *) data)->n_freed++;
}

typedef struct
{
  BelayShared *shared;
  gint64       use_ms;
  const char  *name;
} User;

static gboolean
use (gpointer data, GError **error)
{
  User *user = data;
  g_autoptr (GError) failure = NULL;
  belay_auto (BelayUse) held = belay_shared_use (user->shared, &failure);

  if (held == NULL)
    {
      thing_note ("%s:%s", user->name, g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_CLOSED) ? "closed"
                                       : g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_NOT_FOUND) ? "failed"
                                       : g_error_matches (failure, BELAY_ERROR, BELAY_ERROR_BROKEN) ? "broken"
                                                                                                    : "left");
      return TRUE;
    }
  g_assert_cmpstr (((Thing *) belay_use_get (held))->name, ==, "r");
  thing_note ("%s", user->name);
  belay_sleep (user->use_ms, NULL);
  return TRUE;
}

/* --- one opening, one close --- */

static gboolean
test_together (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 10 };
  BelayShared *shared = belay_shared_new (open_thing, &manner, free_manner);
  User a = { shared, 20, "a" }, b = { shared, 40, "b" };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_false (belay_shared_is_open (shared));
  g_assert_null (belay_shared_try_use (shared));
  g_assert_true (belay_scope_spawn (scope, use, &a, NULL));
  g_assert_true (belay_scope_spawn (scope, use, &b, NULL));
  g_assert_true (belay_sleep (15, error));
  assert_log_words ("+r a b");
  g_assert_true (belay_shared_is_open (shared));
  g_assert_cmpuint (belay_shared_get_n_users (shared), ==, 2);
  {
    belay_auto (BelayUse) at_once = belay_shared_try_use (shared);

    g_assert_nonnull (at_once);
    g_assert_cmpuint (belay_shared_get_n_users (shared), ==, 3);
  }
  g_assert_true (belay_scope_close (&scope, error));
  belay_test_settle ();
  assert_log ("-r"); /* with the last */
  g_assert_false (belay_shared_is_open (shared));
  g_assert_cmpuint (belay_shared_get_n_opens (shared), ==, 1);
  scope = belay_scope_begin ();
  g_assert_true (use (&a, error)); /* and anew */
  belay_test_settle ();
  g_assert_cmpuint (belay_shared_get_n_opens (shared), ==, 2);
  g_assert_cmpint (manner.n_freed, ==, 0);
  belay_shared_unref (shared);
  g_assert_cmpint (manner.n_freed, ==, 1);
  return TRUE;
}

static gboolean
test_idle (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 1 };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User user = { shared, 0, "x" };

  belay_shared_set_idle_timeout (shared, 100);
  for (guint i = 0; i < 5; i++) /* 90 ms apart: it never closes */
    {
      g_assert_true (use (&user, error));
      g_assert_true (belay_sleep (90, error));
    }
  assert_log ("+r x x x x x");
  g_assert_true (belay_sleep (9, error));
  g_assert_true (belay_shared_is_open (shared));
  g_assert_true (belay_sleep (2, error));
  g_assert_false (belay_shared_is_open (shared));
  assert_log ("-r");
  g_assert_true (use (&user, error));
  g_assert_true (belay_sleep (50, error));
  belay_shared_set_idle_timeout (shared, 60); /* counts from when it was left */
  g_assert_true (belay_sleep (9, error));
  g_assert_true (belay_shared_is_open (shared));
  g_assert_true (belay_sleep (2, error));
  g_assert_false (belay_shared_is_open (shared));
  belay_shared_set_idle_timeout (shared, -1);
  g_assert_true (use (&user, error));
  g_assert_true (belay_sleep (1000000, error));
  g_assert_true (belay_shared_is_open (shared));
  belay_shared_set_idle_timeout (shared, 0);
  g_assert_true (belay_sleep (1, error));
  g_assert_false (belay_shared_is_open (shared));
  g_assert_cmpuint (manner.n_begun, ==, 3);
  return TRUE;
}

/* --- an opening that fails, or that nobody waits for --- */

static gboolean
test_failed (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 10, .n_failures = 1 };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User a = { shared, 5, "a" }, b = { shared, 5, "b" };
  g_autoptr (GError) failure = NULL;
  BelayFuture *future = belay_shared_use_async (shared);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (scope, use, &a, NULL));
  g_assert_true (belay_scope_spawn (scope, use, &b, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log_words ("a:failed b:failed");
  g_assert_null (belay_await (future, &failure));
  g_assert_cmpstr (failure->message, ==, "opening 1 failed");
  g_assert_true (use (&a, error)); /* the next tries again */
  belay_test_settle ();
  assert_log ("+r a -r");
  g_assert_cmpuint (manner.n_begun, ==, 2);
  return TRUE;
}

/* The first is cancelled: the opening is not its own, and goes on for the others. */
static gboolean
test_first_cancelled (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 10 };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User a = { shared, 5, "a" }, b = { shared, 5, "b" };
  BelayScope *first = belay_scope_new ();
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_spawn (first, use, &a, NULL));
  g_assert_true (belay_sleep (5, error));
  g_assert_true (belay_scope_spawn (scope, use, &b, NULL));
  g_assert_true (belay_sleep (1, error));
  belay_scope_cancel (first, "enough");
  belay_scope_close (&first, NULL);
  g_assert_true (belay_scope_close (&scope, error));
  belay_test_settle ();
  assert_log ("a:left +r b -r");
  g_assert_cmpuint (manner.n_begun, ==, 1);
  return TRUE;
}

/* All who wait leave: it is cancelled; or does not listen, and what it made is closed. Who comes meanwhile gets one. */
static gboolean
test_all_cancelled (gpointer data, GError **error)
{
  for (guint i = 0; i < 4; i++)
    {
      gboolean stubborn = i & 1, comes_back = i & 2;
      Manner manner = { .open_ms = 10, .close_ms = 3, .stubborn = stubborn };
      g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
      User a = { shared, 5, "a" };
      BelayFuture *dropped = belay_shared_use_async (shared);
      BelayScope *first = belay_scope_new ();

      g_assert_true (belay_scope_spawn (first, use, &a, NULL));
      g_assert_true (belay_sleep (5, error));
      belay_scope_cancel (first, "enough");
      belay_scope_close (&first, NULL);
      g_assert_true (belay_sleep (1, error));
      g_assert_cmpuint (manner.n_begun, ==, 1);
      belay_future_unref (dropped); /* the last */
      if (comes_back)
        g_assert_true (use (&a, error));
      belay_test_settle ();
      if (!comes_back)
        assert_log (stubborn ? "a:left +r -r r." : "a:left");
      else
        assert_log ("a:left +r a -r r."); /* the same one, or another */
      g_assert_cmpuint (manner.n_begun, ==, comes_back && !stubborn ? 2 : 1);
      g_assert_cmpint (manner.n_open, ==, 0);
    }
  return TRUE;
}

/* What the opening failed with is told, though all have left. */
static gboolean
test_failed_unseen (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 10, .n_failures = 1, .stubborn = TRUE };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);

  {
    BelayFuture *future = belay_shared_use_async (shared);

    g_assert_true (belay_sleep (1, error)); /* it opens: one that is cancelled before it begins fails with nothing */
    belay_future_unref (future);
  }
  belay_test_settle ();
  assert_sunk ("opening 1 failed");
  manner.n_begun = 0;
  {
    belay_auto (BelayTimeout) limit = belay_timeout (5);

    g_assert_null (belay_shared_use (shared, NULL));
  }
  belay_test_settle ();
  g_assert_cmpuint (manner.n_begun, ==, 1);
  assert_sunk ("opening 1 failed");
  return TRUE;
}

static gboolean
test_used_while_closing (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 1, .close_ms = 50 };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User a = { shared, 1, "a" }, b = { shared, 1, "b" };

  g_assert_true (use (&a, error));
  g_assert_true (belay_sleep (10, error)); /* it closes */
  assert_log ("+r a -r");
  g_assert_null (belay_shared_try_use (shared));
  g_assert_true (use (&b, error));
  belay_test_settle ();
  assert_log ("r. +r b -r r.");
  return TRUE;
}

/* --- the end --- */

static gboolean
close_it (gpointer data, GError **error)
{
  User *user = data;
  g_autoptr (GError) failure = NULL;

  if (belay_shared_close (user->shared, &failure))
    thing_note ("%s:ok", user->name);
  else
    thing_note ("%s:%s", user->name, failure->message);
  return TRUE;
}

static gboolean
test_close (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 1, .close_ms = 5 };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User user = { shared, 100, "user" }, late = { shared, 1, "late" }, one = { shared, 0, "one" }, two = { shared, 0, "two" };
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *future;

  belay_shared_set_idle_timeout (shared, 1000);
  g_assert_true (belay_scope_spawn (scope, use, &user, NULL));
  g_assert_true (belay_sleep (10, error));
  g_assert_true (belay_scope_spawn (scope, close_it, &one, NULL));
  g_assert_true (belay_scope_spawn (scope, close_it, &two, NULL));
  future = belay_shared_close_async (shared);
  g_assert_true (belay_sleep (1, error));
  g_assert_true (use (&late, error));
  g_assert_null (belay_shared_try_use (shared));
  assert_log ("+r user late:closed");
  g_assert_true (belay_sleep (80, error));
  assert_log (""); /* it is in use */
  g_assert_true (belay_scope_close (&scope, error));
  assert_log_words ("-r r. one:ok two:ok");
  return belay_await_ok (future, error) && belay_shared_close (shared, error);
}

/* Who waits for the opening is told once, and the opening ends; what it makes all the same is closed before the close is over. */
static gboolean
test_close_while_opening (gpointer data, GError **error)
{
  for (guint stubborn = 0; stubborn < 2; stubborn++)
    {
      Manner manner = { .open_ms = 10, .close_ms = 5, .stubborn = stubborn };
      g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
      User user = { shared, 100, "user" };
      belay_auto (BelayScope) scope = belay_scope_begin ();

      g_assert_true (belay_scope_spawn (scope, use, &user, NULL));
      g_assert_true (belay_sleep (5, error));
      g_assert_true (belay_shared_close (shared, error));
      g_assert_cmpint (manner.n_open, ==, 0);
      thing_note ("over");
      g_assert_true (belay_scope_close (&scope, error));
      assert_log_words (stubborn ? "user:closed +r -r r. over" : "user:closed over");
    }
  return TRUE;
}

static gboolean
test_close_failed (gpointer data, GError **error)
{
  Manner manner = { .close_ms = 5, .close_error = "no" };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User user = { shared, 1, "user" }, one = { shared, 0, "one" }, two = { shared, 0, "two" };
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_shared_set_idle_timeout (shared, -1);
  g_assert_true (use (&user, error));
  g_assert_true (belay_scope_spawn (scope, close_it, &one, NULL));
  g_assert_true (belay_scope_spawn (scope, close_it, &two, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log_words ("+r user -r r. one:no two:no");
  g_assert_true (close_it (&one, error)); /* whoever asks later hears the same */
  assert_log ("one:no");
  return TRUE;
}

/* A close that nobody waits for fails to the sink. */
static gboolean
test_close_failed_unseen (gpointer data, GError **error)
{
  Manner manner = { .close_error = "no" };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User user = { shared, 1, "user" };

  g_assert_true (use (&user, error));
  belay_test_settle ();
  assert_sunk ("no");
  return TRUE;
}

/* A bound for the users: the wait ends, nothing is closed under them, and the last of them closes it. */
static gboolean
test_close_bounded (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 1 };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User user = { shared, 100, "user" };
  BelayFuture *using = belay_spawn (use, &user);

  g_assert_true (belay_sleep (10, error));
  {
    belay_auto (BelayTimeout) limit = belay_timeout (50);
    g_autoptr (GError) failure = NULL;

    g_assert_false (belay_shared_close (shared, &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  }
  g_assert_true (belay_shared_is_open (shared));
  g_assert_cmpuint (belay_shared_get_n_users (shared), ==, 1);
  g_assert_true (belay_await_ok (using, error));
  return belay_shared_close (shared, error) && !belay_shared_is_open (shared);
}

/* Nobody waits for the close any more when it fails: the sink is told, and whoever closes it again. */
static gboolean
test_close_failed_later (gpointer data, GError **error)
{
  Manner manner = { .close_error = "no" };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User user = { shared, 100, "user" };
  BelayFuture *using = belay_spawn (use, &user);
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_sleep (10, error));
  {
    belay_auto (BelayTimeout) limit = belay_timeout (20);

    g_assert_false (belay_shared_close (shared, NULL));
  }
  g_assert_true (belay_await_ok (using, error));
  belay_test_settle ();
  assert_sunk ("no");
  for (guint i = 0; i < 2; i++)
    {
      g_assert_false (i == 0 ? belay_shared_close (shared, &failure) : belay_await_ok (belay_shared_close_async (shared), &failure));
      g_assert_cmpstr (failure->message, ==, "no");
      g_clear_error (&failure);
    }
  return TRUE;
}

/* The last reference goes while it is used, idle, or opening. */
static gboolean
test_last_reference (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 1 };
  BelayShared *shared = belay_shared_new (open_thing, &manner, free_manner);
  User user = { shared, 1, "user" };
  BelayUse *held;

  held = belay_shared_use (shared, error);
  g_assert_nonnull (held);
  belay_shared_unref (shared);
  g_assert_true (belay_sleep (100, error));
  assert_log ("+r");
  belay_release (&held);
  belay_test_settle ();
  assert_log ("-r");
  g_assert_cmpint (manner.n_freed, ==, 1);

  shared = user.shared = belay_shared_new (open_thing, &manner, free_manner);
  belay_shared_set_idle_timeout (shared, 3600 * 1000);
  g_assert_true (use (&user, error));
  belay_shared_unref (shared);
  belay_test_settle ();
  g_assert_true (belay_yield (error));
  assert_log ("+r user -r");
  g_assert_cmpint (manner.n_freed, ==, 2);

  shared = belay_shared_new (open_thing, &manner, free_manner);
  {
    BelayFuture *future = belay_shared_use_async (shared);

    belay_shared_unref (shared);
    g_assert_true (belay_yield (error));
    held = belay_await (future, error); /* it has a reference of its own */
    g_assert_nonnull (held);
    belay_release (&held);
  }
  belay_test_settle ();
  assert_log ("+r -r");
  g_assert_cmpint (manner.n_freed, ==, 3);
  return TRUE;
}

static gboolean
test_dropped_with_waiter (gpointer data, GError **error)
{
  Manner manner = { .open_ms = 10 };
  BelayShared *shared = belay_shared_new (open_thing, &manner, NULL);
  User user = { shared, 1, "user" };
  BelayFuture *using = belay_spawn (use, &user);

  belay_sleep (1, NULL);
  expect_critical ("*last reference to a shared resource*");
  belay_shared_unref (shared);
  g_test_assert_expected_messages ();
  g_assert_true (belay_await_ok (using, error));
  belay_test_settle ();
  assert_log ("user:broken");
  return TRUE;
}

/* --- misuse --- */

static gpointer
open_itself (gpointer data, GError **error)
{
  return belay_shared_use (*(BelayShared **) data, error);
}

static gpointer
open_nothing (gpointer data, GError **error)
{
  static BelayPlain classless;

  return &classless;
}

static gboolean
close_itself (gpointer data, GError **error)
{
  return belay_shared_close (data, error);
}

static gpointer
open_closing_itself (gpointer data, GError **error)
{
  Thing *thing = thing_new ("r");

  thing->on_close = close_itself;
  thing->data = *(BelayShared **) data;
  return thing;
}

static gboolean
test_misuse (gpointer data, GError **error)
{
  BelayShared *shared = belay_shared_new (open_itself, &shared, NULL);
  g_autoptr (GError) failure = NULL;

  expect_critical ("*waits for itself*");
  g_assert_null (belay_shared_use (shared, &failure));
  g_test_assert_expected_messages ();
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
  belay_shared_unref (shared);
  g_clear_error (&failure);

  shared = belay_shared_new (open_closing_itself, &shared, NULL);
  belay_shared_set_idle_timeout (shared, -1);
  {
    belay_auto (BelayUse) held = belay_shared_use (shared, error);

    g_assert_nonnull (held);
  }
  {
    BelayUse *use = belay_shared_use (shared, error), *copy = use;

    belay_release (&use);
    expect_critical ("a BelayUse was released before*");
    belay_release (&copy);
    g_assert_cmpuint (belay_shared_get_n_users (shared), ==, 0);
  }
  expect_critical ("*waits for itself*");
  g_assert_false (belay_shared_close (shared, &failure));
  g_test_assert_expected_messages ();
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_DEADLOCK);
  belay_shared_unref (shared);
  g_clear_error (&failure);

  shared = belay_shared_new (open_nothing, NULL, NULL);
  expect_critical ("*without a class*");
  g_assert_null (belay_shared_use (shared, &failure));
  g_test_assert_expected_messages ();
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  belay_shared_unref (shared);
  return TRUE;
}

/* --- in any order, cancelled everywhere, threads --- */

static gboolean
explore (gpointer data, GError **error)
{
  Manner manner = { .open_ms = belay_test_chance (4), .close_ms = belay_test_chance (4), .n_failures = belay_test_chance (3),
                    .stubborn = belay_test_chance (2) == 0 };
  BelayShared *shared = belay_shared_new (open_thing, &manner, free_manner);
  BelayScope *scopes[5];
  User users[5];

  if (belay_test_chance (2) == 0)
    belay_shared_set_idle_timeout (shared, belay_test_chance (6));
  for (guint i = 0; i < 5; i++)
    {
      users[i] = (User) { shared, belay_test_chance (5), "x" };
      scopes[i] = belay_scope_new ();
      g_assert_true (belay_scope_spawn (scopes[i], use, &users[i], NULL));
      belay_sleep (belay_test_chance (3), NULL);
      if (belay_test_chance (3) == 0)
        belay_scope_cancel (scopes[belay_test_chance (i + 1)], "enough");
      if (belay_test_chance (4) == 0)
        belay_future_unref (belay_shared_use_async (shared));
    }
  if (belay_test_chance (3) == 0)
    g_assert_true (belay_shared_close (shared, error));
  for (guint i = 0; i < 5; i++)
    belay_scope_close (&scopes[i], NULL);
  if (belay_test_chance (2) == 0)
    {
      g_assert_true (belay_shared_close (shared, error));
      g_assert_cmpint (manner.n_open, ==, 0);
    }
  g_assert_cmpuint (belay_shared_get_n_users (shared), ==, 0);
  belay_shared_unref (shared);
  belay_test_settle ();
  g_free (belay_test_take_sunk ()); /* an opening that failed when all had left */
  g_assert_cmpint (manner.n_open, ==, 0);
  g_assert_cmpint (manner.n_freed, ==, 1);
  return TRUE;
}

static gboolean
share (gpointer data, GError **error)
{
  static Manner manner = { .open_ms = 2, .close_ms = 1 }; /* the close may come after this has returned */
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  User user = { shared, 3, "x" };

  {
    belay_auto (BelayScope) scope = belay_scope_begin ();
    belay_auto (BelayUse) mine = NULL;

    if (!belay_scope_spawn (scope, use, &user, NULL))
      return belay_checkpoint (error);
    mine = belay_shared_use (shared, error);
    if (mine == NULL || !belay_sleep (1, error) || !belay_scope_close (&scope, error))
      return FALSE;
  }
  return belay_shared_close (shared, error);
}

static gboolean
test_everywhere (gpointer data, GError **error)
{
  g_assert_cmpuint (belay_test_cancel_everywhere (share, NULL), >, 4);
  g_assert_cmpuint (belay_test_expire_everywhere (share, NULL), >, 4);
  return TRUE;
}

typedef struct
{
  BelayShared *shared;
  Manner      *manner;
  int          n;
} Crowd;

static void
look (Crowd *crowd, BelayUse *held)
{
  g_assert_cmpstr (((Thing *) belay_use_get (held))->name, ==, "r");
  g_assert_cmpint (g_atomic_int_get (&crowd->manner->n_open), ==, 1);
  g_atomic_int_inc (&crowd->n);
}

static gboolean
use_often (gpointer data, GError **error)
{
  Crowd *crowd = data;

  for (guint i = 0; i < 100; i++)
    {
      if (i % 5 == 0)
        belay_future_unref (belay_shared_use_async (crowd->shared));
      {
        belay_auto (BelayUse) held = belay_shared_use (crowd->shared, error);

        if (held == NULL)
          return FALSE;
        look (crowd, held);
        if (i % 3 == 0 && !belay_yield (error))
          return FALSE;
        look (crowd, held);
      }
    }
  return TRUE;
}

static gpointer
use_in_thread (gpointer data)
{
  Crowd *crowd = data;

  for (guint i = 0; i < 100; i++)
    {
      g_autoptr (BelayFuture) future = belay_shared_use_async (crowd->shared);
      BelayUse *held;

      if (i % 4 == 0)
        continue;
      g_assert_true (belay_future_wait_sync (future, NULL));
      held = belay_future_take (future, NULL);
      look (crowd, held);
      belay_release (&held);
    }
  belay_external_end ();
  return NULL;
}

static gboolean
test_threads (gpointer data, GError **error)
{
  Manner manner = { 0 };
  Crowd crowd = { belay_shared_new (open_thing, &manner, free_manner), &manner };
  belay_auto (BelayLoop) loop = belay_loop_new ("one");
  BelayFuture *futures[4];
  GThread *thread;

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  belay_external_begin ();
  thread = g_thread_new ("plain", use_in_thread, &crowd);
  for (guint i = 0; i < 4; i++)
    futures[i] = i < 2 ? belay_loop_spawn (loop, use_often, &crowd, NULL) : belay_spawn (use_often, &crowd);
  g_assert_true (belay_await_ok (belay_future_allv (futures, 4), error));
  /* The thread needs this one's loop, which is the resource's home. */
  while (belay_shared_get_n_users (crowd.shared) > 0 || g_atomic_int_get (&crowd.n) < 4 * 200 + 75)
    if (!belay_yield (error))
      return FALSE;
  g_thread_join (thread);
  g_assert_true (belay_close (&loop, error));
  g_assert_true (belay_shared_close (crowd.shared, error));
  belay_shared_unref (crowd.shared);
  belay_test_settle ();
  g_assert_cmpint (manner.n_open, ==, 0);
  g_assert_cmpint (manner.n_freed, ==, 1);
  return TRUE;
}

/* Made on a loop that ends before it is used, or while it is idle. */
static gboolean
make_there (gpointer data, GError **error)
{
  Crowd *crowd = data;

  crowd->shared = belay_shared_new (open_thing, crowd->manner, NULL);
  belay_shared_set_idle_timeout (crowd->shared, crowd->n < 2 ? 1000000 : -1);
  if (crowd->n > 0)
    {
      User user = { crowd->shared, 0, "x" };

      return use (&user, error);
    }
  return TRUE;
}

static gboolean
test_home_ends (gpointer data, GError **error)
{
  for (int n = 0; n < 3; n++)
    {
      Manner manner = { 0 };
      Crowd crowd = { NULL, &manner, n };
      belay_auto (BelayLoop) loop = belay_loop_new ("short");
      g_autoptr (GError) failure = NULL;

      belay_scope_set_release_timeout (belay_scope_current (), -1);
      belay_external_begin (); /* no time passes */
      g_assert_true (belay_await_ok (belay_loop_spawn (loop, make_there, &crowd, NULL), error));
      g_assert_true (belay_close (&loop, error));
      belay_external_end ();
      assert_log (n == 0 ? "" : "+r x -r"); /* it was idle */
      g_assert_null (belay_shared_use (crowd.shared, &failure));
      g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_BROKEN);
      belay_shared_unref (crowd.shared);
    }
  return TRUE;
}

/* Its home goes without a word: there is nowhere to close it, and it is ended by force. */
static void
test_home_gone (void)
{
  GMainContext *context = g_main_context_new ();
  Manner manner = { 0 };
  User user = { .name = "x" };
  BelayFuture *using;

  g_main_context_push_thread_default (context);
  user.shared = belay_shared_new (open_thing, &manner, NULL);
  belay_shared_set_idle_timeout (user.shared, 1000000);
  using = belay_spawn (use, &user);
  while (belay_future_is_pending (using))
    g_main_context_iteration (context, TRUE);
  belay_future_unref (using);
  while (g_main_context_iteration (context, FALSE))
    ;
  g_main_context_pop_thread_default (context);
  assert_log ("+r x");
  g_main_context_unref (context);
  assert_log ("!r");
  belay_shared_unref (user.shared);
}

/* The program ends while it is idle, and had it stay open for ever; and while what is pending still comes to use it. */
typedef struct
{
  User     user;
  gint64   idle_ms;
  gboolean comes_late;
} Program;

static gboolean
use_later (gpointer data, GError **error)
{
  Program *program = data;

  belay_sleep (50, NULL);
  program->user.name = "late";
  return use (&program->user, error);
}

static gboolean
start_later (gpointer data)
{
  belay_future_unref (belay_spawn (use_later, data)); /* outside of fibers: it belongs to nobody */
  thing_note ("starts");
  return G_SOURCE_REMOVE;
}

static gboolean
use_and_end (gpointer data, GError **error)
{
  Program *program = data;

  belay_shared_set_idle_timeout (program->user.shared, program->idle_ms);
  if (!use (&program->user, error))
    return FALSE;
  if (program->comes_late)
    {
      g_idle_add (start_later, program);
      while (strstr (thing_log (), "starts") == NULL)
        belay_yield (NULL);
    }
  return TRUE;
}

static void
test_end_of_program (void)
{
  const struct { gint64 idle_ms; gboolean comes_late; const char *log; } cases[] = {
    { -1, FALSE, "+r x -r r." }, { 3600000, FALSE, "+r x -r r." }, { -1, TRUE, "+r x starts -r r. +r late -r r." },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      Manner manner = { .close_ms = 5 };
      g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
      Program program = { { shared, 0, "x" }, cases[i].idle_ms, cases[i].comes_late };

      g_assert_cmpint (belay_run (use_and_end, &program), ==, 0);
      assert_log (cases[i].log);
      g_assert_false (belay_shared_is_open (shared));
    }
}

static gboolean
test_in_scope (gpointer data, GError **error)
{
  Manner manner = { 0 };
  g_autoptr (BelayShared) shared = belay_shared_new (open_thing, &manner, NULL);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_nonnull (belay_enter (scope, belay_shared_use_async (shared), error));
  g_assert_true (belay_scope_adopt (scope, belay_shared_use (shared, error), error));
  g_assert_cmpuint (belay_shared_get_n_users (shared), ==, 2);
  g_assert_true (belay_scope_close (&scope, error));
  belay_test_settle ();
  assert_log ("+r -r");
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/shared/opened-by-the-first-closed-by-the-last", test_together);
  thing_add_test ("/shared/idle", test_idle);
  thing_add_test ("/shared/L9-a-failed-opening-is-told-to-all-who-waited", test_failed);
  thing_add_test ("/shared/L39-the-opening-is-not-the-first-ones", test_first_cancelled);
  thing_add_test ("/shared/L32-L39-all-who-wait-leave", test_all_cancelled);
  thing_add_test ("/shared/L9-a-failed-opening-that-nobody-waits-for", test_failed_unseen);
  thing_add_test ("/shared/used-while-it-closes", test_used_while_closing);
  thing_add_test ("/shared/L11-L36-close", test_close);
  thing_add_test ("/shared/L36-closed-while-it-opens", test_close_while_opening);
  thing_add_test ("/shared/L11-a-close-that-fails", test_close_failed);
  thing_add_test ("/shared/L11-a-close-that-fails-when-its-wait-was-over", test_close_failed_later);
  thing_add_test ("/shared/L9-a-close-that-fails-unseen", test_close_failed_unseen);
  thing_add_test ("/shared/L36-not-closed-under-its-users", test_close_bounded);
  thing_add_test ("/shared/L1-last-reference", test_last_reference);
  thing_add_test ("/shared/L34-dropped-while-somebody-waits", test_dropped_with_waiter);
  thing_add_test ("/shared/L34-misuse", test_misuse);
  thing_add_test ("/shared/uses-in-a-scope", test_in_scope);
  belay_test_explore ("/shared/L32-L36-in-any-order", explore);
  thing_add_single_test ("/shared/L32-interrupted-everywhere", test_everywhere);
  thing_add_single_test ("/shared/threads", test_threads);
  thing_add_single_test ("/shared/L15-home-ends", test_home_ends);
  thing_add_plain_test ("/shared/L15-home-gone", test_home_gone);
  thing_add_plain_test ("/shared/L50-idle-at-the-end-of-the-program", test_end_of_program);
  return g_test_run ();
}
