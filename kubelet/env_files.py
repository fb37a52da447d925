"""Environment variables out of files: ``fileKeyRef`` names a file in an emptyDir of the pod.

The format is a small part of a shell's (pkg/kubelet/util/env): ``NAME='value'``, where a value may
span lines and a comment may follow; nothing is expanded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.interfaces import ContainerConfigError, MountedVolume

_BLANK = " \t"
_FORMAT = "invalid environment variable format"


def value_from_file(reference: Obj, mounted: Mapping[str, MountedVolume]) -> str | None:
    """The value; None for an optional one that isn't there.

    :raises ContainerConfigError: with upstream's text.
    """
    volume = mounted.get(reference.get("volumeName") or "")
    if volume is None:
        name = reference.get("volumeName") or ""
        raise ContainerConfigError(f'cannot find the volume "{name}" referenced by FileKeyRef')
    if not volume.host_path:
        return None  # of containers that only pretend: there are no files
    path, key = reference.get("path") or "", reference.get("key") or ""
    try:
        value = parse(_read(volume.host_path, path), key)
    except (OSError, ValueError) as error:
        raise ContainerConfigError("couldn't parse env file") from error
    if not value and not reference.get("optional"):
        full = os.path.join(volume.host_path, path)
        raise ContainerConfigError(f'environment variable key "{key}" not found in file "{full}"')
    return value or None


def _read(root: str, path: str) -> str:
    """The pod's containers wrote the file: its links must not lead out of the volume."""
    from pilothouse.kubelet.runtime.shim.users import open_in_root

    with os.fdopen(open_in_root(root, path), encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def parse(text: str, key: str) -> str:
    """The value of ``key``, '' without one. :raises ValueError: a line before it is malformed."""
    lines = enumerate((line.removesuffix("\r") for line in text.split("\n")), 1)
    for number, line in lines:
        line = line.lstrip(_BLANK)
        if not line or line.startswith("#"):
            continue
        name, equals, rest = line.partition("=")
        if not equals:
            raise ValueError(f"{_FORMAT} at line {number}: missing '='")
        if not name.strip(_BLANK):
            raise ValueError(f"{_FORMAT} at line {number}: empty variable name")
        if name != name.rstrip(_BLANK):
            raise ValueError(f"{_FORMAT} at line {number}: whitespace before '=' is not allowed")
        value = "" if rest.startswith((" ", "\t")) else _quoted(rest, number, lines)
        if name == key:
            return value
    return ""


def _quoted(rest: str, number: int, lines: Iterator[tuple[int, str]]) -> str:
    """The text in single quotes; takes the lines that it spans."""
    if not rest.startswith("'"):
        raise ValueError(f"{_FORMAT} at line {number}: value must be enclosed in single quotes")
    parts, last, rest = [], number, rest[1:]
    while "'" not in rest:
        parts.append(rest)
        following = next(islice(lines, 1), None)
        if following is None:
            raise ValueError(f"{_FORMAT} starting at line {number}: unclosed single quote")
        last, rest = following
    value, _, after = rest.partition("'")
    after = after.lstrip(_BLANK)
    if after and not after.startswith("#"):
        raise ValueError(f"{_FORMAT} at line {last}: unexpected content after closing quote")
    return "\n".join([*parts, value])
