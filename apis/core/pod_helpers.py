"""Questions about pods that many components ask (pkg/api/v1/pod, pkg/api/pod)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import condition_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_CONTAINER_FIELDS = ("initContainers", "containers", "ephemeralContainers")


def visit_containers(spec: Obj, path: str = "") -> Iterator[tuple[Obj, str]]:
    """Every container with its path below ``path``: init, regular, ephemeral."""
    prefix = f"{path}." if path else ""
    for field in _CONTAINER_FIELDS:
        for i, container in enumerate(spec.get(field) or ()):
            yield container, f"{prefix}{field}[{i}]"


def is_pod_ready(pod: Obj) -> bool:
    condition = condition_of(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def is_pod_available(pod: Obj, min_ready_seconds: int, now: datetime) -> bool:
    """Ready for at least ``min_ready_seconds``."""
    condition = condition_of(pod, "Ready")
    if condition is None or condition.get("status") != "True":
        return False
    if not min_ready_seconds:
        return True
    since = condition.get("lastTransitionTime")
    if not since:
        return False
    from pilothouse.apimachinery.timefmt import parse_time

    return parse_time(since) + timedelta(seconds=min_ready_seconds) <= now


def is_pod_terminal(pod: Obj) -> bool:
    """Failed or Succeeded: none of its containers will run again."""
    return (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")


def is_pod_active(pod: Obj) -> bool:
    """controller.IsPodActive: neither finished nor being deleted."""
    return not is_pod_terminal(pod) and not (pod.get("metadata") or {}).get("deletionTimestamp")


def is_mirror_pod(pod: Obj) -> bool:
    return MIRROR_ANNOTATION in ((pod.get("metadata") or {}).get("annotations") or {})


def has_host_port(spec: Obj) -> bool:
    return any(
        port.get("hostPort")
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
    )


def container_should_restart(container: Obj, spec: Obj, exit_code: int) -> bool:
    """podutil.ContainerShouldRestart: rules first, then the container's and the pod's policy."""
    own_policy = container.get("restartPolicy")
    if own_policy:
        rule = matching_restart_rule(container, exit_code)
        if rule is not None and rule.get("action") in ("Restart", "RestartAllContainers"):
            return True
    policy = own_policy or spec.get("restartPolicy") or "Always"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def matching_restart_rule(container: Obj, exit_code: int) -> Obj | None:
    """The first of ``restartPolicyRules`` that the exit code matches."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        listed = exit_code in (codes.get("values") or ())
        operator = codes.get("operator")
        if (operator == "In" and listed) or (operator == "NotIn" and not listed):
            return rule  # type: ignore[no-any-return]
    return None


def all_containers_could_restart(spec: Obj) -> bool:
    """Whether a container may restart all of the pod (action RestartAllContainers)."""
    return any(
        rule.get("action") == "RestartAllContainers"
        for field in ("initContainers", "containers")
        for container in spec.get(field) or ()
        for rule in container.get("restartPolicyRules") or ()
    )
