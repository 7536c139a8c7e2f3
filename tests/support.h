/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests share: tests that are fibers, a temporary folder, a count of descriptors. */
#pragma once

#include <belay/belay.h>

#ifndef __has_feature
# define __has_feature(feature) 0
#endif

/* Whether memory is the address or the thread sanitizer's, which need more of it and keep what was freed. */
#if defined (__SANITIZE_ADDRESS__) || defined (__SANITIZE_THREAD__) || __has_feature (address_sanitizer) || \
  __has_feature (thread_sanitizer)
# define SANITIZED 1
#else
# define SANITIZED 0
#endif

/* For the thread sanitizer: hands @data over to another thread by means of GLib's that it does not know, and takes it. */
#if defined (__SANITIZE_THREAD__) || __has_feature (thread_sanitizer)
# include <sanitizer/tsan_interface.h>
# define test_hand_over(data) __tsan_release (data)
# define test_take_over(data) __tsan_acquire (data)
#else
# define test_hand_over(data) ((void) (data))
# define test_take_over(data) ((void) (data))
#endif

/* A test whose body is a fiber under belay_run(); FALSE with an error fails it, and so does a release left pending. */
void  test_add_fiber    (const char *path, BelayFunc func);
/* A file name in a folder that is removed at exit. */
char *test_tmp_path     (const char *name);
/* What must come soon comes within half a minute, on however slow a machine and under valgrind, too: the bound tells it
 * from what would take a minute, or for ever. */
#define test_assert_soon(begin) g_assert_cmpint (g_get_monotonic_time () - (begin), <, 30 * G_USEC_PER_SEC)
/* Whether a sanitizer or valgrind looks on: they are slow, have a malloc of their own, and keep what was freed. */
gboolean test_is_watched  (void);
/*
 * The end of a child of fork(). valgrind would count what is on the stacks of the parent's fibers as lost: there
 * the child becomes another program first.
 */
void  test_exit_child     (int status) G_GNUC_NORETURN;
/* How many entries a folder has. */
guint test_count_entries (const char *folder);
/* How many descriptors the process has open. */
guint test_count_fds    (void);
