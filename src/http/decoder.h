/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compressed bodies. The essay is in decoder.c. */
#pragma once

#include <gio/gio.h>

typedef enum
{
  BELAY_HTTP_CODING_NONE,
  BELAY_HTTP_CODING_GZIP,
  BELAY_HTTP_CODING_DEFLATE,
  BELAY_HTTP_CODING_UNKNOWN /* or several */
} BelayHttpCoding;

/* Of one body; all 0 is that of a plain one. */
typedef struct
{
  BelayHttpCoding coding;
  GConverter     *converter; /* NULL: nothing of the body has come */
  gboolean        ended;     /* the stream is complete */
} BelayHttpDecoder;

/* What can be decoded, as a value for "Accept-Encoding". */
#define BELAY_HTTP_CODINGS "gzip, deflate"

/* For another body. */
void     belay_http_decoder_reset (BelayHttpDecoder *decoder);
/* The value of a "Content-Encoding". */
void     belay_http_decoder_add   (BelayHttpDecoder *decoder, const char *value, gsize length);
/*
 * Decodes some of *bytes, which moves on, into at most @room bytes. When all of @room was used, there may be more to come
 * even if *length has become 0. FALSE when that is nothing that can be decoded.
 */
gboolean belay_http_decoder_step  (BelayHttpDecoder *decoder, const char **bytes, gsize *length, char *to, gsize room,
                                   gsize *ret_written);

/* Whether the body has ended in the midst of its stream. */
static inline gboolean
belay_http_decoder_is_cut (BelayHttpDecoder *decoder)
{
  return decoder->converter != NULL && !decoder->ended;
}
