#!/usr/bin/env python3
"""Keeps bench/results/gpu-ledger.json: for each CUDA kernel, when it last changed and when it last ran on a GPU.

usage: ledger.py             lists the kernels anew, with the last change from git, and fills README's list of unproven ones
       ledger.py --merge F   takes in the gpu.json (with the bench.json beside it) of a `build.sh gpu` run, then the same
       ledger.py --check     fails where a kernel of the sources is not listed or a listed one is gone, or README's list is old

A kernel is a __global__ function template, all its instantiations together. A row:
  operation, kernel, file   where it is
  changed_commit            the last commit that touched its file or a header below native/src/cuda which that includes
  run_commit, run_date, run_device      the last run on a GPU that passed, all null if never
  run_evidence              "launched": a profiler saw the kernel; "operation": the tests of its operation passed
  memcheck, racecheck       of that run: "clean", "errors", "refused" (the machine did not let the tool run) or null
  share_of_roof             of that run: the best share of the copy bandwidth in a float32 benchmark of the operation, or null
  stale                     it changed after that run
A kernel is unproven while it never ran, or changed after it ran.
"""
import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CUDA = ROOT / "native" / "src" / "cuda"
LEDGER = ROOT / "bench" / "results" / "gpu-ledger.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- unproven kernels: written by scripts/ledger.py -->", "<!-- end of unproven kernels -->"
RUN_FIELDS = ["run_commit", "run_date", "run_device", "run_evidence", "memcheck", "racecheck", "share_of_roof"]


def kernels():
    """(operation, kernel, file) of every __global__ function in the sources."""
    found = []
    for path in sorted([*CUDA.rglob("*.cu"), *CUDA.rglob("*.cuh"), *CUDA.rglob("*.h")]):
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.S)
        bounds = r"(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?"
        for name in re.findall(rf"__global__\s+{bounds}void\s+{bounds}(\w+)\s*\(", text):
            found.append((path.stem, name, path.relative_to(ROOT).as_posix()))
    return found


def with_headers(path, seen=None):
    """A file and the headers below native/src/cuda that it includes, directly or not."""
    seen = set() if seen is None else seen
    if path not in seen:
        seen.add(path)
        for name in re.findall(r'^\s*#include "([^"]+)"', path.read_text(), re.M):
            for candidate in (path.parent / name, CUDA.parent / name):
                if candidate.is_file() and CUDA in candidate.resolve().parents:
                    with_headers(candidate.resolve(), seen)
    return seen


def last_change(file):
    paths = sorted(map(str, with_headers((ROOT / file).resolve())))
    done = subprocess.run(["git", "-C", str(ROOT), "log", "-1", "--format=%h", "--abbrev=12", "--", *paths],
                          stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip() or None


def changed_after(row):
    """Whether the kernel changed after the commit of its last run."""
    if row["changed_commit"] is None or row["changed_commit"] == row["run_commit"]:
        return False
    before = subprocess.run(["git", "-C", str(ROOT), "merge-base", "--is-ancestor", row["changed_commit"], row["run_commit"]],
                            stderr=subprocess.DEVNULL)
    return before.returncode != 0


def update(rows):
    old = {(row["operation"], row["kernel"]): row for row in rows}
    new = []
    for operation, kernel, file in kernels():
        row = dict(operation=operation, kernel=kernel, file=file, changed_commit=last_change(file))
        before = old.get((operation, kernel), {})
        row.update({field: before.get(field) for field in RUN_FIELDS})
        new.append(row)
    return new


def merge(rows, report):
    """Marks what a GPU run has shown. Only what passed counts."""
    run = json.loads(report.read_text())
    status = {step["step"]: step["status"] for step in run["steps"]}
    if run.get("modified"):
        sys.exit("that run's sources were not those of its commit: commit first, then run")
    if status.get("tests") != "passed" or status.get("cases") != "passed":
        sys.exit(f"tests and cases have to pass for a kernel to count as run: {status}")
    launched = run.get("kernels")
    shares = {}
    bench = report.parent / "bench.json"
    for row in json.loads(bench.read_text()) if bench.exists() else []:
        if row["dtype"] == "float32" and row["bytes"]:
            shares[row["operation"]] = max(shares.get(row["operation"], 0), row["share_of_ceiling"])
    for row in rows:
        if launched and row["kernel"] not in launched:
            continue
        row.update(run_commit=run["commit"][:12], run_date=run["date"], run_device=run["device"],
                   run_evidence="launched" if launched else "operation", share_of_roof=shares.get(row["operation"]),
                   **{tool: run.get("sanitizers", {}).get(tool) for tool in ("memcheck", "racecheck")})


def unproven(rows):
    """README's block: kernels whose present text never ran on a GPU."""
    lines = [f"- `{row['operation']}`: `{row['kernel']}`" + ("" if row["run_commit"] is None else " (changed since its last run)")
             for row in rows if row["run_commit"] is None or row.get("stale")]
    return "\n".join(lines) if lines else "None: every kernel ran on a GPU since it last changed."


def fill(text, rows):
    block = f"{BEGIN}\n{unproven(rows)}\n{END}"
    return re.sub(re.escape(BEGIN) + r".*?" + re.escape(END), lambda _: block, text, flags=re.S)


def check(rows):
    problems = []
    listed, present = {(row["operation"], row["kernel"]) for row in rows}, {kernel[:2] for kernel in kernels()}
    problems += [f"{operation}: {kernel} is not in the ledger" for operation, kernel in sorted(present - listed)]
    problems += [f"{operation}: {kernel} is in the ledger and not in the sources" for operation, kernel in sorted(listed - present)]
    if not present:
        problems.append("no kernel below native/src/cuda")
    if not README.exists() or BEGIN not in README.read_text():
        problems.append(f"README.md has no block {BEGIN} ... {END}")
    elif fill(README.read_text(), rows) != README.read_text():
        problems.append("README.md lists other kernels as unproven than the ledger")
    for problem in problems:
        print(problem)
    print(f"{len(listed & present)} kernels, {sum(row['run_commit'] is None for row in rows)} of them never ran on a GPU")
    return 1 if problems else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--merge", metavar="GPU_JSON")
    options = parser.parse_args()
    rows = json.loads(LEDGER.read_text()) if LEDGER.exists() else []
    if options.check:
        return check(rows)
    rows = update(rows)
    if options.merge:
        merge(rows, Path(options.merge))
    for row in rows:  # whether a run still stands follows from history, which a shallow clone does not have: so it is kept
        row["stale"] = row["run_commit"] is not None and changed_after(row)
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    LEDGER.write_text("[\n" + ",\n".join(" " + json.dumps(row) for row in rows) + "\n]\n")
    if README.exists():
        README.write_text(fill(README.read_text(), rows))
    return check(rows)


if __name__ == "__main__":
    sys.exit(main())
