# SPDX-License-Identifier: LGPL-2.1-or-later
"""`bench/run core`: the library's ground beside asyncio, libdex and GLib."""

import turns

SECONDS = 120                           # for one run of one contender

# row, what it is, unit, goal, goal when pinned to one CPU
ROWS = [
    ('future-resolved', 'resolved future: make, free', 'ns', 10, 10),
    ('promise', 'promise: make, resolve, read, free', 'ns', 30, 30),
    ('promise-then', 'promise with one then', 'ns', 70, 70),
    ('await-resolved', 'await of a resolved future', 'ns', 20, 20),
    ('spawn-await', 'spawn and await a fiber', 'ns', 60, 60),
    ('spawn-batch', 'spawn and finish, batch of 10,000', 'ns', 40, 40),
    ('suspend-batch', 'the same, each suspends once, warm', 'ns', 70, 70),
    ('suspend-batch-cold', 'the same, cold', 'ns', 2500, 2500),
    ('yield-1000', 'yield among 1,000 fibers', 'ns', 12, 12),
    ('ping-pong', 'ping-pong of two fibers', 'ns', 60, 60),
    ('guard', 'guard: enter, exit', 'ns', 15, 15),
    ('manager', 'manager function: enter, exit', 'ns', 120, 120),
    ('scope-10', 'scope of 10 entries: enter, unwind', 'ns', 200, 200),
    ('group-10', 'group of 10 children: spawn, join', 'ns', None, None),
    ('shield', 'shield: enter, exit', 'ns', None, None),
    ('lock', 'lock, uncontended', 'ns', 18, 18),
    ('semaphore', 'semaphore, uncontended', 'ns', 18, 18),
    ('semaphore-1000', '1,000 fibers over 10 permits, each', 'ns', 120, 120),
    ('timeout', 'timeout: enter, exit', 'ns', 35, 35),
    ('timeout-suspend', 'the same, with a suspension inside', 'ns', 60, 60),
    ('guard-leaks', 'guard, with BELAY_DEBUG=leaks', 'ns', None, None),
    ('timeout-leaks', 'timeout, with BELAY_DEBUG=leaks', 'ns', None, None),
    ('manager-leaks', 'manager function, with BELAY_DEBUG=leaks', 'ns', None, None),
    ('thread-roundtrip', 'to a thread and back, median', 'ns', 1000, 4000),
    ('thread-roundtrip-p90', 'to a thread and back, 90th percentile', 'ns', 3000, None),
    ('thread-jobs', 'trivial jobs on the pool, a job', 'ns', 100, 100),
    ('fibers-30000-bytes', '30,000 fibers alive, memory each', 'bytes', 4700, 4700),
    ('idle-cpu', 'CPU while idle', '%', 0.1, 0.1),
]


def bench(here, build, runs):
    contenders = turns.find_contenders(here, build, 'bench-core', 'core.py', [])
    return turns.compare('core', ROWS, contenders, runs, SECONDS), None
