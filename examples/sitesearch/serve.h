/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A folder as a web site on this machine. */
#pragma once

#include <belay/belay.h>

/*
 * A manager for belay_manager_open(): serves a folder, given by name, for as long as it is held. Lends the URL of the
 * page to begin with: index.html, or a list of the HTML files where there is none.
 */
gboolean serve_folder (BelayManager *manager, gpointer folder, GError **error);
