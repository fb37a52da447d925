"""A kopf operator for ScaleSchedule, written against stock kopf and the kubernetes package.

    kubectl apply -f crds/scheduledscale/crd.yaml
    kopf run crds/scheduledscale/operator.py --all-namespaces

It knows nothing of Pilothouse. The decision is a pure function; handlers and a daemon carry it out.
"""

from __future__ import annotations

import datetime
from typing import Any

import kopf
import kubernetes

GROUP, VERSION, PLURAL = "examples.pilothouse.dev", "v1", "scaleschedules"


def period_at(periods: list[dict[str, Any]], now: datetime.time) -> dict[str, Any]:
    """The period that counts at ``now``: the last that has started today, or yesterday's last."""
    ordered = sorted(periods, key=lambda period: period["start"])
    started = [p for p in ordered if p["start"] <= now.strftime("%H:%M")]
    return started[-1] if started else ordered[-1]


def seconds_to_next(periods: list[dict[str, Any]], now: datetime.datetime) -> float:
    """Until the next period starts."""
    waits = []
    for period in periods:
        hour, minute = map(int, period["start"].split(":"))
        start = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        if start <= now:
            start += datetime.timedelta(days=1)
        waits.append((start - now).total_seconds())
    return min(waits)


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.level = 20
    settings.persistence.finalizer = f"{GROUP}/finalizer"


@kopf.on.create(GROUP, VERSION, PLURAL)
@kopf.on.update(GROUP, VERSION, PLURAL, field="spec")
@kopf.on.resume(GROUP, VERSION, PLURAL)
def reconcile(
    spec: kopf.Spec, meta: kopf.Meta, namespace: str, patch: kopf.Patch, **_: Any
) -> None:
    """Applies the period of now."""
    apply(spec, meta, namespace, patch)


@kopf.daemon(GROUP, VERSION, PLURAL, cancellation_timeout=1.0)
async def follow_the_day(
    spec: kopf.Spec, meta: kopf.Meta, namespace: str, patch: kopf.Patch,
    stopped: kopf.DaemonStopped, **_: Any,
) -> None:  # fmt: skip
    """Wakes at each start of a period."""
    while not stopped:
        now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 (an example for kopf users)
        if await stopped.wait(seconds_to_next(spec["periods"], now)):
            return
        apply(spec, meta, namespace, patch)


@kopf.on.delete(GROUP, VERSION, PLURAL)
def released(spec: kopf.Spec, name: str, logger: kopf.Logger, **_: Any) -> None:
    logger.info("%s no longer scales %s; its replicas stay", name, spec["deployment"])


def apply(spec: kopf.Spec, meta: kopf.Meta, namespace: str, patch: kopf.Patch) -> None:
    period = period_at(spec["periods"], datetime.datetime.now(datetime.UTC).time())  # noqa: TID251
    patch.status["observedGeneration"] = meta["generation"]
    patch.status["period"] = period["name"]
    if spec.get("paused"):
        patch.status["message"] = "paused"
        return
    apps = kubernetes.client.AppsV1Api()
    try:
        apps.patch_namespaced_deployment_scale(
            spec["deployment"], namespace, {"spec": {"replicas": period["replicas"]}}
        )
    except kubernetes.client.ApiException as error:
        if error.status != 404:
            raise
        patch.status["message"] = f"deployment {spec['deployment']!r} does not exist"
        raise kopf.TemporaryError(patch.status["message"], delay=5) from error
    patch.status["replicas"] = period["replicas"]
    patch.status["message"] = None


@kopf.on.login()
def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """The kubeconfig or the pod's service account, for kopf and for the kubernetes package."""
    return kopf.login_via_client(**kwargs)
