"""JSON Patch (RFC 6902) with the habits of evanphx/json-patch v4, which the API server uses.

Negative array indices count from the end, ``replace`` of a missing member adds it, a missing
``value`` is null. Containers are copied when first changed, so a patch costs what it touches.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apimachinery.patch.errors import PatchError

MAX_OPERATIONS = 10_000
MAX_COPY_BYTES = 3 * 1024 * 1024
"""How much all ``copy`` operations of a patch may add."""

_MISSING = "missing value"
_INVALID_INDEX = "invalid index referenced"
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def apply(obj: Any, operations: Any) -> Any:
    """``obj`` after the decoded ``operations``. :raises PatchError: with upstream's text."""
    if operations is None:
        operations = []
    if not isinstance(operations, list):
        raise PatchError(_cannot_decode(operations, "jsonpatch.Patch"), 400)
    for operation in operations:
        if operation is not None and not isinstance(operation, dict):
            raise PatchError(_cannot_decode(operation, "jsonpatch.Operation"), 400)
    if len(operations) > MAX_OPERATIONS:
        raise PatchError(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, "
            f"got {len(operations)}",
            413,
        )
    document = _Document(obj)
    for operation in operations:
        operation = operation or {}
        kind = operation.get("op")
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            shown = kind if isinstance(kind, str) else "unknown"
            raise PatchError(f"Unexpected kind: {shown}", 422)
        try:
            handler(document, operation)
        except _OperationError as error:
            raise PatchError(str(error), 422) from None
    return document.root


class _OperationError(Exception):
    pass


class _Document:
    """The value being patched; knows which containers are its own."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._own: dict[int, Any] = {}
        self.copied = 0

    def owned(self, container: Any) -> Any:
        """``container`` itself if this document made it, else a shallow copy."""
        if id(container) in self._own:
            return container
        copy: Any = dict(container) if isinstance(container, dict) else list(container)
        self._own[id(copy)] = copy
        return copy

    def find(self, path: str) -> tuple[Any, str] | None:
        """The container that holds ``path`` and the last key; nothing is copied."""
        parts = path.split("/")
        if len(parts) < 2:
            return None
        container = self.root
        for part in parts[1:-1]:
            try:
                container = _get(container, _decode(part))
            except _OperationError:
                return None
            if not isinstance(container, (dict, list)):
                return None
        if not isinstance(container, (dict, list)):
            return None
        return container, _decode(parts[-1])

    def change(self, path: str) -> tuple[Any, str]:
        """As :meth:`find` for a path that exists, with every container on the way owned."""
        parts = path.split("/")
        container = self.root = self.owned(self.root)
        for part in parts[1:-1]:
            key: Any = _decode(part)
            if isinstance(container, list):
                key = _index(key, len(container))
            following = self.owned(container[key])
            container[key] = following
            container = following
        return container, _decode(parts[-1])


def _decode(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~") if "~" in token else token


def _integer(key: str) -> int:
    if not _INTEGER.fullmatch(key):
        raise _OperationError(f"strconv.Atoi: parsing {json.dumps(key)}: invalid syntax")
    if len(key) > 20 or not -(1 << 63) <= int(key) < 1 << 63:
        raise _OperationError(f"strconv.Atoi: parsing {json.dumps(key)}: value out of range")
    return int(key)


def _index(key: str, size: int) -> int:
    index = _integer(key)
    if index >= size or index < -size:
        raise _OperationError(f"Unable to access invalid index: {index}: {_INVALID_INDEX}")
    return index + size if index < 0 else index


def _get(container: Any, key: str) -> Any:
    if isinstance(container, dict):
        return container.get(key)
    return container[_index(key, len(container))]


def _path(operation: Obj, failure: str, *, hide: bool = False) -> str:
    return _text(operation, "path", failure, "operation missing path field", hide)


def _from(operation: Obj, failure: str) -> str:
    return _text(operation, "from", failure, "operation, missing from field", False)


def _text(operation: Obj, field: str, failure: str, missing: str, hide: bool) -> str:
    value = operation.get(field)
    if isinstance(value, str):
        return value
    if hide:
        why = _MISSING
    elif value is None:
        why = f"{missing}: {_MISSING}"
    else:
        why = f"json: cannot unmarshal {_json_type(value)} into Go value of type string"
    raise _OperationError(f"{failure}: {why}")


def _insert(document: _Document, path: str, value: Any) -> None:
    """RFC 6902's add into the container of ``path``, which exists."""
    container, key = document.change(path)
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        try:
            index = _integer(key)
        except _OperationError as error:
            text = f"value was not a proper array index: '{key}': {error}"
            raise _OperationError(text) from None
        container.insert(_index(str(index), len(container) + 1), value)


def _remove_at(document: _Document, path: str) -> Any:
    container, key = document.change(path)
    if isinstance(container, list):
        return container.pop(_index(key, len(container)))
    if key not in container:
        raise _OperationError(f"Unable to remove nonexistent key: {key}: {_MISSING}")
    return container.pop(key)


def _add(document: _Document, operation: Obj) -> None:
    path = _path(operation, "add operation failed to decode path", hide=True)
    if document.find(path) is None:
        raise _OperationError(
            f'add operation does not apply: doc is missing path: "{path}": {_MISSING}'
        )
    try:
        _insert(document, path, operation.get("value"))
    except _OperationError as error:
        raise _OperationError(f"error in add for path: '{path}': {error}") from None


def _remove(document: _Document, operation: Obj) -> None:
    path = _path(operation, "remove operation failed to decode path", hide=True)
    if document.find(path) is None:
        raise _OperationError(
            f'remove operation does not apply: doc is missing path: "{path}": {_MISSING}'
        )
    try:
        _remove_at(document, path)
    except _OperationError as error:
        raise _OperationError(f"error in remove for path: '{path}': {error}") from None


def _replace(document: _Document, operation: Obj) -> None:
    path = _path(operation, "replace operation failed to decode path")
    value = operation.get("value")
    if path == "":
        if not isinstance(value, (dict, list)):
            raise _OperationError("replace operation value must be object or array: %!w(<nil>)")
        document.root = value
        return
    found = document.find(path)
    if found is None:
        raise _OperationError(
            f"replace operation does not apply: doc is missing path: {path}: {_MISSING}"
        )
    try:
        _get(*found)
    except _OperationError:
        raise _OperationError(
            f"replace operation does not apply: doc is missing key: {path}: {_MISSING}"
        ) from None
    container, key = document.change(path)
    if isinstance(container, dict):
        container[key] = value
    else:
        container[_index(key, len(container))] = value


def _move(document: _Document, operation: Obj) -> None:
    source = _from(operation, "move operation failed to decode from")
    found = document.find(source)
    if found is None:
        raise _OperationError(
            f"move operation does not apply: doc is missing from path: {source}: {_MISSING}"
        )
    try:
        value = _remove_at(document, source)
    except _OperationError as error:
        raise _OperationError(f"error in move for path: '{found[1]}': {error}") from None
    path = _path(operation, "move operation failed to decode path")
    if document.find(path) is None:
        raise _OperationError(
            f"move operation does not apply: doc is missing destination path: {path}: {_MISSING}"
        )
    try:
        _insert(document, path, value)
    except _OperationError as error:
        raise _OperationError(f"error in move for path: '{path}': {error}") from None


def _copy(document: _Document, operation: Obj) -> None:
    source = _from(operation, "copy operation failed to decode from")
    found = document.find(source)
    if found is None:
        raise _OperationError(
            f"copy operation does not apply: doc is missing from path: {source}: {_MISSING}"
        )
    try:
        value = _get(*found)
    except _OperationError as error:
        raise _OperationError(f"error in copy for from: '{source}': {error}") from None
    path = _path(operation, "copy operation failed to decode path", hide=True)
    if document.find(path) is None:
        raise _OperationError(
            f"copy operation does not apply: doc is missing destination path: {path}: {_MISSING}"
        )
    if value is not None:
        document.copied += len(json.dumps(value, separators=(",", ":"), ensure_ascii=False))
    if document.copied > MAX_COPY_BYTES:
        raise _OperationError(
            "Unable to complete the copy, the accumulated size increase of copy is "
            f"{document.copied}, exceeding the limit {MAX_COPY_BYTES}"
        )
    try:
        _insert(document, path, copy_object(value))
    except _OperationError as error:
        raise _OperationError(f"error while adding value during copy: {error}") from None


def _test(document: _Document, operation: Obj) -> None:
    path = _path(operation, "test operation failed to decode path")
    wanted = operation.get("value")
    if path == "":
        actual = document.root
    else:
        found = document.find(path)
        if found is None:
            raise _OperationError(
                f"test operation does not apply: is missing path: {path}: {_MISSING}"
            )
        try:
            actual = _get(*found)
        except _OperationError as error:
            raise _OperationError(f"error in test for path: '{path}': {error}") from None
    if not _equal(actual, wanted):
        raise _OperationError(f"testing value {path} failed: test failed")


_HANDLERS = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _equal(a: Any, b: Any) -> bool:
    """Equality of JSON texts: 1, 1.0 and true all differ."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _cannot_decode(value: Any, go_type: str) -> str:
    return f"json: cannot unmarshal {_json_type(value)} into Go value of type {go_type}"
