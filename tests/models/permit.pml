/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hand-off of a permit, between fibers that may be cancelled at any moment, each on a thread of its own.
 *
 * Stands for: src/sync/semaphore-private.h: try_take give
 *             src/sync/semaphore.c: take_or_append note_if_empty after_leaving change belay_semaphore_give_slow
 *             permit_release belay_semaphore_take_slow
 *
 * Shows: two never have the one permit; whoever is not cancelled gets it (else this ends in a deadlock); at the end it is
 * free, and nobody is in the line (L21); with the flag WAITERS set no permit is free (invariant 1).
 *
 * One word holds the free permits and the flag: here two variables that change in one atomic step, as by a compare-and-swap.
 *
 * BROKEN=1: who is cancelled goes, though it was granted the permit meanwhile.
 * BROKEN=2: who queues looks whether a permit is free, and says that somebody waits, in two steps.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define N 3

byte units = 1;            /* the word */
bool waiters = false;
bool lock = false;
chan line = [N] of { byte }; /* under the lock, as all below but `fired` */
bool linked[N];
bool fired[N];
byte holders = 0;

inline take_lock () { atomic { !lock -> lock = true } }
inline give_lock () { lock = false }

inline check_word () { assert (!(waiters && units > 0)) }

inline clear_flag ()
{
  if
  :: empty (line) -> waiters = false
  :: nempty (line) -> skip
  fi
}

inline release ()
{
  /* permit_release, give */
  atomic {
    done = !waiters;
    if
    :: done -> units++
    :: else -> skip
    fi
  }
  if
  :: done -> skip
  :: else ->
    /* belay_semaphore_give_slow */
    take_lock ();
    if
    :: nempty (line) ->
      line ? other;
      linked[other] = false;
      clear_flag ();
      give_lock ();
      fired[other] = true
    :: empty (line) ->
      units++;
      give_lock ()
    fi
  fi
}

proctype fiber (byte me)
{
  bool has = false, done = false, patient, free_seen;
  byte other;

  if
  :: patient = true
  :: patient = false
  fi;

  /* try_take */
  atomic {
    if
    :: units > 0 && !waiters -> units--; has = true
    :: else -> skip
    fi
  }
  if
  :: has -> skip
  :: else ->
    /* belay_semaphore_take_slow, take_or_queue */
    fired[me] = false;
    take_lock ();
#if BROKEN == 2
    free_seen = units > 0 && !waiters;
    if
    :: free_seen -> atomic { if :: units > 0 && !waiters -> units--; has = true :: else -> waiters = true fi }
    :: else -> waiters = true
    fi;
#else
    atomic {
      if
      :: units > 0 && !waiters -> units--; has = true
      :: else -> waiters = true
      fi;
      check_word ()
    }
#endif
    if
    :: has -> give_lock ()
    :: else ->
      line ! me;
      linked[me] = true;
      give_lock ();
      if
      :: fired[me] -> has = true
      :: !patient ->
        take_lock ();
        if
        :: linked[me] ->
          line ?? eval (me);
          linked[me] = false;
          clear_flag ();
          give_lock ()
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
    holders++;
    assert (holders == 1);
    holders--;
    release ()
  :: else -> skip
  fi
}

init
{
  byte i = 0;

  atomic {
    do
    :: i < N -> run fiber (i); i++
    :: else -> break
    od
  }
  _nr_pr == 1;
  assert (units == 1 && !waiters && empty (line))
}
