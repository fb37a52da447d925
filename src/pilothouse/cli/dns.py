"""Run only the cluster's DNS server, in the foreground (port 53 needs root)."""

from __future__ import annotations

import argparse

from pilothouse.cli import CommandError
from pilothouse.cli import component as shared
from pilothouse.clusterdns import config as dns_config
from pilothouse.kubeclient.interfaces import Component, Environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_common(parser)
    dns_config.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    try:
        config = dns_config.from_args(args)
    except ValueError as error:
        raise CommandError(str(error)) from error

    async def make(env: Environment) -> Component:
        from pilothouse.clusterdns.server import DNSServer

        return DNSServer(env, config)

    from pilothouse.apimachinery.errors import StatusError

    try:
        return shared.run(
            args, lambda stopping: shared.run_component(args, stopping, make, "pilothouse-dns")
        )
    except OSError as error:
        raise CommandError(f"--listen {args.listen}: {error.strerror or error}") from error
    except StatusError as error:
        raise CommandError(str(error)) from error
