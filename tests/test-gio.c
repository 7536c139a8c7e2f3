/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* GIO and Belay: asynchronous pairs become futures, futures become asynchronous pairs, scopes follow cancellables. */
#include "support.h"

#include <string.h>
#include <unistd.h>

/* --- an asynchronous pair of the test's own, in every kind --- */

typedef struct
{
  int      milliseconds;
  gboolean deaf;   /* does not look at its cancellable */
  gboolean fails;
  char    *buffer; /* the caller's: written to at the very end */
} Slow;

static int n_running;  /* operations that GIO has not answered */
static int n_finished; /* whose finish function was called */

static void
slow_in_thread (GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
  Slow *slow = data;
  gint64 end;

  test_take_over (slow);
  end = g_get_monotonic_time () + slow->milliseconds * 1000;
  while (g_get_monotonic_time () < end && (slow->deaf || !g_cancellable_is_cancelled (cancellable)))
    g_usleep (200);
  if (slow->buffer != NULL)
    strcpy (slow->buffer, "written at the end");
  g_atomic_int_dec_and_test (&n_running);
  if (!slow->deaf && g_cancellable_is_cancelled (cancellable))
    g_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_CANCELLED, "GIO was cancelled");
  else if (slow->fails)
    g_task_return_new_error (task, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "what was sought is not there");
  else
    g_task_return_boolean (task, TRUE);
}

static void
slow_async (GObject *source, int milliseconds, gboolean deaf, gboolean fails, char *buffer, GCancellable *cancellable,
            GAsyncReadyCallback callback, gpointer data)
{
  GTask *task = g_task_new (source, cancellable, callback, data);
  Slow *slow = g_new (Slow, 1);

  *slow = (Slow) { milliseconds, deaf, fails, buffer };
  g_atomic_int_inc (&n_running);
  g_task_set_check_cancellable (task, FALSE);
  g_task_set_task_data (task, slow, g_free);
  test_hand_over (slow);
  g_task_run_in_thread (task, slow_in_thread);
  g_object_unref (task);
}

static gboolean
slow_boolean_finish (GObject *source, GAsyncResult *result, GError **error)
{
  n_finished++;
  return g_task_propagate_boolean (G_TASK (result), error);
}

static int
slow_int_finish (GObject *source, GAsyncResult *result, GError **error)
{
  return slow_boolean_finish (source, result, error) ? 42 : -1;
}

static gssize
slow_size_finish (GObject *source, GAsyncResult *result, GError **error)
{
  return slow_boolean_finish (source, result, error) ? (gssize) 1 << 40 : -1;
}

static char *
slow_string_finish (GObject *source, GAsyncResult *result, GError **error)
{
  return slow_boolean_finish (source, result, error) ? g_strdup ("a string") : NULL;
}

static GBytes *
slow_bytes_finish (GObject *source, GAsyncResult *result, GError **error)
{
  return slow_boolean_finish (source, result, error) ? g_bytes_new ("bytes", 5) : NULL;
}

static GVariant *
slow_variant_finish (GObject *source, GAsyncResult *result, GError **error)
{
  return slow_boolean_finish (source, result, error) ? g_variant_new_int32 (7) : NULL; /* floating, as some do */
}

static int n_objects; /* alive */

static void
object_gone (gpointer data, GObject *object)
{
  g_atomic_int_add (&n_objects, -1);
}

static GSimpleAction *
slow_object_finish (GObject *source, GAsyncResult *result, GError **error)
{
  GSimpleAction *action;

  if (!slow_boolean_finish (source, result, error))
    return NULL;
  action = g_simple_action_new ("action", NULL);
  g_atomic_int_inc (&n_objects);
  g_object_weak_ref (G_OBJECT (action), object_gone, NULL);
  return action;
}

static GObject *
slow_nothing_finish (GObject *source, GAsyncResult *result, GError **error)
{
  slow_boolean_finish (source, result, error);
  return NULL; /* and no error: the end of something */
}

static gboolean
slow_mute_finish (GObject *source, GAsyncResult *result, GError **error)
{
  slow_boolean_finish (source, result, NULL);
  return FALSE; /* and no error: a mistake of its author */
}

#define SLOW(kind, ms) BELAY_GIO (slow_async, slow_##kind##_finish, NULL, (ms), FALSE, FALSE, NULL)
#define FAIL(kind)     BELAY_GIO (slow_async, slow_##kind##_finish, NULL, 1, FALSE, TRUE, NULL)

static gboolean
cancel_scope (gpointer scope, GError **error)
{
  belay_scope_cancel (scope, "the test says so");
  return TRUE;
}

/* In a fiber. */
static void
wait_until_zero (int *counter)
{
  for (int i = 0; i < 5000 && g_atomic_int_get (counter) != 0; i++)
    belay_sleep (1, NULL);
  g_assert_cmpint (g_atomic_int_get (counter), ==, 0);
}

/* --- a GIO operation becomes a future --- */

static gboolean
kinds (gpointer data, GError **error)
{
  g_autofree char *string = NULL;
  g_autoptr (GBytes) bytes = NULL;
  g_autoptr (GVariant) variant = NULL;
  g_autoptr (GSimpleAction) object = NULL;
  BelayGioCall *call;
  gint64 number = 0;

  g_assert_true (belay_await_ok (SLOW (boolean, 1), error));
  g_assert_true (belay_await_int64 (SLOW (size, 1), &number, error));
  g_assert_cmpint (number, ==, (gint64) 1 << 40);
  string = belay_await (SLOW (string, 1), error);
  g_assert_cmpstr (string, ==, "a string");
  bytes = belay_await (SLOW (bytes, 1), error);
  g_assert_cmpuint (g_bytes_get_size (bytes), ==, 5);
  variant = belay_await (SLOW (variant, 1), error);
  g_assert_false (g_variant_is_floating (variant));
  g_assert_cmpint (g_variant_get_int32 (variant), ==, 7);
  object = belay_await (SLOW (object, 1), error);
  g_assert_cmpstr (g_action_get_name (G_ACTION (object)), ==, "action");
  g_clear_object (&object);
  wait_until_zero (&n_objects);

  /* an int is not told from a gboolean, so it is asked for by name */
  call = belay_gio_new (BELAY_GIO_INT, G_CALLBACK (slow_int_finish));
  slow_async (NULL, 1, FALSE, FALSE, NULL, belay_gio_get_cancellable (call), belay_gio_ready, call);
  g_assert_true (belay_await_int64 (belay_gio_future (call), &number, error));
  g_assert_cmpint (number, ==, 42);
  return TRUE;
}

static void
assert_not_found (BelayFuture *future)
{
  g_autoptr (GError) error = NULL;

  g_assert_false (belay_await_ok (future, &error));
  g_assert_error (error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
}

static gboolean
failures (gpointer data, GError **error)
{
  g_autoptr (GError) local = NULL;
  gpointer nothing = &local;

  assert_not_found (FAIL (boolean));
  assert_not_found (FAIL (size));
  assert_not_found (FAIL (string));
  assert_not_found (FAIL (bytes));
  assert_not_found (FAIL (variant));
  assert_not_found (FAIL (object));

  /* a NULL that is no error */
  g_assert_true (belay_await_pointer (SLOW (nothing, 1), &nothing, error));
  g_assert_null (nothing);
  g_assert_null (belay_await (SLOW (nothing, 1), &local));
  g_assert_nonnull (local);
  g_clear_error (&local);

  g_assert_false (belay_await_ok (SLOW (mute, 1), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_FAILED);
  return TRUE;
}

/* The real ones. */
static gboolean
files (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("gio-file");
  g_autoptr (GFile) file = g_file_new_for_path (path);
  g_autoptr (GFileOutputStream) out = NULL;
  g_autoptr (GFileInputStream) in = NULL;
  g_autoptr (GFileInfo) info = NULL;
  g_autoptr (GBytes) bytes = g_bytes_new_static ("hello there", 11);
  g_autoptr (GBytes) back = NULL;
  g_autoptr (GError) local = NULL;
  char buffer[100];
  gint64 n = 0;

  out = belay_await (BELAY_GIO (g_file_replace_async, g_file_replace_finish, file, NULL, FALSE, G_FILE_CREATE_NONE, 0), error);
  g_assert_true (G_IS_FILE_OUTPUT_STREAM (out));
  g_assert_true (belay_await_int64 (BELAY_GIO (g_output_stream_write_bytes_async, g_output_stream_write_bytes_finish,
                                               G_OUTPUT_STREAM (out), bytes, 0), &n, error));
  g_assert_cmpint (n, ==, 11);
  g_assert_true (belay_await_ok (BELAY_GIO (g_output_stream_close_async, g_output_stream_close_finish,
                                            G_OUTPUT_STREAM (out), 0), error));

  in = belay_await (BELAY_GIO (g_file_read_async, g_file_read_finish, file, 0), error);
  g_assert_true (belay_await_int64 (BELAY_GIO (g_input_stream_read_async, g_input_stream_read_finish,
                                               G_INPUT_STREAM (in), buffer, 5, 0), &n, error));
  g_assert_cmpmem (buffer, n, "hello", 5);
  back = belay_await (BELAY_GIO (g_input_stream_read_bytes_async, g_input_stream_read_bytes_finish,
                                 G_INPUT_STREAM (in), 100, 0), error);
  g_assert_cmpmem (g_bytes_get_data (back, NULL), g_bytes_get_size (back), " there", 6);

  info = belay_await (BELAY_GIO (g_file_query_info_async, g_file_query_info_finish, file, "standard::size",
                                 G_FILE_QUERY_INFO_NONE, 0), error);
  g_assert_cmpint (g_file_info_get_size (info), ==, 11);
  g_assert_true (belay_await_ok (BELAY_GIO (g_file_delete_async, g_file_delete_finish, file, 0), error));
  g_assert_null (belay_await (BELAY_GIO (g_file_read_async, g_file_read_finish, file, 0), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
  return TRUE;
}

/* An object can be taken by each who waits; in callback code too. */
static BelayFuture *
note_object (BelayFuture *done, gpointer data)
{
  g_autoptr (GSimpleAction) object = belay_future_take (done, NULL);

  g_assert_nonnull (object);
  (*(int *) data)++;
  return NULL;
}

static gboolean
shared (gpointer data, GError **error)
{
  g_autoptr (BelayFuture) future = SLOW (object, 1);
  g_autoptr (GSimpleAction) first = NULL;
  g_autoptr (GSimpleAction) second = NULL;
  int n = 0;

  g_assert_true (belay_await_ok (belay_future_then (belay_future_ref (future), note_object, &n, NULL), error));
  g_assert_cmpint (n, ==, 1);
  first = belay_await (belay_future_ref (future), error);
  second = belay_await (belay_future_ref (future), error);
  g_assert_true (first != NULL && first == second);
  return TRUE;
}

/* --- cancellation of an operation --- */

/* The memory is ours again when the await returns, not a moment before. */
static gboolean
await_with_buffer (gpointer data, GError **error)
{
  gboolean deaf = GPOINTER_TO_INT (data);
  belay_auto (BelayScope) scope = belay_scope_begin ();
  char buffer[32] = "";
  gint64 start = g_get_monotonic_time ();
  gboolean ok;

  g_assert_true (belay_scope_spawn (scope, cancel_scope, scope, NULL));
  ok = belay_await_ok (BELAY_GIO (slow_async, slow_boolean_finish, NULL, 100, deaf, FALSE, buffer), error);
  g_assert_cmpint (g_atomic_int_get (&n_running), ==, 0);
  g_assert_cmpstr (buffer, ==, "written at the end");
  if (deaf)
    g_assert_cmpint (g_get_monotonic_time () - start, >=, 100 * 1000);
  return ok;
}

static gboolean
cancelled_midway (gpointer data, GError **error)
{
  g_autoptr (GError) local = NULL;

  g_assert_false (belay_await_ok (belay_spawn (await_with_buffer, GINT_TO_POINTER (FALSE)), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_null (strstr (local->message, "GIO was cancelled")); /* our reason, not GIO's word for it */
  g_clear_error (&local);

  /* what succeeded nevertheless has happened (L21) */
  belay_await_ok (belay_spawn (await_with_buffer, GINT_TO_POINTER (TRUE)), &local);
  if (local != NULL)
    g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  return TRUE;
}

static gboolean
timed_out (gpointer data, GError **error)
{
  g_autoptr (GError) local = NULL;
  char buffer[32] = "";
  belay_auto (BelayTimeout) limit = belay_timeout (20);

  g_assert_false (belay_await_ok (BELAY_GIO (slow_async, slow_boolean_finish, NULL, 100000, FALSE, FALSE, buffer), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_cmpint (g_atomic_int_get (&n_running), ==, 0);
  g_assert_cmpstr (buffer, ==, "written at the end");
  g_assert_true (belay_timeout_expired (limit));
  return TRUE;
}

static gboolean
cancelled_before (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();
  g_autoptr (GError) local = NULL;
  char buffer[32] = "";
  gint64 start = g_get_monotonic_time ();
  BelayFuture *future;

  belay_scope_cancel (scope, "before");
  future = BELAY_GIO (slow_async, slow_boolean_finish, NULL, 100000, FALSE, FALSE, buffer);
  g_assert_false (belay_await_ok (future, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  g_assert_null (strstr (local->message, "GIO was cancelled"));
  g_assert_cmpint (g_atomic_int_get (&n_running), ==, 0);
  test_assert_soon (start);
  return TRUE;
}

/* Somebody who resets the cancellable changes nothing in what the await says. */
static gboolean
slow_resetting_finish (GObject *source, GAsyncResult *result, GError **error)
{
  g_cancellable_reset (g_task_get_cancellable (G_TASK (result)));
  return slow_boolean_finish (source, result, error);
}

static gboolean
latched (gpointer data, GError **error)
{
  belay_auto (BelayTimeout) limit = belay_timeout (10);
  g_autoptr (GError) local = NULL;

  g_assert_nonnull (limit);
  g_assert_false (belay_await_ok (SLOW (resetting, 10000), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  return TRUE;
}

static gboolean
dropped (gpointer data, GError **error)
{
  gint64 start = g_get_monotonic_time ();

  for (int i = 0; i < 20; i++)
    {
      belay_future_unref (SLOW (object, 100000));
      belay_future_unref (SLOW (string, 100000));
      belay_future_unref (BELAY_GIO (slow_async, slow_object_finish, NULL, 2, TRUE, FALSE, NULL)); /* comes too late */
      belay_future_unref (BELAY_GIO (slow_async, slow_variant_finish, NULL, 2, TRUE, FALSE, NULL));
    }
  n_finished = 0;
  wait_until_zero (&n_running);
  for (int i = 0; i < 5000 && n_finished < 80; i++)
    belay_sleep (1, NULL);
  g_assert_cmpint (n_finished, ==, 80);
  wait_until_zero (&n_objects);
  test_assert_soon (start);
  return TRUE;
}

/* The last interest goes on another thread, while GIO calls back here. */
static gpointer
drop_on_thread (gpointer data)
{
  int fd = GPOINTER_TO_INT (data);
  BelayFuture *future;

  while (read (fd, &future, sizeof future) == sizeof future)
    belay_future_unref (future);
  return NULL;
}

static void
quick_async (GObject *source, int unused, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
  g_autoptr (GTask) task = g_task_new (source, cancellable, callback, data);

  g_task_set_check_cancellable (task, FALSE);
  g_task_return_boolean (task, TRUE);
}

static gboolean
dropped_elsewhere (gpointer data, GError **error)
{
  GThread *thread;
  int fds[2];

  g_assert_cmpint (pipe (fds), ==, 0);
  thread = g_thread_new ("dropper", drop_on_thread, GINT_TO_POINTER (fds[0]));
  n_finished = 0;
  for (int i = 0; i < 2000; i++)
    {
      BelayFuture *future = BELAY_GIO (quick_async, slow_object_finish, NULL, 0);

      g_assert_cmpint (write (fds[1], &future, sizeof future), ==, sizeof future);
      if (i % 7 == 0)
        belay_yield (NULL);
    }
  close (fds[1]);
  for (int i = 0; i < 5000 && n_finished < 2000; i++)
    belay_sleep (1, NULL);
  g_assert_cmpint (n_finished, ==, 2000);
  g_thread_join (thread);
  close (fds[0]);
  wait_until_zero (&n_objects);
  return TRUE;
}

/* How many descriptors lead to files that begin like this. */
static guint
count_open (const char *prefix)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc/self/fd", 0, NULL);
  const char *name;
  guint n = 0;

  g_assert_nonnull (dir);
  while ((name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *link = g_build_filename ("/proc/self/fd", name, NULL);
      g_autofree char *target = g_file_read_link (link, NULL);

      n += target != NULL && g_str_has_prefix (target, prefix);
    }
  return n;
}

/* L21: a stream that nobody takes commits nothing, whenever it is dropped. */
static gboolean
dropped_stream (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("dropped-stream");
  g_autoptr (GFile) file = g_file_new_for_path (path);
  g_autofree char *folder = g_path_get_dirname (path);

  g_assert_true (g_file_set_contents (path, "old", -1, NULL));
  for (int i = 0; i < 21; i++)
    {
      BelayFuture *future = BELAY_GIO (g_file_replace_async, g_file_replace_finish, file, NULL, FALSE, G_FILE_CREATE_NONE, 0);
      g_autofree char *content = NULL;

      if (i % 3 == 1)
        belay_yield (NULL);
      if (i % 3 == 2)
        while (belay_future_is_pending (future))
          belay_sleep (1, NULL);
      belay_future_unref (future);
      belay_sleep (10, NULL);
      g_assert_true (g_file_get_contents (path, &content, NULL, NULL));
      g_assert_cmpstr (content, ==, "old");
    }
  for (int i = 0; i < 20000 && count_open (folder) > 0; i++)
    belay_sleep (1, NULL);
  g_assert_cmpuint (count_open (folder), ==, 0);
  return TRUE;
}

/* What GIO's way gives may be a resource of ours: taken once, closed when nobody takes it. */
static void
hand_async (GObject *source, BelayFile *file, GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
  g_autoptr (GTask) task = g_task_new (source, cancellable, callback, data);

  g_task_return_pointer (task, file, g_object_unref);
}

static BelayFile *
hand_finish (GObject *source, GAsyncResult *result, GError **error)
{
  return g_task_propagate_pointer (G_TASK (result), error);
}

static gboolean
resource (gpointer data, GError **error)
{
  g_autofree char *path = test_tmp_path ("resource");
  g_autoptr (BelayFuture) future = NULL;
  g_autoptr (GError) local = NULL;
  belay_auto (BelayFile) file = belay_await (belay_file_create (path), error);

  future = BELAY_GIO (hand_async, hand_finish, NULL, belay_steal (&file));
  file = belay_await (belay_future_ref (future), error);
  g_assert_true (BELAY_IS_FILE (file));
  g_assert_null (belay_await (belay_future_ref (future), &local));
  g_assert_error (local, BELAY_ERROR, BELAY_ERROR_TAKEN);

  belay_future_unref (BELAY_GIO (hand_async, hand_finish, NULL, belay_steal (&file))); /* no warning: it is closed */
  g_assert_true (belay_sleep (20, error));
  return TRUE;
}

/* --- a future becomes a GIO operation --- */

typedef struct
{
  GMainLoop    *loop;
  GAsyncResult *result;
  GThread      *thread;
} Outcome;

static void
on_outcome (GObject *source, GAsyncResult *result, gpointer data)
{
  Outcome *outcome = data;

  g_assert_null (outcome->result);
  outcome->result = g_object_ref (result);
  outcome->thread = g_thread_self ();
  g_main_loop_quit (outcome->loop);
}

static void
outcome_init (Outcome *outcome)
{
  *outcome = (Outcome) { g_main_loop_new (NULL, FALSE), NULL, NULL };
}

static void
outcome_clear (Outcome *outcome)
{
  g_main_loop_unref (outcome->loop);
  g_clear_object (&outcome->result);
}

/* No fiber, no belay_run(): a plain main loop, as of an application in Vala or Python. */
static void
wait_plain (void)
{
  BelayFuture *futures[] = { belay_future_new_int64 (7), belay_future_delay (5) };

  for (guint i = 0; i < G_N_ELEMENTS (futures); i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (BelayFuture) future = NULL;
      g_autoptr (GSimpleAction) source = g_simple_action_new ("source", NULL);
      g_autoptr (GObject) seen = NULL;
      Outcome outcome;
      gint64 number;

      outcome_init (&outcome);
      belay_future_wait_async (futures[i], source, NULL, on_outcome, &outcome);
      g_assert_cmpuint (G_OBJECT (source)->ref_count, >, 1); /* kept, as a GTask does */
      g_assert_null (outcome.result);                        /* never inside the call */
      g_main_loop_run (outcome.loop);
      g_assert_true (outcome.thread == g_thread_self ());
      seen = g_async_result_get_source_object (outcome.result);
      g_assert_true (seen == G_OBJECT (source));
      future = belay_future_wait_finish (outcome.result, &error);
      g_assert_no_error (error);
      g_assert_true (belay_future_is_resolved (future));
      if (i == 0)
        {
          g_assert_true (belay_future_take_int64 (future, &number, &error));
          g_assert_cmpint (number, ==, 7);
        }
      outcome_clear (&outcome);
    }
}

/* A value that can be taken once is there to be taken. */
static void
wait_pointer (void)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  g_autoptr (BelayFuture) future = NULL;
  g_autofree char *value = NULL;
  Outcome outcome;

  outcome_init (&outcome);
  belay_future_wait_async (belay_promise_get_future (promise), NULL, NULL, on_outcome, &outcome);
  belay_promise_resolve_pointer (promise, g_strdup ("once"), g_free);
  g_main_loop_run (outcome.loop);
  future = belay_future_wait_finish (outcome.result, NULL);
  g_assert_nonnull (future);
  value = belay_future_take (future, NULL);
  g_assert_cmpstr (value, ==, "once");
  outcome_clear (&outcome);
}

static void
wait_rejected (void)
{
  g_autoptr (GError) error = NULL;
  Outcome outcome;

  outcome_init (&outcome);
  belay_future_wait_async (belay_future_new_failed (G_FILE_ERROR, G_FILE_ERROR_IO, "number %d", 5), NULL, NULL, on_outcome,
                           &outcome);
  g_main_loop_run (outcome.loop);
  g_assert_null (belay_future_wait_finish (outcome.result, &error));
  g_assert_error (error, G_FILE_ERROR, G_FILE_ERROR_IO);
  g_assert_cmpstr (error->message, ==, "number 5");
  outcome_clear (&outcome);
}

static void
note_drop (gpointer data)
{
  g_atomic_int_inc ((int *) data);
}

static gpointer
cancel_on_thread (gpointer cancellable)
{
  g_usleep (10000);
  g_cancellable_cancel (cancellable);
  return NULL;
}

static gpointer
cancel_at_once (gpointer cancellable)
{
  g_cancellable_cancel (cancellable);
  return NULL;
}

/* Cancelled before, during (here, on another thread, and reset at once) and after. */
static void
wait_cancelled (void)
{
  for (int way = 0; way < 5; way++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      g_autoptr (BelayPromise) promise = belay_promise_new ();
      g_autoptr (GError) error = NULL;
      g_autoptr (BelayFuture) future = NULL;
      GThread *thread = NULL;
      int n_drops = 0;
      Outcome outcome;

      outcome_init (&outcome);
      belay_promise_on_cancel (promise, note_drop, &n_drops, NULL);
      if (way == 0)
        g_cancellable_cancel (cancellable);
      belay_future_wait_async (belay_promise_get_future (promise), NULL, cancellable, on_outcome, &outcome);
      if (way == 1 || way == 2)
        g_cancellable_cancel (cancellable);
      if (way == 2)
        g_cancellable_reset (cancellable);
      if (way == 3)
        thread = g_thread_new ("canceller", cancel_on_thread, cancellable);
      if (way == 4)
        belay_promise_resolve (promise);
      g_assert_null (outcome.result);
      g_main_loop_run (outcome.loop);
      if (way == 4)
        g_cancellable_cancel (cancellable); /* it has come: a cancellation takes nothing away */
      future = belay_future_wait_finish (outcome.result, &error);
      if (way == 4)
        {
          g_assert_no_error (error);
          g_assert_nonnull (future);
        }
      else
        {
          g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
          g_assert_null (future);
        }
      while (g_main_context_iteration (NULL, FALSE))
        ;
      g_assert_cmpint (n_drops, ==, way == 4 ? 0 : 1); /* the interest is gone */
      g_assert_false (g_signal_has_handler_pending (cancellable, g_signal_lookup ("cancelled", G_TYPE_CANCELLABLE), 0, TRUE));
      if (thread != NULL)
        g_thread_join (thread);
      outcome_clear (&outcome);
    }
}

/* Outcome and cancellation at the same time, on two threads: one of them, once, and nothing leaks. */
static void
wait_raced (void)
{
  for (int i = 0; i < 300; i++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      g_autoptr (BelayFuture) future = NULL;
      g_autoptr (GError) error = NULL;
      BelayPromise *promise = belay_promise_new ();
      Outcome outcome;
      GThread *thread;

      outcome_init (&outcome);
      belay_future_wait_async (belay_promise_get_future (promise), NULL, cancellable, on_outcome, &outcome);
      thread = g_thread_new ("canceller", cancel_at_once, cancellable);
      if (i % 2)
        g_thread_yield ();
      belay_promise_resolve_pointer (promise, g_malloc (8), g_free);
      belay_promise_unref (promise);
      g_main_loop_run (outcome.loop);
      future = belay_future_wait_finish (outcome.result, &error);
      if (future == NULL)
        g_assert_error (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
      g_thread_join (thread);
      while (g_main_context_iteration (NULL, FALSE))
        ;
      outcome_clear (&outcome);
    }
}

/* There and back: a future by way of GIO is a future again. */
static gboolean
wait_boolean_finish (GObject *source, GAsyncResult *result, GError **error)
{
  g_autoptr (BelayFuture) future = belay_future_wait_finish (result, error);

  return future != NULL;
}

static gboolean
both_ways (gpointer data, GError **error)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  g_autoptr (GError) local = NULL;
  int n_drops = 0;

  g_assert_true (belay_await_ok (BELAY_GIO (belay_future_wait_async, wait_boolean_finish, belay_future_delay (2), NULL), error));

  belay_promise_on_cancel (promise, note_drop, &n_drops, NULL);
  {
    belay_auto (BelayTimeout) limit = belay_timeout (5);

    g_assert_nonnull (limit);
    g_assert_false (belay_await_ok (BELAY_GIO (belay_future_wait_async, wait_boolean_finish,
                                               belay_promise_get_future (promise), NULL), &local));
    g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  }
  g_assert_cmpint (n_drops, ==, 1);
  return TRUE;
}

/* --- scopes and cancellables --- */

static gboolean
has_handlers (GCancellable *cancellable)
{
  return g_signal_has_handler_pending (cancellable, g_signal_lookup ("cancelled", G_TYPE_CANCELLABLE), 0, TRUE);
}

static gboolean
follow (gpointer data, GError **error)
{
  for (int way = 0; way < 4; way++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      g_autoptr (GError) local = NULL;
      GThread *thread = NULL;

      {
        belay_auto (BelayScope) scope = belay_scope_begin ();

        if (way == 0)
          g_cancellable_cancel (cancellable);
        belay_scope_follow_cancellable (scope, cancellable);
        if (way == 1)
          g_cancellable_cancel (cancellable);
        if (way == 2)
          {
            g_cancellable_cancel (cancellable);
            g_cancellable_reset (cancellable);
          }
        if (way == 3)
          thread = g_thread_new ("canceller", cancel_on_thread, cancellable);
        else
          g_assert_true (belay_scope_is_cancelled (scope));
        g_assert_false (belay_sleep (10000, &local));
        g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);
        g_assert_nonnull (strstr (local->message, "follows"));
      }
      if (thread != NULL)
        g_thread_join (thread);
      g_assert_false (has_handlers (cancellable));
    }
  return TRUE;
}

/* The scope lets go of the cancellable, and the cancellable of the scope. */
static gboolean
follow_ends (gpointer data, GError **error)
{
  GCancellable *cancellable = g_cancellable_new ();
  BelayScope *scope;

  {
    belay_auto (BelayScope) lexical = belay_scope_begin ();

    belay_scope_follow_cancellable (lexical, cancellable);
    g_assert_true (has_handlers (cancellable));
    g_assert_true (belay_scope_close (&lexical, error));
  }
  g_assert_false (has_handlers (cancellable));
  g_assert_cmpuint (G_OBJECT (cancellable)->ref_count, ==, 1);
  g_cancellable_cancel (cancellable); /* of no effect on what has ended */
  g_object_unref (cancellable);

  cancellable = g_cancellable_new ();
  scope = belay_scope_new ();
  belay_scope_follow_cancellable (scope, cancellable);
  g_object_unref (cancellable); /* whoever could have cancelled is gone */
  g_assert_false (belay_scope_is_cancelled (scope));
  g_assert_true (belay_scope_close (&scope, error));

  /* on a scope that has ended */
  {
    g_autoptr (GCancellable) late = g_cancellable_new ();
    g_autoptr (BelayScope) kept = NULL;

    scope = belay_scope_new ();
    kept = belay_scope_ref (scope);
    g_assert_true (belay_scope_close (&scope, error));
    belay_scope_follow_cancellable (kept, late);
    for (int i = 0; i < 100 && has_handlers (late); i++)
      belay_sleep (1, NULL);
    g_assert_false (has_handlers (late));
  }
  return TRUE;
}

/* From inside a handler, where g_cancellable_connect() and g_cancellable_disconnect() deadlock. */
static void
follow_in_handler (GCancellable *cancellable, gpointer data)
{
  BelayScope **scopes = data;

  belay_scope_follow_cancellable (scopes[0], cancellable);
  g_assert_true (belay_scope_is_cancelled (scopes[0]));
}

static gboolean
follow_no_deadlock (gpointer data, GError **error)
{
  g_autoptr (GCancellable) cancellable = g_cancellable_new ();
  BelayScope *scope = belay_scope_new ();
  BelayScope *other = belay_scope_new ();
  gulong id;

  id = g_cancellable_connect (cancellable, G_CALLBACK (follow_in_handler), &scope, NULL);
  /* two that follow each other */
  belay_scope_follow_cancellable (other, belay_scope_get_cancellable (scope));
  belay_scope_follow_cancellable (scope, belay_scope_get_cancellable (other));
  g_cancellable_cancel (cancellable);
  g_assert_true (belay_scope_is_cancelled (other));
  g_cancellable_disconnect (cancellable, id);
  belay_scope_close (&scope, NULL);
  belay_scope_close (&other, NULL);
  return TRUE;
}

/* Cancelled by other threads while the scope ends. */
static gboolean
follow_raced (gpointer data, GError **error)
{
  for (int i = 0; i < 200; i++)
    {
      g_autoptr (GCancellable) cancellable = g_cancellable_new ();
      GThread *thread;

      {
        belay_auto (BelayScope) scope = belay_scope_begin ();

        belay_scope_follow_cancellable (scope, cancellable);
        thread = g_thread_new ("canceller", cancel_at_once, cancellable);
        if (i % 2)
          belay_yield (NULL);
      }
      g_thread_join (thread);
      g_assert_false (has_handlers (cancellable));
    }
  return TRUE;
}

static void
on_slow (GObject *source, GAsyncResult *result, gpointer data)
{
  *(GAsyncResult **) data = g_object_ref (result);
}

/* The scope's own cancellable, given to GIO by hand. */
static gboolean
scope_cancellable (gpointer data, GError **error)
{
  BelayScope *scope = belay_scope_new ();
  g_autoptr (GAsyncResult) result = NULL;
  g_autoptr (GError) local = NULL;

  slow_async (NULL, 10000, FALSE, FALSE, NULL, belay_scope_get_cancellable (scope), on_slow, &result);
  g_assert_true (belay_sleep (5, error));
  belay_scope_cancel (scope, NULL);
  for (int i = 0; i < 5000 && result == NULL; i++)
    belay_sleep (1, NULL);
  g_assert_nonnull (result);
  g_assert_false (slow_boolean_finish (NULL, result, &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_CANCELLED);

  /* it is latched: a reset does not bring the scope back */
  g_cancellable_reset (belay_scope_get_cancellable (scope));
  g_assert_true (belay_scope_is_cancelled (scope));
  belay_scope_close (&scope, NULL);
  return TRUE;
}

/* What every checkpoint in the scope says is no news for the sink (which would end this program). */
static gboolean
refused_is_seen (gpointer data, GError **error)
{
  g_autoptr (GFile) file = g_file_new_for_path ("/proc/self/status");
  g_autoptr (GError) local = NULL;
  belay_auto (BelayTimeout) limit = belay_timeout (0);

  g_assert_nonnull (limit);
  g_assert_false (belay_await_ok (BELAY_GIO (g_file_read_async, g_file_read_finish, file, 0), &local));
  g_assert_error (local, G_IO_ERROR, G_IO_ERROR_TIMED_OUT);
  g_assert_false (belay_await_ok (SLOW (boolean, 1), NULL));
  return belay_close (&limit, error) && belay_sleep (20, error);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  test_add_fiber ("/gio/future/kinds", kinds);
  test_add_fiber ("/gio/future/failures", failures);
  test_add_fiber ("/gio/future/files", files);
  test_add_fiber ("/gio/future/shared", shared);
  test_add_fiber ("/gio/future/L22-cancelled-midway", cancelled_midway);
  test_add_fiber ("/gio/future/L24-timed-out", timed_out);
  test_add_fiber ("/gio/future/L20-cancelled-before", cancelled_before);
  test_add_fiber ("/gio/future/L9-refused-is-no-news", refused_is_seen);
  test_add_fiber ("/gio/future/latched", latched);
  test_add_fiber ("/gio/future/dropped", dropped);
  test_add_fiber ("/gio/future/dropped-elsewhere", dropped_elsewhere);
  test_add_fiber ("/gio/future/L21-dropped-stream", dropped_stream);
  test_add_fiber ("/gio/future/resource", resource);
  g_test_add_func ("/gio/task/plain", wait_plain);
  g_test_add_func ("/gio/task/pointer", wait_pointer);
  g_test_add_func ("/gio/task/rejected", wait_rejected);
  g_test_add_func ("/gio/task/cancelled", wait_cancelled);
  g_test_add_func ("/gio/task/raced", wait_raced);
  test_add_fiber ("/gio/both-ways", both_ways);
  test_add_fiber ("/gio/scope/follow", follow);
  test_add_fiber ("/gio/scope/follow-ends", follow_ends);
  test_add_fiber ("/gio/scope/follow-no-deadlock", follow_no_deadlock);
  test_add_fiber ("/gio/scope/follow-raced", follow_raced);
  test_add_fiber ("/gio/scope/cancellable", scope_cancellable);
  return g_test_run ();
}
