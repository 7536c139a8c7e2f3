/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What multi.c, request.c and life.c share of the multi. The essays are there. */
#pragma once

#include "http/mail.h"
#include "http/multi.h"
#include "http/queue.h"
#include "http/sockets.h"
#include "http/transfer.h"

#define BELAY_HTTP_NEVER G_MAXINT64
#define BELAY_HTTP_KEEP  (60 * G_USEC_PER_SEC) /* a kept multi without requests */

struct _BelayHttpMulti
{
  GSource            source;
  GMainContext      *context;    /* weak: valid while not ended, on its thread */
  CURLM             *curl;       /* NULL before the first request, and after the end */
  BelayHttpSockets   sockets;
  gpointer           tag;        /* of the epoll descriptor in the source */
  BelayHttpMailbox   mailbox;
  BelayHttpQueue     queue;
  GQueue             timed;      /* requests by deadline, the first one first */
  GQueue             done;       /* to be settled */
  guint              n_requests; /* accepted and not yet settled */
  GQueue             spare_requests;
  BelayHttpTransfer *spare_transfers;
  guint              n_spare_transfers;
  BelayHttpSettings *settings;
  GSList            *closers;    /* promises */
  gint64             timer;      /* libcurl's, or BELAY_HTTP_NEVER */
  gint64             idle_end;   /* of a kept one, or BELAY_HTTP_NEVER */
  gint64             prepared;   /* when the poll began */
  gint64             ready_since; /* ready in every turn since then; 0: was not */
  guint              fork_count; /* of the process that it belongs to */
  gboolean           kick;       /* libcurl's timer is due now */
  gboolean           expecting;  /* answers were given: those who got them may ask for more in the same turn */
  gboolean           behind;     /* lets others go first */
  gboolean           kept;
  gboolean           closing;
  gboolean           ended;
};

/* --- multi.c --- */
extern GSourceFuncs belay_http_multi_funcs;
void     belay_http_multi_apply_limits (BelayHttpMulti *self);

/* --- request.c --- */
void     belay_http_request_free       (BelayHttpRequest *request);
/* Takes a request over, on the context's thread. */
void     belay_http_request_take_in    (BelayHttpMulti *self, BelayHttpRequest *request);
void     belay_http_request_give_back_transfer (BelayHttpMulti *self, BelayHttpRequest *request);
/* It has its value or error, and nothing else; what remains is to settle it. */
void     belay_http_request_finish     (BelayHttpMulti *self, BelayHttpRequest *request);
/* Ends it, wherever it is, with an error (transfer full). */
void     belay_http_request_drop       (BelayHttpMulti *self, BelayHttpRequest *request, GError *error);
/* Those whose time is up. */
void     belay_http_request_expire     (BelayHttpMulti *self);
/* Answers those that are done. This may end the multi. */
void     belay_http_request_settle     (BelayHttpMulti *self);

/* --- life.c --- */
/* How often the process has become another one. */
extern guint belay_http_fork_count;
/* On the context's thread: nothing is left afterwards but the memory. */
void     belay_http_life_end           (BelayHttpMulti *self);
/* A kept multi is forgotten; unless by @force, not when a letter has just come for it: then FALSE. */
gboolean belay_http_life_leave         (BelayHttpMulti *self, gboolean force);
