"""Configuration of an API server: one dataclass, upstream's flag names.

Field names are the flags in snake_case, so that authentication, authorization and admission
read them by name. Durations are seconds. ``add_flags`` and ``from_args`` make it from a command
line; a cluster in one process builds it directly.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

log = logging.getLogger(__name__)

StorageKind = Literal["memory", "sqlite", "etcd"]


@dataclass(slots=True)
class ServerConfig:
    """See ``--help`` for what each flag does."""

    # serving
    bind_address: str = "127.0.0.1"
    secure_port: int = 6443
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    client_ca_file: str = ""
    advertise_address: str = ""
    external_hostname: str = ""
    enable_priority_and_fairness: bool = True
    max_requests_inflight: int = 400
    max_mutating_requests_inflight: int = 200
    min_request_timeout: float = 1800
    request_timeout: float = 60
    shutdown_delay_duration: float = 0
    shutdown_send_retry_after: bool = False
    profiling: bool = False
    response_compression: bool = True
    # storage
    storage: StorageKind = "memory"
    data_dir: str = ""
    durability: Literal["normal", "full"] = "normal"
    etcd_servers: tuple[str, ...] = ()
    etcd_cafile: str = ""
    etcd_certfile: str = ""
    etcd_keyfile: str = ""
    etcd_compaction_interval: float = 300
    event_ttl: float = 3600
    endpoint_reconciler_type: Literal["lease", "master-count", "none"] = "lease"
    encryption_provider_config: str = ""
    encryption_provider_config_automatic_reload: bool = False
    # authentication
    anonymous_auth: bool = True
    token_auth_file: str = ""
    service_account_key_file: tuple[str, ...] = ()
    service_account_signing_key_file: str = ""
    service_account_issuer: tuple[str, ...] = ()
    service_account_jwks_uri: str = ""
    service_account_max_token_expiration: float = 0
    service_account_extend_token_expiration: bool = True
    api_audiences: tuple[str, ...] = ()
    requestheader_client_ca_file: str = ""
    requestheader_allowed_names: tuple[str, ...] = ()
    requestheader_username_headers: tuple[str, ...] = ()
    requestheader_group_headers: tuple[str, ...] = ()
    requestheader_uid_headers: tuple[str, ...] = ()
    requestheader_extra_headers_prefix: tuple[str, ...] = ()
    enable_bootstrap_token_auth: bool = False
    authentication_config: str = ""
    authentication_token_webhook_config_file: str = ""
    authentication_token_webhook_cache_ttl: float = 120
    authentication_token_webhook_version: str = "v1beta1"
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_required_claim: tuple[str, ...] = ()
    oidc_signing_algs: tuple[str, ...] = ("RS256",)
    oidc_ca_file: str = ""
    # authorization and admission
    authorization_mode: tuple[str, ...] = ("Node", "RBAC")
    authorization_config: str = ""
    authorization_policy_file: str = ""
    authorization_webhook_config_file: str = ""
    authorization_webhook_version: str = "v1beta1"
    authorization_webhook_cache_authorized_ttl: float = 300
    authorization_webhook_cache_unauthorized_ttl: float = 30
    enable_admission_plugins: tuple[str, ...] = ()
    disable_admission_plugins: tuple[str, ...] = ()
    # the cluster
    service_cluster_ip_range: str = "10.96.0.0/16"
    service_node_port_range: str = "30000-32767"
    allow_privileged: bool = True
    default_not_ready_toleration_seconds: int = 300
    default_unreachable_toleration_seconds: int = 300
    # kubelets
    kubelet_client_certificate: str = ""
    kubelet_client_key: str = ""
    kubelet_certificate_authority: str = ""
    kubelet_preferred_address_types: tuple[str, ...] = (
        "Hostname",
        "InternalDNS",
        "InternalIP",
        "ExternalDNS",
        "ExternalIP",
    )
    proxy_client_cert_file: str = ""
    proxy_client_key_file: str = ""
    enable_aggregator_routing: bool = False
    resource_metrics: bool = True
    tracing_config_file: str = ""
    # audit
    audit_policy_file: str = ""
    audit_log_path: str = ""
    audit_log_format: str = "json"
    audit_log_maxage: int = 366
    audit_log_maxbackup: int = 100
    audit_log_maxsize: int = 100
    audit_log_compress: bool = False
    audit_log_version: str = "audit.k8s.io/v1"
    audit_log_mode: str = "blocking"
    audit_log_batch_buffer_size: int = 10000
    audit_log_batch_max_size: int = 1
    audit_log_batch_max_wait: float = 0
    audit_log_batch_throttle_enable: bool = False
    audit_log_batch_throttle_qps: float = 0.0
    audit_log_batch_throttle_burst: int = 0
    audit_log_truncate_enabled: bool = False
    audit_log_truncate_max_batch_size: int = 10 * 1024 * 1024
    audit_log_truncate_max_event_size: int = 100 * 1024
    audit_webhook_config_file: str = ""
    audit_webhook_initial_backoff: float = 10
    audit_webhook_version: str = "audit.k8s.io/v1"
    audit_webhook_mode: str = "batch"
    audit_webhook_batch_buffer_size: int = 10000
    audit_webhook_batch_max_size: int = 400
    audit_webhook_batch_max_wait: float = 30
    audit_webhook_batch_throttle_enable: bool = True
    audit_webhook_batch_throttle_qps: float = 10.0
    audit_webhook_batch_throttle_burst: int = 15
    audit_webhook_truncate_enabled: bool = False
    audit_webhook_truncate_max_batch_size: int = 10 * 1024 * 1024
    audit_webhook_truncate_max_event_size: int = 100 * 1024
    feature_gates: tuple[str, ...] = ()
    v: int = 0

    def validate(self) -> None:
        """:raises ValueError: what does not fit together, in one sentence."""
        if self.storage == "etcd" and not self.etcd_servers:
            raise ValueError("--etcd-servers must be specified")
        if self.storage == "sqlite" and not self.data_dir:
            raise ValueError("--storage=sqlite needs --data-dir")
        if bool(self.tls_cert_file) != bool(self.tls_private_key_file):
            raise ValueError(
                "--tls-cert-file and --tls-private-key-file must be specified together"
            )
        if not 0 <= self.secure_port <= 65535:
            raise ValueError("--secure-port must be between 0 and 65535, inclusive")
        if self.audit_log_path or self.audit_webhook_config_file:
            _validate_audit(self)


_AUDIT_MODES = ("batch", "blocking", "blocking-strict")


def _validate_audit(config: ServerConfig) -> None:
    """:raises ValueError: as ServerConfig.validate."""
    for plugin in ("log", "webhook"):
        enabled = config.audit_log_path if plugin == "log" else config.audit_webhook_config_file
        if not enabled:
            continue
        mode = getattr(config, f"audit_{plugin}_mode")
        if mode not in _AUDIT_MODES:
            raise ValueError(
                f'invalid audit {plugin} mode {mode}, allowed modes are "{",".join(_AUDIT_MODES)}"'
            )
        for name in ("buffer_size", "max_size"):
            value = getattr(config, f"audit_{plugin}_batch_{name}")
            if mode == "batch" and value <= 0:
                what = "buffer size" if name == "buffer_size" else "max batch size"
                raise ValueError(
                    f"invalid audit batch {plugin} {what} {value}, must be a positive number"
                )
        if getattr(config, f"audit_{plugin}_version") != "audit.k8s.io/v1":
            raise ValueError('invalid group version, allowed versions are ["audit.k8s.io/v1"]')
    if config.audit_log_path and config.audit_log_format not in ("legacy", "json"):
        raise ValueError(
            f'invalid audit log format {config.audit_log_format}, allowed formats are "legacy,json"'
        )
    for name in ("maxage", "maxbackup", "maxsize"):
        value = getattr(config, f"audit_log_{name}")
        if value < 0:
            raise ValueError(f"--audit-log-{name} {value} can't be a negative number")


_HELP = {
    "bind_address": "address to serve HTTPS on",
    "secure_port": "port to serve HTTPS on; 0 takes any free one",
    "client_ca_file": "CA of client certificates: common name is the user, organizations groups",
    "storage": "where objects live: memory, sqlite or etcd (default: etcd if --etcd-servers)",
    "data_dir": "folder of the SQLite store",
    "durability": "SQLite: normal survives a crash of the process, full one of the machine",
    "response_compression": "gzip answers over 128 KiB for clients that accept it",
    "event_ttl": "how long events are kept",
    "enable_aggregator_routing": "reach webhooks' Services at their endpoints, not their address",
    "resource_metrics": "serve metrics.k8s.io from the kubelets, as metrics-server does",
    "encryption_provider_config": "file that says which kinds are encrypted in the store, and how",
    "authorization_mode": "Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny; in this order",
    "authorization_config": "file with the chain of authorizers; instead of --authorization-mode",
    "authorization_policy_file": "policies, one JSON object a line, for mode ABAC",
    "authorization_webhook_config_file": "kubeconfig of the service that mode Webhook asks",
    "authentication_config": "file with the issuers of JWTs to trust; instead of --oidc-*",
    "authentication_token_webhook_config_file": "kubeconfig of the service that reviews tokens",
    "enable_bootstrap_token_auth": "Secrets of type bootstrap.kubernetes.io/token log nodes in",
    "oidc_issuer_url": "OpenID issuer whose tokens log people in; https only",
    "oidc_client_id": "the audience that its tokens must have",
}
DURATIONS = frozenset(
    (
        "min_request_timeout",
        "request_timeout",
        "shutdown_delay_duration",
        "etcd_compaction_interval",
        "event_ttl",
        "service_account_max_token_expiration",
        "authentication_token_webhook_cache_ttl",
        "authorization_webhook_cache_authorized_ttl",
        "authorization_webhook_cache_unauthorized_ttl",
        "audit_log_batch_max_wait",
        "audit_webhook_batch_max_wait",
        "audit_webhook_initial_backoff",
    )
)
_CHOICES = {
    "storage": ("memory", "sqlite", "etcd"),
    "durability": ("normal", "full"),
    "endpoint_reconciler_type": ("lease", "master-count", "none"),
}
_REPEATED = frozenset(("service_account_key_file", "service_account_issuer"))
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """``90``, ``1m30s``, ``1h``: seconds. :raises argparse.ArgumentTypeError: anything else."""
    try:
        return float(text)
    except ValueError:
        pass
    import re

    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise argparse.ArgumentTypeError(f"invalid duration {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _parse_bool(text: str) -> bool:
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise argparse.ArgumentTypeError(f"invalid boolean {text!r}")


def add_flags(parser: Any, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Adds a flag for each field of :class:`ServerConfig` whose name is ``wanted``; ``parser`` may
    be a group of one."""
    defaults = ServerConfig()
    for each in fields(ServerConfig):
        name = each.name
        if not wanted(name):
            continue
        flag = f"--{name.replace('_', '-')}"
        default = getattr(defaults, name)
        options: dict[str, Any] = {"dest": name, "default": None, "help": _HELP.get(name)}
        if name == "v":
            parser.add_argument("-v", "--v", dest="v", type=int, default=None)
        elif isinstance(default, bool):
            parser.add_argument(flag, nargs="?", const=True, type=_parse_bool, **options)
        elif name in DURATIONS:
            parser.add_argument(flag, type=parse_duration, metavar="DURATION", **options)
        elif isinstance(default, float):
            parser.add_argument(flag, type=float, **options)
        elif isinstance(default, int):
            parser.add_argument(flag, type=int, **options)
        elif isinstance(default, tuple):
            parser.add_argument(flag, action="append", metavar="LIST", **options)
        elif name in _CHOICES:
            parser.add_argument(flag, choices=_CHOICES[name], **options)
        else:
            parser.add_argument(flag, **options)


def given_in(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags of ``add_flags`` set, by field."""
    given: dict[str, Any] = {}
    for each in fields(ServerConfig):
        value = getattr(args, each.name, None)
        if value is None:
            continue
        if isinstance(value, list):
            if each.name in _REPEATED:
                value = tuple(value)
            else:
                value = tuple(p.strip() for text in value for p in text.split(",") if p.strip())
        given[each.name] = value
    return given


def from_args(args: argparse.Namespace) -> ServerConfig:
    """The configuration that the flags of ``add_flags`` give.

    :raises ValueError: flags that do not fit together.
    """
    given = given_in(args)
    if "storage" not in given:
        given["storage"] = "etcd" if given.get("etcd_servers") else "sqlite"
    if given.get("authorization_config") and any(
        name == "authorization_mode" or name.startswith("authorization_webhook_") for name in given
    ):
        raise ValueError(
            "--authorization-config can not be specified when --authorization-mode or "
            "--authorization-webhook-* flags are defined"
        )
    config = ServerConfig(**given)
    config.validate()
    if config.anonymous_auth and "AlwaysAllow" in config.authorization_mode:
        log.warning(
            "AnonymousAuth is not allowed with the AlwaysAllow authorizer. Resetting AnonymousAuth "
            "to false. You should use a different authorizer"
        )
        config.anonymous_auth = False
    return config
