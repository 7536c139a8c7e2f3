/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fiber-local values. */
#include "thing.h"

static void
note_freed (gpointer data)
{
  thing_note ("~%s", (const char *) data);
}

static BelayLocal name = BELAY_LOCAL_INIT (note_freed);
static BelayLocal other = BELAY_LOCAL_INIT (NULL);

/* Notes what it sees. */
static gboolean
look (gpointer data, GError **error)
{
  const char *value = belay_local_get (&name);

  thing_note ("%s:%s", (const char *) data, value != NULL ? value : "none");
  return TRUE;
}

static gboolean
set_own (gpointer data, GError **error)
{
  look (data, error);
  g_assert_true (belay_local_set (&name, data));
  look (data, error);
  g_assert_true (belay_await_ok (belay_spawn (look, "grandchild"), error));
  return TRUE;
}

static gboolean
ancestor (gpointer data, GError **error)
{
  g_assert_null (belay_local_get (&name));
  g_assert_true (belay_local_set (&name, "a"));
  g_assert_true (belay_local_set (&other, GINT_TO_POINTER (7)));
  g_assert_true (belay_await_ok (belay_spawn (look, "child"), error));
  g_assert_true (belay_await_ok (belay_spawn (set_own, "b"), error));
  look ("self", error); /* a child's own is the child's */
  {
    belay_auto (BelayScope) group = belay_scope_begin ();

    g_assert_true (belay_scope_spawn (group, look, "member", NULL));
    g_assert_true (belay_scope_defer (group, look, "release"));
    g_assert_true (belay_scope_close (&group, error));
  }
  g_assert_cmpint (GPOINTER_TO_INT (belay_local_get (&other)), ==, 7);
  assert_log ("child:a b:a b:b grandchild:b ~b self:a member:a release:a");
  return TRUE;
}

static gboolean
test_inherited (gpointer data, GError **error)
{
  g_assert_true (belay_await_ok (belay_spawn (ancestor, NULL), error));
  assert_log ("~a");
  look ("outside", error);
  assert_log ("outside:none");
  return TRUE;
}

/* What is set again replaces, and NULL takes away. */
static gboolean
replace (gpointer data, GError **error)
{
  g_assert_true (belay_local_set (&name, NULL)); /* nothing of its own yet */
  look ("own", error);
  g_assert_true (belay_local_set (&name, "x"));
  g_assert_true (belay_local_set (&name, "y"));
  look ("own", error);
  g_assert_true (belay_local_set (&name, NULL));
  look ("own", error);
  return TRUE;
}

static gboolean
test_replaced (gpointer data, GError **error)
{
  g_assert_true (belay_local_set (&name, "outer"));
  g_assert_true (belay_await_ok (belay_spawn (replace, NULL), error));
  assert_log ("own:outer ~x own:y ~y own:outer");
  return TRUE;
}

/* Freed after the function, the children and the releases of its fiber, which all see it. */
static gboolean
look_late (gpointer data, GError **error)
{
  belay_sleep (10, NULL);
  return look (data, error);
}

static gboolean
ends (gpointer data, GError **error)
{
  BelayFuture *child = belay_spawn (look_late, "child");

  g_assert_true (belay_scope_defer (belay_scope_current (), look_late, "release"));
  g_assert_true (belay_local_set (&name, "v"));
  belay_future_unref (child);
  return data == NULL || fail_func (data, error);
}

static gboolean
test_freed_last (gpointer data, GError **error)
{
  g_autoptr (GError) failure = NULL;

  g_assert_true (belay_await_ok (belay_spawn (ends, NULL), error));
  assert_log ("child:v release:v ~v");
  failure = thing_outcome (ends, "it failed");
  assert_log ("release:v ~v"); /* the child was never begun */
  return TRUE;
}

/* One that is set by a release, or by a destroy function, is freed too. */
static void set_another (gpointer data);
static BelayLocal chain = BELAY_LOCAL_INIT (set_another);

static void
set_another (gpointer data)
{
  thing_note ("~%d", GPOINTER_TO_INT (data));
  if (GPOINTER_TO_INT (data) > 1)
    g_assert_true (belay_local_set (&chain, GINT_TO_POINTER (GPOINTER_TO_INT (data) - 1)));
}

static gboolean
set_in_release (gpointer data, GError **error)
{
  return belay_local_set (&chain, GINT_TO_POINTER (3));
}

static gboolean
sets_late (gpointer data, GError **error)
{
  return belay_scope_defer (belay_scope_current (), set_in_release, NULL);
}

static gboolean
test_set_late (gpointer data, GError **error)
{
  g_assert_true (belay_await_ok (belay_spawn (sets_late, NULL), error));
  assert_log ("~3 ~2 ~1");
  return TRUE;
}

/* The fibers of a stored scope are in no other. */
static gboolean
test_stored (gpointer data, GError **error)
{
  BelayScope *stored = belay_scope_new ();

  g_assert_true (belay_local_set (&name, "mine"));
  g_assert_true (belay_scope_spawn (stored, look, "stored", NULL));
  g_assert_true (belay_scope_close (&stored, error));
  assert_log ("stored:none");
  return TRUE;
}

/* A value of a fiber whose stack the next one has is not that one's. */
static gboolean
test_stack_reused (gpointer data, GError **error)
{
  for (guint i = 0; i < 100; i++)
    {
      g_assert_true (belay_await_ok (belay_spawn (set_own, "s"), error));
      assert_log ("s:none s:s grandchild:s ~s");
    }
  return TRUE;
}

static void
test_outside (void)
{
  g_assert_null (belay_local_get (&name));
  expect_critical ("*belay_local_set*");
  g_assert_false (belay_local_set (&name, "v"));
  assert_log ("~v");
}

int
main (int argc, char **argv)
{
  thing_init (&argc, &argv);
  thing_add_test ("/local/inherited", test_inherited);
  thing_add_test ("/local/replaced-and-taken-away", test_replaced);
  thing_add_test ("/local/freed-after-the-releases", test_freed_last);
  thing_add_test ("/local/set-in-the-last-moment", test_set_late);
  thing_add_test ("/local/not-in-a-stored-scope", test_stored);
  thing_add_test ("/local/not-in-the-next-fiber-on-a-stack", test_stack_reused);
  thing_add_plain_test ("/local/outside-a-fiber", test_outside);
  return g_test_run ();
}
