/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The timers of a context: a binary heap by the instant, which lies in an array from place 1 on. Each timer knows its
 * place, so it can be taken out from the middle. All of it belongs to the home thread.
 */
#include "run/schedule.h"

static inline void
put_timer (BelayContext *self, guint place, BelayTimer *timer)
{
  self->timers[place] = timer;
  timer->place = place;
}

static void
sift_up (BelayContext *self, guint place, BelayTimer *timer)
{
  for (; place > 1 && self->timers[place / 2]->when > timer->when; place /= 2)
    put_timer (self, place, self->timers[place / 2]);
  put_timer (self, place, timer);
}

static void
sift_down (BelayContext *self, guint place, BelayTimer *timer)
{
  for (guint child = place * 2; child <= self->n_timers; place = child, child *= 2)
    {
      if (child < self->n_timers && self->timers[child + 1]->when < self->timers[child]->when)
        child++;
      if (self->timers[child]->when >= timer->when)
        break;
      put_timer (self, place, self->timers[child]);
    }
  put_timer (self, place, timer);
}

void
belay_timer_disarm (BelayContext *self, BelayTimer *timer)
{
  BelayTimer *last;
  guint place = timer->place;

  if (place == 0)
    return;
  timer->place = 0;
  last = self->timers[self->n_timers--];
  if (last == timer)
    return;
  if (place > 1 && self->timers[place / 2]->when > last->when)
    sift_up (self, place, last);
  else
    sift_down (self, place, last);
}

void
belay_timer_arm (BelayContext *self, BelayTimer *timer, gint64 when)
{
  belay_timer_disarm (self, timer);
  if (G_UNLIKELY (self->n_timers + 1 >= self->timers_size))
    {
      self->timers_size = MAX (64, self->timers_size * 2);
      self->timers = g_renew (BelayTimer *, self->timers, self->timers_size);
    }
  timer->when = when;
  sift_up (self, ++self->n_timers, timer);
}

void
belay_timers_fire (BelayContext *self)
{
  gint64 now;

  if (self->n_timers == 0)
    return;
  now = belay_now ();
  while (self->n_timers > 0 && self->timers[1]->when <= now)
    {
      BelayTimer *timer = G_LIKELY (self->schedule == NULL) ? self->timers[1] : belay_schedule_pick_timer (self);

      belay_timer_disarm (self, timer);
      timer->fire (timer);
    }
}
