"""Whatever comes in, the answer is never a 5xx and the server lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.componentbase.serving.interfaces import HTTPRequest

FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
RESOURCES = [
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/services",
    "/api/v1/namespaces/default/secrets",
    "/api/v1/namespaces/default/events",
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/apps/v1/namespaces/default/replicasets",
    "/apis/events.k8s.io/v1/namespaces/default/events",
    "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
    "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
    "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
]
SUBRESOURCES = [
    "",
    "/status",
    "/scale",
    "/binding",
    "/eviction",
    "/token",
    "/log",
    "/exec",
    "/proxy/x",
    "/finalize",
    "/resize",
    "/ephemeralcontainers",
    "/nope",
]
PATCHES = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
]
TYPES = [
    *PATCHES,
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "",
    "x/y",
]
KEYS = st.sampled_from(
    "metadata spec status data name namespace labels annotations finalizers ownerReferences "
    "managedFields uid resourceVersion generation deletionTimestamp containers image ports env "
    "resources requests limits selector matchLabels template replicas type clusterIP targetPort "
    "volumes nodeName strategy rollingUpdate maxSurge conditions involvedObject subjects roleRef "
    "$patch $retainKeys op path value from x".split()
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        [
            "a",
            "1",
            "10%",
            "100m",
            "1e400",
            "-1",
            "add",
            "replace",
            "/metadata/labels",
            "2020-01-01T00:00:00Z",
            "delete",
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
OBJECTS = st.builds(
    lambda metadata, rest: {"metadata": {"name": "a", **metadata}, **rest},
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.dictionaries(KEYS, VALUES, max_size=4),
)
POD_SPEC = {
    "nodeName": "a",
    "containers": [
        {
            "name": "x",
            "image": "i",
            "ports": [{"containerPort": 80}],
            "env": [{"name": "x", "value": "1"}],
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}},
        }
    ],
    "volumes": [{"name": "x", "emptyDir": {}}],
}
TEMPLATE = {"metadata": {"labels": {"x": "a"}}, "spec": {**POD_SPEC, "nodeName": ""}}
WORKLOAD = {"spec": {"selector": {"matchLabels": {"x": "a"}}, "template": TEMPLATE}}
REFERENCE = {"kind": "Pod", "namespace": "default", "name": "a"}
BASES: dict[str, Any] = {
    "pods": {"spec": POD_SPEC},
    "services": {"spec": {"ports": [{"port": 80}], "selector": {"x": "a"}}},
    "deployments": WORKLOAD,
    "replicasets": WORKLOAD,
    "rolebindings": {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}],
    },
    "poddisruptionbudgets": {"spec": {"minAvailable": 1, "selector": {"matchLabels": {"x": "a"}}}},
    "horizontalpodautoscalers": {
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a"}}
    },
    "events": {"involvedObject": REFERENCE, "reason": "x"},
}


def base(resource: str) -> bytes:
    """A valid object called ``a``."""
    kind = resource.rpartition("/")[2]
    obj = dict(BASES.get(kind, {}))
    if resource.startswith("/apis/events"):
        obj = {
            "regarding": REFERENCE,
            "reason": "x",
            "action": "x",
            "type": "Normal",
            "reportingController": "x/y",
            "reportingInstance": "x",
            "eventTime": "2026-01-01T00:00:00.000000Z",
        }
    return orjson.dumps({"metadata": {"name": "a"}, **obj})


QUERIES = st.lists(
    st.tuples(
        st.sampled_from(
            "limit continue resourceVersion resourceVersionMatch labelSelector fieldSelector "
            "timeoutSeconds dryRun fieldManager fieldValidation force pretty includeObject "
            "gracePeriodSeconds propagationPolicy orphanDependents container tailLines sinceTime "
            "allowWatchBookmarks sendInitialEvents export command".split()
        ),
        st.one_of(
            st.text(max_size=6),
            st.sampled_from(
                [
                    "true",
                    "0",
                    "1",
                    "-1",
                    "9" * 30,
                    "a=b",
                    "a in (b",
                    "All",
                    "Strict",
                    "metadata.name=a",
                    "spec.nodeName!=x",
                    "Exact",
                ]
            ),
        ),
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(loop: asyncio.AbstractEventLoop) -> Iterator[APIServer]:
    options: dict[str, Any] = {"authorization_mode": ("AlwaysAllow",)}
    context = running_server(**options)
    running = loop.run_until_complete(context.__aenter__())
    yield running
    loop.run_until_complete(context.__aexit__(None, None, None))


async def ask(server: APIServer, request: HTTPRequest) -> int:
    async with asyncio.timeout(20):
        response = await server.edge.handle(request)
        if response.push is not None:
            return response.status
        if response.chunks is not None:
            async for _ in response.chunks:
                pass
        elif response.status >= 400 and response.content_type == "application/json":
            assert orjson.loads(response.body)["status"] == "Failure"
    return response.status


def check(
    loop: asyncio.AbstractEventLoop,
    server: APIServer,
    method: str,
    target: str,
    body: bytes = b"",
    content_type: str = "application/json",
    accept: str = "",
) -> int:
    headers = {"content-type": content_type, "accept": accept, "user-agent": "fuzz"}
    request = HTTPRequest(method, target.encode("latin-1", "replace"), headers, body)
    status = loop.run_until_complete(ask(server, request))
    assert status < 500 or status in (503, 504), (method, target, body[:500])
    return status


def query_string(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)


@FUZZ
@given(resource=st.sampled_from(RESOURCES), obj=OBJECTS, queries=QUERIES)
def test_objects(
    loop: asyncio.AbstractEventLoop, server: APIServer, resource: str, obj: Any, queries: Any
) -> None:
    body = orjson.dumps(obj, default=str) if _fits(obj) else b'{"x":' + b"9" * 40 + b"}"
    check(loop, server, "POST", f"{resource}?{query_string(queries)}", body)
    check(loop, server, "PUT", f"{resource}/a?{query_string(queries)}", body)


@FUZZ
@given(
    resource=st.sampled_from(RESOURCES),
    path=st.lists(st.integers(0, 7), min_size=1, max_size=8),
    value=VALUES,
)
def test_valid_objects_with_one_thing_wrong(
    loop: asyncio.AbstractEventLoop, server: APIServer, resource: str, path: list[int], value: Any
) -> None:
    obj = orjson.loads(base(resource))
    at: Any = obj
    for step in path:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = keys[step % len(keys)]
        if step is path[-1] or not isinstance(at[key], dict | list):
            at[key] = value
            break
        at = at[key]
    if _fits(obj):
        body = orjson.dumps(obj)
        check(loop, server, "POST", f"{resource}?dryRun=All", body)
        check(loop, server, "POST", resource, base(resource))
        check(loop, server, "PUT", f"{resource}/a", body)


def _fits(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@FUZZ
@given(
    resource=st.sampled_from(RESOURCES),
    sub=st.sampled_from(["", "", "", *SUBRESOURCES]),
    patch=st.one_of(OBJECTS, VALUES, st.lists(st.dictionaries(KEYS, VALUES), max_size=3)),
    kind=st.sampled_from(PATCHES),
)
def test_patches(
    loop: asyncio.AbstractEventLoop,
    server: APIServer,
    resource: str,
    sub: str,
    patch: Any,
    kind: str,
) -> None:
    name = "default" if resource.endswith("/namespaces") else "a"
    check(loop, server, "POST", resource, base(resource))
    body = orjson.dumps(patch) if _fits(patch) else b"{}"
    check(loop, server, "PATCH", f"{resource}/{name}{sub}?fieldManager=f", body, kind)


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "FOO"]),
    resource=st.sampled_from(
        [*RESOURCES, "/api", "/apis/apps", "/healthz", "/openapi/v3", "/openapi/v2", ""]
    ),
    name=st.one_of(st.text(max_size=10), st.sampled_from(["", "..", "a/b", "%2e%2e", "a" * 300])),
    sub=st.sampled_from(["", "", "", *SUBRESOURCES]),
    queries=QUERIES,
    accept=st.one_of(
        st.sampled_from(["", "*/*", "application/json;as=Table;v=v1;g=meta.k8s.io"]),
        st.text(max_size=20),
    ),
)
def test_paths_and_queries(
    loop: asyncio.AbstractEventLoop,
    server: APIServer,
    method: str,
    resource: str,
    name: str,
    sub: str,
    queries: Any,
    accept: str,
) -> None:
    path = f"{resource}/{quote(name, safe='%./')}{sub}" if name else f"{resource}{sub}"
    check(loop, server, method, f"{path}?{query_string(queries)}", accept=accept)


@FUZZ
@given(
    resource=st.sampled_from(RESOURCES),
    body=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda b: b"k8s\x00" + b)),
    content_type=st.sampled_from(TYPES),
)
def test_raw_bodies(
    loop: asyncio.AbstractEventLoop,
    server: APIServer,
    resource: str,
    body: bytes,
    content_type: str,
) -> None:
    for method, target in (
        ("POST", resource),
        ("PUT", f"{resource}/a"),
        ("DELETE", f"{resource}/zz"),
        ("PATCH", f"{resource}/a?fieldManager=f"),
    ):
        check(loop, server, method, target, body, content_type)


@FUZZ
@given(target=st.binary(max_size=40))
def test_raw_targets(loop: asyncio.AbstractEventLoop, server: APIServer, target: bytes) -> None:
    request = HTTPRequest("GET", b"/api/" + target, {})
    assert loop.run_until_complete(ask(server, request)) < 500


def test_the_server_still_works(loop: asyncio.AbstractEventLoop, server: APIServer) -> None:
    assert check(loop, server, "GET", "/api/v1/namespaces/default") == 200
