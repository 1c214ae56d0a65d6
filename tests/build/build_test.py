"""The build scripts: build.sh and build.ps1 have the same verbs, packages are asked for as promised, failures are seen."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT / "tests" / "gpu"))
import gpu
import ledger
import ssmcuda
import suites

SHELL = (ROOT / "build.sh").read_text()
POWERSHELL = (ROOT / "build.ps1").read_text()


def shell_verbs():
    return re.search(r"^verbs=\((.*?)\)", SHELL, re.M)[1].split()


def powershell_verbs():
    return re.findall(r"'(\w+)'", re.search(r"^\$Verbs = @\((.*?)\)", POWERSHELL, re.M)[1])


def run(*command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def parse_powershell(text):
    """What build.ps1's grammar does not accept, and the functions defined; the parser comes from npm."""
    modules = ROOT / "artifacts" / "test" / "node" / "node_modules"
    if not (modules / "tree-sitter-powershell").is_dir():
        done = run("npm", "install", "--prefix", str(modules.parent), "--no-save", "--no-audit", "--no-fund", "--ignore-scripts",
                   "tree-sitter-powershell@0.26.4", "web-tree-sitter@0.27.1")
        if done.returncode != 0:
            raise RuntimeError(done.stdout)
    with tempfile.NamedTemporaryFile("w", suffix=".ps1") as file:
        file.write(text)
        file.flush()
        done = run("node", str(ROOT / "tests" / "build" / "parse_powershell.mjs"), str(modules), file.name)
    return json.loads(done.stdout)


class Verbs(unittest.TestCase):
    def test_both_scripts_have_the_same_verbs_in_the_same_order(self):
        self.assertEqual(shell_verbs(), powershell_verbs())
        self.assertEqual(shell_verbs(), "build test bench verify pack format gpu deps clean help".split())

    def test_each_verb_has_its_function_in_that_order(self):
        defined = re.findall(r"^verb_(\w+)\(\)", SHELL, re.M)
        self.assertEqual(sorted(defined), sorted(shell_verbs()))
        defined = [name.lower() for name in re.findall(r"^function Invoke-(\w+)", POWERSHELL, re.M)]
        self.assertEqual([name for name in defined if name in shell_verbs()], shell_verbs())

    def test_help_tells_of_every_verb(self):
        done = run(str(ROOT / "build.sh"), "help", cwd="/")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(re.findall(r"^  ([a-z]+) ", done.stdout, re.M), shell_verbs())
        self.assertEqual(re.findall(r"Write-Output '  ([a-z]+) ", POWERSHELL), shell_verbs())

    def test_an_unknown_verb_fails(self):
        done = run(str(ROOT / "build.sh"), "frobnicate")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("unknown verb frobnicate", done.stdout)

    def test_powershell_parses(self):
        parsed = parse_powershell(POWERSHELL)
        self.assertEqual(parsed["errors"], [])
        self.assertLessEqual({f"Invoke-{verb.capitalize()}" for verb in powershell_verbs()}, set(parsed["functions"]))
        # The parser does see errors.
        self.assertNotEqual(parse_powershell(POWERSHELL.replace("function Invoke-Gpu {", "function Invoke-Gpu {{"))["errors"], [])

    def test_bash_parses(self):
        for script in ("build.sh", ".ci/run"):
            self.assertEqual(run("bash", "-n", str(ROOT / script)).stdout, "")
            self.assertTrue(os.access(ROOT / script, os.X_OK), script)


class Packages(unittest.TestCase):
    """build.sh deps on a machine made of shell scripts that record what they are asked."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.bin = Path(folder.name)
        for name in ("bash", "env", "dirname", "cat", "sed", "tee", "grep"):
            (self.bin / name).symlink_to(run("which", name).stdout.strip())
        self.calls = self.bin / "calls"
        self.fake("sleep", "exit 0")
        self.fake("dpkg-query", 'case "$4" in g++) printf installed ;; *) exit 1 ;; esac')

    def fake(self, name, body):
        (self.bin / name).write_text(f'#!{self.bin}/bash\n{body}\n')
        (self.bin / name).chmod(0o755)

    def deps(self, *arguments):
        return run(str(self.bin / "bash"), str(ROOT / "build.sh"), "deps", *arguments, env={"PATH": str(self.bin)})

    def called(self):
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def record(self, name, first="exit 0"):
        self.fake(name, f'echo "{name} $*" >> {self.calls}\n{first}')

    def test_without_root_it_names_the_command_and_stops(self):
        self.fake("id", "echo 1000")
        self.record("apt-get")
        done = self.deps()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("sudo apt-get update && sudo apt-get install -y --no-install-recommends cmake ninja-build", done.stdout)
        self.assertNotIn(" g++ ", done.stdout)
        self.assertEqual(self.called(), [])

    def test_sudo_that_asks_for_a_password_is_not_used(self):
        self.fake("id", "echo 1000")
        self.fake("sudo", "exit 1")
        self.record("apt-get")
        self.assertNotEqual(self.deps().returncode, 0)
        self.assertEqual(self.called(), [])

    def test_root_installs_what_is_missing(self):
        self.fake("id", "echo 0")
        self.record("apt-get")
        done = self.deps()
        self.assertEqual(done.returncode, 0, done.stdout)
        update, install = self.called()
        self.assertEqual(update, "apt-get -q update")
        self.assertRegex(install, r"^apt-get -q install -y --no-install-recommends cmake .*libgtest-dev")
        self.assertNotIn("g++", install)
        self.assertNotIn("cuda", install)

    def test_update_is_tried_twice(self):
        self.fake("id", "echo 0")
        self.record("apt-get", f'if [ "$2" = update ] && [ ! -e {self.bin}/once ]; then : > {self.bin}/once; exit 100; fi')
        self.assertEqual(self.deps().returncode, 0)
        self.assertEqual([call.split()[2] for call in self.called()], ["update", "update", "install"])

    def test_nothing_is_asked_for_when_all_is_there(self):
        self.fake("id", "echo 1000")
        self.fake("dpkg-query", "printf installed")
        for name in ("node", "npm", "nvcc"):
            self.fake(name, "exit 0")
        self.record("apt-get")
        self.assertEqual(self.deps("--cuda").returncode, 0)
        self.assertEqual(self.called(), [])


class Suites(unittest.TestCase):
    """Counts are read as each runner prints them, and what ran nothing is a failure."""

    def test_counts(self):
        self.assertEqual(suites.summary_line("x\n3 passed, 1 failed\n12 passed, 0 failed\n"), (12, 0))
        self.assertIsNone(suites.summary_line("nothing"))
        self.assertEqual(suites.unittest("Ran 7 tests in 1s\n\nFAILED (failures=1, errors=2)"), (4, 3))
        self.assertEqual(suites.ctest("50% tests passed, 1 tests failed out of 2"), (1, 1))
        log = "1: [  PASSED  ] 40 tests.\n1: [  FAILED  ] 2 tests, listed below:\n50% tests passed, 1 tests failed out of 2"
        self.assertEqual(suites.ctest_of_gtest(log), (40, 2))
        self.assertEqual(suites.ctest_of_gtest("0% tests passed, 1 tests failed out of 1"), (0, 1))
        self.assertEqual(suites.dotnet("  total: 9\n  failed: 1\n  succeeded: 8\n  skipped: 0\n"), (8, 1))

    def outcome(self, *commands, **options):
        suite = suites.Suite("probe", *commands, **options)
        with tempfile.TemporaryDirectory() as folder:
            before, suites.LOGS = suites.LOGS, Path(folder)
            say, suites.print = print, lambda *_, **__: None
            try:
                suites.ROOT, root = Path(folder), suites.ROOT
                suites.run([suite])
            finally:
                suites.LOGS, suites.ROOT = before, root
                del suites.print
        return suite.passed, suite.failed

    def test_outcomes(self):
        self.assertEqual(self.outcome(["echo", "2 passed, 0 failed"]), (2, 0))
        self.assertEqual(self.outcome(["echo", "2 passed, 0 failed"], ["echo", "3 passed, 0 failed"]), (5, 0))
        self.assertEqual(self.outcome(["echo", "2 passed, 0 failed"], ["true"]), (2, 1))
        self.assertEqual(self.outcome(["bash", "-c", "echo '2 passed, 0 failed'; exit 3"]), (2, 1))
        self.assertEqual(self.outcome(["true"]), (0, 1))
        self.assertEqual(self.outcome(["true"], counts=suites.one), (1, 0))
        self.assertEqual(self.outcome(["false"], counts=suites.one), (0, 1))
        self.assertEqual(self.outcome(["no-such-program"]), (0, 1))
        self.assertEqual(self.outcome(["true"], build=True), (0, 0))
        self.assertEqual(self.outcome(["false"], build=True), (0, 1))

    def test_every_suite_is_reachable(self):
        everything = suites.suites()
        self.assertEqual([s.name for s in suites.with_needs(["managed"], everything)], ["build-native", "build-managed", "managed"])
        self.assertLessEqual({"associative_scan", "linear_recurrence", "selective_scan"}, set(suites.operations()))
        self.assertEqual(list(ssmcuda.read_operations()), suites.operations())


class Ledger(unittest.TestCase):
    def test_kernels_are_found(self):
        names = [name for _, name, _ in ledger.kernels()]
        self.assertEqual(len(names), len(set(names)))
        sources = "".join(path.read_text() for path in ledger.CUDA.rglob("*.cu"))
        sources = re.sub(r"//[^\n]*", "", sources)
        self.assertEqual(len(re.findall(r"\b__global__\b", sources)), len(names))

    def test_names_of_a_profiler(self):
        for text in ("scan_kernel", "scan_kernel(Arguments)", "void ssm::<unnamed>::scan_kernel<float>(ssm::Arguments<float>)",
                     "void ssm::(anonymous namespace)::scan_kernel<ssm::Complex<float> >(int)"):
            self.assertEqual(gpu.bare_name(text), "scan_kernel")

    def test_unproven_block(self):
        rows = [dict(operation="x", kernel="k", run_commit=None), dict(operation="x", kernel="l", run_commit="1", stale=True),
                dict(operation="x", kernel="m", run_commit="1", stale=False)]
        text = ledger.fill(f"a\n{ledger.BEGIN}\nold\n{ledger.END}\nb", rows)
        self.assertIn("`k`", text)
        self.assertIn("`l` (changed", text)
        self.assertNotIn("`m`", text)
        self.assertNotIn("old", text)


class Presets(unittest.TestCase):
    def test_cmake_reads_them(self):
        done = run("cmake", "--list-presets", cwd=ROOT)
        self.assertEqual(done.returncode, 0, done.stdout)
        for preset in ("release", "debug", "asan", "tsan", "mutations", "pack", "gpu-kit", "cuda-only"):
            self.assertIn(f'"{preset}"', done.stdout)


if __name__ == "__main__":
    unittest.main()
