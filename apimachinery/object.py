"""API objects are plain dicts in wire form (camelCase keys), as JSON decodes them.

Objects that come out of a cache or a client are shared and read-only; call
:func:`copy_object` before changing one. Nothing here knows about a kind.
"""

from __future__ import annotations

from typing import Any, NewType

Obj = dict[str, Any]
UID = NewType("UID", str)
ResourceVersion = NewType("ResourceVersion", str)
"""Opaque outside of ``apiserver.storage``, where the integer behind it is a ``revision``."""


def copy_object(value: Any) -> Any:
    """A deep copy of a JSON value (about four times faster than ``copy.deepcopy``)."""
    if type(value) is dict:
        return {k: copy_object(v) if type(v) in _CONTAINERS else v for k, v in value.items()}
    if type(value) is list:
        return [copy_object(v) if type(v) in _CONTAINERS else v for v in value]
    return value


_CONTAINERS = (dict, list)


def meta(obj: Obj) -> Obj:
    """The object's ``metadata``, or an empty dict that is not attached to it."""
    value = obj.get("metadata")
    return value if isinstance(value, dict) else {}


def name_of(obj: Obj) -> str:
    return meta(obj).get("name") or ""


def namespace_of(obj: Obj) -> str:
    return meta(obj).get("namespace") or ""


def uid_of(obj: Obj) -> str:
    return meta(obj).get("uid") or ""


def object_key(obj: Obj) -> str:
    """``namespace/name``, or ``name`` for a cluster-scoped object (client-go's ObjectName)."""
    metadata = meta(obj)
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata.get('name')}" if namespace else metadata.get("name") or ""


def split_key(key: str) -> tuple[str, str]:
    """The reverse of :func:`object_key`: (namespace or "", name)."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def get_nested(obj: Any, *path: str, default: Any = None) -> Any:
    """The value at ``path``; ``default`` when a step is missing, null or no dict."""
    for step in path:
        if not isinstance(obj, dict):
            return default
        obj = obj.get(step)
    return default if obj is None else obj


def set_nested(obj: Obj, *path: str, value: Any) -> None:
    """Sets ``path`` to ``value``, making dicts on the way."""
    for step in path[:-1]:
        following = obj.get(step)
        if not isinstance(following, dict):
            following = obj[step] = {}
        obj = following
    obj[path[-1]] = value


def controller_of(obj: Obj) -> Obj | None:
    """The owner reference with ``controller: true`` (metav1.GetControllerOf), if any."""
    for reference in meta(obj).get("ownerReferences") or ():
        if reference.get("controller"):
            return reference  # type: ignore[no-any-return]
    return None


def condition_of(obj: Obj, type_: str) -> Obj | None:
    """The ``status.conditions`` entry of that type, if any."""
    for condition in get_nested(obj, "status", "conditions", default=()):
        if condition.get("type") == type_:
            return condition  # type: ignore[no-any-return]
    return None
