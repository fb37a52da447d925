"""Secrets: ``stringData`` is folded into ``data``; types have required keys."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.defaults_objects import set_secret_defaults
from pilothouse.apis.core.validation_config import validate_secret, validate_secret_update
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


def fold_string_data(secret: Obj) -> None:
    """Convert_v1_Secret_To_core_Secret: ``stringData`` wins over ``data`` and is not kept."""
    strings = secret.pop("stringData", None)
    if strings:
        data = dict(secret.get("data") or {})
        for key, text in strings.items():
            data[key] = base64.b64encode((text or "").encode()).decode()
        secret["data"] = data


class SecretStrategy(BuiltInStrategy):
    resource = GroupResource("", "secrets")
    has_status = False
    has_generation = False
    selectable_fields = ("type",)

    def default(self, obj: Obj) -> None:
        set_secret_defaults(obj)
        fold_string_data(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        fold_string_data(obj)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        fold_string_data(obj)
        if not obj.get("type") and old.get("type"):
            obj["type"] = old["type"]

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_secret(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_secret_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return tls_warnings(obj)

    def warnings_on_update(self, context: RegistryContext, obj: Obj, old: Obj) -> list[str]:
        return tls_warnings(obj)


def tls_warnings(secret: Obj) -> list[str]:
    """A TLS secret whose key pair does not load is let pass with a warning."""
    if secret.get("type") != "kubernetes.io/tls":
        return []
    data = secret.get("data") or {}
    message = _key_pair_error(data.get("tls.crt") or "", data.get("tls.key") or "")
    return [message] if message else []


def _key_pair_error(certificate: str, key: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        certificate_pem, key_pem = base64.b64decode(certificate), base64.b64decode(key)
        if b"-----BEGIN CERTIFICATE" not in certificate_pem:
            return "tls: failed to find any PEM data in certificate input"
        if b"PRIVATE KEY-----" not in key_pem:
            return "tls: failed to find any PEM data in key input"
        public = x509.load_pem_x509_certificate(certificate_pem).public_key()
        private = serialization.load_pem_private_key(key_pem, password=None)
    except Exception as error:  # every parser of the library has errors of its own
        return f"tls: failed to parse private key or certificate: {error}"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoding = serialization.Encoding.DER
    own = private.public_key().public_bytes(encoding, form)
    if own != public.public_bytes(encoding, form):
        return "tls: private key does not match public key"
    return ""


STRATEGY = SecretStrategy()
