/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One page: from its name to what is to be stored of it. */
#pragma once

#include "page.h"

#include <belay/belay-http.h>

#define FETCH_LARGEST (16 * 1024 * 1024)

typedef struct
{
  BelayHttpSession *session; /* that follows no redirects and takes no more than FETCH_LARGEST */
  const Site       *site;
  gint64            timeout; /* in milliseconds */
} Fetch;

/*
 * Fetches a page, to which the redirects in @before led (names, oldest first, separated by spaces; NULL: a link), and
 * has it parsed. What goes wrong with it is said in the page; NULL only when the fiber is cancelled.
 */
Page *fetch_page (const Fetch *fetch, const char *name, const char *before, GError **error);
