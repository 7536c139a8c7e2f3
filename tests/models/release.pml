/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Releases of a scope: several threads register resources while two fibers close it.
 *
 * Stands for: src/scope/entry.c: add_entry release_late belay_entries_release
 *             src/scope/scope-close.c: belay_scope_finish join_close try_to_end
 *
 * Shows: each resource is released exactly once, whoever is first (L1, L12); the scope's own are released newest first (L2);
 * when a close has returned, the first or the joining one, all that the scope had accepted is released (L11).
 *
 * BROKEN=1: a registration looks at the state before it takes the lock.
 * BROKEN=2: the second closer does not notice the first.
 * BROKEN=3: the joining closer does not wait.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define N 3

mtype = { OPEN, JOINING, RELEASING, CLOSED };

mtype state = OPEN;       /* under the lock, as the next two; from RELEASING on the list is the closer's */
byte list[N];
byte n_list = 0;
bool lock = false;
bool closed = false;      /* the future that joining closers wait for */
byte released[N];
bool accepted_of[N];

inline take_lock () { atomic { !lock -> lock = true } }
inline give_lock () { lock = false }

proctype registrar (byte me)
{
  bool accepted;

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
    accepted_of[me] = true
  :: else -> skip
  fi;
  give_lock ();
  if
  :: accepted -> skip
  :: else -> released[me]++ /* release_late */
  fi
}

proctype closer ()
{
  bool first;
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
    take_lock ();
    state = RELEASING;
    give_lock ();
    do
    :: n_list > 0 ->
      entry = list[n_list - 1];
      n_list--;
      released[entry]++
    :: else -> break
    od;
    take_lock ();
    state = CLOSED;
    give_lock ();
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
