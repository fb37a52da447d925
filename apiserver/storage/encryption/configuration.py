"""``--encryption-provider-config``: which kinds are encrypted, with which keys.

An EncryptionConfiguration (apiserver.config.k8s.io/v1): rules of resources (``secrets``,
``jobs.batch``, ``*.apps``, ``*.`` for the core group, ``*.*``) and providers, of which the first
writes and all read. Reading and checking only.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import ErrorList, Path, invalid, required
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.configuration_file import seconds
from pilothouse.apiserver.storage.encryption.transformers import (
    AESCBC,
    AESGCM,
    Identity,
    PrefixTransformers,
    Secretbox,
    Transformer,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.storage.encryption.kms import KMSTransformer

_KEYS = {"keys": [{"name": "string", "secret": "string"}]}
_KMS = {
    "name": "string",
    "endpoint": "string",
    "apiVersion": "string",
    "cachesize": "int",
    "timeout": "duration",
}
_SHAPE = {
    "resources": [
        {
            "resources": ["string"],
            "providers": [
                {"aesgcm": _KEYS, "aescbc": _KEYS, "secretbox": _KEYS, "identity": {}, "kms": _KMS}
            ],
        }
    ]
}
_PROVIDERS: dict[str, type[AESCBC] | type[AESGCM] | type[Secretbox]] = {
    "aesgcm": AESGCM,
    "aescbc": AESCBC,
    "secretbox": Secretbox,
}
_SIZES = {"aesgcm": (16, 24, 32), "aescbc": (16, 24, 32), "secretbox": (32,)}
_KMS_TIMEOUT = 3.0
_ANY = GroupResource("*", "*")
_NOT_SERVED = ("apiserveripinfo", "serviceipallocations", "servicenodeportallocations")


class EncryptionRules:
    """Transformers by resource."""

    def __init__(
        self,
        transformers: dict[GroupResource, PrefixTransformers],
        plugins: Sequence[KMSTransformer] = (),
    ) -> None:
        self._transformers = transformers
        self.plugins = tuple(plugins)
        """Those that must be watched."""
        self._check = PrefixTransformers([Identity()])

    def configured(self, resource: GroupResource) -> PrefixTransformers | None:
        """None: a kind that no rule names."""
        found = self._transformers
        return (
            found.get(resource) or found.get(GroupResource(resource.group, "*")) or found.get(_ANY)
        )

    def transformers(self, resource: GroupResource) -> PrefixTransformers:
        """Plain, but never to read encrypted data as if it were plain, where no rule is."""
        return self.configured(resource) or self._check


def load_rules(data: bytes) -> EncryptionRules:
    """:raises ValueError: with upstream's text."""
    from pilothouse.apiserver.configuration_file import aggregate, load_configuration

    try:
        config = load_configuration(
            data, "apiserver.config.k8s.io", "EncryptionConfiguration", ("v1",), _SHAPE
        )
    except ValueError as error:
        raise ValueError(
            f"error while parsing file: error decoding encryption provider configuration: {error}"
        ) from error
    rules = config.get("resources") or []
    if errors := validate(rules):
        raise ValueError(f"error while parsing file: {aggregate(errors)}")
    return _rules_of(rules)


def _rules_of(rules: list[Obj]) -> EncryptionRules:
    found: dict[GroupResource, list[Transformer]] = {}
    plugins: list[Any] = []
    for rule in rules:
        transformers = [
            each for provider in rule["providers"] for each in _transformers_of(provider)
        ]
        plugins += [each for each in transformers if hasattr(each, "probe")]
        for text in rule["resources"]:
            resource = parse_resource(text)
            for mask in (GroupResource(resource.group, "*"), _ANY):
                if mask in found:
                    raise ValueError(
                        "error while building transformers: resource "
                        f'"{_shown(resource)}" is masked by earlier rule "{_shown(mask)}"'
                    )
            found.setdefault(resource, []).extend(transformers)
    by_resource = {key: PrefixTransformers(each) for key, each in found.items()}
    return EncryptionRules(by_resource, plugins)


def _transformers_of(provider: Obj) -> list[Transformer]:
    """A transformer a key: each key's name is part of the prefix of its values."""
    for kind, made in _PROVIDERS.items():
        if provider.get(kind) is not None:
            return [
                made(f"k8s:enc:{kind}:v1:{key['name']}:".encode(), base64.b64decode(key["secret"]))
                for key in provider[kind]["keys"]
            ]
    if (kms := provider.get("kms")) is not None:
        from pilothouse.apiserver.storage.encryption.kms import KMSTransformer

        timeout = seconds(kms.get("timeout"), _KMS_TIMEOUT)
        return [KMSTransformer(kms["name"], kms["endpoint"], timeout)]
    return [Identity()]


def parse_resource(text: str) -> GroupResource:
    resource, _, group = text.partition(".")
    return GroupResource(group, resource)


def _shown(resource: GroupResource) -> str:
    if resource.resource == "*" and not resource.group:
        return "*."
    return f"{resource.resource}.{resource.group}" if resource.group else resource.resource


def validate(rules: list[Obj]) -> ErrorList:
    root = Path("resources")
    if not rules:
        return [required(root, f"at least one {root} is required")]
    found: ErrorList = []
    for number, rule in enumerate(rules):
        resources, providers = rule.get("resources") or [], rule.get("providers") or []
        path = root.index(number).child("resources")
        if not resources:
            found.append(required(path, f"at least one {path} is required"))
        found += _overlaps(resources, path)
        for index, text in enumerate(resources):
            if problem := _name_problem(text):
                found.append(invalid(path.index(index), text, problem))
        path = root.index(number).child("providers")
        if not providers:
            found.append(required(path, f"at least one {path} is required"))
        for index, provider in enumerate(providers):
            found += _provider(provider, path.index(index))
    return found


def _overlaps(resources: Sequence[str], path: Path) -> ErrorList:
    parsed = [parse_resource(text) for text in resources]
    found: ErrorList = []
    if len(set(parsed)) < len(parsed):
        detail = "the same resource cannot be specified multiple times"
        found.append(invalid(path, list(resources), detail))
    different = set(parsed)
    overlap = len(different) > 1 and (
        _ANY in different
        or any(
            a.group == b.group and "*" in (a.resource, b.resource)
            for a in different
            for b in different
            if a != b
        )
    )
    if overlap:
        detail = (
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is "
            "not allowed as they will be masked"
        )
        found.append(invalid(path, list(resources), detail))
    return found


def _name_problem(text: str) -> str:
    if text != text.lower():
        return "resource name should not contain capital letters"
    if text == "*":
        return (
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all "
            "resources"
        )
    if text in _NOT_SERVED:
        return "resources which do not have REST API/s cannot be encrypted"
    resource = parse_resource(text)
    if resource.group == "events.k8s.io":
        return (
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use "
            "'events' instead in the config file"
        )
    if resource.group == "extensions":
        return "'extensions' group has been removed and cannot be used for encryption"
    if resource.group == "*" and resource.resource != "*":
        return "encrypting the same resource across groups is not supported"
    return ""


def _provider(provider: Obj, path: Path) -> ErrorList:
    kinds = [kind for kind in provider if provider[kind] is not None]
    if not kinds:
        detail = (
            "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, "
            "Secretbox, Identity"
        )
        return [invalid(path, provider, detail)]
    if len(kinds) > 1:
        detail = (
            "more than one provider specified in a single element, should split into different "
            "list elements"
        )
        return [invalid(path, "REDACTED", detail)]
    kind = kinds[0]
    if kind == "kms":
        return _kms(provider["kms"], path.child("kms"))
    if kind == "identity":
        return []
    keys, path = provider[kind].get("keys") or [], path.child(kind, "keys")
    if not keys:
        return [required(path, "at least one keys is required")]
    return [each for i, key in enumerate(keys) for each in _key(key, path.index(i), _SIZES[kind])]


def _kms(kms: Obj, path: Path) -> ErrorList:
    found: ErrorList = []
    name, endpoint = kms.get("name") or "", kms.get("endpoint") or ""
    if not name:
        found.append(required(path.child("name"), "name is a mandatory field for a provider"))
    elif ":" in name:
        detail = f"invalid KMS provider name {name}, must not contain ':'"
        found.append(invalid(path.child("name"), name, detail))
    if (timeout := seconds(kms.get("timeout"), _KMS_TIMEOUT)) <= 0:
        detail = "timeout should be a positive value"
        found.append(invalid(path.child("timeout"), timeout, detail))
    where = path.child("endpoint")
    scheme = endpoint.partition(":")[0]
    if not endpoint:
        found.append(invalid(where, "", "endpoint is a mandatory field for a kms"))
    elif scheme != "unix":
        detail = f"unsupported scheme {scheme} for KMS provider, only unix is supported"
        found.append(invalid(where, endpoint, detail))
    version = kms.get("apiVersion") or "v1"
    if version != "v2":
        detail = "KMSv1 is disabled: use apiVersion v2"
        found.append(invalid(path.child("apiVersion"), version, detail))
    elif kms.get("cachesize") is not None:
        detail = "cachesize is not supported in v2"
        found.append(invalid(path.child("cachesize"), kms["cachesize"], detail))
    return found


def _key(key: Obj, path: Path, sizes: tuple[int, ...]) -> ErrorList:
    found: ErrorList = []
    if not key.get("name"):
        found.append(required(path.child("name"), "name is a mandatory field for a key"))
    where = path.child("secret")
    if not key.get("secret"):
        return [*found, required(where, "secret is a mandatory field for a key")]
    try:
        size = len(base64.b64decode(key["secret"], validate=True))
    except (binascii.Error, ValueError):
        return [*found, invalid(where, "REDACTED", "secrets must be base64 encoded")]
    if size not in sizes:
        listed = " ".join(map(str, sizes))
        detail = f"secret is not of the expected length, got {size}, expected one of [{listed}]"
        found.append(invalid(where, "REDACTED", detail))
    return found
