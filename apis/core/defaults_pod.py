"""Defaults of pods and pod templates (pkg/apis/core/v1 SetDefaults_*, depth first)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_VOLUME_SOURCE_DEFAULT_MODE = ("secret", "configMap", "downwardAPI", "projected")


def image_tag_is_latest(image: str) -> bool:
    """Whether parsers.ParseImageName finds the tag ``latest``, given or implied."""
    if "@" in image:
        return False
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag in ("", "latest")


def set_pod_defaults(pod: Obj) -> None:
    """SetDefaults_Pod and all that it reaches."""
    spec = pod.get("spec")
    if spec is None:
        spec = pod["spec"] = {}
    set_pod_spec_defaults(spec)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            _requests_from_limits(container)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        host_network_ports(spec)
    _pod_ips(pod)


def set_template_defaults(template: Obj) -> None:
    """What a pod template gets; the rest comes when a pod is made of it."""
    spec = template.get("spec")
    if spec is None:
        spec = template["spec"] = {}
    set_pod_spec_defaults(spec)


def set_pod_spec_defaults(spec: Obj) -> None:
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    for field in _CONTAINERS:
        for container in spec.get(field) or ():
            set_container_defaults(container)
    for volume in spec.get("volumes") or ():
        _volume(volume)


def set_container_defaults(container: Obj) -> None:
    if not container.get("imagePullPolicy"):
        latest = image_tag_is_latest(container.get("image") or "")
        container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
    if container.get("resources") is None:
        container["resources"] = {}  # a struct, no pointer: Go always writes it
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    for port in container.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for variable in container.get("env") or ():
        source = variable.get("valueFrom")
        if source:
            _field_ref(source.get("fieldRef"))
    for field in _PROBES:
        if container.get(field) is not None:
            _probe(container[field])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _http_get(hook.get("httpGet"))


def _probe(probe: Obj) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        if not probe.get(field):
            probe[field] = value
    _http_get(probe.get("httpGet"))
    grpc = probe.get("grpc")
    if grpc is not None and grpc.get("service") is None:
        grpc["service"] = ""


def _http_get(action: Obj | None) -> None:
    if action is not None:
        if not action.get("path"):
            action["path"] = "/"
        if not action.get("scheme"):
            action["scheme"] = "HTTP"


def _field_ref(reference: Obj | None) -> None:
    if reference is not None and not reference.get("apiVersion"):
        reference["apiVersion"] = "v1"


def _volume(volume: Obj) -> None:
    for field in _VOLUME_SOURCE_DEFAULT_MODE:
        source = volume.get(field)
        if source is not None:
            if source.get("defaultMode") is None:
                source["defaultMode"] = _MODE
            if field == "downwardAPI":
                _downward_api(source)
            elif field == "projected":
                _projected(source)
            return
    if volume.get("hostPath") is not None:
        if volume["hostPath"].get("type") is None:
            volume["hostPath"]["type"] = ""
    elif volume.get("emptyDir") is not None:
        return
    elif volume.get("image") is not None:
        _image(volume["image"])
    elif volume.get("ephemeral") is not None:
        template = volume["ephemeral"].get("volumeClaimTemplate")
        if template is not None:
            spec = template.setdefault("spec", {})
            if spec.get("volumeMode") is None:
                spec["volumeMode"] = "Filesystem"
    elif not _has_source(volume):
        volume["emptyDir"] = {}
    else:
        _old_sources(volume)


def _has_source(volume: Obj) -> bool:
    return any(value is not None for key, value in volume.items() if key != "name")


def _image(image: Obj) -> None:
    if not image.get("pullPolicy"):
        latest = image_tag_is_latest(image.get("reference") or "")
        image["pullPolicy"] = "Always" if latest else "IfNotPresent"


def _downward_api(source: Obj) -> None:
    for item in source.get("items") or ():
        _field_ref(item.get("fieldRef"))


def _projected(source: Obj) -> None:
    for projection in source.get("sources") or ():
        if projection.get("downwardAPI"):
            _downward_api(projection["downwardAPI"])
        token = projection.get("serviceAccountToken")
        if token is not None and token.get("expirationSeconds") is None:
            token["expirationSeconds"] = 3600


def _old_sources(volume: Obj) -> None:
    """SetDefaults_ISCSI-, RBD-, AzureDisk- and ScaleIOVolumeSource."""
    old_defaults: dict[str, dict[str, str | bool]] = {
        "iscsi": {"iscsiInterface": "default"},
        "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
        "azureDisk": {
            "cachingMode": "ReadWrite",
            "kind": "Shared",
            "fsType": "ext4",
            "readOnly": False,
        },
        "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    }
    for field, defaults in old_defaults.items():
        source = volume.get(field)
        if source is not None:
            for key, value in defaults.items():
                if source.get(key) in (None, ""):
                    source[key] = value


def _requests_from_limits(container: Obj) -> None:
    resources = container.get("resources") or {}
    limits = resources.get("limits")
    if limits:
        requests = resources.get("requests")
        if requests is None:
            requests = resources["requests"] = {}
        for name, quantity in limits.items():
            requests.setdefault(name, quantity)


def host_network_ports(spec: Obj) -> None:
    """With hostNetwork a container's port is the host's."""
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            for port in container.get("ports") or ():
                if not port.get("hostPort") and port.get("containerPort"):
                    port["hostPort"] = port["containerPort"]


def _pod_ips(pod: Obj) -> None:
    """podIP and podIPs[0] are one value (SetDefaults_PodStatus)."""
    status = pod.get("status")
    if not status:
        return
    ip, ips = status.get("podIP"), status.get("podIPs")
    if ip and (not ips or ips[0].get("ip") != ip):
        status["podIPs"] = [{"ip": ip}]
    elif ips and not ip:
        status["podIP"] = ips[0].get("ip") or ""
