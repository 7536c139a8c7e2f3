/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hand-off of a lock and of its condition's notifications: two fibers wait, which may be interrupted at any moment, and a future, which
 * may be dropped; one notifies, and somebody may close the condition; each on a thread of its own.
 *
 * Stands for: src/sync/lock.c: belay_lock_want belay_lock_pass_on guard_release
 *             src/sync/condition.c: begin wait_for_lock move_first end_waits pass_notification async_left async_back async_answer
 *             src/run/line.c: belay_turns_wake belay_async_turn_answer on_dropped end_loan
 *
 * Shows: the lock is never had by two; whoever waited has it again (L35); nobody is left behind in a line (else this ends in a deadlock);
 * each notification is taken by one who waits, unless nobody is left who could (L35).
 *
 * What is done under the lock's `spin` is one step here.
 *
 * BROKEN=1: who is interrupted gets in the lock's line without a look whether that is free.
 * BROKEN=2: a future that is dropped in the lock's line keeps its notification.
 * BROKEN=3: a future that is dropped when it has the lock keeps its notification.
 * BROKEN=4: the lock is given back before its owner is in the condition's line.
 * BROKEN=5: who is interrupted goes, though it has been served meanwhile.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define FUTURE 2
#define NOTIFIER 3
#define NOBODY 9

mtype = { NOWHERE, AT_CONDITION, AT_LOCK, NOTHING, NOTIFIED, CLOSED, INTERRUPTED };

bool held = false;
bool closes = false;                    /* it will be closed: else nobody is patient */
bool closed = false;
chan lock_line = [4] of { byte };
chan line = [3] of { byte };
mtype where[4] = NOWHERE;
mtype need[4] = NOTHING;
bool fired[4];
bool dropped = false, answered = false; /* of the promise: which was first is seen by the second */
bool refused = false;                   /* it was answered, with an error */
byte inside = 0, notified = 0, taken = 0, untaken = 0;

/* belay_lock_pass_on: to `next` */
inline pass_on ()
{
  d_step {
    held = false;
    next = NOBODY;
    if
    :: nempty (lock_line) -> lock_line ? next; where[next] = NOWHERE; held = true
    :: empty (lock_line) -> skip
    fi
  }
}

/* move_first */
inline move_first (why)
{
  d_step {
    line ? moved;
    need[moved] = why;
    where[moved] = AT_LOCK;
    lock_line ! moved
  }
}

/* belay_lock_want, of a fiber: `known`, it has it */
inline want ()
{
  d_step {
    known = !held;
    if
    :: known -> held = true; where[me] = NOWHERE
    :: else -> where[me] = AT_LOCK; lock_line ! me
    fi
  }
}

inline wake_fiber ()
{
  if
  :: next != NOBODY -> assert (next != FUTURE); fired[next] = true; next = NOBODY
  :: else -> skip
  fi
}

/* pass_notification, with the lock held, or in anybody's hands: `next` may have it now */
inline pass_notification ()
{
  atomic {
    next = NOBODY;
    if
    :: nempty (line) ->
      move_first (NOTIFIED);
      if
      :: !held -> pass_on ()
      :: else -> skip
      fi
    :: empty (line) -> untaken++
    fi
  };
  wake_fiber ()
}

/* async_back: the guard that nobody took. There is one future, so whoever is next is a fiber. */
inline give_back ()
{
#if BROKEN != 3
  pass_notification ();
#endif
  pass_on ();
  wake_fiber ()
}

/* belay_turns_wake: the future's promise is answered with the guard */
inline wake ()
{
  if
  :: next == FUTURE ->
    next = NOBODY;
    atomic { back = dropped; answered = true };
    if
    :: back -> give_back ()
    :: else -> skip
    fi
  :: else -> wake_fiber ()
  fi
}

inline acquire ()
{
  atomic {
    fired[me] = false;
    want ()
  };
  if
  :: known -> skip
  :: else -> fired[me]
  fi
}

inline use ()
{
  assert (held);
  inside++;
  assert (inside == 1);
  inside--
}

inline release ()
{
  pass_on ();
  wake ()
}

/* begin: `known`, it is in line */
inline begin ()
{
  atomic { need[me] = NOTHING; fired[me] = false };
#if BROKEN == 4
  atomic {
    known = !closed;
    if
    :: known -> pass_on ()
    :: else -> skip
    fi
  };
  atomic {
    if
    :: known -> where[me] = AT_CONDITION; line ! me
    :: else -> skip
    fi
  };
#else
  atomic {
    known = !closed;
    if
    :: known -> where[me] = AT_CONDITION; line ! me; pass_on ()
    :: else -> skip
    fi
  };
#endif
  if
  :: known -> wake ()
  :: else -> skip
  fi
}

proctype fiber (byte me)
{
  byte next = NOBODY, moved;
  bool known, back, patient, gone = false;

  if
  :: patient = closes
  :: patient = false
  fi;
  acquire ();
  use ();
  begin ();
  if
  :: known ->
    /* wait_for_lock */
    if
    :: fired[me]
    :: !patient ->
      known = false;
      atomic {
        if
        :: where[me] == AT_CONDITION ->
          d_step { line ?? eval (me); need[me] = INTERRUPTED };
#if BROKEN == 1
          where[me] = AT_LOCK;
          lock_line ! me
#else
          want ()
#endif
        :: else -> skip
        fi
      };
#if BROKEN == 5
      if
      :: known -> skip
      :: !known && need[me] != INTERRUPTED -> gone = true
      :: else -> fired[me]
      fi
#else
      if
      :: known -> skip
      :: else -> fired[me]
      fi
#endif
    fi
  :: else -> skip
  fi;
  if
  :: gone -> skip
  :: else ->
    use ();
    if
    :: need[me] == NOTIFIED -> taken++
    :: else -> skip
    fi;
    release ()
  fi
}

/* Its owner takes the guard out of it, or drops it; the lock that it begins with is nobody's. */
proctype future ()
{
  byte me = FUTURE, next = NOBODY, moved;
  bool known, back, left;

  atomic {
    known = !held;
    held = true
  };
  if
  :: known ->
    begin ();
    if
    :: known ->
      if
      :: answered ->
        if
        :: refused -> skip
        :: else -> use (); taken++; release ()
        fi
      :: skip ->
        atomic { back = answered && !refused; dropped = true };
        if
        :: back -> give_back () /* the value goes with the last reference */
        :: else ->
          /* on_dropped */
          atomic {
            d_step {
              left = where[FUTURE] != NOWHERE;
              if
              :: where[FUTURE] == AT_CONDITION -> line ?? eval (me)
              :: where[FUTURE] == AT_LOCK -> lock_line ?? eval (me)
              :: else -> skip
              fi;
              where[FUTURE] = NOWHERE
            }
          };
          /* async_left */
          if
#if BROKEN != 2
          :: left && need[FUTURE] == NOTIFIED -> pass_notification ()
#endif
          :: else -> skip
          fi
        fi
      fi
    :: else -> release ()
    fi
  :: else -> skip
  fi
}

proctype notifier ()
{
  byte me = NOTIFIER, next = NOBODY, moved;
  bool known, back;

  acquire ();
  use ();
  atomic {
    if
    :: nempty (line) -> move_first (NOTIFIED); notified++
    :: empty (line) -> skip
    fi
  };
  release ()
}

/* belay_condition_close, end_waits */
proctype closer ()
{
  byte next = NOBODY, moved;
  bool back, refuse = false;

  atomic {
    closed = true;
    do
    :: nempty (line) ->
      line ? <moved>;
      if
      :: moved == FUTURE -> line ? moved; where[FUTURE] = NOWHERE; refuse = true
      :: else -> move_first (CLOSED)
      fi
    :: empty (line) -> break
    od;
    if
    :: !held -> pass_on ()
    :: else -> skip
    fi
  };
  if
  :: refuse -> atomic { refused = true; answered = true }
  :: else -> skip
  fi;
  wake ()
}

init
{
  atomic {
    run future ();
    run fiber (0);
    run fiber (1);
    run notifier ();
    if
    :: closes = true; run closer ()
    :: skip
    fi
  }
  _nr_pr == 1;
  assert (!held && empty (line) && empty (lock_line));
  assert (notified == taken + untaken)
}
