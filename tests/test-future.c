/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Futures and promises, without fibers: who completes, who is told, who gets the value and who frees it.
 *
 * What is counted: `destroyed` by the destroy functions that the tests hand out, `sunk` by the sink, `asked` by
 * on_cancel. What the counts cannot see, a second free or a leak, AddressSanitizer and valgrind do.
 */
#include "support.h"

#include <belay/belay-test.h>

static int destroyed;
static int sunk;
static char *last_sunk;
static int asked;

static void
count_destroy (gpointer data)
{
  g_assert_nonnull (data);
  g_atomic_int_inc (&destroyed);
}

static void
count_sink (const GError *error, const char *what, const char *site, gpointer data)
{
  g_assert_nonnull (error);
  g_assert_nonnull (what);
  g_assert_cmpstr (data, ==, "sink data");
  g_atomic_int_inc (&sunk);
  g_free (last_sunk);
  last_sunk = g_strdup (error->message);
}

static void
count_asked (gpointer data)
{
  (*(int *) data)++;
}

static void
set_up (void)
{
  destroyed = sunk = asked = 0;
  g_clear_pointer (&last_sunk, g_free);
  belay_set_sink (count_sink, "sink data");
}

static void
tear_down (void)
{
  g_clear_pointer (&last_sunk, g_free);
  belay_set_sink (NULL, NULL);
}

/* A boxed type whose copies are counted. */
static int boxed_alive;

static gpointer
counted_copy (gpointer boxed)
{
  g_atomic_int_inc (&boxed_alive);
  return g_memdup2 (boxed, sizeof (int));
}

static void
counted_free (gpointer boxed)
{
  g_atomic_int_add (&boxed_alive, -1);
  g_free (boxed);
}

static GType
counted_get_type (void)
{
  static GType type;

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_boxed_type_register_static ("TestCounted", counted_copy, counted_free));
  return type;
}

static gpointer
counted_new (int value)
{
  return counted_copy (&value);
}

static GObject *
object_new (void)
{
  return g_object_new (G_TYPE_OBJECT, NULL);
}

static void
object_gone (gpointer data, GObject *object)
{
  (*(int *) data)++;
}

static GError *
error_new (const char *message)
{
  return g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, message);
}

static void
assert_taken_error (BelayFuture *future, GQuark domain, int code)
{
  GError *error = NULL;

  g_assert_null (belay_future_take (future, &error));
  g_assert_error (error, domain, code);
  g_clear_error (&error);
  g_assert_null (belay_future_take (future, NULL)); /* works the same without an error to fill in */
}

#define EXPECT_ASSERTION(what) g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*assertion*" what "*failed*")

/* --- futures that are known from the start --- */

static void
known_from_the_start (void)
{
  g_autoptr (BelayFuture) done = belay_future_new_done ();
  g_autoptr (BelayFuture) integer = belay_future_new_int64 (G_MININT64);
  g_autoptr (BelayFuture) number = belay_future_new_double (-0.5);
  g_autoptr (BelayFuture) failed = belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_BUSY, "%s %d", "busy", 7);
  g_autoptr (BelayFuture) error = belay_future_new_error (error_new ("there"));
  g_autoptr (GError) local = NULL;
  gint64 i = 0;
  double d = 0;

  set_up ();
  g_assert_true (belay_future_is_resolved (done));
  g_assert_false (belay_future_is_pending (done));
  g_assert_false (belay_future_is_rejected (done));
  g_assert_null (belay_future_get_error (done));
  g_assert_true (belay_future_check (done, &local));
  g_assert_no_error (local);

  for (int round = 0; round < 2; round++) /* a number can be taken by any number of takers */
    {
      g_assert_true (belay_future_take_int64 (integer, &i, NULL));
      g_assert_cmpint (i, ==, G_MININT64);
      g_assert_true (belay_future_take_double (number, &d, NULL));
      g_assert_cmpfloat (d, ==, -0.5);
    }
  g_assert_true (belay_future_take_int64 (integer, NULL, NULL));
  g_assert_true (belay_future_take_double (number, NULL, NULL));

  g_assert_true (belay_future_is_rejected (failed));
  g_assert_false (belay_future_is_pending (failed));
  g_assert_false (belay_future_is_resolved (failed));
  g_assert_error (belay_future_get_error (failed), G_IO_ERROR, G_IO_ERROR_BUSY);
  g_assert_cmpstr (belay_future_get_error (failed)->message, ==, "busy 7");
  g_assert_false (belay_future_check (error, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_clear_error (&local);
  g_assert_false (belay_future_take_int64 (error, &i, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
  g_clear_error (&local);
  g_assert_false (belay_future_take_double (error, &d, NULL));
  assert_taken_error (error, G_IO_ERROR, G_IO_ERROR_EXISTS);
  tear_down ();
}

static void
null_value (void)
{
  g_autoptr (BelayFuture) future = belay_future_new_pointer (NULL, count_destroy);
  g_autoptr (BelayFuture) untaken = belay_future_new_pointer (NULL, count_destroy);
  g_autoptr (GError) error = NULL;
  gpointer value = &value;

  /* Where NULL is a value there is the form with an out parameter; in the other it is an error. */
  g_assert_true (belay_future_take_pointer (future, &value, &error));
  g_assert_no_error (error);
  g_assert_null (value);
  assert_taken_error (untaken, BELAY_ERROR, BELAY_ERROR_FAILED);
}

static void
pointer_is_taken_once (void)
{
  BelayFuture *future;
  gpointer value = NULL;
  int thing;

  set_up ();
  future = belay_future_new_pointer (&thing, count_destroy);
  g_assert_true (belay_future_check (future, NULL)); /* looking takes nothing */
  g_assert_true (belay_future_take (future, NULL) == &thing);
  assert_taken_error (future, BELAY_ERROR, BELAY_ERROR_TAKEN);
  value = &thing;
  g_assert_false (belay_future_take_pointer (future, &value, NULL));
  g_assert_null (value);
  g_assert_true (belay_future_is_resolved (future));
  belay_future_unref (future);
  g_assert_cmpint (destroyed, ==, 0); /* it is the taker's */

  future = belay_future_new_pointer (&thing, count_destroy);
  belay_future_unref (belay_future_ref (future));
  g_assert_cmpint (destroyed, ==, 0);
  belay_future_unref (future);
  g_assert_cmpint (destroyed, ==, 1);
  tear_down ();
}

static void
objects_and_boxed_by_reference (void)
{
  GObject *object = object_new ();
  int gone = 0, number = 17;
  BelayFuture *future, *boxed;

  g_object_weak_ref (object, object_gone, &gone);
  future = belay_future_new_object (object); /* borrows: takes a reference of its own */
  g_object_unref (object);
  g_assert_cmpint (gone, ==, 0);
  for (int i = 0; i < 3; i++)
    {
      g_autoptr (GObject) mine = belay_future_take (future, NULL);
      g_assert_true (mine == object);
      g_assert_cmpuint (object->ref_count, ==, 2);
    }
  belay_future_unref (future);
  g_assert_cmpint (gone, ==, 1);

  boxed_alive = 0;
  boxed = belay_future_new_boxed (counted_get_type (), &number);
  g_assert_cmpint (boxed_alive, ==, 1);
  for (int i = 0; i < 3; i++)
    {
      int *mine = belay_future_take (boxed, NULL);
      g_assert_cmpint (*mine, ==, 17);
      g_assert_cmpint (boxed_alive, ==, 2);
      counted_free (mine);
    }
  belay_future_unref (boxed);
  g_assert_cmpint (boxed_alive, ==, 0);
}

/* --- promises --- */

typedef gboolean (*Answer) (BelayPromise *promise);

static int answer_thing;

static gboolean answer_done (BelayPromise *p) { return belay_promise_resolve (p); }
static gboolean answer_int64 (BelayPromise *p) { return belay_promise_resolve_int64 (p, 5); }
static gboolean answer_double (BelayPromise *p) { return belay_promise_resolve_double (p, 5.5); }
static gboolean answer_pointer (BelayPromise *p) { return belay_promise_resolve_pointer (p, &answer_thing, count_destroy); }
static gboolean answer_boxed (BelayPromise *p) { return belay_promise_resolve_boxed (p, counted_get_type (), counted_new (5)); }
static gboolean answer_error (BelayPromise *p) { return belay_promise_reject (p, error_new ("loser")); }

static gboolean
answer_object (BelayPromise *p)
{
  GObject *object = object_new ();

  g_object_weak_ref (object, object_gone, &destroyed);
  return belay_promise_resolve_object (p, object);
}

static const Answer answers[] = { answer_done, answer_int64, answer_double, answer_pointer, answer_boxed, answer_error,
                                  answer_object };

/* Every kind of answer, after every kind: the first decides, the later are told, and their values are freed at once. */
static void
completes_once (void)
{
  set_up ();
  for (guint first = 0; first < G_N_ELEMENTS (answers); first++)
    for (guint second = 0; second < G_N_ELEMENTS (answers); second++)
      {
        g_autoptr (BelayPromise) promise = belay_promise_new ();
        BelayFuture *future = belay_promise_get_future (promise);
        gboolean resolved = answers[first] != answer_error;
        int before;

        boxed_alive = 0;
        g_assert_true (belay_future_is_pending (future));
        g_assert_true (answers[first] (promise));
        g_assert_cmpint (belay_future_is_resolved (future), ==, resolved);
        g_assert_cmpint (belay_future_is_rejected (future), ==, !resolved);
        before = destroyed;
        g_assert_false (answers[second] (promise));
        g_assert_false (answers[second] (promise));
        g_assert_cmpint (destroyed - before, ==, answers[second] == answer_pointer || answers[second] == answer_object ? 2 : 0);
        g_assert_cmpint (boxed_alive, ==, answers[first] == answer_boxed ? 1 : 0);
        /* and the first outcome is what it was */
        g_assert_cmpint (belay_future_is_resolved (future), ==, resolved);
        if (answers[first] == answer_int64)
          {
            gint64 value;
            g_assert_true (belay_future_take_int64 (future, &value, NULL));
            g_assert_cmpint (value, ==, 5);
          }
        if (!resolved)
          g_assert_cmpstr (belay_future_get_error (future)->message, ==, "loser");
        before = destroyed;
        belay_future_unref (future);
        g_clear_pointer (&promise, belay_promise_unref);
        g_assert_cmpint (destroyed - before, ==, answers[first] == answer_pointer || answers[first] == answer_object ? 1 : 0);
        g_assert_cmpint (boxed_alive, ==, 0);
      }
  g_assert_cmpint (sunk, ==, 0);
  tear_down ();
}

/*
 * A function that is called for a future may use that very future: no lock is held over it. While it is pending it has
 * a lock, which the function takes on another thread, so that one that is held is seen.
 */
static BelayPromise *reentered;
static int reentries; /* atomic */

static gpointer
reenter (gpointer unused)
{
  BelayFuture *future = belay_promise_get_future (reentered), *group;

  group = belay_future_race (belay_future_ref (future), NULL); /* links a waiter */
  belay_future_unref (group);                                  /* and unlinks it */
  belay_future_unref (future);
  g_atomic_int_inc (&reentries);
  return NULL;
}

static void
reenter_elsewhere (gpointer data)
{
  int before = g_atomic_int_get (&reentries);
  GThread *thread = g_thread_new ("re-enters", reenter, NULL);

  for (int i = 0; i < 20000 && g_atomic_int_get (&reentries) == before; i++)
    g_usleep (500);
  g_assert_cmpint (g_atomic_int_get (&reentries), ==, before + 1);
  g_thread_join (thread);
}

static void
reenter_and_answer (gpointer data)
{
  reenter_elsewhere (data);
  g_assert_true (belay_promise_resolve (reentered));
}

static void
no_lock_over_destroy (void)
{
  BelayFuture *future;

  set_up ();
  g_atomic_int_set (&reentries, 0);

  /* on_cancel, and the function that destroys its data: pending in both */
  reentered = belay_promise_new ();
  belay_promise_on_cancel (reentered, reenter_elsewhere, NULL, reenter_and_answer);
  belay_future_unref (belay_promise_get_future (reentered));
  g_assert_cmpint (g_atomic_int_get (&reentries), ==, 2);

  /* a value that came too late */
  g_assert_false (belay_promise_resolve_pointer (reentered, &answer_thing, reenter_elsewhere));
  g_assert_cmpint (g_atomic_int_get (&reentries), ==, 3);
  belay_promise_unref (reentered);

  /* data that an answer destroys, and data that other data has taken the place of */
  reentered = belay_promise_new ();
  future = belay_promise_get_future (reentered);
  belay_promise_on_cancel (reentered, count_asked, &asked, reenter_elsewhere);
  belay_promise_on_cancel (reentered, count_asked, &asked, reenter_elsewhere);
  g_assert_cmpint (g_atomic_int_get (&reentries), ==, 4);
  g_assert_true (belay_promise_resolve (reentered));
  g_assert_cmpint (g_atomic_int_get (&reentries), ==, 5);
  g_assert_cmpint (asked, ==, 0);
  belay_future_unref (future);
  belay_promise_unref (reentered);
  tear_down ();
}

static void
value_without_reader (void)
{
  BelayPromise *promise;
  BelayFuture *future;

  set_up ();
  /* answered and never read: the last reference of either end frees the value */
  promise = belay_promise_new ();
  g_assert_true (answer_pointer (promise));
  g_assert_cmpint (destroyed, ==, 0);
  belay_promise_unref (promise);
  g_assert_cmpint (destroyed, ==, 1);

  /* the reader goes first, then the answer comes */
  promise = belay_promise_new ();
  belay_future_unref (belay_promise_get_future (promise));
  g_assert_true (answer_pointer (promise));
  belay_promise_unref (promise);
  g_assert_cmpint (destroyed, ==, 2);

  /* the writer goes first */
  promise = belay_promise_new ();
  future = belay_promise_get_future (promise);
  g_assert_true (answer_pointer (promise));
  belay_promise_unref (promise);
  g_assert_cmpint (destroyed, ==, 2);
  g_assert_true (belay_future_take (future, NULL) == &answer_thing);
  belay_future_unref (future);
  g_assert_cmpint (destroyed, ==, 2);
  tear_down ();
}

static void
broken_promise (void)
{
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (promise);
  g_autoptr (GError) error = NULL;

  set_up ();
  belay_promise_ref (promise);
  belay_promise_unref (promise);
  g_assert_true (belay_future_is_pending (future));
  belay_promise_unref (promise);
  g_assert_false (belay_future_check (future, &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_BROKEN);
  belay_future_unref (future);

  /* with nobody there it is no error at all */
  promise = belay_promise_new ();
  belay_promise_unref (promise);
  promise = belay_promise_new ();
  belay_future_unref (belay_promise_get_future (promise));
  belay_promise_unref (promise);
  g_assert_cmpint (sunk, ==, 0);
  tear_down ();
}

static void
pending_cannot_be_taken (void)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  g_autoptr (BelayFuture) future = belay_promise_get_future (promise);
  GError *error = NULL;
  gpointer value = &value;

  g_assert_null (belay_future_get_error (future));
  assert_taken_error (future, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  g_assert_false (belay_future_take_pointer (future, &value, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  g_clear_error (&error);
  g_assert_false (belay_future_take_int64 (future, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  g_clear_error (&error);
  g_assert_false (belay_future_take_double (future, NULL, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  g_clear_error (&error);
  g_assert_false (belay_future_check (future, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
  g_clear_error (&error);
  g_assert_true (belay_promise_resolve (promise));
}

/* --- interest --- */

static void
dropped_interest_asks_once (void)
{
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future, *second;

  set_up ();
  belay_promise_on_cancel (promise, count_asked, &asked, NULL);
  future = belay_promise_get_future (promise);
  second = belay_promise_get_future (promise);
  g_assert_true (future == second);
  belay_future_ref (future);
  belay_future_unref (future);
  belay_future_unref (future);
  g_assert_cmpint (asked, ==, 0); /* one is still interested */
  belay_future_unref (second);
  g_assert_cmpint (asked, ==, 1);

  /* interest that comes back is not asked about again, and gets the outcome */
  future = belay_promise_get_future (promise);
  g_assert_true (belay_future_is_pending (future));
  belay_future_unref (future);
  g_assert_cmpint (asked, ==, 1);
  future = belay_promise_get_future (promise);
  g_assert_true (belay_promise_resolve (promise));
  g_assert_true (belay_future_check (future, NULL));
  belay_future_unref (future);
  belay_promise_unref (promise);
  g_assert_cmpint (asked, ==, 1);
  g_assert_cmpint (sunk, ==, 0);
  tear_down ();
}

static void
no_question_after_the_answer (void)
{
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (promise);

  set_up ();
  belay_promise_on_cancel (promise, count_asked, &asked, NULL);
  g_assert_true (belay_promise_resolve (promise));
  belay_future_unref (future);
  belay_promise_unref (promise);

  promise = belay_promise_new (); /* nor when there is nobody to ask */
  belay_promise_on_cancel (promise, count_asked, &asked, NULL);
  future = belay_promise_get_future (promise);
  belay_promise_unref (promise);
  g_assert_true (belay_future_is_rejected (future));
  g_assert_nonnull (belay_future_get_error (future));
  belay_future_unref (future);

  promise = belay_promise_new (); /* nor for a promise whose future was never given out */
  belay_promise_on_cancel (promise, count_asked, &asked, NULL);
  belay_promise_unref (promise);
  g_assert_cmpint (asked, ==, 0);
  tear_down ();
}

static void
answer_in_question (gpointer data)
{
  asked++;
  g_assert_true (belay_promise_reject (data, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "ended early")));
  belay_promise_unref (data); /* the last writing end goes inside of it */
}

static void
the_question_may_answer (void)
{
  BelayPromise *promise = belay_promise_new ();

  set_up ();
  belay_promise_on_cancel (promise, answer_in_question, promise, NULL);
  belay_future_unref (belay_promise_get_future (promise));
  g_assert_cmpint (asked, ==, 1);
  g_assert_cmpint (sunk, ==, 0); /* that it was cancelled is no news */
  tear_down ();
}

/* --- what on_cancel uses --- */

static int forgotten; /* atomic */

static void
forget (gpointer data)
{
  g_assert_false (belay_in_fiber ());
  g_assert_true (data == &asked);
  forgotten++;
}

static gboolean
cancel_data_is_destroyed_once (gpointer data, GError **error)
{
  BelayPromise *promise;
  BelayFuture *future;

  set_up ();
  forgotten = 0;

  promise = belay_promise_new (); /* answered, and never asked */
  belay_promise_on_cancel (promise, count_asked, &asked, forget);
  future = belay_promise_get_future (promise);
  g_assert_cmpint (forgotten, ==, 0);
  g_assert_true (belay_promise_resolve (promise));
  g_assert_cmpint (forgotten, ==, 1);
  g_assert_false (belay_promise_resolve (promise));
  belay_future_unref (future);
  belay_promise_on_cancel (promise, count_asked, &asked, forget); /* too late: nobody will ask */
  g_assert_cmpint (forgotten, ==, 2);
  belay_promise_unref (promise);
  g_assert_cmpint (forgotten, ==, 2);

  promise = belay_promise_new (); /* dropped, with and without somebody to be told */
  belay_promise_on_cancel (promise, count_asked, &asked, forget);
  belay_promise_unref (promise);
  g_assert_cmpint (forgotten, ==, 3);
  promise = belay_promise_new ();
  belay_promise_on_cancel (promise, count_asked, &asked, forget);
  future = belay_promise_get_future (promise);
  belay_promise_unref (promise);
  g_assert_cmpint (forgotten, ==, 4);
  g_assert_nonnull (belay_future_get_error (future));
  belay_future_unref (future);
  g_assert_cmpint (asked, ==, 0);

  promise = belay_promise_new (); /* asked */
  belay_promise_on_cancel (promise, count_asked, &asked, forget);
  belay_future_unref (belay_promise_get_future (promise));
  g_assert_cmpint (asked, ==, 1);
  g_assert_cmpint (forgotten, ==, 5);
  belay_future_unref (belay_promise_get_future (promise));
  g_assert_true (belay_promise_resolve (promise));
  belay_promise_unref (promise);
  g_assert_cmpint (asked, ==, 1);
  g_assert_cmpint (forgotten, ==, 5);

  promise = belay_promise_new (); /* set twice */
  belay_promise_on_cancel (promise, count_asked, NULL, NULL);
  belay_promise_on_cancel (promise, count_asked, &asked, forget);
  belay_promise_on_cancel (promise, count_asked, &asked, forget);
  g_assert_cmpint (forgotten, ==, 6);
  belay_promise_unref (promise);
  g_assert_cmpint (forgotten, ==, 7);
  tear_down ();
  return TRUE;
}

/* An on_cancel that takes its time on a thread of its own. */
typedef struct
{
  GMutex        lock; /* also of the program's, taken in on_cancel and around an answer */
  BelayPromise *promises[2];
  gboolean      locks;
  int           n_in; /* atomic */
  int           n_to_be_in;
} Slow;

typedef struct
{
  Slow *slow;
  int   magic;
} SlowData;

static void
slow_asked (gpointer data)
{
  SlowData *self = data;
  Slow *slow = self->slow;

  g_atomic_int_inc (&slow->n_in);
  while (g_atomic_int_get (&slow->n_in) < slow->n_to_be_in)
    g_usleep (100);
  if (slow->locks)
    {
      g_mutex_lock (&slow->lock);
      g_mutex_unlock (&slow->lock);
    }
  else
    {
      for (int i = 0; i < 2; i++)
        belay_promise_reject (slow->promises[i], g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "closed"));
    }
  g_assert_cmpint (self->magic, ==, 1234);
}

static void
slow_forget (gpointer data)
{
  ((SlowData *) data)->magic = 0;
  g_free (data);
  g_atomic_int_inc (&forgotten);
}

static gpointer
unref_future (gpointer future)
{
  belay_future_unref (future);
  return NULL;
}

static GThread *
slow_start (Slow *slow, BelayPromise *promise)
{
  SlowData *data = g_new (SlowData, 1);

  *data = (SlowData) { slow, 1234 };
  belay_promise_on_cancel (promise, slow_asked, data, slow_forget);
  return g_thread_new ("drops", unref_future, belay_promise_get_future (promise));
}

static void
nobody_waits_for_on_cancel (void)
{
  GThread *threads[2];
  Slow slow;

  set_up ();
  forgotten = 0;
  /* way 0: answered under a lock that on_cancel takes; way 1: dropped unanswered under it */
  for (int way = 0; way < 2; way++)
    {
      slow = (Slow) { .locks = TRUE, .n_to_be_in = 1 };
      g_mutex_init (&slow.lock);
      g_mutex_lock (&slow.lock);
      slow.promises[0] = belay_promise_new ();
      threads[0] = slow_start (&slow, slow.promises[0]);
      while (g_atomic_int_get (&slow.n_in) == 0)
        g_usleep (100);
      if (way == 0)
        g_assert_true (belay_promise_resolve (slow.promises[0]));
      belay_promise_unref (slow.promises[0]);
      g_assert_cmpint (g_atomic_int_get (&forgotten), ==, way);
      g_mutex_unlock (&slow.lock);
      g_thread_join (threads[0]);
      g_assert_cmpint (g_atomic_int_get (&forgotten), ==, way + 1);
      g_mutex_clear (&slow.lock);
    }

  /* two that answer each other's promise */
  slow = (Slow) { .n_to_be_in = 2 };
  for (int i = 0; i < 2; i++)
    slow.promises[i] = belay_promise_new ();
  for (int i = 0; i < 2; i++)
    threads[i] = slow_start (&slow, slow.promises[i]);
  for (int i = 0; i < 2; i++)
    g_thread_join (threads[i]);
  g_assert_cmpint (g_atomic_int_get (&forgotten), ==, 4);
  for (int i = 0; i < 2; i++)
    belay_promise_unref (slow.promises[i]);
  g_assert_cmpint (sunk, ==, 0);
  tear_down ();
}

/* Promises in a row: each, asked to end, drops the next. 100,000 of them must fit on a fiber's small stack. */
typedef struct
{
  BelayPromise *promise;
  BelayFuture  *next;
} Link;

static void
drop_next (gpointer data)
{
  Link *link = data;

  asked++;
  g_clear_pointer (&link->next, belay_future_unref);
  belay_promise_unref (link->promise);
  g_free (link);
}

static gboolean
question_runs_along_a_chain (gpointer data, GError **error)
{
  BelayFuture *future = NULL;

  set_up ();
  for (int i = 0; i < 100000; i++)
    {
      Link *link = g_new (Link, 1);

      link->promise = belay_promise_new ();
      link->next = future;
      belay_promise_on_cancel (link->promise, drop_next, link, NULL);
      future = belay_promise_get_future (link->promise);
    }
  belay_future_unref (future);
  g_assert_cmpint (asked, ==, 100000);
  g_assert_cmpint (sunk, ==, 0);
  tear_down ();
  return TRUE;
}

/* --- errors that nobody looked at --- */

static void
unseen_error_goes_to_the_sink (void)
{
  BelayPromise *promise;
  BelayFuture *future;

  set_up ();
  belay_future_unref (belay_future_new_error (error_new ("unseen one")));
  g_assert_cmpint (sunk, ==, 1);
  g_assert_cmpstr (last_sunk, ==, "unseen one");

  promise = belay_promise_new ();
  future = belay_promise_get_future (promise);
  g_assert_true (belay_promise_reject (promise, error_new ("unseen two")));
  belay_future_ref (future);
  belay_future_unref (future);
  g_assert_cmpint (sunk, ==, 1);
  belay_future_unref (future); /* the last interest, while the writing end still is there */
  g_assert_cmpint (sunk, ==, 2);
  g_assert_cmpstr (last_sunk, ==, "unseen two");
  belay_future_unref (belay_promise_get_future (promise)); /* it was said */
  belay_promise_unref (promise);
  g_assert_cmpint (sunk, ==, 2);

  future = NULL;
  promise = belay_promise_new ();
  future = belay_promise_get_future (promise);
  belay_promise_unref (promise); /* broken, and not looked at */
  belay_future_unref (future);
  g_assert_cmpint (sunk, ==, 3);
  tear_down ();
}

/* Nobody is there any more when the work fails: then nobody else can be told. */
static void
late_error_goes_to_the_sink (void)
{
  BelayPromise *promise;

  set_up ();
  promise = belay_promise_new ();
  belay_future_unref (belay_promise_get_future (promise));
  g_assert_true (belay_promise_reject (promise, error_new ("late")));
  belay_promise_unref (promise);
  g_assert_cmpint (sunk, ==, 1);
  g_assert_cmpstr (last_sunk, ==, "late");

  promise = belay_promise_new ();
  belay_future_unref (belay_promise_get_future (promise));
  g_assert_true (belay_promise_reject (promise, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "as asked")));
  belay_promise_unref (promise);
  g_assert_cmpint (sunk, ==, 1);

  promise = belay_promise_new (); /* one that a later reader looks at */
  belay_future_unref (belay_promise_get_future (promise));
  g_assert_true (belay_promise_reject (promise, error_new ("looked at after all")));
  {
    g_autoptr (BelayFuture) future = belay_promise_get_future (promise);
    g_assert_nonnull (belay_future_get_error (future));
  }
  belay_promise_unref (promise);
  g_assert_cmpint (sunk, ==, 1);
  tear_down ();
}

static void
seen_error_does_not (void)
{
  BelayFuture *future;

  set_up ();
  for (int way = 0; way < 6; way++)
    {
      future = belay_future_new_error (error_new ("seen"));
      switch (way)
        {
        case 0: g_assert_nonnull (belay_future_get_error (future)); break;
        case 1: g_assert_false (belay_future_check (future, NULL)); break;
        case 2: g_assert_null (belay_future_take (future, NULL)); break;
        case 3: g_assert_false (belay_future_take_int64 (future, NULL, NULL)); break;
        case 4: g_assert_false (belay_future_wait_sync (future, NULL)); break;
        case 5:
          {
            gpointer value;
            g_assert_false (belay_future_take_pointer (future, &value, NULL));
            break;
          }
        }
      belay_future_unref (future);
    }
  belay_future_unref (belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_CANCELLED, "cancelled is no news"));
  g_assert_cmpint (sunk, ==, 0);

  future = belay_future_new_error (error_new ("is_rejected does not look at it"));
  g_assert_true (belay_future_is_rejected (future));
  belay_future_unref (future);
  g_assert_cmpint (sunk, ==, 1);
  tear_down ();
}

static void
own_sink_warns (void)
{
  belay_set_sink (NULL, NULL);
  g_test_expect_message ("Belay", G_LOG_LEVEL_WARNING, "*a future that was dropped*nobody*the message*");
  belay_future_unref (belay_future_new_error (error_new ("the message")));
  g_test_assert_expected_messages ();
}

/* --- misuse --- */

static void
wrong_kind (void)
{
  g_autoptr (BelayFuture) done = belay_future_new_done ();
  g_autoptr (BelayFuture) integer = belay_future_new_int64 (1);
  g_autoptr (BelayFuture) pointer = belay_future_new_pointer (&answer_thing, NULL);
  GError *error = NULL;

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*holds no pointer*");
  g_assert_null (belay_future_take (done, &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&error);
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*holds no pointer*");
  g_assert_null (belay_future_take (integer, NULL));
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*holds no integer*");
  g_assert_false (belay_future_take_int64 (pointer, NULL, &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&error);
  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*holds no floating-point number*");
  g_assert_false (belay_future_take_double (integer, NULL, &error));
  g_assert_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_clear_error (&error);
  g_test_assert_expected_messages ();
  g_assert_true (belay_future_take (pointer, NULL) == &answer_thing); /* the mistake took nothing */
}

static void
null_arguments (void)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  gpointer value;

#define FAILS(call) do { EXPECT_ASSERTION ("NULL"); call; g_test_assert_expected_messages (); } while (0)
  FAILS (g_assert_null (belay_future_ref (NULL)));
  FAILS (belay_future_unref (NULL));
  FAILS (g_assert_false (belay_future_is_pending (NULL)));
  FAILS (g_assert_false (belay_future_is_resolved (NULL)));
  FAILS (g_assert_false (belay_future_is_rejected (NULL)));
  FAILS (g_assert_null (belay_future_get_error (NULL)));
  FAILS (g_assert_null (belay_future_take (NULL, NULL)));
  FAILS (g_assert_false (belay_future_take_pointer (NULL, &value, NULL)));
  FAILS (g_assert_false (belay_future_take_int64 (NULL, NULL, NULL)));
  FAILS (g_assert_false (belay_future_take_double (NULL, NULL, NULL)));
  FAILS (g_assert_false (belay_future_check (NULL, NULL)));
  FAILS (g_assert_false (belay_future_wait_sync (NULL, NULL)));
  FAILS (g_assert_null (belay_future_new_error (NULL)));
  FAILS (g_assert_null (belay_promise_ref (NULL)));
  FAILS (belay_promise_unref (NULL));
  FAILS (g_assert_null (belay_promise_get_future (NULL)));
  FAILS (g_assert_false (belay_promise_resolve (NULL)));
  FAILS (g_assert_false (belay_promise_resolve_int64 (NULL, 0)));
  FAILS (g_assert_false (belay_promise_resolve_double (NULL, 0)));
  FAILS (g_assert_false (belay_promise_resolve_pointer (NULL, NULL, NULL)));
  FAILS (g_assert_false (belay_promise_resolve_boxed (NULL, G_TYPE_STRING, NULL)));
  FAILS (g_assert_false (belay_promise_resolve_resource (promise, NULL)));
  FAILS (g_assert_false (belay_promise_reject (promise, NULL)));
  FAILS (belay_promise_on_cancel (NULL, count_asked, NULL, NULL));
  FAILS (belay_promise_set_borrowing (NULL));
#undef FAILS
  EXPECT_ASSERTION ("G_IS_OBJECT");
  g_assert_null (belay_future_new_object (NULL));
  EXPECT_ASSERTION ("G_IS_OBJECT");
  g_assert_false (belay_promise_resolve_object (promise, NULL));
  EXPECT_ASSERTION ("BOXED");
  g_assert_null (belay_future_new_boxed (G_TYPE_OBJECT, &answer_thing));
  EXPECT_ASSERTION ("BOXED");
  g_assert_false (belay_promise_resolve_boxed (promise, G_TYPE_INT, &answer_thing));
  g_test_assert_expected_messages ();
  g_assert_true (belay_promise_resolve (promise)); /* none of it answered */
}

/* Where NULL means an error, there is one. */
static void
null_future_is_an_error (void)
{
  for (int way = 0; way < 4; way++)
    {
      GError *local = NULL;

      EXPECT_ASSERTION ("NULL");
      switch (way)
        {
        case 0: g_assert_null (belay_future_take (NULL, &local)); break;
        case 1: g_assert_false (belay_future_check (NULL, &local)); break;
        case 2: g_assert_false (belay_future_take_int64 (NULL, NULL, &local)); break;
        case 3: g_assert_false (belay_future_wait_sync (NULL, &local)); break;
        }
      g_test_assert_expected_messages ();
      g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
      g_clear_error (&local);
    }
}

/* --- types --- */

static void
boxed_types (void)
{
  GValue value = G_VALUE_INIT;
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (promise);

  set_up ();
  g_assert_cmpstr (g_type_name (BELAY_TYPE_FUTURE), ==, "BelayFuture");
  g_assert_cmpstr (g_type_name (BELAY_TYPE_PROMISE), ==, "BelayPromise");
  g_assert_true (G_TYPE_IS_BOXED (BELAY_TYPE_FUTURE) && G_TYPE_IS_BOXED (BELAY_TYPE_PROMISE));

  belay_promise_on_cancel (promise, count_asked, &asked, NULL);
  g_value_init (&value, BELAY_TYPE_FUTURE);
  g_value_set_boxed (&value, future); /* a reference: an interest */
  belay_future_unref (future);
  g_assert_cmpint (asked, ==, 0);
  g_value_unset (&value);
  g_assert_cmpint (asked, ==, 1);

  g_value_init (&value, BELAY_TYPE_PROMISE);
  g_value_set_boxed (&value, promise);
  future = belay_promise_get_future (promise);
  belay_promise_unref (promise);
  g_assert_true (belay_future_is_pending (future));
  g_value_unset (&value);
  g_assert_true (belay_future_is_rejected (future));
  g_assert_nonnull (belay_future_get_error (future));
  belay_future_unref (future);
  tear_down ();
}

/* --- plain threads --- */

typedef struct
{
  BelayFuture *future;
  gboolean     ok;
  GError      *error;
  gint64       value;
} Waiting;

static gpointer
wait_in_thread (gpointer data)
{
  Waiting *waiting = data;

  waiting->ok = belay_future_wait_sync (waiting->future, &waiting->error);
  if (waiting->ok)
    g_assert_true (belay_future_take_int64 (waiting->future, &waiting->value, NULL));
  return NULL;
}

static void
wait_sync (void)
{
  for (int way = 0; way < 6; way++)
    {
      BelayPromise *promise = belay_promise_new ();
      Waiting waiting[2] = { { .future = belay_promise_get_future (promise) }, { .future = belay_promise_get_future (promise) } };
      GThread *threads[2];

      if (way == 2) /* known before anybody waits */
        g_assert_true (belay_promise_resolve_int64 (promise, 7));
      for (int i = 0; i < 2; i++)
        threads[i] = g_thread_new ("waits", wait_in_thread, &waiting[i]);
      if (way >= 3)
        g_usleep (2000);
      if (way % 3 == 0)
        g_assert_true (belay_promise_resolve_int64 (promise, 7));
      else if (way % 3 == 1)
        g_assert_true (belay_promise_reject (promise, error_new ("no")));
      belay_promise_unref (promise); /* way 5: broken */
      for (int i = 0; i < 2; i++)
        {
          g_thread_join (threads[i]);
          g_assert_cmpint (waiting[i].ok, ==, way % 3 == 0 || way == 2);
          if (waiting[i].ok)
            g_assert_cmpint (waiting[i].value, ==, 7);
          else if (way == 5)
            g_assert_error (waiting[i].error, BELAY_ERROR, BELAY_ERROR_BROKEN);
          else
            g_assert_error (waiting[i].error, G_IO_ERROR, G_IO_ERROR_EXISTS);
          g_clear_error (&waiting[i].error);
          belay_future_unref (waiting[i].future);
        }
    }
}

static gboolean
wait_sync_at_home (gpointer data, GError **error)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  g_autoptr (BelayFuture) pending = belay_promise_get_future (promise);
  g_autoptr (BelayFuture) known = belay_future_new_int64 (3);
  g_autoptr (GError) local = NULL;

  g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*belay_future_wait_sync*");
  g_assert_false (belay_future_wait_sync (pending, &local));
  g_test_assert_expected_messages ();
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_true (belay_future_is_pending (pending));
  g_assert_true (belay_future_wait_sync (known, NULL)); /* nothing to wait for, so nothing wrong */
  return belay_promise_resolve (promise);
}

/* A callback of the main loop on a thread that runs fibers is no better place than a fiber. */
static gboolean
wait_sync_in_callback (gpointer data)
{
  g_assert_true (wait_sync_at_home (NULL, NULL));
  g_main_loop_quit (data);
  return G_SOURCE_REMOVE;
}

static void
wait_sync_in_main_loop (void)
{
  g_autoptr (GMainLoop) loop = g_main_loop_new (NULL, FALSE);
  BelayFuture *delay = belay_future_delay (0); /* so that the default context is one of fibers */

  g_idle_add (wait_sync_in_callback, loop);
  g_main_loop_run (loop);
  while (belay_future_is_pending (delay))
    g_main_context_iteration (NULL, TRUE);
  belay_future_unref (delay);
}

static gboolean
succeed (gpointer data, GError **error)
{
  return TRUE;
}

static BelayFuture *
go_on (BelayFuture *future, gpointer data)
{
  return belay_future_new_int64 (1);
}

static gpointer
resolve_late (gpointer promise)
{
  g_usleep (2000);
  return GINT_TO_POINTER (belay_promise_resolve (promise));
}

/* The main thread, while nobody runs its loop: refused as long as something is to be done there. */
static void
wait_sync_before_the_loop (void)
{
  for (int way = 0; way < 3; way++)
    {
      g_autoptr (BelayPromise) promise = belay_promise_new ();
      g_autoptr (BelayFuture) promised = belay_promise_get_future (promise);
      g_autoptr (BelayFuture) future = NULL;
      g_autoptr (GError) error = NULL;
      GThread *thread;

      if (way == 0)
        future = belay_future_delay (1);
      else if (way == 1)
        future = belay_spawn (succeed, NULL);
      else
        future = belay_future_then (belay_future_ref (promised), go_on, NULL, NULL);
      g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, "*belay_future_wait_sync*");
      g_assert_false (belay_future_wait_sync (future, &error));
      g_test_assert_expected_messages ();
      g_assert_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE);
      if (way == 2)
        g_assert_true (belay_promise_resolve (promise));
      while (belay_future_is_pending (future) || g_main_context_pending (NULL))
        g_main_context_iteration (NULL, TRUE);
      g_assert_true (belay_future_check (future, NULL));

      /* Now there is nothing left to do at home, and what another thread does can be waited for. */
      thread = g_thread_new ("resolves", resolve_late, promise);
      g_assert_true (belay_future_wait_sync (promised, NULL));
      g_thread_join (thread);
    }
}

/* --- resources: a value that comes too late is released asynchronously --- */

typedef struct
{
  BelayPlain base;
  int       *closed;
} Thing;

static gboolean
thing_close (gpointer self, BelayReason reason, GError **error)
{
  g_assert_true (belay_in_fiber ());
  g_assert_true (belay_yield (NULL));
  ++*((Thing *) self)->closed;
  return TRUE;
}

static const BelayPlainClass thing_class = BELAY_PLAIN_CLASS ("Thing", thing_close, g_free);

static Thing *
thing_new (int *closed)
{
  Thing *thing = belay_plain_new (Thing, &thing_class);

  thing->closed = closed;
  return thing;
}

static gboolean
drain (GError **error)
{
  while (belay_get_n_pending () > 1) /* the one is belay_run's own */
    if (!belay_sleep (1, error))
      return FALSE;
  return TRUE;
}

static gboolean
resources (gpointer data, GError **error)
{
  BelayPromise *promise = belay_promise_new ();
  BelayFuture *future = belay_promise_get_future (promise);
  int closed = 0;
  Thing *thing;

  /* taken once */
  g_assert_true (belay_promise_resolve_resource (promise, thing_new (&closed)));
  thing = belay_future_take (future, NULL);
  g_assert_nonnull (thing);
  assert_taken_error (future, BELAY_ERROR, BELAY_ERROR_TAKEN);
  g_assert_true (belay_close (&thing, error));
  g_assert_cmpint (closed, ==, 1);

  /* too late: told so, and closed, but not here */
  g_assert_false (belay_promise_resolve_resource (promise, thing_new (&closed)));
  g_assert_cmpint (closed, ==, 1);
  if (!drain (error))
    return FALSE;
  g_assert_cmpint (closed, ==, 2);
  belay_future_unref (future);
  belay_promise_unref (promise);

  /* nobody took it */
  belay_future_unref (belay_resource_future (thing_new (&closed)));
  g_assert_cmpint (closed, ==, 2);
  if (!drain (error))
    return FALSE;
  g_assert_cmpint (closed, ==, 3);
  return TRUE;
}

/* Dropped by a thread that has nothing to do with fibers: it is closed at home all the same (L15). */
static gpointer
drop_in_thread (gpointer data)
{
  belay_future_unref (data);
  return NULL;
}

static gboolean
resource_dropped_elsewhere (gpointer data, GError **error)
{
  int closed = 0;

  g_thread_join (g_thread_new ("drops", drop_in_thread, belay_resource_future (thing_new (&closed))));
  if (!drain (error))
    return FALSE;
  g_assert_cmpint (closed, ==, 1);
  return TRUE;
}

int
main (int argc, char **argv)
{
  belay_test_init (&argc, &argv);
  g_test_add_func ("/future/known-from-the-start", known_from_the_start);
  g_test_add_func ("/future/null-is-a-value-only-where-it-can-be", null_value);
  g_test_add_func ("/future/rule-3-pointer-is-taken-once", pointer_is_taken_once);
  g_test_add_func ("/future/rule-3-objects-and-boxed-by-reference", objects_and_boxed_by_reference);
  g_test_add_func ("/future/L18-completes-once", completes_once);
  g_test_add_func ("/future/L18-no-lock-over-a-destroy-function", no_lock_over_destroy);
  g_test_add_func ("/future/value-without-a-reader-is-freed-once", value_without_reader);
  g_test_add_func ("/future/broken-promise", broken_promise);
  g_test_add_func ("/future/pending-cannot-be-taken", pending_cannot_be_taken);
  g_test_add_func ("/future/dropped-interest-asks-once", dropped_interest_asks_once);
  g_test_add_func ("/future/no-question-after-the-answer", no_question_after_the_answer);
  g_test_add_func ("/future/the-question-may-answer", the_question_may_answer);
  test_add_fiber ("/future/cancel-data-is-destroyed-once", cancel_data_is_destroyed_once);
  g_test_add_func ("/future/nobody-waits-for-an-on-cancel-that-runs", nobody_waits_for_on_cancel);
  test_add_fiber ("/future/a-question-along-100000-links-uses-no-stack", question_runs_along_a_chain);
  g_test_add_func ("/future/L9-unseen-error-goes-to-the-sink-once", unseen_error_goes_to_the_sink);
  g_test_add_func ("/future/L9-late-error-goes-to-the-sink-once", late_error_goes_to_the_sink);
  g_test_add_func ("/future/L9-seen-error-does-not", seen_error_does_not);
  g_test_add_func ("/future/own-sink-warns", own_sink_warns);
  g_test_add_func ("/future/wrong-kind-is-misuse", wrong_kind);
  g_test_add_func ("/future/null-arguments-are-misuse", null_arguments);
  g_test_add_func ("/future/null-for-a-future-is-an-error", null_future_is_an_error);
  g_test_add_func ("/future/boxed-types", boxed_types);
  g_test_add_func ("/future/wait-sync", wait_sync);
  test_add_fiber ("/future/wait-sync-refused-in-a-fiber", wait_sync_at_home);
  g_test_add_func ("/future/wait-sync-refused-in-a-callback", wait_sync_in_main_loop);
  g_test_add_func ("/future/wait-sync-refused-before-the-loop-runs", wait_sync_before_the_loop);
  belay_test_add_func ("/future/L18-late-resource-is-closed", resources);
  belay_test_explore ("/future/L18-late-resource-is-closed/seeded", resources);
  belay_test_add_func ("/future/L15-resource-dropped-elsewhere-is-closed-at-home", resource_dropped_elsewhere);
  belay_test_explore ("/future/L15-resource-dropped-elsewhere-is-closed-at-home/seeded", resource_dropped_elsewhere);
  return g_test_run ();
}
