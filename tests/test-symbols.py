#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the libraries export is what the public headers declare, and what they call is below them.

    test-symbols.py BUILD-FOLDER

Output: TAP.
"""

import pathlib
import re
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent
HEADERS = SOURCE / 'include' / 'belay'
BUILD = pathlib.Path(sys.argv[1]).resolve()
ON_TOP = ['sqlite', 'http', 'postgres']
FLOORS = ['core', 'run', 'scope', 'sync', 'io', 'app', 'test']       # as in test-layers.py

COMMENT = re.compile(r'/\*.*?\*/', re.S)
BRACES = re.compile(r'\{[^{}]*\}')
DECLARED = re.compile(r'BELAY_AVAILABLE_IN_\w+\s([^;{]*?)\b(belay_\w+)\s*\(', re.S)
OBJECT = re.compile(r'BELAY_AVAILABLE_IN_\w+\s+G_DECLARE_\w+\s*\(\s*\w+,\s*(\w+),')
VARIABLE = re.compile(r'BELAY_AVAILABLE_IN_\w+\s+[\w* ]*\b(belay_\w+)\s*(?:\[|;)')


def code_of(header):
    """A header without its comments, nor its macros."""
    text = COMMENT.sub('', header.read_text()).replace('\\\n', ' ')
    return '\n'.join(line for line in text.split('\n') if not line.lstrip().startswith('#'))


def declared(headers):
    names = set()
    for header in headers:
        code = code_of(header)
        names |= {name for _, name in DECLARED.findall(code)} | set(VARIABLE.findall(code))
        names |= {prefix + '_get_type' for prefix in OBJECT.findall(code)}
    return names


def nm(*arguments):
    """(name, kind) of each symbol."""
    text = subprocess.run(['nm', '-P', *map(str, arguments)], check=True, capture_output=True, text=True).stdout
    return [tuple(line.split()[:2]) for line in text.splitlines() if len(line.split()) >= 2]


def library(name):
    folder = BUILD / 'src' / ('' if name == 'belay' else name.removeprefix('belay-'))
    return folder / f'lib{name}-1.so'


def headers_of(name):
    on_top = {f'belay-{module}.h' for module in ON_TOP}
    if name == 'belay':
        return [path for path in sorted(HEADERS.glob('*.h')) if path.name not in on_top]
    return [HEADERS / f'{name}.h']


def check_exports(name):
    wanted = declared(headers_of(name))
    if len(wanted) < 5:
        yield f'only {sorted(wanted)} found in the headers: is this test blind?'
    # A version script's or the linker's own names are absolute.
    got = {symbol for symbol, kind in nm('-D', '--defined-only', library(name)) if kind != 'A'}
    for symbol in sorted(wanted - got):
        yield f'{symbol} is declared, but not exported'
    for symbol in sorted(got - wanted):
        yield f'{symbol} is exported, but not declared'


def check_marks(name):
    for header in headers_of(name):
        code, braces = code_of(header), 1
        while braces:
            code, braces = BRACES.subn(';', code)
        for declaration in code.split(';'):
            called = re.search(r'\b(belay_\w+)\s*\(', declaration)
            if called and not re.search(r'\b(?:BELAY_AVAILABLE_IN_|typedef\b|static\b|G_DEFINE_)', declaration):
                yield f'{header.name}: {called[1]} has no BELAY_AVAILABLE_IN_…'


def check_soname(name):
    text = subprocess.run(['objdump', '-p', library(name)], check=True, capture_output=True, text=True).stdout
    if f'lib{name}-1.so.0' not in re.findall(r'SONAME\s+(\S+)', text):
        yield 'its soname is ' + ' '.join(re.findall(r'SONAME\s+(\S+)', text))
    needed = re.findall(r'NEEDED\s+(\S+)', text)
    others = [f'libbelay-{module}-1' for module in ON_TOP]
    yield from (f'it needs {library}' for library in needed if library.startswith(tuple(others)))


def check_calls_go_down():
    """What an object file of one floor calls is defined on this one or below."""
    defined, used = {}, {}
    objects = sorted((BUILD / 'src' / f'{library("belay").resolve().name}.p').glob('*.o'))
    if len(objects) < len(FLOORS):
        yield f'only {len(objects)} object files found: is this test blind?'
    for path in objects:
        module = path.name.split('_')[0]
        if module not in FLOORS:
            yield f'{path.name} is on no floor'
            continue
        for symbol, kind in nm(path):
            if kind in 'TDBR':
                defined[symbol] = module
            elif kind == 'U':
                used.setdefault(symbol, set()).add((module, path.name))
    for symbol in sorted(defined.keys() & used.keys()):
        for module, name in sorted(used[symbol]):
            if FLOORS.index(defined[symbol]) > FLOORS.index(module):
                yield f'{name} calls {symbol}, which is up, in {defined[symbol]}'


def main():
    names = ['belay'] + [f'belay-{module}' for module in ON_TOP if library(f'belay-{module}').exists()]
    cases = [('calls go down', check_calls_go_down())]
    for name in names:
        cases += [(f'{name}: exports what is declared, and nothing else', check_exports(name)),
                  (f'{name}: every declaration is marked', check_marks(name)),
                  (f'{name}: soname', check_soname(name))]
    print(f'1..{len(cases)}')
    failed = 0
    for number, (what, problems) in enumerate(cases, 1):
        problems = list(problems)
        failed += bool(problems)
        print(f'{"not ok" if problems else "ok"} {number} - {what}')
        for problem in problems:
            print(f'# {problem}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
