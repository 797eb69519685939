#!/usr/bin/env python3
"""Takes away, one at a time, the steps that keep data safe (mutations.py), and checks that the test that is
named for each fails. Prints the survivors; the exit status is 1 where there are any.

usage: tests/mutation/run.py [--dir DIRECTORY] [NAME...]     all mutations, or those of these names
A copy of the sources and its build stand in DIRECTORY (default: ./build-mutation). Takes a quarter of an hour.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

from mutations import MUTATIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPIED = ["CMakeLists.txt", "cmake", "fs", "proto", "service", "tests"]
SECONDS_FOR_A_TEST = 600  # A test that hangs has noticed the mutation too.


def run(command, **options):
    return subprocess.run([str(part) for part in command], check=False, **options)


def must(command):
    result = run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{result.stdout[-4000:]}")


def copy(source):
    """Brings the copy up to date; files that are the same keep their times, so that little is built again."""
    wanted = set()
    for name in COPIED:
        files = [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*")
        for original in files:
            if not original.is_file() or "__pycache__" in original.parts:
                continue
            target = source / original.relative_to(ROOT)
            wanted.add(target)
            if target.is_file() and target.read_bytes() == original.read_bytes():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, target)
    for target in [path for path in source.rglob("*") if path.is_file()]:
        if target not in wanted:
            target.unlink()


def configure(directory):
    source, build = directory / "source", directory / "build"
    source.mkdir(parents=True, exist_ok=True)
    copy(source)
    # -w: code that lacks a step leaves variables without a use.
    options = ["-DPBKFS_SERVICE=OFF", "-DCMAKE_BUILD_TYPE=", "-DCMAKE_CXX_FLAGS=-O1 -w"]
    if shutil.which("ccache"):
        options += ["-DCMAKE_C_COMPILER_LAUNCHER=ccache", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
    must(["cmake", "-S", source, "-B", build, "-G", "Ninja", *options])
    return source, build


def build_and_test(build, program, test_filter):
    """None where the test passes, else why it does not."""
    must(["cmake", "--build", build, "--target", program])
    [binary] = build.glob(f"tests/fs/*/{program}")
    environment = dict(os.environ, PBKFS_REQUIRE_ALL="1")
    try:
        result = run([binary, f"--gtest_filter={test_filter}", "--gtest_fail_fast"], env=environment,
                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS_FOR_A_TEST)
    except subprocess.TimeoutExpired:
        return "it hangs"
    if b"[  PASSED  ] 0 tests" in result.stdout and result.returncode == 0:
        sys.exit(f"{program} has no test {test_filter}")
    return None if result.returncode == 0 else "it fails"


def mutated(text, old, new, name, path):
    if text.count(old) != 1:
        sys.exit(f"mutation {name}: its text stands {text.count(old)} times in {path}; adapt mutations.py")
    return text.replace(old, new)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--dir", type=pathlib.Path, default=ROOT / "build-mutation")
    arguments.add_argument("names", nargs="*")
    options = arguments.parse_args()
    chosen = [m for m in MUTATIONS if not options.names or m[0] in options.names]
    for name, path, old, new, _, _ in chosen:
        mutated((ROOT / path).read_text(), old, new, name, path)  # All of them, before anything is built.
    source, build = configure(options.dir)
    survivors = []
    for name, path, old, new, program, test_filter in chosen:
        original = (source / path).read_text()
        (source / path).write_text(mutated(original, old, new, name, path))
        try:
            noticed = build_and_test(build, program, test_filter)
        finally:
            (source / path).write_text(original)
        print(f"{name:36} {test_filter:44} {noticed or 'SURVIVES'}", flush=True)
        if noticed is None:
            survivors.append(name)
    if survivors:
        sys.exit(f"{len(survivors)} of {len(chosen)} mutations survive: {', '.join(survivors)}")
    print(f"all {len(chosen)} mutations are noticed")


if __name__ == "__main__":
    main()
