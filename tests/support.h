/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests share: tests that are fibers, a temporary folder, a count of descriptors. */
#pragma once

#include <belay/belay.h>

/* A test whose body is a fiber under belay_run(); FALSE with an error fails it, and so does a release left pending. */
void  test_add_fiber    (const char *path, BelayFunc func);
/* A file name in a folder that is removed at exit. */
char *test_tmp_path     (const char *name);
/* How many descriptors the process has open. */
guint test_count_fds    (void);
