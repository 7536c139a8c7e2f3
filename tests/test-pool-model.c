/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pool against a model of it. A *program* is a pool's options and a list of operations, both of a seed; it is run in virtual time, a
 * millisecond an operation, in which all that can happen happens. The *model* is an array of users and one of resources, each with a
 * state; what the pool does (calls a function, lends, fails, tells its numbers) must be a transition that the model allows, and
 * at rest, that is after each operation, the numbers of both are the same. So it knows nothing of how a pool works, only what
 * it promises:
 *
 *   1. idle + used + opening + closing ≤ limit; but for what a smaller maximum has yet to get rid of, which never grows (L37).
 *   2. Nobody waits while there is an idle one, or room, that nothing on its way will fill (L38).
 *   3. Who came first is served first; of the idle ones the newest is lent.
 *   4. One that failed, is too old, used too often, invalidated, not reset, not proven, or ended, is never lent (L40, L44).
 *   5. A lease is never lent to two, nor of another key, nor while the pool is suspended, nor after its close (L42).
 *   6. An acquire fails only for a reason that there was (L39).
 *   7. When all is quiet nothing is held, and the next is served without a wait. After the close each has ended once.
 *
 * Programs run in children of this process. Of one that fails, operations are taken away as long as it fails still, and what is left is
 * printed so that it can be read, with what happened. BELAY_MODEL_SEED=n BELAY_MODEL_OPS="…" runs it again. With
 * BELAY_TEST_LONG in the environment there are ten times as many.
 */
#include "thing.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define N_USERS   8
#define N_KEYS    3
#define N_OPS     200
#define BOUND     50  /* of each function's time, ms */
#define DEAF_FOR  400

enum { CREATE, VALIDATE, RESET, DESTROY, N_GATES };
enum { WORKS, FAILS, HANGS, DEAF, SLOW, N_WAYS };

static const char *const gate_names[N_GATES] = { "create", "validate", "reset", "destroy" };
static const char *const way_names[N_WAYS] = { "works", "fails", "hangs", "is deaf", "is slow" };

/* --- programs --- */

typedef enum
{
  OP_ACQUIRE, OP_ACQUIRE_WITHIN, OP_FUTURE, OP_TRY, OP_RETURN, OP_BREAK, OP_DETACH, OP_CANCEL, OP_NEXT, OP_INVALIDATE, OP_RESIZE,
  OP_SUSPEND, OP_RESUME, OP_WARM_UP, OP_PASS, N_KINDS
} Kind;

/* How often each is drawn. */
static const guint weights[N_KINDS] = { 20, 5, 6, 5, 22, 5, 2, 8, 12, 3, 4, 2, 3, 2, 14 };

typedef struct
{
  guint kind, who, what;
} Op;

typedef struct
{
  guint    max, min, overflow, max_uses, n_keys;
  gint64   max_idle_time, max_lifetime, validate_after, acquire_timeout;
  gboolean validates, resets;
  int      work[N_GATES]; /* ms */
  int      end;           /* closed when all is quiet, in the middle of work, or abandoned there */
} Config;

enum { END_QUIET, END_BUSY, END_ABANDONED, N_ENDS };

static guint
draw (GRand *rand, guint n)
{
  return (guint) g_rand_int_range (rand, 0, (gint32) n);
}

static void
draw_config (GRand *rand, Config *config)
{
  static const gint64 validate_after[] = { -1, -1, 0, 30 };

  memset (config, 0, sizeof *config);
  config->max = 1 + draw (rand, 4);
  config->n_keys = draw (rand, 2) == 0 ? 1 : 2 + draw (rand, N_KEYS - 1);
  config->min = config->n_keys == 1 ? draw (rand, config->max + 1) : 0;
  config->overflow = draw (rand, 3) == 0 ? 1 + draw (rand, 2) : 0;
  config->max_uses = draw (rand, 3) == 0 ? 1 + draw (rand, 4) : 0;
  config->max_idle_time = draw (rand, 3) == 0 ? 100 : 0;
  config->max_lifetime = draw (rand, 3) == 0 ? 300 : 0;
  config->validate_after = validate_after[draw (rand, G_N_ELEMENTS (validate_after))];
  config->acquire_timeout = draw (rand, 2) == 0 ? 200 : -1;
  config->validates = draw (rand, 2) == 0;
  config->resets = draw (rand, 2) == 0;
  for (int i = 0; i < N_GATES; i++)
    config->work[i] = (int) draw (rand, 4) * 2;
  config->end = (int) draw (rand, N_ENDS);
}

static void
draw_op (GRand *rand, Op *op)
{
  guint sum = 0, at;

  for (guint i = 0; i < N_KINDS; i++)
    sum += weights[i];
  at = draw (rand, sum);
  for (op->kind = 0; at >= weights[op->kind]; op->kind++)
    at -= weights[op->kind];
  op->who = draw (rand, N_USERS);
  op->what = draw (rand, 20);
}

static void
describe_op (const Op *op, GString *text)
{
  guint key = op->what % N_KEYS, way = op->what % N_WAYS;

  switch ((Kind) op->kind)
    {
    case OP_ACQUIRE: g_string_append_printf (text, "user %u acquires one of key %u", op->who, key); break;
    case OP_ACQUIRE_WITHIN: g_string_append_printf (text, "user %u acquires and uses one of key %u within %u ms", op->who, key,
                                                    op->what * 5); break;
    case OP_FUTURE: g_string_append_printf (text, "user %u acquires one of key %u as a future", op->who, key); break;
    case OP_TRY: g_string_append_printf (text, "user %u tries to acquire one of key %u", op->who, key); break;
    case OP_RETURN: g_string_append_printf (text, "user %u returns it", op->who); break;
    case OP_BREAK: g_string_append_printf (text, "user %u returns it as broken", op->who); break;
    case OP_DETACH: g_string_append_printf (text, "user %u detaches it", op->who); break;
    case OP_CANCEL: g_string_append_printf (text, "user %u is cancelled", op->who); break;
    case OP_NEXT: g_string_append_printf (text, "the next %s %s", gate_names[op->who % N_GATES], way_names[way]); break;
    case OP_INVALIDATE:
      if (op->what % 2 == 0)
        g_string_append (text, "all are invalidated");
      else
        g_string_append_printf (text, "those of key %u are invalidated", op->who % N_KEYS);
      break;
    case OP_RESIZE: g_string_append_printf (text, "the maximum becomes %u", 1 + op->what % 5); break;
    case OP_SUSPEND: g_string_append (text, "the pool is suspended"); break;
    case OP_RESUME: g_string_append (text, "the pool is resumed"); break;
    case OP_WARM_UP: g_string_append_printf (text, "the pool is warmed up to %u", op->what % 5); break;
    case OP_PASS: g_string_append_printf (text, "%u ms pass", op->what * op->what); break;
    case N_KINDS:
    default: break;
    }
}

static char *
write_ops (const Op *ops, guint n)
{
  GString *text = g_string_new (NULL);

  for (guint i = 0; i < n; i++)
    g_string_append_printf (text, "%u.%u.%u ", ops[i].kind, ops[i].who, ops[i].what);
  return g_string_free (text, FALSE);
}

static GArray *
read_ops (const char *text)
{
  GArray *ops = g_array_new (FALSE, FALSE, sizeof (Op));
  Op op;
  int length;

  while (sscanf (text, "%u.%u.%u %n", &op.kind, &op.who, &op.what, &length) == 3)
    {
      g_array_append_val (ops, op);
      text += length;
    }
  return ops;
}

/* What the program of a seed is made of. */
static GArray *
draw_program (guint seed, Config *config)
{
  GRand *rand = g_rand_new_with_seed (seed);
  GArray *ops = g_array_new (FALSE, FALSE, sizeof (Op));

  draw_config (rand, config);
  for (guint i = 0; i < N_OPS; i++)
    {
      Op op;

      draw_op (rand, &op);
      g_array_append_val (ops, op);
    }
  g_rand_free (rand);
  return ops;
}

/* --- the model --- */

typedef enum
{
  ITEM_READY,     /* made, or proven to be sound, or returned where nothing need be done: idle, or about to be lent */
  ITEM_CHECKING,
  ITEM_USED,
  ITEM_RETURNED,  /* must be reset, or proven to be sound, or both */
  ITEM_RESETTING,
  ITEM_CONDEMNED, /* must be ended */
  ITEM_ENDING,
  ITEM_ENDED,
  ITEM_DETACHED
} ItemState;

static const char *const state_names[] = { "ready", "being checked", "in use", "returned", "being reset", "condemned",
                                           "being ended", "ended", "detached" };

typedef struct
{
  guint     n, key, generation, n_uses;
  ItemState state;
  gboolean  in_doubt, was_reset; /* since it was returned */
  gint64    born, ready_since;
  guint     n_freed;
} Item;

typedef enum
{
  USER_FREE,
  USER_WAITS,
  USER_HAS
} UserState;

typedef struct _Model Model;

typedef struct
{
  Model        *model;
  guint         n, key, ticket;
  UserState     state;
  gint64        since, within;
  gboolean      cancelled, just_served; /* since the last check */
  BelayScope   *scope;   /* of its fiber */
  BelayPromise *command; /* an int64: a Kind */
  BelayFuture  *future;
  BelayLease   *lease;   /* of a future, or of an attempt */
  Item         *item;
} User;

struct _Model
{
  Config     config;
  BelayPool *pool;
  User       users[N_USERS];
  GPtrArray *items;
  int        next[N_GATES]; /* how the next call goes */
  guint      generations[N_KEYS];
  guint      max, last_total, tickets, n_running, n_warming, n_lent;
  gboolean   suspended, closing, abandoned;
  gint64     failed_at; /* when a create last did */
};

static gboolean verbose, planted;

#define MUST(condition, ...) G_STMT_START { if (G_UNLIKELY (!(condition))) violated (__VA_ARGS__); } G_STMT_END
#define SAY(...) G_STMT_START { if (G_UNLIKELY (verbose)) say_event (__VA_ARGS__); } G_STMT_END

static void G_GNUC_PRINTF (1, 2) G_GNUC_NORETURN
violated (const char *format, ...)
{
  va_list arguments;

  va_start (arguments, format);
  printf ("# MODEL at %" G_GINT64_FORMAT " ms: ", now_ms ());
  vprintf (format, arguments);
  printf ("\n");
  fflush (stdout);
  va_end (arguments);
  _exit (9);
}

static void G_GNUC_PRINTF (1, 2)
say_event (const char *format, ...)
{
  va_list arguments;

  va_start (arguments, format);
  printf ("# %6" G_GINT64_FORMAT "        ", now_ms ());
  vprintf (format, arguments);
  printf ("\n");
  fflush (stdout);
  va_end (arguments);
}

/* --- what the pool calls --- */

static gboolean
go (Model *self, int gate, GError **error)
{
  int way = self->next[gate];
  gboolean ok = FALSE;

  self->next[gate] = WORKS;
  self->n_running++;
  switch (way)
    {
    case FAILS:
      if (self->config.work[gate] == 0 || belay_sleep (self->config.work[gate], error))
        g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "%s failed", gate_names[gate]);
      break;
    case HANGS: ok = belay_sleep (G_MAXINT32, error); break;
    case DEAF:
      {
        belay_auto (BelayShield) shield = belay_shield ();

        belay_sleep (DEAF_FOR, NULL); /* in a release until its time is up: no shield hides that */
        ok = TRUE;
        break;
      }
    case SLOW: ok = belay_sleep (BOUND / 2, error); break;
    default: ok = self->config.work[gate] == 0 || belay_sleep (self->config.work[gate], error);
    }
  self->n_running--;
  return ok;
}

static gpointer
create (const char *key, gpointer data, GError **error)
{
  Model *self = data;
  Item *item;

  if (!go (self, CREATE, error))
    {
      SAY ("create failed");
      self->failed_at = now_ms ();
      return NULL;
    }
  item = g_new0 (Item, 1);
  item->n = self->items->len;
  item->key = key != NULL ? (guint) (key[0] - 'a') : 0;
  item->generation = self->generations[item->key];
  item->born = item->ready_since = now_ms ();
  g_ptr_array_add (self->items, item);
  SAY ("create made %u of key %u", item->n, item->key);
  return item;
}

static gboolean
validate (gpointer resource, gpointer data, GError **error)
{
  Model *self = data;
  Item *item = resource;
  gboolean ok;

  SAY ("validate of %u", item->n);
  MUST (item->state == ITEM_READY || (item->state == ITEM_RETURNED && item->in_doubt && (item->was_reset || !self->config.resets)),
        "%u, which is %s, is validated", item->n, state_names[item->state]);
  item->state = ITEM_CHECKING;
  ok = go (self, VALIDATE, error);
  SAY ("validate of %u: %s", item->n, ok ? "sound" : "unsound");
  item->state = ok ? ITEM_READY : ITEM_CONDEMNED;
  item->in_doubt = item->was_reset = FALSE;
  item->ready_since = now_ms ();
  return ok;
}

static gboolean
reset (gpointer resource, gpointer data, GError **error)
{
  Model *self = data;
  Item *item = resource;
  gint64 started = now_ms ();
  gboolean ok;

  SAY ("reset of %u", item->n);
  MUST (item->state == ITEM_RETURNED && !item->was_reset, "%u, which is %s, is reset", item->n, state_names[item->state]);
  item->state = ITEM_RESETTING;
  ok = go (self, RESET, error);
  SAY ("reset of %u: %s", item->n, ok ? "well" : "failed");
  if (!ok || now_ms () - started > BOUND)
    item->state = ITEM_CONDEMNED;
  else if (item->in_doubt && self->config.validates)
    item->state = ITEM_RETURNED;
  else
    item->state = ITEM_READY;
  item->was_reset = TRUE;
  item->ready_since = now_ms ();
  return ok;
}

static gboolean
destroy (gpointer resource, gpointer data, GError **error)
{
  Item *item = resource;
  gboolean ok;

  SAY ("destroy of %u", item->n);
  MUST (item->state == ITEM_READY || item->state == ITEM_RETURNED || item->state == ITEM_CONDEMNED,
        "%u, which is %s, is destroyed", item->n, state_names[item->state]);
  item->state = ITEM_ENDING;
  ok = go (data, DESTROY, error);
  item->state = ITEM_ENDED;
  return ok;
}

static void
abandon (gpointer resource, gpointer data)
{
  Model *self = data;
  Item *item = resource;

  SAY ("abandon of %u", item->n);
  MUST (item->state != ITEM_DETACHED && (item->state == ITEM_ENDING || self->abandoned), "%u, which is %s, is abandoned", item->n,
        state_names[item->state]);
  if (item->state != ITEM_ENDING)
    item->state = ITEM_ENDED;
}

static void
free_item (gpointer resource, gpointer data)
{
  Item *item = resource;

  SAY ("free of %u", item->n);
  MUST (item->state == ITEM_ENDED && item->n_freed++ == 0, "%u, which is %s, is freed", item->n, state_names[item->state]);
}

/* --- users --- */

static void
note_served (User *user)
{
  Model *self = user->model;

  self->n_lent++;
  user->just_served = TRUE;
  MUST (!self->suspended, "user %u is served while the pool is suspended", user->n);
  MUST (!self->closing, "user %u is served after the close", user->n);
}

/* Then one of those that seem to be ready is not. */
static gboolean
any_future_has_come (Model *self)
{
  for (guint i = 0; i < N_USERS; i++)
    if (self->users[i].future != NULL && !belay_future_is_pending (self->users[i].future))
      return TRUE;
  return FALSE;
}

static void
note_lease (User *user, BelayLease *lease)
{
  Model *self = user->model;
  const Config *config = &self->config;
  Item *item = belay_lease_get (lease);
  gint64 now = now_ms (), idle;

  MUST (item != NULL, "user %u has a lease of nothing", user->n);
  SAY ("user %u gets %u", user->n, item->n);
  MUST (item->state == ITEM_READY, "user %u gets %u, which is %s", user->n, item->n, state_names[item->state]);
  MUST (item->key == user->key, "user %u gets %u, which is of key %u", user->n, item->n, item->key);
  if (user->future == NULL)
    {
      idle = now - item->ready_since;
      MUST (item->generation == self->generations[item->key], "user %u gets %u, which was invalidated", user->n, item->n);
      MUST (config->max_uses == 0 || item->n_uses < config->max_uses, "user %u gets %u, which was lent %u times", user->n, item->n,
            item->n_uses);
      MUST (config->max_idle_time == 0 || config->min > 0 || idle <= config->max_idle_time + 1,
            "user %u gets %u, which was idle for %" G_GINT64_FORMAT " ms", user->n, item->n, idle);
      MUST (config->max_lifetime == 0 || now - item->born <= config->max_lifetime + BOUND + 1,
            "user %u gets %u, which is %" G_GINT64_FORMAT " ms old", user->n, item->n, now - item->born);
      MUST (!config->validates || idle <= (config->validate_after == 0 ? 500 : MAX (config->validate_after, 0)) + 1,
            "user %u gets %u, which was idle for %" G_GINT64_FORMAT " ms, and not validated", user->n, item->n, idle);
      for (guint i = 0; user->since == now && !any_future_has_come (self) && i < self->items->len; i++)
        {
          Item *other = self->items->pdata[i];

          MUST (other->state != ITEM_READY || other->key != item->key || other->ready_since <= item->ready_since,
                "user %u gets %u, although %u was used later", user->n, item->n, other->n);
        }
    }
  item->state = ITEM_USED;
  item->n_uses++;
  user->item = item;
  user->state = USER_HAS;
}

/* It is about to go back. */
static void
note_return (User *user, BelayLease *lease, gboolean in_doubt, gboolean broken)
{
  Model *self = user->model;
  Item *item = user->item;

  MUST (self->abandoned || belay_lease_get (lease) == item, "the lease of user %u has changed", user->n);
  SAY ("user %u leaves %u%s%s", user->n, item->n, in_doubt ? ", interrupted" : "", broken ? ", broken" : "");
  user->item = NULL;
  if (self->abandoned)
    return;
  item->in_doubt = in_doubt;
  item->was_reset = FALSE;
  item->ready_since = now_ms ();
  if (broken || (in_doubt && !self->config.resets && !self->config.validates))
    item->state = ITEM_CONDEMNED;
  else
    item->state = self->config.resets || in_doubt ? ITEM_RETURNED : ITEM_READY;
  MUST (!planted || !broken || !self->suspended, "a planted mistake");
}

static void
take_out (User *user, BelayLease **lease)
{
  Item *item = belay_lease_detach (lease);

  SAY ("user %u takes %u out", user->n, user->item->n);
  MUST (item == user->item, "what user %u detaches is another", user->n);
  item->state = ITEM_DETACHED;
  user->item = NULL;
}

static void
note_failure (User *user, const GError *error)
{
  Model *self = user->model;
  gint64 waited = now_ms () - user->since, limit = self->config.acquire_timeout;

  SAY ("user %u gets an error: %s", user->n, error->message);
  if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    MUST (user->cancelled, "user %u was not cancelled, but: %s", user->n, error->message);
  else if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CLOSED))
    MUST (self->closing, "the pool is not closed, but: %s", error->message);
  else if (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
    MUST ((limit > 0 && waited >= limit) || (user->within > 0 && waited >= user->within) || self->failed_at >= user->since,
          "user %u had time still, but: %s", user->n, error->message);
  else
    MUST (g_error_matches (error, G_IO_ERROR, G_IO_ERROR_FAILED) && self->failed_at >= user->since,
          "nothing failed, but user %u gets: %s", user->n, error->message);
  user->state = USER_FREE;
}

static const char *
key_of (User *user)
{
  static const char *const keys[] = { "a", "b", "c" };

  return user->model->config.n_keys == 1 ? NULL : keys[user->key];
}

static gboolean
use (gpointer data, GError **error)
{
  User *user = data;
  g_autoptr (GError) failure = NULL;
  gint64 command = OP_CANCEL;
  belay_auto (BelayTimeout) limit = user->within > 0 ? belay_timeout (user->within) : NULL;
  belay_auto (BelayLease) lease = belay_pool_acquire_key (user->model->pool, key_of (user), &failure);

  if (lease == NULL)
    {
      note_failure (user, failure);
      return TRUE;
    }
  note_served (user);
  note_lease (user, lease);
  if (!belay_await_int64 (belay_promise_get_future (user->command), &command, NULL))
    command = OP_CANCEL;
  user->state = USER_FREE;
  if (command == OP_DETACH)
    {
      take_out (user, &lease);
      return TRUE;
    }
  if (command == OP_BREAK)
    belay_lease_break (lease);
  note_return (user, lease, command == OP_CANCEL, command == OP_BREAK);
  return command != OP_CANCEL || belay_checkpoint (error);
}

static void
begin (User *user, guint key, gint64 within)
{
  Model *self = user->model;

  user->key = key % self->config.n_keys;
  user->ticket = ++self->tickets;
  user->since = now_ms ();
  user->within = within;
  user->cancelled = FALSE;
  user->state = USER_WAITS;
}

/* Its fiber has ended. */
static void
join (User *user)
{
  if (user->scope == NULL)
    return;
  belay_scope_close (&user->scope, NULL);
  g_clear_pointer (&user->command, belay_promise_unref);
}

static void
acquire (User *user, guint key, gint64 within)
{
  join (user);
  begin (user, key, within);
  user->scope = belay_scope_new ();
  user->command = belay_promise_new ();
  MUST (belay_scope_spawn (user->scope, use, user, NULL), "no fiber");
}

static void
try_acquire (User *user, guint key)
{
  Model *self = user->model;
  BelayPoolStats stats;
  BelayLease *lease;

  begin (user, key, 0);
  user->state = USER_FREE;
  belay_pool_get_stats (self->pool, &stats);
  lease = belay_pool_try_acquire_key (self->pool, key_of (user));
  if (lease == NULL)
    return;
  for (guint i = 0; i < N_USERS; i++)
    MUST (self->users[i].state != USER_WAITS || self->users[i].key != user->key, "user %u overtakes user %u", user->n, i);
  note_served (user);
  note_lease (user, lease);
  user->lease = lease;
}

/* Of one without a fiber. */
static void
leave (User *user, Kind kind)
{
  user->state = USER_FREE;
  if (kind == OP_DETACH)
    {
      take_out (user, &user->lease);
      return;
    }
  if (kind == OP_BREAK)
    belay_lease_break (user->lease);
  note_return (user, user->lease, FALSE, kind == OP_BREAK);
  belay_release (&user->lease);
}

static void
command (User *user, Kind kind)
{
  if (user->state != USER_HAS)
    return;
  if (user->scope == NULL)
    leave (user, kind);
  else
    belay_promise_resolve_int64 (user->command, kind);
}

static void
cancel (User *user)
{
  if (user->state == USER_FREE)
    return;
  if (user->scope != NULL)
    {
      user->cancelled = TRUE;
      belay_scope_cancel (user->scope, "by the program");
    }
  else if (user->future != NULL)
    {
      user->state = USER_FREE;
      g_clear_pointer (&user->future, belay_future_unref);
    }
}

/* Its future, if it has come. */
static void
look (User *user)
{
  g_autoptr (GError) error = NULL;

  if (user->future == NULL || belay_future_is_pending (user->future))
    return;
  user->lease = belay_future_take (user->future, &error);
  if (user->lease != NULL)
    {
      note_served (user);
      note_lease (user, user->lease);
    }
  else
    {
      note_failure (user, error);
    }
  g_clear_pointer (&user->future, belay_future_unref);
}

/* --- what must hold when all that can happen has happened --- */

static guint
count_users (Model *self, UserState state)
{
  guint n = 0;

  for (guint i = 0; i < N_USERS; i++)
    n += self->users[i].state == state;
  return n;
}

static void
check_waiting (Model *self, const BelayPoolStats *stats, guint total, guint limit)
{
  guint n_waiting = count_users (self, USER_WAITS);

  for (guint i = 0; i < N_USERS; i++)
    {
      User *user = &self->users[i];

      if (user->state != USER_WAITS)
        continue;
      MUST (self->config.acquire_timeout < 0 || now_ms () - user->since <= self->config.acquire_timeout + 2,
            "user %u waits for too long", i);
      for (guint k = 0; k < N_USERS; k++)
        MUST (!self->users[k].just_served || self->users[k].key != user->key || self->users[k].ticket < user->ticket,
              "user %u is served before user %u, who came first", k, i);
    }
  if (self->suspended || self->closing || n_waiting <= stats->opening + stats->closing)
    return;
  MUST (stats->idle == 0, "somebody waits, although %u are idle", stats->idle);
  MUST (total >= limit, "somebody waits, although there may be %u, and are %u", limit, total);
}

static void
check (Model *self)
{
  guint limit = self->max + self->config.overflow, total, n_ready = 0, n_used = 0;
  BelayPoolStats stats;

  for (guint i = 0; i < N_USERS; i++)
    look (&self->users[i]);
  for (guint i = 0; i < self->items->len; i++)
    {
      Item *item = self->items->pdata[i];

      n_ready += item->state == ITEM_READY;
      n_used += item->state == ITEM_USED;
      MUST (item->state != ITEM_ENDED || item->n_freed == 1, "%u was ended, and freed %u times", item->n, item->n_freed);
    }
  belay_pool_get_stats (self->pool, &stats);
  total = stats.idle + stats.used + stats.opening + stats.closing;
  SAY ("%u idle, %u in use, %u opening, %u closing, %u stuck, %u waiting", stats.idle, stats.used, stats.opening, stats.closing,
       stats.stuck, stats.waiting);
  MUST (total <= limit || total <= self->last_total, "there are %u, and may be %u", total, limit);
  MUST (stats.used == n_used, "%u are in use, not %u", n_used, stats.used);
  MUST (stats.idle == n_ready, "%u are idle, not %u", n_ready, stats.idle);
  MUST (stats.opening + stats.closing + stats.stuck == self->n_running, "%u functions run, but %u are opened, %u closed and %u stuck",
        self->n_running, stats.opening, stats.closing, stats.stuck);
  MUST (stats.waiting == count_users (self, USER_WAITS), "%u wait, not %u", count_users (self, USER_WAITS), stats.waiting);
  MUST (stats.acquired == self->n_lent, "there were %u acquires, not %" G_GUINT64_FORMAT, self->n_lent, stats.acquired);
  check_waiting (self, &stats, total, limit);
  self->last_total = total;
  for (guint i = 0; i < N_USERS; i++)
    self->users[i].just_served = FALSE;
}

/* What comes at one instant with our own wake-up, and what comes of that, has its turn first. */
static void
wait (gint64 ms)
{
  MUST (belay_sleep (ms, NULL), "the test was interrupted");
  for (guint i = 0; i < 16; i++)
    belay_yield (NULL);
}

static void
pass (Model *self, gint64 ms)
{
  wait (ms);
  check (self);
}

/* --- operations --- */

static gboolean
warm_up (gpointer data, GError **error)
{
  Model *self = data;
  guint n = self->n_warming >> 16;
  g_autoptr (GError) failure = NULL;

  self->n_warming &= 0xffff;
  self->n_warming++;
  if (!belay_pool_warm_up (self->pool, n, &failure))
    SAY ("warming up to %u failed: %s", n, failure->message);
  self->n_warming--;
  return TRUE;
}

static void
run_op (Model *self, BelayScope *scope, const Op *op)
{
  User *user = &self->users[op->who % N_USERS];
  gboolean is_free = user->state == USER_FREE;

  switch ((Kind) op->kind)
    {
    case OP_ACQUIRE:
      if (is_free)
        acquire (user, op->what, 0);
      break;
    case OP_ACQUIRE_WITHIN:
      if (is_free)
        acquire (user, op->what, op->what * 5 + 1);
      break;
    case OP_FUTURE:
      if (is_free)
        {
          join (user);
          begin (user, op->what, 0);
          user->future = belay_pool_acquire_key_async (self->pool, key_of (user));
        }
      break;
    case OP_TRY:
      if (is_free)
        {
          join (user);
          try_acquire (user, op->what);
        }
      break;
    case OP_RETURN:
    case OP_BREAK:
    case OP_DETACH: command (user, (Kind) op->kind); break;
    case OP_CANCEL: cancel (user); break;
    case OP_NEXT: self->next[op->who % N_GATES] = (int) (op->what % N_WAYS); break;
    case OP_INVALIDATE:
      if (op->what % 2 == 0 || self->config.n_keys == 1)
        {
          for (guint i = 0; i < N_KEYS; i++)
            self->generations[i]++;
          belay_pool_invalidate (self->pool);
        }
      else
        {
          User asker = { .model = self, .key = op->who % self->config.n_keys };

          self->generations[asker.key]++;
          belay_pool_invalidate_key (self->pool, key_of (&asker));
        }
      break;
    case OP_RESIZE:
      self->max = 1 + op->what % 5;
      belay_pool_resize (self->pool, MIN (self->config.min, self->max), self->max);
      break;
    case OP_SUSPEND:
      self->suspended = TRUE;
      belay_pool_suspend (self->pool);
      break;
    case OP_RESUME:
      self->suspended = FALSE;
      belay_pool_resume (self->pool);
      break;
    case OP_WARM_UP:
      if (self->config.n_keys == 1)
        {
          self->n_warming |= (op->what % 5) << 16;
          MUST (belay_scope_spawn (scope, warm_up, self, NULL), "no fiber");
        }
      break;
    case OP_PASS: pass (self, op->what * op->what + 1); break;
    case N_KINDS:
    default: break;
    }
}

/* --- the end of a program --- */

static void
return_all (Model *self)
{
  for (guint i = 0; i < N_USERS; i++)
    command (&self->users[i], OP_RETURN);
}

/* Everybody is served and leaves; then nothing is held, and the next need not wait for anybody. */
static void
come_to_rest (Model *self)
{
  User *user = &self->users[0];
  BelayPoolStats stats;
  gint64 started;

  memset (self->next, 0, sizeof self->next);
  self->suspended = FALSE;
  belay_pool_resume (self->pool);
  pass (self, 1);
  for (guint i = 0; count_users (self, USER_FREE) < N_USERS; i++)
    {
      MUST (i < 1000, "somebody waits for ever");
      return_all (self);
      pass (self, 5);
    }
  pass (self, 2000);
  for (guint i = 0;; i++) /* some are just being replaced, which are too old */
    {
      belay_pool_get_stats (self->pool, &stats);
      if (stats.used + stats.opening + stats.closing + stats.stuck + stats.waiting == 0)
        break;
      MUST (i < 100 && self->config.min > 0 && self->config.max_lifetime > 0, "all is quiet, and something goes on");
      pass (self, 1);
    }

  started = now_ms ();
  acquire (user, 0, 0);
  for (guint i = 0; user->state == USER_WAITS && i < 100; i++)
    pass (self, 1);
  MUST (user->state == USER_HAS, "the next is not served");
  MUST (now_ms () - started <= self->config.work[CREATE] + self->config.work[VALIDATE] + self->config.work[DESTROY] + 2,
        "the next is served after %" G_GINT64_FORMAT " ms", now_ms () - started);
  return_all (self);
  pass (self, 2000);
}

static gboolean
close_pool (gpointer data, GError **error)
{
  belay_pool_close (data, NULL);
  return TRUE;
}

/* Closed while it is used: who waits is told; the others return what they have, and then it is closed. */
static void
end_busy (Model *self, BelayScope *scope)
{
  self->closing = TRUE;
  if (self->config.end == END_ABANDONED)
    {
      for (guint i = 0; i < self->items->len; i++)
        if (((Item *) self->items->pdata[i])->state == ITEM_USED)
          SAY ("%u is taken from its user", ((Item *) self->items->pdata[i])->n);
      self->abandoned = TRUE;
      belay_pool_abandon (self->pool);
    }
  MUST (belay_scope_spawn (scope, close_pool, self->pool, NULL), "no fiber");
  wait (1);
  for (guint i = 0; i < N_USERS; i++)
    look (&self->users[i]);
  MUST (count_users (self, USER_WAITS) == 0, "somebody waits for a closed pool");
  for (guint i = 0; i < N_USERS; i++)
    if (self->users[i].state == USER_FREE)
      acquire (&self->users[i], i, 0);
  wait (1);
  MUST (count_users (self, USER_WAITS) == 0, "who comes to a closed pool waits");
  return_all (self);
  wait (2000);
}

static gboolean
run_program (const Config *config, const GArray *ops)
{
  Model model = { .config = *config, .max = config->max }, *self = &model;
  BelayPoolOptions options = {
    .create = create, .validate = config->validates ? validate : NULL, .reset = config->resets ? reset : NULL,
    .destroy = destroy, .abandon = abandon, .free = free_item, .max = config->max, .min = config->min,
    .overflow = config->overflow, .max_uses = config->max_uses, .jitter = -1, .max_idle_time = config->max_idle_time,
    .max_lifetime = config->max_lifetime, .validate_after = config->validate_after, .acquire_timeout = config->acquire_timeout,
    .create_timeout = BOUND, .validate_timeout = BOUND, .reset_timeout = BOUND, .destroy_timeout = BOUND,
  };
  g_autofree char *sunk = NULL;
  BelayPoolStats stats;
  BelayScope *scope = belay_scope_new ();

  self->items = g_ptr_array_new_with_free_func (g_free);
  self->pool = belay_pool_new (&options, self);
  for (guint i = 0; i < N_USERS; i++)
    self->users[i] = (User) { .model = self, .n = i };
  for (guint i = 0; i < ops->len; i++)
    {
      const Op *op = &g_array_index (ops, Op, i);

      if (verbose)
        {
          g_autoptr (GString) text = g_string_new (NULL);

          describe_op (op, text);
          printf ("# %6" G_GINT64_FORMAT " %s\n", now_ms (), text->str);
        }
      run_op (self, scope, op);
      pass (self, 1);
    }

  SAY ("the end");
  if (config->end == END_QUIET)
    come_to_rest (self);
  end_busy (self, scope);
  for (guint i = 0; i < N_USERS; i++)
    {
      MUST (self->users[i].state == USER_FREE, "user %u does not end", i);
      join (&self->users[i]);
    }
  belay_scope_close (&scope, NULL);
  belay_pool_get_stats (self->pool, &stats);
  MUST (stats.idle + stats.used + stats.opening + stats.closing + stats.stuck + stats.waiting == 0, "it is closed, and not empty");
  MUST (self->n_running == 0 && self->n_warming == 0, "it is closed, and something goes on");
  for (guint i = 0; i < self->items->len; i++)
    {
      Item *item = self->items->pdata[i];

      MUST (item->state == ITEM_DETACHED ? item->n_freed == 0 : item->n_freed == 1, "%u, which is %s, was freed %u times", i,
            state_names[item->state], item->n_freed);
    }
  belay_pool_unref (self->pool);
  g_ptr_array_unref (self->items);
  sunk = thing_take_sunk ();
  return TRUE;
}

/* --- children: BELAY_MODEL_SEED and BELAY_MODEL_COUNT, or BELAY_MODEL_OPS, say what they run --- */

static guint
number_from (const char *name, guint otherwise)
{
  const char *text = g_getenv (name);

  return text != NULL ? (guint) g_ascii_strtoull (text, NULL, 10) : otherwise;
}

static gboolean
run_some (gpointer data, GError **error)
{
  guint first = number_from ("BELAY_MODEL_SEED", 1), n = number_from ("BELAY_MODEL_COUNT", 1);
  const char *text = g_getenv ("BELAY_MODEL_OPS");

  for (guint seed = first; seed < first + n; seed++)
    {
      Config config;
      GArray *ops = draw_program (seed, &config);

      printf ("# seed %u\n", seed);
      fflush (stdout);
      if (text != NULL)
        {
          g_array_unref (ops);
          ops = read_ops (text);
        }
      run_program (&config, ops);
      g_array_unref (ops);
    }
  return TRUE;
}

/* --- the parent: runs, and makes small what fails --- */

static const char *program;

/* NULL when all is well, else what the child said. */
static char *
run_child (guint seed, guint count, const char *ops, gboolean verbosely)
{
  const char *command[] = { program, NULL };
  g_auto (GStrv) environment = g_get_environ ();
  g_autofree char *seed_text = g_strdup_printf ("%u", seed), *count_text = g_strdup_printf ("%u", count);
  g_autofree char *output = NULL, *errors = NULL;
  g_autoptr (GError) error = NULL;
  int status;

  environment = g_environ_setenv (environment, "BELAY_MODEL_SEED", seed_text, TRUE);
  environment = g_environ_setenv (environment, "BELAY_MODEL_COUNT", count_text, TRUE);
  if (ops != NULL)
    environment = g_environ_setenv (environment, "BELAY_MODEL_OPS", ops, TRUE);
  if (verbosely)
    environment = g_environ_setenv (environment, "BELAY_MODEL_VERBOSE", "1", TRUE);
  g_spawn_sync (NULL, (char **) command, environment, G_SPAWN_DEFAULT, NULL, NULL, &output, &errors, &status, &error);
  g_assert_no_error (error);
  if (g_spawn_check_wait_status (status, NULL))
    return NULL;
  return g_strconcat (output, "# ", errors, NULL);
}

static gboolean
fails (guint seed, const GArray *ops)
{
  g_autofree char *text = write_ops (ops->len > 0 ? &g_array_index (ops, Op, 0) : NULL, ops->len);
  g_autofree char *said = run_child (seed, 1, text, FALSE);

  return said != NULL;
}

/* Takes away pieces of half its length, of a quarter, … and of one, as long as it fails without them. */
static void
shrink (guint seed, GArray *ops)
{
  gint64 patience = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;

  for (guint size = MAX (ops->len / 2, 1);;)
    {
      gboolean shrunk = FALSE;

      for (guint at = 0; at < ops->len && g_get_monotonic_time () < patience;)
        {
          g_autoptr (GArray) fewer = g_array_copy (ops);

          g_array_remove_range (fewer, at, MIN (size, fewer->len - at));
          if (fails (seed, fewer))
            {
              g_array_set_size (ops, 0);
              if (fewer->len > 0)
                g_array_append_vals (ops, fewer->data, fewer->len);
              shrunk = TRUE;
            }
          else
            {
              at += size;
            }
        }
      if (size == 1 && (!shrunk || g_get_monotonic_time () >= patience))
        return;
      size = MAX (size / 2, 1);
    }
}

/* The last seed that a child spoke of. */
static guint
seed_in (const char *said)
{
  guint seed = 0;

  for (const char *at = said; (at = strstr (at, "# seed ")) != NULL; at++)
    seed = (guint) g_ascii_strtoull (at + strlen ("# seed "), NULL, 10);
  return seed;
}

static void
describe_config (const Config *config, GString *text)
{
  g_string_append_printf (text, "# a pool of at most %u and at least %u, overflow %u, of %u keys, lent %u times at most, idle %d ms, "
                          "alive %d ms,\n# %s after %d ms, %s, acquire %d ms; create, validate, reset, destroy: %d %d %d %d ms\n",
                          config->max, config->min, config->overflow, config->n_keys, config->max_uses,
                          (int) config->max_idle_time, (int) config->max_lifetime,
                          config->validates ? "validated" : "not validated", (int) config->validate_after,
                          config->resets ? "reset" : "not reset", (int) config->acquire_timeout, config->work[CREATE],
                          config->work[VALIDATE], config->work[RESET], config->work[DESTROY]);
}

/* (transfer full): what failed, made small, and the program as text that can be run again. */
static char *
explain (guint seed, guint *ret_n_ops)
{
  Config config;
  g_autoptr (GArray) ops = draw_program (seed, &config);
  GString *text = g_string_new (NULL);
  g_autofree char *written = NULL, *said = NULL;

  if (!fails (seed, ops))
    g_string_append_printf (text, "# seed %u by itself does not fail\n", seed);
  else
    shrink (seed, ops);
  written = write_ops (ops->len > 0 ? &g_array_index (ops, Op, 0) : NULL, ops->len);
  said = run_child (seed, 1, written, TRUE);
  describe_config (&config, text);
  g_string_append_printf (text, "%s\n# BELAY_MODEL_SEED=%u BELAY_MODEL_OPS=\"%s\"\n", said != NULL ? said : "", seed, written);
  *ret_n_ops = ops->len;
  return g_string_free (text, FALSE);
}

static void
test_random (void)
{
  enum { AT_ONCE = 50 };
  guint n = g_getenv ("BELAY_TEST_LONG") != NULL ? 5000 : SANITIZED ? 100 : 500, n_ops;

  for (guint first = number_from ("BELAY_MODEL_FIRST", 1), last = first + n; first < last; first += AT_ONCE)
    {
      g_autofree char *said = run_child (first, MIN (AT_ONCE, last - first), NULL, FALSE), *why = NULL;

      if (said == NULL)
        continue;
      why = explain (seed_in (said), &n_ops);
      fprintf (stderr, "# %s\n# made smaller, to %u operations:\n%s", said, n_ops, why);
      g_test_fail ();
      return;
    }
  g_test_message ("%u programs, %u operations", n, n * N_OPS);
}

/* A mistake of the model's, planted: to break what one has while the pool is suspended. */
static void
test_shrunk (void)
{
  guint n_ops = 0;
  g_autofree char *said = NULL, *why = NULL;

  g_setenv ("BELAY_MODEL_PLANTED", "1", TRUE);
  said = run_child (1, 100, NULL, FALSE);
  g_assert_nonnull (said);
  g_assert_nonnull (strstr (said, "a planted mistake"));
  why = explain (seed_in (said), &n_ops);
  g_unsetenv ("BELAY_MODEL_PLANTED");
  g_assert_nonnull (strstr (why, "a planted mistake"));
  g_assert_nonnull (strstr (why, "the pool is suspended"));
  g_assert_nonnull (strstr (why, "returns it as broken"));
  g_assert_cmpuint (n_ops, <=, 4);
}

int
main (int argc, char **argv)
{
  gboolean is_child = g_getenv ("BELAY_MODEL_SEED") != NULL;

  program = argv[0];
  verbose = g_getenv ("BELAY_MODEL_VERBOSE") != NULL;
  planted = g_getenv ("BELAY_MODEL_PLANTED") != NULL;
  thing_init (&argc, &argv);
  if (is_child)
    {
      alarm (60);
      belay_test_add_func ("/pool-model/planted/program", run_some);
      return g_test_run ();
    }
  g_test_add_func ("/pool-model/L37-L38-L40-random-operations", test_random);
  g_test_add_func ("/pool-model/a-failure-is-shrunk", test_shrunk);
  return g_test_run ();
}
