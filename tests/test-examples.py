#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the examples, and compares what they print with the files NAME.expected beside their sources.

    test-examples.py BUILD-FOLDER

What a program prints is its output and its errors in the order in which they came, and a last line `exit status N`
when that is not 0. Sleeping examples cost no time: they run by a virtual clock. Output: TAP.
"""

import difflib
import os
import re
import subprocess
import sys

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'examples')

# A line of a source, in an error: where the source is depends on where it was built.
LINE = re.compile(r'\([^()\s]*/([\w.-]+\.c:\d+)\)')

# Arguments without which they print something else each time: GLib's test framework draws a number.
ARGUMENTS = {'09-test': ['--seed=R02S00000000000000000000000000000000']}

# Examples that are run with an argument, too: (program, arguments, file with what it prints).
WITH_ARGUMENTS = [
    # Opens, but cannot be read: an I/O error.
    ('scenarios/s06-file', ['/proc/self/mem'], 'scenarios/s06-file.unreadable.expected'),
    # A part that does not start.
    ('scenarios/s07-lifespan', ['broken'], 'scenarios/s07-lifespan.broken.expected'),
]


def find_cases():
    for folder in ('', 'scenarios'):
        for name in sorted(os.listdir(os.path.join(SOURCES, folder))):
            base, extension = os.path.splitext(name)
            if extension == '.c':
                program = os.path.join(folder, base)
                yield program, ARGUMENTS.get(program, []), program + '.expected'
    yield from WITH_ARGUMENTS


def run(path, arguments):
    environment = {**os.environ, 'BELAY_DEBUG': 'virtual-clock', 'G_DEBUG': 'fatal-criticals', 'LC_ALL': 'C.UTF-8'}
    done = subprocess.run([path, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60)
    text = LINE.sub(r'(\1)', done.stdout.decode(errors='replace'))
    return text + f'exit status {done.returncode}\n' if done.returncode else text


def check(path, arguments, expected):
    """What is wrong, as lines; none: nothing."""
    try:
        with open(os.path.join(SOURCES, expected), encoding='utf-8') as file:
            wanted = file.read()
        got = run(path, arguments)
    except OSError as error:
        return [str(error)]
    except subprocess.TimeoutExpired:
        return ['did not end within 60 s']
    return list(difflib.unified_diff(wanted.splitlines(), got.splitlines(), 'expected', 'printed', lineterm=''))


def main():
    build = sys.argv[1]
    cases = list(find_cases())
    failures = 0
    print(f'1..{len(cases)}')
    for number, (program, arguments, expected) in enumerate(cases, 1):
        path = os.path.join(build, 'examples', program)
        name = ' '.join([program, *arguments])
        if not os.path.exists(path):
            print(f'ok {number} {name} # SKIP not built', flush=True)
            continue
        problems = check(path, arguments, expected)
        failures += bool(problems)
        print(f'{"not ok" if problems else "ok"} {number} {name}', flush=True)
        for line in problems[:40]:
            print(f'# {line}')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
