"""The span that the running request belongs to, for whoever makes spans of parts of it.

No tracing library is needed for this module: without --tracing-config-file the variable is
never set, and asking costs a look at it.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CURRENT: ContextVar[Any] = ContextVar("pilothouse_trace", default=None)
"""A ``tracing.ActiveSpan`` or None."""


def trace_headers() -> dict[str, str]:
    """Headers that let another server continue the trace; empty when there is none."""
    active = CURRENT.get()
    return {} if active is None else active.headers()


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[None]:
    """A part of the current request; nothing at all when it is not traced."""
    active = CURRENT.get()
    if active is None:
        yield
        return
    child = active.child(name, attributes)
    CURRENT.set(child)
    try:
        yield
    except BaseException as error:
        child.failed(error)
        raise
    finally:
        child.end()
        CURRENT.set(active)
