/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A future: two threads complete it, while the fiber that waits for it is cancelled at some moment and drops it.
 *
 * Stands for: src/core/future.c: lock_pending publish settle close_questions ask_once belay_future_unref
 *               belay_future_unref_writer belay_future_add_waiter belay_future_remove_waiter
 *             src/run/fiber.c: await_pending
 *
 * Shows: one completion wins, and the other is told so (L18); each value is delivered to the waiter or destroyed, exactly once
 * (L21); a waiter that has left is not notified; on_cancel is called at most once, not after its data was destroyed, and that is
 * destroyed exactly once; the block is freed once, and nobody touches it afterwards.
 *
 * The reference count is one word: interests and writing ends change together, in atomic steps.
 *
 * BROKEN=1: a waiter that is cancelled just when the future settles leaves before its notification has come.
 * BROKEN=2: the settler destroys on_cancel's data without asking whether it is running.
 * BROKEN=3: a completion that comes too late forgets its value.
 * BROKEN=4: the last interest does not become a writing end while the work is asked to end.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define BROKEN_PROMISE 3 /* the value that is an error: 1 and 2 are the completers' */

byte status = 0;           /* 0 pending, 1 settled */
bool lock_bit = false;
bool linked = false;       /* the one waiter */
bool waits = false;        /* its memory is there */
bool fired = false;
byte interests = 1, writers = 2;
byte kept = 0;             /* the value inside */
bool taken = false;
bool asked = false, closed = false;
byte cancel_calls = 0, data_destroyed = 0;
byte over[4];              /* by value: delivered or destroyed */
byte n_won = 0;
bool freed = false;

inline touch () { assert (!freed) }

inline free_block ()
{
  d_step {
    assert (!freed);
    freed = true;
    if
    :: status == 1 && !taken -> over[kept]++
    :: else -> skip
    fi
  }
}

/* Sets `won`. */
inline settle (value)
{
  touch ();
  atomic {
    if
    :: status == 1 -> won = false
    :: status == 0 && !lock_bit -> lock_bit = true; won = true
    fi
  }
  if
  :: won ->
    kept = value;
    /* publish: one store ends the lock, and takes the list. */
    atomic { touch (); status = 1; lock_bit = false; was_linked = linked; linked = false }
    if
    :: was_linked -> atomic { assert (waits); fired = true }
    :: else -> skip
    fi;
    /* close_questions */
    touch ();
#if BROKEN == 2
    data_destroyed++
#else
    atomic { first = !asked && !closed; closed = true }
    if
    :: first -> data_destroyed++
    :: else -> skip
    fi
#endif
  :: else -> skip
  fi
}

inline unref_writer ()
{
  do
  :: touch ();
    atomic { seen_interests = interests; seen_writers = writers }
    if
    :: seen_writers == 1 && status == 0 -> settle (BROKEN_PROMISE)
    :: else -> skip
    fi;
    if
    :: seen_interests == 0 && seen_writers == 1 -> free_block (); break
    :: else ->
      atomic {
        done = interests == seen_interests && writers == seen_writers;
        if
        :: done -> writers--
        :: else -> skip
        fi
      }
      if
      :: done -> break
      :: else -> skip
      fi
    fi
  od
}

proctype completer (byte value)
{
  bool won, was_linked, first, done, gives_up;
  byte seen_interests, seen_writers;

  if
  :: gives_up = false
  :: gives_up = true /* drops its end without an answer */
  fi;
  if
  :: gives_up -> over[value]++
  :: else ->
    settle (value);
    if
    :: won -> n_won++
#if BROKEN == 3
    :: else -> skip
#else
    :: else -> over[value]++
#endif
    fi
  fi;
  unref_writer ()
}

proctype waiter ()
{
  bool won, was_linked, first, done, added, removed, last;
  byte seen_interests, seen_writers;

  waits = true;
  /* belay_future_add_waiter */
  atomic {
    touch ();
    if
    :: status == 1 -> added = false
    :: status == 0 && !lock_bit -> linked = true; added = true
    fi
  }
  removed = false;
  if
  :: added ->
    if
    :: fired -> skip
    :: true -> /* cancelled: belay_future_remove_waiter */
      atomic {
        touch ();
        if
        :: status == 1 -> removed = false
        :: status == 0 && !lock_bit -> linked = false; removed = true
        fi
      }
      if
      :: removed -> skip
#if BROKEN == 1
      :: else -> removed = true
#else
      :: else -> fired
#endif
      fi
    fi
  :: else -> skip
  fi;
  waits = false;
  if
  :: removed -> skip
  :: else -> atomic { touch (); assert (status == 1 && !taken); taken = true; over[kept]++ }
  fi;

  /* belay_future_unref */
  atomic {
    touch ();
    if
    :: interests == 1 && writers == 0 -> last = false; done = true
    :: else ->
      last = true;
      done = false;
      interests--;
#if BROKEN == 4
      skip
#else
      writers++
#endif
    fi
  }
  if
  :: done -> free_block ()
  :: last ->
    touch ();
    if
    :: status == 0 ->
      /* ask_once */
      atomic { first = !asked && !closed; asked = true }
      if
      :: first ->
        assert (data_destroyed == 0);
        cancel_calls++;
        assert (data_destroyed == 0);
        data_destroyed++
      :: else -> skip
      fi
    :: else -> skip
    fi;
#if BROKEN == 4
    skip
#else
    unref_writer ()
#endif
  fi
}

init
{
  atomic {
    run completer (1);
    run completer (2);
    run waiter ()
  }
  _nr_pr == 1;
  assert (freed && n_won <= 1);
  assert (over[1] == 1 && over[2] == 1);
  assert (cancel_calls <= 1 && data_destroyed == 1)
}
