#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The example program sitesearch from end to end: on made folders, on a server that misbehaves, stopped at any moment.

    test-sitesearch.py BUILD-FOLDER [NAME...]

Output: TAP. SLOWNESS=N in the environment allows N times as long (sanitizers, valgrind). SEED=N chooses the random
moments; it is printed.
"""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = os.path.join(os.path.abspath(sys.argv[1]), 'examples', 'sitesearch', 'sitesearch')
TOOLS = pathlib.Path(__file__).resolve().parent.parent / 'tools'
SLOWNESS = float(os.environ.get('SLOWNESS', '1'))
PATIENCE = ('--timeout', str(10 * SLOWNESS))    # the program's own, on a slow machine
os.environ.setdefault('G_DEBUG', 'fatal-criticals')
SEED = int(os.environ.get('SEED', random.randrange(1 << 30)))
MIB = 1024 * 1024


class Skip(Exception):
    pass


# What the tests are written with

def sitesearch(*arguments, **options):
    """Runs it to its end: (status, what it printed, what it complained of)."""
    options = {'timeout': 60 * SLOWNESS, 'stdin': subprocess.DEVNULL, 'capture_output': True, **options}
    done = subprocess.run([PROGRAM, *map(str, arguments)], **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def crawl(source, into, *arguments, status=0, **options):
    """Runs a crawl that ends with the status: the lines of pages that it printed, as tuples."""
    if '--timeout' not in arguments:
        arguments += PATIENCE
    got, out, err = sitesearch('crawl', source, '--into', into, *arguments, **options)
    assert got == status, f'status {got}: {err}'
    assert status or not err, err
    return pages_in(out)


def pages_in(out):
    """The lines that it printed for pages; the last may be cut off."""
    return [tuple(line.split('\t')) for line in out.split('\n')[:-1] if '\t' in line]


def search(*arguments):
    status, out, err = sitesearch('search', *arguments)
    assert status == 0, err
    lines = out.splitlines()
    assert ' in ' in lines[-1] and lines[-1].endswith(' ms'), lines[-1]
    hits = list(zip(lines[0:-1:3], lines[1:-1:3], lines[2:-1:3]))
    return [(title.partition('. ')[2], url.strip(), snippet.strip()) for title, url, snippet in hits]


def fails(*arguments, status=1, **options):
    """It says in one line what is wrong, and no more: the line."""
    got, out, err = sitesearch(*arguments, **options)
    assert got == status, f'status {got}: {err}'
    assert err.startswith('sitesearch: ') and err.count('\n') == 1 and err.endswith('\n'), repr(err)
    return err


@contextlib.contextmanager
def opened(db):
    with contextlib.closing(sqlite3.connect(db)) as connection:
        yield connection


def query(db, sql):
    with opened(db) as connection:
        return connection.execute(sql).fetchall()


def pages(db, columns='status, title, links, bytes, error'):
    """What the database says of each page, by its URL."""
    return {row[0]: row[1:] for row in query(db, f'SELECT url, {columns} FROM pages')}


def texts(db):
    return dict(query(db, 'SELECT url, text FROM pages JOIN pages_fts ON pages_fts.rowid = pages.rowid'))


def whole_index(db):
    """All of it that does not depend on when it was made."""
    with opened(db) as connection:
        assert connection.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
        # FTS5's own check of its index against its content.
        connection.execute("INSERT INTO pages_fts (pages_fts) VALUES ('integrity-check')")
    assert query(db, 'SELECT count(*) FROM frontier') == [(0,)]
    return pages(db), texts(db), query(db, 'SELECT title FROM pages_fts ORDER BY title')


def html(title, body, *links):
    anchors = ''.join(f'<a href="{link}">{link}</a> ' for link in links)
    return f'<!DOCTYPE html><html><head><title>{title}</title></head><body>{body} {anchors}</body></html>'


def write(folder, **files):
    """Writes NAME.html for each; two underscores are a slash."""
    for name, content in files.items():
        path = folder / (name.replace('__', '/') + '.html')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def make_site(folder, n_pages):
    """Pages that each link to three more and to their neighbours."""
    def name(number):
        return f'page-{number}.html' if number else 'index.html'

    for number in range(n_pages):
        below = [name(n) for n in range(3 * number + 1, 3 * number + 4) if n < n_pages]
        words = ' '.join(f'word{(number * k) % 97}' for k in range(200))
        (folder / name(number)).write_text(html(f'Page {number}', words, *below, name((number + 7) % n_pages)))


class Site(http.server.ThreadingHTTPServer):
    """A web server on loopback whose pages are functions of a request; it counts what it is asked for."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answers):
        self.answers, self.asked = answers, []
        super().__init__(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server_port}'

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass                                    # the client has left: some tests want that


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        if answer is None:
            self.answer(404, 'gone')
        elif callable(answer):
            answer(self)
        else:
            self.answer(200, answer)

    def answer(self, status, body, content_type='text/html', **headers):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        if content_type:
            self.send_header('Content-Type', content_type)
        self.send_header('Content-Length', str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def redirect(location, status=302):
    return lambda request: request.answer(status, '', Location=location)


def of_type(content_type, body):
    return lambda request: request.answer(200, body, content_type)


# The tests

def test_folder(tmp):
    folder = tmp / 'site'
    write(folder,
          index=html('The  first\n page', 'Hello <b>big</b> world', 'second.html', 'second.html#part', 'sub/third.html',
                     'missing.html', 'picture.png', 'http://elsewhere.invalid/', 'mailto:a@b', ''),
          second=html('Second', 'apples', 'index.html', './sub/../second.html', 'sub'),
          sub__third=html('Third &amp; last', '<script>var pears;</script>oranges<noscript>no</noscript>',
                          '../index.html'),
          sub__index=html('Index of sub', 'plums'))
    (folder / 'picture.png').write_bytes(b'\x89PNG')
    db = tmp / 'x.db'
    lines = crawl(folder, db)
    size = {path: os.path.getsize(folder / path) for path in
            ('index.html', 'second.html', 'sub/third.html', 'sub/index.html', 'picture.png')}
    got = pages(db)
    assert got == {
        '/index.html': (200, 'The first page', 8, size['index.html'], None),
        '/second.html': (200, 'Second', 3, size['second.html'], None),
        '/sub/third.html': (200, 'Third & last', 1, size['sub/third.html'], None),
        '/missing.html': (404, None, 0, got['/missing.html'][3], 'HTTP 404'),
        '/picture.png': (200, None, 0, 4, 'not HTML: image/png'),
        '/sub': (301, None, 0, got['/sub'][3], 'redirected to /sub/'),
        '/sub/': (200, 'Index of sub', 0, size['sub/index.html'], None),
    }, got
    assert sorted(line[1] for line in lines) == sorted(got)
    for status, url, size, links, error in lines:
        assert (int(status), int(links), int(size), error) == (got[url][0], got[url][2], got[url][3], got[url][4] or '')
    text = texts(db)
    assert set(text) == {'/index.html', '/second.html', '/sub/third.html', '/sub/'}
    assert text['/index.html'].startswith('Hello big world second.html second.html#part')
    assert text['/sub/third.html'] == 'oranges ../index.html', text
    assert query(db, 'SELECT * FROM meta') == [('source', str(folder))]
    assert query(db, 'SELECT count(*) FROM frontier') == [(0,)]
    assert query(db, 'PRAGMA journal_mode') == [('delete',)]
    (stamp,) = set(len(at) for at, in pages(db, 'fetched_at').values())
    assert stamp == len('2025-01-01T00:00:00Z')

    report = json.loads((tmp / 'x.db.report.json').read_text())
    assert set(report) == {'source', 'pages', 'errors', 'bytes', 'seconds', 'pages_per_second', 'failed'}
    assert (report['source'], report['pages'], report['errors']) == (str(folder), 7, 3)
    assert report['bytes'] == sum(row[3] for row in got.values())
    assert {(f['url'], f['status'], f['error']) for f in report['failed']} == {
        (url, row[0], row[4]) for url, row in got.items() if row[4]}


def test_last_line(tmp):
    write(tmp / 'site', index=html('One', 'one'))
    status, out, err = sitesearch('crawl', tmp / 'site', '--into', tmp / 'x.db')
    first, last = out.splitlines()
    assert first.startswith('200\t/index.html\t') and first.endswith('\t0\t'), first
    words = last.split(' ')
    assert [words[0], words[1], words[2], words[3], words[4]] == ['done:', '1', 'pages,', '0', 'errors,'], last
    assert words[6] == 's,' and words[8] == 'pages/s', last


def test_folder_without_index(tmp):
    (tmp / 'site').mkdir()
    (tmp / 'site' / 'LOUD.HTML').write_text(html('Loud', 'larks'))
    write(tmp / 'site', b=html('B', 'bees'), a=html('A & co', 'ants'), deep__down__c=html('C', 'cats'))
    (tmp / 'site' / 'odd #%name.html').write_text(html('Odd', 'owls'))
    (tmp / 'site' / '.hidden.html').write_text(html('Hidden', 'hares'))
    os.symlink(tmp / 'site', tmp / 'site' / 'loop')
    crawl(tmp / 'site', tmp / 'x.db')
    assert set(pages(tmp / 'x.db')) == {'/', '/LOUD.HTML', '/a.html', '/b.html', '/deep/down/c.html',
                                        '/odd%20%23%25name.html'}
    assert search(tmp / 'x.db', 'larks')
    assert search(tmp / 'x.db', 'owls')[0][1] == '/odd%20%23%25name.html'


def test_folder_is_not_left(tmp):
    (tmp / 'secret.html').write_text(html('Secret', 'treasure'))
    links = ['../secret.html', '%2e%2e/secret.html', '/..%2fsecret.html', '/%2e%2e%2fsecret.html']
    write(tmp / 'site', index=html('I', 'i', *links))
    crawl(tmp / 'site', tmp / 'x.db')
    assert all(status != 200 for url, (status,) in pages(tmp / 'x.db', 'status').items() if url != '/index.html')
    assert 'treasure' not in ''.join(texts(tmp / 'x.db').values())


def test_errors_of_pages(tmp):
    def slow(request):
        time.sleep(3 * SLOWNESS)

    def cut_off(request):
        request.send_response(200)
        request.send_header('Content-Length', '1000')
        request.send_header('Content-Type', 'text/html')
        request.end_headers()
        request.wfile.write(b'<p>half')
        request.close_connection = True

    def nonsense(request):
        request.wfile.write(b'this is no HTTP\r\n\r\n')
        request.close_connection = True

    def huge(request):
        with contextlib.suppress(OSError):
            request.answer(200, b'x' * (16 * MIB + 1))

    links = ['missing', 'slow', 'cut-off', 'nonsense', 'huge', 'large', 'text', 'untyped', 'teapot', 'fine',
             'http://127.0.0.1:1/other']
    answers = {
        '/': html('Start', 'start', *links), '/fine': html('Fine', 'fine'), '/slow': slow, '/cut-off': cut_off,
        '/nonsense': nonsense, '/huge': huge, '/large': of_type('text/html', b'<title>Large</title>' + b'x ' * MIB),
        '/text': of_type('Text/Plain; charset=utf-8', 'text'), '/untyped': of_type('', 'x'),
        '/teapot': lambda request: request.answer(418, 'short and stout'),
    }
    with Site(answers) as site:
        lines = crawl(site.url, tmp / 'x.db', '--timeout', 1 * SLOWNESS)
        base = site.url + '/'
    got = pages(tmp / 'x.db', 'status, bytes, error')
    assert set(got) == {base} | {base + link for link in links[:-1]}, got
    assert {line[1] for line in lines} == set(got)
    assert got[base + 'missing'] == (404, 4, 'HTTP 404')
    assert got[base + 'teapot'] == (418, 15, 'HTTP 418'), got[base + 'teapot']
    assert got[base + 'slow'] == (0, 0, 'timed out'), got[base + 'slow']
    assert got[base + 'huge'] == (0, 0, 'larger than 16 MiB'), got[base + 'huge']
    assert got[base + 'text'] == (200, 4, 'not HTML: text/plain')
    assert got[base + 'untyped'] == (200, 1, 'not HTML: application/octet-stream')
    for name in ('cut-off', 'nonsense'):
        assert got[base + name][0] == 0 and got[base + name][2], got[base + name]
    assert got[base + 'large'][2] is None and got[base + 'fine'][2] is None
    assert len(texts(tmp / 'x.db')[base + 'large']) == 2 * MIB - 1
    assert set(texts(tmp / 'x.db')) == {base, base + 'large', base + 'fine'}
    with Site({f'/{n}': huge for n in range(2)} | {'/': html('Start', '', '0', '1')}) as site:
        crawl(site.url, tmp / 'huge.db')
        assert crawl(site.url, tmp / 'huge.db') == [] and len(site.asked) == 3, 'what is too large is fetched again'


def test_redirects(tmp):
    answers = {
        '/': html('Start', '', 'old', 'loop-a', 'self', 'away', 'strange', 'nowhere', 'found'),
        '/old': redirect('/new', 301), '/new': html('New', 'novelty', 'old'),
        '/loop-a': redirect('loop-b', 307), '/loop-b': redirect('/loop-c', 308), '/loop-c': redirect('/loop-a'),
        '/self': redirect('/self'), '/away': redirect('http://elsewhere.invalid/x'), '/strange': redirect('mailto:x@y'),
        '/nowhere': lambda request: request.answer(302, ''), '/found': redirect('/new', 303),
    }
    with Site(answers) as site:
        crawl(site.url, tmp / 'x.db', '--concurrency', 1)
        at = site.url
        asked = site.asked
    got = pages(tmp / 'x.db', 'status, error')
    assert got == {
        at + '/': (200, None), at + '/new': (200, None),
        at + '/old': (301, f'redirected to {at}/new'), at + '/found': (303, f'redirected to {at}/new'),
        at + '/loop-a': (307, f'redirected to {at}/loop-b'), at + '/loop-b': (308, f'redirected to {at}/loop-c'),
        at + '/loop-c': (302, 'redirect loop'), at + '/self': (302, 'redirect loop'),
        at + '/away': (302, 'redirected to http://elsewhere.invalid/x'),
        at + '/strange': (302, 'redirected to mailto:x@y'),
        at + '/nowhere': (302, 'HTTP 302'),
    }, got
    assert sorted(asked) == sorted(set(asked)), 'a page was asked for twice'


def test_endless_redirects(tmp):
    answers = {f'/{n}': redirect(f'/{n + 1}') for n in range(100)} | {'/': redirect('/0')}
    with Site(answers) as site:
        crawl(site.url, tmp / 'x.db')
        assert len(site.asked) == 21, len(site.asked)
        assert pages(tmp / 'x.db', 'error')[site.url + '/19'] == ('too many redirects',)
    answers = {f'/{n}': redirect(f'/{n + 1}') for n in range(19)} | {'/': redirect('/0'), '/19': html('End', 'end')}
    with Site(answers) as site:
        crawl(site.url, tmp / 'x.db', '--fresh')
        assert pages(tmp / 'x.db', 'title')[site.url + '/19'] == ('End',), 'twenty are followed'


# Pages that take libxml2, or us, a time or room out of proportion.
HOSTILE = {
    'attributes': b'<title>x</title><p ' + b' '.join(b'a%x' % n for n in range(100_000)) + b'>hello',
    'attributes-in-utf-16': ('<p ' + ' '.join(f'a{n:x}' for n in range(70_000)) + '>').encode('utf-16-le'),
    'values': b'<p ' + b' '.join(b'a%x="<>\'"' % n for n in range(80_000)) + b'>hello',
    'same-attributes': b'<p ' + b' '.join(b'a%x' % n for n in range(700)) + b' zz' * (5 * MIB) + b'>',
    'end-tags': b'<i>' * 1000 + b'</u>' * (3 * MIB),
    'nested': b'<div>' * (MIB // 5), 'lists': b'<ul><li>' * (MIB // 8), 'tables': b'<table><tr><td>' * (MIB // 15),
    'ampersands': b'&' * MIB, 'entities': b''.join(b'&e%d;' % n for n in range(100_000)),
    'names': b''.join(b'<t%x>' % n for n in range(100_000)), 'comments': b'<!--' * (MIB // 4), 'angles': b'<' * MIB,
    'scripts': b'<script>' * (MIB // 8), 'instructions': b'<?' * (MIB // 2), 'quotes': b'<p a="' * (MIB // 6),
    'base': b'<base href="/%s/">' % (b'x' * MIB) + b'<a href=y>' * 50_000,
    'bases': b'<base href="/%s/">' % (b'x' * 8000) + b''.join(b'<a href=http:%x>' % n for n in range(100_000)) +
             b'<a href=z>' * 50_000,
    'conversion': b'<p>\x81\xff\xfe' * 1000,
}
CHARSETS = {'attributes-in-utf-16': 'utf-16le', 'conversion': 'gb2312'}


def hostile_site(names=HOSTILE):
    answers = {'/' + name: of_type('text/html; charset=' + CHARSETS.get(name, 'utf-8'), HOSTILE[name])
               for name in names}
    return Site(answers | {'/': html('Start', '', *names)})


def test_hostile_pages(tmp):
    with hostile_site() as site:
        start = time.monotonic()
        crawl(site.url, tmp / 'x.db', '--timeout', 8 * SLOWNESS, '--limit', len(HOSTILE) + 1, timeout=90 * SLOWNESS)
        seconds = time.monotonic() - start
        got = pages(tmp / 'x.db', 'status, error')
        assert seconds < 45 * SLOWNESS, seconds
        for name in HOSTILE:
            status, error = got[f'{site.url}/{name}']
            assert status == 200, (name, status, error)
            if name in ('attributes', 'attributes-in-utf-16', 'values'):
                assert error == 'a tag with more than 1000 attributes', (name, error)
            elif name not in ('same-attributes', 'end-tags'):
                assert error is None, (name, error)
        assert os.path.getsize(tmp / 'x.db') < 100 * MIB


def test_large_tags_are_read(tmp):
    """What is large in an honest page: a picture in an attribute, a script, and some hundred attributes."""
    attributes = ' '.join(f'data-{n}="{n} > {n}"' for n in range(900))
    body = (f'<img src="data:image/png;base64,{"A >" * MIB}"><script>{"a<b c=d " * 5000}</script>'
            f'<!-- <p {"a b " * 5000} --><p {attributes}>the end')
    with Site({'/': html('Large', body)}) as site:
        crawl(site.url, tmp / 'x.db')
        assert pages(tmp / 'x.db', 'error') == {site.url + '/': (None,)}
        assert texts(tmp / 'x.db')[site.url + '/'] == 'the end'


def test_signal_while_pages_are_hostile(tmp):
    one_each = {name: [name] for name in ('attributes', 'same-attributes', 'end-tags', 'bases')}
    for name, names in (one_each | {'all': HOSTILE}).items():
        with hostile_site(names) as site:
            with subprocess.Popen([PROGRAM, 'crawl', site.url, '--into', tmp / f'{name}.db', '--limit', '20'],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                assert process.stdout.readline().startswith(b'200\t')
                time.sleep(0.2)
                start = time.monotonic()
                process.send_signal(signal.SIGINT)
                out, err = process.communicate()
                seconds = time.monotonic() - start
                late = process.returncode == -signal.SIGINT and b'done: ' in out    # valgrind was looking for leaks
                assert process.returncode in (0, 130) or late, (name, process.returncode)
                assert seconds < 1 * SLOWNESS, (name, seconds)
                assert not err, (name, err)


def test_credentials(tmp):
    def guarded(request):
        told = request.headers.get('Authorization')
        request.answer(200 if told == 'Basic YTpiIGM=' else 401, html('Secret', 'x', 'next', other.url))     # a:b c

    strange = []
    with Site({'/': lambda request: strange.append(dict(request.headers))}) as other:
        with Site({'/': guarded, '/next': redirect(other.url)}) as site:
            crawl(site.url.replace('//', '//a:b%20c@'), tmp / 'x.db')
            assert pages(tmp / 'x.db', 'status') == {site.url + '/': (200,), site.url + '/next': (302,)}
            assert query(tmp / 'x.db', 'SELECT value FROM meta') == [(site.url + '/',)]
    assert not strange


def test_html(tmp):
    body = '<title>Ignored</title><p>grüße'
    answers = {
        '/': html('Start', '', 'latin', 'meta', 'utf8', 'lying', 'unknown', 'broken', 'empty', 'base/page', 'xhtml',
                  'zero', 'untitled', 'tags'),
        '/latin': of_type('text/html; Charset="ISO-8859-1"', body.encode('latin-1')),
        '/meta': of_type('text/html', b'<meta charset="iso-8859-1">' + body.encode('latin-1')),
        '/utf8': of_type("text/html;charset='UTF-8'", body.encode()),
        '/lying': of_type('text/html; charset=utf-8', body.encode('latin-1')),
        '/unknown': of_type('text/html; charset=klingon', '<meta charset="utf-8">' + body),
        '/broken': '<table><p>one<a href="broken-link">two<div></b>three<ul><li>four<a href=deeper>five<script>six',
        '/broken-link': 'x', '/deeper': 'y', '/empty': '',
        '/base/page': '<head><base href="/other/"><a href="thing">t</a>', '/other/thing': html('Based', ''),
        '/xhtml': of_type('application/xhtml+xml', html('X', 'ex')),
        '/zero': b'<p>nul\0byte</p>', '/untitled': '<h1>No title</h1>',
        '/tags': '<a href>1</a><a name=x>2</a><a href="tags#here">3</a><area href="area"><link href="link">'
                 '<A HREF="/tags">4</A>',
    }
    with Site(answers) as site:
        crawl(site.url, tmp / 'x.db')
        at = site.url
        got, text = pages(tmp / 'x.db', 'title, links, error'), texts(tmp / 'x.db')
    for name in ('latin', 'meta', 'utf8', 'unknown'):
        assert text[f'{at}/{name}'].endswith('grüße'), (name, text[f'{at}/{name}'])
    assert text[at + '/lying'].startswith('gr\ufffd'), text[at + '/lying']
    assert got[at + '/broken'][1] == 2 and text[at + '/broken'] == 'one two three four five', text[at + '/broken']
    assert at + '/broken-link' in got and at + '/deeper' in got
    assert got[at + '/empty'] == (None, 0, None) and text[at + '/empty'] == ''
    assert got[at + '/other/thing'] == ('Based', 0, None) and at + '/base/thing' not in got
    assert got[at + '/xhtml'] == ('X', 0, None)
    assert got[at + '/untitled'] == (None, 0, None)
    assert got[at + '/tags'] == (None, 3, None)
    assert at + '/area' not in got and at + '/link' not in got


def test_urls(tmp):
    names = ['/a b', '/%7Euser', '/x/../y', '/./z', '/ü', '?q=1', '?q=1#f', '//127.0.0.1:PORT/w',
             'HTTP://127.0.0.1:PORT/v', '  /t\n ',
             'http:/odd', 'javascript:x()', 'https://127.0.0.1:PORT/tls', 'http://127.0.0.1:1/port', '/"<>']
    with Site({}) as site:
        links = [name.replace('PORT', str(site.server_port)).replace('"', '&quot;').replace('<', '&lt;')
                 for name in names]
        site.answers['/'] = '<meta charset=utf-8>' + html('S', '', *links)
        crawl(site.url.replace('http', 'HTTP') + '#fragment', tmp / 'x.db')
        got = {url[len(site.url):] for url in pages(tmp / 'x.db')}
    assert got == {'/', '/a%20b', '/%7Euser', '/y', '/z', '/%C3%BC', '/?q=1', '/w', '/v', '/t', '/%22%3C%3E'}, got


def test_resume_fetches_what_is_missing(tmp):
    delay = [3 * SLOWNESS]

    def slow(request):
        time.sleep(delay[0])
        with contextlib.suppress(OSError):
            request.answer(200, html('Slow', 'patience', 'late'))

    with Site({'/': html('S', '', 'slow', 'gone'), '/slow': slow, '/late': html('Late', 'l')}) as site:
        crawl(site.url, tmp / 'x.db', '--timeout', 0.5 * SLOWNESS)
        assert pages(tmp / 'x.db', 'error')[site.url + '/slow'] == ('timed out',)
        assert sorted(site.asked) == ['/', '/gone', '/slow']
        site.asked.clear()
        delay[0] = 0
        lines = crawl(site.url, tmp / 'x.db')
        assert sorted(site.asked) == ['/late', '/slow'], site.asked
        assert sorted(line[1] for line in lines) == [site.url + '/late', site.url + '/slow']
        assert pages(tmp / 'x.db', 'status, title, error')[site.url + '/slow'] == (200, 'Slow', None)
        site.asked.clear()
        assert crawl(site.url, tmp / 'x.db') == [] and not site.asked
        assert search(tmp / 'x.db', 'patience')[0][0] == 'Slow'


def test_nothing_missing(tmp):
    write(tmp / 'site', index=html('I', 'i', 'missing.html'))
    crawl(tmp / 'site', tmp / 'x.db')
    report = tmp / 'x.db.report.json'
    before = json.loads(report.read_text())
    status, out, err = sitesearch('crawl', tmp / 'site', '--into', tmp / 'x.db')
    assert (status, out, err) == (0, 'nothing missing; 2 pages; --fresh to renew\n', ''), (status, out, err)
    after = json.loads(report.read_text())
    for name in ('source', 'pages', 'errors', 'bytes', 'failed'):
        assert after[name] == before[name] and after[name], (name, before, after)


def test_page_stored_again(tmp):
    make_site(tmp, 30)
    crawl(tmp, tmp / 'x.db')
    before = whole_index(tmp / 'x.db')
    with opened(tmp / 'x.db') as db:
        db.execute("INSERT INTO frontier SELECT url, NULL FROM pages")
        db.commit()
    crawl(tmp, tmp / 'x.db')
    assert whole_index(tmp / 'x.db') == before
    assert query(tmp / 'x.db', 'SELECT count(*) FROM pages_fts') == [(30,)]


def test_two_crawls_at_once(tmp):
    held = threading.Event()

    def slow(request):
        held.wait(20)
        request.answer(200, html('Slow', 's'))

    with Site({'/': html('S', '', 'slow'), '/slow': slow}) as site:
        for number in (None, signal.SIGKILL):
            with subprocess.Popen([PROGRAM, 'crawl', site.url, '--into', tmp / 'x.db', '--fresh'],
                                  stdout=subprocess.PIPE) as process:
                assert process.stdout.readline().startswith(b'200\t')
                for extra in ([], ['--fresh']):
                    said = fails('crawl', site.url, '--into', tmp / 'x.db', *extra)
                    assert 'another crawl' in said and 'x.db' in said, said
                if number is None:
                    assert search(tmp / 'x.db', 'S'), 'it can be searched meanwhile'
                    held.set()
                else:
                    process.send_signal(number)
                process.communicate()
                held.clear()
            if number is not None:
                held.set()
                crawl(site.url, tmp / 'x.db')
            assert len(whole_index(tmp / 'x.db')[0]) == 2


def test_another_source_is_refused(tmp):
    write(tmp / 'one', index=html('One', 'one'))
    write(tmp / 'two', index=html('Two', 'two'))
    crawl(tmp / 'one', tmp / 'x.db')
    before = whole_index(tmp / 'x.db')
    said = fails('crawl', tmp / 'two', '--into', tmp / 'x.db')
    assert '--fresh' in said and str(tmp / 'one') in said, said
    assert whole_index(tmp / 'x.db') == before
    crawl(tmp / 'two', tmp / 'x.db', '--fresh')
    assert pages(tmp / 'x.db', 'title') == {'/index.html': ('Two',)}
    assert query(tmp / 'x.db', 'SELECT value FROM meta') == [(str(tmp / 'two'),)]


def test_limit(tmp):
    make_site(tmp, 60)
    crawl(tmp, tmp / 'whole.db')
    fetched = 0
    for limit in (1, 7, 20, 1000):
        fetched += len(crawl(tmp, tmp / 'x.db', '--limit', limit, '--concurrency', 5))
        assert fetched == min((1, 8, 28, 60)[(1, 7, 20, 1000).index(limit)], 60), fetched
    assert whole_index(tmp / 'x.db') == whole_index(tmp / 'whole.db')


def test_concurrency(tmp):
    busy, most, lock = [0], [0], threading.Lock()

    def counted(request):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.05)
        with lock:
            busy[0] -= 1
        request.answer(200, html('P', ''))

    names = [f'p{n}' for n in range(40)]
    with Site({'/': html('S', '', *names), **{f'/{name}': counted for name in names}}) as site:
        crawl(site.url, tmp / 'x.db', '--concurrency', 5)
    assert most[0] == 5, most


def test_search(tmp):
    write(tmp / 'site',
          index=html('Fruit', 'apple banana cherry', 'a.html', 'b.html', 'c.html'),
          a=html('Cherry', 'the red one'), b=html('Other', 'cherry cherry pie and more cherry', 'index.html'),
          c=html('C++ "quoted" AND NOT', "don't (panic): a* b^ -x NEAR/2"))
    db = tmp / 'x.db'
    crawl(tmp / 'site', db)
    hits = search(db, 'cherry')
    assert [hit[1] for hit in hits][0] == '/a.html', 'a word in the title counts more'
    assert {hit[1] for hit in hits} == {'/index.html', '/a.html', '/b.html'}
    assert any('[cherry]' in hit[2] for hit in hits), hits
    assert len(search(db, 'cherry', '--limit', '2')) == 2
    assert [hit[1] for hit in search(db, 'cherry', 'pie')] == ['/b.html']
    for words in (['"quoted"'], ['AND'], ['NOT'], ["don't"], ['(panic):'], ['C++'], ['a*', 'b^'], ['NEAR/2'], ['^x'],
                  ['"']):
        status, out, err = sitesearch('search', db, *words)
        assert status in (0, 1) and ('no page has' in err or not err), (words, err)
    assert search(db, '"quoted"')[0][1] == '/c.html'
    said = fails('search', db, 'durian', 'jam')
    assert said == 'sitesearch: no page has durian jam\n', said
    status, out, err = sitesearch('search', db, 'cherry')
    assert float(out.splitlines()[-1].split(' in ')[1].split(' ')[0]) < 100 * SLOWNESS


def test_start_page_that_cannot_be_had(tmp):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
    url = f'http://127.0.0.1:{port}/'
    for address in (url, 'http://does-not-exist.invalid/'):
        db = tmp / f'{len(address)}.db'
        said = fails('crawl', address, '--into', db)
        assert address in said, said
        (status, error), = pages(db, 'status, error').values()
        assert status == 0 and error, (status, error)
        assert json.loads((tmp / (db.name + '.report.json')).read_text())['errors'] == 1
    with Site({}) as site:
        crawl(site.url, tmp / 'gone.db')            # it answers, so the crawl is complete
        assert pages(tmp / 'gone.db', 'error') == {site.url + '/': ('HTTP 404',)}


def test_bad_usage(tmp):
    write(tmp / 'site', index=html('I', 'i'))
    db = tmp / 'x.db'
    for arguments in ([], ['frobnicate'], ['--frobnicate'], ['crawl'], ['crawl', tmp / 'site'], ['crawl', '--into', db],
                      ['crawl', tmp / 'site', '--into'], ['crawl', tmp / 'site', tmp / 'site', '--into', db],
                      ['crawl', tmp / 'site', '--into', db, '--frobnicate'],
                      ['crawl', tmp / 'site', '--into', db, '--concurrency', '0'],
                      ['crawl', tmp / 'site', '--into', db, '--concurrency', '-3'],
                      ['crawl', tmp / 'site', '--into', db, '--concurrency', 'many'],
                      ['crawl', tmp / 'site', '--into', db, '--concurrency', '99999999999999999999'],
                      ['crawl', tmp / 'site', '--into', db, '--limit', '0'],
                      ['crawl', tmp / 'site', '--into', db, '--limit', '1.5'],
                      ['crawl', tmp / 'site', '--into', db, '--timeout', '0'],
                      ['crawl', tmp / 'site', '--into', db, '--timeout', 'soon'],
                      ['crawl', tmp / 'site', '--into', db, '--timeout', 'nan'],
                      ['crawl', tmp / 'site', '--into', ''], ['crawl', '', '--into', db], ['search', '', 'x'],
                      ['search'], ['search', db], ['search', db, 'x', '--limit', '0']):
        fails(*arguments, status=2)
    assert not db.exists()
    for arguments in (['--help'], ['crawl', '--help'], ['search', '--help']):
        status, out, err = sitesearch(*arguments)
        assert status == 0 and 'Usage' in out and not err


def test_names_of_databases(tmp):
    """No name is anything but a file's."""
    write(tmp / 'site', index=html('I', 'words'))
    for name in (':memory:', 'file:x.db', 'file:y?mode=memory', '-x.db', 'a?b#c%41.db'):
        into = '--into=' + name
        status, out, err = sitesearch('crawl', 'site', into, cwd=tmp)
        assert status == 0 and (tmp / name).stat().st_size > 0, (name, status, err)
        status, out, err = sitesearch('search', '--', name, 'words', cwd=tmp)
        assert status == 0 and '1 hit' in out, (name, err)
    assert not (tmp / 'x.db').exists()


def test_tools_look_at_their_arguments_first(tmp):
    for arguments, wanted in ((['test', 'gcc', 'nonsense'], 'nonsense'), (['demo', ''], 'usage')):
        done = subprocess.run([TOOLS / arguments[0], *arguments[1:]], capture_output=True, text=True, cwd=tmp)
        assert done.returncode in (1, 2) and wanted in done.stderr and '==>' not in done.stdout, done


def test_bad_input(tmp):
    write(tmp / 'site', index=html('I', 'i'))
    (tmp / 'text.db').write_text('This is a text of more than a few bytes, and no database.\n' * 40)
    with opened(tmp / 'other.db') as other:
        other.execute('CREATE TABLE precious (x)')
        other.execute('INSERT INTO precious VALUES (42)')
        other.commit()
    kept = {name: (tmp / name).read_bytes() for name in ('text.db', 'other.db')}

    fails('crawl', tmp / 'nowhere', '--into', tmp / 'x.db')
    fails('crawl', tmp / 'text.db', '--into', tmp / 'x.db')
    fails('crawl', 'ftp://127.0.0.1/', '--into', tmp / 'x.db')
    fails('crawl', 'http://', '--into', tmp / 'x.db')
    fails('crawl', 'http://127.0.0.1:port/', '--into', tmp / 'x.db')
    assert not (tmp / 'x.db').exists()
    for extra in ([], ['--fresh']):
        assert 'text.db' in fails('crawl', tmp / 'site', '--into', tmp / 'text.db', *extra)
        assert 'other.db' in fails('crawl', tmp / 'site', '--into', tmp / 'other.db', *extra)
        fails('crawl', tmp / 'site', '--into', tmp, *extra)
        fails('crawl', tmp / 'site', '--into', tmp / 'no-folder' / 'x.db', *extra)
    fails('search', tmp / 'missing.db', 'x')
    fails('search', tmp / 'text.db', 'x')
    assert 'not one of sitesearch' in fails('search', tmp / 'other.db', 'x')
    (tmp / 'empty.db').touch()
    assert 'empty' in fails('search', tmp / 'empty.db', 'x')
    assert not (tmp / 'missing.db').exists()
    assert {name: (tmp / name).read_bytes() for name in kept} == kept


def find_port(process):
    """That on which it listens."""
    sockets = {os.readlink(path) for path in pathlib.Path(f'/proc/{process.pid}/fd').iterdir() if path.is_symlink()}
    for line in open('/proc/net/tcp').read().splitlines()[1:]:
        words = line.split()
        if words[3] == '0A' and f'socket:[{words[9]}]' in sockets:
            return int(words[1].partition(':')[2], 16)


def test_server_of_a_folder(tmp):
    """It answers to its own address only, and gives nothing that is hidden."""
    make_site(tmp, 3000)
    (tmp / 'page-5.html').write_text(html('Five', 'cinque', '.hidden/x.html', '.hidden.html'))
    write(tmp, **{'.hidden__x': 'secret', '.hidden': 'secret'})
    with subprocess.Popen([PROGRAM, 'crawl', tmp, '--into', tmp / 'x.db'], stdout=subprocess.PIPE) as process:
        process.stdout.read(1)                  # and no more, so that it has to wait, but for its server
        port = find_port(process)
        own = f'127.0.0.1:{port}'
        for host, path, wanted in ((own, '/index.html', 200), (own, '/.hidden.html', 404),
                                   (own, '/.hidden/x.html', 404), ('evil.example', '/index.html', 403),
                                   (f'evil.example:{port}', '/index.html', 403)):
            connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10 * SLOWNESS)
            connection.request('GET', path, headers={'Host': host})
            status = connection.getresponse().status
            connection.close()
            assert status == wanted, (host, path, status)
        process.communicate()
        assert process.returncode == 0
    got = pages(tmp / 'x.db', 'status')
    assert got['/.hidden/x.html'] == got['/.hidden.html'] == (404,)


def as_nobody():
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def test_read_only(tmp):
    for path in (tmp.parent, tmp):
        path.chmod(0o755)
    write(tmp / 'site', index=html('I', 'i', 'two.html'))
    crawl(tmp / 'site', tmp / 'x.db')
    write(tmp / 'site', two=html('Two', 'two'))
    with opened(tmp / 'x.db') as db:
        db.execute("DELETE FROM pages WHERE url = '/two.html'")
        db.execute("INSERT INTO frontier VALUES ('/two.html', NULL)")
        db.commit()
    (tmp / 'x.db').chmod(0o444)
    content = (tmp / 'x.db').read_bytes()
    if os.geteuid() == 0:
        try:
            subprocess.run([PROGRAM], preexec_fn=as_nobody, capture_output=True)
        except OSError:
            raise Skip('the build folder is not for everybody to read')
    for extra in ([], ['--fresh']):
        assert 'x.db' in fails('crawl', tmp / 'site', '--into', tmp / 'x.db', *extra, preexec_fn=as_nobody)
    assert (tmp / 'x.db').read_bytes() == content
    if os.geteuid() == 0:                       # the folder is not theirs
        fails('crawl', tmp / 'site', '--into', tmp / 'new.db', preexec_fn=as_nobody)


def test_search_in_a_read_only_folder(tmp):
    write(tmp / 'site', index=html('I', 'words', 'two.html'))
    folder = tmp / 'folder'
    folder.mkdir()
    for path in (tmp.parent, tmp):
        path.chmod(0o755)
    if os.geteuid() == 0:
        try:
            subprocess.run([PROGRAM], preexec_fn=as_nobody, capture_output=True)
        except OSError:
            raise Skip('the build folder is not for everybody to read')

    def look():
        folder.chmod(0o555)
        try:
            return sitesearch('search', folder / 'x.db', 'words', preexec_fn=as_nobody)
        finally:
            folder.chmod(0o755)

    crawl(tmp / 'site', folder / 'x.db')
    status, out, err = look()
    assert status == 0 and '1 hit' in out, err
    search(folder / 'x.db', 'words')
    assert sorted(path.name for path in folder.iterdir()) == ['x.db', 'x.db.report.json']

    with opened(folder / 'x.db') as db:         # as Ctrl-C leaves it, with an empty log
        db.execute('PRAGMA journal_mode = WAL')
    status, out, err = look()
    assert status == 0 and '1 hit' in out, err

    with opened(folder / 'x.db') as db:         # and as kill -9 does
        db.execute("UPDATE pages SET title = 'x'")
        db.commit()
        for name in ('x.db', 'x.db-wal'):
            shutil.copy(folder / name, tmp / name)
    for path in folder.glob('x.db*'):
        path.unlink()
    for name in ('x.db', 'x.db-wal'):
        shutil.copy(tmp / name, folder / name)
    status, out, err = look()
    assert status == 1 and 'interrupted' in err and err.count('\n') == 1, (status, out, err)
    status, out, err = sitesearch('search', folder / 'x.db', 'words')
    assert status == 0 and '1 hit' in out, err


def test_file_size_limit(tmp):
    """What a full disk does, on any machine: no file may grow beyond 256 KiB."""
    make_site(tmp, 400)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, 256 * 1024))

    status, out, err = sitesearch('crawl', tmp, '--into', tmp / 'x.db', preexec_fn=limit, restore_signals=False)
    assert status == 1 and err.startswith('sitesearch: ') and err.count('\n') == 1 and 'x.db' in err, (status, err)
    check_reported(tmp / 'x.db', out)
    crawl(tmp, tmp / 'x.db')
    crawl(tmp, tmp / 'whole.db')
    assert whole_index(tmp / 'x.db') == whole_index(tmp / 'whole.db')


def test_full_disk(tmp):
    make_site(tmp, 400)
    disk = tmp / 'disk'
    disk.mkdir()
    if shutil.which('unshare') is None or subprocess.run(
            ['unshare', '-m', 'mount', '-t', 'tmpfs', 'none', disk], capture_output=True).returncode:
        raise Skip('a file system cannot be mounted here')
    script = ('mount -t tmpfs -o size=300k none "$1" && "$2" crawl "$3" --into "$1/x.db"; status=$?; '
              'cp "$1"/x.db* "$3"; exit $status')
    done = subprocess.run(['unshare', '-m', 'sh', '-c', script, 'sh', disk, PROGRAM, tmp], capture_output=True)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 1 and err.startswith('sitesearch: ') and err.count('\n') == 1, (done.returncode, err)
    assert 'full' in err, err
    check_reported(tmp / 'x.db', out)
    crawl(tmp, tmp / 'x.db')
    crawl(tmp, tmp / 'whole.db')
    assert whole_index(tmp / 'x.db') == whole_index(tmp / 'whole.db')


def test_output_that_cannot_be_written(tmp):
    write(tmp / 'site', index=html('I', 'i'))
    with open('/dev/full', 'w') as full:
        done = subprocess.run([PROGRAM, 'crawl', tmp / 'site', '--into', tmp / 'x.db'],
                              stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr.startswith(b'sitesearch: ') and done.stderr.count(b'\n') == 1, done
    with open('/dev/full', 'w') as full:
        done = subprocess.run([PROGRAM, 'search', tmp / 'x.db', 'i'], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr == b'sitesearch: the output could not be written\n', done
    assert len(whole_index(tmp / 'x.db')[0]) == 1


def check_reported(db, out):
    """What was printed had been committed, and the database is sound."""
    with opened(db) as connection:
        assert connection.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
        has = {url for url, in connection.execute('SELECT url FROM pages')}
        indexed = connection.execute('SELECT count(*) FROM pages_fts').fetchone()[0]
        complete = connection.execute('SELECT count(*) FROM pages WHERE status = 200 AND error IS NULL').fetchone()[0]
    reported = {line[1] for line in pages_in(out)}
    assert reported <= has, f'reported, but not there: {sorted(reported - has)[:5]}'
    assert indexed == complete, 'a page is half there'


def stop_at_random_moments(tmp, rounds, number):
    """Stops it again and again, with a new database every time, and has each crawl completed by a second run."""
    make_site(tmp, 250)
    start = time.monotonic()
    crawl(tmp, tmp / 'whole.db', '--concurrency', 4)
    duration = time.monotonic() - start
    whole = whole_index(tmp / 'whole.db')
    chance = random.Random(SEED)
    stopped, slowest = 0, 0
    for round_number in range(rounds):
        db = tmp / f'{number}-{round_number}.db'
        with subprocess.Popen([PROGRAM, 'crawl', tmp, '--into', db, '--concurrency', '4', *PATIENCE],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            sent = []
            timer = threading.Timer(chance.uniform(0, duration),
                                    lambda: (sent.append(time.monotonic()), process.send_signal(number)))
            timer.start()
            out, err = process.communicate()
            ended = time.monotonic()
            timer.cancel()
        status = process.returncode
        if sent and status != 0:
            stopped += 1
            slowest = max(slowest, ended - sent[0])
            if number == signal.SIGKILL:
                assert status == -signal.SIGKILL, (status, err)
            elif status != -number:             # unless it came before the program had a handler
                assert status == 128 + number, (status, err)
                assert ended - sent[0] < 1 * SLOWNESS, f'took {ended - sent[0]:.2f} s to stop'
                assert not err, err
        else:
            assert status == 0, (status, err)
        if db.exists():
            with contextlib.suppress(sqlite3.OperationalError):     # no tables yet
                query(db, 'SELECT count(*) FROM pages_fts')
                check_reported(db, out.decode())
        crawl(tmp, db)
        for got, expected in zip(whole_index(db), whole):
            assert got == expected, (round_number, [pair for pair in zip(got, expected) if pair[0] != pair[1]][:3])
    print(f'# {stopped} of {rounds} were stopped, the slowest in {slowest * 1000:.0f} ms (SEED={SEED})')


def test_sigint(tmp):
    stop_at_random_moments(tmp, 20, signal.SIGINT)


def test_sigterm(tmp):
    stop_at_random_moments(tmp, 10, signal.SIGTERM)


def test_kill(tmp):
    stop_at_random_moments(tmp, 20, signal.SIGKILL)


def test_signal_while_pages_are_slow(tmp):
    def never(request):
        time.sleep(30)

    with Site({'/': html('S', '', *[f'n{i}' for i in range(20)]), **{f'/n{i}': never for i in range(20)}}) as site:
        with subprocess.Popen([PROGRAM, 'crawl', site.url, '--into', tmp / 'x.db', '--timeout', '20'],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout.readline().startswith(b'200\t')
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.communicate()
            assert process.returncode == 130
            assert time.monotonic() - start < 1 * SLOWNESS
    assert pages(tmp / 'x.db', 'status') == {site.url + '/': (200,)}
    assert query(tmp / 'x.db', 'SELECT count(*) FROM frontier') == [(20,)]


def test_terminal(tmp):
    """On a terminal: one line that is rewritten, and hits in bold."""
    import pty
    make_site(tmp, 100)
    for arguments, wanted in ((['crawl', tmp, '--into', tmp / 'x.db'], b'done: 100 pages, 0 errors'),
                              (['search', tmp / 'x.db', 'word42'], b'\x1b[1mword42\x1b[0m')):
        parent, child = pty.openpty()
        with subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=child, stderr=subprocess.PIPE) as process:
            os.close(child)
            out = b''
            with contextlib.suppress(OSError):
                while chunk := os.read(parent, 65536):
                    out += chunk
            os.close(parent)
            assert process.wait() == 0, process.stderr.read()
        assert wanted in out, out
        assert b'\t' not in out


def main():
    chosen = sys.argv[2:]
    tests = [(name[5:].replace('_', ' '), test) for name, test in globals().items()
             if name.startswith('test_') and (not chosen or name[5:] in chosen)]
    if not os.path.exists(PROGRAM):
        print('1..0 # SKIP sitesearch is not built')
        return 0
    print(f'1..{len(tests)}', flush=True)
    failures = 0
    for number, (name, test) in enumerate(tests, 1):
        with tempfile.TemporaryDirectory(prefix='sitesearch-') as folder:
            tmp = pathlib.Path(folder) / 'work'
            tmp.mkdir()
            try:
                test(tmp)
                print(f'ok {number} {name}', flush=True)
            except Skip as reason:
                print(f'ok {number} {name} # SKIP {reason}', flush=True)
            except Exception as error:
                failures += 1
                said = f'line {find_line(error)}: {type(error).__name__}: {error}'.replace('\\n', '\n')
                print(f'not ok {number} {name}')
                for line in said.splitlines()[:30]:
                    print('# ' + line[:500], flush=True)
    return 1 if failures else 0


def find_line(error):
    line, frame = 0, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == __file__:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


if __name__ == '__main__':
    sys.exit(main())
