"""The command ``pilothouse``. Each sub-command is a file, imported only when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "up": "start a cluster in the background and wait until it is Ready",
    "down": "stop a cluster; --delete removes its data and its kubeconfig context",
    "status": "what is running: server, nodes, processes",
    "kubeconfig": "print a cluster's kubeconfig",
    "logs": "print or follow the log of a cluster or of one component",
    "image": "import, list and remove container images of the local store",
    "explain-pod": "why a pod goes to a node and not to the others, also before it exists",
    "envtest-assets": "write kube-apiserver and etcd for Go tests with envtest; prints the folder",
    "completion": "print a script for bash, zsh or fish that completes what is typed",
    "version": "print the version",
    "apiserver": "run only the API server, in the foreground (upstream's flags)",
    "scheduler": "run only the scheduler",
    "controller-manager": "run only the controllers",
    "kubelet": "run only a kubelet",
    "proxy": "run only the service proxy",
    "dns": "run only the cluster's DNS server",
}


class CommandError(Exception):
    """What went wrong, for a person, with the next step. Exit code 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        return 0
    if arguments[0] == "--version":
        arguments[0] = "version"
    command = arguments[0]
    if command not in COMMANDS:
        parser.error(f"unknown command {command!r}; see pilothouse --help")
    try:
        return _run(command, arguments[1:])
    except CommandError as error:
        print(f"pilothouse {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(f"pilothouse {command}: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _run(command: str, arguments: list[str]) -> int:
    module = importlib.import_module(f"pilothouse.cli.{command.replace('-', '_')}")
    own = argparse.ArgumentParser(
        prog=f"pilothouse {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(own)
    return int(module.run(own.parse_args(arguments)) or 0)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return argparse.ArgumentParser(
        prog="pilothouse",
        usage="pilothouse COMMAND [options]",
        description="A Kubernetes v1.37 cluster in Python.\n\ncommands:\n" + "\n".join(lines),
        epilog="pilothouse COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
