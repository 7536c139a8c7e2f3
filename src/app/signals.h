/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SIGINT and SIGTERM while a program runs. The essay is in signals.c. */
#pragma once

#include <glib.h>

/* @nth: 1 or 2. On the thread that iterates the default main context. */
typedef void (*BelaySignalFunc) (int nth, gpointer data);

/* From here on the signals are ours, until belay_signals_end(), which may be said again. */
void belay_signals_begin (BelaySignalFunc func, gpointer data);
void belay_signals_end   (void);
/* The first that came since the last begin; 0: none. */
int  belay_signals_first (void);
