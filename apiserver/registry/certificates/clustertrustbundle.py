"""ClusterTrustBundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.certificates.signer_names import cluster_trust_bundle_name_messages
from pilothouse.apis.certificates.validation_bundle import validate_trust_bundle
from pilothouse.apis.meta.errors import add_all
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class ClusterTrustBundleStrategy(BuiltInStrategy):
    resource = GroupResource("certificates.k8s.io", "clustertrustbundles")
    namespaced = False
    has_status = False
    has_generation = False
    allow_unconditional_update = False
    selectable_fields = ("spec.signerName",)

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return []  # the name depends on the signer: check_create

    def check_create(self, obj: Obj) -> ErrorList:
        return _name_errors(obj) + validate_trust_bundle(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return _name_errors(obj) + validate_trust_bundle(obj, old)


def _name_errors(obj: Obj) -> ErrorList:
    errors: ErrorList = []
    name, signer = meta(obj).get("name") or "", (obj.get("spec") or {}).get("signerName") or ""
    messages = cluster_trust_bundle_name_messages(name, signer)
    if name:  # the general rule speaks of a missing one
        add_all(errors, "metadata.name", name, messages)
    return errors


STRATEGY = ClusterTrustBundleStrategy()
