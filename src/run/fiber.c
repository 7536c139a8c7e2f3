/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fibers: functions that may wait.
 *
 * Words. A fiber's *record* begins with the future of its result; its *stack* is bound at the first run, so that fibers
 * which run one after another share one that is warm. *Resume* goes from a level of the dispatch to a fiber; a fiber
 * that *suspends* goes straight to the next one that is ready, and back to the level when there is none, when the next
 * item is no fiber, or when the slice is spent.
 *
 * States: unstarted (no stack), running (context->current), ready (its item is queued), waiting (stack->wait), ended
 * (outcome known, no stack). A wait is *deaf* or *interruptible*. What is waited for *fires*, once for each wait, from
 * any thread; an interruption wakes the fiber, which then finds out itself what happened.
 *
 * A fiber may run a main loop on its stack, as a dialog does. What that loop dispatches of other sources is in no
 * fiber: were it to suspend, it would leave in the middle of GLib's dispatch. So a fiber is *covered* from the instant
 * that a main loop on its stack looks for work (each context has a source whose prepare tells, before any other source)
 * until the fiber itself asks again who is calling: then g_main_depth() is back at what it was. It is asked only when
 * nobody is current, so that the fast way is one load. A loop over a GMainContext that has never had to do with Belay
 * tells nothing; its handlers count as the fiber's own, and so do those of a turn in which a source's own check function
 * asks who is calling. Those can wait, and then g_main_depth(), which is the thread's,
 * is one more for everybody; so what it has changed by in a dispatch changes what the dispatches around compare with.
 *
 * Invariants
 *   1. A fiber runs on its context's home thread only, and is never destroyed while it is suspended.
 *   2. stack->wait != NONE exactly while it is waiting; whoever sets it to NONE queues the item. So it is queued once.
 *   3. A wait ends only after its waiter has been unlinked or has fired: nothing of an old wait can reach a new one.
 *   4. Deadlines are compared with the clock after every wake-up, so one that fires while the fiber is queued is
 *      seen all the same.
 *   5. A thread-local address is never kept over a switch.
 *   6. level->covered is the fiber on whose stack the thread is, or NULL, whenever nobody is current: who gives the
 *      stack up, and the level that gets control back, clear it.
 */
#include "run/fiber.h"
#include "run/schedule.h"

#define FIBER_OF(i) ((BelayFiber *) ((char *) (i) - G_STRUCT_OFFSET (BelayFiber, item)))
#define STACK_OF(p, member) ((BelayStack *) ((char *) (p) - G_STRUCT_OFFSET (BelayStack, member)))

static void on_waiter (BelayWaiter *waiter);
static void on_fired_item (BelayItem *item);
static void on_timer (BelayTimer *timer);

void
belay_fiber_init (BelayFiber *self, BelayContext *context, BelayLimit *outer, void (*entry) (BelayFiber *), const char *site)
{
  belay_future_init (&self->future, 1 + BELAY_PROMISE_UNIT);
  self->item.run = NULL;
  self->context = context;
  self->stack = NULL;
  self->outer = outer;
  self->entry = entry;
  self->poked = NULL;
  self->site = site;
}

/* --- switching --- */

void
belay_stack_prepare (BelayStack *stack)
{
  belay_limit_init (&stack->root);
  stack->waiter.notify = on_waiter;
  stack->fired_item.run = on_fired_item;
  stack->timer.fire = on_timer;
}

static inline void
bind_stack (BelayFiber *self, BelayStack *stack)
{
  self->stack = stack;
  stack->fiber = self;
  stack->root.outer = self->outer;
  stack->root.fiber = self;
  stack->limit = &stack->root;
  stack->epoch = 0;
  stack->deadline = G_MAXINT64;
  stack->wait = BELAY_WAIT_NONE;
  stack->observed = FALSE;
  stack->timed = FALSE;
  stack->allowed = FALSE;
  stack->scope = NULL;
}

/* The fiber has ended. */
static inline void
unbind_stack (BelayStack *stack)
{
  if (G_UNLIKELY (stack->timed))
    belay_timer_disarm (stack->context, &stack->timer);
  if (G_UNLIKELY (atomic_load_explicit (&stack->root.reason, memory_order_relaxed) != NULL || stack->observed ||
                  atomic_load_explicit (&stack->root.deadline, memory_order_relaxed) != G_MAXINT64))
    {
      belay_limit_clear (&stack->root);
      belay_limit_init (&stack->root);
    }
  stack->fiber = NULL;
}

/* The next item, when it is a fiber and may run in this slice. */
static inline BelayFiber *
peek_fiber (BelayContext *context)
{
  BelayItem *item = context->head;

  if (item == NULL || item->run != NULL || context->slice <= 0 || context->schedule != NULL)
    return NULL;
  return FIBER_OF (item);
}

static inline void
drop_head (BelayContext *context)
{
  context->head = context->head->next;
  context->slice--;
}

static void
run_fibers (void)
{
  BelayContext *context = belay_thread.context;
  BelayStack *stack = context->current->stack;

  belay_coro_entered ();
  for (;;)
    {
      BelayFiber *next;

      stack->fiber->entry (stack->fiber);

      unbind_stack (stack);
      next = peek_fiber (context);
      if (next != NULL && next->stack == NULL)
        {
          drop_head (context);
          bind_stack (next, stack);
          context->current = next;
          continue;
        }
      stack->next = context->warm;
      context->warm = stack;
      context->n_warm++;
      context->current = next;
      if (next != NULL)
        drop_head (context);
      belay_coro_switch (&stack->coro, next != NULL ? &next->stack->coro : &context->level->coro);
    }
}

/* Leaves a fiber that waits or yields, and returns when it is resumed. */
static inline void
leave (BelayContext *context, BelayFiber *self)
{
  BelayFiber *next = peek_fiber (context);

  if (next != NULL)
    {
      if (next == self)
        {
          drop_head (context);
          return;
        }
      if (G_LIKELY (next->stack != NULL))
        {
          drop_head (context);
          context->current = next;
          belay_coro_switch (&self->stack->coro, &next->stack->coro);
          return;
        }
      if (context->warm != NULL)
        {
          BelayStack *stack = context->warm;

          drop_head (context);
          context->warm = stack->next;
          context->n_warm--;
          bind_stack (next, stack);
          context->current = next;
          belay_coro_switch (&self->stack->coro, &stack->coro);
          return;
        }
    }
  context->current = NULL;
  belay_coro_switch (&self->stack->coro, &context->level->coro);
}

void
belay_fiber_resume (BelayContext *context, BelayItem *item)
{
  BelayFiber *self = FIBER_OF (item);
  BelayStack *stack;

  if (self->stack == NULL)
    {
      stack = belay_stack_get (context);
      if (G_UNLIKELY (stack == NULL))
        {
          self->entry (self); /* without a stack: it only cleans up and fails */
          return;
        }
      if (stack->coro.sp == NULL)
        belay_coro_init (&stack->coro, stack->base, (gsize) ((char *) stack - stack->base), run_fibers);
      bind_stack (self, stack);
      if (G_UNLIKELY (context->schedule != NULL))
        stack->priority = belay_schedule_get_chosen (context->schedule);
    }
  context->current = self;
  belay_coro_switch (&context->level->coro, &self->stack->coro);
  context->current = NULL;
  context->level->covered = NULL;
}

/* --- main loops on its stack --- */

void
belay_fiber_cover (void)
{
  BelayContext *context = belay_thread.context;

  if (G_UNLIKELY (context != NULL && context->current != NULL))
    {
      context->level->covered = context->current;
      context->level->depth = g_main_depth ();
      context->current = NULL;
    }
}

BelayFiber *
belay_fiber_uncover (void)
{
  BelayContext *context = belay_thread.context;

  if (context == NULL || context->level->covered == NULL || belay_thread.current != &context->current ||
      g_main_depth () > context->level->depth)
    return NULL;
  context->current = g_steal_pointer (&context->level->covered);
  return context->current;
}

void
belay_fiber_orphaned (BelayItem *item)
{
  BelayFiber *self = FIBER_OF (item);

  if (self->stack == NULL)
    self->entry (self);
}

/* --- waiting --- */

void
belay_fiber_suspend (BelayFiber *self, guint8 wait, gint64 until)
{
  BelayStack *stack = self->stack;

  if (G_UNLIKELY (stack->allowed))
    belay_limit_begin_allowances (self);
  if (wait == BELAY_WAIT_INTERRUPTIBLE)
    until = MIN (until, stack->deadline);
  if (G_UNLIKELY (until != G_MAXINT64) && (stack->timer.place == 0 || stack->timer.when > until))
    {
      belay_timer_arm (self->context, &stack->timer, until);
      stack->timed = TRUE;
    }
  stack->wait = wait;
  leave (self->context, self);
}

void
belay_fiber_wake (BelayFiber *self)
{
  BelayStack *stack = self->stack;

  if (stack->wait == BELAY_WAIT_NONE)
    return;
  stack->wait = BELAY_WAIT_NONE;
  belay_context_push_local (self->context, &self->item);
}

static inline void
fire_at_home (BelayStack *stack)
{
  stack->fired = TRUE;
  belay_fiber_wake (stack->fiber);
}

static void
on_fired_item (BelayItem *item)
{
  fire_at_home (STACK_OF (item, fired_item));
}

static inline void
fire (BelayStack *stack)
{
  if (G_LIKELY (belay_thread.context == stack->context))
    fire_at_home (stack);
  else
    belay_context_push_remote (stack->context, &stack->fired_item);
}

void
belay_fiber_fire (BelayFiber *self)
{
  fire (self->stack);
}

static void
on_waiter (BelayWaiter *waiter)
{
  fire (STACK_OF (waiter, waiter));
}

static void
on_timer (BelayTimer *timer)
{
  BelayStack *stack = STACK_OF (timer, timer);

  if (stack->fiber != NULL)
    belay_fiber_wake (stack->fiber);
}

/* Waits on, deaf, until what was waited for has fired. */
static void
wait_for_fire (BelayFiber *self)
{
  while (!self->stack->fired)
    belay_fiber_suspend (self, BELAY_WAIT_DEAF, G_MAXINT64);
}

void
belay_fiber_await_deaf (BelayFiber *self, BelayFuture *future, const char *site)
{
  BelayStack *stack = self->stack;

  stack->fired = FALSE;
  belay_stack_set_wait (stack, BELAY_WAITS_FOR_FUTURE, future, site);
  if (belay_future_add_waiter (future, &stack->waiter))
    wait_for_fire (self);
}

static G_NO_INLINE gboolean
fail_own_future (BelayFiber *self, GError **error)
{
  g_critical ("the fiber from %s awaits its own end", self->site != NULL ? self->site : "?");
  g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "a fiber cannot wait for itself");
  return FALSE;
}

/* An interruption counts as observed when the wait fails with it, and not when the outcome came all the same. */
static gboolean
await_pending (BelayFiber *self, BelayFuture *future, const char *site, GError **error)
{
  BelayStack *stack = self->stack;

  if (G_UNLIKELY (future == &self->future))
    return fail_own_future (self, error);
  do
    {
      stack->fired = FALSE;
      belay_stack_set_wait (stack, BELAY_WAITS_FOR_FUTURE, future, site);
      if (!belay_future_add_waiter (future, &stack->waiter))
        return TRUE;
      do
        {
          belay_fiber_suspend (self, BELAY_WAIT_INTERRUPTIBLE, G_MAXINT64);
          if (G_LIKELY (stack->fired))
            return TRUE;
        }
      while (!belay_limit_notice (self));

      if (belay_future_give_up (future, FALSE))
        {
          wait_for_fire (self);
          belay_future_take_up (future);
          /* That it was stopped is our doing: say why. Anything else really happened, and is what counts. */
          return belay_future_status (future) != BELAY_STATE_REJECTED ||
                 !g_error_matches (belay_future_get_error (future), G_IO_ERROR, G_IO_ERROR_CANCELLED) ||
                 belay_limit_check (self, site, error);
        }
      if (!belay_future_remove_waiter (future, &stack->waiter))
        {
          /* It has just settled: that goes first, and its notification must not reach a later wait. */
          wait_for_fire (self);
          return TRUE;
        }
    }
  while (belay_limit_check (self, site, error)); /* a deadline that another thread has moved */
  return FALSE;
}

gboolean
belay_fiber_await (BelayFiber *self, BelayFuture *future, const char *site, GError **error)
{
  if (G_UNLIKELY (!belay_limit_check (self, site, error)))
    {
      /* Nothing may use the caller's memory after this, checked late or not. */
      if (belay_future_status (future) == BELAY_STATE_PENDING && belay_future_give_up (future, FALSE))
        {
          belay_fiber_await_deaf (self, future, site);
          belay_future_take_up (future);
        }
      /* The same deadline may have stopped it before we did: that is what the caller is told, and nobody else. */
      if (belay_future_status (future) == BELAY_STATE_REJECTED &&
          belay_limit_pending (self->stack->limit) == BELAY_REASON_DEADLINE &&
          g_error_matches (future->value.error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT))
        belay_future_get_error (future);
      return FALSE;
    }
  if (belay_future_status (future) != BELAY_STATE_PENDING)
    return TRUE;
  return await_pending (self, future, site, error);
}

/* --- the public waits --- */

gboolean
belay_in_fiber (void)
{
  return belay_fiber_self () != NULL;
}

gboolean
belay_checkpoint (GError **error)
{
  BelayFiber *self = belay_fiber_self ();

  return self == NULL || belay_limit_check (self, NULL, error);
}

gboolean
belay_yield_at (GError **error, const char *site)
{
  BelayFiber *self = belay_fiber_self ();

  if (G_UNLIKELY (self == NULL))
    return belay_fail_no_fiber ("belay_yield", error);
  if (G_UNLIKELY (!belay_limit_check (self, site, error)))
    return FALSE;
  belay_context_push_local (self->context, &self->item);
  leave (self->context, self);
  return belay_limit_check (self, site, error);
}

gboolean
belay_sleep_at (gint64 milliseconds, GError **error, const char *site)
{
  BelayFiber *self = belay_fiber_self ();
  gint64 until;

  if (milliseconds <= 0)
    return belay_yield_at (error, site);
  if (self == NULL)
    return belay_fail_no_fiber ("belay_sleep", error);
  if (!belay_limit_check (self, site, error))
    return FALSE;
  until = milliseconds < G_MAXINT64 / 2000 ? belay_now () + milliseconds * 1000 : G_MAXINT64;
  belay_stack_set_wait (self->stack, BELAY_WAITS_FOR_TIME, NULL, site);
  do
    {
      belay_fiber_suspend (self, BELAY_WAIT_INTERRUPTIBLE, until);
      if (belay_now () >= until)
        return TRUE;
    }
  while (belay_limit_check (self, site, error));
  return FALSE;
}

GDestroyNotify belay_taken_destroy;
void (*belay_taken_hold) (gpointer resource, const char *site);

/* A resource has been taken: who asks later where it came from is told. */
static inline gpointer
remember (BelayFiber *self, BelayFuture *future, gpointer value, const char *site)
{
  BelayTaken *place;

  if (future->kind != BELAY_KIND_POINTER || future->aux.destroy != belay_taken_destroy || value == NULL)
    return value;
  place = belay_taken_place (self->context, value);
  place->resource = value;
  place->site = site;
  if (G_UNLIKELY ((belay_unusual & BELAY_UNUSUAL_LEAKS) != 0))
    belay_taken_hold (value, site);
  return value;
}

/* An await, ended: takes its outcome and gives the interest back. */
#define AWAIT_AND(take, fail_value)                                       \
  BelayFiber *self = belay_fiber_self ();                                 \
                                                                          \
  if (G_UNLIKELY (future == NULL))                                        \
    {                                                                     \
      belay_fail_no_future ("belay_await", error);                        \
      return fail_value;                                                  \
    }                                                                     \
  if (G_UNLIKELY (self == NULL))                                          \
    belay_fail_no_fiber ("belay_await", error);                           \
  else if (G_UNLIKELY (!(belay_fiber_await (self, future, site, error) && (result = take)))) \
    belay_attached_note (self, future, error != NULL ? *error : NULL);    \
  belay_future_unref (future);                                            \
  return result

gpointer
belay_await_at (BelayFuture *future, GError **error, const char *site)
{
  gpointer result = NULL;

  AWAIT_AND (remember (self, future, belay_future_take (future, error), site), NULL);
}

gboolean
belay_await_ok_at (BelayFuture *future, GError **error, const char *site)
{
  gboolean result = FALSE;

  AWAIT_AND (belay_future_check (future, error), FALSE);
}

gboolean
belay_await_int64_at (BelayFuture *future, gint64 *ret_value, GError **error, const char *site)
{
  gboolean result = FALSE;

  AWAIT_AND (belay_future_take_int64 (future, ret_value, error), FALSE);
}

gboolean
belay_await_double_at (BelayFuture *future, double *ret_value, GError **error, const char *site)
{
  gboolean result = FALSE;

  AWAIT_AND (belay_future_take_double (future, ret_value, error), FALSE);
}

gboolean
belay_await_pointer_at (BelayFuture *future, gpointer *ret_value, GError **error, const char *site)
{
  gboolean result = FALSE;

  AWAIT_AND (belay_future_take_pointer (future, ret_value, error) &&
             (remember (self, future, *ret_value, site) != NULL || TRUE), FALSE);
}

/* The functions behind the macros, for bindings. */
gboolean
(belay_yield) (GError **error)
{
  return belay_yield_at (error, NULL);
}

gboolean
(belay_sleep) (gint64 milliseconds, GError **error)
{
  return belay_sleep_at (milliseconds, error, NULL);
}

gpointer
(belay_await) (BelayFuture *future, GError **error)
{
  return belay_await_at (future, error, NULL);
}

gboolean
(belay_await_ok) (BelayFuture *future, GError **error)
{
  return belay_await_ok_at (future, error, NULL);
}

gboolean
(belay_await_int64) (BelayFuture *future, gint64 *ret_value, GError **error)
{
  return belay_await_int64_at (future, ret_value, error, NULL);
}

gboolean
(belay_await_double) (BelayFuture *future, double *ret_value, GError **error)
{
  return belay_await_double_at (future, ret_value, error, NULL);
}

gboolean
(belay_await_pointer) (BelayFuture *future, gpointer *ret_value, GError **error)
{
  return belay_await_pointer_at (future, ret_value, error, NULL);
}
