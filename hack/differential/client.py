"""Sends cases to one server and gives their normal answers."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hack.differential.cases import AGENT, Case, Group, resolve
from hack.differential.normal import normal

Answer = dict[str, Any]
_PATIENCE = 30.0
"""Seconds until something that is being made must be there."""


class Connection:
    """One server, one connection; ``headers`` go with every request (credentials)."""

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._where = (host, port, context, headers)
        self.port = port
        self._headers = {"User-Agent": AGENT, "Accept": "application/json", **(headers or {})}
        if context is None:
            self._http = http.client.HTTPConnection(host, port, timeout=30)
        else:
            self._http = http.client.HTTPSConnection(host, port, timeout=30, context=context)

    def another(self) -> Connection:
        """To the same server, for another thread."""
        return Connection(*self._where)

    def run_all(self, groups: list[Group]) -> dict[str, dict[str, Answer]]:
        """All groups' answers; those that wait for watches to end meanwhile, in a thread."""
        slow = [group for group in groups if group.name in ("reading", "lists")]
        with ThreadPoolExecutor(1) as pool:
            aside = pool.submit(self.another()._run_each, slow)
            answers = self._run_each([group for group in groups if group not in slow])
            return answers | aside.result()

    def _run_each(self, groups: list[Group]) -> dict[str, dict[str, Answer]]:
        return {group.name: self.run(group) for group in groups}

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case; warnings joined by a newline) and body."""
        sent = self._headers | (headers or {})
        data: bytes | None = None
        if body is not None:
            data = body.encode() if isinstance(body, str) else _compact(body)
            sent.setdefault("Content-Type", "application/json")
        self._http.request(method, path, data, sent)
        answer = self._http.getresponse()
        found: dict[str, str] = {}
        for key, value in answer.getheaders():
            key = key.lower()
            found[key] = f"{found[key]}\n{value}" if key in found else value
        return answer.status, found, answer.read()

    def run(self, group: Group) -> dict[str, Answer]:
        """Every case's normal answer, by its name."""
        objects: dict[str, Any] = {}
        answers: dict[str, Answer] = {}
        for case in group.cases:
            answer, raw = self._one(case, objects)
            objects[case.name] = raw
            if case.look:
                answers[case.name] = answer
        return answers

    def _one(self, case: Case, objects: dict[str, Any]) -> tuple[Answer, Any]:
        path = resolve(case.path, objects)
        body = resolve(case.body, objects)
        try:
            status, headers, data = self.call(case.method, path, body, case.headers)
            deadline = time.monotonic() + _PATIENCE
            while case.until not in (0, status) and time.monotonic() < deadline:
                time.sleep(0.05)
                status, headers, data = self.call(case.method, path, body, case.headers)
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            return {"failed": repr(error)}, None
        raw = _parsed(data, lines=_is_watch(path))
        answer: Answer = {"status": status}
        if "warning" in headers:
            answer["warnings"] = headers["warning"].splitlines()
        form = headers.get("content-type", "")
        if form != "application/json":
            answer["type"] = form
        for name in case.show:
            answer[name] = _layout(data) if name == "layout" else headers.get(name, "")
        answer["body"] = normal(raw) if raw is not None else normal(data.decode(errors="replace"))
        return answer, raw


def _parsed(data: bytes, *, lines: bool) -> Any:
    """An answer's JSON, or one for each line of a watch; None: it is something else."""
    try:
        return json.loads(data)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in data.splitlines()] if lines else None
    except ValueError:
        return None


def _layout(data: bytes) -> str:
    """How JSON is written: the beginning of its second line, and what it ends with."""
    second = data.partition(b"\n")[2]
    ending = "newline" if data.endswith(b"\n") else ""
    return f"{len(second) - len(second.lstrip())} {ending}".strip()


def _compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _is_watch(path: str) -> bool:
    return "watch=" in path or "/watch/" in path


def wait_for_services(connection: Connection) -> None:
    """kube-apiserver makes its service network's objects after it says that it is ready."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        _, _, data = connection.call("GET", "/apis/networking.k8s.io/v1/servicecidrs/kubernetes")
        conditions = (json.loads(data).get("status") or {}).get("conditions") or []
        if any(item["type"] == "Ready" for item in conditions):
            return
        time.sleep(0.1)
