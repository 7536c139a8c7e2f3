/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Steadiness: memory and descriptors do not grow while the same is done again and again.
 *
 * The first rounds fill what is kept for later (stacks, blocks, GLib's own). Then the bytes that malloc has handed out are
 * compared over many rounds: a leak of one small block in each is more than SLACK a round. What grows once, a hash table
 * say, is given another chance.
 */
#include "test/test-private.h"

#include <malloc.h>

#define WARM_UP 16
#define ROUNDS  64
#define SLACK   12 /* bytes a round: the smallest block has more */
#define CHANCES 3

typedef struct
{
  BelayFunc   func;
  gpointer    data;
  const char *site;
} Steady;

static guint
count_descriptors (void)
{
  g_autoptr (GDir) dir = g_dir_open ("/proc/self/fd", 0, NULL);
  guint n = 0;

  while (dir != NULL && g_dir_read_name (dir) != NULL)
    n++;
  return n;
}

/* 0 where malloc is another's, which does not count so. */
static gint64
count_bytes (void)
{
#if defined (BELAY_WITH_ASAN) || defined (BELAY_WITH_TSAN) || !defined (HAVE_MALLINFO2)
  return 0;
#else
  struct mallinfo2 info = mallinfo2 ();

  return (gint64) (info.uordblks + info.hblkhd);
#endif
}

static void
run_rounds (Steady *self, guint n, guint pending)
{
  for (guint i = 0; i < n; i++)
    {
      g_autoptr (GError) error = NULL;

      if (!belay_await_ok (belay_spawn (self->func, self->data), &error))
        belay_test_fail_at (self->site, "round %u failed: %s", i + 1, error->message);
      belay_test_clear_log ();
    }
  if (!belay_test_settle_to (pending))
    belay_test_fail_at (self->site, "%u releases or detached jobs do not end", belay_get_n_pending () - pending);
}

static gboolean
check_steady (gpointer data, GError **error)
{
  Steady *self = data;
  guint pending = belay_get_n_pending (), descriptors = 0;
  gint64 bytes = 0;

  run_rounds (self, WARM_UP, pending);
  for (guint chance = 0; chance < CHANCES; chance++)
    {
      descriptors = count_descriptors ();
      bytes = count_bytes ();
      run_rounds (self, ROUNDS, pending);
      bytes = count_bytes () - bytes;
      if (bytes <= ROUNDS * SLACK)
        break;
    }
  if (bytes > ROUNDS * SLACK)
    belay_test_fail_at (self->site, "memory grows by %" G_GINT64_FORMAT " bytes a round", bytes / ROUNDS);
  if (count_descriptors () > descriptors)
    belay_test_fail_at (self->site, "%u descriptors were left open in %u rounds", count_descriptors () - descriptors, ROUNDS);
  return TRUE;
}

void
belay_test_assert_steady_at (BelayFunc func, gpointer data, const char *site)
{
  Steady self = { func, data, site };

  g_return_if_fail (func != NULL);
  belay_test_in_fiber (check_steady, &self);
}
