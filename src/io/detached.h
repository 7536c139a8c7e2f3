/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs on the workers that nobody has to wait for. */
#pragma once

#include <belay/belay.h>

/* Runs @func, which reports call @what, on a worker, in the order of @queue when that is not NULL. @destroy frees @data, exactly once. */
void belay_detach (const char *what, BelaySerial *queue, BelayValueFunc func, gpointer data, GDestroyNotify destroy);
