/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The gates of a pool, all of them in all ways: what makes, checks, resets and ends its resources each does its work, fails,
 * hangs until it is told to stop, does not hear of that, or whoever waits for it is cancelled. 5⁴ runs, for a pool of one and
 * for a pool of two, in virtual time. A gate is as it is the first time that it is passed, and then it is open.
 *
 * In each run three come at once; then, when the resource has been idle for long, two more; then one alone; then the pool is closed.
 * Whatever the gates do, all but those that are told of a failure are served; nothing is ever more than its maximum; when all is quiet
 * nothing is held, and the next is served without a wait; and each resource ends once.
 */
#include "thing.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { CREATE, VALIDATE, RESET, DESTROY, N_GATES };
enum { WORKS, FAILS, HANGS, DEAF, CANCELLED, N_WAYS };

#define WORK    10    /* what each function takes, ms */
#define ANY     (-2)
#define BOUND   100   /* what it may take */
#define FOR_LONG 20000 /* until those that are deaf have ended, and validate is due */

static const char *const gate_names[N_GATES] = { "create", "validate", "reset", "destroy" };
static const char *const way_names[N_WAYS] = { "works", "fails", "hangs", "is deaf", "is cancelled" };

typedef struct
{
  guint n_destroyed, n_abandoned, n_freed;
} Item;

typedef struct
{
  BelayPool *pool;
  guint      max;
  int        ways[N_GATES];
  guint      calls[N_GATES];
  guint      n_running; /* functions that have not returned */
  guint      n_told;    /* users that were told of the create that failed */
  GPtrArray *items;
} Matrix;

/* One that uses the pool. */
typedef struct
{
  Matrix     *matrix;
  BelayScope *scope, *own; /* what it runs in; the same, for itself */
  gboolean    falls; /* it is cancelled while it has a lease */
  GError     *error;
  gint64      served_at, ended_at;
} User;

static void
check_counts (Matrix *self)
{
  BelayPoolStats stats;

  belay_pool_get_stats (self->pool, &stats);
  g_assert_cmpuint (stats.idle + stats.used + stats.opening + stats.closing, <=, self->max);
}

/* No shield hides the time that a release has: there it comes to its end at once, and says that all is well. */
static gboolean
sleep_deaf (void)
{
  belay_auto (BelayShield) shield = belay_shield ();

  belay_sleep (FOR_LONG / 2, NULL);
  return TRUE;
}

/* What a function does for as long as it takes. */
static gboolean
pass (Matrix *self, int gate, GError **error)
{
  int way = self->calls[gate]++ == 0 ? self->ways[gate] : WORKS;
  gboolean ok = FALSE;

  check_counts (self);
  self->n_running++;
  switch (way)
    {
    case FAILS:
      if (belay_sleep (WORK, error))
        g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s fails", gate_names[gate]);
      break;
    case HANGS: ok = belay_sleep (G_MAXINT32, error); break;
    case DEAF: ok = sleep_deaf (); break;
    default: ok = belay_sleep (WORK, error);
    }
  self->n_running--;
  return ok;
}

static gpointer
create (const char *key, gpointer data, GError **error)
{
  Matrix *self = data;
  Item *item;

  if (!pass (self, CREATE, error))
    return NULL;
  item = g_new0 (Item, 1);
  g_ptr_array_add (self->items, item);
  return item;
}

static void
check_alive (Item *item)
{
  g_assert_cmpuint (item->n_destroyed + item->n_abandoned + item->n_freed, ==, 0);
}

static gboolean
validate (gpointer resource, gpointer data, GError **error)
{
  check_alive (resource);
  return pass (data, VALIDATE, error);
}

static gboolean
reset (gpointer resource, gpointer data, GError **error)
{
  check_alive (resource);
  return pass (data, RESET, error);
}

static gboolean
destroy (gpointer resource, gpointer data, GError **error)
{
  Item *item = resource;

  check_alive (item);
  item->n_destroyed++;
  return pass (data, DESTROY, error);
}

static void
abandon (gpointer resource, gpointer data)
{
  Item *item = resource;

  g_assert_cmpuint (item->n_abandoned++, ==, 0);
  g_assert_cmpuint (item->n_freed, ==, 0);
}

static void
free_item (gpointer resource, gpointer data)
{
  Item *item = resource;

  g_assert_cmpuint (item->n_freed++, ==, 0);
  g_assert_cmpuint (item->n_destroyed + item->n_abandoned, >, 0);
}

static void
watch (BelayPool *pool, BelayPoolEvent event, gpointer resource, const GError *error, gpointer data)
{
  check_counts (data);
}

/* --- who uses it --- */

static gboolean
use (gpointer data, GError **error)
{
  User *user = data;
  belay_auto (BelayLease) lease = belay_pool_acquire (user->matrix->pool, &user->error);

  user->served_at = now_ms ();
  if (lease == NULL)
    return TRUE;
  check_alive (belay_lease_get (lease));
  if (user->matrix->ways[RESET] == CANCELLED && user->matrix->calls[RESET] == 0 && !user->falls)
    {
      user->falls = TRUE;
      belay_scope_cancel (user->own, "in the middle of its work");
    }
  if (!belay_sleep (5, error))
    return FALSE;
  check_alive (belay_lease_get (lease));
  return TRUE;
}

static void
begin (User *user, Matrix *matrix)
{
  *user = (User) { matrix, belay_scope_new () };
  user->own = belay_scope_ref (user->scope);
  g_assert_true (belay_scope_spawn (user->scope, use, user, NULL));
}

/* What the first who waits is told. Where create does not hear that it has no more time, another is begun in its place, and nothing
 * has failed yet. */
static int
told_of_create (Matrix *self)
{
  switch (self->ways[CREATE])
    {
    case FAILS: return G_IO_ERROR_FAILED;
    case HANGS: return G_IO_ERROR_TIMED_OUT;
    case CANCELLED: return G_IO_ERROR_CANCELLED;
    default: return -1;
    }
}

/* How it went: nothing happened to it, or its acquire failed with @code; ANY: or it is the one that was told of the create. */
static void
finish (User *user, int code)
{
  g_autoptr (GError) error = NULL;

  belay_scope_close (&user->scope, &error);
  belay_scope_unref (user->own);
  user->ended_at = now_ms ();
  if (code == ANY)
    code = user->error == NULL || user->matrix->n_told++ > 0 ? -1 : told_of_create (user->matrix);
  if (code != -1)
    g_assert_error (user->error, G_IO_ERROR, code);
  else
    g_assert_no_error (user->error);
  if (error != NULL)
    g_assert_true (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED) && (user->falls || code == G_IO_ERROR_CANCELLED));
  g_clear_error (&user->error);
}

static guint
count_alive (Matrix *self)
{
  guint n = 0;

  for (guint i = 0; i < self->items->len; i++)
    n += ((Item *) self->items->pdata[i])->n_freed == 0;
  return n;
}

/* Nobody wants anything. */
static void
check_quiet (Matrix *self)
{
  BelayPoolStats stats;

  belay_pool_get_stats (self->pool, &stats);
  g_assert_cmpuint (stats.used + stats.opening + stats.closing + stats.waiting, ==, 0);
  g_assert_cmpuint (stats.idle, >=, 1);
  g_assert_cmpuint (stats.idle, <=, self->max);
}

/* The same, and nothing goes on, either. */
static void
check_at_rest (Matrix *self)
{
  BelayPoolStats stats;

  belay_sleep (FOR_LONG, NULL);
  check_quiet (self);
  belay_pool_get_stats (self->pool, &stats);
  g_assert_cmpuint (stats.stuck, ==, 0);
  g_assert_cmpuint (self->n_running, ==, 0);
  g_assert_cmpuint (count_alive (self), ==, stats.idle);
}

static gboolean
close_pool (gpointer data, GError **error)
{
  return belay_pool_close (data, error);
}

static void
close_matrix (Matrix *self)
{
  gboolean first = self->calls[DESTROY] == 0;
  gint64 started = now_ms ();
  g_autoptr (GError) error = NULL;

  if (self->ways[DESTROY] == CANCELLED)
    {
      belay_auto (BelayScope) scope = belay_scope_new ();
      g_autoptr (GError) cancelled = NULL;

      g_assert_true (belay_scope_spawn (scope, close_pool, self->pool, NULL));
      g_assert_true (belay_sleep (WORK / 2, NULL));
      belay_scope_cancel (scope, "has no patience");
      g_assert_false (belay_scope_close (&scope, &cancelled));
      g_assert_error (cancelled, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    }
  if (belay_pool_close (self->pool, &error))
    g_assert_true (!first || self->ways[DESTROY] == WORKS || self->ways[DESTROY] == CANCELLED);
  else
    g_assert_true (first && self->ways[DESTROY] != WORKS && self->ways[DESTROY] != CANCELLED);
  if (error != NULL && self->ways[DESTROY] == FAILS)
    g_assert_error (error, G_IO_ERROR, G_IO_ERROR_FAILED);
  else if (error != NULL)
    g_assert_error (error, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - started, <=, BOUND + 2 * WORK);
}

static void
run_matrix (Matrix *self)
{
  BelayPoolOptions options = {
    .create = create, .validate = validate, .reset = reset, .destroy = destroy, .abandon = abandon, .free = free_item,
    .watch = watch, .max = self->max, .validate_after = 1000, .create_timeout = BOUND, .validate_timeout = BOUND,
    .reset_timeout = BOUND, .destroy_timeout = BOUND,
  };
  g_autoptr (GPtrArray) items = self->items = g_ptr_array_new_with_free_func (g_free);
  BelayPool *pool = self->pool = belay_pool_new (&options, self);
  User users[3];
  BelayPoolStats stats;
  gint64 started = now_ms ();
  gboolean any;
  g_autofree char *sunk = NULL;

  /* Three at once. */
  for (guint i = 0; i < 3; i++)
    begin (&users[i], self);
  if (self->ways[CREATE] == CANCELLED)
    {
      g_assert_true (belay_sleep (WORK / 2, NULL));
      belay_scope_cancel (users[0].scope, "does not wait any longer");
    }
  /* Where there may be two, the second may serve them all before the first has failed. */
  any = self->max > 1 && (self->ways[CREATE] == FAILS || self->ways[CREATE] == HANGS);
  finish (&users[0], any ? ANY : told_of_create (self));
  finish (&users[1], any ? ANY : -1);
  finish (&users[2], any ? ANY : -1);
  g_assert_cmpint (now_ms () - started, <, 5 * BOUND);
  if (self->ways[RESET] == WORKS && (self->ways[CREATE] == WORKS || self->ways[CREATE] == CANCELLED))
    g_assert_cmpuint (self->calls[CREATE], <=, self->max); /* what was being made for one who left went to another */
  g_assert_true (belay_sleep (2 * BOUND + 5 * WORK, NULL));
  check_quiet (self);
  check_at_rest (self);

  /* Two, after a long time. */
  started = now_ms ();
  begin (&users[0], self);
  begin (&users[1], self);
  if (self->ways[VALIDATE] == CANCELLED)
    {
      g_assert_true (belay_sleep (WORK / 2, NULL));
      belay_scope_cancel (users[0].scope, "does not wait any longer");
    }
  finish (&users[0], self->ways[VALIDATE] == CANCELLED ? G_IO_ERROR_CANCELLED : -1);
  finish (&users[1], -1);
  g_assert_cmpint (now_ms () - started, <, 5 * BOUND);
  g_assert_true (belay_sleep (2 * BOUND + 5 * WORK, NULL));
  check_quiet (self);

  /* One alone, soon: without a wait. */
  started = now_ms ();
  begin (&users[0], self);
  finish (&users[0], -1);
  g_assert_cmpint (users[0].served_at, ==, started);
  check_at_rest (self);

  close_matrix (self);
  belay_sleep (FOR_LONG, NULL);
  belay_pool_get_stats (pool, &stats);
  g_assert_cmpuint (stats.idle + stats.used + stats.opening + stats.closing + stats.waiting + stats.stuck, ==, 0);
  g_assert_cmpuint (self->n_running, ==, 0);
  g_assert_cmpuint (count_alive (self), ==, 0);
  for (guint i = 0; i < items->len; i++)
    g_assert_cmpuint (((Item *) items->pdata[i])->n_destroyed, <=, 1);
  belay_pool_unref (pool);
  sunk = thing_take_sunk (); /* failures to destroy that nobody waited for */
}

/* Said when an assertion ends the program. */
static char running[200];

static gboolean
run_all (gpointer data, GError **error)
{
  guint n = 0;

  for (int create_way = 0; create_way < N_WAYS; create_way++)
    for (int validate_way = 0; validate_way < N_WAYS; validate_way++)
      for (int reset_way = 0; reset_way < N_WAYS; reset_way++)
        for (int destroy_way = 0; destroy_way < N_WAYS; destroy_way++)
          {
            Matrix matrix = { .max = GPOINTER_TO_UINT (data), .ways = { create_way, validate_way, reset_way, destroy_way } };

            g_snprintf (running, sizeof running, "create %s, validate %s, reset %s, destroy %s", way_names[create_way],
                        way_names[validate_way], way_names[reset_way], way_names[destroy_way]);
            run_matrix (&matrix);
            n++;
          }
  g_test_message ("%u runs", n);
  return TRUE;
}

/* Neither assertions nor criticals come by here otherwise. */
static void
on_abort (int number)
{
  static const char before[] = "\n# in the run where ";

  if (write (2, before, sizeof before - 1) < 0 || write (2, running, strlen (running)) < 0 || write (2, "\n", 1) < 0)
    _exit (127);
  signal (number, SIG_DFL);
  raise (number);
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  signal (SIGABRT, on_abort);
  signal (SIGTRAP, on_abort);
  belay_test_add_data_func ("/pool-gates/L37-L38-L40-one", GUINT_TO_POINTER (1), run_all);
  belay_test_add_data_func ("/pool-gates/L37-L38-L40-two", GUINT_TO_POINTER (2), run_all);
  return g_test_run ();
}
