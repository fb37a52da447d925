"""One profile of the scheduler: its name, its plugins by extension point, their arguments.

A profile says only what differs from the defaults; :func:`resolve` works out the rest by upstream's
rules (mergePluginSet and expandMultiPointPlugins). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilothouse.scheduler.plugins.order import DEFAULT_PLUGINS, NEEDED, SCORING

DEFAULT_NAME = "default-scheduler"
ALL = "*"


class ProfileError(ValueError):
    """The configuration cannot work."""


@dataclass(frozen=True, slots=True)
class PluginSet:
    """``enabled``: (name, weight; 0 for the default). ``disabled`` may hold ``*``."""

    enabled: tuple[tuple[str, int], ...] = ()
    disabled: frozenset[str] = frozenset()


NOTHING = PluginSet()


@dataclass(frozen=True, slots=True)
class Profile:
    scheduler_name: str = DEFAULT_NAME
    plugins: Mapping[str, PluginSet] = field(default_factory=dict)
    """By extension point as in the YAML: ``multiPoint``, ``filter``, ``score`` …"""
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``pluginConfig``: args by plugin."""
    percentage_of_nodes_to_score: int | None = None


@dataclass(slots=True)
class Resolved:
    names: list[str]
    """All plugins of the profile, in the order in which they are made."""
    multi_point: list[str]
    weights: dict[str, int]
    points: dict[str, PluginSet]

    def at(self, point: str, implements: Iterable[str]) -> list[str]:
        """The plugins that run at a point, given the names of those that can."""
        able, chosen = set(implements), self.points.get(point, NOTHING)
        specific = [name for name, _ in chosen.enabled]
        if ALL in chosen.disabled:
            return specific
        spread = [n for n in self.multi_point if n in able and n not in chosen.disabled]
        overridden = [name for name in specific if name in spread]
        others = [name for name in specific if name not in spread]
        return [*overridden, *(n for n in spread if n not in overridden), *others]


def resolve(profile: Profile) -> Resolved:
    """:raises ProfileError: with what can't be."""
    multi = profile.plugins.get("multiPoint", NOTHING)
    merged = _merge(multi)
    weights = {name: weight for name, weight in merged.items() if weight}
    for point, chosen in profile.plugins.items():
        for name, weight in chosen.enabled:
            if point in ("multiPoint", "score") and weight:
                weights[name] = weight
    points = {p: s for p, s in profile.plugins.items() if p != "multiPoint"}
    names = dict.fromkeys(merged)
    for chosen in points.values():
        names.update(dict.fromkeys(name for name, _ in chosen.enabled))
    _check_needed(profile, merged, points)
    for name in SCORING & set(names):
        weights.setdefault(name, 1)
    return Resolved(list(names), list(merged), weights, points)


def _merge(custom: PluginSet) -> dict[str, int]:
    """The default plugins without those that are disabled; those that are enabled again keep
    their place and may get another weight; new ones come last."""
    wanted = dict(custom.enabled)
    merged: dict[str, int] = {}
    for name, weight in DEFAULT_PLUGINS:
        gone = ALL in custom.disabled or name in custom.disabled
        if name in wanted and not gone:
            merged[name] = wanted.pop(name) or weight
        elif not gone:
            merged[name] = weight
    merged.update(wanted)
    return merged


def _check_needed(
    profile: Profile, merged: Mapping[str, int], points: Mapping[str, PluginSet]
) -> None:
    for point, name in NEEDED.items():
        chosen = points.get(point, NOTHING)
        hidden = ALL in chosen.disabled or name in chosen.disabled
        if chosen.enabled or (name in merged and not hidden):
            continue
        if point == "bind" and any(n not in dict(DEFAULT_PLUGINS) for n in merged):
            continue  # one from outside may bind
        what = "one queue sort plugin is" if point == "queueSort" else "at least one bind plugin is"
        raise ProfileError(
            f'{what} needed for profile with scheduler name "{profile.scheduler_name}"'
        )
