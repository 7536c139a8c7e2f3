/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What src/run/switch.c needs of GLib, without GLib: so that tests/switch-selftest.c can be built for a processor for
 * which there is a compiler and an emulator, and nothing else.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef size_t    gsize;
typedef uintptr_t guintptr;

#define G_STMT_START do
#define G_STMT_END   while (0)

#define g_new0(Type, n) ((Type *) calloc ((n), sizeof (Type)))
#define g_free(pointer) free (pointer)
