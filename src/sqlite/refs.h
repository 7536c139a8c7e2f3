/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reference counts. GLib's are calls into a library that sanitizers do not see into; these are instructions. */
#pragma once

#include <glib.h>
#include <stdatomic.h>

static inline void
belay_sqlite_refs_take (atomic_int *refs)
{
  atomic_fetch_add_explicit (refs, 1, memory_order_relaxed);
}

/* TRUE when it was the last. */
static inline gboolean
belay_sqlite_refs_drop (atomic_int *refs)
{
  return atomic_fetch_sub_explicit (refs, 1, memory_order_acq_rel) == 1;
}
