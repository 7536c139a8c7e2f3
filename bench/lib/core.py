# SPDX-License-Identifier: LGPL-2.1-or-later
"""`bench/run core`: the library's ground beside asyncio, libdex and GLib.

Each contender is a program that prints `row<TAB>figure` lines.  Ours prints
also `glib:row<TAB>figure` and `limit:row<TAB>figure`, measured in the same run.
"""

import os
import statistics
from collections import defaultdict

import process
import report
from failure import Failure
from report import Row

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
    ('channel', 'channel, an item', 'ns', 40, 40),
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
    contenders = find_contenders(here, build)
    rows = []
    for placement, cpu in (('free', None), ('pinned', min(os.sched_getaffinity(0)))):
        medians = measure(contenders, runs, placement, cpu)
        placed = list(make_rows(medians, pinned=cpu is not None))
        where = f'pinned to CPU {cpu}' if cpu is not None else 'free'
        report.print_table(f'core, {where}: medians of {runs} runs in turn, '
                           '(n×) = theirs to ours', placed)
        rows += placed
    return rows, None


def find_contenders(here, build):
    """name → argv, in the order they are run in."""
    ours = os.path.join(build, 'bench', 'bench-core')
    libdex = os.path.join(build, 'bench', 'bench-libdex')
    asyncio = os.path.join(here, 'peers', 'core.py')
    process.need(ours, 'build it (meson compile), or say --build DIR')
    process.need_python([])
    contenders = {'ours': [ours], 'asyncio': [process.PYTHON, asyncio]}
    if process.python_has('uvloop'):
        contenders['asyncio+uvloop'] = [process.PYTHON, asyncio, '--uvloop']
    if os.access(libdex, os.X_OK):
        contenders['libdex'] = [libdex]
    return contenders


def measure(contenders, runs, placement, cpu):
    """(who, row) → median."""
    figures = defaultdict(list)
    for number in range(1, runs + 1):
        for name, argv in contenders.items():
            report.progress(f'{placement}, run {number} of {runs}: {name}')
            output, _ = process.run(argv, SECONDS, cpu)
            for who, row, value in parse(name, output):
                figures[who, row].append(value)
    report.progress('')
    return {key: statistics.median(values) for key, values in figures.items()}


def parse(name, output):
    for line in output.splitlines():
        row, tab, value = line.partition('\t')
        who, colon, rest = row.partition(':')
        try:
            yield (who, rest, float(value)) if colon else (name, row, float(value))
        except ValueError:
            raise Failure(f'{name} printed what is no figure: {line!r}') from None


def make_rows(medians, pinned):
    known = [row[0] for row in ROWS]
    others = dict.fromkeys(row for _, row in medians if row not in known)
    peers = [who for who in dict.fromkeys(who for who, _ in medians) if who not in ('ours', 'limit')]
    names = {'glib': 'GLib'}
    for name, title, unit, goal, goal_pinned in [*ROWS, *((row, row, 'ns', None, None) for row in others)]:
        if not any(row == name for _, row in medians):
            continue
        yield Row(name=name + '@pinned' * pinned, title=title, unit=unit,
                  ours=medians.get(('ours', name)),
                  peers={names.get(who, who): medians[who, name] for who in peers if (who, name) in medians},
                  limit=medians.get(('limit', name)),
                  goal=goal_pinned if pinned else goal)
