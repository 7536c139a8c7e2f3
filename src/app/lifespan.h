/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of lifespans know of each other. The essay is in lifespan.c. */
#pragma once

#include "scope/scope-private.h"

typedef struct
{
  BelayPlain         base;         /* what the lifespan's scope releases */
  BelayLifespan     *lifespan;
  char              *name;
  const char        *site;         /* where it was added */
  BelayPartFunc      open;
  gpointer           data;
  GStrv              need_names;
  GPtrArray         *needs;        /* of BelayPart; made by the check */
  gint64             start_timeout; /* µs; G_MAXINT64: for ever */
  gint64             stop_timeout;
  BelayLifespanState state;
  gpointer           resource;     /* from when it was opened until it is closed */
  BelayPromise      *up;           /* while the lifespan runs: resolved when it is there */
  gboolean           visited;      /* by the check */
} BelayPart;

struct _BelayLifespan
{
  GObject            parent_instance;
  GPtrArray         *parts;        /* of BelayPart, in the order in which they were added */
  BelayScope        *scope;        /* while it runs: owns the parts, and their openings */
  BelayLifespanState state;
};

/* --- lifespan.c --- */
void      belay_lifespan_set_state (BelayLifespan *self, BelayLifespanState state);
void      belay_part_set_state     (BelayPart *part, BelayLifespanState state);
/* Finds what each part needs. FALSE: one that there is not, or a circle. */
gboolean  belay_lifespan_check     (BelayLifespan *self, GError **error);

/* --- part.c --- */
extern const BelayPlainClass belay_part_class;
/* A BelayFunc, of a BelayPart: opens it as soon as what it needs is there. */
gboolean  belay_part_start         (gpointer part, GError **error);
