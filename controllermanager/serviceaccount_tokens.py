"""Long-lived tokens in Secrets of type ``kubernetes.io/service-account-token``.

A user makes such a Secret with the annotation ``kubernetes.io/service-account.name``; this
controller fills it in, and deletes it when its ServiceAccount is gone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    meta,
    name_of,
    namespace_of,
    uid_of,
)
from pilothouse.controllermanager.controller import Controller
from pilothouse.kubeclient.interfaces import DeleteOptions
from pilothouse.kubeclient.resources import SECRETS, SERVICE_ACCOUNTS

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

TYPE = "kubernetes.io/service-account-token"
NAME_ANNOTATION = "kubernetes.io/service-account.name"
UID_ANNOTATION = "kubernetes.io/service-account.uid"
ISSUER = "kubernetes/serviceaccount"


class TokenSigner:
    """Signs with the service accounts' key (PEM, ECDSA P-256 or RSA), read at the first use."""

    def __init__(self, key_file: str) -> None:
        self._file = key_file
        self._key: Any = None

    def token(self, account: Obj, secret: Obj) -> str:
        prefix = "kubernetes.io/serviceaccount"
        claims = {
            "iss": ISSUER,
            f"{prefix}/namespace": namespace_of(secret),
            f"{prefix}/secret.name": name_of(secret),
            f"{prefix}/service-account.name": name_of(account),
            f"{prefix}/service-account.uid": uid_of(account),
            "sub": f"system:serviceaccount:{namespace_of(account)}:{name_of(account)}",
        }
        key = self._load()
        algorithm = "ES256" if hasattr(key, "curve") else "RS256"
        header = {"alg": algorithm, "kid": _key_id(key)}
        signed = f"{_encode(header)}.{_encode(claims)}"
        return f"{signed}.{_base64(_sign(key, signed.encode()))}"

    def _load(self) -> Any:
        if self._key is None:
            from cryptography.hazmat.primitives.serialization import load_pem_private_key

            with open(self._file, "rb") as file:
                self._key = load_pem_private_key(file.read(), None)
        return self._key


def _sign(key: Any, data: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    if not hasattr(key, "curve"):
        return bytes(key.sign(data, padding.PKCS1v15(), hashes.SHA256()))
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _key_id(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _base64(hashlib.sha256(der).digest())


def _encode(value: Obj) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def account_of(secret: Obj) -> str:
    """Name of the account that the Secret is for; '' when it is for none."""
    if secret.get("type") != TYPE:
        return ""
    return (meta(secret).get("annotations") or {}).get(NAME_ANNOTATION) or ""


def completed(secret: Obj, account: Obj, root_ca: str, signer: TokenSigner) -> Obj | None:
    """The Secret with everything that it lacks; None: nothing."""
    data = dict(secret.get("data") or {})
    wanted = {
        "ca.crt": base64.b64encode(root_ca.encode()).decode() if root_ca else data.get("ca.crt"),
        "namespace": base64.b64encode(namespace_of(secret).encode()).decode(),
        "token": data.get("token")
        or base64.b64encode(signer.token(account, secret).encode()).decode(),
    }
    changes = {key: value for key, value in wanted.items() if value and data.get(key) != value}
    annotations = meta(secret).get("annotations") or {}
    if not changes and annotations.get(UID_ANNOTATION) == uid_of(account):
        return None
    new: Obj = copy_object(secret)
    new["data"] = {**data, **changes}
    new["metadata"]["annotations"] = {**annotations, UID_ANNOTATION: uid_of(account)}
    return new


class ServiceAccountTokenController(Controller):
    name = "serviceaccount-token-controller"

    def __init__(self, env: Environment, *, key_file: str, root_ca: str, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._signer = TokenSigner(key_file)
        self._root_ca = root_ca
        self._secrets = self.watch(SECRETS, self._changed, lambda _, new: self._changed(new))
        self._accounts = self.watch(
            SERVICE_ACCOUNTS, on_add=self._account_changed, on_delete=self._account_changed
        )

    def _changed(self, secret: Obj) -> None:
        if account_of(secret):
            self.enqueue(secret)

    def _account_changed(self, account: Obj) -> None:
        for secret in self._secrets.list(namespace_of(account)):
            if account_of(secret) == name_of(account):
                self.enqueue(secret)

    async def sync(self, key: str) -> None:
        secret = self._secrets.get(key)
        if secret is None or not account_of(secret):
            return
        account = await self._account(secret)
        wanted_uid = (meta(secret).get("annotations") or {}).get(UID_ANNOTATION)
        if account is None or (wanted_uid and wanted_uid != uid_of(account)):
            await self._delete(secret)
            return
        new = completed(secret, account, self._root_ca, self._signer)
        if new is not None:
            await self.client.update(SECRETS, new)

    async def _account(self, secret: Obj) -> Obj | None:
        name, namespace = account_of(secret), namespace_of(secret)
        account = self._accounts.get(f"{namespace}/{name}")
        if account is not None:
            return account
        try:
            return await self.client.get(SERVICE_ACCOUNTS, name, namespace)
        except StatusError as error:
            if is_not_found(error):
                return None
            raise

    async def _delete(self, secret: Obj) -> None:
        options = DeleteOptions(precondition_uid=uid_of(secret))
        try:
            await self.client.delete(SECRETS, name_of(secret), namespace_of(secret), options)
        except StatusError as error:
            if not is_not_found(error):
                raise
