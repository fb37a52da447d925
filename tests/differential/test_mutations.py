"""Requests of the differential test with something broken in them: bodies with values of other
types, missing and added fields, odd queries, media types and patches. None is answered by a 5xx
or waited for, and the server does not grow.

The requests are the same in each run; ``FUZZ_SEED`` and ``FUZZ_REQUESTS`` ask for others and more.
"""

from __future__ import annotations

import copy
import json
import os
import time
from random import Random
from typing import Any

import pytest

from hack.differential import cases, servers

SEED = int(os.environ.get("FUZZ_SEED", "1"))
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1500"))
PATIENCE = 10.0

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 1e308, -0.0, 1.5,
    "", "0", "-", "a" * 300, "A_b", "..", "/", "%", "\0", "\U0001f600", "é", "1.2.3.4", "::1",
    "10.0.0.0/8", "1Gi", "1e3", "-1", "100m", "2026-01-01T00:00:00Z", "2026-13-01", "{{", "$(A)",
    "true", "null", "*", "a=b,c", [], {}, [None], [[]], [{}], {"": None}, ["a", "a"],
    {"a": {"b": [1, "x", None]}}, {"matchLabels": {"a": "b"}}, {"f:a": {}}, {"$patch": "delete"},
    [{"$patch": "replace"}], {"$retainKeys": ["a"]},
]  # fmt: skip
QUERIES = (
    "dryRun=All dryRun=x fieldManager= fieldManager=m fieldValidation=Strict fieldValidation=x "
    "force=true pretty=true limit=1 limit=-1 limit=x continue=abc resourceVersion=0 "
    "resourceVersion=1 resourceVersion=x resourceVersion=99999999999999999999 "
    "resourceVersionMatch=Exact resourceVersionMatch=NotOlderThan labelSelector=!a,b!=c "
    "labelSelector=a%20in%20(b, fieldSelector=metadata.name=x fieldSelector=%00 %zz a=%ff "
    "fieldSelector=spec.nodeName!=x,a=b gracePeriodSeconds=-5 gracePeriodSeconds=0 "
    "propagationPolicy=Foreground propagationPolicy=x orphanDependents=true timeoutSeconds=1"
).split()
ACCEPT = (
    "", "*/*;q=0", "text/html", "application/yaml", "application/vnd.kubernetes.protobuf",
    cases.TABLE, cases.PARTIAL,
)  # fmt: skip
BODY_TYPES = (
    "", "text/plain", "application/json", "application/yaml", *cases.PATCHES.values(),
    "application/vnd.kubernetes.protobuf",
)  # fmt: skip
POINTERS = (
    "/metadata/labels/a /metadata/name /metadata /spec /spec/containers/0 /spec/containers/- / "
    "/a~2 /spec/x/9999999999999999999"
).split()
LEFT_OUT = ("/exec", "/attach", "/portforward", "/log", "/proxy", "watch", "resourceVersion=9999")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        found.append((*path, key))
        if isinstance(item, (dict, list)):
            found += places(item, (*path, key))
    return found


def broken(random: Random, value: Any) -> Any:
    """``value`` (a map or a list) with one to six changes."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        found = places(value)
        if not found:
            break
        *parents, key = random.choice(found)
        at = value
        for parent in parents:
            at = at[parent]
        change(random, at, key)
    return value


def change(random: Random, at: Any, key: Any) -> None:
    what = random.random()
    odd = copy.deepcopy(random.choice(VALUES))
    if what < 0.65:
        at[key] = odd
    elif what < 0.75:
        del at[key]
    elif what < 0.85:
        at[key] = [at[key]]
    elif isinstance(at, list):
        at.append(copy.deepcopy(at[key]))
    else:
        at[random.choice(("x", "metadata", "spec", "status", "name", "$patch", ""))] = odd


def json_patch(random: Random) -> list[Any]:
    operations = ("add", "remove", "replace", "test", "move", "copy", "x")
    return [
        {
            "op": random.choice(operations),
            "path": random.choice(POINTERS),
            "from": random.choice(POINTERS),
            "value": random.choice(VALUES),
        }
        for _ in range(random.randint(0, 4))
    ]


def request(random: Random, case: cases.Case) -> tuple[str, str, Any, dict[str, str]] | None:
    """Method, path, body and headers; None: the case is none that can be broken."""
    body = case.body.changes if isinstance(case.body, cases.Base) else case.body
    path, body = cases.resolve(case.path, {}), cases.resolve(body, {})
    if any(word in path for word in LEFT_OUT):
        return None
    method, headers = case.method, dict(case.headers)
    if random.random() < 0.15:
        method = random.choice(("GET", "POST", "PUT", "PATCH", "DELETE"))
    if random.random() < 0.3:
        asked = "&".join(random.choice(QUERIES) for _ in range(random.choice((1, 1, 2, 3))))
        path += f"{'&' if '?' in path else '?'}{asked}"
    if random.random() < 0.1:
        headers["Accept"] = random.choice(ACCEPT)
    if random.random() < 0.1:
        headers["Content-Type"] = random.choice(BODY_TYPES)
    if method == "DELETE":
        body = random.choice((None, {"preconditions": {"uid": random.choice(VALUES)}}, VALUES[-1]))
    elif method == "PATCH" and random.random() < 0.15:
        body, headers["Content-Type"] = json_patch(random), cases.PATCHES["json"]
    elif isinstance(body, (dict, list)):
        body = broken(random, body)
    elif isinstance(body, str) and body:
        at = random.randrange(len(body))
        body = body[:at] + random.choice(("{", "}", '"', "\\", "\t", "- ", "&a ", "*a")) + body[at:]
        body = body if body.isascii() else None
    return method, path, body, headers


@pytest.mark.timeout(120 + REQUESTS // 10)
def test_what_is_broken_is_refused() -> None:
    random = Random(SEED)
    groups = [group for group in cases.groups() if group.name not in ("reading", "lists")]
    failures: list[str] = []
    codes: dict[int, int] = {}
    with servers.ours() as connection:
        for group in groups:  # some objects that can be changed
            for case in group.cases[:4]:
                connection.call(case.method, case.path, cases.resolve(case.body, {}), case.headers)
        while sum(codes.values()) < REQUESTS:
            asked = request(random, random.choice(random.choice(groups).cases))
            if asked is None:
                continue
            begin = time.monotonic()
            status, _, answer = connection.call(*asked)
            codes[status] = codes.get(status, 0) + 1
            if status >= 500 or time.monotonic() - begin > PATIENCE:
                failures.append(f"{json.dumps(asked)}\n    {status} {answer[:500]!r}")
        assert connection.call("GET", "/readyz")[0] == 200
    assert not failures, "\n".join(failures)
    assert {200, 201, 400, 404, 422} <= codes.keys()
