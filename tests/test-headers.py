#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The public headers as a program meets them: alone, in each language, with the warnings that users have on.

    test-headers.py BUILD-FOLDER

Each compiler that is there compiles each header alone, a program that uses the macros, and mistakes, which must not
compile. Nothing is linked. Output: TAP.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1]).resolve()

C_STANDARDS = ['gnu11', 'c11', 'gnu17']
CXX_STANDARDS = ['c++17']
WARNINGS = ['-Wall', '-Wextra', '-Wshadow', '-Werror']

# The headers that can be included, and the package that each needs besides GLib.
HEADERS = {'belay/belay.h': [], 'belay/belay-test.h': [], 'belay/belay-sqlite.h': ['sqlite3'], 'belay/belay-http.h': []}

# What a user writes with the macros. In C++ a pointer needs its cast, and that is all.
PROGRAM = r'''
#include <belay/belay.h>

#ifdef __cplusplus
# define CAST(Type) (Type *)
#else
# define CAST(Type)
#endif

gboolean save (gpointer data, GError **error);
BelayFile *opened (const char *path, GError **error);
gboolean copy (GFile *from, GFile *to, GError **error);
GBytes *first_bytes (GFile *file, GError **error);
gboolean many (gpointer data, GError **error);
gboolean locks (gpointer data, GError **error);

typedef struct { BelayPlain plain; int fd; } Own;
BELAY_DEFINE_AUTO (Own)

static gboolean
own_close (gpointer self, BelayReason reason, GError **error)
{
  (void) error;
  g_print ("%d %d\n", ((Own *) self)->fd, (int) reason);
  return TRUE;
}

static const BelayPlainClass own_class = BELAY_PLAIN_CLASS ("Own", own_close, g_free);

/* A guard, a block in a block, an explicit commit. */
gboolean
save (gpointer data, GError **error)
{
  gboolean ok = FALSE;
  belay_auto (BelayTimeout) limit = belay_timeout (2000);
  belay_auto (BelayFile) out = CAST (BelayFile) belay_await (belay_file_replace ((const char *) data), error);
  if (out == NULL)
    return FALSE;

  BELAY_WITH (BelayFile, copy, belay_file_create ("copy"), error)
    BELAY_WITH (BelayFile, second, belay_file_create ("second"), error)
      {
        if (!belay_await_ok (belay_file_write_text (copy, "x"), error))
          break;
        ok = belay_await_ok (belay_file_write_text (second, "x"), error);
      }
    else
      ok = FALSE;
  else
    ok = FALSE;

  return ok && !belay_timeout_expired (limit) && belay_commit (&out, error);
}

/* What a guard holds, moved out of it. */
BelayFile *
opened (const char *path, GError **error)
{
  belay_auto (BelayFile) file = CAST (BelayFile) belay_await (belay_file_create (path), error);
  if (file == NULL || !belay_await_ok (belay_file_write_text (file, "head"), error))
    return NULL;
  return belay_steal (&file);
}

/* GIO's functions: one for each kind of what they return. */
gboolean
copy (GFile *from, GFile *to, GError **error)
{
  g_autoptr (GFileInputStream) in =
    CAST (GFileInputStream) belay_await (BELAY_GIO (g_file_read_async, g_file_read_finish, from, 0), error);
  if (in == NULL)
    return FALSE;
  g_autoptr (GFileOutputStream) out = CAST (GFileOutputStream) belay_await (
    BELAY_GIO (g_file_replace_async, g_file_replace_finish, to, NULL, FALSE, G_FILE_CREATE_NONE, 0), error);
  gint64 n = 0;
  return out != NULL &&
         belay_await_int64 (BELAY_GIO (g_output_stream_splice_async, g_output_stream_splice_finish,
                                       G_OUTPUT_STREAM (out), G_INPUT_STREAM (in), G_OUTPUT_STREAM_SPLICE_NONE, 0),
                            &n, error) &&
         belay_await_ok (BELAY_GIO (g_file_delete_async, g_file_delete_finish, from, 0), error);
}

GBytes *
first_bytes (GFile *file, GError **error)
{
  g_autoptr (GFileInputStream) in =
    CAST (GFileInputStream) belay_await (BELAY_GIO (g_file_read_async, g_file_read_finish, file, 0), error);
  if (in == NULL)
    return NULL;
  return CAST (GBytes) belay_await (
    BELAY_GIO (g_input_stream_read_bytes_async, g_input_stream_read_bytes_finish, G_INPUT_STREAM (in), 10, 0), error);
}

/* A scope, a type of one's own, a semaphore, a future of a number. */
gboolean
many (gpointer data, GError **error)
{
  gint64 number = 0;
  belay_auto (BelayScope) scope = belay_scope_begin ();
  belay_auto (Own) own = belay_plain_new (Own, &own_class);
  g_autoptr (BelaySemaphore) semaphore = belay_semaphore_new (3);
  belay_auto (BelayPermit) permit = belay_semaphore_acquire (semaphore, error);

  own->fd = 1;
  if (permit == NULL || !belay_scope_spawn (scope, save, data, NULL) || !belay_sleep (1, error) ||
      !belay_await_int64 (belay_future_new_int64 (3), &number, error) ||
      !belay_await_ok (belay_future_all (belay_future_delay (1), belay_spawn (save, data), NULL), error))
    return FALSE;
  return belay_close (&own, error) && belay_scope_close (&scope, error);
}

/* A lock with its condition, a read-write lock, several permits. */
gboolean
locks (gpointer data, GError **error)
{
  g_autoptr (BelayLock) lock = belay_lock_new ();
  g_autoptr (BelayCondition) changed = belay_condition_new (lock);
  g_autoptr (BelayRwLock) table = belay_rw_lock_new ();
  belay_auto (BelayLockGuard) held = belay_lock_acquire (lock, error);
  belay_auto (BelayWriteGuard) writing = belay_rw_lock_write (table, error);
  belay_auto (BelayReadGuard) reading = writing != NULL ? belay_rw_lock_downgrade (&writing) : belay_rw_lock_read (table, error);
  belay_auto (BelayPermits) permits = belay_semaphore_acquire_many ((BelaySemaphore *) data, 2, error);

  return held != NULL && reading != NULL && permits != NULL && belay_condition_wait (changed, &held, error);
}
'''

SQLITE = r'''
#include <belay/belay-sqlite.h>

gboolean change (const char *path, GError **error);

gboolean
change (const char *path, GError **error)
{
  gboolean ok = FALSE;

  BELAY_WITH (BelaySqlite, db, belay_sqlite_open (path, NULL), error)
    {
      belay_auto (BelaySqlite) tx = (BelaySqlite *) belay_await (belay_sqlite_begin (db), error);
      ok = tx != NULL &&
           belay_await_ok (belay_sqlite_execute (tx, "INSERT INTO t VALUES (?)", g_variant_new ("(i)", 36)), error) &&
           belay_commit (&tx, error);
    }
  else
    ok = FALSE;
  return ok;
}
'''

HTTP = r'''
#include <belay/belay-http.h>

guint status (const char *url, GError **error);

guint
status (const char *url, GError **error)
{
  belay_auto (BelayHttpSession) session = belay_http_session_new ();
  g_autoptr (BelayHttpResponse) response = (BelayHttpResponse *) belay_await (belay_http_get (session, url), error);

  return response != NULL ? belay_http_response_get_status (response) : 0;
}
'''

# Each is a program that compiles, with HERE as nothing; with what HERE stands for it must not, and the compiler says WHY.
INSIDE = r'''
#include <belay/belay.h>
typedef struct { int x; } Foreign;
gboolean f (BelayFile *file, GError **error);
gboolean
f (BelayFile *file, GError **error)
{
  %s
  return belay_await_ok (belay_file_write_text (file, "x"), error);
}
'''
NOT_REGISTERED = 'belay_auto_release_|cleanup argument'
MISTAKES = [
    ('a guard of a type that was not registered', INSIDE, 'belay_auto (Foreign) x = NULL; (void) x;', NOT_REGISTERED),
    ('a guard of an object that is no resource', INSIDE, 'belay_auto (GFile) x = NULL; (void) x;', NOT_REGISTERED),
    ('a block of a type that was not registered', INSIDE,
     'BELAY_WITH (Foreign, x, belay_future_new_done (), error) { (void) x; } else { }', NOT_REGISTERED),
    ('a future that is dropped', INSIDE, 'belay_file_write_text (file, "x");', 'unused.result'),
    ('a timeout that no guard holds', INSIDE, 'belay_timeout (100);', 'unused.result'),
    ('a scope that no guard holds', INSIDE, 'belay_scope_begin ();', 'unused.result'),
    ('a list of futures without its end', INSIDE,
     'if (belay_await_ok (belay_future_all (belay_future_delay (1), belay_future_delay (2)), error)) return TRUE;',
     'sentinel'),
    ('a part included without belay.h', '%s\n#include <belay/belay.h>\nint i;\n', '#include <belay/belay-future.h>',
     'can be included directly'),
]
# gcc alone can say this.
JUMP = ('a goto past a guard', INSIDE,
        'if (file == NULL) goto out;\n  { belay_auto (BelayFile) x = NULL; (void) x;\nout: return FALSE; }', 'jump')


def pkg_config(*packages):
    done = subprocess.run(['pkg-config', '--cflags', *packages], capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else None


def compilers():
    """(command, its standards) of each that is there."""
    found = {}
    for variable, names, standards in (('CC', ['gcc', 'clang'], C_STANDARDS), ('CXX', ['g++', 'clang++'], CXX_STANDARDS)):
        for command in [os.environ.get(variable, ''), *names]:
            if command and shutil.which(command.split()[0]):
                found.setdefault(command, standards)
    return list(found.items())


def compile_text(command, standard, text, packages, warnings=()):
    """What the compiler complains of; nothing when it does not."""
    language = 'c++' if '++' in standard else 'c'
    arguments = [*command.split(), '-x', language, f'-std={standard}', *WARNINGS, *warnings, '-O2', '-c', '-o', '/dev/null',
                 f'-I{SOURCE}/include', f'-I{BUILD}/include', *pkg_config('gio-2.0', *packages), '-']
    done = subprocess.run(arguments, input=text, capture_output=True, text=True, env={**os.environ, 'LC_ALL': 'C.UTF-8'})
    return done.stderr if done.returncode or done.stderr else ''


def is_gcc(command):
    version = subprocess.run([*command.split(), '--version'], capture_output=True, text=True).stdout
    return 'clang' not in version


def compiles(command, standard, text, packages, warnings):
    return compile_text(command, standard, text, packages, warnings).splitlines()[:20]


def is_refused(command, standard, template, mistake, why, warnings):
    right = compile_text(command, standard, template % '', [], warnings)
    if right:
        return ['it does not compile without the mistake either', *right.splitlines()[:10]]
    wrong = compile_text(command, standard, template % mistake, [], warnings)
    if not wrong:
        return ['it compiles']
    if not re.search(why, wrong):
        return [f'the compiler does not speak of {why}', *wrong.splitlines()[:10]]
    return []


def cases():
    """(what, function, arguments) of each."""
    for command, standards in compilers():
        jumps = ['-Wjump-misses-init'] if is_gcc(command) and standards is C_STANDARDS else []
        for standard in standards:
            where = f'{command} -std={standard}'
            for header, packages in HEADERS.items():
                yield f'{where}: <{header}> alone', compiles, (command, standard, f'#include <{header}>\n', packages, jumps)
            twice = ''.join(f'#include <{header}>\n' for header in [*HEADERS, *HEADERS])
            yield f'{where}: all, twice', compiles, (command, standard, twice, ['sqlite3'], jumps)
            for name, program, packages in (('core', PROGRAM, []), ('SQLite', SQLITE, ['sqlite3']), ('HTTP', HTTP, [])):
                yield f'{where}: a program with {name}', compiles, (command, standard, program, packages, jumps)
        where, standard = f'{command} -std={standards[0]}', standards[0]
        for what, template, mistake, why in MISTAKES:
            yield f'{where}: refused: {what}', is_refused, (command, standard, template, mistake, why, jumps)
        if jumps:
            what, template, mistake, why = JUMP
            yield f'{where}: refused: {what}', is_refused, (command, standard, template, mistake, why, jumps)


def main():
    if pkg_config('sqlite3') is None:
        del HEADERS['belay/belay-sqlite.h']
    todo = list(cases())
    print(f'1..{len(todo)}', flush=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, ((what, _, _), problems) in enumerate(zip(todo, pool.map(lambda case: case[1](*case[2]), todo)), 1):
            failed += bool(problems)
            print(f'{"not ok" if problems else "ok"} {number} - {what}', flush=True)
            for problem in problems:
                print(f'# {problem}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
