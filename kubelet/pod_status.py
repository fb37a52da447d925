"""A pod's API status from its spec, the runtime and the probes (pure; status/generate.go).

Only what the kubelet owns: conditions of others (readiness gates) are read, not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pilothouse.apimachinery.object import Obj, condition_of
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.core.pod_helpers import all_containers_could_restart
from pilothouse.apis.core.qos import pod_qos
from pilothouse.kubelet.pod_phase import pod_phase
from pilothouse.kubelet.resource_status import container_resources_status, pod_resources_status
from pilothouse.kubelet.runtime import restart_all
from pilothouse.kubelet.runtime.interfaces import ContainerStatus, Resources
from pilothouse.kubelet.runtime.pod_actions import PodRuntimeStatus, is_sidecar

Reason = tuple[str, str]
"""(reason, message) why a container waits."""


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """Everything that the status is made of, besides the pod."""

    runtime: PodRuntimeStatus
    runtime_scheme: str
    """Prefix of container ids: ``crun`` in ``crun://<id>``."""
    now: datetime
    host_ips: tuple[str, ...] = ()
    waiting: Mapping[str, Reason] = field(default_factory=dict)
    """By container name: CrashLoopBackOff, ErrImagePull, CreateContainerConfigError…"""
    ready: frozenset[str] = frozenset()
    """Container ids that readiness probes (or the lack of one) call ready."""
    started: frozenset[str] = frozenset()
    terminating: bool = False
    """The pod is being or has been stopped for good."""
    failure: Reason | None = None
    """Why the pod as a whole failed: Evicted, DeadlineExceeded…"""
    sandbox_ready_condition: bool = True
    resize_pending: Reason | None = None
    """Why the spec's resources are not (yet) given: Infeasible or Deferred."""
    resize_progress: Reason | None = None
    """They are being given; ("Error", why) when that does not work; else empty texts."""
    given: Mapping[str, Obj] = field(default_factory=dict)
    """Effective resources of the running containers (by id) that don't have those of the spec."""
    given_pod: Resources | None = None
    """Those of the pod's cgroup when they aren't those of the spec."""


def generate_status(pod: Obj, inputs: StatusInputs) -> Obj:
    """The whole status, from which the status manager takes what has changed."""
    spec, old = pod["spec"], pod.get("status") or {}
    runtime = inputs.runtime
    init_specs = spec.get("initContainers") or []
    default_wait = "PodInitializing" if init_specs else "ContainerCreating"
    restarting = restart_all.condition_holds(old) or restart_all.triggered(spec, runtime)
    make = _ContainerStatuses(inputs, old, restarting)
    containers = make.all(spec.get("containers") or (), "containerStatuses", default_wait)
    init = make.all(init_specs, "initContainerStatuses", "PodInitializing")
    ephemeral = make.all(
        spec.get("ephemeralContainers") or (), "ephemeralContainerStatuses", "ContainerCreating"
    )
    phase = pod_phase(spec, containers, init, terminating=inputs.terminating)
    if inputs.failure:
        phase = "Failed"
    if old.get("phase") in ("Succeeded", "Failed"):
        phase = old["phase"]  # final
    status: Obj = {"phase": phase, "qosClass": old.get("qosClass") or pod_qos(pod)}
    if inputs.failure:
        status["reason"], status["message"] = inputs.failure
    elif phase == old.get("phase") and old.get("reason"):
        status["reason"], status["message"] = old["reason"], old.get("message") or ""
    if inputs.host_ips:
        status["hostIP"] = inputs.host_ips[0]
        status["hostIPs"] = [{"ip": ip} for ip in inputs.host_ips]
    ips = _pod_ips(spec, runtime, inputs, old)
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]
    status["startTime"] = old.get("startTime") or format_time(inputs.now)
    status["containerStatuses"] = containers
    if init:
        status["initContainerStatuses"] = init
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    status |= pod_resources_status(pod, phase, inputs.given_pod)
    generation = pod["metadata"].get("generation")
    if generation:
        status["observedGeneration"] = generation
    status["conditions"] = _conditions(pod, status, containers, init, inputs)
    return status


def _pod_ips(
    spec: Obj, runtime: PodRuntimeStatus, inputs: StatusInputs, old: Obj
) -> tuple[str, ...]:
    if spec.get("hostNetwork"):
        return inputs.host_ips
    sandbox = runtime.sandbox
    if sandbox is not None and sandbox.ips:
        return sandbox.ips
    return tuple(entry["ip"] for entry in old.get("podIPs") or ())


# -- containers --------------------------------------------------------------------------


class _ContainerStatuses:
    def __init__(self, inputs: StatusInputs, old: Obj, restarting: bool) -> None:
        """``restarting``: all containers of the pod are removed and start anew."""
        self._inputs = inputs
        self._old = old
        self._restarting = restarting

    def all(self, specs: Iterable[Obj], field_name: str, default_wait: str) -> list[Obj]:
        previous = {s["name"]: s for s in self._old.get(field_name) or ()}
        return [self._one(spec, previous.get(spec["name"]), default_wait) for spec in specs]

    def _one(self, spec: Obj, previous: Obj | None, default_wait: str) -> Obj:
        name = spec["name"]
        history = self._inputs.runtime.containers.get(name) or ()
        reason = self._inputs.waiting.get(name)
        if not history:
            return self._without_container(spec, previous, reason, default_wait)
        newest = history[0]
        status: Obj = {
            "name": name,
            "restartCount": max(newest.attempt, (previous or {}).get("restartCount", 0)),
            "image": newest.image or spec.get("image") or "",
            "imageID": newest.image_id,
            "containerID": self._id(newest.id),
            "lastState": {},
        }
        if reason is not None and newest.state != "running":
            status["state"] = {"waiting": _waiting(reason)}
            if newest.state == "exited":
                status["lastState"] = {"terminated": self._terminated(newest)}
        else:
            status["state"] = self._state(newest, default_wait)
            if len(history) > 1 and history[1].state == "exited":
                status["lastState"] = {"terminated": self._terminated(history[1])}
            elif previous is not None and previous.get("lastState"):
                status["lastState"] = previous["lastState"]
        if newest.user is not None:
            status["user"] = {"linux": newest.user}
        running = newest.state == "running"
        status["started"] = running and newest.id in self._inputs.started
        status["ready"] = self._is_ready(spec, newest)
        self._add_facts(spec, status, True, self._inputs.given.get(newest.id))
        return status

    def _is_ready(self, spec: Obj, newest: ContainerStatus) -> bool:
        if newest.state == "running":
            return newest.id in self._inputs.ready
        # A plain init container that has succeeded counts as ready.
        return (
            newest.state == "exited"
            and newest.exit_code == 0
            and newest.labels.get("io.pilothouse.container.kind") == "init"
            and not is_sidecar(spec)
        )

    def _without_container(
        self, spec: Obj, previous: Obj | None, reason: Reason | None, default_wait: str
    ) -> Obj:
        """Never created, or removed meanwhile: what was last known of an ended one stays."""
        if self._restarting and "waiting" not in ((previous or {}).get("state") or _WAITING):
            return self._removed(spec, previous or {})
        if previous is not None and "terminated" in (previous.get("state") or {}):
            return previous
        status: Obj = {
            "name": spec["name"],
            "restartCount": (previous or {}).get("restartCount", 0),
            "image": spec.get("image") or "",
            "imageID": "",
            "lastState": (previous or {}).get("lastState") or {},
            "ready": False,
            "started": False,
        }
        was_running = previous is not None and "running" in (previous.get("state") or {})
        if was_running and self._inputs.terminating:
            assert previous is not None
            status |= {key: previous[key] for key in ("imageID", "containerID") if key in previous}
            status["state"] = {"terminated": _lost(previous)}
        else:
            status["state"] = {"waiting": _waiting(reason or (default_wait, ""))}
        self._add_facts(spec, status, False)
        return status

    def _removed(self, spec: Obj, previous: Obj) -> Obj:
        """It went because another container restarts all of them."""
        gone = {"reason": restart_all.REASON, "message": restart_all.MESSAGE}
        status: Obj = {
            "name": spec["name"],
            "restartCount": previous.get("restartCount", 0) + 1,
            "image": spec.get("image") or "",
            "imageID": "",
            "state": {"waiting": gone},
            "lastState": {
                "terminated": gone | {"exitCode": 137, "startedAt": None, "finishedAt": None}
            },
            "ready": False,
            "started": False,
        }
        self._add_facts(spec, status, False)
        return status

    def _state(self, container: ContainerStatus, default_wait: str) -> Obj:
        if container.state == "running":
            return {"running": {"startedAt": _time(container.started_at)}}
        if container.state == "exited":
            return {"terminated": self._terminated(container)}
        return {"waiting": {"reason": default_wait}}

    def _terminated(self, container: ContainerStatus) -> Obj:
        terminated: Obj = {
            "exitCode": container.exit_code,
            "reason": container.reason or ("Completed" if container.exit_code == 0 else "Error"),
            "startedAt": _time(container.started_at),
            "finishedAt": _time(container.finished_at),
            "containerID": self._id(container.id),
        }
        if container.message:
            terminated["message"] = container.message
        return terminated

    @staticmethod
    def _add_facts(spec: Obj, status: Obj, exists: bool, given: Obj | None = None) -> None:
        """Mounts, and resources as they were given to a container that exists."""
        mounts = [_mount_status(mount) for mount in spec.get("volumeMounts") or ()]
        if mounts:
            status["volumeMounts"] = mounts
        resources = spec.get("resources") or {}
        if exists:
            status["resources"] = container_resources_status(resources, given)
            if resources.get("requests"):
                status["allocatedResources"] = resources["requests"]

    def _id(self, container_id: str) -> str:
        return f"{self._inputs.runtime_scheme}://{container_id}"


_WAITING: Obj = {"waiting": {}}


def _mount_status(mount: Obj) -> Obj:
    status = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        status |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return status


def _waiting(reason: Reason) -> Obj:
    text, message = reason
    return {"reason": text, "message": message} if message else {"reason": text}


def _lost(previous: Obj) -> Obj:
    running = previous["state"]["running"]
    return {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "startedAt": running.get("startedAt"),
        "finishedAt": None,
    }


def _time(seconds: float) -> str | None:
    return format_time(datetime.fromtimestamp(seconds, UTC)) if seconds else None


# -- conditions --------------------------------------------------------------------------


def _conditions(
    pod: Obj, status: Obj, containers: list[Obj], init: list[Obj], inputs: StatusInputs
) -> list[Obj]:
    spec = pod["spec"]
    done = status["phase"] in ("Succeeded", "Failed")
    wanted: list[Obj] = [
        _condition("PodReadyToStartContainers", inputs.runtime.sandbox is not None
                   and inputs.runtime.sandbox.state == "ready"),
        _initialized(pod, init, containers, status["phase"]),
    ]  # fmt: skip
    containers_ready = _containers_ready(spec, containers, init, status["phase"])
    wanted.append(_ready(pod, containers_ready, done))
    wanted.append(containers_ready)
    # The scheduler's, true by now; the kubelet tells which generation it has seen.
    wanted.append(_condition("PodScheduled", True))
    if all_containers_could_restart(spec):
        wanted.append(_all_restarting(pod, status["phase"], inputs.runtime))
    if inputs.failure is not None and inputs.failure[0] in ("Evicted", "Terminated"):
        message = inputs.failure[1]
        wanted.append(_condition("DisruptionTarget", True, "TerminationByKubelet", message))
    if inputs.resize_pending and not done:
        wanted.append(_condition("PodResizePending", True, *inputs.resize_pending))
    if inputs.resize_progress is not None and not done:
        wanted.append(_condition("PodResizeInProgress", True, *inputs.resize_progress))
    now = format_time(inputs.now)
    generation = pod["metadata"].get("generation")
    for condition in wanted:
        old = condition_of(pod, condition["type"]) or {}
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old.get("lastTransitionTime") if same else now
        condition["lastProbeTime"] = None
        if generation:
            condition["observedGeneration"] = generation
    return wanted


def _condition(type_: str, value: bool, reason: str = "", message: str = "") -> Obj:
    condition: Obj = {"type": type_, "status": "True" if value else "False"}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _all_restarting(pod: Obj, phase: str, runtime: PodRuntimeStatus) -> Obj:
    done = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    if done:
        return _condition(restart_all.CONDITION, False, done)
    spec = pod["spec"]
    begun = restart_all.condition_holds(pod.get("status") or {}) or restart_all.triggered(
        spec, runtime
    )
    if not begun or restart_all.cleaned_up(spec, runtime):
        return _condition(restart_all.CONDITION, False)
    return _condition(restart_all.CONDITION, True, *restart_all.STARTED)


def _initialized(pod: Obj, init: list[Obj], containers: list[Obj], phase: str) -> Obj:
    spec = pod["spec"]
    sidecars = {c["name"] for c in spec.get("initContainers") or () if is_sidecar(c)}
    if any(s["restartCount"] or "waiting" not in s["state"] for s in containers):
        return _condition("Initialized", True)
    incomplete = [
        s["name"]
        for s in init
        if not (s.get("started") if s["name"] in sidecars else s.get("ready"))
    ]
    if not incomplete:
        reason = "PodCompleted" if phase == "Succeeded" else ""
        return _condition("Initialized", True, reason)
    if (condition_of(pod, "Initialized") or {}).get("status") == "True":
        return _condition("Initialized", True)  # once it is, it stays so, also when all restart
    message = f"containers with incomplete status: [{' '.join(incomplete)}]"
    return _condition("Initialized", False, "ContainersNotInitialized", message)


def _containers_ready(spec: Obj, containers: list[Obj], init: list[Obj], phase: str) -> Obj:
    if phase == "Succeeded":
        return _condition("ContainersReady", False, "PodCompleted")
    if phase == "Failed":
        return _condition("ContainersReady", False, "PodFailed")
    sidecars = {c["name"] for c in spec.get("initContainers") or () if is_sidecar(c)}
    looked_at = [s for s in init if s["name"] in sidecars] + containers
    unready = [s["name"] for s in looked_at if not s["ready"]]
    if not unready:
        return _condition("ContainersReady", True)
    message = f"containers with unready status: [{' '.join(unready)}]"
    return _condition("ContainersReady", False, "ContainersNotReady", message)


def _ready(pod: Obj, containers_ready: Obj, done: bool) -> Obj:
    ready = dict(containers_ready, type="Ready")
    if ready["status"] != "True" or done:
        return ready
    missing = []
    for gate in pod["spec"].get("readinessGates") or ():
        condition = condition_of(pod, gate["conditionType"])
        if condition is None:
            kind = gate["conditionType"]
            missing.append(
                f'corresponding condition of pod readiness gate "{kind}" does not exist.'
            )
        elif condition.get("status") != "True":
            missing.append(
                f'the status of pod readiness gate "{gate["conditionType"]}" is not "True", '
                f"but {condition.get('status')}"
            )
    if missing:
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(missing))
    return ready
