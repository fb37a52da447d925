"""Run only the controllers, in the foreground, against the API server of a kubeconfig."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilothouse.cli import CommandError
from pilothouse.cli import component as shared
from pilothouse.controllermanager import config as manager_config
from pilothouse.kubeclient.interfaces import Component, Environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_common(parser)
    manager_config.add_flags(parser)
    parser.set_defaults(leader_elect=True)


def run(args: argparse.Namespace) -> int:
    from pilothouse.kubeclient.kubeconfig import KubeconfigError, client_config, load

    try:
        config = manager_config.from_args(args)
        if not config.root_ca:
            # As upstream: what the kubeconfig trusts is what pods are told to trust.
            trusted = client_config(load(Path(args.kubeconfig))).ca_data
            config = replace(config, root_ca=trusted.decode())
    except (OSError, ValueError, KubeconfigError) as error:
        raise CommandError(str(error)) from error

    async def make(env: Environment) -> Component:
        from pilothouse.controllermanager.manager import ControllerManager
        from pilothouse.kubeclient.service_account_client import ServiceAccountClient

        base: Any = env.client
        env.extra["client_for"] = lambda user: ServiceAccountClient(base, user, env.clock)
        return ControllerManager(env, config)

    return shared.run(
        args, lambda stopping: shared.run_component(args, stopping, make, "kube-controller-manager")
    )
