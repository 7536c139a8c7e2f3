#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""asyncio's side of `bench/run sync`.

    sync.py [--uvloop] [--row ROW]

Prints a line `row<TAB>figure` for each row that asyncio has, in nanoseconds or bytes.  bench/README.md says what each row is.
"""

import argparse
import asyncio
import os
import time

LENGTHS = (10, 1_000, 100_000)
ALIVE = 30_000

now = time.perf_counter_ns
ROWS = {}


def row(name, *arguments):
    def add(function):
        ROWS[name] = lambda: function(*arguments)
        return function
    return add


def rows(name):
    """One for each length of a line."""
    def add(function):
        for length in LENGTHS:
            row(f'{name}-line-{length}', length)(function)
        return function
    return add


async def uncontended(guard, n=100_000):
    start = now()
    for _ in range(n):
        async with guard:
            pass
    return (now() - start) / n


async def handed_over(guard, length):
    """So many wait; who has it gives it to the first, and gets in line again."""
    left = total = max(50_000, 2 * length)
    done = end = 0

    async def stand_in_line():
        nonlocal left, done, end
        while left > 0:
            left -= 1
            await guard.acquire()
            done += 1
            if done == total:
                end = now()
            guard.release()

    await guard.acquire()
    tasks = [asyncio.create_task(stand_in_line()) for _ in range(length)]
    await asyncio.sleep(0)
    start = now()
    guard.release()
    await asyncio.wait(tasks)
    return (end - start) / total


@row('lock')
async def lock():
    return await uncontended(asyncio.Lock())


@rows('lock')
async def lock_handed_over(length):
    return await handed_over(asyncio.Lock(), length)


@row('semaphore')
async def semaphore():
    return await uncontended(asyncio.Semaphore(4))


@row('semaphore-1000')
async def semaphore_pass(tasks=1_000, rounds=20):
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


@rows('semaphore')
async def semaphore_handed_over(length):
    return await handed_over(asyncio.Semaphore(1), length)


@row('channel')
async def channel(n=100_000):
    queue = asyncio.Queue(100)

    async def send():
        for _ in range(n):
            await queue.put(1)

    sender = asyncio.create_task(send())
    start = now()
    for _ in range(n):
        await queue.get()
    elapsed = now() - start
    await sender
    return elapsed / n


@rows('channel')
async def channel_to_many(length):
    """Its queue of 1, for it has none of 0."""
    total = max(50_000, 2 * length)
    queue = asyncio.Queue(1)

    async def receive():
        while await queue.get():
            pass

    tasks = [asyncio.create_task(receive()) for _ in range(length)]
    await asyncio.sleep(0)
    start = now()
    for _ in range(total):
        await queue.put(1)
    elapsed = now() - start
    for _ in range(length):
        await queue.put(0)
    await asyncio.wait(tasks)
    return elapsed / total


@row('lock-fiber-bytes')
async def waiting(n=ALIVE):
    def resident():
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')

    guard = asyncio.Lock()

    async def wait():
        async with guard:
            pass

    async with asyncio.TaskGroup() as group:
        async with guard:
            before = resident()
            for _ in range(n):
                group.create_task(wait())
            await asyncio.sleep(0)
            each = (resident() - before) / n
    return each


def main():
    parser = argparse.ArgumentParser(prog='sync.py')
    parser.add_argument('--uvloop', action='store_true')
    parser.add_argument('--row', choices=ROWS)
    options = parser.parse_args()
    if options.uvloop:
        import uvloop
        uvloop.install()
    # Memory first, before anything has been freed that could be used again.
    for name in [options.row] if options.row else sorted(ROWS, key=lambda name: not name.endswith('bytes')):
        value = asyncio.run(ROWS[name]())
        print(f'{name}\t{value:.4g}' if value < 100 else f'{name}\t{value:.0f}', flush=True)


if __name__ == '__main__':
    main()
