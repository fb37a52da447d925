"""Fills ClusterRoles that have an aggregationRule with the rules of those that they select."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import Obj, copy_object, get_nested, meta, name_of
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import CLUSTER_ROLES

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment


def aggregated_rules(role: Obj, roles: Iterable[Obj]) -> list[Obj]:
    """The union of the selected roles' rules, by role name within each selector."""
    rules: list[Obj] = []
    everything = sorted(roles, key=name_of)
    for label_selector in get_nested(role, "aggregationRule", "clusterRoleSelectors", default=()):
        selector = selector_from_label_selector(label_selector)
        for other in everything:
            if name_of(other) == name_of(role) or not selector.matches(meta(other).get("labels")):
                continue
            rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class ClusterRoleAggregationController(Controller):
    name = "clusterrole-aggregation-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._roles = self.watch(
            CLUSTER_ROLES, self._any_changed, lambda _, new: self._any_changed(new),
            self._any_changed,
        )  # fmt: skip

    def _any_changed(self, _role: Obj) -> None:
        for role in self._roles.list():
            if role.get("aggregationRule"):
                self.enqueue(role)

    async def sync(self, key: str) -> None:
        role = self._roles.get(key)
        if role is None or not role.get("aggregationRule"):
            return
        rules = aggregated_rules(role, self._roles.list())
        if rules == (role.get("rules") or []):
            return
        wanted = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name_of(role)},
            "rules": copy_object(rules),
        }
        await self.client.patch(
            CLUSTER_ROLES,
            name_of(role),
            wanted,
            "application/apply-patch+yaml",
            field_manager=self.name,
            force=True,
        )
