#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compiles each C program that the README prints, runs it, and compares what it prints with the text after it; and compiles the
pieces of programs that src/docs/guarantees.md prints, each behind the first of them.

Usage: test-readme.py BUILD-FOLDER
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

source = pathlib.Path(__file__).resolve().parent.parent
build = pathlib.Path(sys.argv[1]).resolve()


def blocks_of(page):
    return re.findall(r"^```(\w*)\n(.*?)^```$", (source / page).read_text(), re.S | re.M)


blocks = blocks_of("README.md")
pieces = [code for language, code in blocks_of("src/docs/guarantees.md") if language == "c"]
programs = [(code, blocks[i + 1][1] if blocks[i + 1][0] == "text" else "")
            for i, (language, code) in enumerate(blocks) if language == "c"]

def flags(kind):
    return subprocess.check_output(["pkg-config", kind, "gio-2.0", "sqlite3"], text=True).split()


compiler = [os.environ.get("CC", "cc"), "-Wall", "-Wextra", "-Werror", f"-I{source}/include", f"-I{build}/include",
            *flags("--cflags")]
print(f"1..{len(programs) + len(pieces)}")
failed = 0
for number, (code, expected) in enumerate(programs, 1):
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "program")
        (pathlib.Path(folder) / "program.c").write_text(code)
        libraries = [f"-L{build}/src", "-lbelay-1"]
        paths = f"-Wl,-rpath,{build}/src:{build}/src/sqlite"
        if "belay-sqlite.h" in code:
            libraries += [f"-L{build}/src/sqlite", "-lbelay-sqlite-1"]
        compiled = subprocess.run(
            [*compiler, f"{folder}/program.c", "-o", program, *libraries, paths, *flags("--libs")],
            text=True, capture_output=True)
        printed = ""
        if compiled.returncode == 0:
            printed = subprocess.run([program], cwd=folder, text=True, capture_output=True, timeout=30).stdout
        ok = compiled.returncode == 0 and printed == expected
        failed += not ok
        print(f"{'ok' if ok else 'not ok'} {number} - README program {number}")
        if not ok:
            print("# " + (compiled.stderr or f"printed {printed!r}, expected {expected!r}").replace("\n", "\n# "))

for number, code in enumerate(pieces, len(programs) + 1):
    text = code if code is pieces[0] else pieces[0] + code
    compiled = subprocess.run([*compiler, "-Wno-unused-function", "-Wno-unused-parameter", "-fsyntax-only", "-xc", "-"],
                              input=text, text=True, capture_output=True)
    failed += compiled.returncode != 0
    print(f"{'not ok' if compiled.returncode else 'ok'} {number} - piece {number - len(programs)} of the guarantees")
    if compiled.returncode != 0:
        print("# " + compiled.stderr.replace("\n", "\n# "))
sys.exit(failed > 0)
