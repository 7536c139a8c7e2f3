/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An operation: one thing to be done with a connection. */
#pragma once

#include <belay/belay-sqlite.h>
#include <stdatomic.h>

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

/* The head of every operation. */
struct _SqliteOperation
{
  SqliteOperation *next, *previous; /* in its level's queue: the connection's lock */
  SqliteLevel     *level;
  SqliteConnection *connection;
  atomic_int       refs;     /* whoever answers it, and on_cancel, which holds the connection, too */
  SqliteOutcome  (*run) (SqliteConnection *connection, SqliteOperation *op); /* on a worker, not under the lock */
  void           (*free_data) (SqliteOperation *op);                         /* nullable */
  BelayPromise    *promise;  /* NULL where nobody asked: a rollback of an abandoned transaction */
  GMainContext    *context;  /* whose timer wakes it when it has met a lock; NULL: the default one */
  guint8           kind;        /* SqliteKind */
  guint8           state;       /* SqliteState; the connection's lock */
  guint8           cancelled;   /* nobody wants it any more; the connection's lock */
  guint8           result_kind; /* SqliteResult */
  guint8           abandoned;   /* by the end of its level, not by whoever waits; the connection's lock */
  guint8           borrowing;   /* it uses memory of the one who waits, who therefore sees it to its end */
  guint8           may_block;   /* given by a thread that runs no loop: a worker waits for the lock, not a timer */
  guint8           refused;     /* the level was ending when its turn came */
  guint8           in_vain;     /* it opened or began something that nobody wants any more */
  guint8           autocommit;  /* whether no transaction was open when it first ran */
  guint            size;        /* of the block */
  guint            number;      /* counts those that were given to the connection; its lock */
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

/* Memory for an operation of so many bytes or fewer is there, or the program aborts, as GLib's small objects have it. */
#define BELAY_SQLITE_SMALL 256

/* An operation of @size bytes, of which the head is set up. NULL: no memory for a large one. */
SqliteOperation *belay_sqlite_operation_new  (gsize size, SqliteKind kind, SqliteLevel *level, gboolean promise,
                                              SqliteOutcome (*run) (SqliteConnection *, SqliteOperation *));
/* Before it is given to anybody: calls @func with it, as belay_promise_on_cancel() says. */
void             belay_sqlite_operation_on_cancel (SqliteOperation *op, BelayCancelFunc func);
/* Sets its result to @error (transfer full). */
SqliteOutcome    belay_sqlite_operation_fail (SqliteOperation *op, GError *error);
/* Sets its outcome to what SQLite said, with @code, of @sql: a failure, or that it met a lock. */
SqliteOutcome    belay_sqlite_operation_fail_code (SqliteConnection *connection, SqliteOperation *op, int code, const char *sql);
/* Sets its result to G_IO_ERROR_CANCELLED, or to G_IO_ERROR_CLOSED of its level. */
void             belay_sqlite_operation_fail_cancelled (SqliteOperation *op);
void             belay_sqlite_operation_fail_closed    (SqliteOperation *op);
/* Tells the one who waits, under no lock, and frees it; its memory goes to @connection, if the caller holds that. */
void             belay_sqlite_operation_answer         (SqliteOperation *op, SqliteConnection *connection);
/* The same for a list of those that were taken out of a queue: they are refused, or, if an END, have come about. */
void             belay_sqlite_operations_refuse        (SqliteOperation *dropped);
