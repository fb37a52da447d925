"""Certificate signing requests."""

from __future__ import annotations

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PARTS = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}


def signing_request(wanted: dict[str, Any], label: str) -> dict[str, Any]:
    """``subject`` is ``/O=team/CN=jane``."""
    pairs = [part.split("=", 1) for part in wanted["subject"].strip("/").split("/")]
    subject = x509.Name([x509.NameAttribute(_PARTS[key], value) for key, value in pairs])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    spec = {"request": base64.b64encode(pem).decode(), "signerName": wanted["signer"],
            "usages": wanted["usages"]}  # fmt: skip
    if "expirationSeconds" in wanted:
        spec["expirationSeconds"] = wanted["expirationSeconds"]
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": wanted["name"], "labels": {"scenario": label}},
        "spec": spec,
    }
