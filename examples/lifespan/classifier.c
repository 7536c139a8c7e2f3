/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The classifier. It knows nothing of Belay: it is what a program has anyway.
 *
 * For each label it counts trigrams of the lower-case text, with a blank at either end. A text's score for a label is
 * log P(label) + Σ log P(trigram | label), where a trigram that the label has never seen counts as seen once (smoothing).
 *
 * Saved as text: a head, one line for each label with its number of samples and trigrams, one for each trigram with a count
 * for each label, and an end, so that a file that was cut off is known as one.
 */
#include "classifier.h"

#include <math.h>
#include <string.h>

#define HEAD "language model 1"
#define MAX_LABELS 32

typedef struct
{
  char  *name;
  guint  n_samples, n_trigrams;
} Label;

struct _Classifier
{
  Label       labels[MAX_LABELS];
  guint       n_labels, n_samples;
  GHashTable *counts; /* trigram → guint[n_labels] */
};

static void
sample_free (gpointer data)
{
  Sample *self = data;

  g_free (self->label);
  g_free (self->text);
  g_free (self);
}

static gpointer
fail_line (const char *name, guint line, const char *what, GError **error)
{
  g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s:%u: %s", name, line, what);
  return NULL;
}

/* As lines, without the last newline; NULL when it is no text. */
static GStrv
split_lines (GBytes *bytes, const char *name, GError **error)
{
  gsize size;
  const char *data = g_bytes_get_data (bytes, &size);
  g_autofree char *text = g_strndup (data != NULL ? data : "", size);

  if (size == 0 || strlen (text) != size || !g_utf8_validate (text, -1, NULL))
    {
      g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: %s", name, size == 0 ? "empty" : "no UTF-8 text");
      return NULL;
    }
  return g_strsplit (g_strchomp (text), "\n", -1);
}

GPtrArray *
samples_parse (GBytes *bytes, const char *name, GError **error)
{
  g_auto (GStrv) lines = split_lines (bytes, name, error);
  g_autoptr (GPtrArray) samples = g_ptr_array_new_with_free_func (sample_free);

  if (lines == NULL)
    return NULL;
  for (guint i = 0; lines[i] != NULL; i++)
    {
      const char *tab = strchr (lines[i], '\t');
      Sample *sample;

      if (lines[i][0] == '#' || lines[i][0] == '\0')
        continue;
      if (tab == NULL || tab == lines[i] || tab[1] == '\0')
        return fail_line (name, i + 1, "not a label, a tab and a sentence", error);
      sample = g_new (Sample, 1);
      sample->label = g_strndup (lines[i], (gsize) (tab - lines[i]));
      sample->text = g_strdup (tab + 1);
      g_ptr_array_add (samples, sample);
    }
  if (samples->len == 0)
    return fail_line (name, 1, "no sentence", error);
  return g_steal_pointer (&samples);
}

/* --- counting --- */

static Classifier *
classifier_new (void)
{
  Classifier *self = g_new0 (Classifier, 1);

  self->counts = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  return self;
}

void
classifier_free (gpointer data)
{
  Classifier *self = data;

  for (guint i = 0; i < self->n_labels; i++)
    g_free (self->labels[i].name);
  g_hash_table_unref (self->counts);
  g_free (self);
}

/* Its index; MAX_LABELS when there is no room for one more. */
static guint
find_label (Classifier *self, const char *name)
{
  guint i;

  for (i = 0; i < self->n_labels; i++)
    if (g_str_equal (self->labels[i].name, name))
      return i;
  if (i < MAX_LABELS)
    self->labels[self->n_labels++].name = g_strdup (name);
  return i;
}

typedef void (*TrigramFunc) (Classifier *self, const char *trigram, gpointer data);

static void
foreach_trigram (Classifier *self, const char *text, TrigramFunc func, gpointer data)
{
  g_autofree char *lower = g_utf8_strdown (text, -1);
  g_autofree char *padded = g_strconcat (" ", lower, " ", NULL);

  for (const char *first = padded; g_utf8_strlen (first, -1) >= 3; first = g_utf8_next_char (first))
    {
      g_autofree char *trigram = g_utf8_substring (first, 0, 3);

      func (self, trigram, data);
    }
}

static void
count (Classifier *self, const char *trigram, gpointer data)
{
  guint label = GPOINTER_TO_UINT (data);
  guint *counts = g_hash_table_lookup (self->counts, trigram);

  if (counts == NULL)
    {
      counts = g_new0 (guint, MAX_LABELS);
      g_hash_table_insert (self->counts, g_strdup (trigram), counts);
    }
  counts[label]++;
  self->labels[label].n_trigrams++;
}

static gboolean
is_held_out (guint i, guint hold_out)
{
  return hold_out > 0 && i % hold_out == hold_out - 1;
}

Classifier *
classifier_train (GPtrArray *samples, guint hold_out)
{
  Classifier *self = classifier_new ();

  for (guint i = 0; i < samples->len; i++)
    {
      const Sample *sample = samples->pdata[i];
      guint label = is_held_out (i, hold_out) ? MAX_LABELS : find_label (self, sample->label);

      if (label == MAX_LABELS)
        continue;
      self->labels[label].n_samples++;
      self->n_samples++;
      foreach_trigram (self, sample->text, count, GUINT_TO_POINTER (label));
    }
  return self;
}

/* --- classifying --- */

static void
add_score (Classifier *self, const char *trigram, gpointer data)
{
  const guint *counts = g_hash_table_lookup (self->counts, trigram);
  double *scores = data;

  for (guint i = 0; i < self->n_labels; i++)
    scores[i] += log ((counts != NULL ? counts[i] : 0) + 1.0) -
                 log (self->labels[i].n_trigrams + g_hash_table_size (self->counts) + 1.0);
}

const char *
classifier_classify (Classifier *self, const char *text, double *ret_probability)
{
  double scores[MAX_LABELS], sum = 0;
  guint best = 0;

  if (self->n_labels == 0)
    return NULL;
  for (guint i = 0; i < self->n_labels; i++)
    scores[i] = log ((double) self->labels[i].n_samples / self->n_samples);
  foreach_trigram (self, text, add_score, scores);
  for (guint i = 1; i < self->n_labels; i++)
    if (scores[i] > scores[best])
      best = i;
  for (guint i = 0; i < self->n_labels; i++)
    sum += exp (scores[i] - scores[best]);
  if (ret_probability != NULL)
    *ret_probability = 1 / sum;
  return self->labels[best].name;
}

guint
classifier_test (Classifier *self, GPtrArray *samples, guint hold_out, guint *ret_n)
{
  guint n = 0, n_right = 0;

  for (guint i = 0; i < samples->len; i++)
    if (is_held_out (i, hold_out))
      {
        const Sample *sample = samples->pdata[i];

        n++;
        n_right += g_strcmp0 (classifier_classify (self, sample->text, NULL), sample->label) == 0;
      }
  *ret_n = n;
  return n_right;
}

guint
classifier_get_size (Classifier *self)
{
  return g_hash_table_size (self->counts);
}

/* --- saving and loading --- */

static int
compare_names (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

GBytes *
classifier_save (Classifier *self)
{
  GString *text = g_string_new (HEAD "\n");
  guint n;
  g_autofree const char **trigrams = (const char **) g_hash_table_get_keys_as_array (self->counts, &n);

  for (guint i = 0; i < self->n_labels; i++)
    g_string_append_printf (text, "label %u %u %s\n", self->labels[i].n_samples, self->labels[i].n_trigrams,
                            self->labels[i].name);
  qsort (trigrams, n, sizeof *trigrams, compare_names);
  for (guint i = 0; i < n; i++)
    {
      const guint *counts = g_hash_table_lookup (self->counts, trigrams[i]);

      for (guint label = 0; label < self->n_labels; label++)
        g_string_append_printf (text, "%u ", counts[label]);
      g_string_append_printf (text, "\t%s\n", trigrams[i]);
    }
  g_string_append_printf (text, "end %u\n", n);
  return g_string_free_to_bytes (text);
}

static gboolean
load_label (Classifier *self, const char *line)
{
  char *end;
  guint64 n_samples = g_ascii_strtoull (line + strlen ("label "), &end, 10);
  guint64 n_trigrams = g_ascii_strtoull (end, &end, 10);
  guint n_before = self->n_labels, label;

  if (*end != ' ' || end[1] == '\0' || n_samples == 0 || n_samples > G_MAXINT || n_trigrams > G_MAXINT)
    return FALSE;
  label = find_label (self, end + 1);
  if (label != n_before || label == MAX_LABELS)
    return FALSE;
  self->labels[label].n_samples = (guint) n_samples;
  self->labels[label].n_trigrams = (guint) n_trigrams;
  self->n_samples += (guint) n_samples;
  return TRUE;
}

static gboolean
load_trigram (Classifier *self, const char *line)
{
  g_autofree guint *counts = g_new0 (guint, MAX_LABELS);
  const char *at = line;

  for (guint label = 0; label < self->n_labels; label++)
    {
      char *end;
      guint64 n = g_ascii_strtoull (at, &end, 10);

      if (end == at || *end != ' ' || n > self->labels[label].n_trigrams)
        return FALSE;
      counts[label] = (guint) n;
      at = end + 1;
    }
  if (self->n_labels == 0 || *at != '\t' || g_utf8_strlen (at + 1, -1) != 3)
    return FALSE;
  return g_hash_table_insert (self->counts, g_strdup (at + 1), g_steal_pointer (&counts));
}

Classifier *
classifier_load (GBytes *bytes, const char *name, GError **error)
{
  g_auto (GStrv) lines = split_lines (bytes, name, error);
  g_autoptr (Classifier) self = classifier_new ();
  g_autofree char *end = NULL;
  guint i;

  if (lines == NULL)
    return NULL;
  if (!g_str_equal (lines[0], HEAD))
    return fail_line (name, 1, "this is no language model", error);
  for (i = 1; lines[i] != NULL && g_str_has_prefix (lines[i], "label "); i++)
    if (!load_label (self, lines[i]))
      return fail_line (name, i + 1, "a broken label", error);
  for (; lines[i] != NULL && !g_str_has_prefix (lines[i], "end "); i++)
    if (!load_trigram (self, lines[i]))
      return fail_line (name, i + 1, "a broken trigram", error);
  end = g_strdup_printf ("end %u", g_hash_table_size (self->counts));
  if (g_strcmp0 (lines[i], end) != 0 || self->n_labels == 0)
    return fail_line (name, i + 1, "the file is cut off here; train the model again", error);
  return g_steal_pointer (&self);
}
