/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An easy handle of libcurl's and what it receives. The essay is in transfer.c. */
#pragma once

#include "http/decoder.h"
#include "http/request.h"
#include "http/sockets.h"

typedef enum
{
  BELAY_HTTP_FAULT_NONE,
  BELAY_HTTP_FAULT_TOO_LARGE, /* the body */
  BELAY_HTTP_FAULT_HEADERS,   /* no end of them, or one that is none */
  BELAY_HTTP_FAULT_CODING,    /* the body cannot be decoded */
  BELAY_HTTP_FAULT_CUT,       /* the compressed body ends in its midst */
  BELAY_HTTP_FAULT_MEMORY
} BelayHttpFault;

struct _BelayHttpTransfer
{
  BelayHttpTransfer *next;       /* in the pool */
  CURL              *easy;
  BelayHttpSockets  *sockets;
  BelayHttpSettings *settings;   /* that the easy handle has; a reference; NULL: none yet */
  BelayHttpRequest  *request;    /* that it works for; NULL in the pool */
  guint              n_closed;   /* of `sockets`, at the beginning */
  gboolean           long_connect; /* libcurl's bound on connecting is lifted */
  gboolean           keep_lines; /* the head is wanted, not just its first line */
  gboolean           head_ended;
  BelayHttpFault     fault;      /* why a callback ended it */
  char              *head;       /* the strings that belay_http_response_new() takes */
  gsize              head_length, head_size;
  char              *body;
  gsize              body_length, body_size; /* as decoded; memory for one byte more is there, if any */
  BelayHttpDecoder   decoder;
  char              *location;   /* where the last answer redirects to; NULL: nowhere */
  int                no_socket;  /* an errno, when none could be opened; 0: it could */
  char               words[CURL_ERROR_SIZE]; /* libcurl's, of an error */
};

/* NULL when there is no memory. */
BelayHttpTransfer *belay_http_transfer_new    (BelayHttpSockets *sockets);
void               belay_http_transfer_free   (BelayHttpTransfer *transfer);
/*
 * Readies it for @request, whose it is until it is finished or dropped. @n_running: how many there are with this one.
 * FALSE with the request's error set.
 */
gboolean           belay_http_transfer_begin  (BelayHttpTransfer *transfer, BelayHttpRequest *request, guint n_running);
/* It has ended with @code: gives the request its value or error. It is no longer the request's then. */
void               belay_http_transfer_finish (BelayHttpTransfer *transfer, CURLcode code);
/* It was taken from libcurl in the midst. */
void               belay_http_transfer_drop   (BelayHttpTransfer *transfer);
/* What it is at, for a message: "connecting". */
const char        *belay_http_transfer_doing  (BelayHttpTransfer *transfer);
