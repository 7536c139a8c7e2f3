/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The switch from one stack to another.
 *
 * By hand on x86-64 and AArch64. It is no call but a jump in the middle of a function: the compiler is told that every
 * register is lost, so it keeps what it needs on the stack; what is left to do is to push where to go on, store the
 * stack pointer, load the other's, and jump to where that one goes on. A processor predicts where a return goes by
 * counting calls and returns; since there is neither here, the returns of the fiber that is resumed are predicted as if
 * it had never been away (a call here made a yield cost 24 ns instead of 10). The floating-point control words are the
 * thread's: a fiber that changes the rounding mode puts it back before it waits.
 *
 * Elsewhere, or with -Dswitch=ucontext, ucontext does it, at the price of two system calls.
 *
 * The sanitizers follow a stack only if they are told of each switch, before it and after it; for them it is a function.
 */
#pragma once

#include "core/sanitizer.h"

#include <glib.h>

typedef struct _BelayCoro BelayCoro;

/* Where a stack was left. What the sanitizers need is in here too. */
struct _BelayCoro
{
  void       *sp;
#ifdef BELAY_UCONTEXT
  void       *ucontext;
#endif
#ifdef BELAY_WITH_ASAN
  const void *asan_bottom;
  gsize       asan_size;
  void       *asan_fake;
#endif
#ifdef BELAY_WITH_TSAN
  void       *tsan_fiber;
#endif
};

void belay_coro_init    (BelayCoro *coro, void *bottom, gsize size, void (*entry) (void));
/* To be called first on a new stack. */
void belay_coro_entered (void);
void belay_coro_free    (BelayCoro *coro);

#if defined (BELAY_UCONTEXT)
/* nothing to write by hand */
#elif defined (__x86_64__)
# ifdef __AVX512F__
#  define BELAY_JUMP_AVX512 "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",   \
                            "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7",
# else
#  define BELAY_JUMP_AVX512
# endif
/* Below the stack pointer a function may keep 128 bytes without saying so. */
# define BELAY_JUMP(from, to)                                                                                          \
  G_STMT_START                                                                                                         \
    {                                                                                                                  \
      void **save_ = &(from)->sp, *sp_ = (to)->sp;                                                                     \
      __asm__ volatile ("leaq -128(%%rsp), %%rsp\n\t"                                                                  \
                        "leaq 1f(%%rip), %%rcx\n\t"                                                                    \
                        "pushq %%rcx\n\t"                                                                              \
                        "pushq %%rbp\n\t"                                                                              \
                        "movq %%rsp, (%0)\n\t"                                                                         \
                        "movq %1, %%rsp\n\t"                                                                           \
                        "popq %%rbp\n\t"                                                                               \
                        "popq %%rcx\n\t"                                                                               \
                        "jmpq *%%rcx\n"                                                                                \
                        "1:\n\t"                                                                                       \
                        "leaq 128(%%rsp), %%rsp"                                                                       \
                        : "+D" (save_), "+S" (sp_)                                                                     \
                        :                                                                                              \
                        : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0",    \
                          "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",    \
                          "xmm12", "xmm13", "xmm14", "xmm15", BELAY_JUMP_AVX512 "st", "st(1)", "st(2)", "st(3)",       \
                          "st(4)", "st(5)", "st(6)", "st(7)", "cc", "memory");                                         \
    }                                                                                                                  \
  G_STMT_END
#elif defined (__aarch64__)
/* Where branches are checked (BTI), a jump through x17 may go to the beginning of a function and to `hint 36`. */
# define BELAY_JUMP(from, to)                                                                                          \
  G_STMT_START                                                                                                         \
    {                                                                                                                  \
      register void **save_ __asm__ ("x0") = &(from)->sp;                                                              \
      register void *sp_ __asm__ ("x1") = (to)->sp;                                                                    \
      __asm__ volatile ("adr x17, 1f\n\t"                                                                              \
                        "stp x29, x17, [sp, #-16]!\n\t"                                                                \
                        "mov x16, sp\n\t"                                                                              \
                        "str x16, [%0]\n\t"                                                                            \
                        "mov sp, %1\n\t"                                                                               \
                        "ldp x29, x17, [sp], #16\n\t"                                                                  \
                        "br x17\n"                                                                                     \
                        "1:\n\t"                                                                                       \
                        "hint #36"                                                                                     \
                        : "+r" (save_), "+r" (sp_)                                                                     \
                        :                                                                                              \
                        : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",    \
                          "x16", "x17", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30",   \
                          "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",      \
                          "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26",   \
                          "v27", "v28", "v29", "v30", "v31", "cc", "memory");                                          \
    }                                                                                                                  \
  G_STMT_END
#else
# error "no switch for this processor: configure with -Dswitch=ucontext"
#endif

#if defined (BELAY_UCONTEXT) || defined (BELAY_WITH_ASAN) || defined (BELAY_WITH_TSAN)
void belay_coro_switch  (BelayCoro *from, BelayCoro *to);
#else
static inline void
belay_coro_switch (BelayCoro *from, BelayCoro *to)
{
  BELAY_JUMP (from, to);
}
#endif
