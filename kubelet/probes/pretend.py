"""Probes where containers only pretend to run (the fake runtime): every server answers.

Nothing listens behind a fake pod's address, so that its network probes could never succeed. Exec
probes go to the runtime, which can be told what commands answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.probes.prober import HTTPGetter, Outcome, Prober, container_port


class PretendGetter(HTTPGetter):
    """Answers 200 with an empty body; lifecycle hooks use it too."""

    async def get(
        self, scheme: str, host: str, port: int, path: str, headers: Iterable[Obj], timeout: float
    ) -> tuple[int, bytes]:
        return 200, b""


class PretendProber(Prober):
    async def _tcp(self, action: Obj, container: Obj, pod_ip: str, timeout: float) -> Outcome:
        if container_port(container, action.get("port")) is None:
            return False, f"couldn't find port: {action.get('port')}"
        return True, ""

    async def _grpc(self, action: Obj, pod_ip: str, timeout: float) -> Outcome:
        return True, "service healthy"
