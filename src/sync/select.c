/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Select: the first of several sends and receives that can be done, and that alone.
 *
 * First all channels are looked at under all their locks, from a case that is drawn by lot; what can be done is done. If nothing can,
 * a turn for each case gets in line, all with one choice, before any lock is left. From then on whoever claims the choice serves the
 * fiber; the other turns are taken out when it runs again, and who finds one of them before that, passes it over.
 *
 * Why all locks at once: two selects that could serve each other need both of their choices. A select that is looking stands in no
 * line yet, so nobody can claim it, and whom it finds in line it claims by that one's choice alone.
 *
 * Invariants
 *   1. Locks are taken in the order of their addresses, each once, however many cases are of one channel.
 *   2. A fiber that goes on stands in no line.
 */
#include "sync/channel.h"

/* So many cases need no memory but the stack's. */
#define FEW 8

typedef struct
{
  BelaySelectCase *cases;
  guint            n_cases;
  BelayPassage   **passages; /* each once, by address */
  guint            n_passages;
} Select;

/* Says what is waited for; nobody ever stands in it. */
static const BelayLineClass line_class = { "the first of several sends and receives", NULL };
static BelayLine line = { &line_class, NULL, NULL, 0 };

static void
lock_all (Select *self)
{
  for (guint i = 0; i < self->n_passages; i++)
    belay_spin_lock (&self->passages[i]->lock);
}

static void
unlock_all (Select *self)
{
  for (guint i = 0; i < self->n_passages; i++)
    belay_spin_unlock (&self->passages[i]->lock);
}

static void
add_passage (Select *self, BelayPassage *passage)
{
  guint i = self->n_passages;

  for (guint k = 0; k < self->n_passages; k++)
    if (self->passages[k] == passage)
      return;
  for (; i > 0 && (guintptr) self->passages[i - 1] > (guintptr) passage; i--)
    self->passages[i] = self->passages[i - 1];
  self->passages[i] = passage;
  self->n_passages++;
}

/* FALSE: the cases make no sense, or there is none where it @waits. */
static gboolean
begin (Select *self, gboolean waits)
{
  self->n_passages = 0;
  for (guint i = 0; i < self->n_cases; i++)
    {
      BelaySelectCase *one = &self->cases[i];

      one->closed = FALSE;
      if (one->channel == NULL)
        continue;
      if ((one->send == NULL) == (one->receive == NULL) || (one->send != NULL && *(gpointer *) one->send == NULL))
        {
          g_critical ("belay_select: case %u has no item to send, or not just one of `send` and `receive`", i);
          return FALSE;
        }
      add_passage (self, &one->channel->passage);
    }
  if (waits && self->n_passages == 0)
    g_critical ("belay_select: there is nothing to wait for");
  return self->n_passages > 0;
}

/* What is the first to be looked at: another one each time, so that none is forgotten. */
static guint
draw (guint n)
{
  static __thread guint32 state = 2463534242u;

  if (G_UNLIKELY (belay_thread.context != NULL && belay_thread.context->schedule != NULL))
    return belay_chance (n);
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % n;
}

/* How a case ended: what was sent is the variable's no more, what was received is. */
static void
end_case (BelaySelectCase *one, int outcome, gpointer item)
{
  one->closed = outcome != BELAY_TURN_SERVED;
  if (one->receive != NULL)
    *(gpointer *) one->receive = one->closed ? NULL : item;
  else if (!one->closed)
    *(gpointer *) one->send = NULL;
}

/* Under all locks: does the first that can be done. The index, or -1. */
static int
do_one (Select *self, BelayTurn **served)
{
  guint start = draw (self->n_cases);

  for (guint k = 0; k < self->n_cases; k++)
    {
      guint i = start + k < self->n_cases ? start + k : start + k - self->n_cases;
      BelaySelectCase *one = &self->cases[i];
      BelayPassage *passage;
      gpointer item = NULL;
      gint64 priority;
      int outcome;

      if (one->channel == NULL)
        continue;
      passage = &one->channel->passage;
      if (one->send == NULL)
        {
          outcome = belay_passage_take_locked (passage, &item, &priority, served);
        }
      else
        {
          outcome = belay_passage_give_locked (passage, *(gpointer *) one->send, 0, served);
          if (outcome == BELAY_PASSAGE_NEEDS_ROOM)
            {
              unlock_all (self);
              belay_spin_lock (&passage->lock);
              belay_passage_grow (passage);
              belay_spin_unlock (&passage->lock);
              lock_all (self);
              k = G_MAXUINT; /* all from the start: what could not be done may be possible now */
              continue;
            }
        }
      if (outcome == BELAY_TURN_WAITS)
        continue;
      end_case (one, outcome, item);
      return (int) i;
    }
  return -1;
}

/* Under all locks. */
static void
get_in_line (Select *self, BelayTurn *turns, BelayChoice *choice, BelayFiber *fiber)
{
  for (guint i = 0; i < self->n_cases; i++)
    {
      BelaySelectCase *one = &self->cases[i];

      belay_turn_init (&turns[i], fiber);
      if (one->channel == NULL)
        continue;
      turns[i].choice = choice;
      if (one->send != NULL)
        turns[i].item = *(gpointer *) one->send;
      belay_line_append (one->send != NULL ? &one->channel->passage.givers : &one->channel->passage.takers, &turns[i]);
    }
}

static void
leave_lines (Select *self, BelayTurn *turns)
{
  for (guint i = 0; i < self->n_cases; i++)
    {
      if (self->cases[i].channel == NULL)
        continue;
      belay_spin_lock (&self->cases[i].channel->passage.lock);
      if (turns[i].line != NULL)
        belay_line_remove (&turns[i]);
      belay_spin_unlock (&self->cases[i].channel->passage.lock);
    }
}

/* Does one, or waits for one: the index; -1: interrupted. */
static int
do_or_wait (Select *self, BelayTurn *turns, BelayFiber *fiber, const char *site)
{
  BelayTurn *served = NULL, *mine;
  BelayChoice choice;
  int index;

  atomic_init (&choice.claimed, NULL);
  belay_turn_init (&turns[0], fiber);
  belay_turn_prepare (&turns[0], &line, site);
  lock_all (self);
  index = do_one (self, &served);
  if (index < 0)
    get_in_line (self, turns, &choice, fiber);
  unlock_all (self);
  belay_turns_wake (served);
  if (index >= 0)
    return index;

  mine = belay_choice_wait (&choice, fiber);
  leave_lines (self, turns);
  if (mine == NULL)
    return -1;
  index = (int) (mine - turns);
  end_case (&self->cases[index], mine->outcome, mine->item);
  return index;
}

int
belay_try_select (BelaySelectCase *cases, guint n_cases)
{
  BelayPassage *few[FEW];
  Select self = { cases, n_cases, few };
  BelayTurn *served = NULL;
  int index = -1;

  g_return_val_if_fail (cases != NULL, -1);
  if (n_cases > FEW)
    self.passages = g_new (BelayPassage *, n_cases);
  if (begin (&self, FALSE))
    {
      lock_all (&self);
      index = do_one (&self, &served);
      unlock_all (&self);
      belay_turns_wake (served);
    }
  if (n_cases > FEW)
    g_free (self.passages);
  return index;
}

int
belay_select_at (BelaySelectCase *cases, guint n_cases, GError **error, const char *site)
{
  BelayPassage *few[FEW];
  BelayTurn few_turns[FEW], *turns = few_turns;
  Select self = { cases, n_cases, few };
  BelayFiber *fiber = belay_fiber_self ();
  int index = -1;

  g_return_val_if_fail (cases != NULL, -1);

  if (fiber == NULL)
    {
      belay_fail_no_fiber ("belay_select", error);
      return -1;
    }
  if (!belay_limit_check (fiber, site, error))
    return -1;
  if (n_cases > FEW)
    {
      self.passages = g_new (BelayPassage *, n_cases);
      turns = g_new (BelayTurn, n_cases);
    }
  if (begin (&self, TRUE))
    {
      do
        index = do_or_wait (&self, turns, fiber, site);
      while (index < 0 && belay_limit_check (fiber, site, error));
    }
  else
    {
      g_set_error_literal (error, BELAY_ERROR, BELAY_ERROR_MISUSE, "belay_select: a case has no item, or there is none to wait for");
    }
  if (n_cases > FEW)
    {
      g_free (self.passages);
      g_free (turns);
    }
  return index;
}

int
(belay_select) (BelaySelectCase *cases, guint n_cases, GError **error)
{
  return belay_select_at (cases, n_cases, error, NULL);
}
