"""Answers in protobuf, for clients that take nothing else (``negotiation.py`` says when).

An answer is made of the JSON that it would otherwise be. A watch frames each event by its length
in four bytes, the event is a bare WatchEvent and its object a whole envelope (apimachinery
pkg/runtime/serializer/protobuf and pkg/util/framer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from pilothouse.apimachinery import protobuf_wire
from pilothouse.apimachinery.errors import new_not_acceptable
from pilothouse.apimachinery.schema import GroupVersionKind, parse_api_version
from pilothouse.apis.schemas import for_gvk
from pilothouse.apiserver.codec import protobuf
from pilothouse.apiserver.endpoints.negotiation import JSON, YAML

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def sealed(obj: Obj) -> bytes:
    """A whole answer. :raises StatusError: 406, a kind that has no protobuf form."""
    group, version = parse_api_version(obj.get("apiVersion") or "v1")
    gvk = GroupVersionKind(group, version, obj.get("kind") or "")
    schema = for_gvk(gvk)
    if schema is None:
        raise new_not_acceptable((JSON, YAML))
    return protobuf.seal(gvk, protobuf.encode_object(obj, schema))


def watch_frame(event_type: str, body: bytes) -> bytes:
    """One event of a watch; ``body`` is its object's JSON."""
    raw = protobuf_wire.delimited(1, sealed(orjson.loads(body)))
    event = protobuf_wire.delimited(1, event_type.encode()) + protobuf_wire.delimited(2, raw)
    return len(event).to_bytes(4, "big") + event
