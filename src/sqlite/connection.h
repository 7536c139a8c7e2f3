/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection: the queue of what is to be done with it, and the levels of its transactions. */
#pragma once

#include "operation.h"
#include "statement.h"

#include <pthread.h>
#include <string.h>

/* The connection itself (depth 0), or a transaction (1), or a savepoint in one (2 and more). */
struct _SqliteLevel
{
  atomic_int        refs;
  SqliteConnection *connection; /* valid while the level is not ended, and for the level's handle */
  guint             depth;
  /* the connection's lock: */
  SqliteLevel      *outer, *inner; /* NULL where there is none */
  SqliteOperation  *first, *last;  /* its queue */
  guint             n_queued;
  gboolean          ending;        /* its end, or its commit, was given: nothing more is taken */
  gboolean          ended;
  /* the worker's: */
  char             *lost;          /* why SQLite has rolled it back already; NULL: it has not */
};

struct _SqliteConnection
{
  atomic_int refs;
  char           *path;
  char           *name; /* the path as messages say it: valid UTF-8, and without a colon at its end */
  gint64          busy_timeout; /* µs; 0: do not wait */

  _Atomic (SqliteOperation *) spare; /* the memory of one that is over; see belay_sqlite_operation_new() */
  pthread_mutex_t  lock;
  SqliteLevel      root;    /* depth 0 */
  SqliteLevel     *top;     /* the innermost open level: what runs is its */
  SqliteOperation *current; /* what runs */
  gboolean         pumping; /* a worker serves the queue, or is about to */
  gboolean         waiting; /* the first operation of the queue waits for another's lock */
  gboolean         external; /* pumping || waiting, and counted as such: W4 */
  guint            n_given; /* operations in all: the number of the last one */
  guint            wait_number;
  guint            pump_number;
  BelayFuture     *pump;    /* the interest in the worker's job */
  guint            pump_kept; /* the number of the job that @pump is */
  int              stop;    /* atomic: the running operation is to end. Written under the lock */

  /* The worker's, from one job to the next handed on through the lock: */
  sqlite3      *handle;     /* NULL: not open, or closed. Replaced under the lock, for sqlite3_interrupt() */
  SqliteCache   cache;
  SqlitePacker  packer;
  sqlite3_stmt *fixed[5];   /* see transaction.c */
  guint         n_shared;   /* how many SELECTs the implicit read transaction holds; 0: none is open */
  guint         n_queued_behind; /* how many waited behind the running operation when it began */
  guint         last_behind;     /* no operation with a later number had been given then */
  guint         last_shared;     /* the value of that when the implicit read transaction began */
  gboolean      ended;      /* a transaction was committed or rolled back since the running operation began */
  GError       *broken;     /* why nothing more can be done with it */
};

/* (transfer full); with its lock, and nothing open. @path is copied. */
SqliteConnection *belay_sqlite_connection_new   (const char *path, gint64 busy_timeout);
SqliteConnection *belay_sqlite_connection_ref   (SqliteConnection *connection);
void              belay_sqlite_connection_unref (SqliteConnection *connection);

/* A level within @outer, for a transaction that has begun; open from belay_sqlite_level_enter() on, under the lock. */
SqliteLevel *belay_sqlite_level_new   (SqliteLevel *outer);
SqliteLevel *belay_sqlite_level_ref   (SqliteLevel *level);
void         belay_sqlite_level_unref (SqliteLevel *level);

/*
 * Gives @op (transfer full) to @level's queue. Returns its future, rejected when the level takes nothing more; NULL for
 * an operation without a promise.
 */
BelayFuture *belay_sqlite_level_submit  (SqliteLevel *level, SqliteOperation *op) G_GNUC_WARN_UNUSED_RESULT;
/* Ends a level by force: what runs is stopped, what waits is refused, the rest is a worker's. Never blocks. */
void         belay_sqlite_level_abandon (SqliteLevel *level);
/* Whether its end was given, so that dropping its handle loses nothing. */
gboolean     belay_sqlite_level_is_ending (SqliteLevel *level);

/* Whether the running operation is to end. */
static inline gboolean
belay_sqlite_connection_is_stopped (SqliteConnection *connection)
{
  return g_atomic_int_get (&connection->stop) != 0;
}

/* Takes the SQLite handle away; the caller closes it. */
sqlite3 *belay_sqlite_connection_steal_handle (SqliteConnection *connection);

/* --- under the lock; for the pump --- */

/* Into @op's level's queue, at its end or, when it has met a lock, at its front. */
void     belay_sqlite_queue_push_last  (SqliteOperation *op);
void     belay_sqlite_queue_push_first (SqliteOperation *op);
void     belay_sqlite_queue_take_out   (SqliteOperation *op);
/* Gives @level an END that nobody asked for, unless it has one. */
void     belay_sqlite_level_push_end   (SqliteLevel *level);
/* Makes @level, which has begun, the top of the stack. */
void     belay_sqlite_level_enter      (SqliteLevel *level);
/* Ends the top of the stack; what is left in its queue is added to @dropped. TRUE: the stack's reference is the caller's. */
gboolean belay_sqlite_level_leave      (SqliteLevel *level, SqliteOperation **dropped);
