/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs: functions for the workers, and the serial queues that some of them stand in.
 *
 * A *job* is one block: the future of its result, its place in a queue, and what to call. Its state goes from QUEUED to
 * RUNNING, by the worker that takes it up, or to TAKEN_BACK, by a cancellation; whichever exchange comes first owns the
 * data from then on. A job that is running can only be asked to stop, by its cancellable, which is made when the
 * function asks for it.
 *
 * A *serial* is a queue of jobs that is itself one piece of work for the pool while it is not empty: whichever worker
 * takes it up runs its jobs one after another, up to TURN of them before others get a turn.
 *
 * Under the virtual clock there are no workers: jobs run one at a time on the context's own queue, when the seed says so.
 */
#include "run/fiber.h"
#include "run/schedule.h"
#include "run/spin.h"

#define TURN 256

enum { JOB_QUEUED, JOB_RUNNING, JOB_ENDED, JOB_TAKEN_BACK };

typedef struct
{
  BelayFuture    future; /* first: the block is freed as a future */
  BelayWork      work;   /* in the pool's queue, or, by `next`, in the serial's */
  union
  {
    BelayItem    item;    /* under the virtual clock, until it runs */
    BelayPending pending; /* once it runs, and its waiter has left */
  };
  BelaySerial   *serial;
  BelayContext  *context; /* whose loop may spin for the result; may be NULL */
  BelayFunc      func;
  BelayValueFunc value_func;
  gpointer       data;
  GDestroyNotify destroy_data;
  GDestroyNotify destroy;
  const char    *site;
  atomic_int     state;
  GCancellable  *cancellable; /* cancellable_lock; made by the function's own thread */
  gboolean       asked;       /* cancellable_lock */
  gboolean       counted;     /* the end of the program waits for it; the function's own thread, once it has ended */
} Job;

struct _BelaySerial
{
  atomic_int  refs;
  BelayWork   work;
  GMutex      lock; /* the rest */
  Job        *head, *tail;
  guint       n;
  gboolean    scheduled;
};

static void
describe (BelayPending *pending, gpointer home, GPtrArray *lines)
{
  Job *self = (Job *) ((char *) pending - G_STRUCT_OFFSET (Job, pending));

  g_ptr_array_add (lines, g_strconcat ("a job on a worker", self->site != NULL ? " from " : NULL, self->site, NULL));
}

static BelayPendingKind left_jobs = { .describe = describe };
static GMutex cancellable_lock;
static __thread Job *running;

G_DEFINE_BOXED_TYPE (BelaySerial, belay_serial, belay_serial_ref, belay_serial_unref)

static void
destroy_data (Job *self)
{
  if (self->destroy_data != NULL)
    self->destroy_data (self->data);
}

static inline gboolean
is_owning (Job *self)
{
  return self->destroy_data != NULL;
}

/*
 * The function has returned. Either we see here that it was asked to stop, or job_cancel() sees that it has ended: each
 * writes its own mark before it reads the other's.
 */
static void
job_end (Job *self)
{
  GCancellable *cancellable;

  atomic_store (&self->state, JOB_ENDED);
  if (G_LIKELY (self->cancellable == NULL && !(atomic_load (&self->future.flags) & BELAY_FUTURE_ASKED)))
    return;
  g_mutex_lock (&cancellable_lock);
  self->counted = self->asked && is_owning (self);
  cancellable = g_steal_pointer (&self->cancellable);
  g_mutex_unlock (&cancellable_lock);
  if (cancellable != NULL)
    g_object_unref (cancellable); /* its handlers' data are the program's, and go with it */
}

/* Nobody waits for the result any more, or whoever does was cancelled. From any thread. */
static void
job_cancel (gpointer data)
{
  Job *self = data;
  int state = JOB_QUEUED;

  if (atomic_compare_exchange_strong (&self->state, &state, JOB_TAKEN_BACK))
    {
      destroy_data (self);
      belay_future_settle_error (&self->future, g_error_new_literal (G_IO_ERROR, G_IO_ERROR_CANCELLED,
                                                                     "cancelled before it began"));
      return;
    }
  g_mutex_lock (&cancellable_lock);
  if (atomic_load (&self->state) == JOB_RUNNING)
    {
      GCancellable *cancellable = self->cancellable != NULL ? g_object_ref (self->cancellable) : NULL;

      self->asked = TRUE;
      if (is_owning (self))
        belay_pending_begin (&left_jobs, &self->pending);
      g_mutex_unlock (&cancellable_lock);
      if (cancellable != NULL)
        {
          g_cancellable_cancel (cancellable);
          g_object_unref (cancellable);
        }
      return;
    }
  g_mutex_unlock (&cancellable_lock);
}

GCancellable *
belay_worker_cancellable (void)
{
  Job *self = running;
  gboolean asked;

  if (self == NULL)
    return NULL;
  g_mutex_lock (&cancellable_lock);
  if (self->cancellable == NULL)
    self->cancellable = g_cancellable_new ();
  asked = self->asked;
  g_mutex_unlock (&cancellable_lock);
  if (asked)
    g_cancellable_cancel (self->cancellable);
  return self->cancellable;
}

/* The last thing done with a job by the pool. */
static void
job_leave (Job *self)
{
  BelayContext *context = self->context;
  gboolean counted = self->counted;

  g_clear_pointer (&self->serial, belay_serial_unref);
  if (counted)
    belay_pending_forget (&left_jobs, &self->pending);
  belay_future_unref_writer (&self->future);
  if (counted)
    belay_pending_add (-1);
  if (context != NULL)
    belay_context_remove_job (context);
}

static void
job_run (Job *self)
{
  GError *error = NULL;
  int state = JOB_QUEUED;

  if (!atomic_compare_exchange_strong_explicit (&self->state, &state, JOB_RUNNING, memory_order_acq_rel, memory_order_acquire))
    {
      job_leave (self);
      return;
    }
  running = self;
  if (self->func != NULL)
    {
      gboolean ok = belay_check_result (self->func (self->data, &error), &error, "a function on a worker");

      running = NULL;
      job_end (self);
      destroy_data (self);
      if (ok)
        belay_future_settle (&self->future, BELAY_KIND_DONE, (BelayValue) { .p = NULL }, (BelayAux) { NULL });
    }
  else
    {
      BelayValue value = { .p = self->value_func (self->data, &error) };
      BelayAux aux = { .destroy = self->destroy };

      running = NULL;
      job_end (self);
      destroy_data (self);
      if (!belay_check_result (value.p != NULL, &error, "a function on a worker") ||
          !belay_future_settle (&self->future, BELAY_KIND_POINTER, value, aux))
        belay_value_clear (BELAY_KIND_POINTER, value, aux);
    }
  if (error != NULL)
    belay_future_settle_error (&self->future, error);
  job_leave (self);
}

static void
job_work (BelayWork *work)
{
  job_run ((Job *) ((char *) work - G_STRUCT_OFFSET (Job, work)));
}

/* --- serial queues --- */

/* The next job; NULL, and the serial is no longer scheduled on the workers, when there is none. */
static Job *
serial_pop (BelaySerial *self)
{
  Job *job;

  g_mutex_lock (&self->lock);
  job = self->head;
  if (job != NULL)
    {
      self->head = job->work.next != NULL ? (Job *) ((char *) job->work.next - G_STRUCT_OFFSET (Job, work)) : NULL;
      self->n--;
    }
  else
    {
      self->scheduled = FALSE;
    }
  g_mutex_unlock (&self->lock);
  return job;
}

static void
serial_work (BelayWork *work)
{
  BelaySerial *self = (BelaySerial *) ((char *) work - G_STRUCT_OFFSET (BelaySerial, work));

  for (guint turn = 0; turn < TURN; turn++)
    {
      Job *job = serial_pop (self);

      if (job == NULL)
        {
          belay_serial_unref (self);
          return;
        }
      job_run (job);
    }
  belay_workers_submit (&self->work);
}

/* Under the lock. */
static void
serial_append (BelaySerial *self, Job *job)
{
  job->work.next = NULL;
  if (self->head != NULL)
    self->tail->work.next = &job->work;
  else
    self->head = job;
  self->tail = job;
  self->n++;
}

static void
serial_push (BelaySerial *self, Job *job)
{
  gboolean schedule;

  g_mutex_lock (&self->lock);
  serial_append (self, job);
  schedule = !self->scheduled;
  self->scheduled = TRUE;
  g_mutex_unlock (&self->lock);
  if (schedule)
    belay_workers_submit (&belay_serial_ref (self)->work);
}

BelaySerial *
belay_serial_new (void)
{
  BelaySerial *self = g_new0 (BelaySerial, 1);

  atomic_init (&self->refs, 1);
  g_mutex_init (&self->lock);
  self->work.work = serial_work;
  return self;
}

BelaySerial *
belay_serial_ref (BelaySerial *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_serial_unref (BelaySerial *self)
{
  g_return_if_fail (self != NULL);
  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  g_mutex_clear (&self->lock);
  g_free (self);
}

guint
belay_serial_get_n_waiting (BelaySerial *self)
{
  guint n;

  g_return_val_if_fail (self != NULL, 0);
  g_mutex_lock (&self->lock);
  n = self->n;
  g_mutex_unlock (&self->lock);
  return n;
}

/* --- starting --- */

/* --- under the virtual clock: a serial's jobs in their order, any other as the queue gives it --- */

/*
 * Under a schedule as on a worker: the thread is no context's meanwhile, so that what becomes known reaches its context
 * as it does from another thread, in a while.
 */
static void
run_as_worker (Job *self)
{
  BelayThread outer = belay_thread;

  if (outer.context != NULL && outer.context->schedule != NULL)
    belay_thread = (BelayThread) { .current = &belay_no_fiber };
  job_run (self);
  belay_thread = outer;
}

static void
run_simulated (BelayItem *item)
{
  run_as_worker ((Job *) ((char *) item - G_STRUCT_OFFSET (Job, item)));
}

/* The turn of a serial's first job, which need not be the one that was given with it. */
typedef struct
{
  BelayItem    item;
  BelaySerial *serial;
} Turn;

static void
run_turn (BelayItem *item)
{
  Turn *self = (Turn *) item;

  Job *job = serial_pop (self->serial);

  if (job != NULL) /* a worker may have run it: jobs given by a thread without a queue are not simulated */
    run_as_worker (job);
  belay_serial_unref (self->serial);
  g_free (self);
}

/* The clock may go on before a job's turn comes. */
static void
push_simulated (BelayItem *item)
{
  BelayContext *context = belay_thread.context;

  if (context->schedule != NULL && belay_schedule_job_takes_time (context->schedule))
    belay_context_push_late (context, item);
  else
    belay_context_push_local (context, item);
}

static void
simulate (Job *self)
{
  BelaySerial *serial = self->serial;
  Turn *turn;

  if (serial == NULL)
    {
      self->item.run = run_simulated;
      push_simulated (&self->item);
      return;
    }
  g_mutex_lock (&serial->lock);
  serial_append (serial, self);
  g_mutex_unlock (&serial->lock);
  turn = g_new (Turn, 1);
  turn->item.run = run_turn;
  turn->serial = belay_serial_ref (serial);
  push_simulated (&turn->item);
}

static BelayFuture *
start (BelaySerial *serial, BelayFunc func, BelayValueFunc value_func, gpointer data, GDestroyNotify destroy_data_func,
       GDestroyNotify destroy, const char *site)
{
  BelayFuture *refused = belay_fiber_refuse ();
  Job *self;

  if (G_UNLIKELY (refused != NULL))
    {
      if (destroy_data_func != NULL)
        destroy_data_func (data);
      return refused;
    }
  self = belay_future_block_new (Job);
  belay_future_init (&self->future, 1 + BELAY_PROMISE_UNIT);
  belay_future_on_cancel (&self->future, job_cancel, self, NULL);
  if (destroy_data_func == NULL)
    atomic_init (&self->future.flags, BELAY_FUTURE_BORROWING);
  self->work.work = job_work;
  self->serial = serial != NULL ? belay_serial_ref (serial) : NULL;
  self->context = belay_thread.context;
  self->func = func;
  self->value_func = value_func;
  self->data = data;
  self->destroy_data = destroy_data_func;
  self->destroy = destroy;
  self->site = site;
  atomic_init (&self->state, JOB_QUEUED);
  self->cancellable = NULL;
  self->asked = FALSE;
  self->counted = FALSE;
  if (self->context != NULL)
    belay_context_add_job (self->context);

  if (G_UNLIKELY (belay_clock_virtual && belay_thread.context != NULL))
    simulate (self);
  else if (serial != NULL)
    serial_push (serial, self);
  else
    belay_workers_submit (&self->work);
  return &self->future;
}

BelayFuture *
belay_thread_run_at (BelayFunc func, gpointer data, const char *site)
{
  g_return_val_if_fail (func != NULL, NULL);
  return start (NULL, func, NULL, data, NULL, NULL, site);
}

BelayFuture *
belay_thread_run_value_at (BelayValueFunc func, gpointer data, GDestroyNotify destroy, const char *site)
{
  g_return_val_if_fail (func != NULL, NULL);
  return start (NULL, NULL, func, data, NULL, destroy, site);
}

BelayFuture *
belay_thread_run_owned_at (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data_func, GDestroyNotify destroy,
                           const char *site)
{
  g_return_val_if_fail (func != NULL && destroy_data_func != NULL, NULL);
  return start (NULL, NULL, func, data, destroy_data_func, destroy, site);
}

BelayFuture *
belay_serial_run_at (BelaySerial *serial, BelayFunc func, gpointer data, const char *site)
{
  g_return_val_if_fail (serial != NULL && func != NULL, NULL);
  return start (serial, func, NULL, data, NULL, NULL, site);
}

BelayFuture *
belay_serial_run_value_at (BelaySerial *serial, BelayValueFunc func, gpointer data, GDestroyNotify destroy,
                           const char *site)
{
  g_return_val_if_fail (serial != NULL && func != NULL, NULL);
  return start (serial, NULL, func, data, NULL, destroy, site);
}

BelayFuture *
belay_serial_run_owned_at (BelaySerial *serial, BelayValueFunc func, gpointer data, GDestroyNotify destroy_data_func,
                           GDestroyNotify destroy, const char *site)
{
  g_return_val_if_fail (serial != NULL && func != NULL && destroy_data_func != NULL, NULL);
  return start (serial, NULL, func, data, destroy_data_func, destroy, site);
}

/* The functions behind the macros, for bindings. */
BelayFuture *
(belay_thread_run) (BelayFunc func, gpointer data)
{
  return belay_thread_run_at (func, data, NULL);
}

BelayFuture *
(belay_thread_run_value) (BelayValueFunc func, gpointer data, GDestroyNotify destroy)
{
  return belay_thread_run_value_at (func, data, destroy, NULL);
}

BelayFuture *
(belay_thread_run_owned) (BelayValueFunc func, gpointer data, GDestroyNotify destroy_data_func, GDestroyNotify destroy)
{
  return belay_thread_run_owned_at (func, data, destroy_data_func, destroy, NULL);
}

BelayFuture *
(belay_serial_run) (BelaySerial *serial, BelayFunc func, gpointer data)
{
  return belay_serial_run_at (serial, func, data, NULL);
}

BelayFuture *
(belay_serial_run_value) (BelaySerial *serial, BelayValueFunc func, gpointer data, GDestroyNotify destroy)
{
  return belay_serial_run_value_at (serial, func, data, destroy, NULL);
}

BelayFuture *
(belay_serial_run_owned) (BelaySerial *serial, BelayValueFunc func, gpointer data, GDestroyNotify destroy_data_func,
                          GDestroyNotify destroy)
{
  return belay_serial_run_owned_at (serial, func, data, destroy_data_func, destroy, NULL);
}
