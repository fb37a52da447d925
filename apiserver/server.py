"""An API server: puts the parts together and runs them on the current event loop.

start: open the store → fill the registry → listers → authorizer, authenticator, admission →
routes → serve → bootstrap objects. Kinds, stores and caches come into being when they are first
used, so that starting costs the same whatever is served. Many servers can live in one process.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.apiextensions.controller import CustomResources
from pilothouse.apiserver.application import PATHS, LazyApplication
from pilothouse.apiserver.endpoints import root
from pilothouse.apiserver.endpoints.handler import APIHandler, Server
from pilothouse.apiserver.filters.audit import AuditedHandler
from pilothouse.apiserver.handler_chain import HTTPEdge
from pilothouse.apiserver.kubelet_connection import HTTPSNodes, LocalNodes
from pilothouse.apiserver.listers import CacheListers
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.metrics import APIServerMetrics
from pilothouse.apiserver.metrics_collected import (
    install_metrics,
    measured_admission,
    measured_storage,
)
from pilothouse.apiserver.registry.context import RegistryContext
from pilothouse.apiserver.registry.kinds import Kinds
from pilothouse.apiserver.registry.resources import ResourceRegistry
from pilothouse.apiserver.request.context import Response, UserInfo
from pilothouse.apiserver.shutdown import Drain, install_checks, keep_last, shut_down
from pilothouse.apiserver.storage.compaction import compactor_for, run_compaction
from pilothouse.apiserver.storage.factory import StorageConfig, open_storage
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.componentbase.serving.http_server import HTTPServer
from pilothouse.componentbase.tasks import TaskOwner

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apiserver.aggregator.aggregator import Aggregator
    from pilothouse.apiserver.aggregator.remote_openapi import RemoteOpenAPI
    from pilothouse.apiserver.audit.auditor import Auditor
    from pilothouse.apiserver.bootstrap.kubernetes_service import KubernetesService
    from pilothouse.apiserver.config import ServerConfig
    from pilothouse.apiserver.flowcontrol.controller import FlowController
    from pilothouse.apiserver.flowcontrol.ensure import BootstrapKeeper
    from pilothouse.apiserver.request.context import Request
    from pilothouse.apiserver.storage.interfaces import Storage
    from pilothouse.apiserver.tracing import Tracing
    from pilothouse.apiserver.webhook.client import WebhookClient

log = logging.getLogger(__name__)

MASTERS = "system:masters"
SERVICES = GroupResource("", "services")
SERVICE_CIDRS = GroupResource("networking.k8s.io", "servicecidrs")
LOOPBACK = UserInfo("system:apiserver", (MASTERS, "system:authenticated"))
"""Whom the server itself acts as (bootstrap objects, allocators)."""

Hook = Callable[["APIServer"], Awaitable[None]]


class APIServer:
    """``storage`` and ``random`` may be given by tests; all else comes from ``config``."""

    def __init__(
        self,
        config: ServerConfig,
        clock: Clock,
        random: Random | None = None,
        activity: ActivityTracker | None = None,
        *,
        storage: Storage | None = None,
    ) -> None:
        config.validate()
        self.config = config
        self.clock = clock
        self.random = random or Random()
        self.activity = activity or ActivityTracker()
        self.tasks = TaskOwner("apiserver")
        self.measurements = APIServerMetrics()
        """Where requests are counted; ``metrics`` is what /metrics shows of it."""
        self.metrics = self.measurements.registry
        self.registry = ResourceRegistry()
        self.storage = storage or open_storage(_storage_config(config), clock)
        self.listers = CacheListers(self.registry, self.tasks)
        self.context = RegistryContext(
            clock, self.random, self.listers, config=config, metrics=self.metrics
        )
        self.local_nodes = LocalNodes(HTTPSNodes(config, self.listers))
        """Kubelets of this process register here."""
        self.post_start_hooks: list[tuple[str, Hook]] = [("bootstrap", _bootstrap)]
        """Run in order after serving has begun and before ``start`` returns."""
        self.custom: CustomResources | None = None
        """What CRDs stand for."""
        self.aggregator: Aggregator | None = None
        """Group versions that other servers answer for."""
        self.kinds: Kinds | None = None
        """Stores of all kinds; set once the store is open."""
        self.auditor: Auditor | None = None
        """Writes the audit log, when there is one."""
        self.tracing: Tracing | None = None
        self.flow_control: FlowController | None = None
        """Priority and fairness, unless it is off."""
        self._keeper: BootstrapKeeper | None = None
        self.kubernetes_service: KubernetesService | None = None
        self.drain = Drain(send_retry_after=config.shutdown_send_retry_after)
        self.stopping = False
        """True: /readyz fails; nothing new is begun."""
        self._http: HTTPServer | None = None
        self._tls: ssl.SSLContext | None = None
        self.port = 0
        self.ready = False

    async def start(self, *, serve: bool = True) -> None:
        """Returns when the server is Ready; ``serve=False``: in-process clients only.

        :raises StorageError, OSError, ValueError: it can't be started; ``stop`` cleans up.
        """
        config = self.config
        await self.storage.start()
        await self._build()
        assert self.kinds is not None
        self.custom = CustomResources(self, self.kinds.late_admission)
        await self.custom.start()
        self.aggregator = await self._aggregate()
        self.edge = HTTPEdge(self.server, self.api)
        self._http = HTTPServer(self.edge, name="apiserver-http")
        if serve:
            await self.serve(config.bind_address, config.secure_port)
        for name, hook in self.post_start_hooks:
            log.debug("post-start hook %s", name)
            await hook(self)
        self.aggregator.register()
        compaction = run_compaction(
            compactor_for(self.storage), self.clock, config.etcd_compaction_interval
        )
        self.tasks.start(compaction, "compaction")
        self.ready = True
        if self.flow_control is not None:
            from pilothouse.apiserver.flowcontrol.ensure import BootstrapKeeper

            self._keeper = BootstrapKeeper(self)
            self._keeper.start()

    async def _build(self) -> None:
        """Everything between the store and the first request."""
        from pilothouse.apiserver.admission.chain import build_admission
        from pilothouse.apiserver.authentication.build import build_authenticator
        from pilothouse.apiserver.authorization.build import build_authorizer
        from pilothouse.apiserver.registry.reviews import ReviewServices
        from pilothouse.apiserver.registry.subresources.token import build_token_issuer

        config, context, listers = self.config, self.context, self.listers
        await self._set_up_encryption()
        self.kinds = kinds = Kinds(
            self.registry, self.storage, context, writes=measured_storage(self)
        )
        self.registry.add(*kinds.served())
        self.authorizer = build_authorizer(
            config, listers, clock=self.clock, random=self.random, tasks=self.tasks
        )
        authenticator = build_authenticator(
            config,
            listers,
            self.clock,
            random=self.random,
            tasks=self.tasks,
            metrics=self.metrics,
        )
        self.admission = build_admission(config, context, authorizer=self.authorizer)
        self.admission.hooks.registry = self.registry
        self.admission.hooks.webhooks = self._webhooks
        self.admission.hooks.metrics = self.metrics
        kinds.admission = measured_admission(self)
        await listers.settled()
        await self._restore_allocators()
        self.server = Server(
            config,
            self.clock,
            self.random,
            self.registry,
            self.storage,
            context,
            self.authorizer,
            self.admission,
            self.local_nodes,
            self.activity,
            self.tasks,
            services={
                "metrics": self.measurements,
                "drain": self.drain,
                "authenticator": authenticator,
                "reviews": ReviewServices(authenticator, self.authorizer, self.clock),
                "tokens": build_token_issuer(
                    config, authenticator, listers, self.clock, self.random
                ),
            },
        )
        await self._build_auditor()
        self._build_tracing()
        await self._build_flow_control()
        self.api = APIHandler(self.server)
        self._install_routes()

    def _build_tracing(self) -> None:
        path = self.config.tracing_config_file
        if not path:
            return
        try:
            from pilothouse.apiserver.tracing import load_tracing
        except ModuleNotFoundError as error:
            raise ValueError(f"--tracing-config-file needs pilothouse[tracing]: {error}") from error
        self.server.services["tracing"] = self.tracing = load_tracing(path)

    async def _build_flow_control(self) -> None:
        config = self.config
        seats = config.max_requests_inflight + config.max_mutating_requests_inflight
        if not config.enable_priority_and_fairness or not seats:
            return
        from pilothouse.apiserver.flowcontrol.controller import FlowController
        from pilothouse.apiserver.flowcontrol.metrics import flow_control_metrics

        self.flow_control = control = FlowController(self.listers, self.clock, seats)
        self.server.services["flowcontrol"] = control
        self.metrics.add(*flow_control_metrics(control))
        await control.start()

    async def _build_auditor(self) -> None:
        """Nothing of it is even imported unless the flags ask for it."""
        if not (self.config.audit_log_path or self.config.audit_webhook_config_file):
            return
        from pilothouse.apiserver.audit.auditor import build_auditor

        auditor = build_auditor(self.config, self.clock, self.tasks)
        if auditor is not None:
            self.server.services["audit"] = self.auditor = auditor
            self.metrics.add(*auditor.metrics)
            await auditor.start()

    async def _aggregate(self) -> Aggregator:
        from pilothouse.apiserver.aggregator.aggregator import Aggregator
        from pilothouse.apiserver.aggregator.metrics.group import served as metrics_resources

        if self.config.resource_metrics:
            self.registry.add(*metrics_resources())
        aggregator = Aggregator(self)
        self.discovery.remote = aggregator
        await aggregator.start()
        return aggregator

    def _webhooks(self) -> WebhookClient:
        from pilothouse.apiserver.webhook.client import webhook_client

        return webhook_client(self.context)

    async def _set_up_encryption(self) -> None:
        """Before the first cache is filled."""
        if self.config.encryption_provider_config:
            from pilothouse.apiserver.storage.encryption.build import build_encryption

            self.context.encryption = await build_encryption(self.config, self.clock, self.tasks)

    async def _restore_allocators(self) -> None:
        """Cluster addresses and node ports as the Services in the store have them."""
        from pilothouse.apiserver.registry.core.service_allocators import ServiceAllocators

        cidrs = [cidr for cidr in self.config.service_cluster_ip_range.split(",") if cidr]
        first, _, last = self.config.service_node_port_range.partition("-")
        allocators = ServiceAllocators(cidrs, (int(first), int(last)), self.random)
        await self.listers.ensure(SERVICE_CIDRS)
        self.listers.subscribe(
            SERVICE_CIDRS, lambda event, obj, _: allocators.service_cidr_changed(event, obj)
        )
        await self.listers.ensure(SERVICES)
        allocators.rebuild(self.listers.list(SERVICES))
        self.context.allocators = allocators
        if not self.storage.synchronous_watch:
            from pilothouse.apiserver.registry.core import shared_allocations as shared

            guard = shared.SharedAllocations(self.storage, self.storage, self.clock, self.random)
            await guard.repair(self.listers)
            shared.follow(self.listers, allocators)

    def _install_routes(self) -> None:
        from pilothouse.apiserver.endpoints.discovery import Discovery

        self.health = root.install(self.server, self.api, self.metrics)
        root.install_oidc(self.server, self.api, lambda: self.discovery.server_address)
        discovery = Discovery(self.registry)

        async def discover(request: Request) -> Response:
            return discovery.respond(request.path, request.headers, request.method)

        self.discovery = discovery
        for prefix in ("/api", "/apis"):
            self.api.routes[prefix] = discover
            self.api.prefixes.append((f"{prefix}/", discover))
        self._install_openapi()
        application = LazyApplication(self.health, self.metrics, self.tasks)
        for path in PATHS:
            self.api.routes[path] = application.handle

        install_metrics(self)
        install_checks(self, self.health)
        encryption = self.context.encryption
        if encryption is not None and encryption.uses_plugins:
            keep_last(self.health, "kms-providers", encryption.problem)
        if self.config.profiling:
            from pilothouse.apiserver.endpoints import debug

            debug.install(self.server, self.api)

    def _install_openapi(self) -> None:
        """Documents are made on first use: their modules are not imported here."""
        registry = self.registry
        made: dict[str, Any] = {}

        async def remote() -> RemoteOpenAPI | None:
            documents = self.aggregator.openapi if self.aggregator is not None else None
            if documents is not None:
                await documents.refresh()
            return documents

        async def v3(request: Request) -> Response:
            document = made.get("v3")
            if document is None:
                from pilothouse.apiserver.endpoints.openapi_v3 import OpenAPIV3

                document = made["v3"] = OpenAPIV3(registry, clock=self.clock)
            documents = await remote()
            if documents is not None:
                document.merge(documents.v3())
                path = request.path.removeprefix("/openapi/v3").strip("/")
                found: Response | None = await documents.document(path, request)
                if found is not None:
                    return found
            answer: Response = document.respond(request.path, request.headers, request.query)
            if request.connection is None:  # in process; upstream calls its index a text
                answer.content_type = "application/json"
            return answer

        async def v2(request: Request) -> Response:
            document = made.get("v2")
            if document is None:
                from pilothouse.apiserver.endpoints.openapi_v2 import OpenAPIV2

                document = made["v2"] = OpenAPIV2(registry)
            documents = await remote()
            if documents is not None:
                document.merge(documents.v2())
            await document.prepare(request.headers)
            answer: Response = document.respond(request.headers)
            return answer

        self.api.routes["/openapi/v3"] = v3
        self.api.prefixes.append(("/openapi/v3/", v3))
        self.api.routes["/openapi/v2"] = v2

    # serving

    def tls(self) -> ssl.SSLContext | None:
        """The serving context; None without a certificate (plain HTTP, for tests only)."""
        config = self.config
        if self._tls is None and config.tls_cert_file:
            from pilothouse.componentbase.serving.tls import server_context

            self._tls = server_context(
                config.tls_cert_file, config.tls_private_key_file, config.client_ca_file
            )
            if config.requestheader_client_ca_file:
                self._tls.load_verify_locations(config.requestheader_client_ca_file)
            files = [config.client_ca_file, config.requestheader_client_ca_file]
            if config.client_ca_file:
                from pilothouse.componentbase.serving.client_authorities import (
                    name_client_authorities,
                )

                name_client_authorities(self._tls, [file for file in files if file])
        return self._tls

    async def serve(
        self, host: str = "", port: int = 0, *, sockets: Sequence[socket.socket] = ()
    ) -> int:
        """Listens on one more address or on bound ``sockets``; returns the port.

        :raises OSError: the address is in use or not ours.
        """
        assert self._http is not None
        listening = await self._http.listen(
            host or self.config.bind_address, port, tls=self.tls(), sockets=sockets
        )
        if not self.port:
            self.port = listening
            address = self.config.advertise_address or host or self.config.bind_address
            self.discovery.server_address = f"{address}:{listening}"
        return listening

    @property
    def url(self) -> str:
        scheme = "https" if self.config.tls_cert_file else "http"
        host = self.config.bind_address
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1"
        return f"{scheme}://{host}:{self.port}"

    def local_client(self, user: UserInfo = LOOPBACK, user_agent: str = "") -> LocalClient:
        """A client in this process that acts as ``user``."""
        handler: Any = self.api
        if self.auditor is not None:
            handler = AuditedHandler(self.server, self.api)
        return LocalClient(handler, user, self.activity, user_agent)

    async def shut_down(self) -> None:
        """As SIGTERM asks for: nobody's request fails that could be finished."""
        await shut_down(self)

    async def stop(self, grace: float = 2.0) -> None:
        """Ends everything that ``start`` began; safe after a failed start."""
        self.ready = False
        self.stopping = True
        if self.kubernetes_service is not None:
            await self.kubernetes_service.leave()
        for part in (self._keeper, self.flow_control):
            if part is not None:
                part.stop()
        if self._http is not None:
            await self._http.stop(grace)
        for last in (self.auditor, self.tracing):
            if last is not None:
                await last.close()
        self.auditor = self.tracing = None
        await self.tasks.close()
        if self.aggregator is not None:
            self.aggregator.stop()
        if self.custom is not None:
            await self.custom.close()
        if self.kinds is not None:
            await self.kinds.close()
        await self.storage.close()


async def _bootstrap(server: APIServer) -> None:
    from pilothouse.apiserver.bootstrap.run import run_bootstrap

    await run_bootstrap(server)


def _storage_config(config: ServerConfig) -> StorageConfig:
    return StorageConfig(
        kind=config.storage,
        path=Path(config.data_dir or ".") / "state.db",
        durability=config.durability,
        etcd_servers=config.etcd_servers,
        etcd_cafile=config.etcd_cafile,
        etcd_certfile=config.etcd_certfile,
        etcd_keyfile=config.etcd_keyfile,
    )
