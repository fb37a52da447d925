"""Projected volumes: several sources in one directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.certificates.signer_names import (
    cluster_trust_bundle_name_messages,
    is_kubernetes_signer,
    signer_name,
)
from pilothouse.apis.core.validation_paths import (
    file_mode,
    local_non_reserved_path,
    user_id,
)
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import (
    add_all,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")


class _Paths:
    """The file names taken so far, over all sources."""

    def __init__(self, errors: ErrorList, path: str) -> None:
        self.errors = errors
        self.path = path
        self.taken: set[str] = set()

    def take(self, name: str, shown: str) -> None:
        if name in self.taken:
            self.errors.append(invalid(self.path, shown, "conflicting duplicate paths"))
        self.taken.add(name)


def validate_projected(
    errors: ErrorList, projected: Obj, path: str, allow_non_local_token_path: bool
) -> None:
    file_mode(errors, projected, "defaultMode", path)
    user_id(errors, projected, "defaultUser", path)
    paths = _Paths(errors, path)
    for i, source in enumerate(projected.get("sources") or ()):
        at = f"{path}.sources[{i}]"
        found = 0
        for kind, check_source in _SOURCES.items():
            value = source.get(kind)
            if value is not None:
                found += 1
                check_source(errors, value, f"{at}.{kind}", paths)
        token = source.get("serviceAccountToken")
        if token is not None:
            found += 1
            _token(errors, token, f"{at}.serviceAccountToken", path, allow_non_local_token_path)
        if found > 1:
            message = "may not specify more than 1 volume type per source"
            errors.append(forbidden(at, message))


def _keyed(errors: ErrorList, source: Obj, path: str, paths: _Paths) -> None:
    from pilothouse.apis.core.validation_volume import key_to_path

    name = source.get("name") or ""
    if not name:
        errors.append(required(f"{path}.name"))
    for i, item in enumerate(source.get("items") or ()):
        key_to_path(errors, item, f"{path}.items[{i}]")
        if item.get("path"):
            paths.take(item["path"], name)


def _downward_api(errors: ErrorList, source: Obj, path: str, paths: _Paths) -> None:
    from pilothouse.apis.core.validation_volume import downward_api_file

    for file in source.get("items") or ():
        downward_api_file(errors, file, path)
        if file.get("path"):
            paths.take(file["path"], file["path"])


def _token(
    errors: ErrorList, token: Obj, path: str, volume_path: str, allow_non_local_path: bool
) -> None:
    seconds = token.get("expirationSeconds")
    if seconds is None:
        errors.append(required(f"{path}.expirationSeconds"))
    else:
        if seconds < 600:
            message = "may not specify a duration less than 10 minutes"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, message))
        if seconds > 1 << 32:
            message = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, message))
    target = token.get("path") or ""
    if not target:
        errors.append(required(f"{volume_path}.path"))
    elif not allow_non_local_path:
        local_non_reserved_path(errors, target, f"{volume_path}.path")
    user_id(errors, token, "user", path)


def _trust_bundle(errors: ErrorList, source: Obj, path: str, paths: _Paths) -> None:
    name, signer = source.get("name"), source.get("signerName")
    if name is not None and signer is not None:
        message = "only one of name and signerName may be used"
        errors.append(invalid(path, source, message))
    elif name is not None:
        if not name:
            errors.append(required(f"{path}.name", "must be a valid object name"))
        for message in cluster_trust_bundle_name_messages(name):
            text = f"not a valid clustertrustbundlename: {message}"
            errors.append(invalid(f"{path}.name", name, text))
        if source.get("labelSelector") is not None:
            message = "labelSelector must be unset if name is specified"
            errors.append(invalid(f"{path}.labelSelector", source["labelSelector"], message))
    elif signer is not None:
        if not signer:
            errors.append(required(f"{path}.signerName", "must be a valid signer name"))
        signer_name(errors, signer, f"{path}.signerName")
        check.label_selector(errors, source.get("labelSelector"), f"{path}.labelSelector")
    else:
        errors.append(required(path, "either name or signerName must be specified"))
    target = source.get("path") or ""
    if not target:
        errors.append(required(f"{path}.path"))
    user_id(errors, source, "user", path)
    local_non_reserved_path(errors, target, f"{path}.path")
    paths.take(target, target)


def _pod_certificate(errors: ErrorList, source: Obj, path: str, paths: _Paths) -> None:
    signer = source.get("signerName") or ""
    signer_name(errors, signer, f"{path}.signerName")
    annotations = source.get("userAnnotations")
    if annotations:
        _user_annotations(errors, annotations, f"{path}.userAnnotations")
    user_id(errors, source, "user", path)
    key_type = source.get("keyType") or ""
    if key_type not in _KEY_TYPES:
        errors.append(not_supported(f"{path}.keyType", key_type, _KEY_TYPES))
    seconds = source.get("maxExpirationSeconds")
    if seconds is not None:
        _max_expiration(errors, seconds, signer, f"{path}.maxExpirationSeconds")
    targets = [
        (field, source[field])
        for field in ("credentialBundlePath", "keyPath", "certificateChainPath")
        if source.get(field)
    ]
    for field, target in targets:
        local_non_reserved_path(errors, target, f"{path}.{field}")
        paths.take(target, target)
    if not targets:
        message = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        errors.append(required(path, message))


def _max_expiration(errors: ErrorList, seconds: int, signer: str, path: str) -> None:
    if seconds < 3600:
        message = "if provided, maxExpirationSeconds must be >= 3600"
        errors.append(invalid(path, seconds, message))
    kubernetes = is_kubernetes_signer(signer)
    limit = 24 * 3600 if kubernetes else 91 * 24 * 3600
    if seconds > limit:
        message = f"if provided, maxExpirationSeconds must be <= {limit}"
        errors.append(invalid(path, seconds, message))


def _user_annotations(errors: ErrorList, annotations: Obj, path: str) -> None:
    for key in annotations:
        add_all(errors, path, key.lower(), domain_prefixed_key(key.lower()))
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > 262144:
        errors.append(too_long(path, 262144))


def domain_prefixed_key(key: str) -> list[str]:
    """IsDomainPrefixedKey: a label key with a prefix."""
    if not key:
        return ["name part must be non-empty"]
    messages = names.is_qualified_name(key)
    if not messages and "/" not in key:
        messages = ['must be a domain-prefixed key (such as "acme.io/foo")']
    return messages


_SOURCES: dict[str, Callable[[ErrorList, Obj, str, _Paths], None]] = {
    "secret": _keyed,
    "configMap": _keyed,
    "downwardAPI": _downward_api,
    "clusterTrustBundle": _trust_bundle,
    "podCertificate": _pod_certificate,
}
