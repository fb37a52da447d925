"""Running commands: one protocol, so that tests can stand in for the machine.

``Exec`` is ``run(command, input, timeout)``; :class:`RealExec` starts processes on the running
loop, :class:`FakeExec` (``componentbase/testing.py``) answers from a script.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended. ``code`` is negative for a signal."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def message(self) -> str:
        """What the command said went wrong, in one line at most."""
        text = (self.stderr or self.stdout).decode(errors="replace").strip()
        return text.splitlines()[-1] if text else f"exit code {self.code}"


def raise_open_files(limit: int = 65_536) -> None:
    """For a process that serves: Go's runtime raises the soft limit likewise. Shells give 1,024,
    which is a few hundred connections."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limit if hard == resource.RLIM_INFINITY else min(hard, limit)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def collect_garbage_in_portions() -> None:
    """For a process that serves. With Python's thresholds decoding is twice as slow and a full
    collection stops the loop for 100 ms per 5,000 decoded pods; decoded objects are many and have
    no cycles. What is new is looked at in portions of at most 110,000 objects, which takes 20 ms
    (a million: 180 ms, all measured)."""
    gc.set_threshold(10_000, 10, 1_000)


class Exec(Protocol):
    async def run(
        self, command: Sequence[str], *, input: bytes = b"", timeout: float = 30.0
    ) -> Completed:
        """:raises FileNotFoundError: no such program.  :raises TimeoutError: killed."""
        ...


class RealExec:
    """Processes of this machine; killed when the caller is cancelled or runs out of time."""

    async def run(
        self, command: Sequence[str], *, input: bytes = b"", timeout: float = 30.0
    ) -> Completed:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if input else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(timeout):
                try:
                    stdout, stderr = await process.communicate(input or None)
                except RuntimeError:  # uvloop, when the program ends without reading its input
                    stdout, stderr = await process.communicate()
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        return Completed(process.returncode or 0, stdout, stderr)


def find_program(*names: str) -> str | None:
    """The path of the first of ``names`` on PATH or in the system folders."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None
