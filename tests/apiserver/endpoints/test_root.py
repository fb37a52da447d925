"""Paths outside the groups: OIDC discovery."""

from __future__ import annotations

import aiohttp

from pilothouse.apiserver.testing import running_server


async def test_discovery_leads_to_the_keys() -> None:
    """Also when the port is whatever was free."""
    settings = {"authorization_mode": ("AlwaysAllow",), "advertise_address": "127.0.0.1"}
    async with running_server(serve=True, **settings) as server:
        async with aiohttp.ClientSession(server.url) as session:
            async with session.get("/.well-known/openid-configuration") as response:
                uri = (await response.json())["jwks_uri"]
            assert uri == f"https://127.0.0.1:{server.port}/openid/v1/jwks"
            async with session.get("/openid/v1/jwks") as response:
                assert response.status == 200 and "keys" in await response.json(content_type=None)
