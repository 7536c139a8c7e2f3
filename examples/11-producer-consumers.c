/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A producer and its consumers. One fiber writes letters, as fast as three clerks stamp them, since the channel between them holds
 * two. It says that it sends, by a guard: however it ends, the channel closes then, and the clerks find its end. What is
 * stamped is put into a queue, from which a postman delivers it. A guard says that he works on a letter: when all that was put
 * has been worked on, the queue is joined. Nothing is counted, and nothing is left behind if any of them fails.
 */
#include <belay/belay.h>

typedef struct
{
  BelayChannel *letters;
  BelayQueue   *stamped;
} Office;

typedef struct
{
  Office     *office;
  const char *name;
  gint64      milliseconds; /* for one letter */
} Clerk;

static gboolean
write_letters (gpointer data, GError **error)
{
  Office *office = data;
  belay_auto (BelaySender) sender = belay_channel_add_sender (office->letters);

  for (guint i = 1; i <= 7; i++)
    {
      g_autofree char *letter = g_strdup_printf ("letter %u", i);

      if (!belay_channel_send (office->letters, &letter, error))
        return FALSE;
    }
  g_print ("all are written\n");
  return TRUE;
}

static gboolean
stamp_letters (gpointer data, GError **error)
{
  Clerk *clerk = data;

  for (;;)
    {
      g_autofree char *letter = NULL;

      if (!belay_channel_next (clerk->office->letters, &letter, error))
        return *error == NULL; /* the end is none */
      if (!belay_sleep (clerk->milliseconds, error))
        return FALSE;
      g_print ("%s stamps %s\n", clerk->name, letter);
      if (!belay_queue_put (clerk->office->stamped, &letter, error))
        return FALSE;
    }
}

static gboolean
deliver_letters (gpointer data, GError **error)
{
  Office *office = data;

  for (;;)
    {
      g_autofree char *letter = NULL;
      belay_auto (BelayWork) work = belay_queue_next (office->stamped, &letter, error);

      if (work == NULL)
        return *error == NULL;
      if (!belay_sleep (150, error))
        return FALSE;
      g_print ("    %s is delivered\n", letter);
    }
}

static gboolean
run_office (gpointer data, GError **error)
{
  g_autoptr (BelayChannel) letters = belay_channel_new (2, g_free);
  g_autoptr (BelayQueue) stamped = belay_queue_new (10, g_free);
  Office office = { letters, stamped };
  Clerk clerks[] = { { &office, "Ada", 100 }, { &office, "Ben", 220 }, { &office, "Cleo", 340 } };
  belay_auto (BelayScope) postmen = belay_scope_begin ();

  if (!belay_scope_spawn (postmen, deliver_letters, &office, NULL))
    return FALSE;
  {
    belay_auto (BelayScope) inside = belay_scope_begin ();

    belay_scope_spawn (inside, write_letters, &office, NULL);
    for (guint i = 0; i < G_N_ELEMENTS (clerks); i++)
      belay_scope_spawn (inside, stamp_letters, &clerks[i], NULL);
    if (!belay_scope_close (&inside, error))
      return FALSE;
  }
  g_print ("all are stamped\n");
  if (!belay_queue_join (stamped, error))
    return FALSE;
  g_print ("all are delivered\n");
  belay_queue_close (stamped); /* so the postman goes home */
  return belay_scope_close (&postmen, error);
}

int
main (void)
{
  return belay_run (run_office, NULL);
}
