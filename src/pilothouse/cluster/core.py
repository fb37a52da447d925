"""One cluster put together: API server, controllers, scheduler, nodes, in one event loop.

Order of start: certificates → API server (serving, bootstrap) → in parallel: controllers,
scheduler and nodes with their proxies → Ready. Stopping goes the other way round. Everything that a
part needs is given to it here; no part looks for another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.clock import Clock, RealClock
from pilothouse.apiserver.config import ServerConfig
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.server import APIServer
from pilothouse.apiserver.storage.errors import StorageError, Untransformable
from pilothouse.cluster.config import ClusterConfig, ConfigError
from pilothouse.cluster.state import ProcessId, write_private
from pilothouse.componentbase.activity import ActivityTracker
from pilothouse.componentbase.certs import ClusterPKI, kubeconfig
from pilothouse.kubeclient.cache.factory import SharedInformerFactory
from pilothouse.kubeclient.interfaces import Component, Environment
from pilothouse.kubeclient.resources import NODES, SERVICE_ACCOUNTS

if TYPE_CHECKING:
    from pilothouse.cluster.nodes import Nodes

log = logging.getLogger(__name__)
ISSUER = "https://kubernetes.default.svc.cluster.local"
START_SECONDS = 110.0
AUTHENTICATED = "system:authenticated"
_USER_AGENTS = {
    "system:serviceaccount:kube-system": "kube-controller-manager",
    "system:node": "kubelet",
}
"""Programs by their users, the last part of the name aside: the names in managedFields."""


class StartFailure(Exception):
    """The cluster cannot start; the message says why and what to do."""


class ClusterCore:
    """Runs on the loop that calls :meth:`start`; nothing of it is shared with another cluster."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        report: Callable[[str], None] = lambda message: None,
        clock: Clock | None = None,
        merge_context: bool = True,
    ) -> None:
        self.config = config
        self.clock = clock or RealClock()
        seed = config.seed if config.seed is not None else SystemRandom().getrandbits(64)
        self.random = Random(seed)
        self.activity = ActivityTracker()
        self.notes: list[str] = []
        self.runtime_name = config.runtime
        self.context_is_current = False
        self.nodes: Nodes | None = None
        self._report = report
        self._merge_context = merge_context
        self._directory = config.directory
        self._components: list[Component] = []
        self._informers: SharedInformerFactory | None = None
        self.server: APIServer | None = None
        self.pki: ClusterPKI | None = None

    # -- what others ask -----------------------------------------------------------------

    @property
    def client(self) -> Any:
        """A client with administrator's rights."""
        return self.client_as("kubernetes-admin", "system:masters")

    def client_as(self, user: str, *groups: str) -> Any:
        assert self.server is not None
        agent = _USER_AGENTS.get(user.rpartition(":")[0], user.rpartition(":")[2])
        return self.server.local_client(UserInfo(user, (*groups, AUTHENTICATED)), agent)

    @property
    def server_url(self) -> str:
        assert self.server is not None
        return self.server.url

    @property
    def own_kubeconfig(self) -> Path:
        return self._directory / "kubeconfig"

    @property
    def user_kubeconfig(self) -> Path:
        from pilothouse.kubeclient.kubeconfig import default_path

        return Path(self.config.kubeconfig) if self.config.kubeconfig else default_path()

    def helper_processes(self) -> list[ProcessId]:
        return self.nodes.processes() if self.nodes is not None else []

    def summary(self) -> str:
        """One line about what is running."""
        config = self.config
        parts = [f"storage {config.storage}"]
        if "kubelet" in config.components and config.nodes:
            plural = "s" if config.nodes != 1 else ""
            parts.append(f"{config.nodes} node{plural}, runtime {self.runtime_name}")
        missing = [c for c in ("scheduler", "controller-manager", "kubelet", "proxy", "dns")
                   if c not in config.components]  # fmt: skip
        if missing:
            parts.append(f"without {', '.join(missing)}")
        return "; ".join(parts)

    def health(self) -> dict[str, str]:
        """Components that are not healthy, with the reason."""
        return {c.name: text for c in self._components if (text := c.health()) is not None}

    async def settle(self, timeout: float = 30.0) -> None:
        """:raises TimeoutError: with what was still busy."""
        try:
            async with asyncio.timeout(timeout):
                await self.activity.settle()
        except TimeoutError:
            busy = ", ".join(self.activity.busy()) or "nothing any more"
            raise TimeoutError(f"not settled after {timeout:g} s; busy: {busy}") from None

    # -- starting ------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when the cluster is Ready. Call ``stop`` in any case.

        :raises StartFailure: it can't be; nothing is left running after ``stop``.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._start()
        except TimeoutError as error:
            trouble = "; ".join(f"{k}: {v}" for k, v in self.health().items()) or "no reason known"
            raise StartFailure(f"not Ready after {START_SECONDS:.0f} s ({trouble})") from error
        except ConfigError as error:
            raise StartFailure(str(error)) from error
        except StorageError as error:
            hint = ""
            if self.config.storage == "etcd":
                hint = f" (is etcd at {','.join(self.config.etcd_servers)}? see --etcd-servers)"
            raise StartFailure(f"{error}{hint}") from error
        log.info(
            "cluster %s is ready after %.3f s", self.config.name, time.perf_counter() - started
        )

    async def _start(self) -> None:
        config = self.config
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with_nodes = "kubelet" in config.components and config.nodes > 0
        if with_nodes:
            await self._prepare_nodes()
        self.config = config = self.config.with_default_networks()
        if self.nodes is not None:
            self.nodes.config = config
        etcd = f" (with etcd at {','.join(config.etcd_servers)})" if config.etcd_servers else ""
        self._report(f"starting the API server{etcd}")
        await self._start_server()
        environment = self._environment()
        if "controller-manager" in config.components:
            self._components.append(self._controller_manager(environment))
            await self._make_default_storage_class()
        if "scheduler" in config.components:
            self._components.append(self._scheduler(environment))
        if self.nodes is not None:
            self._components.extend(self.nodes.components(environment))
        self._report("starting the controllers, the scheduler and the nodes")
        assert self.server is not None
        checks = {component.name: component.health for component in self._components}
        self.server.server.services["components"] = checks
        await asyncio.gather(*(component.start() for component in self._components))
        await self._wait_ready(with_nodes)
        # What probes of a static pod do elsewhere: /metrics/slis isn't empty.
        for health in self.server.health.values():
            await health.run()
        self._write_kubeconfigs()
        if self._merge_context and "controller-manager" in config.components:
            await self._publish_for_joining()

    async def _publish_for_joining(self) -> None:
        """A cluster that others can see has what machines that join it look for."""
        from pilothouse.apimachinery.errors import StatusError
        from pilothouse.cluster.joining import publish

        assert self.pki is not None
        try:
            ca = self.pki.crt("ca").read_bytes()
            await publish(self.client, self.server_url, ca, self.config)
        except StatusError as error:
            log.warning("could not publish what joining machines need: %s", error)

    async def _prepare_nodes(self) -> None:
        from pilothouse.cluster.nodes import Nodes

        self.nodes = Nodes(self)
        await self.nodes.prepare()
        self.runtime_name = self.nodes.runtime_name

    async def _start_server(self) -> None:
        config = self.config
        self.pki = pki = ClusterPKI(self._directory / "pki", self.clock.now())
        addresses = self.nodes.server_addresses() if self.nodes is not None else []
        service_ip = first_address(config.service_cidr)
        pki.apiserver(ips=[config.bind_address, service_ip, *addresses])
        pki.service_account_key()
        pki.client("admin", rsa=config.rsa_admin_key)
        pki.front_proxy_client()
        server_config = ServerConfig(
            bind_address=config.bind_address,
            secure_port=config.port,
            tls_cert_file=str(pki.crt("apiserver")),
            tls_private_key_file=str(pki.key("apiserver")),
            client_ca_file=str(pki.crt("ca")),
            requestheader_client_ca_file=str(pki.crt("front-proxy-ca")),
            requestheader_allowed_names=("front-proxy-client",),
            proxy_client_cert_file=str(pki.crt("front-proxy-client")),
            proxy_client_key_file=str(pki.key("front-proxy-client")),
            advertise_address=addresses[0] if addresses else config.bind_address,
            storage=config.storage,  # type: ignore[arg-type]
            resource_metrics=config.resource_metrics,
            data_dir=str(self._directory),
            durability=config.durability,  # type: ignore[arg-type]
            etcd_servers=config.etcd_servers,
            etcd_cafile=config.etcd_cafile,
            etcd_certfile=config.etcd_certfile,
            etcd_keyfile=config.etcd_keyfile,
            service_account_issuer=(ISSUER,),
            service_account_key_file=(str(pki.sa_pub),),
            service_account_signing_key_file=str(pki.sa_key),
            service_cluster_ip_range=config.service_cidr,
            enable_bootstrap_token_auth=True,
            enable_admission_plugins=("NodeRestriction",)
            if self.nodes is not None or self._merge_context
            else (),
            # Without controllers nobody makes the default ServiceAccounts (as in envtest).
            disable_admission_plugins=()
            if "controller-manager" in config.components
            else ("ServiceAccount",),
            **self._kubelet_access(),
            **self._server_settings(),
        )
        try:
            self.server = APIServer(server_config, self.clock, self.random, self.activity)
            await self.server.start()
            for address in addresses:
                await self.server.serve(address, self.server.port)
        except OSError as error:
            raise StartFailure(self._explain(error)) from error
        except Untransformable as error:
            raise StartFailure(f"{error}; see --encryption-provider-config") from error
        except ValueError as error:
            if not config.server_flags:
                raise
            raise StartFailure(f"API server: {error}") from error

    def _kubelet_access(self) -> dict[str, Any]:
        """How the API server reaches kubelets that run elsewhere and have joined."""
        if not self._merge_context:
            return {}
        assert self.pki is not None
        self.pki.client("apiserver-kubelet-client")
        return {
            "kubelet_client_certificate": str(self.pki.crt("apiserver-kubelet-client")),
            "kubelet_client_key": str(self.pki.key("apiserver-kubelet-client")),
            "kubelet_certificate_authority": str(self.pki.crt("ca")),
        }

    def _server_settings(self) -> dict[str, Any]:
        """What the user wants of the API server beside what a cluster needs."""
        if not self.config.server_flags:
            return {}
        from pilothouse.cluster.server_flags import settings_of

        try:
            return settings_of(self.config.server_flags)
        except ValueError as error:
            raise StartFailure(str(error)) from error

    def _explain(self, error: OSError) -> str:
        import errno

        where = f"{self.config.bind_address}:{self.config.port}"
        if error.errno == errno.EADDRINUSE:
            return (
                f"{where} is in use by another program or cluster; "
                "use --port 0 for a free port, or another --port"
            )
        if error.errno == errno.EADDRNOTAVAIL:
            return (
                f"{self.config.bind_address} is not an address of this machine; see --bind-address"
            )
        if error.errno == errno.EACCES:
            return f"not allowed to listen on {where}: use a port above 1023"
        return str(error)

    def _environment(self) -> Environment:
        # The informers are shared by all components, so they see what the administrator sees.
        client = self.client
        self._informers = SharedInformerFactory(client, self.clock, self.random, self.activity)
        return Environment(client, self._informers, self.clock, self.random, self.activity)

    def environment_as(self, environment: Environment, user: str, *groups: str) -> Environment:
        """The same environment with a client that acts as ``user``."""
        client = self.client_as(user, *groups)
        return Environment(
            client, environment.informers, environment.clock, environment.random,
            environment.activity, dict(environment.extra),
        )  # fmt: skip

    def _manager_settings(self) -> dict[str, Any]:
        if not self.config.manager_flags:
            return {}
        from pilothouse.cluster.manager_flags import settings_of

        try:
            return settings_of(self.config.manager_flags)
        except ValueError as error:
            raise StartFailure(str(error)) from error

    def _controller_manager(self, environment: Environment) -> Component:
        from pilothouse.controllermanager.config import ControllerManagerConfig
        from pilothouse.controllermanager.manager import ControllerManager

        assert self.pki is not None
        config = ControllerManagerConfig(
            controllers=("*", "bootstrapsigner", "tokencleaner"),
            root_ca=self.pki.crt("ca").read_text(),
            use_service_account_credentials=True,
            local_path_root=str(self._directory / "nodes"),
            service_account_private_key_file=str(self.pki.sa_key),
            cluster_signing_cert_file=str(self.pki.crt("ca")),
            cluster_signing_key_file=str(self.pki.key("ca")),
            **self._manager_settings(),
        )
        env = self.environment_as(environment, "system:kube-controller-manager")
        accounts = ("system:serviceaccounts", "system:serviceaccounts:kube-system")
        env.extra["client_for"] = lambda user: self.client_as(user, *accounts)
        return ControllerManager(env, config)

    async def _make_default_storage_class(self) -> None:
        """``standard``, for claims that name no class; left alone when it is there."""
        from pilothouse.apimachinery.errors import StatusError, is_already_exists
        from pilothouse.controllermanager.persistent_volume.local_path import (
            default_storage_class,
        )
        from pilothouse.kubeclient.resources import STORAGE_CLASSES

        try:
            await self.client.create(STORAGE_CLASSES, default_storage_class())
        except StatusError as error:
            if not is_already_exists(error):
                raise

    def _scheduler(self, environment: Environment) -> Component:
        from pilothouse.scheduler.config import SchedulerConfig
        from pilothouse.scheduler.scheduler import Scheduler

        config = SchedulerConfig()
        try:
            if self.config.scheduler_config:
                from pilothouse.scheduler.component_config import load

                config = load(Path(self.config.scheduler_config).read_text(), config)
            return Scheduler(self.environment_as(environment, "system:kube-scheduler"), config)
        except (OSError, ValueError) as error:
            raise StartFailure(
                f"--scheduler-config {self.config.scheduler_config}: {error}"
            ) from error

    async def _wait_ready(self, with_nodes: bool) -> None:
        """Nodes Ready and the default ServiceAccount there: ``kubectl run`` works at once."""
        if with_nodes:
            self._report("waiting for the nodes")
            await self._until(
                NODES, "", lambda nodes: sum(map(_is_ready, nodes)) >= self.config.nodes
            )
        if "controller-manager" in self.config.components:
            self._report("waiting for the default ServiceAccount")
            await self._until(
                SERVICE_ACCOUNTS, "default",
                lambda accounts: any(a["metadata"]["name"] == "default" for a in accounts),
            )  # fmt: skip

    async def _until(
        self, resource: Any, namespace: str, condition: Callable[[list[Any]], bool]
    ) -> None:
        """Watches until the condition holds for the current objects."""
        watch = await self.client.watch(resource, namespace, send_initial_events=True)
        current: dict[str, Any] = {}
        try:
            async for batch in watch:
                for event in batch:
                    if event.type != "BOOKMARK":
                        current[event.object["metadata"]["name"]] = event.object
                if condition(list(current.values())):
                    return
        finally:
            await watch.close()
        raise StartFailure(f"the API server ended a watch of {resource.resource}")

    def _write_kubeconfigs(self) -> None:
        import json

        assert self.pki is not None
        name = self.config.name
        config = kubeconfig(
            name, self.server_url, ca=self.pki.crt("ca").read_bytes(), user=name,
            client=self.pki.client("admin"),
        )  # fmt: skip
        write_private(self.own_kubeconfig, json.dumps(config, indent=1))
        if not self._merge_context:
            return
        from pilothouse.kubeclient.kubeconfig import merge_context

        try:
            merge_context(self.user_kubeconfig, config)
            self.context_is_current = True
        except (OSError, ValueError) as error:
            self.notes.append(
                f"could not merge the context into {self.user_kubeconfig}: {error}; "
                f"use KUBECONFIG={self.own_kubeconfig}"
            )

    # -- stopping ------------------------------------------------------------------------

    async def stop(self) -> None:
        """Ends everything; safe after a failed start."""
        components, self._components = self._components, []
        for component in reversed(components):
            try:
                await component.stop()
            except Exception:
                log.exception("stopping %s failed", component.name)
        if self._informers is not None:
            await self._informers.stop()
        if self.nodes is not None:
            await self.nodes.close()
        if self.server is not None:
            await self.server.stop()


def _is_ready(node: Any) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def first_address(cidr: str) -> str:
    """The address that the ``kubernetes`` Service gets."""
    import ipaddress

    return str(ipaddress.ip_network(cidr)[1])
