/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is pending: work that nobody waits for, and that the end of the program must see to its end.
 *
 * Words. Scheduled releases, fibers that no scope owns, owning jobs whose waiter has left, and ends by force on a worker
 * are *pending*. Each counts; each is also in a list of its *kind*, so that the end of the program can say by name and site
 * what it waited for in vain. A *watcher* is somebody who waits until nothing is pending: it is itself, as a rule, a part of
 * something that is, its *root*, which does not count for it, nor for the other watchers. Nor does the program, belay_run()'s
 * own fiber.
 *
 * Invariants
 *   1. The lists and the watchers are under `lock`, which is held for a few instructions, but by a report.
 *   2. What has left its list may still count: what goes with it, a value that is released say, counts before it stops.
 *      So nobody sees zero in between.
 *   3. `n_pending` may be read without the lock. It becomes zero on some thread, and then the main loop of the default
 *      context is woken, where the drain looks again.
 *   4. A watcher is resolved under no lock. One that nobody waits for any more is taken out by its on_cancel.
 */
#include "run/pending.h"
#include "run/spin.h"

typedef struct _Watcher Watcher;
struct _Watcher
{
  Watcher      *next;
  gpointer      root;
  BelayPromise *promise;
};

static atomic_flag lock = ATOMIC_FLAG_INIT; /* all below, but n_pending and is_watched, which are read without */
static BelayPendingKind *kinds;
static Watcher *watchers;
static gpointer program; /* the root of belay_run(), while there is one */
static atomic_bool is_watched;
static atomic_uint n_pending;

void
belay_pending_lock (void)
{
  belay_spin_lock (&lock);
}

void
belay_pending_unlock (void)
{
  belay_spin_unlock (&lock);
}

void
belay_pending_begin (BelayPendingKind *kind, BelayPending *pending)
{
  atomic_fetch_add (&n_pending, 1);
  pending->prev = NULL;
  belay_spin_lock (&lock);
  pending->next = kind->first;
  if (pending->next != NULL)
    pending->next->prev = pending;
  kind->first = pending;
  if (G_UNLIKELY (!kind->known))
    {
      kind->known = TRUE;
      kind->next = kinds;
      kinds = kind;
    }
  belay_spin_unlock (&lock);
}

void
belay_pending_forget (BelayPendingKind *kind, BelayPending *pending)
{
  belay_spin_lock (&lock);
  if (pending->prev != NULL)
    pending->prev->next = pending->next;
  else
    kind->first = pending->next;
  if (pending->next != NULL)
    pending->next->prev = pending->prev;
  belay_spin_unlock (&lock);
}

void
belay_pending_set_program (gpointer root)
{
  belay_spin_lock (&lock);
  program = root;
  belay_spin_unlock (&lock);
}

/* --- those who wait for the end of all --- */

/* Under the lock. */
static guint
count_roots (void)
{
  guint n = program != NULL;

  for (Watcher *self = watchers; self != NULL; self = self->next)
    {
      gboolean again = self->root == program;

      for (Watcher *other = watchers; other != self && !again; other = other->next)
        again = other->root == self->root;
      n += self->root != NULL && !again;
    }
  return n;
}

static void
look_for_watchers (void)
{
  Watcher *ready = NULL;

  belay_spin_lock (&lock);
  if (atomic_load (&n_pending) <= count_roots ())
    {
      ready = g_steal_pointer (&watchers);
      atomic_store (&is_watched, FALSE);
    }
  belay_spin_unlock (&lock);
  while (ready != NULL)
    {
      Watcher *self = ready;

      ready = self->next;
      belay_promise_resolve (self->promise);
      belay_promise_unref (self->promise);
      g_free (self);
    }
}

static void
unwatch (gpointer data)
{
  BelayPromise *promise = data;
  Watcher *found = NULL;

  belay_spin_lock (&lock);
  for (Watcher **link = &watchers; *link != NULL; link = &(*link)->next)
    if ((*link)->promise == promise)
      {
        found = *link;
        *link = found->next;
        break;
      }
  belay_spin_unlock (&lock);
  if (found == NULL)
    return;
  belay_promise_unref (found->promise);
  g_free (found);
}

BelayFuture *
belay_pending_future (gpointer root)
{
  Watcher *self = g_new0 (Watcher, 1);
  BelayFuture *future;

  self->root = root;
  self->promise = belay_promise_new ();
  future = belay_promise_get_future (self->promise);
  belay_promise_on_cancel (self->promise, unwatch, self->promise, NULL);
  belay_spin_lock (&lock);
  self->next = watchers;
  watchers = self;
  atomic_store (&is_watched, TRUE);
  belay_spin_unlock (&lock);
  look_for_watchers ();
  return future;
}

/* --- counting --- */

void
belay_pending_add (int n)
{
  guint left = atomic_fetch_add (&n_pending, (guint) n) + (guint) n;

  if (n < 0 && G_UNLIKELY (atomic_load (&is_watched)))
    look_for_watchers ();
  if (left == 0)
    g_main_context_wakeup (NULL);
}

guint
belay_get_n_pending (void)
{
  return belay_unusual & BELAY_UNUSUAL_FORKED ? 0 : atomic_load (&n_pending);
}

void
belay_pending_cancel (void)
{
  belay_spin_lock (&lock);
  for (BelayPendingKind *kind = kinds; kind != NULL; kind = kind->next)
    for (BelayPending *pending = kind->cancel != NULL ? kind->first : NULL; pending != NULL; pending = pending->next)
      kind->cancel (pending);
  belay_spin_unlock (&lock);
}

GPtrArray *
belay_pending_describe (gpointer home)
{
  GPtrArray *lines = g_ptr_array_new_with_free_func (g_free);

  belay_spin_lock (&lock);
  for (BelayPendingKind *kind = kinds; kind != NULL; kind = kind->next)
    {
      BelayPending *pending = kind->first;

      while (pending != NULL && pending->next != NULL)
        pending = pending->next;
      for (; pending != NULL; pending = pending->prev)
        kind->describe (pending, home, lines);
    }
  belay_spin_unlock (&lock);
  return lines;
}
