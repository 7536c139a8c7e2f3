/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Leaks: what is held, by whom, since when and from which line.
 *
 * Words. Something is *held* from when it is acquired (taken out of a future by an await, entered in a scope, begun) until its
 * release begins. A *table* is a thread's own: only its thread writes it, so that a permit, which is taken and given back
 * in a few nanoseconds, costs no lock. What a thread took and another gives back is a *stray*: it is in the first one's table
 * still, and taken out there when that is next looked through.
 *
 * A permit is its semaphore's pointer, so the table is a multiset. Where the pointer says nothing of who holds it, the place
 * is found by the fiber, too, or else a thousand fibers with a permit of one semaphore each would be one long list.
 * Mostly what was acquired last is given back first: so a few are *recent*, a stack before the table.
 *
 * All this is asked for by BELAY_DEBUG=leaks; otherwise one word, which is looked at anyway, says that it is off.
 *
 * Invariants
 *   1. A table is written by its thread alone. `version` is odd meanwhile; whoever reads the table from elsewhere, under
 *      `lock`, copies what it finds and begins again when the version has changed. The array is replaced under `lock`.
 *   2. Tables stay for ever, since what was held on a thread may still be after its end; the next thread that needs one takes
 *      over the table of one that has ended.
 *   3. To tell about something never releases it.
 */
#include "scope/scope-private.h"

typedef struct
{
  gpointer    held; /* NULL: free */
  gpointer    key;  /* by which it is found: `held`, or mixed with the fiber */
  const char *name, *site, *owner;
  gint64      since;
} Held;

enum { RECENT = 4 };

typedef struct _Table Table;
struct _Table
{
  Held        recent[RECENT];
  guint       n_recent;
  Held       *places; /* a power of two of them, three quarters full at most */
  gsize       mask, n;
  atomic_uint version;
  atomic_bool in_use; /* its thread lives */
  BelayContext *context; /* this and the next three: when the clock was last read, and what it said */
  guint       n_slices, n_uses;
  gint64      now;
  Table      *next;
};

static GMutex lock;            /* all below, and `places` of each table as an array */
static Table *tables;
static GHashTable *strays;     /* what was held → how often it was given back elsewhere */
static GHashTable *told;       /* what has been held too long, by pointer → since when, as told */
static atomic_int n_strays;
static gint64 next_look;       /* for what is held too long */
static __thread Table *own_table __attribute__ ((tls_model ("initial-exec")));

static void
end_table (gpointer table)
{
  own_table = NULL;
  atomic_store (&((Table *) table)->in_use, FALSE);
}

static GPrivate at_end = G_PRIVATE_INIT (end_table);

#define COPY(to, from) __atomic_store_n (&(to), __atomic_load_n (&(from), __ATOMIC_RELAXED), __ATOMIC_RELAXED)

static inline void
put (Held *place, const Held *held)
{
  COPY (place->held, held->held);
  COPY (place->key, held->key);
  COPY (place->name, held->name);
  COPY (place->site, held->site);
  COPY (place->owner, held->owner);
  COPY (place->since, held->since);
}

static inline void
begin_write (Table *self)
{
  atomic_store_explicit (&self->version, atomic_load_explicit (&self->version, memory_order_relaxed) + 1, memory_order_relaxed);
  atomic_thread_fence (memory_order_release);
}

static inline void
end_write (Table *self)
{
  atomic_store_explicit (&self->version, atomic_load_explicit (&self->version, memory_order_relaxed) + 1, memory_order_release);
}

static inline gsize
first_place (gpointer key, gsize mask)
{
  return (gsize) (((guint64) (guintptr) key >> 4) * G_GUINT64_CONSTANT (0x9e3779b97f4a7c15) >> 32) & mask;
}

static inline gpointer
key_of (gpointer held, BelayFiber *fiber)
{
  if (belay_resource_tag (held) != BELAY_TAG_INSTANT)
    return held;
  return (gpointer) ((guintptr) held ^ ((guintptr) fiber << 1));
}

/* --- a thread's own --- */

static inline gboolean
is_at (const Held *place, gpointer held, gpointer key)
{
  return place->held == held && place->key == key;
}

/* Takes out what is recent, at @i. */
static inline void
remove_recent (Table *self, guint i)
{
  begin_write (self);
  for (self->n_recent--; i < self->n_recent; i++)
    put (&self->recent[i], &self->recent[i + 1]);
  __atomic_store_n (&self->recent[i].held, NULL, __ATOMIC_RELAXED);
  end_write (self);
}

/* Takes out what is at @hole, and moves up what would no longer be found. */
static inline void
remove_at (Table *self, gsize hole)
{
  begin_write (self);
  self->n--;
  for (gsize i = (hole + 1) & self->mask; self->places[i].held != NULL; i = (i + 1) & self->mask)
    if (((i - first_place (self->places[i].key, self->mask)) & self->mask) >= ((i - hole) & self->mask))
      {
        put (&self->places[hole], &self->places[i]);
        hole = i;
      }
  __atomic_store_n (&self->places[hole].held, NULL, __ATOMIC_RELAXED);
  end_write (self);
}

static inline void
insert (Table *self, const Held *held)
{
  gsize i = first_place (held->key, self->mask);

  while (self->places[i].held != NULL)
    i = (i + 1) & self->mask;
  begin_write (self);
  put (&self->places[i], held);
  self->n++;
  end_write (self);
}

/* Under the lock: whether it is one, which it is no longer. */
static gboolean
take_stray (gpointer held)
{
  guint n = GPOINTER_TO_UINT (g_hash_table_lookup (strays, held));

  if (n == 0)
    return FALSE;
  if (n > 1)
    g_hash_table_insert (strays, held, GUINT_TO_POINTER (n - 1));
  else
    g_hash_table_remove (strays, held);
  atomic_fetch_sub (&n_strays, 1);
  return TRUE;
}

/* Under the lock: takes out of the caller's table what others have given back. */
static void
remove_strays (Table *self)
{
  for (guint i = self->n_recent; i-- > 0 && atomic_load (&n_strays) > 0;)
    if (take_stray (self->recent[i].held))
      remove_recent (self, i);
  for (gsize i = 0; i <= self->mask && atomic_load (&n_strays) > 0;)
    {
      if (self->places[i].held != NULL && take_stray (self->places[i].held))
        remove_at (self, i);
      else
        i++;
    }
}

static void
grow (Table *self)
{
  Held *old = self->places;
  gsize old_size = self->mask + 1, size;

  g_mutex_lock (&lock);
  if (atomic_load (&n_strays) > 0)
    remove_strays (self);
  if (self->n * 2 >= old_size)
    {
      size = old_size * 2;
      self->places = g_new0 (Held, size);
      self->mask = size - 1;
      self->n = 0;
      for (gsize i = 0; i < old_size; i++)
        if (old[i].held != NULL)
          insert (self, &old[i]);
      g_free (old);
    }
  g_mutex_unlock (&lock);
}

static Table *
make_own_table (void)
{
  Table *self;

  g_mutex_lock (&lock);
  if (strays == NULL)
    strays = g_hash_table_new (NULL, NULL);
  for (self = tables; self != NULL; self = self->next)
    if (!atomic_load (&self->in_use))
      break;
  if (self == NULL)
    {
      self = g_new0 (Table, 1);
      self->mask = 63;
      self->places = g_new0 (Held, self->mask + 1);
      self->next = tables;
      tables = self;
    }
  atomic_store (&self->in_use, TRUE);
  g_mutex_unlock (&lock);
  g_private_set (&at_end, self);
  return own_table = self;
}

/* --- reading all --- */

/* Under the lock: a copy of what a table has, be it written meanwhile or not. */
static void
read_table (Table *self, GArray *all)
{
  guint before = all->len;

  for (;;)
    {
      guint version = atomic_load_explicit (&self->version, memory_order_acquire);

      for (gsize i = 0; i <= self->mask + RECENT; i++)
        {
          Held held;

          put (&held, i < RECENT ? &self->recent[i] : &self->places[i - RECENT]);
          if (held.held != NULL)
            g_array_append_val (all, held);
        }
      atomic_thread_fence (memory_order_acquire);
      if ((version & 1) == 0 && atomic_load_explicit (&self->version, memory_order_relaxed) == version)
        return;
      g_array_set_size (all, before);
      g_thread_yield ();
    }
}

/* Under the lock. (transfer full) */
static GArray *
read_all (void)
{
  GArray *all = g_array_new (FALSE, FALSE, sizeof (Held));
  g_autoptr (GHashTable) gone = g_hash_table_new (NULL, NULL);
  GHashTableIter iter;
  gpointer held, n;

  for (Table *table = tables; table != NULL; table = table->next)
    read_table (table, all);
  if (strays == NULL)
    return all;
  for (g_hash_table_iter_init (&iter, strays); g_hash_table_iter_next (&iter, &held, &n);)
    g_hash_table_insert (gone, held, n);
  for (guint i = 0; i < all->len;)
    {
      held = g_array_index (all, Held, i).held;
      n = g_hash_table_lookup (gone, held);
      if (n == NULL)
        {
          i++;
          continue;
        }
      g_hash_table_insert (gone, held, GUINT_TO_POINTER (GPOINTER_TO_UINT (n) - 1));
      g_array_remove_index (all, i);
    }
  return all;
}

static void
tell (const Held *held, const char *how)
{
  g_printerr ("belay: %s: a %s from %s, for %.1f s, by the fiber from %s\n", how, held->name,
              held->site != NULL ? held->site : "?", (double) MAX (belay_now () - held->since, 0) / G_USEC_PER_SEC,
              held->owner != NULL ? held->owner : "(none)");
}

GStrv
belay_leaks_list (void)
{
  g_autoptr (GStrvBuilder) lines = g_strv_builder_new ();
  g_autoptr (GArray) all = NULL;

  g_mutex_lock (&lock);
  all = read_all ();
  g_mutex_unlock (&lock);
  for (guint i = 0; i < all->len; i++)
    {
      const Held *held = &g_array_index (all, Held, i);
      g_autofree char *line = g_strdup_printf ("a %s from %s", held->name, held->site != NULL ? held->site : "?");

      g_strv_builder_add (lines, line);
    }
  return g_strv_builder_end (lines);
}

static int
older_first (gconstpointer a, gconstpointer b)
{
  const Held *x = a, *y = b;

  return x->since < y->since ? -1 : x->since > y->since;
}

guint
belay_leaks_report (void)
{
  g_autoptr (GArray) all = NULL;

  if ((belay_unusual & BELAY_UNUSUAL_LEAKS) == 0 || belay_forked ())
    return 0;
  g_mutex_lock (&lock);
  all = read_all ();
  g_mutex_unlock (&lock);
  g_array_sort (all, older_first);
  for (guint i = 0; i < all->len; i++)
    tell (&g_array_index (all, Held, i), "held");
  return all->len;
}

void
belay_leaks_at_end (void)
{
  if (belay_leaks_report () > 0)
    belay_strict_end ("what is held at the end of the program");
}

/* What has been held for too long is told, once. */
void
belay_leaks_look (void)
{
  g_autoptr (GArray) all = NULL;
  gint64 now = belay_now ();
  gboolean any = FALSE;

  g_mutex_lock (&lock);
  next_look = now + MIN (belay_leaks_patience, G_USEC_PER_SEC);
  if (told == NULL)
    told = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  all = read_all ();
  for (guint i = 0; i < all->len; i++)
    {
      Held *held = &g_array_index (all, Held, i);
      gint64 mark = held->since ^ (gint64) (guintptr) held->held;

      if (now - held->since < belay_leaks_patience || !g_hash_table_add (told, g_memdup2 (&mark, sizeof mark)))
        continue;
      tell (held, "held too long");
      any = TRUE;
    }
  g_mutex_unlock (&lock);
  if (any)
    belay_strict_end ("what is held too long");
}

/* --- holding and giving back --- */

/* It was held, if at all, by another thread, or by another fiber than the one that gives it back. */
static G_NO_INLINE gboolean
forget_elsewhere (Table *self, gpointer resource)
{
  g_autoptr (GArray) all = NULL;
  gboolean found = FALSE;

  for (guint i = self != NULL ? self->n_recent : 0; i-- > 0;)
    if (self->recent[i].held == resource)
      {
        remove_recent (self, i);
        return TRUE;
      }
  for (gsize i = 0; self != NULL && i <= self->mask; i++)
    if (self->places[i].held == resource)
      {
        remove_at (self, i);
        return TRUE;
      }
  g_mutex_lock (&lock);
  all = read_all ();
  for (guint i = 0; i < all->len && !found; i++)
    found = g_array_index (all, Held, i).held == resource;
  if (found)
    {
      g_hash_table_insert (strays, resource, GUINT_TO_POINTER (GPOINTER_TO_UINT (g_hash_table_lookup (strays, resource)) + 1));
      atomic_fetch_add (&n_strays, 1);
    }
  g_mutex_unlock (&lock);
  return found;
}

static inline gboolean
forget (gpointer resource)
{
  Table *self = own_table;
  gpointer key = key_of (resource, belay_fiber_self ());

  if (G_UNLIKELY (self == NULL))
    return forget_elsewhere (self, resource);
  for (guint i = self->n_recent; i-- > 0;)
    if (is_at (&self->recent[i], resource, key))
      {
        remove_recent (self, i);
        return TRUE;
      }
  for (gsize i = first_place (key, self->mask); self->places[i].held != NULL; i = (i + 1) & self->mask)
    if (is_at (&self->places[i], resource, key))
      {
        remove_at (self, i);
        return TRUE;
      }
  return forget_elsewhere (self, resource);
}

static void
on_finalized (gpointer name, GObject *object)
{
  Held held = { 0 };

  g_mutex_lock (&lock);
  {
    g_autoptr (GArray) all = read_all ();

    for (guint i = 0; i < all->len && held.held == NULL; i++)
      if (g_array_index (all, Held, i).held == object)
        held = g_array_index (all, Held, i);
  }
  g_mutex_unlock (&lock);
  if (held.held == NULL)
    return;
  tell (&held, "finalized without being closed");
  forget (object);
  belay_strict_end ("what was finalized without being closed");
}

#define USES 64 /* of one look at the clock */

/* What is held for seconds is told; to read the clock each time would cost as much as all the rest. */
static inline gint64
about_now (Table *self)
{
  BelayContext *context = belay_thread.context;

  if (context == NULL || context != self->context || context->n_slices != self->n_slices || ++self->n_uses >= USES)
    {
      self->context = context;
      self->n_slices = context != NULL ? context->n_slices : 0;
      self->n_uses = 0;
      self->now = belay_clock_after_now ();
    }
  return self->now;
}

void
belay_leaks_remember (gpointer resource, const char *site)
{
  Table *self = G_LIKELY (own_table != NULL) ? own_table : make_own_table ();
  BelayFiber *fiber = belay_fiber_self ();
  Held held = { .held = resource, .key = key_of (resource, fiber), .site = site };

  held.name = belay_resource_tag (resource) == BELAY_TAG_INSTANT ? ((BelayPlain *) resource)->klass->name
                                                                  : belay_resource_name (resource);
  held.owner = fiber != NULL ? fiber->site : NULL;
  held.since = belay_leaks_patience == G_MAXINT64 ? about_now (self) : belay_now ();
  if (G_LIKELY (self->n_recent < RECENT))
    {
      begin_write (self);
      put (&self->recent[self->n_recent++], &held);
      end_write (self);
    }
  else
    {
      if (G_UNLIKELY ((self->n + 1) * 4 > (self->mask + 1) * 3))
        grow (self);
      insert (self, &held);
    }
  if (belay_resource_tag (resource) == 0)
    g_object_weak_ref (resource, on_finalized, NULL);
  if (G_UNLIKELY (belay_leaks_patience != G_MAXINT64 && held.since >= next_look))
    belay_leaks_look ();
}

void
belay_leaks_forget (gpointer resource)
{
  if (forget (resource) && belay_resource_tag (resource) == 0)
    g_object_weak_unref (resource, on_finalized, NULL);
}
