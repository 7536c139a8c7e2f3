# SPDX-License-Identifier: LGPL-2.1-or-later
"""nginx on a folder: on loopback, one worker, nothing left behind.

    with nginx.serving('/some/folder') as url:
        ...                                     # 'http://127.0.0.1:40123/'

The kernel chooses the port: the socket is bound and listening here already and
nginx inherits it (the variable NGINX is how nginx hands its own sockets to its
successor), so no other process can take the port in between, and a client that
comes early waits instead of being refused.
"""

import contextlib
import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import process
from failure import Failure

CONFIG = '''
daemon off;
worker_processes 1;
user {user} {group};
pid {prefix}/pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {prefix}/body;
  proxy_temp_path {prefix}/proxy;
  fastcgi_temp_path {prefix}/fastcgi;
  uwsgi_temp_path {prefix}/uwsgi;
  scgi_temp_path {prefix}/scgi;
  types {{
    text/html html htm;
    text/css css;
    text/plain txt;
    application/javascript js;
    image/gif gif;
    image/jpeg jpg jpeg;
    image/png png;
    image/svg+xml svg;
    application/pdf pdf;
  }}
  default_type application/octet-stream;
  sendfile on;
  tcp_nodelay on;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    root "{folder}";
    index index.html;
  }}
}}
'''


def program():
    """nginx is in /usr/sbin, which is not in everybody's PATH."""
    path = shutil.which('nginx', path=os.environ.get('PATH', '') + ':/usr/sbin:/usr/local/sbin')
    if path is None:
        raise Failure('nginx is missing (Debian: nginx-light)')
    return path


@contextlib.contextmanager
def serving(folder):
    nginx = program()
    with tempfile.TemporaryDirectory(prefix='belay-nginx-') as prefix, \
            socket.create_server(('127.0.0.1', 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        config = os.path.join(prefix, 'nginx.conf')
        with open(config, 'w') as file:
            file.write(CONFIG.format(prefix=prefix, port=port, folder=os.path.abspath(folder),
                                     user=pwd.getpwuid(os.geteuid()).pw_name,
                                     group=grp.getgrgid(os.getegid()).gr_name))
        server = subprocess.Popen(
            [nginx, '-p', prefix, '-c', config, '-e', os.path.join(prefix, 'error.log')],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, 'NGINX': f'{listener.fileno()};'}, pass_fds=[listener.fileno()],
            preexec_fn=process.ends_with_us)
        try:
            url = f'http://127.0.0.1:{port}/'
            _wait_until_up(server, url, prefix)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_up(server, url, prefix, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=0.5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    with contextlib.suppress(OSError), open(os.path.join(prefix, 'error.log')) as log:
        raise Failure('nginx does not start: ' + (log.readlines() or ['no reason given'])[-1].strip())
    raise Failure('nginx does not start')
