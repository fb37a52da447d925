"""HTTP extenders: webhooks that filter, rank and bind (pkg/scheduler/extender.go).

They are asked after the plugins, one after the other; their client is made when the first of them
is used.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.interfaces import MAX_NODE_SCORE, Code, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.preemption import Candidate, importance

MAX_EXTENDER_PRIORITY = 10
DEFAULT_TIMEOUT = 5.0


class ExtenderError(Exception):
    """It could not be asked, or answered with an error."""


@dataclass(frozen=True, slots=True)
class ExtenderConfig:
    """An entry of ``extenders``; the names are upstream's."""

    url_prefix: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    bind_verb: str = ""
    preempt_verb: str = ""
    weight: int = 1
    enable_https: bool = False
    tls: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = DEFAULT_TIMEOUT
    node_cache_capable: bool = False
    managed_resources: frozenset[str] = frozenset()
    ignored_resources: frozenset[str] = frozenset()
    """Managed resources that NodeResourcesFit must not look at."""
    ignorable: bool = False


class Extender:
    def __init__(self, config: ExtenderConfig) -> None:
        self.config = config
        self._session: Any = None

    @property
    def name(self) -> str:
        return self.config.url_prefix

    def is_interested(self, pod: PodInfo) -> bool:
        managed = self.config.managed_resources
        if not managed:
            return True
        containers = [
            *(pod.obj["spec"].get("containers") or ()),
            *(pod.obj["spec"].get("initContainers") or ()),
        ]
        for container in containers:
            resources = container.get("resources") or {}
            if managed & {*(resources.get("requests") or ()), *(resources.get("limits") or ())}:
                return True
        return False

    async def filter(
        self, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> tuple[list[NodeInfo], dict[str, Status]]:
        """(those that stay, why the others don't). :raises ExtenderError:"""
        if not self.config.filter_verb:
            return list(nodes), {}
        answer = await self._send(self.config.filter_verb, self._args(pod, nodes))
        if answer.get("error"):
            raise ExtenderError(str(answer["error"]))
        names = answer.get("nodenames") if self.config.node_cache_capable else None
        if names is None:
            items = (answer.get("nodes") or {}).get("items") or ()
            names = [node["metadata"]["name"] for node in items]
        by_name = {node.name: node for node in nodes}
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise ExtenderError(
                f'extender "{self.name}" claims a filtered node "{unknown[0]}" which is not found '
                "in the input node list"
            )
        refused = {
            name: Status(code, (reason,), self.name)
            for key, code in (
                ("failedNodes", Code.UNSCHEDULABLE),
                ("failedAndUnresolvableNodes", Code.UNRESOLVABLE),
            )
            for name, reason in (answer.get(key) or {}).items()
        }
        return [by_name[name] for name in names], refused

    async def prioritize(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> dict[str, int]:
        """Weighted scores by node, on the scale of the plugins' scores."""
        if not self.config.prioritize_verb:
            return {}
        answer = await self._send(self.config.prioritize_verb, self._args(pod, nodes))
        factor = self.config.weight * (MAX_NODE_SCORE // MAX_EXTENDER_PRIORITY)
        return {entry["host"]: int(entry["score"]) * factor for entry in answer or ()}

    async def preempt(
        self, pod: PodInfo, candidates: Sequence[Candidate], nodes: Mapping[str, NodeInfo]
    ) -> list[Candidate]:
        """The candidates that it agrees with, with the victims that it wants.

        :raises ExtenderError: also when it names pods or nodes that are not there.
        """
        answer = await self._send(self.config.preempt_verb, self._preemption_args(pod, candidates))
        chosen = []
        for name, victims in (answer.get("nodeNameToMetaVictims") or {}).items():
            if name not in nodes:
                raise ExtenderError(f'node "{name}" not found')
            pods = []
            for entry in (victims or {}).get("pods") or ():
                victim = nodes[name].pods.get(entry["uid"])
                if victim is None:
                    raise ExtenderError(
                        f"extender: {self.name} claims to preempt pod (UID: {entry['uid']}) on "
                        f"node: {name}, but the pod is not found on that node"
                    )
                pods.append(victim)
            if pods:
                violations = int(victims.get("numPDBViolations") or 0)
                chosen.append(Candidate(name, tuple(sorted(pods, key=importance)), violations))
            elif not self.config.ignorable:
                raise ExtenderError(f'expected at least one victim pod on node "{name}"')
        return chosen

    def _preemption_args(self, pod: PodInfo, candidates: Sequence[Candidate]) -> Obj:
        if self.config.node_cache_capable:
            short = {
                c.node: {
                    "pods": [{"uid": v.uid} for v in c.victims],
                    "numPDBViolations": c.violations,
                }
                for c in candidates
            }
            return {"pod": pod.obj, "nodeNameToMetaVictims": short}
        whole = {
            c.node: {"pods": [v.obj for v in c.victims], "numPDBViolations": c.violations}
            for c in candidates
        }
        return {"pod": pod.obj, "nodeNameToVictims": whole}

    async def bind(self, pod: PodInfo, node_name: str) -> None:
        args = {
            "podName": pod.name,
            "podNamespace": pod.namespace,
            "podUID": pod.uid,
            "node": node_name,
        }
        answer = await self._send(self.config.bind_verb, args)
        if answer.get("error"):
            raise ExtenderError(str(answer["error"]))

    def _args(self, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Obj:
        if self.config.node_cache_capable:
            return {"pod": pod.obj, "nodes": None, "nodenames": [node.name for node in nodes]}
        listed = {"metadata": {}, "items": [node.obj for node in nodes]}
        return {"pod": pod.obj, "nodes": listed, "nodenames": None}

    async def _send(self, verb: str, args: Obj) -> Any:
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls_context())
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=self.config.timeout)
            )
        url = f"{self.config.url_prefix.rstrip('/')}/{verb}"
        try:
            async with self._session.post(url, json=args) as response:
                if response.status != 200:
                    raise ExtenderError(
                        f"failed {verb} with extender at URL {url}, code {response.status}"
                    )
                return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ExtenderError(f'Post "{url}": {error or type(error).__name__}') from error

    def _tls_context(self) -> ssl.SSLContext | bool:
        if not self.config.enable_https:
            return True
        tls = self.config.tls
        context = ssl.create_default_context(cafile=tls.get("caFile") or None)
        if tls.get("insecure") or not (tls.get("caFile") or tls.get("caData")):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif tls.get("caData"):
            import base64

            context.load_verify_locations(cadata=base64.b64decode(tls["caData"]).decode())
        if tls.get("certFile"):
            context.load_cert_chain(tls["certFile"], tls.get("keyFile"))
        return context

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
