"""A ``default`` ServiceAccount in every active namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_already_exists
from pilothouse.apimachinery.object import Obj, get_nested, name_of, namespace_of
from pilothouse.controllermanager.controller import Controller
from pilothouse.controllermanager.pod_control import NAMESPACE_TERMINATING
from pilothouse.kubeclient.resources import NAMESPACES, SERVICE_ACCOUNTS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

NAME = "default"


class ServiceAccountController(Controller):
    name = "serviceaccount-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 1) -> None:
        super().__init__(env, workers=workers)
        self._namespaces = self.watch(NAMESPACES, self.enqueue, lambda _, new: self.enqueue(new))
        self._accounts = self.watch(SERVICE_ACCOUNTS, on_delete=self._account_deleted)

    def _account_deleted(self, account: Obj) -> None:
        if name_of(account) == NAME:
            self.queue.add(namespace_of(account))

    async def sync(self, key: str) -> None:
        namespace = self._namespaces.get(key)
        if namespace is None or get_nested(namespace, "status", "phase") != "Active":
            return
        if self._accounts.get(f"{key}/{NAME}") is not None:
            return
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": NAME, "namespace": key},
        }
        try:
            await self.client.create(SERVICE_ACCOUNTS, account, key)
        except StatusError as error:
            if not is_already_exists(error) and not error.has_cause(NAMESPACE_TERMINATING):
                raise
