/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Combinators and continuations: then, catch, finally, all, all_settled, any, race, with_timeout, delay.
 *
 * A *source* is a future that a test answers when it likes; it counts how often its work was asked to end. The clock is
 * the virtual one, so that times are exact and nothing is slept; the bodies are fibers, since those run the queue.
 */
#include "thing.h"

static int destroyed;
static int sunk;
static int called;

static void
count_destroy (gpointer data)
{
  destroyed++;
}

static void
count_sink (const GError *error, const char *what, const char *site, gpointer data)
{
  g_atomic_int_inc (&sunk);
}

static void
set_up (void)
{
  destroyed = sunk = called = 0;
  belay_set_sink (count_sink, NULL);
}

/* --- sources --- */

typedef struct
{
  BelayPromise *promise;
  BelayFuture  *future;
  int           asked;
} Source;

static void
source_asked (gpointer data)
{
  ((Source *) data)->asked++;
}

static void
source_init (Source *self)
{
  self->asked = 0;
  self->promise = belay_promise_new ();
  belay_promise_on_cancel (self->promise, source_asked, self, NULL);
  self->future = belay_promise_get_future (self->promise);
}

static void
source_clear (Source *self)
{
  g_clear_pointer (&self->promise, belay_promise_unref);
}

static void
source_fail (Source *self, const char *message)
{
  belay_promise_reject (self->promise, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, message));
}

/* Lets everything run that can: only then time passes. */
static void
settle_down (void)
{
  g_assert_true (belay_sleep (1, NULL));
}

static void
assert_rejected (BelayFuture *future, GQuark domain, int code, const char *message)
{
  g_assert_true (belay_future_is_rejected (future));
  g_assert_error (belay_future_get_error (future), domain, code);
  if (message != NULL)
    g_assert_cmpstr (belay_future_get_error (future)->message, ==, message);
}

/* --- then, catch, finally --- */

static BelayFuture *
plus_one (BelayFuture *done, gpointer data)
{
  gint64 value = 0;

  called++;
  g_assert_false (belay_future_is_pending (done));
  g_assert_true (belay_future_take_int64 (done, &value, NULL));
  return belay_future_new_int64 (value + 1);
}

static void
count_call (gpointer data)
{
  called++;
}

static BelayFuture *
just_count (BelayFuture *done, gpointer data)
{
  called++;
  g_assert_false (belay_future_is_pending (done));
  return NULL;
}

static BelayFuture *
give_data (BelayFuture *done, gpointer data)
{
  called++;
  return data;
}

static gboolean
then_continues (gpointer data, GError **error)
{
  Source source;
  BelayFuture *result;
  gint64 value = 0;
  int thing;

  set_up ();
  source_init (&source);
  result = belay_future_then (source.future, plus_one, &thing, count_destroy);
  settle_down ();
  g_assert_cmpint (called, ==, 0);
  g_assert_true (belay_future_is_pending (result));
  g_assert_true (belay_promise_resolve_int64 (source.promise, 41));
  g_assert_cmpint (called, ==, 0); /* never inside of the call that resolves */
  g_assert_true (belay_await_int64 (result, &value, error));
  g_assert_cmpint (value, ==, 42);
  g_assert_cmpint (called, ==, 1);
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_cmpint (source.asked, ==, 0);
  source_clear (&source);

  /* nor when it is known already */
  result = belay_future_then (belay_future_new_int64 (1), plus_one, &thing, count_destroy);
  g_assert_cmpint (called, ==, 1);
  g_assert_true (belay_await_int64 (result, &value, error));
  g_assert_cmpint (value, ==, 2);
  g_assert_cmpint (called, ==, 2);
  g_assert_cmpint (destroyed, ==, 2);
  return TRUE;
}

static gboolean
passed_on (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 value;
  int thing;

  set_up ();
  /* a failure passes a then */
  g_assert_false (belay_await_ok (belay_future_then (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"), plus_one,
                                                     &thing, count_destroy), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  g_assert_cmpint (called, ==, 0);
  g_assert_cmpint (destroyed, ==, 1);

  /* a success passes a catch */
  g_assert_true (belay_await_int64 (belay_future_catch (belay_future_new_int64 (7), just_count, &thing, count_destroy),
                                    &value, error));
  g_assert_cmpint (value, ==, 7);
  g_assert_cmpint (called, ==, 0);
  g_assert_cmpint (destroyed, ==, 2);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gboolean
catch_recovers (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 value;

  set_up ();
  g_assert_true (belay_await_int64 (belay_future_catch (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"), give_data,
                                                        belay_future_new_int64 (5), NULL), &value, error));
  g_assert_cmpint (value, ==, 5);
  /* NULL is the outcome of done */
  g_assert_false (belay_await_ok (belay_future_catch (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"), just_count,
                                                      NULL, NULL), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  g_assert_cmpint (called, ==, 2);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gboolean
finally_either_way (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 value = 0;

  set_up ();
  /* its own value does not matter */
  g_assert_true (belay_await_int64 (belay_future_finally (belay_future_new_int64 (1), give_data, belay_future_new_int64 (2),
                                                          NULL), &value, error));
  g_assert_cmpint (value, ==, 1);
  g_assert_false (belay_await_ok (belay_future_finally (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "first"),
                                                        give_data, belay_future_new_done (), NULL), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  /* its own failure does */
  g_assert_false (belay_await_ok (belay_future_finally (belay_future_new_int64 (1), give_data,
                                                        belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_EXISTS, "own"), NULL),
                                  &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_clear_error (&local);
  g_assert_true (belay_await_int64 (belay_future_finally (belay_future_new_int64 (3), just_count, NULL, NULL), &value, error));
  g_assert_cmpint (value, ==, 3);
  g_assert_cmpint (called, ==, 4);
  return TRUE;
}

/* Every kind of value goes through a continuation that returns NULL; what is taken once is still taken once. */
static gboolean
values_pass (gpointer data, GError **error)
{
  BelayFuture *future;
  double d = 0;
  int thing;

  set_up ();
  g_assert_true (belay_await_ok (belay_future_then (belay_future_new_done (), just_count, NULL, NULL), error));
  g_assert_true (belay_await_double (belay_future_then (belay_future_new_double (0.25), just_count, NULL, NULL), &d, error));
  g_assert_cmpfloat (d, ==, 0.25);
  g_assert_true (belay_await (belay_future_then (belay_future_new_pointer (&thing, count_destroy), just_count, NULL, NULL),
                              error) == &thing);
  g_assert_cmpint (destroyed, ==, 0);
  belay_future_unref (belay_future_then (belay_future_new_pointer (&thing, count_destroy), just_count, NULL, NULL));
  settle_down ();
  g_assert_cmpint (destroyed, ==, 1);
  {
    g_autoptr (GObject) object = g_object_new (G_TYPE_OBJECT, NULL);
    g_autoptr (GObject) same = NULL;
    same = belay_await (belay_future_then (belay_future_new_object (object), just_count, NULL, NULL), error);
    g_assert_true (same == object);
  }
  {
    g_autofree char *string = belay_await (belay_future_then (belay_future_new_boxed (G_TYPE_STRV, (char *[]) { "a", NULL }),
                                                              just_count, NULL, NULL), error);
    g_assert_nonnull (string);
    g_free (*(char **) string);
  }

  /* another holder keeps what the continuation did not take */
  future = belay_future_new_pointer (&thing, count_destroy);
  g_assert_true (belay_future_take (future, NULL) == &thing);
  {
    g_autoptr (GError) local = NULL;
    g_assert_null (belay_await (belay_future_then (future, just_count, NULL, NULL), &local));
    g_assert_error (local, BELAY_ERROR, BELAY_ERROR_TAKEN);
  }
  g_assert_cmpint (destroyed, ==, 1);
  return TRUE;
}

static BelayFuture *
append_letter (BelayFuture *done, gpointer data)
{
  static GString *order;

  if (data == NULL)
    {
      g_assert_cmpstr (order->str, ==, "abcde");
      g_string_free (g_steal_pointer (&order), TRUE);
    }
  else
    {
      if (order == NULL)
        order = g_string_new (NULL);
      g_string_append (order, data);
    }
  return NULL;
}

static gboolean
in_order (gpointer data, GError **error)
{
  const char *letters[] = { "a", "b", "c", "d", "e", NULL };
  BelayFuture *results[6];
  Source source;

  source_init (&source);
  for (int i = 0; i < 6; i++)
    results[i] = belay_future_then (belay_future_ref (source.future), append_letter, (gpointer) letters[i], NULL);
  g_assert_true (belay_promise_resolve (source.promise));
  for (int i = 0; i < 6; i++)
    g_assert_true (belay_await_ok (results[i], error));
  belay_future_unref (source.future);
  source_clear (&source);
  return TRUE;
}

/* Dropping the result before the source is known drops the source: the function is not called, the data is freed. */
static gboolean
dropped_while_waiting (gpointer data, GError **error)
{
  Source source;
  int thing;

  for (int kind = 0; kind < 2; kind++)
    {
      set_up ();
      source_init (&source);
      belay_future_unref ((kind == 0 ? belay_future_then : belay_future_catch)
                            (source.future, just_count, &thing, count_destroy));
      g_assert_cmpint (source.asked, ==, 1);
      g_assert_cmpint (destroyed, ==, 1);
      if (kind == 1)
        source_fail (&source, "late");
      else
        g_assert_true (belay_promise_resolve_pointer (source.promise, &thing, count_destroy));
      source_clear (&source);
      settle_down ();
      g_assert_cmpint (called, ==, 0);
      g_assert_cmpint (destroyed, ==, kind == 1 ? 1 : 2); /* a value that came all the same is released */
      g_assert_cmpint (sunk, ==, kind == 1 ? 1 : 0);
    }
  return TRUE;
}

/* Clean-up is not left out because nobody waits any more. */
static BelayFuture *
clean_up (BelayFuture *done, gpointer data)
{
  called++;
  if (data != NULL)
    g_assert_error (belay_future_get_error (done), G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return belay_future_delay (5);
}

static gboolean
finally_always (gpointer data, GError **error)
{
  int thing;

  for (int way = 0; way < 6; way++)
    {
      gint64 begin = belay_now ();
      GError *local = NULL;
      BelayFuture *result;
      Source source;

      set_up ();
      source_init (&source);
      result = belay_future_finally (source.future, clean_up, way == 0 || way == 3 ? &thing : NULL, count_destroy);
      switch (way)
        {
        case 0: /* dropped while it waits */
          belay_future_unref (result);
          g_assert_cmpint (source.asked, ==, 1);
          g_assert_cmpint (called, ==, 0);
          break;
        case 1: /* while it is queued */
          g_assert_true (belay_promise_resolve (source.promise));
          belay_future_unref (result);
          break;
        case 2: /* while the clean-up goes on */
          source_fail (&source, "no");
          settle_down ();
          g_assert_cmpint (called, ==, 1);
          belay_future_unref (result);
          break;
        case 3: /* the wait is cancelled: it ends after the clean-up */
        case 4:
          if (way == 4)
            g_assert_true (belay_promise_resolve (source.promise));
          {
            belay_auto (BelayTimeout) timeout = belay_timeout (way == 3 ? 10 : 1);
            g_assert_true (belay_await_ok (result, &local) == (way == 4));
          }
          g_assert_cmpint (belay_now (), ==, begin + (way == 3 ? 15 : 5) * 1000);
          g_assert_cmpint (source.asked, ==, way == 3);
          g_clear_error (&local);
          break;
        case 5: /* it loses */
          g_assert_false (belay_await_ok (belay_future_with_timeout (result, 10), &local));
          g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
          g_clear_error (&local);
          g_assert_cmpint (belay_now (), ==, begin + 15 * 1000);
          break;
        }
      settle_down ();
      g_assert_cmpint (called, ==, 1);
      g_assert_cmpint (destroyed, ==, 1);
      source_clear (&source);
      g_assert_true (belay_sleep (10, error));
      g_assert_cmpint (called, ==, 1);
      g_assert_cmpint (sunk, ==, way == 2); /* dropped before it could be passed on */
    }
  return TRUE;
}

static BelayFuture *
look_and_give_data (BelayFuture *done, gpointer data)
{
  called++;
  g_assert_nonnull (belay_future_get_error (done));
  return data;
}

/* Of two errors: finally attaches the second; of a catch the first is the sink's, unless the function looked at it. */
static gboolean
second_failures (gpointer data, GError **error)
{
  for (int way = 0; way < 8; way++)
    {
      gboolean looks = way & 1, catches = way & 2, fails = way & 4;
      GError *local = NULL;
      BelayFuture *first = belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "first");
      BelayFuture *second = fails ? belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_EXISTS, "second") : belay_future_new_done ();
      gboolean ok;

      set_up ();
      ok = belay_await_ok ((catches ? belay_future_catch : belay_future_finally)
                             (first, looks ? look_and_give_data : give_data, second, NULL), &local);
      g_assert_true (ok == (catches && !fails));
      if (!ok)
        g_assert_cmpstr (local->message, ==, !fails ? "first" : catches ? "second" : "first (and 1 more)");
      g_assert_cmpuint (belay_errors_get_size (belay_attached_errors ()), ==, fails && !catches);
      g_clear_error (&local);
      g_assert_cmpint (sunk, ==, fails && catches && !looks);
    }
  return TRUE;
}

/* The main context goes before the continuation has run, or the time has come. */
static gboolean
do_nothing (gpointer data, GError **error)
{
  called++;
  return TRUE;
}

static void
context_gone (void)
{
  for (int way = 0; way < 9; way++)
    {
      GMainContext *context = g_main_context_new ();
      BelayPromise *promise = belay_promise_new ();
      BelayFuture *future = belay_promise_get_future (promise);
      g_autoptr (GError) error = NULL;
      int thing;

      set_up ();
      g_main_context_push_thread_default (context);
      switch (way)
        {
        case 0: case 1: future = belay_future_then (future, just_count, &thing, count_destroy); break;
        case 2: future = belay_future_catch (future, just_count, &thing, count_destroy); break;
        case 3: future = belay_future_finally (future, just_count, &thing, count_destroy); break;
        case 4: future = belay_future_with_timeout (future, 1000000); break;
        case 5: future = belay_future_race (belay_future_delay (1000000), future, NULL); break;
        case 6: future = belay_future_all (belay_spawn (do_nothing, NULL), future, NULL); break;
        case 7: future = belay_future_then (belay_future_then (future, just_count, &thing, count_destroy), just_count, NULL, NULL); break;
        case 8: belay_future_unref (belay_future_finally (future, just_count, &thing, count_destroy)); future = NULL; break;
        }
      if (way >= 4 && way <= 5)
        while (g_main_context_iteration (context, FALSE)) /* the timer is armed */
          ;
      if (way == 1)
        g_assert_true (belay_promise_resolve (promise)); /* it is queued */
      g_main_context_pop_thread_default (context);
      g_main_context_unref (context);
      if (way == 2)
        belay_promise_reject (promise, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "no"));
      else if (way < 4 || way == 7)
        belay_promise_resolve (promise);
      if (future != NULL)
        {
          g_assert_false (belay_future_wait_sync (future, &error));
          if (way == 2)
            g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
          else
            g_assert_error (error, BELAY_ERROR, BELAY_ERROR_BROKEN);
          belay_future_unref (future);
        }
      belay_promise_unref (promise);
      g_assert_cmpint (called, ==, 0);
      g_assert_cmpint (destroyed, ==, way < 4 || way > 6);
      g_assert_cmpint (sunk, ==, 0);
      g_assert_cmpuint (belay_get_n_pending (), ==, 0);
    }
}

static gboolean
dropped_while_queued (gpointer data, GError **error)
{
  Source source;
  BelayFuture *result;
  int thing;

  set_up ();
  source_init (&source);
  result = belay_future_then (source.future, just_count, &thing, count_destroy);
  g_assert_true (belay_promise_resolve_pointer (source.promise, &thing, count_destroy));
  belay_future_unref (result);
  settle_down ();
  g_assert_cmpint (called, ==, 0);
  g_assert_cmpint (destroyed, ==, 1); /* the data; the value is the promise's still */
  source_clear (&source);
  g_assert_cmpint (destroyed, ==, 2);
  g_assert_cmpint (source.asked, ==, 0);
  return TRUE;
}

static gboolean
dropped_while_adopting (gpointer data, GError **error)
{
  Source inner;
  BelayFuture *result;

  set_up ();
  source_init (&inner);
  result = belay_future_then (belay_future_new_done (), give_data, inner.future, NULL);
  settle_down ();
  g_assert_cmpint (called, ==, 1);
  g_assert_true (belay_future_is_pending (result));
  g_assert_cmpint (inner.asked, ==, 0);
  belay_future_unref (result);
  g_assert_cmpint (inner.asked, ==, 1);
  source_clear (&inner);
  g_assert_cmpint (sunk, ==, 0);

  /* and what it says goes to the result */
  source_init (&inner);
  result = belay_future_then (belay_future_new_done (), give_data, inner.future, NULL);
  settle_down ();
  g_assert_true (belay_promise_resolve_int64 (inner.promise, 9));
  {
    gint64 value;
    g_assert_true (belay_await_int64 (result, &value, error));
    g_assert_cmpint (value, ==, 9);
  }
  g_assert_cmpint (inner.asked, ==, 0);
  source_clear (&inner);
  return TRUE;
}

/* The function itself drops the result that it works for: what it returns is then dropped, too. */
static BelayFuture *dropped_inside;

static BelayFuture *
drop_result (BelayFuture *done, gpointer data)
{
  called++;
  g_clear_pointer (&dropped_inside, belay_future_unref);
  return data;
}

static gboolean
dropped_by_the_function (gpointer data, GError **error)
{
  Source inner;

  set_up ();
  source_init (&inner);
  dropped_inside = belay_future_then (belay_future_new_done (), drop_result, inner.future, NULL);
  settle_down ();
  g_assert_cmpint (called, ==, 1);
  g_assert_cmpint (inner.asked, ==, 1);
  source_clear (&inner);
  return TRUE;
}

#define LONG 100000

/* A chain of a hundred thousand, on a fiber's small stack: answered, dropped, and failed through. */
static gboolean
long_chain (gpointer data, GError **error)
{
  Source source;
  BelayFuture *future;
  gint64 value = 0;

  set_up ();
  source_init (&source);
  future = source.future;
  for (int i = 0; i < LONG; i++)
    future = belay_future_then (future, plus_one, NULL, NULL);
  g_assert_true (belay_promise_resolve_int64 (source.promise, 0));
  g_assert_true (belay_await_int64 (future, &value, error));
  g_assert_cmpint (value, ==, LONG);
  g_assert_cmpint (called, ==, LONG);
  source_clear (&source);

  called = 0;
  source_init (&source);
  future = source.future;
  for (int i = 0; i < LONG; i++)
    future = belay_future_then (future, plus_one, &called, count_destroy);
  belay_future_unref (future);
  g_assert_cmpint (source.asked, ==, 1);
  g_assert_cmpint (destroyed, ==, LONG);
  source_clear (&source);

  source_init (&source);
  future = source.future;
  for (int i = 0; i < LONG; i++)
    future = belay_future_then (future, plus_one, NULL, NULL);
  source_fail (&source, "from the far end");
  g_assert_false (belay_await_ok (future, NULL));
  source_clear (&source);
  settle_down ();
  g_assert_cmpint (called, ==, 0);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

/* Each function returns a future that continues with the next: a loop, said with continuations. */
static BelayFuture *
count_down (BelayFuture *done, gpointer data)
{
  int left = GPOINTER_TO_INT (data);

  called++;
  if (left == 0)
    return belay_future_new_int64 (called);
  return belay_future_then (belay_future_new_done (), count_down, GINT_TO_POINTER (left - 1), NULL);
}

static gboolean
long_adoption (gpointer data, GError **error)
{
  gint64 value = 0;

  set_up ();
  g_assert_true (belay_await_int64 (count_down (NULL, GINT_TO_POINTER (LONG)), &value, error));
  g_assert_cmpint (value, ==, LONG + 1);

  /* and dropped in the middle of it */
  set_up ();
  {
    BelayFuture *future = count_down (NULL, GINT_TO_POINTER (LONG));
    for (int i = 0; i < 1000; i++)
      belay_yield (NULL);
    belay_future_unref (future);
    settle_down ();
    g_assert_cmpint (called, <, LONG);
  }
  return TRUE;
}

/* --- continuations and threads --- */

typedef struct
{
  GThread    *ran_on;
  GMainLoop  *loop;
  BelayFuture *result;
} OnThread;

static BelayFuture *
note_thread (BelayFuture *done, gpointer data)
{
  OnThread *self = data;

  self->ran_on = g_thread_self ();
  g_main_loop_quit (self->loop);
  return NULL;
}

static gpointer
continue_on_own_context (gpointer data)
{
  g_autoptr (GMainContext) context = g_main_context_new ();
  g_autoptr (GMainLoop) loop = g_main_loop_new (context, FALSE);
  OnThread mine = { .loop = loop };
  BelayFuture *source = data;

  g_main_context_push_thread_default (context);
  mine.result = belay_future_then (source, note_thread, &mine, NULL);
  g_main_loop_run (loop);
  g_main_context_pop_thread_default (context);
  g_assert_true (mine.ran_on == g_thread_self ());
  g_assert_true (belay_future_check (mine.result, NULL));
  belay_future_unref (mine.result);
  return NULL;
}

static void
continuation_runs_where_it_was_registered (void)
{
  Source source;
  GThread *thread;

  source_init (&source);
  thread = g_thread_new ("continues", continue_on_own_context, source.future);
  g_usleep (2000); /* whether it is registered before or after is as good */
  g_assert_true (belay_promise_resolve (source.promise));
  source_clear (&source);
  g_thread_join (thread);
}

static gpointer
continue_on_default (gpointer data)
{
  OnThread *main_thread = data;

  main_thread->result = belay_future_then (main_thread->result, note_thread, main_thread, NULL);
  return NULL;
}

static void
plain_thread_uses_the_default_context (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  OnThread mine = { .loop = loop, .result = belay_future_new_done () };

  g_thread_join (g_thread_new ("registers", continue_on_default, &mine));
  g_assert_null (mine.ran_on);
  g_main_loop_run (loop);
  g_assert_true (mine.ran_on == g_thread_self ());
  belay_future_unref (mine.result);
}

/* --- all, all_settled, any, race --- */

static gboolean
all_of_them (gpointer data, GError **error)
{
  Source source[3];
  BelayFuture *all;
  gint64 value;

  set_up ();
  for (int i = 0; i < 3; i++)
    source_init (&source[i]);
  all = belay_future_all (source[0].future, source[1].future, source[2].future, NULL);
  g_assert_cmpuint (belay_future_get_n_members (all), ==, 0); /* not known yet */
  g_assert_null (belay_future_get_member (all, 0));
  g_assert_true (belay_promise_resolve_int64 (source[2].promise, 2));
  g_assert_true (belay_promise_resolve_int64 (source[0].promise, 0));
  g_assert_true (belay_future_is_pending (all));
  g_assert_true (belay_promise_resolve_int64 (source[1].promise, 1));
  g_assert_true (belay_await_ok (belay_future_ref (all), error));
  g_assert_cmpuint (belay_future_get_n_members (all), ==, 3);
  for (guint i = 0; i < 3; i++) /* in the order given, whatever came first */
    {
      g_assert_true (belay_future_take_int64 (belay_future_get_member (all, i), &value, error));
      g_assert_cmpint (value, ==, i);
      source_clear (&source[i]);
      g_assert_cmpint (source[i].asked, ==, 0);
    }
  g_assert_null (belay_future_get_member (all, 3));
  g_assert_null (belay_future_get_member (all, G_MAXUINT));
  belay_future_unref (all);
  return TRUE;
}

static gboolean
all_fails_fast (gpointer data, GError **error)
{
  Source source[4];
  BelayFuture *all;
  int thing;

  set_up ();
  for (int i = 0; i < 4; i++)
    source_init (&source[i]);
  all = belay_future_all (source[0].future, source[1].future, source[2].future, source[3].future, NULL);
  g_assert_true (belay_promise_resolve_pointer (source[0].promise, &thing, count_destroy));
  source_fail (&source[2], "first");
  assert_rejected (all, G_IO_ERROR, G_IO_ERROR_EXISTS, "first");
  g_assert_cmpint (source[1].asked, ==, 1);
  g_assert_cmpint (source[3].asked, ==, 1);
  g_assert_cmpint (source[0].asked + source[2].asked, ==, 0);
  source_fail (&source[1], "second"); /* nobody waits for it any more */
  g_assert_cmpint (sunk, ==, 0);
  for (int i = 0; i < 4; i++)
    source_clear (&source[i]);
  g_assert_cmpint (sunk, ==, 1);
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_cmpuint (belay_future_get_n_members (all), ==, 0);
  belay_future_unref (all);
  g_assert_cmpint (sunk, ==, 1);
  return TRUE;
}

static gboolean
all_settled_of_them (gpointer data, GError **error)
{
  Source source[3];
  BelayFuture *all;

  set_up ();
  for (int i = 0; i < 3; i++)
    source_init (&source[i]);
  all = belay_future_all_settled (source[0].future, source[1].future, source[2].future, NULL);
  source_fail (&source[1], "one");
  source_fail (&source[0], "zero");
  g_assert_true (belay_future_is_pending (all));
  g_assert_true (belay_promise_resolve (source[2].promise));
  g_assert_true (belay_await_ok (belay_future_ref (all), error));
  assert_rejected (belay_future_get_member (all, 0), G_IO_ERROR, G_IO_ERROR_EXISTS, "zero");
  assert_rejected (belay_future_get_member (all, 1), G_IO_ERROR, G_IO_ERROR_EXISTS, "one");
  g_assert_true (belay_future_check (belay_future_get_member (all, 2), error));
  belay_future_unref (all);
  for (int i = 0; i < 3; i++)
    source_clear (&source[i]);
  g_assert_cmpint (sunk, ==, 0); /* the errors are there to be read: they were delivered */
  return TRUE;
}

static gboolean
any_of_them (gpointer data, GError **error)
{
  Source source[3];
  BelayFuture *any;
  int thing;

  set_up ();
  for (int i = 0; i < 3; i++)
    source_init (&source[i]);
  any = belay_future_any (source[0].future, source[1].future, source[2].future, NULL);
  source_fail (&source[0], "zero");
  g_assert_true (belay_future_is_pending (any));
  g_assert_true (belay_promise_resolve_pointer (source[1].promise, &thing, count_destroy));
  g_assert_cmpint (source[2].asked, ==, 1);
  g_assert_true (belay_promise_resolve_pointer (source[2].promise, &thing, count_destroy)); /* too late: released */
  for (int i = 0; i < 3; i++)
    source_clear (&source[i]);
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_true (belay_await (any, error) == &thing);
  g_assert_cmpint (destroyed, ==, 1);
  g_assert_cmpint (sunk, ==, 0);

  /* all fail */
  for (int i = 0; i < 3; i++)
    source_init (&source[i]);
  any = belay_future_any (source[0].future, source[1].future, source[2].future, NULL);
  source_fail (&source[2], "two"); /* the first in time, as with `all` */
  source_fail (&source[0], "zero");
  g_assert_true (belay_future_is_pending (any));
  source_fail (&source[1], "one");
  assert_rejected (any, G_IO_ERROR, G_IO_ERROR_EXISTS, "two (and 2 more)");
  belay_future_unref (any);
  for (int i = 0; i < 3; i++)
    source_clear (&source[i]);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gboolean
race_of_them (gpointer data, GError **error)
{
  Source source[2];
  BelayFuture *race, *kept;
  int one, two;

  set_up ();
  source_init (&source[0]);
  source_init (&source[1]);
  race = belay_future_race (source[0].future, source[1].future, NULL);
  source_fail (&source[1], "was first");
  assert_rejected (race, G_IO_ERROR, G_IO_ERROR_EXISTS, "was first");
  g_assert_cmpint (source[0].asked, ==, 1);
  belay_future_unref (race);
  source_clear (&source[0]);
  source_clear (&source[1]);

  /* both are known already: the first given wins; what the other has is still there for who else holds it */
  kept = belay_future_new_pointer (&two, count_destroy);
  race = belay_future_race (belay_future_new_pointer (&one, count_destroy), belay_future_ref (kept), NULL);
  g_assert_true (belay_await (race, error) == &one);
  g_assert_true (belay_future_take (kept, NULL) == &two);
  belay_future_unref (kept);
  g_assert_cmpint (destroyed, ==, 0);
  return TRUE;
}

/* Two members are settled by one notification loop: the second has lost, and keeps its value for its other holder. */
static BelayFuture *
resolve_both (BelayFuture *done, gpointer data)
{
  Source *source = data;

  belay_promise_resolve_pointer (source[0].promise, &source[0], count_destroy);
  belay_promise_resolve_pointer (source[1].promise, &source[1], count_destroy);
  return NULL;
}

static gboolean
race_loser_keeps_its_value (gpointer data, GError **error)
{
  Source source[2];
  BelayFuture *race, *kept;

  set_up ();
  source_init (&source[0]);
  source_init (&source[1]);
  kept = belay_future_ref (source[1].future);
  race = belay_future_race (source[0].future, source[1].future, NULL);
  g_assert_true (belay_await_ok (belay_future_then (belay_future_new_done (), resolve_both, source, NULL), error));
  g_assert_true (belay_await (race, error) == &source[0]);
  g_assert_true (belay_future_take (kept, error) == &source[1]);
  belay_future_unref (kept);
  source_clear (&source[0]);
  source_clear (&source[1]);
  g_assert_cmpint (destroyed, ==, 0);
  return TRUE;
}

static gboolean
of_none_and_one (gpointer data, GError **error)
{
  GError *local = NULL;
  BelayFuture *future, *one[1];
  gint64 value;

  future = belay_future_allv (NULL, 0);
  g_assert_true (belay_future_check (future, error));
  g_assert_cmpuint (belay_future_get_n_members (future), ==, 0);
  belay_future_unref (future);
  g_assert_true (belay_await_ok (belay_future_all_settledv (NULL, 0), error));
  g_assert_false (belay_await_ok (belay_future_anyv (NULL, 0), &local));
  g_assert_nonnull (local);
  g_clear_error (&local);
  g_assert_false (belay_await_ok (belay_future_racev (NULL, 0), &local));
  g_assert_nonnull (local);
  g_clear_error (&local);
  g_assert_true (belay_await_ok (belay_future_all (NULL, NULL), error));

  one[0] = belay_future_new_int64 (1);
  g_assert_true (belay_await_ok (belay_future_allv (one, 1), error));
  one[0] = belay_future_new_int64 (2);
  g_assert_true (belay_await_int64 (belay_future_anyv (one, 1), &value, error));
  g_assert_cmpint (value, ==, 2);
  one[0] = belay_future_new_int64 (3);
  g_assert_true (belay_await_int64 (belay_future_racev (one, 1), &value, error));
  g_assert_cmpint (value, ==, 3);

  /* the same one twice */
  one[0] = belay_future_new_int64 (4);
  g_assert_true (belay_await_ok (belay_future_all (belay_future_ref (one[0]), one[0], NULL), error));
  return TRUE;
}

static gboolean
dropped_combination (gpointer data, GError **error)
{
  BelayFuture *(*combinators[]) (BelayFuture **, guint) = { belay_future_allv, belay_future_all_settledv, belay_future_anyv,
                                                            belay_future_racev };
  Source source[3];
  BelayFuture *futures[3];

  for (guint c = 0; c < G_N_ELEMENTS (combinators); c++)
    {
      for (int i = 0; i < 3; i++)
        {
          source_init (&source[i]);
          futures[i] = source[i].future;
        }
      belay_future_unref (combinators[c] (futures, 3));
      for (int i = 0; i < 3; i++)
        {
          g_assert_cmpint (source[i].asked, ==, 1);
          source_clear (&source[i]);
        }

      /* one that somebody else wants is not asked to end */
      for (int i = 0; i < 3; i++)
        {
          source_init (&source[i]);
          futures[i] = source[i].future;
        }
      belay_future_ref (futures[1]);
      belay_future_unref (combinators[c] (futures, 3));
      g_assert_cmpint (source[0].asked + source[2].asked, ==, 2);
      g_assert_cmpint (source[1].asked, ==, 0);
      g_assert_true (belay_promise_resolve (source[1].promise));
      g_assert_true (belay_await_ok (futures[1], error));
      for (int i = 0; i < 3; i++)
        source_clear (&source[i]);
    }
  return TRUE;
}

/* The same when some are known already. */
static gboolean
dropped_halfway (gpointer data, GError **error)
{
  BelayFuture *(*combinators[]) (BelayFuture **, guint) = { belay_future_allv, belay_future_all_settledv };

  set_up ();
  for (guint c = 0; c < G_N_ELEMENTS (combinators); c++)
    for (int known = 0; known < 8; known++)
      for (int after = 0; after < 2; after++) /* answered before or after the combination is made */
        {
          Source source[3];
          BelayFuture *futures[3], *all = NULL;

          for (int i = 0; i < 3; i++)
            {
              source_init (&source[i]);
              futures[i] = source[i].future;
            }
          if (after)
            all = combinators[c] (futures, 3);
          for (int i = 0; i < 3; i++)
            if (known & (1 << i))
              g_assert_true (belay_promise_resolve_pointer (source[i].promise, &source[i], count_destroy));
          if (!after)
            all = combinators[c] (futures, 3);
          belay_future_unref (all);
          for (int i = 0; i < 3; i++)
            {
              g_assert_cmpint (source[i].asked, ==, known & (1 << i) ? 0 : 1);
              source_clear (&source[i]);
            }
        }
  g_assert_cmpint (destroyed, ==, 2 * 2 * 12);
  return TRUE;
}

static gboolean
nested (gpointer data, GError **error)
{
  Source source[4];
  BelayFuture *all;
  gint64 value;

  for (int i = 0; i < 4; i++)
    source_init (&source[i]);
  all = belay_future_all (belay_future_any (source[0].future, source[1].future, NULL),
                          belay_future_race (source[2].future, source[3].future, NULL), NULL);
  source_fail (&source[0], "no");
  g_assert_true (belay_promise_resolve_int64 (source[3].promise, 3));
  g_assert_cmpint (source[2].asked, ==, 1);
  g_assert_true (belay_promise_resolve_int64 (source[1].promise, 1));
  g_assert_true (belay_await_ok (belay_future_ref (all), error));
  g_assert_true (belay_future_take_int64 (belay_future_get_member (all, 0), &value, error));
  g_assert_cmpint (value, ==, 1);
  g_assert_true (belay_future_take_int64 (belay_future_get_member (all, 1), &value, error));
  g_assert_cmpint (value, ==, 3);
  belay_future_unref (all);
  for (int i = 0; i < 4; i++)
    source_clear (&source[i]);
  return TRUE;
}

/* What passes an outcome on passes the members on. */
static gboolean
members_pass (gpointer data, GError **error)
{
  BelayFuture *all, *member;
  gint64 value;

  all = belay_future_then (belay_future_with_timeout (belay_future_all (belay_future_new_int64 (1), belay_future_new_int64 (2),
                                                                        NULL), 1000), just_count, NULL, NULL);
  g_assert_true (belay_await_ok (belay_future_ref (all), error));
  g_assert_cmpuint (belay_future_get_n_members (all), ==, 2);
  g_assert_true (belay_future_take_int64 (belay_future_get_member (all, 1), &value, error));
  g_assert_cmpint (value, ==, 2);
  member = belay_future_ref (belay_future_get_member (all, 0)); /* lives longer than what it was a member of */
  belay_future_unref (all);
  g_assert_true (belay_await_int64 (member, &value, error));
  g_assert_cmpint (value, ==, 1);
  return TRUE;
}

static gboolean
many_members (gpointer data, GError **error)
{
  g_autofree Source *source = g_new (Source, LONG);
  g_autofree BelayFuture **futures = g_new (BelayFuture *, LONG);
  BelayFuture *all;

  for (int i = 0; i < LONG; i++)
    {
      source_init (&source[i]);
      futures[i] = source[i].future;
    }
  all = belay_future_allv (futures, LONG);
  for (int i = LONG - 1; i >= 0; i--)
    {
      g_assert_true (belay_future_is_pending (all));
      belay_promise_resolve_int64 (source[i].promise, i);
      source_clear (&source[i]);
    }
  g_assert_true (belay_await_ok (belay_future_ref (all), error));
  g_assert_cmpuint (belay_future_get_n_members (all), ==, LONG);
  belay_future_unref (all);
  return TRUE;
}

static gboolean
no_members_elsewhere (gpointer data, GError **error)
{
  g_autoptr (BelayFuture) done = belay_future_new_done ();
  g_autoptr (BelayFuture) pointer = belay_future_new_pointer (&called, NULL);
  g_autoptr (BelayFuture) all = belay_future_all (belay_future_new_done (), NULL);
  g_autoptr (GError) local = NULL;

  g_assert_cmpuint (belay_future_get_n_members (done), ==, 0);
  g_assert_null (belay_future_get_member (pointer, 0));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*NULL*");
  g_assert_cmpuint (belay_future_get_n_members (NULL), ==, 0);
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*NULL*");
  g_assert_null (belay_future_get_member (NULL, 0));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*NULL*");
  g_assert_null (belay_future_then (NULL, plus_one, NULL, NULL));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*NULL*");
  g_assert_null (belay_future_catch (NULL, plus_one, NULL, NULL));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*NULL*");
  g_assert_null (belay_future_finally (done, NULL, NULL, NULL));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*NULL*");
  g_assert_null (belay_future_with_timeout (NULL, 1));
  /* the members are not a value that could be taken */
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*holds no pointer*");
  g_assert_null (belay_future_take (all, &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_test_assert_expected_messages ();
  return TRUE;
}

/* --- time --- */

static gboolean
delays (gpointer data, GError **error)
{
  gint64 begin = belay_now ();
  BelayFuture *one = belay_future_delay (30), *two = belay_future_delay (10), *now = belay_future_delay (0);
  BelayFuture *past = belay_future_delay (G_MININT64), *never = belay_future_delay (G_MAXINT64);

  g_assert_true (belay_await_ok (now, error));
  g_assert_true (belay_await_ok (past, error));
  g_assert_cmpint (belay_now (), ==, begin);
  g_assert_true (belay_await_ok (two, error));
  g_assert_cmpint (belay_now (), ==, begin + 10 * 1000);
  g_assert_true (belay_future_is_pending (one));
  g_assert_true (belay_await_ok (one, error));
  g_assert_cmpint (belay_now (), ==, begin + 30 * 1000);
  g_assert_true (belay_future_is_pending (never));
  belay_future_unref (never); /* and its timer with it, or the clock would jump there */
  g_assert_true (belay_sleep (1, error));
  g_assert_cmpint (belay_now (), ==, begin + 31 * 1000);
  return TRUE;
}

static gboolean
timeouts (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 begin = belay_now (), value;
  BelayFuture *future;
  Source source;
  int thing;

  set_up ();
  /* in time */
  source_init (&source);
  future = belay_future_with_timeout (source.future, 20);
  g_assert_true (belay_sleep (10, error));
  g_assert_true (belay_promise_resolve_int64 (source.promise, 4));
  g_assert_true (belay_await_int64 (future, &value, error));
  g_assert_cmpint (value, ==, 4);
  g_assert_cmpint (belay_now (), ==, begin + 10 * 1000);
  g_assert_cmpint (source.asked, ==, 0);
  source_clear (&source);
  g_assert_true (belay_sleep (50, error));

  /* not in time: the interest is dropped, a late value released */
  begin = belay_now ();
  source_init (&source);
  g_assert_false (belay_await_ok (belay_future_with_timeout (source.future, 20), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&local);
  g_assert_cmpint (belay_now (), ==, begin + 20 * 1000);
  g_assert_cmpint (source.asked, ==, 1);
  g_assert_true (belay_promise_resolve_pointer (source.promise, &thing, count_destroy));
  source_clear (&source);
  g_assert_cmpint (destroyed, ==, 1);

  /* a failure goes through; a known outcome goes before a time that is up */
  g_assert_false (belay_await_ok (belay_future_with_timeout (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"), 0),
                                  &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
  g_clear_error (&local);
  g_assert_true (belay_await (belay_future_with_timeout (belay_future_new_pointer (&thing, count_destroy), -5), error) == &thing);
  g_assert_cmpint (belay_now (), ==, begin + 20 * 1000);

  /* what has failed so far is not the outcome of a combination that was cut short */
  g_assert_false (belay_await_ok (belay_future_with_timeout (belay_future_any (
                    belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"),
                    belay_future_then (belay_future_delay (50), just_count, NULL, NULL), NULL), 0), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&local);

  /* pending with no time at all, and with for ever */
  source_init (&source);
  g_assert_false (belay_await_ok (belay_future_with_timeout (source.future, 0), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&local);
  source_clear (&source);
  source_init (&source);
  future = belay_future_with_timeout (source.future, G_MAXINT64);
  g_assert_true (belay_sleep (1000000, error));
  g_assert_true (belay_future_is_pending (future));
  g_assert_true (belay_promise_resolve (source.promise));
  g_assert_true (belay_await_ok (future, error));
  source_clear (&source);
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gboolean
timeout_dropped (gpointer data, GError **error)
{
  Source source;
  BelayFuture *future;

  set_up ();
  source_init (&source);
  future = belay_future_with_timeout (source.future, 20);
  belay_future_unref (future);
  settle_down ();
  g_assert_cmpint (source.asked, ==, 1);
  source_clear (&source);
  g_assert_true (belay_sleep (100, error)); /* its timer is gone */

  /* dropped when both the outcome and the time are there */
  source_init (&source);
  future = belay_future_with_timeout (source.future, 0);
  g_assert_true (belay_promise_resolve (source.promise));
  belay_future_unref (future);
  source_clear (&source);
  settle_down ();
  g_assert_cmpint (sunk, ==, 0);
  return TRUE;
}

static gboolean
nested_timeouts (gpointer data, GError **error)
{
  GError *local = NULL;
  gint64 begin = belay_now ();
  Source source;

  set_up ();
  source_init (&source);
  g_assert_false (belay_await_ok (belay_future_with_timeout (belay_future_with_timeout (source.future, 30), 10), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&local);
  g_assert_cmpint (belay_now (), ==, begin + 10 * 1000);
  settle_down ();
  g_assert_cmpint (source.asked, ==, 1);
  source_clear (&source);
  g_assert_true (belay_sleep (100, error));
  g_assert_cmpint (sunk, ==, 0); /* the inner one was dropped: that its time comes is no news */
  return TRUE;
}

static gboolean
out_of_time_order (gpointer data, GError **error)
{
  enum { N = 1000 };
  BelayFuture *futures[N];
  gint64 begin = belay_now ();
  GRand *rand = g_rand_new_with_seed (7);
  int when[N];

  for (int i = 0; i < N; i++)
    {
      when[i] = g_rand_int_range (rand, 0, 500);
      futures[i] = belay_future_delay (when[i]);
    }
  for (int i = 0; i < N; i += 3)
    g_clear_pointer (&futures[i], belay_future_unref);
  for (int t = 0; t < 500; t++)
    {
      for (int i = 0; i < N; i++)
        if (futures[i] != NULL && when[i] <= t && t > 0)
          {
            g_assert_true (belay_future_is_resolved (futures[i]));
            g_clear_pointer (&futures[i], belay_future_unref);
          }
      for (int i = 0; i < N; i++)
        g_assert_true (futures[i] == NULL || when[i] > t || t == 0);
      g_assert_true (belay_sleep (1, error));
      for (int i = 0; i < N; i++)
        if (futures[i] != NULL)
          g_assert_true (belay_future_is_pending (futures[i]) == (when[i] > t + 1));
    }
  for (int i = 0; i < N; i++)
    g_clear_pointer (&futures[i], belay_future_unref);
  g_assert_cmpint (belay_now (), ==, begin + 500 * 1000);
  g_rand_free (rand);
  return TRUE;
}

/* --- borrowing: what uses the caller's memory is waited for, through whatever it is combined by --- */

typedef struct
{
  Source   source;
  gboolean in_use;  /* the memory of whoever waits */
  gboolean slow;    /* asked to end, it still takes some time */
  gboolean succeeds;
} Borrower;

static gboolean
end_slowly (gpointer data, GError **error)
{
  Borrower *self = data;

  if (self->slow)
    belay_sleep (5, NULL);
  self->in_use = FALSE;
  if (self->succeeds)
    belay_promise_resolve_int64 (self->source.promise, 6);
  else
    belay_promise_reject (self->source.promise, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "ended early"));
  return TRUE;
}

static BelayScope *helpers; /* runs what ends slowly, whoever asks */

static void
borrower_asked (gpointer data)
{
  Borrower *self = data;

  self->source.asked++;
  g_assert_true (belay_scope_spawn (helpers, end_slowly, self, NULL));
}

static BelayFuture *
borrower_start (Borrower *self, gboolean succeeds)
{
  source_init (&self->source);
  self->in_use = TRUE;
  self->slow = TRUE;
  self->succeeds = succeeds;
  belay_promise_set_borrowing (self->source.promise);
  belay_promise_on_cancel (self->source.promise, borrower_asked, self, NULL);
  return self->source.future;
}

static void
borrower_clear (Borrower *self)
{
  g_assert_false (self->in_use);
  g_assert_cmpint (self->source.asked, ==, 1);
  source_clear (&self->source);
}

/* How a wait for borrowed memory is cut short: by a time-out around the await. */
static BelayFuture *
wrap (int way, BelayFuture *future)
{
  switch (way)
    {
    case 0: return future;
    case 1: return belay_future_then (future, just_count, NULL, NULL);
    case 2: return belay_future_with_timeout (future, 1000);
    case 3: return belay_future_all (belay_future_delay (1000), future, NULL);
    case 4: return belay_future_race (future, belay_future_delay (1000), NULL);
    case 5: return belay_future_any (future, belay_future_delay (1000), NULL);
    case 6: return belay_future_all_settled (future, belay_future_new_done (), NULL);
    case 7: return belay_future_finally (belay_future_with_timeout (future, 1000), just_count, NULL, NULL);
    case 8: return belay_future_then (belay_future_new_done (), give_data, future, NULL);
    default: return NULL;
    }
}

static gboolean
borrowed_and_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = helpers = belay_scope_begin ();

  for (int way = 0; way < 9; way++)
    {
      Borrower borrower;
      GError *local = NULL;
      gint64 begin = belay_now ();
      BelayFuture *future;

      set_up ();
      future = wrap (way, borrower_start (&borrower, FALSE));
      {
        belay_auto (BelayTimeout) timeout = belay_timeout (10);
        g_assert_false (belay_await_ok (future, &local));
        g_assert_true (belay_timeout_expired (timeout));
      }
      g_assert_false (borrower.in_use);
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_clear_error (&local);
      g_assert_cmpint (belay_now (), ==, begin + 15 * 1000); /* it took 5 ms to end, and was waited for */
      borrower_clear (&borrower);
      settle_down ();
      g_assert_cmpint (sunk, ==, 0);
    }
  return belay_scope_close (&scope, error);
}

/* The combinator decides before the borrower has ended: it says so when that has. */
static gboolean
borrowed_and_decided (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = helpers = belay_scope_begin ();

  for (int way = 0; way < 5; way++)
    {
      Borrower borrower;
      GError *local = NULL;
      gint64 begin = belay_now (), value = 0;
      BelayFuture *mine = borrower_start (&borrower, way == 4);

      set_up ();
      switch (way)
        {
        case 0: /* its time is up */
          g_assert_false (belay_await_ok (belay_future_with_timeout (mine, 10), &local));
          g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
          break;
        case 1: /* another wins */
          g_assert_true (belay_await_int64 (belay_future_race (mine, belay_future_then (belay_future_then (
                           belay_future_delay (10), give_data, belay_future_new_int64 (0), NULL), plus_one, NULL, NULL), NULL),
                                            &value, error));
          g_assert_cmpint (value, ==, 1);
          break;
        case 2: /* another fails */
          g_assert_false (belay_await_ok (belay_future_all (mine, belay_future_then (
                            belay_future_delay (10), give_data, belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "no"),
                            NULL), NULL), &local));
          g_assert_error (local, G_IO_ERROR, G_IO_ERROR_BUSY);
          break;
        case 3: /* another had won before it was looked at */
          g_assert_true (belay_sleep (10, error));
          g_assert_true (belay_await_int64 (belay_future_any (belay_future_new_int64 (2), mine, NULL), &value, error));
          g_assert_cmpint (value, ==, 2);
          break;
        case 4: /* its time is up, and it succeeds all the same: what happened, happened */
          g_assert_true (belay_await_int64 (belay_future_with_timeout (mine, 10), &value, error));
          g_assert_cmpint (value, ==, 6);
          break;
        }
      g_assert_false (borrower.in_use);
      g_clear_error (&local);
      g_assert_cmpint (belay_now (), ==, begin + 15 * 1000);
      borrower_clear (&borrower);
      settle_down ();
      g_assert_cmpint (sunk, ==, 0);
    }
  return belay_scope_close (&scope, error);
}

static gboolean
null_member (gpointer data, GError **error)
{
  for (int way = 0; way < 4; way++)
    {
      BelayFuture *futures[] = { belay_future_new_done (), NULL, belay_future_new_pointer (&called, count_call) };
      BelayFuture *(*const combine[]) (BelayFuture **, guint) = { belay_future_allv, belay_future_all_settledv,
                                                                  belay_future_anyv, belay_future_racev };
      BelayFuture *result;

      called = 0;
      g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*NULL*");
      result = combine[way] (futures, 3);
      g_assert_cmpint (called, ==, 1); /* they are consumed all the same */
      assert_rejected (result, BELAY_ERROR, BELAY_ERROR_MISUSE, NULL);
      belay_future_unref (result);
      g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*NULL*");
      result = combine[way] (NULL, 1);
      assert_rejected (result, BELAY_ERROR, BELAY_ERROR_MISUSE, NULL);
      belay_future_unref (result);
    }
  g_test_assert_expected_messages ();
  return TRUE;
}

/* Such as a loop that accumulates makes. */
static gboolean
deep_combination (gpointer data, GError **error)
{
  BelayFuture *future = belay_future_new_done ();
  int depth = 50000;

  called = 0;
  for (int i = 0; i < depth; i++)
    future = belay_future_all (future, belay_future_new_pointer (&called, count_call), NULL);
  if (!belay_await_ok (future, error))
    return FALSE;
  g_assert_cmpint (called, ==, depth);
  return TRUE;
}

static gboolean
empty_job (gpointer data, GError **error)
{
  return TRUE;
}

static BelayFuture *
start_late (BelayFuture *done, gpointer data)
{
  return borrower_start (data, FALSE);
}

static BelayFuture *
late_borrower (Borrower *self)
{
  self->in_use = FALSE;
  return belay_future_then (belay_future_delay (3), start_late, self, NULL);
}

/* That a future borrows is known only when a continuation has run: as well as if it had been known from the start. */
static gboolean
late_and_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = helpers = belay_scope_begin ();

  for (int way = 0; way < 81; way++)
    {
      Borrower borrower;
      GError *local = NULL;
      gint64 begin = belay_now ();
      BelayFuture *future;

      set_up ();
      future = wrap (way / 9, wrap (way % 9, late_borrower (&borrower)));
      {
        belay_auto (BelayTimeout) timeout = belay_timeout (10);
        g_assert_false (belay_await_ok (future, &local));
        g_assert_true (belay_timeout_expired (timeout));
      }
      g_assert_false (borrower.in_use);
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_clear_error (&local);
      g_assert_cmpint (belay_now (), ==, begin + 15 * 1000);
      borrower_clear (&borrower);
      settle_down ();
      g_assert_cmpint (sunk, ==, 0);

      /* before it runs, there is nothing to wait for, and it never will */
      set_up ();
      begin = belay_now ();
      future = wrap (way / 9, wrap (way % 9, late_borrower (&borrower)));
      {
        belay_auto (BelayTimeout) timeout = belay_timeout (2);
        g_assert_false (belay_await_ok (future, &local));
      }
      g_assert_cmpint (belay_now (), ==, begin + 2 * 1000);
      g_clear_error (&local);
      g_assert_true (belay_sleep (10, error));
      g_assert_false (borrower.in_use);
      g_assert_cmpint (sunk, ==, 0);
    }
  return belay_scope_close (&scope, error);
}

static gboolean
drop_later (gpointer future, GError **error)
{
  gboolean ok = belay_sleep (20, error);

  belay_future_unref (future);
  return ok;
}

/* While another interest is kept the borrower goes on, so a cancelled wait lasts until that is dropped, too. */
static gboolean
late_and_kept (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = helpers = belay_scope_begin ();

  for (int way = 0; way < 81; way++)
    {
      Borrower borrower;
      GError *local = NULL;
      gint64 begin = belay_now ();
      BelayFuture *future;

      set_up ();
      future = wrap (way / 9, wrap (way % 9, late_borrower (&borrower)));
      g_assert_true (belay_scope_spawn (scope, drop_later, belay_future_ref (future), NULL));
      {
        belay_auto (BelayTimeout) timeout = belay_timeout (10);
        g_assert_false (belay_await_ok (future, &local));
        g_assert_nonnull (timeout);
      }
      g_assert_false (borrower.in_use);
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_clear_error (&local);
      g_assert_cmpint (belay_now (), ==, begin + 25 * 1000);
      borrower_clear (&borrower);
      settle_down ();
      g_assert_cmpint (sunk, ==, 0);
    }
  return belay_scope_close (&scope, error);
}

static gboolean
late_and_decided (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = helpers = belay_scope_begin ();

  for (int way = 0; way < 9; way++)
    for (int decision = 0; decision < 3; decision++)
      {
        Borrower borrower;
        GError *local = NULL;
        gint64 begin = belay_now ();
        BelayFuture *future;

        set_up ();
        future = wrap (way, late_borrower (&borrower));
        if (decision == 0)
          future = belay_future_with_timeout (future, 10);
        else if (decision == 1)
          future = belay_future_race (future, belay_future_delay (10), NULL);
        else
          future = belay_future_all (belay_future_with_timeout (belay_future_delay (50), 10), future, NULL);
        g_assert_true (belay_await_ok (future, &local) == (decision == 1));
        g_assert_false (borrower.in_use);
        if (decision != 1)
          g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
        g_clear_error (&local);
        g_assert_cmpint (belay_now (), ==, begin + 15 * 1000);
        borrower_clear (&borrower);
        settle_down ();
        g_assert_cmpint (sunk, ==, 0);
      }
  return belay_scope_close (&scope, error);
}

/* A hundred thousand continuations, all of which may borrow, are given up on a fiber's small stack. */
static gboolean
long_chain_given_up (gpointer data, GError **error)
{
  GError *local = NULL;
  Source source;
  BelayFuture *future;

  set_up ();
  source_init (&source);
  future = source.future;
  for (int i = 0; i < LONG; i++)
    future = belay_future_then (future, plus_one, NULL, NULL);
  {
    belay_auto (BelayTimeout) timeout = belay_timeout (10);
    g_assert_false (belay_await_ok (future, &local));
  }
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_error_free (local);
  g_assert_cmpint (source.asked, ==, 1);
  g_assert_cmpint (called + sunk, ==, 0);
  source_clear (&source);
  return TRUE;
}

/* A member that is asked to end may be answered, and freed, in that very call. */
static gboolean
member_ends_when_asked (gpointer data, GError **error)
{
  g_autoptr (BelaySerial) serial = belay_serial_new ();
  BelayFuture *first = belay_serial_run (serial, empty_job, NULL);

  for (int i = 0; i < 3; i++) /* queued behind it, so each is taken back */
    {
      BelayFuture *job = belay_serial_run (serial, empty_job, NULL);

      if (i > 0)
        job = belay_future_then (job, just_count, NULL, NULL);
      if (i > 1)
        job = belay_future_race (job, belay_future_then (belay_serial_run (serial, empty_job, NULL), just_count,
                                                         NULL, NULL), NULL);
      belay_future_unref (belay_future_all (job, NULL));
    }
  return belay_await_ok (first, error);
}

static gboolean
wait_for_shared (gpointer data, GError **error)
{
  return belay_await_ok (belay_future_ref (data), error);
}

/* Each of several waits that are cancelled leaves it to the others; the last asks, and all see the end. */
static gboolean
shared_and_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = helpers = belay_scope_begin ();

  for (int way = 0; way < 9; way++)
    {
      belay_auto (BelayScope) waits = belay_scope_new ();
      GError *local = NULL;
      gint64 begin = belay_now ();
      Borrower borrower;
      BelayFuture *future;

      set_up ();
      future = wrap (way, borrower_start (&borrower, FALSE));
      for (int i = 0; i < 3; i++)
        g_assert_true (belay_scope_spawn (waits, wait_for_shared, future, NULL));
      g_assert_true (belay_sleep (10, error));
      belay_future_unref (future);
      belay_scope_cancel (waits, "enough");
      g_assert_false (belay_close (&waits, &local));
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_clear_error (&local);
      g_assert_cmpint (belay_now (), ==, begin + 15 * 1000);
      borrower_clear (&borrower);
      g_assert_cmpint (sunk, ==, 0);
    }
  return belay_scope_close (&scope, error);
}

/* On being asked to end. */
static void
go_on (gpointer data)
{
}

/* An interest that is kept keeps the work going: the wait ends with it, or when that interest is dropped. */
static gboolean
shared_and_kept (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = helpers = belay_scope_begin ();
  Borrower borrower;
  BelayFuture *future, *timed;
  GError *local = NULL;
  gint64 begin = belay_now ();

  set_up ();
  future = borrower_start (&borrower, FALSE);
  timed = belay_future_with_timeout (belay_future_ref (future), 10);
  g_assert_true (belay_sleep (20, error));
  g_assert_true (belay_future_is_pending (timed));
  g_assert_cmpint (borrower.source.asked, ==, 0);
  belay_future_unref (future);
  g_assert_cmpint (borrower.source.asked, ==, 1);
  g_assert_false (belay_await_ok (timed, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_clear_error (&local);
  g_assert_cmpint (belay_now (), ==, begin + 25 * 1000);
  borrower_clear (&borrower);

  /* a promise that is dropped is heard of by one who waits deaf */
  future = borrower_start (&borrower, FALSE);
  belay_promise_on_cancel (borrower.source.promise, go_on, NULL, NULL);
  timed = belay_future_with_timeout (future, 10);
  g_assert_true (belay_sleep (20, error));
  g_assert_true (belay_future_is_pending (timed));
  source_clear (&borrower.source);
  g_assert_false (belay_await_ok (timed, &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_BROKEN);
  g_clear_error (&local);
  g_assert_cmpint (sunk, ==, 0);
  return belay_scope_close (&scope, error);
}

/* --- fibers that lose --- */

typedef struct
{
  gboolean ended;
  gboolean fails;
  gboolean slept;
} Loser;

static gpointer
lose (gpointer data, GError **error)
{
  Loser *self = data;

  self->slept = belay_sleep (300, NULL);
  {
    belay_auto (BelayShield) shield = belay_shield ();
    belay_sleep (5, NULL); /* its clean-up */
  }
  self->ended = TRUE;
  if (!self->fails)
    return self; /* though it was told to end */
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NO_SPACE, "its own");
  return NULL;
}

static BelayFuture *
spawn_later (BelayFuture *done, gpointer data)
{
  return belay_spawn_value (lose, data, count_destroy);
}

static gboolean
race_of_fibers (gpointer data, GError **error)
{
  for (int way = 0; way < 12; way++)
    for (int fails = 0; fails < 2; fails++)
      {
        Loser loser = { FALSE, fails, FALSE };
        GError *local = NULL;
        gint64 begin = belay_now ();
        BelayFuture *mine = way != 6 ? belay_spawn_value (lose, &loser, count_destroy) : NULL, *future = NULL;
        gboolean ok, ok_expected = TRUE;

        set_up ();
        switch (way)
          {
          case 0: future = belay_future_race (mine, belay_future_delay (10), NULL); break;
          case 1: future = belay_future_any (belay_future_delay (10), mine, NULL); break;
          case 2: future = belay_future_with_timeout (mine, 10), ok_expected = FALSE; break;
          case 3: future = belay_future_all (belay_future_with_timeout (belay_future_delay (20), 10), mine, NULL), ok_expected = FALSE; break;
          case 4: future = belay_future_race (belay_future_all (mine, NULL), belay_future_delay (10), NULL); break;
          case 5: future = belay_future_race (belay_future_then (mine, just_count, NULL, NULL), belay_future_delay (10), NULL); break;
          case 6: future = belay_future_race (belay_future_then (belay_future_delay (1), spawn_later, &loser, NULL),
                                              belay_future_delay (10), NULL);
                  break;
          case 7: future = belay_future_with_timeout (belay_future_with_timeout (mine, 100), 10), ok_expected = FALSE; break;
          case 8: future = belay_future_race (belay_future_delay (10), mine, belay_future_delay (12), NULL); break;
          case 9: case 10: case 11: /* the wait itself is cut short */
            {
              belay_auto (BelayTimeout) timeout = belay_timeout (10);

              g_assert_false (belay_await_ok (way == 9 ? belay_future_race (mine, NULL)
                                              : way == 10 ? belay_future_all (mine, belay_future_new_done (), NULL)
                                                          : belay_future_with_timeout (mine, 100), &local));
              if (!fails)
                g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
              break;
            }
          }
        if (future != NULL)
          {
            ok = belay_await_ok (future, &local);
            g_assert_true (ok == ok_expected);
            if (!ok && !(fails && (way == 2 || way == 7)))
              g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
          }
        g_test_message ("way %d, fails %d: %s", way, fails, local != NULL ? local->message : "success");
        g_clear_error (&local);
        g_assert_true (loser.ended);
        g_assert_false (loser.slept);
        g_assert_cmpint (belay_now (), ==, begin + 15 * 1000);
        g_assert_true (belay_checkpoint (error)); /* what it said has not failed the scope */
        settle_down ();
        g_assert_cmpint (destroyed, ==, !fails);
      }
  return TRUE;
}

static gpointer
fail_at_the_end (gpointer data, GError **error)
{
  belay_auto (BelayShield) shield = belay_shield ();

  belay_sleep (15, NULL);
  if (data != NULL)
    return data;
  g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_NO_SPACE, "its own");
  return NULL;
}

/* What a loser has to say is not lost: its value is released, its error, unless it is the cancellation, goes to the sink. */
static gboolean
what_losers_say (gpointer data, GError **error)
{
  int thing;

  for (int way = 0; way < 3; way++)
    for (int fails = 0; fails < 2; fails++)
      {
        gint64 begin = belay_now ();
        BelayFuture *mine = belay_spawn_value (fail_at_the_end, fails ? NULL : &thing, count_destroy);

        set_up ();
        switch (way)
          {
          case 0: mine = belay_future_race (mine, belay_future_delay (10), NULL); break;
          case 1: mine = belay_future_any (mine, belay_future_delay (10), NULL); break;
          case 2: mine = belay_future_race (belay_future_all_settled (mine, NULL), belay_future_delay (10), NULL); break;
          }
        g_assert_true (belay_await_ok (mine, error));
        g_assert_cmpint (belay_now (), ==, begin + 15 * 1000);
        g_assert_cmpint (destroyed, ==, !fails);
        g_assert_cmpint (sunk, ==, way == 2 ? 0 : fails); /* there the members can be asked */
        g_assert_true (belay_checkpoint (error));
      }
  return TRUE;
}

/* In whose future somebody else has an interest, or whose future is merely dropped, that one goes on. */
static gboolean
fibers_that_go_on (gpointer data, GError **error)
{
  for (int way = 0; way < 5; way++)
    {
      Loser loser = { FALSE, FALSE, FALSE };
      gint64 begin = belay_now ();
      BelayFuture *mine = belay_spawn_value (lose, &loser, count_destroy), *kept = NULL;

      set_up ();
      if (way < 2)
        kept = belay_future_ref (mine);
      switch (way)
        {
        case 0: g_assert_true (belay_await_ok (belay_future_race (mine, belay_future_delay (10), NULL), error)); break;
        case 1: g_assert_false (belay_await_ok (belay_future_with_timeout (mine, 10), NULL)); break;
        case 2: belay_future_unref (mine); break;
        case 3: belay_future_unref (belay_future_all (mine, belay_future_delay (1000), NULL)); break;
        case 4: belay_future_unref (belay_future_with_timeout (belay_future_then (mine, just_count, NULL, NULL), 10)); break;
        }
      g_assert_false (loser.ended);
      g_assert_cmpint (belay_now (), ==, begin + (way < 2 ? 10 * 1000 : 0));
      g_assert_true (belay_sleep (400, error));
      g_assert_true (loser.ended && loser.slept);
      g_clear_pointer (&kept, belay_future_unref);
      g_assert_cmpint (destroyed, ==, 1);
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/combine/then-continues-and-never-inline", then_continues);
  thing_add_test ("/combine/what-is-not-ours-is-passed-on", passed_on);
  thing_add_test ("/combine/catch-recovers", catch_recovers);
  thing_add_test ("/combine/finally-runs-either-way", finally_either_way);
  thing_add_test ("/combine/values-pass", values_pass);
  thing_add_single_test ("/combine/continuations-in-order", in_order);
  thing_add_test ("/combine/dropped-while-waiting", dropped_while_waiting);
  thing_add_test ("/combine/dropped-while-queued", dropped_while_queued);
  thing_add_test ("/combine/finally-always-runs", finally_always);
  thing_add_test ("/combine/L9-of-two-errors-none-is-lost", second_failures);
  thing_add_test ("/combine/dropped-while-adopting", dropped_while_adopting);
  thing_add_test ("/combine/dropped-by-the-function-itself", dropped_by_the_function);
  thing_add_single_test ("/combine/chain-of-100000-uses-no-stack", long_chain);
  thing_add_single_test ("/combine/adoption-of-100000-uses-no-stack", long_adoption);
  g_test_add_func ("/combine/continuation-runs-where-it-was-registered", continuation_runs_where_it_was_registered);
  g_test_add_func ("/combine/plain-thread-uses-the-default-context", plain_thread_uses_the_default_context);
  g_test_add_func ("/combine/main-context-gone", context_gone);
  thing_add_test ("/combine/B01-B23-all-in-the-order-given", all_of_them);
  thing_add_test ("/combine/all-fails-with-the-first", all_fails_fast);
  thing_add_test ("/combine/all-settled-always-resolves", all_settled_of_them);
  thing_add_test ("/combine/any-takes-the-first-success", any_of_them);
  thing_add_test ("/combine/race-takes-the-first-outcome", race_of_them);
  thing_add_test ("/combine/L21-race-loser-keeps-its-value", race_loser_keeps_its_value);
  thing_add_test ("/combine/of-none-and-of-one", of_none_and_one);
  thing_add_test ("/combine/dropped-combination-drops-its-members", dropped_combination);
  thing_add_test ("/combine/dropped-halfway", dropped_halfway);
  thing_add_test ("/combine/nested", nested);
  thing_add_test ("/combine/members-pass", members_pass);
  thing_add_single_test ("/combine/100000-members", many_members);
  thing_add_single_test ("/combine/50000-deep-uses-no-stack", deep_combination);
  thing_add_test ("/combine/misuse", no_members_elsewhere);
  thing_add_test ("/combine/null-among-the-members", null_member);
  thing_add_test ("/combine/delays", delays);
  thing_add_test ("/combine/L25-timeouts", timeouts);
  thing_add_test ("/combine/timeout-dropped", timeout_dropped);
  thing_add_test ("/combine/L24-nested-timeouts", nested_timeouts);
  thing_add_single_test ("/combine/1000-delays-in-any-order", out_of_time_order);
  thing_add_test ("/combine/L22-cancelled-wait-for-borrowed-memory-ends-with-its-use", borrowed_and_cancelled);
  thing_add_test ("/combine/L22-decision-waits-for-borrowed-memory", borrowed_and_decided);
  thing_add_test ("/combine/member-that-ends-when-it-is-asked", member_ends_when_asked);
  thing_add_test ("/combine/L22-borrowed-by-a-continuation-and-cancelled", late_and_cancelled);
  thing_add_test ("/combine/L22-borrowed-by-a-continuation-and-kept", late_and_kept);
  thing_add_test ("/combine/L22-borrowed-by-a-continuation-and-decided", late_and_decided);
  thing_add_single_test ("/combine/chain-of-100000-given-up-uses-no-stack", long_chain_given_up);
  thing_add_test ("/combine/L22-cancelled-waits-do-not-wait-for-each-other", shared_and_cancelled);
  thing_add_test ("/combine/L22-a-kept-interest-keeps-the-work-going", shared_and_kept);
  thing_add_test ("/combine/L22-L30-fibers-that-lose-are-cancelled-and-joined", race_of_fibers);
  thing_add_test ("/combine/L9-L30-what-losers-say", what_losers_say);
  thing_add_test ("/combine/L30-fibers-that-go-on", fibers_that_go_on);
  return g_test_run ();
}
