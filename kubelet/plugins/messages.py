"""The interfaces of plugins as data: pluginregistration v1, dra v1 and v1beta1, dra-health,
deviceplugin v1beta1 (k8s.io/kubelet/pkg/apis)."""

from __future__ import annotations

from typing import NamedTuple

from pilothouse.kubelet.plugins.wire import Field, Message

_EMPTY: Message = {}


class Method(NamedTuple):
    path: str
    request: Message
    response: Message

    def __hash__(self) -> int:
        return hash(self.path)  # messages are dicts, which have no hash


# -- pluginregistration ------------------------------------------------------------------

GET_INFO = Method(
    "/pluginregistration.Registration/GetInfo",
    _EMPTY,
    {
        1: Field("type"),
        2: Field("name"),
        3: Field("endpoint"),
        4: Field("supported_versions", many=True),
    },
)
NOTIFY = Method(
    "/pluginregistration.Registration/NotifyRegistrationStatus",
    {1: Field("plugin_registered", "bool"), 2: Field("error")},
    _EMPTY,
)

# -- dra ---------------------------------------------------------------------------------

DRA_V1, DRA_V1BETA1 = "v1.DRAPlugin", "v1beta1.DRAPlugin"
DRA_SERVICES = (DRA_V1, DRA_V1BETA1)
_DRA_PATHS = {
    DRA_V1: "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/",
    DRA_V1BETA1: "/k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin/",
}
_CLAIM: Message = {1: Field("namespace"), 2: Field("uid"), 3: Field("name")}
_CLAIMS: Message = {1: Field("claims", _CLAIM, many=True)}
_DRA_DEVICE: Message = {
    1: Field("request_names", many=True),
    2: Field("pool_name"),
    3: Field("device_name"),
    4: Field("cdi_device_ids", many=True),
    5: Field("share_id"),
}
_PREPARED: Message = {1: Field("devices", _DRA_DEVICE, many=True), 2: Field("error")}
_UNPREPARED: Message = {1: Field("error")}


def node_prepare(service: str) -> Method:
    answer: Message = {1: Field("claims", _PREPARED, by_name=True)}
    return Method(f"{_DRA_PATHS[service]}NodePrepareResources", _CLAIMS, answer)


def node_unprepare(service: str) -> Method:
    answer: Message = {1: Field("claims", _UNPREPARED, by_name=True)}
    return Method(f"{_DRA_PATHS[service]}NodeUnprepareResources", _CLAIMS, answer)


HEALTH_SERVICES = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
HEALTHY, UNHEALTHY = 1, 2
_HEALTH: Message = {
    1: Field("device", {1: Field("pool_name"), 2: Field("device_name")}),
    2: Field("health", "int"),
    3: Field("last_updated_time", "int"),
    4: Field("health_check_timeout_seconds", "int"),
    5: Field("message"),
}


def watch_health(service: str) -> Method:
    answer: Message = {1: Field("devices", _HEALTH, many=True)}
    return Method(f"/{service}/NodeWatchResources", _EMPTY, answer)


# -- device plugins ----------------------------------------------------------------------

DEVICE_PLUGIN_VERSION = "v1beta1"
_OPTIONS: Message = {
    1: Field("pre_start_required", "bool"),
    2: Field("get_preferred_allocation_available", "bool"),
}
REGISTER = Method(
    "/v1beta1.Registration/Register",
    {
        1: Field("version"),
        2: Field("endpoint"),
        3: Field("resource_name"),
        4: Field("options", _OPTIONS),
    },
    _EMPTY,
)
_DEVICE_PLUGIN = "/v1beta1.DevicePlugin/"
GET_OPTIONS = Method(f"{_DEVICE_PLUGIN}GetDevicePluginOptions", _EMPTY, _OPTIONS)
_NUMA: Message = {1: Field("nodes", {1: Field("ID", "int")}, many=True)}
_DEVICE: Message = {1: Field("ID"), 2: Field("health"), 3: Field("topology", _NUMA)}
LIST_AND_WATCH = Method(
    f"{_DEVICE_PLUGIN}ListAndWatch", _EMPTY, {1: Field("devices", _DEVICE, many=True)}
)
_IDS: Message = {1: Field("devices_ids", many=True)}
PREFERRED = Method(
    f"{_DEVICE_PLUGIN}GetPreferredAllocation",
    {
        1: Field(
            "container_requests",
            {
                1: Field("available_deviceIDs", many=True),
                2: Field("must_include_deviceIDs", many=True),
                3: Field("allocation_size", "int"),
            },
            many=True,
        )
    },
    {1: Field("container_responses", {1: Field("deviceIDs", many=True)}, many=True)},
)
_MOUNT: Message = {1: Field("container_path"), 2: Field("host_path"), 3: Field("read_only", "bool")}
_NODE: Message = {1: Field("container_path"), 2: Field("host_path"), 3: Field("permissions")}
_ALLOCATED: Message = {
    1: Field("envs", by_name=True),
    2: Field("mounts", _MOUNT, many=True),
    3: Field("devices", _NODE, many=True),
    4: Field("annotations", by_name=True),
    5: Field("cdi_devices", {1: Field("name")}, many=True),
}
ALLOCATE = Method(
    f"{_DEVICE_PLUGIN}Allocate",
    {1: Field("container_requests", _IDS, many=True)},
    {1: Field("container_responses", _ALLOCATED, many=True)},
)
PRE_START = Method(f"{_DEVICE_PLUGIN}PreStartContainer", _IDS, _EMPTY)
