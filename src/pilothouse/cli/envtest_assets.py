"""Write a folder with `kube-apiserver`, `etcd` and `kubectl` for Go tests that use envtest, and
print its path:

    export KUBEBUILDER_ASSETS=$(pilothouse envtest-assets)

`kube-apiserver` is Pilothouse's, `etcd` only keeps a place for its data (a real etcd may be put
there instead), `kubectl` is the one of $PATH.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from pilothouse.cli import CommandError

LAUNCHERS = {
    "kube-apiserver": "pilothouse.cli.envtest_apiserver",
    "etcd": "pilothouse.cli.envtest_etcd",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", default="", metavar="D", help="where to write it (~/.pilothouse/envtest)"
    )


def run(args: argparse.Namespace) -> int:
    from pilothouse.cluster.state import home_directory

    directory = Path(args.dir).absolute() if args.dir else home_directory() / "envtest"
    try:
        write(directory)
    except OSError as error:
        raise CommandError(f"{directory} can't be written: {error}") from error
    print(directory)
    return 0


def write(directory: Path) -> None:
    """Makes or renews the folder. A test that is starting meanwhile finds the old or the new
    files, never half of one. :raises OSError:"""
    directory.mkdir(parents=True, exist_ok=True)
    for name, module in LAUNCHERS.items():
        _replace(directory / name, f"#!/bin/sh\n{_command(module)}\n")
    kubectl = shutil.which("kubectl")
    if kubectl and Path(kubectl).parent != directory:
        _replace(directory / "kubectl", f'#!/bin/sh\nexec {shlex.quote(kubectl)} "$@"\n')


def _command(module: str) -> str:
    # -P: tests run in folders of their own, whose files must not be imported.
    return f'exec {shlex.quote(sys.executable)} -P -m {module} "$@"'


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o755)
    os.replace(file.name, path)
