/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The search. */
#pragma once

#include <glib.h>

typedef struct
{
  const char *db;
  char      **words;
  int         limit;
} SearchOptions;

/* A #BelayFunc. */
gboolean search (gpointer options, GError **error);
