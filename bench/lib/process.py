# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs to compare, run one at a time, each bounded in time."""

import ctypes
import os
import resource
import signal
import subprocess

from failure import Failure

PYTHON = '/usr/bin/python3'             # the one that Debian's python3-… packages are for


def ends_with_us():
    """For preexec_fn: the child gets a TERM should this process die before it."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run(argv, seconds, cpu=None):
    """Its standard output and the CPU seconds it took.  Fails if it fails."""
    if cpu is not None:
        argv = ['taskset', '-c', str(cpu), *argv]
    before = cpu_seconds()
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, errors='replace',
                                   start_new_session=True, preexec_fn=ends_with_us)
    except OSError as error:
        raise Failure(f'{argv[0]}: {error.strerror}') from error
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failure(f'{" ".join(argv)}: not done within {seconds} s') from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        reason = (errors.strip().splitlines() or [f'exit status {process.returncode}'])[-1]
        raise Failure(f'{" ".join(argv)}: {reason}')
    return output, cpu_seconds() - before


def cpu_seconds():
    """Of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def need(path, what):
    if not os.access(path, os.X_OK):
        raise Failure(f'{path} is missing: {what}')


def python_has(module):
    return subprocess.run([PYTHON, '-c', f'import {module}'], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def need_python(modules):
    """modules: of (module, Debian's package)."""
    need(PYTHON, 'Debian: python3')
    missing = [package for module, package in modules if not python_has(module)]
    if missing:
        raise Failure(f'missing for {PYTHON} (Debian): {" ".join(missing)}')
