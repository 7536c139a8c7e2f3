/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mail: what other threads ask of a session, and how a request is called off.
 *
 * Words. A *letter* asks for one thing: start a request, cancel one, close, end. A *box* is where a session's context
 * finds its letters. A *slot* is an entry of a table for the whole process that leads to a request's memory. A *turn*
 * counts the requests that have used that memory, one after another. A *ticket* is slot and turn in one pointer.
 *
 * Why tickets. The function that a promise calls when nobody wants its outcome any more may be called by another thread
 * while this one is answering the promise, or just after: "while the promise lives" is longer than anybody
 * here can know. So what it is given is no pointer to memory but a ticket, good for asking however late; one whose
 * turn is over leads nowhere.
 *
 * Invariants
 *   1. One lock guards the boxes and the table of slots, for the whole process. It is taken when requests are made in
 *      new memory, handed over from another thread, or cancelled; not for the usual request.
 *   2. A slot's box and request are set while the request's memory exists and its box is open, and are NULL otherwise.
 *   3. A request's turn belongs to the session's context and only grows; the slot takes it over when the memory goes,
 *      so no ticket of a slot is ever given twice (or not before the upper half of a pointer has wrapped around).
 *   4. A letter that finds a box empty wakes the context: a START, CLOSE or END by g_main_context_wakeup(), since
 *      whoever posts it keeps the context alive, a CANCEL by the eventfd, since nobody might. Before there is an
 *      eventfd there is only a request whose START is not yet read, and that has woken the context already.
 */
#include "http/mail.h"

#include <pthread.h>
#include <unistd.h>

/* How many bits of a ticket are the slot's. */
#if GLIB_SIZEOF_VOID_P >= 8
# define SLOT_BITS 32
#else
# define SLOT_BITS 18
#endif
#define SLOT_MASK ((((guintptr) 1) << SLOT_BITS) - 1)
#define TURN_MASK ((guint) (~(guintptr) 0 >> SLOT_BITS))

typedef struct
{
  BelayHttpMailbox *box;
  BelayHttpRequest *request;
  guint             turn;
  guint             next_free;
} Slot;

/* A pthread mutex and no GMutex: the thread sanitizer must see it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Slot *slots; /* slot 0 is none */
static guint n_slots, size_slots, first_free;

void
belay_http_lock (void)
{
  pthread_mutex_lock (&lock);
}

void
belay_http_unlock (void)
{
  pthread_mutex_unlock (&lock);
}

void
belay_http_fence (void)
{
  belay_http_lock ();
  belay_http_unlock ();
}

/* --- boxes --- */

void
belay_http_mail_init (BelayHttpMailbox *self)
{
  *self = (BelayHttpMailbox) { .wake = -1 };
}

gboolean
belay_http_mail_post_locked (BelayHttpMailbox *self, BelayHttpMailKind kind, gpointer what)
{
  BelayHttpLetter *letter;

  if (self->closed)
    return FALSE;
  letter = g_new (BelayHttpLetter, 1);
  *letter = (BelayHttpLetter) { .kind = kind, .what = what };
  if (self->first == NULL)
    self->first = letter;
  else
    self->last->next = letter;
  self->last = letter;
  __atomic_store_n (&self->waiting, 1, __ATOMIC_RELEASE);
  return TRUE;
}

gboolean
belay_http_mail_post (BelayHttpMailbox *self, BelayHttpMailKind kind, gpointer what)
{
  gboolean posted;

  belay_http_lock ();
  posted = belay_http_mail_post_locked (self, kind, what);
  belay_http_unlock ();
  return posted;
}

static BelayHttpLetter *
take_locked (BelayHttpMailbox *self)
{
  BelayHttpLetter *first = self->first;

  self->first = self->last = NULL;
  __atomic_store_n (&self->waiting, 0, __ATOMIC_RELEASE);
  return first;
}

BelayHttpLetter *
belay_http_mail_take (BelayHttpMailbox *self)
{
  BelayHttpLetter *letters;

  belay_http_lock ();
  letters = take_locked (self);
  belay_http_unlock ();
  return letters;
}

BelayHttpLetter *
belay_http_mail_close (BelayHttpMailbox *self)
{
  BelayHttpLetter *letters;

  belay_http_lock ();
  letters = take_locked (self);
  self->closed = TRUE;
  self->wake = -1;
  belay_http_unlock ();
  return letters;
}

void
belay_http_mail_set_wake (BelayHttpMailbox *self, int wake)
{
  belay_http_lock ();
  self->wake = wake;
  belay_http_unlock ();
}

/* --- tickets --- */

void
belay_http_ticket_open (BelayHttpMailbox *box, BelayHttpRequest *request)
{
  guint place;

  belay_http_lock ();
  place = first_free;
  if (place != 0)
    {
      first_free = slots[place].next_free;
    }
  else if ((guintptr) n_slots + 1 <= SLOT_MASK)
    {
      place = ++n_slots;
      if (place >= size_slots)
        {
          size_slots = MAX (64, size_slots * 2);
          slots = g_renew (Slot, slots, size_slots);
        }
      slots[place] = (Slot) { .box = NULL };
    }
  if (place != 0)
    {
      slots[place].box = box;
      slots[place].request = request;
      request->turn = slots[place].turn;
    }
  request->slot = place;
  belay_http_unlock ();
}

void
belay_http_ticket_close (BelayHttpRequest *request)
{
  guint place = request->slot;

  if (place == 0)
    return;
  belay_http_lock ();
  slots[place] = (Slot) { .turn = request->turn + 1, .next_free = first_free };
  first_free = place;
  belay_http_unlock ();
  request->slot = 0;
}

static inline gpointer
make_ticket (guint place, guint turn)
{
  return (gpointer) ((guintptr) place | (guintptr) (turn & TURN_MASK) << SLOT_BITS);
}

gpointer
belay_http_ticket_get (BelayHttpRequest *request)
{
  return request->slot != 0 ? make_ticket (request->slot, request->turn) : NULL;
}

void
belay_http_ticket_cancel (gpointer ticket)
{
  guint place = (guint) ((guintptr) ticket & SLOT_MASK);
  BelayHttpMailbox *box;

  belay_http_lock ();
  box = slots[place].box;
  if (box != NULL && belay_http_mail_post_locked (box, BELAY_HTTP_MAIL_CANCEL, ticket) && box->wake != -1)
    {
      guint64 one = 1;
      G_GNUC_UNUSED gssize written = write (box->wake, &one, sizeof one);
    }
  belay_http_unlock ();
}

BelayHttpRequest *
belay_http_ticket_find (BelayHttpMailbox *box, gpointer ticket)
{
  guint place = (guint) ((guintptr) ticket & SLOT_MASK);
  BelayHttpRequest *request;

  belay_http_lock ();
  request = slots[place].box == box ? slots[place].request : NULL;
  if (request != NULL && make_ticket (place, request->turn) != ticket)
    request = NULL;
  belay_http_unlock ();
  return request;
}
