"""Pairs of certificate and key in a directory, with a link to the one in use (client-go's
certificate.FileStore): ``kubelet-client-current.pem`` → ``kubelet-client-<time>.pem``.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pilothouse.componentbase.der import CertificateFields, pem_blocks, read_certificate

_BLOCK = re.compile(rb"(-----BEGIN ([A-Z ]+)-----.*?-----END \2-----)", re.S)
_KEYS = ("EC PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY")


class Pair(NamedTuple):
    """PEM of both, and what the certificate says."""

    certificate: bytes
    key: bytes
    fields: CertificateFields


class CertificateStore:
    """``name``: ``kubelet-client`` or ``kubelet-server``."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self.path = directory / f"{name}-current.pem"
        """A file that holds the pair in use, once there is one."""

    def current(self) -> Pair | None:
        """None: there is none, or the file is damaged."""
        try:
            blocks = _BLOCK.findall(self.path.read_bytes())
            certificates = [block for block, label in blocks if label == b"CERTIFICATE"]
            keys = [block for block, label in blocks if label.decode() in _KEYS]
            return make_pair(b"\n".join(certificates) + b"\n", b"\n".join(keys) + b"\n")
        except (OSError, ValueError):
            return None

    def update(self, certificate: bytes, key: bytes, now: datetime) -> Pair:
        """Makes it the pair in use; at no moment there is none.

        :raises ValueError: no certificate. :raises OSError: it can't be written.
        """
        pair = make_pair(certificate, key)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._directory / f"{self._name}-{now:%Y-%m-%d-%H-%M-%S-%f}.pem"
        descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(certificate.rstrip() + b"\n" + key.rstrip() + b"\n")
            out.flush()
            os.fsync(out.fileno())
        link = self._directory / f".{self._name}-{os.getpid()}.link"
        link.unlink(missing_ok=True)
        link.symlink_to(file.name)
        os.replace(link, self.path)
        return pair


def make_pair(certificate: bytes, key: bytes) -> Pair:
    """:raises ValueError: one of them is none."""
    blocks = pem_blocks(certificate)
    if not blocks or not any(pem_blocks(key, label) for label in _KEYS):
        raise ValueError("no certificate and key")
    return Pair(certificate, key, read_certificate(blocks[0]))
