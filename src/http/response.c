/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Responses: a whole answer, in one block of memory beside its body.
 *
 * Words. The *head* is the status line and the header lines as they came, packed: each string with its NUL, a name
 * followed by its value. A *joined* value is what several lines of one name say together.
 *
 * Most headers are never looked at, so a response is made with one copy of the head and a name is searched when it is
 * asked for. What is found is a pointer into the head. Only where a name occurs more than once must a new string be
 * made, at the first question; it is kept, for a getter's answer lives as long as the response.
 *
 * Invariants
 *   1. Everything but `joined` is written before the response is given out, and never again.
 *   2. `joined` is a stack that only grows until the response is freed; whoever pushes looks first whether another
 *      thread has just answered the same question, so one name has one string. Thus getters need no lock.
 */
#include "http/response.h"

#include <stdatomic.h>
#include <string.h>

typedef struct _Joined Joined;
struct _Joined
{
  Joined     *next;
  const char *name; /* in the head: the first of its lines */
  char        value[];
};

struct _BelayHttpResponse
{
  atomic_int         refs;
  guint              status;
  GBytes            *bytes;
  const char        *lines; /* the head without its status line */
  const char        *end;
  const char        *url;
  _Atomic (Joined *) joined;
  char               data[]; /* the head, the URL */
};

G_DEFINE_BOXED_TYPE (BelayHttpResponse, belay_http_response, belay_http_response_ref, belay_http_response_unref)

BelayHttpResponse *
belay_http_response_new (guint status, const char *url, const char *head, gsize head_length, GBytes *bytes)
{
  gsize url_size = strlen (url) + 1;
  BelayHttpResponse *self = g_malloc (sizeof *self + head_length + url_size);

  atomic_init (&self->refs, 1);
  self->status = status;
  self->bytes = bytes;
  if (head_length > 0)
    memcpy (self->data, head, head_length);
  self->end = self->data + head_length;
  self->lines = head_length > 0 ? self->data + strlen (self->data) + 1 : self->end;
  self->url = memcpy (self->data + head_length, url, url_size);
  atomic_init (&self->joined, NULL);
  return self;
}

BelayHttpResponse *
belay_http_response_ref (BelayHttpResponse *self)
{
  g_return_val_if_fail (self != NULL, NULL);

  atomic_fetch_add_explicit (&self->refs, 1, memory_order_relaxed);
  return self;
}

void
belay_http_response_unref (BelayHttpResponse *self)
{
  Joined *joined, *next;

  g_return_if_fail (self != NULL);

  if (atomic_fetch_sub_explicit (&self->refs, 1, memory_order_acq_rel) != 1)
    return;
  for (joined = atomic_load_explicit (&self->joined, memory_order_relaxed); joined != NULL; joined = next)
    {
      next = joined->next;
      g_free (joined);
    }
  g_bytes_unref (self->bytes);
  g_free (self);
}

guint
belay_http_response_get_status (BelayHttpResponse *self)
{
  g_return_val_if_fail (self != NULL, 0);
  return self->status;
}

const char *
belay_http_response_get_url (BelayHttpResponse *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return self->url;
}

GBytes *
belay_http_response_get_bytes (BelayHttpResponse *self)
{
  g_return_val_if_fail (self != NULL, NULL);
  return self->bytes;
}

/* --- headers --- */

static const char *
value_of (const char *name)
{
  return name + strlen (name) + 1;
}

/* The first line of that name at @from or after it, NULL when there is none. */
static const char *
find (BelayHttpResponse *self, const char *from, const char *name)
{
  while (from < self->end)
    {
      const char *value = value_of (from);

      if (g_ascii_strcasecmp (from, name) == 0)
        return from;
      from = value + strlen (value) + 1;
    }
  return NULL;
}

static const char *
find_next (BelayHttpResponse *self, const char *line)
{
  return find (self, value_of (value_of (line)), line);
}

static Joined *
find_joined (Joined *joined, const char *name)
{
  while (joined != NULL && joined->name != name)
    joined = joined->next;
  return joined;
}

static const char *
join (BelayHttpResponse *self, const char *first)
{
  Joined *newest = atomic_load_explicit (&self->joined, memory_order_acquire);
  Joined *joined = find_joined (newest, first);
  gsize length = 0;
  char *to;

  if (joined != NULL)
    return joined->value;

  for (const char *line = first; line != NULL; line = find_next (self, line))
    length += strlen (value_of (line)) + strlen (", ");
  joined = g_malloc (sizeof *joined + length + 1);
  joined->name = first;
  to = joined->value;
  for (const char *line = first; line != NULL; line = find_next (self, line))
    {
      if (line != first)
        to = g_stpcpy (to, ", ");
      to = g_stpcpy (to, value_of (line));
    }

  for (;;)
    {
      Joined *other = find_joined (newest, first);

      if (other != NULL)
        {
          g_free (joined);
          return other->value;
        }
      joined->next = newest;
      if (atomic_compare_exchange_weak_explicit (&self->joined, &newest, joined, memory_order_acq_rel,
                                                 memory_order_acquire))
        return joined->value;
    }
}

const char *
belay_http_response_get_header (BelayHttpResponse *self, const char *name)
{
  const char *line;

  g_return_val_if_fail (self != NULL, NULL);
  g_return_val_if_fail (name != NULL, NULL);

  line = find (self, self->lines, name);
  if (line == NULL)
    return NULL;
  return find_next (self, line) == NULL ? value_of (line) : join (self, line);
}
