"""Signs approved requests for the kubernetes.io signers with the cluster's CA.

``--cluster-signing-cert-file`` and ``-key-file`` serve all four signers, or each has files of
its own. The files are read at each signing, so a renewed CA is used at once.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object, get_nested
from pilothouse.controllermanager.certificates.authority import (
    Authority,
    SigningError,
    lifetime,
    sign,
)
from pilothouse.controllermanager.certificates.request import (
    FAILED,
    RequestError,
    has_failed,
    is_approved,
    parse_request,
    problem_of,
)
from pilothouse.controllermanager.controller import Controller, SyncError
from pilothouse.kubeclient.resources import CERTIFICATE_SIGNING_REQUESTS

if TYPE_CHECKING:
    from cryptography import x509

    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.interfaces import Environment

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SignerFiles:
    """Where a signer's CA is."""

    cert_file: str
    key_file: str


class SigningController(Controller):
    """``signers`` maps signer names to their files; requests for others are left alone."""

    name = "certificatesigningrequest-signing-controller"
    retry_delays = (0.2, 1000.0)
    max_retries = None

    def __init__(
        self,
        env: Environment,
        signers: Mapping[str, SignerFiles],
        duration: float,
        *,
        workers: int = 5,
    ) -> None:
        super().__init__(env, workers=workers)
        self._signers = dict(signers)
        self._duration = timedelta(seconds=duration)
        self._requests = self.watch_keys(CERTIFICATE_SIGNING_REQUESTS)

    async def sync(self, key: str) -> None:
        csr = self._requests.get(key)
        if csr is None or get_nested(csr, "status", "certificate"):
            return
        if not is_approved(csr) or has_failed(csr):
            return
        signer = csr["spec"].get("signerName") or ""
        files = self._signers.get(signer)
        if files is None:
            return
        try:
            request = parse_request(csr)
        except RequestError as error:
            raise SyncError(f'unable to parse csr "{key}": {error}') from error
        usages = csr["spec"].get("usages") or []
        if problem := problem_of(signer, request, usages):
            await self._fail(csr, problem)
            return
        new = copy_object(csr)
        certificate = self._sign(files, request, csr)
        new.setdefault("status", {})["certificate"] = base64.b64encode(certificate).decode()
        await self.client.update(CERTIFICATE_SIGNING_REQUESTS, new, subresource="status")

    def _sign(self, files: SignerFiles, request: x509.CertificateSigningRequest, csr: Obj) -> bytes:
        spec = csr["spec"]
        ttl = lifetime(self._duration, spec.get("expirationSeconds"))
        try:
            authority = Authority.load(files.cert_file, files.key_file)
            return sign(authority, request, spec.get("usages") or [], ttl, self.clock.now())
        except (OSError, ValueError, SigningError) as error:
            raise SyncError(f"error auto signing csr: {error}") from error

    async def _fail(self, csr: Obj, problem: str) -> None:
        new = copy_object(csr)
        new.setdefault("status", {}).setdefault("conditions", []).append(
            {
                "type": FAILED,
                "status": "True",
                "reason": "SignerValidationFailure",
                "message": problem,
                "lastUpdateTime": self.timestamp(),
            }
        )
        await self.client.update(CERTIFICATE_SIGNING_REQUESTS, new, subresource="status")
