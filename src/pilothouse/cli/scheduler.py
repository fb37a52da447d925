"""Run only the scheduler, in the foreground, against the API server of a kubeconfig."""

from __future__ import annotations

import argparse

from pilothouse.cli import CommandError
from pilothouse.cli import component as shared
from pilothouse.kubeclient.interfaces import Component, Environment
from pilothouse.scheduler import config as scheduler_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_common(parser)
    scheduler_config.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    try:
        config = scheduler_config.from_args(args)
    except (OSError, ValueError) as error:
        raise CommandError(f"--config {args.config}: {error}") from error

    async def make(env: Environment) -> Component:
        from pilothouse.scheduler.scheduler import Scheduler

        return Scheduler(env, config)

    return shared.run(
        args, lambda stopping: shared.run_component(args, stopping, make, "kube-scheduler")
    )
