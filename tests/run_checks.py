#!/usr/bin/env python3
"""run_checks.py [--build DIR] [SUITE...]: runs the suites one after the other and counts.

Each suite ends in a tally; what failed was already shown by the tool that ran it. The last line is
"N passed, N failed", with ", N skipped" where something was skipped; the reasons stand above it.
The exit status is 0 only where nothing failed.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv/bin/python"
# Unit tests in which threads meet: the writer's, the workers', the loop's.
THREADED = ["storage", "storage_faults", "store", "loop", "worker"]
ROOMS = "base|storage|guestagent|supervisord|api|cli"


@dataclasses.dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: list = dataclasses.field(default_factory=list)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def run(*command, **options):
    return subprocess.run([str(word) for word in command], cwd=ROOT, stdin=subprocess.DEVNULL,
                          **options)


def one(status):
    """The tally of a tool that has a single verdict."""
    return Tally(passed=1) if status == 0 else Tally(failed=1)


def check_cases(output):
    """(passed, failed) test cases in a Check program's output, None where it has no summary."""
    found = re.findall(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", output, re.M)
    if not found:
        return None
    checks, failures, errors = (sum(int(row[i]) for row in found) for i in range(3))
    return checks - failures - errors, failures + errors


def meson_tests(build, *names):
    """All tests of the build, or the named ones as they were built."""
    status = run("meson", "test", "-C", build, "--print-errorlogs", "--num-processes",
                 os.cpu_count() or 1, *(["--no-rebuild", *names] if names else [])).returncode
    tally = Tally()
    log = pathlib.Path(build) / "meson-logs/testlog.json"
    for line in log.read_text().splitlines() if log.exists() else []:
        test = json.loads(line)
        if test["result"] == "SKIP":
            tally.skipped.append(f"{build.name}: {test['name']}: not supported here")
            continue
        passed, failed = check_cases(test.get("stdout", "")) or (1, 0)
        if test["result"] not in ("OK", "EXPECTEDFAIL") and failed == 0:
            failed = 1  # It crashed, leaked or timed out without a case to blame.
        tally.add(Tally(passed, failed))
    if status != 0 and tally.failed == 0:
        tally.failed = 1
    return tally


def unit(build):
    return meson_tests(build)


def sanitized(build, name, sanitizers, *tests):
    """The tests, all or the named ones, in a build of its own with these sanitizers."""
    directory = build.with_name(f"{build.name}-{name}")
    if not (directory / "build.ninja").exists():
        setup = run("meson", "setup", directory, f"-Db_sanitize={sanitizers}", "-Db_lundef=false",
                    stdout=subprocess.DEVNULL)
        if setup.returncode != 0:
            return one(setup.returncode)
    targets = [f"tests/unit/test_{test}" for test in tests]
    if run("ninja", "-C", directory, "--quiet", *targets).returncode != 0:
        return Tally(failed=1)
    return meson_tests(directory, *tests)


def sanitize(build):
    """The same tests, in a build with AddressSanitizer and UBSan."""
    os.environ["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    return sanitized(build, "sanitize", "address,undefined")


def threads(build):
    """What has more than one thread, in a build with ThreadSanitizer."""
    return sanitized(build, "threads", "thread", *THREADED)


def sources():
    """Tracked C files; in a tarball, where nothing is tracked, all of them."""
    listed = run("git", "ls-files", "*.c", "*.h", capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        return [name for name in listed.stdout.split() if (ROOT / name).exists()]
    return [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.[ch]")
            if not path.relative_to(ROOT).parts[0].startswith(("build", "."))]


def format_(build):
    return one(run("clang-format", "--dry-run", "-Werror", *sources()).returncode)


def tidy(build):
    """clang-tidy over the rooms, without its chatter about each file."""
    found = run("run-clang-tidy", "-quiet", "-p", build, "-j", os.cpu_count() or 1,
                f"^{re.escape(str(ROOT))}/({ROOMS})/", capture_output=True, text=True)
    for line in found.stdout.splitlines() if found.returncode != 0 else []:
        if "clang-tidy-" not in line:
            print(line)
    return one(found.returncode)


def pytest(build, *arguments):
    report = build / "reports" / (pathlib.Path(arguments[0]).name + ".xml")
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    environment = {**os.environ, "HEARTH_BIN": str(build / "bin")}
    status = run(PYTHON, "-m", "pytest", f"--junitxml={report}", *arguments,
                 env=environment).returncode
    tally = Tally()
    if report.exists():
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            skipped = case.find("skipped")
            if skipped is not None:
                tally.skipped.append(f"{case.get('classname')}.{case.get('name')}: "
                                     f"{skipped.get('message')}")
            elif case.find("failure") is not None or case.find("error") is not None:
                tally.failed += 1
            else:
                tally.passed += 1
    if status != 0 and tally.failed == 0:
        tally.failed = 1
    return tally


def lint(build):
    return pytest(build, "tests/lint")


def integration(build):
    """Several files at a time: most tests wait for guests more than they compute."""
    return pytest(build, "tests/integration", "-m", "not stress", "--numprocesses", min((os.cpu_count() or 1) + 1, 8),
                  "--dist", "loadfile", "--no-loadscope-reorder")


SUITES = {"format": format_, "lint": lint, "unit": unit, "sanitize": sanitize, "threads": threads,
          "tidy": tidy, "integration": integration}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    arguments = parser.parse_args()
    unknown = set(arguments.suites) - SUITES.keys()
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")

    # A shell ignores it for what runs in its background, and that is inherited: tests interrupt programs by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    total = Tally()
    build = arguments.build.resolve()
    for name in arguments.suites or SUITES:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        tally = SUITES[name](build)
        print(f"== {name}: {tally.passed} passed, {tally.failed} failed, {len(tally.skipped)} "
              f"skipped in {time.monotonic() - started:.0f} s", flush=True)
        total.add(tally)

    for reason in total.skipped:
        print(f"skipped: {reason}")
    skipped = f", {len(total.skipped)} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped}")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
