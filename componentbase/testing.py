"""Stand-ins for the machine, for tests of every component."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pilothouse.componentbase.process import Completed

Answer = Completed | Exception
Script = Callable[[list[str], bytes], Answer | None]


class FakeExec:
    """Records commands and answers from ``script(command, input)`` (None: success, no output)."""

    def __init__(self, script: Script | None = None) -> None:
        self.commands: list[list[str]] = []
        self.inputs: list[bytes] = []
        self._script = script

    async def run(
        self, command: Sequence[str], *, input: bytes = b"", timeout: float = 30.0
    ) -> Completed:
        self.commands.append(list(command))
        self.inputs.append(input)
        answer = self._script(list(command), input) if self._script else None
        if isinstance(answer, Exception):
            raise answer
        return answer or Completed(0, b"", b"")
