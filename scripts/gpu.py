#!/usr/bin/env python3
"""Proves the CUDA backend on a machine that has a GPU, nvcc, CMake and Python with NumPy, and perhaps nothing else.

usage: build.sh gpu --prepare                 before: puts what was built for the preset gpu-kit into artifacts/gpu-kit
       build.sh gpu [STEP...] [--limit S]     there: compiles native/src/cuda and runs everything on the device

Steps, in this order: environment compile tests cases sanitize kernels bench. Each is recorded with its status even when one
fails: passed, failed, refused (the machine does not let the tool run) or not run. Results go to $OUT, or artifacts/gpu:
gpu.json (steps, machine, commits), cases.json, bench.json, log.txt. --limit: no step starts, and none goes on, after that
many seconds. Ends with `N passed, N failed`. scripts/ledger.py --merge gpu.json takes the results into the ledger.

--device cpu --kit FOLDER rehearses it without a GPU: the same steps but for what only CUDA has.
"""
import argparse
import csv
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from suites import conformance_cases, operations

ROOT = Path(__file__).resolve().parent.parent
KIT = ROOT / "artifacts" / "gpu-kit"
BUILT = ROOT / "artifacts" / "native" / "gpu-kit"
BACKEND = ROOT / "artifacts" / "native" / "cuda-only"
STEPS = ["environment", "compile", "tests", "cases", "sanitize", "kernels", "bench"]
KIT_LIMIT = 60e6  # bytes
TESTS = ["ssm_native_tests"]  # the programs that run on the devices of SSM_TEST_DEVICES


def cuda_sources():
    """One number for all that is compiled on the GPU machine."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "native" / "src" / "cuda").rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def build_id(build):
    found = re.search(r"^SSM_BUILD_ID:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M)
    return found[1] if found else "unknown"


def output_of(*command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout.strip()
    except OSError as problem:
        return str(problem)


def bare_name(kernel):
    """scan_kernel of `void ssm::(anonymous namespace)::scan_kernel<float>(Arguments)`, however the profiler writes it."""
    kernel = re.sub(r"(<unnamed>|\(anonymous namespace\))::", "", kernel)
    return re.search(r"(\w+)\s*(?:[<(]|$)", kernel)[1]


# ---- Before: the kit -------------------------------------------------------------------------------------------------

def prepare():
    shutil.rmtree(KIT, ignore_errors=True)
    (KIT / "lib").mkdir(parents=True)
    (KIT / "bin").mkdir()
    # Under the name that programs ask for, without the links around it.
    library = os.readlink(BUILT / "lib" / "libssmcuda.so")
    shutil.copy(BUILT / "lib" / library, KIT / "lib")
    for program in [*TESTS, "ssm_native_bench"]:
        shutil.copy(BUILT / "bin" / program, KIT / "bin")
    for file in [*(KIT / "lib").iterdir(), *(KIT / "bin").iterdir()]:
        subprocess.run(["strip", "--strip-unneeded", str(file)], check=True)
    cases = conformance_cases()
    for operation in operations() if cases else []:
        if (cases / operation).is_dir():
            shutil.copytree(cases / operation, KIT / "cases" / operation)
    commit = output_of("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changed = output_of("git", "-C", str(ROOT), "status", "--porcelain", "--", "native")
    (KIT / "kit.json").write_text(json.dumps(dict(commit=commit, modified=bool(changed), library=library, build_id=build_id(BUILT),
                                                  cuda_sources=cuda_sources()), indent=1) + "\n")
    size = sum(file.stat().st_size for file in KIT.rglob("*") if file.is_file())
    print(f"{KIT.relative_to(ROOT)}: {size / 1e6:.1f} MB, "
          f"{len(list((KIT / 'cases').rglob('*.safetensors')))} cases, build id {build_id(BUILT)}")
    if size > KIT_LIMIT or not cases:
        sys.exit(f"the kit wants conformance cases, and at most {KIT_LIMIT / 1e6:.0f} MB")


# ---- There -----------------------------------------------------------------------------------------------------------

class Run:
    def __init__(self, options):
        self.options, self.kit = options, Path(options.kit)
        self.device = options.device
        self.out = Path(os.environ.get("OUT") or ROOT / "artifacts" / "gpu").resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = (self.out / "log.txt").open("w")
        self.began = time.monotonic()
        self.passed = self.failed = 0
        self.steps, self.facts = [], {}
        self.manifest = json.loads((self.kit / "kit.json").read_text()) if (self.kit / "kit.json").exists() else {}
        self.library = self.kit / "lib" / self.manifest.get("library", "libssmcuda.so")
        self.runner = [sys.executable, str(ROOT / "tests" / "gpu" / "run.py"), "--library", str(self.library), "--device",
                       self.device]

    def left(self):
        return self.options.limit - (time.monotonic() - self.began)

    def call(self, *command, **environment):
        """Runs a command into the log; its exit code (124: out of time) and its output."""
        self.log.write(f"\n$ {' '.join(map(str, command))}\n")
        self.log.flush()
        try:
            done = subprocess.run([str(word) for word in command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", timeout=max(1, self.left()),
                                  env=dict(os.environ, PYTHONUNBUFFERED="1", **environment))
            code, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            code, output = 124, (late.stdout or b"").decode(errors="replace")
        except OSError as problem:
            code, output = 127, str(problem)
        self.log.write(output + f"\n(exit code {code})\n")
        self.log.flush()
        return code, output

    def step(self, name):
        started = time.monotonic()
        record = dict(step=name, status="not run", passed=0, failed=0, detail="out of time")
        self.steps.append(record)
        if self.left() > 10:
            try:
                status, detail, *counts = getattr(self, name)()
            except Exception as problem:  # recorded; the other steps go on
                status, detail, counts = "failed", f"{type(problem).__name__}: {problem}", []
            passed, failed = counts or (int(status == "passed"), int(status == "failed"))
            if status == "failed" and failed == 0:
                failed = 1
            record.update(status=status, detail=detail, passed=passed, failed=failed)
        else:
            record["failed"] = 1
        self.passed += record["passed"]
        self.failed += record["failed"]
        record["seconds"] = round(time.monotonic() - started, 1)
        print(f"{name:<12} {record['seconds']:7.1f} s  {record['status']}: {record['passed']} passed, {record['failed']} failed"
              f"  {record['detail']}", flush=True)
        self.save()

    def save(self):
        # After each step: a machine that is taken away leaves what was known.
        (self.out / "gpu.json").write_text(json.dumps(dict(self.facts, steps=self.steps), indent=1) + "\n")

    # -- The steps: (status, detail[, passed, failed])

    def environment(self):
        kit = self.manifest
        version, = re.findall(r"release ([\d.]+)", output_of("nvcc", "--version")) or [None]
        import numpy
        self.facts.update(
            date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), commit=kit.get("commit"),
            modified=kit.get("modified", False) or kit.get("cuda_sources") != cuda_sources(), build_id=kit.get("build_id"),
            device=output_of("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader")
            if self.device == "cuda" else self.device,
            nvcc=version, cmake=output_of("cmake", "--version").splitlines()[0], numpy=numpy.__version__,
            python=sys.version.split()[0], processor=next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text()
                                                           .splitlines() if line.startswith("model name")), "unknown"))
        if self.device == "cuda" and not version:
            return "failed", "no nvcc"
        if not self.library.exists():
            return "failed", f"no {self.library}: run build.sh gpu --prepare before"
        return "passed", str(self.facts["device"])

    def compile(self):
        if self.device != "cuda":
            return "not run", "needs CUDA"
        generator = ["-G", "Ninja"] if shutil.which("ninja") else ["-G", "Unix Makefiles"]
        # The device's own architecture, as the driver names it ("9.0").
        capability = output_of("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader").splitlines()[0]
        architecture = [f"-DCMAKE_CUDA_ARCHITECTURES={capability.replace('.', '')}"] if re.fullmatch(r"\d+\.\d", capability) else []
        code, output = self.call("cmake", "--preset", "cuda-only", *generator, *architecture)
        if code == 0:
            code, output = self.call("cmake", "--build", BACKEND, "--parallel", str(os.cpu_count()))
        if code != 0:
            print("\n".join(output.splitlines()[-30:]))
            return "failed", f"exit code {code}"
        shutil.copy(BACKEND / "lib" / "libssmcuda_cuda.so", self.library.parent)
        ours, theirs = build_id(BACKEND), self.facts.get("build_id")
        if ours != theirs:
            return "failed", f"build id {ours} here, {theirs} in the kit: prepare it again"
        return "passed", f"build id {ours}"

    def tests(self):
        passed = failed = 0
        bad = []
        for name in TESTS:
            report = self.out / "tests.json"
            report.unlink(missing_ok=True)
            code, output = self.call(self.kit / "bin" / name, "--gtest_brief=1", "--gtest_filter=-*Long.*",
                                     f"--gtest_output=json:{report}", SSM_TEST_DEVICES=self.device)
            counted = json.loads(report.read_text()) if report.exists() else {}
            report.unlink(missing_ok=True)
            wrong = counted.get("failures", 0) + counted.get("errors", 0)
            good = counted.get("tests", 0) - wrong - counted.get("disabled", 0)
            if code != 0 and wrong == 0:
                wrong = 1
            if wrong:
                bad.append(f"{name} ({code})")
                print("\n".join(line for line in output.splitlines() if "FAILED" in line or "Failure" in line)[:2000])
            passed, failed = passed + good, failed + wrong
        return "failed" if failed or not passed else "passed", "failing: " + ", ".join(bad) if bad else f"{len(TESTS)} program", \
            passed, failed

    def counted(self, code, output):
        found = re.findall(r"^(\d+) passed, (\d+) failed$", output, re.M)
        passed, failed = map(int, found[-1]) if found else (0, 0)
        if code != 0:
            print("\n".join(output.splitlines()[-12:]))
        return "passed" if code == 0 and passed else "failed", f"exit code {code}", passed, failed

    def cases(self):
        cases = ["--cases", str(self.kit / "cases")] if (self.kit / "cases").is_dir() else []
        large = ["--large"] if self.device == "cuda" else ["--small"]  # without a GPU: that all of it works
        return self.counted(*self.call(*self.runner, *cases, *large, "--json", self.out / "cases.json"))

    def sanitize(self):
        if self.device != "cuda":
            return "not run", "needs CUDA"
        found, self.facts["sanitizers"] = [], {}
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            code, output = self.call("compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *self.runner, "--small")
            # Refused: the tool is not there, or answers for itself before any kernel of ours ran.
            refused = code == 127 or re.search(r"[Dd]evice not supported|not supported on|Unable to", output)
            clean = code == 0 and re.search(r"ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards", output)
            self.facts["sanitizers"][tool] = "refused" if refused else "clean" if clean else "errors"
            found.append(f"{tool} {self.facts['sanitizers'][tool]}")
        states = list(self.facts["sanitizers"].values())
        status = "failed" if "errors" in states else "passed" if "clean" in states else "refused"
        return status, ", ".join(found), states.count("clean"), states.count("errors")

    def kernels(self):
        """The names of the kernels that the small set launches, from Nsight Compute: what the ledger counts as run."""
        if self.device != "cuda":
            return "not run", "needs CUDA"
        code, output = self.call("ncu", "--clock-control", "none", "--section", "LaunchStats", "--csv", "--target-processes",
                                 "all", "--print-kernel-base", "function", *self.runner, "--small")
        table = list(csv.reader(line for line in output.splitlines() if line.startswith('"')))
        column = table[0].index("Kernel Name") if table and "Kernel Name" in table[0] else None
        names = sorted({bare_name(row[column]) for row in table[1:]}) if column is not None else []
        self.facts["kernels"] = names
        return ("passed", f"{len(names)} kernels ran") if names else ("refused", f"exit code {code}")

    def bench(self):
        quick = ["--quick"] if self.device != "cuda" else []
        code, output = self.call(self.kit / "bin" / "ssm_native_bench", "--device", self.device, *quick, "--json",
                                 self.out / "bench.json")
        print(output)
        return self.counted(code, output)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("steps", nargs="*", metavar="STEP")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--limit", type=float, default=86400)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--kit", default=str(KIT))
    options = parser.parse_args()
    if options.prepare:
        prepare()
        return 0
    unknown = set(options.steps) - set(STEPS)
    if unknown:
        parser.error(f"no step is called {', '.join(unknown)}; there are: {' '.join(STEPS)}")
    if not shutil.which("nvcc"):
        os.environ["PATH"] += os.pathsep + "/usr/local/cuda/bin"
    run = Run(options)
    for name in STEPS:
        if not options.steps or name in options.steps or name == "environment":
            run.step(name)
    print(f"results in {run.out}")
    print(f"{run.passed} passed, {run.failed} failed")
    return 1 if run.failed or not run.passed else 0


if __name__ == "__main__":
    sys.exit(main())
