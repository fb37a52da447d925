"""What the commands of single components share: an environment from a kubeconfig, running until a
signal, a health port."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any, cast

from pilothouse.cli import CommandError
from pilothouse.componentbase.process import collect_garbage_in_portions
from pilothouse.kubeclient.interfaces import Component, Environment

if TYPE_CHECKING:
    from pilothouse.componentbase.metrics import Registry
    from pilothouse.kubeclient.client_metrics import ClientMetrics

log = logging.getLogger(__name__)


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", required=True, metavar="FILE", help="how to reach the API")
    parser.add_argument("--healthz-bind-address", default="127.0.0.1", metavar="A")
    parser.add_argument(
        "--healthz-port", type=int, default=0, metavar="P", help="0: no health port"
    )
    parser.add_argument("-v", "--v", dest="v", type=int, default=0, help="log level as klog's -v")


def environment(args: argparse.Namespace, user_agent: str) -> Environment:
    """:raises CommandError: the kubeconfig does not work."""
    import dataclasses

    from pilothouse.apimachinery.clock import RealClock
    from pilothouse.componentbase.activity import ActivityTracker
    from pilothouse.kubeclient import kubeconfig
    from pilothouse.kubeclient.cache.factory import SharedInformerFactory
    from pilothouse.kubeclient.https import HTTPSClient

    if not Path(args.kubeconfig).exists():
        raise CommandError(f"--kubeconfig {args.kubeconfig}: there is no such file")
    try:
        config = kubeconfig.client_config(kubeconfig.load(Path(args.kubeconfig)))
    except (OSError, ValueError, kubeconfig.KubeconfigError) as error:
        raise CommandError(f"--kubeconfig {args.kubeconfig}: {error}") from error
    clock, random, activity = RealClock(), SystemRandom(), ActivityTracker()
    client = HTTPSClient(dataclasses.replace(config, user_agent=user_agent), clock)
    informers = SharedInformerFactory(client, clock, random, activity)
    return Environment(client, informers, clock, random, activity)


def run(args: argparse.Namespace, main: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Runs ``main(stopping)`` on an event loop; SIGTERM and SIGINT set ``stopping``."""
    from pilothouse.componentbase.logs import setup

    setup(args.v)

    async def body() -> int:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        return await main(stopping)

    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        return runner.run(body())


async def run_component(
    args: argparse.Namespace,
    stopping: asyncio.Event,
    make: Callable[[Environment], Awaitable[Component]],
    user_agent: str,
) -> int:
    """Starts what ``make`` gives, waits for the signal, stops it."""
    env = environment(args, user_agent)
    lost: list[str] = []

    def lose() -> None:
        lost.append("leaderelection lost")
        stopping.set()

    env.extra["leadership_lost"] = lose
    component = await make(env)
    server = await serve_health(args, component, getattr(env.client, "metrics", None))
    try:
        await _start_or_stop(component, stopping)
        if not stopping.is_set():
            log.info("%s is running", component.name)
            collect_garbage_in_portions()
            gc.freeze()
            await stopping.wait()
    finally:
        await component.stop()
        await env.informers.stop()
        await env.client.close()
        if server is not None:
            server.close()
    if lost:
        # As upstream: whoever watches over this process starts it anew.
        raise CommandError(lost[0])
    return 0


async def _start_or_stop(component: Component, stopping: asyncio.Event) -> None:
    """Starting waits for the API server for as long as it takes; a signal ends that, too."""
    starting = asyncio.get_running_loop().create_task(component.start(), name="start")
    waiting = asyncio.get_running_loop().create_task(stopping.wait(), name="stop-signal")
    await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    else:
        starting.result()


async def serve_health(
    args: argparse.Namespace, component: Component, client: ClientMetrics | None = None
) -> Any:
    """``/healthz`` on plain HTTP: ``ok``, or 500 with what is wrong; ``/metrics`` where the
    component has some."""
    if not args.healthz_port:
        return None

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            status, body, kind = _answer(component, request, client)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, args.healthz_bind_address, args.healthz_port)


def _answer(
    component: Component, request: bytes, client: ClientMetrics | None = None
) -> tuple[str, bytes, str]:
    """(status, body, content type)"""
    if request.split(b" ")[1:2] == [b"/metrics"] and (registry := _registry(component)):
        from pilothouse.componentbase.metrics import exposition

        if client is not None:
            registry.add(*client.all())
        return "200 OK", *exposition(registry, _accept(request))
    problem = component.health()
    if problem:
        return "500 Internal Server Error", problem.encode(), "text/plain"
    return "200 OK", b"ok", "text/plain"


def _registry(component: Any) -> Registry | None:
    """The component's metrics, if it has any."""
    make = getattr(component, "metrics_registry", None)
    if make is not None:
        return cast("Registry", make())
    return cast("Registry | None", getattr(getattr(component, "metrics", None), "registry", None))


def _accept(request: bytes) -> str:
    for line in request.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"accept":
            return value.strip().decode("latin-1")
    return ""
