"""Which runtime handler a pod's RuntimeClass asks for, and whether this node has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import RUNTIME_CLASSES
from pilothouse.kubelet.runtime.errors import RuntimeFailure

HandlerCheck = Callable[[Obj], Awaitable[None]]
""":raises RuntimeFailure: no sandbox can be made for the pod, with the reason."""


HANDLERS = ("crun", "runc", "test-handler")
"""What nodes with real containers answer to; all are crun. The last is what the official tests
expect a node to have for them."""


def handler_check(client: Client, known: tuple[str, ...] | None) -> HandlerCheck | None:
    """Accepts pods without a RuntimeClass and those whose class names a handler in ``known``
    (None: any)."""
    if known is None:
        return None

    async def check(pod: Obj) -> None:
        name = pod["spec"].get("runtimeClassName")
        if not name:
            return
        try:
            runtime_class = await client.get(RUNTIME_CLASSES, name)
        except StatusError as error:
            raise RuntimeFailure(f"failed to get sandbox runtime: {error.message}") from error
        handler = runtime_class.get("handler") or ""
        if handler and handler not in known:
            raise RuntimeFailure(
                f'failed to get sandbox runtime: no runtime for "{handler}" is configured'
            )

    return check
