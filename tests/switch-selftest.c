/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The switch between stacks by itself, without GLib: what a function may rely on survives it, a million times.
 *
 *   gcc -O2 -Itests/switch-shim -Isrc tests/switch-selftest.c -o switch-selftest && ./switch-selftest
 *   gcc -O2 -DBELAY_UCONTEXT -Itests/switch-shim -Isrc tests/switch-selftest.c -o switch-selftest && ./switch-selftest
 *   aarch64-linux-gnu-gcc -O2 -static -Itests/switch-shim -Isrc tests/switch-selftest.c -o switch-selftest-aarch64
 *   qemu-aarch64 ./switch-selftest-aarch64
 *
 * Coroutines switch to each other in an order drawn by chance. Each switch is made by a function in assembly that fills
 * every register which a callee must preserve with a pattern of its own, and looks at all of them when it is resumed.
 */
#include "../src/run/switch.c"

#include <stdio.h>
#include <string.h>

#define SWITCHES 1000000
#define N        7
#define STACK    (64 * 1024)

typedef struct
{
  BelayCoro coro;
  uint64_t  resumed;  /* how often it was */
  uint64_t  expected; /* what the one who switched to it counted */
  double    sum;
} Coroutine;

static Coroutine coroutines[N + 1]; /* the last is main's */
static int current = N;
static uint64_t n_switches;
static uint32_t chance = 12345;

/* Through a function, so that the same test serves whatever belay_coro_switch() is. */
void selftest_switch (BelayCoro *from, BelayCoro *to);

__attribute__ ((noinline, used)) void
selftest_switch (BelayCoro *from, BelayCoro *to)
{
  belay_coro_switch (from, to);
}

/* Fills the registers by @seed, switches, compares; a bit for each register that was not preserved. */
uint64_t selftest_switch_checked (BelayCoro *from, BelayCoro *to, uint64_t seed);

#if defined (__x86_64__)
enum { N_REGISTERS = 6 };

#define CHECK(n, reg)                \
  "  leaq " #n "(%rdx), %rcx\n"      \
  "  cmpq %rcx, %" #reg "\n"         \
  "  je 1f\n"                        \
  "  orq $(1 << " #n "), %rax\n"     \
  "1:\n"

__asm__ (".text\n"
         ".globl selftest_switch_checked\n"
         ".type selftest_switch_checked, @function\n"
         "selftest_switch_checked:\n"
         "  pushq %rbp\n"
         "  pushq %rbx\n"
         "  pushq %r12\n"
         "  pushq %r13\n"
         "  pushq %r14\n"
         "  pushq %r15\n"
         "  pushq %rdx\n" /* and the stack is aligned */
         "  leaq 1(%rdx), %rbx\n"
         "  leaq 2(%rdx), %rbp\n"
         "  leaq 3(%rdx), %r12\n"
         "  leaq 4(%rdx), %r13\n"
         "  leaq 5(%rdx), %r14\n"
         "  leaq 6(%rdx), %r15\n"
         "  call selftest_switch\n"
         "  popq %rdx\n"
         "  xorl %eax, %eax\n"
         CHECK (1, rbx)
         CHECK (2, rbp)
         CHECK (3, r12)
         CHECK (4, r13)
         CHECK (5, r14)
         CHECK (6, r15)
         "  popq %r15\n"
         "  popq %r14\n"
         "  popq %r13\n"
         "  popq %r12\n"
         "  popq %rbx\n"
         "  popq %rbp\n"
         "  ret\n"
         ".size selftest_switch_checked, .-selftest_switch_checked\n");
#elif defined (__aarch64__)
enum { N_REGISTERS = 19 };

#define SET(n, reg)   "  add " #reg ", x2, #" #n "\n"
#define SET_D(n, reg) "  add x9, x2, #" #n "\n  fmov " #reg ", x9\n"
#define CHECK(n, reg)                     \
  "  add x9, x2, #" #n "\n"               \
  "  cmp " #reg ", x9\n"                  \
  "  cset x10, ne\n"                      \
  "  orr x0, x0, x10, lsl #" #n "\n"
#define CHECK_D(n, reg) "  fmov x11, " #reg "\n" CHECK (n, x11)

__asm__ (".text\n"
         ".globl selftest_switch_checked\n"
         ".type selftest_switch_checked, %function\n"
         "selftest_switch_checked:\n"
         "  stp x29, x30, [sp, #-176]!\n"
         "  stp x19, x20, [sp, #16]\n"
         "  stp x21, x22, [sp, #32]\n"
         "  stp x23, x24, [sp, #48]\n"
         "  stp x25, x26, [sp, #64]\n"
         "  stp x27, x28, [sp, #80]\n"
         "  stp d8, d9, [sp, #96]\n"
         "  stp d10, d11, [sp, #112]\n"
         "  stp d12, d13, [sp, #128]\n"
         "  stp d14, d15, [sp, #144]\n"
         "  str x2, [sp, #160]\n"
         SET (1, x19) SET (2, x20) SET (3, x21) SET (4, x22) SET (5, x23) SET (6, x24) SET (7, x25) SET (8, x26)
         SET (9, x27) SET (10, x28) SET (11, x29)
         SET_D (12, d8) SET_D (13, d9) SET_D (14, d10) SET_D (15, d11) SET_D (16, d12) SET_D (17, d13) SET_D (18, d14)
         SET_D (19, d15)
         "  bl selftest_switch\n"
         "  ldr x2, [sp, #160]\n"
         "  mov x0, #0\n"
         CHECK (1, x19) CHECK (2, x20) CHECK (3, x21) CHECK (4, x22) CHECK (5, x23) CHECK (6, x24) CHECK (7, x25)
         CHECK (8, x26) CHECK (9, x27) CHECK (10, x28) CHECK (11, x29)
         CHECK_D (12, d8) CHECK_D (13, d9) CHECK_D (14, d10) CHECK_D (15, d11) CHECK_D (16, d12) CHECK_D (17, d13)
         CHECK_D (18, d14) CHECK_D (19, d15)
         "  ldp x19, x20, [sp, #16]\n"
         "  ldp x21, x22, [sp, #32]\n"
         "  ldp x23, x24, [sp, #48]\n"
         "  ldp x25, x26, [sp, #64]\n"
         "  ldp x27, x28, [sp, #80]\n"
         "  ldp d8, d9, [sp, #96]\n"
         "  ldp d10, d11, [sp, #112]\n"
         "  ldp d12, d13, [sp, #128]\n"
         "  ldp d14, d15, [sp, #144]\n"
         "  ldp x29, x30, [sp], #176\n"
         "  ret\n"
         ".size selftest_switch_checked, .-selftest_switch_checked\n");
#else
enum { N_REGISTERS = 0 };

uint64_t
selftest_switch_checked (BelayCoro *from, BelayCoro *to, uint64_t seed)
{
  selftest_switch (from, to);
  return 0;
}
#endif

static void
fail (const char *what, uint64_t detail)
{
  printf ("not ok 1 - %s (%llx) at switch %llu\n", what, (unsigned long long) detail, (unsigned long long) n_switches);
  exit (1);
}

static int
draw (int n)
{
  chance = chance * 1664525 + 1013904223;
  return (int) ((chance >> 8) % (uint32_t) n);
}

static void
switch_to (int next)
{
  int me = current;
  Coroutine *self = &coroutines[me];
  uint64_t lost, seed = n_switches++ * 0x10001 + 0x123456789abc0000;

  coroutines[next].expected++;
  current = next;
  lost = selftest_switch_checked (&self->coro, &coroutines[next].coro, seed);
  if (lost != 0)
    fail ("registers were not preserved", lost);
  if (current != me)
    fail ("another was resumed than was switched to", (uint64_t) current);
  self->resumed++;
  if (self->resumed != self->expected)
    fail ("resumed too often, or too rarely", self->resumed);
}

/* Something on the stack at each depth, and a computation in between, so that frames and values matter. */
static __attribute__ ((noinline)) double
recurse (int depth, int me, double seed)
{
  volatile double frame[8];
  double sum = 0;

  for (int i = 0; i < 8; i++)
    frame[i] = seed + i * depth;
  if (depth > 0)
    sum = recurse (depth - 1, me, seed);
  if (n_switches < SWITCHES)
    {
      int next = draw (N);

      if (next != me)
        switch_to (next);
    }
  for (int i = 0; i < 8; i++)
    {
      if (frame[i] != seed + i * depth)
        fail ("the stack was written to", (uint64_t) depth);
      sum += frame[i];
    }
  return sum;
}

static void
run_coroutine (void)
{
  int me = current;
  double first = 0;

  belay_coro_entered ();
  if ((uintptr_t) __builtin_frame_address (0) % 16 != 0)
    fail ("the first frame is not aligned", (uintptr_t) __builtin_frame_address (0));
  coroutines[me].resumed++;
  if (coroutines[me].resumed != coroutines[me].expected)
    fail ("entered too often", coroutines[me].resumed);
  while (n_switches < SWITCHES)
    {
      double sum = recurse (20, me, me * 1.5 + 1);

      if (first == 0)
        first = sum;
      if (sum != first)
        fail ("a sum came out different", (uint64_t) me);
    }
  for (;;)
    switch_to (N);
}

int
main (void)
{
  printf ("1..1\n");
  for (int i = 0; i < N; i++)
    belay_coro_init (&coroutines[i].coro, malloc (STACK), STACK - (gsize) i * 8, run_coroutine); /* aligned or not */
  while (n_switches < SWITCHES)
    switch_to (draw (N));
  for (int i = 0; i < N; i++)
    belay_coro_free (&coroutines[i].coro);
  printf ("ok 1 - %llu switches, %d registers\n", (unsigned long long) n_switches, N_REGISTERS);
  return 0;
}
