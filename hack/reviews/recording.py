"""Sends the cases to one server; gives each one's reviews and audit events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hack.bench import targets
from hack.differential.client import Connection
from hack.differential.normal import normal
from hack.reviews.cases import AGENT, Case, cases, preparing
from pilothouse.apiserver.webhook.testing import WebhookServer, allowed

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [
        {"level": "None", "userGroups": ["system:nodes"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
        {
            "level": "Request",
            "resources": [{"group": "coordination.k8s.io"}],
        },
        {
            "level": "RequestResponse",
            "omitManagedFields": True,
            "resources": [{"group": "apps"}],
        },
        {"level": "RequestResponse"},
    ],
}


USER = "kubernetes-admin"


class Hooks:
    """The webhook on an event loop of its own."""

    def __init__(self) -> None:
        self.reviews: list[dict[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hooks")

    def __enter__(self) -> Hooks:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._server.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        self._server = WebhookServer()
        for kind in ("mutating", "validating"):
            self._server.on(f"/{kind}", lambda review, kind=kind: self._answer(kind, review))
        await self._server.__aenter__()

    def _answer(self, kind: str, review: dict[str, Any]) -> Any:
        request = review["request"]
        if request.get("userInfo", {}).get("username") == USER:
            self.reviews.append({"hook": kind, **request})
        if kind == "mutating" and request.get("name") == "mutated":
            patch = [{"op": "add", "path": "/metadata/labels", "value": {"mutated": "yes"}}]
            encoded = base64.b64encode(json.dumps(patch).encode()).decode()
            return allowed(
                patchType="JSONPatch", patch=encoded, auditAnnotations={"why": "because"}
            )
        return allowed()

    def configurations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        rule = {
            "apiGroups": ["*"],
            "apiVersions": ["*"],
            "operations": ["*"],
            "resources": ["*/*"],
        }
        for kind in ("Mutating", "Validating"):
            hook = {
                "name": f"{kind.lower()}.example.com",
                "clientConfig": self._server.client_config(f"/{kind.lower()}"),
                "rules": [rule],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "failurePolicy": "Ignore",
            }
            name = f"{kind}WebhookConfiguration"
            yield (
                f"/apis/admissionregistration.k8s.io/v1/{name.lower()}s",
                {
                    "apiVersion": "admissionregistration.k8s.io/v1",
                    "kind": name,
                    "metadata": {"name": "reviews"},
                    "webhooks": [hook],
                },
            )


@contextlib.contextmanager
def server(which: str, folder: Path) -> Iterator[tuple[Connection, Path]]:
    """A connection and the audit log's file."""
    policy, log = folder / "policy.json", folder / "audit.log"
    policy.write_text(json.dumps(POLICY))
    flags = ("--audit-policy-file", str(policy), "--audit-log-path", str(log))
    target = targets.pilothouse_apiserver("memory", *flags, "--resource-metrics=false") if (
        which == "ours"
    ) else _reference(flags)  # fmt: skip
    try:
        pki = Path(target.ca).parent
        context = ssl.create_default_context(cafile=target.ca)
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        anonymous = ssl.create_default_context(cafile=target.ca)
        connection = Connection(target.host, target.port, context)
        connection.anonymous = Connection(target.host, target.port, anonymous)  # type: ignore[attr-defined]
        yield connection, log
    finally:
        target.close()


def _reference(flags: tuple[str, ...]) -> targets.Target:
    real = targets.server_flags

    def with_flags(pki: Any, port: int) -> list[str]:
        return [*real(pki, port), *flags]

    targets.server_flags = with_flags
    try:
        return targets.reference()
    finally:
        targets.server_flags = real


def record(which: str) -> dict[str, Any]:
    """By case: ``status``, ``reviews``, ``events``."""
    with tempfile.TemporaryDirectory() as folder, Hooks() as hooks:
        with server(which, Path(folder)) as (connection, log):
            for case in preparing():
                _send(connection, case)
            for path, body in hooks.configurations():
                connection.call("POST", path, body)
            _until_asked(connection, hooks)
            answers: dict[str, Any] = {}
            for case in cases():
                hooks.reviews.clear()
                status = _send(connection, case)
                reviews = _reviews(hooks.reviews)
                answers[case.name] = {"status": status, "reviews": reviews}
            time.sleep(0.3)
        events = _events(log)
        for name, answer in answers.items():
            answer["events"] = events.get(name, [])
        return answers


def _until_asked(connection: Connection, hooks: Hooks) -> None:
    """Upstream learns of configurations by a watch."""
    deadline = time.monotonic() + 20
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}}
    path = "/api/v1/namespaces/reviewed/configmaps?dryRun=All"
    while len({one["hook"] for one in hooks.reviews}) < 2 and time.monotonic() < deadline:
        connection.call("POST", path, body)
        time.sleep(0.05)


def _send(connection: Connection, case: Case) -> int:
    headers = {"Audit-ID": case.name, "User-Agent": AGENT, **case.headers}
    if "Authorization" in headers:
        connection = connection.anonymous  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while True:
        try:
            status, _, _ = connection.call(case.method, case.path, case.body, headers)
        except (OSError, ssl.SSLError):
            connection._http.close()
            status = 0
        if case.until in (0, status) or time.monotonic() > deadline:
            return status
        time.sleep(0.05)


def _reviews(requests: list[dict[str, Any]]) -> list[Any]:
    """Upstream asks anew with every attempt, as often as its cache was behind: of deletes the
    first one counts, of writes the last."""
    found: dict[tuple[str, ...], Any] = {}
    for request in requests:
        shown = normal(request)
        shown["uid"] = "UID"
        if str(shown.get("name", "")).startswith("gen-"):
            shown["name"] = "gen-RANDOM"
        key = (shown["hook"], shown["operation"])
        if key not in found or shown["operation"] != "DELETE":
            found[key] = shown
    return list(found.values())


def _events(log: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for line in log.read_text().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            event = {"auditID": "broken", "line": line}
        shown = normal(event)
        for key in ("requestReceivedTimestamp", "stageTimestamp", "sourceIPs"):
            shown[key] = "PRESENT" if event.get(key) else "ABSENT"
        annotations = shown.get("annotations") or {}
        for key in [key for key in annotations if key.startswith("apiserver.latency")]:
            del annotations[key]  # of requests that took long
        if "User" not in annotations.get("authorization.k8s.io/reason", "User"):
            # Of several bindings that allow it, whichever comes first.
            annotations["authorization.k8s.io/reason"] = "RBAC"
        found.setdefault(event["auditID"], []).append(shown)
    return found
