"""What a client that takes only protobuf gets: objects, lists, errors, watches, nothing else."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery import protobuf_wire
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apis.schemas import definition, for_gvk
from pilothouse.apiserver.codec import protobuf
from pilothouse.apiserver.endpoints.protobuf_answers import sealed, watch_frame

META = "io.k8s.apimachinery.pkg.apis.meta.v1."


def opened(body: bytes) -> tuple[str, str, dict[str, object]]:
    envelope = protobuf.open_envelope(body)
    group, _, version = envelope.api_version.rpartition("/")
    from pilothouse.apimachinery.schema import GroupVersionKind

    schema = for_gvk(GroupVersionKind(group, version, envelope.kind))
    assert schema is not None
    return envelope.api_version, envelope.kind, protobuf.decode_object(envelope.raw, schema)


def test_lists_and_statuses_have_their_envelope() -> None:
    items = [{"metadata": {"name": "a"}, "data": {"k": "v"}}, {"metadata": {"name": "b"}}]
    listed = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}
    version, kind, found = opened(sealed(listed | {"items": items}))
    assert (version, kind) == ("v1", "ConfigMapList")
    names = [item["metadata"]["name"] for item in found["items"]]  # type: ignore[attr-defined]
    assert names == ["a", "b"]
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
    _, kind, found = opened(sealed(status))
    assert kind == "Status" and found["code"] == 404


def test_events_are_framed_by_their_length() -> None:
    body = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}'
    framed = watch_frame("ADDED", body)
    assert int.from_bytes(framed[:4], "big") == len(framed) - 4
    fields = {n: value for n, _, value in protobuf_wire.fields(framed[4:])}
    assert fields[1] == b"ADDED"
    assert isinstance(fields[2], bytes)
    ((_, _, raw),) = protobuf_wire.fields(fields[2])
    assert isinstance(raw, bytes) and opened(raw)[1] == "ConfigMap"
    assert definition(META + "WatchEvent").name.endswith("WatchEvent")


def test_kinds_without_messages_are_not_acceptable() -> None:
    with pytest.raises(StatusError) as raised:
        sealed({"kind": "Widget", "apiVersion": "example.com/v1"})
    assert raised.value.code == 406
