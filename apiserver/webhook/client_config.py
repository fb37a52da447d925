"""Whom a webhook's ``clientConfig`` names (apiserver pkg/util/webhook); pure.

Either a URL, or a Service, which is reached at its cluster address and must present a certificate
for ``<service>.<namespace>.svc``.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

_HTTPS = 443
_SAFE = "/:@!$&'()*+,;=~%"


class ConfigError(ValueError):
    """The configuration names nobody who could be called."""


@dataclass(frozen=True, slots=True)
class ServiceReference:
    namespace: str
    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """One backend. Equal targets share connections."""

    host: str
    port: int
    path: str
    server_name: str
    """What the backend's certificate must be for."""
    ca_bundle: bytes = b""
    """PEM; empty: the machine's own trust."""
    service: ServiceReference | None = None
    """Asked for an address at each new connection; ``host`` is for messages then."""
    authority: str = ""
    """``host[:port]`` as the configuration has it."""

    def url(self, timeout: int = 0) -> str:
        """The URL as errors show it; ``timeout`` in seconds is told to the backend."""
        query = f"?timeout={timeout}s" if timeout else ""
        return f"https://{self.authority}{self.path}{query}"


def target_of(config: Obj) -> Target:
    """:raises ConfigError: neither a URL nor a Service, or something that is no URL."""
    bundle = _bundle(config.get("caBundle"))
    service = config.get("service")
    if service:
        return _service_target(service, bundle)
    url = config.get("url")
    if not url:
        raise ConfigError("webhook configuration must have either service or URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _HTTPS
    except ValueError as error:
        raise ConfigError(f"Unparsable URL: {error}") from error
    return Target(host, port, _path(parts.path), host, bundle, authority=parts.netloc)


def _service_target(service: Obj, bundle: bytes) -> Target:
    name, namespace = service.get("name") or "", service.get("namespace") or ""
    port = service.get("port") or _HTTPS
    host = f"{name}.{namespace}.svc"
    path = _path(service.get("path") or "")
    reference = ServiceReference(namespace, name, port)
    return Target(host, port, path, host, bundle, reference, f"{host}:{port}")


def _path(path: str) -> str:
    """Cleaned as Go's path.Join does, which upstream's client calls: Go's servers answer a path
    with double slashes, such as those of envtest, with a redirect only."""
    return quote(posixpath.normpath("/" + path.lstrip("/")), safe=_SAFE)


def _bundle(encoded: str | None) -> bytes:
    """A bundle of white space counts as none."""
    if not encoded:
        return b""
    try:
        return base64.b64decode("".join(encoded.split()), validate=True).strip()
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"illegal base64 data in caBundle: {error}") from error
