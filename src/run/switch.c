/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The switch from one stack to another.
 *
 * By hand on x86-64 and AArch64: the registers that a function must preserve go on the old stack, its pointer into the
 * coroutine; the new stack's come back. The floating-point control words are the thread's: a fiber that changes the
 * rounding mode puts it back before it waits. Elsewhere, or with -Dswitch=ucontext, ucontext does it, at the price of
 * two system calls.
 *
 * Leaving by a jump rather than by a return keeps the processor's return predictor right for the fiber that is resumed.
 *
 * The sanitizers follow a stack only if they are told of each switch, before it and after it.
 */
#include "run/fiber.h"

#ifdef BELAY_UCONTEXT
# include <ucontext.h>
#endif

#ifdef BELAY_WITH_ASAN
# include <sanitizer/common_interface_defs.h>
/* The coroutine that this thread is leaving; where it turns up again tells the bounds of a thread's own stack. */
static __thread BelayCoro *leaving __attribute__ ((tls_model ("initial-exec")));
#endif
#ifdef BELAY_WITH_TSAN
# include <sanitizer/tsan_interface.h>
#endif

#if defined (BELAY_UCONTEXT)
/* nothing to write by hand */
#elif defined (__x86_64__)
__asm__ (".text\n"
         ".globl belay_switch\n"
         ".hidden belay_switch\n"
         ".type belay_switch, @function\n"
         ".p2align 5\n"
         "belay_switch:\n"
         "  pushq %rbp\n"
         "  pushq %rbx\n"
         "  pushq %r12\n"
         "  pushq %r13\n"
         "  pushq %r14\n"
         "  pushq %r15\n"
         "  movq %rsp, (%rdi)\n"
         "  movq %rsi, %rsp\n"
         "  popq %r15\n"
         "  popq %r14\n"
         "  popq %r13\n"
         "  popq %r12\n"
         "  popq %rbx\n"
         "  popq %rbp\n"
         "  popq %rcx\n"
         "  jmp *%rcx\n"
         ".size belay_switch, .-belay_switch\n");

static void *
first_frame (void *top, void (*entry) (void))
{
  void **sp = (void **) ((guintptr) top & ~(guintptr) 15);

  *--sp = NULL; /* where entry would return to: the end for a debugger */
  *--sp = (void *) entry;
  for (int i = 0; i < 6; i++)
    *--sp = NULL;
  return sp;
}
#elif defined (__aarch64__)
__asm__ (".text\n"
         ".globl belay_switch\n"
         ".hidden belay_switch\n"
         ".type belay_switch, %function\n"
         ".p2align 4\n"
         "belay_switch:\n"
         "  sub sp, sp, #160\n"
         "  stp x19, x20, [sp, #0]\n"
         "  stp x21, x22, [sp, #16]\n"
         "  stp x23, x24, [sp, #32]\n"
         "  stp x25, x26, [sp, #48]\n"
         "  stp x27, x28, [sp, #64]\n"
         "  stp x29, x30, [sp, #80]\n"
         "  stp d8, d9, [sp, #96]\n"
         "  stp d10, d11, [sp, #112]\n"
         "  stp d12, d13, [sp, #128]\n"
         "  stp d14, d15, [sp, #144]\n"
         "  mov x9, sp\n"
         "  str x9, [x0]\n"
         "  mov sp, x1\n"
         "  ldp x19, x20, [sp, #0]\n"
         "  ldp x21, x22, [sp, #16]\n"
         "  ldp x23, x24, [sp, #32]\n"
         "  ldp x25, x26, [sp, #48]\n"
         "  ldp x27, x28, [sp, #64]\n"
         "  ldp x29, x30, [sp, #80]\n"
         "  ldp d8, d9, [sp, #96]\n"
         "  ldp d10, d11, [sp, #112]\n"
         "  ldp d12, d13, [sp, #128]\n"
         "  ldp d14, d15, [sp, #144]\n"
         "  add sp, sp, #160\n"
         "  ret\n"
         ".size belay_switch, .-belay_switch\n");

static void *
first_frame (void *top, void (*entry) (void))
{
  guint64 *sp = (guint64 *) (((guintptr) top & ~(guintptr) 15) - 160);

  for (int i = 0; i < 20; i++)
    sp[i] = 0;
  sp[11] = (guint64) entry; /* x30 */
  return sp;
}
#else
# error "no switch for this processor: configure with -Dswitch=ucontext"
#endif

void
belay_coro_init (BelayCoro *coro, void *bottom, gsize size, void (*entry) (void))
{
#ifdef BELAY_WITH_ASAN
  coro->asan_bottom = bottom;
  coro->asan_size = size;
#endif
#ifdef BELAY_WITH_TSAN
  coro->tsan_fiber = __tsan_create_fiber (0);
#endif
#ifdef BELAY_UCONTEXT
  {
    ucontext_t *context = g_new0 (ucontext_t, 1);

    getcontext (context);
    context->uc_stack.ss_sp = bottom;
    context->uc_stack.ss_size = size;
    makecontext (context, entry, 0);
    coro->ucontext = context;
    coro->sp = context;
  }
#else
  coro->sp = first_frame ((char *) bottom + size, entry);
#endif
}

void
belay_coro_free (BelayCoro *coro)
{
#ifdef BELAY_WITH_TSAN
  if (coro->tsan_fiber != NULL)
    __tsan_destroy_fiber (coro->tsan_fiber);
#endif
#ifdef BELAY_UCONTEXT
  g_free (coro->ucontext);
#endif
}

static inline void
arrived (void *fake)
{
#ifdef BELAY_WITH_ASAN
  const void *bottom;
  size_t size;

  __sanitizer_finish_switch_fiber (fake, &bottom, &size);
  leaving->asan_bottom = bottom;
  leaving->asan_size = size;
#endif
}

void
belay_coro_entered (void)
{
  arrived (NULL);
}

#if defined (BELAY_UCONTEXT) || defined (BELAY_WITH_ASAN) || defined (BELAY_WITH_TSAN)
#ifndef BELAY_UCONTEXT
void belay_switch (void **save, void *to) __attribute__ ((visibility ("hidden")));
#endif

void
belay_coro_switch (BelayCoro *from, BelayCoro *to)
{
#ifdef BELAY_WITH_ASAN
  leaving = from;
  __sanitizer_start_switch_fiber (&from->asan_fake, to->asan_bottom, to->asan_size);
#endif
#ifdef BELAY_WITH_TSAN
  from->tsan_fiber = __tsan_get_current_fiber ();
  __tsan_switch_to_fiber (to->tsan_fiber, 0);
#endif
#ifdef BELAY_UCONTEXT
  {
    ucontext_t here;

    if (from->ucontext == NULL) /* a level, on the dispatcher's stack */
      {
        from->sp = &here;
        swapcontext (&here, to->sp);
      }
    else
      {
        swapcontext (from->ucontext, to->sp);
      }
  }
#else
  belay_switch (&from->sp, to->sp);
#endif
#ifdef BELAY_WITH_ASAN
  arrived (from->asan_fake);
#endif
}
#endif
