"""What `etcd` is in the folder of `pilothouse envtest-assets`: a keeper of the data folder.

envtest starts etcd first, waits for its /health and gives its address to kube-apiserver; it stops
it last and removes the folder. This program answers /health, and in /version it names the folder:
that is where our kube-apiserver (`envtest_apiserver`) puts its SQLite store, so that data lives as
long as it would in an etcd. It takes etcd's flags; of no use here are all but two.
"""

from __future__ import annotations

import argparse
import http.server
import json
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

VERSION = "3.6.0"
MARK = "pilothouse-data-dir"
"""The field of /version that tells this program from an etcd."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code."""
    args = parse(list(sys.argv[1:] if argv is None else argv))
    if args.version:
        print(f"etcd Version: {VERSION} (Pilothouse's stand-in for envtest)")
        return 0
    data = Path(args.data_dir).absolute()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        servers = [make_server(url.strip(), data) for url in args.listen_client_urls.split(",")]
    except (OSError, ValueError) as error:
        print(f"etcd: {error}", file=sys.stderr)
        return 1
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    stopping.wait()
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags that matter here; every other one of etcd's is accepted."""
    parser = argparse.ArgumentParser(
        prog="etcd",
        allow_abbrev=False,
        description="Keeps the data folder of Pilothouse's kube-apiserver in Go tests (envtest).",
        epilog="etcd's other flags are accepted and have no effect.",
    )
    parser.add_argument("--data-dir", default="default.etcd", help="where the data is kept")
    parser.add_argument(
        "--listen-client-urls", default="http://localhost:2379", help="where to answer /health"
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    return parser.parse_known_args(argv)[0]


def make_server(url: str, data: Path) -> http.server.ThreadingHTTPServer:
    """A bound server for one URL. :raises ValueError: not http. :raises OSError: not bound."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        raise ValueError(f"only http:// can be listened on here, not {url}")
    host, port = parts.hostname or "localhost", 2379 if parts.port is None else parts.port
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]

    class Server(http.server.ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

    class Handler(Answers):
        data_dir = str(data)

    return Server((str(address[0]), int(address[1])), Handler)


class Answers(http.server.BaseHTTPRequestHandler):
    """etcd's endpoints without data."""

    protocol_version = "HTTP/1.1"
    data_dir = ""

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/health":
                self._send(200, {"health": "true", "reason": ""})
            case "/livez" | "/readyz":
                self._send(200, None)
            case "/version":
                self._send(
                    200, {"etcdserver": VERSION, "etcdcluster": VERSION, MARK: self.data_dir}
                )
            case _:
                self._send(404, {"error": "this is Pilothouse's stand-in for etcd: it has no data"})

    def _send(self, status: int, body: Any) -> None:
        data = b"ok\n" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if body is None else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: envtest asks ten times a second."""


if __name__ == "__main__":
    sys.exit(main())
