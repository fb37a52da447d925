"""For calls of the runtime that must not be cut off half-way; the manager's tool."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uninterrupted(action: Coroutine[Any, Any, T]) -> T:
    """Runs ``action`` to its end also when the caller is cancelled, which is then told so: what
    the runtime has made must be known before anyone goes on to remove it."""
    # The task ends with this frame, which is its owner.
    task = asyncio.get_running_loop().create_task(action)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()
        raise
