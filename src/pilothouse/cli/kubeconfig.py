"""Print a kubeconfig with administrator's rights for a cluster (for `KUBECONFIG=` or a CI job)."""

from __future__ import annotations

import argparse
import json
import sys

from pilothouse.cli import CommandError
from pilothouse.cli.clusters import add_name, directory_of, state_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml")


def run(args: argparse.Namespace) -> int:
    state_of(args)
    path = directory_of(args) / "kubeconfig"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CommandError(
            f"{path} is missing; `pilothouse up --name {args.name}` makes it"
        ) from None
    if args.output == "json":
        print(json.dumps(config, indent=1))
    else:
        import yaml

        yaml.safe_dump(config, sys.stdout, sort_keys=False)
    return 0
