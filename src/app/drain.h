/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The drain of what is pending. The essay is in drain.c. */
#pragma once

#include <glib.h>

/* From a callback of the default main context: a drain that goes on, if any, has so many µs more. */
void belay_drain_hurry (gint64 microseconds);
