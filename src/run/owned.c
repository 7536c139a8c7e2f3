/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Owned: what a fiber has that nobody else can give back.
 *
 * A permit can be given back by anybody; a lock only by the fiber that acquired it. So if that fiber ends and has it still, those who
 * wait would wait for ever. Each fiber has a list of what it owns, which takes no memory, since the links are in the locks: to own
 * something costs a few stores, and the end of a fiber that owns nothing one load.
 *
 * Who is the owner, what is owned says itself, under its own lock: a lock is handed over on any thread. The list is the owner's alone. It
 * adds what it got when it runs again, and takes it out before it gives it back.
 *
 * Invariants
 *   1. What is in a fiber's list has it as its owner. What has an owner is in its list, unless that has not run since it was granted.
 *   2. The list of a fiber that has ended is empty, so the address of a fiber may be compared with `fiber` though it is another's by now.
 */
#include "run/owned.h"

void
belay_owned_end (BelayFiber *fiber)
{
  BelayOwned *owned;

  while ((owned = fiber->stack->owned) != NULL)
    {
      belay_owned_remove (fiber, owned);
      owned->left_behind (owned);
    }
}

void
belay_owned_describe (const char *spawned, const char *site, GString *text)
{
  if (spawned != NULL)
    g_string_append_printf (text, "the fiber from %s", spawned);
  else
    g_string_append (text, "somebody");
  if (site != NULL)
    g_string_append_printf (text, ", who took it at %s", site);
}
