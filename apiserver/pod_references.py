"""Which other objects of its namespace a pod names (pkg/api/v1/pod VisitPod*Names).

Read by the node authorizer (a node may read what its pods use) and by admission (mirror pods
may use nothing). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

_SECRET_REF_SOURCES = ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos")
CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def containers(spec: Obj) -> Iterator[Obj]:
    """All containers of a pod spec: init, main, ephemeral."""
    for field in CONTAINER_LISTS:
        yield from spec.get(field) or ()


def _container_references(spec: Obj, env_key: str, env_from_key: str) -> Iterator[str]:
    for container in containers(spec):
        for source in container.get("envFrom") or ():
            if reference := source.get(env_from_key):
                yield reference.get("name") or ""
        for variable in container.get("env") or ():
            value_from: Any = variable.get("valueFrom") or {}
            if reference := value_from.get(env_key):
                yield reference.get("name") or ""


def secret_names(pod: Obj) -> Iterator[str]:
    """Names of Secrets, possibly repeated, possibly empty."""
    spec = pod.get("spec") or {}
    for reference in spec.get("imagePullSecrets") or ():
        yield reference.get("name") or ""
    yield from _container_references(spec, "secretKeyRef", "secretRef")
    for volume in spec.get("volumes") or ():
        yield from _volume_secrets(volume)


def _volume_secrets(volume: Obj) -> Iterator[str]:
    if source := volume.get("secret"):
        yield source.get("secretName") or ""
    elif source := volume.get("projected"):
        for part in source.get("sources") or ():
            if secret := part.get("secret"):
                yield secret.get("name") or ""
    elif source := volume.get("azureFile"):
        yield source.get("secretName") or ""
    elif source := volume.get("csi"):
        if reference := source.get("nodePublishSecretRef"):
            yield reference.get("name") or ""
    else:
        for name in _SECRET_REF_SOURCES:
            reference = (volume.get(name) or {}).get("secretRef")
            if reference:
                yield reference.get("name") or ""


def config_map_names(pod: Obj) -> Iterator[str]:
    """Names of ConfigMaps, possibly repeated, possibly empty."""
    spec = pod.get("spec") or {}
    yield from _container_references(spec, "configMapKeyRef", "configMapRef")
    for volume in spec.get("volumes") or ():
        if source := volume.get("configMap"):
            yield source.get("name") or ""
        elif source := volume.get("projected"):
            for part in source.get("sources") or ():
                if config_map := part.get("configMap"):
                    yield config_map.get("name") or ""


def claim_names(pod: Obj) -> Iterator[str]:
    """PersistentVolumeClaims, also those that ephemeral volumes make."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if source := volume.get("persistentVolumeClaim"):
            yield source.get("claimName") or ""
        elif "ephemeral" in volume:
            yield f"{pod['metadata'].get('name')}-{volume.get('name')}"


def resource_claim_names(pod: Obj) -> Iterator[str]:
    """ResourceClaims named in the spec or made for the pod (status)."""
    for claim in (pod.get("spec") or {}).get("resourceClaims") or ():
        if name := claim.get("resourceClaimName"):
            yield name
    status = pod.get("status") or {}
    for made in status.get("resourceClaimStatuses") or ():
        if name := made.get("resourceClaimName"):
            yield name
    extended = status.get("extendedResourceClaimStatus") or {}
    if name := extended.get("resourceClaimName"):
        yield name


def service_account_token_sources(spec: Obj) -> Iterator[Obj]:
    for volume in spec.get("volumes") or ():
        for part in (volume.get("projected") or {}).get("sources") or ():
            if token := part.get("serviceAccountToken"):
                yield token
