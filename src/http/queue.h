/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose turn it is. The essay is in queue.c. */
#pragma once

#include "http/request.h"

typedef struct
{
  guint       per_host; /* 0: no limit */
  guint       total;    /* 0: no limit */
  GQueue      ready;
  GQueue      running;
  guint       n_waiting;
  GHashTable *hosts;    /* "scheme://host:port" → BelayHttpHost; NULL before it is needed */
} BelayHttpQueue;

void              belay_http_queue_init       (BelayHttpQueue *queue, guint per_host, guint total);
/* It must be empty. */
void              belay_http_queue_clear      (BelayHttpQueue *queue);
void              belay_http_queue_set_limits (BelayHttpQueue *queue, guint per_host, guint total);
/* A new request joins. */
void              belay_http_queue_join       (BelayHttpQueue *queue, BelayHttpRequest *request);
/* The next one may run now, and is RUNNING; NULL: none. */
BelayHttpRequest *belay_http_queue_next       (BelayHttpQueue *queue);
/* In whatever state it is, it leaves, and is DONE; its turn goes to the next. */
void              belay_http_queue_leave      (BelayHttpQueue *queue, BelayHttpRequest *request);
/* Any request that is in it; NULL when it is empty. */
BelayHttpRequest *belay_http_queue_any        (BelayHttpQueue *queue);

static inline gboolean
belay_http_queue_has_next (BelayHttpQueue *queue)
{
  return queue->ready.length > 0 && (queue->total == 0 || queue->running.length < queue->total);
}
