"""Flags of a kubelet's certificates, with upstream's names."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CertificateConfig:
    bootstrap_kubeconfig: str = ""
    """How to ask for a client certificate while there is no kubeconfig."""
    directory: Path = Path("pki")
    """Where certificates that the cluster issued are kept."""
    rotate_client: bool = False
    rotate_server: bool = False


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--bootstrap-kubeconfig", default="", metavar="FILE",
        help="how to ask for a client certificate while --kubeconfig is not there",
    )  # fmt: skip
    add("--cert-dir", default="", metavar="DIR", help="certificates that were issued (ROOT/pki)")
    add(
        "--rotate-certificates", nargs="?", const=True, type=_boolean, default=False,
        help="ask for a new client certificate before the old one expires",
    )  # fmt: skip
    add(
        "--rotate-server-certificates", nargs="?", const=True, type=_boolean, default=False,
        help="ask the cluster for the serving certificate, too; somebody must approve it",
    )  # fmt: skip


def from_args(args: argparse.Namespace) -> CertificateConfig:
    return CertificateConfig(
        args.bootstrap_kubeconfig,
        Path(args.cert_dir or f"{args.root_dir}/pki"),
        args.rotate_certificates,
        args.rotate_server_certificates,
    )


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"invalid boolean {text!r}")
    return text.lower() == "true"
