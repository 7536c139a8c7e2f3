/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guard is a variable that releases what it holds when control leaves its block, by whatever road. Any struct can
 * be held by one: it begins with a BelayPlain, and its class says what closing means. The close runs in the
 * fiber and may wait, here a tenth of a second for the lamp to fade; the function returns only after that. The
 * caller neither closes nor forgets to.
 */
#include <belay/belay.h>

typedef struct
{
  BelayPlain  base;
  const char *place;
} Lamp;

static gboolean
lamp_close (gpointer self, BelayReason reason, GError **error)
{
  Lamp *lamp = self;

  g_print ("  the lamp %s fades\n", lamp->place);
  if (!belay_sleep (100, error))
    return FALSE;
  g_print ("  the lamp %s is off\n", lamp->place);
  return TRUE;
}

static const BelayPlainClass lamp_class = BELAY_PLAIN_CLASS ("Lamp", lamp_close, g_free);
BELAY_DEFINE_AUTO (Lamp)

static gpointer
switch_on (gpointer place, GError **error)
{
  Lamp *lamp = belay_plain_new (Lamp, &lamp_class);

  lamp->place = place;
  g_print ("  the lamp %s is on\n", lamp->place);
  return lamp;
}

static gboolean
read_letters (gpointer data, GError **error)
{
  const char *letters[] = { "a bill", "a love letter", "an advertisement" };

  for (guint i = 0; i < G_N_ELEMENTS (letters); i++)
    {
      belay_auto (Lamp) lamp = belay_await (belay_open (switch_on, "on the desk"), error);
      if (lamp == NULL)
        return FALSE;

      g_print ("  %s\n", letters[i]);
      if (strstr (letters[i], "love"))
        break;
      g_print ("  not this one\n");
    }
  g_print ("found\n");
  return TRUE;
}

int
main (void)
{
  return belay_run (read_letters, NULL);
}
