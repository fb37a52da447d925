"""The scheduler's writes to a pod's status: conditions and nominations."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.kubeclient.resources import PODS

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.interfaces import Client
    from pilothouse.scheduler.framework.pod_info import PodInfo

log = logging.getLogger(__name__)


async def patch_status(client: Client, pod: PodInfo, status: Obj, what: str) -> bool:
    """False: it could not be written. That is no error when the pod has gone; else the log says
    that ``what`` of it is not there."""
    try:
        await client.patch(
            PODS,
            pod.name,
            {"status": status},
            "application/strategic-merge-patch+json",
            pod.namespace,
            subresource="status",
            field_manager="kube-scheduler",
        )
    except StatusError as error:
        if not is_not_found(error):
            log.warning("could not write the %s of %s: %s", what, pod.key, error)
        return False
    return True
