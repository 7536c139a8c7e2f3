/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Points: places at which a test may say that something fails. */
#pragma once

#include <glib.h>

/* TRUE: it fails. From any thread. */
typedef gboolean (*BelayPointFunc) (const char *name);

/* Who is asked at each belay_test_point(); NULL: nobody, and nothing fails. */
void belay_point_set_func (BelayPointFunc func);
