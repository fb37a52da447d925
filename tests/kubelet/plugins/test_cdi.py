"""CDI specifications, protobuf messages, paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.protobuf_wire import ProtobufError
from pilothouse.kubelet.plugins.cdi import CDIError, Edits, edits_of
from pilothouse.kubelet.plugins.edited import edited
from pilothouse.kubelet.plugins.node_paths import node_path
from pilothouse.kubelet.plugins.wire import Field, Message, decode, encode
from pilothouse.kubelet.runtime.interfaces import ContainerConfig, Mount
from pilothouse.kubelet.runtime.shim.spec import Machine, Place, build_spec
from pilothouse.kubelet.runtime.shim.users import User

SPEC: dict[str, Any] = {
    "cdiVersion": "0.6.0",
    "kind": "e.com/gpu",
    "containerEdits": {"env": ["COMMON=1"]},
    "devices": [
        {"name": "a", "containerEdits": {"env": ["A=x=y"], "deviceNodes": [
            {"path": "/dev/gpu", "hostPath": "/dev/zero", "permissions": "rw"}]}},
        {"name": "b", "containerEdits": {
            "mounts": [{"hostPath": "/h", "containerPath": "/c", "options": ["ro", "bind"]}],
            "hooks": [{"hookName": "createRuntime", "path": "/bin/true", "args": ["true"]}],
            "additionalGids": [7]}},
    ],
}  # fmt: skip


@pytest.fixture
def directories(tmp_path: Path) -> tuple[str, str]:
    low, high = tmp_path / "etc", tmp_path / "run"
    low.mkdir()
    high.mkdir()
    (low / "gpu.json").write_text(json.dumps(SPEC))
    (low / "broken.yaml").write_text("{")
    (high / "other.yaml").write_text(
        "kind: e.com/other\ndevices:\n- {name: z, containerEdits: {env: [Z=1]}}\n"
    )
    return str(low), str(high)


def test_devices_change_containers(directories: tuple[str, str]) -> None:
    edits = edits_of(["e.com/gpu=a", "e.com/gpu=b", "e.com/other=z", "e.com/gpu=a"], directories)
    assert edits.envs == [("COMMON", "1"), ("A", "x=y"), ("Z", "1")]
    assert edits.mounts == [Mount("/h", "/c", readonly=True)]
    assert edits.hooks == {"createRuntime": [{"path": "/bin/true", "args": ["true"]}]}
    (device,) = edits.devices
    assert {k: device[k] for k in ("path", "type", "major", "minor", "access")} == {
        "path": "/dev/gpu", "type": "c", "major": 1, "minor": 5, "access": "rw",
    }  # fmt: skip
    config = edited(ContainerConfig("c", 0, "i", envs=(("E", "1"),)), edits)
    assert config.envs == (("E", "1"), ("COMMON", "1"), ("A", "x=y"), ("Z", "1"))
    assert config.security.supplemental_groups == (7,)


def test_the_later_directory_wins(directories: tuple[str, str]) -> None:
    Path(directories[1], "gpu.json").write_text(
        json.dumps({**SPEC, "containerEdits": {}, "devices": [
            {"name": "a", "containerEdits": {"env": ["A=new"]}}]})
    )  # fmt: skip
    assert edits_of(["e.com/gpu=a"], directories).envs == [("A", "new")]


def test_devices_that_nobody_knows(directories: tuple[str, str]) -> None:
    with pytest.raises(CDIError, match=r"unresolvable CDI devices e.com/gpu=c, x=y"):
        edits_of(["e.com/gpu=c", "e.com/gpu=a", "x=y"], directories)
    assert edits_of([], directories) == Edits()


def test_nodes_and_hooks_reach_the_runtime(directories: tuple[str, str]) -> None:
    from dataclasses import asdict

    edits = edits_of(["e.com/gpu=a", "e.com/gpu=b"], directories)
    config = asdict(edited(ContainerConfig("c", 0, "i", command=("x",)), edits))
    spec = build_spec(config, {}, Place("/r", "/g", "h"), User(0, 0, [], "/"), Machine())
    (node,) = spec["linux"]["devices"]
    assert node["path"] == "/dev/gpu"
    assert "access" not in node
    rule = {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rw"}
    assert rule in spec["linux"]["resources"]["devices"]
    assert list(spec["hooks"]) == ["createRuntime"]


INNER: Message = {1: Field("text"), 2: Field("number", "int"), 3: Field("flag", "bool")}
OUTER: Message = {
    1: Field("many", INNER, many=True),
    2: Field("by", INNER, by_name=True),
    3: Field("words", many=True),
    4: Field("one", INNER),
}
_inner = st.fixed_dictionaries(
    {"text": st.text(), "number": st.integers(-(2**63), 2**63 - 1), "flag": st.booleans()}
)


@given(
    st.fixed_dictionaries(
        {
            "many": st.lists(_inner),
            "by": st.dictionaries(st.text(), _inner),
            "words": st.lists(st.text()),
            "one": _inner,
        }
    )
)
def test_messages_survive(obj: dict[str, Any]) -> None:
    assert decode(OUTER, encode(OUTER, obj)) == obj


@given(st.binary(max_size=40))
def test_anything_is_a_message_or_malformed(data: bytes) -> None:
    try:
        decode(OUTER, data)
    except ProtobufError:
        pass


def test_where_plugins_meet_their_node() -> None:
    assert node_path("/var/lib/kubelet/plugins/d/dra.sock", "/n/1/") == "/n/1/plugins/d/dra.sock"
    assert node_path("/var/lib/kubelet/plugins_registry", "/n") == "/n/plugins_registry"
    for path in ("/var/lib/kubelet/pods", "/var/lib/kubelet/pluginsx", "/tmp"):
        assert node_path(path, "/n") == path
