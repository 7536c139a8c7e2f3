/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Rules that settle the hard cases, each by its number; and the parts of laws that go across the concepts. */
#ifndef _GNU_SOURCE
# define _GNU_SOURCE
#endif
#include "thing.h"

#include <dlfcn.h>

/* --- what the tests share --- */

static gboolean
cancel_later (gpointer data, GError **error)
{
  BelayScope *scope = data;

  belay_sleep (10, NULL);
  belay_scope_cancel (scope, "enough");
  return TRUE;
}

static gboolean
sleep_here (gpointer data, GError **error)
{
  thing_note ("began");
  return belay_sleep (GPOINTER_TO_INT (data), error);
}

/* Runs a function in a fiber of a scope that is cancelled after 10 ms, and gives the scope's error. */
static GError *
outcome_when_cancelled (BelayFunc func, gpointer data)
{
  GError *failure = NULL;
  BelayScope *scope = belay_scope_new ();
  BelayFuture *cancelling = belay_spawn (cancel_later, scope);

  g_assert_true (belay_scope_spawn (scope, func, data, NULL));
  g_assert_true (belay_await_ok (cancelling, NULL));
  belay_scope_close (&scope, &failure);
  return failure;
}

/* --- rule 1: reasons --- */

static gboolean
leave_well (gpointer data, GError **error)
{
  belay_auto (Thing) guard = thing_new ("true");

  return guard != NULL;
}

static gboolean
leave_badly (gpointer data, GError **error)
{
  belay_auto (Thing) guard = thing_new ("false");

  return guard == NULL || fail_func ("badly", error);
}

static gboolean
leave_interrupted (gpointer data, GError **error)
{
  belay_auto (Thing) guard = thing_new ("interrupted");

  return guard != NULL && belay_sleep (1000, error);
}

/* Interrupted, and it has not seen it. */
static gboolean
leave_unaware (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (Thing) guard = thing_new ("unaware");

  belay_scope_cancel (scope, "enough");
  return guard != NULL;
}

static gboolean
fiber_owns (gpointer data, GError **error)
{
  belay_scope_adopt (belay_scope_current (), thing_new (data != NULL ? "failed" : "returned"), NULL);
  return data == NULL || fail_func (data, error);
}

static gboolean
test_rule_1 (gpointer data, GError **error)
{
  g_autoptr (GError) badly = thing_outcome (leave_badly, NULL), interrupted = NULL, failed = NULL;
  Thing *closed = thing_new ("closed"), *committed = thing_new ("committed");

  g_assert_nonnull (badly);
  g_assert_true (leave_well (NULL, error)); /* a clean-up cannot tell TRUE from FALSE */
  g_assert_cmpstr (thing_reasons (), ==, "false:left true:left");
  thing_clear_log ();
  interrupted = outcome_when_cancelled (leave_interrupted, NULL);
  {
    belay_auto (BelayTimeout) limit = belay_timeout (5);

    g_assert_true (limit != NULL);
    g_assert_false (leave_interrupted (NULL, NULL));
  }
  g_assert_true (leave_unaware (NULL, error));
  g_assert_cmpstr (thing_reasons (), ==, "interrupted:cancelled interrupted:deadline unaware:left");
  thing_clear_log ();

  /* OK exists only where it was said */
  g_assert_true (belay_close (&closed, error));
  g_assert_true (belay_commit (&committed, error));
  BELAY_WITH (Thing, block, thing_open ("block"), error)
    g_assert_nonnull (block);
  else
    g_assert_not_reached ();
  g_assert_true (belay_await_ok (belay_spawn (fiber_owns, NULL), error));
  failed = thing_outcome (fiber_owns, "no");
  g_assert_cmpstr (thing_reasons (), ==, "closed:ok committed:ok block:ok returned:ok failed:error");
  return TRUE;
}

/* --- rule 4: starting --- */

static gpointer
open_here (gpointer data, GError **error)
{
  thing_note ("began");
  return thing_new ("opened");
}

static gboolean
manage (BelayManager *manager, gpointer data, GError **error)
{
  thing_note ("began");
  return belay_manager_yield (manager, NULL, error);
}

static gboolean
start_child (BelayStarting *starting, gpointer data, GError **error)
{
  thing_note ("began");
  return belay_started (starting, NULL, NULL);
}

static gboolean
work (gpointer data, GError **error)
{
  thing_note ("began");
  return TRUE;
}

static gpointer
work_value (gpointer data, GError **error)
{
  thing_note ("began");
  return "value";
}

/* Nothing starts in what is cancelled or out of time, whatever it is and wherever it would run. */
static void
start_all (int code)
{
  BelayScope *free_scope = belay_scope_new ();
  BelayFuture *futures[] = {
    belay_spawn (sleep_here, NULL),
    belay_spawn_value (work_value, NULL, NULL),
    belay_open (open_here, NULL),
    belay_manager_open (manage, NULL),
    belay_scope_start (free_scope, start_child, NULL, NULL), /* the caller's scope, though the other is well */
    belay_thread_run (work, NULL),
    belay_thread_run_value (work_value, NULL, NULL),
    belay_file_read_bytes ("/dev/null"),
    belay_file_create ("/nowhere/at-all"),
  };

  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    {
      g_assert_true (belay_future_is_rejected (futures[i]));
      g_assert_error (belay_future_get_error (futures[i]), G_IO_ERROR, code);
      belay_future_unref (futures[i]);
    }
  belay_scope_close (&free_scope, NULL);
}

static gboolean
test_rule_4 (gpointer data, GError **error)
{
  {
    belay_auto (BelayScope) scope = belay_scope_begin ();

    belay_scope_cancel (scope, "enough");
    start_all (G_IO_ERROR_CANCELLED);
    belay_scope_close (&scope, NULL);
  }
  {
    belay_auto (BelayTimeout) past = belay_timeout (0);

    g_assert_nonnull (past);
    start_all (G_IO_ERROR_TIMED_OUT);
  }
  g_assert_true (belay_sleep (10, error));
  assert_log ("");
  return TRUE;
}

/* Scopes interrupt awaits, not work: a wait obeys those where it is called. */
static gboolean
test_rule_4_awaits (gpointer data, GError **error)
{
  g_autoptr (BelayFuture) future = belay_spawn (sleep_here, GINT_TO_POINTER (50));
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();
  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);

    g_assert_nonnull (limit);
    g_assert_false (belay_await_ok (belay_future_ref (future), &failure));
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  }
  g_assert_true (belay_await_ok (belay_future_ref (future), error)); /* it has gone on */
  g_assert_cmpint (now_ms () - begin, ==, 50);
  assert_log ("began");
  return TRUE;
}

/* --- rule 5: does a cancelled await wait? --- */

static gboolean
resolve_at_50 (gpointer data, GError **error)
{
  BelayPromise *promise = data;

  belay_sleep (50, NULL);
  belay_promise_resolve_resource (promise, thing_new ("late"));
  belay_promise_unref (promise);
  return TRUE;
}

static gboolean
test_rule_5 (gpointer data, GError **error)
{
  for (guint borrowing = 0; borrowing < 2; borrowing++)
    {
      BelayPromise *promise = belay_promise_new ();
      BelayFuture *future = belay_promise_get_future (promise), *end;
      g_autoptr (GError) failure = NULL;
      gint64 begin = now_ms ();

      if (borrowing)
        belay_promise_set_borrowing (promise);
      end = belay_spawn (resolve_at_50, promise);
      {
        belay_auto (BelayTimeout) limit = belay_timeout (10);
        belay_auto (Thing) thing = belay_await (future, &failure);

        /* what borrows is seen to its end, and then it has happened; what owns is left to the library */
        g_assert_true (limit != NULL && (thing != NULL) == borrowing);
        g_assert_cmpint (now_ms () - begin, ==, borrowing ? 50 : 10);
      }
      if (!borrowing)
        g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_assert_true (belay_await_ok (end, error));
      g_assert_true (belay_sleep (1, error));
      assert_log ("+late -late"); /* either way it is released */
    }
  return TRUE;
}

static gpointer
open_stubbornly (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  belay_sleep (50, NULL);
  return shield != NULL ? thing_new_slow ("late", 10) : NULL;
}

/* What was left, since it borrows nothing, is counted as pending until it is released. */
static gboolean
test_rule_5_pending (gpointer data, GError **error)
{
  guint usual = belay_get_n_pending (); /* the program's main fiber */
  gint64 begin = now_ms ();
  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);

    g_assert_nonnull (limit);
    g_assert_null (belay_await (belay_open_owned (open_stubbornly, g_strdup ("its own"), g_free), NULL));
  }
  g_assert_cmpint (now_ms () - begin, ==, 10);
  g_assert_cmpuint (belay_get_n_pending (), >, usual);
  while (belay_get_n_pending () > usual)
    if (!belay_sleep (1, error))
      return FALSE;
  assert_log ("+late -late late.");
  return TRUE;
}

/* What was refused for the time that is up, and what was made of it, says nothing that its await does not say. */
static gboolean
test_rule_4_told_once (gpointer data, GError **error)
{
  g_autoptr (BelayEvent) event = belay_event_new ();

  for (int i = 0; i < 3; i++)
    {
      belay_auto (BelayTimeout) limit = belay_timeout (1);
      g_autoptr (GError) late = NULL;
      g_autoptr (GError) failure = NULL;

      g_assert_false (belay_sleep (10, &late));
      BelayFuture *first = belay_event_wait_async (event), *second = belay_event_wait_async (event);

      g_assert_false (belay_await_ok (i == 0 ? belay_future_all (first, second, NULL) : i == 1 ? belay_future_any (first, second, NULL)
                                                                                      : belay_future_race (first, second, NULL), &failure));
      g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    }
  assert_sunk ("");
  return TRUE;
}

static gboolean
slow_to_stop (gpointer data, GError **error)
{
  belay_auto (Thing) guard = thing_new_slow (data, 30);

  return guard != NULL && belay_sleep (1000, error);
}

/* Fibers that lose are joined. */
static gboolean
test_rule_5_fibers (gpointer data, GError **error)
{
  gint64 begin = now_ms ();

  g_assert_true (belay_await_ok (belay_future_race (belay_spawn (slow_to_stop, "a"), belay_spawn (slow_to_stop, "b"),
                                                    belay_future_delay (10), NULL), error));
  g_assert_cmpint (now_ms () - begin, ==, 40);
  g_assert_cmpint (thing_count.freed, ==, 2);
  return TRUE;
}

/* --- rule 6: deadlines --- */

static gboolean
retry (gpointer data, GError **error)
{
  guint *n_tries = data;

  for (;;)
    {
      belay_auto (BelayTimeout) limit = belay_timeout (10);

      if (belay_sleep (1000, error))
        return TRUE;
      ++*n_tries;
      g_assert_true (g_error_matches (*error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT));
      if (!belay_timeout_expired (limit))
        return FALSE; /* it is not ours to try again */
      g_clear_error (error);
    }
}

static gboolean
test_rule_6 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  gint64 begin = now_ms ();
  guint n_tries = 0;
  belay_auto (BelayTimeout) outer = belay_timeout (35);

  g_assert_false (retry (&n_tries, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_nonnull (strstr (failure->message, "test-rules.c:")); /* with the site */
  g_assert_cmpint (now_ms () - begin, ==, 35);
  g_assert_cmpuint (n_tries, ==, 4);
  g_assert_true (belay_timeout_expired (outer));
  g_assert_false (belay_sleep (1, NULL)); /* and goes on failing */
  return TRUE;
}

/* --- rule 7: what counts as cancelled --- */

static gboolean
never_looks (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  return shield != NULL && belay_sleep (50, error);
}

static gboolean
looks_and_succeeds (gpointer data, GError **error)
{
  g_assert_false (belay_sleep (1000, NULL));
  return TRUE;
}

static gboolean
looks_and_fails (gpointer data, GError **error)
{
  g_assert_false (belay_sleep (1000, NULL));
  return fail_func (data, error);
}

static gboolean
late_and_fails (gpointer data, GError **error)
{
  belay_scope_set_timeout (belay_scope_current (), 10);
  return looks_and_fails (data, error);
}

static gboolean
test_rule_7 (gpointer data, GError **error)
{
  g_autoptr (GError) unaware = outcome_when_cancelled (never_looks, NULL);
  g_autoptr (GError) aware = outcome_when_cancelled (looks_and_succeeds, NULL);
  g_autoptr (GError) failed = outcome_when_cancelled (looks_and_fails, "in the clean-up");
  g_autoptr (GError) late = thing_outcome (late_and_fails, "its own");

  g_assert_no_error (unaware); /* TRUE without having observed it is success */
  g_assert_error (aware, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_error (failed, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_nonnull (strstr (failed->message, "and 1 more")); /* the rest is attached */
  g_assert_true (g_str_has_prefix (late->message, "its own")); /* a deadline is milder: it is what is attached */
  g_free (thing_take_sunk ());
  return TRUE;
}

/* --- rule 8: close and commit in a cancelled scope --- */

static gboolean
close_and_commit (gpointer data, GError **error)
{
  g_autoptr (GError) refused = NULL;
  Thing *closed = thing_new_slow ("closed", 5), *committed = thing_new ("committed"), *begun = thing_new ("begun");

  begun->commit_ms = 20;
  g_assert_true (belay_commit (&begun, error)); /* it had begun when the cancellation came, and is not cut off */
  g_assert_null (begun);
  g_assert_false (belay_sleep (1, NULL));
  g_assert_true (belay_close (&closed, error)); /* it does not say what is pending */
  g_assert_null (closed);
  g_assert_false (belay_commit (&committed, &refused));
  g_assert_error (refused, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_null (committed);
  assert_log ("+closed +committed +begun begun=commit -begun -closed closed. -committed");
  return TRUE;
}

static gboolean
test_rule_8 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = outcome_when_cancelled (close_and_commit, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return TRUE;
}

/* --- rule 9: lexical and stored scopes --- */

static gboolean
test_rule_9 (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL, late = NULL;
  BelayScope *stored = belay_scope_new ();
  BelayFuture *cancelling = belay_spawn (cancel_later, stored);
  gint64 begin = now_ms ();

  /* it does not interrupt a body that has it, only what is entered and spawned in it */
  g_assert_true (belay_scope_spawn (stored, sleep_here, GINT_TO_POINTER (1000), NULL));
  g_assert_null (belay_enter (stored, thing_open_in ("a", 100), &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (failure->message, ==, "enough");
  g_assert_cmpint (now_ms () - begin, ==, 10);
  g_assert_true (belay_checkpoint (error));
  g_assert_true (belay_sleep (10, error));
  g_assert_true (belay_await_ok (cancelling, error));
  g_clear_error (&failure);
  g_assert_null (belay_enter (stored, thing_open_in ("b", 100), &failure)); /* nor is anything begun in it */
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (now_ms () - begin, ==, 20);
  belay_scope_close (&stored, NULL);

  /* so does its time */
  stored = belay_scope_new ();
  belay_scope_set_timeout (stored, 10);
  g_assert_null (belay_enter (stored, thing_open_in ("c", 100), &late));
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_true (belay_checkpoint (error));
  g_assert_true (belay_scope_close (&stored, error));
  assert_log ("began");
  return TRUE;
}

static gboolean
set_time (gpointer data, GError **error)
{
  belay_sleep (10, NULL);
  belay_scope_set_timeout (data, 10);
  return TRUE;
}

/* Its deadline is set while somebody waits to enter. */
static gboolean
test_rule_9_deadline (gpointer data, GError **error)
{
  g_autoptr (GError) late = NULL;
  BelayScope *stored = belay_scope_new ();
  BelayFuture *setting = belay_spawn (set_time, stored);
  gint64 begin = now_ms ();

  g_assert_null (belay_enter (stored, thing_open_in ("a", 1000), &late));
  g_assert_error (late, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (now_ms () - begin, ==, 20);
  g_assert_true (belay_await_ok (setting, error));
  return belay_scope_close (&stored, error);
}

/* --- rule 10: callback code --- */

typedef struct
{
  BelayScope *scope; /* where it opens things */
  gboolean    called;
} Callback;

static gboolean
open_in_callback (BelayFuture *done, gpointer data, GError **error)
{
  Callback *callback = data;
  Thing *first = thing_new_slow ("first", 20), *second = thing_new ("second");

  callback->called = TRUE;
  g_assert_false (belay_in_fiber ());
  belay_scope_adopt (callback->scope, thing_new ("owned"), NULL);
  belay_release (&second); /* scheduled, newest first as guards are */
  belay_release (&first);
  return TRUE;
}

static gboolean
test_rule_10 (gpointer data, GError **error)
{
  BelayScope *owner = belay_scope_new (), *ended = belay_scope_new ();
  g_autoptr (BelayScope) gone = belay_scope_ref (ended);
  Callback callback = { owner }, into_ended = { gone };
  BelayPromise *promise = belay_promise_new ();
  guint usual = belay_get_n_pending ();

  /* from the run queue, never inside of a resolve */
  belay_scope_then (owner, belay_promise_get_future (promise), open_in_callback, &callback);
  g_assert_true (belay_promise_resolve (promise));
  g_assert_false (callback.called);
  belay_promise_unref (promise);
  g_assert_true (belay_sleep (50, error));
  g_assert_true (callback.called);
  assert_log ("+first +second +owned -second -first first.");

  /* what is opened in a scope that has ended is the detached set's: released, and waited for at the end */
  g_assert_true (belay_scope_close (&ended, error));
  belay_scope_then (owner, belay_future_new_done (), open_in_callback, &into_ended);
  while (!into_ended.called)
    g_assert_true (belay_yield (error));
  g_assert_cmpuint (belay_get_n_pending (), >, usual);
  while (belay_get_n_pending () > usual)
    if (!belay_sleep (1, error))
      return FALSE;
  g_assert_nonnull (strstr (thing_log (), "-owned"));
  thing_clear_log ();
  g_assert_true (belay_scope_close (&owner, error));
  assert_log ("-owned");
  return TRUE;
}

/* --- rule 14: memory --- */

/* Counts what is allocated while it is told to, by this thread. The C library's functions do the work. */
static __thread gboolean counting;
static guint n_allocated;

#if !SANITIZED
static gpointer (*real_malloc) (gsize);
static gpointer (*real_realloc) (gpointer, gsize);

void *
malloc (size_t size)
{
  if (real_malloc == NULL)
    real_malloc = (gpointer (*) (gsize)) dlsym (RTLD_NEXT, "malloc");
  n_allocated += counting;
  return real_malloc (size);
}

void *
realloc (void *memory, size_t size)
{
  if (real_realloc == NULL)
    real_realloc = (gpointer (*) (gpointer, gsize)) dlsym (RTLD_NEXT, "realloc");
  n_allocated += counting;
  return real_realloc (memory, size);
}
#endif

static gboolean
produce (gpointer data, GError **error)
{
  BelayPromise *promise = data;
  Thing *thing;

  belay_sleep (5, NULL);
  thing = thing_new ("a");
  counting = TRUE; /* here it exists */
  belay_promise_resolve_resource (promise, thing);
  counting = FALSE;
  belay_promise_unref (promise);
  return TRUE;
}

/* From the instant at which a resource is there to that at which its release is registered nothing is allocated. */
static gboolean
test_rule_14 (gpointer data, GError **error)
{
  n_allocated = 0;
  for (guint way = 0; way < 6; way++)
    {
      belay_auto (BelayScope) scope = way % 2 == 0 ? belay_scope_begin () : belay_scope_new ();
      BelayPromise *promise = belay_promise_new ();
      BelayFuture *future = belay_promise_get_future (promise), *producer = NULL;
      belay_auto (Thing) guard = NULL;

      if (way < 4)
        {
          producer = belay_spawn (produce, promise);
          if (way >= 2)
            guard = belay_await (future, error);
          else
            g_assert_nonnull (belay_enter (scope, future, error));
        }
      else
        {
          belay_promise_resolve_resource (promise, thing_new ("a")); /* it is there before it is asked for */
          belay_promise_unref (promise);
          counting = TRUE;
          guard = belay_await (future, error);
          counting = FALSE;
        }
      g_assert_true (producer == NULL || belay_await_ok (producer, error));
      g_assert_true (belay_close (&guard, error));
      g_assert_true (belay_scope_close (&scope, error));
    }
  g_assert_cmpuint (n_allocated, ==, 0);
  counting = TRUE;
  g_free (g_strdup ("this counts"));
  counting = FALSE;
  g_assert_true (test_is_watched () || n_allocated == 1);
  return TRUE;
}

/* --- laws across the concepts --- */

static gboolean
ask_shield (gpointer data, GError **error)
{
  {
    belay_auto (BelayShield) shield = belay_shield ();

    g_assert_cmpint (belay_shield_get_pending (shield), ==, BELAY_REASON_OK);
    g_assert_true (belay_sleep (50, error)); /* cancelled at 10 */
    g_assert_cmpint (belay_shield_get_pending (shield), ==, BELAY_REASON_CANCELLED);
    {
      belay_auto (BelayShield) inner = belay_shield ();

      g_assert_cmpint (belay_shield_get_pending (inner), ==, BELAY_REASON_OK); /* the outer one hides it */
    }
    g_assert_true (belay_checkpoint (error));
  }
  thing_note ("left"); /* not on its boundary, but at the first checkpoint after it */
  return belay_checkpoint (error);
}

static gboolean
test_l23_query (gpointer data, GError **error)
{
  g_autoptr (GError) failure = outcome_when_cancelled (ask_shield, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  assert_log ("left");
  {
    belay_auto (BelayTimeout) limit = belay_timeout (10);
    belay_auto (BelayShield) shield = belay_shield ();

    g_assert_true (limit != NULL && belay_sleep (20, error));
    g_assert_cmpint (belay_shield_get_pending (shield), ==, BELAY_REASON_DEADLINE);
  }
  return TRUE;
}

static gboolean
note_time_left (gpointer data, GError **error)
{
  thing_note ("%s:%d", (const char *) data, (int) belay_time_left ());
  return TRUE;
}

static gboolean
note_time_twice (gpointer data, GError **error)
{
  note_time_left (data, error);
  return belay_sleep (10, error) && note_time_left (data, error);
}

/* The least of all counts, in a child too; what a shield hides does not, except a release's own bound. */
static gboolean
test_l24_time_left (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  note_time_left ("none", error);
  belay_scope_set_timeout (scope, 100);
  belay_scope_set_release_timeout (scope, 60);
  {
    belay_auto (BelayTimeout) outer = belay_timeout (50);
    belay_auto (BelayTimeout) longer = belay_timeout (500);

    g_assert_true (outer != NULL && longer != NULL && belay_sleep (10, error));
    note_time_left ("inside", error);
    {
      belay_auto (BelayShield) shield = belay_shield ();
      belay_auto (BelayTimeout) own = belay_timeout (70);

      g_assert_true (shield != NULL && own != NULL);
      note_time_left ("shielded", error);
    }
  }
  g_assert_true (belay_await_ok (belay_spawn (note_time_left, "child"), error));
  belay_scope_defer (scope, note_time_twice, "release");
  g_assert_true (belay_scope_close (&scope, error));
  note_time_left ("after", error);
  assert_log ("none:-1 inside:40 shielded:70 child:90 release:60 release:50 after:-1");
  return TRUE;
}

static gpointer
open_in (gpointer data, GError **error)
{
  return belay_sleep (GPOINTER_TO_INT (data), error) ? thing_new_slow (GPOINTER_TO_INT (data) < 15 ? "first" : "second", 5) : NULL;
}

/* Frees a value that nobody took. */
static void
release_loser (gpointer data)
{
  belay_release (&data);
}

static gpointer
open_though_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  return shield != NULL && belay_sleep (30, error) ? thing_new ("loser") : NULL;
}

static gpointer
fails_in (gpointer data, GError **error)
{
  if (belay_sleep (5, error))
    fail_func (data, error);
  return NULL;
}

/* The winner's value; the loser that made one, too, has it released; who fails before counts in `any` only when all do. */
static gboolean
test_l30_race (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  g_autofree char *said = NULL;
  gint64 begin = now_ms ();
  Thing *winner = belay_await (belay_future_race (belay_spawn_value (open_in, GINT_TO_POINTER (10), release_loser),
                                                  belay_spawn_value (open_though_cancelled, NULL, release_loser),
                                                  NULL), error);

  g_assert_cmpstr (winner->name, ==, "first");
  g_assert_cmpint (now_ms () - begin, ==, 30); /* the loser was awaited */
  g_assert_true (belay_sleep (1, error));
  assert_log ("+first +loser -loser");
  g_assert_true (belay_close (&winner, error));
  thing_clear_log ();

  g_assert_null (belay_await (belay_future_any (belay_spawn_value (fails_in, "one", NULL), belay_spawn_value (fails_in, "two", NULL),
                                                NULL), &failure));
  /* all fail: all are reported, one on top and the other attached to it or in the sink */
  said = belay_attached_errors () != NULL ? g_strdup (belay_errors_get (belay_attached_errors (), 0)->message) : thing_take_sunk ();
  g_assert_true (g_str_has_prefix (failure->message, "one") || g_str_has_prefix (failure->message, "two"));
  g_assert_true (g_str_has_prefix (said, "one") || g_str_has_prefix (said, "two"));
  g_assert_cmpstr (failure->message, !=, said);
  g_free (thing_take_sunk ());
  return TRUE;
}

static gboolean
race_that_is_cancelled (gpointer data, GError **error)
{
  return belay_await_ok (belay_future_race (belay_spawn (slow_to_stop, "a"), belay_spawn (slow_to_stop, "b"), NULL), error);
}

static gboolean
test_l30_cancelled (gpointer data, GError **error)
{
  gint64 begin = now_ms ();
  g_autoptr (GError) failure = outcome_when_cancelled (race_that_is_cancelled, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpint (now_ms () - begin, ==, 40); /* it cancels all, and they have cleaned up */
  g_assert_cmpint (thing_count.freed, ==, 2);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/rules/rule-1-reasons", test_rule_1);
  thing_add_test ("/rules/rule-4-L20-nothing-starts-when-interrupted", test_rule_4);
  thing_add_test ("/rules/rule-4-L9-what-was-refused-is-told-once", test_rule_4_told_once);
  thing_add_test ("/rules/rule-4-awaits-obey-where-they-are", test_rule_4_awaits);
  thing_add_test ("/rules/rule-5-L21-borrowing-and-owning", test_rule_5);
  thing_add_test ("/rules/rule-5-L15-what-was-left-is-pending", test_rule_5_pending);
  thing_add_test ("/rules/rule-5-L22-fibers-are-joined", test_rule_5_fibers);
  thing_add_test ("/rules/rule-6-deadlines", test_rule_6);
  thing_add_test ("/rules/rule-7-what-counts-as-cancelled", test_rule_7);
  thing_add_test ("/rules/rule-8-close-and-commit-when-cancelled", test_rule_8);
  thing_add_test ("/rules/rule-9-stored-scope-interrupts-what-is-its-own", test_rule_9);
  thing_add_test ("/rules/rule-9-stored-scopes-deadline", test_rule_9_deadline);
  thing_add_test ("/rules/rule-10-callback-code", test_rule_10);
  thing_add_test ("/rules/rule-14-L4-nothing-is-allocated-in-between", test_rule_14);
  thing_add_test ("/rules/L23-cancelled-but-shielded", test_l23_query);
  thing_add_test ("/rules/L24-time-left", test_l24_time_left);
  thing_add_test ("/rules/L30-loser-that-has-a-value", test_l30_race);
  thing_add_test ("/rules/L30-cancel-of-the-race-cancels-all", test_l30_cancelled);
  return g_test_run ();
}
