/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Contexts: one run queue and one GSource for each GMainContext.
 *
 * Words. The *home* thread of a context is whoever iterates its GMainContext. An *item* is something to run there: a
 * callback, or a fiber to be resumed. A *level* is one nested run of the queue: a fiber that suspends goes back to the
 * innermost, so a nested main loop in a dialog, which runs on one fiber's stack, does not stall the others.
 *
 * Why one source: attaching and dispatching a GSource costs 400 ns and two locks, an item here a few nanoseconds. A
 * dispatch runs a batch. It ends when nothing is ready or its time is spent (BUDGET); then the source *sits out* one
 * turn of the main loop, in which it says it is not ready, so that sources of lower priority, above all GTK's frame
 * clock, come to their turn however busy the fibers are.
 *
 * There is a second source, of the highest priority there is, which is never dispatched: that it is asked tells that a
 * main loop turns, be it on a fiber's stack (fiber.c).
 *
 * Invariants
 *   1. head, tail, timers and all that is marked so belong to the home thread and have no lock.
 *   2. Other threads push to `remote`, a stack of items that the home thread takes whole and reverses. A wake-up is
 *      written only when `sleeping` is set: the home thread sets it, then looks at `remote` again, then polls. It goes
 *      to a descriptor of the context's own, since the GMainContext may be on its way out when others push.
 *   3. The GMainContext owns the source, the source owns a reference to the context, which has no pointer back but as
 *      the key that it is found by.
 *   4. While jobs are in flight on the workers the home thread spins a bounded while before it polls, since a sleeping
 *      thread costs 27 µs to wake. On a single processor
 *      it gives that up a few times instead; with nothing in flight it does neither.
 *   5. When the GMainContext is gone, so is the home thread, and `remote` is closed for good. Every item that was queued, is
 *      pushed later, or waits for a timer, is an *orphan*: it is run by whoever finds it so, one at a time for each context
 *      and never inside of another of the same, which stands for the home thread. It looks at belay_context_is_gone(), rejects
 *      what it was to resolve, and calls no function but destroy functions. A fiber that was suspended there stays so.
 *   6. The memory of a context, and its descriptor, stay a context's for ever: one that has ended is kept to be used again.
 *      So a thread that pushes without a reference finds it closed, or another that its item does no harm to.
 */
#include "run/context.h"
#include "run/fiber.h"
#include "run/schedule.h"
#include "run/spin.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUDGET    4000 /* µs of one dispatch: a quarter of a frame */
#define SPIN      50   /* µs before a poll */
#define TRIM_STEP 256  /* stacks given back in one dispatch */

typedef struct
{
  GSource       source;
  BelayContext *context;
} ContextSource;

static GMutex contexts_lock;         /* contexts, spare_contexts */
static GHashTable *contexts;         /* GMainContext → BelayContext, both weak */
static BelayContext *spare_contexts; /* (6) */

/* --- the queue --- */

static void
run_as_orphan (BelayItem *item)
{
  if (item->run != NULL)
    item->run (item);
  else
    belay_fiber_orphaned (item);
}

static void
run_orphan (BelayContext *self, BelayItem *item)
{
  belay_spin_lock (&self->orphans_lock);
  item->next = NULL;
  if (self->orphans != NULL)
    self->last_orphan->next = item;
  else
    self->orphans = item;
  self->last_orphan = item;
  if (self->runs_orphans)
    {
      belay_spin_unlock (&self->orphans_lock);
      return;
    }
  self->runs_orphans = TRUE;
  while ((item = self->orphans) != NULL)
    {
      self->orphans = item->next;
      belay_spin_unlock (&self->orphans_lock);
      run_as_orphan (item);
      belay_spin_lock (&self->orphans_lock);
    }
  self->runs_orphans = FALSE;
  belay_spin_unlock (&self->orphans_lock);
}

GError *
belay_context_gone_error (void)
{
  return g_error_new_literal (BELAY_ERROR, BELAY_ERROR_BROKEN, "the main context it was to run on is gone");
}

void
belay_context_push_remote (BelayContext *self, BelayItem *item)
{
  BelayItem *newest = atomic_load_explicit (&self->remote, memory_order_acquire);

  do
    {
      if (G_UNLIKELY (newest == BELAY_CONTEXT_GONE))
        {
          run_orphan (self, item);
          return;
        }
      item->next = newest;
    }
  while (!atomic_compare_exchange_weak_explicit (&self->remote, &newest, item, memory_order_seq_cst, memory_order_acquire));

  if (atomic_load_explicit (&self->sleeping, memory_order_seq_cst) && atomic_exchange (&self->sleeping, 0))
    {
      guint64 one = 1;

      while (write (self->wake.fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    }
}

static inline gboolean
has_remote (BelayContext *self)
{
  return atomic_load_explicit (&self->remote, memory_order_relaxed) != NULL;
}

/* Queues what other threads have pushed, in the order in which they did; @newest leads to the older ones. */
static inline void
queue_remote (BelayContext *self, BelayItem *newest)
{
  BelayItem *last = newest, *oldest = NULL;

  while (newest != NULL)
    {
      BelayItem *next = newest->next;

      newest->next = oldest;
      oldest = newest;
      newest = next;
    }
  if (self->head != NULL)
    self->tail->next = oldest;
  else
    self->head = oldest;
  self->tail = last;
}

static void
take_remote (BelayContext *self)
{
  if (has_remote (self))
    queue_remote (self, atomic_exchange_explicit (&self->remote, NULL, memory_order_acq_rel));
}

/* --- choosing --- */

BelayItem *
belay_context_pop_chosen (BelayContext *self)
{
  if (has_remote (self) && belay_schedule_looks_elsewhere (self->schedule))
    take_remote (self);
  return belay_schedule_pop (self);
}

void
belay_context_set_schedule (BelayContext *self, BelaySchedule *schedule)
{
  g_clear_pointer (&self->schedule, belay_schedule_free);
  self->schedule = schedule;
}

guint
belay_chance (guint n)
{
  BelayContext *context = belay_thread.context;

  return context != NULL && context->schedule != NULL ? belay_schedule_chance (context->schedule, n) : 0;
}

typedef struct
{
  BelayTimer    timer;
  BelayContext *context;
  BelayItem    *item;
} Late;

static void
on_late (BelayTimer *timer)
{
  Late *late = (Late *) timer;

  late->context->n_late--;
  if (belay_context_is_gone (late->context))
    run_as_orphan (late->item);
  else
    belay_context_push_local (late->context, late->item);
  belay_context_unref (late->context);
  g_free (late);
}

void
belay_context_push_late (BelayContext *self, BelayItem *item)
{
  Late *late = g_new0 (Late, 1);

  late->timer.fire = on_late;
  late->context = belay_context_ref (self);
  late->item = item;
  self->n_late++;
  belay_timer_arm (self, &late->timer, belay_now () + 1000 * (1 + (gint64) belay_schedule_chance (self->schedule, 10)));
}

/* --- spinning --- */

static gboolean
spin_for_remote (BelayContext *self)
{
  gint64 end = 0;
  BelaySpin how = belay_workers_are_quick () ? belay_spin_how () : BELAY_SPIN_NOT;

  if (how == BELAY_SPIN_NOT)
    return FALSE;
  if (how == BELAY_SPIN_YIELD)
    return belay_spin_by_yielding ((atomic_uintptr_t *) &self->remote);
  for (;;)
    {
      int cpu = belay_spin_cpu ();

      atomic_store_explicit (&belay_spin_loop_cpu, cpu, memory_order_relaxed);
      if (belay_spin_round (&belay_spin_worker_cpu, cpu, (atomic_uintptr_t *) &self->remote))
        break;
      if (end == 0)
        end = g_get_monotonic_time () + SPIN;
      else if (g_get_monotonic_time () > end)
        break;
    }
  return has_remote (self);
}

/* --- the source --- */

static gboolean
context_prepare (GSource *source, int *timeout)
{
  BelayContext *self = ((ContextSource *) source)->context;

  *timeout = -1;
  if (belay_forked ())
    return FALSE;
  atomic_store_explicit (&self->turns, atomic_load_explicit (&self->turns, memory_order_relaxed) + 1, memory_order_relaxed);
  take_remote (self);
  if (self->sit_out || self->n_warm > BELAY_WARM_STACKS)
    {
      *timeout = 0;
      return FALSE;
    }
  if (self->head != NULL)
    return TRUE;
  if (self->n_timers > 0)
    {
      gint64 left = self->timers[1]->when - belay_now ();

      if (left <= 0)
        return TRUE;
      if (!belay_clock_virtual)
        {
          *timeout = (int) MIN ((left + 999) / 1000, G_MAXINT);
        }
      else if (belay_clock_is_held ())
        {
          self->was_idle = FALSE;
          *timeout = 1; /* whoever lets the clock go on wakes nobody */
        }
      else if (!belay_context_has_jobs (self) || self->n_late > 0)
        {
          /* The clock jumps when a whole turn of the main loop found nothing else to do. */
          if (self->was_idle)
            belay_clock_advance_to (self->timers[1]->when);
          self->was_idle = TRUE;
          *timeout = 0;
          return FALSE;
        }
    }
  if (belay_context_has_jobs (self) && spin_for_remote (self))
    {
      take_remote (self);
      return TRUE;
    }
  if (belay_workers_before_poll () && (*timeout < 0 || *timeout > 1))
    *timeout = 1;
  atomic_store_explicit (&self->sleeping, 1, memory_order_seq_cst);
  if (atomic_load_explicit (&self->remote, memory_order_seq_cst) != NULL)
    {
      atomic_store_explicit (&self->sleeping, 0, memory_order_relaxed);
      take_remote (self);
      return TRUE;
    }
  return FALSE;
}

static gboolean
context_check (GSource *source)
{
  BelayContext *self = ((ContextSource *) source)->context;

  if (belay_forked ())
    return FALSE;
  atomic_store_explicit (&self->sleeping, 0, memory_order_relaxed);
  if (self->wake.revents != 0)
    {
      guint64 n;

      self->wake.revents = 0;
      while (read (self->wake.fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
    }
  if (self->sit_out)
    {
      self->sit_out = FALSE;
      return FALSE;
    }
  return self->head != NULL || has_remote (self) || self->n_warm > BELAY_WARM_STACKS ||
         (self->n_timers > 0 && self->timers[1]->when <= belay_now ());
}

static gboolean
context_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  BelayContext *self = ((ContextSource *) source)->context;
  BelayThread outer = belay_thread;
  BelayFiber *outer_fiber = self->current;
  BelayLevel level = { .outer = self->level };
  int depth = g_main_depth ();
  gint64 end = 0;

  belay_context_ref (self);
  self->level = &level;
  self->current = NULL;
  belay_thread = (BelayThread) { .context = self, .current = &self->current };
  self->was_idle = FALSE;
  belay_stacks_trim (self, TRIM_STEP);

  for (;;)
    {
      BelayItem *item;

      take_remote (self);
      belay_timers_fire (self);
      self->slice = BELAY_SLICE;
      self->n_slices++;
      while (self->slice > 0 && (item = belay_context_pop (self)) != NULL)
        {
          self->slice--;
          if (item->run != NULL)
            item->run (item);
          else
            belay_fiber_resume (self, item);
        }
      if (self->head == NULL && !has_remote (self) &&
          !(belay_context_has_jobs (self) && spin_for_remote (self)))
        break;
      if (end == 0)
        {
          end = g_get_monotonic_time () + BUDGET;
        }
      else if (g_get_monotonic_time () > end)
        {
          self->sit_out = TRUE;
          belay_workers_before_poll (); /* with fibers that are always ready there may be no other occasion */
          break;
        }
    }

  belay_thread = outer;
  self->current = outer_fiber;
  self->level = level.outer;
  if (outer.context != NULL) /* fibers that wait inside of a dispatch, or waited, count for all */
    outer.context->level->depth += g_main_depth () - depth;
  belay_context_unref (self);
  return G_SOURCE_CONTINUE;
}

/* The end of a context (invariant 5): itself an orphan, so that it stands for the home thread. */
typedef struct
{
  BelayItem     item;
  BelayContext *context; /* the source's reference */
  BelayItem    *newest;  /* what was in `remote` when that was closed */
} Closing;

static void
close_at_home (BelayItem *orphan)
{
  Closing *closing = (Closing *) orphan;
  BelayContext *self = closing->context;
  BelayItem *item;

  if (closing->newest != NULL)
    queue_remote (self, closing->newest);
  while ((item = self->head) != NULL) /* fibers that are woken may still be queued behind */
    {
      self->head = item->next;
      run_as_orphan (item);
    }
  while (self->n_timers > 0)
    {
      BelayTimer *timer = self->timers[1];

      belay_timer_disarm (self, timer);
      timer->fire (timer);
    }
  self->head = NULL; /* fibers that were woken, and cannot run */
  belay_context_unref (self);
  g_free (closing);
}

static void
close_queue (BelayContext *self)
{
  Closing *closing = g_new (Closing, 1);

  closing->item.run = close_at_home;
  closing->context = self;
  closing->newest = atomic_exchange (&self->remote, BELAY_CONTEXT_GONE);
  run_orphan (self, &closing->item);
}

static void
context_finalize (GSource *source)
{
  BelayContext *self = ((ContextSource *) source)->context;

  g_mutex_lock (&contexts_lock);
  g_hash_table_remove (contexts, self->main_context);
  self->main_context = NULL;
  g_mutex_unlock (&contexts_lock);
  close_queue (self);
}

static GSourceFuncs context_funcs = { context_prepare, context_check, context_dispatch, context_finalize, NULL, NULL };

/* A second source, which is asked before any other, and so before another can be dispatched; itself it never is. */
static gboolean
turn_prepare (GSource *source, int *timeout)
{
  *timeout = -1;
  if (!belay_forked ())
    belay_fiber_cover ();
  return FALSE;
}

static gboolean
turn_check (GSource *source)
{
  belay_fiber_cover (); /* a prepare, or the poll function, may have asked who is calling */
  return FALSE;
}

static gboolean
turn_dispatch (GSource *source, GSourceFunc callback, gpointer data)
{
  return G_SOURCE_CONTINUE;
}

static GSourceFuncs turn_funcs = { turn_prepare, turn_check, turn_dispatch, NULL, NULL, NULL };

/* --- finding one --- */

/* As new, but for what a thread that has not heard of its end may still touch (invariant 6). */
static void
renew (BelayContext *self)
{
  GPollFD wake = self->wake;

  memset (self, 0, G_STRUCT_OFFSET (BelayContext, pad1));
  self->wake = wake;
  self->n_detached_remote = 0;
  atomic_store (&self->sleeping, 0);
  atomic_store (&self->remote, NULL);
}

/* Under contexts_lock. */
static BelayContext *
context_new (GMainContext *main_context)
{
  BelayContext *self = spare_contexts;
  GSource *source = g_source_new (&context_funcs, sizeof (ContextSource));
  GSource *turn = g_source_new (&turn_funcs, sizeof (GSource));

  belay_debug_init ();
  belay_unusual_init ();
  if (self == NULL)
    {
      self = g_malloc0 (sizeof *self);
      atomic_flag_clear (&self->orphans_lock);
      self->wake.events = G_IO_IN;
      self->wake.fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
      if (self->wake.fd < 0)
        g_error ("belay: eventfd: %s", g_strerror (errno)); /* as a GMainContext itself does */
    }
  else
    {
      spare_contexts = self->next;
      renew (self);
    }
  atomic_init (&self->refs, 1);
  self->main_context = main_context;
  if (belay_context_seed != 0)
    self->schedule = belay_schedule_new (belay_context_seed, FALSE);
  ((ContextSource *) source)->context = self;
  g_source_set_static_name (source, "Belay");
  g_source_set_can_recurse (source, TRUE);
  g_source_add_poll (source, &self->wake);
  g_source_attach (source, main_context);
  g_source_unref (source);
  g_source_set_static_name (turn, "Belay's turn");
  g_source_set_priority (turn, G_MININT);
  g_source_attach (turn, main_context);
  g_source_unref (turn);
  return self;
}

BelayContext *
belay_context_get_for_main (GMainContext *main_context)
{
  BelayContext *self;

  if (main_context == NULL)
    main_context = g_main_context_default ();
  g_mutex_lock (&contexts_lock);
  if (contexts == NULL)
    contexts = g_hash_table_new (NULL, NULL);
  self = g_hash_table_lookup (contexts, main_context);
  if (self == NULL)
    {
      self = context_new (main_context);
      g_hash_table_insert (contexts, main_context, self);
    }
  g_mutex_unlock (&contexts_lock);
  return self;
}

void
belay_contexts_foreach (void (*func) (BelayContext *context, gpointer data), gpointer data)
{
  g_autoptr (GPtrArray) all = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer context;

  g_mutex_lock (&contexts_lock);
  if (contexts != NULL)
    for (g_hash_table_iter_init (&iter, contexts); g_hash_table_iter_next (&iter, NULL, &context);)
      g_ptr_array_add (all, belay_context_ref (context)); /* (3): here they have the source's */
  g_mutex_unlock (&contexts_lock);
  for (guint i = 0; i < all->len; i++)
    {
      func (all->pdata[i], data);
      belay_context_unref (all->pdata[i]);
    }
}

BelayContext *
belay_context_get (void)
{
  BelayContext *context = belay_thread.context;

  /* What a main loop on the stack of a covered fiber dispatches may be of another context. */
  if (G_LIKELY (context != NULL) && (context->level->covered == NULL || belay_fiber_self () != NULL))
    return context;
  return belay_context_get_for_main (g_main_context_get_thread_default ());
}

gboolean
belay_context_is_home (void)
{
  GMainContext *main_context = g_main_context_get_thread_default ();
  gboolean own = main_context != NULL || getpid () == (pid_t) syscall (SYS_gettid);
  BelayContext *context;
  gboolean is_home = FALSE;

  if (belay_thread.context != NULL)
    return TRUE;
  if (main_context == NULL)
    main_context = g_main_context_default ();
  g_mutex_lock (&contexts_lock);
  context = contexts != NULL ? g_hash_table_lookup (contexts, main_context) : NULL;
  if (context == NULL)
    {
      /* no fiber has been here */
    }
  else if (g_main_context_is_owner (main_context))
    {
      is_home = TRUE;
    }
  else if (own && g_main_context_acquire (main_context))
    {
      /* One reference is the source's. Jobs do not count: whoever waits for one does so by himself, and a worker gives
       * its part back a moment after the result is known. */
      is_home = belay_context_has_items (context) || belay_context_has_detached (context) ||
                atomic_load_explicit (&context->refs, memory_order_relaxed) % BELAY_CONTEXT_JOB != 1;
      g_main_context_release (main_context);
    }
  g_mutex_unlock (&contexts_lock);
  return is_home;
}

static void
context_drop (BelayContext *self, guint64 what)
{
  if (atomic_fetch_sub_explicit (&self->refs, what, memory_order_acq_rel) != what)
    return;
  belay_stacks_free (self);
  belay_limits_free (self);
  g_clear_pointer (&self->timers, g_free);
  g_clear_pointer (&self->schedule, belay_schedule_free);
  if (self->n_stacks > 0) /* fibers are suspended there for ever; what wakes them must find it gone */
    return;
  g_mutex_lock (&contexts_lock);
  self->next = spare_contexts;
  spare_contexts = self;
  g_mutex_unlock (&contexts_lock);
}

BelayContext *
belay_context_ref (BelayContext *self)
{
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_context_unref (BelayContext *self)
{
  context_drop (self, 1);
}

void
belay_context_add_job (BelayContext *self)
{
  atomic_fetch_add_explicit (&self->refs, BELAY_CONTEXT_JOB, memory_order_relaxed);
}

void
belay_context_remove_job (BelayContext *self)
{
  context_drop (self, BELAY_CONTEXT_JOB);
}
