/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Errors.
 *
 * Three roads lead an error to somebody: a return value, a future, a scope. The sink is for what has none of
 * them. The sink is set once, before other threads run, so reading it takes no lock.
 */
#include "core/future-private.h"

/* As G_DEFINE_QUARK() has it, but for any thread. */
GQuark
belay_error_quark (void)
{
  static _Atomic (GQuark) quark;
  GQuark known = atomic_load_explicit (&quark, memory_order_relaxed);

  if (G_UNLIKELY (known == 0))
    {
      known = g_quark_from_static_string ("belay-error-quark");
      atomic_store_explicit (&quark, known, memory_order_relaxed);
    }
  return known;
}

static void
default_sink (const GError *error, const char *what, const char *site, gpointer data)
{
  if (site != NULL)
    g_warning ("%s (from %s) failed and nobody was there to be told: %s", what, site, error->message);
  else
    g_warning ("%s failed and nobody was there to be told: %s", what, error->message);
  belay_strict_end ("an error that nobody was told of");
}

static BelaySink sink = default_sink;
static gpointer sink_data;

void
belay_set_sink (BelaySink new_sink, gpointer data)
{
  sink = new_sink != NULL ? new_sink : default_sink;
  sink_data = data;
}

void
belay_sink_error (const GError *error, const char *what, const char *site)
{
  sink (error, what, site, sink_data);
}

gboolean
belay_fail_no_fiber (const char *function, GError **error)
{
  if (belay_forked ())
    return belay_fail_forked (function, error);
  g_critical ("%s: waits, so it must be called in a fiber", function);
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_NO_FIBER, "%s was called outside a fiber", function);
  return FALSE;
}

gboolean
belay_fail_no_future (const char *function, GError **error)
{
  g_return_if_fail_warning (G_LOG_DOMAIN, function, "future != NULL");
  g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "%s was given NULL, which is no future", function);
  return FALSE;
}

gboolean
belay_check_result (gboolean ok, GError **inout_error, const char *what)
{
  if (ok && *inout_error != NULL)
    {
      g_critical ("%s returned success and an error: %s", what, (*inout_error)->message);
      return FALSE;
    }
  if (!ok && *inout_error == NULL)
    {
      g_critical ("%s returned failure without an error", what);
      g_set_error (inout_error, BELAY_ERROR, BELAY_ERROR_MISUSE, "%s failed and did not say why", what);
      return FALSE;
    }
  return ok;
}
