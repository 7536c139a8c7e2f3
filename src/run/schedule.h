/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Choices by a seed: which of several things that may happen next does. The essay is in schedule.c. */
#pragma once

#include "run/context.h"

typedef struct _BelaySchedule BelaySchedule;

BelaySchedule *belay_schedule_new        (guint64 seed, gboolean by_priority);
void           belay_schedule_free       (BelaySchedule *schedule);
/* One of 0 to n - 1. */
guint          belay_schedule_chance     (BelaySchedule *schedule, guint n);
/* Whether what came from elsewhere is looked at before the next is chosen. */
gboolean       belay_schedule_looks_elsewhere (BelaySchedule *schedule);
/* Whether the clock goes on before a job's turn comes. */
gboolean       belay_schedule_job_takes_time (BelaySchedule *schedule);
/* Takes the next to run out of the context's queue, which is not empty. */
BelayItem     *belay_schedule_pop        (BelayContext *context);
/* The priority of what was taken out last: its fiber's, from now on. */
guint64        belay_schedule_get_chosen (BelaySchedule *schedule);
/* Of the timers that are first with the same instant, one. There must be a timer. */
BelayTimer    *belay_schedule_pick_timer (BelayContext *context);
/* A number that all choices so far have gone into: two runs that differ in one have different traces. */
guint32        belay_schedule_get_trace  (BelaySchedule *schedule);
