"""clusterTrustBundle sources of projected volumes (pkg/kubelet/clustertrustbundle).

A source names one bundle, or a signer and labels; what it projects are the certificates of all
bundles that it means, each once and without headers or comments.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from pilothouse.apimachinery.errors import StatusError, is_not_found
from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import Obj, get_nested
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import CLUSTER_TRUST_BUNDLES
from pilothouse.kubelet.interfaces import MountError

_BLOCK = re.compile(
    r"^-----BEGIN CERTIFICATE-----\s*$(.*?)^-----END CERTIFICATE-----\s*$",
    re.DOTALL | re.MULTILINE,
)
_HEADER = re.compile(r"^[^\n:]+:.*\n", re.MULTILINE)


async def trust_anchors(client: Client, source: Obj) -> bytes:
    """The file's content. :raises MountError: nothing matches and the source is not optional."""
    optional = bool(source.get("optional"))
    if source.get("name") is not None:
        bundles = await _by_name(client, source["name"], optional)
    elif source.get("signerName") is not None:
        bundles = await _by_signer(client, source["signerName"], source.get("labelSelector"))
        if not bundles and not optional:
            raise MountError(
                "combination of signerName and labelSelector matched zero ClusterTrustBundles"
            )
    else:
        raise MountError("ClusterTrustBundle projection requires either name or signerName")
    return normalized(get_nested(b, "spec", "trustBundle", default="") for b in bundles)


async def _by_name(client: Client, name: str, optional: bool) -> list[Obj]:
    try:
        return [await client.get(CLUSTER_TRUST_BUNDLES, name)]
    except StatusError as error:
        if optional and is_not_found(error):
            return []
        raise MountError(f"while getting ClusterTrustBundle: {error.message}") from error


async def _by_signer(client: Client, signer: str, labels: Obj | None) -> list[Obj]:
    """Without a selector nothing matches, with an empty one everything."""
    selector = selector_from_label_selector(labels)
    try:
        listed = await client.list(CLUSTER_TRUST_BUNDLES)
    except StatusError as error:
        raise MountError(f"while listing ClusterTrustBundles: {error.message}") from error
    return [
        bundle
        for bundle in listed.items
        if get_nested(bundle, "spec", "signerName") == signer
        and selector.matches(bundle["metadata"].get("labels"))
    ]


def normalized(bundles: Iterable[str]) -> bytes:
    """The certificates of PEM texts: each once, in an order that depends on them alone."""
    certificates = {der for text in bundles for der in _certificates(text)}
    return b"".join(_pem(certificate) for certificate in sorted(certificates))


def clean_chain(text: str) -> bytes:
    """The certificates of a PEM text in its order, without headers or comments."""
    return b"".join(_pem(certificate) for certificate in _certificates(text))


def _certificates(text: str) -> list[bytes]:
    found = []
    for body in _BLOCK.findall(text):
        try:
            found.append(base64.b64decode(_HEADER.sub("", body)))
        except binascii.Error:
            continue
    return found


def _pem(certificate: bytes) -> bytes:
    text = base64.b64encode(certificate)
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""))
