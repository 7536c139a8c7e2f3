/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals: SIGINT and SIGTERM while belay_run() runs.
 *
 * Both count as the same wish. The first and the second are handed to the main loop, since what they ask for is done there.
 * The third ends the process where it is delivered, in the handler itself: so it works even when no main loop turns any
 * more, because a function blocks the thread say.
 *
 * Invariants
 *   1. The handler touches atomics and one descriptor, which is opened once and never closed; so it may run at any time,
 *      on any thread, also while the signals are being given back.
 *   2. Between fork() and exec() a child has the parent's handlers, but the signal is the child's alone: it does what it does
 *      by default.
 *   3. What was installed before is installed again afterwards.
 */
#include "app/signals.h"
#include "core/future-private.h"

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

static atomic_int n_signals, first_signal;
static int wake_fd = -1;
static struct sigaction old_sigint, old_sigterm;
static GSource *source;
static BelaySignalFunc signal_func;
static gpointer signal_data;
static int n_told;

static void
on_signal (int number)
{
  int saved_errno = errno, nth;
  guint64 one = 1;

  if (belay_forked ())
    {
      signal (number, SIG_DFL);
      raise (number);
      return;
    }
  nth = atomic_fetch_add (&n_signals, 1) + 1;
  if (nth >= 3)
    _exit (128 + number);
  if (nth == 1)
    atomic_store (&first_signal, number);
  while (write (wake_fd, &one, sizeof one) < 0 && errno == EINTR)
    ;
  errno = saved_errno;
}

static gboolean
on_wake (int fd, GIOCondition condition, gpointer data)
{
  guint64 n;

  while (read (fd, &n, sizeof n) < 0 && errno == EINTR)
    ;
  while (n_told < MIN (atomic_load (&n_signals), 2))
    signal_func (++n_told, signal_data);
  return G_SOURCE_CONTINUE;
}

void
belay_signals_begin (BelaySignalFunc func, gpointer data)
{
  struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

  if (wake_fd < 0)
    wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0)
    g_error ("belay: eventfd: %s", g_strerror (errno)); /* as a GMainContext itself does */
  signal_func = func;
  signal_data = data;
  n_told = 0;
  atomic_store (&n_signals, 0);
  atomic_store (&first_signal, 0);
  source = g_unix_fd_source_new (wake_fd, G_IO_IN);
  g_source_set_priority (source, G_PRIORITY_HIGH);
  g_source_set_static_name (source, "Belay's signals");
  g_source_set_callback (source, G_SOURCE_FUNC (on_wake), NULL, NULL);
  g_source_attach (source, NULL);
  sigemptyset (&action.sa_mask);
  sigaction (SIGINT, &action, &old_sigint);
  sigaction (SIGTERM, &action, &old_sigterm);
}

void
belay_signals_end (void)
{
  if (source == NULL)
    return;
  sigaction (SIGINT, &old_sigint, NULL);
  sigaction (SIGTERM, &old_sigterm, NULL);
  g_source_destroy (source);
  g_clear_pointer (&source, g_source_unref);
}

int
belay_signals_first (void)
{
  return atomic_load (&first_signal);
}
