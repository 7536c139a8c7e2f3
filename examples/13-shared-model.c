/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A library that tells the language of a text. Its model takes long to load and much memory, so it is shared: the first who asks
 * has it loaded, on a worker; who comes meanwhile waits for the same; it stays for a second after the last; and who comes
 * later has it loaded again. The one function that the library has can be called by any number of fibers, and knows nothing of
 * that: it uses the model, and leaves it.
 */
#include <belay/belay.h>
#include "lifespan/classifier.h"

/* --- the library --- */

typedef struct
{
  BelayPlain  base;
  Classifier *classifier;
} Model;

static BelayShared *model;

static gboolean
model_close (gpointer self, BelayReason reason, GError **error)
{
  g_print ("  (the model is unloaded)\n");
  return TRUE;
}

static void
model_free (gpointer data)
{
  Model *self = data;

  classifier_free (self->classifier);
  g_free (self);
}

static const BelayPlainClass model_class = BELAY_PLAIN_CLASS ("Model", model_close, model_free);

/* On a worker. */
static gpointer
train (gpointer file, GError **error)
{
  g_autoptr (GPtrArray) samples = samples_parse (file, "languages.tsv", error);

  return samples != NULL ? classifier_train (samples, 0) : NULL;
}

static gpointer
load (gpointer path, GError **error)
{
  g_autoptr (GBytes) file = belay_await (belay_file_read_bytes (path), error);
  Classifier *classifier;
  Model *self;

  if (file == NULL)
    return NULL;
  g_print ("  (the model is loaded)\n");
  classifier = belay_await (belay_thread_run_value (train, file, classifier_free), error);
  if (classifier == NULL)
    return NULL;
  self = belay_plain_new (Model, &model_class);
  self->classifier = classifier;
  return self;
}

static const char *
language_of (const char *text, GError **error)
{
  belay_auto (BelayUse) use = belay_shared_use (model, error);
  if (use == NULL)
    return NULL;

  return classifier_classify (((Model *) belay_use_get (use))->classifier, text, NULL);
}

/* --- a program --- */

static gboolean
tell (gpointer text, GError **error)
{
  const char *language = language_of (text, error);

  if (language == NULL)
    return FALSE;
  g_print ("%s: %s\n", language, (char *) text);
  return TRUE;
}

static gboolean
tell_all (gpointer data, GError **error)
{
  belay_auto (BelayScope) scope = belay_scope_begin ();

  model = belay_shared_new (load, LANGUAGES, NULL);
  belay_shared_set_idle_timeout (model, 1000);

  belay_scope_spawn (scope, tell, "The train was late again this morning.", NULL); /* these two load it together */
  belay_scope_spawn (scope, tell, "Der Zug war heute Morgen wieder voll.", NULL);
  if (!belay_sleep (500, error) || !tell ("Le bus est encore parti sans nous ce matin.", error)) /* it is there */
    return FALSE;
  if (!belay_sleep (5000, error) || !tell ("The last bus leaves at ten.", error)) /* and anew */
    return FALSE;
  return belay_scope_close (&scope, error) && belay_shared_close (model, error);
}

int
main (void)
{
  int status = belay_run (tell_all, NULL);

  g_clear_pointer (&model, belay_shared_unref);
  return status;
}
