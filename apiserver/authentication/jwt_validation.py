"""What must hold of an authentication configuration (apis/apiserver/validation); pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilothouse.apimachinery.fieldpath import (
    ErrorList,
    Path,
    duplicate,
    invalid,
    required,
    too_many,
)
from pilothouse.apimachinery.names import is_dns1123_subdomain, is_http_path
from pilothouse.apiserver.authentication.jwt_expressions import compile_claims, compile_user

if TYPE_CHECKING:
    from pilothouse.apiserver.authentication.jwt_settings import (
        AuthenticationSettings,
        JWTSettings,
        Mapping,
        Rule,
    )

_MOST = 64
_EMAIL = re.compile(r"\bclaims\s*\.\s*\??\s*email\b")
_EMAIL_VERIFIED = re.compile(r"\bclaims\s*\.\s*\??\s*email_verified\b")


def validate(settings: AuthenticationSettings, disallowed: Sequence[str]) -> ErrorList:
    root = Path("jwt")
    if len(settings.jwt) > _MOST:
        return [too_many(root, len(settings.jwt), _MOST)]
    found: ErrorList = []
    issuers: set[str] = set()
    discovery: set[str] = set()
    for number, each in enumerate(settings.jwt):
        path = root.index(number)
        found += _issuer(each, disallowed, path.child("issuer"))
        found += _claim_rules(each.claim_rules, path.child("claimValidationRules"))
        found += _mappings(each, path.child("claimMappings"))
        found += _user_rules(each.user_rules, path.child("userValidationRules"))
        for seen, url, name in (
            (issuers, each.url, "url"),
            (discovery, each.discovery_url, "discoveryURL"),
        ):
            if url and url in seen:
                found.append(duplicate(path.child("issuer", name), url))
            seen.add(url)
    if settings.anonymous is False and settings.anonymous_paths:
        conditions = [{"path": path} for path in settings.anonymous_paths]
        detail = "enabled should be set to true when conditions are defined"
        found.append(invalid(Path("anonymous", "conditions"), conditions, detail))
    return found


def _issuer(each: JWTSettings, disallowed: Sequence[str], path: Path) -> ErrorList:
    found: ErrorList = []
    url, discovery = each.url, each.discovery_url
    if not url:
        found.append(required(path.child("url")))
    else:
        found += _url(url, disallowed, path.child("url"))
    if discovery:
        where = path.child("discoveryURL")
        if url and url.rstrip("/") == discovery.rstrip("/"):
            found.append(invalid(where, discovery, "discoveryURL must be different from URL"))
        found += _url(discovery, (), where)
    found += _audiences(each, path)
    if each.ca:
        from ssl import SSLError, create_default_context

        try:
            create_default_context(cadata=each.ca)
        except (SSLError, ValueError) as error:
            found.append(invalid(path.child("certificateAuthority"), "<omitted>", str(error)))
    if each.egress_selector not in ("", "controlplane", "cluster"):
        detail = "egress selector must be either controlplane or cluster"
        found.append(invalid(path.child("egressSelectorType"), each.egress_selector, detail))
    return found


def _url(url: str, disallowed: Sequence[str], path: Path) -> ErrorList:
    if url in disallowed:
        listed = " ".join(sorted(disallowed))
        return [invalid(path, url, f"URL must not overlap with disallowed issuers: [{listed}]")]
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [invalid(path, url, str(error))]
    problems = (
        (parts.scheme != "https", "URL scheme must be https"),
        ("@" in parts.netloc, "URL must not contain a username or password"),
        (bool(parts.query), "URL must not contain a query"),
        (bool(parts.fragment), "URL must not contain a fragment"),
    )
    return [invalid(path, url, text) for wrong, text in problems if wrong]


def _audiences(each: JWTSettings, path: Path) -> ErrorList:
    where, policy = path.child("audiences"), each.match_policy
    if not each.audiences:
        return [required(where, f"at least one {where} is required")]
    found: ErrorList = []
    seen: set[str] = set()
    for number, audience in enumerate(each.audiences):
        if not audience:
            found.append(required(where.index(number)))
        elif audience in seen:
            found.append(duplicate(where.index(number), audience))
        seen.add(audience)
    if len(each.audiences) > 1 and policy != "MatchAny":
        detail = "audienceMatchPolicy must be MatchAny for multiple audiences"
        found.append(invalid(path.child("audienceMatchPolicy"), policy, detail))
    if len(each.audiences) == 1 and policy not in ("", "MatchAny"):
        detail = "audienceMatchPolicy must be empty or MatchAny for single audience"
        found.append(invalid(path.child("audienceMatchPolicy"), policy, detail))
    return found


def _compiles(compiler: Callable[..., Any], path: Path, expression: str, **more: Any) -> ErrorList:
    try:
        compiler(expression, **more)
    except ValueError as error:
        return [invalid(path, expression, str(error))]
    return []


def _claim_rules(rules: Sequence[Rule], path: Path) -> ErrorList:
    found: ErrorList = []
    claims: set[str] = set()
    expressions: set[str] = set()
    for number, rule in enumerate(rules):
        here = path.index(number)
        if rule.claim and rule.expression:
            found.append(invalid(here, rule.claim, "claim and expression can't both be set"))
        elif rule.claim:
            if rule.message:
                detail = "may not be specified when claim is set"
                found.append(invalid(here.child("message"), rule.message, detail))
            if rule.claim in claims:
                found.append(duplicate(here.child("claim"), rule.claim))
            claims.add(rule.claim)
        elif rule.expression:
            if rule.required_value:
                detail = "may not be specified when expression is set"
                found.append(invalid(here.child("requiredValue"), rule.required_value, detail))
            where = here.child("expression")
            if rule.expression in expressions:
                found.append(duplicate(where, rule.expression))
            else:
                found += _compiles(compile_claims, where, rule.expression, condition=True)
            expressions.add(rule.expression)
        else:
            found.append(required(here, "claim or expression is required"))
    return found


def _user_rules(rules: Sequence[Rule], path: Path) -> ErrorList:
    found: ErrorList = []
    seen: set[str] = set()
    for number, rule in enumerate(rules):
        where = path.index(number).child("expression")
        if not rule.expression:
            found.append(required(where))
        elif rule.expression in seen:
            found.append(duplicate(where, rule.expression))
        else:
            found += _compiles(compile_user, where, rule.expression)
        seen.add(rule.expression)
    return found


def _mappings(each: JWTSettings, path: Path) -> ErrorList:
    found = _prefixed(each.username, path.child("username"), needed=True)
    found += _prefixed(each.groups, path.child("groups"))
    uid = path.child("uid")
    if each.uid.claim and each.uid.expression:
        found.append(invalid(uid, "", "claim and expression can't both be set"))
    elif each.uid.expression:
        found += _compiles(compile_claims, uid.child("expression"), each.uid.expression)
    found += _extra(each.extra, path.child("extra"))
    if _EMAIL.search(each.username.expression):
        others = [each.username.expression, *(value for _, value in each.extra)]
        others += [rule.expression for rule in each.claim_rules]
        if not any(_EMAIL_VERIFIED.search(text) for text in others):
            detail = (
                "claims.email_verified must be used in claimMappings.username.expression or "
                "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression "
                "when claims.email is used in claimMappings.username.expression"
            )
            where = path.child("username", "expression")
            found.append(invalid(where, each.username.expression, detail))
    return found


def _prefixed(mapping: Mapping, path: Path, *, needed: bool = False) -> ErrorList:
    if mapping.claim and mapping.expression:
        return [invalid(path, "", "claim and expression can't both be set")]
    if mapping.expression:
        found: ErrorList = []
        if mapping.prefix is not None:
            detail = "may not be specified when expression is set"
            found.append(invalid(path.child("prefix"), mapping.prefix, detail))
        return found + _compiles(compile_claims, path.child("expression"), mapping.expression)
    if mapping.claim:
        if mapping.prefix is None:
            detail = (
                "prefix is required when claim is set. It can be set to an empty string to "
                "disable prefixing"
            )
            return [required(path.child("prefix"), detail)]
        return []
    return [required(path, "claim or expression is required")] if needed else []


def _extra(extra: Sequence[tuple[str, str]], path: Path) -> ErrorList:
    found: ErrorList = []
    seen: set[str] = set()
    for number, (key, expression) in enumerate(extra):
        here = path.index(number)
        found += _extra_key(key, here.child("key"))
        if key in seen:
            found.append(duplicate(here.child("key"), key))
        elif not expression:
            found.append(required(here.child("valueExpression")))
        else:
            found += _compiles(compile_claims, here.child("valueExpression"), expression)
        seen.add(key)
    return found


def _extra_key(key: str, path: Path) -> ErrorList:
    if not key:
        return [required(path)]
    found: ErrorList = []
    domain, _, rest = key.partition("/")
    if not domain or not rest:
        found.append(invalid(path, key, 'must be a domain-prefixed path (such as "acme.io/foo")'))
    else:
        found += [invalid(path, domain, text) for text in is_dns1123_subdomain(domain)]
        found += [invalid(path, rest, text) for text in is_http_path(rest)]
    if key != key.lower():
        found.append(invalid(path, key, "must be lowercase"))
    if any(f".{domain}".endswith(reserved) for reserved in (".kubernetes.io", ".k8s.io")):
        detail = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
        found.append(invalid(path, key, detail))
    return found
