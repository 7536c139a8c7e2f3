/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is heard during a test: the log, the reasons of closes, and the sink; and the assertions about them.
 *
 * Words may come from any thread. The lock is a spin lock, which the thread sanitizer sees through.
 */
#include "test/test-private.h"

#include <string.h>

static atomic_flag lock = ATOMIC_FLAG_INIT; /* all below */
static GString *log_text, *reasons, *sunk;

static void
append (GString **string, const char *text, const char *separator)
{
  belay_spin_lock (&lock);
  if (*string == NULL)
    *string = g_string_new (NULL);
  if ((*string)->len > 0)
    g_string_append (*string, separator);
  g_string_append (*string, text);
  belay_spin_unlock (&lock);
}

static void
clear (GString **string)
{
  belay_spin_lock (&lock);
  if (*string != NULL)
    g_string_free (g_steal_pointer (string), TRUE);
  belay_spin_unlock (&lock);
}

static void
remember (const GError *error, const char *what, const char *site, gpointer data)
{
  append (&sunk, error->message, "; ");
}

void
belay_test_log_begin (void)
{
  clear (&sunk);
  belay_test_clear_log ();
  belay_set_sink (remember, NULL);
}

void
belay_test_log_end (void)
{
  belay_test_log_begin ();
  belay_set_sink (NULL, NULL);
}

void
belay_test_note (const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;

  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  append (&log_text, text, " ");
}

void
belay_test_note_reason (const char *name, BelayReason reason)
{
  const char *names[] = { "ok", "left", "error", "cancelled", "deadline" };
  g_autofree char *text = g_strdup_printf ("%s:%s", name, names[reason]);

  append (&reasons, text, " ");
}

const char *
belay_test_get_log (void)
{
  return log_text != NULL ? log_text->str : "";
}

const char *
belay_test_get_reasons (void)
{
  return reasons != NULL ? reasons->str : "";
}

void
belay_test_clear_log (void)
{
  clear (&log_text);
  clear (&reasons);
}

char *
belay_test_take_sunk (void)
{
  char *text;

  belay_spin_lock (&lock);
  text = sunk != NULL ? g_string_free (g_steal_pointer (&sunk), FALSE) : g_strdup ("");
  belay_spin_unlock (&lock);
  return text;
}

/* --- assertions --- */

void
belay_test_assert_log_at (const char *expected, const char *site)
{
  g_return_if_fail (expected != NULL);

  if (!g_str_equal (belay_test_get_log (), expected))
    belay_test_fail_at (site, "the log is \"%s\", and not \"%s\"", belay_test_get_log (), expected);
  belay_test_clear_log ();
}

void
belay_test_assert_reasons_at (const char *expected, const char *site)
{
  g_return_if_fail (expected != NULL);

  if (!g_str_equal (belay_test_get_reasons (), expected))
    belay_test_fail_at (site, "the reasons are \"%s\", and not \"%s\"", belay_test_get_reasons (), expected);
}

void
belay_test_assert_sunk_at (const char *pattern, const char *site)
{
  g_autofree char *text = belay_test_take_sunk ();

  g_return_if_fail (pattern != NULL);

  if (!g_pattern_match_simple (pattern, text))
    belay_test_fail_at (site, "the errors in the sink are \"%s\", and not \"%s\"", text, pattern);
}

/* Who is open, oldest first, goes through the log as a stack: what is released must be on top. */
void
belay_test_assert_released_at (const char *site)
{
  g_auto (GStrv) words = g_strsplit (belay_test_get_log (), " ", -1);
  g_autoptr (GPtrArray) open = g_ptr_array_new (), closing = g_ptr_array_new ();

  for (guint i = 0; words[i] != NULL; i++)
    {
      const char *name = words[i] + 1;
      guint place;

      if (*words[i] == '+')
        {
          g_ptr_array_add (open, (gpointer) name);
        }
      else if (*words[i] == '-' && open->len > 0 && g_str_equal (open->pdata[open->len - 1], name))
        {
          g_ptr_array_add (closing, g_ptr_array_steal_index (open, open->len - 1));
        }
      else if (*words[i] == '!' && open->len > 0 && g_str_equal (open->pdata[open->len - 1], name))
        {
          g_ptr_array_set_size (open, (int) open->len - 1);
        }
      else if (*words[i] == '!' && g_ptr_array_find_with_equal_func (closing, name, g_str_equal, &place))
        {
          g_ptr_array_remove_index (closing, place); /* its close was cut short */
        }
      else if (*words[i] == '-' || *words[i] == '!')
        {
          gboolean known = g_ptr_array_find_with_equal_func (open, name, g_str_equal, NULL);

          belay_test_fail_at (site, "\"%s\" was released %s: the log is \"%s\"", name, known ? "before one that is newer" :
                              "though it was not open", belay_test_get_log ());
        }
    }
  if (open->len > 0)
    belay_test_fail_at (site, "\"%s\" was not released: the log is \"%s\"", (char *) open->pdata[open->len - 1],
                        belay_test_get_log ());
}

void
belay_test_assert_conserved_at (BelaySemaphore *semaphore, guint permits, const char *site)
{
  guint n;

  g_return_if_fail (semaphore != NULL);

  n = belay_semaphore_get_available (semaphore);
  if (n != permits)
    belay_test_fail_at (site, "the semaphore has %u permits, and not %u", n, permits);
}
