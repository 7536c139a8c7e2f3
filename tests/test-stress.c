/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Real threads against each other: resolving, awaiting, cancelling, dropping, all at once.
 *
 * A *race* runs rounds: in each, some threads meet at a barrier and then each does its part; one checks what must be
 * true whoever was first. The rounds of each are bounded by TIME as well, so that all together takes a few seconds under
 * whatever tool. The sanitizers see what the counts do not.
 */
#include "support.h"

#include <sched.h>
#include <string.h>

#define TIME (400 * 1000)           /* µs for each test */
#define PATIENCE (60 * G_USEC_PER_SEC)

static int destroyed, asked, sunk; /* atomic */

static void
count_destroy (gpointer data)
{
  g_atomic_int_inc (&destroyed);
}

static void
count_sink (const GError *error, const char *what, const char *site, gpointer data)
{
  g_atomic_int_inc (&sunk);
}

/* --- races --- */

typedef struct
{
  void   (*act) (gpointer data, int who);
  gpointer data;
  int      n;
  gboolean abreast;        /* all at once, as well as can be; else by chance a little apart */
  int      arrived, round; /* atomic */
  int      over;           /* atomic */
} Race;

typedef struct
{
  Race *race;
  int   who;
} Racer;

static void
meet (Race *race)
{
  int round = g_atomic_int_get (&race->round);

  if (g_atomic_int_add (&race->arrived, 1) == race->n - 1)
    {
      g_atomic_int_set (&race->arrived, 0);
      g_atomic_int_inc (&race->round);
    }
  else
    {
      for (int spins = 0; g_atomic_int_get (&race->round) == round; spins++)
        if (spins > 100)
          sched_yield ();
    }
}

/* A little later, by chance, so that everybody is first at times. */
static void
stumble (GRand *rand)
{
  volatile int n = g_rand_int_range (rand, 0, 300);

  while (n > 0)
    n--;
}

static gpointer
run_racer (gpointer data)
{
  Racer *self = data;
  GRand *rand = g_rand_new_with_seed ((guint32) self->who + 1);

  for (;;)
    {
      meet (self->race);
      if (g_atomic_int_get (&self->race->over))
        break;
      if (!self->race->abreast)
        stumble (rand);
      self->race->act (self->race->data, self->who);
      meet (self->race);
    }
  g_rand_free (rand);
  return NULL;
}

/* The calling thread is racer 0; before and after are called by it alone. A negative number of racers runs abreast. */
static void
race (int n, int rounds, void (*before) (gpointer), void (*act) (gpointer, int), void (*after) (gpointer), gpointer data)
{
  Race self = { act, data, ABS (n), n < 0, 0, 0, 0 };
  gint64 end = g_get_monotonic_time () + TIME;
  GRand *rand = g_rand_new_with_seed (0);
  Racer racers[8];
  GThread *threads[8];
  int round;

  n = self.n;
  for (int i = 1; i < n; i++)
    {
      racers[i] = (Racer) { &self, i };
      threads[i] = g_thread_new ("racer", run_racer, &racers[i]);
    }
  for (round = 0; round < rounds && g_get_monotonic_time () < end; round++)
    {
      before (data);
      meet (&self);
      if (!self.abreast)
        stumble (rand);
      act (data, 0);
      meet (&self);
      after (data);
    }
  g_atomic_int_set (&self.over, 1);
  meet (&self);
  for (int i = 1; i < n; i++)
    g_thread_join (threads[i]);
  g_rand_free (rand);
  g_test_message ("%d rounds", round);
}

/* --- L18: who completes --- */

typedef struct
{
  BelayPromise *promise;
  BelayFuture  *future;
  int           won; /* atomic */
  int           values[8];
} Completion;

static void
completion_before (gpointer data)
{
  Completion *self = data;

  destroyed = 0;
  self->won = 0;
  self->promise = belay_promise_new ();
  self->future = belay_promise_get_future (self->promise);
}

static void
completion_act (gpointer data, int who)
{
  Completion *self = data;

  if (who == 3 ? belay_promise_reject (self->promise, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_EXISTS, "three"))
               : belay_promise_resolve_pointer (self->promise, &self->values[who], count_destroy))
    g_atomic_int_inc (&self->won);
}

static void
completion_after (gpointer data)
{
  Completion *self = data;
  gpointer value;

  g_assert_cmpint (self->won, ==, 1);
  value = belay_future_take (self->future, NULL);
  g_assert_cmpint (destroyed, ==, value != NULL ? 2 : 3);
  belay_future_unref (self->future);
  belay_promise_unref (self->promise);
  g_assert_cmpint (destroyed, ==, value != NULL ? 2 : 3);
}

static void
completes_once (void)
{
  Completion self;

  race (4, 20000, completion_before, completion_act, completion_after, &self);
}

/* One takes, one takes too: a pointer goes to one of them. */
static void
take_before (gpointer data)
{
  Completion *self = data;

  self->won = destroyed = 0;
  self->future = belay_future_new_pointer (self, count_destroy);
}

static void
take_act (gpointer data, int who)
{
  Completion *self = data;

  if (belay_future_take (self->future, NULL) != NULL)
    g_atomic_int_inc (&self->won);
}

static void
take_after (gpointer data)
{
  Completion *self = data;

  g_assert_cmpint (self->won, ==, 1);
  belay_future_unref (self->future);
  g_assert_cmpint (destroyed, ==, 0);
}

static void
taken_once (void)
{
  Completion self;

  race (3, 20000, take_before, take_act, take_after, &self);
}

/* The references of one promise are dropped at once, unanswered: exactly then it is broken. */
static void
broken_before (gpointer data)
{
  Completion *self = data;

  self->promise = belay_promise_new ();
  belay_promise_ref (self->promise);
  self->future = belay_promise_get_future (self->promise);
}

static void
broken_act (gpointer data, int who)
{
  belay_promise_unref (((Completion *) data)->promise);
}

static void
broken_after (gpointer data)
{
  Completion *self = data;

  g_assert_true (belay_future_is_rejected (self->future));
  g_assert_error (belay_future_get_error (self->future), BELAY_ERROR, BELAY_ERROR_BROKEN);
  belay_future_unref (self->future);
}

static void
breaks_once (void)
{
  Completion self;

  race (-2, 200000, broken_before, broken_act, broken_after, &self);
}

/* --- interest --- */

/* What on_cancel uses lives as long as that runs, whatever becomes of the promise, and is destroyed once. */
typedef struct
{
  BelayPromise *promise;
  BelayFuture  *futures[2];
  int           round;
} Interest;

static int forgotten; /* atomic */

static void
note_asked (gpointer data)
{
  int *alive = data;

  for (int i = 0; i < 50; i++)
    g_assert_cmpint (g_atomic_int_get (alive), ==, 1);
  g_atomic_int_inc (&asked);
}

static void
forget (gpointer data)
{
  int *alive = data;

  g_assert_true (g_atomic_int_compare_and_exchange (alive, 1, 0));
  g_free (alive);
  g_atomic_int_inc (&forgotten);
}

static void
interest_before (gpointer data)
{
  Interest *self = data;

  int *alive = g_new (int, 1);

  asked = destroyed = forgotten = 0;
  self->round++;
  *alive = 1;
  self->promise = belay_promise_new ();
  belay_promise_on_cancel (self->promise, note_asked, alive, forget);
  for (int i = 0; i < 2; i++)
    self->futures[i] = belay_promise_get_future (self->promise);
}

static void
interest_act (gpointer data, int who)
{
  Interest *self = data;

  if (who < 2)
    {
      belay_future_unref (self->futures[who]);
      return;
    }
  if (self->round % 3 != 0) /* else it is dropped without an answer */
    belay_promise_resolve_pointer (self->promise, self, count_destroy);
  belay_promise_unref (self->promise);
}

static void
interest_after (gpointer data)
{
  Interest *self = data;

  g_assert_cmpint (asked, <=, 1);
  g_assert_cmpint (forgotten, ==, 1);
  g_assert_cmpint (destroyed, ==, self->round % 3 != 0 ? 1 : 0);
}

static void
interest_ends (void)
{
  Interest self = { .round = 0 };

  race (3, 20000, interest_before, interest_act, interest_after, &self);
}

/* --- combinators: members settle on several threads while the result is dropped --- */

typedef struct
{
  BelayPromise *promises[3];
  BelayFuture  *result;
  int           round;
  int           drop;
} Combined;

static void
combined_before (gpointer data)
{
  Combined *self = data;
  BelayFuture *futures[3];

  destroyed = sunk = 0;
  for (int i = 0; i < 3; i++)
    {
      self->promises[i] = belay_promise_new ();
      futures[i] = belay_promise_get_future (self->promises[i]);
    }
  self->drop = (self->round / 4) % 2;
  switch (self->round++ % 4)
    {
    case 0: self->result = belay_future_allv (futures, 3); break;
    case 1: self->result = belay_future_all_settledv (futures, 3); break;
    case 2: self->result = belay_future_anyv (futures, 3); break;
    case 3: self->result = belay_future_racev (futures, 3); break;
    }
}

static void
combined_act (gpointer data, int who)
{
  Combined *self = data;

  if (who == 0)
    {
      if (self->drop)
        g_clear_pointer (&self->result, belay_future_unref);
      return;
    }
  if (who == 2 && self->round % 3 == 0)
    belay_promise_reject (self->promises[who - 1], g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED, "two"));
  else
    belay_promise_resolve_pointer (self->promises[who - 1], self, count_destroy);
  belay_promise_unref (self->promises[who - 1]);
}

static void
combined_after (gpointer data)
{
  Combined *self = data;
  int n = 3 - (self->round % 3 == 0);

  if (self->result != NULL)
    {
      g_assert_false (belay_future_is_pending (self->result));
      belay_future_get_error (self->result);
      g_clear_pointer (&self->result, belay_future_unref);
    }
  g_assert_cmpint (destroyed, ==, n);
}

static void
combined (void)
{
  Combined self = { { NULL } };

  race (4, 20000, combined_before, combined_act, combined_after, &self);
}

/* A race takes the value of the one that won. The other's is never gone, not even for a moment. */
typedef struct
{
  BelayPromise *promises[2];
  BelayFuture  *futures[2];
  BelayFuture  *result;
  int           values[2];
  gboolean      got[2];
} Loser;

static void
loser_before (gpointer data)
{
  Loser *self = data;

  for (int i = 0; i < 2; i++)
    {
      self->promises[i] = belay_promise_new ();
      self->futures[i] = belay_promise_get_future (self->promises[i]);
    }
  self->result = belay_future_race (belay_future_ref (self->futures[0]), belay_future_ref (self->futures[1]), NULL);
}

static void
loser_act (gpointer data, int who)
{
  Loser *self = data;

  if (who < 2)
    belay_promise_resolve_pointer (self->promises[who], &self->values[who], NULL);
  else
    while (belay_future_is_pending (self->futures[who - 2]))
      ;
  if (who >= 2)
    self->got[who - 2] = belay_future_take (self->futures[who - 2], NULL) != NULL;
}

static void
loser_after (gpointer data)
{
  Loser *self = data;
  gpointer won = belay_future_take (self->result, NULL);

  for (int i = 0; i < 2; i++)
    {
      g_assert_true (self->got[i] == (won != &self->values[i]));
      belay_future_unref (self->futures[i]);
      belay_promise_unref (self->promises[i]);
    }
  belay_future_unref (self->result);
}

static void
loser_keeps (void)
{
  Loser self;

  race (-4, 100000, loser_before, loser_act, loser_after, &self);
}

/* The members settle while the combination is being made. */
static void
made_before (gpointer data)
{
  Combined *self = data;

  destroyed = 0;
  self->round++;
  for (int i = 0; i < 3; i++)
    self->promises[i] = belay_promise_new ();
}

static void
made_act (gpointer data, int who)
{
  Combined *self = data;
  BelayFuture *futures[3];

  if (who > 0)
    {
      belay_promise_resolve_pointer (self->promises[who - 1], self, count_destroy);
      return;
    }
  for (int i = 0; i < 3; i++)
    futures[i] = belay_promise_get_future (self->promises[i]);
  switch (self->round % 4)
    {
    case 0: self->result = belay_future_allv (futures, 3); break;
    case 1: self->result = belay_future_all_settledv (futures, 3); break;
    case 2: self->result = belay_future_anyv (futures, 3); break;
    case 3: self->result = belay_future_racev (futures, 3); break;
    }
}

static void
made_after (gpointer data)
{
  Combined *self = data;

  g_assert_true (belay_future_is_resolved (self->result));
  g_clear_pointer (&self->result, belay_future_unref);
  for (int i = 0; i < 3; i++)
    belay_promise_unref (self->promises[i]);
  g_assert_cmpint (destroyed, ==, 3);
}

static void
combined_while_made (void)
{
  Combined self = { { NULL } };

  race (4, 20000, made_before, made_act, made_after, &self);
}

/* --- continuations and time-outs: a home that runs, and others that settle and drop --- */

typedef struct
{
  BelayPromise *promise, *inner;
  BelayFuture  *result;
  int           round;
} Continued;

static BelayFuture *
adopt_inner (BelayFuture *done, gpointer data)
{
  return belay_promise_get_future (((Continued *) data)->inner);
}

static void
run_home (int turns)
{
  for (int i = 0; i < turns; i++)
    g_main_context_iteration (NULL, FALSE);
}

static void
continued_before (gpointer data)
{
  Continued *self = data;

  destroyed = 0;
  self->round++;
  self->promise = belay_promise_new ();
  self->inner = belay_promise_new ();
  self->result = belay_future_then (belay_promise_get_future (self->promise), adopt_inner, self, NULL);
  if (self->round % 3 == 0)
    belay_promise_resolve (self->promise);
  if (self->round % 2 == 0)
    self->result = belay_future_with_timeout (self->result, self->round % 5 == 0 ? 0 : 1000);
}

static void
continued_act (gpointer data, int who)
{
  Continued *self = data;

  switch (who)
    {
    case 0: run_home (5); break;
    case 1: belay_promise_resolve_pointer (self->inner, self, count_destroy); break;
    case 2: g_clear_pointer (&self->result, belay_future_unref); break;
    default: belay_promise_resolve (self->promise); break;
    }
}

static void
continued_after (gpointer data)
{
  Continued *self = data;

  run_home (10);
  belay_promise_unref (self->promise);
  belay_promise_unref (self->inner);
  g_assert_cmpint (destroyed, ==, 1);
}

static void
continued (void)
{
  Continued self = { NULL };

  race (4, 10000, continued_before, continued_act, continued_after, &self);
}

/* A plain thread makes time-outs that the main thread's loop lets expire at once. */
static void
timed_before (gpointer data)
{
  Continued *self = data;

  self->round++;
  self->promise = belay_promise_new ();
}

static void
timed_act (gpointer data, int who)
{
  Continued *self = data;

  switch (who)
    {
    case 0: run_home (5); break;
    case 1:
      self->result = belay_future_with_timeout (belay_promise_get_future (self->promise), 0);
      if (self->round % 2 == 0)
        g_clear_pointer (&self->result, belay_future_unref);
      break;
    default: belay_promise_resolve (self->promise); break;
    }
}

static void
timed_after (gpointer data)
{
  Continued *self = data;
  gint64 end = g_get_monotonic_time () + PATIENCE;

  belay_promise_unref (self->promise);
  while (self->result != NULL && belay_future_is_pending (self->result))
    {
      g_main_context_iteration (NULL, FALSE);
      g_assert_cmpint (g_get_monotonic_time (), <, end);
    }
  run_home (3);
  if (self->result != NULL)
    belay_future_get_error (self->result);
  g_clear_pointer (&self->result, belay_future_unref);
}

static void
timed (void)
{
  Continued self = { NULL };

  race (-3, 20000, timed_before, timed_act, timed_after, &self);
}

/* --- many loops, many fibers, one semaphore --- */

typedef struct
{
  BelaySemaphore *semaphore;
  gint64          end;
  int             inside, most, done, timed_out; /* atomic */
  int             permits;
} Crossing;

static gboolean
cross (gpointer data, GError **error)
{
  Crossing *self = data;
  GRand *rand = g_rand_new_with_seed ((guint32) GPOINTER_TO_UINT (g_thread_self ()) + 7);

  while (g_get_monotonic_time () < self->end)
    {
      belay_auto (BelayTimeout) timeout = g_rand_int_range (rand, 0, 3) ? NULL : belay_timeout (g_rand_int_range (rand, 0, 2));
      belay_auto (BelayPermit) permit = NULL;
      int inside;

      permit = belay_semaphore_acquire (self->semaphore, NULL);
      if (permit == NULL)
        {
          g_atomic_int_inc (&self->timed_out);
          continue;
        }
      inside = g_atomic_int_add (&self->inside, 1) + 1;
      g_assert_cmpint (inside, <=, self->permits);
      if (g_rand_int_range (rand, 0, 4) == 0)
        belay_yield (NULL);
      g_atomic_int_add (&self->inside, -1);
      g_atomic_int_inc (&self->done);
      if (g_rand_int_range (rand, 0, 50) == 0)
        {
          belay_release (&permit);
          belay_release (&timeout);
          belay_sleep (1, NULL);
        }
    }
  g_rand_free (rand);
  return TRUE;
}

static gboolean
semaphore (gpointer data, GError **error)
{
  for (int permits = 1; permits <= 3; permits += 2)
    {
      g_autoptr (BelaySemaphore) shared = belay_semaphore_new ((guint) permits);
      Crossing crossing = { .semaphore = shared, .end = g_get_monotonic_time () + TIME / 2, .permits = permits };
      BelayFuture *futures[12];
      belay_auto (BelayLoop) one = belay_loop_new ("crossing one");
      belay_auto (BelayLoop) two = belay_loop_new ("crossing two");

      for (int i = 0; i < 12; i++)
        futures[i] = i % 3 == 0 ? belay_spawn (cross, &crossing) : belay_loop_spawn (i % 3 == 1 ? one : two, cross, &crossing, NULL);
      g_assert_true (belay_await_ok (belay_future_allv (futures, 12), error));
      g_assert_cmpuint (belay_semaphore_get_available (shared), ==, (guint) permits);
      g_assert_cmpint (crossing.inside, ==, 0);
      g_test_message ("%d permits: %d crossings, %d given up", permits, crossing.done, crossing.timed_out);
      g_assert_cmpint (crossing.done, >, 0);
      if (!belay_close (&one, error) || !belay_close (&two, error))
        return FALSE;
    }
  return TRUE;
}

/* --- fibers on loops that wait, are cancelled and are answered by plain threads --- */

typedef struct
{
  BelayPromise *promise;
  int           outcome; /* atomic: counts values that came to a waiter */
} Shared;

static gboolean
await_and_count (gpointer data, GError **error)
{
  Shared *self = data;
  g_autoptr (GObject) object = belay_await (belay_promise_get_future (self->promise), error);

  if (object == NULL)
    return FALSE;
  g_atomic_int_inc (&self->outcome);
  return TRUE;
}

static gpointer
resolve_in_thread (gpointer data)
{
  Shared *self = data;

  sched_yield ();
  belay_promise_resolve_object (self->promise, g_object_new (G_TYPE_OBJECT, NULL));
  return NULL;
}

static gpointer
cancel_in_thread (gpointer data)
{
  belay_scope_cancel (data, "from another thread");
  belay_scope_set_timeout (data, 100);
  return NULL;
}

static gboolean
awaiting (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("awaiting");
  gint64 end = g_get_monotonic_time () + TIME;
  int round;

  for (round = 0; round < 2000 && g_get_monotonic_time () < end; round++)
    {
      Shared shared = { belay_promise_new (), 0 };
      BelayFuture *here[5], *there[5];
      GThread *resolver, *canceller;
      int ok = 0;

      {
        belay_auto (BelayScope) scope = belay_scope_begin ();

        for (int i = 0; i < 5; i++)
          {
            there[i] = belay_loop_spawn (loop, await_and_count, &shared, NULL);
            here[i] = belay_spawn (await_and_count, &shared);
          }
        resolver = g_thread_new ("resolves", resolve_in_thread, &shared);
        canceller = g_thread_new ("cancels", cancel_in_thread, scope);
        for (int i = 0; i < 5; i++)
          {
            belay_auto (BelayShield) shield = belay_shield ();
            ok += belay_await_ok (here[i], NULL);
          }
        g_thread_join (canceller);
        belay_scope_close (&scope, NULL);
      }
      for (int i = 0; i < 5; i++)
        ok += belay_await_ok (there[i], NULL);
      g_thread_join (resolver);
      g_assert_cmpint (g_atomic_int_get (&shared.outcome), ==, ok);
      g_assert_cmpint (ok, >=, 5);
      belay_promise_unref (shared.promise);
    }
  g_test_message ("%d rounds", round);
  return belay_close (&loop, error);
}

/* No wake-up is lost: one thread answers at any moment, the loop goes to sleep as soon as it can. */
static gpointer
answer_slowly (gpointer data)
{
  BelayPromise **promises = data;
  GRand *rand = g_rand_new_with_seed (5);

  for (int i = 0; promises[i] != NULL; i++)
    {
      for (volatile int n = g_rand_int_range (rand, 0, 20000); n > 0; n--)
        ;
      if (g_rand_int_range (rand, 0, 10) == 0)
        g_usleep (50);
      belay_promise_resolve (promises[i]);
    }
  g_rand_free (rand);
  return NULL;
}

static gboolean
wake_ups (gpointer data, GError **error)
{
  enum { N = 3000 };
  g_autofree BelayPromise **promises = g_new0 (BelayPromise *, N + 1);
  BelayFuture *futures[N];
  GThread *thread;

  for (int i = 0; i < N; i++)
    {
      promises[i] = belay_promise_new ();
      futures[i] = belay_promise_get_future (promises[i]);
    }
  thread = g_thread_new ("answers", answer_slowly, promises);
  for (int i = 0; i < N; i++)
    {
      belay_auto (BelayTimeout) timeout = belay_timeout (30000);
      g_assert_true (belay_await_ok (futures[i], error));
    }
  g_thread_join (thread);
  for (int i = 0; i < N; i++)
    belay_promise_unref (promises[i]);
  return TRUE;
}

/* --- jobs: given, waited for, timed out, dropped; borrowed memory on the fiber's own stack --- */

typedef struct
{
  gint64       end;
  BelaySerial *serial;
  int          given, begun, freed_data, made, freed_values, taken; /* atomic */
  int          in_serial;
} Jobs;

static gboolean
scribble (gpointer data, GError **error)
{
  char *memory = data;

  for (int i = 0; i < 64; i++)
    {
      memset (memory, i, 64);
      if (g_cancellable_set_error_if_cancelled (belay_worker_cancellable (), error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
alone (gpointer data, GError **error)
{
  Jobs *jobs = data;

  g_assert_cmpint (g_atomic_int_add (&jobs->in_serial, 1), ==, 0);
  g_atomic_int_add (&jobs->in_serial, -1);
  return TRUE;
}

typedef struct
{
  Jobs *jobs;
} Piece;

static void
piece_free (gpointer data)
{
  g_atomic_int_inc (&((Piece *) data)->jobs->freed_data);
  g_free (data);
}

static void
value_free (gpointer data)
{
  g_atomic_int_inc (&((Piece *) data)->jobs->freed_values);
  g_free (data);
}

static gpointer
make_value (gpointer data, GError **error)
{
  Piece *piece = data, *value = g_new (Piece, 1);

  g_atomic_int_inc (&piece->jobs->begun);
  value->jobs = piece->jobs;
  g_atomic_int_inc (&piece->jobs->made);
  return value;
}

static BelayFuture *
give_owned (Jobs *jobs, gboolean serially)
{
  Piece *piece = g_new (Piece, 1);

  piece->jobs = jobs;
  g_atomic_int_inc (&jobs->given);
  return serially ? belay_serial_run_owned (jobs->serial, make_value, piece, piece_free, value_free)
                  : belay_thread_run_owned (make_value, piece, piece_free, value_free);
}

static gboolean
work (gpointer data, GError **error)
{
  Jobs *jobs = data;
  GRand *rand = g_rand_new_with_seed ((guint32) GPOINTER_TO_UINT (&rand));

  while (g_get_monotonic_time () < jobs->end)
    {
      belay_auto (BelayTimeout) timeout = g_rand_int_range (rand, 0, 2) ? belay_timeout (g_rand_int_range (rand, 0, 2)) : NULL;
      char memory[64];
      Piece *value;

      switch (g_rand_int_range (rand, 0, 6))
        {
        case 0: belay_await_ok (belay_thread_run (scribble, memory), NULL); break;
        case 1: belay_await_ok (belay_serial_run (jobs->serial, scribble, memory), NULL); break;
        case 2: belay_await_ok (belay_serial_run (jobs->serial, alone, jobs), NULL); break;
        case 3:
          value = belay_await (give_owned (jobs, g_rand_boolean (rand)), NULL);
          if (value != NULL)
            {
              g_atomic_int_inc (&jobs->taken);
              g_free (value);
            }
          break;
        case 4: belay_future_unref (give_owned (jobs, g_rand_boolean (rand))); break;
        case 5: belay_await_ok (belay_future_race (belay_thread_run (scribble, memory), belay_future_delay (0), NULL), NULL); break;
        }
      memset (memory, 0xaa, sizeof memory);
    }
  g_rand_free (rand);
  return TRUE;
}

static gboolean
jobs (gpointer data, GError **error)
{
  g_autoptr (BelaySerial) serial = belay_serial_new ();
  Jobs all = { .end = g_get_monotonic_time () + TIME, .serial = serial };
  BelayFuture *futures[12];
  belay_auto (BelayLoop) one = belay_loop_new ("working one");
  belay_auto (BelayLoop) two = belay_loop_new ("working two");
  gint64 patience;

  for (int i = 0; i < 12; i++)
    futures[i] = i % 3 == 0 ? belay_spawn (work, &all) : belay_loop_spawn (i % 3 == 1 ? one : two, work, &all, NULL);
  g_assert_true (belay_await_ok (belay_future_allv (futures, 12), error));
  patience = g_get_monotonic_time () + PATIENCE;
  while (g_atomic_int_get (&all.freed_data) < g_atomic_int_get (&all.given) ||
         g_atomic_int_get (&all.freed_values) + g_atomic_int_get (&all.taken) < g_atomic_int_get (&all.made))
    {
      g_assert_true (belay_sleep (1, error));
      g_assert_cmpint (g_get_monotonic_time (), <, patience);
    }
  g_assert_cmpint (all.freed_data, ==, all.given);
  g_assert_cmpint (all.made, ==, all.begun);
  g_test_message ("%d owned jobs, %d began, %d values taken", all.given, all.begun, all.taken);
  return belay_close (&one, error) && belay_close (&two, error);
}

/* --- loops come and go, fibers on them are spawned, dropped and cancelled from several threads --- */

typedef struct
{
  BelayLoop *loop;
  gint64     end;
  int        freed, given, ran; /* atomic */
} Spawning;

static gboolean
short_fiber (gpointer data, GError **error)
{
  Spawning *self = data;

  g_atomic_int_inc (&self->ran);
  return belay_yield (error) && belay_sleep (g_atomic_int_get (&self->ran) % 3, error);
}

static void
spawning_free (gpointer data)
{
  g_atomic_int_inc (&((Spawning *) data)->freed);
}

static gpointer
spawn_and_drop (gpointer data)
{
  Spawning *self = data;

  for (int i = 0; g_get_monotonic_time () < self->end; i++)
    {
      BelayFuture *future = belay_loop_spawn (self->loop, short_fiber, self, spawning_free);

      g_atomic_int_inc (&self->given);
      if (i % 3 == 0)
        belay_future_wait_sync (future, NULL);
      else if (i % 3 == 1)
        sched_yield ();
      belay_future_unref (future);
    }
  return NULL;
}

static gboolean
spawning (gpointer data, GError **error)
{
  for (int round = 0; round < 8; round++)
    {
      Spawning self = { .loop = belay_loop_new ("spawning"), .end = g_get_monotonic_time () + TIME / 8 };
      GThread *threads[3];

      for (int i = 0; i < 3; i++)
        threads[i] = g_thread_new ("spawns", spawn_and_drop, &self);
      while (g_get_monotonic_time () < self.end)
        g_assert_true (belay_sleep (1, error));
      for (int i = 0; i < 3; i++)
        g_thread_join (threads[i]);
      if (!belay_close (&self.loop, error))
        return FALSE;
      g_assert_cmpint (self.freed, ==, self.given);
    }
  return TRUE;
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  belay_set_sink (count_sink, NULL);
  g_test_add_func ("/stress/L18-completes-once", completes_once);
  g_test_add_func ("/stress/taken-once", taken_once);
  g_test_add_func ("/stress/breaks-once", breaks_once);
  g_test_add_func ("/stress/L18-interest-ends-while-it-is-answered", interest_ends);
  g_test_add_func ("/stress/combined", combined);
  g_test_add_func ("/stress/L21-value-of-a-loser-is-never-gone", loser_keeps);
  g_test_add_func ("/stress/combined-while-made", combined_while_made);
  g_test_add_func ("/stress/continued", continued);
  g_test_add_func ("/stress/timed", timed);
  test_add_fiber ("/stress/L32-semaphore-across-loops", semaphore);
  test_add_fiber ("/stress/awaiting", awaiting);
  test_add_fiber ("/stress/no-wake-up-is-lost", wake_ups);
  test_add_fiber ("/stress/jobs", jobs);
  test_add_fiber ("/stress/spawning", spawning);
  return g_test_run ();
}
