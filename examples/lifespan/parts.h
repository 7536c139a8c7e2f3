/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of the program: a database, a cache that needs it, a model. Each is opened by a BelayPartFunc of a Settings. */
#pragma once

#include "classifier.h"

#include <belay/belay-sqlite.h>

typedef struct
{
  const char *database; /* file names */
  const char *model;
} Settings;

BelayFuture *open_database (BelayLifespan *life, gpointer settings);

/* What has been classified lately, by text; kept in the database while the program does not run. */
typedef struct _Cache Cache;
BelayFuture *open_cache    (BelayLifespan *life, gpointer settings);
/* NULL when it is not there. */
const char  *cache_lookup  (Cache *self, const char *text);
void         cache_insert  (Cache *self, const char *text, const char *label);

typedef struct _Model Model;
BelayFuture *open_model    (BelayLifespan *life, gpointer settings);
Classifier  *model_get     (Model *self);
