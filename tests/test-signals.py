#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGINT and SIGTERM, once, twice and thrice, while a real process starts, runs, stops and is drained: the order of its
releases, its exit status, and how long it takes. The process is tests/signal-victim.c. TAP."""

import os
import signal
import subprocess
import sys
import time

BUILD = sys.argv[1]
VICTIM = os.path.join(BUILD, 'tests', 'signal-victim')

PARTS = {'start': ['outer'], 'run': ['inner', 'middle', 'outer'], 'stop': ['inner', 'middle', 'outer'],
         'drain': ['inner', 'middle', 'outer']}
SIGNALS = {'SIGINT': signal.SIGINT, 'SIGTERM': signal.SIGTERM}
SOON = 30 # s: what is bounded by one second is over by then on however slow a machine; what hangs would take 120


def run(phase, signals, hang, gap=0.15):
    """Returns (what it said, what it said on stderr, its status, seconds from the last signal on)."""
    env = {k: v for k, v in os.environ.items() if k not in ('BELAY_DEBUG', 'G_DEBUG')}
    # what is cut off is not freed
    env['ASAN_OPTIONS'] = env.get('ASAN_OPTIONS', '') + ':detect_leaks=0'
    command = [VICTIM, phase] + (['hang'] if hang else [])
    victim = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    said = []
    while not said or said[-1] != 'ready ' + phase:
        line = victim.stdout.readline()
        if line == '':
            break
        said.append(line.strip())
    for i, number in enumerate(signals):
        if i > 0:
            time.sleep(gap)
        if victim.poll() is None:
            victim.send_signal(number)
    begin = time.monotonic()
    try:
        out, err = victim.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        victim.kill()
        out, err = victim.communicate()
        err += '(killed: it did not end)'
    return said + out.split('\n')[:-1], err, victim.returncode, time.monotonic() - begin


def check(phase, names, hang):
    """Returns None, or what is wrong."""
    numbers = [SIGNALS[name] for name in names]
    said, err, status, seconds = run(phase, numbers, hang)
    story = f'said {said}, status {status}, {seconds:.1f} s, stderr: {err.strip()}'
    # The third one ends it there and then, with its own number; else the first is what it ended for.
    expected = 128 + (numbers[2] if len(numbers) > 2 else numbers[0])
    if status != expected:
        return f'status {status} instead of {expected}: {story}'
    if seconds > SOON:
        return f'it took {seconds:.1f} s: {story}'
    begun = [word.split()[1] for word in said if word.startswith('closing ')]
    ended = [word.split()[1] for word in said if word.startswith(('closed ', 'forced '))]
    if len(numbers) > 2:
        if begun != PARTS[phase][:len(begun)]:
            return f'releases out of order: {story}'
        return None
    if begun != PARTS[phase] or ended != PARTS[phase]:
        return f'not every release ran, once and in its order: {story}'
    if hang and ('forced outer' if phase == 'start' else 'forced middle') not in said:
        return f'what hung was not forced: {story}'
    if not hang and phase != 'stop' and any(word.startswith('forced') for word in said):
        return f'what would have closed was forced: {story}'
    if len(numbers) == 1 and not hang and any(word.startswith('forced') for word in said):
        return f'the first signal cut a release short: {story}'
    if phase == 'drain' and 'belay: not drained: a job on a worker from ' not in err:
        return f'what was not drained is not told: {story}'
    return None


def main():
    cases = []
    for phase in ('start', 'run', 'stop', 'drain'):
        for names in (('SIGINT',), ('SIGTERM',), ('SIGINT', 'SIGINT'), ('SIGTERM', 'SIGTERM'), ('SIGINT', 'SIGTERM'),
                      ('SIGINT', 'SIGINT', 'SIGINT'), ('SIGTERM', 'SIGTERM', 'SIGTERM'), ('SIGINT', 'SIGTERM', 'SIGTERM')):
            cases.append((phase, names, len(names) > 1 and phase != 'drain')) # so that it is there for the third
    cases.append(('run', ('SIGINT',), True)) # by its own bound, 5 s
    print(f'1..{len(cases)}')
    failed = False
    for number, (phase, names, hang) in enumerate(cases, 1):
        problem = check(phase, names, hang)
        name = f'/signals/L49-{phase}-{"-".join(names)}{"-hanging" if hang else ""}'
        print('ok' if problem is None else 'not ok', number, name)
        if problem is not None:
            failed = True
            print('# ' + problem.replace('\n', '\n# '))
        sys.stdout.flush()
    return 1 if failed else 0


sys.exit(main())
