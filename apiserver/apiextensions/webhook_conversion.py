"""Conversion by a webhook: ConversionReviews, and what a webhook may change (apiextensions
pkg/apiserver/conversion/webhook_converter.go).

A webhook converts fields; of metadata only labels and annotations are taken from its answer.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.fieldpath import Path
from pilothouse.apimachinery.metavalidation import validate_annotations, validate_labels
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import gvk_of
from pilothouse.apiserver.apiextensions.conversion_metrics import (
    CALL,
    INVALID,
    MALFORMED,
    PARTIAL,
    ConversionMetrics,
)
from pilothouse.apiserver.registry.before import new_uid
from pilothouse.apiserver.storage.errors import Unconvertible
from pilothouse.apiserver.webhook.client import DEFAULT_TIMEOUT, webhook_client
from pilothouse.apiserver.webhook.client_config import ConfigError, target_of
from pilothouse.apiserver.webhook.errors import CallError
from pilothouse.apiserver.webhook.reviews import check_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_GROUP = "apiextensions.k8s.io"
_KIND = f"{_GROUP}/v1, Kind=ConversionReview"
_IDENTITY = (("name", "name"), ("namespace", "namespace"), ("uid", "UID"))
BATCH = 500
"""Objects in one review: lists of any length are asked for in pieces."""


class InvalidConversion(ValueError):
    """What is wrong with a webhook's answer."""


class WebhookConverter:
    """Of one state of a CRD."""

    synchronous = False

    def __init__(self, crd: Obj, context: RegistryContext) -> None:
        webhook = crd["spec"]["conversion"].get("webhook") or {}
        self._context = context
        self._client_config: Obj = webhook.get("clientConfig") or {}
        self._review_versions: Sequence[str] = webhook.get("conversionReviewVersions") or ()
        group = crd["spec"]["group"]
        self._known = {f"{group}/{version['name']}" for version in crd["spec"]["versions"]}
        self._name: str = crd["metadata"]["name"]
        metrics = context.metrics
        self._metrics = (
            ConversionMetrics() if metrics is None else metrics.shared(ConversionMetrics)
        )

    async def convert(self, obj: Obj, api_version: str) -> Obj:
        """:raises StatusError: 500."""
        if obj.get("apiVersion") == api_version:
            return obj
        try:
            return (await self.convert_all([obj], api_version))[0]
        except Unconvertible as error:
            raise StatusError(500, "", str(error)) from error

    async def convert_all(self, objs: Sequence[Obj], api_version: str) -> list[Obj]:
        """:raises Unconvertible: with upstream's text."""
        converted: list[Obj] = []
        succeeded, begin = False, perf_counter()
        try:
            for start in range(0, len(objs), BATCH):
                try:
                    converted += await self._review(objs[start : start + BATCH], api_version)
                except Unconvertible as error:
                    error.index += start
                    raise
            succeeded = True
        finally:
            if objs:
                versions = (_version(str(objs[0].get("apiVersion"))), _version(api_version))
                outcome = "true" if succeeded else "false"
                seconds = perf_counter() - begin
                self._metrics.conversions.observe(seconds, self._name, *versions, outcome)
        return converted

    async def _review(self, objs: Sequence[Obj], api_version: str) -> list[Obj]:
        for obj in objs:
            found = str(obj.get("apiVersion") or "")
            if found not in self._known:
                raise Unconvertible(f"request to convert CR from an invalid group/version: {found}")
        kind = gvk_of(objs[0])
        version = next((v for v in self._review_versions if v in ("v1", "v1beta1")), "")
        if not version:
            raise Unconvertible("no supported conversion review versions")
        begin, failure = perf_counter(), CALL
        try:
            uid = new_uid(self._context.random)
            review = make_review(version, uid, objs, api_version)
            target = target_of(self._client_config)
            answer = await webhook_client(self._context).post(target, review, DEFAULT_TIMEOUT)
            check_kind(answer, _GROUP, "ConversionReview", version)
            failure = MALFORMED
            found_objs = converted_objects(answer, version, uid)
            failure = PARTIAL
            if len(found_objs) != len(objs):
                raise Unconvertible(
                    f"conversion webhook for {kind} returned {len(found_objs)} objects, "
                    f"expected {len(objs)}"
                )
            failure = INVALID
            result = _checked_all(objs, found_objs, api_version)
            failure = ""
        except (CallError, ConfigError, InvalidConversion) as error:
            raise Unconvertible(f"conversion webhook for {kind} failed: {error}") from error
        except _Invalid as error:
            unconvertible = Unconvertible(f"conversion webhook for {kind} returned {error}")
            unconvertible.index = error.index
            raise unconvertible from error
        finally:
            self._metrics.reviewed(perf_counter() - begin, failure)
        return result


class _Invalid(Exception):
    def __init__(self, problem: str, index: int) -> None:
        super().__init__(problem)
        self.index = index


def _checked_all(objs: Sequence[Obj], converted: Sequence[Any], api_version: str) -> list[Obj]:
    """:raises _Invalid: one of them."""
    result = []
    for index, (obj, new) in enumerate(zip(objs, converted, strict=True)):
        try:
            result.append(checked(obj, new, api_version))
        except InvalidConversion as error:
            raise _Invalid(str(error), index) from error
    return result


def _version(api_version: str) -> str:
    return api_version.rpartition("/")[2]


def make_review(version: str, uid: str, objs: Sequence[Obj], api_version: str) -> Obj:
    return {
        "kind": "ConversionReview",
        "apiVersion": f"{_GROUP}/{version}",
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": list(objs)},
    }


def converted_objects(review: Obj, version: str, uid: str) -> list[Any]:
    """:raises InvalidConversion: the answer is none, or says that it has failed."""
    response = review.get("response")
    if version == "v1":
        group, _, found = str(review.get("apiVersion") or "").rpartition("/")
        kind = f"{group}/{found}, Kind={review.get('kind') or ''}"
        if kind != _KIND:
            raise InvalidConversion(f"expected webhook response of {_KIND}, got {kind}")
    if not isinstance(response, dict):
        raise InvalidConversion("no response provided")
    if version == "v1" and response.get("uid") != uid:
        raise InvalidConversion(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    result = response.get("result") or {}
    status = result.get("status") or ""
    if status != "Success":
        text = f"response.result.status was '{status}', not 'Success'"
        raise InvalidConversion(result.get("message") or text)
    return list(response.get("convertedObjects") or ())


def checked(original: Obj, converted: Any, api_version: str) -> Obj:
    """The converted object with the original's metadata. :raises InvalidConversion: it is not
    the same object in another version."""
    if not isinstance(converted, dict):
        raise InvalidConversion("invalid object at index 0: Object 'Kind' is missing")
    found = converted.get("apiVersion") or ""
    if found != api_version:
        raise InvalidConversion(
            "invalid object at index 0: invalid groupVersion "
            f"(expected {api_version}, received {found})"
        )
    kind, expected = converted.get("kind") or "", original.get("kind") or ""
    if kind != expected:
        raise InvalidConversion(
            f"invalid object at index 0: invalid kind (expected {expected}, received {kind})"
        )
    before, after = original.get("metadata") or {}, converted.get("metadata")
    identity = after if isinstance(after, dict) else {}
    for key, name in _IDENTITY:
        was, now = before.get(key) or "", identity.get(key) or ""
        if was != now:
            raise InvalidConversion(f"invalid object: must have the same {name}: {was} != {now}")
    try:
        metadata = _restored(original, converted)
    except InvalidConversion as error:
        raise InvalidConversion(f"invalid metadata: {error}") from error
    return {**converted, "metadata": metadata}


def _restored(original: Obj, converted: Obj) -> Obj:
    """The original's metadata with the labels and annotations of the answer."""
    if "metadata" not in converted:
        raise InvalidConversion("missing metadata in converted object")
    given = converted["metadata"]
    if not isinstance(given, dict):
        shown = _go_type(given)
        raise InvalidConversion(f"invalid metadata of type {shown} in converted object")
    metadata: Obj = copy_object(original.get("metadata") or {})
    for field in ("labels", "annotations"):
        value = given.get(field)
        if value is None:
            metadata.pop(field, None)
            continue
        if not isinstance(value, dict):
            shown = _go_type(value)
            raise InvalidConversion(f"invalid metadata.{field} of type {shown} in converted object")
        for key, text in value.items():
            if not isinstance(text, str):
                raise InvalidConversion(
                    f"metadata.{field}[{key}] must be a string, but is {_go_type(text)} in "
                    "converted object"
                )
        if value != metadata.get(field):
            _check(field, value)
        metadata[field] = value
    return metadata


def _check(field: str, value: dict[str, str]) -> None:
    if field == "labels":
        errors = validate_labels(value, Path("metadata").child("labels"))
    else:
        errors = validate_annotations(value, Path("metadata").child("annotation"))
    if errors:
        texts = [str(error) for error in errors]
        raise InvalidConversion(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "int64", float: "float64", list: "[]interface {}"}
    return "<nil>" if value is None else names.get(type(value), "map[string]interface {}")
