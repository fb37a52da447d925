"""What the audit log says of requests over HTTP and in process."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.testing import running_server

CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
PATH = "/api/v1/namespaces/default/configmaps"
POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: None
  users: ["system:apiserver"]
- level: Metadata
  resources: [{resources: [secrets]}]
- level: RequestResponse
  resources: [{resources: [configmaps, pods]}]
- level: Metadata
"""
TOKENS = 'good,alice,u1,"system:masters"\nplain,bob,u2\n'


class Log:
    def __init__(self, path: Path) -> None:
        self.path = path

    def events(self, **wanted: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [e for e in lines if all(e[k] == v for k, v in wanted.items())]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "policy").write_text(POLICY)
    (tmp_path / "tokens").write_text(TOKENS)
    return {
        "audit_policy_file": str(tmp_path / "policy"),
        "audit_log_path": str(tmp_path / "audit.log"),
        "token_auth_file": str(tmp_path / "tokens"),
        "serve": True,
    }


def session(url: str, token: str = "good", **headers: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}", **headers})


async def test_a_write(settings: dict[str, Any]) -> None:
    log = Log(Path(settings["audit_log_path"]))
    async with running_server(**settings) as server, session(server.url) as http:
        body = {"metadata": {"name": "a"}, "data": {"k": "v"}}
        headers = {"Audit-Id": "mine", "User-Agent": "me/1", "X-Forwarded-For": "10.1.1.1"}
        async with http.post(f"{PATH}?fieldManager=m", json=body, headers=headers) as response:
            assert response.status == 201
    received, complete = log.events(auditID="mine")
    assert list(received) == [
        "kind", "apiVersion", "level", "auditID", "stage", "requestURI", "verb", "user",
        "sourceIPs", "userAgent", "objectRef", "requestReceivedTimestamp", "stageTimestamp",
    ]  # fmt: skip
    assert received["stage"] == "RequestReceived" and complete["stage"] == "ResponseComplete"
    assert complete["requestURI"] == f"{PATH}?fieldManager=m"
    assert complete["user"] == {
        "username": "alice",
        "uid": "u1",
        "groups": ["system:masters", "system:authenticated"],
    }
    assert complete["sourceIPs"] == ["10.1.1.1", "127.0.0.1"]
    assert complete["userAgent"] == "me/1"
    assert complete["objectRef"] == {
        "resource": "configmaps",
        "namespace": "default",
        "name": "a",
        "apiVersion": "v1",
    }
    assert complete["responseStatus"] == {"metadata": {}, "code": 201}
    assert complete["requestObject"]["data"] == {"k": "v"}
    assert complete["responseObject"]["metadata"]["uid"]
    assert "managedFields" not in complete["responseObject"]["metadata"]
    assert complete["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert complete["annotations"]["authorization.k8s.io/reason"] == ""


async def test_refusals(settings: dict[str, Any]) -> None:
    log = Log(Path(settings["audit_log_path"]))
    async with running_server(**settings) as server:
        async with session(server.url, "plain") as http:
            await http.get(f"{PATH}/x", headers={"Audit-Id": "forbidden"})
        async with session(server.url, "rubbish") as http:
            await http.get(f"{PATH}/x", headers={"Audit-Id": "nobody"})
        async with session(server.url) as http:
            await http.get(PATH, headers={"Audit-Id": "eve", "Impersonate-User": "eve"})
            impersonate = {"Impersonate-User": "eve", "Impersonate-Group": "system:masters"}
            await http.get(f"{PATH}/x", headers={"Audit-Id": "missing", **impersonate})
            patch = {"Content-Type": "application/merge-patch+json", "Audit-Id": "patch"}
            await http.patch(f"{PATH}/x", data=b'{"data": {"a": "b"}}', headers=patch)
    forbidden = log.events(auditID="forbidden", stage="ResponseComplete")[0]
    assert forbidden["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert forbidden["responseStatus"]["reason"] == "Forbidden"
    assert forbidden["responseStatus"]["code"] == 403
    (nobody,) = log.events(auditID="nobody")
    assert nobody["stage"] == "ResponseStarted" and nobody["responseStatus"]["code"] == 401
    assert nobody["responseStatus"]["message"] == "Unauthorized"
    missing = log.events(auditID="missing", stage="ResponseComplete")[0]
    assert missing["user"]["username"] == "alice"
    assert missing["impersonatedUser"]["username"] == "eve"
    assert "authenticationMetadata" not in missing, "privileged groups need the old verb"
    metadata = log.events(auditID="eve", stage="ResponseComplete")[0]["authenticationMetadata"]
    assert metadata == {"impersonationConstraint": "impersonate:user-info"}
    assert missing["responseObject"]["reason"] == "NotFound"
    patch_event = log.events(auditID="patch", stage="ResponseComplete")[0]
    assert patch_event["requestObject"] == {"data": {"a": "b"}}


async def test_events_are_lines(settings: dict[str, Any]) -> None:
    log = Log(Path(settings["audit_log_path"]))
    async with running_server(**settings) as server, session(server.url) as http:
        await http.get(f"{PATH}?pretty=true", headers={"Audit-Id": "pretty"})
    (event,) = log.events(auditID="pretty", stage="ResponseComplete")
    assert event["responseObject"]["kind"] == "ConfigMapList"


async def test_bodies_that_are_not_taken_in(settings: dict[str, Any]) -> None:
    log = Log(Path(settings["audit_log_path"]))
    async with running_server(**settings) as server:
        body, proxy = bytes(4 << 20), "/api/v1/namespaces/default/services/x/proxy/y"
        asked = (("big", PATH, "good", 413), ("nobody", proxy, "no", 401),
                 ("bob", proxy, "plain", 403))  # fmt: skip
        for name, path, token, _ in asked:
            async with session(server.url, token) as http:
                try:
                    await http.post(path, data=io.BytesIO(body), headers={"Audit-Id": name})
                except aiohttp.ClientError:
                    pass  # it was still sending
    for name, _, _, code in asked:
        last = log.events(auditID=name)[-1]
        assert last["responseStatus"]["code"] == code, name
        assert last["user"].get("username") in {"big": "alice", "bob": "bob"}.get(name, ()) or (
            name == "nobody" and last["user"] == {}
        )


async def test_streams_end_with_their_last_byte(settings: dict[str, Any]) -> None:
    log = Log(Path(settings["audit_log_path"]))
    async with running_server(**settings) as server, session(server.url) as http:
        client = server.local_client()
        for i in range(150):
            await client.create(CONFIG_MAPS, {"metadata": {"name": f"c{i}"}}, "default")
        async with http.get(PATH, headers={"Audit-Id": "list"}) as response:
            await response.read()
        listed = log.events(auditID="list", stage="ResponseComplete")[0]
        assert len(listed["responseObject"]["items"]) >= 150
        watch = await http.get(f"{PATH}?watch=1", headers={"Audit-Id": "watch"})
        await watch.content.readline()
        stages = [e["stage"] for e in log.events(auditID="watch")]
        assert stages == ["RequestReceived", "ResponseStarted"]
        assert log.events(auditID="watch")[1]["responseStatus"]["code"] == 200
        watch.close()
    last = log.events(auditID="watch")[-1]
    assert last["stage"] == "ResponseComplete" and "responseObject" not in last


async def test_callers_of_this_process_are_recorded_too(settings: dict[str, Any]) -> None:
    from pilothouse.apiserver.request.context import UserInfo

    log = Log(Path(settings["audit_log_path"]))
    async with running_server(**settings) as server:
        user = UserInfo("controller", ("system:masters",))
        client = server.local_client(user)
        await client.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "default")
        await client.list(CONFIG_MAPS, "default")
        await client.delete(CONFIG_MAPS, "a", "default")
    events = [e for e in log.events(stage="ResponseComplete") if e["user"]["username"] != "alice"]
    assert [(e["verb"], e["requestURI"], e["responseStatus"]["code"]) for e in events] == [
        ("create", PATH, 201),
        ("list", PATH, 200),
        ("delete", f"{PATH}/a", 200),
    ]
    assert events[0]["requestObject"]["metadata"]["name"] == "a"


async def test_strict_blocking_refuses_what_cannot_be_recorded(settings: dict[str, Any]) -> None:
    settings["audit_log_mode"] = "blocking-strict"
    settings["audit_log_path"] = "/dev/full"
    async with running_server(**settings, namespaces=()) as server, session(server.url) as http:
        async with http.get(PATH) as response:
            answer = await response.json()
        assert response.status == 500
        assert answer["message"] == "Internal error occurred: failed to store audit event"


async def test_off_costs_nothing() -> None:
    """Not a frame: the chain has no audit filter in it."""
    from pilothouse.apiserver.filters.audit import with_audit

    async with running_server() as server:
        handler = server.api.handle
        assert with_audit(server.server, handler) is handler
