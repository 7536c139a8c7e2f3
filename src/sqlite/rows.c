/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows: the result of a query in one block of memory that crosses threads once.
 *
 *     head | row | row | … | offsets of the rows
 *     row  = a tag for each column, then for each column as many bytes as its tag says
 *
 * The tag of an integer is its size (1, 2, 4 or 8), so that most take two bytes with the tag; a text or blob is its
 * length, its bytes and a 0. Memory is what a large result costs most of (a page that is touched for the first time
 * costs more than thirty values do to pack), so rows are packed tightly and not aligned. To find a column its
 * predecessors' tags are added up.
 *
 * The worker packs into a block of the connection's, which is warm. A small result is copied out of it into a block of
 * just its size; a large one takes the block with it.
 *
 *  R1  A result is immutable: any thread may read it, and a string that it gave lives as long as it does. Only a string
 *      that SQLite would convert from another type is made at the first call, and kept in `converted`, under
 *      `converted_lock`.
 *  R2  Conversions are SQLite's: the longest prefix that is a number, integers clamped to 64 bits, blobs read as text.
 *  R3  Sizes are given by the database, so memory for them may be missing: SQLITE_NOMEM. Offsets have 32 bits: a result
 *      of more than 4 GiB is SQLITE_TOOBIG.
 */
#include "rows.h"

#include <belay/belay-test.h>
#include <pthread.h>
#include <string.h>

enum
{
  TAG_NULL = 0, /* 1, 2, 4, 8: an integer of so many bytes */
  TAG_REAL = 16,
  TAG_TEXT,
  TAG_BLOB
};

struct _BelaySqliteRows
{
  atomic_int refs;
  guint           n_rows, n_columns;
  SqliteNames    *names;
  GHashTable     *converted; /* R1: row * n_columns + column to a string; NULL until one is asked for */
  gsize           offsets;   /* where in this block they begin */
};

#define SMALL (16 * 1024) /* what a packer keeps */

/* A lock of the process: it is taken by a rare conversion only. POSIX's, which sanitizers know; GMutex looks to them like
 * no lock at all. */
static pthread_mutex_t converted_lock = PTHREAD_MUTEX_INITIALIZER;

G_DEFINE_BOXED_TYPE (BelaySqliteRows, belay_sqlite_rows, belay_sqlite_rows_ref, belay_sqlite_rows_unref)

/* --- names --- */

SqliteNames *
belay_sqlite_names_new (sqlite3_stmt *stmt)
{
  guint n = (guint) sqlite3_column_count (stmt);
  gsize size = sizeof (SqliteNames) + n * sizeof (char *);
  SqliteNames *names;
  char *text;

  for (guint i = 0; i < n; i++)
    {
      const char *name = sqlite3_column_name (stmt, (int) i);
      size += (name != NULL ? strlen (name) : 0) + 1;
    }
  names = g_malloc (size);
  atomic_init (&names->refs, 1);
  names->n = n;
  text = (char *) &names->names[n];
  for (guint i = 0; i < n; i++)
    {
      const char *name = sqlite3_column_name (stmt, (int) i);
      names->names[i] = text;
      text = g_stpcpy (text, name != NULL ? name : "") + 1;
    }
  return names;
}

void
belay_sqlite_names_ref (SqliteNames *names, guint n)
{
  atomic_fetch_add_explicit (&names->refs, (int) n, memory_order_relaxed);
}

void
belay_sqlite_names_unref (SqliteNames *names, guint n)
{
  if (atomic_fetch_sub_explicit (&names->refs, (int) n, memory_order_acq_rel) == (int) n)
    g_free (names);
}

/* --- packing --- */

void
belay_sqlite_packer_clear (SqlitePacker *packer)
{
  g_clear_pointer (&packer->block, g_free);
  g_clear_pointer (&packer->offsets, g_free);
  packer->size = packer->n_offsets = 0;
}

gboolean
belay_sqlite_packer_begin (SqlitePacker *packer)
{
  if (packer->block == NULL)
    {
      packer->block = belay_test_try_realloc (NULL, SMALL);
      packer->size = packer->block != NULL ? SMALL : 0;
    }
  packer->used = sizeof (BelaySqliteRows);
  packer->n_rows = 0;
  return packer->block != NULL;
}

/* Room for @more bytes behind what is used. */
static int
make_room (SqlitePacker *packer, gsize more)
{
  gsize size = packer->size;
  guint8 *block;

  if (G_LIKELY (size - packer->used >= more))
    return SQLITE_OK;
  if (packer->used + more > G_MAXUINT32)
    return SQLITE_TOOBIG;
  while (size - packer->used < more)
    size *= 2;
  block = belay_test_try_realloc (packer->block, size);
  if (block == NULL)
    return SQLITE_NOMEM;
  packer->block = block;
  packer->size = size;
  return SQLITE_OK;
}

static guint8
tag_of_integer (gint64 value)
{
  if (value == (gint8) value)
    return 1;
  if (value == (gint16) value)
    return 2;
  return value == (gint32) value ? 4 : 8;
}

/* The low @size bytes of @value, in the order in which the processor has them. */
static void
put_integer (guint8 *to, gint64 value, guint8 size)
{
  gint8 value8 = (gint8) value;
  gint16 value16 = (gint16) value;
  gint32 value32 = (gint32) value;

  switch (size)
    {
    case 1: memcpy (to, &value8, 1); break;
    case 2: memcpy (to, &value16, 2); break;
    case 4: memcpy (to, &value32, 4); break;
    default: memcpy (to, &value, 8); break;
    }
}

static gint64
get_integer (const guint8 *from, guint8 size)
{
  gint8 value8;
  gint16 value16;
  gint32 value32;
  gint64 value;

  switch (size)
    {
    case 1: memcpy (&value8, from, 1); return value8;
    case 2: memcpy (&value16, from, 2); return value16;
    case 4: memcpy (&value32, from, 4); return value32;
    default: memcpy (&value, from, 8); return value;
    }
}

static int
put_bytes (SqlitePacker *packer, const void *bytes, int n)
{
  guint32 length = (guint32) n;
  int code = make_room (packer, sizeof length + length + 1);

  if (code != SQLITE_OK)
    return code;
  memcpy (packer->block + packer->used, &length, sizeof length);
  if (length > 0)
    memcpy (packer->block + packer->used + sizeof length, bytes, length);
  packer->used += sizeof length + length;
  packer->block[packer->used++] = '\0';
  return SQLITE_OK;
}

int
belay_sqlite_packer_add (SqlitePacker *packer, sqlite3_stmt *stmt, guint n_columns)
{
  int code = make_room (packer, n_columns * 9); /* the tags, and the numbers if all are numbers */
  gsize row = packer->used;

  if (code != SQLITE_OK)
    return code;
  if (packer->n_rows == packer->n_offsets)
    {
      guint n = MAX (packer->n_offsets * 2, 64);
      guint32 *offsets = n > packer->n_offsets ? belay_test_try_realloc (packer->offsets, n * sizeof (guint32)) : NULL;

      if (offsets == NULL)
        return SQLITE_NOMEM;
      packer->offsets = offsets;
      packer->n_offsets = n;
    }
  packer->offsets[packer->n_rows] = (guint32) row;

  packer->used += n_columns;
  for (guint i = 0; i < n_columns; i++)
    {
      /* One look at the column instead of two or three. Only this thread uses the connection, so the value is safe. */
      sqlite3_value *value = sqlite3_column_value (stmt, (int) i);
      guint8 tag = TAG_NULL;

      switch (sqlite3_value_type (value))
        {
        case SQLITE_INTEGER:
          {
            gint64 integer = sqlite3_value_int64 (value);

            code = make_room (packer, sizeof integer);
            if (code == SQLITE_OK)
              {
                tag = tag_of_integer (integer);
                put_integer (packer->block + packer->used, integer, tag);
                packer->used += tag;
              }
            break;
          }
        case SQLITE_FLOAT:
          {
            double real = sqlite3_value_double (value);

            code = make_room (packer, sizeof real);
            if (code == SQLITE_OK)
              {
                tag = TAG_REAL;
                memcpy (packer->block + packer->used, &real, sizeof real);
                packer->used += sizeof real;
              }
            break;
          }
        case SQLITE_TEXT:
          {
            const unsigned char *text = sqlite3_value_text (value); /* before its length: it may convert */

            tag = TAG_TEXT;
            code = text != NULL ? put_bytes (packer, text, sqlite3_value_bytes (value)) : SQLITE_NOMEM;
            break;
          }
        case SQLITE_BLOB:
          {
            const void *blob = sqlite3_value_blob (value);
            int n = sqlite3_value_bytes (value);

            tag = TAG_BLOB;
            code = blob != NULL || n == 0 ? put_bytes (packer, blob, n) : SQLITE_NOMEM;
            break;
          }
        default:
          break;
        }
      if (G_UNLIKELY (code != SQLITE_OK))
        return code;
      packer->block[row + i] = tag;
    }
  packer->n_rows++;
  return SQLITE_OK;
}

BelaySqliteRows *
belay_sqlite_packer_finish (SqlitePacker *packer, SqliteNames *names)
{
  gsize offsets = (packer->used + 3) & ~(gsize) 3;
  gsize size = offsets + packer->n_rows * sizeof (guint32);
  BelaySqliteRows *rows;

  if (size <= SMALL)
    {
      rows = belay_test_try_realloc (NULL, size);
      if (rows == NULL)
        return NULL;
      memcpy ((guint8 *) rows + sizeof *rows, packer->block + sizeof *rows, packer->used - sizeof *rows);
    }
  else
    {
      rows = belay_test_try_realloc (packer->block, size);
      if (rows == NULL)
        return NULL;
      packer->block = NULL;
      packer->size = 0;
    }
  if (packer->n_rows > 0)
    memcpy ((guint8 *) rows + offsets, packer->offsets, packer->n_rows * sizeof (guint32));
  atomic_init (&rows->refs, 1);
  rows->n_rows = packer->n_rows;
  rows->n_columns = names->n;
  rows->names = names;
  rows->converted = NULL;
  rows->offsets = offsets;

  if (packer->n_offsets > SMALL / sizeof (guint32))
    {
      g_clear_pointer (&packer->offsets, g_free);
      packer->n_offsets = 0;
    }
  return rows;
}

/* --- reading --- */

BelaySqliteRows *
belay_sqlite_rows_ref (BelaySqliteRows *rows)
{
  g_return_val_if_fail (rows != NULL, NULL);
  belay_sqlite_refs_take (&rows->refs);
  return rows;
}

void
belay_sqlite_rows_unref (BelaySqliteRows *rows)
{
  g_return_if_fail (rows != NULL);
  if (!belay_sqlite_refs_drop (&rows->refs))
    return;
  belay_sqlite_names_unref (rows->names, 1);
  g_clear_pointer (&rows->converted, g_hash_table_unref);
  g_free (rows);
}

guint
belay_sqlite_rows_get_n_rows (BelaySqliteRows *rows)
{
  g_return_val_if_fail (rows != NULL, 0);
  return rows->n_rows;
}

guint
belay_sqlite_rows_get_n_columns (BelaySqliteRows *rows)
{
  g_return_val_if_fail (rows != NULL, 0);
  return rows->n_columns;
}

const char *
belay_sqlite_rows_get_name (BelaySqliteRows *rows, guint column)
{
  g_return_val_if_fail (rows != NULL, NULL);
  g_return_val_if_fail (column < rows->n_columns, NULL);
  return rows->names->names[column];
}

/* The tag of a value, and where its bytes are. */
static inline guint8
find (BelaySqliteRows *rows, guint row, guint column, const guint8 **ret_bytes)
{
  const guint8 *tags, *bytes;
  guint32 offset, length;

  memcpy (&offset, (guint8 *) rows + rows->offsets + row * sizeof offset, sizeof offset);
  tags = (guint8 *) rows + offset;
  bytes = tags + rows->n_columns;
  for (guint i = 0; i < column; i++)
    {
      if (tags[i] < TAG_REAL)
        {
          bytes += tags[i];
        }
      else if (tags[i] == TAG_REAL)
        {
          bytes += sizeof (double);
        }
      else
        {
          memcpy (&length, bytes, sizeof length);
          bytes += sizeof length + length + 1;
        }
    }
  *ret_bytes = bytes;
  return tags[column];
}

/* The bytes of a text or blob, which lie behind their length. */
static inline const char *
get_text (const guint8 *bytes, gsize *ret_length)
{
  guint32 length;

  memcpy (&length, bytes, sizeof length);
  if (ret_length != NULL)
    *ret_length = length;
  return (const char *) bytes + sizeof length;
}

static inline double
get_real (const guint8 *bytes)
{
  double value;

  memcpy (&value, bytes, sizeof value);
  return value;
}

/* R2. A number that g_ascii_strtod() knows and SQLite does not begins neither with a digit nor with a point, or is
 * hexadecimal, which SQLite reads as 0. */
static double
text_to_real (const char *text)
{
  const char *p = text;

  while (g_ascii_isspace (*p))
    p++;
  if (*p == '-' || *p == '+')
    p++;
  if (!(g_ascii_isdigit (*p) || *p == '.') || (*p == '0' && (p[1] == 'x' || p[1] == 'X')))
    return 0;
  return g_ascii_strtod (text, NULL);
}

static gint64
real_to_integer (double value)
{
  if (value <= (double) G_MININT64)
    return G_MININT64;
  if (value >= (double) G_MAXINT64)
    return G_MAXINT64;
  return (gint64) value;
}

/* The text of a number, made once. */
static const char *
convert (BelaySqliteRows *rows, guint row, guint column, guint8 tag, const guint8 *bytes)
{
  gint64 key = (gint64) row * rows->n_columns + column;
  char text[64], *known;

  if (tag == TAG_REAL)
    sqlite3_snprintf (sizeof text, text, "%!.15g", get_real (bytes));
  else
    g_snprintf (text, sizeof text, "%" G_GINT64_FORMAT, get_integer (bytes, tag));

  pthread_mutex_lock (&converted_lock);
  if (rows->converted == NULL)
    rows->converted = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, g_free);
  known = g_hash_table_lookup (rows->converted, &key);
  if (known == NULL)
    {
      known = g_strdup (text);
      g_hash_table_insert (rows->converted, g_memdup2 (&key, sizeof key), known);
    }
  pthread_mutex_unlock (&converted_lock);
  return known;
}

static gboolean
is_value (BelaySqliteRows *rows, guint row, guint column)
{
  g_return_val_if_fail (rows != NULL, FALSE);
  g_return_val_if_fail (row < rows->n_rows, FALSE);
  g_return_val_if_fail (column < rows->n_columns, FALSE);
  return TRUE;
}

gboolean
belay_sqlite_rows_is_null (BelaySqliteRows *rows, guint row, guint column)
{
  const guint8 *bytes;

  return !is_value (rows, row, column) || find (rows, row, column, &bytes) == TAG_NULL;
}

const char *
belay_sqlite_rows_get_string (BelaySqliteRows *rows, guint row, guint column)
{
  const guint8 *bytes;
  guint8 tag;

  if (!is_value (rows, row, column))
    return NULL;
  tag = find (rows, row, column, &bytes);
  if (tag == TAG_NULL)
    return NULL;
  return tag == TAG_TEXT || tag == TAG_BLOB ? get_text (bytes, NULL) : convert (rows, row, column, tag, bytes);
}

gint64
belay_sqlite_rows_get_int64 (BelaySqliteRows *rows, guint row, guint column)
{
  const guint8 *bytes;
  guint8 tag;

  if (!is_value (rows, row, column))
    return 0;
  tag = find (rows, row, column, &bytes);
  switch (tag)
    {
    case TAG_NULL:
      return 0;
    case TAG_REAL:
      return real_to_integer (get_real (bytes));
    case TAG_TEXT:
    case TAG_BLOB:
      return g_ascii_strtoll (get_text (bytes, NULL), NULL, 10);
    default:
      return get_integer (bytes, tag);
    }
}

double
belay_sqlite_rows_get_double (BelaySqliteRows *rows, guint row, guint column)
{
  const guint8 *bytes;
  guint8 tag;

  if (!is_value (rows, row, column))
    return 0;
  tag = find (rows, row, column, &bytes);
  switch (tag)
    {
    case TAG_NULL:
      return 0;
    case TAG_REAL:
      return get_real (bytes);
    case TAG_TEXT:
    case TAG_BLOB:
      return text_to_real (get_text (bytes, NULL));
    default:
      return (double) get_integer (bytes, tag);
    }
}

GBytes *
belay_sqlite_rows_get_bytes (BelaySqliteRows *rows, guint row, guint column)
{
  const guint8 *bytes;
  const char *text;
  gsize length;
  guint8 tag;

  if (!is_value (rows, row, column))
    return NULL;
  tag = find (rows, row, column, &bytes);
  if (tag == TAG_NULL)
    return NULL;
  if (tag == TAG_TEXT || tag == TAG_BLOB)
    {
      text = get_text (bytes, &length);
    }
  else
    {
      text = convert (rows, row, column, tag, bytes);
      length = strlen (text);
    }
  /* A reference to the rows is what the bytes need, not a copy. */
  return g_bytes_new_with_free_func (text, length, (GDestroyNotify) belay_sqlite_rows_unref, belay_sqlite_rows_ref (rows));
}
