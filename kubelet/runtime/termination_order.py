"""In which order containers of a pod end (terminationOrdering).

Sidecars serve the others: they end when all main containers have, the one that started last first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pilothouse.apimachinery.object import Obj


class TerminationOrder:
    def __init__(self, spec: Obj, running: Iterable[str]) -> None:
        """``running``: names of the containers that have to end."""
        self._ended = {name: asyncio.Event() for name in running}
        self._before: dict[str, list[str]] = {}
        main = [container["name"] for container in spec.get("containers") or ()]
        later: list[str] = []
        for container in reversed(spec.get("initContainers") or ()):
            if container.get("restartPolicy") == "Always":
                self._before[container["name"]] = main + later
                later = [container["name"]]

    async def turn(self, name: str, seconds: float) -> None:
        """Returns when those before it have ended, at the latest after ``seconds``."""
        waits = [self._ended[other] for other in self._before.get(name, ()) if other in self._ended]
        try:
            async with asyncio.timeout(seconds):
                for event in waits:
                    await event.wait()
        except TimeoutError:
            pass

    def ended(self, name: str) -> None:
        if name in self._ended:
            self._ended[name].set()
