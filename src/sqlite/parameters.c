/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Parameters: the values for the `?` of a statement, taken out of a GVariant.
 *
 * They are taken out when the statement is given, on the caller's thread: so a wrong type is said where it was written,
 * the worker touches no GVariant (their lock and reference count would travel between processors), and what it binds
 * lies beside the operation that it has just read.
 *
 * A *reader* is where they stay in between: first it knows how much memory they take, then they move into it. Short
 * texts and blobs are copied; of a long one its GVariant is kept instead, the parameter's *holder*.
 *
 *  P1  While a parameter's bytes lie in a GVariant, a reference to the very child that they lie in is held, not only to
 *      the tuple: a tuple that somebody else reads at the same time may be serialised, which frees its children.
 *  P2  Bytes always end with a 0, so that a text may be handed on as a C string.
 */
#include "parameters.h"

#include <string.h>

#define LONG 4096 /* bytes that are not worth a copy */

/* The first letter of its type. g_variant_is_of_type() would parse the type each time. */
static inline char
type_letter (GVariant *variant)
{
  return *g_variant_get_type_string (variant);
}

static gboolean
read_one (SqliteParameter *parameter, GVariant *tuple, guint i, GError **error)
{
  GVariant *child = g_variant_get_child_value (tuple, i);

  parameter->type = SQLITE_NULL;
  parameter->length = 0;
  parameter->holder = NULL;
  while (G_UNLIKELY (type_letter (child) == G_VARIANT_CLASS_MAYBE))
    {
      GVariant *inner = g_variant_get_maybe (child);

      g_variant_unref (child);
      child = inner;
      if (child == NULL)
        return TRUE;
    }

  parameter->type = SQLITE_INTEGER;
  switch ((GVariantClass) type_letter (child))
    {
    case G_VARIANT_CLASS_BOOLEAN:
      parameter->value.integer = g_variant_get_boolean (child);
      break;
    case G_VARIANT_CLASS_BYTE:
      parameter->value.integer = g_variant_get_byte (child);
      break;
    case G_VARIANT_CLASS_INT16:
      parameter->value.integer = g_variant_get_int16 (child);
      break;
    case G_VARIANT_CLASS_UINT16:
      parameter->value.integer = g_variant_get_uint16 (child);
      break;
    case G_VARIANT_CLASS_INT32:
      parameter->value.integer = g_variant_get_int32 (child);
      break;
    case G_VARIANT_CLASS_UINT32:
      parameter->value.integer = g_variant_get_uint32 (child);
      break;
    case G_VARIANT_CLASS_INT64:
      parameter->value.integer = g_variant_get_int64 (child);
      break;
    case G_VARIANT_CLASS_UINT64:
      if (g_variant_get_uint64 (child) > G_MAXINT64)
        {
          g_set_error (error, BELAY_SQLITE_ERROR, SQLITE_TOOBIG,
                       "parameter %u: %" G_GUINT64_FORMAT " is larger than SQLite's integers", i + 1,
                       g_variant_get_uint64 (child));
          g_variant_unref (child);
          return FALSE;
        }
      parameter->value.integer = (gint64) g_variant_get_uint64 (child);
      break;
    case G_VARIANT_CLASS_DOUBLE:
      parameter->type = SQLITE_FLOAT;
      parameter->value.real = g_variant_get_double (child);
      break;
    case G_VARIANT_CLASS_STRING:
      parameter->type = SQLITE_TEXT;
      parameter->value.bytes = g_variant_get_string (child, &parameter->length);
      parameter->holder = child; /* P1 */
      return TRUE;
    case G_VARIANT_CLASS_ARRAY:
      if (g_variant_is_of_type (child, G_VARIANT_TYPE_BYTESTRING))
        {
          parameter->type = SQLITE_BLOB;
          parameter->value.bytes = g_variant_get_fixed_array (child, &parameter->length, 1);
          parameter->holder = child; /* P1 */
          return TRUE;
        }
      G_GNUC_FALLTHROUGH;
    default:
      g_critical ("parameter %u of a statement is of the type '%s', which SQLite has no equal of", i + 1,
                  g_variant_get_type_string (child));
      g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "parameter %u is of the type '%s', which SQLite has no equal of",
                   i + 1, g_variant_get_type_string (child));
      g_variant_unref (child);
      return FALSE;
    }
  g_variant_unref (child);
  return TRUE;
}

gboolean
belay_sqlite_parameters_read (SqliteParameterReader *reader, GVariant *tuple, GError **error)
{
  gsize n;

  reader->tuple = NULL;
  reader->n = 0;
  reader->n_bytes = 0;
  reader->all = reader->few;
  if (tuple == NULL)
    return TRUE;

  reader->tuple = g_variant_ref_sink (tuple);
  if (type_letter (tuple) != '(')
    {
      g_critical ("the parameters of a statement are of the type '%s', and must be a tuple: \"(%s)\"",
                  g_variant_get_type_string (tuple), g_variant_get_type_string (tuple));
      g_set_error (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "the parameters are of the type '%s', and must be a tuple",
                   g_variant_get_type_string (tuple));
      return FALSE;
    }
  n = g_variant_n_children (tuple);
  if (n > BELAY_SQLITE_FEW_PARAMETERS)
    reader->all = g_new (SqliteParameter, n);
  while (reader->n < n)
    {
      SqliteParameter *parameter = &reader->all[reader->n];

      if (!read_one (parameter, tuple, reader->n, error))
        return FALSE;
      reader->n++;
      if (parameter->holder != NULL && parameter->length < LONG)
        reader->n_bytes += parameter->length + 1;
    }
  return TRUE;
}

void
belay_sqlite_parameters_move (SqliteParameterReader *reader, SqliteParameter *to, char *bytes)
{
  for (guint i = 0; i < reader->n; i++)
    {
      to[i] = reader->all[i];
      if (to[i].holder == NULL || to[i].length >= LONG)
        continue;
      if (to[i].length > 0)
        memcpy (bytes, to[i].value.bytes, to[i].length);
      bytes[to[i].length] = '\0'; /* P2 */
      to[i].value.bytes = bytes;
      bytes += to[i].length + 1;
      g_clear_pointer (&to[i].holder, g_variant_unref);
    }
  reader->n = 0; /* what they hold is moved */
}

void
belay_sqlite_parameters_clear (SqliteParameterReader *reader)
{
  belay_sqlite_parameters_free (reader->all, reader->n);
  if (reader->all != reader->few)
    g_free (reader->all);
  if (reader->tuple != NULL)
    g_variant_unref (reader->tuple);
}

void
belay_sqlite_parameters_free (SqliteParameter *parameters, guint n)
{
  for (guint i = 0; i < n; i++)
    if (parameters[i].holder != NULL)
      g_variant_unref (parameters[i].holder);
}

int
belay_sqlite_parameters_bind (const SqliteParameter *parameters, guint n, sqlite3_stmt *stmt)
{
  int rc = SQLITE_OK;

  for (guint i = 0; i < n && rc == SQLITE_OK; i++)
    {
      const SqliteParameter *parameter = &parameters[i];

      switch (parameter->type)
        {
        case SQLITE_INTEGER:
          rc = sqlite3_bind_int64 (stmt, (int) i + 1, parameter->value.integer);
          break;
        case SQLITE_FLOAT:
          rc = sqlite3_bind_double (stmt, (int) i + 1, parameter->value.real);
          break;
        case SQLITE_TEXT:
          rc = sqlite3_bind_text64 (stmt, (int) i + 1, parameter->value.bytes, parameter->length, SQLITE_STATIC, SQLITE_UTF8);
          break;
        case SQLITE_BLOB:
          rc = sqlite3_bind_blob64 (stmt, (int) i + 1, parameter->value.bytes, parameter->length, SQLITE_STATIC);
          break;
        default:
          rc = sqlite3_bind_null (stmt, (int) i + 1);
          break;
        }
    }
  return rc;
}
