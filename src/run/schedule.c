/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Schedules: choices by a seed, for tests that explore what may happen in which order.
 *
 * A context with a schedule asks it whenever more than one thing may happen next: which item of the queue runs, which of
 * two timers of one instant fires first, when what came from elsewhere is looked at, how long a job takes (job.c), whether
 * a read finds its bytes at hand (belay_chance()). A context without one is as fast as ever: the first come is served
 * first.
 *
 * Two ways to choose. *By chance*: any item of the first ones, all alike. *By priority*: each fiber, and each callback,
 * has a priority drawn when it is first seen; the highest runs until it waits. At a few steps, drawn beforehand, the one
 * that would run falls below all others. That finds what chance finds rarely: a fiber that is held back at one place for
 * a long time while the others go on. A step is one at which there was a choice. How long a run will be is not known, so the steps are drawn from a length that is
 * drawn itself, short or long. How far it falls is drawn, too: of two that fell, either may be the higher. A fiber that
 * does nothing but yield would hold all others back for ever, so after some turns in a row, a number that is drawn as well,
 * it falls below all that fell before. So do, for the same reason, two that do nothing but wake each other: whatever is
 * highest at every STARVED-th step falls. Chances of the other kind, whether what came from elsewhere is looked at, and how
 * long a job takes, are not taken at every occasion then, since they would hold back whoever has the highest priority: the
 * former is always looked at, and all jobs of a run take time, or none.
 *
 * Invariants
 *   1. All choices come from the seed and from what was queued in which order. Nothing is ordered by an address or by the
 *      real time: so the same program makes the same run of the same seed, in any process.
 *   2. A fiber that has begun has its priority in its stack; whatever else is in the queue has it in `queued`, until it is
 *      taken out. So nothing that has ended leaves its priority to something else that has its address.
 *   3. A schedule belongs to its context's home thread.
 */
#include "run/schedule.h"
#include "run/fiber.h"

#define WINDOW  64 /* items that are chosen from by chance */
#define FALLS   3  /* steps, at most, at which the highest priority falls */
#define TURNS   11 /* in a row, at most two to the power of less than that, that a fiber may have while others are ready */
#define STARVED 4096 /* steps after which whatever has the highest priority falls */
#define HIGH    ((guint64) 1 << 32) /* priorities as drawn are above, those that fell at a drawn step below */
#define LOW     ((guint64) 1 << 31) /* those that fell below all others are below that */

struct _BelaySchedule
{
  guint64     state; /* of the generator */
  guint32     trace;
  gboolean    by_priority;
  gboolean    jobs_take_time; /* by priority: all, or none */
  guint64     n_steps; /* at which there was a choice */
  guint64     falls[FALLS]; /* 0: none */
  GHashTable *queued; /* BelayItem → a guint64 */
  guint64     lowest;
  guint64     chosen;
  guint       n_turns; /* in a row, of the last that was chosen */
  guint       max_turns;
};

static guint64
draw (BelaySchedule *self)
{
  guint64 z = self->state += G_GUINT64_CONSTANT (0x9e3779b97f4a7c15);

  z = (z ^ z >> 30) * G_GUINT64_CONSTANT (0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * G_GUINT64_CONSTANT (0x94d049bb133111eb);
  return z ^ z >> 31;
}

guint
belay_schedule_chance (BelaySchedule *self, guint n)
{
  guint chosen = n > 1 ? (guint) (draw (self) % n) : 0;

  self->trace = (self->trace ^ (n << 16) ^ chosen) * 16777619u;
  return chosen;
}

BelaySchedule *
belay_schedule_new (guint64 seed, gboolean by_priority)
{
  BelaySchedule *self = g_new0 (BelaySchedule, 1);

  self->state = seed;
  self->by_priority = by_priority;
  if (by_priority)
    {
      guint shift = belay_schedule_chance (self, 9), other = belay_schedule_chance (self, 9);
      guint64 length = (guint64) 4 << MIN (shift, other); /* most tests are short */

      self->max_turns = 1u << belay_schedule_chance (self, TURNS);
      self->jobs_take_time = belay_schedule_chance (self, 4) == 3;
      self->queued = g_hash_table_new_full (NULL, NULL, NULL, g_free);
      self->lowest = LOW;
      for (guint i = belay_schedule_chance (self, FALLS + 1); i > 0; i--)
        self->falls[i - 1] = 1 + draw (self) % length;
    }
  return self;
}

void
belay_schedule_free (BelaySchedule *self)
{
  g_clear_pointer (&self->queued, g_hash_table_unref);
  g_free (self);
}

guint32
belay_schedule_get_trace (BelaySchedule *self)
{
  return self->trace;
}

guint64
belay_schedule_get_chosen (BelaySchedule *self)
{
  return self->chosen;
}

/* --- by priority --- */

static BelayStack *
stack_of (BelayItem *item)
{
  return item->run == NULL ? ((BelayFiber *) ((char *) item - G_STRUCT_OFFSET (BelayFiber, item)))->stack : NULL;
}

/* Where its priority is; drawn, when it is seen for the first time. */
static guint64 *
priority_of (BelaySchedule *self, BelayItem *item)
{
  BelayStack *stack = stack_of (item);
  guint64 *priority;

  if (stack != NULL)
    return &stack->priority;
  priority = g_hash_table_lookup (self->queued, item);
  if (priority == NULL)
    {
      priority = g_new (guint64, 1);
      *priority = HIGH + (draw (self) >> 1);
      g_hash_table_insert (self->queued, item, priority);
    }
  return priority;
}

/* The place of the highest in the queue. */
static guint
find_highest (BelaySchedule *self, BelayItem *first)
{
  guint64 highest = 0;
  guint place = 0, found = 0;

  for (BelayItem *item = first; item != NULL; item = item->next, place++)
    {
      guint64 priority = *priority_of (self, item);

      if (place == 0 || priority > highest)
        {
          highest = priority;
          found = place;
        }
    }
  return found;
}

static BelayItem *
item_at (BelayItem *item, guint place)
{
  for (; place > 0; place--)
    item = item->next;
  return item;
}

/* TRUE: at a step that was drawn. */
static gboolean
may_fall (BelaySchedule *self)
{
  for (guint i = 0; i < FALLS; i++)
    if (self->falls[i] == self->n_steps)
      return TRUE;
  return FALSE;
}

/* TRUE: others would never come to their turn. */
static gboolean
must_fall (BelaySchedule *self, guint64 priority)
{
  return self->n_steps % STARVED == 0 || (priority == self->chosen && self->n_turns >= self->max_turns);
}

static guint
choose_by_priority (BelaySchedule *self, BelayItem *first)
{
  guint place = find_highest (self, first);

  if (first->next != NULL)
    {
      guint64 *priority = priority_of (self, item_at (first, place));

      if (must_fall (self, *priority))
        *priority = self->lowest--;
      else if (may_fall (self))
        *priority = LOW + draw (self) % LOW;
      place = find_highest (self, first);
    }
  self->trace = (self->trace ^ place) * 16777619u;
  return place;
}

/* --- choosing --- */

gboolean
belay_schedule_looks_elsewhere (BelaySchedule *self)
{
  return self->by_priority || belay_schedule_chance (self, 2) == 1;
}

gboolean
belay_schedule_job_takes_time (BelaySchedule *self)
{
  return self->by_priority ? self->jobs_take_time : belay_schedule_chance (self, 4) == 3;
}

static guint
choose_by_chance (BelaySchedule *self, BelayItem *first)
{
  guint n = 0;

  for (BelayItem *item = first; item != NULL && n < WINDOW; item = item->next)
    n++;
  return belay_schedule_chance (self, n);
}

BelayItem *
belay_schedule_pop (BelayContext *context)
{
  BelaySchedule *self = context->schedule;
  BelayItem *before = NULL, *item = context->head;
  guint place;

  self->n_steps += item->next != NULL;
  place = self->by_priority ? choose_by_priority (self, item) : choose_by_chance (self, item);
  for (; place > 0; place--)
    {
      before = item;
      item = item->next;
    }
  if (before == NULL)
    {
      context->head = item->next;
    }
  else
    {
      before->next = item->next;
      if (context->tail == item)
        context->tail = before;
    }
  if (self->by_priority)
    {
      guint64 priority = *priority_of (self, item);

      self->n_turns = priority == self->chosen ? self->n_turns + 1 : 1;
      self->chosen = priority;
      g_hash_table_remove (self->queued, item);
    }
  return item;
}

BelayTimer *
belay_schedule_pick_timer (BelayContext *context)
{
  guint places[16] = { 1 }, n = 1;

  /* In a heap, those that are as early as the first hang together. */
  for (guint i = 0; i < n; i++)
    for (guint child = places[i] * 2; child <= places[i] * 2 + 1; child++)
      if (child <= context->n_timers && context->timers[child]->when == context->timers[1]->when && n < G_N_ELEMENTS (places))
        places[n++] = child;
  return context->timers[places[belay_schedule_chance (context->schedule, n)]];
}
