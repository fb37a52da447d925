"""The way to one extension server: TLS as its APIService says, users in headers, bodies streamed.

One :class:`Extension` stands for the state of one APIService's spec; a changed spec makes a new
one. Requests go to a ready endpoint of the Service (an ExternalName service: to that name) and
carry the front proxy's client certificate, whose word on the user the extension server takes.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilothouse.apiserver.aggregator.api_service import (
    SERVICE_NAME_LABEL,
    ServiceReference,
    addresses,
    group_version,
    is_available,
    service_reference,
)
from pilothouse.apiserver.proxy import connect, http_request, pass_through, upgrade_head
from pilothouse.apiserver.request.context import Response, UserInfo
from pilothouse.kubeclient.resources import ENDPOINT_SLICES, SERVICES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers
    from pilothouse.apiserver.config import ServerConfig
    from pilothouse.apiserver.request.context import Request

CONNECT_TIMEOUT = 30.0
AGGREGATOR = UserInfo("system:kube-aggregator", ("system:masters",))
_SAFE = "/:@!$&'()*+,;=~"
_TEXT = "text/plain; charset=utf-8"
# RFC 7230's token characters, the percent sign aside, that Go's headerKeyEscape keeps.
_HEADER_SAFE = "!#$&'*+-.^_`|~"


def text_response(status: int, text: str) -> Response:
    """As Go's ``http.Error`` answers: upstream's proxy makes no Status objects."""
    headers = [("X-Content-Type-Options", "nosniff")]
    return Response(status, f"{text}\n".encode(), _TEXT, headers)


def unavailable() -> Response:
    return text_response(503, "service unavailable")


def user_headers(user: UserInfo) -> list[tuple[str, str]]:
    """X-Remote-User and its like (transport.SetAuthProxyHeaders)."""
    headers = [("X-Remote-User", _header_text(user.name))]
    if user.uid:
        headers.append(("X-Remote-Uid", _header_text(user.uid)))
    headers += [("X-Remote-Group", _header_text(group)) for group in user.groups]
    headers += [
        (f"X-Remote-Extra-{quote(key, safe=_HEADER_SAFE)}", _header_text(value))
        for key, values in user.extra
        for value in values
    ]
    return headers


def _header_text(value: str) -> str:
    """UTF-8 as it is, through a head that is written as latin-1; no line ends."""
    clean = "".join(char for char in value if char >= " " and char != "\x7f")
    return clean.encode("utf-8", "replace").decode("latin-1")


def slices_of(listers: Listers, reference: ServiceReference) -> list[Obj]:
    return [
        each
        for each in listers.list(ENDPOINT_SLICES.group_resource, reference.namespace)
        if (each["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL) == reference.name
    ]


class Unreachable(OSError):
    """There is no endpoint to send a request to."""


class Extension:
    """One APIService with a service. ``changed`` takes over what changes without its spec."""

    def __init__(
        self, api_service: Obj, config: ServerConfig, listers: Listers, random: Random
    ) -> None:
        reference = service_reference(api_service)
        assert reference is not None
        self.name: str = api_service["metadata"]["name"]
        self.spec: Obj = api_service["spec"]
        self.group, self.version = group_version(api_service)
        self.reference = reference
        self.available = is_available(api_service)
        self.own_address: tuple[str, int] | None = None
        """Where this server itself listens: the Service default/kubernetes leads there."""
        self._config = config
        self._listers = listers
        self._random = random
        self._context: ssl.SSLContext | None = None

    @property
    def root(self) -> str:
        """The path that the group version is served below."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    # -- where and how -------------------------------------------------------------------

    def endpoints(self) -> list[tuple[str, int]]:
        """Where to try, in order. :raises Unreachable: nowhere."""
        reference = self.reference
        if self.own_address and reference.host == "kubernetes.default.svc":
            return [self.own_address]
        service = self._listers.get(SERVICES.group_resource, reference.namespace, reference.name)
        if service is None:
            raise Unreachable(f'service "{reference.name}" not found')
        if service["spec"].get("type") == "ExternalName":
            return [(service["spec"].get("externalName") or "", reference.port)]
        found = addresses(service, slices_of(self._listers, reference), reference.port)
        if not found:
            raise Unreachable(f'no endpoints available for service "{reference.name}"')
        self._random.shuffle(found)
        return found

    def tls(self) -> ssl.SSLContext:
        """:raises ssl.SSLError, OSError, ValueError: the bundle or our certificate is no good."""
        if self._context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            bundle = self.spec.get("caBundle")
            if self.spec.get("insecureSkipTLSVerify"):
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            elif bundle:
                context.load_verify_locations(cadata=base64.b64decode(bundle).decode())
                # Python 3.13 asks for extensions that Go doesn't; older ones have no flag for it.
                context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
            else:
                context.load_default_certs()
            if self._config.proxy_client_cert_file:
                context.load_cert_chain(
                    self._config.proxy_client_cert_file, self._config.proxy_client_key_file
                )
            self._context = context
        return self._context

    async def _open(
        self, timeout: float, endpoints: Sequence[tuple[str, int]] = ()
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        """A connection to the first endpoint that takes one. :raises OSError: none does."""
        failure: OSError = Unreachable("no endpoints")
        for host, port in endpoints or self.endpoints():
            try:
                opened = await connect(host, port, self.tls(), timeout, self.reference.host)
                return (*opened, f"{host}:{port}")
            except OSError as error:
                reason = error if str(error) else type(error).__name__
                failure = OSError(f"dial tcp {host}:{port}: {reason}")
            except ValueError as error:
                failure = OSError(f"unable to load root certificates: {error}")
        raise failure

    # -- requests ------------------------------------------------------------------------

    async def fetch(
        self,
        path: str,
        headers: dict[str, str],
        *,
        timeout: float,
        endpoint: tuple[str, int] | None = None,
    ) -> tuple[int, str, bytes, dict[str, str]]:
        """GET for the aggregator itself: (status, content type, body, headers).

        :raises OSError, StatusError: no answer in time.
        """
        await asyncio.sleep(0)  # a timeout needs a task that has begun
        async with asyncio.timeout(timeout):
            reader, writer, host = await self._open(timeout, [endpoint] if endpoint else ())
            try:
                answer = await http_request(
                    reader, writer, "GET", path, host, headers, b"", user_headers(AGGREGATOR)
                )
                body = answer.body
                if answer.chunks is not None:
                    body = b"".join([chunk async for chunk in answer.chunks])
            finally:
                writer.close()
        found = {name.lower(): value for name, value in answer.headers}
        return answer.status, answer.content_type, body, found

    async def handle(self, request: Request) -> Response:
        """Passes a request on. Answers 503 itself when there is nobody to pass it to."""
        if not self.available:
            return unavailable()
        return await self.forward(request, request.path, request.raw_query, request.body)

    async def forward(self, request: Request, path: str, query: str, body: bytes) -> Response:
        assert request.user is not None
        target = quote(path, safe=_SAFE) + (f"?{query}" if query else "")
        try:
            reader, writer, host = await self._open(CONNECT_TIMEOUT)
        except Unreachable:
            return unavailable()
        except OSError as error:
            return text_response(503, f"error trying to reach service: {error}")
        identity = user_headers(request.user)
        if request.upgrade is not None:
            client_reader, client_writer = await request.upgrade()
            writer.write(upgrade_head(request.method, target, host, request.headers, identity))
            await pass_through(client_reader, client_writer, reader, writer)
            return Response(hijacked=True)
        headers = {**request.headers, "x-forwarded-uri": quote(path, safe=_SAFE)}
        if "host" in request.headers:
            headers["x-forwarded-host"] = request.headers["host"]
        if request.audit_id:
            headers["audit-id"] = request.audit_id
        answer = await http_request(
            reader, writer, request.method, target, host, headers, body, identity
        )
        answer.headers = [
            ("Cache-Control", value) if name == "cache-control" else (name, value)
            for name, value in answer.headers
            if name != "audit-id"
        ]
        return answer
