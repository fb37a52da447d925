"""Signs ``kube-public/cluster-info`` with every bootstrap token that may sign.

A joining machine knows a token and fetches the ConfigMap anonymously: the signature proves to
it that the kubeconfig in there comes from somebody who knows the token, too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import Obj, name_of, namespace_of
from pilothouse.apis.core.bootstrap_tokens import NAMESPACE, is_token_secret, signing_token
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.resources import CONFIG_MAPS, SECRETS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

CONFIG_MAP_NAMESPACE, CONFIG_MAP_NAME = "kube-public", "cluster-info"
KUBECONFIG_KEY = "kubeconfig"
SIGNATURE_PREFIX = "jws-kubeconfig-"


def detached_signature(content: str, token_id: str, token_secret: str) -> str:
    """A compact HS256 JWS without its payload (RFC 7515, appendix F)."""
    header = _b64(json.dumps({"alg": "HS256", "kid": token_id}, separators=(",", ":")).encode())
    signed = f"{header}.{_b64(content.encode())}".encode()
    signature = hmac.new(token_secret.encode(), signed, hashlib.sha256).digest()
    return f"{header}..{_b64(signature)}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_data(data: dict[str, str], secrets: Iterable[Obj], now: datetime) -> dict[str, str]:
    """``data`` with the signatures of these tokens and no others."""
    content = data[KUBECONFIG_KEY]
    signed = {k: v for k, v in data.items() if not k.startswith(SIGNATURE_PREFIX)}
    for secret in sorted(secrets, key=name_of):
        if token := signing_token(secret, now):
            signed[SIGNATURE_PREFIX + token[0]] = detached_signature(content, *token)
    return signed


class BootstrapSigner(Controller):
    name = "bootstrap-signer-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 1) -> None:
        super().__init__(env, workers=workers)
        self._config_maps = self.watch(
            CONFIG_MAPS, self._config_map_changed, lambda _, new: self._config_map_changed(new)
        )
        self._secrets = self.watch(
            SECRETS,
            self._secret_changed,
            lambda _, new: self._secret_changed(new),
            self._secret_changed,
        )

    def _config_map_changed(self, config_map: Obj) -> None:
        if name_of(config_map) == CONFIG_MAP_NAME and (
            namespace_of(config_map) == CONFIG_MAP_NAMESPACE
        ):
            self.enqueue(config_map)

    def _secret_changed(self, secret: Obj) -> None:
        if is_token_secret(secret):
            self.queue.add(f"{CONFIG_MAP_NAMESPACE}/{CONFIG_MAP_NAME}")

    async def sync(self, key: str) -> None:
        config_map = self._config_maps.get(key)
        if config_map is None:
            return
        data = config_map.get("data") or {}
        if KUBECONFIG_KEY not in data:
            return
        tokens = [s for s in self._secrets.list(NAMESPACE) if is_token_secret(s)]
        signed = signed_data(data, tokens, self.clock.now())
        if signed == data:
            return
        try:
            await self.client.update(CONFIG_MAPS, {**config_map, "data": signed})
        except StatusError as error:
            # Either way the next event brings it back.
            if not is_conflict(error) and not is_not_found(error):
                raise
