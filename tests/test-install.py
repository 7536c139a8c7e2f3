#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Belay as others use it: installed and found by pkg-config, and as a subproject of theirs.

    test-install.py BUILD-FOLDER

A small project takes the source tree as a meson subproject, is built, runs, and is installed with it into a temporary
prefix. A program outside of all is compiled with nothing but pkg-config's flags for that prefix, and runs. What the
build folder itself installs is the same. Output: TAP.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1]).resolve()

PROGRAM = r'''#include <belay/belay-sqlite.h>

static gboolean
count (gpointer data, GError **error)
{
  gint64 n = 0;
  belay_auto (BelaySqlite) db = belay_await (belay_sqlite_open (":memory:", NULL), error);
  if (db == NULL ||
      !belay_await_ok (belay_sqlite_script (db, "CREATE TABLE t (n); INSERT INTO t VALUES (20), (22)"), error) ||
      !belay_await_int64 (belay_sqlite_get_int64 (db, "SELECT sum (n) FROM t", NULL), &n, error))
    return FALSE;
  g_print ("%s: %d\n", (const char *) data, (int) n);
  return belay_close (&db, error);
}

int
main (void)
{
  return belay_run (count, "sum");
}
'''
PRINTS = 'sum: 42\n'

PROJECT = '''project('user', 'c', default_options: ['c_std=gnu11', 'warning_level=2'])
belay_sqlite = dependency('belay-sqlite-1', fallback: 'belay')
dependency('belay-1', fallback: 'belay')
executable('user', 'user.c', dependencies: belay_sqlite, c_args: ['-Werror', '-Wno-unused-parameter'])
'''

LIBRARIES = ['belay-1', 'belay-sqlite-1', 'belay-http-1']


class Failure(Exception):
    pass


def run(*command, **options):
    """What it prints; a failure with its output when it fails."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise Failure(f'{" ".join(str(word) for word in command)}: exit status {done.returncode}\n{done.stdout[-4000:]}')
    return done.stdout


def expect(what, got, wanted):
    if got != wanted:
        raise Failure(f'{what}: {got!r}, not {wanted!r}')


def tree(folder):
    """What is below it, and where the links lead."""
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else ''
            for path in folder.rglob('*') if path.is_symlink() or path.is_file()}


def subproject(tmp):
    """a project that has the source tree as a subproject builds, and runs"""
    user = tmp / 'user'
    (user / 'subprojects').mkdir(parents=True)
    (user / 'subprojects' / 'belay').symlink_to(SOURCE)
    (user / 'meson.build').write_text(PROJECT)
    (user / 'user.c').write_text(PROGRAM)
    log = run('meson', 'setup', user / 'build', user, f'--prefix={tmp / "prefix"}', '--libdir=lib', '-Doptimization=0',
              '--force-fallback-for=belay')
    if re.search(r'WARNING.*(?:deprecat|outside|sandbox)', log):
        raise Failure(log)
    run('ninja', '-C', user / 'build')
    expect('it prints', run(user / 'build' / 'user', cwd=tmp), PRINTS)
    extra = [name for name in tree(user / 'build') if re.search(r'(?:^|/)(?:test-|sitesearch|01-hello)[^.]*$', name)]
    expect('built besides', extra, [])


def installed(tmp):
    """a program of 20 lines, compiled outside the tree with pkg-config alone, runs"""
    prefix = tmp / 'prefix'
    run('meson', 'install', '-C', tmp / 'user' / 'build', '--no-rebuild')
    outside = tmp / 'outside'
    outside.mkdir()
    (outside / 'program.c').write_text(PROGRAM)
    environment = {**os.environ, 'PKG_CONFIG_PATH': str(prefix / 'lib' / 'pkgconfig'),
                   'LD_LIBRARY_PATH': str(prefix / 'lib')}
    flags = run('pkg-config', '--cflags', '--libs', 'belay-1', 'belay-sqlite-1', env=environment).split()
    if f'{SOURCE}/' in ' '.join(flags) or any(flag.startswith('-Wl') for flag in flags):
        raise Failure(f'the flags are {" ".join(flags)}')
    run(*os.environ.get('CC', 'cc').split(), 'program.c', '-o', 'program', *flags, cwd=outside)
    expect('it prints', run('./program', cwd=outside, env=environment), PRINTS)
    for library in LIBRARIES:
        version = run('pkg-config', '--modversion', library, env=environment).strip()
        expect(f'version of {library}', version, project_version())


def project_version():
    return re.search(r"version: '([\d.]+)'", (SOURCE / 'meson.build').read_text())[1]


def same(tmp):
    """the build folder installs the same, into DESTDIR"""
    run('meson', 'install', '-C', BUILD, '--no-rebuild', '--destdir', tmp / 'destination')
    wanted = {name: link for name, link in tree(tmp / 'prefix').items() if not name.startswith('bin/')}
    # The build folder has its own prefix and library folder.
    [header] = (tmp / 'destination').rglob('include/belay-1/belay/belay.h')
    prefix = header.parents[3]
    got = {}
    for name, link in tree(prefix).items():
        got[re.sub(r'^lib/[^/]+-linux-[^/]+/|^lib64/', 'lib/', name)] = link
    expect('missing', sorted(wanted.items() - got.items()), [])
    expect('too much', sorted(got.items() - wanted.items()), [])


def headers(tmp):
    """all public headers are installed, and no other"""
    folder = tmp / 'prefix' / 'include' / 'belay-1' / 'belay'
    public = {path.name.removesuffix('.in') for path in (SOURCE / 'include' / 'belay').iterdir() if '.h' in path.suffixes}
    expect('missing', sorted(public - set(os.listdir(folder))), [])
    expect('too much', sorted(set(os.listdir(folder)) - public), [])


def main():
    if not all((BUILD / 'src' / folder).is_dir() for folder in ('sqlite', 'http')):
        print('1..0 # SKIP this build has not all libraries')
        return 0
    steps = [subproject, installed, headers, same]
    print(f'1..{len(steps)}', flush=True)
    failed = 0
    tmp = pathlib.Path(tempfile.mkdtemp(prefix='belay-install-'))
    try:
        for number, step in enumerate(steps, 1):
            try:
                step(tmp)
                print(f'ok {number} - {step.__doc__}', flush=True)
            except (Failure, OSError, ValueError) as failure:
                failed += 1
                print(f'not ok {number} - {step.__doc__}', flush=True)
                print('# ' + str(failure).rstrip().replace('\n', '\n# '), flush=True)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
