"""resourceVersion of stored objects (apiserver pkg/storage/api_object_versioner.go).

A store's value is the wire JSON of an object without ``metadata.resourceVersion``; the revision
of the write is the resourceVersion. It is spliced into the bytes once, when the object enters
the watch cache, so that no reader has to decode and encode an object to version it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import StatusError, new_unclassified

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

# The head that our encoder and upstream's both write. Strings with an escape do not match, so
# what follows the match is certainly the inside of the top-level metadata object.
_HEAD = re.compile(rb'\{(?:"(?:kind|apiVersion)":"[^"\\]*",){0,2}"metadata":\{').match
_CLOSE = ord("}")
_MARK = b'"resourceVersion"'


def splice(value: bytes, revision: int, *, encoded: bool = False) -> bytes:
    """``value`` with ``metadata.resourceVersion`` set to ``revision``. ``encoded``: it comes from
    :func:`encode`, so it has no version yet.

    :raises ValueError: ``value`` is no JSON object.
    """
    head = _HEAD(value)
    if head is None:
        return _rewrite(value, revision)
    if not encoded and _MARK in value and _has_version(value):
        return _rewrite(value, revision)
    end = head.end()
    comma = b"" if value[end] == _CLOSE else b","
    return b'%b"resourceVersion":"%d"%b%b' % (value[:end], revision, comma, value[end:])


def restamp(data: bytes, old: int, new: int) -> bytes:
    """Spliced ``data`` of revision ``old`` with ``new`` instead (a deleted object's last state)."""
    head = _HEAD(data)
    stamp = b'"resourceVersion":"%d"' % old
    if head is None or not data.startswith(stamp, head.end()):
        return _rewrite(data, new)
    end = head.end()
    return b'%b"resourceVersion":"%d"%b' % (data[:end], new, data[end + len(stamp) :])


def with_revision(obj: Obj, revision: int) -> Obj:
    """``obj`` with that resourceVersion; shares everything but the two outer dicts."""
    metadata = obj.get("metadata")
    inner = metadata if isinstance(metadata, dict) else {}
    return {**obj, "metadata": {**inner, "resourceVersion": str(revision)}}


def encode(obj: Obj) -> bytes:
    """The bytes to store: ``obj`` without its resourceVersion, kind, apiVersion and metadata
    first."""
    metadata = obj.get("metadata")
    if isinstance(metadata, dict) and "resourceVersion" in metadata:
        metadata = {k: v for k, v in metadata.items() if k != "resourceVersion"}
    head: dict[str, Any] = {key: obj[key] for key in ("kind", "apiVersion") if key in obj}
    if metadata is not None:
        head["metadata"] = metadata
    head.update((key, item) for key, item in obj.items() if key not in head)
    return orjson.dumps(head)


def compact(data: bytes) -> bytes:
    """A copy of its true size, to be kept: orjson's results hold 4 KB or more, whatever is in
    them (3.13.0)."""
    return bytes(memoryview(data))


def invalid_version(text: str, error: ValueError) -> StatusError:
    """What a GET or WATCH answers to what ``parse_revision`` refuses"""
    return new_unclassified(f'resourceVersion: Invalid value: "{text}": {error}')


def parse_revision(resource_version: str) -> int:
    """The revision behind a client's resourceVersion; "" is 0.

    :raises ValueError: upstream's text, for a 422 or 400.
    """
    if not resource_version:
        return 0
    if not (resource_version.isascii() and resource_version.isdigit()):
        raise ValueError(f'strconv.ParseUint: parsing "{resource_version}": invalid syntax')
    revision = int(resource_version)
    if revision >= 1 << 64:
        raise ValueError(f'strconv.ParseUint: parsing "{resource_version}": value out of range')
    return revision


def _has_version(value: bytes) -> bool:
    """Whether the mark is really metadata's (an Event's involvedObject has one too)."""
    return "resourceVersion" in _decode(value).get("metadata", ())


def _rewrite(value: bytes, revision: int) -> bytes:
    obj = _decode(value)
    if not isinstance(obj.get("metadata"), dict | None):
        raise ValueError("metadata of a stored object is no JSON object")
    return compact(orjson.dumps(with_revision(obj, revision)))


def _decode(value: bytes) -> Obj:
    obj = orjson.loads(value)
    if not isinstance(obj, dict):
        raise ValueError("a stored value is no JSON object")
    return obj
