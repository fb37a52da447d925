"""Image references: ``busybox`` -> ``docker.io/library/busybox:latest``.

The rules of the distribution project: the first path component is a registry when it holds a
dot or a colon or is ``localhost``; Docker Hub is the default; its one-word names are in
``library/``. Parsed once here and then passed on as :class:`Reference`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_HOST = r"[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]"
_DOMAIN = re.compile(
    rf"(?:{_HOST})(?:\.(?:{_HOST}))*(?::[0-9]+)?\Z|\[[a-fA-F0-9:]+\](?::[0-9]+)?\Z"
)
_TAG = re.compile(r"[\w][\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}\Z")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}\Z")
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")


class InvalidReference(ValueError):
    """The text is not an image reference."""


@dataclass(frozen=True, slots=True)
class Reference:
    """``domain/path[:tag][@digest]``, normalised; a tag is there when there is no digest."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def tagged(self) -> str:
        """``repository:tag``, or empty for a reference by digest alone."""
        return f"{self.repository}:{self.tag}" if self.tag else ""

    @property
    def by_digest(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else ""

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest when there is one, else the tag."""
        return self.digest or self.tag

    def with_digest(self, digest: str) -> Reference:
        return Reference(self.domain, self.path, self.tag, digest)

    def __str__(self) -> str:
        text = self.repository
        if self.tag:
            text += f":{self.tag}"
        if self.digest:
            text += f"@{self.digest}"
        return text


@lru_cache(maxsize=1024)
def parse(text: str) -> Reference:
    """:raises InvalidReference: with a message in upstream's words."""
    rest, digest = text, ""
    if "@" in rest:
        rest, digest = rest.split("@", 1)
        if not _DIGEST.match(digest) or (digest.startswith("sha256:") and not is_digest(digest)):
            raise _invalid(text, "invalid digest")
    tag = ""
    if ":" in rest.rsplit("/", 1)[-1]:
        rest, tag = rest.rsplit(":", 1)
        if not _TAG.match(tag):
            raise _invalid(text, "invalid tag")
    domain, path = _split_domain(rest)
    if not _DOMAIN.match(domain):
        raise _invalid(text, "invalid registry")
    if path != path.lower():
        raise InvalidReference(
            f'couldn\'t parse image name "{text}": invalid reference format: '
            "repository name must be lowercase"
        )
    if not _PATH.match(path) or len(path) > 255:
        raise _invalid(text)
    if not tag and not digest:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag, digest)


def _invalid(text: str, detail: str = "") -> InvalidReference:
    tail = f": {detail}" if detail else ""
    return InvalidReference(f'couldn\'t parse image name "{text}": invalid reference format{tail}')


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    explicit = bool(slash) and ("." in first or ":" in first or first == "localhost")
    domain, path = (first, rest) if explicit else (DEFAULT_DOMAIN, name)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return domain, path


def is_digest(text: str) -> bool:
    """True for ``sha256:`` and 64 hex digits."""
    return _SHA256.match(text) is not None


def is_image_id(text: str) -> bool:
    """An image id is the digest of its config, with or without ``sha256:``."""
    return is_digest(text) or _HEX64.match(text) is not None
