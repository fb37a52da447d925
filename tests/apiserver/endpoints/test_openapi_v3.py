"""OpenAPI v3 documents, and a real kubectl that reads them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apis.resource import Resource
from pilothouse.apis.resources import BUILT_IN
from pilothouse.apiserver.endpoints.discovery import Discovery
from pilothouse.apiserver.endpoints.openapi_v2 import OpenAPIV2
from pilothouse.apiserver.endpoints.openapi_v3 import OpenAPIV3
from pilothouse.apiserver.request.context import Response


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

    def add(self, served: Served) -> None:
        self.served = [*self.served, served]
        self.generation += 1


CRON_TAB = Served(
    Resource(
        group="stable.example.com",
        version="v1",
        name="crontabs",
        kind="CronTab",
        singular="crontab",
        namespaced=True,
        custom=True,
    ),
    {
        "type": "object",
        "description": "CronTab runs a command",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "cronSpec": {"type": "string", "description": "when to run"},
                    "replicas": {"type": "integer", "nullable": True},
                },
            }
        },
    },
)


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


def document(openapi: OpenAPIV3, path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(openapi.respond(f"/openapi/v3/{path}", {}).body)
    return content


def test_index_lists_every_group_version_with_a_hash() -> None:
    index = json.loads(OpenAPIV3(Registry()).respond("/openapi/v3", {}).body)

    groups = {row.group for row in BUILT_IN if row.group}
    versions = {(row.group, row.version) for row in BUILT_IN}
    assert len(index["paths"]) == len(versions) + len(groups) + 5
    assert {"api", "apis", "apis/apps", "version", "openid/v1/jwks"} <= set(index["paths"])
    url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    assert url.startswith("/openapi/v3/apis/apps/v1?hash=")


def test_a_right_hash_may_be_cached_forever() -> None:
    openapi = OpenAPIV3(Registry(), clock=FixedClock())
    index = json.loads(openapi.respond("/openapi/v3", {}).body)
    url = urlsplit(index["paths"]["apis/apps/v1"]["serverRelativeURL"])

    answer = openapi.respond(url.path, {}, parse_qs(url.query))

    headers = dict(answer.headers)
    assert headers["Cache-Control"] == "public, immutable"
    assert headers["Expires"] == "Fri, 01 Jan 2027 00:00:00 GMT"
    again = openapi.respond(url.path, {"if-none-match": headers["Etag"]}, parse_qs(url.query))
    assert (again.status, again.body) == (304, b"")


def test_a_wrong_hash_is_sent_to_the_right_one() -> None:
    answer = OpenAPIV3(Registry()).respond("/openapi/v3/api/v1", {}, {"hash": ["0"]})

    assert answer.status == 301
    assert dict(answer.headers)["Location"].startswith("/openapi/v3/api/v1?hash=")


def test_unknown_documents_and_forms() -> None:
    openapi = OpenAPIV3(Registry())
    with pytest.raises(StatusError) as raised:
        openapi.respond("/openapi/v3/apis/nope/v1", {})
    assert raised.value.code == 404
    only_protobuf = {"accept": "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"}
    assert openapi.respond("/openapi/v3/api/v1", only_protobuf).status == 406


def test_every_reference_has_its_definition() -> None:
    openapi = OpenAPIV3(Registry())
    for group, version in {(row.group, row.version) for row in BUILT_IN}:
        body = openapi.respond(
            f"/openapi/v3/apis/{group}/{version}" if group else "/openapi/v3/api/v1", {}
        ).body.decode()
        schemas = json.loads(body)["components"]["schemas"]
        references = {part.split('"')[0] for part in body.split("#/components/schemas/")[1:]}
        assert references <= set(schemas), group


def test_pod_schema() -> None:
    schemas = document(OpenAPIV3(Registry()), "api/v1")["components"]["schemas"]

    pod = schemas["io.k8s.api.core.v1.Pod"]
    assert pod["x-kubernetes-group-version-kind"] == [{"group": "", "kind": "Pod", "version": "v1"}]
    ports = schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"]
    assert ports["x-kubernetes-list-map-keys"] == ["containerPort", "protocol"]
    assert ports["x-kubernetes-patch-merge-key"] == "containerPort"
    port = schemas["io.k8s.api.core.v1.ContainerPort"]
    assert port["properties"]["protocol"]["default"] == "TCP"
    assert port["required"] == ["containerPort"]


def test_patch_offers_field_validation_and_dry_run() -> None:
    paths = document(OpenAPIV3(Registry()), "apis/apps/v1")["paths"]

    patch = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert {p["name"] for p in patch["parameters"]} >= {"fieldValidation", "dryRun", "force"}
    assert patch["x-kubernetes-action"] == "patch"
    assert patch["x-kubernetes-group-version-kind"] == {
        "group": "apps",
        "kind": "Deployment",
        "version": "v1",
    }


def test_custom_resources_bring_their_schema() -> None:
    registry = Registry()
    openapi = OpenAPIV3(registry)
    before = json.loads(openapi.respond("/openapi/v3", {}).body)["paths"]
    registry.add(CRON_TAB)

    after = json.loads(openapi.respond("/openapi/v3", {}).body)["paths"]
    assert set(after) - set(before) == {"apis/stable.example.com/v1"}
    assert all(after[path] == before[path] for path in before)
    schemas = document(openapi, "apis/stable.example.com/v1")["components"]["schemas"]
    cron_tab = schemas["com.example.stable.v1.CronTab"]
    assert list(cron_tab["properties"]) == ["apiVersion", "kind", "metadata", "spec"]
    assert cron_tab["x-kubernetes-group-version-kind"][0]["kind"] == "CronTab"
    assert "com.example.stable.v1.CronTabList" in schemas


def test_only_the_changed_group_version_is_built_again() -> None:
    registry = Registry()
    openapi = OpenAPIV3(registry)
    first = openapi.respond("/openapi/v3/apis/apps/v1", {}).body
    registry.add(CRON_TAB)

    assert openapi.respond("/openapi/v3/apis/apps/v1", {}).body is first


def module_cache() -> Path | None:
    try:
        found = subprocess.run(
            ["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    folder = Path(found) / "k8s.io/kubernetes@v1.37.2/api"
    return folder if folder.exists() else None


def comparable(value: Any, in_properties: bool = False) -> Any:
    """Without texts, enums (upstream's file has none) and allOf around a single reference."""
    if isinstance(value, dict):
        left_out = () if in_properties else ("description", "enum")
        result = {
            key: comparable(item, key == "properties" and not in_properties)
            for key, item in value.items()
            if key not in left_out
        }
        return result["allOf"][0] if list(result) == ["allOf"] else result
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return value


def test_documents_match_upstreams_release() -> None:
    folder = module_cache()
    if folder is None:
        pytest.skip("kubernetes v1.37.2 is not in Go's module cache")
    openapi = OpenAPIV3(Registry())
    for group, version in sorted({(row.group, row.version) for row in BUILT_IN}):
        path = f"apis/{group}/{version}" if group else "api/v1"
        name = path.replace("/", "__") + "_openapi.json"
        want = json.loads((folder / "openapi-spec/v3" / name).read_bytes())
        got = document(openapi, path)
        names = set(want["components"]["schemas"])
        if any("alpha" in each or "beta" in each for each in names):
            names = {each for each in names if each in got["components"]["schemas"]}
        for each in names:
            assert comparable(got["components"]["schemas"][each]) == comparable(
                want["components"]["schemas"][each]
            ), each
        assert set(got["paths"]) == set(want["paths"]), path
        for each in want["paths"]:
            assert_operations(got["paths"][each], want["paths"][each])


def assert_operations(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert set(got) == set(want)
    for method in set(want) - {"parameters"}:
        for key in ("operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind"):
            assert got[method].get(key) == want[method].get(key), want[method]["operationId"]
        assert set(got[method]["responses"]) == set(want[method]["responses"])


@pytest.fixture
def server() -> Iterator[str]:
    """Discovery and OpenAPI over plain HTTP, as a kubectl sees them."""
    registry = Registry()
    registry.add(CRON_TAB)
    discovery, v3, v2 = Discovery(registry), OpenAPIV3(registry), OpenAPIV2(registry)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            headers = {key.lower(): value for key, value in self.headers.items()}
            try:
                if url.path == "/openapi/v2":
                    answer = v2.respond(headers)
                elif url.path.startswith("/openapi/v3"):
                    answer = v3.respond(url.path, headers, parse_qs(url.query))
                else:
                    answer = discovery.respond(url.path, headers)
            except StatusError as error:
                answer = Response(status=error.code, body=json.dumps(error.status).encode())
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            for key, value in answer.headers:
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def kubectl(server: str, home: Path, *arguments: str) -> str:
    beside = Path(sys.executable).with_name("kubectl")
    command = str(beside) if beside.exists() else shutil.which("kubectl")
    if command is None:
        pytest.skip("there is no kubectl")
    result = subprocess.run(
        [command, f"--server={server}", f"--cache-dir={home}", *arguments],
        capture_output=True,
        text=True,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.kubectl
def test_kubectl_explains(server: str, tmp_path: Path) -> None:
    pods = kubectl(server, tmp_path, "explain", "pod.spec.containers")
    assert "KIND:       Pod" in pods
    assert "imagePullPolicy\t<string>" in pods
    assert "ports\t<[]ContainerPort>" in pods
    custom = kubectl(server, tmp_path, "explain", "crontab.spec")
    assert "cronSpec\t<string>" in custom and "when to run" in custom
    v2 = kubectl(server, tmp_path, "explain", "deploy.spec", "--output=plaintext-openapiv2")
    assert "replicas" in v2


@pytest.mark.kubectl
def test_kubectl_lists_api_resources(server: str, tmp_path: Path) -> None:
    lines = kubectl(server, tmp_path, "api-resources", "--no-headers").splitlines()

    assert len(lines) == len({(row.group, row.name) for row in BUILT_IN}) + 1
    deployments = next(line.split() for line in lines if line.startswith("deployments"))
    assert deployments == ["deployments", "deploy", "apps/v1", "true", "Deployment"]
    versions = kubectl(server, tmp_path, "api-versions").split()
    assert "autoscaling/v2" in versions and "stable.example.com/v1" in versions
