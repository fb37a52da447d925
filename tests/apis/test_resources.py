"""The resource table: uniqueness, storage keys, and that every kind has its type."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apis.resource import ALL_VERBS, Resource
from pilothouse.apis.resources import BUILT_IN
from pilothouse.apis.schemas import definition, for_gvk


def find(group: str, name: str, version: str = "v1") -> Resource:
    return next(r for r in BUILT_IN if (r.group, r.version, r.name) == (group, version, name))


def test_rows_are_unique_and_known_types() -> None:
    assert len({row.gvr for row in BUILT_IN}) == len(BUILT_IN)
    for row in BUILT_IN:
        assert for_gvk(row.gvk) is definition(row.definition), row
        if row.list_kind:
            items = definition(f"{row.definition}List").fields["items"].element
            assert items is not None and items.name == row.definition


@pytest.mark.parametrize(
    ("group", "name", "prefix"),
    [
        ("", "pods", "/registry/pods"),
        ("", "services", "/registry/services/specs"),
        ("", "endpoints", "/registry/services/endpoints"),
        ("", "nodes", "/registry/minions"),
        ("", "replicationcontrollers", "/registry/controllers"),
        ("apps", "deployments", "/registry/deployments"),
        ("networking.k8s.io", "ingresses", "/registry/ingress"),
        ("events.k8s.io", "events", "/registry/events"),
        (
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "/registry/apiextensions.k8s.io/customresourcedefinitions",
        ),
        ("", "bindings", ""),
        ("", "componentstatuses", ""),
    ],
)
def test_storage_prefixes(group: str, name: str, prefix: str) -> None:
    assert find(group, name).storage_prefix == prefix


def test_kinds_that_are_stored_in_another_version_or_group() -> None:
    assert find("autoscaling", "horizontalpodautoscalers").storage_version == "v2"
    assert find("autoscaling", "horizontalpodautoscalers", "v2").storage_version == ""
    assert find("events.k8s.io", "events").storage_group == ""


def test_subresources() -> None:
    pods = {sub.name: sub for sub in find("", "pods").subresources}
    assert set(pods) == set(
        "attach binding ephemeralcontainers eviction exec log portforward proxy resize "
        "status".split()
    )
    eviction = pods["eviction"]
    assert (eviction.kind_group, eviction.kind_version, eviction.kind) == (
        "policy",
        "v1",
        "Eviction",
    )
    assert "deletecollection" not in find("", "namespaces").verbs
    assert find("", "pods").verbs == ALL_VERBS


def test_kinds_of_subresources_have_types() -> None:
    for row in BUILT_IN:
        for sub in row.subresources:
            if sub.kind.endswith("Options"):
                continue
            group = row.group if sub.kind_group is None else sub.kind_group
            version = sub.kind_version or row.version
            assert for_gvk(GroupVersionKind(group, version, sub.kind)) is not None, sub
