/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Decoding: compressed bodies, by GLib's converter for zlib.
 *
 * libcurl could decode, too, but takes the end of the body for the end of the compressed stream, so that half a page looks
 * like a page. The converter knows when its stream is complete.
 *
 *  1. What was not compressed costs nothing here: a body without a Content-Encoding never comes this way.
 *  2. Nothing is unpacked into a buffer of its own: the caller gives the room, and counts what comes against its limit, so
 *     a few bytes cannot become more than that.
 *  3. A gzip body may be several streams one after another; what follows the last and is none is padding, and ignored.
 *  4. "deflate" means zlib's format, and some servers send the bare stream; its first byte tells them apart.
 *  5. A body of no bytes is an empty one, whatever its headers say of it.
 */
#include "http/decoder.h"

#include <string.h>

#define GZIP_MAGIC 0x1f

void
belay_http_decoder_reset (BelayHttpDecoder *self)
{
  g_clear_object (&self->converter);
  self->coding = BELAY_HTTP_CODING_NONE;
  self->ended = FALSE;
}

static gboolean
is_word (const char *string, gsize length, const char *word)
{
  return length == strlen (word) && g_ascii_strncasecmp (string, word, length) == 0;
}

static void
add_coding (BelayHttpDecoder *self, const char *name, gsize length)
{
  if (length == 0 || is_word (name, length, "identity") || is_word (name, length, "none"))
    return;
  if (self->coding != BELAY_HTTP_CODING_NONE)
    self->coding = BELAY_HTTP_CODING_UNKNOWN;
  else if (is_word (name, length, "gzip") || is_word (name, length, "x-gzip"))
    self->coding = BELAY_HTTP_CODING_GZIP;
  else if (is_word (name, length, "deflate"))
    self->coding = BELAY_HTTP_CODING_DEFLATE;
  else
    self->coding = BELAY_HTTP_CODING_UNKNOWN;
}

void
belay_http_decoder_add (BelayHttpDecoder *self, const char *value, gsize length)
{
  const char *end = value + length, *name = value;

  for (const char *p = value; p <= end; p++)
    {
      const char *name_end = p;

      if (p < end && *p != ',')
        continue;
      while (name < name_end && g_ascii_isspace (*name))
        name++;
      while (name_end > name && g_ascii_isspace (name_end[-1]))
        name_end--;
      add_coding (self, name, (gsize) (name_end - name));
      name = p + 1;
    }
}

static GZlibCompressorFormat
format_of (BelayHttpCoding coding, guint8 first)
{
  if (coding == BELAY_HTTP_CODING_GZIP)
    return G_ZLIB_COMPRESSOR_FORMAT_GZIP;
  if ((first & 0x0f) == 8 && first >> 4 <= 7) /* zlib's method and window */
    return G_ZLIB_COMPRESSOR_FORMAT_ZLIB;
  return G_ZLIB_COMPRESSOR_FORMAT_RAW;
}

gboolean
belay_http_decoder_step (BelayHttpDecoder *self, const char **bytes, gsize *length, char *to, gsize room, gsize *ret_written)
{
  g_autoptr (GError) error = NULL;
  GConverterResult result;
  gsize n_read = 0;

  *ret_written = 0;
  if (self->coding == BELAY_HTTP_CODING_UNKNOWN)
    return FALSE;
  if (self->ended && (*length == 0 || self->coding != BELAY_HTTP_CODING_GZIP || (guint8) **bytes != GZIP_MAGIC))
    {
      *length = 0;
      return TRUE;
    }
  if (self->converter == NULL)
    self->converter = G_CONVERTER (g_zlib_decompressor_new (format_of (self->coding, (guint8) **bytes)));
  else if (self->ended)
    g_converter_reset (self->converter);
  result = g_converter_convert (self->converter, *bytes, *length, to, room, G_CONVERTER_NO_FLAGS, &n_read, ret_written, &error);
  self->ended = result == G_CONVERTER_FINISHED;
  if (result == G_CONVERTER_ERROR)
    {
      *ret_written = *length = 0;
      return g_error_matches (error, G_IO_ERROR, G_IO_ERROR_PARTIAL_INPUT);
    }
  *bytes += n_read;
  *length -= n_read;
  return TRUE;
}
