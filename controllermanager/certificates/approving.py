"""Approves kubelets' client certificates for whoever may have them.

A request for ``kubernetes.io/kube-apiserver-client-kubelet`` is approved when its user may
create ``certificatesigningrequests/selfnodeclient`` (its own renewal) or ``nodeclient`` (a new
node with a bootstrap token); a SubjectAccessReview says so. Everything else waits for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object, get_nested
from pilothouse.controllermanager.certificates.request import (
    APPROVED,
    DENIED,
    KUBE_APISERVER_CLIENT_KUBELET,
    RequestError,
    common_name,
    has_condition,
    kubelet_client_problem,
    parse_request,
)
from pilothouse.controllermanager.controller import Controller, SyncError
from pilothouse.kubeclient.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    SUBJECT_ACCESS_REVIEWS,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.interfaces import Environment

SELF_NODE_CLIENT, NODE_CLIENT = "selfnodeclient", "nodeclient"
_MESSAGES = {
    SELF_NODE_CLIENT: ("Auto approving self kubelet client certificate after SubjectAccessReview."),
    NODE_CLIENT: "Auto approving kubelet client certificate after SubjectAccessReview.",
}


def recognize(csr: Obj) -> list[str]:
    """The permissions of which one suffices, in the order in which they are asked for.

    :raises RequestError: the request can't be read.
    """
    request = parse_request(csr)
    spec = csr["spec"]
    if spec.get("signerName") != KUBE_APISERVER_CLIENT_KUBELET:
        return []
    if kubelet_client_problem(request, spec.get("usages") or ()):
        return []
    own = spec.get("username") == common_name(request)
    return [SELF_NODE_CLIENT, NODE_CLIENT] if own else [NODE_CLIENT]


class ApprovingController(Controller):
    name = "certificatesigningrequest-approving-controller"
    retry_delays = (0.2, 1000.0)
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._requests = self.watch_keys(CERTIFICATE_SIGNING_REQUESTS)

    async def sync(self, key: str) -> None:
        csr = self._requests.get(key)
        if csr is None or get_nested(csr, "status", "certificate"):
            return
        if has_condition(csr, APPROVED) or has_condition(csr, DENIED):
            return
        try:
            tried = recognize(csr)
        except RequestError as error:
            raise SyncError(f'unable to parse csr "{key}": {error}') from error
        for permission in tried:
            if await self._allowed(csr, permission):
                await self._approve(csr, _MESSAGES[permission])
                return
        if tried:
            raise SyncError(
                f'recognized csr "{key}" as [{" ".join(tried)}] but subject access review was '
                "not approved"
            )

    async def _allowed(self, csr: Obj, permission: str) -> bool:
        spec = csr["spec"]
        asked: Obj = {
            "user": spec.get("username") or "",
            "resourceAttributes": {
                "group": "certificates.k8s.io",
                "version": "*",
                "resource": "certificatesigningrequests",
                "subresource": permission,
                "verb": "create",
            },
        }
        for field in ("uid", "groups", "extra"):
            if spec.get(field):
                asked[field] = copy_object(spec[field])
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": asked,
        }
        answer = await self.client.create(SUBJECT_ACCESS_REVIEWS, review)
        return bool(get_nested(answer, "status", "allowed"))

    async def _approve(self, csr: Obj, message: str) -> None:
        new = copy_object(csr)
        new.setdefault("status", {}).setdefault("conditions", []).append(
            {"type": APPROVED, "status": "True", "reason": "AutoApproved", "message": message}
        )
        await self.client.update(CERTIFICATE_SIGNING_REQUESTS, new, subresource="approval")
