/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Spawning against closing: threads spawn into a scope, and so do its children, while its home closes it.
 *
 * Stands for: src/scope/task.c: belay_task_start belay_task_refuse conclude
 *             src/scope/scope-close.c: belay_scope_leave join belay_scope_finish try_to_end
 *
 * Shows: no child runs once releases have begun, and none is there when the scope is closed (L26); each spawn is accepted or
 * refused, and what it was given is destroyed exactly once either way (L28); while a child lives it can spawn, also during the
 * close; the close ends.
 *
 * The closer and the children are fibers of one thread: whoever of them runs has `home`. Spawners are other threads.
 *
 * BROKEN=1: a spawn is accepted while the scope is joining, whether a child lives or not.
 * BROKEN=2: a spawn looks at the state before it takes the lock.
 * BROKEN=3: the last child does not wake the closer.
 */
#ifndef BROKEN
#define BROKEN 0
#endif
#define SPAWNERS 2
#define TASKS 4 /* SPAWNERS, and one child of each */

mtype = { OPEN, JOINING, RELEASING, CLOSED };

mtype state = OPEN;      /* under the lock, as the next two */
byte n_children = 0;     /* read without it by the closer */
bool has_closer = false;
bool lock = false;
bool home = false;
bool woken = false;
byte destroyed[TASKS];

inline take_lock () { atomic { !lock -> lock = true } }
inline give_lock () { lock = false }
inline take_home () { atomic { !home -> home = true } }
inline give_home () { home = false }

/* belay_task_start: sets `accepted`. */
inline start (task)
{
#if BROKEN == 2
  accepted = state == OPEN || (state == JOINING && n_children > 0);
  take_lock ();
#else
  take_lock ();
#if BROKEN == 1
  accepted = state == OPEN || state == JOINING;
#else
  accepted = state == OPEN || (state == JOINING && n_children > 0);
#endif
#endif
  if
  :: accepted -> n_children++
  :: else -> skip
  fi;
  give_lock ();
  if
  :: accepted -> run child (task)
  :: else -> destroyed[task]++ /* belay_task_refuse */
  fi
}

proctype child (byte task)
{
  bool accepted, last;

  take_home ();
  assert (state == OPEN || state == JOINING);
  if
  :: task < SPAWNERS ->
    start (task + SPAWNERS);
    assert (accepted); /* a live child can spawn */
    give_home ();      /* it waits for something */
    take_home ()
  :: else -> skip
  fi;
  assert (state == OPEN || state == JOINING);
  destroyed[task]++;
  /* conclude, belay_scope_leave */
  take_lock ();
  n_children--;
  last = n_children == 0 && has_closer;
  give_lock ();
#if BROKEN != 3
  if
  :: last -> woken = true
  :: else -> skip
  fi;
#endif
  give_home ()
}

proctype spawner (byte task)
{
  bool accepted;

  start (task);
  if
  :: !accepted -> destroyed[task + SPAWNERS]++ /* its child's, which there is not */
  :: else -> skip
  fi
}

proctype closer ()
{
  take_home ();
  take_lock ();
  state = JOINING;
  has_closer = true;
  give_lock ();
  /* join */
  do
  :: n_children == 0 -> break
  :: else ->
    woken = false;
    give_home ();
    woken;
    take_home ()
  od;
  take_lock ();
  state = RELEASING;
  give_lock ();
  /* Releases wait, and others of the thread run meanwhile. */
  give_home ();
  take_home ();
  /* try_to_end */
  take_lock ();
  assert (n_children == 0);
  state = CLOSED;
  has_closer = false;
  give_lock ();
  give_home ()
}

init
{
  byte i = 0;

  atomic {
    do
    :: i < SPAWNERS -> run spawner (i); i++
    :: else -> break
    od;
    run closer ()
  }
  _nr_pr == 1;
  assert (state == CLOSED && n_children == 0);
  i = 0;
  do
  :: i < TASKS -> assert (destroyed[i] == 1); i++
  :: else -> break
  od
}
