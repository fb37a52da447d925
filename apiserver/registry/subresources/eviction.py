"""``pods/eviction``: a delete that disruption budgets can refuse (core/pod EvictionREST)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import (
    StatusError,
    is_conflict,
    new_bad_request,
    new_forbidden,
    new_too_many_requests,
)
from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import condition_of, copy_object
from pilothouse.apimachinery.schema import GroupResource, GroupVersionKind
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.endpoints.body import decode_kind
from pilothouse.apiserver.endpoints.options import (
    check_delete_options,
    manager_name,
    parse_write_options,
)
from pilothouse.apiserver.endpoints.responses import object_response
from pilothouse.apiserver.registry.before import check_delete_preconditions, ensure_namespace
from pilothouse.apiserver.registry.subresources.pods import set_condition
from pilothouse.apiserver.registry.write import Write

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

_KIND = GroupVersionKind("policy", "v1", "Eviction")
_OLD_KIND = GroupVersionKind("policy", "v1beta1", "Eviction")
_BUDGETS = GroupResource("policy", "poddisruptionbudgets")
_MAX_DISRUPTED_PODS = 2000
_ATTEMPTS = 20
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    from pilothouse.apis.schemas import definition

    info = request.info
    options = parse_write_options(request.query, "CreateOptions")
    schema = definition("io.k8s.api.policy.v1.Eviction")
    old = b"policy/v1beta1" in request.body  # still understood, and the same
    kind = _OLD_KIND if old else _KIND
    eviction = decode_kind(server, request, kind, schema, options.field_validation)
    if (eviction["metadata"].get("name") or "") != info.name:
        raise new_bad_request("name in URL does not match name in Eviction object")
    ensure_namespace(eviction["metadata"], info.namespace)
    delete = _delete_options(eviction, options.dry_run)
    check_delete_options(delete)
    assert request.user is not None
    write = Write(
        served,
        info.namespace,
        info.name,
        request.user,
        subresource="eviction",
        dry_run=bool(delete.get("dryRun")),
        manager=manager_name(options, request.headers.get("user-agent", "")),
        options=options.wire("CreateOptions"),
        warnings=request.warnings,
        audit_annotations=request.audit_annotations,
        kind=_KIND,
    )
    attributes = write.attributes("CREATE", eviction, None)
    await server.admission.admit(attributes)
    await server.admission.validate(attributes)
    if attributes.obj is not eviction:
        delete = _delete_options(attributes.obj or {}, options.dry_run)
    await Evictor(server, served, write, delete).evict()
    return object_response(request, dict(_SUCCESS), 201)


def _delete_options(eviction: Obj, dry_run: bool) -> Obj:
    delete = dict(eviction.get("deleteOptions") or {})
    if dry_run and not delete.get("dryRun"):
        delete["dryRun"] = ["All"]
    return delete


class Evictor:
    """One eviction."""

    def __init__(
        self, server: Server, pods: ServedResource, write: Write, delete_options: Obj
    ) -> None:
        self._server = server
        self._pods = pods
        self._write = write
        self._options = delete_options
        self._own_version = bool((delete_options.get("preconditions") or {}).get("resourceVersion"))

    async def evict(self) -> None:
        """:raises StatusError: 404, 409, 429 the budget does not allow it."""
        for attempt in range(_ATTEMPTS):
            pod = await self._pod()
            if not _can_ignore_budget(pod):
                break
            # A pod that does not run yet must not become healthy behind our back.
            fixed = (pod.get("status") or {}).get("phase") == "Pending"
            try:
                return await self._delete(pod if fixed and not self._own_version else None)
            except StatusError as error:
                if not is_conflict(error) or self._own_version or attempt == _ATTEMPTS - 1:
                    raise
        name, version_counts = await self._ask_budget(pod)
        try:
            await self._delete(pod if version_counts else None)
        except StatusError as error:
            if is_conflict(error) and version_counts and not self._own_version:
                raise _processing(name) from error
            raise

    async def _pod(self) -> Obj:
        return (await self._pods.store.get(self._write.namespace, self._write.name)).obj

    async def _ask_budget(self, pod: Obj) -> tuple[str, bool]:
        """(budget's name, whether the delete must fit this very version of the pod)."""
        budgets = self._server.registry.by_group_resource(_BUDGETS)
        assert budgets is not None
        await budgets.store.cacher.wait_until_fresh()
        matching = [b for b in self._budgets(budgets) if _selects(b, pod)]
        if not matching:
            return "", False
        if len(matching) > 1:
            raise StatusError(
                500,
                "",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource "
                "does not support.",
            )
        budget = matching[0]
        name: str = budget["metadata"]["name"]
        if not _is_ready(pod) and _may_evict_unhealthy(budget):
            return name, True
        await self._decrement(budgets, name, pod)
        return name, False

    def _budgets(self, budgets: ServedResource) -> list[Obj]:
        prefix = budgets.list_prefix(self._write.namespace)
        return [entry.obj for entry in budgets.store.cacher.list(prefix)[0]]

    async def _decrement(self, budgets: ServedResource, name: str, pod: Obj) -> None:
        now = self._server.clock.now()

        def change(budget: Obj) -> Obj:
            return decremented(budget, pod["metadata"]["name"], format_time(now))

        write = Write(
            budgets,
            self._write.namespace,
            name,
            self._write.user,
            subresource="status",
            dry_run=self._write.dry_run,
            manager="kube-apiserver",  # which does this as its own client
        )
        await budgets.store.write_through(write, change)

    async def _delete(self, fixed: Obj | None) -> None:
        """Marks the pod as a target of disruption, then deletes it. ``fixed``: only if it is
        still this version."""
        options = copy_object(self._options)
        if fixed is not None:
            preconditions = options.setdefault("preconditions", {})
            preconditions["resourceVersion"] = fixed["metadata"]["resourceVersion"]
        store, write = self._pods.store, self._write
        now = format_time(self._server.clock.now())

        def mark(pod: Obj) -> Obj:
            check_delete_preconditions(pod, options, "", "Pod")
            marked: Obj = copy_object(pod)
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            }
            set_condition(marked.setdefault("status", {}), condition, now)
            return marked

        if not write.dry_run:
            entry = await store.write_through(write, mark, tracked=False)
            if (options.get("preconditions") or {}).get("resourceVersion"):
                options["preconditions"]["resourceVersion"] = str(entry.revision)
        await store.delete(write, options)


def _can_ignore_budget(pod: Obj) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or bool(
        pod["metadata"].get("deletionTimestamp")
    )


def _is_ready(pod: Obj) -> bool:
    condition = condition_of(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def _selects(budget: Obj, pod: Obj) -> bool:
    selector = selector_from_label_selector((budget.get("spec") or {}).get("selector"))
    return selector.matches(pod["metadata"].get("labels"))


def _may_evict_unhealthy(budget: Obj) -> bool:
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy") or 0
    return desired > 0 and (status.get("currentHealthy") or 0) >= desired


def decremented(budget: Obj, pod_name: str, now: str) -> Obj:
    """The budget with one disruption less. :raises StatusError: 403, 429."""
    name = budget["metadata"]["name"]
    status = dict(budget.get("status") or {})
    generation = budget["metadata"].get("generation") or 0
    if (status.get("observedGeneration") or 0) < generation:
        raise _processing(name)
    allowed = status.get("disruptionsAllowed") or 0
    disrupted = dict(status.get("disruptedPods") or {})
    if allowed < 0:
        reason = "pdb disruptions allowed is negative"
        raise _forbidden(name, reason, reason)
    if len(disrupted) > _MAX_DISRUPTED_PODS:
        unconfirmed = "evictions not confirmed by PDB controller"
        raise _forbidden(
            name,
            f"DisruptedPods map too big - too many {unconfirmed}",
            f"too many pending {unconfirmed}",
        )
    if allowed == 0:
        raise _needed(name, status)
    status["disruptionsAllowed"] = allowed - 1
    if allowed == 1:
        condition = {
            "type": "DisruptionAllowed",
            "status": "False",
            "reason": "InsufficientPods",
            "observedGeneration": generation,
            "message": "",
        }
        set_condition(status, condition, now)
    disrupted[pod_name] = now
    status["disruptedPods"] = disrupted
    return {**copy_object(budget), "status": status}


def _refused(message: str, retry: int) -> StatusError:
    error = new_too_many_requests(_REFUSED, retry)
    assert error.details is not None
    if not retry:
        error.details = {}
    error.details["causes"] = [{"reason": "DisruptionBudget", "message": message}]
    return error


def _processing(name: str) -> StatusError:
    """The controller has not looked at the budget's newest generation."""
    return _refused(f"The disruption budget {name} is still being processed by the server.", 10)


def _forbidden(name: str, reason: str, detail: str) -> StatusError:
    error = new_forbidden(GroupResource("policy", "poddisruptionbudget"), name, reason)
    message = f"The disruption budget {name} does not allow evicting pods currently: {detail}"
    assert error.details is not None
    error.details["causes"] = [{"reason": "DisruptionBudget", "message": message}]
    return error


def _needed(name: str, status: Obj) -> StatusError:
    condition = condition_of({"status": status}, "DisruptionAllowed") or {}
    told = condition.get("message") if condition.get("status") == "False" else ""
    refused = f"The disruption budget {name} does not allow evicting pods currently"
    desired, current = status.get("desiredHealthy") or 0, status.get("currentHealthy") or 0
    if told and condition.get("reason") == "SyncFailed":
        return _refused(f"{refused} because it failed sync: {told}", 0)
    if current <= desired:
        return _refused(
            f"The disruption budget {name} needs {desired} healthy pods and has {current} "
            "currently",
            0,
        )
    if told:
        return _refused(f"{refused} ({condition.get('reason') or ''}): {told}", 0)
    return _refused(refused, 0)
