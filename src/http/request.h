/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was asked for, from the call to the answer. */
#pragma once

#include "http/settings.h"

typedef struct _BelayHttpRequest  BelayHttpRequest;
typedef struct _BelayHttpTransfer BelayHttpTransfer;
typedef struct _BelayHttpHost     BelayHttpHost;

typedef enum
{
  BELAY_HTTP_WANTS_RESPONSE,
  BELAY_HTTP_WANTS_BYTES /* of a success */
} BelayHttpWants;

/*
 * NEW ──▶ WAITING (for its host's turn) ──▶ READY (for a turn in all) ──▶ RUNNING (has a transfer) ──▶ DONE
 *    └────────────────────────────────────────^
 * and from each of them to DONE, when it fails, is dropped, or the session ends. DONE is answered soon after.
 */
typedef enum
{
  BELAY_HTTP_NEW,
  BELAY_HTTP_WAITING,
  BELAY_HTTP_READY,
  BELAY_HTTP_RUNNING,
  BELAY_HTTP_DONE
} BelayHttpState;

/* Belongs to the session's context, but for one that another thread has made and not yet handed over. */
struct _BelayHttpRequest
{
  GList              link;     /* in `in`; data is the request */
  GQueue            *in;       /* a queue of its state; NULL: none */
  GList              timed;    /* among those with a deadline; data is the request while it is there */
  BelayHttpState     state;
  BelayHttpWants     wants;
  guint              slot;     /* of its ticket, see mail.c; 0: none */
  guint              turn;     /* how often the slot has been used */
  BelayPromise      *promise;
  char              *url;      /* its memory stays for the next request */
  gsize              url_size;
  gint64             made;     /* belay_now () of the call; 0: nobody needs it */
  gint64             deadline; /* belay_now () when its time is up */
  BelayHttpSettings *settings; /* a reference; NULL before it is handed over */
  BelayHttpHost     *host;     /* whose turn it has or waits for; NULL: hosts are not counted */
  BelayHttpTransfer *transfer; /* while RUNNING */
  gpointer           value;    /* of DONE: (transfer full) what it wants … */
  GError            *error;    /* … or why not */
};
