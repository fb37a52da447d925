"""The swagger document: JSON, gnostic's protobuf and how they follow the registry."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from pilothouse.apimachinery import protobuf_wire as wire
from pilothouse.apis.resource import Resource
from pilothouse.apis.resources import BUILT_IN
from pilothouse.apiserver.endpoints.openapi_v2 import PROTOBUF_TYPE, OpenAPIV2

PROTOBUF = {"accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}


@dataclass
class Served:
    resource: Resource
    openapi_schema: dict[str, Any] | None = None


@dataclass
class Registry:
    served: list[Served] = field(default_factory=lambda: [Served(row) for row in BUILT_IN])
    generation: int = 1

    def all(self) -> list[Served]:
        return self.served


def children(data: bytes, number: int) -> list[bytes]:
    return [v for n, _, v in wire.fields(data) if n == number and isinstance(v, bytes)]


def definitions(body: bytes) -> dict[str, bytes]:
    """Name to encoded Schema."""
    named = children(children(body, 9)[0], 1)
    return {children(each, 1)[0].decode(): children(each, 2)[0] for each in named}


def test_json_document() -> None:
    content = json.loads(OpenAPIV2(Registry()).respond({}).body)

    assert content["swagger"] == "2.0"
    port = content["definitions"]["io.k8s.api.core.v1.ContainerPort"]
    assert "default" not in port["properties"]["protocol"]
    operation = content["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"]
    body = {
        "name": "body",
        "in": "body",
        "required": True,
        "schema": {"$ref": "#/definitions/io.k8s.api.core.v1.Pod"},
    }
    assert operation["parameters"][0] == body
    assert operation["responses"]["201"]["schema"] == body["schema"]


def test_protobuf_has_the_same_definitions_and_paths() -> None:
    openapi = OpenAPIV2(Registry())
    content = json.loads(openapi.respond({}).body)

    answer = openapi.respond(PROTOBUF)

    assert answer.content_type == PROTOBUF_TYPE
    assert set(definitions(answer.body)) == set(content["definitions"])
    paths = children(children(answer.body, 8)[0], 2)
    assert {children(each, 1)[0].decode() for each in paths} == set(content["paths"])


def test_protobuf_extensions_are_yaml() -> None:
    pod = definitions(OpenAPIV2(Registry()).respond(PROTOBUF).body)["io.k8s.api.core.v1.Pod"]

    extension = children(pod, 31)[0]
    assert children(extension, 1) == [b"x-kubernetes-group-version-kind"]
    text = children(children(extension, 2)[0], 2)[0]
    assert json.loads(text) == [{"group": "", "kind": "Pod", "version": "v1"}]


def test_custom_resources_are_published_without_what_v2_lacks() -> None:
    registry = Registry()
    openapi = OpenAPIV2(registry)
    first = openapi.respond({})
    row = Resource("example.com", "v1", "foos", "Foo", "foo", True, custom=True)
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "oneOf": [{"required": ["a"]}],
                "properties": {
                    "a": {"type": "string", "nullable": True},
                    "b": {"x-kubernetes-preserve-unknown-fields": True, "type": "object"},
                    "c": {"type": "string", "pattern": "^x$"},
                },
            }
        },
    }
    registry.served = [*registry.served, Served(row, schema)]
    registry.generation += 1

    second = openapi.respond({})

    assert dict(first.headers)["Etag"] != dict(second.headers)["Etag"]
    spec = json.loads(second.body)["definitions"]["com.example.v1.Foo"]["properties"]["spec"]
    assert spec == {
        "type": "object",
        "properties": {
            "a": {},
            "b": {"x-kubernetes-preserve-unknown-fields": True},
            "c": {"type": "string", "pattern": "^x$"},
        },
    }
    assert "com.example.v1.Foo" in definitions(openapi.respond(PROTOBUF).body)


def test_delete_options_are_a_kind_of_every_group_version() -> None:
    content = json.loads(OpenAPIV2(Registry()).respond({}).body)

    name = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
    kinds = content["definitions"][name]["x-kubernetes-group-version-kind"]
    assert {"group": "apps", "kind": "DeleteOptions", "version": "v1"} in kinds


def test_negotiation() -> None:
    openapi = OpenAPIV2(Registry())

    assert openapi.respond({"accept": "text/html"}).status == 406
    etag = dict(openapi.respond({}).headers)["Etag"]
    assert openapi.respond({"if-none-match": etag}).status == 304


@pytest.mark.parametrize("headers", [{}, PROTOBUF])
async def test_others_are_served_while_it_is_made(headers: dict[str, str]) -> None:
    openapi, turns = OpenAPIV2(Registry()), 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.ensure_future(count())
    await openapi.prepare(headers)
    other.cancel()
    assert turns >= len({(row.group, row.version) for row in BUILT_IN})
    prepared = openapi.respond(headers)
    assert prepared.body == OpenAPIV2(Registry()).respond(headers).body
