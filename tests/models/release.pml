/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Releases of a scope: several threads register resources, one releases its own early by a handle, while two fibers close it.
 *
 * Stands for: src/scope/entry.c: add_entry release_now belay_entry_unlink take_newest belay_entries_release
 *             src/scope/handle.c: take belay_entry_release
 *             src/scope/scope-close.c: belay_scope_finish join_close try_to_end
 *
 * Shows: each resource is released exactly once, whoever is first (L1, L12, L14); when a close has returned, the first or the
 * joining one, all that the scope had accepted is released, the early one, too (L11).
 *
 * BROKEN=1: a registration looks at the state before it takes the lock.
 * BROKEN=2: the second closer does not notice the first.
 * BROKEN=3: the joining closer does not wait.
 * BROKEN=4: an early release does not count as a child.
 * BROKEN=5: an early release looks whether its entry is armed, and takes it off the list, in two steps.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define N 3

mtype = { OPEN, JOINING, RELEASING, CLOSED };

mtype state = OPEN;       /* under the lock, as the next two; from RELEASING on the list is the closer's */
byte list[N];
byte n_list = 0;
bool armed[N];            /* in the list */
byte n_children = 0;
bool lock = false;
bool closed = false;      /* the future that joining closers wait for */
byte released[N];
bool accepted_of[N];

inline take_lock () { atomic { !lock -> lock = true } }
inline give_lock () { lock = false }

proctype registrar (byte me)
{
  bool accepted, was_armed;

#if BROKEN == 1
  accepted = state == OPEN || state == JOINING;
  take_lock ();
#else
  take_lock ();
  accepted = state == OPEN || state == JOINING;
#endif
  if
  :: accepted ->
    list[n_list] = me;
    n_list++;
    armed[me] = true;
    accepted_of[me] = true
  :: else -> skip
  fi;
  give_lock ();
  if
  :: accepted -> skip
  :: else -> released[me]++ /* release_now */
  fi;

  /* The first has a handle of its entry. */
  if
  :: me == 0 && accepted ->
#if BROKEN == 5
    was_armed = armed[me];
    take_lock ();
#else
    take_lock ();
    was_armed = armed[me];
#endif
    armed[me] = false;
#if BROKEN != 4
    n_children = n_children + (was_armed -> 1 : 0);
#endif
    give_lock ();
    if
    :: was_armed ->
      released[me]++;
#if BROKEN != 4
      take_lock ();
      n_children--;
      give_lock ()
#endif
    :: else -> skip
    fi
  :: else -> skip
  fi
}

proctype closer ()
{
  bool first, ended;
  byte i, entry;

  take_lock ();
  first = state == OPEN;
#if BROKEN == 2
  first = true;
#endif
  if
  :: first -> state = JOINING
  :: else -> skip
  fi;
  give_lock ();
  if
  :: first ->
    n_children == 0; /* join */
    take_lock ();
    state = RELEASING;
    give_lock ();
    do
    :: /* take_newest */
      take_lock ();
      do
      :: n_list > 0 && !armed[list[n_list - 1]] -> n_list--
      :: else -> break
      od;
      if
      :: n_list > 0 ->
        n_list--;
        entry = list[n_list];
        armed[entry] = false;
        give_lock ();
        released[entry]++
      :: else ->
        give_lock ();
        break
      fi
    od;
    do
    :: n_children == 0; /* join */
      take_lock ();
      ended = n_children == 0; /* try_to_end */
      if
      :: ended -> state = CLOSED
      :: else -> skip
      fi;
      give_lock ();
      if
      :: ended -> break
      :: else -> skip
      fi
    od;
    closed = true
  :: else ->
#if BROKEN == 3
    skip
#else
    closed /* join_close */
#endif
  fi;
  /* The close has returned. */
  i = 0;
  do
  :: i < N ->
    assert (!accepted_of[i] || released[i] == 1);
    i++
  :: else -> break
  od
}

init
{
  byte i = 0;

  atomic {
    do
    :: i < N -> run registrar (i); i++
    :: else -> break
    od;
    run closer ();
    run closer ()
  }
  _nr_pr == 1;
  i = 0;
  do
  :: i < N -> assert (released[i] == 1); i++
  :: else -> break
  od;
  assert (n_list == 0 && state == CLOSED)
}
