"""Runs e2e.test: one process a test, so that each has a time limit and a hang costs only itself.

Starting the program takes half a second; in return a slow test never delays the report of the
others, and tests share nothing but the cluster. run.py gives the tests, report.py gets the results.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hack.conformance.catalog import Test

CACHE = Path(os.environ.get("PILOTHOUSE_CACHE", Path.home() / ".cache" / "pilothouse"))
BIN = CACHE / "conformance" / "bin"
LAYOUT = CACHE / "conformance" / "layout"
GRACE = 30  # seconds that an interrupted test has to clean up
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class Result:
    """What became of one test; `note` says in a line why it didn't pass."""

    test: Test
    outcome: str
    seconds: float = 0.0
    note: str = ""


class Suite:
    """One run of tests against the cluster of a kubeconfig, with its files in `reports`."""

    def __init__(
        self,
        kubeconfig: Path,
        reports: Path,
        *,
        timeout: int,
        on_result: Callable[[Result], None],
    ) -> None:
        self.kubeconfig = kubeconfig
        self.reports = reports
        self.timeout = timeout
        self.on_result = on_result
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, tests: Iterable[Test], parallel: int) -> list[Result]:
        """Runs the tests, `parallel` at once; those that must be alone come last, one by one."""
        tests = list(tests)
        together = [test for test in tests if not test.serial]
        alone = [test for test in tests if test.serial]
        with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
            try:
                results = list(pool.map(self._run_and_tell, together))
            except BaseException:
                self._stop.set()
                for process in list(self._running):
                    process.send_signal(signal.SIGINT)
                raise
        return results + [self._run_and_tell(test) for test in alone]

    def _run_and_tell(self, test: Test) -> Result:
        if self._stop.is_set():
            return Result(test, NOT_RUN, note="interrupted")
        result = self._run_one(test)
        with self._lock:
            self.on_result(result)
        return result

    def _run_one(self, test: Test) -> Result:
        folder = self.reports / folder_name(test.name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started = time.monotonic()
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                self._command(test, folder),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._running.add(process)
            try:
                process.wait(self.timeout + GRACE)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
            finally:
                self._running.discard(process)
        outcome, note = read_junit(folder / "junit_01.xml", self.timeout)
        return Result(test, outcome, time.monotonic() - started, note)

    def _command(self, test: Test, folder: Path) -> list[str]:
        return [
            str(BIN / "e2e.test"),
            f"--kubeconfig={self.kubeconfig}",
            "--provider=skeleton",
            f"--kubectl-path={BIN / 'kubectl'}",
            f"--ginkgo.focus={re.escape(test.name)}$",
            f"--ginkgo.timeout={self.timeout}s",
            f"--ginkgo.grace-period={GRACE // 2}s",
            "--ginkgo.v",
            "--ginkgo.silence-skips",
            "--ginkgo.no-color",
            f"--report-dir={folder}",
            "--allowed-not-ready-nodes=0",
            "--minStartupPods=0",
            "--node-schedulable-timeout=30s",
            "--dump-logs-on-failure=false",
        ]


def folder_name(name: str) -> str:
    """Of a test's files: what is most telling of its name, and never another test's."""
    end = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[-140:]
    return f"{end}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def read_junit(path: Path, timeout: int) -> tuple[str, str]:
    """Outcome and note of the one test in a junit file, which is reduced to the tests that ran."""
    if not path.exists():
        return FAILED, f"no report within {timeout + GRACE} s"
    tree = ElementTree.parse(path)
    found: tuple[str, str] | None = None
    for suite in tree.getroot().iter("testsuite"):
        for case in list(suite.iter("testcase")):
            skipped = case.find("skipped")
            if skipped is not None and skipped.get("message") == "skipped":
                suite.remove(case)  # one that was not asked for
            elif case.get("name", "").startswith("[It]"):
                found = verdict(case)
            elif case.get("status") == "failed" and found is None:
                found = FAILED, first_line(case)
    tree.write(path)
    return found or (NOT_RUN, "the suite holds no such test")


def verdict(case: ElementTree.Element) -> tuple[str, str]:
    status = case.get("status", "")
    if status == "passed":
        return PASSED, ""
    if status in ("skipped", "pending", "interrupted"):
        return NOT_RUN, first_line(case) or status
    return FAILED, first_line(case)


def first_line(case: ElementTree.Element) -> str:
    """What the test said, in one line."""
    for kind in ("failure", "error", "skipped"):
        element = case.find(kind)
        if element is not None:
            text = element.get("message") or element.text or ""
            return " ".join(text.split())[:300]
    return ""


def merge_junit(reports: Path) -> Path:
    """Puts the reports of all tests into reports/junit.xml."""
    merged = ElementTree.Element("testsuites")
    for path in sorted(reports.glob("*/junit_01.xml")):
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            merged.append(suite)
    target = reports / "junit.xml"
    ElementTree.ElementTree(merged).write(target)
    return target
