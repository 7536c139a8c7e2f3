/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the test kit know of one another. */
#pragma once

#include "core/point.h"
#include "scope/scope-private.h"

#include <belay/belay-test.h>

/* --- story.c --- */
enum { BELAY_STORY_REPLAY, BELAY_STORY_INJECTED, BELAY_N_STORIES };
/* From now on printed when the program fails; NULL: nothing. */
void     belay_story_set       (guint which, const char *format, ...) G_GNUC_PRINTF (2, 3);
void     belay_story_print     (void);
/* Has it printed when an assertion fails, or the program crashes. */
void     belay_story_init      (void);
/* The line that added the test that runs, "file.c:42"; NULL: none. */
void     belay_story_set_site  (const char *site);
/* Ends the test, as a failed assertion at @site (nullable: at the line that added it). */
void     belay_test_fail_at    (const char *site, const char *format, ...) G_GNUC_PRINTF (2, 3) G_GNUC_NORETURN;

/* --- log.c --- */
void     belay_test_log_begin  (void);
void     belay_test_log_end    (void);
void     belay_test_note_reason (const char *name, BelayReason reason);

/* --- resource.c --- */
void     belay_test_resources_begin (void);
/* (transfer full) (nullable): the names of those that were not released. */
char    *belay_test_resources_left  (void);

/* --- settle.c --- */
/* In a fiber: until no more than @pending releases and detached jobs are left. FALSE: they do not end. */
gboolean belay_test_settle_to  (guint pending);
/* What there is when something begins: more must not be left when it has ended. */
typedef struct
{
  guint pending;
  GStrv held;
} BelayTestBefore;
void     belay_test_look_before  (BelayTestBefore *before);
void     belay_test_clear_before (BelayTestBefore *before);
/* (transfer full) (nullable): what is left that must not be, but for errors in the sink. */
char    *belay_test_find_left  (const BelayTestBefore *before);
/* As a fiber: here, or in a belay_run() of its own. */
void     belay_test_in_fiber   (BelayFunc func, gpointer data);

/* --- inject.c --- */
void     belay_test_inject_begin (void);
/* Has the nth step or point of any name fail, 0: none, and counts from 0. */
void     belay_test_inject_any   (guint nth);
guint    belay_test_inject_count (void);

/* --- deadlock.c --- */
void     belay_test_watch      (gboolean on);
