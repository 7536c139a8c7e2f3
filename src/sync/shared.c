/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared: one resource, opened by the first who needs it, and closed when nobody has for a while.
 *
 * States of the resource: EMPTY, there is none; OPENING; OPEN; CLOSING. The opening and the closing are fibers of the home, of
 * their own, one at a time. Their ends (on_opened, on_closed) are where the state goes on. Who comes while it is not OPEN
 * stands in line, and comes to be served when it is: a use while it closes waits for a new one.
 *
 * A *use* is the shared itself, seen through its first member, so it costs no memory. It holds a reference.
 *
 * The opening belongs to the shared. When the last who waits for it has left it is GIVEN UP, that is cancelled; who comes
 * after that stands in line, and if it ends as cancelled gets a new one. What an opening gave that nobody waits for is closed.
 *
 * It is the library that keeps open what nobody uses. So it closes it also when the home's loop comes to its end, or the program
 * does (belay_shared_close_idle): all there are stand in a list for that.
 *
 * Invariants
 *   1. It is OPENING or CLOSING exactly while `task` is set, which is started when the lock has been left.
 *   2. Nobody stands in `line` but while it is OPENING or CLOSING, and nobody once it is `ended`.
 *   3. `users` > 0 only while it is OPEN; `resource` does not change then: a use reads it without the lock.
 *   4. OPEN with no user: the resource has been idle since `idle_since`; it is not `ended`; and the timer is queued or armed for
 *      the end of that, or earlier, if it has one.
 *   5. `refs` are the program's; all of them together, a task, and the timer have one of `holds` each, which keep the memory.
 *   6. Everything is under `lock` but the two counts, what never changes, the timer itself, which is the home thread's, and the list
 *      of all, which has a lock of its own. One is in it as long as it has its memory.
 */
#include "sync/shared.h"

static void describe (BelayLine *line, GString *text);
static const BelayLineClass line_class = { "a shared resource", describe };
static const BelayLineClass closers_class = { "the end of a shared resource's users", NULL };

G_DEFINE_BOXED_TYPE (BelayShared, belay_shared, belay_shared_ref, belay_shared_unref)

#define SHARED_OF(p, member) ((BelayShared *) ((char *) (p) - G_STRUCT_OFFSET (BelayShared, member)))

static void
describe (BelayLine *line, GString *text)
{
  BelayShared *self = SHARED_OF (line, line);
  guint8 state;

  belay_spin_lock (&self->lock);
  state = self->state;
  belay_spin_unlock (&self->lock);
  g_string_append_printf (text, " from %s, which is being %s", self->site != NULL ? self->site : "?",
                          state == BELAY_SHARED_CLOSING ? "closed" : "opened");
}

static GMutex all_lock;
static BelayShared *all;

static void
drop_hold (BelayShared *self)
{
  if (atomic_fetch_sub_explicit (&self->holds, 1, memory_order_acq_rel) != 1)
    return;
  g_mutex_lock (&all_lock);
  if (self->next != NULL)
    self->next->prev = self->prev;
  if (self->prev != NULL)
    self->prev->next = self->next;
  else
    all = self->next;
  g_mutex_unlock (&all_lock);
  if (self->destroy != NULL)
    self->destroy (self->data);
  if (self->failure != NULL)
    belay_future_unref (self->failure);
  belay_context_unref (self->home);
  g_free (self);
}

static void
add_hold (BelayShared *self)
{
  atomic_fetch_add_explicit (&self->holds, 1, memory_order_relaxed);
}

/* The same for one that is in the list of all, and may be about to leave it. */
static gboolean
try_add_hold (BelayShared *self)
{
  int holds = atomic_load_explicit (&self->holds, memory_order_relaxed);

  while (holds > 0)
    if (atomic_compare_exchange_weak_explicit (&self->holds, &holds, holds + 1, memory_order_relaxed, memory_order_relaxed))
      return TRUE;
  return FALSE;
}

/* --- the timer; under the lock --- */

/* Sees to it that invariant 4 holds, and that no timer is armed for nothing where the resource is not open. */
void
belay_shared_look (BelayShared *self, BelaySharedAfter *after)
{
  gboolean idle = self->state == BELAY_SHARED_OPEN && self->users == 0 && self->idle != G_MAXINT64;

  if (self->queued || (idle ? self->armed && self->due <= self->idle_since + self->idle
                            : !self->armed || self->state == BELAY_SHARED_OPEN))
    return;
  if (!self->armed)
    add_hold (self);
  self->queued = after->queue = TRUE;
}

/* --- what the state goes on to; under the lock --- */

static gboolean open_now (gpointer data, GError **error);
static gboolean close_now (gpointer data, GError **error);
static void on_opened (BelayWaiter *waiter);
static void on_closed (BelayWaiter *waiter);

void
belay_shared_begin (BelayShared *self, guint8 state, BelaySharedAfter *after)
{
  add_hold (self);
  self->state = state;
  self->given_up = FALSE;
  self->task = after->task = belay_task_new (self->home, NULL, state == BELAY_SHARED_OPENING ? open_now : close_now, NULL, self, NULL, NULL,
                                             self->site);
  self->waiter.notify = state == BELAY_SHARED_OPENING ? on_opened : on_closed;
}

void
belay_shared_give_up (BelayShared *self, BelaySharedAfter *after)
{
  if (self->state != BELAY_SHARED_OPENING || self->given_up)
    return;
  self->given_up = TRUE;
  belay_future_ref (&self->task->fiber.future);
  after->cancel = self->task;
}

/* There is none any more: for who waits for that, and for who wants a new one. */
static void
become_empty (BelayShared *self, BelaySharedAfter *after)
{
  self->state = BELAY_SHARED_EMPTY;
  if (!belay_line_is_empty (&self->line))
    belay_shared_begin (self, BELAY_SHARED_OPENING, after);
  while (!belay_line_is_empty (&self->closers))
    {
      if (self->failure != NULL)
        self->closers.first->item = belay_future_ref (self->failure);
      belay_line_serve (self->closers.first, self->failure != NULL ? BELAY_SHARED_FAILED : BELAY_TURN_SERVED, &after->served);
    }
}

/* It is wanted no more. */
void
belay_shared_end (BelayShared *self, BelaySharedAfter *after)
{
  self->ended = TRUE;
  belay_line_serve_all (&self->line, BELAY_TURN_CLOSED, &after->served);
  belay_shared_give_up (self, after);
  if (self->state == BELAY_SHARED_OPEN && self->users == 0)
    belay_shared_begin (self, BELAY_SHARED_CLOSING, after);
  belay_shared_look (self, after);
}

void
belay_shared_unlock (BelayShared *self, BelaySharedAfter *after)
{
  belay_spin_unlock (&self->lock);
  if (after->task != NULL)
    {
      /* Nobody else starts it, and it does not end before: it may be cancelled meanwhile. */
      belay_future_add_waiter (&after->task->fiber.future, &self->waiter);
      belay_task_start_detached (after->task);
    }
  if (after->cancel != NULL)
    {
      belay_fiber_cancel (&after->cancel->fiber, "nobody waits for the shared resource any more");
      belay_future_unref (&after->cancel->fiber.future);
    }
  if (after->queue)
    belay_context_push (self->home, &self->item);
  belay_turns_wake (after->served);
}

/* On the home thread, or as an orphan: as the item that was queued, or since its time has come. */
static void
see_to_idle (BelayShared *self, gboolean was_queued)
{
  BelaySharedAfter after = { NULL };
  gint64 due = 0;
  gboolean over;

  belay_spin_lock (&self->lock);
  if (was_queued)
    self->queued = FALSE;
  if (self->state == BELAY_SHARED_OPEN && self->users == 0 && self->idle != G_MAXINT64)
    due = self->idle_since + self->idle;
  if (due != 0 && (due <= belay_now () || belay_context_is_gone (self->home)))
    {
      belay_shared_begin (self, BELAY_SHARED_CLOSING, &after);
      due = 0;
    }
  self->armed = due != 0;
  self->due = due;
  if (!self->armed)
    belay_timer_disarm (self->home, &self->timer);
  over = !self->armed && !self->queued;
  belay_shared_unlock (self, &after);
  if (due != 0)
    belay_timer_arm (self->home, &self->timer, due);
  if (over)
    drop_hold (self);
}

gboolean
belay_shared_close_idle (BelayContext *home)
{
  g_autoptr (GPtrArray) found = NULL;
  gboolean any = FALSE;

  g_mutex_lock (&all_lock);
  for (BelayShared *shared = all; shared != NULL; shared = shared->next)
    if ((home == NULL || shared->home == home) && try_add_hold (shared))
      {
        if (found == NULL)
          found = g_ptr_array_new ();
        g_ptr_array_add (found, shared);
      }
  g_mutex_unlock (&all_lock);

  for (guint i = 0; found != NULL && i < found->len; i++)
    {
      BelayShared *self = found->pdata[i];
      BelaySharedAfter after = { NULL };

      belay_spin_lock (&self->lock);
      if (self->state == BELAY_SHARED_OPEN && self->users == 0)
        {
          belay_shared_begin (self, BELAY_SHARED_CLOSING, &after);
          belay_shared_look (self, &after);
          any = TRUE;
        }
      belay_shared_unlock (self, &after);
      drop_hold (self);
    }
  return any;
}

static void
on_item (BelayItem *item)
{
  see_to_idle (SHARED_OF (item, item), TRUE);
}

static void
on_timer (BelayTimer *timer)
{
  see_to_idle (SHARED_OF (timer, timer), FALSE);
}

/* --- opening and closing: fibers at home --- */

static gboolean
open_now (gpointer data, GError **error)
{
  BelayShared *self = data;
  gpointer resource = self->open (self->data, error);

  if (G_UNLIKELY (resource != NULL && !belay_resource_is_valid (resource)))
    resource = belay_resource_refuse (resource, error);
  belay_spin_lock (&self->lock);
  self->resource = resource;
  belay_spin_unlock (&self->lock);
  return resource != NULL;
}

/* The end of the task: its future, an interest in which is the caller's then. */
static BelayFuture *
take_task (BelayShared *self)
{
  BelayFuture *future = &self->task->fiber.future;

  self->task = NULL;
  return future;
}

/* What went wrong, and nobody waits for. */
static void
sink (BelayShared *self, BelayFuture *future, const char *what)
{
  const GError *error = belay_future_get_error (future);

  if (!g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    belay_sink_error (error, what, self->site);
  belay_errors_sink (belay_future_get_attached (future), what);
}

static void
on_opened (BelayWaiter *waiter)
{
  BelayShared *self = SHARED_OF (waiter, waiter);
  gpointer opened = NULL;
  BelaySharedAfter after = { NULL };
  BelayFuture *future;
  gboolean ok, again, told = FALSE;
  const GError *error = NULL;

  belay_spin_lock (&self->lock);
  future = take_task (self);
  ok = belay_future_status (future) == BELAY_STATE_RESOLVED;
  if (!ok)
    error = belay_future_get_error (future);
  again = self->given_up && g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  if (ok && !belay_line_is_empty (&self->line))
    {
      self->state = BELAY_SHARED_OPEN;
      opened = self->resource;
      self->n_opens++;
      self->users = self->line.n;
      atomic_fetch_add_explicit (&self->refs, (int) self->line.n, memory_order_relaxed);
      belay_line_serve_all (&self->line, BELAY_TURN_SERVED, &after.served);
    }
  else
    {
      if (!ok && !again) /* told to all who waited for it, and to nobody else */
        while (!belay_line_is_empty (&self->line))
          {
            self->line.first->item = belay_future_ref (future);
            told |= belay_line_serve (self->line.first, BELAY_SHARED_FAILED, &after.served);
          }
      if (self->resource != NULL)
        belay_shared_begin (self, BELAY_SHARED_CLOSING, &after);
      else
        become_empty (self, &after);
    }
  belay_shared_unlock (self, &after);
  if (opened != NULL) /* the home thread is this one: it is not closed meanwhile */
    belay_leaks_hold (opened, self->site);
  if (error != NULL && !told)
    sink (self, future, "opening a shared resource");
  belay_future_unref (future);
  drop_hold (self);
}

static gboolean
close_now (gpointer data, GError **error)
{
  BelayShared *self = data;

  return belay_resource_close (g_steal_pointer (&self->resource), BELAY_REASON_OK, BELAY_RELEASE_TIMEOUT, error);
}

static void
on_closed (BelayWaiter *waiter)
{
  BelayShared *self = SHARED_OF (waiter, waiter);
  gpointer left = g_steal_pointer (&self->resource);
  BelaySharedAfter after = { NULL };
  BelayFuture *future;
  gboolean failed, told;

  if (left != NULL) /* the home is gone, and there is nowhere to close it */
    belay_resource_abandon (left);
  belay_spin_lock (&self->lock);
  future = take_task (self);
  failed = belay_future_status (future) == BELAY_STATE_REJECTED;
  told = failed && !belay_line_is_empty (&self->closers);
  if (failed && self->ended)
    self->failure = belay_future_ref (future);
  become_empty (self, &after);
  belay_shared_unlock (self, &after);
  if (failed && left != NULL)
    belay_future_get_error (future); /* a release by force, of which nobody is told */
  else if (failed && !told)
    sink (self, future, "closing a shared resource");
  belay_future_unref (future);
  drop_hold (self);
}

/* --- life --- */

BelayShared *
belay_shared_new_at (BelayValueFunc open, gpointer data, GDestroyNotify destroy, const char *site)
{
  BelayShared *self;

  g_return_val_if_fail (open != NULL, NULL);

  self = g_new0 (BelayShared, 1);
  self->use.klass = &belay_use_class;
  atomic_init (&self->refs, 1);
  atomic_init (&self->holds, 1);
  self->home = belay_context_ref (belay_context_get ());
  self->site = site;
  self->open = open;
  self->data = data;
  self->destroy = destroy;
  atomic_flag_clear (&self->lock);
  belay_line_init (&self->line, &line_class);
  belay_line_init (&self->closers, &closers_class);
  self->item.run = on_item;
  self->timer.fire = on_timer;
  g_mutex_lock (&all_lock);
  self->next = all;
  if (all != NULL)
    all->prev = self;
  all = self;
  g_mutex_unlock (&all_lock);
  return self;
}

BelayShared *
(belay_shared_new) (BelayValueFunc open, gpointer data, GDestroyNotify destroy)
{
  return belay_shared_new_at (open, data, destroy, NULL);
}

BelayShared *
belay_shared_ref (BelayShared *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_shared_unref (BelayShared *self)
{
  BelayLine *lines[2];
  BelaySharedAfter after = { NULL };

  g_return_if_fail (self != NULL);
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1 || belay_forked ())
    return;
  lines[0] = &self->line;
  lines[1] = &self->closers;
  if (G_UNLIKELY (!belay_lines_end (self, "shared resource", &self->lock, lines, 2)))
    add_hold (self); /* it stays for ever */
  belay_spin_lock (&self->lock);
  belay_shared_end (self, &after);
  belay_shared_unlock (self, &after);
  drop_hold (self);
}

void
belay_shared_set_idle_timeout (BelayShared *self, gint64 milliseconds)
{
  BelaySharedAfter after = { NULL };

  g_return_if_fail (self != NULL);
  if (belay_forked ())
    return;

  belay_spin_lock (&self->lock);
  self->idle = milliseconds < 0 ? G_MAXINT64 : MIN (milliseconds, G_MAXINT64 / 4000) * 1000;
  belay_shared_look (self, &after);
  belay_shared_unlock (self, &after);
}

guint
belay_shared_get_n_users (BelayShared *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);
  belay_spin_lock (&self->lock);
  n = self->users;
  belay_spin_unlock (&self->lock);
  return n;
}

guint64
belay_shared_get_n_opens (BelayShared *self)
{
  guint64 n;

  g_return_val_if_fail (self != NULL, 0);
  belay_spin_lock (&self->lock);
  n = self->n_opens;
  belay_spin_unlock (&self->lock);
  return n;
}

gboolean
belay_shared_is_open (BelayShared *self)
{
  gboolean is_open;

  g_return_val_if_fail (self != NULL, FALSE);
  belay_spin_lock (&self->lock);
  is_open = self->state == BELAY_SHARED_OPEN;
  belay_spin_unlock (&self->lock);
  return is_open;
}
