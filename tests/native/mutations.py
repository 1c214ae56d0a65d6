#!/usr/bin/env python3
"""Shows that the tests catch every deliberate fault (native/src/core/mutate.h).

usage: mutations.py BUILD_DIR [--only TEXT] [--jobs N]

BUILD_DIR is a build with SSM_MUTATIONS=ON. For each SSM_MUTATE("operation.backend.fault", ...) in native/src the Quick
test of that operation runs on that backend's device with SSM_MUTATION=<id>. A failing, crashing or hanging test has
caught the fault; a passing one is a survivor and counts as failed. First the same tests run without a fault and must
pass. The last line is `N passed, N failed`.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICES = {"cpu": "cpu", "cuda": "emulated"}
# Faults that a kernel has to show at least, per operation and backend.
FEWEST = 3
# A fault may make a test hang: it has this long, and ten times what it took without the fault. A busy machine is no hang.
LIMIT_SECONDS = 60


def find_mutations():
    """All ids with where they stand."""
    found = collections.defaultdict(list)
    for path in sorted((ROOT / "native" / "src").rglob("*")):
        if path.suffix not in (".cpp", ".h", ".cu", ".cuh") or path.name == "mutate.h":
            continue
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r'SSM_MUTATE\(\s*"([^"]*)"', text):
            line = text.count("\n", 0, match.start()) + 1
            found[match.group(1)].append(f"{path.relative_to(ROOT)}:{line}")
    return found


def find_kernels():
    """(operation, backend) for every operation that has a file in a backend."""
    header = (ROOT / "native/include/ssmcuda/ssmcuda.h").read_text(encoding="utf-8")
    operations = re.findall(r"ssm_(\w+)_workspace\(ssm_context", header) + ["strided_copy"]
    kernels = []
    for operation in sorted(set(operations)):
        for backend, suffix in (("cpu", ".cpp"), ("cuda", ".cu")):
            if (ROOT / "native/src" / backend / (operation + suffix)).exists():
                kernels.append((operation, backend))
    return kernels


def gtest_filter(operation, device):
    suite = "".join(part.capitalize() for part in operation.split("_"))
    if not (ROOT / "tests/native" / (operation + "_test.cpp")).exists():
        suite = "*"  # a part that several operations share
    return ":".join(f"Devices/{suite}.Quick/{device}_{dtype}" for dtype in ("float32", "complex64", "float16"))


def run_tests(program, operation, backend, mutation="", limit=600):
    """(passed, seconds, how it ended)."""
    device = DEVICES[backend]
    environment = dict(os.environ, SSM_TEST_DEVICES=device, SSM_MUTATION=mutation)
    if not mutation:
        del environment["SSM_MUTATION"]
    command = [str(program), "--gtest_brief=1", "--gtest_fail_fast", "--gtest_filter=" + gtest_filter(operation, device)]
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", start_new_session=True)
    try:
        output, _ = process.communicate(timeout=limit)
        if process.returncode == 0:
            ending = "passed"
        elif process.returncode < 0:
            ending = "crashed: " + signal.Signals(-process.returncode).name
        elif process.returncode == 1:
            ending = "a test failed"
        else:
            ending = f"exit {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        ending = "hung"
    return ending == "passed", time.monotonic() - start, ending, output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build_dir", type=pathlib.Path)
    parser.add_argument("--only", default="", help="only ids that contain this text")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    program = options.build_dir.resolve() / "bin" / "ssm_native_tests"
    if not program.exists():
        print(f"{program} is not there: build with -DSSM_MUTATIONS=ON\n0 passed, 1 failed")
        return 1

    passed = failed = 0

    def verdict(ok, text):
        nonlocal passed, failed
        passed += ok
        failed += not ok
        print(("ok    " if ok else "FAIL  ") + text, flush=True)

    mutations = find_mutations()
    for name, places in sorted(mutations.items()):
        if len(places) > 1:
            verdict(False, f"{name}: one id at several places: {', '.join(places)}")
        if not re.fullmatch(r"\w+\.(cpu|cuda)\.\w+", name):
            verdict(False, f"{name}: operation.backend.fault expected, backend cpu or cuda")
    per_kernel = collections.Counter(tuple(name.split(".")[:2]) for name in mutations)
    for operation, backend in find_kernels():
        count = per_kernel[(operation, backend)]
        verdict(count >= FEWEST, f"{operation} on {backend}: {count} faults, {FEWEST} or more expected")

    chosen = sorted(name for name in mutations
                    if options.only in name and re.fullmatch(r"\w+\.(cpu|cuda)\.\w+", name))
    groups = sorted({tuple(name.split(".")[:2]) for name in chosen})
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        clean = {group: pool.submit(run_tests, program, *group) for group in groups}
        limits = {}
        for group in groups:
            ok, seconds, ending, output = clean[group].result()
            limits[group] = LIMIT_SECONDS + 10 * seconds
            verdict(ok, f"{group[0]} on {group[1]} without a fault: {ending}, {seconds:.1f} s")
            if not ok:
                print(output[-2000:])
        runs = {}
        for name in chosen:
            group = tuple(name.split(".")[:2])
            runs[name] = pool.submit(run_tests, program, *group, name, limits[group])
        for name in chosen:
            survived, seconds, ending, _ = runs[name].result()
            verdict(not survived, f"{name}: {'SURVIVED' if survived else 'caught, ' + ending}, {seconds:.1f} s "
                                  f"({mutations[name][0]})")

    if not chosen:
        verdict(False, "no fault was found")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
