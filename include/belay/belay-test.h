/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The test kit: tests that are fibers, in virtual time, in any order, cancelled and failing at any place.
 *
 * Not a part of <belay/belay.h>; made for GLib's test framework. A program of tests:
 *
 *   int
 *   main (int argc, char **argv)
 *   {
 *     belay_test_init (&argc, &argv);
 *     belay_test_add_func ("/cache/an-hour-later", an_hour_later);
 *     belay_test_explore ("/cache/two-at-once", two_at_once);
 *     return g_test_run ();
 *   }
 *
 * After each test nothing may be left: no release that is pending, no BelayTestResource that was not released, nothing of any
 * other kind that was acquired and is still held (as with BELAY_DEBUG=leaks: see belay_leaks_report()), no error in the sink,
 * no timer, no external work. (A resource that its own constructor loses was never acquired by anybody:
 * belay_test_assert_steady() finds that.) When nothing can ever happen any more, the test fails with a report of who waits for
 * whom, and from which line. Whatever a thread of the program's own will end must be told by belay_external_begin().
 *
 * In the environment: BELAY_TEST_SEEDS, how many seeds an exploration tries (100, 20 under a sanitizer);
 * BELAY_TEST_FIRST_SEED, where it begins (1); BELAY_TEST_SEED, the only one that it tries.
 */
#pragma once

#include <belay/belay.h>

G_BEGIN_DECLS

/* --- tests --- */

/**
 * belay_test_init:
 * @argc: (inout): address of main()'s
 * @argv: (inout): address of main()'s
 *
 * Calls g_test_init(), and makes the clock a virtual one: it stands still while anything is ready, and jumps to the next
 * timer when nothing is. So a sleep of an hour takes microseconds.
 *
 * Suspends: never. Cancellation: none. Threads: the main thread, before any other function of Belay's. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_test_init (int *argc, char ***argv);

/**
 * belay_test_add_func:
 * @path: the test's path, as in g_test_add_func()
 * @func: the test, a fiber
 *
 * Adds a test that runs as the program of a belay_run(). It fails when @func fails, and when something is left; the place
 * that is named then is the line that added it.
 *
 * Suspends: never. Cancellation: none. Threads: the main thread, before g_test_run(). Errors: of @func: they fail the test.
 */
#define belay_test_add_func(path, func)            belay_test_add_func_at ((path), (func), BELAY_SITE)
/* The same for a function that is given data. */
#define belay_test_add_data_func(path, data, func) belay_test_add_data_func_at ((path), (data), (func), BELAY_SITE)
/* A test outside of fibers, for callback code, in virtual time and with the same end: it iterates main loops itself. */
#define belay_test_add_plain_func(path, func)      belay_test_add_plain_func_at ((path), (func), BELAY_SITE)

BELAY_AVAILABLE_IN_1_0 void belay_test_add_func_at       (const char *path, BelayFunc func, const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_add_data_func_at  (const char *path, gconstpointer data, BelayFunc func, const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_add_plain_func_at (const char *path, GTestFunc func, const char *site);

/**
 * belay_test_explore:
 * @path: the test's path
 * @func: the test, a fiber
 *
 * Adds a test that runs once for each of many seeds. All that may happen in one order or another is decided by the seed: which
 * fiber or callback that is ready runs next, which of two timers of one instant fires first, how long a job on a worker
 * takes, whether a read finds its bytes at hand. Odd seeds choose by chance; even seeds give each fiber a
 * priority, which falls at a few places (that finds what needs one fiber to be held back for long). What @func itself wants
 * to choose, it takes from belay_test_chance().
 *
 * The run is a function of the seed alone, in this process or another, unless external work has a part in it: sockets,
 * GIO's threads, GLib's own time-outs, other loops. When it fails, be it by an assertion, g_test_fail() or a crash, no other
 * seed is tried, and the line that runs it again is printed, as in
 * `BELAY_TEST_SEED=17 ./test-cache -p /cache/two-at-once`.
 *
 * Suspends: never. Cancellation: none. Threads: the main thread, before g_test_run(). Errors: of @func: they fail the test.
 */
#define belay_test_explore(path, func)            belay_test_explore_at ((path), (func), BELAY_SITE)
/* The same for a function that is given data. */
#define belay_test_explore_data(path, data, func) belay_test_explore_data_at ((path), (data), (func), BELAY_SITE)
/* The same for callback code, as with belay_test_add_plain_func(). */
#define belay_test_explore_plain(path, func)      belay_test_explore_plain_at ((path), (func), BELAY_SITE)

BELAY_AVAILABLE_IN_1_0 void belay_test_explore_at       (const char *path, BelayFunc func, const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_explore_data_at  (const char *path, gconstpointer data, BelayFunc func, const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_explore_plain_at (const char *path, GTestFunc func, const char *site);

/* One of 0 to @n - 1: by the seed, in an exploration; in another test always the same ones. */
BELAY_AVAILABLE_IN_1_0 guint   belay_test_chance    (guint n);
/* The seed of this run; 0 in a test that is no exploration. */
BELAY_AVAILABLE_IN_1_0 guint   belay_test_get_seed  (void);
/* A number that all choices of this run have gone into so far. */
BELAY_AVAILABLE_IN_1_0 guint32 belay_test_get_trace (void);

/**
 * belay_test_advance:
 * @milliseconds: how far
 *
 * Moves the virtual clock on, also while external work holds it. What is due then happens when the main loop turns next.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_test_advance (gint64 milliseconds);

/**
 * belay_test_settle:
 *
 * Waits, as long as it takes by the virtual clock, until the releases and detached jobs that are under way have ended. If
 * they do not, the test fails.
 *
 * Suspends: in a fiber; elsewhere it iterates the default main context. Cancellation: deaf. Threads: the test's.
 * Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_test_settle (void);

/* --- resources that log, count and check themselves --- */

typedef struct _BelayTestResource BelayTestResource;

/**
 * BelayTestResource:
 * @name: what it is called in the log
 * @close_ms: how long its close takes
 * @close_hangs: its close never ends by itself
 * @close_error: (nullable): how its close fails
 * @commit_ms: how long its commit takes
 * @commit_error: (nullable): how its commit fails
 * @on_close: (nullable): called first of all by its close, with @data
 *
 * A resource that does as it is told, says so in the log, and knows whether it was released exactly once. The strings
 * are constants, or live as long as it.
 *
 * The log has a word for each thing that happens: `+name` when it is opened, `-name` when its close begins, `name.` when a
 * close that takes time ends, `!name` when it is abandoned, `name=commit` and `name=reset`.
 */
struct _BelayTestResource
{
  BelayPlain    base;
  const char   *name;
  gint64        close_ms;
  gboolean      close_hangs;
  const char   *close_error;
  gint64        commit_ms;
  const char   *commit_error;
  BelayFunc     on_close;
  gpointer      data;
  /*< private >*/
  BelayPromise *end;
  guint         n_closes, n_abandons;
};

/* One that is open at once. */
BELAY_AVAILABLE_IN_1_0 BelayTestResource *belay_test_resource_new   (const char *name) BELAY_USE_RESULT;

/**
 * belay_test_resource_open:
 * @name: a constant
 * @milliseconds: how long that takes
 *
 * Opens one, as the constructors of real resources do.
 *
 * Suspends: never itself. Cancellation: an owning operation: a cancelled await returns at once, and a late one is closed.
 * Threads: in a fiber or on a thread with a main context. Errors: what is injected at "open".
 *
 * Returns: (transfer full): gives a #BelayTestResource
 */
BELAY_AVAILABLE_IN_1_0 BelayFuture       *belay_test_resource_open  (const char *name, gint64 milliseconds) BELAY_USE_RESULT;
/* Makes it as new, as a pool does between two users. In a fiber. Errors: what is injected at "reset"; the interruptions. */
BELAY_AVAILABLE_IN_1_0 gboolean           belay_test_resource_reset (BelayTestResource *resource, GError **error);

BELAY_DEFINE_AUTO (BelayTestResource)

/* How many there were since the test began. */
typedef struct
{
  guint opened, closed, abandoned, committed, freed;
} BelayTestCount;
BELAY_AVAILABLE_IN_1_0 BelayTestCount belay_test_get_count (void);

/* --- the log, and what was heard --- */

/* Adds a word to the log. */
BELAY_AVAILABLE_IN_1_0 void        belay_test_note        (const char *format, ...) G_GNUC_PRINTF (1, 2);
/* What happened since it was last cleared, in order, separated by blanks. */
BELAY_AVAILABLE_IN_1_0 const char *belay_test_get_log     (void);
/* The reasons that closes were given, as "a:left b:ok". */
BELAY_AVAILABLE_IN_1_0 const char *belay_test_get_reasons (void);
BELAY_AVAILABLE_IN_1_0 void        belay_test_clear_log   (void);
/* (transfer full): what the sink got since it was last asked, "message; message". */
BELAY_AVAILABLE_IN_1_0 char       *belay_test_take_sunk   (void);

/* --- assertions --- */

/**
 * belay_test_assert_log:
 * @expected: all that happened, as "+a +b -b -a"
 *
 * Fails unless the log is that, and clears it.
 */
#define belay_test_assert_log(expected)     belay_test_assert_log_at ((expected), BELAY_SITE)
/* The same for the reasons that closes were given, which are cleared with the log: ask first. */
#define belay_test_assert_reasons(expected) belay_test_assert_reasons_at ((expected), BELAY_SITE)
/* Fails unless the errors in the sink are those of a pattern ('*' and '?'), and forgets them. */
#define belay_test_assert_sunk(pattern)     belay_test_assert_sunk_at ((pattern), BELAY_SITE)
/*
 * Fails unless every resource of the kit's that was opened since the log was cleared was closed or abandoned, exactly once,
 * and newest first.
 */
#define belay_test_assert_released()        belay_test_assert_released_at (BELAY_SITE)
/* Fails unless all permits of a semaphore are there again. */
#define belay_test_assert_conserved(semaphore, permits) belay_test_assert_conserved_at ((semaphore), (permits), BELAY_SITE)

/**
 * belay_test_assert_steady:
 * @func: something to do, a fiber
 * @data: handed to @func
 *
 * Runs @func a few times to warm up, then many times, and fails when it fails, or when memory (as malloc counts it; not under
 * a sanitizer) or open descriptors became more.
 *
 * Suspends: in a fiber; elsewhere it is a belay_run() of its own. Cancellation: of no account. Threads: the test's.
 */
#define belay_test_assert_steady(func, data) belay_test_assert_steady_at ((func), (data), BELAY_SITE)

BELAY_AVAILABLE_IN_1_0 void belay_test_assert_log_at       (const char *expected, const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_assert_reasons_at   (const char *expected, const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_assert_sunk_at      (const char *pattern, const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_assert_released_at  (const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_assert_conserved_at (BelaySemaphore *semaphore, guint permits, const char *site);
BELAY_AVAILABLE_IN_1_0 void belay_test_assert_steady_at    (BelayFunc func, gpointer data, const char *site);

/* --- injection --- */

/**
 * BelayTestFault:
 * @BELAY_TEST_FAIL: it fails
 * @BELAY_TEST_HANG: it does not end by itself
 * @BELAY_TEST_DELAY: it takes some time
 */
typedef enum
{
  BELAY_TEST_FAIL = 1,
  BELAY_TEST_HANG,
  BELAY_TEST_DELAY
} BelayTestFault;

/**
 * belay_test_inject:
 * @name: of a step or point: "open", "close", "commit" and "reset" of the kit's resources; "memory", an allocation of the
 *   library's that may fail; or a name of the program's own
 * @nth: which one from now on, from 1
 * @fault: what happens there; at a belay_test_point() all are failures
 * @milliseconds: how long a delay is
 *
 * Has a step go wrong, once. Forgotten at the end of the test.
 *
 * Suspends: never. Cancellation: none. Threads: the test's. Errors: none.
 */
BELAY_AVAILABLE_IN_1_0 void belay_test_inject (const char *name, guint nth, BelayTestFault fault, gint64 milliseconds);

/**
 * belay_test_step:
 * @name: a name to inject at
 * @error: return location for a #GError
 *
 * A step that a test may have fail, hang or take long: for doubles of what is slow and fails in the world. When
 * nothing is injected, it does nothing.
 *
 * Suspends: when a delay or a hanging is injected. Cancellation: a checkpoint then. Threads: in a fiber; elsewhere it can
 * fail only. Errors: %G_IO_ERROR_FAILED when that is injected; the interruptions.
 *
 * Returns: %TRUE to go on
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_test_step (const char *name, GError **error);

/**
 * belay_test_point:
 * @name: a name to inject at
 *
 * A place at which a test may say that something fails. It costs a call and a load when there is no test, so it can stay in
 * the program.
 *
 * Suspends: never. Cancellation: none. Threads: any. Errors: none.
 *
 * Returns: %TRUE when what follows is to fail
 */
BELAY_AVAILABLE_IN_1_0 gboolean belay_test_point (const char *name);

/* g_try_realloc() with a point before it, "memory". */
static inline gpointer
belay_test_try_realloc (gpointer memory, gsize size)
{
  return belay_test_point ("memory") ? NULL : g_try_realloc (memory, size);
}

/**
 * belay_test_cancel_everywhere:
 * @func: what is tested, a fiber
 * @data: handed to @func
 *
 * Runs @func over and over, each time cancelled at another checkpoint: the first, the second, and so on, of @func and all
 * fibers that run on its behalf, until a run ends before it has come to that one. And all of that twice: cancelled when it
 * enters the checkpoint, and as soon as it waits there. After each run nothing may be left, as at the end of a test; how
 * @func ends is its affair. The last run of each kind, in which nothing is cancelled, must succeed.
 *
 * Suspends: in a fiber; elsewhere it is a belay_run() of its own. Cancellation: of no account. Threads: the test's.
 * Errors: they fail the test, with a line that says where @func was cancelled.
 *
 * Returns: how many checkpoints there were in the last run
 */
BELAY_AVAILABLE_IN_1_0 guint belay_test_cancel_everywhere (BelayFunc func, gpointer data);
/* The same with a deadline, which comes there. */
BELAY_AVAILABLE_IN_1_0 guint belay_test_expire_everywhere (BelayFunc func, gpointer data);

/**
 * belay_test_fail_everywhere:
 * @func: what is tested, a fiber
 * @data: handed to @func
 *
 * Runs @func over and over, each time with another step or point failing: the first, the second, and so on, whatever
 * its name, until a run ends before it has come to that one; that must succeed. After each run nothing may be left; but an error
 * in the sink is as good as any.
 *
 * Suspends, Cancellation, Threads, Errors: as in belay_test_cancel_everywhere().
 *
 * Returns: how many there were in the last run
 */
BELAY_AVAILABLE_IN_1_0 guint belay_test_fail_everywhere (BelayFunc func, gpointer data);

G_END_DECLS
