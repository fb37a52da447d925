"""Dynamic resource allocation on the node: a pod's claims are prepared by their drivers before its
containers start, and unprepared after they have ended (pkg/kubelet/cm/dra)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj, get_nested, name_of, namespace_of, uid_of
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.resource_claims import (
    claim_name_of,
    is_for_pod,
    is_reserved_for,
    not_for_pod,
)
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import RESOURCE_CLAIMS
from pilothouse.kubelet.plugins.claim_states import ClaimState, ClaimStates, prepared_devices
from pilothouse.kubelet.plugins.drivers import DeviceKey, Drivers
from pilothouse.kubelet.plugins.messages import node_prepare, node_unprepare
from pilothouse.kubelet.plugins.rpc import PluginError

log = logging.getLogger(__name__)


class ClaimManager:
    def __init__(
        self,
        client: Client,
        clock: Clock,
        node_name: str,
        directory: str,
        kick: Callable[[str], None],
        where: Callable[[str], str],
    ) -> None:
        """``kick(pod uid)``: its status has changed. ``where``: see ``Drivers``."""
        self._client = client
        self._states = ClaimStates(directory)
        self._kick = kick
        self.drivers = Drivers(client, clock, node_name, self._health_changed, where)

    async def start(self, active: Iterable[str]) -> None:
        """``active``: uids of pods that are still there."""
        try:
            self._states.load()
        except (OSError, ValueError, KeyError) as error:
            log.error("state of resource claims: %s", error)
        await self.drivers.start()
        there = set(active)
        for uid in {uid for state in self._states.all() for uid in state.pods} - there:
            try:
                await self._unprepare(uid)
            except PluginError as error:
                log.warning("claims of pod %s: %s", uid, error)

    async def stop(self) -> None:
        await self.drivers.stop()

    # -- before the pod runs -------------------------------------------------------------

    async def prepare(self, pod: Obj) -> None:
        """:raises PluginError: not (yet)."""
        try:
            batches = await self._collect(pod)
        except StatusError as error:
            raise PluginError(str(error)) from error
        if not batches:
            return
        for name, states in batches.items():
            await self._prepare(name, states)
        for states in batches.values():
            for state in states:
                state.prepared = True
        self._save()

    async def _collect(self, pod: Obj) -> dict[str, list[ClaimState]]:
        """The claims that must be prepared, by driver."""
        uid = uid_of(pod)
        batches: dict[str, list[ClaimState]] = {}
        changed = False
        for name, must_own in _claims_of(pod):
            known = self._states.get(namespace_of(pod), name)
            if known is not None and known.prepared and uid in known.pods:
                continue  # asked again: nothing has changed
            claim = await self._claim(pod, name, must_own)
            state = ClaimState.of(claim)
            for driver in state.drivers:
                self.drivers.get(driver)
            if known is None:
                known = state
                self._states.add(state)
            elif known.uid != state.uid:
                raise PluginError(
                    f"old ResourceClaim with same name {name} and different UID {known.uid} still "
                    "exists (previous pod force-deleted?!)"
                )
            elif known.unpreparing:
                raise PluginError(f"ResourceClaim {name} is being unprepared")
            known.pods.add(uid)
            changed = True
            if not known.prepared:
                for driver in known.drivers:
                    batches.setdefault(driver, []).append(known)
        if changed:
            self._save()
        return batches

    async def _claim(self, pod: Obj, name: str, must_own: bool) -> Obj:
        try:
            claim = await self._client.get(RESOURCE_CLAIMS, name, namespace_of(pod))
        except StatusError as error:
            raise PluginError(f"fetch ResourceClaim {name}: {error}") from error
        if must_own and not is_for_pod(pod, claim):
            raise PluginError(not_for_pod(pod, claim))
        if not is_reserved_for(pod, claim):
            raise PluginError(
                f"pod {name_of(pod)} ({uid_of(pod)}) is not allowed to use ResourceClaim {name} "
                f"({uid_of(claim)})"
            )
        if not get_nested(claim, "status", "allocation"):
            raise PluginError(f"ResourceClaim {name}: claim {name} is not allocated")
        return claim

    async def _prepare(self, name: str, states: list[ClaimState]) -> None:
        driver = self.drivers.get(name)
        request = {"claims": [state.reference for state in states]}
        try:
            answer = await driver.channel.call(node_prepare(driver.service), request)
        except PluginError as error:
            raise PluginError(f"NodePrepareResources: {error}") from error
        results = answer["claims"]
        _check("NodePrepareResources", states, results)
        for state in states:
            state.drivers[name] = prepared_devices(results[state.uid]["devices"])

    # -- while it runs -------------------------------------------------------------------

    def devices(self, pod: Obj, container: Obj) -> list[str]:
        """CDI names. :raises PluginError: a claim is not prepared."""
        names: list[str] = []
        for claim, request in _requests_of(pod, container):
            state = self._states.get(namespace_of(pod), claim)
            if state is None:
                raise PluginError(
                    f"internal error: unable to get claim info for ResourceClaim {claim} in "
                    f"namespace {namespace_of(pod)}"
                )
            for devices in state.drivers.values():
                names += [cdi for d in devices if d.serves(request) for cdi in d.cdi]
        return names

    def health(self, pod: Obj, container: Obj) -> list[Obj]:
        """For ``allocatedResourcesStatus``."""
        entries = {e["name"]: e for e in pod["spec"].get("resourceClaims") or ()}
        found: dict[str, list[Obj]] = {}
        for use in (container.get("resources") or {}).get("claims") or ():
            entry, request = entries.get(use["name"]), use.get("request") or ""
            claim = claim_name_of(pod, entry) if entry else None
            state = self._states.get(namespace_of(pod), claim) if claim else None
            if state is None:
                continue
            title = f"claim:{use['name']}" + (f"/{request}" if request else "")
            found[title] = self._devices_health(state, request)
        return [{"name": name, "resources": known} for name, known in found.items() if known]

    def _devices_health(self, state: ClaimState, request: str) -> list[Obj]:
        found: dict[str, Obj] = {}
        for driver, devices in state.drivers.items():
            for device in devices:
                if not device.serves(request):
                    continue
                name = device.cdi[0] if device.cdi else f"{driver}/{device.pool}/{device.name}"
                health = self.drivers.health(driver, (device.pool, device.name))
                entry: Obj = {"resourceID": name, "health": health.text}
                if health.message:
                    entry["message"] = health.message
                found.setdefault(name, entry)
        return list(found.values())

    def _health_changed(self, driver: str, devices: set[DeviceKey]) -> None:
        for state in self._states.all():
            if any((d.pool, d.name) in devices for d in state.drivers.get(driver, ())):
                for uid in state.pods:
                    self._kick(uid)

    # -- after it ran --------------------------------------------------------------------

    async def unprepare(self, pod: Obj) -> None:
        """:raises PluginError: not (yet)."""
        await self._unprepare(uid_of(pod))

    async def _unprepare(self, uid: str) -> None:
        batches: dict[str, list[ClaimState]] = {}
        last = []
        for state in self._states.of_pod(uid):
            if len(state.pods) > 1:
                state.pods.discard(uid)
                continue
            state.unpreparing = True
            last.append(state)
            for name in state.drivers:
                batches.setdefault(name, []).append(state)
        for name, states in batches.items():
            driver = self.drivers.get(name)
            request = {"claims": [state.reference for state in states]}
            try:
                answer = await driver.channel.call(node_unprepare(driver.service), request)
            except PluginError as error:
                raise PluginError(f"NodeUnprepareResources: {error}") from error
            _check("NodeUnprepareResources", states, answer["claims"])
        for state in last:
            self._states.remove(state)
        self._save()

    def _save(self) -> None:
        try:
            self._states.save()
        except OSError as error:
            raise PluginError(f"checkpoint ResourceClaim state: {error}") from error


def _check(method: str, states: list[ClaimState], results: dict[str, Obj]) -> None:
    """:raises PluginError: not all claims were done."""
    names = {state.uid: state.name for state in states}
    for uid, result in results.items():
        if uid not in names:
            raise PluginError(f"{method} returned result for unknown claim UID {uid}")
        if result["error"]:
            raise PluginError(f"{method} failed for ResourceClaim {names[uid]}: {result['error']}")
    if len(results) < len(states):
        raise PluginError(f"{method} skipped {len(states) - len(results)} ResourceClaims")


def uses_claims(pod: Obj) -> bool:
    return bool(pod["spec"].get("resourceClaims")) or bool(_extended(pod))


def _extended(pod: Obj) -> Obj:
    status: Obj = get_nested(pod, "status", "extendedResourceClaimStatus") or {}
    return status


def _claims_of(pod: Obj) -> list[tuple[str, bool]]:
    """(name, whether the pod must own it). :raises PluginError: one is not made yet."""
    found = []
    for entry in pod["spec"].get("resourceClaims") or ():
        name = claim_name_of(pod, entry)
        if name is None:
            continue
        if not name:
            raise PluginError(
                f'pod "{namespace_of(pod)}/{name_of(pod)}": ResourceClaim not created yet'
            )
        found.append((name, bool(entry.get("resourceClaimTemplateName"))))
    if _extended(pod):
        found.append((_extended(pod)["resourceClaimName"], False))
    return found


def _requests_of(pod: Obj, container: Obj) -> list[tuple[str, str]]:
    """(claim, request or '' for all) that the container uses."""
    resources = container.get("resources") or {}
    entries = {e["name"]: e for e in pod["spec"].get("resourceClaims") or ()}
    found = []
    for use in resources.get("claims") or ():
        entry = entries.get(use["name"])
        name = claim_name_of(pod, entry) if entry else None
        if name:
            found.append((name, use.get("request") or ""))
    asked = {n for n, q in (resources.get("requests") or {}).items() if Quantity.parse(q)}
    for mapping in _extended(pod).get("requestMappings") or ():
        if mapping["containerName"] == container["name"] and mapping["resourceName"] in asked:
            found.append((_extended(pod)["resourceClaimName"], mapping["requestName"]))
    return found
