/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Blocks: the memory of futures and of what is one block with a future; and *pieces*, the same for other small things.
 *
 * malloc() keeps seven freed pieces of a size at hand for each thread; a program that spawns ten thousand fibers and
 * frees them again needs more, and would give pages back to the system only to fault them in again. So each thread keeps
 * freed blocks of three sizes in lists of its own, up to KEEP bytes of each. A block that is freed on another thread than
 * its own joins the list there.
 *
 * Under a sanitizer or valgrind there are no lists, so that they see each use after the end.
 */
#include "core/future-private.h"

#include <string.h>

#ifdef HAVE_VALGRIND
# include <valgrind/valgrind.h>
#endif

#define KEEP (4 * 1024 * 1024)

/* By the number of the list; 0 is no list. */
static const guint sizes[] = { 0, 64, 192, 256 };

typedef struct _Free Free;
struct _Free
{
  Free *next;
};

static __thread struct
{
  Free *first;
  guint room; /* for how many more; 0 at first, and always where there is no list */
} lists[G_N_ELEMENTS (sizes)] __attribute__ ((tls_model ("initial-exec")));

/* Whether this thread has lists: the room of each has been given. */
static __thread enum { UNKNOWN, NO, YES } keeps __attribute__ ((tls_model ("initial-exec")));

static void
free_lists (gpointer unused)
{
  keeps = UNKNOWN; /* what is freed later, by the end of something else, calls for this again */
  for (guint i = 1; i < G_N_ELEMENTS (lists); i++)
    {
      while (lists[i].first != NULL)
        {
          Free *block = lists[i].first;

          lists[i].first = block->next;
          g_free (block);
        }
      lists[i].room = 0;
    }
}

/* Its destructor runs at the end of a thread that has lists. */
static GPrivate at_end = G_PRIVATE_INIT (free_lists);

static gboolean
may_keep (void)
{
#if defined (BELAY_WITH_ASAN) || defined (BELAY_WITH_TSAN)
  return FALSE;
#elif defined (HAVE_VALGRIND)
  return !RUNNING_ON_VALGRIND;
#else
  return TRUE;
#endif
}

static inline guint8
list_for (gsize size)
{
  return size <= 64 ? 1 : size <= 192 ? 2 : size <= 256 ? 3 : 0;
}

static inline gpointer
get (gsize size, guint8 i)
{
  Free *piece = lists[i].first;

  if (G_UNLIKELY (piece == NULL))
    return g_malloc (i != 0 ? sizes[i] : size);
  lists[i].first = piece->next;
  lists[i].room++;
  return piece;
}

static inline void
keep (Free *piece, guint8 i)
{
  piece->next = lists[i].first;
  lists[i].first = piece;
  lists[i].room--;
}

static G_NO_INLINE void
put_without_room (gpointer memory, guint8 i)
{
  if (keeps == UNKNOWN)
    {
      keeps = may_keep () ? YES : NO;
      if (keeps == YES)
        {
          for (guint k = 1; k < G_N_ELEMENTS (lists); k++)
            lists[k].room = KEEP / sizes[k];
          g_private_set (&at_end, lists);
        }
    }
  if (lists[i].room > 0)
    keep (memory, i);
  else
    g_free (memory);
}

static inline void
put (gpointer memory, guint8 i)
{
  if (G_LIKELY (lists[i].room > 0))
    keep (memory, i);
  else
    put_without_room (memory, i);
}

gpointer
belay_piece_new (gsize size)
{
  return get (size, list_for (size));
}

gpointer
belay_piece_new0 (gsize size)
{
  return memset (belay_piece_new (size), 0, size);
}

void
belay_piece_free (gpointer piece, gsize size)
{
  put (piece, list_for (size));
}

gpointer
belay_block_new (gsize size)
{
  guint8 i = list_for (size);
  BelayFuture *future = get (size, i);

  future->block = i;
  return future;
}

void
belay_block_free (BelayFuture *future)
{
  put (future, future->block);
}
