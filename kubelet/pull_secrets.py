"""Registry credentials of a pod: imagePullSecrets of type dockerconfigjson and dockercfg."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
from collections.abc import Iterable, Sequence

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.kubeclient.interfaces import Client
from pilothouse.kubeclient.resources import SECRETS
from pilothouse.kubelet.image_manager import Credentials
from pilothouse.kubelet.runtime.interfaces import PullAuth


async def load_pull_secrets(client: Client, pod: Obj) -> tuple[Credentials, list[str]]:
    """(credentials by image reference, names of secrets that could not be read)."""
    entries: list[tuple[str, PullAuth]] = []
    missing: list[str] = []
    namespace = pod["metadata"].get("namespace") or ""
    for reference in pod["spec"].get("imagePullSecrets") or ():
        name = reference.get("name") or ""
        try:
            secret = await client.get(SECRETS, name, namespace)
        except StatusError:
            missing.append(name)
            continue
        entries.extend(docker_auths(secret))
    return (lambda image: matching(entries, image)), missing


def docker_auths(secret: Obj) -> list[tuple[str, PullAuth]]:
    """(registry pattern, credentials) in a Secret; a damaged one has none."""
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            auths = json.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        elif ".dockercfg" in data:
            auths = json.loads(base64.b64decode(data[".dockercfg"]))
        else:
            return []
        return [(registry, _auth(entry)) for registry, entry in auths.items()]
    except (ValueError, AttributeError, TypeError, binascii.Error):
        return []


def _auth(entry: Obj) -> PullAuth:
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        decoded = base64.b64decode(entry["auth"]).decode()
        username, _, password = decoded.partition(":")
    return PullAuth(username, password, identity_token=entry.get("identitytoken") or "")


def matching(entries: Iterable[tuple[str, PullAuth]], image: str) -> Sequence[PullAuth]:
    """Credentials whose registry (and path prefix) fits the image, the longest match first."""
    target = _normalized_image(image)
    found = []
    for pattern, auth in entries:
        registry = pattern.removeprefix("https://").removeprefix("http://").rstrip("/")
        for suffix in ("/v1", "/v2"):
            registry = registry.removesuffix(suffix)
        host, _, path = registry.partition("/")
        target_host, _, target_path = target.partition("/")
        if host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
            host = "docker.io"
        if fnmatch.fnmatchcase(target_host, host) and target_path.startswith(path):
            found.append((len(registry), auth))
    return [auth for _, auth in sorted(found, key=lambda f: -f[0])]


def _normalized_image(image: str) -> str:
    first, slash, _ = image.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return f"docker.io/{image}"
    return image.replace("index.docker.io/", "docker.io/", 1)
