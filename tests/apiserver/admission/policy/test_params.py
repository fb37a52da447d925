"""Params of bindings, as upstream's CollectParams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apiserver.admission.policy.params import ConfigurationError, collect

NAMESPACED = GroupVersionKind("", "v1", "ConfigMap")
CLUSTER = GroupVersionKind("example.com", "v1", "Limit")


class Store:
    def __init__(self, namespaced: bool, *objects: Obj) -> None:
        self.namespaced = namespaced
        self.objects = objects

    async def get(self, namespace: str, name: str) -> Obj | None:
        for obj in await self.list(namespace):
            if obj["metadata"]["name"] == name:
                return obj
        return None

    async def list(self, namespace: str) -> Iterable[Obj]:
        return [o for o in self.objects if (o["metadata"].get("namespace") or "") == namespace]


def param(name: str, namespace: str = "", **labels: str) -> Obj:
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}}


class Stores:
    def params_of(self, kind: GroupVersionKind) -> Store | None:
        return {
            NAMESPACED: Store(
                True, param("a", "ns", x="1"), param("b", "ns", x="1"), param("a", "other")
            ),
            CLUSTER: Store(False, param("c", x="1")),
        }.get(kind)


def reference(**more: Any) -> Obj:
    return {"parameterNotFoundAction": "Deny", **more}


async def found(kind: GroupVersionKind | None, ref: Obj | None, namespace: str = "ns") -> Any:
    params = await collect(kind, ref, namespace, Stores())
    return [p and f"{p['metadata'].get('namespace')}/{p['metadata']['name']}" for p in params]


async def test_without_a_kind_or_a_reference_there_is_one_null_param() -> None:
    assert await found(None, reference(name="a")) == [None]
    assert await found(NAMESPACED, None) == [None]


@pytest.mark.parametrize(
    ("kind", "ref", "namespace", "expected"),
    [
        (NAMESPACED, {"name": "a"}, "ns", ["ns/a"]),
        (NAMESPACED, {"name": "a", "namespace": "other"}, "ns", ["other/a"]),
        (NAMESPACED, {"name": "a", "namespace": "other"}, "", ["other/a"]),
        (NAMESPACED, {"selector": {}}, "ns", ["ns/a", "ns/b"]),
        (NAMESPACED, {"selector": {"matchLabels": {"x": "1"}}}, "ns", ["ns/a", "ns/b"]),
        (CLUSTER, {"name": "c"}, "ns", ["/c"]),
        (CLUSTER, {"name": "c"}, "", ["/c"]),
        (CLUSTER, {"selector": {"matchLabels": {"x": "1"}}}, "ns", ["/c"]),
    ],
)
async def test_found(kind: GroupVersionKind, ref: Obj, namespace: str, expected: Any) -> None:
    assert await found(kind, reference(**ref), namespace) == expected


@pytest.mark.parametrize(
    ("kind", "ref", "namespace", "message"),
    [
        (NAMESPACED, {"name": "a"}, "", "cannot use namespaced paramRef in policy binding"),
        (CLUSTER, {"name": "c", "namespace": "x"}, "ns", "paramRef.namespace must not be"),
        (NAMESPACED, {"name": "z"}, "ns", "no params found for policy binding with `Deny`"),
        (NAMESPACED, {"selector": {"matchLabels": {"x": "2"}}}, "ns", "no params found"),
        (NAMESPACED, {"name": "a", "selector": {}}, "ns", "mutually exclusive"),
        (NAMESPACED, {}, "ns", "one of name or selector must be provided"),
        (
            GroupVersionKind("example.com", "v1", "Gone"),
            {"name": "a"},
            "ns",
            "failed to find resource referenced by paramKind: 'example.com/v1, Kind=Gone'",
        ),
    ],
)
async def test_refused(kind: GroupVersionKind, ref: Obj, namespace: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await found(kind, reference(**ref), namespace)
    assert message in str(refused.value)


async def test_nothing_found_may_be_allowed() -> None:
    assert await found(NAMESPACED, {"name": "z", "parameterNotFoundAction": "Allow"}) == []
