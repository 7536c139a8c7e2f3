/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The story of a failure: the lines that tell how the program came there, and how to come there again.
 *
 * They are written beforehand, since who prints them may be a signal's handler, after an assertion (SIGABRT), a fatal
 * warning (SIGTRAP) or a crash: there nothing may be allocated or locked. A handler prints once and leaves the rest to
 * whoever would have had the signal. It has a stack of its own, since it may be the stack that overflowed.
 */
#include "test/test-private.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char stories[BELAY_N_STORIES][512];
static const char *test_site;
static char handler_stack[64 * 1024];

void
belay_story_set (guint which, const char *format, ...)
{
  va_list args;

  stories[which][0] = '\0';
  if (format == NULL)
    return;
  va_start (args, format);
  g_vsnprintf (stories[which], sizeof stories[which], format, args);
  va_end (args);
}

void
belay_story_print (void)
{
  for (int i = BELAY_N_STORIES - 1; i >= 0; i--)
    if (stories[i][0] != '\0' &&
        (write (STDERR_FILENO, stories[i], strlen (stories[i])) < 0 || write (STDERR_FILENO, "\n", 1) < 0))
      return;
}

static void
on_signal (int number)
{
  belay_story_print ();
  raise (number); /* its handler is the default one by now */
}

void
belay_story_init (void)
{
  const int numbers[] = { SIGABRT, SIGTRAP,
#ifndef BELAY_WITH_ASAN /* who has handlers of its own */
# ifndef BELAY_WITH_TSAN
                          SIGSEGV, SIGBUS, SIGFPE, SIGILL
# endif
#endif
  };
  stack_t stack = { .ss_sp = handler_stack, .ss_size = sizeof handler_stack };
  struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int) (SA_RESETHAND | SA_ONSTACK) };

  sigaltstack (&stack, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (numbers); i++)
    sigaction (numbers[i], &action, NULL);
}

void
belay_story_set_site (const char *site)
{
  test_site = site;
}

void
belay_test_fail_at (const char *site, const char *format, ...)
{
  const char *place = site != NULL ? site : test_site != NULL ? test_site : "belay-test";
  g_autofree char *message = NULL, *file = g_strdup (place);
  char *colon = strrchr (file, ':');
  va_list args;

  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  if (colon != NULL)
    *colon = '\0';
  g_assertion_message (NULL, file, colon != NULL ? (int) g_ascii_strtoll (colon + 1, NULL, 10) : 0, "", message);
  abort (); /* where assertions are not fatal, the test cannot go on all the same */
}
