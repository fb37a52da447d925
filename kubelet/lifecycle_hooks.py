"""postStart and preStop: exec in the container, an HTTP GET, or a sleep."""

from __future__ import annotations

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.interfaces import HookError
from pilothouse.kubelet.probes.prober import HTTPGetter, find_port
from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.runtime.interfaces import RuntimeService

HOOK_HTTP_SECONDS = 30.0


class HookRunner:
    """Implements ``interfaces.Hooks``."""

    def __init__(self, runtime: RuntimeService, http: HTTPGetter, clock: Clock) -> None:
        self._runtime = runtime
        self._http = http
        self._clock = clock

    async def run(self, pod: Obj, container_id: str, handler: Obj, pod_ip: str) -> None:
        if handler.get("exec"):
            await self._exec(container_id, list(handler["exec"].get("command") or ()))
        elif handler.get("httpGet"):
            await self._http_get(pod, handler["httpGet"], pod_ip)
        elif handler.get("sleep"):
            await self._clock.sleep(float(handler["sleep"].get("seconds") or 0))

    async def _exec(self, container_id: str, command: list[str]) -> None:
        try:
            out, err, code = await self._runtime.exec_sync(container_id, command, 0)
        except RuntimeFailure as error:
            raise HookError(str(error)) from error
        if code:
            text = (err or out).decode(errors="replace").strip()
            raise HookError(f"command '{' '.join(command)}' exited with {code}: {text}")

    async def _http_get(self, pod: Obj, action: Obj, pod_ip: str) -> None:
        host = action.get("host") or pod_ip
        port = find_port(pod, action.get("port"))
        if port is None:
            raise HookError(f"couldn't find port: {action.get('port')}")
        try:
            status, body = await self._http.get(
                action.get("scheme") or "HTTP", host, port, action.get("path") or "/",
                action.get("httpHeaders") or (), HOOK_HTTP_SECONDS,
            )  # fmt: skip
        except OSError as error:
            raise HookError(str(error)) from error
        if status >= 400:
            raise HookError(f"HTTP status {status}: {body[:200]!r}")
