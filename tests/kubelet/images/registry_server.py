"""A read-only OCI registry over plain dicts, for tests: loopback, a thread, optional tokens."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(files: dict[str, str], *, extra: list[tarfile.TarInfo] | None = None) -> bytes:
    """A plain tar with ``files``; a name that ends with / is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o644
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        for member in extra or []:
            archive.addfile(member)
    return buffer.getvalue()


class Registry:
    """``with Registry() as r: r.add("team/app", "v1", [layer(...)])``; ``r.host`` is its name."""

    def __init__(self, *, user: str = "", password: str = "", bearer: bool = False) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.requests: list[str] = []
        self.user, self.password, self.bearer = user, password, bearer
        self.cut_after: int | None = None
        """The next blob answer breaks off after so many bytes."""
        handler = type("Handler", (_Handler,), {"registry": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(
        self,
        repository: str,
        tag: str,
        layers: list[bytes],
        config: dict[str, Any] | None = None,
        architecture: str = "amd64",
    ) -> str:
        """The manifest's digest."""
        document = {
            "architecture": architecture,
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(item) for item in layers]},
        }
        packed = [gzip.compress(item, mtime=0) for item in layers]
        raw = json.dumps(document).encode()
        for blob in (raw, *packed):
            self.blobs[digest_of(blob)] = blob
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor(raw, "application/vnd.oci.image.config.v1+json"),
            "layers": [
                _descriptor(p, "application/vnd.oci.image.layer.v1.tar+gzip") for p in packed
            ],
        }
        return self.put(repository, tag, manifest)

    def add_index(self, repository: str, tag: str, by_architecture: dict[str, str]) -> str:
        entries = [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": len(self.manifests[repository, digest][1]),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, digest in by_architecture.items()
        ]
        media_type = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
        return self.put(repository, tag, index)

    def put(self, repository: str, tag: str, document: dict[str, Any]) -> str:
        raw = json.dumps(document).encode()
        digest = digest_of(raw)
        for target in (tag, digest):
            self.manifests[repository, target] = (document["mediaType"], raw)
        return digest


def _descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        self.registry.requests.append(f"{self.command} {self.path}")

    def _basic(self) -> str:
        pair = f"{self.registry.user}:{self.registry.password}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def _allowed(self) -> bool:
        registry, given = self.registry, self.headers.get("Authorization", "")
        if registry.bearer:
            return given == "Bearer good"
        return not registry.user or given == self._basic()

    def do_GET(self) -> None:
        registry = self.registry
        if self.path.startswith("/token"):
            good = not registry.user or self.headers.get("Authorization") == self._basic()
            self._answer(200 if good else 401, json.dumps({"token": "good"}).encode(), {})
        elif not self._allowed():
            realm = f'Bearer realm="http://{registry.host}/token",service="test"'
            header = realm if registry.bearer else 'Basic realm="test"'
            self._answer(401, b"", {"WWW-Authenticate": header})
        else:
            repository, kind, target = self.path.removeprefix("/v2/").rsplit("/", 2)
            if kind == "manifests" and (repository, target) in registry.manifests:
                media_type, raw = registry.manifests[repository, target]
                headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(raw)}
                self._answer(200, raw, headers)
            elif kind == "blobs" and target in registry.blobs:
                self._blob(registry.blobs[target])
            else:
                self._answer(404, b"{}", {})

    def _blob(self, data: bytes) -> None:
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        cut, self.registry.cut_after = self.registry.cut_after, None
        status = 206 if start else 200
        self._answer(status, data[start:], {}, cut)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True
