/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Injection: what goes wrong at which step or point.
 *
 * An *order* names a step or point and says which call of it, from when the order was given, goes wrong, and how. There may be
 * one more, for any name: that is how every place fails in its turn. Orders are forgotten at the end of a test.
 */
#include "test/test-private.h"

#define ORDERS 16

typedef struct
{
  const char    *name; /* interned */
  guint          nth, seen;
  BelayTestFault fault;
  gint64         milliseconds;
} Order;

static atomic_flag lock = ATOMIC_FLAG_INIT; /* all below */
static Order orders[ORDERS];
static guint n_orders;
static guint any_nth, any_seen;

/* What is to happen at this call; 0: nothing. */
static guint
ask (const char *name, gint64 *ret_milliseconds)
{
  guint fault = 0;

  belay_spin_lock (&lock);
  if (++any_seen == any_nth)
    {
      fault = BELAY_TEST_FAIL;
      belay_story_set (BELAY_STORY_INJECTED, "\"%s\", which was call %u of a step or point, had been made to fail", name,
                       any_nth);
    }
  for (guint i = 0; i < n_orders; i++)
    if (g_str_equal (orders[i].name, name) && ++orders[i].seen == orders[i].nth)
      {
        fault = orders[i].fault;
        *ret_milliseconds = orders[i].milliseconds;
      }
  belay_spin_unlock (&lock);
  return fault;
}

static gboolean
decide (const char *name)
{
  gint64 milliseconds = 0;

  return ask (name, &milliseconds) != 0;
}

void
belay_test_inject_begin (void)
{
  n_orders = any_nth = any_seen = 0;
  belay_point_set_func (decide);
}

void
belay_test_inject_any (guint nth)
{
  belay_spin_lock (&lock);
  any_nth = nth;
  any_seen = 0;
  belay_spin_unlock (&lock);
}

guint
belay_test_inject_count (void)
{
  guint seen;

  belay_spin_lock (&lock);
  seen = any_seen;
  belay_spin_unlock (&lock);
  return seen;
}

void
belay_test_inject (const char *name, guint nth, BelayTestFault fault, gint64 milliseconds)
{
  g_return_if_fail (name != NULL && nth > 0 && fault >= BELAY_TEST_FAIL && fault <= BELAY_TEST_DELAY);

  name = g_intern_string (name);
  belay_spin_lock (&lock);
  if (n_orders < ORDERS)
    orders[n_orders++] = (Order) { name, nth, 0, fault, milliseconds };
  else
    g_critical ("belay_test_inject: a test can have %u of them at most", ORDERS);
  belay_spin_unlock (&lock);
}

static gboolean
hang (GError **error)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();

  return belay_await_ok (belay_promise_get_future (promise), error);
}

gboolean
belay_test_step (const char *name, GError **error)
{
  gint64 milliseconds = 0;
  guint fault;

  g_return_val_if_fail (name != NULL, FALSE);

  fault = ask (name, &milliseconds);
  if (fault == 0)
    return TRUE;
  if (belay_in_fiber () && fault == BELAY_TEST_HANG)
    return hang (error);
  if (belay_in_fiber () && fault == BELAY_TEST_DELAY)
    return belay_sleep (milliseconds, error);
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_FAILED, "\"%s\" was made to fail", name);
  return FALSE;
}
