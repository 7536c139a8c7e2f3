/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session's engine: libcurl's multi handle inside the main loop. The essay is in multi.c. */
#pragma once

#include "http/request.h"

/* A GSource, attached to its context until it has ended. */
typedef struct _BelayHttpMulti BelayHttpMulti;

/* For a session, whose context it does not keep alive: the session does. */
BelayHttpMulti     *belay_http_multi_new        (GMainContext *context);
/* The one that a context keeps for requests without a session; (transfer full), ended when it is idle for long. */
BelayHttpMulti     *belay_http_multi_get_kept   (GMainContext *context);
void                belay_http_multi_unref      (BelayHttpMulti *multi);
/* The settings for requests made from now on, to be changed; only on the context's thread. */
BelayHttpSettings  *belay_http_multi_edit       (BelayHttpMulti *multi);
void                belay_http_multi_set_limits (BelayHttpMulti *multi, guint per_host, guint total);

/* From any thread; @context is the multi's, kept alive by the caller during the call. */
BelayFuture        *belay_http_multi_get        (BelayHttpMulti *multi, GMainContext *context, const char *url,
                                                 BelayHttpWants wants) BELAY_USE_RESULT;
/* Takes no more requests, and resolves when those it has are done and nothing is left. */
BelayFuture        *belay_http_multi_close      (BelayHttpMulti *multi, GMainContext *context) BELAY_USE_RESULT;
/* Drops everything, now or as soon as the context's thread hears of it. */
void                belay_http_multi_end        (BelayHttpMulti *multi, GMainContext *context);
