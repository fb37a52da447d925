"""RequestInfo: what a path and method ask for (apiserver pkg/endpoints/request).

The first step of the handler chain: everything after it (authorization, dispatch, admission)
reads the verb, resource, namespace and name from here and never looks at the path again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus, unquote_to_bytes

from pilothouse.apimachinery.errors import new_bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPECIAL_VERBS = frozenset({"proxy", "watch"})
NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
VERBS_WITH_SELECTORS = frozenset({"list", "watch", "deletecollection"})
_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
NO_QUERY: dict[str, list[str]] = {}


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """``verb`` is Kubernetes' (get, list, watch, create, update, patch, delete,
    deletecollection) for resources and the lower-case method for other paths."""

    is_resource_request: bool
    path: str
    verb: str
    api_prefix: str = ""
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()
    """Segments from the resource on: resource, name, subresource, rest of the path."""
    label_selector: str = ""
    field_selector: str = ""


def parse_target(target: bytes) -> tuple[str, str]:
    """An HTTP request target as (decoded path, raw query).

    :raises StatusError: 400 for a malformed escape, as Go's HTTP server answers.
    """
    raw, _, query = target.partition(b"?")
    if raw[:7].lower() in (b"http://", b"https:/"):
        rest = raw.split(b"//", 1)[-1]
        raw = b"/" + rest.partition(b"/")[2]
    if b"%" in raw:
        _check_escapes(raw)
        raw = unquote_to_bytes(raw)
    path = raw.decode("utf-8", "replace")
    if "\x00" in path:
        raise new_bad_request("the request path contains a NUL byte")
    return path, query.decode("latin-1")


def _check_escapes(raw: bytes) -> None:
    for piece in raw.split(b"%")[1:]:
        try:
            int(piece[:2], 16)
        except ValueError:
            piece = b""
        if len(piece) < 2 or piece[:1] in b"+- ":
            raise new_bad_request("the request path contains an invalid URL escape")


def parse_query(raw: str) -> dict[str, list[str]]:
    """Query values by name, decoded. Pairs with a wrong escape or a semicolon are left out, as
    Go's url.Values leaves them out."""
    if not raw:
        return {}
    query: dict[str, list[str]] = {}
    for pair in raw.split("&"):
        if not pair or ";" in pair or ("%" in pair and _BAD_ESCAPE.search(pair)):
            continue
        name, _, value = pair.partition("=")
        if "%" in name or "+" in name:
            name = unquote_plus(name)
        if "%" in value or "+" in value:
            value = unquote_plus(value)
        values = query.get(name)
        if values is None:
            query[name] = [value]
        else:
            values.append(value)
    return query


def parse_request_info(
    method: str, path: str, query: Mapping[str, Sequence[str]] = NO_QUERY
) -> RequestInfo:
    """Upstream's RequestInfoFactory: prefixes ``api`` and ``apis``, ``api`` without a group.

    :raises StatusError: 400 when a ``watch``/``proxy`` path names nothing.
    """
    parts = path.strip("/").split("/")
    prefix = parts[0]
    if len(parts) < 3 or prefix not in ("api", "apis"):
        return RequestInfo(False, path, method.lower())
    group = ""
    if prefix == "apis":
        if len(parts) < 4:
            return RequestInfo(False, path, method.lower())
        group = parts[1]
        version, rest = parts[2], parts[3:]
    else:
        version, rest = parts[1], parts[2:]
    verb, via_path = _VERBS.get(method, ""), False
    if rest[0] in SPECIAL_VERBS:
        if len(rest) < 2:
            raise new_bad_request(f"unable to determine kind and namespace from url, {path}")
        verb, rest, via_path = rest[0], rest[1:], True
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 and verb != "proxy" else ""
    labels = fields = ""
    if not name:
        verb, name = _collection_verb(verb, query)
    if query and not via_path and verb in VERBS_WITH_SELECTORS:
        labels = _first(query, "labelSelector")
        fields = _first(query, "fieldSelector")
    return RequestInfo(
        True,
        path,
        verb,
        prefix,
        group,
        version,
        namespace,
        rest[0],
        subresource,
        name,
        tuple(rest),
        labels,
        fields,
    )


def _first(query: Mapping[str, Sequence[str]], name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def _collection_verb(verb: str, query: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The verb of a request without a name, and the name that a field selector gives it."""
    if verb == "delete":
        return "deletecollection", ""
    if verb != "get":
        return verb, ""
    watch = query.get("watch")
    verb = "watch" if watch and watch[0].lower() not in ("false", "0") else "list"
    selector = _first(query, "fieldSelector")
    return verb, _selected_name(selector) if "metadata.name" in selector else ""


def _selected_name(selector: str) -> str:
    from pilothouse.apimachinery.fields import parse_field_selector

    try:
        name = parse_field_selector(selector).requires_exact("metadata.name")
    except ValueError:
        return ""
    return "" if name is None or path_segment_errors(name) else name


def path_segment_errors(name: str) -> list[str]:
    """Why ``name`` can't be one segment of a path (content.IsPathSegmentName)."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{c}'" for c in ("/", "%") if c in name]
