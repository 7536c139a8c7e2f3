#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Python twin of the example program `sitesearch`: same work, same output.

    sitesearch.py crawl URL --into FILE.db [--concurrency N] [--limit N]
                  [--timeout SECONDS] [--fresh] [--uvloop]
    sitesearch.py search FILE.db WORDS...

aiohttp fetches, lxml parses, aiosqlite stores, aiofiles writes the report.

What both programs hold to, where it is not obvious:

  * `frontier` is written in the transaction that stores the page a URL was
    found on, and a URL leaves it in the transaction that stores its page.  So
    whatever moment the program is killed at, the next run knows what is left.
    Its column `via` is the chain of redirects that led to the URL, oldest
    first, separated by spaces; NULL when the URL was found in a link.
  * White space is HTML's: space, tab, line feed, form feed, carriage return.
  * A page that is UTF-8 by its Content-Type header is made so before it is
    parsed; a charset that libxml2 does not know counts as none given.
  * Text is the text nodes of libxml2's tree, joined by a space, collapsed.
  * In a URL, whatever RFC 3986 neither reserves nor leaves unreserved is
    percent-encoded; what is encoded already stays as it is.  User names and
    passwords are dropped.  One longer than 8 KiB is none.
  * Of a page that is too large neither status nor size are known, since it is
    dropped; it is not tried again.
  * After a run that goes on with an index the report is of this run here, of
    the whole index there.
"""

import argparse
import asyncio
import codecs
import json
import os
import re
import signal
import sqlite3
import sys
import time
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import NamedTuple
from urllib.parse import quote

import aiofiles
import aiofiles.os
import aiohttp
import aiosqlite
from lxml import etree
from yarl import URL

PAGE_LIMIT = 16 * 1024 * 1024
URL_LIMIT = 8192
REDIRECT_LIMIT = 20
BATCH = 256
THREAD_FROM = 512 * 1024        # a page of this size would hold up the event loop for 20 ms
HTML_TYPES = ('text/html', 'application/xhtml+xml')
HTML_SPACE = ' \t\n\f\r'
REDIRECTS = (301, 302, 303, 307, 308)

SCHEMA = '''
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS pages (url TEXT PRIMARY KEY, status INTEGER, title TEXT,
                                  links INTEGER, bytes INTEGER, fetched_at TEXT, error TEXT);
CREATE TABLE IF NOT EXISTS frontier (url TEXT PRIMARY KEY, via TEXT);
CREATE VIRTUAL TABLE IF NOT EXISTS pages_fts USING fts5 (title, text);
'''


class Failure(Exception):
    """What the user is told in one line before the program exits with 1."""


class Page(NamedTuple):
    url: str
    status: int
    title: str | None
    links: int
    size: int
    fetched_at: str
    error: str | None
    text: str | None            # None: the page has no row in pages_fts
    found: list[tuple]          # of (url, via): what is new to the frontier


# URLs

class Base(NamedTuple):
    scheme: str
    authority: str
    path: str
    query: str | None


URL_PARTS = re.compile(r'(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#.*)?',
                       re.DOTALL)
AUTHORITY = re.compile(r'(?:.*@)?(\[[^\]]*\]|[^:]*)(?::([0-9]*))?')
NO_NEWLINES = str.maketrans('', '', '\t\n\r')
DEFAULT_PORT = {'http': '80', 'https': '443'}


def split(reference, base=None):
    """Resolve a reference as RFC 3986 says, and normalise. None: not for us."""
    reference = reference.strip(HTML_SPACE).translate(NO_NEWLINES)
    scheme, authority, path, query = URL_PARTS.fullmatch(reference).groups()

    if scheme is not None:
        scheme = scheme.lower()
    elif base is not None:
        scheme = base.scheme
        if authority is None:
            authority = base.authority
            if not path:
                path = base.path
                query = base.query if query is None else query
            elif path[0] != '/':
                path = base.path[:base.path.rindex('/') + 1] + path
    if scheme not in DEFAULT_PORT or not authority:
        return None

    if base is None or authority is not base.authority:
        match = AUTHORITY.fullmatch(authority)
        if match is None or not match[1]:
            return None
        host, port = match[1].lower(), (match[2] or '').lstrip('0')
        authority = host if port in ('', DEFAULT_PORT[scheme]) else f'{host}:{port}'

    return Base(scheme, authority, without_dots(path or '/'), query)


def without_dots(path):
    if '/.' not in path:
        return path
    segments = []
    for segment in path.split('/')[1:]:
        if segment == '..':
            del segments[-1:]
        elif segment != '.':
            segments.append(segment)
    if path.endswith(('/.', '/..')):
        segments.append('')
    return '/' + '/'.join(segments)


def unsplit(parts):
    url = parts.scheme + '://' + parts.authority + parts.path
    if parts.query is not None:
        url += '?' + parts.query
    return quote(url, safe="!#$%&'()*+,/:;=?@[]~", errors='surrogateescape')


def normalise(reference, base=None):
    parts = split(reference, base)
    url = unsplit(parts) if parts else ''
    return url if 0 < len(url) <= URL_LIMIT else None


def origin_of(url):
    return url[:url.index('/', url.index('//') + 2) + 1]


# Pages

HREFS = etree.XPath('//a/@href', smart_strings=False)
BASES = etree.XPath('//base/@href', smart_strings=False)
TEXTS = etree.XPath('//text()', smart_strings=False)
CHARSET = re.compile(r';\s*charset\s*=\s*["\']?([^\s"\';]+)', re.IGNORECASE)


def valid_utf8(body):
    """Each byte that is no UTF-8, and each zero byte, becomes U+FFFD."""
    try:
        body.decode()
    except UnicodeDecodeError:
        body = body.decode(errors='each byte').encode()
    return body.replace(b'\0', '\ufffd'.encode())


codecs.register_error('each byte', lambda error: ('\ufffd' * (error.end - error.start), error.end))


def collapse(text):
    """Collapses and trims HTML's white space; str.split() would take more."""
    return b' '.join(text.encode().split()).decode()


def parse(body, charset, url, origin):
    """The title, the number of links, the text, and the set of URLs to follow.

    Called on the event loop, save for huge pages: it takes a millisecond for a
    page of 28 KiB, and through to_thread() a crawl takes 1.2 to 1.4 times as long.
    """
    if charset and charset.lower() in ('utf-8', 'utf8'):
        return extract(valid_utf8(body), 'utf-8', url, origin)
    try:
        return extract(body, charset, url, origin)
    except UnicodeDecodeError:              # libxml2 lets some wrong bytes through
        return extract(valid_utf8(body), 'utf-8', url, origin)


def extract(body, charset, url, origin):
    try:
        parser = etree.HTMLParser(encoding=charset, huge_tree=True)
    except LookupError:                     # a charset nobody knows: libxml2 guesses
        parser = etree.HTMLParser(huge_tree=True)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError:
        root = None
    if root is None:                        # nothing in it
        return None, 0, '', set()

    hrefs = HREFS(root)
    base = split(url)
    bases = BASES(root)
    if bases:
        base = split(bases[0], base) or base
    urls = {normalise(href, base) for href in {href.partition('#')[0] for href in hrefs}}
    follow = {url for url in urls if url is not None and url.startswith(origin)}

    title = root.find('.//title')
    if title is not None:
        title = collapse(etree.tostring(title, method='text', encoding='unicode', with_tail=False))

    etree.strip_elements(root, 'head', 'script', 'style', 'noscript', with_tail=False)
    return title, len(hrefs), collapse(' '.join(TEXTS(root))), follow


class TooLarge(Exception):
    pass


async def read_body(response):
    """The whole body, unless it is larger than we take."""
    if (response.content_length or 0) > PAGE_LIMIT:
        raise TooLarge
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > PAGE_LIMIT:
            raise TooLarge
        pieces.append(piece)
    return b''.join(pieces)


# The database

class Store:
    def __init__(self, db):
        self.db = db

    @classmethod
    @asynccontextmanager
    async def open(cls, path, source, fresh):
        try:
            async with aiosqlite.connect(path) as db:
                await db.execute('PRAGMA journal_mode = WAL')
                await db.execute('PRAGMA synchronous = NORMAL')
                await db.execute('PRAGMA cache_size = -32768')
                await db.execute('PRAGMA wal_autocheckpoint = 8192')
                store = cls(db)
                await store.prepare(path, source, fresh)
                yield store
        except sqlite3.Error as error:
            raise Failure(f'{path}: {error}') from error

    async def prepare(self, path, source, fresh):
        tables = {name for name, in await self.db.execute_fetchall('SELECT name FROM sqlite_master')}
        if tables and not {'meta', 'pages', 'frontier', 'pages_fts'} <= tables:
            raise Failure(f'{path}: a database, but not one of sitesearch')
        if fresh:
            for table in ('meta', 'pages', 'frontier', 'pages_fts'):
                await self.db.execute(f'DROP TABLE IF EXISTS {table}')
        await self.db.executescript(SCHEMA)

        for known, in await self.db.execute_fetchall("SELECT value FROM meta WHERE key = 'source'"):
            if known != source:
                raise Failure(f'{path}: holds {known}; use --fresh to start anew')
            return
        await self.db.execute("INSERT INTO meta VALUES ('source', ?)", (source,))
        await self.db.execute('INSERT INTO frontier VALUES (?, NULL)', (source,))
        await self.db.commit()

    async def missing(self):
        """What an earlier run left: its frontier, and what it could not reach."""
        return await self.db.execute_fetchall(
            'SELECT url, via FROM frontier UNION ALL '
            "SELECT url, NULL FROM pages WHERE status = 0 AND error <> 'larger than 16 MiB' "
            'AND url NOT IN (SELECT url FROM frontier)')

    async def known(self):
        return {url for url, in await self.db.execute_fetchall('SELECT url FROM pages')}

    async def add(self, pages):
        """One transaction."""
        await self.db.executemany('DELETE FROM pages_fts WHERE rowid = (SELECT rowid FROM pages WHERE url = ?)',
                                  [(page.url,) for page in pages])
        await self.db.executemany(
            'INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?, ?) '
            'ON CONFLICT (url) DO UPDATE SET status = excluded.status, title = excluded.title, '
            'links = excluded.links, bytes = excluded.bytes, fetched_at = excluded.fetched_at, '
            'error = excluded.error', [page[:7] for page in pages])
        await self.db.executemany(
            'INSERT INTO pages_fts (rowid, title, text) SELECT rowid, ?, ? FROM pages WHERE url = ?',
            [(page.title, page.text, page.url) for page in pages if page.text is not None])
        await self.db.executemany('INSERT OR IGNORE INTO frontier VALUES (?, ?)',
                                  [new for page in pages for new in page.found])
        await self.db.executemany('DELETE FROM frontier WHERE url = ?',
                                  [(page.url,) for page in pages])
        await self.db.commit()


# The crawl

class Crawl:
    def __init__(self, source, store, session, options):
        self.source = source
        self.origin = origin_of(source)
        self.store = store
        self.session = session
        self.concurrency = options.concurrency
        self.left = options.limit if options.limit is not None else float('inf')
        self.queue = asyncio.Queue()            # of (url, via)
        self.fetched = asyncio.Queue(maxsize=4 * BATCH)
        self.seen = set()
        self.progress = Progress(self.queue)

    async def run(self):
        missing = await self.store.missing()
        self.seen = await self.store.known()
        self.seen.update(url for url, _ in missing)
        for entry in missing:
            self.queue.put_nowait(entry)

        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self.write())
            fetchers = [group.create_task(self.fetch_all()) for _ in range(self.concurrency)]
            await self.queue.join()
            await self.fetched.join()
            for task in (writer, *fetchers):
                task.cancel()

    async def fetch_all(self):
        while True:
            url, via = await self.queue.get()
            if self.left > 0:
                self.left -= 1
                page = await self.fetch(url, via)
                for entry in page.found:
                    self.queue.put_nowait(entry)
                await self.fetched.put(page)
            self.queue.task_done()              # past the limit it stays in the frontier

    def discover(self, urls, via=None):
        found = [(url, via) for url in urls if url not in self.seen]
        self.seen.update(url for url, _ in found)
        return found

    async def fetch(self, url, via):
        status, title, links, size, error, text, found = 0, None, 0, 0, None, None, []
        try:
            async with self.session.get(URL(url, encoded=True), allow_redirects=False) as response:
                status = response.status
                body = await read_body(response)
                size = len(body)
        except TooLarge:
            status, error = 0, 'larger than 16 MiB'
        except asyncio.TimeoutError:
            status, error = 0, 'timed out'
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            status, error = 0, ' '.join(str(problem).split()) or type(problem).__name__
        else:
            content_type = response.headers.get('Content-Type', '')
            media_type = content_type.partition(';')[0].strip().lower() or 'application/octet-stream'
            if status in REDIRECTS and 'Location' in response.headers:
                error, found = self.redirect(url, via, response.headers['Location'])
            elif status != 200:
                error = f'HTTP {status}'
            elif media_type not in HTML_TYPES:
                error = f'not HTML: {media_type}'
            else:
                charset = CHARSET.search(content_type)
                work = body, charset and charset[1], url, self.origin
                if len(body) < THREAD_FROM:
                    title, links, text, follow = parse(*work)
                else:
                    title, links, text, follow = await asyncio.to_thread(parse, *work)
                found = self.discover(follow)
        now = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
        return Page(url, status, title, links, size, now, error, text, found)

    def redirect(self, url, via, location):
        target = normalise(location, split(url))
        chain = f'{via} {url}' if via else url
        if target is None:
            return f'redirected to {collapse(location)}', []
        if target in chain.split(' '):
            return 'redirect loop', []
        if chain.count(' ') >= REDIRECT_LIMIT:
            return 'too many redirects', []
        found = self.discover([target], chain) if target.startswith(self.origin) else []
        return f'redirected to {target}', found

    async def write(self):
        while True:
            pages = [await self.fetched.get()]
            while len(pages) < BATCH and not self.fetched.empty():
                pages.append(self.fetched.get_nowait())
            await self.store.add(pages)
            self.progress.stored(pages)
            for _ in pages:
                self.fetched.task_done()


class Progress:
    """Lines for a pipe, one line in place for a terminal, figures for the report."""

    def __init__(self, queue):
        self.queue = queue
        self.start = time.monotonic()
        self.terminal = sys.stdout.isatty()
        self.pages = self.bytes = 0
        self.failed = []

    def stored(self, pages):
        self.pages += len(pages)
        self.bytes += sum(page.size for page in pages)
        self.failed += [{'url': page.url, 'status': page.status, 'error': page.error}
                        for page in pages if page.error is not None]
        if self.terminal:
            text = (f'\r{self.pages} pages, {self.rate():.0f}/s, {self.queue.qsize()} queued, '
                    f'{len(self.failed)} errors\x1b[K')
        else:
            text = ''.join(f'{page.status}\t{page.url}\t{page.size}\t{page.links}\t{page.error or ""}\n'
                           for page in pages)
        sys.stdout.write(text)
        sys.stdout.flush()

    def seconds(self):
        return time.monotonic() - self.start

    def rate(self):
        return self.pages / max(self.seconds(), 1e-9)

    def done(self):
        print('\r' * self.terminal + f'done: {self.pages} pages, {len(self.failed)} errors, '
              f'{self.seconds():.3f} s, {self.rate():.1f} pages/s', flush=True)


async def write_report(path, source, progress):
    seconds, rate = progress.seconds(), progress.rate()
    report = {'source': source, 'pages': progress.pages, 'errors': len(progress.failed),
              'bytes': progress.bytes, 'seconds': round(seconds, 3),
              'pages_per_second': round(rate, 1), 'failed': progress.failed}
    temporary = f'{path}.{os.getpid()}.tmp'
    try:
        async with aiofiles.open(temporary, 'w') as file:
            await file.write(json.dumps(report, indent=2) + '\n')
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temporary, path)
    except OSError as error:
        raise Failure(f'{path}: {error.strerror}') from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


async def crawl(options):
    source = normalise(options.source)
    if source is None:
        raise Failure(f'{options.source}: not an http or https URL')
    connector = aiohttp.TCPConnector(limit=options.concurrency)
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(),
                                    timeout=aiohttp.ClientTimeout(total=options.timeout),
                                    headers={'User-Agent': 'sitesearch/1.0'})
    async with session, Store.open(options.into, source, options.fresh) as store:
        job = Crawl(source, store, session, options)
        await job.run()
        await write_report(options.into + '.report.json', source, job.progress)
        job.progress.done()
        for failure in job.progress.failed:
            if failure['url'] == source and failure['status'] == 0:
                raise Failure(f'{source}: {failure["error"]}')


# The search

async def search(options):
    if not os.path.exists(options.db):
        raise Failure(f'{options.db}: no such file')
    start = time.monotonic()
    bold = ('\x1b[1m', '\x1b[0m') if sys.stdout.isatty() else ('[', ']')
    words = ' '.join('"' + word.replace('"', '""') + '"' for word in options.words)
    try:
        async with aiosqlite.connect(f'file:{quote(options.db)}?mode=ro', uri=True) as db:
            hits = await db.execute_fetchall(
                "SELECT pages.url, pages.title, snippet(pages_fts, 1, ?, ?, '…', 16) "
                'FROM pages_fts JOIN pages ON pages.rowid = pages_fts.rowid '
                'WHERE pages_fts MATCH ? ORDER BY rank LIMIT 10', (*bold, words))
    except sqlite3.Error as error:
        raise Failure(f'{options.db}: {error}') from error
    for number, (url, title, snippet) in enumerate(hits, 1):
        print(f'{number}. {title or url}\n   {url}\n   {snippet}')
    print(f'{len(hits)} hits in {(time.monotonic() - start) * 1000:.1f} ms')


# The command line

def positive(kind):
    def check(text):
        value = kind(text)
        if value <= 0:
            raise ValueError
        return value
    check.__name__ = f'positive {kind.__name__}'
    return check


def arguments():
    parser = argparse.ArgumentParser(prog='sitesearch.py')
    parser.add_argument('--uvloop', action='store_true')
    commands = parser.add_subparsers(required=True, metavar='crawl|search')
    sub = commands.add_parser('crawl')
    sub.set_defaults(command=crawl)
    sub.add_argument('source', metavar='URL')
    sub.add_argument('--into', required=True, metavar='FILE.db')
    sub.add_argument('--concurrency', type=positive(int), default=16, metavar='N')
    sub.add_argument('--limit', type=positive(int), metavar='N')
    sub.add_argument('--timeout', type=positive(float), default=10, metavar='SECONDS')
    sub.add_argument('--fresh', action='store_true')
    sub.add_argument('--uvloop', action='store_true', default=argparse.SUPPRESS)
    sub = commands.add_parser('search')
    sub.set_defaults(command=search)
    sub.add_argument('db', metavar='FILE.db')
    sub.add_argument('words', nargs='+', metavar='WORDS')
    return parser.parse_args()


async def supervised(options):
    """Runs the command; SIGINT and SIGTERM cancel it and give the exit status."""
    loop, task, status = asyncio.get_running_loop(), asyncio.current_task(), 0

    def stop(number):
        nonlocal status
        status = 128 + number
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await options.command(options)
    except asyncio.CancelledError:
        if not status:
            raise
        print('sitesearch.py: stopped', file=sys.stderr)
    return status


def failure_in(error):
    """The first failure in a group of exceptions, else None."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(failure_in, error.exceptions)), None)
    if isinstance(error, (sqlite3.Error, OSError)):
        return Failure(str(error))
    return error if isinstance(error, Failure) else None


def main():
    options = arguments()
    if options.uvloop:
        import uvloop
        uvloop.install()
    try:
        return asyncio.run(supervised(options))
    except Exception as error:
        failure = failure_in(error)
        if failure is None:
            raise
        print(f'sitesearch.py: {failure}', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
