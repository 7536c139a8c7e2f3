/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What other threads ask of a session. The essay is in mail.c. */
#pragma once

#include "http/request.h"

typedef enum
{
  BELAY_HTTP_MAIL_START,  /* what: a BelayHttpRequest (transfer full) */
  BELAY_HTTP_MAIL_CANCEL, /* what: a ticket */
  BELAY_HTTP_MAIL_CLOSE,  /* what: a BelayPromise (transfer full), to be resolved when it is closed */
  BELAY_HTTP_MAIL_END     /* what: nothing */
} BelayHttpMailKind;

typedef struct _BelayHttpLetter BelayHttpLetter;
struct _BelayHttpLetter
{
  BelayHttpLetter  *next;
  BelayHttpMailKind kind;
  gpointer          what;
};

typedef struct
{
  BelayHttpLetter *first, *last; /* the lock */
  gboolean         closed;       /* the lock */
  int              wake;         /* the lock: an eventfd that wakes the context's thread; -1: none needed, see mail.c */
  int              waiting;      /* atomic: there are letters */
} BelayHttpMailbox;

/* The one lock of the library. Nothing is called under it that could call back. */
void              belay_http_lock           (void);
void              belay_http_unlock         (void);
/*
 * Between what one thread did with a multi and another's freeing of it. The count of references orders the two, but it
 * is GLib's, which the thread sanitizer does not see into.
 */
void              belay_http_fence          (void);

void              belay_http_mail_init      (BelayHttpMailbox *box);
/* FALSE when the box is closed: @what is still the caller's. The caller wakes the context. */
gboolean          belay_http_mail_post      (BelayHttpMailbox *box, BelayHttpMailKind kind, gpointer what);
/* The same for a caller that has the lock. */
gboolean          belay_http_mail_post_locked (BelayHttpMailbox *box, BelayHttpMailKind kind, gpointer what);
/* All letters, oldest first, each to be freed with g_free(). */
BelayHttpLetter  *belay_http_mail_take      (BelayHttpMailbox *box);
/* The same for the last time: nothing is taken in afterwards, and no ticket leads here. */
BelayHttpLetter  *belay_http_mail_close     (BelayHttpMailbox *box);
void              belay_http_mail_set_wake  (BelayHttpMailbox *box, int wake);

static inline gboolean
belay_http_mail_is_waiting (BelayHttpMailbox *box)
{
  return __atomic_load_n (&box->waiting, __ATOMIC_ACQUIRE) != 0;
}

/* Tickets. A request gets a slot when its memory is made and gives it back with it. */
void              belay_http_ticket_open    (BelayHttpMailbox *box, BelayHttpRequest *request);
void              belay_http_ticket_close   (BelayHttpRequest *request);
/* The request's ticket in this turn, for belay_promise_on_cancel (); NULL: it has none. */
gpointer          belay_http_ticket_get     (BelayHttpRequest *request);
/* From any thread, however late: posts a CANCEL. */
void              belay_http_ticket_cancel  (gpointer ticket);
/* Whose ticket this is; NULL when that turn is over. */
BelayHttpRequest *belay_http_ticket_find    (BelayHttpMailbox *box, gpointer ticket);
