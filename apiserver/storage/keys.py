"""Keys of stored objects: where an object lives under ``/registry``.

Upstream's NamespaceKeyFunc, NoNamespaceKeyFunc and IsPathSegmentName: a name or namespace is one
path segment, so that no request can reach a key outside of its resource.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupResource

REGISTRY = "/registry/"

_OWN_PATHS = {
    "replicationcontrollers": "controllers",
    "endpoints": "services/endpoints",
    "nodes": "minions",
    "services": "services/specs",
    "ingresses.networking.k8s.io": "ingress",
}
"""Upstream's SpecialDefaultResourcePrefixes."""

_WITH_GROUP = frozenset(("apiextensions.k8s.io", "apiregistration.k8s.io"))
"""Built-in groups whose servers store by ``<group>/<resource>`` (SimpleRestOptionsFactory)."""


def resource_prefix(resource: GroupResource, *, built_in: bool = True) -> str:
    """``/registry/<resource>/`` for built-in kinds, ``/registry/<group>/<resource>/`` for
    custom ones and for the API extension groups, as upstream. Ends in "/"."""
    if not built_in or resource.group in _WITH_GROUP:
        return f"{REGISTRY}{resource.group}/{resource.resource}/"
    return f"{REGISTRY}{_OWN_PATHS.get(str(resource), resource.resource)}/"


def path_segment_errors(name: str) -> list[str]:
    """Why ``name`` cannot be a path segment (IsPathSegmentName's messages)."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{part}'" for part in ("/", "%") if part in name]


def object_key(prefix: str, namespace: str, name: str) -> str:
    """The key of one object.

    :raises StatusError: 400 with upstream's text when a part is no path segment.
    """
    if not name:
        raise new_bad_request("Name parameter required.")
    _check(name, "Name parameter invalid")
    if not namespace:
        return prefix + name
    _check(namespace, "Namespace parameter invalid")
    return f"{prefix}{namespace}/{name}"


def list_prefix(prefix: str, namespace: str) -> str:
    """The prefix of all objects of a namespace, or of all if ``namespace`` is empty."""
    if not namespace:
        return prefix
    _check(namespace, "Namespace parameter invalid")
    return f"{prefix}{namespace}/"


def _check(segment: str, what: str) -> None:
    errors = path_segment_errors(segment)
    if errors or "\0" in segment:
        quoted = json.dumps(segment, ensure_ascii=False)
        raise new_bad_request(f"{what}: {quoted}: {';'.join(errors) or 'may not contain NUL'}")
