/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * BelaySqlite: the handle of a connection, of a transaction on it, or of a savepoint in that. The public face.
 *
 * A handle is thin: it points to its level, and every call on it makes an operation and gives it to that level's queue
 * (connection.c). So two handles may share a connection, and a handle may be used by any thread.
 *
 *  H1  A constructor looks at the calling fiber's scope first, and starts nothing in a cancelled one (L20).
 *  H2  Dropping the last reference to a handle whose end was not given is a mistake, and is reported; what it held is
 *      given back all the same, by an abandon.
 *  H3  A wrong call is reported with g_critical() and gives a rejected future, never NULL.
 */
#include "transaction.h"
#include "work.h"

#define BUSY_TIMEOUT 5000 /* ms, unless told */

struct _BelaySqlite
{
  GObject           parent;
  SqliteConnection *connection; /* a reference */
  SqliteLevel      *level;      /* a reference */
};

static void belay_sqlite_resource_init (BelayResourceInterface *iface);

G_DEFINE_FINAL_TYPE_WITH_CODE (BelaySqlite, belay_sqlite, G_TYPE_OBJECT,
                               G_IMPLEMENT_INTERFACE (BELAY_TYPE_RESOURCE, belay_sqlite_resource_init))

/* H3 */
#define RETURN_MISUSE_UNLESS(condition)                                                                         \
  if (G_UNLIKELY (!(condition)))                                                                                \
    {                                                                                                           \
      g_return_if_fail_warning (G_LOG_DOMAIN, G_STRFUNC, #condition);                                           \
      return belay_future_new_failed (BELAY_ERROR, BELAY_ERROR_MISUSE, "%s: not so: %s", G_STRFUNC, #condition); \
    }

/* --- the handle --- */

static void
belay_sqlite_finalize (GObject *object)
{
  BelaySqlite *self = BELAY_SQLITE (object);

  if (self->level != NULL)
    {
      if (G_UNLIKELY (!belay_sqlite_level_is_ending (self->level)))
        {
          g_critical ("%s: a %s was dropped without being closed", self->connection->name,
                      self->level->depth == 0 ? "connection" : "transaction");
          belay_sqlite_level_abandon (self->level);
        }
      belay_sqlite_level_unref (self->level);
      belay_sqlite_connection_unref (self->connection);
    }
  G_OBJECT_CLASS (belay_sqlite_parent_class)->finalize (object);
}

static void
belay_sqlite_class_init (BelaySqliteClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = belay_sqlite_finalize;
}

static void
belay_sqlite_init (BelaySqlite *self)
{
}

BelaySqlite *
belay_sqlite_handle_new (SqliteLevel *level)
{
  BelaySqlite *self = g_object_new (BELAY_TYPE_SQLITE, NULL);

  self->connection = belay_sqlite_connection_ref (level->connection);
  self->level = level->depth > 0 ? belay_sqlite_level_ref (level) : level; /* depth 0 lives in the connection */
  return self;
}

static gboolean
belay_sqlite_close_resource (BelayResource *resource, BelayReason reason, GError **error)
{
  SqliteLevel *level = BELAY_SQLITE (resource)->level;
  GError *failure = NULL;

  if (belay_await_ok (belay_sqlite_level_submit (level, belay_sqlite_end_operation_new (level, TRUE)), &failure))
    return TRUE;
  if (g_error_matches (failure, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) /* the await's, which knows no path */
    g_prefix_error (&failure, "%s: %s: ", level->connection->name, level->depth == 0 ? "closing" : "rolling back");
  g_propagate_error (error, failure);
  return FALSE;
}

static gboolean
belay_sqlite_commit_resource (BelayResource *resource, GError **error)
{
  SqliteLevel *level = BELAY_SQLITE (resource)->level;

  return belay_await_ok (belay_sqlite_level_submit (level, belay_sqlite_commit_operation_new (level)), error);
}

static void
belay_sqlite_abandon_resource (BelayResource *resource)
{
  belay_sqlite_level_abandon (BELAY_SQLITE (resource)->level);
}

static void
belay_sqlite_resource_init (BelayResourceInterface *iface)
{
  iface->close = belay_sqlite_close_resource;
  iface->commit = belay_sqlite_commit_resource;
  iface->abandon = belay_sqlite_abandon_resource;
}

/* --- what it can do --- */

/* H1. An error that says so in a scope that is over is news to nobody, so it is not one for the sink. */
static BelayFuture *
refuse (void)
{
  GError *error = NULL;
  BelayFuture *refused;

  if (G_LIKELY (belay_checkpoint (&error)))
    return NULL;
  refused = belay_future_new_error (error);
  belay_future_get_error (refused);
  return refused;
}

BelayFuture *
belay_sqlite_open (const char *path, const BelaySqliteOptions *options)
{
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI | SQLITE_OPEN_EXRESCODE;
  gint64 milliseconds = BUSY_TIMEOUT;
  SqliteConnection *connection;
  BelayFuture *future;

  RETURN_MISUSE_UNLESS (path != NULL);
  future = refuse ();
  if (future != NULL)
    return future;

  if (options != NULL && options->read_only)
    flags |= SQLITE_OPEN_READONLY;
  else
    flags |= SQLITE_OPEN_READWRITE | (options != NULL && options->must_exist ? 0 : SQLITE_OPEN_CREATE);
  if (options != NULL && options->busy_timeout != 0)
    milliseconds = MAX (options->busy_timeout, 0);

  connection = belay_sqlite_connection_new (path, milliseconds * 1000);
  future = belay_sqlite_level_submit (&connection->root,
                                      belay_sqlite_open_operation_new (&connection->root, flags,
                                                                       options != NULL ? options->setup : NULL));
  belay_sqlite_connection_unref (connection);
  return future;
}

static BelayFuture *
run_statement (BelaySqlite *self, SqliteWant want, const char *sql, GVariant *parameters)
{
  BelayFuture *future = refuse ();
  SqliteParameterReader reader;
  SqliteOperation *op = NULL;
  GError *error = NULL;

  if (G_UNLIKELY (future != NULL))
    {
      if (parameters != NULL)
        g_variant_unref (g_variant_ref_sink (parameters));
      return future;
    }
  if (belay_sqlite_parameters_read (&reader, parameters, &error))
    op = belay_sqlite_statement_operation_new (self->level, want, sql, &reader, &error);
  future = op != NULL ? belay_sqlite_level_submit (self->level, op) : belay_future_new_error (error);
  belay_sqlite_parameters_clear (&reader); /* a tuple is slow to free: the worker has begun meanwhile */
  return future;
}

BelayFuture *
belay_sqlite_execute (BelaySqlite *self, const char *sql, GVariant *parameters)
{
  RETURN_MISUSE_UNLESS (BELAY_IS_SQLITE (self));
  RETURN_MISUSE_UNLESS (sql != NULL);
  return run_statement (self, BELAY_SQLITE_WANT_CHANGES, sql, parameters);
}

BelayFuture *
belay_sqlite_query (BelaySqlite *self, const char *sql, GVariant *parameters)
{
  RETURN_MISUSE_UNLESS (BELAY_IS_SQLITE (self));
  RETURN_MISUSE_UNLESS (sql != NULL);
  return run_statement (self, BELAY_SQLITE_WANT_ROWS, sql, parameters);
}

BelayFuture *
belay_sqlite_get_string (BelaySqlite *self, const char *sql, GVariant *parameters)
{
  RETURN_MISUSE_UNLESS (BELAY_IS_SQLITE (self));
  RETURN_MISUSE_UNLESS (sql != NULL);
  return run_statement (self, BELAY_SQLITE_WANT_STRING, sql, parameters);
}

BelayFuture *
belay_sqlite_get_int64 (BelaySqlite *self, const char *sql, GVariant *parameters)
{
  RETURN_MISUSE_UNLESS (BELAY_IS_SQLITE (self));
  RETURN_MISUSE_UNLESS (sql != NULL);
  return run_statement (self, BELAY_SQLITE_WANT_INT64, sql, parameters);
}

BelayFuture *
belay_sqlite_script (BelaySqlite *self, const char *sql)
{
  BelayFuture *refused;
  SqliteOperation *op;
  GError *error = NULL;

  RETURN_MISUSE_UNLESS (BELAY_IS_SQLITE (self));
  RETURN_MISUSE_UNLESS (sql != NULL);
  refused = refuse ();
  if (refused != NULL)
    return refused;
  op = belay_sqlite_script_operation_new (self->level, sql, &error);
  return op != NULL ? belay_sqlite_level_submit (self->level, op) : belay_future_new_error (error);
}

BelayFuture *
belay_sqlite_run (BelaySqlite *self, BelaySqliteFunc func, gpointer data)
{
  BelayFuture *refused;

  RETURN_MISUSE_UNLESS (BELAY_IS_SQLITE (self));
  RETURN_MISUSE_UNLESS (func != NULL);
  refused = refuse ();
  if (refused != NULL)
    return refused;
  return belay_sqlite_level_submit (self->level, belay_sqlite_function_operation_new (self->level, func, data));
}

BelayFuture *
belay_sqlite_begin (BelaySqlite *self)
{
  BelayFuture *refused;

  RETURN_MISUSE_UNLESS (BELAY_IS_SQLITE (self));
  refused = refuse ();
  if (refused != NULL)
    return refused;
  return belay_sqlite_level_submit (self->level, belay_sqlite_begin_operation_new (self->level));
}
