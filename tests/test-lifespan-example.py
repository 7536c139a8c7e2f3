#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs examples/lifespan as its users do: training, classifying, and what is wrong with its files.

    test-lifespan-example.py BUILD-FOLDER

Output: TAP.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

PROGRAM = pathlib.Path(sys.argv[1]).resolve() / 'examples' / 'lifespan' / 'lifespan'
SENTENCES = pathlib.Path(__file__).resolve().parent.parent / 'examples' / 'lifespan' / 'languages.tsv'


def run(folder, *arguments, text=None):
    done = subprocess.run([PROGRAM, *arguments], cwd=folder, input=text, capture_output=True, timeout=60,
                          env={**os.environ, 'LC_ALL': 'C.UTF-8', 'TMPDIR': str(folder)})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def labels(out):
    return [line.split('\t')[0] for line in out.splitlines()]


def test_demonstration(folder):
    """without arguments it trains, classifies, and finds all in its cache the second time"""
    status, out, err = run(folder)
    assert status == 0 and err == '', (status, err)
    texts = [line.split('\t')[:2] for line in out.splitlines() if '\t' in line]
    assert [label for label, _ in texts] == ['en', 'de', 'fr', 'es'] * 2, texts
    assert [how for _, how in texts[4:]] == ['cached'] * 4, texts
    assert os.listdir(folder) == [], 'it left something behind'


def test_order(folder):
    """parts start in the order of what they need, and stop in reverse"""
    run(folder, 'train')
    status, out, _ = run(folder, 'classify', '--verbose', 'Where is it?')
    lines = out.splitlines()
    assert status == 0
    at = lines.index
    assert at('database is running') < at('cache is starting') < at('cache is running')
    assert at('cache is stopped') < at('database is stopping')
    serving = [number for number, line in enumerate(lines) if '\t' in line]
    assert max(at(f'{part} is running') for part in ('database', 'cache', 'model')) < serving[0] < at('cache is stopping')


def test_held_out(folder):
    """it is right about nine of ten sentences that it has not seen"""
    status, out, _ = run(folder, 'train')
    assert status == 0 and 'trained on 220 sentences' in out, out
    assert int(out.split('(')[1].split(' %')[0]) >= 90, out


def test_input(folder):
    """it reads lines from the standard input, and remembers them for the next time"""
    run(folder, 'train', str(SENTENCES))
    text = 'The weather is fine.\n\nDas Wetter ist schön.\n'.encode()
    status, out, _ = run(folder, 'classify', text=text)
    assert status == 0 and labels(out) == ['en', 'de'] and 'cached' not in out, out
    status, out, _ = run(folder, 'classify', text=text)
    assert status == 0 and out.count('cached') == 2, out
    assert sorted(os.listdir(folder)) == ['labels.db', 'model.txt'], os.listdir(folder)


def test_missing_model(folder):
    """a model that is not there: the parts that were started are stopped, and the error names the part"""
    status, out, err = run(folder, 'classify', '-v', 'Hello')
    assert status == 1 and 'the part "model" (' in err and 'model.txt' in err, err
    assert 'Hello' not in out
    if 'database is running' in out:
        assert 'database is stopped' in out, out


def test_broken_models(folder):
    """a model that is broken: what is wrong, and in which line"""
    run(folder, 'train')
    good = (folder / 'model.txt').read_text().splitlines()
    for content, said in (('', 'empty'), ('hello\n', 'model.txt:1: this is no language model'),
                          ('\n'.join([*good[:3], 'label x y z', *good[3:]]), 'model.txt:4: a broken label'),
                          ('\n'.join([*good[:9], 'nonsense', *good[9:]]), 'model.txt:10: a broken trigram'),
                          ('\n'.join(good[:100]), 'model.txt:101: the file is cut off here'),
                          ('\n'.join(good[:-1]), 'the file is cut off here')):
        (folder / 'model.txt').write_text(content)
        status, _, err = run(folder, 'classify', 'Hello')
        assert status == 1 and said in err, (said, err)
    (folder / 'model.txt').write_bytes(b'\xff\xfe')
    assert 'no UTF-8 text' in run(folder, 'classify', 'Hello')[2]


def test_broken_sentences(folder):
    """sentences that are broken: the model that was there stays as it is"""
    run(folder, 'train')
    before = (folder / 'model.txt').read_bytes()
    (folder / 'broken.tsv').write_text('en\tFine.\nno label here\n')
    status, _, err = run(folder, 'train', 'broken.tsv')
    assert status == 1 and 'broken.tsv:2: not a label, a tab and a sentence' in err, err
    status, _, err = run(folder, 'train', 'missing.tsv')
    assert status == 1 and 'missing.tsv' in err, err
    assert (folder / 'model.txt').read_bytes() == before


def test_broken_database(folder):
    """a database that is none"""
    run(folder, 'train')
    (folder / 'labels.db').write_bytes(b'this is no database' * 100)
    status, _, err = run(folder, 'classify', 'Hello')
    assert status == 1 and ('the part "database" (' in err or 'the part "cache" (' in err), err


def test_interrupted(folder):
    """SIGINT while it reads its input: the cache is written, and the status says so"""
    run(folder, 'train')
    process = subprocess.Popen([PROGRAM, 'classify', '-v'], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    running = set()
    while len(running) < 3:
        line = process.stdout.readline().decode()
        assert line, 'it ended'
        if line.endswith(' is running\n'):
            running.add(line)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, process.returncode
    assert out.decode().splitlines()[-1] == 'database is stopped', out


def test_usage(folder):
    """a command line that is wrong"""
    assert run(folder, 'sing')[0] == 2
    assert run(folder, '--loudly')[0] == 2


def main():
    if not PROGRAM.exists():
        print('1..0 # SKIP the example was not built')
        return 0
    tests = [(name, test) for name, test in globals().items() if name.startswith('test_')]
    print(f'1..{len(tests)}')
    failed = 0
    for number, (name, test) in enumerate(tests, 1):
        with tempfile.TemporaryDirectory() as folder:
            try:
                test(pathlib.Path(folder))
                problem = None
            except (AssertionError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
                problem = repr(error)
        failed += problem is not None
        print(f'{"not ok" if problem else "ok"} {number} - {test.__doc__}', flush=True)
        if problem:
            print('# ' + problem.replace('\n', '\n# '))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
