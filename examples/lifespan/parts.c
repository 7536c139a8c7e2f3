/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parts. The database is a BelaySqlite as it is. The cache is a plain resource that reads its content when it is opened,
 * and writes what is new when it is closed: the database is still there then, since it is stopped only after all that need
 * it. The model is read from its file, and parsed on a worker.
 */
#include "parts.h"

/* --- the database --- */

BelayFuture *
open_database (BelayLifespan *life, gpointer data)
{
  const Settings *settings = data;

  return belay_sqlite_open (settings->database, NULL);
}

/* --- the cache --- */

struct _Cache
{
  BelayPlain   base;
  BelaySqlite *db;     /* the lifespan's */
  GHashTable  *labels; /* text → label */
  GPtrArray   *fresh;  /* texts that the database does not have yet; the table's */
};

static gboolean
write_fresh (Cache *self, GError **error)
{
  belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (self->db), error);

  if (tx == NULL)
    return FALSE;
  for (guint i = 0; i < self->fresh->len; i++)
    {
      const char *text = self->fresh->pdata[i], *label = g_hash_table_lookup (self->labels, text);

      if (!belay_await_ok (belay_sqlite_execute (tx, "INSERT OR REPLACE INTO labels VALUES (?, ?)",
                                                 g_variant_new ("(ss)", text, label)), error))
        return FALSE;
    }
  return belay_commit (&tx, error);
}

/* A program that was interrupted, or failed, keeps what it found out, too. */
static gboolean
cache_close (gpointer data, BelayReason reason, GError **error)
{
  Cache *self = data;

  return self->fresh->len == 0 || write_fresh (self, error);
}

static void
cache_free (gpointer data)
{
  Cache *self = data;

  g_ptr_array_unref (self->fresh);
  g_hash_table_unref (self->labels);
  g_free (self);
}

static const BelayPlainClass cache_class = BELAY_PLAIN_CLASS ("Cache", cache_close, cache_free);
BELAY_DEFINE_AUTO (Cache)

static gpointer
cache_open (gpointer life, GError **error)
{
  static const char schema[] = "CREATE TABLE IF NOT EXISTS labels (text TEXT PRIMARY KEY, label TEXT NOT NULL)";
  BelaySqlite *db = belay_lifespan_get (life, "database");
  g_autoptr (BelaySqliteRows) rows = NULL;
  Cache *self;

  if (!belay_await_ok (belay_sqlite_script (db, schema), error))
    return NULL;
  rows = belay_await (belay_sqlite_query (db, "SELECT text, label FROM labels ORDER BY rowid DESC LIMIT 10000", NULL), error);
  if (rows == NULL)
    return NULL;

  self = belay_plain_new (Cache, &cache_class);
  self->db = db;
  self->labels = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  self->fresh = g_ptr_array_new ();
  for (guint row = 0; row < belay_sqlite_rows_get_n_rows (rows); row++)
    g_hash_table_insert (self->labels, g_strdup (belay_sqlite_rows_get_string (rows, row, 0)),
                         g_strdup (belay_sqlite_rows_get_string (rows, row, 1)));
  return self;
}

BelayFuture *
open_cache (BelayLifespan *life, gpointer data)
{
  return belay_open (cache_open, life);
}

const char *
cache_lookup (Cache *self, const char *text)
{
  return g_hash_table_lookup (self->labels, text);
}

void
cache_insert (Cache *self, const char *text, const char *label)
{
  char *key;

  if (g_hash_table_contains (self->labels, text))
    return;
  key = g_strdup (text);
  g_hash_table_insert (self->labels, key, g_strdup (label));
  g_ptr_array_add (self->fresh, key);
}

/* --- the model --- */

struct _Model
{
  BelayPlain  base;
  Classifier *classifier;
};

static void
model_free (gpointer data)
{
  Model *self = data;

  classifier_free (self->classifier);
  g_free (self);
}

static const BelayPlainClass model_class = BELAY_PLAIN_CLASS ("Model", NULL, model_free);

typedef struct
{
  GBytes     *bytes;
  const char *name;
} Load;

/* On a worker. */
static gpointer
load (gpointer data, GError **error)
{
  Load *self = data;

  return classifier_load (self->bytes, self->name, error);
}

static gpointer
model_open (gpointer data, GError **error)
{
  const Settings *settings = data;
  g_autoptr (GBytes) bytes = belay_await (belay_file_read_bytes (settings->model), error);
  Classifier *classifier;
  Load job = { bytes, settings->model };
  Model *self;

  if (bytes == NULL)
    return NULL;
  classifier = belay_await (belay_thread_run_value (load, &job, classifier_free), error);
  if (classifier == NULL)
    return NULL;
  self = belay_plain_new (Model, &model_class);
  self->classifier = classifier;
  return self;
}

BelayFuture *
open_model (BelayLifespan *life, gpointer data)
{
  return belay_open (model_open, data);
}

Classifier *
model_get (Model *self)
{
  return self->classifier;
}
