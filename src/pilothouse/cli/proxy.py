"""Run only the service proxy of one node, in the foreground (needs root and iptables)."""

from __future__ import annotations

import argparse

from pilothouse.cli import component as shared
from pilothouse.kubeclient.interfaces import Component, Environment
from pilothouse.kubeproxy import config as proxy_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_common(parser)
    proxy_config.add_flags(parser)
    parser.add_argument("--cleanup", action="store_true", help="remove all rules and exit")


def run(args: argparse.Namespace) -> int:
    async def make(env: Environment) -> Component:
        from pilothouse.kubeproxy.proxier import Proxier

        return Proxier(env, proxy_config.from_args(args))

    if args.cleanup:
        return shared.run(args, lambda stopping: _clean_up())
    return shared.run(
        args, lambda stopping: shared.run_component(args, stopping, make, "kube-proxy")
    )


async def _clean_up() -> int:
    from pilothouse.componentbase.process import RealExec
    from pilothouse.kubeproxy.iptables.restore import IPTables

    await IPTables(RealExec()).clean_up()
    return 0
