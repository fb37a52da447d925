"""OIDC discovery of the service-account issuer (/.well-known/openid-configuration, jwks)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.apiserver.authentication.jws import KeySet

CONFIGURATION_PATH = "/.well-known/openid-configuration"
JWKS_PATH = "/openid/v1/jwks"
JWKS_CONTENT_TYPE = "application/jwk-set+json"
CACHE_CONTROL = "public, max-age=3600"


def openid_configuration(
    keys: KeySet, issuer: str, *, jwks_uri: str = "", external_address: str = ""
) -> dict[str, Any]:
    """``external_address`` is host:port, for when no ``--service-account-jwks-uri`` is set."""
    return {
        "issuer": issuer,
        "jwks_uri": jwks_uri or f"https://{external_address}{JWKS_PATH}",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted({key.algorithm for key in keys.keys}),
    }


def jwks(keys: KeySet) -> dict[str, Any]:
    return {"keys": [key.jwk() for key in keys.keys]}
