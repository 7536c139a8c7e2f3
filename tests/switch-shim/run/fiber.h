/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What src/run/switch.c needs of src/run/fiber.h, without GLib: so that tests/switch-selftest.c can be built for a
 * processor for which there is a compiler and an emulator, and nothing else.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef size_t    gsize;
typedef uintptr_t guintptr;
typedef uint64_t  guint64;

#define g_new0(Type, n) ((Type *) calloc ((n), sizeof (Type)))
#define g_free(pointer) free (pointer)

typedef struct
{
  void *sp;
#ifdef BELAY_UCONTEXT
  void *ucontext;
#endif
} BelayCoro;

void belay_coro_init    (BelayCoro *coro, void *bottom, gsize size, void (*entry) (void));
void belay_coro_entered (void);
void belay_coro_free    (BelayCoro *coro);

#if defined (BELAY_UCONTEXT)
void belay_coro_switch  (BelayCoro *from, BelayCoro *to);
#else
void belay_switch       (void **save, void *to) __attribute__ ((visibility ("hidden")));

static inline void
belay_coro_switch (BelayCoro *from, BelayCoro *to)
{
  belay_switch (&from->sp, to->sp);
}
#endif
