/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sockets: all of a session's in one epoll descriptor, so that GLib polls one descriptor however many there are.
 *
 * Words. A socket is *wanted* for reading or writing as libcurl last said, and *registered* as the kernel last heard.
 * The two differ on purpose: after each answer libcurl wants nothing of the connection any more, and with the next
 * request the same again. A registration that is kept over the pause saves two system calls a request. What the
 * kernel reports of a socket that nobody wants (the server has closed an idle connection) ends its registration.
 *
 * Invariants
 *   1. Only sockets that are `ours` keep an unwanted registration: those that libcurl gets from and gives back to our
 *      functions, so that none is closed behind our back. A registration must never outlive its socket: the number
 *      would be given to a new one that is then taken for registered and never watched. The others (the pair that
 *      tells of a resolved name) are unregistered when they are unwanted, as libcurl asks.
 *   2. A socket is unregistered before it is closed, for a child of fork() may still hold it open.
 *   3. Registrations are level-triggered: libcurl need not read until nothing is left.
 *   4. That a socket cannot be watched (the kernel's memory or limit is at its end) is remembered in `problem`; the
 *      multi then fails what is under way rather than wait for ever.
 *   5. What the kernel has reported in one look is acted upon one by one, and meanwhile a socket may be closed, and its
 *      number be another's: an event carries the socket's turn, and one of an earlier turn concerns nobody.
 *   6. Everything here belongs to the session's context, except writing to `wake`.
 */
#include "http/sockets.h"

#include <errno.h>
#include <sys/epoll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

gboolean
belay_http_sockets_open (BelayHttpSockets *self)
{
  struct epoll_event event = { .events = EPOLLIN };
  int saved;

  if (self->epoll != -1)
    return TRUE;
  self->epoll = epoll_create1 (EPOLL_CLOEXEC);
  self->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  event.data.fd = self->wake;
  if (self->epoll != -1 && self->wake != -1 && epoll_ctl (self->epoll, EPOLL_CTL_ADD, self->wake, &event) == 0)
    return TRUE;
  saved = errno;
  belay_http_sockets_clear (self);
  errno = saved;
  return FALSE;
}

void
belay_http_sockets_clear (BelayHttpSockets *self)
{
  if (self->epoll != -1)
    close (self->epoll);
  if (self->wake != -1)
    close (self->wake);
  self->epoll = self->wake = -1;
  self->problem = 0;
  self->size = 0;
  g_clear_pointer (&self->of, g_free);
}

static BelayHttpSocket *
get (BelayHttpSockets *self, int fd)
{
  if (G_UNLIKELY ((guint) fd >= self->size))
    {
      guint size = MAX (64, MAX (self->size * 2, (guint) fd + 1));

      self->of = g_renew (BelayHttpSocket, self->of, size);
      memset (self->of + self->size, 0, (size - self->size) * sizeof *self->of);
      self->size = size;
    }
  return &self->of[fd];
}

static void
set_registered (BelayHttpSockets *self, int fd, BelayHttpSocket *socket, guint8 events)
{
  struct epoll_event event = { .events = events, .data.fd = fd };
  int operation;

  if (socket->registered == events)
    return;
  if (events == 0)
    operation = EPOLL_CTL_DEL;
  else if (socket->registered == 0)
    operation = EPOLL_CTL_ADD;
  else
    operation = EPOLL_CTL_MOD;
  socket->registered = events;
  if (epoll_ctl (self->epoll, operation, fd, &event) == 0 || operation == EPOLL_CTL_DEL)
    return;
  /* Not as we thought: the other way, then. */
  if (errno == ENOENT && epoll_ctl (self->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
    return;
  if (errno == EEXIST && epoll_ctl (self->epoll, EPOLL_CTL_MOD, fd, &event) == 0)
    return;
  socket->registered = 0;
  self->problem = errno;
}

guint
belay_http_sockets_ready (BelayHttpSockets *self, BelayHttpEvent events[BELAY_HTTP_MAX_EVENTS])
{
  struct epoll_event ready[BELAY_HTTP_MAX_EVENTS];
  int n = epoll_wait (self->epoll, ready, BELAY_HTTP_MAX_EVENTS, 0);
  guint used = 0;

  for (int i = 0; i < n; i++)
    {
      int fd = ready[i].data.fd;
      int what = 0;
      BelayHttpSocket *socket;

      if (fd == self->wake)
        {
          guint64 count;
          G_GNUC_UNUSED gssize got = read (self->wake, &count, sizeof count);
          continue;
        }
      socket = get (self, fd);
      if (socket->wanted == 0)
        {
          set_registered (self, fd, socket, 0);
          continue;
        }
      if (ready[i].events & EPOLLIN)
        what |= CURL_CSELECT_IN;
      if (ready[i].events & EPOLLOUT)
        what |= CURL_CSELECT_OUT;
      if (ready[i].events & (EPOLLERR | EPOLLHUP))
        what |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
      events[used++] = (BelayHttpEvent) { fd, what, socket->turn };
    }
  return used;
}

gboolean
belay_http_sockets_concerns (BelayHttpSockets *self, const BelayHttpEvent *event)
{
  BelayHttpSocket *socket = get (self, event->fd);

  return socket->wanted != 0 && socket->turn == event->turn;
}

/* CURLMOPT_SOCKETFUNCTION */
int
belay_http_sockets_watch (CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data)
{
  BelayHttpSockets *self = data;
  BelayHttpSocket *socket = get (self, fd);

  socket->wanted = 0;
  if (what != CURL_POLL_REMOVE)
    socket->wanted = (guint8) ((what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0));
  else if (!socket->ours)
    socket->turn++; /* it may be closed now */
  if (socket->wanted != 0 || !socket->ours)
    set_registered (self, fd, socket, socket->wanted);
  return 0;
}

/* For CURLOPT_OPENSOCKETFUNCTION; CURL_SOCKET_BAD with errno set. */
curl_socket_t
belay_http_sockets_socket (void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
  BelayHttpSockets *self = data;
  int fd = socket (address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);

  if (fd == -1)
    return CURL_SOCKET_BAD;
  get (self, fd)->ours = TRUE; /* all else is as closing, or nothing, has left it */
  self->n_open++;
  return fd;
}

/* CURLOPT_CLOSESOCKETFUNCTION */
int
belay_http_sockets_close (void *data, curl_socket_t fd)
{
  BelayHttpSockets *self = data;
  BelayHttpSocket *socket = get (self, fd);

  set_registered (self, fd, socket, 0);
  *socket = (BelayHttpSocket) { .turn = socket->turn + 1 };
  self->n_open--;
  self->n_closed++;
  return close (fd);
}
