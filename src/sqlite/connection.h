/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A connection: the queue of what is to be done with it, and the levels of its transactions. */
#pragma once

#include "statement.h"

#include <pthread.h>
#include <string.h>

typedef struct _SqliteConnection SqliteConnection;
typedef struct _SqliteLevel      SqliteLevel;
typedef struct _SqliteOperation  SqliteOperation;

/* What running an operation came to. */
typedef enum
{
  BELAY_SQLITE_DONE, /* its result is set */
  BELAY_SQLITE_BUSY  /* somebody else has the lock: op->busy_code is set, and it can be run again */
} SqliteOutcome;

/* What it is, as far as the queue must know. */
typedef enum
{
  BELAY_SQLITE_WORK,   /* a statement, a script, a function */
  BELAY_SQLITE_OPEN,
  BELAY_SQLITE_BEGIN,
  BELAY_SQLITE_COMMIT,
  BELAY_SQLITE_END     /* roll back, or close: it always happens */
} SqliteKind;

typedef enum
{
  BELAY_SQLITE_QUEUED,
  BELAY_SQLITE_RUNNING,
  BELAY_SQLITE_OVER
} SqliteState;

typedef enum
{
  BELAY_SQLITE_NOTHING,
  BELAY_SQLITE_INT64,
  BELAY_SQLITE_STRING,
  BELAY_SQLITE_ROWS,
  BELAY_SQLITE_HANDLE, /* a BelaySqlite */
  BELAY_SQLITE_FAILURE
} SqliteResult;

/* The head of every operation; operation.h has the rest. */
struct _SqliteOperation
{
  SqliteOperation *next, *previous; /* in its level's queue: the connection's lock */
  SqliteLevel     *level;
  SqliteOutcome  (*run) (SqliteConnection *connection, SqliteOperation *op); /* on a worker, not under the lock */
  void           (*free_data) (SqliteOperation *op);                         /* nullable */
  BelayPromise    *promise;  /* NULL where nobody asked: a rollback of an abandoned transaction */
  GMainContext    *context;  /* whose timer wakes it when it has met a lock; NULL: the default one */
  guint8           kind;        /* SqliteKind */
  guint8           state;       /* SqliteState; the connection's lock */
  guint8           cancelled;   /* nobody wants it any more; the connection's lock */
  guint8           result_kind; /* SqliteResult */
  guint8           may_block;   /* given by a thread that runs no loop: a worker waits for the lock, not a timer */
  guint8           refused;     /* the level was ending when its turn came */
  guint8           in_vain;     /* it opened or began something that nobody wants any more */
  guint8           autocommit;  /* whether no transaction was open when it first ran */
  SqliteLevel     *begun;      /* by a BEGIN that succeeded (borrowed from its handle) */
  guint            n_attempts; /* that met a lock */
  int              busy_code;
  char            *busy_sql;   /* what met it */
  gint64           give_up;    /* when it stops trying */
  union
  {
    gint64           integer;
    char            *string;
    BelaySqliteRows *rows;
    BelaySqlite     *handle;
    GError          *error;
  } result;
};

/* The connection itself (depth 0), or a transaction (1), or a savepoint in one (2 and more). */
struct _SqliteLevel
{
  gatomicrefcount   refs;
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
  gatomicrefcount refs;
  char           *path;
  gint64          busy_timeout; /* µs; 0: do not wait */

  pthread_mutex_t  lock;
  SqliteLevel      root;    /* depth 0 */
  SqliteLevel     *top;     /* the innermost open level: what runs is its */
  SqliteOperation *current; /* what runs */
  gboolean         pumping; /* a worker serves the queue, or is about to */
  gboolean         waiting; /* the first operation of the queue waits for another's lock */
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

/* An operation of @size bytes, cleared but for its head; without a promise when @kind is _END and nobody asks. */
SqliteOperation *belay_sqlite_operation_new  (gsize size, SqliteKind kind, SqliteLevel *level, gboolean promise,
                                              SqliteOutcome (*run) (SqliteConnection *, SqliteOperation *));
void             belay_sqlite_operation_free (SqliteOperation *op);
/* Sets its result to @error (transfer full). */
SqliteOutcome    belay_sqlite_operation_fail (SqliteOperation *op, GError *error);
/* Sets its outcome to what SQLite said, with @code, of @sql: a failure, or that it met a lock. */
SqliteOutcome    belay_sqlite_operation_fail_code (SqliteConnection *connection, SqliteOperation *op, int code, const char *sql);

/* Whether the running operation is to end. */
static inline gboolean
belay_sqlite_connection_is_stopped (SqliteConnection *connection)
{
  return g_atomic_int_get (&connection->stop) != 0;
}

/* For sqlite3_progress_handler(), while the connection is open. */
int  belay_sqlite_connection_progress (gpointer connection);
/* For sqlite3_busy_handler(): sleeps on the worker, for functions of the program's that are not ours to run again. */
int  belay_sqlite_connection_sleep    (gpointer connection, int n_calls);
/* Takes the SQLite handle away; the caller closes it. */
sqlite3 *belay_sqlite_connection_steal_handle (SqliteConnection *connection);
