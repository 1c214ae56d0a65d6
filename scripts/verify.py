#!/usr/bin/env python3
"""Runs `ssm verify` on the conformance cases of every operation there is, per device and dtype, and adds up.

usage: verify.py CASES COMMAND...      COMMAND starts the ssm tool
"""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from suites import operations


ROOT = Path(__file__).resolve().parent.parent
# Operations that the contract has no cases of: the native tests hold them to float64 references.
WITHOUT_CASES = {"causal_conv_plan", "causal_conv1d_update", "rms_norm", "rms_norm_backward", "gated_rms_norm",
                 "gated_rms_norm_backward", "mamba3", "mamba3_backward", "mamba3_update", "diagonal_kernel_backward",
                 "diagonal_ssm_backward", "diagonal_scan", "diagonal_initialize", "dplr_kernel_backward", "dplr_to_tilde",
                 "dplr_from_tilde", "dplr_double_length"}


def disputed():
    """operation/case of tests/disputed.txt: `ssm verify` skips them, so they leave no row."""
    lines = (ROOT / "tests" / "disputed.txt").read_text().splitlines()
    return {line.split("#")[0].strip() for line in lines} - {""}


def main():
    skipped = disputed()
    cases, tool = Path(sys.argv[1]), sys.argv[2:]
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        for device in os.environ.get("SSM_TEST_DEVICES", "cpu,emulated").split(","):
            for dtype in ("float32", "float64"):
                for operation in operations():
                    names = {f"{operation}/{file.stem}" for file in (cases / operation).glob("*.safetensors")}
                    files = len(names - skipped)
                    if not names and operation in WITHOUT_CASES:
                        continue
                    if not names:
                        print(f"{operation}: no cases below {cases}")
                        failed += 1
                        continue
                    report.unlink(missing_ok=True)
                    code = subprocess.run([*tool, "verify", str(cases), "--operation", operation, "--device", device,
                                           "--dtype", dtype, "--json", str(report)]).returncode
                    rows = json.loads(report.read_text()) if report.exists() else []
                    good = sum(bool(row["passed"]) for row in rows)
                    # A case that left no row, and an exit code at odds with the rows, are failures too.
                    bad = max(len(rows), files) - good
                    if (code != 0) != (bad > 0):
                        bad += 1
                    print(f"{operation} {device} {dtype}: {good} passed, {bad} failed, exit code {code}", flush=True)
                    passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
