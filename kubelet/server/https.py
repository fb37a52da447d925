"""The kubelet's HTTPS port, for a kubelet that runs alone.

TLS has checked a client's certificate against the client CA; a bearer token is asked of the API
server (TokenReview). Without either the answer is 401. What
a client may do is asked of the API server (SubjectAccessReview on ``nodes/<subresource>``, as
upstream's webhook mode); ``system:masters``, which the API server itself belongs to, may do all.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from collections import OrderedDict
from typing import Any, Protocol
from urllib.parse import unquote

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.componentbase.der import ORGANIZATION, read_certificate
from pilothouse.componentbase.serving.http_server import HTTPServer
from pilothouse.componentbase.serving.interfaces import HTTPRequest, HTTPResponse, PlainResponse
from pilothouse.componentbase.serving.tls import server_context
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubelet.config import KubeletConfig
from pilothouse.kubelet.network.namespaces import open_socket_in
from pilothouse.kubelet.server.handler import KubeletServer
from pilothouse.kubelet.server.interfaces import KubeletHost

log = logging.getLogger(__name__)
MASTERS = "system:masters"
ALLOWED_SECONDS, DENIED_SECONDS = 300.0, 30.0
TOKEN_SECONDS = 120.0
MAX_DECISIONS = 1024
MAX_BODY = 3 << 20
TOKEN_REVIEWS = GroupVersionResource("authentication.k8s.io", "v1", "tokenreviews")
User = tuple[str, tuple[str, ...]]
"""(name, groups)"""
REVIEWS = GroupVersionResource("authorization.k8s.io", "v1", "subjectaccessreviews")
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch",
          "DELETE": "delete"}  # fmt: skip
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "logs": "log", "checkpoint": "checkpoint"}
_FINE_GRAINED = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}


class ServedKubelet(KubeletHost, Protocol):
    client: Client


class AccessReviews:
    """Asks the API server whether a client may; answers are kept for a while."""

    def __init__(self, client: Client, clock: Clock, node_name: str) -> None:
        self._client = client
        self._clock = clock
        self._node_name = node_name
        self._decisions: OrderedDict[tuple[Any, ...], tuple[bool, float]] = OrderedDict()

    async def allowed(self, user: str, groups: tuple[str, ...], verb: str, path: str) -> bool:
        """:raises StatusError: the API server did not say."""
        if MASTERS in groups:
            return True
        for subresource in subresources_of(path):
            if await self._ask(user, groups, verb, subresource):
                return True
        return False

    async def _ask(self, user: str, groups: tuple[str, ...], verb: str, subresource: str) -> bool:
        key = (user, groups, verb, subresource)
        known = self._decisions.get(key)
        if known is not None and known[1] > self._clock.monotonic():
            return known[0]
        await asyncio.sleep(0)  # see KubeletServer.request
        review = await self._client.create(REVIEWS, {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": {
                "user": user,
                "groups": list(dict.fromkeys((*groups, "system:authenticated"))),
                "resourceAttributes": {
                    "verb": verb, "version": "v1", "resource": "nodes",
                    "subresource": subresource, "name": self._node_name,
                },
            },
        })  # fmt: skip
        allowed = bool((review.get("status") or {}).get("allowed"))
        until = self._clock.monotonic() + (ALLOWED_SECONDS if allowed else DENIED_SECONDS)
        self._decisions[key] = (allowed, until)
        if len(self._decisions) > MAX_DECISIONS:
            self._decisions.popitem(last=False)
        return allowed


class TokenReviews:
    """Whose a token is, asked of the API server; answers are kept for a while, by digest."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[User | None, float]] = OrderedDict()

    async def user(self, token: str) -> User | None:
        """None: nobody's. :raises StatusError: the API server did not say."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and known[1] > self._clock.monotonic():
            return known[0]
        await asyncio.sleep(0)  # see KubeletServer.request
        review = await self._client.create(TOKEN_REVIEWS, {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token},
        })  # fmt: skip
        status = review.get("status") or {}
        told = status.get("user") or {}
        user = None
        if status.get("authenticated") and told.get("username"):
            user = (told["username"], tuple(told.get("groups") or ()))
        self._known[digest] = (user, self._clock.monotonic() + TOKEN_SECONDS)
        if len(self._known) > MAX_DECISIONS:
            self._known.popitem(last=False)
        return user


def subresources_of(path: str) -> list[str]:
    """The sub-resources of ``nodes`` any of which gives access to ``path``."""
    root = path.strip("/").split("/", 1)[0].lower()
    if root in _SUBRESOURCES:
        return [_SUBRESOURCES[root]]
    return [_FINE_GRAINED[root], "proxy"] if root in _FINE_GRAINED else ["proxy"]


class KubeletHTTPHandler:
    """``componentbase.serving.HTTPHandler`` of a kubelet's port."""

    def __init__(
        self, server: KubeletServer, reviews: AccessReviews, tokens: TokenReviews | None = None
    ) -> None:
        self._server = server
        self._reviews = reviews
        self._tokens = tokens

    async def handle(self, request: HTTPRequest) -> HTTPResponse:
        try:
            return await self._handle(request)
        except Exception:
            log.exception("a bug in answering %s", request.target[:200])
            return PlainResponse(500, b"Internal Server Error")

    async def _handle(self, request: HTTPRequest) -> HTTPResponse:
        raw, _, query = request.target.decode("latin-1").partition("?")
        path = unquote(raw)
        refused = await self._refuse(request, path)
        if refused is not None:
            return refused
        if request.upgrade is not None:
            reader, writer = await request.upgrade()
            await self._server.upgrade(request.method, path, query, request.headers, reader, writer)
            return PlainResponse(hijacked=True)
        answer = await self._server.request(
            request.method, path, query, request.headers, request.body
        )
        return PlainResponse(
            answer.status, answer.body, answer.content_type, answer.headers, answer.chunks
        )

    async def _refuse(self, request: HTTPRequest, path: str) -> PlainResponse | None:
        user = self._user_of(request)
        try:
            user = user or await self._user_by_token(request)
        except (StatusError, OSError) as error:
            log.warning("could not ask whose a token is: %s", error)
        if user is None:
            return PlainResponse(401, b"Unauthorized")
        verb = _VERBS.get(request.method, "")
        try:
            if await self._reviews.allowed(*user, verb, path):
                return None
        except (StatusError, OSError) as error:
            log.warning("could not ask what %s may do: %s", user[0], error)
            return PlainResponse(
                500, f"Authorization error (user={user[0]}, verb={verb}, resource=nodes)".encode()
            )
        text = (
            f"Forbidden (user={user[0]}, verb={verb}, resource=nodes, "
            f"subresource(s)=[{' '.join(subresources_of(path))}])\n"
        )
        return PlainResponse(403, text.encode())

    def _user_of(self, request: HTTPRequest) -> tuple[str, tuple[str, ...]] | None:
        """(name, groups) by the certificate; None without (a usable) one."""
        if request.peer_der is None:
            return None
        known = request.connection.get("user")
        if known is None:
            try:
                fields = read_certificate(request.peer_der)
            except ValueError:
                return None
            if not fields.common_name:
                return None
            groups = tuple(fields.values(ORGANIZATION))
            known = request.connection["user"] = (fields.common_name, groups)
        return known

    async def _user_by_token(self, request: HTTPRequest) -> User | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if self._tokens is None or scheme.lower() != "bearer" or not token.strip():
            return None
        return await self._tokens.user(token.strip())

    def body_limit(self, method: str, target: bytes) -> int:
        return MAX_BODY

    def too_large(self, method: str, target: bytes) -> HTTPResponse:
        return PlainResponse(413, b"Request Entity Too Large")


async def serve(
    kubelet: ServedKubelet, config: KubeletConfig, tls: ssl.SSLContext | None = None
) -> HTTPServer:
    """Listens on the node's address, inside its network namespace if it has one. ``tls``: instead
    of the certificate's files.

    ``await server.stop()`` ends it. :raises OSError, ssl.SSLError: it cannot listen.
    """
    if tls is None:
        tls = await asyncio.to_thread(
            server_context, config.tls_cert_file, config.tls_private_key_file, config.client_ca_file
        )
    listener = await asyncio.to_thread(open_socket_in, config.netns, config.node_ip, config.port)
    reviews = AccessReviews(kubelet.client, kubelet.clock, config.node_name)
    tokens = TokenReviews(kubelet.client, kubelet.clock)
    handler = KubeletHTTPHandler(KubeletServer(kubelet), reviews, tokens)
    server = HTTPServer(handler, name="kubelet API")
    try:
        await server.listen(tls=tls, sockets=[listener])
    except BaseException:
        listener.close()
        raise
    return server
