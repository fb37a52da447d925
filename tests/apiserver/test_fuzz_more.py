"""Continue tokens, definitions with rules, answers of webhooks, discovery: never a 5xx of our own,
and a server that was asked nonsense for long is no bigger than before."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.clock import RealClock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.admission.webhook.review import (
    InvalidReview,
    check_answer,
    denial,
    verdict_of,
)
from pilothouse.apiserver.endpoints.responses import error_response
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.testing import running_server
from pilothouse.apiserver.webhook.errors import CallError
from pilothouse.apiserver.webhook.reviews import decoded
from pilothouse.componentbase.serving.interfaces import HTTPRequest

FUZZ = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(loop: asyncio.AbstractEventLoop) -> Iterator[APIServer]:
    options: dict[str, Any] = {"authorization_mode": ("AlwaysAllow",), "clock": RealClock()}
    context = running_server(**options)
    running = loop.run_until_complete(context.__aenter__())
    yield running
    loop.run_until_complete(context.__aexit__(None, None, None))


class Asker:
    def __init__(self, loop: asyncio.AbstractEventLoop, server: APIServer) -> None:
        self._loop = loop
        self._server = server

    def __call__(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        data = body if isinstance(body, bytes) else b"" if body is None else dump(body)
        sent = {"content-type": "application/json", **(headers or {})}
        request = HTTPRequest(method, target.encode("latin-1", "replace"), sent, data)
        return self._loop.run_until_complete(self._ask(request))

    async def _ask(self, request: HTTPRequest) -> tuple[int, bytes]:
        async with asyncio.timeout(20):
            response = await self._server.edge.handle(request)
            body = response.body
            if response.chunks is not None:
                body = b"".join([chunk async for chunk in response.chunks])
        assert response.status < 500, (request.method, request.target, request.body[:600])
        return response.status, body


@pytest.fixture(scope="module")
def ask(loop: asyncio.AbstractEventLoop, server: APIServer) -> Asker:
    made = Asker(loop, server)
    for index in range(30):
        made("POST", CONFIG_MAPS, {"metadata": {"name": f"c{index:02}"}})
    return made


def dump(body: Any) -> bytes:
    return json.dumps(body).encode()  # orjson refuses what a client may well send


def token(fields: Any) -> str:
    return base64.urlsafe_b64encode(dump(fields)).rstrip(b"=").decode()


TOKENS = st.one_of(
    st.text(max_size=30),
    st.binary(max_size=30).map(lambda raw: base64.urlsafe_b64encode(raw).decode()),
    VALUES.map(token),
    st.builds(
        lambda version, revision, start: token({"v": version, "rv": revision, "start": start}),
        st.one_of(st.just("meta.k8s.io/v1"), VALUES),
        st.one_of(st.integers(-2, 200), VALUES),
        st.one_of(
            st.sampled_from(["default/c10", "default/c10\0", "../secrets/a", "default/../x", "/"]),
            st.text(max_size=8),
        ),
    ),
)


@FUZZ
@given(text=TOKENS, limit=st.integers(0, 7), every=st.booleans())
def test_continue_tokens(ask: Asker, text: str, limit: int, every: bool) -> None:
    path = "/api/v1/configmaps" if every else CONFIG_MAPS
    status, body = ask("GET", f"{path}?limit={limit}&continue={quote(text)}")
    if status == 200:
        kinds = {item.get("kind", "ConfigMap") for item in json.loads(body)["items"]}
        assert kinds <= {"ConfigMap"}
        assert all(item["metadata"]["name"][0] in "cek" for item in json.loads(body)["items"])


@FUZZ
@given(position=st.integers(0, 60), letter=st.sampled_from("Aa0_-=/ "))
def test_tokens_of_ours_with_a_letter_changed(ask: Asker, position: int, letter: str) -> None:
    _, body = ask("GET", f"{CONFIG_MAPS}?limit=3")
    text = json.loads(body)["metadata"]["continue"]
    at = position % len(text)
    ask("GET", f"{CONFIG_MAPS}?limit=3&continue={quote(text[:at] + letter + text[at + 1 :])}")


SCHEMA_KEYS = st.sampled_from(
    "type properties items format pattern enum required default nullable minimum maximum "
    "minLength maxItems additionalProperties allOf anyOf not x-kubernetes-validations "
    "x-kubernetes-list-type x-kubernetes-list-map-keys x-kubernetes-int-or-string "
    "x-kubernetes-preserve-unknown-fields x-kubernetes-embedded-resource multipleOf".split()
)
RULES = st.sampled_from(
    [
        "self == oldSelf",
        "self.size() > 0",
        "self.all(x, x.matches('(a+)+$'))",
        "has(self.a) && self.a.b[0] == 1",
        "[1,2,3].map(x, [1,2,3].map(y, x * y)).size() > 0",
        "self.startsWith('",
        "1/0 == 1",
        "duration(self) < duration('1h')",
        "quantity(self).isGreaterThan(quantity('1'))",
        "ip(self).family() == 4",
        "self.metadata.name",
        "",
    ]
)
SCHEMAS = st.recursive(
    st.one_of(
        st.builds(
            lambda name: {"type": name}, st.sampled_from(["string", "integer", "array", "x"])
        ),
        st.builds(
            lambda rule: {"type": "object", "x-kubernetes-validations": [{"rule": rule}]}, RULES
        ),
        st.dictionaries(SCHEMA_KEYS, VALUES, max_size=3),
    ),
    lambda inner: st.one_of(
        st.builds(lambda a, b: {"type": "object", "properties": {"spec": a, "x": b}}, inner, inner),
        st.builds(lambda item: {"type": "array", "items": item}, inner),
        st.builds(lambda a, key, value: {**a, key: value}, inner, SCHEMA_KEYS, VALUES),
    ),
    max_leaves=5,
)


@FUZZ
@given(number=st.integers(0, 10**9), schema=SCHEMAS, obj=VALUES)
def test_definitions_and_their_objects(ask: Asker, number: int, schema: Any, obj: Any) -> None:
    name = f"kind{number}"
    definition = {
        "metadata": {"name": f"{name}s.fuzz.example.com"},
        "spec": {
            "group": "fuzz.example.com",
            "scope": "Namespaced",
            "names": {"plural": f"{name}s", "kind": name.capitalize()},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", **schema}},
                }
            ],
        },
    }
    status, _ = ask("POST", DEFINITIONS, definition)
    if status != 201:
        return
    path = f"/apis/fuzz.example.com/v1/namespaces/default/{name}s"
    rest = obj if isinstance(obj, dict) else {"spec": obj}
    body = rest | {
        "apiVersion": "fuzz.example.com/v1",
        "kind": name.capitalize(),
        "metadata": {"name": "a"},
    }
    ask("POST", path, body)
    ask("PUT", f"{path}/a", body)
    patch = {"content-type": "application/merge-patch+json"}
    ask("PATCH", f"{path}/a", {"spec": obj}, patch)
    apply = {"content-type": "application/apply-patch+yaml"}
    ask("PATCH", f"{path}/a?fieldManager=f&force=true", body, apply)
    ask("DELETE", f"{DEFINITIONS}/{name}s.fuzz.example.com")


ANSWERS = st.one_of(
    st.binary(max_size=40),
    VALUES.map(dump),
    st.builds(
        lambda response, kind: dump(
            {"apiVersion": "admission.k8s.io/v1", "kind": kind, "response": response}
        ),
        st.dictionaries(
            st.sampled_from(
                "uid allowed patch patchType status warnings auditAnnotations x".split()
            ),
            st.one_of(
                VALUES,
                st.just("u"),
                st.just("JSONPatch"),
                st.dictionaries(
                    st.sampled_from("code reason message details status".split()), VALUES
                ),
            ),
            max_size=5,
        ),
        st.sampled_from(["AdmissionReview", "", "Pod"]),
    ),
)


@settings(max_examples=200, deadline=None)
@given(answer=ANSWERS, mutating=st.booleans())
@example(answer=b'{"response":{"uid":"u","status":{"code":1099511627776}}}', mutating=False)
@example(answer=b'{"response":{"uid":"u","status":{"code":1000}}}', mutating=True)
def test_answers_of_webhooks(answer: bytes, mutating: bool) -> None:
    try:
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"} | decoded(answer)
        check_answer(review, "v1")
        verdict = verdict_of(review, "v1", "u", mutating=mutating)
    except (CallError, InvalidReview):
        return
    if not verdict.allowed:
        refused = denial("w.example.com", verdict.result)
        assert isinstance(refused, StatusError)
        assert 400 <= refused.code <= 999
        assert orjson.loads(error_response(refused).body)["status"] == "Failure"


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"]
PATHS = [
    *("/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version", "/healthz"),
    *("/readyz/ping", "/livez?verbose", "/metrics/slis", "/openapi/v3", "/openapi/v3/api/v1"),
    *("/openapi/v3/version", "/.well-known/openid-configuration", "/openid/v1/jwks", "/nope"),
]
ACCEPT = st.one_of(
    st.sampled_from(
        [
            *("", "*/*", "application/json", "application/yaml", "text/html", ";", ",", "a/b;q=x"),
            "application/vnd.kubernetes.protobuf",
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            "application/json;as=Table;g=meta.k8s.io;v=v1",
        ]
    ),
    st.text(max_size=20),
)


@FUZZ
@given(
    method=st.sampled_from(METHODS),
    path=st.sampled_from(PATHS),
    accept=ACCEPT,
    timeout=st.one_of(st.none(), st.sampled_from(["1s", "-1s", "abc", "0"]), st.text(max_size=5)),
)
def test_paths_that_are_no_resources(
    ask: Asker, method: str, path: str, accept: str, timeout: str | None
) -> None:
    query = "" if timeout is None else f"{'&' if '?' in path else '?'}timeout={quote(timeout)}"
    ask(method, f"{path}{query}", headers={"accept": accept, "user-agent": "fuzz"})


def resident() -> int:
    """Kilobytes of memory that this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError


def test_nonsense_leaves_no_memory_behind(ask: Asker, record_property: Any) -> None:
    rng = random.Random(7)

    def batch(number: int) -> None:
        for index in range(900):
            key = f"{number}-{index}-{rng.random()}"
            kind = index % 6
            if kind == 0:
                ask("GET", f"{CONFIG_MAPS}/{key}?pretty={key}", headers={"accept": f"a/{key}"})
            elif kind == 1:
                ask("GET", f"/apis/{key}/v1/x", headers={"user-agent": key})
            elif kind == 2:
                ask("POST", CONFIG_MAPS, {"metadata": {"name": key, "x": key}, key: key})
            elif kind == 3:
                ask("GET", f"{CONFIG_MAPS}?labelSelector={key}&fieldSelector=metadata.name%3D{key}")
            elif kind == 4:
                patch = {"content-type": f"application/{key}"}
                ask("PATCH", f"{CONFIG_MAPS}/c01", {"data": {key: key}}, patch)
            else:
                body = {"data": {"a": key}}
                merge = {"content-type": "application/merge-patch+json", "user-agent": key}
                ask("PATCH", f"{CONFIG_MAPS}/c01?fieldManager=f", body, merge)
        ask("DELETE", f"{CONFIG_MAPS}?labelSelector=none%3Dx")

    for number in range(3):  # caches have bounds: let them fill
        batch(number)
    names = [item["metadata"]["name"] for item in json.loads(ask("GET", CONFIG_MAPS)[1])["items"]]
    gc.collect()
    before = resident()
    for number in range(3, 6):
        batch(number)
    for item in json.loads(ask("GET", CONFIG_MAPS)[1])["items"]:
        if item["metadata"]["name"] not in names:
            ask("DELETE", f"{CONFIG_MAPS}/{item['metadata']['name']}")
    gc.collect()
    grown = resident() - before
    record_property("kilobytes grown", grown)
    print(f"2,700 requests: {grown} kB more")
    assert grown < 16_000
