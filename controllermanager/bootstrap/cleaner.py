"""Deletes bootstrap tokens when they expire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import Obj, meta, name_of, namespace_of
from pilothouse.apis.core.bootstrap_tokens import is_token_secret, remaining_seconds
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import SECRETS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment


class TokenCleaner(Controller):
    name = "token-cleaner-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 1) -> None:
        super().__init__(env, workers=workers)
        self._secrets = self.watch(SECRETS, self._changed, lambda _, new: self._changed(new))

    def _changed(self, secret: Obj) -> None:
        if is_token_secret(secret):
            self.enqueue(secret)

    async def sync(self, key: str) -> None:
        secret = self._secrets.get(key)
        if secret is None or not is_token_secret(secret):
            return
        remaining = remaining_seconds(secret, self.clock.now())
        if remaining is None:
            return
        if remaining > 0:
            self.queue.add_after(key, remaining)
            return
        options = DeleteOptions(precondition_uid=meta(secret).get("uid") or "")
        try:
            await self.client.delete(SECRETS, name_of(secret), namespace_of(secret), options)
        except StatusError as error:
            # Somebody else deleted it, or it is another one by now.
            if not is_not_found(error) and not is_conflict(error):
                raise
