# SPDX-License-Identifier: LGPL-2.1-or-later
"""`bench/run sync`: locks, semaphores, channels and pools beside asyncio, libdex and GLib."""

import turns

SECONDS = 240                           # for one run of one contender

# row, what it is, unit, goal, goal when pinned to one CPU
ROWS = [
    ('lock', 'lock, uncontended', 'ns', 18, 18),
    ('lock-line-10', 'lock, a hand-off, 10 wait', 'ns', None, None),
    ('lock-line-1000', 'the same, 1,000 wait', 'ns', None, None),
    ('lock-line-100000', 'the same, 100,000 wait', 'ns', None, None),
    ('semaphore', 'semaphore, uncontended', 'ns', 18, 18),
    ('semaphore-1000', '1,000 fibers over 10 permits, each', 'ns', 120, 120),
    ('semaphore-line-10', 'semaphore, a hand-off, 10 wait', 'ns', None, None),
    ('semaphore-line-1000', 'the same, 1,000 wait', 'ns', None, None),
    ('semaphore-line-100000', 'the same, 100,000 wait', 'ns', None, None),
    ('channel', 'channel of 100, an item', 'ns', 40, 40),
    ('channel-rendezvous', 'channel of 0, an item', 'ns', None, None),
    ('channel-loops', 'channel of 100, an item to another thread', 'ns', None, None),
    ('channel-line-10', 'channel, an item, 10 wait for it', 'ns', None, None),
    ('channel-line-1000', 'the same, 1,000 wait', 'ns', None, None),
    ('channel-line-100000', 'the same, 100,000 wait', 'ns', None, None),
    ('pool', 'pool: acquire, return, uncontended', 'ns', 100, 100),
    ('pool-1000', 'pool of 10, 1,000 fibers, each time', 'ns', 300, 300),
    ('pool-line-10', 'pool, a hand-off, 10 wait', 'ns', None, None),
    ('pool-line-1000', 'the same, 1,000 wait', 'ns', 300, 300),
    ('pool-line-100000', 'the same, 100,000 wait', 'ns', None, None),
    ('lock-fiber-bytes', 'a fiber that waits for a lock, memory', 'bytes', None, None),
    ('lock-future-bytes', 'a future that waits for a lock, memory', 'bytes', None, None),
    ('semaphore-future-bytes', 'the same, for a permit', 'bytes', None, None),
    ('pool-fiber-bytes', 'a fiber that waits for a pool, memory', 'bytes', None, None),
    ('pool-future-bytes', 'a future that waits for a pool, memory', 'bytes', None, None),
    ('pool-idle-bytes', 'an idle resource of a pool, memory', 'bytes', None, None),
]


def bench(here, build, runs):
    contenders = turns.find_contenders(here, build, 'bench-sync', 'sync.py', ['sync'])
    return turns.compare('sync', ROWS, contenders, runs, SECONDS), None
