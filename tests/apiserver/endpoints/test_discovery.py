"""Discovery documents against upstream's release and the shapes that clients read."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apis.resource import Resource
from pilothouse.apis.resources import BUILT_IN
from pilothouse.apiserver.endpoints.discovery import (
    AGGREGATED_TYPE,
    Discovery,
    kube_version_key,
    wants_aggregated,
)

ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@dataclass
class Served:
    resource: Resource


@dataclass
class Registry:
    served: list[Served] = field(default_factory=lambda: [Served(row) for row in BUILT_IN])
    generation: int = 1

    def all(self) -> list[Served]:
        return self.served


def custom(version: str, group: str = "example.com") -> Served:
    row = Resource(group, version, "widgets", "Widget", "widget", True, custom=True)
    return Served(row)


def get(path: str, discovery: Discovery | None = None, **headers: str) -> dict[str, Any]:
    answer = (discovery or Discovery(Registry())).respond(path, headers)
    content: dict[str, Any] = json.loads(answer.body)
    return content


def upstream() -> Path:
    try:
        cache = subprocess.run(
            ["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no go")
    folder = Path(cache) / "k8s.io/kubernetes@v1.37.2/api/discovery"
    if not folder.exists():
        pytest.skip("kubernetes v1.37.2 is not in Go's module cache")
    return folder


def test_resource_lists_match_upstreams_release() -> None:
    folder = upstream()
    for group, version in sorted({(row.group, row.version) for row in BUILT_IN}):
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        name = path.strip("/").replace("/", "__") + ".json"
        assert get(path) == json.loads((folder / name).read_bytes()), path


def test_aggregated_document_matches_upstreams_release() -> None:
    want = json.loads((upstream() / "aggregated_v2.json").read_bytes())["items"]
    served = {(row.group, row.version) for row in BUILT_IN}
    for item in want:
        name = item["metadata"]["name"]
        item["versions"] = [v for v in item["versions"] if (name, v["version"]) in served]

    got = get("/apis", accept=ACCEPT)["items"]

    assert got == [item for item in want if item["versions"]]


def test_groups_stand_in_upstreams_order() -> None:
    names = [group["name"] for group in get("/apis")["groups"]]

    assert names[:4] == ["apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io"]
    autoscaling = get("/apis/autoscaling")
    assert autoscaling["preferredVersion"] == {"groupVersion": "autoscaling/v2", "version": "v2"}


def test_api_versions_tell_the_servers_address() -> None:
    discovery = Discovery(Registry(), server_address="127.0.0.1:6443")

    assert get("/api", discovery) == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}
        ],
    }


def test_aggregated_answers_carry_their_type_and_an_etag() -> None:
    discovery = Discovery(Registry())
    first = discovery.respond("/api", {"accept": ACCEPT})
    headers = dict(first.headers)
    assert first.content_type == AGGREGATED_TYPE
    assert (headers["Vary"], headers["Cache-Control"]) == ("Accept", "public")

    again = discovery.respond("/api", {"accept": ACCEPT, "if-none-match": headers["ETag"]})

    assert (again.status, again.body, again.content_type) == (304, b"", AGGREGATED_TYPE)


def test_documents_follow_the_registry() -> None:
    registry = Registry()
    discovery = Discovery(registry)
    first = discovery.respond("/apis", {"accept": ACCEPT})
    assert discovery.respond("/apis", {"accept": ACCEPT}).body is first.body
    registry.served = [*registry.served, custom("v1beta1"), custom("v1")]
    registry.generation += 1

    items = get("/apis", discovery, accept=ACCEPT)["items"]

    assert items[-1]["metadata"]["name"] == "example.com"
    assert [version["version"] for version in items[-1]["versions"]] == ["v1", "v1beta1"]
    kind = {"group": "example.com", "version": "v1", "kind": "Widget"}
    assert items[-1]["versions"][0]["resources"][0]["responseKind"] == kind


@pytest.mark.parametrize("path", ["/apis/nope", "/apis/apps/v2", "/api/v2", "/apis/apps/v1/x/y"])
def test_unknown_paths_are_404(path: str) -> None:
    with pytest.raises(StatusError) as raised:
        get(path)
    assert raised.value.code == 404


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("application/json", False),
        ("*/*", False),
        (ACCEPT, True),
        (ACCEPT.replace("v=v2", "v=v2beta1"), False),
        ("application/json, " + ACCEPT, False),
        (
            "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io;profile=nopeer",
            True,
        ),
        ("application/vnd.kubernetes.protobuf;as=X, " + ACCEPT, True),
    ],
)
def test_accept(accept: str, wanted: bool) -> None:
    assert wants_aggregated(accept) is wanted


def test_versions_sort_as_kubernetes_does() -> None:
    names = ["foo1", "v1alpha1", "v1", "v10beta3", "v2", "v1beta2", "v11alpha2", "v1beta10"]

    assert sorted(names, key=kube_version_key) == [
        "v2", "v1", "v10beta3", "v1beta10", "v1beta2", "v11alpha2", "v1alpha1", "foo1",
    ]  # fmt: skip
