/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A deterministic exploration: small concurrent programs, each run under many seeds by the test kit.
 *
 * What each scenario asserts is what must hold whatever the order: counts, conservation, and times, which the virtual
 * clock makes exact. `trace` notes the order of events for the scenario that checks that a run can be repeated.
 */
#include "support.h"

#include <belay/belay-test.h>
#include <string.h>

#define ROUNDS 3

static guint32 trace;

static int
chance (int n)
{
  return (int) belay_test_chance ((guint) n);
}

static void
note (int event)
{
  trace = (trace ^ (guint32) event) * 16777619u;
}

static gboolean
is_interruption (const GError *error)
{
  return g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) || g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
}

/* --- a resource that counts --- */

static int opened, closed;

typedef struct
{
  BelayPlain base;
  int        ms;
} Thing;

static gboolean
thing_close (gpointer self, BelayReason reason, GError **error)
{
  int ms = ((Thing *) self)->ms;

  note (100 + (int) reason);
  if (ms > 0)
    g_assert_true (belay_sleep (ms, NULL)); /* shielded, whatever is going on */
  else
    g_assert_true (belay_yield (NULL));
  closed++;
  return TRUE;
}

static const BelayPlainClass thing_class = BELAY_PLAIN_CLASS ("Thing", thing_close, g_free);
BELAY_DEFINE_AUTO (Thing)

static gpointer
thing_make (gpointer data, GError **error)
{
  Thing *thing;

  if (!belay_sleep (GPOINTER_TO_INT (data), error))
    return NULL;
  thing = belay_plain_new (Thing, &thing_class);
  thing->ms = GPOINTER_TO_INT (data) % 3;
  opened++;
  return thing;
}

/* --- work that every scenario can do --- */

static BelaySemaphore *semaphore;
static int inside, n_permits;

static gboolean
count_up (gpointer data, GError **error)
{
  ++*(int *) data;
  return TRUE;
}

static gboolean
cross (GError **error)
{
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);

  if (permit == NULL)
    return FALSE;
  g_assert_cmpint (++inside, <=, n_permits);
  if (!belay_sleep (chance (3), error))
    {
      inside--;
      return FALSE;
    }
  inside--;
  return TRUE;
}

static gboolean
some_step (GError **error)
{
  int n = 0;

  switch (chance (8))
    {
    case 0: return belay_yield (error);
    case 1: return belay_sleep (chance (10), error);
    case 2: return cross (error);
    case 3:
      if (!belay_await_ok (belay_thread_run (count_up, &n), error))
        return FALSE;
      g_assert_cmpint (n, ==, 1);
      return TRUE;
    case 4: return belay_await_ok (belay_future_delay (chance (10)), error);
    case 5:
      {
        belay_auto (Thing) thing = belay_await (belay_open (thing_make, GINT_TO_POINTER (chance (5))), error);
        return thing != NULL && belay_yield (error);
      }
    case 6:
      {
        belay_auto (BelayShield) shield = belay_shield ();
        g_assert_true (belay_sleep (chance (3), NULL));
        return belay_yield (error);
      }
    default:
      {
        belay_auto (BelayTimeout) timeout = belay_timeout (chance (10));
        g_autoptr (GError) local = NULL;
        if (!belay_sleep (chance (10), &local) && !belay_timeout_expired (timeout))
          {
            g_propagate_error (error, g_steal_pointer (&local));
            return FALSE;
          }
        return TRUE;
      }
    }
}

static void
steps_begin (void)
{
  opened = closed = inside = 0;
  n_permits = 1 + chance (2);
  semaphore = belay_semaphore_new ((guint) n_permits);
}

static void
steps_end (void)
{
  g_assert_cmpint (opened, ==, closed);
  g_assert_cmpint (inside, ==, 0);
  g_assert_cmpuint (belay_semaphore_get_available (semaphore), ==, (guint) n_permits);
  g_clear_pointer (&semaphore, belay_semaphore_unref);
}

/* --- scenario: a tree of fibers, some of which fail --- */

static int alive;

static gboolean
grow (gpointer data, GError **error)
{
  int depth = GPOINTER_TO_INT (data), n = depth > 0 ? chance (4) : 0;
  BelayFuture *children[4];
  gboolean ok = TRUE;

  alive++;
  note (depth);
  for (int i = 0; i < n; i++)
    children[i] = belay_spawn (grow, GINT_TO_POINTER (depth - 1));
  for (int i = chance (4); i > 0 && ok; i--)
    ok = some_step (error);
  if (ok && chance (12) == 0)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "one of the tree");
      ok = FALSE;
    }
  for (int i = 0; i < n; i++)
    if (!ok || chance (4) == 0)
      belay_future_unref (children[i]); /* it is joined at the end all the same */
    else
      ok = belay_await_ok (children[i], error);
  alive--;
  return ok;
}

static gboolean
tree (GError **error)
{
  GError *local = NULL;

  alive = 0;
  if (!belay_await_ok (belay_spawn (grow, GINT_TO_POINTER (4)), &local))
    {
      g_assert_true (g_error_matches (local, G_IO_ERROR, G_IO_ERROR_EXISTS) || is_interruption (local));
      g_clear_error (&local);
    }
  g_assert_cmpint (alive, ==, 0);
  return TRUE;
}

/* --- scenario: something is cancelled at any point of whatever it is doing --- */

static gboolean
walk (gpointer data, GError **error)
{
  belay_auto (Thing) thing = belay_await (belay_open (thing_make, GINT_TO_POINTER (chance (4))), error);

  if (thing == NULL)
    return FALSE;
  for (int i = 0; i < 8; i++)
    if (!some_step (error))
      return FALSE;
  return TRUE;
}

static gboolean
cancel_points (GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  BelayFuture *walkers[4];
  GError *local = NULL;

  for (int i = 0; i < 4; i++)
    walkers[i] = belay_spawn (walk, NULL);
  {
    belay_auto (BelayShield) shield = belay_shield ();
    for (int i = chance (20); i > 0; i--)
      g_assert_true (chance (3) ? belay_yield (NULL) : belay_sleep (chance (4), NULL));
    belay_scope_cancel (scope, "at any point");
    for (int i = 0; i < 4; i++)
      if (!belay_await_ok (walkers[i], &local))
        {
          g_assert_true (is_interruption (local));
          g_clear_error (&local);
        }
  }
  g_assert_false (belay_yield (NULL));
  belay_scope_close (&scope, NULL);
  return TRUE;
}

/* --- scenario: the same by deadlines, and whose they were --- */

static gboolean
nest (int depth, gint64 outer_deadline, GError **error)
{
  gint64 now = belay_now (), mine = now + chance (30) * 1000, effective = MIN (outer_deadline, mine);
  belay_auto (BelayTimeout) timeout = belay_timeout ((mine - now) / 1000);
  g_autoptr (GError) local = NULL;
  gboolean ok;

  if (depth > 0 && chance (3))
    {
      ok = nest (depth - 1, effective, &local);
    }
  else
    {
      gint64 end = now + chance (40) * 1000;

      ok = belay_sleep ((end - now) / 1000, &local);
      if (end > now)
        {
          g_assert_true (ok == (end <= effective)); /* what succeeds at the deadline has succeeded */
          g_assert_cmpint (belay_now (), ==, MIN (end, effective));
        }
    }
  if (!ok)
    {
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
      g_assert_cmpint (belay_now (), >=, effective);
    }
  if (belay_timeout_expired (timeout)) /* mine, and none around it */
    {
      g_assert_cmpint (belay_now (), ==, mine);
      g_assert_cmpint (mine, <, outer_deadline);
      return TRUE;
    }
  if (!ok)
    {
      g_propagate_error (error, g_steal_pointer (&local));
      return FALSE;
    }
  return TRUE;
}

static gboolean
nest_in_fiber (gpointer data, GError **error)
{
  for (int i = 0; i < 5; i++)
    g_assert_true (nest (4, G_MAXINT64, error));
  return TRUE;
}

static gboolean
deadlines (GError **error)
{
  BelayFuture *all[5];

  for (int i = 0; i < 5; i++)
    all[i] = belay_spawn (nest_in_fiber, NULL);
  return belay_await_ok (belay_future_allv (all, 5), error);
}

/* --- scenario: expressions of combinators, whose outcome is known beforehand --- */

typedef struct
{
  gint64 when;  /* µs from now */
  gint64 value; /* -1: failed, -2: timed out */
} Outcome;

static BelayFuture *
say (BelayFuture *done, gpointer data)
{
  gint64 value = GPOINTER_TO_INT (data);

  note ((int) value);
  if (value < 0)
    return belay_future_new_failed (G_IO_ERROR, G_IO_ERROR_EXISTS, "as expected");
  return belay_future_new_int64 (value);
}

/* Each leaf settles at an even millisecond of its own, each time-out at an odd one, so that there are no draws. */
static gint64 instants;

static BelayFuture *
expression (int depth, Outcome *outcome)
{
  Outcome a, b;
  BelayFuture *first, *second;
  int kind = depth > 0 ? chance (6) : 0;

  switch (kind)
    {
    default:
      instants++;
      outcome->when = 2 * (instants * 7 % 101 + instants % 7 * 101) * 1000;
      outcome->value = chance (4) ? chance (1000) : -1;
      return belay_future_then (belay_future_delay (outcome->when / 1000), say, GINT_TO_POINTER ((int) outcome->value), NULL);
    case 1:
    case 2:
      first = expression (depth - 1, &a);
      second = expression (depth - 1, &b);
      if (kind == 1)
        {
          *outcome = a.when < b.when ? a : b;
          return belay_future_race (first, second, NULL);
        }
      if (a.value >= 0 && b.value >= 0)
        *outcome = a.when < b.when ? a : b;
      else if (a.value >= 0 || b.value >= 0)
        *outcome = a.value >= 0 ? a : b;
      else
        *outcome = (Outcome) { MAX (a.when, b.when), a.when < b.when ? a.value : b.value };
      return belay_future_any (first, second, NULL);
    case 3:
      {
        gint64 ms = 2 * ((instants + 1) * 11 % 103 + (instants + 1) % 5 * 103) + 1;

        instants++;
        first = expression (depth - 1, &a);
        *outcome = a.when < ms * 1000 ? a : (Outcome) { ms * 1000, -2 };
        return belay_future_with_timeout (first, ms);
      }
    case 4:
      first = expression (depth - 1, &a);
      *outcome = (Outcome) { a.when, a.value < 0 ? 5 : a.value };
      return belay_future_catch (first, say, GINT_TO_POINTER (5), NULL);
    case 5:
      /* both must have settled: a member of all_settled is read by nobody here */
      first = expression (depth - 1, &a);
      second = expression (depth - 1, &b);
      *outcome = (Outcome) { MAX (a.when, b.when), 6 };
      return belay_future_then (belay_future_all_settled (first, second, NULL), say, GINT_TO_POINTER (6), NULL);
    }
}

static gboolean
evaluate (gpointer data, GError **error)
{
  gint64 begin = belay_now (), value = 0;
  Outcome outcome;
  BelayFuture *future;

  instants = chance (50);
  future = expression (3, &outcome);
  if (chance (4) == 0) /* nobody wants it, after a while */
    {
      belay_sleep (chance (50), NULL);
      belay_future_unref (future);
      return TRUE;
    }
  {
    g_autoptr (GError) local = NULL;
    gboolean ok = belay_await_int64 (future, &value, &local);

    g_assert_cmpint (belay_now () - begin, ==, outcome.when);
    g_assert_true (ok == (outcome.value >= 0));
    if (ok)
      g_assert_cmpint (value, ==, outcome.value);
    else if (outcome.value == -2)
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
    else
      g_assert_error (local, G_IO_ERROR, G_IO_ERROR_EXISTS);
  }
  return TRUE;
}

static gboolean
combinators (GError **error)
{
  for (int i = 0; i < 10; i++)
    if (!belay_await_ok (belay_spawn (evaluate, NULL), error))
      return FALSE;
  /* and side by side, where only the times matter that each sees for itself */
  return TRUE;
}

/* --- scenario: jobs, serial queues, borrowed memory --- */

static BelaySerial *serial;
static int last_given, last_run, n_data, n_values;

static gboolean
run_serially (gpointer data, GError **error)
{
  g_assert_cmpint (last_run, <, GPOINTER_TO_INT (data)); /* in order; some were taken back */
  last_run = GPOINTER_TO_INT (data);
  return TRUE;
}

static gpointer
make_something (gpointer data, GError **error)
{
  g_assert_cmpint (*(int *) data, ==, 77);
  n_values++;
  return &n_values;
}

static void
free_data (gpointer data)
{
  n_data--;
  g_free (data);
}

static void
free_value (gpointer data)
{
  n_values--;
}

static gboolean
scribble (gpointer data, GError **error)
{
  memset (data, 3, 64);
  return !g_cancellable_set_error_if_cancelled (belay_worker_cancellable (), error);
}

static gboolean
give_jobs (gpointer data, GError **error)
{
  for (int i = 0; i < 10; i++)
    {
      belay_auto (BelayTimeout) timeout = chance (2) ? belay_timeout (chance (3)) : NULL;
      char memory[64] = { 0 };
      int *owned;

      switch (chance (5))
        {
        case 0:
          belay_await_ok (belay_serial_run (serial, run_serially, GINT_TO_POINTER (++last_given)), NULL);
          break;
        case 1:
          if (belay_await_ok (belay_serial_run (serial, scribble, memory), NULL))
            g_assert_cmpint (memory[63], ==, 3);
          break;
        case 2:
          owned = g_new (int, 1);
          *owned = 77;
          n_data++;
          if (belay_await (chance (2) ? belay_thread_run_owned (make_something, owned, free_data, free_value)
                                      : belay_serial_run_owned (serial, make_something, owned, free_data, free_value), NULL))
            n_values--;
          break;
        case 3:
          owned = g_new (int, 1);
          *owned = 77;
          n_data++;
          belay_future_unref (belay_serial_run_owned (serial, make_something, owned, free_data, free_value));
          break;
        case 4:
          belay_await_ok (belay_future_race (belay_thread_run (scribble, memory), belay_future_delay (0), NULL), NULL);
          break;
        }
      memset (memory, 0x55, sizeof memory);
      if (chance (3) == 0)
        {
          belay_auto (BelayShield) shield = belay_shield ();
          belay_yield (NULL);
        }
    }
  return TRUE;
}

static gboolean
jobs (GError **error)
{
  BelayFuture *all[5];

  serial = belay_serial_new ();
  last_given = last_run = n_data = n_values = 0;
  for (int i = 0; i < 5; i++)
    all[i] = belay_spawn (give_jobs, NULL);
  if (!belay_await_ok (belay_future_allv (all, 5), error))
    return FALSE;
  g_assert_true (belay_sleep (1000, error)); /* jobs that nobody waits for any more have their while, too */
  g_assert_cmpint (n_data, ==, 0);
  g_assert_cmpint (n_values, ==, 0);
  g_assert_cmpuint (belay_serial_get_n_waiting (serial), ==, 0);
  belay_serial_unref (serial);
  return TRUE;
}

/* --- scenario: one promise, several who answer, wait and leave --- */

typedef struct
{
  BelayPromise *promise;
  int           won, lost, values, asked;
} Prize;

static void
prize_free (gpointer data)
{
  ((Prize *) data)->values++;
}

static void
prize_asked (gpointer data)
{
  ((Prize *) data)->asked++;
}

static gboolean
answer (gpointer data, GError **error)
{
  Prize *self = data;

  for (int i = chance (4); i > 0; i--)
    belay_yield (NULL);
  if (belay_promise_resolve_pointer (self->promise, self, prize_free))
    self->won++;
  else
    self->lost++;
  return TRUE;
}

static gboolean
want (gpointer data, GError **error)
{
  Prize *self = data;
  belay_auto (BelayTimeout) timeout = chance (2) ? belay_timeout (chance (2)) : NULL;

  if (belay_await (belay_promise_get_future (self->promise), error) == NULL)
    return FALSE;
  self->values++; /* ours to free */
  return TRUE;
}

static gboolean
promises (GError **error)
{
  for (int round = 0; round < 5; round++)
    {
      Prize prize = { belay_promise_new (), 0, 0, 0, 0 };
      BelayFuture *all[8];
      int n = 1 + chance (3);

      belay_promise_on_cancel (prize.promise, prize_asked, &prize, NULL);
      for (int i = 0; i < 8; i++)
        all[i] = belay_spawn (i < n ? answer : want, &prize);
      g_assert_true (belay_await_ok (belay_future_all_settledv (all, 8), error));
      g_assert_cmpint (prize.won, ==, 1);
      g_assert_cmpint (prize.lost, ==, n - 1);
      g_assert_cmpint (prize.asked, <=, 1);
      belay_promise_unref (prize.promise);
      g_assert_cmpint (prize.values, ==, n); /* each value freed once, by a taker or by its destroy function */
    }
  return TRUE;
}

/* --- scenario: a group whose members spawn more, one of which may fail --- */

static int members, members_over;

static gboolean
member (gpointer data, GError **error)
{
  BelayScope *scope = data;

  for (int i = chance (3); i > 0 && members <= 40; i--)
    {
      members++;
      if (!belay_scope_spawn (scope, member, scope, NULL))
        members--; /* it is cancelled */
    }
  for (int i = chance (3); i > 0; i--)
    if (!some_step (error))
      {
        members_over++;
        return FALSE;
      }
  members_over++;
  if (chance (30) == 0)
    {
      g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_EXISTS, "a member");
      return FALSE;
    }
  return TRUE;
}

static void
unstarted (gpointer data)
{
}

static gboolean
group (GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  GError *local = NULL;
  int started = 0;

  members = members_over = 0;
  for (int i = 0; i < 4; i++)
    if (belay_scope_spawn (scope, member, scope, unstarted))
      started++;
  if (chance (3) == 0)
    belay_yield (NULL);
  if (chance (4) == 0)
    belay_scope_cancel (scope, "by the body");
  if (!belay_scope_close (&scope, &local))
    {
      g_assert_true (g_error_matches (local, G_IO_ERROR, G_IO_ERROR_EXISTS) || is_interruption (local));
      g_clear_error (&local);
    }
  else
    {
      g_assert_cmpint (members_over, ==, members + started);
    }
  return TRUE;
}

/* --- scenario: guards within guards, left by every road --- */

static int depth_now;

static gboolean
deferred (gpointer data, GError **error)
{
  g_assert_cmpint (depth_now, ==, GPOINTER_TO_INT (data)); /* newest first, one after the other */
  if (chance (2))
    g_assert_true (belay_sleep (chance (5), NULL));
  else
    g_assert_true (belay_yield (NULL));
  g_assert_cmpint (depth_now, ==, GPOINTER_TO_INT (data));
  depth_now--;
  return TRUE;
}

static gboolean
descend (int depth, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  for (int i = chance (3); i >= 0; i--)
    g_assert_true (belay_scope_defer (scope, deferred, GINT_TO_POINTER (++depth_now)));
  if (!some_step (error))
    return FALSE;
  if (depth > 0 && !descend (depth - 1, error))
    return FALSE;
  if (chance (3) == 0)
    return belay_scope_close (&scope, error);
  return TRUE;
}

static gboolean
descend_in_fiber (gpointer data, GError **error)
{
  return descend (4, error);
}

static gboolean
guards (GError **error)
{
  GError *local = NULL;

  depth_now = 0;
  {
    belay_auto (BelayTimeout) timeout = chance (2) ? belay_timeout (chance (20)) : NULL;
    if (!belay_await_ok (belay_spawn (descend_in_fiber, NULL), &local))
      {
        g_assert_true (is_interruption (local));
        g_clear_error (&local);
      }
  }
  /* the await may have been cut short; the fiber is joined by the end of this scope at the latest */
  for (int i = 0; depth_now > 0 && i < 1000; i++)
    g_assert_true (belay_sleep (1, error));
  g_assert_cmpint (depth_now, ==, 0);
  return TRUE;
}

/* --- scenario: callbacks of a scope, and its end --- */

static gboolean chain_over;
static int chained;

static gboolean
on_chain (BelayFuture *done, gpointer data, GError **error)
{
  g_assert_false (chain_over);
  g_assert_false (belay_future_is_pending (done));
  chained++;
  return TRUE;
}

static gboolean
chains (GError **error)
{
  for (int round = 0; round < 5; round++)
    {
      BelayScope *scope = belay_scope_new ();

      chain_over = FALSE;
      for (int i = 0; i < 6; i++)
        belay_scope_then (scope, belay_future_delay (chance (6)), on_chain, NULL);
      for (int i = chance (5); i > 0; i--)
        g_assert_true (belay_sleep (chance (3), error));
      if (chance (2))
        belay_scope_cancel (scope, NULL);
      chain_over = belay_scope_is_cancelled (scope);
      {
        BelayFuture *closing = belay_close_start (&scope);

        if (chance (2))
          belay_yield (NULL);
        belay_await_ok (closing, NULL);
        chain_over = TRUE;
      }
      g_assert_true (belay_sleep (10, error));
    }
  return TRUE;
}

/* --- running them --- */

typedef struct
{
  const char *name;
  gboolean  (*run) (GError **error);
} Scenario;

static const Scenario scenarios[] = {
  { "a-tree-of-fibers", tree },
  { "L4-cancelled-at-any-point", cancel_points },
  { "L24-deadlines-nest", deadlines },
  { "combinators-by-the-clock", combinators },
  { "jobs-and-serial-queues", jobs },
  { "L18-one-promise", promises },
  { "L26-a-group", group },
  { "L2-guards-newest-first", guards },
  { "chains-end-with-their-scope", chains },
};

/* What the runs of each scenario noted, by the seed: the same seed is the same run, whatever ran in between. */
static GHashTable *traces;

static void
compare_trace (const char *name)
{
  char *key = g_strdup_printf ("%s %u", name, belay_test_get_seed ());
  guint32 mine = trace ^ belay_test_get_trace ();
  gpointer before;

  if (g_hash_table_lookup_extended (traces, key, NULL, &before))
    g_assert_cmpuint (GPOINTER_TO_UINT (before), ==, mine);
  g_hash_table_insert (traces, key, GUINT_TO_POINTER (mine));
}

static gboolean
run_scenario (gpointer data, GError **error)
{
  const Scenario *scenario = data;

  trace = 0;
  for (int round = 0; round < ROUNDS; round++)
    {
      steps_begin ();
      if (!scenario->run (error))
        return FALSE;
      belay_test_settle ();
      steps_end ();
    }
  g_free (belay_test_take_sunk ()); /* what fails while nobody waits */
  compare_trace (scenario->name);
  return TRUE;
}

static void
other_seeds_other_runs (void)
{
  g_autoptr (GHashTable) different = g_hash_table_new (NULL, NULL);
  GHashTableIter iter;
  gpointer value;

  for (g_hash_table_iter_init (&iter, traces); g_hash_table_iter_next (&iter, NULL, &value);)
    g_hash_table_add (different, value);
  g_assert_cmpuint (g_hash_table_size (different), >=, g_hash_table_size (traces) * 9 / 10);
}

int
main (int argc, char **argv)
{
  int status;

  traces = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  belay_test_init (&argc, &argv);
  for (guint i = 0; i < G_N_ELEMENTS (scenarios); i++)
    {
      g_autofree char *path = g_strconcat ("/seeds/", scenarios[i].name, NULL);
      g_autofree char *again = g_strconcat ("/seeds/again/", scenarios[i].name, NULL);

      belay_test_explore_data (path, &scenarios[i], run_scenario);
      belay_test_explore_data (again, &scenarios[i], run_scenario);
    }
  g_test_add_func ("/seeds/other-seeds-are-other-runs", other_seeds_other_runs);
  status = g_test_run ();
  g_hash_table_unref (traces);
  return status;
}
