#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The order of the house: who may include whom, and how a file begins and ends.

    test-layers.py [SOURCE-FOLDER]

* In src/, an include goes down a floor or stays in its module, a folder: never up, and never sideways to another module
  of the same floor.
* The libraries on top (sqlite, http, postgres) know the public headers and their own folder, not one another.
* So do the examples.
* A public header includes public headers, and those of the libraries that its own is made for.
* A C file begins with its licence, and (all but tests) with an essay; it has at most 700 lines, tests more.
* No file has left a note that something is still to be done.

Output: TAP.
"""

import pathlib
import re
import sys

SOURCE = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()

# From the ground up. Modules in one line are on one floor.
FLOORS = [['core'], ['run'], ['scope'], ['sync'], ['io'], ['app'], ['test']]
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
ON_TOP = {'sqlite', 'http', 'postgres'}
# What public headers may include that is not ours.
FOREIGN = {'belay-macros.h': {'gio/gio.h'}, 'belay-sqlite.h': {'sqlite3.h'}}

SPDX = '/* SPDX-License-Identifier: LGPL-2.1-or-later */'
MAX_LINES = 700
LICENSED = {'.c', '.h', '.py', '.in', ''}
NOTES = re.compile(r'\b(?:TO' r'DO|FIX' r'ME|X' r'XX)\b')
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def files(*folders, suffixes):
    for folder in folders:
        for path in sorted((SOURCE / folder).rglob('*')):
            if path.is_file() and path.suffix in suffixes and '__pycache__' not in path.parts:
                yield path


def name_of(path):
    return str(path.relative_to(SOURCE))


def includes(path):
    """(line number, kind of quote, what) of each include."""
    text = path.read_text()
    for match in INCLUDE.finditer(text):
        yield text.count('\n', 0, match.start()) + 1, match[1], match[2]


def public_headers():
    folder = SOURCE / 'include' / 'belay'
    return {'belay/' + path.name.removesuffix('.in') for path in folder.iterdir() if path.name.endswith(('.h', '.h.in'))}


def own_headers_of_top():
    return {f'belay/belay-{module}.h': module for module in ON_TOP}


def check_floors():
    """includes go down, and stay in their module on a floor"""
    for path in files('src', suffixes={'.c', '.h'}):
        module = path.relative_to(SOURCE / 'src').parts[0]
        if module not in FLOOR_OF:
            continue
        for line, quote, what in includes(path):
            where = f'{name_of(path)}:{line}'
            if what in own_headers_of_top():
                yield f'{where}: {module} is below {own_headers_of_top()[what]}'
            target = target_of(path, what)
            if quote == '<' and target is None:
                continue
            if target is None:
                yield f'{where}: there is no "{what}" in src/'
            elif target in ON_TOP:
                yield f'{where}: {module} is below {target}'
            elif FLOOR_OF[target] > FLOOR_OF[module]:
                yield f'{where}: up, from {module} to {target}'
            elif FLOOR_OF[target] == FLOOR_OF[module] and target != module:
                yield f'{where}: sideways, from {module} to {target}'


def target_of(path, what):
    """The module of src/ that an include leads to."""
    for found in ((path.parent / what).resolve(), SOURCE / 'src' / what):
        if found.exists() and SOURCE / 'src' in found.parents:
            return found.relative_to(SOURCE / 'src').parts[0]
    return None


def check_modules():
    """every folder of src has its floor"""
    for path in sorted((SOURCE / 'src').iterdir()):
        if path.is_dir() and any(path.rglob('*.[ch]')) and path.name not in {*FLOOR_OF, *ON_TOP}:
            yield f'src/{path.name} is on no floor'


def check_top():
    """the libraries on top know the public headers and their own folder only"""
    headers = public_headers()
    for path in files(*(f'src/{module}' for module in ON_TOP), suffixes={'.c', '.h'}):
        module = path.relative_to(SOURCE / 'src').parts[0]
        for line, quote, what in includes(path):
            where = f'{name_of(path)}:{line}'
            if what.startswith('belay/') or what in {'belay.h'}:
                if what not in headers:
                    yield f'{where}: there is no <{what}>'
                elif own_headers_of_top().get(what, module) != module:
                    yield f'{where}: {module} knows {own_headers_of_top()[what]}'
            elif (quote == '"' or target_of(path, what)) and target_of(path, what) != module:
                yield f'{where}: {module} knows "{what}"'


def check_examples():
    """the examples know the public headers only"""
    for path in files('examples', suffixes={'.c', '.h'}):
        for line, quote, what in includes(path):
            if (SOURCE / 'src' / what).exists() or (quote == '"' and not (path.parent / what).exists()):
                yield f'{name_of(path)}:{line}: knows "{what}"'


def check_public():
    """public headers include public headers only"""
    headers = public_headers()
    for path in files('include', suffixes={'.h', '.in'}):
        for line, quote, what in includes(path):
            name = path.name.removesuffix('.in')
            if what not in FOREIGN.get(name, set()) and not (quote == '<' and what in headers):
                yield f'{name_of(path)}:{line}: includes {what}'
            if what in own_headers_of_top():
                yield f'{name_of(path)}:{line}: includes a library on top, {what}'


def check_umbrella():
    """belay.h includes every public header of the core but the test kit's, and meson installs it"""
    listed = {what for _, _, what in includes(SOURCE / 'include' / 'belay' / 'belay.h')}
    installed = (SOURCE / 'include' / 'belay' / 'meson.build').read_text()
    for header in sorted(public_headers() - {'belay/belay.h', 'belay/belay-version.h', *own_headers_of_top()}):
        if header not in listed and header != 'belay/belay-test.h':
            yield f'{header} is not in belay.h'
        if f"'{header.removeprefix('belay/')}'" not in installed:
            yield f'{header} is not installed'


def check_licence():
    """every source file begins with its licence"""
    for path in files('include', 'src', 'tests', 'examples', 'bench', 'tools', '.ci', suffixes=LICENSED):
        lines = path.read_text().split('\n', 3)
        if path.suffix in {'.c', '.h', '.in'}:
            if lines[0] != SPDX:
                yield name_of(path)
        elif path.suffix == '.py' or lines[0].startswith('#!'):
            if '# ' + SPDX[3:-3] not in lines[:2]:
                yield name_of(path)


def check_essay():
    """every source file says what it is before it does anything"""
    for path in files('include', 'src', 'examples', 'bench', suffixes={'.c', '.h'}):
        if not path.read_text().removeprefix(SPDX).lstrip().startswith('/*'):
            yield name_of(path)


def check_length():
    """no source file has more than 700 lines"""
    for path in files('include', 'src', 'examples', 'bench', suffixes={'.c', '.h', '.py'}):
        n_lines = path.read_text().count('\n')
        if n_lines > MAX_LINES:
            yield f'{name_of(path)} has {n_lines}'


def check_notes():
    """nothing is marked as still to be done"""
    for path in files('include', 'src', 'tests', 'examples', 'bench', 'tools', '.ci',
                      suffixes={*LICENSED, '.build', '.md', '.supp'}):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if NOTES.search(line):
                yield f'{name_of(path)}:{number}: {line.strip()}'


def check_ends():
    """no blanks at the end of a line, no tabs, a newline at the end of a file"""
    for path in files('include', 'src', 'tests', 'examples', 'bench', 'tools', suffixes={'.c', '.h', '.py', '.build'}):
        text = path.read_text()
        for number, line in enumerate(text.split('\n'), 1):
            if line != line.rstrip() or '\t' in line:
                yield f'{name_of(path)}:{number}'
        if not text.endswith('\n'):
            yield f'{name_of(path)}: no newline at its end'


def main():
    checks = [check for name, check in globals().items() if name.startswith('check_')]
    print(f'1..{len(checks)}')
    failed = 0
    for number, check in enumerate(checks, 1):
        problems = list(check())
        failed += bool(problems)
        print(f'{"not ok" if problems else "ok"} {number} - {check.__doc__}')
        for problem in problems:
            print(f'# {problem}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
