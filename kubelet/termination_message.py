"""What a container wrote to its termination log before it ended, or the end of its output."""

from __future__ import annotations

import os

from pilothouse.kubelet.pod_files import termination_log
from pilothouse.kubelet.runtime.interfaces import ContainerStatus

MAX_MESSAGE = 4096
MAX_LOG_BYTES = 2048
MAX_LOG_LINES = 80
POLICY = "io.kubernetes.container.terminationMessagePolicy"


class TerminationMessages:
    def __init__(self, root_dir: str) -> None:
        self._root = root_dir

    def read(self, status: ContainerStatus) -> str:
        uid = status.labels.get("io.kubernetes.pod.uid", "")
        path = termination_log(self._root, uid, status.name, status.attempt)
        message = _head(path, MAX_MESSAGE)
        fall_back = status.annotations.get(POLICY) == "FallbackToLogsOnError"
        if not message and fall_back and status.exit_code != 0:
            return last_lines(status.log_path)
        return message


def _head(path: str, limit: int) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def last_lines(log_path: str) -> str:
    """The end of a CRI log as plain text: at most 80 lines and 2048 bytes."""
    try:
        with open(log_path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - MAX_LOG_BYTES * 4, 0))
            lines = file.read().splitlines()
    except OSError:
        return ""
    text = b""
    for line in lines[-MAX_LOG_LINES:]:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            text += parts[3] + (b"" if parts[2] == b"P" else b"\n")
    return text[-MAX_LOG_BYTES:].decode(errors="replace")
