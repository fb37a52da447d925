"""Reads a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1, YAML or JSON).

Errors name the field as upstream does. Arguments of plugins are kept as they are: each plugin
reads its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pilothouse.apimachinery.timefmt import parse_duration
from pilothouse.scheduler.config import SchedulerConfig
from pilothouse.scheduler.extender import DEFAULT_TIMEOUT, ExtenderConfig
from pilothouse.scheduler.profile import DEFAULT_NAME, PluginSet, Profile, ProfileError

API_VERSION = "kubescheduler.config.k8s.io/v1"
POINTS = (
    "preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score",
    "reserve", "permit", "preBind", "bind", "postBind", "multiPoint",
)  # fmt: skip


def load(text: str, base: SchedulerConfig) -> SchedulerConfig:
    """``base`` with what the text says. :raises ProfileError: with the reason."""
    import yaml

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ProfileError(f"couldn't read the configuration: {error}") from error
    if not isinstance(data, dict) or data.get("kind") != "KubeSchedulerConfiguration":
        raise ProfileError("couldn't decode as KubeSchedulerConfiguration")
    if data.get("apiVersion") != API_VERSION:
        raise ProfileError(
            f'no kind "KubeSchedulerConfiguration" is registered for version '
            f'"{data.get("apiVersion")}"'
        )
    listed = data.get("profiles") or [{}]
    if len(listed) == 1 and not (listed[0] or {}).get("schedulerName"):
        listed = [{**(listed[0] or {}), "schedulerName": DEFAULT_NAME}]
    profiles = tuple(_profile(p or {}, i) for i, p in enumerate(listed))
    _check_profiles(profiles)
    percentage = data.get("percentageOfNodesToScore")
    if percentage is not None and not 0 <= percentage <= 100:
        raise ProfileError(
            f"percentageOfNodesToScore: Invalid value: {percentage}: not in valid range [0-100]"
        )
    election = data.get("leaderElection") or {}
    return replace(
        base,
        profiles=profiles,
        percentage_of_nodes_to_score=percentage or base.percentage_of_nodes_to_score,
        parallel_bindings=base.parallel_bindings,
        pod_initial_backoff=_positive(data, "podInitialBackoffSeconds", base.pod_initial_backoff),
        pod_max_backoff=_positive(data, "podMaxBackoffSeconds", base.pod_max_backoff),
        extenders=tuple(_extender(e, i) for i, e in enumerate(data.get("extenders") or ())),
        leader_elect=bool(election.get("leaderElect", base.leader_elect)),
        leader_elect_name=election.get("resourceName") or base.leader_elect_name,
        leader_elect_namespace=election.get("resourceNamespace") or base.leader_elect_namespace,
    )


def _positive(data: Mapping[str, Any], name: str, default: float) -> float:
    value = data.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or value <= 0:
        raise ProfileError(f"{name}: Invalid value: {value}: must be greater than 0")
    return float(value)


def _profile(data: Mapping[str, Any], index: int) -> Profile:
    where = f"profiles[{index}]"
    plugins = {}
    for point, chosen in (data.get("plugins") or {}).items():
        if point not in POINTS:
            raise ProfileError(f'unknown field "{where}.plugins.{point}"')
        plugins[point] = _plugin_set(chosen or {}, f"{where}.plugins.{point}")
    arguments: dict[str, Mapping[str, Any]] = {}
    for i, entry in enumerate(data.get("pluginConfig") or ()):
        name = entry.get("name")
        if not name:
            raise ProfileError(f"{where}.pluginConfig[{i}].name: Required value")
        if name in arguments:
            raise ProfileError(f'{where}.pluginConfig[{i}]: Duplicate value: "{name}"')
        arguments[name] = entry.get("args") or {}
    return Profile(
        data.get("schedulerName") or "", plugins, arguments, data.get("percentageOfNodesToScore")
    )


def _plugin_set(data: Mapping[str, Any], where: str) -> PluginSet:
    enabled = []
    for i, entry in enumerate(data.get("enabled") or ()):
        if not entry.get("name"):
            raise ProfileError(f"{where}.enabled[{i}].name: Required value")
        enabled.append((entry["name"], int(entry.get("weight") or 0)))
    disabled = frozenset(entry["name"] for entry in data.get("disabled") or ())
    return PluginSet(tuple(enabled), disabled)


def _check_profiles(profiles: tuple[Profile, ...]) -> None:
    seen: set[str] = set()
    for i, profile in enumerate(profiles):
        if not profile.scheduler_name:
            raise ProfileError(f"profiles[{i}].schedulerName: Required value")
        if profile.scheduler_name in seen:
            raise ProfileError(
                f'profiles[{i}].schedulerName: Duplicate value: "{profile.scheduler_name}"'
            )
        seen.add(profile.scheduler_name)


def _extender(data: Mapping[str, Any], index: int) -> ExtenderConfig:
    if not data.get("urlPrefix"):
        raise ProfileError(f"extenders[{index}].urlPrefix: Required value")
    weight = int(data.get("weight") or 0)
    if data.get("prioritizeVerb") and weight <= 0:
        raise ProfileError(
            f"extenders[{index}].weight: Invalid value: {weight}: "
            "must have a positive weight applied to it"
        )
    managed = data.get("managedResources") or ()
    timeout = data.get("httpTimeout")
    return ExtenderConfig(
        url_prefix=data["urlPrefix"],
        filter_verb=data.get("filterVerb") or "",
        prioritize_verb=data.get("prioritizeVerb") or "",
        bind_verb=data.get("bindVerb") or "",
        preempt_verb=data.get("preemptVerb") or "",
        weight=weight,
        enable_https=bool(data.get("enableHTTPS")),
        tls=data.get("tlsConfig") or {},
        timeout=parse_duration(timeout) if timeout else DEFAULT_TIMEOUT,
        node_cache_capable=bool(data.get("nodeCacheCapable")),
        managed_resources=frozenset(r["name"] for r in managed),
        ignored_resources=frozenset(r["name"] for r in managed if r.get("ignoredByScheduler")),
        ignorable=bool(data.get("ignorable")),
    )
