/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Points: places at which a test may say that something fails.
 *
 * They are here, on the lowest floor, for all that can fail; who decides is the test kit, on the highest. Without one a
 * point is a load and a comparison.
 */
#include "core/point.h"

#include <belay/belay-test.h>
#include <stdatomic.h>

static _Atomic (BelayPointFunc) decide;

void
belay_point_set_func (BelayPointFunc func)
{
  atomic_store_explicit (&decide, func, memory_order_release);
}

gboolean
belay_test_point (const char *name)
{
  BelayPointFunc func = atomic_load_explicit (&decide, memory_order_acquire);

  return G_UNLIKELY (func != NULL) && func (name);
}
