"""Files out of ConfigMaps, Secrets and fields (pure): keys, items, modes."""

from __future__ import annotations

import base64
from collections.abc import Callable

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.interfaces import MountError
from pilothouse.kubelet.volumes.atomic_writer import FileContent

DEFAULT_MODE = 0o644
Files = dict[str, FileContent]


def binary_data(obj: Obj) -> dict[str, bytes]:
    """All keys of a ConfigMap or Secret as bytes."""
    if obj.get("kind") == "Secret":
        return {k: base64.b64decode(v) for k, v in (obj.get("data") or {}).items()}
    data = {k: v.encode() for k, v in (obj.get("data") or {}).items()}
    return data | {k: base64.b64decode(v) for k, v in (obj.get("binaryData") or {}).items()}


def object_files(
    data: dict[str, bytes], source: Obj, default_mode: int, *, optional: bool
) -> Files:
    """The chosen items, or all keys. :raises MountError: an item's key is missing."""
    items = source.get("items")
    if not items:
        return {key: FileContent(value, default_mode) for key, value in data.items()}
    files: Files = {}
    for item in items:
        key = item["key"]
        if key not in data:
            if optional:
                continue
            raise MountError(f"references non-existent config key: {key}")
        mode = item.get("mode")
        files[item["path"]] = FileContent(data[key], default_mode if mode is None else mode)
    return files


def downward_files(
    items: list[Obj],
    default_mode: int,
    field: Callable[[str], str],
    resource: Callable[[Obj], str],
) -> Files:
    """``field(path)`` and ``resource(reference)`` give the values."""
    files: Files = {}
    for item in items:
        if item.get("fieldRef"):
            text = field(item["fieldRef"]["fieldPath"])
        else:
            text = resource(item["resourceFieldRef"])
        mode = item.get("mode")
        content = FileContent(text.encode(), default_mode if mode is None else mode)
        files[item["path"]] = content
    return files
