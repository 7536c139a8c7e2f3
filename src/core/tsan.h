/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * GLib's locks, told to ThreadSanitizer.
 *
 * GMutex and GCond are futexes of GLib's own, in a library that is not instrumented: the sanitizer sees neither the lock
 * nor what it orders, and calls every access under it a race. In a build for the sanitizer, and in no other, the calls
 * that Belay makes say what they order. Only these: a program's own are its affair, and GLib's inner ones are named, with
 * the reason, in tests/suppressions/tsan.supp.
 */
#pragma once

#include <glib.h>
#include <sanitizer/tsan_interface.h>

static inline void
belay_tsan_mutex_lock (GMutex *mutex)
{
  g_mutex_lock (mutex);
  __tsan_acquire (mutex);
}

static inline gboolean
belay_tsan_mutex_trylock (GMutex *mutex)
{
  if (!g_mutex_trylock (mutex))
    return FALSE;
  __tsan_acquire (mutex);
  return TRUE;
}

static inline void
belay_tsan_mutex_unlock (GMutex *mutex)
{
  __tsan_release (mutex);
  g_mutex_unlock (mutex);
}

static inline void
belay_tsan_cond_wait (GCond *cond, GMutex *mutex)
{
  __tsan_release (mutex);
  g_cond_wait (cond, mutex);
  __tsan_acquire (mutex);
}

static inline gboolean
belay_tsan_cond_wait_until (GCond *cond, GMutex *mutex, gint64 end)
{
  gboolean in_time;

  __tsan_release (mutex);
  in_time = g_cond_wait_until (cond, mutex, end);
  __tsan_acquire (mutex);
  return in_time;
}

#define g_mutex_lock(mutex)                belay_tsan_mutex_lock (mutex)
#define g_mutex_trylock(mutex)             belay_tsan_mutex_trylock (mutex)
#define g_mutex_unlock(mutex)              belay_tsan_mutex_unlock (mutex)
#define g_cond_wait(cond, mutex)           belay_tsan_cond_wait (cond, mutex)
#define g_cond_wait_until(cond, mutex, at) belay_tsan_cond_wait_until (cond, mutex, at)
