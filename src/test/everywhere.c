/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Everywhere: a function run over and over, stopped at another place each time.
 *
 * The *subject* is the fiber that runs the function, the *tester* the one that waits for it. The tester's own checkpoints
 * do not count; those of all others do, since whatever runs meanwhile runs on the subject's behalf. The subject is
 * stopped as a whole, as a program is by a signal: its root limit is cancelled, or its time is made to be up, and the
 * fibers inside find out themselves.
 *
 * *At the entry* it is stopped before the checkpoint looks, which then fails. *While it waits* it is stopped by an item that
 * goes to the head of the queue: the next that runs, once whoever is at the checkpoint has suspended. A checkpoint that
 * does not suspend lets it run a little later.
 *
 * The last run, in which the place was not reached any more, was not interfered with; so it must succeed.
 */
#include "test/test-private.h"

typedef struct
{
  BelayFunc   func;
  gpointer    data;
  gboolean    expire;  /* else cancel */
  gboolean    waiting; /* else at the entry */
  guint       nth;     /* where the subject is stopped; 0: nowhere */
  guint       n;       /* checkpoints so far in this run */
  gboolean    stopped;
  BelayTestBefore before; /* when it began */
  BelayFiber *tester, *subject;
  BelayItem   item;    /* stops it */
} Everywhere;

static void
stop (Everywhere *self)
{
  BelayLimit *root;

  if (self->subject->stack == NULL)
    return; /* it has ended, or not begun: then it looks when it does, which is a checkpoint of its own */
  root = &self->subject->stack->root;
  if (self->expire)
    belay_limit_set_deadline (root, belay_now ());
  else
    belay_limit_cancel (root, "cancelled by the test");
  belay_fiber_poke (self->subject);
}

static void
on_stop (BelayItem *item)
{
  stop ((Everywhere *) ((char *) item - G_STRUCT_OFFSET (Everywhere, item)));
}

static void
push_first (BelayContext *context, BelayItem *item)
{
  item->next = context->head;
  context->head = item;
  if (item->next == NULL)
    context->tail = item;
}

static void
on_checkpoint (BelayFiber *fiber, const char *site, gpointer data)
{
  Everywhere *self = data;

  if (fiber == self->tester || fiber->context != self->tester->context || ++self->n != self->nth)
    return;
  self->stopped = TRUE;
  belay_story_set (BELAY_STORY_INJECTED, "it had been %s %s checkpoint %u, %s, of the fiber from %s",
                   self->expire ? "out of time" : "cancelled", self->waiting ? "while it waited at" : "at the entry of",
                   self->nth, site != NULL ? site : "of an unknown line", fiber->site != NULL ? fiber->site : "?");
  if (self->waiting)
    push_first (fiber->context, &self->item);
  else
    stop (self);
}

/* After each run: what is left must not be. */
static void
check_left (const BelayTestBefore *before)
{
  g_autofree char *left = NULL;

  belay_test_settle_to (before->pending);
  left = belay_test_find_left (before);
  if (left != NULL)
    belay_test_fail_at (NULL, "%s", left);
}

static void
check_sink (void)
{
  g_autofree char *sunk = belay_test_take_sunk ();

  if (*sunk != '\0')
    belay_test_fail_at (NULL, "nobody was there to be told: %s", sunk);
}

/* Runs the subject to its end, and looks what is left; its error, if any. */
static GError *
run_subject (Everywhere *self)
{
  g_autoptr (BelayFuture) future = belay_spawn (self->func, self->data);
  GError *error = NULL;

  self->subject = (BelayFiber *) future; /* a spawned fiber's record begins with its future */
  belay_await_ok (belay_future_ref (future), &error);
  check_left (&self->before);
  return error;
}

static void
check_last (GError *error)
{
  if (error != NULL)
    belay_test_fail_at (NULL, "it fails though nothing was done to it: %s", error->message);
}

static gboolean
run_stopped (Everywhere *self)
{
  g_autoptr (GError) error = NULL;

  self->n = 0;
  self->stopped = FALSE;
  belay_limit_set_probe (on_checkpoint, self);
  error = run_subject (self);
  belay_limit_set_probe (NULL, NULL);
  check_sink ();
  if (!self->stopped)
    check_last (error);
  belay_story_set (BELAY_STORY_INJECTED, NULL);
  return self->stopped;
}

static gboolean
stop_everywhere (gpointer data, GError **error)
{
  Everywhere *self = data;
  belay_auto (BelayShield) shield = belay_shield ();

  self->tester = belay_fiber_self ();
  belay_test_look_before (&self->before);
  self->item.run = on_stop;
  for (int waiting = 0; waiting <= 1; waiting++)
    {
      self->waiting = waiting;
      self->nth = 0;
      do
        self->nth++;
      while (run_stopped (self));
    }
  belay_test_clear_before (&self->before);
  return TRUE;
}

guint
belay_test_cancel_everywhere (BelayFunc func, gpointer data)
{
  Everywhere self = { .func = func, .data = data };

  g_return_val_if_fail (func != NULL, 0);
  belay_test_in_fiber (stop_everywhere, &self);
  return self.n;
}

guint
belay_test_expire_everywhere (BelayFunc func, gpointer data)
{
  Everywhere self = { .func = func, .data = data, .expire = TRUE };

  g_return_val_if_fail (func != NULL, 0);
  belay_test_in_fiber (stop_everywhere, &self);
  return self.n;
}

static gboolean
fail_everywhere (gpointer data, GError **error)
{
  Everywhere *self = data;
  belay_auto (BelayShield) shield = belay_shield ();

  belay_test_look_before (&self->before);
  do
    {
      g_autoptr (GError) failure = NULL;

      belay_test_inject_any (++self->nth);
      failure = run_subject (self);
      self->n = belay_test_inject_count ();
      belay_test_inject_any (0);
      if (self->n < self->nth)
        {
          check_last (failure);
          check_sink ();
        }
      g_free (belay_test_take_sunk ());
      belay_story_set (BELAY_STORY_INJECTED, NULL);
    }
  while (self->n >= self->nth);
  belay_test_clear_before (&self->before);
  return TRUE;
}

guint
belay_test_fail_everywhere (BelayFunc func, gpointer data)
{
  Everywhere self = { .func = func, .data = data };

  g_return_val_if_fail (func != NULL, 0);
  belay_test_in_fiber (fail_everywhere, &self);
  return self.n;
}
