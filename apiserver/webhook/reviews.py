"""Reviews as Go's decoder would take them in: their types are checked, their kind is known; pure.

Shared by admission and conversion, whose answers are decoded strictly enough that a webhook that
answers something else fails instead of being believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apiserver.codec.go_values import base64_text, json_kind
from pilothouse.apiserver.codec.json_syntax import syntax_error
from pilothouse.apiserver.webhook.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPE_META = (
    'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string '
    '"json:\\"kind,omitempty\\"" }'
)
_SCHEME = "pkg/runtime/scheme.go:111"
_PYTHON: Mapping[str, type | tuple[type, ...]] = {
    "bool": bool,
    "string": str,
    "int32": int,
    "[]uint8": str,
    "[]string": list,
    "map[string]string": dict,
}


def decoded(body: bytes) -> dict[str, Any]:
    """A JSON object. :raises CallError: it is none."""
    try:
        value = orjson.loads(body)
    except ValueError:
        # What is no JSON is tried as YAML, where nearly everything is a text.
        value = body.decode("utf-8", "replace")
    if not isinstance(value, dict):
        raise CallError(
            f"couldn't get version/kind; json parse error: json: cannot unmarshal "
            f"{json_kind(value)} into Go value of type {_TYPE_META}",
            500,
        )
    return value


def check_kind(review: dict[str, Any], group: str, kind: str, version: str) -> None:
    """What names no kind is taken for what was asked for. :raises CallError: another kind."""
    found, api_version = review.get("kind") or "", review.get("apiVersion") or ""
    if not found or not api_version:
        return
    for known in ("v1", "v1beta1"):
        if found == kind and api_version == f"{group}/{known}":
            if known == version:
                return
            raise CallError(
                f"converting ({known}.{kind}) to ({version}.{kind}): unknown conversion", 500
            )
    raise CallError(
        f'no kind "{found}" is registered for version "{api_version}" in scheme "{_SCHEME}"', 500
    )


def check_types(
    value: Any, fields: Mapping[str, str], path: str, go_struct: str, go_type: str
) -> None:
    """``fields`` are Go's types by name, of ``value`` at ``path`` (null is always allowed).

    :raises CallError: one has another type.
    """
    if value is None:
        return
    if not isinstance(value, dict):
        outer, _, name = path.rpartition(".")
        shown = f"{outer or go_struct}.{name}"
        raise _wrong_type(value, shown, go_type)
    for name, kind in fields.items():
        found: Any = value.get(name)
        if found is None:
            continue
        if not isinstance(found, _PYTHON[kind]) or (kind != "bool" and isinstance(found, bool)):
            raise _wrong_type(found, f"{go_struct}.{path}.{name}", kind)
        if kind in ("[]string", "map[string]string"):
            content: Any = found
            for item in content.values() if isinstance(content, dict) else content:
                if not isinstance(item, str):
                    raise _wrong_type(item, f"{go_struct}.{path}.{name}", "string")
        if kind == "[]uint8":
            try:
                base64_text(found)
            except ValueError as error:
                raise CallError(str(error), 500) from error


def _wrong_type(value: Any, field: str, go_type: str) -> CallError:
    return CallError(
        f"json: cannot unmarshal {json_kind(value)} into Go struct field {field} of type {go_type}",
        500,
    )


def parse_error(data: bytes) -> str:
    """Go's complaint about what is no JSON."""
    return syntax_error(data) or "invalid JSON"
