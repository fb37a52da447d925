"""The images of one machine, shared by its nodes and by ``pilothouse image``.

    index.json            image id -> record, name -> image id; changed under index.lock
    blobs/sha256/<hex>    image configs
    layers/<hex>/         an unpacked layer by diff id: fs/ and layer.json (whiteouts, size)
    incoming/             downloads and half-unpacked layers
    leases/<owner>        layers that a container uses, whatever happens to its image

Blocking and safe across processes and threads: one flock for changes of the index, renames for
everything else. ``kubelet/images/service.py`` is the async side.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any

from pilothouse.kubelet.images import reference
from pilothouse.kubelet.images.reference import is_digest, is_image_id
from pilothouse.kubelet.images.unpack import DamagedLayer, Unpacked, merge, unpack_layer
from pilothouse.kubelet.runtime.interfaces import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

YOUNG = 3600.0
"""Seconds for which an unreferenced layer may belong to a pull that has not ended."""


@dataclass(slots=True)
class ImageRecord:
    """``layers`` are diff ids, lowest first; ``size`` counts config and (compressed) layers."""

    id: str
    layers: list[str]
    size: int
    pinned: bool = False
    source: str = ""
    names: list[str] = field(default_factory=list)


class ImageStore:
    def __init__(self, directory: str, *, keep_owner: bool | None = None) -> None:
        """``keep_owner`` None: only root can give files away (and not in a user namespace)."""
        self.directory = directory
        self.keep_owner = _can_chown() if keep_owner is None else keep_owner
        self._cached: tuple[tuple[int, int], dict[str, ImageRecord]] | None = None
        # Images have setuid programs; on this machine nobody may start them (CVE-2021-41103).
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for part in ("blobs/sha256", "layers", "incoming", "leases"):
            os.makedirs(os.path.join(directory, part), exist_ok=True)

    # --- asking

    def find(self, text: str) -> ImageRecord | None:
        """By image id (with or without ``sha256:``), name, or name with digest."""
        records = self._read()
        if is_image_id(text):
            return records.get(text if text.startswith("sha256:") else f"sha256:{text}")
        try:
            ref = reference.parse(text)
        except reference.InvalidReference:
            return None
        wanted = ref.by_digest or ref.tagged
        return next((r for r in records.values() if wanted in r.names), None)

    def records(self) -> list[ImageRecord]:
        return list(self._read().values())

    def image(self, record: ImageRecord) -> Image:
        """The record in the kubelet's terms."""
        config = self.config(record.id).get("config") or {}
        return Image(
            id=record.id,
            repo_tags=tuple(name for name in record.names if "@" not in name),
            repo_digests=tuple(name for name in record.names if "@" in name),
            size=record.size,
            user=str(config.get("User") or ""),
            # What came from no registry can't be had again.
            pinned=record.pinned or record.source not in ("", "registry"),
        )

    def config(self, image_id: str) -> dict[str, Any]:
        """The image's config document. :raises KeyError: no such image."""
        try:
            with open(self.blob_path(image_id), "rb") as file:
                loaded: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            raise KeyError(image_id) from None
        return loaded

    def layer_paths(self, record: ImageRecord) -> list[str]:
        """The unpacked layers, lowest first."""
        return [os.path.join(self.layer_path(layer), "fs") for layer in record.layers]

    def has_layer(self, diff_id: str) -> bool:
        return os.path.isdir(self.layer_path(diff_id))

    def layer_path(self, diff_id: str) -> str:
        return os.path.join(self.directory, "layers", _hex(diff_id))

    def blob_path(self, digest: str) -> str:
        return os.path.join(self.directory, "blobs", "sha256", _hex(digest))

    def incoming_path(self, digest: str) -> str:
        return os.path.join(self.directory, "incoming", _hex(digest))

    # --- changing

    def claim(self, diff_id: str) -> IO[bytes]:
        """Waits until no other process downloads this layer; close the file to let it go."""
        path = os.path.join(self.directory, "incoming", f"{_hex(diff_id)}.lock")
        file = open(path, "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

    def add_layer(self, source: IO[bytes], diff_id: str) -> None:
        """Unpacks a layer; nothing to do when it is there.

        :raises DamagedLayer: its content is not what ``diff_id`` promises.
        """
        if self.has_layer(diff_id):
            return
        temporary = tempfile.mkdtemp(prefix="layer-", dir=os.path.join(self.directory, "incoming"))
        try:
            root = os.path.join(temporary, "fs")
            os.mkdir(root, 0o755)
            unpacked = unpack_layer(source, root, keep_owner=self.keep_owner)
            if unpacked.diff_id != diff_id:
                raise DamagedLayer(f"layer {diff_id} has the content of {unpacked.diff_id}")
            with open(os.path.join(temporary, "layer.json"), "w", encoding="utf-8") as file:
                json.dump(asdict(unpacked), file)
            os.chmod(temporary, 0o755)
            with contextlib.suppress(OSError):  # another process was quicker
                os.rename(temporary, self.layer_path(diff_id))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def add_image(
        self,
        config: bytes,
        *,
        size: int,
        names: tuple[str, ...],
        pinned: bool = False,
        source: str = "",
    ) -> str:
        """Registers an image whose layers are all unpacked; ``names`` move to it. Its id.

        :raises DamagedLayer: the config is no image config, or a layer is missing.
        """
        image_id = f"sha256:{hashlib.sha256(config).hexdigest()}"
        layers = diff_ids(config)
        self._write_blob(image_id, config)
        with self._changing() as records:
            for layer in layers:
                if not self.has_layer(layer):
                    raise DamagedLayer(f"layer {layer} of image {image_id} is missing")
            record = records.get(image_id) or ImageRecord(image_id, layers, size)
            record.pinned = record.pinned or pinned
            record.source = source or record.source
            _take_names(records, names)
            record.names += names
            records[image_id] = record
        return image_id

    def remove(self, text: str) -> bool:
        """Removes a name; the image goes with its last name, or at once when named by its id."""
        with self._changing() as records:
            record = self._find_in(records, text)
            if record is None:
                return False
            if not is_image_id(text):
                ref = reference.parse(text)
                record.names.remove(ref.by_digest or ref.tagged)
                if any("@" not in name for name in record.names):
                    return True
            del records[record.id]
            self._sweep(records, {record.id, *record.layers})
        return True

    def collect_garbage(self) -> int:
        """Deletes layers and configs that no image, container or pull under way uses; how many."""
        with self._changing() as records:
            return self._sweep(records, set())

    def lease(self, owner: str, layers: list[str], directory: str = "") -> None:
        """``layers`` stay as long as ``owner`` (a container id) has not released them.

        With a ``directory`` of the owner's, the lease ends when that is gone, too.
        """
        with open(os.path.join(self.directory, "leases", owner), "w", encoding="utf-8") as file:
            json.dump({"layers": layers, "directory": directory}, file)

    def release(self, owner: str) -> None:
        """Missing is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.directory, "leases", owner))

    def leases(self) -> dict[str, list[str]]:
        """Owner -> layers; what a crash left over is removed."""
        found = {}
        for owner in os.listdir(os.path.join(self.directory, "leases")):
            try:
                path = os.path.join(self.directory, "leases", owner)
                with open(path, encoding="utf-8") as file:
                    lease = json.load(file)
            except (FileNotFoundError, ValueError):
                continue
            if lease["directory"] and not os.path.isdir(lease["directory"]):
                self.release(owner)
            else:
                found[owner] = lease["layers"]
        return found

    def _sweep(self, records: dict[str, ImageRecord], dropped: set[str]) -> int:
        """Unused young layers may belong to a pull under way; ``dropped`` ones surely don't."""
        used = {layer for record in records.values() for layer in record.layers}
        used.update(layer for layers in self.leases().values() for layer in layers)
        configs = {_hex(record.id) for record in records.values()}
        now = os.stat(os.path.join(self.directory, "index.lock")).st_mtime
        gone = 0
        for part, keep in (("layers", {_hex(layer) for layer in used}), ("blobs/sha256", configs)):
            folder = os.path.join(self.directory, part)
            for entry in set(os.listdir(folder)) - keep:
                path = os.path.join(folder, entry)
                if f"sha256:{entry}" in dropped or os.stat(path).st_mtime < now - YOUNG:
                    _delete(path)
                    gone += 1
        return gone

    def merge_into(self, record: ImageRecord, target: str) -> None:
        """A copy of the image's whole filesystem in ``target``, for runtimes without overlayfs."""
        layers = []
        for layer in record.layers:
            with open(os.path.join(self.layer_path(layer), "layer.json"), encoding="utf-8") as file:
                facts = Unpacked(**json.load(file))
            layers.append((os.path.join(self.layer_path(layer), "fs"), facts))
        merge(layers, target)

    # --- the index

    def _find_in(self, records: dict[str, ImageRecord], text: str) -> ImageRecord | None:
        found = self.find(text)
        return records.get(found.id) if found else None

    def _index(self) -> str:
        return os.path.join(self.directory, "index.json")

    def _read(self) -> dict[str, ImageRecord]:
        try:
            state = os.stat(self._index())
        except FileNotFoundError:
            return {}
        stamp = (state.st_mtime_ns, state.st_ino)
        if self._cached is None or self._cached[0] != stamp:
            self._cached = (stamp, self._load())
        return self._cached[1]

    def _load(self) -> dict[str, ImageRecord]:
        try:
            with open(self._index(), encoding="utf-8") as file:
                return {key: ImageRecord(**value) for key, value in json.load(file).items()}
        except FileNotFoundError:
            return {}
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            raise DamagedLayer(
                f"the image store {self.directory} is damaged ({error}): remove the directory; "
                "images are pulled or imported again"
            ) from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, ImageRecord]]:
        """The records, to be changed in place; written when the block ends well."""
        with open(os.path.join(self.directory, "index.lock"), "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = self._load()
            yield records
            temporary = f"{self._index()}.tmp"
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump({key: asdict(record) for key, record in records.items()}, file)
            os.replace(temporary, self._index())

    def _write_blob(self, digest: str, content: bytes) -> None:
        path = self.blob_path(digest)
        if not os.path.exists(path):
            handle, temporary = tempfile.mkstemp(dir=os.path.join(self.directory, "incoming"))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)


def _delete(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


def diff_ids(config: bytes) -> list[str]:
    """The layers that an image config names. :raises DamagedLayer: it isn't an image config."""
    try:
        layers = json.loads(config)["rootfs"]["diff_ids"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedLayer("not an image config: it has no rootfs.diff_ids") from error
    if not isinstance(layers, list) or not all(isinstance(x, str) and is_digest(x) for x in layers):
        raise DamagedLayer("not an image config: diff_ids are no sha256 digests")
    return layers


def _take_names(records: dict[str, ImageRecord], names: tuple[str, ...]) -> None:
    for record in records.values():
        record.names = [name for name in record.names if name not in names]


def _hex(digest: str) -> str:
    if not is_digest(digest):
        raise DamagedLayer(f"unsupported digest {digest!r}")
    return digest.removeprefix("sha256:")


def _can_chown() -> bool:
    """Root that may give files to any user: not so where the user namespace maps only itself."""
    if os.geteuid() != 0:
        return False
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return sum(int(line.split()[2]) for line in file) > 65535
    except (OSError, IndexError, ValueError):
        return True
