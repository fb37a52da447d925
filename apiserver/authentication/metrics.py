"""What authenticating tokens costs, and when configurations and keys were read (apiserver
plugin/pkg/authenticator/token/oidc/metrics.go, server/options/authenticationconfig/metrics)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pilothouse.componentbase.metrics import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from pilothouse.apimachinery.clock import Clock
    from pilothouse.componentbase.metrics import Registry

_CONFIG = "apiserver_authentication_config_controller"
_JWT = "apiserver_authentication_jwt_authenticator"


def digest(text: str | bytes) -> str:
    """As labels have names that are nobody's business."""
    data = text.encode() if isinstance(text, str) else text
    return f"sha256:{hashlib.sha256(data).hexdigest()}" if data else ""


class JWTMetrics:
    """Of trusted issuers and of the file that names them."""

    def __init__(self, clock: Clock, registry: Registry | None, server_id: str = "") -> None:
        self._clock = clock
        self._server = digest(server_id)
        self.seconds = Histogram(
            f"{_JWT}_latency_seconds",
            "[ALPHA] Latency of jwt authentication operations in seconds. This is the time spent "
            "authenticating a token for cache miss only (i.e. when the token is not found in the "
            "cache).",
            (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            ("result", "jwt_issuer_hash"),
        )
        self.fetched = Gauge(
            f"{_JWT}_jwks_fetch_last_timestamp_seconds",
            "[ALPHA] Timestamp of the last successful or failed JWKS fetch split by result, api "
            "server identity and jwt issuer for the JWT authenticator.",
            ("result", "jwt_issuer_hash", "apiserver_id_hash"),
        )
        self.key_sets = Gauge(
            f"{_JWT}_jwks_fetch_last_key_set_info",
            "[ALPHA] Information about the last JWKS fetched by the JWT authenticator with hash "
            "as label, split by api server identity and jwt issuer.",
            ("jwt_issuer_hash", "apiserver_id_hash", "hash"),
        )
        self.reloads = Counter(
            f"{_CONFIG}_automatic_reloads_total",
            "[BETA] Total number of automatic reloads of authentication configuration split by "
            "status and apiserver identity.",
            ("status", "apiserver_id_hash"),
        )
        self.reloaded = Gauge(
            f"{_CONFIG}_automatic_reload_last_timestamp_seconds",
            "[BETA] Timestamp of the last automatic reload of authentication configuration split "
            "by status and apiserver identity.",
            ("status", "apiserver_id_hash"),
        )
        self.configuration = Gauge(
            f"{_CONFIG}_last_config_info",
            "[ALPHA] Information about the last applied authentication configuration with hash as "
            "label, split by apiserver identity.",
            ("apiserver_id_hash", "hash"),
        )
        if registry is not None:
            registry.add(
                self.seconds,
                self.fetched,
                self.key_sets,
                self.reloads,
                self.reloaded,
                self.configuration,
            )

    # tokens

    def authenticated(self, issuer: str, seconds: float, *, succeeded: bool) -> None:
        self.seconds.observe(seconds, "success" if succeeded else "failure", digest(issuer))

    # keys

    def keys_fetched(self, issuer: str, document: bytes | None) -> None:
        """:param document: the key set; None: it could not be had."""
        hashed = digest(issuer)
        result = "failure" if document is None else "success"
        self.fetched.set(self._clock.time(), result, hashed, self._server)
        if document is not None:
            self._forget_keys(hashed)
            self.key_sets.set(1.0, hashed, self._server, digest(document))

    def forget(self, issuer: str) -> None:
        """The configuration no longer names it."""
        hashed = digest(issuer)
        self._forget_keys(hashed)
        for result in ("success", "failure"):
            self.fetched.values.pop((result, hashed, self._server), None)

    def _forget_keys(self, hashed: str) -> None:
        for labels in [labels for labels in self.key_sets.values if labels[0] == hashed]:
            del self.key_sets.values[labels]

    # the configuration

    def applied(self, data: bytes) -> None:
        self.configuration.values.clear()
        self.configuration.set(1.0, self._server, digest(data))

    def reload(self, data: bytes | None) -> None:
        """:param data: what is in force now; None: the file was no good."""
        status = "failure" if data is None else "success"
        self.reloads.inc(status, self._server)
        self.reloaded.set(self._clock.time(), status, self._server)
        if data is not None:
            self.applied(data)
