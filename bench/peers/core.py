#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio's side of `bench/run core`.

    core.py [--uvloop] [--row ROW]

Prints a line `row<TAB>figure` for each row that asyncio has: nanoseconds for
one operation, save for fibers-30000-bytes (bytes for each) and idle-cpu
(percent of one CPU).  bench/README.md says what each row is.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import time

BATCH = 10_000
ALIVE = 30_000

now = time.perf_counter_ns
ROWS = {}
FRESH = ('suspend-batch-cold', 'fibers-30000-bytes')      # each in a process of its own


def row(name):
    def add(function):
        ROWS[name] = function
        return function
    return add


async def nothing():
    pass


async def suspend():
    await asyncio.sleep(0)


# Futures.  asyncio has no way to make one that is resolved already but to
# resolve it; its futures carry any value.

@row('future-resolved')
async def future_resolved(n=100_000):
    create = asyncio.get_running_loop().create_future
    start = now()
    for i in range(n):
        create().set_result(i)
    return (now() - start) / n


@row('promise')
async def promise(n=100_000):
    create = asyncio.get_running_loop().create_future
    start = now()
    for i in range(n):
        future = create()
        future.set_result(i)
        future.result()
    return (now() - start) / n


@row('promise-then')
async def promise_then(n=256, rounds=100):
    create = asyncio.get_running_loop().create_future

    def then(future):
        future.result()

    start = now()
    for _ in range(rounds):
        for i in range(n):
            future = create()
            future.add_done_callback(then)
            future.set_result(i)
        await asyncio.sleep(0)
    return (now() - start) / (n * rounds)


@row('await-resolved')
async def await_resolved(n=100_000):
    create = asyncio.get_running_loop().create_future
    start = now()
    for i in range(n):
        future = create()
        future.set_result(i)
        await future
    return (now() - start) / n


# Tasks

@row('spawn-await')
async def spawn_await(n=30_000):
    start = now()
    for _ in range(n):
        await asyncio.create_task(nothing())
    return (now() - start) / n


async def batch(function):
    async with asyncio.TaskGroup() as group:
        for _ in range(BATCH):
            group.create_task(function())


async def batches(function, rounds):
    await batch(function)
    start = now()
    for _ in range(rounds):
        await batch(function)
    return (now() - start) / (BATCH * rounds)


@row('spawn-batch')
async def spawn_batch():
    return await batches(nothing, 5)


@row('suspend-batch')
async def suspend_batch():
    return await batches(suspend, 5)


@row('suspend-batch-cold')
async def suspend_batch_cold():
    start = now()
    await batch(suspend)
    return (now() - start) / BATCH


@row('yield-1000')
async def yield_1000(tasks=1_000, times=100):
    async def run():
        for _ in range(times):
            await asyncio.sleep(0)

    start = now()
    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(run())
    return (now() - start) / (tasks * times)


@row('ping-pong')
async def ping_pong(n=30_000):
    create = asyncio.get_running_loop().create_future
    there, back = create(), create()

    async def pong():
        nonlocal there
        for _ in range(n):
            await there
            there = create()
            back.set_result(None)

    partner = asyncio.create_task(pong())
    start = now()
    for _ in range(n):
        there.set_result(None)
        await back
        back = create()
    elapsed = now() - start
    await partner
    return elapsed / n


# Guards

class Guard:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        return None


@row('guard')
async def guard(n=200_000):
    guard = Guard()
    start = now()
    for _ in range(n):
        async with guard:
            pass
    return (now() - start) / n


@row('manager')
async def manager(n=50_000):
    @contextlib.asynccontextmanager
    async def managed():
        yield 1

    start = now()
    for _ in range(n):
        async with managed():
            pass
    return (now() - start) / n


@row('scope-10')
async def scope_10(n=20_000):
    start = now()
    for _ in range(n):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                stack.push_async_callback(nothing)
    return (now() - start) / n


async def trivial():
    pass


@row('group-10')
async def group_10(n=5_000):
    start = now()
    for _ in range(n):
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(trivial())
    return (now() - start) / n


@row('shield')
async def shield(n=20_000):
    """Its shield is of a future, not of a block."""
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)
    start = now()
    for _ in range(n):
        await asyncio.shield(future)
    return (now() - start) / n


async def uncontended(guard, n=100_000):
    start = now()
    for _ in range(n):
        async with guard:
            pass
    return (now() - start) / n


@row('lock')
async def lock():
    return await uncontended(asyncio.Lock())


@row('semaphore')
async def semaphore():
    return await uncontended(asyncio.Semaphore(10))


@row('semaphore-1000')
async def semaphore_1000(tasks=1_000, rounds=20):
    permits = asyncio.Semaphore(10)

    async def run():
        async with permits:
            await asyncio.sleep(0)

    start = now()
    for _ in range(rounds):
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(run())
    return (now() - start) / (tasks * rounds)


@row('timeout')
async def timeout(n=30_000):
    start = now()
    for _ in range(n):
        async with asyncio.timeout(10):
            pass
    return (now() - start) / n


@row('timeout-suspend')
async def timeout_suspend(n=30_000):
    start = now()
    for _ in range(n):
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
    return (now() - start) / n


# Threads

@row('thread-roundtrip')
async def thread_roundtrip(n=4_000):
    """The median, and as a row of its own the 90th percentile."""
    times = []
    for _ in range(n):
        start = now()
        await asyncio.to_thread(int)
        times.append(now() - start)
    times.sort()
    return {'thread-roundtrip': times[n // 2], 'thread-roundtrip-p90': times[n * 9 // 10]}


@row('thread-jobs')
async def thread_jobs(n=10_000):
    run = asyncio.get_running_loop().run_in_executor
    start = now()
    await asyncio.gather(*(run(None, int) for _ in range(n)))
    return (now() - start) / n


# Memory and idleness

@row('fibers-30000-bytes')
async def alive():
    def resident():
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')

    gate = asyncio.Event()
    before = resident()
    async with asyncio.TaskGroup() as group:
        for _ in range(ALIVE):
            group.create_task(gate.wait())
        await asyncio.sleep(0)
        bytes_each = (resident() - before) / ALIVE
        gate.set()
    return bytes_each


@row('idle-cpu')
async def idle_cpu(seconds=0.5):
    await asyncio.to_thread(int)            # so that there is a pool that could be busy
    cpu, start = time.process_time_ns(), now()
    await asyncio.sleep(seconds)
    return 100 * (time.process_time_ns() - cpu) / (now() - start)


def run(name):
    figure = asyncio.run(ROWS[name]())
    for name, value in (figure if isinstance(figure, dict) else {name: figure}).items():
        print(f'{name}\t{value:.4g}' if value < 100 else f'{name}\t{value:.0f}', flush=True)


def main():
    parser = argparse.ArgumentParser(prog='core.py')
    parser.add_argument('--uvloop', action='store_true')
    parser.add_argument('--row', choices=ROWS)
    options = parser.parse_args()
    if options.uvloop:
        import uvloop
        uvloop.install()
    for name in [options.row] if options.row else ROWS:
        if name in FRESH and not options.row:
            subprocess.run([sys.executable, *sys.argv, '--row', name], check=True, timeout=30)
        else:
            run(name)


if __name__ == '__main__':
    main()
