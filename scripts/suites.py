#!/usr/bin/env python3
"""Builds and runs every suite, two at a time, and ends with `N passed, N failed` over all of them.

usage: build.sh test [SUITE...] | --list

A suite is a command whose output goes to artifacts/test/NAME.log and whose counts are read from there. It fails when the
command fails, when a test fails and when no test ran. A suite that needs what failed before is counted as one failure.
"""
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "artifacts" / "test"
RELEASE = ROOT / "artifacts" / "native" / "release"
TIME_LIMIT = 45 * 60  # seconds for one suite
PYTHON = sys.executable or "python3"


# ---- Reading counts --------------------------------------------------------------------------------------------------

def summary_line(log):
    """Our own scripts: the last `N passed, N failed`."""
    found = re.findall(r"^(?:\w+: )?(\d+) passed, (\d+) failed", log, re.M)
    return tuple(map(int, found[-1])) if found else None


def ctest(log):
    found = re.findall(r"^\d+% tests passed, (\d+) tests? failed out of (\d+)", log, re.M)
    return sum(int(total) - int(failed) for failed, total in found), sum(int(failed) for failed, _ in found)


def ctest_of_gtest(log):
    """ctest --verbose over GoogleTest programs: their tests, and the entries that failed without a failing test."""
    passed = sum(map(int, re.findall(r"\[  PASSED  \] (\d+) tests?", log)))
    failed = sum(map(int, re.findall(r"\[  FAILED  \] (\d+) tests?, listed below", log)))
    return passed, max(failed, ctest(log)[1])


def unittest(log):
    ran = sum(map(int, re.findall(r"^Ran (\d+) tests? in", log, re.M)))
    bad = sum(map(int, re.findall(r"(?:failures|errors)=(\d+)", log)))
    return ran - bad, bad


def dotnet(log):
    """The summary of Microsoft.Testing.Platform."""
    return (sum(map(int, re.findall(r"^\s*succeeded: (\d+)", log, re.M))),
            sum(map(int, re.findall(r"^\s*failed: (\d+)", log, re.M))))


def one(log):
    """A command that is itself the test."""
    return 1, 0


# ---- The suites ------------------------------------------------------------------------------------------------------

class Suite:
    def __init__(self, name, *commands, counts=summary_line, after=(), skip=None, build=False):
        self.name, self.commands, self.counts, self.after = name, commands, counts, after
        self.skip = skip    # why it cannot run here, or None
        self.build = build  # a step that others need; counts nothing when it succeeds
        self.passed = self.failed = 0
        self.seconds = 0.0
        self.state = "waiting"


def conformance_cases():
    """The folder with the cases: $SSM_CONFORMANCE, one in the repository, or the one shared beside it."""
    named = os.environ.get("SSM_CONFORMANCE")
    for folder in ([Path(named)] if named else [ROOT / "tests" / "conformance", ROOT.parent / "shared" / "conformance" / "cases"]):
        if folder.is_dir():
            return folder
    return None


def operations():
    """The operations of the C ABI, in the header's order: what has a struct of arguments."""
    header = (ROOT / "native" / "include" / "ssmcuda" / "ssmcuda.h").read_text()
    return re.findall(r"typedef struct ssm_(\w+)_args \{", header)


def has_cuda_device():
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return listed.returncode == 0 and "GPU" in listed.stdout
    except OSError:
        return False


def suites():
    devices = ["cpu", "emulated"] + (["cuda"] if has_cuda_device() else [])
    cases = conformance_cases()
    no_cases = None if cases else "no conformance cases here (SSM_CONFORMANCE names their folder)"
    no_nvcc = None if shutil.which("nvcc") else "no nvcc here (build.sh deps --cuda)"
    ssm = ["dotnet", str(ROOT / "artifacts" / "bin" / "SsmCuda.Tool" / "release" / "ssm.dll")]
    runner = [PYTHON, "tests/gpu/run.py", "--library", str(RELEASE / "lib" / "libssmcuda.so")]
    # The cases on the CPU are the conformance suite's, through the managed API.
    with_cases = ["--cases", str(cases)] if cases else []
    os.environ["SSM_TEST_DEVICES"] = ",".join(devices)
    return [
        Suite("build-native", ["./build.sh", "build", "tests"], build=True),
        Suite("verbs", [PYTHON, "-m", "unittest", "discover", "-v", "-s", "tests/build", "-p", "*_test.py"], counts=unittest),
        Suite("format", ["./build.sh", "format", "--check"], counts=one, after=["build-managed"]),
        Suite("ledger", [PYTHON, "scripts/ledger.py", "--check"], counts=one),
        Suite("build-managed", ["./build.sh", "build", "managed"], after=["build-native"], build=True),
        Suite("build-mutations", ["./build.sh", "build", "mutations"], after=["build-native"], build=True),
        Suite("native", ["ctest", "--test-dir", str(RELEASE), "--no-tests=error", "--verbose", "--timeout", "1800"],
              *[["env", "SSM_TEST_DEVICES=cuda", str(RELEASE / "bin" / "ssm_native_tests"), "--gtest_filter=*cuda*"]
                for device in devices if device == "cuda"], counts=ctest_of_gtest, after=["build-native"]),
        Suite("mutations", [PYTHON, "tests/native/mutations.py", str(ROOT / "artifacts" / "native" / "mutations")],
              after=["build-mutations"]),
        Suite("registers", [PYTHON, "native/src/cuda/check_registers.py", str(RELEASE)], counts=one, after=["build-native"],
              skip=no_nvcc),
        Suite("python", *[runner + ["--device", device] + (with_cases if device != "cpu" else []) for device in devices],
              after=["build-native"]),
        # What `build.sh gpu` does, as far as it goes without a GPU.
        Suite("gpu-rehearsal", [PYTHON, "scripts/gpu.py", "--device", "cpu", "--kit", str(RELEASE), "cases", "bench"],
              after=["build-native"]),
        Suite("managed", ["dotnet", "test", "--solution", "SsmCuda.sln", "-c", "Release", "--no-build"], counts=dotnet,
              after=["build-managed"]),
        Suite("conformance", [PYTHON, "scripts/verify.py", str(cases), *ssm], after=["build-managed"], skip=no_cases),
        Suite("consumers", ["bash", "tests/consumers/nuget/run.sh"], after=["build-managed"]),
        Suite("tsan", ["bash", "tests/native/sanitizers.sh", "tsan"], after=["build-native"]),
        Suite("asan", ["bash", "tests/native/sanitizers.sh", "asan"], after=["build-native"]),
    ]


# ---- Running ---------------------------------------------------------------------------------------------------------

def say(suite, note):
    print(f"{suite.name:<14} {suite.seconds:6.0f} s  {note}", flush=True)


def start(suite):
    """Runs the commands of a suite one after the other, in one shell, so that one process group holds them all."""
    suite.state, suite.started = "running", time.monotonic()
    suite.log = LOGS / f"{suite.name}.log"
    script = " && ".join(map(shlex.join, suite.commands))
    with suite.log.open("wb") as log:
        suite.process = subprocess.Popen(["bash", "-c", script], cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True,
                                         stdout=log, stderr=subprocess.STDOUT)


def finish(suite, code, timed_out):
    suite.seconds = time.monotonic() - suite.started
    log = suite.log.read_text(errors="replace")
    log = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", log)
    why = ""
    if not suite.build:
        counted = [suite.counts(part) for part in split(suite, log)]
        suite.passed = sum(count[0] for count in counted if count)
        suite.failed = sum(count[1] for count in counted if count)
        if code == 0 and (suite.passed + suite.failed == 0 or any(count is None for count in counted)):
            why = "no test ran"
    if timed_out:
        why = f"stopped after {TIME_LIMIT} s"
    elif code != 0:
        why = f"exit code {code}"
        if suite.counts is one:
            suite.passed = 0
    if why and suite.failed == 0:
        suite.failed = 1
    suite.state = "failed" if suite.failed else "passed"
    if suite.build:
        say(suite, "built" if suite.state == "passed" else f"FAILED ({why})")
    else:
        say(suite, f"{suite.passed} passed, {suite.failed} failed" + (f" ({why})" if why else ""))
    if suite.state == "failed":
        print(extract(log) + f"    ({suite.log.relative_to(ROOT)})", flush=True)


def extract(log):
    """What went wrong: the first lines that speak of an error, and the end."""
    lines = [line[:240] for line in log.splitlines()]
    errors = [line for line in lines[:-40] if re.search(r"\berror\b|FAILED|^Failed", line)]
    return "".join(f"    {line}\n" for line in errors[:20] + ["..."] + lines[-40:])


def split(suite, log):
    """The logs of the commands of a suite: each ends with a summary line of its own."""
    if suite.counts is not summary_line or len(suite.commands) == 1:
        return [log]
    parts = re.findall(r".*?^(?:\w+: )?\d+ passed, \d+ failed[^\n]*\n", log, re.M | re.S)
    return parts + [""] * (len(suite.commands) - len(parts))


def run(chosen):
    """Two at a time: compilers and tests fill two cores, and what waits on one thread leaves the other to the next suite."""
    waiting, running = list(chosen), []
    states = {suite.name: suite for suite in chosen}
    while waiting or running:
        for suite in list(waiting):
            needs = [states[name] for name in suite.after]
            if suite.skip:
                suite.state = "skipped"
                say(suite, f"skipped: {suite.skip}")
                waiting.remove(suite)
            elif any(need.state in ("failed", "not run") for need in needs):
                suite.state, suite.failed = "not run", 1
                say(suite, "FAILED (not run: " + ", ".join(need.name for need in needs if need.state != "passed") + " failed)")
                waiting.remove(suite)
            elif len(running) < 2 and all(need.state == "passed" for need in needs):
                start(suite)
                running.append(suite)
                waiting.remove(suite)
        for suite in list(running):
            code = suite.process.poll()
            timed_out = code is None and time.monotonic() - suite.started > TIME_LIMIT
            if timed_out:
                os.killpg(suite.process.pid, signal.SIGKILL)
                code = suite.process.wait()
            if code is not None:
                finish(suite, code, timed_out)
                running.remove(suite)
        time.sleep(0.2)


def with_needs(names, everything):
    """The suites named and the builds that they need, in the order of the table."""
    table = {suite.name: suite for suite in everything}
    unknown = [name for name in names if name not in table]
    if unknown:
        sys.exit(f"unknown suite {', '.join(unknown)}; there are: {', '.join(table)}")
    wanted = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += table[name].after
    return [suite for suite in everything if suite.name in wanted]


def main():
    # Nothing that a user's settings say may change a result.
    os.environ.update(LC_ALL="C.UTF-8", TZ="UTC", DOTNET_CLI_TELEMETRY_OPTOUT="1", DOTNET_NOLOGO="1", CTEST_OUTPUT_ON_FAILURE="1")
    everything = suites()
    if "--list" in sys.argv[1:]:
        print("\n".join(suite.name for suite in everything))
        return 0
    chosen = with_needs(sys.argv[1:], everything) if len(sys.argv) > 1 else everything
    LOGS.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    run(chosen)
    results = [dict(suite=s.name, state=s.state, passed=s.passed, failed=s.failed, seconds=round(s.seconds, 1)) for s in chosen]
    (LOGS / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"{time.monotonic() - began:.0f} s in all")
    passed, failed = sum(s.passed for s in chosen), sum(s.failed for s in chosen)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
