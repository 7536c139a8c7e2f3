/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A future is a value, or an error, that will be known once; a promise is its writing end. Whoever holds the future
 * can ask whether it is known, take the value, or continue with it: a continuation gives a future of its own. A
 * promise answers once, and whoever answers later is told so. None of this needs a main loop or a fiber; only
 * continuations are run by one, here by the default context, iterated by hand.
 */
#include <belay/belay.h>

static BelayFuture *
add_a_mark (BelayFuture *done, gpointer data)
{
  g_autofree char *word = belay_future_take (done, NULL);

  return belay_future_new_pointer (g_strconcat (word, data, NULL), g_free);
}

int
main (void)
{
  g_autoptr (BelayPromise) promise = belay_promise_new ();
  g_autoptr (BelayFuture) hello = belay_future_then (belay_promise_get_future (promise), add_a_mark, "!", NULL);

  g_print ("pending: %s\n", belay_future_is_pending (hello) ? "yes" : "no");

  gboolean first = belay_promise_resolve_pointer (promise, g_strdup ("Hello"), g_free);
  gboolean second = belay_promise_resolve_pointer (promise, g_strdup ("Goodbye"), g_free);
  g_print ("first answer taken: %s, second: %s\n", first ? "yes" : "no", second ? "yes" : "no");

  while (belay_future_is_pending (hello))
    g_main_context_iteration (NULL, TRUE);

  g_autofree char *text = belay_future_take (hello, NULL);
  g_print ("%s\n", text);
  return 0;
}
