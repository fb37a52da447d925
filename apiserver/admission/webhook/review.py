"""AdmissionReviews: what a webhook is told and what its answer means; pure.

Both versions, v1 and v1beta1, say the same; v1 answers are checked more strictly.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, new_bad_request
from pilothouse.apiserver.admission.policy.request import admission_request
from pilothouse.apiserver.webhook.reviews import check_kind, check_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.admission.policy.matching import Match

_GROUP = "admission.k8s.io"
_KIND = f"{_GROUP}/v1, Kind=AdmissionReview"
JSON_PATCH = "JSONPatch"


class InvalidReview(ValueError):
    """A webhook's answer, or what a configuration asks for, makes no sense."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A valid answer."""

    allowed: bool
    result: Obj | None
    patch: bytes = b""
    patch_type: str = ""
    audit_annotations: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def review_version(supported: Sequence[str]) -> str:
    """The first version of a webhook's list that we speak. :raises InvalidReview: none."""
    for version in supported:
        if version in ("v1", "v1beta1"):
            return version
    raise InvalidReview("webhook does not accept known AdmissionReview versions (v1, v1beta1)")


def make_review(
    version: str, uid: str, attributes: Attributes, match: Match, obj: Obj | None, old: Obj | None
) -> Obj:
    """``obj`` and ``old`` are in ``match.kind``."""
    request = admission_request(attributes, match)
    request |= {"uid": uid, "object": obj, "oldObject": old}
    return {"kind": "AdmissionReview", "apiVersion": f"{_GROUP}/{version}", "request": request}


_RESPONSE = {
    "uid": "string",
    "allowed": "bool",
    "patch": "[]uint8",
    "patchType": "string",
    "auditAnnotations": "map[string]string",
    "warnings": "[]string",
}
_STATUS = {"status": "string", "message": "string", "reason": "string", "code": "int32"}


def check_answer(review: Obj, version: str) -> None:
    """:raises CallError: no AdmissionReview of ``version``, or with fields of wrong types."""
    check_kind(review, _GROUP, "AdmissionReview", version)
    response = review.get("response")
    check_types(
        response, _RESPONSE, "response", "AdmissionResponse", f"{version}.AdmissionResponse"
    )
    if response:
        check_types(response.get("status"), _STATUS, "response.status", "Status", "v1.Status")


def verdict_of(review: Obj, version: str, uid: str, *, mutating: bool) -> Verdict:
    """:raises InvalidReview: the answer is malformed or not meant for this request."""
    response = review.get("response")
    if not isinstance(response, dict):
        raise InvalidReview("webhook response was absent")
    if version == "v1":
        _check_v1(review, response, uid)
    patch, patch_type = _patch(response, version, mutating=mutating)
    return Verdict(
        bool(response.get("allowed")),
        response.get("status"),
        patch,
        patch_type,
        {str(k): str(v) for k, v in (response.get("auditAnnotations") or {}).items()},
        tuple(str(text) for text in response.get("warnings") or ()),
    )


def _check_v1(review: Obj, response: Obj, uid: str) -> None:
    found = response.get("uid") or ""
    if found != uid:
        raise InvalidReview(f'expected response.uid="{uid}", got "{found}"')
    group, _, version = str(review.get("apiVersion") or "").rpartition("/")
    kind = f"{group}/{version}, Kind={review.get('kind') or ''}"
    if kind != _KIND:
        raise InvalidReview(f"expected webhook response of {_KIND}, got {kind}")


def _patch(response: Obj, version: str, *, mutating: bool) -> tuple[bytes, str]:
    encoded, kind = response.get("patch") or "", response.get("patchType")
    if version != "v1":
        if not mutating or not encoded:
            return b"", ""
        return _bytes(encoded), JSON_PATCH
    if not mutating:
        if encoded:
            raise InvalidReview("validating webhook may not return response.patch")
        if kind is not None:
            raise InvalidReview("validating webhook may not return response.patchType")
        return b"", ""
    if encoded and kind is None:
        raise InvalidReview("webhook returned response.patch but not response.patchType")
    if not encoded and kind is not None:
        raise InvalidReview("webhook returned response.patchType but not response.patch")
    if kind == "":
        raise InvalidReview('webhook returned invalid response.patchType of ""')
    return _bytes(encoded), kind or ""


def _bytes(encoded: Any) -> bytes:
    try:
        return base64.b64decode(str(encoded), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidReview(f"illegal base64 data in response.patch: {error}") from error


def denial(name: str, result: Obj | None) -> StatusError:
    """The error of a request that a webhook refused; what it said is kept."""
    result = result or {}
    denied = f'admission webhook "{name}" denied the request'
    reason, message = result.get("reason") or "", result.get("message") or ""
    if message or reason:
        text = f"{denied}: {message or reason}"
    else:
        text = f"{denied} without explanation"
    code = int(result.get("code") or 0)
    return StatusError(code if 400 <= code <= 999 else 400, reason, text, result.get("details"))


def dry_run_unsupported(name: str) -> StatusError:
    return new_bad_request(f'admission webhook "{name}" does not support dry run')


def mutation_annotation(configuration: str, name: str, *, mutated: bool) -> str:
    value = {"configuration": configuration, "webhook": name, "mutated": mutated}
    return json.dumps(value, separators=(",", ":"))


def patch_annotation(configuration: str, name: str, patch: Any) -> str:
    value = {
        "configuration": configuration,
        "webhook": name,
        "patch": patch,
        "patchType": JSON_PATCH,
    }
    return json.dumps(value, separators=(",", ":"))
