/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stacks that can be switched to: how they begin, and what the sanitizers are told. The essay is in switch.h. */
#include "run/switch.h"

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

/* As a switch leaves a stack: on top the frame pointer, below where to go on. */
static inline void *
first_frame (void *top, void (*entry) (void))
{
  void **sp = (void **) ((guintptr) top & ~(guintptr) 15);

#ifdef __x86_64__
  *--sp = NULL; /* where entry would return to: the end for a debugger, and the alignment of a call */
#endif
  *--sp = (void *) entry;
  *--sp = NULL;
  return sp;
}

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
  BELAY_JUMP (from, to);
#endif
#ifdef BELAY_WITH_ASAN
  arrived (from->asan_fake);
#endif
}
#endif
