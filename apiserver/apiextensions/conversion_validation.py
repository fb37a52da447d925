"""Rules for ``spec.conversion`` of a CRD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilothouse.apimachinery.fieldpath import forbidden, invalid, not_supported, required
from pilothouse.apimachinery.names import is_dns1035_label, is_dns1123_subdomain

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList, Path
    from pilothouse.apimachinery.object import Obj

_REVIEW_VERSIONS = ("v1", "v1beta1")


def conversion_errors(conversion: Any, path: Path) -> ErrorList:
    if conversion is None:
        return []
    errors: ErrorList = []
    strategy = conversion.get("strategy") or ""
    if not strategy:
        errors.append(required(path.child("strategy")))
    elif strategy not in ("None", "Webhook"):
        errors.append(not_supported(path.child("strategy"), strategy, ("None", "Webhook")))
    webhook = conversion.get("webhook") or {}
    client, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    where, review = path.child("webhookClientConfig"), path.child("conversionReviewVersions")
    if strategy == "Webhook":
        if client is None:
            errors.append(required(where, "required when strategy is set to Webhook"))
        else:
            errors += _client(client, where)
        return errors + _versions(versions, review)
    if client is not None:
        detail = "should not be set when strategy is not set to Webhook"
        errors.append(forbidden(where, detail))
    if versions:
        detail = "should not be set when strategy is not set to Webhook"
        errors.append(forbidden(review, detail))
    return errors


def _client(client: Obj, path: Path) -> ErrorList:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    return _url(url, path.child("url")) if url is not None else _service(service, path)


def _url(url: str, path: Path) -> ErrorList:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [required(path, f"url must be a valid URL: {error}{form}")]
    errors: ErrorList = []
    if parts.scheme != "https":
        text = f"'https' is the only allowed URL scheme{form}"
        errors.append(invalid(path, parts.scheme, text))
    if not parts.netloc:
        errors.append(invalid(path, parts.netloc, f"host must be specified{form}"))
    if parts.username is not None:
        text = "user information is not permitted in the URL"
        errors.append(invalid(path, parts.username, text))
    if parts.fragment:
        text = "fragments are not permitted in the URL"
        errors.append(invalid(path, parts.fragment, text))
    if parts.query:
        text = "query parameters are not permitted in the URL"
        errors.append(invalid(path, parts.query, text))
    return errors


def _service(service: Any, path: Path) -> ErrorList:
    where = path.child("service")
    errors: ErrorList = [
        required(where.child(key)) for key in ("name", "namespace") if not service.get(key)
    ]
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        text = "port is not valid: must be between 1 and 65535, inclusive"
        errors.append(invalid(where.child("port"), port, text))
    url_path = service.get("path")
    if url_path is None:
        return errors
    at = where.child("path")
    if url_path in ("", "/"):
        return errors
    if not url_path.startswith("/"):
        errors.append(invalid(at, url_path, "must start with a '/'"))
    for i, step in enumerate(url_path[1:].removesuffix("/").split("/")):
        if not step:
            errors.append(invalid(at, url_path, f"segment[{i}] may not be empty"))
            continue
        messages = is_dns1123_subdomain(step)
        if messages:
            text = f"segment[{i}]: {messages[0]}"
            errors.append(invalid(at, url_path, text))
    return errors


def _versions(versions: list[str], path: Path) -> ErrorList:
    if not versions:
        return [required(path)]
    errors: ErrorList = []
    seen: set[str] = set()
    for i, version in enumerate(versions):
        if version in seen:
            errors.append(invalid(path.index(i), version, "duplicate version"))
            continue
        seen.add(version)
        errors += [invalid(path.index(i), version, text) for text in is_dns1035_label(version)]
    if not seen & set(_REVIEW_VERSIONS):
        text = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        errors.append(invalid(path, versions, text))
    return errors
