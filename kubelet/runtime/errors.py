"""Failures of a runtime.

RuntimeFailure
├── NotFound          no such sandbox, container or image
├── StartError        the container could not be created or started (exit 128, reason, message)
├── ExecTimeout       exec_sync ran out of time
├── ImagePullError    registry said no, or the image is damaged
├── Unsupported       this runtime cannot do it (see Capabilities)
└── RuntimeUnavailable  the shim does not answer
"""

from __future__ import annotations


class RuntimeFailure(Exception):
    """Base of all runtime failures."""


class NotFound(RuntimeFailure):
    pass


class StartError(RuntimeFailure):
    def __init__(self, message: str, reason: str = "StartError") -> None:
        super().__init__(message)
        self.reason = reason


class ExecTimeout(RuntimeFailure):
    pass


class ImagePullError(RuntimeFailure):
    pass


class Unsupported(RuntimeFailure):
    pass


class RuntimeUnavailable(RuntimeFailure):
    pass
