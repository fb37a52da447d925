"""A client that acts as a service account: it asks for its own tokens (SAControllerClientBuilder).

``base`` must be allowed to get and create the account and to create its tokens. The token is
fetched with the first request and again when four fifths of its life are over.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.timefmt import parse_time
from pilothouse.kubeclient.https import HTTPSClient
from pilothouse.kubeclient.resources import SERVICE_ACCOUNTS

TOKEN_SECONDS = 3600
RENEW_SHARE = 0.8


class ServiceAccountClient(HTTPSClient):
    """``user`` is ``system:serviceaccount:<namespace>:<name>``."""

    def __init__(self, base: HTTPSClient, user: str, clock: Clock) -> None:
        config = dataclasses.replace(
            base.config, client_certificate_data=b"", client_key_data=b"", token=""
        )
        super().__init__(config, clock)
        self._base = base
        self._namespace, self._name = user.split(":")[2:4]
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()

    async def _open(self, *args: Any, **kwargs: Any) -> Any:
        if self._clock.monotonic() >= self._renew_at:
            async with self._renewing:
                if self._clock.monotonic() >= self._renew_at:
                    await self._renew()
        return await super()._open(*args, **kwargs)

    async def _renew(self) -> None:
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        try:
            answer = await self._request_token(request)
        except StatusError as error:
            if not is_not_found(error):
                raise
            await self._create_account()
            answer = await self._request_token(request)
        status = answer["status"]
        life = parse_time(status["expirationTimestamp"]).timestamp() - self._clock.time()
        self._token = status["token"]
        self._renew_at = self._clock.monotonic() + life * RENEW_SHARE

    async def _request_token(self, request: dict[str, Any]) -> Any:
        return await self._base.create(
            SERVICE_ACCOUNTS, request, self._namespace, name=self._name, subresource="token"
        )

    async def _create_account(self) -> None:
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": self._name, "namespace": self._namespace},
        }
        try:
            await self._base.create(SERVICE_ACCOUNTS, account, self._namespace)
        except StatusError as error:
            if not is_already_exists(error):
                raise
