"""Container logs: which container's, and its log file as a stream that can follow.

Following waits for inotify events and for the container's exit (``PodCache.wait_exited``); the
stream ends when the container has exited and everything is read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pilothouse.apimachinery.object import Obj
from pilothouse.kubelet.pod_cache import PodCache
from pilothouse.kubelet.runtime.interfaces import ContainerStatus
from pilothouse.kubelet.server.inotify import DirectoryWatches
from pilothouse.kubelet.server.interfaces import Refusal
from pilothouse.kubelet.server.log_file import LogFile
from pilothouse.kubelet.server.log_format import LogOptions

Chunks = AsyncGenerator[bytes, None]
_STATUS_LISTS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_PULL_FAILURES = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def logged_container(pod: Obj, container: str, previous: bool) -> str:
    """The id (``scheme://id``) of the attempt whose log is meant (validateContainerLogStatus).

    :raises Refusal: 400 with upstream's text when there is none.
    """
    name = pod["metadata"]["name"]
    where = f'container "{container}" in pod "{name}"'
    statuses = pod.get("status") or {}
    status = next(
        (s for key in _STATUS_LISTS for s in statuses.get(key) or () if s["name"] == container),
        None,
    )
    if status is None:
        raise Refusal(400, f"{where} is not available")
    state = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated")
    last_id = str((last or {}).get("containerID") or "")
    if previous:
        if not last_id:
            raise Refusal(400, f"previous terminated {where} not found")
        return last_id
    if "running" in state:
        return str(status.get("containerID") or "")
    if "terminated" in state or last is not None:
        chosen = str((state.get("terminated") or {}).get("containerID") or "") or last_id
        if not chosen:
            raise Refusal(400, f"{where} is terminated")
        return chosen
    if "waiting" in state:
        reason = state["waiting"].get("reason") or ""
        raise Refusal(400, f"{where} is waiting to start: {_PULL_FAILURES.get(reason, reason)}")
    raise Refusal(400, f"{where} is waiting to start - no logs yet")


def find_attempt(cache: PodCache, pod: Obj, name: str, container_id: str) -> ContainerStatus:
    """:raises Refusal: 400, the runtime has it no longer."""
    bare = container_id.partition("://")[2]
    for status in cache.get(pod["metadata"]["uid"]).containers.get(name, ()):
        if status.id == bare:
            return status
    raise Refusal(400, f"unable to retrieve container logs for {container_id}")


class ContainerLogs:
    def __init__(self, cache: PodCache, watches: DirectoryWatches, *, real_files: bool) -> None:
        """``real_files`` false: a runtime without processes writes none; logs are empty."""
        self._cache = cache
        self._watches = watches
        self._real_files = real_files

    async def open(self, status: ContainerStatus, options: LogOptions) -> Chunks:
        """The log as chunks. :raises Refusal: 400, it cannot be read."""
        try:
            file = await asyncio.to_thread(LogFile, status.log_path, options)
        except OSError as error:
            if self._real_files:
                raise Refusal(
                    400, f'failed to open log file "{status.log_path}": open {status.log_path}: '
                    f"{os.strerror(error.errno or 0).lower()}",
                ) from error  # fmt: skip
            return self._nothing(status, options)
        return self._read(file, status, options)

    async def _nothing(self, status: ContainerStatus, options: LogOptions) -> Chunks:
        if options.follow:
            await self._cache.wait_exited(status.id)
        yield b""

    async def _read(self, file: LogFile, status: ContainerStatus, options: LogOptions) -> Chunks:
        try:
            if options.follow:
                async with aclosing(self._follow(file, status)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            else:
                more = not file.done
                while more:
                    chunk, more = await asyncio.to_thread(file.step)
                    if chunk:
                        yield chunk
            if rest := file.finish():
                yield rest
        finally:
            file.close()

    async def _follow(self, file: LogFile, status: ContainerStatus) -> Chunks:
        exit_seen = self._cache.exit_future(status.id)
        changed = self._watches.watch(os.path.dirname(status.log_path))
        exit_seen.add_done_callback(lambda _: changed.set())
        try:
            while not file.done:
                # Asked before the reading: what is written until the exit gets read.
                exited = exit_seen.done()
                changed.clear()
                chunk, more = await asyncio.to_thread(file.step)
                if chunk:
                    yield chunk
                if more or file.done:
                    continue
                if exited:
                    return
                if not exit_seen.done():
                    await changed.wait()
        finally:
            exit_seen.cancel()
            self._watches.unwatch(changed)
