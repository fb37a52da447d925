"""Coroutines whose first step runs outside of a task: what can be answered at once needs none."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from pilothouse.componentbase.serving.interfaces import HTTPResponse


async def done(response: HTTPResponse) -> HTTPResponse:
    """An answer that is at hand, for who awaits one."""
    return response


@types.coroutine
def resumed(
    coroutine: Coroutine[Any, Any, HTTPResponse], waits_for: Any
) -> Generator[Any, Any, HTTPResponse]:
    """Goes on with a coroutine whose first step has been run and waits for ``waits_for``."""
    while True:
        try:
            value = yield waits_for
        except BaseException as error:
            try:
                waits_for = coroutine.throw(error)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
        else:
            try:
                waits_for = coroutine.send(value)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
