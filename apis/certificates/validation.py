"""CertificateSigningRequests."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from pilothouse.apis.certificates.signer_names import signer_name
from pilothouse.apis.core.spec_diff import go_diff
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import duplicate, forbidden, invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"
DECISIONS = ("Approved", "Denied")
_ONLY_TRUE = ("Approved", "Denied", "Failed")
_STATUSES = ("False", "True", "Unknown")
_MIN_SECONDS = 600
USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)


def validate_signing_request(request: Obj, old: Obj | None = None) -> ErrorList:
    """What an old object already broke stays allowed in an update."""
    errors: ErrorList = []
    spec, before = request.get("spec") or {}, (old or {}).get("spec") or {}
    message = _request_message(spec.get("request") or "")
    if message:
        errors.append(invalid("spec.request", spec.get("request") or None, message))
    _usages(errors, spec.get("usages") or [], before.get("usages") or [])
    signer = spec.get("signerName") or ""
    if signer == LEGACY_UNKNOWN and before.get("signerName") != LEGACY_UNKNOWN:
        message = "the legacy signerName is not allowed via this API version"
        errors.append(invalid("spec.signerName", signer, message))
    else:
        signer_name(errors, signer, "spec.signerName")
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _MIN_SECONDS:
        message = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid("spec.expirationSeconds", seconds, message))
    _conditions(errors, _conditions_of(request), _conditions_of(old or {}))
    certificate = _certificate(request)
    if old is None or certificate != _certificate(old):
        message = _certificate_message(certificate)
        if message and not (old and _certificate_message(_certificate(old))):
            errors.append(invalid("status.certificate", "<certificate data>", message))
    return errors


def _usages(errors: ErrorList, usages: list[str], before: list[str]) -> None:
    if not usages:
        errors.append(required("spec.usages"))
    if all(usage in USAGES for usage in before):
        for i, usage in enumerate(usages):
            if usage not in USAGES:
                errors.append(not_supported(f"spec.usages[{i}]", usage, USAGES))
    if len(before) == len(set(before)):
        for i, usage in enumerate(usages):
            if usage in usages[:i]:
                errors.append(duplicate(f"spec.usages[{i}]", usage))


def _conditions_of(request: Obj) -> list[Obj]:
    conditions: list[Obj] = (request.get("status") or {}).get("conditions") or []
    return conditions


def _certificate(request: Obj) -> str:
    return (request.get("status") or {}).get("certificate") or ""


def _conditions(errors: ErrorList, conditions: list[Obj], before: list[Obj]) -> None:
    old_types = [condition.get("type") or "" for condition in before]
    path = "status.conditions"
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        kind, status = condition.get("type") or "", condition.get("status") or ""
        if not kind and "" not in old_types:
            errors.append(required(f"{path}[{i}].type"))
        allowed = ("True",) if kind in _ONLY_TRUE else _STATUSES
        if not status:
            errors.append(required(f"{path}[{i}].status"))
        elif status not in allowed:
            errors.append(not_supported(f"{path}[{i}].status", status, allowed))
        if kind in DECISIONS and not set(DECISIONS) <= set(old_types):
            if seen & (set(DECISIONS) - {kind}):
                message = "Approved and Denied conditions are mutually exclusive"
                errors.append(invalid(path, kind, message))
        if kind in seen and len(old_types) == len(set(old_types)):
            errors.append(duplicate(f"{path}[{i}].type", kind))
        seen.add(kind)


def _request_message(encoded: str) -> str:
    """Why ``encoded`` is no signed PKCS #10 request; empty when it is."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    pem = _decoded(encoded)
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        request = x509.load_pem_x509_csr(pem)
        return "" if request.is_signature_valid else "x509: invalid signature"
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"asn1: structure error: {error}"


def _certificate_message(encoded: str) -> str:
    from cryptography import x509

    if not encoded:
        return ""
    pem = _decoded(encoded)
    for line in pem.splitlines():
        kind = line.removeprefix(b"-----BEGIN ").removesuffix(b"-----").decode(errors="replace")
        if line.startswith(b"-----BEGIN ") and kind != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{kind}"'
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        return "must contain at least one CERTIFICATE PEM block"
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        return f"x509: malformed certificate: {error}"
    return ""


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded)
    except binascii.Error:
        return b""


def validate_signing_request_update(request: Obj, old: Obj) -> ErrorList:
    """Of the resource itself: neither decisions nor the certificate may change."""
    errors = _update(request, old)
    _decisions(errors, request, old)
    if _certificate(request) != _certificate(old):
        message = "updates may not set certificate content"
        errors.append(forbidden("status.certificate", message))
    return errors


def validate_signing_request_status_update(request: Obj, old: Obj) -> ErrorList:
    """Of ``/status``: a certificate may be set once."""
    errors = _update(request, old)
    _decisions(errors, request, old)
    if _certificate(request) != _certificate(old) and _certificate(old):
        message = "updates may not modify existing certificate content"
        errors.append(forbidden("status.certificate", message))
    return errors


def validate_signing_request_approval_update(request: Obj, old: Obj) -> ErrorList:
    """Of ``/approval``: decisions may be added."""
    errors = _update(request, old)
    if _certificate(request) != _certificate(old):
        message = "updates may not set certificate content"
        errors.append(forbidden("status.certificate", message))
    return errors


def _update(request: Obj, old: Obj) -> ErrorList:
    errors = validate_signing_request(request, old)
    for kind in _ONLY_TRUE:
        if len(_of_type(request, kind)) < len(_of_type(old, kind)):
            message = f'updates may not remove a condition of type "{kind}"'
            errors.append(forbidden("status.conditions", message))
    return errors


def _decisions(errors: ErrorList, request: Obj, old: Obj) -> None:
    for kind in DECISIONS:
        new, before = _of_type(request, kind), _of_type(old, kind)
        if len(new) > len(before):
            message = f'updates may not add a condition of type "{kind}"'
            errors.append(forbidden("status.conditions", message))
        elif len(new) == len(before) and not semantic_equal(new, before):
            message = f'updates may not modify a condition of type "{kind}"\n'
            errors.append(forbidden("status.conditions", message + go_diff(before, new)))


def _of_type(request: Obj, kind: str) -> list[Obj]:
    return [c for c in _conditions_of(request) if c.get("type") == kind]
