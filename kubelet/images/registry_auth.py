"""Authentication against registries: challenges and tokens (pure parsing, one request)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    import aiohttp

    from pilothouse.kubelet.runtime.interfaces import PullAuth

_PARAMETER = re.compile(r'([a-zA-Z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^,\s]+))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate header."""

    scheme: str
    parameters: dict[str, str]


def parse_challenge(header: str) -> Challenge:
    scheme, _, rest = header.strip().partition(" ")
    parameters = {
        m.group(1).lower(): m.group(2) if m.group(2) is not None else m.group(3)
        for m in _PARAMETER.finditer(rest)
    }
    return Challenge(scheme.lower(), parameters)


def basic_header(auth: PullAuth) -> str:
    raw = f"{auth.username}:{auth.password}".encode()
    return f"Basic {base64.b64encode(raw).decode()}"


async def fetch_token(
    session: aiohttp.ClientSession, challenge: Challenge, scope: str, auth: PullAuth | None
) -> str:
    """A bearer token for ``scope``; empty when the token service refuses."""
    realm = challenge.parameters.get("realm", "")
    if not realm.startswith(("http://", "https://")):
        return ""
    fields = {"scope": challenge.parameters.get("scope") or scope}
    if challenge.parameters.get("service"):
        fields["service"] = challenge.parameters["service"]
    if auth and auth.identity_token:
        fields |= {"grant_type": "refresh_token", "refresh_token": auth.identity_token}
        request = session.post(realm, data={**fields, "client_id": "pilothouse"})
    else:
        headers = {"Authorization": basic_header(auth)} if auth and auth.username else {}
        joiner = "&" if "?" in realm else "?"
        request = session.get(f"{realm}{joiner}{urlencode(fields)}", headers=headers)
    async with request as response:
        if response.status != 200:
            return ""
        answer: dict[str, Any] = await response.json(content_type=None)
    return str(answer.get("token") or answer.get("access_token") or "")
