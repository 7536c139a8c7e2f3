/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A channel, as a select sees it. */
#pragma once

#include "sync/passage.h"

#include "scope/scope-private.h"

struct _BelayChannel
{
  BelayPlain   sender;       /* first: what a BelaySender points to */
  BelayPlain   receiver;     /* what a BelayReceiver points to */
  atomic_int   refs;
  guint        n_senders, n_receivers; /* guards; the passage's lock */
  BelayPassage passage;
};
