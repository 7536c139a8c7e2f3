/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests share: tests that are fibers, a temporary folder, a count of descriptors. */
#pragma once

#include <belay/belay.h>

/* For the thread sanitizer: hands @data over to another thread by means of GLib's that it does not know, and takes it. */
#ifndef __has_feature
# define __has_feature(feature) 0
#endif
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
/* How many descriptors the process has open. */
guint test_count_fds    (void);
