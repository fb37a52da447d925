"""Kubeconfig files: read as client-go does, changed as kind does.

:func:`client_config` makes the :class:`ClientConfig` that ``kubeclient.https`` connects with;
:func:`merge_context` and :func:`remove_context` add and drop one cluster's entries and touch
nothing else: under client-go's lock file, written whole to a new file of mode 0600 that then
takes the old one's place. YAML is imported only when a file is no JSON.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENT_VARIABLE = "KUBECONFIG"
SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOCK_TIMEOUT = 5.0
_LOCK_RETRY = 0.05
_LISTS = ("clusters", "contexts", "users")


class KubeconfigError(Exception):
    """A kubeconfig that can't be read, used or changed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How to reach an API server and as whom (client-go's rest.Config). PEM data is inline."""

    server: str
    ca_data: bytes = b""
    client_certificate_data: bytes = b""
    client_key_data: bytes = b""
    token: str = ""
    token_file: str = ""
    """Read again every minute: bound service account tokens are renewed in place."""
    username: str = ""
    password: str = ""
    insecure: bool = False
    tls_server_name: str = ""
    namespace: str = ""
    user_agent: str = "pilothouse/v1.37.2"
    impersonate: str = ""
    impersonate_groups: tuple[str, ...] = ()
    timeout: float = 32.0
    """Seconds for one request that is not a watch."""


def search_paths(explicit: str = "", environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The files that make up the user's kubeconfig, the first having precedence."""
    if explicit:
        return [Path(explicit)]
    listed = [p for p in environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if p]
    if listed:
        return [Path(p) for p in dict.fromkeys(listed)]
    return [Path(environ.get("HOME") or Path.home()) / ".kube" / "config"]


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The file that a new context goes to: of several the first that exists, else the last."""
    paths = search_paths("", environ)
    return next((p for p in paths if p.exists()), paths[-1])


def load(path: Path) -> dict[str, Any]:
    """The file's content; an empty config when there is no file.

    :raises KubeconfigError: it can't be read or is no kubeconfig.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return _empty()
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(f"can't read the kubeconfig {path}: {error}") from error
    config = _parse(text, path)
    if config is None:
        return _empty()
    if not isinstance(config, dict):
        raise KubeconfigError(f"{path} is no kubeconfig: repair it or move it away")
    for field in _LISTS:
        if config.get(field) is None:
            config[field] = []
        elif not isinstance(config[field], list):
            raise KubeconfigError(f"{path} is no kubeconfig: {field} is not a list")
    return config


def load_merged(explicit: str = "", environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """All files as one; the first to name a thing wins. Relative file names are made absolute."""
    merged = _empty()
    for path in search_paths(explicit, environ):
        config = load(path)
        _resolve_files(config, path.absolute().parent)
        merged["current-context"] = merged["current-context"] or config.get("current-context", "")
        for field in _LISTS:
            known = {entry["name"] for entry in merged[field]}
            merged[field] += [e for e in config[field] if e.get("name") not in known]
    return merged


def client_config(config: Mapping[str, Any], context: str = "") -> ClientConfig:
    """What the context (default: the current one) says.

    :raises KubeconfigError: it, its cluster or its user is not there.
    """
    name = context or config.get("current-context") or ""
    if not name:
        raise KubeconfigError("the kubeconfig has no current context: name one")
    chosen = _entry(config, "contexts", name, "context")
    cluster = _entry(config, "clusters", chosen.get("cluster", ""), "cluster")
    user_name = chosen.get("user", "")
    user = _entry(config, "users", user_name, "user") if user_name else {}
    if "exec" in user:
        raise KubeconfigError(f"user {user_name!r} has an exec plugin, which is not supported")
    return ClientConfig(
        server=cluster.get("server", "").rstrip("/"),
        ca_data=_data(cluster, "certificate-authority"),
        client_certificate_data=_data(user, "client-certificate"),
        client_key_data=_data(user, "client-key"),
        token=user.get("token", ""),
        token_file=user.get("tokenFile", ""),
        username=user.get("username", ""),
        password=user.get("password", ""),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name", ""),
        namespace=chosen.get("namespace", ""),
        impersonate=user.get("as", ""),
        impersonate_groups=tuple(user.get("as-groups") or ()),
    )


def in_cluster_config(
    environ: Mapping[str, str] = os.environ, directory: Path = SERVICE_ACCOUNT_DIRECTORY
) -> ClientConfig:
    """The config of a process in a pod. :raises KubeconfigError: this is no pod."""
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise KubeconfigError(
            "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and "
            "KUBERNETES_SERVICE_PORT must be defined"
        )
    try:
        namespace = (directory / "namespace").read_text().strip()
    except FileNotFoundError:
        namespace = ""
    if ":" in host:
        host = f"[{host}]"
    return ClientConfig(
        server=f"https://{host}:{port}",
        ca_data=(directory / "ca.crt").read_bytes(),
        token_file=str(directory / "token"),
        namespace=namespace,
    )


def make(
    name: str,
    server: str,
    *,
    ca_data: bytes,
    client_certificate_data: bytes = b"",
    client_key_data: bytes = b"",
    token: str = "",
) -> dict[str, Any]:
    """A kubeconfig with one cluster, one user and one context, all called ``name``."""
    user: dict[str, Any] = {}
    if client_certificate_data:
        user["client-certificate-data"] = base64.b64encode(client_certificate_data).decode()
        user["client-key-data"] = base64.b64encode(client_key_data).decode()
    if token:
        user["token"] = token
    cluster = {
        "certificate-authority-data": base64.b64encode(ca_data).decode(),
        "server": server,
    }
    return _empty() | {
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": user}],
        "current-context": name,
    }


def write(path: Path, config: Mapping[str, Any]) -> None:
    """Replaces the file at once, mode 0600. As JSON, which every YAML reader takes."""
    _replace_file(path, json.dumps(config, indent=2) + "\n")


def merge_context(path: Path, addition: Mapping[str, Any]) -> None:
    """Adds the entries of ``addition`` (see :func:`make`), replacing those of the same names,
    and makes its context the current one. All else in the file stays as it is.

    :raises KubeconfigError: the file is damaged (it is left alone) or locked for too long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        config = load(path)
        for field in _LISTS:
            added = {entry["name"]: entry for entry in addition.get(field) or ()}
            kept = [added.pop(e.get("name"), e) for e in config[field] if isinstance(e, dict)]
            config[field] = kept + list(added.values())
        config["current-context"] = addition.get("current-context") or config.get(
            "current-context", ""
        )
        _replace_file(path, _dump(config))


def remove_context(path: Path, name: str) -> bool:
    """Drops the context, cluster and user called ``name``; False when there were none."""
    if not path.exists():
        return False
    with _locked(path):
        config = load(path)
        changed = config.get("current-context") == name
        if changed:
            config["current-context"] = ""
        for field in _LISTS:
            kept = [e for e in config[field] if not isinstance(e, dict) or e.get("name") != name]
            changed = changed or len(kept) != len(config[field])
            config[field] = kept
        if changed:
            _replace_file(path, _dump(config))
        return changed


def _empty() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [],
        "contexts": [],
        "users": [],
        "current-context": "",
    }


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise KubeconfigError(
                f"the kubeconfig {path} is damaged: {error}; repair it or move it away"
            ) from error


def _dump(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(config), sort_keys=False, default_flow_style=False)


def _entry(config: Mapping[str, Any], field: str, name: str, what: str) -> dict[str, Any]:
    for entry in config.get(field) or ():
        if entry.get("name") == name:
            return entry.get(what) or {}
    raise KubeconfigError(f"{what} {name!r} does not exist in the kubeconfig")


def _data(entry: Mapping[str, Any], field: str) -> bytes:
    inline = entry.get(f"{field}-data")
    if inline:
        try:
            return base64.b64decode(inline)
        except ValueError as error:
            raise KubeconfigError(f"{field}-data is no base64") from error
    if not entry.get(field):
        return b""
    try:
        return Path(entry[field]).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"can't read {field} {entry[field]}: {error}") from error


def _resolve_files(config: dict[str, Any], directory: Path) -> None:
    for field, what in (("clusters", "cluster"), ("users", "user")):
        for entry in config[field]:
            content = entry.get(what) or {}
            for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
                if content.get(key):
                    content[key] = str(directory / content[key])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds ``<file>.lock``, which kubectl and kind honour too."""
    lock = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                raise KubeconfigError(
                    f"{lock} exists: another program changes the kubeconfig; "
                    "if none does, remove that file"
                ) from None
            time.sleep(_LOCK_RETRY)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _replace_file(path: Path, text: str) -> None:
    target = path.resolve()  # a linked kubeconfig stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:  # mkstemp made it with mode 0600
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
