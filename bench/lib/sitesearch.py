# SPDX-License-Identifier: LGPL-2.1-or-later
"""`bench/run sitesearch`: the example program against its twin in Python.

Both crawl the same pages, served by nginx on loopback: the SQLite manual and a
made site of 20,000 small pages.  After each round the databases must agree.
"""

import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import tempfile
from collections import defaultdict

import nginx
import process
import report
from failure import Failure
from report import Row

MADE_PAGES = 20000
CONCURRENCY = 32
SECONDS = 300                           # for one crawl
GOALS = {'manual': 2.5, 'made': 5}      # times the twin's pages a second
TWIN_NEEDS = [('aiohttp', 'python3-aiohttp'), ('aiosqlite', 'python3-aiosqlite'),
              ('aiofiles', 'python3-aiofiles'), ('lxml.etree', 'python3-lxml')]


def bench(here, build, runs):
    contenders = find_contenders(here, build)
    nginx.program()
    manual = find_manual()
    rows, complaints = [], []
    with tempfile.TemporaryDirectory(prefix='belay-bench-') as temporary:
        made = os.path.join(temporary, 'made')
        report.progress('making a site')
        process.run([process.PYTHON, os.path.join(here, 'make-site'), made, '--pages', str(MADE_PAGES)], SECONDS)
        for site, title, folder in (('manual', 'SQLite manual', manual),
                                    ('made', f'made site of {MADE_PAGES:,} pages', made)):
            with nginx.serving(folder) as base:
                results, differences = crawl(contenders, base + 'index.html', temporary, runs, site)
            rows += make_rows(site, title, results)
            complaints += [f'{site}: {difference}' for difference in differences]
    report.progress('')
    report.print_table(f'sitesearch: medians of {runs} runs in turn, (n×) = how many times better ours is',
                       rows)
    if complaints:
        return rows, 'the databases differ: ' + '; '.join(complaints)
    print('the databases agree: URLs, status, titles, link counts, sizes, text')
    return rows, None


def find_contenders(here, build):
    ours = os.path.join(build, 'examples', 'sitesearch', 'sitesearch')
    twin = os.path.join(here, 'peers', 'sitesearch.py')
    process.need(ours, 'build it (meson compile), or say --build DIR')
    process.need_python(TWIN_NEEDS)
    contenders = {'ours': [ours], 'aiohttp': [process.PYTHON, twin]}
    if process.python_has('uvloop'):
        contenders['aiohttp+uvloop'] = [process.PYTHON, twin, '--uvloop']
    return contenders


def find_manual():
    """The folder of Debian's package sqlite3-doc that index.html is in."""
    try:
        listing = subprocess.run(['dpkg', '-L', 'sqlite3-doc'], capture_output=True, text=True).stdout
    except OSError:
        listing = ''
    pages = [path for path in listing.splitlines() if path.endswith('/index.html') and os.path.exists(path)]
    if not pages:
        raise Failure("the SQLite manual is missing (Debian: sqlite3-doc)")
    return os.path.dirname(min(pages, key=len))


def crawl(contenders, url, temporary, runs, site):
    """name → [(pages, seconds, CPU seconds)], and how the databases differ."""
    results, differences = defaultdict(list), {}
    for number in range(1, runs + 1):
        contents = {}
        for name, argv in contenders.items():
            report.progress(f'{site}, run {number} of {runs}: {name}')
            db = os.path.join(temporary, 'crawl.db')
            _, cpu = process.run([*argv, 'crawl', url, '--into', db, '--concurrency', str(CONCURRENCY)], SECONDS)
            results[name].append((*figures_of(db, name), cpu))
            contents[name] = contents_of(db, name)
            for leftover in (db, db + '-wal', db + '-shm', db + '.report.json'):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(leftover)
        for name in contenders:
            difference = compare(contents['ours'], contents[name])
            if difference:
                differences.setdefault(name, f'{name} {difference}')
    return results, differences.values()


def figures_of(db, name):
    try:
        with open(db + '.report.json') as file:
            figures = json.load(file)
        return figures['pages'], figures['seconds']
    except (OSError, ValueError, KeyError) as error:
        raise Failure(f'{name}: its report is no good: {error}') from error


def contents_of(db, name):
    """url → what both programs must agree on."""
    try:
        with contextlib.closing(sqlite3.connect(f'file:{db}?mode=ro', uri=True)) as connection:
            return {url: rest for url, *rest in
                    connection.execute('SELECT url, status, pages.title, links, bytes, text FROM pages '
                                       'LEFT JOIN pages_fts ON pages_fts.rowid = pages.rowid')}
    except sqlite3.Error as error:
        raise Failure(f'{name}: its database is no good: {error}') from error


def compare(ours, theirs):
    """One clause that says how they differ, or None."""
    if len(ours) != len(theirs):
        odd = sorted(ours.keys() ^ theirs.keys())
        return f'has {len(theirs)} rows, ours {len(ours)} (such as {odd[0]})'
    for column, what in enumerate(('status', 'title', 'number of links', 'size', 'text')):
        odd = [url for url in ours if url not in theirs or ours[url][column] != theirs[url][column]]
        if odd:
            url = odd[0]
            other, mine = start_where_they_differ(theirs.get(url, [None] * 5)[column], ours[url][column])
            return f'has another {what} in {len(odd)} rows (such as {url}: {other!r}, ours {mine!r})'
    return None


def start_where_they_differ(one, other):
    """Of two long texts what is worth printing."""
    if not isinstance(one, str) or not isinstance(other, str):
        return one, other
    start = max(0, len(os.path.commonprefix([one, other])) - 10)
    return one[start:start + 40], other[start:start + 40]


def make_rows(site, title, results):
    def medians(function):
        return {name: statistics.median(map(function, runs)) for name, runs in results.items()}

    rate = medians(lambda run: run[0] / max(run[1], 1e-3))
    cpu = medians(lambda run: 1e3 * run[2] / max(run[0], 1))
    yield Row(name=site, title=title, unit='pages/s', ours=rate.pop('ours'), peers=rate,
              goal=GOALS[site] * rate['aiohttp'], more_is_better=True)
    yield Row(name=f'{site}-cpu', title='  CPU for a page', unit='ms', ours=cpu.pop('ours'), peers=cpu)
