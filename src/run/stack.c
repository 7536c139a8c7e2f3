/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stacks: reused, guarded, and in any number.
 *
 * A stack is a stretch of address space of which only what is touched costs memory: one page for a fiber that waits. They
 * are cut from *chunks*, mapped once. Each has a guard page at its low end and, at its high end, the BelayStack that
 * describes it. *Warm* stacks have been used and are used again first, the latest before all; *cold* ones have never
 * been touched, or were given back.
 *
 * Guards. MADV_GUARD_INSTALL (Linux 6.13) makes a page fault without splitting the mapping. Where it is missing, or
 * fails for once, mprotect() does, at the cost of two mappings a stack, of which the kernel allows vm.max_map_count:
 * half of that is used, and then belay_stack_get() gives NULL rather than let something else in the process fail. A
 * place is guarded when it is first used, and stays so for ever.
 *
 * Tops at a power-of-two stride would all fall on the same sets of the cache. So the stride is a page more than the
 * size, and each stack's top is moved down by one of sixteen colours of 64 bytes.
 *
 * A context's stacks belong to its home thread. The bookkeeping of chunks is shared, under `lock`.
 */
#include "run/fiber.h"

#include <belay/belay-test.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef HAVE_VALGRIND
# include <valgrind/memcheck.h>
#endif
#ifdef BELAY_WITH_ASAN
# include <sanitizer/asan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
# define MADV_GUARD_INSTALL 102
#endif

#if defined (__SANITIZE_ADDRESS__) || defined (__SANITIZE_THREAD__)
# define DEFAULT_SIZE (512 * 1024) /* the sanitizers make frames several times as large */
#elif defined (__has_feature)
# if __has_feature (address_sanitizer) || __has_feature (thread_sanitizer)
#  define DEFAULT_SIZE (512 * 1024)
# endif
#endif
#ifndef DEFAULT_SIZE
# define DEFAULT_SIZE (128 * 1024)
#endif

#define CHUNK   256 /* stacks mapped at once */
#define COLOURS 16

/* So that a chunk's size can be counted, and mmap() is who says that there is not so much. */
#define MAX_SIZE (G_MAXSIZE / CHUNK / 2)

typedef struct
{
  char    *base;
  gsize    size; /* without the guard */
  gboolean guarded;
} Cold;

static GMutex lock;            /* all below */
static Cold *cold;             /* stacks that touch no memory */
static gsize n_cold, cold_size;
static gsize n_stacks;         /* cold ones and others */
static gsize stack_size = DEFAULT_SIZE;
static gsize page_size;
static gboolean use_mprotect;  /* the system knows nothing better */
static gsize n_mprotected, max_mprotected;

void
belay_set_stack_size (gsize bytes)
{
  g_mutex_lock (&lock);
  stack_size = CLAMP (bytes, 16 * 1024, MAX_SIZE);
  g_mutex_unlock (&lock);
}

static gsize
read_max_map_count (void)
{
  g_autofree char *text = NULL;
  gsize n = 0;

  if (g_file_get_contents ("/proc/sys/vm/max_map_count", &text, NULL, NULL))
    n = (gsize) g_ascii_strtoull (text, NULL, 10);
  return n != 0 ? n : 65530;
}

/* Under the lock. */
static gboolean
guard (Cold *place)
{
  if (place->guarded)
    return TRUE;
  if (!use_mprotect)
    {
      if (madvise (place->base, page_size, MADV_GUARD_INSTALL) == 0)
        return place->guarded = TRUE;
      use_mprotect = errno == EINVAL; /* anything else, a lack of memory say, may be over the next time */
    }
  if (max_mprotected == 0)
    max_mprotected = read_max_map_count () / 4; /* two mappings each, half of all */
  if (n_mprotected >= max_mprotected || mprotect (place->base, page_size, PROT_NONE) != 0)
    return FALSE;
  n_mprotected++;
  return place->guarded = TRUE;
}

/* Under the lock. Room in `cold` for every stack that exists and for @more, so that giving one back cannot fail. */
static gboolean
reserve_cold (gsize more)
{
  gsize size = cold_size;
  Cold *bigger;

  while (size < n_stacks + more)
    size = MAX (CHUNK, size * 2);
  if (size == cold_size)
    return TRUE;
  bigger = belay_test_try_realloc (cold, size * sizeof (Cold));
  if (bigger == NULL)
    return FALSE;
  cold = bigger;
  cold_size = size;
  return TRUE;
}

/* Under the lock. */
static gboolean
map_chunk (void)
{
  gsize size, stride;
  char *chunk;

  if (page_size == 0)
    page_size = (gsize) sysconf (_SC_PAGESIZE);
  size = (stack_size + page_size - 1) / page_size * page_size;
  stride = size + page_size;
  if (!reserve_cold (CHUNK))
    return FALSE;
  chunk = mmap (NULL, stride * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (chunk == MAP_FAILED)
    return FALSE;
#ifdef MADV_NOHUGEPAGE
  madvise (chunk, stride * CHUNK, MADV_NOHUGEPAGE); /* fails where the kernel knows none: as good */
#endif
  for (int i = CHUNK - 1; i >= 0; i--) /* the lowest is used first */
    cold[n_cold++] = (Cold) { chunk + (gsize) i * stride, size, FALSE };
  n_stacks += CHUNK;
  return TRUE;
}

static BelayStack *
stack_new (BelayContext *context)
{
  BelayStack *stack;
  Cold place;
  gboolean ok;

  if (belay_test_point ("memory"))
    return NULL;
  g_mutex_lock (&lock);
  ok = n_cold > 0 || map_chunk ();
  if (ok)
    {
      ok = guard (&cold[n_cold - 1]);
      if (ok)
        place = cold[--n_cold];
    }
  g_mutex_unlock (&lock);
  if (!ok)
    return NULL;

#ifdef BELAY_WITH_ASAN
  /* What ran here last, a fiber or a thread that ended, may have left marks of its frames. */
  __asan_unpoison_memory_region (place.base + page_size, place.size);
#endif
  stack = (BelayStack *) (place.base + page_size + place.size - sizeof (BelayStack) -
                          (context->colour++ % COLOURS) * 64 - 64);
  stack = (BelayStack *) ((guintptr) stack & ~(guintptr) 63);
#ifdef HAVE_VALGRIND
  (void) VALGRIND_MAKE_MEM_UNDEFINED (place.base + page_size, place.size); /* it may have been a stack before */
#endif
  memset (stack, 0, sizeof *stack);
  stack->base = place.base + page_size;
  stack->size = place.size;
  stack->context = context;
  context->n_stacks++;
  belay_census_add (stack);
  belay_stack_prepare (stack);
#ifdef HAVE_VALGRIND
  stack->valgrind_id = (guint) VALGRIND_STACK_REGISTER (stack->base, stack);
#endif
  return stack;
}

BelayStack *
belay_stack_get (BelayContext *context)
{
  BelayStack *stack = context->warm;

  if (stack == NULL)
    return stack_new (context);
  context->warm = stack->next;
  context->n_warm--;
  return stack;
}

/* Its memory goes back to the system, its place to the cold ones. */
static void
stack_free (BelayStack *stack)
{
  char *base = stack->base - page_size;
  gsize size = stack->size;

  stack->context->n_stacks--;
  belay_census_remove (stack);
  belay_coro_free (&stack->coro);
#ifdef HAVE_VALGRIND
  VALGRIND_STACK_DEREGISTER (stack->valgrind_id);
#endif
  madvise (stack->base, size, MADV_DONTNEED);
  g_mutex_lock (&lock);
  cold[n_cold++] = (Cold) { base, size, TRUE };
  g_mutex_unlock (&lock);
}

void
belay_stacks_trim (BelayContext *context, guint max)
{
  for (; context->n_warm > BELAY_WARM_STACKS && max > 0; max--)
    stack_free (belay_stack_get (context));
}

void
belay_stacks_free (BelayContext *context)
{
  while (context->warm != NULL)
    stack_free (belay_stack_get (context));
}
