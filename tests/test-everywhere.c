/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cancelled, out of time and failing at every place there is: the real resources, each in a small program of its own.
 *
 * Each program is run by the kit over and over, stopped at another checkpoint each time, at its entry and in its wait; then with
 * another allocation failing each time: those of the library that may fail, and all of SQLite's. After each run nothing may
 * be left: no release, no descriptor, no file, no half of a transaction, no half of a file. What every program begins
 * with, therefore, is a look at what the run before has left.
 */
#include "support.h"

#include <belay/belay-sqlite.h>
#include <belay/belay-test.h>

#include <glib/gstdio.h>
#include <string.h>

/* --- SQLite's memory --- */

static sqlite3_mem_methods theirs;
static gboolean spared; /* while the test itself looks */

static void *
our_malloc (int size)
{
  return !spared && belay_test_point ("sqlite") ? NULL : theirs.xMalloc (size);
}

static void *
our_realloc (void *memory, int size)
{
  return !spared && belay_test_point ("sqlite") ? NULL : theirs.xRealloc (memory, size);
}

/* Before the first use of SQLite. */
static void
take_over_memory (void)
{
  sqlite3_mem_methods ours;

  g_assert_cmpint (sqlite3_config (SQLITE_CONFIG_GETMALLOC, &theirs), ==, SQLITE_OK);
  ours = theirs;
  ours.xMalloc = our_malloc;
  ours.xRealloc = our_realloc;
  g_assert_cmpint (sqlite3_config (SQLITE_CONFIG_MALLOC, &ours), ==, SQLITE_OK);
  g_assert_cmpint (sqlite3_config (SQLITE_CONFIG_LOOKASIDE, 0, 0), ==, SQLITE_OK); /* so that they are all seen */
}

/* --- what is left --- */

typedef gboolean (*Check) (const char *path);

typedef struct
{
  BelayFunc func;
  Check     is_whole; /* nullable: of what is in the file */
  char     *folder, *path;
  guint     fds, n_runs;
} Program;

static gboolean
run_program (gpointer data, GError **error)
{
  Program *self = data;

  if (self->n_runs++ == 2)
    self->fds = test_count_fds (); /* what is opened once is open now */
  if (self->n_runs > 3)
    g_assert_cmpuint (test_count_fds (), ==, self->fds);
  g_assert_cmpuint (test_count_entries (self->folder), <=, 1);
  if (self->is_whole != NULL && g_file_test (self->path, G_FILE_TEST_EXISTS))
    g_assert_true (self->is_whole (self->path));
  return self->func (self, error);
}

static void
program_init (Program *self, BelayFunc func, Check is_whole)
{
  static int n;
  g_autofree char *name = g_strdup_printf ("program-%d", n++);

  *self = (Program) { .func = func, .is_whole = is_whole, .folder = test_tmp_path (name) };
  self->path = g_build_filename (self->folder, "file", NULL);
  g_assert_cmpint (g_mkdir (self->folder, 0700), ==, 0);
}

static void
program_clear (Program *self)
{
  g_assert_cmpuint (test_count_entries (self->folder), <=, 1);
  if (self->is_whole != NULL)
    g_assert_true (self->is_whole (self->path));
  g_free (self->path);
  g_free (self->folder);
}

typedef struct
{
  BelayFunc func;
  Check     is_whole;
  guint     checkpoints; /* at least */
  guint     points;      /* that can fail, at least */
} Case;

static gboolean
test_stopped (gpointer data, GError **error)
{
  const Case *each = data;
  Program program;

  program_init (&program, each->func, each->is_whole);
  g_assert_cmpuint (belay_test_cancel_everywhere (run_program, &program), >=, each->checkpoints);
  g_assert_cmpuint (belay_test_expire_everywhere (run_program, &program), >=, each->checkpoints);
  program_clear (&program);
  return TRUE;
}

static gboolean
test_failing (gpointer data, GError **error)
{
  const Case *each = data;
  Program program;

  program_init (&program, each->func, each->is_whole);
  g_assert_cmpuint (belay_test_fail_everywhere (run_program, &program), >=, each->points);
  program_clear (&program);
  return TRUE;
}

/* --- a database --- */

/* With SQLite alone: two rows for each transaction, and a sum that only whole ones keep. */
static gboolean
accounts_balance (const char *path)
{
  sqlite3 *handle = NULL;
  sqlite3_stmt *statement = NULL;
  gboolean whole = FALSE;

  spared = TRUE;
  if (sqlite3_open (path, &handle) == SQLITE_OK &&
      sqlite3_prepare_v2 (handle, "SELECT coalesce (sum (amount), 0) FROM accounts", -1, &statement, NULL) != SQLITE_OK)
    whole = TRUE; /* the table was not made yet */
  else if (sqlite3_step (statement) == SQLITE_ROW)
    whole = sqlite3_column_int64 (statement, 0) == 0;
  sqlite3_finalize (statement);
  sqlite3_close (handle);
  spared = FALSE;
  return whole;
}

#define SETUP "CREATE TABLE IF NOT EXISTS accounts (name TEXT, amount INTEGER)"

static gboolean
transfer (BelaySqlite *db, int amount, GError **error)
{
  belay_auto (BelaySqlite) tx = belay_await (belay_sqlite_begin (db), error);

  return tx != NULL &&
         belay_await_ok (belay_sqlite_execute (tx, "INSERT INTO accounts VALUES ('ada', ?)", g_variant_new ("(i)", -amount)), error) &&
         belay_await_ok (belay_sqlite_execute (tx, "INSERT INTO accounts VALUES ('bob', ?)", g_variant_new ("(i)", amount)), error) &&
         belay_commit (&tx, error);
}

static gboolean
use_database (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (((Program *) data)->path,
                                                                &(BelaySqliteOptions) { .setup = SETUP }), error);
  g_autoptr (BelaySqliteRows) rows = NULL;
  gint64 n;

  if (db == NULL || !transfer (db, 3, error))
    return FALSE;
  {
    belay_auto (BelaySqlite) undone = belay_await (belay_sqlite_begin (db), error);

    if (undone == NULL || !belay_await_ok (belay_sqlite_execute (undone, "DELETE FROM accounts WHERE name = 'ada'", NULL), error))
      return FALSE;
  }
  rows = belay_await (belay_sqlite_query (db, "SELECT * FROM accounts", NULL), error);
  return rows != NULL && belay_check (error) &&
         belay_await_int64 (belay_sqlite_get_int64 (db, "SELECT count (*) FROM accounts", NULL), &n, error) &&
         belay_close (&db, error);
}

/* Two fibers, each with a transaction, on one connection. */
static gboolean
transfer_four (gpointer data, GError **error)
{
  return transfer (data, 4, error);
}

static gboolean
share_database (gpointer data, GError **error)
{
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (((Program *) data)->path,
                                                                &(BelaySqliteOptions) { .setup = SETUP }), error);
  belay_auto (BelayScope) scope = belay_scope_begin ();

  if (db == NULL)
    return FALSE;
  belay_scope_spawn (scope, transfer_four, db, NULL);
  belay_scope_spawn (scope, transfer_four, db, NULL);
  return belay_scope_close (&scope, error) && belay_close (&db, error);
}

/* --- files --- */

static gboolean
is_one_generation (const char *path)
{
  g_autofree char *text = NULL;
  gsize length, half;

  g_assert_true (g_file_get_contents (path, &text, &length, NULL));
  half = length / 2;
  return length % 2 == 0 && memcmp (text, text + half, half) == 0;
}

/* Two equal halves, others each time. */
static gboolean
replace_file (gpointer data, GError **error)
{
  Program *program = data;
  g_autofree char *half = g_strdup_printf ("generation %u\n", program->n_runs);
  belay_auto (BelayFile) file = belay_await (belay_file_replace (program->path), error);

  return file != NULL &&
         belay_await_ok (belay_file_write_text (file, half), error) &&
         belay_await_ok (belay_file_write_text (file, half), error) &&
         belay_commit (&file, error);
}

static gboolean
write_and_read (gpointer data, GError **error)
{
  Program *program = data;
  g_autoptr (GBytes) bytes = NULL;

  {
    belay_auto (BelayFile) file = belay_await (belay_file_create (program->path), error);

    if (file == NULL || !belay_await_ok (belay_file_write_text (file, "some text\n"), error) || !belay_close (&file, error))
      return FALSE;
  }
  bytes = belay_await (belay_file_read_bytes (program->path), error);
  return bytes != NULL;
}

/* --- scopes, managers, permits, jobs --- */

static gboolean
hold_permit (gpointer data, GError **error)
{
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (data, error);
  belay_auto (BelayTimeout) limit = belay_timeout (1000);

  return permit != NULL && belay_sleep (3, error);
}

static gboolean
share_permit (gpointer data, GError **error)
{
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (1);
  gboolean ok;

  {
    belay_auto (BelayScope) scope = belay_scope_begin ();

    for (int i = 0; i < 3; i++)
      belay_scope_spawn (scope, hold_permit, semaphore, NULL);
    ok = belay_scope_close (&scope, error);
  }
  belay_test_assert_conserved (semaphore, 1);
  return ok;
}

static gboolean
lend_resource (BelayManager *manager, gpointer data, GError **error)
{
  belay_auto (BelayTestResource) lent = belay_await (belay_test_resource_open ("lent", 2), error);

  return lent != NULL && belay_manager_yield (manager, lent, error) && belay_sleep (1, error);
}

static gboolean
note_exit (gpointer data, GError **error)
{
  belay_test_note ("exit");
  return belay_sleep (1, error);
}

static gboolean
open_many (gpointer data, GError **error)
{
  gboolean ok = FALSE;

  belay_test_clear_log ();
  {
    belay_auto (BelayTestResource) first = belay_await (belay_test_resource_open ("first", 1), error);
    belay_auto (BelayScope) scope = belay_scope_begin ();
    BelayTestResource *second = first != NULL ? belay_enter (scope, belay_test_resource_open ("second", 2), error) : NULL;

    if (second != NULL && belay_scope_defer (scope, note_exit, NULL) && belay_test_resource_reset (second, error))
      {
        BELAY_WITH (BelayManager, manager, belay_manager_open (lend_resource, NULL), error)
          ok = belay_sleep (1, error);
        else
          ok = FALSE;
      }
    ok = belay_scope_close (&scope, ok ? error : NULL) && ok && belay_close (&first, error);
  }
  belay_test_settle (); /* what came too late is released on the side */
  belay_test_assert_released ();
  return ok;
}

static gpointer
copy_text (gpointer data, GError **error)
{
  return g_strdup (data);
}

static gboolean
use_workers (gpointer data, GError **error)
{
  g_autofree char *first = belay_await (belay_thread_run_value (copy_text, (gpointer) "borrowed", g_free), error);
  g_autofree char *second = first == NULL ? NULL : belay_await (belay_thread_run_owned (copy_text, g_strdup ("owned"), g_free, g_free), error);

  return second != NULL;
}

/* --- a lifespan --- */

static BelayFuture *
open_database (BelayLifespan *life, gpointer data)
{
  return belay_sqlite_open (((Program *) data)->path, &(BelaySqliteOptions) { .setup = SETUP });
}

static gboolean
lend_count (BelayManager *manager, gpointer data, GError **error)
{
  BelaySqlite *db = belay_lifespan_get (data, "database");
  gint64 n;

  return belay_await_int64 (belay_sqlite_get_int64 (db, "SELECT count (*) FROM accounts", NULL), &n, error) &&
         belay_manager_yield (manager, db, error) && transfer (db, 5, error);
}

static BelayFuture *
open_count (BelayLifespan *life, gpointer data)
{
  return belay_manager_open (lend_count, life);
}

static BelayFuture *
open_model (BelayLifespan *life, gpointer data)
{
  return belay_test_resource_open ("model", 2);
}

static gboolean
serve (gpointer data, GError **error)
{
  return transfer (belay_lifespan_get (data, "database"), 6, error) && belay_sleep (1, error);
}

static gboolean
run_lifespan (gpointer data, GError **error)
{
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  gboolean ok;

  belay_test_clear_log ();
  belay_lifespan_add (life, "database", open_database, data, NULL);
  belay_lifespan_add (life, "count", open_count, data, "database", NULL);
  belay_lifespan_add (life, "model", open_model, data, NULL);
  ok = belay_lifespan_run (life, serve, life, error);
  belay_test_settle ();
  belay_test_assert_released ();
  return ok;
}

int
main (int argc, char **argv)
{
  static const struct
  {
    const char *name;
    Case        each;
  } cases[] = {
    { "database", { use_database, accounts_balance, 9, 100 } },
    { "database-shared-by-two", { share_database, accounts_balance, 10, 100 } },
    { "replaced-file", { replace_file, is_one_generation, 3, 0 } },
    { "file", { write_and_read, NULL, 4, 1 } },
    { "permit", { share_permit, NULL, 7, 0 } },
    { "scope-and-manager", { open_many, NULL, 8, 5 } },
    { "jobs", { use_workers, NULL, 2, 0 } },
    { "lifespan", { run_lifespan, accounts_balance, 15, 100 } },
  };

  take_over_memory ();
  belay_test_init (&argc, &argv);
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autofree char *stopped = g_strdup_printf ("/everywhere/L4-L5-%s-stopped-at-every-checkpoint", cases[i].name);
      g_autofree char *failing = g_strdup_printf ("/everywhere/L4-%s-without-memory-at-every-allocation", cases[i].name);

      belay_test_add_data_func (stopped, &cases[i].each, test_stopped);
      belay_test_add_data_func (failing, &cases[i].each, test_failing);
    }
  return g_test_run ();
}
