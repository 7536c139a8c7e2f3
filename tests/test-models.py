#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks the models in tests/models with spin: what each shows holds in all interleavings.

    test-models.py [BUILD-FOLDER]

A model's head names the functions that it stands for, which must be there, and ways to break it (BROKEN=1 …), each of which
spin must refute: so it is shown that the model can fail. Output: TAP.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent
MODELS = sorted((SOURCE / 'tests' / 'models').glob('*.pml'))


def stands_for(head):
    """(file, function) of each function that the head names."""
    file = None
    text = head.split('Stands for:', 1)[1].split('\n *\n', 1)[0]
    for word in re.sub(r'[*:]', ' ', text).split():
        if '/' in word:
            file = word
        else:
            yield file, word


def missing(head):
    for file, function in stands_for(head):
        path = SOURCE / file
        if not path.exists() or not re.search(rf'^{function} \(|\b{function} \(BelayFuture|inline .*\n{function} \(',
                                              path.read_text(), re.M):
            yield f'{function} is not in {file}'


def check(model, broken):
    """What spin said: the number of errors and states, and the trail of the first."""
    with tempfile.TemporaryDirectory() as folder:
        defines = [f'-DBROKEN={broken}']
        subprocess.run(['spin', *defines, '-a', model], cwd=folder, check=True, capture_output=True, text=True)
        compiler = os.environ.get('CC', 'cc').split()
        subprocess.run([*compiler, '-O1', '-w', '-DSAFETY', '-DMEMLIM=2048', '-o', 'pan', 'pan.c'], cwd=folder, check=True,
                       capture_output=True, text=True)
        said = subprocess.run(['./pan', '-m1000000'], cwd=folder, capture_output=True, text=True, timeout=240).stdout
        errors = re.search(r'errors: (\d+)', said)
        states = re.search(r'(\d+) states, stored', said)
        incomplete = 'Search not completed' in said and not (errors and int(errors[1]))
        why = re.search(r'pan:\d+: (.*)', said)
        if errors is None or states is None or incomplete or 'max search depth too small' in said:
            return None, 0, said
        return int(errors[1]), int(states[1]), why[1] if why else ''


def main():
    if not shutil.which('spin') or not shutil.which(os.environ.get('CC', 'cc').split()[0]):
        print('1..0 # SKIP spin or a C compiler is not installed')
        return 0
    cases = []
    for model in MODELS:
        head = model.read_text().split('*/', 2)[1]
        cases.append((model, head, 0))
        cases += [(model, head, int(number)) for number in re.findall(r'^ \* BROKEN=(\d+):', head, re.M)]
    print(f'1..{len(cases)}')
    failed = 0
    for number, (model, head, broken) in enumerate(cases, 1):
        errors, states, why = check(model, broken)
        problems = list(missing(head)) if broken == 0 else []
        if errors is None:
            problems.append(f'the search was not completed: {why}')
        elif broken == 0 and errors > 0:
            problems.append(f'refuted: {why}')
        elif broken > 0 and errors == 0:
            problems.append('broken, and not refuted')
        name = f'/models/{model.stem}' + (f'-broken-{broken}-is-refuted' if broken else '')
        failed += bool(problems)
        print(f'{"not ok" if problems else "ok"} {number} - {name}', flush=True)
        print(f'# {states} states' + (f', {why}' if why and errors else ''))
        for problem in problems:
            print('# ' + problem.replace('\n', '\n# '))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
