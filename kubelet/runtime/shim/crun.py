"""Calls of the OCI runtime binary by posix_spawn, and its error messages."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.kubelet.runtime.shim.reaper import Reaper


class CrunError(Exception):
    """crun refused; the message is its own."""


class CrunMissing(Exception):
    """No crun on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "crun is missing: install the package crun (Debian, Fedora), or use --runtime process"
        )


def find_crun() -> str:
    """:raises CrunMissing: it is not installed."""
    found = shutil.which("crun", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin:/bin")
    if found is None:
        raise CrunMissing
    return found


class Crun:
    def __init__(self, binary: str, root: str, *, cgroups: bool, reaper: Reaper) -> None:
        self._binary = binary
        manager = "cgroupfs" if cgroups else "disabled"
        self._base = ["crun", "--root", root, "--cgroup-manager", manager]
        self._reaper = reaper
        # Nothing of the shim's environment may leak into hooks or error texts.
        self._environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

    def run(
        self, directory: str, container_id: str, stdio: tuple[int, int, int], *, tty: bool
    ) -> int:
        """Creates and starts a container, detached; the number of its first process."""
        extra = ["--console-socket", f"{directory}/console.sock"] if tty else []
        pid_file = f"{directory}/pid"
        self._call(
            directory,
            [
                "run",
                "--detach",
                "--bundle",
                directory,
                "--pid-file",
                pid_file,
                *extra,
                container_id,
            ],
            stdio,
        )
        return _read_pid(pid_file)

    def exec(
        self,
        directory: str,
        name: str,
        container_id: str,
        process: dict[str, object],
        stdio: tuple[int, int, int],
    ) -> int:
        """Another process (``process`` of an OCI config) in the container; its number."""
        files = {suffix: f"{directory}/{name}.{suffix}" for suffix in ("json", "pid", "log")}
        with open(files["json"], "w", encoding="utf-8") as file:
            json.dump(process, file)
        arguments = ["exec", "--detach", "--process", files["json"], "--pid-file", files["pid"]]
        if process["terminal"]:
            arguments += ["--console-socket", f"{directory}/{name}.sock"]
        try:
            self._call(directory, [*arguments, container_id], stdio, log=files["log"])
            return _read_pid(files["pid"])
        finally:
            for path in files.values():
                _unlink(path)

    def update(self, directory: str, container_id: str, resources: dict[str, object]) -> None:
        path = f"{directory}/resources.json"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(resources, file)
        self._call(directory, ["update", "--resources", path, container_id], None)

    def delete(self, directory: str, container_id: str) -> None:
        """Also kills; missing is fine."""
        try:
            self._call(directory, ["delete", "--force", container_id], None)
        except CrunError:
            pass  # it never came to life

    def _call(
        self,
        directory: str,
        arguments: list[str],
        stdio: tuple[int, int, int] | None,
        log: str = "",
    ) -> None:
        log = log or f"{directory}/crun.log"
        _unlink(log)
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
        for target in range(3):
            if stdio is None or stdio[target] < 0:
                actions.append((os.POSIX_SPAWN_OPEN, target, "/dev/null", os.O_RDWR, 0))
            else:
                actions.append((os.POSIX_SPAWN_DUP2, stdio[target], target))
        command = [*self._base, "--log", log, "--log-format", "json", *arguments]
        pid = os.posix_spawn(
            self._binary, command, self._environment, file_actions=actions, setsid=True
        )
        code = self._reaper.wait(pid)
        if code != 0:
            raise CrunError(_message(log) or f"crun {arguments[0]} ended with code {code}")


def _message(log: str) -> str:
    """The last error of crun's log."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    messages = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") == "error":
            messages.append(str(entry.get("msg", "")))
    return messages[-1] if messages else ""


def _read_pid(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
