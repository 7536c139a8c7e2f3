/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Scopes as exit stacks: handles, early release, taking back, moving; functions that learn the reason. */
#include "thing.h"

#include <stdio.h>
#include <unistd.h>

/* --- what the tests share --- */

static gboolean
note_reason (gpointer data, BelayReason reason, GError **error)
{
  const char *names[] = { "ok", "left", "error", "cancelled", "deadline" };

  thing_note ("%s:%s", (const char *) data, names[reason]);
  return TRUE;
}

static void
note_freed (gpointer data)
{
  thing_note ("~%s", (const char *) data);
}

/* Does something with an entry after a while, in a fiber of its own. */
typedef struct
{
  BelayEntry *entry;
  gint64      milliseconds;
} Later;

static gboolean
release_later (gpointer data, GError **error)
{
  Later *later = data;

  return (later->milliseconds == 0 || belay_sleep (later->milliseconds, error)) && belay_entry_release (later->entry, error);
}

static gboolean
close_scope (gpointer data, GError **error)
{
  return belay_scope_close (data, error);
}

/* --- functions that learn the reason --- */

static gboolean
failing_body (gpointer data, GError **error)
{
  belay_scope_on_exit (belay_scope_current (), note_reason, "f", note_freed);
  return fail_func ("body", error);
}

static gboolean
left_body (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  g_assert_true (belay_scope_on_exit (scope, note_reason, "l", NULL));
  return TRUE;
}

static gboolean
test_on_exit (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayScope) kept = belay_scope_ref (scope);
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_scope_on_exit (scope, note_reason, "a", note_freed));
  g_assert_true (belay_scope_defer (scope, note_func, "b"));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("b a:ok ~a");
  failure = thing_outcome (failing_body, NULL);
  assert_log ("f:error ~f");
  g_assert_true (left_body (NULL, error));
  assert_log ("l:left");

  /* too late: at once, for the reason of the scope's other releases, and only then freed */
  g_assert_false (belay_scope_on_exit (kept, note_reason, "late", note_freed));
  assert_log ("late:ok ~late");
  return TRUE;
}

/* What comes too late is released for the reason of the rest. */
static gboolean
adopt_in_release (gpointer data, BelayReason reason, GError **error)
{
  g_assert_false (belay_scope_adopt (data, thing_new ("late"), NULL));
  return TRUE;
}

static gboolean
close_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  belay_scope_adopt (scope, thing_new ("a"), NULL);
  belay_scope_on_exit (scope, adopt_in_release, scope, NULL);
  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_checkpoint (NULL));
  return belay_scope_close (&scope, error);
}

static gboolean
test_late_reason (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (close_cancelled, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_cmpstr (thing_reasons (), ==, "late:cancelled a:cancelled");
  return TRUE;
}

/* --- early release --- */

static gboolean
test_early_release (gpointer data, GError **error)
{
  g_autoptr (GError) again = NULL, stolen = NULL, moved = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayEntry) a = belay_scope_push (scope, thing_new ("a"), error);
  g_autoptr (BelayEntry) b = belay_scope_push (scope, thing_new_slow ("b", 10), error);
  g_autoptr (BelayEntry) c = belay_scope_push_func (scope, note_reason, "c", note_freed, error);
  g_autoptr (BelayEntry) d = belay_scope_push (scope, thing_object_new (thing_new ("d")), error);
  gint64 begin = now_ms ();

  g_assert_true (a != NULL && b != NULL && c != NULL && d != NULL && belay_entry_is_armed (b));
  g_assert_true (belay_entry_release (b, error)); /* now, and awaited */
  g_assert_cmpint (now_ms () - begin, ==, 10);
  g_assert_false (belay_entry_is_armed (b));
  g_assert_cmpstr (thing_reasons (), ==, "b:ok");
  assert_log ("+a +b +d -b b.");
  g_assert_true (belay_entry_release (c, error));
  assert_log ("c:ok ~c");

  /* once: what comes after that is refused, and does nothing */
  g_assert_false (belay_entry_release (b, &again));
  g_assert_error (again, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_null (belay_entry_steal (b, &stolen));
  g_assert_error (stolen, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_false (belay_entry_move (b, scope, &moved));
  g_assert_error (moved, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_false (belay_entry_disarm (c, NULL));
  assert_log ("");

  /* the rest keeps its order */
  g_assert_true (belay_scope_adopt (scope, thing_new ("e"), error));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+e -e -d -a");
  g_assert_false (belay_entry_release (a, NULL));
  g_assert_false (belay_entry_is_armed (d));
  return TRUE;
}

static gboolean
early_in_cancelled (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayEntry) entry = belay_scope_push (scope, thing_new_slow ("a", 10), error);

  belay_scope_cancel (scope, "enough");
  g_assert_false (belay_sleep (1, NULL));
  g_assert_true (belay_entry_release (entry, error)); /* shielded, and for the reason that the body has */
  g_assert_cmpstr (thing_reasons (), ==, "a:cancelled");
  assert_log ("+a -a a.");
  return belay_scope_close (&scope, error);
}

static gboolean
test_early_cancelled (gpointer data, GError **error)
{
  g_autoptr (GError) failure = thing_outcome (early_in_cancelled, NULL);

  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return TRUE;
}

static gboolean
test_early_error (gpointer data, GError **error)
{
  g_autoptr (GError) failing = NULL, hanging = NULL;
  gint64 begin = now_ms ();
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayEntry) a = belay_scope_push (scope, thing_new_failing ("a", "a is stuck"), error);
  g_autoptr (BelayEntry) b = belay_scope_push (scope, thing_new_hanging ("b"), error);

  belay_scope_set_release_timeout (scope, 50);
  g_assert_false (belay_entry_release (a, &failing));
  g_assert_cmpstr (failing->message, ==, "a is stuck");
  g_assert_false (belay_entry_release (b, &hanging)); /* bounded as any */
  g_assert_error (hanging, BELAY_ERROR, BELAY_ERROR_RELEASE_TIMEOUT);
  g_assert_cmpint (now_ms () - begin, ==, 50);
  g_assert_cmpint (thing_count.abandoned, ==, 1);
  return belay_scope_close (&scope, error); /* which has heard nothing of it */
}

/* A close that comes while one is released early waits for it, before it goes on to what is older. */
static gboolean
test_close_meets_early (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  BelayFuture *early;
  Later later = { NULL, 0 };

  g_assert_true (belay_scope_adopt (scope, thing_new_slow ("a", 10), error));
  later.entry = belay_scope_push (scope, thing_new_slow ("b", 50), error);
  g_assert_true (belay_scope_adopt (scope, thing_new_slow ("c", 10), error));
  early = belay_spawn (release_later, &later);
  g_assert_true (belay_sleep (10, error));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+a +b +c -b b. -c c. -a a."); /* the early one first: it is a part of what the close joins */
  g_assert_true (belay_await_ok (early, error));
  belay_entry_unref (later.entry);

  /* and so while the scope is releasing */
  scope = belay_scope_new ();
  g_assert_true (belay_scope_adopt (scope, thing_new_slow ("a", 10), error));
  later.entry = belay_scope_push (scope, thing_new_slow ("b", 50), error);
  later.milliseconds = 5;
  g_assert_true (belay_scope_adopt (scope, thing_new_slow ("c", 10), error));
  early = belay_spawn (release_later, &later);
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+a +b +c -c -b c. b. -a a.");
  g_assert_true (belay_await_ok (early, error));
  belay_entry_unref (later.entry);
  return TRUE;
}

static gboolean
release_other (gpointer data, BelayReason reason, GError **error)
{
  return belay_entry_release (data, error);
}

/* A release may release an older one before it ends. */
static gboolean
test_early_in_release (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayEntry) a = belay_scope_push (scope, thing_new_slow ("a", 10), error);

  g_assert_true (belay_scope_adopt (scope, thing_new_slow ("b", 10), error));
  g_assert_true (belay_scope_on_exit (scope, release_other, a, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+a +b -a a. -b b.");
  return TRUE;
}

/* A scope is not closed from inside of an early release of its: that would wait for itself. */
static gboolean
test_close_in_early (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new (), *other = belay_scope_ref (scope);
  Thing *a = thing_new ("a");
  g_autoptr (BelayEntry) entry = NULL;

  a->on_close = close_scope;
  a->data = &other;
  entry = belay_scope_push (scope, a, error);
  expect_critical ("*closed from inside of its own close*");
  g_assert_false (belay_entry_release (entry, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  return belay_scope_close (&scope, error);
}

/* --- taking back and moving --- */

static gboolean
test_steal (gpointer data, GError **error)
{
  belay_auto (Thing) mine = NULL;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (BelayEntry) a = belay_scope_push (scope, thing_new ("a"), error);
  g_autoptr (BelayEntry) f = belay_scope_push_func (scope, note_reason, "f", note_freed, error);
  g_autoptr (BelayEntry) found = NULL;
  g_autoptr (GError) failure = NULL;
  Thing *b;

  mine = belay_entry_steal (a, error);
  g_assert_cmpstr (mine->name, ==, "a");
  g_assert_true (belay_entry_disarm (f, error));
  assert_log ("+a ~f");

  /* what was entered has an entry, too */
  b = belay_enter (scope, thing_open ("b"), error);
  found = belay_scope_find_entry (scope, b);
  g_assert_true (found != NULL && belay_entry_is_armed (found));
  g_assert_null (belay_scope_find_entry (scope, mine));
  g_assert_true (belay_entry_release (found, error));
  assert_log ("+b -b");

  expect_critical ("*a function's*");
  g_assert_null (belay_entry_steal (f, &failure));
  g_assert_error (failure, BELAY_ERROR, BELAY_ERROR_MISUSE);
  expect_critical ("*a resource's*");
  g_assert_false (belay_entry_disarm (a, NULL));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("");
  g_assert_true (belay_close (&mine, error));
  assert_log ("-a");
  return TRUE;
}

static gboolean
test_move (gpointer data, GError **error)
{
  g_autoptr (GError) closed = NULL;
  BelayScope *from = belay_scope_new (), *to = belay_scope_new (), *third = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (third);
  g_autoptr (BelayEntry) a G_GNUC_UNUSED = belay_scope_push (from, thing_new ("a"), error);
  g_autoptr (BelayEntry) b = belay_scope_push (from, thing_new ("b"), error);
  g_autoptr (BelayEntry) c = belay_scope_push (from, thing_new ("c"), error);

  g_assert_true (belay_scope_adopt (to, thing_new ("x"), error));
  g_assert_true (belay_entry_move (b, to, error)); /* as the newest there */
  g_assert_true (belay_scope_close (&third, error));
  g_assert_false (belay_entry_move (c, kept, &closed)); /* it cannot take it */
  g_assert_error (closed, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_true (belay_entry_is_armed (c));
  thing_clear_log ();
  g_assert_true (belay_scope_close (&from, error));
  assert_log ("-c -a");
  g_assert_true (belay_entry_is_armed (b)); /* the handle went along */
  g_assert_true (belay_scope_close (&to, error));
  assert_log ("-b -x");
  g_assert_false (belay_entry_is_armed (b));
  return TRUE;
}

/* It has the target's release deadline from then on. */
static gboolean
test_move_deadline (gpointer data, GError **error)
{
  BelayScope *from = belay_scope_new (), *to = belay_scope_new ();
  g_autoptr (BelayEntry) a = belay_scope_push (from, thing_new_hanging ("a"), error);
  gint64 begin = now_ms ();

  belay_scope_set_release_timeout (from, -1);
  belay_scope_set_release_timeout (to, 20);
  g_assert_true (belay_entry_move (a, to, error));
  g_assert_false (belay_entry_release (a, NULL));
  g_assert_cmpint (now_ms () - begin, ==, 20);
  return belay_scope_close (&from, error) && belay_scope_close (&to, error);
}

static gboolean
test_move_all (gpointer data, GError **error)
{
  g_autoptr (GError) closed = NULL;
  BelayScope *from = belay_scope_new (), *to = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (from);
  g_autoptr (BelayEntry) b = NULL;

  g_assert_true (belay_scope_move_all (from, to, error)); /* nothing at all */
  g_assert_true (belay_scope_adopt (from, thing_new ("a"), error));
  b = belay_scope_push (from, thing_new ("b"), error);
  g_assert_true (belay_scope_defer (from, note_func, "c"));
  g_assert_true (belay_scope_adopt (to, thing_new ("x"), error));
  g_assert_true (belay_scope_move_all (from, to, error));
  g_assert_true (belay_scope_move_all (to, to, error));
  g_assert_true (belay_scope_adopt (from, thing_new ("d"), error)); /* it is as good as new */
  thing_clear_log ();
  g_assert_true (belay_scope_close (&from, error));
  assert_log ("-d");
  g_assert_false (belay_scope_move_all (to, kept, &closed));
  g_assert_error (closed, G_IO_ERROR, G_IO_ERROR_CLOSED);
  g_assert_true (belay_entry_release (b, error));
  g_assert_true (belay_scope_close (&to, error));
  assert_log ("-b c -a -x");
  return TRUE;
}

static gboolean
guard_moves (gpointer data, GError **error)
{
  belay_auto (Thing) guard = thing_new ("g");

  return belay_move (&guard, data, error);
}

static gboolean
test_move_guard (gpointer data, GError **error)
{
  g_autoptr (GError) closed = NULL;
  belay_auto (Thing) nothing = NULL;
  BelayScope *to = belay_scope_new ();
  g_autoptr (BelayScope) kept = belay_scope_ref (to);

  g_assert_true (belay_move (&nothing, to, error));
  g_assert_true (guard_moves (to, error));
  assert_log ("+g");
  g_assert_true (belay_scope_close (&to, error));
  assert_log ("-g");
  g_assert_false (guard_moves (kept, &closed)); /* the guard stays armed, and releases at the end of its block */
  g_assert_error (closed, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_log ("+g -g");
  return TRUE;
}

/* --- what may be registered --- */

static gboolean
test_validation (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (BelayScope) inner = belay_scope_begin ();
  belay_auto (BelayTimeout) limit = belay_timeout (1000);
  g_autoptr (GObject) object = g_object_new (G_TYPE_OBJECT, NULL);
  GError *errors[7] = { NULL };
  guint n = 0;

  expect_critical ("*there is no resource*");
  g_assert_null (belay_scope_push (scope, NULL, &errors[n++]));
  expect_critical ("*cannot own itself*");
  g_assert_false (belay_scope_adopt (scope, scope, &errors[n++]));
  expect_critical ("*that is lent*");
  g_assert_false (belay_scope_adopt (scope, belay_scope_for_object (object), &errors[n++]));
  expect_critical ("*a lexical scope belongs to its block*");
  g_assert_false (belay_move (&inner, scope, &errors[n++]));
  g_assert_nonnull (inner);
  expect_critical ("*belongs to its block*");
  g_assert_false (belay_move (&limit, scope, &errors[n++]));
  g_assert_true (limit != NULL && belay_time_left () == 1000);
  expect_critical ("*belongs to its block*");
  g_assert_false (belay_scope_adopt (scope, belay_steal (&limit), &errors[n++])); /* given away, so it is ended */
  g_assert_cmpint (belay_time_left (), ==, -1);
  expect_critical ("*a lexical scope belongs to its block*");
  g_assert_true (belay_scope_adopt (inner, thing_new ("a"), error));
  g_assert_null (belay_scope_push (scope, belay_steal (&inner), &errors[n++]));
  assert_log ("+a -a"); /* closed at once */
  for (guint i = 0; i < n; i++)
    {
      g_assert_error (errors[i], BELAY_ERROR, BELAY_ERROR_MISUSE);
      g_error_free (errors[i]);
    }
  return belay_scope_close (&scope, error);
}

/* A scope that another one owns cannot be given to itself, where nobody would close it. */
static gboolean
test_into_itself (gpointer data, GError **error)
{
  BelayScope *outer = belay_scope_new (), *inner = belay_scope_new ();
  g_autoptr (BelayEntry) a = belay_scope_push (outer, thing_new ("a"), error);
  g_autoptr (BelayEntry) entry = belay_scope_push (outer, inner, error);
  g_autoptr (GError) one = NULL, all = NULL;

  expect_critical ("belay_entry_move: a scope cannot own itself");
  g_assert_false (belay_entry_move (entry, inner, &one));
  g_assert_error (one, BELAY_ERROR, BELAY_ERROR_MISUSE);
  expect_critical ("belay_scope_move_all: a scope cannot own itself");
  g_assert_false (belay_scope_move_all (outer, inner, &all));
  g_assert_error (all, BELAY_ERROR, BELAY_ERROR_MISUSE);
  g_assert_true (belay_entry_is_armed (a) && belay_entry_is_armed (entry));
  g_assert_true (belay_scope_adopt (inner, thing_new ("b"), error));
  g_assert_true (belay_scope_close (&outer, error));
  assert_log ("+a +b -b -a");
  return TRUE;
}

/* A function is needed when it is registered, not at the exit. */
static gboolean
test_missing_function (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  expect_critical ("*func != NULL*");
  g_assert_false (belay_scope_defer (scope, NULL, NULL));
  expect_critical ("*func != NULL*");
  g_assert_false (belay_scope_on_exit (scope, NULL, NULL, NULL));
  expect_critical ("*func != NULL*");
  g_assert_null (belay_scope_push_func (scope, NULL, NULL, NULL, NULL));
  return belay_scope_close (&scope, error);
}

/* --- from elsewhere --- */

static gboolean
release_remote (gpointer data, GError **error)
{
  return belay_entry_release (data, error);
}

static gboolean
test_from_other_loop (gpointer data, GError **error)
{
  belay_auto (BelayLoop) loop = belay_loop_new ("other");
  g_autoptr (GError) failure = NULL;
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayEntry) a = NULL;
  g_autoptr (BelayEntry) b = belay_scope_push (scope, thing_new_failing ("b", "b is stuck"), error);

  belay_scope_set_release_timeout (belay_scope_current (), -1);
  a = belay_scope_push (scope, thing_new ("a"), error);
  g_assert_true (belay_await_ok (belay_loop_spawn (loop, release_remote, a, NULL), error));
  assert_log ("+b +a -a"); /* at home: a thing's close asserts its fiber, and it is done when the other goes on */
  g_assert_false (belay_await_ok (belay_loop_spawn (loop, release_remote, b, NULL), &failure));
  g_assert_cmpstr (failure->message, ==, "b is stuck");
  g_assert_true (belay_scope_close (&scope, error));
  return belay_close (&loop, error);
}

static gpointer
release_on_thread (gpointer entry)
{
  return GINT_TO_POINTER (belay_entry_release (entry, NULL));
}

static gboolean
test_from_plain_thread (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  g_autoptr (BelayEntry) a = belay_scope_push (scope, thing_new_slow ("a", 20), error);
  g_autoptr (BelayEntry) b = belay_scope_push (scope, thing_new_failing ("b", "b is stuck"), error);

  g_assert_nonnull (g_thread_join (g_thread_new ("plain", release_on_thread, a)));
  g_assert_false (belay_entry_is_armed (a)); /* scheduled: it is nobody else's any more */
  g_assert_null (g_thread_join (g_thread_new ("plain", release_on_thread, a)));
  g_assert_nonnull (g_thread_join (g_thread_new ("plain", release_on_thread, b)));
  g_assert_true (belay_scope_close (&scope, error)); /* waits for it */
  assert_log_words ("+a +b -a -b a."); /* each by itself */
  assert_sunk ("*b is stuck*");
  return TRUE;
}

/*
 * While the scope releases, in the middle of its newest release, another thread releases the next one early: what is older
 * waits for that, though it has only been scheduled.
 */
static gboolean
release_meanwhile (gpointer data, GError **error)
{
  return g_thread_join (g_thread_new ("plain", release_on_thread, data)) != NULL;
}

static gboolean
test_close_meets_early_from_afar (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  Thing *newest = thing_new ("c");
  g_autoptr (BelayEntry) next = NULL;

  g_assert_true (belay_scope_adopt (scope, thing_new ("a"), error));
  next = belay_scope_push (scope, thing_new_slow ("b", 20), error);
  newest->on_close = release_meanwhile;
  newest->data = next;
  g_assert_true (belay_scope_adopt (scope, newest, error));
  g_assert_true (belay_scope_close (&scope, error));
  assert_log ("+c +a +b -c -b b. -a");
  return TRUE;
}

/* Released, stolen and moved by several threads while the scopes close: each goes once. */
#define N_THINGS 400
#define N_SCOPES 3 /* of two, whoever has the lock of one stops all moves */

typedef struct
{
  BelayScope *scopes[N_SCOPES];
  BelayEntry *entries[N_THINGS];
  int         stolen;
} Tussle;

static gpointer
tussle (gpointer data)
{
  Tussle *self = data;
  guint32 chance = g_random_int ();

  for (guint i = 0; i < 4 * N_THINGS; i++)
    {
      BelayEntry *entry;
      gpointer thing;

      chance = chance * 1664525 + 1013904223;
      entry = belay_entry_ref (self->entries[(chance >> 8) % N_THINGS]);
      switch (chance >> 29)
        {
        case 0:
          belay_entry_release (entry, NULL);
          break;
        case 1:
          thing = belay_entry_steal (entry, NULL);
          if (thing != NULL)
            g_atomic_int_inc (&self->stolen);
          if (thing != NULL)
            belay_release (&thing);
          break;
        case 2:
          belay_scope_move_all (self->scopes[(chance >> 8) % N_SCOPES], self->scopes[(chance >> 16) % N_SCOPES], NULL);
          break;
        default:
          belay_entry_move (entry, self->scopes[(chance >> 7) % N_SCOPES], NULL);
        }
      belay_entry_unref (entry);
    }
  return NULL;
}

static gboolean
test_tussle (gpointer data, GError **error)
{
  for (guint round = 0; round < 3; round++)
    {
      Tussle self = { .stolen = 0 };
      BelayScope *scopes[N_SCOPES];
      GThread *threads[2];

      for (guint i = 0; i < N_SCOPES; i++)
        {
          scopes[i] = belay_scope_new ();
          self.scopes[i] = belay_scope_ref (scopes[i]);
        }
      for (guint i = 0; i < N_THINGS; i++)
        self.entries[i] = belay_scope_push (scopes[i % N_SCOPES], thing_new ("t"), error);
      for (guint i = 0; i < 2; i++)
        threads[i] = g_thread_new ("tussle", tussle, &self);
      for (guint i = 0; i < round * 20; i++)
        if (!belay_yield (error))
          return FALSE;
      for (guint i = 0; i < N_SCOPES; i++)
        g_assert_true (belay_scope_close (&scopes[i], error));
      for (guint i = 0; i < 2; i++)
        g_thread_join (threads[i]);
      for (guint i = 0; i < N_THINGS; i++)
        {
          g_assert_false (belay_entry_is_armed (self.entries[i]));
          belay_entry_unref (self.entries[i]);
        }
      for (guint i = 0; i < N_SCOPES; i++)
        belay_scope_unref (self.scopes[i]);
      thing_clear_log ();
    }
  while (thing_count.freed < thing_count.opened) /* what the threads' guards scheduled */
    if (!belay_yield (error))
      return FALSE;
  g_assert_cmpint (thing_count.closed + thing_count.abandoned, ==, thing_count.opened);
  return TRUE;
}

/* The home has ended: what it owned was ended by force, and the handles find that. */
static void
test_home_ends (void)
{
  GMainContext *main_context = g_main_context_new ();
  g_autoptr (GError) failure = NULL;
  BelayEntry *entry, *early;
  BelayScope *scope;

  g_main_context_push_thread_default (main_context);
  scope = belay_scope_new ();
  entry = belay_scope_push (scope, thing_new ("a"), NULL);
  early = belay_scope_push (scope, thing_new ("b"), NULL);
  g_main_context_pop_thread_default (main_context);
  g_assert_true (belay_entry_release (early, NULL)); /* scheduled there */
  g_main_context_unref (main_context);
  g_assert_cmpint (thing_count.abandoned, ==, 1);
  belay_release (&scope);
  thing_drain ();
  g_assert_cmpint (thing_count.abandoned, ==, 2);
  g_assert_false (belay_entry_is_armed (entry));
  g_assert_false (belay_entry_release (entry, &failure));
  g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CLOSED);
  assert_sunk ("*main context*is gone"); /* of what was scheduled and could not run */
  belay_entry_unref (entry);
  belay_entry_unref (early);
}

/* --- in numbers --- */

#define MANY 50000

static guint n_left;

static gboolean
count_down (gpointer data, BelayReason reason, GError **error)
{
  g_assert_cmpuint (GPOINTER_TO_UINT (data), ==, --n_left);
  return n_left % 5000 != 0 || belay_yield (error);
}

/* In a fiber of a stack of 64 KiB, see main(). Every third has a handle in the second round. */
static gboolean
test_many (gpointer data, GError **error)
{
  for (guint round = 0; round < 2; round++)
    {
      g_autoptr (GPtrArray) handles = g_ptr_array_new_with_free_func ((GDestroyNotify) belay_entry_unref);
      belay_auto (BelayScope) scope = belay_scope_begin ();

      for (n_left = 0; n_left < MANY; n_left++)
        if (round == 1 && n_left % 3 == 0)
          g_ptr_array_add (handles, belay_scope_push_func (scope, count_down, GUINT_TO_POINTER (n_left), NULL, error));
        else
          g_assert_true (belay_scope_on_exit (scope, count_down, GUINT_TO_POINTER (n_left), NULL));
      g_assert_true (belay_scope_close (&scope, error));
      g_assert_cmpuint (n_left, ==, 0);
    }
  return TRUE;
}

static gsize
resident (void)
{
  FILE *file = fopen ("/proc/self/statm", "r");
  unsigned long total, pages = 0;

  if (file == NULL)
    return 0;
  if (fscanf (file, "%lu %lu", &total, &pages) != 2)
    pages = 0;
  fclose (file);
  return pages * (gsize) sysconf (_SC_PAGESIZE);
}

static gboolean
count_up (gpointer data, BelayReason reason, GError **error)
{
  n_left++;
  return TRUE;
}

#define CYCLES 1000000

static gboolean
test_cycles (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  gsize before = 0;

  for (guint i = 0; i < 1000; i++) /* what stays, below: to release one is no search */
    g_assert_true (belay_scope_on_exit (scope, count_up, NULL, NULL));
  n_left = 0;
  for (guint i = 0; i < CYCLES; i++)
    {
      BelayEntry *entry = belay_scope_push_func (scope, count_up, NULL, NULL, error);

      if (i == CYCLES / 10)
        before = resident ();
      g_assert_true (belay_entry_release (entry, error));
      belay_entry_unref (entry);
    }
  g_assert_cmpuint (n_left, ==, CYCLES);
  if (!test_is_watched ())
    g_assert_cmpuint (resident (), <, before + 1024 * 1024);
  g_assert_true (belay_scope_close (&scope, error));
  g_assert_cmpuint (n_left, ==, CYCLES + 1000);
  return TRUE;
}

/* Handles that nobody dropped hold memory, and nothing else. */
static gboolean
test_handles_outlive (gpointer data, GError **error)
{
  BelayEntry *own, *unclosed;
  BelayScope *scope = belay_scope_new ();

  own = belay_scope_push (belay_scope_current (), thing_new ("a"), error);
  unclosed = belay_scope_push (scope, thing_new ("b"), error);
  g_assert_true (belay_entry_release (own, error));
  belay_scope_unref (scope); /* not the last reference: the handle has one */
  expect_critical ("*dropped without being closed*");
  belay_entry_unref (unclosed);
  g_assert_true (belay_sleep (1, error));
  assert_log ("+a +b -a -b");
  belay_entry_unref (own);
  return TRUE;
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  if (!SANITIZED)
    belay_set_stack_size (64 * 1024);
  thing_add_test ("/entry/functions-learn-the-reason", test_on_exit);
  thing_add_test ("/entry/L12-what-is-late-has-the-reason-of-the-rest", test_late_reason);
  thing_add_test ("/entry/L14-early-release", test_early_release);
  thing_add_test ("/entry/L6-early-release-in-a-cancelled-scope", test_early_cancelled);
  thing_add_test ("/entry/L7-early-release-fails-or-hangs", test_early_error);
  thing_add_test ("/entry/L2-close-meets-an-early-release", test_close_meets_early);
  thing_add_test ("/entry/L14-early-release-by-a-release", test_early_in_release);
  thing_add_test ("/entry/L11-close-from-an-early-release", test_close_in_early);
  thing_add_test ("/entry/L14-taken-back", test_steal);
  thing_add_test ("/entry/L14-moved", test_move);
  thing_add_test ("/entry/rule-9-what-is-moved-has-the-targets-deadline", test_move_deadline);
  thing_add_test ("/entry/L14-all-moved-in-order", test_move_all);
  thing_add_test ("/entry/L14-guard-moved-or-still-armed", test_move_guard);
  thing_add_test ("/entry/L13-wrong-owner-is-refused-when-given", test_validation);
  thing_add_test ("/entry/L13-missing-function", test_missing_function);
  thing_add_test ("/entry/L13-nothing-is-moved-into-itself", test_into_itself);
  thing_add_test ("/entry/L14-from-another-loop", test_from_other_loop);
  thing_add_test ("/entry/L14-from-a-plain-thread", test_from_plain_thread);
  thing_add_test ("/entry/L2-close-meets-an-early-release-from-a-thread", test_close_meets_early_from_afar);
  thing_add_test ("/entry/L1-L14-threads-and-closes", test_tussle);
  thing_add_plain_test ("/entry/L15-home-ends", test_home_ends);
  thing_add_single_test ("/scope/L16-many-releases-on-a-small-stack", test_many);
  thing_add_single_test ("/scope/L16-a-million-early-releases", test_cycles);
  thing_add_test ("/entry/L17-handles-outlive-what-they-are-of", test_handles_outlive);
  return g_test_run ();
}
