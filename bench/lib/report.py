# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a benchmark hands out: rows, as a table for people and as JSON."""

import json
import sys
from dataclasses import dataclass, field

from failure import Failure


@dataclass
class Row:
    name: str                           # its id in the JSON
    title: str                          # what people read
    unit: str
    ours: float | None = None
    peers: dict = field(default_factory=dict)
    limit: float | None = None
    goal: float | None = None
    more_is_better: bool = False

    def met(self):
        if self.ours is None or self.goal is None:
            return None
        return self.ours >= self.goal if self.more_is_better else self.ours <= self.goal

    def ratio(self, peer):
        """How many times better ours is than that peer."""
        theirs = self.peers.get(peer)
        if not theirs or not self.ours:
            return None
        return self.ours / theirs if self.more_is_better else theirs / self.ours


def figure(value):
    if value is None:
        return ''
    if abs(value) >= 100:
        return f'{value:,.0f}'
    return f'{value:.1f}' if abs(value) >= 1 else f'{value:.3g}'


def times(ratio):
    if ratio is None:
        return ''
    return f'{ratio:.0f}×' if ratio >= 10 else f'{ratio:.2g}×'


def print_table(title, rows):
    """One line a row; in brackets how many times better ours is than that peer."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row.peers))
    lines = [['', 'unit', 'ours', *peers, 'limit', 'goal', '']]
    for row in rows:
        cells = []
        for peer in peers:
            ratio = times(row.ratio(peer))
            cells.append(figure(row.peers.get(peer)) + (f' ({ratio})' if ratio else ''))
        met = {True: 'met', False: 'MISSED', None: ''}[row.met()]
        lines.append([row.title, row.unit, figure(row.ours), *cells,
                      figure(row.limit), figure(row.goal), met])

    widths = [max(map(len, column)) for column in zip(*lines)]
    print(f'\n{title}\n')
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) if index in (0, 1) else cell.rjust(width)
                 for index, (cell, width) in enumerate(zip(line, widths))]
        print('  '.join(cells).rstrip())
        if number == 0:
            print('-' * (sum(widths) + 2 * (len(widths) - 1)))
    judged = [row.met() for row in rows if row.met() is not None]
    if judged:
        print(f'\n{sum(judged)} of {len(judged)} goals met')
    sys.stdout.flush()


def write_json(path, bench, rows):
    try:
        with open(path, 'w') as file:
            for row in rows:
                file.write(json.dumps({'bench': bench, 'row': row.name, 'unit': row.unit,
                                       'ours': row.ours, 'peers': row.peers,
                                       'limit': row.limit, 'goal': row.goal}) + '\n')
    except OSError as error:
        raise Failure(f'{path}: {error.strerror}') from error


def progress(text):
    """Says on a terminal what is being run; '' wipes it."""
    if sys.stderr.isatty():
        print(f'\r{text}\x1b[K', end='', file=sys.stderr, flush=True)
