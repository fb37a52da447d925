"""/debug/pprof and /debug/api_priority_and_fairness, with --profiling only.

The names are those of Go's handlers; what they show is Python's: a profile of the event loop,
the tasks that exist, the memory by type.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request, new_generic_not_found
from pilothouse.apiserver.request.context import Response

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import APIHandler, Server
    from pilothouse.apiserver.request.context import Request

_TEXT = "text/plain; charset=utf-8"
_PAGES = ("cmdline", "goroutine", "heap", "profile")
_MAX_SECONDS = 60


def install(server: Server, api: APIHandler) -> None:
    async def pprof(request: Request) -> Response:
        page = request.path.rstrip("/").removeprefix("/debug/pprof").strip("/")
        if not page:
            text = "\n".join(f"/debug/pprof/{name}" for name in _PAGES)
        elif page == "cmdline":
            text = "\0".join(sys.argv)
        elif page == "goroutine":
            text = tasks()
        elif page == "heap":
            text = heap()
        elif page == "profile":
            text = await profile(server, request)
        else:
            raise new_generic_not_found()
        return Response(200, text.encode(), _TEXT)

    async def levels(request: Request) -> Response:
        return Response(200, priority_levels(server).encode(), _TEXT)

    api.routes["/debug/pprof"] = pprof
    api.prefixes.append(("/debug/pprof/", pprof))
    api.routes["/debug/api_priority_and_fairness/dump_priority_levels"] = levels


def tasks() -> str:
    found = sorted(task.get_name() for task in asyncio.all_tasks())
    return "\n".join([f"{len(found)} tasks", *found, ""])


def heap() -> str:
    """The most frequent types of objects that the garbage collector knows."""
    counts = Counter(type(obj).__qualname__ for obj in gc.get_objects())
    lines = [f"{count:>10} {name}" for name, count in counts.most_common(50)]
    return "\n".join([f"{sum(counts.values())} objects", *lines, ""])


async def profile(server: Server, request: Request) -> str:
    """What the loop does for ?seconds=30, by time. :raises StatusError: 400."""
    import cProfile
    import io
    import pstats

    text = request.query_value("seconds", "30")
    if not text.isdigit() or not 0 < int(text) <= _MAX_SECONDS:
        raise new_bad_request(f"seconds must be between 1 and {_MAX_SECONDS}")
    profiler = cProfile.Profile()
    try:
        profiler.enable()
    except ValueError as error:
        raise new_bad_request(f"Could not enable CPU profiling: {error}") from error
    try:
        await server.clock.sleep(int(text))
    finally:
        profiler.disable()
    out = io.StringIO()
    pstats.Stats(profiler, stream=out).sort_stats("tottime").print_stats(60)
    return out.getvalue()


def priority_levels(server: Server) -> str:
    """As upstream's table: one line a level."""
    head = (
        "PriorityLevelName", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
        "SeatsInUse", "SeatsLimit",
    )  # fmt: skip
    control = server.services.get("flowcontrol")
    lines = [", ".join(head)]
    for level in sorted(control.levels.values(), key=lambda x: x.name) if control else ():
        queues = level.queues
        row: tuple[object, ...] = (level.name, "<none>", "false", 0, 0, 0, "<none>")
        if queues is not None:
            idle = str(not queues.executing and not queues.waiting).lower()
            row = (
                level.name, idle, "false", queues.waiting, queues.executing, queues.seats_in_use,
                queues.limit,
            )  # fmt: skip
        lines.append(", ".join(map(str, row)))
    return "\n".join([*lines, ""])
