"""ClusterTrustBundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.certificates.signer_names import signer_name
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.errors import invalid, too_long

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_MAX_SIZE = 1 << 20
_PATH = "spec.trustBundle"


def validate_trust_bundle(bundle: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = bundle.get("spec") or {}
    signer, text = spec.get("signerName") or "", spec.get("trustBundle") or ""
    if signer:
        signer_name(errors, signer, "spec.signerName")
    before = None if old is None else old.get("spec") or {}
    if before is None or text != before.get("trustBundle"):
        _anchors(errors, text)
    if before is not None:
        check.immutable(errors, signer, before.get("signerName") or "", "spec.signerName")
    return errors


def _anchors(errors: ErrorList, text: str) -> None:
    if len(text.encode()) > _MAX_SIZE:
        errors.append(too_long(_PATH, _MAX_SIZE))
        return
    found: dict[bytes, list[int]] = {}
    good = True
    for i, (kind, block) in enumerate(_blocks(text)):
        message, content = _anchor(kind, block)
        if message:
            good = False
            errors.append(invalid(_PATH, "<value omitted>", f"entry {i} {message}"))
        else:
            found.setdefault(content, []).append(i)
    if not good:
        return
    if not found:
        message = "at least one trust anchor must be provided"
        errors.append(invalid(_PATH, "<value omitted>", message))
    for indices in found.values():
        if len(indices) > 1:
            message = f"duplicate trust anchor (indices [{' '.join(map(str, indices))}])"
            errors.append(invalid(_PATH, "<value omitted>", message))


def _blocks(text: str) -> list[tuple[str, str]]:
    """Type and full text of each PEM block."""
    blocks: list[tuple[str, str]] = []
    for part in text.split("-----BEGIN ")[1:]:
        kind, _, rest = part.partition("-----")
        end = f"-----END {kind}-----"
        if end in rest:
            body = rest.partition(end)[0]
            blocks.append((kind, f"-----BEGIN {kind}-----{body}{end}\n"))
    return blocks


def _anchor(kind: str, block: str) -> tuple[str, bytes]:
    """What is wrong with a block, and the certificate in it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    if kind != "CERTIFICATE":
        return f"has bad block type: {kind}", b""
    if ":" in block:
        return "has PEM block headers", b""
    try:
        certificate = x509.load_pem_x509_certificate(block.encode())
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return "does not have the CA bit set", b""
    except ValueError:
        return "does not parse as X.509", b""
    if not constraints.value.ca:
        return "does not have the CA bit set", b""
    return "", certificate.public_bytes(Encoding.DER)
