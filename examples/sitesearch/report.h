/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The report: what a crawl came to, as JSON. */
#pragma once

#include "progress.h"
#include "store.h"

/* Writes the report to @path, in the place of an older one, all of it or nothing. */
gboolean report_write (const char *path, const char *source, const StoreTotal *total, const Progress *progress,
                       GError **error);
