/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the ends of all programs have in common. The essay is in run.c. */
#pragma once

#include "app/signals.h"

#include <belay/belay.h>

/* The program runs from here on, and the signals are its own. FALSE: it cannot, as a critical of @name's has told. */
gboolean belay_run_begin    (const char *name, BelaySignalFunc func, gpointer data);
/* Tells of what is held still, if that was asked for, and gives the signals back. */
void  belay_run_end         (void);
/* A second signal: no release goes on for more than a second from now. */
void  belay_run_hurry       (void);
/* The drain at a program's end, for as long as belay_run_set_drain_timeout() said, or as a second signal leaves. */
guint belay_run_drain       (void);
/* On stderr, after the program's name. */
void  belay_run_print_error (const GError *error);
/* The same for what is attached to that, a line each. */
void  belay_run_print_attached (BelayErrors *errors);
