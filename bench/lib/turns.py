# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that print `row<TAB>figure` lines, run in turn, free and pinned.

Ours prints also `glib:row<TAB>figure` and `limit:row<TAB>figure`, measured in the same run.
"""

import os
import statistics
from collections import defaultdict

import process
import report
from failure import Failure
from report import Row


def compare(title, known, contenders, runs, seconds):
    """known: of (row, what it is, unit, goal, goal when pinned to one CPU).  contenders: name → argv, in the order they are run in."""
    rows = []
    for placement, cpu in (('free', None), ('pinned', min(os.sched_getaffinity(0)))):
        medians = measure(contenders, runs, seconds, placement, cpu)
        placed = list(make_rows(known, medians, pinned=cpu is not None))
        where = f'pinned to CPU {cpu}' if cpu is not None else 'free'
        report.print_table(f'{title}, {where}: medians of {runs} runs in turn, '
                           '(n×) = theirs to ours', placed)
        rows += placed
    return rows


def find_contenders(here, build, name, twin, libdex):
    """Ours, the same in asyncio, and, where it is there, libdex, of which `libdex` are the arguments."""
    ours = os.path.join(build, 'bench', name)
    dex = os.path.join(build, 'bench', 'bench-libdex')
    asyncio = os.path.join(here, 'peers', twin)
    process.need(ours, 'build it (meson compile), or say --build DIR')
    process.need_python([])
    contenders = {'ours': [ours], 'asyncio': [process.PYTHON, asyncio]}
    if process.python_has('uvloop'):
        contenders['asyncio+uvloop'] = [process.PYTHON, asyncio, '--uvloop']
    if os.access(dex, os.X_OK):
        contenders['libdex'] = [dex, *libdex]
    return contenders


def measure(contenders, runs, seconds, placement, cpu):
    """(who, row) → median."""
    figures = defaultdict(list)
    for number in range(1, runs + 1):
        for name, argv in contenders.items():
            report.progress(f'{placement}, run {number} of {runs}: {name}')
            output, _ = process.run(argv, seconds, cpu)
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


def make_rows(known, medians, pinned):
    names = [row[0] for row in known]
    others = dict.fromkeys(row for _, row in medians if row not in names)
    peers = [who for who in dict.fromkeys(who for who, _ in medians) if who not in ('ours', 'limit')]
    written = {'glib': 'GLib'}
    for name, title, unit, goal, goal_pinned in [*known, *((row, row, 'ns', None, None) for row in others)]:
        if not any(row == name for _, row in medians):
            continue
        yield Row(name=name + '@pinned' * pinned, title=title, unit=unit,
                  ours=medians.get(('ours', name)),
                  peers={written.get(who, who): medians[who, name] for who in peers if (who, name) in medians},
                  limit=medians.get(('limit', name)),
                  goal=goal_pinned if pinned else goal)
