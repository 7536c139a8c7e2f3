/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which language is it? A program whose database, cache and model have a lifespan.
 *
 *   lifespan train    [-m MODEL] [DATA]                    trains a model, and says how well it does on what it has not seen
 *   lifespan classify [-m MODEL] [-d DATABASE] [TEXT…]     classifies the texts, or the lines of the standard input
 *   lifespan                                               both, with files of its own in a temporary folder
 *
 * With --verbose it says what its parts are doing.
 */
#include "parts.h"

#include <glib/gstdio.h>
#include <locale.h>
#include <string.h>

#define HOLD_OUT 5 /* every fifth sentence is for the test */

typedef struct
{
  Settings    settings;
  const char *data;
  GStrv       texts; /* NULL: the standard input */
  BelayLifespan *life;
} Program;

/* --- training --- */

typedef struct
{
  GBytes     *data;
  const char *name;
  guint       n_right, n_tested, n_samples, size;
} Training;

/* On a worker. The model that is kept has seen all. */
static gpointer
train (gpointer data, GError **error)
{
  Training *self = data;
  g_autoptr (GPtrArray) samples = samples_parse (self->data, self->name, error);
  g_autoptr (Classifier) tested = NULL;
  g_autoptr (Classifier) kept = NULL;

  if (samples == NULL)
    return NULL;
  tested = classifier_train (samples, HOLD_OUT);
  self->n_right = classifier_test (tested, samples, HOLD_OUT, &self->n_tested);
  kept = classifier_train (samples, 0);
  self->n_samples = samples->len;
  self->size = classifier_get_size (kept);
  return classifier_save (kept);
}

/* The model is replaced as a whole or not at all. */
static gboolean
train_model (gpointer data, GError **error)
{
  Program *program = data;
  g_autoptr (GBytes) bytes = belay_await (belay_file_read_bytes (program->data), error);
  g_autoptr (GBytes) model = NULL;
  Training training = { bytes, program->data, 0 };

  if (bytes == NULL)
    return FALSE;
  model = belay_await (belay_thread_run_value (train, &training, (GDestroyNotify) g_bytes_unref), error);
  if (model == NULL)
    return FALSE;

  belay_auto (BelayFile) out = belay_await (belay_file_replace (program->settings.model), error);
  if (out == NULL || !belay_await_ok (belay_file_write (out, model), error) || !belay_commit (&out, error))
    return FALSE;
  g_print ("trained on %u sentences, %u trigrams; ", training.n_samples, training.size);
  g_print ("%u of %u sentences held out are right (%u %%)\n", training.n_right, training.n_tested,
           training.n_tested > 0 ? training.n_right * 100 / training.n_tested : 0);
  return TRUE;
}

/* --- classifying --- */

static gboolean
classify (Program *program, const char *text, GError **error)
{
  Cache *cache = belay_lifespan_get (program->life, "cache");
  Model *model = belay_lifespan_get (program->life, "model");
  const char *known = cache_lookup (cache, text);
  double probability = 0;

  if (known == NULL)
    {
      const char *label = classifier_classify (model_get (model), text, &probability);

      g_print ("%s\t%.3f\t%s\n", label, probability, text);
      cache_insert (cache, text, label);
    }
  else
    {
      g_print ("%s\tcached\t%s\n", known, text);
    }
  return belay_yield (error); /* a checkpoint, so that one can be interrupted between two */
}

static gboolean
classify_input (Program *program, GError **error)
{
  g_autoptr (GBytes) bytes = belay_await (belay_file_read_bytes ("/dev/stdin"), error);
  g_auto (GStrv) lines = NULL;
  g_autofree char *text = NULL;

  if (bytes == NULL)
    return FALSE;
  text = g_utf8_make_valid (g_bytes_get_data (bytes, NULL), (gssize) g_bytes_get_size (bytes));
  lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; lines[i] != NULL; i++)
    if (lines[i][0] != '\0' && !classify (program, lines[i], error))
      return FALSE;
  return TRUE;
}

/* The work, between the start and the stop of the parts. */
static gboolean
serve (gpointer data, GError **error)
{
  Program *program = data;

  if (program->texts == NULL)
    return classify_input (program, error);
  for (guint i = 0; program->texts[i] != NULL; i++)
    if (!classify (program, program->texts[i], error))
      return FALSE;
  return TRUE;
}

static gboolean
classify_texts (gpointer data, GError **error)
{
  Program *program = data;

  return belay_lifespan_run (program->life, serve, program, error);
}

static gboolean
demonstrate (gpointer data, GError **error)
{
  static const char *const texts[] = { "Where is the nearest station?", "Wo ist der nächste Bahnhof?", "Où est la gare ?",
                                       "¿Dónde está la estación?", NULL };
  Program *program = data;

  program->texts = (GStrv) texts;
  return train_model (program, error) && classify_texts (program, error) && classify_texts (program, error);
}

/* --- the command line --- */

static void
on_part_changed (BelayLifespan *life, const char *name, BelayLifespanState state, gpointer data)
{
  g_print ("%s is %s\n", name, belay_lifespan_state_to_string (state));
}

int
main (int argc, char **argv)
{
  g_autofree char *model = NULL, *database = NULL, *folder = NULL;
  gboolean verbose = FALSE;
  const GOptionEntry entries[] = {
    { "model", 'm', 0, G_OPTION_ARG_FILENAME, &model, "The model (model.txt)", "FILE" },
    { "database", 'd', 0, G_OPTION_ARG_FILENAME, &database, "What was classified before (labels.db)", "FILE" },
    { "verbose", 'v', 0, G_OPTION_ARG_NONE, &verbose, "Say what the parts do", NULL },
    { NULL }
  };
  g_autoptr (GOptionContext) context = g_option_context_new ("[train [DATA] | classify [TEXT…]]");
  g_autoptr (BelayLifespan) life = belay_lifespan_new ();
  g_autoptr (GError) error = NULL;
  Program program = { .life = life, .data = LANGUAGES };
  BelayFunc func = demonstrate;
  int status;

  setlocale (LC_ALL, "");
  g_option_context_add_main_entries (context, entries, NULL);
  if (!g_option_context_parse (context, &argc, &argv, &error))
    {
      g_printerr ("%s: %s\n", g_get_prgname (), error->message);
      return 2;
    }
  if (argc > 1 && g_str_equal (argv[1], "train"))
    {
      func = train_model;
      if (argc > 2)
        program.data = argv[2];
    }
  else if (argc > 1 && g_str_equal (argv[1], "classify"))
    {
      func = classify_texts;
      if (argc > 2)
        program.texts = argv + 2;
    }
  else if (argc > 1)
    {
      g_printerr ("%s: %s: neither train nor classify\n", g_get_prgname (), argv[1]);
      return 2;
    }
  else
    {
      folder = g_dir_make_tmp ("lifespan-XXXXXX", NULL);
      model = model != NULL ? model : g_build_filename (folder, "model.txt", NULL);
      database = database != NULL ? database : g_build_filename (folder, "labels.db", NULL);
      verbose = TRUE;
    }
  program.settings.model = model != NULL ? model : "model.txt";
  program.settings.database = database != NULL ? database : "labels.db";

  belay_lifespan_add (life, "database", open_database, &program.settings, NULL);
  belay_lifespan_add (life, "cache", open_cache, &program.settings, "database", NULL);
  belay_lifespan_add (life, "model", open_model, &program.settings, NULL);
  if (verbose)
    g_signal_connect (life, "part-changed", G_CALLBACK (on_part_changed), NULL);
  status = belay_run (func, &program);
  if (folder != NULL)
    {
      g_remove (model);
      g_remove (database);
      g_rmdir (folder);
    }
  return status;
}
