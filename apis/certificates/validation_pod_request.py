"""PodCertificateRequests (pkg/apis/certificates/validation): made once, answered once."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from pilothouse.apimachinery.names import is_dns1123_subdomain
from pilothouse.apis.certificates.signer_names import is_kubernetes_signer, signer_name
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import add_all, invalid, not_supported, required, too_long
from pilothouse.apis.meta.validation import immutable

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

MIN_SECONDS = 3600
MAX_SECONDS = 91 * 86400
KUBERNETES_MAX_SECONDS = 86400
MAX_CHAIN = 100 * 1024
OUTCOMES = ("Issued", "Denied", "Failed")
_NAMES = ("podName", "serviceAccountName", "nodeName")
_UIDS = ("podUID", "serviceAccountUID", "nodeUID")
_CHAIN = "status.certificateChain"
_KEYS = (3072, 4096)


def validate_pod_request(request: Obj) -> ErrorList:
    errors: ErrorList = []
    spec = request.get("spec") or {}
    signer = spec.get("signerName") or ""
    signer_name(errors, signer, "spec.signerName")
    for field in _NAMES:
        value = spec.get(field) or ""
        add_all(errors, f"spec.{field}", value, is_dns1123_subdomain(value))
    for field in _UIDS:
        uid = spec.get(field) or ""
        if not uid:
            errors.append(invalid(f"spec.{field}", uid, "must not be empty"))
        if len(uid) > 128:
            errors.append(too_long(f"spec.{field}", 128))
    seconds = spec.get("maxExpirationSeconds")
    if seconds is None:
        errors.append(required("spec.maxExpirationSeconds", "must be set"))
        return errors
    limit = KUBERNETES_MAX_SECONDS if is_kubernetes_signer(signer) else MAX_SECONDS
    if not MIN_SECONDS <= seconds <= limit:
        message = f"must be in the range [{MIN_SECONDS}, {limit}]"
        errors.append(invalid("spec.maxExpirationSeconds", seconds, message))
    _key(errors, spec)
    return errors


def _key(errors: ErrorList, spec: Obj) -> None:
    stub = spec.get("stubPKCS10Request") or ""
    deprecated = [spec.get(name) for name in ("pkixPublicKey", "proofOfPossession")]
    if stub and not any(deprecated):
        message = stub_message(stub)
        if message:
            errors.append(invalid("spec.stubPKCS10Request", "", message))
    elif stub or not all(deprecated):
        errors.append(
            invalid(
                "spec", "",
                "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) "
                "must be set",
            )
        )  # fmt: skip


def stub_message(encoded: str) -> str:
    """Why it is no signed PKCS #10 request with a key of a known kind; empty when it is."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        request = x509.load_der_x509_csr(base64.b64decode(encoded))
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        return "must be a valid PKCS#10 CSR"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
            return "elliptic public keys must use curve P256, P384, or P521"
    elif isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in _KEYS:
            return "RSA keys must have modulus size 3072 or 4096"
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        return "unknown public key type; supported types are Ed25519, ECDSA, and RSA"
    return "" if request.is_signature_valid else "invalid signature"


def validate_pod_request_update(request: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    immutable(errors, request.get("spec"), old.get("spec"), "spec")
    return errors


def validate_pod_request_status_update(request: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    status, before = request.get("status") or {}, old.get("status") or {}
    _conditions(errors, status.get("conditions") or [])
    if errors:
        return errors
    outcome = _outcome(status)
    if _outcome(before):
        _same(errors, status, before, "immutable after PodCertificateRequest is issued, denied, "
              "or failed")  # fmt: skip
    elif outcome in ("Denied", "Failed"):
        _same(errors, status, {"conditions": status["conditions"]}, "non-condition status fields "
              "must be empty when denying or failing the PodCertificateRequest")  # fmt: skip
    elif outcome:
        message = _chain_message(status, (request.get("spec") or {}).get("maxExpirationSeconds"))
        if message:
            errors.append(invalid(_CHAIN, status.get("certificateChain") or "", message))
    else:
        _same(errors, status, before, 'status is immutable unless transitioning to "Issued", '
              '"Denied", or "Failed"')  # fmt: skip
    return errors


def _conditions(errors: ErrorList, conditions: list[Obj]) -> None:
    known = 0
    for i, condition in enumerate(conditions):
        path, kind = f"status.conditions[{i}]", condition.get("type") or ""
        if kind not in OUTCOMES:
            errors.append(not_supported(f"{path}.type", kind, OUTCOMES))
            continue
        known += 1
        if known > 1:
            message = 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
            errors.append(invalid(f"{path}.type", kind, message))
        if condition.get("status") != "True":
            errors.append(not_supported(f"{path}.status", condition.get("status") or "", ["True"]))


def _outcome(status: Obj) -> str:
    conditions = status.get("conditions") or ()
    return next((str(c["type"]) for c in conditions if c.get("type") in OUTCOMES), "")


def _same(errors: ErrorList, status: Obj, wanted: Obj, message: str) -> None:
    if not semantic_equal(status, wanted):
        errors.append(invalid("status", "", message))


def _chain_message(status: Obj, max_seconds: int | None) -> str:
    """Why the issued chain can't be accepted; empty when it can."""
    from cryptography import x509

    text = status.get("certificateChain") or ""
    if len(text) > MAX_CHAIN:
        return f"must have at most {MAX_CHAIN} bytes"
    if "-----BEGIN CERTIFICATE-----" not in text:
        return "issued certificate chain must contain at least one certificate"
    try:
        leaf = x509.load_pem_x509_certificates(text.encode())[0]
    except ValueError:
        return "leaf certificate does not parse as valid X.509"
    lifetime = (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds()
    if lifetime < MIN_SECONDS:
        return "leaf certificate lifetime must be >= 1 hour"
    if max_seconds is not None and lifetime > max_seconds:
        return f"leaf certificate lifetime must be <= spec.maxExpirationSeconds ({max_seconds})"
    return ""
