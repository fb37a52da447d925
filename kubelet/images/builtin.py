"""The images that are there from the start: busybox from the machine's static binary, and pause.

So the README's first commands work without a registry. Made once per store (and again when the
machine's busybox changes); about 50 ms.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

from pilothouse.kubelet.images.layout import machine_architecture
from pilothouse.kubelet.images.pause_binary import pause_binary

if TYPE_CHECKING:
    from pilothouse.kubelet.images.store import ImageStore

BUSYBOX_NAME = "docker.io/library/busybox:latest"
PAUSE_NAME = "registry.k8s.io/pause:3.10.2"

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "bin:x:2:2:bin:/bin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
    "nobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/hostname": "",
    "etc/hosts": "",
    "etc/resolv.conf": "",
}
_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700,
    "sbin": 0o755, "sys": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755,
    "usr/sbin": 0o755, "var": 0o755, "var/spool": 0o755, "var/tmp": 0o1777, "var/www": 0o755,
}  # fmt: skip


class NoBusybox(Exception):
    """There is no statically linked busybox; the message says what to install."""


def find_busybox() -> str:
    """:raises NoBusybox: none found, or it needs shared libraries."""
    found = shutil.which("busybox", path="/bin:/usr/bin:/usr/local/bin:/sbin")
    if found is None:
        raise NoBusybox("no busybox here: install the package busybox-static for the image busybox")
    with open(found, "rb") as file:
        head = file.read(4096)
    if b"/ld-linux" in head or b"/lib/ld-" in head or b"/lib64/ld-" in head:
        raise NoBusybox(f"{found} is not static: install the package busybox-static")
    return os.path.realpath(found)


def ensure_builtin_images(store: ImageStore) -> list[str]:
    """Makes what is missing; the names that are there now. Blocking.

    :raises NoBusybox: when the machine has none (pause is made all the same).
    """
    names = []
    if machine_architecture() == "amd64":
        names.append(PAUSE_NAME)
        if store.find(PAUSE_NAME) is None:
            entries = [("pause", pause_binary(), 0o755)]
            config = {"Entrypoint": ["/pause"], "User": "65535:65535"}
            _register(store, _layer(entries, {}, []), config, PAUSE_NAME, "builtin")
    path = find_busybox()
    state = os.stat(path)
    source = f"busybox:{state.st_size}:{state.st_mtime_ns}"
    record = store.find(BUSYBOX_NAME)
    names.append(BUSYBOX_NAME)
    # Someone's own import under this name stays.
    if record is None or (record.source.startswith("busybox:") and record.source != source):
        config = {"Cmd": ["sh"]}
        _register(store, _busybox_layer(path), config, BUSYBOX_NAME, source)
    return names


def _busybox_layer(path: str) -> bytes:
    listing = subprocess.run([path, "--list"], capture_output=True, text=True, check=True)
    applets = [name for name in listing.stdout.split() if name != "busybox" and "/" not in name]
    with open(path, "rb") as file:
        binary = file.read()
    files = [("bin/busybox", binary, 0o755)]
    files += [(name, text.encode(), 0o644) for name, text in _FILES.items()]
    links = [(f"bin/{applet}", "bin/busybox") for applet in applets]
    return _layer(files, _DIRECTORIES, [*links, ("usr/bin/env", "bin/busybox")])


def _layer(
    files: list[tuple[str, bytes, int]],
    directories: dict[str, int],
    links: list[tuple[str, str]],
) -> bytes:
    """A tar with fixed owners and times, so that the same input gives the same image id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, mode in directories.items():
            archive.addfile(_member(name, tarfile.DIRTYPE, mode))
        for name, content, mode in files:
            member = _member(name, tarfile.REGTYPE, mode)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = _member(name, tarfile.LNKTYPE, 0o755)
            member.linkname = target
            archive.addfile(member)
    return buffer.getvalue()


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, 0
    return member


def _register(store: ImageStore, layer: bytes, run: dict[str, Any], name: str, source: str) -> None:
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    store.add_layer(io.BytesIO(layer), diff_id)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = {
        "architecture": machine_architecture(),
        "os": "linux",
        "config": {"Env": [path], **run},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "pilothouse"}],
    }
    document = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    store.add_image(
        document, size=len(layer) + len(document), names=(name,), pinned=True, source=source
    )
