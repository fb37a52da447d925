"""Calls to plugins, and theirs to the kubelet: gRPC over unix sockets.

grpc is imported when the first plugin is there: most nodes have none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from pilothouse.apimachinery.protobuf_wire import ProtobufError
from pilothouse.kubelet.plugins.messages import Method
from pilothouse.kubelet.plugins.wire import decode, encode

_OPTIONS = (
    ("grpc.default_authority", "localhost"),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)
_CHUNK = 1 << 16
_MAX_PATH = 100


class PluginError(Exception):
    """A plugin did not do what it was asked for; the text is as Go's gRPC has it."""

    def __init__(self, message: str, *, unimplemented: bool = False) -> None:
        super().__init__(message)
        self.unimplemented = unimplemented


class ShortPath:
    """A socket's path, short enough for the kernel (108 characters), until ``close``."""

    def __init__(self, path: str) -> None:
        """:raises OSError: its folder is not there."""
        self._folder = -1
        self.path = path
        if len(os.fsencode(path)) > _MAX_PATH:
            self._folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
            self.path = f"/proc/self/fd/{self._folder}/{os.path.basename(path)}"

    def close(self) -> None:
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def _grpc() -> Any:
    try:
        import grpc.aio
    except ImportError:
        raise PluginError("plugins need the package grpcio (pilothouse[etcd])") from None
    return grpc


def _error(error: Any) -> PluginError:
    code = error.code().name
    name = "".join(part.capitalize() for part in code.split("_"))
    return PluginError(
        f"rpc error: code = {name} desc = {error.details()}", unimplemented=code == "UNIMPLEMENTED"
    )


class Channel:
    """To the plugin behind a socket; connects by itself, again and again."""

    def __init__(self, path: str) -> None:
        """:raises PluginError: grpc is not installed, or there is no such folder."""
        self._rpc = _grpc().RpcError
        try:
            self._path = ShortPath(path)
        except OSError as error:
            raise PluginError(f"{path}: {error.strerror}") from error
        target = f"unix:{self._path.path}"
        self._channel: Any = _grpc().aio.insecure_channel(target, options=_OPTIONS)

    async def call(
        self, method: Method, request: Mapping[str, Any] | None = None, *, timeout: float = 45.0
    ) -> dict[str, Any]:
        """:raises PluginError:"""
        unary = self._channel.unary_unary(method.path)
        try:
            answer = await unary(encode(method.request, request or {}), timeout=timeout)
            return decode(method.response, answer)
        except self._rpc as error:
            raise _error(error) from error
        except ProtobufError as error:
            raise PluginError(str(error)) from error

    async def stream(self, method: Method) -> AsyncIterator[dict[str, Any]]:
        """Until the plugin ends it. :raises PluginError:"""
        call = self._channel.unary_stream(method.path)(encode(method.request, {}))
        try:
            async for answer in call:
                yield decode(method.response, answer)
        except self._rpc as error:
            raise _error(error) from error
        except ProtobufError as error:
            raise PluginError(str(error)) from error
        finally:
            call.cancel()

    async def connections(self) -> AsyncIterator[bool]:
        """Whether it is connected, now and whenever that changes."""
        ready = _grpc().ChannelConnectivity.READY
        while True:
            state = self._channel.get_state(try_to_connect=True)
            yield state == ready
            await self._channel.wait_for_state_change(state)

    async def close(self) -> None:
        await self._channel.close()
        self._path.close()


Handler = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]


class LazyServer:
    """Serves methods on a unix socket; gRPC itself starts with the first connection, which is
    passed on to it."""

    def __init__(self, path: str, handlers: Sequence[tuple[Method, Handler]]) -> None:
        self._wanted = path
        self._short: ShortPath | None = None
        self._path = self._inner = ""
        self._handlers = handlers
        self._listener: asyncio.Server | None = None
        self._server: Any = None
        self._starting = asyncio.Lock()
        self._open: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """:raises OSError: the socket can't be made."""
        self._short = ShortPath(self._wanted)
        self._path = self._short.path
        folder, _, name = self._path.rpartition("/")
        self._inner = f"{folder}/.{name}"
        self._remove()
        self._listener = await asyncio.start_unix_server(self._accepted, self._path)

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        if self._server is not None:
            await self._server.stop(None)
        if self._short is not None:
            self._remove()
            self._short.close()

    def _remove(self) -> None:
        for path in (self._path, self._inner):
            if os.path.lexists(path):
                os.unlink(path)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        inner: asyncio.StreamWriter | None = None
        try:
            await self._serve()
            inner_reader, inner = await asyncio.open_unix_connection(self._inner)
            await asyncio.gather(_pump(reader, inner), _pump(inner_reader, writer))
        except (OSError, PluginError):
            return
        finally:
            self._open.discard(task)
            for each in (writer, inner):
                if each is not None:
                    each.close()

    async def _serve(self) -> None:
        async with self._starting:
            if self._server is not None:
                return
            grpc = _grpc()
            server = grpc.aio.server()
            for method, handler in self._handlers:
                service, _, name = method.path[1:].rpartition("/")
                rpc = grpc.unary_unary_rpc_method_handler(_wrapped(method, handler))
                server.add_generic_rpc_handlers(
                    (grpc.method_handlers_generic_handler(service, {name: rpc}),)
                )
            server.add_insecure_port(f"unix:{self._inner}")
            await server.start()
            self._server = server


def _wrapped(method: Method, handler: Handler) -> Any:
    async def serve(request: bytes, context: Any) -> bytes:
        try:
            answer = await handler(decode(method.request, request))
        except (PluginError, ProtobufError) as error:
            await context.abort(_grpc().StatusCode.UNKNOWN, str(error))
            raise AssertionError("abort raises") from error
        return encode(method.response, answer)

    return serve


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()
