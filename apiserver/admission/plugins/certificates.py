"""Who may approve, sign and attest for which signer, and what no CSR may ask for."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import Plugin, refuse
from pilothouse.apiserver.authorization.escalation import only_gc_fields_differ
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.remote import resolve
from pilothouse.componentbase.der import ORGANIZATION, pem_blocks, read_request_subject

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.request.context import UserInfo

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"
_GROUP = "certificates.k8s.io"


class _SignerPlugin(Plugin):
    async def authorized(self, user: UserInfo, verb: str, signer: str) -> bool:
        """For the signer itself or for its whole domain (certauthorization)."""
        authorizer = self.context.hooks.authorizer
        if authorizer is None:
            return True
        return await resolve(authorizer, lambda view: self._may(view, user, verb, signer))

    def _may(self, authorizer: Authorizer, user: UserInfo, verb: str, signer: str) -> bool:
        domain = signer.partition("/")[0]
        for name in (signer, f"{domain}/*"):
            attributes = AuthorizationAttributes(
                user, verb, group=_GROUP, version="*", resource="signers", name=name
            )
            if authorizer.authorize(attributes)[0] is Decision.ALLOW:
                return True
        return False


class CertificateApproval(_SignerPlugin):
    async def validate(self, attributes: Attributes) -> None:
        signer = ((attributes.old_obj or {}).get("spec") or {}).get("signerName") or ""
        if not await self.authorized(attributes.user, "approve", signer):
            reason = f'user not permitted to approve requests with signerName "{signer}"'
            raise refuse(attributes, reason)


class CertificateSigning(_SignerPlugin):
    async def validate(self, attributes: Attributes) -> None:
        old = attributes.old_obj or {}
        status, old_status = (attributes.obj or {}).get("status") or {}, old.get("status") or {}
        if all(status.get(f) == old_status.get(f) for f in ("certificate", "conditions")):
            return
        signer = (old.get("spec") or {}).get("signerName") or ""
        if not await self.authorized(attributes.user, "sign", signer):
            reason = f'user not permitted to sign requests with signerName "{signer}"'
            raise refuse(attributes, reason)


class ClusterTrustBundleAttest(_SignerPlugin):
    async def validate(self, attributes: Attributes) -> None:
        bundle, old = attributes.obj, attributes.old_obj
        signer = ((bundle or {}).get("spec") or {}).get("signerName") or ""
        if bundle is None or not signer:
            return
        if old is not None and only_gc_fields_differ(bundle, old):
            return
        if not await self.authorized(attributes.user, "attest", signer):
            reason = f'user not permitted to attest for signerName "{signer}"'
            raise refuse(attributes, reason)


class CertificateSubjectRestriction(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        spec = (attributes.obj or {}).get("spec") or {}
        if spec.get("signerName") != CLIENT_SIGNER:
            return
        try:
            pem = base64.b64decode(spec.get("request") or "")
            subject = read_request_subject(pem_blocks(pem, "CERTIFICATE REQUEST")[0])
        except (ValueError, IndexError):
            reason = "failed to parse CSR: PEM block type must be CERTIFICATE REQUEST"
            raise refuse(attributes, reason) from None
        if (ORGANIZATION, "system:masters") in subject:
            reason = f"use of {CLIENT_SIGNER} signer with system:masters group is not allowed"
            raise refuse(attributes, reason)


PLUGINS = {
    "CertificateApproval": CertificateApproval,
    "CertificateSigning": CertificateSigning,
    "ClusterTrustBundleAttest": ClusterTrustBundleAttest,
    "CertificateSubjectRestriction": CertificateSubjectRestriction,
}
