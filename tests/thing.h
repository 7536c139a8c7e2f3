/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of guards, scopes and managers share: resources that say what happens to them, and a sink that remembers. */
#pragma once

#include "support.h"

#include <belay/belay-test.h>

/* The test kit's resources, by a short name. */
typedef BelayTestResource Thing;
#define thing_new belay_test_resource_new
Thing       *thing_new_slow    (const char *name, gint64 close_ms);
Thing       *thing_new_failing (const char *name, const char *close_error);
Thing       *thing_new_hanging (const char *name);
/* Futures of a thing: at once; after some milliseconds; of none, after some milliseconds. */
BelayFuture *thing_open        (const char *name);
BelayFuture *thing_open_in     (const char *name, gint64 milliseconds);
BelayFuture *thing_fail_in     (const char *message, gint64 milliseconds);

BELAY_DEFINE_AUTO (Thing)

/* The same as an object. It logs as a thing does. */
#define THING_TYPE_OBJECT (thing_object_get_type ())
G_DECLARE_FINAL_TYPE (ThingObject, thing_object, THING, OBJECT, GObject)
ThingObject *thing_object_new  (Thing *manner);

BELAY_DEFINE_AUTO (ThingObject)

/* How many there were since the test began. */
#define thing_count (belay_test_get_count ())

/* The log, the reasons of closes, and what the sink got. */
#define thing_note      belay_test_note
#define thing_log       belay_test_get_log
#define thing_clear_log belay_test_clear_log
#define thing_reasons   belay_test_get_reasons
#define thing_take_sunk belay_test_take_sunk
#define assert_sunk     belay_test_assert_sunk

/* What is attached to the failure that the fiber was last told of, "message; message"; what a list holds. */
char        *thing_join_errors (BelayErrors *errors);
#define assert_errors(errors, expected) G_STMT_START {                             \
    g_autofree char *joined_ = thing_join_errors (errors);                         \
    if (!g_pattern_match_simple ((expected), joined_))                             \
      g_assert_cmpstr (joined_, ==, (expected)); } G_STMT_END
#define assert_attached(expected) assert_errors (belay_attached_errors (), (expected))

#define assert_log belay_test_assert_log
/* Where the order is anybody's: the words of the log are these, however they follow one another; and it is cleared. */
#define assert_log_words(expected) G_STMT_START {       \
    assert_words (thing_log (), (expected));            \
    thing_clear_log (); } G_STMT_END
#define assert_words(text, expected) G_STMT_START {     \
    g_autofree char *words_ = thing_sort_words (text);  \
    g_autofree char *these_ = thing_sort_words (expected); \
    g_assert_cmpstr (words_, ==, these_); } G_STMT_END
/* (transfer full): words, with blanks between them, in alphabetical order. */
char        *thing_sort_words  (const char *text);

/* A mistake that the library must report. */
#define expect_critical(pattern) g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, (pattern))

/*
 * Tests in a fiber and outside of fibers; afterwards nothing may be left. Each runs as it is, and, as PATH/seeded, in many other
 * orders, by seeds: so it asserts what holds in any order.
 */
#define thing_add_test(path, func)       thing_add_test_at ((path), (func), BELAY_SITE)
#define thing_add_plain_test(path, func) thing_add_plain_test_at ((path), (func), BELAY_SITE)
/*
 * The same as they are only: where other threads take part, which no seed rules; where the real time does; where so much is
 * done that a hundred times would be too long; and where it is the usual order itself that is tested.
 */
#define thing_add_single_test            belay_test_add_func
#define thing_add_single_plain_test      belay_test_add_plain_func
void         thing_add_test_at       (const char *path, BelayFunc func, const char *site);
void         thing_add_plain_test_at (const char *path, GTestFunc func, const char *site);

/* Runs a function in a child fiber and gives its error, NULL for success. */
GError      *thing_outcome     (BelayFunc func, gpointer data);
/* Iterates the default context until nothing is pending. */
void         thing_drain       (void);
/* The same, and then until nothing more happens by itself; the virtual clock goes on meanwhile. */
void         thing_settle      (void);
/* A future that never settles; the test drops it. */
BelayFuture *thing_never       (void);

/* belay_test_init(), with the virtual clock for child processes, too; unless BELAY_DEBUG says otherwise. */
void         thing_init        (int *argc, char ***argv);

/* In virtual time. */
static inline gint64
now_ms (void)
{
  return belay_now () / 1000;
}

/* Functions that are often needed. Data of sleep_func: milliseconds; of fail_func: the message. */
gboolean     sleep_func        (gpointer data, GError **error);
gboolean     fail_func         (gpointer data, GError **error);
gboolean     note_func         (gpointer data, GError **error);
/* Sleeps until it is cancelled. */
gboolean     wait_func         (gpointer data, GError **error);
