"""What `kube-apiserver` is in the folder of `pilothouse envtest-assets`: our API server, with
kube-apiserver's whole command line.

Beyond `pilothouse apiserver` it knows --cert-dir, finds its store through the stand-in that
--etcd-servers names (`envtest_etcd`; a real etcd is used as such), and accepts the flags of
upstream that have no effect here, with a warning, because test suites pass them.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pilothouse.apiserver import config as server_config
from pilothouse.cli import CommandError
from pilothouse.cli import component as shared
from pilothouse.cli.envtest_etcd import MARK
from pilothouse.componentbase.version import GIT_VERSION, report_version

WITHOUT_EFFECT = (
    "admission-control admission-control-config-file aggregator-reject-forwarding-redirect"
    " allow-metric-labels allow-metric-labels-manifest contention-profiling"
    " coordinated-leadership-lease-duration coordinated-leadership-renew-deadline"
    " coordinated-leadership-retry-period cors-allowed-origins debug-socket-path"
    " delete-collection-workers disable-http2-serving disabled-metrics egress-selector-config-file"
    " emulated-version emulation-forward-compatible enable-aggregator-routing"
    " enable-garbage-collector enable-logs-handler etcd-count-metric-poll-period"
    " etcd-db-metric-poll-interval etcd-healthcheck-timeout etcd-readycheck-timeout"
    " etcd-servers-overrides goaway-chance http2-max-streams-per-connection kubelet-timeout"
    " kubernetes-service-node-port lease-reuse-duration-seconds livez-grace-period"
    " log-flush-frequency log-json-info-buffer-size log-json-split-stream"
    " log-text-info-buffer-size log-text-split-stream logging-format max-connection-bytes-per-sec"
    " min-compatibility-version peer-advertise-ip peer-advertise-port peer-ca-file"
    " permit-address-sharing permit-port-sharing runtime-config"
    " runtime-config-emulation-forward-compatible service-account-lookup"
    " service-account-signing-endpoint show-hidden-metrics-for-version"
    " shutdown-watch-termination-grace-period storage-backend storage-initialization-timeout"
    " storage-media-type strict-transport-security-directives tls-cipher-suites"
    " tls-curve-preferences tls-min-version tls-sni-cert-key vmodule watch-cache watch-cache-sizes"
).split()
"""Flags of kube-apiserver v1.37 that are accepted here and change nothing."""
ETCD_SECONDS = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = parse(arguments)
        if args.version.startswith("v"):
            report_version(args.version)
        elif args.version not in ("", "false"):
            print(f"Kubernetes {GIT_VERSION}")
            return 0
        config = configuration(args)
        from pilothouse.cli.apiserver import serve

        args.v = args.v or 0
        return shared.run(args, lambda stopping: serve(config, stopping))
    except (CommandError, ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """:raises CommandError: a flag that kube-apiserver does not have."""
    parser = argparse.ArgumentParser(
        prog="kube-apiserver",
        allow_abbrev=False,
        description="Pilothouse's API server as Go tests (envtest) start it.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=40, width=100),
    )
    server_config.add_flags(parser)
    parser.add_argument(
        "--cert-dir",
        default="/var/run/kubernetes",
        metavar="D",
        help="where apiserver.crt and apiserver.key are, or are made, without --tls-cert-file",
    )
    parser.add_argument(
        "--etcd-prefix", default="/registry", metavar="P", help="keeps servers of one etcd apart"
    )
    parser.add_argument(
        "--version",
        nargs="?",
        const="true",
        default="",
        metavar="V",
        help="print the version; --version=vX.Y.Z... sets the reported version",
    )
    args, unknown = parser.parse_known_args(argv)
    ignored = [_flag(text) for text in unknown if text.startswith("-") and text != "-"]
    for name in ignored:
        if name not in WITHOUT_EFFECT:
            raise CommandError(f"unknown flag: --{name}")
    if ignored:
        print(f"kube-apiserver: without effect here: {', '.join(ignored)}", file=sys.stderr)
    return args


def _flag(text: str) -> str:
    return text.lstrip("-").partition("=")[0]


def configuration(args: argparse.Namespace) -> server_config.ServerConfig:
    """What to serve, with a certificate and a store. Writes to --cert-dir.

    :raises ValueError: flags that do not fit together. :raises OSError: unreadable files.
    """
    if not args.tls_cert_file and not args.tls_private_key_file:
        directory = Path(args.cert_dir)
        args.tls_cert_file = str(directory / "apiserver.crt")
        args.tls_private_key_file = str(directory / "apiserver.key")
        if not Path(args.tls_cert_file).exists():
            _make_certificate(directory, args.bind_address or "127.0.0.1")
    servers = [url.strip() for text in args.etcd_servers or () for url in text.split(",")]
    data = data_directory(servers[0]) if servers else ""
    if data:
        args.etcd_servers, args.storage = None, "sqlite"
        args.data_dir = str(Path(data, "pilothouse", *args.etcd_prefix.strip("/").split("/")))
        Path(args.data_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    elif servers and args.etcd_prefix != "/registry":
        raise ValueError("--etcd-prefix: only /registry can be used with a real etcd")
    return server_config.from_args(args)


def data_directory(url: str) -> str:
    """Where the stand-in at ``url`` keeps data; empty for anything else, such as an etcd."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return ""
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=ETCD_SECONDS)
    try:
        connection.request("GET", "/version")
        answer = json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    return str(answer.get(MARK, "")) if isinstance(answer, dict) else ""


def _make_certificate(directory: Path, address: str) -> None:
    from pilothouse.apimachinery.clock import RealClock
    from pilothouse.componentbase import certs

    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    now = RealClock().now()
    ca = certs.make_ca(f"{address}-ca", now=now)
    wildcard = address in ("0.0.0.0", "::")
    pair = certs.make_serving_cert(
        ca,
        address,
        now=now,
        names=("localhost", *certs.API_SERVER_NAMES),
        ips=("127.0.0.1", "::1") if wildcard else dict.fromkeys((address, "127.0.0.1", "::1")),
    )
    certs.save_pair(directory, "apiserver", certs.KeyPair(pair.cert + ca.cert, pair.key))


if __name__ == "__main__":
    sys.exit(main())
