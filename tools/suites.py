#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the test suite in several builds, and counts; tools/test calls it when all that it needs is installed.

    suites.py [--all] [--check] [RUN…]

Each build has its folder in build-test/, which the next run uses again. The TAP lines of all tests are counted; a test
that fails otherwise (it crashed, it did not end, it was not built) counts as one more that failed. What is skipped is
listed, with its reason.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
BUILDS = SOURCE / 'build-test'
SUPPRESSIONS = SOURCE / 'tests' / 'suppressions'
GLIB_SUPPRESSIONS = pathlib.Path('/usr/share/glib-2.0/valgrind/glib.supp')

# Everything that can be built is built: a library that is missing is an error here.
OPTIONS = ['-Dsqlite=enabled', '-Dhttp=enabled', '-Dexamples=enabled', '-Dvalgrind=enabled']
SANITIZED = ['-Db_lundef=false', '-Doptimization=1', '-Dvalgrind=disabled']

# Without G_SLICE=always-malloc: libsoup 3.2's server leaks what it accepts, from slices, in frames that cannot be named.
SANITIZER_ENVIRONMENT = {
    'ASAN_OPTIONS': 'halt_on_error=1:abort_on_error=1:strict_string_checks=1',
    'UBSAN_OPTIONS': 'halt_on_error=1:abort_on_error=1:print_stacktrace=1',
    'LSAN_OPTIONS': f'suppressions={SUPPRESSIONS}/lsan.supp:print_suppressions=0',
}

# Without --all valgrind runs all programs but those that are long under it.
LONG_UNDER_VALGRIND = {'stress', 'seeds'}

# The bare switch, which tells valgrind nothing of its stacks; and what measures memory, which would be valgrind's own.
NOT_UNDER_VALGRIND = {'switch', 'switch-ucontext', 'switch-aarch64', 'fibers-in-numbers'}

TAP = re.compile(r'^( *)(not )?ok\b(?: (\d+))?(?:[ -]*)(.*?)(?: *# *(SKIP|TO[D]O)\b:? *(.*))?$', re.I)


def say(text):
    print(f'\n==> {text}', flush=True)


class Count:
    """What passed, what failed and what was skipped, as (where, why)."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def take_tap(self, where, text, result_is_good):
        """Counts the tests of one program; those that only sum up the indented ones before them are no tests."""
        failed_before, deepest = len(self.failed), 0
        for line in text.splitlines():
            match = TAP.match(line)
            if match is None:
                if skip := re.match(r'^1\.\.0\s*# *SKIP\S* *(.*)', line, re.I):
                    self.skipped.append((where, skip[1]))
                continue
            indent, bad, _, name, directive, reason = match.groups()
            sums_up, deepest = len(indent) < deepest, len(indent)
            if sums_up:
                continue
            if directive and directive.upper() == 'SKIP':
                self.skipped.append((f'{where}: {name}', reason))
            elif bad and not directive:
                self.failed.append(f'{where}: {name}')
            else:
                self.passed += 1
        if not result_is_good and len(self.failed) == failed_before:
            self.failed.append(where)


def run(command, **options):
    """Says a command, and runs it: its exit status."""
    command = [str(word) for word in command]
    print('$ ' + shlex.join(command), flush=True)
    return subprocess.run(command, stdin=subprocess.DEVNULL, **options).returncode


def environment(extra):
    """Ours, without what would change how the tests run."""
    clean = {name: value for name, value in os.environ.items()
             if not re.match(r'(?:BELAY|G_|CC$|CXX$|C(?:XX|PP)?FLAGS$|LDFLAGS$|SLOWNESS$|DESTDIR$|LD_PRELOAD$|MESON)', name)}
    return {**clean, 'G_DEBUG': 'fatal-criticals', 'LC_ALL': 'C.UTF-8', **extra}


def without_randomization():
    """The sanitizers of older compilers do not know address spaces that are randomized further than 28 bits."""
    with contextlib.suppress(OSError, ValueError):
        bits = int(pathlib.Path('/proc/sys/vm/mmap_rnd_bits').read_text())
        if bits > 28 and shutil.which('setarch') and subprocess.run(['setarch', '-R', 'true'], stderr=subprocess.DEVNULL).returncode == 0:
            return ['setarch', '-R']
    return []


def build(name, compiler, options):
    """Configures, unless that was done in the same way before, and builds: the folder, or None when that failed."""
    folder = BUILDS / name
    cxx = {'gcc': 'g++', 'clang': 'clang++'}[compiler]
    variables = environment({'CC': compiler, 'CXX': cxx})
    settings = json.dumps([compiler, *OPTIONS, *options])
    stamp = folder / 'settings.json'
    if not (folder / 'build.ninja').exists() or not stamp.exists() or stamp.read_text() != settings:
        shutil.rmtree(folder, ignore_errors=True)
        if run(['meson', 'setup', folder, SOURCE, *OPTIONS, *options], env=variables, stdout=subprocess.DEVNULL) != 0:
            return None
        stamp.write_text(settings)
    if run(['ninja', '--quiet', '-C', folder], env=variables) != 0:
        return None
    return folder


def meson_test(where, folder, variables, arguments, prefix=()):
    """Runs meson's tests in a build folder, and counts them."""
    count = Count()
    for log in (folder / 'meson-logs').glob('testlog*'):
        log.unlink()
    status = run([*prefix, 'meson', 'test', '-C', folder, '--no-rebuild', '--print-errorlogs', *arguments],
                 env=environment(variables))
    [log] = list((folder / 'meson-logs').glob('testlog*.json')) or [None]
    n_tests = 0
    if log is not None:
        for line in log.read_text().splitlines():
            test = json.loads(line)
            n_tests += 1
            count.take_tap(f'{where}: {test["name"].rpartition(" / ")[2]}', test.get('stdout', ''),
                           test['result'] in {'OK', 'SKIP', 'EXPECTEDFAIL'})
    if n_tests == 0 or (status != 0 and not count.failed):
        count.failed.append(f'{where}: meson test did not run')
    return count


def script(where, arguments, variables, prefix=()):
    """Runs a test that prints TAP, and counts."""
    count = Count()
    command = [*prefix, sys.executable, *map(str, arguments)]
    print('$ ' + shlex.join(command), flush=True)
    with subprocess.Popen(command, env=environment(variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True) as process:
        lines = []
        for line in process.stdout:
            print(line, end='', flush=True)
            lines.append(line)
    count.take_tap(where, ''.join(lines), process.returncode == 0)
    return count


# The runs. Each takes its own name and whether it is all that is wanted, and gives a count.

def plain(compiler, options=()):
    def function(name, everything):
        folder = build(name, compiler, list(options))
        variables = {'BELAY_TEST_SEEDS': '1000' if everything and compiler == 'gcc' else '100', 'CC': compiler}
        return folder and meson_test(name, folder, variables, ['-t', '20' if everything else '2'])
    return function


def sanitized(compiler, sanitizer, slowness):
    def function(name, everything):
        folder = build(name, compiler, [f'-Db_sanitize={sanitizer}', *SANITIZED])
        if folder is None:
            return None
        variables = {**SANITIZER_ENVIRONMENT, 'BELAY_TEST_SEEDS': '100' if everything else '20', 'SLOWNESS': str(slowness)}
        if sanitizer == 'thread':
            variables['BELAY_TEST_SEEDS'] = '100' if everything else '10'
        return meson_test(name, folder, variables, ['-t', str(2 * slowness), '--no-suite', 'house'], without_randomization())
    return function


def core_tests(folder):
    """The names of the C programs among the tests."""
    tests = json.loads((folder / 'meson-info' / 'intro-tests.json').read_text())
    return [test['name'] for test in tests if {'belay:core', 'belay:peers'} & set(test['suite'])]


def valgrind_command(*more):
    suppressions = [SUPPRESSIONS / 'valgrind.supp', *([GLIB_SUPPRESSIONS] if GLIB_SUPPRESSIONS.exists() else [])]
    return ['valgrind', '--quiet', '--fair-sched=try', '--error-exitcode=99', '--leak-check=full',
            '--show-leak-kinds=definite', '--errors-for-leak-kinds=definite', '--num-callers=30', '--child-silent-after-fork=yes', *more,
            *(f'--suppressions={path}' for path in suppressions)]


def valgrind(name, everything):
    folder = build('gcc', 'gcc', [])
    if folder is None:
        return None
    variables = {'BELAY_TEST_SEEDS': '20' if everything else '5', 'G_SLICE': 'always-malloc', 'SLOWNESS': '30'}
    arguments = ['--wrap', shlex.join(valgrind_command()), '-t', '30']
    chosen = [each for each in core_tests(folder) if each not in NOT_UNDER_VALGRIND]
    if everything:
        count = meson_test(name, folder, variables, [*arguments, *chosen])
        count.add(programs_under_valgrind(name, folder, variables))
        return count
    return meson_test(name, folder, variables, [*arguments, *(each for each in chosen if each not in LONG_UNDER_VALGRIND)])


def programs_under_valgrind(name, folder, variables):
    """The tests that run the examples from outside are given scripts in their place, which run them under valgrind."""
    shadow = BUILDS / 'valgrind'
    shutil.rmtree(shadow, ignore_errors=True)
    (shadow / 'logs').mkdir(parents=True)
    (shadow / 'logs').chmod(0o777)      # some tests run a program as nobody
    for program in (folder / 'examples').rglob('*'):
        if program.is_file() and os.access(program, os.X_OK):
            wrapper = shadow / program.relative_to(folder)
            wrapper.parent.mkdir(parents=True, exist_ok=True)
            command = shlex.join([*valgrind_command(f'--log-file={shadow}/logs/%p'), str(program)])
            wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            wrapper.chmod(0o755)
    count = Count()
    for test in ('examples', 'sitesearch'):
        count.add(script(f'{name}: {test}', [SOURCE / 'tests' / f'test-{test}.py', shadow], variables))
    for log in sorted((shadow / 'logs').iterdir()):
        if log.stat().st_size > 0 and 'Process terminating with default action of signal' not in log.read_text():
            print(log.read_text())
            count.failed.append(f'{name}: a program of process {log.name}')
    return count


def demo(name, everything):
    """The README's first command, twice, from another folder; and on a folder of one's own."""
    count = Count()
    with tempfile.TemporaryDirectory() as folder:
        own = pathlib.Path(folder) / 'my pages'
        own.mkdir()
        (own / 'index.html').write_text('<title>Home</title><p>The quick brown fox. <a href="two.html">Two</a>')
        (own / 'two.html').write_text('<title>Second</title><p>The lazy dog sleeps.')
        for what, arguments, wanted in (('the manual', [], r'^\d+\. .*\n.*\.html'), ('again', [], r'^\d+\. .*\n.*\.html'),
                                        ('own pages', ['my pages', 'lazy', 'dog'], r'^1\. Second\n')):
            start = time.monotonic()
            done = subprocess.run([SOURCE / 'tools' / 'demo', *arguments], cwd=folder, env=environment({}), text=True,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            seconds = time.monotonic() - start
            good = done.returncode == 0 and re.search(wanted, done.stdout, re.M) and (what != 'again' or seconds < 30)
            print(f'{"ok" if good else "not ok"} - {what}, in {seconds:.1f} s', flush=True)
            if good:
                count.passed += 1
            else:
                count.failed.append(f'{name}: {what}')
                print('\n'.join('# ' + line for line in done.stdout.splitlines()[-40:]))
    return count


def numbers(name, everything):
    folder = build('gcc', 'gcc', [])
    return folder and meson_test(name, folder, {'BELAY_TEST_LONG': '1'}, ['-t', '20', '--verbose', '--num-processes', '1',
                                                                          'fibers-in-numbers', 'sync-for-long', 'pool-model', 'sitesearch'])


def disk(name, everything):
    folder = build('gcc', 'gcc', [])
    prefix = [] if os.geteuid() == 0 else ['unshare', '--map-root-user', '--mount']
    return folder and script(name, [SOURCE / 'tests' / 'test-sitesearch.py', folder, 'full_disk'], {}, prefix)


def aarch64(name, everything):
    """The hand-written switch of the other processor, in an emulator; it needs no library of that processor but libc."""
    count = Count()
    program = BUILDS / 'aarch64' / 'switch-selftest'
    program.parent.mkdir(parents=True, exist_ok=True)
    native = os.uname().machine == 'aarch64'
    status = run(['gcc' if native else 'aarch64-linux-gnu-gcc', '-std=gnu11', '-O2', '-g', '-Wall', '-static',
                  f'-I{SOURCE}/tests/switch-shim', f'-I{SOURCE}/src', SOURCE / 'tests' / 'switch-selftest.c', '-o', program])
    if status == 0:
        status = run([*([] if native else ['qemu-aarch64']), program])
    if status == 0:
        count.passed += 1
    else:
        count.failed.append(f'{name}: switch-selftest')
    return count


def mutants(name, everything):
    return script(name, [SOURCE / 'tools' / 'mutate'], {})


# name: (what it is, its function, only with --all)
RUNS = {
    'gcc': ('gcc, plain', plain('gcc'), False),
    'asan': ('gcc, AddressSanitizer, LeakSanitizer, UndefinedBehaviorSanitizer', sanitized('gcc', 'address,undefined', 3), False),
    'tsan': ('clang, ThreadSanitizer', sanitized('clang', 'thread', 5), False),
    'valgrind': ('gcc, valgrind', valgrind, False),
    'demo': ('tools/demo', demo, False),
    'clang': ('clang, plain', plain('clang'), True),
    'ucontext': ('gcc, switching by ucontext', plain('gcc', ['-Dswitch=ucontext']), True),
    'asan-clang': ('clang, AddressSanitizer, LeakSanitizer, UndefinedBehaviorSanitizer', sanitized('clang', 'address,undefined', 3), True),
    'aarch64': ('the switch on AArch64, in qemu', aarch64, True),
    'mutants': ('known bugs, put in one at a time: the tests must find each', mutants, True),
    'numbers': ('a million fibers; sitesearch stopped again and again', numbers, True),
    'disk': ('sitesearch on a full disk', disk, True),
}


def main():
    parser = argparse.ArgumentParser(prog='tools/test', description=__doc__.partition('\n')[0])
    parser.add_argument('--all', action='store_true', help='every run, with more seeds')
    parser.add_argument('--check', action='store_true', help='look at the arguments only')
    parser.add_argument('runs', metavar='RUN', nargs='*', help=', '.join(RUNS))
    options = parser.parse_args()
    for name in options.runs:
        if name not in RUNS:
            parser.error(f'there is no run {name!r}: there are {", ".join(RUNS)}')
    if options.check:
        return 0
    chosen = options.runs or [name for name, (_, _, rare) in RUNS.items() if options.all or not rare]

    total, rows = Count(), []
    for name in chosen:
        what, function, _ = RUNS[name]
        say(f'{name}: {what}')
        start = time.monotonic()
        count = function(name, options.all)
        if count is None:
            count = Count()
            count.failed.append(f'{name}: it does not build')
        total.add(count)
        rows.append((name, count, time.monotonic() - start))

    if 'gcc' in chosen and (BUILDS / 'gcc').is_dir():
        say('Which test proves which law')
        subprocess.run([sys.executable, SOURCE / 'tests' / 'laws', BUILDS / 'gcc'])

    say('All')
    for name, count, seconds in rows:
        print(f'{name:12} {count.passed:6} passed {len(count.failed):4} failed {len(count.skipped):4} skipped {seconds:7.0f} s')
    for reason, places in grouped(total.skipped):
        print(f'skipped: {places[0]}{f" and {len(places) - 1} more" if len(places) > 1 else ""}: {reason}')
    for where in total.failed:
        print(f'failed: {where}')
    print(f'{total.passed} passed, {len(total.failed)} failed', flush=True)
    return 1 if total.failed else 0


def grouped(skipped):
    places = collections.defaultdict(list)
    for where, why in skipped:
        places[why].append(where)
    return places.items()


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
