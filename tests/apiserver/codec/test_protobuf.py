"""Protobuf against bytes that Go wrote (hack/structure/samples) and against upstream's goldens."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.schema import GroupVersionKind, gvk_of
from pilothouse.apis.schemas import definition, for_gvk
from pilothouse.apiserver.codec.coercion import coerce
from pilothouse.apiserver.codec.protobuf import (
    ProtobufError,
    decode_object,
    encode_object,
    open_envelope,
    seal,
)
from pilothouse.apiserver.codec.zero_values import fill_zero_values

SAMPLES = {
    sample["name"]: sample
    for sample in orjson.loads(
        (Path(__file__).parents[2] / "testdata/protobuf_samples.json").read_bytes()
    )
}


def without_nulls(value: Any) -> Any:
    """Go prints nil slices as null; we leave them out. Nulls in free JSON are kept by both."""
    if isinstance(value, dict):
        return {
            key: item if key in ("data", "disruptedPods") else without_nulls(item)
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def decoded(body: bytes) -> tuple[GroupVersionKind, dict[str, Any]]:
    envelope = open_envelope(body)
    kind: dict[str, Any] = {"kind": envelope.kind, "apiVersion": envelope.api_version}
    gvk = gvk_of(kind)
    schema = for_gvk(gvk)
    assert schema is not None
    obj = coerce(kind | decode_object(envelope.raw, schema), schema)
    fill_zero_values(obj, schema)
    return gvk, obj


@pytest.mark.parametrize("name", SAMPLES)
def test_decodes_what_go_wrote(name: str) -> None:
    _, obj = decoded(base64.b64decode(SAMPLES[name]["protobuf"]))

    assert obj == without_nulls(SAMPLES[name]["json"])


@pytest.mark.parametrize("name", SAMPLES)
def test_encodes_the_bytes_that_go_writes(name: str) -> None:
    body = base64.b64decode(SAMPLES[name]["protobuf"])
    gvk, obj = decoded(body)
    schema = for_gvk(gvk)
    assert schema is not None

    assert seal(gvk, encode_object(obj, schema)) == body


def upstream_goldens() -> list[Path]:
    """Files of the k8s.io/api module when this machine has Go's module cache."""
    try:
        cache = subprocess.run(
            ["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return []
    return sorted(Path(cache).glob("k8s.io/api@v0.37.2/testdata/HEAD/*.pb"))


def test_every_kind_of_upstreams_goldens() -> None:
    goldens = upstream_goldens()
    if not goldens:
        pytest.skip("the k8s.io/api module is not in Go's module cache")
    checked = 0
    for path in goldens:
        want = orjson.loads(path.with_suffix(".json").read_bytes())
        if "apiVersion" not in want or for_gvk(gvk_of(want)) is None:
            continue
        gvk, obj = decoded(path.read_bytes())
        schema = for_gvk(gvk)
        assert schema is not None
        assert obj == without_nulls(want), path.name
        assert seal(gvk, encode_object(obj, schema)) == path.read_bytes(), path.name
        checked += 1
    assert checked > 80


@given(st.binary(max_size=200))
def test_random_messages_never_fail_otherwise(data: bytes) -> None:
    for name in ("io.k8s.api.core.v1.Pod", "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"):
        try:
            decode_object(data, definition(name))
        except ProtobufError:
            pass


@given(st.integers(0, 400), st.integers(0, 255), st.sampled_from(sorted(SAMPLES)))
def test_damaged_messages_never_fail_otherwise(at: int, byte: int, name: str) -> None:
    body = bytearray(base64.b64decode(SAMPLES[name]["protobuf"]))
    body[at % len(body)] = byte
    try:
        decoded(bytes(body))
    except ProtobufError:
        pass
    except (AssertionError, ValueError):
        pass  # the kind itself was damaged
    except Exception as error:
        assert type(error).__name__ == "CoercionError"


def test_unknown_fields_are_skipped() -> None:
    schema = definition("io.k8s.api.core.v1.Binding")
    unknown = b"\xfa\x01\x03abc" + b"\xf8\x01\x05" + b"\xfb\x01\x08\x01\xfc\x01"

    assert decode_object(unknown, schema) == {}


def test_packed_numbers_are_read() -> None:
    schema = definition("io.k8s.api.core.v1.PodSecurityContext")
    packed = bytes((4 << 3 | 2, 3, 1, 0x80, 2))

    assert decode_object(packed, schema) == {"supplementalGroups": [1, 256]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty data"),
        (b"k8s\x00", "empty body"),
        (
            b"{}",
            "provided data does not appear to be a protobuf message, "
            "expected prefix [107 56 115 0]",
        ),
        (b"k8s\x00\x0a\xff", "unexpected EOF"),
    ],
)
def test_bad_envelopes(body: bytes, message: str) -> None:
    with pytest.raises(ProtobufError) as raised:
        open_envelope(body)
    assert str(raised.value) == message
