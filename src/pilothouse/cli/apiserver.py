"""Run only the API server, in the foreground, with kube-apiserver's flags. Give it certificates and
a store; `hack/local-up-cluster.sh` shows a whole cluster of single components.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging

from pilothouse.apiserver import config as server_config
from pilothouse.cli import CommandError
from pilothouse.cli import component as shared

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    server_config.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    args.v = args.v or 0
    try:
        config = server_config.from_args(args)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return shared.run(args, lambda stopping: serve(config, stopping))


async def serve(config: server_config.ServerConfig, stopping: asyncio.Event) -> int:
    from pilothouse.apimachinery.clock import RealClock
    from pilothouse.apiserver.server import APIServer
    from pilothouse.apiserver.storage.errors import StorageError, Untransformable
    from pilothouse.componentbase.process import collect_garbage_in_portions, raise_open_files

    raise_open_files()
    server = APIServer(config, RealClock())
    try:
        try:
            await server.start()
        except Untransformable as error:
            raise CommandError(f"{error}; see --encryption-provider-config") from error
        except (StorageError, OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        collect_garbage_in_portions()
        gc.freeze()
        log.info("serving at %s", server.url)
        await stopping.wait()
        await server.shut_down()
    finally:
        await server.stop()
    return 0
