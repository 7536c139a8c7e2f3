/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A text classifier: multinomial naive Bayes over the trigrams of characters, with add-one smoothing. */
#pragma once

#include <gio/gio.h>

typedef struct _Classifier Classifier;

/* A labelled sentence. */
typedef struct
{
  char *label, *text;
} Sample;

/* Parses lines of "label, tab, text"; @name is for errors. (element-type Sample) */
GPtrArray  *samples_parse       (GBytes *bytes, const char *name, GError **error);

/* Every @hold_out-th sample is left out; 0: none is. */
Classifier *classifier_train    (GPtrArray *samples, guint hold_out);
/* How many of those left out it gets right. */
guint       classifier_test     (Classifier *self, GPtrArray *samples, guint hold_out, guint *ret_n);
/* The label of a text, and how probable it is. */
const char *classifier_classify (Classifier *self, const char *text, double *ret_probability);
GBytes     *classifier_save     (Classifier *self);
/* Reads what classifier_save() wrote. */
Classifier *classifier_load     (GBytes *bytes, const char *name, GError **error);
guint       classifier_get_size (Classifier *self);
void        classifier_free     (gpointer self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Classifier, classifier_free)
