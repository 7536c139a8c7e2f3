/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whole answers. The essay is in response.c. */
#pragma once

#include <belay/belay-http.h>

/*
 * @head: the status line, then a name and a value for each header line, every string with its NUL; copied
 * @bytes: (transfer full)
 */
BelayHttpResponse *belay_http_response_new (guint status, const char *url, const char *head, gsize head_length,
                                            GBytes *bytes);
