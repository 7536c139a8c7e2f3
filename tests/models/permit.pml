/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hand-off of permits, between fibers that need one or two at once and may be cancelled at any moment, each on a thread of its own.
 *
 * Stands for: src/sync/semaphore-private.h: try_take give
 *             src/sync/semaphore.c: take_or_append note_if_empty after_leaving change belay_semaphore_give_slow
 *             permit_release belay_semaphore_take_slow
 *             src/run/line.c: belay_turn_wait belay_line_serve belay_turns_wake
 *
 * Shows: never are more permits out than there are; whoever is not cancelled gets what it needs (else this ends in a deadlock); at the
 * end all are free, nobody is in the line, and the flag WAITERS is not left behind (L32, L33).
 *
 * One word holds the free permits and the flag: here two variables that change in one atomic step, as by a compare-and-swap.
 *
 * BROKEN=1: who is cancelled goes, though it was granted the permits meanwhile.
 * BROKEN=2: who queues looks whether there are enough, and says that somebody waits, in two steps.
 * BROKEN=3: who leaves the line does not look whether those behind it can go on.
 * BROKEN=4: the flag is taken back before the permits that were served are taken off.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define N 3
#define TOTAL 2

byte units = TOTAL;          /* the word */
bool waiters = false;
bool lock = false;
chan line = [N] of { byte }; /* under the lock, as all below but `fired` */
byte need[N];
bool linked[N];
bool fired[N];
byte out = 0;
bool kept = false;           /* one permit is out until all others have ended: so who needs two is not patient */

inline take_lock () { atomic { !lock -> lock = true } }
inline give_lock () { lock = false }

inline note_if_empty ()
{
  if
  :: empty (line) -> waiters = false
  :: nempty (line) -> skip
  fi
}

/* change, and what follows it: unlocks, and wakes those that were served */
inline change (n)
{
  add = n;
  sub = 0;
  n_served = 0;
  do
  :: nempty (line) ->
    line ? <other>;
    if
    :: units + add >= sub + need[other] ->
      line ? other;
      linked[other] = false;
      sub = sub + need[other];
      served[n_served] = other;
      n_served++
    :: else -> break
    fi
  :: empty (line) -> break
  od;
#if BROKEN == 4
  note_if_empty ();
#endif
  atomic { assert (units + add >= sub); units = units + add - sub };
  note_if_empty ();
  give_lock ();
  do
  :: n_served > 0 -> n_served--; fired[served[n_served]] = true
  :: n_served == 0 -> break
  od
}

inline release ()
{
  /* permit_release, give */
  atomic {
    done = !waiters;
    if
    :: done -> units = units + need[me]
    :: else -> skip
    fi
  }
  if
  :: done -> skip
  :: else ->
    /* belay_semaphore_give_slow */
    take_lock ();
    change (need[me])
  fi
}

proctype fiber (byte me)
{
  bool has = false, done = false, patient, enough;
  byte other, n_served, add, sub;
  byte served[N];

  if
  :: need[me] = 1; patient = true
  :: need[me] = 1; patient = false
  :: need[me] = 2; patient = !kept
  :: need[me] = 2; patient = false
  fi;

  /* try_take */
  atomic {
    if
    :: units >= need[me] && !waiters -> units = units - need[me]; has = true
    :: else -> skip
    fi
  }
  if
  :: has -> skip
  :: else ->
    /* belay_semaphore_take_slow, take_or_append */
    fired[me] = false;
    take_lock ();
#if BROKEN == 2
    enough = empty (line);
    enough = enough && units >= need[me];
    if
    :: enough -> atomic { if :: units >= need[me] -> units = units - need[me]; has = true :: else -> waiters = true fi }
    :: else -> waiters = true
    fi;
#else
    enough = empty (line);
    atomic {
      if
      :: enough && units >= need[me] -> units = units - need[me]; has = true
      :: else -> waiters = true
      fi
    }
#endif
    if
    :: has -> give_lock ()
    :: else ->
      line ! me;
      linked[me] = true;
      give_lock ();
      /* belay_turn_wait */
      if
      :: fired[me] -> has = true
      :: !patient ->
        take_lock ();
        if
        :: linked[me] ->
          line ?? eval (me);
          linked[me] = false;
          give_lock ();
          /* after_leaving */
          take_lock ();
#if BROKEN == 3
          note_if_empty ();
          give_lock ()
#else
          change (0)
#endif
        :: else ->
          give_lock ();
#if BROKEN == 1
          skip
#else
          fired[me];
          has = true
#endif
        fi
      fi
    fi
  fi;

  if
  :: has ->
    out = out + need[me];
    assert (out <= TOTAL);
    out = out - need[me];
    release ()
  :: else -> skip
  fi
}

init
{
  byte i = 0;

  atomic {
    if
    :: skip
    :: kept = true; units--; out++
    fi;
    do
    :: i < N -> run fiber (i); i++
    :: else -> break
    od
  }
  _nr_pr == 1;
  assert (units + out == TOTAL && out == kept && !waiters && empty (line))
}
