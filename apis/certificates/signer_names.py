"""Names of signers and of the trust bundles that belong to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apis.meta.errors import invalid, required, too_long

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList

_MAX_LENGTH = 253 + 253 + 63 + 2


def is_kubernetes_signer(name: str) -> bool:
    """Whether the signer's domain is Kubernetes' own."""
    host = name.partition("/")[0]
    return host == "kubernetes.io" or host.endswith(".kubernetes.io")


def signer_name(errors: ErrorList, name: str, path: str) -> None:
    """ValidateSignerName: ``example.com/signer-name``."""
    if not name:
        errors.append(required(path))
        return
    segments = name.split("/")
    if len(segments) != 2:
        message = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        errors.append(invalid(path, name, message))
        return
    domain, rest = segments
    if len(domain) > 253:
        errors.append(too_long(path, 253))
    for label in domain.split("."):
        messages = names.is_dns1123_label(label)
        if messages:
            errors.extend(
                invalid(path, domain, f'validating label "{label}": {m}') for m in messages
            )
            break
    if "." not in domain:
        message = "should be a domain with at least two segments separated by dots"
        errors.append(invalid(path, domain, message))
    for label in rest.split("."):
        messages = names.is_dns1123_subdomain(label)
        if messages:
            errors.extend(invalid(path, rest, f'validating label "{label}": {m}') for m in messages)
            break
    if len(name) > _MAX_LENGTH:
        errors.append(too_long(path, _MAX_LENGTH))


def cluster_trust_bundle_name_messages(
    name: str, signer: str | None = None, *, prefix: bool = False
) -> list[str]:
    """ValidateClusterTrustBundleName; without ``signer`` it is read from the name."""
    if signer is None:
        signer = name.rpartition(":")[0].replace(":", "/")
    if not signer:
        if ":" in name:
            return ['ClusterTrustBundle without signer name must not have ":" in its name']
        return names.is_dns1123_subdomain(name, prefix=prefix)
    wanted = signer.replace("/", ":") + ":"
    if not name.startswith(wanted):
        return [f"ClusterTrustBundle for signerName {signer} must be named with prefix {wanted}"]
    return names.is_dns1123_subdomain(name[len(wanted) :], prefix=prefix)
