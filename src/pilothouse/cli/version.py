"""Print the version of Pilothouse and of the Kubernetes API it serves."""

from __future__ import annotations

import argparse
import json
import platform

import pilothouse
from pilothouse.componentbase.version import GIT_VERSION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    versions = {
        "pilothouse": pilothouse.__version__,
        "kubernetes": GIT_VERSION,
        "python": platform.python_version(),
    }
    if args.output == "json":
        print(json.dumps(versions))
    else:
        for name, value in versions.items():
            print(f"{name} {value}")
    return 0
