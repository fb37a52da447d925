"""Files of a cluster on disk, and what they say about its processes.

``<home>/clusters/<name>/`` holds ``cluster.json`` (who runs it, written by the daemon),
``config.json`` (what it was started with), ``pki/``, ``state.db``, ``logs/``, ``nodes/`` and
``kubeconfig``. Images are shared by all clusters of a user in ``<home>/images``. ``<home>`` is
$PILOTHOUSE_HOME or ``~/.pilothouse``.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path


def home_directory() -> Path:
    return Path(os.environ.get("PILOTHOUSE_HOME") or Path.home() / ".pilothouse")


def clusters_directory() -> Path:
    return home_directory() / "clusters"


def images_directory() -> Path:
    return home_directory() / "images"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A pid with its start time, so that a reused pid is never taken for ours."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return self.started != 0 and start_time(self.pid) == self.started


def start_time(pid: int) -> int:
    """The process's start in clock ticks since boot; 0 when there is none (or a zombie)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == b"Z" else int(fields[19])


def this_process() -> ProcessId:
    return ProcessId(os.getpid(), start_time(os.getpid()))


@dataclass(slots=True)
class ClusterState:
    """``cluster.json``: a running (or killed) cluster as its daemon last described it."""

    name: str
    process: ProcessId
    server: str = ""
    ready: bool = False
    storage: str = ""
    runtime: str = ""
    kubeconfig: str = ""
    helpers: list[ProcessId] = field(default_factory=list)
    """Runtime shims."""

    @property
    def running(self) -> bool:
        return self.process.alive

    def save(self, directory: Path) -> None:
        write_private(directory / "cluster.json", json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(directory: Path) -> ClusterState | None:
        """None when there is none. :raises ValueError: damaged."""
        try:
            data = json.loads((directory / "cluster.json").read_bytes())
        except FileNotFoundError:
            return None
        try:
            data["process"] = ProcessId(**data["process"])
            data["helpers"] = [ProcessId(**p) for p in data["helpers"]]
            return ClusterState(**data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{directory / 'cluster.json'} is damaged: {error}") from error


def write_private(path: Path, text: str) -> None:
    """Replaces the file in one step, mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def known_clusters() -> list[str]:
    """Names with a directory below the home, running or not."""
    try:
        return sorted(p.name for p in clusters_directory().iterdir() if p.is_dir())
    except FileNotFoundError:
        return []
