/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A lifespan, interrupted at every checkpoint, with every step of it failing, and in every order that seeds make: whatever happens,
 * a part is never there, not even while it closes, without the parts it needs.
 */
#include "support.h"

#include <belay/belay-test.h>

#define N 5

/* 0 and 1 need nothing, 2 needs both, 3 needs 0, 4 needs 2 and 3. */
static const char *const names[N] = { "a", "b", "c", "d", "e" };
static const char *const needs[N][3] = { { NULL }, { NULL }, { "a", "b", NULL }, { "a", NULL }, { "c", "d", NULL } };

static gboolean is_open[N];

static void
assert_needs (int i)
{
  for (int k = 0; needs[i][k] != NULL; k++)
    g_assert_true (is_open[needs[i][k][0] - 'a']);
}

/* First of all in its close, and again when that is half over. */
static gboolean
on_close (gpointer data, GError **error)
{
  int i = GPOINTER_TO_INT (data);

  g_assert_true (is_open[i]);
  assert_needs (i);
  if (!belay_sleep (5, error))
    {
      is_open[i] = FALSE;
      return FALSE;
    }
  assert_needs (i);
  is_open[i] = FALSE;
  return TRUE;
}

static gpointer
open_part (gpointer data, GError **error)
{
  int i = GPOINTER_TO_INT (data);
  BelayTestResource *resource;

  assert_needs (i);
  resource = belay_await (belay_test_resource_open (names[i], 10 * (1 + belay_test_chance (3))), error);
  if (resource == NULL)
    {
      belay_auto (BelayShield) shield = belay_shield (); /* unwinds, and uses what it needs */

      g_assert_nonnull (shield);
      belay_sleep (5, NULL);
      assert_needs (i);
      return NULL;
    }
  is_open[i] = TRUE;
  resource->on_close = on_close;
  resource->data = data;
  return resource;
}

static BelayFuture *
start_part (BelayLifespan *life, gpointer data)
{
  for (int k = 0; needs[GPOINTER_TO_INT (data)][k] != NULL; k++)
    g_assert_nonnull (belay_lifespan_get (life, needs[GPOINTER_TO_INT (data)][k]));
  return belay_open (open_part, data);
}

static gboolean
child (gpointer data, GError **error)
{
  gboolean ok = belay_sleep (30, error);

  for (int i = 0; i < N; i++)
    g_assert_true (is_open[i]);
  return ok;
}

static gboolean
serve (gpointer life, GError **error)
{
  g_assert_cmpint (belay_lifespan_get_state (life), ==, BELAY_LIFESPAN_RUNNING);
  for (int i = 0; i < N; i++)
    g_assert_true (is_open[i]);
  belay_future_unref (belay_spawn (child, NULL));
  return belay_sleep (10, error) && belay_test_step ("serve", error);
}

static gboolean
live (gpointer data, GError **error)
{
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  gboolean ok;

  for (int i = 0; i < N; i++)
    is_open[i] = FALSE;
  for (int i = N - 1; i >= 0; i--)
    belay_lifespan_addv (life, names[i], start_part, GINT_TO_POINTER (i), needs[i]);
  ok = belay_lifespan_run (life, serve, life, error);
  for (int i = 0; i < N; i++)
    g_assert_false (is_open[i] && belay_lifespan_get_part_state (life, names[i]) == BELAY_LIFESPAN_STOPPED);
  return ok;
}

static gboolean
test_cancel (gpointer data, GError **error)
{
  g_assert_cmpuint (belay_test_cancel_everywhere (live, NULL), >, 20);
  g_assert_cmpuint (belay_test_expire_everywhere (live, NULL), >, 20);
  return TRUE;
}

static gboolean
test_fail (gpointer data, GError **error)
{
  g_assert_cmpuint (belay_test_fail_everywhere (live, NULL), >=, 2 * N + 1); /* each open, each close, and the work */
  return TRUE;
}

static gboolean
wait_and_cancel (gpointer scope, GError **error)
{
  gboolean ok = belay_sleep (belay_test_chance (120), error);

  belay_scope_cancel (scope, "enough");
  return ok;
}

static gboolean
live_and_say (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  if (!live (NULL, &failure))
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return TRUE;
}

static gboolean
test_orders (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_scope_spawn (scope, live_and_say, NULL, NULL));
  if (belay_test_chance (2) == 1)
    g_assert_true (belay_scope_spawn (scope, wait_and_cancel, scope, NULL));
  if (!belay_scope_close (&scope, &failure))
    g_assert_error (failure, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return TRUE;
}

int
main (int argc, char **argv)
{
  belay_test_init (&argc, &argv);
  belay_test_add_func ("/lifespan/L4-L49-interrupted-at-every-checkpoint", test_cancel);
  belay_test_add_func ("/lifespan/L3-L49-every-step-fails-once", test_fail);
  belay_test_explore ("/lifespan/L2-L49-in-every-order", test_orders);
  return g_test_run ();
}
