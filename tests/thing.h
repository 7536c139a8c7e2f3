/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of guards, scopes and managers share: resources that say what happens to them, and a sink that remembers. */
#pragma once

#include "support.h"

/* A resource that closes as it is told. Its close and its abandon assert that they come once. */
typedef struct
{
  BelayPlain    base;
  const char   *name;
  gint64        close_ms;     /* how long its close takes */
  gboolean      close_hangs;  /* it never ends by itself */
  const char   *close_error;  /* it fails so */
  gint64        commit_ms;
  const char   *commit_error;
  BelayFunc     on_close;     /* called first of all by its close */
  gpointer      data;
  /*< private >*/
  BelayPromise *end;          /* what a close that hangs waits for */
  guint         n_closes, n_abandons;
} Thing;

Thing       *thing_new         (const char *name);
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
typedef struct
{
  int opened, closed, abandoned, committed, freed;
} ThingCount;
extern ThingCount thing_count;

/* The log: words separated by blanks. A thing writes +name, -name when its close begins, name. when one that
 * takes time ends, !name for abandon, and name=commit. */
void         thing_note        (const char *format, ...) G_GNUC_PRINTF (1, 2);
const char  *thing_log         (void);
void         thing_clear_log   (void);
/* The reasons that closes were given, as "a:left b:ok". */
const char  *thing_reasons     (void);

/* What the sink got since it was last asked, "message; message". */
char        *thing_take_sunk   (void);
#define assert_sunk(pattern) G_STMT_START {                                        \
    g_autofree char *sunk_ = thing_take_sunk ();                                   \
    if (!g_pattern_match_simple ((pattern), sunk_))                                \
      g_assert_cmpstr (sunk_, ==, (pattern)); } G_STMT_END

/* What is attached to the failure that the fiber was last told of, "message; message"; what a list holds. */
char        *thing_join_errors (BelayErrors *errors);
#define assert_errors(errors, expected) G_STMT_START {                             \
    g_autofree char *joined_ = thing_join_errors (errors);                         \
    if (!g_pattern_match_simple ((expected), joined_))                             \
      g_assert_cmpstr (joined_, ==, (expected)); } G_STMT_END
#define assert_attached(expected) assert_errors (belay_attached_errors (), (expected))

#define assert_log(expected) G_STMT_START {                                        \
    g_assert_cmpstr (thing_log (), ==, (expected));                                \
    thing_clear_log (); } G_STMT_END

/* A mistake that the library must report. */
#define expect_critical(pattern) g_test_expect_message ("Belay", G_LOG_LEVEL_CRITICAL, (pattern))

/* A test in a fiber. Afterwards nothing may be left: no thing, no release, no error in the sink. */
void         thing_add_test    (const char *path, BelayFunc func);
/* A test outside of fibers, with the same end. */
void         thing_add_plain_test (const char *path, void (*func) (void));

/* Runs a function in a child fiber and gives its error, NULL for success. */
GError      *thing_outcome     (BelayFunc func, gpointer data);
/* Iterates the default context until nothing is pending. */
void         thing_drain       (void);
/* The same, and then until nothing more happens by itself; the virtual clock goes on meanwhile. */
void         thing_settle      (void);
/* A future that never settles; the test drops it. */
BelayFuture *thing_never       (void);

/* g_test_init() with the virtual clock on. */
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
