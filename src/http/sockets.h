/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libcurl's sockets in one epoll descriptor. The essay is in sockets.c. */
#pragma once

#include <curl/curl.h>
#include <glib.h>

typedef struct
{
  guint8 wanted;     /* EPOLLIN and EPOLLOUT, as libcurl wants it now; 0: not at all */
  guint8 registered; /* as the kernel knows it; 0: not at all */
  guint8 ours;       /* opened and to be closed by our functions */
  guint  turn;       /* how often the descriptor has been closed */
} BelayHttpSocket;

typedef struct
{
  int              epoll;   /* -1: not open */
  int              wake;    /* an eventfd in it, for other threads; -1: not open */
  int              problem; /* an errno: a socket could not be watched; 0: none */
  guint            n_open;  /* sockets that are ours */
  guint            n_closed; /* how many have been closed so far */
  guint            size;
  BelayHttpSocket *of;      /* by descriptor */
} BelayHttpSockets;

/* A socket and CURL_CSELECT_…, for curl_multi_socket_action(). */
typedef struct
{
  int   fd;
  int   what;
  guint turn; /* that of the socket which it is of */
} BelayHttpEvent;

#define BELAY_HTTP_SOCKETS_INIT { -1, -1, 0, 0, 0, 0, NULL }
#define BELAY_HTTP_MAX_EVENTS   64

/* FALSE with errno set. */
gboolean      belay_http_sockets_open   (BelayHttpSockets *sockets);
void          belay_http_sockets_clear  (BelayHttpSockets *sockets);
/* What is ready now, without waiting. Returns how many. */
guint         belay_http_sockets_ready  (BelayHttpSockets *sockets, BelayHttpEvent events[BELAY_HTTP_MAX_EVENTS]);
/* Whether an event is still of anybody's interest. */
gboolean      belay_http_sockets_concerns (BelayHttpSockets *sockets, const BelayHttpEvent *event);
/* Callbacks for libcurl; @data is the BelayHttpSockets. The second fails with errno set. */
int           belay_http_sockets_watch  (CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data);
curl_socket_t belay_http_sockets_socket (void *data, curlsocktype purpose, struct curl_sockaddr *address);
int           belay_http_sockets_close  (void *data, curl_socket_t fd);
